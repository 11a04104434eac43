//! Application load balancers as targets of network load balancers.

use elb_api::Elb as _;

use super::hosts::host;
use super::*;

impl World {
    async fn alb_group(&self, name: &str, port: i32) -> String {
        self.group_of(name, (api::ProtocolEnum::Tcp, port), api::TargetTypeEnum::Alb).await
    }

    async fn delete_balancer(&self, arn: &str) -> Result<(), ApiError> {
        let input = api::DeleteLoadBalancerInput { load_balancer_arn: text(arn) };
        self.elb.delete_load_balancer(&self.root(), input).await.map(drop)
    }
}

/// An application balancer with a listener at port 80, and a network balancer with a group for it.
async fn world() -> (World, String, String, String, String) {
    let world = World::new().await;
    let web = world.balancer("web").await.load_balancer_arn.unwrap();
    let http = world.group("web").await;
    let listener = world.listener(&web, 80, &http).await.listener_arn.unwrap();
    let flows = world.network_balancer("flows").await;
    let group = world.alb_group("albs", 80).await;
    world.tcp_listener(&flows, &group).await;
    (world, web, listener, flows, group)
}

#[tokio::test]
async fn such_a_group_is_of_tcp_and_checked_by_http_and_tells_who_the_client_is() {
    let world = World::new().await;
    let create = async |protocol, check: Option<api::ProtocolEnum>| {
        let input = api::CreateTargetGroupInput {
            name: text("albs"),
            protocol: Some(protocol),
            port: Some(80),
            vpc_id: text(world.vpc().id.as_str()),
            target_type: Some(api::TargetTypeEnum::Alb),
            health_check_protocol: check,
            ..Default::default()
        };
        world.elb.create_target_group(&world.root(), input).await
    };
    for (protocol, name) in [(api::ProtocolEnum::Udp, "UDP"), (api::ProtocolEnum::Http, "HTTP")] {
        let message = format!(
            "Target groups with the target type 'alb' must have the protocol TCP; '{name}' is not supported"
        );
        refused(create(protocol, None).await, "InvalidConfigurationRequest", &message);
    }
    let message = "Health check protocol 'TCP' must be one of 'HTTP, HTTPS'";
    let by_tcp = create(api::ProtocolEnum::Tcp, Some(api::ProtocolEnum::Tcp)).await;
    refused(by_tcp, "ValidationError", message);
    let made = create(api::ProtocolEnum::Tcp, None).await.unwrap().target_groups.unwrap().remove(0);
    assert_eq!(made.target_type, Some(api::TargetTypeEnum::Alb));
    assert_eq!(made.health_check_protocol, Some(api::ProtocolEnum::Http));
    assert_eq!(made.matcher.unwrap().http_code, text("200-399"));
    let group = made.target_group_arn.unwrap();
    for (key, default, other) in [
        ("preserve_client_ip.enabled", "true", "false"),
        ("proxy_protocol_v2.enabled", "false", "true"),
        ("deregistration_delay.timeout_seconds", "300", "5"),
        ("deregistration_delay.connection_termination.enabled", "false", "true"),
        ("stickiness.enabled", "false", "true"),
        ("load_balancing.cross_zone.enabled", "use_load_balancer_configuration", "true"),
    ] {
        let error = world.set_group(&group, &[(key, other)]).await.unwrap_err();
        assert_eq!(error.code, "InvalidConfigurationRequest", "{key}");
        world.set_group(&group, &[(key, default)]).await.unwrap();
    }
}

#[tokio::test]
async fn a_balancer_is_a_target_with_a_listener_at_the_groups_port_and_one_alone() {
    let (world, web, _, flows, group) = world().await;
    let refuse = async |group: &str, target: &str, code: &str, message: &str| {
        refused(world.try_register(group, target).await, code, message);
    };
    for other in [flows.as_str(), "172.31.0.9"] {
        let message = format!("'{other}' is not the ARN of an application load balancer");
        refuse(&group, other, "ValidationError", &message).await;
    }
    let other_port = world.alb_group("other-port", 81).await;
    let message = format!(
        "The load balancer '{web}' must have a listener at the port of the target group, '81'"
    );
    refuse(&other_port, &web, "InvalidTarget", &message).await;
    world.register(&group, &web).await;
    world.register(&group, &web).await;
    let second = world.balancer("second").await.load_balancer_arn.unwrap();
    world.listener(&second, 80, &world.group("second").await).await;
    refuse(&group, &second, "TooManyTargets", "The maximum number of Targets is 1").await;
    world.register(&world.alb_group("two", 80).await, &web).await;
    let third = world.alb_group("three", 80).await;
    let message = "The maximum number of RegistrationsForTargetId is 2";
    refuse(&third, &web, "TooManyRegistrationsForTargetId", message).await;
}

#[tokio::test]
async fn a_target_and_the_listener_by_which_it_is_reached_stay_for_as_long_as_it_is_one() {
    let (world, web, listener, flows, group) = world().await;
    world.register(&group, &web).await;
    let message = format!(
        "Load balancer '{web}' cannot be deleted because it is currently associated with another service"
    );
    refused(world.delete_balancer(&web).await, "ResourceInUse", &message);
    let input = api::DeleteListenerInput { listener_arn: text(&listener) };
    let message =
        format!("Listener port '80' is in use by registered target '{web}' and cannot be removed");
    refused(
        world.elb.delete_listener(&world.root(), input.clone()).await,
        "ResourceInUse",
        &message,
    );
    let moved = api::ModifyListenerInput {
        listener_arn: text(&listener),
        port: Some(81),
        ..Default::default()
    };
    refused(world.elb.modify_listener(&world.root(), moved).await, "ResourceInUse", &message);
    // Without it nothing is in the way.
    let target = api::TargetDescription { id: text(&web), ..Default::default() };
    let input =
        api::DeregisterTargetsInput { target_group_arn: text(&group), targets: Some(vec![target]) };
    world.elb.deregister_targets(&world.root(), input).await.unwrap();
    world.say(world.table().version, Finding::NotChecked, 0).await;
    assert_eq!(world.health(&group).await, []);
    world.delete_balancer(&web).await.unwrap();
    world.delete_balancer(&flows).await.unwrap();
}

#[tokio::test]
async fn it_is_reached_in_the_same_zone_where_it_serves_and_knows_who_introduces_clients() {
    let (world, web, _, _, group) = world().await;
    world.join(1, "us-east-1a").await;
    world.join(2, "us-east-1b").await;
    world.register(&group, &web).await;
    world.place().await;
    for number in [1, 2] {
        world.say_on(host(number), Finding::Healthy, 0).await;
    }
    let told = |number: u8| {
        let table = world.table_of(host(number));
        let group = table.groups.get(&GroupId(group.clone())).cloned().unwrap();
        assert!(group.proxy_protocol_v2, "in the word that processes of before know too");
        let target = group.targets[0].clone();
        let of = |name: &str| {
            table.balancers.values().find(|it| it.name.contains(name)).cloned().unwrap()
        };
        (target, of("app/web"), of("net/flows"))
    };
    let view = world.elb.control.view();
    let zone_of = |address: std::net::IpAddr| {
        let mut zones =
            view.elb_balancers.iter().filter(|row| row.name == "web").flat_map(|row| &row.zones);
        zones.find(|zone| std::net::IpAddr::V4(zone.address) == address).unwrap().zone.clone()
    };
    for number in [1, 2] {
        let (target, app, net) = told(number);
        assert_eq!(zone_of(target.address), net.interfaces[0].zone, "in its own zone");
        assert_eq!(target.by, Some(net.interfaces[0].reference()));
        let introducers = app.introducers.unwrap();
        assert_eq!(introducers.addresses.len(), 2, "both interfaces of the network balancer");
        assert!(introducers.addresses.contains(&net.interfaces[0].address));
        assert_eq!(introducers.inside, ["172.31.0.0/16".parse().unwrap()]);
    }
    // One that serves no more is left for the other.
    let version = world.table_of(host(2)).version;
    world.elb.take_in(host(2), Report { version, ..Report::default() }).await.unwrap();
    let (target, _, net) = told(2);
    assert_eq!(
        (zone_of(target.address).as_str(), net.interfaces[0].zone.as_str()),
        ("us-east-1a", "us-east-1b")
    );
}

#[tokio::test]
async fn who_may_introduce_clients_does_not_depend_on_what_is_forwarded_to() {
    let (world, web, _, _, group) = world().await;
    let introducers = || {
        let table = world.table();
        let row = table.balancers.values().find(|it| it.name.contains("app/web")).unwrap();
        row.introducers.clone()
    };
    let before = introducers();
    assert_eq!(before.as_ref().map(|it| it.addresses.len()), Some(2));
    world.register(&group, &web).await;
    assert_eq!(introducers(), before);
    world.network_balancer("others").await;
    assert_eq!(introducers().map(|it| it.addresses.len()), Some(4));
}
