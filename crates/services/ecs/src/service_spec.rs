//! What requests say about a service, read into rows: its workload, its settings, its placement.
//!
//! CreateService, UpdateService and CreateTaskSet read with the same functions, so that what one
//! takes the others take. What this region cannot act on yet is refused by name: see [`unsupported`].

mod balancers;
pub(super) mod connect;
mod hooks;
mod images;
mod placement;
mod registries;
mod settings;
mod shifting;
pub(super) mod unsupported;

use std::sync::Arc;

use aws_wire::{ApiError, Caller, json};
use ecs_api as api;
use longshore_types::{AccountId, RevisionId, Scope, Timestamp, VpcId};
use model::service::{RevisionCapacity, ServiceBalancer, ServiceConnect, ServiceRegistry};
use model::task::LaunchType;
use model::{
    Cluster, Document, Index, Key, NetworkMode, ServiceId, ServiceRevision, TaskDefinition, View,
};
use store::Batch;

use super::task_template::{self, Capacity};
use crate::Ecs;
use crate::errors::Refusal;

use connect::Connected;

pub(super) use balancers::{check_left, render_balancers};
pub(super) use hooks::{DETAILS_BYTES_MAX, Target, check_hooks, target_type};
pub(crate) use images::with_seen_digests;
pub(super) use placement::{
    ZONE_FIELD, read_constraints, read_strategies, render_constraints, render_strategies,
};
pub(super) use registries::render_registries;
pub(super) use settings::{
    defaults, read_desired, read_grace, read_propagate, read_settings, render_settings,
};
pub(super) use shifting::check_balancers;

/// What a Fargate service shows that asks for no platform version, or for the latest.
const LATEST: &str = "LATEST";
/// What the latest platform version is.
const LATEST_IS: &str = "1.4.0";

/// What a service's or task set's tasks look like.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub(super) definition: Arc<TaskDefinition>,
    pub(super) capacity: RevisionCapacity,
    pub(super) platform_version: Option<String>,
    pub(super) platform_family: Option<String>,
    pub(super) network: Option<Document>,
    pub(super) load_balancers: Vec<ServiceBalancer>,
    pub(super) registries: Vec<ServiceRegistry>,
    pub(super) connected: Option<Connected>,
    /// Where its tasks are, if that is a VPC with addresses of its own.
    pub(super) own_vpc: Option<VpcId>,
}

impl Workload {
    /// Checks the parts against each other and completes them.
    pub(super) fn new(
        ecs: &Ecs,
        view: &View,
        caller: &Caller,
        definition: Arc<TaskDefinition>,
        capacity: RevisionCapacity,
        platform_version: Option<&str>,
        network: Option<&api::NetworkConfiguration>,
    ) -> Result<Self, ApiError> {
        let kind = capacity.launch();
        task_template::check_runnable(ecs, &definition, kind)?;
        let platform_version = read_platform(kind, platform_version)?;
        let (network, own_vpc) = match read_network(ecs, view, caller, &definition, kind, network)?
        {
            Some((network, own_vpc)) => (Some(network), own_vpc),
            None => (None, None),
        };
        let platform_family = (kind == LaunchType::Fargate).then(|| "Linux".to_owned());
        let (load_balancers, registries) = (Vec::new(), Vec::new());
        Ok(Self {
            definition,
            capacity,
            platform_version,
            platform_family,
            network,
            load_balancers,
            registries,
            connected: None,
            own_vpc,
        })
    }

    /// The same behind load balancers.
    pub(super) fn balanced(
        mut self,
        view: &View,
        scope: &Scope,
        given: &[api::LoadBalancer],
    ) -> Result<Self, ApiError> {
        self.load_balancers = balancers::read(view, scope, &self.definition, given)?;
        self.check_groups(view, scope)?;
        Ok(self)
    }

    /// The same behind the load balancers of those before them.
    pub(super) fn balanced_as_before(
        mut self,
        view: &View,
        before: &ServiceRevision,
    ) -> Result<Self, ApiError> {
        self.load_balancers.clone_from(&before.load_balancers);
        self.check_groups(view, &before.scope)?;
        Ok(self)
    }

    /// Refuses target groups of another VPC than the tasks'. One that is gone by now is waited for, as anything missing is.
    fn check_groups(&self, view: &View, scope: &Scope) -> Result<(), ApiError> {
        for each in &self.load_balancers {
            let Some(group) = view.elb_groups.get(scope.account, &each.group) else { continue };
            if view.own_vpc(scope.account, &group.vpc) != self.own_vpc {
                let own = self.own_vpc.as_ref().map_or("the default VPC", |vpc| vpc.as_str());
                let message = format!(
                    "The target group {} is of {}, but the tasks are in {own}.",
                    group.arn(),
                    group.vpc
                );
                return Err(Refusal::invalid(message).into());
            }
        }
        Ok(())
    }

    /// The same with tasks that are found by name.
    pub(super) fn registered(
        mut self,
        view: &View,
        scope: &Scope,
        given: &[api::ServiceRegistry],
    ) -> Result<Self, ApiError> {
        self.registries = registries::read(view, scope, &self.definition, given)?;
        Ok(self)
    }

    /// The same with tasks that are found by name as those before them.
    pub(super) fn registered_as_before(
        mut self,
        before: &[ServiceRegistry],
    ) -> Result<Self, ApiError> {
        before.iter().try_for_each(|each| registries::check(&self.definition, each))?;
        self.registries = before.to_vec();
        Ok(self)
    }

    /// The same with tasks that reach others of a namespace by Service Connect, and are reached.
    pub(super) fn connected(
        mut self,
        it: connect::For<'_>,
        given: Option<&api::ServiceConnectConfiguration>,
    ) -> Result<Self, ApiError> {
        self.connected = connect::read(it, &self.definition, given)?;
        Ok(self)
    }

    pub(super) fn connect(&self) -> Option<&ServiceConnect> {
        self.connected.as_ref().map(|connected| &connected.connect)
    }

    /// Writes what is beside the revision: the services of Cloud Map behind what its tasks offer.
    pub(super) fn write_beside(&self, batch: &mut Batch, account: AccountId) {
        let Some(Connected { connect, services }) = &self.connected else { return };
        batch.rely(Key::MapNamespace(account, Arc::clone(&connect.namespace)));
        batch.rely(Index::MapServices(account, Arc::clone(&connect.namespace)));
        batch.rely(Index::MapConnect(account, Arc::clone(&connect.namespace)));
        for row in services {
            batch.put(row.clone());
        }
    }

    /// Refuses ECS Exec without a task role; `what` is what can't be done.
    pub(super) fn check_execute_command(&self, what: &str) -> Result<(), ApiError> {
        match self.definition.task_role {
            Some(_) => Ok(()),
            None => Err(task_template::execute_command_needs_role(what)),
        }
    }

    pub(super) fn kind(&self) -> LaunchType {
        self.capacity.launch()
    }

    /// Whether a revision's tasks look like this.
    pub(super) fn is_that_of(&self, revision: &ServiceRevision) -> bool {
        self.definition.id == revision.definition
            && self.capacity == revision.capacity
            && self.platform_version == revision.platform_version
            && self.network == revision.network
            && self.load_balancers == revision.load_balancers
            && self.registries == revision.registries
            && self.connect() == revision.connect.as_ref()
    }

    /// A new revision, with the digests of the images that this region's registry has.
    pub(super) fn revision(
        &self,
        ecs: &Ecs,
        view: &View,
        scope: Scope,
        service: &ServiceId,
        now: Timestamp,
    ) -> Result<ServiceRevision, ApiError> {
        Ok(ServiceRevision {
            images: images::resolve(ecs, view, scope.account, &self.definition)?,
            scope,
            cluster: service.cluster.clone(),
            service: service.name.clone(),
            id: RevisionId::mint(ecs.control.ids.as_ref()),
            definition: self.definition.id.clone(),
            capacity: self.capacity.clone(),
            platform_version: self.platform_version.clone(),
            platform_family: self.platform_family.clone(),
            network: self.network.clone(),
            load_balancers: self.load_balancers.clone(),
            registries: self.registries.clone(),
            connect: self.connect().cloned(),
            created_at: now,
        })
    }
}

/// The task definition of new tasks: an active one.
pub(super) fn read_definition(
    ecs: &Ecs,
    view: &View,
    caller: &Caller,
    given: Option<&str>,
) -> Result<Arc<TaskDefinition>, ApiError> {
    let given = given.filter(|given| !given.is_empty());
    let given = given.ok_or_else(|| Refusal::invalid("TaskDefinition can not be blank."))?;
    let found = task_template::definition(ecs, view, caller, Some(given))?.id.clone();
    let row = view.task_definitions.get(caller.account, &found);
    row.map(Arc::clone).ok_or_else(|| Refusal::NoSuchTaskDefinition.into())
}

/// A launch type, a strategy over the cluster's providers, or what the cluster says by default.
pub(super) fn read_capacity(
    launch_type: Option<&api::LaunchType>,
    strategy: Option<&[api::CapacityProviderStrategyItem]>,
    cluster: &Cluster,
) -> Result<RevisionCapacity, ApiError> {
    Ok(match Capacity::read(launch_type, strategy, cluster)? {
        Capacity::Launch(launch) => RevisionCapacity::Launch(launch),
        Capacity::Strategy(strategy) => RevisionCapacity::Strategy(strategy),
    })
}

/// The platform version as it is kept: `LATEST` stays what it is.
fn read_platform(kind: LaunchType, given: Option<&str>) -> Result<Option<String>, ApiError> {
    let resolved = task_template::platform_version_of(kind, given)?;
    let is_latest = given.is_none_or(|given| given.is_empty() || given == LATEST);
    Ok(resolved.map(|resolved| if is_latest { LATEST.to_owned() } else { resolved }))
}

/// The platform version that tasks get.
pub(super) fn resolved_platform(kept: Option<&str>) -> Option<String> {
    kept.map(|kept| if kept == LATEST { LATEST_IS } else { kept }.to_owned())
}

/// Checks a network configuration and keeps it, with the defaults that ECS shows.
fn read_network(
    ecs: &Ecs,
    view: &View,
    caller: &Caller,
    definition: &TaskDefinition,
    kind: LaunchType,
    given: Option<&api::NetworkConfiguration>,
) -> Result<Option<(Document, Option<VpcId>)>, ApiError> {
    if given.is_none() && definition.network_mode != NetworkMode::Awsvpc {
        return Ok(None);
    }
    let network = ecs.control.network(view, caller.account);
    let Some(request) = task_template::read_network(given, definition, kind, &network)? else {
        return Ok(None);
    };
    let mut kept = given.cloned().unwrap_or_default();
    if let Some(awsvpc) = &mut kept.awsvpc_configuration {
        awsvpc.security_groups.get_or_insert_default();
        awsvpc.assign_public_ip.get_or_insert(api::AssignPublicIp::Disabled);
    }
    let text = String::from_utf8_lossy(&json::to_vec(&kept)).into_owned();
    Document::from_text(text)
        .map(|kept| Some((kept, request.own_vpc())))
        .map_err(|error| ApiError::fault("failed to keep a network configuration", error))
}

/// A network configuration as it was kept.
pub(super) fn render_network(
    kept: Option<&Document>,
) -> Result<Option<api::NetworkConfiguration>, ApiError> {
    kept.map(|kept| json::from_slice(kept.as_str().as_bytes()))
        .transpose()
        .map_err(|error| ApiError::fault("failed to read a network configuration", error))
}
