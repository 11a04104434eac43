//! Which GPUs of an instance a task has: chosen with the instance, and told to its agent.
//!
//! **Invariant:** no GPU is of two tasks that occupy its instance.

use std::collections::BTreeSet;

use longshore_types::InstanceId;
use model::task::{ContainerOverride, Overrides, Task};
use model::{ContainerNeeds, Row, TaskDefinition, View};
use store::Batch;

/// What requirements call GPUs.
pub(crate) const GPU: &str = "GPU";

/// How many GPUs a container gets, after overrides.
pub(crate) fn count(needs: &ContainerNeeds, overrides: &Overrides) -> u32 {
    let changed = overrides.of(needs.name.as_str());
    changed.and_then(of_override).unwrap_or(needs.gpus)
}

fn of_override(changed: &ContainerOverride) -> Option<u32> {
    let given = changed.resource_requirements.as_ref()?;
    let gpus = given.iter().filter(|(kind, _)| kind == GPU);
    Some(gpus.filter_map(|(_, value)| value.parse::<u32>().ok()).fold(0, u32::saturating_add))
}

/// Gives a task's containers GPUs of the instance that neither the view's tasks nor the batch's have. `false` if there
/// are too few: then whoever found the place was wrong.
pub(crate) fn pin(
    view: &View,
    batch: &Batch,
    definition: &TaskDefinition,
    instance: InstanceId,
    task: &mut Task,
) -> bool {
    if task.need.gpus == 0 {
        return true;
    }
    let Some(row) = view.instances.get(task.scope.account, &instance) else { return false };
    let of_batch = batch.writes.iter().filter_map(|row| match row {
        Row::Task(other) if other.instance == Some(instance) => Some(&**other),
        _ => None,
    });
    let on = view.tasks_on_instance(instance).map(AsRef::as_ref).filter(|task| task.occupies());
    let holders = on.chain(of_batch).filter(|other| other.id != task.id);
    let taken: BTreeSet<&str> = holders.flat_map(held).collect();
    let mut free = row.gpus().iter().filter(|id| !taken.contains(id.as_str()));
    let mut chosen = Vec::new();
    for needs in &definition.containers {
        let wanted = usize::try_from(count(needs, &task.overrides)).unwrap_or(usize::MAX);
        let some: Vec<String> = free.by_ref().take(wanted).cloned().collect();
        if some.len() < wanted {
            return false;
        }
        chosen.push((needs.name.clone(), some));
    }
    for container in &mut task.containers {
        if let Some((_, gpus)) = chosen.iter().find(|(name, _)| *name == container.name) {
            container.gpus.clone_from(gpus);
        }
    }
    true
}

/// The GPUs that a task has.
pub(crate) fn held(task: &Task) -> impl Iterator<Item = &str> {
    task.containers.iter().flat_map(|container| &container.gpus).map(String::as_str)
}
