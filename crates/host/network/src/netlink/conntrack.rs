//! Forgetting connections: the kernel's connection table outlives the endpoints that made its entries.
//!
//! An entry lets its connection's packets pass unasked and leads them where it once led them. So those of
//! an endpoint that is gone must go before its address is given to another, and those of a UDP port
//! that was not published yet before its first packets can find their way.
//!
//! It is also asked who began a connection that is seen by the address of a router.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use nix::errno::Errno;

use super::{ACK, DUMP, NetlinkError, REQUEST, Requests, Socket, attributes};
use crate::nft::NETFILTER_HEADER_LEN;

const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
const FAMILY_IPV4: u8 = 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const TUPLE_SOURCE_PORT: u16 = 2;
const TUPLE_DESTINATION_PORT: u16 = 3;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Deletions that are sent together: their answers must fit the socket.
const DELETIONS_PER_EXCHANGE: usize = 64;

/// Which connections are to be forgotten.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    /// All of these addresses, in whatever part they played.
    pub(crate) addresses: BTreeSet<Ipv4Addr>,
    /// Those to these UDP ports that were led nowhere else.
    pub(crate) udp_ports: BTreeSet<u16>,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tuple {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    destination_port: u16,
}

impl Forgotten {
    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.udp_ports.is_empty()
    }

    fn has(&self, original: Tuple, reply: Tuple) -> bool {
        let parts = [original.source, original.destination, reply.source, reply.destination];
        if parts.iter().any(|address| self.addresses.contains(address)) {
            return true;
        }
        let is_led_nowhere =
            original.destination == reply.source && original.source == reply.destination;
        original.protocol == UDP
            && is_led_nowhere
            && self.udp_ports.contains(&original.destination_port)
    }
}

impl Socket {
    /// The address that began the TCP connection whose answers go from `from` to `to`: the one behind `to`, if a
    /// translation of this namespace made it that. Nothing if there is no such connection.
    pub(crate) fn who_is_answered(
        &mut self,
        from: SocketAddrV4,
        to: SocketAddrV4,
    ) -> Result<Option<Ipv4Addr>, NetlinkError> {
        let mut get = Requests::default();
        get.message("find a connection", GET, REQUEST | ACK, |m| {
            m.raw(&[FAMILY_IPV4, 0, 0, 0]);
            m.nested(TUPLE_REPLY, |m| {
                m.nested(TUPLE_IP, |m| {
                    m.attribute(1, &from.ip().octets());
                    m.attribute(2, &to.ip().octets());
                });
                m.nested(TUPLE_PROTOCOL, |m| {
                    m.attribute(1, &[TCP]);
                    m.attribute(TUPLE_SOURCE_PORT, &from.port().to_be_bytes());
                    m.attribute(TUPLE_DESTINATION_PORT, &to.port().to_be_bytes());
                });
            });
        });
        let found = match self.get(&get) {
            Err(error) if error.is(Errno::ENOENT) => return Ok(None),
            found => found?,
        };
        let payload = found.as_deref().and_then(|it| it.get(NETFILTER_HEADER_LEN..));
        let mut parts = attributes(payload.unwrap_or_default());
        let original = parts.find(|(kind, _)| *kind == TUPLE_ORIGINAL);
        Ok(original.and_then(|(_, value)| tuple(value)).map(|it| it.source))
    }

    /// One walk over the table, whatever is to be forgotten.
    pub(crate) fn forget_connections(&mut self, which: &Forgotten) -> Result<(), NetlinkError> {
        if which.is_empty() {
            return Ok(());
        }
        let mut list = Requests::default();
        list.message("list connections", GET, REQUEST | DUMP, |m| m.raw(&[FAMILY_IPV4, 0, 0, 0]));
        let mut found = Vec::new();
        self.dump(&list, |payload| {
            let payload = payload.get(NETFILTER_HEADER_LEN..).unwrap_or_default();
            let part = |wanted| {
                attributes(payload).find_map(|(kind, value)| (kind == wanted).then_some(value))
            };
            let (Some(original), Some(reply)) = (part(TUPLE_ORIGINAL), part(TUPLE_REPLY)) else {
                return;
            };
            if let (Some(there), Some(back)) = (tuple(original), tuple(reply))
                && which.has(there, back)
            {
                found.push((original.to_vec(), part(ID).map(<[u8]>::to_vec)));
            }
        })?;
        for some in found.chunks(DELETIONS_PER_EXCHANGE) {
            let mut requests = Requests::default();
            for (original, id) in some {
                requests.message("forget a connection", DELETE, REQUEST | ACK, |m| {
                    m.raw(&[FAMILY_IPV4, 0, 0, 0]);
                    m.nested(TUPLE_ORIGINAL, |m| m.raw(original));
                    if let Some(id) = id {
                        m.attribute(ID, id);
                    }
                });
            }
            // One that ended meanwhile is refused, and is as forgotten as it should be.
            self.ask_each(&requests)?;
        }
        Ok(())
    }
}

fn tuple(value: &[u8]) -> Option<Tuple> {
    let nest = |wanted| attributes(value).find_map(|(kind, it)| (kind == wanted).then_some(it));
    let (ip, protocol) = (nest(TUPLE_IP)?, nest(TUPLE_PROTOCOL)?);
    let address = |wanted| {
        let octets: &[u8; 4] = attributes(ip).find(|(kind, _)| *kind == wanted)?.1.first_chunk()?;
        Some(Ipv4Addr::from(*octets))
    };
    let part = |wanted| attributes(protocol).find(|(kind, _)| *kind == wanted).map(|it| it.1);
    let port = part(TUPLE_DESTINATION_PORT)
        .and_then(|bytes| bytes.first_chunk())
        .map_or(0, |it| u16::from_be_bytes(*it));
    Some(Tuple {
        source: address(1)?,
        destination: address(2)?,
        protocol: *part(1)?.first()?,
        destination_port: port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(source: [u8; 4], destination: [u8; 4], protocol: u8, destination_port: u16) -> Tuple {
        let (source, destination) = (source.into(), destination.into());
        Tuple { source, destination, protocol, destination_port }
    }

    #[test]
    fn an_endpoints_connections_are_forgotten_in_whatever_part() {
        let gone = [172, 30, 0, 2];
        let which = Forgotten { addresses: [gone.into()].into(), udp_ports: BTreeSet::new() };
        let (client, host) = ([203, 0, 113, 2], [203, 0, 113, 1]);
        // Led to it by a published port: only the reply tells.
        assert!(which.has(way(client, host, 6, 8080), way(gone, client, 6, 5000)));
        assert!(which.has(way(gone, client, 6, 80), way(client, host, 6, 6000)));
        assert!(!which.has(way(client, host, 6, 22), way(host, client, 6, 5000)));
    }

    #[test]
    fn only_untranslated_packets_to_a_newly_published_port_are_forgotten() {
        let which = Forgotten { addresses: BTreeSet::new(), udp_ports: [53].into() };
        let (inner, outer, other) = ([172, 31, 0, 9], [203, 0, 113, 1], [8, 8, 8, 8]);
        assert!(which.has(way(other, outer, UDP, 53), way(outer, other, UDP, 4000)));
        assert!(!which.has(way(inner, other, UDP, 53), way(other, outer, UDP, 4000)), "masked");
        assert!(!which.has(way(other, outer, 6, 53), way(outer, other, 6, 4000)), "not udp");
    }
}
