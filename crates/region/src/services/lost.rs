//! Instances that have been silent for too long: their tasks count as stopped, and services replace them.
//!
//! An agent that comes back later is told by the task manifest what is still wanted of it, and stops
//! the rest itself.

use std::collections::{BTreeMap, BTreeSet};

use aws_wire::ApiError;
use longshore_types::{AccountId, InstanceId, Timestamp};
use model::instance::{Instance, InstanceStatus};
use model::task::{Input, Phase, step};
use model::{Index, Key, View};
use store::Batch;
use tracing::warn;

use crate::ecs::launch::put_task;
use crate::region::Region;

/// Tasks that are given up with one decision; each may be two rows.
const TASKS_AT_ONCE_MAX: usize = store::BATCH_ROWS_MAX / 2;

/// The instances whose agents are away, and since when.
#[derive(Debug, Default)]
pub(super) struct Silences {
    since: BTreeMap<(AccountId, InstanceId), Timestamp>,
    order: BTreeSet<(Timestamp, AccountId, InstanceId)>,
}

impl Silences {
    pub(super) fn look_at_all(&mut self, view: &View) {
        *self = Self::default();
        for row in view.instances.iter() {
            self.look_at(row);
        }
    }

    pub(super) fn look_at(&mut self, row: &Instance) {
        let (account, id) = (row.scope.account, row.id);
        self.forget(account, id);
        if !row.agent.connected && row.status < InstanceStatus::Inactive {
            self.since.insert((account, id), row.agent.changed_at);
            self.order.insert((row.agent.changed_at, account, id));
        }
    }

    pub(super) fn forget(&mut self, account: AccountId, id: InstanceId) {
        if let Some(since) = self.since.remove(&(account, id)) {
            self.order.remove(&(since, account, id));
        }
    }

    /// When the next of them has been silent for too long.
    pub(super) fn next_alarm(&self, silence_ms: u64) -> Option<Timestamp> {
        self.order.first().map(|(since, ..)| since.plus_ms(silence_ms))
    }

    /// The next instance that has been silent for too long, which is forgotten.
    pub(super) fn next(
        &mut self,
        silence_ms: u64,
        now: Timestamp,
    ) -> Option<(AccountId, InstanceId)> {
        let (since, account, id) = *self.order.first()?;
        if now < since.plus_ms(silence_ms) {
            return None;
        }
        self.forget(account, id);
        Some((account, id))
    }

    /// Has an instance that was taken out by [`Silences::next`] come up again.
    pub(super) fn put_back(&mut self, account: AccountId, id: InstanceId, since: Timestamp) {
        self.since.insert((account, id), since);
        self.order.insert((since, account, id));
    }
}

/// Gives up the tasks of an instance, if it is still silent and has been for too long.
pub(super) async fn give_up(
    region: &Region,
    account: AccountId,
    id: InstanceId,
) -> Result<(), ApiError> {
    loop {
        let lost = region.decide(|view, now| Ok(decide(region, view, account, id, now))).await?;
        for task in &lost {
            region.after_change(*task, None, Phase::Stopped);
        }
        if !lost.is_empty() {
            warn!(instance = %id, tasks = lost.len(), "tasks of a silent instance given up");
        }
        if lost.len() < TASKS_AT_ONCE_MAX {
            return Ok(());
        }
    }
}

fn decide(
    region: &Region,
    view: &View,
    account: AccountId,
    id: InstanceId,
    now: Timestamp,
) -> (Batch, Vec<longshore_types::TaskId>) {
    let mut batch = Batch::on(view);
    let mut lost = Vec::new();
    let Some(row) = view.instances.get(account, &id) else { return (batch, lost) };
    let is_silent = now.since_ms(row.agent.changed_at) >= region.config.instance_silence_ms;
    if row.agent.connected || !is_silent {
        return (batch, lost);
    }
    batch.rely(Key::ContainerInstance(account, id));
    batch.rely(Index::InstanceTasks(id));
    let input = Input::InstanceLost { instance: row.arn() };
    for task in view.tasks_on_instance(id).take(TASKS_AT_ONCE_MAX) {
        if let Some(next) = step(task, &input, now) {
            lost.push(next.id);
            put_task(&mut batch, next);
        }
    }
    (batch, lost)
}
