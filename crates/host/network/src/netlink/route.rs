//! Links, addresses, routes and neighbours: what of rtnetlink a routed network needs.
//!
//! Requests are values of `netlink-packet-route`. Answers are read with it attribute by attribute, and one
//! that it cannot read is passed over: a kernel newer than the library must not hide a link from us.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use longshore_types::Cidr;
use netlink_packet_core::{Emitable, Parseable, ParseableParametrized};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressMessageBuffer, AddressScope,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    LinkMessageBuffer,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteLwEnCapType, RouteMessage, RouteMessageBuffer,
    RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{ACK, CREATE, DUMP, EXCL, NetlinkError, REPLACE, REQUEST, Requests, Socket};
use crate::addr::MacAddr;
use crate::names::{LinkName, NetTag};

/// Packets that a link's queue holds, and how many queues it has: as many as a network card's.
const QUEUE_PACKETS: u32 = 1000;
const QUEUES: u32 = 1;

/// A link's number within its namespace. The kernel counts up and gives none twice before it has given
/// two thousand million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LinkIndex(u32);

impl LinkIndex {
    pub(super) fn value(self) -> u32 {
        self.0
    }
}

/// The loopback link has this number in every namespace.
pub(crate) const LOOPBACK: LinkIndex = LinkIndex(1);

/// What a link has carried, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkCounters {
    pub(crate) rx_packets: u64,
    pub(crate) tx_packets: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) rx_errors: u64,
    pub(crate) tx_errors: u64,
    pub(crate) rx_dropped: u64,
    pub(crate) tx_dropped: u64,
}

/// A route of some table of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) range: Cidr,
    pub(crate) link: Option<LinkIndex>,
    pub(crate) metric: u32,
    kind: RouteType,
    table: u32,
}

impl Route {
    /// Whether it is there only to say whose the range is.
    pub(crate) fn is_claim_of(&self, tag: NetTag) -> bool {
        self.kind == RouteType::Unreachable && self.metric == tag.metric()
    }

    pub(crate) fn is_default(&self) -> bool {
        self.range.prefix() == 0
            && self.kind == RouteType::Unicast
            && self.table == u32::from(RouteHeader::RT_TABLE_MAIN)
    }
}

/// A pair whose far end is `eth0` in another namespace.
#[derive(Debug)]
pub(crate) struct VethPair<'a> {
    pub(crate) near: &'a LinkName,
    pub(crate) near_mac: MacAddr,
    pub(crate) far: &'a str,
    pub(crate) far_namespace: BorrowedFd<'a>,
    pub(crate) mtu: u32,
}

/// A pair of which each end is in a namespace that is not this one.
#[derive(Debug)]
pub(crate) struct VethBetween<'a> {
    pub(crate) names: [&'a LinkName; 2],
    pub(crate) macs: [MacAddr; 2],
    pub(crate) namespaces: [BorrowedFd<'a>; 2],
    pub(crate) mtu: u32,
}

impl Requests {
    /// Appends a message of the library's.
    pub(super) fn route(
        &mut self,
        doing: impl Into<std::borrow::Cow<'static, str>>,
        flags: u16,
        message: &RouteNetlinkMessage,
    ) {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        self.message(doing, message.message_type(), REQUEST | flags, |m| m.raw(&bytes));
    }

    /// Makes both ends. The near one is up; the far one cannot be before the two are joined.
    pub(crate) fn add_veth(&mut self, pair: &VethPair<'_>) {
        let mut far = link_message(0, false);
        far.attributes = veth_end(pair.far, pair.mtu);
        far.attributes.push(LinkAttribute::NetNsFd(pair.far_namespace.as_raw_fd()));
        let mut near = link_message(0, true);
        near.attributes = veth_end(pair.near.as_str(), pair.mtu);
        near.attributes.extend([
            LinkAttribute::Address(pair.near_mac.octets().to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
            ]),
        ]);
        let message = RouteNetlinkMessage::NewLink(near);
        self.route(format!("add link {}", pair.near), ACK | CREATE | EXCL, &message);
    }

    /// Makes both ends, neither of which is up.
    pub(crate) fn add_veth_between(&mut self, pair: &VethBetween<'_>) {
        let [mut near, far] = [0, 1].map(|end| {
            let mut message = link_message(0, false);
            message.attributes = veth_end(pair.names[end].as_str(), pair.mtu);
            message.attributes.extend([
                LinkAttribute::Address(pair.macs[end].octets().to_vec()),
                LinkAttribute::NetNsFd(pair.namespaces[end].as_raw_fd()),
            ]);
            message
        });
        near.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
        ]));
        let message = RouteNetlinkMessage::NewLink(near);
        self.route(format!("add link {}", pair.names[0]), ACK | CREATE | EXCL, &message);
    }

    /// Makes a bridge that nothing is ever plugged into: it is there to hold the host's addresses.
    pub(crate) fn add_address_holder(&mut self, name: &LinkName) {
        let mut message = link_message(0, true);
        message.attributes = vec![
            LinkAttribute::IfName(name.as_str().to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        let message = RouteNetlinkMessage::NewLink(message);
        self.route(format!("add link {name}"), ACK | CREATE | EXCL, &message);
    }

    /// Only [`Socket::delete_link`], which has looked whose it is, asks for this.
    fn delete_link(&mut self, link: LinkIndex, name: &LinkName) {
        let message = RouteNetlinkMessage::DelLink(link_message(link.0, false));
        self.route(format!("delete link {name}"), ACK, &message);
    }

    pub(crate) fn set_up(&mut self, link: LinkIndex) {
        let message = RouteNetlinkMessage::NewLink(link_message(link.0, true));
        self.route("set the link up", ACK, &message);
    }

    pub(crate) fn set_mtu(&mut self, link: LinkIndex, mtu: u32) {
        let mut message = link_message(link.0, true);
        message.attributes = vec![LinkAttribute::Mtu(mtu)];
        let message = RouteNetlinkMessage::NewLink(message);
        self.route(format!("set the largest packet to {mtu} bytes"), ACK, &message);
    }

    pub(crate) fn set_mac(&mut self, link: LinkIndex, mac: MacAddr) {
        let mut message = link_message(link.0, false);
        message.attributes = vec![LinkAttribute::Address(mac.octets().to_vec())];
        let message = RouteNetlinkMessage::NewLink(message);
        self.route(format!("set the mac address {mac}"), ACK, &message);
    }

    /// Gives the link `address` with the subnet's prefix, but no route to that subnet: all traffic goes
    /// through the gateway, and so the host.
    pub(crate) fn add_address(&mut self, link: LinkIndex, address: Ipv4Addr, prefix: u8) {
        let mut message = address_message(link, prefix);
        message.attributes = vec![
            AddressAttribute::Local(IpAddr::V4(address)),
            AddressAttribute::Address(IpAddr::V4(address)),
            AddressAttribute::Flags(AddressFlags::Noprefixroute),
        ];
        let message = RouteNetlinkMessage::NewAddress(message);
        self.route(format!("add address {address}/{prefix}"), ACK | CREATE | REPLACE, &message);
    }

    pub(crate) fn delete_address(&mut self, link: LinkIndex, address: Cidr) {
        let mut message = address_message(link, address.prefix());
        message.attributes = vec![AddressAttribute::Local(IpAddr::V4(address.first()))];
        let message = RouteNetlinkMessage::DelAddress(message);
        self.route(format!("delete address {address}"), ACK, &message);
    }

    /// `to` is on the link; our packets to it carry the address `from`, where given.
    pub(crate) fn add_link_route(
        &mut self,
        link: LinkIndex,
        to: Ipv4Addr,
        from: Option<Ipv4Addr>,
        exclusive: bool,
    ) {
        let mut message = link_route(link, to);
        message
            .attributes
            .extend(from.map(|from| RouteAttribute::PrefSource(RouteAddress::Inet(from))));
        let flags = ACK | CREATE | if exclusive { EXCL } else { REPLACE };
        let message = RouteNetlinkMessage::NewRoute(message);
        self.route(format!("add a route to {to}"), flags, &message);
    }

    /// One address by way of the gateway.
    pub(crate) fn add_route_by(&mut self, link: LinkIndex, to: Ipv4Addr, gateway: Ipv4Addr) {
        let mut message = route_message(32, RouteScope::Universe, RouteType::Unicast);
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet(to)),
            RouteAttribute::Oif(link.0),
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)),
        ];
        let message = RouteNetlinkMessage::NewRoute(message);
        let doing = format!("add a route to {to} by {gateway}");
        self.route(doing, ACK | CREATE | REPLACE, &message);
    }

    pub(crate) fn add_default_route(&mut self, link: LinkIndex, gateway: Ipv4Addr) {
        let mut message = route_message(0, RouteScope::Universe, RouteType::Unicast);
        message.attributes =
            vec![RouteAttribute::Oif(link.0), RouteAttribute::Gateway(RouteAddress::Inet(gateway))];
        let message = RouteNetlinkMessage::NewRoute(message);
        self.route(format!("add a default route by {gateway}"), ACK | CREATE | REPLACE, &message);
    }

    /// Addresses of `range` that no endpoint has are unreachable, and do not leave by the default route.
    /// The metric says whose claim it is.
    pub(crate) fn add_unreachable(&mut self, range: Cidr, metric: u32) {
        let message = RouteNetlinkMessage::NewRoute(unreachable(range, metric));
        self.route(format!("claim the range {range}"), ACK | CREATE | EXCL, &message);
    }

    pub(crate) fn delete_unreachable(&mut self, range: Cidr, metric: u32) {
        let message = RouteNetlinkMessage::DelRoute(unreachable(range, metric));
        self.route(format!("release the range {range}"), ACK, &message);
    }

    /// What comes in by the link of this name reaches no address of `range` but the host's own.
    pub(crate) fn add_unreachable_from(&mut self, link: &str, range: Cidr, priority: u32) {
        let message = RouteNetlinkMessage::NewRule(unreachable_from(link, range, priority));
        self.route(format!("keep {link} from {range}"), ACK | CREATE | EXCL, &message);
    }

    pub(crate) fn delete_unreachable_from(&mut self, link: &str, range: Cidr, priority: u32) {
        let message = RouteNetlinkMessage::DelRule(unreachable_from(link, range, priority));
        self.route(format!("keep {link} from {range} no more"), ACK, &message);
    }

    /// The route to the address by this link; one by another link is somebody else's.
    pub(crate) fn delete_link_route(&mut self, link: LinkIndex, to: Ipv4Addr) {
        let message = RouteNetlinkMessage::DelRoute(link_route(link, to));
        self.route(format!("delete the route to {to}"), ACK, &message);
    }

    /// Says once and for all who has an address, so that nobody needs to ask on the link.
    pub(crate) fn add_neighbour(&mut self, link: LinkIndex, address: Ipv4Addr, mac: MacAddr) {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = link.0;
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)),
            NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()),
        ];
        let message = RouteNetlinkMessage::NewNeighbour(message);
        self.route(format!("add the neighbour {address}"), ACK | CREATE | REPLACE, &message);
    }
}

/// A message about the link of this number, or about none where it is zero; `up` sets that flag alone.
pub(super) fn link_message(index: u32, up: bool) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    if up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    message
}

fn veth_end(name: &str, mtu: u32) -> Vec<LinkAttribute> {
    vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::TxQueueLen(QUEUE_PACKETS),
        LinkAttribute::NumTxQueues(QUEUES),
        LinkAttribute::NumRxQueues(QUEUES),
    ]
}

fn address_message(link: LinkIndex, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = link.0;
    message
}

pub(super) fn route_message(prefix: u8, scope: RouteScope, kind: RouteType) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = scope;
    message.header.kind = kind;
    message
}

fn link_route(link: LinkIndex, to: Ipv4Addr) -> RouteMessage {
    let mut message = route_message(32, RouteScope::Link, RouteType::Unicast);
    message.attributes =
        vec![RouteAttribute::Destination(RouteAddress::Inet(to)), RouteAttribute::Oif(link.0)];
    message
}

fn unreachable_from(link: &str, range: Cidr, priority: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.dst_len = range.prefix();
    message.header.action = RuleAction::Unreachable;
    message.attributes = vec![
        RuleAttribute::Iifname(link.to_owned()),
        RuleAttribute::Destination(IpAddr::V4(range.first())),
        RuleAttribute::Priority(priority),
    ];
    message
}

fn unreachable(range: Cidr, metric: u32) -> RouteMessage {
    let mut message = route_message(range.prefix(), RouteScope::Universe, RouteType::Unreachable);
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet(range.first())),
        RouteAttribute::Priority(metric),
    ];
    message
}

impl Socket {
    pub(crate) fn link_index(&mut self, name: &str) -> Result<LinkIndex, NetlinkError> {
        Ok(self.link(name)?.0)
    }

    pub(crate) fn link_mtu(&mut self, link: LinkIndex) -> Result<Option<u32>, NetlinkError> {
        Ok(self.link_attributes(link)?.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(mtu),
            _ => None,
        }))
    }

    pub(super) fn link_attributes(
        &mut self,
        link: LinkIndex,
    ) -> Result<Vec<LinkAttribute>, NetlinkError> {
        let mut requests = Requests::default();
        let message = RouteNetlinkMessage::GetLink(link_message(link.0, false));
        requests.route("look up a link", ACK, &message);
        let answer = self.get(&requests)?.unwrap_or_default();
        Ok(read_link(&answer).map(|(_, found)| found).unwrap_or_default())
    }

    pub(crate) fn link_counters(&mut self, name: &LinkName) -> Result<LinkCounters, NetlinkError> {
        let (_, found) = self.link(name.as_str())?;
        let stats = found.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats),
            _ => None,
        });
        let stats = stats.unwrap_or_default();
        Ok(LinkCounters {
            rx_packets: stats.rx_packets,
            tx_packets: stats.tx_packets,
            rx_bytes: stats.rx_bytes,
            tx_bytes: stats.tx_bytes,
            rx_errors: stats.rx_errors,
            tx_errors: stats.tx_errors,
            rx_dropped: stats.rx_dropped,
            tx_dropped: stats.tx_dropped,
        })
    }

    /// All links of this socket's namespace.
    pub(crate) fn links(&mut self) -> Result<Vec<(LinkIndex, String)>, NetlinkError> {
        let mut requests = Requests::default();
        let message = RouteNetlinkMessage::GetLink(link_message(0, false));
        requests.route("list links", DUMP, &message);
        let mut links = Vec::new();
        self.dump(&requests, |payload| links.extend(index_and_name(payload)))?;
        Ok(links)
    }

    /// The addresses of all links, each with its subnet's prefix, and those at the far end of a link.
    pub(crate) fn addresses(&mut self) -> Result<Vec<(LinkIndex, Cidr)>, NetlinkError> {
        let mut requests = Requests::default();
        let message = RouteNetlinkMessage::GetAddress(address_message(LinkIndex(0), 0));
        requests.route("list addresses", DUMP, &message);
        let mut found = Vec::new();
        self.dump(&requests, |payload| found.extend(addresses_of(payload)))?;
        Ok(found)
    }

    /// The IPv4 routes of all tables.
    pub(crate) fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let mut requests = Requests::default();
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        requests.route("list routes", DUMP, &RouteNetlinkMessage::GetRoute(message));
        let mut found = Vec::new();
        self.dump(&requests, |payload| found.extend(route_of(payload)))?;
        Ok(found)
    }

    /// Whether the link with this index still is the one of this name.
    pub(crate) fn is_link(&mut self, link: LinkIndex, name: &LinkName) -> bool {
        let mut requests = Requests::default();
        let message = RouteNetlinkMessage::GetLink(link_message(link.0, false));
        requests.route(format!("look up link {name}"), ACK, &message);
        let found = self.get(&requests).ok().flatten();
        let found = found.as_deref().and_then(index_and_name);
        found.is_some_and(|(index, found)| index == link && found == name.as_str())
    }

    /// Deletes the link of this index and this name, whichever namespace its other end is in; `false` if
    /// there is none. An index that has come to mean another link is left alone.
    pub(crate) fn delete_link(
        &mut self,
        link: LinkIndex,
        name: &LinkName,
    ) -> Result<bool, NetlinkError> {
        if !self.is_link(link, name) {
            return Ok(false);
        }
        let mut requests = Requests::default();
        requests.delete_link(link, name);
        match self.ask(&requests) {
            Ok(()) => Ok(true),
            // Its namespace was already on its way out.
            Err(error) if error.is(Errno::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn link(&mut self, name: &str) -> Result<(LinkIndex, Vec<LinkAttribute>), NetlinkError> {
        let mut requests = Requests::default();
        let mut message = link_message(0, false);
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        let doing = || format!("look up link {name}");
        requests.route(doing(), ACK, &RouteNetlinkMessage::GetLink(message));
        let answer = self.get(&requests)?;
        answer.as_deref().and_then(read_link).ok_or_else(|| {
            NetlinkError::new(doing(), std::io::Error::from(std::io::ErrorKind::NotFound))
        })
    }
}

/// Reads a message about a link, and of its attributes those that can be read.
fn read_link(payload: &[u8]) -> Option<(LinkIndex, Vec<LinkAttribute>)> {
    let message = LinkMessageBuffer::new_checked(payload).ok()?;
    let family = AddressFamily::from(message.interface_family());
    let found = message.attributes().map_while(Result::ok);
    let found =
        found.filter_map(|attribute| LinkAttribute::parse_with_param(&attribute, family).ok());
    Some((LinkIndex(message.link_index()), found.collect()))
}

fn index_and_name(payload: &[u8]) -> Option<(LinkIndex, String)> {
    let (index, found) = read_link(payload)?;
    let name = found.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    });
    Some((index, name?))
}

/// Reads a message about an address.
fn addresses_of(payload: &[u8]) -> Vec<(LinkIndex, Cidr)> {
    let Ok(message) = AddressMessageBuffer::new_checked(payload) else { return Vec::new() };
    let (index, prefix) = (LinkIndex(message.index()), message.prefix_len());
    let found = message.attributes().map_while(Result::ok);
    let found = found.filter_map(|attribute| AddressAttribute::parse(&attribute).ok());
    let block = |attribute| match attribute {
        // The first is the address or its peer's, the second the address where it has a peer.
        AddressAttribute::Address(IpAddr::V4(address))
        | AddressAttribute::Local(IpAddr::V4(address)) => Cidr::new(address, prefix),
        _ => None,
    };
    found.filter_map(|attribute| Some((index, block(attribute)?))).collect()
}

/// Reads a message about a route.
fn route_of(payload: &[u8]) -> Option<Route> {
    let message = RouteMessageBuffer::new_checked(payload).ok()?;
    let family = AddressFamily::from(message.address_family());
    if family != AddressFamily::Inet {
        return None;
    }
    let kind = RouteType::from(message.kind());
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let (mut link, mut metric, mut table) = (None, 0, u32::from(message.table()));
    for attribute in message.attributes().map_while(Result::ok) {
        let how = (family, kind, RouteLwEnCapType::None);
        match RouteAttribute::parse_with_param(&attribute, how) {
            Ok(RouteAttribute::Destination(RouteAddress::Inet(address))) => destination = address,
            Ok(RouteAttribute::Oif(index)) => link = Some(LinkIndex(index)),
            Ok(RouteAttribute::Priority(value)) => metric = value,
            Ok(RouteAttribute::Table(value)) => table = value,
            Ok(_) | Err(_) => {}
        }
    }
    let range = Cidr::new(destination, message.destination_prefix_length())?;
    Some(Route { range, link, metric, kind, table })
}
