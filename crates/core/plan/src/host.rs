//! An instance as placement sees it: what is left of it, and which groups' tasks it has.

use std::collections::BTreeMap;

use longshore_types::InstanceId;
use model::Instance;
use model::instance::Remaining;
use model::task::{LaunchType, Need, Phase, Task};

use crate::query::Facts;

/// An instance with what is left of it. A plan takes from it as it places.
#[derive(Clone, Debug)]
pub struct Host<'a> {
    pub instance: &'a Instance,
    pub left: Remaining,
    /// Its tasks, running or on the way there.
    pub tasks: u32,
    /// Its tasks that are running.
    pub running: u32,
    /// How many of its tasks belong to which group.
    pub groups: BTreeMap<String, u32>,
}

/// A task in as far as it takes of an instance's own resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupant<'a> {
    pub instance: InstanceId,
    pub need: &'a Need,
    pub group: &'a str,
    pub is_running: bool,
}

impl<'a> Occupant<'a> {
    /// `None` if the task takes of no instance: Fargate's are accounted elsewhere.
    pub fn of(task: &'a Task) -> Option<Self> {
        let instance =
            task.instance.filter(|_| task.launch != LaunchType::Fargate && task.occupies())?;
        let is_running = task.phase == Phase::Running;
        Some(Self { instance, need: &task.need, group: &task.group, is_running })
    }
}

impl<'a> Host<'a> {
    /// The instance with those of the tasks that are on it.
    pub fn new<'t>(instance: &'a Instance, tasks: impl IntoIterator<Item = &'t Task>) -> Self {
        let occupants = tasks.into_iter().filter_map(Occupant::of);
        Self::with(instance, occupants.filter(|each| each.instance == instance.id))
    }

    pub fn with<'t>(
        instance: &'a Instance,
        occupants: impl IntoIterator<Item = Occupant<'t>>,
    ) -> Self {
        let left = instance.remaining([]);
        let mut host = Self { instance, left, tasks: 0, running: 0, groups: BTreeMap::new() };
        for occupant in occupants {
            host.take(occupant.need, occupant.group);
            host.running += u32::from(occupant.is_running);
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
        Facts::of(self.instance, self.running, &self.groups)
    }

    /// Takes what a task needs, held at nothing left.
    pub(crate) fn take(&mut self, need: &Need, group: &str) {
        let left = &mut self.left.resources;
        left.cpu.0 = left.cpu.0.saturating_sub(need.resources.cpu.0);
        left.memory.0 = left.memory.0.saturating_sub(need.resources.memory.0);
        self.left.gpus = self.left.gpus.saturating_sub(need.gpus);
        self.left.taken_ports.extend(need.ports.iter().copied());
        self.tasks += 1;
        *self.groups.entry(group.to_owned()).or_default() += 1;
    }
}
