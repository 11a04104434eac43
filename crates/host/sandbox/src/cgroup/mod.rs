//! Control groups of both versions behind one face.
//!
//! Ours are `<parent>/<group>/<container>` in every hierarchy, where `<parent>` carries the
//! region's tag. Under version 1 each controller has its own tree and all are kept in step; under
//! version 2 there is one. A group has limits for all its containers together, and its weight is
//! the sum of theirs.
//!
//! **Invariant:** nothing outside `<parent>` is ever written to, but for switching controllers on
//! (v2) on the way down to it.

mod devices;
mod favor;
mod tree;
mod v1;
mod v2;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ::files::set_kernel_file;

use crate::error::{Doing, SandboxError};
use crate::ids::{ContainerId, GroupId};
use crate::spec::{GroupLimits, Limits, Stats};
use crate::usage::{self, Usage};

pub(crate) use devices::{DeviceKind, DeviceRule, default_rules};
pub(crate) use favor::FavorMoves;

/// Where the shims themselves are: outside every container, so that a container's limits do not
/// hit them, and outside the agent's own group, so that ending the agent does not end them.
/// No group can have this name.
const SHIMS: &str = ".shims";
/// The kernel's period of CPU quotas; Docker's default too.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel refuses less.
const CPU_QUOTA_US_MIN: u64 = 1_000;

/// The hierarchies of this host, seen from `<parent>`.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    layout: Layout,
    /// Relative to each hierarchy.
    parent: PathBuf,
}

#[derive(Clone, Debug)]
enum Layout {
    /// Those with controllers first.
    V1(Vec<v1::Hierarchy>),
    V2(v2::Root),
}

/// A control group of version 2, as the kernel's packet filter names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupNumber {
    /// How far it is below the root.
    pub level: u32,
    pub id: u64,
}

/// Where programs look for limits and usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Empty for version 2, which has all of them in one place.
    pub(crate) controller: &'static str,
    pub(crate) dir: PathBuf,
}

/// One control group: a directory in each hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup<'a> {
    layout: &'a Layout,
    path: PathBuf,
    /// Whether hierarchies without controllers have it too: they limit nothing, but whoever ends a
    /// service of the host kills what is in its group there.
    is_everywhere: bool,
}

impl Cgroups {
    /// Reads what is mounted. With both versions mounted, the one that has the memory controller.
    pub(crate) fn detect(parent: &Path) -> Result<Self, SandboxError> {
        let table = fs::read_to_string("/proc/self/mountinfo").doing("read the mount table")?;
        let mut hierarchies = v1::hierarchies(&table);
        let parent = parent.strip_prefix("/").unwrap_or(parent).to_owned();
        let root = v2::Root::find(&table);
        // One that we may not write to is as good as none.
        let unified =
            root.as_ref().filter(|root| fs::create_dir_all(root.mount.join(&parent)).is_ok());
        hierarchies.extend(unified.map(|root| v1::Hierarchy::unified(root.mount.clone())));
        hierarchies.sort_by_key(|hierarchy| !hierarchy.has_controllers());
        let layout = if hierarchies.iter().any(|hierarchy| hierarchy.has("memory")) {
            Layout::V1(hierarchies)
        } else {
            Layout::V2(root.ok_or_else(|| {
                SandboxError::io(
                    "find a cgroup hierarchy",
                    io::Error::from(io::ErrorKind::NotFound),
                )
            })?)
        };
        Ok(Self { layout, parent })
    }

    pub(crate) fn group(&self, group: &GroupId) -> Cgroup<'_> {
        self.at(self.parent.join(group.as_str()), false)
    }

    pub(crate) fn container(&self, group: &GroupId, id: &ContainerId) -> Cgroup<'_> {
        self.at(self.parent.join(group.as_str()).join(id.as_str()), false)
    }

    pub(crate) fn shims(&self) -> Cgroup<'_> {
        self.at(self.parent.join(SHIMS), true)
    }

    /// Everything of this region.
    pub(crate) fn all(&self) -> Cgroup<'_> {
        self.at(self.parent.clone(), true)
    }

    /// The group that all processes of containers are in or below, where version 2 is mounted.
    pub(crate) fn number_of_all(&self) -> Option<GroupNumber> {
        let mount = match &self.layout {
            Layout::V1(all) => &all.iter().find(|hierarchy| hierarchy.is_unified())?.mount,
            Layout::V2(root) => &root.mount,
        };
        let id = fs::metadata(mount.join(&self.parent)).ok()?.ino();
        Some(GroupNumber { level: u32::try_from(self.parent.components().count()).ok()?, id })
    }

    /// As an OCI specification wants it.
    pub(crate) fn oci_path(&self, group: &GroupId, id: &ContainerId) -> PathBuf {
        Path::new("/").join(&self.parent).join(group.as_str()).join(id.as_str())
    }

    fn at(&self, path: PathBuf, is_everywhere: bool) -> Cgroup<'_> {
        Cgroup { layout: &self.layout, path, is_everywhere }
    }
}

impl Cgroup<'_> {
    /// Makes it, ready for processes or for children.
    pub(crate) fn make(&self) -> Result<(), SandboxError> {
        match self.layout {
            Layout::V1(all) => v1::make(self.of(all), &self.path),
            Layout::V2(root) => v2::make(root, &self.path),
        }
    }

    pub(crate) fn limit_group(&self, limits: &GroupLimits) -> Result<(), SandboxError> {
        match self.layout {
            Layout::V1(all) => v1::limit_group(self.of(all), &self.path, limits),
            Layout::V2(root) => v2::limit_group(root, &self.path, limits),
        }
    }

    /// Sets a container's limits and brings its group's weight up to date.
    pub(crate) fn limit_container(
        &self,
        limits: &Limits,
        devices: Option<&[DeviceRule]>,
    ) -> Result<(), SandboxError> {
        match self.layout {
            Layout::V1(all) => v1::limit_container(self.of(all), &self.path, limits, devices),
            Layout::V2(root) => v2::limit_container(root, &self.path, limits, devices),
        }
    }

    /// Moves the calling process here.
    pub(crate) fn join(&self) -> Result<(), SandboxError> {
        for dir in self.dirs() {
            set_kernel_file(&dir.join("cgroup.procs"), "0").doing_at("join cgroup", &dir)?;
        }
        Ok(())
    }

    /// Every process in here or below.
    pub(crate) fn pids(&self) -> Vec<i32> {
        self.dirs().first().map(|dir| tree::pids(dir)).unwrap_or_default()
    }

    /// Kills every process in here or below and returns when there is none left.
    pub(crate) fn kill(&self) -> Result<(), SandboxError> {
        self.dirs().iter().try_for_each(|dir| tree::kill(dir).doing_at("empty cgroup", dir))
    }

    /// Kills what is left and removes the directories. A missing one is fine.
    pub(crate) fn remove(&self) -> Result<(), SandboxError> {
        let mut failure = None;
        // Also in hierarchies where it is not ours: a runtime of the host may have made it there.
        let everywhere = Cgroup { is_everywhere: true, ..self.clone() };
        for dir in everywhere.dirs() {
            let removed = tree::kill(&dir).and_then(|()| tree::remove(&dir));
            failure = removed.doing_at("remove cgroup", &dir).err().or(failure);
        }
        failure.map_or(Ok(()), Err)
    }

    /// How many processes of this very group the kernel killed for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        match self.layout {
            Layout::V1(all) => v1::oom_kills(self.of(all), &self.path),
            Layout::V2(root) => v2::oom_kills(root, &self.path),
        }
    }

    /// The limit of processes that the kernel has had to refuse a new one for, of this group or the one
    /// above. Kernels differ in which of the two they count it in, so that the tighter one is named.
    pub(crate) fn pids_limit_hit(&self) -> Option<u64> {
        let both = [Some(self.path.as_path()), self.path.parent()].into_iter().flatten();
        let found: Vec<(u64, u64)> = both
            .filter_map(|path| match self.layout {
                Layout::V1(all) => v1::pids(self.of(all), path),
                Layout::V2(root) => v2::pids(root, path),
            })
            .collect();
        let was_hit = found.iter().any(|(refused, _)| 0 < *refused);
        let limit = found.into_iter().map(|(_, limit)| limit).min();
        limit.filter(|limit| was_hit && *limit < u64::MAX)
    }

    pub(crate) fn stats(&self) -> Stats {
        match self.layout {
            Layout::V1(all) => v1::stats(self.of(all), &self.path),
            Layout::V2(root) => v2::stats(root, &self.path),
        }
    }

    /// The same and more: with what the machine spent meanwhile.
    pub(crate) fn usage(&self) -> Usage {
        let of_group = match self.layout {
            Layout::V1(all) => v1::usage(self.of(all), &self.path),
            Layout::V2(root) => v2::usage(root, &self.path),
        };
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Usage {
            host_cpu_ns: usage::host_cpu_ns(&read("/proc/stat")),
            online_cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            host_memory: usage::host_memory(&read("/proc/meminfo")),
            ..of_group
        }
    }

    /// What of it a container shall see.
    pub(crate) fn views(&self) -> Vec<View> {
        match self.layout {
            Layout::V1(all) => v1::views(self.of(all), &self.path),
            Layout::V2(root) => {
                vec![View { controller: "", dir: root.mount.join(&self.path) }]
            }
        }
    }

    /// The names of the groups directly below.
    pub(crate) fn children(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.dirs().iter().flat_map(|dir| tree::children(dir)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The hierarchies that have this group.
    fn of<'h>(&self, all: &'h [v1::Hierarchy]) -> &'h [v1::Hierarchy] {
        if self.is_everywhere {
            all
        } else {
            &all[..all.partition_point(v1::Hierarchy::has_controllers)]
        }
    }

    fn dirs(&self) -> Vec<PathBuf> {
        match self.layout {
            Layout::V1(all) => {
                self.of(all).iter().map(|hierarchy| hierarchy.mount.join(&self.path)).collect()
            }
            Layout::V2(root) => vec![root.mount.join(&self.path)],
        }
    }
}

/// Microseconds of CPU time in a period for `millis` thousandths of a core.
fn quota_us(millis: u32) -> u64 {
    (u64::from(millis) * CPU_PERIOD_US / 1000).max(CPU_QUOTA_US_MIN)
}

/// Writes one limit; the kernel's refusal comes back as [`SandboxError::Limit`].
fn set(dir: &Path, file: &str, value: &str) -> Result<(), SandboxError> {
    set_kernel_file(&dir.join(file), value).map_err(|why| SandboxError::Limit {
        what: file.to_owned(),
        value: value.to_owned(),
        why: why.to_string(),
    })
}

/// A file holding one number; `max` is the largest.
fn number(dir: &Path, file: &str) -> Option<u64> {
    let text = fs::read_to_string(dir.join(file)).ok()?;
    match text.trim() {
        "max" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}

/// How often a group was refused a process, and what it may have.
fn pids(dir: &Path) -> Option<(u64, u64)> {
    Some((field(dir, "pids.events", "max")?, number(dir, "pids.max")?))
}

/// The value of `key` in a file of `key value` lines.
fn field(dir: &Path, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(dir.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_core_is_half_a_period_and_nothing_is_below_the_kernels_least() {
        assert_eq!(quota_us(500), 50_000);
        assert_eq!(quota_us(2_000), 200_000);
        assert_eq!(quota_us(1), CPU_QUOTA_US_MIN);
    }
}
