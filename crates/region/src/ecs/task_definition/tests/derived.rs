//! What is found out of a document and filled into it; and that it stays what was sent.

use aws_api::ecs;
use aws_wire::json;
use model::Compatibility;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

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
            let _ = Draft::read(request, String::new());
        }
    }
}
