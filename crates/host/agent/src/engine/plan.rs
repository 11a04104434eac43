//! What is to be done for a task now, read off its state. Told nothing, and asked as often as you like.

use longshore_types::Timestamp;

use super::depend::{self, DependencyState};
use super::state::{Desired, Phase, StopCause, TaskState};
use crate::limits::{CONTAINER_CHANGE_MS, KILL_RETRY_MS, STOP_TIMEOUT_MS};
use crate::spec::TaskSpec;

/// One thing to do; also its own key while it is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Action {
    /// Make what the containers share: limits, network, volumes.
    Prepare,
    Pull(usize),
    /// See to it that its output has somewhere to go.
    OpenLog(usize),
    Create(usize),
    Start(usize),
    /// Wait for the process to end.
    Watch {
        container: usize,
        restarts: u32,
    },
    /// Run its health check again and again.
    Check {
        container: usize,
        restarts: u32,
    },
    Signal(usize),
    Kill(usize),
    /// Remove what was created and is not to be started.
    Discard(usize),
    /// See its last output out.
    Drain(usize),
    /// Leave nothing of the task on the host.
    Release,
    /// Tell the region the event with this number.
    Tell(u64),
}

impl Action {
    /// The container that must not be handled by two of these at a time.
    pub(crate) fn holds(self) -> Option<usize> {
        match self {
            Self::Pull(index)
            | Self::Create(index)
            | Self::Start(index)
            | Self::Discard(index)
            | Self::Drain(index) => Some(index),
            Self::Prepare
            | Self::OpenLog(_)
            | Self::Watch { .. }
            | Self::Check { .. }
            | Self::Signal(_)
            | Self::Kill(_)
            | Self::Release
            | Self::Tell(_) => None,
        }
    }

    /// Whether it is given up as soon as it is no longer in the plan.
    pub(crate) fn is_abandoned_when_unplanned(self) -> bool {
        match self {
            Self::Pull(_) | Self::OpenLog(_) | Self::Check { .. } | Self::Watch { .. } => true,
            Self::Prepare
            | Self::Create(_)
            | Self::Start(_)
            | Self::Signal(_)
            | Self::Kill(_)
            | Self::Discard(_)
            | Self::Drain(_)
            | Self::Release
            | Self::Tell(_) => false,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub actions: Vec<Action>,
    /// When to look again although nothing was heard.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
    }
}

/// All that should be under way.
pub(crate) fn plan(spec: &TaskSpec, state: &TaskState, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if let Some(event) = state.outbox.front() {
        plan.actions.push(Action::Tell(event.number));
    }
    if let Some(since) = state.change_at {
        plan.wake(since.plus_ms(CONTAINER_CHANGE_MS));
    }
    if state.is_all_stopped() {
        if !state.released {
            plan.actions.push(Action::Release);
        }
        return plan;
    }
    match state.desired {
        Desired::Running => forward(spec, state, now, &mut plan),
        Desired::Stopped => backward(spec, state, now, &mut plan),
    }
    for (index, container) in state.containers.iter().enumerate() {
        let restarts = container.restarts;
        match container.phase {
            Phase::Running => plan.actions.push(Action::Watch { container: index, restarts }),
            Phase::Exited => plan.actions.push(Action::Drain(index)),
            Phase::Waiting | Phase::Pulled | Phase::Created | Phase::Stopped => {}
        }
    }
    plan
}

fn forward(spec: &TaskSpec, state: &TaskState, now: Timestamp, plan: &mut Plan) {
    if state.prepared.is_none() {
        plan.actions.push(Action::Prepare);
    }
    for (index, container) in state.containers.iter().enumerate() {
        if container.phase < Phase::Running && !container.has_log && container.gave_up.is_none() {
            plan.actions.push(Action::OpenLog(index));
        }
        match container.phase {
            Phase::Waiting => plan.actions.push(Action::Pull(index)),
            Phase::Pulled => {
                if state.prepared.is_some() && depend::can_be_created(spec, state, index) {
                    plan.actions.push(Action::Create(index));
                }
            }
            Phase::Created if container.gave_up.is_some() => {
                plan.actions.push(Action::Discard(index));
            }
            Phase::Created => {
                let ready = depend::check(spec, state, index, now);
                if container.has_log && ready == DependencyState::Ready {
                    plan.actions.push(Action::Start(index));
                }
            }
            Phase::Running => {
                if spec.containers[index].health.is_some() {
                    let restarts = container.restarts;
                    plan.actions.push(Action::Check { container: index, restarts });
                }
            }
            Phase::Exited | Phase::Stopped => {}
        }
        if container.phase < Phase::Running
            && let DependencyState::Wait { until: Some(until) } =
                depend::check(spec, state, index, now)
        {
            plan.wake(until);
        }
    }
}

fn backward(spec: &TaskSpec, state: &TaskState, now: Timestamp, plan: &mut Plan) {
    // What is over a limit gets no time to take more: it is killed at once, in no order.
    let is_urgent = matches!(state.stop_cause, Some(StopCause::OverLimit { .. }));
    for (index, container) in state.containers.iter().enumerate() {
        let is_alive = matches!(container.phase, Phase::Created | Phase::Running);
        if !is_alive || !(is_urgent || depend::may_be_stopped(spec, state, index)) {
            continue;
        }
        let timeout = spec.containers[index].stop_timeout_ms.unwrap_or(STOP_TIMEOUT_MS);
        match (container.phase, container.stop_sent_at, container.kill_sent_at) {
            // It has no process that could be asked kindly.
            (Phase::Created, _, _) => plan.actions.push(Action::Discard(index)),
            (_, _, None) if is_urgent => plan.actions.push(Action::Kill(index)),
            (_, None, None) => plan.actions.push(Action::Signal(index)),
            (_, Some(sent), None) => {
                if sent.plus_ms(timeout) <= now {
                    plan.actions.push(Action::Kill(index));
                } else {
                    plan.wake(sent.plus_ms(timeout));
                }
            }
            (_, _, Some(sent)) => {
                if sent.plus_ms(KILL_RETRY_MS) <= now {
                    plan.actions.push(Action::Kill(index));
                } else {
                    plan.wake(sent.plus_ms(KILL_RETRY_MS));
                }
            }
        }
    }
}
