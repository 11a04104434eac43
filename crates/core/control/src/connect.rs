//! What hosts said of Service Connect: by which commit their proxies serve, and what these still hold.
//!
//! Kept in memory alone: after a restart of the region every host says it again, and until then nothing is confirmed.
//!
//! **Invariant:** a host that has tasks in a namespace and was not heard of since a commit has not confirmed it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_types::{AccountId, InstanceId, TaskId};
use model::discovery::MapId;
use model::instance::InstanceStatus;
use model::{Index, Seq, View};

/// A namespace of an account.
pub type Namespace = (AccountId, MapId);

/// The hosts of the region, as their proxies are.
#[derive(Debug, Default)]
pub struct ConnectHosts(Mutex<BTreeMap<InstanceId, Host>>);

#[derive(Debug, Default)]
struct Host {
    /// Those that its tasks are in, or were when it was told last.
    namespaces: BTreeSet<Namespace>,
    /// The commit that its proxy serves by.
    version: Seq,
    /// Requests and connections that it holds open, by the tasks that serve them.
    in_flight: BTreeMap<TaskId, u32>,
}

impl ConnectHosts {
    fn held(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Host>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A host is about to be told of these namespaces, and of no others any more.
    pub fn told(&self, instance: InstanceId, namespaces: BTreeSet<Namespace>) {
        self.held().entry(instance).or_default().namespaces = namespaces;
    }

    /// What a host's proxy serves by, and what it holds.
    pub fn heard(&self, instance: InstanceId, version: Seq, in_flight: BTreeMap<TaskId, u32>) {
        let mut held = self.held();
        let host = held.entry(instance).or_default();
        (host.version, host.in_flight) = (version, in_flight);
    }

    /// Whether no proxy leads anything to a task of a namespace that is out of it as of commit `since`, or holds
    /// anything that it serves.
    pub fn is_free(&self, view: &View, namespace: &Namespace, since: Seq, task: TaskId) -> bool {
        let mut held = self.held();
        held.retain(|id, _| view.instance_of_any(*id).is_some());
        let instances = view.instances.iter();
        let mut concerned = instances.filter(|row| {
            row.status < InstanceStatus::Inactive
                && view.member_count(&Index::InstanceTasks(row.id)) > 0
        });
        concerned.all(|row| {
            let Some(host) = held.get(&row.id) else { return false };
            let is_there = host.namespaces.contains(namespace);
            !is_there || (since <= host.version && !host.in_flight.contains_key(&task))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rows::{instance, task};

    #[test]
    fn a_task_is_free_once_every_host_that_may_lead_to_it_said_so() {
        let (mut view, hosts) = (View::default(), ConnectHosts::default());
        let [one, two] = [1, 2].map(|number| format!("{number:032x}").parse().unwrap());
        for (number, id) in [(1, one), (2, two)] {
            view.put(Seq(number), &instance(id).into());
            let mut task = task(number);
            task.instance = Some(id);
            view.put(Seq(number), &task.into());
        }
        let served = task(1);
        let namespace = (served.scope.account, MapId::from("ns-1"));
        let is_free = || hosts.is_free(&view, &namespace, Seq(7), served.id);
        assert!(!is_free(), "nobody was heard");
        hosts.told(one, [namespace.clone()].into());
        hosts.told(two, BTreeSet::new());
        assert!(!is_free(), "one serves by what was before");
        hosts.heard(one, Seq(7), [(served.id, 1)].into());
        assert!(!is_free(), "one holds a request");
        hosts.heard(one, Seq(8), BTreeMap::new());
        assert!(is_free());
    }
}
