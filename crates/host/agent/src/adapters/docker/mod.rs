//! [`Runtime`], [`Networks`] and [`Images`] by a Docker Engine.
//!
//! A container in bridge mode is in a network of Docker's that is the agent's own, at an address and with ports of the host
//! that are chosen here before it is made ([`endpoints`]), so that the engine of tasks knows them as early as with our own
//! network. There are no interfaces of tasks' own, and nothing that containers share beside volumes.

mod endpoints;
mod images;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use docker::{Bridge, Cursor, Docker, Follower, LogItem, NetworkUse};
use futures_util::future::BoxFuture;
use longshore_types::{Chain, Steps};
use network::{CountedFlows, News, PortMapping};
use sandbox::{
    ContainerId, ContainerSpec, DiskRoom, ExecResult, ExecSpec, Exit, GroupId, GroupLimits, Groups,
    LogSink, Position, Recovered, SandboxError, Started, Stats, StorageUse, Stream, Usage,
};
use tracing::warn;
use traffic::connect::ConnectReport;

pub use images::DockerImages;

use self::endpoints::Endpoints;
use crate::engine::state::Binding;
use crate::ports::{
    Attached, Counters, NetError, Networks, Output, OutputItem, Piece, Runtime, Signal, StdStream,
    Surroundings,
};
use crate::spec::{EniSpec, PortSpec};

const DRIVER: &str = "Docker";

/// Containers and networks of this host by Docker.
#[derive(Clone)]
pub struct DockerHost {
    docker: Docker,
    bridge: Bridge,
    /// Held by who makes the bridge anew.
    making: Arc<tokio::sync::Mutex<()>>,
    /// Whether containers are led to the agent, and then whether all else that is link-local is open to them.
    leads: Option<bool>,
    /// Makes control groups for tasks, where Docker puts containers below them.
    groups: Option<Groups>,
    endpoints: Arc<Mutex<Endpoints>>,
    /// One directory a run is there for as long as its output is not shipped; the output itself is Docker's.
    spools: PathBuf,
    steps: Steps,
}

impl std::fmt::Debug for DockerHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerHost").field("docker", &self.docker).finish_non_exhaustive()
    }
}

impl DockerHost {
    /// Takes up what there is of an earlier agent's.
    pub async fn open(
        docker: Docker,
        bridge: Bridge,
        groups: Option<Groups>,
        state_dir: &Path,
        steps: Steps,
    ) -> Result<Self, SandboxError> {
        let mut endpoints = Endpoints::new(bridge.range, network::ephemeral_ports());
        for known in docker.endpoints().await? {
            endpoints.adopt(known);
        }
        let endpoints = Arc::new(Mutex::new(endpoints));
        let (spools, leads) = (state_dir.join("spool"), None);
        let making = Arc::default();
        Ok(Self { docker, bridge, making, leads, groups, endpoints, spools, steps })
    }

    /// Containers are led to the agent by its bridge, also where that had to be made anew.
    #[must_use]
    pub fn leading(mut self, is_link_local_open: bool) -> Self {
        self.leads = Some(is_link_local_open);
        self
    }

    fn endpoints(&self) -> MutexGuard<'_, Endpoints> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spool(&self, id: &ContainerId) -> PathBuf {
        self.spools.join(id.as_str())
    }

    async fn make(&self, spec: &ContainerSpec, around: &Surroundings) -> Result<(), SandboxError> {
        if let LogSink::Spool { dir, .. } = &spec.log {
            let dir = dir.clone();
            let made = tokio::task::spawn_blocking(move || files::private::make_dirs(&dir)).await;
            made.map_err(io::Error::other).flatten().map_err(|source| SandboxError::Io {
                doing: "make a place for a container's output".to_owned(),
                source,
            })?;
        }
        match self.docker.create(spec, around).await {
            // What a killed agent had asked for came to be after this one had looked.
            Err(SandboxError::AlreadyExists { .. }) => {
                self.docker.delete(&spec.id).await?;
                self.docker.create(spec, around).await
            }
            made => made,
        }
    }

    async fn begin(&self, id: &ContainerId) -> Result<Started, SandboxError> {
        match self.docker.start(id).await {
            // Whoever tidies up Docker may have removed what was in no use.
            Err(SandboxError::Engine { why }) if self.docker.is_network_gone(&why) => {
                warn!(why, "the network of the agent's containers is made anew");
                self.make_network().await?;
                self.docker.start(id).await
            }
            started => started,
        }
    }

    /// By the kernel's own figures where they are found, since Docker takes a second for an answer.
    async fn used(&self, id: &ContainerId) -> Result<Usage, SandboxError> {
        let Some(groups) = &self.groups else { return self.docker.usage(id).await };
        match self.docker.find_process(id).await? {
            Some(found) => groups.usage(&found.group, &found.name).await,
            None => self.docker.usage(id).await,
        }
    }

    async fn carried(&self, id: &ContainerId) -> Result<NetworkUse, SandboxError> {
        if let Some(process) = self.docker.find_process(id).await?
            // Of a process in another's name, a file that only root may read.
            && let Ok(text) = tokio::fs::read_to_string(format!("/proc/{}/net/dev", process.pid)).await
        {
            return Ok(NetworkUse::of_device_table(&text));
        }
        self.docker.network_use(id).await
    }

    async fn make_network(&self) -> Result<(), SandboxError> {
        // The engine has two of one name where two are asked for at once.
        let _making = self.making.lock().await;
        let failed = |why: &dyn std::fmt::Display| SandboxError::Engine { why: why.to_string() };
        let bridge = self.docker.bridge(self.bridge.range).await;
        let bridge = bridge.map_err(|error| failed(&Chain(&error)))?;
        let Some(is_open) = self.leads else { return Ok(()) };
        let led = network::lead_to_agent(&bridge.link, crate::endpoint::ADDRESS, is_open);
        led.map_err(|error| failed(&Chain(&error)))
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), SandboxError> {
        self.docker.delete(id).await?;
        self.steps.reached("container removed");
        self.remove_volumes().await;
        let spool = self.spool(id);
        let removed = tokio::task::spawn_blocking(move || files::dir::remove_tree(&spool)).await;
        removed.map_err(io::Error::other).flatten().map_err(|source| SandboxError::Io {
            doing: "remove a container's output".to_owned(),
            source,
        })
    }

    /// Their directories are the agent's, which removes them itself.
    async fn remove_volumes(&self) {
        if let Err(error) = self.docker.remove_unused_volumes().await {
            warn!(error = %Chain(&error), "volumes of Docker's not removed");
        }
    }
}

impl Runtime for DockerHost {
    fn create_group(
        &self,
        group: GroupId,
        limits: GroupLimits,
    ) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move {
            self.steps.reached("group to be made");
            match &self.groups {
                Some(groups) => groups.create(&group, limits).await,
                None if limits.cpu_quota.or(limits.memory.map(|_| 0)).is_none() => Ok(()),
                None => Err(SandboxError::Invalid {
                    what: "size of the task".to_owned(),
                    why: "the Docker driver holds tasks to a size as root and with Docker's cgroupfs driver alone"
                        .to_owned(),
                }),
            }
        })
    }

    fn remove_group(&self, group: GroupId) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move {
            self.steps.reached("group to be removed");
            self.remove_volumes().await;
            match &self.groups {
                Some(groups) => groups.remove(&group).await,
                None => Ok(()),
            }
        })
    }

    fn groups(&self) -> BoxFuture<'_, Result<Vec<GroupId>, SandboxError>> {
        Box::pin(async move {
            match &self.groups {
                Some(groups) => groups.list().await,
                None => Ok(Vec::new()),
            }
        })
    }

    fn create(
        &self,
        spec: ContainerSpec,
        around: Surroundings,
    ) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move {
            self.steps.reached("container to be created");
            let made = self.make(&spec, &around).await;
            self.steps.reached("container created");
            made
        })
    }

    fn start(&self, id: ContainerId) -> BoxFuture<'_, Result<Started, SandboxError>> {
        Box::pin(async move {
            self.steps.reached("container to be started");
            self.endpoints().leave_ports(id.as_str());
            let started = self.begin(&id).await;
            self.steps.reached("container started");
            started
        })
    }

    fn hold(&self, _spec: ContainerSpec) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async {
            Err(SandboxError::Invalid {
                what: "pidMode or ipcMode".to_owned(),
                why: "the Docker driver of this host does not have it".to_owned(),
            })
        })
    }

    fn signal(&self, id: ContainerId, signal: Signal) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move {
            self.steps.reached("signal to be sent");
            let sent = self.docker.signal(&id, signal.0).await;
            self.steps.reached("signal sent");
            sent
        })
    }

    fn wait(&self, id: ContainerId) -> BoxFuture<'_, Result<Exit, SandboxError>> {
        Box::pin(async move { self.docker.wait(&id).await })
    }

    fn exec(
        &self,
        id: ContainerId,
        exec: ExecSpec,
    ) -> BoxFuture<'_, Result<ExecResult, SandboxError>> {
        Box::pin(async move { self.docker.exec(&id, &exec).await })
    }

    fn stats(&self, id: ContainerId) -> BoxFuture<'_, Result<Stats, SandboxError>> {
        Box::pin(async move { Ok(self.used(&id).await?.stats) })
    }

    fn usage(&self, id: ContainerId) -> BoxFuture<'_, Result<Usage, SandboxError>> {
        Box::pin(async move { self.used(&id).await })
    }

    fn delete(&self, id: ContainerId) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move {
            self.steps.reached("container to be deleted");
            let removed = self.remove(&id).await;
            self.steps.reached("container deleted");
            removed
        })
    }

    fn recover(&self) -> BoxFuture<'_, Result<Vec<Recovered>, SandboxError>> {
        Box::pin(self.docker.recover())
    }

    fn storage(
        &self,
        group: GroupId,
        trees: Vec<PathBuf>,
    ) -> BoxFuture<'_, Result<StorageUse, SandboxError>> {
        Box::pin(async move {
            let ours = tokio::task::spawn_blocking(move || sandbox::storage_of(&trees)).await;
            let mut used = ours.unwrap_or_default();
            used += StorageUse { bytes: self.docker.written(&group).await?, files: 0 };
            Ok(used)
        })
    }

    fn disk_room(&self, path: PathBuf) -> BoxFuture<'_, Result<DiskRoom, SandboxError>> {
        Box::pin(async move {
            let room = tokio::task::spawn_blocking(move || sandbox::disk_room(&path)).await;
            room.unwrap_or_else(|error| {
                let doing = "ask for the room on the disk".to_owned();
                Err(SandboxError::Io { doing, source: io::Error::other(error) })
            })
        })
    }

    fn output(&self, spool: &Path, position: Position) -> io::Result<Box<dyn Output>> {
        let run = spool.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let id: ContainerId = run.parse().map_err(io::Error::other)?;
        let [entries, time, nth] = position.parts();
        Ok(Box::new(DockerOutput(self.docker.output(id, Cursor { entries, time, nth }))))
    }
}

#[derive(Debug)]
struct DockerOutput(Follower);

impl Output for DockerOutput {
    fn next(&mut self) -> BoxFuture<'_, io::Result<OutputItem>> {
        Box::pin(async move {
            Ok(match self.0.next().await? {
                LogItem::Record(record) => {
                    let Cursor { entries, time, nth } = self.0.cursor();
                    OutputItem::Piece(Piece {
                        at: record.at,
                        stream: match record.stream {
                            Stream::Stdout => StdStream::Stdout,
                            Stream::Stderr => StdStream::Stderr,
                        },
                        is_partial: record.is_partial,
                        bytes: record.bytes,
                        next: Position::of_parts([entries, time, nth]),
                    })
                }
                LogItem::End => OutputItem::End,
            })
        })
    }

    /// What Docker keeps of it is bounded, and goes with the container.
    fn acknowledge(&mut self, _position: Position) {}
}

impl Networks for DockerHost {
    fn attach_eni(&self, _name: &str, _eni: EniSpec) -> BoxFuture<'_, Result<Attached, NetError>> {
        let what = "interfaces of tasks' own (networkMode awsvpc)";
        Box::pin(async move { Err(NetError::NotHere { driver: DRIVER, what }) })
    }

    fn attach_bridge(&self, name: &str) -> BoxFuture<'_, Result<Attached, NetError>> {
        self.steps.reached("endpoint to be attached");
        let address = self.endpoints().attach(name);
        self.steps.reached("endpoint attached");
        Box::pin(async move {
            Ok(Attached { netns: None, address: address?, nameserver: None, seen_as: None })
        })
    }

    fn publish(
        &self,
        name: &str,
        ports: Vec<PortSpec>,
    ) -> BoxFuture<'_, Result<Vec<Binding>, NetError>> {
        self.steps.reached("ports to be published");
        let request = |port: &PortSpec| PortMapping {
            container_port: port.container_port,
            host_port: port.host_port,
            protocol: port.protocol,
            follows: port.range.is_some_and(|first| first != port.container_port),
        };
        let requests: Vec<PortMapping> = ports.iter().map(request).collect();
        let published = self.endpoints().publish(name, &requests);
        self.steps.reached("ports published");
        let binding = |(binding, port): (network::Binding, &PortSpec)| Binding {
            container_port: binding.container_port,
            host_port: binding.host_port,
            protocol: binding.protocol,
            range: port.range,
        };
        Box::pin(async move { Ok(published?.into_iter().zip(&ports).map(binding).collect()) })
    }

    /// Docker's networks have no groups, and no VPC is on them.
    fn learn(&self, _news: News) -> BoxFuture<'_, Result<(), NetError>> {
        Box::pin(async { Ok(()) })
    }

    fn connect_report(&self) -> BoxFuture<'_, Option<ConnectReport>> {
        Box::pin(async { None })
    }

    fn detach(&self, name: &str) -> BoxFuture<'_, Result<(), NetError>> {
        self.steps.reached("endpoint to be detached");
        self.endpoints().detach(name);
        self.steps.reached("endpoint detached");
        Box::pin(async { Ok(()) })
    }

    fn reconcile(&self, names: Vec<String>) -> BoxFuture<'_, Result<(), NetError>> {
        self.endpoints().keep(&names);
        Box::pin(async { Ok(()) })
    }

    /// Who has an interface has its own, and no VPC is here.
    fn behind(
        &self,
        _from: SocketAddrV4,
        _to: SocketAddrV4,
    ) -> BoxFuture<'_, Result<Option<Ipv4Addr>, NetError>> {
        Box::pin(async { Ok(None) })
    }

    fn counters(&self, name: &str) -> BoxFuture<'_, Result<Counters, NetError>> {
        // A container that has an endpoint is the first run of its name, and there is no other.
        let id = name.parse::<ContainerId>();
        Box::pin(async move {
            let Ok(id) = id else { return Ok(Counters::default()) };
            let used = self.carried(&id).await?;
            Ok(Counters {
                rx_bytes: used.rx_bytes,
                rx_packets: used.rx_packets,
                rx_errors: used.rx_errors,
                rx_dropped: used.rx_dropped,
                tx_bytes: used.tx_bytes,
                tx_packets: used.tx_packets,
                tx_errors: used.tx_errors,
                tx_dropped: used.tx_dropped,
            })
        })
    }

    fn flows(&self) -> BoxFuture<'_, Result<CountedFlows, NetError>> {
        Box::pin(async { Ok(CountedFlows::default()) })
    }
}
