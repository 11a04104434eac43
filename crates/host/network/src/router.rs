//! Routers: a namespace a VPC, in which the VPC's endpoints end, so that addresses of different VPCs may be the same.
//!
//! A router hangs on the host as a bridged container does, by one link with an address of the bridge's range: by it
//! packets leave the VPC, and what the host serves is reached. Inside, a [`Worker`] of its own does what the host's
//! does for the default VPC, with a table that has routes, gateways and ACLs too. The host's worker hands on what
//! is asked of its endpoints.
//!
//! **Invariant:** what a router's worker knows of its VPC is what the host's worker was told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use longshore_types::{Chain, Cidr, Steps, VpcId};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;
use tracing::{info, warn};
use traffic::SecurityGroup;
use traffic::feed::{Change, Feed, PUBLIC_POOL, Place, Vpc};

use crate::endpoint::{Attached, EniSpec, Role};
use crate::error::NetworkError;
use crate::flows::FlowCounts;
use crate::forgetter::Forgetter;
use crate::interface_names::InterfaceNames;
use crate::learn::News;
use crate::limits;
use crate::names::{EndpointId, NetTag};
use crate::netlink::{Requests, Socket};
use crate::netns::{Pool, Reaper, Recipe};
use crate::numbers::LinkNumbers;
use crate::overlay::{Overlay, Underlay};
use crate::publish::HostPorts;
use crate::ranges::release_but;
use crate::records::Records;
use crate::ruleset::{Plan, Table, judged_vpc};
use crate::setup;
use crate::worker::{Command, Reply, Turn, Worker};

/// What all routers of a host have in common.
#[derive(Clone, Debug)]
pub(crate) struct Routers {
    pub(crate) underlay: Option<Underlay>,
    pub(crate) mtu: u32,
    pub(crate) steps: Steps,
}

/// The host's worker's end of a router.
#[derive(Debug)]
pub(crate) struct Router {
    commands: Sender<Command>,
    /// The namespace's own name among the endpoints.
    pub(crate) endpoint: EndpointId,
    /// The endpoints that are plugged in.
    pub(crate) placed: BTreeSet<EndpointId>,
    /// Whether all public addresses that it is written down to have lead to it: a process before this one may have ended
    /// between the two.
    is_led: bool,
}

impl Router {
    /// Asks and waits. Nothing waits for the host's worker meanwhile but those who ask it.
    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, NetworkError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| NetworkError::Closed)?;
        answer.blocking_recv().map_err(|_| NetworkError::Closed)?
    }

    /// Hands on what is to be answered from there.
    pub(crate) fn pass(&self, command: Command) {
        // One that ended answers nobody, which they are told.
        drop(self.commands.send(command));
    }
}

/// The name of a VPC's router among the endpoints; no task is called so.
pub(crate) fn endpoint_of(vpc: &VpcId) -> EndpointId {
    format!("router.{vpc}").parse().expect("an id is letters, digits and hyphens")
}

impl Worker {
    /// The VPC that an interface is in, if that has a router of its own.
    pub(crate) fn router_of(&self, spec: &EniSpec) -> Option<VpcId> {
        let interface = self.feed.interfaces.get(spec.id.as_ref()?)?;
        let vpc = self.feed.vpcs.get(&interface.vpc);
        // Of a VPC that nobody told of there is no router either, and it is not the default one.
        let is_default = vpc.is_some_and(|vpc| vpc.is_default);
        (!is_default && self.table.plan().router.is_none()).then(|| interface.vpc.clone())
    }

    pub(crate) fn attach_behind(
        &mut self,
        vpc: &VpcId,
        id: EndpointId,
        spec: EniSpec,
        reply: Reply<Attached>,
    ) {
        match self.routers.get_mut(vpc) {
            Some(router) => {
                router.placed.insert(id.clone());
                router.pass(Command::AttachEni { id, spec, reply });
            }
            None => drop(reply.send(Err(self.why_unrouted(vpc)))),
        }
    }

    /// Why a VPC has no router here.
    fn why_unrouted(&self, vpc: &VpcId) -> NetworkError {
        let told = self.feed.vpcs.get(vpc);
        let fits = told.map_or(Ok(()), |vpc| self.check_room(vpc));
        fits.err().unwrap_or_else(|| NetworkError::NoRouter { vpc: vpc.clone() })
    }

    fn check_room(&self, vpc: &Vpc) -> Result<(), NetworkError> {
        let bridge = self.table.plan().bridge;
        if let Some(range) = vpc.ranges.iter().find(|range| range.overlaps(bridge)) {
            return Err(NetworkError::RangesOverlap { first: *range, second: bridge });
        }
        if !self.routers.contains_key(&vpc.id) && self.routers.len() >= limits::ROUTERS_MAX {
            return Err(NetworkError::TooManyRouters { limit: limits::ROUTERS_MAX });
        }
        Ok(())
    }

    /// The router that has an endpoint.
    pub(crate) fn router_with(&mut self, id: &EndpointId) -> Option<&mut Router> {
        self.routers.values_mut().find(|router| router.placed.contains(id))
    }

    /// Asks the router that `from` is, and there its namespace, which translated the connection.
    pub(crate) fn behind(
        &mut self,
        from: SocketAddrV4,
        to: SocketAddrV4,
        reply: Reply<Option<Ipv4Addr>>,
    ) {
        if self.uplink == Some(*from.ip()) {
            let found = self.netfilter.who_is_answered(to, from);
            return drop(reply.send(found.map_err(NetworkError::from)));
        }
        let is_it = |router: &&Router| {
            self.endpoints.get(&router.endpoint).is_some_and(|it| it.address == *from.ip())
        };
        match self.routers.values().find(is_it) {
            Some(router) => router.pass(Command::Behind { from, to, reply }),
            None => drop(reply.send(Ok(None))),
        }
    }

    pub(crate) fn reconcile_routers(
        &mut self,
        keep: &BTreeSet<EndpointId>,
    ) -> Result<(), NetworkError> {
        let mut outcome = Ok(());
        for router in self.routers.values_mut() {
            let keep = keep.clone();
            let asked = router.ask(|reply| Command::Reconcile { keep: keep.clone(), reply });
            router.placed.retain(|id| keep.contains(id));
            outcome = outcome.and(asked);
        }
        outcome
    }

    /// Has a router for every VPC in which the host has an interface, each knowing what was told of its VPC.
    pub(crate) fn follow_routers(&mut self, turn: &mut Turn) -> Result<(), NetworkError> {
        if self.table.plan().router.is_some() {
            return Ok(());
        }
        let has = |vpc: &Vpc, may_be_balancers: bool| {
            let mut its = self.feed.interfaces.values().filter(|it| it.vpc == vpc.id);
            its.any(|it| it.place == Place::Here && (may_be_balancers || !it.is_balancers))
        };
        let vpcs = self.feed.distinct_vpcs().filter(|vpc| !vpc.is_default && has(vpc, true));
        let mut vpcs: Vec<Vpc> = vpcs.cloned().collect();
        // There is not room for any number: balancers that stand idle keep no task from its network.
        vpcs.sort_by_cached_key(|vpc| !has(vpc, false));
        let wanted: BTreeSet<VpcId> = vpcs.iter().map(|vpc| vpc.id.clone()).collect();
        let is_idle = |(id, router): (&VpcId, &Router)| {
            (!wanted.contains(id) && router.placed.is_empty()).then(|| id.clone())
        };
        let idle: Vec<VpcId> = self.routers.iter().filter_map(is_idle).collect();
        for vpc in idle {
            self.end_router(turn, &vpc);
        }
        let mut outcome = Ok(());
        let known: BTreeSet<VpcId> = self.routers.keys().cloned().collect();
        for vpc in vpcs {
            // The region would say the same again: who wants to attach there is told.
            if let Err(error) = self.check_room(&vpc) {
                warn!(vpc = %vpc.id, error = %Chain(&error), "no router for a VPC");
                continue;
            }
            outcome = outcome.and(self.ensure_router(turn, &vpc));
        }
        outcome = outcome.and(self.join_routers());
        // Those that stay for endpoints which are still here know of nothing any more.
        for vpc in known.union(&wanted) {
            outcome = outcome.and(self.tell_router(turn, vpc));
        }
        // Once more, for addresses that another of them had until now.
        for vpc in known.union(&wanted) {
            outcome = outcome.and(self.lead_publics(turn, vpc));
        }
        let vpc_of = |id: &EndpointId| {
            let mut routers = self.routers.iter();
            routers.find(|(_, it)| it.endpoint == *id).map(|(vpc, _)| vpc.clone())
        };
        let routers = self.endpoints.values().filter(|it| it.is_router());
        let routers = routers.map(|it| (it.address, vpc_of(&it.id)));
        self.names.know_routers(routers.collect());
        let own = self.routers.keys();
        let own =
            own.filter_map(|vpc| Some((Some(vpc.clone()), InterfaceNames::of(&self.feed, vpc)?)));
        let default = self.table.plan().ranges.first().copied();
        let default = default.map(|range| (None, InterfaceNames::of_default(range)));
        self.names.know_interfaces(own.chain(default).collect());
        self.names.know_nameless(nameless(&self.feed));
        outcome
    }

    fn ensure_router(&mut self, turn: &mut Turn, vpc: &Vpc) -> Result<(), NetworkError> {
        if self.routers.contains_key(&vpc.id) {
            return Ok(());
        }
        let endpoint = endpoint_of(&vpc.id);
        self.attach_router(turn, &endpoint, &vpc.id)?;
        let opened = self.open_router(&endpoint, vpc);
        match opened {
            Ok(router) => {
                info!(vpc = %vpc.id, "router is up");
                self.routers.insert(vpc.id.clone(), router);
                Ok(())
            }
            Err(error) => {
                drop(self.remove(turn, |it| it.id == endpoint));
                Err(error)
            }
        }
    }

    fn open_router(&mut self, id: &EndpointId, vpc: &Vpc) -> Result<Router, NetworkError> {
        let path = self.records.namespace(id);
        let failed = |source| NetworkError::io(format!("open {}", path.display()), source);
        let namespace = File::open(&path).map_err(failed)?;
        let (commands, inbox) = channel();
        let (ready, opened) = oneshot::channel();
        let opening = Opening {
            namespace,
            run_dir: self.records.of_router(&vpc.id),
            plan: self.table.router_plan(vpc),
            common: self.common.clone(),
            vpc: vpc.clone(),
            uplink: self.endpoints.get(id).map(|it| it.address),
        };
        let work = move || match opening.open() {
            Ok(worker) => {
                let placed = worker.endpoints.keys().cloned().collect();
                drop(ready.send(Ok(placed)));
                worker.run(&inbox);
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        thread::Builder::new()
            .name("router".to_owned())
            .spawn(work)
            .map_err(|source| NetworkError::io("start a router's thread", source))?;
        let placed = opened.blocking_recv().map_err(|_| NetworkError::Closed)??;
        Ok(Router { commands, endpoint: id.clone(), placed, is_led: false })
    }

    fn tell_router(&mut self, turn: &mut Turn, vpc: &VpcId) -> Result<(), NetworkError> {
        let feed = part_of(&self.feed, vpc);
        let groups: Vec<SecurityGroup> =
            self.groups.iter().flat_map(BTreeMap::values).cloned().collect();
        let network = Change { put: feed.items().collect(), gone: vec![] };
        let Some(router) = self.routers.get(vpc) else { return Ok(()) };
        let news = News { groups, network, is_whole: true, ..News::default() };
        router.ask(|reply| Command::Learn { news: Box::new(news), reply })?;
        self.lead_publics(turn, vpc)
    }

    /// Has public addresses lead to a router, and those of before no more.
    fn lead_publics(&mut self, turn: &mut Turn, vpc: &VpcId) -> Result<(), NetworkError> {
        let Some(router) = self.routers.get(vpc) else { return Ok(()) };
        let (id, is_led) = (&router.endpoint, router.is_led);
        let Some(before) = self.endpoints.get(id).cloned() else { return Ok(()) };
        let publics = publics_of(&self.feed, vpc);
        let Role::Router { vpc, publics: held } = &before.role else { return Ok(()) };
        let others: BTreeSet<Ipv4Addr> = self
            .endpoints
            .values()
            .filter(|other| other.id != *id)
            .flat_map(|other| other.publics().copied().chain([other.address]))
            .collect();
        // What is no public address, or another VPC's, leads nowhere new.
        let is_free = |it: &Ipv4Addr| PUBLIC_POOL.contains(*it) && !others.contains(it);
        let publics: BTreeSet<Ipv4Addr> = publics.into_iter().filter(is_free).collect();
        if publics == *held && is_led {
            return Ok(());
        }
        let Some(link) = before.host_link() else { return Ok(()) };
        let mut after = before.clone();
        after.role = Role::Router { vpc: vpc.clone(), publics: publics.clone() };
        // Whatever fails below, all is done again.
        if let Some(router) = self.routers.get_mut(vpc) {
            router.is_led = false;
        }
        // Before it is written down that they are gone: nobody else would take their routes away.
        for gone in held.difference(&publics) {
            let mut requests = Requests::default();
            requests.delete_host_route(link.index, *gone);
            drop(self.route.ask(&requests));
        }
        self.records.save(&after)?;
        self.forgetter.forget(held.difference(&publics).copied());
        for new in publics.iter().filter(|it| !is_led || !held.contains(it)) {
            let mut requests = Requests::default();
            requests.add_route_by(link.index, *new, before.address);
            self.route.ask(&requests)?;
        }
        self.replace_endpoint(turn, &before, after);
        if let Some(router) = self.routers.get_mut(vpc) {
            router.is_led = true;
        }
        Ok(())
    }

    fn end_router(&mut self, turn: &mut Turn, vpc: &VpcId) {
        let Some(router) = self.routers.remove(vpc) else { return };
        // What was counted there is told with what the host counts itself.
        match router.ask(|reply| Command::OwnFlows { reply }) {
            Ok(counted) => self.flows.keep(counted),
            Err(error) => warn!(%vpc, error = %Chain(&error), "the last flows of a VPC are lost"),
        }
        let ended = router.ask(|reply| Command::Uninstall { reply });
        let removed = self.remove(turn, |it| it.id == router.endpoint);
        for error in [ended.err(), removed.err()].into_iter().flatten() {
            warn!(%vpc, error = %Chain(&error), "router not wholly removed");
        }
        info!(%vpc, "router is gone");
    }

    /// Before the host's own things go.
    pub(crate) fn uninstall_routers(&mut self) -> Result<(), NetworkError> {
        let mut outcome = Ok(());
        for router in std::mem::take(&mut self.routers).into_values() {
            outcome = outcome.and(router.ask(|reply| Command::Uninstall { reply }));
        }
        outcome
    }
}

/// The addresses in what default VPCs share to which names of interfaces are not answered.
fn nameless(feed: &Feed) -> BTreeSet<Ipv4Addr> {
    if judged_vpc(feed).is_none() {
        return BTreeSet::new();
    }
    let is_withheld = |it: &&traffic::feed::Interface| {
        let is_default = feed.vpcs.get(&it.vpc).is_some_and(|vpc| vpc.is_default);
        is_default && feed.subnet_of(it).is_some_and(|subnet| subnet.withheld.is_some())
    };
    feed.interfaces.values().filter(is_withheld).map(|it| it.address).collect()
}

/// What is told of one VPC.
fn part_of(feed: &Feed, vpc: &VpcId) -> Feed {
    Feed {
        vpcs: those(&feed.vpcs, |it| it.id == *vpc),
        subnets: those(&feed.subnets, |it| it.vpc == *vpc),
        tables: those(&feed.tables, |it| it.vpc == *vpc),
        acls: those(&feed.acls, |it| it.vpc == *vpc),
        nat_gateways: those(&feed.nat_gateways, |it| it.vpc == *vpc),
        peerings: those(&feed.peerings, |it| it.vpc == *vpc),
        interfaces: {
            let mut interfaces = those(&feed.interfaces, |it| it.vpc == *vpc);
            let peered = feed.peered_of(vpc).into_values();
            interfaces.extend(peered.map(|it| (it.interface.id.clone(), it.interface.clone())));
            interfaces
        },
    }
}

fn those<K: Ord + Clone, V: Clone>(
    all: &BTreeMap<K, V>,
    is_one: impl Fn(&V) -> bool,
) -> BTreeMap<K, V> {
    let some = all.iter().filter(|(_, it)| is_one(it));
    some.map(|(id, it)| (id.clone(), it.clone())).collect()
}

/// The addresses by which a host's part of a VPC is seen outside: those of its interfaces, and of its gateways.
fn publics_of(feed: &Feed, vpc: &VpcId) -> BTreeSet<Ipv4Addr> {
    let here = feed.interfaces.values();
    let here = here.filter(|it| it.vpc == *vpc && it.place == Place::Here);
    let gateways = feed.nat_gateways.values().filter(|nat| nat.vpc == *vpc);
    let gateways = gateways.filter_map(|nat| nat.public);
    here.filter_map(|it| it.public).chain(gateways).collect()
}

/// What a router's thread begins with.
struct Opening {
    namespace: File,
    run_dir: PathBuf,
    plan: Plan,
    common: Routers,
    vpc: Vpc,
    uplink: Option<Ipv4Addr>,
}

impl Opening {
    fn open(self) -> Result<Worker, NetworkError> {
        let Self { namespace, run_dir, plan, common, vpc, uplink } = self;
        let outside = Socket::route()?;
        setns(&namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| NetworkError::io("enter a router's namespace", errno.into()))?;
        let mut route = Socket::route()?;
        setup::forward()?;
        claim(&mut route, plan.tag, &vpc.ranges)?;
        release_but(&mut route, plan.tag, &vpc.ranges)?;
        let records = Records::open(&run_dir)?;
        let endpoints = setup::find_living(&mut route, &records, plan.tag)?;
        let links = setup::links_of(&mut route, plan.tag)?;
        let numbers = LinkNumbers::open(records.clone(), &links.into_values().collect());
        let recipe =
            Recipe { tag: plan.tag, mtu: common.mtu, is_link_local_open: plan.is_link_local_open };
        let pool = Pool::start(&recipe, numbers, (limits::ROUTER_POOL, 1))?;
        let overlay = Overlay::new(plan.tag.overlay(), common.underlay);
        let mut worker = Worker {
            route,
            netfilter: Socket::netfilter()?,
            pool,
            reaper: Reaper::start()?,
            forgetter: Forgetter::start()?,
            table: Table::new(plan),
            ports: HostPorts::new(1..=1),
            groups: records.groups()?,
            is_behind: false,
            is_current: false,
            feed: Feed::default(),
            flows: FlowCounts::default(),
            overlay: overlay.behind(outside, namespace),
            peer_links: BTreeMap::new(),
            knows_peer_links: false,
            peered: BTreeMap::new(),
            lacks_balancers: false,
            peers: BTreeSet::new(),
            tunnels: Err("the host does it"),
            endpoints,
            next_bridge: 2,
            steps: common.steps.clone(),
            routers: BTreeMap::new(),
            common,
            names: Arc::default(),
            uplink,
            records,
        };
        worker.recall()?;
        worker.replace_table()?;
        Ok(worker)
    }
}

/// Addresses of the VPC that no interface has do not leave by the uplink.
pub(crate) fn claim(route: &mut Socket, tag: NetTag, ranges: &[Cidr]) -> Result<(), NetworkError> {
    for range in ranges {
        let mut requests = Requests::default();
        requests.add_unreachable(*range, tag.metric());
        match route.ask(&requests) {
            Err(error) if !error.is(Errno::EEXIST) => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use traffic::feed::{Interface, Item, Subnet, Vni, Withheld};

    use super::*;

    #[test]
    fn names_of_interfaces_are_withheld_from_those_in_a_default_vpc_that_has_none() {
        let id: VpcId = "vpc-00000042".parse().unwrap();
        let mut feed = Feed::default();
        let mut vpc = Vpc {
            vni: Vni::of(&id),
            id: id.clone(),
            ranges: vec!["172.31.0.0/16".parse().unwrap()],
            has_dns: true,
            has_dns_hostnames: true,
            is_default: true,
        };
        feed.put(Item::Vpc(vpc.clone()));
        let withheld = [None, Some(Withheld::OfInterfaces), Some(Withheld::All)];
        for (number, withheld) in (1_u8..).zip(withheld) {
            let subnet: longshore_types::SubnetId =
                format!("subnet-0000000{number}").parse().unwrap();
            feed.put(Item::Subnet(Subnet {
                id: subnet.clone(),
                vpc: id.clone(),
                range: format!("172.31.{number}.0/24").parse().unwrap(),
                table: "rtb-00000001".parse().unwrap(),
                acl: "acl-00000001".parse().unwrap(),
                withheld,
            }));
            feed.put(Item::Interface(Interface {
                id: format!("eni-0000000{number}").parse().unwrap(),
                vpc: id.clone(),
                subnet,
                address: [172, 31, number, 4].into(),
                groups: vec![],
                public: None,
                place: Place::Here,
                is_balancers: false,
                is_logged: false,
            }));
        }
        let expected = [2, 3].map(|number| Ipv4Addr::new(172, 31, number, 4));
        assert_eq!(nameless(&feed), expected.into());
        vpc.is_default = false;
        feed.put(Item::Vpc(vpc));
        assert!(nameless(&feed).is_empty(), "a router's is asked where it is");
    }
}
