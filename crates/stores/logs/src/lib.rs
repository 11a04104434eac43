//! The region's log store: groups, streams and their events, as CloudWatch Logs keeps them.
//!
//! ```text
//! put ──► writer thread ──► journal (one fdatasync for all that waited) ──► stream file ──► index
//! get, filter ◄── stream files, found through the index of each stream
//! ```
//!
//! One journal takes every change of every stream, so a burst of two hundred tasks that each
//! write their first line costs a few disk flushes and not two hundred. The stream files are
//! written beside it without waiting; a checkpoint flushes them and drops the journal.
//! [`pattern`] is the filter pattern language, which knows nothing of the store.
//!
//! **Invariants:** what was answered is durable; after a crash every answered event is there and
//! no part of an unanswered batch is visible; memory grows with groups and streams, never with
//! events.

#![allow(
    clippy::disallowed_types,
    reason = "maps that are looked up by key; no decision goes through them in order"
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as they like"))]

mod catalog;
mod checkpoint;
mod error;
mod event;
mod filter;
mod format;
mod frame;
mod journal;
mod limits;
mod logs;
mod names;
pub mod pattern;
mod put;
mod read;
mod sealing;
mod stream_file;
mod writer;

pub use catalog::{GroupClass, GroupPolicy, GroupSettings};
pub use error::LogsError;
pub use event::{Event, Gap, InputEvent};
pub use filter::{FilterQuery, Filtered, FilteredEvent, StreamChoice};
pub use limits::*;
pub use logs::{GroupInfo, Logs, StreamInfo, StreamOrder, StreamPlace, StreamsPage};
pub use names::{GroupName, NameError, StreamName};
pub use put::{Accepted, PutKey};
pub use read::{Events, GetQuery};
pub use sealing::{Opener, SealError, SealedGroup, Sealer};
