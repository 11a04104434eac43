//! Tasks that are counted: those of a rolling deployment with all before it, or those of a task set.
//!
//! Starts are bounded by the ceiling, which counts every task that has not stopped. A running task
//! is stopped when there are more than desired of its readiness or better, or, down to the floor, when
//! its place is needed for one that is missing. Readiness nest: a healthy task is also one
//! that may be healthy, and that is also one that runs; so each stop is asked at its own level, and
//! the floor holds at every level.

use std::collections::BTreeMap;

use longshore_types::DeploymentId;
use model::service::{Deployment, Rollout, Shortage};

use super::inventory::{Leave, Readiness, TaskView, count};
use super::limits::Sizes;
use super::order::termination;
use super::pass::{Pass, TaskPlan, Why};
use super::snapshot::{Place, Start};

/// Whose tasks they are, and what is allowed.
#[derive(Debug)]
pub(super) struct Line<'l, 'a> {
    pub(super) id: DeploymentId,
    pub(super) own: &'l [TaskView<'a>],
    /// Tasks of deployments before it.
    pub(super) old: Vec<&'l TaskView<'a>>,
    pub(super) sizes: Sizes,
    /// Whether it may start tasks at all: it has not failed.
    pub(super) is_going: bool,
    pub(super) streak: u32,
    pub(super) last_failure_at: Option<longshore_types::Timestamp>,
    pub(super) shortage: Option<&'l Shortage>,
    /// Whether one task may move to keep zones even.
    pub(super) is_rebalanced: bool,
}

/// Decides a pass of a rolling service.
pub(super) fn decide(pass: &mut Pass<'_, '_>) {
    let plan = plan_service(pass);
    pass.carry_out(&plan);
    let start = pass.primary().and_then(|at| even_zones(pass, &pass.deployments[at].is, &plan));
    pass.plan.starts.extend(start);
}

/// What becomes of the tasks of a rolling service.
pub(super) fn plan_service(pass: &Pass<'_, '_>) -> TaskPlan {
    let service = pass.snapshot.service;
    let sizes = Sizes::of(&service.deployment, service.desired_count);
    let Some(primary) = pass.primary().map(|at| &pass.deployments[at].is) else {
        return TaskPlan { desired: sizes.desired, ..TaskPlan::default() };
    };
    let line = Line {
        id: primary.id,
        own: pass.inventory.of_deployment(primary.id),
        old: pass.inventory.but(Some(primary.id)).collect(),
        sizes,
        is_going: primary.rollout != Rollout::Failed,
        streak: primary.streak,
        last_failure_at: primary.last_failure_at,
        shortage: primary.shortage.as_ref(),
        is_rebalanced: service.is_zone_rebalanced,
    };
    plan(pass, &line)
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
    fn add(&mut self, readiness: Readiness) {
        self.running += u32::from(readiness >= Readiness::Failing);
        self.hopeful += u32::from(readiness >= Readiness::Unproven);
        self.healthy += u32::from(readiness >= Readiness::Healthy);
    }

    fn take(&mut self, readiness: Readiness) {
        self.running -= u32::from(readiness >= Readiness::Failing);
        self.hopeful -= u32::from(readiness >= Readiness::Unproven);
        self.healthy -= u32::from(readiness >= Readiness::Healthy);
    }

    /// Those whose health is known, be it good or bad.
    fn judged(&self) -> u32 {
        self.running - (self.hopeful - self.healthy)
    }

    /// Whether one of this readiness may be stopped; `is_in_the_way` if its place is needed.
    fn may_stop(&self, readiness: Readiness, sizes: &Sizes, is_in_the_way: bool) -> bool {
        let above = |many: u32, floor: u32| many > sizes.desired || (is_in_the_way && many > floor);
        match readiness {
            Readiness::Stopping | Readiness::Pending => true,
            // Those that come for it must be proven first.
            Readiness::Failing => above(self.judged(), 0),
            Readiness::Unproven => above(self.hopeful, sizes.floor),
            Readiness::Healthy => above(self.healthy, sizes.floor),
        }
    }
}

/// What becomes of a line's tasks.
pub(super) fn plan(pass: &Pass<'_, '_>, line: &Line<'_, '_>) -> TaskPlan {
    let all = || line.own.iter().chain(line.old.iter().copied());
    let staying: Vec<&TaskView<'_>> = line.own.iter().filter(|view| view.stays()).collect();
    let total = count(all());
    let stopping = count(all().filter(|view| !view.is_wanted()));
    let needed = line.sizes.desired.saturating_sub(count(staying.iter()));
    let room = line.sizes.ceiling.saturating_sub(total);
    let mut plan = TaskPlan { needed, desired: line.sizes.desired, ..TaskPlan::default() };
    let waits_until = pass.next_try(line.streak, line.last_failure_at);
    let may_start = line.is_going && waits_until.is_none();
    if line.is_going && needed > 0 {
        plan.backoff_until = waits_until;
    }
    let starting = if may_start { needed.min(room) } else { 0 };
    push_starts(&mut plan, line.id, starting, Place::Anywhere);

    let unplaced = line.shortage.map_or(0, |shortage| shortage.tasks).min(starting);
    let missing = if may_start { needed - starting + unplaced } else { 0 };
    let moved = moved_to_other_zone(pass, line, &staying);
    stop_some(pass, line, &staying, moved, missing.saturating_sub(stopping), &mut plan);

    let is_quiet = plan.starts.is_empty() && plan.stops.is_empty();
    let healthy = count(staying.iter().filter(|view| view.readiness == Readiness::Healthy));
    // One that is on its way to another zone leaves the service as steady as it is.
    let coming = u32::from(moved.is_some());
    plan.is_steady = is_quiet
        && line.old.is_empty()
        && healthy >= line.sizes.desired
        && count(line.own.iter()) == line.sizes.desired + coming;
    let is_under_way = staying.iter().any(|view| view.readiness < Readiness::Healthy);
    plan.is_blocked = is_quiet
        && may_start
        && needed > 0
        && stopping == 0
        && plan.protected == 0
        && !is_under_way;
    plan
}

pub(super) fn push_starts(plan: &mut TaskPlan, deployment: DeploymentId, tasks: u32, place: Place) {
    if tasks > 0 {
        plan.starts.push(Start { deployment, tasks, place });
    }
}

/// Stops what is not needed, and up to `in_the_way` tasks whose places are.
fn stop_some<'l, 'a>(
    pass: &Pass<'_, 'a>,
    line: &'l Line<'_, 'a>,
    staying: &[&'l TaskView<'a>],
    moved: Option<&'l TaskView<'a>>,
    in_the_way: u32,
    plan: &mut TaskPlan,
) {
    let mut levels = Levels::default();
    for view in line.own.iter().chain(line.old.iter().copied()) {
        levels.add(view.readiness);
    }
    let mut in_the_way = in_the_way;
    // One by one: the next only when what came for the last can be counted on.
    let is_changing = !plan.starts.is_empty()
        || line.own.iter().any(|view| {
            !view.is_wanted() || (view.leave.is_none() && view.readiness < Readiness::Healthy)
        });
    let mut failing_left = u32::from(!is_changing);
    // Each stop of a running task either takes one above what is desired or makes way for one.
    let most = levels.running.saturating_sub(line.sizes.desired).saturating_add(in_the_way);
    for view in candidates(line, staying, moved, most as usize, plan) {
        let readiness = view.readiness;
        let is_own_failing = view.leave == Some(Leave::Unhealthy) && view.deployment == line.id;
        let is_one_by_one = is_own_failing && levels.judged() <= line.sizes.desired;
        if is_one_by_one && failing_left == 0 {
            continue;
        }
        if !levels.may_stop(readiness, &line.sizes, in_the_way > 0) {
            continue;
        }
        let is_shielded = view.is_protected && view.leave != Some(Leave::Unhealthy);
        if is_shielded {
            plan.spare(view);
            continue;
        }
        failing_left -= u32::from(is_one_by_one);
        levels.take(readiness);
        in_the_way = in_the_way.saturating_sub(1);
        let is_moved = moved.is_some_and(|moved| moved.task.id == view.task.id);
        let why = if is_moved { Why::Rebalanced } else { Why::Scaled };
        plan.stop(pass, view, line.id, why);
    }
}

/// Whatever may be stopped, most dispensable first: by readiness, and among equals what belongs to
/// deployments before, then what must be replaced, then what is too much.
fn candidates<'l, 'a>(
    line: &'l Line<'_, 'a>,
    staying: &[&'l TaskView<'a>],
    moved: Option<&'l TaskView<'a>>,
    most_running: usize,
    plan: &mut TaskPlan,
) -> Vec<&'l TaskView<'a>> {
    let old: Vec<&TaskView<'_>> =
        line.old.iter().copied().filter(|view| view.is_wanted()).collect();
    let leaving: Vec<&TaskView<'_>> =
        line.own.iter().filter(|view| view.is_wanted() && view.leave.is_some()).collect();
    let surplus = staying.len().saturating_sub(line.sizes.desired as usize);
    let mut all: Vec<(Readiness, u8, usize, &TaskView<'_>)> = Vec::new();
    let pending = old.iter().filter(|view| !view.is_running()).count();
    let many_old = pending.saturating_add(most_running);
    for (group, views, many) in [(0, &old, many_old), (1, &leaving, leaving.len())] {
        let protected = views.iter().filter(|view| view.is_protected);
        let ordered = termination(views, many).into_iter().chain(protected.copied());
        all.extend(ordered.enumerate().map(|(at, view)| (view.readiness, group, at, view)));
    }
    if let Some(moved) = moved {
        all.push((moved.readiness, 2, 0, moved));
    } else if surplus > 0 {
        let ordered = termination(staying, surplus);
        for view in staying.iter().filter(|view| view.is_protected).take(surplus - ordered.len()) {
            plan.spare(view);
        }
        let ordered = ordered.into_iter().enumerate();
        all.extend(ordered.map(|(at, view)| (view.readiness, 2, at, view)));
    }
    all.sort_by_key(|(readiness, group, at, _)| (*readiness, *group, *at));
    all.into_iter().map(|(_, _, _, view)| view).collect()
}

/// Moves one task of a settled service from the fullest zone to the emptiest: first starts one there,
/// and once that can be counted on there is one too many.
fn even_zones(pass: &Pass<'_, '_>, primary: &Deployment, plan: &TaskPlan) -> Option<Start> {
    let service = pass.snapshot.service;
    let views: Vec<&TaskView<'_>> = pass.inventory.of_deployment(primary.id).iter().collect();
    let is_whole = plan.is_steady && count(views.iter()) == plan.desired;
    let capacity_available = Sizes::of(&service.deployment, plan.desired).ceiling > plan.desired;
    let waits_until = pass.next_try(primary.streak, primary.last_failure_at);
    if !service.is_zone_rebalanced
        || primary.rollout != Rollout::Completed
        || !is_whole
        || !capacity_available
        || waits_until.is_some()
    {
        return None;
    }
    let zones = zones(pass, &views)?;
    let (poorest, fewest) = zones.iter().min_by_key(|(_, tasks)| **tasks)?;
    let most = zones.values().max()?;
    let place = Place::Zone((*poorest).to_owned());
    (most - fewest > 1).then_some(Start { deployment: primary.id, tasks: 1, place })
}

/// The task that goes because one was started in a poorer zone: not the new one, although that does
/// not run yet. It is stopped once there is one healthy task too many.
fn moved_to_other_zone<'l, 'a>(
    pass: &Pass<'_, 'a>,
    line: &Line<'_, 'a>,
    staying: &[&'l TaskView<'a>],
) -> Option<&'l TaskView<'a>> {
    let is_one_too_many = staying.len() == line.sizes.desired as usize + 1;
    if !line.is_rebalanced || !is_one_too_many {
        return None;
    }
    let zones = zones(pass, staying)?;
    let most = zones.values().max()?;
    let (healthy, coming): (Vec<&TaskView<'_>>, Vec<&TaskView<'_>>) =
        staying.iter().partition(|view| view.readiness == Readiness::Healthy);
    let newest = match coming[..] {
        [] => healthy.iter().copied().max_by_key(|each| (each.task.times.created, each.task.id))?,
        [one] => one,
        _ => return None,
    };
    let of_newest = zones.get(newest.task.zone.as_deref()?)?;
    let others: Vec<&TaskView<'_>> =
        healthy.into_iter().filter(|view| view.task.id != newest.task.id).collect();
    // Without the new one its zone would have two fewer than the fullest.
    let is_better = of_newest < most;
    is_better.then(|| termination(&others, 1).first().copied())?
}

/// How many of the tasks each zone has; none if that of some task is not known.
fn zones<'z>(pass: &'z Pass<'_, '_>, views: &[&'z TaskView<'_>]) -> Option<BTreeMap<&'z str, u32>> {
    let mut zones: BTreeMap<&str, u32> =
        pass.snapshot.zones.iter().map(|zone| (zone.as_str(), 0)).collect();
    for view in views {
        *zones.entry(view.task.zone.as_deref()?).or_default() += 1;
    }
    Some(zones)
}
