use aws_wire::{ApiError, Caller};
use control::tasks::STOPPED_AT_ONCE_MAX;
use control::testing::rows;
use ecs_api as api;
use model::Task;
use store::Batch;

use super::world::World;
use crate::{
    deregister_container_instance, list_container_instances, register_container_instance,
    start_task, tag_resource, update_container_instances_state,
};

fn attribute(name: &str, value: Option<&str>) -> api::Attribute {
    api::Attribute {
        name: Some(name.to_owned()),
        value: value.map(str::to_owned),
        ..api::Attribute::default()
    }
}

#[tokio::test]
async fn every_attribute_is_echoed_and_a_second_registration_keeps_the_arn() {
    let world = World::new().await;
    let sent = vec![
        attribute("ecs.capability.full-sync", None),
        attribute("stack", Some("proof")),
        attribute("longshore.fargate", Some("true")),
    ];
    let mut input = api::RegisterContainerInstanceRequest {
        attributes: Some(sent.clone()),
        ..api::RegisterContainerInstanceRequest::default()
    };
    let register = async |input: &api::RegisterContainerInstanceRequest| {
        let root = world.root();
        let answer = register_container_instance::handle(world.ecs(), &root, input.clone());
        answer.await.unwrap().container_instance.unwrap()
    };
    let first = register(&input).await;
    let echoed = first.attributes.clone().unwrap();
    assert!(sent.iter().all(|each| echoed.contains(each)), "{echoed:?}");
    assert_eq!(first.status.as_deref(), Some("ACTIVE"));
    assert_eq!(first.agent_connected, Some(false));

    // Anyone may say so, but only the region's own agents are believed.
    let view = world.ecs().control.view();
    assert!(view.instances.iter().all(|instance| !instance.takes_fargate()));

    input.container_instance_arn = first.container_instance_arn.clone();
    input.attributes = Some(vec![attribute("ecs.capability.full-sync", None)]);
    let second = register(&input).await;
    assert_eq!(second.container_instance_arn, first.container_instance_arn);
    assert!(second.attributes.unwrap().contains(&attribute("stack", Some("proof"))));
}

/// Registers a machine of EC2 as Amazon's agent does there.
async fn register_with(
    world: &World,
    document: &str,
    change: impl FnOnce(&mut api::RegisterContainerInstanceRequest),
) -> Result<api::ContainerInstance, ApiError> {
    let mut input = api::RegisterContainerInstanceRequest {
        instance_identity_document: Some(document.to_owned()),
        ..Default::default()
    };
    change(&mut input);
    let answer = register_container_instance::handle(world.ecs(), &world.root(), input).await?;
    Ok(answer.container_instance.unwrap())
}

const DOCUMENT: &str = r#"{"instanceId":"i-0123456789abcdef0","availabilityZone":"us-east-1c",
    "instanceType":"m7g.large","imageId":"ami-0123","architecture":"arm64","devpayProductCodes":null}"#;

fn value_of<'a>(instance: &'a api::ContainerInstance, wanted: &str) -> Option<&'a str> {
    let mut all = instance.attributes.iter().flatten();
    all.find(|each| each.name.as_deref() == Some(wanted))?.value.as_deref()
}

#[tokio::test]
async fn what_a_machine_is_is_read_from_its_identity_document_where_its_agent_does_not_say() {
    let world = World::new().await;
    let shown = register_with(&world, DOCUMENT, |_| {}).await.unwrap();
    assert_eq!(shown.ec2_instance_id.as_deref(), Some("i-0123456789abcdef0"));
    for (name, value) in [
        ("ecs.availability-zone", "us-east-1c"),
        ("ecs.instance-type", "m7g.large"),
        ("ecs.ami-id", "ami-0123"),
        ("ecs.cpu-architecture", "arm64"),
    ] {
        assert_eq!(value_of(&shown, name), Some(value), "{name}");
    }
    let says = |input: &mut api::RegisterContainerInstanceRequest| {
        input.attributes = Some(vec![attribute("ecs.availability-zone", Some("us-east-1b"))]);
    };
    let shown = register_with(&world, DOCUMENT, says).await.unwrap();
    assert_eq!(value_of(&shown, "ecs.availability-zone"), Some("us-east-1b"));
    assert_eq!(value_of(&shown, "ecs.cpu-architecture"), Some("arm64"));

    let long = format!(r#"{{"instanceType":"{}"}}"#, "x".repeat(5_000));
    for none in [
        "",
        "no JSON",
        "[]",
        "7",
        r#"{"availabilityZone":7,"imageId":{},"architecture":"vax"}"#,
        &long,
    ] {
        let shown = register_with(&world, none, |_| {}).await.unwrap();
        assert_eq!(value_of(&shown, "ecs.availability-zone"), Some("us-east-1a"), "{none}");
        assert_eq!(value_of(&shown, "ecs.ami-id"), None, "{none}");
        assert_eq!(value_of(&shown, "ecs.instance-type"), None, "{none}");
        let host = crate::render_task::ARCHITECTURE;
        assert_eq!(value_of(&shown, "ecs.cpu-architecture"), Some(host), "{none}");
    }
}

#[tokio::test]
async fn an_instance_becomes_no_machine_of_another_type() {
    let world = World::new().await;
    let first = register_with(&world, "", |_| {}).await.unwrap();
    let again = |input: &mut api::RegisterContainerInstanceRequest| {
        input.container_instance_arn = first.container_instance_arn.clone();
    };
    let shown = register_with(&world, DOCUMENT, again).await.unwrap();
    assert_eq!(value_of(&shown, "ecs.availability-zone"), Some("us-east-1c"));
    let other = DOCUMENT.replace("m7g.large", "m7g.metal");
    let refused = register_with(&world, &other, again).await.unwrap_err();
    assert_eq!(refused.code, "ClientException");
    // Amazon's agent looks for it.
    let sentence = "Container instance type changes are not supported.";
    assert!(refused.message.contains(sentence), "{refused}");
    register_with(&world, "", again).await.unwrap();
}

#[tokio::test]
async fn a_registration_that_is_sent_again_makes_no_other_instance() {
    let world = World::new().await;
    let with = |token: &'static str| {
        move |input: &mut api::RegisterContainerInstanceRequest| {
            input.client_token = Some(token.to_owned());
            input.attributes = Some(vec![attribute("stack", Some("proof"))]);
        }
    };
    let first = register_with(&world, "", with("one")).await.unwrap();
    let again = register_with(&world, DOCUMENT, with("one")).await.unwrap();
    assert_eq!(again.container_instance_arn, first.container_instance_arn);
    assert_eq!(value_of(&again, "ecs.instance-type"), Some("m7g.large"), "the last say counts");
    let other = register_with(&world, "", with("two")).await.unwrap();
    assert_ne!(other.container_instance_arn, first.container_instance_arn);
    let of_the_world = world.ecs().control.view().instances.len();
    assert_eq!(of_the_world, 2);

    // Whose instance was taken away registers afresh.
    let input = api::DeregisterContainerInstanceRequest {
        container_instance: first.container_instance_arn.clone(),
        ..Default::default()
    };
    deregister_container_instance::handle(world.ecs(), &world.root(), input).await.unwrap();
    let afresh = register_with(&world, "", with("one")).await.unwrap();
    assert_ne!(afresh.container_instance_arn, first.container_instance_arn);
    // Nobody goes on with another's.
    let input = api::RegisterContainerInstanceRequest {
        client_token: Some("two".to_owned()),
        ..Default::default()
    };
    let node = world.test.node();
    let theirs = register_container_instance::handle(world.ecs(), &node, input).await.unwrap();
    let theirs = theirs.container_instance.unwrap().container_instance_arn;
    assert_ne!(theirs, other.container_instance_arn);
}

#[tokio::test]
async fn instances_are_drained_filtered_and_listed() {
    let world = World::new().await;
    let one = world.register(&world.test.node(), 1024, 1024).await;
    let two = world.register(&world.test.node(), 2048, 1024).await;
    let input = api::UpdateContainerInstancesStateRequest {
        container_instances: Some(vec![one.clone(), "x".to_owned()]),
        status: Some(api::ContainerInstanceStatus::Draining),
        ..api::UpdateContainerInstancesStateRequest::default()
    };
    let (ecs, root) = (world.ecs(), world.root());
    let answer = update_container_instances_state::handle(ecs, &root, input).await.unwrap();
    assert_eq!(answer.failures.unwrap()[0].reason.as_deref(), Some("MISSING"));
    assert_eq!(world.describe_instance(&one).status.as_deref(), Some("DRAINING"));
    let list = |filter: Option<&str>, status| {
        let input = api::ListContainerInstancesRequest {
            filter: filter.map(str::to_owned),
            status,
            ..api::ListContainerInstancesRequest::default()
        };
        list_container_instances::handle(ecs, &root, input)
            .map(|answer| answer.container_instance_arns.unwrap())
    };
    assert_eq!(list(None, None).unwrap().len(), 2);
    assert_eq!(list(None, Some(api::ContainerInstanceStatus::Active)).unwrap(), [two]);
    let zone = "attribute:ecs.availability-zone == us-east-1a and runningTasksCount == 0";
    assert_eq!(list(Some(zone), None).unwrap().len(), 2);
    assert_eq!(list(Some("agentConnected == true"), None).unwrap().len(), 0);
    let error = list(Some("colour == red"), None).unwrap_err();
    assert!(error.message.contains("unknown subject 'colour'"), "{error}");
}

#[tokio::test]
async fn a_host_is_told_tags_of_itself_and_its_tasks_and_of_no_others() {
    let world = World::new().await;
    let own = world.test.node();
    let instance = world.register(&own, 4096, 8192).await;
    let mut agent = world.connect(&instance).await;
    agent.expect("TaskManifestMessage").await;
    let run = world.run(|input| {
        input.task_definition = Some("bridge".to_owned());
        input.launch_type = Some(api::LaunchType::Ec2);
        input.network_configuration = None;
    });
    let task = run.await.tasks.unwrap().remove(0).task_arn.unwrap();
    // Of a host that joined.
    let other = Caller { access_key: "LSNKAAAAAAAAAAAAAAAA".to_owned(), ..world.test.node() };
    let list = |caller: &Caller, arn: &str| {
        let input = api::ListTagsForResourceRequest { resource_arn: Some(arn.to_owned()) };
        tag_resource::handle_list(world.ecs(), caller, input)
    };
    for arn in [&instance, &task] {
        assert!(list(&own, arn).is_ok(), "{arn}");
        assert_eq!(list(&other, arn).unwrap_err().code, "ResourceNotFoundException", "{arn}");
    }
}

#[tokio::test]
async fn an_instance_with_more_tasks_than_one_decision_stops_takes_no_others_meanwhile() {
    let world = World::new().await;
    let named = world.register(&world.test.node(), 1024, 1024).await;
    let (ecs, root) = (world.ecs(), world.root());
    let id = ecs.control.view().instances.iter().next().unwrap().id;
    let tasks: Vec<Task> = (0..=u64::try_from(STOPPED_AT_ONCE_MAX).unwrap())
        .map(|seed| Task { instance: Some(id), ..rows::task(seed) })
        .collect();
    for some in tasks.chunks(100) {
        let put = ecs.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            for task in some {
                batch.put(task.clone());
            }
            Ok((batch, ()))
        });
        put.await.unwrap();
    }
    let mut input = api::DeregisterContainerInstanceRequest {
        container_instance: Some(named.clone()),
        ..Default::default()
    };
    let refused = deregister_container_instance::handle(ecs, &root, input.clone()).await;
    assert_eq!(refused.unwrap_err().message, "Found running tasks on the instance.");
    input.force = Some(true);
    let first = deregister_container_instance::decide_once(ecs, &root, &input).await.unwrap();
    assert!(first.is_none(), "one is left");
    assert_eq!(world.describe_instance(&named).status.as_deref(), Some("DRAINING"));
    let answer = deregister_container_instance::handle(ecs, &root, input).await.unwrap();
    assert_eq!(answer.container_instance.unwrap().status.as_deref(), Some("INACTIVE"));
    assert_eq!(ecs.control.view().tasks_on_instance(id).count(), 0);
    // It is described for a while, and nothing else is done with it.
    let shown = world.describe_instance(&named);
    assert_eq!((shown.status.as_deref(), shown.agent_connected), (Some("INACTIVE"), Some(false)));
    let input = api::DeregisterContainerInstanceRequest {
        container_instance: Some(named.clone()),
        ..Default::default()
    };
    let again = deregister_container_instance::handle(ecs, &root, input).await.unwrap_err();
    assert_eq!(again.message, "The referenced container instance was not found.");
}

#[tokio::test]
async fn an_external_instance_has_no_task_of_another_kind() {
    let world = World::new().await;
    let agent = world.agent().await;
    let input = api::RegisterContainerInstanceRequest {
        attributes: Some(vec![attribute("ecs.capability.external", None)]),
        ..api::RegisterContainerInstanceRequest::default()
    };
    let root = world.root();
    let answer = register_container_instance::handle(world.ecs(), &root, input).await.unwrap();
    let external = answer.container_instance.unwrap().container_instance_arn.unwrap();
    let start = async |named: &[&String]| {
        let input = api::StartTaskRequest {
            container_instances: Some(named.iter().map(|each| (*each).clone()).collect()),
            task_definition: Some("bridge".to_owned()),
            ..api::StartTaskRequest::default()
        };
        start_task::handle(world.ecs(), &root, input).await
    };
    let mixed = start(&[&agent.instance, &external]).await.unwrap();
    let task = &mixed.tasks.unwrap()[0];
    assert_eq!(task.container_instance_arn.as_ref(), Some(&agent.instance));
    assert_eq!(task.launch_type, Some(api::LaunchType::Ec2));
    let failure = &mixed.failures.unwrap()[0];
    assert_eq!(failure.arn.as_ref(), Some(&external));
    assert_eq!(failure.reason.as_deref(), Some("ATTRIBUTE"));
    // One that is not there makes it no other kind.
    let alone = start(&[&external, &"x".to_owned()]).await.unwrap_err();
    assert_eq!(alone.message, "Task definition does not support launch_type EXTERNAL.");
}
