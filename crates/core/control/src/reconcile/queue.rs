//! Which keys are to be looked at, and when.
//!
//! A key is in one of three places: ready, asleep until a time or a change, or in a pass. What happens to
//! it during its pass makes it ready again after it.
//!
//! **Invariant:** a change that a pass could not have seen leads to another one.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::Timestamp;
use model::Seq;

use super::Pass;

/// The keys of one reconciler that were ever ready and are not over.
#[derive(Debug)]
pub struct Queue<K> {
    keys: BTreeMap<K, State>,
    ready: BTreeMap<Ticket, K>,
    alarms: BTreeSet<(Timestamp, K)>,
    tickets: u64,
}

/// The lower rank first, then whoever waits longest.
type Ticket = (u8, u64);

#[derive(Debug, Default)]
struct State {
    /// Its place among those that are ready.
    ticket: Option<Ticket>,
    alarm: Option<Timestamp>,
    is_in_pass: bool,
    /// The latest change that it has not had a pass for.
    changed_at: Option<Seq>,
    looked_at: Seq,
    rests_until: Timestamp,
    rank: u8,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), ready: BTreeMap::new(), alarms: BTreeSet::new(), tickets: 0 }
    }
}

impl<K: Ord + Clone> Queue<K> {
    /// Commit `seq` changed the key, or brought what it may be waiting for.
    pub fn changed(&mut self, key: &K, seq: Seq) {
        let state = self.state(key);
        if seq <= state.looked_at {
            return;
        }
        state.changed_at = state.changed_at.max(Some(seq));
        self.settle(key);
    }

    /// Has the key looked at by `at`, whatever happens until then; later if it rests until later.
    pub fn at(&mut self, key: &K, at: Timestamp) {
        let at = self.state(key).rests_until.max(at);
        self.ring_at(key, at);
    }

    /// Keys of a lower rank go before all others that are ready; 0 unless it was said.
    pub fn set_rank(&mut self, key: &K, rank: u8) {
        self.state(key).rank = rank;
    }

    /// Keys that are known: ready, asleep or in a pass.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Keys that wait for their pass.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The latest change that a key has not had a pass for.
    pub fn newest_change(&self, key: &K) -> Option<Seq> {
        self.keys.get(key)?.changed_at
    }

    /// When the next pass is due, if nothing happens until then.
    pub(super) fn next_alarm(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// The next key whose pass is due; [`Queue::done`] or [`Queue::failed`] ends it.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<K> {
        while let Some((at, key)) = self.alarms.first().filter(|(at, _)| *at <= now).cloned() {
            self.alarms.remove(&(at, key.clone()));
            if let Some(state) = self.keys.get_mut(&key) {
                state.alarm = None;
                if !state.is_in_pass && state.ticket.is_none() {
                    self.enqueue(&key);
                }
            }
        }
        let (_, key) = self.ready.pop_first()?;
        let state = self.keys.get_mut(&key)?;
        state.ticket = None;
        state.is_in_pass = true;
        state.changed_at = None;
        if let Some(at) = state.alarm.take() {
            self.alarms.remove(&(at, key.clone()));
        }
        Some(key)
    }

    pub(super) fn done(&mut self, key: &K, pass: &Pass<()>) {
        let Some(state) = self.keys.get_mut(key) else { return };
        state.is_in_pass = false;
        state.looked_at = state.looked_at.max(pass.looked_at);
        state.rests_until = pass.rests_until;
        // What changed before the pass looked, it has seen.
        state.changed_at = state.changed_at.filter(|seq| pass.looked_at < *seq);
        if pass.is_cut {
            state.changed_at = state.changed_at.max(Some(pass.looked_at.next()));
        }
        if pass.is_over && state.changed_at.is_none() {
            if let Some(at) = state.alarm {
                self.alarms.remove(&(at, key.clone()));
            }
            self.keys.remove(key);
            return;
        }
        self.settle(key);
        if let Some(at) = pass.again_at {
            self.ring_at(key, at);
        }
    }

    /// A pass came to nothing: it is to be tried again at `at`.
    pub(super) fn failed(&mut self, key: &K, at: Timestamp) {
        let Some(state) = self.keys.get_mut(key) else { return };
        state.is_in_pass = false;
        state.rests_until = at;
        state.changed_at = state.changed_at.max(Some(state.looked_at.next()));
        self.settle(key);
    }

    fn state(&mut self, key: &K) -> &mut State {
        // Most keys are known: they are not cloned.
        if !self.keys.contains_key(key) {
            self.keys.insert(key.clone(), State::default());
        }
        self.keys.get_mut(key).expect("it was there or put there")
    }

    /// Makes a key that changed ready, or has it rest first.
    fn settle(&mut self, key: &K) {
        let Some(state) = self.keys.get(key) else { return };
        if state.is_in_pass || state.ticket.is_some() || state.changed_at.is_none() {
            return;
        }
        match state.rests_until {
            Timestamp(0) => self.enqueue(key),
            at => self.ring_at(key, at),
        }
    }

    fn ring_at(&mut self, key: &K, at: Timestamp) {
        let Some(state) = self.keys.get_mut(key) else { return };
        if state.ticket.is_some() || state.alarm.is_some_and(|earlier| earlier <= at) {
            return;
        }
        if let Some(later) = state.alarm.replace(at) {
            self.alarms.remove(&(later, key.clone()));
        }
        self.alarms.insert((at, key.clone()));
    }

    fn enqueue(&mut self, key: &K) {
        let Some(state) = self.keys.get_mut(key) else { return };
        self.tickets += 1;
        let ticket = (state.rank, self.tickets);
        state.ticket = Some(ticket);
        self.ready.insert(ticket, key.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn pass(looked_at: u64) -> Pass<()> {
        Pass { looked_at: Seq(looked_at), ..Pass::default() }
    }

    #[test]
    fn what_a_pass_wrote_itself_does_not_wake_it() {
        let mut queue = Queue::default();
        queue.changed(&"a", Seq(1));
        assert_eq!(queue.next(NOW), Some("a"));
        assert_eq!(queue.next(NOW), None, "one pass at a time");
        queue.changed(&"a", Seq(2));
        queue.done(&"a", &pass(2));
        assert_eq!(queue.next(NOW), None);
        queue.changed(&"a", Seq(2));
        assert_eq!(queue.next(NOW), None, "told late");
    }

    #[test]
    fn what_a_pass_could_not_see_leads_to_another() {
        let mut queue = Queue::default();
        queue.changed(&"a", Seq(1));
        queue.next(NOW);
        queue.changed(&"a", Seq(3));
        queue.done(&"a", &pass(2));
        assert_eq!(queue.next(NOW), Some("a"));
        queue.done(&"a", &Pass { is_cut: true, ..pass(4) });
        assert_eq!(queue.next(NOW), Some("a"), "there was more to do");
        queue.done(&"a", &pass(5));
        assert_eq!((queue.next(NOW), queue.next_alarm()), (None, None));
    }

    #[test]
    fn an_alarm_wakes_and_a_rest_delays() {
        let mut queue = Queue::default();
        queue.changed(&"a", Seq(1));
        queue.next(NOW);
        queue.done(&"a", &Pass { again_at: Some(NOW.plus_ms(50)), ..pass(1) });
        assert_eq!((queue.next(NOW), queue.next_alarm()), (None, Some(NOW.plus_ms(50))));
        assert_eq!(queue.next(NOW.plus_ms(50)), Some("a"));
        let rests_until = NOW.plus_ms(60);
        let again_at = Some(NOW.plus_ms(99));
        queue.done(&"a", &Pass { rests_until, again_at, ..pass(1) });
        queue.changed(&"a", Seq(2));
        assert_eq!((queue.next(NOW), queue.next_alarm()), (None, Some(rests_until)));
        assert_eq!(queue.next(rests_until), Some("a"));
        assert_eq!(queue.next_alarm(), None);
    }

    #[test]
    fn a_lower_rank_goes_first_and_what_is_over_is_forgotten() {
        let mut queue = Queue::default();
        queue.set_rank(&"ordinary", 1);
        for key in ["ordinary", "urgent"] {
            queue.changed(&key, Seq(1));
        }
        assert_eq!(queue.next(NOW), Some("urgent"));
        assert_eq!(queue.next(NOW), Some("ordinary"));
        queue.at(&"ordinary", NOW.plus_ms(5));
        queue.done(&"ordinary", &Pass { is_over: true, ..pass(1) });
        assert_eq!((queue.len(), queue.next_alarm()), (1, None));
        queue.changed(&"urgent", Seq(2));
        queue.done(&"urgent", &Pass { is_over: true, ..pass(1) });
        assert_eq!(queue.next(NOW), Some("urgent"), "it came back meanwhile");
    }
}
