//! One table a group of rules: what is changed in a good document, and what is said to it.

use serde_json::{Value, json};

use super::*;

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
fn a_role_is_given_by_its_arn_or_its_name() {
    let strange = [
        "not a role",
        "arn:",
        "arn:aws:iam::000000000000:user/x",
        "arn:aws:iam::000000000000:role/",
        "arn:aws:iam::000000000000:role/path/",
        "arn:aws:iam::1:role/x",
        "arn:aws:cloudformation:us-east-1:000000000000:stack/x/y",
    ];
    for member in ["taskRoleArn", "executionRoleArn"] {
        refuses(&plain(), &strange.map(|given| (member, json!(given), "Role is not valid")));
        let theirs = "arn:aws-cn:iam::123456789012:role/path/x";
        for given in ["", "web", "path/web", "arn:aws:iam::000000000000:role/x", theirs] {
            accepts(&with(plain(), member, json!(given)));
        }
    }
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
    let soft = json!({"name": "b", "image": "x", "memoryReservation": 513});
    refuses(&sized, &[("containerDefinitions/1", soft, "The sum of all container 'memoryReser")]);
    // Hard limits are no more than limits.
    accepts(&with(
        sized,
        "containerDefinitions/1",
        json!({"name": "b", "image": "x", "memory": 400}),
    ));
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
            (
                "logConfiguration",
                awslogs_to("http://169.254.169.254"),
                "awslogs-endpoint with another endpoint than this region's, http://127.0.0.1:4566",
            ),
            ("logConfiguration", awslogs_to("http://127.0.0.1:45660"), "awslogs-endpoint"),
            (
                "logConfiguration",
                awslogs_to("http://127.0.0.1:4566@evil.example"),
                "awslogs-endpoint",
            ),
            ("resourceRequirements", json!([{"type": "GPU", "value": "1"}]), "GPU"),
        ],
    );
    let with_role = with(fargate(), "executionRoleArn", json!("exec"));
    accepts_app(
        &with_role,
        &[
            ("logConfiguration", awslogs_to("http://127.0.0.1:4566/")),
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
            ("portMappings", mapping(json!({"containerPortRange": "80-80"})), "containerPortRange"),
            (
                "portMappings",
                json!([{"containerPortRange": "80-90"}, {"containerPortRange": "90-95"}]),
                "Port 90/tcp of container 'app' is included in more than one port mapping",
            ),
            (
                "portMappings",
                json!([{"containerPort": 85}, {"containerPortRange": "80-90"}]),
                "Port 85/tcp of container 'app' is included in more than one port mapping",
            ),
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
                    {"containerPortRange": "80-90"},
                    {"containerPortRange": "91-92"},
                    {"containerPortRange": "80-90", "protocol": "udp"},
                    {"containerPort": 79},
                    {"containerPort": 79},
                ]),
            ),
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
            ("healthCheck", json!({"command": []}), "healthCheck.command"),
            ("healthCheck", json!({"command": [""]}), "healthCheck.command"),
            ("healthCheck", json!({"command": ["CMD"]}), "healthCheck.command"),
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

fn awslogs_to(endpoint: &str) -> Value {
    json!({"logDriver": "awslogs", "options": {"awslogs-group": "g", "awslogs-region": "r",
           "awslogs-stream-prefix": "p", "awslogs-endpoint": endpoint}})
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
