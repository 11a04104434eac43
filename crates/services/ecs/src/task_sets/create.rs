//! CreateTaskSet: another part of a service, with a revision and capacity of its own.

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use longshore_types::{DeploymentId, Timestamp};
use model::service::{TaskSet, TaskSetStatus};
use model::task::LaunchType;
use model::{ClientToken, DeploymentKey, Key, Service, View};
use store::Batch;

use super::{read_scale, render_changed, scope_text, service_of};
use crate::Ecs;
use crate::client_token;
use crate::errors::Refusal;
use crate::permissions::TaskRequest;
use crate::service_spec::unsupported::Ties;
use crate::service_spec::{Workload, read_capacity, read_definition};
use crate::tags;

const TASK_SETS_MAX: usize = 5;
const TOKEN_CHARS_MAX: usize = 36;
const EXTERNAL_ID_CHARS_MAX: usize = 255;

pub(crate) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::CreateTaskSetRequest,
) -> Result<api::CreateTaskSetResponse, ApiError> {
    let any = "*".to_owned();
    let (cluster, service) = (input.cluster.as_deref(), input.service.as_deref());
    let permission = ecs.on_task_sets(caller, "ecs:CreateTaskSet", cluster, service, [&any]);
    let tags = tags::read(input.tags.clone())?;
    let permission = match permission.resources.first().cloned() {
        Some(arn) => ecs.tagging(caller, permission, arn, &tags),
        None => permission,
    };
    let asked = TaskRequest {
        cluster,
        task_definition: input.task_definition.as_deref(),
        strategy: input.capacity_provider_strategy.as_deref(),
        network: input.network_configuration.as_ref(),
        ..TaskRequest::default()
    };
    Ties {
        load_balancers: input.load_balancers.as_deref(),
        service_registries: input.service_registries.as_deref(),
        ..Ties::default()
    }
    .check()?;
    let set = ecs
        .control
        .decide(|view, now| {
            let permission = ecs.having_started(view, caller, permission.clone(), &asked);
            ecs.control.authorize(view, caller, &permission)?;
            decide(ecs, caller, &input, view, now)
        })
        .await?;
    Ok(api::CreateTaskSetResponse { task_set: Some(render_changed(ecs, &set)?) })
}

fn decide(
    ecs: &Ecs,
    caller: &Caller,
    input: &api::CreateTaskSetRequest,
    view: &View,
    now: Timestamp,
) -> Result<(Batch, TaskSet), ApiError> {
    let mut batch = Batch::on(view);
    let given = (input.cluster.as_deref(), input.service.as_deref());
    let service = service_of(ecs, view, caller, given.0, given.1)?;
    batch.rely(Key::Cluster(caller.account, service.cluster.clone()));
    batch.rely(Key::Service(caller.account, service.key()));
    let token = token(caller, input, service, ecs, now)?;
    if let Some(token) = &token
        && let Some(set) = earlier_use(view, token, service, now)?
    {
        return Ok((batch, set));
    }
    let set = read(ecs, view, caller, input, service, now)?;
    let others = view.task_sets_of(caller.account, &service.key()).count();
    if TASK_SETS_MAX <= others {
        let message = format!(
            "{others} deployments exist on the service. Unable to create new TaskSet since this \
             exceeds the maximum limit."
        );
        return Err(Refusal::invalid(message).into());
    }
    batch.rely(Key::TaskDefinition(caller.account, set.definition.clone()));
    batch.put(set.clone());
    // Of two that come at once, one sees the other.
    batch.put(Service { version: service.version + 1, ..Service::clone(service) });
    if let Some(token) = token {
        batch.put(ClientToken { made: vec![set.id.to_string()], ..token });
    }
    Ok((batch, set))
}

fn read(
    ecs: &Ecs,
    view: &View,
    caller: &Caller,
    input: &api::CreateTaskSetRequest,
    service: &Service,
    now: Timestamp,
) -> Result<TaskSet, ApiError> {
    let cluster = view.active_cluster(caller.account, &service.cluster);
    let cluster = cluster.ok_or(Refusal::ClusterNotFound)?;
    let strategy = input.capacity_provider_strategy.as_deref();
    let workload = Workload::new(
        ecs,
        view,
        caller,
        read_definition(ecs, view, caller, input.task_definition.as_deref())?,
        read_capacity(input.launch_type.as_ref(), strategy, cluster)?,
        input.platform_version.as_deref(),
        input.network_configuration.as_ref(),
    )?;
    check_placement(service, workload.kind())?;
    if service.enable_execute_command {
        workload.check_execute_command("The task set couldn't be created")?;
    }
    Ok(TaskSet {
        scope: service.scope.clone(),
        cluster: service.cluster.clone(),
        service: service.name.clone(),
        id: DeploymentId::mint(ecs.control.ids.as_ref()),
        external_id: external_id(input.external_id.as_deref())?,
        status: TaskSetStatus::Active,
        definition: workload.definition.id.clone(),
        capacity: workload.capacity,
        platform_version: workload.platform_version,
        platform_family: workload.platform_family,
        network: workload.network,
        scale_basis_points: input.scale.as_ref().map_or(Ok(0), read_scale)?,
        tags: tags::read(input.tags.clone())?,
        failures: 0,
        last_failure_at: None,
        last_failure: None,
        is_steady: false,
        steadiness_changed_at: None,
        shortage: None,
        created_at: now,
        updated_at: now,
        version: 1,
    })
}

/// Fargate chooses its places itself.
fn check_placement(service: &Service, kind: LaunchType) -> Result<(), ApiError> {
    let what = match kind {
        LaunchType::Ec2 | LaunchType::External => return Ok(()),
        LaunchType::Fargate if !service.constraints.is_empty() => "constraints",
        LaunchType::Fargate if !service.strategies.is_empty() => "strategies",
        LaunchType::Fargate => return Ok(()),
    };
    let message = format!("Placement {what} are not supported with FARGATE launch type.");
    Err(Refusal::invalid(message).into())
}

fn external_id(given: Option<&str>) -> Result<Option<String>, ApiError> {
    match given {
        None | Some("") => Ok(None),
        Some(given) if given.chars().count() <= EXTERNAL_ID_CHARS_MAX => Ok(Some(given.to_owned())),
        Some(_) => {
            let message =
                format!("externalId must have at most {EXTERNAL_ID_CHARS_MAX} characters.");
            Err(Refusal::invalid(message).into())
        }
    }
}

fn token(
    caller: &Caller,
    input: &api::CreateTaskSetRequest,
    service: &Service,
    ecs: &Ecs,
    now: Timestamp,
) -> Result<Option<ClientToken>, ApiError> {
    let Some(token) = client_token::read(input.client_token.as_deref(), TOKEN_CHARS_MAX)? else {
        return Ok(None);
    };
    let request = api::CreateTaskSetRequest { client_token: None, ..input.clone() };
    let scope = scope_text(&service.cluster, &service.key());
    let operation = format!("CreateTaskSet {scope}");
    Ok(Some(client_token::row(ecs, caller, operation, token, &request, now)))
}

/// The task set that an earlier use of the token made, if it is still there.
fn earlier_use(
    view: &View,
    token: &ClientToken,
    service: &Service,
    now: Timestamp,
) -> Result<Option<TaskSet>, ApiError> {
    let Some(earlier) = client_token::earlier_same(view, token, now)? else { return Ok(None) };
    let id = earlier.made.first().and_then(|id| id.parse().ok());
    let key = id.map(|id| DeploymentKey { service: service.key(), id });
    let set = key.and_then(|key| view.task_sets.get(token.account, &key));
    Ok(set.map(|set| TaskSet::clone(set)))
}
