//! Services whose deployments are driven from outside: each task set is kept at its own count.

use longshore_types::DeploymentId;
use model::service::{Happening, TaskSet, TaskSetStatus};
use model::task::StopCause;

use super::limits::Sizes;
use super::rolling::{Line, plan};
use super::turn::{Plan, Turn};

/// Decides a turn of a service with an external controller.
pub(super) fn decide(turn: &mut Turn<'_, '_>) {
    for at in 0..turn.task_sets.len() {
        let id = turn.task_sets[at].is.id;
        let plan = plan_task_set(turn, &turn.task_sets[at].is);
        turn.move_tasks(&plan, Some(id));
        note_task_set(turn, at, &plan);
    }
    stop_strays(turn);
    let is_gone = |turn: &Turn<'_, '_>, set: &TaskSet| {
        set.status == TaskSetStatus::Draining && turn.census.of_deployment(set.id).is_empty()
    };
    let (gone, kept) =
        std::mem::take(&mut turn.task_sets).into_iter().partition(|row| is_gone(turn, &row.is));
    turn.task_sets = kept;
    turn.verdict.gone_task_sets = {
        let gone: Vec<_> = gone;
        gone.into_iter().map(|row| row.is.key()).collect()
    };
    let is_steady = turn.task_sets.iter().all(|row| row.is.is_steady);
    turn.note_steadiness(is_steady && !turn.task_sets.is_empty());
}

/// How many tasks a task set shall have.
pub(super) fn desired(turn: &Turn<'_, '_>, set: &TaskSet) -> u32 {
    match set.status {
        TaskSetStatus::Primary | TaskSetStatus::Active => {
            set.desired(turn.picture.service.desired_count)
        }
        TaskSetStatus::Draining => 0,
    }
}

/// What becomes of the tasks of a task set.
pub(super) fn plan_task_set(turn: &Turn<'_, '_>, set: &TaskSet) -> Plan {
    let line = Line {
        id: set.id,
        own: turn.census.of_deployment(set.id),
        old: Vec::new(),
        sizes: Sizes::of(&turn.picture.service.deployment, desired(turn, set)),
        is_going: true,
        streak: set.failures,
        last_failure_at: set.last_failure_at,
        shortage: set.shortage.as_ref(),
        is_rebalanced: false,
    };
    plan(turn, &line)
}

/// Writes down whether the task set is steady, and says so once it is.
fn note_task_set(turn: &mut Turn<'_, '_>, at: usize, plan: &Plan) {
    let now = turn.now();
    let set = &mut turn.task_sets[at].is;
    let id = set.id;
    if plan.needed == 0 {
        set.shortage = None;
    }
    let was_steady = set.is_steady;
    if was_steady != plan.is_settled || set.steadiness_changed_at.is_none() {
        set.is_steady = plan.is_settled;
        set.steadiness_changed_at = Some(now);
    }
    let (failures, why) = (set.failures, set.last_failure.clone());
    if plan.is_settled && !was_steady {
        turn.say(Happening::SteadyState { task_set: Some(id) });
    }
    turn.note_failing(id, failures, why);
}

/// Stops tasks whose task set is no more.
fn stop_strays(turn: &mut Turn<'_, '_>) {
    let known: Vec<DeploymentId> = turn.task_sets.iter().map(|row| row.is.id).collect();
    let mut plan = Plan::default();
    for member in turn.census.but(None) {
        if member.is_wanted() && !known.contains(&member.deployment) {
            let cause = StopCause::ServiceScaled { deployment: member.deployment };
            plan.stops.push((member.task.id, cause));
        }
    }
    turn.move_tasks(&plan, None);
}
