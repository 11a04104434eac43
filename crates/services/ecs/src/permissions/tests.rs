//! What each request of a user takes, as a table of policies.

use aws_wire::{ApiError, Principal};
use ecs_api as api;
use serde_json::{Value, json};

use super::*;
use crate::testing::TestEcs;
use crate::{
    create_cluster, create_service, register_task_definition, run_task, tag_resource,
    update_service,
};

#[test]
fn what_is_named_is_an_arn_to_policies() {
    let world = TestEcs::new();
    let caller = Caller { principal: Principal::Node { instance: None }, ..world.root() };
    let on = |cluster| world.ecs.on_cluster(&caller, "ecs:DeleteCluster", cluster).resources;
    let default = "arn:aws:ecs:us-east-1:000000000000:cluster/default";
    assert_eq!(on(None), [default]);
    assert_eq!(on(Some("")), [default]);
    assert_eq!(on(Some(default)), [default]);
    let web = "web".to_owned();
    let service = world.ecs.within(&caller, "ecs:UpdateService", "service", None, [&web]);
    assert_eq!(service.resources, ["arn:aws:ecs:us-east-1:000000000000:service/default/web"]);
    let cluster = service.context.get("ecs:cluster").unwrap().as_slice();
    assert_eq!(cluster, [control::Value::from(default)]);
    let root = world.ecs.on(&world.root(), "ecs:DescribeTaskDefinition", "task-definition", [&web]);
    assert_eq!(root.resources, Vec::<String>::new());
}

/// A decision takes the name out of an ARN and looks in the request's cluster, so that is what policies are asked about.
#[test]
fn an_arn_with_a_false_cluster_region_or_partition_is_asked_about_as_what_it_leads_to() {
    let world = TestEcs::new();
    let caller = Caller { principal: Principal::Node { instance: None }, ..world.root() };
    let id = "0123456789abcdef0123456789abcdef";
    let real = format!("{START}task/prod/{id}");
    for given in [
        format!("{START}task/dev/{id}"),
        format!("arn:aws:ecs:eu-west-1:000000000000:task/prod/{id}"),
        format!("arn:x:ecs:us-east-1:000000000000:task/prod/{id}"),
        id.to_owned(),
    ] {
        let asked = world.ecs.within(&caller, "ecs:StopTask", "task", Some("prod"), [&given]);
        assert_eq!(asked.resources, [real.as_str()], "{given}");
    }
    let short = format!("{START}service/web");
    let asked = world.ecs.within(&caller, "ecs:DeleteService", "service", Some("prod"), [&short]);
    assert_eq!(asked.resources, [format!("{START}service/prod/web")]);
    let cluster =
        world.ecs.on_cluster(&caller, "ecs:DeleteCluster", Some("arn:x:ecs:r:1:cluster/prod"));
    assert_eq!(cluster.resources, [format!("{START}cluster/prod")]);
}

const TASK_ROLE: &str = "arn:aws:iam::000000000000:role/app/task";
const EXECUTION_ROLE: &str = "arn:aws:iam::000000000000:role/execution";
const OTHER_ROLE: &str = "arn:aws:iam::000000000000:role/other";
const START: &str = "arn:aws:ecs:us-east-1:000000000000:";

fn allow(action: &str, resource: &str, condition: Value) -> Value {
    let mut statement = json!({"Effect": "Allow", "Action": action, "Resource": resource});
    if !condition.is_null() {
        statement["Condition"] = condition;
    }
    statement
}

fn pass(role: &str) -> Value {
    allow("iam:PassRole", role, Value::Null)
}

fn definition() -> api::RegisterTaskDefinitionRequest {
    let container = api::ContainerDefinition {
        name: Some("app".to_owned()),
        image: Some("nginx".to_owned()),
        memory: Some(128),
        ..Default::default()
    };
    api::RegisterTaskDefinitionRequest {
        family: Some("web".to_owned()),
        container_definitions: Some(vec![container]),
        cpu: Some("256".to_owned()),
        memory: Some("512".to_owned()),
        task_role_arn: Some(TASK_ROLE.to_owned()),
        execution_role_arn: Some(EXECUTION_ROLE.to_owned()),
        ..Default::default()
    }
}

/// A region with a cluster `default` and the task definition `web:1`, which has both roles.
async fn world() -> TestEcs {
    let world = TestEcs::new();
    let (ecs, root) = (&world.ecs, world.root());
    create_cluster::handle(ecs, &root, Default::default()).await.unwrap();
    register_task_definition::handle(ecs, &root, definition()).await.unwrap();
    ec2::prepare_network(&ecs.control, &[]).await.unwrap();
    world
}

fn tags(pairs: &[(&str, &str)]) -> Option<Vec<api::Tag>> {
    let tag = |(key, value): &(&str, &str)| api::Tag {
        key: Some((*key).to_owned()),
        value: Some((*value).to_owned()),
    };
    Some(pairs.iter().map(tag).collect())
}

/// A user with these statements.
async fn user(world: &TestEcs, name: &str, statements: &[Value]) -> Caller {
    let policy = json!({"Version": "2012-10-17", "Statement": statements});
    world.user(name, &policy.to_string()).await
}

/// The action that was denied, if one was; other refusals are not what is looked for here.
fn denied<T>(outcome: Result<T, ApiError>) -> Option<(String, String)> {
    let denial = outcome.err()?.denial?;
    Some((denial.action, denial.resource))
}

fn run() -> api::RunTaskRequest {
    api::RunTaskRequest { task_definition: Some("web".to_owned()), ..Default::default() }
}

#[tokio::test]
async fn running_a_task_takes_its_definition_its_roles_and_its_tags() {
    let world = world().await;
    let on = format!("{START}task-definition/web:1");
    let allowed = |condition| allow("ecs:RunTask", &on, condition);
    let both = [pass(TASK_ROLE), pass(EXECUTION_ROLE)];
    let passed_to = |service: &str| {
        let condition = json!({"StringEquals": {"iam:PassedToService": service}});
        allow("iam:PassRole", "*", condition)
    };
    let tagged = |condition| allow("ecs:TagResource", &format!("{START}task/default/*"), condition);
    let made_by = |action: &str| json!({"StringEquals": {"ecs:CreateAction": action}});
    let plain = run();
    let executing = api::RunTaskRequest { enable_execute_command: Some(true), ..run() };
    let overridden = api::RunTaskRequest {
        overrides: Some(api::TaskOverride {
            task_role_arn: Some(OTHER_ROLE.to_owned()),
            cpu: Some("1 vCPU".to_owned()),
            ..Default::default()
        }),
        ..run()
    };
    let with_tags = api::RunTaskRequest { tags: tags(&[("team", "blue")]), ..run() };
    let cluster =
        |name: &str| json!({"ArnEquals": {"ecs:cluster": format!("{START}cluster/{name}")}});
    let team = |name: &str| json!({"StringEquals": {"aws:RequestTag/team": name}});
    let no_exec = json!({"StringEquals": {"ecs:enable-execute-command": "false"}});
    let small = json!({"NumericLessThanEquals": {"ecs:task-cpu": "256"}});
    let (run, pass_role, tag) = ("ecs:RunTask", "iam:PassRole", "ecs:TagResource");
    let any = allow("ecs:RunTask", "*", Value::Null);
    let next = allow("ecs:RunTask", &format!("{START}task-definition/web:2"), Value::Null);
    let tasks = format!("{START}task/default/*");
    for (place, (asked, statements, refused)) in [
        (&plain, vec![allowed(Value::Null), both[0].clone(), both[1].clone()], None),
        (&plain, vec![any.clone(), passed_to("ecs-tasks.amazonaws.com")], None),
        (
            &plain,
            vec![any.clone(), passed_to("ec2.amazonaws.com")],
            Some((pass_role, TASK_ROLE.to_owned())),
        ),
        (&plain, vec![any.clone(), pass(TASK_ROLE)], Some((pass_role, EXECUTION_ROLE.to_owned()))),
        (&plain, vec![next, pass("*")], Some((run, on.clone()))),
        (&plain, vec![allowed(cluster("default")), pass("*")], None),
        (&plain, vec![allowed(cluster("other")), pass("*")], Some((run, on.clone()))),
        (&plain, vec![allowed(no_exec.clone()), pass("*")], None),
        (&executing, vec![allowed(no_exec), pass("*")], Some((run, on.clone()))),
        (&plain, vec![allowed(small.clone()), pass("*")], None),
        (&overridden, vec![allowed(small), pass("*")], Some((run, on.clone()))),
        (
            &overridden,
            vec![any.clone(), both[0].clone(), both[1].clone()],
            Some((pass_role, OTHER_ROLE.to_owned())),
        ),
        (&with_tags, vec![any.clone(), pass("*")], Some((tag, tasks.clone()))),
        (&with_tags, vec![any.clone(), pass("*"), tagged(made_by("RunTask"))], None),
        (
            &with_tags,
            vec![any.clone(), pass("*"), tagged(made_by("StartTask"))],
            Some((tag, tasks.clone())),
        ),
        (&with_tags, vec![allowed(team("blue")), pass("*"), tagged(team("blue"))], None),
        (
            &with_tags,
            vec![allowed(team("red")), pass("*"), tagged(Value::Null)],
            Some((run, on.clone())),
        ),
        (&plain, vec![allowed(team("blue")), pass("*")], Some((run, on.clone()))),
    ]
    .into_iter()
    .enumerate()
    {
        let ann = user(&world, &format!("ann{place}"), &statements).await;
        let outcome = run_task::handle(&world.ecs, &ann, asked.clone()).await;
        let expected = refused.map(|(action, on)| (action.to_owned(), on));
        assert_eq!(denied(outcome), expected, "{place}: {statements:?}");
    }
}

#[tokio::test]
async fn registering_takes_the_next_revision_and_its_roles() {
    let world = world().await;
    let on = |revision: u32| format!("{START}task-definition/web:{revision}");
    let plain = definition();
    let mut privileged = definition();
    for container in privileged.container_definitions.iter_mut().flatten() {
        container.privileged = Some(true);
    }
    let with_tags =
        api::RegisterTaskDefinitionRequest { tags: tags(&[("team", "blue")]), ..definition() };
    let action = "ecs:RegisterTaskDefinition";
    let unprivileged = json!({"StringEquals": {"ecs:privileged": "false"}});
    let family = allow(action, &format!("{START}task-definition/web:*"), Value::Null);
    let careful = allow(action, "*", unprivileged);
    let keys = json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}});
    for (place, (asked, statements, refused)) in [
        (&plain, vec![family.clone(), pass("*")], None),
        (&plain, vec![family.clone()], Some(("iam:PassRole", TASK_ROLE.to_owned()))),
        (&plain, vec![pass("*")], Some((action, on(3)))),
        (&plain, vec![careful.clone(), pass("*")], None),
        (&privileged, vec![careful, pass("*")], Some((action, on(4)))),
        (&with_tags, vec![family.clone(), pass("*")], Some(("ecs:TagResource", on(4)))),
        (&with_tags, vec![family.clone(), pass("*"), allow("ecs:TagResource", "*", keys)], None),
    ]
    .into_iter()
    .enumerate()
    {
        let ann = user(&world, &format!("ann{place}"), &statements).await;
        let outcome = register_task_definition::handle(&world.ecs, &ann, asked.clone()).await;
        let expected = refused.map(|(action, on)| (action.to_owned(), on));
        assert_eq!(denied(outcome), expected, "{place}: {statements:?}");
    }
}

#[tokio::test]
async fn a_service_takes_the_roles_of_the_task_definition_that_is_named() {
    let world = world().await;
    let service = format!("{START}service/default/web");
    let create = |tags| api::CreateServiceRequest {
        service_name: Some("web".to_owned()),
        task_definition: Some("web".to_owned()),
        desired_count: Some(0),
        tags,
        ..Default::default()
    };
    let creating = allow("ecs:CreateService", &service, Value::Null);
    let of_web = json!({"ArnEquals": {
        "ecs:task-definition": format!("{START}task-definition/web:1"),
    }});
    let no_connect = json!({"BoolIfExists": {"ecs:enable-service-connect": "false"}});
    for (place, (asked, statements, refused)) in [
        (create(None), vec![creating.clone()], Some(("iam:PassRole", TASK_ROLE.to_owned()))),
        (
            create(tags(&[("a", "b")])),
            vec![creating.clone(), pass("*")],
            Some(("ecs:TagResource", service.clone())),
        ),
        (create(None), vec![allow("ecs:CreateService", "*", of_web), pass("*")], None),
        (
            api::CreateServiceRequest {
                service_connect_configuration: Some(api::ServiceConnectConfiguration {
                    enabled: Some(true),
                    ..Default::default()
                }),
                ..create(None)
            },
            vec![allow("ecs:CreateService", "*", no_connect), pass("*")],
            Some(("ecs:CreateService", service.clone())),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let ann = user(&world, &format!("ann{place}"), &statements).await;
        let outcome = create_service::handle(&world.ecs, &ann, asked).await;
        let expected = refused.map(|(action, on)| (action.to_owned(), on));
        assert_eq!(denied(outcome), expected, "{place}: {statements:?}");
    }
    let bob = user(&world, "bob", &[allow("ecs:UpdateService", &service, Value::Null)]).await;
    let scale = api::UpdateServiceRequest {
        service: Some("web".to_owned()),
        desired_count: Some(0),
        ..Default::default()
    };
    let outcome = update_service::handle(&world.ecs, &bob, scale.clone()).await;
    assert_eq!(denied(outcome), None, "a count passes no role");
    let renew = api::UpdateServiceRequest { task_definition: Some("web:1".to_owned()), ..scale };
    let outcome = update_service::handle(&world.ecs, &bob, renew).await;
    assert_eq!(denied(outcome), Some(("iam:PassRole".to_owned(), TASK_ROLE.to_owned())));
}

#[tokio::test]
async fn tagging_is_limited_by_the_tags_of_the_request_and_of_what_is_there() {
    let world = world().await;
    let arn = format!("{START}cluster/default");
    let tag = |key: &str| api::TagResourceRequest {
        resource_arn: Some(arn.clone()),
        tags: tags(&[(key, "x")]),
    };
    tag_resource::handle_tag(&world.ecs, &world.root(), tag("stage")).await.unwrap();
    let keys = json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["stage", "team"]}});
    let staged = json!({"StringEquals": {"aws:ResourceTag/stage": "x"}});
    let elsewhere = json!({"StringEquals": {"aws:ResourceTag/stage": "y"}});
    for (place, (condition, key, is_allowed)) in [
        (keys.clone(), "team", true),
        (keys, "owner", false),
        (staged, "owner", true),
        (elsewhere, "owner", false),
    ]
    .into_iter()
    .enumerate()
    {
        let statements = [allow("ecs:TagResource", &arn, condition)];
        let ann = user(&world, &format!("ann{place}"), &statements).await;
        let outcome = tag_resource::handle_tag(&world.ecs, &ann, tag(key)).await;
        assert_eq!(denied(outcome).is_none(), is_allowed, "{place}: {statements:?}");
    }
}
