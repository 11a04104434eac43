//! PutClusterCapacityProviders: which providers a cluster has, and how tasks are spread by default.

use std::collections::BTreeSet;

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use longshore_types::AccountId;
use model::service::{Rank, ServiceStatus};
use model::{Cluster, Service, View};
use store::{Batch, Index};

use super::capacity::{check_providers, read_providers, read_strategy};
use super::cluster::EVERYTHING;
use super::pool;
use crate::Ecs;
use crate::errors::Refusal;

pub(crate) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::PutClusterCapacityProvidersRequest,
) -> Result<api::PutClusterCapacityProvidersResponse, ApiError> {
    let permission =
        ecs.on_cluster(caller, "ecs:PutClusterCapacityProviders", input.cluster.as_deref());
    let providers = read_providers(ecs, caller, input.capacity_providers)?;
    let permission = ecs.about_providers(caller, permission, &providers);
    let items = input.default_capacity_provider_strategy.unwrap_or_default();
    let strategy = read_strategy(items, &providers)?;
    let given = input.cluster.as_deref();
    let cluster = ecs
        .control
        .change(caller, &permission, |view, _| {
            let mut cluster = Cluster::clone(ecs.cluster(view, caller, given)?);
            let mut batch = Batch::on(view);
            check_providers(view, caller.account, &providers, &mut batch)?;
            batch.rely(Index::ClusterTasks(caller.account, cluster.name.clone()));
            batch.rely(Index::ClusterServices(caller.account, cluster.name.clone()));
            let used = used_providers(view, &cluster);
            let is_kept = |name: &&String| providers.contains(name);
            if cluster.capacity_providers.iter().filter(|p| !is_kept(p)).any(|p| used.contains(p)) {
                return Err(Refusal::ProviderInUse.into());
            }
            cluster.capacity_providers.clone_from(&providers);
            cluster.default_strategy.clone_from(&strategy);
            batch.put(cluster.clone());
            Ok((batch, cluster))
        })
        .await?;
    pool::settle(ecs, caller.account, &cluster.name).await?;
    let cluster = ecs.render_cluster(&ecs.control.view(), &cluster, EVERYTHING)?;
    Ok(api::PutClusterCapacityProvidersResponse { cluster: Some(cluster) })
}

/// The providers that tasks run on, or that a service would start tasks on.
fn used_providers(view: &View, cluster: &Cluster) -> BTreeSet<String> {
    let account = cluster.account;
    let tasks = view.providers_of_tasks(account, &cluster.name).map(|name| name.to_string());
    let services = view
        .services_of_cluster(account, &cluster.name)
        .filter(|service| service.status < ServiceStatus::Inactive)
        .flat_map(|service| providers_of(view, account, service));
    tasks.chain(services).collect()
}

fn providers_of(view: &View, account: AccountId, service: &Service) -> Vec<String> {
    let id = service.key();
    let deployments = view.deployments_of(account, &id).filter(|each| each.rank < Rank::Gone);
    let revisions = deployments.map(|each| each.revision).chain(service.revision);
    let of_revisions = revisions
        .filter_map(|revision| view.revision_of(account, &id, revision))
        .map(|row| &row.capacity);
    let of_sets = view.task_sets_of(account, &id).map(|set| &set.capacity);
    of_revisions
        .chain(of_sets)
        .flat_map(|capacity| capacity.providers().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create_cluster;
    use crate::testing::TestEcs;

    async fn put(
        world: &TestEcs,
        providers: &[&str],
        default: &str,
    ) -> Result<api::Cluster, ApiError> {
        let item = api::CapacityProviderStrategyItem {
            capacity_provider: Some(default.to_owned()),
            weight: Some(1),
            base: None,
        };
        let input = api::PutClusterCapacityProvidersRequest {
            cluster: Some("default".to_owned()),
            capacity_providers: Some(providers.iter().map(|&name| name.to_owned()).collect()),
            default_capacity_provider_strategy: Some(vec![item]),
        };
        Ok(handle(&world.ecs, &world.root(), input).await?.cluster.unwrap())
    }

    async fn world() -> TestEcs {
        let world = TestEcs::new();
        let input = api::CreateClusterRequest::default();
        create_cluster::handle(&world.ecs, &world.root(), input).await.unwrap();
        world
    }

    #[tokio::test]
    async fn a_default_strategy_names_only_providers_of_the_cluster() {
        let world = world().await;
        let cluster = put(&world, &["FARGATE"], "FARGATE").await.unwrap();
        assert_eq!(cluster.capacity_providers, Some(vec!["FARGATE".to_owned()]));
        assert_eq!(cluster.default_capacity_provider_strategy.unwrap()[0].weight, Some(1));
        let error = put(&world, &["FARGATE_SPOT"], "FARGATE").await.unwrap_err();
        assert!(error.message.contains("not associated with the cluster"), "{error}");
    }

    #[tokio::test]
    async fn providers_that_are_not_there_or_too_many_are_refused() {
        let world = world().await;
        let error = put(&world, &["mine"], "mine").await.unwrap_err();
        assert_eq!(error.code, "InvalidParameterException");
        assert_eq!(
            error.message,
            "The specified capacity provider 'mine' was not found. Specify a valid name or ARN and \
             try again."
        );
        let many: Vec<String> = (0..21).map(|n| format!("p{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let error = put(&world, &many, "p0").await.unwrap_err();
        assert_eq!(error.code, "InvalidParameterException");
        assert_eq!(
            error.message,
            "The maximum number of capacity providers per cluster has been exceeded."
        );
    }
}
