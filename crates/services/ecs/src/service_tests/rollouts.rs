use ecs_api as api;
use longshore_types::{DeploymentId, Uuid};
use model::service::{
    CompletedDeployment, Rank, Rollback, RollbackCause, ServiceEvent, ServiceEventKind, Stage,
};
use model::{Deployment, ServiceEvents};

use super::world::{INVALID, World, refused, text};
use crate::{describe_service_revisions, service_deployments};

async fn list(
    world: &World,
    change: impl FnOnce(&mut api::ListServiceDeploymentsRequest),
) -> api::ListServiceDeploymentsResponse {
    let mut input =
        api::ListServiceDeploymentsRequest { service: text("web"), ..Default::default() };
    change(&mut input);
    service_deployments::handle_list(world.ecs(), &world.test.root(), input).await.unwrap()
}

async fn describe(world: &World, arn: &str) -> api::DescribeServiceDeploymentsResponse {
    let input = api::DescribeServiceDeploymentsRequest {
        service_deployment_arns: Some(vec![arn.to_owned()]),
    };
    service_deployments::handle_describe(world.ecs(), &world.test.root(), input).await.unwrap()
}

async fn stop(
    world: &World,
    arn: &str,
    stop_type: Option<api::StopServiceDeploymentStopType>,
) -> Result<(), aws_wire::ApiError> {
    let input = api::StopServiceDeploymentRequest { service_deployment_arn: text(arn), stop_type };
    let root = world.test.root();
    let stopped = service_deployments::handle_stop(world.ecs(), &root, input).await?;
    assert_eq!(stopped.service_deployment_arn, text(arn));
    Ok(())
}

/// The events row, as the reconciler would have left it after a first deployment.
async fn complete(world: &World, deployment: &Deployment) {
    let view = world.ecs().control.view();
    let row = view.service_events.get(world.test.root().account, &world.id()).unwrap();
    let mut row = ServiceEvents::clone(row);
    row.notes.completed =
        Some(CompletedDeployment { deployment: deployment.id, revision: deployment.revision });
    let now = world.row().created_at;
    for (n, what) in [
        (1, ServiceEventKind::DeploymentCompleted { deployment: deployment.id }),
        (2, ServiceEventKind::SteadyState { task_set: None }),
    ] {
        row.add(ServiceEvent { id: Uuid::from_random([n; 16]), at: now, what });
    }
    let mut done = deployment.clone();
    done.stage = Stage::Completed;
    done.finished_at = Some(now);
    world.put([row.into(), done.into()]).await;
}

#[tokio::test]
async fn records_are_listed_newest_first_and_by_filter() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    let first_at = world.row().created_at;
    for _ in 0..3 {
        world.test.env.advance_ms(1_000);
        world.update(|input| input.force_new_deployment = Some(true)).await.unwrap();
    }
    let all = list(&world, |_| ()).await.service_deployments.unwrap();
    assert_eq!(all.len(), 4);
    assert!(all.windows(2).all(|pair| pair[1].created_at < pair[0].created_at));
    let first = list(&world, |input| input.max_results = Some(3)).await;
    let rest = list(&world, |input| input.next_token = first.next_token).await;
    assert_eq!(rest.service_deployments.unwrap(), all[3..]);
    let created = api::CreatedAt { before: None, after: Some(first_at) };
    let later = list(&world, |input| input.created_at = Some(created)).await;
    assert_eq!(later.service_deployments.unwrap().len(), 3);
    let done = Some(vec![api::ServiceDeploymentStatus::Successful]);
    let done = list(&world, |input| input.status = done).await;
    assert_eq!(done.service_deployments, Some(vec![]));
    let input = api::ListServiceDeploymentsRequest { service: text("x"), ..Default::default() };
    let missing = service_deployments::handle_list(world.ecs(), &world.test.root(), input).await;
    refused(missing, "ServiceNotFoundException", "Service not found.");
}

#[tokio::test]
async fn a_record_tells_from_what_to_what_and_how_far() {
    let world = World::new().await;
    let breaker = api::DeploymentCircuitBreaker {
        enable: Some(true),
        rollback: Some(true),
        ..Default::default()
    };
    let made = world.create(|input| {
        input.desired_count = Some(10);
        input.deployment_configuration = Some(api::DeploymentConfiguration {
            deployment_circuit_breaker: Some(breaker),
            ..Default::default()
        });
    });
    let arn = made.await.unwrap().current_service_deployment.unwrap();
    let record = describe(&world, &arn).await.service_deployments.unwrap().remove(0);
    assert_eq!(record.service_deployment_arn, Some(arn));
    assert_eq!(record.status, Some(api::ServiceDeploymentStatus::Pending));
    assert_eq!(record.source_service_revisions, Some(vec![]));
    let target = record.target_service_revision.unwrap();
    assert_eq!(target.requested_task_count, Some(10));
    let breaker = record.deployment_circuit_breaker.unwrap();
    assert_eq!((breaker.failure_count, breaker.threshold), (Some(0), Some(5)));
    assert_eq!(breaker.status.unwrap().as_str(), "MONITORING");
    let reason = record.status_reason.unwrap();
    assert!(reason.contains("in progress. Waiting for "), "{reason}");

    let input = api::DescribeServiceRevisionsRequest {
        service_revision_arns: Some(vec![target.arn.clone().unwrap()]),
    };
    let root = world.test.root();
    let answer = describe_service_revisions::handle(world.ecs(), &root, input).await;
    let revision = answer.unwrap().service_revisions.unwrap().remove(0);
    assert_eq!(revision.service_revision_arn, target.arn);
    assert_eq!(revision.launch_type, Some(api::LaunchType::Ec2));
    let images = revision.container_images.unwrap();
    assert_eq!(images[0].image, text("127.0.0.1:4566/hello:1"));
    assert_eq!(revision.guard_duty_enabled, Some(false));
}

#[tokio::test]
async fn what_is_not_there_is_a_failure_or_not_found() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    let prefix = "arn:aws:ecs:us-east-1:000000000000:service-deployment/default";
    let missing = format!("{prefix}/web/AAAAAAAAAAAAAAAAAAAAA");
    let answer = describe(&world, &missing).await;
    assert_eq!(answer.failures.unwrap()[0].reason, text("MISSING"));
    let code = "ServiceDeploymentNotFoundException";
    refused(stop(&world, &missing, None).await, code, "Service deployment not found.");
    let bad = stop(&world, "nonsense", None).await;
    refused(bad, INVALID, "Invalid identifier: nonsense");
    let unknown = stop(&world, &missing, Some("PAUSE".into())).await;
    refused(unknown, INVALID, "PAUSE should be one of [ABORT,ROLLBACK]");
    let input = api::DescribeServiceRevisionsRequest {
        service_revision_arns: Some(vec![
            "arn:aws:ecs:us-east-1:000000000000:service-revision/default/web/1".to_owned(),
        ]),
    };
    let root = world.test.root();
    let answer = describe_service_revisions::handle(world.ecs(), &root, input).await;
    assert_eq!(answer.unwrap().failures.unwrap()[0].reason, text("MISSING"));
    let many =
        api::DescribeServiceDeploymentsRequest { service_deployment_arns: Some(vec![missing; 21]) };
    let many = service_deployments::handle_describe(world.ecs(), &world.test.root(), many).await;
    assert_eq!(many.unwrap_err().code, INVALID);
}

#[tokio::test]
async fn a_deployment_is_stopped_once_and_only_while_it_is_under_way() {
    let world = World::new().await;
    let arn = world.create(|_| ()).await.unwrap().current_service_deployment.unwrap();
    let message = "The service deployment cannot be rolled back because the service has no \
                   completed deployment to go back to.";
    refused(stop(&world, &arn, None).await, "ConflictException", message);
    let first = world.deployments().remove(0);
    complete(&world, &first).await;
    let message = "The service deployment cannot be stopped because it is in the SUCCESSFUL state.";
    refused(stop(&world, &arn, None).await, "ConflictException", message);

    world.test.env.advance_ms(1_000);
    let updated = world.update(|input| input.force_new_deployment = Some(true)).await.unwrap();
    let arn = updated.current_service_deployment.unwrap();
    stop(&world, &arn, None).await.unwrap();
    let stage = || world.deployments()[1].stage;
    assert_eq!(stage(), Stage::RollbackRequested);
    stop(&world, &arn, Some(api::StopServiceDeploymentStopType::Abort)).await.unwrap();
    assert_eq!(stage(), Stage::RollbackRequested, "it goes on as it was");

    world.test.env.advance_ms(1_000);
    let updated = world.update(|input| input.force_new_deployment = Some(true)).await.unwrap();
    let arn = updated.current_service_deployment.unwrap();
    stop(&world, &arn, Some(api::StopServiceDeploymentStopType::Abort)).await.unwrap();
    assert_eq!(world.deployments()[2].stage, Stage::StopRequested);
}

#[tokio::test]
async fn a_rollback_is_told_in_the_record_of_what_it_undoes() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    let first = world.deployments().remove(0);
    complete(&world, &first).await;
    world.test.env.advance_ms(1_000);
    let updated = world.update(|input| input.task_definition = text("bridge:2")).await.unwrap();
    let arn = updated.current_service_deployment.unwrap();
    let now = world.row().created_at.plus_ms(2_000);
    let mut bad = world.deployments().remove(1);
    let undoing = Deployment {
        id: DeploymentId(7),
        record: None,
        undoes: Some(bad.id),
        revision: first.revision,
        created_at: now,
        stage: Stage::InProgress,
        ..bad.clone()
    };
    bad.rank = Rank::Active;
    bad.stage = Stage::RollingBack;
    bad.rollback = Some(Rollback {
        cause: RollbackCause::Breaker,
        started_at: now,
        revision: first.revision,
        by: undoing.id,
        reason: None,
    });
    let mut service = world.row();
    service.revision = Some(first.revision);
    world.put([bad.into(), undoing.into(), service.into()]).await;

    assert_eq!(world.web().await.current_service_deployment, Some(arn.clone()));
    let record = describe(&world, &arn).await.service_deployments.unwrap().remove(0);
    let rollback = record.rollback.unwrap();
    assert!(rollback.reason.unwrap().contains("circuit breaker"));
    assert!(rollback.service_revision_arn.unwrap().ends_with(&first.revision.to_string()));
    let listed = list(&world, |_| ()).await.service_deployments.unwrap();
    assert_eq!(listed.len(), 2, "a rollback has no record of its own");
}

#[tokio::test]
async fn events_are_shown_newest_first() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    let first = world.deployments().remove(0);
    complete(&world, &first).await;
    let events = world.web().await.events.unwrap();
    let messages: Vec<_> = events.into_iter().map(|event| event.message.unwrap()).collect();
    assert_eq!(messages[0], "(service web) has reached a steady state.");
    let done = format!("(service web) (deployment {}) deployment completed.", first.id);
    assert_eq!(messages[1], done);
    let deployment = &world.web().await.deployments.unwrap()[0];
    assert_eq!(
        deployment.rollout_state_reason,
        Some(format!("ECS deployment {} completed.", first.id))
    );
}

#[tokio::test]
async fn old_records_are_swept_with_the_revisions_that_only_they_name() {
    let world = World::new().await;
    world.create(|_| ()).await.unwrap();
    for _ in 0..2 {
        world.test.env.advance_ms(1_000);
        world.update(|input| input.force_new_deployment = Some(true)).await.unwrap();
    }
    let rows = world.deployments();
    let gone = rows[..2].iter().map(|row| Deployment {
        rank: Rank::Gone,
        stage: Stage::Completed,
        finished_at: Some(row.created_at),
        ..row.clone()
    });
    let last = Deployment { sources: vec![], ..rows[2].clone() };
    world.put(gone.chain([last]).map(model::Row::from).collect::<Vec<_>>()).await;
    world.ecs().sweep().await.unwrap();
    assert_eq!(world.deployments().len(), 3);
    world.test.env.advance_ms(world.ecs().control.config.retention.past_deployments_ms);
    world.ecs().sweep().await.unwrap();
    assert_eq!(world.deployments().len(), 1);
    let view = world.ecs().control.view();
    assert_eq!(view.service_revisions.len(), 1);
}
