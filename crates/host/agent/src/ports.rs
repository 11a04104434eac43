//! What the engine needs of the host: processes, images, networks, and the output of processes.
//!
//! Small traits, so that the engine can be driven through every order of events by a test. The real
//! ones are in [`crate::adapters`], the others in [`crate::fakes`].

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use docker::{Interface, Published, Surroundings};
use futures_util::future::BoxFuture;
use image::{Auth, ImageConfig, PullError, Reference};
use longshore_types::Timestamp;
pub use network::CountedFlows;
use network::{AddrError, NameError, NetworkError, News};
pub use sandbox::Position;
use sandbox::{
    ContainerId, ContainerSpec, DiskRoom, ExecResult, ExecSpec, Exit, GroupId, GroupLimits,
    Recovered, SandboxError, Started, Stats, StorageUse, Usage,
};

use traffic::connect::ConnectReport;

use crate::engine::state::Binding;
use crate::spec::{EniSpec, PortSpec};

/// A signal by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(pub i32);

impl Signal {
    pub const TERM: Self = Self(15);
    pub const KILL: Self = Self(9);

    /// Reads `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
    pub fn parse(text: &str) -> Option<Self> {
        const REALTIME_FIRST: i32 = 34;
        const LAST: i32 = 64;
        if let Ok(number) = text.parse::<i32>() {
            return (1..=LAST).contains(&number).then_some(Self(number));
        }
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        if let Some(offset) = name.strip_prefix("RTMIN") {
            let offset: i32 = if offset.is_empty() { 0 } else { offset.parse().ok()? };
            let number = REALTIME_FIRST.checked_add(offset)?;
            return (REALTIME_FIRST..=LAST).contains(&number).then_some(Self(number));
        }
        let known: sandbox::Signal = format!("SIG{name}").parse().ok()?;
        Some(Self(known as i32))
    }
}

/// Runs containers. As the sandbox: what it does outlives the agent.
pub trait Runtime: Send + Sync + Debug {
    fn create_group(
        &self,
        group: GroupId,
        limits: GroupLimits,
    ) -> BoxFuture<'_, Result<(), SandboxError>>;
    fn remove_group(&self, group: GroupId) -> BoxFuture<'_, Result<(), SandboxError>>;
    fn groups(&self) -> BoxFuture<'_, Result<Vec<GroupId>, SandboxError>>;
    /// `around` is for runtimes that make more than the sandbox does.
    fn create(
        &self,
        spec: ContainerSpec,
        around: Surroundings,
    ) -> BoxFuture<'_, Result<(), SandboxError>>;
    fn start(&self, id: ContainerId) -> BoxFuture<'_, Result<Started, SandboxError>>;
    /// Makes and starts what only holds namespaces, unless it is there and runs.
    fn hold(&self, spec: ContainerSpec) -> BoxFuture<'_, Result<(), SandboxError>>;
    fn signal(&self, id: ContainerId, signal: Signal) -> BoxFuture<'_, Result<(), SandboxError>>;
    /// Answers once it has ended, also if that was long ago or under another agent.
    fn wait(&self, id: ContainerId) -> BoxFuture<'_, Result<Exit, SandboxError>>;
    fn exec(
        &self,
        id: ContainerId,
        exec: ExecSpec,
    ) -> BoxFuture<'_, Result<ExecResult, SandboxError>>;
    fn stats(&self, id: ContainerId) -> BoxFuture<'_, Result<Stats, SandboxError>>;
    /// The same and more, as Docker tells it.
    fn usage(&self, id: ContainerId) -> BoxFuture<'_, Result<Usage, SandboxError>>;
    /// Ends it if it runs; nothing of it is left. What does not exist is deleted already.
    fn delete(&self, id: ContainerId) -> BoxFuture<'_, Result<(), SandboxError>>;
    fn recover(&self) -> BoxFuture<'_, Result<Vec<Recovered>, SandboxError>>;
    /// What `trees`, which are the group's, take of the disk.
    fn storage(
        &self,
        group: GroupId,
        trees: Vec<PathBuf>,
    ) -> BoxFuture<'_, Result<StorageUse, SandboxError>>;
    /// What is left of the disk that `path` is on.
    fn disk_room(&self, path: PathBuf) -> BoxFuture<'_, Result<DiskRoom, SandboxError>>;
    /// The output that a container writes, or wrote, into `spool`, from `position` on.
    fn output(&self, spool: &Path, position: Position) -> io::Result<Box<dyn Output>>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StdStream {
    Stdout,
    Stderr,
}

/// A piece of output, a line at most, without its line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub at: Timestamp,
    pub stream: StdStream,
    /// The line goes on in the stream's next piece.
    pub is_partial: bool,
    pub bytes: Vec<u8>,
    /// Where the next piece begins.
    pub next: Position,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputItem {
    Piece(Piece),
    /// The spool was full: so many bytes were thrown away here.
    Lost {
        bytes: u64,
    },
    /// Both streams are closed and everything was read.
    End,
}

/// Follows one container's output.
pub trait Output: Send {
    /// Waits for the next item. Cancelling loses nothing.
    fn next(&mut self) -> BoxFuture<'_, io::Result<OutputItem>>;
    /// Everything before `position` may be deleted.
    fn acknowledge(&mut self, position: Position);
}

/// An image that is on this host and stays for as long as this is held.
#[derive(Clone, Debug)]
pub struct LocalImage {
    pub digest: String,
    pub config: ImageConfig,
    /// Lowest first; none where the runtime keeps images itself.
    pub layers: Vec<PathBuf>,
    /// What such a runtime finds it by.
    pub name: Option<String>,
    pub lease: Arc<dyn Lease>,
}

/// Keeps an image from being collected.
pub trait Lease: Any + Send + Sync + Debug {}

impl<T: Any + Send + Sync + Debug> Lease for T {}

pub trait Images: Send + Sync + Debug {
    /// Brings an image here unless it is; `on_digest` hears early which one it is.
    fn pull(
        &self,
        image: Reference,
        login: Auth,
        on_digest: Box<dyn FnOnce(String) + Send>,
    ) -> BoxFuture<'_, Result<LocalImage, Arc<PullError>>>;
    /// The image of this digest if it is still here; asks nobody.
    fn find(&self, image: Reference, digest: String) -> BoxFuture<'_, Option<LocalImage>>;
    /// Removes what was not used for long; answers with the number of images.
    fn collect(&self) -> BoxFuture<'_, usize>;
}

/// What went wrong with a network.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("the name {name:?} must be {why}")]
    Name { name: String, why: NameError },
    #[error("the hardware address {mac:?} must be {why}")]
    Mac { mac: String, why: AddrError },
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("the {driver} driver of this host has no {what}")]
    NotHere { driver: &'static str, what: &'static str },
    #[error(transparent)]
    Container(#[from] SandboxError),
}

/// An interface in its own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// None where the runtime makes both together with the container.
    pub netns: Option<PathBuf>,
    pub address: Ipv4Addr,
    /// What belongs into the containers' `resolv.conf`.
    pub nameserver: Option<Ipv4Addr>,
    /// Where its questions come from, if not from its own address: one that others of its VPC share.
    pub seen_as: Option<Ipv4Addr>,
}

/// What went through an interface, counted since it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

pub trait Networks: Send + Sync + Debug {
    /// Both attachments answer with what is there when asked again.
    fn attach_eni(&self, endpoint: &str, eni: EniSpec)
    -> BoxFuture<'_, Result<Attached, NetError>>;
    fn attach_bridge(&self, endpoint: &str) -> BoxFuture<'_, Result<Attached, NetError>>;
    fn publish(
        &self,
        endpoint: &str,
        ports: Vec<PortSpec>,
    ) -> BoxFuture<'_, Result<Vec<Binding>, NetError>>;
    /// Security groups with their rules, and VPCs with what is in them: all that there is, or what changed. In
    /// force once it answers.
    fn learn(&self, news: News) -> BoxFuture<'_, Result<(), NetError>>;
    /// What the host's proxy of Service Connect said last.
    fn connect_report(&self) -> BoxFuture<'_, Option<ConnectReport>>;
    /// What is not there is detached already.
    fn detach(&self, endpoint: &str) -> BoxFuture<'_, Result<(), NetError>>;
    /// Removes every endpoint but these.
    fn reconcile(&self, endpoints: Vec<String>) -> BoxFuture<'_, Result<(), NetError>>;
    fn counters(&self, endpoint: &str) -> BoxFuture<'_, Result<Counters, NetError>>;
    /// Which address of its VPC somebody has who asks the host at `to` and is seen as `from` ([`Attached::seen_as`]).
    fn behind(
        &self,
        from: SocketAddrV4,
        to: SocketAddrV4,
    ) -> BoxFuture<'_, Result<Option<Ipv4Addr>, NetError>>;
    /// What has come of flows since the last time, of all interfaces that are logged.
    fn flows(&self) -> BoxFuture<'_, Result<CountedFlows, NetError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_in_all_their_spellings() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("SIGSYS", 31),
            ("HUP", 1),
        ] {
            assert_eq!(Signal::parse(text), Some(Signal(number)), "{text}");
        }
        for text in ["", "0", "65", "SIGNONE", "RTMIN+99"] {
            assert_eq!(Signal::parse(text), None, "{text}");
        }
    }
}
