//! Attributes of balancers, target groups and listeners: one table each of what there is, its default, and what may be
//! set. A value that balancers do not act on may not be set: it is refused by its key.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use elb_api as api;
use model::elb::{Attributes, BalancerKind, ElbProtocol, GroupTargets, ShiftState, ZONAL_SHIFT};
use model::{ElbBalancer, ElbGroup, ElbListener, Index};
use store::Batch;

use crate::errors::{Refusal, invalid};
use crate::limits::ATTRIBUTES_AT_ONCE_MAX;
use crate::targets::of_group as of_targets;
use crate::{Elb, zonal};

/// What an attribute may be.
#[derive(Clone, Copy, Debug)]
enum May {
    Flag,
    /// A number from one to another.
    Number(u32, u32),
    /// 0, or a number from one to another.
    Zero(u32, u32),
    /// `off`, or a number from one to another.
    Off(u32, u32),
    Word(&'static [&'static str]),
    Text(usize),
    /// A header's value.
    Header(usize),
    /// A header's name, or none: of one that nothing else goes by.
    HeaderName(usize),
    /// What it is by default, and nothing else: what another value asks for is not there.
    Default,
}

/// An attribute: key, default, and what it may be.
type Known = (&'static str, &'static str, May);

const APPLICATION: &[Known] = &[
    ("access_logs.s3.enabled", "false", May::Flag),
    ("access_logs.s3.bucket", "", May::Text(255)),
    ("access_logs.s3.prefix", "", May::Text(255)),
    ("health_check_logs.s3.enabled", "false", May::Flag),
    ("health_check_logs.s3.bucket", "", May::Text(255)),
    ("health_check_logs.s3.prefix", "", May::Text(255)),
    ("idle_timeout.timeout_seconds", "60", May::Number(1, 4_000)),
    ("deletion_protection.enabled", "false", May::Flag),
    ("routing.http2.enabled", "true", May::Flag),
    ("routing.http.drop_invalid_header_fields.enabled", "false", May::Flag),
    ("routing.http.xff_client_port.enabled", "false", May::Flag),
    ("routing.http.preserve_host_header.enabled", "false", May::Flag),
    (
        "routing.http.xff_header_processing.mode",
        "append",
        May::Word(&["append", "preserve", "remove"]),
    ),
    ("load_balancing.cross_zone.enabled", "true", May::Default),
    (
        "routing.http.desync_mitigation_mode",
        "defensive",
        May::Word(&["monitor", "defensive", "strictest"]),
    ),
    ("client_keep_alive.seconds", "3600", May::Number(60, 604_800)),
    ("waf.fail_open.enabled", "false", May::Default),
    ("routing.http.x_amzn_tls_version_and_cipher_suite.enabled", "false", May::Flag),
    (ZONAL_SHIFT, "false", May::Flag),
    ("connection_logs.s3.enabled", "false", May::Flag),
    ("connection_logs.s3.bucket", "", May::Text(255)),
    ("connection_logs.s3.prefix", "", May::Text(255)),
];

const NETWORK: &[Known] = &[
    ("access_logs.s3.enabled", "false", May::Flag),
    ("access_logs.s3.bucket", "", May::Text(255)),
    ("access_logs.s3.prefix", "", May::Text(255)),
    ("deletion_protection.enabled", "false", May::Flag),
    ("load_balancing.cross_zone.enabled", "false", May::Flag),
    ("dns_record.client_routing_policy", "any_availability_zone", May::Default),
    (ZONAL_SHIFT, "false", May::Flag),
    ("secondary_ips.auto_assigned.per_subnet", "0", May::Default),
];

const CUT_UNHEALTHY: &str = "target_health_state.unhealthy.connection_termination.enabled";
const UNHEALTHY_DRAINING: &str = "target_health_state.unhealthy.draining_interval_seconds";

const GROUP_ALIKE: &[Known] = &[
    ("deregistration_delay.timeout_seconds", "300", May::Number(0, 3_600)),
    ("stickiness.enabled", "false", May::Flag),
    (
        "load_balancing.cross_zone.enabled",
        "use_load_balancer_configuration",
        May::Word(&["true", "false", "use_load_balancer_configuration"]),
    ),
    ("target_group_health.dns_failover.minimum_healthy_targets.count", "1", May::Off(1, 1_000)),
    (
        "target_group_health.dns_failover.minimum_healthy_targets.percentage",
        "off",
        May::Off(1, 100),
    ),
    (
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count",
        "1",
        May::Number(1, 1_000),
    ),
    (
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage",
        "off",
        May::Off(1, 100),
    ),
];

const GROUP_APPLICATION: &[Known] = &[
    ("stickiness.type", "lb_cookie", May::Word(&["lb_cookie", "app_cookie"])),
    ("stickiness.lb_cookie.duration_seconds", "86400", May::Number(1, 604_800)),
    ("stickiness.app_cookie.duration_seconds", "86400", May::Number(1, 604_800)),
    ("stickiness.app_cookie.cookie_name", "", May::Text(256)),
    (
        "load_balancing.algorithm.type",
        "round_robin",
        May::Word(&["round_robin", "least_outstanding_requests", "weighted_random"]),
    ),
    ("load_balancing.algorithm.anomaly_mitigation", "off", May::Word(&["on", "off"])),
    ("slow_start.duration_seconds", "0", May::Zero(30, 900)),
];

const GROUP_NETWORK: &[Known] = &[
    ("stickiness.type", "source_ip", May::Word(&["source_ip"])),
    ("deregistration_delay.connection_termination.enabled", "false", May::Flag),
    ("proxy_protocol_v2.enabled", "false", May::Flag),
    ("preserve_client_ip.enabled", "false", May::Default),
    (CUT_UNHEALTHY, "true", May::Flag),
    (UNHEALTHY_DRAINING, "0", May::Number(0, 360_000)),
];

const LISTENER_HTTP: &[Known] = &[
    ("routing.http.response.server.enabled", "true", May::Flag),
    ("routing.http.response.strict_transport_security.header_value", "", May::Header(1_024)),
    ("routing.http.response.access_control_allow_origin.header_value", "", May::Header(1_024)),
    ("routing.http.response.access_control_allow_methods.header_value", "", May::Header(1_024)),
    ("routing.http.response.access_control_allow_headers.header_value", "", May::Header(1_024)),
    ("routing.http.response.access_control_allow_credentials.header_value", "", May::Header(1_024)),
    ("routing.http.response.access_control_expose_headers.header_value", "", May::Header(1_024)),
    ("routing.http.response.access_control_max_age.header_value", "", May::Header(1_024)),
    ("routing.http.response.content_security_policy.header_value", "", May::Header(1_024)),
    ("routing.http.response.x_content_type_options.header_value", "", May::Header(1_024)),
    ("routing.http.response.x_frame_options.header_value", "", May::Header(1_024)),
];

/// What listeners for HTTPS have besides.
const LISTENER_HTTPS: &[Known] = &[
    ("routing.http.request.x_amzn_tls_version.header_name", "", May::HeaderName(1_024)),
    ("routing.http.request.x_amzn_tls_cipher_suite.header_name", "", May::HeaderName(1_024)),
    // No client is asked for a certificate, so that no target is told of one.
    ("routing.http.request.x_amzn_mtls_clientcert_serial_number.header_name", "", May::Default),
    ("routing.http.request.x_amzn_mtls_clientcert_issuer.header_name", "", May::Default),
    ("routing.http.request.x_amzn_mtls_clientcert_subject.header_name", "", May::Default),
    ("routing.http.request.x_amzn_mtls_clientcert_validity.header_name", "", May::Default),
    ("routing.http.request.x_amzn_mtls_clientcert_leaf.header_name", "", May::Default),
    ("routing.http.request.x_amzn_mtls_clientcert.header_name", "", May::Default),
];

const LISTENER_TCP: &[Known] = &[("tcp.idle_timeout.seconds", "350", May::Number(60, 6_000))];

/// The attributes of a thing, each with its default as it is for this one.
#[derive(Debug)]
struct Table {
    /// `Load balancer`
    what: &'static str,
    known: Vec<Known>,
    /// `load balancers with type 'network'`
    others: String,
    /// Keys that things of another type have.
    of_others: Vec<&'static str>,
}

fn of_balancer(row: &ElbBalancer) -> Table {
    let (own, other) = match row.kind {
        BalancerKind::Application => (APPLICATION, NETWORK),
        BalancerKind::Network => (NETWORK, APPLICATION),
    };
    Table {
        what: "Load balancer",
        known: own.to_vec(),
        others: format!("load balancers with type '{}'", row.kind.as_str()),
        of_others: other.iter().map(|(key, _, _)| *key).collect(),
    }
}

fn of_group(row: &ElbGroup) -> Table {
    let (own, other) = match row.protocol.kind() {
        BalancerKind::Application => (GROUP_APPLICATION, GROUP_NETWORK),
        BalancerKind::Network => (GROUP_NETWORK, GROUP_APPLICATION),
    };
    let is_datagram = matches!(row.protocol, ElbProtocol::Udp | ElbProtocol::TcpUdp);
    let is_alb = row.targets == GroupTargets::Alb;
    let known = GROUP_ALIKE.iter().chain(own).map(|(key, default, may)| match *key {
        "deregistration_delay.connection_termination.enabled" if is_datagram => {
            (*key, "true", *may)
        }
        // A balancer is told of its clients.
        "preserve_client_ip.enabled" if is_alb => (*key, "true", May::Default),
        // Of a group whose target is a balancer Amazon has nothing set.
        _ if is_alb => (*key, *default, May::Default),
        // Amazon has it that flows of datagrams cannot be ended so.
        CUT_UNHEALTHY if is_datagram => (*key, "false", May::Default),
        _ => (*key, *default, *may),
    });
    Table {
        what: "Target group",
        known: known.collect(),
        others: format!("target groups with the {} protocol", row.protocol.as_str()),
        of_others: other.iter().map(|(key, _, _)| *key).collect(),
    }
}

fn of_listener(row: &ElbListener) -> Result<Table, ApiError> {
    let known = match row.protocol {
        ElbProtocol::Http => LISTENER_HTTP.to_vec(),
        ElbProtocol::Https => [LISTENER_HTTP, LISTENER_HTTPS].concat(),
        ElbProtocol::Tcp => LISTENER_TCP.to_vec(),
        ElbProtocol::Udp | ElbProtocol::TcpUdp => vec![],
        ElbProtocol::Tls => {
            let message =
                "Listener attributes are not supported for listeners with the TLS protocol";
            return Err(Refusal::Configuration(message.to_owned()).into());
        }
    };
    Ok(Table {
        what: "Listener",
        known,
        others: format!("listeners with the {} protocol", row.protocol.as_str()),
        of_others: [LISTENER_HTTP, LISTENER_HTTPS, LISTENER_TCP]
            .concat()
            .iter()
            .map(|(key, _, _)| *key)
            .collect(),
    })
}

/// What a group's attribute is, set or not.
pub(crate) fn value_of_group<'a>(row: &'a ElbGroup, key: &str) -> &'a str {
    value(&of_group(row).known, &row.attributes, key)
}

/// For how long flows to a target of a group that has become unhealthy go on before they are ended; 0: there is no such time.
pub(crate) fn unhealthy_draining_s(row: &ElbGroup) -> u32 {
    match row.protocol.kind() {
        BalancerKind::Application => 0,
        BalancerKind::Network => value_of_group(row, UNHEALTHY_DRAINING).parse().unwrap_or(0),
    }
}

pub(crate) fn value_of_balancer<'a>(row: &'a ElbBalancer, key: &str) -> &'a str {
    value(&of_balancer(row).known, &row.attributes, key)
}

fn value<'a>(known: &[Known], set: &'a Attributes, key: &str) -> &'a str {
    let default = known.iter().find(|(of, _, _)| *of == key).map_or("", |(_, it, _)| *it);
    set.get(key).map_or(default, String::as_str)
}

/// Keys and values of everything, in the order of the table.
fn all(table: &Table, set: &Attributes) -> Vec<(String, String)> {
    let known = table.known.iter();
    known
        .map(|(key, default, _)| {
            let value = set.get(*key).cloned().unwrap_or_else(|| (*default).to_owned());
            ((*key).to_owned(), value)
        })
        .collect()
}

/// The attributes with what is given set.
fn changed(
    table: &Table,
    before: &Attributes,
    given: &[(String, String)],
) -> Result<Attributes, ApiError> {
    if ATTRIBUTES_AT_ONCE_MAX * 2 < given.len() {
        return invalid(format!(
            "Up to {ATTRIBUTES_AT_ONCE_MAX} attributes can be modified at once"
        ));
    }
    let what = table.what;
    let mut after = before.clone();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, value) in given {
        if seen.insert(key, value).is_some() {
            return invalid(format!("{what} attribute key '{key}' is specified more than once"));
        }
        let Some((_, default, may)) = table.known.iter().find(|(known, _, _)| known == key) else {
            return Err(match table.of_others.contains(&key.as_str()) {
                true => Refusal::Configuration(format!(
                    "{what} attribute key '{key}' is not supported on {}",
                    table.others
                )),
                false => {
                    Refusal::Invalid(format!("{what} attribute key '{key}' is not recognized"))
                }
            }
            .into());
        };
        check(what, key, value, default, *may)?;
        after.insert(key.clone(), value.clone());
    }
    Ok(after)
}

fn check(what: &str, key: &str, value: &str, default: &str, may: May) -> Result<(), ApiError> {
    let number = value.parse::<u32>().ok();
    let (is_good, wanted) = match may {
        May::Flag => (matches!(value, "true" | "false"), "'true' or 'false'".to_owned()),
        May::Number(min, max) => (
            number.is_some_and(|number| (min..=max).contains(&number)),
            format!("between {min} and {max}"),
        ),
        May::Zero(min, max) => (
            number.is_some_and(|number| number == 0 || (min..=max).contains(&number)),
            format!("0, or between {min} and {max}"),
        ),
        May::Off(min, max) => (
            value == "off" || number.is_some_and(|number| (min..=max).contains(&number)),
            format!("'off', or between {min} and {max}"),
        ),
        May::Word(words) => (words.contains(&value), format!("one of [{}]", words.join(", "))),
        May::Text(max) => (
            value.len() <= max && !value.contains(['\r', '\n', '\0']),
            format!("at most {max} characters"),
        ),
        May::Header(max) => (
            value.len() <= max && value.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            format!("at most {max} visible characters of ASCII"),
        ),
        May::HeaderName(max) => (
            value.len() <= max && (value.is_empty() || is_free_name(value)),
            format!("the name of a header that nothing else goes by, of at most {max} characters"),
        ),
        May::Default if value == default => (true, String::new()),
        May::Default => {
            return Err(Refusal::Unsupported(format!(
                "The value '{value}' of the attribute '{key}' is not available in this region: it can only be '{default}'"
            ))
            .into());
        }
    };
    match is_good {
        true => Ok(()),
        false => invalid(format!("{what} attribute '{key}' must be {wanted}; '{value}' is not")),
    }
}

/// Whether a header of this name may be set on requests: none that says where they go, how they are framed, or who asks.
fn is_free_name(name: &str) -> bool {
    const TAKEN: &[&str] = &[
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-amzn-trace-id",
    ];
    let name = name.to_ascii_lowercase();
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !TAKEN.contains(&name.as_str())
        && !name.starts_with("x-forwarded-")
}

/// Targets of no zone and zones that are not crossed do not go together behind application balancers.
pub(crate) fn outside_zones(target: &str) -> Refusal {
    Refusal::Configuration(format!(
        "The target '{target}' is in the Availability Zone 'all', which needs cross-zone load balancing to be turned on for the target group"
    ))
}

/// What attributes of a group must be with each other.
fn check_group(row: &ElbGroup, set: &Attributes) -> Result<(), ApiError> {
    let known = of_group(row).known;
    let of = |key| value(&known, set, key);
    let is_sticky = of("stickiness.enabled") == "true";
    if row.protocol == ElbProtocol::Tls && is_sticky {
        return invalid("You cannot enable stickiness on target groups with the TLS protocol");
    }
    if row.protocol.kind() == BalancerKind::Network {
        if of(CUT_UNHEALTHY) == "true" && of(UNHEALTHY_DRAINING) != "0" {
            return Err(Refusal::Configuration(format!(
                "The attribute '{UNHEALTHY_DRAINING}' can only be other than '0' when '{CUT_UNHEALTHY}' is 'false'"
            ))
            .into());
        }
        return Ok(());
    }
    if is_sticky && of("load_balancing.cross_zone.enabled") == "false" {
        return Err(Refusal::Configuration(
            "Stickiness cannot be enabled on target groups for which cross-zone load balancing is turned off"
                .to_owned(),
        )
        .into());
    }
    let name = of("stickiness.app_cookie.cookie_name");
    if is_sticky && of("stickiness.type") == "app_cookie" && name.is_empty() {
        return invalid("A cookie name must be specified for stickiness of the type 'app_cookie'");
    }
    if ["AWSALB", "AWSALBAPP", "AWSALBTG"].iter().any(|prefix| name.starts_with(prefix)) {
        return invalid(format!("The cookie name '{name}' is reserved"));
    }
    let algorithm = of("load_balancing.algorithm.type");
    if algorithm != "round_robin" && of("slow_start.duration_seconds") != "0" {
        return Err(Refusal::Configuration(format!(
            "Slow start mode cannot be enabled with the load balancing algorithm '{algorithm}'"
        ))
        .into());
    }
    let is_random = algorithm == "weighted_random";
    if !is_random && of("load_balancing.algorithm.anomaly_mitigation") == "on" {
        return Err(Refusal::Configuration(
            "Anomaly mitigation can only be enabled with the load balancing algorithm 'weighted_random'"
                .to_owned(),
        )
        .into());
    }
    if is_random && is_sticky {
        return Err(Refusal::Configuration(
            "Stickiness cannot be enabled with the load balancing algorithm 'weighted_random'"
                .to_owned(),
        )
        .into());
    }
    Ok(())
}

fn check_balancer(row: &ElbBalancer, set: &Attributes) -> Result<(), ApiError> {
    let known = of_balancer(row).known;
    for kind in ["access_logs", "connection_logs", "health_check_logs"] {
        let of = |what: &str| value(&known, set, &format!("{kind}.s3.{what}"));
        let (bucket, prefix) = (of("bucket"), of("prefix"));
        if of("enabled") == "true" && bucket.is_empty() {
            return invalid(format!("The attribute '{kind}.s3.bucket' must be specified"));
        }
        let is_inner = |text: &str| !text.split('/').any(|part| part == ".." || part == ".");
        if !is_inner(prefix) || !is_inner(bucket) || bucket.contains('/') {
            return invalid(format!("The attributes '{kind}.s3' name no bucket and prefix"));
        }
    }
    Ok(())
}

macro_rules! wire {
    ($pairs:expr, $shape:ident) => {
        Some(
            $pairs
                .into_iter()
                .map(|(key, value)| api::$shape { key: Some(key), value: Some(value) })
                .collect(),
        )
    };
}

macro_rules! given {
    ($attributes:expr) => {
        $attributes
            .unwrap_or_default()
            .into_iter()
            .map(|it| (it.key.unwrap_or_default(), it.value.unwrap_or_default()))
            .collect::<Vec<(String, String)>>()
    };
}

pub(crate) async fn describe_load_balancer_attributes(
    it: &Elb,
    caller: &Caller,
    input: api::DescribeLoadBalancerAttributesInput,
) -> Result<api::DescribeLoadBalancerAttributesOutput, ApiError> {
    let view = it.read(caller, "elasticloadbalancing:DescribeLoadBalancerAttributes")?;
    let row = it.balancer(&view, caller, &input.load_balancer_arn.unwrap_or_default())?;
    let pairs = all(&of_balancer(row), &row.attributes);
    Ok(api::DescribeLoadBalancerAttributesOutput {
        attributes: wire!(pairs, LoadBalancerAttribute),
    })
}

pub(crate) async fn modify_load_balancer_attributes(
    it: &Elb,
    caller: &Caller,
    input: api::ModifyLoadBalancerAttributesInput,
) -> Result<api::ModifyLoadBalancerAttributesOutput, ApiError> {
    let arn = input.load_balancer_arn.unwrap_or_default();
    let given = given!(input.attributes);
    let action = "elasticloadbalancing:ModifyLoadBalancerAttributes";
    let permission = Permission::to(action).on(arn.clone());
    let decided = it.control.change(caller, &permission, |view, _| {
        let known = it.balancer(view, caller, &arn)?;
        let table = of_balancer(known);
        let attributes = changed(&table, &known.attributes, &given)?;
        check_balancer(known, &attributes)?;
        let pairs = all(&table, &attributes);
        let mut row = ElbBalancer { attributes, ..ElbBalancer::clone(known) };
        if !row.allows_shifts() {
            row.end_shift(ShiftState::Canceled);
        }
        let row = Arc::new(row);
        let mut batch = Batch::on(view);
        if row != *known {
            batch.put(row);
        }
        Ok((batch, pairs))
    });
    Ok(api::ModifyLoadBalancerAttributesOutput {
        attributes: wire!(decided.await?, LoadBalancerAttribute),
    })
}

pub(crate) async fn describe_target_group_attributes(
    it: &Elb,
    caller: &Caller,
    input: api::DescribeTargetGroupAttributesInput,
) -> Result<api::DescribeTargetGroupAttributesOutput, ApiError> {
    let view = it.read(caller, "elasticloadbalancing:DescribeTargetGroupAttributes")?;
    let row = it.group(&view, caller, &input.target_group_arn.unwrap_or_default())?;
    let pairs = all(&of_group(row), &row.attributes);
    Ok(api::DescribeTargetGroupAttributesOutput { attributes: wire!(pairs, TargetGroupAttribute) })
}

pub(crate) async fn modify_target_group_attributes(
    it: &Elb,
    caller: &Caller,
    input: api::ModifyTargetGroupAttributesInput,
) -> Result<api::ModifyTargetGroupAttributesOutput, ApiError> {
    let arn = input.target_group_arn.unwrap_or_default();
    let given = given!(input.attributes);
    let action = "elasticloadbalancing:ModifyTargetGroupAttributes";
    let permission = Permission::to(action).on(arn.clone());
    let decided = it.control.change(caller, &permission, |view, _| {
        let known = it.group(view, caller, &arn)?;
        let table = of_group(known);
        if let Some((_, kind)) = given.iter().find(|(key, _)| key == "stickiness.type") {
            let protocol = known.protocol.as_str();
            let is_cookie = ["lb_cookie", "app_cookie"].contains(&kind.as_str());
            let is_application = known.protocol.kind() == BalancerKind::Application;
            if is_cookie != is_application && (is_cookie || kind == "source_ip") {
                return invalid(format!(
                    "Stickiness type '{kind}' is not supported for target groups with the {protocol} protocol"
                ));
            }
        }
        let attributes = changed(&table, &known.attributes, &given)?;
        check_group(known, &attributes)?;
        let pairs = all(&table, &attributes);
        let row = Arc::new(ElbGroup { attributes, ..ElbGroup::clone(known) });
        let mut batch = Batch::on(view);
        if row != *known && known.protocol.kind() == BalancerKind::Application && zonal::says_so(&row)
        {
            let mut targets = of_targets(view, caller.account, &known.path());
            if let Some(outside) = targets.find(|target| target.zone.is_none()) {
                return Err(outside_zones(&outside.id.target).into());
            }
            batch.rely(Index::ElbTargets(caller.account, known.path()));
        }
        if row != *known {
            batch.put(row);
        }
        Ok((batch, pairs))
    });
    Ok(api::ModifyTargetGroupAttributesOutput {
        attributes: wire!(decided.await?, TargetGroupAttribute),
    })
}

pub(crate) async fn describe_listener_attributes(
    it: &Elb,
    caller: &Caller,
    input: api::DescribeListenerAttributesInput,
) -> Result<api::DescribeListenerAttributesOutput, ApiError> {
    let view = it.read(caller, "elasticloadbalancing:DescribeListenerAttributes")?;
    let row = it.listener(&view, caller, &input.listener_arn.unwrap_or_default())?;
    let pairs = all(&of_listener(row)?, &row.attributes);
    Ok(api::DescribeListenerAttributesOutput { attributes: wire!(pairs, ListenerAttribute) })
}

pub(crate) async fn modify_listener_attributes(
    it: &Elb,
    caller: &Caller,
    input: api::ModifyListenerAttributesInput,
) -> Result<api::ModifyListenerAttributesOutput, ApiError> {
    let arn = input.listener_arn.unwrap_or_default();
    let given = given!(input.attributes);
    let action = "elasticloadbalancing:ModifyListenerAttributes";
    let permission = Permission::to(action).on(arn.clone());
    let decided = it.control.change(caller, &permission, |view, _| {
        let known = it.listener(view, caller, &arn)?;
        let table = of_listener(known)?;
        let attributes = changed(&table, &known.attributes, &given)?;
        let pairs = all(&table, &attributes);
        let row = Arc::new(ElbListener { attributes, ..ElbListener::clone(known) });
        let mut batch = Batch::on(view);
        if row != *known {
            batch.put(row);
        }
        Ok((batch, pairs))
    });
    Ok(api::ModifyListenerAttributesOutput { attributes: wire!(decided.await?, ListenerAttribute) })
}
