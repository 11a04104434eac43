//! The lives of services, from creation to deletion.

use model::instance::InstanceStatus;
use model::service::{Rank, ServiceStatus, Stage, TaskSetStatus};
use model::task::{Desired, StopCause};

use super::world::{Behaviour, Fate, World, settings};
use crate::service::{counts, rollout_reason, service_counts, wait_reasons};

#[test]
fn a_new_service_starts_all_its_tasks_and_says_that_it_is_steady() {
    let mut world = World::new(1, 4, settings(100, 200));
    let id = world.deploy(Behaviour::new(Fate::Lasts));
    let plan = world.pass();
    assert_eq!(plan.starts.iter().map(|start| start.tasks).sum::<u32>(), 4);
    world.run_until_steady();
    assert_eq!(world.running(id), 4);
    assert_eq!(world.deployment(id).stage, Stage::Completed);
    let name = format!("(service web) (deployment {id}) deployment completed.");
    assert_eq!(world.messages(), [name.as_str(), "(service web) has reached a steady state."]);
}

#[test]
fn a_rolling_deployment_keeps_every_task_until_its_successor_can_be_counted_on() {
    let mut world = World::new(2, 4, settings(100, 200));
    let old = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let new = world.deploy(Behaviour::new(Fate::HealthyAfter(500)));
    let plan = world.pass();
    assert_eq!((plan.starts[0].tasks, plan.stops.len()), (4, 0));
    world.run_ms(550);
    assert_eq!((world.running(old), world.running(new)), (4, 4));
    world.run_until_steady();
    assert_eq!((world.running(old), world.running(new)), (0, 4));
    assert_eq!(world.deployment(old).rank, Rank::Gone);
    assert_eq!(world.said("has stopped 4 running tasks"), 1);
}

#[test]
fn without_room_above_old_tasks_make_way_down_to_the_floor() {
    let mut world = World::new(3, 4, settings(50, 100));
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let new = world.deploy(Behaviour::new(Fate::Lasts));
    let plan = world.pass();
    assert_eq!((plan.starts.len(), plan.stops.len()), (0, 2));
    assert!(plan.stops.iter().all(|(_, cause)| {
        cause.to_string() == format!("Scaling activity initiated by (deployment {new})")
    }));
    world.run_until_steady();
    assert_eq!(world.running(new), 4);
}

#[test]
fn a_deployment_that_the_percentages_leave_no_move_says_so_once() {
    let mut world = World::new(4, 1, settings(50, 100));
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let new = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_ms(10_000);
    assert_eq!(world.said("was unable to stop or start tasks during a deployment"), 1);
    let reason = rollout_reason(world.deployment(new), &wait_reasons(&world.snapshot())[&new]);
    assert!(reason.contains("minimumHealthyPercent"), "{reason}");
    world.service.deployment = settings(0, 100);
    world.run_until_steady();
    assert_eq!(world.running(new), 1);
}

#[test]
fn several_superseded_deployments_go_at_once_and_their_pending_tasks_first() {
    let mut world = World::new(5, 3, settings(100, 200));
    let first = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let slow = Behaviour { starts_in_ms: 1_000_000, ..Behaviour::new(Fate::Lasts) };
    let second = world.deploy(slow);
    world.pass();
    assert_eq!(world.live(), 6);
    let third = world.deploy(Behaviour::new(Fate::Lasts));
    let plan = world.pass();
    assert_eq!(plan.stops.len(), 3, "the pending ones go at once");
    assert_eq!(world.deployment(second).stage, Stage::Superseded);
    let why = format!("Superseded by deployment {third}.");
    assert_eq!(world.deployment(second).status_reason, Some(why));
    world.run_until_steady();
    assert_eq!((world.running(first), world.running(third)), (0, 3));
    let shown = world.deployments.iter().filter(|row| row.rank < Rank::Gone).count();
    assert_eq!(shown, 1);
}

#[test]
fn a_service_scales_up_and_down_and_to_nothing() {
    let mut world = World::new(6, 2, settings(100, 200));
    let id = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    for desired in [7, 1, 0, 3] {
        world.service.desired_count = desired;
        world.run_ms(5_000);
        assert_eq!(world.running(id), desired as usize);
        assert!(world.notes.steady_said_at.is_some(), "steady with {desired}");
    }
    assert_eq!(world.said("has reached a steady state"), 5);
}

#[test]
fn a_deleted_service_stops_everything_and_then_is_inactive() {
    let mut world = World::new(7, 3, settings(100, 200));
    let id = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let protected = world.wanted()[0];
    let until = world.now().plus_ms(3_600_000);
    world.tasks.get_mut(&protected).unwrap().protected_until = Some(until);
    world.service.status = ServiceStatus::Draining;
    world.pass();
    assert!(world.tasks.values().all(|task| task.desired == Desired::Stopped));
    assert_eq!(service_counts(&world.snapshot()).desired, 0);
    world.run_until("inactive", |world| world.service.status == ServiceStatus::Inactive);
    assert_eq!(world.deployment(id).rank, Rank::Gone);
    assert_eq!(world.live(), 0);
}

#[test]
fn a_crashed_task_is_replaced_in_the_same_pass() {
    let mut world = World::new(8, 3, settings(100, 100));
    let id = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let victim = world.wanted()[0];
    world.crash(victim);
    let plan = world.pass();
    assert_eq!((plan.starts[0].tasks, plan.accounted), (1, vec![victim]));
    assert!(world.notes.steady_said_at.is_none());
    world.run_until_steady();
    assert_eq!(world.running(id), 3);
    assert_eq!(world.deployment(id).stage, Stage::Completed);
}

#[test]
fn a_task_on_a_draining_instance_leaves_when_its_successor_runs() {
    let mut world = World::new(9, 3, settings(100, 200));
    let id = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let host = world.tasks.values().next().unwrap().instance.unwrap();
    world.host_mut(host).status = InstanceStatus::Draining;
    let plan = world.pass();
    assert_eq!((plan.starts[0].tasks, plan.stops.len()), (1, 0));
    world.run_until_steady();
    assert_eq!(world.running(id), 3);
    assert!(world.tasks.values().all(|task| task.instance != Some(host)));
    assert_eq!(world.said("has stopped 1 running tasks"), 1);
}

#[test]
fn below_a_floor_of_all_tasks_of_a_draining_instance_leave_at_once() {
    let mut world = World::new(10, 3, settings(50, 100));
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let host = world.tasks.values().next().unwrap().instance.unwrap();
    world.host_mut(host).status = InstanceStatus::Draining;
    let plan = world.pass();
    let arn = &world.host_mut(host).arn.clone();
    assert_eq!(plan.stops.len(), 1);
    assert_eq!(plan.stops[0].1, StopCause::InstanceDraining { instance: arn.clone() });
    world.run_until_steady();
}

#[test]
fn what_finds_no_room_waits_and_says_so() {
    let mut world = World::new(11, 5, settings(100, 200));
    world.room = 3;
    let id = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_ms(10_000);
    assert_eq!(world.running(id), 3);
    let reason = rollout_reason(world.deployment(id), &wait_reasons(&world.snapshot())[&id]);
    assert!(reason.contains("room for 2 tasks (3 instances: 3 full)"), "{reason}");
    world.room = 5;
    world.run_until_steady();
    assert!(world.deployment(id).shortage.is_none());
}

#[test]
fn without_room_for_more_a_deployment_uses_the_places_of_the_old_tasks() {
    let mut world = World::new(12, 4, settings(50, 200));
    world.room = 4;
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let new = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    assert_eq!(world.running(new), 4);
}

#[test]
fn a_superseded_deployment_desires_what_it_has() {
    let mut world = World::new(13, 2, settings(100, 200));
    let old = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    world.deploy(Behaviour::new(Fate::Lasts));
    world.pass();
    let snapshot = world.snapshot();
    let counts = counts(&snapshot, world.deployment(old));
    assert_eq!((counts.desired, counts.pending, counts.running), (2, 0, 2));
    assert_eq!(service_counts(&snapshot).pending, 2);
}

#[test]
fn a_bake_time_passes_before_the_deployment_is_completed() {
    let mut world = World::new(14, 1, settings(100, 200));
    world.service.deployment.bake_minutes = Some(10);
    let id = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_ms(60_000);
    assert_eq!(world.deployment(id).stage, Stage::InProgress);
    let reason = rollout_reason(world.deployment(id), &wait_reasons(&world.snapshot())[&id]);
    assert!(reason.contains("its bake time to end"), "{reason}");
    world.run_ms(600_000);
    assert_eq!(world.deployment(id).stage, Stage::Completed);
}

#[test]
fn each_task_set_is_kept_at_its_share_and_a_deleted_one_goes_when_it_is_empty() {
    let mut world = World::new(15, 5, settings(100, 200));
    let blue = world.add_task_set(10_000, Behaviour::new(Fate::Lasts));
    let green = world.add_task_set(3_000, Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    assert_eq!((world.running(blue), world.running(green)), (5, 2));
    assert!(world.task_sets.iter().all(|set| set.stability() == "STEADY_STATE"));
    assert_eq!(world.said(&format!("(service web, taskSet {green}) has reached a steady")), 1);
    world.task_sets[0].status = TaskSetStatus::Draining;
    world.task_sets[1].scale_basis_points = 10_000;
    world.run_until("one is gone", |world| world.task_sets.len() == 1);
    world.run_until_steady();
    assert_eq!((world.running(blue), world.running(green)), (0, 5));
    assert_eq!(world.live(), 5);
}

#[test]
fn a_service_that_stays_steady_says_so_again_after_six_hours() {
    let mut world = World::new(16, 1, settings(100, 200));
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    world.run_ms(13 * 60 * 60 * 1000);
    assert_eq!(world.said("has reached a steady state"), 3);
}
