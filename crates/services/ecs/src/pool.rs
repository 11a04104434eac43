//! Which container instances are whose: the pool of a capacity provider.
//!
//! An instance says by an attribute to which Auto Scaling group it belongs. It is in the pool of the
//! provider that its cluster has and that names this group, and is used by launch type EC2 all the same.
//!
//! **Invariant:** what an instance's row says of its provider follows from its attribute and from what
//! its cluster is associated with. Whoever changes one of the two sees to it, or [`settle`] does.

use std::sync::Arc;

use aws_wire::ApiError;
use longshore_types::{AccountId, ClusterName};
use model::capacity_provider::GROUP_ATTRIBUTE;
use model::instance::{Instance, InstanceStatus};
use model::{Cluster, View};
use store::Batch;

use super::capacity::own_provider;
use crate::Ecs;

/// Instances that change hands in one commit.
const SETTLED_AT_ONCE_MAX: usize = 200;

/// The provider of `cluster` whose group the instance says it belongs to.
pub(super) fn provider_of(view: &View, cluster: &Cluster, instance: &Instance) -> Option<String> {
    if instance.is_external {
        return None;
    }
    let group = instance.attributes.get(GROUP_ATTRIBUTE)?.as_deref()?;
    let is_its = |name: &&String| {
        own_provider(view, cluster.account, name)
            .is_some_and(|provider| provider.group_name() == group)
    };
    cluster.capacity_providers.iter().find(is_its).cloned()
}

/// Puts the instances of a cluster into the pools of the providers that it has now.
pub(super) async fn settle(
    ecs: &Ecs,
    account: AccountId,
    cluster: &ClusterName,
) -> Result<(), ApiError> {
    let turn = |view: &View| {
        let mut batch = Batch::on(view);
        let Some(row) = view.active_cluster(account, cluster) else { return batch };
        for instance in strangers(view, row).take(SETTLED_AT_ONCE_MAX) {
            let mut next = Instance::clone(instance);
            next.capacity_provider = provider_of(view, row, instance);
            next.version += 1;
            batch.put(next);
        }
        batch
    };
    let is_done = |batch: &Batch| batch.len() < SETTLED_AT_ONCE_MAX;
    while !ecs
        .control
        .decide(|view, _| {
            let batch = turn(view);
            let done = is_done(&batch);
            Ok((batch, done))
        })
        .await?
    {}
    Ok(())
}

/// The same for every cluster: a region may have ended between a change and what follows from it.
pub(crate) async fn settle_all(ecs: &Ecs) -> Result<(), ApiError> {
    let view = ecs.control.store.latest();
    let is_unsettled =
        |cluster: &&Arc<Cluster>| cluster.is_active() && strangers(&view, cluster).next().is_some();
    for cluster in view.clusters.iter().filter(is_unsettled) {
        settle(ecs, cluster.account, &cluster.name).await?;
    }
    Ok(())
}

/// Instances whose row does not say what follows from the rest.
fn strangers<'v>(view: &'v View, cluster: &'v Cluster) -> impl Iterator<Item = &'v Arc<Instance>> {
    view.instances_of_cluster(cluster.account, &cluster.name)
        .filter(|instance| instance.status != InstanceStatus::Inactive)
        .filter(|instance| instance.capacity_provider != provider_of(view, cluster, instance))
}
