//! An endpoint: one namespace with one interface, and what is remembered of it across restarts.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use longshore_types::{Cidr, EniId, SecurityGroupId, VpcId};

use crate::addr::MacAddr;
use crate::names::{EndpointId, LinkName};
use crate::netlink::route::LinkIndex;
use crate::netns::HostLink;
pub use crate::publish::Binding;

/// An elastic network interface as the region allocated it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniSpec {
    /// By which the region tells more of it, such as its VPC; one that it does not tell of is in the default VPC.
    pub id: Option<EniId>,
    pub address: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix: u8,
    /// The subnet's router, the first address above its network.
    pub gateway: Ipv4Addr,
    pub mac: MacAddr,
    /// Empty: only the host reaches the interface, a balancer's everybody in its VPC, and it may send anything anywhere.
    pub security_groups: Vec<SecurityGroupId>,
    /// Kept for the record: on one host the way out is by translation in either case.
    pub assign_public_ip: bool,
    /// Whether the region tells how its packets go though it is in a default VPC: until that is known none passes.
    pub is_judged: bool,
}

/// A namespace that is ready for containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Where the namespace is mounted; give it to the sandbox.
    pub netns: PathBuf,
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Ipv4Addr,
    pub mac: MacAddr,
    /// What belongs into the containers' `resolv.conf`.
    pub nameserver: Ipv4Addr,
    /// The address by which the host's services see it, if that is not its own but one that all of its VPC's share here.
    pub seen_as: Option<Ipv4Addr>,
}

/// What an interface has carried, seen from inside the namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// What is written down before an endpoint is made, so that it can be found and undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    /// The interface that the region knows it as.
    #[serde(default)]
    pub(crate) eni: Option<EniId>,
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) mac: MacAddr,
    /// The host's end.
    pub(crate) link: LinkName,
    /// Together with the name it says which link it is. Known of all that live; records of before this was
    /// kept do not have it.
    #[serde(default)]
    pub(crate) link_index: Option<LinkIndex>,
    pub(crate) role: Role,
    /// Its packets are to be judged, and by what is not known yet: none passes.
    #[serde(default)]
    pub(crate) awaits_ways: bool,
}

/// How an endpoint's traffic is judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Sorted, without repeats.
    Eni {
        groups: Vec<SecurityGroupId>,
    },
    Bridge {
        bindings: Vec<Binding>,
    },
    /// The namespace that a VPC's tasks are plugged into, with the public addresses that lead there.
    Router {
        vpc: VpcId,
        publics: BTreeSet<Ipv4Addr>,
    },
}

impl Endpoint {
    pub(crate) fn of_eni(id: EndpointId, spec: &EniSpec, link: HostLink) -> Self {
        let mut groups = spec.security_groups.clone();
        groups.sort();
        groups.dedup();
        Self {
            id,
            eni: spec.id.clone(),
            address: spec.address,
            prefix: spec.prefix,
            gateway: spec.gateway,
            mac: spec.mac,
            link: link.name,
            link_index: Some(link.index),
            role: Role::Eni { groups },
            awaits_ways: spec.is_judged,
        }
    }

    pub(crate) fn of_bridge(
        id: EndpointId,
        address: Ipv4Addr,
        (range, gateway): (Cidr, Ipv4Addr),
        link: HostLink,
    ) -> Self {
        Self {
            id,
            eni: None,
            address,
            prefix: range.prefix(),
            gateway,
            mac: MacAddr::of_address(address),
            link: link.name,
            link_index: Some(link.index),
            role: Role::Bridge { bindings: Vec::new() },
            awaits_ways: false,
        }
    }

    pub(crate) fn host_link(&self) -> Option<HostLink> {
        self.link_index.map(|index| HostLink { index, name: self.link.clone() })
    }

    pub(crate) fn groups(&self) -> &[SecurityGroupId] {
        match &self.role {
            Role::Eni { groups } => groups,
            Role::Bridge { .. } | Role::Router { .. } => &[],
        }
    }

    pub(crate) fn is_router(&self) -> bool {
        matches!(self.role, Role::Router { .. })
    }

    /// The public addresses that lead to it.
    pub(crate) fn publics(&self) -> impl Iterator<Item = &Ipv4Addr> {
        let publics = match &self.role {
            Role::Router { publics, .. } => Some(publics),
            Role::Eni { .. } | Role::Bridge { .. } => None,
        };
        publics.into_iter().flatten()
    }

    pub(crate) fn bindings(&self) -> &[Binding] {
        match &self.role {
            Role::Eni { .. } | Role::Router { .. } => &[],
            Role::Bridge { bindings } => bindings,
        }
    }

    /// The same interface with the same judgement, wherever its links are.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let role = match (&self.role, &other.role) {
            (Role::Eni { groups: ours }, Role::Eni { groups: theirs }) => ours == theirs,
            (Role::Bridge { .. }, Role::Bridge { .. }) => true,
            (Role::Router { vpc: ours, .. }, Role::Router { vpc: theirs, .. }) => ours == theirs,
            (Role::Eni { .. } | Role::Bridge { .. } | Role::Router { .. }, _) => false,
        };
        role && (self.address, self.prefix, self.gateway, self.mac)
            == (other.address, other.prefix, other.gateway, other.mac)
    }
}
