//! What is there once for a region and not once for each endpoint: the ranges, the host's own address
//! towards endpoints, forwarding, and finding what an earlier process left.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;

use nix::errno::Errno;
use tracing::{info, warn};

use longshore_types::Chain;

use crate::addr::Ipv4Net;
use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::names::{EndpointId, LinkName, NetTag};
use crate::netlink::{Requests, Socket};
use crate::netns;
use crate::records::Records;

/// Where bridge ranges are looked for when none is configured.
const BRIDGE_RANGES: Ipv4Net = match Ipv4Net::from_octets([172, 30, 0, 0], 16) {
    Some(range) => range,
    None => panic!("the range is written without host bits"),
};
const BRIDGE_PREFIX: u8 = 20;
const MTU_DEFAULT: u32 = 1500;
/// The calling thread's namespace, not that of the process's first thread.
const ROUTE_TABLE: &str = "/proc/thread-self/net/route";

/// Claims `range` for the region, if no route of anybody else leads into it. A claim that an earlier
/// process of ours made is ours still, whatever came after it.
pub(crate) fn claim(route: &mut Socket, range: Ipv4Net, tag: NetTag) -> Result<(), NetworkError> {
    let mut requests = Requests::default();
    requests.add_unreachable(range, tag.metric());
    match route.ask(&requests) {
        Ok(()) => {}
        Err(error) if error.is(Errno::EEXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let is_ours = |other: &Routed| other.range == range && other.metric == tag.metric();
    if routes().iter().all(|other| is_ours(other) || !other.range.overlaps(range)) {
        return Ok(());
    }
    let mut requests = Requests::default();
    requests.delete_unreachable(range, tag.metric());
    route.ask(&requests)?;
    Err(NetworkError::RangeTaken { range })
}

/// The bridge's range: the one configured, that of last time, or the first that is free.
pub(crate) fn bridge_range(
    route: &mut Socket,
    records: &Records,
    wanted: Option<Ipv4Net>,
    tag: NetTag,
) -> Result<Ipv4Net, NetworkError> {
    let chosen = match (wanted, records.bridge()) {
        (Some(wanted), _) => claim(route, wanted, tag).map(|()| wanted)?,
        (None, Some(last)) if claim(route, last, tag).is_ok() => last,
        (None, _) => first_free(route, tag)?,
    };
    records.save_bridge(chosen)?;
    Ok(chosen)
}

fn first_free(route: &mut Socket, tag: NetTag) -> Result<Ipv4Net, NetworkError> {
    let step = 1_u32 << (32 - BRIDGE_PREFIX);
    let mut offset = 0;
    while let Some(first) = BRIDGE_RANGES.nth(offset) {
        let range = Ipv4Net::containing(first, BRIDGE_PREFIX).expect("20 bits are a prefix");
        match claim(route, range, tag) {
            Err(NetworkError::RangeTaken { .. }) => offset += step,
            outcome => return outcome.map(|()| range),
        }
    }
    Err(NetworkError::RangeTaken { range: BRIDGE_RANGES })
}

/// A route of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Routed {
    range: Ipv4Net,
    metric: u32,
}

/// The ranges that this host has routes to, default routes aside.
pub(crate) fn routed_ranges() -> Vec<Ipv4Net> {
    routes().into_iter().map(|route| route.range).collect()
}

fn routes() -> Vec<Routed> {
    let table = fs::read_to_string(ROUTE_TABLE).unwrap_or_default();
    table.lines().skip(1).filter_map(routed).filter(|route| route.range.prefix() > 0).collect()
}

/// One line of the kernel's route table: addresses stand there as numbers of the machine's byte order.
fn routed(line: &str) -> Option<Routed> {
    let mut fields = line.split_whitespace();
    let address = |field: Option<&str>| {
        let number = u32::from_str_radix(field?, 16).ok()?;
        Some(Ipv4Addr::from(number.to_ne_bytes()))
    };
    let destination = address(fields.nth(1))?;
    let metric = fields.nth(4)?.parse().ok()?;
    let mask = address(fields.next())?;
    let prefix = u8::try_from(mask.to_bits().count_ones()).ok()?;
    let range = Ipv4Net::containing(destination, prefix).ok()?;
    Some(Routed { range, metric })
}

/// The MTU of the way out, so that nothing needs to be broken into pieces there.
pub(crate) fn way_out_mtu(route: &mut Socket) -> u32 {
    let table = fs::read_to_string(ROUTE_TABLE).unwrap_or_default();
    let link = table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let link = fields.next()?;
        (fields.next()? == "00000000").then(|| link.to_owned())
    });
    link.and_then(|link| route.link_mtu(&link).ok().flatten()).unwrap_or(MTU_DEFAULT)
}

/// Makes the link that holds the host's address towards endpoints; it may be there already.
pub(crate) fn hold_address(
    route: &mut Socket,
    holder: &LinkName,
    address: Ipv4Addr,
) -> Result<(), NetworkError> {
    let mut requests = Requests::default();
    requests.add_address_holder(holder);
    match route.ask(&requests) {
        Err(error) if !error.is(Errno::EEXIST) => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let index = route.link_index(holder.as_str())?;
    let mut requests = Requests::default();
    requests.add_address(index, address, 32);
    requests.set_up(index);
    route.ask(&requests)?;
    Ok(())
}

/// Turns forwarding on. It stays on when we go: by then others may rely on it.
pub(crate) fn forward() -> Result<(), NetworkError> {
    const SETTING: &str = "/proc/sys/net/ipv4/ip_forward";
    let is_on = fs::read_to_string(SETTING).is_ok_and(|text| text.trim() == "1");
    if is_on { Ok(()) } else { netns::set(SETTING, "1") }
}

/// The endpoints that live, of those on record. Everything else that carries our tag is removed.
pub(crate) fn find_living(
    route: &mut Socket,
    records: &Records,
    tag: NetTag,
) -> Result<BTreeMap<EndpointId, Endpoint>, NetworkError> {
    let links = route.link_names()?;
    let mut living = BTreeMap::new();
    for endpoint in records.load()? {
        let is_linked = links.iter().any(|link| link == endpoint.link.as_str());
        if is_linked && netns::is_pinned(&records.namespace(&endpoint.id)) {
            living.insert(endpoint.id.clone(), endpoint);
        } else {
            netns::unpin(&records.namespace(&endpoint.id))?;
            records.forget(&endpoint.id)?;
        }
    }
    for name in records.namespace_names()? {
        if !living.keys().any(|id| id.as_str() == name) {
            netns::unpin(&records.namespace_named(&name))?;
        }
    }
    remove_links(route, tag, |link| living.values().all(|it| it.link != *link))?;
    Ok(living)
}

/// Removes those of our links to endpoints that `is_stray` names, one by one: 12 ms each.
pub(crate) fn remove_links(
    route: &mut Socket,
    tag: NetTag,
    is_stray: impl Fn(&LinkName) -> bool,
) -> Result<(), NetworkError> {
    let links = route.link_names()?;
    for stray in links.iter().filter_map(|link| LinkName::of_tag(link, tag)).filter(is_stray) {
        let mut requests = Requests::default();
        requests.delete_link(&stray);
        match route.ask(&requests) {
            Ok(()) => info!(link = %stray, "stray link removed"),
            // Its namespace was already on its way out.
            Err(error) if error.is(Errno::ENODEV) => {}
            Err(error) => warn!(link = %stray, error = %Chain(&error), "stray link stays"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_route_table_is_read() {
        let line = "eth0\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0";
        let range = "192.0.2.0/24".parse().unwrap();
        assert_eq!(routed(line), Some(Routed { range, metric: 100 }));
        let claim = "*\t00001FAC\t00000000\t0201\t0\t0\t2863311530\t0000FFFF\t0\t0\t0";
        assert_eq!(routed(claim).unwrap().metric, 0xaaaa_aaaa);
        assert_eq!(routed("*\t00001FAC"), None);
        assert_eq!(routed(""), None);
    }
}
