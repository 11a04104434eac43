//! What listeners with TLS show to clients: certificates of Certificate Manager, policies, and what is offered within.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use elb_api as api;
use longshore_types::{AccountId, Uuid};
use model::elb::{ElbAlpn, ElbProtocol, ListenerTls};
use model::{ElbListener, Key, View};
use store::Batch;

use crate::Elb;
use crate::errors::Refusal;
use crate::limits::CERTIFICATES_MAX;
use crate::pages::page;
use crate::policies::{POLICY_DEFAULT, check_policy};

/// What a request says of TLS.
pub(crate) struct GivenTls<'a> {
    pub(crate) certificates: Option<&'a [api::Certificate]>,
    pub(crate) policy: Option<&'a str>,
    pub(crate) alpn: Option<&'a [String]>,
    pub(crate) mutual: Option<&'a api::MutualAuthenticationAttributes>,
}

impl GivenTls<'_> {
    /// What becomes of a listener's TLS; `before` is what it had. Certificates that it shows are relied on.
    pub(crate) fn read(
        &self,
        it: &Elb,
        view: &View,
        batch: &mut Batch,
        account: AccountId,
        protocol: ElbProtocol,
        before: Option<&ListenerTls>,
    ) -> Result<Option<ListenerTls>, ApiError> {
        self.check_mutual()?;
        match protocol {
            ElbProtocol::Https | ElbProtocol::Tls => {}
            ElbProtocol::Http | ElbProtocol::Tcp | ElbProtocol::Udp | ElbProtocol::TcpUdp => {
                self.check_none(protocol)?;
                return Ok(None);
            }
        }
        let certificate = match (self.certificates.unwrap_or_default(), before) {
            ([only], _) => certificate(it, view, batch, account, only)?,
            ([], Some(before)) => before.certificate,
            _ => {
                return Err(Refusal::Configuration(format!(
                    "You must provide a list containing exactly one certificate if the listener protocol is {}.",
                    protocol.as_str()
                ))
                .into());
            }
        };
        let policy = self.policy.filter(|name| !name.is_empty());
        policy.map(check_policy).transpose()?;
        let policy_before = before.map(|before| before.policy.as_str());
        Ok(Some(ListenerTls {
            policy: policy.or(policy_before).unwrap_or(POLICY_DEFAULT).to_owned(),
            certificate,
            others: before.map(|before| before.others.clone()).unwrap_or_default(),
            alpn: match (self.alpn, before) {
                (Some(given), _) => read_alpn(protocol, given)?,
                (None, before) => before.map(|before| before.alpn).unwrap_or_default(),
            },
        }))
    }

    /// Where no certificate belongs, one is refused.
    fn check_none(&self, protocol: ElbProtocol) -> Result<(), ApiError> {
        let what = match (self.certificates, self.policy) {
            (Some([_, ..]), _) => "A certificate",
            (_, Some(name)) if !name.is_empty() => "An SSL policy",
            _ => return read_alpn(protocol, self.alpn.unwrap_or_default()).map(|_| ()),
        };
        Err(Refusal::Configuration(format!(
            "{what} cannot be specified for a listener with the protocol {}",
            protocol.as_str()
        ))
        .into())
    }

    fn check_mutual(&self) -> Result<(), ApiError> {
        let mode = self.mutual.and_then(|mutual| mutual.mode.as_deref());
        match mode.filter(|mode| *mode != "off") {
            None => Ok(()),
            Some(mode) => Err(Refusal::Unsupported(format!(
                "Mutual authentication with the mode '{mode}' is not available in this region"
            ))
            .into()),
        }
    }
}

/// One that a listener is to show.
fn certificate(
    it: &Elb,
    view: &View,
    batch: &mut Batch,
    account: AccountId,
    given: &api::Certificate,
) -> Result<Uuid, ApiError> {
    if given.is_default.is_some() {
        let message = "You cannot specify IsDefault when you name a certificate";
        return Err(Refusal::Configuration(message.to_owned()).into());
    }
    let arn = given.certificate_arn.as_deref().unwrap_or_default();
    let row = it.control.certificate(view, account, arn);
    let row = row.ok_or_else(|| Refusal::NoCertificate(arn.to_owned()))?;
    batch.rely(Key::AcmCertificate(account, row.id));
    Ok(row.id)
}

fn read_alpn(protocol: ElbProtocol, given: &[String]) -> Result<ElbAlpn, ApiError> {
    let refuse = |message: &str| Err(Refusal::Configuration(message.to_owned()).into());
    match given {
        [] => Ok(ElbAlpn::None),
        [only] => {
            let found = ElbAlpn::ALL.iter().find(|each| each.as_str() == only);
            match found {
                None => Err(Refusal::NoAlpnPolicy(only.clone()).into()),
                Some(ElbAlpn::None) => Ok(ElbAlpn::None),
                Some(_) if protocol != ElbProtocol::Tls => refuse(
                    "An ALPN policy can only be specified for listeners with the protocol TLS",
                ),
                Some(found) => Ok(*found),
            }
        }
        _ => refuse("You can specify one ALPN policy"),
    }
}

/// As answers name a listener's certificate.
pub(crate) fn render(row: &ElbListener, id: Uuid) -> api::Certificate {
    let arn = model::acm::arn(&row.scope, id);
    api::Certificate { certificate_arn: Some(arn), is_default: None }
}

pub(crate) fn alpn(row: &ElbListener) -> Option<Vec<String>> {
    let tls = row.tls.as_ref().filter(|_| row.protocol == ElbProtocol::Tls)?;
    // No policy is shown as none, or Terraform would take away with each apply what nobody asked for.
    (tls.alpn != ElbAlpn::None).then(|| vec![tls.alpn.as_str().to_owned()])
}

pub(crate) fn mutual(row: &ElbListener) -> Option<api::MutualAuthenticationAttributes> {
    (row.protocol == ElbProtocol::Https).then(|| api::MutualAuthenticationAttributes {
        mode: Some("off".to_owned()),
        ..api::MutualAuthenticationAttributes::default()
    })
}

/// The TLS of a listener, to have its certificates changed.
fn of_listener(row: &ElbListener) -> Result<ListenerTls, ApiError> {
    let missing = || {
        Refusal::Configuration(format!(
            "Certificates cannot be specified for a listener with the protocol {}",
            row.protocol.as_str()
        ))
    };
    row.tls.clone().ok_or_else(|| missing().into())
}

pub(crate) async fn add_listener_certificates(
    it: &Elb,
    caller: &Caller,
    input: api::AddListenerCertificatesInput,
) -> Result<api::AddListenerCertificatesOutput, ApiError> {
    let arn = input.listener_arn.unwrap_or_default();
    let given = input.certificates.unwrap_or_default();
    let permission = Permission::to("elasticloadbalancing:AddListenerCertificates").on(arn.clone());
    let decided = it.control.change(caller, &permission, |view, _| {
        let known = it.listener(view, caller, &arn)?;
        let mut tls = of_listener(known)?;
        let mut batch = Batch::on(view);
        let mut added = Vec::new();
        for each in &given {
            let id = certificate(it, view, &mut batch, caller.account, each)?;
            if id != tls.certificate {
                tls.others.insert(id);
            }
            added.push(render(known, id));
        }
        if CERTIFICATES_MAX < tls.others.len() {
            return Err(Refusal::TooMany("Certificates", CERTIFICATES_MAX).into());
        }
        put(&mut batch, known, tls);
        Ok((batch, added))
    });
    Ok(api::AddListenerCertificatesOutput { certificates: Some(decided.await?) })
}

fn put(batch: &mut Batch, known: &Arc<ElbListener>, tls: ListenerTls) {
    if known.tls.as_ref() != Some(&tls) {
        batch.put(ElbListener { tls: Some(tls), ..ElbListener::clone(known) });
    }
}

pub(crate) async fn remove_listener_certificates(
    it: &Elb,
    caller: &Caller,
    input: api::RemoveListenerCertificatesInput,
) -> Result<api::RemoveListenerCertificatesOutput, ApiError> {
    let arn = input.listener_arn.unwrap_or_default();
    let given = input.certificates.unwrap_or_default();
    let permission =
        Permission::to("elasticloadbalancing:RemoveListenerCertificates").on(arn.clone());
    let decided = it.control.change(caller, &permission, |view, _| {
        let known = it.listener(view, caller, &arn)?;
        let mut tls = of_listener(known)?;
        for each in &given {
            let named = each.certificate_arn.as_deref().unwrap_or_default();
            let id = model::acm::id_of(&known.scope, named);
            let id = id.ok_or_else(|| Refusal::NoCertificate(named.to_owned()))?;
            if id == tls.certificate {
                return Err(Refusal::DefaultCertificate.into());
            }
            tls.others.remove(&id);
        }
        let mut batch = Batch::on(view);
        put(&mut batch, known, tls);
        Ok((batch, ()))
    });
    decided.await?;
    Ok(api::RemoveListenerCertificatesOutput {})
}

pub(crate) async fn describe_listener_certificates(
    it: &Elb,
    caller: &Caller,
    input: api::DescribeListenerCertificatesInput,
) -> Result<api::DescribeListenerCertificatesOutput, ApiError> {
    let view = it.read(caller, "elasticloadbalancing:DescribeListenerCertificates")?;
    let row = it.listener(&view, caller, &input.listener_arn.unwrap_or_default())?;
    // The default one first, whatever its id.
    let shown = row.tls.iter().flat_map(ListenerTls::certificates).enumerate();
    let shown = shown.map(|(place, id)| {
        let named = render(row, id);
        let certificate = api::Certificate { is_default: Some(place == 0), ..named };
        (format!("{place:04}"), certificate)
    });
    let page = page(input.marker, input.page_size, shown)?;
    Ok(api::DescribeListenerCertificatesOutput {
        certificates: Some(page.items),
        next_marker: page.marker,
    })
}
