//! What of EC2's can have tags: known by the prefix of its id.

use aws_wire::Caller;
use longshore_types::{SecurityGroupId, SecurityGroupRuleId};
use model::View;

use crate::Ec2;
use crate::errors::{Kind, Refusal};
use crate::interfaces;
use crate::peerings;

/// A kind of resource that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Vpc,
    Subnet,
    SecurityGroup,
    SecurityGroupRule,
    RouteTable,
    InternetGateway,
    NatGateway,
    Address,
    NetworkAcl,
    DhcpOptions,
    NetworkInterface,
    PrefixList,
    VpcEndpoint,
    FlowLog,
    VpcPeering,
}

impl Resource {
    const ALL: [(Self, &str, &str); 15] = [
        (Self::VpcPeering, "pcx", "vpc-peering-connection"),
        (Self::FlowLog, "fl", "vpc-flow-log"),
        (Self::VpcEndpoint, "vpce", "vpc-endpoint"),
        (Self::PrefixList, "pl", "prefix-list"),
        (Self::RouteTable, "rtb", "route-table"),
        (Self::InternetGateway, "igw", "internet-gateway"),
        (Self::NatGateway, "nat", "natgateway"),
        (Self::Address, "eipalloc", "elastic-ip"),
        (Self::NetworkAcl, "acl", "network-acl"),
        (Self::DhcpOptions, "dopt", "dhcp-options"),
        (Self::NetworkInterface, "eni", "network-interface"),
        (Self::Vpc, "vpc", "vpc"),
        (Self::Subnet, "subnet", "subnet"),
        (Self::SecurityGroup, "sg", "security-group"),
        (Self::SecurityGroupRule, "sgr", "security-group-rule"),
    ];

    pub(crate) fn of(id: &str) -> Result<Self, Refusal> {
        let prefix = id.split_once('-').map_or("", |(prefix, _)| prefix);
        let found = Self::ALL.iter().find(|(_, known, _)| *known == prefix);
        found.map(|(kind, ..)| *kind).ok_or_else(|| Refusal::UnknownResource(id.to_owned()))
    }

    /// As ARNs and DescribeTags have it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Vpc => "vpc",
            Self::Subnet => "subnet",
            Self::SecurityGroup => "security-group",
            Self::SecurityGroupRule => "security-group-rule",
            Self::RouteTable => "route-table",
            Self::InternetGateway => "internet-gateway",
            Self::NatGateway => "natgateway",
            Self::Address => "elastic-ip",
            Self::NetworkAcl => "network-acl",
            Self::DhcpOptions => "dhcp-options",
            Self::NetworkInterface => "network-interface",
            Self::PrefixList => "prefix-list",
            Self::VpcEndpoint => "vpc-endpoint",
            Self::FlowLog => "vpc-flow-log",
            Self::VpcPeering => "vpc-peering-connection",
        }
    }

    pub(crate) fn arn(self, caller: &Caller, id: &str) -> String {
        format!("arn:aws:ec2:{}:{}:{}/{id}", caller.region, caller.account, self.word())
    }

    pub(crate) fn check_is_there(
        self,
        ec2: &Ec2,
        view: &View,
        caller: &Caller,
        id: &str,
    ) -> Result<(), Refusal> {
        let account = caller.account;
        let network = ec2.control.network(view, account);
        let (is_there, kind) = match self {
            Self::Vpc => (is(id, |id| network.vpc(id).is_some()), Kind::Vpc),
            Self::Subnet => (is(id, |id| network.subnet(id).is_some()), Kind::Subnet),
            Self::RouteTable => (is(id, |id| network.table(id).is_some()), Kind::RouteTable),
            Self::InternetGateway => {
                (is(id, |id| network.gateway(id).is_some()), Kind::InternetGateway)
            }
            Self::NatGateway => {
                (is(id, |id| view.nat_gateways.get(account, id).is_some()), Kind::NatGateway)
            }
            Self::Address => {
                (is(id, |id| view.elastic_addresses.get(account, id).is_some()), Kind::Address)
            }
            Self::NetworkAcl => (is(id, |id| network.acl(id).is_some()), Kind::NetworkAcl),
            Self::DhcpOptions => (is(id, |id| network.dhcp(id).is_some()), Kind::DhcpOptions),
            Self::NetworkInterface => {
                (is(id, |id| interfaces::find(&network, id).is_some()), Kind::NetworkInterface)
            }
            Self::PrefixList => {
                (is(id, |id| view.prefix_lists.get(account, id).is_some()), Kind::PrefixList)
            }
            Self::FlowLog => {
                (is(id, |id| view.flow_logs.get(account, id).is_some()), Kind::FlowLog)
            }
            Self::VpcPeering => {
                let row = |id: &_| view.peering_of(account, id);
                let is_there = |id: &_| {
                    row(id).is_some_and(|row| peerings::is_shown(row, account, caller.now))
                };
                (is(id, is_there), Kind::VpcPeering)
            }
            Self::VpcEndpoint => {
                (is(id, |id| view.vpc_endpoints.get(account, id).is_some()), Kind::VpcEndpoint)
            }
            Self::SecurityGroup => {
                let parsed = id.parse::<SecurityGroupId>().ok();
                let found = parsed.and_then(|id| view.security_group(account, &id));
                (found.is_some(), Kind::SecurityGroup)
            }
            Self::SecurityGroupRule => {
                let parsed = id.parse::<SecurityGroupRuleId>().ok();
                let found = parsed.and_then(|id| view.security_group_rule(account, &id));
                (found.is_some(), Kind::Rule)
            }
        };
        if is_there { Ok(()) } else { Err(Refusal::Missing(kind, id.to_owned())) }
    }
}

/// Whether an id is well formed, and one of what is there.
fn is<T: std::str::FromStr>(id: &str, is_there: impl Fn(&T) -> bool) -> bool {
    id.parse().ok().is_some_and(|id| is_there(&id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_known_by_its_ids_prefix() {
        for (kind, prefix, word) in Resource::ALL {
            assert_eq!(Resource::of(&format!("{prefix}-12345678")), Ok(kind));
            assert_eq!(kind.word(), word);
        }
        for id in ["i-12345678", "sg", ""] {
            assert_eq!(Resource::of(id), Err(Refusal::UnknownResource(id.to_owned())));
        }
    }
}
