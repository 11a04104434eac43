use control::ports::{TaskAsk, TaskRunner as _};
use ecs_api as api;
use longshore_types::TaskId;
use model::task::Task;
use model::{NetworkMode, Row, View};
use store::{BATCH_ROWS_MAX, Batch};

use super::world::{BRIDGE, Definition, World};
use crate::list_tasks;

fn on_instances(input: &mut api::RunTaskRequest) {
    input.task_definition = Some("bridge".to_owned());
    input.launch_type = None;
    input.network_configuration = None;
}

#[tokio::test]
async fn tasks_for_instances_need_some() {
    let world = World::new().await;
    let error = world.try_run(on_instances).await.unwrap_err();
    assert_eq!(error.message, "No Container Instances were found in your cluster.");
}

#[tokio::test]
async fn what_does_not_fit_is_named_with_its_instance_and_the_rest_runs() {
    let world = World::new().await;
    let mut agent = world.agent().await;
    let answer = world.run(|input| {
        on_instances(input);
        input.overrides = Some(api::TaskOverride {
            memory: Some("5000".to_owned()),
            ..api::TaskOverride::default()
        });
        input.count = Some(2);
    });
    let answer = answer.await;
    let task = answer.tasks.unwrap().remove(0);
    assert_eq!(task.last_status.as_deref(), Some("PENDING"));
    assert_eq!(task.container_instance_arn, Some(agent.instance.clone()));
    let failure = answer.failures.unwrap().remove(0);
    assert_eq!(failure.arn, Some(agent.instance.clone()));
    assert_eq!(failure.reason.as_deref(), Some("RESOURCE:MEMORY"));
    let detail = "1 instance: 1 too little memory (5000 MiB needed, 3192 free at most)";
    assert_eq!(failure.detail.as_deref(), Some(detail));
    assert_eq!(agent.order().await["tasks"][0]["launchType"], "EC2");
    let left = world.describe_instance(&agent.instance).remaining_resources.unwrap();
    let memory = left.iter().find(|each| each.name.as_deref() == Some("MEMORY")).unwrap();
    assert_eq!(memory.integer_value, Some(3192));
}

#[tokio::test]
async fn a_host_port_is_given_once_and_free_again_after_the_stop() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let port = Some((80, 8080));
    world.define(&Definition { name: "port:1", mode: NetworkMode::Bridge, port, ..BRIDGE }).await;
    let on_port = |input: &mut api::RunTaskRequest| {
        on_instances(input);
        input.task_definition = Some("port".to_owned());
    };
    let first = world.run(on_port).await.tasks.unwrap().remove(0).task_arn.unwrap();
    let second = world.run(on_port).await;
    assert_eq!(second.tasks, Some(vec![]));
    assert_eq!(second.failures.unwrap()[0].reason.as_deref(), Some("RESOURCE:PORTS"));
    world.submit(&first, "STOPPED", Some(0), "").await;
    assert_eq!(world.run(on_port).await.tasks.unwrap().len(), 1);
}

#[tokio::test]
async fn a_task_with_an_interface_goes_to_an_instance_in_a_zone_of_its_subnets() {
    let world = World::new().await;
    let node = world.test.node();
    let a = world.register_in("us-east-1a", &node, 4096, 8192).await;
    let b = world.register_in("us-east-1b", &node, 4096, 8192).await;
    let mut agents = Vec::new();
    for arn in [&a, &b] {
        let mut agent = world.connect(arn).await;
        agent.expect("TaskManifestMessage").await;
        agents.push(agent);
    }
    let vpc = world.ecs().control.vpc(&world.ecs().control.view(), world.root().account).unwrap();
    let in_zones = |zones: &[&str]| {
        let its = vpc.subnets.iter().filter(|it| zones.contains(&it.zone.as_str()));
        let subnets: Vec<String> = its.map(|it| it.id.to_string()).collect();
        assert_eq!(subnets.len(), zones.len());
        move |input: &mut api::RunTaskRequest| {
            let network = input.network_configuration.as_mut().unwrap();
            network.awsvpc_configuration.as_mut().unwrap().subnets = Some(subnets);
        }
    };
    let placed = |answer: api::RunTaskResponse| {
        let tasks = answer.tasks.unwrap().into_iter();
        let of = |task: api::Task| (task.container_instance_arn, task.availability_zone.unwrap());
        tasks.map(of).collect::<Vec<_>>()
    };
    let on_b = (Some(b.clone()), "us-east-1b".to_owned());
    for launch in [api::LaunchType::Fargate, api::LaunchType::Ec2] {
        let answer = world.run(|input| {
            in_zones(&["us-east-1b", "us-east-1c"])(input);
            (input.launch_type, input.count) = (Some(launch), Some(3));
        });
        let expected = vec![on_b.clone(); 3];
        let shown: Vec<_> = placed(answer.await);
        // Of Fargate's hosts nobody is told.
        let zones = |all: &[(Option<String>, String)]| {
            all.iter().map(|(_, zone)| zone.clone()).collect::<Vec<_>>()
        };
        assert_eq!(zones(&shown), zones(&expected));
        assert!(shown.iter().all(|(arn, _)| arn.is_none() || *arn == on_b.0), "{shown:?}");
    }
    let view = world.ecs().control.view();
    let mut hosts = view.tasks.iter().filter_map(|task| task.instance);
    assert!(hosts.all(|id| b.ends_with(&id.to_string())), "all are on the one in that zone");
    // A zone that is full is no reason to go to another.
    let full = world.run(|input| {
        in_zones(&["us-east-1b"])(input);
        input.launch_type = Some(api::LaunchType::Ec2);
        input.overrides = Some(api::TaskOverride {
            memory: Some("8000".to_owned()),
            ..api::TaskOverride::default()
        });
    });
    let failures = full.await.failures.unwrap();
    let said = |arn: &String| {
        let its = failures.iter().find(|each| each.arn.as_ref() == Some(arn)).unwrap();
        its.reason.clone().unwrap()
    };
    assert_eq!([said(&a), said(&b)], ["ATTRIBUTE", "RESOURCE:MEMORY"]);
    // Where no instance is in any of the zones, one elsewhere will do.
    let elsewhere = world.run(|input| {
        in_zones(&["us-east-1c"])(input);
        input.launch_type = Some(api::LaunchType::Ec2);
    });
    let [(on, zone)] = <[_; 1]>::try_from(placed(elsewhere.await)).unwrap();
    assert!([Some(a), Some(b)].contains(&on), "{on:?}");
    assert_eq!(zone, "us-east-1c");
}

#[tokio::test]
async fn a_disconnected_agent_is_a_reason() {
    let world = World::new().await;
    world.register(&world.test.node(), 1024, 1024).await;
    let answer = world.run(on_instances).await;
    assert_eq!(answer.failures.unwrap()[0].reason.as_deref(), Some("AGENT"));
}

#[tokio::test]
async fn the_same_token_makes_the_same_tasks_and_another_request_is_a_conflict() {
    let world = World::new().await;
    let with_token = |input: &mut api::RunTaskRequest| input.client_token = Some("t1".to_owned());
    let first = world.run(with_token).await.tasks.unwrap();
    let again = world.run(with_token).await.tasks.unwrap();
    assert_eq!(first[0].task_arn, again[0].task_arn);
    let other = world.try_run(|input| {
        with_token(input);
        input.count = Some(2);
    });
    let error = other.await.unwrap_err();
    assert_eq!(error.code, "ConflictException");
    let ids = error.extra.unwrap()["resourceIds"].clone();
    assert_eq!(ids[0], first[0].task_arn.as_deref().unwrap());
}

#[tokio::test]
async fn a_token_of_somebodys_request_is_none_of_a_services_own_task() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let taken = world.run(|input| {
        on_instances(input);
        input.client_token = Some("rotate-1".to_owned());
    });
    let taken = taken.await;
    let ask = TaskAsk {
        definition: taken.tasks.as_ref().unwrap()[0].task_definition_arn.clone().unwrap(),
        token: "rotate-1".to_owned(),
        ..TaskAsk::default()
    };
    let theirs = taken.tasks.unwrap()[0].task_arn.clone().unwrap();
    let account = world.test.root().account;
    let own = world.ecs().run(account, &ask).await.unwrap();
    assert!(!theirs.ends_with(&own.to_string()));
    assert_eq!(world.ecs().run(account, &ask).await.unwrap(), own);
}

#[tokio::test]
async fn mistakes_are_answered_in_amazons_words() {
    let world = World::new().await;
    let check = async |change: &dyn Fn(&mut api::RunTaskRequest), message: &str| {
        let error = world.try_run(change).await.unwrap_err();
        assert_eq!(error.message, message);
    };
    check(
        &|input| input.network_configuration = None,
        "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
    )
    .await;
    check(
        &|input| {
            let mut network = input.network_configuration.take().unwrap();
            network.awsvpc_configuration.as_mut().unwrap().subnets =
                Some(vec!["subnet-12345678".to_owned()]);
            input.network_configuration = Some(network);
        },
        "Error retrieving subnet information for [subnet-12345678]: The subnet ID \
         'subnet-12345678' does not exist (ErrorCode: InvalidSubnetID.NotFound)",
    )
    .await;
    check(&|input| input.task_definition = Some("none".to_owned()), "TaskDefinition not found.")
        .await;
    check(
        &|input| {
            input.overrides = Some(api::TaskOverride {
                container_overrides: Some(vec![api::ContainerOverride {
                    name: Some("x".to_owned()),
                    ..api::ContainerOverride::default()
                }]),
                ..api::TaskOverride::default()
            });
        },
        "Override for container named x is not a container in the TaskDefinition.",
    )
    .await;
    check(
        &|input| input.launch_type = Some("MOON".into()),
        "launch type should be one of [EC2,FARGATE,EXTERNAL]",
    )
    .await;
    check(&|input| input.cluster = Some("none".to_owned()), "Cluster not found.").await;
}

#[tokio::test]
async fn tasks_are_listed_by_what_is_wanted_of_them() {
    let world = World::new().await;
    let answer = world.run(|input| {
        input.count = Some(3);
        input.started_by = Some("me".to_owned());
    });
    let tasks = answer.await.tasks.unwrap();
    let stopped = tasks[0].task_arn.clone().unwrap();
    world.stop(&stopped, "").await;
    let list = |change: &dyn Fn(&mut api::ListTasksRequest)| {
        let mut input = api::ListTasksRequest::default();
        change(&mut input);
        list_tasks::handle(world.ecs(), &world.root(), input).map(|it| it.task_arns.unwrap())
    };
    assert_eq!(list(&|_| {}).unwrap().len(), 2);
    let gone = list(&|input| input.desired_status = Some(api::DesiredStatus::Stopped)).unwrap();
    assert_eq!(gone, [stopped]);
    assert_eq!(list(&|input| input.family = Some("web".to_owned())).unwrap().len(), 2);
    assert_eq!(list(&|input| input.family = Some("other".to_owned())).unwrap().len(), 0);
    assert_eq!(list(&|input| input.started_by = Some("me".to_owned())).unwrap().len(), 2);
    let both = list(&|input| {
        input.family = Some("web".to_owned());
        input.started_by = Some("me".to_owned());
    });
    assert_eq!(both.unwrap_err().code, "InvalidParameterException");
}

#[tokio::test]
async fn a_task_that_stopped_long_ago_is_forgotten() {
    let world = World::new().await;
    let task = world.run(|_| {}).await.tasks.unwrap().remove(0).task_arn.unwrap();
    world.stop(&task, "").await;
    assert_eq!(world.describe(&task).stop_code.unwrap().as_str(), "UserInitiated");
    world.test.env.advance_ms(3_600_000);
    crate::background::sweep(world.ecs()).await.unwrap();
    assert_eq!(world.ecs().control.view().tasks.len(), 0);
}

#[tokio::test]
async fn more_tasks_than_a_batch_has_rows_are_forgotten_at_once() {
    let world = World::new().await;
    let task = world.run(|_| {}).await.tasks.unwrap().remove(0).task_arn.unwrap();
    world.stop(&task, "").await;
    let view = world.ecs().control.view();
    let task = view.tasks.iter().next().unwrap();
    let many: Vec<Task> = (0..2 * BATCH_ROWS_MAX)
        .map(|_| Task { id: TaskId::mint(world.test.env.as_ref()), ..Task::clone(task) })
        .collect();
    for some in many.chunks(BATCH_ROWS_MAX) {
        let put = |view: &View, _| {
            let mut batch = Batch::on(view);
            batch.writes.extend(some.iter().cloned().map(Row::from));
            Ok((batch, ()))
        };
        world.ecs().control.decide(put).await.unwrap();
    }
    world.test.env.advance_ms(3_600_000);
    crate::background::sweep(world.ecs()).await.unwrap();
    assert_eq!(world.ecs().control.view().tasks.len(), 0);
}

#[tokio::test]
async fn fargate_says_that_it_has_no_room_once_its_hosts_are_full() {
    const FULL: &str = "Capacity is unavailable at this time. Please try again later";
    let world = World::new().await;
    // Of 4 vCPU and 8 GiB, sixteen times a quarter of one and half of the other.
    let _agent = world.agent().await;
    let some = async |count| world.try_run(|input| input.count = Some(count)).await;
    let first = some(10).await.unwrap();
    assert_eq!((first.tasks.unwrap().len(), first.failures.unwrap().len()), (10, 0));
    let second = some(10).await.unwrap();
    let tasks = second.tasks.unwrap();
    let failures = second.failures.unwrap();
    assert_eq!((tasks.len(), failures.len()), (6, 4));
    assert!(failures.iter().all(|it| it.reason.as_deref().unwrap().starts_with(FULL)));
    let refused = some(1).await.unwrap_err();
    assert_eq!((refused.code.as_ref(), refused.status), ("ClientException", 400));
    assert!(refused.message.starts_with(FULL), "{}", refused.message);
    let ended = tasks[0].task_arn.clone().unwrap();
    world.stop(&ended, "").await;
    world.submit(&ended, "STOPPED", Some(0), "").await;
    assert_eq!(some(1).await.unwrap().tasks.unwrap().len(), 1, "there is room again");
}
