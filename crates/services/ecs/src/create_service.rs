//! CreateService: a promise is written down; the reconciler keeps it.
//!
//! The same request again finds the service that it made. A name belongs to one service of a
//! cluster until that is inactive.

use aws_wire::{ApiError, Caller};
use control::access::principal_arn;
use control::iam::linked;
use ecs_api as api;
use longshore_types::{DeploymentId, ServiceDeploymentId, ServiceName, Timestamp};
use model::service::{
    Controller, Deployment, PlacementConstraint, PlacementStrategy, RevisionCapacity, Scheduling,
    ServiceNotes, ServiceStatus, SourceRevision,
};
use model::task::LaunchType;
use model::{
    ClientToken, Cluster, Key, NetworkMode, Record as _, Service, ServiceEvents, ServiceId,
    ServiceRevision, View,
};
use store::{BATCH_ROWS_MAX, Batch};

use super::account_settings::effective;
use super::client_token;
use super::render_service::{ServiceRenderer, as_written};
use super::service_spec::unsupported::Ties;
use super::service_spec::{
    self as spec, Workload, ZONE_FIELD, connect, read_capacity, read_constraints, read_definition,
    read_desired, read_grace, read_propagate, read_settings, read_strategies,
};
use crate::Ecs;
use crate::errors::Refusal;
use crate::permissions::{TaskRequest, hooks_of};
use crate::tags;

const TOKEN_CHARS_MAX: usize = 36;
/// The role that ECS itself acts with on networks.
const SERVICE_LINKED_ROLE: &str = "aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS";

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::CreateServiceRequest,
) -> Result<api::CreateServiceResponse, ApiError> {
    let permission = ecs.within(
        caller,
        "ecs:CreateService",
        "service",
        input.cluster.as_deref(),
        &input.service_name,
    );
    let tags = tags::read(input.tags.clone())?;
    let permission = match permission.resources.first().cloned() {
        Some(arn) => ecs.tagging(caller, permission, arn, &tags),
        None => permission,
    };
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
        let (batch, id) = decide(ecs, caller, &input, view, now)?;
        let view = as_written(view, &batch);
        Ok((batch, (view, id)))
    };
    let (view, id) = ecs.control.decide(decide).await?;
    let service = view.services.get(caller.account, &id).ok_or(Refusal::ServiceNotFound)?;
    Ok(api::CreateServiceResponse {
        service: Some(ServiceRenderer::of(ecs, &view, service).render(true)?),
    })
}

fn decide(
    ecs: &Ecs,
    caller: &Caller,
    input: &api::CreateServiceRequest,
    view: &View,
    now: Timestamp,
) -> Result<(Batch, ServiceId), ApiError> {
    let mut batch = Batch::on(view);
    let cluster = ecs.cluster(view, caller, input.cluster.as_deref())?;
    batch.rely(Key::Cluster(caller.account, cluster.name.clone()));
    let id = ServiceId { cluster: cluster.name.clone(), name: read_name(input)? };
    let token = token(caller, input, cluster, ecs, now)?;
    if let Some(token) = &token
        && let Some(id) = earlier_use(view, token, cluster, now)?
    {
        return Ok((batch, id));
    }
    let (service, workload) = read(ecs, view, caller, cluster, &id, input, now)?;
    let before = view.services.get(caller.account, &id);
    match before.map(|before| (before, before.status)) {
        Some((before, ServiceStatus::Active)) => {
            check_same(view, before, &service, workload.as_ref())?;
            return Ok((batch, id));
        }
        Some((_, ServiceStatus::Draining)) => {
            let message = "Unable to Start a service that is still Draining.";
            return Err(Refusal::invalid(message).into());
        }
        Some((_, ServiceStatus::Inactive)) => forget(view, caller, &id, &mut batch),
        None => {}
    }
    let max = ecs.control.config.limits.services_per_cluster_max;
    let others = view.services_of_cluster(caller.account, &cluster.name);
    if max <= others.filter(|other| other.status < ServiceStatus::Inactive).count() {
        let message = format!("The limit of {max} services for this cluster has been reached.");
        return Err(Refusal::invalid(message).into());
    }
    ecs.control.make_linked(view, caller, linked::ECS, now, &mut batch);
    put(ecs, view, &mut batch, service, workload, now)?;
    if let Some(token) = token {
        batch.put(ClientToken { made: vec![id.name.to_string()], ..token });
    }
    Ok((batch, id))
}

fn read_name(input: &api::CreateServiceRequest) -> Result<ServiceName, ApiError> {
    let name = input.service_name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err(Refusal::invalid("Service name can not be blank.").into());
    }
    name.parse().map_err(|why| {
        Refusal::invalid(format!("Invalid service name '{name}': a service name must be {why}."))
            .into()
    })
}

/// The service that is asked for, and what its tasks look like unless others say so.
fn read(
    ecs: &Ecs,
    view: &View,
    caller: &Caller,
    cluster: &Cluster,
    id: &ServiceId,
    input: &api::CreateServiceRequest,
    now: Timestamp,
) -> Result<(Service, Option<Workload>), ApiError> {
    check_ties(input)?;
    let scheduling = read_scheduling(input)?;
    let controller = read_controller(input, scheduling)?;
    let workload = match controller {
        Controller::Ecs => {
            let scope = &ecs.control.scope(caller);
            let ids = ecs.control.ids.as_ref();
            let control = ecs.control.as_ref();
            let it = connect::For { view, scope, cluster, service: id, control, ids, now };
            let workload = read_workload(ecs, view, caller, cluster, input)?;
            Some(workload.connected(it, input.service_connect_configuration.as_ref())?)
        }
        Controller::External => {
            check_external(input)?;
            None
        }
    };
    let kind = workload.as_ref().map_or(LaunchType::Ec2, Workload::kind);
    if let Some(workload) = workload.as_ref().filter(|_| input.enable_execute_command == Some(true))
    {
        workload.check_execute_command("The service couldn't be created")?;
    }
    check_daemon(input, scheduling, workload.as_ref())?;
    let defined = workload.as_ref().map_or(0, |it| it.definition.placement_expressions.len());
    let constraints = read_constraints(
        input.placement_constraints.as_deref().unwrap_or_default(),
        defined,
        kind,
    )?;
    let strategies =
        read_strategies(input.placement_strategy.as_deref().unwrap_or_default(), kind)?;
    let deployment = read_settings(
        input.deployment_configuration.as_ref(),
        &spec::defaults(scheduling),
        scheduling,
        controller,
    )?;
    spec::check_hooks(ecs, view, caller, &cluster.name, &deployment)?;
    spec::check_balancers(
        &deployment,
        workload.as_ref().map_or(&[][..], |workload| &workload.load_balancers),
    )?;
    let mut service = Service {
        scope: ecs.control.scope(caller),
        cluster: id.cluster.clone(),
        name: id.name.clone(),
        status: ServiceStatus::Active,
        scheduling,
        controller,
        desired_count: read_count(ecs, input, scheduling, controller)?,
        revision: None,
        deployment,
        constraints,
        strategies,
        health_check_grace_s: read_grace(input.health_check_grace_period_seconds)?,
        is_zone_rebalanced: false,
        enable_managed_tags: input.enable_ecs_managed_tags.unwrap_or(false),
        propagate: input
            .propagate_tags
            .as_ref()
            .map(read_propagate)
            .transpose()?
            .unwrap_or_default(),
        enable_execute_command: input.enable_execute_command.unwrap_or(false),
        role: read_role(ecs, caller, input, workload.as_ref())?,
        tags: read_tags(view, caller, input)?,
        created_at: now,
        created_by: principal_arn(caller),
        deleted_at: None,
        version: 1,
    };
    service.is_zone_rebalanced =
        read_rebalancing(input.availability_zone_rebalancing.as_ref(), &service, kind, true)?;
    Ok((service, workload))
}

fn check_ties(input: &api::CreateServiceRequest) -> Result<(), ApiError> {
    Ties {
        load_balancers: input.load_balancers.as_deref().filter(|_| is_external(input)),
        service_registries: input.service_registries.as_deref().filter(|_| is_external(input)),
        service_connect: input
            .service_connect_configuration
            .as_ref()
            .filter(|_| is_external(input)),
        volumes: input.volume_configurations.as_deref(),
        vpc_lattice: input.vpc_lattice_configurations.as_deref(),
        gateway_connectors: input.gateway_connectors.as_deref(),
        monitoring: input.monitoring.as_ref(),
    }
    .check()
}

fn is_external(input: &api::CreateServiceRequest) -> bool {
    let given = input.deployment_controller.as_ref().and_then(|given| given.r#type.as_ref());
    given == Some(&api::DeploymentControllerType::External)
}

fn read_scheduling(input: &api::CreateServiceRequest) -> Result<Scheduling, ApiError> {
    match &input.scheduling_strategy {
        None | Some(api::SchedulingStrategy::Replica) => Ok(Scheduling::Replica),
        Some(api::SchedulingStrategy::Daemon) => Ok(Scheduling::Daemon),
        Some(_) => {
            let message = "scheduling strategy should be one of [REPLICA,DAEMON]";
            Err(Refusal::invalid(message).into())
        }
    }
}

fn read_controller(
    input: &api::CreateServiceRequest,
    scheduling: Scheduling,
) -> Result<Controller, ApiError> {
    let given = input.deployment_controller.as_ref().and_then(|given| given.r#type.as_ref());
    match given {
        None | Some(api::DeploymentControllerType::Ecs) => Ok(Controller::Ecs),
        Some(api::DeploymentControllerType::External) if scheduling == Scheduling::Daemon => {
            let message = "The daemon scheduling strategy does not support the EXTERNAL deployment \
                           controller. Change the deployment controller and try again";
            Err(Refusal::invalid(message).into())
        }
        Some(api::DeploymentControllerType::External) => Ok(Controller::External),
        Some(api::DeploymentControllerType::CodeDeploy) => Err(Refusal::unsupported(
            "The deployment controller CODE_DEPLOY is not supported by this region: it has no \
             CodeDeploy.",
        )
        .into()),
        Some(_) => {
            let message = "deployment controller should be one of [ECS,CODE_DEPLOY,EXTERNAL]";
            Err(Refusal::invalid(message).into())
        }
    }
}

fn read_workload(
    ecs: &Ecs,
    view: &View,
    caller: &Caller,
    cluster: &Cluster,
    input: &api::CreateServiceRequest,
) -> Result<Workload, ApiError> {
    let strategy = input.capacity_provider_strategy.as_deref();
    Workload::new(
        ecs,
        view,
        caller,
        read_definition(ecs, view, caller, input.task_definition.as_deref())?,
        read_capacity(input.launch_type.as_ref(), strategy, cluster)?,
        input.platform_version.as_deref(),
        input.network_configuration.as_ref(),
    )?
    .balanced(
        view,
        &ecs.control.scope(caller),
        input.load_balancers.as_deref().unwrap_or_default(),
    )?
    .registered(
        view,
        &ecs.control.scope(caller),
        input.service_registries.as_deref().unwrap_or_default(),
    )
}

/// What belongs to task sets is not given with the service.
fn check_external(input: &api::CreateServiceRequest) -> Result<(), ApiError> {
    let is_text = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let strategy = input.capacity_provider_strategy.as_ref();
    for (is_given, what) in [
        (is_text(&input.task_definition), "a task definition"),
        (input.launch_type.is_some(), "a launch type"),
        (strategy.is_some_and(|items| !items.is_empty()), "a capacity provider strategy"),
        (is_text(&input.platform_version), "a platform version"),
        (input.network_configuration.is_some(), "a network configuration"),
    ] {
        if is_given {
            let message = format!(
                "You cannot specify {what} when creating a service with an EXTERNAL deployment \
                 controller. Specify it in a task set instead."
            );
            return Err(Refusal::invalid(message).into());
        }
    }
    Ok(())
}

fn check_daemon(
    input: &api::CreateServiceRequest,
    scheduling: Scheduling,
    workload: Option<&Workload>,
) -> Result<(), ApiError> {
    if scheduling != Scheduling::Daemon {
        return Ok(());
    }
    let refuse = |message: &str| Err(Refusal::invalid(message).into());
    if input.desired_count.is_some() {
        return refuse(DAEMON_COUNT);
    }
    if input.placement_strategy.as_ref().is_some_and(|strategy| !strategy.is_empty()) {
        return refuse(DAEMON_STRATEGY);
    }
    workload.map_or(Ok(()), check_daemon_capacity)
}

/// Daemons are on the cluster's instances, whichever pools these belong to.
pub(super) fn check_daemon_capacity(workload: &Workload) -> Result<(), ApiError> {
    let message = match workload.capacity {
        RevisionCapacity::Strategy(_) => {
            "Specifying a capacity provider strategy is not supported when you create a service \
             using the DAEMON scheduling strategy."
        }
        RevisionCapacity::Launch(LaunchType::Fargate) => {
            "The daemon scheduling strategy does not support the FARGATE launch type. Change the \
             launch type and try again"
        }
        RevisionCapacity::Launch(LaunchType::Ec2 | LaunchType::External) => return Ok(()),
    };
    Err(Refusal::invalid(message).into())
}

pub(super) const DAEMON_COUNT: &str = "The daemon scheduling strategy does not support a desired \
                                       count for services. Remove the desired count value and try \
                                       again";
pub(super) const DAEMON_STRATEGY: &str = "The daemon scheduling strategy does not support \
                                          placement strategies. Remove the placement strategy and \
                                          try again";

fn read_count(
    ecs: &Ecs,
    input: &api::CreateServiceRequest,
    scheduling: Scheduling,
    controller: Controller,
) -> Result<u32, ApiError> {
    match (input.desired_count, scheduling, controller) {
        (Some(count), Scheduling::Replica, _) => read_desired(ecs, count),
        (_, Scheduling::Daemon, _) | (None, Scheduling::Replica, Controller::External) => Ok(0),
        (None, Scheduling::Replica, Controller::Ecs) => {
            let message = "desiredCount is required with the REPLICA scheduling strategy.";
            Err(Refusal::invalid(message).into())
        }
    }
}

/// A role is for load balancers; where ECS acts on networks it acts with its own.
fn read_role(
    ecs: &Ecs,
    caller: &Caller,
    input: &api::CreateServiceRequest,
    workload: Option<&Workload>,
) -> Result<Option<String>, ApiError> {
    let needs_linked =
        workload.is_none_or(|workload| workload.definition.network_mode == NetworkMode::Awsvpc);
    let balancers = workload.map_or(0, |workload| workload.load_balancers.len());
    let role = input.role.as_ref().filter(|role| !role.is_empty());
    if let Some(role) = role.filter(|_| balancers == 1 && !needs_linked) {
        return Ok(Some(match role.starts_with("arn:") {
            true => role.clone(),
            false => format!("arn:aws:iam::{}:role/{role}", caller.account),
        }));
    }
    if role.is_some() {
        let message = match needs_linked {
            true => {
                "You cannot specify an IAM role for services that require a service linked role."
            }
            false if balancers > 1 => {
                "You cannot specify an IAM role for services with several target groups: they require a service linked role."
            }
            false => "A role was passed, but no load balancers were present.",
        };
        return Err(Refusal::invalid(message).into());
    }
    let account = ecs.control.scope(caller).account;
    Ok((needs_linked || balancers > 0)
        .then(|| format!("arn:aws:iam::{account}:role/{SERVICE_LINKED_ROLE}")))
}

fn read_tags(
    view: &View,
    caller: &Caller,
    input: &api::CreateServiceRequest,
) -> Result<model::Tags, ApiError> {
    let tags = tags::read(input.tags.clone())?;
    if !tags.is_empty() && effective(view, caller, "serviceLongArnFormat") == "disabled" {
        let message = "The new ARN and resource ID format must be enabled to add tags to the \
                       service. Opt in to the new format and try again.";
        return Err(Refusal::invalid(message).into());
    }
    Ok(tags)
}

/// Whether a service's tasks are moved between zones: by default they are, if they can be.
pub(super) fn read_rebalancing(
    given: Option<&api::AvailabilityZoneRebalancing>,
    service: &Service,
    kind: LaunchType,
    default: bool,
) -> Result<bool, ApiError> {
    let obstacle = rebalancing_obstacle(service, kind);
    match given {
        Some(api::AvailabilityZoneRebalancing::Disabled) => Ok(false),
        None => Ok(default && obstacle.is_none()),
        Some(api::AvailabilityZoneRebalancing::Enabled) => match obstacle {
            None => Ok(true),
            Some(why) => {
                let message = format!("Availability Zone rebalancing does not support {why}.");
                Err(Refusal::invalid(message).into())
            }
        },
        Some(_) => {
            let message = "availabilityZoneRebalancing should be one of [ENABLED,DISABLED]";
            Err(Refusal::invalid(message).into())
        }
    }
}

fn rebalancing_obstacle(service: &Service, kind: LaunchType) -> Option<&'static str> {
    let names_zone = |rule: &PlacementConstraint| match rule {
        PlacementConstraint::MemberOf(text) => text.contains(ZONE_FIELD),
        PlacementConstraint::DistinctInstance => false,
    };
    if service.scheduling == Scheduling::Daemon {
        return Some("the DAEMON scheduling strategy");
    }
    if service.controller == Controller::External {
        return Some("the EXTERNAL deployment controller");
    }
    if kind == LaunchType::External {
        return Some("the EXTERNAL launch type");
    }
    if service.deployment.percent_max <= 100 {
        return Some("a maximumPercent of 100");
    }
    match service.strategies.first() {
        None => {}
        Some(PlacementStrategy::Spread(field)) if field == ZONE_FIELD => {}
        Some(_) => {
            return Some("a placement strategy that does not spread by Availability Zone first");
        }
    }
    service
        .constraints
        .iter()
        .any(names_zone)
        .then_some("placement constraints on attribute:ecs.availability-zone")
}

/// Writes a service with its first revision and deployment.
fn put(
    ecs: &Ecs,
    view: &View,
    batch: &mut Batch,
    mut service: Service,
    workload: Option<Workload>,
    now: Timestamp,
) -> Result<(), ApiError> {
    let id = service.key();
    if let Some(workload) = workload {
        let account = service.scope.account;
        batch.rely(Key::TaskDefinition(account, workload.definition.id.clone()));
        let revision = workload.revision(ecs, view, service.scope.clone(), &id, now)?;
        service.revision = Some(revision.id);
        workload.write_beside(batch, account);
        batch.put(first_step(ecs, &service, &revision, vec![], now));
        batch.put(revision);
    }
    batch.put(ServiceEvents {
        scope: service.scope.clone(),
        cluster: id.cluster,
        service: id.name,
        events: vec![],
        notes: ServiceNotes::default(),
    });
    batch.put(service);
    Ok(())
}

/// A deployment that nothing was done for yet.
pub(super) fn first_step(
    ecs: &Ecs,
    service: &Service,
    revision: &ServiceRevision,
    sources: Vec<SourceRevision>,
    now: Timestamp,
) -> Deployment {
    let ids = ecs.control.ids.as_ref();
    let (id, record) = (DeploymentId::mint(ids), ServiceDeploymentId::mint(ids));
    Deployment { sources, ..Deployment::new(service, id, Some(record), revision.id, now) }
}

/// Takes away what an inactive service of the same name left behind; what is too much for one batch
/// is left to the sweeper.
fn forget(view: &View, caller: &Caller, id: &ServiceId, batch: &mut Batch) {
    const ROOM_LEFT: usize = 16;
    let account = caller.account;
    let deployments =
        view.deployments_of(account, id).map(|row| Key::Deployment(account, row.id()));
    let revisions =
        view.revisions_of(account, id).map(|row| Key::ServiceRevision(account, row.id()));
    let task_sets = view.task_sets_of(account, id).map(|row| Key::TaskSet(account, row.id()));
    // Deployments last: what is left is found by them.
    let keys = task_sets.chain(revisions).chain(deployments);
    batch.deletes.extend(keys.take(BATCH_ROWS_MAX - ROOM_LEFT));
}

/// Whether a service is what a request asks for once more.
fn check_same(
    view: &View,
    before: &Service,
    asked: &Service,
    workload: Option<&Workload>,
) -> Result<(), ApiError> {
    let asked = Service {
        revision: before.revision,
        created_at: before.created_at,
        created_by: before.created_by.clone(),
        version: before.version,
        ..asked.clone()
    };
    let account = before.scope.account;
    let revision = before.revision.and_then(|id| view.revision_of(account, &before.key(), id));
    let is_same_work = match (workload, revision) {
        (None, None) => true,
        (Some(workload), Some(revision)) => workload.is_that_of(revision),
        (None, Some(_)) | (Some(_), None) => false,
    };
    if asked == *before && is_same_work {
        return Ok(());
    }
    Err(Refusal::invalid("Creation of service was not idempotent.").into())
}

/// The token with the digest of all else in the request.
fn token(
    caller: &Caller,
    input: &api::CreateServiceRequest,
    cluster: &Cluster,
    ecs: &Ecs,
    now: Timestamp,
) -> Result<Option<ClientToken>, ApiError> {
    let Some(token) = client_token::read(input.client_token.as_deref(), TOKEN_CHARS_MAX)? else {
        return Ok(None);
    };
    let request = api::CreateServiceRequest { client_token: None, ..input.clone() };
    let operation = format!("CreateService {}", cluster.name);
    Ok(Some(client_token::row(ecs, caller, operation, token, &request, now)))
}

/// The service that an earlier use of the token made, if it is still there.
fn earlier_use(
    view: &View,
    token: &ClientToken,
    cluster: &Cluster,
    now: Timestamp,
) -> Result<Option<ServiceId>, ApiError> {
    let Some(earlier) = client_token::earlier_same(view, token, now)? else { return Ok(None) };
    let name = earlier.made.first().and_then(|name| name.parse().ok());
    let id = name.map(|name| ServiceId { cluster: cluster.name.clone(), name });
    let is_there = |id: &ServiceId| {
        let row = view.services.get(token.account, id);
        row.is_some_and(|row| row.status < ServiceStatus::Inactive)
    };
    Ok(id.filter(is_there))
}
