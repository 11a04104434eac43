//! UpdateService: changes what is promised; where tasks have to look different, a deployment begins.
//!
//! The task definition, the network, the capacity and the platform version make a new revision and
//! with it a deployment, if they change or a deployment is forced. Counts, percentages, placement,
//! grace and flags count from the next task on.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use longshore_types::{DeploymentId, RevisionId, Timestamp};
use model::service::{
    Controller, Deployment, Lifecycle, Rank, RevisionCapacity, Scheduling, ServiceStatus,
    SourceRevision, Stage,
};
use model::task::LaunchType;
use model::{Index, Key, Row, Service, ServiceRevision, TaskDefinitionStatus, View};
use store::Batch;

use super::create_service::{
    DAEMON_COUNT, DAEMON_STRATEGY, check_daemon_capacity, first_step, read_rebalancing,
};
use super::render_service::{ServiceRenderer, as_written};
use super::service_spec::unsupported::Ties;
use super::service_spec::{
    Workload, check_balancers, check_hooks, check_left, connect, read_capacity, read_constraints,
    read_definition, read_desired, read_grace, read_propagate, read_settings, read_strategies,
    render_constraints, render_network, render_strategies,
};
use super::task_template::execute_command_needs_role;
use crate::Ecs;
use crate::errors::Refusal;
use crate::permissions::{TaskRequest, hooks_of};

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::UpdateServiceRequest,
) -> Result<api::UpdateServiceResponse, ApiError> {
    let permission = ecs.within(
        caller,
        "ecs:UpdateService",
        "service",
        input.cluster.as_deref(),
        &input.service,
    );
    let asked = TaskRequest {
        cluster: input.cluster.as_deref(),
        task_definition: input.task_definition.as_deref(),
        overrides: None,
        strategy: input.capacity_provider_strategy.as_deref(),
        network: input.network_configuration.as_ref(),
        enable_execute_command: input.enable_execute_command,
        enable_ecs_managed_tags: input.enable_ecs_managed_tags,
        propagate_tags: input.propagate_tags.as_ref(),
        load_balancers: input.load_balancers.as_deref(),
        connect: input.service_connect_configuration.as_ref(),
        hooks: hooks_of(input.deployment_configuration.as_ref()),
    };
    let decide = |view: &View, now| {
        let permission = ecs.having_started(view, caller, permission.clone(), &asked);
        ecs.control.authorize(view, caller, &permission)?;
        let (batch, service) = decide(ecs, caller, &input, view, now)?;
        let view = as_written(view, &batch);
        let is_deployed = service.revision.is_some_and(|id| is_written(&batch, id));
        Ok((batch, (view, service, is_deployed)))
    };
    let (view, service, is_deployed) = ecs.control.decide(decide).await?;
    let mut service = ServiceRenderer::of(ecs, &view, &service).render(false)?;
    // ECS answers before its scheduler has given the new deployment any tasks to desire.
    if let Some(first) = service.deployments.iter_mut().flatten().next().filter(|_| is_deployed) {
        first.desired_count = Some(0);
    }
    Ok(api::UpdateServiceResponse { service: Some(service) })
}

fn is_written(batch: &Batch, id: RevisionId) -> bool {
    batch.writes.iter().any(|row| matches!(row, Row::ServiceRevision(row) if row.id == id))
}

pub(crate) fn decide(
    ecs: &Ecs,
    caller: &Caller,
    input: &api::UpdateServiceRequest,
    view: &View,
    now: Timestamp,
) -> Result<(Batch, Service), ApiError> {
    let mut batch = Batch::on(view);
    let cluster = ecs.cluster(view, caller, input.cluster.as_deref())?;
    let given = input.service.as_deref().unwrap_or_default();
    let before = ecs.service(view, caller, cluster, given)?;
    if before.status != ServiceStatus::Active {
        return Err(Refusal::ServiceNotActive.into());
    }
    check_ties(input)?;
    check_controller(input, before)?;
    if before.controller == Controller::External
        && input.load_balancers.as_ref().is_some_and(|given| !given.is_empty())
    {
        return Err(Refusal::invalid(
            "Unable to update load balancers on services with an EXTERNAL deployment controller.",
        )
        .into());
    }
    if before.controller == Controller::External
        && input.service_registries.as_ref().is_some_and(|given| !given.is_empty())
    {
        return Err(Refusal::invalid(
            "Unable to update service registries on services with an EXTERNAL deployment controller.",
        )
        .into());
    }
    let asks_connect =
        input.service_connect_configuration.as_ref().is_some_and(|it| it.enabled == Some(true));
    if before.controller == Controller::External && asks_connect {
        return Err(Refusal::invalid(
            "Unable to update Service Connect on services with an EXTERNAL deployment controller.",
        )
        .into());
    }
    let revision =
        before.revision.and_then(|id| view.revision_of(caller.account, &before.key(), id));
    let workload = match revision {
        None => None,
        Some(revision) => {
            let (scope, service) = (&before.scope, &before.key());
            let ids = ecs.control.ids.as_ref();
            let control = ecs.control.as_ref();
            let it = connect::For { view, scope, cluster, service, control, ids, now };
            next_workload(ecs, it, caller, revision, input)?
        }
    };
    let kind = match (&workload, revision) {
        (Some(workload), _) => workload.kind(),
        (None, Some(revision)) => revision.capacity.launch(),
        (None, None) => LaunchType::Ec2,
    };
    let mut service = change(ecs, view, caller, before, workload.as_ref(), kind, input)?;
    check_shifting(view, &service, workload.as_ref(), revision.map(AsRef::as_ref))?;
    check_execute_command(view, &service, workload.as_ref(), revision.map(AsRef::as_ref), input)?;
    if let Some(workload) = workload {
        batch.rely(Key::Cluster(caller.account, cluster.name.clone()));
        batch.rely(Key::TaskDefinition(caller.account, workload.definition.id.clone()));
        deploy(ecs, view, &mut batch, &mut service, &workload, now)?;
    }
    if service != **before {
        service.version += 1;
        batch.put(service.clone());
    }
    Ok((batch, service))
}

fn check_ties(input: &api::UpdateServiceRequest) -> Result<(), ApiError> {
    Ties {
        load_balancers: None,
        service_registries: None,
        service_connect: None,
        volumes: input.volume_configurations.as_deref(),
        vpc_lattice: input.vpc_lattice_configurations.as_deref(),
        gateway_connectors: input.gateway_connectors.as_deref(),
        monitoring: input.monitoring.as_ref(),
    }
    .check()
}

/// A service keeps its controller; with an external one, much is its task sets' affair.
fn check_controller(input: &api::UpdateServiceRequest, service: &Service) -> Result<(), ApiError> {
    let asked = input.deployment_controller.as_ref().and_then(|given| given.r#type.as_ref());
    if let Some(asked) = asked
        && asked.as_str() != service.controller.as_str()
    {
        let message = format!(
            "Changing the deployment controller to {asked} is not supported by this region: a \
             service keeps the controller that it was created with."
        );
        return Err(Refusal::unsupported(message).into());
    }
    if service.controller == Controller::Ecs {
        return Ok(());
    }
    let is_text = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    for (is_given, what) in [
        (is_text(&input.task_definition), "update task definition"),
        (input.network_configuration.is_some(), "update network parameters"),
        (is_text(&input.platform_version), "update platform version"),
        (input.capacity_provider_strategy.is_some(), "update capacity provider strategy"),
        (input.force_new_deployment == Some(true), "force a new deployment"),
    ] {
        if is_given {
            let message = format!(
                "Unable to {what} on services with an EXTERNAL deployment controller. Use task \
                 sets instead."
            );
            return Err(Refusal::invalid(message).into());
        }
    }
    Ok(())
}

/// What the tasks shall look like, if they shall be replaced.
fn next_workload(
    ecs: &Ecs,
    it: connect::For<'_>,
    caller: &Caller,
    revision: &ServiceRevision,
    input: &api::UpdateServiceRequest,
) -> Result<Option<Workload>, ApiError> {
    let connect::For { view, cluster, .. } = it;
    let is_forced = input.force_new_deployment == Some(true);
    let given = input.task_definition.as_deref().filter(|given| !given.is_empty());
    let platform = input.platform_version.as_deref().filter(|given| !given.is_empty());
    let is_asked = is_forced
        || given.is_some()
        || platform.is_some()
        || input.capacity_provider_strategy.is_some()
        || input.network_configuration.is_some()
        || input.load_balancers.is_some()
        || input.service_registries.is_some()
        || input.service_connect_configuration.is_some();
    if !is_asked {
        return Ok(None);
    }
    let definition = match given {
        Some(given) => read_definition(ecs, view, caller, Some(given))?,
        None => {
            let row = view.task_definitions.get(caller.account, &revision.definition);
            Arc::clone(row.ok_or(Refusal::NoSuchTaskDefinition)?)
        }
    };
    let capacity = match input.capacity_provider_strategy.as_deref() {
        None => revision.capacity.clone(),
        // Back from providers to the launch type that they stand for.
        Some([]) => RevisionCapacity::Launch(revision.capacity.launch()),
        Some(items) => read_capacity(None, Some(items), cluster)?,
    };
    let is_fargate = capacity.launch() == LaunchType::Fargate;
    let platform = platform.or(revision.platform_version.as_deref().filter(|_| is_fargate));
    let network = match &input.network_configuration {
        Some(given) => Some(given.clone()),
        None => render_network(revision.network.as_ref())?,
    };
    let active = definition.status == TaskDefinitionStatus::Active;
    let workload =
        Workload::new(ecs, view, caller, definition, capacity, platform, network.as_ref())?;
    let workload = match input.load_balancers.as_deref() {
        Some(given) => workload.balanced(view, &revision.scope, given)?,
        None => workload.balanced_as_before(view, revision)?,
    };
    let workload = match input.service_registries.as_deref() {
        Some(given) => workload.registered(view, &revision.scope, given)?,
        None => workload.registered_as_before(&revision.registries)?,
    };
    let before = connect::render(revision.connect.as_ref())?;
    let connected = input.service_connect_configuration.as_ref().or(before.as_ref());
    let workload = workload.connected(it, connected)?;
    if !is_forced && workload.is_that_of(revision) {
        return Ok(None);
    }
    if !active {
        return Err(Refusal::client("TaskDefinition is inactive").into());
    }
    Ok(Some(workload))
}

/// That the service's load balancers, those of the revision to come, are such as its strategy needs, and that none are
/// left that have traffic.
fn check_shifting(
    view: &View,
    service: &Service,
    workload: Option<&Workload>,
    revision: Option<&ServiceRevision>,
) -> Result<(), ApiError> {
    let before = revision.map_or(&[][..], |revision| &revision.load_balancers);
    let next = workload.map_or(before, |workload| &workload.load_balancers);
    check_balancers(&service.deployment, next)?;
    let live: Vec<_> = view.deployments_of(service.scope.account, &service.key()).collect();
    let primary = live.iter().find(|row| row.rank == Rank::Primary);
    match primary.filter(|row| Some(row.revision) == revision.map(|it| it.id)) {
        Some(row) => {
            // One that is not done is undone when another begins: then those before it serve.
            let blue = live.iter().find(|it| Some(it.id) == blue_of(row));
            check_left(&service.scope, before, &blue.unwrap_or(row).groups, next)
        }
        None => Ok(()),
    }
}

/// The deployment that traffic goes back to if this one is not gone on with.
fn blue_of(row: &Deployment) -> Option<DeploymentId> {
    let is_done = matches!(row.stage, Stage::Completed | Stage::Restoring | Stage::RestoreFailed);
    let shift = row.shift.as_ref().filter(|_| !is_done)?;
    shift.from.filter(|_| shift.stage < Lifecycle::CleanUp)
}

/// Tasks that commands are executed in have a task role: said when it is turned on, and when what
/// tasks are made of changes.
fn check_execute_command(
    view: &View,
    service: &Service,
    workload: Option<&Workload>,
    revision: Option<&ServiceRevision>,
    input: &api::UpdateServiceRequest,
) -> Result<(), ApiError> {
    const WHAT: &str = "The service couldn't be updated";
    let is_asked = input.enable_execute_command == Some(true);
    match (workload, revision) {
        (Some(workload), _) if service.enable_execute_command => {
            workload.check_execute_command(WHAT)
        }
        (None, Some(revision)) if is_asked => {
            let account = service.scope.account;
            let definition = view.task_definitions.get(account, &revision.definition);
            match definition.is_some_and(|definition| definition.task_role.is_none()) {
                true => Err(execute_command_needs_role(WHAT)),
                false => Ok(()),
            }
        }
        (Some(_) | None, _) => Ok(()),
    }
}

/// The service with everything that needs no deployment.
fn change(
    ecs: &Ecs,
    view: &View,
    caller: &Caller,
    before: &Service,
    workload: Option<&Workload>,
    kind: LaunchType,
    input: &api::UpdateServiceRequest,
) -> Result<Service, ApiError> {
    let mut service = before.clone();
    let is_daemon = service.scheduling == Scheduling::Daemon;
    let refuse = |message: &str| Err(Refusal::invalid(message).into());
    if let Some(count) = input.desired_count {
        if is_daemon {
            return refuse(DAEMON_COUNT);
        }
        service.desired_count = read_desired(ecs, count)?;
    }
    if is_daemon && input.placement_strategy.as_ref().is_some_and(|given| !given.is_empty()) {
        return refuse(DAEMON_STRATEGY);
    }
    if let Some(workload) = workload.filter(|_| is_daemon) {
        check_daemon_capacity(workload)?;
    }
    service.deployment = read_settings(
        input.deployment_configuration.as_ref(),
        &service.deployment,
        service.scheduling,
        service.controller,
    )?;
    if !hooks_of(input.deployment_configuration.as_ref()).is_empty() {
        check_hooks(ecs, view, caller, &service.cluster, &service.deployment)?;
    }
    place(view, caller, &mut service, workload, kind, input)?;
    if let Some(grace) = read_grace(input.health_check_grace_period_seconds)? {
        service.health_check_grace_s = Some(grace);
    }
    if let Some(propagate) = &input.propagate_tags {
        service.propagate = read_propagate(propagate)?;
    }
    if let Some(is_on) = input.enable_ecs_managed_tags {
        service.enable_managed_tags = is_on;
    }
    if let Some(is_on) = input.enable_execute_command {
        service.enable_execute_command = is_on;
    }
    // It stays as it is, unless the service is no longer one whose zones can be balanced: most have
    // it on by default, and nobody should have to turn off what they never asked for.
    let (asked, kept) = (input.availability_zone_rebalancing.as_ref(), service.is_zone_rebalanced);
    service.is_zone_rebalanced = read_rebalancing(asked, &service, kind, kept)?;
    Ok(service)
}

/// Placement is read again even if it stays: the capacity or the definition may not.
fn place(
    view: &View,
    caller: &Caller,
    service: &mut Service,
    workload: Option<&Workload>,
    kind: LaunchType,
    input: &api::UpdateServiceRequest,
) -> Result<(), ApiError> {
    let current = || {
        let id = service.revision?;
        let revision = view.revision_of(caller.account, &service.key(), id)?;
        view.task_definitions.get(caller.account, &revision.definition)
    };
    let definition = workload.map(|workload| &workload.definition).or_else(current);
    let defined = definition.map_or(0, |row| row.placement_expressions.len());
    let constraints = match &input.placement_constraints {
        Some(given) => given.clone(),
        None => render_constraints(&service.constraints),
    };
    let strategies = match &input.placement_strategy {
        Some(given) => given.clone(),
        None => render_strategies(&service.strategies),
    };
    service.constraints = read_constraints(&constraints, defined, kind)?;
    service.strategies = read_strategies(&strategies, kind)?;
    Ok(())
}

/// Begins a deployment; the one before steps back.
fn deploy(
    ecs: &Ecs,
    view: &View,
    batch: &mut Batch,
    service: &mut Service,
    workload: &Workload,
    now: Timestamp,
) -> Result<(), ApiError> {
    let (account, id) = (service.scope.account, service.key());
    let revision = workload.revision(ecs, view, service.scope.clone(), &id, now)?;
    let shown = ServiceRenderer::of(ecs, view, service);
    let live = || view.deployments_of(account, &id).filter(|row| row.rank < Rank::Gone);
    let sources = live().filter_map(|row| {
        let counts = shown.counts(row);
        let is_there = row.rank == Rank::Primary || counts.running + counts.pending > 0;
        is_there.then_some(SourceRevision {
            revision: row.revision,
            requested: counts.desired,
            running: counts.running,
            pending: counts.pending,
        })
    });
    let sources: Vec<SourceRevision> = sources.collect();
    let deployment = first_step(ecs, service, &revision, sources, now);
    for row in live().filter(|row| row.rank == Rank::Primary) {
        // What becomes of its record is the reconciler's to say.
        let mut row = Deployment::clone(row);
        row.rank = Rank::Active;
        row.updated_at = now;
        row.version += 1;
        batch.put(row);
    }
    batch.rely(Index::ServiceTasks(account, id));
    service.revision = Some(revision.id);
    workload.write_beside(batch, account);
    batch.put(revision);
    batch.put(deployment);
    Ok(())
}
