//! `serviceRegistries` of a service: services of Cloud Map, and which port is told there.

use aws_wire::ApiError;
use ecs_api as api;
use longshore_types::Scope;
use model::discovery::{MapId, MapRecord, arn, id_of};
use model::service::ServiceRegistry;
use model::{NetworkMode, TaskDefinition, View};

use crate::errors::Refusal;

fn refuse<T>(message: impl Into<String>) -> Result<T, ApiError> {
    Err(Refusal::invalid(message).into())
}

pub(super) fn read(
    view: &View,
    scope: &Scope,
    definition: &TaskDefinition,
    given: &[api::ServiceRegistry],
) -> Result<Vec<ServiceRegistry>, ApiError> {
    match given {
        [] => Ok(vec![]),
        [only] => Ok(vec![read_one(view, scope, definition, only)?]),
        _ => refuse("serviceRegistries can have at most 1 items"),
    }
}

fn port(given: Option<i32>, what: &str) -> Result<Option<u16>, ApiError> {
    match given.map(u16::try_from) {
        None | Some(Ok(0)) => Ok(None),
        Some(Ok(port)) => Ok(Some(port)),
        Some(Err(_)) => refuse(format!("{what} must be between 1 and 65535.")),
    }
}

fn read_one(
    view: &View,
    scope: &Scope,
    definition: &TaskDefinition,
    given: &api::ServiceRegistry,
) -> Result<ServiceRegistry, ApiError> {
    let registry = given.registry_arn.as_deref().unwrap_or_default();
    let id = id_of(scope, "service", registry).filter(|_| registry.starts_with("arn:"));
    let id: Option<MapId> = id.map(Into::into);
    let service = id.and_then(|id| view.map_services.get(scope.account, &id));
    let Some(service) = service else {
        return refuse(format!("The service registry {registry} does not exist."));
    };
    let own = port(given.port, "port")?;
    let container_port = port(given.container_port, "containerPort")?;
    let container = given.container_name.clone().filter(|name| !name.is_empty());
    if container.is_some() != container_port.is_some() {
        return refuse("containerName and containerPort are specified together.");
    }
    if own.is_some() && container_port.is_some() {
        return refuse("You cannot specify both port and containerPort for a service registry.");
    }
    let read =
        ServiceRegistry { service: service.id.clone(), container, container_port, port: own };
    check(definition, &read)?;
    let needs_port = service.dns.as_ref().is_some_and(|dns| dns.has(MapRecord::Srv));
    if needs_port && own.is_none() && container_port.is_none() {
        return refuse(
            "A service registry with SRV records needs a port, or containerName and containerPort.",
        );
    }
    if service.dns.as_ref().is_some_and(|dns| dns.has(MapRecord::Aaaa)) {
        return Err(Refusal::unsupported(
            "serviceRegistries with AAAA records is not supported by this region: its tasks have IPv4 addresses.",
        )
        .into());
    }
    if service.dns.as_ref().is_some_and(|dns| dns.has(MapRecord::Cname)) {
        return refuse(
            "A service registry with a CNAME record cannot be used: tasks are found by A or SRV records.",
        );
    }
    Ok(read)
}

/// That tasks of a definition have what is to be told of them.
pub(super) fn check(
    definition: &TaskDefinition,
    registry: &ServiceRegistry,
) -> Result<(), ApiError> {
    if definition.network_mode != NetworkMode::Awsvpc {
        return Err(Refusal::unsupported(format!(
            "serviceRegistries of services with the network mode {} is not supported by this region: its tasks are \
             found by their own addresses. Use awsvpc.",
            definition.network_mode.as_str()
        ))
        .into());
    }
    let (Some(name), Some(port)) = (&registry.container, registry.container_port) else {
        return Ok(());
    };
    let found = definition.containers.iter().find(|each| each.name.as_str() == name);
    let Some(found) = found else {
        return refuse(format!("The container {name} does not exist in the task definition."));
    };
    match found.ports.iter().any(|each| each.container_port == port) {
        true => Ok(()),
        false => {
            refuse(format!("The container {name} did not have a container port {port} defined."))
        }
    }
}

/// As answers show them.
pub(crate) fn render_registries(
    scope: &Scope,
    all: &[ServiceRegistry],
) -> Vec<api::ServiceRegistry> {
    let render = |each: &ServiceRegistry| api::ServiceRegistry {
        registry_arn: Some(arn(scope, "service", &each.service)),
        port: each.port.map(i32::from),
        container_name: each.container.clone(),
        container_port: each.container_port.map(i32::from),
    };
    all.iter().map(render).collect()
}
