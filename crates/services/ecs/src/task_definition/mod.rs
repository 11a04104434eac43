//! Task definitions: what a document must satisfy, what is filled in, what it needs of a host.
//!
//! [`Draft::read`] takes a request through every rule in the order of the document; the first rule
//! that is broken is the answer. Rules of one launch type are in [`platform`], each a function, so
//! that the same code refuses a definition that asks for Fargate and finds out which launch types
//! one is compatible with that asks for none.

mod containers;
mod defaults;
mod health;
mod linux;
mod logging;
mod needs;
mod platform;
mod ports;
mod references;
mod requirements;
mod secrets;
mod size;
#[cfg(test)]
mod tests;
mod unavailable;
mod volumes;

use aws_wire::json;
use ecs_api as api;
use ecs_api::ContainerDefinition;
use longshore_types::{CpuUnits, Family, MemoryMib};
use model::{Compatibility, NetworkMode};

use crate::errors::Refusal;

pub(super) use defaults::{is_role, role_arn};
pub(super) use secrets::check_files;
pub(super) use size::{parse_cpu, parse_memory};
pub(super) use unavailable::{ENVIRONMENT_FILES, ROUTERS_OF_S3};

/// Bytes of a definition in JSON.
const SIZE_MAX: usize = 64 * 1024;
const CONTAINERS_MAX: usize = 10;
const CONSTRAINTS_MAX: usize = 10;
const EXPRESSION_CHARS_MAX: usize = 2000;

type Check = Result<(), Refusal>;

/// A request that passed every rule, with its defaults filled in.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) family: Family,
    /// As it was given; see [`Draft::effective_mode`].
    mode: Option<NetworkMode>,
    requires: Vec<Compatibility>,
    compatibilities: Vec<Compatibility>,
    cpu: Option<CpuUnits>,
    memory: Option<MemoryMib>,
    /// Of this region: `http://127.0.0.1:4566`.
    endpoint: String,
    request: api::RegisterTaskDefinitionRequest,
}

impl Draft {
    pub(super) fn read(
        request: api::RegisterTaskDefinitionRequest,
        endpoint: String,
    ) -> Result<Self, Refusal> {
        check_size(&request)?;
        let mut draft = Self {
            family: read_family(request.family.as_deref())?,
            mode: read_mode(request.network_mode.as_ref())?,
            requires: read_compatibilities(request.requires_compatibilities.as_deref())?,
            compatibilities: Vec::new(),
            cpu: request.cpu.as_deref().filter(|t| !t.is_empty()).map(parse_cpu).transpose()?,
            memory: request
                .memory
                .as_deref()
                .filter(|t| !t.is_empty())
                .map(parse_memory)
                .transpose()?,
            endpoint,
            request,
        };
        draft.check()?;
        draft.compatibilities = platform::compatibilities(&draft)?;
        draft.fill_in();
        Ok(draft)
    }

    fn check(&self) -> Check {
        containers::check(self)?;
        ports::check(self)?;
        volumes::check(self)?;
        references::check(self)?;
        size::check(self)?;
        self.check_roles()?;
        self.check_modes()?;
        self.check_constraints()?;
        self.containers().iter().try_for_each(|container| {
            health::check(container)?;
            linux::check(container)?;
            logging::check(container)?;
            secrets::check(self, container)
        })?;
        logging::check_firelens(self)
    }

    fn containers(&self) -> &[ContainerDefinition] {
        self.request.container_definitions.as_deref().unwrap_or_default()
    }

    /// What tasks get: `bridge` where nothing is said.
    fn effective_mode(&self) -> NetworkMode {
        self.mode.unwrap_or(NetworkMode::Bridge)
    }

    /// Found out now, and not by the first task that nobody can assume a role for.
    fn check_roles(&self) -> Check {
        let roles = [&self.request.task_role_arn, &self.request.execution_role_arn];
        match roles.into_iter().map(text).all(|given| given.is_empty() || is_role(given)) {
            true => Ok(()),
            false => Err(Refusal::client("Role is not valid")),
        }
    }

    fn check_modes(&self) -> Check {
        let pid = self.request.pid_mode.as_ref();
        if let Some(unknown) = pid.filter(|mode| !mode.is_known()) {
            return Err(one_of(unknown.as_str(), api::PidMode::VALUES));
        }
        let ipc = self.request.ipc_mode.as_ref();
        if let Some(unknown) = ipc.filter(|mode| !mode.is_known()) {
            return Err(one_of(unknown.as_str(), api::IpcMode::VALUES));
        }
        let platform = self.request.runtime_platform.clone().unwrap_or_default();
        if let Some(unknown) = platform.cpu_architecture.filter(|arch| !arch.is_known()) {
            return Err(one_of(unknown.as_str(), api::CPUArchitecture::VALUES));
        }
        match platform.operating_system_family.filter(|family| !family.is_known()) {
            Some(unknown) => Err(one_of(unknown.as_str(), api::OSFamily::VALUES)),
            None => Ok(()),
        }
    }

    fn check_constraints(&self) -> Check {
        let constraints = self.request.placement_constraints.as_deref().unwrap_or_default();
        if CONSTRAINTS_MAX < constraints.len() {
            let message = format!("At most {CONSTRAINTS_MAX} placement constraints are allowed.");
            return Err(Refusal::client(message));
        }
        for constraint in constraints {
            match &constraint.r#type {
                Some(api::TaskDefinitionPlacementConstraintType::MemberOf) => {}
                other => {
                    let given = other.as_ref().map_or("", |kind| kind.as_str());
                    return Err(one_of(given, &["memberOf"]));
                }
            }
            let chars = constraint.expression.as_deref().unwrap_or_default().chars().count();
            if chars == 0 || EXPRESSION_CHARS_MAX < chars {
                return Err(Refusal::client(format!(
                    "The expression of a placement constraint must have between 1 and \
                     {EXPRESSION_CHARS_MAX} characters."
                )));
            }
        }
        Ok(())
    }

    /// The `TaskDefinition` shape as it is kept.
    fn shape(&self) -> api::TaskDefinition {
        let request = self.request.clone();
        api::TaskDefinition {
            family: Some(self.family.to_string()),
            container_definitions: request.container_definitions,
            task_role_arn: request.task_role_arn,
            execution_role_arn: request.execution_role_arn,
            network_mode: request.network_mode,
            volumes: request.volumes,
            placement_constraints: request.placement_constraints,
            requires_compatibilities: request.requires_compatibilities,
            cpu: request.cpu,
            memory: request.memory,
            pid_mode: request.pid_mode,
            ipc_mode: request.ipc_mode,
            proxy_configuration: request.proxy_configuration,
            inference_accelerators: request.inference_accelerators,
            ephemeral_storage: request.ephemeral_storage,
            runtime_platform: request.runtime_platform,
            enable_fault_injection: request.enable_fault_injection,
            trusted_execution_configuration: request.trusted_execution_configuration,
            ..Default::default()
        }
    }
}

fn check_size(request: &api::RegisterTaskDefinitionRequest) -> Check {
    let size = json::to_vec(request).len();
    if size <= SIZE_MAX {
        return Ok(());
    }
    let message = format!("Actual length: '{size}'. Max allowed length is '{SIZE_MAX}' bytes.");
    Err(Refusal::client(message))
}

fn read_family(given: Option<&str>) -> Result<Family, Refusal> {
    let given = given.unwrap_or_default();
    if given.is_empty() {
        return Err(Refusal::client("Family should not be null or empty."));
    }
    given.parse().map_err(|why| {
        Refusal::client(format!("Invalid family '{given}': a family must be {why}."))
    })
}

fn read_mode(given: Option<&api::NetworkMode>) -> Result<Option<NetworkMode>, Refusal> {
    match given {
        None => Ok(None),
        Some(api::NetworkMode::Bridge) => Ok(Some(NetworkMode::Bridge)),
        Some(api::NetworkMode::Host) => Ok(Some(NetworkMode::Host)),
        Some(api::NetworkMode::Awsvpc) => Ok(Some(NetworkMode::Awsvpc)),
        Some(api::NetworkMode::None_) => Ok(Some(NetworkMode::None)),
        Some(other) => Err(one_of(other.as_str(), api::NetworkMode::VALUES)),
    }
}

fn read_compatibilities(
    given: Option<&[api::Compatibility]>,
) -> Result<Vec<Compatibility>, Refusal> {
    let read = |given: &api::Compatibility| match given {
        api::Compatibility::Ec2 => Ok(Compatibility::Ec2),
        api::Compatibility::Fargate => Ok(Compatibility::Fargate),
        api::Compatibility::External => Ok(Compatibility::External),
        api::Compatibility::ManagedInstances => Ok(Compatibility::ManagedInstances),
        other => Err(one_of(other.as_str(), api::Compatibility::VALUES)),
    };
    given.unwrap_or_default().iter().map(read).collect()
}

/// The refusal of a word that is none of those that are known.
fn one_of(given: &str, values: &[&str]) -> Refusal {
    Refusal::client(format!("{given} should be one of [{}]", values.join(",")))
}

/// The refusal of a member of a container.
fn bad(what: &str, container: &ContainerDefinition) -> Refusal {
    Refusal::client(format!("Invalid '{what}' setting for container '{}'.", name(container)))
}

fn name(container: &ContainerDefinition) -> &str {
    container.name.as_deref().unwrap_or_default()
}

/// A list that may be absent.
fn list<T>(given: &Option<Vec<T>>) -> &[T] {
    given.as_deref().unwrap_or_default()
}

fn text(given: &Option<String>) -> &str {
    given.as_deref().unwrap_or_default()
}
