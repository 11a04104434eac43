//! A request on its way to a target, and the answer on its way back.
//!
//! A request is offered to another target only if not a byte of it can have reached the first: the connection was
//! refused, or the kept one had ended before the request was written. A request that changes nothing and has no body
//! is also sent again when a kept connection ended without a byte of answer.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, SET_COOKIE, TE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use longshore_types::Timestamp;
use routing::{
    Action, CompiledRule, GroupId, ProtocolVersion, RuleId, Rules, Stickiness, TargetProtocol,
    WeightedGroup, choose, forwarded, without_port,
};
use tracing::debug;

use super::answers::{self, Failure};
use super::body::{AnswerBody, Relay, RequestBody};
use super::handle::{Turn, Unanswered};
use super::{cookies, headers, tunnel};
use crate::limits::{PATIENCE_PAUSE, TRIES_MAX};
use crate::live::LiveGroup;
use crate::pool::{self, ConnectError, Http1};
use crate::target::{Lease, LiveTarget};
use crate::tls::Meeting;

/// The answer of a target, with what it holds.
struct Answered {
    response: Response<Incoming>,
    lease: Lease,
    sender: Option<Http1>,
}

/// How an attempt ended that brought no answer.
enum Missed {
    /// Nothing reached the target: another may be asked.
    Unsent(Box<Request<RequestBody>>, Failure),
    /// It may have been begun.
    Lost(Failure),
}

pub(super) async fn forward(
    turn: &mut Turn<'_>,
    rule: &CompiledRule,
    groups: &[WeightedGroup],
    sticky_s: Option<u32>,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Unanswered> {
    let shared = &turn.client.shared;
    let now = shared.clock.now();
    let rule_id = rule.rule.id.0.as_str();
    let kept = sticky_s.and_then(|seconds| {
        let cookie = cookies::value(request.headers(), cookies::GROUP_CORS)
            .or_else(|| cookies::value(request.headers(), cookies::GROUP))?;
        let id = turn.opened(|key| key.open_group(rule_id, cookie, seconds, now))?;
        groups.iter().find(|group| group.group.0 == id && group.weight > 0)
    });
    let chosen =
        kept.or_else(|| choose::group(groups, shared.seed())).ok_or(Failure::Unavailable)?;
    let group = turn.snapshot.groups.get(&chosen.group).ok_or(Failure::Unavailable)?;
    if let Some(entry) = &mut turn.entry {
        entry.group = Some(group.group.id.clone());
    }
    fits(group.group.version, &request)?;
    let zones = turn.zones(group);
    let part = chosen.part;
    let held = sticky(turn, (group, part), request.headers(), now);
    let Some(held) = held.or_else(|| group.choose(zones, part, &[], shared.seed(), now)) else {
        return Err(Unanswered::Unheld(Box::new(request)));
    };
    let apart = turn.live.tallies.apart(
        &turn.live.balancer,
        turn.client.came_to.as_ref(),
        Some(&group.group.id),
    );
    if let Some(figures) = apart {
        figures.requested(group.group.version == ProtocolVersion::Grpc);
    }
    let upgrade = headers::is_websocket(&request).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let request = outgoing(
        turn,
        rule,
        group,
        parts,
        RequestBody::new(body, &turn.exchange),
        upgrade.is_some(),
    )?;
    let answered = ask(turn, (&rule.rule.id, group, part), request, held, now).await?;
    let mut set = group_cookies(turn, rule_id, group, sticky_s, now);
    set.extend(target_cookies(turn, group, &answered, now));
    let mut answer = finish(turn, answered, upgrade).await?;
    turn.by_target = true;
    for cookie in set {
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            answer.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    Ok(answer)
}

/// Whether a group of a protocol version takes this request.
fn fits(version: ProtocolVersion, request: &Request<Incoming>) -> Result<(), Failure> {
    let is_h2 = request.version() == Version::HTTP_2;
    let is_grpc = is_h2
        && request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let fits = match version {
        ProtocolVersion::Http1 => !is_grpc,
        ProtocolVersion::Http2 => is_h2,
        ProtocolVersion::Grpc => is_h2 && request.method() == Method::POST,
    };
    if fits { Ok(()) } else { Err(Failure::WrongProtocol) }
}

/// The request as the target gets it.
fn outgoing(
    turn: &mut Turn<'_>,
    rule: &CompiledRule,
    group: &LiveGroup,
    parts: request::Parts,
    body: RequestBody,
    is_upgrade: bool,
) -> Result<Request<RequestBody>, Failure> {
    let (client, live) = (turn.client, turn.live);
    let attributes = &live.balancer.attributes;
    let named = parts.uri.authority().map(|name| name.as_str().to_owned());
    let header = || parts.headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    // HTTP/1.0 may name no host.
    let came_host = named.or_else(header).filter(|host| !host.is_empty());
    let came_host = came_host.unwrap_or_else(|| client.local.ip().to_string());
    let rewritten =
        rule.rewritten_host(without_port(&came_host)).map_err(|_| Failure::BadRequest)?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.is_empty() { "/" } else { path };
    let new_path = rule.rewritten_url(path).map_err(|_| Failure::BadRequest)?;
    if let Some(entry) = &mut turn.entry {
        entry.transformed(rewritten.as_deref(), new_path.as_deref());
    }
    let host = match rewritten {
        Some(host) => host,
        None if attributes.preserve_host_header => came_host,
        None => forwarded::host(&came_host, live.listener.port),
    };
    let path = new_path.as_deref().unwrap_or(path);
    let mut map = parts.headers;
    let has_trailers =
        map.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    headers::clean_request(&mut map, attributes, client.is_h2);
    describe(turn, &mut map);
    let is_h2 = group.group.version != ProtocolVersion::Http1;
    let uri = if is_h2 {
        map.remove(HOST);
        if has_trailers {
            map.insert(TE, HeaderValue::from_static("trailers"));
        }
        let scheme = if group.group.protocol == TargetProtocol::Https { "https" } else { "http" };
        Uri::builder().scheme(scheme).authority(host.as_str()).path_and_query(path).build()
    } else {
        map.insert(HOST, HeaderValue::from_str(&host).map_err(|_| Failure::BadRequest)?);
        if is_upgrade {
            map.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            map.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        Uri::builder().path_and_query(path).build()
    };
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = uri.map_err(|_| Failure::BadRequest)?;
    *request.version_mut() = if is_h2 { Version::HTTP_2 } else { Version::HTTP_11 };
    *request.headers_mut() = map;
    Ok(request)
}

/// Says who the client is and how it came.
fn describe(turn: &mut Turn<'_>, map: &mut HeaderMap) {
    let (client, live) = (turn.client, turn.live);
    let attributes = &live.balancer.attributes;
    if !attributes.describes_client {
        return;
    }
    let came = headers::joined(map, &headers::FORWARDED_FOR);
    let value = forwarded::forwarded_for(
        attributes.forwarded_for,
        attributes.forwarded_for_port,
        came.as_deref(),
        client.peer,
    );
    match value.and_then(|value| HeaderValue::from_str(&value).ok()) {
        Some(value) => drop(map.insert(headers::FORWARDED_FOR, value)),
        None => drop(map.remove(headers::FORWARDED_FOR)),
    }
    let proto = if client.tls.is_some() { "https" } else { "http" };
    map.insert(headers::FORWARDED_PROTO, HeaderValue::from_static(proto));
    map.insert(headers::FORWARDED_PORT, HeaderValue::from(live.listener.port));
    let mut random = [0; 12];
    random[..8].copy_from_slice(&client.shared.seed().to_be_bytes());
    random[8..].copy_from_slice(&client.shared.seed().to_be_bytes()[..4]);
    let came = map.get(headers::TRACE_ID).and_then(|trace| trace.to_str().ok());
    let trace = forwarded::trace_id(came, client.shared.clock.now().seconds(), random);
    if let Some(entry) = &mut turn.entry {
        entry.trace.clone_from(&trace);
    }
    if let Ok(trace) = HeaderValue::from_str(&trace) {
        map.insert(headers::TRACE_ID, trace);
    }
    describe_tls(turn, map);
}

/// Says how the client's connection is encrypted, by the names that the listener has for it. What the client itself said
/// by them, or by the usual names, is not passed on.
fn describe_tls(turn: &Turn<'_>, map: &mut HeaderMap) {
    let names = &turn.live.listener.attributes;
    let tls = turn.client.tls.as_ref();
    let tls = tls.filter(|_| turn.live.balancer.attributes.tls_headers);
    let told = [
        ("x-amzn-tls-version", &names.tls_version_name, tls.map(|tls| tls.version)),
        ("x-amzn-tls-cipher-suite", &names.tls_cipher_name, tls.map(|tls| tls.cipher)),
    ];
    for (usual, name, _) in &told {
        map.remove(*usual);
        if let Some(name) = name {
            map.remove(name.as_str());
        }
    }
    for (usual, name, value) in told {
        let name = HeaderName::try_from(name.as_deref().unwrap_or(usual));
        if let (Ok(name), Some(value)) = (name, value) {
            map.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// Offers the request to targets, first to the one that is held, until one answers or may have begun.
async fn ask(
    turn: &mut Turn<'_>,
    (rule, group, mut part): (&RuleId, &LiveGroup, Option<u8>),
    mut request: Request<RequestBody>,
    first: Lease,
    now: Timestamp,
) -> Result<Answered, Failure> {
    let shared = &turn.client.shared;
    let mut tried: Vec<Arc<LiveTarget>> = Vec::new();
    let mut last = Failure::Unavailable;
    let mut held = Some(first);
    let mut tries = 0;
    let mut newest: Option<Arc<LiveGroup>> = None;
    loop {
        let group = newest.as_deref().unwrap_or(group);
        let lease = held
            .take()
            .or_else(|| group.choose(turn.zones(group), part, &tried, shared.seed(), now));
        let Some(lease) = lease.filter(|_| tries < TRIES_MAX) else {
            if turn.patience_left().is_zero() {
                return Err(last);
            }
            // One that has just begun may listen in a moment, and others may come.
            tokio::time::sleep(PATIENCE_PAUSE).await;
            let snapshot = Arc::clone(&shared.snapshot.borrow());
            if let Some(live) = snapshot.listeners.get(&turn.client.listener) {
                part = part_now(&live.rules, rule, (&group.group.id, part), shared.seed());
            }
            newest = snapshot.groups.get(&group.group.id).map(Arc::clone);
            (tries, tried) = (0, Vec::new());
            continue;
        };
        tries += 1;
        let target = Arc::clone(&lease.target);
        if let Some(entry) = &mut turn.entry {
            entry.dispatched(target.address);
        }
        match attempt(turn, group, &lease, request).await {
            Ok((response, sender)) => {
                let code = response.status();
                target.note(code.is_server_error());
                let came_to = turn.client.came_to.as_ref();
                if let Some(figures) = turn.live.figures_of(came_to, &group.group.id) {
                    figures.answered(code.as_u16(), turn.begun.elapsed());
                }
                if let Some(entry) = &mut turn.entry {
                    entry.answered(code.as_u16());
                }
                return Ok(Answered { response, lease, sender });
            }
            Err(Missed::Lost(why)) => {
                target.note(true);
                return Err(why);
            }
            Err(Missed::Unsent(unsent, why)) => {
                target.note(true);
                target.suspect(now);
                debug!(target = %target.address, "target was left for another");
                (request, last) = (*unsent, why);
                tried.push(target);
            }
        }
    }
}

/// To which part of its group a request is led now that was led to one by a rule: to the same, while its rule leads there, or
/// the default one if that rule is no more.
fn part_now(
    rules: &Rules,
    rule: &RuleId,
    (group, part): (&GroupId, Option<u8>),
    seed: u64,
) -> Option<u8> {
    let same = rules.all().iter().find(|it| it.rule.id == *rule);
    let groups = match same.or_else(|| rules.default_rule()).map(|it| &it.rule.action) {
        Some(Action::Forward { groups, .. }) => groups.iter().filter(|it| it.group == *group),
        Some(Action::Redirect { .. } | Action::FixedResponse { .. }) | None => return part,
    };
    let parts: Vec<WeightedGroup> = groups.cloned().collect();
    if parts.iter().any(|it| it.part == part && it.weight > 0) {
        return part;
    }
    choose::group(&parts, seed).map_or(part, |chosen| chosen.part)
}

/// The target that the client's cookie names.
fn sticky(
    turn: &Turn<'_>,
    (group, part): (&LiveGroup, Option<u8>),
    came: &HeaderMap,
    now: Timestamp,
) -> Option<Lease> {
    let (seconds, names): (u32, &[&str]) = match &group.group.stickiness {
        Stickiness::LbCookie { seconds } => (*seconds, &[cookies::TARGET_CORS, cookies::TARGET]),
        Stickiness::AppCookie { name, seconds } => {
            cookies::value(came, name)?;
            (*seconds, &[cookies::APP])
        }
        Stickiness::Off | Stickiness::SourceIp => return None,
    };
    let cookie = names.iter().find_map(|name| cookies::value(came, name))?;
    let key = turn.opened(|key| key.open_target(&group.group.id.0, cookie, seconds, now))?;
    group.hold(turn.zones(group), part, |target| target.key == key, now)
}

/// One request to one target.
async fn attempt(
    turn: &Turn<'_>,
    group: &LiveGroup,
    lease: &Lease,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Option<Http1>), Missed> {
    let is_h2 = group.group.version != ProtocolVersion::Http1;
    let Ok(tls) = meeting(turn, group, &lease.target, is_h2) else {
        return Err(Missed::Unsent(Box::new(request), Failure::BadGateway));
    };
    if is_h2 {
        return attempt_h2(turn, group, lease, tls, request).await.map(|response| (response, None));
    }
    let mut request = request;
    loop {
        let kept = kept(&lease.target).await;
        let is_kept = kept.is_some();
        let mut sender = match kept {
            Some(sender) => sender,
            None => match pool::http1(lease, tls).await {
                Ok(sender) => sender,
                Err(error) => return Err(unconnected(turn, group, request, &error)),
            },
        };
        let spare = if is_kept { repeatable(&request) } else { None };
        let idle = idle(turn);
        match turn.exchange.within(idle, sender.try_send_request(request)).await {
            None => return Err(Missed::Lost(out_of_time(turn))),
            Some(Ok(response)) => return Ok((response, Some(sender))),
            Some(Err(mut error)) => match (error.take_message(), spare) {
                // It had ended before: not a byte was written.
                (Some(unsent), _) if is_kept => request = unsent,
                (Some(unsent), _) => {
                    return Err(Missed::Unsent(Box::new(unsent), Failure::BadGateway));
                }
                (None, Some(spare)) if ended_silently(error.error()) => request = spare,
                (None, _) => return Err(Missed::Lost(Failure::BadGateway)),
            },
        }
    }
}

/// A target that has to show who it is, of a group that does not say who that is.
struct Unknown;

/// How a target is met: in the clear, or with TLS.
fn meeting<'a>(
    turn: &'a Turn<'_>,
    group: &'a LiveGroup,
    target: &LiveTarget,
    is_h2: bool,
) -> Result<Option<Meeting<'a>>, Unknown> {
    if target.shows_identity {
        let verifying = group.verifying.as_ref().ok_or(Unknown)?;
        return Ok(Some(verifying.for_http(is_h2)));
    }
    if group.group.protocol != TargetProtocol::Https {
        return Ok(None);
    }
    let to_targets = &turn.client.shared.to_targets;
    let config = if is_h2 { &to_targets.h2 } else { &to_targets.h1 };
    Ok(Some(Meeting { config, name: None }))
}

/// A connection from the pool that is ready.
async fn kept(target: &Arc<LiveTarget>) -> Option<Http1> {
    while let Some(mut sender) = target.pool.take() {
        if sender.ready().await.is_ok() {
            return Some(sender);
        }
    }
    None
}

async fn attempt_h2(
    turn: &Turn<'_>,
    group: &LiveGroup,
    lease: &Lease,
    tls: Option<Meeting<'_>>,
    request: Request<RequestBody>,
) -> Result<Response<Incoming>, Missed> {
    let mut request = request;
    loop {
        let kept = lease.target.pool.shared();
        let is_kept = kept.is_some();
        let mut sender = match kept {
            Some(sender) => sender,
            None => match pool::http2(lease, tls).await {
                Ok(sender) => {
                    lease.target.pool.share(sender.clone());
                    sender
                }
                Err(error) => return Err(unconnected(turn, group, request, &error)),
            },
        };
        match turn.exchange.within(idle(turn), sender.try_send_request(request)).await {
            None => return Err(Missed::Lost(out_of_time(turn))),
            Some(Ok(response)) => return Ok(response),
            Some(Err(mut error)) => match error.take_message() {
                Some(unsent) if is_kept => request = unsent,
                Some(unsent) => return Err(Missed::Unsent(Box::new(unsent), Failure::BadGateway)),
                None => return Err(Missed::Lost(Failure::BadGateway)),
            },
        }
    }
}

fn unconnected(
    turn: &Turn<'_>,
    group: &LiveGroup,
    request: Request<RequestBody>,
    error: &ConnectError,
) -> Missed {
    let came_to = turn.client.came_to.as_ref();
    if let Some(figures) = turn.live.figures_of(came_to, &group.group.id) {
        match error.is_of_tls() {
            true => figures.target_tls_failed(),
            false => figures.target_connect_failed(),
        }
    }
    let why = match error {
        ConnectError::Refused(_) | ConnectError::Tls(_) | ConnectError::Http(_) => {
            Failure::BadGateway
        }
        ConnectError::TimedOut | ConnectError::TlsTimedOut => Failure::GatewayTimeout,
    };
    Missed::Unsent(Box::new(request), why)
}

fn idle(turn: &Turn<'_>) -> Duration {
    Duration::from_secs(u64::from(turn.live.balancer.attributes.idle_timeout_s))
}

/// Whose silence it was.
fn out_of_time(turn: &Turn<'_>) -> Failure {
    if turn.exchange.is_upload_done() { Failure::GatewayTimeout } else { Failure::ClientSilent }
}

/// Whether a kept connection ended before a byte of the answer came.
fn ended_silently(error: &hyper::Error) -> bool {
    error.is_closed() || error.is_canceled() || error.is_incomplete_message()
}

/// A second copy of a request that changes nothing and has no body.
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !is_safe || !request.body().is_empty() {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

fn group_cookies(
    turn: &Turn<'_>,
    rule: &str,
    group: &LiveGroup,
    sticky_s: Option<u32>,
    now: Timestamp,
) -> Vec<String> {
    let shared = &turn.client.shared;
    let value = sticky_s.and_then(|_| {
        turn.cookie_key().seal_group(rule, &group.group.id.0, now, shared.ids.as_ref())
    });
    value.map_or_else(Vec::new, |value| {
        cookies::pair(cookies::GROUP, cookies::GROUP_CORS, &value, now).into()
    })
}

fn target_cookies(
    turn: &Turn<'_>,
    group: &LiveGroup,
    answered: &Answered,
    now: Timestamp,
) -> Vec<String> {
    let shared = &turn.client.shared;
    let (id, key) = (&group.group.id.0, &answered.lease.target.key);
    let value = || turn.cookie_key().seal_target(id, key, now, shared.ids.as_ref());
    match &group.group.stickiness {
        Stickiness::Off | Stickiness::SourceIp => Vec::new(),
        Stickiness::LbCookie { .. } => value().map_or_else(Vec::new, |value| {
            cookies::pair(cookies::TARGET, cookies::TARGET_CORS, &value, now).into()
        }),
        Stickiness::AppCookie { name, .. } => {
            let is_set = answered.response.headers().get_all(SET_COOKIE).iter().any(|cookie| {
                let own = cookie.to_str().ok().and_then(|cookie| cookie.split_once('='));
                own.is_some_and(|(own, _)| own == name)
            });
            let value = if is_set { value() } else { None };
            value.map_or_else(Vec::new, |value| {
                let [own, _] = cookies::pair(cookies::APP, cookies::APP, &value, now);
                vec![own]
            })
        }
    }
}

/// The answer as the client gets it.
async fn finish(
    turn: &mut Turn<'_>,
    answered: Answered,
    upgrade: Option<OnUpgrade>,
) -> Result<Response<AnswerBody>, Failure> {
    let Answered { mut response, lease, sender } = answered;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = upgrade else { return Err(Failure::BadGateway) };
        let target = hyper::upgrade::on(&mut response);
        let idle = idle(turn);
        let entry = turn.entry.take();
        tunnel::spawn(turn.client, client, target, lease, idle, entry);
        return Ok(response.map(|_| AnswerBody::empty()));
    }
    let idle = idle(turn);
    let (mut parts, incoming) = response.into_parts();
    headers::remove_hop_by_hop(&mut parts.headers);
    parts.version = if turn.client.is_h2 { Version::HTTP_2 } else { Version::HTTP_11 };
    let relay = Relay::new(incoming, Arc::clone(&turn.exchange), idle, lease, sender);
    let mut answer = Response::from_parts(parts, AnswerBody::Relay(Box::new(relay)));
    answers::set_reason(&mut answer);
    Ok(answer)
}
