//! The names that tasks on a host may ask for: those of the private namespaces of their accounts, and of load balancers
//! ([`balancers`]), and of VPC endpoints ([`endpoints`]).
//!
//! An account's names are told whole whenever one of them changed, to hosts that have a task of the account or are an
//! instance of it. Who asks from where is told before the task is, so that a task's first question finds them. A VPC with
//! addresses of its own has names of its own, which hosts are told that have a task there.

mod balancers;
mod endpoints;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use longshore_types::{AccountId, InstanceId, VpcId};
use model::discovery::{MapRecord, NamespaceKind};
use model::{Dep, Index, MapNamespace, MapService, Seq, Task, View};
use traffic::{Asker, HostNames, NameEntry, NamedInstance, NamedService};

/// Instances in one message, of which each is some 120 bytes, and 400 where it leads to a long name: a frame stays well below its limit.
const INSTANCES_PER_MESSAGE_MAX: usize = 4_000;
/// Addresses that are remembered before those of tasks that are gone are forgotten.
const ASKERS_MAX: usize = 1_024;

/// What one session told of names so far.
#[derive(Debug, Default)]
pub(crate) struct ToldNames {
    /// Whose task has an address.
    askers: BTreeMap<Ipv4Addr, AccountId>,
    /// As of which commit an account's names were told, which has some.
    accounts: BTreeMap<AccountId, Seq>,
    /// The VPCs with addresses of their own in which the host has or had tasks, each with its account.
    vpcs: BTreeMap<VpcId, AccountId>,
    /// As `accounts`, of VPCs.
    told_vpcs: BTreeMap<VpcId, Seq>,
}

impl ToldNames {
    /// What is new of names for a host that is about to be sent `next`.
    pub(crate) fn due(
        &mut self,
        view: &View,
        (instance, home): (InstanceId, Option<InstanceId>),
        next: &[&Task],
        is_whole: bool,
    ) -> HostNames {
        let asked_on = AskedOn { host: instance, home };
        if is_whole {
            *self = Self::default();
            view.tasks_on_instance(instance).for_each(|task| {
                self.note(task);
            });
        }
        let mut fresh: Vec<Asker> = next.iter().filter_map(|task| self.note(task)).collect();
        if ASKERS_MAX < self.askers.len() {
            self.forget(view, instance, next);
        }
        let own_account = view.instance_of_any(instance).map(|row| row.scope.account);
        let had_names = !self.accounts.is_empty();
        let mut told = HostNames::default();
        let accounts = self.askers.values().copied().chain(own_account);
        let mut accounts: Vec<AccountId> = accounts.collect();
        accounts.sort_unstable();
        accounts.dedup();
        for account in &accounts {
            let before = self.accounts.get(account).copied();
            let now = view.changed_at(&Dep::All(Index::MapNames(*account)));
            if now == before {
                continue;
            }
            told.accounts.push(*account);
            told.entries.extend(entries(view, *account, None, asked_on));
            match now {
                Some(now) => self.accounts.insert(*account, now),
                None => self.accounts.remove(account),
            };
        }
        self.due_in_vpcs(view, asked_on, &mut told);
        // Where nobody has names, nobody needs to know who asks. Once somebody has, all are told of, those of accounts
        // without names too: or they would be taken for the host's own, or for whoever had their address before.
        if !self.accounts.is_empty() {
            if !had_names {
                told.own_account = own_account;
                let all = self.askers.iter();
                fresh =
                    all.map(|(address, of)| Asker { address: *address, account: *of }).collect();
            }
            told.askers = fresh;
        }
        told
    }

    fn due_in_vpcs(&mut self, view: &View, asked_on: AskedOn, told: &mut HostNames) {
        // Of a VPC that is gone nobody asks any more.
        let told_vpcs = &mut self.told_vpcs;
        self.vpcs.retain(|vpc, account| {
            let is_there = view.vpcs.get(*account, vpc).is_some();
            if !is_there && told_vpcs.remove(vpc).is_some() {
                told.vpcs.push(vpc.clone());
            }
            is_there
        });
        for (vpc, account) in &self.vpcs {
            let now = view.changed_at(&Dep::All(Index::MapNames(*account)));
            if now.as_ref() == self.told_vpcs.get(vpc) {
                continue;
            }
            told.vpcs.push(vpc.clone());
            told.entries.extend(entries(view, *account, Some(vpc), asked_on));
            match now {
                Some(now) => self.told_vpcs.insert(vpc.clone(), now),
                None => self.told_vpcs.remove(vpc),
            };
        }
    }

    /// Who asks from a task's address from now on, if that is news. In a VPC with addresses of its own tasks ask by
    /// another one, and theirs may be somebody else's.
    fn note(&mut self, task: &Task) -> Option<Asker> {
        let (interface, account) = (task.interface.as_ref()?, task.scope.account);
        if let Some(vpc) = &interface.own_vpc {
            self.vpcs.insert(vpc.clone(), account);
            return None;
        }
        let address = interface.address;
        let before = self.askers.insert(address, account);
        (before != Some(account)).then_some(Asker { address, account })
    }

    fn forget(&mut self, view: &View, instance: InstanceId, next: &[&Task]) {
        self.askers.clear();
        let next = next.iter().copied();
        for task in view.tasks_on_instance(instance).map(AsRef::as_ref).chain(next) {
            self.note(task);
        }
    }
}

/// On which host a name is asked for.
#[derive(Clone, Copy, Debug)]
struct AskedOn {
    host: InstanceId,
    /// The region's own machine.
    home: Option<InstanceId>,
}

/// All names of an account: in its default VPC, or in one with addresses of its own.
fn entries(
    view: &View,
    account: AccountId,
    own_vpc: Option<&VpcId>,
    asked_on: AskedOn,
) -> Vec<NameEntry> {
    let mut all = Vec::new();
    for namespace in view.map_namespaces.of(account) {
        let NamespaceKind::PrivateDns { vpc, soa_ttl_s, .. } = &namespace.kind else { continue };
        let is_there = match own_vpc {
            Some(own) => own == vpc,
            None => view.own_vpc(account, vpc).is_none(),
        };
        if !is_there {
            continue;
        }
        let entry = |service| NameEntry {
            account,
            vpc: own_vpc.cloned(),
            zone: namespace.name.clone(),
            negative_ttl_s: *soa_ttl_s,
            service,
        };
        all.push(entry(None));
        all.extend(services(view, namespace).map(Some).map(entry));
    }
    all.extend(balancers::entries(view, account, own_vpc, asked_on));
    all.extend(endpoints::entries(view, account, own_vpc));
    all
}

fn services<'v>(
    view: &'v View,
    namespace: &MapNamespace,
) -> impl Iterator<Item = NamedService> + use<'v> {
    let account = namespace.scope.account;
    let rows = view.map_services_in(account, &namespace.id);
    rows.filter_map(move |row| service(view, row))
}

fn service(view: &View, row: &MapService) -> Option<NamedService> {
    let dns = row.dns.as_ref()?;
    let ttl = |kind: MapRecord| {
        dns.records.iter().find(|(each, _)| *each == kind).map(|(_, ttl_s)| *ttl_s)
    };
    let instances = view.map_instances_of(row.scope.account, &row.id);
    let instances = instances.map(|instance| NamedInstance {
        id: instance.instance.to_string(),
        ipv4: instance.ipv4(),
        ipv6: instance.ipv6(),
        port: instance.port(),
        cname: instance.cname(),
        is_healthy: instance.is_healthy(),
    });
    Some(NamedService {
        name: row.name.clone(),
        is_weighted: dns.is_weighted,
        has_all_below: false,
        a_ttl_s: ttl(MapRecord::A),
        aaaa_ttl_s: ttl(MapRecord::Aaaa),
        srv_ttl_s: ttl(MapRecord::Srv),
        cname_ttl_s: ttl(MapRecord::Cname),
        instances: instances.collect(),
    })
}

/// In parts that fit a message each; none if there is nothing.
pub(crate) fn parts(names: HostNames) -> Vec<HostNames> {
    if names.is_empty() {
        return Vec::new();
    }
    let HostNames { own_account, accounts, vpcs, entries, askers } = names;
    let mut parts = vec![HostNames { own_account, accounts, vpcs, askers, ..HostNames::default() }];
    let mut instances = 0;
    for entry in entries {
        // A namespace and a service count too, though they have no instance.
        let its = 1 + entry.service.as_ref().map_or(0, |service| service.instances.len());
        if instances > 0 && INSTANCES_PER_MESSAGE_MAX < instances + its {
            parts.push(HostNames::default());
            instances = 0;
        }
        instances += its;
        parts.last_mut().expect("there is a first part").entries.push(entry);
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap as Map;

    use control::testing::rows::task;
    use longshore_types::Timestamp;
    use model::discovery::MapDns;
    use model::vpc::AddressPlan;
    use model::{MapInstance, Row, Tags};

    use super::*;

    fn put(view: &mut View, row: impl Into<Row>) {
        let seq = view.seq.next();
        view.seq = seq;
        view.put(seq, &row.into());
    }

    fn plan() -> AddressPlan {
        AddressPlan { block: "172.31.0.0/16".parse().unwrap(), bridge: None, seed: 7 }
    }

    /// In the default VPC.
    fn namespace(task: &Task) -> MapNamespace {
        MapNamespace {
            scope: task.scope.clone(),
            id: "ns-1".into(),
            name: "prod.local".to_owned(),
            kind: NamespaceKind::PrivateDns {
                vpc: plan().default_network(task.scope.account, &task.scope.region).vpc.id.clone(),
                zone: "Z1".to_owned(),
                soa_ttl_s: 15,
            },
            description: None,
            created_at: Timestamp(1),
            request: String::new(),
            tags: Tags::new(),
        }
    }

    fn map_service(task: &Task) -> MapService {
        MapService {
            scope: task.scope.clone(),
            id: "srv-1".into(),
            namespace: "ns-1".into(),
            name: "web".to_owned(),
            description: None,
            dns: Some(MapDns { is_weighted: false, records: vec![(MapRecord::A, 10)] }),
            has_custom_health: false,
            created_at: Timestamp(1),
            request: None,
            revision: 1,
            attributes: Map::new(),
            tags: Tags::new(),
            connect: None,
        }
    }

    fn map_instance(task: &Task, id: &str) -> MapInstance {
        let address = ("AWS_INSTANCE_IPV4".to_owned(), "172.31.0.4".to_owned());
        MapInstance {
            scope: task.scope.clone(),
            service: "srv-1".into(),
            instance: id.into(),
            attributes: Map::from([address]),
            health: None,
            task: None,
            has_names: true,
            request: None,
            connect: None,
        }
    }

    #[test]
    fn names_are_told_to_hosts_of_their_account_and_again_when_one_changed() {
        let (mut view, task) = (View::default(), task(1));
        put(&mut view, plan());
        let instance: InstanceId = "0".repeat(32).parse().unwrap();
        let mut told = ToldNames::default();
        assert!(told.due(&view, (instance, None), &[], true).is_empty());
        assert!(told.due(&view, (instance, None), &[&task], false).is_empty(), "nobody has names");
        put(&mut view, namespace(&task));
        put(&mut view, map_service(&task));
        put(&mut view, map_instance(&task, "one"));
        let news = told.due(&view, (instance, None), &[], false);
        assert_eq!(news.accounts, [task.scope.account]);
        assert_eq!(news.entries.len(), 2);
        assert_eq!(news.entries[1].service.as_ref().unwrap().instances.len(), 1);
        assert_eq!(news.askers.len(), 1, "who asked before is told with the first names");
        assert!(told.due(&view, (instance, None), &[&task], false).is_empty());
        view.remove(
            view.seq.next(),
            &model::Key::MapInstance(task.scope.account, map_instance(&task, "one").key()),
        );
        view.seq = view.seq.next();
        let news = told.due(&view, (instance, None), &[], false);
        assert!(news.entries[1].service.as_ref().unwrap().instances.is_empty());
        assert!(news.askers.is_empty());
        assert_eq!(
            told.due(&view, (instance, None), &[&task], true).accounts,
            news.accounts,
            "all again"
        );
    }

    #[test]
    fn a_namespace_of_a_vpc_with_addresses_of_its_own_has_names_there_alone() {
        let (mut view, task) = (View::default(), task(1));
        put(&mut view, plan());
        let instance: InstanceId = "0".repeat(32).parse().unwrap();
        let vpc: VpcId = "vpc-00000001".parse().unwrap();
        put(&mut view, crate::feed::tests::vpc_row(vpc.as_str()));
        let mut namespace = namespace(&task);
        let NamespaceKind::PrivateDns { vpc: its, .. } = &mut namespace.kind else {
            unreachable!()
        };
        its.clone_from(&vpc);
        put(&mut view, namespace);
        put(&mut view, map_service(&task));
        put(&mut view, map_instance(&task, "one"));
        let mut told = ToldNames::default();
        assert!(told.due(&view, (instance, None), &[&task], true).entries.is_empty());
        let mut inside = control::testing::rows::task(2);
        inside.interface.as_mut().unwrap().own_vpc = Some(vpc.clone());
        let news = told.due(&view, (instance, None), &[&inside], false);
        assert_eq!(news.vpcs, std::slice::from_ref(&vpc));
        assert_eq!(news.entries.len(), 2);
        assert!(news.entries.iter().all(|entry| entry.vpc.as_ref() == Some(&vpc)));
        assert!(told.due(&view, (instance, None), &[&inside], false).is_empty());
        view.remove(view.seq.next(), &model::Key::Vpc(task.scope.account, vpc.clone()));
        view.seq = view.seq.next();
        let news = told.due(&view, (instance, None), &[], false);
        assert_eq!(
            (news.vpcs, news.entries.len()),
            (vec![vpc], 0),
            "it is gone, and nobody's names are told"
        );
    }

    #[test]
    fn who_has_no_names_is_not_taken_for_somebody_who_has() {
        let (mut view, task) = (View::default(), task(1));
        put(&mut view, plan());
        let instance: InstanceId = "0".repeat(32).parse().unwrap();
        put(&mut view, namespace(&task));
        let mut told = ToldNames::default();
        assert_eq!(told.due(&view, (instance, None), &[&task], true).askers.len(), 1);
        let of_another = |number| {
            let mut other = control::testing::rows::task(number);
            other.scope.account = "111111111111".parse().unwrap();
            other
        };
        let other = of_another(2);
        assert_ne!(other.scope.account, task.scope.account);
        let account = other.scope.account;
        let address = task.interface.as_ref().unwrap().address;
        let news = told.due(&view, (instance, None), &[&other], false);
        assert_eq!(news.askers, [Asker { address, account }], "the address is another's now");
        let mut elsewhere = of_another(3);
        elsewhere.interface.as_mut().unwrap().own_vpc = Some("vpc-00000002".parse().unwrap());
        assert_eq!(told.due(&view, (instance, None), &[&task], false).askers.len(), 1);
        assert!(told.due(&view, (instance, None), &[&elsewhere], false).is_empty());
    }

    #[test]
    fn many_names_are_told_in_parts() {
        let account = task(1).scope.account;
        let instance = NamedInstance {
            id: "a".to_owned(),
            ipv4: None,
            is_healthy: true,
            ..NamedInstance::default()
        };
        let service = NamedService { instances: vec![instance; 1_500], ..NamedService::default() };
        let entry = NameEntry {
            account,
            vpc: None,
            zone: "a".to_owned(),
            negative_ttl_s: 1,
            service: Some(service),
        };
        let names =
            HostNames { accounts: vec![account], entries: vec![entry; 5], ..HostNames::default() };
        let all = parts(names.clone());
        assert_eq!(all.iter().map(|part| part.entries.len()).collect::<Vec<_>>(), [2, 2, 1]);
        let mut whole = HostNames::default();
        all.into_iter().for_each(|part| whole.extend(part));
        assert_eq!(whole, names);
        assert!(parts(HostNames::default()).is_empty());
    }
}
