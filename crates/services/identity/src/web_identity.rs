//! AssumeRoleWithWebIdentity: a role for whoever an identity provider vouches for. Nobody has signed the
//! request; the token is all that is believed.

use aws_wire::{ApiError, Caller, Session};
use control::iam::role_of;
use control::{Context, Permission};
use longshore_types::Chain;
use model::{IamOidcProvider, IamRole};
use policy::{Action, Policies, Request, ResourceKind, evaluate};
use sts_api as api;
use tracing::debug;

use crate::Identity;
use crate::assume_role::{check_arn, issue, render, render_user, within_role};
use crate::errors::Refusal;
use crate::jwt::Token;
use crate::passed::{Passed, end};

const DEFAULT_S: u32 = 3_600;
/// How far a provider's clock may be from ours.
const SKEW_S: f64 = 300.0;
const ACTION: &str = "sts:AssumeRoleWithWebIdentity";

pub(crate) async fn handle(
    identity: &Identity,
    caller: &Caller,
    input: api::AssumeRoleWithWebIdentityRequest,
) -> Result<api::AssumeRoleWithWebIdentityResponse, ApiError> {
    let text = input.web_identity_token.unwrap_or_default();
    let arn = input.role_arn.unwrap_or_default();
    check_arn(&arn)?;
    let token = Token::read(&text).ok_or_else(|| Refusal::NoToken.wire())?;
    let view = identity.control.view();
    // Whether there is the role is told to nobody without a good token.
    let account = arn.split(':').nth(4).and_then(|account| account.parse().ok());
    let url = token.claims.iss.strip_prefix("https://").unwrap_or_default();
    let provider = account.and_then(|account| view.iam_oidc_providers.get(account, &url.into()));
    let provider = provider.ok_or_else(|| {
        let issuer: String = token.claims.iss.chars().take(200).collect();
        Refusal::Issuer(issuer).wire()
    })?;
    check_claims(&token, provider, caller)?;
    check_signature(identity, &token, caller).await?;
    let role = role_of(&view, &arn).ok_or_else(refused)?;
    let session_name = input.role_session_name.unwrap_or_default();
    let audience = audience(&token, provider).unwrap_or_default().to_owned();
    check_trust(&token, provider, role, &session_name, &audience)?;
    let permission = Permission::to(ACTION).on(role.arn());
    identity.control.let_vouched_through(caller, &provider.arn(), &permission)?;
    let asked_s = input.duration_seconds;
    if let Some(asked) = asked_s {
        within_role(role, asked)?;
    }
    let passed = Passed::read(&view, role.account, input.policy, input.policy_arns, None)?;
    let packed_policy_size = passed.packed_size()?;
    let session = Session {
        issued_at: caller.now,
        expires: end(caller.now, asked_s, DEFAULT_S),
        policy: passed.policy,
        policy_arns: passed.policy_arns,
        provider: Some(provider.arn()),
        ..Session::default()
    };
    let issued = issue(identity, role, &session_name, session);
    Ok(api::AssumeRoleWithWebIdentityResponse {
        credentials: Some(render(issued)),
        subject_from_web_identity_token: Some(token.claims.sub.clone()),
        assumed_role_user: Some(render_user(role, &session_name)),
        packed_policy_size,
        provider: Some(provider.arn()),
        audience: Some(audience),
        ..api::AssumeRoleWithWebIdentityResponse::default()
    })
}

fn refused() -> ApiError {
    Refusal::WebIdentity.wire()
}

fn audience<'t>(token: &'t Token<'_>, provider: &IamOidcProvider) -> Option<&'t str> {
    let mut audiences = token.claims.audiences().into_iter();
    audiences.find(|audience| provider.client_ids.iter().any(|known| known == audience))
}

fn check_claims(
    token: &Token<'_>,
    provider: &IamOidcProvider,
    caller: &Caller,
) -> Result<(), ApiError> {
    if audience(token, provider).is_none() {
        return Err(Refusal::Audience.wire());
    }
    let claims = &token.claims;
    // Seconds since the epoch are far within what a double holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let now = caller.now.seconds() as f64;
    if claims.exp <= now {
        return Err(Refusal::Expired(now, claims.exp).wire());
    }
    if claims.nbf.is_some_and(|from| now + SKEW_S < from) {
        return Err(Refusal::NotYet.wire());
    }
    Ok(())
}

async fn check_signature(
    identity: &Identity,
    token: &Token<'_>,
    caller: &Caller,
) -> Result<(), ApiError> {
    let issuer = &token.claims.iss;
    let keys = identity.jwks.keys(issuer, token.header.kid.as_deref(), caller.now).await;
    let keys = keys.map_err(|why| {
        debug!(issuer, error = %Chain(&why), "no key of the identity provider");
        Refusal::NoKey.wire()
    })?;
    match keys.iter().any(|key| token.is_signed_by(key)) {
        true => Ok(()),
        false => Err(Refusal::Signature.wire()),
    }
}

fn check_trust(
    token: &Token<'_>,
    provider: &IamOidcProvider,
    role: &IamRole,
    session_name: &str,
    audience: &str,
) -> Result<(), ApiError> {
    let unreadable = |error| ApiError::fault("failed to read an action's name", error);
    let action: Action = ACTION.parse().map_err(unreadable)?;
    let mut context = Context::new();
    context.set(format!("{}:aud", provider.url), audience.to_owned());
    context.set(format!("{}:sub", provider.url), token.claims.sub.clone());
    context.set("aws:FederatedProvider", provider.arn());
    context.set("sts:RoleSessionName", session_name.to_owned());
    let request = Request {
        caller: &policy::Caller::WebIdentity { provider: provider.arn().into() },
        action: &action,
        resource: &role.arn(),
        resource_account: None,
        context: (&context).into(),
    };
    let trust: Vec<_> = role.trust.policy().cloned().into_iter().collect();
    let policies =
        Policies { resource: &trust, resource_kind: ResourceKind::Trust, ..Policies::default() };
    if evaluate(&request, &policies).is_allowed() { Ok(()) } else { Err(refused()) }
}
