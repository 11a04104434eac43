//! What a container has used, in the detail in which Docker tells it; and how far the machine's clock may be off.

use std::collections::BTreeMap;

use crate::spec::Stats;

/// What a container has used since it was created, and what the machine spent meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub stats: Stats,
    /// Nanoseconds on each processor; empty where the kernel keeps only the sum (version 2).
    pub per_cpu_ns: Vec<u64>,
    /// Periods of the CPU quota that have passed.
    pub periods: u64,
    pub throttled_ns: u64,
    /// Nanoseconds of all processors of the machine, in every state, idle ones included.
    pub host_cpu_ns: u64,
    pub online_cpus: u32,
    /// Bytes of memory of the machine.
    pub host_memory: u64,
    /// The kernel's own figures under its own names.
    pub memory: BTreeMap<String, u64>,
    /// How often memory ran into its limit (version 1).
    pub memory_failures: u64,
    pub pids_limit: Option<u64>,
    pub block_bytes: Vec<BlockCount>,
    pub block_operations: Vec<BlockCount>,
}

/// What was read from, or written to, one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockCount {
    pub major: u64,
    pub minor: u64,
    /// `Read`, `Write`, … under version 1, `read` and `write` under version 2, as Docker shows them.
    pub operation: String,
    pub value: u64,
}

/// How far the clock may be off, as whoever keeps it right has told the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// Microseconds.
    pub error_us_max: u64,
    pub is_synchronized: bool,
}

/// The figures of a file of lines such as `cache 4096`.
pub(crate) fn figures(text: &str) -> BTreeMap<String, u64> {
    let figure = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(figure).collect()
}

/// Lines such as `8:0 Read 4096`; those of sums over all devices name none.
pub(crate) fn blocks_v1(text: &str) -> Vec<BlockCount> {
    let count = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let operation = words.next()?.to_owned();
        let value = words.next()?.parse().ok()?;
        Some(BlockCount { major, minor, operation, value })
    };
    text.lines().filter_map(count).collect()
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0`, of which two keys are wanted.
pub(crate) fn blocks_v2(text: &str, read: &str, write: &str) -> Vec<BlockCount> {
    let mut counts = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let operation = match name {
                _ if name == read => "read",
                _ if name == write => "write",
                _ => continue,
            };
            let Ok(value) = value.parse() else { continue };
            counts.push(BlockCount { major, minor, operation: operation.to_owned(), value });
        }
    }
    counts
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Nanoseconds of all processors by `/proc/stat`, which counts in hundredths of a second; as Docker does, without
/// what guests had, which is counted twice.
pub(crate) fn host_cpu_ns(stat: &str) -> u64 {
    const TICK_NS: u64 = 10_000_000;
    const STATES: usize = 7;
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).take(STATES);
    ticks.filter_map(|word| word.parse::<u64>().ok()).sum::<u64>().saturating_mul(TICK_NS)
}

/// Bytes by `/proc/meminfo`.
pub(crate) fn host_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_tell_of_devices_each_in_its_way() {
        let count = |operation: &str, value| BlockCount {
            major: 8,
            minor: 16,
            operation: operation.to_owned(),
            value,
        };
        let text = "8:16 Read 4096\n8:16 Write 0\n8:16 Total 4096\nTotal 4096\n";
        let (read, write, total) = (count("Read", 4096), count("Write", 0), count("Total", 4096));
        assert_eq!(blocks_v1(text), [read, write, total]);
        let text = "8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n";
        assert_eq!(blocks_v2(text, "rbytes", "wbytes"), [count("read", 10), count("write", 20)]);
        assert_eq!(blocks_v2(text, "rios", "wios"), [count("read", 1), count("write", 2)]);
    }

    #[test]
    fn the_machines_time_is_that_of_all_its_processors() {
        let stat = "cpu  1 2 3 4 5 6 7 800 900 1000\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(host_cpu_ns(stat), 280_000_000);
        assert_eq!(host_memory("MemTotal:       2048 kB\nMemFree: 1 kB\n"), 2 << 20);
        assert_eq!(figures("cache 4096\nrss 10\nbroken\n")["cache"], 4096);
    }
}
