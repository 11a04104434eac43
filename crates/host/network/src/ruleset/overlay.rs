//! What is asked of packets between hosts: that they come from a host that is one, carry what one of its
//! interfaces may send, and are for an interface of this host.
//!
//! Their senders' hosts have judged them already, and are not believed: a receiver's groups are asked here as of
//! any other packet.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use longshore_types::{Cidr, SecurityGroupId};

use super::router::PEERED;
use super::{HOSTS, Table, address_element, members_set};
use crate::limits::TUNNEL_PORT;
use crate::names::LinkName;
use crate::netns::INSIDE_NAME;
use crate::nft::expr::Rule;
use crate::nft::{Batch, Element, Verdict};
use crate::overlay::Remote;
use crate::publish::Protocol;

impl Table {
    /// Hosts that packets may come from.
    pub(crate) fn add_hosts<'h>(batch: &mut Batch, hosts: impl IntoIterator<Item = &'h Ipv4Addr>) {
        let elements: Vec<_> = hosts.into_iter().map(|host| address_element(*host)).collect();
        batch.add_elements(HOSTS, &elements);
    }

    pub(crate) fn remove_hosts<'h>(
        batch: &mut Batch,
        hosts: impl IntoIterator<Item = &'h Ipv4Addr>,
    ) {
        let elements: Vec<_> = hosts.into_iter().map(|host| address_element(*host)).collect();
        batch.delete_elements(HOSTS, &elements);
    }

    /// Interfaces of other hosts are members of their groups.
    pub(crate) fn add_remotes<'r>(
        &self,
        batch: &mut Batch,
        remotes: impl IntoIterator<Item = (&'r Ipv4Addr, &'r Remote)>,
    ) {
        for (group, elements) in self.known_members(remotes) {
            batch.add_elements(&members_set(group), &elements);
        }
    }

    pub(crate) fn remove_remotes<'r>(
        &self,
        batch: &mut Batch,
        remotes: impl IntoIterator<Item = (&'r Ipv4Addr, &'r Remote)>,
    ) {
        for (group, elements) in self.known_members(remotes) {
            batch.delete_elements(&members_set(group), &elements);
        }
    }

    /// A group that nobody here names has no set.
    fn known_members<'r>(
        &self,
        remotes: impl IntoIterator<Item = (&'r Ipv4Addr, &'r Remote)>,
    ) -> BTreeMap<&'r SecurityGroupId, Vec<Element>> {
        let mut members: BTreeMap<&SecurityGroupId, Vec<Element>> = BTreeMap::new();
        for (address, remote) in remotes {
            for group in remote.groups.iter().filter(|group| self.sets.contains(*group)) {
                members.entry(group).or_default().push(address_element(*address));
            }
        }
        members
    }

    fn arriving(&self) -> Option<Rule> {
        let link = self.plan.overlay.as_ref()?;
        Some(Rule::new().incoming_exactly(link.as_str(), true))
    }

    /// Whatever comes by another way and calls itself one of the VPC's addresses lies. So does what comes from
    /// a host and is not of one of the interfaces that are known to be there.
    pub(super) fn add_overlay_guard(&self, batch: &mut Batch) {
        let mut rules = Vec::new();
        if let Some(from) = self.arriving() {
            let elsewhere = |rule: Rule, range: &Cidr| rule.source_in(*range, false);
            rules.extend([
                from.clone().ipv4(false),
                from.clone().has_options(),
                self.plan.ranges.iter().fold(from.clone(), elsewhere),
                from.spoofed(),
            ]);
        }
        if self.plan.router.is_some() {
            let peers = || Rule::new().incoming(LinkName::PEERS, true);
            rules.extend([peers().ipv4(false), peers().has_options(), peers().spoofed()]);
            // By the host nobody comes with a peer's address.
            let world = Rule::new().ipv4(true).incoming(INSIDE_NAME, true);
            rules.push(world.source_in_set(PEERED));
        }
        if self.plan.overlay.is_some() || self.plan.router.is_some() {
            let outside = Rule::new().ipv4(true).incoming(&self.links(), false);
            let outside = outside.incoming_exactly("lo", false);
            let outside = match &self.plan.overlay {
                Some(link) => outside.incoming_exactly(link.as_str(), false),
                None => outside,
            };
            rules.extend(self.plan.ranges.iter().map(|it| outside.clone().source_in(*it, true)));
        }
        for rule in rules {
            batch.add_rule("guard", rule.counted().then(Verdict::Drop).exprs());
        }
    }

    /// What comes from another host goes to an interface here or nowhere.
    pub(super) fn overlay_passage(&self) -> Option<Rule> {
        let onward = self.arriving()?.outgoing(&self.links(), false);
        Some(onward.counted().then(Verdict::Drop))
    }

    /// What comes from a peer goes to an interface here, and what goes to one comes from an interface here: a peer has
    /// neither this VPC's ways out nor its other peers.
    pub(super) fn peers_passage(&self) -> [Rule; 2] {
        let links = self.links();
        let onward = Rule::new().incoming(LinkName::PEERS, true).outgoing(&links, false);
        let passing = Rule::new().outgoing(LinkName::PEERS, true).incoming(&links, false);
        [onward, passing].map(|rule| rule.counted().then(Verdict::Drop))
    }

    /// What an endpoint sent in a packet of its own would come from this host's address, and be believed.
    pub(super) fn overlay_forgery(&self) -> Option<Rule> {
        let forged = self.to_hosts_by_tunnel()?;
        Some(forged.counted().then(Verdict::Drop))
    }

    pub(super) fn to_hosts_by_tunnel(&self) -> Option<Rule> {
        self.plan.overlay.as_ref()?;
        let to_hosts = Rule::new().ipv4(true).destination_in_set(HOSTS);
        Some(to_hosts.protocol(Protocol::Udp.number()).ports(&(TUNNEL_PORT..=TUNNEL_PORT)))
    }

    /// The tunnel is open to hosts alone, and this host is nobody's to reach by it.
    pub(super) fn overlay_input(&self) -> Vec<Rule> {
        let Some(from) = self.arriving() else { return Vec::new() };
        let tunnel = Rule::new().protocol(Protocol::Udp.number());
        let tunnel = tunnel.ports(&(TUNNEL_PORT..=TUNNEL_PORT));
        vec![
            tunnel.clone().ipv4(false).counted().then(Verdict::Drop),
            tunnel.ipv4(true).source_not_in_set(HOSTS).counted().then(Verdict::Drop),
            from.clone().established().then(Verdict::Accept),
            from.counted().then(Verdict::Drop),
        ]
    }
}
