//! Security groups: which traffic an interface lets in and out.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use longshore_types::{Cidr, SecurityGroupId};
use serde::{Deserialize, Serialize};

/// A group and its rules, complete: whoever is told of it again forgets what it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    pub id: SecurityGroupId,
    pub ingress: Vec<GroupRule>,
    pub egress: Vec<GroupRule>,
}

/// Allows some traffic with some peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRule {
    pub traffic: Traffic,
    pub peer: Peer,
}

/// What kind of packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Traffic {
    All,
    Tcp(RangeInclusive<u16>),
    Udp(RangeInclusive<u16>),
    /// Any type, or one type with any or one code.
    Icmp(Option<(u8, Option<u8>)>),
    /// Another protocol, by its number.
    Protocol(u8),
}

/// Who is on the other side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    Network(Cidr),
    /// Every interface that has this group.
    Group(SecurityGroupId),
}

impl SecurityGroup {
    /// What a VPC's default group says until somebody changes it: members reach each other, everything may
    /// go out, nothing else comes in.
    pub fn default_rules(id: SecurityGroupId) -> Self {
        let all = Cidr::new(Ipv4Addr::UNSPECIFIED, 0).expect("zero bits are a valid prefix");
        Self {
            ingress: vec![GroupRule { traffic: Traffic::All, peer: Peer::Group(id.clone()) }],
            egress: vec![GroupRule { traffic: Traffic::All, peer: Peer::Network(all) }],
            id,
        }
    }

    /// A group that lets nothing pass.
    pub fn closed(id: SecurityGroupId) -> Self {
        Self { id, ingress: Vec::new(), egress: Vec::new() }
    }

    /// The groups that the rules name as peers.
    pub fn peers(&self) -> impl Iterator<Item = &SecurityGroupId> {
        self.ingress.iter().chain(&self.egress).filter_map(|rule| match &rule.peer {
            Peer::Group(id) => Some(id),
            Peer::Network(_) => None,
        })
    }
}
