//! CreateCluster: a new name to gather tasks under; the same request again finds what it made.

use std::collections::BTreeMap;

use aws_wire::{ApiError, Caller};
use control::iam::linked;
use ecs_api as api;
use longshore_types::{ClusterName, Scope, Timestamp};
use model::{Cluster, ClusterStatus, Document, StrategyItem, Tags, View};
use store::Batch;

use super::account_settings::effective;
use super::capacity::{check_providers, read_providers, read_strategy};
use super::cluster::{ConnectDefaults, EVERYTHING, INSIGHTS, read_configuration, read_settings};
use super::service_spec::connect::find_namespace;
use crate::Ecs;
use crate::errors::Refusal;
use crate::tags;

/// The request, checked.
struct NewCluster {
    name: ClusterName,
    tags: Option<Tags>,
    settings: BTreeMap<String, String>,
    configuration: Option<Document>,
    providers: Option<Vec<String>>,
    strategy: Option<Vec<StrategyItem>>,
    connect: Option<ConnectDefaults>,
}

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::CreateClusterRequest,
) -> Result<api::CreateClusterResponse, ApiError> {
    let permission = ecs.on_cluster(caller, "ecs:CreateCluster", input.cluster_name.as_deref());
    let names = input.capacity_providers.clone().unwrap_or_default();
    let asked = read(ecs, caller, input)?;
    let permission = ecs.about_providers(caller, permission, &names);
    let arn = permission.resources.first().cloned().unwrap_or_default();
    let permission = ecs.tagging(caller, permission, arn, &asked.tags.clone().unwrap_or_default());
    let cluster = ecs
        .control
        .change(caller, &permission, |view, now| {
            let mut batch = Batch::on(view);
            if let Some(cluster) = view.active_cluster(caller.account, &asked.name) {
                asked.check_same_as(view, &ecs.control.scope(caller), cluster)?;
                return Ok((batch, Cluster::clone(cluster)));
            }
            let max = ecs.control.config.limits.clusters_per_account_max;
            if max <= view.clusters.of(caller.account).filter(|c| c.is_active()).count() {
                return Err(Refusal::ClusterLimit { max }.into());
            }
            let mut cluster = asked.grant(view, caller, now);
            if let Some(connect) = &asked.connect {
                let scope = ecs.control.scope(caller);
                cluster.connect_namespace = connect.resolve(ecs, view, &scope, now, &mut batch)?;
            }
            check_providers(view, caller.account, &cluster.capacity_providers, &mut batch)?;
            ecs.control.make_linked(view, caller, linked::ECS, now, &mut batch);
            batch.put(cluster.clone());
            Ok((batch, cluster))
        })
        .await?;
    let cluster = ecs.render_cluster(&ecs.control.view(), &cluster, EVERYTHING)?;
    Ok(api::CreateClusterResponse { cluster: Some(cluster) })
}

fn read(
    ecs: &Ecs,
    caller: &Caller,
    input: api::CreateClusterRequest,
) -> Result<NewCluster, ApiError> {
    let name = match input.cluster_name.filter(|name| !name.is_empty()) {
        None => ClusterName::default_cluster(),
        Some(name) => name.parse().map_err(|why| {
            Refusal::invalid(format!(
                "Invalid cluster name '{name}': a cluster name must be {why}."
            ))
        })?,
    };
    let is_with_providers = input.capacity_providers.is_some();
    let providers = read_providers(ecs, caller, input.capacity_providers)?;
    let strategy = match input.default_capacity_provider_strategy {
        None => None,
        Some(items) => Some(read_strategy(items, &providers)?),
    };
    Ok(NewCluster {
        connect: ConnectDefaults::read(input.service_connect_defaults)?,
        name,
        tags: input.tags.map(|given| tags::read(Some(given))).transpose()?,
        settings: read_settings(input.settings)?,
        configuration: read_configuration(input.configuration)?,
        providers: is_with_providers.then_some(providers),
        strategy,
    })
}

impl NewCluster {
    /// Whatever this request names must be as the cluster is.
    fn check_same_as(&self, view: &View, scope: &Scope, cluster: &Cluster) -> Result<(), ApiError> {
        let is_same_namespace = |asked: &ConnectDefaults| match asked {
            ConnectDefaults::Clear => cluster.connect_namespace.is_none(),
            ConnectDefaults::Namespace(given) => {
                let found = find_namespace(view, scope, given).map(|row| &row.id);
                found.is_some() && found == cluster.connect_namespace.as_ref()
            }
        };
        let is_same = self.connect.as_ref().is_none_or(is_same_namespace)
            && self.tags.as_ref().is_none_or(|tags| *tags == cluster.tags)
            && self.settings.iter().all(|(name, value)| cluster.settings.get(name) == Some(value))
            && self
                .configuration
                .as_ref()
                .is_none_or(|c| cluster.configuration.as_ref() == Some(c))
            && self.providers.as_ref().is_none_or(|p| *p == cluster.capacity_providers)
            && self.strategy.as_ref().is_none_or(|s| *s == cluster.default_strategy);
        if is_same {
            return Ok(());
        }
        let message = "Arguments on this idempotent request are inconsistent with arguments used \
                       in previous request(s).";
        Err(Refusal::invalid(message).into())
    }

    fn grant(&self, view: &View, caller: &Caller, now: Timestamp) -> Cluster {
        let mut settings: BTreeMap<String, String> =
            [(INSIGHTS.to_owned(), effective(view, caller, INSIGHTS))].into();
        settings.extend(self.settings.clone());
        Cluster {
            account: caller.account,
            name: self.name.clone(),
            status: ClusterStatus::Active,
            created_at: now,
            deleted_at: None,
            settings,
            configuration: self.configuration.clone(),
            capacity_providers: self.providers.clone().unwrap_or_default(),
            default_strategy: self.strategy.clone().unwrap_or_default(),
            tags: self.tags.clone().unwrap_or_default(),
            connect_namespace: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEcs;

    async fn create(
        world: &TestEcs,
        input: api::CreateClusterRequest,
    ) -> Result<api::Cluster, ApiError> {
        let answer = handle(&world.ecs, &world.root(), input).await?;
        Ok(answer.cluster.expect("an answer has a cluster"))
    }

    fn named(name: &str) -> api::CreateClusterRequest {
        api::CreateClusterRequest { cluster_name: Some(name.to_owned()), ..Default::default() }
    }

    #[tokio::test]
    async fn a_new_cluster_is_shown_as_amazon_shows_one() {
        let world = TestEcs::new();
        let cluster = create(&world, named("demo")).await.unwrap();
        let arn = "arn:aws:ecs:us-east-1:000000000000:cluster/demo";
        assert_eq!(cluster.cluster_arn.as_deref(), Some(arn));
        assert_eq!(cluster.status.as_deref(), Some("ACTIVE"));
        assert_eq!(cluster.tags, Some(vec![]));
        assert_eq!(cluster.statistics, Some(vec![]));
        let setting = &cluster.settings.unwrap()[0];
        assert_eq!(setting.value.as_deref(), Some("disabled"));
    }

    #[tokio::test]
    async fn the_role_of_ecs_is_made_with_the_first_cluster_by_whoever_may() {
        let world = TestEcs::new();
        let role = linked::find(linked::ECS).unwrap();
        let has_role = || role.is_there(&world.ecs.control.view(), world.root().account);
        let allowed = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecs:*","Resource":"*"}}"#;
        let ann = world.user("ann", allowed).await;
        handle(&world.ecs, &ann, named("hers")).await.unwrap();
        assert!(!has_role(), "who may not have it made does without");
        create(&world, named("first")).await.unwrap();
        assert!(has_role());
        let before = world.ecs.control.view();
        let made = before.iam_roles.iter().find(|row| &*row.name == role.role).unwrap();
        create(&world, named("second")).await.unwrap();
        let after = world.ecs.control.view();
        assert!(after.iam_roles.iter().any(|row| row == made), "it stays as it was made");
        assert_eq!(after.iam_roles.iter().count(), before.iam_roles.iter().count());
    }

    #[tokio::test]
    async fn without_a_name_it_is_the_default_cluster() {
        let world = TestEcs::new();
        let cluster = create(&world, api::CreateClusterRequest::default()).await.unwrap();
        assert_eq!(cluster.cluster_name.as_deref(), Some("default"));
    }

    #[tokio::test]
    async fn the_same_request_twice_makes_one_cluster() {
        let world = TestEcs::new();
        let first = create(&world, named("demo")).await.unwrap();
        let seq = world.ecs.control.view().seq;
        assert_eq!(create(&world, named("demo")).await.unwrap(), first);
        assert_eq!(world.ecs.control.view().seq, seq);
    }

    #[tokio::test]
    async fn another_request_with_the_same_name_is_refused() {
        let world = TestEcs::new();
        create(&world, named("demo")).await.unwrap();
        let tag = api::Tag { key: Some("a".to_owned()), value: None };
        let other = api::CreateClusterRequest { tags: Some(vec![tag]), ..named("demo") };
        let error = create(&world, other).await.unwrap_err();
        assert!(error.message.starts_with("Arguments on this idempotent request"), "{error}");
    }

    #[tokio::test]
    async fn what_can_not_be_is_refused() {
        let world = TestEcs::new();
        let bad_names = ["a b", "é", &"a".repeat(256)].map(named);
        let defaults =
            api::ClusterServiceConnectDefaultsRequest { namespace: Some("a/b".to_owned()) };
        let connected =
            api::CreateClusterRequest { service_connect_defaults: Some(defaults), ..named("demo") };
        let provided = api::CreateClusterRequest {
            capacity_providers: Some(vec!["mine".to_owned()]),
            ..named("demo")
        };
        for bad in bad_names.into_iter().chain([connected, provided]) {
            let error = create(&world, bad).await.unwrap_err();
            assert_eq!(error.code, "InvalidParameterException");
        }
    }

    #[tokio::test]
    async fn clusters_make_no_more_namespaces_than_an_account_may_have() {
        let world = TestEcs::new();
        let within = |name: &str, namespace: usize| {
            let namespace = Some(format!("ns-{namespace}"));
            let defaults = api::ClusterServiceConnectDefaultsRequest { namespace };
            api::CreateClusterRequest { service_connect_defaults: Some(defaults), ..named(name) }
        };
        for number in 0..model::discovery::NAMESPACES_MAX {
            create(&world, within(&format!("c{number}"), number)).await.unwrap();
        }
        let another = within("another", model::discovery::NAMESPACES_MAX);
        let error = create(&world, another).await.unwrap_err();
        assert_eq!(error.code, "InvalidParameterException", "{error}");
        create(&world, within("another", 0)).await.unwrap();
    }

    #[tokio::test]
    async fn accounts_do_not_see_each_others_clusters() {
        let world = TestEcs::new();
        create(&world, named("demo")).await.unwrap();
        let other = world.root_of("111111111111");
        let name = Some("demo");
        let view = world.ecs.control.view();
        assert!(world.ecs.cluster(&view, &other, name).is_err());
        assert!(world.ecs.cluster(&view, &world.root(), name).is_ok());
    }
}
