//! What services wait for beyond changes of their own rows.

use std::collections::{BTreeMap, BTreeSet};

use control::reconcile::Queue;
use longshore_types::{AccountId, ClusterName};
use model::Seq;

use super::Who;

/// What a service waits for beyond changes of its own rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    /// It has a task on each instance that will have it.
    pub(super) is_daemon: bool,
    /// It moves tasks when a zone gets instances or loses them.
    pub(super) is_rebalanced: bool,
    /// Tasks of it found no instance with capacity.
    pub(super) awaits_capacity: bool,
    /// Tasks of it could not be made, since the account has as many as it may have, or no address is
    /// free.
    pub(super) awaits_quota: bool,
}

impl Interest {
    fn has(self, topic: Topic) -> bool {
        match topic {
            Topic::Daemon => self.is_daemon,
            Topic::Zones => self.is_rebalanced,
            Topic::Capacity => self.awaits_capacity,
            Topic::Quota => self.awaits_quota,
        }
    }
}

/// What services may be interested in, each as [`Interest`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    Daemon,
    Zones,
    Capacity,
    Quota,
}

impl Topic {
    const ALL: [Self; 4] = [Self::Daemon, Self::Zones, Self::Capacity, Self::Quota];
}

/// Whoever is interested in a topic, by cluster: most changes concern few of many services.
#[derive(Debug, Default)]
pub(super) struct Interests {
    of: BTreeMap<Who, Interest>,
    watching: BTreeMap<Topic, BTreeMap<(AccountId, ClusterName), BTreeSet<Who>>>,
}

impl Interests {
    pub(super) fn set(&mut self, who: &Who, after: Interest) {
        let before = match after == Interest::default() {
            true => self.of.remove(who),
            false => self.of.insert(who.clone(), after),
        };
        let before = before.unwrap_or_default();
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

    /// Wakes the services of a cluster that are interested in any of the topics.
    pub(super) fn wake_cluster(
        &self,
        account: AccountId,
        cluster: &ClusterName,
        seq: Seq,
        topics: &[Topic],
        queue: &mut Queue<Who>,
    ) {
        let at = (account, cluster.clone());
        let by_cluster = topics.iter().filter_map(|topic| self.watching.get(topic)?.get(&at));
        let concerned: BTreeSet<&Who> = by_cluster.flatten().collect();
        for who in concerned {
            queue.changed(who, seq);
        }
    }

    /// Wakes the services of an account, or of all, in whichever cluster.
    pub(super) fn wake_everywhere(
        &self,
        account: Option<AccountId>,
        seq: Seq,
        topics: &[Topic],
        queue: &mut Queue<Who>,
    ) {
        let by_cluster = topics.iter().filter_map(|topic| self.watching.get(topic)).flatten();
        let is_meant = |owner: AccountId| account.is_none_or(|account| account == owner);
        let concerned: BTreeSet<&Who> = by_cluster
            .filter(|((owner, _), _)| is_meant(*owner))
            .flat_map(|(_, watching)| watching.iter())
            .collect();
        for who in concerned {
            queue.changed(who, seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use model::ServiceId;

    use super::*;

    fn who(account: &str, name: &str) -> Who {
        let service = ServiceId { cluster: "demo".parse().unwrap(), name: name.parse().unwrap() };
        Who { account: account.parse().unwrap(), service }
    }

    fn woken(wake: impl FnOnce(&mut Queue<Who>)) -> usize {
        let mut queue = Queue::default();
        wake(&mut queue);
        queue.ready()
    }

    #[test]
    fn only_those_who_are_interested_in_a_topic_are_woken_and_only_while_they_are() {
        let (short, other) = (who("000000000000", "a"), who("111111111111", "b"));
        let mut interests = Interests::default();
        interests.set(&short, Interest { awaits_capacity: true, ..Interest::default() });
        interests.set(&other, Interest { awaits_quota: true, ..Interest::default() });
        let cluster = &short.service.cluster;
        let wake = |interests: &Interests, topics: &[Topic]| {
            let wake = |queue: &mut Queue<Who>| {
                interests.wake_cluster(short.account, cluster, Seq(1), topics, queue);
            };
            woken(wake)
        };
        assert_eq!(wake(&interests, &[Topic::Capacity, Topic::Daemon]), 1);
        assert_eq!(wake(&interests, &[Topic::Quota]), 0, "another account's");
        interests.set(&short, Interest::default());
        assert_eq!(wake(&interests, &Topic::ALL), 0);
        let everywhere = |account: Option<AccountId>| {
            woken(|queue| interests.wake_everywhere(account, Seq(1), &[Topic::Quota], queue))
        };
        assert_eq!(everywhere(None), 1);
        assert_eq!((everywhere(Some(short.account)), everywhere(Some(other.account))), (0, 1));
    }
}
