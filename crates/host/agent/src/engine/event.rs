//! What the region is to be told: derived by comparing what is with what the last event said.

use longshore_types::Timestamp;

use super::state::{
    ContainerChange, ContainerState, ManagedAgentChange, Phase, Status, StopCause, TaskEvent,
    TaskState,
};
use crate::limits::CONTAINER_CHANGE_MS;
use crate::reason;
use crate::spec::TaskSpec;

/// Puts an event into the outbox if there is something new to say.
pub(super) fn collect(spec: &TaskSpec, state: &mut TaskState, now: Timestamp) {
    if state.reported == Some(Status::Stopped) {
        return;
    }
    let reached = state.status();
    if state.reported < reached {
        push(spec, state, reached.unwrap_or(Status::Pending), now);
        return;
    }
    // The region takes the end of an essential container for the cause, unless it hears of another with
    // it: that comes with the end of the task.
    if matches!(state.stop_cause, Some(StopCause::OverLimit { .. })) {
        state.change_at = None;
        return;
    }
    let is_changed =
        |each: &ContainerState| each.reported < Some(each.status()) && is_tellable(each);
    if !state.containers.iter().any(is_changed) {
        state.change_at = None;
        return;
    }
    // Often the task itself is about to move; then one event says both.
    let since = *state.change_at.get_or_insert(now);
    if since.plus_ms(CONTAINER_CHANGE_MS) <= now {
        push(spec, state, state.reported.unwrap_or(Status::Pending), now);
    }
}

/// A container that only waits is no news by itself.
fn is_tellable(container: &ContainerState) -> bool {
    Status::Pending < container.status()
}

fn push(spec: &TaskSpec, state: &mut TaskState, status: Status, now: Timestamp) {
    if status == Status::Stopped && state.containers.iter().any(ContainerState::has_run) {
        let last =
            state.containers.iter().filter_map(|each| each.exit.as_ref()).map(|e| e.at).max();
        state.execution_stopped_at = state.execution_stopped_at.or(last).or(Some(now));
    }
    let is_first_run = state.reported < Some(Status::Running) && status == Status::Running;
    let changes = state
        .containers
        .iter_mut()
        .zip(&spec.containers)
        .filter(|(each, _)| each.reported < Some(each.status()))
        .map(|(each, spec)| {
            each.reported = Some(each.status());
            change(&spec.name, each)
        });
    let containers = changes.collect();
    state.events += 1;
    state.reported = state.reported.max(Some(status));
    state.change_at = None;
    let reason = match status {
        Status::Stopped => reason::of_task(spec, state),
        Status::Pending | Status::Running => String::new(),
    };
    state.outbox.push_back(TaskEvent {
        number: state.events,
        status,
        reason,
        containers,
        managed_agents: if is_first_run { managed_agents(spec) } else { Vec::new() },
        pull_started_at: state.pull_started_at,
        pull_stopped_at: state.pull_stopped_at,
        execution_stopped_at: state.execution_stopped_at,
    });
}

fn change(name: &str, container: &ContainerState) -> ContainerChange {
    let exists = container.has_run() || Phase::Created == container.phase;
    ContainerChange {
        name: name.to_owned(),
        status: container.status(),
        runtime_id: exists.then(|| container.runtime_id.clone()),
        image_digest: container.digest.clone(),
        exit_code: container.exit.as_ref().and_then(|exit| exit.code),
        reason: container.reason.as_deref().map(reason::fit_container),
        bindings: container.bindings.clone(),
    }
}

fn managed_agents(spec: &TaskSpec) -> Vec<ManagedAgentChange> {
    let all = spec.containers.iter().flat_map(|container| {
        container.managed_agents.iter().map(|agent| ManagedAgentChange {
            container: container.name.clone(),
            agent: agent.clone(),
            reason: format!("{agent} is not available on this host yet"),
        })
    });
    all.collect()
}
