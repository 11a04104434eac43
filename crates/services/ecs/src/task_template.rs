//! What RunTask and StartTask share: a request read into a [`TaskTemplate`], and tasks made of it.
//!
//! Reading comes first and refuses; what is left then is one decision: [`TaskTemplate::make`] gives a task's
//! row for a place that was found, and [`control::tasks::put_task`] writes it together with what it holds.
//!
//! **Invariant:** a task's address is written in the same batch as the task, and taken back in the
//! same batch in which the task stops.

mod capacity;
mod network;
mod overrides;
pub(crate) mod rules;
mod service;

use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use aws_wire::ApiError;
use ecs_api as api;
use longshore_types::{
    AccountId, ClusterName, CpuUnits, EniId, InstanceId, MemoryMib, Resources, Scope, SubnetId,
    TaskId, Timestamp, Uuid,
};
use model::network::Network;
use model::table::Record as _;
use model::task::{
    Asked, AskedContainer, AttachmentPhase, Container, ContainerOverride, Desired, HostPort,
    LaunchType, Need, Overrides, Phase, SeenContainer, Task, TaskInterface, TaskService, Times,
};
use model::vpc::{self, Interface, InterfaceUser, Subnet, region_account};
use model::{
    ClientToken, Cluster, Compatibility, ContainerNeeds, Index, NetworkMode, ServiceRevision, Tags,
    TaskDefinition, TaskDefinitionStatus, View,
};
use store::Batch;

use super::client_token;
use crate::Ecs;
use crate::errors::Refusal;
use crate::gpus;
use crate::task_definition::{ENVIRONMENT_FILES, ROUTERS_OF_S3};

pub(super) use capacity::Capacity;
pub(super) use network::{NetworkRequest, read as read_network};
pub(crate) use service::{TaskSource, stored_network};

/// The platform that Fargate tasks are shown on.
const PLATFORM_VERSION: &str = "1.4.0";
/// Ephemeral storage of a Fargate task that asks for none.
const EPHEMERAL_STORAGE_GIB: u32 = 20;
const STARTED_BY_CHARS_MAX: usize = 128;
const GROUP_CHARS_MAX: usize = 255;

/// The members that both requests have.
#[derive(Debug, Default)]
pub(super) struct Common {
    pub(super) task_definition: Option<String>,
    pub(super) enable_ecs_managed_tags: Option<bool>,
    pub(super) enable_execute_command: Option<bool>,
    pub(super) group: Option<String>,
    pub(super) network_configuration: Option<api::NetworkConfiguration>,
    pub(super) overrides: Option<api::TaskOverride>,
    pub(super) propagate_tags: Option<api::PropagateTags>,
    pub(super) started_by: Option<String>,
    pub(super) tags: Option<Vec<api::Tag>>,
    pub(super) volume_configurations: Option<Vec<api::TaskVolumeConfiguration>>,
}

/// Everything that makes the tasks of one request alike.
#[derive(Debug)]
pub(crate) struct TaskTemplate<'v> {
    pub(crate) scope: Scope,
    pub(crate) cluster: ClusterName,
    pub(crate) definition: &'v TaskDefinition,
    pub(crate) kind: LaunchType,
    platform_version: Option<String>,
    pub(crate) group: String,
    started_by: Option<String>,
    tags: Tags,
    overrides: Overrides,
    enable_execute_command: bool,
    network: Option<NetworkRequest>,
    pub(crate) need: Need,
    cpu: Option<CpuUnits>,
    memory: Option<MemoryMib>,
    /// The definition as it was registered.
    document: Arc<api::TaskDefinition>,
    /// For tasks that a service makes.
    service: Option<TaskService>,
    /// Its digests are what images are pinned to.
    revision: Option<Arc<ServiceRevision>>,
    /// Made of all this for the first task.
    asked: OnceLock<LaunchAsked>,
}

/// What the tasks of one request have in common, kept once for all of them.
#[derive(Debug)]
struct LaunchAsked {
    task: Arc<Asked>,
    containers: Vec<Arc<AskedContainer>>,
}

/// Where one task goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// `None`: it waits for capacity.
    pub(crate) instance: Option<InstanceId>,
    /// The instance's zone, or the one that is preferred; a task with an interface is in its subnet's.
    pub(crate) zone: Option<String>,
    pub(crate) capacity_provider: Option<String>,
}

impl<'v> TaskTemplate<'v> {
    /// Reads and checks what both requests have in common.
    pub(super) fn read(
        ecs: &Ecs,
        view: &'v View,
        caller: &aws_wire::Caller,
        cluster: &Cluster,
        kind: LaunchType,
        platform_version: Option<&str>,
        common: &Common,
    ) -> Result<Self, ApiError> {
        let definition = definition(ecs, view, caller, common.task_definition.as_deref())?;
        check_runnable(ecs, definition, kind)?;
        if common.volume_configurations.as_ref().is_some_and(|volumes| !volumes.is_empty()) {
            let message = "volumeConfigurations are not supported by this region.";
            return Err(Refusal::client(message).into());
        }
        let overrides = overrides::read(ecs, common.overrides.as_ref(), definition, kind)?;
        let has_role = definition.task_role.is_some() || overrides.task_role_arn.is_some();
        if common.enable_execute_command == Some(true) && !has_role {
            return Err(execute_command_needs_role("The task couldn't be run"));
        }
        let cpu = overrides::cpu(&overrides).or(definition.cpu);
        let memory = overrides::memory(&overrides).or(definition.memory);
        let given = common.network_configuration.as_ref();
        let network = ecs.control.network(view, caller.account);
        let network = network::read(given, definition, kind, &network)?;
        Ok(Self {
            scope: ecs.control.scope(caller),
            cluster: cluster.name.clone(),
            kind,
            platform_version: platform_version_of(kind, platform_version)?,
            group: group(common.group.as_deref(), definition)?,
            started_by: started_by(common.started_by.as_deref())?,
            tags: tags(common, definition, &cluster.name)?,
            enable_execute_command: common.enable_execute_command.unwrap_or(false),
            network,
            need: need(definition, &overrides, cpu, memory),
            cpu,
            memory,
            overrides,
            document: ecs
                .documents
                .read(definition)
                .map_err(|error| ApiError::fault("failed to read the task definition", error))?,
            definition,
            service: None,
            revision: None,
            asked: OnceLock::new(),
        })
    }

    /// A task's row, and the address it gets in `batch`.
    pub(crate) fn make(
        &self,
        ecs: &Ecs,
        view: &View,
        batch: &mut Batch,
        place: Place,
        now: Timestamp,
    ) -> Result<Task, ApiError> {
        let ids = ecs.control.ids.as_ref();
        let id = TaskId::mint_at(ids, now);
        let asked = self.asked();
        let containers = asked.containers.iter().map(|asked| Container {
            id: Uuid::mint(ids),
            asked: Arc::clone(asked),
            seen: SeenContainer::default(),
            gpus: Vec::new(),
        });
        let interface = match &self.network {
            None => None,
            Some(request) => {
                let zone = place.zone.as_deref();
                Some(self.interface(request, ecs, view, batch, id, zone, now)?)
            }
        };
        let (zone, interface) = match interface {
            Some((zone, interface)) => (Some(zone), Some(interface)),
            None => (place.zone, None),
        };
        let waits = interface.is_some() || place.instance.is_none();
        let mut task = Task {
            id,
            asked: Arc::clone(&asked.task),
            capacity_provider: place.capacity_provider.map(Arc::from),
            service: self.service.clone(),
            protected_until: None,
            zone: zone.map(Arc::from),
            instance: place.instance,
            waiting: None,
            desired: Desired::Running,
            stop_cause: None,
            phase: if waits { Phase::Provisioning } else { Phase::Pending },
            interface: interface.map(Box::new),
            containers: containers.collect(),
            times: Times { created: now, ..Times::default() },
            version: 1,
        };
        if let Some(instance) = place.instance
            && !gpus::pin(view, batch, self.definition, instance, &mut task)
        {
            return Err(Refusal::client("There are too few free GPUs on the instance.").into());
        }
        Ok(task)
    }

    /// What all its tasks have in common.
    fn asked(&self) -> &LaunchAsked {
        self.asked.get_or_init(|| LaunchAsked {
            task: Arc::new(self.asked_of_task()),
            containers: self
                .definition
                .containers
                .iter()
                .map(|each| Arc::new(self.asked_of_container(each)))
                .collect(),
        })
    }

    fn asked_of_task(&self) -> Asked {
        let is_fargate = self.kind == LaunchType::Fargate;
        let storage =
            self.overrides.ephemeral_storage_gib.or(self.definition.ephemeral_storage_gib);
        Asked {
            scope: self.scope.clone(),
            cluster: self.cluster.clone(),
            definition: self.definition.id.clone(),
            launch: self.kind,
            platform_version: self.platform_version.clone(),
            platform_family: is_fargate.then(|| "Linux".to_owned()),
            group: self.group.clone(),
            started_by: self.started_by.clone(),
            tags: self.tags.clone(),
            cpu: self.cpu,
            memory: self.memory,
            ephemeral_storage_gib: storage.or(is_fargate.then_some(EPHEMERAL_STORAGE_GIB)),
            enable_execute_command: self.enable_execute_command,
            overrides: self.overrides.clone(),
            need: self.need.clone(),
        }
    }

    fn asked_of_container(&self, needs: &ContainerNeeds) -> AskedContainer {
        let changed = self.overrides.of(needs.name.as_str()).cloned().unwrap_or_default();
        let ContainerOverride { cpu, memory, memory_reservation, .. } = changed;
        AskedContainer {
            name: needs.name.clone(),
            image: needs.image.clone(),
            essential: needs.essential,
            cpu: Some(cpu.map_or(needs.cpu, CpuUnits)),
            memory: memory.map(MemoryMib).or(needs.memory),
            memory_reservation: memory_reservation.map(MemoryMib).or(needs.memory_reservation),
            pinned_digest: self.digest_of(needs).map(str::to_owned),
            is_health_checked: self.is_health_checked(needs),
        }
    }

    fn digest_of(&self, needs: &ContainerNeeds) -> Option<&str> {
        self.revision.as_ref()?.digest_of(needs.name.as_str())
    }

    fn is_health_checked(&self, needs: &ContainerNeeds) -> bool {
        let containers = self.document.container_definitions.iter().flatten();
        let mut named = containers.filter(|each| each.name.as_deref() == Some(needs.name.as_str()));
        named.any(has_health_check)
    }

    /// A free address in one of the subnets that were named, in the zone if there is one; the seed
    /// follows from the task's id.
    #[expect(clippy::too_many_arguments, reason = "source of one decision")]
    fn interface(
        &self,
        request: &NetworkRequest,
        ecs: &Ecs,
        view: &View,
        batch: &mut Batch,
        task: TaskId,
        zone: Option<&str>,
        now: Timestamp,
    ) -> Result<(String, TaskInterface), ApiError> {
        let bytes = task.to_bytes();
        let seed = bytes.iter().take(8).fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        let taken_now: Vec<&Interface> = batch
            .writes
            .iter()
            .filter_map(|row| match row {
                model::Row::Interface(interface) => Some(interface.as_ref()),
                _ => None,
            })
            .collect();
        let is_taken = |address: Ipv4Addr| {
            let id = Network::interface_id(&request.vpc, address);
            view.interfaces.get(region_account(), &id).is_some()
                || taken_now.iter().any(|taken| taken.id() == id)
        };
        let mut subnets = request.subnets_by_seed(view, self.scope.account, &taken_now, seed);
        subnets.sort_by_key(|subnet| zone.is_some_and(|zone| subnet.zone != zone));
        let (subnet, address) = subnets
            .into_iter()
            .find_map(|subnet| Some((subnet, subnet.free_address(seed, is_taken)?)))
            .ok_or_else(|| no_free_address(&request.subnets))?;
        // In the default VPC the world knows a task by the address that it has.
        let has_public = request.assign_public_ip && !request.vpc.is_default;
        let public = has_public.then(|| {
            let is_taken_now = |it| taken_now.iter().any(|taken| taken.public == Some(it));
            let no_more = "There are no free public addresses left in this region's pool.";
            let found = view.free_public_address(seed, is_taken_now);
            found.ok_or_else(|| Refusal::client(no_more))
        });
        let public = public.transpose()?;
        let eni = EniId::mint(ecs.control.ids.as_ref());
        let attachment = Uuid::mint(ecs.control.ids.as_ref());
        let (mut row, interface) =
            self.interface_rows(request, subnet, address, eni, attachment, task, now);
        row.public = public;
        if let Some(public) = public {
            batch.rely(Index::PublicAddress(public));
        }
        // Neither the subnet nor a group that an interface is about to have must be deleted meanwhile.
        batch.rely(model::Key::Subnet(self.scope.account, row.subnet.clone()));
        for group in &row.security_groups {
            batch.rely(model::Key::SecurityGroup(self.scope.account, group.clone()));
        }
        batch.put(row);
        Ok((subnet.zone.clone(), interface))
    }

    #[expect(clippy::too_many_arguments, reason = "each is a fact of the interface, used once")]
    fn interface_rows(
        &self,
        request: &NetworkRequest,
        subnet: &Subnet,
        address: Ipv4Addr,
        eni: EniId,
        attachment: Uuid,
        task: TaskId,
        now: Timestamp,
    ) -> (Interface, TaskInterface) {
        let mac = vpc::mac_of(address);
        let row = Interface {
            address,
            eni: eni.clone(),
            owner: self.scope.clone(),
            user: InterfaceUser::Task { cluster: self.cluster.clone(), task, attachment },
            vpc: request.vpc.id.clone(),
            subnet: subnet.id.clone(),
            security_groups: request.security_groups.clone(),
            zone: subnet.zone.clone(),
            mac: mac.clone(),
            assign_public_ip: request.assign_public_ip,
            created_at: now,
            is_apart: !request.vpc.is_default,
            public: None,
        };
        let interface = TaskInterface {
            attachment,
            eni,
            subnet: subnet.id.clone(),
            security_groups: request.security_groups.clone(),
            address,
            mac,
            private_dns_name: vpc::private_dns_name(address, &self.scope.region),
            assign_public_ip: request.assign_public_ip,
            phase: AttachmentPhase::Precreated,
            own_vpc: request.own_vpc(),
        };
        (row, interface)
    }
}

pub(super) fn definition<'v>(
    ecs: &Ecs,
    view: &'v View,
    caller: &aws_wire::Caller,
    given: Option<&str>,
) -> Result<&'v TaskDefinition, ApiError> {
    let given = given.filter(|given| !given.is_empty());
    let given = given.ok_or_else(|| Refusal::client("TaskDefinition can not be blank."))?;
    let not_found = |refusal: Refusal| match refusal {
        Refusal::NoSuchTaskDefinition => Refusal::client("TaskDefinition not found."),
        other => other,
    };
    let definition = ecs.task_definition(view, caller, given).map_err(not_found)?;
    match definition.status {
        TaskDefinitionStatus::Active => Ok(definition),
        TaskDefinitionStatus::Inactive | TaskDefinitionStatus::DeleteInProgress => {
            Err(Refusal::client("TaskDefinition is inactive").into())
        }
    }
}

/// Whether the definition has a check other than one that turns the image's off.
fn has_health_check(container: &api::ContainerDefinition) -> bool {
    let command = container.health_check.as_ref().and_then(|check| check.command.as_ref());
    command.and_then(|command| command.first()).is_some_and(|first| first != "NONE")
}

/// ECS Exec acts in the task's role; `what` failed for want of one.
pub(super) fn execute_command_needs_role(what: &str) -> ApiError {
    Refusal::invalid(format!(
        "{what} because a valid taskRoleArn is not being used. Specify a valid task role in your \
         task definition and try again."
    ))
    .into()
}

/// Refuses what this region, or this kind of capacity, cannot run.
pub(super) fn check_runnable(
    ecs: &Ecs,
    definition: &TaskDefinition,
    kind: LaunchType,
) -> Result<(), ApiError> {
    // Written down when it was registered: a region of before could not do these.
    let by_now = ["secrets (", "registry credentials of Secrets Manager (", "GPUs ("];
    let by_store = [ENVIRONMENT_FILES, ROUTERS_OF_S3];
    let has_store = ecs.control.config.object_store.is_some();
    let is_possible = |what: &str| {
        by_now.iter().any(|possible| what.starts_with(possible))
            || has_store && by_store.iter().any(|possible| what.starts_with(possible))
    };
    let lacks = definition.cannot_run.iter().map(String::as_str);
    let lacks: Vec<&str> = lacks.filter(|what| !is_possible(what)).collect();
    if !lacks.is_empty() {
        let what = lacks.join(", ");
        let message = format!(
            "Task definition {} uses features that this region does not have: {what}.",
            definition.id
        );
        return Err(Refusal::client(message).into());
    }
    let compatibility = match kind {
        LaunchType::Ec2 => Compatibility::Ec2,
        LaunchType::Fargate => Compatibility::Fargate,
        LaunchType::External => Compatibility::External,
    };
    if definition.compatibilities.contains(&compatibility) {
        return Ok(());
    }
    let message = format!("Task definition does not support launch_type {}.", kind.as_str());
    Err(Refusal::invalid(message).into())
}

pub(super) fn platform_version_of(
    kind: LaunchType,
    given: Option<&str>,
) -> Result<Option<String>, ApiError> {
    match (kind, given) {
        (LaunchType::Fargate, None | Some("" | "LATEST" | PLATFORM_VERSION)) => {
            Ok(Some(PLATFORM_VERSION.to_owned()))
        }
        (LaunchType::Fargate, Some(_)) => Err(ApiError::client(
            "PlatformUnknownException",
            "The specified platform version does not exist.",
        )),
        (LaunchType::Ec2 | LaunchType::External, None | Some("")) => Ok(None),
        (LaunchType::Ec2 | LaunchType::External, Some(_)) => {
            let kind = kind.as_str();
            let message =
                format!("The platform version must be null when specifying an {kind} launch type.");
            Err(Refusal::invalid(message).into())
        }
    }
}

fn group(given: Option<&str>, definition: &TaskDefinition) -> Result<String, ApiError> {
    match given.filter(|group| !group.is_empty()) {
        None => Ok(format!("family:{}", definition.id.family)),
        Some(group) if group.chars().count() > GROUP_CHARS_MAX => {
            let message = format!("group must have at most {GROUP_CHARS_MAX} characters.");
            Err(Refusal::invalid(message).into())
        }
        Some(group) if group.starts_with("service:") => {
            Err(Refusal::invalid("Invalid namespace for group.").into())
        }
        Some(group) => Ok(group.to_owned()),
    }
}

fn started_by(given: Option<&str>) -> Result<Option<String>, ApiError> {
    match given {
        Some(given) if given.chars().count() > STARTED_BY_CHARS_MAX => {
            let message = format!("startedBy must have at most {STARTED_BY_CHARS_MAX} characters.");
            Err(Refusal::invalid(message).into())
        }
        Some("") | None => Ok(None),
        // Besides what ECS documents, what Amazon's own callers write: `AWS Step Functions`.
        Some(given)
            if given.chars().any(|it| !it.is_ascii_alphanumeric() && !"-_/:. ".contains(it)) =>
        {
            let message = "startedBy can contain letters, numbers, hyphens, forward slashes and underscores only.";
            Err(Refusal::invalid(message).into())
        }
        Some(given) => Ok(Some(given.to_owned())),
    }
}

/// The definition's tags if they are to be propagated, the request's over them, and ECS's own.
fn tags(
    common: &Common,
    definition: &TaskDefinition,
    cluster: &ClusterName,
) -> Result<Tags, ApiError> {
    let own = crate::tags::read(common.tags.clone())?;
    let mut tags = match &common.propagate_tags {
        None | Some(api::PropagateTags::None_) => own,
        Some(api::PropagateTags::TaskDefinition) => crate::tags::overlay(&definition.tags, &own)?,
        Some(other) => {
            let message = format!("Invalid value for propagateTags: {other}");
            return Err(Refusal::invalid(message).into());
        }
    };
    if common.enable_ecs_managed_tags == Some(true) {
        tags.insert("aws:ecs:clusterName".to_owned(), cluster.to_string());
    }
    Ok(tags)
}

/// What a task takes of an instance, after overrides.
fn need(
    definition: &TaskDefinition,
    overrides: &Overrides,
    cpu: Option<CpuUnits>,
    memory: Option<MemoryMib>,
) -> Need {
    let containers = definition.containers.iter().fold(Resources::default(), |sum, container| {
        let changed = overrides.of(container.name.as_str());
        let reservation = changed
            .and_then(|changed| changed.memory_reservation)
            .map(MemoryMib)
            .or(container.memory_reservation);
        let limit = changed.and_then(|changed| changed.memory).map(MemoryMib).or(container.memory);
        let cpu = changed.and_then(|changed| changed.cpu).map_or(container.cpu, CpuUnits);
        sum.saturating_add(Resources { cpu, memory: reservation.or(limit).unwrap_or_default() })
    });
    let resources = Resources {
        cpu: cpu.unwrap_or(containers.cpu),
        memory: memory.unwrap_or(containers.memory),
    };
    let gpus = definition.containers.iter().map(|each| gpus::count(each, overrides));
    let gpus = gpus.fold(0, u32::saturating_add);
    Need { resources, ports: ports(definition), gpus }
}

/// The ports of the host that the task insists on.
fn ports(definition: &TaskDefinition) -> Vec<HostPort> {
    let mappings = definition.containers.iter().flat_map(|container| &container.ports);
    let mut ports: Vec<HostPort> = mappings
        .filter_map(|mapping| {
            let port = match definition.network_mode {
                NetworkMode::Bridge => mapping.host_port,
                NetworkMode::Host => mapping.container_port,
                NetworkMode::Awsvpc | NetworkMode::None => 0,
            };
            (port != 0).then_some(HostPort { protocol: mapping.protocol, port })
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// How many of `wanted` more Fargate tasks an account may have, if it may have `max` in all.
pub(crate) fn fargate_capacity(
    view: &View,
    account: AccountId,
    max: usize,
    wanted: usize,
) -> usize {
    wanted.min(max.saturating_sub(view.member_count(&Index::FargateTasks(account))))
}

/// The tasks that an earlier use of the token made, or a conflict if its request was another.
pub(super) fn earlier_use<'v>(
    view: &'v View,
    token: &ClientToken,
    now: Timestamp,
) -> Result<Option<Vec<&'v Task>>, ApiError> {
    let Some(earlier) = client_token::earlier(view, token, now) else { return Ok(None) };
    let tasks: Vec<&Task> = earlier
        .made
        .iter()
        .filter_map(|id| view.tasks.get(token.account, &id.parse().ok()?))
        .map(AsRef::as_ref)
        .collect();
    if earlier.request_digest == token.request_digest {
        return Ok(Some(tasks));
    }
    let arns: Vec<String> = tasks.iter().map(|task| task.arn().to_string()).collect();
    let message = "The client token was used before with a request that differs from this one.";
    Err(ApiError::client("ConflictException", message).with("resourceIds", arns))
}

/// EC2 gives no address either; which subnets that were is what helps.
fn no_free_address(subnets: &[SubnetId]) -> Refusal {
    let subnets: Vec<&str> = subnets.iter().map(SubnetId::as_str).collect();
    Refusal::client(format!(
        "The specified subnet does not have enough free addresses to satisfy the request. ({})",
        subnets.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_started_a_task_is_said_in_the_characters_that_ecs_takes() {
        let read = |text: &str| started_by(Some(text));
        for good in ["ci/run_7-a", "ecs-svc/1234567890", "AWS Step Functions", &"x".repeat(128)] {
            assert_eq!(read(good).unwrap().as_deref(), Some(good));
        }
        for bad in ["é", "a\"b", "a\nb", &"x".repeat(129)] {
            assert_eq!(read(bad).unwrap_err().code, "InvalidParameterException", "{bad}");
        }
    }
}
