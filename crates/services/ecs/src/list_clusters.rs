//! ListClusters: the ARNs of active clusters, by name.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::paging::{PageRequest, page};
use ecs_api as api;

use crate::Ecs;

pub(super) fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::ListClustersRequest,
) -> Result<api::ListClustersResponse, ApiError> {
    let permission = Permission::to("ecs:ListClusters").on("*");
    let view = ecs.control.read(caller, &permission)?;
    let active = view.clusters.of(caller.account).filter(|cluster| cluster.is_active());
    let arns = active
        .map(|cluster| (cluster.name.clone(), cluster.arn(&ecs.control.config.region).to_string()));
    let page = page(PageRequest::new(&input.next_token, input.max_results), arns)?;
    Ok(api::ListClustersResponse { cluster_arns: Some(page.items), next_token: page.next_token })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create_cluster;
    use crate::testing::TestEcs;

    #[tokio::test]
    async fn clusters_are_listed_in_pages() {
        let world = TestEcs::new();
        for name in ["c", "a", "b"] {
            let input = api::CreateClusterRequest {
                cluster_name: Some(name.to_owned()),
                ..Default::default()
            };
            create_cluster::handle(&world.ecs, &world.root(), input).await.unwrap();
        }
        let list = |next_token| {
            let input = api::ListClustersRequest { next_token, max_results: Some(2) };
            handle(&world.ecs, &world.root(), input).unwrap()
        };
        let first = list(None);
        assert_eq!(first.cluster_arns.unwrap().len(), 2);
        let second = list(first.next_token);
        assert!(second.cluster_arns.unwrap()[0].ends_with("cluster/c"));
        assert_eq!(second.next_token, None);
    }
}
