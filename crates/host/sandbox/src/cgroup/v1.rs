//! Version 1: a hierarchy for each controller, kept in step.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{CPU_PERIOD_US, DeviceRule, View, field, number, quota_us, set, tree};
use crate::error::{Doing, SandboxError};
use crate::spec::{GroupLimits, Limits, Stats};
use crate::usage::{Usage, blocks_v1, figures};

/// What an unlimited group reports is the largest page-aligned number, not a size.
const NO_LIMIT: u64 = 1 << 60;
/// The kernel keeps shares within these.
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) mount: PathBuf,
    /// `cpu`, `memory`, …; `name=…` or nothing for one without controllers.
    controllers: Vec<String>,
}

impl Hierarchy {
    /// That of version 2, mounted beside those of version 1: it limits nothing, and tells the host's
    /// packet filter whose a socket is.
    pub(super) fn unified(mount: PathBuf) -> Self {
        Self { mount, controllers: Vec::new() }
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    pub(super) fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    pub(super) fn has_controllers(&self) -> bool {
        self.controllers.iter().any(|name| !name.starts_with("name="))
    }
}

/// The hierarchies in a mount table, each once.
pub(super) fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, rest)) = line.split_once(" - ") else { continue };
        let mut rest = rest.split(' ');
        if rest.next() != Some("cgroup") {
            continue;
        }
        let (Some(mount), Some(options)) = (mount.split(' ').nth(4), rest.nth(1)) else { continue };
        let is_flag = |option: &&str| !matches!(*option, "rw" | "ro" | "none" | "favordynmods");
        let controllers: Vec<String> = options
            .split(',')
            .filter(is_flag)
            .filter(|option| {
                option.starts_with("name=")
                    || option.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            })
            .filter(|option| !matches!(*option, "xattr" | "clone_children" | "noprefix"))
            .map(str::to_owned)
            .collect();
        let is_new = found.iter().all(|other| other.controllers != controllers);
        if is_new && !controllers.is_empty() {
            found.push(Hierarchy { mount: PathBuf::from(mount), controllers });
        }
    }
    found
}

fn dir(hierarchies: &[Hierarchy], controller: &str, path: &Path) -> Option<PathBuf> {
    let hierarchy = hierarchies.iter().find(|hierarchy| hierarchy.has(controller))?;
    Some(hierarchy.mount.join(path))
}

pub(super) fn make(hierarchies: &[Hierarchy], path: &Path) -> Result<(), SandboxError> {
    for hierarchy in hierarchies {
        let dir = hierarchy.mount.join(path);
        fs::create_dir_all(&dir).doing_at("create cgroup", &dir)?;
        if hierarchy.has("cpuset") {
            inherit_cpuset(&hierarchy.mount, path)?;
        }
    }
    Ok(())
}

/// A new cpuset is empty, and an empty one takes no process.
fn inherit_cpuset(mount: &Path, path: &Path) -> Result<(), SandboxError> {
    let mut parent = mount.to_owned();
    for component in path.components() {
        let child = parent.join(component);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let is_empty =
                fs::read_to_string(child.join(file)).is_ok_and(|text| text.trim().is_empty());
            if is_empty {
                let value =
                    fs::read_to_string(parent.join(file)).doing_at("read", &parent.join(file))?;
                set(&child, file, value.trim())?;
            }
        }
        parent = child;
    }
    Ok(())
}

pub(super) fn limit_group(
    hierarchies: &[Hierarchy],
    path: &Path,
    limits: &GroupLimits,
) -> Result<(), SandboxError> {
    limit_cpu(hierarchies, path, limits.cpu_quota)?;
    limit_memory(hierarchies, path, limits.memory, Some(0))?;
    limit_pids(hierarchies, path, limits.pids)
}

pub(super) fn limit_container(
    hierarchies: &[Hierarchy],
    path: &Path,
    limits: &Limits,
    devices: Option<&[DeviceRule]>,
) -> Result<(), SandboxError> {
    if let (Some(shares), Some(cpu)) = (limits.cpu_shares, dir(hierarchies, "cpu", path)) {
        set(&cpu, "cpu.shares", &shares.clamp(SHARES_MIN, SHARES_MAX).to_string())?;
    }
    if let Some(group) = dir(hierarchies, "cpu", path).as_deref().and_then(Path::parent) {
        weigh_group(group)?;
    }
    limit_cpu(hierarchies, path, limits.cpu_quota)?;
    limit_memory(hierarchies, path, limits.memory, Some(limits.swap.unwrap_or(0)))?;
    if let Some(memory) = dir(hierarchies, "memory", path) {
        if let Some(bytes) = limits.memory_reservation {
            set(&memory, "memory.soft_limit_in_bytes", &bytes.to_string())?;
        }
        if let Some(percent) = limits.swappiness {
            set(&memory, "memory.swappiness", &percent.min(100).to_string())?;
        }
    }
    limit_pids(hierarchies, path, limits.pids)?;
    if let (Some(rules), Some(devices)) = (devices, dir(hierarchies, "devices", path)) {
        set(&devices, "devices.deny", "a")?;
        allow(&devices.join("devices.allow"), rules)?;
    }
    Ok(())
}

/// Each rule is a write of its own, through one open file.
fn allow(file: &Path, rules: &[DeviceRule]) -> Result<(), SandboxError> {
    let mut open = File::options().write(true).open(file).doing_at("open", file)?;
    for rule in rules {
        open.write_all(rule.to_string().as_bytes()).map_err(|why| SandboxError::Limit {
            what: "devices".into(),
            value: rule.to_string(),
            why: why.to_string(),
        })?;
    }
    Ok(())
}

/// A group weighs what its containers weigh together.
fn weigh_group(group: &Path) -> Result<(), SandboxError> {
    let children = tree::children(group);
    let shares = children.iter().filter_map(|child| number(&group.join(child), "cpu.shares"));
    let total: u64 = shares.sum();
    set(group, "cpu.shares", &total.clamp(SHARES_MIN, SHARES_MAX).to_string())
}

fn limit_cpu(
    hierarchies: &[Hierarchy],
    path: &Path,
    quota: Option<u32>,
) -> Result<(), SandboxError> {
    let (Some(millis), Some(cpu)) = (quota, dir(hierarchies, "cpu", path)) else { return Ok(()) };
    set(&cpu, "cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
    set(&cpu, "cpu.cfs_quota_us", &quota_us(millis).to_string())
}

fn limit_pids(
    hierarchies: &[Hierarchy],
    path: &Path,
    count: Option<u64>,
) -> Result<(), SandboxError> {
    match (count, dir(hierarchies, "pids", path)) {
        (Some(count), Some(dir)) => set(&dir, "pids.max", &count.to_string()),
        (Some(_) | None, _) => Ok(()),
    }
}

/// `swap` is what may be used beyond `memory`; not every kernel accounts for it.
fn limit_memory(
    hierarchies: &[Hierarchy],
    path: &Path,
    memory: Option<u64>,
    swap: Option<u64>,
) -> Result<(), SandboxError> {
    let (Some(bytes), Some(dir)) = (memory, dir(hierarchies, "memory", path)) else {
        return Ok(());
    };
    set(&dir, "memory.limit_in_bytes", &bytes.to_string())?;
    let both = "memory.memsw.limit_in_bytes";
    match swap {
        Some(swap) if dir.join(both).exists() => {
            set(&dir, both, &bytes.saturating_add(swap).to_string())
        }
        Some(_) | None => Ok(()),
    }
}

/// Those controllers that programs read their limits from.
pub(super) fn views(hierarchies: &[Hierarchy], path: &Path) -> Vec<View> {
    let controllers = ["blkio", "cpu", "cpuacct", "cpuset", "memory", "pids"];
    let view = |controller| dir(hierarchies, controller, path).map(|dir| View { controller, dir });
    controllers.into_iter().filter_map(view).collect()
}

pub(super) fn oom_kills(hierarchies: &[Hierarchy], path: &Path) -> u64 {
    let dir = dir(hierarchies, "memory", path);
    dir.and_then(|dir| field(&dir, "memory.oom_control", "oom_kill")).unwrap_or(0)
}

pub(super) fn pids(hierarchies: &[Hierarchy], path: &Path) -> Option<(u64, u64)> {
    super::pids(&dir(hierarchies, "pids", path)?)
}

pub(super) fn stats(hierarchies: &[Hierarchy], path: &Path) -> Stats {
    let at = |controller| dir(hierarchies, controller, path);
    let memory = |file| at("memory").and_then(|dir| number(&dir, file)).unwrap_or(0);
    let (blkio_read_bytes, blkio_write_bytes) =
        at("blkio").map(|dir| block_bytes(&dir)).unwrap_or_default();
    let limit = memory("memory.limit_in_bytes");
    let cpuacct = |file| at("cpuacct").and_then(|dir| number(&dir, file)).unwrap_or(0);
    Stats {
        cpu_ns: cpuacct("cpuacct.usage"),
        cpu_user_ns: cpuacct("cpuacct.usage_user"),
        cpu_system_ns: cpuacct("cpuacct.usage_sys"),
        throttled_periods: at("cpu")
            .and_then(|dir| field(&dir, "cpu.stat", "nr_throttled"))
            .unwrap_or(0),
        memory_usage: memory("memory.usage_in_bytes"),
        memory_max_usage: memory("memory.max_usage_in_bytes"),
        memory_limit: if limit == 0 || limit > NO_LIMIT { u64::MAX } else { limit },
        memory_inactive_file: at("memory")
            .and_then(|dir| field(&dir, "memory.stat", "total_inactive_file"))
            .unwrap_or(0),
        blkio_read_bytes,
        blkio_write_bytes,
        pids: at("pids").and_then(|dir| number(&dir, "pids.current")).unwrap_or(0),
        oom_kills: oom_kills(hierarchies, path),
    }
}

pub(super) fn usage(hierarchies: &[Hierarchy], path: &Path) -> Usage {
    let at = |controller| dir(hierarchies, controller, path);
    let read = |controller, file: &str| {
        at(controller).and_then(|dir| fs::read_to_string(dir.join(file)).ok()).unwrap_or_default()
    };
    let blocks = |file: &str| {
        let all = read("blkio", &format!("blkio.throttle.{file}_recursive"));
        let own = || read("blkio", &format!("blkio.throttle.{file}"));
        blocks_v1(&if all.is_empty() { own() } else { all })
    };
    let cpu = figures(&read("cpu", "cpu.stat"));
    let figure = |name: &str| cpu.get(name).copied().unwrap_or(0);
    let per_cpu = read("cpuacct", "cpuacct.usage_percpu");
    let pids_limit = at("pids").and_then(|dir| number(&dir, "pids.max"));
    Usage {
        stats: stats(hierarchies, path),
        per_cpu_ns: per_cpu.split_whitespace().filter_map(|word| word.parse().ok()).collect(),
        periods: figure("nr_periods"),
        throttled_ns: figure("throttled_time"),
        memory: figures(&read("memory", "memory.stat")),
        memory_failures: at("memory").and_then(|dir| number(&dir, "memory.failcnt")).unwrap_or(0),
        pids_limit: pids_limit.filter(|limit| *limit < u64::MAX),
        block_bytes: blocks("io_service_bytes"),
        block_operations: blocks("io_serviced"),
        ..Usage::default()
    }
}

/// Bytes read and written, over all devices: lines such as `8:0 Read 4096`.
fn block_bytes(dir: &Path) -> (u64, u64) {
    let text = fs::read_to_string(dir.join("blkio.throttle.io_service_bytes_recursive"))
        .or_else(|_| fs::read_to_string(dir.join("blkio.throttle.io_service_bytes")))
        .unwrap_or_default();
    let sum = |kind: &str| {
        let values = text.lines().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            (words.next() == Some(kind)).then(|| words.next()?.parse::<u64>().ok()).flatten()
        });
        values.sum()
    };
    (sum("Read"), sum("Write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_told_from_mount_flags() {
        let table = "\
30 29 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 29 0:27 / /sys/fs/cgroup/systemd rw,relatime shared:5 - cgroup cgroup rw,xattr,name=systemd
32 29 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
33 29 0:26 / /elsewhere rw,relatime - cgroup cgroup rw,cpu,cpuacct
";
        let found = hierarchies(table);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].has("cpu") && found[0].has("cpuacct"));
        assert_eq!(found[1].controllers, ["name=systemd"]);
    }
}
