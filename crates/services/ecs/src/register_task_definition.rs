//! RegisterTaskDefinition: a document becomes the next revision of its family.

use aws_wire::{ApiError, Caller};
use control::access::principal_arn;
use ecs_api as api;
use longshore_types::TaskDefinitionId;
use model::{TaskDefinition, TaskFamily};
use store::Batch;

use super::render_task_definition::{complete, render_tags};
use super::task_definition::Draft;
use crate::Ecs;
use crate::errors::Refusal;
use crate::tags;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    mut input: api::RegisterTaskDefinitionRequest,
) -> Result<api::RegisterTaskDefinitionResponse, ApiError> {
    let tags = tags::read(input.tags.take())?;
    let containers = input.container_definitions.iter().flatten();
    let is_privileged = containers.filter_map(|each| each.privileged).any(|is_so| is_so);
    let draft = Draft::read(input, ecs.control.endpoint())?;
    let family = draft.family.clone();
    let (row, shape) = draft.into_row(caller.account, tags, principal_arn(caller))?;
    let row = ecs
        .control
        .decide(|view, now| {
            let permission = ecs.registering(view, caller, &row, is_privileged);
            ecs.control.authorize(view, caller, &permission)?;
            let last =
                view.families.get(caller.account, &family).map_or(0, |row| row.last_revision);
            let max = ecs.control.config.limits.revisions_per_family_max;
            if max <= last {
                return Err(Refusal::RevisionLimit { max }.into());
            }
            let revision = last + 1;
            let row = TaskDefinition {
                id: TaskDefinitionId { family: family.clone(), revision },
                registered_at: now,
                ..row.clone()
            };
            let mut batch = Batch::on(view);
            batch.put(TaskFamily {
                account: caller.account,
                family: family.clone(),
                last_revision: revision,
            });
            batch.put(row.clone());
            Ok((batch, row))
        })
        .await?;
    Ok(api::RegisterTaskDefinitionResponse {
        tags: render_tags(&row),
        task_definition: Some(complete(ecs, &row, shape)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEcs;
    use crate::{
        delete_task_definitions, deregister_task_definition, describe_task_definition,
        list_task_definition_families, list_task_definitions,
    };

    async fn register(world: &TestEcs, family: &str) -> api::TaskDefinition {
        let container = api::ContainerDefinition {
            name: Some("app".to_owned()),
            image: Some("nginx".to_owned()),
            memory: Some(128),
            ..Default::default()
        };
        let input = api::RegisterTaskDefinitionRequest {
            family: Some(family.to_owned()),
            container_definitions: Some(vec![container]),
            ..Default::default()
        };
        let answer = handle(&world.ecs, &world.root(), input).await.unwrap();
        answer.task_definition.unwrap()
    }

    fn describe(world: &TestEcs, given: &str) -> Result<api::TaskDefinition, ApiError> {
        let input = api::DescribeTaskDefinitionRequest {
            task_definition: Some(given.to_owned()),
            ..Default::default()
        };
        let answer = describe_task_definition::handle(&world.ecs, &world.root(), input)?;
        Ok(answer.task_definition.unwrap())
    }

    async fn deregister(world: &TestEcs, given: &str) -> Result<api::TaskDefinition, ApiError> {
        let input =
            api::DeregisterTaskDefinitionRequest { task_definition: Some(given.to_owned()) };
        let answer = deregister_task_definition::handle(&world.ecs, &world.root(), input).await?;
        Ok(answer.task_definition.unwrap())
    }

    async fn delete(world: &TestEcs, given: &[&str]) -> api::DeleteTaskDefinitionsResponse {
        let input = api::DeleteTaskDefinitionsRequest {
            task_definitions: Some(given.iter().map(|&given| given.to_owned()).collect()),
        };
        delete_task_definitions::handle(&world.ecs, &world.root(), input).await.unwrap()
    }

    fn families(world: &TestEcs, status: &str) -> Vec<String> {
        let input = api::ListTaskDefinitionFamiliesRequest {
            status: Some(status.into()),
            ..Default::default()
        };
        list_task_definition_families::handle(&world.ecs, &world.root(), input)
            .unwrap()
            .families
            .unwrap()
    }

    #[tokio::test]
    async fn revisions_count_up_and_are_never_used_again() {
        let world = TestEcs::new();
        assert_eq!(register(&world, "web").await.revision, Some(1));
        let second = register(&world, "web").await;
        assert_eq!(second.revision, Some(2));
        assert_eq!(
            second.task_definition_arn.as_deref(),
            Some("arn:aws:ecs:us-east-1:000000000000:task-definition/web:2")
        );
        deregister(&world, "web:2").await.unwrap();
        delete(&world, &["web:2"]).await;
        assert_eq!(world.ecs.sweep().await.unwrap(), 1);
        assert!(describe(&world, "web:2").is_err());
        assert_eq!(register(&world, "web").await.revision, Some(3));
    }

    #[tokio::test]
    async fn what_is_described_is_what_was_answered() {
        let world = TestEcs::new();
        let registered = register(&world, "web").await;
        assert_eq!(describe(&world, "web").unwrap(), registered);
        assert_eq!(describe(&world, "web:1").unwrap(), registered);
        let arn = registered.task_definition_arn.clone().unwrap();
        assert_eq!(describe(&world, &arn).unwrap(), registered);
        assert_eq!(registered.status, Some(api::TaskDefinitionStatus::Active));
        let error = describe(&world, "nope").unwrap_err();
        assert_eq!(
            (error.code.as_ref(), error.message.as_str()),
            ("ClientException", "Unable to describe task definition.")
        );
    }

    #[tokio::test]
    async fn a_family_means_its_latest_active_revision() {
        let world = TestEcs::new();
        register(&world, "web").await;
        register(&world, "web").await;
        let gone = deregister(&world, "web:2").await.unwrap();
        assert_eq!(gone.status, Some(api::TaskDefinitionStatus::Inactive));
        assert!(gone.deregistered_at.is_some());
        assert_eq!(describe(&world, "web").unwrap().revision, Some(1));
        assert_eq!(describe(&world, "web:2").unwrap().status, gone.status);
        for (given, code, message) in [
            ("web", "ClientException", "Revision is missing."),
            ("web:x", "InvalidParameterException", "Invalid revision number. Number: x"),
            ("web:9", "ClientException", "Unable to describe task definition."),
        ] {
            let error = deregister(&world, given).await.unwrap_err();
            assert_eq!((error.code.as_ref(), error.message.as_str()), (code, message));
        }
    }

    #[tokio::test]
    async fn only_inactive_revisions_are_deleted_and_each_other_says_why_not() {
        let world = TestEcs::new();
        register(&world, "web").await;
        register(&world, "web").await;
        deregister(&world, "web:1").await.unwrap();
        let answer = delete(&world, &["web:1", "web:2", "web", "web:7"]).await;
        let deleted = &answer.task_definitions.unwrap()[0];
        assert_eq!(deleted.status, Some(api::TaskDefinitionStatus::DeleteInProgress));
        let failures = answer.failures.unwrap();
        let reasons: Vec<_> = failures.iter().map(|f| f.reason.as_deref().unwrap()).collect();
        assert!(reasons[0].starts_with("The specified task definition is still in ACTIVE status."));
        assert!(reasons[1].starts_with("The specified task definition identifier is invalid."));
        assert!(reasons[2].starts_with("The specified task definition does not exist."));
        assert_eq!(failures[1].arn.as_deref(), Some("web"));
    }

    #[tokio::test]
    async fn lists_are_by_family_and_number_both_ways() {
        let world = TestEcs::new();
        for _ in 0..11 {
            register(&world, "web").await;
        }
        register(&world, "api").await;
        register(&world, "webx").await;
        let list = |input: api::ListTaskDefinitionsRequest| {
            let answer = list_task_definitions::handle(&world.ecs, &world.root(), input).unwrap();
            let arns = answer.task_definition_arns.unwrap();
            let short: Vec<String> =
                arns.iter().map(|arn| arn.rsplit_once('/').unwrap().1.to_owned()).collect();
            (short, answer.next_token)
        };
        let (all, _) = list(api::ListTaskDefinitionsRequest::default());
        assert_eq!(
            (all[0].as_str(), all[2].as_str(), all[10].as_str()),
            ("api:1", "web:2", "web:10")
        );
        let newest = |next_token| api::ListTaskDefinitionsRequest {
            family_prefix: Some("web".to_owned()),
            sort: Some(api::SortOrder::Desc),
            max_results: Some(2),
            next_token,
            ..Default::default()
        };
        let (page, token) = list(newest(None));
        assert_eq!(page, ["web:11", "web:10"]);
        assert_eq!(list(newest(token)).0, ["web:9", "web:8"]);
    }

    #[tokio::test]
    async fn a_family_is_inactive_when_its_last_active_revision_goes() {
        let world = TestEcs::new();
        register(&world, "web").await;
        register(&world, "api").await;
        deregister(&world, "api:1").await.unwrap();
        assert_eq!(families(&world, "ACTIVE"), ["web"]);
        assert_eq!(families(&world, "INACTIVE"), ["api"]);
        assert_eq!(families(&world, "ALL"), ["api", "web"]);
    }
}
