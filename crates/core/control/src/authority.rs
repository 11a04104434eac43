//! The region's authority at work for what is in rows: certificates of Service Connect's endpoints, signed, sealed and opened.
//!
//! **Invariant:** a private key is in no row but sealed, bound to its endpoint.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use aws_wire::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_types::{AccountId, Scope, Timestamp};
use model::discovery::EndpointCertificate;
use model::service::OfferTls;
use model::{MapService, View};
use store::Batch;
use trust::{AUTHORITY_DIR, Ask, Authority, AuthorityError, SignedKey, to_pem};
use vault::Zeroizing;

use crate::Control;

/// The domain of names by which those who serve at endpoints are known. Nobody else has a certificate for one.
pub const IDENTITY_DOMAIN: &str = "service-connect.longshore.internal";
/// Keys of endpoints are sealed by Amazon's own key of this service, where a caller names none.
const SERVICE: &str = "secretsmanager";
const DAY_MS: u64 = 24 * 3_600_000;
/// How long a certificate of an endpoint is good, and how long before its end there is another: as at Amazon.
const ENDPOINT_MS: u64 = 7 * DAY_MS;
const RENEW_BEFORE_MS: u64 = 2 * DAY_MS;

/// The ARN by which callers name the region's own authority where Amazon has one of AWS Private CA.
pub fn authority_arn(scope: &Scope) -> String {
    let Scope { region, account } = scope;
    format!("arn:aws:acm-pca:{region}:{account}:certificate-authority/longshore")
}

/// The name that is verified of whoever serves at an endpoint.
pub fn identity_of(row: &MapService) -> String {
    format!("{}.{}.{IDENTITY_DOMAIN}", row.id, row.scope.account)
}

/// When an endpoint's certificate is to be signed anew.
pub fn renewal_of(certificate: &EndpointCertificate) -> Timestamp {
    Timestamp(certificate.not_after.0.saturating_sub(RENEW_BEFORE_MS))
}

fn bound_to(account: AccountId, row: &MapService) -> Vec<u8> {
    format!("service-connect-certificate|{account}|{}", row.id).into_bytes()
}

/// What an endpoint's certificate names: who it is, and what it is called where clients take that for a host's name. Nothing that
/// would be another's: an address, or what `is_own` says of.
fn names_of(identity: String, shown: Option<String>, is_own: impl Fn(&str) -> bool) -> Vec<String> {
    let is_fit = |it: &String| is_host_name(it) && it.parse::<IpAddr>().is_err() && !is_own(it);
    std::iter::once(identity).chain(shown.filter(is_fit)).collect()
}

/// Whether certificates for these two names have a host's name in common.
fn meet(name: &str, own: &str) -> bool {
    let covers = |wide: &str, other: &str| {
        let above = other.split_once('.').map(|(_, above)| above);
        wide.strip_prefix("*.").zip(above).is_some_and(|(of, above)| of.eq_ignore_ascii_case(above))
    };
    name.eq_ignore_ascii_case(own) || covers(name, own) || covers(own, name)
}

/// Whether clients take a text for a host's name.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

impl Control {
    /// The authority, which is made when it first signs.
    pub fn authority(&self, now: Timestamp) -> Result<Arc<Authority>, AuthorityError> {
        let mut known = self.own_authority.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(authority) = &*known {
            return Ok(Arc::clone(authority));
        }
        let dir = self.config.data_dir.join(AUTHORITY_DIR);
        let authority = Arc::new(Authority::open(&dir, now)?);
        *known = Some(Arc::clone(&authority));
        Ok(authority)
    }

    /// Whether a name, or one that its wildcard stands for, is the region's own, or one by which those are known who serve at
    /// endpoints: nobody else is certified for it.
    pub fn is_own_name(&self, name: &str) -> bool {
        let lower = name.to_ascii_lowercase();
        let below = lower.strip_suffix(IDENTITY_DOMAIN);
        below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            || self.config.own_names.iter().any(|own| meet(&lower, own))
    }

    /// Signs a certificate for those who serve at an endpoint, with its key sealed as the offer asks for. It names what
    /// the endpoint is called too, unless that is a name of somebody else's.
    ///
    /// # Errors
    /// The key that it is to be sealed by cannot be used.
    pub fn sign_for_endpoint(
        &self,
        view: &View,
        batch: &mut Batch,
        row: &MapService,
        asked: &OfferTls,
        now: Timestamp,
    ) -> Result<EndpointCertificate, ApiError> {
        let account = row.scope.account;
        let key = match asked.kms_key {
            Some((owner, id)) => {
                let found = view.kms_keys.get(owner, &id).cloned();
                let missing = || ApiError::fault("failed to find a key of KMS", "it is gone");
                let key = found.ok_or_else(missing)?;
                self.check_key(&key).map_err(|why| why.to_api())?;
                key
            }
            None => self.managed_key(view, batch, account, SERVICE, now).key,
        };
        let namespace = view.map_namespaces.get(account, &row.namespace);
        let shown = namespace.map(|namespace| format!("{}.{}", row.name, namespace.name));
        let names = names_of(identity_of(row), shown, |name| self.is_own_name(name));
        let not_after = now.plus_ms(ENDPOINT_MS);
        let ask = Ask {
            subject: names.last().map_or("", String::as_str),
            names: &names,
            key: SignedKey::P256,
            now,
            until: not_after,
        };
        let fault = |error| ApiError::fault("failed to sign a certificate", error);
        let signed = self.authority(now).and_then(|it| it.sign(&ask)).map_err(fault)?;
        let sealed = self.seal_by(&key, &bound_to(account, row), signed.key_pem.as_bytes())?;
        Ok(EndpointCertificate {
            certificate: to_pem(&signed.certificate),
            authority: to_pem(&signed.authority),
            sealed_key: STANDARD.encode(sealed),
            sealed_by: asked.kms_key,
            issued_at: now,
            not_after,
        })
    }

    /// The private key of an endpoint's certificate, in PEM.
    ///
    /// # Errors
    /// The key of KMS that it is sealed by cannot be used, or it was damaged.
    pub fn endpoint_key(
        &self,
        view: &View,
        row: &MapService,
        certificate: &EndpointCertificate,
    ) -> Result<Zeroizing<String>, ApiError> {
        const DOING: &str = "failed to open the key of an endpoint's certificate";
        let sealed = STANDARD.decode(&certificate.sealed_key);
        let sealed = sealed.map_err(|_| ApiError::fault(DOING, "it is no base 64"))?;
        let opened = self.open_sealed(view, &bound_to(row.scope.account, row), &sealed);
        let opened = opened.map_err(|why| why.fault(DOING))?;
        let text = std::str::from_utf8(&opened);
        let text = text.map_err(|_| ApiError::fault(DOING, "it is no text"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestControl;

    #[test]
    fn nobody_is_certified_for_the_regions_names_an_address_or_anothers_endpoint() {
        let world = TestControl::with_config(|config| {
            let own = ["Region.example.com", "127.0.0.1", "*.ecs.us-east-1.vpce.amazonaws.com"];
            config.own_names = own.map(str::to_owned).into();
        });
        let identity = format!("srv-1.000000000000.{IDENTITY_DOMAIN}");
        let names = |shown: &str| {
            let is_own = |name: &str| world.control.is_own_name(name);
            names_of(identity.clone(), Some(shown.to_owned()), is_own)
        };
        let anothers = format!("srv-2.111111111111.{IDENTITY_DOMAIN}");
        for shown in [
            "region.EXAMPLE.com",
            "10.0.0.5",
            "127.0.0.1",
            "vpce-1.ecs.us-east-1.vpce.amazonaws.com",
            anothers.as_str(),
            IDENTITY_DOMAIN,
            "my_backend.mesh",
        ] {
            assert_eq!(names(shown), std::slice::from_ref(&identity), "{shown}");
        }
        for shown in ["backend.mesh", "other.example.com", "a.region.example.com"] {
            assert_eq!(names(shown), [identity.clone(), shown.to_owned()], "{shown}");
        }
        for wide in ["*.example.com", "*.ECS.us-east-1.vpce.amazonaws.com"] {
            assert!(world.control.is_own_name(wide), "{wide}");
        }
        assert!(!world.control.is_own_name("*.region.example.com"));
    }

    #[test]
    fn a_certificate_names_what_clients_take_for_a_host() {
        let long = "a".repeat(64);
        for (text, is_it) in [
            ("backend.mesh", true),
            ("backend", true),
            ("my_backend.mesh", false),
            ("backend.my mesh", false),
            ("-a.mesh", false),
            ("a..mesh", false),
            (long.as_str(), false),
        ] {
            assert_eq!(is_host_name(text), is_it, "{text}");
        }
    }
}
