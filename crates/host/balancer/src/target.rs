//! One target as a balancer's process knows it: its health, what it holds, and connections kept to it.
//!
//! A target outlives the tables that name it: of the same registration it is the same value.
//!
//! **Invariant:** a lease is given only to a target that is not out of routing. A target is taken out of routing
//! before its leases are counted, and a lease is counted before it looks whether the target is out; so one that is
//! out and has no leases never gets one again.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_types::Timestamp;
use routing::choose::{Candidate, Readiness};
use routing::{Finding, GroupId, Health, InterfaceRef, Outcome, Target, TargetKey, TargetState};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Notify, watch};

use crate::limits::{
    OUTLIER_AVOIDED_MS, OUTLIER_AVOIDED_MS_MAX, OUTLIER_FAILURES, OUTLIER_WINDOW_MS, SUSPECT_MS,
};
use crate::pool::Pool;
use crate::sockets::Sockets;

/// See the module.
#[derive(Debug)]
pub(crate) struct LiveTarget {
    pub(crate) group: GroupId,
    pub(crate) key: TargetKey,
    pub(crate) address: SocketAddr,
    pub(crate) registered_at: Timestamp,
    /// It has to show its group's identity.
    pub(crate) shows_identity: bool,
    pub(crate) pool: Pool,
    sockets: Sockets,
    by: Mutex<By>,
    is_out: AtomicBool,
    in_flight: AtomicU32,
    /// Results since mitigation last looked: all, and failures.
    results: AtomicU32,
    failures: AtomicU32,
    share: AtomicU16,
    /// It fails much more often than the others of its group.
    is_odd: AtomicBool,
    suspect_until_ms: AtomicU64,
    outlier: Mutex<Outlier>,
    healthy_since_ms: AtomicU64,
    health: Mutex<Health>,
    /// Raised when what is open is to be cut; what is opened later is not.
    cut: watch::Sender<u64>,
    /// Rung when it should be checked at once.
    pub(crate) check_now: Notify,
    /// Rung when something of it changed that the region is to know.
    changed: Arc<Notify>,
}

/// Failures of late, and how often it was left alone for them.
#[derive(Clone, Copy, Debug, Default)]
struct Outlier {
    since: Timestamp,
    results: u32,
    failures: u32,
    times: u64,
}

/// The interface of a balancer by which a target is reached; none: the machine's own network.
#[derive(Clone, Debug)]
struct By {
    now: Option<InterfaceRef>,
    /// What was so before, if that changed: it is used while `now` is not on this machine yet.
    before: Option<Option<InterfaceRef>>,
}

impl LiveTarget {
    pub(crate) fn new(
        group: GroupId,
        target: &Target,
        now: Timestamp,
        changed: Arc<Notify>,
        sockets: Sockets,
    ) -> Self {
        let health = Health::begin(target.state);
        // Of one that the region knows to be healthy, slow start has been or goes on elsewhere.
        let healthy_since = if health.is_healthy() { target.registered_at } else { now };
        Self {
            group,
            key: target.key.clone(),
            address: SocketAddr::new(target.address, target.key.port),
            registered_at: target.registered_at,
            shows_identity: target.shows_identity,
            pool: Pool::default(),
            sockets,
            by: Mutex::new(By { now: target.by.clone(), before: None }),
            is_out: AtomicBool::new(is_out(target.state)),
            in_flight: AtomicU32::new(0),
            results: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            share: AtomicU16::new(1000),
            is_odd: AtomicBool::new(false),
            suspect_until_ms: AtomicU64::new(0),
            outlier: Mutex::default(),
            healthy_since_ms: AtomicU64::new(healthy_since.0),
            health: Mutex::new(health),
            cut: watch::Sender::new(0),
            check_now: Notify::new(),
            changed,
        }
    }

    /// Takes over what a newer table says of it.
    pub(crate) fn follow(&self, target: &Target) {
        let mut by = self.by();
        if by.now != target.by {
            let before = std::mem::replace(&mut by.now, target.by.clone());
            by.before = Some(before);
            // What is kept open may be at an interface that is going.
            self.pool.clear();
        }
        drop(by);
        self.follow_state(target.state);
    }

    pub(crate) fn follow_state(&self, state: TargetState) {
        let is_out = is_out(state);
        if self.is_out.swap(is_out, SeqCst) == is_out {
            return;
        }
        if is_out {
            self.pool.clear();
        } else {
            // Back in use: as if nothing had been known.
            *self.health() = Health::begin(TargetState::Initial);
            self.check_now.notify_one();
        }
        self.changed.notify_one();
    }

    fn by(&self) -> MutexGuard<'_, By> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects by its interface, to itself or to another port of it.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.sockets.connect(self.way().as_ref(), address).await
    }

    pub(crate) async fn connect_datagrams(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        self.sockets.connect_datagrams(self.way().as_ref(), address).await
    }

    /// By which interface it is reached at the moment.
    fn way(&self) -> Option<InterfaceRef> {
        let By { now, before } = self.by().clone();
        let is_away = |it: &InterfaceRef| self.sockets.namespace(it).is_none();
        match before {
            Some(before) if now.as_ref().is_some_and(is_away) => before,
            Some(_) | None => now,
        }
    }

    /// A request's hold on it; `None` if it is out of routing.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Lease> {
        self.in_flight.fetch_add(1, SeqCst);
        let lease = Lease { target: Arc::clone(self), cut: self.cut.subscribe() };
        if self.is_out.load(SeqCst) { None } else { Some(lease) }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(SeqCst)
    }

    pub(crate) fn is_out(&self) -> bool {
        self.is_out.load(SeqCst)
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn finding(&self) -> Finding {
        if self.is_out() { Finding::NotChecked } else { self.health().finding }
    }

    pub(crate) fn candidate(&self, now: Timestamp) -> Candidate {
        let is_suspect = self.suspect_until_ms.load(SeqCst) > now.0;
        let readiness = match self.finding() {
            Finding::NotChecked => Readiness::Out,
            Finding::Initial => Readiness::Initial,
            Finding::Healthy if is_suspect => Readiness::Unhealthy,
            Finding::Healthy => Readiness::Healthy,
            Finding::CodeMismatch(_) | Finding::Timeout | Finding::Failed => Readiness::Unhealthy,
        };
        Candidate {
            readiness,
            in_flight: self.in_flight(),
            healthy_since: Timestamp(self.healthy_since_ms.load(SeqCst)),
            share: self.share.load(SeqCst),
        }
    }

    /// Takes in the result of a check; whether it made a healthy target unhealthy.
    pub(crate) fn checked(
        &self,
        outcome: Outcome,
        check: &routing::HealthCheck,
        now: Timestamp,
    ) -> bool {
        let mut health = self.health();
        let before = *health;
        *health = before.after(outcome, check);
        let after = *health;
        drop(health);
        if outcome == Outcome::Passed {
            self.suspect_until_ms.store(0, SeqCst);
        }
        if before.finding != after.finding {
            if after.is_healthy() {
                self.healthy_since_ms.store(now.0, SeqCst);
            }
            self.changed.notify_one();
        }
        before.is_healthy() && !after.is_healthy()
    }

    /// It refused a connection: until a check says otherwise others go first.
    pub(crate) fn suspect(&self, now: Timestamp) {
        self.suspect_until_ms.store(now.plus_ms(SUSPECT_MS).0, SeqCst);
        self.pool.clear();
        self.check_now.notify_one();
    }

    /// A request to it ended.
    pub(crate) fn note(&self, is_failure: bool) {
        self.results.fetch_add(1, SeqCst);
        if is_failure {
            self.failures.fetch_add(1, SeqCst);
        }
    }

    /// Results and failures since this was asked last.
    pub(crate) fn take_results(&self) -> (u32, u32) {
        (self.results.swap(0, SeqCst), self.failures.swap(0, SeqCst))
    }

    /// Has others go first for a while if it failed too often of late.
    pub(crate) fn judge_as_outlier(&self, now: Timestamp) {
        let (results, failures) = self.take_results();
        let mut outlier = self.outlier.lock().unwrap_or_else(PoisonError::into_inner);
        if OUTLIER_WINDOW_MS <= now.since_ms(outlier.since) {
            // A window with results and without a failure is a new beginning; one in which nobody came says nothing.
            let is_good = outlier.failures == 0 && outlier.results > 0;
            let times = if is_good { 0 } else { outlier.times };
            *outlier = Outlier { since: now, times, ..Outlier::default() };
        }
        outlier.results = outlier.results.saturating_add(results);
        outlier.failures = outlier.failures.saturating_add(failures);
        if OUTLIER_FAILURES <= outlier.failures {
            let times = outlier.times + 1;
            let avoided_ms = (OUTLIER_AVOIDED_MS * times).min(OUTLIER_AVOIDED_MS_MAX);
            self.suspect_until_ms.store(now.plus_ms(avoided_ms).0, SeqCst);
            *outlier = Outlier { since: now, times, ..Outlier::default() };
        }
    }

    pub(crate) fn share(&self) -> u16 {
        self.share.load(SeqCst)
    }

    /// What it did since this was asked last.
    pub(crate) fn seen(&self) -> routing::choose::Seen {
        let (results, failures) = self.take_results();
        let (share, is_odd) = (self.share(), self.is_odd.load(SeqCst));
        routing::choose::Seen { results, failures, share, is_odd }
    }

    /// Gives it this share from now on; the region is told when it begins or ceases to fail more than others.
    pub(crate) fn follow_judgement(&self, share: u16, is_odd: bool) {
        let before = self.anomaly();
        self.share.store(share, SeqCst);
        self.is_odd.store(is_odd, SeqCst);
        if self.anomaly() != before {
            self.changed.notify_one();
        }
    }

    pub(crate) fn anomaly(&self) -> routing::Anomaly {
        routing::Anomaly { is_seen: self.is_odd.load(SeqCst), is_mitigated: self.share() < 1000 }
    }

    /// Ends what is still open with it.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

fn is_out(state: TargetState) -> bool {
    match state {
        TargetState::Draining { .. } | TargetState::Unused => true,
        TargetState::Initial | TargetState::Healthy | TargetState::Unhealthy => false,
    }
}

/// A request's hold on a target, from the choice until the last byte of the answer.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) target: Arc<LiveTarget>,
    cut: watch::Receiver<u64>,
}

impl Lease {
    /// Changes when what was opened with this hold is to be ended.
    pub(crate) fn cut(&self) -> watch::Receiver<u64> {
        self.cut.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let before = self.target.in_flight.fetch_sub(1, SeqCst);
        if before == 1 && self.target.is_out() {
            self.target.changed.notify_one();
        }
    }
}

/// Completes once what was opened is to be ended.
pub(crate) async fn until_cut(mut cut: watch::Receiver<u64>) {
    // A target that is gone cuts nothing: what holds a lease keeps it.
    if cut.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
