//! Which events a rule wants.

use crate::Json;

/// Why a text is no pattern, in EventBridge's words: `Event pattern is not valid. Reason: …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Event pattern is not valid. Reason: {reason}")]
pub struct PatternError {
    pub reason: String,
}

/// An event pattern, read once and then asked.
#[derive(Clone, Debug)]
pub struct Pattern {}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        todo!("{text}")
    }

    /// Whether an event, of which `event` is the whole envelope, is one that the rule wants.
    pub fn matches(&self, event: &Json) -> bool {
        todo!("{event}")
    }

    /// Whether it may want events of a source; never no where it does.
    pub fn may_want(&self, source: &str) -> bool {
        todo!("{source}")
    }
}
