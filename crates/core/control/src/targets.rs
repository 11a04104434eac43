//! Targets of load balancers that are taken away, and the tasks that waited for it.
//!
//! **Invariant:** a task that is to stop is told so in the batch in which the last of its targets goes, never before.

use std::collections::BTreeSet;

use longshore_types::{AccountId, Timestamp};
use model::elb::TargetId;
use model::task::{Input, step};
use model::{Key, View};
use store::Batch;

use crate::tasks::put_task;

/// Takes targets away, and lets tasks that are to stop go on to it once none of their targets is left.
pub fn remove_targets(
    view: &View,
    batch: &mut Batch,
    account: AccountId,
    ids: &[TargetId],
    now: Timestamp,
) {
    let gone: BTreeSet<&TargetId> = ids.iter().collect();
    let rows = ids.iter().filter_map(|id| view.elb_targets.get(account, id));
    let tasks: BTreeSet<_> = rows.filter_map(|row| row.task.as_ref()).map(|it| it.task).collect();
    for id in &gone {
        batch.delete(Key::ElbTarget(account, (*id).clone()));
    }
    for id in tasks {
        let Some(task) = view.tasks.get(account, &id) else { continue };
        let mut left = view.targets_of_task(account, id);
        if !task.is_held() || !left.all(|row| gone.contains(&row.id)) {
            continue;
        }
        batch.rely(Key::Task(account, id));
        if let Some(next) = step(task, &Input::TargetsGone, now) {
            put_task(view, batch, next);
        }
    }
}
