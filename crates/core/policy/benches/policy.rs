//! Decisions a second on one core, of a principal that has 50 policies.
//!
//! `mixed` is what people have: policies of many services, a few of which concern the request, with
//! wildcards, variables and conditions. In `one service` every policy concerns it and is looked at whole.
//! `with context` makes the request's 12 condition keys each time as well. Policies are kept as a region keeps those of a
//! principal; `kept by nobody` goes through all of them for each decision.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use longshore_types::Timestamp;
use policy::{
    Action, Beside, Caller, Context, Decision, Inquiry, Layer, Policies, Policy, PolicyKind,
    PolicySet, Request, evaluate,
};

const POLICIES: usize = 50;
const SERVICES: [&str; 10] =
    ["ecs", "ecr", "logs", "ssm", "s3", "ec2", "iam", "kms", "secretsmanager", "sqs"];
const ACTION: &str = "ecs:UpdateService";
const RESOURCE: &str = "arn:aws:ecs:us-east-1:111122223333:service/prod/web-49";

/// Two Allows and a Deny, with what policies have in them.
fn policy(number: usize, service: &str) -> Arc<Policy> {
    let text = format!(
        r#"{{"Version": "2012-10-17", "Statement": [
            {{"Sid": "Read", "Effect": "Allow",
              "Action": ["{service}:Describe*", "{service}:List*", "{service}:Get*"], "Resource": "*"}},
            {{"Sid": "Change", "Effect": "Allow",
              "Action": ["{service}:UpdateService", "{service}:Put*", "{service}:*Task"],
              "Resource": ["arn:aws:{service}:us-east-1:111122223333:service/prod/web-{number}",
                           "arn:aws:{service}:*:111122223333:*/${{aws:PrincipalTag/team}}-{number}/*"],
              "Condition": {{"StringEquals": {{"aws:ResourceTag/team": "${{aws:PrincipalTag/team}}"}}}}}},
            {{"Sid": "Guard", "Effect": "Deny", "Action": "{service}:*", "Resource": "*",
              "Condition": {{"Bool": {{"aws:SecureTransport": "false"}},
                             "NotIpAddress": {{"aws:SourceIp": ["10.0.0.0/8", "203.0.113.0/24"]}}}}}}]}}"#
    );
    Arc::new(Policy::parse(&text, PolicyKind::Identity).expect("a policy"))
}

fn context() -> Context {
    let mut context = Context::with_capacity(12);
    context.set("aws:PrincipalArn", "arn:aws:iam::111122223333:user/alice");
    context.set("aws:PrincipalAccount", "111122223333");
    context.set("aws:PrincipalType", "User");
    context.set("aws:username", "alice");
    context.set("aws:userid", "AIDAEXAMPLEEXAMPLE01");
    context.set("aws:PrincipalTag/team", "blue");
    context.set("aws:ResourceTag/team", "blue");
    context.set("aws:RequestedRegion", "us-east-1");
    context.set("aws:SourceIp", std::net::IpAddr::from([10, 1, 2, 3]));
    context.set("aws:SecureTransport", false);
    context.set("aws:CurrentTime", Timestamp(1_790_812_800_000));
    context.set_list("aws:TagKeys", ["env", "team"]);
    context
}

fn decisions(criterion: &mut Criterion) {
    let mixed: Vec<Arc<Policy>> =
        (0..POLICIES).map(|each| policy(each, SERVICES[(each + 1) % SERVICES.len()])).collect();
    let one_service: Vec<Arc<Policy>> = (0..POLICIES).map(|each| policy(each, "ecs")).collect();
    let caller = Caller::User {
        account: "111122223333".parse().expect("an account"),
        arn: "arn:aws:iam::111122223333:user/alice".into(),
        id: "AIDAEXAMPLEEXAMPLE01".into(),
    };
    let account = Some("111122223333".parse().expect("an account"));
    let kept = context();
    let decide = |set: &PolicySet, context: &Context| {
        let known = context.into();
        let inquiry = Inquiry::new(black_box(&caller), ACTION, known, set, Beside::default());
        inquiry.map_or(Decision::ImplicitDeny(Layer::Identity), |inquiry| {
            inquiry.decide(black_box(RESOURCE), account, known)
        })
    };
    let action: Action = ACTION.parse().expect("an action");
    let evaluate = |identity: &[Arc<Policy>]| {
        let request = Request {
            caller: &caller,
            action: &action,
            resource: RESOURCE,
            resource_account: account,
            context: (&kept).into(),
        };
        evaluate(black_box(&request), &Policies { identity, ..Policies::default() })
    };
    let [mixed, one_service] = [mixed, one_service].map(|list| PolicySet::new(list, None));
    for set in [&mixed, &one_service] {
        assert!(decide(set, &kept).is_allowed() && decide(set, &kept) == evaluate(set.identity()));
    }

    let mut group = criterion.benchmark_group("policy");
    group.throughput(Throughput::Elements(1));
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    group.bench_function("mixed", |bencher| bencher.iter(|| decide(&mixed, &kept)));
    group.bench_function("mixed, with context", |bencher| {
        bencher.iter(|| decide(&mixed, &context()));
    });
    group.bench_function("one service", |bencher| bencher.iter(|| decide(&one_service, &kept)));
    group.bench_function("mixed, kept by nobody", |bencher| {
        bencher.iter(|| evaluate(mixed.identity()));
    });
    group.bench_function("one service, kept by nobody", |bencher| {
        bencher.iter(|| evaluate(one_service.identity()));
    });
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
