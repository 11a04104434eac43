//! Balancers that keep what comes to a zone in that zone.

use elb_api::Elb as _;
use model::ElbBalancer;

use super::hosts::host;
use super::*;

impl World {
    pub(super) async fn network_balancer(&self, name: &str) -> String {
        let input = api::CreateLoadBalancerInput {
            name: text(name),
            r#type: Some(api::LoadBalancerTypeEnum::Network),
            subnets: Some(self.vpc().subnets.iter().take(2).map(|it| it.id.to_string()).collect()),
            ..Default::default()
        };
        let made = self.elb.create_load_balancer(&self.root(), input).await.unwrap();
        made.load_balancers.unwrap().remove(0).load_balancer_arn.unwrap()
    }

    pub(super) async fn tcp_listener(&self, balancer: &str, group: &str) {
        let input = api::CreateListenerInput {
            load_balancer_arn: text(balancer),
            protocol: Some(api::ProtocolEnum::Tcp),
            port: Some(80),
            default_actions: Some(vec![forward(group)]),
            ..Default::default()
        };
        self.elb.create_listener(&self.root(), input).await.unwrap();
    }

    pub(super) async fn set_group(
        &self,
        group: &str,
        pairs: &[(&str, &str)],
    ) -> Result<api::ModifyTargetGroupAttributesOutput, ApiError> {
        let attributes = pairs
            .iter()
            .map(|(key, value)| api::TargetGroupAttribute { key: text(key), value: text(value) });
        let input = api::ModifyTargetGroupAttributesInput {
            target_group_arn: text(group),
            attributes: Some(attributes.collect()),
        };
        self.elb.modify_target_group_attributes(&self.root(), input).await
    }

    /// The zones by which the only balancer is named.
    fn named_zones(&self) -> Vec<String> {
        let view = self.elb.control.view();
        let row = view.elb_balancers.iter().next().map(|row| ElbBalancer::clone(row)).unwrap();
        row.named_zones().map(|zone| zone.zone.clone()).collect()
    }
}

const CROSS_ZONE: &str = "load_balancing.cross_zone.enabled";

#[tokio::test]
async fn a_target_in_a_zone_to_which_nobody_can_come_is_not_used() {
    let world = World::new().await;
    let balancer = world.network_balancer("flows").await;
    let tcp = (api::ProtocolEnum::Tcp, 80);
    let group = world.group_of("flows", tcp, api::TargetTypeEnum::Ip).await;
    world.tcp_listener(&balancer, &group).await;
    let third = world.vpc().subnets[2].block.to_string();
    let address = third.replace(".0/20", ".9");
    world.register(&group, &address).await;
    let unused = vec![("unused".to_owned(), "Target.NotInUse".to_owned())];
    assert_eq!(world.health(&group).await, unused, "network balancers do not cross zones");
    let state = || world.table().groups.values().next().unwrap().targets[0].state;
    assert_eq!(state(), TargetState::Unused);
    let left_out = || crate::zonal::left_out(&world.elb.control.view());
    assert!(left_out().is_empty(), "it never was healthy");
    world.set_group(&group, &[(CROSS_ZONE, "true")]).await.unwrap();
    assert_eq!(world.health(&group).await[0].0, "initial");
    assert_eq!(state(), TargetState::Initial);
    world.say(world.table().version, Finding::Healthy, 0).await;
    assert!(left_out().is_empty());
    world.set_group(&group, &[(CROSS_ZONE, "use_load_balancer_configuration")]).await.unwrap();
    assert_eq!(world.health(&group).await, unused);
    let attribute = api::LoadBalancerAttribute { key: text(CROSS_ZONE), value: text("true") };
    let input = api::ModifyLoadBalancerAttributesInput {
        load_balancer_arn: text(&balancer),
        attributes: Some(vec![attribute]),
    };
    world.elb.modify_load_balancer_attributes(&world.root(), input).await.unwrap();
    assert_eq!(world.health(&group).await[0].0, "healthy");
    world.set_group(&group, &[(CROSS_ZONE, "false")]).await.unwrap();
    assert_eq!(world.health(&group).await, unused, "the group says otherwise for itself");
    assert_eq!(left_out(), [(group.clone(), 1)].into());
}

#[tokio::test]
async fn an_application_balancers_name_leaves_out_the_zone_in_which_its_group_has_nobody_healthy() {
    let world = World::new().await;
    world.join(1, "us-east-1a").await;
    world.join(2, "us-east-1b").await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    world.listener(&balancer, 80, &group).await;
    let first = world.vpc().subnets[0].block.to_string().replace(".0/20", ".9");
    world.register(&group, &first).await;
    world.place().await;
    for number in [1, 2] {
        world.say_on(host(number), Finding::Healthy, 0).await;
    }
    let both = ["us-east-1a", "us-east-1b"];
    assert_eq!(world.named_zones(), both, "targets of all zones are used");
    world.set_group(&group, &[(CROSS_ZONE, "false")]).await.unwrap();
    world.say_on(host(1), Finding::Healthy, 0).await;
    assert_eq!(world.named_zones(), ["us-east-1a"]);
    world.say_on(host(2), Finding::Failed, 0).await;
    world.say_on(host(1), Finding::Failed, 0).await;
    assert_eq!(world.named_zones(), both, "none is better");
}

#[tokio::test]
async fn an_interface_whose_subnet_was_taken_away_has_targets_for_as_long_as_it_serves_on() {
    let world = World::new().await;
    world.join(1, "us-east-1a").await;
    world.join(2, "us-east-1b").await;
    let balancer = world.network_balancer("flows").await;
    let tcp = (api::ProtocolEnum::Tcp, 80);
    let group = world.group_of("flows", tcp, api::TargetTypeEnum::Ip).await;
    world.tcp_listener(&balancer, &group).await;
    let second = world.vpc().subnets[1].block.to_string().replace(".0/20", ".9");
    world.register(&group, &second).await;
    world.place().await;
    for number in [1, 2] {
        world.say_on(host(number), Finding::Healthy, 0).await;
    }
    let input = api::SetSubnetsInput {
        load_balancer_arn: text(&balancer),
        subnets: Some(vec![world.vpc().subnets[0].id.to_string()]),
        ..Default::default()
    };
    world.elb.set_subnets(&world.root(), input).await.unwrap();
    let table = world.table_of(host(2));
    let interfaces = &table.balancers.values().next().unwrap().interfaces;
    assert!(interfaces[0].is_leaving, "{interfaces:?}");
    let target = &table.groups.values().next().unwrap().targets[0];
    assert_eq!(target.state, TargetState::Healthy);
    world.test.env.advance_ms(31_000);
    world.say_on(host(2), Finding::Healthy, 0).await;
    world.place().await;
    assert_eq!(world.health(&group).await[0].0, "unused");
}

#[tokio::test]
async fn what_needs_the_targets_of_all_zones_is_refused_without_them() {
    let world = World::new().await;
    let group = world.group("web").await;
    world.set_group(&group, &[(CROSS_ZONE, "false")]).await.unwrap();
    let sticky = [("stickiness.enabled", "true")];
    let message = "Stickiness cannot be enabled on target groups for which cross-zone load balancing is turned off";
    refused(world.set_group(&group, &sticky).await, "InvalidConfigurationRequest", message);
    let register_in = async |group: &str, zone: Option<&str>| {
        let target = api::TargetDescription {
            id: text("10.1.2.3"),
            availability_zone: zone.map(str::to_owned),
            ..Default::default()
        };
        let input = api::RegisterTargetsInput {
            target_group_arn: text(group),
            targets: Some(vec![target]),
        };
        world.elb.register_targets(&world.root(), input).await
    };
    let register = async |group: &str| register_in(group, Some("all")).await;
    let message = "The target '10.1.2.3' is in the Availability Zone 'all', which needs cross-zone load balancing to be turned on for the target group";
    refused(register(&group).await, "InvalidConfigurationRequest", message);
    world.set_group(&group, &[(CROSS_ZONE, "true")]).await.unwrap();
    register(&group).await.unwrap();
    let off = world.set_group(&group, &[(CROSS_ZONE, "false")]).await;
    refused(off, "InvalidConfigurationRequest", message);
    // Of a network balancer's group such a target is of every zone.
    let flows =
        world.group_of("flows", (api::ProtocolEnum::Tcp, 80), api::TargetTypeEnum::Ip).await;
    register(&flows).await.unwrap();
    world.set_group(&flows, &[(CROSS_ZONE, "false")]).await.unwrap();
    // Within zones one outside the VPC is of the zone that is named.
    let zonal = world.group("zonal").await;
    world.set_group(&zonal, &[(CROSS_ZONE, "false")]).await.unwrap();
    let message = "The Availability Zone of the IP address '10.1.2.3', which is outside the VPC, must be 'all' or one of the VPC";
    for zone in [None, Some("us-east-1z")] {
        refused(register_in(&zonal, zone).await, "ValidationError", message);
    }
    register_in(&zonal, Some("us-east-1b")).await.unwrap();
    let view = world.elb.control.view();
    let row = view.elb_targets.iter().find(|row| zonal.ends_with(&*row.id.group)).unwrap();
    assert_eq!(row.zone.as_deref(), Some("us-east-1b"));
}

#[tokio::test]
async fn a_zone_that_traffic_is_led_away_from_is_in_the_table_and_ends_with_the_attribute() {
    use model::elb::{ShiftState, ZonalShift};
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    world.listener(&balancer, 80, &group).await;
    let second = world.vpc().subnets[1].block.to_string().replace(".0/20", ".9");
    world.register(&group, &second).await;
    let set = async |value: &str| {
        let attribute = api::LoadBalancerAttribute {
            key: text("zonal_shift.config.enabled"),
            value: text(value),
        };
        let input = api::ModifyLoadBalancerAttributesInput {
            load_balancer_arn: text(&balancer),
            attributes: Some(vec![attribute]),
        };
        world.elb.modify_load_balancer_attributes(&world.root(), input).await.unwrap();
    };
    set("true").await;
    let shift = |view: &model::View, now| {
        let row = view.elb_balancers.iter().next().unwrap();
        let mut next = ElbBalancer::clone(row);
        next.shifts.push(ZonalShift {
            id: longshore_types::Uuid::from_random([1; 16]),
            away_from: "us-east-1b".to_owned(),
            started_at: now,
            expires_at: now.plus_ms(60_000),
            state: ShiftState::Active,
            comment: String::new(),
        });
        let mut batch = store::Batch::on(view);
        batch.put(next);
        Ok((batch, ()))
    };
    world.elb.control.decide(shift).await.unwrap();
    let overridden = async || {
        let input =
            api::DescribeTargetHealthInput { target_group_arn: text(&group), ..Default::default() };
        let shown = world.elb.describe_target_health(&world.root(), input).await.unwrap();
        let first = shown.target_health_descriptions.unwrap().remove(0);
        first.administrative_override.unwrap().state.unwrap().to_string()
    };
    let away = || world.table().balancers.values().next().unwrap().attributes.away_from.clone();
    assert_eq!(
        (away().as_deref(), &*overridden().await),
        (Some("us-east-1b"), "zonal_shift_active")
    );
    assert_eq!(world.named_zones(), ["us-east-1a"]);
    set("false").await;
    assert_eq!((away(), &*overridden().await), (None, "no_override"));
    let view = world.elb.control.view();
    assert_eq!(view.elb_balancers.iter().next().unwrap().shifts[0].state, ShiftState::Canceled);
}
