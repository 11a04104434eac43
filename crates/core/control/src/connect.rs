//! What hosts said of Service Connect: by which commit their proxies serve, and what these still hold.
//!
//! Kept in memory alone: after a restart of the region every host says it again, and until then nothing is confirmed
//! for those that have tasks in a namespace.
//!
//! **Invariant:** a host that has tasks in a namespace and was not heard of since a commit has not confirmed it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_types::{AccountId, InstanceId, TaskId};
use model::discovery::MapId;
use model::instance::InstanceStatus;
use model::{Index, Seq, View};

/// Tasks of which is kept that a host holds something of them: a host says what it likes.
const IN_FLIGHT_MAX: usize = 10_000;

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
        let in_flight: BTreeMap<_, _> = in_flight.into_iter().take(IN_FLIGHT_MAX).collect();
        let mut held = self.held();
        let host = held.entry(instance).or_default();
        (host.version, host.in_flight) = (version, in_flight);
    }

    /// A host is none of the region's any more.
    pub fn forget(&self, instance: InstanceId) {
        self.held().remove(&instance);
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
            let Some(host) = held.get(&row.id) else { return !is_in(view, row.id, namespace) };
            let is_there = host.namespaces.contains(namespace);
            !is_there || (since <= host.version && !host.in_flight.contains_key(&task))
        })
    }
}

/// Whether a host has tasks in a namespace: what else is on it, which may be another account's, waits for nothing.
fn is_in(view: &View, instance: InstanceId, (account, namespace): &Namespace) -> bool {
    view.tasks_on_instance(instance).filter(|task| task.scope.account == *account).any(|task| {
        let connect = view.revision_of_task(task).and_then(|revision| revision.connect.as_ref());
        connect.is_some_and(|connect| connect.namespace == *namespace)
    })
}

#[cfg(test)]
mod tests {
    use model::Row;
    use model::task::Task;

    use super::*;
    use crate::testing::rows::{connected_service, instance, task, task_of_service};

    /// A service whose tasks are in a namespace.
    fn service(of: &Task, namespace: &MapId) -> [Row; 2] {
        connected_service(of, namespace.clone(), vec![])
    }

    #[test]
    fn a_task_is_free_once_every_host_that_may_lead_to_it_said_so() {
        let (mut view, hosts) = (View::default(), ConnectHosts::default());
        let [one, two] = [1, 2].map(|number| format!("{number:032x}").parse().unwrap());
        for (number, id) in [(1, one), (2, two)] {
            view.put(Seq(number), &instance(id).into());
            let mut task = task_of_service(number);
            task.instance = Some(id);
            view.put(Seq(number), &task.into());
        }
        let served = task(1);
        let namespace = (served.scope.account, MapId::from("ns-1"));
        for row in service(&served, &namespace.1) {
            view.put(Seq(3), &row);
        }
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

    #[test]
    fn a_host_that_is_away_holds_up_no_namespace_that_it_has_no_tasks_in() {
        let (mut view, hosts) = (View::default(), ConnectHosts::default());
        let [one, away] = [1, 2].map(|number| format!("{number:032x}").parse().unwrap());
        let served = task_of_service(1);
        let namespace = (served.scope.account, MapId::from("ns-1"));
        // What is on the second is in no namespace, or in none of this account.
        for (number, id, task) in [(1, one, served.clone()), (2, away, task(2))] {
            view.put(Seq(number), &instance(id).into());
            view.put(Seq(number), &Task { instance: Some(id), ..task }.into());
        }
        for row in service(&served, &namespace.1) {
            view.put(Seq(3), &row);
        }
        let is_free = || hosts.is_free(&view, &namespace, Seq(7), served.id);
        assert!(!is_free(), "the first was not heard");
        hosts.told(one, [namespace.clone()].into());
        hosts.heard(one, Seq(7), BTreeMap::new());
        assert!(is_free());
    }

    #[test]
    fn a_host_has_so_much_kept_of_it_and_nothing_once_it_is_gone() {
        let (hosts, one) = (ConnectHosts::default(), InstanceId::from_bytes([1; 16]));
        let many = (0..=IN_FLIGHT_MAX).map(|number| (format!("{number:032x}").parse().unwrap(), 1));
        hosts.heard(one, Seq(1), many.collect());
        assert_eq!(hosts.held()[&one].in_flight.len(), IN_FLIGHT_MAX);
        hosts.forget(one);
        assert!(hosts.held().is_empty());
    }
}
