//! ListServicesByNamespace: the ARNs of an account's active services whose tasks are in a namespace, whatever their cluster.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::paging::{PageRequest, page};
use ecs_api as api;
use model::Service;
use model::service::ServiceStatus;

use crate::Ecs;
use crate::errors::Refusal;
use crate::service_spec::connect::find_namespace;

const PAGE_SIZE: usize = 10;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::ListServicesByNamespaceRequest,
) -> Result<api::ListServicesByNamespaceResponse, ApiError> {
    let scope = ecs.control.scope(caller);
    let view = ecs.control.view();
    let given = input.namespace.as_deref().unwrap_or_default();
    let found = find_namespace(&view, &scope, given);
    let mut permission = Permission::to("ecs:ListServicesByNamespace").on("*");
    if let Some(namespace) = found {
        permission = permission.with("ecs:namespace", namespace.arn());
    }
    ecs.control.authorize(&view, caller, &permission)?;
    let namespace = found.ok_or(Refusal::NamespaceNotFound)?;
    let is_in = |service: &Service| {
        let revision = service.revision;
        let revision = revision.and_then(|id| view.revision_of(caller.account, &service.key(), id));
        let connect = revision.and_then(|revision| revision.connect.as_ref());
        connect.is_some_and(|connect| connect.namespace == namespace.id)
    };
    let services = view.services.of(caller.account);
    let mut arns: Vec<String> = services
        .filter(|service| service.status == ServiceStatus::Active && is_in(service))
        .map(|service| service.arn().to_string())
        .collect();
    arns.sort_unstable();
    let request = PageRequest::new(&input.next_token, input.max_results).default_size(PAGE_SIZE);
    let page = page(request, arns.into_iter().map(|arn| (arn.clone(), arn)))?;
    Ok(api::ListServicesByNamespaceResponse {
        service_arns: Some(page.items),
        next_token: page.next_token,
    })
}
