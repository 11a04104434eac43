//! Decisions that must come out right, from the rules of the IAM User Guide: `decisions.json` has them as data.

use std::sync::Arc;

use policy::{
    Action, Caller, Context, Decision, Grounds, Layer, Policies, Policy, PolicyKind, Request,
    ResourceKind, evaluate,
};
use serde_json::Value;

const OWNER: &str = "111122223333";

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_else(|| panic!("{key} of {of}"))
}

fn caller(of: &Value) -> Caller {
    let arn = || text(of, "arn").into();
    let account = || {
        let account = text(of, "arn").split(':').nth(4).map(str::parse);
        account.expect("an ARN").expect("an account")
    };
    match text(of, "kind") {
        "user" => {
            Caller::User { account: account(), arn: arn(), id: "AIDAEXAMPLEEXAMPLE01".into() }
        }
        "role-session" => Caller::RoleSession {
            account: account(),
            arn: arn(),
            role_arn: text(of, "of").into(),
            role_id: "AROAEXAMPLEEXAMPLE01".into(),
        },
        "federated-user" => Caller::FederatedUser {
            account: account(),
            arn: arn(),
            user_arn: text(of, "of").into(),
            user_id: "AIDAEXAMPLEEXAMPLE02".into(),
        },
        "root" => Caller::Root(account()),
        "service" => Caller::Service(text(of, "name").into()),
        other => panic!("no such caller: {other}"),
    }
}

fn add(context: &mut Context, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        match value {
            Value::Array(list) => {
                let texts = list.iter().filter_map(Value::as_str).map(str::to_owned);
                context.set_list(key.clone(), texts);
            }
            value => context.set(key.clone(), value.as_str().expect("a string").to_owned()),
        }
    }
}

fn policies(of: &Value, kind: PolicyKind) -> Vec<Arc<Policy>> {
    let list = match of {
        Value::Null => Vec::new(),
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    let parse = |each: &Value| Policy::parse(&each.to_string(), kind);
    list.iter().map(|each| Arc::new(parse(each).expect("a policy"))).collect()
}

fn told(decision: Decision) -> [&'static str; 2] {
    let layer = |layer| match layer {
        Layer::Identity => "identity",
        Layer::Boundary => "boundary",
        Layer::Session => "session",
        Layer::Resource => "resource",
        Layer::Trust => "trust",
    };
    match decision {
        Decision::Allow(Grounds::Root) => ["allow", "root"],
        Decision::Allow(Grounds::Statement(at)) => ["allow", layer(at.layer)],
        Decision::Allow(Grounds::Both { .. }) => ["allow", "both"],
        Decision::ImplicitDeny(by) => ["implicit_deny", layer(by)],
        Decision::ExplicitDeny(at) => ["explicit_deny", layer(at.layer)],
    }
}

#[test]
fn every_decision_of_the_table_comes_out_right() {
    let data: Value = serde_json::from_str(include_str!("decisions.json")).expect("JSON");
    let cases = data["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 64);
    let mut wrong = Vec::new();
    for case in cases {
        let asker = &data["callers"][text(case, "caller")];
        let mut context = Context::new();
        add(&mut context, &asker["context"]);
        add(&mut context, &case["context"]);
        let (resource_kind, kind) = match case["resource_kind"].as_str() {
            None => (ResourceKind::Plain, PolicyKind::Resource),
            Some("kms") => (ResourceKind::Key, PolicyKind::Resource),
            Some("trust") => (ResourceKind::Trust, PolicyKind::Trust),
            Some(other) => panic!("no such kind: {other}"),
        };
        let identity = policies(&case["identity"], PolicyKind::Identity);
        let boundary = policies(&case["boundary"], PolicyKind::Boundary);
        let session = policies(&case["session"], PolicyKind::Session);
        let resource = policies(&case["resource_policy"], kind);
        let policies = Policies {
            identity: &identity,
            boundary: boundary.first(),
            session: (!session.is_empty()).then_some(&session),
            resource: &resource,
            resource_kind,
        };
        let caller = caller(asker);
        let action: Action = text(case, "action").parse().expect("an action");
        let request = Request {
            caller: &caller,
            action: &action,
            resource: text(case, "resource"),
            resource_account: Some(OWNER.parse().expect("an account")),
            context: (&context).into(),
        };
        let decision = evaluate(&request, &policies);
        let wanted = [0, 1].map(|index| case["expect"][index].as_str().expect("a word"));
        if told(decision) != wanted {
            wrong.push(format!("{}: {decision:?}, not {wanted:?}", text(case, "name")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
