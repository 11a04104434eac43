//! Daemons: one task on each instance that will have it.
//!
//! An instance has at most one, so the old one stops before the new one starts; how many instances
//! may be without at a time is what the floor says. On an instance that drains, the daemon stays until
//! every other task has left.

use std::collections::BTreeMap;

use longshore_types::InstanceId;
use model::instance::InstanceStatus;
use model::service::Rollout;

use super::census::{Leave, Member, Standing, count};
use super::limits::Sizes;
use super::picture::{Picture, Place, ServiceHost};
use super::rolling::push_starts;
use super::turn::{Plan, Turn, Why};

/// Decides a turn of a daemon service.
pub(super) fn decide(turn: &mut Turn<'_, '_>) {
    let plan = plan_service(turn);
    turn.carry_out(&plan);
}

/// Whether the instance shall have one.
pub(super) fn is_eligible(host: &ServiceHost) -> bool {
    host.status == InstanceStatus::Active && host.accepts
}

/// How many instances shall have one.
pub(super) fn desired(picture: &Picture<'_>) -> u32 {
    count(picture.hosts.iter().filter(|host| is_eligible(host)))
}

/// What becomes of the tasks of a daemon service.
pub(super) fn plan_service(turn: &Turn<'_, '_>) -> Plan {
    let sizes = Sizes::of(&turn.picture.service.deployment, desired(turn.picture));
    let mut plan = Plan { desired: sizes.desired, ..Plan::default() };
    let Some(primary) = turn.primary().map(|at| &turn.deployments[at].is) else { return plan };
    let is_going = primary.rollout != Rollout::Failed;
    let waits_until = turn.next_try(primary.streak, primary.last_failure_at);

    let mut by_host: BTreeMap<InstanceId, Vec<&Member<'_>>> = BTreeMap::new();
    for member in turn.census.but(None) {
        // One that was never placed is nowhere: what it is for shows as missing.
        if let Some(instance) = member.task.instance {
            by_host.entry(instance).or_default().push(member);
        }
    }
    let mut state = State { turn, primary: primary.id, plan: &mut plan, replaceable: Vec::new() };
    let (mut healthy, mut hopeful, mut is_whole, mut is_under_way) = (0, 0, true, false);
    for host in &turn.picture.hosts {
        let members = by_host.get(&host.id).map_or(&[][..], Vec::as_slice);
        if !is_eligible(host) {
            state.clear(host, members);
            continue;
        }
        let kept = state.tidy(members);
        healthy += count(members.iter().filter(|member| member.standing >= Standing::Healthy));
        hopeful += count(members.iter().filter(|member| member.standing >= Standing::Unproven));
        is_under_way |= members.iter().any(|member| member.standing < Standing::Healthy);
        let is_own = kept.is_some_and(|kept| kept.deployment == primary.id && kept.stays());
        is_whole &= !host.is_connected
            || (is_own && kept.is_some_and(|kept| kept.standing == Standing::Healthy));
        if !is_own {
            state.plan.needed += u32::from(host.is_connected);
        }
        if members.is_empty() && host.is_connected && is_going && waits_until.is_none() {
            push_starts(state.plan, primary.id, 1, Place::On(host.id));
        }
    }
    if is_going && waits_until.is_none() {
        state.replace(healthy, hopeful, &sizes);
    }
    if is_going && plan.needed > 0 {
        plan.backoff_until = waits_until;
    }
    let has_old = turn.census.but(Some(primary.id)).next().is_some();
    let is_stopping = turn.census.but(None).any(|member| !member.is_wanted());
    let is_quiet = plan.starts.is_empty() && plan.stops.is_empty();
    plan.is_settled = is_quiet && is_whole && !has_old && !is_stopping;
    plan.is_stuck = is_quiet
        && is_going
        && waits_until.is_none()
        && plan.needed > 0
        && plan.protected == 0
        && !is_under_way
        && !is_stopping;
    plan
}

struct State<'s, 'p, 'a> {
    turn: &'s Turn<'p, 'a>,
    primary: longshore_types::DeploymentId,
    plan: &'s mut Plan,
    /// Healthy or hopeful tasks of deployments before, that a new one shall take the place of.
    replaceable: Vec<&'s Member<'a>>,
}

impl<'s, 'a> State<'s, '_, 'a> {
    fn stop(&mut self, member: &Member<'_>) {
        self.plan.stop(self.turn, member, self.primary, Why::Scaled);
    }

    /// On an instance that shall have none: at once if it does not meet the constraints, last of all if
    /// it drains.
    fn clear(&mut self, host: &ServiceHost, members: &[&'s Member<'a>]) {
        for member in members.iter().filter(|member| member.is_wanted()) {
            let is_draining = host.status != InstanceStatus::Active;
            let may_go = !is_draining || host.other_tasks == 0 || !member.is_running();
            match (may_go, member.is_protected) {
                (true, false) => self.stop(member),
                (true, true) => self.plan.spare(member),
                (false, _) => {}
            }
        }
    }

    /// Stops at once what costs no health; what stays, if anything, is the best of them.
    fn tidy(&mut self, members: &[&'s Member<'a>]) -> Option<&'s Member<'a>> {
        let primary = self.primary;
        let rank = |member: &&Member<'_>| {
            let is_own = member.deployment == primary;
            (is_own, member.standing, std::cmp::Reverse(member.task.id))
        };
        let wanted = || members.iter().copied().filter(|member| member.is_wanted());
        let kept = wanted().max_by_key(rank);
        for member in wanted() {
            let is_kept = kept.is_some_and(|kept| kept.task.id == member.task.id);
            let is_own = member.deployment == primary;
            let is_ill = member.leave == Some(Leave::Unhealthy);
            let is_free = !is_own && member.standing <= Standing::Failing;
            if is_kept && is_own && !is_ill {
                continue;
            }
            if member.is_protected && !is_ill {
                self.plan.spare(member);
            } else if !is_kept || is_ill || is_free {
                self.stop(member);
            } else {
                self.replaceable.push(member);
            }
        }
        kept
    }

    /// Stops tasks of deployments before, as far as the floor allows: it holds for the healthy ones,
    /// and for those that may be.
    fn replace(&mut self, mut healthy: u32, mut hopeful: u32, sizes: &Sizes) {
        let mut replaceable = std::mem::take(&mut self.replaceable);
        replaceable.sort_by_key(|member| (member.standing, member.task.id));
        for member in replaceable {
            let is_healthy = member.standing == Standing::Healthy;
            if hopeful > sizes.floor && (!is_healthy || healthy > sizes.floor) {
                healthy -= u32::from(is_healthy);
                hopeful -= 1;
                self.stop(member);
            }
        }
    }
}
