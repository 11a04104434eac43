use std::collections::BTreeMap;

use acm_api::Acm as _;
use bytes::Bytes;
use control::reconcile::Reconciler as _;
use control::testing::TestControl;
use longshore_types::Clock as _;
use model::acm::IssuedKey;
use trust::{Ask, Authority, SignedKey, to_pem};

use super::*;
use crate::limits::{DAY_MS, ISSUED_MS, RENEW_BEFORE_MS};

struct World {
    test: TestControl,
    acm: Arc<Acm>,
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn code<T>(answer: Result<T, ApiError>) -> String {
    answer.err().expect("a refusal").code.into_owned()
}

/// A certificate, its authority's and its key in PEM.
struct Pair {
    certificate: String,
    chain: String,
    key: String,
}

impl World {
    fn new() -> Self {
        let test = TestControl::with_config(|config| {
            config.own_names =
                ["Region.Example.net", "127.0.0.1", "*.api.example.org"].map(str::to_owned).into();
        });
        let acm = Arc::new(Acm::new(Arc::clone(&test.control)));
        Self { test, acm }
    }

    fn root(&self) -> Caller {
        self.test.root()
    }

    async fn request(
        &self,
        name: &str,
        change: impl FnOnce(&mut api::RequestCertificateRequest),
    ) -> Result<String, ApiError> {
        let mut input =
            api::RequestCertificateRequest { domain_name: text(name), ..Default::default() };
        change(&mut input);
        let made = self.acm.request_certificate(&self.root(), input).await?;
        Ok(made.certificate_arn.unwrap())
    }

    async fn describe(&self, arn: &str) -> Result<api::CertificateDetail, ApiError> {
        let input = api::DescribeCertificateRequest { certificate_arn: text(arn) };
        let shown = self.acm.describe_certificate(&self.root(), input).await?;
        Ok(shown.certificate.unwrap())
    }

    async fn import(
        &self,
        pair: &Pair,
        change: impl FnOnce(&mut api::ImportCertificateRequest),
    ) -> Result<String, ApiError> {
        let bytes = |text: &String| Some(Bytes::from(text.clone()));
        let mut input = api::ImportCertificateRequest {
            certificate: bytes(&pair.certificate),
            private_key: bytes(&pair.key),
            certificate_chain: bytes(&pair.chain),
            ..Default::default()
        };
        change(&mut input);
        let made = self.acm.import_certificate(&self.root(), input).await?;
        Ok(made.certificate_arn.unwrap())
    }

    async fn delete(&self, arn: &str) -> Result<(), ApiError> {
        let input = api::DeleteCertificateRequest { certificate_arn: text(arn) };
        self.acm.delete_certificate(&self.root(), input).await
    }

    /// Signed by an authority of nobody's region.
    fn foreign(&self, directory: &str, name: &str, days: u64) -> Pair {
        let now = self.test.env.now();
        let directory = self.test.control.config.data_dir.join(directory);
        let authority = Authority::open(&directory, now).unwrap();
        let names = [name.to_owned()];
        let until = now.plus_ms(days * DAY_MS);
        let ask = Ask { subject: name, names: &names, key: SignedKey::P384, now, until };
        let signed = authority.sign(&ask).unwrap();
        Pair {
            certificate: to_pem(&signed.certificate),
            chain: to_pem(&signed.authority),
            key: signed.key_pem.to_string(),
        }
    }

    fn row(&self, arn: &str) -> Arc<AcmCertificate> {
        let view = self.test.control.view();
        Arc::clone(self.test.control.certificate(&view, self.root().account, arn).unwrap())
    }

    fn key(&self, arn: &str) -> String {
        let view = self.test.control.view();
        self.test.control.certificate_key(&view, &self.row(arn)).unwrap().to_string()
    }
}

#[tokio::test]
async fn a_certificate_that_is_asked_for_is_issued_with_the_record_that_would_prove_it() {
    let world = World::new();
    let names = Some(vec!["*.Example.com".to_owned(), "example.com".to_owned()]);
    let arn =
        world.request("example.com", |it| it.subject_alternative_names = names).await.unwrap();
    let shown = world.describe(&arn).await.unwrap();
    assert_eq!(shown.status, Some(api::CertificateStatus::Issued));
    assert_eq!(shown.r#type, Some(api::CertificateType::AmazonIssued));
    assert_eq!(shown.subject.as_deref(), Some("CN=example.com"));
    assert_eq!(shown.key_algorithm, Some(api::KeyAlgorithm::EcPrime256v1));
    assert_eq!(shown.signature_algorithm.as_deref(), Some("SHA256WITHECDSA"));
    assert_eq!(shown.subject_alternative_names.unwrap(), ["example.com", "*.example.com"]);
    let options = shown.domain_validation_options.unwrap();
    let records: Vec<_> = options.iter().map(|it| it.resource_record.clone().unwrap()).collect();
    assert_eq!(records[0], records[1], "a wildcard is proved by its domain's record");
    let name = records[0].name.as_deref().unwrap();
    assert!(name.starts_with('_') && name.ends_with(".example.com."), "{name}");
    let usages = shown.extended_key_usages.unwrap();
    assert_eq!(usages[0].name, Some(api::ExtendedKeyUsageName::TlsWebServerAuthentication));
    let input = api::GetCertificateRequest { certificate_arn: text(&arn) };
    let got = world.acm.get_certificate(&world.root(), input).await.unwrap();
    let ca = world.test.control.config.data_dir.join("tls/ca.pem");
    let known = trust::certificates(&std::fs::read(ca).unwrap()).unwrap();
    let chain = trust::certificates(got.certificate_chain.unwrap().as_bytes()).unwrap();
    assert_eq!(chain, known, "it is signed by the region's own authority");
}

#[test]
fn those_who_ask_at_once_are_signed_for_by_one_authority() {
    let world = World::new();
    let (acm, names) = (&world.acm, ["a.example.com".to_owned()]);
    let start = std::sync::Barrier::new(8);
    let ask = || {
        start.wait();
        acm.issue(&names, IssuedKey::P256).unwrap()
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        for each in all {
            let signed = each.join().unwrap().signed;
            assert!(x509::is_signed_by(&signed.certificate, &signed.authority));
        }
    });
}

#[tokio::test]
async fn a_token_means_the_same_certificate_for_an_hour() {
    let world = World::new();
    let ask = |token: &'static str| {
        world.request("a.example.com", |it| it.idempotency_token = text(token))
    };
    let first = ask("one").await.unwrap();
    assert_eq!(ask("one").await.unwrap(), first);
    assert_ne!(ask("two").await.unwrap(), first);
    world.test.env.advance_ms(3_600_000);
    assert_ne!(ask("one").await.unwrap(), first);
}

#[tokio::test]
async fn what_is_not_to_be_had_is_refused_by_its_name() {
    let world = World::new();
    let refused = |name: &'static str, change: fn(&mut api::RequestCertificateRequest)| {
        let world = &world;
        async move { world.request(name, change).await.unwrap_err() }
    };
    for bad in [
        "local",
        "a..example.com",
        "-a.example.com",
        "a.*.example.com",
        "a_b.example.com",
        "127.0.0.1",
    ] {
        assert_eq!(world.request(bad, |_| {}).await.unwrap_err().code, "InvalidParameterException");
    }
    for own in ["region.example.net", "*.example.net", "a.api.example.org", "*.api.example.org"] {
        let refusal = world.request(own, |_| {}).await.unwrap_err();
        assert!(refusal.message.contains("of this region itself"), "{}", refusal.message);
    }
    let by_mail =
        refused("a.com", |it| it.validation_method = Some(api::ValidationMethod::Email)).await;
    assert!(by_mail.message.contains("EMAIL"), "{}", by_mail.message);
    let rsa = refused("a.com", |it| it.key_algorithm = Some(api::KeyAlgorithm::Rsa2048)).await;
    assert!(rsa.message.contains("RSA_2048"), "{}", rsa.message);
    let authority =
        refused("a.com", |it| it.certificate_authority_arn = text("arn:aws:acm-pca:a:1:b/c")).await;
    assert!(authority.message.contains("CertificateAuthorityArn"), "{}", authority.message);
    assert_eq!(code(world.describe("nothing").await), "InvalidArnException");
    let missing =
        "arn:aws:acm:us-east-1:000000000000:certificate/0b6fd0a7-2c6e-4f6b-9d5e-0123456789ab";
    assert_eq!(code(world.describe(missing).await), "ResourceNotFoundException");
    assert!(world.test.control.view().acm_certificates.is_empty());
}

#[tokio::test]
async fn a_certificate_that_is_imported_is_kept_with_its_key_sealed() {
    let world = World::new();
    let pair = world.foreign("theirs", "shop.example.com", 30);
    let arn = world.import(&pair, |_| {}).await.unwrap();
    let shown = world.describe(&arn).await.unwrap();
    assert_eq!(shown.r#type, Some(api::CertificateType::Imported));
    assert_eq!(shown.domain_name.as_deref(), Some("shop.example.com"));
    assert_eq!(shown.key_algorithm, Some(api::KeyAlgorithm::EcSecp384r1));
    assert_eq!(shown.domain_validation_options, None);
    assert_eq!(world.key(&arn), pair.key);
    let row = serde_json::to_string(&*world.row(&arn)).unwrap();
    assert!(!row.contains("PRIVATE KEY"), "{row}");
    let again = world.foreign("theirs", "shop.example.com", 60);
    assert_eq!(world.import(&again, |it| it.certificate_arn = text(&arn)).await.unwrap(), arn);
    assert_eq!(world.key(&arn), again.key);
    world.test.env.advance_ms(61 * DAY_MS);
    let shown = world.describe(&arn).await.unwrap();
    assert_eq!(shown.status, Some(api::CertificateStatus::Expired));
    let renew = api::RenewCertificateRequest { certificate_arn: text(&arn) };
    assert_eq!(
        code(world.acm.renew_certificate(&world.root(), renew).await),
        "ValidationException"
    );
    world.delete(&arn).await.unwrap();
    assert_eq!(code(world.describe(&arn).await), "ResourceNotFoundException");
}

#[tokio::test]
async fn what_does_not_go_together_is_not_imported() {
    let world = World::new();
    let pair = world.foreign("theirs", "shop.example.com", 30);
    let other = world.foreign("others", "shop.example.com", 30);
    let said = |given: Result<String, ApiError>| given.unwrap_err().message;
    let swap = |part: &String| Some(Bytes::from(part.clone()));
    let refusal = world.import(&pair, |it| it.private_key = swap(&other.key)).await;
    assert_eq!(said(refusal), "The private key does not match the certificate.");
    let refusal = world.import(&pair, |it| it.certificate_chain = swap(&other.chain)).await;
    assert_eq!(said(refusal), "Could not validate the certificate with the certificate chain.");
    let both = format!("{}{}", pair.certificate, pair.chain);
    let refusal = said(world.import(&pair, |it| it.certificate = swap(&both)).await);
    assert!(refusal.contains("more than one certificate"), "{refusal}");
    let refusal = world.import(&pair, |it| it.certificate = swap(&"nothing".to_owned())).await;
    assert_eq!(said(refusal), "The certificate is not in a valid PEM format.");
    let long = pair.chain.repeat(1 + (64 << 10) / 256);
    let refusal = said(world.import(&pair, |it| it.certificate_chain = swap(&long)).await);
    assert!(refusal.contains("that clients read"), "{refusal}");
    let issued = world.request("a.example.com", |_| {}).await.unwrap();
    let refusal = said(world.import(&pair, |it| it.certificate_arn = text(&issued)).await);
    assert!(refusal.contains("was imported"), "{refusal}");
    world.test.env.advance_ms(31 * DAY_MS);
    assert_eq!(said(world.import(&pair, |_| {}).await), "The certificate has expired.");
}

#[tokio::test]
async fn an_issued_certificate_is_signed_anew_before_it_ends_and_on_request() {
    let world = World::new();
    let arn = world.request("a.example.com", |_| {}).await.unwrap();
    let first = world.key(&arn);
    let renewal = renewal::Renewal(Arc::clone(&world.acm));
    let row = world.row(&arn);
    let key = (row.scope.account, row.id);
    let due = Timestamp(row.not_after.0 - RENEW_BEFORE_MS);
    let pass = renewal.pass(&key).await.unwrap();
    assert_eq!((pass.again_at, pass.is_over), (Some(due), false));
    assert_eq!(world.key(&arn), first, "it is not due");
    world.test.env.advance_ms(ISSUED_MS - RENEW_BEFORE_MS);
    renewal.pass(&key).await.unwrap();
    let second = world.key(&arn);
    assert_ne!(second, first);
    let shown = world.describe(&arn).await.unwrap();
    let summary = shown.renewal_summary.unwrap();
    assert_eq!(summary.renewal_status, Some(api::RenewalStatus::Success));
    assert!(row.not_after < shown.not_after.unwrap());
    let pass = renewal.pass(&key).await.unwrap();
    assert_eq!(world.key(&arn), second, "a second look does nothing");
    assert!(pass.again_at.is_some());
    let renew = api::RenewCertificateRequest { certificate_arn: text(&arn) };
    world.acm.renew_certificate(&world.root(), renew).await.unwrap();
    assert_ne!(world.key(&arn), second);
    world.delete(&arn).await.unwrap();
    assert!(renewal.pass(&key).await.unwrap().is_over);
}

#[tokio::test]
async fn lists_are_filtered_and_come_in_pages() {
    let world = World::new();
    let mut arns = Vec::new();
    for name in ["a.example.com", "b.example.com", "c.example.com"] {
        arns.push(world.request(name, |_| {}).await.unwrap());
        world.test.env.advance_ms(1_000);
    }
    world.import(&world.foreign("theirs", "d.example.com", 30), |_| {}).await.unwrap();
    let list = |input: api::ListCertificatesRequest| {
        let world = &world;
        async move { world.acm.list_certificates(&world.root(), input).await.unwrap() }
    };
    let names = |answer: &api::ListCertificatesResponse| -> Vec<String> {
        let all = answer.certificate_summary_list.iter().flatten();
        all.map(|it| it.domain_name.clone().unwrap()).collect()
    };
    let only = |key| api::Filters { key_types: Some(vec![key]), ..Default::default() };
    let input = api::ListCertificatesRequest {
        includes: Some(only(api::KeyAlgorithm::EcSecp384r1)),
        ..Default::default()
    };
    assert_eq!(names(&list(input).await), ["d.example.com"]);
    let mut token = None;
    let mut found = Vec::new();
    loop {
        let input = api::ListCertificatesRequest {
            max_items: Some(3),
            next_token: token.take(),
            sort_by: Some(api::SortBy::CreatedAt),
            sort_order: Some(api::SortOrder::Descending),
            ..Default::default()
        };
        let page = list(input).await;
        found.extend(names(&page));
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(found, ["d.example.com", "c.example.com", "b.example.com", "a.example.com"]);
}

#[tokio::test]
async fn tags_come_and_go_by_both_families_of_operations() {
    let world = World::new();
    let arn = world.request("a.example.com", |_| {}).await.unwrap();
    let tag = |key: &str, value: &str| api::Tag { key: text(key), value: text(value) };
    let input = api::AddTagsToCertificateRequest {
        certificate_arn: text(&arn),
        tags: Some(vec![tag("a", "1"), tag("b", "2"), tag("c", "3")]),
    };
    world.acm.add_tags_to_certificate(&world.root(), input).await.unwrap();
    let input = api::RemoveTagsFromCertificateRequest {
        certificate_arn: text(&arn),
        tags: Some(vec![tag("a", "other"), api::Tag { key: text("b"), value: None }]),
    };
    world.acm.remove_tags_from_certificate(&world.root(), input).await.unwrap();
    let input =
        api::UntagResourceRequest { resource_arn: text(&arn), tag_keys: Some(vec!["c".into()]) };
    world.acm.untag_resource(&world.root(), input).await.unwrap();
    let expected = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
    assert_eq!(world.row(&arn).tags, expected, "another value is another tag");
}
