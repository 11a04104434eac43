//! Flows of network balancers whose targets are unhealthy, or leave.

use super::*;

#[tokio::test]
async fn an_unhealthy_target_keeps_its_flows_for_as_long_as_its_group_says() {
    let world = World::new().await;
    let balancer = world.network_balancer("flows").await;
    let group =
        world.group_of("flows", (api::ProtocolEnum::Tcp, 80), api::TargetTypeEnum::Ip).await;
    world.tcp_listener(&balancer, &group).await;
    world.register(&group, "172.31.0.9").await;
    const CUT: &str = "target_health_state.unhealthy.connection_termination.enabled";
    const DRAINING: &str = "target_health_state.unhealthy.draining_interval_seconds";
    let message =
        format!("The attribute '{DRAINING}' can only be other than '0' when '{CUT}' is 'false'");
    let early = world.set_group(&group, &[(DRAINING, "60")]).await;
    refused(early, "InvalidConfigurationRequest", &message);
    world.set_group(&group, &[(CUT, "false"), (DRAINING, "60")]).await.unwrap();
    let late = world.set_group(&group, &[(CUT, "true")]).await;
    refused(late, "InvalidConfigurationRequest", &message);
    let told = world.table().groups.remove(&GroupId(group.clone())).unwrap();
    assert_eq!((told.cut_when_unhealthy, told.unhealthy_draining_s), (false, 60));
    let state = async || world.health(&group).await.remove(0);
    let shown = |state: &str, reason: &str| (state.to_owned(), reason.to_owned());
    world.say(1, Finding::Healthy, 1).await;
    world.say(1, Finding::Timeout, 1).await;
    assert_eq!(state().await, shown("unhealthy.draining", "Target.FailedHealthChecks"));
    world.test.env.advance_ms(59_999);
    // That it fails for another reason by now makes the time no longer.
    world.say(1, Finding::Failed, 1).await;
    assert_eq!(state().await.0, "unhealthy.draining");
    world.test.env.advance_ms(1);
    assert_eq!(state().await.0, "unhealthy");
    world.say(1, Finding::Healthy, 1).await;
    world.say(1, Finding::Failed, 1).await;
    assert_eq!(state().await.0, "unhealthy.draining", "it was well in between");
    world.deregister(&group, "172.31.0.9").await;
    assert_eq!(state().await.0, "draining");
}

#[tokio::test]
async fn what_ends_with_the_deregistration_is_told_by_the_protocol_or_the_group() {
    let world = World::new().await;
    let balancer = world.network_balancer("flows").await;
    const KEY: &str = "deregistration_delay.connection_termination.enabled";
    for (name, protocol, usual) in
        [("tcp", api::ProtocolEnum::Tcp, false), ("udp", api::ProtocolEnum::Udp, true)]
    {
        let group = world.group_of(name, (protocol.clone(), 80), api::TargetTypeEnum::Ip).await;
        let input = api::CreateListenerInput {
            load_balancer_arn: text(&balancer),
            protocol: Some(protocol),
            port: Some(if usual { 81 } else { 80 }),
            default_actions: Some(vec![forward(&group)]),
            ..Default::default()
        };
        world.elb.create_listener(&world.root(), input).await.unwrap();
        let told = || world.table().groups.remove(&GroupId(group.clone())).unwrap();
        assert_eq!(told().cut_at_deregistration, usual, "{name}");
        world.set_group(&group, &[(KEY, &(!usual).to_string())]).await.unwrap();
        assert_eq!(told().cut_at_deregistration, !usual, "{name}");
    }
}
