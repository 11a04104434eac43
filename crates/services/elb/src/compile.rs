//! From rows to what balancers serve by: [`table`] is a function of a view, for each host that has interfaces of balancers.
//!
//! A host is told of those balancers alone, with the certificates that they show. A group is in its table while something of
//! such a balancer forwards to it, and while targets of it drain. A target whose address or
//! port may have become somebody else's is not, nor are targets that would be checked at a port of the machine that is no
//! task's.
//!
//! **Invariant:** an address means what it means in the network by which its target is reached: one in a VPC with addresses
//! of its own is only ever told with an interface there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use longshore_types::{AccountId, InstanceId};
use model::elb::{
    BalancerKind, ElbAction, ElbAlpn, ElbCondition, ElbProtocol, ElbRewrite, GroupTargets,
    GroupVersion, ListenerTls, TargetHealth, arn,
};
use model::task::{Phase, Protocol};
use model::{
    AcmCertificate, ElbBalancer, ElbGroup, ElbListener, ElbRule, ElbTarget, Instance, View,
};
use routing::{
    AccessLogs, Action, Algorithm, Alpn, Balancer, BalancerAttributes, BalancerId, Certificate,
    CertificateId, CheckPort, CheckProtocol, ClientRule, Condition, DesyncMode, Endpoint,
    EndpointId, ForwardedFor, GroupId, HealthCheck, Interface, Kind, Listener, ListenerAttributes,
    ListenerId, ListenerProtocol, Pattern, ProtocolVersion, PublishedPort, RedirectStatus, Rewrite,
    Rule, RuleId, Scheme, SecretKey, Stickiness, Table, Target, TargetGroup, TargetKey,
    TargetProtocol, TargetState, TlsSettings, Transforms, WeightedGroup,
};
use traffic::{Peer, Traffic};

use crate::albs;
use crate::attributes::{unhealthy_draining_s, value_of_balancer, value_of_group};
use crate::listeners::of_balancer;
use crate::rules::of_listener;
use crate::targets::{is_anothers, is_checked_elsewhere, of_group, published};
use crate::ways::{Way, Ways, interfaces};
use crate::zonal::Usage;

/// Opens the private key of a certificate, in PEM; none of one that does not open.
pub type OpenKey<'a> = &'a dyn Fn(&View, &AcmCertificate) -> Option<String>;

/// Whether an instance is the region's own machine.
pub type IsOwn<'a> = &'a dyn Fn(&Instance) -> bool;

/// What a table is made of besides rows.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    pub open_key: OpenKey<'a>,
    pub is_own: IsOwn<'a>,
    /// What cookies of the balancer with an ARN are sealed with.
    pub cookie_key: &'a dyn Fn(&str) -> [u8; 32],
}

impl std::fmt::Debug for Means<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Means(…)")
    }
}

/// Everything that the process on a host must know, as of a view; none: on the region's own machine.
pub fn table(view: &View, means: &Means<'_>, host: Option<InstanceId>) -> Table {
    let is_own = means.is_own;
    let serves = |row: &&Arc<ElbBalancer>| row.zones_on(host).next().is_some();
    if host.is_some() && !view.elb_balancers.iter().any(|row| serves(&row)) {
        return Table { version: view.seq.0.max(1), ..Table::default() };
    }
    let mut ports: BTreeMap<AccountId, BTreeSet<u16>> = BTreeMap::new();
    let rows = || view.elb_balancers.iter().filter(serves);
    let balancers = rows().map(|row| {
        let balancer = balancer(view, row, means, host);
        (balancer.id.clone(), balancer)
    });
    // Another host's table has what balancers on it forward to, and those forward to groups of their own accounts alone.
    let accounts: BTreeSet<AccountId> = rows().map(|row| row.scope.account).collect();
    let of_accounts = || accounts.iter().flat_map(|account| view.elb_groups.of(*account));
    let groups: Box<dyn Iterator<Item = &Arc<ElbGroup>>> = match host {
        None => Box::new(view.elb_groups.iter()),
        Some(_) => Box::new(of_accounts()),
    };
    let groups = groups.filter_map(|row| {
        let ways = Ways::of(view, row, is_own, host);
        let is_used = ways.are_used();
        let account = row.scope.account;
        let ports = &*ports.entry(account).or_insert_with(|| published(view, account, is_own));
        let targets = of_group(view, account, &row.path()).map(|target| &**target);
        let usage = Usage::of(view, row);
        let is_strange = is_checked_elsewhere(row, ports);
        let targets = targets
            .filter(|target| !is_strange && !is_anothers(view, row, ways.own_vpc(), target, ports))
            .filter_map(|target| Some((target, ways.to(target)?)));
        let targets: Vec<(&ElbTarget, Way)> = targets.collect();
        let drains = targets.iter().any(|(target, _)| target.is_draining());
        (is_used || (drains && ways.may_hold())).then(|| {
            let is_asked = |target: &ElbTarget| is_used && usage.unused(target).is_none();
            let group = group(row, &is_asked, &targets);
            (group.id.clone(), group)
        })
    });
    Table {
        version: view.seq.0.max(1),
        balancers: balancers.collect(),
        groups: groups.collect(),
        certificates: certificates(view, rows(), means.open_key),
        endpoints: if host.is_none() { endpoints(view) } else { BTreeMap::new() },
        egress: BTreeSet::new(),
        published: published_ports(view, means.is_own, host),
    }
}

/// The ports of a machine that its agent keeps for the machine itself, and those that are chosen for tasks there: a task that finds one taken does not start, a listener finds
/// another. Those that agents choose are found to be taken.
fn published_ports(
    view: &View,
    is_own: IsOwn<'_>,
    host: Option<InstanceId>,
) -> BTreeSet<PublishedPort> {
    let its: Vec<&Arc<Instance>> = match host {
        Some(id) => view.instance_of_any(id).into_iter().collect(),
        None => view.instances.iter().filter(|row| is_own(row)).collect(),
    };
    let tasks = its.iter().flat_map(|row| view.tasks_on_instance(row.id));
    let tasks = tasks.filter(|task| task.phase < Phase::Stopped);
    let kept = its.iter().flat_map(|row| &row.reserved_ports);
    let ports = tasks.flat_map(|task| &task.need.ports).chain(kept);
    let ports =
        ports.map(|it| PublishedPort { is_datagram: it.protocol == Protocol::Udp, port: it.port });
    ports.collect()
}

/// VPC endpoints by interfaces. They are no load balancers, but served by the process of the region's own machine.
fn endpoints(view: &View) -> BTreeMap<EndpointId, Endpoint> {
    let rows = view.vpc_endpoints.iter().filter_map(|row| Some((row, row.interface()?)));
    let endpoints = rows.map(|(row, endpoint)| {
        let own_vpc = view.own_vpc(row.account, &row.vpc).map(|vpc| vpc.to_string());
        let interfaces = endpoint.zones.iter().map(|zone| Interface {
            eni: zone.eni.to_string(),
            own_vpc: own_vpc.clone(),
            address: zone.address.into(),
            subnet: zone.subnet.to_string(),
            zone: zone.zone.clone(),
            is_leaving: false,
        });
        let account = row.account.to_string();
        let endpoint = Endpoint { account, interfaces: interfaces.collect() };
        (EndpointId(row.id.to_string()), endpoint)
    });
    endpoints.collect()
}

/// Those that listeners of balancers show, by their ARNs.
fn certificates<'v>(
    view: &'v View,
    balancers: impl Iterator<Item = &'v Arc<ElbBalancer>>,
    open_key: OpenKey<'_>,
) -> BTreeMap<CertificateId, Certificate> {
    let mut shown = BTreeMap::new();
    for listener in balancers.flat_map(|row| of_balancer(view, row.scope.account, &row.path())) {
        let ids = listener.tls.iter().flat_map(ListenerTls::certificates);
        for row in ids.filter_map(|id| view.acm_certificates.get(listener.scope.account, &id)) {
            let id = CertificateId(row.arn());
            if shown.contains_key(&id) {
                continue;
            }
            let chain_pem = row.certificate.clone() + row.chain.as_deref().unwrap_or_default();
            if let Some(key_pem) = open_key(view, row) {
                shown.insert(id, Certificate { chain_pem, key_pem });
            }
        }
    }
    shown
}

fn is_on(text: &str) -> bool {
    text == "true"
}

fn number(text: &str) -> u32 {
    text.parse().unwrap_or(0)
}

fn balancer(
    view: &View,
    row: &ElbBalancer,
    means: &Means<'_>,
    host: Option<InstanceId>,
) -> Balancer {
    let listeners = of_balancer(view, row.scope.account, &row.path());
    Balancer {
        id: BalancerId(row.arn()),
        name: row.path().to_string(),
        account: row.scope.account.to_string(),
        kind: match row.kind {
            BalancerKind::Application => Kind::Application,
            BalancerKind::Network => Kind::Network,
        },
        scheme: if row.is_internal { Scheme::Internal } else { Scheme::InternetFacing },
        interfaces: interfaces(view, row, host),
        clients: clients(view, row),
        introducers: albs::introducers(view, row),
        attributes: balancer_attributes(row),
        cookie_key: Some(SecretKey((means.cookie_key)(&row.arn()))),
        listeners: listeners.map(|listener| self::listener(view, listener)).collect(),
    }
}

/// Whom the groups let in that are not in the VPC; none where there are no groups.
fn clients(view: &View, row: &ElbBalancer) -> Option<Vec<ClientRule>> {
    if row.security_groups.is_empty() {
        return None;
    }
    let account = row.scope.account;
    let groups = row.security_groups.iter().filter_map(|id| view.security_group(account, id));
    let rules = groups.flat_map(|whole| whole.compile().ingress);
    let clients = rules.filter_map(|rule| {
        let (is_datagram, ports) = match rule.traffic {
            Traffic::All => (None, 0..=u16::MAX),
            Traffic::Tcp(ports) => (Some(false), ports),
            Traffic::Udp(ports) => (Some(true), ports),
            Traffic::Icmp(_) | Traffic::Protocol(_) => return None,
        };
        match rule.peer {
            Peer::Network(range) => {
                Some(ClientRule { is_datagram, ports, from: range.to_string().parse().ok()? })
            }
            // Members are in the VPC, and come to the interfaces.
            Peer::Group(_) => None,
        }
    });
    Some(clients.collect())
}

fn balancer_attributes(row: &ElbBalancer) -> BalancerAttributes {
    let of = |key: &str| value_of_balancer(row, key);
    let cross_zone = is_on(of("load_balancing.cross_zone.enabled"));
    let away_from = row.active_shift().map(|shift| shift.away_from.clone());
    let logs = |kind: &str| {
        let of = |what: &str| of(&format!("{kind}.s3.{what}"));
        is_on(of("enabled")).then(|| AccessLogs {
            bucket: of("bucket").to_owned(),
            prefix: of("prefix").to_owned(),
        })
    };
    if row.kind == BalancerKind::Network {
        let access_logs = logs("access_logs");
        let usual = BalancerAttributes::default();
        let is_metered = true;
        return BalancerAttributes { cross_zone, away_from, access_logs, is_metered, ..usual };
    }
    BalancerAttributes {
        idle_timeout_s: number(of("idle_timeout.timeout_seconds")),
        client_keep_alive_s: number(of("client_keep_alive.seconds")),
        http2: is_on(of("routing.http2.enabled")),
        drop_invalid_header_fields: is_on(of("routing.http.drop_invalid_header_fields.enabled")),
        preserve_host_header: is_on(of("routing.http.preserve_host_header.enabled")),
        forwarded_for: match of("routing.http.xff_header_processing.mode") {
            "preserve" => ForwardedFor::Preserve,
            "remove" => ForwardedFor::Remove,
            _ => ForwardedFor::Append,
        },
        forwarded_for_port: is_on(of("routing.http.xff_client_port.enabled")),
        tls_headers: is_on(of("routing.http.x_amzn_tls_version_and_cipher_suite.enabled")),
        desync: match of("routing.http.desync_mitigation_mode") {
            "monitor" => DesyncMode::Monitor,
            "strictest" => DesyncMode::Strictest,
            _ => DesyncMode::Defensive,
        },
        cross_zone,
        away_from,
        access_logs: logs("access_logs"),
        connection_logs: logs("connection_logs"),
        health_check_logs: logs("health_check_logs"),
        is_metered: true,
        ..BalancerAttributes::default()
    }
}

fn listener(view: &View, row: &ElbListener) -> Listener {
    let mut rules: Vec<Rule> = of_listener(view, row.scope.account, &row.path())
        .iter()
        .map(|rule| self::rule(rule))
        .collect();
    rules.push(Rule {
        id: RuleId(row.default_rule_arn()),
        priority: None,
        conditions: vec![],
        transforms: Transforms::default(),
        action: action(&row.scope, &row.default_action),
    });
    Listener {
        id: ListenerId(row.arn()),
        port: row.port,
        protocol: match row.protocol {
            ElbProtocol::Http => ListenerProtocol::Http,
            ElbProtocol::Https => ListenerProtocol::Https,
            ElbProtocol::Tcp => ListenerProtocol::Tcp,
            ElbProtocol::Tls => ListenerProtocol::Tls,
            ElbProtocol::Udp => ListenerProtocol::Udp,
            ElbProtocol::TcpUdp => ListenerProtocol::TcpUdp,
        },
        tls: row.tls.as_ref().map(|tls| self::tls(row, tls)),
        rules,
        attributes: listener_attributes(row),
    }
}

fn tls(row: &ElbListener, tls: &ListenerTls) -> TlsSettings {
    let id = |id| CertificateId(model::acm::arn(&row.scope, id));
    TlsSettings {
        policy: tls.policy.clone(),
        default_certificate: id(tls.certificate),
        certificates: tls.certificates().skip(1).map(id).collect(),
        alpn: match tls.alpn {
            ElbAlpn::None => Alpn::None,
            ElbAlpn::Http1Only => Alpn::Http1Only,
            ElbAlpn::Http2Only => Alpn::Http2Only,
            ElbAlpn::Http2Optional => Alpn::Http2Optional,
            ElbAlpn::Http2Preferred => Alpn::Http2Preferred,
        },
    }
}

fn listener_attributes(row: &ElbListener) -> ListenerAttributes {
    const PREFIX: &str = "routing.http.response.";
    let usual = ListenerAttributes::default();
    let headers = row.attributes.iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(PREFIX)?.strip_suffix(".header_value")?;
        (!value.is_empty()).then(|| (name.replace('_', "-"), value.clone()))
    });
    let server = row.attributes.get("routing.http.response.server.enabled");
    let idle = row.attributes.get("tcp.idle_timeout.seconds");
    let name = |what: &str| {
        let set =
            row.attributes.get(&format!("routing.http.request.x_amzn_tls_{what}.header_name"));
        set.filter(|name| !name.is_empty() && row.protocol == ElbProtocol::Https).cloned()
    };
    ListenerAttributes {
        server_header: server.is_none_or(|value| is_on(value)),
        response_headers: headers.collect(),
        tls_version_name: name("version"),
        tls_cipher_name: name("cipher_suite"),
        tcp_idle_timeout_s: idle.map_or(usual.tcp_idle_timeout_s, |text| number(text)),
        ..usual
    }
}

fn rule(row: &ElbRule) -> Rule {
    let rewrite = |rewrite: &ElbRewrite| Rewrite {
        regex: rewrite.regex.clone(),
        replace: rewrite.replace.clone(),
    };
    Rule {
        id: RuleId(row.arn()),
        priority: Some(row.priority),
        conditions: row.conditions.iter().map(condition).collect(),
        transforms: Transforms {
            host: row.host_rewrite.as_ref().map(rewrite),
            url: row.url_rewrite.as_ref().map(rewrite),
        },
        action: action(&row.scope, &row.action),
    }
}

fn action(scope: &longshore_types::Scope, action: &ElbAction) -> Action {
    match action {
        ElbAction::Forward { groups, sticky_s } => Action::Forward {
            groups: groups
                .iter()
                .map(|each| WeightedGroup {
                    group: GroupId(arn(scope, "targetgroup", &each.group)),
                    weight: each.weight,
                    part: None,
                })
                .collect(),
            sticky_s: *sticky_s,
        },
        ElbAction::Redirect { protocol, host, port, path, query, is_permanent } => {
            Action::Redirect {
                protocol: protocol.clone(),
                host: host.clone(),
                port: port.clone(),
                path: path.clone(),
                query: query.clone(),
                status: match is_permanent {
                    true => RedirectStatus::Moved301,
                    false => RedirectStatus::Found302,
                },
            }
        }
        ElbAction::Fixed { status, content_type, body } => Action::FixedResponse {
            status: *status,
            content_type: content_type.clone(),
            body: body.clone().unwrap_or_default(),
        },
    }
}

fn condition(condition: &ElbCondition) -> Condition {
    let patterns = |values: &[String], is_regex: bool| -> Vec<Pattern> {
        let pattern = |value: &String| match is_regex {
            true => Pattern::Regex(value.clone()),
            false => Pattern::Wildcard(value.clone()),
        };
        values.iter().map(pattern).collect()
    };
    match condition {
        ElbCondition::Host { values, is_regex } => {
            Condition::HostHeader(patterns(values, *is_regex))
        }
        ElbCondition::Path { values, is_regex } => {
            Condition::PathPattern(patterns(values, *is_regex))
        }
        ElbCondition::Header { name, values, is_regex } => {
            Condition::HttpHeader { name: name.clone(), values: patterns(values, *is_regex) }
        }
        ElbCondition::Query { pairs } => Condition::QueryString(pairs.clone()),
        ElbCondition::Method { values } => Condition::HttpRequestMethod(values.clone()),
        ElbCondition::SourceIp { values } => {
            Condition::SourceIp(values.iter().filter_map(|value| value.parse().ok()).collect())
        }
    }
}

fn group(
    row: &ElbGroup,
    is_asked: &dyn Fn(&ElbTarget) -> bool,
    targets: &[(&ElbTarget, Way)],
) -> TargetGroup {
    let target = |(row, way): &(&ElbTarget, Way)| target(row, way.clone(), is_asked(row));
    let of = |key: &str| value_of_group(row, key);
    let is_application = row.protocol.kind() == BalancerKind::Application;
    TargetGroup {
        id: GroupId(row.arn()),
        protocol: match row.protocol {
            ElbProtocol::Http => TargetProtocol::Http,
            ElbProtocol::Https => TargetProtocol::Https,
            ElbProtocol::Tcp => TargetProtocol::Tcp,
            ElbProtocol::Tls => TargetProtocol::Tls,
            ElbProtocol::Udp => TargetProtocol::Udp,
            ElbProtocol::TcpUdp => TargetProtocol::TcpUdp,
        },
        version: match row.version {
            None | Some(GroupVersion::Http1) => ProtocolVersion::Http1,
            Some(GroupVersion::Http2) => ProtocolVersion::Http2,
            Some(GroupVersion::Grpc) => ProtocolVersion::Grpc,
        },
        health: check(row),
        algorithm: match of("load_balancing.algorithm.type") {
            "least_outstanding_requests" => Algorithm::LeastOutstandingRequests,
            "weighted_random" => Algorithm::WeightedRandom {
                mitigate_anomalies: of("load_balancing.algorithm.anomaly_mitigation") == "on",
            },
            _ => Algorithm::RoundRobin,
        },
        stickiness: stickiness(row),
        slow_start_s: number(of("slow_start.duration_seconds")),
        deregistration_delay_s: number(of("deregistration_delay.timeout_seconds")),
        cut_at_deregistration: is_on(of("deregistration_delay.connection_termination.enabled")),
        cut_when_unhealthy: is_application
            || is_on(of("target_health_state.unhealthy.connection_termination.enabled")),
        unhealthy_draining_s: unhealthy_draining_s(row),
        preserve_client_ip: is_on(of("preserve_client_ip.enabled")),
        // An application balancer is told of clients in any case, and every release knows this word for it.
        proxy_protocol_v2: is_on(of("proxy_protocol_v2.enabled"))
            || row.targets == GroupTargets::Alb,
        healthy_count_min: number(of(
            "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count",
        ))
        .max(1),
        healthy_percent_min: of(
            "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage",
        )
        .parse()
        .ok(),
        cross_zone: match of("load_balancing.cross_zone.enabled") {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        },
        avoids_outliers: false,
        identity: None,
        targets: targets.iter().map(target).collect(),
    }
}

fn stickiness(row: &ElbGroup) -> Stickiness {
    let of = |key: &str| value_of_group(row, key);
    if !is_on(of("stickiness.enabled")) {
        return Stickiness::Off;
    }
    match of("stickiness.type") {
        "app_cookie" => Stickiness::AppCookie {
            name: of("stickiness.app_cookie.cookie_name").to_owned(),
            seconds: number(of("stickiness.app_cookie.duration_seconds")),
        },
        "source_ip" => Stickiness::SourceIp,
        _ => Stickiness::LbCookie { seconds: number(of("stickiness.lb_cookie.duration_seconds")) },
    }
}

fn check(row: &ElbGroup) -> HealthCheck {
    let check = &row.check;
    let matcher = check.matcher.as_deref().and_then(|codes| codes.parse().ok());
    HealthCheck {
        protocol: match check.protocol {
            ElbProtocol::Http => CheckProtocol::Http,
            ElbProtocol::Https => CheckProtocol::Https,
            ElbProtocol::Tcp | ElbProtocol::Tls | ElbProtocol::Udp | ElbProtocol::TcpUdp => {
                CheckProtocol::Tcp
            }
        },
        port: check.port.map_or(CheckPort::Traffic, CheckPort::Port),
        path: check.path.clone().unwrap_or_default(),
        interval_s: check.interval_s,
        timeout_s: check.timeout_s,
        healthy_count: check.healthy_count,
        unhealthy_count: check.unhealthy_count,
        matcher: matcher.unwrap_or_default(),
    }
}

fn target(row: &ElbTarget, Way { by, at }: Way, is_asked: bool) -> Target {
    Target {
        key: TargetKey { id: row.id.target.to_string(), port: row.id.port },
        address: IpAddr::V4(at),
        by,
        zone: row.zone.clone(),
        part: 0,
        shows_identity: false,
        registered_at: row.registered_at,
        state: match row.health {
            TargetHealth::Draining { until } => TargetState::Draining { until },
            TargetHealth::Initial | TargetHealth::Healthy | TargetHealth::Unhealthy(_)
                if !is_asked =>
            {
                TargetState::Unused
            }
            TargetHealth::Initial => TargetState::Initial,
            TargetHealth::Healthy => TargetState::Healthy,
            TargetHealth::Unhealthy(_) => TargetState::Unhealthy,
        },
    }
}
