//! What hosts' proxies counted of Service Connect, put together for the region: by endpoint, and by who asked there.
//!
//! Kept in memory alone. What a proxy counts only grows while it runs, so that a report that is lost costs nothing; of a proxy
//! that another has followed, or of a host that is gone, the last that was heard is kept.
//!
//! **Invariant:** a count never shrinks while the region runs, but for what is open at the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_types::{AccountId, InstanceId, Timestamp};
use model::discovery::MapConnect;
use model::{Instance, MapService, View};
use traffic::connect::ConnectFigures as Told;
use traffic::figures::Counted;

/// Endpoints and askers that are kept apart of a host, which says what it likes: as many as a proxy counts.
const HOST_NAMES_MAX: usize = 1_000;
/// The same of an account, of proxies that are no more.
const ACCOUNT_NAMES_MAX: usize = 1_000;
/// Of the names of a cluster and a service.
const CLIENT_BYTES_MAX: usize = 512;

/// Of what something is counted: an account, who asks (`cluster/service`; none: whoever comes in), and an endpoint.
type Name = (AccountId, Option<String>, String);

/// See the module.
#[derive(Debug, Default)]
pub struct ConnectFigures(Mutex<Figures>);

#[derive(Debug, Default)]
struct Figures {
    hosts: BTreeMap<InstanceId, (Timestamp, BTreeMap<Name, Counted>)>,
    /// Of proxies that are no more.
    past: BTreeMap<Name, Counted>,
}

impl Figures {
    /// Keeps what a proxy counted that is no more.
    fn keep(&mut self, counted: BTreeMap<Name, Counted>) {
        for (name, mut counted) in counted {
            // Nothing of it is open any more.
            counted.open = 0;
            if self.past.contains_key(&name) || self.names_of(name.0) < ACCOUNT_NAMES_MAX {
                self.past.entry(name).or_default().add(&counted);
            }
        }
    }

    fn names_of(&self, account: AccountId) -> usize {
        let first = (account, None, String::new());
        self.past.range(first..).take_while(|(name, _)| name.0 == account).count()
    }
}

/// What was counted at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointFigures {
    pub account: AccountId,
    pub namespace: String,
    pub discovery_name: String,
    /// `cluster/service`, whose tasks serve there.
    pub service: String,
    /// `cluster/service`, whose tasks asked; none: what came in to tasks that are met with TLS or at a port of the proxy's.
    pub client: Option<String>,
    pub counted: Counted,
}

impl ConnectFigures {
    fn held(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a host's proxy has counted since it began, of what it may speak of; nothing new if there is nothing.
    pub fn heard(&self, view: &View, host: &Instance, since: Timestamp, told: Vec<Told>) {
        let accounts = accounts_on(view, host);
        let is_its = |it: &Told| {
            let client = it.client.as_ref();
            let is_named = client.is_none_or(|it| it.len() <= CLIENT_BYTES_MAX && it.contains('/'));
            is_named && accounts.contains(&it.account)
        };
        let told = told.into_iter().filter(is_its).collect();
        let is_there = |(account, _, id): &Name| endpoint(view, *account, id).is_some();
        self.took(host.id, since, told, is_there);
    }

    /// Of endpoints that are not there nobody is told, and nothing is kept.
    fn took(
        &self,
        instance: InstanceId,
        since: Timestamp,
        told: Vec<Told>,
        is_there: impl Fn(&Name) -> bool,
    ) {
        if told.is_empty() {
            return;
        }
        let told = told.into_iter().map(|it| ((it.account, it.client, it.endpoint), it.counted));
        let told = told.filter(|(name, _)| is_there(name)).take(HOST_NAMES_MAX);
        let mut counted: BTreeMap<Name, Counted> = told.collect();
        let mut held = self.held();
        match held.hosts.remove(&instance) {
            Some((before, old)) if before == since => {
                // What is not said any more was counted all the same.
                for (name, mut old) in old.into_iter().filter(|(name, _)| is_there(name)) {
                    old.open = 0;
                    if counted.len() < HOST_NAMES_MAX {
                        counted.entry(name).or_insert(old);
                    }
                }
            }
            Some((_, old)) => {
                held.past.retain(|name, _| is_there(name));
                held.keep(old);
            }
            None => {}
        }
        held.hosts.insert(instance, (since, counted));
    }

    /// A host is none of the region's any more.
    pub fn forget(&self, instance: InstanceId) {
        let mut held = self.held();
        if let Some((_, counted)) = held.hosts.remove(&instance) {
            held.keep(counted);
        }
    }

    /// What was counted at an account's endpoints that are there, in the order of their names.
    pub fn of(&self, view: &View, account: AccountId) -> Vec<EndpointFigures> {
        let mut sums: BTreeMap<Name, Counted> = BTreeMap::new();
        {
            let held = self.held();
            let hosts = held.hosts.values().flat_map(|(_, counted)| counted);
            for (name, counted) in hosts.chain(&held.past).filter(|(name, _)| name.0 == account) {
                sums.entry(name.clone()).or_default().add(counted);
            }
        }
        let figures = sums.into_iter().filter_map(|((account, client, endpoint), counted)| {
            let (row, made) = self::endpoint(view, account, &endpoint)?;
            let owner = &made.owner;
            let namespace = view.map_namespaces.get(account, &row.namespace)?;
            Some(EndpointFigures {
                account,
                namespace: namespace.name.clone(),
                discovery_name: row.name.clone(),
                service: format!("{}/{}", owner.cluster, owner.name),
                client,
                counted,
            })
        });
        let mut figures: Vec<_> = figures.collect();
        figures.sort_by(|one, other| key(one).cmp(&key(other)));
        figures
    }
}

fn endpoint<'v>(
    view: &'v View,
    account: AccountId,
    id: &str,
) -> Option<(&'v MapService, &'v MapConnect)> {
    let row = view.map_services.get(account, &id.into())?;
    Some((row, row.connect.as_ref()?))
}

/// For whom a host speaks: for its own account, and for those that have tasks on it.
fn accounts_on(view: &View, host: &Instance) -> BTreeSet<AccountId> {
    let tasks = view.tasks_on_instance(host.id).map(|task| task.scope.account);
    tasks.chain([host.scope.account]).collect()
}

fn key(it: &EndpointFigures) -> (&str, &str, Option<&str>) {
    (&it.namespace, &it.discovery_name, it.client.as_deref())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::service::{ConnectEndpoint, ServiceId};
    use model::{Key, Seq, Tags};
    use traffic::connect::ConnectProtocol;

    use super::*;
    use crate::testing::rows::{instance, task};

    fn account() -> AccountId {
        "000000000000".parse().unwrap()
    }

    fn told(client: &str, requests: u64, open: u64) -> Vec<Told> {
        let counted =
            Counted { requests, open, answers: [requests, 0, 0, 0], ..Counted::default() };
        let client = Some(client.to_owned());
        vec![Told { account: account(), client, endpoint: "srv-1".to_owned(), counted }]
    }

    /// `srv-1` of an account.
    fn endpoint_of(account: AccountId) -> MapService {
        let task = task(1);
        let owner = ServiceId { cluster: task.cluster.clone(), name: "web".parse().unwrap() };
        let endpoint = ConnectEndpoint {
            name: "web".to_owned(),
            port: 80,
            number: 1,
            protocol: ConnectProtocol::Http,
            idle_s: 0,
            request_s: 15,
        };
        MapService {
            scope: longshore_types::Scope { account, ..task.scope.clone() },
            id: "srv-1".into(),
            namespace: "ns-1".into(),
            name: "web".to_owned(),
            description: None,
            dns: None,
            has_custom_health: false,
            created_at: Timestamp(1),
            request: None,
            revision: 0,
            attributes: BTreeMap::new(),
            tags: Tags::new(),
            connect: Some(MapConnect { owner, endpoint, certificate: None, split: None }),
        }
    }

    fn requests(figures: &ConnectFigures) -> (u64, u64) {
        let held = figures.held();
        let hosts = held.hosts.values().flat_map(|(_, counted)| counted.values());
        let mut sum = Counted::default();
        hosts.chain(held.past.values()).for_each(|counted| sum.add(counted));
        (sum.requests, sum.open)
    }

    #[test]
    fn counts_of_proxies_that_are_no_more_are_kept_and_what_they_had_open_is_not() {
        let figures = ConnectFigures::default();
        let [one, two] = [1, 2].map(|it| InstanceId::from_bytes([it; 16]));
        let heard = |host, since, told| figures.took(host, Timestamp(since), told, |_| true);
        heard(one, 1, told("c/a", 5, 1));
        heard(two, 1, told("c/a", 7, 2));
        heard(one, 1, told("c/a", 6, 1));
        heard(one, 1, vec![]);
        assert_eq!(requests(&figures), (13, 3), "a report says all since its proxy began");
        heard(one, 9, told("c/a", 2, 0));
        assert_eq!(requests(&figures), (15, 2));
        figures.forget(two);
        assert_eq!(requests(&figures), (15, 0));
    }

    #[test]
    fn what_a_host_may_not_speak_of_any_more_was_counted_all_the_same() {
        let mut view = View::default();
        let host = instance(InstanceId::from_bytes([1; 16]));
        let [own, guest]: [AccountId; 2] =
            ["000000000000", "111111111111"].map(|it| it.parse().unwrap());
        let mut task = task(1);
        Arc::make_mut(&mut task.asked).scope.account = guest;
        view.put(Seq(1), &task.clone().into());
        for account in [own, guest] {
            view.put(Seq(2), &endpoint_of(account).into());
        }
        let figures = ConnectFigures::default();
        let said = |account, requests| Told { account, ..told("c/a", requests, 1).remove(0) };
        figures.heard(&view, &host, Timestamp(1), vec![said(own, 5), said(guest, 7)]);
        assert_eq!(requests(&figures), (12, 2));
        view.remove(Seq(3), &Key::Task(guest, task.id));
        figures.heard(&view, &host, Timestamp(1), vec![said(own, 6), said(guest, 90)]);
        assert_eq!(requests(&figures), (13, 1), "the guest's last task has gone");
        let unnamed = Told { client: Some("a".to_owned()), ..said(own, 100) };
        let nowhere = Told { endpoint: "srv-2".to_owned(), ..said(own, 100) };
        figures.heard(&view, &host, Timestamp(1), vec![said(own, 6), unnamed, nowhere]);
        assert_eq!(requests(&figures), (13, 1));
    }

    #[test]
    fn a_host_that_says_much_takes_no_place_of_anothers() {
        let figures = ConnectFigures::default();
        let [liar, honest] = [1, 2].map(|it| InstanceId::from_bytes([it; 16]));
        let heard = |host, since, told| figures.took(host, Timestamp(since), told, |_| true);
        let other: AccountId = "111111111111".parse().unwrap();
        let many = |from: u64| {
            let names = (from..from + 2_000).map(|number| format!("c/{number}"));
            names.flat_map(|name| told(&name, 1, 0)).collect::<Vec<_>>()
        };
        for since in 1..5 {
            heard(liar, since, many(since * 10_000));
            heard(liar, since, many(since * 10_000 + 5_000));
        }
        assert_eq!(figures.held().past.len(), ACCOUNT_NAMES_MAX);
        assert_eq!(figures.held().hosts[&liar].1.len(), HOST_NAMES_MAX);
        let theirs = |requests| vec![Told { account: other, ..told("d/b", requests, 0).remove(0) }];
        heard(honest, 1, theirs(7));
        heard(honest, 2, theirs(1));
        assert!(figures.held().past.keys().any(|name| name.0 == other));
    }
}
