//! The frames of both sockets: one JSON object with a type and a message.
//!
//! What the agents send is read leniently (unknown types and members are passed over); what we send
//! has every member that Amazon's agent insists on.

use longshore_types::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::payload::wire::{ElasticNetworkInterface, RoleCredentials, TaskPayload};

/// The names that go into every message to an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Addressee {
    pub cluster_arn: String,
    pub container_instance_arn: String,
}

/// What an agent is sent over the work socket.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", content = "message")]
pub enum ToAgent {
    HeartbeatMessage(Heartbeat),
    PayloadMessage(Payload),
    AttachTaskNetworkInterfacesMessage(AttachInterfaces),
    #[serde(rename = "IAMRoleCredentialsMessage")]
    RoleCredentialsMessage(NewCredentials),
    TaskManifestMessage(Manifest),
    TaskStopVerificationAck(StopVerificationAck),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    pub healthy: bool,
    pub message_id: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    #[serde(flatten)]
    pub to: Addressee,
    pub message_id: String,
    pub tasks: Vec<TaskPayload>,
    pub seq_num: u64,
    /// In milliseconds since the epoch.
    pub generated_at: u64,
}

/// Replaces the credentials of a task that the agent has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewCredentials {
    #[serde(flatten)]
    pub to: Addressee,
    pub message_id: String,
    pub task_arn: String,
    pub task_cluster_arn: String,
    pub role_type: &'static str,
    pub role_credentials: RoleCredentials,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachInterfaces {
    #[serde(flatten)]
    pub to: Addressee,
    pub message_id: String,
    pub task_arn: String,
    pub task_cluster_arn: String,
    pub wait_timeout_ms: u64,
    pub generated_at: u64,
    pub elastic_network_interfaces: Vec<ElasticNetworkInterface>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    #[serde(flatten)]
    pub to: Addressee,
    pub message_id: String,
    pub timeline: u64,
    pub generated_at: u64,
    pub tasks: Vec<ManifestTask>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestTask {
    pub task_arn: String,
    #[serde(default)]
    pub task_cluster_arn: String,
    #[serde(default)]
    pub desired_status: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StopVerificationAck {
    /// The manifest's.
    pub message_id: String,
    pub generated_at: u64,
    pub stop_tasks: Vec<ManifestTask>,
}

impl ToAgent {
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and lists are JSON")
    }
}

/// A frame before its message is looked at.
#[derive(Debug, Deserialize)]
struct Envelope<'a> {
    r#type: String,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// The message, or an empty one.
    fn read<T: Deserialize<'a>>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.message.map_or("{}", RawValue::get))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Acknowledged {
    message_id: String,
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StopVerification {
    message_id: String,
    stop_candidates: Vec<ManifestTask>,
}

/// What an agent says over the work socket.
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
    StopVerification {
        message_id: String,
        candidates: Vec<ManifestTask>,
    },
    /// Something that asks for nothing, or that we don't know.
    Other {
        kind: String,
    },
}

impl FromAgent {
    pub fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        let envelope: Envelope<'_> = serde_json::from_str(text)?;
        Ok(match envelope.r#type.as_str() {
            "AckRequest" => {
                let Acknowledged { message_id, .. } = envelope.read()?;
                Self::Ack { message_id }
            }
            "NackRequest" => {
                let Acknowledged { message_id, reason } = envelope.read()?;
                Self::Nack { message_id, reason }
            }
            "HeartbeatAckRequest" => Self::HeartbeatAck,
            "TaskStopVerificationMessage" => {
                let said: StopVerification = envelope.read()?;
                Self::StopVerification {
                    message_id: said.message_id,
                    candidates: said.stop_candidates,
                }
            }
            _ => Self::Other { kind: envelope.r#type },
        })
    }
}

/// What an agent says over the telemetry socket.
#[derive(Debug)]
pub enum Telemetry {
    Metrics(Vec<TaskMetrics>),
    Health(Vec<TaskHealth>),
    InstanceStatus(Vec<PartStatus>),
    Other { kind: String },
}

/// A task's last figures, kept as they came.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskMetrics {
    pub task_arn: String,
    #[serde(default)]
    pub container_metrics: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskHealth {
    pub task_arn: String,
    #[serde(default)]
    pub containers: Vec<ContainerHealth>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerHealth {
    pub container_name: String,
    pub health_status: String,
}

/// How a part of the instance is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartStatus {
    pub r#type: String,
    pub status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Published {
    task_metrics: Vec<TaskMetrics>,
    tasks: Vec<TaskHealth>,
    statuses: Vec<PartStatus>,
}

impl Telemetry {
    /// A frame is a signed block of headers, an empty line, and the JSON; the JSON alone will do.
    pub fn from_frame(frame: &str) -> Result<Self, serde_json::Error> {
        let text = frame.split_once("\r\n\r\n").map_or(frame, |(_, text)| text);
        let envelope: Envelope<'_> = serde_json::from_str(text)?;
        let published = || envelope.read::<Published>();
        Ok(match envelope.r#type.as_str() {
            "PublishMetricsRequest" => Self::Metrics(published()?.task_metrics),
            "PublishHealthRequest" => Self::Health(published()?.tasks),
            "PublishInstanceStatusRequest" => Self::InstanceStatus(published()?.statuses),
            _ => Self::Other { kind: envelope.r#type },
        })
    }

    /// The type of the answer, if the agent waits for one.
    pub fn acknowledgement(&self) -> Option<&'static str> {
        match self {
            Self::Metrics(_) => Some("AckPublishMetric"),
            Self::Health(_) => Some("AckPublishHealth"),
            Self::InstanceStatus(_) => Some("AckPublishInstanceStatus"),
            Self::Other { .. } => None,
        }
    }
}

/// The frame that acknowledges telemetry.
pub fn telemetry_ack(kind: &str, now: Timestamp) -> String {
    serde_json::json!({ "type": kind, "message": { "message": now.iso8601() } }).to_string()
}

/// The frame that keeps the telemetry socket alive.
pub fn telemetry_heartbeat() -> String {
    serde_json::json!({ "type": "HeartbeatMessage", "message": { "healthy": true } }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_wrapped_in_its_type() {
        let beat = ToAgent::HeartbeatMessage(Heartbeat { healthy: true, message_id: "m".into() });
        let text = r#"{"type":"HeartbeatMessage","message":{"healthy":true,"messageId":"m"}}"#;
        assert_eq!(beat.to_text(), text);
        let to = Addressee { cluster_arn: "c".into(), container_instance_arn: "i".into() };
        let message_id = "m".to_owned();
        let manifest = Manifest { to, message_id, timeline: 7, generated_at: 1, tasks: vec![] };
        let text = ToAgent::TaskManifestMessage(manifest).to_text();
        assert!(text.contains(r#""clusterArn":"c","containerInstanceArn":"i","messageId":"m""#));
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
    fn telemetry_is_found_behind_its_signature() {
        let json = r#"{"type":"PublishHealthRequest","message":{"metadata":{},"tasks":[
            {"taskArn":"t","containers":[{"containerName":"web","healthStatus":"HEALTHY"}]}]}}"#;
        let frame = format!("Authorization: AWS4\r\nHost: x\r\n\r\n{json}");
        for text in [frame.as_str(), json] {
            let said = Telemetry::from_frame(text).unwrap();
            assert_eq!(said.acknowledgement(), Some("AckPublishHealth"));
            let Telemetry::Health(tasks) = said else { panic!("{said:?}") };
            assert_eq!(tasks[0].containers[0].health_status, "HEALTHY");
        }
    }
}
