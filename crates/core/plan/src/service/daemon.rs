//! Daemons: one task on each instance that will have it.
//!
//! An instance has at most one, so the old one stops before the new one starts; how many instances
//! may be without at a time is what the floor says. On an instance that drains, the daemon stays until
//! every other task has left.

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

/// Whether the instance shall have one.
pub(super) fn is_eligible(host: &ServiceHost) -> bool {
    host.status == InstanceStatus::Active && host.accepts
}

/// How many instances shall have one.
pub(super) fn desired(snapshot: &Snapshot<'_>) -> u32 {
    count(snapshot.hosts.iter().filter(|host| is_eligible(host)))
}

/// What becomes of the tasks of a daemon service.
pub(super) fn plan_service(pass: &Pass<'_, '_>) -> TaskPlan {
    let sizes = Sizes::of(&pass.snapshot.service.deployment, desired(pass.snapshot));
    let mut plan = TaskPlan { desired: sizes.desired, ..TaskPlan::default() };
    let Some(primary) = pass.primary().map(|at| &pass.deployments[at].is) else { return plan };
    let is_going = !primary.stage.has_failed();
    let waits_until = pass.next_try(primary.streak, primary.last_failure_at);

    let mut by_host: BTreeMap<InstanceId, Vec<&TaskView<'_>>> = BTreeMap::new();
    for view in pass.inventory.but(None) {
        // One that was never placed is nowhere: what it is for shows as missing.
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
    /// Healthy or hopeful tasks of deployments before, that a new one shall take the place of.
    replaceable: Vec<&'s TaskView<'a>>,
}

impl<'s, 'a> State<'s, '_, 'a> {
    fn stop(&mut self, view: &TaskView<'_>) {
        self.plan.stop(self.pass, view, self.primary, Why::Scaled);
    }

    /// On an instance that shall have none: at once if it does not meet the constraints, last of all if
    /// it drains.
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

    /// Stops at once what costs no health; what stays, if anything, is the best of them.
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
            let is_ill = view.leave == Some(Leave::Unhealthy);
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

    /// Stops tasks of deployments before, as far as the floor allows: it holds for the healthy ones,
    /// and for those that may be.
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
