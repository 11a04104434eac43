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
mod farewell;
mod feed;
mod handshake;
mod names;
mod network;
mod orders;
mod outbox;
pub mod payload;
mod pre_pull;
mod presence;
mod rhythm;
mod telemetry;
mod tunnels;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_wire::ApiError;
use control::ports::Usage;
use control::reconcile::Driver;
use control::{BetweenHosts, Control, Documents, TunnelKeyring};
use ecs_api as api;
use longshore_types::{Chain, InstanceId, TaskId, Timestamp};
use model::instance::InstanceStatus;
use model::{Instance, Task, View};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tracing::error;

pub use handshake::{TELEMETRY_PATH, WORK_PATH, accept};
use orders::Orders;
pub use orders::prepare;
pub use outbox::{Order, Outbox, RESEND_AFTER_MS};
use pre_pull::{PrePullWishes, PrePulls};
pub use presence::{Agent, Opened, connected, disconnected};
use tunnels::{TunnelBook, Tunneling};

/// What is known of open sessions. Everything here is rebuilt by agents that reconnect.
#[derive(Debug)]
pub struct Sessions {
    control: Arc<Control>,
    documents: Arc<Documents<api::TaskDefinition>>,
    work: Mutex<BTreeMap<InstanceId, Open>>,
    /// How many of them are of hosts that reach each other.
    spread: AtomicUsize,
    metrics: Mutex<BTreeMap<TaskId, (Timestamp, Value)>>,
    /// Who is told of what tasks use.
    usage: OnceLock<Arc<dyn Usage>>,
    /// What hosts have acknowledged of the keys by which they encrypt.
    tunnels: TunnelBook,
    /// Which images hosts are to have before a task asks for them.
    pre_pulls: PrePulls,
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
            usage: OnceLock::new(),
            tunnels: TunnelBook::default(),
            pre_pulls: PrePulls::default(),
            closing: watch::Sender::new(false),
        }
    }

    /// Has somebody told of what tasks use, who is the first that is named.
    pub fn report_usage_to(&self, usage: Arc<dyn Usage>) {
        // A second one would hear nothing, and there is none.
        drop(self.usage.set(usage));
    }

    /// Registers what has the sessions look at their tasks.
    pub fn register(self: &Arc<Self>, driver: &mut Driver) {
        driver.register(Orders { sessions: Arc::clone(self) });
        driver.register(PrePullWishes { sessions: Arc::clone(self) });
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

    /// What a host's ways to others are told by. The secret that keys follow from is drawn when the first host could have
    /// use for it.
    pub(crate) async fn tunneling(&self, view: &View, instance: InstanceId) -> Tunneling<'_> {
        let (control, setting) = (&self.control, self.control.config.between_hosts);
        let row = view.instance_of_any(instance);
        let may_encrypt = setting != BetweenHosts::Clear
            && row.is_some_and(|row| row.meets_hosts() && row.tunnel_generation().is_some());
        let keyring = if may_encrypt { self.tunnel_keyring(view).await } else { Ok(None) };
        let keyring = keyring.unwrap_or_else(|error| {
            error!(error = %Chain(&error), "hosts are given no keys");
            None
        });
        Tunneling::new(setting, keyring, &self.tunnels, control.clock.now())
    }

    /// How packets go between an instance's host and the others, in words; nothing where it has no part in it.
    pub fn between_hosts(&self, view: &View, instance: &Instance) -> Option<String> {
        let setting = self.control.config.between_hosts;
        let met = |row: &Instance| row.meets_hosts() && row.status < InstanceStatus::Inactive;
        if !met(instance) {
            return None;
        }
        let others = view.instances.iter().filter(|row| row.id != instance.id && met(row));
        let not = others.filter(|row| row.tunnel_generation().is_none()).count();
        let why = instance.encrypts_not_for().unwrap_or("its agent is of an older release");
        Some(match (setting, instance.tunnel_generation()) {
            (BetweenHosts::Clear, _) => "in the clear (--encrypt-between-hosts off)".to_owned(),
            (BetweenHosts::Auto, None) => format!("in the clear ({why})"),
            (BetweenHosts::Encrypted, None) => format!("nothing ({why})"),
            (BetweenHosts::Auto | BetweenHosts::Encrypted, Some(_)) => {
                let now = self.tunnels.encrypted_with(instance.id);
                let now = if now > 0 { format!(", with {now} now") } else { String::new() };
                match (setting, not) {
                    (_, 0) => format!("encrypted{now}"),
                    (BetweenHosts::Auto, not) => {
                        format!("encrypted{now}; in the clear with {not} that cannot")
                    }
                    (BetweenHosts::Encrypted | BetweenHosts::Clear, not) => {
                        format!("encrypted{now}; nothing with {not} that cannot")
                    }
                }
            }
        })
    }

    /// What part an instance's host has in giving layers to others, in words; nothing where it has none.
    pub fn layers_given(&self, instance: &Instance) -> Option<String> {
        self.control.layers.says(instance.id)
    }

    async fn tunnel_keyring(&self, view: &View) -> Result<Option<TunnelKeyring>, ApiError> {
        if let Some(keyring) = self.control.tunnel_keyring(view)? {
            return Ok(Some(keyring));
        }
        self.control.prepare_tunnels().await?;
        self.control.tunnel_keyring(&self.control.view())
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
    pub async fn closing(&self) {
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

    fn tell_usage(&self, task: &Task, instance: &Instance, figures: &Value) {
        if let Some(usage) = self.usage.get() {
            usage.used(task, instance, figures, self.control.clock.now());
        }
    }

    fn keep_metrics(&self, task: TaskId, figures: Value) {
        let now = self.control.clock.now();
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).insert(task, (now, figures));
    }

    /// Registers a session and retires the one before it.
    fn open(&self, instance: &Instance, session: u32) -> (Arc<Notify>, Arc<Notify>) {
        let is_spread = instance.underlay().is_some();
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
        self.control.layers.end(instance, session);
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

    /// Whether a session is still the last that was written of its instance, which is there.
    fn is_last(&self, instance: &Instance, session: u32) -> bool {
        let view = self.control.view();
        let row = view.instances.get(instance.scope.account, &instance.id);
        row.is_some_and(|row| row.status < InstanceStatus::Inactive && row.agent.session <= session)
    }

    /// Ends the instance's session if it is not the last that was written.
    pub(crate) fn retire_before(&self, instance: InstanceId, session: u32) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if work.get(&instance).is_some_and(|open| open.session < session)
            && let Some(open) = work.remove(&instance)
        {
            open.retire.notify_one();
        }
        self.count(&work);
    }

    /// Ends the instance's session, as when it is deregistered.
    pub(crate) fn retire(&self, instance: InstanceId) {
        self.tunnels.forget(instance);
        self.control.layers.forget(instance);
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = work.remove(&instance);
        self.count(&work);
        if let Some(open) = removed {
            open.retire.notify_one();
        }
    }
}
