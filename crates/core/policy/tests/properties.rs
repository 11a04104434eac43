//! What holds for all policies: of denying, of order, and of writing a policy down again.

use std::sync::Arc;

use policy::{
    Action, Caller, Context, Decision, Layer, Policies, Policy, PolicyKind, Request, ResourceKind,
    evaluate, explain,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const ACCOUNTS: [&str; 2] = ["111122223333", "444455556666"];

fn pick(from: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(from)
}

fn condition() -> impl Strategy<Value = Value> {
    let set = pick(&["", "ForAllValues:", "ForAnyValue:"]);
    let operator = pick(&["StringEquals", "StringNotEquals", "StringLike", "ArnNotLike"]);
    let suffix = pick(&["", "IfExists"]);
    let key = pick(&["aws:TagKeys", "aws:PrincipalTag/team", "aws:username"]);
    let value = pick(&["env", "*", "${aws:username}", "${aws:PrincipalTag/team, 'blue'}"]);
    (set, operator, suffix, key, prop::collection::vec(value, 0..3)).prop_map(
        |(set, operator, suffix, key, values)| {
            json!({ format!("{set}{operator}{suffix}"): { key: values } })
        },
    )
}

fn principal() -> impl Strategy<Value = Value> {
    let arn = pick(&[
        "*",
        "111122223333",
        "arn:aws:iam::111122223333:user/alice",
        "arn:aws:iam::111122223333:role/deploy",
        "arn:aws:sts::111122223333:assumed-role/deploy/ci",
        "AROAEXAMPLEEXAMPLE01",
    ]);
    prop::collection::vec(arn, 1..3).prop_map(|arns| json!({ "AWS": arns }))
}

/// A statement, with principals or without.
fn statement(has_principal: bool) -> impl Strategy<Value = Value> {
    let action = pick(&["*", "ecs:*", "ecs:Run*", "ECS:?topTask", "iam:PassRole"]);
    let resource = pick(&[
        "*",
        "arn:aws:ecs:*:*:task/*",
        "arn:aws:ecs:us-*-1:111122223333:task/${aws:username}/*",
        "arn:aws:ecs:us-east-1:111122223333:task/prod/?",
        "arn:aws:iam::111122223333:role/x",
    ]);
    (
        any::<bool>(),
        (any::<bool>(), prop::collection::vec(action, 1..3)),
        (any::<bool>(), prop::collection::vec(resource, 1..3)),
        (prop::bool::weighted(0.2), principal()),
        prop::option::of(condition()),
    )
        .prop_map(move |(allows, actions, resources, (is_not, principal), condition)| {
            let name = |is_not: bool, name: &str| {
                if is_not { format!("Not{name}") } else { name.to_owned() }
            };
            let mut statement = json!({
                "Effect": if allows { "Allow" } else { "Deny" },
                name(actions.0, "Action"): actions.1,
                name(resources.0, "Resource"): resources.1,
            });
            if has_principal {
                statement[name(is_not, "Principal")] = principal;
            }
            if let Some(condition) = condition {
                statement["Condition"] = condition;
            }
            statement
        })
}

fn statements(has_principal: bool) -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(statement(has_principal), 1..5)
}

fn compile(statements: &[Value], kind: PolicyKind) -> Arc<Policy> {
    let text = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    Arc::new(Policy::parse(&text, kind).unwrap_or_else(|why| panic!("{text}: {}", why.explain())))
}

/// Statements of each layer, and who asks for what.
#[derive(Clone, Debug)]
struct World {
    identity: Vec<Value>,
    boundary: Option<Vec<Value>>,
    session: Option<Vec<Value>>,
    resource: Option<Vec<Value>>,
    kind: ResourceKind,
    caller: usize,
    owner: usize,
    action: &'static str,
    resource_arn: &'static str,
    has_name: bool,
    tag_keys: Option<Vec<&'static str>>,
}

fn world() -> impl Strategy<Value = World> {
    let kind = prop::sample::select(vec![ResourceKind::Plain, ResourceKind::Key]);
    let arn = pick(&[
        "*",
        "arn:aws:ecs:us-east-1:111122223333:task/alice/1",
        "arn:aws:ecs:us-east-1:111122223333:task/prod/2",
    ]);
    let tags = prop::option::of(prop::collection::vec(pick(&["env", "team"]), 0..3));
    (
        (statements(false), prop::option::of(statements(false))),
        (prop::option::of(statements(false)), prop::option::of(statements(true))),
        (kind, 0..5_usize, 0..2_usize),
        (pick(&["ecs:RunTask", "ecs:StopTask", "iam:PassRole"]), arn, any::<bool>(), tags),
    )
        .prop_map(
            |((identity, boundary), (session, resource), (kind, caller, owner), rest)| {
                let (action, resource_arn, has_name, tag_keys) = rest;
                World {
                    identity,
                    boundary,
                    session,
                    resource,
                    kind,
                    caller,
                    owner,
                    action,
                    resource_arn,
                    has_name,
                    tag_keys,
                }
            },
        )
}

fn callers() -> [Caller; 5] {
    let account = ACCOUNTS[0].parse().expect("an account");
    [
        Caller::Root(account),
        Caller::User {
            account,
            arn: "arn:aws:iam::111122223333:user/alice".into(),
            id: "AIDAEXAMPLEEXAMPLE01".into(),
        },
        Caller::RoleSession {
            account,
            arn: "arn:aws:sts::111122223333:assumed-role/deploy/ci".into(),
            role_arn: "arn:aws:iam::111122223333:role/deploy".into(),
            role_id: "AROAEXAMPLEEXAMPLE01".into(),
        },
        Caller::FederatedUser {
            account,
            arn: "arn:aws:sts::111122223333:federated-user/bob".into(),
            user_arn: "arn:aws:iam::111122223333:user/alice".into(),
            user_id: "AIDAEXAMPLEEXAMPLE01".into(),
        },
        Caller::Anonymous,
    ]
}

impl World {
    fn decide(&self) -> Decision {
        let identity = [compile(&self.identity, PolicyKind::Identity)];
        let one = |list: &Option<Vec<Value>>, kind| -> Vec<Arc<Policy>> {
            list.iter().map(|list| compile(list, kind)).collect()
        };
        let boundary = one(&self.boundary, PolicyKind::Boundary);
        let session = one(&self.session, PolicyKind::Session);
        let resource = one(&self.resource, PolicyKind::Resource);
        let policies = Policies {
            identity: &identity,
            boundary: boundary.first(),
            session: self.session.is_some().then_some(&session),
            resource: &resource,
            resource_kind: self.kind,
        };
        let mut context = Context::new();
        if self.has_name {
            context.set("aws:username", "alice");
        }
        if let Some(keys) = &self.tag_keys {
            context.set_list("aws:TagKeys", keys.iter().copied());
        }
        let action: Action = self.action.parse().expect("an action");
        let request = Request {
            caller: &callers()[self.caller],
            action: &action,
            resource: self.resource_arn,
            resource_account: Some(ACCOUNTS[self.owner].parse().expect("an account")),
            context: (&context).into(),
        };
        let decision = evaluate(&request, &policies);
        let told = explain(&request, &policies);
        assert_eq!(told.decision, decision);
        if let Decision::ExplicitDeny(at) = decision {
            assert!(told.matched.contains(&at), "{told:?}");
        }
        decision
    }

    fn layers(&mut self) -> Vec<&mut Vec<Value>> {
        let optional = [&mut self.boundary, &mut self.session, &mut self.resource];
        std::iter::once(&mut self.identity).chain(optional.into_iter().flatten()).collect()
    }
}

/// The decision without the place of the statement in its policy.
fn kind_of(decision: Decision) -> (u8, Option<Layer>) {
    match decision {
        Decision::Allow(_) => (0, None),
        Decision::ImplicitDeny(layer) => (1, Some(layer)),
        Decision::ExplicitDeny(at) => (2, Some(at.layer)),
    }
}

fn with_effect(mut statement: Value, effect: &str) -> Value {
    statement["Effect"] = effect.into();
    statement
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn adding_a_deny_never_allows(
        world in world(),
        layer in 0..4_usize,
        (plain, named) in (statement(false), statement(true)),
    ) {
        let before = world.decide();
        let mut stricter = world;
        let has_resource = stricter.resource.is_some();
        let mut layers = stricter.layers();
        let (at, last) = (layer % layers.len(), layers.len() - 1);
        let deny = if has_resource && at == last { named } else { plain };
        layers[at].push(with_effect(deny, "Deny"));
        prop_assert!(before.is_allowed() || !stricter.decide().is_allowed());
    }

    #[test]
    fn adding_an_allow_never_denies(
        world in world(),
        layer in 0..4_usize,
        (plain, named) in (statement(false), statement(true)),
    ) {
        let before = world.decide();
        let mut wider = world;
        let has_resource = wider.resource.is_some();
        let mut layers = wider.layers();
        let (at, last) = (layer % layers.len(), layers.len() - 1);
        let allow = if has_resource && at == last { named } else { plain };
        layers[at].push(with_effect(allow, "Allow"));
        prop_assert!(!before.is_allowed() || wider.decide().is_allowed());
    }

    #[test]
    fn order_and_repetition_of_statements_are_immaterial(world in world(), turn in 0..4_usize) {
        let before = kind_of(world.decide());
        let mut other = world;
        for layer in other.layers() {
            let first = layer[0].clone();
            layer.push(first);
            layer.reverse();
            let turn = turn % layer.len();
            layer.rotate_left(turn);
        }
        prop_assert_eq!(kind_of(other.decide()), before);
    }

    #[test]
    fn how_statements_are_shared_among_policies_is_immaterial(
        list in prop::collection::vec(statement(false), 2..6),
    ) {
        let whole = [compile(&list, PolicyKind::Identity)];
        let parts: Vec<Arc<Policy>> =
            list.iter().map(|one| compile(std::slice::from_ref(one), PolicyKind::Identity)).collect();
        let context = Context::new();
        let action: Action = "ecs:RunTask".parse().expect("an action");
        let request = Request {
            caller: &callers()[1],
            action: &action,
            resource: "arn:aws:ecs:us-east-1:111122223333:task/prod/2",
            resource_account: None,
            context: (&context).into(),
        };
        let decide = |identity| evaluate(&request, &Policies { identity, ..Policies::default() });
        prop_assert_eq!(kind_of(decide(&whole)), kind_of(decide(&parts)));
    }

    #[test]
    fn a_policy_that_is_written_down_again_is_the_same(list in statements(true)) {
        let parsed = compile(&list, PolicyKind::Resource);
        let rendered = parsed.render();
        let again = Policy::parse(&rendered, PolicyKind::Resource).expect("a policy");
        prop_assert_eq!(again.statements(), parsed.statements());
        prop_assert_eq!(again.render(), rendered);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,200}", cut in 0..400_usize, list in statements(true)) {
        let _ = Policy::parse(&text, PolicyKind::Resource);
        let whole = json!({ "Version": "2012-10-17", "Statement": list }).to_string();
        let kept: String = whole.chars().take(cut).chain(text.chars()).collect();
        let _ = Policy::parse(&kept, PolicyKind::Trust);
    }
}

/// A policy of 10 KB that is all wildcards, against the longest names, a few hundred times: it ends.
#[test]
fn hostile_wildcards_are_bounded() {
    let stars = "*a?".repeat(3_000) + "b";
    let text = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Action": format!("ecs:{stars}"),
        "Resource": [format!("arn:aws:ecs:*:*:x{stars}"), format!("arn:aws:ecs:u*s-*a*-1:*:{stars}")],
        "Condition": { "StringLike": { "aws:username": stars }, "ArnLike": { "aws:SourceArn": stars } },
    }, {
        "Effect": "Allow", "NotAction": format!("ecs:{stars}"), "NotResource": "arn:aws:s3:::b",
        "Condition": { "StringLike": { "aws:username": format!("*{}b", "a".repeat(3_000)) } },
    }] });
    let policy = Policy::parse(&text.to_string(), PolicyKind::Identity).expect("a policy");
    let identity = [Arc::new(policy)];
    let mut context = Context::new();
    context.set("aws:username", "a".repeat(2_048));
    let action: Action = format!("ecs:{}", "a".repeat(128)).parse().expect("an action");
    let resource = format!("arn:aws:ecs:us-east-1:111122223333:x{}", "a".repeat(2_000));
    let request = Request {
        caller: &callers()[1],
        action: &action,
        resource: &resource,
        resource_account: None,
        context: (&context).into(),
    };
    let policies = Policies { identity: &identity, ..Policies::default() };
    for _ in 0..20 {
        assert_eq!(evaluate(&request, &policies), Decision::ImplicitDeny(Layer::Identity));
    }
}
