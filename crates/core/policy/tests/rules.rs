//! Rules of the decision beyond the table: how a resource's policy names the caller, accounts, sessions, and
//! what is told beside the decision.

use std::sync::Arc;

use longshore_types::AccountId;
use policy::{
    Action, Caller, Context, Decision, Effect, Grounds, Layer, Outcome, Policies, Policy,
    PolicyKind, Principal, Request, ResourceKind, StatementRef, evaluate, explain, strictest,
};

const SECRET: &str = "arn:aws:secretsmanager:us-east-1:111122223333:secret:db-AbCdEf";
const READ: &str = "secretsmanager:GetSecretValue";

fn account(id: &str) -> AccountId {
    id.parse().expect("an account")
}

fn user() -> Caller {
    Caller::User {
        account: account("111122223333"),
        arn: "arn:aws:iam::111122223333:user/alice".into(),
        id: "AIDAEXAMPLEEXAMPLE01".into(),
    }
}

fn session() -> Caller {
    Caller::RoleSession {
        account: account("111122223333"),
        arn: "arn:aws:sts::111122223333:assumed-role/deploy/ci".into(),
        role_arn: "arn:aws:iam::111122223333:role/deploy".into(),
        role_id: "AROAEXAMPLEEXAMPLE01".into(),
    }
}

fn federated() -> Caller {
    Caller::FederatedUser {
        account: account("111122223333"),
        arn: "arn:aws:sts::111122223333:federated-user/bob".into(),
        user_arn: "arn:aws:iam::111122223333:user/alice".into(),
        user_id: "AIDAEXAMPLEEXAMPLE01".into(),
    }
}

fn policy(kind: PolicyKind, statements: &str) -> Arc<Policy> {
    let text = format!(r#"{{"Version": "2012-10-17", "Statement": [{statements}]}}"#);
    let parsed = Policy::parse(&text, kind);
    Arc::new(parsed.unwrap_or_else(|why| panic!("{text}: {}", why.explain())))
}

fn allow_all(kind: PolicyKind) -> Arc<Policy> {
    policy(kind, r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#)
}

fn allow_nothing_here(kind: PolicyKind) -> Arc<Policy> {
    policy(kind, r#"{"Effect": "Allow", "Action": "ecs:*", "Resource": "*"}"#)
}

fn naming(principal: &str) -> Arc<Policy> {
    let text = format!(
        r#"{{"Effect": "Allow", "Principal": {principal}, "Action": "{READ}", "Resource": "*"}}"#
    );
    policy(PolicyKind::Resource, &text)
}

fn ask(caller: &Caller, action: &str, owner: &str, policies: &Policies<'_>) -> Decision {
    let action: Action = action.parse().expect("an action");
    let context = Context::new();
    let resource_account = Some(account(owner));
    evaluate(
        &Request {
            caller,
            action: &action,
            resource: SECRET,
            resource_account,
            context: (&context).into(),
        },
        policies,
    )
}

/// Whether the caller may read, with nothing else, behind a boundary and behind a session policy of no use.
fn same_account(caller: &Caller, principal: &str) -> [bool; 3] {
    let resource = [naming(principal)];
    let boundary = allow_nothing_here(PolicyKind::Boundary);
    let session = [allow_nothing_here(PolicyKind::Session)];
    let alone = Policies { resource: &resource, ..Policies::default() };
    [
        alone,
        Policies { boundary: Some(&boundary), ..alone },
        Policies { session: Some(&session), ..alone },
    ]
    .map(|policies| ask(caller, READ, "111122223333", &policies).is_allowed())
}

#[test]
fn how_the_caller_is_named_says_what_else_is_needed() {
    let all = [true; 3];
    let none = [false; 3];
    let limited = [true, false, false];
    for (caller, principal, wanted) in [
        (user(), r#"{"AWS": "arn:aws:iam::111122223333:user/alice"}"#, all),
        (user(), r#"{"AWS": "AIDAEXAMPLEEXAMPLE01"}"#, all),
        (user(), r#"{"AWS": "arn:aws:iam::111122223333:user/Alice"}"#, none),
        (user(), r#"{"AWS": "111122223333"}"#, none),
        (user(), r#"{"AWS": "444455556666"}"#, none),
        (user(), "\"*\"", all),
        (session(), r#"{"AWS": "arn:aws:sts::111122223333:assumed-role/deploy/ci"}"#, all),
        (session(), r#"{"AWS": "arn:aws:sts::111122223333:assumed-role/deploy/other"}"#, none),
        (session(), r#"{"AWS": "arn:aws:iam::111122223333:role/deploy"}"#, limited),
        (session(), r#"{"AWS": "AROAEXAMPLEEXAMPLE01"}"#, limited),
        (session(), r#"{"AWS": "AROAEXAMPLEEXAMPLE02"}"#, none),
        (
            session(),
            r#"{"AWS": ["111122223333", "arn:aws:iam::111122223333:role/deploy"]}"#,
            limited,
        ),
        (session(), r#"{"AWS": "*"}"#, all),
        (federated(), r#"{"AWS": "arn:aws:sts::111122223333:federated-user/bob"}"#, all),
        // Without a session policy, a federated user has nothing of what its user is granted.
        (federated(), r#"{"AWS": "arn:aws:iam::111122223333:user/alice"}"#, none),
        (Caller::Service("ecs.amazonaws.com".into()), r#"{"Service": "ecs.amazonaws.com"}"#, all),
        (Caller::Service("ecs.amazonaws.com".into()), r#"{"Service": "ec2.amazonaws.com"}"#, none),
        (Caller::Anonymous, "\"*\"", all),
        (Caller::Anonymous, r#"{"AWS": "111122223333"}"#, none),
    ] {
        assert_eq!(same_account(&caller, principal), wanted, "{caller:?} {principal}");
    }
}

#[test]
fn between_accounts_both_sides_must_allow_and_the_callers_limits_hold() {
    let identity = [allow_all(PolicyKind::Identity)];
    let resource = [naming(r#"{"AWS": "arn:aws:sts::111122223333:assumed-role/deploy/ci"}"#)];
    let boundary = allow_nothing_here(PolicyKind::Boundary);
    let passed = [allow_nothing_here(PolicyKind::Session)];
    let both = Policies { identity: &identity, resource: &resource, ..Policies::default() };
    let ask = |policies: Policies<'_>| ask(&session(), READ, "444455556666", &policies);
    assert!(matches!(ask(both), Decision::Allow(Grounds::Both { .. })));
    assert_eq!(
        ask(Policies { boundary: Some(&boundary), ..both }),
        Decision::ImplicitDeny(Layer::Boundary)
    );
    assert_eq!(
        ask(Policies { session: Some(&passed), ..both }),
        Decision::ImplicitDeny(Layer::Session)
    );
    assert_eq!(ask(Policies { identity: &[], ..both }), Decision::ImplicitDeny(Layer::Identity));
    assert_eq!(ask(Policies { resource: &[], ..both }), Decision::ImplicitDeny(Layer::Resource));
    assert_eq!(ask(Policies::default()), Decision::ImplicitDeny(Layer::Resource));
}

#[test]
fn root_needs_no_policy_at_home_and_the_resources_elsewhere() {
    let root = Caller::Root(account("111122223333"));
    let nothing = Policies::default();
    assert_eq!(ask(&root, READ, "111122223333", &nothing), Decision::Allow(Grounds::Root));
    assert!(!ask(&root, READ, "444455556666", &nothing).is_allowed());
    let key = Policies { resource_kind: ResourceKind::Key, ..nothing };
    assert!(!ask(&root, READ, "111122223333", &key).is_allowed(), "a key's policy must say yes");
    let named = [naming(r#"{"AWS": "111122223333"}"#)];
    let named = Policies { resource: &named, ..key };
    assert!(ask(&root, READ, "111122223333", &named).is_allowed());
    assert!(ask(&root, READ, "444455556666", &named).is_allowed());
    let deny = policy(
        PolicyKind::Resource,
        r#"{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}"#,
    );
    let deny = [deny];
    let denied = Policies { resource: &deny, ..nothing };
    assert!(matches!(
        ask(&root, READ, "111122223333", &denied),
        Decision::ExplicitDeny(StatementRef { layer: Layer::Resource, .. })
    ));
}

#[test]
fn keys_and_trust_policies_delegate_to_the_account_when_they_name_it() {
    let identity = [allow_all(PolicyKind::Identity)];
    let resource = [naming(r#"{"AWS": "111122223333"}"#)];
    let key = Policies {
        identity: &identity,
        resource: &resource,
        resource_kind: ResourceKind::Key,
        ..Policies::default()
    };
    let decision = ask(&user(), READ, "111122223333", &key);
    assert!(matches!(decision, Decision::Allow(Grounds::Both { .. })), "{decision:?}");
    let silent = Policies { identity: &[], ..key };
    let decision = ask(&user(), READ, "111122223333", &silent);
    assert_eq!(decision, Decision::ImplicitDeny(Layer::Identity));

    let trust = |principal: &str| {
        let text = format!(
            r#"{{"Effect": "Allow", "Principal": {principal}, "Action": "sts:AssumeRole*"}}"#
        );
        [policy(PolicyKind::Trust, &text)]
    };
    let provider = "arn:aws:iam::111122223333:oidc-provider/host/path";
    let stranger = Caller::WebIdentity { provider: provider.into() };
    let federated = trust(&format!(r#"{{"Federated": "{provider}"}}"#));
    let users = trust(r#"{"AWS": "arn:aws:iam::111122223333:user/alice"}"#);
    for (caller, resource, wanted) in [
        (&stranger, &federated, true),
        (&stranger, &users, false),
        (&user(), &users, true),
        (&user(), &federated, false),
    ] {
        let policies =
            Policies { resource, resource_kind: ResourceKind::Trust, ..Policies::default() };
        let action = "sts:AssumeRoleWithWebIdentity";
        let decision = ask(caller, action, "111122223333", &policies);
        assert_eq!(decision.is_allowed(), wanted, "{caller:?} {decision:?}");
    }
}

#[test]
fn a_deny_with_not_principal_spares_only_who_is_wholly_listed() {
    let identity = [allow_all(PolicyKind::Identity)];
    let (account, role) =
        ("arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:role/deploy");
    let ci = "arn:aws:sts::111122223333:assumed-role/deploy/ci";
    for (listed, spared) in [
        (vec![ci], false),
        (vec![ci, role], false),
        (vec![role, account], false),
        (vec![ci, account], false),
        (vec![ci, role, account], true),
        (vec!["*"], true),
    ] {
        let list = serde_json::json!(listed);
        let text = format!(
            r#"{{"Effect": "Deny", "NotPrincipal": {{"AWS": {list}}}, "Action": "*", "Resource": "*"}}"#
        );
        let resource = [policy(PolicyKind::Resource, &text)];
        let policies = Policies { identity: &identity, resource: &resource, ..Policies::default() };
        let decision = ask(&session(), READ, "111122223333", &policies);
        assert_eq!(decision.is_allowed(), spared, "{listed:?}");
    }
}

#[test]
fn a_variable_without_a_value_in_not_resource_fails_closed() {
    let statement = |effect: &str| {
        format!(
            r#"{{"Effect": "{effect}", "Action": "*", "NotResource": "arn:aws:secretsmanager:*:*:secret:${{aws:username}}/*"}}"#
        )
    };
    let allow = [policy(PolicyKind::Identity, &statement("Allow"))];
    let policies = Policies { identity: &allow, ..Policies::default() };
    assert!(!ask(&session(), READ, "111122223333", &policies).is_allowed());
    let deny = [allow_all(PolicyKind::Identity), policy(PolicyKind::Identity, &statement("Deny"))];
    let policies = Policies { identity: &deny, ..Policies::default() };
    let at = StatementRef { layer: Layer::Identity, policy: 1, statement: 0 };
    assert_eq!(ask(&session(), READ, "111122223333", &policies), Decision::ExplicitDeny(at));
}

#[test]
fn the_statement_that_decided_can_be_looked_up() {
    let text = "{\n  \"Statement\": [\n    {\"Effect\": \"Allow\", \"Action\": \"ecs:*\", \"Resource\": \"*\"},\n    {\"Sid\": \"Reading\", \"Effect\": \"Allow\", \"Action\": \"secretsmanager:get*\", \"Resource\": \"*\"}\n  ]\n}";
    let identity = [
        allow_nothing_here(PolicyKind::Identity),
        Arc::new(Policy::parse(text, PolicyKind::Identity).expect("a policy")),
    ];
    let policies = Policies { identity: &identity, ..Policies::default() };
    let decision = ask(&user(), READ, "111122223333", &policies);
    let Decision::Allow(Grounds::Statement(at)) = decision else { panic!("{decision:?}") };
    assert_eq!(at, StatementRef { layer: Layer::Identity, policy: 1, statement: 1 });
    let statement = policies.statement(at).expect("it is there");
    assert_eq!((statement.sid(), statement.effect()), (Some("Reading"), Effect::Allow));
    let position = identity[1].position(1).expect("it is there");
    assert_eq!(position, ((4, 5), (4, 92)));
    assert_eq!(&**identity[1].text(), text, "byte for byte");
}

#[test]
fn an_explanation_tells_matches_missing_keys_and_each_layer() {
    let identity = [policy(
        PolicyKind::Identity,
        r#"{"Effect": "Allow", "Action": "*", "Resource": "*"},
           {"Effect": "Allow", "Action": "secretsmanager:*", "Resource": "*"},
           {"Effect": "Allow", "Action": "ecs:*", "Resource": "*",
            "Condition": {"StringEquals": {"ecs:cluster": "x"}}},
           {"Effect": "Deny", "Action": "secretsmanager:*",
            "Resource": "arn:aws:secretsmanager:*:*:secret:${aws:userid}",
            "Condition": {"StringEquals": {"aws:RequestTag/env": "${aws:PrincipalTag/env}"}}}"#,
    )];
    let boundary = allow_nothing_here(PolicyKind::Boundary);
    let policies =
        Policies { identity: &identity, boundary: Some(&boundary), ..Policies::default() };
    let action: Action = READ.parse().expect("an action");
    let mut context = Context::new();
    context.set("AWS:requesttag/Env", "prod");
    let caller = user();
    let request = Request {
        caller: &caller,
        action: &action,
        resource: SECRET,
        resource_account: None,
        context: (&context).into(),
    };
    let told = explain(&request, &policies);
    assert_eq!(told.decision, Decision::ImplicitDeny(Layer::Boundary));
    let matched: Vec<usize> = told.matched.iter().map(|at| at.statement).collect();
    assert_eq!(matched, [0, 1]);
    let missing: Vec<&str> = told.missing.iter().map(String::as_str).collect();
    assert_eq!(missing, ["aws:PrincipalTag/env", "aws:userid"]);
    let layers: Vec<_> = told.layers.into_iter().collect();
    assert_eq!(
        layers,
        [(Layer::Identity, Outcome::Allowed), (Layer::Boundary, Outcome::ImplicitlyDenied)]
    );

    let mut whole = context.clone();
    whole.set("aws:userid", "db-AbCdEf");
    whole.set("aws:PrincipalTag/env", "prod");
    let told = explain(&Request { context: (&whole).into(), ..request }, &policies);
    let matched: Vec<usize> = told.matched.iter().map(|at| at.statement).collect();
    assert_eq!(matched, [3], "a Deny is the only one told");
}

#[test]
fn principals_are_replaced_by_ids_and_back() {
    let text = r#"{"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::111122223333:role/deploy", "111122223333"], "Service": "ecs.amazonaws.com"}, "Action": "sts:AssumeRole"}"#;
    let trust = policy(PolicyKind::Trust, text);
    let arn = Principal::Arn("arn:aws:iam::111122223333:role/deploy".into());
    let id = Principal::UniqueId("AROAEXAMPLEEXAMPLE01".into());
    let kept = trust.with_principals(|each| (*each == arn).then(|| id.clone())).expect("a policy");
    assert!(kept.statements()[0].principals().contains(&id));
    assert!(!kept.statements()[0].principals().contains(&arn));
    let shown = kept.with_principals(|each| (*each == id).then(|| arn.clone())).expect("a policy");
    assert_eq!(shown.render(), trust.render());
}

#[test]
fn of_several_resources_the_severest_decision_counts() {
    let at = StatementRef { layer: Layer::Identity, policy: 0, statement: 0 };
    let allow = Decision::Allow(Grounds::Statement(at));
    let implicit = Decision::ImplicitDeny(Layer::Boundary);
    let explicit = Decision::ExplicitDeny(at);
    assert_eq!(strictest([]), None);
    assert_eq!(strictest([allow, allow]), Some(allow));
    assert_eq!(
        strictest([allow, implicit, Decision::ImplicitDeny(Layer::Session)]),
        Some(implicit)
    );
    assert_eq!(strictest([implicit, explicit, allow]), Some(explicit));
}
