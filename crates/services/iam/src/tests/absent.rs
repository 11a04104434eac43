//! What an account may have and none has here.

use super::*;

#[tokio::test]
async fn of_server_certificates_and_saml_providers_there_are_none() {
    let world = World::new().await;
    let listed = ask!(world, list_server_certificates, ListServerCertificatesRequest {}).unwrap();
    assert_eq!(listed.server_certificate_metadata_list, Some(Vec::new()));
    assert_eq!(listed.is_truncated, Some(false));
    let listed = ask!(world, list_saml_providers, ListSAMLProvidersRequest {}).unwrap();
    assert_eq!(listed.saml_provider_list, Some(Vec::new()));
    let missing = said("NoSuchEntity", "The Server Certificate with name web cannot be found.");
    let name = "web";
    let got = ask!(
        world,
        get_server_certificate,
        GetServerCertificateRequest { server_certificate_name: name }
    );
    assert_eq!(refusal(got), missing);
    let deleted = ask!(
        world,
        delete_server_certificate,
        DeleteServerCertificateRequest { server_certificate_name: name }
    );
    assert_eq!(refusal(deleted), missing);
    let arn = "arn:aws:iam::000000000000:saml-provider/corp";
    let missing = said("NoSuchEntity", &format!("Manifest not found for arn {arn}"));
    let got = ask!(world, get_saml_provider, GetSAMLProviderRequest { saml_provider_arn: arn });
    assert_eq!(refusal(got), missing);
    let updated =
        ask!(world, update_saml_provider, UpdateSAMLProviderRequest { saml_provider_arn: arn });
    assert_eq!(refusal(updated), missing);
    let role = "arn:aws:iam::000000000000:role/corp-of-us";
    let other = ask!(world, get_saml_provider, GetSAMLProviderRequest { saml_provider_arn: role });
    assert_eq!(refusal(other).0, "InvalidInput");
}
