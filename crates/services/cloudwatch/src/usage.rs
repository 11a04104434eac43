//! What tasks use, as their hosts report it: put together by service and by cluster as `AWS/ECS`.
//!
//! A report covers some twenty seconds. Those of one slot of time are put together once the next has begun: for a service
//! each task is a sample, its use in percent of what its definition reserves; for a cluster what all its tasks use on
//! container instances is put in relation to what these have. Of a task the last report of a slot counts, however many it
//! has: two may fall into one slot, and who sends more weighs no more.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use longshore_types::{AccountId, ClusterName, Resources, StatisticSet, TaskId, Timestamp};
use metrics::{Datum, MetricId};
use model::instance::InstanceStatus;
use model::task::{LaunchType, Reserved};
use model::{Instance, Task, View};
use serde_json::Value;

use crate::CloudWatch;

/// How long a slot is, and how long after its end late reports are waited for.
const SLOT_MS: u64 = 20_000;
const LATE_MS: u64 = 2_000;
const MINUTE_MS: u64 = 60_000;
/// CPU units of a task whose definition reserves none: as little as the kernel gives shares.
const CPU_MIN: u32 = 2;

/// What was used in slots of time, by their numbers.
pub(crate) type Slots = BTreeMap<u64, Slot>;

/// What was used in one slot.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Percent of CPU and of memory.
    services: BTreeMap<(AccountId, ClusterName, String), OfTasks>,
    /// CPU units and MiB.
    clusters: BTreeMap<(AccountId, ClusterName), OfTasks>,
}

/// What each task used: CPU and memory.
type OfTasks = BTreeMap<TaskId, (f64, f64)>;

/// What tasks come to together, each of them a sample.
fn samples(tasks: &OfTasks, of: impl Fn(&(f64, f64)) -> f64) -> Option<StatisticSet> {
    let mut sets = tasks.values().map(|used| StatisticSet::one(of(used)));
    let mut all = sets.next()?;
    sets.for_each(|set| all.add(&set));
    Some(all)
}

/// The mean of a set of samples; none where there is no sample.
pub(crate) fn mean(set: &Value) -> Option<f64> {
    let number = |name: &str| set[name].as_f64().filter(|it| it.is_finite() && 0.0 <= *it);
    let count = number("sampleCount").filter(|count| 0.0 < *count)?;
    Some(number("sum")? / count)
}

/// What a task's containers used together: CPU in percent of its host's, memory in MiB. None of a report without both.
fn used(containers: &Value) -> Option<(f64, f64)> {
    let mut all: Option<(f64, f64)> = None;
    for container in containers.as_array()? {
        let cpu = mean(&container["cpuStatsSet"]);
        let memory = mean(&container["memoryStatsSet"]);
        if let (Some(cpu), Some(memory)) = (cpu, memory) {
            let (known_cpu, known_memory) = all.unwrap_or_default();
            all = Some((known_cpu + cpu, known_memory + memory));
        }
    }
    all
}

/// CPU units and MiB that a task used, of those that its host has.
fn of_host(cpu_percent: f64, memory: f64, total: Resources) -> (f64, f64) {
    let (cpu, mib) = (f64::from(total.cpu.0), f64::from(total.memory.0));
    ((cpu_percent / 100.0 * cpu).min(cpu), memory.min(mib))
}

fn percent(used: f64, of: u64) -> f64 {
    used * 100.0 / amount(of.max(1))
}

fn amount(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

impl CloudWatch {
    pub(crate) fn note_usage(
        &self,
        task: &Task,
        instance: &Instance,
        containers: &Value,
        now: Timestamp,
    ) {
        let Some((cpu_percent, memory)) = used(containers) else { return };
        // No task uses more than its host has, whatever that says.
        let (cpu, memory) = of_host(cpu_percent, memory, instance.total);
        self.note_insight(task, (cpu, memory), containers, now);
        let mut slots = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(now.0 / SLOT_MS).or_default();
        let (account, cluster) = (task.scope.account, task.cluster.clone());
        if task.launch != LaunchType::Fargate {
            let all = slot.clusters.entry((account, cluster.clone())).or_default();
            all.insert(task.id, (cpu, memory));
        }
        let Some(service) = &task.service else { return };
        let need = task.need.resources;
        let shares =
            (percent(cpu, need.cpu.0.max(CPU_MIN).into()), percent(memory, need.memory.0.into()));
        let all = slot.services.entry((account, cluster, service.name.to_string())).or_default();
        all.insert(task.id, shares);
    }

    /// What is known by now of slots that are over, which are forgotten here.
    pub(crate) fn take_usage(&self, now: Timestamp) -> Vec<Datum> {
        let current = now.0.saturating_sub(LATE_MS) / SLOT_MS;
        let over = {
            let mut slots = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            let rest = slots.split_off(&current);
            std::mem::replace(&mut *slots, rest)
        };
        if over.is_empty() {
            return Vec::new();
        }
        let view = self.control.view();
        over.iter().flat_map(|(number, slot)| told(&view, *number, slot)).collect()
    }
}

/// How much of what clusters' container instances have is reserved for tasks that run there: one sample of the minute that is
/// over, for each cluster that has instances.
pub(crate) fn reservations(view: &View, now: Timestamp) -> Vec<Datum> {
    let at = Timestamp((now.0 / MINUTE_MS).saturating_sub(1) * MINUTE_MS);
    let mut all = Vec::new();
    for cluster in view.clusters.iter().filter(|it| it.is_active()) {
        let (account, name) = (cluster.account, &cluster.name);
        let total = registered(view, account, name);
        if total == Reserved::default() {
            continue;
        }
        let taken = view.reserved_by_running(account, name);
        for (metric, taken, of) in [
            ("CPUReservation", taken.cpu, total.cpu),
            ("MemoryReservation", taken.memory, total.memory),
            ("GPUReservation", taken.gpus, total.gpus),
        ] {
            if of != 0 {
                let dimensions = [("ClusterName".to_owned(), name.to_string())].into();
                let set = StatisticSet::one(percent(amount(taken), of));
                all.push(datum(account, metric, dimensions, at, set));
            }
        }
    }
    all
}

fn datum(
    account: AccountId,
    name: &str,
    dimensions: BTreeMap<String, String>,
    at: Timestamp,
    set: StatisticSet,
) -> Datum {
    let (namespace, name) = ("AWS/ECS".to_owned(), name.to_owned());
    let metric = MetricId { account, namespace, name, dimensions };
    Datum { metric, unit: "Percent".to_owned(), at, set, is_fine: false }
}

fn told(view: &View, number: u64, slot: &Slot) -> Vec<Datum> {
    let at = Timestamp(number.saturating_mul(SLOT_MS));
    let datum = |account, name, dimensions, set| datum(account, name, dimensions, at, set);
    let mut all = Vec::new();
    for ((account, cluster, service), tasks) in &slot.services {
        let dimensions = || -> BTreeMap<String, String> {
            let pairs = [("ClusterName", cluster.to_string()), ("ServiceName", service.clone())];
            pairs.map(|(name, value)| (name.to_owned(), value)).into()
        };
        let (cpu, memory) = (samples(tasks, |used| used.0), samples(tasks, |used| used.1));
        all.extend(cpu.map(|set| datum(*account, "CPUUtilization", dimensions(), set)));
        all.extend(memory.map(|set| datum(*account, "MemoryUtilization", dimensions(), set)));
    }
    for ((account, cluster), tasks) in &slot.clusters {
        let (cpu, memory) =
            tasks.values().fold((0.0, 0.0), |all, used| (all.0 + used.0, all.1 + used.1));
        let total = registered(view, *account, cluster);
        if total.cpu == 0 || total.memory == 0 {
            continue;
        }
        let dimensions = || -> BTreeMap<String, String> {
            [("ClusterName".to_owned(), cluster.to_string())].into()
        };
        let set = |used: f64, of| StatisticSet::one(percent(used, of));
        all.push(datum(*account, "CPUUtilization", dimensions(), set(cpu, total.cpu)));
        all.push(datum(*account, "MemoryUtilization", dimensions(), set(memory, total.memory)));
    }
    all
}

/// What a cluster's container instances have.
fn registered(view: &View, account: AccountId, cluster: &ClusterName) -> Reserved {
    let rows = view.instances_of_cluster(account, cluster);
    let rows = rows.filter(|row| row.status < InstanceStatus::Inactive);
    rows.fold(Reserved::default(), |all, row| {
        let Resources { cpu, memory } = row.total;
        let gpus = row.gpu_count().into();
        all.and(1, Reserved { cpu: cpu.0.into(), memory: memory.0.into(), gpus })
    })
}

#[cfg(test)]
mod tests {
    use longshore_types::{CpuUnits, MemoryMib};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_containers_used_is_added_up_as_far_as_they_say_it() {
        let set = |sum: f64| json!({"min": 0.0, "max": sum, "sampleCount": 2, "sum": sum});
        let container =
            |cpu: f64, memory: f64| json!({"cpuStatsSet": set(cpu), "memoryStatsSet": set(memory)});
        let both =
            json!([container(30.0, 64.0), container(10.0, 16.0), {"containerName": "quiet"}]);
        assert_eq!(used(&both), Some((20.0, 40.0)));
        for odd in [json!({}), json!([{"cpuStatsSet": set(1.0)}]), json!([]), json!(7)] {
            assert_eq!(used(&odd), None, "{odd}");
        }
    }

    #[test]
    fn a_task_uses_no_more_than_its_host_has() {
        let set = json!({"min": 0.0, "max": 1e308, "sampleCount": 1e-300, "sum": 1e308});
        let (cpu, memory) =
            used(&json!([{"cpuStatsSet": set.clone(), "memoryStatsSet": set}])).unwrap();
        let total = Resources { cpu: CpuUnits(1_024), memory: MemoryMib(2_048) };
        assert_eq!(of_host(cpu, memory, total), (1_024.0, 2_048.0));
        assert_eq!(of_host(50.0, 100.0, total), (512.0, 100.0));
    }
}
