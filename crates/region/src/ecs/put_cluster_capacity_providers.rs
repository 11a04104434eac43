//! PutClusterCapacityProviders: which providers a cluster has, and how tasks are spread by default.

use aws_api::ecs;
use aws_wire::{ApiError, Caller};
use model::Cluster;
use model::task::Phase;
use store::{Batch, Index};

use super::capacity::{read_providers, read_strategy};
use super::cluster::EVERYTHING;
use crate::errors::Refusal;
use crate::region::Region;

pub(super) async fn handle(
    region: &Region,
    caller: &Caller,
    input: ecs::PutClusterCapacityProvidersRequest,
) -> Result<ecs::PutClusterCapacityProvidersResponse, ApiError> {
    let providers = read_providers(input.capacity_providers)?;
    let items = input.default_capacity_provider_strategy.unwrap_or_default();
    let strategy = read_strategy(items, &providers)?;
    let given = input.cluster.as_deref();
    let cluster = region
        .decide(|view, _| {
            let mut cluster = Cluster::clone(region.cluster(view, caller, given)?);
            let mut batch = Batch::on(view);
            batch.rely(Index::ClusterTasks(caller.account, cluster.name.clone()));
            for provider in cluster.capacity_providers.iter().filter(|p| !providers.contains(p)) {
                let is_in_use = view
                    .tasks_of_cluster(caller.account, &cluster.name)
                    .filter(|task| task.phase < Phase::Stopped)
                    .any(|task| task.capacity_provider.as_ref() == Some(provider));
                if is_in_use {
                    return Err(Refusal::ProviderInUse.into());
                }
            }
            cluster.capacity_providers.clone_from(&providers);
            cluster.default_strategy.clone_from(&strategy);
            batch.put(cluster.clone());
            Ok((batch, cluster))
        })
        .await?;
    let cluster = region.show_cluster(&region.view(), &cluster, EVERYTHING)?;
    Ok(ecs::PutClusterCapacityProvidersResponse { cluster: Some(cluster) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::create_cluster;
    use crate::testing::TestRegion;

    #[tokio::test]
    async fn a_default_strategy_names_only_providers_of_the_cluster() {
        let world = TestRegion::new();
        let input = ecs::CreateClusterRequest::default();
        create_cluster::handle(&world.region, &world.root(), input).await.unwrap();
        let put = async |provider: &str| {
            let item = ecs::CapacityProviderStrategyItem {
                capacity_provider: Some("FARGATE".to_owned()),
                weight: Some(1),
                base: None,
            };
            let input = ecs::PutClusterCapacityProvidersRequest {
                cluster: Some("default".to_owned()),
                capacity_providers: Some(vec![provider.to_owned()]),
                default_capacity_provider_strategy: Some(vec![item]),
            };
            handle(&world.region, &world.root(), input).await
        };
        let cluster = put("FARGATE").await.unwrap().cluster.unwrap();
        assert_eq!(cluster.capacity_providers, Some(vec!["FARGATE".to_owned()]));
        assert_eq!(cluster.default_capacity_provider_strategy.unwrap()[0].weight, Some(1));
        let error = put("FARGATE_SPOT").await.unwrap_err();
        assert!(error.message.contains("not associated with the cluster"), "{error}");
    }
}
