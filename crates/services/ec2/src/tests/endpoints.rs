//! VPC endpoints, through the service.

use aws_wire::ApiError;
use ec2_api as api;
use ec2_api::Ec2 as _;
use longshore_types::Timestamp;
use model::network::{EndpointKind, VpcEndpoint};
use store::Batch;

use super::filter;
use super::networks::{Site, text};

const LOGS: &str = "com.amazonaws.us-east-1.logs";
const S3: &str = "com.amazonaws.us-east-1.s3";

struct World {
    site: Site,
    subnets: Vec<String>,
}

impl World {
    /// A VPC whose resolver has names, with a subnet in each of two zones and another in the first.
    async fn new() -> Self {
        let site = Site::new("10.0.0.0/16").await;
        let mut world = Self { site, subnets: vec![] };
        world.names(true).await;
        for (block, zone) in [("10.0.1.0/24", 'a'), ("10.0.2.0/24", 'b'), ("10.0.3.0/24", 'a')] {
            let request = api::CreateSubnetRequest {
                vpc_id: Some(world.site.vpc.clone()),
                cidr_block: text(block),
                availability_zone: Some(format!("us-east-1{zone}")),
                ..Default::default()
            };
            let made = world.site.world.ec2.create_subnet(&world.site.root, request).await;
            world.subnets.push(made.unwrap().subnet.unwrap().subnet_id.unwrap());
        }
        world
    }

    async fn names(&self, is_on: bool) {
        let request = api::ModifyVpcAttributeRequest {
            vpc_id: Some(self.site.vpc.clone()),
            enable_dns_hostnames: Some(api::AttributeBooleanValue { value: Some(is_on) }),
            ..Default::default()
        };
        let ec2 = &self.site.world.ec2;
        ec2.modify_vpc_attribute(&self.site.root, request).await.unwrap();
    }

    fn interface(&self, service: &str, subnets: &[usize]) -> api::CreateVpcEndpointRequest {
        api::CreateVpcEndpointRequest {
            vpc_endpoint_type: Some(api::VpcEndpointType::Interface),
            vpc_id: Some(self.site.vpc.clone()),
            service_name: text(service),
            subnet_ids: Some(subnets.iter().map(|at| self.subnets[*at].clone()).collect()),
            ..Default::default()
        }
    }

    async fn make(
        &self,
        request: api::CreateVpcEndpointRequest,
    ) -> Result<api::VpcEndpoint, ApiError> {
        let made = self.site.world.ec2.create_vpc_endpoint(&self.site.root, request).await?;
        Ok(made.vpc_endpoint.unwrap())
    }

    async fn modify(&self, request: api::ModifyVpcEndpointRequest) -> Result<(), ApiError> {
        let ec2 = &self.site.world.ec2;
        ec2.modify_vpc_endpoint(&self.site.root, request).await.map(|_| ())
    }

    async fn delete(&self, id: &str) -> Vec<api::UnsuccessfulItem> {
        let request = api::DeleteVpcEndpointsRequest {
            vpc_endpoint_ids: Some(vec![id.to_owned()]),
            dry_run: None,
        };
        let ec2 = &self.site.world.ec2;
        let deleted = ec2.delete_vpc_endpoints(&self.site.root, request).await;
        deleted.unwrap().unsuccessful.unwrap()
    }

    async fn all(&self) -> Vec<api::VpcEndpoint> {
        let request = api::DescribeVpcEndpointsRequest {
            filters: filter("vpc-id", &self.site.vpc),
            ..Default::default()
        };
        let ec2 = &self.site.world.ec2;
        let found = ec2.describe_vpc_endpoints(&self.site.root, request).await;
        found.unwrap().vpc_endpoints.unwrap()
    }

    async fn interfaces(&self) -> Vec<api::NetworkInterface> {
        let request = api::DescribeNetworkInterfacesRequest {
            filters: filter("interface-type", "vpc_endpoint"),
            ..Default::default()
        };
        let ec2 = &self.site.world.ec2;
        let found = ec2.describe_network_interfaces(&self.site.root, request).await;
        found.unwrap().network_interfaces.unwrap()
    }
}

fn names(endpoint: &api::VpcEndpoint) -> Vec<&str> {
    endpoint.dns_entries.iter().flatten().filter_map(|it| it.dns_name.as_deref()).collect()
}

#[tokio::test]
async fn an_endpoint_has_an_interface_a_zone_which_only_it_takes_away() {
    let world = World::new().await;
    let mut request = world.interface(LOGS, &[0, 1]);
    request.client_token = text("once");
    let made = world.make(request.clone()).await.unwrap();
    assert_eq!(made.vpc_endpoint_id, world.make(request).await.unwrap().vpc_endpoint_id);
    let id = made.vpc_endpoint_id.clone().unwrap();
    assert_eq!(made.state.as_ref().map(|state| state.as_str()), Some("available"));
    assert_eq!(names(&made).len(), 4);
    assert_eq!(names(&made)[3], "logs.us-east-1.amazonaws.com");
    let interfaces = world.interfaces().await;
    let ids: Vec<_> = interfaces.iter().filter_map(|it| it.network_interface_id.clone()).collect();
    let mut shown = made.network_interface_ids.clone().unwrap();
    shown.sort();
    assert_eq!(ids, shown);
    assert_eq!(interfaces[0].description, Some(format!("VPC Endpoint Interface {id}")));
    assert_eq!(interfaces[0].groups.as_ref().unwrap().len(), 1, "the VPC's default group");
    let request = api::DeleteNetworkInterfaceRequest {
        network_interface_id: Some(ids[0].clone()),
        dry_run: None,
    };
    let ec2 = &world.site.world.ec2;
    let refused = ec2.delete_network_interface(&world.site.root, request).await.unwrap_err();
    assert!(refused.message.contains("currently in use"), "{refused:?}");
    assert_eq!(world.site.delete_vpc().await.unwrap_err().code, "DependencyViolation");
    assert_eq!(world.delete(&id).await, []);
    assert!(world.interfaces().await.is_empty() && world.all().await.is_empty());
    let again = world.delete(&id).await.remove(0);
    assert_eq!(again.error.unwrap().code.as_deref(), Some("InvalidVpcEndpoint.NotFound"));
}

#[tokio::test]
async fn subnets_groups_and_names_of_an_endpoint_change() {
    let world = World::new().await;
    let made = world.make(world.interface(LOGS, &[0])).await.unwrap();
    let id = made.vpc_endpoint_id;
    let group = api::CreateSecurityGroupRequest {
        description: text("of endpoints"),
        group_name: text("endpoints"),
        vpc_id: Some(world.site.vpc.clone()),
        ..Default::default()
    };
    let ec2 = &world.site.world.ec2;
    let group = ec2.create_security_group(&world.site.root, group).await.unwrap().group_id.unwrap();
    let default = made.groups.unwrap().remove(0).group_id.unwrap();
    let change = api::ModifyVpcEndpointRequest {
        vpc_endpoint_id: id.clone(),
        add_subnet_ids: Some(vec![world.subnets[1].clone()]),
        add_security_group_ids: Some(vec![group.clone()]),
        remove_security_group_ids: Some(vec![default]),
        private_dns_enabled: Some(false),
        policy_document: text(
            r#"{"Statement":[{"Effect":"Deny","Principal":"*","Action":"logs:Put*","Resource":"*"}]}"#,
        ),
        ..Default::default()
    };
    world.modify(change).await.unwrap();
    let after = world.all().await.remove(0);
    assert_eq!(after.subnet_ids.as_ref().unwrap().len(), 2);
    assert_eq!(after.private_dns_enabled, Some(false));
    assert!(after.policy_document.as_ref().unwrap().contains("Deny"));
    for interface in world.interfaces().await {
        assert_eq!(interface.groups.unwrap()[0].group_id.as_ref(), Some(&group));
    }
    let less = api::ModifyVpcEndpointRequest {
        vpc_endpoint_id: id.clone(),
        remove_subnet_ids: Some(vec![world.subnets[0].clone()]),
        reset_policy: Some(true),
        ..Default::default()
    };
    world.modify(less).await.unwrap();
    assert_eq!(world.interfaces().await.len(), 1);
    assert!(world.all().await[0].policy_document.as_ref().unwrap().contains("Allow"));
    let none = api::ModifyVpcEndpointRequest {
        vpc_endpoint_id: id,
        remove_security_group_ids: Some(vec![group]),
        ..Default::default()
    };
    assert_eq!(world.modify(none).await.unwrap_err().code, "InvalidParameterValue");
}

#[tokio::test]
async fn a_group_of_an_endpoint_stays_though_the_endpoint_has_no_subnet() {
    let world = World::new().await;
    let group = api::CreateSecurityGroupRequest {
        description: text("of endpoints"),
        group_name: text("endpoints"),
        vpc_id: Some(world.site.vpc.clone()),
        ..Default::default()
    };
    let ec2 = &world.site.world.ec2;
    let group = ec2.create_security_group(&world.site.root, group).await.unwrap().group_id;
    let mut request = world.interface(LOGS, &[]);
    request.security_group_ids = Some(vec![group.clone().unwrap()]);
    let made = world.make(request).await.unwrap().vpc_endpoint_id.unwrap();
    let deletion =
        || api::DeleteSecurityGroupRequest { group_id: group.clone(), ..Default::default() };
    let refused = ec2.delete_security_group(&world.site.root, deletion()).await.unwrap_err();
    assert_eq!(refused.code, "DependencyViolation");
    assert_eq!(world.delete(&made).await, []);
    ec2.delete_security_group(&world.site.root, deletion()).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_an_endpoint_is_refused_by_name() {
    let world = World::new().await;
    let code = async |request| world.make(request).await.unwrap_err().code.into_owned();
    let unknown = world.interface("com.amazonaws.us-east-1.kinesis", &[0]);
    assert_eq!(code(unknown).await, "InvalidServiceName");
    assert_eq!(code(world.interface(S3, &[0])).await, "InvalidParameter");
    assert_eq!(code(world.interface(LOGS, &[0, 2])).await, "DuplicateSubnetsInSameZone");
    let mut broken = world.interface(LOGS, &[0]);
    broken.policy_document = text("{}");
    assert_eq!(code(broken).await, "InvalidPolicyDocument");
    let mut of_lattice = world.interface(LOGS, &[0]);
    of_lattice.service_network_arn =
        text("arn:aws:vpc-lattice:us-east-1:000000000000:servicenetwork/a");
    assert_eq!(code(of_lattice).await, "UnsupportedOperation");
    let mut long = world.interface(LOGS, &[0]);
    let blanks = " ".repeat(20_480);
    long.policy_document = Some(format!(
        r#"{{"Statement":{{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}}}{blanks}"#
    ));
    assert_eq!(code(long).await, "InvalidPolicyDocument");
    let mut by_gateway = world.interface(LOGS, &[]);
    (by_gateway.vpc_endpoint_type, by_gateway.subnet_ids) = (None, None);
    assert_eq!(code(by_gateway).await, "InvalidParameter");
    let mut dry = world.interface(LOGS, &[0]);
    dry.dry_run = Some(true);
    assert_eq!(code(dry).await, "DryRunOperation");
    world.make(world.interface(LOGS, &[0])).await.unwrap();
    let second = world.make(world.interface(LOGS, &[1])).await.unwrap_err();
    assert!(second.message.contains("conflicting DNS domain for logs."), "{second:?}");
    let mut without = world.interface(LOGS, &[1]);
    without.private_dns_enabled = Some(false);
    world.make(without).await.unwrap();
    world.names(false).await;
    let ecs = world.interface("com.amazonaws.us-east-1.ecs", &[0]);
    let refused = world.make(ecs).await.unwrap_err();
    assert!(refused.message.contains("enableDnsHostnames"), "{refused:?}");
}

#[tokio::test]
async fn an_account_has_so_many_endpoints_in_all_its_vpcs() {
    let world = World::new().await;
    let account = world.site.root.account;
    let made = world.site.world.ec2.control.decide(|view, _| {
        let mut batch = Batch::on(view);
        for number in 0..199 {
            batch.put(VpcEndpoint {
                account,
                id: format!("vpce-{number:08x}").parse().unwrap(),
                vpc: "vpc-00000001".parse().unwrap(),
                service: "s3".to_owned(),
                kind: EndpointKind::Gateway { tables: vec![] },
                policy: None,
                created_at: Timestamp(0),
            });
        }
        Ok((batch, ()))
    });
    made.await.unwrap();
    let last = world.make(world.interface(LOGS, &[0])).await.unwrap().vpc_endpoint_id.unwrap();
    let mut one_more = world.interface(LOGS, &[1]);
    one_more.private_dns_enabled = Some(false);
    let refused = world.make(one_more.clone()).await.unwrap_err();
    assert_eq!(refused.code, "VpcEndpointLimitExceeded");
    assert_eq!(world.delete(&last).await, []);
    world.make(one_more).await.unwrap();
}

#[tokio::test]
async fn a_gateways_route_is_in_the_tables_that_it_is_for() {
    let world = World::new().await;
    let table = world.site.main_table().await.route_table_id.unwrap();
    let request = api::CreateVpcEndpointRequest {
        vpc_id: Some(world.site.vpc.clone()),
        service_name: text(S3),
        route_table_ids: Some(vec![table.clone()]),
        ..Default::default()
    };
    let made = world.make(request.clone()).await.unwrap();
    assert_eq!(made.vpc_endpoint_type, Some(api::VpcEndpointType::Gateway));
    assert_eq!(made.route_table_ids, Some(vec![table.clone()]));
    assert_eq!(world.make(request).await.unwrap_err().code, "RouteAlreadyExists");
    let routes = world.site.main_table().await.routes.unwrap();
    let route = routes.iter().find(|it| it.gateway_id == made.vpc_endpoint_id).unwrap();
    assert_eq!(route.destination_prefix_list_id.as_deref(), Some("pl-63a5400a"));
    let change = api::ModifyVpcEndpointRequest {
        vpc_endpoint_id: made.vpc_endpoint_id.clone(),
        remove_route_table_ids: Some(vec![table]),
        ..Default::default()
    };
    world.modify(change).await.unwrap();
    assert_eq!(world.site.main_table().await.routes.unwrap().len(), 1);
}

#[tokio::test]
async fn a_gateways_policy_is_shown_changed_and_reset() {
    const READ: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"*"}]}"#;
    let world = World::new().await;
    let request = |policy: &str| api::CreateVpcEndpointRequest {
        vpc_id: Some(world.site.vpc.clone()),
        service_name: text(S3),
        policy_document: text(policy),
        ..Default::default()
    };
    assert_eq!(world.make(request("{}")).await.unwrap_err().code, "InvalidPolicyDocument");
    let made = world.make(request(READ)).await.unwrap();
    assert_eq!(made.policy_document.as_deref(), Some(READ));
    let shown = async || {
        let ids = vec![made.vpc_endpoint_id.clone().unwrap()];
        let request =
            api::DescribeVpcEndpointsRequest { vpc_endpoint_ids: Some(ids), ..Default::default() };
        let found = world.site.world.ec2.describe_vpc_endpoints(&world.site.root, request).await;
        found.unwrap().vpc_endpoints.unwrap().remove(0).policy_document.unwrap()
    };
    let change = |policy: Option<&str>| api::ModifyVpcEndpointRequest {
        vpc_endpoint_id: made.vpc_endpoint_id.clone(),
        policy_document: policy.map(str::to_owned),
        reset_policy: Some(policy.is_none()),
        ..Default::default()
    };
    let other = READ.replace("Get", "Put");
    world.modify(change(Some(&other))).await.unwrap();
    assert_eq!(shown().await, other);
    world.modify(change(None)).await.unwrap();
    assert!(shown().await.contains(r#""Action":"*""#), "{}", shown().await);
}

#[tokio::test]
async fn services_are_described_with_their_types() {
    let world = World::new().await;
    let ec2 = &world.site.world.ec2;
    let request = api::DescribeVpcEndpointServicesRequest {
        filters: filter("service-type", "Gateway"),
        ..Default::default()
    };
    let found = ec2.describe_vpc_endpoint_services(&world.site.root, request).await.unwrap();
    let expected = ["dynamodb", "s3"].map(|name| format!("com.amazonaws.us-east-1.{name}"));
    assert_eq!(found.service_names.unwrap(), expected);
    let by_name = |name: &str| api::DescribeVpcEndpointServicesRequest {
        service_names: Some(vec![name.to_owned()]),
        ..Default::default()
    };
    let found = ec2.describe_vpc_endpoint_services(&world.site.root, by_name(LOGS)).await;
    let detail = found.unwrap().service_details.unwrap().remove(0);
    assert_eq!(detail.private_dns_name.as_deref(), Some("logs.us-east-1.amazonaws.com"));
    assert_eq!(detail.availability_zones.map(|zones| zones.len()), Some(3));
    let none = ec2.describe_vpc_endpoint_services(&world.site.root, by_name("x")).await;
    assert_eq!(none.unwrap_err().code, "InvalidServiceName");
}
