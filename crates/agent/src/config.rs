//! What an agent is told when it starts.

use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use longshore_types::{Clock, IdSource, RegionName};

use crate::client::{Attribute, CredentialsSource};
use crate::seams::{Images, Nets, Runtime};

/// Settings of one host.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The region's address, `http://…`.
    pub endpoint: Uri,
    pub region: RegionName,
    /// Which cluster to join; without one `default`, which is created if it is missing.
    pub cluster: Option<String>,
    /// Where the agent keeps what must survive it.
    pub state_dir: PathBuf,
    /// The operator's own attributes.
    pub attributes: Vec<Attribute>,
    /// Ports of the host that no task may have.
    pub reserved_ports: Vec<u16>,
    pub reserved_ports_udp: Vec<u16>,
    /// Memory that is not offered to tasks.
    pub reserved_memory_mib: u64,
    /// Hosts besides the region, as `host` or `host:port`, that logs may be sent to, with the credentials of
    /// the task's account.
    pub log_endpoints: Vec<String>,
    /// Whether Fargate tasks of all clusters may be placed here.
    pub is_fargate: bool,
}

impl AgentConfig {
    /// The settings that Amazon's agent has unless told otherwise.
    pub fn new(endpoint: Uri, region: RegionName, state_dir: PathBuf) -> Self {
        Self {
            endpoint,
            region,
            cluster: None,
            state_dir,
            attributes: Vec::new(),
            reserved_ports: vec![22, 2375, 2376, 51678, 51679],
            reserved_ports_udp: Vec::new(),
            reserved_memory_mib: 0,
            log_endpoints: Vec::new(),
            is_fargate: true,
        }
    }
}

/// The world that an agent works in.
#[derive(Clone, Debug)]
pub struct Parts {
    pub runtime: Arc<dyn Runtime>,
    pub images: Arc<dyn Images>,
    pub nets: Arc<dyn Nets>,
    pub credentials: Arc<dyn CredentialsSource>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn IdSource>,
}
