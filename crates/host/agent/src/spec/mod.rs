//! What a task asks for, checked once: everything past this module works on these types.
//!
//! **Invariant:** indexes in a [`TaskSpec`] point into its own `containers`, and its dependencies
//! have no cycle. A container that we cannot run as asked carries its `refusal` instead of being
//! run in some other way.

mod container;
mod docker;
mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use acs::task::RegistryAuthentication;
pub use longshore_types::TransportProtocol as Protocol;
use longshore_types::{Arn, SecurityGroupId, TaskArn};

pub use parse::{InvalidTask, parse, parse_task_arn};

/// A whole task.
#[derive(Clone, Debug)]
pub struct TaskSpec {
    pub arn: TaskArn,
    pub family: String,
    pub version: String,
    pub containers: Vec<ContainerSpec>,
    pub volumes: BTreeMap<String, VolumeSpec>,
    /// Thousandths of a CPU; the task's own ceiling.
    pub cpu_millis: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// Ephemeral storage, where the task is told how much it has.
    pub storage_bytes: Option<u64>,
    /// Set in `awsvpc` mode; then every container shares this interface.
    pub eni: Option<EniSpec>,
    pub pid: Sharing,
    pub ipc: Sharing,
    /// The region gives it an execution role, if not now then after a restart of the agent.
    pub has_execution_role: bool,
    /// What the credentials of its own role are asked for by; `None` for a task without one.
    pub credentials_id: Option<String>,
    pub is_fargate: bool,
    /// The lease that a fenced task depends on; zero is none that there ever was.
    pub lease_epoch: Option<u64>,
    pub about: About,
}

/// What containers are told of their task, and nothing else depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub cluster_arn: String,
    /// `EC2`, `FARGATE` or `EXTERNAL`.
    pub launch_type: String,
    pub zone: Option<String>,
    pub vpc: Option<String>,
    pub group: Option<String>,
    pub service: Option<String>,
}

impl TaskSpec {
    pub fn container(&self, name: &str) -> Option<usize> {
        self.containers.iter().position(|container| container.name == name)
    }
}

/// How a kind of namespace is shared among a task's containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    #[default]
    Private,
    Task,
    Host,
    None,
}

/// The interface of an `awsvpc` task, as the region allotted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniSpec {
    pub id: String,
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Ipv4Addr,
    pub mac: String,
    pub security_groups: Vec<SecurityGroupId>,
    pub assign_public_ip: bool,
    pub is_judged: bool,
    pub dns_servers: Vec<String>,
    pub dns_search: Vec<String>,
    pub private_dns_name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// The task's own interface.
    Awsvpc,
    Bridge,
    Host,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSpec {
    /// A directory of the host.
    Host { path: String },
    /// Made for this task, gone with it.
    Task,
    /// Outlives tasks; `autoprovision` says that it may be made when missing.
    Shared { name: String, autoprovision: bool },
    /// Asked for in a way that we cannot serve; the text says which.
    Unsupported { why: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The other exists. Only for `volumesFrom`.
    Create,
    Start,
    Complete,
    Success,
    Healthy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub on: usize,
    pub condition: Condition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub to: usize,
    pub alias: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub volume: String,
    pub path: String,
    pub read_only: bool,
}

/// A directory of the host, named in hostConfig itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    pub source: String,
    pub path: String,
    pub read_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumesFrom {
    pub container: usize,
    pub read_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSpec {
    pub container_port: u16,
    /// Zero: any free one.
    pub host_port: u16,
    pub protocol: Protocol,
    /// The first port of the range that was asked for as a whole, if this is part of one.
    pub range: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartSpec {
    pub ignored_exit_codes: Vec<i32>,
    pub attempt_period_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSpec {
    pub argv: Vec<String>,
    /// True for `CMD-SHELL`: one word to be run by the image's shell.
    pub by_shell: bool,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub retries: u32,
    pub start_period_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpec {
    pub driver: LogDriver,
    /// Whether the task's execution role writes the log, and not the host.
    pub execution_role: bool,
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogDriver {
    JsonFile,
    Awslogs,
    Syslog,
    Fluentd,
    Gelf,
    Splunk,
    /// Fluentd's protocol to a router that runs in the task itself.
    Firelens,
    None,
}

impl LogDriver {
    pub const ALL: [Self; 8] = [
        Self::JsonFile,
        Self::Awslogs,
        Self::Syslog,
        Self::Fluentd,
        Self::Gelf,
        Self::Splunk,
        Self::Firelens,
        Self::None,
    ];

    /// As task definitions call it, and as it is written down.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Awslogs => "awslogs",
            Self::Syslog => "syslog",
            Self::Fluentd => "fluentd",
            Self::Gelf => "gelf",
            Self::Splunk => "splunk",
            Self::Firelens => "awsfirelens",
            Self::None => "none",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|driver| driver.as_str() == word)
    }
}

/// What makes a container the router of its task's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirelensSpec {
    pub router: Router,
    /// Whether records say which task they are of.
    pub adds_metadata: bool,
    /// What its configuration takes in.
    pub config_file: Option<ConfigFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigFile {
    /// A path within its image.
    OfImage(String),
    Object(ObjectName),
}

/// An object of S3.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    pub bucket: String,
    pub key: String,
}

impl ObjectName {
    /// Reads `arn:aws:s3:::BUCKET/KEY`.
    pub fn parse(arn: &str) -> Option<Self> {
        let arn = Arn::parse(arn).ok().filter(|arn| arn.service == "s3")?;
        let (bucket, key) = arn.resource.split_once('/')?;
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
        let is_whole = !bucket.is_empty() && bucket.bytes().all(is_name) && !key.is_empty();
        is_whole.then(|| Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:aws:s3:::{}/{}", self.bucket, self.key)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Router {
    Fluentd,
    Fluentbit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub host: String,
    pub container: String,
    /// Some of `rwm`.
    pub permissions: String,
}

/// Whether to show credentials to the image's registry, and whose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RegistryAuth {
    #[default]
    None,
    Ecr {
        registry_id: Option<String>,
        execution_role: bool,
    },
    /// A login that is kept in Secrets Manager.
    Secret {
        reference: String,
    },
}

impl RegistryAuth {
    /// As a message says it.
    pub fn of(said: Option<&RegistryAuthentication>) -> Self {
        match said.map(|auth| (auth.kind.as_deref(), auth)) {
            Some((Some("ecr"), auth)) => {
                let data = auth.ecr_auth_data.clone().unwrap_or_default();
                Self::Ecr {
                    registry_id: data.registry_id.filter(|id| !id.is_empty()),
                    execution_role: data.use_execution_role,
                }
            }
            Some((Some("asm"), auth)) => {
                let data = auth.asm_auth_data.clone().unwrap_or_default();
                Self::Secret { reference: data.credentials_parameter }
            }
            Some(_) | None => Self::None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretProvider {
    SecretsManager,
    ParameterStore,
}

/// Whom a value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretTarget {
    Environment,
    LogDriver,
}

/// A value that is kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretSpec {
    /// Of the variable, or of the log driver's option.
    pub name: String,
    pub source: String,
    pub provider: SecretProvider,
    pub target: SecretTarget,
}

/// One container; limits in bytes, times in milliseconds.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    pub name: String,
    /// As the region calls it.
    pub arn: Option<String>,
    pub image: String,
    pub command: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    pub secrets: Vec<SecretSpec>,
    /// Files of variables; the first that has one counts.
    pub environment_files: Vec<ObjectName>,
    /// The ids of GPUs that it has to itself.
    pub gpus: Vec<String>,
    pub essential: bool,
    pub depends_on: Vec<Dependency>,
    pub links: Vec<Link>,
    pub mounts: Vec<Mount>,
    pub volumes_from: Vec<VolumesFrom>,
    pub ports: Vec<PortSpec>,
    pub start_timeout_ms: Option<u64>,
    pub stop_timeout_ms: Option<u64>,
    pub restart: Option<RestartSpec>,
    pub registry: RegistryAuth,
    pub network: NetworkMode,
    pub health: Option<HealthSpec>,
    pub log: LogSpec,
    pub firelens: Option<FirelensSpec>,
    pub process: ProcessSpec,
    pub host: HostSpec,
    /// Agents that were asked for within the container; we have none to offer.
    pub managed_agents: Vec<String>,
    /// The reason, prefix included, for which this container is not run at all.
    pub refusal: Option<String>,
}

/// What Docker's `Config` says of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessSpec {
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stop_signal: Option<String>,
    pub network_disabled: bool,
}

/// What Docker's `HostConfig` says of the walls around the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSpec {
    pub cpu_shares: u64,
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub memory_reservation_bytes: Option<u64>,
    /// Memory and swap together; -1 is no limit.
    pub memory_swap_bytes: Option<i64>,
    pub swappiness: Option<u8>,
    pub pids_max: Option<u64>,
    pub privileged: bool,
    pub readonly_root: bool,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    pub extra_hosts: Vec<(String, String)>,
    pub ulimits: Vec<Ulimit>,
    pub no_new_privileges: bool,
    pub seccomp_unconfined: bool,
    /// Confinement of the kernel's other modules that is to be taken away, which only Docker gives.
    pub unconfined_by: Vec<String>,
    pub sysctls: BTreeMap<String, String>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub devices: Vec<Device>,
    pub init: bool,
    pub shm_bytes: Option<u64>,
    /// Path to mount options.
    pub tmpfs: BTreeMap<String, String>,
    pub binds: Vec<Bind>,
}
