//! What an agent of ours is told of its host's network: the security groups of the interfaces there, each
//! again when it changed, what [`crate::feed`] says of VPCs, and the names that tasks there may ask for
//! ([`crate::names`]).
//!
//! It leaves on the work socket ahead of the tasks that need it, so that an agent that takes messages in their
//! order never makes an interface whose groups it does not know. A host hears of no group that none of its
//! tasks has.

use std::collections::{BTreeMap, BTreeSet};

use control::ConnectNamespace;
use longshore_types::{AccountId, InstanceId, RegionName, SecurityGroupId};
use model::{Key, Seq, Task, View};
use traffic::connect::HostConnect;
use traffic::feed::{Change, Feed, Item};
use traffic::tunnels::HostTunnels;
use traffic::{HostNames, SecurityGroup};

use crate::connect::{self, OpenKey, ToldConnect};
use crate::feed::{balancers_on, feed_of};
use crate::names::{self, ToldNames};
use crate::tunnels::{self, ToldTunnels, Tunneling};

/// Rules of one message, of which each is below 100 bytes: a frame stays well below its limit.
const RULES_PER_MESSAGE_MAX: usize = 4_000;
/// What one message weighs at most besides: an item, and each line of a table or an ACL, is below 500 bytes.
const WEIGHT_PER_MESSAGE_MAX: usize = 1_000;

/// What one session told so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The commit that last wrote each group; none: an account's default group that nobody changed.
    groups: BTreeMap<(AccountId, SecurityGroupId), Option<Seq>>,
    /// The copy that the agent has of VPCs.
    feed: Feed,
    names: ToldNames,
    connect: ToldConnect,
    pub(crate) tunnels: ToldTunnels,
    is_begun: bool,
}

/// What is to be told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) is_whole: bool,
    pub(crate) version: Seq,
    pub(crate) groups: Vec<SecurityGroup>,
    pub(crate) network: Change,
    pub(crate) names: HostNames,
    pub(crate) connect: HostConnect,
    pub(crate) tunnels: HostTunnels,
}

/// What one message carries of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) groups: Vec<SecurityGroup>,
    pub(crate) network: Change,
    pub(crate) names: HostNames,
    pub(crate) connect: HostConnect,
    pub(crate) tunnels: HostTunnels,
}

impl Told {
    /// What the instance's agent must hear before it is sent `next`. At first all that concerns the instance. `home` is
    /// the region's own machine, where the interfaces of endpoints are, and those of balancers that are on no other host.
    pub(crate) fn due(
        &mut self,
        view: &View,
        region: &RegionName,
        (instance, home): (InstanceId, Option<InstanceId>),
        tunneling: &Tunneling<'_>,
        next: &[&Task],
        open: &OpenKey<'_>,
    ) -> Option<News> {
        let is_whole = !self.is_begun;
        let mut changed = Vec::new();
        if is_whole {
            self.feed = Feed::default();
            self.groups.clear();
            for task in view.tasks_on_instance(instance) {
                self.add(view, task, &mut changed);
            }
        }
        for task in next {
            self.add(view, task, &mut changed);
        }
        for row in balancers_on(view, instance, home) {
            self.add_groups(view, row.scope.account, &row.security_groups, &mut changed);
        }
        if home == Some(instance) {
            for row in view.vpc_endpoints.iter() {
                let groups = row.interface().into_iter().flat_map(|it| &it.groups);
                self.add_groups(view, row.account, groups, &mut changed);
            }
        }
        // Of a group that is gone nobody has an interface any more.
        self.groups.retain(|(account, id), told| {
            let now = view.seq_of(&Key::SecurityGroup(*account, id.clone()));
            if now == *told {
                return true;
            }
            *told = now;
            let group = view.security_group(*account, id).map(|whole| whole.compile());
            let is_there = group.is_some();
            changed.extend(group);
            is_there
        });
        self.is_begun = true;
        let groups = changed;
        let feed = feed_of(view, region, instance, home, |own, other| tunneling.meets(own, other));
        let tunnels = self.tunnels.due(view, tunneling, instance, &feed, is_whole);
        let network = self.feed.change_to(&feed);
        self.feed = feed;
        let names = self.names.due(view, (instance, home), next, is_whole);
        let connect = self.connect.due(view, instance, next, is_whole, open);
        let is_empty =
            groups.is_empty() && network.is_empty() && names.is_empty() && connect.is_empty();
        let is_empty = is_empty && tunnels.is_empty();
        let version = view.seq;
        let news = News { is_whole, version, groups, network, names, connect, tunnels };
        (is_whole || !is_empty).then_some(news)
    }

    fn add(&mut self, view: &View, task: &Task, changed: &mut Vec<SecurityGroup>) {
        let groups = task.interface.iter().flat_map(|interface| &interface.security_groups);
        self.add_groups(view, task.scope.account, groups, changed);
    }

    fn add_groups<'g>(
        &mut self,
        view: &View,
        account: AccountId,
        groups: impl IntoIterator<Item = &'g SecurityGroupId>,
        changed: &mut Vec<SecurityGroup>,
    ) {
        for id in groups {
            let key = (account, id.clone());
            if self.groups.contains_key(&key) {
                continue;
            }
            let Some(whole) = view.security_group(account, id) else { continue };
            let seq = view.seq_of(&Key::SecurityGroup(account, id.clone()));
            self.groups.insert(key, seq);
            changed.push(whole.compile());
        }
    }

    /// The namespaces of Service Connect that the agent is told of.
    pub(crate) fn connect_namespaces(&self) -> BTreeSet<ConnectNamespace> {
        self.connect.namespaces()
    }

    /// The agent could not do as it was told: it is told all again.
    pub(crate) fn begin_again(&mut self) {
        self.is_begun = false;
        self.tunnels.begin_again();
    }
}

impl News {
    /// In parts that fit a message each, at least one.
    pub(crate) fn parts(self) -> Vec<Part> {
        let mut parts = vec![Part::default()];
        let mut rules = 0;
        for group in self.groups {
            let its = group.ingress.len() + group.egress.len();
            if rules > 0 && rules + its > RULES_PER_MESSAGE_MAX {
                parts.push(Part::default());
                rules = 0;
            }
            rules += its;
            parts.last_mut().expect("there is a first part").groups.push(group);
        }
        let Change { put, gone } = self.network;
        let (mut put, mut gone) = (put.into_iter().peekable(), gone.into_iter().peekable());
        while put.peek().is_some() || gone.peek().is_some() {
            let gone: Vec<_> = gone.by_ref().take(WEIGHT_PER_MESSAGE_MAX).collect();
            let mut network = Change { put: Vec::new(), gone };
            let mut held = network.gone.len();
            // One that is too heavy for any message goes alone.
            while let Some(item) =
                put.next_if(|item| held == 0 || held + weight(item) <= WEIGHT_PER_MESSAGE_MAX)
            {
                held += weight(&item);
                network.put.push(item);
            }
            match parts.last_mut().filter(|last| rules == 0 && last.network.is_empty()) {
                Some(first) => first.network = network,
                None => parts.push(Part { network, ..Part::default() }),
            }
        }
        for names in names::parts(self.names) {
            match parts.last_mut().filter(|last| **last == Part::default()) {
                Some(first) => first.names = names,
                None => parts.push(Part { names, ..Part::default() }),
            }
        }
        for connect in connect::parts(self.connect) {
            match parts.last_mut().filter(|last| **last == Part::default()) {
                Some(first) => first.connect = connect,
                None => parts.push(Part { connect, ..Part::default() }),
            }
        }
        for tunnels in tunnels::parts(self.tunnels) {
            match parts.last_mut().filter(|last| **last == Part::default()) {
                Some(first) => first.tunnels = tunnels,
                None => parts.push(Part { tunnels, ..Part::default() }),
            }
        }
        parts
    }
}

/// An item, with the lines that it has.
fn weight(item: &Item) -> usize {
    1 + match item {
        Item::RouteTable(table) => table.routes.len(),
        Item::NetworkAcl(acl) => acl.ingress.len() + acl.egress.len(),
        Item::Vpc(_)
        | Item::Subnet(_)
        | Item::NatGateway(_)
        | Item::Peering(_)
        | Item::Interface(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use control::testing::rows::task;
    use model::vpc::AddressPlan;
    use model::{Row, SecurityGroup as GroupRow};
    use traffic::feed::{ItemId, Route, RouteTable, Target};

    use super::*;
    use crate::tunnels::TunnelBook;

    fn clear() -> Tunneling<'static> {
        static BOOK: std::sync::LazyLock<TunnelBook> =
            std::sync::LazyLock::new(TunnelBook::default);
        Tunneling::new(control::BetweenHosts::Clear, None, &BOOK, longshore_types::Timestamp(0))
    }

    fn world() -> (View, Task) {
        let mut view = View::default();
        let block = "172.31.0.0/16".parse().unwrap();
        let plan = AddressPlan { block, bridge: None, seed: 7 };
        let mut task = task(1);
        let group = plan.default_group(task.scope.account).group.id;
        view.put(Seq(1), &Row::from(plan));
        task.interface.as_mut().unwrap().security_groups = vec![group];
        (view, task)
    }

    #[test]
    fn a_group_is_told_once_and_again_when_it_changed() {
        let (mut view, task) = world();
        let instance: InstanceId = "0".repeat(32).parse().unwrap();
        let region: RegionName = "eu-north-1".parse().unwrap();
        let mut told = Told::default();
        let first =
            told.due(&view, &region, (instance, None), &clear(), &[], &|_, _| None).unwrap();
        assert!(
            first.is_whole && first.groups.is_empty(),
            "that there is nothing is news at first"
        );
        let group = task.interface.as_ref().unwrap().security_groups[0].clone();
        let news =
            told.due(&view, &region, (instance, None), &clear(), &[&task], &|_, _| None).unwrap();
        assert!(!news.is_whole);
        assert_eq!(news.groups, [SecurityGroup::default_rules(group.clone())]);
        assert_eq!(
            told.due(&view, &region, (instance, None), &clear(), &[&task], &|_, _| None),
            None
        );
        let whole = view.security_group(task.scope.account, &group).unwrap();
        view.put(Seq(2), &Row::from(GroupRow { revision: 1, ..whole.group }));
        let news = told.due(&view, &region, (instance, None), &clear(), &[], &|_, _| None).unwrap();
        assert_eq!(news.groups, [SecurityGroup::closed(group)], "its rules are no rows");
        assert_eq!(
            told.due(&view, &region, (instance, None), &clear(), &[&task], &|_, _| None),
            None
        );
        told.begin_again();
        assert!(
            told.due(&view, &region, (instance, None), &clear(), &[&task], &|_, _| None)
                .unwrap()
                .is_whole
        );
    }

    #[test]
    fn many_rules_are_told_in_parts() {
        let (_, task) = world();
        let group = task.interface.as_ref().unwrap().security_groups[0].clone();
        let mut group = SecurityGroup::default_rules(group);
        group.ingress = vec![group.ingress[0].clone(); 1_500];
        let whole = News {
            is_whole: true,
            version: Seq(1),
            groups: vec![],
            network: Change::default(),
            names: HostNames::default(),
            connect: HostConnect::default(),
            tunnels: HostTunnels::default(),
        };
        let nothing = News { groups: vec![], ..whole.clone() };
        let gone = vec![ItemId::Interface("eni-00000001".parse().unwrap()); 1_500];
        let network = Change { put: vec![], gone };
        let news = News { groups: vec![group; 5], network: network.clone(), ..whole };
        let parts: Vec<_> =
            news.parts().iter().map(|it| (it.groups.len(), it.network.gone.len())).collect();
        assert_eq!(parts, [(2, 0), (2, 0), (1, 0), (0, 1_000), (0, 500)]);
        let none = News { network, ..nothing.clone() };
        assert_eq!(none.parts().len(), 2, "the first is not left empty");
        assert_eq!(nothing.parts(), [Part::default()]);
    }

    #[test]
    fn tables_of_many_routes_are_told_in_parts() {
        let route = Route { destination: "0.0.0.0/0".parse().unwrap(), target: Target::Blackhole };
        let table = |routes| {
            Item::RouteTable(RouteTable {
                id: "rtb-00000001".parse().unwrap(),
                vpc: "vpc-00000001".parse().unwrap(),
                routes: vec![route.clone(); routes],
            })
        };
        let told = |put: Vec<Item>| {
            let news = News {
                is_whole: false,
                version: Seq(1),
                groups: vec![],
                network: Change { put, gone: vec![] },
                names: HostNames::default(),
                connect: HostConnect::default(),
                tunnels: HostTunnels::default(),
            };
            let parts = news.parts();
            parts.iter().map(|part| part.network.put.len()).collect::<Vec<_>>()
        };
        assert_eq!(told(vec![table(499); 5]), [2, 2, 1]);
        assert_eq!(told(vec![table(0), table(2_000), table(0)]), [1, 1, 1]);
    }
}
