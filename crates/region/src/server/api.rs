//! One request of the API: read, verified, authorized, done, and answered in its own dialect.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use aws_wire::service::{Answer, Call, Inbound, Operation, Protocol, Service, error_answer};
use aws_wire::sigv4::{self, KeyMaterial, Received, SignatureError};
use aws_wire::{ApiError, Caller};
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use longshore_types::{Chain, Uuid};
use tokio::time::Instant;
use tracing::{debug, error};

use super::answer::{Body, respond};
use super::body::BodyError;
use super::route::{self, Target};
use super::{Server, Site, limits};
use crate::access::AccessKey;

/// What the log says of a request besides its answer.
#[derive(Default)]
struct Trace {
    service: &'static str,
    operation: String,
    account: String,
}

impl<S: Site> Server<S> {
    /// Answers a request of the API.
    pub(super) async fn api(&self, request: Request<Incoming>) -> Response<Body> {
        let started = Instant::now();
        let request_id = self.site.request_id();
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default();
        let expected = route::expected_service(self.site.services(), &parts.headers, query);
        let bytes_max = body_bytes_max(expected);
        let mut trace = Trace::default();
        let answer = match self.bodies.read(&parts.headers, body, bytes_max).await {
            Ok((body, _permit)) => self.answer(&parts, &body, request_id, &mut trace).await,
            Err(why) => {
                let protocol = expected.map_or(Protocol::AwsJson11, |service| service.protocol);
                let mut answer = error_answer(&unread(why), protocol, expected, request_id);
                // What is left of the body is not worth reading.
                answer.headers.push((CONNECTION, HeaderValue::from_static("close")));
                answer
            }
        };
        let (status, micros) = (answer.status, started.elapsed().as_micros());
        let Trace { service, operation, account } = trace;
        debug!(%request_id, service, operation, account, status, micros, "request answered");
        respond(answer, request_id)
    }

    async fn answer(
        &self,
        parts: &Parts,
        body: &Bytes,
        request_id: Uuid,
        trace: &mut Trace,
    ) -> Answer {
        let inbound = Inbound {
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
            body,
        };
        let target = route::target(self.site.services(), &parts.method, &inbound);
        let Target { service, protocol, foreign, .. } = target;
        let done = self.perform(parts, inbound, target, request_id, trace).await;
        done.unwrap_or_else(|failed| {
            if let Some(fault) = &failed.fault {
                let operation = trace.operation.as_str();
                error!(%request_id, operation, error = %Chain(fault.as_ref()), "request failed");
            }
            match foreign {
                Some(foreign) => foreign.answer(&failed, request_id),
                None => error_answer(&failed, protocol, service, request_id),
            }
        })
    }

    async fn perform(
        &self,
        parts: &Parts,
        inbound: Inbound<'_>,
        target: Target,
        request_id: Uuid,
        trace: &mut Trace,
    ) -> Result<Answer, ApiError> {
        let Target { service, protocol, operation, form, .. } = target;
        trace.service = service.map_or("", |service| service.name);
        let caller = self.verify(parts, inbound.body, service, protocol, request_id)?;
        trace.account = caller.account.to_string();
        let name = operation?;
        let Some(service) = service else { return Err(unknown_target(protocol, parts)) };
        trace.operation.clone_from(&name);
        let operation: &'static Operation =
            service.operation(&name).ok_or_else(|| service.unknown_operation(&name))?;
        self.site.authorize(&caller, service.name, operation.name)?;
        let call = Call { service, operation, protocol, inbound, form: form.as_ref(), request_id };
        let done = AssertUnwindSafe(self.site.dispatch(&caller, &call)).catch_unwind().await;
        done.unwrap_or_else(|panic| Err(panicked(operation.name, panic.as_ref())))
    }

    /// Who signed the request.
    fn verify(
        &self,
        parts: &Parts,
        body: &[u8],
        service: Option<&'static Service>,
        protocol: Protocol,
        request_id: Uuid,
    ) -> Result<Caller, ApiError> {
        let now = self.site.now();
        let mut found: Option<AccessKey> = None;
        let received = Received {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
            body,
        };
        let region = self.site.region_name();
        let verified = sigv4::verify(&received, region.as_str(), now, &self.signing_keys, |id| {
            found = self.site.key(id);
            found.as_ref().map(|key| KeyMaterial {
                secret: key.secret.clone(),
                session_token: key.session_token.clone(),
                expires: key.expires,
            })
        })
        .map_err(|refusal| refusal.to_api_error(protocol))?;
        if let Some(service) = service.filter(|service| service.name != verified.service) {
            return Err(wrong_scope(service, protocol));
        }
        let key = found.ok_or_else(|| SignatureError::UnknownKey.to_api_error(protocol))?;
        Ok(Caller {
            account: key.account,
            region: region.clone(),
            access_key: verified.access_key,
            principal: key.principal,
            request_id,
            now,
        })
    }

    /// Answers a request to open an agent's socket.
    pub(super) fn session(&self, request: Request<Incoming>) -> Response<Body> {
        let request_id = self.site.request_id();
        let (parts, body) = request.into_parts();
        let services = self.site.services();
        let ecs = services.iter().copied().find(|service| service.name == "ecs");
        match self.verify(&parts, b"", ecs, Protocol::AwsJson11, request_id) {
            Ok(caller) => {
                debug!(%request_id, account = %caller.account, path = parts.uri.path(), "socket asked for");
                let request = Request::from_parts(parts, body);
                let opened = Arc::clone(&self.site).session(&caller, request);
                opened.map(|text| super::answer::full(Bytes::from(text)))
            }
            Err(refusal) => {
                let answer = error_answer(&refusal, Protocol::AwsJson11, ecs, request_id);
                respond(answer, request_id)
            }
        }
    }
}

fn body_bytes_max(service: Option<&Service>) -> usize {
    match service {
        Some(service) if service.name == "ecr" => limits::LAYER_BODY_BYTES_MAX,
        _ => limits::BODY_BYTES_MAX,
    }
}

fn unread(why: BodyError) -> ApiError {
    match why {
        BodyError::TooLarge => {
            let message = "The request is larger than this operation allows.";
            ApiError::client("RequestEntityTooLargeException", message).with_status(413)
        }
        BodyError::TooSlow => {
            let message = "The request's body did not arrive in time.";
            ApiError::client("RequestTimeoutException", message).with_status(408)
        }
        BodyError::Broken => ApiError::client("IncompleteBody", "The request's body broke off."),
    }
}

fn wrong_scope(service: &Service, protocol: Protocol) -> ApiError {
    let name = service.name;
    let message = format!("Credential should be scoped to correct service: '{name}'. ");
    match protocol {
        Protocol::Query => ApiError::client("SignatureDoesNotMatch", message).with_status(403),
        Protocol::Ec2Query => ApiError::client("AuthFailure", message).with_status(401),
        _ => ApiError::client("InvalidSignatureException", message),
    }
}

/// The refusal of a signed request for a service that is not here.
fn unknown_target(protocol: Protocol, parts: &Parts) -> ApiError {
    let target = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    let target: String = target.unwrap_or_else(|| parts.uri.path()).chars().take(128).collect();
    let message = format!("{target} names no service that is available in Longshore.");
    match protocol {
        Protocol::Query | Protocol::Ec2Query => ApiError::client("InvalidAction", message),
        _ => ApiError::client("UnknownOperationException", message),
    }
}

/// The answer in place of a handler that panicked. What it said goes to the log only.
fn panicked(operation: &str, panic: &(dyn std::any::Any + Send)) -> ApiError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let source = text.unwrap_or_else(|| "a panic without a text".to_owned());
    ApiError::fault(format!("{operation} panicked"), source)
}
