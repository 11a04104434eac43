//! Whether an instance's agent is connected, and what it said of itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aws_wire::{ApiError, Caller};
use control::Control;
use longshore_types::Timestamp;
use model::Instance;
use model::instance::InstanceStatus;
use store::Batch;
use tracing::warn;

/// What an agent says of itself when it connects.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    version: Option<String>,
    hash: Option<String>,
    docker_version: Option<String>,
    from: Option<IpAddr>,
    /// Whether it came by TLS.
    is_secure: bool,
}

impl Agent {
    /// With where it comes from.
    #[must_use]
    pub fn of(self, caller: &Caller) -> Self {
        Self { from: Control::comes_from(caller), is_secure: caller.origin.is_secure, ..self }
    }

    pub(super) fn is_secure(&self) -> bool {
        self.is_secure
    }

    pub(super) fn from_query(query: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| query.get(name).filter(|text| !text.is_empty()).cloned();
        Self {
            version: text("agentVersion"),
            hash: text("agentHash"),
            docker_version: text("dockerVersion"),
            from: None,
            is_secure: false,
        }
    }
}

/// A session that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    pub number: u32,
    /// After how much silence its instance is lost.
    pub lost_after_ms: u64,
}

/// Writes that the agent is there, and takes the next session number. One that only says that it is at this one's address
/// is there no more.
pub async fn connected(
    control: &Control,
    instance: &Instance,
    agent: &Agent,
) -> Result<Opened, ApiError> {
    let decided = control.decide(|view, now| {
        let row = view.instances.get(instance.scope.account, &instance.id);
        let Some(row) = row.filter(|row| row.status != InstanceStatus::Inactive) else {
            return Err(ApiError::client("InactiveInstanceException", "Deregistered meanwhile."));
        };
        let others = control.check_address_again(view, row, agent.from)?;
        let mut next = Instance::clone(row);
        next.agent.connected = true;
        next.agent.session += 1;
        next.agent.changed_at = now;
        next.agent.heard_at = None;
        next.agent.from = agent.from;
        next.agent.version = agent.version.clone().or(next.agent.version);
        next.agent.hash = agent.hash.clone().or(next.agent.hash);
        next.agent.docker_version = agent.docker_version.clone().or(next.agent.docker_version);
        let lost_after_ms = control.heartbeat_timeout_ms(view, &next);
        if next.makes_interfaces() {
            // It may go by the one before until it has acknowledged this one.
            next.agent.lease_ms = next.agent.lease_ms.max(Some(lost_after_ms));
        }
        next.version += 1;
        let opened = Opened { number: next.agent.session, lost_after_ms };
        let mut batch = Batch::on(view);
        batch.put(next);
        for mut other in others {
            warn!(instance = %other.id, by = %row.id, "a host is not at its address, and another is: its session ends");
            other.agent.connected = false;
            // So that its session is no longer the last, and ends.
            other.agent.session += 1;
            other.agent.changed_at = now;
            other.agent.heard_at = Some(now);
            other.version += 1;
            batch.put(other);
        }
        Ok((batch, opened))
    });
    decided.await
}

/// Writes by which limit the session's agent may go: a longer one before it is told of it, a shorter one once it has
/// acknowledged it.
pub(crate) async fn goes_by(
    control: &Control,
    instance: &Instance,
    number: u32,
    limit: impl Fn(Option<u64>) -> u64 + Send + Sync,
) -> Result<(), ApiError> {
    let decided = control.decide(|view, _| {
        let mut batch = Batch::on(view);
        let row = view.instances.get(instance.scope.account, &instance.id);
        if let Some(row) = row.filter(|row| row.agent.session == number) {
            let lease_ms = Some(limit(row.agent.lease_ms));
            if row.agent.lease_ms != lease_ms {
                let mut next = Instance::clone(row);
                next.agent.lease_ms = lease_ms;
                batch.put(next);
            }
        }
        Ok((batch, ()))
    });
    decided.await
}

/// Writes that the agent is gone and when it was last heard of, unless a later session has it.
pub async fn disconnected(
    control: &Control,
    instance: &Instance,
    number: u32,
    heard_at: Timestamp,
) -> Result<(), ApiError> {
    let decided = control.decide(|view, now| {
        let mut batch = Batch::on(view);
        let row = view.instances.get(instance.scope.account, &instance.id);
        if let Some(row) = row.filter(|row| row.agent.session == number && row.agent.connected) {
            let mut next = Instance::clone(row);
            next.agent.connected = false;
            next.agent.changed_at = now;
            next.agent.heard_at = Some(heard_at.min(now));
            next.version += 1;
            batch.put(next);
        }
        Ok((batch, ()))
    });
    decided.await
}
