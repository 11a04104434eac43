//! Whether an instance would do for an ask: the verdicts that the scan over hosts and the fleet share.
//!
//! A verdict has three parts, from the one that changes least to the one that every task changes: what
//! the instance is, what its facts say to a constraint, and what capacity it has left.

use longshore_types::Resources;
use model::RequiredAttribute;
use model::capacity_provider::GROUP_ATTRIBUTE;
use model::instance::{Instance, InstanceStatus};
use model::task::{HostPort, Need};

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

/// What follows from the instance's state and attributes alone.
pub(crate) fn by_nature(instance: &Instance, requires: &[RequiredAttribute]) -> Result<(), Unfit> {
    match instance.status {
        InstanceStatus::Active => {}
        InstanceStatus::Draining => return Err(Unfit::Draining),
        InstanceStatus::Inactive => return Err(Unfit::Inactive),
    }
    if !instance.agent.connected {
        return Err(Unfit::AgentDisconnected);
    }
    for required in requires {
        let has = instance.attributes.get(&required.name);
        let is_met = match (&required.value, has) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(wanted), Some(value)) => value.as_ref() == Some(wanted),
        };
        if !is_met {
            return Err(Unfit::Attribute { name: required.name.clone() });
        }
    }
    Ok(())
}

/// Whether every expression among the constraints holds.
pub(crate) fn by_facts(constraints: &[Constraint], facts: &Facts<'_>) -> Result<(), Unfit> {
    let holds = |expression: &Expression| expression.matches(facts);
    if expressions(constraints).all(holds) { Ok(()) } else { Err(Unfit::MemberOf) }
}

/// What changes with each task: resources, ports, and how many tasks of the group are there.
pub(crate) fn by_room(
    left: Resources,
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
