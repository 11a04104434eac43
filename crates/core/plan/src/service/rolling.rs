//! Tasks that are counted: those of a rolling deployment with all before it, or those of a task set.
//!
//! Starts are bounded by the ceiling, which counts every task that has not stopped. A running task
//! is stopped when there are more than desired of its standing or better, or, down to the floor, when
//! its place is needed for one that is missing. Standings nest: a healthy task is also one
//! that may be healthy, and that is also one that runs; so each stop is asked at its own level, and
//! the floor holds at every level.

use std::collections::BTreeMap;

use longshore_types::DeploymentId;
use model::service::{Deployment, Rollout, Shortage};

use super::census::{Leave, Member, Standing, count};
use super::limits::Sizes;
use super::order::termination;
use super::picture::{Place, Start};
use super::turn::{Plan, Turn, Why};

/// Whose tasks they are, and what is allowed.
#[derive(Debug)]
pub(super) struct Line<'l, 'a> {
    pub(super) id: DeploymentId,
    pub(super) own: &'l [Member<'a>],
    /// Tasks of deployments before it.
    pub(super) old: Vec<&'l Member<'a>>,
    pub(super) sizes: Sizes,
    /// Whether it may start tasks at all: it has not failed.
    pub(super) is_going: bool,
    pub(super) streak: u32,
    pub(super) last_failure_at: Option<longshore_types::Timestamp>,
    pub(super) shortage: Option<&'l Shortage>,
    /// Whether one task may move to keep zones even.
    pub(super) is_rebalanced: bool,
}

/// Decides a turn of a rolling service.
pub(super) fn decide(turn: &mut Turn<'_, '_>) {
    let plan = plan_service(turn);
    turn.carry_out(&plan);
    let start = turn.primary().and_then(|at| even_zones(turn, &turn.deployments[at].is, &plan));
    turn.verdict.starts.extend(start);
}

/// What becomes of the tasks of a rolling service.
pub(super) fn plan_service(turn: &Turn<'_, '_>) -> Plan {
    let service = turn.picture.service;
    let sizes = Sizes::of(&service.deployment, service.desired_count);
    let Some(primary) = turn.primary().map(|at| &turn.deployments[at].is) else {
        return Plan { desired: sizes.desired, ..Plan::default() };
    };
    let line = Line {
        id: primary.id,
        own: turn.census.of_deployment(primary.id),
        old: turn.census.but(Some(primary.id)).collect(),
        sizes,
        is_going: primary.rollout != Rollout::Failed,
        streak: primary.streak,
        last_failure_at: primary.last_failure_at,
        shortage: primary.shortage.as_ref(),
        is_rebalanced: service.is_zone_rebalanced,
    };
    plan(turn, &line)
}

/// How many tasks there are at each level.
#[derive(Clone, Copy, Debug, Default)]
struct Levels {
    healthy: u32,
    /// Healthy ones, and those of which it is not known yet.
    hopeful: u32,
    running: u32,
}

impl Levels {
    fn add(&mut self, standing: Standing) {
        self.running += u32::from(standing >= Standing::Failing);
        self.hopeful += u32::from(standing >= Standing::Unproven);
        self.healthy += u32::from(standing >= Standing::Healthy);
    }

    fn take(&mut self, standing: Standing) {
        self.running -= u32::from(standing >= Standing::Failing);
        self.hopeful -= u32::from(standing >= Standing::Unproven);
        self.healthy -= u32::from(standing >= Standing::Healthy);
    }

    /// Those whose health is known, be it good or bad.
    fn judged(&self) -> u32 {
        self.running - (self.hopeful - self.healthy)
    }

    /// Whether one of this standing may be stopped; `is_in_the_way` if its place is needed.
    fn may_stop(&self, standing: Standing, sizes: &Sizes, is_in_the_way: bool) -> bool {
        let above = |many: u32, floor: u32| many > sizes.desired || (is_in_the_way && many > floor);
        match standing {
            Standing::Stopping | Standing::Pending => true,
            // Those that come for it must be proven first.
            Standing::Failing => above(self.judged(), 0),
            Standing::Unproven => above(self.hopeful, sizes.floor),
            Standing::Healthy => above(self.healthy, sizes.floor),
        }
    }
}

/// What becomes of a line's tasks.
pub(super) fn plan(turn: &Turn<'_, '_>, line: &Line<'_, '_>) -> Plan {
    let all = || line.own.iter().chain(line.old.iter().copied());
    let staying: Vec<&Member<'_>> = line.own.iter().filter(|member| member.stays()).collect();
    let total = count(all());
    let stopping = count(all().filter(|member| !member.is_wanted()));
    let needed = line.sizes.desired.saturating_sub(count(staying.iter()));
    let room = line.sizes.ceiling.saturating_sub(total);
    let mut plan = Plan { needed, desired: line.sizes.desired, ..Plan::default() };
    let waits_until = turn.next_try(line.streak, line.last_failure_at);
    let may_start = line.is_going && waits_until.is_none();
    if line.is_going && needed > 0 {
        plan.backoff_until = waits_until;
    }
    let starting = if may_start { needed.min(room) } else { 0 };
    push_starts(&mut plan, line.id, starting, Place::Anywhere);

    let without_room = line.shortage.map_or(0, |shortage| shortage.tasks).min(starting);
    let missing = if may_start { needed - starting + without_room } else { 0 };
    let moved = moved_to_other_zone(turn, line, &staying);
    stop_some(turn, line, &staying, moved, missing.saturating_sub(stopping), &mut plan);

    let is_quiet = plan.starts.is_empty() && plan.stops.is_empty();
    let healthy = count(staying.iter().filter(|member| member.standing == Standing::Healthy));
    // One that is on its way to another zone leaves the service as steady as it is.
    let coming = u32::from(moved.is_some());
    plan.is_settled = is_quiet
        && line.old.is_empty()
        && healthy >= line.sizes.desired
        && count(line.own.iter()) == line.sizes.desired + coming;
    let is_under_way = staying.iter().any(|member| member.standing < Standing::Healthy);
    plan.is_stuck = is_quiet
        && may_start
        && needed > 0
        && stopping == 0
        && plan.protected == 0
        && !is_under_way;
    plan
}

pub(super) fn push_starts(plan: &mut Plan, deployment: DeploymentId, tasks: u32, place: Place) {
    if tasks > 0 {
        plan.starts.push(Start { deployment, tasks, place });
    }
}

/// Stops what is not needed, and up to `in_the_way` tasks whose places are.
fn stop_some<'l, 'a>(
    turn: &Turn<'_, 'a>,
    line: &'l Line<'_, 'a>,
    staying: &[&'l Member<'a>],
    moved: Option<&'l Member<'a>>,
    in_the_way: u32,
    plan: &mut Plan,
) {
    let mut levels = Levels::default();
    for member in line.own.iter().chain(line.old.iter().copied()) {
        levels.add(member.standing);
    }
    let mut in_the_way = in_the_way;
    // One by one: the next only when what came for the last can be counted on.
    let is_changing = !plan.starts.is_empty()
        || line.own.iter().any(|member| {
            !member.is_wanted() || (member.leave.is_none() && member.standing < Standing::Healthy)
        });
    let mut failing_left = u32::from(!is_changing);
    // Each stop of a running task either takes one above what is desired or makes way for one.
    let most = levels.running.saturating_sub(line.sizes.desired).saturating_add(in_the_way);
    for member in candidates(line, staying, moved, most as usize, plan) {
        let standing = member.standing;
        let is_own_failing = member.leave == Some(Leave::Unhealthy) && member.deployment == line.id;
        let is_one_by_one = is_own_failing && levels.judged() <= line.sizes.desired;
        if is_one_by_one && failing_left == 0 {
            continue;
        }
        if !levels.may_stop(standing, &line.sizes, in_the_way > 0) {
            continue;
        }
        let is_shielded = member.is_protected && member.leave != Some(Leave::Unhealthy);
        if is_shielded {
            plan.spare(member);
            continue;
        }
        failing_left -= u32::from(is_one_by_one);
        levels.take(standing);
        in_the_way = in_the_way.saturating_sub(1);
        let is_moved = moved.is_some_and(|moved| moved.task.id == member.task.id);
        let why = if is_moved { Why::Rebalanced } else { Why::Scaled };
        plan.stop(turn, member, line.id, why);
    }
}

/// Whatever may be stopped, most dispensable first: by standing, and among equals what belongs to
/// deployments before, then what must be replaced, then what is too much.
fn candidates<'l, 'a>(
    line: &'l Line<'_, 'a>,
    staying: &[&'l Member<'a>],
    moved: Option<&'l Member<'a>>,
    most_running: usize,
    plan: &mut Plan,
) -> Vec<&'l Member<'a>> {
    let old: Vec<&Member<'_>> =
        line.old.iter().copied().filter(|member| member.is_wanted()).collect();
    let leaving: Vec<&Member<'_>> =
        line.own.iter().filter(|member| member.is_wanted() && member.leave.is_some()).collect();
    let surplus = staying.len().saturating_sub(line.sizes.desired as usize);
    let mut all: Vec<(Standing, u8, usize, &Member<'_>)> = Vec::new();
    let pending = old.iter().filter(|member| !member.is_running()).count();
    let many_old = pending.saturating_add(most_running);
    for (group, members, many) in [(0, &old, many_old), (1, &leaving, leaving.len())] {
        let protected = members.iter().filter(|member| member.is_protected);
        let ordered = termination(members, many).into_iter().chain(protected.copied());
        all.extend(ordered.enumerate().map(|(at, member)| (member.standing, group, at, member)));
    }
    if let Some(moved) = moved {
        all.push((moved.standing, 2, 0, moved));
    } else if surplus > 0 {
        let ordered = termination(staying, surplus);
        for member in
            staying.iter().filter(|member| member.is_protected).take(surplus - ordered.len())
        {
            plan.spare(member);
        }
        let ordered = ordered.into_iter().enumerate();
        all.extend(ordered.map(|(at, member)| (member.standing, 2, at, member)));
    }
    all.sort_by_key(|(standing, group, at, _)| (*standing, *group, *at));
    all.into_iter().map(|(_, _, _, member)| member).collect()
}

/// Moves one task of a settled service from the fullest zone to the emptiest: first starts one there,
/// and once that can be counted on there is one too many.
fn even_zones(turn: &Turn<'_, '_>, primary: &Deployment, plan: &Plan) -> Option<Start> {
    let service = turn.picture.service;
    let members: Vec<&Member<'_>> = turn.census.of_deployment(primary.id).iter().collect();
    let is_whole = plan.is_settled && count(members.iter()) == plan.desired;
    let has_room = Sizes::of(&service.deployment, plan.desired).ceiling > plan.desired;
    let waits_until = turn.next_try(primary.streak, primary.last_failure_at);
    if !service.is_zone_rebalanced
        || primary.rollout != Rollout::Completed
        || !is_whole
        || !has_room
        || waits_until.is_some()
    {
        return None;
    }
    let zones = zones(turn, &members)?;
    let (poorest, fewest) = zones.iter().min_by_key(|(_, tasks)| **tasks)?;
    let most = zones.values().max()?;
    let place = Place::Zone((*poorest).to_owned());
    (most - fewest > 1).then_some(Start { deployment: primary.id, tasks: 1, place })
}

/// The task that goes because one was started in a poorer zone: not the new one, although that does
/// not run yet. It is stopped once there is one healthy task too many.
fn moved_to_other_zone<'l, 'a>(
    turn: &Turn<'_, 'a>,
    line: &Line<'_, 'a>,
    staying: &[&'l Member<'a>],
) -> Option<&'l Member<'a>> {
    let is_one_too_many = staying.len() == line.sizes.desired as usize + 1;
    if !line.is_rebalanced || !is_one_too_many {
        return None;
    }
    let zones = zones(turn, staying)?;
    let most = zones.values().max()?;
    let (healthy, coming): (Vec<&Member<'_>>, Vec<&Member<'_>>) =
        staying.iter().partition(|member| member.standing == Standing::Healthy);
    let newest = match coming[..] {
        [] => healthy.iter().copied().max_by_key(|each| (each.task.times.created, each.task.id))?,
        [one] => one,
        _ => return None,
    };
    let of_newest = zones.get(newest.task.zone.as_deref()?)?;
    let others: Vec<&Member<'_>> =
        healthy.into_iter().filter(|member| member.task.id != newest.task.id).collect();
    // Without the new one its zone would have two fewer than the fullest.
    let is_move = of_newest < most;
    is_move.then(|| termination(&others, 1).first().copied())?
}

/// How many of the tasks each zone has; none if that of some task is not known.
fn zones<'z>(turn: &'z Turn<'_, '_>, members: &[&'z Member<'_>]) -> Option<BTreeMap<&'z str, u32>> {
    let mut zones: BTreeMap<&str, u32> =
        turn.picture.zones.iter().map(|zone| (zone.as_str(), 0)).collect();
    for member in members {
        *zones.entry(member.task.zone.as_deref()?).or_default() += 1;
    }
    Some(zones)
}
