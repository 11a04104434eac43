//! The ways from a VPC's router to interfaces of VPCs that are connected with it: a link to the other router where both
//! are on this host, and a VXLAN to where other hosts have one.
//!
//! A packet leaves its sender's router by one of these and arrives in its receiver's: there is no router between the two,
//! and none is made for a VPC that has no interface here. Packets for the one VPC and for the other have numbers of
//! their own between hosts, so that each router takes in what is for its own.
//!
//! **Invariant:** a link leads to the interfaces that the region told of and to nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;

use longshore_types::{Chain, EniId, SecurityGroupId};
use nix::errno::Errno;
use tracing::warn;
use traffic::feed::{Peered, Place, Vni};

use crate::addr::MacAddr;
use crate::error::NetworkError;
use crate::names::LinkName;
use crate::netlink::route::{LinkIndex, VethBetween};
use crate::netlink::{Requests, Socket};
use crate::overlay::{Overlay, Remote};
use crate::router::endpoint_of;
use crate::worker::Worker;

/// What stands for the other router on a link between two; nobody has the address.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);

/// The ways to one peer.
#[derive(Debug)]
pub(crate) struct PeerLinks {
    /// To other hosts.
    overlay: Overlay,
    /// To the peer's router on this host, and to whom there.
    link: Option<LinkIndex>,
    here: BTreeMap<Ipv4Addr, EniId>,
}

/// What the region told of one peer.
#[derive(Debug)]
struct Wanted {
    far: Vni,
    remotes: BTreeMap<Ipv4Addr, Remote>,
    here: BTreeMap<Ipv4Addr, EniId>,
}

/// The end of a link in the router that packets with this number are for.
fn mac_of(number: Vni) -> MacAddr {
    let [_, a, b, c] = number.value().to_be_bytes();
    MacAddr::new([0x02, 0x4d, 0, a, b, c])
}

impl PeerLinks {
    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.overlay.remotes.keys().chain(self.here.keys()).copied()
    }

    /// Whether an address is led to the same interface at the same place.
    fn has(&self, address: Ipv4Addr, wanted: &Wanted) -> bool {
        let place = |it: &Remote| (it.eni.clone(), it.host);
        let there = self.overlay.remotes.get(&address).map(place);
        there == wanted.remotes.get(&address).map(place)
            && self.here.get(&address) == wanted.here.get(&address)
    }
}

impl Worker {
    /// Has a router's ways to peers be as the region told.
    pub(crate) fn follow_peerings(&mut self) -> Result<(), NetworkError> {
        let Some(vpc) = self.table.plan().router.clone() else { return Ok(()) };
        let mut wanted: BTreeMap<Vni, Wanted> = BTreeMap::new();
        let mut groups: BTreeMap<Ipv4Addr, Vec<SecurityGroupId>> = BTreeMap::new();
        for (address, Peered { peering, interface }) in self.feed.peered_of(&vpc) {
            let its = wanted.entry(peering.number).or_insert_with(|| Wanted {
                far: peering.peer_number,
                remotes: BTreeMap::new(),
                here: BTreeMap::new(),
            });
            let eni = interface.id.clone();
            match interface.place {
                Place::Here => drop(its.here.insert(address, eni)),
                Place::At(host) if self.overlay.reaches(host) => {
                    let groups = interface.groups.clone();
                    its.remotes.insert(address, Remote { eni, groups, host });
                }
                Place::At(_) => continue,
            }
            groups.insert(address, interface.groups.clone());
        }
        self.peered = groups;
        self.leave_peers(&wanted)?;
        for (number, wanted) in wanted {
            self.lead_to_peer(number, wanted)?;
        }
        Ok(())
    }

    /// Leads to nobody any more who is gone or elsewhere, and takes links away that nobody needs.
    fn leave_peers(&mut self, wanted: &BTreeMap<Vni, Wanted>) -> Result<(), NetworkError> {
        for (number, links) in &mut self.peer_links {
            let wanted = wanted.get(number);
            let goes =
                |address: &Ipv4Addr| wanted.is_none_or(|wanted| !links.has(*address, wanted));
            let gone: BTreeSet<Ipv4Addr> = links.addresses().filter(goes).collect();
            // Connections of an address end with its interface, and with the way there.
            self.forgetter.forget(gone.iter().copied());
            let of_hosts = |it: &&Ipv4Addr| links.overlay.remotes.contains_key(*it);
            let remote: Vec<Ipv4Addr> = gone.iter().filter(of_hosts).copied().collect();
            links.overlay.leave(&mut self.route, &remote)?;
            for address in gone.iter().filter(|it| links.here.remove(*it).is_some()) {
                if let Some(link) = links.link {
                    unroute(&mut self.route, link, *address)?;
                }
            }
        }
        let is_first = !std::mem::replace(&mut self.knows_peer_links, true);
        let ended: Vec<Vni> =
            self.peer_links.keys().filter(|it| !wanted.contains_key(it)).copied().collect();
        if is_first || !ended.is_empty() {
            ended.iter().for_each(|number| drop(self.peer_links.remove(number)));
            remove_links(&mut self.route, |name| {
                !wanted.keys().any(|it| name.starts_with(&LinkName::peer_prefix(*it)))
            })?;
        }
        Ok(())
    }

    fn lead_to_peer(&mut self, number: Vni, wanted: Wanted) -> Result<(), NetworkError> {
        let Wanted { far, remotes, here } = wanted;
        let is_new = !self.peer_links.contains_key(&number);
        let overlay = || self.overlay.beside(LinkName::peer_overlay(number), far);
        let links = self.peer_links.entry(number).or_insert_with(|| PeerLinks {
            overlay: overlay(),
            link: None,
            here: BTreeMap::new(),
        });
        let is_led = |address: &Ipv4Addr| {
            links.overlay.remotes.contains_key(address) || links.here.contains_key(address)
        };
        for address in remotes.keys().chain(here.keys()).filter(|it| !is_led(it)) {
            // Or the walk that clears its old connections would take its first new ones too.
            self.forgetter.await_forgotten(*address)?;
        }
        if !remotes.is_empty() {
            let outside = self.overlay.outside();
            links.overlay.connect_through(&mut self.route, outside, number)?;
            let is_new = |address: &Ipv4Addr| !links.overlay.remotes.contains_key(address);
            let new = remotes.into_iter().filter(|(address, _)| is_new(address)).collect();
            links.overlay.lead(&mut self.route, new)?;
        }
        links.overlay.forget_hosts(&mut self.route);
        if is_new {
            links.overlay.drop_strays(&mut self.route)?;
        }
        if here.is_empty() {
            return Ok(());
        }
        let name = LinkName::peer_router(number);
        let found = self.route.links()?.into_iter().find(|(_, found)| found == name.as_str());
        let Some((link, _)) = found else {
            warn!(%name, "no link to a peer's router");
            links.here.clear();
            links.link = None;
            return Ok(());
        };
        let is_new = links.link.replace(link) != Some(link);
        if is_new {
            links.here.clear();
            let mut requests = Requests::default();
            requests.set_up(link);
            requests.add_neighbour(link, GATEWAY, mac_of(far));
            self.route.ask(&requests)?;
        }
        for address in here.keys().filter(|it| !links.here.contains_key(it)) {
            let mut requests = Requests::default();
            requests.add_host_route(link, *address, GATEWAY);
            self.route.ask(&requests)?;
        }
        links.here = here;
        if is_new {
            drop_strays(&mut self.route, link, &links.here)?;
        }
        Ok(())
    }

    /// Joins those of a host's routers whose VPCs are connected.
    pub(crate) fn join_routers(&mut self) -> Result<(), NetworkError> {
        // Of the two sides one does it.
        let sides = self.feed.peerings.values().filter(|it| it.number < it.peer_number);
        for side in sides {
            let is_here = |vpc| self.routers.contains_key(vpc);
            if !(is_here(&side.vpc) && is_here(&side.peer)) {
                continue;
            }
            let open = |vpc| {
                let path = self.records.namespace(&endpoint_of(vpc));
                let failed = |source| NetworkError::io(format!("open {}", path.display()), source);
                File::open(&path).map_err(failed)
            };
            let (near, far) = (open(&side.vpc)?, open(&side.peer)?);
            let end = |number| (LinkName::peer_router(number), mac_of(number));
            let ((near_name, near_mac), (far_name, far_mac)) =
                (end(side.number), end(side.peer_number));
            let mut requests = Requests::default();
            requests.add_veth_between(&VethBetween {
                names: [&near_name, &far_name],
                macs: [near_mac, far_mac],
                namespaces: [near.as_fd(), far.as_fd()],
                mtu: self.common.mtu,
            });
            match self.route.ask(&requests) {
                Err(error) if error.is(Errno::EEXIST) => {}
                Err(error) => {
                    warn!(peering = %side.id, error = %Chain(&error), "routers are not joined");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Before a router's namespace goes, which takes its time: another one may be joined under the same name soon.
    pub(crate) fn part_from_peers(&mut self) -> Result<(), NetworkError> {
        match &self.table.plan().router {
            Some(_) => remove_links(&mut self.route, |_| true),
            None => Ok(()),
        }
    }
}

/// Removes those of a router's links to peers that `is_one` names.
fn remove_links(route: &mut Socket, is_one: impl Fn(&str) -> bool) -> Result<(), NetworkError> {
    for (index, name) in route.links()? {
        if let Some(name) = LinkName::of_peer(&name).filter(|name| is_one(name.as_str())) {
            route.delete_link(index, &name)?;
        }
    }
    Ok(())
}

/// Routes of an earlier process, to interfaces that are not there any more.
fn drop_strays(
    route: &mut Socket,
    link: LinkIndex,
    known: &BTreeMap<Ipv4Addr, EniId>,
) -> Result<(), NetworkError> {
    let routes = route.routes()?.into_iter().filter(|it| it.link == Some(link));
    let strays = routes.filter(|it| it.range.prefix() == 32).map(|it| it.range.first());
    let strays: Vec<Ipv4Addr> = strays.filter(|it| !known.contains_key(it)).collect();
    strays.into_iter().try_for_each(|address| unroute(route, link, address))
}

fn unroute(route: &mut Socket, link: LinkIndex, address: Ipv4Addr) -> Result<(), NetworkError> {
    let mut requests = Requests::default();
    requests.delete_host_route(link, address);
    match route.ask(&requests) {
        Err(error) if !error.is(Errno::ESRCH) && !error.is(Errno::ENODEV) => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
