//! DeleteService: the promise ends; the reconciler stops its tasks and then makes it inactive.

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use model::service::{Scheduling, ServiceStatus, TaskSetStatus};
use model::{Index, Service};
use store::Batch;

use super::render_service::{ServiceRenderer, as_written};
use crate::Ecs;
use crate::errors::Refusal;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DeleteServiceRequest,
) -> Result<api::DeleteServiceResponse, ApiError> {
    let permission = ecs.within(
        caller,
        "ecs:DeleteService",
        "service",
        input.cluster.as_deref(),
        &input.service,
    );
    let given = input.service.unwrap_or_default();
    let is_forced = input.force.unwrap_or(false);
    let (view, service) = ecs
        .control
        .change(caller, &permission, |view, now| {
            let mut batch = Batch::on(view);
            let cluster = ecs.cluster(view, caller, input.cluster.as_deref())?;
            let mut service = Service::clone(ecs.service(view, caller, cluster, &given)?);
            match service.status {
                ServiceStatus::Active => {}
                // Asked for twice, done once.
                ServiceStatus::Draining => return Ok((batch, (view.clone(), service))),
                ServiceStatus::Inactive => return Err(Refusal::ServiceNotFound.into()),
            }
            if service.scheduling == Scheduling::Replica && !is_forced {
                if service.desired_count > 0 {
                    let message = "The service cannot be stopped while it is scaled above 0.";
                    return Err(Refusal::invalid(message).into());
                }
                let mut task_sets = view.task_sets_of(caller.account, &service.key());
                if task_sets.any(|set| set.status < TaskSetStatus::Draining) {
                    let message = "The service cannot be stopped while it has task sets.";
                    return Err(Refusal::invalid(message).into());
                }
            }
            service.status = ServiceStatus::Draining;
            service.desired_count = 0;
            service.deleted_at = Some(now);
            service.version += 1;
            batch.rely(Index::ServiceTasks(caller.account, service.key()));
            batch.put(service.clone());
            let view = as_written(view, &batch);
            Ok((batch, (view, service)))
        })
        .await?;
    let shown = ServiceRenderer::of(ecs, &view, &service).render(false)?;
    Ok(api::DeleteServiceResponse { service: Some(shown) })
}
