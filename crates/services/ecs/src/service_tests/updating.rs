use ecs_api as api;
use longshore_types::Digest;
use model::service::{Rank, Stage};
use model::task::Phase;
use model::{EcrTag, TaskDefinitionStatus};

use super::world::{INVALID, World, refused, text};
use crate::{deregister_task_definition, service_spec};

#[tokio::test]
async fn counts_percentages_and_flags_make_no_deployment() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    let updated = world.update(|input| {
        input.desired_count = Some(7);
        input.health_check_grace_period_seconds = Some(30);
        input.enable_execute_command = Some(true);
        input.enable_ecs_managed_tags = Some(true);
        input.propagate_tags = Some(api::PropagateTags::Service);
        input.availability_zone_rebalancing = Some(api::AvailabilityZoneRebalancing::Disabled);
        input.deployment_configuration =
            Some(api::DeploymentConfiguration { maximum_percent: Some(150), ..Default::default() });
    });
    let updated = updated.await.unwrap();
    assert_eq!(updated.deployments.as_ref().unwrap().len(), 1);
    assert_eq!(updated.deployments.unwrap()[0].desired_count, Some(7));
    assert_eq!(updated.health_check_grace_period_seconds, Some(30));
    assert_eq!(updated.enable_execute_command, Some(true));
    assert_eq!(updated.enable_ecs_managed_tags, Some(true));
    assert_eq!(updated.propagate_tags, Some(api::PropagateTags::Service));
    let off = api::AvailabilityZoneRebalancing::Disabled;
    assert_eq!(updated.availability_zone_rebalancing, Some(off));
    assert_eq!(world.row().version, 2);
    let settings = updated.deployment_configuration.unwrap();
    assert_eq!(
        (settings.minimum_healthy_percent, settings.maximum_percent),
        (Some(100), Some(150))
    );
}

#[tokio::test]
async fn nothing_new_writes_nothing() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    let seq = world.ecs().control.view().seq;
    let updated = world.update(|input| {
        input.desired_count = Some(2);
        input.task_definition = text("bridge:1");
    });
    assert_eq!(updated.await.unwrap().deployments.unwrap().len(), 1);
    assert_eq!(world.ecs().control.view().seq, seq);
}

#[tokio::test]
async fn another_task_definition_begins_a_deployment_and_the_one_before_steps_back() {
    let world = World::new().await;
    world.create(world.on_fargate()).await.unwrap();
    world.run_tasks(2, Phase::Running).await;
    world.test.env.advance_ms(1_000);
    let updated = world.update(|input| input.task_definition = text("web")).await.unwrap();
    let shown = updated.deployments.unwrap();
    assert_eq!(
        (shown[0].status.clone(), shown[1].status.clone()),
        (text("PRIMARY"), text("ACTIVE"))
    );
    assert!(shown[0].task_definition.as_ref().unwrap().ends_with("web:2"), "the latest revision");
    assert_eq!((shown[0].desired_count, shown[0].running_count), (Some(0), Some(0)));
    assert_eq!(shown[1].running_count, Some(2));
    assert_eq!((updated.running_count, updated.desired_count), (Some(2), Some(2)));
    assert_eq!(updated.current_service_revisions.unwrap().len(), 2);

    let [before, after] = &world.deployments()[..] else { panic!("two deployments") };
    assert_eq!((before.rank, after.rank), (Rank::Active, Rank::Primary));
    assert_eq!(after.stage, Stage::Pending);
    assert_eq!(world.row().revision, Some(after.revision));
    let [source] = &after.sources[..] else { panic!("one source") };
    assert_eq!((source.revision, source.running), (before.revision, 2));
}

#[tokio::test]
async fn a_forced_deployment_looks_images_up_again() {
    let world = World::new().await;
    let push = async |byte: u8| {
        let tag = EcrTag {
            account: world.test.root().account,
            repository: "hello".parse().unwrap(),
            tag: "1".parse().unwrap(),
            digest: Digest::Sha256([byte; 32]),
            tagged_at: longshore_types::Timestamp(0),
            checked_at: None,
        };
        world.put([tag.into()]).await;
    };
    push(1).await;
    world.create(|_| ()).await.unwrap();
    let first = world.revision();
    let digest = |byte: u8| Some(Digest::Sha256([byte; 32]).to_string());
    assert_eq!(first.images[0].digest, digest(1));
    push(2).await;
    world.update(|input| input.desired_count = Some(3)).await.unwrap();
    assert_eq!(world.revision(), first, "a service stays with what it began with");
    world.update(|input| input.force_new_deployment = Some(true)).await.unwrap();
    let second = world.revision();
    assert_eq!((second.images[0].digest.clone(), second.definition), (digest(2), first.definition));
}

#[tokio::test]
async fn what_is_not_known_yet_is_learnt_from_the_first_task() {
    let world = World::new().await;
    world.create(world.on_fargate()).await.unwrap();
    let revision = world.revision();
    assert_eq!(revision.images[0].digest, None);
    let mut task = world.run_tasks(1, Phase::Running).await.remove(0);
    let asked = std::sync::Arc::make_mut(&mut task.containers[0].asked);
    asked.name = "app".parse().unwrap();
    let container = |consistency| api::ContainerDefinition {
        name: text("app"),
        version_consistency: consistency,
        ..Default::default()
    };
    let definition = |consistency| api::TaskDefinition {
        container_definitions: Some(vec![container(consistency)]),
        ..Default::default()
    };
    let fill = |task: &model::Task, consistency| {
        service_spec::with_seen_digests(&revision, &definition(consistency), task)
    };
    assert_eq!(fill(&task, None), None, "it has not said yet");
    task.containers[0].seen.image_digest = text("sha256:aa");
    let filled = fill(&task, None).unwrap();
    assert_eq!(filled.digest_of("app"), Some("sha256:aa"));
    assert_eq!(fill(&task, Some(api::VersionConsistency::Disabled)), None);
    task.containers[0].seen.image_digest = text("sha256:bb");
    let again = service_spec::with_seen_digests(&filled, &definition(None), &task);
    assert_eq!(again, None, "the first one counts");
}

#[tokio::test]
async fn a_deregistered_definition_serves_on_but_begins_nothing() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    let input = api::DeregisterTaskDefinitionRequest { task_definition: text("bridge:1") };
    deregister_task_definition::handle(world.ecs(), &world.test.root(), input).await.unwrap();
    assert_eq!(
        world.update(|input| input.desired_count = Some(9)).await.unwrap().desired_count,
        Some(9)
    );
    let forced = world.update(|input| input.force_new_deployment = Some(true)).await;
    refused(forced, "ClientException", "TaskDefinition is inactive");
    let named = world.update(|input| input.task_definition = text("bridge:1")).await;
    refused(named, "ClientException", "TaskDefinition is inactive");
    let other = world.create(|input| input.service_name = text("other")).await;
    refused(other, "ClientException", "TaskDefinition is inactive");
}

#[tokio::test]
async fn a_definition_that_is_deleted_stays_until_no_service_has_it() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    let view = world.ecs().control.view();
    let account = world.test.root().account;
    let id = "bridge:1".parse().unwrap();
    let mut row = model::TaskDefinition::clone(view.task_definitions.get(account, &id).unwrap());
    row.status = TaskDefinitionStatus::DeleteInProgress;
    world.put([row.into()]).await;
    world.ecs().sweep().await.unwrap();
    assert!(world.ecs().control.view().task_definitions.get(account, &id).is_some());
    world.delete(true).await.unwrap();
    world.make_inactive().await;
    world.ecs().sweep().await.unwrap();
    assert!(world.ecs().control.view().task_definitions.get(account, &id).is_none());
}

#[tokio::test]
async fn capacity_moves_between_launch_type_and_providers() {
    let world = World::new().await;
    world.with_providers().await;
    world.create(world.on_fargate()).await.unwrap();
    let item = api::CapacityProviderStrategyItem {
        capacity_provider: text("FARGATE_SPOT"),
        weight: Some(1),
        base: None,
    };
    let spot = world.update(|input| input.capacity_provider_strategy = Some(vec![item])).await;
    let spot = spot.unwrap();
    assert_eq!((spot.launch_type, spot.deployments.unwrap().len()), (None, 2));
    let back = world.update(|input| input.capacity_provider_strategy = Some(vec![])).await.unwrap();
    assert_eq!(back.launch_type, Some(api::LaunchType::Fargate));
    let nowhere = api::CapacityProviderStrategyItem {
        capacity_provider: text("mine"),
        weight: Some(1),
        base: None,
    };
    let error = world.update(|input| input.capacity_provider_strategy = Some(vec![nowhere])).await;
    assert!(error.unwrap_err().message.contains("not associated with the cluster"));
}

#[tokio::test]
async fn services_that_are_not_active_or_not_there_are_not_updated() {
    let world = World::new().await;
    let missing = world.update(|_| ()).await;
    refused(missing, "ServiceNotFoundException", "Service not found.");
    let elsewhere = world.update(|input| input.cluster = text("nope")).await;
    refused(elsewhere, "ClusterNotFoundException", "Cluster not found.");
    world.create(|_| ()).await.unwrap();
    let blank = world.update(|input| input.service = text("")).await;
    refused(blank, INVALID, "Service can not be blank.");
    world.delete(true).await.unwrap();
    let message = "Service was not ACTIVE.";
    refused(world.update(|_| ()).await, "ServiceNotActiveException", message);
    world.make_inactive().await;
    refused(world.update(|_| ()).await, "ServiceNotActiveException", message);
}

#[tokio::test]
async fn a_service_is_named_by_name_or_by_either_arn() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    let prefix = "arn:aws:ecs:us-east-1:000000000000:service";
    for given in [format!("{prefix}/default/web"), format!("{prefix}/web"), "web".to_owned()] {
        world.update(|input| input.service = Some(given.clone())).await.unwrap();
    }
    let other = world.update(|input| input.service = Some(format!("{prefix}/other/web"))).await;
    let message = "Invalid identifier: Identifier is for cluster other. Your cluster is default";
    refused(other, INVALID, message);
}

#[tokio::test]
async fn a_service_keeps_its_controller() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    let change = async |kind: api::DeploymentControllerType| {
        let controller = api::DeploymentController { r#type: Some(kind) };
        world.update(|input| input.deployment_controller = Some(controller)).await
    };
    change(api::DeploymentControllerType::Ecs).await.unwrap();
    let error = change(api::DeploymentControllerType::External).await.unwrap_err();
    assert_eq!(error.code, "UnsupportedFeatureException");
    let balancers =
        world.update(|input| input.load_balancers = Some(vec![Default::default()])).await;
    assert_eq!(balancers.unwrap_err().message, "targetGroupArn can not be blank.");
    world.update(|input| input.load_balancers = Some(vec![])).await.unwrap();
}

#[tokio::test]
async fn commands_are_executed_only_where_there_is_a_task_role() {
    const WHY: &str = " because a valid taskRoleArn is not being used. Specify a valid task role in \
                       your task definition and try again.";
    let world = World::new().await;
    world.define("roleless", None, "256").await;
    let created = world.create(|input| {
        input.task_definition = text("roleless");
        input.enable_execute_command = Some(true);
    });
    refused(created.await, INVALID, &format!("The service couldn't be created{WHY}"));
    world.create(|input| input.task_definition = text("roleless")).await.unwrap();
    let turned_on = world.update(|input| input.enable_execute_command = Some(true)).await;
    refused(turned_on, INVALID, &format!("The service couldn't be updated{WHY}"));
    let both = world.update(|input| {
        input.task_definition = text("bridge:1");
        input.enable_execute_command = Some(true);
    });
    assert_eq!(both.await.unwrap().enable_execute_command, Some(true));
    let back = world.update(|input| input.task_definition = text("roleless")).await;
    refused(back, INVALID, &format!("The service couldn't be updated{WHY}"));
    let off = world.update(|input| {
        input.task_definition = text("roleless");
        input.enable_execute_command = Some(false);
    });
    assert_eq!(off.await.unwrap().enable_execute_command, Some(false));
}

#[tokio::test]
async fn a_new_deployment_is_answered_before_it_desires_tasks() {
    let world = World::new().await;
    let created = world.create(|_| ()).await.unwrap();
    assert_eq!(created.deployments.unwrap()[0].desired_count, Some(2));
    let updated = world.update(|input| input.force_new_deployment = Some(true)).await.unwrap();
    let deployments = updated.deployments.unwrap();
    let first = &deployments[0];
    assert_eq!((first.status.as_deref(), first.desired_count), (Some("PRIMARY"), Some(0)));
    assert_eq!(updated.desired_count, Some(2));
    assert_eq!(world.web().await.deployments.unwrap()[0].desired_count, Some(2));
}
