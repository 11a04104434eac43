//! Whether a container may start: what the others it depends on have come to.

use longshore_types::Timestamp;

use super::firelens;
use super::state::{Health, Phase, TaskState};
use crate::spec::{Condition, Dependency, LogDriver, TaskSpec};

/// What a container's dependencies allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DependencyState {
    Ready,
    /// Not yet; `until` is when a dependency's start timeout ends.
    Wait {
        until: Option<Timestamp>,
    },
    Never(String),
}

/// Looks at all dependencies of `index`, those for creation and those for the start.
pub(crate) fn check(
    spec: &TaskSpec,
    state: &TaskState,
    index: usize,
    now: Timestamp,
) -> DependencyState {
    // A container that is restarted waits for nobody again.
    if 0 < state.containers[index].restarts {
        return DependencyState::Ready;
    }
    let mut waits = false;
    let mut until: Option<Timestamp> = None;
    for dependency in &spec.containers[index].depends_on {
        match one(spec, state, *dependency, now) {
            DependencyState::Ready => {}
            DependencyState::Wait { until: end } => {
                waits = true;
                until = [until, end].into_iter().flatten().min();
            }
            never @ DependencyState::Never(_) => return never,
        }
    }
    if waits { DependencyState::Wait { until } } else { DependencyState::Ready }
}

fn one(
    spec: &TaskSpec,
    state: &TaskState,
    dependency: Dependency,
    now: Timestamp,
) -> DependencyState {
    let name = &spec.containers[dependency.on].name;
    let other = &state.containers[dependency.on];
    let is_over = Phase::Exited <= other.phase;
    let code = other.exit.as_ref().and_then(|exit| exit.code);
    let never =
        |what: &str| DependencyState::Never(format!("dependency container \"{name}\" {what}"));
    let is_met = match dependency.condition {
        Condition::Create => Phase::Created <= other.phase,
        Condition::Start => Phase::Running <= other.phase,
        Condition::Complete | Condition::Success => other.phase == Phase::Stopped,
        Condition::Healthy => other.phase == Phase::Running && other.health == Health::Healthy,
    };
    if is_over && !other.has_run() {
        return never("could not be started");
    }
    if dependency.condition == Condition::Success && is_over && code != Some(0) {
        let code = code.map_or("an unknown code".to_owned(), |code| format!("code {code}"));
        return never(&format!("exited with {code}, not with 0 as SUCCESS demands"));
    }
    if dependency.condition == Condition::Healthy && is_over {
        return never("exited before it was HEALTHY");
    }
    if is_met {
        return DependencyState::Ready;
    }
    let until = match (spec.containers[dependency.on].start_timeout_ms, other.started_at) {
        (Some(timeout), Some(started)) => Some(started.plus_ms(timeout)),
        _ => None,
    };
    match until {
        Some(until) if until <= now => never(&format!(
            "did not reach {} within its start timeout",
            condition_name(dependency.condition)
        )),
        until => DependencyState::Wait { until },
    }
}

fn condition_name(condition: Condition) -> &'static str {
    match condition {
        Condition::Create => "CREATE",
        Condition::Start => "START",
        Condition::Complete => "COMPLETE",
        Condition::Success => "SUCCESS",
        Condition::Healthy => "HEALTHY",
    }
}

/// Whether everything that creating `index` needs of other containers is there.
pub(crate) fn can_be_created(spec: &TaskSpec, state: &TaskState, index: usize) -> bool {
    let reached = |other: usize, phase: Phase| phase <= state.containers[other].phase;
    let container = &spec.containers[index];
    container.volumes_from.iter().all(|from| reached(from.container, Phase::Created))
        && container.links.iter().all(|link| reached(link.to, Phase::Created))
        // Who logs to the task's router is told its address.
        && firelens::router(spec).is_none_or(|(router, _)| {
            container.log.driver != LogDriver::Firelens || reached(router, Phase::Created)
        })
}

/// Whether every container that depends on `index` is gone, so that it may be stopped in its turn.
pub(crate) fn may_be_stopped(spec: &TaskSpec, state: &TaskState, index: usize) -> bool {
    let depends = |other: usize| {
        spec.containers[other].depends_on.iter().any(|dependency| dependency.on == index)
    };
    (0..spec.containers.len())
        .filter(|other| depends(*other))
        .all(|other| !matches!(state.containers[other].phase, Phase::Created | Phase::Running))
}
