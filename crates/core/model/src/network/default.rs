//! The default VPC as it comes, in the shape of the rows that it becomes when it is changed.

use std::fmt;
use std::sync::Arc;

use longshore_types::{AccountId, DhcpOptionsId, RegionName};
use serde::{Deserialize, Serialize};

use super::acl::anywhere;
use super::{
    DhcpOptions, InternetGateway, NetworkAcl, Route, RouteTable, RouteTarget, SubnetAcl, SubnetRow,
    VpcBlock, VpcRow,
};
use crate::rows::Row;
use crate::table::Record;
use crate::vpc::AddressPlan;

/// An account's default VPC and all that comes with it. The same plan, account and region give the same.
#[derive(Clone, Debug)]
pub struct DefaultNetwork {
    pub vpc: Arc<VpcRow>,
    pub subnets: Vec<Arc<SubnetRow>>,
    pub table: Arc<RouteTable>,
    pub gateway: Arc<InternetGateway>,
    pub acl: Arc<NetworkAcl>,
    pub dhcp: Arc<DhcpOptions>,
}

impl DefaultNetwork {
    /// All of it, but for its group, which is a row by itself once it is changed.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.subnets.iter().map(|it| Arc::clone(it).into()).collect();
        rows.push(Arc::clone(&self.vpc).into());
        rows.push(Arc::clone(&self.table).into());
        rows.push(Arc::clone(&self.gateway).into());
        rows.push(Arc::clone(&self.acl).into());
        rows.push(Arc::clone(&self.dhcp).into());
        rows
    }
}

/// That an account's default VPC, as it came, was deleted. One that was made in its place is rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefaultVpcGone {
    pub account: AccountId,
}

/// The name of an account's only [`DefaultVpcGone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DefaultVpcGoneId;

impl fmt::Display for DefaultVpcGoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("default")
    }
}

impl Record for DefaultVpcGone {
    type Id = DefaultVpcGoneId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> DefaultVpcGoneId {
        DefaultVpcGoneId
    }
}

impl AddressPlan {
    /// An account's default VPC as it comes.
    pub fn default_network(&self, account: AccountId, region: &RegionName) -> DefaultNetwork {
        const PARSES: &str = "a prefix and seventeen hexadecimal digits are an id";
        let vpc = self.default_vpc(account, region);
        let digits = vpc.id.as_str().trim_start_matches("vpc-");
        let of_vpc = |kind: &str| format!("{kind}-{digits}");
        let dhcp: DhcpOptionsId = vpc.dhcp_options.parse().expect(PARSES);
        let acl = NetworkAcl::open(account, of_vpc("acl").parse().expect(PARSES), vpc.id.clone());
        let subnets = vpc.subnets.iter().map(|subnet| {
            let digits = subnet.id.as_str().trim_start_matches("subnet-");
            let association = format!("aclassoc-{digits}").parse().expect(PARSES);
            Arc::new(SubnetRow {
                account,
                id: subnet.id.clone(),
                vpc: vpc.id.clone(),
                block: subnet.block,
                zone: subnet.zone.clone(),
                zone_id: subnet.zone_id.clone(),
                map_public_ip: true,
                table: None,
                acl: SubnetAcl { association, acl: acl.id.clone() },
                is_default: true,
            })
        });
        let subnets = subnets.collect();
        let gateway = InternetGateway {
            account,
            id: of_vpc("igw").parse().expect(PARSES),
            vpc: Some(vpc.id.clone()),
        };
        let out = RouteTarget::InternetGateway(gateway.id.clone());
        let table = RouteTable {
            account,
            id: of_vpc("rtb").parse().expect(PARSES),
            vpc: vpc.id.clone(),
            routes: vec![Route { destination: anywhere().into(), target: out }],
        };
        let row = VpcRow {
            account,
            id: vpc.id.clone(),
            first: VpcBlock {
                association: of_vpc("vpc-cidr-assoc").parse().expect(PARSES),
                block: vpc.block,
            },
            secondary: vec![],
            dns_support: true,
            dns_hostnames: true,
            dhcp_options: Some(dhcp.clone()),
            main_table: table.id.clone(),
            main_association: of_vpc("rtbassoc").parse().expect(PARSES),
            default_acl: acl.id.clone(),
            default_group: vpc.security_group.clone(),
            is_default: true,
        };
        let domain = match region.as_str() {
            "us-east-1" => "ec2.internal".to_owned(),
            other => format!("{other}.compute.internal"),
        };
        let options =
            [("domain-name", domain), ("domain-name-servers", "AmazonProvidedDNS".into())];
        let options = options.map(|(key, value)| (key.to_owned(), vec![value])).into();
        DefaultNetwork {
            vpc: Arc::new(row),
            subnets,
            table: Arc::new(table),
            gateway: Arc::new(gateway),
            acl: Arc::new(acl),
            dhcp: Arc::new(DhcpOptions { account, id: dhcp, options }),
        }
    }
}
