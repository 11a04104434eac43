//! Plans a service with an external controller: each task set is kept at its own share of the desired count.

use longshore_types::DeploymentId;
use model::service::{ServiceEventKind, TaskSet, TaskSetStatus};
use model::task::StopCause;

use super::limits::Sizes;
use super::pass::{Pass, TaskPlan};
use super::rolling::{Line, plan};

/// Decides a pass of a service with an external controller.
pub(super) fn decide(pass: &mut Pass<'_, '_>) {
    for at in 0..pass.task_sets.len() {
        let id = pass.task_sets[at].is.id;
        let plan = plan_task_set(pass, &pass.task_sets[at].is);
        pass.apply_task_plan(&plan, Some(id));
        note_task_set(pass, at, &plan);
    }
    stop_strays(pass);
    let is_gone = |pass: &Pass<'_, '_>, set: &TaskSet| {
        set.status == TaskSetStatus::Draining && pass.inventory.of_deployment(set.id).is_empty()
    };
    let (gone, kept) =
        std::mem::take(&mut pass.task_sets).into_iter().partition(|row| is_gone(pass, &row.is));
    pass.task_sets = kept;
    pass.plan.gone_task_sets = {
        let gone: Vec<_> = gone;
        gone.into_iter().map(|row| row.is.key()).collect()
    };
    let is_steady = pass.task_sets.iter().all(|row| row.is.is_steady);
    pass.note_steadiness(is_steady && !pass.task_sets.is_empty());
}

/// How many tasks a task set is to have: its scale of the service's desired count; none once it is deleted.
pub(super) fn desired(pass: &Pass<'_, '_>, set: &TaskSet) -> u32 {
    match set.status {
        TaskSetStatus::Primary | TaskSetStatus::Active => {
            set.desired(pass.snapshot.service.desired_count)
        }
        TaskSetStatus::Draining => 0,
    }
}

/// Starts and stops of one task set.
pub(super) fn plan_task_set(pass: &Pass<'_, '_>, set: &TaskSet) -> TaskPlan {
    let line = Line {
        id: set.id,
        own: pass.inventory.of_deployment(set.id),
        old: Vec::new(),
        sizes: Sizes::of(&pass.snapshot.service.deployment, desired(pass, set)),
        is_going: true,
        streak: set.failures,
        last_failure_at: set.last_failure_at,
        shortage: set.shortage.as_ref(),
        is_rebalanced: false,
    };
    plan(pass, &line)
}

/// Writes down whether the task set is steady, and says so once it is.
fn note_task_set(pass: &mut Pass<'_, '_>, at: usize, plan: &TaskPlan) {
    let now = pass.now();
    let set = &mut pass.task_sets[at].is;
    let id = set.id;
    if plan.needed == 0 {
        set.shortage = None;
    }
    let was_steady = set.is_steady;
    if was_steady != plan.is_steady || set.steadiness_changed_at.is_none() {
        set.is_steady = plan.is_steady;
        set.steadiness_changed_at = Some(now);
    }
    let (failures, why) = (set.failures, set.last_failure.clone());
    if plan.is_steady && !was_steady {
        pass.say(ServiceEventKind::SteadyState { task_set: Some(id) });
    }
    pass.note_failing(id, failures, why);
}

/// Stops tasks whose task set's row is gone.
fn stop_strays(pass: &mut Pass<'_, '_>) {
    let known: Vec<DeploymentId> = pass.task_sets.iter().map(|row| row.is.id).collect();
    let mut plan = TaskPlan::default();
    for view in pass.inventory.but(None) {
        if view.is_wanted() && !known.contains(&view.deployment) {
            let cause = StopCause::ServiceScaled { deployment: view.deployment };
            plan.stops.push((view.task.id, cause));
        }
    }
    pass.apply_task_plan(&plan, None);
}
