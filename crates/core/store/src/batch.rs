//! What is handed to a store, and what comes back.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use model::{Dep, Key, Kind, Row, Seq, View};
use tokio::sync::oneshot;

use crate::feed::Change;

/// The rows that a decision writes, and what it was based on.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub based_on: Seq,
    /// Read, but not written, and without which the decision would have been another (write skew).
    pub relied_on: Vec<Dep>,
    pub writes: Vec<Row>,
    pub deletes: Vec<Key>,
}

impl Batch {
    /// An empty batch that was decided on `view`.
    pub fn on(view: &View) -> Self {
        Self { based_on: view.seq, ..Self::default() }
    }

    pub fn rely(&mut self, on: impl Into<Dep>) -> &mut Self {
        self.relied_on.push(on.into());
        self
    }

    pub fn put(&mut self, row: impl Into<Row>) -> &mut Self {
        self.writes.push(row.into());
        self
    }

    pub fn delete(&mut self, key: Key) -> &mut Self {
        self.deletes.push(key);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.deletes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.writes.len() + self.deletes.len()
    }

    /// How many of its rows are events that are told of the others.
    pub fn events(&self) -> usize {
        let written = self.writes.iter().filter(|row| row.kind() == Kind::PendingEvent).count();
        let deleted = self.deletes.iter().filter(|key| key.kind() == Kind::PendingEvent).count();
        written + deleted
    }

    /// What it changes if it is commit `seq`.
    pub(crate) fn changes(&self, seq: Seq) -> impl Iterator<Item = Change> {
        let written = self.writes.iter().map(Row::key);
        written.chain(self.deletes.iter().cloned()).map(move |key| Change { seq, key })
    }
}

/// Why a batch was not written. Nothing of it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Someone was quicker: look again and decide again.
    #[error("{dep} changed at {changed_at}, after the decision's view was taken")]
    Stale { dep: Dep, changed_at: Seq },
    /// The view is older than what the store remembers of removed rows: look again.
    #[error("the decision's view is older than {oldest}")]
    TooOld { oldest: Seq },
    #[error("the batch has {rows} rows besides events, more than {}", crate::BATCH_ROWS_MAX)]
    TooLarge { rows: usize },
    #[error("{} batches wait for the disk already", crate::BATCHES_WAITING_MAX)]
    Overloaded,
    #[error("failed to write to the store")]
    Failed(#[source] Arc<dyn Error + Send + Sync>),
    #[error("the store is closed")]
    Closed,
}

impl CommitError {
    /// Whether deciding again on a fresh view is all that is needed.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Stale { .. } | Self::TooOld { .. } => true,
            Self::TooLarge { .. } | Self::Overloaded | Self::Failed(_) | Self::Closed => false,
        }
    }
}

/// A batch on its way to disk. Await it before telling anyone.
#[derive(Debug)]
pub struct Pending {
    pub seq: Seq,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Ready(Option<Result<Seq, CommitError>>),
    Waiting(oneshot::Receiver<Result<Seq, CommitError>>),
}

impl Pending {
    /// Already on disk.
    pub(crate) fn ready(seq: Seq) -> Self {
        Self { seq, answer: Answer::Ready(Some(Ok(seq))) }
    }

    pub(crate) fn waiting(seq: Seq, receiver: oneshot::Receiver<Result<Seq, CommitError>>) -> Self {
        Self { seq, answer: Answer::Waiting(receiver) }
    }
}

impl Future for Pending {
    type Output = Result<Seq, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.answer {
            Answer::Ready(answer) => Poll::Ready(answer.take().unwrap_or(Err(CommitError::Closed))),
            Answer::Waiting(receiver) => {
                let answer = ready!(Pin::new(receiver).poll(context));
                Poll::Ready(answer.unwrap_or(Err(CommitError::Closed)))
            }
        }
    }
}
