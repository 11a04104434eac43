//! What kernel objects are called. Every name carries the region's tag, so that two regions on one
//! machine, and one region's remains and another's, can be told apart.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use longshore_types::serde_as_text;
use serde::{Deserialize, Serialize};
use traffic::feed::Vni;

/// Why a text is not the name it was taken for. Its text completes "… must be".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("eight lowercase hexadecimal digits")]
    NotATag,
    #[error("1 to 128 letters, digits, dots, hyphens and underscores, not starting with a dot")]
    NotAnEndpoint,
}

/// Eight hex digits that tell one region's objects from another's on the same machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetTag([u8; 8]);

impl NetTag {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a tag is eight ASCII digits")
    }

    /// The metric of routes that claim a range: the tag, read as the number that it is.
    pub fn metric(self) -> u32 {
        u32::from_str_radix(self.as_str(), 16).expect("eight hex digits are 32 bits")
    }

    /// The number of the kernel's keys and policies that are ours: the tag, and none that people choose by hand.
    pub(crate) fn reqid(self) -> u32 {
        self.metric().max(1)
    }

    /// Our table; `nft list table inet longshore_<tag>` shows it.
    pub(crate) fn table(self) -> String {
        format!("longshore_{self}")
    }

    /// What the names of all our interfaces to endpoints begin with.
    pub fn link_prefix(self) -> String {
        format!("ls{self}")
    }

    /// The interface to the `number`th endpoint.
    pub(crate) fn link(self, number: LinkNumber) -> LinkName {
        let mut digits = [b'0'; 5];
        let mut rest = number.0;
        for digit in digits.iter_mut().rev() {
            let value = usize::try_from(rest % 36).expect("below 36");
            *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[value];
            rest /= 36;
        }
        let digits = std::str::from_utf8(&digits).expect("base 36 digits are ASCII");
        LinkName(format!("ls{self}{digits}"))
    }

    /// The interface that holds the host's own addresses towards endpoints.
    pub(crate) fn holder(self) -> LinkName {
        LinkName(format!("lh{self}"))
    }

    /// The interface by which other hosts are reached.
    pub(crate) fn overlay(self) -> LinkName {
        LinkName(format!("lx{self}"))
    }

    /// The tag of the region whose such interface has this name.
    pub(crate) fn of_holder(name: &str) -> Option<Self> {
        name.strip_prefix("lh")?.parse().ok()
    }

    /// Whether a link of this name is the region's: to an endpoint, to other hosts, or for the host's address.
    pub(crate) fn is_of_link(self, name: &str) -> bool {
        name.starts_with(&self.link_prefix())
            || Self::of_holder(name) == Some(self)
            || name == self.overlay().as_str()
    }
}

impl fmt::Display for NetTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for NetTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetTag({self})")
    }
}

impl FromStr for NetTag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits: [u8; 8] = text.as_bytes().try_into().map_err(|_| NameError::NotATag)?;
        let is_hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        if digits.iter().all(is_hex) { Ok(Self(digits)) } else { Err(NameError::NotATag) }
    }
}

serde_as_text!(NetTag);

/// Counts a region's interfaces, over all its processes; wraps around after 60 million, by when the first
/// are long gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkNumber(u32);

impl LinkNumber {
    pub(crate) const END: u32 = 36_u32.pow(5);

    pub(crate) fn new(number: u32) -> Self {
        Self(number % Self::END)
    }

    pub(crate) fn value(self) -> u32 {
        self.0
    }
}

/// The name of an interface, as the kernel takes it: at most 15 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LinkName(String);

impl LinkName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// A name read back from the kernel, if it is that of one of `tag`'s interfaces to endpoints.
    pub(crate) fn of_tag(name: &str, tag: NetTag) -> Option<Self> {
        name.starts_with(&tag.link_prefix()).then(|| Self(name.to_owned()))
    }

    /// What the names of a router's links to other VPCs' routers begin with. In its namespace there is one region.
    pub(crate) const PEERS: &str = "lp";

    /// What the names of its links to one peer begin with: by the number of what comes by them.
    pub(crate) fn peer_prefix(number: Vni) -> String {
        format!("{}{:06x}", Self::PEERS, number.value())
    }

    /// The link by which a peer's interfaces on other hosts are reached.
    pub(crate) fn peer_overlay(number: Vni) -> Self {
        Self(format!("{}x", Self::peer_prefix(number)))
    }

    /// The link to a peer's router on the same host.
    pub(crate) fn peer_router(number: Vni) -> Self {
        Self(format!("{}v", Self::peer_prefix(number)))
    }

    /// A name read back from the kernel, if it is that of a router's link to a peer.
    pub(crate) fn of_peer(name: &str) -> Option<Self> {
        let digits = name.strip_prefix(Self::PEERS)?.strip_suffix(['x', 'v'])?;
        let is_one = digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        is_one.then(|| Self(name.to_owned()))
    }

    /// The number that the name was made from.
    pub(crate) fn number(&self) -> Option<LinkNumber> {
        let digits = self.0.get(self.0.len().checked_sub(5)?..)?;
        u32::from_str_radix(digits, 36).ok().map(LinkNumber::new)
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one network namespace with its interface: a task's, or a bridged container's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(Arc<str>);

impl EndpointId {
    pub const LEN_MAX: usize = 128;

    /// What the endpoints of balancers' interfaces are called; no task is called so.
    const OF_BALANCERS: &str = "balancer.";

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn of_balancer(eni: &longshore_types::EniId) -> Self {
        Self(format!("{}{eni}", Self::OF_BALANCERS).into())
    }

    /// Whether a file is called after such a one.
    pub(crate) fn is_name_of_balancer(name: &str) -> bool {
        name.starts_with(Self::OF_BALANCERS)
    }

    /// Whether it is the interface of a balancer, which is there because the region tells of it.
    pub(crate) fn is_balancers(&self) -> bool {
        Self::is_name_of_balancer(&self.0)
    }
}

impl From<longshore_types::TaskId> for EndpointId {
    fn from(task: longshore_types::TaskId) -> Self {
        Self(task.to_string().into())
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointId({self})")
    }
}

impl FromStr for EndpointId {
    type Err = NameError;

    /// The id becomes a file's name, so nothing that means something in a path is let in.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let is_fit = (1..=Self::LEN_MAX).contains(&text.len()) && !text.starts_with('.');
        if is_fit && text.bytes().all(is_allowed) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::NotAnEndpoint)
        }
    }
}

serde_as_text!(EndpointId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernels_fifteen_bytes() {
        let tag: NetTag = "0a1b2c3d".parse().unwrap();
        for number in [0, 35, 36, LinkNumber::END - 1, LinkNumber::END, u32::MAX] {
            let name = tag.link(LinkNumber::new(number));
            assert_eq!(name.as_str().len(), 15, "{name}");
            assert_eq!(name.number(), Some(LinkNumber::new(number)));
            assert_eq!(LinkName::of_tag(name.as_str(), tag), Some(name));
        }
        assert!(tag.holder().as_str().len() <= 15);
        assert_eq!(LinkName::of_tag(tag.holder().as_str(), tag), None);
        assert_eq!(LinkName::of_tag("eth0", tag), None);
    }

    #[test]
    fn an_endpoint_cannot_climb_out_of_its_directory() {
        for text in ["", ".", "..", "../x", "a/b", ".hidden", "a\0b", "é"] {
            assert_eq!(text.parse::<EndpointId>(), Err(NameError::NotAnEndpoint), "{text}");
        }
        assert!("a".repeat(129).parse::<EndpointId>().is_err());
        assert!("0a1b-web_1.2".parse::<EndpointId>().is_ok());
        assert!("0A1B2C3D".parse::<NetTag>().is_err());
    }
}
