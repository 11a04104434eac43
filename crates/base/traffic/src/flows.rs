//! What hosts tell of flows: packets of interfaces that are logged, counted by their ends.

use std::net::Ipv4Addr;

use longshore_types::EniId;
use serde::{Deserialize, Serialize};

/// How much it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub packets: u64,
    /// Of whole packets, their headers included.
    pub bytes: u64,
}

impl Count {
    pub fn is_empty(self) -> bool {
        self.packets == 0
    }

    /// What it is more than before; nothing if it is less.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(before.packets),
            bytes: self.bytes.saturating_sub(before.bytes),
        }
    }

    #[must_use]
    pub fn and(self, more: Self) -> Self {
        Self {
            packets: self.packets.saturating_add(more.packets),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }
}

/// By what packets of one flow are told from others, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowKey {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    /// 0 for protocols without ports, as the next.
    pub source_port: u16,
    pub destination_port: u16,
}

/// What an interface sent or was sent of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    pub eni: EniId,
    #[serde(flatten)]
    pub key: FlowKey,
    /// The interface is its source.
    pub is_egress: bool,
    #[serde(default)]
    pub accepted: Count,
    #[serde(default)]
    pub rejected: Count,
}

/// What a host saw within some seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FlowReport {
    /// Seconds since 1970.
    pub start_s: u64,
    pub end_s: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<Flow>,
    /// Interfaces with nothing to tell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quiet: Vec<EniId>,
    /// Interfaces of which there was more than could be counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<EniId>,
}

/// The name by which a host tells the region.
pub const REPORT_FLOWS: &str = "ReportFlows";
