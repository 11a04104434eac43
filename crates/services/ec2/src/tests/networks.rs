//! VPCs and what they are made of, through the service.

use aws_wire::{ApiError, Caller};
use ec2_api as api;
use ec2_api::Ec2 as _;

use super::{TestEc2, filter, world};

pub(super) fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// An account with a VPC of its own.
pub(super) struct Site {
    pub(super) world: TestEc2,
    pub(super) root: Caller,
    pub(super) vpc: String,
}

impl Site {
    pub(super) async fn new(block: &str) -> Self {
        let world = world().await;
        let root = world.root();
        let vpc = new_vpc(&world, &root, block).await.unwrap();
        Self { world, root, vpc }
    }

    pub(super) async fn subnet(&self, block: &str) -> Result<api::Subnet, ApiError> {
        let request = api::CreateSubnetRequest {
            vpc_id: Some(self.vpc.clone()),
            cidr_block: text(block),
            ..Default::default()
        };
        Ok(self.world.ec2.create_subnet(&self.root, request).await?.subnet.unwrap())
    }

    pub(super) async fn flow_logs(&self, groups: &[String]) -> Vec<api::CreateFlowLogsResult> {
        let mut made = Vec::new();
        for group in groups {
            let request = api::CreateFlowLogsRequest {
                resource_ids: Some(vec![self.vpc.clone()]),
                resource_type: Some(api::FlowLogsResourceType::Vpc),
                traffic_type: Some(api::TrafficType::All),
                log_group_name: Some(group.clone()),
                deliver_logs_permission_arn: text("arn:aws:iam::000000000000:role/flows"),
                ..Default::default()
            };
            made.push(self.world.ec2.create_flow_logs(&self.root, request).await.unwrap());
        }
        made
    }

    pub(super) async fn gateway(&self) -> String {
        let made = self.world.ec2.create_internet_gateway(&self.root, Default::default()).await;
        let id = made.unwrap().internet_gateway.unwrap().internet_gateway_id.unwrap();
        self.attach(&id).await.unwrap();
        id
    }

    pub(super) async fn attach(&self, gateway: &str) -> Result<(), ApiError> {
        let request = api::AttachInternetGatewayRequest {
            internet_gateway_id: text(gateway),
            vpc_id: Some(self.vpc.clone()),
            dry_run: None,
        };
        self.world.ec2.attach_internet_gateway(&self.root, request).await
    }

    pub(super) async fn detach(&self, gateway: &str) -> Result<(), ApiError> {
        let request = api::DetachInternetGatewayRequest {
            internet_gateway_id: text(gateway),
            vpc_id: Some(self.vpc.clone()),
            dry_run: None,
        };
        self.world.ec2.detach_internet_gateway(&self.root, request).await
    }

    pub(super) async fn main_table(&self) -> api::RouteTable {
        let mut filters = filter("association.main", "true").unwrap();
        filters.extend(filter("vpc-id", &self.vpc).unwrap());
        self.tables(filters).await.remove(0)
    }

    pub(super) async fn tables(&self, filters: Vec<api::Filter>) -> Vec<api::RouteTable> {
        let request =
            api::DescribeRouteTablesRequest { filters: Some(filters), ..Default::default() };
        let found = self.world.ec2.describe_route_tables(&self.root, request).await;
        found.unwrap().route_tables.unwrap()
    }

    pub(super) async fn route(&self, table: &str, to: &str, gateway: &str) -> Result<(), ApiError> {
        let is_nat = gateway.starts_with("nat-");
        let request = api::CreateRouteRequest {
            route_table_id: text(table),
            destination_cidr_block: text(to),
            gateway_id: (!is_nat).then(|| gateway.to_owned()),
            nat_gateway_id: is_nat.then(|| gateway.to_owned()),
            ..Default::default()
        };
        self.world.ec2.create_route(&self.root, request).await.map(|_| ())
    }

    pub(super) async fn delete_vpc(&self) -> Result<(), ApiError> {
        let request = api::DeleteVpcRequest { vpc_id: Some(self.vpc.clone()), dry_run: None };
        self.world.ec2.delete_vpc(&self.root, request).await
    }

    pub(super) async fn address(&self) -> String {
        let made = self.world.ec2.allocate_address(&self.root, Default::default()).await;
        made.unwrap().allocation_id.unwrap()
    }

    pub(super) async fn nat(
        &self,
        subnet: &str,
        allocation: &str,
    ) -> Result<api::NatGateway, ApiError> {
        let request = api::CreateNatGatewayRequest {
            subnet_id: text(subnet),
            allocation_id: text(allocation),
            ..Default::default()
        };
        let made = self.world.ec2.create_nat_gateway(&self.root, request).await?;
        Ok(made.nat_gateway.unwrap())
    }
}

#[tokio::test]
async fn a_vpc_has_a_few_flow_logs() {
    let site = Site::new("10.1.0.0/16").await;
    let groups: Vec<String> = (0..11).map(|number| format!("/flows/{number}")).collect();
    let made = site.flow_logs(&groups).await;
    let refused = |it: &api::CreateFlowLogsResult| it.unsuccessful.clone().unwrap_or_default();
    assert!(made[..10].iter().all(|it| refused(it).is_empty()));
    let why = refused(&made[10]).remove(0).error.unwrap();
    assert_eq!(why.code.as_deref(), Some("FlowLogsLimitExceeded"));
    let again = site.flow_logs(&groups[..1]).await;
    let why = refused(&again[0]).remove(0).error.unwrap();
    assert_eq!(why.code.as_deref(), Some("FlowLogAlreadyExists"));
}

pub(super) async fn new_vpc(
    world: &TestEc2,
    root: &Caller,
    block: &str,
) -> Result<String, ApiError> {
    let request = api::CreateVpcRequest {
        cidr_block: text(block),
        amazon_provided_ipv6_cidr_block: Some(false),
        ..Default::default()
    };
    Ok(world.ec2.create_vpc(root, request).await?.vpc.unwrap().vpc_id.unwrap())
}

pub(super) fn code<T: std::fmt::Debug>(answer: Result<T, ApiError>) -> String {
    answer.unwrap_err().code.into_owned()
}

#[tokio::test]
async fn a_new_vpc_has_a_table_an_acl_and_a_group_and_takes_them_with_it() {
    let site = Site::new("10.0.0.1/16").await;
    let (ec2, root) = (&site.world.ec2, &site.root);
    let filters = filter("vpc-id", &site.vpc);
    let vpcs = ec2.describe_vpcs(root, Default::default()).await.unwrap().vpcs.unwrap();
    let vpc = vpcs.iter().find(|vpc| vpc.vpc_id.as_ref() == Some(&site.vpc)).unwrap();
    assert_eq!((vpcs.len(), vpc.is_default), (2, Some(false)));
    assert_eq!(vpc.cidr_block.as_deref(), Some("10.0.0.0/16"), "bits below the prefix are gone");
    let table = site.main_table().await;
    let routes = table.routes.unwrap();
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0].gateway_id.as_deref(), Some("local"));
    let request =
        api::DescribeNetworkAclsRequest { filters: filters.clone(), ..Default::default() };
    let acl = ec2.describe_network_acls(root, request).await.unwrap().network_acls.unwrap();
    assert_eq!((acl.len(), acl[0].is_default), (1, Some(true)));
    assert_eq!(acl[0].entries.as_ref().unwrap().len(), 4, "100 and the last, both ways");
    let groups = || async {
        let request =
            api::DescribeSecurityGroupsRequest { filters: filters.clone(), ..Default::default() };
        ec2.describe_security_groups(root, request).await.unwrap().security_groups.unwrap()
    };
    let group = groups().await.remove(0);
    assert_eq!(group.group_name.as_deref(), Some("default"));
    assert_eq!(group.ip_permissions.unwrap().len(), 1);
    assert_eq!(group.ip_permissions_egress.unwrap().len(), 1);

    let subnet = site.subnet("10.0.1.0/24").await.unwrap().subnet_id.unwrap();
    let refused = site.delete_vpc().await.unwrap_err();
    assert_eq!(refused.code, "DependencyViolation");
    assert!(refused.message.contains(&subnet), "it says of what: {}", refused.message);
    let request = api::DeleteSubnetRequest { subnet_id: Some(subnet), dry_run: None };
    ec2.delete_subnet(root, request).await.unwrap();
    site.delete_vpc().await.unwrap();
    assert_eq!(code(site.delete_vpc().await), "InvalidVpcID.NotFound");
    assert_eq!(groups().await, []);
    let view = ec2.control.view();
    assert!(view.vpcs.is_empty() && view.route_tables.is_empty() && view.network_acls.is_empty());
    assert!(view.security_group_rules.is_empty());
}

#[tokio::test]
async fn blocks_of_vpcs_and_subnets_are_checked() {
    let site = Site::new("10.0.0.0/16").await;
    let (world, root) = (&site.world, &site.root);
    for (block, refused) in [
        ("10.0.0.0/16", None),
        ("10.0.0.0/15", Some("InvalidVpc.Range")),
        ("10.0.0.0/29", Some("InvalidVpc.Range")),
        ("127.0.0.0/16", Some("InvalidVpc.Range")),
        ("169.254.0.0/20", Some("InvalidVpc.Range")),
        ("10.0.0.0", Some("InvalidParameterValue")),
        ("::/0", Some("InvalidParameterValue")),
        ("ten", Some("InvalidParameterValue")),
        ("", Some("MissingParameter")),
    ] {
        let made = new_vpc(world, root, block).await;
        assert_eq!(made.err().map(|error| error.code.into_owned()).as_deref(), refused, "{block}");
    }
    let mut zones = std::collections::BTreeSet::new();
    for (block, refused) in [
        ("10.0.0.0/24", None),
        ("10.0.0.128/25", Some("InvalidSubnet.Conflict")),
        ("10.0.1.0/24", None),
        ("10.0.2.0/24", None),
        ("10.1.0.0/24", Some("InvalidSubnet.Range")),
        ("10.0.3.0/29", Some("InvalidSubnet.Range")),
        ("10.0.0.0/8", Some("InvalidSubnet.Range")),
        ("10.0.3.0", Some("InvalidParameterValue")),
    ] {
        match site.subnet(block).await {
            Ok(subnet) => {
                assert_eq!(refused, None, "{block}");
                assert_eq!(subnet.available_ip_address_count, Some(251));
                assert_eq!(subnet.map_public_ip_on_launch, Some(false));
                zones.insert(subnet.availability_zone);
            }
            Err(error) => assert_eq!(Some(error.code.as_ref()), refused, "{block}"),
        }
    }
    assert_eq!(zones.len(), 3, "without a zone named, subnets spread");
    let associate = |block: &str| {
        let vpc_id = Some(site.vpc.clone());
        let cidr_block = text(block);
        let request =
            api::AssociateVpcCidrBlockRequest { vpc_id, cidr_block, ..Default::default() };
        world.ec2.associate_vpc_cidr_block(root, request)
    };
    assert_eq!(code(associate("10.0.128.0/17").await), "InvalidVpc.Range");
    for other in ["192.168.0.0/16", "172.20.0.0/16", "198.19.4.0/22", "10.0.0.0/17"] {
        let refused = associate(other).await.unwrap_err();
        assert_eq!(refused.code, "InvalidVpc.Range", "{other}");
    }
    let sentence = associate("192.168.0.0/16").await.unwrap_err().message;
    assert!(sentence.starts_with("The CIDR '192.168.0.0/16' is restricted."), "{sentence}");
    let added = associate("10.1.0.0/16").await.unwrap().cidr_block_association.unwrap();
    let subnet = site.subnet("10.1.0.0/24").await.unwrap().subnet_id;
    let table = site.main_table().await;
    assert_eq!(table.routes.unwrap().len(), 2, "its own blocks are local");
    let disassociate = |association_id: Option<String>| {
        let request = api::DisassociateVpcCidrBlockRequest { association_id };
        world.ec2.disassociate_vpc_cidr_block(root, request)
    };
    let id = added.association_id;
    assert_eq!(code(disassociate(id.clone()).await), "InvalidCidrBlock.InUse");
    let request = api::DeleteSubnetRequest { subnet_id: subnet, dry_run: None };
    world.ec2.delete_subnet(root, request).await.unwrap();
    disassociate(id).await.unwrap();
}

#[tokio::test]
async fn routes_lead_out_until_their_target_is_gone() {
    let site = Site::new("10.0.0.0/16").await;
    let (ec2, root) = (&site.world.ec2, &site.root);
    let made = ec2.create_internet_gateway(root, Default::default()).await.unwrap();
    let gateway = made.internet_gateway.unwrap().internet_gateway_id.unwrap();
    let table = site.main_table().await.route_table_id.unwrap();
    let refused = site.route(&table, "0.0.0.0/0", &gateway).await.unwrap_err();
    assert_eq!(refused.code, "InvalidParameterValue");
    assert!(refused.message.ends_with("belong to different networks"), "{}", refused.message);
    site.attach(&gateway).await.unwrap();
    assert_eq!(code(site.attach(&gateway).await), "Resource.AlreadyAssociated");
    site.route(&table, "0.0.0.0/0", &gateway).await.unwrap();
    for (to, refused) in [
        ("0.0.0.0/0", "RouteAlreadyExists"),
        ("10.0.0.0/16", "RouteAlreadyExists"),
        ("10.0.1.0/24", "InvalidParameterValue"),
    ] {
        assert_eq!(code(site.route(&table, to, &gateway).await), refused, "{to}");
    }
    let missing = site.route(&table, "1.0.0.0/8", "igw-00000000").await;
    assert_eq!(code(missing), "InvalidGatewayID.NotFound");
    let state = || async {
        let routes = site.main_table().await.routes.unwrap();
        let out = routes.iter().find(|route| route.gateway_id.as_ref() == Some(&gateway));
        out.unwrap().state.clone().unwrap().to_string()
    };
    assert_eq!(state().await, "active");
    site.detach(&gateway).await.unwrap();
    assert_eq!(state().await, "blackhole");
    assert_eq!(code(site.detach(&gateway).await), "Gateway.NotAttached");
    site.attach(&gateway).await.unwrap();
    assert_eq!(state().await, "active");
    let delete = |to: &str| {
        let request = api::DeleteRouteRequest {
            route_table_id: Some(table.clone()),
            destination_cidr_block: text(to),
            ..Default::default()
        };
        ec2.delete_route(root, request)
    };
    let local = delete("10.0.0.0/16").await.unwrap_err();
    assert!(local.message.starts_with("cannot remove local route"), "{}", local.message);
    delete("0.0.0.0/0").await.unwrap();
    assert_eq!(code(delete("0.0.0.0/0").await), "InvalidRoute.NotFound");
}

#[tokio::test]
async fn a_subnet_has_the_main_table_until_it_is_given_another() {
    let site = Site::new("10.0.0.0/16").await;
    let (ec2, root) = (&site.world.ec2, &site.root);
    let subnet = site.subnet("10.0.1.0/24").await.unwrap().subnet_id.unwrap();
    let create = |token: &str| {
        let request = api::CreateRouteTableRequest {
            vpc_id: Some(site.vpc.clone()),
            client_token: text(token),
            ..Default::default()
        };
        ec2.create_route_table(root, request)
    };
    let table = create("a").await.unwrap().route_table.unwrap().route_table_id.unwrap();
    let again = create("a").await.unwrap().route_table.unwrap().route_table_id.unwrap();
    assert_eq!(table, again, "the same token makes no second");
    let other = create("b").await.unwrap().route_table.unwrap().route_table_id.unwrap();
    let associate = |table: &str| {
        let request = api::AssociateRouteTableRequest {
            route_table_id: text(table),
            subnet_id: Some(subnet.clone()),
            ..Default::default()
        };
        ec2.associate_route_table(root, request)
    };
    let association = associate(&table).await.unwrap().association_id.unwrap();
    assert_eq!(code(associate(&other).await), "Resource.AlreadyAssociated");
    let replace = |association: &str, table: &str| {
        let request = api::ReplaceRouteTableAssociationRequest {
            association_id: text(association),
            route_table_id: text(table),
            dry_run: None,
        };
        ec2.replace_route_table_association(root, request)
    };
    let next = replace(&association, &other).await.unwrap().new_association_id.unwrap();
    assert_ne!(association, next);
    assert_eq!(code(replace(&association, &other).await), "InvalidAssociationID.NotFound");
    let found = site.tables(filter("association.subnet-id", &subnet).unwrap()).await;
    assert_eq!(found[0].route_table_id.as_ref(), Some(&other));
    let delete = |table: &str| {
        let request = api::DeleteRouteTableRequest { route_table_id: text(table), dry_run: None };
        ec2.delete_route_table(root, request)
    };
    assert_eq!(code(delete(&other).await), "DependencyViolation");
    let main = site.main_table().await;
    let main_id = main.route_table_id.unwrap();
    assert_eq!(code(delete(&main_id).await), "DependencyViolation");
    let of_main = main.associations.unwrap()[0].route_table_association_id.clone().unwrap();
    let new_main = replace(&of_main, &table).await.unwrap().new_association_id.unwrap();
    let found = filter("association.route-table-association-id", &new_main).unwrap();
    assert_eq!(site.tables(found).await[0].route_table_id.as_ref(), Some(&table));
    delete(&main_id).await.unwrap();
    let request = api::DisassociateRouteTableRequest { association_id: Some(next), dry_run: None };
    ec2.disassociate_route_table(root, request).await.unwrap();
    delete(&other).await.unwrap();
}

#[tokio::test]
async fn a_nat_gateway_holds_its_address_and_leaves_its_routes() {
    let site = Site::new("10.0.0.0/16").await;
    let (ec2, root) = (&site.world.ec2, &site.root);
    let subnet = site.subnet("10.0.1.0/24").await.unwrap().subnet_id.unwrap();
    let allocation = site.address().await;
    let failed = site.nat(&subnet, &allocation).await.unwrap();
    assert_eq!(failed.state, Some(api::NatGatewayState::Failed));
    assert_eq!(failed.failure_code.as_deref(), Some("Gateway.NotAttached"));
    let gateway = site.gateway().await;
    let nat = site.nat(&subnet, &allocation).await.unwrap();
    assert_eq!(nat.state, Some(api::NatGatewayState::Available));
    assert_eq!(nat.availability_mode, Some(api::AvailabilityMode::Zonal));
    let id = nat.nat_gateway_id.unwrap();
    let addresses = nat.nat_gateway_addresses.unwrap();
    let public = addresses[0].public_ip.clone().unwrap();
    assert!(public.starts_with("198.18."), "{public}");
    let table = site.main_table().await.route_table_id.unwrap();
    site.route(&table, "0.0.0.0/0", &id).await.unwrap();

    let release = || {
        let allocation_id = Some(allocation.clone());
        let request = api::ReleaseAddressRequest { allocation_id, ..Default::default() };
        ec2.release_address(root, request)
    };
    assert_eq!(code(release().await), "InvalidIPAddress.InUse");
    let refused = site.detach(&gateway).await.unwrap_err();
    assert_eq!(refused.code, "DependencyViolation");
    assert!(refused.message.contains(&public), "{}", refused.message);
    let request = api::DeleteSubnetRequest { subnet_id: Some(subnet.clone()), dry_run: None };
    let refused = ec2.delete_subnet(root, request).await.unwrap_err();
    assert!(refused.message.contains(&id), "{}", refused.message);
    let interfaces = || async {
        let filters = filter("subnet-id", &subnet);
        let request = api::DescribeNetworkInterfacesRequest { filters, ..Default::default() };
        let found = ec2.describe_network_interfaces(root, request).await.unwrap();
        found.network_interfaces.unwrap()
    };
    let its = interfaces().await;
    assert_eq!(its[0].interface_type.as_ref().unwrap().as_str(), "nat_gateway");
    assert_eq!(its[0].association.as_ref().unwrap().public_ip.as_ref(), Some(&public));
    let request = api::DeleteNetworkInterfaceRequest {
        network_interface_id: its[0].network_interface_id.clone(),
        dry_run: None,
    };
    let refused = ec2.delete_network_interface(root, request).await.unwrap_err();
    assert!(refused.message.ends_with("is currently in use."), "{}", refused.message);

    let delete = || {
        let nat_gateway_id = Some(id.clone());
        ec2.delete_nat_gateway(root, api::DeleteNatGatewayRequest { nat_gateway_id, dry_run: None })
    };
    delete().await.unwrap();
    assert_eq!(interfaces().await, []);
    let nats = || async {
        let request = api::DescribeNatGatewaysRequest {
            nat_gateway_ids: Some(vec![id.clone()]),
            ..Default::default()
        };
        ec2.describe_nat_gateways(&site.world.root(), request).await
    };
    let shown = nats().await.unwrap().nat_gateways.unwrap();
    assert_eq!(shown[0].state, Some(api::NatGatewayState::Deleted));
    let routes = site.main_table().await.routes.unwrap();
    assert_eq!(routes[1].state, Some(api::RouteState::Blackhole));
    site.world.core.env.advance_ms(3_600_001);
    assert_eq!(code(nats().await), "NatGatewayNotFound");
    release().await.unwrap();
    site.detach(&gateway).await.unwrap();
}

#[tokio::test]
async fn entries_of_an_acl_are_kept_in_order_and_checked() {
    let site = Site::new("10.0.0.0/16").await;
    let (ec2, root) = (&site.world.ec2, &site.root);
    let request =
        api::CreateNetworkAclRequest { vpc_id: Some(site.vpc.clone()), ..Default::default() };
    let made = ec2.create_network_acl(root, request).await.unwrap().network_acl.unwrap();
    let id = made.network_acl_id.unwrap();
    let entry = |number: i32, protocol: &str, ports: Option<(i32, i32)>, cidr: &str| {
        let is_six = cidr.contains(':');
        api::CreateNetworkAclEntryRequest {
            network_acl_id: Some(id.clone()),
            rule_number: Some(number),
            protocol: text(protocol),
            rule_action: Some(api::RuleAction::Allow),
            egress: Some(false),
            cidr_block: (!is_six).then(|| cidr.to_owned()),
            ipv6_cidr_block: is_six.then(|| cidr.to_owned()),
            port_range: ports.map(|(from, to)| api::PortRange { from: Some(from), to: Some(to) }),
            ..Default::default()
        }
    };
    for (request, refused) in [
        (entry(200, "tcp", Some((80, 80)), "0.0.0.0/0"), None),
        (entry(100, "-1", None, "10.0.0.1/16"), None),
        (entry(101, "-1", None, "::/0"), None),
        (entry(100, "-1", None, "0.0.0.0/0"), Some("NetworkAclEntryAlreadyExists")),
        (entry(0, "-1", None, "0.0.0.0/0"), Some("InvalidParameterValue")),
        (entry(32_767, "-1", None, "0.0.0.0/0"), Some("InvalidParameterValue")),
        (entry(300, "tcp", None, "0.0.0.0/0"), Some("MissingParameter")),
        (entry(300, "tcp", Some((90, 80)), "0.0.0.0/0"), Some("InvalidParameterValue")),
        (entry(300, "carrier", None, "0.0.0.0/0"), Some("InvalidParameterValue")),
        (entry(300, "-1", None, "0.0.0.0/40"), Some("InvalidParameterValue")),
    ] {
        let done = ec2.create_network_acl_entry(root, request.clone()).await;
        let done = done.err().map(|error| error.code.into_owned());
        assert_eq!(done.as_deref(), refused, "{request:?}");
    }
    let ids = Some(vec![id.clone()]);
    let request = api::DescribeNetworkAclsRequest { network_acl_ids: ids, ..Default::default() };
    let acl = ec2.describe_network_acls(root, request).await.unwrap().network_acls.unwrap();
    let entries = acl[0].entries.as_ref().unwrap();
    let numbers: Vec<i32> = entries.iter().filter_map(|entry| entry.rule_number).collect();
    assert_eq!(numbers, [100, 101, 200, 32_767, 32_767]);
    assert_eq!(entries[0].cidr_block.as_deref(), Some("10.0.0.0/16"));
    assert_eq!(entries[2].protocol.as_deref(), Some("6"), "always a number");
    let request = api::DeleteNetworkAclRequest { network_acl_id: Some(id), dry_run: None };
    ec2.delete_network_acl(root, request).await.unwrap();
}

#[tokio::test]
async fn what_hosts_do_not_carry_out_is_refused_by_name() {
    let world = world().await;
    let (ec2, root) = (&world.ec2, &world.root());
    let default = ec2.control.vpc(&ec2.control.view(), root.account).unwrap();
    let request = api::AssociateVpcCidrBlockRequest {
        vpc_id: text(default.id.as_str()),
        cidr_block: text("10.9.0.0/16"),
        ..Default::default()
    };
    assert_eq!(code(ec2.associate_vpc_cidr_block(root, request).await), "UnsupportedOperation");
    let request = api::CreateVpcRequest {
        cidr_block: text("10.0.0.0/16"),
        amazon_provided_ipv6_cidr_block: Some(true),
        ..Default::default()
    };
    assert_eq!(code(ec2.create_vpc(root, request).await), "UnsupportedOperation");
}

#[tokio::test]
async fn interfaces_have_addresses_of_their_subnet_once_and_groups_of_their_vpc() {
    let site = Site::new("10.0.0.0/16").await;
    let (ec2, root) = (&site.world.ec2, &site.root);
    let subnet = site.subnet("10.0.1.0/28").await.unwrap().subnet_id;
    let request = |address: Option<&str>| api::CreateNetworkInterfaceRequest {
        subnet_id: subnet.clone(),
        private_ip_address: address.map(str::to_owned),
        ..Default::default()
    };
    let create = |address| ec2.create_network_interface(root, request(address));
    let first = create(Some("10.0.1.7")).await.unwrap().network_interface.unwrap();
    assert_eq!(first.private_dns_name, None, "the VPC has no host names");
    assert_eq!(code(create(Some("10.0.1.7")).await), "InvalidIPAddress.InUse");
    for address in ["10.0.1.3", "10.0.1.15", "10.0.2.4", "x"] {
        assert_eq!(code(create(Some(address)).await), "InvalidParameterValue", "{address}");
    }
    for _ in 0..10 {
        create(None).await.unwrap();
    }
    let refused = create(None).await.unwrap_err();
    assert_eq!(refused.code, "InsufficientFreeAddressesInSubnet");
    assert!(refused.message.contains(subnet.as_ref().unwrap()), "{}", refused.message);
    let request = api::CreateSecurityGroupRequest {
        group_name: text("web"),
        description: text("of the default VPC"),
        ..Default::default()
    };
    let other = ec2.create_security_group(root, request).await.unwrap().group_id.unwrap();
    let request = api::ModifyNetworkInterfaceAttributeRequest {
        network_interface_id: first.network_interface_id.clone(),
        groups: Some(vec![other]),
        ..Default::default()
    };
    let refused = ec2.modify_network_interface_attribute(root, request).await;
    assert_eq!(code(refused), "InvalidGroup.NotFound");
    for (length, is_taken) in [(255, true), (256, false)] {
        let request = api::ModifyNetworkInterfaceAttributeRequest {
            network_interface_id: first.network_interface_id.clone(),
            description: Some(api::AttributeValue { value: Some("é".repeat(length)) }),
            ..Default::default()
        };
        let changed = ec2.modify_network_interface_attribute(root, request).await;
        assert_eq!(changed.is_ok(), is_taken, "{length}");
    }
    let request = api::DeleteNetworkInterfaceRequest {
        network_interface_id: first.network_interface_id,
        dry_run: None,
    };
    ec2.delete_network_interface(root, request).await.unwrap();
    create(None).await.unwrap();
}

#[tokio::test]
async fn a_policy_about_a_thing_holds_where_a_request_names_its_association_alone() {
    let site = Site::new("10.0.0.0/16").await;
    let (ec2, root) = (&site.world.ec2, &site.root);
    let subnet = site.subnet("10.0.1.0/24").await.unwrap().subnet_id.unwrap();
    let request = api::CreateRouteTableRequest { vpc_id: text(&site.vpc), ..Default::default() };
    let table = ec2.create_route_table(root, request).await.unwrap().route_table.unwrap();
    let request = api::AssociateRouteTableRequest {
        route_table_id: table.route_table_id,
        subnet_id: text(&subnet),
        ..Default::default()
    };
    let made = ec2.associate_route_table(root, request).await.unwrap().association_id;
    let policy = format!(
        r#"{{"Version": "2012-10-17", "Statement": [
            {{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}},
            {{"Effect": "Deny", "Action": "ec2:*", "Resource": "arn:aws:ec2:*:*:subnet/{subnet}"}}]}}"#
    );
    let core = &site.world.core;
    let user = control::testing::people::user(core, "000000000000", "ann", &policy).await;
    let request = api::DisassociateRouteTableRequest { association_id: made, dry_run: None };
    let refused = ec2.disassociate_route_table(&user, request.clone()).await;
    assert_eq!(code(refused), "AccessDeniedException");
    ec2.disassociate_route_table(root, request).await.unwrap();
}

#[tokio::test]
async fn what_all_accounts_have_addresses_of_is_not_used_up_by_one() {
    let site = Site::new("10.0.0.0/16").await;
    let (ec2, root) = (&site.world.ec2, &site.root);
    let subnets = ec2.describe_subnets(
        root,
        api::DescribeSubnetsRequest {
            filters: filter("default-for-az", "true"),
            ..Default::default()
        },
    );
    let subnets = subnets.await.unwrap().subnets.unwrap();
    let create = |number: usize| {
        let subnet_id = subnets[number % subnets.len()].subnet_id.clone();
        let request = api::CreateNetworkInterfaceRequest { subnet_id, ..Default::default() };
        ec2.create_network_interface(root, request)
    };
    for number in 0..crate::limits::SHARED_INTERFACES_MAX {
        create(number).await.unwrap();
    }
    assert_eq!(code(create(0).await), "NetworkInterfaceLimitExceeded");
}
