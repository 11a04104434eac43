use ecs_api as api;

use super::world::{INVALID, World, refused, text};
use crate::{delete_cluster, describe_clusters, list_services, list_tasks, tag_resource};

#[tokio::test]
async fn a_service_that_is_scaled_up_goes_only_by_force() {
    let world = World::new().await;
    refused(world.delete(false).await, "ServiceNotFoundException", "Service not found.");
    world.create(|_| ()).await.unwrap();
    let message = "The service cannot be stopped while it is scaled above 0.";
    refused(world.delete(false).await, INVALID, message);
    let gone = world.delete(true).await.unwrap();
    assert_eq!((gone.status, gone.desired_count), (text("DRAINING"), Some(0)));
    assert_eq!(world.delete(true).await.unwrap().status, text("DRAINING"), "asked for twice");
    let listed = api::ListServicesRequest::default();
    let listed = list_services::handle(world.ecs(), &world.test.root(), listed).await.unwrap();
    assert_eq!(listed.service_arns, Some(vec![]));
    assert_eq!(world.web().await.status, text("DRAINING"));
}

#[tokio::test]
async fn a_service_that_is_scaled_to_zero_goes_without() {
    let world = World::new().await;
    world.create(|input| input.desired_count = Some(0)).await.unwrap();
    world.delete(false).await.unwrap();
}

#[tokio::test]
async fn a_name_is_free_again_once_its_service_is_inactive() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    world.delete(true).await.unwrap();
    let message = "Unable to Start a service that is still Draining.";
    refused(world.create(|_| ()).await, INVALID, message);
    world.make_inactive().await;
    refused(world.delete(true).await, "ServiceNotFoundException", "Service not found.");
    let shown = world.web().await;
    assert_eq!((shown.status, shown.deployments), (text("INACTIVE"), Some(vec![])));
    let first = world.deployments();
    world.create(|_| ()).await.unwrap();
    assert_eq!(world.web().await.status, text("ACTIVE"));
    let second = world.deployments();
    assert_eq!(second.len(), 1, "the new service has no history");
    assert_ne!(first[0].id, second[0].id);
}

#[tokio::test]
async fn an_inactive_service_is_described_for_a_while_and_then_swept() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    world.delete(true).await.unwrap();
    world.make_inactive().await;
    world.ecs().sweep().await.unwrap();
    assert_eq!(world.web().await.status, text("INACTIVE"));
    world.test.env.advance_ms(world.ecs().control.config.retention.inactive_services_ms);
    let answer = world.describe(&["web"]).await;
    assert_eq!(answer.services, Some(vec![]));
    assert_eq!(answer.failures.unwrap()[0].reason, text("MISSING"));
    world.ecs().sweep().await.unwrap();
    let view = world.ecs().control.view();
    assert!(view.services.is_empty() && view.deployments.is_empty());
    assert!(view.service_revisions.is_empty() && view.service_events.is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_a_failure() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    let other = "arn:aws:ecs:us-east-1:000000000000:service/default/nope";
    let answer = world.describe(&["web", "nope", other]).await;
    assert_eq!(answer.services.unwrap().len(), 1);
    let failures = answer.failures.unwrap();
    assert_eq!(failures[0].arn, text("arn:aws:ecs:us-east-1:000000000000:service/nope"));
    assert_eq!(
        (failures[1].arn.clone(), failures[1].reason.clone()),
        (text(other), text("MISSING"))
    );
    let describe = async |services: Vec<String>| {
        let input = api::DescribeServicesRequest { services: Some(services), ..Default::default() };
        crate::describe_services::handle(world.ecs(), &world.test.root(), input).await
    };
    refused(describe(vec![]).await, INVALID, "Services cannot be empty.");
    let many = describe(vec!["web".to_owned(); 11]).await;
    refused(many, INVALID, "Services can have at most 10 items.");
}

#[tokio::test]
async fn a_cluster_with_services_stays_and_counts_them() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    let fargate = world.on_fargate();
    let other = world.create(|input| {
        fargate(input);
        input.service_name = text("other");
    });
    other.await.unwrap();
    let delete = async || {
        let input = api::DeleteClusterRequest { cluster: text("default") };
        delete_cluster::handle(world.ecs(), &world.test.root(), input).await
    };
    let message = "The Cluster cannot be deleted while Services are active.";
    refused(delete().await, "ClusterContainsServicesException", message);
    let describe = || {
        let input = api::DescribeClustersRequest {
            include: Some(vec![api::ClusterField::Statistics]),
            ..Default::default()
        };
        let answer = describe_clusters::handle(world.ecs(), &world.test.root(), input);
        answer.unwrap().clusters.unwrap().remove(0)
    };
    let statistic = |cluster: &api::Cluster, name: &str| {
        let mut pairs = cluster.statistics.iter().flatten();
        pairs.find(|pair| pair.name.as_deref() == Some(name)).and_then(|pair| pair.value.clone())
    };
    let cluster = describe();
    assert_eq!(cluster.active_services_count, Some(2));
    assert_eq!(statistic(&cluster, "activeEC2ServiceCount"), text("1"));
    assert_eq!(statistic(&cluster, "activeFargateServiceCount"), text("1"));
    world.delete(true).await.unwrap();
    let cluster = describe();
    assert_eq!(cluster.active_services_count, Some(1));
    assert_eq!(statistic(&cluster, "drainingEC2ServiceCount"), text("1"));
    refused(delete().await, "ClusterContainsServicesException", message);
}

#[tokio::test]
async fn a_service_is_tagged_by_its_long_arn() {
    let world = World::new().await;
    let arn = world.create(|_| ()).await.unwrap().service_arn.unwrap();
    let tag = async |arn: &str| {
        let tag = api::Tag { key: text("k"), value: text("v") };
        let input = api::TagResourceRequest { resource_arn: text(arn), tags: Some(vec![tag]) };
        tag_resource::handle_tag(world.ecs(), &world.test.root(), input).await
    };
    tag(&arn).await.unwrap();
    assert_eq!(world.web().await.tags.unwrap().len(), 1);
    let input = api::ListTagsForResourceRequest { resource_arn: Some(arn.clone()) };
    let listed = tag_resource::handle_list(world.ecs(), &world.test.root(), input).unwrap();
    assert_eq!(listed.tags.unwrap()[0].value, text("v"));
    let input =
        api::UntagResourceRequest { resource_arn: Some(arn), tag_keys: Some(vec!["k".to_owned()]) };
    tag_resource::handle_untag(world.ecs(), &world.test.root(), input).await.unwrap();
    assert_eq!(world.web().await.tags, Some(vec![]));
    let short = tag("arn:aws:ecs:us-east-1:000000000000:service/web").await;
    refused(short, INVALID, "Long arn format must be used for tagging operations");
    for missing in ["service/default/x", "task-set/default/web/ecs-svc/1", "capacity-provider/x"] {
        let missing = tag(&format!("arn:aws:ecs:us-east-1:000000000000:{missing}")).await;
        assert_eq!(missing.unwrap_err().code, "ResourceNotFoundException");
    }
}

#[tokio::test]
async fn tasks_are_listed_by_their_service() {
    let world = World::new().await;
    world.create(world.on_fargate()).await.unwrap();
    world.run_tasks(2, model::task::Phase::Pending).await;
    let list = |service: &str| {
        let input = api::ListTasksRequest { service_name: text(service), ..Default::default() };
        list_tasks::handle(world.ecs(), &world.test.root(), input)
    };
    let arn = "arn:aws:ecs:us-east-1:000000000000:service/default/web";
    for given in ["web", arn] {
        assert_eq!(list(given).unwrap().task_arns.unwrap().len(), 2);
    }
    refused(list("nope"), "ServiceNotFoundException", "Service not found.");
    let counts = world.web().await;
    assert_eq!((counts.pending_count, counts.running_count), (Some(2), Some(0)));
}
