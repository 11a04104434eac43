//! The way to other hosts: one VXLAN, in which nothing is asked and nothing learned.
//!
//! Each interface of another host is a route to its one address by way of that host, and each host a neighbour
//! whose hardware address follows from its address among the hosts. All of it comes from what the region tells;
//! an address that nobody told of has no route.
//!
//! **Invariant:** `remotes` is what has a route, and what the table's sets of members say of other hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;

use longshore_types::{EniId, SecurityGroupId};
use nix::errno::Errno;
use tracing::{info, warn};
use traffic::feed::{Feed, Place, Vni, Vpc};

use crate::addr::MacAddr;
use crate::error::NetworkError;
use crate::limits;
use crate::names::LinkName;
use crate::netlink::overlay::{Forwarding, Vxlan};
use crate::netlink::route::LinkIndex;
use crate::netlink::{NetlinkError, Requests, Socket};

/// This host's place in the hosts' own network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Underlay {
    pub(crate) address: Ipv4Addr,
    pub(crate) mtu: u32,
    /// Whether what goes to other hosts may be encrypted.
    pub(crate) encrypts: bool,
}

impl Underlay {
    /// The largest packet that goes to another host in one piece.
    pub(crate) fn room(self) -> u32 {
        let room = self.mtu.saturating_sub(limits::TUNNEL_OVERHEAD);
        // What is encrypted is padded to four bytes, with two more.
        if self.encrypts { room.saturating_sub(limits::ESP_OVERHEAD) & !3 } else { room }
    }
}

/// An interface of another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) eni: EniId,
    pub(crate) groups: Vec<SecurityGroupId>,
    pub(crate) host: Ipv4Addr,
}

#[derive(Debug)]
pub(crate) struct Overlay {
    name: LinkName,
    /// None: there are no other hosts for this one.
    underlay: Option<Underlay>,
    /// Where this is in a router's namespace: the host's own network, in which the packets travel, and the
    /// namespace.
    outside: Option<(Socket, File)>,
    link: Option<(LinkIndex, Vni)>,
    /// The number that packets to other hosts carry, where it is not the link's own.
    far: Option<Vni>,
    /// What the region told of, whether or not an endpoint of ours has the address too.
    pub(crate) told: BTreeMap<Ipv4Addr, Remote>,
    pub(crate) remotes: BTreeMap<Ipv4Addr, Remote>,
    /// The hosts that those are on.
    hosts: BTreeSet<Ipv4Addr>,
}

impl Overlay {
    pub(crate) fn new(name: LinkName, underlay: Option<Underlay>) -> Self {
        Self {
            name,
            underlay,
            outside: None,
            link: None,
            far: None,
            told: BTreeMap::new(),
            remotes: BTreeMap::new(),
            hosts: BTreeSet::new(),
        }
    }

    /// The same, in a router's namespace.
    pub(crate) fn behind(self, outside: Socket, namespace: File) -> Self {
        Self { outside: Some((outside, namespace)), ..self }
    }

    /// One to the same hosts, by which packets leave with a number of their own.
    pub(crate) fn beside(&self, name: LinkName, far: Vni) -> Self {
        Self { far: Some(far), ..Self::new(name, self.underlay) }
    }

    /// The network and the namespace that links are made between.
    pub(crate) fn outside(&mut self) -> Option<&mut (Socket, File)> {
        self.outside.as_mut()
    }

    /// Whether there is a way to another host.
    pub(crate) fn reaches(&self, host: Ipv4Addr) -> bool {
        is_host(host) && self.underlay.is_some_and(|underlay| underlay.address != host)
    }

    /// Whether there may be other hosts.
    pub(crate) fn is_wanted(&self) -> bool {
        self.underlay.is_some()
    }

    /// The interfaces of other hosts in a VPC, as far as this host can reach any.
    pub(crate) fn remotes_of(&self, feed: &Feed, vpc: &Vpc) -> BTreeMap<Ipv4Addr, Remote> {
        let Some(underlay) = self.underlay else { return BTreeMap::new() };
        let found = feed.interfaces_of(&vpc.id).into_iter();
        let found = found.filter_map(|(address, interface)| match interface.place {
            Place::At(host) if is_host(host) && host != underlay.address => {
                let (eni, groups) = (interface.id.clone(), interface.groups.clone());
                Some((address, Remote { eni, groups, host }))
            }
            Place::At(_) | Place::Here => None,
        });
        let found: BTreeMap<_, _> = found.take(limits::REMOTES_MAX + 1).collect();
        if found.len() > limits::REMOTES_MAX {
            warn!(limit = limits::REMOTES_MAX, "not all interfaces of other hosts are reached");
            return found.into_iter().take(limits::REMOTES_MAX).collect();
        }
        found
    }

    /// Makes the link for a VPC, or finds it as an earlier process left it; one that is another is replaced.
    pub(crate) fn connect(&mut self, route: &mut Socket, vpc: &Vpc) -> Result<(), NetworkError> {
        let mut outside = self.outside.take();
        let connected = self.connect_through(route, outside.as_mut(), vpc.vni);
        self.outside = outside;
        connected
    }

    /// The same, of a number.
    pub(crate) fn connect_through(
        &mut self,
        route: &mut Socket,
        outside: Option<&mut (Socket, File)>,
        number: Vni,
    ) -> Result<(), NetworkError> {
        let Some(underlay) = self.underlay else { return Ok(()) };
        if self.link.is_some_and(|(_, vni)| vni == number) {
            return Ok(());
        }
        let meant = Vxlan {
            vni: number.value(),
            local: underlay.address,
            port: limits::TUNNEL_PORT,
            mac: MacAddr::of_address(underlay.address),
            mtu: underlay.room(),
        };
        match route.find_vxlan(&self.name, &meant)? {
            Some((index, true)) => {
                self.link = Some((index, number));
                return Ok(());
            }
            // Of a time when what went between hosts was longer or shorter: what goes through it is not cut off.
            Some((index, false)) if route.has_other_mtu(index, &meant)? => {
                let mut requests = Requests::default();
                requests.set_mtu(index, meant.mtu);
                route.ask(&requests)?;
                self.link = Some((index, number));
                return Ok(());
            }
            Some((index, false)) => drop(route.delete_link(index, &self.name)?),
            None => {}
        }
        self.remotes.clear();
        let mut requests = Requests::default();
        let namespace = outside.as_ref().map(|(_, namespace)| namespace.as_fd());
        requests.add_vxlan(&self.name, &meant, namespace);
        match outside {
            Some((outside, _)) => outside.ask(&requests)?,
            None => route.ask(&requests)?,
        }
        let index = route.link_index(self.name.as_str())?;
        self.link = Some((index, number));
        info!(vni = meant.vni, underlay = %underlay.address, "connected with other hosts");
        Ok(())
    }

    /// Routes of an earlier process to addresses that nobody is told to be anywhere else.
    pub(crate) fn drop_strays(&self, route: &mut Socket) -> Result<(), NetworkError> {
        let Some((link, _)) = self.link else { return Ok(()) };
        let routes = route.routes()?.into_iter().filter(|it| it.link == Some(link));
        let strays = routes.filter(|it| it.range.prefix() == 32);
        let strays = strays.map(|it| it.range.first());
        let strays: Vec<_> = strays.filter(|it| !self.remotes.contains_key(it)).collect();
        self.unroute(route, &strays)
    }

    /// Leads `remotes`, which may be on their way by another host until now, to their hosts.
    pub(crate) fn lead(
        &mut self,
        route: &mut Socket,
        remotes: BTreeMap<Ipv4Addr, Remote>,
    ) -> Result<(), NetworkError> {
        let Some((link, _)) = self.link else { return Ok(()) };
        let new = remotes.values().map(|it| it.host).filter(|it| !self.hosts.contains(it));
        let new: Vec<_> = new.collect::<BTreeSet<_>>().into_iter().collect();
        in_parts(route, &new, |requests, host| {
            requests.add_neighbour(link, *host, MacAddr::of_address(*host));
            requests.add_forwarding(link, self.forwarding(*host));
        })?;
        self.hosts.extend(new);
        let all: Vec<_> = remotes.iter().map(|(address, it)| (*address, it.host)).collect();
        in_parts(route, &all, |requests, (address, host)| {
            requests.add_host_route(link, *address, *host);
        })?;
        self.remotes.extend(remotes);
        Ok(())
    }

    fn forwarding(&self, host: Ipv4Addr) -> Forwarding {
        let vni = self.far.map(Vni::value);
        Forwarding { mac: MacAddr::of_address(host), host, vni }
    }

    /// Leads addresses nowhere any more.
    pub(crate) fn leave(
        &mut self,
        route: &mut Socket,
        addresses: &[Ipv4Addr],
    ) -> Result<(), NetworkError> {
        addresses.iter().for_each(|address| drop(self.remotes.remove(address)));
        self.unroute(route, addresses)
    }

    fn unroute(&self, route: &mut Socket, addresses: &[Ipv4Addr]) -> Result<(), NetworkError> {
        let Some((link, _)) = self.link else { return Ok(()) };
        for address in addresses {
            let mut requests = Requests::default();
            requests.delete_host_route(link, *address);
            ignore_missing(route.ask(&requests))?;
        }
        Ok(())
    }

    /// The other hosts that a feed tells of.
    pub(crate) fn peers_in(&self, feed: &Feed) -> BTreeSet<Ipv4Addr> {
        let Some(underlay) = self.underlay else { return BTreeSet::new() };
        let places = feed.interfaces.values().filter_map(|interface| match interface.place {
            Place::At(host) => Some(host),
            Place::Here => None,
        });
        places.filter(|host| is_host(*host) && *host != underlay.address).collect()
    }

    /// Nothing is sent any more to hosts that none of the interfaces is on.
    pub(crate) fn forget_hosts(&mut self, route: &mut Socket) {
        let used: BTreeSet<Ipv4Addr> = self.remotes.values().map(|it| it.host).collect();
        let (kept, gone) =
            std::mem::take(&mut self.hosts).into_iter().partition(|it| used.contains(it));
        self.hosts = kept;
        let gone: BTreeSet<Ipv4Addr> = gone;
        if let Some((link, _)) = self.link {
            for host in &gone {
                let mut requests = Requests::default();
                requests.delete_forwarding(link, self.forwarding(*host));
                if let Err(error) = ignore_missing(route.ask(&requests)) {
                    warn!(%host, error = %longshore_types::Chain(&error), "forwarding stays");
                }
            }
        }
    }
}

/// An address that a host can have.
fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast()
        || address.octets()[0] == 0)
}

fn in_parts<T>(
    route: &mut Socket,
    all: &[T],
    ask: impl Fn(&mut Requests, &T),
) -> Result<(), NetlinkError> {
    for some in all.chunks(limits::ROUTES_PER_EXCHANGE) {
        let mut requests = Requests::default();
        some.iter().for_each(|it| ask(&mut requests, it));
        route.ask(&requests)?;
    }
    Ok(())
}

fn ignore_missing(outcome: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match outcome {
        Err(error)
            if !(error.is(Errno::ESRCH) || error.is(Errno::ENOENT) || error.is(Errno::ENODEV)) =>
        {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
