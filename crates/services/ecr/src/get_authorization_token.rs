//! GetAuthorizationToken: a password for `docker login` that acts as whoever asked for it.

use aws_wire::{ApiError, Caller, Principal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::Permission;
use control::access::principal_arn;
use control::errors::not_authorized;
use ecr_api::{AuthorizationData, GetAuthorizationTokenRequest, GetAuthorizationTokenResponse};
use longshore_types::AccountId;
use registry::USER;

use super::request::bad_registry;
use crate::Ecr;

/// How many registries may be named.
const REGISTRIES_MAX: usize = 10;

pub(super) async fn get_authorization_token(
    ecr: &Ecr,
    caller: &Caller,
    input: GetAuthorizationTokenRequest,
) -> Result<GetAuthorizationTokenResponse, ApiError> {
    ecr.control.read(caller, &Permission::to("ecr:GetAuthorizationToken").on("*"))?;
    let accounts = match input.registry_ids.filter(|ids| !ids.is_empty()) {
        None => vec![caller.account],
        Some(ids) if ids.len() > REGISTRIES_MAX => return Err(bad_registry()),
        Some(ids) => ids
            .iter()
            .map(|id| id.parse().map_err(|_| bad_registry()))
            .collect::<Result<Vec<AccountId>, _>>()?,
    };
    let data = accounts.into_iter().map(|account| {
        may_enter(caller, account)?;
        let (password, expires) = ecr.registry.authorizer().password(caller, account);
        Ok(AuthorizationData {
            authorization_token: Some(STANDARD.encode(format!("{USER}:{password}"))),
            expires_at: Some(expires),
            proxy_endpoint: Some(format!("http://{}", ecr.control.registry_host())),
        })
    });
    let authorization_data = data.collect::<Result<_, ApiError>>()?;
    Ok(GetAuthorizationTokenResponse { authorization_data: Some(authorization_data) })
}

/// Policies decide what a password opens, of whatever account the registry is: other accounts' repositories by
/// their own policies. Of keys that no policies speak of, a host's opens all registries, since it runs tasks of any
/// account, and a task's that of its account.
fn may_enter(caller: &Caller, account: AccountId) -> Result<(), ApiError> {
    match caller.principal {
        Principal::Node { .. }
        | Principal::Root
        | Principal::User { .. }
        | Principal::Role { .. }
        | Principal::Federated { .. } => Ok(()),
        Principal::TaskExecution | Principal::Anonymous if account == caller.account => Ok(()),
        Principal::TaskExecution | Principal::Anonymous => {
            Err(not_authorized(&principal_arn(caller), "ecr:GetAuthorizationToken"))
        }
    }
}
