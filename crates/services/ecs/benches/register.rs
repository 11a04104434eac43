//! What a RegisterTaskDefinition costs before any handler runs, and a DescribeTasks after one.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use aws_wire::json;
use aws_wire::sigv4::{Credentials, KeyMaterial, Received, SigningKeys, sign, verify};
use aws_wire::validate;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ecs_api as ecs;
use http::{HeaderMap, HeaderValue};
use longshore_types::{Timestamp, Token};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const BODY: &str = r#"{"family":"web","networkMode":"awsvpc","requiresCompatibilities":["FARGATE"],"cpu":"256","memory":"512","executionRoleArn":"arn:aws:iam::000000000000:role/ecs","containerDefinitions":[{"name":"web","image":"000000000000.dkr.ecr.us-east-1.amazonaws.com/hello:1","cpu":128,"memory":256,"essential":true,"portMappings":[{"containerPort":80,"hostPort":80,"protocol":"tcp"}],"environment":[{"name":"A","value":"1"},{"name":"B","value":"two"}],"logConfiguration":{"logDriver":"awslogs","options":{"awslogs-group":"/ecs/web","awslogs-region":"us-east-1","awslogs-stream-prefix":"web"}},"healthCheck":{"command":["CMD-SHELL","curl -f http://localhost/ || exit 1"],"interval":30,"timeout":5,"retries":3}},{"name":"side","image":"busybox","essential":false,"command":["sleep","3600"],"dependsOn":[{"containerName":"web","condition":"START"}]}]}"#;

fn signed() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let target = "AmazonEC2ContainerServiceV20141113.RegisterTaskDefinition";
    headers.insert("x-amz-target", HeaderValue::from_static(target));
    headers.insert("content-type", HeaderValue::from_static("application/x-amz-json-1.1"));
    headers.insert("user-agent", HeaderValue::from_static("aws-cli/1.45 md/Botocore#1.43.11"));
    let uri = "http://127.0.0.1:4566/".parse().unwrap();
    let who = Credentials {
        access_key: "AKIDEXAMPLE".to_owned(),
        secret: Token::from_text("secret".to_owned()),
        session_token: None,
    };
    let region = "us-east-1".parse().unwrap();
    let keys = SigningKeys::default();
    sign("POST", &uri, &mut headers, BODY.as_bytes(), &who, &region, "ecs", NOW, &keys);
    headers
}

fn verified(headers: &HeaderMap, keys: &SigningKeys) {
    let request = Received { method: "POST", path: "/", query: "", headers, body: BODY.as_bytes() };
    let key = |_: &str, _: Option<&str>| {
        let secret = Token::from_text("secret".to_owned());
        Some(KeyMaterial { secret, session_token: None, expires: None })
    };
    black_box(verify(&request, "us-east-1", NOW, keys, key).unwrap());
}

fn decoded() -> ecs::RegisterTaskDefinitionRequest {
    let input: ecs::RegisterTaskDefinitionRequest = json::from_slice(BODY.as_bytes()).unwrap();
    let table = ecs::SERVICE.operation("RegisterTaskDefinition").unwrap().input.unwrap();
    validate::check(&input, table, ecs::SERVICE.wording).unwrap();
    input
}

fn hundred_tasks() -> ecs::DescribeTasksResponse {
    let container = ecs::Container {
        container_arn: Some("arn:aws:ecs:us-east-1:000000000000:container/demo/a/b".into()),
        name: Some("web".into()),
        image: Some("busybox".into()),
        last_status: Some("RUNNING".into()),
        exit_code: Some(0),
        ..Default::default()
    };
    let task = ecs::Task {
        task_arn: Some("arn:aws:ecs:us-east-1:000000000000:task/demo/0123456789abcdef".into()),
        cluster_arn: Some("arn:aws:ecs:us-east-1:000000000000:cluster/demo".into()),
        task_definition_arn: Some(
            "arn:aws:ecs:us-east-1:000000000000:task-definition/web:1".into(),
        ),
        last_status: Some("RUNNING".into()),
        desired_status: Some("RUNNING".into()),
        cpu: Some("256".into()),
        memory: Some("512".into()),
        created_at: Some(NOW),
        started_at: Some(NOW),
        launch_type: Some(ecs::LaunchType::Fargate),
        containers: Some(vec![container.clone(), container]),
        ..Default::default()
    };
    ecs::DescribeTasksResponse { tasks: Some(vec![task; 100]), failures: Some(vec![]) }
}

fn benches(c: &mut Criterion) {
    let (headers, keys) = (signed(), SigningKeys::default());
    let mut group = c.benchmark_group("RegisterTaskDefinition");
    group.throughput(Throughput::Elements(1));
    group.bench_function("verify", |b| b.iter(|| verified(&headers, &keys)));
    group.bench_function("decode and validate", |b| b.iter(decoded));
    group.bench_function("verify, decode and validate", |b| {
        b.iter(|| {
            verified(&headers, &keys);
            decoded()
        });
    });
    group.finish();
    let tasks = hundred_tasks();
    let mut group = c.benchmark_group("DescribeTasks of 100");
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode", |b| b.iter(|| json::to_vec(black_box(&tasks))));
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
