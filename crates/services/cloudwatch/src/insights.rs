//! Container Insights: the metrics of `ECS/ContainerInsights`, for clusters whose setting `containerInsights` asks for them.
//!
//! Each task is one sample a minute of what it used and of what was reserved for it, by cluster, by service and by family of
//! task definitions, so that sums are those of all tasks. How many there are of a thing is a sample a minute, taken when the
//! minute is over. <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Container-Insights-metrics-ECS.html>

use std::collections::BTreeMap;
use std::sync::PoisonError;

use longshore_types::{AccountId, ClusterName, Resources, StatisticSet, TaskId, Timestamp};
use metrics::{Datum, MetricId};
use model::instance::InstanceStatus;
use model::service::{Rank, Scheduling, ServiceStatus};
use model::task::{Desired, LaunchType, Phase};
use model::{Cluster, Service, Task, View};
use serde_json::Value;

use crate::CloudWatch;
use crate::usage::mean;

const NAMESPACE: &str = "ECS/ContainerInsights";
const MINUTE_MS: u64 = 60_000;

/// What tasks of clusters with insights used, by minutes.
pub(crate) type Minutes = BTreeMap<u64, BTreeMap<TaskId, Used>>;

/// What a task used in a minute.
#[derive(Debug)]
pub(crate) struct Used {
    account: AccountId,
    cluster: ClusterName,
    service: Option<String>,
    family: String,
    reserved: Resources,
    /// How many reports it is of.
    reports: f64,
    /// CPU units and MiB, of all reports together.
    cpu: f64,
    memory: f64,
    /// Bytes a second in and out, of all reports together; none of a task without an interface of its own.
    rates: Option<(f64, f64)>,
    /// Bytes read and written.
    read: f64,
    written: f64,
}

/// How closely a cluster is looked at: by its setting `containerInsights`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    Basic,
    /// Also how much of what is reserved was used.
    Enhanced,
}

fn depth(cluster: &Cluster) -> Option<Depth> {
    match cluster.settings.get("containerInsights").map(String::as_str) {
        Some("enabled") => Some(Depth::Basic),
        Some("enhanced") => Some(Depth::Enhanced),
        _ => None,
    }
}

/// What containers read and wrote, and by the second took in and sent.
#[derive(Debug, Default, PartialEq)]
struct Traffic {
    rates: Option<(f64, f64)>,
    read: f64,
    written: f64,
}

fn traffic(containers: &Value) -> Traffic {
    let mut all = Traffic::default();
    let rate = |set: &Value| mean(set).filter(|it| it.is_finite());
    for container in containers.as_array().into_iter().flatten() {
        let net = &container["networkStatsSet"];
        if let (Some(rx), Some(tx)) =
            (rate(&net["rxBytesPerSecond"]), rate(&net["txBytesPerSecond"]))
        {
            let (known_rx, known_tx) = all.rates.unwrap_or_default();
            all.rates = Some((known_rx + rx, known_tx + tx));
        }
        let storage = &container["storageStatsSet"];
        let sum = |name: &str| {
            let sum = storage[name]["sum"].as_f64();
            sum.filter(|it| it.is_finite() && 0.0 <= *it).unwrap_or_default()
        };
        all.read += sum("readSizeBytes");
        all.written += sum("writeSizeBytes");
    }
    all
}

impl CloudWatch {
    /// Takes in what a task used, in CPU units and MiB, where its cluster has insights.
    pub(crate) fn note_insight(
        &self,
        task: &Task,
        (cpu, memory): (f64, f64),
        containers: &Value,
        now: Timestamp,
    ) {
        let account = task.scope.account;
        let view = self.control.view();
        if view.active_cluster(account, &task.cluster).and_then(|it| depth(it)).is_none() {
            return;
        }
        let traffic = traffic(containers);
        let mut minutes = self.insights.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks = minutes.entry(now.0 / MINUTE_MS).or_default();
        let used = tasks.entry(task.id).or_insert_with(|| Used {
            account,
            cluster: task.cluster.clone(),
            service: task.service.as_ref().map(|it| it.name.to_string()),
            family: task.definition.family.to_string(),
            reserved: task.need.resources,
            reports: 0.0,
            cpu: 0.0,
            memory: 0.0,
            rates: None,
            read: 0.0,
            written: 0.0,
        });
        used.reports += 1.0;
        used.cpu += cpu;
        used.memory += memory;
        if let Some((rx, tx)) = traffic.rates {
            let (known_rx, known_tx) = used.rates.unwrap_or_default();
            used.rates = Some((known_rx + rx, known_tx + tx));
        }
        used.read += traffic.read;
        used.written += traffic.written;
    }

    /// What is known of the minutes that are over, which are forgotten here, and how many there are now. To be called once a
    /// minute.
    pub(crate) fn take_insights(&self, now: Timestamp) -> Vec<Datum> {
        let current = now.0 / MINUTE_MS;
        let over = {
            let mut minutes = self.insights.lock().unwrap_or_else(PoisonError::into_inner);
            let rest = minutes.split_off(&current);
            std::mem::replace(&mut *minutes, rest)
        };
        let view = self.control.view();
        let mut all: Vec<Datum> = Vec::new();
        for (minute, tasks) in &over {
            all.extend(used_by(&view, Timestamp(minute * MINUTE_MS), tasks));
        }
        let at = Timestamp(current.saturating_sub(1) * MINUTE_MS);
        for cluster in view.clusters.iter().filter(|it| it.is_active() && depth(it).is_some()) {
            all.extend(counts(&view, cluster, at));
        }
        all
    }
}

type Dimensions = BTreeMap<String, String>;

fn datum(
    account: AccountId,
    name: &str,
    unit: &str,
    dimensions: Dimensions,
    at: Timestamp,
) -> Datum {
    let (namespace, name) = (NAMESPACE.to_owned(), name.to_owned());
    let metric = MetricId { account, namespace, name, dimensions };
    Datum { metric, unit: unit.to_owned(), at, set: StatisticSet::one(0.0), is_fine: false }
}

/// What tasks used in a minute, by cluster, service and family.
fn used_by(view: &View, at: Timestamp, tasks: &BTreeMap<TaskId, Used>) -> Vec<Datum> {
    let mut sets: BTreeMap<(AccountId, Dimensions, &str), (&str, StatisticSet)> = BTreeMap::new();
    for used in tasks.values() {
        let cluster = view.active_cluster(used.account, &used.cluster);
        let Some(depth) = cluster.and_then(|it| depth(it)) else { continue };
        let of_cluster: Dimensions = [("ClusterName".to_owned(), used.cluster.to_string())].into();
        let with = |name: &str, value: &String| {
            let mut more = of_cluster.clone();
            more.insert(name.to_owned(), value.clone());
            more
        };
        let mut all = vec![with("TaskDefinitionFamily", &used.family)];
        all.extend(used.service.as_ref().map(|service| with("ServiceName", service)));
        all.push(of_cluster);
        for dimensions in all {
            for (name, unit, value) in samples(used, depth) {
                let sample = StatisticSet::one(value);
                let key = (used.account, dimensions.clone(), name);
                let known = sets.entry(key);
                known.and_modify(|(_, set)| set.add(&sample)).or_insert((unit, sample));
            }
        }
    }
    let told = sets.into_iter().map(|((account, dimensions, name), (unit, set))| Datum {
        set,
        ..datum(account, name, unit, dimensions, at)
    });
    told.collect()
}

/// A task's samples of a minute: name, unit and value.
fn samples(used: &Used, depth: Depth) -> Vec<(&'static str, &'static str, f64)> {
    let (cpu, memory) = (used.cpu / used.reports, used.memory / used.reports);
    let (cpu_of, memory_of) = (f64::from(used.reserved.cpu.0), f64::from(used.reserved.memory.0));
    let mut all = vec![
        ("CpuUtilized", "None", cpu),
        ("CpuReserved", "None", cpu_of),
        ("MemoryUtilized", "Megabytes", memory),
        ("MemoryReserved", "Megabytes", memory_of),
        ("StorageReadBytes", "Bytes", used.read),
        ("StorageWriteBytes", "Bytes", used.written),
    ];
    if let Some((rx, tx)) = used.rates {
        all.push(("NetworkRxBytes", "Bytes/Second", rx / used.reports));
        all.push(("NetworkTxBytes", "Bytes/Second", tx / used.reports));
    }
    if depth == Depth::Enhanced {
        let mut share = |name, part: f64, of: f64| {
            if 0.0 < of {
                all.push((name, "Percent", part * 100.0 / of));
            }
        };
        share("TaskCpuUtilization", cpu, cpu_of);
        share("TaskMemoryUtilization", memory, memory_of);
    }
    all
}

fn amount(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// How many tasks, services and instances a cluster has, and tasks and deployments its services.
fn counts(view: &View, cluster: &Cluster, at: Timestamp) -> Vec<Datum> {
    let (account, name) = (cluster.account, &cluster.name);
    let instances = view.instances_of_cluster(account, name);
    let instances = instances.filter(|it| it.status < InstanceStatus::Inactive).count();
    let services: Vec<&Service> = view
        .services_of_cluster(account, name)
        .map(AsRef::as_ref)
        .filter(|it| it.status < ServiceStatus::Inactive)
        .collect();
    let launches = [LaunchType::Ec2, LaunchType::Fargate, LaunchType::External];
    let running = launches
        .into_iter()
        .map(|launch| view.tally(&model::Tally::RunningTasks(account, name.clone(), launch)));
    let of_cluster: Dimensions = [("ClusterName".to_owned(), name.to_string())].into();
    let told = |name, dimensions: &Dimensions, count| Datum {
        set: StatisticSet::one(count),
        ..datum(account, name, "Count", dimensions.clone(), at)
    };
    let mut all = vec![
        told("ContainerInstanceCount", &of_cluster, amount(instances)),
        told("ServiceCount", &of_cluster, amount(services.len())),
        told("TaskCount", &of_cluster, amount(running.sum())),
    ];
    for service in services {
        let id = service.key();
        let mut dimensions = of_cluster.clone();
        dimensions.insert("ServiceName".to_owned(), id.name.to_string());
        let (mut pending, mut running, mut wanted) = (0, 0, 0);
        for task in view.tasks_of_service(account, &id) {
            wanted += u32::from(task.desired == Desired::Running);
            running += u32::from(task.phase == Phase::Running);
            pending += u32::from(task.phase < Phase::Running);
        }
        let desired = match service.scheduling {
            Scheduling::Replica => service.desired_count,
            Scheduling::Daemon => wanted,
        };
        let deployments = view.deployments_of(account, &id);
        let deployments = deployments.filter(|it| it.rank < Rank::Gone).count();
        let sets = view.task_sets_of(account, &id).count();
        all.extend([
            told("DesiredTaskCount", &dimensions, f64::from(desired)),
            told("RunningTaskCount", &dimensions, f64::from(running)),
            told("PendingTaskCount", &dimensions, f64::from(pending)),
            told("DeploymentCount", &dimensions, amount(deployments)),
            told("TaskSetCount", &dimensions, amount(sets)),
        ]);
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_odd_reports_say_counts_for_nothing() {
        let set = |sum: f64| json!({"sampleCount": 2, "sum": sum});
        let container = json!({
            "networkStatsSet": {"rxBytesPerSecond": set(200.0), "txBytesPerSecond": set(20.0)},
            "storageStatsSet": {"readSizeBytes": set(7.0), "writeSizeBytes": set(-1.0)},
        });
        let quiet = json!({"containerName": "quiet"});
        let expected = Traffic { rates: Some((100.0, 10.0)), read: 7.0, written: 0.0 };
        assert_eq!(traffic(&json!([container, quiet])), expected);
        for odd in [json!({}), json!([7, {"networkStatsSet": []}]), json!("x")] {
            assert_eq!(traffic(&odd), Traffic::default(), "{odd}");
        }
    }
}
