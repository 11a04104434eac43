//! The default VPC, changed as an account may change its own.

use aws_wire::ApiError;
use ec2_api as api;
use ec2_api::Ec2 as _;
use model::network::Network;

use super::networks::{Site, code, text};
use super::{filter, world};

/// The default VPC of an account that has done nothing yet.
async fn site() -> Site {
    let world = world().await;
    let root = world.root();
    let vpc = world.ec2.control.vpc(&world.ec2.control.view(), root.account).unwrap();
    Site { world, root, vpc: vpc.id.to_string() }
}

impl Site {
    fn network<T>(&self, look: impl FnOnce(&Network<'_>) -> T) -> T {
        let view = self.world.ec2.control.view();
        look(&self.world.ec2.control.network(&view, self.root.account))
    }

    /// Its subnets by their blocks.
    async fn subnets(&self) -> Vec<api::Subnet> {
        let filters = filter("vpc-id", &self.vpc);
        let request = api::DescribeSubnetsRequest { filters, ..Default::default() };
        let found = self.world.ec2.describe_subnets(&self.root, request).await;
        let mut found = found.unwrap().subnets.unwrap();
        found.sort_by(|a, b| a.cidr_block.cmp(&b.cidr_block));
        found
    }

    async fn delete_subnet(&self, id: &str) -> Result<(), ApiError> {
        let request = api::DeleteSubnetRequest { subnet_id: text(id), dry_run: None };
        self.world.ec2.delete_subnet(&self.root, request).await
    }

    async fn default_subnet(&self, zone: &str) -> Result<api::Subnet, ApiError> {
        let request =
            api::CreateDefaultSubnetRequest { availability_zone: text(zone), ..Default::default() };
        let made = self.world.ec2.create_default_subnet(&self.root, request).await?;
        Ok(made.subnet.unwrap())
    }

    fn default_gateway(&self) -> String {
        let of_vpc = |network: &Network<'_>| {
            let gateways = network.gateways();
            let mut its = gateways.iter().filter(|it| it.vpc.is_some());
            its.next().unwrap().id.to_string()
        };
        self.network(of_vpc)
    }
}

#[tokio::test]
async fn the_first_change_makes_rows_of_the_default_vpc_and_of_nobody_elses() {
    let site = site().await;
    let (ec2, root) = (&site.world.ec2, &site.root);
    let before = site.subnets().await;
    let same = Some(api::AttributeBooleanValue { value: Some(true) });
    let mut request = api::ModifyVpcAttributeRequest {
        vpc_id: text(&site.vpc),
        enable_dns_support: same,
        ..Default::default()
    };
    ec2.modify_vpc_attribute(root, request.clone()).await.unwrap();
    assert!(ec2.control.view().vpcs.is_empty(), "to ask for what it has already is no change");
    let tagged = api::CreateTagsRequest {
        resources: Some(vec![site.vpc.clone()]),
        tags: Some(vec![api::Tag { key: text("Name"), value: text("mine") }]),
        dry_run: None,
    };
    ec2.create_tags(root, tagged).await.unwrap();
    assert!(ec2.control.view().vpcs.is_empty());
    request.enable_dns_support = Some(api::AttributeBooleanValue { value: Some(false) });
    ec2.modify_vpc_attribute(root, request).await.unwrap();
    let view = ec2.control.view();
    let counts = (view.vpcs.iter().count(), view.subnets.iter().count());
    assert_eq!(counts, (1, 3));
    assert_eq!(site.subnets().await, before, "all else is as it was");
    site.network(|network| {
        assert!(!network.default_vpc().unwrap().dns_support);
        assert_eq!(network.vpcs().len(), 1);
        let table = network.table(&network.default_vpc().unwrap().main_table).unwrap();
        assert_eq!(table.shown(network).len(), 2);
    });
    let other = "222222222222".parse().unwrap();
    assert!(ec2.control.network(&view, other).unchanged_default().is_some());
    let map = api::ModifySubnetAttributeRequest {
        subnet_id: before[0].subnet_id.clone(),
        map_public_ip_on_launch: Some(api::AttributeBooleanValue { value: Some(false) }),
        ..Default::default()
    };
    ec2.modify_subnet_attribute(root, map).await.unwrap();
    assert_eq!(site.subnets().await[0].map_public_ip_on_launch, Some(false));
}

#[tokio::test]
async fn subnets_of_the_default_vpc_come_and_go() {
    let site = site().await;
    let (ec2, root) = (&site.world.ec2, &site.root);
    let zones: Vec<String> =
        site.subnets().await.into_iter().map(|it| it.availability_zone.unwrap()).collect();
    assert_eq!(code(site.subnet("172.31.0.0/24").await), "InvalidSubnet.Conflict");
    assert_eq!(code(site.subnet("10.0.0.0/24").await), "InvalidSubnet.Range");
    let made = site.subnet("172.31.48.0/24").await.unwrap();
    assert_eq!((made.default_for_az, made.map_public_ip_on_launch), (Some(false), Some(false)));
    let request = api::CreateNetworkInterfaceRequest {
        subnet_id: made.subnet_id.clone(),
        ..Default::default()
    };
    let held =
        ec2.create_network_interface(root, request).await.unwrap().network_interface.unwrap();
    let address = held.private_ip_address.unwrap();
    assert!(address.starts_with("172.31.48."), "{address}");
    let id = made.subnet_id.unwrap();
    assert_eq!(code(site.delete_subnet(&id).await), "DependencyViolation");
    let request = api::DeleteNetworkInterfaceRequest {
        network_interface_id: held.network_interface_id,
        dry_run: None,
    };
    ec2.delete_network_interface(root, request).await.unwrap();
    site.delete_subnet(&id).await.unwrap();
    let taken = site.default_subnet(&zones[1]).await;
    assert_eq!(code(taken), "DefaultSubnetAlreadyExistsInAvailabilityZone");
    let gone = site.subnets().await.remove(1).subnet_id.unwrap();
    site.delete_subnet(&gone).await.unwrap();
    assert_eq!(code(site.delete_subnet(&gone).await), "InvalidSubnetID.NotFound");
    assert_eq!(site.subnets().await.len(), 2);
    let zones_now = ec2.describe_availability_zones(root, Default::default()).await.unwrap();
    assert_eq!(zones_now.availability_zones.unwrap().len(), 3, "those are the region's");
    let again = site.default_subnet(&zones[1]).await.unwrap();
    assert_eq!(again.cidr_block.as_deref(), Some("172.31.16.0/20"));
    assert_eq!((again.default_for_az, again.map_public_ip_on_launch), (Some(true), Some(true)));
    assert_ne!(again.subnet_id.unwrap(), gone);
}

/// The very first change is a deletion: who is about to place something there must find that the subnet went.
#[tokio::test]
async fn a_subnet_that_was_no_row_is_one_before_it_is_deleted() {
    let site = site().await;
    let first = site.subnets().await.remove(0).subnet_id.unwrap();
    let request = api::DeleteSubnetRequest { subnet_id: text(&first), dry_run: Some(true) };
    let tried = site.world.ec2.delete_subnet(&site.root, request).await;
    assert_eq!(code(tried), "DryRunOperation");
    assert!(site.world.ec2.control.view().subnets.is_empty());
    site.delete_subnet(&first).await.unwrap();
    let view = site.world.ec2.control.view();
    assert_eq!(view.subnets.iter().count(), 2);
    assert_eq!(site.subnets().await.len(), 2);
}

#[tokio::test]
async fn the_default_vpcs_ways_out_are_its_accounts_to_change() {
    let site = site().await;
    let (ec2, root) = (&site.world.ec2, &site.root);
    let main = site.main_table().await.route_table_id.unwrap();
    let gateway = site.default_gateway();
    let allocation = site.address().await;
    let subnets = site.subnets().await;
    let nat = site.nat(subnets[0].subnet_id.as_deref().unwrap(), &allocation).await.unwrap();
    assert_eq!(nat.state, Some(api::NatGatewayState::Available));
    let nat = nat.nat_gateway_id.unwrap();
    site.route(&main, "203.0.113.0/24", &nat).await.unwrap();
    let refused = site.detach(&gateway).await.unwrap_err();
    assert_eq!(refused.code, "DependencyViolation", "the gateway has a public address");
    let request = api::DeleteNatGatewayRequest { nat_gateway_id: text(&nat), dry_run: None };
    ec2.delete_nat_gateway(root, request).await.unwrap();
    site.detach(&gateway).await.unwrap();
    let state = |table: api::RouteTable| -> Vec<(Option<String>, Option<api::RouteState>)> {
        let routes = table.routes.unwrap().into_iter();
        routes.map(|it| (it.destination_cidr_block, it.state)).collect()
    };
    let hole = Some(api::RouteState::Blackhole);
    let shown = state(site.main_table().await);
    let expected = [
        (text("172.31.0.0/16"), Some(api::RouteState::Active)),
        (text("0.0.0.0/0"), hole.clone()),
        (text("203.0.113.0/24"), hole),
    ];
    assert_eq!(shown, expected);
    site.attach(&gateway).await.unwrap();
    assert_eq!(state(site.main_table().await)[1].1, Some(api::RouteState::Active));
    let request = api::DeleteRouteRequest {
        route_table_id: text(&main),
        destination_cidr_block: text("0.0.0.0/0"),
        ..Default::default()
    };
    ec2.delete_route(root, request).await.unwrap();
    let request = api::CreateRouteTableRequest { vpc_id: text(&site.vpc), ..Default::default() };
    let own = ec2.create_route_table(root, request).await.unwrap().route_table.unwrap();
    let own = own.route_table_id.unwrap();
    site.route(&own, "0.0.0.0/0", &gateway).await.unwrap();
    let request = api::AssociateRouteTableRequest {
        route_table_id: text(&own),
        subnet_id: subnets[1].subnet_id.clone(),
        ..Default::default()
    };
    ec2.associate_route_table(root, request).await.unwrap();
    let tables: Vec<bool> = site.network(|network| {
        let vpc = network.default_vpc().unwrap();
        assert!(plan::network_feed::is_judged(network, &vpc.id));
        let mut subnets = network.subnets_of(&vpc.id);
        subnets.sort_by_key(|subnet| subnet.block);
        subnets.iter().map(|it| network.table_of(it).unwrap().id.as_str() == own).collect()
    });
    assert_eq!(tables, [false, true, false]);
}

#[tokio::test]
async fn a_default_vpc_that_is_empty_is_deleted_and_made_again() {
    let site = site().await;
    let (ec2, root) = (&site.world.ec2, &site.root);
    let made = ec2.create_default_vpc(root, Default::default()).await;
    assert_eq!(code(made), "DefaultVpcAlreadyExists");
    let refused = site.delete_vpc().await.unwrap_err();
    assert_eq!(refused.code, "DependencyViolation");
    assert!(refused.message.contains("subnet-"), "{}", refused.message);
    for subnet in site.subnets().await {
        site.delete_subnet(&subnet.subnet_id.unwrap()).await.unwrap();
    }
    let gateway = site.default_gateway();
    assert_eq!(code(site.delete_vpc().await), "DependencyViolation");
    site.detach(&gateway).await.unwrap();
    site.delete_vpc().await.unwrap();
    let request =
        api::DeleteInternetGatewayRequest { internet_gateway_id: text(&gateway), dry_run: None };
    ec2.delete_internet_gateway(root, request).await.unwrap();
    let all = ec2.describe_vpcs(root, Default::default()).await.unwrap();
    assert_eq!(all.vpcs.unwrap(), []);
    let groups = ec2.describe_security_groups(root, Default::default()).await.unwrap();
    assert_eq!(groups.security_groups.unwrap(), []);
    assert_eq!(code(site.default_subnet("us-east-1a").await), "DefaultVpcDoesNotExist");
    let request = api::CreateSecurityGroupRequest {
        group_name: text("web"),
        description: text("web"),
        ..Default::default()
    };
    assert_eq!(code(ec2.create_security_group(root, request.clone()).await), "VPCIdNotSpecified");
    // Groups of other VPCs are changed as ever.
    let own = api::CreateVpcRequest { cidr_block: text("10.9.0.0/16"), ..Default::default() };
    let own = ec2.create_vpc(root, own).await.unwrap().vpc.unwrap();
    let request = api::CreateSecurityGroupRequest { vpc_id: own.vpc_id, ..request };
    let group = ec2.create_security_group(root, request).await.unwrap().group_id;
    let anywhere = api::IpRange { cidr_ip: text("0.0.0.0/0"), ..Default::default() };
    let all = api::IpPermission {
        ip_protocol: text("-1"),
        ip_ranges: Some(vec![anywhere]),
        ..Default::default()
    };
    let request = api::RevokeSecurityGroupEgressRequest {
        group_id: group,
        ip_permissions: Some(vec![all]),
        ..Default::default()
    };
    ec2.revoke_security_group_egress(root, request.clone()).await.unwrap();
    let again = ec2.revoke_security_group_egress(root, request).await;
    assert_eq!(code(again), "InvalidPermission.NotFound");
    let new = ec2.create_default_vpc(root, Default::default()).await.unwrap().vpc.unwrap();
    assert_eq!((new.is_default, new.cidr_block.as_deref()), (Some(true), Some("172.31.0.0/16")));
    let new = Site { vpc: new.vpc_id.unwrap(), world: site.world, root: site.root };
    assert_ne!(new.vpc, site.vpc);
    assert_eq!(new.subnets().await.len(), 3);
    assert!(new.subnets().await.iter().all(|it| it.default_for_az == Some(true)));
    let main = new.main_table().await;
    assert_eq!(main.routes.unwrap().len(), 2);
    new.network(|network| {
        let vpc = network.default_vpc().unwrap();
        assert_eq!(vpc.id.as_str(), new.vpc);
        assert!(network.dhcp(vpc.dhcp_options.as_ref().unwrap()).is_some());
        let view = network.view();
        assert_eq!(view.own_vpc(network.account(), &vpc.id), None, "its range is the region's");
        assert!(view.security_group(network.account(), &vpc.default_group).is_some());
        assert!(!plan::network_feed::is_judged(network, &vpc.id), "it is as one that came");
    });
    let ec2 = &new.world.ec2;
    assert_eq!(
        code(ec2.create_default_vpc(&new.root, Default::default()).await),
        "DefaultVpcAlreadyExists"
    );
}

#[tokio::test]
async fn a_region_keeps_its_range_once_a_default_vpc_was_changed() {
    let site = site().await;
    let block = site.network(|network| network.default_vpc().unwrap().first.block);
    site.subnet("172.31.48.0/24").await.unwrap();
    let ranges = crate::prepare_network(&site.world.ec2.control, &[block]).await.unwrap();
    assert_eq!(ranges.vpc, block, "what was made is of these addresses");
}
