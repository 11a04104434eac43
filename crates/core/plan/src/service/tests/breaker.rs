//! Tasks that keep failing: the breaker, rollbacks, and pauses between tries.

use model::service::{Breaker, BreakerThreshold, Rank, RollbackCause, Stage};
use model::task::Health;

use super::world::{Behaviour, Fate, World, breaker, settings};
use crate::service::limits::{BACKOFF_MS_MAX, FAILED_SHOWN_MS};
use crate::service::{
    BreakerStatus, backoff_ms, breaker_threshold, desired_count, rollout_reason, wait_reasons,
};

fn world(seed: u64, desired: u32, breaker: Option<Breaker>) -> World {
    let mut world = World::new(seed, desired, settings(100, 200));
    world.service.deployment.breaker = breaker;
    world
}

#[test]
fn the_threshold_is_half_of_what_is_desired_within_bounds() {
    let with =
        |threshold, desired| breaker_threshold(&Breaker { threshold, ..breaker(false) }, desired);
    for (desired, threshold) in [(0, 3), (1, 3), (6, 3), (7, 4), (25, 13), (400, 200), (800, 200)] {
        assert_eq!(with(None, desired), threshold, "of {desired}");
    }
    assert_eq!(with(Some(BreakerThreshold::BoundedPercent(20)), 100), 20);
    assert_eq!(with(Some(BreakerThreshold::Percent(50)), 1_000), 500);
    assert_eq!(with(Some(BreakerThreshold::Percent(1)), 1), 1);
    assert_eq!(with(Some(BreakerThreshold::Count(7)), 1_000), 7);
}

#[test]
fn the_first_tries_follow_at_once_and_the_pauses_then_double_up_to_a_quarter_of_an_hour() {
    let pauses: Vec<u64> = (0..8).map(backoff_ms).collect();
    assert_eq!(pauses, [0, 0, 0, 0, 1_000, 2_000, 4_000, 8_000]);
    assert_eq!([13, 14, 90, u32::MAX].map(backoff_ms), [512_000, 900_000, 900_000, 900_000]);
    assert_eq!(backoff_ms(90), BACKOFF_MS_MAX);
}

#[test]
fn a_revision_that_cannot_start_trips_the_breaker_and_the_old_tasks_never_notice() {
    let mut world = world(1, 2, Some(breaker(true)));
    let good = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let before = world.wanted();
    let bad = world.deploy(Behaviour::new(Fate::NeverStarts));
    world.pass();
    world.run_until_steady();
    assert_eq!(world.wanted(), before, "no task of the good deployment was touched");
    let row = world.deployment(bad);
    assert_eq!((row.stage, row.rank), (Stage::RolledBack, Rank::Active), "clients still look");
    assert_eq!(row.failures, 4, "two waves of two");
    let why = "ECS deployment circuit breaker: tasks failed to start.";
    assert_eq!(row.rollout_reason.as_deref(), Some(why));
    let rollback = row.rollback.clone().unwrap();
    assert_eq!((rollback.cause, rollback.by), (RollbackCause::Breaker, good));
    let reason = row.status_reason.clone().unwrap();
    assert!(reason.contains("circuit breaker threshold was exceeded."), "{reason}");
    assert!(reason.contains("CannotPullContainerError: no such image"), "{reason}");
    assert_eq!(world.service.revision, Some(world.deployment(good).revision));
    assert_eq!(world.said(&format!("rolling back to deployment {good}.")), 1);
    assert_eq!(
        world.said(&format!("(deployment {bad}) deployment failed: tasks failed to start")),
        1
    );
    let why = "was unable to place a task. Reason: CannotPullContainerError: no such image.";
    assert_eq!(world.said(why), 2, "once a wave");
    world.run_ms(FAILED_SHOWN_MS);
    assert_eq!(world.deployment(bad).rank, Rank::Gone);
}

#[test]
fn without_rollback_a_failed_deployment_starts_nothing_more() {
    let mut world = world(2, 4, Some(breaker(false)));
    let good = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let bad = world.deploy(Behaviour::new(Fate::NeverStarts));
    world.run_ms(60_000);
    assert_eq!(world.primary().id, bad);
    assert_eq!(world.deployment(bad).stage, Stage::Stopped);
    assert_eq!(world.running(good), 4);
    let victim = world.wanted()[0];
    world.crash(victim);
    world.run_ms(60_000);
    assert_eq!(world.live(), 3, "a failed deployment starts no tasks");
    let shown = crate::service::breaker(&world.service, world.primary(), 4);
    assert_eq!(shown.status, BreakerStatus::Triggered);
    let next = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    assert_eq!(world.running(next), 4);
}

#[test]
fn a_rollback_makes_the_old_tasks_again_if_they_are_gone() {
    let mut world = world(3, 3, Some(breaker(true)));
    world.service.deployment.healthy_percent_min = 0;
    world.service.deployment.percent_max = 100;
    let good = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let bad = world.deploy(Behaviour::new(Fate::EndsAfter(200)));
    world.pass();
    world.run_until("rolled back", |world| world.deployment(bad).stage == Stage::RolledBack);
    let by = world.primary();
    assert_eq!((by.undoes, by.record.clone()), (Some(bad), None));
    assert_eq!(by.revision, world.deployment(good).revision);
    assert_eq!(world.running(by.id), 3);
    assert_eq!(world.deployment(bad).rollback.as_ref().unwrap().by, by.id);
}

#[test]
fn tasks_that_exit_soon_after_their_start_count_as_failed_to_start() {
    let mut world = world(4, 2, Some(breaker(true)));
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let bad = world.deploy(Behaviour::new(Fate::EndsAfter(1_500)));
    world.pass();
    world.run_until_steady();
    assert_eq!(world.deployment(bad).stage, Stage::RolledBack);
    let reason = world.deployment(bad).status_reason.clone().unwrap();
    assert!(reason.contains("container app exited with code 1"), "{reason}");
}

#[test]
fn failing_health_checks_trip_the_breaker_too() {
    let mut world = world(5, 3, Some(breaker(true)));
    let good = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let bad = world.deploy(Behaviour::new(Fate::SickAfter(2_000)));
    world.pass();
    world.run_until_steady();
    let why = "ECS deployment circuit breaker: tasks failed container health checks.";
    assert_eq!(world.deployment(bad).rollout_reason.as_deref(), Some(why));
    assert_eq!(world.running(good), 3);
    assert!(world.said("failed container health checks.") >= 3);
}

#[test]
fn a_healthy_task_sets_the_failures_back_unless_told_otherwise() {
    for (resets, left) in [(None, 0), (Some(true), 0), (Some(false), 2)] {
        let breaker = Breaker { resets_on_healthy_task: resets, ..breaker(true) };
        let mut world = world(6, 2, Some(breaker));
        let id = world.deploy(Behaviour::new(Fate::NeverStarts));
        world.pass();
        world.run_ms(100);
        world.behaviours.insert(id, Behaviour::new(Fate::Lasts));
        world.pass();
        assert_eq!(world.deployment(id).failures, 2);
        world.run_until_steady();
        assert_eq!(world.deployment(id).failures, left);
        assert_eq!(world.deployment(id).stage, Stage::Completed);
    }
}

#[test]
fn a_first_deployment_that_fails_has_nothing_to_go_back_to() {
    let mut world = world(7, 1, Some(breaker(true)));
    let bad = world.deploy(Behaviour::new(Fate::NeverStarts));
    world.run_ms(60_000);
    assert_eq!(world.deployment(bad).failures, 3);
    assert_eq!(world.deployment(bad).stage, Stage::Stopped);
    assert_eq!(world.primary().id, bad);
}

#[test]
fn a_rollback_that_fails_too_ends_there() {
    let mut world = world(8, 2, Some(breaker(true)));
    let good = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let bad = world.deploy(Behaviour::new(Fate::NeverStarts));
    // The good one's image is gone by now, and its tasks die.
    world.behaviours.insert(good, Behaviour::new(Fate::NeverStarts));
    for victim in world.wanted() {
        world.crash(victim);
    }
    world.run_ms(3_600_000);
    assert_eq!(world.deployment(bad).stage, Stage::RollbackFailed);
    assert_eq!(world.primary().stage, Stage::RestoreFailed);
    assert_eq!(world.live(), 0);
}

#[test]
fn without_a_breaker_tries_become_rarer_and_the_service_says_so_once() {
    let mut world = world(9, 2, None);
    let id = world.deploy(Behaviour::new(Fate::NeverStarts));
    world.run_ms(60_000);
    let early = world.deployment(id).streak;
    assert!((8..=10).contains(&early), "{early} tries in a minute");
    let reason = rollout_reason(world.deployment(id), &wait_reasons(&world.snapshot())[&id]);
    assert!(reason.contains("the next try at "), "{reason}");
    assert!(reason.contains("CannotPullContainerError: no such image"), "{reason}");
    world.run_ms(24 * 3_600_000);
    let later = world.deployment(id).streak;
    assert!((100..=115).contains(&later), "{later} tries in a day");
    assert_eq!(world.said("is unable to consistently start tasks successfully"), 1);
    world.behaviours.insert(id, Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    assert_eq!(world.deployment(id).streak, 0);
    assert!(world.notes.failing_said.is_empty());
    let next = world.deploy(Behaviour::new(Fate::NeverStarts));
    let plan = world.pass();
    assert_eq!(plan.starts[0].deployment, next, "a new deployment tries at once");
}

#[test]
fn a_service_whose_tasks_fail_together_counts_one_try() {
    let mut world = world(10, 50, None);
    let id = world.deploy(Behaviour::new(Fate::NeverStarts));
    world.pass();
    world.run_ms(150);
    assert_eq!((world.deployment(id).streak, world.deployment(id).failures), (1, 50));
}

#[test]
fn stops_by_request_end_a_deployment_with_and_without_going_back() {
    let mut world = world(11, 2, None);
    let good = world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let slow = Behaviour { starts_in_ms: 1_000_000, ..Behaviour::new(Fate::Lasts) };
    let stopped = world.deploy(slow);
    world.pass();
    world.deployments.last_mut().unwrap().stage = Stage::StopRequested;
    world.run_ms(10_000);
    assert_eq!(world.deployment(stopped).stage, Stage::Stopped);
    assert_eq!(world.primary().id, stopped);
    let undone = world.deploy(slow);
    world.pass();
    world.deployments.last_mut().unwrap().stage = Stage::RollbackRequested;
    world.pass();
    let rollback = world.deployment(undone).rollback.clone().unwrap();
    assert_eq!((rollback.cause, rollback.by), (RollbackCause::Requested, good));
    world.run_until_steady();
    assert_eq!(world.deployment(undone).stage, Stage::RolledBack);
    assert_eq!((world.running(good), world.live()), (2, 2));
}

#[test]
fn a_deployment_that_supersedes_a_rollback_ends_its_record() {
    let mut world = world(12, 2, Some(breaker(true)));
    world.service.deployment.healthy_percent_min = 0;
    world.service.deployment.percent_max = 100;
    world.deploy(Behaviour::new(Fate::Lasts));
    world.run_until_steady();
    let bad = world.deploy(Behaviour::new(Fate::NeverStarts));
    world.run_until("it rolls back", |world| world.deployment(bad).stage == Stage::RollingBack);
    let next = world.deploy(Behaviour::new(Fate::Lasts));
    world.pass();
    assert_eq!(world.deployment(bad).stage, Stage::Stopped);
    world.run_until_steady();
    assert_eq!((world.running(next), world.live()), (2, 2));
    assert_eq!(desired_count(&world.snapshot()), 2);
}

#[test]
fn an_unhealthy_task_stays_until_its_successor_is_healthy() {
    let mut world = world(13, 2, None);
    let id = world.deploy(Behaviour::new(Fate::HealthyAfter(400)));
    world.run_until_steady();
    let sick = world.wanted()[0];
    world.set_health(sick, Health::Unhealthy);
    let plan = world.pass();
    assert_eq!((plan.starts[0].tasks, plan.stops.len()), (1, 0));
    world.run_ms(200);
    assert_eq!((world.running(id), world.live()), (3, 3), "the new one is not healthy yet");
    world.run_until_steady();
    assert!(!world.wanted().contains(&sick));
    assert_eq!(world.said(&format!("(task {sick}) failed container health checks.")), 1);
}

#[test]
fn without_room_above_unhealthy_tasks_are_replaced_one_by_one() {
    let mut world = World::new(14, 4, settings(100, 100));
    world.deploy(Behaviour::new(Fate::HealthyAfter(400)));
    world.run_until_steady();
    let sick = [world.wanted()[0], world.wanted()[1]];
    for sick in sick {
        world.set_health(sick, Health::Unhealthy);
    }
    assert_eq!(world.pass().stops.len(), 1);
    world.run_ms(300);
    assert_eq!(world.wanted().len(), 4);
    assert!(sick.iter().any(|sick| world.wanted().contains(sick)));
    world.run_until_steady();
    assert!(!sick.iter().any(|sick| world.wanted().contains(sick)));
}

#[test]
fn an_unhealthy_task_has_its_grace_period() {
    let mut world = world(15, 1, None);
    world.service.health_check_grace_s = Some(60);
    let id = world.deploy(Behaviour::new(Fate::SickAfter(1_000)));
    world.run_ms(59_000);
    assert_eq!(world.live(), 1);
    world.behaviours.insert(id, Behaviour::new(Fate::HealthyAfter(1_000)));
    world.run_until_steady();
    assert_eq!(world.said("failed container health checks."), 1);
}
