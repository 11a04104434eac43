//! Looks at what containers use, now and then, and sums it up for a report.

use std::collections::BTreeMap;

use acs::telemetry::{
    ContainerMetric, LongStatsSet, NetworkStats, RestartStats, StatsSet, StorageStats, TaskMetric,
};
use longshore_types::Timestamp;
use sandbox::Stats;

use crate::engine::state::Phase;
use crate::engine::{Engine, TaskView};
use crate::ports::Counters;
use crate::register::cpus;
use crate::spec::NetworkMode;

/// What one run used since the last report.
#[derive(Debug, Default)]
struct Series {
    last: Option<(Timestamp, Stats)>,
    cpu: StatsSet,
    memory: StatsSet,
    read: LongStatsSet,
    write: LongStatsSet,
}

impl Series {
    fn add(&mut self, at: Timestamp, stats: Stats) {
        let memory = stats.memory_usage.saturating_sub(stats.memory_inactive_file);
        self.memory.add(as_f64(memory) / 1_048_576.0);
        if let Some((before, last)) = self.last.replace((at, stats)) {
            let wall_ns = as_f64(at.since_ms(before).max(1)) * 1e6;
            let cpu_ns = as_f64(stats.cpu_ns.saturating_sub(last.cpu_ns));
            self.cpu.add(cpu_ns / wall_ns / as_f64(cpus()) * 100.0);
            self.read.add(stats.blkio_read_bytes.saturating_sub(last.blkio_read_bytes));
            self.write.add(stats.blkio_write_bytes.saturating_sub(last.blkio_write_bytes));
        }
    }
}

#[derive(Debug, Default)]
struct NetSeries {
    last: Option<(Timestamp, Counters)>,
    sets: NetworkStats,
}

impl NetSeries {
    fn add(&mut self, at: Timestamp, now: Counters) {
        let Some((before, last)) = self.last.replace((at, now)) else { return };
        let seconds = as_f64(at.since_ms(before).max(1)) / 1e3;
        let sets = &mut self.sets;
        let rx = now.rx_bytes.saturating_sub(last.rx_bytes);
        let tx = now.tx_bytes.saturating_sub(last.tx_bytes);
        sets.rx_bytes.add(rx);
        sets.tx_bytes.add(tx);
        sets.rx_bytes_per_second.add(as_f64(rx) / seconds);
        sets.tx_bytes_per_second.add(as_f64(tx) / seconds);
        sets.rx_packets.add(now.rx_packets.saturating_sub(last.rx_packets));
        sets.tx_packets.add(now.tx_packets.saturating_sub(last.tx_packets));
        sets.rx_errors.add(now.rx_errors.saturating_sub(last.rx_errors));
        sets.tx_errors.add(now.tx_errors.saturating_sub(last.tx_errors));
        sets.rx_dropped.add(now.rx_dropped.saturating_sub(last.rx_dropped));
        sets.tx_dropped.add(now.tx_dropped.saturating_sub(last.tx_dropped));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a statistic")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

/// All runs and interfaces that are being looked at.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    runs: BTreeMap<String, Series>,
    networks: BTreeMap<String, NetSeries>,
}

fn running(view: &TaskView) -> impl Iterator<Item = usize> + '_ {
    let containers = view.state.containers.iter().enumerate();
    containers.filter(|(_, each)| each.phase == Phase::Running).map(|(index, _)| index)
}

/// The interface whose traffic is a container's.
fn endpoint(view: &TaskView, index: usize) -> Option<String> {
    match view.spec.containers[index].network {
        NetworkMode::Awsvpc => Some(view.spec.arn.id.to_string()),
        NetworkMode::Bridge => Some(view.state.containers[index].runtime_id.clone()),
        NetworkMode::Host | NetworkMode::None => None,
    }
}

impl Sampler {
    /// Takes one sample of everything that runs, and forgets what does not any more.
    pub(super) async fn sample(&mut self, engine: &Engine, views: &[TaskView]) {
        let context = engine.context();
        let mut runs = BTreeMap::new();
        let mut networks: BTreeMap<String, NetSeries> = BTreeMap::new();
        for view in views {
            for index in running(view) {
                let id = view.state.containers[index].run_id();
                let mut series = self.runs.remove(&id).unwrap_or_default();
                if let Ok(name) = id.parse()
                    && let Ok(stats) = context.runtime.stats(name).await
                {
                    series.add(context.clock.now(), stats);
                }
                runs.insert(id, series);
                let Some(name) = endpoint(view, index) else { continue };
                if networks.contains_key(&name) {
                    continue;
                }
                let mut series = self.networks.remove(&name).unwrap_or_default();
                if let Ok(counters) = context.networks.counters(&name).await {
                    series.add(context.clock.now(), counters);
                }
                networks.insert(name, series);
            }
        }
        self.runs = runs;
        self.networks = networks;
    }

    /// What was used since the last report; begins anew.
    pub(super) fn report(&mut self, views: &[TaskView]) -> Vec<TaskMetric> {
        let mut tasks = Vec::new();
        for view in views {
            let container_metrics: Vec<ContainerMetric> =
                running(view).filter_map(|index| self.container(view, index)).collect();
            if !container_metrics.is_empty() {
                tasks.push(TaskMetric {
                    task_arn: view.spec.arn.to_string(),
                    task_definition_family: view.spec.family.clone(),
                    task_definition_version: view.spec.version.clone(),
                    container_metrics,
                });
            }
        }
        tasks
    }

    fn container(&mut self, view: &TaskView, index: usize) -> Option<ContainerMetric> {
        let state = &view.state.containers[index];
        let series = self.runs.get_mut(&state.run_id())?;
        // Without two samples nothing is known of the CPU yet.
        if series.cpu.sample_count == 0 {
            return None;
        }
        let net = endpoint(view, index).and_then(|name| self.networks.get_mut(&name));
        let has_policy = view.spec.containers[index].restart.is_some();
        Some(ContainerMetric {
            container_name: view.spec.containers[index].name.clone(),
            cpu_stats_set: std::mem::take(&mut series.cpu),
            memory_stats_set: std::mem::take(&mut series.memory),
            network_stats_set: net
                .filter(|net| net.sets.rx_bytes.sample_count > 0)
                .map(|net| std::mem::take(&mut net.sets)),
            storage_stats_set: StorageStats {
                read_size_bytes: std::mem::take(&mut series.read),
                write_size_bytes: std::mem::take(&mut series.write),
            },
            restart_stats_set: has_policy.then_some(RestartStats { restart_count: state.restarts }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_a_share_of_the_whole_host() {
        let mut series = Series::default();
        series.add(Timestamp(0), Stats::default());
        let busy = Stats { cpu_ns: 1_000_000_000, memory_usage: 3 << 20, ..Stats::default() };
        series.add(Timestamp(1_000), busy);
        let expected = 100.0 / as_f64(cpus());
        assert!((series.cpu.sum - expected).abs() < 0.01, "{:?}", series.cpu);
        assert_eq!((series.memory.max, series.memory.sample_count), (3.0, 2));
    }
}
