//! Blocks of IPv4 addresses, as they are written everywhere.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// A block of IPv4 addresses such as `172.31.0.0/16`.
///
/// **Invariant:** its address is the block's first: the bits below the prefix are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(Ipv4Net);

impl Cidr {
    /// The block of `prefix` bits that `address` lies in; `None` if there are no 32 such bits.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        Ipv4Net::new(address, prefix).ok().map(|net| Self(net.trunc()))
    }

    /// One address alone.
    pub fn host(address: Ipv4Addr) -> Self {
        Self(Ipv4Net::from(address))
    }

    /// For blocks written in code: `None` if there are bits below the prefix.
    pub const fn from_octets(octets: [u8; 4], prefix: u8) -> Option<Self> {
        let first = Ipv4Addr::from_octets(octets);
        match Ipv4Net::new(first, prefix) {
            Ok(net) if first.to_bits().trailing_zeros() + prefix as u32 >= 32 => Some(Self(net)),
            Ok(_) | Err(_) => None,
        }
    }

    pub fn first(self) -> Ipv4Addr {
        self.0.network()
    }

    pub fn last(self) -> Ipv4Addr {
        self.0.broadcast()
    }

    pub fn prefix(self) -> u8 {
        self.0.prefix_len()
    }

    pub fn mask(self) -> Ipv4Addr {
        self.0.netmask()
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        self.0.contains(&address)
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }

    /// The address `offset` above the first; `None` past the end.
    pub fn nth(self, offset: u32) -> Option<Ipv4Addr> {
        let address = Ipv4Addr::from_bits(self.first().to_bits().checked_add(offset)?);
        self.contains(address).then_some(address)
    }

    /// How many addresses there are.
    pub fn size(self) -> u64 {
        1 << (32 - u32::from(self.prefix()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is no block of addresses. Its own text completes "… must be".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block of IPv4 addresses such as 172.31.0.0/16")]
pub struct NotACidr;

impl FromStr for Cidr {
    type Err = NotACidr;

    /// `172.31.0.1/16` is an address with its network, and no block.
    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let net: Ipv4Net = text.parse().map_err(|_| NotACidr)?;
        if net.addr() == net.network() { Ok(Self(net)) } else { Err(NotACidr) }
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_knows_what_lies_in_it() {
        let block: Cidr = "172.31.16.0/20".parse().unwrap();
        assert!(block.contains(Ipv4Addr::new(172, 31, 31, 255)));
        assert!(!block.contains(Ipv4Addr::new(172, 31, 32, 0)));
        assert_eq!(block.last(), Ipv4Addr::new(172, 31, 31, 255));
        assert_eq!(block.mask(), Ipv4Addr::new(255, 255, 240, 0));
        assert_eq!(block.nth(1), Some(Ipv4Addr::new(172, 31, 16, 1)));
        assert_eq!(block.nth(4096), None);
        assert_eq!(block.size(), 4096);
        assert!(block.overlaps("172.31.0.0/16".parse().unwrap()));
        assert!(!block.overlaps("172.30.0.0/16".parse().unwrap()));
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains(Ipv4Addr::BROADCAST) && all.last() == Ipv4Addr::BROADCAST);
        let one = Cidr::host(Ipv4Addr::LOCALHOST);
        assert_eq!((one.first(), one.last(), one.size()), (one.last(), one.first(), 1));
        assert_eq!(Cidr::from_octets([10, 0, 0, 1], 8), None);
    }

    #[test]
    fn the_neighbours_of_valid_are_refused() {
        for text in ["172.31.0.1/16", "172.31.0.0", "172.31.0.0/33", "172.31.0/16", "/", "::/0"] {
            assert_eq!(text.parse::<Cidr>(), Err(NotACidr), "{text}");
        }
    }
}
