//! DeleteCluster: only what is empty goes; it is described as INACTIVE for a while.

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use model::instance::InstanceStatus;
use model::service::ServiceStatus;
use model::{Cluster, ClusterStatus};
use store::{Batch, Index};

use super::cluster::EVERYTHING;
use crate::Ecs;
use crate::errors::Refusal;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DeleteClusterRequest,
) -> Result<api::DeleteClusterResponse, ApiError> {
    let permission = ecs.on_cluster(caller, "ecs:DeleteCluster", input.cluster.as_deref());
    let given = input.cluster.as_deref().unwrap_or_default();
    if given.is_empty() {
        return Err(Refusal::invalid("Cluster can not be blank.").into());
    }
    let cluster = ecs
        .control
        .change(caller, &permission, |view, now| {
            let mut cluster = Cluster::clone(ecs.cluster(view, caller, Some(given))?);
            let (account, name) = (caller.account, cluster.name.clone());
            let is_here = |status| status != InstanceStatus::Inactive;
            if view.instances_of_cluster(account, &name).any(|instance| is_here(instance.status)) {
                return Err(Refusal::ClusterHasInstances.into());
            }
            let mut services = view.services_of_cluster(account, &name);
            if services.any(|service| service.status < ServiceStatus::Inactive) {
                return Err(Refusal::ClusterHasServices.into());
            }
            if view.live_tasks_of_cluster(account, &name) > 0 {
                return Err(Refusal::ClusterHasTasks.into());
            }
            cluster.status = ClusterStatus::Inactive;
            cluster.deleted_at = Some(now);
            let mut batch = Batch::on(view);
            // Whoever starts a task, creates a service or registers an instance meanwhile makes this
            // look again.
            batch.rely(Index::ClusterServices(account, name.clone()));
            batch.rely(Index::ClusterTasks(account, name.clone()));
            batch.rely(Index::ClusterInstances(account, name));
            batch.put(cluster.clone());
            Ok((batch, cluster))
        })
        .await?;
    let cluster = ecs.render_cluster(&ecs.control.view(), &cluster, EVERYTHING)?;
    Ok(api::DeleteClusterResponse { cluster: Some(cluster) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create_cluster;
    use crate::testing::TestEcs;

    #[tokio::test]
    async fn a_deleted_cluster_is_not_found_any_more() {
        let world = TestEcs::new();
        let input = api::CreateClusterRequest::default();
        create_cluster::handle(&world.ecs, &world.root(), input).await.unwrap();
        let delete = async |name: &str| {
            let input = api::DeleteClusterRequest { cluster: Some(name.to_owned()) };
            handle(&world.ecs, &world.root(), input).await
        };
        let cluster = delete("default").await.unwrap().cluster.unwrap();
        assert_eq!(cluster.status.as_deref(), Some("INACTIVE"));
        let error = delete("default").await.unwrap_err();
        assert_eq!(error.code, "ClusterNotFoundException");
        assert_eq!(error.message, "Cluster not found.");
        assert_eq!(delete("").await.unwrap_err().code, "InvalidParameterException");
    }
}
