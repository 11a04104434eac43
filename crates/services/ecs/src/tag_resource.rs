//! TagResource, UntagResource and ListTagsForResource, on whatever has tags.

use std::sync::Arc;

use aws_wire::{ApiError, Caller, Principal};
use control::Permission;
use control::access::may_speak_for;
use ecs_api as api;
use longshore_types::{
    AccountId, Arn, CapacityProviderArn, ClusterArn, InstanceArn, Scope, ServiceArn, TaskArn,
    TaskDefinitionArn, TaskSetArn,
};
use model::instance::InstanceStatus;
use model::service::ServiceStatus;
use model::{DeploymentKey, Row, ServiceId, Tags, View};
use store::Batch;

use crate::Ecs;
use crate::errors::Refusal;
use crate::{capacity_provider, tags};

pub(super) async fn handle_tag(
    ecs: &Ecs,
    caller: &Caller,
    input: api::TagResourceRequest,
) -> Result<api::TagResourceResponse, ApiError> {
    let arn = input.resource_arn.unwrap_or_default();
    let more = tags::read(input.tags)?;
    if more.is_empty() {
        return Err(Refusal::invalid("Tags can not be empty.").into());
    }
    let permission = Permission::to("ecs:TagResource").on(arn.as_str()).tagging(&more);
    change(ecs, caller, &permission, &arn, |tags| tags::overlay(tags, &more)).await?;
    Ok(api::TagResourceResponse {})
}

pub(super) async fn handle_untag(
    ecs: &Ecs,
    caller: &Caller,
    input: api::UntagResourceRequest,
) -> Result<api::UntagResourceResponse, ApiError> {
    let arn = input.resource_arn.unwrap_or_default();
    let keys = input.tag_keys.unwrap_or_default();
    if keys.is_empty() {
        return Err(Refusal::invalid("Tag keys can not be empty.").into());
    }
    keys.iter().try_for_each(|key| tags::check_own(key))?;
    let permission = Permission::to("ecs:UntagResource").on(arn.as_str()).about_tags(&keys);
    change(ecs, caller, &permission, &arn, |tags| {
        let mut tags = tags.clone();
        tags.retain(|key, _| !keys.contains(key));
        Ok(tags)
    })
    .await?;
    Ok(api::UntagResourceResponse {})
}

pub(super) fn handle_list(
    ecs: &Ecs,
    caller: &Caller,
    input: api::ListTagsForResourceRequest,
) -> Result<api::ListTagsForResourceResponse, ApiError> {
    let arn = input.resource_arn.unwrap_or_default();
    let permission = Permission::to("ecs:ListTagsForResource").on(arn.as_str());
    let view = ecs.control.read(caller, &permission)?;
    let resource = find(ecs, &view, caller, &arn)?;
    Ok(api::ListTagsForResourceResponse { tags: Some(tags::render(resource.tags())) })
}

async fn change(
    ecs: &Ecs,
    caller: &Caller,
    permission: &Permission,
    arn: &str,
    change: impl Fn(&Tags) -> Result<Tags, ApiError> + Send + Sync,
) -> Result<(), ApiError> {
    ecs.control
        .change(caller, permission, |view, _| {
            let resource = find(ecs, view, caller, arn)?;
            let tags = change(resource.tags())?;
            if let Tagged::Provider(_) = &resource {
                capacity_provider::check_tags(&tags)?;
            }
            let mut batch = Batch::on(view);
            batch.put(resource.with(tags));
            Ok((batch, ()))
        })
        .await
}

/// A row that has tags.
enum Tagged {
    Cluster(Arc<model::Cluster>),
    Definition(Arc<model::TaskDefinition>),
    Instance(Arc<model::Instance>),
    Task(Arc<model::Task>),
    Service(Arc<model::Service>),
    TaskSet(Arc<model::TaskSet>),
    Provider(Arc<model::CapacityProvider>),
}

impl Tagged {
    fn tags(&self) -> &Tags {
        match self {
            Self::Cluster(row) => &row.tags,
            Self::Definition(row) => &row.tags,
            Self::Instance(row) => &row.tags,
            Self::Task(row) => &row.tags,
            Self::Service(row) => &row.tags,
            Self::TaskSet(row) => &row.tags,
            Self::Provider(row) => &row.tags,
        }
    }

    /// The row with other tags.
    fn with(self, tags: Tags) -> Row {
        match self {
            Self::Cluster(mut row) => {
                Arc::make_mut(&mut row).tags = tags;
                row.into()
            }
            Self::Definition(mut row) => {
                Arc::make_mut(&mut row).tags = tags;
                row.into()
            }
            Self::Instance(mut row) => {
                Arc::make_mut(&mut row).tags = tags;
                row.into()
            }
            Self::Task(mut row) => {
                Arc::make_mut(&mut row).tags = tags;
                row.into()
            }
            Self::Service(mut row) => {
                let service = Arc::make_mut(&mut row);
                service.tags = tags;
                service.version += 1;
                row.into()
            }
            Self::TaskSet(mut row) => {
                let set = Arc::make_mut(&mut row);
                set.tags = tags;
                set.version += 1;
                row.into()
            }
            Self::Provider(mut row) => {
                Arc::make_mut(&mut row).tags = tags;
                row.into()
            }
        }
    }
}

/// The account whose resource it is: an agent may ask about tasks of any that are on its host ([`is_shown`]).
fn account_of(ecs: &Ecs, caller: &Caller, scope: &Scope) -> Result<AccountId, ApiError> {
    match caller.principal {
        Principal::Root
        | Principal::User { .. }
        | Principal::Role { .. }
        | Principal::Federated { .. }
        | Principal::Anonymous => ecs.check_scope(caller, scope)?,
        Principal::Node { .. } => {}
    }
    Ok(scope.account)
}

/// Whether it is one that the caller may hear of at all: a host is told of itself and of the tasks on it.
fn is_shown(view: &View, caller: &Caller, found: &Tagged) -> bool {
    if !matches!(caller.principal, Principal::Node { .. }) {
        return true;
    }
    match found {
        Tagged::Instance(row) => may_speak_for(caller, row),
        Tagged::Task(row) => {
            let instance = row.instance.and_then(|id| view.instances.get(caller.account, &id));
            instance.is_some_and(|row| may_speak_for(caller, row))
        }
        Tagged::Cluster(_)
        | Tagged::Definition(_)
        | Tagged::Service(_)
        | Tagged::TaskSet(_)
        | Tagged::Provider(_) => false,
    }
}

fn find(ecs: &Ecs, view: &View, caller: &Caller, text: &str) -> Result<Tagged, ApiError> {
    let invalid = || Refusal::BadIdentifier { given: text.to_owned() };
    let gone = || Refusal::ResourceNotFound { arn: text.to_owned() };
    let arn = Arn::parse(text).map_err(|_| invalid())?;
    if arn.service != "ecs" {
        return Err(invalid().into());
    }
    let (kind, path) = arn.resource.split_once('/').ok_or_else(invalid)?;
    let is_short = matches!(kind, "task" | "container-instance" | "service") && !path.contains('/');
    if is_short {
        let message = "Long arn format must be used for tagging operations";
        return Err(Refusal::invalid(message).into());
    }
    let found = match kind {
        "cluster" => {
            let arn: ClusterArn = text.parse().map_err(|_| invalid())?;
            let account = account_of(ecs, caller, &arn.scope)?;
            let row = view.active_cluster(account, &arn.name).ok_or(Refusal::ClusterNotFound)?;
            Some(Tagged::Cluster(Arc::clone(row)))
        }
        "task-definition" => {
            let arn: TaskDefinitionArn = text.parse().map_err(|_| Refusal::NoSuchTaskDefinition)?;
            let account = account_of(ecs, caller, &arn.scope)?;
            let row = view.task_definitions.get(account, &arn.id);
            Some(Tagged::Definition(Arc::clone(row.ok_or(Refusal::NoSuchTaskDefinition)?)))
        }
        "container-instance" => {
            let arn: InstanceArn = text.parse().map_err(|_| invalid())?;
            let account = account_of(ecs, caller, &arn.scope)?;
            let row = view.instances.get(account, &arn.id);
            row.filter(|row| row.cluster == arn.cluster && row.status != InstanceStatus::Inactive)
                .map(|row| Tagged::Instance(Arc::clone(row)))
        }
        "task" => {
            let arn: TaskArn = text.parse().map_err(|_| invalid())?;
            let account = account_of(ecs, caller, &arn.scope)?;
            let row = view.tasks.get(account, &arn.id);
            row.filter(|row| row.cluster == arn.cluster).map(|row| Tagged::Task(Arc::clone(row)))
        }
        "service" | "task-set" | "capacity-provider" => {
            find_of_services(ecs, view, caller, kind, text)?
        }
        _ => return Err(invalid().into()),
    };
    found.filter(|found| is_shown(view, caller, found)).ok_or_else(|| gone().into())
}

/// Services and what belongs to them.
fn find_of_services(
    ecs: &Ecs,
    view: &View,
    caller: &Caller,
    kind: &str,
    text: &str,
) -> Result<Option<Tagged>, ApiError> {
    let invalid = |_| Refusal::BadIdentifier { given: text.to_owned() };
    match kind {
        "service" => {
            let arn: ServiceArn = text.parse().map_err(invalid)?;
            let account = account_of(ecs, caller, &arn.scope)?;
            let id = ServiceId { cluster: arn.cluster, name: arn.service };
            let row = view.services.get(account, &id);
            let row = row.filter(|row| row.status < ServiceStatus::Inactive);
            Ok(row.map(|row| Tagged::Service(Arc::clone(row))))
        }
        "task-set" => {
            let arn: TaskSetArn = text.parse().map_err(invalid)?;
            let account = account_of(ecs, caller, &arn.scope)?;
            let service = ServiceId { cluster: arn.cluster, name: arn.service };
            let row = view.task_sets.get(account, &DeploymentKey { service, id: arn.id });
            Ok(row.map(|row| Tagged::TaskSet(Arc::clone(row))))
        }
        _ => {
            let arn: CapacityProviderArn = text.parse().map_err(invalid)?;
            let account = account_of(ecs, caller, &arn.scope)?;
            let row = view.capacity_providers.get(account, &arn.name);
            let row = row.filter(|row| row.is_active());
            Ok(row.map(|row| Tagged::Provider(Arc::clone(row))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create_cluster;
    use crate::testing::TestEcs;

    const CLUSTER: &str = "arn:aws:ecs:us-east-1:000000000000:cluster/default";

    async fn tag(world: &TestEcs, arn: &str, key: &str, value: &str) -> Result<(), ApiError> {
        let tag = api::Tag { key: Some(key.to_owned()), value: Some(value.to_owned()) };
        let input =
            api::TagResourceRequest { resource_arn: Some(arn.to_owned()), tags: Some(vec![tag]) };
        handle_tag(&world.ecs, &world.root(), input).await.map(|_| ())
    }

    fn list(world: &TestEcs, arn: &str) -> Result<Vec<(String, String)>, ApiError> {
        let input = api::ListTagsForResourceRequest { resource_arn: Some(arn.to_owned()) };
        let tags = handle_list(&world.ecs, &world.root(), input)?.tags.unwrap();
        Ok(tags.into_iter().map(|tag| (tag.key.unwrap(), tag.value.unwrap())).collect())
    }

    async fn world() -> TestEcs {
        let world = TestEcs::new();
        let input = api::CreateClusterRequest::default();
        create_cluster::handle(&world.ecs, &world.root(), input).await.unwrap();
        world
    }

    #[tokio::test]
    async fn tags_are_added_replaced_and_removed() {
        let world = world().await;
        tag(&world, CLUSTER, "a", "1").await.unwrap();
        tag(&world, CLUSTER, "b", "2").await.unwrap();
        tag(&world, CLUSTER, "a", "3").await.unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(list(&world, CLUSTER).unwrap(), [pair("a", "3"), pair("b", "2")]);
        let input = api::UntagResourceRequest {
            resource_arn: Some(CLUSTER.to_owned()),
            tag_keys: Some(vec!["a".to_owned(), "never-there".to_owned()]),
        };
        handle_untag(&world.ecs, &world.root(), input).await.unwrap();
        assert_eq!(list(&world, CLUSTER).unwrap(), [pair("b", "2")]);
        let input = api::UntagResourceRequest {
            resource_arn: Some(CLUSTER.to_owned()),
            tag_keys: Some(vec!["b".to_owned(), "aws:ecs:clusterName".to_owned()]),
        };
        let error = handle_untag(&world.ecs, &world.root(), input).await.unwrap_err();
        assert!(error.message.contains("'aws:ecs:clusterName'"), "{error}");
        assert_eq!(list(&world, CLUSTER).unwrap(), [pair("b", "2")], "none is taken away");
    }

    #[tokio::test]
    async fn a_resource_has_fifty_tags_at_most() {
        let world = world().await;
        for n in 0..50 {
            tag(&world, CLUSTER, &n.to_string(), "").await.unwrap();
        }
        let error = tag(&world, CLUSTER, "one more", "").await.unwrap_err();
        assert_eq!(error.code, "InvalidParameterException");
        tag(&world, CLUSTER, "0", "changed").await.unwrap();
    }

    #[tokio::test]
    async fn what_is_not_there_has_no_tags() {
        let world = world().await;
        let prefix = "arn:aws:ecs:us-east-1:000000000000:";
        let id = "00112233445566778899aabbccddeeff";
        for (resource, code, message) in [
            ("cluster/nope".to_owned(), "ClusterNotFoundException", "Cluster not found."),
            (
                "task-definition/web:1".to_owned(),
                "ClientException",
                "Unable to describe task definition.",
            ),
            (format!("task/default/{id}"), "ResourceNotFoundException", "The specified"),
            (format!("container-instance/default/{id}"), "ResourceNotFoundException", "The"),
            (format!("task/{id}"), "InvalidParameterException", "Long arn format must be used"),
            ("service/web".to_owned(), "InvalidParameterException", "Long arn format must be used"),
            ("thing/x".to_owned(), "InvalidParameterException", "Invalid identifier"),
        ] {
            let error = list(&world, &format!("{prefix}{resource}")).unwrap_err();
            assert_eq!(error.code, code, "{resource}");
            assert!(error.message.starts_with(message), "{resource}: {error}");
        }
        assert!(list(&world, "nonsense").is_err());
    }
}
