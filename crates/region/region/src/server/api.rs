//! One request of the API: read, verified, authorized, done, and answered in its own dialect.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use aws_wire::service::{Answer, Call, Inbound, Operation, Protocol, Service, error_answer};
use aws_wire::sigv4::{self, Head, KeyMaterial, Received, SignatureError};
use aws_wire::{ApiError, Caller, Origin, Principal, Trail};
use bytes::Bytes;
use control::Config;
use control::access::{AccessKey, traveller};
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, CONNECTION, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body as _, Incoming};
use longshore_types::{AccountId, Chain, Uuid};
use tokio::time::Instant;
use tracing::{debug, error};

use super::answer::{Body, respond};
use super::body::{self, BodyError, RequestBody, Whole};
use super::budget::{Lease, Share};
use super::foreign::Foreign;
use super::peers::{CameTo, Guest};
use super::route::{self, Target};
use super::watched::{Trace, Watched};
use super::{
    BoxFuture, OWN_SERVICE, OWN_TARGET, ROTATE_ROOT_KEY, RegionApi, Server, balancers, limits,
};
use crate::objects;

/// A request whose body was read.
struct Asked<'a> {
    parts: &'a Parts,
    whole: Whole,
    guest: &'a Guest,
    request_id: Uuid,
    trail: Trail,
}

impl<S: RegionApi> Server<S> {
    /// Answers a request of the API.
    pub(super) async fn api(&self, guest: &Guest, request: Request<RequestBody>) -> Response<Body> {
        let started = Instant::now();
        let request_id = self.region.request_id();
        let (parts, mut body) = request.into_parts();
        let trail = self.region.trail();
        let mut watched = Watched::new(&*self.region, request_id, trail.clone());
        let answer = match self.read(guest, &parts, &mut body).await {
            Ok((whole, lease)) => {
                let trail = trail.clone();
                let asked = Asked { parts: &parts, whole, guest, request_id, trail };
                self.answer(asked, lease, &mut watched.trace).await
            }
            Err(refusal) => {
                let query = parts.uri.query().unwrap_or_default();
                let expected =
                    route::expected_service(self.region.services(), &parts.headers, query);
                let protocol = protocol_of(expected);
                let mut answer = error_answer(&refusal, protocol, expected, request_id);
                // What is left of the body is not worth reading.
                answer.headers.push((CONNECTION, HeaderValue::from_static("close")));
                answer
            }
        };
        let (status, micros) = (answer.status, started.elapsed().as_micros());
        let Trace { service, operation, account, .. } = &watched.trace;
        debug!(%request_id, service, operation, account, status, micros, "request answered");
        watched.answered(status);
        respond(answer, request_id)
    }

    /// Reads a request's body. Beyond a little of it only for who names a key that there is, and
    /// into the memory of those of whom as much is known.
    async fn read(
        &self,
        guest: &Guest,
        parts: &Parts,
        body: &mut RequestBody,
    ) -> Result<(Whole, Lease), ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        let expected = route::expected_service(self.region.services(), &parts.headers, query);
        let protocol = protocol_of(expected);
        let bytes_max = body_bytes_max(expected);
        let stated = body.size_hint().exact();
        let is_within = |max: usize| stated.is_some_and(|stated| stated <= max as u64);
        if stated.is_some() && !is_within(bytes_max) {
            return Err(unread(BodyError::TooLarge, protocol));
        }
        let is_small = is_within(limits::STRANGER_BODY_BYTES_MAX);
        let (share, refusal) = match guest.account() {
            Some(account) if is_small => (Share::Account(account), None),
            account => match self.verify_head(guest, parts) {
                Ok(named) if account == Some(named) => (Share::Account(named), None),
                Ok(_) => (Share::Claimed(guest.address()), None),
                Err(refusal) => (Share::Stranger(guest.address()), Some(refusal)),
            },
        };
        let Some(refusal) = refusal else {
            let lease = self.bodies.lease(share);
            let whole = body::read(body, bytes_max, &lease).await;
            return Ok((whole.map_err(|why| unread(why, protocol))?, lease));
        };
        // What is small is read to the end: of some requests only the body says what they are for,
        // and so in which words they are refused.
        if stated.is_some() && !is_small {
            return Err(refusal.to_api_error(protocol));
        }
        let lease = self.bodies.lease(share);
        match body::read(body, limits::STRANGER_BODY_BYTES_MAX, &lease).await {
            Ok(whole) => Ok((whole, lease)),
            Err(BodyError::TooLarge) => Err(refusal.to_api_error(protocol)),
            Err(why) => Err(unread(why, protocol)),
        }
    }

    /// Checks what can be checked of a request before its body is there.
    fn verify_head(&self, guest: &Guest, parts: &Parts) -> Result<AccountId, SignatureError> {
        let (region, now) = (self.region.region_name().as_str(), self.region.now());
        let mut found = None;
        let lookup = |id: &str, token: Option<&str>| self.look_up(id, token, &mut found);
        let received = received(parts, b"");
        let head = sigv4::verify_head(&received, region, now, &self.signing_keys, lookup)?;
        let account = found.map(|key| key.account).ok_or(SignatureError::UnknownKey)?;
        match head {
            Head::Claimed(_) => guest.claimed(),
            Head::Signed(_) => guest.verified(account),
        }
        Ok(account)
    }

    fn look_up(
        &self,
        id: &str,
        session_token: Option<&str>,
        found: &mut Option<AccessKey>,
    ) -> Option<KeyMaterial> {
        *found = self.region.key(id, session_token);
        found.as_ref().map(|key| KeyMaterial {
            secret: key.secret.clone(),
            session_token: key.session_token.clone(),
            expires: key.expires,
        })
    }

    async fn answer(&self, asked: Asked<'_>, mut lease: Lease, trace: &mut Trace) -> Answer {
        let parts = asked.parts;
        let query = parts.uri.query().unwrap_or_default();
        let expected = route::expected_service(self.region.services(), &parts.headers, query);
        let body = body::inflated(expected, &parts.headers, &asked.whole.bytes, &lease);
        let (body, unread_as) = match body {
            Ok(body) => (body, None),
            Err(why) => (Cow::Borrowed(&asked.whole.bytes[..]), Some(why)),
        };
        let (path, headers) = (parts.uri.path(), &parts.headers);
        let inbound = Inbound { path, query, headers, body: &body };
        let target = route::target(self.region.services(), &parts.method, &inbound);
        let Target { service, protocol, foreign, .. } = target;
        let request_id = asked.request_id;
        let done = match unread_as {
            Some(why) => Err(unread(why, protocol)),
            None => self.perform(&asked, inbound, target, &mut lease, trace).await,
        };
        done.unwrap_or_else(|failed| {
            if let Some(fault) = &failed.fault {
                let operation = trace.operation.as_str();
                error!(%request_id, operation, error = %Chain(fault.as_ref()), "request failed");
            }
            trace.error_code = Some(failed.code.to_string());
            if let Some(denial) = &failed.denial {
                asked.trail.denied(&denial.action, &denial.resource, &denial.decided_by);
            }
            match foreign {
                Some(foreign) => foreign.answer(&failed, request_id),
                None => error_answer(&failed, protocol, service, request_id),
            }
        })
    }

    async fn perform(
        &self,
        asked: &Asked<'_>,
        inbound: Inbound<'_>,
        target: Target,
        lease: &mut Lease,
        trace: &mut Trace,
    ) -> Result<Answer, ApiError> {
        let Target { service, protocol, operation, form, foreign } = target;
        trace.service = service.map_or("", |service| service.name);
        let own = own_operation(asked.parts);
        let is_open = |name: &String| {
            let service = service.map(|service| service.name).or(own.map(|_| OWN_SERVICE));
            is_unsigned(asked.parts)
                && service.is_some_and(|service| self.region.is_open(service, name))
        };
        let caller = if operation.as_ref().is_ok_and(is_open) {
            self.anonymous(asked)
        } else {
            let caller = self.verify(asked, service, protocol)?;
            lease.verified(caller.account);
            trace.account = caller.account.to_string();
            caller
        };
        if foreign == Some(Foreign::S3)
            && let Some(answer) = self.object(asked, &caller, trace).await
        {
            return answer;
        }
        let name = operation?;
        if let Some(endpoint) = asked.guest.endpoint() {
            let its = service.filter(|service| endpoint.has_api(service.name));
            if its.is_none() || own.is_some() {
                return Err(not_at_endpoint(endpoint, protocol));
            }
        }
        if let Some(call) = balancers::call(&asked.parts.headers, &asked.whole.bytes)?
            && let Some(done) = self.region.balancers(&caller, call)
        {
            return Ok(json_answer(balancers::text(&done.await?)?));
        }
        if let Some(own) = own
            && let Some(doing) = self.region.own(&caller, own, &asked.whole.bytes)
        {
            trace.service = OWN_SERVICE;
            own.clone_into(&mut trace.operation);
            // What is rewrapped halfway is gone on with at the next start only.
            let limit = match own {
                ROTATE_ROOT_KEY => limits::LAYER_ANSWER_WAIT_MAX,
                _ => limits::ANSWER_WAIT_MAX,
            };
            return self.bounded(own, limit, doing).await.map(|value| own_answer(&value));
        }
        let Some(service) = service else { return Err(unknown_target(protocol, asked.parts)) };
        trace.operation.clone_from(&name);
        let operation: &'static Operation =
            service.operation(&name).ok_or_else(|| service.unknown_operation(&name))?;
        self.region.authorize(&caller, service.name, operation.name)?;
        let request_id = asked.request_id;
        let call = Call { service, operation, protocol, inbound, form: form.as_ref(), request_id };
        let limit = match service.name {
            "ecr" => limits::LAYER_ANSWER_WAIT_MAX,
            _ => limits::ANSWER_WAIT_MAX,
        };
        self.bounded(operation.name, limit, self.region.dispatch(&caller, &call)).await
    }

    /// What becomes of a request of S3; `None` where the region has no store of objects.
    async fn object(
        &self,
        asked: &Asked<'_>,
        caller: &Caller,
        trace: &mut Trace,
    ) -> Option<Result<Answer, ApiError>> {
        if !self.region.has_objects() {
            return None;
        }
        if let Some(endpoint) = asked.guest.endpoint() {
            return Some(Err(not_at_endpoint(endpoint, Protocol::AwsJson11)));
        }
        let uri = &asked.parts.uri;
        let method = &asked.parts.method;
        trace.service = "s3";
        let object = match objects::Asked::read(method, uri.path(), uri.query().unwrap_or_default())
        {
            Ok(object) => object,
            Err(refusal) => return Some(Err(refusal)),
        };
        let name = object.operation();
        name.clone_into(&mut trace.operation);
        if let Err(refusal) = self.region.authorize(caller, "s3", name) {
            return Some(Err(refusal));
        }
        let doing = self.region.object(caller, &object);
        Some(self.bounded(name, limits::ANSWER_WAIT_MAX, doing).await)
    }

    /// What becomes of an operation, within its time and whether or not it panics.
    async fn bounded<T>(
        &self,
        name: &str,
        limit: Duration,
        doing: BoxFuture<'_, Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        match tokio::time::timeout(limit, AssertUnwindSafe(doing).catch_unwind()).await {
            Ok(done) => done.unwrap_or_else(|panic| Err(panicked(name, panic.as_ref()))),
            Err(late) => Err(ApiError::fault(format!("{name} did not end in time"), late)),
        }
    }

    /// Who signed the request.
    fn verify(
        &self,
        asked: &Asked<'_>,
        service: Option<&'static Service>,
        protocol: Protocol,
    ) -> Result<Caller, ApiError> {
        let Asked { parts, whole, guest, request_id, trail } = asked;
        let (region, now) = (self.region.region_name(), self.region.now());
        let mut found: Option<AccessKey> = None;
        let lookup = |id: &str, token: Option<&str>| self.look_up(id, token, &mut found);
        let received = received(parts, &whole.bytes);
        let (name, keys) = (region.as_str(), &self.signing_keys);
        let verified = sigv4::verify_hashed(&received, &whole.hash, name, now, keys, lookup)
            .map_err(|refusal| refusal.to_api_error(protocol))?;
        if let Some(service) = service.filter(|service| service.name != verified.service) {
            return Err(wrong_scope(service, protocol));
        }
        let key = found.ok_or_else(|| SignatureError::UnknownKey.to_api_error(protocol))?;
        guest.verified(key.account);
        let caller = Caller {
            account: key.account,
            region: region.clone(),
            access_key: verified.access_key,
            principal: key.principal,
            session: key.session,
            origin: origin(guest, &parts.headers, trail.clone()),
            request_id: *request_id,
            now,
        };
        trail.is_of(traveller(&caller));
        Ok(caller)
    }

    /// Somebody who signed nothing, in no account of its own.
    fn anonymous(&self, asked: &Asked<'_>) -> Caller {
        let caller = Caller {
            account: Config::root_account(),
            region: self.region.region_name().clone(),
            access_key: String::new(),
            principal: Principal::Anonymous,
            session: None,
            origin: origin(asked.guest, &asked.parts.headers, asked.trail.clone()),
            request_id: asked.request_id,
            now: self.region.now(),
        };
        asked.trail.is_of(traveller(&caller));
        caller
    }

    /// Answers a request to open an agent's socket.
    pub(super) fn session(&self, guest: &Guest, request: Request<Incoming>) -> Response<Body> {
        let request_id = self.region.request_id();
        let (parts, body) = request.into_parts();
        let services = self.region.services();
        let ecs = services.iter().copied().find(|service| service.name == "ecs");
        let (whole, trail) = (Whole::empty(), self.region.trail());
        let mut watched = Watched::new(&*self.region, request_id, trail.clone());
        watched.trace.service = "ecs";
        watched.trace.operation = match parts.uri.path() {
            sessions::TELEMETRY_PATH => "StartTelemetrySession".to_owned(),
            _ => "Poll".to_owned(),
        };
        let asked = Asked { parts: &parts, whole, guest, request_id, trail };
        let answer = match self.verify(&asked, ecs, Protocol::AwsJson11) {
            Ok(caller) => {
                debug!(%request_id, account = %caller.account, path = parts.uri.path(), "socket asked for");
                let request = Request::from_parts(parts, body);
                let opened = Arc::clone(&self.region).session(&caller, request);
                opened.map(|text| super::answer::full(Bytes::from(text)))
            }
            Err(refusal) => {
                let answer = error_answer(&refusal, Protocol::AwsJson11, ecs, request_id);
                respond(answer, request_id)
            }
        };
        watched.answered(answer.status().as_u16());
        answer
    }
}

/// Where a request came from.
pub(super) fn origin(guest: &Guest, headers: &HeaderMap, trail: Trail) -> Origin {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    let endpoint = guest.endpoint();
    Origin {
        address: Some(endpoint.map_or(guest.address(), |it| it.client)),
        is_secure: guest.is_secure(),
        user_agent: agent.map(Into::into),
        trail,
        endpoint: endpoint.map(|it| Arc::clone(&it.by)),
    }
}

fn is_unsigned(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    !parts.headers.contains_key(AUTHORIZATION) && !query.contains("X-Amz-Signature=")
}

/// The operation of a request that is for no service of Amazon's.
fn own_operation(parts: &Parts) -> Option<&str> {
    let target = parts.headers.get("x-amz-target")?.to_str().ok()?;
    target.strip_prefix(OWN_TARGET)
}

fn own_answer(value: &serde_json::Value) -> Answer {
    json_answer(value.to_string())
}

fn json_answer(text: String) -> Answer {
    Answer {
        status: 200,
        content_type: "application/x-amz-json-1.1".into(),
        headers: Vec::new(),
        body: text.into(),
    }
}

fn body_bytes_max(service: Option<&Service>) -> usize {
    match service {
        Some(service) if service.name == "ecr" => limits::LAYER_BODY_BYTES_MAX,
        _ => limits::BODY_BYTES_MAX,
    }
}

/// The protocol in which a request is refused whose body was not read.
fn protocol_of(service: Option<&Service>) -> Protocol {
    service.map_or(Protocol::AwsJson11, |service| service.protocol)
}

fn received<'a>(parts: &'a Parts, body: &'a [u8]) -> Received<'a> {
    Received {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &parts.headers,
        body,
    }
}

fn unread(why: BodyError, protocol: Protocol) -> ApiError {
    match why {
        BodyError::NoRoom => {
            let message = "Rate exceeded";
            match protocol {
                Protocol::Query => ApiError::client("Throttling", message),
                Protocol::Ec2Query => {
                    ApiError::client("RequestLimitExceeded", message).with_status(503)
                }
                Protocol::AwsJson10
                | Protocol::AwsJson11
                | Protocol::RestJson1
                | Protocol::RpcV2Cbor => ApiError::client("ThrottlingException", message),
            }
        }
        BodyError::TooLarge => {
            let message = "The request is larger than this operation allows.";
            ApiError::client("RequestEntityTooLargeException", message).with_status(413)
        }
        BodyError::TooSlow => {
            let message = "The request's body did not arrive in time.";
            ApiError::client("RequestTimeoutException", message).with_status(408)
        }
        BodyError::NotGzip => {
            let message = "The request's body is not compressed with gzip, as its Content-Encoding says it is.";
            ApiError::client("InvalidContentEncoding", message)
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
        Protocol::AwsJson10 | Protocol::AwsJson11 | Protocol::RestJson1 | Protocol::RpcV2Cbor => {
            ApiError::client("InvalidSignatureException", message)
        }
    }
}

/// The refusal of a signed request for a service that is not here.
fn unknown_target(protocol: Protocol, parts: &Parts) -> ApiError {
    let target = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    let target: String = target.unwrap_or_else(|| parts.uri.path()).chars().take(128).collect();
    let message = format!("{target} names no service that is available in Longshore.");
    match protocol {
        Protocol::Query | Protocol::Ec2Query => ApiError::client("InvalidAction", message),
        Protocol::AwsJson10 | Protocol::AwsJson11 | Protocol::RestJson1 | Protocol::RpcV2Cbor => {
            ApiError::client("UnknownOperationException", message)
        }
    }
}

/// The refusal of a request that came to the endpoint of another service.
fn not_at_endpoint(endpoint: &CameTo, protocol: Protocol) -> ApiError {
    let message = format!(
        "{} is a VPC endpoint of the service {}: others are not reached by it.",
        endpoint.by.endpoint, endpoint.service.name
    );
    match protocol {
        Protocol::Query | Protocol::Ec2Query => ApiError::client("InvalidAction", message),
        Protocol::AwsJson10 | Protocol::AwsJson11 | Protocol::RestJson1 | Protocol::RpcV2Cbor => {
            ApiError::client("UnknownOperationException", message)
        }
    }
}

/// The answer in place of a handler that panicked. What it said goes to the log only.
fn panicked(operation: &str, panic: &(dyn std::any::Any + Send)) -> ApiError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let source = text.unwrap_or_else(|| "a panic without a text".to_owned());
    ApiError::fault(format!("{operation} panicked"), source)
}
