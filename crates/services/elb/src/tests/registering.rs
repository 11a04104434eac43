//! What may be registered, and what it is afterwards.

use std::sync::Arc;

use aws_wire::ApiError;
use control::reconcile::{Queue, Reconciler as _};
use control::testing::rows;
use elb_api::{self as api, Elb as _};
use longshore_types::{ClusterName, EniId, InstanceId, Timestamp, Uuid};
use model::Key;
use model::task::{Binding, Phase};
use model::vpc::{Interface, InterfaceUser, mac_of};
use store::Change;

use super::{World, forward, refused, text};
use crate::feed::Publisher;

impl World {
    /// A task of an account gets an address.
    async fn give(&self, account: &str, address: &str) {
        let owner = self.test.root_of(account);
        let control = &self.elb.control;
        let vpc = control.vpc(&control.view(), owner.account).unwrap();
        let address = address.parse().unwrap();
        let interface = Interface {
            address,
            eni: EniId::mint(self.test.env.as_ref()),
            owner: control.scope(&owner),
            user: InterfaceUser::Task {
                cluster: ClusterName::default_cluster(),
                task: rows::task(1).id,
                attachment: Uuid::mint(self.test.env.as_ref()),
            },
            subnet: vpc.subnets[0].id.clone(),
            zone: vpc.subnets[0].zone.clone(),
            vpc: vpc.id,
            security_groups: vec![],
            mac: mac_of(address),
            assign_public_ip: false,
            created_at: Timestamp(0),
            is_apart: false,
            public: None,
        };
        self.put(|_, batch| {
            batch.put(interface.clone());
        })
        .await;
    }
}

#[tokio::test]
async fn an_address_of_another_account_is_no_target() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    world.listener(&balancer, 80, &group).await;
    world.give("111111111111", "172.31.0.9").await;
    let message = "The IP address '172.31.0.9' is not one of this account's";
    refused(world.try_register(&group, "172.31.0.9").await, "InvalidTarget", message);
    world.give("000000000000", "172.31.0.10").await;
    world.register(&group, "172.31.0.10").await;
    let bridged = api::TargetDescription {
        id: text("172.30.0.9"),
        availability_zone: text("all"),
        ..Default::default()
    };
    let input =
        api::RegisterTargetsInput { target_group_arn: text(&group), targets: Some(vec![bridged]) };
    let error = world.elb.register_targets(&world.root(), input).await.unwrap_err();
    assert_eq!(error.code, "InvalidTarget", "{}", error.message);
    let known = |world: &World| world.table().groups.values().next().unwrap().targets.len();
    assert_eq!(known(&world), 1);
    // The task has ended, and the address is another's now.
    world.give("111111111111", "172.31.0.10").await;
    assert_eq!(known(&world), 0);
}

#[tokio::test]
async fn of_instances_only_what_tasks_publish_on_the_balancers_machine_is_a_target() {
    let world = World::new().await;
    let http = (api::ProtocolEnum::Http, 8080);
    let group = world.group_of("web", http, api::TargetTypeEnum::Instance).await;
    let put = async |number: u8, access_key: &str, port: u16| {
        let mut task = rows::task(number.into());
        let id = InstanceId::from_bytes([number; 16]);
        task.instance = Some(id);
        task.phase = Phase::Running;
        task.containers[0].seen.bindings =
            vec![Binding { host_port: Some(port), ..Binding::default() }];
        let mut instance = rows::instance(id);
        instance.scope = task.scope.clone();
        instance.ec2_instance_id = Some(format!("i-0123456789abcdef{}", number - 1));
        instance.access_key = text(access_key);
        world
            .put(|_, batch| {
                batch.put(task.clone()).put(instance.clone());
            })
            .await;
    };
    let register = async || world.try_register(&group, "i-0123456789abcdef0").await;
    let message = "The following targets are not in a running state and cannot be registered: \
                   'i-0123456789abcdef0'";
    refused(register().await, "InvalidTarget", message);
    put(1, "AKIAOFSOMEBODY", 8080).await;
    let message = "The instance 'i-0123456789abcdef0' is not the machine that load balancers are on; \
                   use a target group of the type 'ip'";
    refused(register().await, "InvalidTarget", message);
    let own = world.elb.control.access.keys.node.access_key_id.clone();
    put(1, &own, 4566).await;
    let message = "The port 8080 of 'i-0123456789abcdef0' is published by no task of this account";
    refused(register().await, "InvalidTarget", message);
    put(1, &own, 8080).await;
    register().await.unwrap();
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    world.listener(&balancer, 80, &group).await;
    let known = || world.table().groups.values().next().unwrap().targets.len();
    assert_eq!(known(), 1);
    // Whoever listens there after the task is not the account's.
    put(1, &own, 9090).await;
    assert_eq!(known(), 0);
    put(1, &own, 8080).await;
    assert_eq!(known(), 1);
    // What listens on the machine beside tasks is not asked how it is, whatever is published elsewhere.
    put(2, "AKIAOFSOMEBODY", 4566).await;
    for (port, targets) in [("4566", 0), ("8080", 1), ("traffic-port", 1)] {
        let input = api::ModifyTargetGroupInput {
            target_group_arn: text(&group),
            health_check_port: text(port),
            ..Default::default()
        };
        world.elb.modify_target_group(&world.root(), input).await.unwrap();
        assert_eq!(known(), targets, "{port}");
    }
    let (control, feed) = (Arc::clone(&world.elb.control), Arc::clone(&world.elb.feed));
    let (view, mut queue) = (control.view(), Queue::default());
    let key = Key::Task(world.root().account, rows::task(1).id);
    let change = Change { seq: view.seq, key };
    Publisher { control, feed }.wake(&view, &change, &mut queue);
    assert_eq!(queue.ready(), 1, "what tasks publish is looked at again");
}

#[tokio::test]
async fn a_target_that_is_registered_while_it_drains_is_the_same_one() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    world.listener(&balancer, 80, &group).await;
    world.register(&group, "172.31.0.9").await;
    let target = |world: &World| world.table().groups.values().next().unwrap().targets[0].clone();
    let first = target(&world);
    world.deregister(&group, "172.31.0.9").await;
    world.test.env.advance_ms(1_000);
    world.register(&group, "172.31.0.9").await;
    // Of another registration the balancer cuts what is in flight.
    assert_eq!(target(&world), first);
}

#[tokio::test]
async fn a_listener_takes_no_protocol_that_its_groups_do_not_fit() {
    let world = World::new().await;
    let input = api::CreateLoadBalancerInput {
        name: text("net"),
        r#type: Some(api::LoadBalancerTypeEnum::Network),
        subnets: Some(vec![world.vpc().subnets[0].id.to_string()]),
        ..Default::default()
    };
    let made = world.elb.create_load_balancer(&world.root(), input).await.unwrap();
    let balancer = made.load_balancers.unwrap().remove(0).load_balancer_arn;
    let tcp = (api::ProtocolEnum::Tcp, 80);
    let group = world.group_of("tcp", tcp, api::TargetTypeEnum::Ip).await;
    let input = api::CreateListenerInput {
        load_balancer_arn: balancer,
        protocol: Some(api::ProtocolEnum::Tcp),
        port: Some(80),
        default_actions: Some(vec![forward(&group)]),
        ..Default::default()
    };
    let made = world.elb.create_listener(&world.root(), input).await.unwrap();
    let input = api::ModifyListenerInput {
        listener_arn: made.listeners.unwrap().remove(0).listener_arn,
        protocol: Some(api::ProtocolEnum::Udp),
        ..Default::default()
    };
    let refused = world.elb.modify_listener(&world.root(), input).await.unwrap_err();
    assert_eq!(refused.code, "IncompatibleProtocols");
}

#[tokio::test]
async fn a_network_balancer_says_whether_its_groups_judge_what_comes_by_private_link() {
    let world = World::new().await;
    let group = world.vpc().security_group.to_string();
    let make = async |name: &str, kind: api::LoadBalancerTypeEnum, groups: Option<Vec<String>>| {
        let input = api::CreateLoadBalancerInput {
            name: text(name),
            r#type: Some(kind),
            subnets: Some(world.vpc().subnets.iter().take(2).map(|it| it.id.to_string()).collect()),
            security_groups: groups,
            ..Default::default()
        };
        let made = world.elb.create_load_balancer(&world.root(), input).await.unwrap();
        let made = made.load_balancers.unwrap().remove(0);
        let judges = made.enforce_security_group_inbound_rules_on_private_link_traffic;
        (made.load_balancer_arn.unwrap(), judges)
    };
    let set = async |arn: &str, judges: Option<&str>| {
        let input = api::SetSecurityGroupsInput {
            load_balancer_arn: text(arn),
            security_groups: Some(vec![group.clone()]),
            enforce_security_group_inbound_rules_on_private_link_traffic: judges.map(Into::into),
        };
        let set = world.elb.set_security_groups(&world.root(), input).await?;
        let judges = set.enforce_security_group_inbound_rules_on_private_link_traffic;
        Ok::<_, ApiError>(judges.map(|it| it.as_str().to_owned()))
    };
    let network = api::LoadBalancerTypeEnum::Network;
    let (_, judges) = make("bare", network.clone(), None).await;
    assert_eq!(judges, None, "it has no groups");
    let (arn, judges) = make("net", network, Some(vec![group.clone()])).await;
    assert_eq!(judges, text("on"));
    assert_eq!(set(&arn, Some("off")).await.unwrap(), text("off"));
    assert_eq!(set(&arn, None).await.unwrap(), text("off"), "what is not said stays");
    let input = api::DescribeLoadBalancersInput {
        load_balancer_arns: Some(vec![arn.clone()]),
        ..Default::default()
    };
    let shown = world.elb.describe_load_balancers(&world.root(), input).await.unwrap();
    let shown = shown.load_balancers.unwrap().remove(0);
    assert_eq!(shown.enforce_security_group_inbound_rules_on_private_link_traffic, text("off"));
    assert_eq!(set(&arn, Some("on")).await.unwrap(), text("on"));
    assert_eq!(set(&arn, Some("maybe")).await.unwrap_err().code, "ValidationError");
    let (arn, judges) = make("app", api::LoadBalancerTypeEnum::Application, None).await;
    assert_eq!(judges, None);
    let refused = set(&arn, Some("off")).await.unwrap_err();
    assert_eq!(refused.code, "InvalidConfigurationRequest");
}
