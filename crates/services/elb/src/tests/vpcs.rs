//! Load balancers in VPCs with addresses of their own, and the ways to their targets.

use std::collections::BTreeSet;
use std::sync::Arc;

use control::reconcile::{Queue, Reconciler as _};
use elb_api::{self as api, Elb as _};
use longshore_types::{EniId, InstanceId, SubnetId, Timestamp, VpcId};
use model::instance::{AgentState, InstanceStatus};
use model::network::InternetGateway;
use model::task::Phase;
use model::vpc::{Interface, InterfaceId, InterfaceUser, mac_of, region_account};
use model::{ElbTarget, Instance, Key, Row};
use routing::InterfaceRef;
use store::{Batch, Change};

use super::{World, forward, refused, text};
use crate::feed::Publisher;

const VPC: &str = "vpc-0000000000000000a";

fn subnet(number: u8) -> SubnetId {
    format!("subnet-0000000000000000{number}").parse().unwrap()
}

impl World {
    async fn put_rows(&self, rows: Vec<Row>) {
        let put = |view: &model::View, _| {
            let mut batch = Batch::on(view);
            for row in &rows {
                batch.put(row.clone());
            }
            Ok((batch, ()))
        };
        self.elb.control.decide(put).await.unwrap();
    }

    async fn with_vpc(&self) -> VpcId {
        self.put_rows(control::testing::rows::own_vpc(self.root().account)).await;
        VPC.parse().unwrap()
    }

    async fn attach_gateway(&self, vpc: &VpcId) {
        let gateway = InternetGateway {
            account: self.root().account,
            id: "igw-0000000a".parse().unwrap(),
            vpc: Some(vpc.clone()),
        };
        self.put_rows(vec![gateway.into()]).await;
    }

    async fn create(&self, subnets: Vec<String>) -> Result<api::LoadBalancer, aws_wire::ApiError> {
        let input = api::CreateLoadBalancerInput {
            name: text("own"),
            subnets: Some(subnets),
            ..Default::default()
        };
        let made = self.elb.create_load_balancer(&self.root(), input).await?;
        Ok(made.load_balancers.unwrap().remove(0))
    }

    async fn own_group(&self, name: &str, kind: api::TargetTypeEnum) -> String {
        let input = api::CreateTargetGroupInput {
            name: text(name),
            protocol: Some(api::ProtocolEnum::Http),
            port: Some(80),
            vpc_id: text(VPC),
            target_type: Some(kind),
            ..Default::default()
        };
        let made = self.elb.create_target_group(&self.root(), input).await.unwrap();
        let group = made.target_groups.unwrap().remove(0);
        assert_eq!(group.vpc_id, text(VPC));
        group.target_group_arn.unwrap()
    }

    fn interfaces(&self) -> Vec<Interface> {
        let view = self.elb.control.view();
        view.interfaces.iter().map(|row| Interface::clone(row)).collect()
    }

    /// A task of the default VPC on a host that joined with another key than the region's own machine, or on that.
    async fn task_on(&self, number: u8, access_key: &str, address: &str) {
        let mut task = control::testing::rows::task(number.into());
        let id = InstanceId::from_bytes([number; 16]);
        (task.instance, task.phase) = (Some(id), Phase::Running);
        let instance = Instance {
            id,
            scope: task.scope.clone(),
            cluster: task.cluster.clone(),
            status: InstanceStatus::Active,
            total: Default::default(),
            reserved_ports: Default::default(),
            other_resources: vec![],
            attributes: Default::default(),
            tags: model::Tags::new(),
            ec2_instance_id: None,
            capacity_provider: None,
            is_external: false,
            access_key: text(access_key),
            registered_at: Timestamp(0),
            agent: AgentState::default(),
            health: vec![],
            version: 1,
        };
        let (address, vpc) = (address.parse().unwrap(), self.vpc());
        let at = vpc.subnets.iter().find(|subnet| subnet.block.contains(address)).unwrap();
        let interface = Interface {
            address,
            eni: EniId::mint(self.test.env.as_ref()),
            owner: self.elb.control.scope(&self.root()),
            user: InterfaceUser::Task {
                cluster: task.cluster.clone(),
                task: task.id,
                attachment: task.interface.as_ref().unwrap().attachment,
            },
            subnet: at.id.clone(),
            zone: at.zone.clone(),
            vpc: vpc.id.clone(),
            security_groups: vec![],
            mac: mac_of(address),
            assign_public_ip: false,
            created_at: Timestamp(0),
            is_apart: false,
            public: None,
        };
        self.put_rows(vec![task.into(), instance.into(), interface.into()]).await;
    }

    /// By which interface each target of a group is reached.
    fn ways(&self, group: &str) -> Vec<Option<InterfaceRef>> {
        let table = self.table();
        let group = table.groups.get(&routing::GroupId(group.to_owned()));
        group.into_iter().flat_map(|group| &group.targets).map(|it| it.by.clone()).collect()
    }
}

fn all_subnets() -> Vec<String> {
    [1, 2].map(|number| subnet(number).to_string()).to_vec()
}

#[tokio::test]
async fn a_balancer_is_in_the_vpc_of_its_subnets_with_interfaces_and_groups_there() {
    let world = World::new().await;
    let vpc = world.with_vpc().await;
    let message = format!("VPC {VPC} has no internet gateway");
    refused(world.create(all_subnets()).await, "InvalidSubnet", &message);
    world.attach_gateway(&vpc).await;
    let made = world.create(all_subnets()).await.unwrap();
    assert_eq!(made.vpc_id, text(VPC));
    assert_eq!(made.security_groups, Some(vec!["sg-0000000a".to_owned()]));
    assert_eq!(world.create(all_subnets()).await.unwrap(), made, "the same once more");
    let found = world.interfaces();
    let places: Vec<_> = found.iter().map(|row| (row.subnet.clone(), row.is_apart)).collect();
    assert_eq!(places, [(subnet(1), true), (subnet(2), true)]);
    let public: BTreeSet<_> = found.iter().filter_map(|row| row.public).collect();
    assert_eq!(public.len(), 2, "each is known to the world by an address of its own");
    let table = world.table();
    let balancer = table.balancers.values().next().unwrap();
    assert!(balancer.interfaces.iter().all(|it| it.own_vpc.as_deref() == Some(VPC)));
    let arn = made.load_balancer_arn;
    let input = api::SetSubnetsInput {
        load_balancer_arn: arn.clone(),
        subnets: Some([2, 3].map(|number| subnet(number).to_string()).to_vec()),
        ..Default::default()
    };
    world.elb.set_subnets(&world.root(), input).await.unwrap();
    let input = api::SetSecurityGroupsInput {
        load_balancer_arn: arn.clone(),
        security_groups: Some(vec!["sg-0000000b".to_owned()]),
        ..Default::default()
    };
    world.elb.set_security_groups(&world.root(), input).await.unwrap();
    let moved = world.interfaces();
    assert_eq!(moved[0].eni, found[1].eni, "one that stays is the same");
    assert_eq!(moved.iter().map(|row| &row.subnet).collect::<Vec<_>>(), [&subnet(2), &subnet(3)]);
    assert!(moved.iter().all(|row| row.security_groups[0].as_str() == "sg-0000000b"));
    let input = api::DeleteLoadBalancerInput { load_balancer_arn: arn };
    world.elb.delete_load_balancer(&world.root(), input).await.unwrap();
    assert_eq!(world.interfaces(), []);
}

#[tokio::test]
async fn what_is_of_two_vpcs_does_not_come_together() {
    let world = World::new().await;
    let vpc = world.with_vpc().await;
    world.attach_gateway(&vpc).await;
    let [first, second] = [0, 1].map(|number| world.vpc().subnets[number].id.to_string());
    let message =
        format!("All subnets must belong to the same VPC: '{VPC}', of which '{second}' is none");
    let mixed = vec![subnet(1).to_string(), second.clone()];
    refused(world.create(mixed).await, "InvalidConfigurationRequest", &message);
    let balancer = world.create(all_subnets()).await.unwrap().load_balancer_arn.unwrap();
    let input = api::SetSubnetsInput {
        load_balancer_arn: text(&balancer),
        subnets: Some(vec![first, second]),
        ..Default::default()
    };
    let message = format!("All subnets must belong to the same VPC: '{VPC}'");
    let set = world.elb.set_subnets(&world.root(), input).await;
    refused(set, "InvalidConfigurationRequest", &message);
    let input = api::SetSecurityGroupsInput {
        load_balancer_arn: text(&balancer),
        security_groups: Some(vec![world.vpc().security_group.to_string()]),
        ..Default::default()
    };
    let set = world.elb.set_security_groups(&world.root(), input).await;
    assert_eq!(set.unwrap_err().code, "InvalidConfigurationRequest");
    let group = world.group("default").await;
    let message =
        format!("Target group '{group}' is in a different VPC than load balancer '{balancer}'");
    let listener = world.try_listener(&balancer, 80, &group).await;
    refused(listener, "InvalidConfigurationRequest", &message);
    let own = world.own_group("own", api::TargetTypeEnum::Ip).await;
    let listener = world.listener(&balancer, 80, &own).await;
    let input = api::CreateRuleInput {
        listener_arn: listener.listener_arn,
        priority: Some(1),
        conditions: Some(vec![super::condition("path-pattern", "/a")]),
        actions: Some(vec![forward(&group)]),
        ..Default::default()
    };
    let rule = world.elb.create_rule(&world.root(), input).await;
    refused(rule, "InvalidConfigurationRequest", &message);
    let input = api::CreateTargetGroupInput {
        name: text("nowhere"),
        protocol: Some(api::ProtocolEnum::Http),
        port: Some(80),
        vpc_id: text("vpc-0000000000000000b"),
        ..Default::default()
    };
    let made = world.elb.create_target_group(&world.root(), input).await;
    refused(made, "ValidationError", "The VPC ID 'vpc-0000000000000000b' is not found");
}

#[tokio::test]
async fn a_target_in_a_vpc_is_reached_by_the_balancers_interface_in_its_zone_or_the_first() {
    let world = World::new().await;
    let vpc = world.with_vpc().await;
    world.attach_gateway(&vpc).await;
    let balancer = world.create(all_subnets()).await.unwrap().load_balancer_arn.unwrap();
    let group = world.own_group("own", api::TargetTypeEnum::Ip).await;
    // The default VPC has that address too, and there it is another account's.
    let [one, two] = [0, 1].map(|at: usize| world.interfaces()[at].clone());
    let of = |row: &Interface| Some(InterfaceRef { eni: row.eni.to_string(), own_vpc: text(VPC) });
    for address in ["172.31.1.200", "172.31.2.200", "172.31.3.200"] {
        world.register(&group, address).await;
    }
    world.listener(&balancer, 80, &group).await;
    assert_eq!(world.ways(&group), [of(&one), of(&two), of(&one)]);
    let message = format!(
        "The IP address '{}' cannot be used as a target, as it is in use by a load balancer",
        one.address
    );
    let own = world.try_register(&group, &one.address.to_string()).await;
    refused(own, "InvalidTarget", &message);
    let input =
        api::DescribeTargetHealthInput { target_group_arn: text(&group), ..Default::default() };
    let shown = world.elb.describe_target_health(&world.root(), input).await.unwrap();
    let zones = shown.target_health_descriptions.unwrap().into_iter();
    let zones: Vec<_> = zones.map(|it| it.target.unwrap().availability_zone.unwrap()).collect();
    assert_eq!(zones, ["us-east-1a", "us-east-1b", "us-east-1c"]);
    let outside = |address: &str, zone: &str| api::RegisterTargetsInput {
        target_group_arn: text(&group),
        targets: Some(vec![api::TargetDescription {
            id: text(address),
            availability_zone: text(zone),
            ..Default::default()
        }]),
    };
    let try_outside = async |address: &str, zone: &str| {
        world.elb.register_targets(&world.root(), outside(address, zone)).await
    };
    try_outside("10.9.9.9", "all").await.unwrap();
    let error = try_outside("10.9.9.8", "us-east-1z").await.unwrap_err();
    assert_eq!(error.code, "ValidationError", "{}", error.message);
    // Inside the range of the default VPC, and in no subnet of this one.
    let message =
        "The IP address '172.31.9.9' is one of the default VPC, which no other VPC reaches";
    refused(try_outside("172.31.9.9", "all").await, "InvalidTarget", message);
    let instances = world.own_group("instances", api::TargetTypeEnum::Instance).await;
    world.task_on(1, &world.elb.control.access.keys.node.access_key_id, "172.31.0.9").await;
    let id = InstanceId::from_bytes([1; 16]).to_string();
    let message = format!("The following targets are not in the target group VPC '{VPC}': '{id}'");
    refused(world.try_register(&instances, &id).await, "InvalidTarget", &message);
}

#[tokio::test]
async fn a_target_in_the_default_vpc_is_reached_by_an_interface_if_its_task_is_on_another_host() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    let own_key = world.elb.control.access.keys.node.access_key_id.clone();
    let second = "172.31.16.9";
    world.task_on(1, &own_key, "172.31.0.9").await;
    world.task_on(2, "AKIAOFAHOST", "172.31.0.10").await;
    world.task_on(3, "AKIAOFAHOST", second).await;
    for address in ["172.31.0.9", "172.31.0.10", second, "172.31.0.77"] {
        world.register(&group, address).await;
    }
    world.listener(&balancer, 80, &group).await;
    let in_zone = |zone: &str| {
        let mut rows = world.interfaces().into_iter();
        let row = rows.find(|row| row.task().is_none() && row.zone == zone).unwrap();
        Some(InterfaceRef { eni: row.eni.to_string(), own_vpc: None })
    };
    // By name: 172.31.0.10, 172.31.0.77, 172.31.0.9 and the one in the second zone.
    let expected = [in_zone("us-east-1a"), None, None, in_zone("us-east-1b")];
    assert_eq!(world.ways(&group), expected);
    // Where a target's task is placed later on, the table is made anew.
    let is_woken = async |phase| {
        let view = world.elb.control.view();
        let row = view.tasks.iter().find(|row| row.id == control::testing::rows::task(2).id);
        let mut task = model::Task::clone(row.unwrap());
        task.phase = phase;
        task.interface.as_mut().unwrap().address = "172.31.0.10".parse().unwrap();
        let key = Key::Task(task.scope.account, task.id);
        world.put_rows(vec![task.into()]).await;
        let (control, feed) = (Arc::clone(&world.elb.control), Arc::clone(&world.elb.feed));
        let (view, mut queue) = (control.view(), Queue::default());
        Publisher { control, feed }.wake(&view, &Change { seq: view.seq, key }, &mut queue);
        queue.ready()
    };
    assert_eq!((is_woken(Phase::Pending).await, is_woken(Phase::Running).await), (1, 0));
}

#[tokio::test]
async fn what_drains_in_a_vpc_without_a_balancer_is_not_told_without_a_way() {
    let world = World::new().await;
    let vpc = world.with_vpc().await;
    world.attach_gateway(&vpc).await;
    let balancer = world.create(all_subnets()).await.unwrap().load_balancer_arn;
    let group = world.own_group("own", api::TargetTypeEnum::Ip).await;
    world.register(&group, "172.31.1.200").await;
    let listener = world.listener(balancer.as_deref().unwrap(), 80, &group).await.listener_arn;
    world.deregister(&group, "172.31.1.200").await;
    let input = api::DeleteListenerInput { listener_arn: listener };
    world.elb.delete_listener(&world.root(), input).await.unwrap();
    let ways = world.ways(&group);
    assert!(matches!(ways.as_slice(), [Some(_)]), "{ways:?}");
    let input = api::DeleteLoadBalancerInput { load_balancer_arn: balancer };
    world.elb.delete_load_balancer(&world.root(), input).await.unwrap();
    assert_eq!(world.ways(&group), []);
    let view = world.elb.control.view();
    assert!(view.elb_targets.iter().all(|row| ElbTarget::is_draining(row)));
    let shared = InterfaceId::shared("172.31.1.200".parse().unwrap());
    assert_eq!(view.interfaces.get(region_account(), &shared), None);
}
