//! A value of any shape, walked by the table it comes with.

use std::collections::BTreeMap;

use aws_wire::codec::{Decode, DecodeError, Decoder, Encode, Encoder};
use aws_wire::shape::{NumberKind, Shape, Structure};
use bytes::Bytes;
use longshore_types::Timestamp;
use serde_json::Value as Json;

#[derive(Clone, Debug)]
pub enum Value {
    Structure(BTreeMap<usize, Value>),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Timestamp(Timestamp),
    Blob(Bytes),
    Document(Json),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Structure(a), Self::Structure(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => (a - b).abs() < 1e-6 || a.to_bits() == b.to_bits(),
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Blob(a), Self::Blob(b)) => a == b,
            (Self::Document(a), Self::Document(b)) => a == b,
            _ => false,
        }
    }
}

impl Value {
    /// Reads a case's parameters or result, as botocore writes them.
    pub fn from_json(shape: Shape, json: &Json) -> Option<Self> {
        Some(match shape {
            _ if json.is_null() && !matches!(shape, Shape::Document) => return None,
            Shape::Structure(table) => Self::Structure(
                table
                    .members
                    .iter()
                    .enumerate()
                    .filter_map(|(index, member)| {
                        let json = json.get(member.name)?;
                        Some((index, Self::from_json(member.shape, json)?))
                    })
                    .collect(),
            ),
            Shape::List(list) => Self::List(
                json.as_array()?
                    .iter()
                    .filter_map(|json| Self::from_json(list.item.shape, json))
                    .collect(),
            ),
            Shape::Map(map) => Self::Map(
                json.as_object()?
                    .iter()
                    .filter_map(|(key, json)| {
                        Some((key.clone(), Self::from_json(map.value.shape, json)?))
                    })
                    .collect(),
            ),
            Shape::Text(text) if text.json_value => {
                Self::Text(json.as_str().map_or_else(|| json.to_string(), str::to_owned))
            }
            Shape::Text(_) => Self::Text(json.as_str()?.to_owned()),
            Shape::Number(number) => match number.kind {
                NumberKind::Integer | NumberKind::Long => Self::Integer(json.as_i64()?),
                NumberKind::Float | NumberKind::Double => Self::Float(float(json)?),
            },
            Shape::Boolean => Self::Boolean(json.as_bool()?),
            Shape::Timestamp(_) => {
                let ms = (json.as_f64()? * 1000.0).round();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                Self::Timestamp(Timestamp(ms as u64))
            }
            Shape::Blob(_) => Self::Blob(Bytes::from(json.as_str()?.to_owned().into_bytes())),
            Shape::Document => Self::Document(json.clone()),
        })
    }
}

impl Value {
    /// What is empty at the top may not be there at all: headers and queries can't tell the two apart.
    #[must_use]
    pub fn without_empty_members(self) -> Self {
        match self {
            Self::Structure(mut members) => {
                members.retain(|_, value| match value {
                    Self::List(items) => !items.is_empty(),
                    Self::Map(entries) => !entries.is_empty(),
                    Self::Structure(members) => !members.is_empty(),
                    _ => true,
                });
                Self::Structure(members)
            }
            other => other,
        }
    }
}

fn float(json: &Json) -> Option<f64> {
    match json.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => json.as_f64(),
    }
}

impl Encode for Value {
    fn encode(&self, shape: Shape, out: &mut dyn Encoder) {
        match (self, shape) {
            (Self::Structure(members), Shape::Structure(table)) => {
                out.begin_structure(table);
                for (&index, value) in members {
                    out.member(&table.members[index]);
                    value.encode(table.members[index].shape, out);
                }
                out.end_structure(table);
            }
            (Self::List(items), Shape::List(list)) => {
                out.begin_list(list, items.len());
                for value in items {
                    out.item(list);
                    value.encode(list.item.shape, out);
                }
                out.end_list(list);
            }
            (Self::Map(entries), Shape::Map(map)) => {
                out.begin_map(map, entries.len());
                for (key, value) in entries {
                    out.key(map, key);
                    value.encode(map.value.shape, out);
                }
                out.end_map(map);
            }
            (Self::Float(value), Shape::Number(number)) if number.kind == NumberKind::Float => {
                #[expect(clippy::cast_possible_truncation)]
                out.float(*value as f32);
            }
            (Self::Text(value), _) => out.text(value),
            (Self::Integer(value), _) => out.integer(*value),
            (Self::Float(value), _) => out.double(*value),
            (Self::Boolean(value), _) => out.boolean(*value),
            (Self::Timestamp(value), Shape::Timestamp(format)) => out.timestamp(*value, format),
            (Self::Blob(value), _) => out.blob(value),
            (Self::Document(value), _) => out.document(value),
            (value, shape) => panic!("{value:?} is no {shape:?}"),
        }
    }
}

impl Decode for Value {
    fn decode(shape: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError> {
        Ok(match shape {
            Shape::Structure(table) => Self::Structure(members(table, input)?),
            Shape::List(list) => {
                let mut items = vec![];
                input.list(list, &mut |input| {
                    items.push(Self::decode(list.item.shape, input)?);
                    Ok(())
                })?;
                Self::List(items)
            }
            Shape::Map(map) => {
                let mut entries = BTreeMap::new();
                input.map(map, &mut |key, input| {
                    entries.insert(key, Self::decode(map.value.shape, input)?);
                    Ok(())
                })?;
                Self::Map(entries)
            }
            Shape::Text(_) => Self::Text(input.text()?),
            Shape::Number(number) => match number.kind {
                NumberKind::Integer | NumberKind::Long => {
                    Self::Integer(input.integer(number.kind)?)
                }
                NumberKind::Float | NumberKind::Double => Self::Float(input.double()?),
            },
            Shape::Boolean => Self::Boolean(input.boolean()?),
            Shape::Timestamp(format) => Self::Timestamp(input.timestamp(format)?),
            Shape::Blob(_) => Self::Blob(input.blob()?),
            Shape::Document => Self::Document(input.document()?),
        })
    }
}

fn members(
    table: &'static Structure,
    input: &mut dyn Decoder,
) -> Result<BTreeMap<usize, Value>, DecodeError> {
    let mut members = BTreeMap::new();
    input.structure(table, &mut |index, input| {
        if !input.null()? {
            members.insert(index, Value::decode(table.members[index].shape, input)?);
        }
        Ok(())
    })?;
    Ok(members)
}
