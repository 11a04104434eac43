use super::*;
use crate::testing::TestEcs;
use crate::{
    create_cluster, describe_capacity_providers, describe_container_instances,
    put_cluster_capacity_providers, register_container_instance,
};

fn arn(group: &str) -> String {
    format!(
        "arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:a1b2c3d4-5678:\
         autoScalingGroupName/{group}"
    )
}

fn request(name: &str, group: &str) -> api::CreateCapacityProviderRequest {
    api::CreateCapacityProviderRequest {
        name: Some(name.to_owned()),
        auto_scaling_group_provider: Some(api::AutoScalingGroupProvider {
            auto_scaling_group_arn: Some(arn(group)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn create(
    world: &TestEcs,
    input: api::CreateCapacityProviderRequest,
) -> Result<api::CapacityProvider, ApiError> {
    let answer = handle_create(&world.ecs, &world.root(), input).await?;
    Ok(answer.capacity_provider.unwrap())
}

async fn delete(world: &TestEcs, name: &str) -> Result<api::CapacityProvider, ApiError> {
    let input = api::DeleteCapacityProviderRequest {
        capacity_provider: Some(name.to_owned()),
        ..Default::default()
    };
    Ok(handle_delete(&world.ecs, &world.root(), input).await?.capacity_provider.unwrap())
}

async fn associate(world: &TestEcs, names: &[&str]) -> Result<(), ApiError> {
    let input = api::PutClusterCapacityProvidersRequest {
        cluster: Some("default".to_owned()),
        capacity_providers: Some(names.iter().map(|&name| name.to_owned()).collect()),
        default_capacity_provider_strategy: Some(vec![]),
    };
    put_cluster_capacity_providers::handle(&world.ecs, &world.root(), input).await.map(|_| ())
}

async fn with_cluster() -> TestEcs {
    let world = TestEcs::new();
    let input = api::CreateClusterRequest::default();
    create_cluster::handle(&world.ecs, &world.root(), input).await.unwrap();
    world
}

fn scaling(target: Option<i32>, min: Option<i32>, max: Option<i32>) -> api::ManagedScaling {
    api::ManagedScaling {
        status: Some(ManagedScalingStatus::Enabled),
        target_capacity: target,
        minimum_scaling_step_size: min,
        maximum_scaling_step_size: max,
        instance_warmup_period: None,
    }
}

#[tokio::test]
async fn a_provider_that_names_only_its_group_has_amazons_defaults() {
    let world = TestEcs::new();
    let provider = create(&world, request("mine", "web")).await.unwrap();
    let expected = "arn:aws:ecs:us-east-1:000000000000:capacity-provider/mine";
    assert_eq!(provider.capacity_provider_arn.as_deref(), Some(expected));
    assert_eq!(provider.status, Some(CapacityProviderStatus::Active));
    assert_eq!(provider.r#type, Some(CapacityProviderType::Ec2Autoscaling));
    assert_eq!(provider.tags, Some(vec![]));
    let group = provider.auto_scaling_group_provider.unwrap();
    assert_eq!(group.auto_scaling_group_arn, Some(arn("web")));
    assert_eq!(group.managed_draining, Some(ManagedDraining::Enabled));
    let protection = group.managed_termination_protection;
    assert_eq!(protection, Some(ManagedTerminationProtection::Disabled));
    let expected = api::ManagedScaling {
        status: Some(ManagedScalingStatus::Disabled),
        target_capacity: Some(100),
        minimum_scaling_step_size: Some(1),
        maximum_scaling_step_size: Some(10_000),
        instance_warmup_period: Some(300),
    };
    assert_eq!(group.managed_scaling, Some(expected));
}

#[tokio::test]
async fn names_that_amazon_refuses_are_refused_in_its_words() {
    let world = TestEcs::new();
    for bad in ["", "a b", "é", "aws-mine", "ECS1", "FargateMine", &"a".repeat(256)] {
        let error = create(&world, request(bad, "web")).await.unwrap_err();
        assert_eq!(error.code, "ClientException", "{bad}");
        assert_eq!(
            error.message,
            "The specified capacity provider name is invalid. Up to 255 characters are allowed, \
             including letters (upper and lowercase), numbers, underscores, and hyphens. The name \
             cannot be prefixed with \"aws\", \"ecs\", or \"fargate\". Specify a valid name and \
             try again."
        );
    }
    create(&world, request(&"a".repeat(255), "web")).await.unwrap();
}

#[tokio::test]
async fn a_name_and_a_group_are_used_once() {
    let world = TestEcs::new();
    create(&world, request("mine", "web")).await.unwrap();
    let error = create(&world, request("mine", "other")).await.unwrap_err();
    assert_eq!(error.code, "ClientException");
    assert_eq!(
        error.message,
        "The specified capacity provider already exists. To change the configuration of an \
         existing capacity provider, update the capacity provider."
    );
    let error = create(&world, request("other", "web")).await.unwrap_err();
    assert_eq!(error.code, "ClientException");
    assert_eq!(
        error.message,
        "The specified Auto Scaling group ARN is already being used by another capacity provider. \
         Specify a unique Auto Scaling group ARN and try again."
    );
}

#[tokio::test]
async fn an_account_has_so_many_providers_and_no_more() {
    let world = TestEcs::with_config(|config| {
        config.limits.capacity_providers_per_account_max = 1;
    });
    create(&world, request("mine", "web")).await.unwrap();
    let error = create(&world, request("more", "other")).await.unwrap_err();
    assert_eq!(error.code, "LimitExceededException");
}

#[tokio::test]
async fn a_group_is_named_by_arn_or_by_name() {
    let world = TestEcs::new();
    let with = |group: &str| {
        let mut input = request("mine", "x");
        input.auto_scaling_group_provider.as_mut().unwrap().auto_scaling_group_arn =
            Some(group.to_owned());
        input
    };
    for bad in [
        "",
        "arn:aws:autoscaling:us-east-1:000000000000:web",
        "arn:aws:ec2:us-east-1:000000000000:autoScalingGroup:1:autoScalingGroupName/web",
        "arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:1:autoScalingGroupName/",
    ] {
        let error = create(&world, with(bad)).await.unwrap_err();
        assert_eq!(error.code, "ClientException", "{bad}");
        assert!(error.message.starts_with("The specified Auto Scaling group ARN"), "{error}");
    }
    let foreign =
        "arn:aws:autoscaling:us-east-1:111111111111:autoScalingGroup:1:autoScalingGroupName/web";
    let error = create(&world, with(foreign)).await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException");
    create(&world, with("web")).await.unwrap();
    let mut by_arn = with(&arn("web"));
    by_arn.name = Some("other".to_owned());
    let error = create(&world, by_arn).await.unwrap_err();
    assert!(error.message.contains("already being used"), "{error}");
}

#[tokio::test]
async fn scaling_has_ranges_and_protection_needs_it() {
    let world = TestEcs::new();
    let with = |managed_scaling: Option<api::ManagedScaling>, protects: bool| {
        let mut input = request("mine", "web");
        let group = input.auto_scaling_group_provider.as_mut().unwrap();
        group.managed_scaling = managed_scaling;
        group.managed_termination_protection =
            protects.then_some(ManagedTerminationProtection::Enabled);
        input
    };
    for (bad, what) in [
        (scaling(Some(0), None, None), "targetCapacity must be between 1 and 100."),
        (scaling(Some(101), None, None), "targetCapacity must be between 1 and 100."),
        (scaling(None, Some(0), None), "minimumScalingStepSize must be between 1 and 10000."),
        (scaling(None, None, Some(10_001)), "maximumScalingStepSize must be between 1 and 10000."),
        (scaling(None, Some(3), Some(2)), "minimumScalingStepSize must not be greater than"),
    ] {
        let error = create(&world, with(Some(bad), false)).await.unwrap_err();
        assert_eq!(error.code, "InvalidParameterException");
        assert!(error.message.contains(what), "{error}");
    }
    let error = create(&world, with(None, true)).await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException");
    assert!(error.message.starts_with("The managed termination protection setting"), "{error}");
    create(&world, with(Some(scaling(None, None, None)), true)).await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_name() {
    let world = TestEcs::new();
    let managed = api::CreateCapacityProviderRequest {
        managed_instances_provider: Some(Default::default()),
        ..request("mine", "web")
    };
    let of_cluster = api::CreateCapacityProviderRequest {
        cluster: Some("default".to_owned()),
        ..request("mine", "web")
    };
    for (input, what) in [(managed, "managedInstancesProvider"), (of_cluster, "cluster")] {
        let error = create(&world, input).await.unwrap_err();
        assert_eq!(error.code, "UnsupportedFeatureException");
        assert!(error.message.starts_with(what), "{error}");
    }
    let without = api::CreateCapacityProviderRequest {
        auto_scaling_group_provider: None,
        ..request("mine", "web")
    };
    let error = create(&world, without).await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException");
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_says_that_it_is_done() {
    let world = TestEcs::new();
    create(&world, request("mine", "web")).await.unwrap();
    let update = async |name: &str, target: i32| {
        let input = api::UpdateCapacityProviderRequest {
            name: Some(name.to_owned()),
            auto_scaling_group_provider: Some(api::AutoScalingGroupProviderUpdate {
                managed_scaling: Some(scaling(Some(target), None, None)),
                ..Default::default()
            }),
            ..Default::default()
        };
        handle_update(&world.ecs, &world.root(), input).await
    };
    let provider = update("mine", 80).await.unwrap().capacity_provider.unwrap();
    assert_eq!(provider.update_status, Some(CapacityProviderUpdateStatus::UpdateComplete));
    let scaling = provider.auto_scaling_group_provider.unwrap().managed_scaling.unwrap();
    assert_eq!(scaling.target_capacity, Some(80));
    assert_eq!(scaling.maximum_scaling_step_size, Some(10_000));
    let error = update("none", 80).await.unwrap_err();
    assert_eq!(error.code, "ClientException");
    assert!(error.message.starts_with("The specified capacity provider does not exist."));
    let error = update("FARGATE", 80).await.unwrap_err();
    assert_eq!(error.message, "The capacity provider FARGATE is reserved and cannot be updated.");
}

#[tokio::test]
async fn a_provider_that_a_cluster_has_is_not_deleted_and_says_why() {
    let world = with_cluster().await;
    create(&world, request("mine", "web")).await.unwrap();
    associate(&world, &["mine"]).await.unwrap();
    let provider = delete(&world, "mine").await.unwrap();
    assert_eq!(provider.status, Some(CapacityProviderStatus::Active));
    assert_eq!(provider.update_status, Some(CapacityProviderUpdateStatus::DeleteFailed));
    assert_eq!(
        provider.update_status_reason.as_deref(),
        Some(
            "The capacity provider cannot be deleted because it is associated with cluster: \
             default. Remove the capacity provider from the cluster and try again."
        )
    );
    associate(&world, &[]).await.unwrap();
    let arn = "arn:aws:ecs:us-east-1:000000000000:capacity-provider/mine";
    let provider = delete(&world, arn).await.unwrap();
    assert_eq!(provider.status, Some(CapacityProviderStatus::Inactive));
    assert_eq!(provider.update_status, Some(CapacityProviderUpdateStatus::DeleteComplete));
    assert_eq!(delete(&world, "mine").await.unwrap_err().code, "ClientException");
    let error = delete(&world, "FARGATE_SPOT").await.unwrap_err();
    assert_eq!(error.code, "ClientException");
}

#[tokio::test]
async fn a_deleted_provider_is_described_for_a_while_and_its_name_is_free() {
    let world = TestEcs::new();
    create(&world, request("mine", "web")).await.unwrap();
    delete(&world, "mine").await.unwrap();
    let describe = |name: &str| {
        let input = api::DescribeCapacityProvidersRequest {
            capacity_providers: Some(vec![name.to_owned()]),
            ..Default::default()
        };
        describe_capacity_providers::handle(&world.ecs, &world.root(), input).unwrap()
    };
    let shown = describe("mine").capacity_providers.unwrap().remove(0);
    assert_eq!(shown.status, Some(CapacityProviderStatus::Inactive));
    world.env.advance_ms(3_600_000);
    assert_eq!(describe("mine").failures.unwrap()[0].reason.as_deref(), Some("MISSING"));
    world.ecs.sweep().await.unwrap();
    assert_eq!(world.ecs.control.view().capacity_providers.len(), 0);
    create(&world, request("mine", "web")).await.unwrap();
    delete(&world, "mine").await.unwrap();
    create(&world, request("mine", "web")).await.unwrap();
}

#[tokio::test]
async fn the_instances_of_a_group_are_the_pool_of_its_provider() {
    let world = with_cluster().await;
    create(&world, request("mine", "web")).await.unwrap();
    let register = async || {
        let input = api::RegisterContainerInstanceRequest {
            attributes: Some(vec![api::Attribute {
                name: Some("longshore.auto-scaling-group".to_owned()),
                value: Some("web".to_owned()),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let answer = register_container_instance::handle(&world.ecs, &world.root(), input).await;
        answer.unwrap().container_instance.unwrap().container_instance_arn.unwrap()
    };
    let provider_of = |instance: &str| {
        let input = api::DescribeContainerInstancesRequest {
            container_instances: Some(vec![instance.to_owned()]),
            ..Default::default()
        };
        let answer = describe_container_instances::handle(&world.ecs, &world.root(), input);
        answer.unwrap().container_instances.unwrap().remove(0).capacity_provider_name
    };
    let before = register().await;
    assert_eq!(provider_of(&before), None, "its cluster has no such provider");
    associate(&world, &["mine"]).await.unwrap();
    let after = register().await;
    assert_eq!(provider_of(&before).as_deref(), Some("mine"));
    assert_eq!(provider_of(&after).as_deref(), Some("mine"));
    associate(&world, &[]).await.unwrap();
    assert_eq!(provider_of(&before), None);
}

#[tokio::test]
async fn a_providers_own_limit_for_silence_is_a_number_of_seconds_of_at_least_ten() {
    let world = with_cluster().await;
    let tag = |value: &str| {
        let key = Some("longshore.heartbeat-timeout-seconds".to_owned());
        Some(vec![api::Tag { key, value: Some(value.to_owned()) }])
    };
    for bad in ["9", "ten", "", "-10", "86401", "10.5"] {
        let input = api::CreateCapacityProviderRequest { tags: tag(bad), ..request("mine", "web") };
        let refused = create(&world, input).await.unwrap_err();
        assert!(refused.message.contains("between 10 and 86400"), "{bad}: {}", refused.message);
    }
    let input = api::CreateCapacityProviderRequest { tags: tag("10"), ..request("mine", "web") };
    let arn = create(&world, input).await.unwrap().capacity_provider_arn;
    let own = |world: &TestEcs| {
        let view = world.ecs.control.view();
        let row = view.capacity_providers.get(world.root().account, &"mine".to_owned()).cloned();
        row.unwrap().heartbeat_timeout_ms()
    };
    assert_eq!(own(&world), Some(10_000));
    let change = |value| api::TagResourceRequest { resource_arn: arn.clone(), tags: tag(value) };
    let changed = crate::tag_resource::handle_tag(&world.ecs, &world.root(), change("5")).await;
    assert!(changed.unwrap_err().message.contains("between 10 and 86400"));
    assert_eq!(own(&world), Some(10_000), "what was refused changes nothing");
    crate::tag_resource::handle_tag(&world.ecs, &world.root(), change("30")).await.unwrap();
    assert_eq!(own(&world), Some(30_000));
}
