//! What containers say of each other: links, volumes from, dependencies; and of the network.

use std::collections::{BTreeMap, BTreeSet};

use ecs_api::{ContainerCondition, ContainerDefinition};
use model::NetworkMode;

use super::{Check, Draft, bad, list, name, one_of, text};
use crate::errors::Refusal;

pub(super) fn check(draft: &Draft) -> Check {
    let by_name: BTreeMap<&str, &ContainerDefinition> =
        draft.containers().iter().map(|container| (name(container), container)).collect();
    let mut before: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for container in draft.containers() {
        check_network(draft, container)?;
        let links = check_links(container, &by_name)?;
        let sources = check_volumes_from(container, &by_name)?;
        let dependencies = check_dependencies(container, &by_name)?;
        before.insert(name(container), [links, sources, dependencies].concat());
    }
    check_no_cycle(&before)?;
    check_proxy(draft, &by_name)
}

fn check_network(draft: &Draft, container: &ContainerDefinition) -> Check {
    let mode = draft.effective_mode();
    if !list(&container.links).is_empty() && mode != NetworkMode::Bridge {
        return Err(Refusal::client(format!(
            "Links are not supported when networkMode={}.",
            mode.as_str()
        )));
    }
    for host in list(&container.extra_hosts) {
        if text(&host.hostname).is_empty() || text(&host.ip_address).is_empty() {
            return Err(bad("extraHosts", container));
        }
    }
    if mode != NetworkMode::Awsvpc {
        return Ok(());
    }
    if !text(&container.hostname).is_empty() {
        return Err(Refusal::client(
            "hostname is not supported on container when networkMode=awsvpc.",
        ));
    }
    if !list(&container.extra_hosts).is_empty() {
        return Err(Refusal::client(
            "Extra hosts are not supported on container when networkMode=awsvpc.",
        ));
    }
    if container.disable_networking == Some(true) {
        return Err(Refusal::client(
            "disableNetworking is not supported on container when networkMode=awsvpc.",
        ));
    }
    Ok(())
}

type ByName<'d> = BTreeMap<&'d str, &'d ContainerDefinition>;

/// `name` or `name:alias`
fn check_links<'d>(
    container: &'d ContainerDefinition,
    by_name: &ByName<'d>,
) -> Result<Vec<&'d str>, Refusal> {
    let mut linked = Vec::new();
    for link in list(&container.links) {
        let (target, alias) = link.split_once(':').unwrap_or((link, link));
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if alias.is_empty() || !alias.bytes().all(is_allowed) {
            return Err(bad("links", container));
        }
        linked.push(known(container, target, by_name)?);
    }
    Ok(linked)
}

fn check_volumes_from<'d>(
    container: &'d ContainerDefinition,
    by_name: &ByName<'d>,
) -> Result<Vec<&'d str>, Refusal> {
    let sources = list(&container.volumes_from);
    sources.iter().map(|from| known(container, text(&from.source_container), by_name)).collect()
}

fn check_dependencies<'d>(
    container: &'d ContainerDefinition,
    by_name: &ByName<'d>,
) -> Result<Vec<&'d str>, Refusal> {
    let mut dependencies = Vec::new();
    for dependency in list(&container.depends_on) {
        let target = known(container, text(&dependency.container_name), by_name)?;
        let target_definition = by_name[target];
        match &dependency.condition {
            Some(ContainerCondition::Start) => {}
            Some(ContainerCondition::Complete | ContainerCondition::Success) => {
                if target_definition.essential != Some(false) {
                    return Err(Refusal::client(
                        "A dependency container with SUCCESS or COMPLETE condition cannot be an \
                         essential container",
                    ));
                }
            }
            Some(ContainerCondition::Healthy) => {
                if target_definition.health_check.is_none() {
                    return Err(Refusal::client(format!(
                        "Container '{}' depends on container '{target}' with the condition \
                         HEALTHY, but '{target}' has no healthCheck.",
                        name(container)
                    )));
                }
            }
            other => {
                let given = other.as_ref().map_or("", |condition| condition.as_str());
                return Err(one_of(given, ContainerCondition::VALUES));
            }
        }
        dependencies.push(target);
    }
    Ok(dependencies)
}

/// A container of this task definition, other than the one that names it.
fn known<'d>(
    container: &ContainerDefinition,
    target: &str,
    by_name: &ByName<'d>,
) -> Result<&'d str, Refusal> {
    let found = by_name.get_key_value(target).map(|(name, _)| *name);
    let Some(found) = found else {
        return Err(Refusal::client(format!("Unknown container '{target}'.")));
    };
    if found == name(container) {
        return Err(Refusal::client(format!("Container '{found}' cannot depend on itself.")));
    }
    Ok(found)
}

/// Takes away what depends on nothing until nothing is left; what stays is a cycle or behind one.
fn check_no_cycle(before: &BTreeMap<&str, Vec<&str>>) -> Check {
    let mut left: BTreeSet<&str> = before.keys().copied().collect();
    loop {
        let free: Vec<&str> = left
            .iter()
            .copied()
            .filter(|name| before[name].iter().all(|needed| !left.contains(needed)))
            .collect();
        if free.is_empty() {
            break;
        }
        for name in free {
            left.remove(name);
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let names = left.into_iter().collect::<Vec<_>>().join(", ");
    Err(Refusal::client(format!(
        "The dependencies of the containers are cyclic. Containers involved: {names}."
    )))
}

fn check_proxy(draft: &Draft, by_name: &ByName<'_>) -> Check {
    let Some(proxy) = &draft.request.proxy_configuration else { return Ok(()) };
    let container = text(&proxy.container_name);
    if !by_name.contains_key(container) {
        return Err(Refusal::client(format!("Unknown container '{container}'.")));
    }
    if draft.effective_mode() != NetworkMode::Awsvpc {
        return Err(Refusal::client("proxyConfiguration needs the network mode awsvpc."));
    }
    Ok(())
}
