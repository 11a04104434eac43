//! One task on each instance.

use model::instance::InstanceStatus;
use model::service::Scheduling;
use model::task::Desired;

use super::world::{Behaviour, Fate, World, breaker, settings};
use crate::service::{Place, desired_count, service_counts};

fn world(seed: u64, healthy_percent_min: u32) -> World {
    let mut world = World::new(seed, 0, settings(healthy_percent_min, 100));
    world.service.scheduling = Scheduling::Daemon;
    world
}

#[test]
fn each_instance_has_one_and_a_new_one_gets_its_own() {
    let mut world = world(1, 0);
    let id = world.deploy(Behaviour::new(Fate::Lasts));
    let plan = world.pass();
    assert_eq!(plan.starts.len(), 3);
    world.run_until_steady();
    assert_eq!((world.running(id), service_counts(&world.snapshot()).desired), (3, 3));
    let new = world.add_host("a");
    let plan = world.pass();
    assert_eq!(plan.starts.len(), 1);
    assert_eq!(plan.starts[0].place, Place::On(new));
    world.run_until_steady();
    assert_eq!(world.running(id), 4);
}

#[test]
fn a_daemon_on_a_draining_instance_leaves_after_all_others() {
    let mut world = world(2, 0);
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let host = world.hosts[0].0.id;
    world.host_mut(host).status = InstanceStatus::Draining;
    world.host_mut(host).other_tasks = 2;
    assert!(world.pass().stops.is_empty());
    world.host_mut(host).other_tasks = 0;
    let plan = world.pass();
    assert_eq!(plan.stops.len(), 1);
    assert_eq!(plan.stops[0].1.code(), "ServiceSchedulerInitiated");
    assert_eq!(desired_count(&world.snapshot()), 2);
    world.run_until_steady();
}

#[test]
fn a_new_revision_stops_first_and_no_more_than_the_floor_allows() {
    let mut world = world(3, 50);
    let old = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let new = world.deploy(Behaviour::new(Fate::Lasts));
    let plan = world.pass();
    assert_eq!((plan.starts.len(), plan.stops.len()), (0, 1), "two of three must stay");
    world.run_until_steady();
    assert_eq!((world.running(old), world.running(new)), (0, 3));
}

#[test]
fn a_floor_of_all_leaves_a_daemon_no_move() {
    let mut world = world(4, 100);
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_ms(10_000);
    assert_eq!(world.said("was unable to stop or start tasks during a deployment"), 1);
}

#[test]
fn a_daemon_whose_instance_does_not_meet_the_constraints_any_more_is_stopped() {
    let mut world = world(5, 100);
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let host = world.hosts[1].0.id;
    world.host_mut(host).accepts = false;
    assert_eq!(world.pass().stops.len(), 1);
    world.run_until_steady();
    assert_eq!(world.live(), 2);
}

#[test]
fn an_instance_out_of_reach_keeps_its_daemon_and_holds_up_nothing() {
    let mut world = world(6, 0);
    let id = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let host = world.hosts[1].0.id;
    world.host_mut(host).is_connected = false;
    assert!(world.pass().is_idle());
    let away = world.add_host("a");
    world.host_mut(away).is_connected = false;
    assert!(world.pass().is_idle());
    world.host_mut(away).is_connected = true;
    world.run_until_steady();
    world.run_ms(10_000);
    assert_eq!(world.running(id), 4);
}

#[test]
fn a_daemon_that_cannot_start_trips_the_breaker() {
    let mut world = world(7, 0);
    world.service.deployment.breaker = Some(breaker(true));
    let good = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let bad = world.deploy(Behaviour::new(Fate::NeverStarts));
    world.pass();
    world.run_until("rolled back", |world| {
        world.deployment(bad).stage.has_failed() && world.notes.steady_said_at.is_some()
    });
    let revision = world.deployment(good).revision;
    assert_eq!(world.primary().revision, revision);
    assert_eq!(world.live(), 3);
    assert!(world.tasks.values().all(|task| task.desired == Desired::Running));
}

#[test]
fn a_crashed_daemon_comes_back_on_its_instance() {
    let mut world = world(8, 100);
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let victim = world.wanted()[0];
    let host = world.tasks[&victim].instance.unwrap();
    world.crash(victim);
    assert_eq!(world.pass().starts[0].place, Place::On(host));
    world.run_until_steady();
}
