//! Version 2: one tree. A group with children has no processes of its own, which ours obey: groups
//! hold containers, containers hold processes.

use std::fs;
use std::path::{Path, PathBuf};

use ::files::set_kernel_file;

use super::{CPU_PERIOD_US, DeviceRule, devices, field, number, quota_us, set, tree};
use crate::error::{Doing, SandboxError};
use crate::spec::{GroupLimits, Limits, Stats};
use crate::usage::{Usage, blocks_v2, figures};

/// What we switch on for our groups, where the kernel has it.
const CONTROLLERS: [&str; 5] = ["cpu", "memory", "pids", "io", "cpuset"];
const WEIGHT_MAX: u64 = 10_000;

#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) mount: PathBuf,
}

impl Root {
    pub(super) fn find(mountinfo: &str) -> Option<Self> {
        let line = mountinfo.lines().find(|line| line.contains(" - cgroup2 "))?;
        Some(Self { mount: PathBuf::from(line.split(' ').nth(4)?) })
    }
}

pub(super) fn make(root: &Root, path: &Path) -> Result<(), SandboxError> {
    let mut dir = root.mount.clone();
    for component in path.components() {
        enable_controllers(&dir);
        dir.push(component);
        if !dir.exists() {
            fs::create_dir_all(&dir).doing_at("create cgroup", &dir)?;
        }
    }
    Ok(())
}

/// Those that are already on cost a read; those that are not to be had are found out when a limit
/// needs them.
fn enable_controllers(dir: &Path) {
    let enabled = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    for controller in CONTROLLERS {
        let has = |list: &str| list.split_whitespace().any(|name| name == controller);
        if has(&available) && !has(&enabled) {
            let _ = set_kernel_file(&dir.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
    }
}

pub(super) fn limit_group(
    root: &Root,
    path: &Path,
    limits: &GroupLimits,
) -> Result<(), SandboxError> {
    let dir = root.mount.join(path);
    limit_cpu(&dir, limits.cpu_quota)?;
    limit_memory(&dir, limits.memory, Some(0))?;
    limit_pids(&dir, limits.pids)
}

pub(super) fn limit_container(
    root: &Root,
    path: &Path,
    limits: &Limits,
    rules: Option<&[DeviceRule]>,
) -> Result<(), SandboxError> {
    let dir = root.mount.join(path);
    if let Some(shares) = limits.cpu_shares {
        set(&dir, "cpu.weight", &weight(shares).to_string())?;
    }
    if let Some(group) = dir.parent() {
        weigh_group(group)?;
    }
    limit_cpu(&dir, limits.cpu_quota)?;
    limit_memory(&dir, limits.memory, Some(limits.swap.unwrap_or(0)))?;
    if let Some(bytes) = limits.memory_reservation {
        set(&dir, "memory.low", &bytes.to_string())?;
    }
    limit_pids(&dir, limits.pids)?;
    match rules {
        Some(rules) => devices::attach(&dir, rules),
        None => Ok(()),
    }
}

/// 2..=262144 shares onto 1..=10000, as the OCI runtimes agreed.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * (WEIGHT_MAX - 1) / 262_142
}

fn weigh_group(group: &Path) -> Result<(), SandboxError> {
    if !group.join("cpu.weight").exists() {
        return Ok(());
    }
    let children = tree::children(group);
    let weights = children.iter().filter_map(|child| number(&group.join(child), "cpu.weight"));
    let total: u64 = weights.sum();
    set(group, "cpu.weight", &total.clamp(1, WEIGHT_MAX).to_string())
}

fn limit_cpu(dir: &Path, quota: Option<u32>) -> Result<(), SandboxError> {
    match quota {
        Some(millis) => set(dir, "cpu.max", &format!("{} {CPU_PERIOD_US}", quota_us(millis))),
        None => Ok(()),
    }
}

fn limit_memory(dir: &Path, memory: Option<u64>, swap: Option<u64>) -> Result<(), SandboxError> {
    let Some(bytes) = memory else { return Ok(()) };
    set(dir, "memory.max", &bytes.to_string())?;
    match swap {
        Some(swap) if dir.join("memory.swap.max").exists() => {
            set(dir, "memory.swap.max", &swap.to_string())
        }
        Some(_) | None => Ok(()),
    }
}

fn limit_pids(dir: &Path, count: Option<u64>) -> Result<(), SandboxError> {
    count.map_or(Ok(()), |count| set(dir, "pids.max", &count.to_string()))
}

pub(super) fn pids(root: &Root, path: &Path) -> Option<(u64, u64)> {
    super::pids(&root.mount.join(path))
}

pub(super) fn oom_kills(root: &Root, path: &Path) -> u64 {
    field(&root.mount.join(path), "memory.events", "oom_kill").unwrap_or(0)
}

pub(super) fn stats(root: &Root, path: &Path) -> Stats {
    let dir = root.mount.join(path);
    let cpu = |key| field(&dir, "cpu.stat", key).unwrap_or(0);
    let (blkio_read_bytes, blkio_write_bytes) = block_bytes(&dir);
    Stats {
        cpu_ns: cpu("usage_usec").saturating_mul(1000),
        cpu_user_ns: cpu("user_usec").saturating_mul(1000),
        cpu_system_ns: cpu("system_usec").saturating_mul(1000),
        throttled_periods: cpu("nr_throttled"),
        memory_usage: number(&dir, "memory.current").unwrap_or(0),
        memory_max_usage: number(&dir, "memory.peak").unwrap_or(0),
        memory_limit: number(&dir, "memory.max").unwrap_or(u64::MAX),
        memory_inactive_file: field(&dir, "memory.stat", "inactive_file").unwrap_or(0),
        blkio_read_bytes,
        blkio_write_bytes,
        pids: number(&dir, "pids.current").unwrap_or(0),
        oom_kills: oom_kills(root, path),
    }
}

pub(super) fn usage(root: &Root, path: &Path) -> Usage {
    let dir = root.mount.join(path);
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
    let cpu = |key| field(&dir, "cpu.stat", key).unwrap_or(0);
    let io = read("io.stat");
    Usage {
        stats: stats(root, path),
        periods: cpu("nr_periods"),
        throttled_ns: cpu("throttled_usec").saturating_mul(1000),
        memory: figures(&read("memory.stat")),
        pids_limit: number(&dir, "pids.max").filter(|limit| *limit < u64::MAX),
        block_bytes: blocks_v2(&io, "rbytes", "wbytes"),
        block_operations: blocks_v2(&io, "rios", "wios"),
        ..Usage::default()
    }
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 …`, one a device.
fn block_bytes(dir: &Path) -> (u64, u64) {
    let text = fs::read_to_string(dir.join("io.stat")).unwrap_or_default();
    let sum = |key: &str| {
        text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).sum()
    };
    (sum("rbytes="), sum("wbytes="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_map_onto_the_whole_range_of_weights() {
        assert_eq!((weight(0), weight(2), weight(262_144)), (1, 1, 10_000));
        assert_eq!(weight(1024), 39);
    }
}
