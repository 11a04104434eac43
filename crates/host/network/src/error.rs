//! What can go wrong, told so that the agent can say it in a task's stopped reason.

use std::borrow::Cow;
use std::io;
use std::net::Ipv4Addr;

use longshore_types::{Cidr, VpcId};

use crate::names::EndpointId;
use crate::netlink::NetlinkError;
use crate::publish::PortError;

/// Why the network could not be had as asked.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("the ranges {first} and {second} overlap")]
    RangesOverlap { first: Cidr, second: Cidr },
    #[error("the range {range} is too small for a network")]
    RangeTooSmall { range: Cidr },
    #[error("this machine already has routes into the range {range}")]
    RangeTaken { range: Cidr },
    #[error("the address {address} belongs to {holder}")]
    AddressTaken { address: Ipv4Addr, holder: EndpointId },
    #[error("the address {address} is not in the network {range}")]
    OutsideRange { address: Ipv4Addr, range: Cidr },
    #[error("{address} lies in no network of this machine")]
    NotOurAddress { address: Ipv4Addr },
    #[error("nothing was told of {vpc}, which the interface is in")]
    NoRouter { vpc: VpcId },
    #[error("there are already interfaces in {limit} VPCs on this host")]
    TooManyRouters { limit: usize },
    #[error("no free address in {range}")]
    NoFreeAddress { range: Cidr },
    #[error("{endpoint} is attached with another address or other groups")]
    AttachedDifferently { endpoint: EndpointId },
    #[error("{endpoint} is not attached")]
    NoSuchEndpoint { endpoint: EndpointId },
    #[error("{endpoint} has an address of its own and publishes no host ports")]
    NotBridged { endpoint: EndpointId },
    #[error("there are already {limit} endpoints on this host")]
    TooManyEndpoints { limit: usize },
    #[error("a container publishes at most {limit} ports")]
    TooManyPorts { limit: usize },
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("failed to set up the network")]
    Netlink(#[from] NetlinkError),
    #[error("failed to {doing}")]
    Io { doing: Cow<'static, str>, source: io::Error },
    #[error("told to encrypt what goes to other hosts, and this host cannot: {why}")]
    CannotEncrypt { why: &'static str },
    #[error("the network is closed")]
    Closed,
}

impl NetworkError {
    pub(crate) fn io(doing: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source }
    }
}
