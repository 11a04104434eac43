//! Numbers and small rules, as tables.

use model::service::DeploymentSettings;

use super::world::{Behaviour, Fate, World, settings};
use crate::service::Sizes;
use crate::service::limits::{READY_AFTER_FAILURE_MS, READY_AFTER_MS};

#[test]
fn the_floor_is_rounded_up_and_the_ceiling_down() {
    let cases = [
        ((100, 200), 4, (4, 8)),
        ((50, 200), 4, (2, 8)),
        ((75, 100), 2, (2, 2)),
        ((50, 150), 1, (1, 1)),
        ((50, 150), 3, (2, 4)),
        ((0, 100), 5, (0, 5)),
        ((33, 133), 10, (4, 13)),
        ((100, 200), 0, (0, 0)),
        ((100, 200), u32::MAX, (u32::MAX, u32::MAX)),
    ];
    for ((min, max), desired, (floor, ceiling)) in cases {
        let settings: DeploymentSettings = settings(min, max);
        let sizes = Sizes::of(&settings, desired);
        assert_eq!((sizes.floor, sizes.ceiling), (floor, ceiling), "{min}/{max} of {desired}");
    }
}

#[test]
fn a_task_without_health_checks_is_counted_on_once_it_has_run_for_a_while() {
    let mut world = World::new(1, 1, settings(100, 200));
    let old = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let new = world.deploy(Behaviour::new(Fate::Lasts));
    world.pass();
    world.run_ms(100 + READY_AFTER_MS - 1);
    assert_eq!((world.running(old), world.running(new)), (1, 1));
    world.run_ms(1);
    assert_eq!((world.running(old), world.running(new)), (0, 1));
}

#[test]
fn after_a_failure_a_task_must_run_for_as_long_as_ecs_wants() {
    let mut world = World::new(2, 1, settings(100, 200));
    let old = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let new = world.deploy(Behaviour::new(Fate::NeverStarts));
    world.pass();
    world.run_ms(100);
    world.behaviours.insert(new, Behaviour::new(Fate::Lasts));
    world.pass();
    world.run_ms(100 + READY_AFTER_FAILURE_MS - 1_000);
    assert_eq!((world.running(old), world.running(new)), (1, 1));
    world.run_until_steady();
    assert_eq!((world.running(old), world.running(new)), (0, 1));
}

#[test]
fn what_another_account_of_time_says_is_no_reason_to_act() {
    let mut world = World::new(3, 2, settings(100, 200));
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    // The clock was set back: nothing that was known becomes unknown.
    for task in world.tasks.values_mut() {
        task.times.started = Some(task.times.created.plus_ms(3_600_000));
    }
    assert!(world.pass().is_idle());
}
