//! Plans a daemon service: one task on each active instance that meets its constraints.
//!
//! An instance has at most one, so an old task is stopped before its replacement starts, and the floor
//! ([`Sizes::floor`]) bounds on how many instances that happens at a time. On a draining instance the daemon is
//! stopped after every other task has left.

use std::collections::BTreeMap;

use longshore_types::InstanceId;
use model::instance::InstanceStatus;

use super::inventory::{Leave, Readiness, TaskView, count};
use super::limits::Sizes;
use super::pass::{Pass, TaskPlan, Why};
use super::rolling::push_starts;
use super::snapshot::{Place, ServiceHost, Snapshot};

/// Decides a pass of a daemon service.
pub(super) fn decide(pass: &mut Pass<'_, '_>) {
    let plan = plan_service(pass);
    pass.carry_out(&plan);
}

/// Whether the instance is to have a task of the service.
pub(super) fn is_eligible(host: &ServiceHost) -> bool {
    host.status == InstanceStatus::Active && host.accepts
}

/// On how many instances the service wants a task: its desired count.
pub(super) fn desired(snapshot: &Snapshot<'_>) -> u32 {
    count(snapshot.hosts.iter().filter(|host| is_eligible(host)))
}

/// Starts and stops of a daemon service.
pub(super) fn plan_service(pass: &Pass<'_, '_>) -> TaskPlan {
    let sizes = Sizes::of(&pass.snapshot.service.deployment, desired(pass.snapshot));
    let mut plan = TaskPlan { desired: sizes.desired, ..TaskPlan::default() };
    let Some(primary) = pass.primary().map(|at| &pass.deployments[at].is) else { return plan };
    let is_going = !primary.stage.has_failed();
    let waits_until = pass.next_try(primary.streak, primary.last_failure_at);

    let mut by_host: BTreeMap<InstanceId, Vec<&TaskView<'_>>> = BTreeMap::new();
    for view in pass.inventory.but(None) {
        // A task without an instance serves none; the instance it was meant for counts as missing one.
        if let Some(instance) = view.task.instance {
            by_host.entry(instance).or_default().push(view);
        }
    }
    let mut state = State { pass, primary: primary.id, plan: &mut plan, replaceable: Vec::new() };
    let (mut healthy, mut hopeful, mut is_whole, mut is_under_way) = (0, 0, true, false);
    for host in &pass.snapshot.hosts {
        let views = by_host.get(&host.id).map_or(&[][..], Vec::as_slice);
        if !is_eligible(host) {
            state.clear(host, views);
            continue;
        }
        let kept = state.tidy(views);
        healthy += count(views.iter().filter(|view| view.readiness >= Readiness::Healthy));
        hopeful += count(views.iter().filter(|view| view.readiness >= Readiness::Unproven));
        is_under_way |= views.iter().any(|view| view.readiness < Readiness::Healthy);
        let is_own = kept.is_some_and(|kept| kept.deployment == primary.id && kept.stays());
        is_whole &= !host.is_connected
            || (is_own && kept.is_some_and(|kept| kept.readiness == Readiness::Healthy));
        if !is_own {
            state.plan.needed += u32::from(host.is_connected);
        }
        if views.is_empty() && host.is_connected && is_going && waits_until.is_none() {
            push_starts(state.plan, primary.id, 1, Place::On(host.id));
        }
    }
    if is_going && waits_until.is_none() {
        state.replace(healthy, hopeful, &sizes);
    }
    if is_going && plan.needed > 0 {
        plan.backoff_until = waits_until;
    }
    let has_old = pass.inventory.but(Some(primary.id)).next().is_some();
    let is_stopping = pass.inventory.but(None).any(|view| !view.is_wanted());
    let is_quiet = plan.starts.is_empty() && plan.stops.is_empty();
    plan.is_steady = is_quiet && is_whole && !has_old && !is_stopping;
    plan.is_blocked = is_quiet
        && is_going
        && waits_until.is_none()
        && plan.needed > 0
        && plan.protected == 0
        && !is_under_way
        && !is_stopping;
    plan
}

struct State<'s, 'p, 'a> {
    pass: &'s Pass<'p, 'a>,
    primary: longshore_types::DeploymentId,
    plan: &'s mut TaskPlan,
    /// Healthy and unproven tasks of earlier deployments: stopped as far as the floor allows.
    replaceable: Vec<&'s TaskView<'a>>,
}

impl<'s, 'a> State<'s, '_, 'a> {
    fn stop(&mut self, view: &TaskView<'_>) {
        self.plan.stop(self.pass, view, self.primary, Why::Scaled);
    }

    /// Stops what is on an instance that is to have no task: at once if the instance does not meet the constraints,
    /// and after all other tasks have left if it drains.
    fn clear(&mut self, host: &ServiceHost, views: &[&'s TaskView<'a>]) {
        for view in views.iter().filter(|view| view.is_wanted()) {
            let is_draining = host.status != InstanceStatus::Active;
            let may_go = !is_draining || host.other_tasks == 0 || !view.is_running();
            match (may_go, view.is_protected) {
                (true, false) => self.stop(view),
                (true, true) => self.plan.spare(view),
                (false, _) => {}
            }
        }
    }

    /// Keeps the readiest task of an instance, of the primary deployment if there is one, and stops all others
    /// whose stop costs no healthy task.
    fn tidy(&mut self, views: &[&'s TaskView<'a>]) -> Option<&'s TaskView<'a>> {
        let primary = self.primary;
        let rank = |view: &&TaskView<'_>| {
            let is_own = view.deployment == primary;
            (is_own, view.readiness, std::cmp::Reverse(view.task.id))
        };
        let wanted = || views.iter().copied().filter(|view| view.is_wanted());
        let kept = wanted().max_by_key(rank);
        for view in wanted() {
            let is_kept = kept.is_some_and(|kept| kept.task.id == view.task.id);
            let is_own = view.deployment == primary;
            let is_ill = view.leave.as_ref().is_some_and(Leave::is_unhealthy);
            let is_free = !is_own && view.readiness <= Readiness::Failing;
            if is_kept && is_own && !is_ill {
                continue;
            }
            if view.is_protected && !is_ill {
                self.plan.spare(view);
            } else if !is_kept || is_ill || is_free {
                self.stop(view);
            } else {
                self.replaceable.push(view);
            }
        }
        kept
    }

    /// Stops tasks of earlier deployments while more than the floor are left, of the healthy ones and of the
    /// healthy and unproven ones together.
    fn replace(&mut self, mut healthy: u32, mut hopeful: u32, sizes: &Sizes) {
        let mut replaceable = std::mem::take(&mut self.replaceable);
        replaceable.sort_by_key(|view| (view.readiness, view.task.id));
        for view in replaceable {
            let is_healthy = view.readiness == Readiness::Healthy;
            if hopeful > sizes.floor && (!is_healthy || healthy > sizes.floor) {
                healthy -= u32::from(is_healthy);
                hopeful -= 1;
                self.stop(view);
            }
        }
    }
}
