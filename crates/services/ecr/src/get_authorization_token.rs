//! GetAuthorizationToken: a password for `docker login` that says itself whose it is.

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

/// As long as ECR's.
const TOKEN_MS: u64 = 12 * 3600 * 1000;
/// How many registries may be named.
const REGISTRIES_MAX: usize = 10;

pub(super) async fn get_authorization_token(
    ecr: &Ecr,
    caller: &Caller,
    input: GetAuthorizationTokenRequest,
) -> Result<GetAuthorizationTokenResponse, ApiError> {
    ecr.control.read(caller, &permission(ecr, caller))?;
    let accounts = match input.registry_ids.filter(|ids| !ids.is_empty()) {
        None => vec![caller.account],
        Some(ids) if ids.len() > REGISTRIES_MAX => return Err(bad_registry()),
        Some(ids) => ids
            .iter()
            .map(|id| id.parse().map_err(|_| bad_registry()))
            .collect::<Result<Vec<AccountId>, _>>()?,
    };
    let expires = caller.now.plus_ms(TOKEN_MS);
    let data = accounts.into_iter().map(|account| {
        may_enter(caller, account)?;
        let password = ecr.registry.authorizer().key().password(account, expires);
        Ok(AuthorizationData {
            authorization_token: Some(STANDARD.encode(format!("{USER}:{password}"))),
            expires_at: Some(expires),
            proxy_endpoint: Some(format!("http://{}", ecr.control.registry_host())),
        })
    });
    let authorization_data = data.collect::<Result<_, ApiError>>()?;
    Ok(GetAuthorizationTokenResponse { authorization_data: Some(authorization_data) })
}

/// A password does not say whose it is within its account: it opens all repositories, for pulls and pushes.
/// So of those whom policies limit only who may do that anyway gets one.
fn permission(ecr: &Ecr, caller: &Caller) -> Permission {
    let enter = Permission::to("ecr:GetAuthorizationToken").on("*");
    let is_limited = match &caller.principal {
        Principal::User { .. } | Principal::Role { .. } | Principal::Federated { .. } => true,
        Principal::Root
        | Principal::Node { .. }
        | Principal::TaskExecution
        | Principal::Anonymous => false,
    };
    if !is_limited {
        return enter;
    }
    let (region, account) = (&ecr.control.config.region, caller.account);
    let all = format!("arn:aws:ecr:{region}:{account}:repository/*");
    ["ecr:BatchGetImage", "ecr:PutImage", "ecr:InitiateLayerUpload"]
        .into_iter()
        .fold(enter, |needed, action| needed.and(Permission::to(action).on(&all)))
}

/// A host runs tasks of any account and pulls their images; everyone else has their own registry.
fn may_enter(caller: &Caller, account: AccountId) -> Result<(), ApiError> {
    match caller.principal {
        Principal::Node { .. } => Ok(()),
        Principal::Root
        | Principal::TaskExecution
        | Principal::User { .. }
        | Principal::Role { .. }
        | Principal::Federated { .. }
        | Principal::Anonymous
            if account == caller.account =>
        {
            Ok(())
        }
        Principal::Root
        | Principal::TaskExecution
        | Principal::User { .. }
        | Principal::Role { .. }
        | Principal::Federated { .. }
        | Principal::Anonymous => {
            Err(not_authorized(&principal_arn(caller), "ecr:GetAuthorizationToken"))
        }
    }
}
