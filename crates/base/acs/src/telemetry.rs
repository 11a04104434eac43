//! The messages of the telemetry socket (TCS).
//!
//! An agent signs each of its frames: a block of headers, an empty line, and the JSON.

use longshore_types::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::frame::{Envelope, frame};

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub cluster: String,
    pub container_instance: String,
    pub message_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<bool>,
    pub fin: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishMetrics {
    pub metadata: Metadata,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub task_metrics: Vec<TaskMetric>,
    pub timestamp: f64,
}

/// A task's figures since the last report. The region keeps them as they come: as [`Value`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskMetric<M = Vec<ContainerMetric>> {
    pub task_arn: String,
    #[serde(default)]
    pub task_definition_family: String,
    #[serde(default)]
    pub task_definition_version: String,
    #[serde(default)]
    pub container_metrics: M,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerMetric {
    pub container_name: String,
    pub cpu_stats_set: StatsSet,
    pub memory_stats_set: StatsSet,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_stats_set: Option<NetworkStats>,
    pub storage_stats_set: StorageStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_stats_set: Option<RestartStats>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatsSet {
    pub min: f64,
    pub max: f64,
    pub sample_count: u32,
    pub sum: f64,
}

impl StatsSet {
    pub fn add(&mut self, value: f64) {
        let is_first = self.sample_count == 0;
        self.min = if is_first { value } else { self.min.min(value) };
        self.max = if is_first { value } else { self.max.max(value) };
        self.sample_count += 1;
        self.sum += value;
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LongStatsSet {
    pub min: i64,
    pub max: i64,
    pub sample_count: u32,
    pub sum: i64,
    pub overflow_min: i64,
    pub overflow_max: i64,
    pub overflow_sum: i64,
}

impl LongStatsSet {
    pub fn add(&mut self, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        let is_first = self.sample_count == 0;
        self.min = if is_first { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.sample_count += 1;
        match self.sum.checked_add(value) {
            Some(sum) => self.sum = sum,
            None => {
                self.overflow_sum = self.overflow_sum.saturating_add(value - (i64::MAX - self.sum));
                self.sum = i64::MAX;
            }
        }
    }
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkStats {
    pub rx_bytes: LongStatsSet,
    pub rx_dropped: LongStatsSet,
    pub rx_errors: LongStatsSet,
    pub rx_packets: LongStatsSet,
    pub tx_bytes: LongStatsSet,
    pub tx_dropped: LongStatsSet,
    pub tx_errors: LongStatsSet,
    pub tx_packets: LongStatsSet,
    pub rx_bytes_per_second: StatsSet,
    pub tx_bytes_per_second: StatsSet,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageStats {
    pub read_size_bytes: LongStatsSet,
    pub write_size_bytes: LongStatsSet,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartStats {
    pub restart_count: u32,
}

#[derive(Clone, Debug, Serialize)]
pub struct PublishHealth {
    pub metadata: Metadata,
    pub tasks: Vec<TaskHealth>,
    pub timestamp: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskHealth {
    pub task_arn: String,
    #[serde(default)]
    pub task_definition_family: String,
    #[serde(default)]
    pub task_definition_version: String,
    #[serde(default)]
    pub containers: Vec<ContainerHealth>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerHealth {
    pub container_name: String,
    pub health_status: String,
    /// In seconds since the epoch.
    #[serde(default)]
    pub status_since: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct PublishInstanceStatus {
    pub metadata: StatusMetadata,
    pub statuses: Vec<InstanceStatus>,
    pub timestamp: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusMetadata {
    pub cluster: String,
    pub container_instance: String,
    pub request_id: String,
}

/// How a part of the instance is, such as its container runtime.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    /// In seconds since the epoch, as is the next.
    #[serde(default)]
    pub last_updated: f64,
    #[serde(default)]
    pub last_status_change: f64,
}

/// What an agent says over the telemetry socket.
#[derive(Debug)]
pub enum Telemetry {
    Metrics(Vec<TaskMetric<Value>>),
    Health(Vec<TaskHealth>),
    InstanceStatus(Vec<InstanceStatus>),
    Other { kind: String },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Published {
    task_metrics: Vec<TaskMetric<Value>>,
    tasks: Vec<TaskHealth>,
    statuses: Vec<InstanceStatus>,
}

impl Telemetry {
    /// The JSON alone will do, without a signature before it.
    pub fn from_frame(frame: &str) -> Result<Self, serde_json::Error> {
        let text = frame.split_once("\r\n\r\n").map_or(frame, |(_, text)| text);
        let (kind, envelope) = Envelope::typed(text)?;
        let published = || envelope.read::<Published>();
        Ok(match kind.as_str() {
            "PublishMetricsRequest" => Self::Metrics(published()?.task_metrics),
            "PublishHealthRequest" => Self::Health(published()?.tasks),
            "PublishInstanceStatusRequest" => Self::InstanceStatus(published()?.statuses),
            _ => Self::Other { kind },
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
    frame(kind, &serde_json::json!({ "message": now.iso8601() }))
}

/// The frame that keeps the telemetry socket alive.
pub fn telemetry_heartbeat() -> String {
    frame("HeartbeatMessage", &serde_json::json!({ "healthy": true }))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_sum_beyond_a_long_flows_over() {
        let mut set = LongStatsSet::default();
        set.add(u64::MAX);
        set.add(5);
        assert_eq!((set.sum, set.overflow_sum, set.min, set.max), (i64::MAX, 5, 5, i64::MAX));
    }
}
