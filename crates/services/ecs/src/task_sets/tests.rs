use model::NetworkMode;

use super::*;
use crate::task_tests::world::{Definition, FARGATE, World};
use crate::{create_service, describe_services};

/// A region with a service `web` of five tasks that is driven from outside.
async fn world() -> World {
    let world = World::new().await;
    create(&world, "web", api::DeploymentControllerType::External).await;
    world
}

async fn create(world: &World, name: &str, controller: api::DeploymentControllerType) {
    let is_external = controller == api::DeploymentControllerType::External;
    let input = api::CreateServiceRequest {
        service_name: Some(name.to_owned()),
        desired_count: Some(5),
        task_definition: (!is_external).then(|| "bridge".to_owned()),
        deployment_controller: Some(api::DeploymentController { r#type: Some(controller) }),
        ..Default::default()
    };
    create_service::handle(world.ecs(), &world.root(), input).await.unwrap();
}

fn request() -> api::CreateTaskSetRequest {
    api::CreateTaskSetRequest {
        cluster: Some("default".to_owned()),
        service: Some("web".to_owned()),
        task_definition: Some("bridge".to_owned()),
        launch_type: Some(api::LaunchType::Ec2),
        ..Default::default()
    }
}

fn percent(value: f64) -> Option<api::Scale> {
    Some(api::Scale { value: Some(value), unit: Some(api::ScaleUnit::Percent) })
}

async fn make(
    world: &World,
    change: impl FnOnce(&mut api::CreateTaskSetRequest),
) -> Result<api::TaskSet, ApiError> {
    let mut input = request();
    change(&mut input);
    Ok(handle_create(world.ecs(), &world.root(), input).await?.task_set.unwrap())
}

async fn scale(world: &World, set: &str, value: f64) -> Result<api::TaskSet, ApiError> {
    let input = api::UpdateTaskSetRequest {
        cluster: Some("default".to_owned()),
        service: Some("web".to_owned()),
        task_set: Some(set.to_owned()),
        scale: percent(value),
    };
    Ok(handle_update(world.ecs(), &world.root(), input).await?.task_set.unwrap())
}

async fn delete(world: &World, set: &str, force: bool) -> Result<api::TaskSet, ApiError> {
    let input = api::DeleteTaskSetRequest {
        cluster: Some("default".to_owned()),
        service: Some("web".to_owned()),
        task_set: Some(set.to_owned()),
        force: Some(force),
    };
    Ok(handle_delete(world.ecs(), &world.root(), input).await?.task_set.unwrap())
}

async fn promote(world: &World, set: &str) -> Result<api::TaskSet, ApiError> {
    let input = api::UpdateServicePrimaryTaskSetRequest {
        cluster: Some("default".to_owned()),
        service: Some("web".to_owned()),
        primary_task_set: Some(set.to_owned()),
    };
    Ok(handle_update_primary(world.ecs(), &world.root(), input).await?.task_set.unwrap())
}

async fn describe(
    world: &World,
    named: Vec<String>,
    with_tags: bool,
) -> api::DescribeTaskSetsResponse {
    let input = api::DescribeTaskSetsRequest {
        cluster: Some("default".to_owned()),
        service: Some("web".to_owned()),
        task_sets: Some(named),
        include: with_tags.then(|| vec![api::TaskSetField::Tags]),
    };
    handle_describe(world.ecs(), &world.root(), input).await.unwrap()
}

#[tokio::test]
async fn a_new_task_set_is_shown_as_amazon_shows_one() {
    let world = world().await;
    let set = make(&world, |input| input.external_id = Some("release-1".to_owned())).await.unwrap();
    let id = set.id.clone().unwrap();
    assert!(id.starts_with("ecs-svc/"), "{id}");
    let arn = format!("arn:aws:ecs:us-east-1:000000000000:task-set/default/web/{id}");
    assert_eq!(set.task_set_arn, Some(arn));
    assert_eq!(set.status.as_deref(), Some("ACTIVE"));
    assert_eq!(set.external_id.as_deref(), Some("release-1"));
    assert_eq!(set.scale, percent(0.0));
    assert_eq!(set.computed_desired_count, Some(0));
    assert_eq!((set.running_count, set.pending_count), (Some(0), Some(0)));
    assert_eq!(set.stability_status, Some(api::StabilityStatus::Stabilizing));
    assert_eq!(set.launch_type, Some(api::LaunchType::Ec2));
    assert_eq!((set.load_balancers, set.service_registries), (Some(vec![]), Some(vec![])));
    assert_eq!(set.tags, Some(vec![]));
}

#[tokio::test]
async fn a_scale_is_a_part_of_what_the_service_desires_rounded_up() {
    let world = world().await;
    let set = make(&world, |input| input.scale = percent(33.33)).await.unwrap();
    assert_eq!(set.computed_desired_count, Some(2));
    assert_eq!(set.scale, percent(33.33));
    let id = set.id.unwrap();
    let set = scale(&world, &id, 100.0).await.unwrap();
    assert_eq!(set.computed_desired_count, Some(5));
    for bad in [-1.0, 100.1, f64::NAN] {
        let error = scale(&world, &id, bad).await.unwrap_err();
        assert_eq!(error.code, "InvalidParameterException");
        assert_eq!(error.message, "scale.value must be between 0 and 100.");
    }
}

#[tokio::test]
async fn only_services_driven_from_outside_have_task_sets() {
    let world = world().await;
    create(&world, "own", api::DeploymentControllerType::Ecs).await;
    let error = make(&world, |input| input.service = Some("own".to_owned())).await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException");
    assert_eq!(
        error.message,
        "Amazon ECS only supports task set management on services configured to use external \
         deployment controllers."
    );
    let error = make(&world, |input| input.service = Some("none".to_owned())).await.unwrap_err();
    assert_eq!(error.code, "ServiceNotFoundException");
    let error = make(&world, |input| input.cluster = Some("none".to_owned())).await.unwrap_err();
    assert_eq!(error.code, "ClusterNotFoundException");
}

#[tokio::test]
async fn a_service_has_five_task_sets_at_most() {
    let world = world().await;
    for _ in 0..5 {
        make(&world, |_| {}).await.unwrap();
    }
    let error = make(&world, |_| {}).await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException");
    assert_eq!(
        error.message,
        "5 deployments exist on the service. Unable to create new TaskSet since this exceeds the \
         maximum limit."
    );
}

#[tokio::test]
async fn the_same_token_makes_one_task_set() {
    let world = world().await;
    let with_token = |input: &mut api::CreateTaskSetRequest| {
        input.client_token = Some("once".to_owned());
    };
    let first = make(&world, with_token).await.unwrap();
    let again = make(&world, with_token).await.unwrap();
    assert_eq!(first.id, again.id);
    let other = make(&world, |input| {
        with_token(input);
        input.scale = percent(1.0);
    });
    let error = other.await.unwrap_err();
    assert!(error.message.starts_with("Arguments on this idempotent request"), "{error}");
    let error = make(&world, |input| input.client_token = Some("x".repeat(37))).await.unwrap_err();
    assert!(error.message.starts_with("clientToken must have at most 36"), "{error}");
}

#[tokio::test]
async fn what_this_region_does_not_have_is_refused_by_name() {
    let world = world().await;
    let balanced = make(&world, |input| input.load_balancers = Some(vec![Default::default()]));
    let error = balanced.await.unwrap_err();
    assert_eq!(error.code, "UnsupportedFeatureException");
    assert!(error.message.starts_with("loadBalancers"), "{error}");
    let found = make(&world, |input| input.service_registries = Some(vec![Default::default()]));
    assert!(found.await.unwrap_err().message.starts_with("serviceRegistries"));
    let none = make(&world, |input| input.task_definition = None).await.unwrap_err();
    assert_eq!(none.message, "TaskDefinition can not be blank.");
    let both = make(&world, |input| {
        input.capacity_provider_strategy = Some(vec![Default::default()]);
    });
    assert_eq!(both.await.unwrap_err().code, "InvalidParameterException");
    let awsvpc = Definition { name: "vpc:1", mode: NetworkMode::Awsvpc, ..FARGATE };
    world.define(&awsvpc).await;
    let bare = make(&world, |input| {
        input.task_definition = Some("vpc".to_owned());
        input.launch_type = Some(api::LaunchType::Fargate);
    });
    assert_eq!(
        bare.await.unwrap_err().message,
        "Network Configuration must be provided when networkMode 'awsvpc' is specified."
    );
}

#[tokio::test]
async fn one_task_set_is_primary() {
    let world = world().await;
    let first = make(&world, |_| {}).await.unwrap().id.unwrap();
    world.test.env.advance_ms(1);
    let second = make(&world, |_| {}).await.unwrap();
    promote(&world, &first).await.unwrap();
    let set = promote(&world, second.task_set_arn.as_deref().unwrap()).await.unwrap();
    assert_eq!(set.status.as_deref(), Some("PRIMARY"));
    let all = describe(&world, vec![], false).await.task_sets.unwrap();
    let shown: Vec<_> =
        all.iter().map(|set| (set.id.clone().unwrap(), set.status.clone().unwrap())).collect();
    let second = second.id.unwrap();
    assert_eq!(shown, [(second, "PRIMARY".to_owned()), (first, "ACTIVE".to_owned())]);
    let error = promote(&world, "ecs-svc/1").await.unwrap_err();
    assert_eq!(error.code, "TaskSetNotFoundException");
}

#[tokio::test]
async fn what_is_scaled_or_primary_is_deleted_by_force_only() {
    let world = world().await;
    let scaled = make(&world, |input| input.scale = percent(20.0)).await.unwrap().id.unwrap();
    let error = delete(&world, &scaled, false).await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException");
    assert!(error.message.contains("scaled above 0"), "{error}");
    scale(&world, &scaled, 0.0).await.unwrap();
    promote(&world, &scaled).await.unwrap();
    let error = delete(&world, &scaled, false).await.unwrap_err();
    assert!(error.message.contains("primary"), "{error}");
    let set = delete(&world, &scaled, true).await.unwrap();
    assert_eq!(set.status.as_deref(), Some("DRAINING"));
    assert_eq!(set.computed_desired_count, Some(0));
}

#[tokio::test]
async fn task_sets_are_described_with_tags_if_asked_and_the_unknown_are_missing() {
    let world = world().await;
    let tag = api::Tag { key: Some("stage".to_owned()), value: Some("prod".to_owned()) };
    let set = make(&world, |input| input.tags = Some(vec![tag])).await.unwrap().id.unwrap();
    let answer = describe(&world, vec![set.clone(), "ecs-svc/7".to_owned()], true).await;
    assert_eq!(answer.task_sets.unwrap()[0].tags.as_ref().unwrap().len(), 1);
    let failure = answer.failures.unwrap().remove(0);
    assert_eq!(failure.reason.as_deref(), Some("MISSING"));
    let arn = "arn:aws:ecs:us-east-1:000000000000:task-set/default/web/ecs-svc/7";
    assert_eq!(failure.arn.as_deref(), Some(arn));
    let answer = describe(&world, vec![set.clone()], false).await;
    assert_eq!(answer.task_sets.unwrap()[0].tags, Some(vec![]));

    let input = api::DescribeServicesRequest {
        services: Some(vec!["web".to_owned()]),
        ..Default::default()
    };
    let answer = describe_services::handle(world.ecs(), &world.root(), input).await.unwrap();
    let service = answer.services.unwrap().remove(0);
    assert_eq!(service.task_sets.unwrap()[0].id, Some(set));
}
