//! An instance as placement sees it: what is left of it, and which groups' tasks it has.

use std::collections::BTreeMap;

use longshore_types::InstanceId;
use model::Instance;
use model::instance::Remaining;
use model::task::{Launch, Need, Phase, Task};

use crate::query::Facts;

/// An instance with what is left of it. A plan takes from it as it places.
#[derive(Clone, Debug)]
pub struct Host<'a> {
    pub instance: &'a Instance,
    pub left: Remaining,
    /// Its tasks that are running.
    pub running: u32,
    /// How many of its tasks belong to which group.
    pub groups: BTreeMap<String, u32>,
}

impl<'a> Host<'a> {
    /// `tasks` are those that occupy the instance; Fargate's are accounted elsewhere.
    pub fn new<'t>(instance: &'a Instance, tasks: impl IntoIterator<Item = &'t Task>) -> Self {
        let mut host =
            Self { instance, left: instance.remaining([]), running: 0, groups: BTreeMap::new() };
        for task in tasks {
            if task.launch != Launch::Fargate && task.occupies() {
                host.take(&task.need);
                *host.groups.entry(task.group.clone()).or_default() += 1;
                host.running += u32::from(task.phase == Phase::Running);
            }
        }
        host
    }

    pub fn id(&self) -> InstanceId {
        self.instance.id
    }

    /// How many tasks of `group` are here.
    pub fn of_group(&self, group: &str) -> u32 {
        self.groups.get(group).copied().unwrap_or(0)
    }

    /// What the query language may ask of it.
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            attributes: &self.instance.attributes,
            agent_connected: self.instance.agent.connected,
            agent_version: self.instance.agent.version.as_deref(),
            ec2_instance_id: self.instance.ec2_instance_id.as_deref(),
            registered_at: self.instance.registered_at,
            running_tasks: self.running,
            groups: &self.groups,
        }
    }

    /// Takes what a task needs, held at nothing left.
    pub(crate) fn take(&mut self, need: &Need) {
        let left = &mut self.left.resources;
        left.cpu.0 = left.cpu.0.saturating_sub(need.resources.cpu.0);
        left.memory.0 = left.memory.0.saturating_sub(need.resources.memory.0);
        self.left.taken_ports.extend(need.ports.iter().copied());
    }
}
