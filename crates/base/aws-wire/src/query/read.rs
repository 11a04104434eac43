//! Shapes from parameters: a value is wherever its name says it is.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use longshore_types::Timestamp;

use super::form::Form;
use super::{Dialect, flat_item_name, flat_list};
use crate::codec::{DEPTH_MAX, DecodeError, Decoder, TakeEntry, TakeItem, TakeMember};
use crate::shape::{List, Map, Member, NumberKind, Shape, Structure, TimestampFormat};
use crate::timestamp;

type Result<T> = std::result::Result<T, DecodeError>;

/// Stands at one name.
#[derive(Debug)]
pub struct Reader<'a> {
    form: &'a Form,
    dialect: Dialect,
    name: String,
    /// The member that led here says that its list's items stand for itself.
    is_flat: bool,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub fn new(form: &'a Form, dialect: Dialect) -> Self {
        Self { form, dialect, name: String::new(), is_flat: false, depth: 0 }
    }

    fn at(&self, name: String) -> Result<Self> {
        if DEPTH_MAX <= self.depth {
            return Err(DecodeError::new("The request is nested too deeply"));
        }
        let (form, dialect) = (self.form, self.dialect);
        Ok(Self { form, dialect, name, is_flat: false, depth: self.depth + 1 })
    }

    /// The last part of a member's name.
    fn part(&self, member: &'static Member) -> &'static str {
        match self.dialect {
            Dialect::Ec2 => member.ec2.unwrap_or(member.name),
            Dialect::Query => match flat_list(member).and_then(flat_item_name) {
                Some(item) => item,
                None => member.wire,
            },
        }
    }

    fn below(&self, part: &str) -> String {
        if self.name.is_empty() { part.to_owned() } else { format!("{}.{part}", self.name) }
    }

    fn value(&self) -> Result<&'a str> {
        self.form
            .get(&self.name)
            .ok_or_else(|| DecodeError::new(format!("The parameter {} has no value", self.name)))
    }

    fn bad(&self, wanted: &str) -> DecodeError {
        let value: String =
            self.form.get(&self.name).unwrap_or_default().chars().take(64).collect();
        DecodeError::new(format!("Invalid value '{value}' for {}: not {wanted}", self.name))
    }

    /// Where the numbered items of a list are: their common prefix, with its dot.
    fn items(&self, list: &'static List) -> (String, BTreeSet<u32>) {
        let is_flat = self.is_flat || list.flattened || self.dialect == Dialect::Ec2;
        let prefix = if is_flat {
            format!("{}.", self.name)
        } else {
            format!("{}.{}.", self.name, list.item.wire)
        };
        let numbers = self.form.numbers(&prefix);
        (prefix, numbers)
    }
}

impl Decoder for Reader<'_> {
    fn null(&mut self) -> Result<bool> {
        Ok(false)
    }

    fn structure(&mut self, shape: &'static Structure, take: TakeMember<'_>) -> Result<()> {
        for (index, member) in shape.members.iter().enumerate() {
            let name = self.below(self.part(member));
            if self.form.has(&name) {
                let mut here = self.at(name)?;
                here.is_flat = member.flattened;
                take(index, &mut here)?;
            }
        }
        Ok(())
    }

    fn list(&mut self, shape: &'static List, take: TakeItem<'_>) -> Result<()> {
        let (prefix, numbers) = self.items(shape);
        for number in numbers {
            take(&mut self.at(format!("{prefix}{number}"))?)?;
        }
        Ok(())
    }

    fn map(&mut self, shape: &'static Map, take: TakeEntry<'_>) -> Result<()> {
        let entries = if shape.flattened || self.is_flat {
            format!("{}.", self.name)
        } else {
            format!("{}.entry.", self.name)
        };
        for number in self.form.numbers(&entries) {
            let key = format!("{entries}{number}.{}", shape.key.wire);
            let key = self.at(key)?.value()?.to_owned();
            let value = format!("{entries}{number}.{}", shape.value.wire);
            let is_scalar = !matches!(shape.value.shape, Shape::Structure(_));
            if is_scalar && !self.form.has(&value) {
                return Err(DecodeError::new(format!("The parameter {value} has no value")));
            }
            take(key, &mut self.at(value)?)?;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<String> {
        Ok(self.value()?.to_owned())
    }

    fn integer(&mut self, kind: NumberKind) -> Result<i64> {
        let value: i64 = self.value()?.trim().parse().map_err(|_| self.bad("a whole number"))?;
        if kind == NumberKind::Integer && i32::try_from(value).is_err() {
            return Err(self.bad("a whole number of 32 bits"));
        }
        Ok(value)
    }

    fn double(&mut self) -> Result<f64> {
        match self.value()? {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            text => text.trim().parse().map_err(|_| self.bad("a number")),
        }
    }

    fn boolean(&mut self) -> Result<bool> {
        match self.value()? {
            text if text.eq_ignore_ascii_case("true") => Ok(true),
            text if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(self.bad("a boolean")),
        }
    }

    fn timestamp(&mut self, format: Option<TimestampFormat>) -> Result<Timestamp> {
        let format = format.unwrap_or(TimestampFormat::Iso8601);
        timestamp::parse(self.value()?, format).ok_or_else(|| self.bad("a timestamp"))
    }

    fn blob(&mut self) -> Result<Bytes> {
        let bytes = BASE64.decode(self.value()?).map_err(|_| self.bad("base64"))?;
        Ok(Bytes::from(bytes))
    }

    fn document(&mut self) -> Result<serde_json::Value> {
        Err(DecodeError::new("Documents can not be sent as parameters"))
    }
}
