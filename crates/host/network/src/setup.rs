//! What is there once for a region and not once for each endpoint: the ranges, the host's own address
//! towards endpoints, forwarding, and finding what an earlier process left.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;

use nix::errno::Errno;
use tracing::{info, warn};

use longshore_types::{Chain, Cidr};

use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::flows;
use crate::names::{EndpointId, LinkName, NetTag};
use crate::netlink::route::LinkIndex;
use crate::netlink::{Requests, Socket};
use crate::netns;
use crate::nft::{Batch, docker};
use crate::overlay::Underlay;
use crate::ranges;
use crate::records::Records;
use crate::tunnels;

/// Where bridge ranges are looked for when none is configured.
const BRIDGE_RANGES: Cidr = match Cidr::from_octets([172, 16, 0, 0], 12) {
    Some(range) => range,
    None => panic!("the range is written without host bits"),
};
const BRIDGE_PREFIX: u8 = 20;
const MTU_DEFAULT: u32 = 1500;

/// The bridge's range: that in which containers live already, the one configured, that of last time, or the
/// first that is free.
pub(crate) fn bridge_range(
    route: &mut Socket,
    records: &Records,
    (wanted, vpc): (Option<Cidr>, Cidr),
    tag: NetTag,
) -> Result<Cidr, NetworkError> {
    let last = records.bridge().filter(|last| !last.overlaps(vpc));
    let is_inhabited = |range: Cidr| {
        let recorded = records.load().unwrap_or_default();
        let is_alive = |it: &Endpoint| netns::is_pinned(&records.namespace(&it.id));
        recorded.iter().any(|it| range.contains(it.address) && is_alive(it))
    };
    let kept = last.filter(|last| wanted.is_none() || is_inhabited(*last));
    let chosen = match (wanted, kept) {
        (wanted, Some(last)) if ranges::claim(route, last, tag).is_ok() => {
            if wanted.is_some_and(|wanted| wanted != last) {
                warn!(range = %last, "bridged containers keep the range that they live in");
            }
            last
        }
        (Some(wanted), _) => ranges::claim(route, wanted, tag).map(|()| wanted)?,
        (None, _) => first_free(route, vpc, tag)?,
    };
    records.save_bridge(chosen)?;
    Ok(chosen)
}

fn first_free(route: &mut Socket, vpc: Cidr, tag: NetTag) -> Result<Cidr, NetworkError> {
    let step = 1_u32 << (32 - BRIDGE_PREFIX);
    // From 172.30 down, as regions choose.
    let parts = (0..=14_u32).rev().flat_map(|second| (0..16).map(move |part| second * 16 + part));
    for part in parts {
        let first = BRIDGE_RANGES.nth(part * step).expect("the parts lie within the range");
        let range = Cidr::new(first, BRIDGE_PREFIX).expect("20 bits are a prefix");
        if range.overlaps(vpc) {
            continue;
        }
        match ranges::claim(route, range, tag) {
            Err(NetworkError::RangeTaken { .. }) => {}
            outcome => return outcome.map(|()| range),
        }
    }
    Err(NetworkError::RangeTaken { range: BRIDGE_RANGES })
}

/// The MTU of the way out, so that nothing needs to be broken into pieces there.
fn way_out_mtu(route: &mut Socket) -> u32 {
    let routes = route.routes().unwrap_or_default();
    let out = routes.iter().filter(|route| route.is_default()).min_by_key(|route| route.metric);
    let link = out.and_then(|route| route.link);
    link.and_then(|link| route.link_mtu(link).ok().flatten()).unwrap_or(MTU_DEFAULT)
}

/// This host's place among the hosts: the address has to be one of its own.
pub(crate) fn underlay(route: &mut Socket, address: Ipv4Addr) -> Result<Underlay, NetworkError> {
    let (link, _) = route
        .addresses()?
        .into_iter()
        .find(|(_, held)| held.contains(address))
        .ok_or(NetworkError::NotOurAddress { address })?;
    let mtu = route.link_mtu(link)?.unwrap_or(MTU_DEFAULT);
    Ok(Underlay { address, mtu, encrypts: false })
}

/// What links to endpoints carry: as much as the way out takes, and the way to other hosts, whose packets are
/// longer there.
pub(crate) fn link_mtu(route: &mut Socket, underlay: Option<Underlay>) -> u32 {
    let out = way_out_mtu(route);
    let between = underlay.map(Underlay::room);
    between.map_or(out, |between| between.min(out))
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
    let (mut requests, mut gone) = (Requests::default(), Vec::new());
    for (_, other) in route.addresses()?.into_iter().filter(|(link, _)| *link == index) {
        // Of a time when the ranges were others. Each is told twice, as near and as far address.
        if other.first() != address && !gone.contains(&other) {
            requests.delete_address(index, other);
            gone.push(other);
        }
    }
    requests.add_address(index, address, 32);
    requests.set_up(index);
    route.ask(&requests)?;
    Ok(())
}

/// Removes a link that there is once, if it is there.
pub(crate) fn remove_link(route: &mut Socket, link: &LinkName) -> Result<(), NetworkError> {
    for (index, _) in route.links()?.iter().filter(|(_, name)| name == link.as_str()) {
        route.delete_link(*index, link)?;
    }
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
    let links = route.links()?;
    let mut living = BTreeMap::new();
    for mut endpoint in records.load()? {
        let link = links.iter().find(|(index, name)| {
            name == endpoint.link.as_str() && endpoint.link_index.is_none_or(|it| it == *index)
        });
        endpoint.link_index = link.map(|(index, _)| *index);
        if link.is_some() && netns::is_pinned(&records.namespace(&endpoint.id)) {
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

/// Our links to endpoints, those of prepared namespaces too.
pub(crate) fn links_of(
    route: &mut Socket,
    tag: NetTag,
) -> Result<BTreeMap<LinkIndex, LinkName>, NetworkError> {
    let ours = |(index, name): (_, String)| Some((index, LinkName::of_tag(&name, tag)?));
    Ok(route.links()?.into_iter().filter_map(ours).collect())
}

/// Removes those of our links to endpoints that `is_stray` names, one by one: 12 ms each.
pub(crate) fn remove_links(
    route: &mut Socket,
    tag: NetTag,
    is_stray: impl Fn(&LinkName) -> bool,
) -> Result<(), NetworkError> {
    for (index, link) in links_of(route, tag)?.into_iter().filter(|(_, link)| is_stray(link)) {
        match route.delete_link(index, &link) {
            Ok(true) => info!(%link, "stray link removed"),
            Ok(false) => {}
            Err(error) => warn!(%link, error = %Chain(&error), "stray link stays"),
        }
    }
    Ok(())
}

/// Removes all that carries our tag, whichever process and whichever ranges it was of. One thing that
/// stays must not keep the others.
pub(crate) fn remove_all(
    (route, netfilter): (&mut Socket, &mut Socket),
    records: &Records,
    tag: NetTag,
) -> Result<(), NetworkError> {
    let mut outcome: Result<(), NetworkError> = Ok(());
    for name in records.namespace_names()? {
        outcome = outcome.and(netns::unpin(&records.namespace_named(&name)));
    }
    // Whether or not a process lingers on them.
    outcome = outcome.and(remove_links(route, tag, |_| true));
    outcome = outcome.and(remove_link(route, &tag.holder()));
    outcome = outcome.and(remove_link(route, &tag.overlay()));
    outcome = outcome.and(tunnels::remove(tag));
    outcome = outcome.and(ranges::release_but(route, tag, &[]));
    // Last, since it guards what is left of the others.
    for table in [flows::table_of(tag), tag.table()] {
        let mut batch = Batch::new(table);
        batch.add_table();
        batch.delete_table();
        outcome = outcome.and(batch.apply(netfilter).map_err(NetworkError::from));
    }
    outcome = outcome.and(docker::retract(netfilter, tag).map_err(NetworkError::from));
    outcome.and(records.remove_all())
}
