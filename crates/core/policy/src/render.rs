//! A policy as a document again: one form for all ways to write the same, and principals replaced.

use serde_json::{Map, Value, json};

use crate::condition::Condition;
use crate::document::Policy;
use crate::malformed::Malformed;
use crate::pattern::Pattern;
use crate::principal::{Principal, Principals};
use crate::statement::{Actions, Resources, Statement};

impl Policy {
    /// The document in one form: keys in order, lists wherever there may be several values.
    pub fn render(&self) -> String {
        self.render_with(&mut |_| None)
    }

    /// The same policy with other principals where `replace` has one: IAM keeps unique ids in place of ARNs in
    /// trust policies, and shows ARNs in place of ids.
    pub fn with_principals(
        &self,
        mut replace: impl FnMut(&Principal) -> Option<Principal>,
    ) -> Result<Self, Malformed> {
        Self::parse(&self.render_with(&mut replace), self.kind())
    }

    fn render_with(&self, replace: &mut dyn FnMut(&Principal) -> Option<Principal>) -> String {
        let mut document = Map::new();
        if let Some(version) = self.version() {
            document.insert("Version".to_owned(), version.as_str().into());
        }
        if let Some(id) = self.id() {
            document.insert("Id".to_owned(), id.into());
        }
        let statements = self.statements().iter();
        let statements = statements.map(|each| statement(each, replace)).collect();
        document.insert("Statement".to_owned(), Value::Array(statements));
        Value::Object(document).to_string()
    }
}

fn statement(
    statement: &Statement,
    replace: &mut dyn FnMut(&Principal) -> Option<Principal>,
) -> Value {
    let mut members = Map::new();
    if let Some(sid) = statement.sid() {
        members.insert("Sid".to_owned(), sid.into());
    }
    members.insert("Effect".to_owned(), statement.effect.as_str().into());
    if let Some(element) = &statement.principals {
        let (name, names) = match element {
            Principals::Named(names) => ("Principal", names),
            Principals::NotNamed(names) => ("NotPrincipal", names),
        };
        members.insert(name.to_owned(), principals(names, replace));
    }
    let Actions { is_negated, sources, .. } = &statement.actions;
    let name = if *is_negated { "NotAction" } else { "Action" };
    members.insert(name.to_owned(), json!(sources));
    if let Some(Resources { is_negated, patterns }) = &statement.resources {
        let name = if *is_negated { "NotResource" } else { "Resource" };
        let sources: Vec<&str> = patterns.iter().map(Pattern::source).collect();
        members.insert(name.to_owned(), json!(sources));
    }
    if !statement.conditions.is_empty() {
        members.insert("Condition".to_owned(), conditions(&statement.conditions));
    }
    Value::Object(members)
}

fn principals(
    names: &[Principal],
    replace: &mut dyn FnMut(&Principal) -> Option<Principal>,
) -> Value {
    if *names == [Principal::Everyone] {
        return "*".into();
    }
    let mut members = Map::new();
    for name in names {
        let (key, text) = replace(name).as_ref().unwrap_or(name).wire();
        if let Value::Array(list) = members.entry(key).or_insert_with(|| json!([])) {
            list.push(text.into());
        }
    }
    Value::Object(members)
}

fn conditions(conditions: &[Condition]) -> Value {
    let mut operators = Map::new();
    for condition in conditions {
        let values: Vec<&str> = condition.values().collect();
        if let Value::Object(keys) =
            operators.entry(condition.operator()).or_insert_with(|| json!({}))
        {
            keys.insert(condition.key().to_owned(), json!(values));
        }
    }
    Value::Object(operators)
}
