//! A service on Fargate that wants more than its hosts have room for.

use std::collections::BTreeMap;

use ecs_api::{self as api, Ecs as _};
use model::task::Phase;

use super::world::{CLUSTER, World};
use crate::Ecs;

#[tokio::test]
async fn a_service_waits_for_room_on_fargate_and_says_so() {
    let mut world = World::new(1).await;
    world.is_calm = true;
    world.pass(1_000).await;
    let input = api::CreateServiceRequest {
        cluster: Some(CLUSTER.to_owned()),
        service_name: Some("roomy".to_owned()),
        task_definition: Some("netgood".to_owned()),
        desired_count: Some(10),
        launch_type: Some(api::LaunchType::Fargate),
        network_configuration: Some(world.network()),
        ..api::CreateServiceRequest::default()
    };
    let root = world.root();
    Ecs::create_service(world.ecs.as_ref(), &root, input).await.unwrap();
    world.pass(60_000).await;
    // Of 2 vCPU, eight quarters.
    let shown = world.describe("roomy").await;
    assert_eq!((shown.running_count, shown.pending_count), (Some(8), Some(0)));
    let events = shown.events.unwrap();
    let said = events.iter().filter_map(|event| event.message.as_deref());
    let of_room = said.filter(|it| {
        it.contains("was unable to place a task. Reason: Capacity is unavailable at this time.")
    });
    assert_eq!(of_room.count(), 1, "{events:?}");
    let by_zone = |world: &World| {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let view = world.ecs.control.view();
        for task in view.tasks.iter().filter(|task| task.phase == Phase::Running) {
            let host = view.instance_of_any(task.instance.unwrap()).unwrap();
            assert_eq!(task.zone.as_deref(), host.zone(), "a task is where its host is");
            *counts.entry(task.zone.as_deref().unwrap().to_owned()).or_default() += 1;
        }
        counts.into_values().collect::<Vec<_>>()
    };
    assert_eq!(by_zone(&world), [8]);
    // The next host is in another zone, over which tasks are evened out then.
    world.new_host(true).await;
    world.pass(300_000).await;
    let shown = world.describe("roomy").await;
    assert_eq!((shown.running_count, shown.pending_count), (Some(10), Some(0)));
    assert_eq!(by_zone(&world), [5, 5]);
}
