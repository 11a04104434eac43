//! Targets of load balancers that are taken away, and the tasks that waited for it.
//!
//! **Invariant:** a task that is to stop is told so in the batch in which the last of its targets goes, never before.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use longshore_types::{AccountId, Timestamp};
use model::elb::TargetId;
use model::task::{Input, step};
use model::{Instance, Key, View};
use store::Batch;

use crate::tasks::put_task;

/// Where the ports that the region's own machine publishes are reached by balancers, which are on it too. What another
/// instance says of its ports is nothing to go by there.
pub const INSTANCE_ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What an instance is called as a target.
pub fn instance_name(instance: &Instance) -> String {
    instance.ec2_instance_id.clone().unwrap_or_else(|| instance.id.to_string())
}

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
