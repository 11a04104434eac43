//! The tasks of a service: a [`TaskTemplate`] read from rows, where a request's is read from its members.
//!
//! What was refused when the service was made is not looked at again: a definition that was
//! deregistered since still serves the services that have it, as in ECS.

use std::sync::{Arc, OnceLock};

use aws_wire::ApiError;
use ecs_api as api;
use longshore_types::{DeploymentId, TaskDefinitionId};
use model::service::{Propagate, RevisionCapacity, TaskSet};
use model::task::{LaunchType, Overrides, TaskService};
use model::vpc::Subnet;
use model::{Document, Index, Service, ServiceRevision, Tags, TaskDefinition, View};

use super::{PLATFORM_VERSION, TaskTemplate, need, network};
use crate::Ecs;
use crate::errors::Refusal;

/// What tells the tasks of one deployment or task set from those of others.
#[derive(Clone, Debug)]
pub(crate) struct TaskSource {
    /// Of the deployment or task set.
    pub(crate) id: DeploymentId,
    pub(crate) definition: TaskDefinitionId,
    pub(crate) capacity: RevisionCapacity,
    platform_version: Option<String>,
    network: Option<Document>,
    /// With the digests that images are pinned to.
    revision: Option<Arc<ServiceRevision>>,
}

impl TaskSource {
    pub(crate) fn of_deployment(id: DeploymentId, revision: &Arc<ServiceRevision>) -> Self {
        Self {
            id,
            definition: revision.definition.clone(),
            capacity: revision.capacity.clone(),
            platform_version: revision.platform_version.clone(),
            network: revision.network.clone(),
            revision: Some(Arc::clone(revision)),
        }
    }

    pub(crate) fn of_task_set(set: &TaskSet) -> Self {
        Self {
            id: set.id,
            definition: set.definition.clone(),
            capacity: set.capacity.clone(),
            platform_version: set.platform_version.clone(),
            network: set.network.clone(),
            revision: None,
        }
    }
}

impl<'v> TaskTemplate<'v> {
    /// Tasks of a source of a service, on capacity of one kind.
    pub(crate) fn of_service(
        ecs: &Ecs,
        view: &'v View,
        service: &Service,
        source: &TaskSource,
        kind: LaunchType,
    ) -> Result<Self, ApiError> {
        let account = service.scope.account;
        let definition = view.task_definitions.get(account, &source.definition);
        let definition: &'v TaskDefinition = definition
            .ok_or_else(|| Refusal::client(format!("{} does not exist.", source.definition)))?;
        let given = source.network.as_ref().map(stored_network).transpose()?;
        let network = ecs.control.network(view, account);
        let network = network::read(given.as_ref(), definition, kind, &network)?;
        let is_fargate = kind == LaunchType::Fargate;
        Ok(Self {
            scope: service.scope.clone(),
            cluster: service.cluster.clone(),
            definition,
            kind,
            platform_version: is_fargate.then(|| platform_version(source)),
            group: service.group(),
            started_by: Some(source.id.to_string()),
            tags: tags(service, definition),
            overrides: Overrides::default(),
            enable_execute_command: service.enable_execute_command,
            network,
            need: need(definition, &Overrides::default(), definition.cpu, definition.memory),
            cpu: definition.cpu,
            memory: definition.memory,
            document: ecs
                .documents
                .read(definition)
                .map_err(|error| ApiError::fault("failed to read the task definition", error))?,
            service: Some(TaskService {
                name: service.name.clone(),
                deployment: source.id,
                is_ready: false,
                is_accounted: false,
                is_registered: false,
                is_connected: false,
            }),
            revision: source.revision.clone(),
            asked: OnceLock::new(),
        })
    }

    /// The zones that its tasks' interfaces may be in; none for tasks without.
    pub(crate) fn zones(&self) -> Vec<String> {
        self.zones_of(|_| true)
    }

    /// Those of them where an address is free.
    pub(crate) fn open_zones(&self, view: &View) -> Vec<String> {
        self.zones_of(|subnet| {
            let index = Index::SubnetInterfaces(self.scope.account, subnet.id.clone());
            (view.member_count(&index) as u64) < subnet.usable()
        })
    }

    fn zones_of(&self, is_one: impl Fn(&Subnet) -> bool) -> Vec<String> {
        let subnets = self
            .network
            .iter()
            .flat_map(|request| request.subnets.iter().filter_map(|id| request.vpc.subnet(id)));
        let subnets = subnets.filter(|subnet| is_one(subnet));
        let mut zones: Vec<String> = subnets.map(|subnet| subnet.zone.clone()).collect();
        zones.sort_unstable();
        zones.dedup();
        zones
    }

    /// How many rows one of its tasks is.
    pub(crate) fn rows_per_task(&self) -> usize {
        1 + usize::from(self.network.is_some())
    }
}

fn platform_version(source: &TaskSource) -> String {
    let given = source.platform_version.as_deref();
    let given = given.filter(|version| !version.is_empty() && *version != "LATEST");
    given.unwrap_or(PLATFORM_VERSION).to_owned()
}

pub(crate) fn stored_network(document: &Document) -> Result<api::NetworkConfiguration, ApiError> {
    aws_wire::json::from_slice(document.as_str().as_bytes())
        .map_err(|error| ApiError::fault("failed to read a service's network configuration", error))
}

fn tags(service: &Service, definition: &TaskDefinition) -> Tags {
    let mut tags = match service.propagate {
        Propagate::None => Tags::new(),
        Propagate::TaskDefinition => definition.tags.clone(),
        Propagate::Service => service.tags.clone(),
    };
    if service.enable_managed_tags {
        tags.insert("aws:ecs:clusterName".to_owned(), service.cluster.to_string());
        tags.insert("aws:ecs:serviceName".to_owned(), service.name.to_string());
    }
    tags
}
