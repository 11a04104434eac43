//! DescribeClusters: up to a hundred, each with what `include` names.

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use longshore_types::{ClusterArn, ClusterName, Timestamp};
use model::Cluster;

use super::failure;
use crate::Ecs;
use crate::errors::Refusal;

const CLUSTERS_MAX: usize = 100;

pub(super) fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DescribeClustersRequest,
) -> Result<api::DescribeClustersResponse, ApiError> {
    let asked = match input.clusters {
        Some(asked) if !asked.is_empty() => asked,
        _ => vec![ClusterName::default_cluster().to_string()],
    };
    let permission = ecs.on(caller, "ecs:DescribeClusters", "cluster", &asked);
    let include = input.include.unwrap_or_default();
    if let Some(unknown) = include.iter().find(|field| !field.is_known()) {
        let values = api::ClusterField::VALUES.join(",");
        return Err(Refusal::invalid(format!("{unknown} should be one of [{values}]")).into());
    }
    if CLUSTERS_MAX < asked.len() {
        let message = format!("Clusters can have at most {CLUSTERS_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    let view = ecs.control.read(caller, &permission)?;
    let (mut clusters, mut failures) = (Vec::new(), Vec::new());
    for given in asked {
        let name = ecs.cluster_name(caller, Some(&given));
        let cluster = name.ok().and_then(|name| view.clusters.get(caller.account, &name));
        match cluster.filter(|cluster| is_visible(ecs, cluster, caller.now)) {
            Some(cluster) => clusters.push(ecs.render_cluster(&view, cluster, &include)?),
            None => failures.push(failure(missing_arn(ecs, caller, given), "MISSING")),
        }
    }
    Ok(api::DescribeClustersResponse { clusters: Some(clusters), failures: Some(failures) })
}

/// A deleted cluster stays visible for a while.
fn is_visible(ecs: &Ecs, cluster: &Cluster, now: Timestamp) -> bool {
    let shown_ms = ecs.control.config.retention.inactive_clusters_ms;
    cluster.deleted_at.is_none_or(|deleted_at| now.since_ms(deleted_at) < shown_ms)
}

/// The ARN that a name would have; an ARN is shown as it was given.
fn missing_arn(ecs: &Ecs, caller: &Caller, given: String) -> String {
    if given.starts_with("arn:") {
        return given;
    }
    match given.parse() {
        Ok(name) => ClusterArn { scope: ecs.control.scope(caller), name }.to_string(),
        Err(_) => given,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEcs;
    use crate::{create_cluster, delete_cluster};

    fn describe(
        world: &TestEcs,
        clusters: &[&str],
        include: &[&str],
    ) -> api::DescribeClustersResponse {
        let input = api::DescribeClustersRequest {
            clusters: Some(clusters.iter().map(|&name| name.to_owned()).collect()),
            include: Some(include.iter().map(|&field| field.into()).collect()),
        };
        let caller =
            Caller { now: longshore_types::Clock::now(world.env.as_ref()), ..world.root() };
        handle(&world.ecs, &caller, input).unwrap()
    }

    async fn create(world: &TestEcs, name: &str) {
        let input = api::CreateClusterRequest {
            cluster_name: Some(name.to_owned()),
            tags: Some(vec![api::Tag { key: Some("k".to_owned()), value: Some("v".to_owned()) }]),
            ..Default::default()
        };
        create_cluster::handle(&world.ecs, &world.root(), input).await.unwrap();
    }

    #[tokio::test]
    async fn a_cluster_shows_what_is_asked_for_and_no_more() {
        let world = TestEcs::new();
        create(&world, "demo").await;
        let plain = describe(&world, &["demo"], &[]).clusters.unwrap().remove(0);
        assert_eq!((plain.tags, plain.settings), (Some(vec![]), Some(vec![])));
        let full = ["TAGS", "SETTINGS", "STATISTICS", "ATTACHMENTS", "CONFIGURATIONS"];
        let full = describe(&world, &["demo"], &full).clusters.unwrap().remove(0);
        assert_eq!(full.tags.unwrap().len(), 1);
        assert_eq!(full.settings.unwrap().len(), 1);
        assert_eq!(full.statistics.unwrap().len(), 12);
        assert_eq!(full.attachments, Some(vec![]));
    }

    #[tokio::test]
    async fn what_is_not_there_is_a_failure_and_no_error() {
        let world = TestEcs::new();
        create(&world, "demo").await;
        let foreign = "arn:aws:ecs:us-east-1:111111111111:cluster/demo";
        let answer = describe(&world, &["demo", "nope", foreign], &[]);
        assert_eq!(answer.clusters.unwrap().len(), 1);
        let failures = answer.failures.unwrap();
        let arn = "arn:aws:ecs:us-east-1:000000000000:cluster/nope";
        assert_eq!(failures[0].arn.as_deref(), Some(arn));
        assert_eq!(failures[0].reason.as_deref(), Some("MISSING"));
        assert_eq!(failures[1].arn.as_deref(), Some(foreign));
        let answer = describe(&world, &[], &[]);
        let arn = "arn:aws:ecs:us-east-1:000000000000:cluster/default";
        assert_eq!(answer.failures.unwrap()[0].arn.as_deref(), Some(arn));
    }

    #[tokio::test]
    async fn a_deleted_cluster_is_inactive_and_then_gone() {
        let world = TestEcs::new();
        create(&world, "demo").await;
        let input = api::DeleteClusterRequest { cluster: Some("demo".to_owned()) };
        delete_cluster::handle(&world.ecs, &world.root(), input).await.unwrap();
        let shown = describe(&world, &["demo"], &[]).clusters.unwrap().remove(0);
        assert_eq!(shown.status.as_deref(), Some("INACTIVE"));
        world.env.advance_ms(world.ecs.control.config.retention.inactive_clusters_ms);
        assert_eq!(describe(&world, &["demo"], &[]).clusters, Some(vec![]));
        create(&world, "demo").await;
        let shown = describe(&world, &["demo"], &[]).clusters.unwrap().remove(0);
        assert_eq!(shown.status.as_deref(), Some("ACTIVE"));
    }

    #[test]
    fn an_unknown_field_and_too_many_clusters_are_refused() {
        let world = TestEcs::new();
        let unknown = api::DescribeClustersRequest {
            include: Some(vec!["NOPE".into()]),
            ..Default::default()
        };
        assert!(handle(&world.ecs, &world.root(), unknown).is_err());
        let many = api::DescribeClustersRequest {
            clusters: Some(vec!["a".to_owned(); 101]),
            ..Default::default()
        };
        assert!(handle(&world.ecs, &world.root(), many).is_err());
    }
}
