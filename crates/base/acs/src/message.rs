//! The messages of the work socket (ACS).
//!
//! The region sends [`ToAgent`] and understands [`FromAgent`]. Agents read by the type's name, message by message, so
//! that one that cannot be read loses nothing else.

use longshore_types::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use traffic::connect::{ConnectReport, HostConnect};
use traffic::feed::Change;
use traffic::tunnels::HostTunnels;
use traffic::{HostNames, SecurityGroup};

use crate::frame::{Envelope, frame};
use crate::task::{Attachment, NetworkInterface, RegistryAuthentication, RoleCredentials, Task};

/// What every message that wants an acknowledgement carries: to whom it goes, and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Header {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_instance_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}

impl Header {
    /// The acknowledgement of a complete header; `None` if a required member is missing.
    pub fn ack(&self, reason: Option<&str>) -> Option<Ack> {
        let present = |member: &Option<String>| member.clone().filter(|text| !text.is_empty());
        Some(Ack {
            cluster: present(&self.cluster_arn)?,
            container_instance: present(&self.container_instance_arn)?,
            message_id: present(&self.message_id)?,
            reason: reason.map(str::to_owned),
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Heartbeat {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatAck {
    pub message_id: String,
}

/// Tasks to run or to stop. Whoever reads one takes `T` as [`serde_json::Value`], so that one bad task does not lose
/// the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payload<T = Task> {
    #[serde(flatten)]
    pub header: Header,
    #[serde(default = "Vec::new")]
    pub tasks: Vec<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq_num: Option<i64>,
    /// In milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_at: Option<u64>,
}

/// Replaces the credentials of a task that the agent has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NewCredentials {
    #[serde(flatten)]
    pub header: Header,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_cluster_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_credentials: Option<RoleCredentials>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsAck {
    pub message_id: String,
    pub credentials_id: String,
    pub expiration: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachInterfaces {
    #[serde(flatten)]
    pub header: Header,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_cluster_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_timeout_ms: Option<i64>,
    /// In milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generated_at: Option<u64>,
    pub elastic_network_interfaces: Vec<NetworkInterface>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfirmAttachment {
    #[serde(flatten)]
    pub header: Header,
    pub task_arn: Option<String>,
    pub attachment: Option<Attachment>,
}

/// What an agent of ours must know of its host's network before it makes the interfaces that come after it on the
/// socket. Ours alone: Amazon's agent has it from its VPC and is never sent one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostNetwork {
    #[serde(flatten)]
    pub header: Header,
    /// The commit of the region that it is as of.
    pub version: u64,
    /// Whatever is not said is not so any more; otherwise it is as it was.
    pub is_whole: bool,
    /// The next message goes on with this one: none of it counts before.
    pub is_more: bool,
    /// Each complete, by id.
    pub security_groups: Vec<SecurityGroup>,
    /// What is new of the VPCs in which the host has interfaces, those of other hosts in them included.
    #[serde(skip_serializing_if = "Change::is_empty")]
    pub network: Change,
    /// What is said of names.
    #[serde(skip_serializing_if = "HostNames::is_empty")]
    pub names: HostNames,
    /// What is said of Service Connect.
    #[serde(skip_serializing_if = "HostConnect::is_empty")]
    pub connect: HostConnect,
    /// What is said of the encrypted ways to other hosts.
    #[serde(skip_serializing_if = "HostTunnels::is_empty")]
    pub tunnels: HostTunnels,
    /// The region's time as it says so: the host's clock may be another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Timestamp>,
}

impl HostNetwork {
    /// The name of its type on the socket.
    pub const KIND: &str = "LongshoreHostNetworkMessage";
}

/// How an agent of ours sees to it that both sides notice when the link is cut. Ours alone: Amazon's agent answers
/// pings and sends none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Liveness {
    #[serde(flatten)]
    pub header: Header,
    /// How often it pings the region.
    pub ping_ms: u64,
    /// A region of which nothing came for so long, not even a pong, is connected to anew.
    pub silence_ms_max: u64,
    /// An agent that the region has not heard of for so long is lost: its tasks are replaced.
    pub lost_after_ms: u64,
}

impl Liveness {
    /// The name of its type on the socket.
    pub const KIND: &str = "LongshoreLivenessMessage";
}

/// By which key a host checks what the region grants others of the layers that it gives. Ours alone: the answer to a
/// [`LayersReport`] that says all.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LayerKey {
    #[serde(flatten)]
    pub header: Header,
    pub key: String,
    /// The region's time as it says so: tickets end by it.
    pub told_at: Timestamp,
}

impl LayerKey {
    /// The name of its type on the socket.
    pub const KIND: &str = "LongshoreLayerKeyMessage";
}

impl std::fmt::Debug for LayerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerKey").field("told_at", &self.told_at).finish_non_exhaustive()
    }
}

/// Images that the host shall have before a task asks for them. Ours alone; nobody acknowledges it, and what is lost of it is
/// fetched when a task asks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PrePull {
    #[serde(flatten)]
    pub header: Header,
    /// Whose they are.
    pub account: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_role_credentials: Option<RoleCredentials>,
    pub images: Vec<PrePullImage>,
}

/// One of [`PrePull::images`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PrePullImage {
    pub image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_authentication: Option<RegistryAuthentication>,
}

impl PrePull {
    /// The name of its type on the socket.
    pub const KIND: &str = "LongshorePrePullMessage";
}

/// What an agent of ours says of the layers that its host gives to others. Ours alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LayersReport {
    /// Whatever is not said is not so any more; otherwise it is as it was.
    pub is_whole: bool,
    /// Where they are given, at the host's address towards others.
    pub port: u16,
    /// The fingerprint of the certificate that it shows to others.
    pub certificate: String,
    pub here: Vec<Digest>,
    pub gone: Vec<Digest>,
    /// Bytes, since the agent began.
    pub given: u64,
    pub taken: u64,
}

impl LayersReport {
    /// The name of its type on the socket.
    pub const KIND: &str = "LongshoreLayersMessage";
}

/// Which tasks belong on the instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifest {
    #[serde(flatten)]
    pub header: Header,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<i64>,
    /// In milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generated_at: Option<u64>,
    pub tasks: Vec<ManifestTask>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestTask {
    pub task_arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_cluster_arn: Option<String>,
    pub desired_status: String,
}

/// The tasks that an agent has beside the manifest's, and would stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StopVerification {
    /// The manifest's.
    pub message_id: String,
    pub stop_candidates: Vec<ManifestTask>,
}

/// Which of them it shall stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StopVerificationAck {
    /// The manifest's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// In milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generated_at: Option<u64>,
    pub stop_tasks: Vec<ManifestTask>,
}

/// That a message was taken in, or why it was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ack {
    pub cluster: String,
    pub container_instance: String,
    pub message_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What an agent is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum ToAgent {
    Heartbeat(Heartbeat),
    Payload(Payload),
    AttachTaskInterfaces(AttachInterfaces),
    RoleCredentials(NewCredentials),
    Manifest(Manifest),
    StopVerificationAck(StopVerificationAck),
    HostNetwork(HostNetwork),
    Liveness(Liveness),
    LayerKey(LayerKey),
    PrePull(PrePull),
}

impl ToAgent {
    pub fn to_text(&self) -> String {
        match self {
            Self::Heartbeat(message) => frame("HeartbeatMessage", message),
            Self::Payload(message) => frame("PayloadMessage", message),
            Self::AttachTaskInterfaces(message) => {
                frame("AttachTaskNetworkInterfacesMessage", message)
            }
            Self::RoleCredentials(message) => frame("IAMRoleCredentialsMessage", message),
            Self::Manifest(message) => frame("TaskManifestMessage", message),
            Self::StopVerificationAck(message) => frame("TaskStopVerificationAck", message),
            Self::HostNetwork(message) => frame(HostNetwork::KIND, message),
            Self::Liveness(message) => frame(Liveness::KIND, message),
            Self::LayerKey(message) => frame(LayerKey::KIND, message),
            Self::PrePull(message) => frame(PrePull::KIND, message),
        }
    }
}

/// The type of what an agent of ours says of its host's proxy, a [`ConnectReport`].
pub const CONNECT_REPORT: &str = "LongshoreConnectReportMessage";

/// What an agent says.
#[derive(Debug, PartialEq, Eq)]
pub enum FromAgent {
    Ack {
        message_id: String,
    },
    Nack {
        message_id: String,
        reason: String,
    },
    HeartbeatAck,
    StopVerification(StopVerification),
    /// How the host's proxy is. Ours alone.
    Connect(ConnectReport),
    /// Which layers the host gives to others. Ours alone.
    Layers(LayersReport),
    /// Something that asks for nothing, or that we don't know.
    Other {
        kind: String,
    },
}

impl FromAgent {
    pub fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        let (kind, envelope) = Envelope::typed(text)?;
        Ok(match kind.as_str() {
            "AckRequest" => Self::Ack { message_id: envelope.read::<Ack>()?.message_id },
            "NackRequest" => {
                let Ack { message_id, reason, .. } = envelope.read()?;
                Self::Nack { message_id, reason: reason.unwrap_or_default() }
            }
            "HeartbeatAckRequest" => Self::HeartbeatAck,
            CONNECT_REPORT => Self::Connect(envelope.read()?),
            LayersReport::KIND => Self::Layers(envelope.read()?),
            "TaskStopVerificationMessage" => Self::StopVerification(envelope.read()?),
            _ => Self::Other { kind },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_wrapped_in_its_type() {
        let message_id = Some("m".to_owned());
        let beat = Heartbeat { healthy: Some(true), message_id: message_id.clone() };
        let text = r#"{"type":"HeartbeatMessage","message":{"healthy":true,"messageId":"m"}}"#;
        assert_eq!(ToAgent::Heartbeat(beat).to_text(), text);
        let header = Header {
            cluster_arn: Some("c".into()),
            container_instance_arn: Some("i".into()),
            message_id,
        };
        let manifest = Manifest { header, timeline: Some(7), generated_at: Some(1), tasks: vec![] };
        let text = ToAgent::Manifest(manifest).to_text();
        assert!(text.contains(r#""clusterArn":"c","containerInstanceArn":"i","messageId":"m""#));
        assert!(text.ends_with(r#""timeline":7,"generatedAt":1,"tasks":[]}}"#), "{text}");
    }

    #[test]
    fn what_agents_say_is_understood() {
        let ack = r#"{"type":"AckRequest","message":{"cluster":"c","messageId":"m","more":1}}"#;
        assert_eq!(FromAgent::from_text(ack).unwrap(), FromAgent::Ack { message_id: "m".into() });
        let new = FromAgent::from_text(r#"{"type":"Whatever"}"#).unwrap();
        assert_eq!(new, FromAgent::Other { kind: "Whatever".into() });
        assert!(FromAgent::from_text("{}").is_err());
        assert!(FromAgent::from_text(r#"{"type":"AckRequest","message":7}"#).is_err());
    }

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let task =
            Task { arn: "t".into(), desired_status: Some("STOPPED".into()), ..Task::default() };
        let payload = Payload {
            header: Header { message_id: Some("m".into()), ..Header::default() },
            tasks: vec![task.clone()],
            seq_num: Some(3),
            generated_at: Some(1),
        };
        let text = ToAgent::Payload(payload).to_text();
        let envelope: Envelope<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(envelope.kind.as_deref(), Some("PayloadMessage"));
        let read: Payload<serde_json::Value> = envelope.read().unwrap();
        assert_eq!((read.seq_num, read.header.message_id.as_deref()), (Some(3), Some("m")));
        assert_eq!(serde_json::from_value::<Task>(read.tasks[0].clone()).unwrap(), task);
    }
}
