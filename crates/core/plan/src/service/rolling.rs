//! Plans starts and stops of a rolling deployment together with all deployments before it, or of one task set.
//!
//! Starts: as many tasks as are missing, as far as the ceiling ([`Sizes::ceiling`]) allows; every task that
//! has not stopped counts towards it, those that are being stopped included.
//!
//! Stops: a running task is stopped if more tasks than desired have its [`Readiness`] or a better one. If tasks
//! are missing and the ceiling or the instances leave no place for them, it is also stopped as long as more than
//! [`Sizes::floor`] tasks of its readiness or a better one are left. [`Levels`] counts each task at its own
//! readiness and at all below it, so the floor of healthy tasks holds whatever is stopped.

use std::collections::BTreeMap;

use longshore_types::DeploymentId;
use model::service::{Deployment, Shortage, Stage};

use super::inventory::{Leave, Readiness, TaskView, count};
use super::limits::Sizes;
use super::order::termination;
use super::pass::{Pass, TaskPlan, Why};
use super::shifting;
use super::snapshot::{Place, Start};

/// What [`plan`] looks at: the tasks of one deployment or task set, those before it, and the bounds that hold.
#[derive(Debug)]
pub(super) struct Line<'l, 'a> {
    pub(super) id: DeploymentId,
    /// Tasks of the deployment or task set itself that have not stopped.
    pub(super) own: &'l [TaskView<'a>],
    /// Tasks of deployments before it.
    pub(super) old: Vec<&'l TaskView<'a>>,
    pub(super) sizes: Sizes,
    /// Whether it may start tasks: a failed deployment only keeps what it has.
    pub(super) is_going: bool,
    /// Tries in a row that brought no task that lasted; see [`super::limits::backoff_ms`].
    pub(super) streak: u32,
    pub(super) last_failure_at: Option<longshore_types::Timestamp>,
    /// Tasks that found no capacity in the last pass; stops make way for them.
    pub(super) shortage: Option<&'l Shortage>,
    /// Whether the service asked for zones to be kept even (`availabilityZoneRebalancing`).
    pub(super) is_rebalanced: bool,
}

/// Decides a pass of a rolling service.
pub(super) fn decide(pass: &mut Pass<'_, '_>) {
    let plan = plan_service(pass);
    pass.carry_out(&plan);
    let start = pass.primary().and_then(|at| even_zones(pass, &pass.deployments[at].is, &plan));
    pass.plan.starts.extend(start);
}

/// Starts and stops of a rolling service, its primary deployment and all before it together.
pub(super) fn plan_service(pass: &Pass<'_, '_>) -> TaskPlan {
    let service = pass.snapshot.service;
    let sizes = Sizes::of(&service.deployment, service.desired_count);
    let Some(primary) = pass.primary().map(|at| &pass.deployments[at].is) else {
        return TaskPlan { desired: sizes.desired, ..TaskPlan::default() };
    };
    // One that is brought back may have to wait for its tasks, as any other.
    let is_done = primary.stage.is_final() && !primary.stage.has_failed();
    if !primary.settings.strategy.is_rolling() && !is_done {
        return shifting::plan(pass, primary);
    }
    // What has no traffic counts for nothing.
    let idle = pass.idle();
    let is_idle = |view: &&TaskView<'_>| idle.contains(&view.deployment);
    let others = || pass.inventory.but(Some(primary.id));
    let line = Line {
        id: primary.id,
        own: pass.inventory.of_deployment(primary.id),
        old: others().filter(|view| !is_idle(view)).collect(),
        // There as long as they are.
        sizes: Sizes {
            ceiling: sizes.ceiling.saturating_sub(count(others().filter(is_idle))),
            ..sizes
        },
        is_going: !primary.stage.has_failed(),
        streak: primary.streak,
        last_failure_at: primary.last_failure_at,
        shortage: primary.shortage.as_ref(),
        is_rebalanced: service.is_zone_rebalanced,
    };
    let mut plan = plan(pass, &line);
    shifting::stop_all(pass, others().filter(is_idle), primary.id, &mut plan);
    plan
}

/// How many tasks have at least a readiness: `healthy <= hopeful <= running`.
#[derive(Clone, Copy, Debug, Default)]
struct Levels {
    healthy: u32,
    /// [`Readiness::Healthy`] or [`Readiness::Unproven`].
    hopeful: u32,
    /// All that run, [`Readiness::Failing`] included.
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

    /// Tasks whose health is known, good or bad: those that run, without the unproven ones.
    fn judged(&self) -> u32 {
        self.running - (self.hopeful - self.healthy)
    }

    /// Whether a task of this readiness may be stopped: if there are more than desired at its level, or, where
    /// a missing task needs its place (`is_in_the_way`), if more than the floor are left.
    fn may_stop(&self, readiness: Readiness, sizes: &Sizes, is_in_the_way: bool) -> bool {
        let above = |many: u32, floor: u32| many > sizes.desired || (is_in_the_way && many > floor);
        match readiness {
            Readiness::Stopping | Readiness::Pending => true,
            // A failing task goes only when enough others have been judged: an unproven one may fail too.
            Readiness::Failing => above(self.judged(), 0),
            Readiness::Unproven => above(self.hopeful, sizes.floor),
            Readiness::Healthy => above(self.healthy, sizes.floor),
        }
    }
}

/// The starts and stops of one line.
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
    // While one task moves to another zone there is one more than desired, and the service counts as steady.
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

fn is_unhealthy(view: &TaskView<'_>) -> bool {
    view.leave.as_ref().is_some_and(Leave::is_unhealthy)
}

/// Stops tasks above the desired count, and up to `in_the_way` more whose places missing tasks need.
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
    // Own tasks that fail their health checks are replaced one at a time: the next is stopped only when the
    // replacement of the last is healthy.
    let is_changing = !plan.starts.is_empty()
        || line.own.iter().any(|view| {
            !view.is_wanted() || (view.leave.is_none() && view.readiness < Readiness::Healthy)
        });
    let mut failing_left = u32::from(!is_changing);
    // An upper bound of running tasks to stop, so that no more than that many are ordered.
    let most = levels.running.saturating_sub(line.sizes.desired).saturating_add(in_the_way);
    for view in candidates(line, staying, moved, most as usize, plan) {
        let readiness = view.readiness;
        let is_own_failing = is_unhealthy(view) && view.deployment == line.id;
        let is_one_by_one = is_own_failing && levels.judged() <= line.sizes.desired;
        if is_one_by_one && failing_left == 0 {
            continue;
        }
        if !levels.may_stop(readiness, &line.sizes, in_the_way > 0) {
            continue;
        }
        let is_shielded = view.is_protected && !is_unhealthy(view);
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

/// Tasks that may be stopped, in the order in which they are: lowest readiness first; among equals those of
/// earlier deployments, then those that must be replaced, then those above the desired count.
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

/// Starts one task in the emptiest zone if the fullest has at least two more. Only for a steady service whose
/// ceiling allows one task more; [`moved_to_other_zone`] stops one elsewhere once the new one is healthy.
fn even_zones(pass: &Pass<'_, '_>, primary: &Deployment, plan: &TaskPlan) -> Option<Start> {
    let service = pass.snapshot.service;
    let views: Vec<&TaskView<'_>> = pass.inventory.of_deployment(primary.id).iter().collect();
    let is_whole = plan.is_steady && count(views.iter()) == plan.desired;
    let capacity_available = Sizes::of(&service.deployment, plan.desired).ceiling > plan.desired;
    let waits_until = pass.next_try(primary.streak, primary.last_failure_at);
    if !service.is_zone_rebalanced
        || primary.stage != Stage::Completed
        || !is_whole
        || !capacity_available
        || waits_until.is_some()
    {
        return None;
    }
    let zones = zones(pass, &views)?;
    // Where a task is may be a zone that none can start in any more.
    let open = zones.iter().filter(|(zone, _)| pass.snapshot.zones.iter().any(|it| it == *zone));
    let (poorest, fewest) = open.min_by_key(|(_, tasks)| **tasks)?;
    let most = zones.values().max()?;
    let place = Place::Zone((*poorest).to_owned());
    (most - fewest > 1).then_some(Start { deployment: primary.id, tasks: 1, place })
}

/// The task to stop after [`even_zones`] started one in an emptier zone: any but the new one. None unless there
/// is exactly one task more than desired.
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
    // If the newest is in the fullest zone, it was no move that made one too many.
    let is_better = of_newest < most;
    is_better.then(|| termination(&others, 1).first().copied())?
}

/// How many of the tasks are in each zone, zones without any included; none if a task's zone is unknown.
fn zones<'z>(pass: &'z Pass<'_, '_>, views: &[&'z TaskView<'_>]) -> Option<BTreeMap<&'z str, u32>> {
    let mut zones: BTreeMap<&str, u32> =
        pass.snapshot.zones.iter().map(|zone| (zone.as_str(), 0)).collect();
    for view in views {
        *zones.entry(view.task.zone.as_deref()?).or_default() += 1;
    }
    Some(zones)
}
