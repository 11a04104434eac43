//! What a certificate says of itself.

use std::net::IpAddr;

use acm_api::{ExtendedKeyUsageName, KeyAlgorithm, KeyUsageName};
use longshore_types::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

/// Signature algorithms by their object identifiers.
const SIGNATURES: &[(&str, &str)] = &[
    ("1.2.840.113549.1.1.5", "SHA1WITHRSA"),
    ("1.2.840.113549.1.1.11", "SHA256WITHRSA"),
    ("1.2.840.113549.1.1.12", "SHA384WITHRSA"),
    ("1.2.840.113549.1.1.13", "SHA512WITHRSA"),
    ("1.2.840.10045.4.3.2", "SHA256WITHECDSA"),
    ("1.2.840.10045.4.3.3", "SHA384WITHECDSA"),
    ("1.2.840.10045.4.3.4", "SHA512WITHECDSA"),
];

/// Read from a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) serial: String,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) common_name: Option<String>,
    pub(crate) names: Vec<String>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// None: one that Certificate Manager has no word for.
    pub(crate) key: Option<KeyAlgorithm>,
    pub(crate) signature: String,
    pub(crate) usages: Vec<KeyUsageName>,
    /// With their object identifiers.
    pub(crate) extended: Vec<(ExtendedKeyUsageName, &'static str)>,
}

/// Reads the one certificate of a DER text.
pub(crate) fn read(der: &[u8]) -> Option<Facts> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let oid = certificate.signature_algorithm.algorithm.to_id_string();
    let signature = SIGNATURES.iter().find(|(id, _)| *id == oid).map(|(_, name)| *name);
    let validity = certificate.validity();
    Some(Facts {
        serial: certificate.raw_serial_as_string(),
        subject: certificate.subject().to_string(),
        issuer: issuer(certificate.issuer()),
        common_name: common_name(certificate.subject()),
        names: names(&certificate),
        not_before: moment(validity.not_before.timestamp()),
        not_after: moment(validity.not_after.timestamp()),
        key: key(&certificate),
        signature: signature.map_or(oid.clone(), str::to_owned),
        usages: usages(&certificate),
        extended: extended(&certificate),
    })
}

/// Whether `later` signed `earlier`.
pub(crate) fn is_signed_by(earlier: &[u8], later: &[u8]) -> bool {
    let (Ok((_, earlier)), Ok((_, later))) =
        (X509Certificate::from_der(earlier), X509Certificate::from_der(later))
    else {
        return false;
    };
    earlier.issuer().as_raw() == later.subject().as_raw()
        && earlier.verify_signature(Some(later.public_key())).is_ok()
}

fn moment(seconds: i64) -> Timestamp {
    Timestamp(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}

fn common_name(name: &X509Name<'_>) -> Option<String> {
    let found = name.iter_common_name().next()?;
    found.as_str().ok().map(str::to_owned)
}

/// As Certificate Manager names who signed: the organization, or else the name.
fn issuer(name: &X509Name<'_>) -> String {
    let organization = name.iter_organization().next().and_then(|it| it.as_str().ok());
    let organization = organization.map(str::to_owned);
    organization.or_else(|| common_name(name)).unwrap_or_else(|| name.to_string())
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let found = certificate.subject_alternative_name().ok().flatten();
    let all = found.iter().flat_map(|it| &it.value.general_names);
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|it| IpAddr::from(it).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|it| IpAddr::from(it).to_string()),
            _ => None,
        },
        _ => None,
    };
    all.filter_map(text).collect()
}

fn key(certificate: &X509Certificate<'_>) -> Option<KeyAlgorithm> {
    let key = certificate.public_key();
    match key.parsed().ok()? {
        PublicKey::RSA(rsa) => Some(match rsa.key_size() {
            1024 => KeyAlgorithm::Rsa1024,
            2048 => KeyAlgorithm::Rsa2048,
            3072 => KeyAlgorithm::Rsa3072,
            4096 => KeyAlgorithm::Rsa4096,
            _ => return None,
        }),
        PublicKey::EC(_) => {
            let curve = key.algorithm.parameters.as_ref().and_then(|it| it.as_oid().ok())?;
            Some(match curve.to_id_string().as_str() {
                "1.2.840.10045.3.1.7" => KeyAlgorithm::EcPrime256v1,
                "1.3.132.0.34" => KeyAlgorithm::EcSecp384r1,
                "1.3.132.0.35" => KeyAlgorithm::EcSecp521r1,
                _ => return None,
            })
        }
        _ => None,
    }
}

fn usages(certificate: &X509Certificate<'_>) -> Vec<KeyUsageName> {
    let Some(found) = certificate.key_usage().ok().flatten() else { return Vec::new() };
    let usage = found.value;
    let all = [
        (usage.digital_signature(), KeyUsageName::DigitalSignature),
        (usage.non_repudiation(), KeyUsageName::NonRepudiation),
        (usage.key_encipherment(), KeyUsageName::KeyEncipherment),
        (usage.data_encipherment(), KeyUsageName::DataEncipherment),
        (usage.key_agreement(), KeyUsageName::KeyAgreement),
        (usage.key_cert_sign(), KeyUsageName::CertificateSigning),
        (usage.crl_sign(), KeyUsageName::CrlSigning),
        (usage.encipher_only(), KeyUsageName::EncipherOnly),
        (usage.decipher_only(), KeyUsageName::DecipherOnly),
    ];
    all.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect()
}

fn extended(certificate: &X509Certificate<'_>) -> Vec<(ExtendedKeyUsageName, &'static str)> {
    let Some(found) = certificate.extended_key_usage().ok().flatten() else { return Vec::new() };
    let usage = found.value;
    let all = [
        (usage.any, ExtendedKeyUsageName::Any, "2.5.29.37.0"),
        (usage.server_auth, ExtendedKeyUsageName::TlsWebServerAuthentication, "1.3.6.1.5.5.7.3.1"),
        (usage.client_auth, ExtendedKeyUsageName::TlsWebClientAuthentication, "1.3.6.1.5.5.7.3.2"),
        (usage.code_signing, ExtendedKeyUsageName::CodeSigning, "1.3.6.1.5.5.7.3.3"),
        (usage.email_protection, ExtendedKeyUsageName::EmailProtection, "1.3.6.1.5.5.7.3.4"),
        (usage.time_stamping, ExtendedKeyUsageName::TimeStamping, "1.3.6.1.5.5.7.3.8"),
        (usage.ocsp_signing, ExtendedKeyUsageName::OcspSigning, "1.3.6.1.5.5.7.3.9"),
    ];
    all.into_iter().filter(|(has, ..)| *has).map(|(_, name, oid)| (name, oid)).collect()
}
