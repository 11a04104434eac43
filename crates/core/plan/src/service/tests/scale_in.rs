//! Who goes first, who may not go, and how zones stay even.

use std::collections::BTreeMap;

use longshore_types::TaskId;

use super::world::{Behaviour, Fate, World, settings};
use crate::service::{Place, rollout_reason, wait_reasons};

fn zones(world: &World) -> BTreeMap<String, usize> {
    let mut zones = BTreeMap::new();
    for id in world.wanted() {
        *zones.entry(world.tasks[&id].zone.as_deref().unwrap().to_owned()).or_default() += 1;
    }
    zones
}

fn counted(world: &World, zone: &str) -> usize {
    zones(world).get(zone).copied().unwrap_or(0)
}

fn protect(world: &mut World, tasks: &[TaskId], ms: u64) {
    let until = world.now().plus_ms(ms);
    for id in tasks {
        world.tasks.get_mut(id).unwrap().protected_until = Some(until);
    }
}

#[test]
fn the_fullest_zone_gives_first_and_then_the_fullest_instance() {
    let mut world = World::new(1, 9, settings(100, 200));
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    // Zone a has two instances, one of which has more of the tasks.
    let second = world.add_host("a");
    let first = world.hosts[0].0.id;
    let in_b: Vec<TaskId> = world
        .wanted()
        .into_iter()
        .filter(|id| world.tasks[id].zone.as_deref() == Some("b"))
        .collect();
    for (id, host) in in_b.iter().zip([first, second]) {
        let task = world.tasks.get_mut(id).unwrap();
        task.zone = Some("a".into());
        task.instance = Some(host);
    }
    assert_eq!((counted(&world, "a"), counted(&world, "b"), counted(&world, "c")), (5, 1, 3));
    world.service.desired_count = 7;
    let plan = world.pass();
    assert_eq!(plan.stops.len(), 2);
    assert_eq!((counted(&world, "a"), counted(&world, "b"), counted(&world, "c")), (3, 1, 3));
    let on_first =
        world.wanted().into_iter().filter(|id| world.tasks[id].instance == Some(first)).count();
    assert_eq!(on_first, 2, "the instance with four gave both");
}

#[test]
fn of_equals_the_newest_goes_and_before_all_what_does_not_run_yet() {
    let mut world = World::new(2, 1, settings(100, 200));
    world.hosts.truncate(1);
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let oldest = world.wanted()[0];
    world.service.desired_count = 3;
    world.run_ms(5_000);
    world.service.desired_count = 4;
    world.pass();
    let is_pending = |world: &World, id: &TaskId| world.tasks[id].times.started.is_none();
    let pending = world.wanted().into_iter().find(|id| is_pending(&world, id)).unwrap();
    world.service.desired_count = 3;
    let plan = world.pass();
    assert_eq!(plan.stops.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [pending]);
    world.service.desired_count = 1;
    world.pass();
    assert_eq!(world.wanted(), [oldest]);
}

#[test]
fn protected_tasks_are_spared_by_scale_in_until_their_protection_ends() {
    let mut world = World::new(3, 4, settings(100, 200));
    let id = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let busy = world.wanted()[..3].to_vec();
    protect(&mut world, &busy, 600_000);
    world.service.desired_count = 1;
    let plan = world.pass();
    assert_eq!(plan.stops.len(), 1);
    assert_eq!(plan.look_again_at, Some(world.now().plus_ms(600_000)));
    assert_eq!(world.wanted().len(), 3);
    let waits = &wait_reasons(&world.snapshot())[&id];
    assert!(waits.iter().any(|reason| reason.to_string() == "the protection of 2 tasks to end"));
    world.run_until_steady();
    assert_eq!(world.wanted().len(), 1);
}

#[test]
fn a_deployment_waits_for_protected_tasks_and_says_so() {
    let mut world = World::new(4, 2, settings(100, 200));
    let old = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let busy = world.wanted();
    protect(&mut world, &busy[..1], 60_000);
    let new = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_ms(30_000);
    assert_eq!((world.running(old), world.running(new)), (1, 2));
    let reason = rollout_reason(world.deployment(new), &wait_reasons(&world.snapshot())[&new]);
    assert!(reason.contains("Waiting for the protection of 1 task to end."), "{reason}");
    world.run_until_steady();
    assert_eq!((world.running(old), world.running(new)), (0, 2));
}

#[test]
fn an_uneven_service_moves_one_task_at_a_time_to_the_poorest_zone() {
    let mut world = World::new(5, 6, settings(100, 200));
    world.service.is_zone_rebalanced = true;
    world.hosts.truncate(1);
    let id = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    world.add_host("b");
    world.add_host("c");
    let plan = world.pass();
    assert_eq!(plan.starts.len(), 1);
    assert_eq!(plan.starts[0].place, Place::Zone("b".to_owned()));
    assert_eq!((plan.starts[0].tasks, plan.stops.len()), (1, 0));
    let plan = world.pass();
    assert!(plan.is_idle(), "it waits for the one that comes");
    world.run_until("even", |world| {
        zones(world).values().all(|tasks| *tasks == 2) && world.notes.steady_said_at.is_some()
    });
    assert_eq!((world.running(id), world.live()), (6, 6));
    assert!(world.said("has stopped 1 running tasks") >= 4);
}

#[test]
fn no_task_moves_to_a_zone_where_none_can_start() {
    let mut world = World::new(5, 4, settings(100, 200));
    world.service.is_zone_rebalanced = true;
    world.hosts.truncate(1);
    world.add_host("b");
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    assert_eq!(zones(&world).len(), 2);
    // It is away, and its tasks count as running.
    world.hosts[1].0.is_connected = false;
    world.service.desired_count = 8;
    world.run_until_steady();
    assert!(world.pass().is_idle(), "{:?}", zones(&world));
}

#[test]
fn zones_stay_uneven_without_the_flag_and_within_the_ceiling() {
    for (flag, max) in [(false, 200), (true, 100)] {
        let mut world = World::new(6, 3, settings(100, max));
        world.service.is_zone_rebalanced = flag;
        world.hosts.truncate(1);
        world.deploy(Behaviour::new(Fate::Lasts));
        world.run_until_steady();
        world.add_host("b");
        assert!(world.pass().is_idle());
    }
}
