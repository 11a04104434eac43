use ecs_api as api;
use model::service::Scheduling;

use super::world::{INVALID, World, refused, text};
use crate::service_spec::read_settings;

fn percents(min: i32, max: i32) -> api::DeploymentConfiguration {
    api::DeploymentConfiguration {
        minimum_healthy_percent: Some(min),
        maximum_percent: Some(max),
        ..Default::default()
    }
}

#[tokio::test]
async fn percentages_must_leave_room_to_move() {
    let world = World::new().await;
    let create = async |min, max| {
        let settings = percents(min, max);
        world.create(|input| input.deployment_configuration = Some(settings)).await
    };
    let message = "Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block \
                   deployments.";
    refused(create(100, 100).await, INVALID, message);
    let message = "minimumHealthyPercent must be between 0 and 100.";
    refused(create(101, 200).await, INVALID, message);
    refused(create(-1, 200).await, INVALID, message);
    refused(create(0, 99).await, INVALID, "maximumPercent cannot be less than 100.");
    let made = create(0, 100).await.unwrap();
    let off = api::AvailabilityZoneRebalancing::Disabled;
    assert_eq!(made.availability_zone_rebalancing, Some(off), "there is no room to move tasks in");
}

#[tokio::test]
async fn alarms_early_success_and_functions_are_refused_by_name() {
    let world = World::new().await;
    let create = async |settings: api::DeploymentConfiguration| {
        world.create(|input| input.deployment_configuration = Some(settings)).await
    };
    let alarms = api::DeploymentAlarms { enable: Some(true), ..Default::default() };
    let alarms = api::DeploymentConfiguration { alarms: Some(alarms), ..Default::default() };
    let message = "deploymentConfiguration.alarms is not supported by this region: its \
                   deployments look at no alarms.";
    refused(create(alarms).await, "UnsupportedFeatureException", message);
    let early = api::DeploymentEarlySuccessCriteria { enable: Some(true), ..Default::default() };
    let early =
        api::DeploymentConfiguration { early_success_criteria: Some(early), ..Default::default() };
    assert_eq!(create(early).await.unwrap_err().code, "UnsupportedFeatureException");
    let pause = api::DeploymentLifecycleHook {
        target_type: Some(api::DeploymentLifecycleHookTargetType::Pause),
        lifecycle_stages: Some(vec![api::DeploymentLifecycleHookStage::PostScaleUp]),
        ..Default::default()
    };
    let hooks =
        api::DeploymentConfiguration { lifecycle_hooks: Some(vec![pause]), ..Default::default() };
    assert_eq!(create(hooks).await.unwrap_err().code, "UnsupportedFeatureException");
}

#[tokio::test]
async fn strategies_are_kept_with_their_defaults_and_go_back_to_rolling() {
    let world = World::new().await;
    let with = |strategy: &str| api::DeploymentConfiguration {
        strategy: Some(strategy.into()),
        ..Default::default()
    };
    let hook = api::DeploymentLifecycleHook {
        target_type: Some(api::DeploymentLifecycleHookTargetType::Pause),
        lifecycle_stages: Some(vec![api::DeploymentLifecycleHookStage::PostScaleUp]),
        ..Default::default()
    };
    let linear =
        api::DeploymentConfiguration { lifecycle_hooks: Some(vec![hook]), ..with("LINEAR") };
    let made = world.create(|input| input.deployment_configuration = Some(linear)).await.unwrap();
    let shown = made.deployment_configuration.unwrap();
    let step = shown.linear_configuration.unwrap();
    assert_eq!((step.step_percent, step.step_bake_time_in_minutes), (Some(10.0), Some(6)));
    let timeout = shown.lifecycle_hooks.unwrap()[0].timeout_configuration.clone().unwrap();
    assert_eq!(timeout.timeout_in_minutes, Some(1_440));
    assert_eq!(timeout.action, Some(api::DeploymentLifecycleHookAction::Rollback));
    let update = async |settings: api::DeploymentConfiguration| {
        world.update(|input| input.deployment_configuration = Some(settings)).await
    };
    for (percent, is_taken) in [(0.1, true), (33.3, true), (0.05, false), (100.1, false)] {
        let canary =
            api::CanaryConfiguration { canary_percent: Some(percent), ..Default::default() };
        let asked =
            api::DeploymentConfiguration { canary_configuration: Some(canary), ..with("CANARY") };
        assert_eq!(update(asked).await.is_ok(), is_taken, "{percent}");
    }
    let shown = update(with("ROLLING")).await.unwrap().deployment_configuration.unwrap();
    assert_eq!(shown.strategy, Some(api::DeploymentStrategy::Rolling));
    assert_eq!((shown.canary_configuration, shown.lifecycle_hooks), (None, None));
}

#[tokio::test]
async fn hooks_name_a_task_definition_or_an_allowed_url_and_are_shown_as_they_were_given() {
    const ROLE: &str = "arn:aws:iam::000000000000:role/checks";
    const TASK: &str = "arn:aws:ecs:us-east-1:000000000000:task-definition/web";
    let world = World::new().await;
    let create = async |target: &str, role: Option<&str>, stage: &str| {
        let hook = api::DeploymentLifecycleHook {
            hook_target_arn: text(target),
            role_arn: role.map(str::to_owned),
            lifecycle_stages: Some(vec![stage.into()]),
            hook_details: Some(aws_wire::Document(serde_json::json!({"a": 1}))),
            ..Default::default()
        };
        let settings = api::DeploymentConfiguration {
            strategy: Some(api::DeploymentStrategy::BlueGreen),
            lifecycle_hooks: Some(vec![hook]),
            ..Default::default()
        };
        world.create(|input| input.deployment_configuration = Some(settings)).await
    };
    let function = "arn:aws:lambda:us-east-1:000000000000:function:f";
    for (target, role, part) in [
        (function, Some(ROLE), "no Lambda functions"),
        ("", Some(ROLE), "hookTargetArn can not be empty"),
        ("web", Some(ROLE), "is neither"),
        ("https://user:pw@checks.lan/", None, "is not the URL of a hook"),
        ("https://checks.lan/", None, "--allow-hook checks.lan:443"),
        ("https://checks.lan/", Some(ROLE), "leave out the roleArn"),
        (TASK, None, "roleArn can not be empty"),
        (
            "arn:aws:ecs:us-east-1:000000000000:task-definition/web:9",
            Some(ROLE),
            "can't be run: TaskDefinition not found",
        ),
    ] {
        let error = create(target, role, "POST_SCALE_UP").await.expect_err(target);
        assert!(error.message.contains(part), "{target}: {}", error.message);
    }
    let error = create(TASK, Some(ROLE), "BAKE_TIME").await.expect_err("it is no stage of hooks");
    assert!(error.message.starts_with("BAKE_TIME should be one of [RECONCILE_SERVICE,"));
    let made = create(TASK, Some(ROLE), "TEST_TRAFFIC_SHIFT").await.unwrap();
    let shown = made.deployment_configuration.unwrap().lifecycle_hooks.unwrap().remove(0);
    assert_eq!(shown.target_type, Some(api::DeploymentLifecycleHookTargetType::AwsLambda));
    assert_eq!((shown.hook_target_arn, shown.role_arn), (text(TASK), text(ROLE)));
    assert_eq!(shown.hook_details.unwrap().0, serde_json::json!({"a": 1}));
}

#[tokio::test]
async fn daemons_have_rules_of_their_own() {
    let world = World::new().await;
    let daemon = |input: &mut api::CreateServiceRequest| {
        input.scheduling_strategy = Some(api::SchedulingStrategy::Daemon);
        input.desired_count = None;
    };
    let made = world.create(|input| {
        daemon(input);
        input.desired_count = Some(1);
    });
    let message = "The daemon scheduling strategy does not support a desired count for services. \
                   Remove the desired count value and try again";
    refused(made.await, INVALID, message);
    let made = world.create(|input| {
        daemon(input);
        let r#type = Some(api::PlacementStrategyType::Random);
        input.placement_strategy = Some(vec![api::PlacementStrategy { r#type, field: None }]);
    });
    let message = "The daemon scheduling strategy does not support placement strategies. Remove \
                   the placement strategy and try again";
    refused(made.await, INVALID, message);
    let fargate = world.on_fargate();
    let made = world.create(|input| {
        fargate(input);
        daemon(input);
    });
    assert_eq!(made.await.unwrap_err().code, INVALID);
    world.with_providers().await;
    let fargate = world.on_fargate();
    let made = world.create(|input| {
        fargate(input);
        daemon(input);
        input.launch_type = None;
        let capacity_provider = text("FARGATE");
        let item = api::CapacityProviderStrategyItem { capacity_provider, ..Default::default() };
        input.capacity_provider_strategy = Some(vec![item]);
    });
    let message = "Specifying a capacity provider strategy is not supported when you create a \
                   service using the DAEMON scheduling strategy.";
    refused(made.await, INVALID, message);
    let made = world.create(|input| {
        daemon(input);
        input.deployment_configuration = Some(percents(0, 200));
    });
    assert_eq!(made.await.unwrap_err().code, INVALID);
    let made = world.create(|input| {
        daemon(input);
        input.availability_zone_rebalancing = Some(api::AvailabilityZoneRebalancing::Enabled);
    });
    let message = "Availability Zone rebalancing does not support the DAEMON scheduling strategy.";
    refused(made.await, INVALID, message);

    let made = world.create(daemon).await.unwrap();
    assert_eq!(made.scheduling_strategy, Some(api::SchedulingStrategy::Daemon));
    let settings = made.deployment_configuration.unwrap();
    assert_eq!((settings.minimum_healthy_percent, settings.maximum_percent), (Some(0), Some(100)));
    let updated = world.update(|input| input.desired_count = Some(1)).await;
    let message = "The daemon scheduling strategy does not support a desired count for services. \
                   Remove the desired count value and try again";
    refused(updated, INVALID, message);
}

#[tokio::test]
async fn with_an_external_controller_the_work_is_the_task_sets_affair() {
    let world = World::new().await;
    let external = |input: &mut api::CreateServiceRequest| {
        let r#type = Some(api::DeploymentControllerType::External);
        input.deployment_controller = Some(api::DeploymentController { r#type });
        input.desired_count = None;
    };
    let message = "You cannot specify a task definition when creating a service with an EXTERNAL \
                   deployment controller. Specify it in a task set instead.";
    refused(world.create(external).await, INVALID, message);
    let bare = |input: &mut api::CreateServiceRequest| {
        external(input);
        input.task_definition = None;
    };
    let breaker = api::DeploymentCircuitBreaker {
        enable: Some(true),
        rollback: Some(true),
        ..Default::default()
    };
    let made = world.create(|input| {
        bare(input);
        input.deployment_configuration = Some(api::DeploymentConfiguration {
            deployment_circuit_breaker: Some(breaker),
            ..Default::default()
        });
    });
    assert_eq!(made.await.unwrap_err().code, INVALID);
    let made = world.create(bare).await.unwrap();
    assert_eq!((made.desired_count, made.deployments), (Some(0), Some(vec![])));
    assert_eq!((made.task_sets, made.task_definition), (Some(vec![]), None));
    let again = world.create(bare).await.unwrap();
    assert_eq!(again.created_at, made.created_at);
    let updated = world.update(|input| input.task_definition = text("bridge:2")).await;
    let message = "Unable to update task definition on services with an EXTERNAL deployment \
                   controller. Use task sets instead.";
    refused(updated, INVALID, message);
    let updated = world.update(|input| input.desired_count = Some(4)).await.unwrap();
    assert_eq!(updated.desired_count, Some(4));
}

#[tokio::test]
async fn a_breaker_is_kept_and_shown() {
    let world = World::new().await;
    let threshold = |kind: &str, value| api::ThresholdConfiguration {
        r#type: Some(kind.into()),
        value: Some(value),
    };
    for bad in [threshold("COUNT", 0), threshold("HALF", 1), threshold("COUNT", -1)] {
        let breaker = api::DeploymentCircuitBreaker {
            enable: Some(true),
            threshold_configuration: Some(bad),
            ..Default::default()
        };
        let settings = api::DeploymentConfiguration {
            deployment_circuit_breaker: Some(breaker),
            ..Default::default()
        };
        let made = world.create(|input| input.deployment_configuration = Some(settings)).await;
        assert_eq!(made.unwrap_err().code, INVALID);
    }
    let breaker = api::DeploymentCircuitBreaker {
        enable: Some(true),
        rollback: Some(true),
        reset_on_healthy_task: Some(false),
        threshold_configuration: Some(threshold("UNBOUNDED_PERCENT", 20)),
    };
    let settings = api::DeploymentConfiguration {
        deployment_circuit_breaker: Some(breaker.clone()),
        ..Default::default()
    };
    let made = world.create(|input| input.deployment_configuration = Some(settings)).await.unwrap();
    let shown = made.deployment_configuration.unwrap();
    assert_eq!(shown.deployment_circuit_breaker, Some(breaker));
    let updated = world.update(|input| input.deployment_configuration = Some(percents(50, 150)));
    let shown = updated.await.unwrap().deployment_configuration.unwrap();
    assert_eq!(shown.maximum_percent, Some(150));
    assert_eq!(
        shown.deployment_circuit_breaker.unwrap().enable,
        Some(true),
        "what is not named stays"
    );
}

#[test]
fn no_configuration_is_the_one_before() {
    let before = crate::service_spec::defaults(Scheduling::Daemon);
    let read = read_settings(None, &before, Scheduling::Daemon, model::service::Controller::Ecs);
    assert_eq!(read.unwrap(), before);
}
