//! Events on their way to the targets of EventBridge's rules.
//!
//! What happens is told in the batch that writes it: for each rule that wants an event a row, which EventBridge's reconciler
//! delivers and deletes. So an event is there if and only if what it tells of is.
//!
//! **Invariant:** what waits takes no more than [`BLOCKS_MAX`] blocks of an account, whoever causes events: those that waited
//! longest give way, and are counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use events::{Effort, Event, Exhausted, Facts};
use longshore_types::{AccountId, Timestamp};
use model::event::BLOCK_BYTES;
use model::{Document, EventRule, Index, Key, PendingEvent, Row, Tally, View};
use store::{BATCH_ROWS_MAX, Batch};

/// How many blocks an account's waiting events may take.
pub const BLOCKS_MAX: usize = (32 << 20) / BLOCK_BYTES;

/// How many events one batch may tell, and let go for them, together.
const EVENTS_MAX: usize = 10 * BATCH_ROWS_MAX;

/// What may be spent on the rules' patterns for an event that the region tells of, while whoever else commits waits.
const EFFORT: usize = 100_000;

/// What is known of waiting events that is no row.
#[derive(Debug, Default)]
pub struct Outbox {
    dropped: Mutex<BTreeMap<AccountId, u64>>,
}

impl Outbox {
    /// How many events of accounts gave way to others since this was asked last.
    pub fn take_dropped(&self) -> BTreeMap<AccountId, u64> {
        std::mem::take(&mut self.dropped.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note_dropped(&self, account: AccountId, count: u64) {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        *dropped.entry(account).or_default() += count;
    }

    /// Has an event told to the targets of every rule that wants it. Whether there is one.
    pub fn tell(&self, view: &View, batch: &mut Batch, event: &Event, now: Timestamp) -> bool {
        let (wanting, is_all) = wanting(view, event, &Effort::of(EFFORT));
        if is_all.is_err() {
            let (account, source) = (event.account, &event.source);
            tracing::warn!(%account, source, "rules' patterns take too long: not all of them were asked about an event");
            self.note_dropped(account, 1);
        }
        let rules = wanting.iter().map(|rule| &rule.name);
        self.tell_rules(view, batch, event, rules, now)
    }

    /// The same of rules that are named.
    pub fn tell_rules<'r>(
        &self,
        view: &View,
        batch: &mut Batch,
        event: &Event,
        rules: impl Iterator<Item = &'r Arc<str>>,
        now: Timestamp,
    ) -> bool {
        let Ok(document) = Document::from_text(event.to_json()) else { return false };
        let (mut is_told, mut dropped) = (false, 0);
        let account = event.account;
        let mut added = added(batch, account);
        for rule in rules {
            let (seq, place) = (view.seq.next(), batch.events());
            let row =
                PendingEvent::new(account, now, (seq, place), event.id, rule, document.clone());
            // However many rules want it, a batch adds no more than may wait.
            if EVENTS_MAX <= place || BLOCKS_MAX < added + row.blocks() {
                dropped += 1;
                continue;
            }
            added += row.blocks();
            batch.put(row);
            is_told = true;
        }
        if 0 < dropped {
            tracing::warn!(%account, dropped, "an event was not told to all rules that want it: there are too many");
            self.note_dropped(account, dropped);
        }
        if is_told {
            self.make_room(view, batch, event.account);
        }
        is_told
    }

    /// Deletes those that waited longest, until there is room for what the batch adds.
    fn make_room(&self, view: &View, batch: &mut Batch, account: AccountId) {
        let taken = view.tally(&Tally::PendingEvents(account)) + added(batch, account);
        let mut over = taken.saturating_sub(BLOCKS_MAX);
        if over == 0 {
            return;
        }
        let gone: BTreeSet<Key> = batch.deletes.iter().cloned().collect();
        let mut dropped = 0;
        for row in view.pending_events.of(account) {
            if over == 0 || EVENTS_MAX <= batch.events() {
                break;
            }
            over = over.saturating_sub(row.blocks());
            let key = Key::PendingEvent(account, Arc::clone(&row.id));
            if !gone.contains(&key) {
                dropped += 1;
                batch.delete(key);
            }
        }
        if 0 < dropped {
            tracing::warn!(%account, dropped, "events that waited too long gave way to newer ones");
            self.note_dropped(account, dropped);
        }
    }
}

/// Whether any rule may want events of a source: cheap where there is none.
pub fn may_be_wanted(view: &View, account: AccountId, source: &str) -> bool {
    pattern_rules(view, account)
        .any(|rule| rule.wants().is_some_and(|pattern| pattern.may_want(source)))
}

/// The rules that want an event, as far as there is effort to find out which do, and whether there was.
pub fn wanting<'v>(
    view: &'v View,
    event: &Event,
    effort: &Effort,
) -> (Vec<&'v Arc<EventRule>>, Result<(), Exhausted>) {
    let mut found = Vec::new();
    if !may_be_wanted(view, event.account, &event.source) {
        return (found, Ok(()));
    }
    let facts = Facts::of(event.to_value());
    for rule in pattern_rules(view, event.account) {
        let Some(pattern) = rule.wants().filter(|it| it.may_want(&event.source)) else { continue };
        match pattern.matches(&facts, effort) {
            Ok(true) => found.push(rule),
            Ok(false) => {}
            Err(why) => return (found, Err(why)),
        }
    }
    (found, Ok(()))
}

/// The blocks that a batch adds to what waits of an account.
fn added(batch: &Batch, account: AccountId) -> usize {
    let blocks = batch.writes.iter().map(|row| match row {
        Row::PendingEvent(row) if row.account == account => row.blocks(),
        _ => 0,
    });
    blocks.sum()
}

fn pattern_rules(view: &View, account: AccountId) -> impl Iterator<Item = &Arc<EventRule>> {
    view.members(&Index::PatternRules(account)).filter_map(move |key| match key {
        Key::EventRule(account, name) => view.event_rules.get(*account, name),
        _ => None,
    })
}
