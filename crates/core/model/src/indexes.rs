//! Where the rows of every index are kept.
//!
//! What is found by an instance lies together, apart from all else: a step of a task changes two or three such
//! indexes, and a write copies the nodes on its way. They are one way then, of nodes that have an id and a
//! pointer for each instance.
//!
//! **Invariant:** an index without a row is not there.

use std::sync::Arc;

use imbl::OrdMap;
use longshore_types::InstanceId;

use crate::rows::Key;
use crate::view::{Index, Members, Seq};

/// The rows of all indexes. A clone is a snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Indexes {
    instances: OrdMap<InstanceId, Arc<OfInstance>>,
    others: OrdMap<Index, Members>,
    /// How many indexes of instances there are.
    of_instances: usize,
}

/// What is found by one instance.
#[derive(Clone, Debug, Default)]
struct OfInstance {
    row: Option<Members>,
    tasks: Option<Members>,
    orders: Option<Members>,
    ended: Option<Members>,
}

/// Which of an instance's indexes.
#[derive(Clone, Copy, Debug)]
enum Which {
    Row,
    Tasks,
    Orders,
    Ended,
}

impl Which {
    /// The instance that an index is of, if it is one's.
    fn of(index: &Index) -> Option<(InstanceId, Self)> {
        if let Index::InstanceTasks(id) = index {
            Some((*id, Self::Tasks))
        } else if let Index::InstanceOrders(id) = index {
            Some((*id, Self::Orders))
        } else if let Index::EndedTasks(id) = index {
            Some((*id, Self::Ended))
        } else if let Index::Instance(id) = index {
            Some((*id, Self::Row))
        } else {
            None
        }
    }
}

impl OfInstance {
    fn get(&self, which: Which) -> Option<&Members> {
        match which {
            Which::Row => self.row.as_ref(),
            Which::Tasks => self.tasks.as_ref(),
            Which::Orders => self.orders.as_ref(),
            Which::Ended => self.ended.as_ref(),
        }
    }

    fn get_mut(&mut self, which: Which) -> &mut Option<Members> {
        match which {
            Which::Row => &mut self.row,
            Which::Tasks => &mut self.tasks,
            Which::Orders => &mut self.orders,
            Which::Ended => &mut self.ended,
        }
    }

    fn is_empty(&self) -> bool {
        let Self { row, tasks, orders, ended } = self;
        [row, tasks, orders, ended].into_iter().all(Option::is_none)
    }
}

impl Indexes {
    pub(crate) fn get(&self, index: &Index) -> Option<&Members> {
        match Which::of(index) {
            Some((id, which)) => self.instances.get(&id)?.get(which),
            None => self.others.get(index),
        }
    }

    /// How many have rows.
    pub(crate) fn len(&self) -> usize {
        self.others.len() + self.of_instances
    }

    /// Those from one to another, both included, which are of no instances.
    pub(crate) fn range(
        &self,
        first: Index,
        last: Index,
    ) -> impl Iterator<Item = (&Index, &Members)> {
        self.others.range(first..=last)
    }

    /// The instances that have tasks, and these.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = (InstanceId, &Members)> {
        self.instances.iter().filter_map(|(id, of)| Some((*id, of.tasks.as_ref()?)))
    }

    /// A row of the index was written at `seq`; `new` is its key if it was not in the index before.
    pub(crate) fn touch(&mut self, seq: Seq, index: Index, new: Option<&Key>) {
        let members = match Which::of(&index) {
            Some((id, which)) => {
                let of = Arc::make_mut(self.instances.entry(id).or_default()).get_mut(which);
                self.of_instances += usize::from(of.is_none());
                of.get_or_insert_default()
            }
            None => self.others.entry(index).or_default(),
        };
        // Rows that are read at the start come in no order.
        members.seq = members.seq.max(seq);
        if let Some(key) = new {
            members.insert(key);
        }
    }

    /// A row left the index at `seq`. Whether it was the last one, so that the index is gone.
    pub(crate) fn leave(&mut self, seq: Seq, index: &Index, key: &Key) -> bool {
        let leave = |members: &mut Members| {
            members.seq = seq;
            members.remove(key);
            members.is_empty()
        };
        let Some((id, which)) = Which::of(index) else {
            let is_gone = self.others.get_mut(index).is_some_and(leave);
            if is_gone {
                self.others.remove(index);
            }
            return is_gone;
        };
        let Some(of) = self.instances.get_mut(&id).map(Arc::make_mut) else { return false };
        let members = of.get_mut(which);
        let is_gone = members.as_mut().is_some_and(leave);
        if is_gone {
            *members = None;
            self.of_instances -= 1;
        }
        if of.is_empty() {
            self.instances.remove(&id);
        }
        is_gone
    }
}
