//! Health checks: each target that is used has a task that checks it at its group's interval, from start to start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Version};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use longshore_types::Timestamp;
use routing::{
    CheckPort, CheckProtocol, Finding, HealthCheck, Outcome, ProtocolVersion, TargetGroup,
    TargetState,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::limits::{CHECK_ANSWER_BYTES_MAX, CHECKS_MAX};
use crate::live::{self, Member};
use crate::log::Checked;
use crate::pool;
use crate::shared::Shared;
use crate::target::LiveTarget;
use crate::tls::Meeting;

/// Starts checks of targets as they come, and cuts those that drained for long enough, until the process ends.
pub(crate) async fn run(shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CHECKS_MAX));
    let mut snapshots = shared.snapshot.subscribe();
    // By where a target lies: it is held, so nothing else comes to lie there.
    let mut watched: BTreeMap<usize, Watch> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let mut next: BTreeMap<usize, Watch> = BTreeMap::new();
        let mut group_of_last: Option<Arc<TargetGroup>> = None;
        for (group, target, state) in snapshot.targets() {
            let same = group_of_last.take().filter(|it| it.id == group.group.id);
            let group = same.unwrap_or_else(|| Arc::new(group.group.clone()));
            group_of_last = Some(Arc::clone(&group));
            let order = Order { group, state };
            let place = Arc::as_ptr(target).addr();
            let watch = match watched.remove(&place) {
                Some(watch) => {
                    watch.order.send_if_modified(|known| {
                        let is_new = *known != order;
                        *known = order.clone();
                        is_new
                    });
                    watch
                }
                None => {
                    let (tell, told) = watch::channel(order);
                    let (shared, room) = (Arc::clone(&shared), Arc::clone(&room));
                    tasks.spawn(attend(shared, Arc::clone(target), told, room));
                    Watch { _target: Arc::clone(target), order: tell }
                }
            };
            next.insert(place, watch);
        }
        // Those that are left have lost their sender, which ends their tasks.
        watched = next;
        while tasks.try_join_next().is_some() {}
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

/// A target that is attended to.
struct Watch {
    _target: Arc<LiveTarget>,
    order: watch::Sender<Order>,
}

/// What a target's task goes by.
#[derive(Clone, Debug, PartialEq)]
struct Order {
    group: Arc<TargetGroup>,
    state: TargetState,
}

/// Looks after one target until it is gone from the table.
async fn attend(
    shared: Arc<Shared>,
    target: Arc<LiveTarget>,
    mut order: watch::Receiver<Order>,
    room: Arc<Semaphore>,
) {
    let mut next = Instant::now();
    // When what is open with it ends, if it is unhealthy until then.
    let mut cut_at: Option<Instant> = None;
    loop {
        let now = order.borrow_and_update().clone();
        let work = async {
            let is_checked = now.group.health.protocol != CheckProtocol::None;
            match now.state {
                TargetState::Unused => std::future::pending().await,
                TargetState::Initial | TargetState::Healthy | TargetState::Unhealthy
                    if !is_checked =>
                {
                    std::future::pending().await
                }
                TargetState::Draining { until } => {
                    let left = until.since_ms(shared.clock.now());
                    tokio::time::sleep(Duration::from_millis(left)).await;
                    if live::is_cut_at_the_end(&now.group) {
                        target.cut();
                    }
                    std::future::pending().await
                }
                TargetState::Initial | TargetState::Healthy | TargetState::Unhealthy => {
                    tokio::select! {
                        () = sleep_until(next) => {}
                        () = target.check_now.notified() => {}
                    }
                    let started = Instant::now();
                    let Ok(_place) = room.acquire().await else { return (started, false) };
                    let begun = (shared.clock.now(), Instant::now());
                    let (outcome, code) = check(&shared, &now.group, &target).await;
                    log(&shared, &now.group, &target, begun, (outcome, code));
                    let at = shared.clock.now();
                    let is_newly_unhealthy = target.checked(outcome, &now.group.health, at);
                    target.pool.sweep();
                    (started, is_newly_unhealthy)
                }
            }
        };
        tokio::select! {
            (started, is_newly_unhealthy) = work => {
                let interval = u64::from(now.group.health.interval_s.max(1));
                next = started + Duration::from_secs(interval);
                if is_newly_unhealthy {
                    let after = live::cut_after_unhealthy(&now.group);
                    cut_at = after.map(|after| Instant::now() + after);
                } else if target.finding() == Finding::Healthy {
                    cut_at = None;
                }
            }
            () = until(cut_at) => {
                // For want of others it is asked all the same, and what is open with it is as good as what comes next.
                let snapshot = Arc::clone(&shared.snapshot.borrow());
                if !snapshot.asks(&target, shared.clock.now()) {
                    target.cut();
                }
                cut_at = None;
            }
            changed = order.changed() => {
                if changed.is_err() {
                    return;
                }
                // From now on the time counts that targets have which go.
                if target.is_out() {
                    cut_at = None;
                }
                // A check that was broken off is made again with the new settings.
                next = next.min(Instant::now() + Duration::from_secs(u64::from(
                    order.borrow().group.health.interval_s.max(1),
                )));
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Where a target is checked.
fn checked_at(group: &TargetGroup, target: &LiveTarget) -> SocketAddr {
    match group.health.port {
        CheckPort::Traffic => target.address,
        CheckPort::Port(port) => SocketAddr::new(target.address.ip(), port),
    }
}

/// Tells of a check, where a balancer has that logged.
fn log(
    shared: &Shared,
    group: &TargetGroup,
    target: &LiveTarget,
    (begun, since): (Timestamp, Instant),
    (outcome, code): (Outcome, Option<u16>),
) {
    let snapshot = shared.snapshot.borrow();
    let files = snapshot.check_logs(&group.id);
    let target = checked_at(group, target);
    let (protocol, took) = (group.health.protocol, since.elapsed());
    Checked { protocol, begun, took, target, group: &group.id, outcome, code }
        .log(&shared.logs, files);
}

/// One check: what it amounts to, and what the target answered.
async fn check(
    shared: &Shared,
    group: &TargetGroup,
    target: &LiveTarget,
) -> (Outcome, Option<u16>) {
    let time = Duration::from_secs(u64::from(group.health.timeout_s.max(1)));
    let probed = timeout(time, probe(shared, group, target, checked_at(group, target))).await;
    match probed {
        Ok(Probed::Connected) => (Outcome::Passed, None),
        Ok(Probed::Answered(code)) => (outcome(code, &group.health), code),
        Ok(Probed::Failed) => (Outcome::Failed, None),
        Err(_) => (Outcome::TimedOut, None),
    }
}

/// How far a check came.
enum Probed {
    /// It takes connections, and nothing else is asked.
    Connected,
    /// With a code, or in a way that has none.
    Answered(Option<u16>),
    Failed,
}

async fn probe(
    shared: &Shared,
    group: &TargetGroup,
    target: &LiveTarget,
    address: SocketAddr,
) -> Probed {
    let check = &group.health;
    let Ok(stream) = target.connect(address).await else { return Probed::Failed };
    let is_h2 = group.version != ProtocolVersion::Http1;
    match check.protocol {
        CheckProtocol::Tcp | CheckProtocol::None => Probed::Connected,
        CheckProtocol::Http => Probed::Answered(http(group, address, stream, "http").await),
        CheckProtocol::Https => {
            let tls = &shared.to_targets;
            let tls = if is_h2 { &tls.h2 } else { &tls.h1 };
            // Whose certificate it shows does not matter.
            match pool::tls(stream, Meeting { config: tls, name: None }).await {
                Ok(stream) => Probed::Answered(http(group, address, stream, "https").await),
                Err(_) => Probed::Failed,
            }
        }
    }
}

async fn http<S>(group: &TargetGroup, address: SocketAddr, stream: S, scheme: &str) -> Option<u16>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match group.version {
        ProtocolVersion::Http1 => http1_check(&group.health, address, stream).await,
        ProtocolVersion::Http2 => http2_check(&group.health, address, stream, scheme, false).await,
        ProtocolVersion::Grpc => http2_check(&group.health, address, stream, scheme, true).await,
    }
}

fn host(address: SocketAddr) -> String {
    match address.port() {
        80 | 443 => address.ip().to_string(),
        _ => address.to_string(),
    }
}

fn path(check: &HealthCheck) -> &str {
    if check.path.starts_with('/') { &check.path } else { "/" }
}

const AGENT: &str = "ELB-HealthChecker/2.0";

async fn http1_check<S>(check: &HealthCheck, address: SocketAddr, stream: S) -> Option<u16>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::builder()
        .uri(path(check))
        .header(http::header::HOST, host(address))
        .header(http::header::USER_AGENT, AGENT)
        .header(http::header::CONNECTION, "close")
        .body(Full::<Bytes>::default());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = request.ok()?;
    let answered = async {
        let answer = sender.send_request(request).await.ok()?;
        let code = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), CHECK_ANSWER_BYTES_MAX);
        // The code is what counts; a long body is not read to its end.
        let _ = body.collect().await;
        Some(code)
    };
    tokio::select! {
        code = answered => code,
        // It ends before the answer only if that never comes.
        _ = async { let _ = connection.await; std::future::pending::<()>().await } => None,
    }
}

async fn http2_check<S>(
    check: &HealthCheck,
    address: SocketAddr,
    stream: S,
    scheme: &str,
    is_grpc: bool,
) -> Option<u16>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let uri = format!("{scheme}://{address}{}", path(check));
    let mut request = Request::builder()
        .uri(uri)
        .version(Version::HTTP_2)
        .method(if is_grpc { Method::POST } else { Method::GET })
        .header(http::header::USER_AGENT, AGENT);
    // An empty message of gRPC: not compressed, of no bytes.
    let body = if is_grpc { Bytes::from_static(&[0; 5]) } else { Bytes::new() };
    if is_grpc {
        request = request.header("content-type", "application/grpc").header("te", "trailers");
    }
    let request = request.body(Full::new(body)).ok()?;
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.ok()?;
    let answered = async {
        let answer = sender.send_request(request).await.ok()?;
        let code = answer.status().as_u16();
        let status = |headers: &http::HeaderMap| -> Option<u16> {
            headers.get("grpc-status")?.to_str().ok()?.parse().ok()
        };
        let in_head = status(answer.headers());
        let body = Limited::new(answer.into_body(), CHECK_ANSWER_BYTES_MAX);
        let body = body.collect().await.ok();
        if !is_grpc {
            return Some(code);
        }
        in_head.or_else(|| status(body?.trailers()?))
    };
    tokio::select! {
        code = answered => code,
        _ = async { let _ = connection.await; std::future::pending::<()>().await } => None,
    }
}

fn outcome(code: Option<u16>, check: &HealthCheck) -> Outcome {
    match code {
        None => Outcome::Failed,
        Some(code) if check.matcher.is_match(code) => Outcome::Passed,
        Some(code) => Outcome::Code(code),
    }
}

/// Finds targets that fail more than the others, gives them less where that is asked for, and more again when they have
/// stopped, while the process lives.
pub(crate) async fn mitigate(shared: Arc<Shared>) {
    let mut period = tokio::time::interval(crate::limits::ANOMALY_PERIOD);
    loop {
        period.tick().await;
        let snapshot = Arc::clone(&shared.snapshot.borrow());
        for group in snapshot.groups.values() {
            if group.group.avoids_outliers {
                let now = shared.clock.now();
                for Member { target, .. } in &group.targets {
                    target.judge_as_outlier(now);
                    // With each check, where there are any.
                    target.pool.sweep();
                }
                continue;
            }
            if !crate::live::is_http(&group.group) {
                continue;
            }
            // Whoever fails is found with every algorithm, and spared by that alone which is asked to.
            let is_mitigating = matches!(
                group.group.algorithm,
                routing::Algorithm::WeightedRandom { mitigate_anomalies: true }
            );
            let targets: Vec<_> = group.targets.iter().map(|it| &it.target).collect();
            let seen: Vec<_> = targets.iter().map(|target| target.seen()).collect();
            for (target, judged) in targets.iter().zip(routing::choose::judge(&seen)) {
                let share = if is_mitigating { judged.share } else { 1000 };
                target.follow_judgement(share, judged.is_odd);
            }
        }
    }
}
