//! What an agent is told when it starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use image::{Egress, LAYER_PORT, LayerSharing};
use longshore_types::{Clock, IdSource, RegionName, Steps};
use trust::Trust;

use crate::client::{Attribute, CredentialsSource};
use crate::endpoint::TaskEndpoint;
use crate::gpus::Gpus;
use crate::limits::TASK_PIDS_DEFAULT;
use crate::ports::{Images, Networks, Runtime};
use crate::relay::RegionForTasks;

/// Settings of one host.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The region's address, `http://…` or `https://…`.
    pub endpoint: Uri,
    /// Whom the region's certificates must come from.
    pub trust: Trust,
    pub region: RegionName,
    /// Which cluster to join; without one `default`, which is created if it is missing.
    pub cluster: Option<String>,
    /// Where the agent keeps what must survive it.
    pub state_dir: PathBuf,
    /// The operator's own attributes.
    pub attributes: Vec<Attribute>,
    /// What the OCI runtime is called that this host's containers are run by, if it is another than usual.
    pub runtime: Option<String>,
    /// The address by which other hosts reach this one, if there may be any.
    pub underlay: Option<Ipv4Addr>,
    /// Whether this host can encrypt what it sends to others, or why not, as the region is told it.
    pub encryption: Option<String>,
    /// Ports of the host that no task may have.
    pub reserved_ports: Vec<u16>,
    pub reserved_ports_udp: Vec<u16>,
    /// CPU that is not offered to tasks; 1024 units are a core.
    pub reserved_cpu_units: u64,
    /// Memory that is not offered to tasks.
    pub reserved_memory_mib: u64,
    /// Hosts besides the region, as `host` or `host:port`, that logs may be sent to, with the credentials of
    /// the task's account.
    pub log_endpoints: Vec<String>,
    /// Where log drivers may send output that do not send it to the region: not to this machine and its link.
    pub log_egress: Egress,
    /// Where the host's lease is, which fenced tasks depend on and which ends with the machine; without one the host
    /// takes none of those.
    pub lease_file: Option<PathBuf>,
    /// Whether Fargate tasks of all clusters may be placed here.
    pub is_fargate: bool,
    /// Whether load balancers' interfaces may be put on this host.
    pub serves_balancers: bool,
    /// How SDKs in containers find the region; `None` tells them nothing of it.
    pub region_for_tasks: Option<RegionForTasks>,
    /// Where operators are answered as Amazon's agent answers them.
    pub introspection: Option<SocketAddr>,
    /// Told how far each change of a task has come.
    pub steps: Steps,
    pub task_limits: TaskLimits,
    /// Where layers are given to other hosts, if they are.
    pub layer_port: u16,
    pub gpus: Gpus,
    /// What containers are run by, and so what the region is told that they can have.
    pub driver: Driver,
}

/// What runs the containers of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// Our own sandbox and network.
    #[default]
    Native,
    Docker(DockerDriver),
}

/// Docker as it is on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerDriver {
    pub version: String,
    /// Whether tasks can be held to a size as a whole.
    pub has_task_sizes: bool,
    /// Whether containers reach the agent at its address, and so have their task's credentials.
    pub answers_containers: bool,
}

/// What one task may take of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLimits {
    /// Processes and threads of all its containers.
    pub pids_max: u64,
    /// Writable layers, volumes of its own and json-file logs of a task that is not told how much
    /// ephemeral storage it has: those of an instance of their own have no limit in ECS.
    pub storage_bytes: Option<u64>,
}

impl Default for TaskLimits {
    fn default() -> Self {
        Self { pids_max: TASK_PIDS_DEFAULT, storage_bytes: None }
    }
}

impl AgentConfig {
    /// The settings that Amazon's agent has unless told otherwise.
    pub fn new(endpoint: Uri, region: RegionName, state_dir: PathBuf) -> Self {
        Self {
            endpoint,
            trust: Trust::system(),
            region,
            cluster: None,
            state_dir,
            attributes: Vec::new(),
            runtime: None,
            underlay: None,
            encryption: None,
            reserved_ports: vec![22, 2375, 2376, 51678, 51679],
            reserved_ports_udp: Vec::new(),
            reserved_cpu_units: 0,
            reserved_memory_mib: 0,
            log_endpoints: Vec::new(),
            log_egress: Egress::default(),
            lease_file: None,
            is_fargate: true,
            serves_balancers: false,
            region_for_tasks: None,
            introspection: None,
            task_limits: TaskLimits::default(),
            layer_port: LAYER_PORT,
            gpus: Gpus::default(),
            driver: Driver::Native,
            steps: Steps::default(),
        }
    }
}

/// The world that an agent works in.
#[derive(Clone, Debug)]
pub struct Parts {
    pub runtime: Arc<dyn Runtime>,
    pub images: Arc<dyn Images>,
    pub networks: Arc<dyn Networks>,
    pub credentials: Arc<dyn CredentialsSource>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn IdSource>,
    /// Where containers reach the agent; without it they get no credentials.
    pub endpoint: Option<Arc<TaskEndpoint>>,
    /// The host's part in giving layers of images to others, if it has one.
    pub sharing: Option<Arc<LayerSharing>>,
}
