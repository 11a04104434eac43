//! Listeners. What those with TLS have besides is in [`crate::certificates`].

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use elb_api as api;
use longshore_types::AccountId;
use model::elb::{self, Attributes, ElbAction, ElbPath, ElbProtocol};
use model::{ElbBalancer, ElbListener, Index, Key, View};
use store::Batch;

use crate::balancers::delete_rules;
use crate::certificates::GivenTls;
use crate::errors::{Refusal, invalid};
use crate::limits::{LISTENERS_MAX, NAMED_MAX};
use crate::pages::page;
use crate::rules::of_listener;
use crate::{Elb, actions, albs, certificates, tags};

pub(crate) fn read_protocol(
    given: Option<&api::ProtocolEnum>,
) -> Result<Option<ElbProtocol>, ApiError> {
    Ok(Some(match given {
        None => return Ok(None),
        Some(api::ProtocolEnum::Http) => ElbProtocol::Http,
        Some(api::ProtocolEnum::Https) => ElbProtocol::Https,
        Some(api::ProtocolEnum::Tcp) => ElbProtocol::Tcp,
        Some(api::ProtocolEnum::Tls) => ElbProtocol::Tls,
        Some(api::ProtocolEnum::Udp) => ElbProtocol::Udp,
        Some(api::ProtocolEnum::TcpUdp) => ElbProtocol::TcpUdp,
        Some(
            other @ (api::ProtocolEnum::Geneve
            | api::ProtocolEnum::Quic
            | api::ProtocolEnum::TcpQuic),
        ) => {
            let message = format!("The protocol '{other}' is not available in this region");
            return Err(Refusal::Unsupported(message).into());
        }
        Some(other) => {
            return invalid(format!(
                "1 validation error detected: Value '{other}' at 'protocol' failed to satisfy constraint: Member \
                 must satisfy enum value set: [HTTP, HTTPS, UDP, TCP, TLS, TCP_UDP]"
            ));
        }
    }))
}

pub(crate) fn read_port(given: Option<i32>, what: &str) -> Result<u16, ApiError> {
    match given.map(u16::try_from) {
        None => invalid(format!("A {what} must be specified")),
        Some(Ok(port)) if port > 0 => Ok(port),
        Some(_) => invalid(format!("The {what} must be between 1 and 65535")),
    }
}

/// What a listener of a balancer may speak.
fn check_protocol(balancer: &ElbBalancer, protocol: ElbProtocol) -> Result<(), ApiError> {
    if protocol.kind() == balancer.kind {
        return Ok(());
    }
    let allowed = match balancer.kind {
        elb::BalancerKind::Application => "HTTP, HTTPS",
        elb::BalancerKind::Network => "UDP, TCP, TLS, TCP_UDP",
    };
    invalid(format!("Listener protocol '{}' must be one of '{allowed}'", protocol.as_str()))
}

fn check_free(
    view: &View,
    balancer: &ElbBalancer,
    port: u16,
    protocol: ElbProtocol,
    but: Option<&ElbPath>,
) -> Result<(), ApiError> {
    let account = balancer.scope.account;
    let is_stream = |it: ElbProtocol| it != ElbProtocol::Udp;
    let is_datagram = |it: ElbProtocol| matches!(it, ElbProtocol::Udp | ElbProtocol::TcpUdp);
    for row in of_balancer(view, account, &balancer.path()) {
        let meets = (is_stream(protocol) && is_stream(row.protocol))
            || (is_datagram(protocol) && is_datagram(row.protocol));
        if row.port == port && meets && but != Some(&row.path()) {
            return Err(Refusal::ListenerExists(balancer.arn()).into());
        }
    }
    Ok(())
}

/// The listeners of a balancer.
pub(crate) fn of_balancer<'v>(
    view: &'v View,
    account: AccountId,
    path: &ElbPath,
) -> impl Iterator<Item = &'v Arc<ElbListener>> + use<'v> {
    view.members(&Index::ElbListeners(account, path.clone())).filter_map(move |key| match key {
        Key::ElbListener(account, path) => view.elb_listeners.get(*account, path),
        _ => None,
    })
}

pub(crate) async fn create_listener(
    it: &Elb,
    caller: &Caller,
    input: api::CreateListenerInput,
) -> Result<api::CreateListenerOutput, ApiError> {
    let tags = tags::read(input.tags.as_deref())?;
    let balancer = input.load_balancer_arn.clone().unwrap_or_default();
    let (digits, default_rule) = (it.digits(), it.digits());
    let protocol = input.protocol.as_ref().map_or_else(String::new, |it| it.as_str().to_owned());
    let permission = Permission::to("elasticloadbalancing:CreateListener")
        .on(balancer.clone())
        .with("elasticloadbalancing:ListenerProtocol", protocol)
        .with("elasticloadbalancing:SecurityPolicy", input.ssl_policy.clone().unwrap_or_default());
    let new = balancer.replacen(":loadbalancer/", ":listener/", 1) + "/*";
    let permission = permission.tagging_new(caller, "elasticloadbalancing:AddTags", new, &tags);
    let decided = it.control.change(caller, &permission, |view, _| {
        let row = it.balancer(view, caller, &balancer)?;
        let port = read_port(input.port, "listener port")?;
        let Some(protocol) = read_protocol(input.protocol.as_ref())? else {
            return invalid("A listener protocol must be specified");
        };
        check_protocol(row, protocol)?;
        check_free(view, row, port, protocol, None)?;
        let account = caller.account;
        let mut batch = Batch::on(view);
        let given = GivenTls {
            certificates: input.certificates.as_deref(),
            policy: input.ssl_policy.as_deref(),
            alpn: input.alpn_policy.as_deref(),
            mutual: input.mutual_authentication.as_ref(),
        };
        let tls = given.read(it, view, &mut batch, account, protocol, None)?;
        batch.rely(Key::ElbBalancer(account, row.path()));
        batch.rely(Index::ElbListeners(account, row.path()));
        if LISTENERS_MAX <= of_balancer(view, account, &row.path()).count() {
            return Err(Refusal::TooMany("Listeners", LISTENERS_MAX).into());
        }
        let given = input.default_actions.as_deref().unwrap_or_default();
        let read = actions::read(it, view, caller, row, protocol, given)?;
        rely_on_groups(&mut batch, account, &read.action);
        let listener = Arc::new(ElbListener {
            scope: it.control.scope(caller),
            balancer: row.path(),
            digits: digits.clone(),
            port,
            protocol,
            tls,
            default_rule: default_rule.clone(),
            default_action: read.action,
            order: read.order,
            attributes: Attributes::new(),
            tags: tags.clone(),
        });
        batch.put(Arc::clone(&listener));
        Ok((batch, listener))
    });
    Ok(api::CreateListenerOutput { listeners: Some(vec![render(&*decided.await?)]) })
}

/// That the groups stay, and that no other balancer takes them meanwhile.
pub(crate) fn rely_on_groups(batch: &mut Batch, account: AccountId, action: &ElbAction) {
    for each in action.groups() {
        batch.rely(Key::ElbGroup(account, Arc::clone(&each.group)));
        batch.rely(Index::ElbUsers(account, Arc::clone(&each.group)));
    }
}

pub(crate) fn render(row: &ElbListener) -> api::Listener {
    api::Listener {
        listener_arn: Some(row.arn()),
        load_balancer_arn: Some(elb::arn(&row.scope, "loadbalancer", &row.balancer)),
        port: Some(i32::from(row.port)),
        protocol: Some(row.protocol.as_str().into()),
        certificates: row.tls.as_ref().map(|tls| vec![certificates::render(row, tls.certificate)]),
        ssl_policy: row.tls.as_ref().map(|tls| tls.policy.clone()),
        alpn_policy: certificates::alpn(row),
        mutual_authentication: certificates::mutual(row),
        default_actions: Some(actions::render(&row.scope, &row.default_action, row.order)),
    }
}

pub(crate) async fn describe_listeners(
    it: &Elb,
    caller: &Caller,
    input: api::DescribeListenersInput,
) -> Result<api::DescribeListenersOutput, ApiError> {
    let view = it.read(caller, "elasticloadbalancing:DescribeListeners")?;
    let arns = input.listener_arns.unwrap_or_default();
    if NAMED_MAX < arns.len() {
        return invalid(format!("Up to {NAMED_MAX} listeners can be described at once"));
    }
    let mut rows: Vec<&Arc<ElbListener>> = Vec::new();
    match (&input.load_balancer_arn, arns.is_empty()) {
        (None, true) => {
            return invalid("You must specify either listener ARNs or a load balancer ARN");
        }
        (Some(_), false) => {
            return invalid("Listener ARNs and a load balancer ARN cannot be specified together");
        }
        (Some(arn), true) => {
            let balancer = it.balancer(&view, caller, arn)?;
            rows.extend(of_balancer(&view, caller.account, &balancer.path()));
        }
        (None, false) => {
            for arn in &arns {
                let found = it.listener(&view, caller, arn);
                rows.push(found.map_err(|_| Refusal::NoListeners)?);
            }
        }
    }
    rows.sort_by_key(|row| row.path());
    rows.dedup_by_key(|row| row.path());
    let rows = rows.into_iter().map(|row| (row.path(), render(row)));
    let page = page(input.marker, input.page_size, rows)?;
    Ok(api::DescribeListenersOutput { listeners: Some(page.items), next_marker: page.marker })
}

pub(crate) async fn modify_listener(
    it: &Elb,
    caller: &Caller,
    input: api::ModifyListenerInput,
) -> Result<api::ModifyListenerOutput, ApiError> {
    let arn = input.listener_arn.clone().unwrap_or_default();
    let mut permission = Permission::to("elasticloadbalancing:ModifyListener").on(arn.clone());
    if let Some(protocol) = &input.protocol {
        permission = permission.with("elasticloadbalancing:ListenerProtocol", protocol.to_string());
    }
    if let Some(policy) = &input.ssl_policy {
        permission = permission.with("elasticloadbalancing:SecurityPolicy", policy.clone());
    }
    let decided = it.control.change(caller, &permission, |view, _| {
        let known = it.listener(view, caller, &arn)?;
        let account = caller.account;
        let balancer = view.elb_balancers.get(account, &known.balancer);
        let Some(balancer) = balancer else {
            return Err(Refusal::NoListener(arn.clone()).into());
        };
        let mut batch = Batch::on(view);
        let mut row = ElbListener::clone(known);
        if let Some(port) = input.port {
            row.port = read_port(Some(port), "listener port")?;
        }
        if let Some(protocol) = read_protocol(input.protocol.as_ref())? {
            check_protocol(balancer, protocol)?;
            row.protocol = protocol;
        }
        let given = GivenTls {
            certificates: input.certificates.as_deref(),
            policy: input.ssl_policy.as_deref(),
            alpn: input.alpn_policy.as_deref(),
            mutual: input.mutual_authentication.as_ref(),
        };
        row.tls = given.read(it, view, &mut batch, account, row.protocol, known.tls.as_ref())?;
        check_free(view, balancer, row.port, row.protocol, Some(&known.path()))?;
        if row.port != known.port {
            albs::check_left(view, &mut batch, (account, &known.balancer), known.port)?;
        }
        batch.rely(Index::ElbListeners(account, balancer.path()));
        if let Some(given) = input.default_actions.as_deref().filter(|given| !given.is_empty()) {
            let read = actions::read(it, view, caller, balancer, row.protocol, given)?;
            rely_on_groups(&mut batch, account, &read.action);
            (row.default_action, row.order) = (read.action, read.order);
        }
        if row.protocol != known.protocol {
            let rules = of_listener(view, account, &row.path());
            let rules = rules.iter().map(|rule| &rule.action);
            for action in std::iter::once(&row.default_action).chain(rules) {
                actions::check(view, caller, balancer, row.protocol, action)?;
            }
        }
        let row = Arc::new(row);
        if row != *known {
            batch.put(Arc::clone(&row));
        }
        Ok((batch, row))
    });
    Ok(api::ModifyListenerOutput { listeners: Some(vec![render(&*decided.await?)]) })
}

pub(crate) async fn delete_listener(
    it: &Elb,
    caller: &Caller,
    input: api::DeleteListenerInput,
) -> Result<api::DeleteListenerOutput, ApiError> {
    let arn = input.listener_arn.unwrap_or_default();
    let permission = Permission::to("elasticloadbalancing:DeleteListener").on(arn.clone());
    let account = caller.account;
    let decided = it.control.change(caller, &permission, |view, _| {
        let row = it.listener(view, caller, &arn)?;
        let mut batch = Batch::on(view);
        albs::check_left(view, &mut batch, (account, &row.balancer), row.port)?;
        delete_rules(view, &mut batch, account, &row.path());
        batch.delete(Key::ElbListener(account, row.path()));
        Ok((batch, ()))
    });
    decided.await?;
    Ok(api::DeleteListenerOutput {})
}
