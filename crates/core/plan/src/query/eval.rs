//! Whether an expression holds for an instance.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use longshore_types::Timestamp;
use model::Instance;

use super::{Compare, Node, Subject, Test, Value};

/// What may be asked of an instance.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub attributes: &'a BTreeMap<String, Option<String>>,
    pub agent_connected: bool,
    pub agent_version: Option<&'a str>,
    pub ec2_instance_id: Option<&'a str>,
    pub registered_at: Timestamp,
    pub running_tasks: u32,
    /// The groups that it has tasks of.
    pub groups: &'a dyn Groups,
}

/// The groups that an instance has tasks of.
pub trait Groups: fmt::Debug {
    /// Whether `test` holds for any of them.
    fn any(&self, test: &mut dyn FnMut(&str) -> bool) -> bool;

    fn has(&self, group: &str) -> bool;
}

impl Groups for BTreeMap<String, u32> {
    fn any(&self, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.iter().any(|(group, count)| *count > 0 && test(group))
    }

    fn has(&self, group: &str) -> bool {
        self.get(group).is_some_and(|count| *count > 0)
    }
}

impl<'a> Facts<'a> {
    pub fn of(instance: &'a Instance, running_tasks: u32, groups: &'a dyn Groups) -> Self {
        Self {
            attributes: &instance.attributes,
            agent_connected: instance.agent.connected,
            agent_version: instance.agent.version.as_deref(),
            ec2_instance_id: instance.ec2_instance_id.as_deref(),
            registered_at: instance.registered_at,
            running_tasks,
            groups,
        }
    }
}

/// What a subject is for one instance. An attribute may be there and have no value.
enum Actual<'a> {
    Missing,
    Text(&'a str),
    Bool(bool),
    Count(u32),
    Time(Timestamp),
    Groups(&'a dyn Groups),
}

pub(super) fn holds(node: &Node, facts: &Facts<'_>) -> bool {
    match node {
        Node::All(nodes) => nodes.iter().all(|node| holds(node, facts)),
        Node::Any(nodes) => nodes.iter().any(|node| holds(node, facts)),
        Node::Not(node) => !holds(node, facts),
        Node::Test(subject, test) => passes(&actual(subject, facts), test),
    }
}

fn actual<'a>(subject: &Subject, facts: &Facts<'a>) -> Actual<'a> {
    let text = |value: Option<&'a str>| value.map_or(Actual::Missing, Actual::Text);
    match subject {
        Subject::Attribute(name) => {
            text(facts.attributes.get(name).map(|value| value.as_deref().unwrap_or("")))
        }
        Subject::AgentConnected => Actual::Bool(facts.agent_connected),
        Subject::AgentVersion => text(facts.agent_version),
        Subject::Ec2InstanceId => text(facts.ec2_instance_id),
        Subject::RegisteredAt => Actual::Time(facts.registered_at),
        Subject::RunningTasksCount => Actual::Count(facts.running_tasks),
        Subject::TaskGroup => Actual::Groups(facts.groups),
    }
}

fn passes(actual: &Actual<'_>, test: &Test) -> bool {
    match test {
        Test::Exists => !matches!(actual, Actual::Missing),
        Test::Compare(Compare::Equal, value) => is_equal(actual, value),
        Test::Compare(Compare::NotEqual, value) => !is_equal(actual, value),
        Test::Compare(compare, value) => order(actual, value).is_some_and(|order| match compare {
            Compare::Equal => order == Ordering::Equal,
            Compare::NotEqual => order != Ordering::Equal,
            Compare::Greater => order == Ordering::Greater,
            Compare::GreaterOrEqual => order != Ordering::Less,
            Compare::Less => order == Ordering::Less,
            Compare::LessOrEqual => order != Ordering::Greater,
        }),
        Test::In(values) => values.iter().any(|value| is_equal(actual, value)),
        Test::Matches(pattern) => match actual {
            Actual::Text(text) => pattern.is_match(text),
            Actual::Groups(groups) => groups.any(&mut |group| pattern.is_match(group)),
            Actual::Missing | Actual::Bool(_) | Actual::Count(_) | Actual::Time(_) => false,
        },
    }
}

fn is_equal(actual: &Actual<'_>, value: &Value) -> bool {
    match (actual, value) {
        (Actual::Text(text), Value::Text(wanted)) => text == wanted,
        (Actual::Bool(is), Value::Bool(wanted)) => is == wanted,
        (Actual::Groups(groups), Value::Text(wanted)) => groups.has(wanted),
        (_, _) => order(actual, value) == Some(Ordering::Equal),
    }
}

fn order(actual: &Actual<'_>, value: &Value) -> Option<Ordering> {
    match (actual, value) {
        (Actual::Text(text), Value::Text(wanted)) => Some(order_texts(text, wanted)),
        (Actual::Count(count), Value::Count(wanted)) => Some(count.cmp(wanted)),
        (Actual::Time(time), Value::Time(wanted)) => Some(time.cmp(wanted)),
        (_, _) => None,
    }
}

/// Numbers and dotted versions by value, all else by its characters.
fn order_texts(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| {
        text.split('.').map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<_>>>()
    };
    match (numbers(a), numbers(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (_, _) => a.cmp(b),
    }
}
