//! Who calls, and credentials that end: STS.
//!
//! Nothing is kept of a session: its token says, sealed, whose it is and what was passed
//! (`control::iam::session`). So a session outlives a restart of the region, and ends when its role or user does.

mod assume_role;
mod errors;
mod factor;
mod jwks;
mod jwt;
mod passed;
mod tokens;
mod web_identity;

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller, Principal};
use control::access::principal_arn;
use control::iam::access_keys;
use control::ports::{BoxFuture, RegionService};
use control::{Config, Control, Permission};
use sts_api as api;

use crate::errors::Refusal;
use crate::jwks::Jwks;

/// The service.
#[derive(Debug)]
pub struct Identity {
    pub control: Arc<Control>,
    jwks: Jwks,
}

impl Identity {
    pub fn new(control: Arc<Control>) -> Self {
        let jwks = Jwks::new(control.config.oidc_keys.clone());
        Self { control, jwks }
    }
}

impl RegionService for Identity {
    fn service(&self) -> &'static Service {
        &sts_api::SERVICE
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(sts_api::dispatch(self, caller, call))
    }
}

impl sts_api::Sts for Identity {
    async fn assume_role(
        &self,
        caller: &Caller,
        input: api::AssumeRoleRequest,
    ) -> Result<api::AssumeRoleResponse, ApiError> {
        assume_role::handle(self, caller, input).await
    }

    /// Nobody is vouched for by SAML: there are no providers of it (IAM's CreateSAMLProvider is refused), so none is the one
    /// that is named.
    async fn assume_role_with_saml(
        &self,
        _: &Caller,
        input: api::AssumeRoleWithSAMLRequest,
    ) -> Result<api::AssumeRoleWithSAMLResponse, ApiError> {
        assume_role::check_arn(&input.role_arn.unwrap_or_default())?;
        Err(Refusal::SamlProvider.wire())
    }

    async fn assume_role_with_web_identity(
        &self,
        caller: &Caller,
        input: api::AssumeRoleWithWebIdentityRequest,
    ) -> Result<api::AssumeRoleWithWebIdentityResponse, ApiError> {
        web_identity::handle(self, caller, input).await
    }

    async fn decode_authorization_message(
        &self,
        caller: &Caller,
        input: api::DecodeAuthorizationMessageRequest,
    ) -> Result<api::DecodeAuthorizationMessageResponse, ApiError> {
        errors::refuse_sessions_of_users(caller)?;
        let permission = Permission::to("sts:DecodeAuthorizationMessage").on("*");
        self.control.read(caller, &permission)?;
        let encoded = input.encoded_message.unwrap_or_default();
        let decoded = self.control.access.open_denial(caller.account, &encoded);
        let decoded = decoded.ok_or_else(|| Refusal::Message.wire())?;
        Ok(api::DecodeAuthorizationMessageResponse { decoded_message: Some(decoded) })
    }

    /// Whose account a key is of is no secret: anybody may ask, whatever became of the key.
    async fn get_access_key_info(
        &self,
        _: &Caller,
        input: api::GetAccessKeyInfoRequest,
    ) -> Result<api::GetAccessKeyInfoResponse, ApiError> {
        let id = input.access_key_id.unwrap_or_default();
        let keys = &self.control.access.keys;
        let is_roots = [&keys.root, &keys.node].into_iter().any(|pair| pair.access_key_id == id);
        let account = match is_roots {
            true => Some(Config::root_account()),
            false => access_keys::account_of(&id).or_else(|| id.parse().ok()),
        };
        let account = account.ok_or_else(|| Refusal::AccessKey(id).wire())?;
        Ok(api::GetAccessKeyInfoResponse { account: Some(account.to_string()) })
    }

    /// Needs no permission: whoever has a key may know whose it is.
    async fn get_caller_identity(
        &self,
        caller: &Caller,
        _: api::GetCallerIdentityRequest,
    ) -> Result<api::GetCallerIdentityResponse, ApiError> {
        self.control.let_through(caller, &Permission::to("sts:GetCallerIdentity").on("*"))?;
        let account = caller.account;
        let user_id = match &caller.principal {
            Principal::Root => account.to_string(),
            Principal::User { id, .. } => id.to_string(),
            Principal::Role { id, session, .. } => format!("{id}:{session}"),
            Principal::Federated { name, .. } => format!("{account}:{name}"),
            Principal::Node { .. } | Principal::Anonymous => caller.access_key.clone(),
        };
        Ok(api::GetCallerIdentityResponse {
            user_id: Some(user_id),
            account: Some(account.to_string()),
            arn: Some(principal_arn(caller)),
        })
    }

    async fn get_federation_token(
        &self,
        caller: &Caller,
        input: api::GetFederationTokenRequest,
    ) -> Result<api::GetFederationTokenResponse, ApiError> {
        tokens::federation(self, caller, input)
    }

    async fn get_session_token(
        &self,
        caller: &Caller,
        input: api::GetSessionTokenRequest,
    ) -> Result<api::GetSessionTokenResponse, ApiError> {
        tokens::session(self, caller, &input).await
    }
}

#[cfg(test)]
mod tests;
