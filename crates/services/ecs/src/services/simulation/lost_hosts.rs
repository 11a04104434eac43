//! Hosts that fall silent: when their tasks are replaced, and what becomes of them when they return.

use ecs_api::{self as api, Ecs as _};
use longshore_types::{InstanceId, TaskId};
use model::task::{Phase, StopCause};

use super::world::{CLUSTER, HEARTBEAT_TIMEOUT_MS, World};
use crate::Ecs;

const PROVIDER: &str = "arn:aws:ecs:us-east-1:000000000000:capacity-provider/pool";
/// Longer than a service takes to have another task running, with all that agents of these worlds take.
const REPLACED_MS: u64 = 2_000;

fn limit_tag(seconds: u64) -> Vec<api::Tag> {
    let key = Some("longshore.heartbeat-timeout-seconds".to_owned());
    vec![api::Tag { key, value: Some(seconds.to_string()) }]
}

impl World {
    /// A calm world with a service of two tasks, spread over its hosts: where the first of them is.
    async fn with_pair(seed: u64) -> (Self, usize, TaskId) {
        Self::with_pair_of(seed, "good").await
    }

    async fn with_pair_of(seed: u64, family: &str) -> (Self, usize, TaskId) {
        let mut world = Self::new(seed).await;
        world.is_calm = true;
        world.pass(1_000).await;
        let input = api::CreateServiceRequest {
            cluster: Some(CLUSTER.to_owned()),
            service_name: Some("pair".to_owned()),
            task_definition: Some(family.to_owned()),
            desired_count: Some(2),
            launch_type: Some(api::LaunchType::Ec2),
            ..api::CreateServiceRequest::default()
        };
        let root = world.root();
        Ecs::create_service(world.ecs.as_ref(), &root, input).await.unwrap();
        world.pass(10_000).await;
        assert_eq!(world.running().len(), 2);
        let (task, instance) = world.running()[0];
        let host = world.hosts.iter().position(|host| host.id == instance).unwrap();
        (world, host, task)
    }

    fn running(&self) -> Vec<(TaskId, InstanceId)> {
        let view = self.view();
        let running = view.live_tasks().filter(|task| task.phase == Phase::Running);
        running.map(|task| (task.id, task.instance.unwrap())).collect()
    }

    fn is_lost(&self, task: TaskId) -> bool {
        let view = self.view();
        let row = view.tasks.iter().find(|row| row.id == task).unwrap();
        let is_cause = matches!(row.stop_cause.as_deref(), Some(StopCause::InstanceLost { .. }));
        row.phase == Phase::Stopped && is_cause
    }
}

#[tokio::test]
async fn the_wait_begins_with_the_last_sign_of_life_and_not_when_the_silence_was_noticed() {
    const SILENT_MS: u64 = 25_000;
    let (mut world, host, task) = World::with_pair(1).await;
    world.hosts[host].is_up = false;
    world.disconnect_after(host, SILENT_MS).await;
    world.pass(HEARTBEAT_TIMEOUT_MS - SILENT_MS - 1).await;
    assert!(!world.is_lost(task), "too early");
    world.pass(1).await;
    assert!(world.is_lost(task));
    world.pass(REPLACED_MS).await;
    let instance = world.hosts[host].id;
    let elsewhere = world.running().iter().filter(|(_, at)| *at != instance).count();
    assert_eq!(elsewhere, 2, "replaced");
}

#[tokio::test]
async fn a_host_that_returns_in_time_keeps_its_tasks_and_one_that_returns_late_stops_them() {
    let (mut world, host, task) = World::with_pair(2).await;
    for silent_ms in [HEARTBEAT_TIMEOUT_MS - 1_000, HEARTBEAT_TIMEOUT_MS + REPLACED_MS] {
        world.hosts[host].is_up = false;
        world.disconnect_after(host, 0).await;
        world.pass(silent_ms).await;
        // Cut off, not dead: its containers run on all the while.
        assert_eq!(world.hosts[host].tasks[&task].phase, Phase::Running);
        world.hosts[host].is_up = true;
        world.later(1, super::agents::Event::Connect { host });
        world.pass(10_000).await;
        let is_kept = silent_ms < HEARTBEAT_TIMEOUT_MS;
        assert_eq!(world.is_lost(task), !is_kept);
        let phase = world.hosts[host].tasks[&task].phase;
        assert_eq!(phase == Phase::Running, is_kept, "{phase:?}");
        assert_eq!(world.running().len(), 2);
    }
}

#[tokio::test]
async fn a_region_that_was_away_waits_anew_for_hosts_that_it_had_let_go_of_before() {
    let (mut world, host, task) = World::with_pair(1).await;
    world.hosts[host].is_up = false;
    world.disconnect_after(host, 0).await;
    // As long as the region is away, nothing of it looks at a clock.
    world.env.advance_ms(2 * HEARTBEAT_TIMEOUT_MS);
    world.restart().await;
    world.pass(HEARTBEAT_TIMEOUT_MS - 1).await;
    assert!(!world.is_lost(task), "it had no time to come back");
    world.pass(1).await;
    assert!(world.is_lost(task));
}

#[tokio::test]
async fn the_instances_of_a_provider_are_lost_after_its_own_limit() {
    const OWN_MS: u64 = 10_000;
    let (mut world, _, _) = World::with_pair(3).await;
    let tag = |seconds: u64| api::TagResourceRequest {
        resource_arn: Some(PROVIDER.to_owned()),
        tags: Some(limit_tag(seconds)),
    };
    let root = world.root();
    let pool = |world: &World| {
        let view = world.view();
        let is_its = |row: &&std::sync::Arc<model::Instance>| row.capacity_provider.is_some();
        view.instances.iter().find(is_its).unwrap().id
    };
    let pool = pool(&world);
    let host = world.hosts.iter().position(|host| host.id == pool).unwrap();
    let task = world.running().iter().find(|(_, at)| *at == pool).unwrap().0;
    Ecs::tag_resource(world.ecs.as_ref(), &root, tag(3_600)).await.unwrap();
    world.hosts[host].is_up = false;
    world.disconnect_after(host, 0).await;
    world.pass(2 * HEARTBEAT_TIMEOUT_MS).await;
    assert!(!world.is_lost(task), "its provider is more patient than the region");
    // Less patient from now on: it is lost at once.
    Ecs::tag_resource(world.ecs.as_ref(), &root, tag(OWN_MS / 1_000)).await.unwrap();
    world.pass(1).await;
    assert!(world.is_lost(task));
}

#[tokio::test]
async fn a_fenced_task_ends_where_it_is_before_it_is_replaced() {
    let (mut world, host, task) = World::with_pair_of(4, "fenced").await;
    let phase = |world: &World| world.hosts[host].tasks[&task].phase;
    world.disconnect_after(host, 0).await;
    world.pass(HEARTBEAT_TIMEOUT_MS - 1).await;
    assert!(!world.is_lost(task), "too early");
    assert_eq!(phase(&world), Phase::Stopped, "its host has ended it by itself");
    world.pass(1 + REPLACED_MS).await;
    assert!(world.is_lost(task));
    assert_eq!(world.running().len(), 2);
    world.later(1, super::agents::Event::Connect { host });
    world.pass(10_000).await;
    assert_eq!((phase(&world), world.running().len()), (Phase::Stopped, 2));
}

#[tokio::test]
async fn a_fenced_task_is_lost_by_the_longest_limit_that_its_host_may_go_by() {
    for family in ["good", "fenced"] {
        let (mut world, _, _) = World::with_pair_of(3, family).await;
        let view = world.view();
        let pooled = view.instances.iter().find(|row| row.capacity_provider.is_some()).unwrap().id;
        let host = world.hosts.iter().position(|host| host.id == pooled).unwrap();
        let task = world.running().iter().find(|(_, at)| *at == pooled).unwrap().0;
        world.disconnect_after(host, 0).await;
        // The host cannot hear of a shorter limit any more.
        let tag = api::TagResourceRequest {
            resource_arn: Some(PROVIDER.to_owned()),
            tags: Some(limit_tag(10)),
        };
        let root = world.root();
        Ecs::tag_resource(world.ecs.as_ref(), &root, tag).await.unwrap();
        world.pass(HEARTBEAT_TIMEOUT_MS - 1).await;
        assert_eq!(world.is_lost(task), family == "good", "{family}");
        world.pass(1).await;
        assert!(world.is_lost(task), "{family}");
    }
}
