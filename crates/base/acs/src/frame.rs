//! A frame of either socket: one JSON object with a type and a message.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A text frame before its message is looked at; an error object has neither member.
#[derive(Debug, Deserialize)]
pub struct Envelope<'a> {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    #[serde(borrow)]
    pub message: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Reads a frame that must have a type.
    pub(crate) fn typed(text: &'a str) -> Result<(String, Self), serde_json::Error> {
        let mut envelope: Self = serde_json::from_str(text)?;
        let kind = envelope.kind.take();
        let kind = kind.ok_or_else(|| serde::de::Error::missing_field("type"))?;
        Ok((kind, envelope))
    }

    /// The message's text, or an empty object.
    pub fn body(&self) -> &'a str {
        self.message.map_or("{}", RawValue::get)
    }

    /// The message, or an empty one.
    pub fn read<T: Deserialize<'a>>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.body())
    }
}

#[derive(Debug, Serialize)]
struct Outgoing<'a, T> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a T,
}

/// The text of a frame.
pub fn frame<T: Serialize>(kind: &str, message: &T) -> String {
    serde_json::to_string(&Outgoing { kind, message }).expect("a message has string keys only")
}
