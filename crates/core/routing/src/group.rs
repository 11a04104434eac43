//! Target groups, their targets, and how both are checked.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use longshore_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::balancer::InterfaceRef;
use crate::ids::{GroupId, TargetKey};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetGroup {
    pub id: GroupId,
    pub protocol: TargetProtocol,
    /// Of a group behind an application balancer.
    #[serde(default)]
    pub version: ProtocolVersion,
    pub health: HealthCheck,
    #[serde(default)]
    pub algorithm: Algorithm,
    #[serde(default)]
    pub stickiness: Stickiness,
    /// 0: none; else 30 to 900 seconds over which a new target's share grows.
    #[serde(default)]
    pub slow_start_s: u32,
    /// How long what a draining target holds may go on.
    pub deregistration_delay_s: u32,
    /// `deregistration_delay.connection_termination.enabled` (network balancers): flows are cut when the delay is over.
    #[serde(default)]
    pub cut_at_deregistration: bool,
    /// `target_health_state.unhealthy.connection_termination.enabled` (network balancers).
    #[serde(default = "yes")]
    pub cut_when_unhealthy: bool,
    /// `target_health_state.unhealthy.draining_interval_seconds`: where flows are not cut at once, they are after so long; 0: they
    /// are not.
    #[serde(default)]
    pub unhealthy_draining_s: u32,
    /// `preserve_client_ip.enabled` (network balancers).
    #[serde(default)]
    pub preserve_client_ip: bool,
    /// `proxy_protocol_v2.enabled` (network balancers), and where the target is an application balancer, which is told of
    /// clients by that header ([`crate::Introducers`]).
    #[serde(default)]
    pub proxy_protocol_v2: bool,
    /// With fewer healthy targets than this, all are used (fail open); at least 1.
    #[serde(default = "one")]
    pub healthy_count_min: u32,
    /// The same in percent of the registered targets, 1 to 100; `None`: off.
    #[serde(default)]
    pub healthy_percent_min: Option<u32>,
    /// `load_balancing.cross_zone.enabled`; `None`: as the balancer has it.
    #[serde(default)]
    pub cross_zone: Option<bool>,
    /// A target that fails again and again is left alone for a while, as long as there are others.
    #[serde(default)]
    pub avoids_outliers: bool,
    /// What targets that say who they are have to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<TargetIdentity>,
    #[serde(default)]
    pub targets: Vec<Target>,
}

/// Whose certificate a target has to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetIdentity {
    /// The name that it is for.
    pub name: String,
    /// In PEM: who must have signed it.
    pub authority_pem: String,
}

fn yes() -> bool {
    true
}

fn is_not(it: &bool) -> bool {
    !it
}

fn is_first(part: &u8) -> bool {
    *part == 0
}

fn one() -> u32 {
    1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetProtocol {
    Http,
    Https,
    Tcp,
    Tls,
    Udp,
    TcpUdp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProtocolVersion {
    #[default]
    Http1,
    Http2,
    Grpc,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    #[default]
    RoundRobin,
    LeastOutstandingRequests,
    WeightedRandom {
        /// Whether a target that fails more than the others is given less.
        mitigate_anomalies: bool,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stickiness {
    #[default]
    Off,
    /// The balancer's own cookie, `AWSALB`; valid this long after each answer.
    LbCookie { seconds: u32 },
    /// Follows a cookie that the target sets.
    AppCookie { name: String, seconds: u32 },
    /// By the client's address (network balancers).
    SourceIp,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub key: TargetKey,
    /// Where it is reached, at the key's port.
    pub address: IpAddr,
    /// The interface of a balancer by which it is reached; none: the machine's own network.
    #[serde(default)]
    pub by: Option<InterfaceRef>,
    #[serde(default)]
    pub zone: Option<String>,
    /// Which part of the group's targets it is of: see [`crate::WeightedGroup`].
    #[serde(default, skip_serializing_if = "is_first")]
    pub part: u8,
    /// It is met with TLS 1.3, whatever the group's protocol, and has to show the group's identity.
    #[serde(default, skip_serializing_if = "is_not")]
    pub shows_identity: bool,
    /// When it was registered: of the same key registered anew, all that was known is forgotten.
    pub registered_at: Timestamp,
    pub state: TargetState,
}

/// What the region knows of a target. [`Draining`](Self::Draining) and [`Unused`](Self::Unused) are its orders;
/// the others are what balancers reported, and only where a balancer that has not yet checked by itself begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetState {
    /// Registered, and no check has been decisive.
    Initial,
    Healthy,
    Unhealthy,
    /// Deregistered: no new request from now on; what is in flight may go on until `until`, then it is cut.
    Draining {
        until: Timestamp,
    },
    /// Of a group that no listener uses, or in a zone that is not enabled: neither checked nor asked.
    Unused,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub protocol: CheckProtocol,
    pub port: CheckPort,
    /// For HTTP, HTTPS and gRPC.
    #[serde(default)]
    pub path: String,
    pub interval_s: u32,
    pub timeout_s: u32,
    /// Passed checks in a row that make an unhealthy target healthy. A new target needs one.
    pub healthy_count: u32,
    /// Failed checks in a row that make a target unhealthy.
    pub unhealthy_count: u32,
    /// Status codes that pass: of HTTP, or of gRPC in a group of that version.
    #[serde(default)]
    pub matcher: Matcher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckProtocol {
    Http,
    Https,
    Tcp,
    /// Not checked: whoever tells of a target knows how it is.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckPort {
    /// `traffic-port`: the target's own.
    Traffic,
    Port(u16),
}

/// Codes that pass a check: `200`, `200,202`, `200-399`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matcher(pub Vec<(u16, u16)>);

impl Matcher {
    pub fn is_match(&self, code: u16) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&code))
    }
}

/// A text that names no codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' names no codes: expected such as 200, 200,202 or 200-299")]
pub struct NotAMatcher(pub String);

impl FromStr for Matcher {
    type Err = NotAMatcher;

    fn from_str(text: &str) -> Result<Self, NotAMatcher> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first <= last).then_some((first, last))
        };
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        ranges.map(Self).ok_or_else(|| NotAMatcher(text.to_owned()))
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}
