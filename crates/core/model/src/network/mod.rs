//! VPCs, and what they are made of, as rows.
//!
//! The default VPC follows from the region's plan of addresses ([`crate::vpc`]), and is no row before somebody changes
//! it; [`Network`] shows it among those that are.
//!
//! **Invariant:** a subnet has exactly one network ACL and at most one route table of its own; both stand in its
//! row, so that nothing can say otherwise.

mod acl;
mod address;
mod default;
mod endpoint;
mod flow_log;
mod lens;
mod peering;
mod prefix_list;
mod routes;

use longshore_types::{
    AccountId, AclAssociationId, Cidr, DhcpOptionsId, NetworkAclId, RouteAssociationId,
    RouteTableId, SecurityGroupId, SubnetId, VpcCidrAssociationId, VpcId,
};
use serde::{Deserialize, Serialize};
use traffic::feed::Vni;

pub use acl::{AclEntry, AclNetwork, NetworkAcl};
pub use address::{AddressAssociation, ElasticAddress, NatGateway, NatState, PUBLIC_POOL};
pub use default::{DefaultNetwork, DefaultVpcGone, DefaultVpcGoneId};
pub use endpoint::{
    EndpointKind, EndpointName, EndpointPolicy, EndpointService, EndpointZone, GATEWAY_SERVICES,
    InterfaceEndpoint, VpcEndpoint,
};
pub use flow_log::{
    DEFAULT_FLOW_FORMAT, FlowLog, FlowLogOf, LoggedTraffic, UnknownField, flow_fields, flow_version,
};
pub use lens::Network;
pub use peering::{
    PEERING_EXPIRES_MS, PeerGroup, PeeringEnd, PeeringState, PeeringStatus, VpcPeering,
};
pub use prefix_list::{AddressFamily, EarlierEntries, PrefixEntry, PrefixList};
pub use routes::{
    InternetGateway, Route, RouteDestination, RouteTable, RouteTarget, ShownRoute, ShownTarget,
};

use crate::table::Record;
use crate::view::Index;

/// A block of addresses besides a VPC's first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VpcBlock {
    pub association: VpcCidrAssociationId,
    pub block: Cidr,
}

/// A VPC. Its subnets, tables and so on are rows of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VpcRow {
    pub account: AccountId,
    pub id: VpcId,
    pub first: VpcBlock,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondary: Vec<VpcBlock>,
    /// Whether its resolver answers.
    pub dns_support: bool,
    /// Whether interfaces have names.
    pub dns_hostnames: bool,
    /// None: the options that Amazon calls `default`, which are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_options: Option<DhcpOptionsId>,
    pub main_table: RouteTableId,
    pub main_association: RouteAssociationId,
    pub default_acl: NetworkAclId,
    pub default_group: SecurityGroupId,
    /// Of the one that every account has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_default: bool,
}

impl VpcRow {
    /// Its blocks, the first one first.
    pub fn blocks(&self) -> impl Iterator<Item = Cidr> {
        std::iter::once(&self.first).chain(&self.secondary).map(|block| block.block)
    }
}

impl Record for VpcRow {
    type Id = VpcId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> VpcId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        let options = self.dhcp_options.iter();
        let uses = options.map(|options| Index::Ec2Uses(self.account, options.as_str().into()));
        // Hosts know default VPCs by the number of what all of them share.
        let own = match self.is_default {
            true => Index::DefaultVpcs,
            false => Index::VpcNumber(Vni::of(&self.id).value()),
        };
        uses.chain([own]).collect()
    }
}

/// A subnet, which lies in one zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubnetRow {
    pub account: AccountId,
    pub id: SubnetId,
    pub vpc: VpcId,
    pub block: Cidr,
    pub zone: String,
    pub zone_id: String,
    pub map_public_ip: bool,
    /// None: the VPC's main table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<SubnetTable>,
    pub acl: SubnetAcl,
    /// Of the one that a zone of the default VPC has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_default: bool,
}

/// That a subnet has a route table of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubnetTable {
    pub association: RouteAssociationId,
    pub table: RouteTableId,
}

/// Which network ACL a subnet has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubnetAcl {
    pub association: AclAssociationId,
    pub acl: NetworkAclId,
}

impl Record for SubnetRow {
    type Id = SubnetId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> SubnetId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        let uses = |id: &str| Index::Ec2Uses(self.account, id.into());
        let table = self.table.iter().map(|it| uses(it.table.as_str()));
        table.chain([uses(self.vpc.as_str()), uses(self.acl.acl.as_str())]).collect()
    }
}

/// What DHCP tells the tasks of a VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DhcpOptions {
    pub account: AccountId,
    pub id: DhcpOptionsId,
    /// `domain-name-servers` and the like, each with its values, in the order in which they were given.
    pub options: Vec<(String, Vec<String>)>,
}

impl DhcpOptions {
    pub fn values(&self, key: &str) -> &[String] {
        let found = self.options.iter().find(|(known, _)| known == key);
        found.map(|(_, values)| values.as_slice()).unwrap_or_default()
    }
}

impl Record for DhcpOptions {
    type Id = DhcpOptionsId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> DhcpOptionsId {
        self.id.clone()
    }
}
