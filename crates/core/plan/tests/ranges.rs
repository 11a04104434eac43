//! Addresses are chosen where nobody else has any, and stay.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::net::Ipv4Addr;

use model::vpc::Cidr;
use plan::ranges::{Ranges, choose, in_the_way};
use proptest::prelude::*;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn ranges(vpc: &str, bridge: &str) -> Ranges {
    Ranges { vpc: cidr(vpc), bridge: cidr(bridge) }
}

fn chosen(taken: &[&str]) -> Option<Ranges> {
    let taken: Vec<Cidr> = taken.iter().map(|text| cidr(text)).collect();
    choose(&taken, None, None)
}

#[test]
fn the_clouds_own_default_vpc_does_not_take_the_bridges_range_from_it() {
    assert_eq!(chosen(&[]), Some(ranges("172.31.0.0/16", "172.30.0.0/20")));
    let on_a_cloud_machine = chosen(&["0.0.0.0/0", "172.31.0.0/20", "172.31.0.1/32"]);
    assert_eq!(on_a_cloud_machine, Some(ranges("172.30.0.0/16", "172.29.0.0/20")));
    let below = chosen(&["172.31.5.0/24", "172.28.0.0/14"]);
    assert_eq!(below, Some(ranges("172.27.0.0/16", "172.26.0.0/20")));
    let beside_another = chosen(&["172.31.0.0/16", "172.30.0.0/20"]);
    assert_eq!(beside_another, Some(ranges("172.29.0.0/16", "172.30.16.0/20")));
}

#[test]
fn there_are_addresses_behind_a_tunnel_that_takes_everything() {
    let halves = chosen(&["0.0.0.0/1", "128.0.0.0/1"]);
    assert_eq!(halves, Some(ranges("172.31.0.0/16", "172.30.0.0/20")));
    let private = chosen(&["172.16.0.0/12", "10.0.0.0/8"]);
    assert_eq!(private, Some(ranges("100.127.0.0/16", "100.126.0.0/20")));
    let all = ["172.16.0.0/12", "10.0.0.0/8", "100.64.0.0/10"];
    let last = chosen(&all.into_iter().chain(["192.168.1.0/24"]).collect::<Vec<_>>());
    assert_eq!(last, None, "room for a bridge is not room for a VPC");
    assert_eq!(chosen(&[all.as_slice(), &["192.168.0.0/16"]].concat()), None);
}

#[test]
fn only_what_is_taken_moves() {
    let (vpc, bridge) = (Some(cidr("172.31.0.0/16")), Some(cidr("172.30.0.0/20")));
    let moved = |taken: &str| choose(&[cidr(taken)], vpc, bridge).unwrap();
    assert_eq!(moved("192.0.2.0/24"), ranges("172.31.0.0/16", "172.30.0.0/20"));
    assert_eq!(moved("172.30.5.0/24"), ranges("172.31.0.0/16", "172.30.16.0/20"));
    assert_eq!(moved("172.31.5.0/24"), ranges("172.30.0.0/16", "172.29.0.0/20"));
    assert_eq!(
        in_the_way(cidr("172.31.0.0/16"), &[cidr("0.0.0.0/0"), cidr("172.31.5.0/24")]),
        [cidr("172.31.5.0/24")]
    );
}

/// Ranges as hosts have them: mostly private, of all lengths.
fn a_range() -> impl Strategy<Value = Cidr> {
    let private = (16_u8..=31, any::<u16>())
        .prop_map(|(second, rest)| 0xac00_0000 | u32::from(second) << 16 | u32::from(rest));
    let ten = any::<u32>().prop_map(|rest| 0x0a00_0000 | rest >> 8);
    let others = any::<u32>();
    (prop_oneof![4 => private, 3 => ten, 1 => others], 0_u8..=32).prop_map(|(bits, prefix)| {
        let prefix = if bits >> 24 == 0x0a { prefix.max(10) } else { prefix };
        Cidr::new(Ipv4Addr::from_bits(bits), prefix).unwrap()
    })
}

fn is_clear(ranges: Ranges, taken: &[Cidr]) -> bool {
    !ranges.vpc.overlaps(ranges.bridge)
        && in_the_way(ranges.vpc, taken).is_empty()
        && in_the_way(ranges.bridge, taken).is_empty()
}

proptest! {
    #[test]
    fn what_is_chosen_is_in_nobodys_way(taken in prop::collection::vec(a_range(), 0..60)) {
        if let Some(ranges) = choose(&taken, None, None) {
            prop_assert!(is_clear(ranges, &taken), "{ranges:?}");
        }
    }

    #[test]
    fn what_was_chosen_stays_as_long_as_it_is_free(
        before in prop::collection::vec(a_range(), 0..20),
        after in prop::collection::vec(a_range(), 0..20),
    ) {
        let Some(first) = choose(&before, None, None) else { return Ok(()) };
        prop_assert_eq!(choose(&before, Some(first.vpc), Some(first.bridge)), Some(first));
        if let Some(next) = choose(&after, Some(first.vpc), Some(first.bridge)) {
            prop_assert!(is_clear(next, &after), "{next:?}");
            if is_clear(first, &after) {
                prop_assert_eq!(next, first);
            }
            if in_the_way(first.vpc, &after).is_empty() {
                prop_assert_eq!(next.vpc, first.vpc);
            }
        }
    }

    #[test]
    fn many_regions_of_one_host_are_apart(
        taken in prop::collection::vec(a_range(), 0..10), regions in 2_usize..8,
    ) {
        let mut taken = taken;
        for _ in 0..regions {
            let Some(ranges) = choose(&taken, None, None) else { return Ok(()) };
            prop_assert!(is_clear(ranges, &taken), "{ranges:?}");
            taken.extend([ranges.vpc, ranges.bridge]);
        }
    }
}
