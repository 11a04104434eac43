//! Deployments that shift traffic: what goes where at which stage, and back.

use longshore_types::DeploymentId;
use model::elb::{ElbPath, WeightedGroup};
use model::service::{
    AlternateGroup, DeploymentSettings, Hook, HookAction, HookCall, Lifecycle, PauseState,
    ServiceBalancer, Share, Shift, Stage, Strategy, TrafficRule,
};
use model::task::{Health, Task};

use super::world::{Behaviour, Fate, World, breaker, settings};
use crate::service::{rollout_reason, wait_reasons};

/// What somebody does to the rules or the role, and what is said of it.
type Change<'c> = (&'c dyn Fn(&mut World), &'c str);

fn rule(name: &str) -> TrafficRule {
    TrafficRule::Rule(name.into())
}

fn blue_green() -> DeploymentSettings {
    DeploymentSettings { strategy: Strategy::BlueGreen, ..settings(100, 200) }
}

/// A service with the groups `a` and `b` behind one rule for production and one for tests.
fn world(seed: u64, desired: u32, settings: DeploymentSettings) -> World {
    let mut world = World::new(seed, desired, settings);
    world.behind = vec![ServiceBalancer {
        group: "a".into(),
        container: "app".to_owned(),
        port: 80,
        alternate: Some(AlternateGroup {
            group: "b".into(),
            production: rule("production"),
            test: Some(rule("test")),
            role: "arn:aws:iam::000000000000:role/shifts".to_owned(),
        }),
    }];
    world.forwards.insert(rule("production"), groups(&[("a", 1)]));
    world.forwards.insert(rule("test"), groups(&[("b", 1)]));
    world
}

fn groups(all: &[(&str, u32)]) -> Vec<WeightedGroup> {
    all.iter()
        .map(|(group, weight)| WeightedGroup { group: (*group).into(), weight: *weight })
        .collect()
}

/// What the groups have of a rule's traffic.
fn weights(world: &World, name: &str) -> (u32, u32) {
    let of = |group: &str| {
        let path: ElbPath = group.into();
        let forward = &world.forwards[&rule(name)];
        forward.iter().filter(|it| it.group == path).map(|it| it.weight).sum()
    };
    (of("a"), of("b"))
}

fn shift(world: &World) -> Shift {
    world.primary().shift.clone().unwrap()
}

fn healthy() -> Behaviour {
    Behaviour::new(Fate::HealthyAfter(500))
}

fn pause(stage: Lifecycle) -> Hook {
    Hook { stages: vec![stage], timeout_minutes: 60, on_timeout: HookAction::Rollback, call: None }
}

fn crash_one_of(world: &mut World, deployment: DeploymentId) {
    let is_its = |task: &&Task| {
        task.service.as_ref().is_some_and(|service| service.deployment == deployment)
    };
    let victim = world.tasks.values().find(is_its).unwrap().id;
    world.crash(victim);
}

/// A hook that asks somebody.
fn call(stage: Lifecycle) -> Hook {
    let call = HookCall { target: "https://checks.lan/".to_owned(), role: None, details: None };
    Hook { call: Some(Box::new(call)), ..pause(stage) }
}

/// Says a word to the hook that is open.
fn answer(world: &mut World, state: PauseState) {
    let row = world.deployments.last_mut().unwrap();
    let pauses = &mut row.shift.as_mut().unwrap().pauses;
    pauses.iter_mut().find(|it| it.is_open()).unwrap().state = state;
}

#[test]
fn whoever_is_asked_at_a_hook_is_waited_for_also_while_traffic_shifts() {
    let mut world = world(41, 2, blue_green());
    let good = world.deploy(healthy());
    world.run_until_steady();
    let stages = [Lifecycle::TestTrafficShift, Lifecycle::ProductionTrafficShift];
    world.service.deployment.hooks = stages.map(call).into();
    let next = world.deploy(healthy());
    for (stage, shares) in stages.into_iter().zip([((100, 0), (0, 100)), ((0, 100), (0, 100))]) {
        world.run_until("asked", |world| shift(world).pauses.iter().any(|it| it.stage == stage));
        world.run_ms(60_000);
        assert_eq!((weights(&world, "production"), weights(&world, "test")), shares, "{stage}");
        let open = shift(&world).pauses.last().unwrap().clone();
        assert_eq!((open.stage, open.state), (stage, PauseState::InProgress));
        assert!(open.run.is_some_and(|run| run.task.is_none()));
        let reason =
            rollout_reason(world.deployment(next), &wait_reasons(&world.snapshot())[&next]);
        assert!(reason.contains(&format!("the lifecycle hooks of {stage}")), "{reason}");
        answer(&mut world, PauseState::Succeeded);
    }
    world.run_until_steady();
    assert_eq!((world.running(good), world.running(next)), (0, 2));
}

#[test]
fn hooks_of_one_stage_are_asked_at_once_and_one_that_fails_goes_back() {
    const WHY: &str = "Service deployment rolled back because TEST_TRAFFIC_SHIFT lifecycle hook(s) failed. \
                       Lifecycle hook target https://checks.lan/";
    for (way, end) in [("failed", " returned FAILED status."), ("late", " timed out.")] {
        let mut world = world(42, 2, blue_green());
        let good = world.deploy(healthy());
        world.run_until_steady();
        let stage = Lifecycle::TestTrafficShift;
        world.service.deployment.hooks = vec![call(stage), call(stage)];
        let bad = world.deploy(healthy());
        world.run_until("asked", |world| !shift(world).pauses.is_empty());
        assert_eq!(shift(&world).pauses.len(), 2);
        answer(&mut world, PauseState::Succeeded);
        world.run_ms(60_000);
        assert_eq!(shift(&world).stage, stage, "the other is waited for");
        if way == "failed" {
            answer(&mut world, PauseState::Failed);
        }
        world.run_until_steady();
        assert_eq!((world.running(good), world.running(bad)), (2, 0), "{way}");
        assert_eq!((weights(&world, "production"), weights(&world, "test")), ((100, 0), (100, 0)));
        let why = world.deployment(bad).status_reason.clone().unwrap();
        assert_eq!(why, format!("{WHY}{end}"));
    }
}

#[test]
fn groups_take_turns_from_deployment_to_deployment() {
    let mut world = world(1, 3, blue_green());
    let first = world.deploy(healthy());
    world.run_until_steady();
    assert_eq!(world.deployment(first).groups, ["a".into()]);
    assert_eq!((weights(&world, "production"), weights(&world, "test")), ((100, 0), (100, 0)));
    let second = world.deploy(healthy());
    world.run_until_steady();
    assert_eq!(world.deployment(second).groups, ["b".into()]);
    assert_eq!((weights(&world, "production"), weights(&world, "test")), ((0, 100), (0, 100)));
    assert_eq!((world.running(first), world.running(second)), (0, 3));
    let third = world.deploy(healthy());
    world.run_until_steady();
    assert_eq!(world.deployment(third).groups, ["a".into()]);
    assert_eq!(weights(&world, "production"), (100, 0));
    assert_eq!(world.deployment(third).stage, Stage::Completed);
}

#[test]
fn green_is_whole_and_tested_before_production_goes_there_and_blue_stays_until_it_has_baked() {
    let hooks = vec![pause(Lifecycle::PostTestTrafficShift)];
    let asked = DeploymentSettings { hooks, bake_minutes: Some(5), ..blue_green() };
    let mut world = world(2, 2, asked);
    let first = world.deploy(healthy());
    world.run_until("paused", |world| !shift(world).pauses.is_empty());
    answer(&mut world, PauseState::Succeeded);
    world.run_until_steady();
    let second = world.deploy(healthy());
    world.pass();
    assert_eq!(shift(&world).stage, Lifecycle::ScaleUp);
    assert_eq!((weights(&world, "production"), weights(&world, "test")), ((100, 0), (100, 0)));
    world.run_until("paused", |world| shift(world).stage == Lifecycle::PostTestTrafficShift);
    world.run_ms(10_000);
    assert_eq!((weights(&world, "production"), weights(&world, "test")), ((100, 0), (0, 100)));
    assert_eq!((world.running(first), world.running(second)), (2, 2));
    let reason =
        rollout_reason(world.deployment(second), &wait_reasons(&world.snapshot())[&second]);
    assert!(reason.contains("ContinueServiceDeployment at POST_TEST_TRAFFIC_SHIFT"), "{reason}");
    answer(&mut world, PauseState::Succeeded);
    world.run_until("baking", |world| shift(world).stage == Lifecycle::BakeTime);
    assert_eq!((weights(&world, "production"), shift(&world).production), ((0, 100), Share::ALL));
    world.run_ms(4 * 60_000);
    assert_eq!((world.running(first), world.running(second)), (2, 2));
    world.run_until_steady();
    assert_eq!((world.running(first), world.running(second)), (0, 2));
}

#[test]
fn a_green_that_fails_its_checks_is_taken_away_and_never_has_production() {
    let mut world = world(3, 2, blue_green());
    world.service.deployment.breaker = Some(breaker(true));
    let good = world.deploy(healthy());
    world.run_until_steady();
    let bad = world.deploy(Behaviour::new(Fate::SickAfter(500)));
    world.run_until("rolled back", |world| {
        assert_eq!(weights(world, "production"), (100, 0));
        assert_eq!(world.running(good), 2);
        world.deployment(bad).stage == Stage::RolledBack
    });
    assert_eq!((world.running(good), world.running(bad)), (2, 0));
    assert_eq!(world.primary().id, good);
    let next = world.deploy(healthy());
    world.run_until_steady();
    assert_eq!(world.deployment(next).groups, ["b".into()]);
}

#[test]
fn a_request_to_go_back_is_heeded_at_every_stage_before_the_clean_up() {
    for stage in [
        Lifecycle::PreScaleUp,
        Lifecycle::PostScaleUp,
        Lifecycle::PostTestTrafficShift,
        Lifecycle::PreProductionTrafficShift,
        Lifecycle::PostProductionTrafficShift,
    ] {
        let mut world = world(4, 2, blue_green());
        let good = world.deploy(healthy());
        world.run_until_steady();
        world.service.deployment.hooks = vec![pause(stage)];
        let bad = world.deploy(healthy());
        world.run_until("paused", |world| {
            world.primary().shift.as_ref().is_some_and(|shift| shift.stage == stage)
        });
        let row = world.deployments.last_mut().unwrap();
        row.stage = Stage::RollbackRequested;
        world.pass();
        assert_eq!((weights(&world, "production"), world.running(good)), ((100, 0), 2), "{stage}");
        world.run_until_steady();
        assert_eq!(world.deployment(bad).stage, Stage::RolledBack, "{stage}");
        assert_eq!((world.running(good), world.running(bad)), (2, 0), "{stage}");
        assert_eq!(world.deployment(bad).shift.as_ref().unwrap().production, Share::NONE);
    }
}

/// A first deployment that has the traffic and waits at a hook, and a second that waits at one beside it.
fn two_that_were_never_done(seed: u64) -> (World, DeploymentId, DeploymentId) {
    let mut world = world(seed, 3, blue_green());
    world.service.deployment.hooks = vec![pause(Lifecycle::PostProductionTrafficShift)];
    let blue = world.deploy(healthy());
    let is_paused = |world: &World| world.primary().shift.as_ref().is_some_and(|it| it.is_paused);
    world.run_until("paused", is_paused);
    world.service.deployment.hooks = vec![pause(Lifecycle::PostTestTrafficShift)];
    let green = world.deploy(healthy());
    world.pass();
    world.run_until("paused", is_paused);
    assert_eq!(world.deployment(blue).stage, Stage::Superseded);
    assert_eq!((world.running(blue), world.running(green)), (3, 3));
    (world, blue, green)
}

#[test]
fn what_serves_is_gone_back_to_though_it_was_never_done() {
    for way in ["hook", "request", "breaker", "rules"] {
        let (mut world, blue, green) = two_that_were_never_done(17);
        let last = world.deployments.len() - 1;
        match way {
            "hook" => answer(&mut world, PauseState::Failed),
            "request" => world.deployments[last].stage = Stage::RollbackRequested,
            "breaker" => {
                world.service.deployment.breaker = Some(breaker(true));
                world.deployments[last].failures = 100;
            }
            _ => {
                world.forwards.remove(&rule("test"));
                world.service.deployment.hooks.clear();
                answer(&mut world, PauseState::Succeeded);
            }
        }
        world.pass();
        assert_eq!(world.running(blue), 3, "{way}");
        world.run_until_steady();
        assert_eq!((world.running(blue), world.running(green)), (3, 0), "{way}");
        assert_eq!(weights(&world, "production"), (100, 0), "{way}");
        assert_eq!(world.primary().id, blue, "{way}");
        assert_eq!(world.deployment(green).stage, Stage::RolledBack, "{way}");
        assert_eq!(world.deployment(blue).stage, Stage::Completed, "{way}");
        assert_eq!(world.service.revision, Some(world.deployment(blue).revision), "{way}");
        world.service.deployment = blue_green();
        world.forwards.entry(rule("test")).or_insert_with(|| groups(&[("b", 1)]));
        let next = world.deploy(healthy());
        world.run_until_steady();
        assert_eq!((world.running(blue), world.running(next)), (0, 3), "{way}");
    }
}

#[test]
fn a_green_that_cannot_begin_leaves_the_blue_that_was_never_done() {
    let mut world = world(18, 2, blue_green());
    world.service.deployment.hooks = vec![pause(Lifecycle::PostProductionTrafficShift)];
    let blue = world.deploy(healthy());
    world.run_until("paused", |world| !shift(world).pauses.is_empty());
    world.powerless_roles.push("arn:aws:iam::000000000000:role/shifts".to_owned());
    let green = world.deploy(healthy());
    world.run_until_steady();
    assert_eq!((world.running(blue), world.running(green)), (2, 0));
    assert_eq!(world.deployment(green).stage, Stage::RolledBack);
}

#[test]
fn a_first_deployment_has_nothing_to_go_back_to() {
    let mut world = world(19, 2, blue_green());
    world.service.deployment.hooks = vec![pause(Lifecycle::PostScaleUp)];
    let first = world.deploy(healthy());
    world.run_until("paused", |world| !shift(world).pauses.is_empty());
    answer(&mut world, PauseState::Failed);
    world.run_ms(1_000);
    assert_eq!(world.deployment(first).stage, Stage::Stopped);
}

#[test]
fn a_pause_that_nobody_answers_goes_back() {
    let hooks = vec![pause(Lifecycle::PostScaleUp)];
    let mut world = world(5, 1, blue_green());
    world.deploy(healthy());
    world.run_until_steady();
    world.service.deployment.hooks = hooks;
    let bad = world.deploy(healthy());
    world.run_until("paused", |world| !shift(world).pauses.is_empty());
    world.run_until("gone back", |world| world.deployment(bad).stage == Stage::RolledBack);
    let why = world.deployment(bad).status_reason.clone().unwrap();
    assert_eq!(why, "Service deployment rolled back because POST_SCALE_UP pause hook timed out.");
    assert_eq!(
        world.said("deployment failed: Service deployment rolled back because POST_SCALE_UP"),
        1
    );
}

#[test]
fn a_newer_deployment_takes_the_place_of_one_that_has_traffic_already() {
    let asked = DeploymentSettings { bake_minutes: Some(60), ..blue_green() };
    for strategy in [Strategy::BlueGreen, Strategy::Rolling] {
        let mut world = world(6, 2, blue_green());
        let first = world.deploy(healthy());
        world.run_until_steady();
        world.service.deployment = asked.clone();
        let second = world.deploy(healthy());
        world.run_until("baking", |world| shift(world).stage == Lifecycle::BakeTime);
        assert_eq!(weights(&world, "production"), (0, 100));
        world.service.deployment = DeploymentSettings { strategy, ..settings(100, 200) };
        let third = world.deploy(healthy());
        world.pass();
        assert_eq!((weights(&world, "production"), world.running(first)), ((100, 0), 2));
        world.run_until_steady();
        assert_eq!((world.running(second), world.running(third)), (0, 2), "{strategy:?}");
        let (group, left) = match strategy.is_rolling() {
            true => ("a", (100, 0)),
            false => ("b", (0, 100)),
        };
        assert_eq!(world.deployment(third).groups, [group.into()]);
        assert_eq!(weights(&world, "production"), left);
    }
}

#[test]
fn rules_that_lead_elsewhere_or_a_role_without_power_are_said_and_nothing_is_started() {
    let mut world = world(7, 2, blue_green());
    let good = world.deploy(healthy());
    world.run_until_steady();
    let changes: [Change<'_>; 4] = [
        (&|world| drop(world.forwards.remove(&rule("test"))), "One or more rules not found"),
        (
            &|world| drop(world.forwards.insert(rule("production"), groups(&[("c", 1)]))),
            "Production listener rule is forwarding traffic to unexpected target group arn:aws:elasticloadbalancing:\
             eu-north-1:000000000000:targetgroup/c.",
        ),
        (
            &|world| {
                world.forwards.insert(rule("production"), groups(&[("a", 1)]));
                world.forwards.insert(rule("test"), groups(&[("a", 1)]));
            },
            "is not associated with either productionListenerRule or testListenerRule.",
        ),
        (
            &|world| world.powerless_roles.push("arn:aws:iam::000000000000:role/shifts".to_owned()),
            "missing permissions on ECS Infrastructure Role",
        ),
    ];
    for (change, why) in changes {
        let before = world.forwards.clone();
        change(&mut world);
        let bad = world.deploy(healthy());
        world.run_until_steady();
        let row = world.deployment(bad);
        let said = row.status_reason.clone().unwrap();
        assert!(said.contains(why), "{said}");
        assert_eq!((row.stage, world.running(good), world.running(bad)), (Stage::RolledBack, 2, 0));
        world.forwards = before;
    }
}

#[test]
fn traffic_that_somebody_moved_to_the_empty_group_is_brought_back_with_the_next_deployment() {
    let mut world = world(8, 1, blue_green());
    world.deploy(healthy());
    world.run_until_steady();
    world.forwards.insert(rule("production"), groups(&[("a", 0), ("b", 1)]));
    let next = world.deploy(healthy());
    world.pass();
    assert_eq!(weights(&world, "production"), (100, 0));
    world.run_until_steady();
    assert_eq!(world.deployment(next).groups, ["b".into()]);
}

#[test]
fn linear_and_canary_deployments_go_by_steps_and_wait_after_each_but_the_last() {
    let linear = Strategy::Linear { step: Share(400), bake_minutes: 2 };
    let canary = Strategy::Canary { first: Share(5), bake_minutes: 2 };
    for (strategy, steps) in
        [(linear, vec![(60, 40), (20, 80), (0, 100)]), (canary, vec![(995, 5), (0, 100)])]
    {
        let mut world = world(9, 2, blue_green());
        let first = world.deploy(healthy());
        world.run_until_steady();
        world.service.deployment.strategy = strategy;
        let second = world.deploy(healthy());
        for (number, step) in steps.iter().enumerate() {
            world.run_until("a step", |world| weights(world, "production") == *step);
            assert_eq!((world.running(first), world.running(second)), (2, 2));
            if number + 1 < steps.len() {
                world.run_ms(110_000);
                assert_eq!(weights(&world, "production"), *step);
            }
        }
        world.run_until_steady();
        assert_eq!((world.running(first), world.running(second)), (0, 2));
    }
}

#[test]
fn blue_is_kept_whole_and_scaled_while_green_waits() {
    let mut world = world(10, 2, blue_green());
    let first = world.deploy(healthy());
    world.run_until_steady();
    world.service.deployment.hooks = vec![pause(Lifecycle::PostScaleUp)];
    let second = world.deploy(healthy());
    world.run_until("paused", |world| !shift(world).pauses.is_empty());
    let victim = world.wanted()[0];
    world.crash(victim);
    world.service.desired_count = 4;
    world.run_ms(10_000);
    assert_eq!((world.running(first), world.running(second)), (4, 4));
    answer(&mut world, PauseState::Succeeded);
    world.run_until_steady();
    assert_eq!((world.running(first), world.running(second)), (0, 4));
}

#[test]
fn one_that_is_stopped_leaves_both_and_the_next_cleans_up() {
    let mut world = world(11, 2, blue_green());
    let first = world.deploy(healthy());
    world.run_until_steady();
    world.service.deployment.hooks = vec![pause(Lifecycle::PostProductionTrafficShift)];
    let second = world.deploy(healthy());
    world.run_until("paused", |world| !shift(world).pauses.is_empty());
    world.deployments.last_mut().unwrap().stage = Stage::StopRequested;
    world.run_ms(10_000);
    assert_eq!((world.running(first), world.running(second)), (2, 2));
    assert_eq!(weights(&world, "production"), (0, 100));
    world.service.deployment.hooks.clear();
    let third = world.deploy(healthy());
    world.run_until_steady();
    assert_eq!((world.running(first), world.running(second), world.running(third)), (0, 0, 2));
    assert_eq!(world.deployment(third).groups, ["b".into()]);
    assert_eq!(weights(&world, "production"), (0, 100));
}

#[test]
fn a_rolling_one_that_was_stopped_half_way_takes_the_places_of_those_before_it() {
    let mut world =
        World::new(31, 4, DeploymentSettings { strategy: Strategy::Rolling, ..settings(75, 100) });
    // Nothing was ever done that could be gone back to.
    let first = world.deploy(healthy());
    world.run_until("most of it", |world| world.running(first) == 4);
    let second = world.deploy(healthy());
    world.run_until("half of it", |world| world.running(second) > 0);
    world.deployments.last_mut().unwrap().stage = Stage::StopRequested;
    world.run_ms(10_000);
    let stopped = (world.running(first), world.running(second));
    assert!(stopped.0 > 0 && stopped.1 > 0, "{stopped:?}");
    world.service.deployment = blue_green();
    let third = world.deploy(healthy());
    world.run_until_steady();
    assert_eq!((world.running(first), world.running(second), world.running(third)), (0, 0, 4));
}

#[test]
fn a_deployment_is_done_once_blue_is_gone_however_green_fares_then() {
    let mut world = world(13, 2, blue_green());
    world.deploy(healthy());
    world.run_until_steady();
    let second = world.deploy(Behaviour { stops_in_ms: 60_000, ..healthy() });
    world.run_until("clean-up", |world| shift(world).stage == Lifecycle::CleanUp);
    world.behaviours.insert(second, Behaviour::new(Fate::NeverStarts));
    crash_one_of(&mut world, second);
    world.run_until("done", |world| world.deployment(second).stage == Stage::Completed);
    assert_eq!(world.running(second), 1);
}

#[test]
fn tasks_of_a_rolling_deployment_that_is_undone_serve_until_those_of_before_are_back() {
    let mut world = world(14, 4, blue_green());
    let first = world.deploy(healthy());
    world.run_until_steady();
    world.service.deployment = settings(50, 100);
    let second = world.deploy(healthy());
    world.run_until("half", |world| world.running(first) == 2 && world.running(second) == 2);
    world.deployments.last_mut().unwrap().stage = Stage::RollbackRequested;
    world.run_until_steady();
    assert_eq!((world.running(first), world.running(second)), (4, 0));
}

#[test]
fn without_load_balancers_the_stages_run_all_the_same() {
    let mut world = World::new(12, 2, blue_green());
    let first = world.deploy(healthy());
    world.run_until_steady();
    let second = world.deploy(healthy());
    world.run_until_steady();
    assert_eq!((world.running(first), world.running(second)), (0, 2));
}

#[test]
fn a_services_first_canary_has_all_traffic_at_every_step() {
    for strategy in [
        Strategy::Canary { first: Share(50), bake_minutes: 2 },
        Strategy::Linear { step: Share(100), bake_minutes: 1 },
    ] {
        let mut world = world(15, 2, DeploymentSettings { strategy, ..blue_green() });
        world.deploy(healthy());
        world.run_until("done", |world| {
            assert_eq!(weights(world, "production").1, 0, "nobody is in the other group");
            world.primary().stage == Stage::Completed
        });
    }
}

#[test]
fn one_that_cleans_up_is_as_good_as_done_for_the_next() {
    for strategy in [Strategy::BlueGreen, Strategy::Rolling] {
        let mut world = world(16, 2, blue_green());
        world.deploy(Behaviour { stops_in_ms: 60_000, ..healthy() });
        world.run_until_steady();
        let second = world.deploy(healthy());
        world.run_until("clean-up", |world| shift(world).stage == Lifecycle::CleanUp);
        world.service.deployment = DeploymentSettings { strategy, ..settings(100, 200) };
        let third = world.deploy(healthy());
        world.pass();
        assert_eq!(weights(&world, "production"), (0, 100), "blue is on its way out");
        assert_eq!((world.deployment(second).stage, world.running(second)), (Stage::Completed, 2));
        world.run_until("done", |world| {
            assert!(world.running(second) + world.running(third) >= 2);
            world.deployment(third).stage == Stage::Completed
        });
    }
}

#[test]
fn blue_is_not_stopped_while_a_rule_leads_to_it() {
    let mut world = world(17, 2, DeploymentSettings { bake_minutes: Some(5), ..blue_green() });
    let first = world.deploy(healthy());
    world.run_until_steady();
    let second = world.deploy(healthy());
    world.run_until("baking", |world| shift(world).stage == Lifecycle::BakeTime);
    world.forwards.insert(rule("production"), groups(&[("a", 100), ("b", 0)]));
    world.run_until("clean-up", |world| shift(world).stage == Lifecycle::CleanUp);
    assert_eq!((weights(&world, "production"), world.running(first)), ((0, 100), 2));
    world.run_until_steady();
    assert_eq!((world.running(first), world.running(second)), (0, 2));
}

#[test]
fn one_that_was_stopped_with_all_traffic_is_kept_up() {
    let mut world = world(18, 2, blue_green());
    world.deploy(healthy());
    world.run_until_steady();
    world.service.deployment.hooks = vec![pause(Lifecycle::PostProductionTrafficShift)];
    let second = world.deploy(healthy());
    world.run_until("paused", |world| !shift(world).pauses.is_empty());
    world.deployments.last_mut().unwrap().stage = Stage::StopRequested;
    world.run_ms(1_000);
    crash_one_of(&mut world, second);
    world.run_ms(60_000);
    assert_eq!((weights(&world, "production"), world.running(second)), ((0, 100), 2));
}

#[test]
fn the_time_of_a_stage_begins_when_its_pause_ends() {
    const HOUR_MS: u64 = 3_600_000;
    let mut world = world(19, 2, blue_green());
    world.deploy(healthy());
    world.run_until_steady();
    let long = Hook { timeout_minutes: 3_000, ..pause(Lifecycle::PreProductionTrafficShift) };
    world.service.deployment.hooks = vec![long];
    let second = world.deploy(healthy());
    world.run_until("paused", |world| !shift(world).pauses.is_empty());
    world.run_ms(30 * HOUR_MS);
    crash_one_of(&mut world, second);
    answer(&mut world, PauseState::Succeeded);
    world.run_until_steady();
    assert_eq!(world.deployment(second).stage, Stage::Completed);
}

#[test]
fn a_rule_that_was_taken_for_something_else_while_green_bakes_is_not_written_to() {
    let mut world = world(20, 2, DeploymentSettings { bake_minutes: Some(5), ..blue_green() });
    world.deploy(healthy());
    world.run_until_steady();
    let second = world.deploy(healthy());
    world.run_until("baking", |world| shift(world).stage == Lifecycle::BakeTime);
    world.forwards.insert(rule("production"), groups(&[("maintenance", 1)]));
    world.run_until("gone back", |world| world.deployment(second).stage == Stage::RolledBack);
    assert_eq!(world.forwards[&rule("production")], groups(&[("maintenance", 1)]));
}

/// Blue that has become sick, however it is, does not keep its successor from coming.
#[test]
fn a_sick_blue_keeps_no_green_from_taking_its_place() {
    for (fate, desired) in [
        (Fate::SickAfter(500), 1),
        (Fate::SickAfter(500), 3),
        (Fate::NeverStarts, 3),
        (Fate::EndsAfter(500), 3),
    ] {
        for (least, most) in [(100, 200), (50, 100), (100, 150)] {
            let asked =
                DeploymentSettings { strategy: Strategy::BlueGreen, ..settings(least, most) };
            let mut world = world(17, desired, asked);
            let blue = world.deploy(healthy());
            world.run_until_steady();
            world.behaviours.insert(blue, Behaviour::new(fate));
            for id in world.wanted() {
                world.set_health(id, Health::Unhealthy);
            }
            world.run_ms(120_000);
            let green = world.deploy(healthy());
            world.run_until("green serves", |world| {
                world.deployment(green).stage == Stage::Completed
            });
            assert_eq!((world.running(blue), world.running(green)), (0, desired as usize));
        }
    }
}
