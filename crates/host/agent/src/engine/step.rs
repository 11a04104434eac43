//! The task's state machine: one input in, the next state out.
//!
//! Inputs may come late, twice or out of order; then they change nothing. What is to be done next is
//! never an output of a step: [`super::plan`] reads it off the state, so a restart needs no special
//! path.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use longshore_types::Timestamp;

use super::depend::{self, DependencyState};
use super::event;
use super::failure::Failure;
use super::state::{
    Binding, ContainerState, Desired, ExitState, GaveUp, Health, HealthSaid, Phase, Prepared,
    StopCause, TaskState,
};
use crate::reason;
use crate::spec::TaskSpec;

/// What a container that gave up on a dependency exits with, as Amazon's agent reports it.
const GAVE_UP_EXIT_CODE: i32 = 143;

/// Everything that can happen to a task.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The region wants it stopped.
    StopRequested,
    /// It is over a limit of this host.
    OverLimit {
        reason: String,
    },
    PullStarted {
        at: Timestamp,
    },
    /// The registry said which image it is, before its layers came.
    Resolved {
        container: usize,
        digest: String,
    },
    Pulled {
        container: usize,
        at: Timestamp,
        result: Result<Pulled, Failure>,
    },
    Prepared(Result<Prepared, Failure>),
    /// Its log driver is ready, or refuses.
    LogOpened {
        container: usize,
        result: Result<(), Failure>,
    },
    Created {
        container: usize,
        result: Result<Created, Failure>,
    },
    Started {
        container: usize,
        result: Result<Timestamp, Failure>,
    },
    Exited {
        container: usize,
        restarts: u32,
        exit: ExitState,
        reason: Option<String>,
    },
    /// Its last output is out, or will be sent by and by.
    Drained {
        container: usize,
        last_line: Option<String>,
    },
    Checked {
        container: usize,
        restarts: u32,
        health: Health,
        said: HealthSaid,
    },
    Signalled {
        container: usize,
        at: Timestamp,
    },
    Killed {
        container: usize,
        at: Timestamp,
    },
    /// Removed before it was ever started.
    Discarded {
        container: usize,
    },
    Released,
    /// The region accepted an event, or will never.
    Told {
        number: u64,
    },
    /// Found by this id on the host after a restart of the agent.
    Found {
        container: usize,
        found: Found,
    },
    /// Not found there, or only in parts, which were removed.
    Missing {
        container: usize,
        has_image: bool,
    },
    /// Nothing of the task is left, as after a reboot: what its containers share is to be made anew.
    Unprepared,
    /// Only time has passed.
    Tick,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pulled {
    pub digest: Option<String>,
    pub stop_signal: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Created {
    pub address: Option<Ipv4Addr>,
    pub netns: Option<PathBuf>,
    pub nameserver: Option<Ipv4Addr>,
    pub bindings: Vec<Binding>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Running { started_at: Timestamp },
    Exited { started_at: Timestamp, exit: ExitState, reason: Option<String> },
}

/// Applies one input and draws all conclusions from it.
pub(crate) fn step(spec: &TaskSpec, state: &mut TaskState, input: Input, now: Timestamp) {
    let was_desired = state.desired;
    apply(spec, state, input, now);
    // A conclusion may be the premise of the next; each moves something forward, so this ends.
    while conclude(spec, state, now) {}
    event::collect(spec, state, now);
    assert!(was_desired <= state.desired, "a task that is to stop is never wanted again");
}

fn apply(spec: &TaskSpec, state: &mut TaskState, input: Input, now: Timestamp) {
    match input {
        Input::StopRequested => want_stopped(state, StopCause::Requested),
        Input::OverLimit { reason } => over_limit(state, reason),
        Input::PullStarted { at } => {
            state.pull_started_at.get_or_insert(at);
        }
        Input::Resolved { container, digest } => {
            if let Some(container) = state.containers.get_mut(container) {
                container.digest.get_or_insert(digest);
            }
        }
        Input::Pulled { container, at, result } => pulled(state, container, at, result),
        Input::Prepared(result) => match result {
            Ok(prepared) => {
                state.prepared.get_or_insert(prepared);
            }
            Err(why) => {
                want_stopped(state, StopCause::FailedToStart { reason: why.to_string() });
            }
        },
        Input::LogOpened { container, result } => log_opened(state, container, result, now),
        Input::Created { container, result } => created(state, container, result, now),
        Input::Started { container, result } => started(state, container, result),
        Input::Exited { container, restarts, exit, reason } => {
            if state.containers.get(container).is_some_and(|each| each.restarts == restarts) {
                exited(spec, state, container, exit, reason);
            }
        }
        Input::Drained { container, last_line } => {
            if let Some(container) = at_phase(state, container, Phase::Exited) {
                container.last_line = last_line.or(container.last_line.take());
                container.phase = Phase::Stopped;
            }
        }
        Input::Checked { container, restarts, health, said } => {
            checked(state, container, restarts, (health, said), now);
        }
        Input::Signalled { container, at } => {
            if let Some(container) = state.containers.get_mut(container) {
                container.stop_sent_at.get_or_insert(at);
            }
        }
        Input::Killed { container, at } => {
            if let Some(container) = state.containers.get_mut(container) {
                container.kill_sent_at = Some(at);
            }
        }
        Input::Discarded { container } => {
            if let Some(container) = at_phase(state, container, Phase::Created) {
                match container.gave_up.take() {
                    Some(gave_up) => give_up_on(container, gave_up, now),
                    None => container.phase = Phase::Stopped,
                }
            }
        }
        Input::Released => state.released = state.is_all_stopped(),
        Input::Told { number } => {
            if state.outbox.front().is_some_and(|event| event.number == number) {
                state.outbox.pop_front();
            }
        }
        Input::Found { container, found } => self::found(spec, state, container, found),
        Input::Missing { container, has_image } => missing(state, container, has_image),
        Input::Unprepared => state.prepared = None,
        Input::Tick => {}
    }
}

fn at_phase(state: &mut TaskState, index: usize, phase: Phase) -> Option<&mut ContainerState> {
    state.containers.get_mut(index).filter(|container| container.phase == phase)
}

fn want_stopped(state: &mut TaskState, cause: StopCause) {
    state.desired = Desired::Stopped;
    state.stop_cause.get_or_insert(cause);
}

/// Outweighs a wish to stop that is being carried out kindly: there is no time for kindness now.
fn over_limit(state: &mut TaskState, reason: String) {
    if state.containers.iter().all(|each| Phase::Exited <= each.phase) {
        return;
    }
    state.desired = Desired::Stopped;
    match &state.stop_cause {
        None | Some(StopCause::Requested | StopCause::EssentialExited { .. }) => {
            state.stop_cause = Some(StopCause::OverLimit { reason });
        }
        Some(StopCause::FailedToStart { .. } | StopCause::OverLimit { .. }) => {}
    }
}

fn pulled(state: &mut TaskState, index: usize, at: Timestamp, result: Result<Pulled, Failure>) {
    if at_phase(state, index, Phase::Waiting).is_none() {
        return;
    }
    state.pull_stopped_at = Some(at);
    let container = &mut state.containers[index];
    match result {
        Ok(pulled) => {
            container.digest = pulled.digest.or(container.digest.take());
            container.stop_signal = pulled.stop_signal;
            container.phase = Phase::Pulled;
        }
        Err(why) => fail(container, why.to_string()),
    }
}

/// A container that cannot be run: stopped without ever having run.
fn fail(container: &mut ContainerState, reason: String) {
    container.reason.get_or_insert(reason);
    container.phase = Phase::Stopped;
}

fn created(state: &mut TaskState, index: usize, result: Result<Created, Failure>, now: Timestamp) {
    let Some(container) = at_phase(state, index, Phase::Pulled) else { return };
    match result {
        Ok(created) => {
            container.address = created.address;
            container.netns = created.netns;
            container.bindings = created.bindings;
            container.created_at = Some(now);
            container.phase = Phase::Created;
        }
        Err(why) => fail(container, why.to_string()),
    }
}

fn started(state: &mut TaskState, index: usize, result: Result<Timestamp, Failure>) {
    let Some(container) = at_phase(state, index, Phase::Created) else { return };
    match result {
        Ok(at) => {
            container.started_at = Some(at);
            container.phase = Phase::Running;
            container.gave_up = None;
            container.exit = None;
            container.health = Health::Unknown;
            container.health_since = Some(at);
            container.health_said = None;
        }
        Err(why) => fail(container, why.to_string()),
    }
}

fn exited(
    spec: &TaskSpec,
    state: &mut TaskState,
    index: usize,
    exit: ExitState,
    reason: Option<String>,
) {
    let wants_running = state.desired == Desired::Running;
    // A process may end before the news of its start has come round.
    let Some(container) = state
        .containers
        .get_mut(index)
        .filter(|each| (Phase::Created..=Phase::Running).contains(&each.phase))
    else {
        return;
    };
    container.started_at.get_or_insert(exit.at);
    if wants_running && is_restarted(spec, index, container, &exit) {
        container.restarts += 1;
        container.last_exit_code = exit.code;
        // Stays its last word if the task ends before it runs again.
        container.exit = Some(exit);
        container.phase = Phase::Pulled;
        return;
    }
    if exit.oom_killed {
        container.reason.get_or_insert(reason::OUT_OF_MEMORY.to_owned());
    } else if let Some(limit) = exit.pids_limit_hit.filter(|_| exit.code != Some(0)) {
        container.reason.get_or_insert(reason::out_of_pids(limit));
    }
    if let Some(reason) = reason {
        container.reason.get_or_insert(reason);
    }
    container.exit = Some(exit);
    container.phase = Phase::Exited;
}

fn is_restarted(
    spec: &TaskSpec,
    index: usize,
    container: &ContainerState,
    exit: &ExitState,
) -> bool {
    let Some(policy) = &spec.containers[index].restart else { return false };
    let is_ignored = exit.code.is_some_and(|code| policy.ignored_exit_codes.contains(&code));
    let ran_ms = exit.at.since_ms(container.started_at.unwrap_or(exit.at));
    !is_ignored && policy.attempt_period_ms <= ran_ms
}

fn checked(
    state: &mut TaskState,
    index: usize,
    restarts: u32,
    (health, said): (Health, HealthSaid),
    now: Timestamp,
) {
    let Some(container) = at_phase(state, index, Phase::Running) else { return };
    if container.restarts == restarts {
        if container.health != health {
            container.health_since = Some(now);
        }
        container.health = health;
        container.health_said = Some(said);
    }
}

fn found(spec: &TaskSpec, state: &mut TaskState, index: usize, found: Found) {
    let Some(container) = state.containers.get_mut(index) else { return };
    match found {
        Found::Running { started_at } => {
            if container.phase < Phase::Running {
                container.started_at = Some(started_at);
                container.phase = Phase::Running;
            }
        }
        Found::Exited { started_at, exit, reason } => {
            if container.phase < Phase::Running {
                container.started_at = Some(started_at);
                container.phase = Phase::Running;
            }
            exited(spec, state, index, exit, reason);
        }
    }
}

/// A process that is gone without a trace, as after a power cut, cannot be asked how it ended.
fn missing(state: &mut TaskState, index: usize, has_image: bool) {
    let Some(container) = state.containers.get_mut(index) else { return };
    match container.phase {
        Phase::Waiting | Phase::Exited | Phase::Stopped => {}
        Phase::Pulled | Phase::Created => {
            container.phase = if has_image { Phase::Pulled } else { Phase::Waiting };
        }
        Phase::Running => {
            container.reason.get_or_insert(reason::VANISHED.to_owned());
            container.phase = Phase::Exited;
        }
    }
}

/// Draws one round of conclusions; true if there was one.
fn conclude(spec: &TaskSpec, state: &mut TaskState, now: Timestamp) -> bool {
    refuse(spec, state) | give_up(spec, state, now) | lose_essential(spec, state) | wind_down(state)
}

fn refuse(spec: &TaskSpec, state: &mut TaskState) -> bool {
    let mut is_changed = false;
    for (container, spec) in state.containers.iter_mut().zip(&spec.containers) {
        if let Some(refusal) = &spec.refusal
            && container.phase == Phase::Waiting
        {
            fail(container, refusal.clone());
            is_changed = true;
        }
    }
    is_changed
}

/// A container whose dependency can no longer be met never starts.
fn give_up(spec: &TaskSpec, state: &mut TaskState, now: Timestamp) -> bool {
    if state.desired == Desired::Stopped {
        return false;
    }
    let mut is_changed = false;
    for index in 0..state.containers.len() {
        if Phase::Running <= state.containers[index].phase {
            continue;
        }
        if let DependencyState::Never(why) = depend::check(spec, state, index, now) {
            let reason = reason::dependency(&spec.containers[index].name, &why);
            let gave_up = GaveUp { reason, exit_code: Some(GAVE_UP_EXIT_CODE) };
            if !give_up_or_wait(&mut state.containers[index], gave_up, now) {
                continue;
            }
            is_changed = true;
        }
    }
    is_changed
}

/// Gives up on a container. One that exists may be starting this very moment: who discards it will
/// know. False if that was known already.
fn give_up_or_wait(container: &mut ContainerState, gave_up: GaveUp, now: Timestamp) -> bool {
    if container.phase < Phase::Created {
        give_up_on(container, gave_up, now);
    } else if container.gave_up.is_none() {
        container.gave_up = Some(gave_up);
    } else {
        return false;
    }
    true
}

fn give_up_on(container: &mut ContainerState, gave_up: GaveUp, now: Timestamp) {
    if gave_up.exit_code.is_some() {
        container.exit = Some(ExitState::plain(gave_up.exit_code, now));
    }
    fail(container, gave_up.reason);
}

fn log_opened(state: &mut TaskState, index: usize, result: Result<(), Failure>, now: Timestamp) {
    let Some(container) = state.containers.get_mut(index) else { return };
    match result {
        Ok(()) => container.has_log = true,
        Err(why) if container.phase < Phase::Running && !container.has_log => {
            give_up_or_wait(container, GaveUp { reason: why.to_string(), exit_code: None }, now);
        }
        Err(_) => {}
    }
}

fn lose_essential(spec: &TaskSpec, state: &mut TaskState) -> bool {
    if state.desired == Desired::Stopped {
        return false;
    }
    let gone = |index: &usize| {
        spec.containers[*index].essential && Phase::Exited <= state.containers[*index].phase
    };
    let is_over = state.containers.iter().all(|each| Phase::Exited <= each.phase);
    let first = (0..state.containers.len()).filter(gone).min_by_key(|index| {
        let container = &state.containers[*index];
        (container.exit.as_ref().map(|exit| exit.at), !container.has_run())
    });
    let Some(container) = first.or(is_over.then_some(0)) else { return false };
    let lost = &state.containers[container];
    let cause = match (&lost.reason, lost.has_run()) {
        (Some(reason), false) => StopCause::FailedToStart { reason: reason.clone() },
        (None, false) | (_, true) => StopCause::EssentialExited { container },
    };
    state.execution_stopped_at =
        state.execution_stopped_at.or(lost.exit.as_ref().map(|exit| exit.at));
    want_stopped(state, cause);
    true
}

/// In a task that is to stop, what was not even created is stopped.
fn wind_down(state: &mut TaskState) -> bool {
    if state.desired == Desired::Running {
        return false;
    }
    let mut is_changed = false;
    for container in &mut state.containers {
        if container.phase < Phase::Created {
            container.phase = Phase::Stopped;
            is_changed = true;
        }
    }
    is_changed
}
