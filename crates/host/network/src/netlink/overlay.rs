//! The link between hosts (VXLAN), and the routes and neighbours that lead through it.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::route::{LinkIndex, link_message, route_message};
use super::{ACK, CREATE, EXCL, NetlinkError, REPLACE, Requests, Socket};
use crate::addr::MacAddr;
use crate::names::LinkName;

/// A link whose packets travel to other hosts in UDP. It asks nobody and learns nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vxlan {
    pub(crate) vni: u32,
    /// This host's address among the hosts.
    pub(crate) local: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) mac: MacAddr,
    pub(crate) mtu: u32,
}

/// Where packets for a hardware address go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarding {
    pub(crate) mac: MacAddr,
    pub(crate) host: Ipv4Addr,
    /// The number that they carry, where it is not the link's own.
    pub(crate) vni: Option<u32>,
}

impl Requests {
    /// In this namespace or in another one, of which it keeps to this one's network for what it carries.
    pub(crate) fn add_vxlan(
        &mut self,
        name: &LinkName,
        vxlan: &Vxlan,
        namespace: Option<BorrowedFd<'_>>,
    ) {
        let mut message = link_message(0, true);
        message.attributes = vec![
            LinkAttribute::IfName(name.as_str().to_owned()),
            LinkAttribute::Mtu(vxlan.mtu),
            LinkAttribute::Address(vxlan.mac.octets().to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(vec![
                    InfoVxlan::Id(vxlan.vni),
                    InfoVxlan::Local(vxlan.local),
                    InfoVxlan::Port(vxlan.port),
                    InfoVxlan::Learning(false),
                ])),
            ]),
        ];
        let namespace = namespace.map(|it| LinkAttribute::NetNsFd(it.as_raw_fd()));
        message.attributes.extend(namespace);
        let message = RouteNetlinkMessage::NewLink(message);
        self.route(format!("add link {name}"), ACK | CREATE | EXCL, &message);
    }

    /// Packets for this hardware address go to that host.
    pub(crate) fn add_forwarding(&mut self, link: LinkIndex, to: Forwarding) {
        let host = to.host;
        let message = RouteNetlinkMessage::NewNeighbour(forwarding(link, to));
        self.route(format!("forward to {host}"), ACK | CREATE | REPLACE, &message);
    }

    pub(crate) fn delete_forwarding(&mut self, link: LinkIndex, to: Forwarding) {
        let host = to.host;
        let message = RouteNetlinkMessage::DelNeighbour(forwarding(link, to));
        self.route(format!("forward no more to {host}"), ACK, &message);
    }

    /// `to` is reached by way of that host.
    pub(crate) fn add_host_route(&mut self, link: LinkIndex, to: Ipv4Addr, host: Ipv4Addr) {
        let mut message = route_message(32, RouteScope::Universe, RouteType::Unicast);
        // The gateway is in none of the link's networks: it has none.
        message.header.flags = RouteFlags::Onlink;
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet(to)),
            RouteAttribute::Oif(link.value()),
            RouteAttribute::Gateway(RouteAddress::Inet(host)),
        ];
        let message = RouteNetlinkMessage::NewRoute(message);
        self.route(format!("add a route to {to} by {host}"), ACK | CREATE | REPLACE, &message);
    }

    pub(crate) fn delete_host_route(&mut self, link: LinkIndex, to: Ipv4Addr) {
        let mut message = route_message(32, RouteScope::Universe, RouteType::Unicast);
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet(to)),
            RouteAttribute::Oif(link.value()),
        ];
        let message = RouteNetlinkMessage::DelRoute(message);
        self.route(format!("delete the route to {to}"), ACK, &message);
    }
}

fn forwarding(link: LinkIndex, Forwarding { mac, host, vni }: Forwarding) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = link.value();
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet(host)),
    ];
    message.attributes.extend(vni.map(NeighbourAttribute::Vni));
    message
}

impl Socket {
    /// The link of this name, and whether it is the one that is meant.
    pub(crate) fn find_vxlan(
        &mut self,
        name: &LinkName,
        meant: &Vxlan,
    ) -> Result<Option<(LinkIndex, bool)>, NetlinkError> {
        let links = self.links()?;
        let Some((index, _)) = links.into_iter().find(|(_, found)| found == name.as_str()) else {
            return Ok(None);
        };
        let is_it = self.is_vxlan(index, meant)? && self.link_mtu(index)? == Some(meant.mtu);
        Ok(Some((index, is_it)))
    }

    /// Whether a link is what is meant but for the size of what it takes.
    pub(crate) fn has_other_mtu(
        &mut self,
        index: LinkIndex,
        meant: &Vxlan,
    ) -> Result<bool, NetlinkError> {
        Ok(self.is_vxlan(index, meant)? && self.link_mtu(index)? != Some(meant.mtu))
    }

    fn is_vxlan(&mut self, index: LinkIndex, meant: &Vxlan) -> Result<bool, NetlinkError> {
        let mut found = Vec::new();
        for attribute in self.link_attributes(index)? {
            if let LinkAttribute::LinkInfo(infos) = attribute {
                found.extend(infos.into_iter().filter_map(|info| match info {
                    LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
                    _ => None,
                }));
            }
        }
        let found: Vec<InfoVxlan> = found.into_iter().flatten().collect();
        let wanted = [
            InfoVxlan::Id(meant.vni),
            InfoVxlan::Local(meant.local),
            InfoVxlan::Port(meant.port),
            InfoVxlan::Learning(false),
        ];
        Ok(wanted.iter().all(|it| found.contains(it)))
    }
}
