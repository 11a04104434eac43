//! Links, addresses, routes and neighbours: what of rtnetlink a routed network needs.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use longshore_types::Cidr;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{ACK, CREATE, EXCL, NetlinkError, REPLACE, REQUEST, Requests, Socket, attributes};
use crate::addr::MacAddr;
use crate::names::{LinkName, NetTag};

const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const NEW_NEIGHBOUR: u16 = 28;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const LINK_HEADER_LEN: usize = 16;
const ADDRESS_HEADER_LEN: usize = 8;
const ROUTE_HEADER_LEN: usize = 12;

const FAMILY_IPV4: u8 = 2;
const UP: u32 = 1;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const ROUTE_UNICAST: u8 = 1;
const ROUTE_UNREACHABLE: u8 = 7;
const NEIGHBOUR_PERMANENT: u16 = 0x80;
/// The address brings no route of its own: all traffic goes through the gateway, and so the host.
const ADDRESS_WITHOUT_ROUTE: u32 = 0x200;

/// A link's number within its namespace. The kernel counts up and gives none twice before it has given
/// two thousand million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LinkIndex(i32);

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
    kind: u8,
    table: u32,
}

impl Route {
    /// Whether it is there only to say whose the range is.
    pub(crate) fn is_claim_of(&self, tag: NetTag) -> bool {
        self.kind == ROUTE_UNREACHABLE && self.metric == tag.metric()
    }

    pub(crate) fn is_default(&self) -> bool {
        self.range.prefix() == 0
            && self.kind == ROUTE_UNICAST
            && self.table == u32::from(TABLE_MAIN)
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

impl Requests {
    fn link_header(&mut self, index: i32, flags: u32) {
        self.raw(&[0; 4]);
        self.raw(&index.to_ne_bytes());
        self.raw(&flags.to_ne_bytes());
        self.raw(&flags.to_ne_bytes());
    }

    /// Makes both ends. The near one is up; the far one cannot be before the two are joined.
    pub(crate) fn add_veth(&mut self, pair: &VethPair<'_>) {
        let flags = REQUEST | ACK | CREATE | EXCL;
        self.message(format!("add link {}", pair.near), NEW_LINK, flags, |m| {
            m.link_header(0, UP);
            m.text(IFLA_IFNAME, pair.near.as_str());
            m.attribute(IFLA_ADDRESS, &pair.near_mac.octets());
            m.host_u32(IFLA_MTU, pair.mtu);
            m.host_u32(IFLA_TXQLEN, 1000);
            m.host_u32(IFLA_NUM_TX_QUEUES, 1);
            m.host_u32(IFLA_NUM_RX_QUEUES, 1);
            m.nested(IFLA_LINKINFO, |m| {
                m.text(IFLA_INFO_KIND, "veth");
                m.nested(IFLA_INFO_DATA, |m| {
                    m.nested(VETH_INFO_PEER, |m| {
                        m.link_header(0, 0);
                        m.text(IFLA_IFNAME, pair.far);
                        m.host_u32(IFLA_MTU, pair.mtu);
                        m.host_u32(IFLA_TXQLEN, 1000);
                        m.host_u32(IFLA_NUM_TX_QUEUES, 1);
                        m.host_u32(IFLA_NUM_RX_QUEUES, 1);
                        let namespace = pair.far_namespace.as_raw_fd();
                        m.attribute(IFLA_NET_NS_FD, &namespace.to_ne_bytes());
                    });
                });
            });
        });
    }

    /// Makes a bridge that nothing is ever plugged into: it is there to hold the host's addresses.
    pub(crate) fn add_address_holder(&mut self, name: &LinkName) {
        let flags = REQUEST | ACK | CREATE | EXCL;
        self.message(format!("add link {name}"), NEW_LINK, flags, |m| {
            m.link_header(0, UP);
            m.text(IFLA_IFNAME, name.as_str());
            m.nested(IFLA_LINKINFO, |m| m.text(IFLA_INFO_KIND, "bridge"));
        });
    }

    /// Only [`Socket::delete_link`], which has looked whose it is, asks for this.
    fn delete_link(&mut self, link: LinkIndex, name: &LinkName) {
        self.message(format!("delete link {name}"), DEL_LINK, REQUEST | ACK, |m| {
            m.link_header(link.0, 0);
        });
    }

    pub(crate) fn set_up(&mut self, link: LinkIndex) {
        self.message("set the link up", NEW_LINK, REQUEST | ACK, |m| m.link_header(link.0, UP));
    }

    pub(crate) fn set_mac(&mut self, link: LinkIndex, mac: MacAddr) {
        self.message(format!("set the mac address {mac}"), NEW_LINK, REQUEST | ACK, |m| {
            m.link_header(link.0, 0);
            m.attribute(IFLA_ADDRESS, &mac.octets());
        });
    }

    /// Gives the link `address` with the subnet's prefix, but no route to that subnet.
    pub(crate) fn add_address(&mut self, link: LinkIndex, address: Ipv4Addr, prefix: u8) {
        let flags = REQUEST | ACK | CREATE | REPLACE;
        self.message(format!("add address {address}/{prefix}"), NEW_ADDRESS, flags, |m| {
            m.raw(&[FAMILY_IPV4, prefix, 0, SCOPE_UNIVERSE]);
            m.raw(&link.0.to_ne_bytes());
            m.attribute(2, &address.octets());
            m.attribute(1, &address.octets());
            m.host_u32(8, ADDRESS_WITHOUT_ROUTE);
        });
    }

    pub(crate) fn delete_address(&mut self, link: LinkIndex, address: Cidr) {
        self.message(format!("delete address {address}"), DEL_ADDRESS, REQUEST | ACK, |m| {
            m.raw(&[FAMILY_IPV4, address.prefix(), 0, 0]);
            m.raw(&link.0.to_ne_bytes());
            m.attribute(2, &address.first().octets());
        });
    }

    fn route_header(&mut self, prefix: u8, scope: u8, kind: u8) {
        self.raw(&[FAMILY_IPV4, prefix, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, scope, kind]);
        self.raw(&0_u32.to_ne_bytes());
    }

    /// `to` is on the link; our packets to it carry the address `from`, where given.
    pub(crate) fn add_link_route(
        &mut self,
        link: LinkIndex,
        to: Ipv4Addr,
        from: Option<Ipv4Addr>,
        exclusive: bool,
    ) {
        let flags = REQUEST | ACK | CREATE | if exclusive { EXCL } else { REPLACE };
        self.message(format!("add a route to {to}"), NEW_ROUTE, flags, |m| {
            m.route_header(32, SCOPE_LINK, ROUTE_UNICAST);
            m.attribute(1, &to.octets());
            m.attribute(4, &link.0.to_ne_bytes());
            if let Some(from) = from {
                m.attribute(7, &from.octets());
            }
        });
    }

    /// One address by way of the gateway.
    pub(crate) fn add_route_by(&mut self, link: LinkIndex, to: Ipv4Addr, gateway: Ipv4Addr) {
        let flags = REQUEST | ACK | CREATE | REPLACE;
        self.message(format!("add a route to {to} by {gateway}"), NEW_ROUTE, flags, |m| {
            m.route_header(32, SCOPE_UNIVERSE, ROUTE_UNICAST);
            m.attribute(1, &to.octets());
            m.attribute(4, &link.0.to_ne_bytes());
            m.attribute(5, &gateway.octets());
        });
    }

    pub(crate) fn add_default_route(&mut self, link: LinkIndex, gateway: Ipv4Addr) {
        let flags = REQUEST | ACK | CREATE | REPLACE;
        self.message(format!("add a default route by {gateway}"), NEW_ROUTE, flags, |m| {
            m.route_header(0, SCOPE_UNIVERSE, ROUTE_UNICAST);
            m.attribute(4, &link.0.to_ne_bytes());
            m.attribute(5, &gateway.octets());
        });
    }

    /// Addresses of `range` that no endpoint has are unreachable, and do not leave by the default route.
    /// The metric says whose claim it is.
    pub(crate) fn add_unreachable(&mut self, range: Cidr, metric: u32) {
        let flags = REQUEST | ACK | CREATE | EXCL;
        self.message(format!("claim the range {range}"), NEW_ROUTE, flags, |m| {
            m.unreachable(range, metric);
        });
    }

    pub(crate) fn delete_unreachable(&mut self, range: Cidr, metric: u32) {
        self.message(format!("release the range {range}"), DEL_ROUTE, REQUEST | ACK, |m| {
            m.unreachable(range, metric);
        });
    }

    fn unreachable(&mut self, range: Cidr, metric: u32) {
        self.route_header(range.prefix(), SCOPE_UNIVERSE, ROUTE_UNREACHABLE);
        self.attribute(1, &range.first().octets());
        self.host_u32(6, metric);
    }

    /// The route to the address by this link; one by another link is somebody else's.
    pub(crate) fn delete_link_route(&mut self, link: LinkIndex, to: Ipv4Addr) {
        self.message(format!("delete the route to {to}"), DEL_ROUTE, REQUEST | ACK, |m| {
            m.route_header(32, SCOPE_LINK, ROUTE_UNICAST);
            m.attribute(1, &to.octets());
            m.attribute(4, &link.0.to_ne_bytes());
        });
    }

    /// Says once and for all who has an address, so that nobody needs to ask on the link.
    pub(crate) fn add_neighbour(&mut self, link: LinkIndex, address: Ipv4Addr, mac: MacAddr) {
        let flags = REQUEST | ACK | CREATE | REPLACE;
        self.message(format!("add the neighbour {address}"), NEW_NEIGHBOUR, flags, |m| {
            m.raw(&[FAMILY_IPV4, 0, 0, 0]);
            m.raw(&link.0.to_ne_bytes());
            let state = NEIGHBOUR_PERMANENT.to_ne_bytes();
            m.raw(&[state[0], state[1], 0, 0]);
            m.attribute(1, &address.octets());
            m.attribute(2, &mac.octets());
        });
    }
}

impl Socket {
    pub(crate) fn link_index(&mut self, name: &str) -> Result<LinkIndex, NetlinkError> {
        let answer = self.link(name)?;
        let index = answer.get(4..8).and_then(|bytes| bytes.first_chunk());
        Ok(LinkIndex(index.map_or(0, |bytes| i32::from_ne_bytes(*bytes))))
    }

    pub(crate) fn link_mtu(&mut self, link: LinkIndex) -> Result<Option<u32>, NetlinkError> {
        let mut requests = Requests::default();
        requests.message("look up a link's mtu", GET_LINK, REQUEST | ACK, |m| {
            m.link_header(link.0, 0);
        });
        let answer = self.get(&requests)?.unwrap_or_default();
        let mtu = attributes(answer.get(LINK_HEADER_LEN..).unwrap_or_default())
            .find_map(|(kind, value)| if kind == IFLA_MTU { value.first_chunk() } else { None })
            .map(|bytes| u32::from_ne_bytes(*bytes));
        Ok(mtu)
    }

    pub(crate) fn link_counters(&mut self, name: &LinkName) -> Result<LinkCounters, NetlinkError> {
        let answer = self.link(name.as_str())?;
        let stats = attributes(answer.get(LINK_HEADER_LEN..).unwrap_or_default())
            .find_map(|(kind, value)| (kind == IFLA_STATS64).then_some(value))
            .unwrap_or_default();
        let mut words = stats
            .chunks_exact(8)
            .map(|word| word.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)));
        let mut next = || words.next().unwrap_or(0);
        Ok(LinkCounters {
            rx_packets: next(),
            tx_packets: next(),
            rx_bytes: next(),
            tx_bytes: next(),
            rx_errors: next(),
            tx_errors: next(),
            rx_dropped: next(),
            tx_dropped: next(),
        })
    }

    /// All links of this socket's namespace.
    pub(crate) fn links(&mut self) -> Result<Vec<(LinkIndex, String)>, NetlinkError> {
        let mut requests = Requests::default();
        requests.message("list links", GET_LINK, REQUEST | super::DUMP, |m| m.link_header(0, 0));
        let mut links = Vec::new();
        self.dump(&requests, |payload| links.extend(index_and_name(payload)))?;
        Ok(links)
    }

    /// The addresses of all links, each with its subnet's prefix, and those at the far end of a link.
    pub(crate) fn addresses(&mut self) -> Result<Vec<(LinkIndex, Cidr)>, NetlinkError> {
        let mut requests = Requests::default();
        requests.message("list addresses", GET_ADDRESS, REQUEST | super::DUMP, |m| {
            m.raw(&[FAMILY_IPV4, 0, 0, 0, 0, 0, 0, 0]);
        });
        let mut found = Vec::new();
        self.dump(&requests, |payload| found.extend(addresses_of(payload)))?;
        Ok(found)
    }

    /// The IPv4 routes of all tables.
    pub(crate) fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let mut requests = Requests::default();
        requests.message("list routes", GET_ROUTE, REQUEST | super::DUMP, |m| {
            m.raw(&[FAMILY_IPV4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        });
        let mut found = Vec::new();
        self.dump(&requests, |payload| found.extend(route_of(payload)))?;
        Ok(found)
    }

    /// Whether the link with this index still is the one of this name.
    pub(crate) fn is_link(&mut self, link: LinkIndex, name: &LinkName) -> bool {
        let mut requests = Requests::default();
        requests.message(format!("look up link {name}"), GET_LINK, REQUEST | ACK, |m| {
            m.link_header(link.0, 0);
        });
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

    fn link(&mut self, name: &str) -> Result<Vec<u8>, NetlinkError> {
        let mut requests = Requests::default();
        requests.message(format!("look up link {name}"), GET_LINK, REQUEST | ACK, |m| {
            m.link_header(0, 0);
            m.text(IFLA_IFNAME, name);
        });
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        self.get(&requests)?
            .ok_or_else(|| NetlinkError::new(format!("look up link {name}"), missing()))
    }
}

/// Reads a message about a link.
fn index_and_name(payload: &[u8]) -> Option<(LinkIndex, String)> {
    let index = i32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    let mut found = attributes(payload.get(LINK_HEADER_LEN..)?);
    let (_, name) = found.find(|(kind, _)| *kind == IFLA_IFNAME)?;
    let (_, name) = name.split_last()?;
    Some((LinkIndex(index), String::from_utf8_lossy(name).into_owned()))
}

/// Reads a message about an address.
fn addresses_of(payload: &[u8]) -> Vec<(LinkIndex, Cidr)> {
    let header = payload.first_chunk::<ADDRESS_HEADER_LEN>();
    let Some([FAMILY_IPV4, prefix, _, _, index @ ..]) = header else { return Vec::new() };
    let index = LinkIndex(i32::from_ne_bytes(*index));
    let net = |value: &[u8]| {
        let address = Ipv4Addr::from(*value.first_chunk::<4>()?);
        Cidr::new(address, *prefix)
    };
    // Kind 1 is the address or its peer's, kind 2 the address where it has a peer.
    let values =
        attributes(&payload[ADDRESS_HEADER_LEN..]).filter(|(kind, _)| [1, 2].contains(kind));
    values.filter_map(|(_, value)| Some((index, net(value)?))).collect()
}

/// Reads a message about a route.
fn route_of(payload: &[u8]) -> Option<Route> {
    let header = payload.first_chunk::<ROUTE_HEADER_LEN>()?;
    let [FAMILY_IPV4, prefix, _, _, table, _, _, kind, ..] = *header else { return None };
    let number = |wanted| {
        let mut found = attributes(&payload[ROUTE_HEADER_LEN..]);
        let (_, value) = found.find(|(kind, _)| *kind == wanted)?;
        value.first_chunk::<4>().copied()
    };
    let destination = number(1).map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from);
    Some(Route {
        range: Cidr::new(destination, prefix)?,
        link: number(4).map(|bytes| LinkIndex(i32::from_ne_bytes(bytes))),
        metric: number(6).map_or(0, u32::from_ne_bytes),
        kind,
        table: number(15).map_or(table.into(), u32::from_ne_bytes),
    })
}
