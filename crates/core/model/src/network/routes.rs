//! Route tables and internet gateways.

use longshore_types::{AccountId, Cidr, InternetGatewayId, NatGatewayId, RouteTableId, VpcId};
use serde::{Deserialize, Serialize};

use super::Network;
use crate::table::Record;
use crate::view::Index;

/// A route table. That a VPC's own blocks are reached directly is in no row: it follows from the VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTable {
    pub account: AccountId,
    pub id: RouteTableId,
    pub vpc: VpcId,
    /// By destination, of which no two are the same.
    pub routes: Vec<Route>,
}

/// Where packets to a block of addresses go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    pub destination: Cidr,
    pub target: RouteTarget,
}

/// What a route leads to. It may be gone since, or detached: then what goes there is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteTarget {
    InternetGateway(InternetGatewayId),
    NatGateway(NatGatewayId),
}

/// A route as it is now, the VPC's own included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownRoute {
    pub destination: Cidr,
    pub target: ShownTarget,
    /// Whether its target takes packets; those to others are dropped.
    pub is_active: bool,
}

/// What a route leads to, within the VPC or out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShownTarget {
    Local,
    Out(RouteTarget),
}

impl RouteTable {
    pub fn route(&self, destination: Cidr) -> Option<&Route> {
        self.routes.iter().find(|route| route.destination == destination)
    }

    /// All routes as they are now: first those of the VPC's own blocks.
    pub fn shown(&self, network: &Network<'_>) -> Vec<ShownRoute> {
        let vpc = network.vpc(&self.vpc);
        let blocks = vpc.iter().flat_map(|vpc| vpc.blocks());
        let local = blocks.map(|destination| {
            let target = ShownTarget::Local;
            ShownRoute { destination, target, is_active: true }
        });
        let routes = self.routes.iter().map(|route| ShownRoute {
            destination: route.destination,
            target: ShownTarget::Out(route.target.clone()),
            is_active: network.is_active(&self.vpc, &route.target),
        });
        local.chain(routes).collect()
    }
}

impl Record for RouteTable {
    type Id = RouteTableId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> RouteTableId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        vec![Index::Ec2Uses(self.account, self.vpc.as_str().into())]
    }
}

/// A VPC's door to the internet: interfaces that have a public address go through it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InternetGateway {
    pub account: AccountId,
    pub id: InternetGatewayId,
    /// The VPC that it is attached to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc: Option<VpcId>,
}

impl Record for InternetGateway {
    type Id = InternetGatewayId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> InternetGatewayId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        let vpc = self.vpc.iter();
        vpc.map(|vpc| Index::Ec2Uses(self.account, vpc.as_str().into())).collect()
    }
}
