//! The audit log: who asked for what, what was decided, and what decided it.
//!
//! One line of JSON for each request, in files below `audit/` of the data directory that only their owner reads. They are
//! appended to by a thread of their own: a request hands over what is to be said and goes on, whatever the disk does. What
//! did not fit into the queue is counted, and the next line says how many were lost. The files together are bounded; the
//! oldest goes first.
//!
//! **Invariant:** a line holds names, and nothing of a request's or an answer's body: no secret comes here.

mod entry;
mod reader;
mod writer;

pub use entry::{Decision, Entry, Line, Outcome};
pub use reader::{Filter, Reader, find};
pub use writer::{AuditError, Log};

/// The log's directory within the data directory.
pub const AUDIT_DIR: &str = "audit";

/// Bounds of the log.
pub mod limits {
    /// Lines that wait to be written; more are lost, and counted.
    pub const QUEUE_MAX: usize = 8_192;
    /// A file that is longer is closed, and another is begun.
    pub const FILE_BYTES_MAX: u64 = 16 << 20;
    /// Files that are kept.
    pub const FILES_MAX: usize = 16;
    /// Resources that a line names.
    pub const RESOURCES_MAX: usize = 20;
    /// Characters of a user agent or of a resource's name that a line has.
    pub const TEXT_CHARS_MAX: usize = 512;
}
