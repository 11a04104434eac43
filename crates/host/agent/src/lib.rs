//! The agent of one host: runs the tasks that a region places here, and speaks to it as Amazon's own
//! agent does.
//!
//! [`engine`] runs tasks on what [`ports`] asks of a host ([`adapters`] are the real ones); [`acs`]
//! hears what is wanted, [`tcs`] tells how it goes, [`client`] makes the calls; [`logdriver`] ships
//! output; [`spec`] is a task as it was asked for.
//!
//! **Invariants:** the agent may be killed at any point: containers go on, are found again, and no
//! exit code is lost; it never exits because the region is away; nothing that a task asked for is
//! left out silently.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as they like"))]

pub mod acs;
pub mod adapters;
pub mod client;
mod config;
pub mod endpoint;
pub mod engine;
#[cfg(test)]
mod fakes;
mod flows;
mod gpus;
mod housekeeping;
pub mod introspection;
mod lease;
mod limits;
pub mod logdriver;
mod memory;
mod poll;
pub mod ports;
mod reason;
mod register;
mod relay;
mod sequence;
pub mod skew;
mod socket;
pub mod spec;
mod state_dir;
mod storage;
mod tcs;

use std::convert::Infallible;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Notify, Semaphore};

pub use client::{Attribute, CredentialsSource, FixedCredentials};
pub use config::{AgentConfig, DockerDriver, Driver, Parts, TaskLimits};
pub use gpus::{Cdi, Gpu, Gpus, NotAGpu, NotCdi};
pub use limits::{TASK_PIDS_DEFAULT, TASK_PIDS_LEAST, TASK_PIDS_MOST};
pub use register::capabilities;
pub use relay::RegionForTasks;
pub use socket::Ended;
pub use state_dir::StateError;

use crate::client::{Api, ApiConfig, RegionLink};
use crate::engine::{
    Context, CredentialsBook, Engine, InstanceBook, ObjectsBook, OwnersBook, SecretsBook,
};
use crate::lease::HostLease;
use crate::limits::STARTS_MAX;
use crate::logdriver::{LogShipping, RemoteReach};
use crate::poll::PollEndpoint;
use crate::register::Registered;
use crate::sequence::Sequence;
use crate::state_dir::{InstanceRecord, StateDir};

pub(crate) const AGENT_VERSION: &str = env!("CARGO_PKG_VERSION");
pub(crate) const AGENT_HASH: &str = "longshore";
/// What stands where Amazon's agent says which Docker it has, where there is none.
pub const OWN_RUNTIME: &str = concat!("longshore-", env!("CARGO_PKG_VERSION"));

/// The agent of this host. Dropping it ends the agent and leaves the containers running.
#[derive(Clone, Debug)]
pub struct Agent {
    config: AgentConfig,
    parts: Parts,
    api: Api,
    link: Arc<RegionLink>,
    dirs: StateDir,
    engine: Engine,
}

impl Agent {
    /// Takes up what an earlier agent left on this host. Needs no region yet.
    pub async fn open(config: AgentConfig, parts: Parts) -> Result<Self, StateError> {
        let dirs = StateDir::open(&config.state_dir)?.with_reserve().heard_by(config.steps.clone());
        let api = Api::new(
            ApiConfig {
                endpoint: config.endpoint.clone(),
                region: config.region.clone(),
                trust: config.trust.clone(),
                log_endpoints: config.log_endpoints.clone(),
                runtime: match &config.driver {
                    Driver::Native => OWN_RUNTIME.to_owned(),
                    Driver::Docker(docker) => docker.version.clone(),
                },
            },
            Arc::clone(&parts.credentials),
            Arc::clone(&parts.clock),
        );
        let cluster = config.cluster.clone().unwrap_or_else(|| "default".to_owned());
        let link = Arc::new(RegionLink::new(api.clone(), cluster, Arc::clone(&parts.ids)));
        let logs = LogShipping::new(
            Arc::clone(&parts.runtime),
            Arc::new(api.clone()),
            Arc::clone(&parts.clock),
            dirs.clone(),
        )
        .reaching(RemoteReach::new(config.log_egress.clone(), &config.log_endpoints));
        let context = Context {
            runtime: Arc::clone(&parts.runtime),
            images: Arc::clone(&parts.images),
            networks: Arc::clone(&parts.networks),
            region: Arc::clone(&link) as Arc<dyn engine::Region>,
            logs: Arc::new(logs),
            clock: Arc::clone(&parts.clock),
            ids: Arc::clone(&parts.ids),
            dirs: dirs.clone(),
            region_name: config.region.clone(),
            region_for_tasks: config.region_for_tasks.clone(),
            credentials: CredentialsBook::default(),
            secrets: SecretsBook::default(),
            objects: ObjectsBook::default(),
            task_limits: config.task_limits,
            gpus: config.gpus.clone(),
            answers_containers: parts.endpoint.is_some(),
            instance: InstanceBook::default(),
            lease: HostLease::new(config.lease_file.clone(), Arc::clone(&parts.ids)),
            owners: OwnersBook::default(),
            starts: Semaphore::new(STARTS_MAX),
            changed: Notify::new(),
        };
        let engine = Engine::open(Arc::new(context)).await;
        Ok(Self { config, parts, api, link, dirs, engine })
    }

    /// Registers with the region and serves it. Never ends by itself.
    pub async fn run(&self) -> Result<(), StateError> {
        tokio::select! {
            ended = self.serve() => ended,
            // Also while there is no region.
            never = storage::watch(&self.engine) => match never {},
            never = memory::watch() => match never {},
            never = flows::watch(Arc::clone(&self.parts.networks), self.api.clone()) => match never {},
            () = self.answer_containers() => Ok(()),
            () = self.lead_to_region() => Ok(()),
            never = self.answer_operators() => match never {},
            never = self.give_layers() => match never {},
        }
    }

    async fn answer_containers(&self) {
        match &self.parts.endpoint {
            Some(endpoint) => endpoint::serve(self.engine.clone(), Arc::clone(endpoint)).await,
            None => std::future::pending().await,
        }
    }

    async fn lead_to_region(&self) {
        match (&self.parts.endpoint, self.config.endpoint.authority()) {
            (Some(endpoint), Some(region)) => {
                let port =
                    if self.config.endpoint.scheme_str() == Some("https") { 443 } else { 80 };
                let port = region.port_u16().unwrap_or(port);
                relay::serve(Arc::clone(endpoint), format!("{}:{port}", region.host())).await;
            }
            _ => std::future::pending().await,
        }
    }

    async fn answer_operators(&self) -> Infallible {
        match self.config.introspection {
            Some(address) => introspection::serve(&self.engine, address).await,
            None => std::future::pending().await,
        }
    }

    /// To other hosts, by the address that they know this one by.
    async fn give_layers(&self) -> Infallible {
        match (&self.parts.sharing, self.config.underlay) {
            (Some(sharing), Some(address)) => {
                sharing.serve(SocketAddrV4::new(address, self.config.layer_port)).await
            }
            (Some(_) | None, _) => std::future::pending().await,
        }
    }

    async fn serve(&self) -> Result<(), StateError> {
        let mut record = self.dirs.load_instance()?;
        let before = record.clone();
        if let InstanceRecord {
            container_instance_arn: Some(arn), cluster: Some(cluster), ..
        } = record.clone()
        {
            // Containers ask also while the region is away.
            self.engine.context().instance.put(Registered { arn, cluster });
        }
        let instance = register::register(&self.api, &self.config, &self.parts, &mut record).await;
        if record != before {
            self.dirs.save_instance(&record)?;
        }
        self.link.heard();
        self.engine.context().instance.put(instance.clone());
        let clock = Arc::clone(&self.parts.clock);
        let poll =
            Arc::new(PollEndpoint::new(self.api.clone(), instance.clone(), Arc::clone(&clock)));
        let heartbeat = Arc::new(Notify::new());
        let is_inactive = Arc::new(AtomicBool::new(false));
        let acs = acs::Acs {
            api: self.api.clone(),
            engine: self.engine.clone(),
            link: Arc::clone(&self.link),
            instance: instance.clone(),
            poll: Arc::clone(&poll),
            sequence: Arc::new(Sequence::new(self.dirs.clone(), record)),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&self.parts.ids),
            heartbeat: Arc::clone(&heartbeat),
            is_inactive: Arc::clone(&is_inactive),
            sharing: self.parts.sharing.clone(),
        };
        let tcs = tcs::Tcs {
            api: self.api.clone(),
            engine: self.engine.clone(),
            instance,
            poll,
            clock,
            ids: Arc::clone(&self.parts.ids),
            heartbeat,
            is_inactive,
        };
        tokio::join!(acs::run(acs), tcs::run(tcs), housekeeping::run(&self.engine));
        Ok(())
    }

    /// The tasks of this host.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}
