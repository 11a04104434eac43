//! DescribeServiceRevisions: what the tasks of a service look like, or looked like.

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use longshore_types::{ClusterArn, ServiceArn, ServiceRevisionArn};
use model::elb::arn;
use model::service::ServiceStatus;
use model::{ServiceId, ServiceRevision, View};

use super::failure;
use super::render_service::{RenderedCapacity, definition_arn};
use super::service_spec::{
    connect, render_balancers, render_network, render_registries, resolved_platform,
};
use crate::Ecs;
use crate::errors::Refusal;

const REVISIONS_MAX: usize = 20;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DescribeServiceRevisionsRequest,
) -> Result<api::DescribeServiceRevisionsResponse, ApiError> {
    let permission = ecs.on(
        caller,
        "ecs:DescribeServiceRevisions",
        "service-revision",
        input.service_revision_arns.iter().flatten(),
    );
    let asked = input.service_revision_arns.unwrap_or_default();
    if asked.is_empty() {
        return Err(Refusal::invalid("Service revision ARNs cannot be empty.").into());
    }
    if REVISIONS_MAX < asked.len() {
        let message = format!("Service revision ARNs can have at most {REVISIONS_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    let view = ecs.control.read(caller, &permission)?;
    let (mut revisions, mut failures) = (Vec::new(), Vec::new());
    for given in asked {
        let arn: ServiceRevisionArn =
            given.parse().map_err(|_| Refusal::BadIdentifier { given: given.clone() })?;
        ecs.check_scope(caller, &arn.scope)?;
        match find(&view, caller, arn) {
            Some(row) => revisions.push(render(&view, row)?),
            None => failures.push(failure(given, "MISSING")),
        }
    }
    Ok(api::DescribeServiceRevisionsResponse {
        service_revisions: Some(revisions),
        failures: Some(failures),
    })
}

/// Those of a service that is gone are gone.
fn find<'v>(
    view: &'v View,
    caller: &Caller,
    arn: ServiceRevisionArn,
) -> Option<&'v ServiceRevision> {
    let service = ServiceId { cluster: arn.cluster, name: arn.service };
    let row = view.services.get(caller.account, &service)?;
    let revision = view.revision_of(caller.account, &service, arn.id)?;
    (row.status < ServiceStatus::Inactive).then_some(revision)
}

/// What the tasks of a revision were registered in last, where it names two groups to choose from.
fn resolved(view: &View, row: &ServiceRevision) -> Option<api::ResolvedConfiguration> {
    let rows = view.deployments_of(row.scope.account, &row.service_id());
    let of_it = rows.filter(|it| it.revision == row.id && !it.groups.is_empty());
    let latest = of_it.max_by_key(|it| (it.created_at, it.id))?;
    let balancers = row.load_balancers.iter().zip(&latest.groups);
    let resolved = balancers.map(|(each, group)| api::ServiceRevisionLoadBalancer {
        target_group_arn: Some(arn(&row.scope, "targetgroup", group)),
        production_listener_rule: each
            .alternate
            .as_ref()
            .map(|pair| pair.production.arn(&row.scope)),
    });
    Some(api::ResolvedConfiguration {
        load_balancers: Some(resolved.collect()),
        ..api::ResolvedConfiguration::default()
    })
}

fn render(view: &View, row: &ServiceRevision) -> Result<api::ServiceRevision, ApiError> {
    let (scope, cluster) = (&row.scope, &row.cluster);
    let capacity = RenderedCapacity::of(&row.capacity);
    let images = row.images.iter().map(|image| api::ContainerImage {
        container_name: Some(image.container.clone()),
        image_digest: image.digest.clone(),
        image: Some(image.image.clone()),
    });
    let service =
        ServiceArn { scope: scope.clone(), cluster: cluster.clone(), service: row.service.clone() };
    Ok(api::ServiceRevision {
        service_revision_arn: Some(row.arn().to_string()),
        service_arn: Some(service.to_string()),
        cluster_arn: Some(ClusterArn { scope: scope.clone(), name: cluster.clone() }.to_string()),
        task_definition: Some(definition_arn(scope, &row.definition)),
        capacity_provider_strategy: capacity.strategy,
        launch_type: capacity.launch_type,
        platform_version: resolved_platform(row.platform_version.as_deref()),
        platform_family: row.platform_family.clone(),
        load_balancers: Some(render_balancers(&row.scope, &row.load_balancers)),
        service_registries: Some(render_registries(&row.scope, &row.registries)),
        network_configuration: render_network(row.network.as_ref())?,
        service_connect_configuration: connect::render(row.connect.as_ref())?,
        container_images: Some(images.collect()),
        guard_duty_enabled: Some(false),
        resolved_configuration: resolved(view, row),
        created_at: Some(row.created_at),
        ..api::ServiceRevision::default()
    })
}
