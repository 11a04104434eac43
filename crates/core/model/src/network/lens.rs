//! An account's network as it is: the rows, and among them the default VPC while nobody has changed it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_types::{
    AccountId, DhcpOptionsId, InternetGatewayId, NetworkAclId, RegionName, RouteTableId, SubnetId,
    VpcId,
};

use super::{
    DefaultNetwork, DefaultVpcGoneId, DhcpOptions, InternetGateway, NatState, NetworkAcl,
    RouteTable, RouteTarget, SubnetRow, VpcRow,
};
use crate::rows::{Key, View};
use crate::view::Index;
use crate::vpc::{AddressPlanId, InterfaceId, Subnet, Vpc, region_account};

/// An account's VPCs and what is in them, on one view.
#[derive(Debug)]
pub struct Network<'v> {
    view: &'v View,
    account: AccountId,
    /// The default VPC as it comes.
    plan: Option<DefaultNetwork>,
    /// Whether it is so still. Once it is changed all of it is rows, and it may be gone.
    is_unchanged: bool,
}

/// One of a kind by its id, and all of it by id: those that are rows, and those that are derived.
macro_rules! kinds {
    ($($(#[$doc:meta])* $one:ident, $all:ident: $row:ty, $id:ty, $table:ident, $derived:expr;)*) => {
        impl Network<'_> {
            $(
                $(#[$doc])*
                pub fn $one(&self, id: &$id) -> Option<Arc<$row>> {
                    let stored = self.view.$table.get(self.account, id).cloned();
                    let derived = || {
                        let derived: fn(&DefaultNetwork) -> &[Arc<$row>] = $derived;
                        let all = self.unchanged_default().map(derived).unwrap_or_default();
                        all.iter().find(|row| row.id == *id).cloned()
                    };
                    stored.or_else(derived)
                }

                /// All of them, by id.
                pub fn $all(&self) -> Vec<Arc<$row>> {
                    let derived: fn(&DefaultNetwork) -> &[Arc<$row>] = $derived;
                    let derived = self.unchanged_default().map(derived).unwrap_or_default();
                    let stored = self.view.$table.of(self.account).cloned();
                    let mut all: Vec<_> = stored.chain(derived.iter().cloned()).collect();
                    all.sort_by(|a, b| a.id.cmp(&b.id));
                    all
                }
            )*
        }
    };
}

kinds! {
    /// A VPC of the account.
    vpc, vpcs: VpcRow, VpcId, vpcs, |it| std::slice::from_ref(&it.vpc);
    /// A subnet of the account.
    subnet, subnets: SubnetRow, SubnetId, subnets, |it| &it.subnets;
    /// A route table of the account.
    table, tables: RouteTable, RouteTableId, route_tables, |it| std::slice::from_ref(&it.table);
    /// An internet gateway of the account.
    gateway, gateways: InternetGateway, InternetGatewayId, internet_gateways, |it| std::slice::from_ref(&it.gateway);
    /// A network ACL of the account.
    acl, acls: NetworkAcl, NetworkAclId, network_acls, |it| std::slice::from_ref(&it.acl);
    /// A set of DHCP options of the account.
    dhcp, all_dhcp: DhcpOptions, DhcpOptionsId, dhcp_options, |it| std::slice::from_ref(&it.dhcp);
}

impl<'v> Network<'v> {
    pub fn new(view: &'v View, account: AccountId, region: &RegionName) -> Self {
        let plan = view.address_plans.get(region_account(), &AddressPlanId);
        let plan = plan.map(|plan| plan.default_network(account, region));
        let is_unchanged = view.default_vpcs_gone.get(account, &DefaultVpcGoneId).is_none()
            && !view.vpcs.of(account).any(|row| row.is_default);
        Self { view, account, plan, is_unchanged }
    }

    pub fn view(&self) -> &'v View {
        self.view
    }

    pub fn account(&self) -> AccountId {
        self.account
    }

    /// The default VPC; none where it was deleted, nor before the region has chosen its addresses.
    pub fn default_vpc(&self) -> Option<Arc<VpcRow>> {
        if let Some(unchanged) = self.unchanged_default() {
            return Some(Arc::clone(&unchanged.vpc));
        }
        self.view.vpcs.of(self.account).find(|row| row.is_default).cloned()
    }

    /// The default VPC while it is as it came.
    pub fn unchanged_default(&self) -> Option<&DefaultNetwork> {
        self.plan.as_ref().filter(|_| self.is_unchanged)
    }

    /// The default VPC as it comes, whatever became of it; none before the region has chosen its addresses.
    pub fn default_as_it_comes(&self) -> Option<&DefaultNetwork> {
        self.plan.as_ref()
    }

    /// Whether a VPC is the default one.
    pub fn is_default(&self, vpc: &VpcId) -> bool {
        self.default_vpc().is_some_and(|default| default.id == *vpc)
    }

    /// The names and ids of the region's zones.
    pub fn zones(&self) -> impl Iterator<Item = (&str, &str)> {
        let subnets = self.plan.iter().flat_map(|plan| &plan.subnets);
        subnets.map(|subnet| (subnet.zone.as_str(), subnet.zone_id.as_str()))
    }

    /// The rows that name a thing of the network by its id, and cannot be without it.
    pub fn users(&self, id: &str) -> impl Iterator<Item = &'v Key> + use<'v> {
        self.view.members(&Index::Ec2Uses(self.account, id.into()))
    }

    /// The subnets of a VPC, by id.
    pub fn subnets_of(&self, vpc: &VpcId) -> Vec<Arc<SubnetRow>> {
        if let Some(default) = self.unchanged_default().filter(|it| it.vpc.id == *vpc) {
            let mut subnets = default.subnets.clone();
            subnets.sort_by(|a, b| a.id.cmp(&b.id));
            return subnets;
        }
        let users = self.users(vpc.as_str());
        let subnets = users.filter_map(|key| {
            let Key::Subnet(account, id) = key else { return None };
            self.view.subnets.get(*account, id).cloned()
        });
        subnets.collect()
    }

    /// A VPC with its subnets, as those see it who put interfaces there.
    pub fn whole_vpc(&self, id: &VpcId) -> Option<Vpc> {
        let row = self.vpc(id)?;
        let subnets = self.subnets_of(id);
        let subnets = subnets.iter().map(|row| Subnet {
            id: row.id.clone(),
            block: row.block,
            zone: row.zone.clone(),
            zone_id: row.zone_id.clone(),
        });
        Some(Vpc {
            id: row.id.clone(),
            block: row.first.block,
            subnets: subnets.collect(),
            security_group: row.default_group.clone(),
            dhcp_options: row.dhcp_options.as_ref().map_or("default", |id| id.as_str()).to_owned(),
            is_default: row.is_default,
        })
    }

    /// The route table by which packets of a subnet go.
    pub fn table_of(&self, subnet: &SubnetRow) -> Option<Arc<RouteTable>> {
        match &subnet.table {
            Some(own) => self.table(&own.table),
            None => self.table(&self.vpc(&subnet.vpc)?.main_table),
        }
    }

    /// Whether a route's target takes packets of a VPC.
    pub fn is_active(&self, vpc: &VpcId, target: &RouteTarget) -> bool {
        match target {
            RouteTarget::InternetGateway(id) => {
                self.gateway(id).is_some_and(|gateway| gateway.vpc.as_ref() == Some(vpc))
            }
            RouteTarget::NatGateway(id) => {
                let gateway = self.view.nat_gateways.get(self.account, id);
                gateway.is_some_and(|it| it.state == NatState::Available && it.vpc == *vpc)
            }
            RouteTarget::VpcPeering(id) => {
                let peering = self.view.peering_of(self.account, id);
                peering.is_some_and(|it| it.is_active() && it.seen_from(vpc).is_some())
            }
        }
    }

    /// The name of an address among those of its VPC.
    pub fn interface_id(vpc: &Vpc, address: Ipv4Addr) -> InterfaceId {
        InterfaceId { vpc: (!vpc.is_default).then(|| vpc.id.clone()), address }
    }
}

#[cfg(test)]
mod tests {
    use super::super::DefaultVpcGone;
    use super::*;
    use crate::rows::Row;
    use crate::view::Seq;
    use crate::vpc::AddressPlan;

    #[test]
    fn a_default_network_is_there_without_a_row_and_fits_together() {
        let mut view = View::default();
        let block = "172.31.0.0/16".parse().unwrap();
        view.put(Seq(1), &Row::from(AddressPlan { block, bridge: None, seed: 7 }));
        let account: AccountId = "111111111111".parse().unwrap();
        let region: RegionName = "eu-north-1".parse().unwrap();
        let network = Network::new(&view, account, &region);
        let vpc = network.vpcs().remove(0);
        assert!(vpc.is_default);
        let whole = network.whole_vpc(&vpc.id).unwrap();
        assert_eq!(whole.subnets.len(), 3);
        for subnet in network.subnets() {
            let table = network.table_of(&subnet).unwrap();
            let shown = table.shown(&network);
            assert_eq!(shown.len(), 2, "local, and the way out");
            assert!(shown.iter().all(|route| route.is_active));
            assert!(network.acl(&subnet.acl.acl).unwrap().is_default);
            assert_eq!(network.subnet(&subnet.id), Some(subnet));
        }
        assert!(view.security_group(account, &vpc.default_group).is_some());
        assert!(network.dhcp(vpc.dhcp_options.as_ref().unwrap()).is_some());
    }

    #[test]
    fn rows_take_the_place_of_a_default_network_that_was_changed_and_nothing_is_left_of_one_that_is_gone()
     {
        let mut view = View::default();
        let block = "172.31.0.0/16".parse().unwrap();
        view.put(Seq(1), &Row::from(AddressPlan { block, bridge: None, seed: 7 }));
        let [account, other]: [AccountId; 2] =
            ["111111111111", "222222222222"].map(|id| id.parse().unwrap());
        let region: RegionName = "eu-north-1".parse().unwrap();
        let network = Network::new(&view, account, &region);
        let default = network.unchanged_default().unwrap().clone();
        let shown = (network.vpcs(), network.subnets(), network.tables(), network.gateways());
        let mut changed = view.clone();
        default.rows().iter().for_each(|row| drop(changed.put(Seq(2), row)));
        let network = Network::new(&changed, account, &region);
        assert!(network.unchanged_default().is_none());
        assert_eq!(network.default_vpc().unwrap(), default.vpc);
        let now = (network.vpcs(), network.subnets(), network.tables(), network.gateways());
        assert_eq!(now, shown, "each once, and as before");
        assert_eq!(network.subnets_of(&default.vpc.id).len(), 3);
        assert_eq!(changed.own_vpc(account, &default.vpc.id), None, "the range is the region's");
        assert!(changed.security_group(account, &default.vpc.default_group).is_some());
        assert!(Network::new(&changed, other, &region).unchanged_default().is_some());

        for row in default.rows() {
            changed.remove(Seq(3), &row.key());
        }
        changed.put(Seq(4), &Row::from(DefaultVpcGone { account }));
        let network = Network::new(&changed, account, &region);
        assert!(network.default_vpc().is_none() && network.vpcs().is_empty());
        assert!(network.subnets().is_empty() && network.acls().is_empty());
        assert!(changed.security_groups_of(account).is_empty());
        assert_eq!(network.zones().count(), 3, "those are the region's");
    }
}
