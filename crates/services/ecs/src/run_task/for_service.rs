//! Tasks that another service of the region has run to get something done: RunTask without somebody who asks for it.

use aws_wire::{ApiError, Caller, Origin, Principal};
use control::Permission;
use control::ports::{BoxFuture, NotRun, TaskAsk, TaskRunner, TaskStarter};
use control::tasks::put_task;
use ecs_api as api;
use longshore_types::{AccountId, TaskId, Uuid};
use model::task::{Input, LaunchType, step};
use model::{Compatibility, Document, NetworkMode, Tags, TaskDefinition, View};
use store::Batch;

use super::{common, decide, token};
use crate::Ecs;
use crate::errors::Refusal;
use crate::permissions::TaskRequest;
use crate::task_template::{check_runnable, definition, stored_network};

impl TaskRunner for Ecs {
    fn permission(&self, view: &View, caller: &Caller, ask: &TaskAsk) -> Permission {
        let asked = TaskRequest {
            cluster: ask.cluster.as_deref(),
            task_definition: Some(&ask.definition),
            ..TaskRequest::default()
        };
        self.starting(view, caller, "ecs:RunTask", &asked, &Tags::new())
    }

    fn check(&self, view: &View, caller: &Caller, ask: &TaskAsk) -> Result<(), ApiError> {
        self.cluster(view, caller, ask.cluster.as_deref())?;
        let row = definition(self, view, caller, Some(&ask.definition))?;
        check_runnable(self, row, kind(row))
    }

    fn run<'a>(
        &'a self,
        account: AccountId,
        ask: &'a TaskAsk,
    ) -> BoxFuture<'a, Result<TaskId, NotRun>> {
        Box::pin(run(self, account, ask))
    }

    fn stop<'a>(
        &'a self,
        account: AccountId,
        task: TaskId,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let stop = Input::StopRequested { reason: Some(reason.to_owned()) };
            let decided = self.control.decide(|view, now| {
                let mut batch = Batch::on(view);
                let row = view.tasks.get(account, &task);
                if let Some(next) = row.and_then(|row| step(row, &stop, now)) {
                    put_task(view, &mut batch, next);
                }
                Ok((batch, ()))
            });
            decided.await
        })
    }
}

impl TaskStarter for Ecs {
    fn start<'a>(
        &'a self,
        caller: &'a Caller,
        request: &'a str,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let read = aws_wire::json::from_slice::<api::RunTaskRequest>(request.as_bytes());
            let input = read.map_err(|why| Refusal::invalid(why.to_string()))?;
            let answer = super::handle(self, caller, input).await?;
            if answer.tasks.is_some_and(|tasks| !tasks.is_empty()) {
                return Ok(());
            }
            let why = answer.failures.into_iter().flatten().next();
            let why = why.and_then(|failure| failure.detail.or(failure.reason)).unwrap_or_default();
            Err(Refusal::client(format!("The task could not be placed: {why}")).into())
        })
    }
}

/// What tokens of such tasks are kept under: no request's, whose tokens may be anything.
const OPERATION: &str = "RunTask for a service";

async fn run(ecs: &Ecs, account: AccountId, ask: &TaskAsk) -> Result<TaskId, NotRun> {
    let caller = Caller {
        account,
        region: ecs.control.config.region.clone(),
        access_key: String::new(),
        principal: Principal::Root,
        session: None,
        origin: Origin::default(),
        request_id: Uuid::mint(ecs.control.ids.as_ref()),
        now: ecs.control.clock.now(),
    };
    let view = ecs.control.view();
    let input = request(ecs, &view, &caller, ask)?;
    drop(view);
    let (common, token) = (common(&input), token(&caller, OPERATION, &input)?);
    let outcome = ecs
        .control
        .decide(|view, now| decide(ecs, &caller, &input, &common, 1, token.as_ref(), view, now));
    let outcome = outcome.await?;
    if let Some(task) = outcome.tasks.first() {
        return Ok(task.id);
    }
    let why = outcome.failures.into_iter().filter_map(|failure| failure.detail.or(failure.reason));
    let why: Vec<String> = why.take(1).collect();
    Err(NotRun::NoRoom(why.join("")))
}

/// Fargate for a task definition that asks for it, else the cluster's own instances.
fn kind(row: &TaskDefinition) -> LaunchType {
    match row.requires_compatibilities.contains(&Compatibility::Fargate) {
        true => LaunchType::Fargate,
        false => LaunchType::Ec2,
    }
}

fn request(
    ecs: &Ecs,
    view: &View,
    caller: &Caller,
    ask: &TaskAsk,
) -> Result<api::RunTaskRequest, ApiError> {
    let row = definition(ecs, view, caller, Some(&ask.definition))?;
    let kind = kind(row);
    let pair = |(name, value): &(String, String)| api::KeyValuePair {
        name: Some(name.clone()),
        value: Some(value.clone()),
    };
    let containers = row.containers.iter().map(|container| api::ContainerOverride {
        name: Some(container.name.to_string()),
        environment: Some(ask.environment.iter().map(pair).collect()),
        ..api::ContainerOverride::default()
    });
    let network = match row.network_mode {
        NetworkMode::Awsvpc => Some(match &ask.network {
            Some(given) => of_service(given, kind)?,
            None => network(ecs, view, caller, kind)?,
        }),
        NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None => None,
    };
    Ok(api::RunTaskRequest {
        cluster: ask.cluster.clone(),
        task_definition: Some(ask.definition.clone()),
        launch_type: Some(match kind {
            LaunchType::Fargate => api::LaunchType::Fargate,
            LaunchType::Ec2 | LaunchType::External => api::LaunchType::Ec2,
        }),
        overrides: Some(api::TaskOverride {
            container_overrides: Some(containers.collect()),
            ..api::TaskOverride::default()
        }),
        network_configuration: network,
        started_by: Some(ask.started_by.clone()),
        client_token: Some(ask.token.clone()),
        ..api::RunTaskRequest::default()
    })
}

/// Where a service's tasks are; only Fargate's have public addresses.
fn of_service(given: &Document, kind: LaunchType) -> Result<api::NetworkConfiguration, ApiError> {
    let mut network = stored_network(given)?;
    if let Some(awsvpc) =
        network.awsvpc_configuration.as_mut().filter(|_| kind != LaunchType::Fargate)
    {
        awsvpc.assign_public_ip = None;
    }
    Ok(network)
}

/// All subnets of the account's default VPC, and its default group.
fn network(
    ecs: &Ecs,
    view: &View,
    caller: &Caller,
    kind: LaunchType,
) -> Result<api::NetworkConfiguration, ApiError> {
    let vpc = ecs.control.default_vpc(view, caller.account);
    let vpc = vpc.filter(|vpc| !vpc.subnets.is_empty()).ok_or_else(|| {
        Refusal::client("The account has no subnet of a default VPC, where such tasks are run.")
    })?;
    let subnets = vpc.subnets.iter().map(|subnet| subnet.id.to_string());
    let is_fargate = kind == LaunchType::Fargate;
    Ok(api::NetworkConfiguration {
        awsvpc_configuration: Some(api::AwsVpcConfiguration {
            subnets: Some(subnets.collect()),
            security_groups: None,
            assign_public_ip: is_fargate.then_some(api::AssignPublicIp::Enabled),
        }),
    })
}
