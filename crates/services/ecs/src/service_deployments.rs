//! ListServiceDeployments, DescribeServiceDeployments and StopServiceDeployment: the records of a
//! service's rollouts. A rollback is told in the record of the deployment that it undoes.

use aws_wire::{ApiError, Caller};
use control::paging::{PageRequest, page_descending};
use ecs_api as api;
use longshore_types::{RevisionId, ServiceDeploymentArn, Timestamp};
use model::service::{Lifecycle, ServiceBalancer, ServiceStatus, Share, Stage};
use model::{Deployment, ServiceId, View};
use store::Batch;

use super::continue_service_deployment::render_hooks;
use super::failure;
use super::render_service::{ServiceRenderer, amount, cluster_arn};
use super::service_spec::render_settings;
use crate::Ecs;
use crate::errors::Refusal;

const PAGE_SIZE: usize = 20;
const DESCRIBED_MAX: usize = 20;

pub(super) async fn handle_list(
    ecs: &Ecs,
    caller: &Caller,
    input: api::ListServiceDeploymentsRequest,
) -> Result<api::ListServiceDeploymentsResponse, ApiError> {
    let permission = ecs.within(
        caller,
        "ecs:ListServiceDeployments",
        "service",
        input.cluster.as_deref(),
        &input.service,
    );
    let view = ecs.control.read(caller, &permission)?;
    let cluster = ecs.cluster(&view, caller, input.cluster.as_deref())?;
    let given = input.service.as_deref().unwrap_or_default();
    let service = ecs.service(&view, caller, cluster, given)?;
    if service.status == ServiceStatus::Inactive {
        return Err(Refusal::ServiceNotFound.into());
    }
    let statuses = input.status.unwrap_or_default();
    if let Some(unknown) = statuses.iter().find(|status| !status.is_known()) {
        let values = api::ServiceDeploymentStatus::VALUES.join(",");
        return Err(Refusal::invalid(format!("{unknown} should be one of [{values}]")).into());
    }
    let created = input.created_at.unwrap_or_default();
    let passes = |row: &Deployment| {
        let is_status =
            |wanted: &api::ServiceDeploymentStatus| wanted.as_str() == row.stage.record_status();
        row.record.is_some()
            && (statuses.is_empty() || statuses.iter().any(is_status))
            && created.before.is_none_or(|before| row.created_at < before)
            && created.after.is_none_or(|after| after < row.created_at)
    };
    let shown = ServiceRenderer::of(ecs, &view, service);
    let rows = view.deployments_of(caller.account, &service.key());
    let mut rows: Vec<_> = rows.filter(|row| passes(row)).collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
    let briefs = rows.into_iter().map(|row| (place(row), brief(&shown, row)));
    let request = PageRequest::new(&input.next_token, input.max_results).default_size(PAGE_SIZE);
    let page = page_descending(request, briefs)?;
    Ok(api::ListServiceDeploymentsResponse {
        service_deployments: Some(page.items),
        next_token: page.next_token,
    })
}

/// Where a record is in its list: by time, those of one moment by id.
fn place(row: &Deployment) -> String {
    format!("{:020}/{:020}", row.created_at.0, row.id.0)
}

fn brief(shown: &ServiceRenderer<'_>, row: &Deployment) -> api::ServiceDeploymentBrief {
    api::ServiceDeploymentBrief {
        service_deployment_arn: row.arn().map(|arn| arn.to_string()),
        service_arn: Some(shown.service.arn().to_string()),
        cluster_arn: Some(cluster_arn(shown.service)),
        started_at: row.started_at,
        created_at: Some(row.created_at),
        finished_at: row.finished_at,
        target_service_revision_arn: shown.revision(row).map(|row| row.arn().to_string()),
        status: Some(row.stage.record_status().into()),
        status_reason: shown.status_reason(row),
    }
}

pub(super) async fn handle_describe(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DescribeServiceDeploymentsRequest,
) -> Result<api::DescribeServiceDeploymentsResponse, ApiError> {
    let permission = ecs.on(
        caller,
        "ecs:DescribeServiceDeployments",
        "service-deployment",
        input.service_deployment_arns.iter().flatten(),
    );
    let asked = input.service_deployment_arns.unwrap_or_default();
    if asked.is_empty() {
        return Err(Refusal::invalid("Service deployment ARNs cannot be empty.").into());
    }
    if DESCRIBED_MAX < asked.len() {
        let message = format!("Service deployment ARNs can have at most {DESCRIBED_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    let view = ecs.control.read(caller, &permission)?;
    let (mut described, mut failures) = (Vec::new(), Vec::new());
    for given in asked {
        let arn = read_arn(ecs, caller, &given)?;
        match find(&view, caller, &arn) {
            Some((id, row)) => {
                let service = view.services.get(caller.account, &id);
                let service = service.ok_or(Refusal::ServiceNotFound)?;
                described.push(render(&ServiceRenderer::of(ecs, &view, service), row));
            }
            None => failures.push(failure(given, "MISSING")),
        }
    }
    Ok(api::DescribeServiceDeploymentsResponse {
        service_deployments: Some(described),
        failures: Some(failures),
    })
}

pub(super) fn read_arn(
    ecs: &Ecs,
    caller: &Caller,
    given: &str,
) -> Result<ServiceDeploymentArn, ApiError> {
    let arn: ServiceDeploymentArn =
        given.parse().map_err(|_| Refusal::BadIdentifier { given: given.to_owned() })?;
    ecs.check_scope(caller, &arn.scope)?;
    Ok(arn)
}

/// The deployment with the record that an ARN names; those of a service that is gone are gone.
pub(super) fn find<'v>(
    view: &'v View,
    caller: &Caller,
    arn: &ServiceDeploymentArn,
) -> Option<(ServiceId, &'v Deployment)> {
    let id = ServiceId { cluster: arn.cluster.clone(), name: arn.service.clone() };
    let service = view.services.get(caller.account, &id)?;
    let mut rows = view.deployments_of(caller.account, &id);
    let row = rows.find(|row| row.record.as_ref() == Some(&arn.id))?;
    (service.status < ServiceStatus::Inactive).then_some((id, row))
}

fn render(shown: &ServiceRenderer<'_>, row: &Deployment) -> api::ServiceDeployment {
    let service = shown.service;
    let revision_arn = |id| {
        let row = shown.view.revision_of(service.scope.account, &service.key(), id);
        row.map(|row| row.arn().to_string())
    };
    let weights = weights(shown, row);
    let blue = blue_revision(shown, row);
    let blue = |id: RevisionId, of: fn((Share, Option<Share>)) -> Option<Share>| {
        let share = of(weights?)?.rest();
        Some(if blue == Some(id) { share.percent() } else { 0.0 })
    };
    let sources = row.sources.iter().map(|source| api::ServiceRevisionSummary {
        arn: revision_arn(source.revision),
        requested_task_count: amount(source.requested),
        running_task_count: amount(source.running),
        pending_task_count: amount(source.pending),
        requested_production_traffic_weight: blue(source.revision, |weights| Some(weights.0)),
        requested_test_traffic_weight: blue(source.revision, |weights| weights.1),
    });
    let counts = shown.counts(row);
    let breaker = shown.breaker(row);
    api::ServiceDeployment {
        service_deployment_arn: row.arn().map(|arn| arn.to_string()),
        service_arn: Some(service.arn().to_string()),
        cluster_arn: Some(cluster_arn(service)),
        created_at: Some(row.created_at),
        started_at: row.started_at,
        finished_at: row.finished_at,
        stopped_at: row.stopped_at,
        updated_at: Some(row.updated_at),
        source_service_revisions: Some(sources.collect()),
        target_service_revision: Some(api::ServiceRevisionSummary {
            arn: revision_arn(row.revision),
            requested_task_count: amount(counts.desired),
            running_task_count: amount(counts.running),
            pending_task_count: amount(counts.pending),
            requested_production_traffic_weight: weights
                .map(|(production, _)| production.percent()),
            requested_test_traffic_weight: weights.and_then(|(_, test)| Some(test?.percent())),
        }),
        status: Some(row.stage.record_status().into()),
        status_reason: shown.status_reason(row),
        lifecycle_stage: stage_shown(row).map(Into::into),
        lifecycle_hook_details: render_hooks(row),
        deployment_configuration: Some(render_settings(&row.settings, service.controller)),
        rollback: row.rollback.as_ref().map(|rollback| api::Rollback {
            reason: Some(
                rollback.reason.clone().unwrap_or_else(|| rollback.cause.sentence().to_owned()),
            ),
            started_at: Some(rollback.started_at),
            service_revision_arn: revision_arn(rollback.revision),
        }),
        deployment_circuit_breaker: Some(api::ServiceDeploymentCircuitBreaker {
            status: Some(breaker.status.as_str().into()),
            failure_count: amount(breaker.failures),
            threshold: amount(breaker.threshold),
        }),
        alarms: Some(api::ServiceDeploymentAlarms {
            status: Some(api::ServiceDeploymentRollbackMonitorsStatus::Disabled),
            alarm_names: Some(vec![]),
            triggered_alarm_names: Some(vec![]),
        }),
    }
}

/// `lifecycleStage`: one that is undone has but to be cleaned up.
fn stage_shown(row: &Deployment) -> Option<&'static str> {
    if row.stage.is_final() {
        return None;
    }
    let stage = match &row.shift {
        Some(_) if row.stage == Stage::RollingBack => Some(Lifecycle::CleanUp),
        Some(shift) => Some(shift.stage),
        None => row.baking_since.map(|_| Lifecycle::BakeTime),
    };
    stage.map(Lifecycle::shown)
}

/// What the target of a deployment that shifts traffic has of it: of production's, and of what is for tests.
fn weights(shown: &ServiceRenderer<'_>, row: &Deployment) -> Option<(Share, Option<Share>)> {
    let shift = row.shift.as_ref()?;
    let mut balancers = shown.revision(row)?.load_balancers.iter();
    let has_test =
        |each: &ServiceBalancer| each.alternate.as_ref().is_some_and(|pair| pair.test.is_some());
    let is_tested = balancers.clone().any(has_test);
    balancers.next().map(|_| (shift.production, is_tested.then_some(shift.test)))
}

/// The revision that traffic is shifted from.
fn blue_revision(shown: &ServiceRenderer<'_>, row: &Deployment) -> Option<RevisionId> {
    let from = row.shift.as_ref()?.from?;
    let mut rows = shown.view.deployments_of(row.scope.account, &row.service_id());
    let known = rows.find(|it| it.id == from).map(|it| it.revision);
    known.or_else(|| row.sources.first().map(|source| source.revision))
}

pub(super) async fn handle_stop(
    ecs: &Ecs,
    caller: &Caller,
    input: api::StopServiceDeploymentRequest,
) -> Result<api::StopServiceDeploymentResponse, ApiError> {
    let permission = ecs.on(
        caller,
        "ecs:StopServiceDeployment",
        "service-deployment",
        &input.service_deployment_arn,
    );
    let given = input.service_deployment_arn.unwrap_or_default();
    let requested = match &input.stop_type {
        None | Some(api::StopServiceDeploymentStopType::Rollback) => Stage::RollbackRequested,
        Some(api::StopServiceDeploymentStopType::Abort) => Stage::StopRequested,
        Some(other) => {
            let message = format!("{other} should be one of [ABORT,ROLLBACK]");
            return Err(Refusal::invalid(message).into());
        }
    };
    let arn = read_arn(ecs, caller, &given)?;
    ecs.control
        .change(caller, &permission, |view, now| {
            let mut batch = Batch::on(view);
            let (id, row) = find(view, caller, &arn).ok_or(Refusal::ServiceDeploymentNotFound)?;
            if let Some(next) = stop(view, &id, row, requested, now)? {
                batch.put(next);
            }
            Ok((batch, ()))
        })
        .await?;
    Ok(api::StopServiceDeploymentResponse { service_deployment_arn: Some(given) })
}

/// The deployment with the wish that it be stopped; `None` if it is being stopped already.
fn stop(
    view: &View,
    id: &ServiceId,
    row: &Deployment,
    requested: Stage,
    now: Timestamp,
) -> Result<Option<Deployment>, ApiError> {
    match row.stage {
        Stage::Pending | Stage::InProgress => {}
        Stage::StopRequested | Stage::RollbackRequested | Stage::RollingBack => return Ok(None),
        Stage::Superseded
        | Stage::Stopped
        | Stage::RolledBack
        | Stage::RollbackFailed
        | Stage::Completed
        | Stage::Restoring
        | Stage::RestoreFailed => {
            let message = format!(
                "The service deployment cannot be stopped because it is in the {} state.",
                row.stage.record_status()
            );
            return Err(Refusal::conflict(message).into());
        }
    }
    if row.shift.as_ref().is_some_and(|shift| shift.stage == Lifecycle::CleanUp) {
        let message = "The service deployment cannot be stopped because it is in the CLEAN_UP lifecycle stage.";
        return Err(Refusal::conflict(message).into());
    }
    let events = view.service_events.get(row.scope.account, id);
    // Where traffic is shifted, what it is shifted from is there to go back to, completed or not.
    let is_shifted = row.shift.as_ref().is_some_and(|shift| shift.from.is_some());
    let has_before = is_shifted || events.is_some_and(|events| events.notes.completed.is_some());
    if requested == Stage::RollbackRequested && !has_before {
        let message = "The service deployment cannot be rolled back because the service has no \
                       completed deployment to go back to.";
        return Err(Refusal::conflict(message).into());
    }
    let mut next = row.clone();
    next.stage = requested;
    next.updated_at = now;
    next.version += 1;
    Ok(Some(next))
}
