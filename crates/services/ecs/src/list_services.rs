//! ListServices: the ARNs of a cluster's active services, by name.

use aws_wire::{ApiError, Caller};
use control::paging::{PageRequest, page};
use ecs_api as api;
use model::service::{RevisionCapacity, ServiceStatus};
use model::{Service, View};

use crate::Ecs;
use crate::errors::Refusal;

const PAGE_SIZE: usize = 10;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::ListServicesRequest,
) -> Result<api::ListServicesResponse, ApiError> {
    let permission = ecs.in_cluster(caller, "ecs:ListServices", input.cluster.as_deref());
    let view = ecs.control.read(caller, &permission)?;
    let cluster = ecs.cluster(&view, caller, input.cluster.as_deref())?;
    check(&input)?;
    let passes = |service: &Service| {
        let is_as =
            |wanted: &api::SchedulingStrategy| wanted.as_str() == service.scheduling.as_str();
        // Services that the region itself makes are not there.
        let is_customers =
            |wanted: &api::ResourceManagementType| *wanted == api::ResourceManagementType::Customer;
        service.status == ServiceStatus::Active
            && input.scheduling_strategy.as_ref().is_none_or(is_as)
            && input.resource_management_type.as_ref().is_none_or(is_customers)
            && input.launch_type.as_ref().is_none_or(|wanted| is_on(&view, service, wanted))
    };
    let services = view.services_of_cluster(caller.account, &cluster.name);
    let arns = services
        .filter(|service| passes(service))
        .map(|service| (service.name.to_string(), service.arn().to_string()));
    let request = PageRequest::new(&input.next_token, input.max_results).default_size(PAGE_SIZE);
    let page = page(request, arns)?;
    Ok(api::ListServicesResponse { service_arns: Some(page.items), next_token: page.next_token })
}

/// Whether a service has the launch type; one with a capacity provider strategy has none.
fn is_on(view: &View, service: &Service, wanted: &api::LaunchType) -> bool {
    let revision = service.revision;
    let revision =
        revision.and_then(|id| view.revision_of(service.scope.account, &service.key(), id));
    match revision.map(|revision| &revision.capacity) {
        Some(RevisionCapacity::Launch(launch)) => launch.as_str() == wanted.as_str(),
        Some(RevisionCapacity::Strategy(_)) | None => false,
    }
}

fn check(input: &api::ListServicesRequest) -> Result<(), ApiError> {
    let refuse = |message: &str| Err(Refusal::invalid(message).into());
    if input.launch_type.as_ref().is_some_and(|kind| !kind.is_known()) {
        return refuse("launch type should be one of [EC2,FARGATE,EXTERNAL]");
    }
    if input.scheduling_strategy.as_ref().is_some_and(|strategy| !strategy.is_known()) {
        return refuse("scheduling strategy should be one of [REPLICA,DAEMON]");
    }
    if input.resource_management_type.as_ref().is_some_and(|kind| !kind.is_known()) {
        return refuse("resource management type should be one of [CUSTOMER,ECS]");
    }
    Ok(())
}
