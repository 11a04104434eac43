//! ListClusters: the ARNs of active clusters, by name.

use aws_wire::{ApiError, Caller};
use ecs_api as api;

use crate::paging::{PageRequest, page};
use crate::region::Region;

pub(super) fn handle(
    region: &Region,
    caller: &Caller,
    input: api::ListClustersRequest,
) -> Result<api::ListClustersResponse, ApiError> {
    let view = region.view();
    let active = view.clusters.of(caller.account).filter(|cluster| cluster.is_active());
    let arns = active
        .map(|cluster| (cluster.name.clone(), cluster.arn(&region.config.region).to_string()));
    let page = page(PageRequest::new(&input.next_token, input.max_results), arns)?;
    Ok(api::ListClustersResponse { cluster_arns: Some(page.items), next_token: page.next_token })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::create_cluster;
    use crate::testing::TestRegion;

    #[tokio::test]
    async fn clusters_are_listed_in_pages() {
        let world = TestRegion::new();
        for name in ["c", "a", "b"] {
            let input = api::CreateClusterRequest {
                cluster_name: Some(name.to_owned()),
                ..Default::default()
            };
            create_cluster::handle(&world.region, &world.root(), input).await.unwrap();
        }
        let list = |next_token| {
            let input = api::ListClustersRequest { next_token, max_results: Some(2) };
            handle(&world.region, &world.root(), input).unwrap()
        };
        let first = list(None);
        assert_eq!(first.cluster_arns.unwrap().len(), 2);
        let second = list(first.next_token);
        assert!(second.cluster_arns.unwrap()[0].ends_with("cluster/c"));
        assert_eq!(second.next_token, None);
    }
}
