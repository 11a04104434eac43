//! Every condition operator against a key that is there, absent, empty, or has several values.

use std::sync::Arc;

use policy::{Action, Caller, Context, Policies, Policy, PolicyKind, Request, evaluate};

fn holds(operator: &str, wanted: &str, context: &Context) -> bool {
    let text = format!(
        r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Action": "*",
            "Resource": "*", "Condition": {{"{operator}": {{"app:Key": {wanted}}}}}}}}}"#
    );
    let policy = Policy::parse(&text, PolicyKind::Identity);
    let identity = [Arc::new(policy.unwrap_or_else(|why| panic!("{text}: {}", why.explain())))];
    let action: Action = "app:Do".parse().expect("an action");
    let account = "111122223333".parse().expect("an account");
    let caller = Caller::User {
        account,
        arn: "arn:aws:iam::111122223333:user/a".into(),
        id: "AIDAEXAMPLEEXAMPLE01".into(),
    };
    let request = Request {
        caller: &caller,
        action: &action,
        resource: "*",
        resource_account: None,
        context: context.into(),
    };
    evaluate(&request, &Policies { identity: &identity, ..Policies::default() }).is_allowed()
}

fn with(value: impl Into<policy::Value>) -> Context {
    let mut context = Context::new();
    context.set("app:key", value);
    context
}

/// Operator, the policy's values, a value that matches, a value that does not, and whether it is negated.
const OPERATORS: &[(&str, &str, &str, &str, bool)] = &[
    ("StringEquals", r#"["x", "a*"]"#, "a*", "ab", false),
    ("StringNotEquals", r#"["x", "a*"]"#, "ab", "a*", true),
    ("StringEqualsIgnoreCase", r#""Éa""#, "éA", "e", false),
    ("StringNotEqualsIgnoreCase", r#""Ab""#, "abc", "aB", true),
    ("StringLike", r#"["x", "a?c*"]"#, "abc:d/e", "abd", false),
    ("StringNotLike", r#"["x", "a*"]"#, "b", "abd", true),
    ("NumericEquals", "10", "10.0", "1", false),
    ("NumericNotEquals", r#"["10", "20"]"#, "15", "20", true),
    ("NumericLessThan", "10", "9.99", "10", false),
    ("NumericLessThanEquals", "10", "10", "11", false),
    ("NumericGreaterThan", "10", "11", "9", false),
    ("NumericGreaterThanEquals", "10", "10", "9", false),
    ("DateEquals", r#""2026-10-01T00:00:00Z""#, "1790812800", "2026-10-01T00:00:01Z", false),
    ("DateNotEquals", r#""2026-10-01""#, "2026-10-02", "2026-10-01T02:00:00+02:00", true),
    ("DateLessThan", r#""2026-10-01T00:00:00Z""#, "2026-09-30T23:59:59Z", "2026-10-01", false),
    ("DateLessThanEquals", r#""2026-10-01T00:00:00Z""#, "2026-10-01", "2026-10-02", false),
    ("DateGreaterThan", "1790812800", "2026-10-01T00:00:01Z", "2026-10-01", false),
    ("DateGreaterThanEquals", "1790812800", "2026-10-01", "2026-09-30", false),
    ("Bool", "true", "true", "false", false),
    ("BinaryEquals", r#""AQID""#, "AQID", "AQIE", false),
    ("IpAddress", r#"["10.0.0.0/8", "2001:db8::/32"]"#, "2001:db8::1", "11.0.0.1", false),
    ("NotIpAddress", r#"["10.0.0.0/8", "203.0.113.1"]"#, "203.0.113.2", "203.0.113.1", true),
    (
        "ArnEquals",
        r#""arn:aws:ecs:*:1:x/*""#,
        "arn:aws:ecs:r:1:x/y:z",
        "arn:aws:ecs:r:2:1:x/y",
        false,
    ),
    (
        "ArnLike",
        r#""arn:aws:ecs:*:1:x/*""#,
        "arn:aws:ecs:r:1:x/y:z",
        "arn:aws:ecs:r:2:1:x/y",
        false,
    ),
    ("ArnNotEquals", r#""arn:aws:ecs:*:1:x""#, "arn:aws:ecs:r:1:y", "arn:aws:ecs:r:1:x", true),
    ("ArnNotLike", r#""arn:aws:ecs:*:1:x""#, "no arn", "arn:aws:ecs:r:1:x", true),
];

#[test]
fn every_operator_compares() {
    for (operator, wanted, matching, other, _) in OPERATORS {
        for name in [
            (*operator).to_owned(),
            format!("{operator}IfExists"),
            format!("ForAllValues:{operator}"),
            format!("ForAnyValue:{operator}IfExists"),
        ] {
            assert!(holds(&name, wanted, &with(*matching)), "{name} {wanted} {matching}");
            assert!(!holds(&name, wanted, &with(*other)), "{name} {wanted} {other}");
        }
    }
}

#[test]
fn an_absent_key_is_taken_as_documented() {
    let absent = Context::new();
    for (operator, wanted, _, _, is_negated) in OPERATORS {
        assert_eq!(holds(operator, wanted, &absent), *is_negated, "{operator}");
        for (name, outcome) in [
            (format!("{operator}IfExists"), true),
            (format!("ForAllValues:{operator}"), true),
            (format!("ForAllValues:{operator}IfExists"), true),
            (format!("ForAnyValue:{operator}"), false),
            (format!("ForAnyValue:{operator}IfExists"), true),
        ] {
            assert_eq!(holds(&name, wanted, &absent), outcome, "{name}");
        }
    }
}

#[test]
fn a_key_without_values_is_as_good_as_absent_but_for_if_exists() {
    let mut empty = Context::new();
    empty.set_list("app:Key", Vec::<String>::new());
    for (operator, wanted, _, _, is_negated) in OPERATORS {
        assert_eq!(holds(operator, wanted, &empty), *is_negated, "{operator}");
        assert_eq!(
            holds(&format!("{operator}IfExists"), wanted, &empty),
            *is_negated,
            "{operator}"
        );
        assert!(holds(&format!("ForAllValues:{operator}"), wanted, &empty), "{operator}");
        assert!(!holds(&format!("ForAnyValue:{operator}"), wanted, &empty), "{operator}");
    }
}

#[test]
fn set_operators_ask_for_all_or_for_any() {
    for (operator, wanted, matching, other, _) in OPERATORS {
        let mut both = Context::new();
        both.set_list("app:Key", [*matching, *other]);
        assert!(!holds(&format!("ForAllValues:{operator}"), wanted, &both), "{operator}");
        assert!(holds(&format!("ForAnyValue:{operator}"), wanted, &both), "{operator}");
        let mut neither = Context::new();
        neither.set_list("app:Key", [*other, *other]);
        assert!(!holds(&format!("ForAnyValue:{operator}"), wanted, &neither), "{operator}");
    }
}

#[test]
fn set_operators_take_an_empty_text_for_nothing() {
    let empty = with("");
    assert!(holds("ForAllValues:StringEquals", r#""x""#, &empty));
    assert!(!holds("ForAnyValue:StringEquals", r#""""#, &empty));
    assert!(holds("StringEquals", r#""""#, &empty), "without a set it is a text like others");
    assert!(holds("Null", "false", &empty));
}

#[test]
fn null_asks_whether_the_key_is_there() {
    let (absent, present) = (Context::new(), with("x"));
    let mut empty = Context::new();
    empty.set_list("app:Key", Vec::<String>::new());
    for (wanted, context, outcome) in [
        ("true", &absent, true),
        ("\"false\"", &absent, false),
        ("\"true\"", &present, false),
        ("false", &present, true),
        ("true", &empty, true),
        ("false", &empty, false),
    ] {
        assert_eq!(holds("Null", wanted, context), outcome, "{wanted} {context:?}");
    }
}

#[test]
fn typed_values_are_compared_as_what_they_are() {
    let time = longshore_types::Timestamp(1_790_812_800_000);
    assert!(holds("DateEquals", r#""2026-10-01T00:00:00Z""#, &with(time)));
    assert!(holds("StringLike", r#""2026-10-01T*""#, &with(time)));
    assert!(holds("DateEquals", r#""2026-10-01T00:00:00Z""#, &with(1_790_812_800_i64)));
    assert!(holds("NumericLessThan", "0", &with(-1_i64)));
    assert!(holds("StringEquals", r#""-1""#, &with(-1_i64)));
    assert!(holds("Bool", r#""True""#, &with(true)));
    assert!(holds("BinaryEquals", r#""AQID""#, &with(vec![1_u8, 2, 3])));
    let address: std::net::IpAddr = "10.1.2.3".parse().expect("an address");
    assert!(holds("IpAddress", r#""10.0.0.0/8""#, &with(address)));
    assert!(!holds("NumericEquals", "1", &with(true)));
    assert!(holds("NumericNotEquals", "1", &with("not a number")));
}

#[test]
fn variables_stand_for_other_keys() {
    let mut context = with("blue");
    context.set("aws:PrincipalTag/Team", "blue");
    let team = r#""${aws:principaltag/team}""#;
    assert!(holds("StringEquals", team, &context));
    assert!(holds("StringEqualsIgnoreCase", team, &context));
    assert!(!holds("StringNotEquals", team, &context));
    let unset = r#""${aws:PrincipalTag/none}""#;
    assert!(!holds("StringEquals", unset, &context));
    assert!(!holds("StringLike", r#""*${aws:PrincipalTag/none}""#, &context));
    assert!(holds("StringNotLike", r#""*${aws:PrincipalTag/none}""#, &context));
    assert!(holds("StringEquals", r#""${aws:PrincipalTag/none, 'blue'}""#, &context));
    let mut arn = with("arn:aws:iam::1:user/x");
    arn.set("aws:PrincipalArn", "arn:aws:iam::1:user/x");
    assert!(holds("ArnEquals", r#""${aws:PrincipalArn}""#, &arn));
}
