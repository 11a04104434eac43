//! What a container has used, from Docker's figures to the sandbox's.

use std::collections::BTreeMap;

use bollard::models::{ContainerBlkioStatEntry, ContainerStatsResponse};
use sandbox::{BlockCount, Stats, Usage};

/// What went through a container's interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkUse {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

impl NetworkUse {
    /// From what a process reads in its `/proc/net/dev`; loopback is nobody's traffic.
    pub fn of_device_table(text: &str) -> Self {
        let mut all = Self::default();
        for line in text.lines() {
            let Some((name, figures)) = line.split_once(':') else { continue };
            let figures: Vec<u64> =
                figures.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
            if name.trim() == "lo" || figures.len() < 16 {
                continue;
            }
            let sums = [
                (&mut all.rx_bytes, 0),
                (&mut all.rx_packets, 1),
                (&mut all.rx_errors, 2),
                (&mut all.rx_dropped, 3),
                (&mut all.tx_bytes, 8),
                (&mut all.tx_packets, 9),
                (&mut all.tx_errors, 10),
                (&mut all.tx_dropped, 11),
            ];
            for (sum, column) in sums {
                *sum = sum.saturating_add(figures[column]);
            }
        }
        all
    }
}

pub(crate) fn of_network(stats: &ContainerStatsResponse) -> NetworkUse {
    let mut all = NetworkUse::default();
    for each in stats.networks.iter().flat_map(|networks| networks.values()) {
        let add = |sum: &mut u64, value: Option<u64>| *sum = sum.saturating_add(value.unwrap_or(0));
        add(&mut all.rx_bytes, each.rx_bytes);
        add(&mut all.rx_packets, each.rx_packets);
        add(&mut all.rx_errors, each.rx_errors);
        add(&mut all.rx_dropped, each.rx_dropped);
        add(&mut all.tx_bytes, each.tx_bytes);
        add(&mut all.tx_packets, each.tx_packets);
        add(&mut all.tx_errors, each.tx_errors);
        add(&mut all.tx_dropped, each.tx_dropped);
    }
    all
}

pub(crate) fn of(stats: &ContainerStatsResponse) -> Usage {
    let cpu = stats.cpu_stats.clone().unwrap_or_default();
    let used = cpu.cpu_usage.unwrap_or_default();
    let throttled = cpu.throttling_data.unwrap_or_default();
    let memory = stats.memory_stats.clone().unwrap_or_default();
    let block = stats.blkio_stats.clone().unwrap_or_default();
    let pids = stats.pids_stats.clone().unwrap_or_default();
    let figures: BTreeMap<String, u64> = memory.stats.unwrap_or_default().into_iter().collect();
    // As version 1 of control groups calls it, and version 2.
    let inactive =
        ["total_inactive_file", "inactive_file"].iter().find_map(|name| figures.get(*name));
    let block_bytes = counts(block.io_service_bytes_recursive);
    let sum = |operation: &str| {
        let of_kind =
            block_bytes.iter().filter(|count| count.operation.eq_ignore_ascii_case(operation));
        of_kind.map(|count| count.value).sum()
    };
    Usage {
        stats: Stats {
            cpu_ns: used.total_usage.unwrap_or(0),
            cpu_user_ns: used.usage_in_usermode.unwrap_or(0),
            cpu_system_ns: used.usage_in_kernelmode.unwrap_or(0),
            throttled_periods: throttled.throttled_periods.unwrap_or(0),
            memory_usage: memory.usage.unwrap_or(0),
            memory_max_usage: memory.max_usage.unwrap_or(0),
            memory_limit: memory.limit.unwrap_or(u64::MAX),
            memory_inactive_file: inactive.copied().unwrap_or(0),
            blkio_read_bytes: sum("read"),
            blkio_write_bytes: sum("write"),
            pids: pids.current.unwrap_or(0),
            oom_kills: 0,
        },
        per_cpu_ns: used.percpu_usage.unwrap_or_default(),
        periods: throttled.periods.unwrap_or(0),
        throttled_ns: throttled.throttled_time.unwrap_or(0),
        host_cpu_ns: cpu.system_cpu_usage.unwrap_or(0),
        online_cpus: cpu.online_cpus.unwrap_or(0),
        host_memory: 0,
        memory: figures,
        memory_failures: memory.failcnt.unwrap_or(0),
        pids_limit: pids.limit.filter(|limit| *limit > 0),
        block_operations: counts(block.io_serviced_recursive),
        block_bytes,
    }
}

fn counts(entries: Option<Vec<ContainerBlkioStatEntry>>) -> Vec<BlockCount> {
    let count = |entry: ContainerBlkioStatEntry| {
        Some(BlockCount {
            major: entry.major?,
            minor: entry.minor?,
            operation: entry.op?,
            value: entry.value?,
        })
    };
    entries.unwrap_or_default().into_iter().filter_map(count).collect()
}

#[cfg(test)]
mod tests {
    use bollard::models::{
        ContainerCpuStats, ContainerCpuUsage, ContainerMemoryStats, ContainerNetworkStats,
    };

    use super::*;

    #[test]
    fn a_device_table_is_added_up_without_loopback() {
        let table = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:      10       2    3    4    0     0          0         0       20       5    6    7    0     0       0          0
";
        let used = NetworkUse::of_device_table(table);
        let expected = NetworkUse {
            rx_bytes: 10,
            rx_packets: 2,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 20,
            tx_packets: 5,
            tx_errors: 6,
            tx_dropped: 7,
        };
        assert_eq!(used, expected);
    }

    #[test]
    fn figures_of_docker_are_those_of_the_sandbox() {
        let network = |bytes| ContainerNetworkStats { rx_bytes: Some(bytes), ..Default::default() };
        let stats = ContainerStatsResponse {
            cpu_stats: Some(ContainerCpuStats {
                cpu_usage: Some(ContainerCpuUsage { total_usage: Some(7), ..Default::default() }),
                online_cpus: Some(2),
                ..Default::default()
            }),
            memory_stats: Some(ContainerMemoryStats {
                usage: Some(100),
                stats: Some([("inactive_file".to_owned(), 40)].into_iter().collect()),
                ..Default::default()
            }),
            networks: Some(
                [("eth0".to_owned(), network(3)), ("eth1".to_owned(), network(4))]
                    .into_iter()
                    .collect(),
            ),
            ..Default::default()
        };
        let usage = of(&stats);
        assert_eq!((usage.stats.cpu_ns, usage.online_cpus), (7, 2));
        assert_eq!((usage.stats.memory_usage, usage.stats.memory_inactive_file), (100, 40));
        assert_eq!(usage.stats.memory_limit, u64::MAX);
        assert_eq!(of_network(&stats).rx_bytes, 7);
    }
}
