//! The file's one table: every version of every row, in the order in which they were written.
//!
//! A version is appended and nothing is changed in place, so what a commit writes is what it says: it does
//! not grow with the rows that are there already, wherever those lie. What is no longer a row's last version
//! is garbage. While there is twice as much of it as there are rows, each commit looks at the oldest entries,
//! about twice as many as it wrote, appends those again that are still a row's last version, and deletes them
//! all. Of rows that live for some versions and go, most of the oldest are garbage by then.
//!
//! **Invariant:** entries are numbered without a gap, and of a row the entry with the highest number counts.
//! An entry that says that its row was removed can be deleted once it is the oldest: those it overrules were
//! older still.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use rusqlite::{CachedStatement, Connection, params};

/// Garbage that is left alone for each row: more of it is read at the start, less is written more often.
const GARBAGE_TO_ROWS: i64 = 2;
/// Garbage that is left alone whatever there is besides.
const GARBAGE_MIN: i64 = 4_096;
/// Entries that a commit looks at besides those that it owes for what it wrote.
const LOOKED_AT_MIN: i64 = 64;

/// A row's name in sixteen bytes: of a million rows two share one once in 10²⁶ stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint(u64, u64);

/// Makes fingerprints, by keys that are drawn whenever a store is opened: people choose names of rows, and
/// whoever found two with one fingerprint would have one row take another's place.
#[derive(Clone, Debug, Default)]
pub(super) struct Fingerprints(RandomState, RandomState);

impl Fingerprints {
    pub(super) fn of(&self, kind: &str, account: &str, id: &str) -> Fingerprint {
        let row = (kind, account, id);
        Fingerprint(self.0.hash_one(row), self.1.hash_one(row))
    }
}

/// Where each row's last version is, and which entries there are.
#[derive(Debug, Default)]
pub(super) struct Log {
    names: Fingerprints,
    last: HashMap<Fingerprint, i64>,
    /// The oldest entry's number.
    oldest: i64,
    /// The number of the next one.
    next: i64,
}

/// What a row becomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) kind: &'a str,
    pub(super) account: &'a str,
    pub(super) id: &'a str,
    pub(super) seq: i64,
    /// JSON; `None`: the row is no more.
    pub(super) value: Option<&'a str>,
}

/// What a transaction did. The log knows of it once it is committed.
#[derive(Debug)]
pub(super) struct Appended {
    names: Fingerprints,
    last: HashMap<Fingerprint, Option<i64>>,
    oldest: i64,
    next: i64,
    written: i64,
}

impl Log {
    /// A log with these entries: what it takes for the last versions is what `last` says of them.
    pub(super) fn of(
        names: Fingerprints,
        last: HashMap<Fingerprint, i64>,
        oldest: i64,
        next: i64,
    ) -> Self {
        Self { names, last, oldest, next }
    }

    pub(super) fn begin(&self) -> Appended {
        let Self { oldest, next, .. } = *self;
        Appended { names: self.names.clone(), last: HashMap::new(), oldest, next, written: 0 }
    }

    /// What was appended is committed.
    pub(super) fn finish(&mut self, appended: Appended) {
        (self.oldest, self.next) = (appended.oldest, appended.next);
        for (row, number) in appended.last {
            match number {
                Some(number) => drop(self.last.insert(row, number)),
                None => drop(self.last.remove(&row)),
            }
        }
    }

    /// Deletes some of the oldest entries if there is too much garbage.
    pub(super) fn tidy(
        &self,
        connection: &Connection,
        appended: &mut Appended,
    ) -> Result<(), rusqlite::Error> {
        let rows = i64::try_from(self.last.len()).unwrap_or(i64::MAX);
        let entries = appended.next - appended.oldest;
        if entries <= rows.saturating_mul(1 + GARBAGE_TO_ROWS).saturating_add(GARBAGE_MIN) {
            return Ok(());
        }
        let (first, count) = (appended.oldest, 2 * appended.written + LOOKED_AT_MIN);
        // No more than there was before: what is appended now is new.
        let end = first.saturating_add(count).min(self.next);
        let is_last =
            |appended: &Appended, row: Fingerprint, number: i64| match appended.last.get(&row) {
                Some(again) => *again == Some(number),
                None => self.last.get(&row) == Some(&number),
            };
        let mut oldest = connection
            .prepare_cached("SELECT n, kind, account, id FROM log WHERE n >= ?1 AND n < ?2")?;
        let mut entries = oldest.query([first, end])?;
        let mut kept = Vec::new();
        while let Some(entry) = entries.next()? {
            let number: i64 = entry.get(0)?;
            let text = |at: usize| entry.get_ref(at)?.as_str().map_err(Into::into);
            let texts: [Result<&str, rusqlite::Error>; 3] = [text(1), text(2), text(3)];
            let [kind, account, id] = texts;
            let row = self.names.of(kind?, account?, id?);
            if is_last(appended, row, number) {
                kept.push((row, number));
            }
        }
        let mut again = connection.prepare_cached(
            "INSERT INTO log (n, kind, account, id, seq, value)
             SELECT ?1, kind, account, id, seq, value FROM log WHERE n = ?2",
        )?;
        for (row, number) in kept {
            again.execute([appended.next, number])?;
            appended.last.insert(row, Some(appended.next));
            appended.next += 1;
        }
        connection.prepare_cached("DELETE FROM log WHERE n < ?1")?.execute([end])?;
        appended.oldest = end;
        Ok(())
    }
}

impl Appended {
    pub(super) fn append(
        &mut self,
        insert: &mut CachedStatement<'_>,
        entry: &Entry<'_>,
    ) -> Result<(), rusqlite::Error> {
        let Entry { kind, account, id, seq, value } = *entry;
        insert.execute(params![self.next, kind, account, id, seq, value])?;
        let number = value.map(|_| self.next);
        self.last.insert(self.names.of(kind, account, id), number);
        self.next += 1;
        self.written += 1;
        Ok(())
    }

    pub(super) fn insert(connection: &Connection) -> Result<CachedStatement<'_>, rusqlite::Error> {
        connection.prepare_cached(
            "INSERT INTO log (n, kind, account, id, seq, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_one_fingerprint_and_nobody_can_know_it_beforehand() {
        let (one, other) = (Fingerprints::default(), Fingerprints::default());
        let row = ("TaskDefinition", "000000000000", "web:1");
        let of = |names: &Fingerprints| names.of(row.0, row.1, row.2);
        assert_eq!(of(&one), of(&one.clone()));
        assert_ne!(of(&one), of(&other));
        assert_ne!(of(&one), one.of(row.0, "00000000000", "0web:1"), "names do not run together");
    }
}
