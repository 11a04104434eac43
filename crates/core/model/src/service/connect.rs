//! Service Connect: the namespace that a revision's tasks are in, and what they offer to others there.
//!
//! An offer is an endpoint: a name and a port at which the tasks of the namespace reach whatever is an instance of the
//! offer's service of Cloud Map. The name means an address of [`CONNECT_RANGE`] in each of them, which is the same in all
//! and stays the name's as long as somebody offers it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use traffic::connect::CONNECT_RANGE;
pub use traffic::connect::ConnectProtocol;

use crate::discovery::MapId;
use crate::document::Document;

/// The last number of an address that a name may have.
pub const VIP_NUMBER_MAX: u16 = 0xfe_ff;

/// `serviceConnectConfiguration` of a revision, enabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConnect {
    pub namespace: MapId,
    /// As it was sent, in JSON.
    pub document: Document,
    /// None: its tasks only reach others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<ConnectOffer>,
}

/// A port of a service's tasks, offered to the tasks of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectOffer {
    /// The service of Cloud Map whose instances the tasks are.
    pub service: MapId,
    pub discovery_name: String,
    pub container_port: u16,
    pub endpoint: ConnectEndpoint,
}

/// What the tasks of a namespace reach an offer by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectEndpoint {
    /// In lower case.
    pub name: String,
    pub port: u16,
    /// Of the name's address.
    pub number: u16,
    pub protocol: ConnectProtocol,
    /// After which a connection ends that carries nothing; 0: never.
    pub idle_s: u32,
    /// How long a request may take; 0: as long as it takes. Of TCP nobody knows what a request is.
    pub request_s: u32,
}

impl ConnectEndpoint {
    pub fn address(&self) -> Ipv4Addr {
        let (network, _) = CONNECT_RANGE;
        Ipv4Addr::from_bits(network.to_bits() | u32::from(self.number))
    }
}
