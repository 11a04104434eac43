//! A task's transitions: one input in, the next state out.
//!
//! **Invariant:** inputs may be late, repeated and out of order; none of that is an error, and what is
//! known never becomes less. What stopped stays as it was.

use std::sync::Arc;

use longshore_types::{InstanceArn, InstanceId, Timestamp, Uuid};

use super::{
    AttachmentPhase, Binding, Container, ContainerPhase, Desired, ESSENTIAL_CONTAINER_EXITED,
    Health, Phase, StopCause, Task, Times,
};

/// Everything that can happen to a task after it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Room was found for a task that had to wait for it.
    Placed {
        instance: InstanceId,
        zone: Option<String>,
    },
    /// Its agent acknowledged the order to run it.
    Delivered,
    /// Its agent saw the interface.
    Attached {
        attachment: Uuid,
    },
    /// `SubmitTaskStateChange`, or an older agent's report of one container.
    Reported(Report),
    /// Verdicts from the telemetry socket.
    HealthReported(Vec<HealthReport>),
    StopRequested {
        reason: Option<String>,
    },
    InstanceDeregistered {
        instance: InstanceArn,
    },
    /// Nobody expects its instance to come back: the task counts as stopped.
    InstanceLost {
        instance: InstanceArn,
    },
    /// The control plane wants it stopped, for the cause that is given.
    Unwanted(StopCause),
    /// Its service registered it with load balancers.
    TargetsRegistered,
    /// No load balancer has anything in flight to it any more.
    TargetsGone,
    /// It is reached by Service Connect.
    Connected,
    /// Nothing is led to it by Service Connect any more.
    Disconnected,
}

/// What an agent says of a task. Lists only the containers that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub phase: Option<Phase>,
    pub reason: Option<String>,
    pub containers: Vec<ContainerReport>,
    pub pull_started: Option<Timestamp>,
    pub pull_stopped: Option<Timestamp>,
    pub execution_stopped: Option<Timestamp>,
}

/// What an agent says of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerReport {
    pub name: String,
    pub phase: Option<ContainerPhase>,
    pub runtime_id: Option<String>,
    pub image_digest: Option<String>,
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
    pub bindings: Vec<Binding>,
}

/// The verdict on one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    pub container: String,
    pub health: Health,
}

/// Applies one input; `None` if it changes nothing, so that nothing needs to be written.
pub fn step(task: &Task, input: &Input, now: Timestamp) -> Option<Task> {
    if task.phase == Phase::Stopped {
        return None;
    }
    let mut next = task.clone();
    match input {
        Input::Placed { instance, zone } => placed(&mut next, *instance, zone.as_deref()),
        Input::Delivered => delivered(&mut next, now),
        Input::Attached { attachment } => attached(&mut next, *attachment),
        Input::Reported(report) => reported(&mut next, report, now),
        Input::HealthReported(verdicts) => health_reported(&mut next, verdicts),
        Input::StopRequested { reason } => stop_requested(&mut next, reason.as_deref(), now),
        Input::InstanceDeregistered { instance } => {
            let instance = instance.clone();
            want_stopped(&mut next, || StopCause::InstanceDeregistered { instance }, now);
            stop(&mut next, now);
        }
        Input::InstanceLost { instance } => {
            let instance = instance.clone();
            want_stopped(&mut next, || StopCause::InstanceLost { instance }, now);
            stop(&mut next, now);
        }
        Input::Unwanted(cause) => unwanted(&mut next, cause, now),
        Input::TargetsRegistered => registered(&mut next),
        Input::TargetsGone => targets_gone(&mut next),
        Input::Connected => connected(&mut next),
        Input::Disconnected => disconnected(&mut next),
    }
    settle(&mut next.times, &task.times, now);
    if next == *task {
        return None;
    }
    next.version += 1;
    assert!(task.phase <= next.phase, "a task never moves back");
    assert!(next.desired == Desired::Running || next.stop_cause.is_some(), "a stop has a cause");
    assert!(next.phase < Phase::Stopped || next.desired == Desired::Stopped, "stopped is final");
    Some(next)
}

/// Fits the moments that are new between those that were known, which stay as they were.
///
/// Some are read from the agent's clock and some from ours, and a report may come late: as they are
/// they could show a task that ended before it had started.
fn settle(times: &mut Times, known: &Times, now: Timestamp) {
    let fit = |new: &mut Option<Timestamp>, was: Option<Timestamp>, floor, next| {
        if was.is_none() {
            // The floor comes last: it holds even if our own clock was set back.
            *new = new.map(|at| at.min(now).min(next).max(floor));
        }
        new.map_or(floor, |at| at.max(floor))
    };
    let ceiling = Timestamp(u64::MAX);
    let ended = [known.stopping, known.execution_stopped].into_iter().flatten().min();
    let ended = ended.unwrap_or(ceiling);
    let started = known.started.unwrap_or(ended);
    let pulled = known.pull_stopped.unwrap_or(started);
    let floor = fit(&mut times.pull_started, known.pull_started, times.created, pulled);
    let floor = fit(&mut times.pull_stopped, known.pull_stopped, floor, started);
    let floor = fit(&mut times.started, known.started, floor, ended);
    let stopping = fit(&mut times.stopping, known.stopping, floor, ceiling);
    let ended = fit(&mut times.execution_stopped, known.execution_stopped, floor, ceiling);
    fit(&mut times.stopped, known.stopped, stopping.max(ended), ceiling);
}

fn placed(task: &mut Task, instance: InstanceId, zone: Option<&str>) {
    if task.instance.is_none() && task.desired == Desired::Running {
        task.instance = Some(instance);
        task.waiting = None;
        if task.zone.is_none() {
            task.zone = zone.map(Arc::from);
        }
    }
}

fn delivered(task: &mut Task, now: Timestamp) {
    task.phase = task.phase.max(Phase::Pending);
    task.times.connectivity.get_or_insert(now);
    mark_attached(task);
}

fn attached(task: &mut Task, attachment: Uuid) {
    if task.interface.as_ref().is_some_and(|interface| interface.attachment == attachment) {
        mark_attached(task);
        task.phase = task.phase.max(Phase::Pending);
    }
}

fn mark_attached(task: &mut Task) {
    if let Some(interface) = &mut task.interface {
        interface.phase = interface.phase.max(AttachmentPhase::Attached);
    }
}

fn reported(task: &mut Task, report: &Report, now: Timestamp) {
    let had_run = task.phase >= Phase::Running;
    if task.instance.is_some() {
        task.times.connectivity.get_or_insert(now);
    }
    let times = &mut task.times;
    times.pull_started = times.pull_started.or(report.pull_started);
    times.pull_stopped = times.pull_stopped.or(report.pull_stopped);
    times.execution_stopped = times.execution_stopped.or(report.execution_stopped);
    for said in &report.containers {
        if let Some(container) = task.container_mut(&said.name) {
            merge(container, said);
        }
    }
    match report.phase {
        Some(Phase::Stopped) => {
            want_stopped_as_reported(task, report, had_run, now);
            add_detail(task, report);
            stop(task, now);
        }
        Some(phase) => {
            advance(task, phase, now);
            if let Some(cause) = essential_exit(task) {
                want_stopped(task, || cause, now);
            }
        }
        None => {}
    }
}

/// What was known stays known; a container does not move back either.
fn merge(container: &mut Container, said: &ContainerReport) {
    let seen = &mut container.seen;
    if let Some(phase) = said.phase {
        seen.phase = seen.phase.max(phase);
    }
    // A container that was started again by its restart policy has another id.
    if seen.phase < ContainerPhase::Stopped || seen.runtime_id.is_none() {
        seen.runtime_id = said.runtime_id.clone().or(seen.runtime_id.take());
    }
    seen.image_digest = seen.image_digest.take().or_else(|| said.image_digest.clone());
    seen.exit_code = seen.exit_code.or(said.exit_code);
    let reason = said.reason.as_ref().filter(|reason| !reason.is_empty());
    seen.reason = seen.reason.take().or_else(|| reason.cloned());
    if seen.bindings.is_empty() {
        seen.bindings.clone_from(&said.bindings);
    }
}

fn advance(task: &mut Task, phase: Phase, now: Timestamp) {
    if phase >= Phase::Pending {
        mark_attached(task);
    }
    if task.phase < phase && phase <= Phase::Running {
        task.phase = phase;
    }
    if phase == Phase::Running {
        task.times.started.get_or_insert(now);
        if task.desired == Desired::Stopped && !task.is_in_routing() {
            task.phase = task.phase.max(Phase::Stopping);
        }
    }
}

/// The first essential container that has stopped.
fn essential_exit(task: &Task) -> Option<StopCause> {
    let mut gone = task
        .containers
        .iter()
        .filter(|container| container.essential && container.seen.phase == ContainerPhase::Stopped);
    let first = gone.next()?;
    Some(StopCause::EssentialContainerExited {
        container: first.name.clone(),
        exit_code: first.seen.exit_code,
        detail: None,
    })
}

/// Finds the cause in what the agent said: a container that never started outweighs one that ran.
fn want_stopped_as_reported(task: &mut Task, report: &Report, had_run: bool, now: Timestamp) {
    let said = report.reason.clone().filter(|reason| !reason.is_empty());
    let never_started = task
        .containers
        .iter()
        .find(|each| each.seen.exit_code.is_none() && each.seen.reason.is_some())
        .and_then(|each| each.seen.reason.clone());
    let exited = essential_exit(task)
        .filter(|_| task.containers.iter().any(|each| each.seen.exit_code.is_some()));
    let cause = match (had_run, never_started, exited, said) {
        (false, Some(reason), _, _) => StopCause::FailedToStart { reason },
        // A sentence of the agent's own: it was not a container that ended the task.
        (true, _, Some(_), Some(reason)) if !reason.starts_with(ESSENTIAL_CONTAINER_EXITED) => {
            StopCause::AgentStopped { reason }
        }
        (_, _, Some(exited), _) => exited,
        (false, None, None, Some(reason)) => StopCause::FailedToStart { reason },
        (false, None, None, None) => {
            StopCause::FailedToStart { reason: "Task failed to start".to_owned() }
        }
        (true, _, None, Some(reason)) | (true, Some(reason), None, None) => {
            StopCause::AgentStopped { reason }
        }
        (true, None, None, None) => essential_exit(task)
            .unwrap_or(StopCause::AgentStopped { reason: ESSENTIAL_CONTAINER_EXITED.to_owned() }),
    };
    want_stopped(task, || cause, now);
}

/// Agents end a sentence of their own after the one that is always shown.
fn add_detail(task: &mut Task, report: &Report) {
    let said =
        report.reason.as_deref().and_then(|reason| reason.strip_prefix(ESSENTIAL_CONTAINER_EXITED));
    let said = said.and_then(|rest| rest.strip_prefix(": ")).filter(|said| !said.is_empty());
    if let Some(StopCause::EssentialContainerExited { detail, .. }) = task.stop_cause.as_deref_mut()
    {
        *detail = said.map(str::to_owned);
    }
}

fn health_reported(task: &mut Task, verdicts: &[HealthReport]) {
    for verdict in verdicts {
        if let Some(container) = task.container_mut(&verdict.container)
            && container.seen.phase < ContainerPhase::Stopped
        {
            container.seen.health = verdict.health;
        }
    }
}

fn stop_requested(task: &mut Task, reason: Option<&str>, now: Timestamp) {
    let reason = reason.filter(|reason| !reason.is_empty()).map(str::to_owned);
    unwanted(task, &StopCause::Requested { reason }, now);
}

fn unwanted(task: &mut Task, cause: &StopCause, now: Timestamp) {
    want_stopped(task, || cause.clone(), now);
    if task.instance.is_none() {
        // Never placed: there is no agent to wait for.
        stop(task, now);
    }
}

/// The first cause stays: what came after is its consequence.
fn want_stopped(task: &mut Task, cause: impl FnOnce() -> StopCause, now: Timestamp) {
    if task.desired == Desired::Running {
        task.desired = Desired::Stopped;
        task.stop_cause = Some(Box::new(cause()));
        task.times.stopping = Some(now);
        if task.phase >= Phase::Running {
            let next = if task.is_in_routing() { Phase::Deactivating } else { Phase::Stopping };
            task.phase = task.phase.max(next);
        }
    }
}

/// Only a task that serves is registered: one that is to stop never becomes a target.
fn registered(task: &mut Task) {
    let serves = task.phase == Phase::Running && task.desired == Desired::Running;
    if let Some(service) = task.service.as_mut().filter(|_| serves) {
        service.is_registered = true;
    }
}

fn targets_gone(task: &mut Task) {
    if let Some(service) = &mut task.service {
        service.is_registered = false;
    }
    let_go(task);
}

fn connected(task: &mut Task) {
    let serves = task.phase == Phase::Running && task.desired == Desired::Running;
    if let Some(service) = task.service.as_mut().filter(|_| serves) {
        service.is_connected = true;
    }
}

fn disconnected(task: &mut Task) {
    if let Some(service) = &mut task.service {
        service.is_connected = false;
    }
    let_go(task);
}

/// Its agent may be told to stop it now, unless something still leads requests to it.
fn let_go(task: &mut Task) {
    if task.is_in_routing() {
        return;
    }
    if task.desired == Desired::Stopped && task.phase >= Phase::Running {
        task.phase = task.phase.max(Phase::Stopping);
    }
}

fn stop(task: &mut Task, now: Timestamp) {
    task.phase = Phase::Stopped;
    task.times.stopping.get_or_insert(now);
    task.times.stopped = Some(now);
    for container in &mut task.containers {
        container.seen.phase = ContainerPhase::Stopped;
    }
    if let Some(interface) = &mut task.interface {
        interface.phase = AttachmentPhase::Deleted;
    }
}
