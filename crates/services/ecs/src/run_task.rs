//! RunTask: places tasks, gives them addresses, and answers once they are durable.
//!
//! Fargate tasks always get a row: one that finds no capacity waits as PROVISIONING for the next
//! instance. Tasks for a cluster's own instances are placed now or named in `failures`; for those of a
//! capacity provider with managed scaling they may wait, see [`providers`].

mod for_service;
mod providers;

use aws_wire::{ApiError, Caller};
use control::tasks::put_task;
use ecs_api as api;
use longshore_types::{InstanceId, Timestamp};
use model::service::{PlacementConstraint, PlacementStrategy};
use model::task::{LaunchType, Task, Waiting};
use model::{ClientToken, ClientTokenId, Cluster, Key, View};
use plan::capacity::share;
use plan::{Ask, NoPlace, Pool, Refusals};
use sha2::{Digest, Sha256};
use store::Batch;

use super::client_token;
use super::render_task::render;
use super::service_spec::{read_constraints, read_strategies};
use super::task_template::rules;
use super::task_template::{Capacity, Common, Place, TaskTemplate, earlier_use, fargate_capacity};
use crate::Ecs;
use crate::errors::Refusal;
use crate::fleet::FleetReservation;
use crate::permissions::TaskRequest;
use crate::tags;
use crate::waiting::FARGATE_FULL;

const COUNT_MAX: usize = 10;
const TOKEN_CHARS_MAX: usize = 64;

/// What one decision came to.
struct Outcome {
    tasks: Vec<Task>,
    failures: Vec<api::Failure>,
}

/// Where one task goes, or what is known of why it has to wait.
struct Found {
    place: Place,
    waiting: Option<Waiting>,
}

/// Everything that placing looks at.
struct Asked<'a> {
    ecs: &'a Ecs,
    view: &'a View,
    cluster: &'a Cluster,
    template: &'a TaskTemplate<'a>,
    rules: Vec<PlacementConstraint>,
    strategies: Vec<PlacementStrategy>,
    /// Stands for chance.
    seed: u64,
}

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::RunTaskRequest,
) -> Result<api::RunTaskResponse, ApiError> {
    Capacity::check(input.launch_type.as_ref(), input.capacity_provider_strategy.as_deref())?;
    let count = count(input.count)?;
    let token = token(caller, "RunTask", &input)?;
    let common = common(&input);
    let asked = TaskRequest {
        cluster: input.cluster.as_deref(),
        task_definition: input.task_definition.as_deref(),
        overrides: input.overrides.as_ref(),
        strategy: input.capacity_provider_strategy.as_deref(),
        enable_execute_command: input.enable_execute_command,
        ..TaskRequest::default()
    };
    let tags = tags::read(input.tags.clone())?;
    let outcome = ecs
        .control
        .decide(|view, now| {
            let permission = ecs.starting(view, caller, "ecs:RunTask", &asked, &tags);
            ecs.control.authorize(view, caller, &permission)?;
            decide(ecs, caller, &input, &common, count, token.as_ref(), view, now)
        })
        .await?;
    Ok(api::RunTaskResponse {
        tasks: Some(outcome.tasks.iter().map(|task| render(task, true)).collect()),
        failures: Some(outcome.failures),
    })
}

fn common(input: &api::RunTaskRequest) -> Common {
    Common {
        task_definition: input.task_definition.clone(),
        enable_ecs_managed_tags: input.enable_ecs_managed_tags,
        enable_execute_command: input.enable_execute_command,
        group: input.group.clone(),
        network_configuration: input.network_configuration.clone(),
        overrides: input.overrides.clone(),
        propagate_tags: input.propagate_tags.clone(),
        started_by: input.started_by.clone(),
        tags: input.tags.clone(),
        volume_configurations: input.volume_configurations.clone(),
    }
}

#[expect(clippy::too_many_arguments, reason = "a closure's body, named")]
fn decide(
    ecs: &Ecs,
    caller: &Caller,
    input: &api::RunTaskRequest,
    common: &Common,
    count: usize,
    token: Option<&ClientToken>,
    view: &View,
    now: Timestamp,
) -> Result<(Batch, Outcome), ApiError> {
    let mut batch = Batch::on(view);
    let cluster = ecs.cluster(view, caller, input.cluster.as_deref())?;
    batch.rely(Key::Cluster(caller.account, cluster.name.clone()));
    let token = token.map(|token| {
        let mut token = token.clone();
        token.call.operation = format!("{} {}", token.call.operation, cluster.name);
        token.expires_at = now.plus_ms(ecs.control.config.retention.client_tokens_ms);
        token
    });
    if let Some(token) = &token
        && let Some(tasks) = earlier_use(view, token, now)?
    {
        let tasks = tasks.into_iter().cloned().collect();
        return Ok((batch, Outcome { tasks, failures: vec![] }));
    }
    let capacity = Capacity::read(
        input.launch_type.as_ref(),
        input.capacity_provider_strategy.as_deref(),
        cluster,
    )?;
    let platform = input.platform_version.as_deref();
    let template =
        TaskTemplate::read(ecs, view, caller, cluster, capacity.kind(), platform, common)?;
    batch.rely(Key::TaskDefinition(caller.account, template.definition.id.clone()));
    let given = input.placement_constraints.as_deref().unwrap_or_default();
    let defined = template.definition.placement_expressions.len();
    let asked = Asked {
        ecs,
        view,
        cluster,
        template: &template,
        rules: read_constraints(given, defined, template.kind)?,
        strategies: read_strategies(
            input.placement_strategy.as_deref().unwrap_or_default(),
            template.kind,
        )?,
        seed: now.0 ^ view.seq.0.rotate_left(32),
    };
    let (found, failures) = match &capacity {
        _ if capacity.kind() == LaunchType::Fargate => fargate_places(&asked, &capacity, count)?,
        Capacity::Strategy(strategy) => providers::places(&asked, strategy, count, &mut batch)?,
        Capacity::Launch(_) => instance_places(&asked, count, &mut batch)?,
    };
    let mut tasks = Vec::with_capacity(found.len());
    for Found { place, waiting } in found {
        let mut task = template.make(ecs, view, &mut batch, place, now)?;
        task.waiting = waiting.map(Box::new);
        tasks.push(task.clone());
        put_task(view, &mut batch, task);
    }
    if let Some(mut token) = token.filter(|_| !tasks.is_empty()) {
        token.made = tasks.iter().map(|task| task.id.to_string()).collect();
        batch.put(token);
    }
    Ok((batch, Outcome { tasks, failures }))
}

fn count(given: Option<i32>) -> Result<usize, ApiError> {
    match usize::try_from(given.unwrap_or(1)) {
        Ok(count) if (1..=COUNT_MAX).contains(&count) => Ok(count),
        _ => {
            let message = format!("count must be between 1 and {COUNT_MAX}.");
            Err(Refusal::invalid(message).into())
        }
    }
}

/// The token with the digest of all else in the request; its cluster and expiry come later.
fn token(
    caller: &Caller,
    operation: &str,
    input: &api::RunTaskRequest,
) -> Result<Option<ClientToken>, ApiError> {
    let Some(token) = client_token::read(input.client_token.as_deref(), TOKEN_CHARS_MAX)? else {
        return Ok(None);
    };
    let request = api::RunTaskRequest { client_token: None, ..input.clone() };
    let digest = Sha256::digest(aws_wire::json::to_vec(&request));
    Ok(Some(ClientToken {
        account: caller.account,
        call: ClientTokenId { operation: operation.to_owned(), token },
        request_digest: hex::encode(digest),
        made: vec![],
        expires_at: caller.now,
    }))
}

fn fargate_places(
    asked: &Asked<'_>,
    capacity: &Capacity,
    count: usize,
) -> Result<(Vec<Found>, Vec<api::Failure>), ApiError> {
    let Asked { ecs, view, cluster, template, .. } = asked;
    let max = ecs.control.config.limits.fargate_tasks_per_account_max;
    if fargate_capacity(view, cluster.account, max, count) < count {
        let message = "You've reached the limit on the number of tasks you can run concurrently.";
        return Err(Refusal::client(message).into());
    }
    let providers = match capacity {
        Capacity::Launch(_) => vec![None; count],
        Capacity::Strategy(strategy) => share(strategy, |_| 0, count)
            .into_iter()
            .map(|item| Some(item.capacity_provider.clone()))
            .collect(),
    };
    let mut instances = ecs.fargate(view);
    let zones = template.zones();
    let (mut found, mut failures) = (Vec::with_capacity(count), Vec::new());
    for capacity_provider in providers {
        let requires = &template.definition.requires_attributes;
        let instance = match instances.place(template.need.resources, requires, &zones) {
            Ok(instance) => Some(instance),
            // It waits for the first host that there will be.
            Err(NoPlace::NoHost) => None,
            Err(NoPlace::NoRoom) => {
                let reason = Some(FARGATE_FULL.to_owned());
                failures.push(api::Failure { arn: None, reason, detail: None });
                continue;
            }
        };
        let zone = instance.and_then(|id| instances.zone(id)).map(str::to_owned);
        let place = Place { instance, zone, capacity_provider };
        found.push(Found { place, waiting: None });
    }
    if found.is_empty() && !failures.is_empty() {
        return Err(Refusal::client(FARGATE_FULL).into());
    }
    Ok((found, failures))
}

/// Places on the instances of a launch type, and why not if that is so.
fn instance_places(
    asked: &Asked<'_>,
    count: usize,
    batch: &mut Batch,
) -> Result<(Vec<Found>, Vec<api::Failure>), ApiError> {
    let pool = match asked.template.kind {
        LaunchType::External => Pool::External,
        LaunchType::Ec2 | LaunchType::Fargate => Pool::Own,
    };
    let constraints = rules::constraints(asked.template.definition, &asked.rules)?;
    let strategies = rules::strategies(&asked.strategies);
    let Asked { ecs, view, cluster, template, .. } = asked;
    let mut fleet = ecs.fleet(view, cluster.account, &cluster.name);
    if !fleet.has_active(pool) {
        let message = "No Container Instances were found in your cluster.";
        return Err(Refusal::invalid(message).into());
    }
    let ask = Ask {
        need: &template.need,
        group: &template.group,
        pool,
        requires: &template.definition.requires_attributes,
        zones: &template.zones(),
        constraints: &constraints,
        strategies: &strategies,
    };
    let wanted = u32::try_from(count).unwrap_or(u32::MAX);
    let made = fleet.place_in(batch, &ask, wanted, asked.seed);
    let find = |id: &InstanceId| Found { place: at(&fleet, *id, None), waiting: None };
    let found = made.placements.iter().map(find).collect();
    let failures = made.refusals.map_or_else(Vec::new, |refusals| failures(&fleet, &refusals));
    Ok((found, failures))
}

fn at(fleet: &FleetReservation<'_>, id: InstanceId, capacity_provider: Option<&str>) -> Place {
    Place {
        instance: Some(id),
        zone: fleet.zone(id).map(str::to_owned),
        capacity_provider: capacity_provider.map(str::to_owned),
    }
}

/// What each instance said, with the sentence that counts them.
fn failures(fleet: &FleetReservation<'_>, refusals: &Refusals) -> Vec<api::Failure> {
    let sentence = refusals.to_string();
    let failure = |(id, unfit): &(InstanceId, plan::Unfit)| {
        Some(api::Failure {
            arn: Some(fleet.instance(*id)?.arn().to_string()),
            reason: Some(unfit.wire_reason().to_owned()),
            detail: Some(sentence.clone()),
        })
    };
    refusals.each().iter().filter_map(failure).collect()
}
