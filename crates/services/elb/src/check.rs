//! How a group's targets are checked: what requests say over the defaults, which depend on the protocol.

use aws_wire::ApiError;
use elb_api as api;
use model::elb::{ElbProtocol, GroupCheck, GroupTargets, GroupVersion};

use crate::errors::{Refusal, invalid};
use crate::listeners::read_protocol;

const PATH_MAX: usize = 1_024;

/// What CreateTargetGroup and ModifyTargetGroup say alike.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) protocol: Option<&'a api::ProtocolEnum>,
    pub(crate) port: Option<&'a str>,
    pub(crate) path: Option<&'a str>,
    pub(crate) is_enabled: Option<bool>,
    pub(crate) interval_s: Option<i32>,
    pub(crate) timeout_s: Option<i32>,
    pub(crate) healthy: Option<i32>,
    pub(crate) unhealthy: Option<i32>,
    pub(crate) matcher: Option<&'a api::Matcher>,
}

/// A number within its bounds.
fn bounded(
    given: Option<i32>,
    default: u32,
    what: &str,
    min: u32,
    max: u32,
) -> Result<u32, ApiError> {
    let Some(given) = given else { return Ok(default) };
    match u32::try_from(given) {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => invalid(format!("{what} '{given}' must be between '{min}' and '{max}'")),
    }
}

/// Reads a check over the one before, or over what a new group of the protocol has.
pub(crate) fn read(
    asked: &Asked<'_>,
    (group, targets): (ElbProtocol, GroupTargets),
    version: Option<GroupVersion>,
    before: Option<&GroupCheck>,
) -> Result<GroupCheck, ApiError> {
    if asked.is_enabled == Some(false) {
        return invalid("Health checks cannot be disabled for target groups with this target type");
    }
    let is_application = matches!(group, ElbProtocol::Http | ElbProtocol::Https);
    // A balancer that takes connections may still have nobody to pass requests to.
    let is_by_http = is_application || targets == GroupTargets::Alb;
    let usual = if is_by_http { ElbProtocol::Http } else { ElbProtocol::Tcp };
    let protocol =
        read_protocol(asked.protocol)?.or(before.map(|before| before.protocol)).unwrap_or(usual);
    let is_tcp = match protocol {
        ElbProtocol::Http | ElbProtocol::Https => false,
        ElbProtocol::Tcp if !is_by_http => true,
        ElbProtocol::Tcp | ElbProtocol::Tls | ElbProtocol::Udp | ElbProtocol::TcpUdp => {
            let name = protocol.as_str();
            return invalid(format!(
                "Health check protocol '{name}' must be one of '{}'",
                if is_by_http { "HTTP, HTTPS" } else { "HTTP, HTTPS, TCP" }
            ));
        }
    };
    // The codes and the path of a check of another kind mean nothing for this one.
    let before_alike = before.filter(|before| (before.protocol == ElbProtocol::Tcp) == is_tcp);
    let usual_timeout_s = match (is_application, protocol) {
        (true, _) => 5,
        (false, ElbProtocol::Http) => 6,
        (false, _) => 10,
    };
    let before_or = |value: fn(&GroupCheck) -> u32, default| before.map_or(default, value);
    let interval_s = bounded(
        asked.interval_s,
        before_or(|it| it.interval_s, 30),
        "Health check interval",
        5,
        300,
    )?;
    let timeout_s = bounded(
        asked.timeout_s,
        before_or(|it| it.timeout_s, usual_timeout_s),
        "Health check timeout",
        2,
        120,
    )?;
    match is_application {
        true if interval_s <= timeout_s => {
            return invalid(format!(
                "Health check timeout '{timeout_s}' must be smaller than the interval '{interval_s}'"
            ));
        }
        false if interval_s < timeout_s => {
            return invalid(format!(
                "Health check timeout '{timeout_s}' must be smaller than or equal to the interval '{interval_s}'"
            ));
        }
        true | false => {}
    }
    let healthy = before_or(|it| it.healthy_count, 5);
    let unhealthy = before_or(|it| it.unhealthy_count, 2);
    Ok(GroupCheck {
        protocol,
        port: read_port(asked.port, before)?,
        path: read_path(asked.path, is_tcp, version, before_alike)?,
        interval_s,
        timeout_s,
        healthy_count: bounded(asked.healthy, healthy, "Healthy threshold count", 2, 10)?,
        unhealthy_count: bounded(asked.unhealthy, unhealthy, "Unhealthy threshold count", 2, 10)?,
        matcher: read_matcher(asked.matcher, is_tcp, is_application, version, before_alike)?,
    })
}

fn read_port(given: Option<&str>, before: Option<&GroupCheck>) -> Result<Option<u16>, ApiError> {
    match given {
        None => Ok(before.and_then(|before| before.port)),
        Some("traffic-port") => Ok(None),
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => invalid(format!(
                "Health check port '{text}' must be 'traffic-port' or between 1 and 65535"
            )),
        },
    }
}

fn read_path(
    given: Option<&str>,
    is_tcp: bool,
    version: Option<GroupVersion>,
    before: Option<&GroupCheck>,
) -> Result<Option<String>, ApiError> {
    let given = given.filter(|path| !path.is_empty());
    match given {
        Some(_) if is_tcp => {
            let message =
                "A health check path is not supported for health checks with the protocol TCP";
            Err(Refusal::Configuration(message.to_owned()).into())
        }
        Some(path) if !path.starts_with('/') || PATH_MAX < path.len() => invalid(format!(
            "Health check path '{path}' must begin with a '/' character and have at most {PATH_MAX} characters"
        )),
        Some(path) => Ok(Some(path.to_owned())),
        None if is_tcp => Ok(None),
        None => Ok(before.and_then(|before| before.path.clone()).or_else(|| {
            let is_grpc = version == Some(GroupVersion::Grpc);
            Some(if is_grpc { "/AWS.ALB/healthcheck" } else { "/" }.to_owned())
        })),
    }
}

fn read_matcher(
    given: Option<&api::Matcher>,
    is_tcp: bool,
    is_application: bool,
    version: Option<GroupVersion>,
    before: Option<&GroupCheck>,
) -> Result<Option<String>, ApiError> {
    let is_grpc = version == Some(GroupVersion::Grpc);
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (http, grpc) = match given {
        Some(given) => (text(&given.http_code), text(&given.grpc_code)),
        None => (None, None),
    };
    if is_tcp {
        return match http.or(grpc) {
            Some(_) => {
                let message = "A matcher is not supported for health checks with the protocol TCP";
                Err(Refusal::Configuration(message.to_owned()).into())
            }
            None => Ok(None),
        };
    }
    let (own, other) = if is_grpc { (grpc, http) } else { (http, grpc) };
    if other.is_some() {
        let name = if is_grpc { "GrpcCode" } else { "HttpCode" };
        return invalid(format!("The matcher of this target group must be given as '{name}'"));
    }
    let (min, max, usual) = match (is_grpc, is_application) {
        (true, _) => (0, 99, "12"),
        (false, true) => (200, 499, "200"),
        (false, false) => (200, 599, "200-399"),
    };
    let Some(codes) = own else {
        let known = before.and_then(|before| before.matcher.clone());
        return Ok(Some(known.unwrap_or_else(|| usual.to_owned())));
    };
    let ranges = codes.parse::<routing::Matcher>().ok();
    let is_within = |matcher: &routing::Matcher| {
        matcher.0.iter().all(|(first, last)| min <= *first && *last <= max)
    };
    match ranges.filter(is_within) {
        Some(_) => Ok(Some(codes)),
        None => invalid(format!(
            "Health check matcher '{codes}' must be codes or ranges of codes between {min} and {max}"
        )),
    }
}
