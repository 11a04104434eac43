//! The thread that owns the connection: groups of batches, one transaction and one sync each.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use model::{Key, Row, Seq, View};
use rusqlite::{CachedStatement, Connection};
use tokio::sync::oneshot;

use super::Shared;
use super::log::{Appended, Entry, Log};
use crate::batch::CommitError;
use crate::feed::Change;

/// An accepted batch.
#[derive(Debug)]
pub(super) struct Work {
    /// The batch's position in the order of commits.
    pub(super) seq: Seq,
    pub(super) writes: Vec<Row>,
    pub(super) deletes: Vec<Key>,
    pub(super) answer: oneshot::Sender<Result<Seq, CommitError>>,
}

/// What a group leaves of a row.
enum Fate {
    Written(Seq, Row),
    Deleted(Seq),
}

type Fates = BTreeMap<Key, Fate>;

type WriteError = Box<dyn Error + Send + Sync>;

#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    log: Log,
    works: Receiver<Work>,
    shared: Arc<Shared>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        log: Log,
        works: Receiver<Work>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { connection, log, works, shared }
    }

    /// Runs until the store is dropped and everything that waits is written.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.works.recv() {
            let (mut group, view) = self.group(first);
            match self.write(&mut group) {
                Ok(fates) => self.acknowledge(group, view, fates),
                Err(error) => self.refuse(group, error.into()),
            }
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::error!(%error, "failed to close the store");
        }
    }

    /// Everything that waits, and the state once it is written.
    ///
    /// Batches do not carry their states: as long as nobody holds the latest one, the next batch
    /// changes it in place, and only the first one after this copies what it touches.
    fn group(&self, first: Work) -> (Vec<Work>, Arc<View>) {
        // Under the lock nothing is added: what waits now is what the latest state has.
        let ledger = self.shared.ledger();
        let mut group = vec![first];
        group.extend(self.works.try_iter());
        (group, ledger.latest())
    }

    /// Only the last word on each row is written: the group is durable as a whole.
    fn write(&mut self, group: &mut [Work]) -> Result<Fates, WriteError> {
        let mut fates = BTreeMap::new();
        for work in group {
            let seq = work.seq;
            let deletes = std::mem::take(&mut work.deletes);
            fates.extend(deletes.into_iter().map(|key| (key, Fate::Deleted(seq))));
            let writes = std::mem::take(&mut work.writes);
            fates.extend(writes.into_iter().map(|row| (row.key(), Fate::Written(seq, row))));
        }
        if fates.is_empty() {
            return Ok(fates);
        }
        let transaction = self.connection.transaction()?;
        let mut appended = self.log.begin();
        {
            let mut insert = Appended::insert(&transaction)?;
            for (key, fate) in &fates {
                append(&mut appended, &mut insert, key, fate)?;
            }
        }
        self.log.tidy(&transaction, &mut appended)?;
        transaction.commit()?;
        self.log.finish(appended);
        Ok(fates)
    }

    fn acknowledge(&self, group: Vec<Work>, view: Arc<View>, fates: Fates) {
        let seq = view.seq;
        let is_watched = {
            let mut ledger = self.shared.ledger();
            ledger.make_durable(view);
            // Asked under the lock: who watches from now on sees these rows in its first view.
            self.shared.feed.is_watched()
        };
        self.shared.waiting.fetch_sub(group.len(), Ordering::Relaxed);
        self.shared.durable_seq.send_replace(seq);
        if is_watched {
            self.shared.feed.tell(&changes(fates));
        }
        for work in group {
            // Whoever asked may have gone; it is written all the same.
            let _ = work.answer.send(Ok(work.seq));
        }
    }

    /// Undoes the group and everything accepted on top of it.
    fn refuse(&self, mut group: Vec<Work>, error: Arc<dyn Error + Send + Sync>) {
        tracing::error!(error = %error, batches = group.len(), "failed to write to the store");
        let seq = {
            let mut ledger = self.shared.ledger();
            // Under the lock nothing is added: what waits now was built on what failed.
            group.extend(self.works.try_iter());
            ledger.roll_back();
            ledger.durable().seq
        };
        self.shared.waiting.fetch_sub(group.len(), Ordering::Relaxed);
        self.shared.durable_seq.send_replace(seq);
        self.shared.feed.tell_everything();
        for work in group {
            let _ = work.answer.send(Err(CommitError::Failed(Arc::clone(&error))));
        }
    }
}

fn changes(fates: Fates) -> Vec<Change> {
    let fates = fates.into_iter();
    let change = |(key, fate)| match fate {
        Fate::Written(seq, _) | Fate::Deleted(seq) => Change { seq, key },
    };
    let mut changes: Vec<Change> = fates.map(change).collect();
    changes.sort_by_key(|change| change.seq);
    changes
}

fn append(
    appended: &mut Appended,
    insert: &mut CachedStatement<'_>,
    key: &Key,
    fate: &Fate,
) -> Result<(), WriteError> {
    let (account, id) = (key.account(), key.id_text());
    let (seq, value) = match fate {
        Fate::Written(seq, row) => (seq, Some(row.to_json()?)),
        Fate::Deleted(seq) => (seq, None),
    };
    let (kind, account, id) = (key.kind().name(), account.as_str(), id.as_str());
    let seq = i64::try_from(seq.0)?;
    appended.append(insert, &Entry { kind, account, id, seq, value: value.as_deref() })?;
    Ok(())
}
