//! Placement: hosts and what is asked of them in, a plan and the refusals out.
//!
//! **Invariant:** a plan never gives away what a host has not left: not CPU, not memory, no port twice.

use longshore_types::InstanceId;
use model::RequiredAttribute;
use model::instance::InstanceStatus;
use model::task::{Launch, Need, Task};

use crate::host::Host;
use crate::query::Expression;
use crate::refusal::Unfit;
use crate::strategy::{Queue, Strategy};

/// What an instance must satisfy beyond having room.
#[derive(Clone, Debug)]
pub enum Constraint {
    /// No other task of the group may be there.
    DistinctInstance,
    MemberOf(Expression),
}

/// What is asked: room for tasks that are all alike.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub need: &'a Need,
    pub group: &'a str,
    pub requires: &'a [RequiredAttribute],
    pub constraints: &'a [Constraint],
    pub strategies: &'a [Strategy],
}

/// Where tasks go, and why no more of them fitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One entry a task that was placed, in the order of placing.
    pub placements: Vec<InstanceId>,
    /// Why each host refused the first task that fitted nowhere; empty if all were placed.
    pub refusals: Vec<(InstanceId, Unfit)>,
}

/// Finds places for `count` tasks. `draw` stands for chance. Ties go to the lowest id.
pub fn plan(hosts: &mut [Host<'_>], ask: &Ask<'_>, count: u32, draw: u64) -> Plan {
    let mut plan = Plan::default();
    let lasting: Vec<Option<Unfit>> =
        hosts.iter().map(|host| unfit_for_good(host, ask).err()).collect();
    let is_fit = |index: usize, host: &Host<'_>| {
        lasting[index].is_none() && unfit_for_now(host, ask).is_ok()
    };
    let mut queue = Queue::new(ask.strategies, ask.group, draw, hosts, is_fit);
    while plan.placements.len() < usize::try_from(count).unwrap_or(usize::MAX) {
        let Some(index) = queue.take() else {
            let why = |(host, lasting): (&Host<'_>, &Option<Unfit>)| {
                let unfit = lasting.clone().or_else(|| unfit_for_now(host, ask).err())?;
                Some((host.id(), unfit))
            };
            plan.refusals = hosts.iter().zip(&lasting).filter_map(why).collect();
            return plan;
        };
        let host = &mut hosts[index];
        host.take(ask.need);
        *host.groups.entry(ask.group.to_owned()).or_default() += 1;
        plan.placements.push(host.id());
        queue.placed(index, host, is_fit(index, host));
    }
    plan
}

/// Whether `host` would take one such task, or the first reason against it. Strategies play no part.
pub fn fit(host: &Host<'_>, ask: &Ask<'_>) -> Result<(), Unfit> {
    unfit_for_good(host, ask)?;
    unfit_for_now(host, ask)
}

/// The instance for a Fargate task: connected, under its ceiling, and with the fewest such tasks.
pub fn plan_fargate<'a>(
    hosts: impl IntoIterator<Item = (&'a model::Instance, usize)>,
    tasks_max: usize,
) -> Option<InstanceId> {
    hosts
        .into_iter()
        .filter(|(instance, tasks)| {
            let is_active = instance.status == InstanceStatus::Active;
            is_active && instance.agent.connected && instance.takes_fargate() && *tasks < tasks_max
        })
        .min_by_key(|(instance, tasks)| (*tasks, instance.id))
        .map(|(instance, _)| instance.id)
}

/// Whether a task counts against an instance's own resources.
pub fn is_accounted(task: &Task) -> bool {
    task.launch != Launch::Fargate
}

/// What no placement of this plan will change.
fn unfit_for_good(host: &Host<'_>, ask: &Ask<'_>) -> Result<(), Unfit> {
    match host.instance.status {
        InstanceStatus::Active => {}
        InstanceStatus::Draining => return Err(Unfit::Draining),
        InstanceStatus::Inactive => return Err(Unfit::Inactive),
    }
    if !host.instance.agent.connected {
        return Err(Unfit::AgentDisconnected);
    }
    for required in ask.requires {
        let has = host.instance.attributes.get(&required.name);
        let is_met = match (&required.value, has) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(wanted), Some(value)) => value.as_ref() == Some(wanted),
        };
        if !is_met {
            return Err(Unfit::Attribute { name: required.name.clone() });
        }
    }
    let facts = host.facts();
    let is_member = ask.constraints.iter().all(|constraint| match constraint {
        Constraint::MemberOf(expression) => expression.matches(&facts),
        Constraint::DistinctInstance => true,
    });
    if is_member { Ok(()) } else { Err(Unfit::MemberOf) }
}

/// What changes as tasks are placed.
fn unfit_for_now(host: &Host<'_>, ask: &Ask<'_>) -> Result<(), Unfit> {
    let (left, need) = (host.left.resources, ask.need.resources);
    if left.cpu < need.cpu {
        return Err(Unfit::Cpu { needed: need.cpu.0, free: left.cpu.0 });
    }
    if left.memory < need.memory {
        return Err(Unfit::Memory { needed: need.memory.0, free: left.memory.0 });
    }
    if let Some(taken) = ask.need.ports.iter().find(|port| host.left.taken_ports.contains(port)) {
        return Err(Unfit::Port(*taken));
    }
    let is_distinct = ask.constraints.iter().any(|c| matches!(c, Constraint::DistinctInstance));
    if is_distinct && host.of_group(ask.group) > 0 {
        return Err(Unfit::DistinctInstance);
    }
    Ok(())
}
