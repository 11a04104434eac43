use std::sync::Arc;

use control::testing::TestControl;
use ec2_api::{
    DescribeAvailabilityZonesRequest, DescribeInternetGatewaysRequest,
    DescribeNetworkInterfacesRequest, DescribeRouteTablesRequest, DescribeSecurityGroupsRequest,
    DescribeSubnetsRequest, DescribeVpcAttributeRequest, DescribeVpcsRequest,
    DescribeVpnGatewaysRequest, Ec2, Filter, VpcAttributeName,
};
use longshore_types::{Chain, ClusterName, EniId, TaskId, Timestamp, Uuid};
use model::View;
use model::vpc::{AddressPlan, Cidr, Interface, InterfaceUser, Subnet, mac_of};
use store::Batch;

use crate::prepare_network;

struct TestEc2 {
    ec2: crate::Ec2,
    core: TestControl,
}

impl TestEc2 {
    fn new() -> Self {
        let core = TestControl::new();
        Self { ec2: crate::Ec2::new(Arc::clone(&core.control)), core }
    }

    fn root(&self) -> aws_wire::Caller {
        self.core.root()
    }

    fn root_of(&self, account: &str) -> aws_wire::Caller {
        self.core.root_of(account)
    }
}

async fn world() -> TestEc2 {
    let world = TestEc2::new();
    prepare_network(&world.ec2.control, &[]).await.unwrap();
    world
}

fn filter(name: &str, value: &str) -> Option<Vec<Filter>> {
    let values = Some(vec![value.to_owned()]);
    Some(vec![Filter { name: Some(name.to_owned()), values }])
}

#[tokio::test]
async fn every_account_has_a_default_vpc_with_three_subnets() {
    let world = world().await;
    let mut ids = std::collections::BTreeSet::new();
    for account in ["000000000000", "111111111111"] {
        let caller = world.root_of(account);
        let vpcs = world.ec2.describe_vpcs(&caller, DescribeVpcsRequest::default()).await;
        let vpc = vpcs.unwrap().vpcs.unwrap().remove(0);
        assert_eq!(vpc.is_default, Some(true));
        assert!(ids.insert(vpc.vpc_id.clone().unwrap()));
        let filters = filter("vpc-id", vpc.vpc_id.as_deref().unwrap());
        let request = DescribeSubnetsRequest { filters, ..DescribeSubnetsRequest::default() };
        let subnets = world.ec2.describe_subnets(&caller, request).await.unwrap();
        let subnets = subnets.subnets.unwrap();
        assert_eq!(subnets.len(), 3);
        assert!(subnets.iter().all(|subnet| subnet.available_ip_address_count == Some(4091)));
        let zones: std::collections::BTreeSet<_> =
            subnets.iter().filter_map(|subnet| subnet.availability_zone.clone()).collect();
        assert_eq!(zones.len(), 3);
    }
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_id() {
    let world = world().await;
    let caller = world.root();
    let ids = Some(vec!["subnet-12345678".to_owned()]);
    let request = DescribeSubnetsRequest { subnet_ids: ids, ..DescribeSubnetsRequest::default() };
    let error = world.ec2.describe_subnets(&caller, request).await.unwrap_err();
    assert_eq!(error.code, "InvalidSubnetID.NotFound");
    assert_eq!(error.message, "The subnet ID 'subnet-12345678' does not exist");
    let ids = Some(vec!["sg-12345678".to_owned()]);
    let request = DescribeSecurityGroupsRequest {
        group_ids: ids,
        ..DescribeSecurityGroupsRequest::default()
    };
    let error = world.ec2.describe_security_groups(&caller, request).await.unwrap_err();
    assert_eq!(error.code, "InvalidGroup.NotFound");
}

#[tokio::test]
async fn a_filter_that_is_not_there_is_an_error_and_not_ignored() {
    let world = world().await;
    let filters = filter("colour", "red");
    let request = DescribeVpcsRequest { filters, ..DescribeVpcsRequest::default() };
    let error = world.ec2.describe_vpcs(&world.root(), request).await.unwrap_err();
    assert_eq!(error.message, "The filter 'colour' is invalid");
    let filters = filter("tag:Name", "x");
    let request = DescribeVpcsRequest { filters, ..DescribeVpcsRequest::default() };
    let none = world.ec2.describe_vpcs(&world.root(), request).await.unwrap();
    assert_eq!(none.vpcs, Some(vec![]));
}

#[tokio::test]
async fn zones_and_interfaces_are_described() {
    let world = world().await;
    let filters = filter("zone-name", "*b");
    let request =
        DescribeAvailabilityZonesRequest { filters, ..DescribeAvailabilityZonesRequest::default() };
    let zones = world.ec2.describe_availability_zones(&world.root(), request).await.unwrap();
    let zones = zones.availability_zones.unwrap();
    assert_eq!(zones.len(), 1);
    assert_eq!(zones[0].zone_name.as_deref(), Some("us-east-1b"));
    let request = DescribeNetworkInterfacesRequest::default();
    let none = world.ec2.describe_network_interfaces(&world.root(), request).await.unwrap();
    assert_eq!(none.network_interfaces, Some(vec![]));
}

fn cidrs(texts: &[&str]) -> Vec<Cidr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_region_without_tasks_gives_way_and_keeps_its_ids() {
    let world = TestEc2::new();
    let ec2 = &world.ec2;
    let vpc = || ec2.control.vpc(&ec2.control.view(), world.root().account).unwrap();
    let choose = async |taken: &[&str]| {
        let ranges = prepare_network(&ec2.control, &cidrs(taken)).await.unwrap();
        assert_eq!(ranges.vpc, vpc().block);
        (ranges.vpc.to_string(), ranges.bridge.to_string())
    };
    let pair = |vpc: &str, bridge: &str| (vpc.to_owned(), bridge.to_owned());
    assert_eq!(choose(&[]).await, pair("172.31.0.0/16", "172.30.0.0/20"));
    let first = vpc();
    assert_eq!(choose(&["192.0.2.0/24"]).await, pair("172.31.0.0/16", "172.30.0.0/20"));
    assert_eq!(choose(&["172.31.0.0/20"]).await, pair("172.30.0.0/16", "172.29.0.0/20"));
    assert_eq!(choose(&[]).await, pair("172.30.0.0/16", "172.29.0.0/20"), "no reason to go back");
    let moved = vpc();
    assert_eq!((&moved.id, &moved.security_group), (&first.id, &first.security_group));
    for (was, is) in first.subnets.iter().zip(&moved.subnets) {
        assert_eq!((&was.id, &was.zone), (&is.id, &is.zone));
        assert!(moved.block.contains(is.block.first()));
    }
    // An address that was given out keeps the ranges, whoever else uses them.
    let subnet = &moved.subnets[0];
    ec2.control
        .decide(|view, now| Ok((with_interface(&world, view, subnet, now), ())))
        .await
        .unwrap();
    let kept = choose(&["172.30.0.0/16", "172.29.3.0/24", "172.28.0.0/14"]).await;
    assert_eq!(kept, pair("172.30.0.0/16", "172.29.0.0/20"));
    assert_eq!(vpc(), moved);
}

#[tokio::test]
async fn a_region_of_before_gets_a_bridge_range_beside_its_own() {
    let world = TestEc2::new();
    let ec2 = &world.ec2;
    let old = AddressPlan { block: "172.30.0.0/16".parse().unwrap(), bridge: None, seed: 7 };
    let put = |view: &View, _| {
        let mut batch = Batch::on(view);
        batch.put(old.clone());
        Ok((batch, ()))
    };
    ec2.control.decide(put).await.unwrap();
    let ranges = prepare_network(&ec2.control, &cidrs(&["172.31.0.0/16"])).await.unwrap();
    assert_eq!(ranges.vpc, old.block);
    assert_eq!(ranges.bridge.to_string(), "172.29.0.0/20");
    let full = cidrs(&["172.16.0.0/12", "10.0.0.0/8", "100.64.0.0/10", "192.168.0.0/16"]);
    let refused = prepare_network(&ec2.control, &full).await.unwrap_err();
    let why = Chain(&refused).to_string();
    assert!(why.contains("all private ranges of addresses are used"), "{why}");
}

fn with_interface(world: &TestEc2, view: &View, subnet: &Subnet, now: Timestamp) -> Batch {
    let env = world.core.env.as_ref();
    let caller = world.root();
    let address = subnet.free_address(0, |_| false).unwrap();
    let mut batch = Batch::on(view);
    batch.put(Interface {
        address,
        eni: EniId::mint(env),
        owner: world.ec2.control.scope(&caller),
        user: InterfaceUser::Task {
            cluster: ClusterName::default_cluster(),
            task: TaskId::mint(env),
            attachment: Uuid::mint(env),
        },
        vpc: world.ec2.control.vpc(view, caller.account).unwrap().id,
        subnet: subnet.id.clone(),
        security_groups: vec![],
        zone: subnet.zone.clone(),
        mac: mac_of(address),
        assign_public_ip: true,
        created_at: now,
        is_apart: false,
        public: None,
    });
    batch
}

#[tokio::test]
async fn a_public_address_is_the_interfaces_own() {
    let world = world().await;
    let (ec2, root) = (&world.ec2, &world.root());
    let subnet =
        ec2.control.vpc(&ec2.control.view(), world.root().account).unwrap().subnets[0].clone();
    ec2.control
        .decide(|view, now| Ok((with_interface(&world, view, &subnet, now), ())))
        .await
        .unwrap();
    let describe = |filters| {
        let request = DescribeNetworkInterfacesRequest { filters, ..Default::default() };
        async move {
            let answer = ec2.describe_network_interfaces(root, request).await.unwrap();
            answer.network_interfaces.unwrap()
        }
    };
    let found = describe(None).await;
    let association = found[0].association.clone().unwrap();
    assert_eq!(association.public_ip, found[0].private_ip_address);
    let address = association.public_ip.unwrap();
    assert_eq!(describe(filter("association.public-ip", &address)).await.len(), 1);
    assert_eq!(describe(filter("association.public-ip", "1.2.3.4")).await.len(), 0);
}

#[tokio::test]
async fn the_vpc_has_attributes_a_main_table_and_a_gateway() {
    let world = world().await;
    let (ec2, root) = (&world.ec2, world.root());
    let vpc = ec2.control.vpc(&ec2.control.view(), root.account).unwrap();
    let attribute = |vpc_id: &str, attribute| DescribeVpcAttributeRequest {
        vpc_id: Some(vpc_id.to_owned()),
        attribute: Some(attribute),
        ..Default::default()
    };
    let asked = attribute(vpc.id.as_str(), VpcAttributeName::EnableDnsSupport);
    let answer = ec2.describe_vpc_attribute(&root, asked).await.unwrap();
    assert_eq!(answer.enable_dns_support.unwrap().value, Some(true));
    assert_eq!(answer.enable_dns_hostnames, None);
    let asked = attribute("vpc-00000000", VpcAttributeName::EnableDnsSupport);
    let error = ec2.describe_vpc_attribute(&root, asked).await.unwrap_err();
    assert_eq!(error.code, "InvalidVpcID.NotFound");
    let filters = filter("association.main", "true");
    let request = DescribeRouteTablesRequest { filters, ..Default::default() };
    let tables = ec2.describe_route_tables(&root, request).await.unwrap().route_tables.unwrap();
    assert_eq!(tables.len(), 1);
    assert_eq!(tables[0].vpc_id.as_deref(), Some(vpc.id.as_str()));
    let gateway = tables[0].routes.as_ref().unwrap()[1].gateway_id.clone().unwrap();
    let request = DescribeInternetGatewaysRequest {
        internet_gateway_ids: Some(vec![gateway]),
        ..Default::default()
    };
    let found = ec2.describe_internet_gateways(&root, request).await.unwrap();
    assert_eq!(found.internet_gateways.unwrap().len(), 1);
    let filters = filter("association.subnet-id", vpc.subnets[0].id.as_str());
    let request = DescribeRouteTablesRequest { filters, ..Default::default() };
    let none = ec2.describe_route_tables(&root, request).await.unwrap();
    assert_eq!(none.route_tables, Some(vec![]), "no subnet is associated by its id");
    let filters = filter("attachment.vpc-id", vpc.id.as_str());
    let request = DescribeVpnGatewaysRequest { filters, ..Default::default() };
    let none = ec2.describe_vpn_gateways(&root, request).await.unwrap();
    assert_eq!(none.vpn_gateways, Some(vec![]));
}

mod default_vpc;
mod endpoints;
mod flow_logs;
mod machines;
mod networks;
mod peerings;
mod prefix_lists;
