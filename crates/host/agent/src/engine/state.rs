//! What is known of a task: everything that must survive the agent, and nothing that can be derived.
//!
//! **Invariants:** a container's phase grows, except that a restart takes it from `Exited` back to
//! `Pulled`; `desired` only ever turns to `Stopped`; what left the outbox was accepted by the region.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use longshore_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::spec::{Protocol, TaskSpec};

/// What the region wants of a task, or what we made of it once an essential container was gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Desired {
    #[default]
    Running,
    Stopped,
}

/// How far a container has come, in life order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Phase {
    /// Its image may not be here.
    #[default]
    Waiting,
    Pulled,
    /// Everything is there but the process.
    Created,
    Running,
    /// The process is gone; its last output may still be on the way.
    Exited,
    Stopped,
}

/// The words that the region knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    Pending,
    Running,
    Stopped,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Stopped => "STOPPED",
        }
    }
}

/// Why a task is to stop. The first cause stays, but for one that needs more haste.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopCause {
    /// The region said so; it knows why.
    Requested,
    EssentialExited {
        container: usize,
    },
    FailedToStart {
        reason: String,
    },
    /// It took more of the host than it may; every moment that it goes on takes more.
    OverLimit {
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
        }
    }
}

/// One run of a health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSaid {
    pub exit_code: i32,
    pub output: String,
}

/// How a process ended. Without a code, the container never ran or nobody can know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitState {
    pub code: Option<i32>,
    pub oom_killed: bool,
    /// The limit of processes that the kernel held it to, if it ever had to.
    pub pids_limit_hit: Option<u64>,
    pub at: Timestamp,
}

impl ExitState {
    /// An end that no limit had a part in.
    pub fn plain(code: Option<i32>, at: Timestamp) -> Self {
        Self { code, oom_killed: false, pids_limit_hit: None, at }
    }

    pub fn of(exit: &sandbox::Exit) -> Self {
        Self {
            code: Some(exit.code),
            oom_killed: exit.oom_killed,
            pids_limit_hit: exit.pids_limit_hit,
            at: exit.finished_at,
        }
    }
}

/// A port of the host that leads to one of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub container_port: u16,
    pub host_port: u16,
    #[serde(with = "ProtocolOnDisk")]
    pub protocol: Protocol,
    /// The first of the container's ports that were asked for as one range, whose host ports lie side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<u16>,
}

/// The words in which an agent's state has a protocol.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Protocol")]
enum ProtocolOnDisk {
    Tcp,
    Udp,
}

/// What was made for the task as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The namespace of an `awsvpc` task.
    pub netns: Option<PathBuf>,
    pub address: Option<Ipv4Addr>,
    pub nameserver: Option<Ipv4Addr>,
    /// Where its questions come from, if not from its own address: one that others of its VPC share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_as: Option<Ipv4Addr>,
}

/// Why a created container is never started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaveUp {
    pub reason: String,
    pub exit_code: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// As reported; also the name of everything that belongs to the container on this host.
    pub runtime_id: String,
    /// What it asks the agent about itself by: known to its own processes and to nobody who only looks on.
    /// Empty for containers of agents that answered no such questions.
    #[serde(default)]
    pub endpoint_id: String,
    pub phase: Phase,
    pub digest: Option<String>,
    /// From the image, unless the task definition has one.
    pub stop_signal: Option<String>,
    /// Of a container in bridge mode.
    pub address: Option<Ipv4Addr>,
    pub netns: Option<PathBuf>,
    pub bindings: Vec<Binding>,
    pub created_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub exit: Option<ExitState>,
    /// What the last run of a restarted container ended with.
    pub last_exit_code: Option<i32>,
    pub reason: Option<String>,
    /// Its output has somewhere to go.
    pub has_log: bool,
    /// Why it is not to be started any more, while it is created.
    pub gave_up: Option<GaveUp>,
    pub last_line: Option<String>,
    pub restarts: u32,
    pub health: Health,
    pub health_since: Option<Timestamp>,
    /// What the check said that made it what it is.
    pub health_said: Option<HealthSaid>,
    pub stop_sent_at: Option<Timestamp>,
    pub kill_sent_at: Option<Timestamp>,
    /// What the last event said of it.
    #[serde(rename = "told")]
    pub reported: Option<Status>,
}

impl ContainerState {
    /// The name of this run in the sandbox: a restart is a new run.
    pub fn run_id(&self) -> String {
        match self.restarts {
            0 => self.runtime_id.clone(),
            n => format!("{}-r{n}", self.runtime_id),
        }
    }

    pub fn status(&self) -> Status {
        match self.phase {
            Phase::Waiting | Phase::Pulled | Phase::Created => Status::Pending,
            Phase::Running | Phase::Exited => Status::Running,
            Phase::Stopped => Status::Stopped,
        }
    }

    /// Whether its process ever ran.
    pub fn has_run(&self) -> bool {
        self.started_at.is_some()
    }
}

/// One report to the region. Lists only the containers that changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// Counts within the task.
    pub number: u64,
    pub status: Status,
    pub reason: String,
    pub containers: Vec<ContainerChange>,
    pub managed_agents: Vec<ManagedAgentChange>,
    pub pull_started_at: Option<Timestamp>,
    pub pull_stopped_at: Option<Timestamp>,
    pub execution_stopped_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerChange {
    pub name: String,
    pub status: Status,
    pub runtime_id: Option<String>,
    pub image_digest: Option<String>,
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
    pub bindings: Vec<Binding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedAgentChange {
    pub container: String,
    pub agent: String,
    pub reason: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    pub desired: Desired,
    pub stop_cause: Option<StopCause>,
    /// In the order of the task's containers.
    pub containers: Vec<ContainerState>,
    pub prepared: Option<Prepared>,
    /// Nothing of the task is left on the host.
    pub released: bool,
    pub pull_started_at: Option<Timestamp>,
    pub pull_stopped_at: Option<Timestamp>,
    pub execution_stopped_at: Option<Timestamp>,
    /// The furthest status that was put into an event.
    #[serde(rename = "told")]
    pub reported: Option<Status>,
    pub outbox: VecDeque<TaskEvent>,
    pub events: u64,
    /// Since when a container's change, no news by itself for the task, waits to be told.
    pub change_at: Option<Timestamp>,
}

impl TaskState {
    /// A task that nothing was done for. `number` makes each container's id unique within it.
    pub fn new(spec: &TaskSpec, mut number: impl FnMut() -> u32) -> Self {
        let task = spec.arn.id;
        let container = |_| ContainerState {
            runtime_id: format!("{task}-{:010}", number()),
            endpoint_id: (0..4).map(|_| format!("{:08x}", number())).collect(),
            ..ContainerState::default()
        };
        Self { containers: spec.containers.iter().map(container).collect(), ..Self::default() }
    }

    /// How far the whole task has come; `None` while there is nothing to say.
    pub fn status(&self) -> Option<Status> {
        let lowest = self.containers.iter().map(ContainerState::status).min()?;
        let is_news = match lowest {
            Status::Pending => self.containers.iter().all(is_resolved),
            Status::Running => true,
            // Not before nothing is left that a next task could stumble over.
            Status::Stopped => self.released,
        };
        is_news.then_some(lowest)
    }

    pub fn is_all_stopped(&self) -> bool {
        self.containers.iter().all(|container| container.phase == Phase::Stopped)
    }

    /// Nothing is left to do or to say.
    pub fn is_finished(&self) -> bool {
        self.reported == Some(Status::Stopped) && self.outbox.is_empty()
    }
}

fn is_resolved(container: &ContainerState) -> bool {
    container.digest.is_some() || container.phase > Phase::Waiting
}
