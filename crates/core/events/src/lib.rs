//! Events as EventBridge has them, the patterns that choose among them, and what targets are given of them.
//!
//! [`Event`] is the envelope; [`Pattern`] says which ones a rule wants; [`InputPath`] and [`InputTransformer`] make a
//! target's input of one. All of it works on [`Json`], which keeps numbers as they are written and members in their
//! order, since patterns compare numbers by their text and a target is to get what the sender wrote.
//!
//! **Invariant:** no text from outside makes a pattern take more than the [`Effort`] that it is given, a target's input larger
//! than [`limits::INPUT_BYTES_MAX`], nor anything go deeper than [`limits::DEPTH_MAX`].

mod effort;
mod event;
mod input;
mod json;
pub mod limits;
mod matcher;
mod path;
mod pattern;
#[cfg(test)]
mod tests;

pub use effort::{Effort, Exhausted};
pub use event::Event;
pub use input::{InputTransformer, NotATransformer, RuleInfo, TooLong};
pub use json::{Json, NotJson};
pub use path::{InputPath, NotAPath};
pub use pattern::{Facts, Pattern, PatternError};
