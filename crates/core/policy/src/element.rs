//! A statement's elements: checked as IAM checks them, and compiled.

use longshore_types::AccountId;

use crate::condition::{Condition, Operator};
use crate::document::PolicyKind;
use crate::json::Node;
use crate::malformed::{Fault, Syntax};
use crate::pattern::{Grammar, Pattern};
use crate::principal::{Principal, Principals};
use crate::statement::{Actions, Effect, Resources, Statement};

/// What a trust policy may speak of.
const TRUST_ACTIONS: [&str; 6] = [
    "assumerole",
    "assumerolewithsaml",
    "assumerolewithwebidentity",
    "tagsession",
    "setsourceidentity",
    "setcontext",
];

/// The elements of one statement as they were found.
#[derive(Default)]
struct Elements {
    sid: Option<Node>,
    effect: Option<Node>,
    principal: Option<Node>,
    not_principal: Option<Node>,
    action: Option<Node>,
    not_action: Option<Node>,
    resource: Option<Node>,
    not_resource: Option<Node>,
    condition: Option<Node>,
}

impl Elements {
    fn read(node: Node) -> Result<Self, Syntax> {
        let Node::Map(members) = node else {
            return Err(Syntax::WrongType { element: "Statement", wanted: "an object" });
        };
        let mut elements = Self::default();
        for (name, value) in members {
            let place = match name.as_str() {
                "Sid" => &mut elements.sid,
                "Effect" => &mut elements.effect,
                "Principal" => &mut elements.principal,
                "NotPrincipal" => &mut elements.not_principal,
                "Action" => &mut elements.action,
                "NotAction" => &mut elements.not_action,
                "Resource" => &mut elements.resource,
                "NotResource" => &mut elements.not_resource,
                "Condition" => &mut elements.condition,
                _ => return Err(Syntax::UnknownElement(name)),
            };
            *place = Some(value);
        }
        Ok(elements)
    }
}

pub(crate) fn statement(node: Node, kind: PolicyKind, variables: bool) -> Result<Statement, Fault> {
    let elements = Elements::read(node)?;
    Ok(Statement {
        sid: elements.sid.map(|node| sid(node, kind)).transpose()?,
        effect: effect(elements.effect)?,
        principals: principals(elements.principal, elements.not_principal, kind)?,
        actions: actions(elements.action, elements.not_action, kind)?,
        resources: resources(elements.resource, elements.not_resource, kind, variables)?,
        conditions: match elements.condition {
            Some(node) => conditions(node, variables)?,
            None => Vec::new(),
        },
    })
}

fn sid(node: Node, kind: PolicyKind) -> Result<Box<str>, Fault> {
    let Node::Text(sid) = node else {
        return Err(Syntax::WrongType { element: "Sid", wanted: "a string" }.into());
    };
    if kind.has_plain_sids() && !sid.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(Fault::Sid(sid));
    }
    Ok(sid.into())
}

fn effect(node: Option<Node>) -> Result<Effect, Fault> {
    match node {
        Some(Node::Text(text)) => match text.as_str() {
            "Allow" => Ok(Effect::Allow),
            "Deny" => Ok(Effect::Deny),
            _ => Err(Syntax::Effect(text).into()),
        },
        Some(_) => Err(Syntax::WrongType { element: "Effect", wanted: "a string" }.into()),
        None => Err(Syntax::Missing("Effect").into()),
    }
}

/// Strings, or one string that stands for a list of one.
fn texts(element: &'static str, node: Node) -> Result<Vec<String>, Syntax> {
    let wrong = || Syntax::WrongType { element, wanted: "a string or a list of strings" };
    let text = |node| match node {
        Node::Text(text) => Ok(text),
        Node::Null | Node::Scalar(_) | Node::List(_) | Node::Map(_) => Err(wrong()),
    };
    match node {
        Node::List(list) => list.into_iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}

/// One of an element and its opposite, and whether it is the opposite.
fn either(
    (name, node): (&'static str, Option<Node>),
    (not_name, not_node): (&'static str, Option<Node>),
) -> Result<Option<(Node, bool)>, Syntax> {
    match (node, not_node) {
        (Some(_), Some(_)) => Err(Syntax::Both(name, not_name)),
        (Some(node), None) => Ok(Some((node, false))),
        (None, Some(node)) => Ok(Some((node, true))),
        (None, None) => Ok(None),
    }
}

fn actions(
    action: Option<Node>,
    not_action: Option<Node>,
    kind: PolicyKind,
) -> Result<Actions, Fault> {
    let found = either(("Action", action), ("NotAction", not_action))?;
    let (node, is_negated) = found.ok_or(Fault::NoActions)?;
    let sources = texts("Action", node)?;
    if sources.is_empty() {
        return Err(Fault::NoActions);
    }
    let mut actions =
        Actions { is_negated, sources: Vec::new(), any: false, by_service: Vec::new() };
    for source in sources {
        add_action(&mut actions, &source, kind)?;
        actions.sources.push(source.into());
    }
    Ok(actions)
}

fn add_action(actions: &mut Actions, source: &str, kind: PolicyKind) -> Result<(), Fault> {
    if source == "*" && kind != PolicyKind::Trust {
        actions.any = true;
        return Ok(());
    }
    let split = source.split_once(':');
    if kind == PolicyKind::Trust && !split.is_some_and(|(of, name)| is_trust_action(of, name)) {
        return Err(Fault::NotAssumeRole(source.to_owned()));
    }
    let (service, name) = split.ok_or_else(|| Fault::NoVendor(source.to_owned()))?;
    let is_service = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if service.is_empty() || name.is_empty() || !service.bytes().all(is_service) {
        return Err(Fault::NoVendor(source.to_owned()));
    }
    if name.contains(':') {
        return Err(Fault::TwoColons(source.to_owned()));
    }
    let name = action_name(name)?;
    let service = service.to_ascii_lowercase();
    match actions.by_service.iter_mut().find(|(known, _)| **known == *service) {
        Some((_, names)) => names.push(name),
        None => actions.by_service.push((service.into(), vec![name])),
    }
    Ok(())
}

fn action_name(name: &str) -> Result<Pattern, Fault> {
    let grammar = Grammar { wildcards: true, variables: false, arn: false };
    Pattern::compile(&name.to_ascii_lowercase(), grammar)
}

fn is_trust_action(service: &str, name: &str) -> bool {
    let none = crate::context::Context::new();
    service.eq_ignore_ascii_case("sts")
        && action_name(name).is_ok_and(|pattern| {
            TRUST_ACTIONS.iter().any(|known| pattern.matches(known, (&none).into()) == Some(true))
        })
}

fn resources(
    resource: Option<Node>,
    not_resource: Option<Node>,
    kind: PolicyKind,
    variables: bool,
) -> Result<Option<Resources>, Fault> {
    if !kind.names_resources() {
        return match (resource, not_resource) {
            (Some(_), _) => Err(Fault::Prohibited("Resource")),
            (None, Some(_)) => Err(Fault::Prohibited("NotResource")),
            (None, None) => Ok(None),
        };
    }
    let found = either(("Resource", resource), ("NotResource", not_resource))?;
    let (node, is_negated) = found.ok_or(Fault::NoResources)?;
    let sources = texts("Resource", node)?;
    if sources.is_empty() {
        return Err(Fault::NoResources);
    }
    let grammar = Grammar { wildcards: true, variables, arn: true };
    let mut patterns = Vec::with_capacity(sources.len());
    for source in sources {
        check_resource(&source)?;
        patterns.push(Pattern::compile(&source, grammar)?);
    }
    Ok(Some(Resources { is_negated, patterns }))
}

/// `*`, or an ARN whose first fields are what IAM takes. It may end early, in a star that reaches over colons.
fn check_resource(source: &str) -> Result<(), Fault> {
    if source == "*" {
        return Ok(());
    }
    let mut fields = source.splitn(6, ':');
    if fields.next() != Some("arn") {
        return Err(Fault::NotAnArn(source.to_owned()));
    }
    let (partition, service) = (fields.next().unwrap_or_default(), fields.next());
    if !matches!(partition, "aws" | "*") {
        let (partition, resource) = (partition.to_owned(), source.to_owned());
        return Err(Fault::Partition { partition, resource });
    }
    if service.is_none_or(|service| service.is_empty() || service.contains(['*', '?', '$'])) {
        return Err(Fault::ResourceVendor(source.to_owned()));
    }
    let (_region, account, resource) = (fields.next(), fields.next(), fields.next());
    let is_account =
        |account: &str| matches!(account, "" | "*" | "aws") || account.parse::<AccountId>().is_ok();
    let is_whole = resource.is_some_and(|resource| !resource.is_empty()) || source.ends_with('*');
    if !is_whole || account.is_some_and(|account| !is_account(account)) {
        return Err(Fault::Legacy(source.to_owned()));
    }
    Ok(())
}

fn principals(
    principal: Option<Node>,
    not_principal: Option<Node>,
    kind: PolicyKind,
) -> Result<Option<Principals>, Fault> {
    if !kind.names_principals() {
        return match (principal, not_principal) {
            (None, None) => Ok(None),
            _ => Err(Fault::PrincipalGiven),
        };
    }
    if kind == PolicyKind::Trust && not_principal.is_some() {
        return Err(Fault::Prohibited("NotPrincipal"));
    }
    let found = either(("Principal", principal), ("NotPrincipal", not_principal))?;
    let (node, is_negated) = found.ok_or(Fault::Missing("Principal"))?;
    let mut names = match node {
        Node::Text(text) if text == "*" => vec![Principal::Everyone],
        Node::Map(members) => named(members)?,
        Node::Null | Node::Text(_) | Node::Scalar(_) | Node::List(_) => {
            let wanted = "\"*\" or an object with AWS, Service or Federated";
            return Err(Syntax::WrongType { element: "Principal", wanted }.into());
        }
    };
    if names.is_empty() {
        return Err(Fault::Missing("Principal"));
    }
    names.sort();
    names.dedup();
    Ok(Some(if is_negated { Principals::NotNamed(names) } else { Principals::Named(names) }))
}

fn named(members: Vec<(String, Node)>) -> Result<Vec<Principal>, Fault> {
    let mut names = Vec::new();
    for (kind, node) in members {
        for value in texts("Principal", node)? {
            names.push(Principal::parse(&kind, &value)?);
        }
    }
    Ok(names)
}

fn conditions(node: Node, variables: bool) -> Result<Vec<Condition>, Fault> {
    let wrong = |wanted| Syntax::WrongType { element: "Condition", wanted };
    let Node::Map(operators) = node else {
        return Err(wrong("an object of operators").into());
    };
    let mut conditions = Vec::new();
    for (name, node) in operators {
        let operator = Operator::parse(&name)?;
        let Node::Map(keys) = node else {
            return Err(wrong("an object of keys in each operator").into());
        };
        for (key, node) in keys {
            let values = match node {
                Node::List(list) => list.into_iter().map(value).collect::<Result<_, _>>()?,
                one => vec![value(one)?],
            };
            conditions.push(Condition::compile(&operator, &key, &values, variables)?);
        }
    }
    // All must hold, in whatever order: one that is the same each time.
    conditions.sort_by(|a, b| (a.operator(), a.key()).cmp(&(b.operator(), b.key())));
    Ok(conditions)
}

fn value(node: Node) -> Result<String, Syntax> {
    match node {
        Node::Text(text) | Node::Scalar(text) => Ok(text),
        Node::Null | Node::List(_) | Node::Map(_) => {
            Err(Syntax::WrongType { element: "Condition", wanted: "a value or a list of values" })
        }
    }
}
