//! What the region tells of groups, VPCs and interfaces of other hosts, taken in.
//!
//! **Invariant:** what is in force is written down: a process that comes after this one judges and routes as this
//! one did before anybody tells it anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use longshore_types::SecurityGroupId;
use tracing::{debug, warn};
use traffic::HostNames;
use traffic::SecurityGroup;
use traffic::connect::HostConnect;
use traffic::feed::{Change, Feed, Vpc};
use traffic::tunnels::HostTunnels;

use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::nft::Batch;
use crate::overlay::Remote;
use crate::ranges::release_but;
use crate::router::claim;
use crate::ruleset::{Table, is_judged, is_judged_alike, world_of};
use crate::setup;
use crate::worker::{Turn, Worker};

/// Something new of groups and VPCs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Each with all its rules.
    pub groups: Vec<SecurityGroup>,
    pub network: Change,
    pub names: HostNames,
    pub connect: HostConnect,
    pub tunnels: HostTunnels,
    /// The commit of the region that it is as of.
    pub version: u64,
    /// Whatever is not said is not so any more.
    pub is_whole: bool,
}

impl Worker {
    pub(crate) fn learn(&mut self, turn: &mut Turn, news: News) -> Result<(), NetworkError> {
        let News { groups, network, names: _, connect: _, tunnels, version: _, is_whole } = news;
        // Nothing goes to a host in the clear for a while, and what does not go there any more has no route by then.
        if let Err(error) = self.encrypt(&tunnels) {
            self.is_current = false;
            return Err(error);
        }
        let learned = self.learn_all(turn, groups, network, is_whole);
        self.is_current = learned.is_ok() && (is_whole || self.is_current);
        let ended = self.end_encryption(&tunnels, is_whole);
        learned.and(ended).and(self.end_waits(turn))
    }

    /// Whether an endpoint's packets are to be judged while it is not known by what.
    pub(crate) fn must_wait(&self, endpoint: &Endpoint) -> bool {
        let is_known = self.is_current || is_judged(&self.feed, endpoint);
        endpoint.awaits_ways && self.table.plan().router.is_none() && !is_known
    }

    /// Has endpoints be judged by what is known of them now.
    fn end_waits(&mut self, turn: &mut Turn) -> Result<(), NetworkError> {
        let over = self.endpoints.values().filter(|it| it.awaits_ways && !self.must_wait(it));
        let over: Vec<Endpoint> = over.cloned().collect();
        for endpoint in over {
            let endpoint = Endpoint { awaits_ways: false, ..endpoint };
            self.records.save(&endpoint)?;
            self.endpoints.insert(endpoint.id.clone(), endpoint);
            turn.must_replace = true;
        }
        Ok(())
    }

    fn learn_all(
        &mut self,
        turn: &mut Turn,
        groups: Vec<SecurityGroup>,
        network: Change,
        is_whole: bool,
    ) -> Result<(), NetworkError> {
        let are_changed = self.learn_groups(turn, groups, is_whole)?;
        if !network.is_empty() || is_whole {
            return self.learn_network(turn, network, is_whole);
        }
        // Routers judge by the same groups, whatever else there is to tell them.
        if are_changed { self.follow_routers(turn) } else { Ok(()) }
    }

    fn encrypt(&mut self, told: &HostTunnels) -> Result<(), NetworkError> {
        match &mut self.tunnels {
            Ok(tunnels) => tunnels.put(&told.put, |other| self.peers.contains(&other)),
            Err(_) if told.put.is_empty() => Ok(()),
            Err(why) => Err(NetworkError::CannotEncrypt { why }),
        }
    }

    fn end_encryption(&mut self, told: &HostTunnels, is_whole: bool) -> Result<(), NetworkError> {
        match &mut self.tunnels {
            Ok(tunnels) => tunnels.settle(told, is_whole, |other| self.peers.contains(&other)),
            Err(_) => Ok(()),
        }
    }

    /// Goes on with what an earlier process was told.
    pub(crate) fn recall(&mut self) -> Result<(), NetworkError> {
        self.feed = self.records.feed()?;
        // The table is made afterwards, as a whole.
        let mut turn = Turn::new(self.table.batch());
        if let Err(error) = self.follow_peerings() {
            warn!(error = %longshore_types::Chain(&error), "peers are not all reached");
        }
        self.follow_peers(&mut turn.batch);
        if let Err(error) = self.follow_routers(&mut turn) {
            warn!(error = %longshore_types::Chain(&error), "routers are not all there");
        }
        if !self.overlay.is_wanted() || self.own_vpc().is_none() {
            return setup::remove_link(&mut self.route, &self.table.plan().tag.overlay());
        }
        self.follow(&mut turn.batch)?;
        self.overlay.drop_strays(&mut self.route)
    }

    /// Writes groups down and has the table judge by them, those that are as they were aside. Whether there are others.
    fn learn_groups(
        &mut self,
        turn: &mut Turn,
        groups: Vec<SecurityGroup>,
        is_whole: bool,
    ) -> Result<bool, NetworkError> {
        let before = self.groups.clone().unwrap_or_default();
        let told = groups.into_iter().map(|group| (group.id.clone(), group));
        let after: BTreeMap<SecurityGroupId, SecurityGroup> = match is_whole {
            true => told.collect(),
            false => before.clone().into_iter().chain(told).collect(),
        };
        let is_first = self.groups.is_none();
        if !is_first && after == before {
            return Ok(false);
        }
        self.records.save_groups(&after)?;
        let differs = |id: &&SecurityGroupId| before.get(*id) != after.get(*id);
        let changed: BTreeSet<SecurityGroupId> =
            before.keys().chain(after.keys()).filter(differs).cloned().collect();
        self.groups = Some(after);
        // What meant the default rules until now may mean others, and have chains already.
        turn.must_replace |= is_first && !self.endpoints.is_empty();
        let world = world_of!(self);
        self.table.change_groups(&mut turn.batch, world, &changed);
        debug!(changed = changed.len(), "security groups changed");
        Ok(true)
    }

    fn learn_network(
        &mut self,
        turn: &mut Turn,
        change: Change,
        is_whole: bool,
    ) -> Result<(), NetworkError> {
        let mut after = if is_whole { Feed::default() } else { self.feed.clone() };
        after.apply(change);
        if after != self.feed {
            self.records.save_feed(&after)?;
            for oddity in after.oddities().iter().take(ODDITIES_SAID_MAX) {
                warn!(%oddity, "something that the region told is left aside");
            }
            // A router's table is made of all of it, the host's of default VPCs that were changed.
            let is_router = self.table.plan().router.is_some();
            turn.must_replace |= is_router || !is_judged_alike(&self.feed, &after);
            self.feed = after;
            let mut endpoints = self.endpoints.values();
            turn.must_replace |= endpoints.any(|it| self.table.lacks(&self.feed, it));
            if !turn.must_replace {
                self.table.change_members(&mut turn.batch, &self.feed);
            }
        }
        if let (Some(_), Some(vpc)) = (&self.table.plan().router, self.own_vpc()) {
            let tag = self.table.plan().tag;
            claim(&mut self.route, tag, &vpc.ranges)?;
            if self.table.plan().ranges != vpc.ranges {
                release_but(&mut self.route, tag, &vpc.ranges)?;
            }
            self.table.set_ranges(vpc.ranges);
        }
        self.follow_peers(&mut turn.batch);
        self.follow(&mut turn.batch)?;
        let peered = self.follow_peerings();
        self.follow_balancers(turn);
        if let Err(error) = self.follow_logged() {
            // With whatever is told or asked next it is tried again.
            warn!(error = %longshore_types::Chain(&error), "flows are not counted");
        }
        self.follow_routers(turn).and(peered)
    }

    /// The tunnel is open to hosts that share a VPC with this one, whichever it is.
    fn follow_peers(&mut self, batch: &mut Batch) {
        let peers = self.overlay.peers_in(&self.feed);
        Table::remove_hosts(batch, self.peers.difference(&peers));
        Table::add_hosts(batch, peers.difference(&self.peers));
        self.peers = peers;
    }

    /// A router's VPC; in the host's own network the plane that all default VPCs share.
    pub(crate) fn own_vpc(&self) -> Option<Vpc> {
        let plan = self.table.plan();
        let is_it = |vpc: &&Vpc| match &plan.router {
            Some(router) => vpc.id == *router,
            None => vpc.is_default && vpc.ranges.first() == plan.ranges.first(),
        };
        self.feed.distinct_vpcs().find(is_it).cloned()
    }

    /// Has routes and members be as the region told.
    fn follow(&mut self, batch: &mut Batch) -> Result<(), NetworkError> {
        let vpc = self.own_vpc();
        if let Some(vpc) = &vpc {
            self.overlay.connect(&mut self.route, vpc)?;
        }
        self.overlay.told =
            vpc.map(|vpc| self.overlay.remotes_of(&self.feed, &vpc)).unwrap_or_default();
        let local: BTreeSet<Ipv4Addr> = self.endpoints.values().map(|it| it.address).collect();
        let told = self.overlay.told.iter();
        let wanted: BTreeMap<Ipv4Addr, Remote> = told
            .filter(|(address, _)| !local.contains(address))
            .map(|(address, remote)| (*address, remote.clone()))
            .collect();
        self.change_remotes(batch, &wanted)
    }

    fn change_remotes(
        &mut self,
        batch: &mut Batch,
        wanted: &BTreeMap<Ipv4Addr, Remote>,
    ) -> Result<(), NetworkError> {
        let now = self.overlay.remotes.clone();
        let changed = now.iter().filter(|(address, it)| wanted.get(*address) != Some(*it));
        let changed: BTreeMap<_, _> = changed.collect();
        let place = |it: &Remote| (it.host, it.eni.clone());
        let moved = changed.iter().filter(|(address, it)| {
            wanted.get(**address).is_none_or(|wanted| place(wanted) != place(it))
        });
        // Connections of an address end with its interface, and are none of its next one's.
        self.forgetter.forget(moved.map(|(address, _)| **address));
        self.table.remove_remotes(batch, changed.iter().map(|(address, it)| (*address, *it)));
        let gone = now.keys().filter(|address| !wanted.contains_key(*address));
        let gone: Vec<Ipv4Addr> = gone.copied().collect();
        self.overlay.leave(&mut self.route, &gone)?;
        let new = wanted.iter().filter(|(address, it)| now.get(*address) != Some(*it));
        let new: BTreeMap<Ipv4Addr, Remote> =
            new.map(|(address, it)| (*address, it.clone())).collect();
        for address in new.keys() {
            // Or the walk that clears its old connections would take its first new ones too.
            self.forgetter.await_forgotten(*address)?;
        }
        self.table.add_remotes(batch, &new);
        self.lead(new)
    }

    fn lead(&mut self, new: BTreeMap<Ipv4Addr, Remote>) -> Result<(), NetworkError> {
        let led = self.overlay.lead(&mut self.route, new);
        self.overlay.forget_hosts(&mut self.route);
        led
    }

    /// An interface that is made here is not on another host any more, whatever was told.
    pub(crate) fn take_over(
        &mut self,
        turn: &mut Turn,
        address: Ipv4Addr,
    ) -> Result<(), NetworkError> {
        let Some(remote) = self.overlay.remotes.get(&address).cloned() else { return Ok(()) };
        self.table.remove_remotes(&mut turn.batch, [(&address, &remote)]);
        self.overlay.leave(&mut self.route, &[address])?;
        self.forgetter.forget([address]);
        Ok(())
    }

    /// Addresses that were ours and by what was told are on other hosts.
    pub(crate) fn hand_over(&mut self, turn: &mut Turn, gone: &[Endpoint]) {
        let told = gone.iter().filter_map(|endpoint| {
            let remote = self.overlay.told.get(&endpoint.address)?;
            Some((endpoint.address, remote.clone()))
        });
        let told: BTreeMap<Ipv4Addr, Remote> = told.collect();
        if told.is_empty() {
            return;
        }
        self.table.add_remotes(&mut turn.batch, &told);
        if let Err(error) = self.lead(told) {
            warn!(error = %longshore_types::Chain(&error), "addresses of other hosts not reached");
        }
    }
}

/// How much of what was told and cannot be is said in the log.
const ODDITIES_SAID_MAX: usize = 8;
