//! A service model as botocore writes it. Strict: a trait that we don't know stops the generator,
//! because leaving one out silently would make an answer wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::Error;

#[derive(Deserialize)]
pub(super) struct Model {
    pub(super) metadata: Metadata,
    pub(super) operations: BTreeMap<String, Operation>,
    shapes: BTreeMap<String, Box<RawValue>>,
    /// By shape, the members that AWS takes though its model names them not.
    #[serde(skip)]
    beyond: BTreeMap<String, Vec<(String, Reference)>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) api_version: String,
    pub(super) endpoint_prefix: String,
    pub(super) protocol: String,
    pub(super) json_version: Option<String>,
    pub(super) target_prefix: Option<String>,
    pub(super) signing_name: Option<String>,
    pub(super) xml_namespace: Option<String>,
    /// Set where the service was one of the query protocol, whose error codes clients still go by.
    aws_query_compatible: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    pub(super) http: Http,
    pub(super) input: Option<Reference>,
    pub(super) output: Option<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Http {
    pub(super) method: String,
    pub(super) request_uri: String,
    pub(super) response_code: Option<u16>,
}

/// A use of a shape, with what is said of it there.
#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Reference {
    pub(super) shape: String,
    pub(super) location: Option<String>,
    pub(super) location_name: Option<String>,
    pub(super) query_name: Option<String>,
    pub(super) result_wrapper: Option<String>,
    #[serde(default)]
    pub(super) sensitive: bool,
    #[serde(default)]
    pub(super) idempotency_token: bool,
    #[serde(rename = "box")]
    _box: Option<IgnoredAny>,
    #[serde(rename = "documentation")]
    _documentation: Option<IgnoredAny>,
    #[serde(rename = "deprecated")]
    _deprecated: Option<IgnoredAny>,
    #[serde(rename = "deprecatedMessage")]
    _deprecated_message: Option<IgnoredAny>,
    #[serde(rename = "deprecatedSince")]
    _deprecated_since: Option<IgnoredAny>,
    /// From which member SDKs take a parameter of the rules by which they choose an endpoint.
    #[serde(rename = "contextParam")]
    _context_param: Option<IgnoredAny>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Shape {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) members: Ordered<Reference>,
    #[serde(default)]
    pub(super) required: Vec<String>,
    pub(super) member: Option<Reference>,
    pub(super) key: Option<Reference>,
    pub(super) value: Option<Reference>,
    #[serde(rename = "enum", default)]
    pub(super) values: Vec<String>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) pattern: Option<String>,
    #[serde(default)]
    pub(super) sensitive: bool,
    #[serde(default)]
    pub(super) flattened: bool,
    #[serde(default)]
    pub(super) document: bool,
    pub(super) timestamp_format: Option<String>,
    pub(super) location_name: Option<String>,
    /// The order of members in requests of XML, which nobody relies on.
    #[serde(rename = "xmlOrder")]
    _xml_order: Option<IgnoredAny>,
    #[serde(rename = "union")]
    _union: Option<IgnoredAny>,
    #[serde(rename = "box")]
    _box: Option<IgnoredAny>,
    #[serde(rename = "documentation")]
    _documentation: Option<IgnoredAny>,
    #[serde(rename = "deprecated")]
    _deprecated: Option<IgnoredAny>,
    #[serde(rename = "deprecatedMessage")]
    _deprecated_message: Option<IgnoredAny>,
    #[serde(rename = "deprecatedSince")]
    _deprecated_since: Option<IgnoredAny>,
}

impl Model {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        Ok(serde_json::from_str(text)?)
    }

    /// Has a member that the model does not name, after those that it does.
    pub(super) fn add(&mut self, shape: &str, member: &str, of: &str) -> Result<(), Error> {
        let named = |source| Error::Shape { name: shape.to_owned(), source };
        let reference =
            serde_json::from_value(serde_json::json!({ "shape": of })).map_err(named)?;
        if self.shape(shape)?.members.0.iter().any(|(name, _)| name == member) {
            return Err(Error::Clash { shape: shape.to_owned(), name: member.to_owned() });
        }
        let added = self.beyond.entry(shape.to_owned()).or_default();
        added.push((member.to_owned(), reference));
        Ok(())
    }

    pub(super) fn has_shape(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    pub(super) fn operation(&self, name: &str) -> Result<&Operation, Error> {
        self.operations.get(name).ok_or_else(|| Error::NoSuchOperation { name: name.to_owned() })
    }

    /// The names of error shapes and the codes of the query protocol for them, where these differ and count.
    pub(super) fn query_errors(&self) -> Result<Vec<(&str, String)>, Error> {
        let mut found = Vec::new();
        if self.metadata.aws_query_compatible.is_none() {
            return Ok(found);
        }
        for (name, raw) in &self.shapes {
            let shape: serde_json::Value = serde_json::from_str(raw.get())
                .map_err(|source| Error::Shape { name: name.to_owned(), source })?;
            if let Some(code) = shape["error"]["code"].as_str() {
                found.push((name.as_str(), code.to_owned()));
            }
        }
        Ok(found)
    }

    /// Every shape that the named operations can meet.
    pub(super) fn reachable(
        &self,
        operations: &[String],
    ) -> Result<BTreeMap<String, Shape>, Error> {
        let mut found = BTreeMap::new();
        let mut ahead = vec![];
        for name in operations {
            let operation = self.operation(name)?;
            ahead.extend(operation.input.iter().chain(&operation.output).cloned());
        }
        while let Some(reference) = ahead.pop() {
            if found.contains_key(&reference.shape) {
                continue;
            }
            let shape = self.shape(&reference.shape)?;
            ahead.extend(shape.members.0.iter().map(|(_, member)| member.clone()));
            ahead.extend([&shape.member, &shape.key, &shape.value].into_iter().flatten().cloned());
            found.insert(reference.shape, shape);
        }
        Ok(found)
    }

    /// The structures that an operation's input is made of, in the order in which they are met, and their members.
    pub(super) fn members_below(
        &self,
        operation: &str,
    ) -> Result<Vec<(String, Vec<String>)>, Error> {
        let mut found: Vec<(String, Vec<String>)> = Vec::new();
        let mut ahead: Vec<Reference> = self.operation(operation)?.input.iter().cloned().collect();
        let mut known = std::collections::BTreeSet::new();
        while let Some(reference) = ahead.pop() {
            if !known.insert(reference.shape.clone()) {
                continue;
            }
            let shape = self.shape(&reference.shape)?;
            let members = shape.members.0.iter();
            if !shape.members.0.is_empty() {
                let names = members.clone().map(|(name, _)| name.clone()).collect();
                found.push((reference.shape, names));
            }
            // The first member is met next.
            ahead.extend(members.rev().map(|(_, member)| member.clone()));
            ahead.extend([&shape.member, &shape.value].into_iter().flatten().cloned());
        }
        Ok(found)
    }

    fn shape(&self, name: &str) -> Result<Shape, Error> {
        let raw =
            self.shapes.get(name).ok_or_else(|| Error::NoSuchShape { name: name.to_owned() })?;
        let mut shape: Shape = serde_json::from_str(raw.get())
            .map_err(|source| Error::Shape { name: name.to_owned(), source })?;
        shape.members.0.extend(self.beyond.get(name).into_iter().flatten().cloned());
        Ok(shape)
    }
}

/// A JSON object in the order it was written.
#[derive(Clone)]
pub(super) struct Ordered<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(vec![])
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Ordered<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = vec![];
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        input.deserialize_map(Entries(PhantomData))
    }
}
