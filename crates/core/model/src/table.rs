//! One kind's rows: by account, then by id, each with the position of its last write.
//!
//! Persistent maps: cloning a table costs two pointers, so a snapshot of everything is free and a
//! writer never waits for a reader.

use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use longshore_types::AccountId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::view::{Index, Seq, Tally};

/// A row: something the region remembers under an account and an id.
pub trait Record: Serialize + DeserializeOwned + fmt::Debug {
    /// What names the row within its account. Its text is the row's key in a store.
    type Id: Ord + Clone + std::hash::Hash + fmt::Debug + fmt::Display;

    fn account(&self) -> AccountId;

    fn id(&self) -> Self::Id;

    /// Every index that the row is found under.
    fn indexes(&self) -> Vec<Index> {
        Vec::new()
    }

    /// Everything that the row is counted for.
    fn tallies(&self) -> Vec<Tally> {
        Vec::new()
    }
}

/// A row and the commit that last wrote it.
#[derive(Debug)]
pub struct Versioned<T> {
    pub seq: Seq,
    pub row: Arc<T>,
}

/// Two are equal if they are the same row as of the same commit.
impl<T> PartialEq for Versioned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq && Arc::ptr_eq(&self.row, &other.row)
    }
}

impl<T> Clone for Versioned<T> {
    fn clone(&self) -> Self {
        Self { seq: self.seq, row: Arc::clone(&self.row) }
    }
}

/// All rows of one kind.
#[derive(Debug)]
pub struct Table<R: Record> {
    accounts: OrdMap<AccountId, OrdMap<R::Id, Versioned<R>>>,
}

impl<R: Record> Clone for Table<R> {
    fn clone(&self) -> Self {
        Self { accounts: self.accounts.clone() }
    }
}

impl<R: Record> Default for Table<R> {
    fn default() -> Self {
        Self { accounts: OrdMap::new() }
    }
}

impl<R: Record> Table<R> {
    /// Whether nothing of it was written since another snapshot was taken, or before one was. It may say no where what was
    /// written is the same again.
    pub fn is_of(&self, other: &Self) -> bool {
        self.accounts.ptr_eq(&other.accounts)
    }

    pub fn get(&self, account: AccountId, id: &R::Id) -> Option<&Arc<R>> {
        self.versioned(account, id).map(|entry| &entry.row)
    }

    pub fn versioned(&self, account: AccountId, id: &R::Id) -> Option<&Versioned<R>> {
        self.accounts.get(&account)?.get(id)
    }

    /// The rows of one account, by id.
    pub fn of(&self, account: AccountId) -> impl DoubleEndedIterator<Item = &Arc<R>> {
        self.accounts.get(&account).into_iter().flat_map(|rows| rows.values()).map(|e| &e.row)
    }

    /// The rows of one account from `first` to `last`, both included, by id.
    pub fn range(
        &self,
        account: AccountId,
        first: R::Id,
        last: R::Id,
    ) -> impl DoubleEndedIterator<Item = &Arc<R>> + use<'_, R> {
        self.accounts
            .get(&account)
            .into_iter()
            .flat_map(move |rows| rows.range(first.clone()..=last.clone()))
            .map(|(_, entry)| &entry.row)
    }

    /// The rows of one account from `first` on, by id.
    pub fn from(
        &self,
        account: AccountId,
        first: R::Id,
    ) -> impl DoubleEndedIterator<Item = &Arc<R>> + use<'_, R> {
        self.accounts
            .get(&account)
            .into_iter()
            .flat_map(move |rows| rows.range(first.clone()..))
            .map(|(_, entry)| &entry.row)
    }

    /// Every account's rows.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<R>> {
        self.accounts.values().flat_map(|rows| rows.values()).map(|entry| &entry.row)
    }

    pub(crate) fn iter_versioned(&self) -> impl Iterator<Item = &Versioned<R>> {
        self.accounts.values().flat_map(|rows| rows.values())
    }

    /// The rows that differ from those of another snapshot, as they were there and as they are here.
    ///
    /// What both snapshots share is not looked at, so this costs little more than what changed.
    pub fn changes_since<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a Arc<R>>, Option<&'a Arc<R>>)> {
        before.accounts.diff(&self.accounts).flat_map(|account| {
            let (old, new) = match account {
                DiffItem::Add(_, new) => (None, Some(new)),
                DiffItem::Update { old: (_, old), new: (_, new) } => (Some(old), Some(new)),
                DiffItem::Remove(_, old) => (Some(old), None),
            };
            let both = old.zip(new).into_iter().flat_map(|(old, new)| old.diff(new));
            let both = both.map(|row| match row {
                DiffItem::Add(_, new) => (None, Some(&new.row)),
                DiffItem::Update { old: (_, old), new: (_, new) } => {
                    (Some(&old.row), Some(&new.row))
                }
                DiffItem::Remove(_, old) => (Some(&old.row), None),
            });
            let gone = old.filter(|_| new.is_none()).into_iter().flat_map(OrdMap::values);
            let come = new.filter(|_| old.is_none()).into_iter().flat_map(OrdMap::values);
            let gone = gone.map(|entry| (Some(&entry.row), None));
            both.chain(gone).chain(come.map(|entry| (None, Some(&entry.row))))
        })
    }

    /// The accounts that have a row of this kind.
    pub fn accounts(&self) -> impl Iterator<Item = AccountId> {
        self.accounts.keys().copied()
    }

    pub fn len(&self) -> usize {
        self.accounts.values().map(OrdMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    pub(crate) fn insert(&mut self, seq: Seq, row: Arc<R>) -> Option<Arc<R>> {
        let rows = self.accounts.entry(row.account()).or_default();
        rows.insert(row.id(), Versioned { seq, row }).map(|before| before.row)
    }

    pub(crate) fn remove(&mut self, account: AccountId, id: &R::Id) -> Option<Arc<R>> {
        let rows = self.accounts.get_mut(&account)?;
        let removed = rows.remove(id).map(|before| before.row);
        if rows.is_empty() {
            self.accounts.remove(&account);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use longshore_types::SeededEnv;

    use super::*;
    use crate::settings::{AccountSetting, SettingId, SettingPrincipal};

    #[test]
    fn the_changes_between_two_snapshots_lead_from_one_to_the_other() {
        let random = SeededEnv::from_seed(7);
        let mut table = Table::<AccountSetting>::default();
        let mut known = BTreeMap::new();
        let mut before = table.clone();
        for turn in 0..3_000 {
            let row = setting(random.below(3), random.below(400));
            if random.below(3) == 0 {
                table.remove(row.account, &row.setting);
            } else {
                table.insert(Seq(turn), Arc::new(row));
            }
            if random.below(20) == 0 {
                for (old, new) in table.changes_since(&before) {
                    if let Some(old) = old {
                        let was: Option<Arc<AccountSetting>> = known.remove(&key(old));
                        assert!(was.is_some_and(|was| Arc::ptr_eq(&was, old)), "turn {turn}");
                    }
                    if let Some(new) = new {
                        let was = known.insert(key(new), Arc::clone(new));
                        assert!(was.is_none(), "turn {turn}");
                    }
                }
                assert!(known.values().eq(table.iter()), "turn {turn}");
                before = table.clone();
            }
        }
    }

    fn key(row: &AccountSetting) -> (AccountId, SettingId) {
        (row.account, row.setting.clone())
    }

    fn setting(account: u32, number: u32) -> AccountSetting {
        let account = format!("{account:012}").parse().unwrap();
        let name = format!("setting-{number:04}");
        let setting = SettingId { principal: SettingPrincipal::Default, name };
        AccountSetting { account, setting, value: String::new() }
    }
}
