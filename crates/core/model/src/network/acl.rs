//! Network ACLs: what a subnet lets in and out, packet by packet.

use longshore_types::{AccountId, Cidr, NetworkAclId, VpcId};
use serde::{Deserialize, Serialize};

use crate::table::Record;
use crate::view::Index;

/// A network ACL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAcl {
    pub account: AccountId,
    pub id: NetworkAclId,
    pub vpc: VpcId,
    /// What a subnet has until it is given another.
    pub is_default: bool,
    /// By direction and number. What none of them is about is denied.
    pub entries: Vec<AclEntry>,
}

/// One entry: of those of a direction the first that a packet matches decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AclEntry {
    pub is_egress: bool,
    pub number: u16,
    pub allows: bool,
    /// The number in packets' headers; none: every protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// Of TCP and UDP the first and last port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<(u16, u16)>,
    /// Of ICMP type and code, where -1 is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<(i32, i32)>,
    pub network: AclNetwork,
}

/// Whom an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AclNetwork {
    Ipv4(Cidr),
    /// In its shortest form. No packet has such an address.
    Ipv6(String),
}

impl AclEntry {
    /// Everything, from and to everywhere.
    pub fn all(is_egress: bool, number: u16) -> Self {
        let network = AclNetwork::Ipv4(anywhere());
        Self { is_egress, number, allows: true, protocol: None, ports: None, icmp: None, network }
    }
}

impl NetworkAcl {
    /// What a VPC has from its beginning, which lets everything pass.
    pub fn open(account: AccountId, id: NetworkAclId, vpc: VpcId) -> Self {
        let entries = vec![AclEntry::all(false, 100), AclEntry::all(true, 100)];
        Self { account, id, vpc, is_default: true, entries }
    }

    pub fn entry(&self, is_egress: bool, number: u16) -> Option<&AclEntry> {
        self.entries.iter().find(|it| (it.is_egress, it.number) == (is_egress, number))
    }
}

impl Record for NetworkAcl {
    type Id = NetworkAclId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> NetworkAclId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        vec![Index::Ec2Uses(self.account, self.vpc.as_str().into())]
    }
}

/// `0.0.0.0/0`
pub(super) fn anywhere() -> Cidr {
    Cidr::from_octets([0; 4], 0).expect("zero bits are a prefix")
}
