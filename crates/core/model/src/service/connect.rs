//! Service Connect: the namespace that a revision's tasks are in, and what they offer to others there.
//!
//! An offer is an endpoint: a name and a port at which the tasks of the namespace reach whatever is an instance of the
//! offer's service of Cloud Map. The name means an address of [`CONNECT_RANGE`] in each of them, which is the same in all
//! and stays the name's as long as somebody offers it.

use std::net::Ipv4Addr;

use longshore_types::{AccountId, Uuid};
use serde::{Deserialize, Serialize};
use traffic::connect::CONNECT_RANGE;
pub use traffic::connect::{CONNECT_PORT as EGRESS_PORT, ConnectProtocol, TestHeader};

use crate::discovery::MapId;
use crate::document::Document;

/// The last number of an address that a name may have.
pub const VIP_NUMBER_MAX: u16 = 0xfe_ff;

/// The header that tells tests from other requests where nothing is said, as at Amazon.
pub const TEST_HEADER: &str = "x-amzn-ecs-blue-green-test";

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
    /// Its tasks are met with TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<OfferTls>,
    /// The port at which they are met, if that is not the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_port: Option<u16>,
    /// What tells tests from other requests, while deployments shift traffic; none: [`TEST_HEADER`], whatever its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestHeader>,
}

impl ConnectOffer {
    /// Where tasks that offer it are met.
    pub fn port(&self) -> u16 {
        self.ingress_port.unwrap_or(self.container_port)
    }

    /// Whether its tasks' host stands in front of them.
    pub fn is_fronted(&self) -> bool {
        self.tls.is_some() || self.ingress_port.is_some()
    }
}

/// How the certificate of an offer is kept, and in whose name it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferTls {
    /// Of KMS, by which the certificate's key is sealed; none: the account's own for such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<(AccountId, Uuid)>,
    /// The role with which it is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
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
