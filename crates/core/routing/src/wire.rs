//! How a balancer's process speaks to the region: two signed calls over the region's one listener, told by their
//! `x-amz-target`, as JSON in both directions. Neither carries a command.

use serde::{Deserialize, Serialize};

use crate::report::Report;
use crate::table::Update;

/// Asks for the table: [`ReadRequest`] → [`Update`].
pub const READ_TARGET: &str = "Longshore.ReadBalancers";
/// Tells what is seen: [`Report`] → `{}`.
pub const REPORT_TARGET: &str = "Longshore.ReportBalancers";

/// Asks for what changed since a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRequest {
    /// The version that the process has; 0 asks for everything at once.
    pub version: u64,
    /// How long the answer may wait for a change; after it, it is [`Update::Unchanged`].
    pub wait_ms: u64,
}

/// A call of a balancer's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Read(ReadRequest),
    Report(Report),
}

/// The answer to a call of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Read(Update),
    Reported,
}

/// Whether a target header names one of the calls.
pub fn is_call(target: &str) -> bool {
    matches!(target, READ_TARGET | REPORT_TARGET)
}
