use aws_api::ec2::{
    DescribeAvailabilityZonesRequest, DescribeNetworkInterfacesRequest,
    DescribeSecurityGroupsRequest, DescribeSubnetsRequest, DescribeVpcsRequest, Ec2, Filter,
};

use crate::testing::TestRegion;

async fn world() -> TestRegion {
    let world = TestRegion::new();
    world.region.prepare_network().await.unwrap();
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
        let vpcs = world.region.describe_vpcs(&caller, DescribeVpcsRequest::default()).await;
        let vpc = vpcs.unwrap().vpcs.unwrap().remove(0);
        assert_eq!(vpc.is_default, Some(true));
        assert!(ids.insert(vpc.vpc_id.clone().unwrap()));
        let filters = filter("vpc-id", vpc.vpc_id.as_deref().unwrap());
        let request = DescribeSubnetsRequest { filters, ..DescribeSubnetsRequest::default() };
        let subnets = world.region.describe_subnets(&caller, request).await.unwrap();
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
    let error = world.region.describe_subnets(&caller, request).await.unwrap_err();
    assert_eq!(error.code, "InvalidSubnetID.NotFound");
    assert_eq!(error.message, "The subnet ID 'subnet-12345678' does not exist");
    let ids = Some(vec!["sg-12345678".to_owned()]);
    let request = DescribeSecurityGroupsRequest {
        group_ids: ids,
        ..DescribeSecurityGroupsRequest::default()
    };
    let error = world.region.describe_security_groups(&caller, request).await.unwrap_err();
    assert_eq!(error.code, "InvalidGroup.NotFound");
}

#[tokio::test]
async fn a_filter_that_is_not_there_is_an_error_and_not_ignored() {
    let world = world().await;
    let filters = filter("colour", "red");
    let request = DescribeVpcsRequest { filters, ..DescribeVpcsRequest::default() };
    let error = world.region.describe_vpcs(&world.root(), request).await.unwrap_err();
    assert_eq!(error.message, "The filter 'colour' is invalid");
    let filters = filter("tag:Name", "x");
    let request = DescribeVpcsRequest { filters, ..DescribeVpcsRequest::default() };
    let none = world.region.describe_vpcs(&world.root(), request).await.unwrap();
    assert_eq!(none.vpcs, Some(vec![]));
}

#[tokio::test]
async fn zones_and_interfaces_are_described() {
    let world = world().await;
    let filters = filter("zone-name", "*b");
    let request =
        DescribeAvailabilityZonesRequest { filters, ..DescribeAvailabilityZonesRequest::default() };
    let zones = world.region.describe_availability_zones(&world.root(), request).await.unwrap();
    let zones = zones.availability_zones.unwrap();
    assert_eq!(zones.len(), 1);
    assert_eq!(zones[0].zone_name.as_deref(), Some("us-east-1b"));
    let request = DescribeNetworkInterfacesRequest::default();
    let none = world.region.describe_network_interfaces(&world.root(), request).await.unwrap();
    assert_eq!(none.network_interfaces, Some(vec![]));
}
