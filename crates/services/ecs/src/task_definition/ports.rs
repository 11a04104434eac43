//! Port mappings: what may be published in which network mode.

use std::collections::BTreeSet;

use ecs_api::{ApplicationProtocol, ContainerDefinition, PortMapping, TransportProtocol};
use model::NetworkMode;

use super::{Check, Draft, bad, list, name, one_of, text};
use crate::errors::Refusal;

const MAPPINGS_MAX: usize = 100;
const PORTS_PER_RANGE_MAX: u16 = 100;
const NAME_CHARS_MAX: usize = 64;

pub(super) fn check(draft: &Draft) -> Check {
    let mut taken = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut spans: Vec<Span<'_>> = Vec::new();
    for container in draft.containers() {
        // Where containers share a network, its ports are there once for all of them.
        if draft.effective_mode() != NetworkMode::Awsvpc {
            spans.clear();
        }
        let mappings = list(&container.port_mappings);
        if MAPPINGS_MAX < mappings.len() {
            return Err(Refusal::client(format!(
                "Container '{}' has more than {MAPPINGS_MAX} port mappings.",
                self::name(container)
            )));
        }
        if !mappings.is_empty() && draft.effective_mode() == NetworkMode::None {
            return Err(Refusal::client("Port mappings are not supported when networkMode=none."));
        }
        for mapping in mappings {
            check_mapping(draft, container, mapping)?;
            if let Some(port) = claimed(draft, mapping)
                && !taken.insert(port)
            {
                let (port, protocol) = port;
                return Err(Refusal::client(format!(
                    "Port {port}/{protocol} is mapped more than once in this task definition."
                )));
            }
            let span = Span::of(mapping);
            if let Some(port) = spans.iter().find_map(|other| span.shared_with(other)) {
                return Err(Refusal::client(format!(
                    "Port {port}/{} of container '{}' is included in more than one port mapping. A port can be \
                     included in only one port mapping per container, and port ranges can't overlap.",
                    span.protocol,
                    self::name(container)
                )));
            }
            spans.push(span);
            let given = text(&mapping.name);
            if !given.is_empty() && !names.insert(given) {
                return Err(Refusal::client(format!(
                    "Port mapping names must be unique, but '{given}' is used more than once."
                )));
            }
        }
    }
    Ok(())
}

fn check_mapping(draft: &Draft, container: &ContainerDefinition, mapping: &PortMapping) -> Check {
    if let Some(unknown) = mapping.protocol.as_ref().filter(|protocol| !protocol.is_known()) {
        return Err(one_of(unknown.as_str(), TransportProtocol::VALUES));
    }
    if let Some(unknown) = mapping.app_protocol.as_ref().filter(|protocol| !protocol.is_known()) {
        return Err(one_of(unknown.as_str(), ApplicationProtocol::VALUES));
    }
    check_mapping_name(container, mapping)?;
    if let Some(range) = &mapping.container_port_range {
        return check_range(draft, container, mapping, range);
    }
    let Some(container_port) = mapping.container_port.filter(|port| (1..=65535).contains(port))
    else {
        return Err(bad("containerPort", container));
    };
    let host_port = mapping.host_port.unwrap_or(0);
    if !(0..=65535).contains(&host_port) {
        return Err(bad("hostPort", container));
    }
    let is_same = host_port == 0 || host_port == container_port;
    match draft.effective_mode() {
        NetworkMode::Awsvpc if !is_same => Err(Refusal::client(
            "When networkMode=awsvpc, the host ports and container ports in port mappings must \
             match.",
        )),
        NetworkMode::Host if !is_same => Err(Refusal::client(
            "When networkMode=host, the host ports and container ports in port mappings must \
             match.",
        )),
        NetworkMode::Awsvpc | NetworkMode::Host | NetworkMode::Bridge | NetworkMode::None => Ok(()),
    }
}

fn check_mapping_name(container: &ContainerDefinition, mapping: &PortMapping) -> Check {
    let given = text(&mapping.name);
    if given.is_empty() {
        if mapping.app_protocol.is_some() {
            return Err(Refusal::client(format!(
                "A port mapping of container '{}' with an appProtocol must have a name.",
                name(container)
            )));
        }
        return Ok(());
    }
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if NAME_CHARS_MAX < given.len() || !given.bytes().all(is_allowed) || given.starts_with('-') {
        return Err(bad("portMappings.name", container));
    }
    Ok(())
}

fn check_range(
    draft: &Draft,
    container: &ContainerDefinition,
    mapping: &PortMapping,
    range: &str,
) -> Check {
    if mapping.container_port.is_some() || mapping.host_port.is_some_and(|port| port != 0) {
        return Err(Refusal::client(format!(
            "A port mapping of container '{}' can have either a containerPortRange, or a \
             containerPort and a hostPort.",
            name(container)
        )));
    }
    if !matches!(draft.effective_mode(), NetworkMode::Bridge | NetworkMode::Awsvpc) {
        return Err(Refusal::client(
            "A containerPortRange needs the network mode bridge or awsvpc.",
        ));
    }
    match bounds(range) {
        Some((first, last)) if 0 < first && first < last && last - first < PORTS_PER_RANGE_MAX => {
            Ok(())
        }
        _ => Err(bad("containerPortRange", container)),
    }
}

fn bounds(range: &str) -> Option<(u16, u16)> {
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

fn protocol(mapping: &PortMapping) -> &str {
    mapping.protocol.as_ref().map_or("tcp", |protocol| protocol.as_str())
}

/// The container's ports that a mapping is of: one, or a range.
#[derive(Debug)]
struct Span<'m> {
    ports: Option<(u16, u16)>,
    protocol: &'m str,
    is_range: bool,
}

impl<'m> Span<'m> {
    fn of(mapping: &'m PortMapping) -> Self {
        let one = || mapping.container_port.and_then(|port| u16::try_from(port).ok());
        let ports = match &mapping.container_port_range {
            Some(range) => bounds(range),
            None => one().map(|port| (port, port)),
        };
        let is_range = mapping.container_port_range.is_some();
        Self { ports, protocol: protocol(mapping), is_range }
    }

    /// The first port that both have although one of them is a range: a single port may have several ports of
    /// the host.
    fn shared_with(&self, other: &Self) -> Option<u16> {
        let ((first, last), (other_first, other_last)) = (self.ports?, other.ports?);
        let shared = first.max(other_first);
        let is_shared = (self.is_range || other.is_range)
            && self.protocol == other.protocol
            && shared <= last.min(other_last);
        is_shared.then_some(shared)
    }
}

/// The port that no other mapping of the task may have, if there is one.
fn claimed<'m>(draft: &Draft, mapping: &'m PortMapping) -> Option<(i32, &'m str)> {
    let protocol = protocol(mapping);
    let port = match draft.effective_mode() {
        // One namespace for all containers.
        NetworkMode::Awsvpc | NetworkMode::Host => mapping.container_port?,
        NetworkMode::Bridge | NetworkMode::None => mapping.host_port.filter(|port| *port != 0)?,
    };
    Some((port, protocol))
}
