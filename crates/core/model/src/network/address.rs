//! Elastic IP addresses, and the NAT gateways that have some.

use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_types::{
    AccountId, AddressAssociationId, AllocationId, EniId, NatGatewayId, SubnetId, Timestamp, VpcId,
};
use serde::{Deserialize, Serialize};
pub use traffic::feed::PUBLIC_POOL;

use crate::rows::{Key, View};
use crate::table::Record;
use crate::view::Index;
use crate::vpc::Interface;

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

impl View {
    /// The Elastic IP address that an interface has at one of its addresses.
    pub fn elastic_address_of(&self, interface: &Interface) -> Option<&Arc<ElasticAddress>> {
        let index = Index::Ec2Uses(interface.owner.account, interface.eni.as_str().into());
        self.members(&index).find_map(|key| {
            let Key::ElasticAddress(account, id) = key else { return None };
            let row = self.elastic_addresses.get(*account, id)?;
            let at = row.association.as_ref().map(|it| it.private);
            (at == Some(interface.address)).then_some(row)
        })
    }

    /// The address by which the world knows an interface of a VPC with addresses of its own.
    pub fn public_address_of(&self, interface: &Interface) -> Option<Ipv4Addr> {
        let elastic = self.elastic_address_of(interface);
        elastic.map(|row| row.address).or(interface.public)
    }

    /// An address of the pool that nobody has. The search starts at a place that `seed` decides, so that one that was
    /// just given back is not soon another's. Whoever takes it relies on [`Index::PublicAddress`] of it.
    pub fn free_public_address(
        &self,
        seed: u64,
        is_taken_now: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        let size = PUBLIC_POOL.size();
        let place = |step: u64| u32::try_from((seed % size + step) % size).ok();
        (0..size).find_map(|step| {
            let address = PUBLIC_POOL.nth(place(step)?)?;
            let is_edge = address == PUBLIC_POOL.first() || address == PUBLIC_POOL.last();
            let is_held = || self.member_count(&Index::PublicAddress(address)) != 0;
            (!is_edge && !is_taken_now(address) && !is_held()).then_some(address)
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Row;
    use crate::view::Seq;

    #[test]
    fn an_address_of_the_pool_is_found_that_neither_a_row_nor_this_decision_has() {
        let mut view = View::default();
        let at = |last| Ipv4Addr::new(198, 18, 0, last);
        view.put(
            Seq(1),
            &Row::from(ElasticAddress {
                account: "111111111111".parse().unwrap(),
                id: "eipalloc-00000001".parse().unwrap(),
                address: at(9),
                association: None,
            }),
        );
        assert_eq!(view.free_public_address(8, |_| false), Some(at(8)));
        assert_eq!(view.free_public_address(9, |_| false), Some(at(10)), "9 is kept");
        assert_eq!(view.free_public_address(9, |it| it == at(10)), Some(at(11)));
        let last = PUBLIC_POOL.size() - 1;
        assert_eq!(view.free_public_address(last, |_| false), Some(at(1)), "no edge is given out");
        assert_eq!(view.free_public_address(u64::MAX, |_| true), None);
    }
}
