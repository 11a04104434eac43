//! The default VPC: its addresses, subnets, default security group, and the interfaces in them.
//!
//! All accounts of a region draw on one range of addresses, because every host routes between all
//! its tasks; each account sees a VPC of its own, with ids of its own, over that range. The ids follow
//! from the account and the region's [`AddressPlan`], so that looking at them writes nothing.
//!
//! **Invariant:** an address of a VPC belongs to one interface. The row's key is the address itself, so that
//! two decisions that pick the same one collide in the store.

use std::fmt;
use std::net::Ipv4Addr;

use longshore_types::{
    AccountId, ClusterName, EniId, NatGatewayId, RegionName, Scope, SecurityGroupId, SubnetId,
    TaskId, Timestamp, Uuid, VpcEndpointId, VpcId,
};
pub use longshore_types::{Cidr, NotACidr};
use serde::{Deserialize, Serialize};

use crate::elb::ElbPath;
use crate::table::Record;
use crate::view::Index;

/// How many zones a region has.
pub const ZONES: usize = 3;
/// Length of a default subnet's prefix.
pub const SUBNET_PREFIX: u8 = 20;
/// Addresses at a subnet's start that nobody gets: network, router, DNS, and one kept back.
const RESERVED_FIRST: u32 = 4;

/// The account under which rows are kept that belong to the region as a whole.
pub fn region_account() -> AccountId {
    "000000000000".parse().expect("twelve digits are an account id")
}

/// What the region's addresses and network ids follow from. One row, written at first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressPlan {
    pub block: Cidr,
    /// Where bridged containers' addresses are from. Regions of before 0.3 left that to their agent.
    #[serde(default)]
    pub bridge: Option<Cidr>,
    /// Makes this region's ids differ from every other region's.
    pub seed: u64,
}

/// The name of the only [`AddressPlan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AddressPlanId;

impl fmt::Display for AddressPlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("default")
    }
}

impl Record for AddressPlan {
    type Id = AddressPlanId;

    fn account(&self) -> AccountId {
        region_account()
    }

    fn id(&self) -> AddressPlanId {
        AddressPlanId
    }
}

impl AddressPlan {
    /// The network part of an account.
    pub fn default_vpc(&self, account: AccountId, region: &RegionName) -> Vpc {
        let id = |kind: &str, number: usize| self.id_digits(account, kind, number);
        let parse = "a prefix and seventeen hexadecimal digits are an id";
        let subnets = (0..ZONES).map(|number| {
            let offset = u32::try_from(number).unwrap_or(0) << (32 - SUBNET_PREFIX);
            let first = Ipv4Addr::from_bits(self.block.first().to_bits() + offset);
            let letter = char::from(b"abc"[number]);
            Subnet {
                id: format!("subnet-{}", id("subnet", number)).parse().expect(parse),
                block: Cidr::new(first, SUBNET_PREFIX).expect("20 bits are a prefix"),
                zone: format!("{region}{letter}"),
                zone_id: format!("{}-az{}", zone_id_stem(region), number + 1),
            }
        });
        Vpc {
            id: format!("vpc-{}", id("vpc", 0)).parse().expect(parse),
            block: self.block,
            subnets: subnets.collect(),
            security_group: format!("sg-{}", id("sg", 0)).parse().expect(parse),
            dhcp_options: format!("dopt-{}", id("dopt", 0)),
            is_default: true,
        }
    }

    /// What hosts call the range that the default VPCs of all accounts share.
    pub fn shared_vpc(&self, region: &RegionName) -> VpcId {
        self.default_vpc(region_account(), region).id
    }

    /// Whether a VPC is an account's default one.
    pub fn is_default_vpc(&self, account: AccountId, vpc: &VpcId) -> bool {
        let digits = vpc.as_str().strip_prefix("vpc-");
        digits.is_some_and(|digits| digits == self.id_digits(account, "vpc", 0))
    }

    /// Seventeen digits that follow from the plan, the account and what they are for.
    pub(crate) fn id_digits(&self, account: AccountId, kind: &str, number: usize) -> String {
        // FNV-1a, finished as SplitMix64 does: ids need to differ, not to be secret.
        let number = u8::try_from(number).unwrap_or(u8::MAX);
        let bytes = account.as_str().bytes().chain(kind.bytes()).chain([number]);
        let mut z = bytes.fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        format!("0{:016x}", z ^ (z >> 31))
    }
}

/// What a zone such as `us-east-1a` is called in every account: `use1-az1`.
pub fn zone_id_of(region: &RegionName, zone: &str) -> String {
    let letter = zone.strip_prefix(region.as_str()).and_then(|rest| rest.bytes().next());
    let number = u32::from(letter.unwrap_or(b'a').to_ascii_lowercase().saturating_sub(b'a')) + 1;
    format!("{}-az{number}", zone_id_stem(region))
}

/// `us-east-1` is `use1` in the ids of zones.
fn zone_id_stem(region: &RegionName) -> String {
    let mut parts = region.as_str().split('-');
    let area = parts.next().unwrap_or_default();
    let rest = parts.map(|part| match part {
        "northeast" => "ne",
        "northwest" => "nw",
        "southeast" => "se",
        "southwest" => "sw",
        "central" | "gov" | "iso" | "isob" => part,
        other => &other[..other.len().min(1)],
    });
    let short = rest.map(|part| if part == "central" { "c" } else { part });
    std::iter::once(area).chain(short).collect()
}

/// A VPC with its subnets, as those see it who put interfaces there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpc {
    pub id: VpcId,
    pub block: Cidr,
    pub subnets: Vec<Subnet>,
    /// The group `default`: members reach each other, the host reaches all, all egress.
    pub security_group: SecurityGroupId,
    pub dhcp_options: String,
    pub is_default: bool,
}

impl Vpc {
    pub fn subnet(&self, id: &SubnetId) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.id == *id)
    }

    /// The address of the resolver: the second of the block, as in AWS.
    pub fn dns(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.block.first().to_bits() + 2)
    }
}

/// A subnet, which lies in one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub id: SubnetId,
    pub block: Cidr,
    pub zone: String,
    pub zone_id: String,
}

impl Subnet {
    /// The first address, which is the router's.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.block.first().to_bits() + 1)
    }

    /// How many addresses interfaces can have.
    pub fn usable(&self) -> u64 {
        self.block.size() - u64::from(RESERVED_FIRST) - 1
    }

    /// Whether an interface can have an address.
    pub fn is_usable(&self, address: Ipv4Addr) -> bool {
        let offset = address.to_bits().checked_sub(self.block.first().to_bits());
        let is_reserved = offset.is_none_or(|offset| offset < RESERVED_FIRST);
        self.block.contains(address) && !is_reserved && address != self.block.last()
    }

    /// A free address. The search starts at a place that `seed` decides, so that an address just
    /// freed is not given out again at once and two placers seldom pick the same.
    pub fn free_address(&self, seed: u64, is_taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let usable = self.usable();
        (0..usable).find_map(|step| {
            let offset = u32::try_from((seed % usable + step) % usable).ok()?;
            let bits = self.block.first().to_bits() + RESERVED_FIRST + offset;
            let address = Ipv4Addr::from_bits(bits);
            (!is_taken(address)).then_some(address)
        })
    }
}

/// A locally administered hardware address that follows from the interface's address.
pub fn mac_of(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:a5:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// `ip-172-31-0-4.eu-north-1.compute.internal`
pub fn private_dns_name(address: Ipv4Addr, region: &RegionName) -> String {
    let [a, b, c, d] = address.octets();
    if region.as_str() == "us-east-1" {
        return format!("ip-{a}-{b}-{c}-{d}.ec2.internal");
    }
    format!("ip-{a}-{b}-{c}-{d}.{region}.compute.internal")
}

/// `ec2-198-18-0-4.eu-north-1.compute.amazonaws.com`
pub fn public_dns_name(address: Ipv4Addr, region: &RegionName) -> String {
    let [a, b, c, d] = address.octets();
    let of_region = match region.as_str() {
        "us-east-1" => "compute-1".to_owned(),
        other => format!("{other}.compute"),
    };
    format!("ec2-{a}-{b}-{c}-{d}.{of_region}.amazonaws.com")
}

/// What an interface is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum InterfaceUser {
    Task {
        cluster: ClusterName,
        task: TaskId,
        attachment: Uuid,
    },
    /// By its path: `app/web/50dc6c495c0c9188`.
    Balancer {
        balancer: ElbPath,
    },
    NatGateway {
        #[serde(rename = "natGateway")]
        nat_gateway: NatGatewayId,
    },
    VpcEndpoint {
        #[serde(rename = "vpcEndpoint")]
        vpc_endpoint: VpcEndpointId,
    },
    /// Somebody who made it as such, for nothing yet.
    Person {
        description: String,
        #[serde(rename = "checksSource")]
        checks_source: bool,
    },
    /// The interface whose own address this is, which has one more by this row: the two have one id, and what else an
    /// interface has is on the row of its own address. Only those that somebody made have more than one.
    Secondary {
        primary: Ipv4Addr,
    },
}

impl fmt::Display for InterfaceUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task { task, .. } => write!(f, "task {task}"),
            Self::Balancer { balancer } => write!(f, "load balancer {balancer}"),
            Self::NatGateway { nat_gateway } => write!(f, "NAT gateway {nat_gateway}"),
            Self::VpcEndpoint { vpc_endpoint } => write!(f, "VPC endpoint {vpc_endpoint}"),
            Self::Person { .. } | Self::Secondary { .. } => f.write_str("nothing that runs"),
        }
    }
}

impl Interface {
    pub fn is_balancers(&self) -> bool {
        matches!(self.user, InterfaceUser::Balancer { .. })
    }

    /// Whether it is a balancer's or an endpoint's: no task brings them to a host. They are on the region's own machine, where
    /// the process is that serves them, unless the balancer's row says another.
    pub fn is_at_home(&self) -> bool {
        match self.user {
            InterfaceUser::Balancer { .. } | InterfaceUser::VpcEndpoint { .. } => true,
            InterfaceUser::Task { .. }
            | InterfaceUser::NatGateway { .. }
            | InterfaceUser::Person { .. }
            | InterfaceUser::Secondary { .. } => false,
        }
    }

    /// Whether it is another address of an interface than its own.
    pub fn is_secondary(&self) -> bool {
        matches!(self.user, InterfaceUser::Secondary { .. })
    }

    /// The task that it is of.
    pub fn task(&self) -> Option<TaskId> {
        match &self.user {
            InterfaceUser::Task { task, .. } => Some(*task),
            InterfaceUser::Balancer { .. }
            | InterfaceUser::NatGateway { .. }
            | InterfaceUser::VpcEndpoint { .. }
            | InterfaceUser::Person { .. }
            | InterfaceUser::Secondary { .. } => None,
        }
    }
}

/// An elastic network interface that exists. It goes when its task has stopped, or with its balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    pub address: Ipv4Addr,
    pub eni: EniId,
    pub owner: Scope,
    /// Whose it is.
    #[serde(flatten)]
    pub user: InterfaceUser,
    pub vpc: VpcId,
    pub subnet: SubnetId,
    pub security_groups: Vec<SecurityGroupId>,
    pub zone: String,
    pub mac: String,
    pub assign_public_ip: bool,
    pub created_at: Timestamp,
    /// Whether its VPC has addresses of its own, so that another VPC may have the same; the default VPCs of all
    /// accounts share theirs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_apart: bool,
    /// Of the region's pool: its own for as long as it is there. An Elastic IP address goes before it
    /// ([`View::public_address_of`](crate::View::public_address_of)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<Ipv4Addr>,
}

/// An interface's address, and within what it is one interface's alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId {
    /// A VPC with addresses of its own; none: what the default VPCs of all accounts share.
    pub vpc: Option<VpcId>,
    pub address: Ipv4Addr,
}

impl InterfaceId {
    /// An address of what the default VPCs of all accounts share.
    pub fn shared(address: Ipv4Addr) -> Self {
        Self { vpc: None, address }
    }
}

impl fmt::Display for InterfaceId {
    /// `172.31.0.4`, or `vpc-0123456789abcdef0/10.0.0.4`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.vpc {
            Some(vpc) => write!(f, "{vpc}/{}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

impl Record for Interface {
    type Id = InterfaceId;

    /// The region's: two accounts may not have the same address either.
    fn account(&self) -> AccountId {
        region_account()
    }

    fn id(&self) -> InterfaceId {
        InterfaceId { vpc: self.is_apart.then(|| self.vpc.clone()), address: self.address }
    }

    fn indexes(&self) -> Vec<Index> {
        let account = self.owner.account;
        let groups = self.security_groups.iter();
        let groups = groups.map(|group| Index::GroupInterfaces(account, group.clone()));
        let subnet = Index::SubnetInterfaces(account, self.subnet.clone());
        let eni = Index::Eni(account, self.eni.clone());
        // Those of tasks of the default VPC are the many, and looked for by nobody.
        let eni = (self.is_apart || self.task().is_none()).then_some(eni);
        let public = self.public.into_iter().flat_map(|address| {
            [Index::PublicAddress(address), Index::VpcAddresses(account, self.vpc.clone())]
        });
        groups.chain([subnet]).chain(eni).chain(public).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn plan() -> AddressPlan {
        AddressPlan { block: cidr("172.31.0.0/16"), bridge: None, seed: 7 }
    }

    #[test]
    fn accounts_have_ids_of_their_own_and_they_stay() {
        let region: RegionName = "us-east-1".parse().unwrap();
        let [a, b] = ["000000000000", "111111111111"].map(|id| id.parse().unwrap());
        let first = plan().default_vpc(a, &region);
        assert_eq!(first, plan().default_vpc(a, &region));
        assert!(plan().is_default_vpc(a, &first.id) && !plan().is_default_vpc(b, &first.id));
        let second = plan().default_vpc(b, &region);
        assert_ne!(first.id, second.id);
        let subnets = first.subnets.iter().chain(&second.subnets).map(|s| s.id.clone());
        assert_eq!(subnets.collect::<BTreeSet<_>>().len(), 6);
        assert_eq!(first.subnets[1].block, cidr("172.31.16.0/20"));
        assert_eq!(first.subnets[2].zone, "us-east-1c");
        assert_eq!(first.subnets[2].zone_id, "use1-az3");
        assert_eq!(first.subnets[0].gateway(), Ipv4Addr::new(172, 31, 0, 1));
        assert_eq!(first.dns(), Ipv4Addr::new(172, 31, 0, 2));
    }

    #[test]
    fn every_address_but_the_reserved_ones_is_given_out_once() {
        let region: RegionName = "eu-north-1".parse().unwrap();
        let vpc = plan().default_vpc(region_account(), &region);
        let subnet = &vpc.subnets[0];
        let mut taken = BTreeSet::new();
        while let Some(address) = subnet.free_address(4000, |a| taken.contains(&a)) {
            assert!(subnet.block.contains(address));
            assert!(taken.insert(address));
        }
        assert_eq!(u64::try_from(taken.len()).unwrap(), subnet.usable());
        assert_eq!(subnet.usable(), 4091);
        assert_eq!(taken.first(), Some(&Ipv4Addr::new(172, 31, 0, 4)));
        assert_eq!(taken.last(), Some(&Ipv4Addr::new(172, 31, 15, 254)));
    }

    #[test]
    fn a_block_is_written_with_its_first_address() {
        assert!("172.31.0.1/16".parse::<Cidr>().is_err());
        assert!("172.31.0.0/33".parse::<Cidr>().is_err());
        assert_eq!(cidr("0.0.0.0/0").last(), Ipv4Addr::BROADCAST);
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.3.0.0/16")));
        assert!(!cidr("10.0.0.0/16").overlaps(cidr("10.1.0.0/16")));
    }
}
