//! Has tasks that were read one by one hold in common again what is the same in them.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use super::{Asked, AskedContainer, Task};

/// What the tasks that were read so far have. Dropped once all are read: it keeps nothing alive.
#[derive(Debug, Default)]
pub struct Sharing {
    asked: HashSet<Arc<Asked>>,
    containers: HashSet<Arc<AskedContainer>>,
    texts: HashSet<Arc<str>>,
}

impl Sharing {
    /// Replaces what an earlier task has as well by that.
    pub fn share(&mut self, task: &mut Task) {
        share(&mut self.asked, &mut task.asked);
        for container in &mut task.containers {
            share(&mut self.containers, &mut container.asked);
        }
        for text in [&mut task.zone, &mut task.capacity_provider].into_iter().flatten() {
            share(&mut self.texts, text);
        }
    }
}

fn share<T: Eq + Hash + ?Sized>(known: &mut HashSet<Arc<T>>, value: &mut Arc<T>) {
    match known.get(value) {
        Some(found) => *value = Arc::clone(found),
        None => drop(known.insert(Arc::clone(value))),
    }
}
