//! GetAuthorizationToken: a password for `docker login` that acts as whoever asked for it.

use aws_wire::{ApiError, Caller};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::Permission;
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
    // Of whatever account: policies decide what it opens there.
    let data = accounts.into_iter().map(|account| {
        let (password, expires) = ecr.registry.authorizer().password(caller, account);
        AuthorizationData {
            authorization_token: Some(STANDARD.encode(format!("{USER}:{password}"))),
            expires_at: Some(expires),
            proxy_endpoint: Some(ecr.control.endpoint()),
        }
    });
    Ok(GetAuthorizationTokenResponse { authorization_data: Some(data.collect()) })
}
