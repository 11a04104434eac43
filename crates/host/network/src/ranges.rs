//! Ranges of addresses on this host: what others use, and claiming some for a region.
//!
//! A claim is an unreachable route whose metric is the region's tag: it keeps strays from leaving by the
//! default route, and tells other regions that the range is taken. All tables of the host are looked
//! at, and its interfaces' addresses, by netlink, which needs no root.
//!
//! **Invariant:** a route that has another metric or another kind is never deleted.

use std::collections::BTreeMap;

use longshore_types::Cidr;
use nix::errno::Errno;
use tracing::info;

use crate::error::NetworkError;
use crate::names::NetTag;
use crate::netlink::route::{LinkIndex, Route};
use crate::netlink::{NetlinkError, Requests, Socket};

/// Routes to more than this are ways out and not networks; a tunnel for everything may have two halves.
const NETWORK_PREFIX_MIN: u8 = 8;
/// The most that a cloud's network has around a machine's address: neighbours of other subnets are
/// reached by the default route alone.
const NEIGHBOURHOOD_PREFIX: u8 = 16;

/// The ranges that something else than the region of this tag uses on this host.
pub fn ranges_in_use(tag: NetTag) -> Result<Vec<Cidr>, NetworkError> {
    let mut route = Socket::route()?;
    let links: BTreeMap<LinkIndex, String> = route.links()?.into_iter().collect();
    let mut ranges: Vec<Cidr> = others(&mut route, tag)?;
    for (index, net) in route.addresses()? {
        // Regions' own links hold single addresses, of ranges that are claimed.
        let is_holder = links.get(&index).is_some_and(|name| NetTag::of_holder(name).is_some());
        if !is_holder {
            let prefix = net.prefix().min(NEIGHBOURHOOD_PREFIX);
            ranges.extend(Cidr::new(net.first(), prefix));
        }
    }
    ranges.sort();
    ranges.dedup();
    Ok(ranges)
}

/// Claims a region's ranges before its network is opened, and gives up the claims that it had on others.
pub fn claim_ranges(tag: NetTag, vpc: Cidr, bridge: Cidr) -> Result<(), NetworkError> {
    let mut route = Socket::route()?;
    release_but(&mut route, tag, &[vpc, bridge])?;
    claim(&mut route, vpc, tag)?;
    claim(&mut route, bridge, tag)
}

/// Claims `range` for the region, if no route of anybody else leads into it. A claim that an earlier
/// process of ours made is ours still, whatever came after it.
pub(crate) fn claim(route: &mut Socket, range: Cidr, tag: NetTag) -> Result<(), NetworkError> {
    let mut requests = Requests::default();
    requests.add_unreachable(range, tag.metric());
    match route.ask(&requests) {
        Ok(()) => {}
        Err(error) if error.is(Errno::EEXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    if others(route, tag)?.iter().all(|other| !other.overlaps(range)) {
        return Ok(());
    }
    release(route, range, tag)?;
    Err(NetworkError::RangeTaken { range })
}

/// Releases the claims on all ranges but these: of a time when the region had others.
pub(crate) fn release_but(
    route: &mut Socket,
    tag: NetTag,
    kept: &[Cidr],
) -> Result<(), NetworkError> {
    let claims = route.routes()?.into_iter().filter(|it| it.is_claim_of(tag));
    for claim in claims.filter(|claim| !kept.contains(&claim.range)) {
        release(route, claim.range, tag)?;
        info!(range = %claim.range, "range released");
    }
    Ok(())
}

fn release(route: &mut Socket, range: Cidr, tag: NetTag) -> Result<(), NetlinkError> {
    let mut requests = Requests::default();
    requests.delete_unreachable(range, tag.metric());
    match route.ask(&requests) {
        Err(error) if !error.is(Errno::ESRCH) => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The routes that are not of the region of this tag, ways out aside.
fn others(route: &mut Socket, tag: NetTag) -> Result<Vec<Cidr>, NetworkError> {
    let links: BTreeMap<LinkIndex, String> = route.links()?.into_iter().collect();
    let is_by_ours = |route: &Route| {
        let name = route.link.and_then(|link| links.get(&link));
        name.is_some_and(|name| tag.is_of_link(name))
    };
    let routes = route.routes()?.into_iter();
    let others = routes.filter(|it| !it.is_claim_of(tag) && !is_by_ours(it));
    Ok(others.map(|it| it.range).filter(|it| it.prefix() >= NETWORK_PREFIX_MIN).collect())
}
