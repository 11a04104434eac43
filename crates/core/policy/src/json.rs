//! JSON as policies need it: no key twice, numbers and booleans as they are written, and where each
//! statement stands in the text.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON value whose objects keep their order and have no key twice.
#[derive(Debug)]
pub(crate) enum Node {
    Null,
    Text(String),
    /// A number or a boolean that was not quoted.
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// The members of a document, not looked into yet.
pub(crate) struct Outline<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Outline<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), *value))
    }
}

/// The elements of an array, or the one thing that stands for an array of one.
pub(crate) fn elements(raw: &RawValue) -> Result<Vec<&RawValue>, serde_json::Error> {
    if raw.get().starts_with('[') { serde_json::from_str(raw.get()) } else { Ok(vec![raw]) }
}

/// Where `part`, which was read out of `whole`, stands in it.
pub(crate) fn span(whole: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}

fn unique<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    mut access: A,
) -> Result<Vec<(String, T)>, A::Error> {
    let mut members: Vec<(String, T)> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    while let Some((key, value)) = access.next_entry::<String, T>()? {
        if !seen.insert(key.clone()) {
            return Err(A::Error::custom(format!("the key `{key}` is there twice")));
        }
        members.push((key, value));
    }
    Ok(members)
}

impl<'de> Deserialize<'de> for Outline<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Outline<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Outline<'de>, A::Error> {
                unique(access).map(Outline)
            }
        }
        from.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E: Error>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(each) = access.next_element()? {
                    list.push(each);
                }
                Ok(Node::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Node, A::Error> {
                unique(access).map(Node::Map)
            }
        }
        from.deserialize_any(Any)
    }
}
