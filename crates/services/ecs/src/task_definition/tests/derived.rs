//! What is found out of a document and filled into it; and that it stays what was sent.

use aws_wire::json;
use ecs_api as api;
use model::Compatibility;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::task_definition::role_arn;

#[test]
fn compatibilities_are_found_out() {
    let of = |document: &Value| read(document).unwrap().compatibilities;
    assert_eq!(of(&plain()), [Compatibility::External, Compatibility::Ec2]);
    let both = [Compatibility::Ec2, Compatibility::Fargate, Compatibility::ManagedInstances];
    let neither = [Compatibility::Ec2, Compatibility::ManagedInstances];
    assert_eq!(of(&fargate()), both);
    let unasked = with(fargate(), "requiresCompatibilities", Value::Null);
    assert_eq!(of(&unasked), both);
    let no_size = with(with(unasked.clone(), "cpu", Value::Null), &app("memory"), json!(128));
    let no_size = with(no_size, "memory", Value::Null);
    assert_eq!(of(&no_size), neither);
    let ecr = json!("123456789012.dkr.ecr.us-east-1.amazonaws.com/web:1");
    let no_role = with(unasked, &app("image"), ecr.clone());
    assert_eq!(of(&no_role), neither);
    assert_eq!(of(&with(no_role, "executionRoleArn", json!("exec"))), both);
    let why = "Fargate requires task definition to have execution role ARN to support ";
    let log = json!({"logDriver": "awslogs", "options":
        {"awslogs-group": "g", "awslogs-region": "r", "awslogs-stream-prefix": "p"}});
    let images = format!("{why}ECR images.");
    refuses_app(&fargate(), &[("image", ecr, &images)]);
    let logs = format!("{why}log driver awslogs.");
    refuses_app(&fargate(), &[("logConfiguration", log, &logs)]);
    let platform = json!({"cpuArchitecture": "X86_64"});
    assert_eq!(of(&with(plain(), "runtimePlatform", platform)), [Compatibility::Ec2]);
    assert_eq!(of(&with(plain(), "networkMode", json!("host"))), of(&plain()));
    refuses(&plain(), &[("requiresCompatibilities", json!(["MOON"]), "MOON should be one of")]);
}

#[test]
fn required_attributes_are_found_out() {
    let of = |document: &Value| -> Vec<String> {
        read(document).unwrap().requires_attributes().into_iter().map(|a| a.name).collect()
    };
    assert_eq!(of(&plain()), [""; 0]);
    assert_eq!(
        of(&fargate()),
        ["com.amazonaws.ecs.capability.docker-remote-api.1.18", "ecs.capability.task-eni"]
    );
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
fn what_an_instance_must_be_is_required_and_not_shown() {
    let platform = json!({"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"});
    let document = with(fargate(), "runtimePlatform", platform);
    let required = read(&document).unwrap().requires_platform();
    let of = |name: &str| required.iter().find(|each| each.name == name);
    assert_eq!(of("ecs.cpu-architecture").unwrap().value.as_deref(), Some("arm64"));
    assert_eq!(of("ecs.os-type").unwrap().value.as_deref(), Some("linux"));
    assert!(of("ecs.capability.task-cpu-mem-limit").is_some(), "it has a size");
    assert!(required.iter().all(|each| !each.is_shown()));
    assert!(read(&plain()).unwrap().requires_platform().is_empty());
}

/// What a member brings to a definition that needs nothing without it.
#[test]
fn each_member_brings_its_attributes() {
    const AMAZON: &str = "com.amazonaws.ecs.capability.";
    let of = |document: &Value| -> Vec<String> {
        let short = |name: &str| match name.strip_prefix(AMAZON) {
            Some(rest) => rest.replace("docker-remote-api.", "docker "),
            None => name.replace("ecs.capability.", "ecs:"),
        };
        let all = read(document).unwrap().requires_attributes();
        all.iter().map(|each| short(&each.name)).collect()
    };
    let check = |more: Value| with(json!({"command": ["CMD", "x"]}), "startPeriod", more);
    let awslogs = |option: &str| {
        json!({"logDriver": "awslogs", "options": {
            "awslogs-group": "g", "awslogs-region": "r", "awslogs-stream-prefix": "p", option: "true"}})
    };
    for (member, value, brought) in [
        ("dnsServers", json!([]), &["docker 1.17"][..]),
        ("links", json!([]), &[]),
        ("user", json!("1000"), &["docker 1.17"]),
        ("workingDirectory", json!("/"), &["docker 1.17"]),
        ("ulimits", json!([]), &["docker 1.18"]),
        ("memoryReservation", json!(64), &["docker 1.21"]),
        (
            "linuxParameters",
            json!({"tmpfs": [{"containerPath": "/x", "size": 1}]}),
            &["docker 1.22"],
        ),
        ("healthCheck", check(Value::Null), &["docker 1.24", "ecs:container-health-check"]),
        ("healthCheck", check(json!(1)), &["docker 1.29", "ecs:container-health-check"]),
        ("dockerSecurityOptions", json!(["label:disable"]), &["selinux"]),
        (
            "logConfiguration",
            awslogs("awslogs-create-group"),
            &["docker 1.19", "docker 1.29", "logging-driver.awslogs"],
        ),
        ("logConfiguration", json!({"logDriver": "json-file"}), &["logging-driver.json-file"]),
        ("image", json!("123456789012.dkr.ecr.us-east-1.amazonaws.com/a"), &["ecr-auth"]),
    ] {
        assert_eq!(of(&with(plain(), &app(member), value.clone())), brought, "{member} = {value}");
    }
    let host = with(with(plain(), "networkMode", json!("host")), "taskRoleArn", json!("r"));
    assert_eq!(of(&host), ["docker 1.18", "task-iam-role", "task-iam-role-network-host"]);
    let efs = json!([{"name": "v", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}]);
    assert_eq!(of(&with(plain(), "volumes", efs)), ["docker 1.25", "ecs:efs", "ecs:efsAuth"]);
    let large = with(with(fargate(), "cpu", json!("16384")), "memory", json!("32768"));
    assert_eq!(of(&large), ["docker 1.18", "ecs:increased-task-cpu-limit", "ecs:task-eni"]);
}

#[test]
fn an_efs_volume_without_a_directory_is_of_the_root() {
    let volume = |more: Value| json!([{"name": "v", "efsVolumeConfiguration": more}]);
    let shown = |more| kept(&with(plain(), "volumes", volume(more)))["volumes"].clone();
    let root = json!({"fileSystemId": "fs-1", "rootDirectory": "/"});
    assert_eq!(shown(json!({"fileSystemId": "fs-1"})), volume(root));
    let deeper = json!({"fileSystemId": "fs-1", "rootDirectory": "/a"});
    assert_eq!(shown(deeper.clone()), volume(deeper));
}

#[test]
fn a_role_by_its_name_is_that_of_the_account() {
    let account = "000000000000".parse().unwrap();
    for (given, shown) in [
        ("web", "arn:aws:iam::000000000000:role/web"),
        ("service-role/web", "arn:aws:iam::000000000000:role/service-role/web"),
        ("arn:aws:iam::123456789012:role/web", "arn:aws:iam::123456789012:role/web"),
        ("", ""),
    ] {
        assert_eq!(role_arn(account, given.to_owned()), shown);
        let document = with(plain(), "executionRoleArn", json!(given));
        let (row, _) =
            read(&document).unwrap().into_row(account, model::Tags::new(), String::new()).unwrap();
        assert_eq!(row.execution_role.unwrap_or_default(), shown);
        assert!(row.document.as_str().contains(shown));
    }
}

#[test]
fn a_tag_that_could_be_meant_for_a_fence_and_is_none_is_refused() {
    let account = "000000000000".parse().unwrap();
    let row = |value: &str| {
        let tags = [("longshore.fence".to_owned(), value.to_owned())].into();
        read(&plain()).unwrap().into_row(account, tags, String::new())
    };
    assert!(row("true").unwrap().0.is_fenced());
    assert!(!row("false").unwrap().0.is_fenced());
    for value in ["True", "yes", "1", ""] {
        let refused = row(value).unwrap_err();
        assert!(refused.message.contains("must be 'true' or 'false'"), "{refused:?}");
    }
}

#[test]
fn what_this_region_can_not_run_is_registered_and_named() {
    let of = |document: &Value| read(document).unwrap().cannot_run();
    assert_eq!(of(&plain()), [""; 0]);
    let role = json!("arn:aws:iam::000000000000:role/x");
    let secret = json!([{"name": "B", "valueFrom": "/a/b"}]);
    let document = with(with(plain(), "executionRoleArn", role), &app("secrets"), secret);
    assert_eq!(of(&document), [""; 0]);
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

#[test]
fn a_health_check_is_kept_with_its_defaults() {
    let check = |given: Value| {
        let shown = kept(&with(plain(), &app("healthCheck"), given));
        shown["containerDefinitions"][0]["healthCheck"].clone()
    };
    assert_eq!(
        check(json!({"command": ["CMD-SHELL", "true"]})),
        json!({"command": ["CMD-SHELL", "true"], "interval": 30, "timeout": 5, "retries": 3})
    );
    let full = json!({
        "command": ["CMD", "true"], "interval": 5, "timeout": 2, "retries": 1, "startPeriod": 0,
    });
    assert_eq!(check(full.clone()), full);
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
            "taskRoleArn": "arn:aws:iam::000000000000:role/x", "volumes": [{"name": "v", "host": {}}], "cpu": "10240",
        });
        let shown = kept(&sent);
        prop_assert!(is_within(&sent, &shown), "{sent} became {shown}");
        // Registering what was shown changes nothing more.
        prop_assert_eq!(kept(&shown), shown);
    }

    #[test]
    fn no_document_panics(bytes in "\\{(\"(family|cpu|memory|networkMode|containerDefinitions|volumes)\":(\"[a-z0-9 .]{0,8}\"|\\[\\{\"name\":\"[a-z]{0,3}\",\"image\":\"x\",\"cpu\":-?[0-9]{1,9}\\}\\]),){0,4}\"family\":\"a\"\\}") {
        if let Ok(request) = json::from_slice::<api::RegisterTaskDefinitionRequest>(bytes.as_bytes()) {
            let _ = Draft::read(request, String::new());
        }
    }
}
