//! GetSessionToken and GetFederationToken: sessions that a user or the root user has of itself.

use aws_wire::{ApiError, Caller, Principal, Session};
use control::Permission;
use control::iam::session::Holder;
use sts_api as api;

use crate::Identity;
use crate::assume_role::render;
use crate::errors::Refusal;
use crate::factor;
use crate::passed::{Passed, end};

const DEFAULT_S: u32 = 43_200;
/// Of the root user's sessions, whatever it asks for.
const ROOT_S_MAX: i32 = 3_600;

/// Needs no permission: who has a lasting key may have one that ends.
pub(crate) async fn session(
    identity: &Identity,
    caller: &Caller,
    input: &api::GetSessionTokenRequest,
) -> Result<api::GetSessionTokenResponse, ApiError> {
    identity.control.let_through(caller, &Permission::to("sts:GetSessionToken").on("*"))?;
    let (holder, asked_s) = holder(caller, input.duration_seconds, "GetSessionToken")?;
    let (serial, code) = (input.serial_number.as_deref(), input.token_code.as_deref());
    let has_code = factor::taken(identity, caller, serial, code).await?;
    let session = Session {
        issued_at: caller.now,
        expires: end(caller.now, asked_s, DEFAULT_S),
        mfa_at: has_code.then_some(caller.now),
        ..Session::default()
    };
    let control = &identity.control;
    let issued =
        control.access.sessions.issue(control.ids.as_ref(), caller.account, holder, session);
    Ok(api::GetSessionTokenResponse {
        credentials: Some(render(issued)),
        ..api::GetSessionTokenResponse::default()
    })
}

pub(crate) fn federation(
    identity: &Identity,
    caller: &Caller,
    input: api::GetFederationTokenRequest,
) -> Result<api::GetFederationTokenResponse, ApiError> {
    let (account, control) = (caller.account, &identity.control);
    let name = input.name.unwrap_or_default();
    let arn = format!("arn:aws:sts::{account}:federated-user/{name}");
    let view = control.view();
    let passed = Passed::read(&view, account, input.policy, input.policy_arns, input.tags)?;
    let mut permission = Permission::to("sts:GetFederationToken").on(&arn).tagging(&passed.tags);
    if !passed.tags.is_empty() {
        permission =
            permission.and(Permission::to("sts:TagSession").on(&arn).tagging(&passed.tags));
    }
    control.authorize(&view, caller, &permission)?;
    let (holder, asked_s) = holder(caller, input.duration_seconds, "GetFederationToken")?;
    let packed_policy_size = passed.packed_size()?;
    let user = match holder {
        Holder::User { id } => Some(id),
        Holder::Root | Holder::Role { .. } | Holder::Federated { .. } => None,
    };
    let session = Session {
        issued_at: caller.now,
        expires: end(caller.now, asked_s, DEFAULT_S),
        policy: passed.policy,
        policy_arns: passed.policy_arns,
        tags: passed.tags,
        ..Session::default()
    };
    let holder = Holder::Federated { name: name.clone(), user };
    let issued = control.access.sessions.issue(control.ids.as_ref(), account, holder, session);
    Ok(api::GetFederationTokenResponse {
        credentials: Some(render(issued)),
        federated_user: Some(api::FederatedUser {
            federated_user_id: Some(format!("{account}:{name}")),
            arn: Some(arn),
        }),
        packed_policy_size,
        ..api::GetFederationTokenResponse::default()
    })
}

/// Whose session it is to be, and how long it is to last.
fn holder(
    caller: &Caller,
    asked_s: Option<i32>,
    operation: &str,
) -> Result<(Holder, Option<i32>), ApiError> {
    let refused = || Refusal::SessionKeysFor(operation.to_owned()).wire();
    if caller.session.is_some() {
        return Err(refused());
    }
    match &caller.principal {
        Principal::Root => {
            let asked_s = asked_s.unwrap_or(ROOT_S_MAX).min(ROOT_S_MAX);
            Ok((Holder::Root, Some(asked_s)))
        }
        Principal::User { id, .. } => Ok((Holder::User { id: id.to_string() }, asked_s)),
        Principal::Role { .. }
        | Principal::Federated { .. }
        | Principal::Node { .. }
        | Principal::Anonymous => Err(refused()),
    }
}
