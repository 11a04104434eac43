//! Deployments that shift traffic: green's tasks come up beside blue's in target groups that production does not use,
//! then the rules are pointed at them, and at last blue's tasks are stopped.
//!
//! [`Pass::follow_shift`] moves a deployment from stage to stage, and says which rules are to be rewritten; [`plan`]
//! starts and stops tasks as the stage has it. What a stage changes of rules goes into the plan together with the stage.
//!
//! **Invariants:** green is given more of production's traffic only when all its desired tasks are healthy; blue is kept whole until [`Lifecycle::CleanUp`], so that until then traffic can go back at once.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::{DeploymentId, Timestamp};
use model::elb::{ElbPath, WeightedGroup, arn};
use model::service::{
    CompletedDeployment, Deployment, Hook, HookAction, Lifecycle, Pause, PauseState, RollbackCause,
    ServiceBalancer, Share, Shift, Stage, TrafficRule, WaitReason,
};

use super::inventory::{Leave, Readiness, TaskView, count};
use super::limits::{STAGE_MS_MAX, Sizes};
use super::outcomes::is_undone_by;
use super::pass::{Pass, TaskPlan, Why, earlier};
use super::rolling::{Line, plan as plan_line};
use super::wait_reasons::desired_count;

/// What a stage leads to.
enum Next {
    /// Something is waited for, at most until then.
    Wait(Option<Timestamp>),
    Go(Lifecycle),
    Fail(RollbackCause, String),
}

impl Pass<'_, '_> {
    fn balancers(&self, id: DeploymentId) -> &[ServiceBalancer] {
        self.snapshot.balancers.get(&id).copied().unwrap_or_default()
    }

    fn row(&self, id: DeploymentId) -> Option<&Deployment> {
        self.deployments.iter().map(|row| &row.is).find(|row| row.id == id)
    }

    /// The groups that a deployment's tasks are registered in.
    fn groups(&self, row: &Deployment) -> Vec<ElbPath> {
        let all = self.balancers(row.id).iter().enumerate();
        all.map(|(at, each)| row.groups.get(at).unwrap_or(&each.group).clone()).collect()
    }

    /// The deployment whose tasks serve while another comes up beside them: the last that was completed, if it has tasks
    /// that run, else the latest that has.
    fn base_of(&self, green: DeploymentId) -> Option<DeploymentId> {
        let completed = self.notes.completed.map(|completed| completed.deployment);
        let known = completed.filter(|id| *id != green && self.row(*id).is_some());
        let runs = |id: DeploymentId| {
            let mut views = self.inventory.of_deployment(id).iter();
            views.any(|view| view.is_wanted() && view.is_running())
        };
        let others = self.deployments.iter().rev().map(|row| &row.is);
        let running = || others.clone().filter(|row| row.id != green && runs(row.id));
        // Of those that were never done, sooner one that has traffic.
        let serves = |row: &&Deployment| row.stage == Stage::Completed || !is_off(row);
        let live = known.filter(|id| runs(*id));
        let other = || running().find(serves).or_else(|| running().next()).map(|row| row.id);
        live.or_else(other).or(known)
    }

    /// The deployment that serves while the one there shifts traffic, to which traffic can be brought back.
    pub(super) fn blue_of(&self, at: usize) -> Option<CompletedDeployment> {
        let green = &self.deployments[at].is;
        if green.settings.strategy.is_rolling() {
            return None;
        }
        // One that failed before its first stage has not chosen yet.
        let from = match &green.shift {
            Some(shift) => shift.from,
            None => self.base_of(green.id),
        };
        let blue = from.filter(|id| *id != green.id).and_then(|id| self.row(id))?;
        let serves = blue.stage == Stage::Completed || !is_off(blue);
        serves.then_some(CompletedDeployment { deployment: blue.id, revision: blue.revision })
    }

    /// Chooses the groups of a deployment whose revision names two for each of its balancers: a rolling one joins the
    /// tasks before it, others take the group that these are not in.
    fn choose_groups(&self, green: &Deployment, base: Option<&Deployment>) -> Vec<ElbPath> {
        let taken = base.map(|row| self.groups(row)).unwrap_or_default();
        let choose = |each: &ServiceBalancer| {
            let of_base = taken.iter().find(|group| each.has(group));
            let chosen = match of_base {
                Some(group) if green.settings.strategy.is_rolling() => Some(group),
                Some(group) => each.other(group),
                None => None,
            };
            chosen.unwrap_or(&each.group).clone()
        };
        self.balancers(green.id).iter().map(choose).collect()
    }

    /// Moves the primary deployment on through its stages, as far as it goes in this pass.
    pub(super) fn follow_shift(&mut self) {
        let Some(at) = self.primary() else { return };
        let row = &self.deployments[at].is;
        let has_pairs = self.balancers(row.id).iter().any(|each| each.alternate.is_some());
        let base = self.base_of(row.id);
        if row.stage == Stage::InProgress && row.groups.is_empty() && has_pairs {
            let groups = self.choose_groups(row, base.and_then(|id| self.row(id)));
            self.deployments[at].is.groups = groups;
        }
        let row = &self.deployments[at].is;
        if row.stage != Stage::InProgress || row.settings.strategy.is_rolling() {
            return;
        }
        // As long as nothing of green is there, blue may turn out to be another.
        let is_waiting = |shift: &Shift| {
            shift.stage == Lifecycle::ReconcileService && base.is_some() && shift.from != base
        };
        if row.shift.as_ref().is_some_and(is_waiting) {
            let groups = self.choose_groups(row, base.and_then(|id| self.row(id)));
            let row = &mut self.deployments[at].is;
            row.groups = if has_pairs { groups } else { Vec::new() };
            if let Some(shift) = &mut row.shift {
                shift.from = base;
            }
            self.route(at, Share::NONE, false);
        }
        let row = &self.deployments[at].is;
        let begun = if row.shift.is_none() { self.begin(at, base) } else { Ok(()) };
        if let Err(why) = begun {
            return self.fail_shift(at, RollbackCause::Network, &why);
        }
        loop {
            match self.next(at) {
                Next::Wait(until) => return self.wake_at(until),
                Next::Fail(cause, why) => return self.fail_shift(at, cause, &why),
                Next::Go(stage) => {
                    let before = self.shares(at);
                    if let Err(why) = self.enter(at, stage) {
                        return self.fail_shift(at, RollbackCause::Network, &why);
                    }
                    // Each change of traffic is made durable by itself.
                    let is_offered = self.snapshot.offered.contains(&self.deployments[at].is.id);
                    let is_parted = is_offered && before != self.shares(at);
                    if is_parted || !self.changed_forwards().is_empty() {
                        let now = self.now();
                        return self.wake_at(Some(now));
                    }
                }
            }
        }
    }

    /// What a deployment has of production's traffic and of tests.
    fn shares(&self, at: usize) -> Option<(Share, Share)> {
        let shift = self.deployments[at].is.shift.as_ref()?;
        Some((shift.production, shift.test))
    }

    /// The first stage; what has production traffic is put right where somebody else's change left it in the wrong group
    /// of the two.
    fn begin(&mut self, at: usize, from: Option<DeploymentId>) -> Result<(), String> {
        self.check_network(at)?;
        let green = self.deployments[at].is.id;
        let is_other = |view: &TaskView<'_>| Some(view.deployment) != from;
        let stage = if self.inventory.but(Some(green)).any(is_other) {
            Lifecycle::ReconcileService
        } else {
            Lifecycle::PreScaleUp
        };
        let shift = Shift {
            stage,
            since: self.now(),
            step: 0,
            from,
            production: Share::NONE,
            test: Share::NONE,
            pauses: Vec::new(),
            is_paused: false,
        };
        self.deployments[at].is.shift = Some(shift);
        self.route(at, Share::NONE, false);
        Ok(())
    }

    fn enter(&mut self, at: usize, stage: Lifecycle) -> Result<(), String> {
        let now = self.now();
        let strategy = self.deployments[at].is.settings.strategy;
        let Some(shift) = &mut self.deployments[at].is.shift else { return Ok(()) };
        (shift.stage, shift.since) = (stage, now);
        match stage {
            Lifecycle::TestTrafficShift => {
                shift.test = Share::ALL;
                self.check_network(at)?;
                self.route(at, Share::ALL, true);
            }
            Lifecycle::PreProductionTrafficShift => shift.step += 1,
            Lifecycle::ProductionTrafficShift => {
                let share = strategy.share(shift.step);
                shift.production = share;
                self.check_network(at)?;
                self.route(at, share, false);
            }
            Lifecycle::ReconcileService
            | Lifecycle::PreScaleUp
            | Lifecycle::ScaleUp
            | Lifecycle::PostScaleUp
            | Lifecycle::PostTestTrafficShift
            | Lifecycle::PostProductionTrafficShift
            | Lifecycle::BakeTime => {}
            Lifecycle::CleanUp => {
                // Whoever changed the rule meanwhile may lead traffic to those that are about to be stopped.
                let before = self.forwards.clone();
                self.route(at, Share::ALL, false);
                if self.forwards != before
                    && let Err(why) = self.check_network(at)
                {
                    self.forwards = before;
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    /// What comes after the stage that the deployment is in.
    fn next(&mut self, at: usize) -> Next {
        if let Some(waits) = self.follow_hooks(at) {
            return waits;
        }
        let row = &self.deployments[at].is;
        let Some(shift) = &row.shift else { return Next::Wait(None) };
        let after = |minutes: u32| shift.since.plus_ms(u64::from(minutes) * 60_000);
        let once = |until: Timestamp, stage: Lifecycle| match until <= self.now() {
            true => Next::Go(stage),
            false => Next::Wait(Some(until)),
        };
        let bounded = |until: Timestamp| {
            if self.now() < until {
                return Next::Wait(Some(until));
            }
            let why = format!("the {} stage took longer than 24 hours.", shift.stage);
            Next::Fail(RollbackCause::TimedOut, why)
        };
        let when = |is_so: bool, stage: Lifecycle| match is_so {
            true => Next::Go(stage),
            false => bounded(shift.since.plus_ms(STAGE_MS_MAX)),
        };
        match shift.stage {
            Lifecycle::ReconcileService => {
                let is_other = |view: &&TaskView<'_>| Some(view.deployment) != shift.from;
                let mut others = self.inventory.but(Some(row.id)).filter(is_other);
                when(others.next().is_none(), Lifecycle::PreScaleUp)
            }
            Lifecycle::PreScaleUp => Next::Go(Lifecycle::ScaleUp),
            Lifecycle::ScaleUp => when(self.is_whole(row.id), Lifecycle::PostScaleUp),
            Lifecycle::PostScaleUp => Next::Go(Lifecycle::TestTrafficShift),
            Lifecycle::TestTrafficShift => Next::Go(Lifecycle::PostTestTrafficShift),
            Lifecycle::PostTestTrafficShift => Next::Go(Lifecycle::PreProductionTrafficShift),
            Lifecycle::PreProductionTrafficShift => {
                when(self.is_whole(row.id), Lifecycle::ProductionTrafficShift)
            }
            Lifecycle::ProductionTrafficShift => Next::Go(Lifecycle::PostProductionTrafficShift),
            Lifecycle::PostProductionTrafficShift if shift.production < Share::ALL => {
                let until = after(row.settings.strategy.step_bake_minutes());
                once(until, Lifecycle::PreProductionTrafficShift)
            }
            Lifecycle::PostProductionTrafficShift => Next::Go(Lifecycle::BakeTime),
            // Scaled up meanwhile, it is to be whole again.
            Lifecycle::BakeTime if !self.is_whole(row.id) => {
                let bake = u64::from(row.settings.bake_minutes.unwrap_or(0)) * 60_000;
                bounded(shift.since.plus_ms(bake.saturating_add(STAGE_MS_MAX)))
            }
            Lifecycle::BakeTime => {
                once(after(row.settings.bake_minutes.unwrap_or(0)), Lifecycle::CleanUp)
            }
            Lifecycle::CleanUp => Next::Wait(None),
        }
    }

    /// Whether every desired task of a deployment is healthy, and reached where it is to be reached by Service Connect.
    fn is_whole(&self, id: DeploymentId) -> bool {
        let is_offered = self.snapshot.offered.contains(&id);
        let views = self.inventory.of_deployment(id).iter();
        let healthy = views.filter(|view| {
            let is_reached = !is_offered || view.task.is_connected();
            view.readiness == Readiness::Healthy && view.stays() && is_reached
        });
        desired_count(self.snapshot) <= count(healthy)
    }

    /// Begins the hooks of the stage, and says what they lead to; none once all of them said to go on. On the way back
    /// nobody is asked.
    fn follow_hooks(&mut self, at: usize) -> Option<Next> {
        let now = self.now();
        let row = &mut self.deployments[at].is;
        if row.undoes.is_some() {
            return None;
        }
        let hooks = row.settings.hooks.clone();
        let shift = row.shift.as_mut()?;
        let (stage, step) = (shift.stage, shift.step);
        let mut waits_until = None;
        for (number, hook) in hooks.iter().enumerate() {
            if !hook.stages.contains(&stage) {
                continue;
            }
            let hook_number = u32::try_from(number).unwrap_or(u32::MAX);
            let is_its = |it: &Pause| (it.hook, it.stage, it.step) == (hook_number, stage, step);
            let place = shift.pauses.iter().position(is_its).unwrap_or_else(|| {
                shift.pauses.push(Pause {
                    hook: hook_number,
                    stage,
                    step,
                    state: match hook.call {
                        Some(_) => PauseState::InProgress,
                        None => PauseState::AwaitingAction,
                    },
                    expires_at: now.plus_ms(u64::from(hook.timeout_minutes) * 60_000),
                    on_timeout: hook.on_timeout,
                    run: hook.call.as_ref().map(|_| Box::default()),
                });
                shift.pauses.len() - 1
            });
            let pause = &mut shift.pauses[place];
            if pause.is_open() && pause.expires_at <= now {
                pause.state = PauseState::TimedOut;
            }
            let why = match (pause.state, pause.on_timeout) {
                (PauseState::InProgress | PauseState::AwaitingAction, _) => {
                    waits_until = earlier(waits_until, Some(pause.expires_at));
                    continue;
                }
                (PauseState::Succeeded, _) | (PauseState::TimedOut, HookAction::Continue) => {
                    continue;
                }
                (PauseState::Failed, _) => failed(hook, pause),
                (PauseState::TimedOut, HookAction::Rollback) => match &hook.call {
                    None => format!("{stage} pause hook timed out."),
                    Some(call) => {
                        let target = &call.target;
                        format!(
                            "{stage} lifecycle hook(s) failed. Lifecycle hook target {target} timed out."
                        )
                    }
                },
            };
            return Some(Next::Fail(RollbackCause::Hook, why));
        }
        // What the stage waits for besides has its time from the last word on.
        if std::mem::replace(&mut shift.is_paused, waits_until.is_some()) && waits_until.is_none() {
            shift.since = now;
        }
        waits_until.map(|until| Next::Wait(Some(until)))
    }

    /// Whether the rules are such that traffic can be shifted by them; if not, why, in ECS's words.
    fn check_network(&self, at: usize) -> Result<(), String> {
        const INVALID: &str = "of invalid networking configuration";
        let scope = &self.snapshot.service.scope;
        let name = |group: &ElbPath| arn(scope, "targetgroup", group);
        for each in self.balancers(self.deployments[at].is.id) {
            let Some(pair) = &each.alternate else { continue };
            let test = pair.test.as_ref();
            let forward = |rule: &TrafficRule| self.forwards.get(rule);
            let (Some(production), true) =
                (forward(&pair.production), test.is_none_or(|rule| forward(rule).is_some()))
            else {
                return Err(format!("{INVALID}. One or more rules not found"));
            };
            let mut serving = production.iter().filter(|it| it.weight > 0).map(|it| &it.group);
            if let Some(strange) = serving.find(|group| !each.has(group)) {
                return Err(format!(
                    "{INVALID}. Production listener rule is forwarding traffic to unexpected target group {}. Expected \
                     traffic to be forwarded to either targetGroupArn: {} or alternateTargetGroupArn: {}",
                    name(strange),
                    name(&each.group),
                    name(&pair.group)
                ));
            }
            let tested = test.and_then(forward).map_or(&[][..], Vec::as_slice);
            let of_rules: BTreeSet<&ElbPath> =
                production.iter().chain(tested).map(|it| &it.group).collect();
            // Of a network balancer's only listener the other group becomes one with the first change.
            let is_alone = test.is_none() && matches!(pair.production, TrafficRule::Listener(_));
            for group in [&each.group, &pair.group].into_iter().filter(|_| !is_alone) {
                if !of_rules.contains(group) {
                    return Err(format!(
                        "{INVALID}: Target group {} is not associated with either productionListenerRule or \
                         testListenerRule.",
                        name(group)
                    ));
                }
            }
            if self.snapshot.powerless_roles.contains(pair.role.as_str()) {
                return Err(format!(
                    "{INVALID}. ECS was unable to manage the ELB resources due to missing permissions on ECS \
                     Infrastructure Role '{}'.",
                    pair.role
                ));
            }
        }
        Ok(())
    }

    /// Points the rules of a deployment's balancers, those for tests or those of production, so that its groups have the
    /// share.
    fn route(&mut self, at: usize, share: Share, is_test: bool) {
        let row = self.deployments[at].is.clone();
        let from = row.shift.as_ref().and_then(|shift| shift.from).and_then(|id| self.row(id));
        let of_blue = from.map(|row| self.groups(row)).unwrap_or_default();
        let balancers = self.balancers(row.id).to_vec();
        for (each, group) in balancers.iter().zip(self.groups(&row)) {
            let Some(pair) = &each.alternate else { continue };
            let Some(other) = each.other(&group) else { continue };
            let rule = if is_test { pair.test.as_ref() } else { Some(&pair.production) };
            if let Some(forward) = rule.and_then(|rule| self.forwards.get_mut(rule)) {
                let is_led_elsewhere =
                    forward.iter().any(|it| it.weight > 0 && !each.has(&it.group));
                if share == Share::NONE && is_led_elsewhere {
                    // Somebody took it for something else, which is not undone by going back.
                    continue;
                }
                // Where blue has no tasks, as with a service's first deployment, there is nobody else to serve.
                let share = if of_blue.contains(other) { share } else { Share::ALL };
                let (own, rest) = share.weights();
                set_weight(forward, &group, own);
                set_weight(forward, other, rest);
            }
        }
    }

    /// Puts all traffic back to blue, where blue is in the other group of the two.
    pub(super) fn route_back(&mut self, at: usize) {
        let row = &self.deployments[at].is;
        let from = row.shift.as_ref().and_then(|shift| shift.from);
        if from.and_then(|id| self.row(id)).is_some() {
            self.route(at, Share::NONE, false);
            self.route(at, Share::NONE, true);
        }
        if let Some(shift) = &mut self.deployments[at].is.shift {
            (shift.production, shift.test) = (Share::NONE, Share::NONE);
        }
    }

    /// The rules that forward otherwise from now on.
    pub(super) fn changed_forwards(&self) -> BTreeMap<TrafficRule, Vec<WeightedGroup>> {
        let is_new = |(rule, groups): &(&TrafficRule, &Vec<WeightedGroup>)| {
            self.snapshot.forwards.get(*rule) != Some(*groups)
        };
        let changed = self.forwards.iter().filter(is_new);
        changed.map(|(rule, groups)| (rule.clone(), groups.clone())).collect()
    }

    /// Deployments that were given up before they were done, and whose tasks have no traffic.
    pub(super) fn idle(&self) -> BTreeSet<DeploymentId> {
        let primary = self.primary().map(|at| &self.deployments[at].is);
        let kept = primary.and_then(|row| row.shift.as_ref()).and_then(|shift| shift.from);
        let is_idle = |row: &&Deployment| {
            let is_kept = Some(row.id) == kept || Some(row.id) == primary.map(|row| row.id);
            !is_kept && row.stage != Stage::Completed && is_off(row)
        };
        self.deployments.iter().map(|row| &row.is).filter(is_idle).map(|row| row.id).collect()
    }

    /// Whether tasks of a deployment that is not the primary one are kept whole for its sake.
    pub(super) fn is_blue(&self, id: DeploymentId) -> bool {
        let primary = self.primary().map(|at| &self.deployments[at].is);
        let shift = primary.and_then(|row| row.shift.as_ref());
        shift.is_some_and(|shift| shift.from == Some(id) && shift.stage < Lifecycle::CleanUp)
    }
}

/// Whether a deployment shifts traffic, and has none.
fn is_off(row: &Deployment) -> bool {
    let is_off = |shift: &Shift| shift.production == Share::NONE && shift.from.is_some();
    row.shift.as_ref().is_some_and(is_off)
}

fn set_weight(forward: &mut Vec<WeightedGroup>, group: &ElbPath, weight: u32) {
    match forward.iter_mut().find(|it| it.group == *group) {
        Some(known) => known.weight = weight,
        None => forward.push(WeightedGroup { group: group.clone(), weight }),
    }
}

/// Starts and stops of a service whose primary deployment shifts traffic.
pub(super) fn plan(pass: &Pass<'_, '_>, primary: &Deployment) -> TaskPlan {
    let stage = primary.shift.as_ref().map_or(Lifecycle::PreScaleUp, |shift| shift.stage);
    let from = primary.shift.as_ref().and_then(|shift| shift.from);
    // What is changed of rules has to be so first.
    if stage == Lifecycle::CleanUp && pass.changed_forwards().is_empty() {
        let mut plan = plan_line(pass, &line(pass, primary, Vec::new(), 0));
        let others = pass.inventory.but(Some(primary.id));
        stop_all(pass, others, primary.id, &mut plan);
        // How green fares from here on is no more the deployment's affair.
        plan.is_replaced = pass.inventory.but(Some(primary.id)).next().is_none();
        return plan;
    }
    let is_up = stage >= Lifecycle::ScaleUp;
    let desired = desired_count(pass.snapshot);
    let others = || {
        let strange = |view: &&TaskView<'_>| Some(view.deployment) != from;
        pass.inventory.but(Some(primary.id)).filter(strange)
    };
    // Blue first: it serves.
    let (mut of_blue, mut missing) = (TaskPlan::default(), 0);
    if let Some(blue) = from.and_then(|id| pass.row(id)) {
        let old = if is_up { Vec::new() } else { others().collect() };
        // A blue that is sick, or does not come up, has no successors in green's places: green may be what mends it.
        let of_green =
            if is_up { count(pass.inventory.of_deployment(primary.id).iter()) } else { desired };
        let room_for_green = desired.saturating_sub(of_green);
        // It serves, however it ended itself, and takes the places of those before it: green would wait for that for ever.
        let whole = Line { is_going: true, ..line(pass, blue, old, room_for_green) };
        of_blue = plan_line(pass, &whole);
        let there = count(pass.inventory.of_deployment(blue.id).iter());
        let coming = of_blue.starts.iter().map(|start| start.tasks).sum();
        missing = desired.saturating_sub(there).max(coming);
    }
    let mut plan = match is_up {
        true => plan_line(pass, &line(pass, primary, Vec::new(), missing)),
        false => TaskPlan { desired, needed: desired, ..TaskPlan::default() },
    };
    plan.backoff_until = earlier(plan.backoff_until, of_blue.backoff_until);
    plan.protected += of_blue.protected;
    plan.protected_until = earlier(plan.protected_until, of_blue.protected_until);
    plan.starts.extend(of_blue.starts);
    plan.stops.extend(of_blue.stops);
    plan.target_failures.extend(of_blue.target_failures);
    if is_up || from.is_none() {
        stop_all(pass, others(), primary.id, &mut plan);
    }
    (plan.is_steady, plan.is_blocked) = (false, false);
    plan
}

/// A deployment's tasks with those before it, and the bounds of the service for them: whatever the percentages, there
/// may be as many tasks as two revisions take. For so many more others need room.
fn line<'l, 'a>(
    pass: &'l Pass<'_, 'a>,
    row: &'l Deployment,
    old: Vec<&'l TaskView<'a>>,
    for_others: u32,
) -> Line<'l, 'a> {
    let service = pass.snapshot.service;
    let sizes = Sizes::of(&service.deployment, service.desired_count);
    let of_others = count(pass.inventory.but(Some(row.id))) - count(old.iter());
    let most = sizes.ceiling.max(sizes.desired.saturating_mul(2));
    let ceiling = most.saturating_sub(of_others.saturating_add(for_others));
    Line {
        id: row.id,
        own: pass.inventory.of_deployment(row.id),
        old,
        sizes: Sizes { ceiling, ..sizes },
        // One that was stopped on its way, and serves, is kept up as what serves is.
        is_going: !row.stage.has_failed()
            || row.shift.as_ref().is_some_and(|shift| shift.production > Share::NONE),
        streak: row.streak,
        last_failure_at: row.last_failure_at,
        shortage: row.shortage.as_ref(),
        is_rebalanced: service.is_zone_rebalanced && row.stage == Stage::Completed,
    }
}

/// Stops all of these tasks that are not protected; as long as one is there, the service is not steady.
pub(super) fn stop_all<'v, 'a: 'v>(
    pass: &Pass<'_, '_>,
    views: impl Iterator<Item = &'v TaskView<'a>>,
    by: DeploymentId,
    plan: &mut TaskPlan,
) {
    for view in views {
        plan.is_steady = false;
        if !view.is_wanted() {
            continue;
        }
        match view.is_protected && !view.leave.as_ref().is_some_and(Leave::is_unhealthy) {
            true => plan.spare(view),
            false => plan.stop(pass, view, by, Why::Scaled),
        }
    }
}

/// Why a deployment is not gone on with, by a hook that failed.
fn failed(hook: &Hook, pause: &Pause) -> String {
    let stage = pause.stage;
    match &hook.call {
        None => format!("{stage} pause hook said to roll back."),
        Some(call) => {
            let why = pause.run.as_ref().and_then(|run| run.why.clone());
            let why = why.unwrap_or_else(|| {
                format!("Lifecycle hook target {} returned FAILED status.", call.target)
            });
            format!("{stage} lifecycle hook(s) failed. {why}")
        }
    }
}

/// What the stage of a deployment waits for, besides tasks.
pub(super) fn waits_of(row: &Deployment) -> Option<WaitReason> {
    let shift = row.shift.as_ref().filter(|_| row.stage == Stage::InProgress)?;
    let open = |state: PauseState| {
        let open = shift.pauses.iter().filter(|it| it.state == state);
        open.min_by_key(|it| it.expires_at).map(|it| (it.stage, it.expires_at))
    };
    if let Some((stage, until)) = open(PauseState::AwaitingAction) {
        return Some(WaitReason::Word { stage, until });
    }
    if let Some((stage, until)) = open(PauseState::InProgress) {
        return Some(WaitReason::Hook { stage, until });
    }
    let after = |minutes: u32| shift.since.plus_ms(u64::from(minutes) * 60_000);
    match shift.stage {
        Lifecycle::PostProductionTrafficShift if shift.production < Share::ALL => {
            let until = after(row.settings.strategy.step_bake_minutes());
            Some(WaitReason::NextStep { until })
        }
        Lifecycle::BakeTime => {
            Some(WaitReason::Bake { until: after(row.settings.bake_minutes.unwrap_or(0)) })
        }
        Lifecycle::ReconcileService
        | Lifecycle::PreScaleUp
        | Lifecycle::ScaleUp
        | Lifecycle::PostScaleUp
        | Lifecycle::TestTrafficShift
        | Lifecycle::PostTestTrafficShift
        | Lifecycle::PreProductionTrafficShift
        | Lifecycle::ProductionTrafficShift
        | Lifecycle::PostProductionTrafficShift
        | Lifecycle::CleanUp => None,
    }
}

/// Whether a deployment that another took the place of has traffic although it was never done.
pub(super) fn is_given_up(row: &Deployment, primary: DeploymentId) -> bool {
    let has_traffic = |shift: &Shift| {
        shift.from.is_some() && (shift.production > Share::NONE || shift.test > Share::NONE)
    };
    !row.stage.was_done()
        && !is_cleaning_up(row)
        && !is_undone_by(row, primary)
        && row.shift.as_ref().is_some_and(has_traffic)
}

/// Whether a deployment has all traffic, and blue is being stopped: there is no way back, so that it is as good as done.
pub(super) fn is_cleaning_up(row: &Deployment) -> bool {
    let cleans = |shift: &Shift| shift.stage == Lifecycle::CleanUp;
    row.stage == Stage::InProgress && row.shift.as_ref().is_some_and(cleans)
}
