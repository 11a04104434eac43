//! Which events a rule wants.
//!
//! A pattern is a tree with the fields' names. An event matches if each field's leaf finds a value that it takes, and what
//! is said of the fields of objects in one array is true of a single one of them. So a subtree is asked of one object after
//! the other, and what `$or` offers is chosen per object that it is said of.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::Json;
use crate::limits::COMBINATIONS_MAX;
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
        let root = object(members)?;
        match root.combinations() {
            Some(combinations) if combinations <= COMBINATIONS_MAX => Ok(Self { root }),
            Some(_) | None => Err(wrong(format!(
                "Rule is too complex - its $or fields can be combined in more than {COMBINATIONS_MAX} ways"
            ))),
        }
    }

    /// Whether an event, of which `event` is the whole envelope, is one that the rule wants.
    pub fn matches(&self, event: &Json) -> bool {
        let event = undotted(event);
        match &*event {
            Json::Object(members) => object_matches(&[&self.root], Some(members)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) => false,
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

fn object(members: Vec<(String, Json)>) -> Result<Node, PatternError> {
    if members.is_empty() {
        return Err(wrong("Empty objects are not allowed"));
    }
    let mut node = Node::default();
    for (name, value) in members {
        match value {
            Json::List(items) if name == "$or" && is_or(&items) => {
                for item in items {
                    if let Json::Object(members) = item {
                        node.or.push(object(members)?);
                    }
                }
            }
            Json::List(items) => {
                let leaf = Some(matcher::list(items)?);
                let Node { fields, .. } = Node::of(&name, Node { leaf, ..Node::default() });
                node.fields.extend(fields);
            }
            Json::Object(members) => {
                let Node { fields, .. } = Node::of(&name, object(members)?);
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
fn value_matches(nodes: &[&Node], value: Option<&Json>) -> bool {
    let mut leaves = nodes.iter().filter_map(|node| node.leaf.as_ref());
    if !leaves.all(|leaf| leaf_matches(leaf, value)) {
        return false;
    }
    let inner: Vec<&Node> = nodes.iter().copied().filter(|node| node.leaf.is_none()).collect();
    if inner.is_empty() {
        return true;
    }
    let mut objects = Vec::new();
    if let Some(value) = value {
        objects_of(value, &mut objects);
    }
    if objects.is_empty() {
        return object_matches(&inner, None);
    }
    // What is nowhere is in none of them; the rest is found in one.
    if inner.iter().all(|node| node.is_of_absence()) {
        return objects.iter().all(|object| object_matches(&inner, Some(object)));
    }
    objects.iter().any(|object| object_matches(&inner, Some(object)))
}

/// Whether all of `nodes` are true of one object, or of one that is not there.
fn object_matches(nodes: &[&Node], object: Option<&Members>) -> bool {
    choose(0, &mut nodes.to_vec(), object)
}

/// Chooses among the alternatives of the nodes from `at` on; what is chosen is one more node to be true.
fn choose(at: usize, nodes: &mut Vec<&Node>, object: Option<&Members>) -> bool {
    let Some(node) = nodes.get(at).copied() else { return fields_match(nodes, object) };
    if node.or.is_empty() {
        return choose(at + 1, nodes, object);
    }
    let before = nodes.len();
    node.or.iter().any(|alternative| {
        nodes.push(alternative);
        let is_match = choose(at + 1, nodes, object);
        nodes.truncate(before);
        is_match
    })
}

fn fields_match(nodes: &[&Node], object: Option<&Members>) -> bool {
    let mut fields: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for (name, inner) in nodes.iter().flat_map(|node| &node.fields) {
        fields.entry(name).or_default().push(inner);
    }
    fields.iter().all(|(name, inner)| {
        let member = object.and_then(|members| members.iter().find(|(key, _)| key == name));
        value_matches(inner, member.map(|(_, value)| value))
    })
}

fn leaf_matches(leaf: &[Matcher], value: Option<&Json>) -> bool {
    let mut scalars = Vec::new();
    if let Some(value) = value {
        scalars_of(value, &mut scalars);
    }
    leaf.iter().any(|matcher| match matcher {
        Matcher::Exists(exists) => *exists != scalars.is_empty(),
        matcher => scalars.iter().any(|scalar| matcher.matches(scalar)),
    })
}

fn objects_of<'a>(value: &'a Json, found: &mut Vec<&'a Members>) {
    match value {
        Json::Object(members) => found.push(members),
        Json::List(items) => items.iter().for_each(|item| objects_of(item, found)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => {}
    }
}

fn scalars_of<'a>(value: &'a Json, found: &mut Vec<&'a Json>) {
    match value {
        Json::List(items) => items.iter().for_each(|item| scalars_of(item, found)),
        Json::Object(_) => {}
        scalar @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_)) => {
            found.push(scalar);
        }
    }
}

/// A member `a.b` is the member `b` of `a`.
fn undotted(value: &Json) -> Cow<'_, Json> {
    if has_dots(value) { Cow::Owned(without_dots(value.clone())) } else { Cow::Borrowed(value) }
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

fn without_dots(value: Json) -> Json {
    match value {
        Json::Object(members) => {
            let mut found: BTreeMap<String, Json> = BTreeMap::new();
            for (name, value) in members {
                let names: Vec<&str> = name.split('.').collect();
                put(&mut found, &names, without_dots(value));
            }
            Json::Object(found.into_iter().collect())
        }
        Json::List(items) => Json::List(items.into_iter().map(without_dots).collect()),
        scalar @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_)) => scalar,
    }
}

fn put(into: &mut BTreeMap<String, Json>, names: &[&str], value: Json) {
    let Some((first, rest)) = names.split_first() else { return };
    if rest.is_empty() {
        into.insert((*first).to_owned(), value);
        return;
    }
    let mut inner = match into.remove(*first) {
        Some(Json::Object(members)) => members.into_iter().collect(),
        Some(_) | None => BTreeMap::new(),
    };
    put(&mut inner, rest, value);
    into.insert((*first).to_owned(), Json::Object(inner.into_iter().collect()));
}
