//! MAC addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use longshore_types::serde_as_text;

/// Why a text is not the address it was taken for. Its text completes "… must be".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddrError {
    #[error("a MAC address such as 02:00:00:00:00:01")]
    NotAMac,
}

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
    fn the_neighbours_of_valid_are_refused() {
        for text in ["02:00:00:00:00", "02:00:00:00:00:0g", "01:00:00:00:00:00", "2:0:0:0:0:0"] {
            assert_eq!(text.parse::<MacAddr>(), Err(AddrError::NotAMac), "{text}");
        }
        let mac: MacAddr = "02:4c:ac:1f:00:05".parse().unwrap();
        assert_eq!(mac.to_string(), "02:4c:ac:1f:00:05");
    }
}
