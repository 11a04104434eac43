//! The agents' sessions: the work socket (ACS) and the telemetry socket (TCS), server side.
//!
//! [`accept`] answers the handshake and serves the socket in a task of its own: [`work`] speaks the
//! first, [`telemetry`] the second. What an agent must be told is derived from the durable rows by
//! [`outbox`]; a reconciler has a session look at them when a durable change may concern it, so that
//! nothing waits for a timer, and a wake-up that is lost costs time and not truth.
//!
//! **Invariant:** an instance has at most one work session that may write `agentConnected`: the one
//! whose number is in its row.

mod handshake;
pub mod message;
mod outbox;
mod telemetry;
mod work;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use ecs_api as api;
use longshore_types::{AccountId, InstanceId, TaskDefinitionId, TaskId};
use model::TaskDefinition;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::region::Region;

pub(crate) use handshake::may_speak_for;
pub use handshake::{TELEMETRY_PATH, WORK_PATH, accept};
#[cfg(test)]
pub(crate) use outbox::{Order, Outbox, RESEND_AFTER_MS};
#[cfg(test)]
pub(crate) use work::{Agent, connected, disconnected};

/// Task definitions that are kept decoded.
const DEFINITIONS_MAX: usize = 1_000;

/// What is known of open sessions. Everything here is rebuilt by agents that reconnect.
#[derive(Debug)]
pub struct Sessions {
    work: Mutex<BTreeMap<InstanceId, Open>>,
    metrics: Mutex<BTreeMap<TaskId, Value>>,
    definitions: Mutex<BTreeMap<(AccountId, TaskDefinitionId), Arc<api::TaskDefinition>>>,
    closing: watch::Sender<bool>,
    /// Whether the background shells run already.
    pub(crate) started: AtomicBool,
}

/// One open work socket.
#[derive(Debug)]
struct Open {
    session: u32,
    wake: Arc<Notify>,
    retire: Arc<Notify>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            work: Mutex::default(),
            metrics: Mutex::default(),
            definitions: Mutex::default(),
            closing: watch::Sender::new(false),
            started: AtomicBool::new(false),
        }
    }
}

impl Sessions {
    /// Has the instance's session look at its tasks now.
    pub(crate) fn notify(&self, instance: InstanceId) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = work.get(&instance) {
            open.wake.notify_one();
        }
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
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).get(&task).cloned()
    }

    /// Forgets what is kept of a task that is over.
    pub(crate) fn forget(&self, task: TaskId) {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).remove(&task);
    }

    fn keep_metrics(&self, task: TaskId, figures: Value) {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).insert(task, figures);
    }

    /// Registers a session and retires the one before it.
    fn open(&self, instance: InstanceId, session: u32) -> (Arc<Notify>, Arc<Notify>) {
        let open = Open { session, wake: Arc::default(), retire: Arc::default() };
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
        handles
    }

    fn closed(&self, instance: InstanceId, session: u32) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if work.get(&instance).is_some_and(|open| open.session == session) {
            work.remove(&instance);
        }
    }

    /// Ends the instance's session, as when it is deregistered.
    pub(crate) fn retire(&self, instance: InstanceId) {
        let removed = self.work.lock().unwrap_or_else(PoisonError::into_inner).remove(&instance);
        if let Some(open) = removed {
            open.retire.notify_one();
        }
    }

    /// The row's document, read once: a revision never changes.
    pub(crate) fn definition(
        &self,
        row: &TaskDefinition,
    ) -> Result<Arc<api::TaskDefinition>, aws_wire::DecodeError> {
        let key = (row.account, row.id.clone());
        let mut kept = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.get(&key) {
            return Ok(Arc::clone(found));
        }
        let text = row.document.as_str().as_bytes();
        let read: Arc<api::TaskDefinition> = Arc::new(aws_wire::json::from_slice(text)?);
        if kept.len() >= DEFINITIONS_MAX {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&read));
        Ok(read)
    }
}

impl Region {
    /// Where agents, and whoever follows an answer, reach the region.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.registry_host())
    }

    /// The host and port in the names of the region's own images.
    pub fn registry_host(&self) -> String {
        let mut address = self.config.listen;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        address.to_string()
    }
}

#[cfg(test)]
pub(crate) mod tests;
