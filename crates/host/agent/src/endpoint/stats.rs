//! What containers use, in the form of Docker's stats.
//!
//! Docker shows two moments, so that whoever asks can take the difference. Here the earlier one is that of the last
//! question that is old enough; who asks for the first time waits a moment for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longshore_types::Timestamp;
use sandbox::{BlockCount, Usage};
use serde_json::{Map, Value, json};

use super::metadata::docker_name;
use crate::engine::state::Phase;
use crate::engine::{Context, TaskView};
use crate::limits::{STATS_APART_MS, STATS_FIRST_MS, STATS_KEPT_MAX};
use crate::ports::Counters;
use crate::spec::NetworkMode;

/// What a run had used at a moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    pub(super) usage: Usage,
    /// What its interface carried, if it has one of its own.
    pub(super) network: Option<Counters>,
}

/// The last two moments of each run that was asked about.
#[derive(Debug, Default)]
pub(super) struct Samples(Mutex<BTreeMap<String, (Option<Sample>, Sample)>>);

impl Samples {
    /// Keeps a sample; answers with the one that it is to be compared with.
    fn keep(&self, run: &str, now: &Sample) -> Option<Sample> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, last)) = kept.get_mut(run) {
            if STATS_APART_MS <= now.at.since_ms(last.at) {
                *before = Some(std::mem::replace(last, now.clone()));
            }
            return before.clone();
        }
        if STATS_KEPT_MAX <= kept.len()
            && let Some(oldest) = oldest(&kept)
        {
            kept.remove(&oldest);
        }
        kept.insert(run.to_owned(), (None, now.clone()));
        None
    }

    fn is_known(&self, run: &str) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(run).is_some_and(|(before, _)| before.is_some())
    }
}

fn oldest(kept: &BTreeMap<String, (Option<Sample>, Sample)>) -> Option<String> {
    let oldest = kept.iter().min_by_key(|(_, (_, last))| last.at);
    oldest.map(|(run, _)| run.clone())
}

/// The stats of one container, or nothing of one that does not run.
pub(super) async fn of_container(
    context: &Context,
    samples: &Samples,
    view: &TaskView,
    index: usize,
) -> Option<Value> {
    let run = view.state.containers[index].run_id();
    let first = sample(context, view, index).await?;
    let before = samples.keep(&run, &first);
    let (before, now) = if before.is_some() || samples.is_known(&run) {
        (before, first)
    } else {
        tokio::time::sleep(Duration::from_millis(STATS_FIRST_MS)).await;
        (Some(first), sample(context, view, index).await?)
    };
    Some(shown(view, index, before.as_ref(), &now))
}

/// The stats of all containers of a task, by their ids.
pub(super) async fn of_task(context: &Context, samples: &Samples, view: &TaskView) -> Value {
    let containers =
        (0..view.spec.containers.len()).map(|index| of_container(context, samples, view, index));
    let all = futures_util::future::join_all(containers).await;
    let ids = view.state.containers.iter().map(|container| container.runtime_id.clone());
    let all: Map<String, Value> =
        ids.zip(all).map(|(id, stats)| (id, stats.unwrap_or(Value::Null))).collect();
    Value::Object(all)
}

async fn sample(context: &Context, view: &TaskView, index: usize) -> Option<Sample> {
    let container = &view.state.containers[index];
    if container.phase != Phase::Running {
        return None;
    }
    let usage = context.runtime.usage(container.run_id().parse().ok()?).await.ok()?;
    let interface = match view.spec.containers[index].network {
        NetworkMode::Awsvpc => Some(view.spec.arn.id.to_string()),
        NetworkMode::Bridge => Some(container.runtime_id.clone()),
        NetworkMode::Host | NetworkMode::None => None,
    };
    let network = match interface {
        Some(interface) => context.networks.counters(&interface).await.ok(),
        None => None,
    };
    Some(Sample { at: context.clock.now(), usage, network })
}

/// What Docker shows when it has no earlier moment.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn shown(view: &TaskView, index: usize, before: Option<&Sample>, now: &Sample) -> Value {
    let mut stats = json!({
        "read": now.at.iso8601(),
        "preread": before.map_or_else(|| NEVER.to_owned(), |before| before.at.iso8601()),
        "pids_stats": pids(&now.usage),
        "blkio_stats": block_io(&now.usage),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu(&now.usage),
        "precpu_stats": before.map_or_else(|| cpu(&Usage::default()), |before| cpu(&before.usage)),
        "memory_stats": memory(&now.usage),
        "name": format!("/{}", docker_name(view, index)),
        "id": view.state.containers[index].runtime_id,
    });
    if let Some(network) = now.network {
        stats["networks"] = json!({ interface_name(view): counters(network) });
        if let Some(rates) = rates(before, now.at, network) {
            stats["network_rate_stats"] = rates;
        }
    }
    stats
}

/// As the interfaces are called within the namespaces of either mode.
fn interface_name(view: &TaskView) -> &'static str {
    if view.spec.eni.is_some() { "eth1" } else { "eth0" }
}

fn pids(usage: &Usage) -> Value {
    match usage.pids_limit {
        Some(limit) => json!({ "current": usage.stats.pids, "limit": limit }),
        None => json!({ "current": usage.stats.pids }),
    }
}

fn cpu(usage: &Usage) -> Value {
    let mut time = json!({
        "total_usage": usage.stats.cpu_ns,
        "usage_in_kernelmode": usage.stats.cpu_system_ns,
        "usage_in_usermode": usage.stats.cpu_user_ns,
    });
    if !usage.per_cpu_ns.is_empty() {
        time["percpu_usage"] = json!(usage.per_cpu_ns);
    }
    json!({
        "cpu_usage": time,
        "system_cpu_usage": usage.host_cpu_ns,
        "online_cpus": usage.online_cpus,
        "throttling_data": {
            "periods": usage.periods,
            "throttled_periods": usage.stats.throttled_periods,
            "throttled_time": usage.throttled_ns,
        },
    })
}

fn memory(usage: &Usage) -> Value {
    let limit = usage.stats.memory_limit.min(usage.host_memory.max(1));
    let mut memory = json!({
        "usage": usage.stats.memory_usage,
        "stats": usage.memory,
        "limit": limit,
    });
    if 0 < usage.stats.memory_max_usage {
        memory["max_usage"] = usage.stats.memory_max_usage.into();
    }
    if 0 < usage.memory_failures {
        memory["failcnt"] = usage.memory_failures.into();
    }
    memory
}

fn block_io(usage: &Usage) -> Value {
    json!({
        "io_service_bytes_recursive": blocks(&usage.block_bytes),
        "io_serviced_recursive": blocks(&usage.block_operations),
        "io_queue_recursive": [],
        "io_service_time_recursive": [],
        "io_wait_time_recursive": [],
        "io_merged_recursive": [],
        "io_time_recursive": [],
        "sectors_recursive": [],
    })
}

fn blocks(counts: &[BlockCount]) -> Vec<Value> {
    let shown = |count: &BlockCount| {
        json!({
            "major": count.major,
            "minor": count.minor,
            "op": count.operation,
            "value": count.value,
        })
    };
    counts.iter().map(shown).collect()
}

fn counters(network: Counters) -> Value {
    json!({
        "rx_bytes": network.rx_bytes,
        "rx_packets": network.rx_packets,
        "rx_errors": network.rx_errors,
        "rx_dropped": network.rx_dropped,
        "tx_bytes": network.tx_bytes,
        "tx_packets": network.tx_packets,
        "tx_errors": network.tx_errors,
        "tx_dropped": network.tx_dropped,
    })
}

/// Bytes a second between the two moments.
fn rates(before: Option<&Sample>, at: Timestamp, now: Counters) -> Option<Value> {
    let before = before?;
    let last = before.network?;
    let ms = at.since_ms(before.at).max(1);
    let rate = |now: u64, last: u64| per_second(now.saturating_sub(last), ms);
    Some(json!({
        "rx_bytes_per_sec": rate(now.rx_bytes, last.rx_bytes),
        "tx_bytes_per_sec": rate(now.tx_bytes, last.tx_bytes),
    }))
}

#[expect(clippy::cast_precision_loss, reason = "a statistic")]
fn per_second(bytes: u64, ms: u64) -> f64 {
    bytes as f64 * 1000.0 / ms as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, rx_bytes: u64) -> Sample {
        let network = Some(Counters { rx_bytes, ..Counters::default() });
        Sample { at: Timestamp(at), usage: Usage::default(), network }
    }

    #[test]
    fn a_question_is_compared_with_the_last_that_is_old_enough() {
        let samples = Samples::default();
        assert_eq!(samples.keep("run", &sample(0, 0)), None);
        assert!(!samples.is_known("run"));
        assert_eq!(samples.keep("run", &sample(STATS_APART_MS - 1, 5)), None);
        let first = Some(sample(0, 0));
        assert_eq!(samples.keep("run", &sample(STATS_APART_MS, 10)), first);
        assert_eq!(samples.keep("run", &sample(STATS_APART_MS + 1, 11)), first);
        assert!(samples.is_known("run"));
    }

    #[test]
    fn no_more_runs_are_remembered_than_a_host_is_asked_about() {
        let samples = Samples::default();
        for run in 0..=STATS_KEPT_MAX as u64 {
            samples.keep(&format!("{run}"), &sample(run, 0));
        }
        let kept = samples.0.lock().unwrap();
        assert_eq!(kept.len(), STATS_KEPT_MAX);
        assert!(!kept.contains_key("0"), "the oldest goes");
    }

    #[test]
    fn rates_are_bytes_a_second_between_the_two_moments() {
        let before = sample(1_000, 100);
        let now = Counters { rx_bytes: 600, ..Counters::default() };
        let shown = rates(Some(&before), Timestamp(1_500), now).unwrap();
        assert_eq!(shown, json!({ "rx_bytes_per_sec": 1000.0, "tx_bytes_per_sec": 0.0 }));
        assert_eq!(rates(None, Timestamp(1_500), now), None);
    }

    #[test]
    fn memory_without_a_limit_has_the_machines() {
        let mut usage = Usage { host_memory: 1 << 30, ..Usage::default() };
        usage.stats.memory_limit = u64::MAX;
        assert_eq!(memory(&usage)["limit"], 1 << 30);
        usage.stats.memory_limit = 1 << 20;
        assert_eq!(memory(&usage)["limit"], 1 << 20);
        assert_eq!(memory(&usage).get("max_usage"), None);
    }
}
