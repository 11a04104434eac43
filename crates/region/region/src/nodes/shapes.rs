//! What these operations are asked and answer. The command line and the agent read the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use longshore_types::{ClusterName, Timestamp, Token};
use serde::{Deserialize, Serialize};

/// A token to be made.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateJoinToken {
    pub cluster: ClusterName,
    #[serde(default)]
    pub zone: Option<String>,
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    pub valid_ms: u64,
    #[serde(default)]
    pub uses_max: Option<u32>,
    pub key_ms: u64,
}

/// The one time that a token is shown.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedJoinToken {
    pub id: String,
    pub token: Token,
    pub endpoint: String,
    pub expires_at: Timestamp,
}

/// A token without what proves it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedJoinToken {
    pub id: String,
    pub cluster: String,
    pub zone: Option<String>,
    pub attributes: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub uses: u32,
    pub uses_max: Option<u32>,
    /// Why nobody can join by it any more.
    pub over: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevokeJoinToken {
    pub id: String,
}

/// A host that wants to join.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Join {
    pub token: Token,
    /// Drawn by the host before it asks for the first time; a repeated question has the same.
    pub host: String,
    pub host_name: String,
    #[serde(default)]
    pub release: Option<String>,
}

/// A key, and where it is good.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedKey {
    pub access_key_id: String,
    pub secret_access_key: Token,
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    pub node: String,
    pub key: IssuedKey,
    pub region: String,
    pub cluster: ClusterName,
    pub ranges: NodeRanges,
    /// What a managed instance is called.
    #[serde(default)]
    pub instance: Option<String>,
}

/// A host that wants to be a managed instance.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinByActivation {
    pub activation_id: String,
    pub activation_code: Token,
    /// Drawn by the host before it asks for the first time; a repeated question has the same.
    pub host: String,
    pub host_name: String,
    /// The only cluster that it will be an instance of.
    pub cluster: ClusterName,
    #[serde(default)]
    pub release: Option<String>,
    /// Its system's name and version.
    #[serde(default)]
    pub platform: Option<(String, String)>,
}

/// Addresses of tasks, which the host routes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRanges {
    pub vpc: String,
    pub bridge: String,
}

/// A host says that it is there.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckIn {
    #[serde(default)]
    pub release: Option<String>,
    /// SHA-256 of the program that it runs, in hexadecimal digits.
    #[serde(default)]
    pub digest: Option<String>,
    /// The run of upgrades in which it took no other program.
    #[serde(default)]
    pub failed_run: Option<Timestamp>,
    /// Why.
    #[serde(default)]
    pub failed_because: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckedIn {
    pub ranges: NodeRanges,
    /// Half of the key's time is over.
    pub is_due: bool,
    /// After so long it is to check in again.
    pub again_ms: u64,
    /// The region's release.
    pub release: String,
    /// The program that it is to take in the place of its own.
    #[serde(default)]
    pub upgrade: Option<OfferedRelease>,
}

/// The region's own program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferedRelease {
    /// The run of upgrades that it is offered in.
    pub run: Timestamp,
    pub release: String,
    /// SHA-256, in hexadecimal digits.
    pub digest: String,
    pub size: u64,
    /// Of processors, such as `x86_64`.
    pub architecture: String,
}

/// Hosts are to take the region's program.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartUpgrade {
    /// Their ids; none for all.
    #[serde(default)]
    pub nodes: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StartedUpgrade {
    pub release: String,
    pub digest: String,
    /// The ids of those that will be asked.
    pub queued: Vec<String>,
    /// Of those that run it already.
    pub current: Vec<String>,
}

/// A part of the region's program is wanted.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReadRelease {
    pub digest: String,
    pub offset: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadReleasePart {
    /// In Base64; empty past the end.
    pub bytes: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedNode {
    pub id: String,
    pub host_name: String,
    pub cluster: String,
    pub token: String,
    pub joined_at: Timestamp,
    pub release: Option<String>,
    /// Until when its newest key is good.
    pub key_expires_at: Timestamp,
    /// The instances that it registered and that are still there.
    pub instances: Vec<String>,
    /// SHA-256 of the program that it runs.
    #[serde(default)]
    pub digest: Option<String>,
    /// Whether that is the region's.
    #[serde(default)]
    pub is_current: bool,
    /// `queued`, `asked` or `failed`, while it is to take the region's.
    #[serde(default)]
    pub upgrade: Option<String>,
    /// Why it failed to.
    #[serde(default)]
    pub upgrade_failed_because: Option<String>,
}

/// How packets go between the host of an instance and others.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BetweenHostsOf {
    /// Its ARN.
    pub instance: String,
    /// Such as `encrypted` or `in the clear`, and what there is to say of it.
    pub says: String,
    /// What the host gives to others of the layers of images; nothing if it gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<String>,
}

/// A listener of an internet-facing load balancer at a host's own address.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListeningOn {
    /// The ARN of the host's instance; none: the region's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// `app/web/0123456789abcdef`
    pub balancer: String,
    /// In AWS's words: `HTTP`.
    pub protocol: String,
    /// The listener's own.
    pub port: u16,
    pub address: SocketAddr,
}

/// Answered by lists.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed<T> {
    pub items: Vec<T>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoveNode {
    /// The node's id, or the ARN of its instance.
    pub id: String,
}

/// Answered by what has nothing to say.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Done {}
