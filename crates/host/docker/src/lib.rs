//! Containers by a Docker Engine that is on the host: the other driver of the agent's task engine.
//!
//! [`Docker`] speaks to the engine's socket. [`create`] says in Docker's words what the sandbox's are for: what
//! it cannot honour it refuses. [`logs`] follows what Docker keeps of a container's output, [`usage`] says
//! what it has used, [`network`] makes the bridge that containers are on.
//!
//! **Invariant:** everything that is made here carries the label [`AGENT_LABEL`] with the agent's tag, by which the next
//! agent finds it; what does not is never touched.

#![allow(
    clippy::disallowed_types,
    reason = "bollard's own types are made of these maps, which are looked up by key or sent"
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as they like"))]

mod containers;
mod create;
mod error;
#[cfg(test)]
mod fake;
mod images;
mod logs;
mod network;
mod usage;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard::models::SystemInfoCgroupDriverEnum;
use tokio::sync::Notify;

pub use crate::containers::{Known, Process};
pub use crate::create::{Interface, Published, Surroundings};
pub use crate::error::DockerError;
pub use crate::images::DockerImage;
pub use crate::logs::{Cursor, Follower, LogItem, LogRecord};
pub use crate::network::Bridge;
pub use crate::usage::NetworkUse;

/// Whose something is: the value is the agent's tag.
pub const AGENT_LABEL: &str = "longshore.agent";
/// The oldest API that is spoken: of Docker 20.10.
const API_MIN: (usize, usize) = (1, 41);
/// How long a plain question to the engine may take; what waits for a container is not bounded.
const ANSWER_SECONDS_MAX: u64 = 120;

/// Where an engine is, and what is made there.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    /// The engine's unix socket.
    pub socket: PathBuf,
    /// In the name and on the label of everything that is made.
    pub tag: String,
    /// The OCI runtime that containers are run by; without one the engine's default.
    pub runtime: Option<String>,
    /// The control group above those of tasks, where there are such; see [`Docker::below`].
    pub cgroup_parent: Option<PathBuf>,
    /// Directories of the agent's whose directories are volumes: an empty one gets what the image has at its place.
    pub volumes: Vec<PathBuf>,
}

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub version: String,
    /// Whether control groups are plain directories: then containers can be put below one of ours.
    pub has_plain_cgroups: bool,
    /// Whether it runs as somebody who is not root, in a network of its own.
    pub is_rootless: bool,
}

/// An engine, asked over its socket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Docker {
    api: bollard::Docker,
    config: Arc<DockerConfig>,
    about: Arc<About>,
    /// Rung whenever a container was started here.
    started: Arc<Notify>,
}

impl Docker {
    /// Finds out whether there is an engine that we can speak to, and what it is.
    pub async fn connect(config: DockerConfig) -> Result<Self, DockerError> {
        let at = || format!("ask the Docker Engine at {}", config.socket.display());
        let path = config.socket.to_string_lossy();
        let api = bollard::Docker::connect_with_unix(
            &path,
            ANSWER_SECONDS_MAX,
            bollard::API_DEFAULT_VERSION,
        );
        let api = api.map_err(|why| DockerError::of(at(), why))?;
        let api = api.with_request_modifier(images::spelled_for_docker);
        let api = api.negotiate_version().await.map_err(|why| DockerError::of(at(), why))?;
        let version = api.client_version();
        if (version.major_version, version.minor_version) < API_MIN {
            return Err(DockerError::TooOld { version: version.to_string() });
        }
        let info = api.info().await.map_err(|why| DockerError::of(at(), why))?;
        let runtimes = info.runtimes.unwrap_or_default();
        if let Some(runtime) = config.runtime.as_ref().filter(|it| !runtimes.contains_key(*it)) {
            let mut known: Vec<String> = runtimes.into_keys().collect();
            known.sort();
            return Err(DockerError::NoRuntime {
                runtime: runtime.clone(),
                known: known.join(", "),
            });
        }
        let options = info.security_options.unwrap_or_default();
        let about = About {
            version: info.server_version.unwrap_or_default(),
            has_plain_cgroups: info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::CGROUPFS),
            is_rootless: options.iter().any(|option| option.contains("name=rootless")),
        };
        let (config, about) = (Arc::new(config), Arc::new(about));
        Ok(Self { api, config, about, started: Arc::default() })
    }

    /// Puts containers below their task's group in this one, which the engine must have plain control groups for.
    #[must_use]
    pub fn below(mut self, cgroup_parent: PathBuf) -> Self {
        Arc::make_mut(&mut self.config).cgroup_parent = Some(cgroup_parent);
        self
    }

    pub fn about(&self) -> &About {
        &self.about
    }

    /// Where it is asked.
    pub fn socket(&self) -> &Path {
        &self.config.socket
    }

    fn tag(&self) -> &str {
        &self.config.tag
    }

    /// What a list is to be of: this agent's things.
    fn own(&self) -> std::collections::HashMap<String, Vec<String>> {
        let label = format!("{AGENT_LABEL}={}", self.tag());
        [("label".to_owned(), vec![label])].into_iter().collect()
    }
}
