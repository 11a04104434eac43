//! IPv4 networks and MAC addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not the address it was taken for. Its text completes "… must be".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddrError {
    #[error("an IPv4 network such as 172.31.0.0/16")]
    NotANetwork,
    #[error("a MAC address such as 02:00:00:00:00:01")]
    NotAMac,
}

/// Serialises a type as the text that `Display` prints and `FromStr` reads.
macro_rules! serde_as_text {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

/// A range of IPv4 addresses; the bits below the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4Net {
    network: Ipv4Addr,
    prefix: u8,
}

impl Ipv4Net {
    /// The network of `prefix` bits in which `address` lies.
    pub fn containing(address: Ipv4Addr, prefix: u8) -> Result<Self, AddrError> {
        if prefix > 32 {
            return Err(AddrError::NotANetwork);
        }
        let network = Ipv4Addr::from_bits(address.to_bits() & mask_bits(prefix));
        Ok(Self { network, prefix })
    }

    /// For ranges written in code: `None` if there are host bits.
    pub const fn from_octets(octets: [u8; 4], prefix: u8) -> Option<Self> {
        let network = Ipv4Addr::from_octets(octets);
        if prefix > 32 || network.to_bits() & !mask_bits(prefix) != 0 {
            return None;
        }
        Some(Self { network, prefix })
    }

    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask_bits(self.prefix))
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask_bits(self.prefix) == self.network.to_bits()
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// The address `offset` above the first; `None` past the end.
    pub fn nth(self, offset: u32) -> Option<Ipv4Addr> {
        let address = Ipv4Addr::from_bits(self.network.to_bits().checked_add(offset)?);
        self.contains(address).then_some(address)
    }

    /// How many addresses there are.
    pub fn size(self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }
}

const fn mask_bits(prefix: u8) -> u32 {
    match u32::MAX.checked_shr(prefix as u32) {
        Some(host_bits) => !host_bits,
        None => u32::MAX,
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Ipv4Net {
    type Err = AddrError;

    /// Host bits are refused: `172.31.0.1/16` is an address and not a network.
    fn from_str(text: &str) -> Result<Self, AddrError> {
        let (address, prefix) = text.split_once('/').ok_or(AddrError::NotANetwork)?;
        let address = address.parse().map_err(|_| AddrError::NotANetwork)?;
        let prefix = prefix.parse().map_err(|_| AddrError::NotANetwork)?;
        let net = Self::containing(address, prefix)?;
        if net.network == address { Ok(net) } else { Err(AddrError::NotANetwork) }
    }
}

serde_as_text!(Ipv4Net);

/// A link's hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// A locally administered unicast address that tells its IPv4 address.
    pub fn of_address(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x4c, a, b, c, d])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(AddrError::NotAMac)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| AddrError::NotAMac)?;
        }
        // A group address belongs to no single interface.
        if parts.next().is_some() || octets[0] & 1 == 1 {
            return Err(AddrError::NotAMac);
        }
        Ok(Self(octets))
    }
}

serde_as_text!(MacAddr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_knows_what_lies_in_it() {
        let net: Ipv4Net = "172.31.16.0/20".parse().unwrap();
        assert!(net.contains(Ipv4Addr::new(172, 31, 31, 255)));
        assert!(!net.contains(Ipv4Addr::new(172, 31, 32, 0)));
        assert_eq!(net.nth(1), Some(Ipv4Addr::new(172, 31, 16, 1)));
        assert_eq!(net.nth(4096), None);
        assert_eq!(net.size(), 4096);
        assert!(net.overlaps("172.31.0.0/16".parse().unwrap()));
        assert!(!net.overlaps("172.30.0.0/16".parse().unwrap()));
        let all: Ipv4Net = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains(Ipv4Addr::BROADCAST));
    }

    #[test]
    fn the_neighbours_of_valid_are_refused() {
        for text in ["172.31.0.1/16", "172.31.0.0", "172.31.0.0/33", "172.31.0/16", "/", "::/0"] {
            assert_eq!(text.parse::<Ipv4Net>(), Err(AddrError::NotANetwork), "{text}");
        }
        for text in ["02:00:00:00:00", "02:00:00:00:00:0g", "01:00:00:00:00:00", "2:0:0:0:0:0"] {
            assert_eq!(text.parse::<MacAddr>(), Err(AddrError::NotAMac), "{text}");
        }
        let mac: MacAddr = "02:4c:ac:1f:00:05".parse().unwrap();
        assert_eq!(mac.to_string(), "02:4c:ac:1f:00:05");
    }
}
