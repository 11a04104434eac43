//! Which addresses a region's tasks have: a range for its VPC and one for bridged containers, chosen
//! together, so that neither is in the other's way or in that of anything else on the host.
//!
//! **Invariant:** of two ranges that are chosen, neither overlaps the other or a taken one, and what was
//! chosen before stays while that holds.

use std::net::Ipv4Addr;

use model::vpc::Cidr;

/// As long as AWS makes a default VPC's.
const VPC_PREFIX: u8 = 16;
const BRIDGE_PREFIX: u8 = 20;
/// Routes to more than this leave to somewhere: a tunnel that takes everything may do so in two halves.
const NETWORK_PREFIX_MIN: u8 = 8;

/// What a region's hosts give addresses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    pub vpc: Cidr,
    pub bridge: Cidr,
}

/// What was chosen before, as far as it is free, and the first free ranges in place of the rest; `None`
/// if all private addresses are taken.
pub fn choose(taken: &[Cidr], vpc: Option<Cidr>, bridge: Option<Cidr>) -> Option<Ranges> {
    let taken: Vec<Cidr> = taken.iter().copied().filter(|it| is_network(*it)).collect();
    let vpc = vpc
        .filter(|range| is_free(*range, &taken))
        .or_else(|| vpc_ranges().find(|range| is_free(*range, &taken)))?;
    let fits = |range: &Cidr| is_free(*range, &taken) && !range.overlaps(vpc);
    let bridge = bridge.filter(fits).or_else(|| bridge_ranges().find(fits))?;
    Some(Ranges { vpc, bridge })
}

/// Those of `taken` that `range` overlaps.
pub fn in_the_way(range: Cidr, taken: &[Cidr]) -> Vec<Cidr> {
    taken.iter().copied().filter(|it| is_network(*it) && it.overlaps(range)).collect()
}

fn is_free(range: Cidr, taken: &[Cidr]) -> bool {
    !taken.iter().any(|other| other.overlaps(range))
}

fn is_network(range: Cidr) -> bool {
    range.prefix() >= NETWORK_PREFIX_MIN
}

/// The range that AWS gives default VPCs, those below it, and then what else is private or shared.
fn vpc_ranges() -> impl Iterator<Item = Cidr> {
    let private = (16..=31).rev().map(|second| Ipv4Addr::new(172, second, 0, 0));
    let ten = (0..=255).rev().map(|second| Ipv4Addr::new(10, second, 0, 0));
    let shared = (64..=127).rev().map(|second| Ipv4Addr::new(100, second, 0, 0));
    let last = Ipv4Addr::new(192, 168, 0, 0);
    let all = private.chain(ten).chain(shared).chain([last]);
    all.filter_map(|first| Cidr::new(first, VPC_PREFIX))
}

/// Parts of the same, from the second on: the first is most often the VPC's.
fn bridge_ranges() -> impl Iterator<Item = Cidr> {
    let parts = |range: Cidr| {
        let step = 1_u32 << (32 - BRIDGE_PREFIX);
        let first = range.first().to_bits();
        let count = 1_u32 << (BRIDGE_PREFIX - VPC_PREFIX);
        (0..count)
            .filter_map(move |n| Cidr::new(Ipv4Addr::from_bits(first + n * step), BRIDGE_PREFIX))
    };
    vpc_ranges().skip(1).chain(vpc_ranges().take(1)).flat_map(parts)
}
