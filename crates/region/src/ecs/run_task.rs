//! RunTask: places tasks, gives them addresses, and answers once they are durable.
//!
//! Fargate tasks always get a row: one that finds no room waits as PROVISIONING for the next
//! instance. Tasks for a cluster's own instances are placed now or named in `failures`.

use aws_api::ecs as api;
use aws_wire::{ApiError, Caller};
use longshore_types::{InstanceId, Timestamp};
use model::task::{Launch as LaunchType, Task};
use model::{ClientToken, ClientTokenId, Cluster, Key, View};
use plan::capacity::share;
use plan::{Ask, Constraint, Field, Pool, Strategy};
use sha2::{Digest, Sha256};
use store::Batch;

use super::launch::{Capacity, Common, Launch, Place, earlier_use, fargate_tasks, put_task};
use super::show_task::show;
use crate::errors::Refusal;
use crate::region::Region;

const COUNT_MAX: usize = 10;
const CONSTRAINTS_MAX: usize = 10;
const STRATEGIES_MAX: usize = 5;
const TOKEN_CHARS_MAX: usize = 64;

/// What one decision came to.
struct Outcome {
    tasks: Vec<Task>,
    failures: Vec<api::Failure>,
}

pub(super) async fn handle(
    region: &Region,
    caller: &Caller,
    input: api::RunTaskRequest,
) -> Result<api::RunTaskResponse, ApiError> {
    Capacity::check(input.launch_type.as_ref(), input.capacity_provider_strategy.as_deref())?;
    let count = count(input.count)?;
    let token = token(caller, &input)?;
    let common = Common {
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
    };
    let outcome = region
        .decide(|view, now| {
            decide(region, caller, &input, &common, count, token.as_ref(), view, now)
        })
        .await?;
    for instance in outcome.tasks.iter().filter_map(|task| task.instance) {
        region.sessions.nudge(instance);
    }
    if outcome.tasks.iter().any(Task::is_unplaced) {
        region.sessions.room.notify_one();
    }
    Ok(api::RunTaskResponse {
        tasks: Some(outcome.tasks.iter().map(|task| show(task, true)).collect()),
        failures: Some(outcome.failures),
    })
}

#[expect(clippy::too_many_arguments, reason = "a closure's body, named")]
fn decide(
    region: &Region,
    caller: &Caller,
    input: &api::RunTaskRequest,
    common: &Common,
    count: usize,
    token: Option<&ClientToken>,
    view: &View,
    now: Timestamp,
) -> Result<(Batch, Outcome), ApiError> {
    let mut batch = Batch::on(view);
    let cluster = region.cluster(view, caller, input.cluster.as_deref())?;
    batch.rely(Key::Cluster(caller.account, cluster.name.clone()));
    let token = token.map(|token| {
        let mut token = token.clone();
        token.call.operation = format!("RunTask {}", cluster.name);
        token.expires_at = now.plus_ms(region.config.retention.client_tokens_ms);
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
    let launch = Launch::read(region, view, caller, cluster, capacity.kind(), platform, common)?;
    batch.rely(Key::TaskDefinition(caller.account, launch.definition.id.clone()));
    let (places, failures) = match capacity.kind() {
        LaunchType::Fargate => {
            let places = fargate_places(region, caller, input, &capacity, count, view)?;
            (places, vec![])
        }
        LaunchType::Ec2 | LaunchType::External => {
            instance_places(region, caller, input, cluster, &launch, count, view, &mut batch, now)?
        }
    };
    let mut tasks = Vec::with_capacity(places.len());
    for place in places {
        let task = launch.make(region, view, &mut batch, place, now)?;
        tasks.push(task.clone());
        put_task(&mut batch, task);
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
fn token(caller: &Caller, input: &api::RunTaskRequest) -> Result<Option<ClientToken>, ApiError> {
    let Some(token) = input.client_token.clone().filter(|token| !token.is_empty()) else {
        return Ok(None);
    };
    let is_ascii = token.bytes().all(|byte| (33..=126).contains(&byte));
    if !is_ascii || token.len() > TOKEN_CHARS_MAX {
        let message = format!(
            "clientToken must have at most {TOKEN_CHARS_MAX} ASCII characters from 33 to 126."
        );
        return Err(Refusal::invalid(message).into());
    }
    let request = api::RunTaskRequest { client_token: None, ..input.clone() };
    let digest = Sha256::digest(aws_wire::json::to_vec(&request));
    Ok(Some(ClientToken {
        account: caller.account,
        call: ClientTokenId { operation: String::new(), token },
        request_digest: hex::encode(digest),
        made: vec![],
        expires_at: caller.now,
    }))
}

fn fargate_places(
    region: &Region,
    caller: &Caller,
    input: &api::RunTaskRequest,
    capacity: &Capacity,
    count: usize,
    view: &View,
) -> Result<Vec<Place>, ApiError> {
    for (what, is_given) in [
        ("constraints", is_given(input.placement_constraints.as_deref())),
        ("strategies", is_given(input.placement_strategy.as_deref())),
    ] {
        if is_given {
            let message = format!("Placement {what} are not supported with FARGATE launch type.");
            return Err(Refusal::invalid(message).into());
        }
    }
    let max = region.config.limits.fargate_tasks_per_account_max;
    if fargate_tasks(view, caller.account) + count > max {
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
    let mut instances = region.fargate(view);
    let place =
        |capacity_provider| Place { instance: instances.place(), zone: None, capacity_provider };
    Ok(providers.into_iter().map(place).collect())
}

fn is_given<T>(list: Option<&[T]>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

#[expect(clippy::too_many_arguments, reason = "part of one decision")]
fn instance_places(
    region: &Region,
    caller: &Caller,
    input: &api::RunTaskRequest,
    cluster: &Cluster,
    launch: &Launch<'_>,
    count: usize,
    view: &View,
    batch: &mut Batch,
    now: Timestamp,
) -> Result<(Vec<Place>, Vec<api::Failure>), ApiError> {
    let constraints = constraints(input, launch)?;
    let strategies = strategies(input.placement_strategy.as_deref().unwrap_or_default())?;
    let pool = match launch.kind {
        LaunchType::External => Pool::External,
        LaunchType::Ec2 | LaunchType::Fargate => Pool::Own,
    };
    let mut fleet = region.fleet(view, caller.account, &cluster.name);
    if !fleet.has_active(pool) {
        let message = "No Container Instances were found in your cluster.";
        return Err(Refusal::invalid(message).into());
    }
    let ask = Ask {
        need: &launch.need,
        group: &launch.group,
        pool,
        requires: &launch.definition.requires_attributes,
        constraints: &constraints,
        strategies: &strategies,
    };
    let wanted = u32::try_from(count).unwrap_or(u32::MAX);
    let made = fleet.place_in(batch, &ask, wanted, now.0 ^ view.seq.0.rotate_left(32));
    let place = |id: &InstanceId| {
        let zone = fleet.instance(*id).and_then(|row| row.zone()).map(str::to_owned);
        Place { instance: Some(*id), zone, capacity_provider: None }
    };
    let places = made.placements.iter().map(place).collect();
    let Some(refusals) = made.refusals else { return Ok((places, vec![])) };
    let sentence = refusals.to_string();
    let failures = refusals.each().iter().filter_map(|(id, unfit)| {
        Some(api::Failure {
            arn: Some(fleet.instance(*id)?.arn().to_string()),
            reason: Some(unfit.wire_reason().to_owned()),
            detail: Some(sentence.clone()),
        })
    });
    Ok((places, failures.collect()))
}

/// The definition's expressions and the request's constraints together.
fn constraints(
    input: &api::RunTaskRequest,
    launch: &Launch<'_>,
) -> Result<Vec<Constraint>, ApiError> {
    let given = input.placement_constraints.as_deref().unwrap_or_default();
    if given.len() > CONSTRAINTS_MAX {
        let message = format!("placementConstraints can have at most {CONSTRAINTS_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    let defined = launch.definition.placement_expressions.iter();
    let mut constraints: Vec<Constraint> =
        defined.map(|expression| member_of(expression)).collect::<Result<_, _>>()?;
    for each in given {
        constraints.push(match (&each.r#type, each.expression.as_deref()) {
            (Some(api::PlacementConstraintType::DistinctInstance), None | Some("")) => {
                Constraint::DistinctInstance
            }
            (Some(api::PlacementConstraintType::DistinctInstance), Some(_)) => {
                let message = "The distinctInstance constraint does not take an expression.";
                return Err(Refusal::invalid(message).into());
            }
            (Some(api::PlacementConstraintType::MemberOf), Some(expression))
                if !expression.is_empty() =>
            {
                member_of(expression)?
            }
            (Some(api::PlacementConstraintType::MemberOf), _) => {
                let message = "The memberOf constraint requires an expression.";
                return Err(Refusal::invalid(message).into());
            }
            (_, _) => {
                let message =
                    "Placement constraint type should be one of [distinctInstance,memberOf]";
                return Err(Refusal::invalid(message).into());
            }
        });
    }
    Ok(constraints)
}

fn member_of(expression: &str) -> Result<Constraint, ApiError> {
    expression
        .parse()
        .map(Constraint::MemberOf)
        .map_err(|why| Refusal::invalid(format!("Invalid expression '{expression}': {why}")).into())
}

fn strategies(given: &[api::PlacementStrategy]) -> Result<Vec<Strategy>, ApiError> {
    if given.len() > STRATEGIES_MAX {
        let message = format!("placementStrategy can have at most {STRATEGIES_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    given.iter().map(strategy).collect()
}

fn strategy(given: &api::PlacementStrategy) -> Result<Strategy, ApiError> {
    let field = given.field.as_deref().unwrap_or_default();
    let invalid = |what: &str| {
        let message =
            format!("The field '{field}' is not valid for the {what} placement strategy.");
        Err(Refusal::invalid(message).into())
    };
    match &given.r#type {
        Some(api::PlacementStrategyType::Random) if field.is_empty() => Ok(Strategy::Random),
        Some(api::PlacementStrategyType::Random) => invalid("random"),
        Some(api::PlacementStrategyType::Binpack) => match field.to_ascii_lowercase().as_str() {
            "cpu" => Ok(Strategy::BinpackCpu),
            "memory" => Ok(Strategy::BinpackMemory),
            _ => invalid("binpack"),
        },
        Some(api::PlacementStrategyType::Spread) => match field {
            "instanceId" | "host" => Ok(Strategy::Spread(Field::Instance)),
            _ => match field.strip_prefix("attribute:").filter(|name| !name.is_empty()) {
                Some(name) => Ok(Strategy::Spread(Field::Attribute(name.to_owned()))),
                None => invalid("spread"),
            },
        },
        _ => {
            let message = "Placement strategy type should be one of [random,spread,binpack]";
            Err(Refusal::invalid(message).into())
        }
    }
}
