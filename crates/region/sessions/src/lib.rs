//! The agents' sessions: the work socket (ACS) and the telemetry socket (TCS), server side.
//!
//! [`accept`] answers the handshake and serves the socket in a task of its own: [`work`] speaks the
//! first, [`telemetry`] the second. What an agent must be told is derived from the durable rows by
//! [`outbox`]; a reconciler has a session look at them when a durable change may concern it, so that
//! nothing waits for a timer, and a wake-up that is lost costs time and not truth.
//!
//! **Invariant:** an instance has at most one work session that may write `agentConnected`: the one
//! whose number is in its row.

#![warn(clippy::wildcard_enum_match_arm)]

mod connect;
mod feed;
mod handshake;
mod names;
mod network;
mod orders;
mod outbox;
pub mod payload;
mod presence;
mod rhythm;
mod telemetry;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use control::reconcile::Driver;
use control::{Control, Documents};
use ecs_api as api;
use longshore_types::{InstanceId, TaskId, Timestamp};
use model::{Instance, View};
use serde_json::Value;
use tokio::sync::{Notify, watch};

pub use handshake::{TELEMETRY_PATH, WORK_PATH, accept};
use orders::Orders;
pub use orders::prepare;
pub use outbox::{Order, Outbox, RESEND_AFTER_MS};
pub use presence::{Agent, Opened, connected, disconnected};

/// What is known of open sessions. Everything here is rebuilt by agents that reconnect.
#[derive(Debug)]
pub struct Sessions {
    control: Arc<Control>,
    documents: Arc<Documents<api::TaskDefinition>>,
    work: Mutex<BTreeMap<InstanceId, Open>>,
    /// How many of them are of hosts that reach each other.
    spread: AtomicUsize,
    metrics: Mutex<BTreeMap<TaskId, (Timestamp, Value)>>,
    closing: watch::Sender<bool>,
}

/// One open work socket.
#[derive(Debug)]
struct Open {
    session: u32,
    /// Whether its host reaches those of others.
    is_spread: bool,
    wake: Arc<Notify>,
    retire: Arc<Notify>,
}

impl Sessions {
    pub fn new(control: Arc<Control>, documents: Arc<Documents<api::TaskDefinition>>) -> Self {
        Self {
            control,
            documents,
            work: Mutex::default(),
            spread: AtomicUsize::new(0),
            metrics: Mutex::default(),
            closing: watch::Sender::new(false),
        }
    }

    /// Registers what has the sessions look at their tasks.
    pub fn register(self: &Arc<Self>, driver: &mut Driver) {
        driver.register(Orders { sessions: Arc::clone(self) });
    }

    /// Has the instance's session look at its tasks now.
    pub(crate) fn notify(&self, instance: InstanceId) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = work.get(&instance) {
            open.wake.notify_one();
        }
    }

    /// Whether there are hosts that reach each other.
    pub(crate) fn are_spread(&self) -> bool {
        self.spread.load(Ordering::Relaxed) > 1
    }

    /// Has the sessions of all those look.
    pub(crate) fn notify_spread(&self) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.values().filter(|open| open.is_spread).for_each(|open| open.wake.notify_one());
    }

    /// On which host the interfaces of balancers are.
    pub(crate) fn home_of_balancers(&self, view: &View) -> Option<InstanceId> {
        feed::home_of_balancers(view, |row| self.control.access.is_of_own_machine(row))
    }

    /// The instance of the region's own machine.
    pub(crate) fn own_machine(&self, view: &View) -> Option<InstanceId> {
        feed::own_machine(view, |row| self.control.access.is_of_own_machine(row))
    }

    /// Ends every session with "going away", so that agents reconnect at once.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until every session is to end.
    async fn closing(&self) {
        let mut closing = self.closing.subscribe();
        let _ = closing.wait_for(|closing| *closing).await;
    }

    /// The last figures that an agent published of a task's containers.
    pub fn metrics(&self, task: TaskId) -> Option<Value> {
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.get(&task).map(|(_, figures)| figures.clone())
    }

    /// What a task's host last reported of it, and when.
    pub fn figures(&self, task: TaskId) -> Option<(Timestamp, Value)> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).get(&task).cloned()
    }

    /// Forgets what is kept of a task that is over.
    pub(crate) fn forget(&self, task: TaskId) {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).remove(&task);
    }

    fn keep_metrics(&self, task: TaskId, figures: Value) {
        let now = self.control.clock.now();
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).insert(task, (now, figures));
    }

    /// Registers a session and retires the one before it.
    fn open(&self, instance: &Instance, session: u32) -> (Arc<Notify>, Arc<Notify>) {
        let is_spread = feed::underlay(instance).is_some();
        let instance = instance.id;
        let open = Open { session, is_spread, wake: Arc::default(), retire: Arc::default() };
        let handles = (Arc::clone(&open.wake), Arc::clone(&open.retire));
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        match work.get(&instance) {
            // A later session was quicker to get here: this one is retired at once.
            Some(later) if session < later.session => open.retire.notify_one(),
            Some(_) | None => {
                if let Some(before) = work.insert(instance, open) {
                    before.retire.notify_one();
                }
            }
        }
        self.count(&work);
        handles
    }

    fn closed(&self, instance: InstanceId, session: u32) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if work.get(&instance).is_some_and(|open| open.session == session) {
            work.remove(&instance);
        }
        self.count(&work);
    }

    fn count(&self, work: &BTreeMap<InstanceId, Open>) {
        let spread = work.values().filter(|open| open.is_spread).count();
        self.spread.store(spread, Ordering::Relaxed);
    }

    /// Ends the instance's session, as when it is deregistered.
    pub(crate) fn retire(&self, instance: InstanceId) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = work.remove(&instance);
        self.count(&work);
        if let Some(open) = removed {
            open.retire.notify_one();
        }
    }
}
