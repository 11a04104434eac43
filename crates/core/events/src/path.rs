//! Which part of an event is meant: `$.detail.containers[0].name`.

use crate::Json;

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it begins with $, and goes on with .name, ['name'] and [number]")]
pub struct NotAPath;

/// A path into an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputPath {}

impl InputPath {
    pub fn parse(text: &str) -> Result<Self, NotAPath> {
        todo!("{text}")
    }

    /// What is there, if anything is.
    pub fn of<'a>(&self, event: &'a Json) -> Option<&'a Json> {
        todo!("{event}")
    }
}
