use longshore_types::{Clock, DeploymentId, ServiceName};
use model::task::TaskService;

use super::*;
use crate::task_tests::world::World;

/// A task, made one of the service `web` if a deployment is named.
async fn task(world: &World, deployment: Option<u64>) -> TaskId {
    let arn = world.run(|_| {}).await.tasks.unwrap().remove(0).task_arn.unwrap();
    let id = arn.parse::<TaskArn>().unwrap().id;
    if let Some(deployment) = deployment {
        change_task(world, id, |task| {
            task.service = Some(TaskService {
                name: "web".parse::<ServiceName>().unwrap(),
                deployment: DeploymentId(deployment),
                is_ready: false,
                is_accounted: false,
                is_registered: false,
                is_connected: false,
            });
        })
        .await;
    }
    id
}

async fn change_task(world: &World, id: TaskId, change: impl Fn(&mut Task) + Send + Sync) {
    let account = world.root().account;
    let decide = |view: &View, _| {
        let mut next = Task::clone(view.tasks.get(account, &id).unwrap());
        change(&mut next);
        let mut batch = Batch::on(view);
        batch.put(next);
        Ok((batch, ()))
    };
    world.ecs().control.decide(decide).await.unwrap();
}

async fn protect(
    world: &World,
    tasks: &[TaskId],
    minutes: Option<i32>,
) -> Result<api::UpdateTaskProtectionResponse, ApiError> {
    update(world, tasks, true, minutes).await
}

async fn update(
    world: &World,
    tasks: &[TaskId],
    is_enabled: bool,
    minutes: Option<i32>,
) -> Result<api::UpdateTaskProtectionResponse, ApiError> {
    let input = api::UpdateTaskProtectionRequest {
        cluster: Some("default".to_owned()),
        tasks: Some(tasks.iter().map(ToString::to_string).collect()),
        protection_enabled: Some(is_enabled),
        expires_in_minutes: minutes,
    };
    handle_update(world.ecs(), &world.root(), input).await
}

async fn get(world: &World, tasks: &[TaskId]) -> api::GetTaskProtectionResponse {
    let input = api::GetTaskProtectionRequest {
        cluster: None,
        tasks: Some(tasks.iter().map(ToString::to_string).collect()),
    };
    handle_get(world.ecs(), &world.root(), input).await.unwrap()
}

fn reasons(failures: Option<Vec<api::Failure>>) -> Vec<String> {
    failures.unwrap().into_iter().map(|failure| failure.reason.unwrap()).collect()
}

#[tokio::test]
async fn a_protection_lasts_two_hours_or_as_long_as_asked_and_ends_by_itself() {
    let world = World::new().await;
    let id = task(&world, Some(1)).await;
    let now = world.test.env.now();
    let answer = protect(&world, &[id], None).await.unwrap();
    let shown = answer.protected_tasks.unwrap().remove(0);
    assert_eq!(shown.protection_enabled, Some(true));
    assert_eq!(shown.expiration_date, Some(now.plus_ms(120 * 60_000)));
    let answer = protect(&world, &[id], Some(1)).await.unwrap();
    assert_eq!(answer.protected_tasks.unwrap()[0].expiration_date, Some(now.plus_ms(60_000)));
    assert_eq!(get(&world, &[id]).await.protected_tasks.unwrap()[0].protection_enabled, Some(true));
    world.test.env.advance_ms(60_000);
    let over = get(&world, &[id]).await.protected_tasks.unwrap().remove(0);
    assert_eq!((over.protection_enabled, over.expiration_date), (Some(false), None));
}

#[tokio::test]
async fn a_protection_can_be_taken_away() {
    let world = World::new().await;
    let id = task(&world, Some(1)).await;
    protect(&world, &[id], Some(2_880)).await.unwrap();
    let answer = update(&world, &[id], false, Some(0)).await.unwrap();
    let shown = answer.protected_tasks.unwrap().remove(0);
    assert_eq!((shown.protection_enabled, shown.expiration_date), (Some(false), None));
}

#[tokio::test]
async fn only_live_tasks_of_services_can_be_protected() {
    let world = World::new().await;
    let (alone, of_service) = (task(&world, None).await, task(&world, Some(1)).await);
    let stopped = task(&world, Some(1)).await;
    world.stop(&stopped.to_string(), "").await;
    let nobody = TaskId::from_bytes([9; 16]);
    let answer = protect(&world, &[alone, of_service, stopped, nobody], None).await.unwrap();
    assert_eq!(answer.protected_tasks.unwrap().len(), 1);
    assert_eq!(reasons(answer.failures), ["TASK_NOT_VALID", "TASK_NOT_VALID", "MISSING"]);
    let answer = get(&world, &[alone, of_service, nobody]).await;
    assert_eq!(answer.protected_tasks.unwrap().len(), 1);
    assert_eq!(reasons(answer.failures), ["TASK_NOT_VALID", "MISSING"]);
}

#[tokio::test]
async fn minutes_and_numbers_of_tasks_have_bounds() {
    let world = World::new().await;
    let id = task(&world, Some(1)).await;
    for minutes in [0, -1, 2_881] {
        let error = protect(&world, &[id], Some(minutes)).await.unwrap_err();
        assert_eq!(error.code, "InvalidParameterException");
        assert_eq!(error.message, "expiresInMinutes must be between 1 and 2880.");
    }
    let error = protect(&world, &[], None).await.unwrap_err();
    assert_eq!(error.message, "Tasks cannot be empty.");
    let error = protect(&world, &[id; 11], None).await.unwrap_err();
    assert_eq!(error.message, "Tasks can have at most 10 items.");
    let input = api::UpdateTaskProtectionRequest {
        cluster: Some("none".to_owned()),
        tasks: Some(vec![id.to_string()]),
        protection_enabled: Some(true),
        expires_in_minutes: None,
    };
    let error = handle_update(world.ecs(), &world.root(), input).await.unwrap_err();
    assert_eq!(error.code, "ClusterNotFoundException");
}

#[tokio::test]
async fn a_deployment_is_blocked_once_all_that_is_left_to_stop_is_protected() {
    let world = World::new().await;
    let (old, other) = (task(&world, Some(1)).await, task(&world, Some(1)).await);
    let new = task(&world, Some(2)).await;
    let now = world.test.env.now();
    let is_blocked = |superseded: &[DeploymentId]| {
        let view = world.ecs().control.view();
        let tasks = view.tasks.of(world.root().account).map(AsRef::as_ref);
        waits_for_protected_only(superseded, tasks, now)
    };
    protect(&world, &[old, new], None).await.unwrap();
    assert!(!is_blocked(&[DeploymentId(1)]), "one of the old tasks can be stopped");
    protect(&world, &[other], None).await.unwrap();
    assert!(is_blocked(&[DeploymentId(1)]));
    assert!(!is_blocked(&[]), "nothing was superseded");
    update(&world, &[old], false, None).await.unwrap();
    assert!(!is_blocked(&[DeploymentId(1)]));
}
