//! One table a group of rules: what is changed in a good document, and what is said to it.

use aws_api::ecs;
use aws_wire::json;
use model::Compatibility;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Draft;
use crate::errors::Refusal;

/// Any launch type but Fargate.
fn plain() -> Value {
    json!({
        "family": "web",
        "containerDefinitions": [{"name": "app", "image": "nginx", "memory": 128}],
    })
}

fn fargate() -> Value {
    json!({
        "family": "web",
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [{"name": "app", "image": "nginx"}],
    })
}

/// `good` with `value` at a path such as `containerDefinitions/0/cpu`.
fn with(mut good: Value, path: &str, value: Value) -> Value {
    let mut place = &mut good;
    for step in path.split('/') {
        place = match step.parse::<usize>() {
            Ok(index) => {
                let list = place.as_array_mut().expect("the path goes through a list");
                if list.len() == index {
                    list.push(json!({}));
                }
                &mut list[index]
            }
            Err(_) => {
                let map = place.as_object_mut().expect("the path goes through an object");
                map.entry(step).or_insert(Value::Null)
            }
        };
    }
    *place = value;
    good
}

fn read(document: &Value) -> Result<Draft, Refusal> {
    let bytes = serde_json::to_vec(document).unwrap();
    Draft::read(json::from_slice(&bytes).unwrap())
}

fn accepts(document: &Value) {
    if let Err(refusal) = read(document) {
        panic!("{refusal:?} for {document}");
    }
}

/// Each change makes a good document one that is refused with a text that contains the words.
fn refuses(good: &Value, table: &[(&str, Value, &str)]) {
    accepts(good);
    for (path, value, words) in table {
        let document = with(good.clone(), path, value.clone());
        match read(&document) {
            Err(Refusal::Client(message)) => {
                assert!(message.contains(words), "{path} = {value}: {message}");
            }
            other => panic!("{path} = {value}: {:?}", other.map(|_| "accepted")),
        }
    }
}

/// Each change leaves a good document good.
fn accepts_all(good: &Value, table: &[(&str, Value)]) {
    for (path, value) in table {
        accepts(&with(good.clone(), path, value.clone()));
    }
}

/// The document as it is kept.
fn kept(document: &Value) -> Value {
    let draft = read(document).unwrap();
    serde_json::from_slice(&json::to_vec(&draft.shape())).unwrap()
}

const APP: &str = "containerDefinitions/0";

fn app(member: &str) -> String {
    format!("{APP}/{member}")
}

/// Tables are short when the container's members stand alone.
fn refuses_app(good: &Value, table: &[(&str, Value, &str)]) {
    for (member, value, words) in table {
        refuses(good, &[(&app(member), value.clone(), words)]);
    }
}

fn accepts_app(good: &Value, table: &[(&str, Value)]) {
    for (member, value) in table {
        accepts_all(good, &[(&app(member), value.clone())]);
    }
}

#[test]
fn a_definition_has_a_family_and_named_containers() {
    refuses(
        &plain(),
        &[
            ("family", json!(""), "Family should not be null or empty."),
            ("family", json!("a b"), "Invalid family 'a b'"),
            ("family", json!("x".repeat(256)), "Invalid family"),
            ("containerDefinitions", json!([]), "Container list cannot be empty."),
            (
                APP,
                json!({"image": "x", "memory": 9}),
                "Container.name should not be null or empty.",
            ),
            (
                APP,
                json!({"name": "a", "memory": 9}),
                "Container.image should not be null or empty.",
            ),
        ],
    );
    refuses_app(
        &plain(),
        &[
            ("name", json!("a b"), "Invalid container name 'a b'"),
            ("image", json!("a b"), "Invalid 'image' setting for container 'app'."),
            ("essential", json!(false), "Task definition doesn't have any essential container."),
            ("environment", json!([{"value": "x"}]), "Environment variable names"),
        ],
    );
}

#[test]
fn there_are_ten_containers_at_most_and_no_two_of_one_name() {
    let container = |n: usize| json!({"name": format!("c{n}"), "image": "x", "memory": 9});
    let many = |count: usize| Value::from((0..count).map(container).collect::<Vec<_>>());
    accepts(&with(plain(), "containerDefinitions", many(10)));
    refuses(
        &plain(),
        &[
            ("containerDefinitions", many(11), "Too many containers"),
            ("containerDefinitions", json!([container(1), container(1)]), "must be unique"),
        ],
    );
}

#[test]
fn a_definition_has_64_kib_at_most() {
    let words = "Max allowed length is '65536' bytes.";
    let value = json!([{"name": "A", "value": "x".repeat(64 * 1024)}]);
    refuses_app(&plain(), &[("environment", value, words)]);
    let fits = json!([{"name": "A", "value": "x".repeat(60 * 1024)}]);
    accepts_app(&plain(), &[("environment", fits)]);
}

#[test]
fn memory_and_cpu_of_containers_go_into_those_of_the_task() {
    let without = with(plain(), APP, json!({"name": "app", "image": "nginx"}));
    let words = "Invalid setting for container 'app'. At least one of 'memory' or \
                 'memoryReservation' must be specified.";
    match read(&without) {
        Err(Refusal::Client(message)) => assert_eq!(message, words),
        other => panic!("{other:?}"),
    }
    accepts(&with(without, "memory", json!("512")));
    refuses_app(
        &plain(),
        &[
            ("memory", json!(3), "Invalid 'memory' setting for container 'app'."),
            ("cpu", json!(-1), "Invalid 'cpu' setting for container 'app'."),
            ("memoryReservation", json!(129), "The 'memory' must be greater than"),
        ],
    );
    accepts_app(&plain(), &[("memoryReservation", json!(128)), ("cpu", json!(10))]);
    let sized = with(with(plain(), "cpu", json!("256")), "memory", json!("512"));
    refuses_app(
        &sized,
        &[
            ("cpu", json!(257), "The sum of all container 'cpu' values cannot be greater"),
            ("memory", json!(513), "The 'memory' setting for container 'app' is greater than for"),
        ],
    );
    let second = json!({"name": "b", "image": "x", "memory": 400});
    refuses(&sized, &[("containerDefinitions/1", second, "The sum of all container 'memory'")]);
    refuses(
        &plain(),
        &[
            ("cpu", json!("many"), "Invalid 'cpu' setting for task."),
            ("memory", json!("1TB"), "Invalid 'memory' setting for task."),
            ("ephemeralStorage", json!({"sizeInGiB": 20}), "between 21 and 200"),
            ("ephemeralStorage", json!({"sizeInGiB": 201}), "between 21 and 200"),
        ],
    );
}

#[test]
fn fargate_comes_in_sizes() {
    let sized =
        |cpu: &str, memory: &str| with(with(fargate(), "cpu", json!(cpu)), "memory", json!(memory));
    for (cpu, memory) in [
        ("256", "512"),
        ("256", "1024"),
        (".25 vCPU", "2GB"),
        ("0.5 vcpu", "4 GB"),
        ("1024", "2048"),
        ("1 vCPU", "8GB"),
        ("2048", "16384"),
        ("4096", "30720"),
        ("8192", "16384"),
        ("8192", "20480"),
        ("8192", "61440"),
        ("16384", "32768"),
        ("16384", "122880"),
        ("16 vCPU", "120 GB"),
    ] {
        accepts(&sized(cpu, memory));
    }
    for (cpu, memory) in [
        ("256", "256"),
        ("256", "1536"),
        ("256", "4096"),
        ("300", "512"),
        ("512", "5120"),
        ("4096", "31744"),
        ("8192", "17408"),
        ("16384", "36864"),
        ("32768", "122880"),
    ] {
        let words = "No Fargate configuration exists for given values.";
        let refused = read(&sized(cpu, memory)).unwrap_err();
        assert_eq!(refused, Refusal::client(words), "{cpu} {memory}");
    }
}

#[test]
fn fargate_refuses_what_it_can_not_do_in_its_own_words() {
    refuses(
        &fargate(),
        &[
            ("networkMode", json!("bridge"), "Fargate only supports network mode ‘awsvpc’."),
            ("networkMode", Value::Null, "Fargate only supports network mode ‘awsvpc’."),
            ("cpu", Value::Null, "Fargate requires that 'cpu' be defined at the task level."),
            (
                "pidMode",
                json!("host"),
                "Tasks using the Fargate launch type do not support pidMode 'host'. The supported \
                 value for pidMode is 'task'.",
            ),
            ("ipcMode", json!("task"), "do not support ipcMode."),
            (
                "placementConstraints",
                json!([{"type": "memberOf", "expression": "a == b"}]),
                "do not",
            ),
            ("volumes", json!([{"name": "v", "host": {"sourcePath": "/x"}}]), "host.sourcePath"),
            ("volumes", json!([{"name": "v", "dockerVolumeConfiguration": {}}]), "dockerVolume"),
        ],
    );
    refuses_app(
        &fargate(),
        &[
            ("privileged", json!(true), "do not support privileged"),
            ("ulimits", json!([{"name": "core", "softLimit": 1, "hardLimit": 1}]), "nofile"),
            ("dockerSecurityOptions", json!(["no-new-privileges"]), "dockerSecurityOptions"),
            ("linuxParameters", json!({"sharedMemorySize": 64}), "do not support sharedMemorySize"),
            ("linuxParameters", json!({"devices": [{"hostPath": "/dev/x"}]}), "devices"),
            ("linuxParameters", json!({"tmpfs": [{"containerPath": "/t", "size": 1}]}), "tmpfs"),
            ("linuxParameters", json!({"maxSwap": 0}), "maxSwap"),
            ("linuxParameters", json!({"swappiness": 0}), "swappiness"),
            ("linuxParameters", json!({"capabilities": {"add": ["NET_ADMIN"]}}), "SYS_PTRACE"),
            ("stopTimeout", json!(121), "at most 120 seconds"),
            ("startTimeout", json!(121), "at most 120 seconds"),
            ("logConfiguration", json!({"logDriver": "json-file"}), "log driver json-file"),
            (
                "logConfiguration",
                json!({"logDriver": "awslogs",
                       "options": {"awslogs-group": "g", "awslogs-region": "r"}}),
                "awslogs-stream-prefix",
            ),
            ("resourceRequirements", json!([{"type": "GPU", "value": "1"}]), "GPU"),
        ],
    );
    accepts_app(
        &fargate(),
        &[
            ("ulimits", json!([{"name": "nofile", "softLimit": 1024, "hardLimit": 4096}])),
            ("linuxParameters", json!({"initProcessEnabled": true})),
            ("linuxParameters", json!({"capabilities": {"add": ["SYS_PTRACE"], "drop": ["ALL"]}})),
            ("stopTimeout", json!(120)),
            ("systemControls", json!([{"namespace": "net.core.somaxconn", "value": "1024"}])),
            ("portMappings", json!([{"containerPort": 80}])),
        ],
    );
    accepts_all(&fargate(), &[("pidMode", json!("task")), ("volumes", json!([{"name": "v"}]))]);
}

#[test]
fn other_launch_types_may_do_more() {
    accepts_app(
        &plain(),
        &[
            ("privileged", json!(true)),
            ("stopTimeout", json!(86_400)),
            ("startTimeout", json!(600)),
            ("logConfiguration", json!({"logDriver": "json-file"})),
            ("logConfiguration", json!({"logDriver": "none"})),
            ("linuxParameters", json!({"sharedMemorySize": 64, "maxSwap": 10, "swappiness": 100})),
            (
                "linuxParameters",
                json!({"tmpfs": [{"containerPath": "/t", "size": 64,
                "mountOptions": ["noexec", "mode=755"]}]}),
            ),
            (
                "linuxParameters",
                json!({"devices": [{"hostPath": "/dev/fuse",
                "permissions": ["read", "write", "mknod"]}]}),
            ),
            ("ulimits", json!([{"name": "memlock", "softLimit": -1, "hardLimit": -1}])),
        ],
    );
    accepts_all(
        &plain(),
        &[
            ("pidMode", json!("host")),
            ("ipcMode", json!("host")),
            ("placementConstraints", json!([{"type": "memberOf", "expression": "a == b"}])),
            ("volumes", json!([{"name": "v", "host": {"sourcePath": "/x"}}])),
            ("requiresCompatibilities", json!(["EC2", "EXTERNAL"])),
        ],
    );
}

#[test]
fn ports_follow_the_network_mode() {
    let mapping = |value: Value| json!([value]);
    refuses_app(
        &plain(),
        &[
            ("portMappings", mapping(json!({})), "Invalid 'containerPort' setting for container"),
            ("portMappings", mapping(json!({"containerPort": 0})), "Invalid 'containerPort'"),
            ("portMappings", mapping(json!({"containerPort": 65536})), "Invalid 'containerPort'"),
            ("portMappings", mapping(json!({"containerPort": 80, "hostPort": -1})), "'hostPort'"),
            (
                "portMappings",
                mapping(json!({"containerPort": 80, "protocol": "sctp"})),
                "sctp should be one of [tcp,udp]",
            ),
            (
                "portMappings",
                json!([{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]),
                "Port 80/tcp is mapped more than once",
            ),
            (
                "portMappings",
                json!([{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
                "must be unique",
            ),
            (
                "portMappings",
                mapping(json!({"containerPort": 1, "name": "A"})),
                "portMappings.name",
            ),
            (
                "portMappings",
                mapping(json!({"containerPort": 1, "appProtocol": "http"})),
                "must have a name",
            ),
            ("portMappings", mapping(json!({"containerPortRange": "9-8"})), "containerPortRange"),
            ("portMappings", mapping(json!({"containerPortRange": "1-101"})), "containerPortRange"),
            (
                "portMappings",
                mapping(json!({"containerPortRange": "1-9", "containerPort": 1})),
                "either a containerPortRange",
            ),
        ],
    );
    accepts_app(
        &plain(),
        &[
            ("portMappings", mapping(json!({"containerPort": 80, "hostPort": 8080}))),
            ("portMappings", mapping(json!({"containerPortRange": "1-100"}))),
            (
                "portMappings",
                json!([
                    {"containerPort": 53, "hostPort": 53, "protocol": "tcp"},
                    {"containerPort": 53, "hostPort": 53, "protocol": "udp"},
                ]),
            ),
        ],
    );
    let other = mapping(json!({"containerPort": 80, "hostPort": 8080}));
    for (mode, words) in [
        ("awsvpc", "When networkMode=awsvpc, the host ports and container ports in port mappings"),
        ("host", "When networkMode=host, the host ports and container ports in port mappings"),
        ("none", "Port mappings are not supported when networkMode=none."),
    ] {
        let good = with(plain(), "networkMode", json!(mode));
        refuses_app(&good, &[("portMappings", other.clone(), words)]);
    }
    refuses(&plain(), &[("networkMode", json!("vxlan"), "should be one of [bridge,host,awsvpc")]);
}

#[test]
fn volumes_are_declared_once_and_mounted_where_they_are() {
    refuses(
        &plain(),
        &[
            ("volumes", json!([{}]), "Volume name should not be null or empty."),
            ("volumes", json!([{"name": "a/b"}]), "Invalid volume name"),
            ("volumes", json!([{"name": "a"}, {"name": "a"}]), "must be unique"),
            (
                "volumes",
                json!([{"name": "a", "host": {"sourcePath": ""}}]),
                "host.sourcePath should not be blank.",
            ),
            (
                "volumes",
                json!([{"name": "a", "host": {}, "dockerVolumeConfiguration": {}}]),
                "only one kind",
            ),
            (
                "volumes",
                json!([{"name": "a", "dockerVolumeConfiguration": {"scope": "all"}}]),
                "all should be one of [task,shared]",
            ),
            (
                "volumes",
                json!([{"name": "a", "dockerVolumeConfiguration":
                {"scope": "task", "autoprovision": true}}]),
                "autoprovision",
            ),
            ("volumes", json!([{"name": "a", "efsVolumeConfiguration": {}}]), "fileSystemId"),
            (
                "volumes",
                json!([{"name": "a", "efsVolumeConfiguration":
                {"fileSystemId": "fs-1", "authorizationConfig": {"iam": "ENABLED"}}}]),
                "transitEncryption is ENABLED",
            ),
        ],
    );
    refuses_app(
        &plain(),
        &[(
            "mountPoints",
            json!([{"sourceVolume": "v", "containerPath": "/x"}]),
            "Unknown volume 'v'.",
        )],
    );
    let volumes = with(plain(), "volumes", json!([{"name": "v"}]));
    refuses_app(
        &volumes,
        &[
            ("mountPoints", json!([{"sourceVolume": "v"}]), "containerPath"),
            (
                "mountPoints",
                json!([{"sourceVolume": "v", "containerPath": "/x"},
                {"sourceVolume": "v", "containerPath": "/x"}]),
                "two mount points at '/x'",
            ),
        ],
    );
    accepts_app(
        &volumes,
        &[("mountPoints", json!([{"sourceVolume": "v", "containerPath": "/x"}]))],
    );
}

#[test]
fn containers_wait_for_each_other_without_waiting_for_themselves() {
    let second = json!({"name": "db", "image": "x", "memory": 9, "essential": false});
    let two = with(plain(), "containerDefinitions/1", second);
    let on = |name: &str, condition: &str| json!([{"containerName": name, "condition": condition}]);
    refuses_app(
        &two,
        &[
            ("dependsOn", on("nope", "START"), "Unknown container 'nope'."),
            ("dependsOn", on("app", "START"), "Container 'app' cannot depend on itself."),
            ("dependsOn", on("db", "HEALTHY"), "'db' has no healthCheck"),
            ("dependsOn", on("db", "READY"), "READY should be one of"),
            ("volumesFrom", json!([{"sourceContainer": "nope"}]), "Unknown container 'nope'."),
            ("links", json!(["nope"]), "Unknown container 'nope'."),
            ("links", json!(["db:"]), "Invalid 'links' setting"),
        ],
    );
    accepts_app(
        &two,
        &[
            ("dependsOn", on("db", "SUCCESS")),
            ("dependsOn", on("db", "COMPLETE")),
            ("volumesFrom", json!([{"sourceContainer": "db", "readOnly": true}])),
            ("links", json!(["db:database"])),
        ],
    );
    let essential = with(two.clone(), "containerDefinitions/1/essential", json!(true));
    let words = "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container";
    refuses_app(&essential, &[("dependsOn", on("db", "SUCCESS"), words)]);
    let back = with(two.clone(), "containerDefinitions/1/dependsOn", on("app", "START"));
    refuses_app(
        &back,
        &[("dependsOn", on("db", "START"), "cyclic. Containers involved: app, db.")],
    );
    let vpc = with(two, "networkMode", json!("awsvpc"));
    refuses_app(
        &vpc,
        &[
            ("links", json!(["db"]), "Links are not supported when networkMode=awsvpc."),
            ("hostname", json!("h"), "hostname is not supported on container"),
            ("extraHosts", json!([{"hostname": "h", "ipAddress": "1.2.3.4"}]), "Extra hosts"),
        ],
    );
}

#[test]
fn health_checks_restarts_and_limits_have_ranges() {
    let check = |member: &str, value: i32| json!({"command": ["CMD-SHELL", "true"], member: value});
    refuses_app(
        &plain(),
        &[
            ("healthCheck", json!({}), "healthCheck.command"),
            ("healthCheck", json!({"command": ["true"]}), "healthCheck.command"),
            ("healthCheck", check("interval", 4), "healthCheck.interval"),
            ("healthCheck", check("interval", 301), "healthCheck.interval"),
            ("healthCheck", check("timeout", 1), "healthCheck.timeout"),
            ("healthCheck", check("timeout", 61), "healthCheck.timeout"),
            ("healthCheck", check("retries", 0), "healthCheck.retries"),
            ("healthCheck", check("retries", 11), "healthCheck.retries"),
            ("healthCheck", check("startPeriod", 301), "healthCheck.startPeriod"),
            ("restartPolicy", json!({}), "restartPolicy.enabled"),
            (
                "restartPolicy",
                json!({"enabled": true, "restartAttemptPeriod": 59}),
                "AttemptPeriod",
            ),
            ("restartPolicy", json!({"enabled": true, "restartAttemptPeriod": 1801}), "Period"),
            ("restartPolicy", json!({"enabled": true, "ignoredExitCodes": vec![0; 51]}), "ignored"),
            (
                "ulimits",
                json!([{"name": "x", "softLimit": 1, "hardLimit": 1}]),
                "x should be one of",
            ),
            ("ulimits", json!([{"name": "core", "softLimit": 2, "hardLimit": 1}]), "'ulimits'"),
            ("ulimits", json!([{"name": "core", "softLimit": 2}]), "'ulimits'"),
            ("linuxParameters", json!({"capabilities": {"add": ["FLY"]}}), "FLY should be one of"),
            ("linuxParameters", json!({"swappiness": 101}), "swappiness"),
            ("linuxParameters", json!({"tmpfs": [{"containerPath": "/t"}]}), "tmpfs"),
            ("linuxParameters", json!({"devices": [{}]}), "hostPath"),
            ("stopTimeout", json!(-1), "stopTimeout"),
            ("resourceRequirements", json!([{"type": "GPU", "value": "none"}]), "resource"),
            ("systemControls", json!([{"namespace": "net.core.x"}]), "systemControls"),
        ],
    );
}

#[test]
fn logs_and_secrets_have_a_form() {
    let awslogs = |options: Value| json!({"logDriver": "awslogs", "options": options});
    refuses_app(
        &plain(),
        &[
            ("logConfiguration", json!({}), "without a logDriver"),
            ("logConfiguration", json!({"logDriver": "paper"}), "paper should be one of"),
            (
                "logConfiguration",
                awslogs(json!({})),
                "Log driver awslogs requires options: awslogs-region, awslogs-group",
            ),
            (
                "logConfiguration",
                awslogs(json!({"awslogs-group": "g"})),
                "Log driver awslogs requires options: awslogs-region",
            ),
            (
                "logConfiguration",
                awslogs(json!({"awslogs-group": "g", "awslogs-region": "r", "mode": "fast"})),
                "fast should be one of [blocking,non-blocking]",
            ),
            ("logConfiguration", json!({"logDriver": "awsfirelens"}), "firelensConfiguration"),
            (
                "firelensConfiguration",
                json!({"type": "fluentbit"}),
                "When a firelensConfiguration object is specified, at least one container has to be \
                 configured with the awsfirelens log driver.",
            ),
            (
                "secrets",
                json!([{"name": "A", "valueFrom": "param"}]),
                "When you are specifying container secrets, you must also specify a value for \
                 'executionRoleArn'.",
            ),
            ("environmentFiles", json!([{"type": "s3", "value": "x"}]), "environmentFiles"),
            ("repositoryCredentials", json!({}), "credentialsParameter"),
        ],
    );
    let role = "arn:aws:iam::000000000000:role/x";
    let with_role = with(plain(), "executionRoleArn", json!(role));
    let with_role = with(with_role, &app("environment"), json!([{"name": "A", "value": "1"}]));
    refuses_app(
        &with_role,
        &[
            ("secrets", json!([{"name": "A", "valueFrom": "p"}]), "such as 'A'."),
            (
                "secrets",
                json!([{"name": "B", "valueFrom": "p"}, {"name": "B", "valueFrom": "q"}]),
                "such as 'B'.",
            ),
            ("secrets", json!([{"name": "B", "valueFrom": "arn:aws:s3:::x"}]), "'secrets'"),
        ],
    );
    accepts_app(&with_role, &[("secrets", json!([{"name": "B", "valueFrom": "/a/b"}]))]);
}

#[test]
fn compatibilities_are_found_out() {
    let of = |document: &Value| read(document).unwrap().compatibilities;
    assert_eq!(of(&plain()), [Compatibility::External, Compatibility::Ec2]);
    assert_eq!(of(&fargate()), [Compatibility::Ec2, Compatibility::Fargate]);
    let unasked = with(fargate(), "requiresCompatibilities", Value::Null);
    assert_eq!(of(&unasked), [Compatibility::Ec2, Compatibility::Fargate]);
    let no_size = with(with(unasked, "cpu", Value::Null), &app("memory"), json!(128));
    let no_size = with(no_size, "memory", Value::Null);
    assert_eq!(of(&no_size), [Compatibility::Ec2]);
    refuses(&plain(), &[("requiresCompatibilities", json!(["MOON"]), "MOON should be one of")]);
}

#[test]
fn required_attributes_are_found_out() {
    let of = |document: &Value| -> Vec<String> {
        read(document).unwrap().requires_attributes().into_iter().map(|a| a.name).collect()
    };
    assert_eq!(of(&plain()), [""; 0]);
    assert_eq!(of(&fargate()), ["ecs.capability.task-eni"]);
    let image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/web:1";
    let log = json!({"logDriver": "awslogs", "options":
        {"awslogs-group": "g", "awslogs-region": "r", "awslogs-stream-prefix": "p"}});
    let role = json!("arn:aws:iam::000000000000:role/x");
    let mut full = with(fargate(), &app("image"), json!(image));
    full = with(full, &app("logConfiguration"), log);
    full = with(full, "taskRoleArn", role.clone());
    full = with(full, "executionRoleArn", role);
    // As the developer guide shows them for such a definition.
    assert_eq!(
        of(&full),
        [
            "com.amazonaws.ecs.capability.docker-remote-api.1.18",
            "com.amazonaws.ecs.capability.docker-remote-api.1.19",
            "com.amazonaws.ecs.capability.ecr-auth",
            "com.amazonaws.ecs.capability.logging-driver.awslogs",
            "com.amazonaws.ecs.capability.task-iam-role",
            "ecs.capability.execution-role-awslogs",
            "ecs.capability.execution-role-ecr-pull",
            "ecs.capability.task-eni",
        ]
    );
}

#[test]
fn what_this_region_can_not_run_is_registered_and_named() {
    let of = |document: &Value| read(document).unwrap().cannot_run();
    assert_eq!(of(&plain()), [""; 0]);
    let role = json!("arn:aws:iam::000000000000:role/x");
    let secret = json!([{"name": "B", "valueFrom": "/a/b"}]);
    let document = with(with(plain(), "executionRoleArn", role), &app("secrets"), secret);
    assert_eq!(of(&document), ["secrets (container 'app')"]);
    let efs = json!([{"name": "v", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}]);
    assert_eq!(of(&with(plain(), "volumes", efs)), ["EFS volumes (volume 'v')"]);
}

#[test]
fn defaults_are_filled_in_as_amazon_shows_them() {
    let document = with(fargate(), &app("portMappings"), json!([{"containerPort": 80}]));
    let document = with(document, "cpu", json!(".25 vCPU"));
    let shown = kept(&document);
    assert_eq!(shown["cpu"], "256");
    assert_eq!(shown["volumes"], json!([]));
    assert_eq!(shown["placementConstraints"], json!([]));
    assert_eq!(
        shown["containerDefinitions"][0],
        json!({
            "name": "app", "image": "nginx", "cpu": 0, "essential": true,
            "portMappings": [{"containerPort": 80, "hostPort": 80, "protocol": "tcp"}],
            "environment": [], "mountPoints": [], "volumesFrom": [], "systemControls": [],
        })
    );
    let document = with(plain(), &app("portMappings"), json!([{"containerPort": 80}]));
    let mapping = &kept(&document)["containerDefinitions"][0]["portMappings"][0];
    assert_eq!(*mapping, json!({"containerPort": 80, "hostPort": 0, "protocol": "tcp"}));
    assert_eq!(kept(&document).get("networkMode"), None);
}

/// Every member of `sent` is in `shown` as it was sent; `shown` may have more.
fn is_within(sent: &Value, shown: &Value) -> bool {
    match (sent, shown) {
        (Value::Object(sent), Value::Object(shown)) => sent
            .iter()
            .all(|(key, value)| shown.get(key).is_some_and(|shown| is_within(value, shown))),
        (Value::Array(sent), Value::Array(shown)) => {
            sent.len() == shown.len() && sent.iter().zip(shown).all(|(a, b)| is_within(a, b))
        }
        (sent, shown) => sent == shown,
    }
}

fn container(n: usize) -> impl Strategy<Value = Value> {
    let words = || proptest::collection::vec("[ -~]{0,12}", 0..4);
    let pairs = proptest::collection::btree_map("[A-Z]{1,8}", "\\PC{0,12}", 0..4);
    let numbers = (0..4096i32, 4..4096i32, proptest::option::of(0..500i32));
    let flags = (any::<bool>(), any::<bool>(), proptest::option::of("[a-z]{1,8}"));
    (words(), words(), pairs, numbers, flags).prop_map(
        move |(command, entry, environment, (cpu, memory, stop), (read_only, tty, user))| {
            let environment: Vec<Value> = environment
                .into_iter()
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect();
            let mut value = json!({
                "name": format!("c{n}"), "image": "registry.example:5000/a/b@sha256:00", "cpu": cpu,
                "memory": memory, "command": command, "entryPoint": entry,
                "environment": environment, "readonlyRootFilesystem": read_only,
                "pseudoTerminal": tty,
                "dockerLabels": {"a": "b"},
            });
            if let Some(stop) = stop {
                value["stopTimeout"] = json!(stop);
            }
            if let Some(user) = user {
                value["user"] = json!(user);
            }
            value
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_kept_is_what_was_sent_and_defaults(first in container(0), second in container(1)) {
        let sent = json!({
            "family": "web", "networkMode": "host", "containerDefinitions": [first, second],
            "taskRoleArn": "role", "volumes": [{"name": "v", "host": {}}], "cpu": "10240",
        });
        let shown = kept(&sent);
        prop_assert!(is_within(&sent, &shown), "{sent} became {shown}");
        // Registering what was shown changes nothing more.
        prop_assert_eq!(kept(&shown), shown);
    }

    #[test]
    fn no_document_panics(bytes in "\\{(\"(family|cpu|memory|networkMode|containerDefinitions|volumes)\":(\"[a-z0-9 .]{0,8}\"|\\[\\{\"name\":\"[a-z]{0,3}\",\"image\":\"x\",\"cpu\":-?[0-9]{1,9}\\}\\]),){0,4}\"family\":\"a\"\\}") {
        if let Ok(request) = json::from_slice::<ecs::RegisterTaskDefinitionRequest>(bytes.as_bytes()) {
            let _ = Draft::read(request);
        }
    }
}
