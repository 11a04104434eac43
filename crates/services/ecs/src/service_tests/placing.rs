use ecs_api as api;

use super::world::{INVALID, World, refused, text};

fn member_of(expression: &str) -> api::PlacementConstraint {
    api::PlacementConstraint {
        r#type: Some(api::PlacementConstraintType::MemberOf),
        expression: text(expression),
    }
}

fn strategy(kind: &str, field: Option<&str>) -> api::PlacementStrategy {
    api::PlacementStrategy { r#type: Some(kind.into()), field: field.map(str::to_owned) }
}

const ZONE: &str = "attribute:ecs.availability-zone";

#[tokio::test]
async fn placement_is_kept_and_shown() {
    let world = World::new().await;
    let distinct = api::PlacementConstraint {
        r#type: Some(api::PlacementConstraintType::DistinctInstance),
        expression: None,
    };
    let constraints = vec![distinct, member_of("attribute:stack == prod")];
    let strategies = vec![
        strategy("spread", Some(ZONE)),
        strategy("binpack", Some("memory")),
        strategy("random", None),
    ];
    let made = world.create(|input| {
        input.placement_constraints = Some(constraints.clone());
        input.placement_strategy = Some(strategies);
    });
    let made = made.await.unwrap();
    assert_eq!(made.placement_constraints, Some(constraints));
    let shown = made.placement_strategy.unwrap();
    assert_eq!(shown[0], strategy("spread", Some(ZONE)));
    assert_eq!(shown[1], strategy("binpack", Some("MEMORY")));
    let on = api::AvailabilityZoneRebalancing::Enabled;
    assert_eq!(made.availability_zone_rebalancing, Some(on));
    let updated = world.update(|input| {
        input.placement_constraints = Some(vec![]);
        input.placement_strategy = Some(vec![]);
    });
    let updated = updated.await.unwrap();
    assert_eq!(updated.placement_constraints, Some(vec![]));
    assert_eq!(updated.placement_strategy, Some(vec![]));
    assert_eq!(updated.deployments.unwrap().len(), 1, "placement makes no deployment");
}

#[tokio::test]
async fn placement_has_limits_and_a_language() {
    let world = World::new().await;
    let constrain = async |constraints: Vec<api::PlacementConstraint>| {
        world.create(|input| input.placement_constraints = Some(constraints)).await
    };
    let many = vec![member_of("attribute:a == b"); 11];
    refused(constrain(many).await, INVALID, "placementConstraints can have at most 10 items.");
    let error = constrain(vec![member_of("colour == red")]).await.unwrap_err();
    assert!(error.message.starts_with("Invalid expression 'colour == red'"), "{error}");
    let empty = constrain(vec![member_of("")]).await;
    refused(empty, INVALID, "The memberOf constraint requires an expression.");
    let unknown = api::PlacementConstraint { r#type: Some("x".into()), expression: None };
    let message = "Placement constraint type should be one of [distinctInstance,memberOf]";
    refused(constrain(vec![unknown]).await, INVALID, message);

    let place = async |strategies: Vec<api::PlacementStrategy>| {
        world.create(|input| input.placement_strategy = Some(strategies)).await
    };
    let many = vec![strategy("random", None); 6];
    refused(place(many).await, INVALID, "placementStrategy can have at most 5 items.");
    let message = "The field 'disk' is not valid for the binpack placement strategy.";
    refused(place(vec![strategy("binpack", Some("disk"))]).await, INVALID, message);
    let message = "The field 'attribute:' is not valid for the spread placement strategy.";
    refused(place(vec![strategy("spread", Some("attribute:"))]).await, INVALID, message);
}

#[tokio::test]
async fn fargate_places_by_itself() {
    let world = World::new().await;
    let fargate = world.on_fargate();
    let made = world.create(|input| {
        fargate(input);
        input.placement_strategy = Some(vec![strategy("random", None)]);
    });
    let message = "Placement strategies are not supported with FARGATE launch type.";
    refused(made.await, INVALID, message);
}

#[tokio::test]
async fn zones_are_rebalanced_only_where_that_can_be() {
    let world = World::new().await;
    let enabled = async |change: fn(&mut api::CreateServiceRequest), why: &str| {
        let made = world.create(|input| {
            input.availability_zone_rebalancing = Some(api::AvailabilityZoneRebalancing::Enabled);
            change(input);
        });
        let message = format!("Availability Zone rebalancing does not support {why}.");
        refused(made.await, INVALID, &message);
    };
    let full = |input: &mut api::CreateServiceRequest| {
        input.deployment_configuration = Some(api::DeploymentConfiguration {
            maximum_percent: Some(100),
            minimum_healthy_percent: Some(0),
            ..Default::default()
        });
    };
    enabled(full, "a maximumPercent of 100").await;
    let packed = |input: &mut api::CreateServiceRequest| {
        input.placement_strategy = Some(vec![strategy("binpack", Some("cpu"))]);
    };
    enabled(packed, "a placement strategy that does not spread by Availability Zone first").await;
    let zoned = |input: &mut api::CreateServiceRequest| {
        input.placement_constraints =
            Some(vec![member_of("attribute:ecs.availability-zone == us-east-1a")]);
    };
    enabled(zoned, "placement constraints on attribute:ecs.availability-zone").await;
    let made = world.create(packed).await.unwrap();
    let off = api::AvailabilityZoneRebalancing::Disabled;
    assert_eq!(made.availability_zone_rebalancing, Some(off), "the default is on where it can be");
}

#[tokio::test]
async fn a_service_that_zones_no_longer_fit_is_not_refused_but_stops_balancing_them() {
    let world = World::new().await;
    let on = api::AvailabilityZoneRebalancing::Enabled;
    let made = world.create(|_| ()).await.unwrap();
    assert_eq!(made.availability_zone_rebalancing, Some(on.clone()));
    let random = || Some(vec![strategy("random", None)]);
    let asked = world.update(|input| {
        input.placement_strategy = random();
        input.availability_zone_rebalancing = Some(on);
    });
    assert_eq!(asked.await.unwrap_err().code, INVALID, "who asks for both is told");
    let updated = world.update(|input| input.placement_strategy = random()).await.unwrap();
    let off = api::AvailabilityZoneRebalancing::Disabled;
    assert_eq!(updated.availability_zone_rebalancing, Some(off.clone()));
    assert_eq!(updated.placement_strategy, random());
    let empty = api::PlacementStrategy { r#type: None, field: None };
    let updated = world.update(|input| input.placement_strategy = Some(vec![empty])).await.unwrap();
    assert_eq!(updated.placement_strategy, Some(vec![]), "an empty object removes them");
    assert_eq!(updated.availability_zone_rebalancing, Some(off), "nobody asked for it again");
}
