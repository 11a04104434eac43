//! Elastic IP addresses, and the NAT gateways that have some.

use std::net::Ipv4Addr;

use longshore_types::{
    AccountId, AddressAssociationId, AllocationId, EniId, NatGatewayId, SubnetId, Timestamp, VpcId,
};
use serde::{Deserialize, Serialize};
pub use traffic::feed::PUBLIC_POOL;

use crate::table::Record;
use crate::view::Index;

/// An address that an account keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ElasticAddress {
    pub account: AccountId,
    pub id: AllocationId,
    pub address: Ipv4Addr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association: Option<AddressAssociation>,
}

/// That an Elastic IP address is an interface's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressAssociation {
    pub id: AddressAssociationId,
    pub eni: EniId,
    pub private: Ipv4Addr,
    pub vpc: VpcId,
    /// Whose interface it is, if a gateway's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat_gateway: Option<NatGatewayId>,
}

impl Record for ElasticAddress {
    type Id = AllocationId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> AllocationId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        let association = self.association.iter().flat_map(|it| {
            let eni = Index::Ec2Uses(self.account, it.eni.as_str().into());
            [eni, Index::VpcAddresses(self.account, it.vpc.clone())]
        });
        association.chain([Index::PublicAddress(self.address)]).collect()
    }
}

/// A NAT gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NatGateway {
    pub account: AccountId,
    pub id: NatGatewayId,
    pub vpc: VpcId,
    pub subnet: SubnetId,
    pub state: NatState,
    /// None: a private one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<AllocationId>,
    /// The address of `allocation`, and what made it this gateway's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<(Ipv4Addr, AddressAssociationId)>,
    /// Of its interface; none if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<(EniId, Ipv4Addr)>,
    pub created_at: Timestamp,
}

/// How a NAT gateway is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NatState {
    Available,
    #[serde(rename_all = "camelCase")]
    Failed {
        at: Timestamp,
        code: String,
        message: String,
    },
    #[serde(rename_all = "camelCase")]
    Deleted {
        at: Timestamp,
    },
}

impl NatGateway {
    /// When it came to an end; it is shown for a while after.
    pub fn ended_at(&self) -> Option<Timestamp> {
        match &self.state {
            NatState::Available => None,
            NatState::Failed { at, .. } | NatState::Deleted { at } => Some(*at),
        }
    }
}

impl Record for NatGateway {
    type Id = NatGatewayId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> NatGatewayId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        if self.state != NatState::Available {
            return vec![];
        }
        let used = [self.vpc.as_str(), self.subnet.as_str()];
        used.map(|id| Index::Ec2Uses(self.account, id.into())).into()
    }
}
