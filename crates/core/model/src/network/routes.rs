//! Route tables and internet gateways.

use std::collections::BTreeMap;
use std::fmt;

use longshore_types::{
    AccountId, Cidr, InternetGatewayId, NatGatewayId, PrefixListId, RouteTableId, VpcEndpointId,
    VpcId, VpcPeeringId,
};
use serde::{Deserialize, Serialize};

use super::Network;
use super::endpoint::gateway_list;
use crate::rows::Key;
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
    pub destination: RouteDestination,
    pub target: RouteTarget,
}

/// What a route is for: a block of addresses, or all that a prefix list says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RouteDestination {
    Block(Cidr),
    List(PrefixListId),
}

impl From<Cidr> for RouteDestination {
    fn from(block: Cidr) -> Self {
        Self::Block(block)
    }
}

impl fmt::Display for RouteDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(block) => block.fmt(f),
            Self::List(list) => list.fmt(f),
        }
    }
}

/// What a route leads to. It may be gone since, or detached: then what goes there is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteTarget {
    InternetGateway(InternetGatewayId),
    NatGateway(NatGatewayId),
    VpcPeering(VpcPeeringId),
}

/// A route as it is now, the VPC's own included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownRoute {
    pub destination: RouteDestination,
    pub target: ShownTarget,
    /// Whether its target takes packets; those to others are dropped.
    pub is_active: bool,
}

/// What a route leads to, within the VPC or out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShownTarget {
    Local,
    Out(RouteTarget),
    /// A VPC endpoint by a gateway, whose route is in no row: it follows from the endpoint.
    Endpoint(VpcEndpointId),
}

impl RouteTable {
    pub fn route(&self, destination: &RouteDestination) -> Option<&Route> {
        self.routes.iter().find(|route| route.destination == *destination)
    }

    /// Where packets to a block go that is named, by itself or in a list. What a list says gives way to a route for the
    /// very block, and of two lists the first counts.
    pub fn by_block(&self, network: &Network<'_>) -> BTreeMap<Cidr, &RouteTarget> {
        let mut found = BTreeMap::new();
        for route in &self.routes {
            if let RouteDestination::Block(block) = route.destination {
                found.insert(block, &route.target);
            }
        }
        for route in &self.routes {
            let RouteDestination::List(list) = &route.destination else { continue };
            let list = network.view().prefix_lists.get(self.account, list);
            for block in list.into_iter().flat_map(|list| list.blocks()) {
                found.entry(block).or_insert(&route.target);
            }
        }
        found
    }

    /// All routes as they are now: first those of the VPC's own blocks.
    pub fn shown(&self, network: &Network<'_>) -> Vec<ShownRoute> {
        let vpc = network.vpc(&self.vpc);
        let blocks = vpc.iter().flat_map(|vpc| vpc.blocks());
        let local = blocks.map(|block| {
            let target = ShownTarget::Local;
            ShownRoute { destination: block.into(), target, is_active: true }
        });
        let routes = self.routes.iter().map(|route| ShownRoute {
            destination: route.destination.clone(),
            target: ShownTarget::Out(route.target.clone()),
            is_active: network.is_active(&self.vpc, &route.target),
        });
        let endpoints = network.users(self.id.as_str()).filter_map(|key| {
            let Key::VpcEndpoint(account, id) = key else { return None };
            network.view().vpc_endpoints.get(*account, id)
        });
        let endpoints = endpoints.filter_map(|row| {
            let list = gateway_list(&row.service)?;
            let target = ShownTarget::Endpoint(row.id.clone());
            let destination = RouteDestination::List(list);
            Some(ShownRoute { destination, target, is_active: true })
        });
        local.chain(routes).chain(endpoints).collect()
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
        let lists = self.routes.iter().filter_map(|route| match &route.destination {
            RouteDestination::Block(_) => None,
            RouteDestination::List(list) => Some(list.as_str()),
        });
        let uses = lists.chain([self.vpc.as_str()]);
        uses.map(|id| Index::Ec2Uses(self.account, id.into())).collect()
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
