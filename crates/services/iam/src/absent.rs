//! What an account may have at IAM and none has here: server certificates, since load balancers have theirs from Certificate
//! Manager, and providers of SAML's. They are listed as none, and none is found by its name; to make one is refused.

use aws_wire::{ApiError, Caller};
use control::Permission;
use iam_api as api;

use crate::Iam;
use crate::errors::Refusal;
use crate::pages::{page, paged};

pub(crate) async fn list_server_certificates(
    iam: &Iam,
    caller: &Caller,
    input: api::ListServerCertificatesRequest,
) -> Result<api::ListServerCertificatesResponse, ApiError> {
    iam.read(caller, |_| Permission::to("iam:ListServerCertificates").on("*"))?;
    let none = page(input.marker, input.max_items, [])?;
    Ok(paged!(ListServerCertificatesResponse, server_certificate_metadata_list, none))
}

pub(crate) async fn list_saml_providers(
    iam: &Iam,
    caller: &Caller,
    _: api::ListSAMLProvidersRequest,
) -> Result<api::ListSAMLProvidersResponse, ApiError> {
    iam.read(caller, |_| Permission::to("iam:ListSAMLProviders").on("*"))?;
    Ok(api::ListSAMLProvidersResponse { saml_provider_list: Some(Vec::new()) })
}

/// Says to a caller that may ask that there is no such certificate, whatever its path would be.
fn no_certificate<T>(
    iam: &Iam,
    caller: &Caller,
    action: &'static str,
    name: Option<String>,
) -> Result<T, ApiError> {
    let (account, name) = (caller.account, name.unwrap_or_default());
    let arn = format!("arn:aws:iam::{account}:server-certificate/{name}");
    iam.read(caller, |_| Permission::to(action).on(arn))?;
    Err(Refusal::MissingCertificate(name).wire())
}

/// The same of a provider.
fn no_provider<T>(
    iam: &Iam,
    caller: &Caller,
    action: &'static str,
    arn: Option<String>,
) -> Result<T, ApiError> {
    let arn = arn.unwrap_or_default();
    iam.read(caller, |_| Permission::to(action).on(arn.as_str()))?;
    match arn.starts_with("arn:aws:iam::") && arn.contains(":saml-provider/") {
        true => Err(Refusal::MissingSamlProvider(arn).wire()),
        false => Err(Refusal::ProviderArn(arn).wire()),
    }
}

/// Operations on one of them.
macro_rules! on_none {
    ($($handler:ident: $input:ident => $answer:ty, $refuse:ident by $name:ident, $action:literal;)*) => {
        $(pub(crate) async fn $handler(
            iam: &Iam,
            caller: &Caller,
            input: api::$input,
        ) -> Result<$answer, ApiError> {
            $refuse(iam, caller, $action, input.$name)
        })*
    };
}

on_none! {
    get_server_certificate: GetServerCertificateRequest => api::GetServerCertificateResponse,
        no_certificate by server_certificate_name, "iam:GetServerCertificate";
    update_server_certificate: UpdateServerCertificateRequest => (),
        no_certificate by server_certificate_name, "iam:UpdateServerCertificate";
    delete_server_certificate: DeleteServerCertificateRequest => (),
        no_certificate by server_certificate_name, "iam:DeleteServerCertificate";
    list_server_certificate_tags: ListServerCertificateTagsRequest => api::ListServerCertificateTagsResponse,
        no_certificate by server_certificate_name, "iam:ListServerCertificateTags";
    tag_server_certificate: TagServerCertificateRequest => (),
        no_certificate by server_certificate_name, "iam:TagServerCertificate";
    untag_server_certificate: UntagServerCertificateRequest => (),
        no_certificate by server_certificate_name, "iam:UntagServerCertificate";
    get_saml_provider: GetSAMLProviderRequest => api::GetSAMLProviderResponse,
        no_provider by saml_provider_arn, "iam:GetSAMLProvider";
    update_saml_provider: UpdateSAMLProviderRequest => api::UpdateSAMLProviderResponse,
        no_provider by saml_provider_arn, "iam:UpdateSAMLProvider";
    delete_saml_provider: DeleteSAMLProviderRequest => (),
        no_provider by saml_provider_arn, "iam:DeleteSAMLProvider";
    list_saml_provider_tags: ListSAMLProviderTagsRequest => api::ListSAMLProviderTagsResponse,
        no_provider by saml_provider_arn, "iam:ListSAMLProviderTags";
    tag_saml_provider: TagSAMLProviderRequest => (),
        no_provider by saml_provider_arn, "iam:TagSAMLProvider";
    untag_saml_provider: UntagSAMLProviderRequest => (),
        no_provider by saml_provider_arn, "iam:UntagSAMLProvider";
}
