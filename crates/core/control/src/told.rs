//! What is told of changed rows as AWS's own events, written into the batch that changes them.
//!
//! Whoever commits has its batch go through [`Control::tell_of`], which [`Control::decide`] does, so no handler has to think of
//! events. Services say what their rows' changes come to ([`EventSource`]); they are asked only where a rule may want it,
//! and with the rows as they will be.
//!
//! **Invariant:** what is told depends on the batch alone that is committed, and goes or stays with it.

use std::collections::BTreeMap;

use events::{Event, Json};
use longshore_types::{AccountId, Timestamp, Uuid};
use model::{Key, Row, View};
use store::Batch;

use crate::Control;
use crate::outbox::may_be_wanted;
use crate::ports::EventSource;

/// What a batch changes of one account's rows.
#[derive(Clone, Copy, Debug)]
pub struct Changes<'a> {
    pub before: &'a View,
    /// With all that the batch writes and deletes.
    pub after: &'a View,
    /// What it writes, then what it deletes.
    pub keys: &'a [Key],
    pub now: Timestamp,
}

/// An event but for its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub detail_type: &'static str,
    pub resources: Vec<String>,
    pub detail: Json,
}

impl Control {
    /// Says which services tell of their rows. What is committed before is told by nobody; a second call changes nothing.
    pub fn set_event_sources(&self, sources: Vec<&'static dyn EventSource>) {
        drop(self.event_sources.set(sources));
    }

    /// Adds to a batch, which was decided on `view`, the events that rules want of it.
    pub fn tell_of(&self, view: &View, batch: &mut Batch, now: Timestamp) {
        if view.event_rules.is_empty() || batch.is_empty() {
            return;
        }
        for event in self.told_of(view, batch, now) {
            self.outbox.tell(view, batch, &event, now);
        }
    }

    fn told_of(&self, view: &View, batch: &Batch, now: Timestamp) -> Vec<Event> {
        let mut after = None;
        let mut told = Vec::new();
        for source in self.event_sources.get().into_iter().flatten() {
            for (account, keys) in wanted(*source, view, batch) {
                let after = after.get_or_insert_with(|| with(view, batch));
                let changes = Changes { before: view, after, keys: &keys, now };
                let events = source.tell(&changes).into_iter().map(|it| Event {
                    id: Uuid::mint(self.ids.as_ref()),
                    source: source.source().to_owned(),
                    detail_type: it.detail_type.to_owned(),
                    account,
                    region: self.config.region.clone(),
                    time: now,
                    resources: it.resources,
                    detail: it.detail,
                });
                told.extend(events);
            }
        }
        told
    }
}

/// The rows that a source tells of and that rules of their accounts may want to hear of.
fn wanted(source: &dyn EventSource, view: &View, batch: &Batch) -> BTreeMap<AccountId, Vec<Key>> {
    let kinds = source.kinds();
    let written = batch.writes.iter().filter(|row| kinds.contains(&row.kind())).map(Row::key);
    let deleted = batch.deletes.iter().filter(|key| kinds.contains(&key.kind())).cloned();
    let mut accounts: BTreeMap<AccountId, Vec<Key>> = BTreeMap::new();
    for key in written.chain(deleted) {
        accounts.entry(key.account()).or_default().push(key);
    }
    accounts.retain(|account, _| may_be_wanted(view, *account, source.source()));
    accounts
}

/// The view as the batch leaves it.
fn with(view: &View, batch: &Batch) -> View {
    let mut after = view.clone();
    let seq = view.seq.next();
    after.seq = seq;
    for key in &batch.deletes {
        after.remove(seq, key);
    }
    for row in &batch.writes {
        after.put(seq, row);
    }
    after
}
