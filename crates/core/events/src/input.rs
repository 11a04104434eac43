//! What a target is given in an event's place.

use std::collections::BTreeMap;

use longshore_types::Timestamp;

use crate::Event;

/// Why paths and a template make no transformer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATransformer {
    // More to come; each Display is a sentence for behind "InputTransformer is not valid. Reason: ".
}

/// What a template may say of the rule that matched.
#[derive(Clone, Copy, Debug)]
pub struct RuleInfo<'a> {
    pub arn: &'a str,
    pub name: &'a str,
    /// When the event came in.
    pub ingested: Timestamp,
}

/// An input transformer, read once.
#[derive(Clone, Debug)]
pub struct InputTransformer {}

impl InputTransformer {
    /// `paths` by the variables' names.
    pub fn parse(paths: &BTreeMap<String, String>, template: &str) -> Result<Self, NotATransformer> {
        todo!("{paths:?} {template}")
    }

    /// The target's input.
    pub fn apply(&self, event: &Event, rule: RuleInfo<'_>) -> String {
        todo!("{event:?} {rule:?}")
    }
}
