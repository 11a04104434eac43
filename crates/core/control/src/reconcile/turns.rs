//! Keys whose pass is due and that have owners, who take turns.

use std::collections::{BTreeMap, VecDeque};

use longshore_types::AccountId;

/// The keys of one reconciler that have owners, from when their pass is due until it has ended.
#[derive(Debug)]
pub(super) struct Turns<K> {
    owners: BTreeMap<AccountId, Owner<K>>,
    turns: u64,
}

/// An account with keys that wait or passes under way.
#[derive(Debug)]
struct Owner<K> {
    waiting: VecDeque<K>,
    under_way: usize,
    /// The turn that it had last.
    last: u64,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { owners: BTreeMap::new(), turns: 0 }
    }
}

impl<K> Default for Owner<K> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), under_way: 0, last: 0 }
    }
}

impl<K> Turns<K> {
    pub(super) fn wait(&mut self, owner: AccountId, key: K) {
        self.owners.entry(owner).or_default().waiting.push_back(key);
    }

    /// Keys that wait.
    pub(super) fn waiting(&self) -> usize {
        self.owners.values().map(|owner| owner.waiting.len()).sum()
    }

    /// The key whose pass begins now: of whoever has the fewest under way, and among these of whoever waits longest for a turn.
    pub(super) fn next(&mut self, each_max: usize) -> Option<K> {
        let may = |owner: &&mut Owner<K>| !owner.waiting.is_empty() && owner.under_way < each_max;
        let owner = self.owners.values_mut().filter(may);
        let owner = owner.min_by_key(|owner| (owner.under_way, owner.last))?;
        let key = owner.waiting.pop_front()?;
        self.turns += 1;
        owner.last = self.turns;
        owner.under_way += 1;
        Some(key)
    }

    /// A pass that [`Turns::next`] began has ended.
    pub(super) fn ended(&mut self, owner: AccountId) {
        let Some(it) = self.owners.get_mut(&owner) else { return };
        it.under_way = it.under_way.saturating_sub(1);
        if it.under_way == 0 && it.waiting.is_empty() {
            self.owners.remove(&owner);
        }
    }
}
