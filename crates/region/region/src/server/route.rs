//! Which service, operation and protocol a request means, before anything of it is believed.

use std::borrow::Cow;

use aws_wire::ApiError;
use aws_wire::query::Form;
use aws_wire::service::{Inbound, Protocol, Service, malformed};
use http::{HeaderMap, Method};

use super::foreign::{Foreign, NO_QUEUE_OF_QUERY, no_such_queue};

/// What a request asks of the API.
#[derive(Debug)]
pub(super) struct Target {
    /// `None` if no service of ours is meant.
    pub(super) service: Option<&'static Service>,
    pub(super) protocol: Protocol,
    /// The operation's name as the request gives it.
    pub(super) operation: Result<String, ApiError>,
    /// A query's parameters.
    pub(super) form: Option<Form>,
    /// How errors are said, if it is in a form that none of our services has.
    pub(super) foreign: Option<Foreign>,
}

/// Reads headers, path and (for queries) the body.
pub(super) fn target(
    services: &[&'static Service],
    method: &Method,
    inbound: &Inbound<'_>,
) -> Target {
    let name = header(inbound.headers, "x-amz-target");
    let scoped = if name.is_none() { scoped_service(inbound) } else { None };
    if let Some(foreign) = Foreign::of(scoped.as_deref(), name) {
        return of_foreign(foreign, name);
    }
    if let Some(name) = name {
        return of_target_header(services, name, inbound.headers);
    }
    if let Some(rest) = inbound.path.strip_prefix("/service/") {
        return of_rpc_path(services, rest);
    }
    match services.iter().copied().find(|service| Some(service.name) == scoped.as_deref()) {
        Some(service) => of_service(service, method, inbound),
        None => of_nobody(services, scoped.as_deref(), inbound),
    }
}

/// The service of a request whose target header or credential scope names it.
pub(super) fn expected_service(
    services: &[&'static Service],
    headers: &HeaderMap,
    query: &str,
) -> Option<&'static Service> {
    if let Some((prefix, _)) = header(headers, "x-amz-target").and_then(|name| name.split_once('.'))
    {
        return by_prefix(services, prefix);
    }
    let inbound = Inbound { path: "/", query, headers, body: b"" };
    let scoped = scoped_service(&inbound)?;
    services.iter().copied().find(|service| service.name == scoped)
}

fn of_target_header(services: &[&'static Service], name: &str, headers: &HeaderMap) -> Target {
    let (prefix, operation) = name.split_once('.').unwrap_or(("", name));
    let is_10 = header(headers, "content-type").is_some_and(|text| text.contains("json-1.0"));
    Target {
        service: by_prefix(services, prefix),
        protocol: if is_10 { Protocol::AwsJson10 } else { Protocol::AwsJson11 },
        operation: Ok(operation.to_owned()),
        form: None,
        foreign: None,
    }
}

fn by_prefix(services: &[&'static Service], prefix: &str) -> Option<&'static Service> {
    services.iter().copied().find(|service| !prefix.is_empty() && service.target_prefix == prefix)
}

/// `/service/NAME/operation/OPERATION`
fn of_rpc_path(services: &[&'static Service], rest: &str) -> Target {
    let (name, operation) = rest.split_once("/operation/").unwrap_or((rest, ""));
    Target {
        service: by_prefix(services, name),
        protocol: Protocol::RpcV2Cbor,
        operation: Ok(operation.to_owned()),
        form: None,
        foreign: None,
    }
}

fn of_service(service: &'static Service, method: &Method, inbound: &Inbound<'_>) -> Target {
    // A service that was one of the query protocol still answers those of its clients that speak it.
    let protocol = if service.query_errors.is_empty() { service.protocol } else { Protocol::Query };
    let (operation, form) = match protocol {
        Protocol::Query | Protocol::Ec2Query => match form_of(method, inbound) {
            Ok(form) => (of_version(service, &form).and_then(|()| action(&form)), Some(form)),
            Err(error) => (Err(malformed(protocol, error)), None),
        },
        Protocol::RestJson1 => {
            let found = aws_wire::rest::find(service, method.as_str(), inbound.path, inbound.query);
            let operation = found.map(|operation| operation.name.to_owned());
            (operation.ok_or_else(|| ApiError::client("UnknownOperationException", "")), None)
        }
        Protocol::AwsJson10 | Protocol::AwsJson11 | Protocol::RpcV2Cbor => {
            (Err(ApiError::client("UnknownOperationException", "")), None)
        }
    };
    Target { service: Some(service), protocol, operation, form, foreign: None }
}

/// Refuses what is asked of another version of a service, whose actions of the same name mean other things: Classic Load
/// Balancers are version 2012-06-01 of Elastic Load Balancing. Older ones of EC2 are the same service with less in it.
fn of_version(service: &Service, form: &Form) -> Result<(), ApiError> {
    match form.get("Version") {
        Some(given) if given != service.api_version && service.protocol != Protocol::Ec2Query => {
            let shown: String = given.chars().take(32).collect();
            let message = format!(
                "The version {shown} of {} is not available in Longshore, which has version {}.",
                service.title, service.api_version
            );
            Err(ApiError::client("InvalidAction", message))
        }
        Some(_) | None => Ok(()),
    }
}

/// A request for a service that is not here, or for none at all.
fn of_nobody(services: &[&'static Service], scoped: Option<&str>, inbound: &Inbound<'_>) -> Target {
    let form = Form::parse(inbound.body).ok().filter(|form| form.get("Action").is_some());
    let version = form.as_ref().and_then(|form| form.get("Version"));
    let service = services
        .iter()
        .copied()
        .find(|service| scoped.is_none() && form.is_some() && Some(service.api_version) == version);
    let protocol = match (service, &form) {
        (Some(service), _) if service.query_errors.is_empty() => service.protocol,
        (_, Some(_)) => Protocol::Query,
        (_, None) => Protocol::AwsJson11,
    };
    let operation = match (scoped, &form) {
        (None, Some(form)) => action(form),
        (Some("sqs"), Some(form)) if form.get("Action") == Some("GetQueueUrl") => {
            Err(no_such_queue(NO_QUEUE_OF_QUERY))
        }
        _ => Err(no_such_service(scoped, protocol)),
    };
    Target { service, protocol, operation, form, foreign: None }
}

/// A request that a client makes in a form of its service's own.
fn of_foreign(foreign: Foreign, target: Option<&str>) -> Target {
    let operation = target.and_then(|target| target.split_once('.')).map(|(_, name)| name);
    Target {
        service: None,
        protocol: Protocol::AwsJson10,
        operation: Err(foreign.refusal(operation)),
        form: None,
        foreign: Some(foreign),
    }
}

fn no_such_service(scoped: Option<&str>, protocol: Protocol) -> ApiError {
    let code =
        if protocol == Protocol::Query { "InvalidAction" } else { "UnknownOperationException" };
    match scoped {
        Some(name) => {
            let name: String = name.chars().take(64).collect();
            let message = format!("The service {name} is not available in Longshore yet.");
            ApiError::client(code, message)
        }
        None => ApiError::client(code, ""),
    }
}

fn form_of(method: &Method, inbound: &Inbound<'_>) -> Result<Form, aws_wire::DecodeError> {
    let mut form = Form::parse(inbound.query.as_bytes())?;
    if method == Method::POST {
        form.add(inbound.body)?;
    }
    Ok(form)
}

fn action(form: &Form) -> Result<String, ApiError> {
    form.get("Action").map(str::to_owned).ok_or_else(|| {
        let message = "The request must contain the parameter Action";
        ApiError::client("MissingAction", message)
    })
}

/// The service that the credential scope names: `KEY/20261120/us-east-1/ecs/aws4_request`.
fn scoped_service<'a>(inbound: &Inbound<'a>) -> Option<Cow<'a, str>> {
    let scope = match header(inbound.headers, "authorization") {
        Some(text) => {
            let credential = text.split_once("Credential=")?.1;
            Cow::Borrowed(credential.split(',').next()?.trim())
        }
        None => {
            let pairs = inbound.query.split('&');
            let raw = pairs.filter_map(|pair| pair.strip_prefix("X-Amz-Credential=")).next()?;
            Cow::Owned(raw.replace("%2F", "/").replace("%2f", "/"))
        }
    };
    let mut parts = scope.rsplit('/');
    let (_, service) = (parts.next()?, parts.next()?);
    Some(Cow::Owned(service.to_owned()))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
