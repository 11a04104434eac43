//! The instances that take Fargate tasks, the least loaded first.
//!
//! Fargate tasks are no part of an instance's own accounting: each counts as one, under a ceiling.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::InstanceId;
use model::Instance;
use model::instance::InstanceStatus;
use model::task::Task;

/// Instances in the order in which Fargate tasks go to them, kept from ask to ask.
#[derive(Clone, Debug, Default)]
pub struct FargatePool {
    tasks: BTreeMap<InstanceId, u32>,
    /// Those that take tasks.
    open: BTreeSet<InstanceId>,
    /// The open ones, by how many tasks they have.
    order: BTreeSet<(u32, InstanceId)>,
    placed: Vec<InstanceId>,
}

impl FargatePool {
    /// An instance as it is now; `None` if it is gone.
    pub fn change_instance(&mut self, id: InstanceId, now: Option<&Instance>) {
        let is_open = now.is_some_and(|instance| {
            let is_active = instance.status == InstanceStatus::Active;
            is_active && instance.agent.connected && instance.takes_fargate()
        });
        let tasks = self.tasks_on(id);
        if is_open && self.open.insert(id) {
            self.order.insert((tasks, id));
        } else if !is_open && self.open.remove(&id) {
            self.order.remove(&(tasks, id));
        }
    }

    /// How many tasks an instance has.
    pub fn set_tasks(&mut self, id: InstanceId, tasks: u32) {
        self.set(id, tasks);
    }

    /// A task as it was and as it is; `None` for not there.
    pub fn change_task(&mut self, before: Option<&Task>, now: Option<&Task>) {
        let place = |task: Option<&Task>| {
            task.filter(|task| task.occupies()).and_then(|task| task.instance)
        };
        let (before, now) = (place(before), place(now));
        if before == now {
            return;
        }
        if let Some(id) = before {
            self.set(id, self.tasks_on(id).saturating_sub(1));
        }
        if let Some(id) = now {
            self.set(id, self.tasks_on(id).saturating_add(1));
        }
    }

    /// The place of one task, counted at once and until [`FargatePool::give_back`]; `None` if every
    /// instance has `tasks_max`, or there is none.
    pub fn place(&mut self, tasks_max: u32) -> Option<InstanceId> {
        let (tasks, id) = *self.order.first().filter(|(tasks, _)| *tasks < tasks_max)?;
        self.set(id, tasks + 1);
        self.placed.push(id);
        Some(id)
    }

    /// Undoes what was placed since the last time.
    pub fn give_back(&mut self) {
        for id in std::mem::take(&mut self.placed) {
            self.set(id, self.tasks_on(id).saturating_sub(1));
        }
    }

    fn tasks_on(&self, id: InstanceId) -> u32 {
        self.tasks.get(&id).copied().unwrap_or(0)
    }

    fn set(&mut self, id: InstanceId, tasks: u32) {
        if self.open.contains(&id) {
            self.order.remove(&(self.tasks_on(id), id));
            self.order.insert((tasks, id));
        }
        if tasks == 0 {
            self.tasks.remove(&id);
        } else {
            self.tasks.insert(id, tasks);
        }
    }
}
