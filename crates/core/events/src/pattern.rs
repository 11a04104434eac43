//! Which events a rule wants.
//!
//! A pattern is a tree with the fields' names. An event matches if each field's leaf finds a value that it takes, and what
//! is said of the fields of objects in one array is true of a single one of them. So a subtree is asked of one object after
//! the other, and what `$or` offers is chosen per object that it is said of.

use std::collections::BTreeMap;

use crate::Json;
use crate::effort::{Effort, Exhausted};
use crate::limits::{COMBINATIONS_MAX, DEPTH_MAX};
use crate::matcher::{self, Matcher};

/// Why a text is no pattern, in EventBridge's words: `Event pattern is not valid. Reason: …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Event pattern is not valid. Reason: {reason}")]
pub struct PatternError {
    pub reason: String,
}

pub(crate) fn wrong(reason: impl Into<String>) -> PatternError {
    PatternError { reason: reason.into() }
}

/// An event pattern, read once and then asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    root: Node,
}

/// What is said of one object, or of one field.
#[derive(Clone, Debug, Default, PartialEq)]
struct Node {
    /// A name may be there more than once, as `a.b` says something of `a` as well.
    fields: Vec<(String, Node)>,
    /// One of these is true of the field's value.
    leaf: Option<Vec<Matcher>>,
    /// One of these is true of the same object besides.
    or: Vec<Node>,
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let json = Json::parse(text).map_err(|why| wrong(why.to_string()))?;
        let Json::Object(members) = json else {
            return Err(wrong("Filter is not an object"));
        };
        let root = object(members, 0)?;
        match root.combinations() {
            Some(combinations) if combinations <= COMBINATIONS_MAX => Ok(Self { root }),
            Some(_) | None => Err(wrong(format!(
                "Rule is too complex - its $or fields can be combined in more than {COMBINATIONS_MAX} ways"
            ))),
        }
    }

    /// Whether an event is one that the rule wants, as far as that can be found out with what is left of `effort`.
    pub fn matches(&self, facts: &Facts, effort: &Effort) -> Result<bool, Exhausted> {
        match &facts.0 {
            Json::Object(members) => object_matches(&[&self.root], Some(members), effort),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => {
                Ok(false)
            }
        }
    }

    /// Whether it may want events of a source; never no where it does.
    pub fn may_want(&self, source: &str) -> bool {
        self.root.may_want(source)
    }
}

impl Node {
    fn of(path: &str, last: Self) -> Self {
        let names = path.rsplit('.');
        names.fold(last, |inner, name| Self {
            fields: vec![(name.to_owned(), inner)],
            ..Self::default()
        })
    }

    /// In how many ways the alternatives in it can be combined; `None` if that is no number.
    fn combinations(&self) -> Option<usize> {
        let mut product = 1_usize;
        for (_, inner) in &self.fields {
            product = product.checked_mul(inner.combinations()?)?;
        }
        if self.or.is_empty() {
            return Some(product);
        }
        let mut sum = 0_usize;
        for each in &self.or {
            sum = sum.checked_add(each.combinations()?)?;
        }
        product.checked_mul(sum)
    }

    fn may_want(&self, source: &str) -> bool {
        let source_value = Json::from(source);
        let is_taken = |(name, inner): &(String, Self)| match &inner.leaf {
            Some(leaf) if name == "source" => leaf.iter().any(|each| each.matches(&source_value)),
            Some(_) | None => true,
        };
        self.fields.iter().all(is_taken)
            && (self.or.is_empty() || self.or.iter().any(|each| each.may_want(source)))
    }

    /// Whether it only says of fields that they are not there.
    fn is_of_absence(&self) -> bool {
        let is_absence = |leaf: &Vec<Matcher>| leaf.iter().all(Matcher::is_of_absence);
        self.leaf.as_ref().is_none_or(is_absence)
            && self.fields.iter().all(|(_, inner)| inner.is_of_absence())
            && self.or.iter().all(Self::is_of_absence)
    }
}

/// `depth`: of the object that it is, with the dots of names as nesting.
fn object(members: Vec<(String, Json)>, depth: usize) -> Result<Node, PatternError> {
    if members.is_empty() {
        return Err(wrong("Empty objects are not allowed"));
    }
    let mut node = Node::default();
    for (name, value) in members {
        let inside = depth + name.split('.').count();
        if DEPTH_MAX < inside {
            return Err(wrong(format!("Fields are nested in more than {DEPTH_MAX} others")));
        }
        match value {
            Json::List(items) if name == "$or" && is_or(&items) => {
                for item in items {
                    if let Json::Object(members) = item {
                        node.or.push(object(members, inside)?);
                    }
                }
            }
            Json::List(items) => {
                let leaf = Some(matcher::list(items)?);
                let Node { fields, .. } = Node::of(&name, Node { leaf, ..Node::default() });
                node.fields.extend(fields);
            }
            Json::Object(members) => {
                let Node { fields, .. } = Node::of(&name, object(members, inside)?);
                node.fields.extend(fields);
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => {
                return Err(wrong(format!("\"{name}\" must be an object or an array")));
            }
        }
    }
    Ok(node)
}

/// Whether `$or` offers alternatives. Otherwise it is a field of that name.
fn is_or(items: &[Json]) -> bool {
    let is_alternative = |item: &Json| match item {
        Json::Object(members) => members.iter().all(|(name, _)| !matcher::is_operator(name)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => false,
    };
    2 <= items.len() && items.iter().all(is_alternative)
}

type Members = [(String, Json)];

/// Whether all of `nodes` are true of one field's value.
fn value_matches(
    nodes: &[&Node],
    value: Option<&Json>,
    effort: &Effort,
) -> Result<bool, Exhausted> {
    for leaf in nodes.iter().filter_map(|node| node.leaf.as_ref()) {
        if !leaf_matches(leaf, value, effort)? {
            return Ok(false);
        }
    }
    let inner: Vec<&Node> = nodes.iter().copied().filter(|node| node.leaf.is_none()).collect();
    if inner.is_empty() {
        return Ok(true);
    }
    let mut objects = Vec::new();
    if let Some(value) = value {
        objects_of(value, &mut objects, effort)?;
    }
    if objects.is_empty() {
        return object_matches(&inner, None, effort);
    }
    // What is nowhere is in none of them; the rest is found in one.
    let is_of_absence = inner.iter().all(|node| node.is_of_absence());
    for object in objects {
        if object_matches(&inner, Some(object), effort)? != is_of_absence {
            return Ok(!is_of_absence);
        }
    }
    Ok(is_of_absence)
}

/// Whether all of `nodes` are true of one object, or of one that is not there.
fn object_matches(
    nodes: &[&Node],
    object: Option<&Members>,
    effort: &Effort,
) -> Result<bool, Exhausted> {
    choose(0, &mut nodes.to_vec(), object, effort)
}

/// Chooses among the alternatives of the nodes from `at` on; what is chosen is one more node to be true.
fn choose(
    at: usize,
    nodes: &mut Vec<&Node>,
    object: Option<&Members>,
    effort: &Effort,
) -> Result<bool, Exhausted> {
    effort.spend(1)?;
    let Some(node) = nodes.get(at).copied() else { return fields_match(nodes, object, effort) };
    if node.or.is_empty() {
        return choose(at + 1, nodes, object, effort);
    }
    let before = nodes.len();
    for alternative in &node.or {
        nodes.push(alternative);
        let is_match = choose(at + 1, nodes, object, effort)?;
        nodes.truncate(before);
        if is_match {
            return Ok(true);
        }
    }
    Ok(false)
}

fn fields_match(
    nodes: &[&Node],
    object: Option<&Members>,
    effort: &Effort,
) -> Result<bool, Exhausted> {
    let mut fields: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for (name, inner) in nodes.iter().flat_map(|node| &node.fields) {
        fields.entry(name).or_default().push(inner);
    }
    // Each is looked for among all members.
    let among = 4 + object.map_or(0, |members| members.len() / 8);
    for (name, inner) in fields {
        effort.spend(among)?;
        let member = object.and_then(|members| members.iter().find(|(key, _)| key == name));
        if !value_matches(&inner, member.map(|(_, value)| value), effort)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn leaf_matches(
    leaf: &[Matcher],
    value: Option<&Json>,
    effort: &Effort,
) -> Result<bool, Exhausted> {
    let mut scalars = Vec::new();
    if let Some(value) = value {
        scalars_of(value, &mut scalars, effort)?;
    }
    for matcher in leaf {
        if let Matcher::Exists(exists) = matcher {
            if *exists != scalars.is_empty() {
                return Ok(true);
            }
            continue;
        }
        for scalar in &scalars {
            effort.spend(matcher.effort(scalar))?;
            if matcher.matches(scalar) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn objects_of<'a>(
    value: &'a Json,
    found: &mut Vec<&'a Members>,
    effort: &Effort,
) -> Result<(), Exhausted> {
    match value {
        Json::Object(members) => found.push(members),
        Json::List(items) => {
            effort.spend(items.len())?;
            items.iter().try_for_each(|item| objects_of(item, found, effort))?;
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => {}
    }
    Ok(())
}

fn scalars_of<'a>(
    value: &'a Json,
    found: &mut Vec<&'a Json>,
    effort: &Effort,
) -> Result<(), Exhausted> {
    match value {
        Json::List(items) => {
            effort.spend(items.len())?;
            items.iter().try_for_each(|item| scalars_of(item, found, effort))?;
        }
        Json::Object(_) => {}
        scalar @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_)) => {
            found.push(scalar);
        }
    }
    Ok(())
}

/// An event as patterns are asked about it: made once for all of them.
#[derive(Clone, Debug)]
pub struct Facts(Json);

impl Facts {
    /// `event` is the whole envelope.
    pub fn of(event: Json) -> Self {
        // A member `a.b` is the member `b` of `a`.
        Self(if has_dots(&event) { without_dots(event, 0) } else { event })
    }
}

fn has_dots(value: &Json) -> bool {
    match value {
        Json::Object(members) => {
            members.iter().any(|(name, value)| name.contains('.') || has_dots(value))
        }
        Json::List(items) => items.iter().any(has_dots),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => false,
    }
}

fn without_dots(value: Json, depth: usize) -> Json {
    match value {
        Json::Object(members) => {
            let mut root = Tree::default();
            for (name, value) in members {
                let inside = depth + name.split('.').count();
                // One that would nest too deep stays as it is: no pattern has it.
                if DEPTH_MAX < inside {
                    root.open().insert(name, Tree::of(value));
                    continue;
                }
                let (before, last) = name.rsplit_once('.').unwrap_or(("", &name));
                let mut into = root.open();
                for name in before.split('.').filter(|_| last.len() < name.len()) {
                    into = into.entry(name.to_owned()).or_default().open();
                }
                into.insert(last.to_owned(), Tree::of(without_dots(value, inside)));
            }
            root.into_json()
        }
        Json::List(items) => {
            Json::List(items.into_iter().map(|item| without_dots(item, depth + 1)).collect())
        }
        scalar @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_)) => scalar,
    }
}

/// A value, or an object that members are put into.
#[derive(Default)]
struct Tree {
    whole: Option<Json>,
    members: BTreeMap<String, Tree>,
}

impl Tree {
    fn of(value: Json) -> Self {
        Self { whole: Some(value), members: BTreeMap::new() }
    }

    /// Its members; what is no object becomes one.
    fn open(&mut self) -> &mut BTreeMap<String, Self> {
        if let Some(Json::Object(members)) = self.whole.take() {
            let members = members.into_iter();
            self.members = members.map(|(name, value)| (name, Self::of(value))).collect();
        }
        &mut self.members
    }

    fn into_json(self) -> Json {
        let members = self.members.into_iter();
        let object = || members.map(|(name, value)| (name, value.into_json())).collect();
        self.whole.unwrap_or_else(|| Json::Object(object()))
    }
}
