//! Every operation of every service, called by somebody who may not: it is the handler that refuses, in its
//! own decision, whatever the listener asked before.
//!
//! Those that need no permission are named, and answer somebody who has none; there is no operation besides that is not
//! shown here.

use std::collections::{BTreeMap, BTreeSet};

use aws_wire::service::{Call, Inbound, Operation, Protocol, Service};
use aws_wire::shape::{Member, NumberKind, Shape};
use aws_wire::{ApiError, Caller, Principal};
use control::ports::RegionService;
use http::HeaderMap;
use longshore_types::{Timestamp, Uuid};
use model::{Grants, IamUser};
use serde_json::{Map, Value, json};
use store::Batch;

use crate::testing::TestRegion;

/// What Amazon lets everybody do who has a key, or whom a token of an identity provider proves.
const NEED_NO_PERMISSION: &[&str] = &[
    "sts:AssumeRoleWithSAML",
    "sts:AssumeRoleWithWebIdentity",
    "sts:GetAccessKeyInfo",
    "sts:GetCallerIdentity",
    "sts:GetSessionToken",
];

/// Members without which, or with anything else in which, a request is refused before it is authorized.
const MEMBERS: &[(&str, &str)] = &[
    ("AuthenticationCode1", "123456"),
    ("AuthenticationCode2", "123456"),
    ("DeletionTaskId", "task/aws-service-role/ecs.amazonaws.com/web/01234567"),
    ("Key", "a"),
    ("OpenIDConnectProviderArn", "arn:aws:iam::000000000000:oidc-provider/example.com"),
    ("PermissionsBoundary", "arn:aws:iam::000000000000:policy/web"),
    ("PolicyArn", "arn:aws:iam::000000000000:policy/web"),
    ("PolicyDocument", POLICY),
    ("RoleArn", "arn:aws:iam::000000000000:role/web"),
    ("Url", "https://example.com"),
    ("UserName", "web"),
    ("VersionId", "v1"),
    ("attributeName", "stage"),
    ("capacityProvider", "pool"),
    ("containerInstance", "0123456789abcdef0123456789abcdef"),
    ("family", "web"),
    ("image", "web:1"),
    ("layerDigest", DIGEST),
    ("principalArn", ""),
    ("repositoryName", "web"),
    ("resourceArn", ""),
    ("service", "web"),
    ("serviceDeploymentArn", DEPLOYMENT),
    ("serviceName", "web"),
    ("task", "0123456789abcdef0123456789abcdef"),
    ("taskDefinition", "web:1"),
    ("taskSet", "ecs-svc/1234567890123456789"),
    ("uploadId", "01234567-89ab-4def-8123-456789abcdef"),
];
const POLICY: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecs:*","Resource":"*"}}"#;
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const DEPLOYMENT: &str = "arn:aws:ecs:us-east-1:000000000000:service-deployment/default/web/\
                          0123456789abcdefABCDE";
const GROUP: &str = "arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:\
                     a2d7d7f1-52c5-4c8a-8f2c-2d2b9b3c6f5e:autoScalingGroupName/pool";
const CERTIFICATE: &str = "arn:aws:acm:us-east-1:000000000000:certificate/\
                           0b6fd0a7-2c6e-4f6b-9d5e-0123456789ab";
const SCALABLE_TARGET: &str =
    "arn:aws:application-autoscaling:us-east-1:000000000000:scalable-target/0ec5";
const ACTIVATION: &str = "0b6fd0a7-2c6e-4f6b-9d5e-0123456789ab";
const MANAGED_INSTANCE: &str = "mi-0123456789abcdef0";
const TASK: &str =
    "arn:aws:ecs:us-east-1:000000000000:task/default/0123456789abcdef0123456789abcdef";

/// What else an operation must be asked.
fn members_of(operation: &str) -> Value {
    match operation {
        "CreateCapacityProvider" => {
            json!({"name": "pool", "autoScalingGroupProvider": {"autoScalingGroupArn": GROUP}})
        }
        "UpdateCapacityProvider" => json!({"name": "pool", "autoScalingGroupProvider": {}}),
        "DeleteAccountSetting" | "PutAccountSetting" | "PutAccountSettingDefault" => {
            json!({"name": "containerInsights", "value": "enabled"})
        }
        "DeleteCluster" => json!({"cluster": "default"}),
        "DeleteTaskDefinitions" => json!({"taskDefinitions": ["web:1"]}),
        "DescribeServiceDeployments" => json!({"serviceDeploymentArns": [DEPLOYMENT]}),
        "DescribeServiceRevisions" => json!({"serviceRevisionArns": ["arn:aws:ecs:a:b:c/d"]}),
        "PutClusterCapacityProviders" => {
            json!({"capacityProviders": [], "defaultCapacityProviderStrategy": []})
        }
        "RegisterTaskDefinition" => json!({
            "containerDefinitions": [{"name": "web", "image": "web:1", "memory": 64}]
        }),
        "SubmitTaskStateChange" | "SubmitContainerStateChange" => json!({"task": TASK}),
        "TagResource" => json!({"tags": [{"key": "a", "value": "b"}]}),
        "UntagResource" => json!({"tagKeys": ["a"]}),
        "UpdateClusterSettings" => {
            json!({"settings": [{"name": "containerInsights", "value": "enabled"}]})
        }
        "UpdateContainerInstancesState" => {
            json!({"status": "DRAINING", "containerInstances": ["a"]})
        }
        "UpdateTaskProtection" => json!({
            "protectionEnabled": true, "tasks": ["0123456789abcdef0123456789abcdef"]
        }),
        "UpdateTaskSet" => json!({"scale": {"value": 50.0, "unit": "PERCENT"}}),
        _ => json!({}),
    }
}

/// The least that a shape takes.
fn least(name: &str, shape: Shape) -> Value {
    if let (Some((_, text)), Shape::Text(_)) = (MEMBERS.iter().find(|(it, _)| *it == name), shape) {
        return json!(text);
    }
    match shape {
        Shape::Structure(table) => {
            let is_given = |member: &&Member| {
                let is_text = matches!(member.shape, Shape::Text(_));
                member.required || is_text && MEMBERS.iter().any(|(it, _)| *it == member.name)
            };
            let members = table.members.iter().filter(is_given);
            members
                .map(|it| (it.wire.to_owned(), least(it.name, it.shape)))
                .collect::<Map<_, _>>()
                .into()
        }
        Shape::List(list) => json!([least(list.item.name, list.item.shape)]),
        Shape::Map(_) => json!({"a": "b"}),
        Shape::Text(text) => {
            let least = text.limits.min.unwrap_or(1).max(1);
            let any = "a".repeat(usize::try_from(least).unwrap());
            json!(text.values.first().map_or(any.as_str(), |value| value))
        }
        Shape::Number(number) => match number.kind {
            NumberKind::Integer | NumberKind::Long => json!(1),
            NumberKind::Float | NumberKind::Double => json!(1.0),
        },
        Shape::Boolean => json!(true),
        Shape::Timestamp(_) => json!(1),
        Shape::Blob(_) => json!("YQ=="),
        Shape::Document => json!({}),
    }
}

fn request(service: &Service, operation: &Operation) -> Value {
    let mut body = match operation.input {
        Some(table) => least("", Shape::Structure(table)),
        None => json!({}),
    };
    let members = body.as_object_mut().unwrap();
    // Tags of other services are lists or maps of their own.
    if service.name == "ecs" {
        members.extend(members_of(operation.name).as_object().unwrap().clone());
    }
    if service.name == "secretsmanager" {
        // Not a number of a policy's version.
        members.remove("VersionId");
    }
    if service.name == "ssm" {
        for (name, id) in [("ActivationId", ACTIVATION), ("InstanceId", MANAGED_INSTANCE)] {
            if let Some(given) = members.get_mut(name) {
                *given = json!(id);
            }
        }
    }
    if service.name == "application-autoscaling"
        && let Some(arn) = members.get_mut("ResourceARN")
    {
        *arn = json!(SCALABLE_TARGET);
    }
    if operation.name == "RetireGrant" {
        members.insert("KeyId".to_owned(), json!(ACTIVATION));
        members.insert("GrantId".to_owned(), json!("a"));
    }
    if let Some(length) = members.get_mut("expiresIn") {
        *length = json!("2h");
    }
    if service.name == "acm" {
        for name in ["CertificateArn", "ResourceArn"] {
            if let Some(arn) = members.get_mut(name) {
                *arn = json!(CERTIFICATE);
            }
        }
    }
    if members.get("resourceArn") == Some(&json!("")) {
        let (account, name) = ("000000000000", service.name);
        let path = match name {
            "ecs" => "cluster/default",
            "ecr" => "repository/web",
            _ => "log-group:web",
        };
        members["resourceArn"] = json!(format!("arn:aws:{name}:us-east-1:{account}:{path}"));
    }
    if let Some(rules) = members.get_mut("replicationConfiguration") {
        *rules = json!({"rules": []});
    }
    if let Some(digests) = members.get_mut("layerDigests") {
        *digests = json!([DIGEST]);
    }
    body
}

async fn ask(
    service: &dyn RegionService,
    operation: &'static Operation,
    caller: &Caller,
) -> Result<(), ApiError> {
    let table = service.service();
    let (body, headers) = (request(table, operation).to_string(), HeaderMap::new());
    let call = Call {
        service: table,
        operation,
        protocol: Protocol::AwsJson11,
        inbound: Inbound { path: "/", query: "", headers: &headers, body: body.as_bytes() },
        form: None,
        request_id: Uuid::from_random([0; 16]),
    };
    service.dispatch(caller, &call).await.map(drop)
}

#[tokio::test]
async fn every_operation_refuses_who_may_not_call_it() {
    let world = TestRegion::new();
    world.region.prepare().await.unwrap();
    let nobody = user(&world, Grants::default()).await;
    let kinds = [nobody, Principal::Node { instance: None }];
    let callers = kinds.map(|principal| Caller { principal, ..world.root() });
    let (mut undenied, mut unshown) = (BTreeSet::new(), Vec::new());
    for service in world.region.services() {
        let table = service.service();
        for operation in table.operations {
            let name = operation.name;
            for caller in &callers {
                let action: &'static str = format!("{}:{name}", table.name).leak();
                let permission = control::Permission::to(action).on("*");
                if world.region.control.read(caller, &permission).is_ok() {
                    continue;
                }
                let outcome = ask(service.as_ref(), operation, caller).await;
                let is_refused = outcome.as_ref().is_err_and(|error| {
                    // One operation of KMS asks for two actions of other names.
                    let name = if name == "ReEncrypt" { "ReEncryptFrom" } else { name };
                    let action = format!(":{name} ");
                    error.denial.is_some() && error.message.contains(&action)
                });
                if is_refused {
                    continue;
                }
                let (operation, is_denial) = (
                    format!("{}:{name}", table.name),
                    outcome.as_ref().is_err_and(|it| it.denial.is_some()),
                );
                if is_denial || !NEED_NO_PERMISSION.contains(&operation.as_str()) {
                    let outcome = outcome.map_err(|error| error.message);
                    unshown.push(format!("{operation}: {outcome:?}"));
                }
                undenied.insert(operation);
            }
        }
    }
    assert!(unshown.is_empty(), "operations that this does not show: {unshown:#?}");
    assert!(undenied.iter().eq(NEED_NO_PERMISSION), "these need none: {undenied:?}");
}

/// A user of the root account with these policies.
async fn user(world: &TestRegion, grants: Grants) -> Principal {
    let user = IamUser {
        account: world.root().account,
        name: "ann".into(),
        path: "/".into(),
        unique_id: "AIDAJQABLZS4A3QDU576Q".into(),
        created_at: Timestamp(0),
        tags: BTreeMap::new(),
        boundary: None,
        grants,
        groups: BTreeSet::new(),
        devices: BTreeSet::new(),
        login: None,
    };
    let decided = world.region.control.decide(|view, _| {
        let mut batch = Batch::on(view);
        batch.put(user.clone());
        Ok((batch, ()))
    });
    decided.await.unwrap();
    Principal::User { name: user.name, path: user.path, id: user.unique_id }
}

/// What Amazon's `ReadOnlyAccess` leaves out by its name, what gives more than it reads, and what is proven by a token.
const NOT_READ: &[&str] = &[
    "logs:ListLogGroups",
    "secretsmanager:BatchGetSecretValue",
    "secretsmanager:GetRandomPassword",
    "secretsmanager:GetSecretValue",
    "sts:AssumeRoleWithSAML",
    "sts:AssumeRoleWithWebIdentity",
    "sts:GetFederationToken",
];

#[tokio::test]
async fn who_may_read_everything_reads_everything_and_changes_nothing() {
    let world = TestRegion::new();
    world.region.prepare().await.unwrap();
    let read = "arn:aws:iam::aws:policy/ReadOnlyAccess".into();
    let principal = user(&world, Grants { attached: vec![read], ..Grants::default() }).await;
    let caller = Caller { principal, ..world.root() };
    let reading = [
        "Batch",
        "Describe",
        "DiscoverInstances",
        "Filter",
        "GenerateCredentialReport",
        "Get",
        "List",
        "Simulate",
        "TestEventPattern",
        "TestMetricFilter",
    ];
    let mut wrong = BTreeSet::new();
    for service in world.region.services() {
        let table = service.service();
        for operation in table.operations {
            let name = operation.name;
            let outcome = ask(service.as_ref(), operation, &caller).await;
            let is_denied = outcome.is_err_and(|error| error.denial.is_some());
            let reads = name != "BatchDeleteImage" && reading.iter().any(|it| name.starts_with(it));
            if reads == is_denied {
                wrong.insert(format!("{}:{name}", table.name));
            }
        }
    }
    let expected: BTreeSet<String> = NOT_READ.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(wrong, expected);
}
