use ecs_api as api;

use super::world::{INVALID, World, refused, text};
use crate::{account_settings, list_services};

#[tokio::test]
async fn a_new_service_is_shown_as_ecs_shows_one() {
    let world = World::new().await;
    let tag = api::Tag { key: text("team"), value: text("a") };
    let made = world.create(|input| input.tags = Some(vec![tag.clone()])).await.unwrap();
    assert_eq!(made.service_arn, text("arn:aws:ecs:us-east-1:000000000000:service/default/web"));
    assert_eq!(made.cluster_arn, text("arn:aws:ecs:us-east-1:000000000000:cluster/default"));
    assert_eq!(made.status, text("ACTIVE"));
    assert_eq!(
        (made.desired_count, made.running_count, made.pending_count),
        (Some(2), Some(0), Some(0))
    );
    assert_eq!(made.launch_type, Some(api::LaunchType::Ec2));
    assert_eq!(made.scheduling_strategy, Some(api::SchedulingStrategy::Replica));
    assert_eq!(made.events, Some(vec![]));
    assert_eq!(made.tags, Some(vec![tag]));
    assert_eq!(made.created_by, text("arn:aws:iam::000000000000:root"));
    assert_eq!(made.role_arn, None);
    assert_eq!(made.propagate_tags, Some(api::PropagateTags::None_));
    let rebalancing = api::AvailabilityZoneRebalancing::Enabled;
    assert_eq!(made.availability_zone_rebalancing, Some(rebalancing));
    let settings = made.deployment_configuration.unwrap();
    assert_eq!(
        (settings.minimum_healthy_percent, settings.maximum_percent),
        (Some(100), Some(200))
    );
    assert_eq!(settings.strategy, Some(api::DeploymentStrategy::Rolling));

    let deployment = &made.deployments.unwrap()[0];
    assert_eq!(deployment.status, text("PRIMARY"));
    assert_eq!(deployment.rollout_state, Some(api::DeploymentRolloutState::InProgress));
    let id = deployment.id.clone().unwrap();
    let reason = deployment.rollout_state_reason.clone().unwrap();
    assert!(reason.starts_with(&format!("ECS deployment {id} in progress.")), "{reason}");
    assert_eq!(deployment.desired_count, Some(2));
    let definition = "arn:aws:ecs:us-east-1:000000000000:task-definition/bridge:1";
    assert_eq!(deployment.task_definition, text(definition));
    assert_eq!(made.task_definition, text(definition));
    let revisions = made.current_service_revisions.unwrap();
    assert_eq!((revisions.len(), revisions[0].requested_task_count), (1, Some(2)));
    let current = made.current_service_deployment.unwrap();
    assert!(current.contains(":service-deployment/default/web/"), "{current}");
}

#[tokio::test]
async fn a_fargate_service_shows_platform_network_and_the_role_that_ecs_acts_with() {
    let world = World::new().await;
    let made = world.create(world.on_fargate()).await.unwrap();
    assert_eq!((made.platform_version, made.platform_family), (text("LATEST"), text("Linux")));
    assert_eq!(made.deployments.unwrap()[0].platform_version, text("1.4.0"));
    let network = made.network_configuration.unwrap().awsvpc_configuration.unwrap();
    assert_eq!(network.security_groups, Some(vec![]));
    assert_eq!(network.assign_public_ip, Some(api::AssignPublicIp::Disabled));
    assert!(made.role_arn.unwrap().ends_with("AWSServiceRoleForECS"));
}

#[tokio::test]
async fn the_same_request_again_finds_what_it_made_and_another_is_refused() {
    let world = World::new().await;
    let first = world.create(world.on_fargate()).await.unwrap();
    let seq = world.ecs().control.view().seq;
    let again = world.create(world.on_fargate()).await.unwrap();
    assert_eq!((again.service_arn, again.created_at), (first.service_arn, first.created_at));
    assert_eq!(world.ecs().control.view().seq, seq, "nothing is written");
    let message = "Creation of service was not idempotent.";
    refused(world.create(|_| ()).await, INVALID, message);
    let network = world.on_fargate();
    let other = world.create(|input| {
        network(input);
        input.desired_count = Some(3);
    });
    refused(other.await, INVALID, message);
}

#[tokio::test]
async fn a_token_finds_its_service_even_after_it_was_changed() {
    let world = World::new().await;
    let token = |input: &mut api::CreateServiceRequest| input.client_token = text("t");
    world.create(token).await.unwrap();
    world.update(|input| input.desired_count = Some(5)).await.unwrap();
    assert_eq!(world.create(token).await.unwrap().desired_count, Some(5));
    let other = world.create(|input| {
        input.client_token = text("t");
        input.service_name = text("other");
    });
    let message = "Arguments on this idempotent request are inconsistent with arguments used in \
                   previous request(s).";
    refused(other.await, INVALID, message);
    for bad in ["a b", &"t".repeat(37)] {
        let error = world.create(|input| input.client_token = text(bad)).await.unwrap_err();
        assert!(error.message.starts_with("clientToken must have at most 36 ASCII"), "{error}");
    }
}

#[tokio::test]
async fn names_counts_and_clusters_are_checked() {
    let world = World::new().await;
    let elsewhere = world.create(|input| input.cluster = text("nope")).await;
    refused(elsewhere, "ClusterNotFoundException", "Cluster not found.");
    for bad in ["", "a b", "ü", &"a".repeat(256)] {
        let error = world.create(|input| input.service_name = text(bad)).await.unwrap_err();
        assert_eq!(error.code, INVALID, "{bad}");
    }
    for count in [-1, 5_001] {
        let made = world.create(|input| input.desired_count = Some(count)).await;
        refused(made, INVALID, "desiredCount must be between 0 and 5000.");
    }
    let made = world.create(|input| input.desired_count = None).await;
    refused(made, INVALID, "desiredCount is required with the REPLICA scheduling strategy.");
    let made = world.create(|input| input.health_check_grace_period_seconds = Some(-1)).await;
    let message = "healthCheckGracePeriodSeconds must be between 0 and 2147483647.";
    refused(made, INVALID, message);
    let longest = world.create(|input| {
        input.service_name = Some("a".repeat(255));
        input.health_check_grace_period_seconds = Some(i32::MAX);
        input.desired_count = Some(5_000);
    });
    assert_eq!(longest.await.unwrap().health_check_grace_period_seconds, Some(i32::MAX));
}

#[tokio::test]
async fn a_task_definition_must_be_there_and_active() {
    let world = World::new().await;
    let made = world.create(|input| input.task_definition = None).await;
    refused(made, INVALID, "TaskDefinition can not be blank.");
    let made = world.create(|input| input.task_definition = text("nope")).await;
    refused(made, "ClientException", "TaskDefinition not found.");
    let made = world.create(|input| input.task_definition = text("web:1")).await;
    let message = "Network Configuration must be provided when networkMode 'awsvpc' is specified.";
    refused(made, INVALID, message);
    let network = world.network();
    let made = world.create(|input| input.network_configuration = Some(network)).await;
    let message =
        "Network Configuration is not valid for the given networkMode of this task definition.";
    refused(made, INVALID, message);
    let made = world.create(|input| input.launch_type = Some(api::LaunchType::Fargate)).await;
    refused(made, INVALID, "Task definition does not support launch_type FARGATE.");
    let made = world.create(|input| input.platform_version = text("1.4.0")).await;
    let message = "The platform version must be null when specifying an EC2 launch type.";
    refused(made, INVALID, message);
    let fargate = world.on_fargate();
    let made = world.create(|input| {
        fargate(input);
        input.platform_version = text("9.9.9");
    });
    let message = "The specified platform version does not exist.";
    refused(made.await, "PlatformUnknownException", message);
}

#[tokio::test]
async fn a_service_has_a_launch_type_or_a_strategy() {
    let world = World::new().await;
    let item = |name: &str| api::CapacityProviderStrategyItem {
        capacity_provider: text(name),
        weight: Some(1),
        base: None,
    };
    let made = world.create(|input| {
        input.launch_type = Some(api::LaunchType::Ec2);
        input.capacity_provider_strategy = Some(vec![item("FARGATE")]);
    });
    let message = "Specifying both a launch type and capacity provider strategy is not supported. \
                   Remove one and try again.";
    refused(made.await, INVALID, message);
    world.with_providers().await;
    let fargate = world.on_fargate();
    let made = world.create(|input| {
        fargate(input);
        input.launch_type = None;
        input.capacity_provider_strategy = Some(vec![item("FARGATE_SPOT")]);
    });
    let made = made.await.unwrap();
    assert_eq!((made.launch_type, made.capacity_provider_strategy.unwrap().len()), (None, 1));
}

#[tokio::test]
async fn a_role_is_for_load_balancers_only() {
    let world = World::new().await;
    let made = world.create(|input| input.role = text("ecsServiceRole")).await;
    refused(made, INVALID, "A role was passed, but no load balancers were present.");
    let fargate = world.on_fargate();
    let made = world.create(|input| {
        fargate(input);
        input.role = text("ecsServiceRole");
    });
    let message = "You cannot specify an IAM role for services that require a service linked role.";
    refused(made.await, INVALID, message);
}

#[tokio::test]
async fn tags_need_the_long_arn_format() {
    let world = World::new().await;
    let input = api::PutAccountSettingRequest {
        name: Some("serviceLongArnFormat".into()),
        value: text("disabled"),
        principal_arn: None,
    };
    let (ecs, root) = (world.ecs(), world.test.root());
    account_settings::handle_put(ecs, &root, input).await.unwrap();
    let tag = api::Tag { key: text("a"), value: None };
    let message = "The new ARN and resource ID format must be enabled to add tags to the service. \
                   Opt in to the new format and try again.";
    refused(world.create(|input| input.tags = Some(vec![tag])).await, INVALID, message);
    world.create(|_| ()).await.unwrap();
}

#[tokio::test]
async fn what_does_not_act_yet_is_refused_by_name_and_its_absence_is_not() {
    let world = World::new().await;
    let refuse = async |change: fn(&mut api::CreateServiceRequest), what: &str| {
        let error = world.create(change).await.unwrap_err();
        assert_eq!(error.code, "UnsupportedFeatureException", "{what}");
        assert!(error.message.starts_with(&format!("{what} is not supported")), "{error}");
    };
    let classic = |input: &mut api::CreateServiceRequest| {
        let load_balancer_name = text("web");
        let classic = api::LoadBalancer { load_balancer_name, ..Default::default() };
        input.load_balancers = Some(vec![classic]);
    };
    refuse(classic, "loadBalancerName").await;
    let connect = |input: &mut api::CreateServiceRequest| {
        input.service_connect_configuration = Some(api::ServiceConnectConfiguration {
            enabled: Some(true),
            log_configuration: Some(Default::default()),
            ..Default::default()
        });
    };
    refuse(connect, "serviceConnectConfiguration.logConfiguration").await;
    let volumes = |input: &mut api::CreateServiceRequest| {
        input.volume_configurations = Some(vec![Default::default()]);
    };
    refuse(volumes, "volumeConfigurations").await;
    let lattice = |input: &mut api::CreateServiceRequest| {
        input.vpc_lattice_configurations = Some(vec![Default::default()]);
    };
    refuse(lattice, "vpcLatticeConfigurations").await;
    let connectors = |input: &mut api::CreateServiceRequest| {
        input.gateway_connectors = Some(vec![Default::default()]);
    };
    refuse(connectors, "gatewayConnectors").await;
    let monitoring = |input: &mut api::CreateServiceRequest| {
        let metric_configurations = Some(vec![Default::default()]);
        input.monitoring = Some(api::MonitoringConfiguration { metric_configurations });
    };
    refuse(monitoring, "monitoring").await;
    let code_deploy = |input: &mut api::CreateServiceRequest| {
        let r#type = Some(api::DeploymentControllerType::CodeDeploy);
        input.deployment_controller = Some(api::DeploymentController { r#type });
    };
    refuse(code_deploy, "The deployment controller CODE_DEPLOY").await;

    let made = world.create(|input| {
        input.load_balancers = Some(vec![]);
        input.service_registries = Some(vec![]);
        input.volume_configurations = Some(vec![]);
        input.vpc_lattice_configurations = Some(vec![]);
        input.gateway_connectors = Some(vec![]);
        input.monitoring = Some(api::MonitoringConfiguration::default());
        input.role = text("");
        input.service_connect_configuration =
            Some(api::ServiceConnectConfiguration { enabled: Some(false), ..Default::default() });
        input.deployment_configuration = Some(api::DeploymentConfiguration {
            alarms: Some(api::DeploymentAlarms {
                alarm_names: Some(vec![]),
                enable: Some(false),
                rollback: Some(false),
            }),
            lifecycle_hooks: Some(vec![]),
            strategy: Some(api::DeploymentStrategy::Rolling),
            bake_time_in_minutes: Some(0),
            ..Default::default()
        });
    });
    made.await.unwrap();
}

#[tokio::test]
async fn a_service_offers_no_more_than_a_task_can_be_an_instance_of_at_once() {
    let world = World::new().await;
    let many = |input: &mut api::CreateServiceRequest| {
        input.service_connect_configuration = Some(api::ServiceConnectConfiguration {
            enabled: Some(true),
            services: Some(vec![Default::default(); 101]),
            ..Default::default()
        });
    };
    let message = "serviceConnectConfiguration.services can have at most 100 items.";
    refused(world.create(many).await, INVALID, message);
}

#[tokio::test]
async fn services_are_listed_ten_at_a_time_and_by_filter() {
    let world = World::new().await;
    for n in 0..12 {
        world.create(|input| input.service_name = Some(format!("s{n:02}"))).await.unwrap();
    }
    let list = async |change: fn(&mut api::ListServicesRequest), token: Option<String>| {
        let mut input = api::ListServicesRequest { next_token: token, ..Default::default() };
        change(&mut input);
        list_services::handle(world.ecs(), &world.test.root(), input).await
    };
    let first = list(|_| (), None).await.unwrap();
    assert_eq!(first.service_arns.unwrap().len(), 10);
    let second = list(|_| (), first.next_token).await.unwrap();
    assert_eq!((second.service_arns.unwrap().len(), second.next_token), (2, None));
    let all = list(|input| input.max_results = Some(100), None).await.unwrap();
    assert_eq!(all.service_arns.unwrap().len(), 12);
    let daemons = |input: &mut api::ListServicesRequest| {
        input.scheduling_strategy = Some(api::SchedulingStrategy::Daemon);
    };
    assert_eq!(list(daemons, None).await.unwrap().service_arns, Some(vec![]));
    let fargate = |input: &mut api::ListServicesRequest| {
        input.launch_type = Some(api::LaunchType::Fargate);
    };
    assert_eq!(list(fargate, None).await.unwrap().service_arns, Some(vec![]));
    let unknown = |input: &mut api::ListServicesRequest| input.launch_type = Some("X".into());
    let message = "launch type should be one of [EC2,FARGATE,EXTERNAL]";
    refused(list(unknown, None).await, INVALID, message);
}

#[tokio::test]
async fn a_public_address_is_on_or_off_and_nothing_else() {
    let world = World::new().await;
    let fargate = world.on_fargate();
    let made = world.create(|input| {
        fargate(input);
        let network = input.network_configuration.as_mut().unwrap();
        let awsvpc = network.awsvpc_configuration.as_mut().unwrap();
        awsvpc.assign_public_ip = Some("MAYBE".into());
    });
    refused(made.await, INVALID, "assignPublicIp should be one of [ENABLED,DISABLED]");
}
