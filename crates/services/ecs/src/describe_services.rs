//! DescribeServices: up to ten, deleted ones for a while too; what is not there is a failure.

use aws_wire::{ApiError, Caller};
use ecs_api as api;

use super::failure;
use super::render_service::{ServiceRenderer, is_visible};
use crate::Ecs;
use crate::errors::Refusal;

const SERVICES_MAX: usize = 10;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DescribeServicesRequest,
) -> Result<api::DescribeServicesResponse, ApiError> {
    let permission = ecs.within(
        caller,
        "ecs:DescribeServices",
        "service",
        input.cluster.as_deref(),
        input.services.iter().flatten(),
    );
    let view = ecs.control.read(caller, &permission)?;
    let cluster = ecs.cluster(&view, caller, input.cluster.as_deref())?;
    let asked = input.services.unwrap_or_default();
    if asked.is_empty() {
        return Err(Refusal::invalid("Services cannot be empty.").into());
    }
    if SERVICES_MAX < asked.len() {
        let message = format!("Services can have at most {SERVICES_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    let include = input.include.unwrap_or_default();
    if let Some(unknown) = include.iter().find(|field| !field.is_known()) {
        return Err(Refusal::invalid(format!("{unknown} should be one of [TAGS]")).into());
    }
    let with_tags = include.contains(&api::ServiceField::Tags);
    let (kept_ms, now) =
        (ecs.control.config.retention.inactive_services_ms, ecs.control.clock.now());
    let (mut services, mut failures) = (Vec::new(), Vec::new());
    for given in asked {
        let row = ecs.service(&view, caller, cluster, &given).ok();
        match row.filter(|row| is_visible(row, kept_ms, now)) {
            Some(row) => services.push(ServiceRenderer::of(ecs, &view, row).render(with_tags)?),
            None => failures.push(failure(missing_arn(ecs, caller, given), "MISSING")),
        }
    }
    Ok(api::DescribeServicesResponse { services: Some(services), failures: Some(failures) })
}

/// A name is shown as an ARN of the short format, an ARN as it was given.
fn missing_arn(ecs: &Ecs, caller: &Caller, given: String) -> String {
    if given.starts_with("arn:") {
        return given;
    }
    let scope = ecs.control.scope(caller);
    format!("arn:aws:ecs:{}:{}:service/{given}", scope.region, scope.account)
}
