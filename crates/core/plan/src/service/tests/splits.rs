//! How what is reached by Service Connect follows deployments that shift traffic.

use longshore_types::DeploymentId;
use model::service::{
    DeploymentSettings, Hook, HookAction, Lifecycle, PauseState, Share, Stage, Strategy,
};

use super::world::{Behaviour, Fate, World, settings};
use crate::service::split::{Split, split};

const CANARY: Strategy = Strategy::Canary { first: Share(250), bake_minutes: 5 };

fn healthy() -> Behaviour {
    Behaviour::new(Fate::HealthyAfter(500))
}

fn pause(stage: Lifecycle) -> Hook {
    Hook {
        stages: vec![stage],
        timeout_minutes: 1_440,
        on_timeout: HookAction::Rollback,
        call: None,
    }
}

/// A service with one deployment that is done; those that follow pause at these stages.
fn world(seed: u64, strategy: Strategy, stages: &[Lifecycle]) -> World {
    let asked = DeploymentSettings { strategy, ..settings(100, 200) };
    let mut world = World::new(seed, 2, asked);
    world.deploy(healthy());
    world.run_until_steady();
    assert_eq!(split_of(&world), None, "there is one deployment");
    world.service.deployment.hooks = stages.iter().copied().map(pause).collect();
    world
}

fn split_of(world: &World) -> Option<Split> {
    split(&world.snapshot().deployments)
}

/// Green's share of production in tenths of a percent, and whether tests go to it.
fn green_of(world: &World, id: DeploymentId) -> Option<(u16, bool)> {
    let green = split_of(world)?.green.filter(|green| green.deployment == id)?;
    Some((green.production.0, green.is_tested))
}

fn until_paused(world: &mut World, stage: Lifecycle) {
    world.run_until("paused", |world| {
        let shift = world.primary().shift.as_ref();
        let is_open = |it: &model::service::Pause| it.state == PauseState::AwaitingAction;
        shift.is_some_and(|shift| shift.stage == stage && shift.pauses.iter().any(is_open))
    });
}

fn go_on(world: &mut World) {
    let row = world.deployments.last_mut().unwrap();
    let pauses = row.shift.as_mut().unwrap().pauses.iter_mut();
    let open = pauses.filter(|it| it.state == PauseState::AwaitingAction);
    open.for_each(|it| it.state = PauseState::Succeeded);
}

#[test]
fn green_has_tests_first_and_then_production_step_by_step() {
    let (test, production) =
        (Lifecycle::PostTestTrafficShift, Lifecycle::PostProductionTrafficShift);
    let mut world = world(1, CANARY, &[Lifecycle::PostScaleUp, test, production]);
    let green = world.deploy(healthy());
    world.pass();
    assert_eq!(green_of(&world, green), Some((0, false)), "before a task of it is there");
    for (stage, expected) in [
        (Lifecycle::PostScaleUp, (0, false)),
        (test, (0, true)),
        (production, (250, true)),
        (production, (1_000, true)),
    ] {
        until_paused(&mut world, stage);
        assert_eq!(green_of(&world, green), Some(expected), "{stage}");
        go_on(&mut world);
    }
    world.run_until_steady();
    assert_eq!(split_of(&world), None);
}

#[test]
fn a_green_that_is_gone_back_from_has_nothing_while_its_tasks_are_there() {
    for stage in [
        Lifecycle::PostTestTrafficShift,
        Lifecycle::PreProductionTrafficShift,
        Lifecycle::PostProductionTrafficShift,
    ] {
        let mut world = world(2, CANARY, &[stage]);
        let bad = world.deploy(healthy());
        until_paused(&mut world, stage);
        world.deployments.last_mut().unwrap().stage = Stage::RollbackRequested;
        world.pass();
        assert!(world.live() > 2, "{stage}: its tasks are not gone yet");
        assert_eq!(split_of(&world), Some(Split { green: None, off: vec![bad] }), "{stage}");
        world.run_until_steady();
        assert_eq!(world.running(bad), 0, "{stage}");
        assert_eq!(split_of(&world).and_then(|split| split.green), None, "{stage}");
    }
}

#[test]
fn a_green_that_a_newer_one_takes_the_place_of_is_off() {
    let stage = Lifecycle::PostProductionTrafficShift;
    let mut world = world(3, CANARY, &[stage]);
    let second = world.deploy(healthy());
    until_paused(&mut world, stage);
    assert_eq!(green_of(&world, second), Some((250, true)));
    let third = world.deploy(healthy());
    world.pass();
    assert_eq!(green_of(&world, third), Some((0, false)));
    assert_eq!(split_of(&world).unwrap().off, [second]);
}
