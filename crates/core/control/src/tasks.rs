//! Task rows, which the API, reconcilers and agents' sessions all write.
//!
//! **Invariant:** a task's addresses are taken back in the same batch in which the task stops.

use std::sync::Arc;

use aws_wire::ApiError;
use longshore_types::TaskArn;
use model::network::ElasticAddress;
use model::task::{Input, Phase, Task, step};
use model::vpc::{Interface, InterfaceUser, region_account};
use model::{Index, Key, View};
use store::Batch;

use crate::Control;

/// The rows of a batch that one task may be: itself, its interface, and what that had: tags and an Elastic IP address.
pub const ROWS_OF_TASK_MAX: usize = 4;
/// Tasks that may be stopped by one batch which does little else.
pub const STOPPED_AT_ONCE_MAX: usize = (store::BATCH_ROWS_MAX - 8) / ROWS_OF_TASK_MAX;

/// Writes a task; once it has stopped, its address is free again. A row that is written after that leaves the
/// address alone: it may be another task's by then.
pub fn put_task(view: &View, batch: &mut Batch, task: Task) {
    if let Some(interface) = task.interface.as_ref().filter(|_| task.phase == Phase::Stopped) {
        let id = interface.row_id();
        let row = view.interfaces.get(region_account(), &id);
        if let Some(row) = row
            .filter(|row| matches!(row.user, InterfaceUser::Task { task: of, .. } if of == task.id))
        {
            give_back_elastic(view, batch, row);
            take_tags(view, batch, row);
            batch.delete(Key::Interface(region_account(), id));
        }
    }
    batch.put(task);
}

/// Nobody could name them once the interface is gone.
fn take_tags(view: &View, batch: &mut Batch, interface: &Interface) {
    let account = interface.owner.account;
    let resource: Arc<str> = interface.eni.as_str().into();
    if view.ec2_tags.get(account, &resource).is_some() {
        batch.delete(Key::Ec2Tags(account, resource));
    }
}

/// An Elastic IP address stays its account's when the interface ends that had it.
fn give_back_elastic(view: &View, batch: &mut Batch, interface: &Interface) {
    if !interface.is_apart {
        return;
    }
    batch.rely(Index::Ec2Uses(interface.owner.account, interface.eni.as_str().into()));
    if let Some(address) = view.elastic_address_of(interface) {
        batch.put(ElasticAddress { association: None, ..ElasticAddress::clone(address) });
    }
}

impl Control {
    /// Applies an input to a task's row.
    pub async fn feed(&self, task: &TaskArn, input: &Input) -> Result<(), ApiError> {
        self.decide(|view, now| {
            let mut batch = Batch::on(view);
            let row = view.tasks.get(task.scope.account, &task.id);
            if let Some(next) = row.and_then(|row| step(row, input, now)) {
                put_task(view, &mut batch, next);
            }
            Ok((batch, ()))
        })
        .await
    }
}

/// What a task that was run to get something done came to: it is done if each of its essential containers exited with 0.
pub fn outcome(task: &Task) -> Result<(), String> {
    let mut essential = task.containers.iter().filter(|container| container.essential);
    let Some(odd) = essential.find(|container| container.seen.exit_code != Some(0)) else {
        return Ok(());
    };
    let cause = task.stop_cause.as_ref().map(ToString::to_string).unwrap_or_default();
    Err(match odd.seen.exit_code {
        Some(code) => format!("the task {}: container {} exited with {code}", task.id, odd.name),
        None => {
            let reason = odd.seen.reason.clone().unwrap_or(cause);
            format!("the task {}: container {} did not run: {reason}", task.id, odd.name)
        }
    })
}
