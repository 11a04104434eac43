//! Where a client may connect to.
//!
//! Image names come from task definitions, and redirects and token servers from registries: none of
//! them may make this host speak to itself, to its own link, or to a cloud's metadata service.
//!
//! **Invariant:** the address that is judged is the one that is connected to, however it was spelled and
//! whatever its name resolved to a moment before.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses of cloud providers' metadata and management services that lie in no range of their own.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Addresses that share their first bits: `10.1.0.0/16`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    base: IpAddr,
    bits: u32,
}

impl Range {
    fn contains(&self, address: IpAddr) -> bool {
        let same = |left: u128, right: u128, width: u32| {
            let shift = width - self.bits.min(width);
            left.checked_shr(shift).unwrap_or(0) == right.checked_shr(shift).unwrap_or(0)
        };
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                same(u128::from(base.to_bits()), u128::from(address.to_bits()), 32)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => same(base.to_bits(), address.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// The text is no range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write it as 10.0.0.0/8 or fd00::/8")]
pub struct NotARange;

impl FromStr for Range {
    type Err = NotARange;

    fn from_str(text: &str) -> Result<Self, NotARange> {
        let (base, bits) = text.split_once('/').ok_or(NotARange)?;
        let base: IpAddr = base.parse().map_err(|_| NotARange)?;
        let max = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.parse().ok().filter(|bits| *bits <= max).ok_or(NotARange)?;
        Ok(Self { base, bits })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

/// Which hosts may be spoken to.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    allowed: Vec<String>,
    denied: Vec<Range>,
    is_open: bool,
}

impl Egress {
    /// No bounds: for who says itself where to connect to.
    pub fn anywhere() -> Self {
        Self { is_open: true, ..Self::default() }
    }

    /// What settings say: hosts that are allowed, and ranges such as `10.0.0.0/8` that are denied.
    pub fn of(allowed: &[String], denied: &[String]) -> Result<Self, NotARange> {
        let open = allowed.iter().fold(Self::default(), Self::allow);
        denied.iter().try_fold(open, |egress, range| Ok(egress.deny(range.parse()?)))
    }

    /// Allows `host` or `host:port`, wherever it is.
    #[must_use]
    pub fn allow(mut self, host: impl Into<String>) -> Self {
        self.allowed.push(host.into().to_ascii_lowercase());
        self
    }

    /// Denies addresses that would be allowed.
    #[must_use]
    pub fn deny(mut self, range: Range) -> Self {
        self.denied.push(range);
        self
    }

    /// Whether this host is allowed by its name.
    pub(crate) fn names(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        self.allowed.iter().any(|allowed| {
            *allowed == host
                || allowed
                    .rsplit_once(':')
                    .is_some_and(|(name, number)| name == host && number.parse() == Ok(port))
        })
    }

    /// Why `address` may not be connected to for `host`.
    pub(crate) fn refuse(&self, host: &str, port: u16, address: IpAddr) -> Option<Refused> {
        if self.is_open || self.names(host, port) {
            return None;
        }
        let what = match local(address) {
            Some(what) => what,
            None if self.is_denied(address) => "an address that is denied here (--deny-egress)",
            None => return None,
        };
        Some(Refused { address, what })
    }

    /// Why `address` may not be connected to for `host`, in words.
    pub fn denies(&self, host: &str, port: u16, address: IpAddr) -> Option<String> {
        self.refuse(host, port, address).map(|refused| refused.to_string())
    }

    fn is_denied(&self, address: IpAddr) -> bool {
        let plain = embedded(address).map(IpAddr::V4);
        let is_in = |address: IpAddr| self.denied.iter().any(|range| range.contains(address));
        is_in(address) || plain.is_some_and(is_in)
    }
}

/// An address that is not connected to.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{address} is {what}")]
pub(crate) struct Refused {
    address: IpAddr,
    what: &'static str,
}

/// What makes an address one of this host or of its link rather than one of somebody else.
fn local(address: IpAddr) -> Option<&'static str> {
    if let Some(inner) = embedded(address) {
        return local(IpAddr::V4(inner));
    }
    if METADATA.contains(&address) {
        return Some("a cloud's metadata service");
    }
    match address {
        IpAddr::V4(ip) if ip.is_loopback() => Some("a loopback address"),
        IpAddr::V4(ip) if ip.octets()[0] == 0 => Some("an unspecified address"),
        IpAddr::V4(ip) if ip.is_link_local() => Some("a link-local address"),
        IpAddr::V4(ip) if ip.is_multicast() => Some("a multicast address"),
        IpAddr::V4(ip) if ip.octets()[0] >= 240 => Some("a reserved address"),
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) if ip.is_loopback() => Some("a loopback address"),
        IpAddr::V6(ip) if ip.is_unspecified() => Some("an unspecified address"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfec0 => Some("a site-local address"),
        IpAddr::V6(ip) if ip.is_multicast() => Some("a multicast address"),
        IpAddr::V6(_) => None,
    }
}

/// The IPv4 address that an IPv6 one leads to, in the notations that stand for one.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = address else { return None };
    let of = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // Mapped, compatible and translated.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            Some(of(high, low))
        }
        // NAT64, well known and local.
        [0x64, 0xff9b, 0 | 1, _, _, _, high, low] => Some(of(high, low)),
        // 6to4.
        [0x2002, high, low, ..] => Some(of(high, low)),
        // Teredo shows the client's address inverted.
        [0x2001, 0, _, _, _, _, high, low] => Some(of(!high, !low)),
        // ISATAP.
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_its_link_and_metadata_services_are_refused_in_all_their_spellings() {
        let egress = Egress::default();
        for address in [
            "127.0.0.1",
            "127.255.1.2",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:a9fe:a9fe",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a9fe:a9fe",
            "2002:7f00:1::",
            "2001:0:1:2:3:4:80ff:fffe",
            "2001:db8::5efe:127.0.0.1",
        ] {
            let ip = address.parse().unwrap();
            assert!(egress.refuse("r.example", 443, ip).is_some(), "{address}");
            assert!(egress.clone().allow("r.example:443").refuse("R.example", 443, ip).is_none());
            assert!(egress.clone().allow("r.example:443").refuse("r.example", 80, ip).is_some());
            assert!(egress.clone().allow("r.example").refuse("r.example", 80, ip).is_none());
        }
        for address in [
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "8.8.8.8",
            "2606::1",
            "fd12::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(
                egress.refuse("r.example", 443, address.parse().unwrap()).is_none(),
                "{address}"
            );
        }
    }

    #[test]
    fn ranges_that_are_denied_are_denied_in_their_other_notations_too() {
        let egress =
            Egress::default().deny("10.0.0.0/8".parse().unwrap()).deny("fd00::/8".parse().unwrap());
        for (address, is_refused) in [
            ("10.9.9.9", true),
            ("::ffff:10.9.9.9", true),
            ("64:ff9b::a09:909", true),
            ("fd12::1", true),
            ("11.0.0.1", false),
            ("2606::1", false),
        ] {
            let refused = egress.refuse("r.example", 443, address.parse().unwrap());
            assert_eq!(refused.is_some(), is_refused, "{address}");
        }
        for text in ["10.0.0.0", "10.0.0.0/33", "x/8", "fd00::/129", "::/"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
        assert!("0.0.0.0/0".parse::<Range>().unwrap().contains("1.2.3.4".parse().unwrap()));
        assert_eq!("fd00::/8".parse::<Range>().unwrap().to_string(), "fd00::/8");
    }
}
