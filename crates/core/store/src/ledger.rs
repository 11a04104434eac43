//! The order of commits: which batch is accepted, which has to look again, what a failure undoes.
//!
//! Pure bookkeeping without IO, shared by all stores; they differ in what happens between
//! [`Ledger::accept`] and [`Ledger::make_durable`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use model::{Dep, Seq, View};

use crate::BATCH_ROWS_MAX;
use crate::batch::{Batch, CommitError};

/// How many removed rows and emptied indexes are remembered, to tell who relied on them that they are gone.
const REMOVED_MAX: usize = 16_384;

#[derive(Debug)]
pub(crate) struct Ledger {
    latest: Arc<View>,
    durable: Arc<View>,
    /// When rows that are no more were removed, and indexes lost their last row.
    removed: HashMap<Dep, Seq>,
    removals: VecDeque<(Seq, Dep)>,
    /// Views before this one can't be judged any more.
    oldest: Seq,
}

impl Ledger {
    pub(crate) fn new(view: View) -> Self {
        let view = Arc::new(view);
        Self {
            oldest: view.seq,
            latest: Arc::clone(&view),
            durable: view,
            removed: HashMap::new(),
            removals: VecDeque::new(),
        }
    }

    pub(crate) fn latest(&self) -> Arc<View> {
        Arc::clone(&self.latest)
    }

    pub(crate) fn durable(&self) -> Arc<View> {
        Arc::clone(&self.durable)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.latest.seq == self.durable.seq
    }

    /// Applies `batch` to the latest view, if nothing that it depends on changed since its view.
    pub(crate) fn accept(&mut self, batch: &Batch) -> Result<Arc<View>, CommitError> {
        // Events come to what was decided, and are bounded by who adds them.
        if BATCH_ROWS_MAX < batch.len() {
            let rows = batch.len() - batch.events();
            if BATCH_ROWS_MAX < rows {
                return Err(CommitError::TooLarge { rows });
            }
        }
        if batch.based_on < self.oldest {
            return Err(CommitError::TooOld { oldest: self.oldest });
        }
        self.check(batch)?;
        if batch.is_empty() {
            return Ok(self.latest());
        }
        let view = Arc::make_mut(&mut self.latest);
        let seq = view.seq.next();
        view.seq = seq;
        let mut gone: Vec<Dep> = batch.deletes.iter().cloned().map(Dep::Row).collect();
        for key in &batch.deletes {
            gone.extend(view.remove(seq, key).into_iter().map(Dep::All));
        }
        for row in &batch.writes {
            gone.extend(view.put(seq, row).into_iter().map(Dep::All));
        }
        for dep in gone {
            self.removed.insert(dep.clone(), seq);
            self.removals.push_back((seq, dep));
        }
        self.forget_old_removals();
        Ok(self.latest())
    }

    fn check(&self, batch: &Batch) -> Result<(), CommitError> {
        // Nothing at all happened since: the common case.
        if batch.based_on == self.latest.seq {
            return Ok(());
        }
        let written = batch.writes.iter().map(|row| Dep::Row(row.key()));
        let deleted = batch.deletes.iter().cloned().map(Dep::Row);
        for dep in batch.relied_on.iter().cloned().chain(written).chain(deleted) {
            if let Some(changed_at) = self.changed_at(&dep)
                && batch.based_on < changed_at
            {
                return Err(CommitError::Stale { dep, changed_at });
            }
        }
        Ok(())
    }

    fn changed_at(&self, dep: &Dep) -> Option<Seq> {
        self.latest.changed_at(dep).max(self.removed.get(dep).copied())
    }

    fn forget_old_removals(&mut self) {
        while REMOVED_MAX < self.removals.len() {
            if let Some((seq, dep)) = self.removals.pop_front() {
                if self.removed.get(&dep) == Some(&seq) {
                    self.removed.remove(&dep);
                }
                self.oldest = self.oldest.max(seq);
            }
        }
    }

    /// `view`, which [`Ledger::accept`] gave out, is on disk now.
    pub(crate) fn make_durable(&mut self, view: Arc<View>) {
        assert!(self.durable.seq <= view.seq, "durability never moves back");
        self.durable = view;
    }

    /// What is not durable could not be written: it never happened, and decisions that saw it
    /// must look again. Positions are not used twice.
    pub(crate) fn roll_back(&mut self) {
        let seq = self.latest.seq.next();
        let mut view = self.durable.as_ref().clone();
        view.seq = seq;
        self.latest = Arc::new(view);
        self.durable = Arc::clone(&self.latest);
        self.removed.clear();
        self.removals.clear();
        self.oldest = seq;
    }
}
