//! Actions of listeners and rules: read from requests, checked against the account's groups, and rendered in both of
//! the forms that AWS answers them in.

use aws_wire::{ApiError, Caller};
use elb_api as api;
use model::elb::{
    ElbAction, ElbPath, ElbProtocol, GroupVersion, WeightedGroup, arn, balancer_path,
};
use model::{ElbBalancer, Index, Key, View};

use crate::Elb;
use crate::errors::{Refusal, invalid};
use crate::limits::{GROUPS_OF_ACTION_MAX, WEIGHT_MAX};

const REDIRECT_TEXT_MAX: usize = 128;
const BODY_MAX: usize = 1_024;
const STICKY_S_MAX: i32 = 604_800;
const CONTENT_TYPES: &[&str] =
    &["text/plain", "text/css", "text/html", "application/javascript", "application/json"];

/// An action, and its `Order` as it was sent.
pub(crate) struct Read {
    pub(crate) action: ElbAction,
    pub(crate) order: Option<i32>,
}

/// Reads the actions of a listener of `protocol` or of one of its rules.
pub(crate) fn read(
    it: &Elb,
    view: &View,
    caller: &Caller,
    balancer: &ElbBalancer,
    protocol: ElbProtocol,
    given: &[api::Action],
) -> Result<Read, ApiError> {
    let action = match given {
        [] => return invalid("An action must be specified"),
        [action] => action,
        many => {
            if let Some(identity) = many.iter().find_map(identity) {
                return Err(identity);
            }
            let message = "You must specify exactly one of these actions: forward, redirect or fixed-response";
            return Err(Refusal::Action(message.to_owned()).into());
        }
    };
    if let Some(identity) = identity(action) {
        return Err(identity);
    }
    if action.order.is_some_and(|order| !(1..=50_000).contains(&order)) {
        return invalid("An action's order must be between 1 and 50000");
    }
    let is_application = protocol.kind() == model::elb::BalancerKind::Application;
    let read = match action.r#type.as_ref() {
        Some(api::ActionTypeEnum::Forward) => {
            forward(it, view, caller, balancer, protocol, action)?
        }
        Some(api::ActionTypeEnum::Redirect) if is_application => redirect(action, protocol)?,
        Some(api::ActionTypeEnum::FixedResponse) if is_application => fixed(action)?,
        Some(other) => {
            let message = format!("The action type '{other}' is not valid for this listener");
            return Err(Refusal::Action(message).into());
        }
        None => return invalid("An action type must be specified"),
    };
    Ok(Read { action: read, order: action.order })
}

/// Why an action is refused that needs an identity provider.
fn identity(action: &api::Action) -> Option<ApiError> {
    match action.r#type.as_ref()? {
        api::ActionTypeEnum::AuthenticateOidc
        | api::ActionTypeEnum::AuthenticateCognito
        | api::ActionTypeEnum::JwtValidation => {
            let name = action.r#type.as_ref().map_or("", |it| it.as_str());
            let message = format!(
                "The action type '{name}' is not available in this region: its load balancers ask no identity provider"
            );
            Some(Refusal::Action(message).into())
        }
        _ => None,
    }
}

fn forward(
    it: &Elb,
    view: &View,
    caller: &Caller,
    balancer: &ElbBalancer,
    protocol: ElbProtocol,
    action: &api::Action,
) -> Result<ElbAction, ApiError> {
    let config = action.forward_config.as_ref();
    let listed = config.and_then(|config| config.target_groups.as_deref()).unwrap_or_default();
    let mut groups: Vec<WeightedGroup> = Vec::new();
    let single = action.target_group_arn.as_ref().filter(|arn| !arn.is_empty());
    match (listed, single) {
        ([], None) => return invalid("A target group ARN must be specified"),
        ([], Some(arn)) => groups.push(weighted(it, view, caller, arn, 1)?),
        (listed, single) => {
            for each in listed {
                let Some(arn) = &each.target_group_arn else {
                    return invalid("A target group ARN must be specified");
                };
                let weight = each.weight.unwrap_or(1);
                if !(0..=WEIGHT_MAX).contains(&weight) {
                    return invalid(format!(
                        "The weight '{weight}' of a target group must be between 0 and {WEIGHT_MAX}"
                    ));
                }
                groups.push(weighted(it, view, caller, arn, weight)?);
            }
            // Both forms may be given if they say the same.
            let is_same = |arn: &String| {
                let [only] = groups.as_slice() else { return false };
                it.group(view, caller, arn).is_ok_and(|group| group.path() == only.group)
            };
            if single.is_some_and(|arn| !is_same(arn)) {
                return invalid(
                    "You cannot specify a target group ARN that differs from those of the forward configuration",
                );
            }
        }
    }
    if GROUPS_OF_ACTION_MAX < groups.len() {
        return Err(Refusal::TooMany("target groups of an action", GROUPS_OF_ACTION_MAX).into());
    }
    let mut paths: Vec<&ElbPath> = groups.iter().map(|each| &each.group).collect();
    paths.sort();
    if paths.windows(2).any(|pair| pair[0] == pair[1]) {
        return invalid("Target groups in a forward action must be unique");
    }
    for each in &groups {
        check_group(view, caller, balancer, protocol, &each.group)?;
    }
    let sticky = config.and_then(|config| config.target_group_stickiness_config.as_ref());
    let sticky_s = match sticky.filter(|sticky| sticky.enabled == Some(true)) {
        None => None,
        Some(sticky) => match sticky.duration_seconds {
            Some(seconds @ 1..=STICKY_S_MAX) => u32::try_from(seconds).ok(),
            Some(_) | None => {
                return invalid(format!(
                    "The duration of target group stickiness must be between 1 and {STICKY_S_MAX} seconds"
                ));
            }
        },
    };
    Ok(ElbAction::Forward { groups, sticky_s })
}

/// That what an action does is to be had behind a listener of another protocol than before.
pub(crate) fn check(
    view: &View,
    caller: &Caller,
    balancer: &ElbBalancer,
    protocol: ElbProtocol,
    action: &ElbAction,
) -> Result<(), ApiError> {
    match action {
        ElbAction::Forward { groups, .. } => groups
            .iter()
            .try_for_each(|each| check_group(view, caller, balancer, protocol, &each.group)),
        ElbAction::Redirect { protocol: to, .. }
            if to == "HTTP" && protocol == ElbProtocol::Https =>
        {
            invalid("A redirect from HTTPS to HTTP is not allowed")
        }
        ElbAction::Redirect { .. } | ElbAction::Fixed { .. } => Ok(()),
    }
}

fn weighted(
    it: &Elb,
    view: &View,
    caller: &Caller,
    arn: &str,
    weight: i32,
) -> Result<WeightedGroup, ApiError> {
    let group = it.group(view, caller, arn)?.path();
    Ok(WeightedGroup { group, weight: u32::try_from(weight).unwrap_or(0) })
}

/// That a group can be behind a listener of the protocol, is in the balancer's VPC, and is behind no other balancer.
pub(crate) fn check_group(
    view: &View,
    caller: &Caller,
    balancer: &ElbBalancer,
    protocol: ElbProtocol,
    path: &ElbPath,
) -> Result<(), ApiError> {
    let Some(group) = view.elb_groups.get(caller.account, path) else { return Ok(()) };
    let is_compatible = match protocol {
        ElbProtocol::Http | ElbProtocol::Https => {
            matches!(group.protocol, ElbProtocol::Http | ElbProtocol::Https)
        }
        ElbProtocol::Tcp => matches!(group.protocol, ElbProtocol::Tcp | ElbProtocol::TcpUdp),
        ElbProtocol::Tls => matches!(group.protocol, ElbProtocol::Tcp | ElbProtocol::Tls),
        ElbProtocol::Udp => matches!(group.protocol, ElbProtocol::Udp | ElbProtocol::TcpUdp),
        ElbProtocol::TcpUdp => group.protocol == ElbProtocol::TcpUdp,
    };
    if !is_compatible {
        let message = format!(
            "The target group '{}' has the protocol {}, which a listener with the protocol {} cannot forward to",
            group.arn(),
            group.protocol.as_str(),
            protocol.as_str()
        );
        return Err(ApiError::client("IncompatibleProtocols", message));
    }
    let version = group.version.filter(|version| *version != GroupVersion::Http1);
    if let Some(version) = version.filter(|_| protocol == ElbProtocol::Http) {
        let message = format!(
            "Listener protocol 'HTTP' is not supported with a target group with the protocol-version setting '{}'",
            version.as_str()
        );
        return Err(Refusal::Configuration(message).into());
    }
    if group.vpc != balancer.vpc {
        let (group, balancer) = (group.arn(), balancer.arn());
        let message =
            format!("Target group '{group}' is in a different VPC than load balancer '{balancer}'");
        return Err(Refusal::Configuration(message).into());
    }
    let own = balancer.path();
    let is_others = users(view, caller, path).any(|user| balancer_path(&user) != &*own);
    match is_others {
        true => Err(Refusal::GroupTaken(group.arn()).into()),
        false => Ok(()),
    }
}

/// The paths of listeners and rules that forward to a group.
pub(crate) fn users<'v>(
    view: &'v View,
    caller: &Caller,
    group: &ElbPath,
) -> impl Iterator<Item = ElbPath> + use<'v> {
    view.members(&Index::ElbUsers(caller.account, group.clone())).filter_map(|key| match key {
        Key::ElbListener(_, path) | Key::ElbRule(_, path) => Some(path.clone()),
        _ => None,
    })
}

fn redirect(action: &api::Action, listener: ElbProtocol) -> Result<ElbAction, ApiError> {
    let Some(config) = &action.redirect_config else {
        return invalid("A RedirectConfig must be specified with 'redirect'");
    };
    let is_permanent = match config.status_code.as_ref() {
        Some(api::RedirectActionStatusCodeEnum::Http301) => true,
        Some(api::RedirectActionStatusCodeEnum::Http302) => false,
        Some(_) | None => {
            return invalid("The status code of a redirect must be one of [HTTP_301, HTTP_302]");
        }
    };
    let part =
        |given: &Option<String>, default: &str| given.clone().unwrap_or_else(|| default.to_owned());
    let protocol = part(&config.protocol, "#{protocol}");
    let host = part(&config.host, "#{host}");
    let port = part(&config.port, "#{port}");
    let path = part(&config.path, "/#{path}");
    let query = part(&config.query, "#{query}");
    if !["HTTP", "HTTPS", "#{protocol}"].contains(&protocol.as_str()) {
        return invalid(format!(
            "The redirect protocol '{protocol}' must be one of [HTTP, HTTPS, #{{protocol}}]"
        ));
    }
    if protocol == "HTTP" && listener == ElbProtocol::Https {
        return invalid("A redirect from HTTPS to HTTP is not allowed");
    }
    let is_port = port == "#{port}" || port.parse::<u16>().is_ok_and(|port| port > 0);
    if !is_port {
        return invalid(format!(
            "The redirect port '{port}' must be between 1 and 65535 or #{{port}}"
        ));
    }
    if !path.starts_with('/') {
        return invalid(format!("The redirect path '{path}' must begin with '/'"));
    }
    for (what, text) in [("host", &host), ("path", &path), ("query", &query)] {
        if REDIRECT_TEXT_MAX < text.len() {
            return invalid(format!(
                "The redirect {what} is too long; the limit is '{REDIRECT_TEXT_MAX}'"
            ));
        }
    }
    let is_loop =
        protocol == "#{protocol}" && host == "#{host}" && port == "#{port}" && path == "/#{path}";
    if is_loop {
        let message = "A redirect must change at least one of protocol, host, port and path, or it would loop";
        return Err(Refusal::Action(message.to_owned()).into());
    }
    Ok(ElbAction::Redirect { protocol, host, port, path, query, is_permanent })
}

fn fixed(action: &api::Action) -> Result<ElbAction, ApiError> {
    let Some(config) = &action.fixed_response_config else {
        return invalid("A FixedResponseConfig must be specified with 'fixed-response'");
    };
    let code = config.status_code.clone().unwrap_or_default();
    let status = match code.as_bytes() {
        [b'2' | b'4' | b'5', _, _] => code.parse::<u16>().ok(),
        _ => None,
    };
    let Some(status) = status else {
        return invalid(format!(
            "The status code '{code}' of a fixed response must be 2XX, 4XX or 5XX"
        ));
    };
    if config.message_body.as_ref().is_some_and(|body| BODY_MAX < body.len()) {
        return invalid(format!("The message body is too long; the limit is '{BODY_MAX}'"));
    }
    let kind = config.content_type.clone().filter(|kind| !kind.is_empty());
    if let Some(kind) = kind.as_ref().filter(|kind| !CONTENT_TYPES.contains(&kind.as_str())) {
        let message = format!(
            "The content type '{kind}' of a fixed response must be one of {CONTENT_TYPES:?}"
        );
        return Err(Refusal::Action(message).into());
    }
    Ok(ElbAction::Fixed { status, content_type: kind, body: config.message_body.clone() })
}

/// As answers show it: a forward to one group in both forms, one to several in the longer.
pub(crate) fn render(
    scope: &longshore_types::Scope,
    action: &ElbAction,
    order: Option<i32>,
) -> Vec<api::Action> {
    let base = api::Action { order, ..api::Action::default() };
    let rendered = match action {
        ElbAction::Forward { groups, sticky_s } => {
            let arn_of = |each: &WeightedGroup| arn(scope, "targetgroup", &each.group);
            let tuples = groups.iter().map(|each| api::TargetGroupTuple {
                target_group_arn: Some(arn_of(each)),
                weight: i32::try_from(each.weight).ok(),
            });
            let single = match groups.as_slice() {
                [only] => Some(arn_of(only)),
                _ => None,
            };
            api::Action {
                r#type: Some(api::ActionTypeEnum::Forward),
                target_group_arn: single,
                forward_config: Some(api::ForwardActionConfig {
                    target_groups: Some(tuples.collect()),
                    target_group_stickiness_config: Some(api::TargetGroupStickinessConfig {
                        enabled: Some(sticky_s.is_some()),
                        duration_seconds: sticky_s.and_then(|it| i32::try_from(it).ok()),
                    }),
                }),
                ..base
            }
        }
        ElbAction::Redirect { protocol, host, port, path, query, is_permanent } => api::Action {
            r#type: Some(api::ActionTypeEnum::Redirect),
            redirect_config: Some(api::RedirectActionConfig {
                protocol: Some(protocol.clone()),
                port: Some(port.clone()),
                host: Some(host.clone()),
                path: Some(path.clone()),
                query: Some(query.clone()),
                status_code: Some(match is_permanent {
                    true => api::RedirectActionStatusCodeEnum::Http301,
                    false => api::RedirectActionStatusCodeEnum::Http302,
                }),
            }),
            ..base
        },
        ElbAction::Fixed { status, content_type, body } => api::Action {
            r#type: Some(api::ActionTypeEnum::FixedResponse),
            fixed_response_config: Some(api::FixedResponseActionConfig {
                message_body: body.clone(),
                status_code: Some(status.to_string()),
                content_type: content_type.clone(),
            }),
            ..base
        },
    };
    vec![rendered]
}
