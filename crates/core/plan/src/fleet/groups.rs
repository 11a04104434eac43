//! Groups by number: a host has counts for many of them, and names are long.
//!
//! **Invariant:** a group is known for as long as it has a task; its number is never given again.
//! So what was counted for a number that is gone, is nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::query;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId(u32);

#[derive(Debug, Default)]
pub(super) struct Groups {
    ids: BTreeMap<Arc<str>, GroupId>,
    known: BTreeMap<GroupId, Group>,
    last: GroupId,
}

#[derive(Debug)]
struct Group {
    name: Arc<str>,
    tasks: u32,
}

impl Groups {
    pub(super) fn id_of(&self, name: &str) -> Option<GroupId> {
        self.ids.get(name).copied()
    }

    /// The group's number. One without tasks is forgotten by [`Groups::leave_if_empty`].
    pub(super) fn enter(&mut self, name: &str) -> GroupId {
        if let Some(id) = self.id_of(name) {
            return id;
        }
        self.last = GroupId(self.last.0 + 1);
        let name: Arc<str> = name.into();
        self.ids.insert(Arc::clone(&name), self.last);
        self.known.insert(self.last, Group { name, tasks: 0 });
        self.last
    }

    pub(super) fn add(&mut self, id: GroupId) {
        if let Some(group) = self.known.get_mut(&id) {
            group.tasks += 1;
        }
    }

    pub(super) fn remove(&mut self, id: GroupId) {
        if let Some(group) = self.known.get_mut(&id) {
            group.tasks = group.tasks.saturating_sub(1);
        }
        self.leave_if_empty(id);
    }

    pub(super) fn leave_if_empty(&mut self, id: GroupId) {
        if self.known.get(&id).is_some_and(|group| group.tasks == 0)
            && let Some(group) = self.known.remove(&id)
        {
            self.ids.remove(&group.name);
        }
    }

    /// Those that a host has tasks of, for the query language.
    pub(super) fn named<'a>(&'a self, counts: &'a BTreeMap<GroupId, u32>) -> Named<'a> {
        Named { groups: self, counts }
    }
}

#[derive(Debug)]
pub(super) struct Named<'a> {
    groups: &'a Groups,
    counts: &'a BTreeMap<GroupId, u32>,
}

impl query::Groups for Named<'_> {
    fn any(&self, test: &mut dyn FnMut(&str) -> bool) -> bool {
        let known = self.counts.keys().filter_map(|id| self.groups.known.get(id));
        known.map(|group| group.name.as_ref()).any(test)
    }

    fn has(&self, group: &str) -> bool {
        self.groups.id_of(group).is_some_and(|id| self.counts.contains_key(&id))
    }
}
