//! Whether an instance would do for an ask: the verdicts that the scan over hosts and the fleet share.
//!
//! A verdict has three parts, from the one that changes least to the one that every task changes: what
//! the instance is, what its facts say to a constraint, and what capacity it has left.

use longshore_types::Resources;
use std::collections::BTreeMap;

use model::RequiredAttribute;
use model::capacity_provider::GROUP_ATTRIBUTE;
use model::instance::{Instance, InstanceStatus};
use model::task::{HostPort, Need};
use model::task_definition::{ARCHITECTURE_ATTRIBUTE, EMULATES_ATTRIBUTE};

use crate::placement::{Ask, Constraint, Pool};
use crate::query::{Expression, Facts};
use crate::refusal::Unfit;

/// Whether the ask looks at the instance at all.
pub(crate) fn is_in_pool(instance: &Instance, pool: Pool<'_>) -> bool {
    match pool {
        Pool::Own => !instance.is_external,
        Pool::External => instance.is_external,
        Pool::Group(name) => !instance.is_external && scaling_group(instance) == Some(name),
    }
}

/// The Auto Scaling group that the instance says it belongs to.
fn scaling_group(instance: &Instance) -> Option<&str> {
    instance.attributes.get(GROUP_ATTRIBUTE)?.as_deref()
}

/// The zones that bind tasks to them: those of their subnets while an active instance is in one of them, and otherwise
/// none, so that one machine runs everything. Which instances count, the pool says: those of launch type EC2 do together.
pub fn binding_zones<'z, 'i>(
    zones: &'z [String],
    pool: Pool<'_>,
    mut instances: impl Iterator<Item = &'i Instance>,
) -> &'z [String] {
    let pool = match pool {
        Pool::Own | Pool::Group(_) => Pool::Own,
        Pool::External => Pool::External,
    };
    let stands = |it: &Instance| {
        it.status == InstanceStatus::Active && is_in_pool(it, pool) && is_in(it, zones)
    };
    if zones.is_empty() || !instances.any(stands) { &[] } else { zones }
}

fn is_in(instance: &Instance, zones: &[String]) -> bool {
    instance.zone().is_some_and(|zone| zones.iter().any(|it| it == zone))
}

/// What follows from the instance's state and attributes alone. Without zones any will do.
pub(crate) fn by_nature(
    instance: &Instance,
    requires: &[RequiredAttribute],
    zones: &[String],
) -> Result<(), Unfit> {
    match instance.status {
        InstanceStatus::Active => {}
        InstanceStatus::Draining => return Err(Unfit::Draining),
        InstanceStatus::Inactive => return Err(Unfit::Inactive),
    }
    if !instance.agent.connected {
        return Err(Unfit::AgentDisconnected);
    }
    let is_met = |required: &&RequiredAttribute| meets(&instance.attributes, required);
    match requires.iter().find(|required| !is_met(required)) {
        Some(lacking) => Err(Unfit::Attribute { name: lacking.name.clone() }),
        None if !zones.is_empty() && !is_in(instance, zones) => Err(Unfit::Zone),
        None => Ok(()),
    }
}

/// Whether an instance with these attributes has what is required. Processors of another kind will do only where its
/// operator says so.
fn meets(attributes: &BTreeMap<String, Option<String>>, required: &RequiredAttribute) -> bool {
    let has = attributes.get(&required.name);
    let (Some(wanted), Some(value)) = (&required.value, has) else { return has.is_some() };
    let emulated =
        || attributes.get(EMULATES_ATTRIBUTE).and_then(Option::as_deref).unwrap_or_default();
    let is_emulated = || emulated().split(',').any(|kind| kind.trim() == wanted);
    value.as_ref() == Some(wanted) || required.name == ARCHITECTURE_ATTRIBUTE && is_emulated()
}

/// Whether every expression among the constraints holds.
pub(crate) fn by_facts(constraints: &[Constraint], facts: &Facts<'_>) -> Result<(), Unfit> {
    let holds = |expression: &Expression| expression.matches(facts);
    if expressions(constraints).all(holds) { Ok(()) } else { Err(Unfit::MemberOf) }
}

/// What changes with each task: resources, ports, and how many tasks of the group are there.
pub(crate) fn by_room(
    left: Resources,
    gpus_left: u32,
    is_taken: impl Fn(&HostPort) -> bool,
    of_group: impl Fn() -> u32,
    need: &Need,
    is_distinct: bool,
) -> Result<(), Unfit> {
    let needed = need.resources;
    if left.cpu < needed.cpu {
        return Err(Unfit::Cpu { needed: needed.cpu.0, free: left.cpu.0 });
    }
    if left.memory < needed.memory {
        return Err(Unfit::Memory { needed: needed.memory.0, free: left.memory.0 });
    }
    if gpus_left < need.gpus {
        return Err(Unfit::Gpu { needed: need.gpus, free: gpus_left });
    }
    if let Some(taken) = need.ports.iter().find(|port| is_taken(port)) {
        return Err(Unfit::Port(*taken));
    }
    if is_distinct && of_group() > 0 {
        return Err(Unfit::DistinctInstance);
    }
    Ok(())
}

impl Ask<'_> {
    /// Whether no two tasks of the group may share an instance.
    pub(crate) fn is_distinct(&self) -> bool {
        self.constraints.iter().any(|each| matches!(each, Constraint::DistinctInstance))
    }
}

/// The expressions among the constraints.
pub(crate) fn expressions(constraints: &[Constraint]) -> impl Iterator<Item = &Expression> {
    constraints.iter().filter_map(|each| match each {
        Constraint::MemberOf(expression) => Some(expression),
        Constraint::DistinctInstance => None,
    })
}

#[cfg(test)]
mod architecture {
    use super::*;

    #[test]
    fn processors_of_another_kind_do_only_where_an_attribute_says_so() {
        let attributes = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs.map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect()
        };
        let required = |value: Option<&str>| RequiredAttribute {
            name: ARCHITECTURE_ATTRIBUTE.to_owned(),
            value: value.map(str::to_owned),
        };
        let intel = attributes(&[(ARCHITECTURE_ATTRIBUTE, "x86_64")]);
        assert!(meets(&intel, &required(Some("x86_64"))) && meets(&intel, &required(None)));
        assert!(!meets(&intel, &required(Some("arm64"))));
        let both = attributes(&[
            (ARCHITECTURE_ATTRIBUTE, "x86_64"),
            (EMULATES_ATTRIBUTE, "riscv64, arm64"),
        ]);
        assert!(meets(&both, &required(Some("arm64"))));
        assert!(!meets(&attributes(&[]), &required(Some("arm64"))));
        // It is about processors alone.
        let system = RequiredAttribute { name: "ecs.os-type".into(), value: Some("arm64".into()) };
        assert!(!meets(
            &attributes(&[("ecs.os-type", "linux"), (EMULATES_ATTRIBUTE, "arm64")]),
            &system
        ));
    }
}
