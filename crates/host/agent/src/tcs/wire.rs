//! The messages of the telemetry socket.

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) cluster: String,
    pub(super) container_instance: String,
    pub(super) message_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idle: Option<bool>,
    pub(super) fin: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PublishMetrics {
    pub(super) metadata: Metadata,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) task_metrics: Vec<TaskMetric>,
    pub(super) timestamp: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskMetric {
    pub(super) task_arn: String,
    pub(super) task_definition_family: String,
    pub(super) task_definition_version: String,
    pub(super) container_metrics: Vec<ContainerMetric>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerMetric {
    pub(super) container_name: String,
    pub(super) cpu_stats_set: StatsSet,
    pub(super) memory_stats_set: StatsSet,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) network_stats_set: Option<NetworkStats>,
    pub(super) storage_stats_set: StorageStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) restart_stats_set: Option<RestartStats>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatsSet {
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) sample_count: u32,
    pub(super) sum: f64,
}

impl StatsSet {
    pub(super) fn add(&mut self, value: f64) {
        let is_first = self.sample_count == 0;
        self.min = if is_first { value } else { self.min.min(value) };
        self.max = if is_first { value } else { self.max.max(value) };
        self.sample_count += 1;
        self.sum += value;
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LongStatsSet {
    pub(super) min: i64,
    pub(super) max: i64,
    pub(super) sample_count: u32,
    pub(super) sum: i64,
    pub(super) overflow_min: i64,
    pub(super) overflow_max: i64,
    pub(super) overflow_sum: i64,
}

impl LongStatsSet {
    pub(super) fn add(&mut self, value: u64) {
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
pub(super) struct NetworkStats {
    pub(super) rx_bytes: LongStatsSet,
    pub(super) rx_dropped: LongStatsSet,
    pub(super) rx_errors: LongStatsSet,
    pub(super) rx_packets: LongStatsSet,
    pub(super) tx_bytes: LongStatsSet,
    pub(super) tx_dropped: LongStatsSet,
    pub(super) tx_errors: LongStatsSet,
    pub(super) tx_packets: LongStatsSet,
    pub(super) rx_bytes_per_second: StatsSet,
    pub(super) tx_bytes_per_second: StatsSet,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StorageStats {
    pub(super) read_size_bytes: LongStatsSet,
    pub(super) write_size_bytes: LongStatsSet,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RestartStats {
    pub(super) restart_count: u32,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct PublishHealth {
    pub(super) metadata: Metadata,
    pub(super) tasks: Vec<TaskHealth>,
    pub(super) timestamp: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskHealth {
    pub(super) task_arn: String,
    pub(super) task_definition_family: String,
    pub(super) task_definition_version: String,
    pub(super) containers: Vec<ContainerHealth>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerHealth {
    pub(super) container_name: String,
    pub(super) health_status: &'static str,
    pub(super) status_since: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct PublishInstanceStatus {
    pub(super) metadata: StatusMetadata,
    pub(super) statuses: Vec<InstanceStatus>,
    pub(super) timestamp: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusMetadata {
    pub(super) cluster: String,
    pub(super) container_instance: String,
    pub(super) request_id: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstanceStatus {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) status: &'static str,
    pub(super) last_updated: f64,
    pub(super) last_status_change: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_beyond_a_long_flows_over() {
        let mut set = LongStatsSet::default();
        set.add(u64::MAX);
        set.add(5);
        assert_eq!((set.sum, set.overflow_sum, set.min, set.max), (i64::MAX, 5, 5, i64::MAX));
    }
}
