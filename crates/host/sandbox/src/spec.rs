//! What a container is to be, as data: what the agent fills in and the shim carries out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use longshore_types::{Steps, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ids::{ContainerId, GroupId};
use crate::lease::FencedBy;
use crate::runtime::NamedRuntime;

/// Where sandboxes live on this host. Everything named here carries the region's tag, so that two
/// regions on one machine never meet.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// For sockets: short, on a tmpfs, gone after a reboot.
    pub run_dir: PathBuf,
    /// For what must survive the agent: one directory a container.
    pub state_dir: PathBuf,
    /// `/longshore/<tag>`, relative to each cgroup hierarchy.
    pub cgroup_parent: PathBuf,
    /// The program and arguments that end up in [`crate::shim_main`].
    pub shim_command: Vec<OsString>,
    /// How many shims are kept ready.
    pub pool_size: usize,
    /// Names this run of the machine's kernel: what another one had is gone. Empty if nobody knows.
    pub boot_id: String,
    /// What makes containers from now on, instead of libcontainer.
    pub runtime: Option<NamedRuntime>,
    /// Told how far each change of a container has come.
    pub steps: Steps,
}

/// Limits of a group, over all its containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupLimits {
    /// Thousandths of a virtual CPU.
    pub cpu_quota: Option<u32>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// One container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub id: ContainerId,
    pub group: GroupId,
    pub rootfs: Rootfs,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Created if missing, as Docker does.
    pub cwd: PathBuf,
    /// `name|uid[:group|gid]`, resolved against the image's own files; empty is root.
    pub user: String,
    pub additional_gids: Vec<u32>,
    pub hostname: Option<String>,
    /// A network namespace to join.
    pub netns: NetMode,
    pub pid: PidMode,
    pub ipc: IpcMode,
    pub mounts: Vec<Mount>,
    pub tmpfs: Vec<Tmpfs>,
    /// Files laid over the image's, such as `/etc/hosts`.
    pub files: Vec<FileBind>,
    pub devices: Vec<DeviceBind>,
    /// Programs of the host that are run while the container is made.
    #[serde(default)]
    pub hooks: Vec<Hook>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<u64>,
    /// Runs a small init as pid 1, which forwards signals and reaps.
    pub init: bool,
    pub sysctls: BTreeMap<String, String>,
    pub ulimits: Vec<Ulimit>,
    /// Names with or without `CAP_`, or `ALL`.
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub privileged: bool,
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    pub limits: Limits,
    pub tty: bool,
    pub open_stdin: bool,
    pub log: LogSink,
    /// Its shim ends it when this is over, whether or not there is an agent.
    #[serde(default)]
    pub fence: Option<FencedBy>,
    /// Runs nothing: it only holds namespaces for others, as their first process. It needs no image.
    #[serde(default)]
    pub pause: bool,
}

impl ContainerSpec {
    /// A container with Docker's defaults for everything that is not named.
    pub fn new(id: ContainerId, group: GroupId, rootfs: Rootfs, args: Vec<String>) -> Self {
        Self {
            id,
            group,
            rootfs,
            args,
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: String::new(),
            additional_gids: Vec::new(),
            hostname: None,
            netns: NetMode::Private,
            pid: PidMode::Private,
            ipc: IpcMode::Private,
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            files: Vec::new(),
            devices: Vec::new(),
            hooks: Vec::new(),
            shm_size: None,
            init: false,
            sysctls: BTreeMap::new(),
            ulimits: Vec::new(),
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            privileged: false,
            no_new_privileges: false,
            seccomp: Seccomp::Default,
            limits: Limits::default(),
            tty: false,
            open_stdin: false,
            log: LogSink::Discard,
            fence: None,
            pause: false,
        }
    }

    /// What holds the namespaces that a task's containers share: a process with no rights, no image and
    /// nothing to do but to reap. `scratch` is never made.
    pub fn pause(id: ContainerId, group: GroupId, scratch: PathBuf) -> Self {
        let rootfs = Rootfs { lower: Vec::new(), scratch, readonly: true };
        Self {
            pause: true,
            user: PAUSE_USER.to_owned(),
            cap_drop: vec!["ALL".to_owned()],
            no_new_privileges: true,
            ..Self::new(id, group, rootfs, vec![PAUSE.to_owned()])
        }
    }
}

/// What a paused container calls itself.
const PAUSE: &str = "/pause";
/// Nobody in particular.
const PAUSE_USER: &str = "65535:65535";

/// An overlay of the image's layers under a private, writable one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rootfs {
    /// Lowest first.
    pub lower: Vec<PathBuf>,
    /// Holds `upper` and `work`; removed with the container.
    pub scratch: PathBuf,
    pub readonly: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetMode {
    /// A fresh namespace with nothing but loopback.
    #[default]
    Private,
    Host,
    Path(PathBuf),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    #[default]
    Private,
    Host,
    Join(ContainerId),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpcMode {
    #[default]
    Private,
    Host,
    /// Private and without `/dev/shm`.
    None,
    Join(ContainerId),
}

/// A host directory or file bound into the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub source: PathBuf,
    pub destination: PathBuf,
    pub readonly: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    pub destination: PathBuf,
    /// Bytes.
    pub size: Option<u64>,
    /// As in a mount command, beyond `nosuid`, `nodev` and `noexec`, which are the default.
    pub options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileBind {
    pub source: PathBuf,
    pub destination: PathBuf,
    pub readonly: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceBind {
    pub host: PathBuf,
    pub container: PathBuf,
    pub read: bool,
    pub write: bool,
    pub mknod: bool,
}

/// A program of the host that is run, as root and outside of the container's root, while a container is made: it reads what
/// the container is on its standard input (OCI runtime specification, "POSIX-platform Hooks"). Where it fails, so does the
/// container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub at: HookPoint,
    pub path: PathBuf,
    /// Beginning with the program's own name.
    pub args: Vec<String>,
    /// All of its environment, as `NAME=value`.
    pub env: Vec<String>,
    pub timeout_seconds: u32,
}

/// When a hook is run, in the order of a container's making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HookPoint {
    /// In the host's namespaces, once those of the container are there; deprecated by the specification, and used.
    Prestart,
    /// After those.
    CreateRuntime,
    /// In the container's namespaces, before its root is the root.
    CreateContainer,
}

/// `name` as in ECS: `nofile`, `nproc`, `core`, …; a negative value there is `u64::MAX` here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    #[default]
    Default,
    Unconfined,
}

/// Limits of one container, within those of its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Relative weight, 1024 to a core.
    pub cpu_shares: Option<u64>,
    /// Thousandths of a virtual CPU.
    pub cpu_quota: Option<u32>,
    /// Bytes; beyond it the container is killed.
    pub memory: Option<u64>,
    /// Bytes; what remains when memory is short.
    pub memory_reservation: Option<u64>,
    /// Bytes of swap beyond `memory`; none unless given.
    pub swap: Option<u64>,
    /// 0 to 100, where the kernel has it per cgroup (v1).
    pub swappiness: Option<u64>,
    pub pids: Option<u64>,
}

/// Where standard output and error go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogSink {
    /// Into files that a [`crate::LogReader`] follows. When the spool is full, the oldest segment
    /// goes and is counted; the application never waits.
    Spool {
        dir: PathBuf,
        segment_bytes_max: u64,
        total_bytes_max: u64,
    },
    Discard,
}

/// A command to run inside a running container, as its user and with its environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    pub argv: Vec<String>,
    /// Added to the container's environment.
    pub env: Vec<(String, String)>,
    /// Another user than the container's.
    pub user: Option<String>,
    /// Another working directory than the container's.
    pub cwd: Option<PathBuf>,
    pub timeout_ms: u64,
    /// How much of the output is kept; the rest is read and forgotten.
    pub output_bytes_max: usize,
}

impl ExecSpec {
    pub fn new(argv: Vec<String>, timeout_ms: u64) -> Self {
        Self { argv, env: Vec::new(), user: None, cwd: None, timeout_ms, output_bytes_max: 4096 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecResult {
    /// 128 + n for a command that signal n killed.
    pub exit_code: i32,
    /// Standard output and error, interleaved as they came.
    pub output: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// As the host sees it.
    pub pid: i32,
    pub at: Timestamp,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 128 + n for a main process that signal n killed.
    pub code: i32,
    pub oom_killed: bool,
    /// The limit of processes that the kernel held the container or its group to, if it ever had to.
    #[serde(default)]
    pub pids_limit_hit: Option<u64>,
    pub finished_at: Timestamp,
    /// Set where `code` is not what the process itself returned.
    pub reason: Option<String>,
}

/// In life order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    Created,
    Running,
    Exited,
}

/// A container that was found on this host when the agent came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub id: ContainerId,
    pub group: GroupId,
    pub phase: Phase,
    pub pid: Option<i32>,
    pub started_at: Option<Timestamp>,
    /// Set if and only if `phase` is `Exited`.
    pub exit: Option<Exit>,
}

/// What a container has used; from its cgroup, so also right after an agent restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub cpu_ns: u64,
    pub cpu_user_ns: u64,
    pub cpu_system_ns: u64,
    pub throttled_periods: u64,
    /// Bytes, page cache included.
    pub memory_usage: u64,
    pub memory_max_usage: u64,
    /// Bytes; `u64::MAX` for none.
    pub memory_limit: u64,
    /// Bytes of page cache that can be dropped at any time.
    pub memory_inactive_file: u64,
    pub blkio_read_bytes: u64,
    pub blkio_write_bytes: u64,
    pub pids: u64,
    /// Processes of this container that were killed for want of memory.
    pub oom_kills: u64,
}
