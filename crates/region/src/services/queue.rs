//! Which services are to be looked at, and when.
//!
//! A service is in one of three places: ready, asleep until a time or a change, or having its turn.
//! What happens to it during its turn makes it ready again after it.
//!
//! **Invariant:** a change that a turn could not have seen leads to another one.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::{AccountId, ClusterName, Timestamp};
use model::{Seq, ServiceId};

/// Names a service within the region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Who {
    pub(crate) account: AccountId,
    pub(crate) service: ServiceId,
}

/// What a service waits for beyond changes of its own rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    /// It has a task on each instance that will have it.
    pub(super) is_daemon: bool,
    /// It moves tasks when a zone gets instances or loses them.
    pub(super) is_rebalanced: bool,
    /// Tasks of it found no instance with room.
    pub(super) lacks_room: bool,
    /// Tasks of it could not be made, since the account has as many as it may have, or no address is
    /// free.
    pub(super) lacks_quota: bool,
}

impl Interest {
    fn has(self, topic: Topic) -> bool {
        match topic {
            Topic::Daemon => self.is_daemon,
            Topic::Zones => self.is_rebalanced,
            Topic::Room => self.lacks_room,
            Topic::Quota => self.lacks_quota,
        }
    }
}

/// What services may be interested in, each as [`Interest`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    Daemon,
    Zones,
    Room,
    Quota,
}

impl Topic {
    const ALL: [Self; 4] = [Self::Daemon, Self::Zones, Self::Room, Self::Quota];
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// The turn knew of every commit up to this one.
    pub(super) looked_at: Seq,
    /// When it wants another turn, whatever happens until then.
    pub(super) again_at: Option<Timestamp>,
    /// Before then it is left alone, whatever happens.
    pub(super) rests_until: Timestamp,
    /// There was more to do than fits one decision.
    pub(super) is_cut: bool,
    /// `None`: there is no such service any more.
    pub(super) interest: Option<Interest>,
}

#[derive(Debug, Default)]
struct State {
    /// Its place among those that are ready.
    ticket: Option<Ticket>,
    alarm: Option<Timestamp>,
    is_in_turn: bool,
    /// The latest change that it has not had a turn for.
    changed_at: Option<Seq>,
    looked_at: Seq,
    rests_until: Timestamp,
    interest: Interest,
}

/// Daemons first, then whoever waits longest.
type Ticket = (bool, u64);

/// The services of a region that are not inactive, as far as they were ever ready.
#[derive(Debug, Default)]
pub(super) struct Queue {
    services: BTreeMap<Who, State>,
    ready: BTreeMap<Ticket, Who>,
    alarms: BTreeSet<(Timestamp, Who)>,
    /// Whoever is interested in a topic, by cluster: most changes concern few of many services.
    watching: BTreeMap<Topic, BTreeMap<(AccountId, ClusterName), BTreeSet<Who>>>,
    tickets: u64,
}

impl Queue {
    /// Commit `seq` changed the service, or brought what it may be waiting for.
    pub(super) fn changed(&mut self, who: &Who, seq: Seq) {
        let state = self.services.entry(who.clone()).or_default();
        if seq <= state.looked_at {
            return;
        }
        state.changed_at = state.changed_at.max(Some(seq));
        self.settle(who);
    }

    /// Wakes the services of a cluster that are interested in any of the topics.
    pub(super) fn wake_cluster(
        &mut self,
        account: AccountId,
        cluster: &ClusterName,
        seq: Seq,
        topics: &[Topic],
    ) {
        let at = (account, cluster.clone());
        let by_cluster = topics.iter().filter_map(|topic| self.watching.get(topic)?.get(&at));
        let concerned: BTreeSet<Who> = by_cluster.flatten().cloned().collect();
        for who in concerned {
            self.changed(&who, seq);
        }
    }

    /// Wakes the services of an account, or of all, in whichever cluster.
    pub(super) fn wake_everywhere(
        &mut self,
        account: Option<AccountId>,
        seq: Seq,
        topics: &[Topic],
    ) {
        let by_cluster = topics.iter().filter_map(|topic| self.watching.get(topic)).flatten();
        let is_meant = |owner: AccountId| account.is_none_or(|account| account == owner);
        let concerned: BTreeSet<Who> = by_cluster
            .filter(|((owner, _), _)| is_meant(*owner))
            .flat_map(|(_, watching)| watching.iter().cloned())
            .collect();
        for who in concerned {
            self.changed(&who, seq);
        }
    }

    /// The next service whose turn it is now; [`Queue::done`] ends it.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Who> {
        while let Some((at, who)) = self.alarms.first().filter(|(at, _)| *at <= now).cloned() {
            self.alarms.remove(&(at, who.clone()));
            if let Some(state) = self.services.get_mut(&who) {
                state.alarm = None;
                if !state.is_in_turn && state.ticket.is_none() {
                    self.enqueue(&who);
                }
            }
        }
        let (_, who) = self.ready.pop_first()?;
        let state = self.services.get_mut(&who)?;
        state.ticket = None;
        state.is_in_turn = true;
        state.changed_at = None;
        if let Some(at) = state.alarm.take() {
            self.alarms.remove(&(at, who.clone()));
        }
        Some(who)
    }

    pub(super) fn done(&mut self, who: &Who, done: Done) {
        let Some(state) = self.services.get_mut(who) else { return };
        state.is_in_turn = false;
        state.looked_at = state.looked_at.max(done.looked_at);
        state.rests_until = done.rests_until;
        let before = state.interest;
        state.interest = done.interest.unwrap_or_default();
        let after = state.interest;
        // What changed before the turn looked, it has seen.
        state.changed_at = state.changed_at.filter(|seq| done.looked_at < *seq);
        if done.is_cut {
            state.changed_at = Some(done.looked_at.next());
        }
        let is_changed = state.changed_at.is_some();
        self.watch(who, before, after);
        if done.interest.is_none() && !is_changed {
            self.services.remove(who);
            return;
        }
        self.settle(who);
        if let Some(at) = done.again_at {
            self.ring_at(who, at);
        }
    }

    fn watch(&mut self, who: &Who, before: Interest, after: Interest) {
        for topic in Topic::ALL.into_iter().filter(|topic| before.has(*topic) != after.has(*topic))
        {
            let at = (who.account, who.service.cluster.clone());
            let by_cluster = self.watching.entry(topic).or_default();
            let watching = by_cluster.entry(at.clone()).or_default();
            if after.has(topic) {
                watching.insert(who.clone());
            } else {
                watching.remove(who);
                if watching.is_empty() {
                    by_cluster.remove(&at);
                }
            }
        }
    }

    /// A turn came to nothing: it is to be tried again at `at`.
    pub(super) fn failed(&mut self, who: &Who, at: Timestamp) {
        let Some(state) = self.services.get_mut(who) else { return };
        state.is_in_turn = false;
        state.rests_until = at;
        state.changed_at = state.changed_at.max(Some(state.looked_at.next()));
        self.settle(who);
    }

    /// When the next turn is due, if nothing happens until then.
    pub(super) fn next_alarm(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Makes a service that changed ready, or has it rest first.
    fn settle(&mut self, who: &Who) {
        let Some(state) = self.services.get(who) else { return };
        if state.is_in_turn || state.ticket.is_some() || state.changed_at.is_none() {
            return;
        }
        match state.rests_until {
            Timestamp(0) => self.enqueue(who),
            at => self.ring_at(who, at),
        }
    }

    fn ring_at(&mut self, who: &Who, at: Timestamp) {
        let Some(state) = self.services.get_mut(who) else { return };
        if state.ticket.is_some() || state.alarm.is_some_and(|earlier| earlier <= at) {
            return;
        }
        if let Some(later) = state.alarm.replace(at) {
            self.alarms.remove(&(later, who.clone()));
        }
        self.alarms.insert((at, who.clone()));
    }

    fn enqueue(&mut self, who: &Who) {
        let Some(state) = self.services.get_mut(who) else { return };
        self.tickets += 1;
        let ticket = (!state.interest.is_daemon, self.tickets);
        state.ticket = Some(ticket);
        self.ready.insert(ticket, who.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn who(name: &str) -> Who {
        let account = "000000000000".parse().unwrap();
        let service = ServiceId { cluster: "demo".parse().unwrap(), name: name.parse().unwrap() };
        Who { account, service }
    }

    fn done(looked_at: u64) -> Done {
        let interest = Some(Interest::default());
        Done { looked_at: Seq(looked_at), interest, ..Done::default() }
    }

    #[test]
    fn what_a_turn_wrote_itself_does_not_wake_it() {
        let mut queue = Queue::default();
        queue.changed(&who("a"), Seq(1));
        assert_eq!(queue.next(NOW), Some(who("a")));
        assert_eq!(queue.next(NOW), None, "one turn at a time");
        queue.changed(&who("a"), Seq(2));
        queue.done(&who("a"), done(2));
        assert_eq!(queue.next(NOW), None);
        queue.changed(&who("a"), Seq(2));
        assert_eq!(queue.next(NOW), None, "told late");
    }

    #[test]
    fn what_a_turn_could_not_see_leads_to_another() {
        let mut queue = Queue::default();
        queue.changed(&who("a"), Seq(1));
        queue.next(NOW);
        queue.changed(&who("a"), Seq(3));
        queue.done(&who("a"), done(2));
        assert_eq!(queue.next(NOW), Some(who("a")));
        queue.done(&who("a"), Done { is_cut: true, ..done(4) });
        assert_eq!(queue.next(NOW), Some(who("a")), "there was more to do");
        queue.done(&who("a"), done(5));
        assert_eq!((queue.next(NOW), queue.next_alarm()), (None, None));
    }

    #[test]
    fn an_alarm_wakes_and_a_rest_delays() {
        let mut queue = Queue::default();
        queue.changed(&who("a"), Seq(1));
        queue.next(NOW);
        queue.done(&who("a"), Done { again_at: Some(NOW.plus_ms(50)), ..done(1) });
        assert_eq!((queue.next(NOW), queue.next_alarm()), (None, Some(NOW.plus_ms(50))));
        assert_eq!(queue.next(NOW.plus_ms(50)), Some(who("a")));
        let rests_until = NOW.plus_ms(60);
        let again_at = Some(NOW.plus_ms(99));
        queue.done(&who("a"), Done { rests_until, again_at, ..done(1) });
        queue.changed(&who("a"), Seq(2));
        assert_eq!((queue.next(NOW), queue.next_alarm()), (None, Some(rests_until)));
        assert_eq!(queue.next(rests_until), Some(who("a")));
        assert_eq!(queue.next_alarm(), None);
    }

    #[test]
    fn capacity_wakes_those_that_wait_for_it_and_daemons_first() {
        let mut queue = Queue::default();
        let short = Interest { lacks_room: true, ..Interest::default() };
        let daemon = Interest { is_daemon: true, ..Interest::default() };
        for (name, interest) in [("a", short), ("b", Interest::default()), ("c", daemon)] {
            queue.changed(&who(name), Seq(1));
            queue.next(NOW);
            queue.done(&who(name), Done { interest: Some(interest), ..done(1) });
        }
        let Who { account, service } = who("a");
        queue.wake_cluster(account, &service.cluster, Seq(2), &[Topic::Room, Topic::Daemon]);
        assert_eq!(queue.next(NOW), Some(who("c")));
        assert_eq!(queue.next(NOW), Some(who("a")));
        assert_eq!(queue.next(NOW), None);
        queue.done(&who("a"), Done { interest: None, ..done(2) });
        queue.wake_cluster(account, &service.cluster, Seq(3), &[Topic::Room]);
        assert_eq!(queue.next(NOW), None, "it is gone");
    }

    #[test]
    fn what_all_accounts_share_wakes_those_of_each() {
        let mut queue = Queue::default();
        let other = Who { account: "111111111111".parse().unwrap(), ..who("a") };
        let interest = Some(Interest { lacks_quota: true, ..Interest::default() });
        for who in [&who("a"), &other] {
            queue.changed(who, Seq(1));
            queue.next(NOW);
            queue.done(who, Done { interest, ..done(1) });
        }
        queue.wake_everywhere(Some(other.account), Seq(2), &[Topic::Quota]);
        assert_eq!((queue.next(NOW), queue.next(NOW)), (Some(other.clone()), None));
        queue.done(&other, Done { interest, ..done(2) });
        queue.wake_everywhere(None, Seq(3), &[Topic::Quota]);
        assert_eq!((queue.next(NOW), queue.next(NOW)), (Some(who("a")), Some(other)));
    }
}
