//! What a balancer's process tells the region.

use std::collections::BTreeMap;

use longshore_types::Timestamp;
use serde::{Deserialize, Serialize};
use traffic::figures::Counted;

use crate::balancer::InterfaceRef;
use crate::ids::{GroupId, ListenerId, TargetKey};

/// Everything that one balancer's process sees; sent whole whenever anything in it changed, and at least every
/// [`REPORT_INTERVAL_MS`]. What a process finds counts for three intervals; what it may hold is waited for longer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which process speaks; its own choice, kept over restarts.
    pub node: String,
    /// The version it serves by: no request that begins after this report was made is decided by an earlier one.
    ///
    /// So a draining target is confirmed by a node once `version` is at least the one in which it became draining and
    /// [`in_flight`](TargetReport::in_flight) of it is 0, or the target is not named at all.
    pub version: u64,
    pub targets: Vec<TargetReport>,
    /// Where listeners are reached at this machine's own address: those of internet-facing balancers, with the port that was
    /// free for them.
    #[serde(default)]
    pub local: Vec<(ListenerId, std::net::SocketAddr)>,
    /// Interfaces of balancers that are on this machine, and at which all their listeners take connections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serving: Vec<InterfaceRef>,
    /// Interfaces that are about to go, and at which connections are open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub busy: Vec<InterfaceRef>,
    /// Interfaces in whose networks the socket is there that egress addresses lead to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<InterfaceRef>,
    /// What was counted since then.
    #[serde(default)]
    pub counting_since: Timestamp,
    /// By the names under which balancers have their requests counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, Counted>,
}

/// How often a process reports though nothing changed.
pub const REPORT_INTERVAL_MS: u64 = 10_000;

/// One target of one group as a balancer sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetReport {
    pub group: GroupId,
    pub target: TargetKey,
    /// Of which registration it speaks.
    pub registered_at: Timestamp,
    pub finding: Finding,
    /// Requests, websockets and flows that it holds at this moment.
    pub in_flight: u32,
    #[serde(default, skip_serializing_if = "Anomaly::is_none")]
    pub anomaly: Anomaly,
}

/// How a target of HTTP does beside the others of its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// It fails much more often than they.
    pub is_seen: bool,
    /// It is given less than its share for that.
    pub is_mitigated: bool,
}

impl Anomaly {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What two processes see together.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            is_seen: self.is_seen || other.is_seen,
            is_mitigated: self.is_mitigated || other.is_mitigated,
        }
    }
}

/// What checks found, in AWS's reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// No check has been decisive: `Elb.InitialHealthChecking`.
    Initial,
    Healthy,
    /// `Target.ResponseCodeMismatch`: `Health checks failed with these codes: [503]`.
    CodeMismatch(u16),
    /// `Target.Timeout`.
    Timeout,
    /// `Target.FailedHealthChecks`: refused, cut off, or no HTTP.
    Failed,
    /// Not checked: draining, or unused.
    NotChecked,
}
