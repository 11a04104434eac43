//! Asking about many resources at once is asking about each: the same decision by the same statement.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy::{
    Action, Beside, Caller, Context, Contexts, Decision, Inquiry, KeyMask, KeyName, Policies,
    Policy, PolicyKind, PolicySet, Request, ResourceKind, Values, evaluate,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const ACCOUNTS: [&str; 2] = ["111122223333", "444455556666"];
const RESOURCES: [&str; 7] = [
    "*",
    "arn:aws:ecs:us-east-1:111122223333:task/alice/1",
    "arn:aws:ecs:us-east-1:111122223333:task/prod/2",
    "arn:aws:ecs:us-east-1:111122223333:task/prod/27",
    "arn:aws:ecs:eu-north-1:444455556666:task/prod/2",
    "arn:aws:ecs:us-east-1:111122223333:service/blue/web",
    "",
];

fn pick(from: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(from)
}

fn condition() -> impl Strategy<Value = Value> {
    let set = pick(&["", "", "", "ForAllValues:", "ForAnyValue:"]);
    let operator = pick(&["StringEquals", "StringNotEquals", "StringLike", "ArnNotLike", "Null"]);
    let suffix = pick(&["", "IfExists"]);
    let key = pick(&[
        "aws:TagKeys",
        "aws:username",
        "AWS:principaltag/TEAM",
        "aws:ResourceTag/team",
        "ECS:resourcetag/TEAM",
        "aws:ResourceAccount",
    ]);
    let value = pick(&[
        "blue",
        "team",
        "*",
        "111122223333",
        "${aws:username}",
        "${aws:ResourceTag/team}",
        "${aws:PrincipalTag/team, 'blue'}",
    ]);
    (set, operator, suffix, key, prop::collection::vec(value, 0..3), any::<bool>()).prop_map(
        |(set, operator, suffix, key, values, is_null)| match operator {
            "Null" => json!({ "Null": { key: is_null.to_string() } }),
            _ => json!({ format!("{set}{operator}{suffix}"): { key: values } }),
        },
    )
}

/// Often none; of several, some ask about the resource and some do not.
fn conditions() -> impl Strategy<Value = Vec<Value>> {
    prop_oneof![
        2 => Just(Vec::<Value>::new()),
        1 => prop::collection::vec(condition(), 1..2),
        1 => prop::collection::vec(condition(), 2..4),
    ]
}

fn principal() -> impl Strategy<Value = Value> {
    let arn = pick(&[
        "*",
        "111122223333",
        "arn:aws:iam::111122223333:user/alice",
        "arn:aws:iam::111122223333:role/deploy",
        "arn:aws:sts::111122223333:assumed-role/deploy/ci",
    ]);
    prop::collection::vec(arn, 1..3).prop_map(|arns| json!({ "AWS": arns }))
}

fn statement(has_principal: bool) -> impl Strategy<Value = Value> {
    let action = pick(&["*", "ecs:*", "ecs:Describe*", "ECS:?topTask", "iam:PassRole"]);
    let resource = pick(&[
        "*",
        "*",
        "arn:aws:ecs:*:*:task/*",
        "arn:aws:ecs:us-*-1:111122223333:task/${aws:username}/*",
        "arn:aws:ecs:us-east-1:111122223333:*/${aws:ResourceTag/team}/*",
        "arn:aws:ecs:us-east-1:111122223333:*/${aws:PrincipalTag/team}/*",
        "arn:aws:ecs:us-east-1:111122223333:task/prod/?",
        "arn:aws:ecs:us-east-1:111122223333:task/prod/2",
        "arn:aws:ecs:*:*:task/${*}prod/2",
    ]);
    (
        (prop::option::of(pick(&["First", "Second"])), prop::bool::weighted(0.7)),
        (prop::bool::weighted(0.2), prop::collection::vec(action, 1..3)),
        (prop::bool::weighted(0.3), prop::collection::vec(resource, 1..4)),
        (prop::bool::weighted(0.2), principal()),
        conditions(),
    )
        .prop_map(
            move |((sid, allows), actions, resources, (is_not, principal), conditions)| {
                let name = |is_not: bool, name: &str| {
                    if is_not { format!("Not{name}") } else { name.to_owned() }
                };
                let mut statement = json!({
                    "Effect": if allows { "Allow" } else { "Deny" },
                    name(actions.0, "Action"): actions.1,
                    name(resources.0, "Resource"): resources.1,
                });
                if let Some(sid) = sid {
                    statement["Sid"] = sid.into();
                }
                if has_principal {
                    statement[name(is_not, "Principal")] = principal;
                }
                let mut all = serde_json::Map::new();
                for condition in conditions {
                    all.extend(condition.as_object().cloned().unwrap_or_default());
                }
                if !all.is_empty() {
                    statement["Condition"] = all.into();
                }
                statement
            },
        )
}

/// Policies with a few statements each, some of which are there twice.
fn policies(has_principal: bool, most: usize) -> impl Strategy<Value = Vec<Vec<Value>>> {
    let one = prop::collection::vec(statement(has_principal), 1..4);
    prop::collection::vec(one, 0..=most).prop_flat_map(|list| {
        let twice = 0..list.len().max(1);
        (Just(list), prop::option::of(twice)).prop_map(|(mut list, twice)| {
            let again = twice.and_then(|place| list.get(place).cloned());
            list.extend(again);
            list
        })
    })
}

fn compile(list: &[Vec<Value>], kind: PolicyKind) -> Vec<Arc<Policy>> {
    let one = |statements: &Vec<Value>| {
        let mut statements = statements.clone();
        // No Sid stands twice in a policy.
        let mut sids = std::collections::BTreeSet::new();
        for each in &mut statements {
            if let Some(members) = each.as_object_mut().filter(|_| kind == PolicyKind::Repository) {
                members.remove("Resource");
                members.remove("NotResource");
            }
            if let Some(sid) = each["Sid"].as_str().map(str::to_owned)
                && !sids.insert(sid)
            {
                each["Sid"] = "".into();
            }
        }
        let text = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        Arc::new(
            Policy::parse(&text, kind).unwrap_or_else(|why| panic!("{text}: {}", why.explain())),
        )
    };
    list.iter().map(one).collect()
}

fn callers() -> [Caller; 5] {
    let account = ACCOUNTS[0].parse().expect("an account");
    let user = || "arn:aws:iam::111122223333:user/alice".into();
    [
        Caller::Root(account),
        Caller::User { account, arn: user(), id: "AIDAEXAMPLEEXAMPLE01".into() },
        Caller::RoleSession {
            account,
            arn: "arn:aws:sts::111122223333:assumed-role/deploy/ci".into(),
            role_arn: "arn:aws:iam::111122223333:role/deploy".into(),
            role_id: "AROAEXAMPLEEXAMPLE01".into(),
        },
        Caller::FederatedUser {
            account,
            arn: "arn:aws:sts::111122223333:federated-user/bob".into(),
            user_arn: user(),
            user_id: "AIDAEXAMPLEEXAMPLE01".into(),
        },
        Caller::Anonymous,
    ]
}

/// A resource by its place, the team that its tag names, and its account by its place.
type About = (usize, Option<&'static str>, Option<usize>);

#[derive(Clone, Debug)]
struct World {
    identity: Vec<Vec<Value>>,
    boundary: Vec<Vec<Value>>,
    session: Option<Vec<Vec<Value>>>,
    resource: Vec<Vec<Value>>,
    kind: ResourceKind,
    caller: usize,
    action: &'static str,
    has_name: bool,
    /// The resource's policies do not say what they are for.
    is_of_repository: bool,
    is_tagged: bool,
    about: Vec<About>,
}

fn world() -> impl Strategy<Value = World> {
    let kinds = vec![ResourceKind::Plain, ResourceKind::Key, ResourceKind::Trust];
    let kind = prop::sample::select(kinds);
    let about = (
        0..RESOURCES.len(),
        prop::option::of(pick(&["blue", "prod", "red"])),
        prop::option::of(0..2_usize),
    );
    (
        (policies(false, 4), policies(false, 1)),
        (prop::option::of(policies(false, 2)), policies(true, 2)),
        (kind, 0..5_usize),
        (
            pick(&["ecs:DescribeTasks", "ecs:StopTask", "iam:PassRole"]),
            any::<bool>(),
            prop::bool::weighted(0.2),
        ),
        (any::<bool>(), prop::collection::vec(about, 1..8)),
    )
        .prop_map(
            |((identity, boundary), (session, resource), (kind, caller), rest, about)| World {
                identity,
                boundary,
                session,
                resource,
                kind,
                caller,
                action: rest.0,
                has_name: rest.1,
                is_of_repository: rest.2,
                is_tagged: about.0,
                about: about.1,
            },
        )
}

impl World {
    /// Decisions by one inquiry that knows only what policies ask for, and by an evaluation for each that knows all; and
    /// whether the inquiry says that all of an account are alike.
    fn decide(&self) -> (Vec<Decision>, Vec<Decision>, bool) {
        let identity = compile(&self.identity, PolicyKind::Identity);
        let boundary = compile(&self.boundary, PolicyKind::Boundary);
        let session = self.session.as_ref().map(|list| compile(list, PolicyKind::Session));
        let resource = match self.is_of_repository {
            true => compile(&self.resource, PolicyKind::Repository),
            false => compile(&self.resource, PolicyKind::Resource),
        };
        let set = PolicySet::new(identity.clone(), boundary.first().cloned());
        let others = session.iter().flatten().chain(&resource);
        let asked_for = others.fold(set.key_mask(), |mask, each| mask.or(each.key_mask()));
        let of_caller = |asked_for: KeyMask| {
            let mut context = Context::new();
            if self.has_name && asked_for.may_have(KeyName::new("aws:username")) {
                context.set("aws:username", "alice");
            }
            let tag = KeyName::new("aws:PrincipalTag/");
            if self.has_name && asked_for.may_have_under(tag, "Team") {
                context.set("aws:PrincipalTag/Team", "prod");
            }
            context
        };
        let mut request_context = Context::new();
        request_context.set_list("aws:TagKeys", ["team"]);
        if self.is_tagged {
            request_context.set("aws:ResourceTag/Team", "blue");
        }
        let caller = &callers()[self.caller];
        let action: Action = self.action.parse().expect("an action");
        let beside =
            Beside { session: session.as_deref(), resource: &resource, resource_kind: self.kind };
        let (context, mut whole) = (of_caller(asked_for), of_caller(KeyMask::ALL));
        let of_caller = Contexts::from(&context);
        let known = Contexts::over(&request_context, &of_caller);
        let policies = Policies {
            identity: &identity,
            boundary: boundary.first(),
            session: session.as_deref(),
            resource: &resource,
            resource_kind: self.kind,
        };
        let inquiry = Inquiry::new(caller, self.action, known, &set, beside).expect("an action");
        whole.take(&request_context);
        let is_same = inquiry.is_same_for_all();
        let asked = inquiry.keys_about_resource();
        let (mut by_inquiry, mut by_each) = (Vec::new(), Vec::new());
        for (place, team, owner) in &self.about {
            let (mut of_it, mut own, mut copied) = (Context::new(), Context::new(), whole.clone());
            if let Some(team) = *team {
                of_it.set("aws:ResourceTag/team", team);
                of_it.set("ecs:ResourceTag/team", team);
            }
            if let Some(owner) = owner {
                of_it.set("aws:ResourceAccount", ACCOUNTS[*owner]);
            }
            copied.take(&of_it);
            for key in &asked {
                if let Some(Values::One(value)) = of_it.get(key) {
                    own.set((*key).to_owned(), value.clone());
                }
            }
            let owner = owner.map(|owner| ACCOUNTS[owner].parse().expect("an account"));
            let about = Contexts::over(&own, &known);
            by_inquiry.push(inquiry.decide(RESOURCES[*place], owner, about));
            let request = Request {
                caller,
                action: &action,
                resource: RESOURCES[*place],
                resource_account: owner,
                context: (&copied).into(),
            };
            by_each.push(evaluate(&request, &policies));
        }
        (by_inquiry, by_each, is_same)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn asking_about_many_is_asking_about_each(world in world()) {
        let (by_inquiry, by_each, is_same) = world.decide();
        prop_assert_eq!(&by_inquiry, &by_each);
        let mut of_account: BTreeMap<Option<usize>, Decision> = BTreeMap::new();
        for ((_, _, owner), decision) in world.about.iter().zip(by_each).filter(|_| is_same) {
            // Nobody's resource is the caller's own.
            let first = *of_account.entry(Some(owner.unwrap_or(0))).or_insert(decision);
            prop_assert_eq!(first, decision, "of account {:?}", owner);
        }
    }
}

/// So that the property above is about something: all that can come out does, and often enough.
#[test]
fn the_worlds_of_the_property_have_decisions_of_every_kind() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut counts, mut alike, mut mixed) = ([0; 3], 0, 0);
    for _ in 0..500 {
        let world = world().new_tree(&mut runner).expect("a world").current();
        let (decisions, _, is_same) = world.decide();
        alike += usize::from(is_same);
        mixed += usize::from(decisions.iter().any(|each| *each != decisions[0]));
        for decision in decisions {
            match decision {
                Decision::Allow(_) => counts[0] += 1,
                Decision::ImplicitDeny(_) => counts[1] += 1,
                Decision::ExplicitDeny(_) => counts[2] += 1,
            }
        }
    }
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
    assert!(alike > 50 && mixed > 50, "{alike} alike, {mixed} mixed");
}
