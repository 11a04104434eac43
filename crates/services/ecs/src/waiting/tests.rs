use ecs_api as api;

use super::*;
use crate::task_tests::world::{FakeAgent, World};
use crate::{capacity_provider, put_cluster_capacity_providers, register_container_instance};

/// A cluster with a provider for each of the groups, which share their names.
async fn world(groups: &[(&str, bool)]) -> World {
    let world = World::new().await;
    for (group, is_managed) in groups {
        let status = match is_managed {
            true => api::ManagedScalingStatus::Enabled,
            false => api::ManagedScalingStatus::Disabled,
        };
        let input = api::CreateCapacityProviderRequest {
            name: Some((*group).to_owned()),
            auto_scaling_group_provider: Some(api::AutoScalingGroupProvider {
                auto_scaling_group_arn: Some((*group).to_owned()),
                managed_scaling: Some(api::ManagedScaling {
                    status: Some(status),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        capacity_provider::handle_create(world.ecs(), &world.root(), input).await.unwrap();
    }
    let input = api::PutClusterCapacityProvidersRequest {
        cluster: Some("default".to_owned()),
        capacity_providers: Some(groups.iter().map(|(name, _)| (*name).to_owned()).collect()),
        default_capacity_provider_strategy: Some(vec![]),
    };
    put_cluster_capacity_providers::handle(world.ecs(), &world.root(), input).await.unwrap();
    world
}

fn item(name: &str, weight: i32, base: i32) -> api::CapacityProviderStrategyItem {
    api::CapacityProviderStrategyItem {
        capacity_provider: Some(name.to_owned()),
        weight: Some(weight),
        base: Some(base),
    }
}

/// Runs tasks of `bridge`: 256 CPU units and 512 MiB each.
async fn run(
    world: &World,
    strategy: Vec<api::CapacityProviderStrategyItem>,
    count: i32,
) -> Result<api::RunTaskResponse, ApiError> {
    let run = world.try_run(|input| {
        input.task_definition = Some("bridge".to_owned());
        input.launch_type = None;
        input.network_configuration = None;
        input.capacity_provider_strategy = Some(strategy);
        input.count = Some(count);
    });
    run.await
}

/// A connected instance of a group, with so much memory.
async fn instance(world: &World, group: &str, memory: i32) -> FakeAgent {
    let attribute = |name: &str, value: &str| api::Attribute {
        name: Some(name.to_owned()),
        value: Some(value.to_owned()),
        ..Default::default()
    };
    let amount = |name: &str, amount| api::Resource {
        name: Some(name.to_owned()),
        r#type: Some("INTEGER".to_owned()),
        integer_value: Some(amount),
        ..Default::default()
    };
    let input = api::RegisterContainerInstanceRequest {
        attributes: Some(vec![attribute(GROUP_ATTRIBUTE, group)]),
        total_resources: Some(vec![amount("CPU", 4096), amount("MEMORY", memory)]),
        ..Default::default()
    };
    let answer = register_container_instance::handle(world.ecs(), &world.test.node(), input).await;
    let arn = answer.unwrap().container_instance.unwrap().container_instance_arn.unwrap();
    let mut agent = world.connect(&arn).await;
    agent.expect("TaskManifestMessage").await;
    agent
}

fn arns(answer: &api::RunTaskResponse) -> Vec<String> {
    answer.tasks.iter().flatten().map(|task| task.task_arn.clone().unwrap()).collect()
}

fn why(task: &api::Task) -> Option<&str> {
    let mut attributes = task.attributes.iter().flatten();
    let found = attributes.find(|each| each.name.as_deref() == Some("longshore.waits-for"));
    found.and_then(|each| each.value.as_deref())
}

/// Waits until a task has a place, and says where.
async fn placed(world: &World, task: &str) -> String {
    let mut watch = world.ecs().control.store.subscribe();
    let waiting = async {
        loop {
            if let Some(instance) = world.describe(task).container_instance_arn {
                return instance;
            }
            watch.changed().await.unwrap();
        }
    };
    let patience = crate::task_tests::world::PATIENCE;
    let found = tokio::time::timeout(patience, waiting).await;
    found.unwrap_or_else(|_| panic!("never placed: {:?}", world.describe(task)))
}

#[tokio::test]
async fn with_managed_scaling_tasks_wait_until_an_instance_of_the_group_comes() {
    let world = world(&[("web", true)]).await;
    let answer = run(&world, vec![item("web", 1, 0)], 1).await.unwrap();
    assert_eq!(answer.failures, Some(vec![]));
    let task = &answer.tasks.as_ref().unwrap()[0];
    assert_eq!(task.last_status.as_deref(), Some("PROVISIONING"));
    assert_eq!(task.capacity_provider_name.as_deref(), Some("web"));
    assert_eq!(task.launch_type, Some(api::LaunchType::Ec2));
    assert_eq!(why(task), Some(NO_INSTANCES));
    let arn = arns(&answer).remove(0);

    let _other = instance(&world, "another", 8192).await;
    let agent = instance(&world, "web", 8192).await;
    assert_eq!(placed(&world, &arn).await, agent.instance);
    let shown = world.describe_instance(&agent.instance);
    assert_eq!(shown.capacity_provider_name.as_deref(), Some("web"));
    assert_eq!(why(&world.describe(&arn)), None);
}

#[tokio::test]
async fn the_oldest_waits_shortest_and_a_task_says_what_it_waits_for() {
    let world = world(&[("web", true)]).await;
    let first = arns(&run(&world, vec![item("web", 1, 0)], 1).await.unwrap()).remove(0);
    world.test.env.advance_ms(1);
    let second = arns(&run(&world, vec![item("web", 1, 0)], 1).await.unwrap()).remove(0);
    let agent = instance(&world, "web", 600).await;
    assert_eq!(placed(&world, &first).await, agent.instance);
    let tally = "1 instance: 1 too little memory (512 MiB needed, 88 free at most)";
    let mut watch = world.ecs().control.store.subscribe();
    while why(&world.describe(&second)) != Some(tally) {
        watch.changed().await.unwrap();
    }
    world.submit(&first, "STOPPED", Some(0), "").await;
    assert_eq!(placed(&world, &second).await, agent.instance);
}

#[tokio::test]
async fn without_managed_scaling_a_task_fails_at_once() {
    let world = world(&[("web", false)]).await;
    let answer = run(&world, vec![item("web", 1, 0)], 2).await.unwrap();
    assert_eq!(answer.tasks, Some(vec![]));
    let failure = answer.failures.unwrap().remove(0);
    let arn = "arn:aws:ecs:us-east-1:000000000000:capacity-provider/web";
    assert_eq!(failure.arn.as_deref(), Some(arn));
    assert_eq!(failure.reason.as_deref(), Some("EMPTY CAPACITY PROVIDER"));

    let agent = instance(&world, "web", 600).await;
    let answer = run(&world, vec![item("web", 1, 0)], 2).await.unwrap();
    assert_eq!(answer.tasks.unwrap().len(), 1);
    let failure = answer.failures.unwrap().remove(0);
    assert_eq!(failure.arn, Some(agent.instance));
    assert_eq!(failure.reason.as_deref(), Some("RESOURCE:MEMORY"));
}

#[tokio::test]
async fn base_and_weight_share_tasks_among_providers() {
    let world = world(&[("one", true), ("two", true)]).await;
    let (one, two) = (instance(&world, "one", 65_536).await, instance(&world, "two", 65_536).await);
    let strategy = vec![item("one", 1, 2), item("two", 3, 0)];
    let answer = run(&world, strategy, 10).await.unwrap();
    let tasks = answer.tasks.unwrap();
    let on = |provider: &str, agent: &FakeAgent| {
        let is_there = |task: &&api::Task| {
            task.capacity_provider_name.as_deref() == Some(provider)
                && task.container_instance_arn.as_ref() == Some(&agent.instance)
        };
        tasks.iter().filter(is_there).count()
    };
    assert_eq!((on("one", &one), on("two", &two)), (4, 6));
}

#[tokio::test]
async fn so_many_tasks_of_a_cluster_wait_and_no_more() {
    let world = world(&[("web", true)]).await;
    for _ in 0..30 {
        run(&world, vec![item("web", 1, 0)], 10).await.unwrap();
    }
    let error = run(&world, vec![item("web", 1, 0)], 1).await.unwrap_err();
    assert_eq!(error.code, "ClientException");
    assert_eq!(error.message, "Tasks provisioning capacity limit exceeded.");
}

#[tokio::test]
async fn the_instances_of_a_provider_serve_the_launch_type_too() {
    let world = world(&[("web", true)]).await;
    let agent = instance(&world, "web", 8192).await;
    let answer = world.run(|input| {
        input.task_definition = Some("bridge".to_owned());
        input.launch_type = Some(api::LaunchType::Ec2);
        input.network_configuration = None;
    });
    let task = answer.await.tasks.unwrap().remove(0);
    assert_eq!(task.container_instance_arn, Some(agent.instance));
    assert_eq!(task.capacity_provider_name, None);
}

#[tokio::test]
async fn a_strategy_names_providers_of_the_cluster_and_comes_without_a_launch_type() {
    let world = world(&[("web", true)]).await;
    let error = run(&world, vec![item("web", 1, 0), item("FARGATE", 1, 0)], 1).await.unwrap_err();
    assert!(error.message.contains("not associated with the cluster"), "{error}");
    let both = world.try_run(|input| {
        input.capacity_provider_strategy = Some(vec![item("web", 1, 0)]);
    });
    let error = both.await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException");
}

#[tokio::test]
async fn what_is_missing_is_known_as_a_number_of_instances() {
    let world = world(&[("web", true)]).await;
    let _agent = instance(&world, "web", 1024).await;
    run(&world, vec![item("web", 1, 0)], 10).await.unwrap();
    let account = world.root().account;
    let desired =
        desired_capacities(&world.ecs().control.view(), account, &ClusterName::default_cluster());
    let expected = DesiredCapacity {
        provider: "web".to_owned(),
        group: "web".to_owned(),
        instances: 1,
        wanted: 5,
    };
    assert_eq!(desired, [expected], "two tasks fit on one instance, eight wait");
}

#[tokio::test]
async fn a_task_waits_for_half_an_hour_and_says_in_the_end_what_was_missing() {
    let world = world(&[("web", true)]).await;
    let arn = arns(&run(&world, vec![item("web", 1, 0)], 1).await.unwrap()).remove(0);
    world.test.env.advance_ms(30 * 60_000 - 1);
    crate::background::sweep(world.ecs()).await.unwrap();
    assert_eq!(world.describe(&arn).last_status.as_deref(), Some("PROVISIONING"));
    world.test.env.advance_ms(1);
    crate::background::sweep(world.ecs()).await.unwrap();
    let task = world.describe(&arn);
    assert_eq!(task.last_status.as_deref(), Some("STOPPED"));
    assert_eq!(task.stop_code, Some(api::TaskStopCode::TaskFailedToStart));
    assert_eq!(
        task.stopped_reason.as_deref(),
        Some(
            "Task failed to start: capacity provider web had no room for it in time (no instance \
             belongs to the capacity provider)"
        )
    );
}

#[tokio::test]
async fn an_attribute_that_is_put_makes_an_instance_a_place() {
    let world = world(&[("web", true)]).await;
    let answer = world.try_run(|input| {
        input.task_definition = Some("bridge".to_owned());
        input.launch_type = None;
        input.network_configuration = None;
        input.capacity_provider_strategy = Some(vec![item("web", 1, 0)]);
        input.placement_constraints = Some(vec![api::PlacementConstraint {
            r#type: Some(api::PlacementConstraintType::MemberOf),
            expression: Some("attribute:rack == one".to_owned()),
        }]);
    });
    let arn = arns(&answer.await.unwrap()).remove(0);
    let agent = instance(&world, "web", 8192).await;
    let mut watch = world.ecs().control.store.subscribe();
    while why(&world.describe(&arn)) == Some(NO_INSTANCES) {
        watch.changed().await.unwrap();
    }
    assert_eq!(why(&world.describe(&arn)), Some("1 instance: 1 outside a memberOf constraint"));
    let input = api::PutAttributesRequest {
        cluster: None,
        attributes: Some(vec![api::Attribute {
            name: Some("rack".to_owned()),
            value: Some("one".to_owned()),
            target_id: Some(agent.instance.clone()),
            ..Default::default()
        }]),
    };
    crate::attributes::handle_put(world.ecs(), &world.root(), input).await.unwrap();
    assert_eq!(placed(&world, &arn).await, agent.instance);
}

#[tokio::test]
async fn a_task_of_fargate_takes_the_room_that_one_of_another_kind_has_left() {
    let world = World::new().await;
    let arn = world.register(&world.test.node(), 256, 512).await;
    let mut agent = world.connect(&arn).await;
    agent.expect("TaskManifestMessage").await;
    let first = world.run(|input| {
        input.task_definition = Some("bridge".to_owned());
        input.launch_type = Some(api::LaunchType::Ec2);
        input.network_configuration = None;
    });
    let first = arns(&first.await).remove(0);
    drop(agent);
    world.wait_disconnected(&arn).await;
    // While no host of Fargate is connected, its tasks wait; then there is one, which is full.
    let second = arns(&world.run(|_| {}).await).remove(0);
    let mut agent = world.connect(&arn).await;
    agent.expect("TaskManifestMessage").await;
    world.submit(&first, "STOPPED", Some(0), "").await;
    while agent.order().await["tasks"][0]["arn"] != second.as_str() {}
}
