//! Walking shapes without knowing the protocol.
//!
//! A shape tells an [`Encoder`] what it holds, in the order of its table; a [`Decoder`] asks a shape
//! to take one member at a time, in whatever order they arrive. A member that is absent stays `None`.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use longshore_types::Timestamp;

use crate::shape::{List, Map, Member, NumberKind, Shape, Structure, TimestampFormat};

/// How deep values may nest, in any protocol.
pub const DEPTH_MAX: usize = 64;

/// Why an input could not be read as its shape. The text is for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    pub message: String,
}

impl DecodeError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// Free-form data inside a shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document(pub serde_json::Value);

/// Something that can be written in any protocol.
pub trait Encode {
    fn encode(&self, shape: Shape, out: &mut dyn Encoder);
}

/// Something that can be read from any protocol.
pub trait Decode: Sized {
    fn decode(shape: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError>;
}

/// A structure: a value whose table is known without being told.
pub trait Record: Encode + Decode {
    fn table() -> &'static Structure;
}

/// Takes a walk over a value. Calls come properly nested; before each value of a structure comes
/// [`Encoder::member`], of a list [`Encoder::item`], of a map [`Encoder::key`].
pub trait Encoder {
    fn begin_structure(&mut self, shape: &'static Structure);
    fn member(&mut self, member: &'static Member);
    fn end_structure(&mut self, shape: &'static Structure);
    fn begin_list(&mut self, shape: &'static List, count: usize);
    fn item(&mut self, shape: &'static List);
    fn end_list(&mut self, shape: &'static List);
    fn begin_map(&mut self, shape: &'static Map, count: usize);
    fn key(&mut self, shape: &'static Map, key: &str);
    fn end_map(&mut self, shape: &'static Map);
    fn text(&mut self, value: &str);
    fn integer(&mut self, value: i64);
    fn float(&mut self, value: f32);
    fn double(&mut self, value: f64);
    fn boolean(&mut self, value: bool);
    fn timestamp(&mut self, value: Timestamp, format: Option<TimestampFormat>);
    fn blob(&mut self, value: &[u8]);
    fn document(&mut self, value: &serde_json::Value);
    /// A hole in a list or map; members that are absent are not walked at all.
    fn null(&mut self);
}

/// Takes one member of a structure: its index in the table, and where to read it from.
pub type TakeMember<'a> = &'a mut dyn FnMut(usize, &mut dyn Decoder) -> Result<(), DecodeError>;
/// Takes one item of a list.
pub type TakeItem<'a> = &'a mut dyn FnMut(&mut dyn Decoder) -> Result<(), DecodeError>;
/// Takes one entry of a map.
pub type TakeEntry<'a> = &'a mut dyn FnMut(String, &mut dyn Decoder) -> Result<(), DecodeError>;

/// Gives out the value it stands at.
pub trait Decoder {
    /// Whether the value here is an explicit nothing, which is then passed over.
    fn null(&mut self) -> Result<bool, DecodeError>;
    fn structure(
        &mut self,
        shape: &'static Structure,
        take: TakeMember<'_>,
    ) -> Result<(), DecodeError>;
    fn list(&mut self, shape: &'static List, take: TakeItem<'_>) -> Result<(), DecodeError>;
    fn map(&mut self, shape: &'static Map, take: TakeEntry<'_>) -> Result<(), DecodeError>;
    fn text(&mut self) -> Result<String, DecodeError>;
    /// A whole number that fits the kind.
    fn integer(&mut self, kind: NumberKind) -> Result<i64, DecodeError>;
    fn double(&mut self) -> Result<f64, DecodeError>;
    fn boolean(&mut self) -> Result<bool, DecodeError>;
    fn timestamp(&mut self, format: Option<TimestampFormat>) -> Result<Timestamp, DecodeError>;
    fn blob(&mut self) -> Result<Bytes, DecodeError>;
    fn document(&mut self) -> Result<serde_json::Value, DecodeError>;
}

/// Reads a member into its place; an explicit null leaves it absent.
pub fn take_member<T: Decode>(
    place: &mut Option<T>,
    table: &'static Structure,
    index: usize,
    input: &mut dyn Decoder,
) -> Result<(), DecodeError> {
    *place = if input.null()? { None } else { Some(T::decode(table.members[index].shape, input)?) };
    Ok(())
}

/// Writes a member if it is there.
pub fn give_member<T: Encode>(
    place: &Option<T>,
    table: &'static Structure,
    index: usize,
    out: &mut dyn Encoder,
) {
    if let Some(value) = place {
        let member = &table.members[index];
        out.member(member);
        value.encode(member.shape, out);
    }
}

impl Encode for String {
    fn encode(&self, _: Shape, out: &mut dyn Encoder) {
        out.text(self);
    }
}

impl Decode for String {
    fn decode(_: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError> {
        input.text()
    }
}

impl Encode for i32 {
    fn encode(&self, _: Shape, out: &mut dyn Encoder) {
        out.integer(i64::from(*self));
    }
}

impl Decode for i32 {
    fn decode(_: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError> {
        let value = input.integer(NumberKind::Integer)?;
        Self::try_from(value)
            .map_err(|_| DecodeError::new(format!("{value} can not be converted to an Integer")))
    }
}

impl Encode for i64 {
    fn encode(&self, _: Shape, out: &mut dyn Encoder) {
        out.integer(*self);
    }
}

impl Decode for i64 {
    fn decode(_: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError> {
        input.integer(NumberKind::Long)
    }
}

impl Encode for f32 {
    fn encode(&self, _: Shape, out: &mut dyn Encoder) {
        out.float(*self);
    }
}

impl Decode for f32 {
    #[expect(clippy::cast_possible_truncation, reason = "a float member has a float's precision")]
    fn decode(_: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError> {
        Ok(input.double()? as f32)
    }
}

impl Encode for f64 {
    fn encode(&self, _: Shape, out: &mut dyn Encoder) {
        out.double(*self);
    }
}

impl Decode for f64 {
    fn decode(_: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError> {
        input.double()
    }
}

impl Encode for bool {
    fn encode(&self, _: Shape, out: &mut dyn Encoder) {
        out.boolean(*self);
    }
}

impl Decode for bool {
    fn decode(_: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError> {
        input.boolean()
    }
}

impl Encode for Timestamp {
    fn encode(&self, shape: Shape, out: &mut dyn Encoder) {
        out.timestamp(*self, time_format(shape));
    }
}

impl Decode for Timestamp {
    fn decode(shape: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError> {
        input.timestamp(time_format(shape))
    }
}

fn time_format(shape: Shape) -> Option<TimestampFormat> {
    match shape {
        Shape::Timestamp(format) => format,
        _ => None,
    }
}

impl Encode for Bytes {
    fn encode(&self, _: Shape, out: &mut dyn Encoder) {
        out.blob(self);
    }
}

impl Decode for Bytes {
    fn decode(_: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError> {
        input.blob()
    }
}

impl Encode for Document {
    fn encode(&self, _: Shape, out: &mut dyn Encoder) {
        out.document(&self.0);
    }
}

impl Decode for Document {
    fn decode(_: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError> {
        Ok(Self(input.document()?))
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self, shape: Shape, out: &mut dyn Encoder) {
        (**self).encode(shape, out);
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(shape: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError> {
        Ok(Self::new(T::decode(shape, input)?))
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, shape: Shape, out: &mut dyn Encoder) {
        let Shape::List(list) = shape else { unreachable!("a Vec is generated for lists only") };
        out.begin_list(list, self.len());
        for value in self {
            out.item(list);
            value.encode(list.item.shape, out);
        }
        out.end_list(list);
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(shape: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError> {
        let Shape::List(list) = shape else { unreachable!("a Vec is generated for lists only") };
        let mut values = Self::new();
        input.list(list, &mut |input| {
            values.push(T::decode(list.item.shape, input)?);
            Ok(())
        })?;
        Ok(values)
    }
}

impl<T: Encode> Encode for BTreeMap<String, T> {
    fn encode(&self, shape: Shape, out: &mut dyn Encoder) {
        let Shape::Map(map) = shape else { unreachable!("a map is generated for maps only") };
        out.begin_map(map, self.len());
        for (key, value) in self {
            out.key(map, key);
            value.encode(map.value.shape, out);
        }
        out.end_map(map);
    }
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    fn decode(shape: Shape, input: &mut dyn Decoder) -> Result<Self, DecodeError> {
        let Shape::Map(map) = shape else { unreachable!("a map is generated for maps only") };
        let mut values = Self::new();
        input.map(map, &mut |key, input| {
            values.insert(key, T::decode(map.value.shape, input)?);
            Ok(())
        })?;
        Ok(values)
    }
}

/// The walks of a generated structure: each member with its index in the table.
#[macro_export]
macro_rules! structure {
    ($name:ident, $table:expr, { $($index:literal $member:ident),* $(,)? }) => {
        impl $crate::codec::Encode for $name {
            fn encode(&self, _: $crate::shape::Shape, out: &mut dyn $crate::codec::Encoder) {
                out.begin_structure($table);
                $($crate::codec::give_member(&self.$member, $table, $index, out);)*
                out.end_structure($table);
            }
        }

        impl $crate::codec::Decode for $name {
            #[allow(unused_mut, unused_variables)]
            fn decode(
                _: $crate::shape::Shape,
                input: &mut dyn $crate::codec::Decoder,
            ) -> Result<Self, $crate::codec::DecodeError> {
                let mut value = Self::default();
                input.structure($table, &mut |index, input| match index {
                    $($index => {
                        $crate::codec::take_member(&mut value.$member, $table, $index, input)
                    })*
                    _ => Ok(()),
                })?;
                Ok(value)
            }
        }

        impl $crate::codec::Record for $name {
            fn table() -> &'static $crate::shape::Structure {
                $table
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                $crate::debug::fmt(self, $table, f)
            }
        }
    };
}

/// An enumeration whose unknown values survive.
#[macro_export]
macro_rules! enumeration {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
            /// A value that the model does not name.
            Unknown(String),
        }

        impl $name {
            /// The values that the model names.
            pub const VALUES: &'static [&'static str] = &[$($text),*];

            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown(text) => text,
                }
            }

            /// Whether the model names this value.
            pub fn is_known(&self) -> bool {
                !matches!(self, Self::Unknown(_))
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    _ => Self::Unknown(text.to_owned()),
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::codec::Encode for $name {
            fn encode(&self, _: $crate::shape::Shape, out: &mut dyn $crate::codec::Encoder) {
                out.text(self.as_str());
            }
        }

        impl $crate::codec::Decode for $name {
            fn decode(
                _: $crate::shape::Shape,
                input: &mut dyn $crate::codec::Decoder,
            ) -> Result<Self, $crate::codec::DecodeError> {
                Ok(Self::from(input.text()?.as_str()))
            }
        }
    };
}

impl fmt::Debug for dyn Encoder + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

impl fmt::Debug for dyn Decoder + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}
