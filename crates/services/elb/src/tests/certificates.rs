//! Listeners with TLS: what they take, show and tell balancers.

use longshore_types::Uuid;
use model::AcmCertificate;
use model::acm::CertificateOrigin;

use super::*;

impl World {
    /// A certificate of the first account, as Certificate Manager keeps it.
    async fn certificate(&self, name: &str) -> String {
        let id = Uuid::mint(self.elb.control.ids.as_ref());
        let (control, root) = (&self.elb.control, self.root());
        let put = |view: &model::View, now: Timestamp| {
            let mut batch = Batch::on(view);
            let key = format!("key of {name}");
            let sealed_key =
                control.seal_certificate_key(view, &mut batch, root.account, id, &key, now)?;
            let row = AcmCertificate {
                scope: control.scope(&root),
                id,
                origin: CertificateOrigin::Imported,
                domain: name.to_owned(),
                names: vec![name.to_owned()],
                certificate: format!("certificate of {name}\n"),
                chain: Some("chain".to_owned()),
                sealed_key,
                not_before: now,
                not_after: now.plus_ms(1_000_000),
                created_at: now,
                changed_at: now,
                renewed_at: None,
                token: None,
                is_log_preferred: false,
                tags: model::Tags::new(),
            };
            let arn = row.arn();
            batch.put(row);
            Ok((batch, arn))
        };
        control.decide(put).await.unwrap()
    }

    async fn try_https(
        &self,
        balancer: &str,
        certificates: &[&str],
        change: impl FnOnce(&mut api::CreateListenerInput),
    ) -> Result<api::Listener, ApiError> {
        let group = self.group(&format!("g{}", self.elb.digits())).await;
        let mut input = api::CreateListenerInput {
            load_balancer_arn: text(balancer),
            protocol: Some(api::ProtocolEnum::Https),
            port: Some(443),
            certificates: Some(certificates.iter().map(|arn| named(arn)).collect()),
            default_actions: Some(vec![forward(&group)]),
            ..Default::default()
        };
        change(&mut input);
        let made = self.elb.create_listener(&self.root(), input).await?;
        Ok(made.listeners.unwrap().remove(0))
    }

    /// The certificates of a listener, and whether each is the default one.
    async fn shown(&self, listener: &str) -> Vec<(String, bool)> {
        let input = api::DescribeListenerCertificatesInput {
            listener_arn: text(listener),
            ..Default::default()
        };
        let shown = self.elb.describe_listener_certificates(&self.root(), input).await.unwrap();
        let all = shown.certificates.unwrap().into_iter();
        all.map(|it| (it.certificate_arn.unwrap(), it.is_default.unwrap())).collect()
    }
}

fn named(arn: &str) -> api::Certificate {
    api::Certificate { certificate_arn: text(arn), is_default: None }
}

#[tokio::test]
async fn a_listener_shows_its_certificates_and_balancers_get_them_with_their_keys() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let (first, second) = (world.certificate("a.com").await, world.certificate("b.com").await);
    let listener = world.try_https(&balancer, &[&first], |_| {}).await.unwrap();
    assert_eq!(listener.ssl_policy.as_deref(), Some("ELBSecurityPolicy-2016-08"));
    assert_eq!(listener.certificates, Some(vec![named(&first)]));
    let arn = listener.listener_arn.unwrap();
    let input = api::AddListenerCertificatesInput {
        listener_arn: text(&arn),
        certificates: Some(vec![named(&second), named(&first)]),
    };
    world.elb.add_listener_certificates(&world.root(), input).await.unwrap();
    assert_eq!(world.shown(&arn).await, [(first.clone(), true), (second.clone(), false)]);
    let table = world.table();
    let listener = &table.balancers.values().next().unwrap().listeners[0];
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!(tls.default_certificate.0, first);
    assert_eq!(tls.certificates, [routing::CertificateId(second.clone())]);
    let certificate = &table.certificates[&tls.default_certificate];
    assert_eq!(certificate.chain_pem, "certificate of a.com\nchain");
    assert_eq!(certificate.key_pem, "key of a.com");
    let input = |arn: &str, certificate: &str| api::RemoveListenerCertificatesInput {
        listener_arn: text(arn),
        certificates: Some(vec![named(certificate)]),
    };
    refused(
        world.elb.remove_listener_certificates(&world.root(), input(&arn, &first)).await,
        "OperationNotPermitted",
        "The default certificate of a listener cannot be removed",
    );
    world.elb.remove_listener_certificates(&world.root(), input(&arn, &second)).await.unwrap();
    assert_eq!(world.shown(&arn).await, [(first, true)]);
    assert_eq!(world.table().certificates.len(), 1, "nobody shows the other any more");
}

#[tokio::test]
async fn a_listener_without_a_certificate_that_is_there_is_refused() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let known = world.certificate("a.com").await;
    let other = known.replace(":000000000000:", ":111111111111:");
    let missing = format!("Certificate '{other}' not found");
    refused(world.try_https(&balancer, &[&other], |_| {}).await, "CertificateNotFound", &missing);
    refused(
        world.try_https(&balancer, &[], |_| {}).await,
        "InvalidConfigurationRequest",
        "You must provide a list containing exactly one certificate if the listener protocol is HTTPS.",
    );
    refused(
        world.try_https(&balancer, &[&known], |it| it.ssl_policy = text("Strong")).await,
        "SSLPolicyNotFound",
        "SSL policy 'Strong' not found",
    );
    refused(
        world
            .try_https(&balancer, &[&known], |it| it.alpn_policy = Some(vec!["HTTP2Only".into()]))
            .await,
        "InvalidConfigurationRequest",
        "An ALPN policy can only be specified for listeners with the protocol TLS",
    );
    refused(
        world
            .try_https(&balancer, &[&known], |it| it.protocol = Some(api::ProtocolEnum::Http))
            .await,
        "InvalidConfigurationRequest",
        "A certificate cannot be specified for a listener with the protocol HTTP",
    );
}

#[tokio::test]
async fn a_listener_turns_from_http_to_https_and_keeps_what_is_not_said_again() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    let arn = world.listener(&balancer, 80, &group).await.listener_arn.unwrap();
    let certificate = world.certificate("a.com").await;
    let modify = |input: api::ModifyListenerInput| {
        let input = api::ModifyListenerInput { listener_arn: text(&arn), ..input };
        let world = &world;
        async move {
            let made = world.elb.modify_listener(&world.root(), input).await?;
            Ok::<_, ApiError>(made.listeners.unwrap().remove(0))
        }
    };
    let protocol = Some(api::ProtocolEnum::Https);
    refused(
        modify(api::ModifyListenerInput { protocol: protocol.clone(), ..Default::default() }).await,
        "InvalidConfigurationRequest",
        "You must provide a list containing exactly one certificate if the listener protocol is HTTPS.",
    );
    let certificates = Some(vec![named(&certificate)]);
    let ssl_policy = text("ELBSecurityPolicy-TLS13-1-2-2021-06");
    let asked =
        api::ModifyListenerInput { protocol, certificates, ssl_policy, ..Default::default() };
    modify(asked).await.unwrap();
    let shown = modify(api::ModifyListenerInput { port: Some(443), ..Default::default() }).await;
    let shown = shown.unwrap();
    assert_eq!(shown.ssl_policy.as_deref(), Some("ELBSecurityPolicy-TLS13-1-2-2021-06"));
    assert_eq!(shown.certificates, Some(vec![named(&certificate)]));
    let back =
        api::ModifyListenerInput { protocol: Some(api::ProtocolEnum::Http), ..Default::default() };
    let shown = modify(back).await.unwrap();
    assert_eq!((shown.ssl_policy, shown.certificates), (None, None));
}

#[tokio::test]
async fn a_key_is_opened_once_for_however_many_hosts() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let certificate = world.certificate("a.example").await;
    world.try_https(&balancer, &[&certificate], |_| {}).await.unwrap();
    let hosts = [1, 2].map(|number| Some(longshore_types::InstanceId::from_bytes([number; 16])));
    world.stand(&hosts).await;
    let opened = std::cell::Cell::new(0);
    let open_key = |_: &model::View, _: &AcmCertificate| {
        opened.set(opened.get() + 1);
        Some("key".to_owned())
    };
    let means =
        crate::compile::Means { open_key: &open_key, is_own: &|_| false, cookie_key: &|_| [0; 32] };
    let tables = crate::feed::tables(&world.elb.control.view(), means, Vec::new());
    assert!(hosts.iter().all(|host| tables[host].certificates.len() == 1));
    assert_eq!(opened.get(), 1);
}

#[tokio::test]
async fn a_listener_for_https_may_call_the_headers_about_tls_otherwise() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let certificate = world.certificate("a.example").await;
    let https = world.try_https(&balancer, &[&certificate], |_| {}).await.unwrap();
    let group = world.group("plain").await;
    let http = world.listener(&balancer, 80, &group).await;
    let set = async |listener: &api::Listener, what: &str, value: &str| {
        let key = format!("routing.http.request.x_amzn_{what}.header_name");
        let attribute = api::ListenerAttribute { key: text(&key), value: text(value) };
        let input = api::ModifyListenerAttributesInput {
            listener_arn: listener.listener_arn.clone(),
            attributes: Some(vec![attribute]),
        };
        world.elb.modify_listener_attributes(&world.root(), input).await
    };
    let names = || {
        let table = world.table();
        let balancer = table.balancers.values().next().unwrap();
        let listener = balancer.listeners.iter().find(|it| it.port == 443).unwrap();
        let attributes = &listener.attributes;
        (attributes.tls_version_name.clone(), attributes.tls_cipher_name.clone())
    };
    let shown = set(&https, "tls_version", "X-Version").await.unwrap().attributes.unwrap();
    let is_it = |it: &&api::ListenerAttribute| it.value.as_deref() == Some("X-Version");
    assert_eq!((shown.len(), shown.iter().filter(is_it).count()), (19, 1));
    assert_eq!(names(), (Some("X-Version".to_owned()), None));
    set(&https, "tls_version", "").await.unwrap();
    assert_eq!(names(), (None, None));
    for taken in ["Content-Length", "host", "X-Forwarded-For", "no name"] {
        let refused = set(&https, "tls_cipher_suite", taken).await.unwrap_err();
        assert_eq!(refused.code, "ValidationError", "{taken}");
    }
    // Nobody is asked for a certificate, and a connection without TLS has nothing to tell of.
    let refused = set(&https, "mtls_clientcert", "X-Certificate").await.unwrap_err();
    assert_eq!(refused.code, "InvalidConfigurationRequest");
    let refused = set(&http, "tls_version", "X-Version").await.unwrap_err();
    assert_eq!(refused.code, "InvalidConfigurationRequest");
}
