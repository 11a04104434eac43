//! Events as EventBridge has them, the patterns that choose among them, and what targets are given of them.
//!
//! [`Event`] is the envelope; [`Pattern`] says which ones a rule wants; [`InputPath`] and [`InputTransformer`] make a
//! target's input of one. All of it works on [`Json`], which keeps numbers as they are written and members in their
//! order, since patterns compare numbers by their text and a target is to get what the sender wrote.
//!
//! **Invariant:** no text from outside makes anything here take more than time in proportion to pattern times event,
//! nor go deeper than [`limits::DEPTH_MAX`].

mod event;
mod input;
mod json;
pub mod limits;
mod matcher;
mod path;
mod pattern;
#[cfg(test)]
mod tests;

pub use event::Event;
pub use input::{InputTransformer, NotATransformer, RuleInfo};
pub use json::{Json, NotJson};
pub use path::{InputPath, NotAPath};
pub use pattern::{Pattern, PatternError};
