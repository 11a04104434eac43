use std::sync::Arc;

use control::testing::TestControl;
use control::testing::rows::{execution_role, instance, task};
use ecs_api as api;
use longshore_types::{DeploymentId, InstanceId, RegionName, Timestamp};
use model::ecr::{EcrRepository, TagMutability};
use model::instance::{ENI_ATTRIBUTE, Instance, JUDGES_ATTRIBUTE};
use model::network::{DefaultVpcGone, DhcpOptions, Network, RouteTable};
use model::tags::Tags;
use model::task::{ContainerOverride, Desired, Overrides, Phase, Task, TaskService};
use model::vpc::{AddressPlan, Vpc};
use model::{IamRole, Row, Seq, View};
use serde_json::{Value, json};

use super::{Environment, Given, Roles, VpcGone, interfaces, is_beyond, of_stop, of_task, vpc_of};

fn vpc() -> Vpc {
    let region: RegionName = "us-east-1".parse().unwrap();
    let plan = AddressPlan { block: "172.31.0.0/16".parse().unwrap(), bridge: None, seed: 7 };
    plan.default_vpc("000000000000".parse().unwrap(), &region)
}

fn definition(container: &Value) -> api::TaskDefinition {
    let document = json!({
        "family": "web", "networkMode": "awsvpc",
        "volumes": [{"name": "scratch"}, {"name": "logs", "host": {"sourcePath": "/var/log"}}],
        "containerDefinitions": [container],
    });
    aws_wire::json::from_slice(document.to_string().as_bytes()).unwrap()
}

fn payload(container: &Value, overrides: Overrides, agent_is_ours: bool) -> Value {
    payload_seen(container, overrides, agent_is_ours, &View::default())
}

fn payload_seen(
    container: &Value,
    overrides: Overrides,
    agent_is_ours: bool,
    view: &View,
) -> Value {
    let mut task = task(1);
    task.overrides = overrides;
    payload_of(task, container, agent_is_ours, view)
}

fn payload_of(mut task: Task, container: &Value, agent_is_ours: bool, view: &View) -> Value {
    let vpc = vpc();
    task.interface.as_mut().unwrap().subnet = vpc.subnets[0].id.clone();
    let world = TestControl::new();
    let definition = definition(container);
    let roles = with_roles(view);
    let given = Given {
        control: &world.control,
        view: &roles,
        task: &task,
        definition: &definition,
        agent_is_ours,
        now: Timestamp(1_795_000_000_000),
    };
    let roles = given.roles().unwrap();
    let environment = Environment {
        local_registry: "127.0.0.1:4566",
        registry: "127.0.0.1:4566",
        view,
        endpoint: "http://127.0.0.1:4566",
        vpc: Some(&vpc),
        is_judged: false,
        agent_is_ours,
        roles: &roles,
    };
    serde_json::to_value(of_task(&task, &definition, &environment)).unwrap()
}

/// What an account begins with, and a role of its own that trusts ECS.
fn with_roles(view: &View) -> View {
    let mut view = view.clone();
    let everybodys = execution_role("000000000000".parse().unwrap());
    let mine = IamRole { name: "mine".into(), unique_id: "AROAMINE".into(), ..everybodys.clone() };
    for role in [everybodys, mine] {
        view.put(Seq(1), &Row::IamRole(Arc::new(role)));
    }
    view
}

fn docker(payload: &Value, half: &str) -> Value {
    let text = payload["containers"][0]["dockerConfig"][half].as_str().unwrap();
    serde_json::from_str(text).unwrap()
}

#[test]
fn settings_are_in_dockers_words_and_units() {
    let container = json!({
        "name": "web", "image": "127.0.0.1:4566/hello:1", "essential": true, "user": "nobody",
        "workingDirectory": "/srv", "dockerLabels": {"team": "x"}, "readonlyRootFilesystem": true,
        "memoryReservation": 64, "cpu": 128, "memory": 256, "stopTimeout": 7,
        "healthCheck": {"command": ["CMD-SHELL", "true"], "interval": 10, "startPeriod": 5},
        "ulimits": [{"name": "core", "softLimit": 0, "hardLimit": 1}],
        "linuxParameters": {
            "initProcessEnabled": true, "sharedMemorySize": 32, "maxSwap": 64, "swappiness": 10,
            "capabilities": {"add": ["SYS_PTRACE"], "drop": ["ALL"]},
            "tmpfs": [{"containerPath": "/run", "size": 16, "mountOptions": ["ro"]}],
            "devices": [{"hostPath": "/dev/null", "permissions": ["read"]}],
        },
        "systemControls": [{"namespace": "net.core.somaxconn", "value": "1024"}],
        "extraHosts": [{"hostname": "a", "ipAddress": "10.0.0.1"}],
        "dependsOn": [], "mountPoints": [{"sourceVolume": "logs", "containerPath": "/l", "readOnly": true}],
        "logConfiguration": {"logDriver": "awslogs", "options": {
            "awslogs-group": "g", "awslogs-stream-prefix": "p", "mode": "non-blocking"}},
    });
    let payload = payload(&container, Overrides::default(), true);
    let sent = &payload["containers"][0];
    assert_eq!(sent["essential"], true);
    assert_eq!(
        (&sent["cpu"], &sent["memory"], &sent["stopTimeout"]),
        (&json!(128), &json!(256), &json!(7))
    );
    assert_eq!(sent["healthCheckType"], "docker");
    assert_eq!(sent["overrides"], "{}");
    assert_eq!(sent["registryAuthentication"]["ecrAuthData"]["registryId"], "000000000000");
    assert_eq!(sent["mountPoints"][0]["readOnly"], true);
    assert_eq!(sent["dockerConfig"]["version"], "1.29");
    let config = docker(&payload, "config");
    assert_eq!(config["User"], "nobody");
    assert_eq!(config["Healthcheck"]["Interval"], 10_000_000_000_i64);
    assert_eq!(config["Healthcheck"]["Retries"], 3);
    assert_eq!(config["Labels"]["com.amazonaws.ecs.container-name"], "web");
    assert_eq!(config["Labels"]["team"], "x");
    let host = docker(&payload, "hostConfig");
    assert_eq!(host["NetworkMode"], "awsvpc");
    assert_eq!(host["MemoryReservation"], 64 << 20);
    assert_eq!(host["MemorySwap"], 320 << 20);
    assert_eq!(host["CapDrop"], json!(["ALL"]));
    assert_eq!(host["Tmpfs"]["/run"], "size=16m,ro");
    assert_eq!(host["Devices"][0]["CgroupPermissions"], "r");
    assert_eq!(host["Devices"][0]["PathInContainer"], "/dev/null");
    assert_eq!(host["Sysctls"]["net.core.somaxconn"], "1024");
    assert_eq!(host["ExtraHosts"], json!(["a:10.0.0.1"]));
    assert_eq!(host["Ulimits"][1], json!({"Name": "nofile", "Soft": 65535, "Hard": 65535}));
    let logs = &host["LogConfig"]["Config"];
    let stream = format!("p/web/{}", task(1).id);
    assert_eq!(logs["awslogs-stream"], stream.as_str());
    assert_eq!(logs["awslogs-region"], "us-east-1");
    assert_eq!(
        (&logs["awslogs-stream-prefix"], &logs["awslogs-endpoint"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn overrides_are_folded_into_the_container() {
    let container = json!({
        "name": "web", "image": "hello", "command": ["a"], "memory": 256,
        "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "portMappings": [{"containerPort": 80}],
    });
    let changed = ContainerOverride {
        name: "web".to_owned(),
        command: Some(vec!["b".to_owned(), "c".to_owned()]),
        environment: Some(vec![("B".to_owned(), "3".to_owned())]),
        memory: Some(512),
        ..ContainerOverride::default()
    };
    let overrides = Overrides { containers: vec![changed], ..Overrides::default() };
    let payload = payload(&container, overrides, false);
    let sent = &payload["containers"][0];
    assert_eq!(sent["command"], json!(["b", "c"]));
    assert_eq!(sent["memory"], 512);
    let environment = json!({"A": "1", "B": "3", "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"});
    assert_eq!(sent["environment"], environment);
    assert_eq!(sent["registryAuthentication"], Value::Null);
    assert_eq!(
        sent["portMappings"][0],
        json!({"containerPort": 80, "hostPort": 80, "protocol": "tcp"})
    );
}

#[test]
fn a_task_is_described_as_the_agent_expects() {
    let payload = payload(&json!({"name": "web", "image": "hello"}), Overrides::default(), true);
    assert_eq!(payload["cpu"], 0.25);
    assert_eq!(payload["memory"], 512);
    assert_eq!((&payload["family"], &payload["version"]), (&json!("web"), &json!("3")));
    let eni = &payload["elasticNetworkInterfaces"][0];
    assert_eq!(eni["subnetGatewayIpv4Address"], "172.31.0.1/20");
    assert_eq!(eni["ipv4Addresses"], json!([{"privateAddress": "172.31.0.4", "primary": true}]));
    assert_eq!(eni["domainNameServers"], json!(["172.31.0.2"]));
    assert_eq!(payload["volumes"][0], json!({"name": "scratch", "type": "host", "host": {}}));
    assert_eq!(payload["volumes"][1]["host"]["sourcePath"], "/var/log");
    let stop = serde_json::to_value(of_stop(&task(1))).unwrap();
    assert_eq!(stop.as_object().unwrap().len(), 2);
}

#[test]
fn a_task_that_still_has_requests_in_flight_is_told_anew_to_run() {
    let mut held = task(1);
    held.phase = Phase::Running;
    held.desired = Desired::Stopped;
    held.service = Some(TaskService {
        name: "web".parse().unwrap(),
        deployment: DeploymentId(1),
        is_ready: true,
        is_accounted: false,
        is_registered: true,
        is_connected: false,
    });
    let container = json!({"name": "web", "image": "hello"});
    let payload = payload_of(held, &container, true, &View::default());
    assert_eq!(payload["desiredStatus"], "RUNNING");
}

#[test]
fn our_agent_acts_as_the_tasks_execution_role_and_amazons_only_as_one_that_is_named() {
    let log = json!({"logDriver": "awslogs", "options": {"awslogs-group": "g"}});
    let image = "127.0.0.1:4566/hello:1";
    let container = json!({"name": "web", "image": image, "logConfiguration": log});
    let named = Overrides {
        execution_role_arn: Some("arn:aws:iam::000000000000:role/mine".to_owned()),
        ..Overrides::default()
    };
    let everybodys = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";
    for (overrides, is_ours, role) in [
        (Overrides::default(), true, Some(everybodys)),
        (Overrides::default(), false, None),
        (named, false, Some("arn:aws:iam::000000000000:role/mine")),
    ] {
        let payload = payload(&container, overrides, is_ours);
        let (sent, acts) = (&payload["containers"][0], role.is_some());
        assert_eq!(sent["logsAuthStrategy"] == "ExecutionRole", acts);
        assert_eq!(sent["registryAuthentication"]["ecrAuthData"]["useExecutionRole"], acts);
        let credentials = &payload["executionRoleCredentials"];
        assert_eq!(credentials["roleArn"].as_str(), role);
        if !acts {
            continue;
        }
        assert_eq!(credentials["expiration"], "2026-11-18T17:06:40Z");
        for member in ["credentialsId", "accessKeyId", "secretAccessKey", "sessionToken"] {
            assert!(credentials[member].as_str().is_some_and(|text| 20 <= text.len()), "{member}");
        }
    }
}

#[test]
fn an_image_of_another_account_is_asked_for_with_the_tasks_key_and_one_of_nobodys_here_at_home() {
    let image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/hello:1";
    let container = json!({"name": "web", "image": image});
    let mut others = View::default();
    let repository = EcrRepository {
        account: "123456789012".parse().unwrap(),
        name: "any".parse().unwrap(),
        created_at: Timestamp(1),
        tag_mutability: TagMutability::Mutable,
        mutability_exclusions: Vec::new(),
        scan_on_push: false,
        key: None,
        tags: Tags::default(),
        policy: None,
        lifecycle: None,
        preview: None,
    };
    others.put(Seq(1), &Row::EcrRepository(Arc::new(repository)));
    for (view, is_ours, registry, as_role) in [
        (&View::default(), true, "000000000000", true),
        (&View::default(), false, "000000000000", true),
        (&others, true, "123456789012", true),
        (&others, false, "123456789012", false),
    ] {
        // Amazon's agent is given a role only where one is named.
        let execution = Some("arn:aws:iam::000000000000:role/mine".to_owned());
        let named = Overrides { execution_role_arn: execution, ..Overrides::default() };
        let payload = payload_seen(&container, named, is_ours, view);
        let data = &payload["containers"][0]["registryAuthentication"]["ecrAuthData"];
        assert_eq!(
            (&data["registryId"], &data["useExecutionRole"]),
            (&json!(registry), &json!(as_role))
        );
    }
}

#[test]
fn containers_act_in_a_role_that_trusts_ecs_and_are_told_of_one_that_is_not_there() {
    let acting = |role: &str, is_ours| {
        let named = Overrides {
            task_role_arn: Some(format!("arn:aws:iam::000000000000:role/{role}")),
            ..Overrides::default()
        };
        let container = json!({"name": "web", "image": "hello"});
        payload(&container, named, is_ours)["roleCredentials"].clone()
    };
    for is_ours in [true, false] {
        let given = acting("mine", is_ours);
        assert_eq!(given["roleArn"], "arn:aws:iam::000000000000:role/mine");
        assert!(given["accessKeyId"].as_str().is_some_and(|id| id.starts_with("ASIA")));
    }
    let missing = acting("absent", true);
    assert_eq!(missing["roleArn"], "arn:aws:iam::000000000000:role/absent");
    assert_eq!(missing["accessKeyId"], "");
    assert_eq!(acting("absent", false), Value::Null, "it would take them for credentials");
}

#[test]
fn a_task_with_a_role_that_does_not_trust_ecs_has_none_of_its_roles() {
    let world = TestControl::new();
    let mut task = task(1);
    task.overrides.task_role_arn = Some("arn:aws:iam::111122223333:role/theirs".to_owned());
    let definition = definition(&json!({"name": "web", "image": "hello"}));
    let mut view = with_roles(&View::default());
    let mine = view.iam_roles.iter().find(|role| &*role.name == "mine").cloned().unwrap();
    let theirs = IamRole {
        account: "111122223333".parse().unwrap(),
        name: "theirs".into(),
        ..IamRole::clone(&mine)
    };
    view.put(Seq(2), &Row::IamRole(Arc::new(theirs)));
    let given = Given {
        control: &world.control,
        view: &view,
        task: &task,
        definition: &definition,
        agent_is_ours: true,
        now: Timestamp(1),
    };
    let refused = given.roles().unwrap_err();
    assert!(
        refused.sentence().starts_with(
            "ECS was unable to assume the role 'arn:aws:iam::111122223333:role/theirs' that was provided for \
             this task. Please verify"
        ),
        "{}",
        refused.sentence()
    );
}

#[test]
fn what_is_kept_elsewhere_is_named_and_by_whom_it_is_kept() {
    let arn = "arn:aws:secretsmanager:eu-west-1:000000000000:secret:db-AbCdEf";
    let container = json!({
        "name": "web", "image": "registry.example/hello",
        "secrets": [{"name": "A", "valueFrom": format!("{arn}:user::")}, {"name": "B", "valueFrom": "/b"}],
        "repositoryCredentials": {"credentialsParameter": arn},
        "logConfiguration": {"logDriver": "awslogs", "options": {},
            "secretOptions": [{"name": "awslogs-group", "valueFrom": "group"}]},
    });
    let payload = payload(&container, Overrides::default(), true);
    let sent = &payload["containers"][0];
    let secret = |name: &str, from: &str, provider: &str, region: &str, target: &str| {
        json!({"name": name, "valueFrom": from, "provider": provider, "region": region,
            "type": "ENVIRONMENT_VARIABLE", "target": target})
    };
    assert_eq!(
        sent["secrets"],
        json!([
            secret("A", &format!("{arn}:user::"), "asm", "eu-west-1", "CONTAINER"),
            secret("B", "/b", "ssm", "us-east-1", "CONTAINER"),
            secret("awslogs-group", "group", "ssm", "us-east-1", "LOG_DRIVER"),
        ])
    );
    assert_eq!(
        sent["registryAuthentication"],
        json!({"type": "asm", "asmAuthData": {"credentialsParameter": arn, "region": "eu-west-1"}})
    );
}

#[test]
fn a_task_without_an_interface_needs_no_vpc_and_its_account_may_have_none() {
    let (with, mut without) = (task(1), task(2));
    without.interface = None;
    let account = with.scope.account;
    let region: RegionName = "us-east-1".parse().unwrap();
    let mut view = View::default();
    let plan = AddressPlan { block: "172.31.0.0/16".parse().unwrap(), bridge: None, seed: 7 };
    view.put(Seq(1), &Row::from(plan));
    let told = |view: &View, task: &Task| vpc_of(task, &Network::new(view, account, &region));
    for task in [&with, &without] {
        assert!(told(&view, task).unwrap().unwrap().is_default);
    }
    view.put(Seq(2), &Row::from(DefaultVpcGone { account }));
    assert_eq!(told(&view, &with), Err(VpcGone));
    assert_eq!(told(&view, &without), Ok(None));
    let mut apart = with;
    apart.interface.as_mut().unwrap().own_vpc = Some("vpc-0000000a".parse().unwrap());
    assert_eq!(told(&view, &apart), Err(VpcGone), "nobody made it");
    let environment = Environment {
        local_registry: "127.0.0.1:4566",
        registry: "127.0.0.1:4566",
        view: &view,
        endpoint: "http://127.0.0.1:4566",
        vpc: None,
        is_judged: false,
        agent_is_ours: true,
        roles: &Roles::default(),
    };
    let definition = definition(&json!({ "name": "web", "image": "hello" }));
    let sent = of_task(&without, &definition, &environment);
    assert_eq!((sent.vpc_id, sent.containers.len()), (None, 1));
    assert!(sent.elastic_network_interfaces.is_empty());
}

#[test]
fn in_a_default_vpc_that_was_changed_a_task_is_started_by_agents_that_judge_its_packets() {
    let mut started = task(1);
    let account = started.scope.account;
    let region: RegionName = "us-east-1".parse().unwrap();
    let mut view = View::default();
    let plan = AddressPlan { block: "172.31.0.0/16".parse().unwrap(), bridge: None, seed: 7 };
    let default = plan.default_network(account, &region);
    view.put(Seq(1), &Row::from(plan));
    let mut old = instance(InstanceId::from_bytes([1; 16]));
    old.attributes.insert(ENI_ATTRIBUTE.to_owned(), Some("true".to_owned()));
    let mut new = old.clone();
    new.attributes.insert(JUDGES_ATTRIBUTE.to_owned(), Some("true".to_owned()));
    let is_beyond = |view: &View, agent: &Instance, task: &Task| {
        is_beyond(agent, task, &Network::new(view, account, &region))
    };
    started.phase = Phase::Pending;
    assert!(!is_beyond(&view, &old, &started));
    default.rows().iter().for_each(|row| drop(view.put(Seq(2), row)));
    assert!(!is_beyond(&view, &old, &started), "packets go as they did");
    let table = RouteTable { routes: vec![], ..RouteTable::clone(&default.table) };
    view.put(Seq(3), &Row::from(table));
    assert!(is_beyond(&view, &old, &started) && !is_beyond(&view, &new, &started));
    let apart = |task: &Task| {
        let mut task = task.clone();
        task.interface.as_mut().unwrap().own_vpc = Some("vpc-0000000a".parse().unwrap());
        task
    };
    assert!(!is_beyond(&view, &old, &apart(&started)));
    let running = Task { phase: Phase::Running, ..started.clone() };
    assert!(!is_beyond(&view, &old, &running), "it runs already");
    let bridged = Task { interface: None, ..started };
    assert!(!is_beyond(&view, &old, &bridged));
}

#[test]
fn a_task_is_told_what_its_vpcs_dhcp_options_say() {
    let task = task(1);
    let vpc = Vpc { dhcp_options: "dopt-00000001".to_owned(), ..vpc() };
    let told = |options: &[(&str, &[&str])]| {
        let mut view = View::default();
        let options = options.iter().map(|(key, values)| {
            ((*key).to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
        });
        let id = vpc.dhcp_options.parse().unwrap();
        let account = task.scope.account;
        view.put(Seq(1), &Row::from(DhcpOptions { account, id, options: options.collect() }));
        let environment = Environment {
            local_registry: "127.0.0.1:4566",
            registry: "127.0.0.1:4566",
            view: &view,
            endpoint: "http://127.0.0.1:4566",
            vpc: Some(&vpc),
            is_judged: false,
            agent_is_ours: true,
            roles: &Roles::default(),
        };
        let told = interfaces(&task, &environment).unwrap();
        (told.domain_name, told.domain_name_servers)
    };
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        told(&[
            ("domain-name", &["corp.example prod.example"]),
            ("domain-name-servers", &["192.0.2.53", "2001:db8::53", "AmazonProvidedDNS"]),
        ]),
        (texts(&["corp.example", "prod.example"]), texts(&["192.0.2.53", "172.31.0.2"]))
    );
    assert_eq!(told(&[]), (texts(&["ec2.internal"]), texts(&["172.31.0.2"])));
}

#[test]
fn gpus_are_told_as_associations_of_their_containers() {
    let mut task = task(1);
    assert_eq!(
        payload_of(task.clone(), &json!({ "name": "web" }), false, &View::default())["associations"],
        Value::Null
    );
    task.containers[0].gpus = vec!["GPU-a".to_owned(), "GPU-b".to_owned()];
    for agent_is_ours in [true, false] {
        let told =
            payload_of(task.clone(), &json!({ "name": "web" }), agent_is_ours, &View::default());
        let first = json!({ "name": "GPU-a", "type": "gpu", "containers": ["web"],
            "content": { "encoding": "identity", "value": "GPU-a" } });
        assert_eq!(told["associations"][0], first);
        assert_eq!(told["associations"].as_array().unwrap().len(), 2);
    }
}
