//! The network of one region on one host: a namespace with an address for each task or container, who
//! may talk to whom, ports of the host, the way out, and names.
//!
//! The network is routed, not bridged: each endpoint is a namespace with one interface, whose other end
//! is on the host with a route to its one address. So every packet between two endpoints passes the
//! host's forward hook, where one nf_tables table of ours judges it ([`ruleset`]). One thread changes the
//! kernel's state ([`worker`]); namespaces are made ahead of need by others ([`netns`]); a small relay
//! answers DNS ([`dns`]). See `docs/adr/0004-routed-network.md` for why.
//!
//! **Invariant:** every kernel object that this crate makes carries the region's tag, and nothing without
//! it is touched. What the process leaves behind when it dies is adopted or removed by the next
//! [`Network::open`] with the same tag and directory.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as they like"))]

mod addr;
mod balancers;
mod bridged;
pub mod connect;
mod dns;
mod endpoint;
mod error;
mod flows;
mod forgetter;
mod interface_names;
mod learn;
mod led;
pub mod limits;
mod names;
mod nameserver;
mod netlink;
mod netns;
mod nft;
mod numbers;
mod overlay;
mod peerings;
mod publish;
mod ranges;
mod records;
mod router;
mod ruleset;
mod setup;
mod tunnels;
mod worker;
mod zones;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::{fs, io};

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::warn;

use longshore_types::{Chain, RegionName, Steps, TaskId};
use traffic::HostNames;
use traffic::connect::{ConnectReport, ConnectTable, HostConnect};
use traffic::feed::Feed;

pub use longshore_types::Cidr;
pub use traffic::feed;
pub use traffic::{GroupRule, Peer, SecurityGroup, Traffic};

pub use crate::addr::{AddrError, MacAddr};
pub use crate::balancers::{balancer_namespace, has_balancers};
pub use crate::bridged::{lead_to_agent, lead_to_agent_no_more};
pub use crate::endpoint::{Attached, Binding, Counters, EniSpec};
pub use crate::error::NetworkError;
pub use crate::flows::CountedFlows;
pub use crate::learn::News;
pub use crate::names::{EndpointId, NameError, NetTag};
pub use crate::nameserver::{Lookup, NameServer, Told};
pub use crate::netlink::NetlinkError;
pub use crate::publish::{HostPorts, PortError, PortMapping, Protocol, granted_before};
pub use crate::ranges::{claim_ranges, ranges_in_use};
pub use crate::ruleset::{ControlGroup, LocalService};
pub use crate::tunnels::Encryption;

use crate::connect::{ConnectNames, ProxyWait};
use crate::flows::FlowCounts;
use crate::forgetter::Forgetter;
use crate::netlink::Socket;
use crate::netns::{Pool, Reaper, Recipe};
use crate::nft::docker::{self, Foreign};
use crate::numbers::LinkNumbers;
use crate::overlay::{Overlay, Underlay};
use crate::records::Records;
use crate::router::Routers;
use crate::ruleset::{Plan, Table};
use crate::tunnels::Tunnels;
use crate::worker::{Command, Reply, Worker};
use crate::zones::Zones;

/// What a region's network on this host is made from.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// In the name of every kernel object.
    pub tag: NetTag,
    /// The region's runtime directory, such as `/run/longshore/<tag>`; namespaces are mounted below it.
    pub run_dir: PathBuf,
    /// The range of the VPC's addresses.
    pub vpc: Cidr,
    /// The range for bridged containers; without one, a free part of 172.16.0.0/12.
    pub bridge: Option<Cidr>,
    /// Namespaces to keep ready; a start that finds one costs a third of one that does not.
    pub pool_size: usize,
    /// Where the host's resolvers are named.
    pub resolv_conf: PathBuf,
    /// Services of this machine that endpoints see at an address of their own.
    pub services: Vec<LocalService>,
    /// Addresses and ports at which endpoints reach listeners that [`Network::listeners`] hands out.
    pub served_here: Vec<(Ipv4Addr, u16)>,
    /// Whether bridged endpoints may reach everything that listens on the host's addresses, its loopback
    /// aside, and not just DNS, the services above and published ports.
    pub is_host_open: bool,
    /// Whether endpoints reach 169.254.0.0/16 by way of the host, where clouds hand out a machine's own
    /// credentials, and not just what is served to them there.
    pub is_link_local_open: bool,
    /// The control group of all containers: those in the host's own network are kept from the same range. `None`
    /// where the host has no such groups.
    pub tasks: Option<ControlGroup>,
    /// Where host ports are taken from when any will do; without one, the host's ephemeral range.
    pub dynamic_ports: Option<RangeInclusive<u16>>,
    /// This host's address in the network of the region's hosts, by which they exchange their tasks' packets;
    /// none where there are no others.
    pub underlay: Option<Ipv4Addr>,
    /// Of whose names interfaces are; without one they have none here.
    pub region: Option<RegionName>,
    /// Told how far each change of an endpoint has come.
    pub steps: Steps,
}

impl NetworkConfig {
    pub fn new(tag: NetTag, run_dir: PathBuf, vpc: Cidr) -> Self {
        Self {
            tag,
            run_dir,
            vpc,
            bridge: None,
            pool_size: 8,
            resolv_conf: "/etc/resolv.conf".into(),
            services: Vec::new(),
            served_here: Vec::new(),
            is_host_open: false,
            is_link_local_open: false,
            tasks: None,
            dynamic_ports: None,
            underlay: None,
            region: None,
            steps: Steps::default(),
        }
    }
}

/// A region's network on this host. Clones share it; it stops working for new requests when the last is
/// dropped, while endpoints that are attached live on.
#[derive(Clone, Debug)]
pub struct Network {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: Sender<Command>,
    host: Ipv4Addr,
    bridge: Cidr,
    encryption: Option<Encryption>,
    listeners: Mutex<Vec<TcpListener>>,
    names: Arc<dns::Names>,
    records: Records,
    /// Says each time that [`connect::table_file`] was written.
    connect: watch::Sender<()>,
    _relay: dns::Relay,
}

/// What the worker's thread hands back once it is ready.
#[derive(Debug)]
struct Opened {
    host: Ipv4Addr,
    bridge: Cidr,
    encryption: Option<Encryption>,
    listeners: Vec<TcpListener>,
    relay: dns::Bound,
}

impl Network {
    /// Sets up what endpoints share, and adopts those that an earlier process left alive. Follow it with
    /// [`Network::reconcile`].
    pub async fn open(config: NetworkConfig) -> Result<Self, NetworkError> {
        let (commands, inbox) = channel();
        let (ready, opened) = oneshot::channel();
        let resolv_conf = config.resolv_conf.clone();
        let records = Records::at(&config.run_dir);
        let names = Arc::new(dns::Names::of_region(config.region.clone()));
        let known = Arc::clone(&names);
        let work = move || match open_worker(&config, known) {
            Ok((worker, relay, listeners)) => {
                let (host, bridge) = (worker.table.plan().host, worker.table.plan().bridge);
                let encryption = worker.encryption();
                drop(ready.send(Ok(Opened { host, bridge, encryption, listeners, relay })));
                worker.run(&inbox);
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        thread::Builder::new()
            .name("network".to_owned())
            .spawn(work)
            .map_err(|source| NetworkError::io("start the network's thread", source))?;
        let Opened { host, bridge, encryption, listeners, relay } =
            opened.await.map_err(|_| NetworkError::Closed)??;
        // What was answered before is known before anybody can ask.
        if let Some(told) = records.names()? {
            names.replace(Zones::new(told));
        }
        names.connect(ConnectNames::of(&connect::load(records.run_dir())));
        let _relay = dns::Relay::serve(relay, resolv_conf, Arc::clone(&names))?;
        let listeners = Mutex::new(listeners);
        let shared = Shared {
            commands,
            host,
            bridge,
            encryption,
            listeners,
            names,
            records,
            connect: watch::Sender::default(),
            _relay,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The host's own address towards endpoints; what is to be a [`LocalService`] listens here.
    pub fn host_address(&self) -> Ipv4Addr {
        self.shared.host
    }

    /// What listens for [`NetworkConfig::served_here`], in its order. Whoever asks first has them.
    pub fn listeners(&self) -> Vec<TcpListener> {
        let mut listeners = self.shared.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut listeners)
    }

    /// The range of bridged containers' addresses.
    pub fn bridge_range(&self) -> Cidr {
        self.shared.bridge
    }

    /// Whether what goes to other hosts can be encrypted here; nothing where there are no other hosts.
    pub fn encryption(&self) -> Option<&Encryption> {
        self.shared.encryption.as_ref()
    }

    /// Makes a namespace with the interface that the region allocated. Asking again with the same spec
    /// gives the same namespace.
    pub async fn attach_eni(
        &self,
        id: &EndpointId,
        spec: EniSpec,
    ) -> Result<Attached, NetworkError> {
        let attached = self.ask(|reply| Command::AttachEni { id: id.clone(), spec, reply }).await?;
        self.await_proxy(id).await?;
        Ok(attached)
    }

    /// Waits until the host's proxy takes what a task sends to endpoints of Service Connect, if it is in a namespace: its
    /// containers may ask at once. A proxy that does not come keeps nobody from starting, but those that others are to meet
    /// with TLS alone: where nobody stands before them, they would be met in the clear.
    async fn await_proxy(&self, id: &EndpointId) -> Result<(), NetworkError> {
        const DOING: &str = "wait for the proxy that meets others with TLS";
        let shared = Arc::clone(&self.shared);
        let Ok(task) = id.as_str().parse::<TaskId>() else { return Ok(()) };
        let wait = move || connect::proxy_wait(&connect::load(shared.records.run_dir()), task);
        let waits = tokio::task::spawn_blocking(wait).await;
        let waits = waits.map_err(|error| NetworkError::io(DOING, io::Error::other(error)))?;
        let Some(ProxyWait { most, is_needed }) = waits else { return Ok(()) };
        let end = Instant::now() + most;
        while Instant::now() < end {
            if self.connect_report().await.is_some_and(|report| report.ready.contains(&task)) {
                return Ok(());
            }
            tokio::time::sleep(limits::PROXY_LOOK).await;
        }
        if is_needed {
            return Err(NetworkError::io(DOING, io::ErrorKind::TimedOut.into()));
        }
        warn!(%task, "the proxy of Service Connect is not there yet");
        Ok(())
    }

    /// Makes a namespace with an address of this host's own range. Asking again gives the same namespace.
    pub async fn attach_bridge(&self, id: &EndpointId) -> Result<Attached, NetworkError> {
        self.ask(|reply| Command::AttachBridge { id: id.clone(), reply }).await
    }

    /// Leads ports of this host to a bridged endpoint: all of `wishes`, or none and the port that is
    /// taken. The bindings are in the order of the wishes. Asking again gives the same ports.
    pub async fn publish(
        &self,
        id: &EndpointId,
        requests: &[PortMapping],
    ) -> Result<Vec<Binding>, NetworkError> {
        let requests = requests.to_vec();
        self.ask(|reply| Command::Publish { id: id.clone(), requests, reply }).await
    }

    /// Removes an endpoint and its published ports; no error if there is none of that name.
    pub async fn detach(&self, id: &EndpointId) -> Result<(), NetworkError> {
        self.ask(|reply| Command::Detach { id: id.clone(), reply }).await
    }

    /// Removes every endpoint that is not in `keep`.
    pub async fn reconcile(&self, keep: &[EndpointId]) -> Result<(), NetworkError> {
        let keep: BTreeSet<EndpointId> = keep.iter().cloned().collect();
        self.ask(|reply| Command::Reconcile { keep, reply }).await
    }

    /// Replaces the rules of all groups: one that is not among them lets nothing pass from now on. Until the
    /// first time a group means the default rules.
    pub async fn set_security_groups(
        &self,
        groups: Vec<SecurityGroup>,
    ) -> Result<(), NetworkError> {
        self.learn(News { groups, is_whole: true, ..News::default() }).await
    }

    /// Replaces the rules of these groups, all at one moment, and leaves the others as they are.
    pub async fn change_security_groups(
        &self,
        groups: Vec<SecurityGroup>,
    ) -> Result<(), NetworkError> {
        self.learn(News { groups, ..News::default() }).await
    }

    /// Takes in what the region told of groups, VPCs and names: it is written down, and in force once this answers.
    pub async fn learn(&self, mut news: News) -> Result<(), NetworkError> {
        let (names, is_whole) = (std::mem::take(&mut news.names), news.is_whole);
        let (connect, version) = (std::mem::take(&mut news.connect), news.version);
        self.ask(|reply| Command::Learn { news: Box::new(news), reply }).await?;
        if is_whole || !names.is_empty() {
            self.learn_names(names, is_whole).await?;
        }
        if is_whole || !connect.is_empty() {
            self.learn_connect(connect, version, is_whole).await?;
        }
        Ok(())
    }

    async fn learn_connect(
        &self,
        told: HostConnect,
        version: u64,
        is_whole: bool,
    ) -> Result<(), NetworkError> {
        let shared = Arc::clone(&self.shared);
        let learn = move || {
            let run_dir = shared.records.run_dir();
            let before = connect::load(run_dir);
            let mut table = before.clone();
            table.learn(version, told, is_whole);
            let is_nothing =
                |table: &ConnectTable| table.clients.is_empty() && table.endpoints.is_empty();
            if is_nothing(&before) && is_nothing(&table) {
                return Ok(());
            }
            connect::save(run_dir, &table)?;
            shared.connect.send_replace(());
            shared.names.connect(ConnectNames::of(&table));
            Ok(())
        };
        // Whoever tells waits for the answer: one at a time.
        tokio::task::spawn_blocking(learn).await.map_err(|_| NetworkError::Closed)?
    }

    /// Changes when the host has learned anything of Service Connect.
    pub fn connect_learned(&self) -> watch::Receiver<()> {
        self.shared.connect.subscribe()
    }

    /// What the host's proxy of Service Connect said last.
    pub async fn connect_report(&self) -> Option<ConnectReport> {
        let shared = Arc::clone(&self.shared);
        let read = move || connect::report(shared.records.run_dir());
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    async fn learn_names(&self, told: HostNames, is_whole: bool) -> Result<(), NetworkError> {
        let shared = Arc::clone(&self.shared);
        let learn = move || {
            let mut zones = Zones::clone(&shared.names.current());
            zones.learn(told, is_whole);
            shared.records.save_names(&zones.told())?;
            shared.names.replace(zones);
            Ok(())
        };
        // Whoever tells waits for the answer: one at a time.
        tokio::task::spawn_blocking(learn).await.map_err(|_| NetworkError::Closed)?
    }

    /// What has come of flows since the last time, of all interfaces that are logged.
    pub async fn flows(&self) -> Result<CountedFlows, NetworkError> {
        let parts = self.ask(|reply| Command::Flows { reply }).await?;
        let mut all = CountedFlows::default();
        for part in parts {
            // A router that ended meanwhile has none.
            let Ok(part) = part.await else { continue };
            // What the others counted is told once, here or never.
            all.extend(part.unwrap_or_else(|error| {
                warn!(error = %Chain(&error), "flows of a VPC cannot be read");
                CountedFlows::default()
            }));
        }
        Ok(all)
    }

    /// Which address an endpoint has in its VPC, of which a service of the host's at `to` sees an open TCP connection
    /// come from `from`, an address that all of the VPC share here ([`Attached::seen_as`]). Nothing if it is not one.
    pub async fn behind(
        &self,
        from: SocketAddrV4,
        to: SocketAddrV4,
    ) -> Result<Option<Ipv4Addr>, NetworkError> {
        self.ask(|reply| Command::Behind { from, to, reply }).await
    }

    /// What an endpoint's interface has carried.
    pub async fn counters(&self, id: &EndpointId) -> Result<Counters, NetworkError> {
        self.ask(|reply| Command::Counters { id: id.clone(), reply }).await
    }

    /// Removes every trace of the region's network from this host, living endpoints included.
    pub async fn uninstall(self) -> Result<(), NetworkError> {
        self.ask(|reply| Command::Uninstall { reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, NetworkError> {
        let (reply, answer) = oneshot::channel();
        self.shared.commands.send(command(reply)).map_err(|_| NetworkError::Closed)?;
        answer.await.map_err(|_| NetworkError::Closed)?
    }
}

/// Removes every trace of a region's network from this host, whatever its ranges were, when no process of the
/// region has it open.
pub fn remove(tag: NetTag, run_dir: &Path) -> Result<(), NetworkError> {
    let sockets = (&mut Socket::route()?, &mut Socket::netfilter()?);
    setup::remove_all(sockets, &Records::at(run_dir), tag)
}

fn open_worker(
    config: &NetworkConfig,
    names: Arc<dns::Names>,
) -> Result<(Worker, dns::Bound, Vec<TcpListener>), NetworkError> {
    let mut route = Socket::route()?;
    let netfilter = Socket::netfilter()?;
    let records = Records::open(&config.run_dir)?;
    let holder = config.tag.holder();
    ranges::claim(&mut route, config.vpc, config.tag)?;
    let wanted = (config.bridge, config.vpc);
    let bridge = setup::bridge_range(&mut route, &records, wanted, config.tag)?;
    if bridge.overlaps(config.vpc) {
        return Err(NetworkError::RangesOverlap { first: bridge, second: config.vpc });
    }
    ranges::release_but(&mut route, config.tag, &[config.vpc, bridge])?;
    let host = bridge.nth(1).ok_or(NetworkError::RangeTooSmall { range: bridge })?;
    setup::forward()?;
    setup::hold_address(&mut route, &holder, host)?;
    let relay = dns::bind(host)?;
    let (services, listeners) = listen(config, host)?;
    let endpoints = setup::find_living(&mut route, &records, config.tag)?;
    let ports = adopt_ports(config, &endpoints);
    let underlay =
        config.underlay.map(|address| setup::underlay(&mut route, address)).transpose()?;
    let tunnels = match underlay {
        Some(underlay) => Tunnels::open(&records, config.tag, underlay.address)?,
        None => Err("there are no other hosts"),
    };
    let underlay = underlay.map(|it| Underlay { encrypts: tunnels.is_ok(), ..it });
    let mtu = setup::link_mtu(&mut route, underlay);
    let is_link_local_open = config.is_link_local_open;
    let recipe = Recipe { tag: config.tag, mtu, is_link_local_open };
    // What is in force is known before anybody can be asked: living endpoints are judged as before.
    let groups = records.groups()?;
    let table = Table::new(Plan {
        tag: config.tag,
        ranges: vec![config.vpc],
        bridge,
        host,
        dns_port: relay.port,
        services,
        is_host_open: config.is_host_open,
        is_link_local_open,
        tasks: config.tasks,
        overlay: underlay.map(|_| config.tag.overlay()),
        router: None,
    });
    let links = setup::links_of(&mut route, config.tag)?;
    let numbers = LinkNumbers::open(records.clone(), &links.into_values().collect());
    let pool = Pool::start(&recipe, numbers, (config.pool_size, limits::MAKERS))?;
    let mut worker = Worker {
        route,
        netfilter,
        records,
        pool,
        reaper: Reaper::start()?,
        forgetter: Forgetter::start()?,
        table,
        ports,
        groups,
        is_behind: false,
        is_current: false,
        feed: Feed::default(),
        flows: FlowCounts::default(),
        overlay: Overlay::new(config.tag.overlay(), underlay),
        peer_links: BTreeMap::new(),
        knows_peer_links: false,
        peered: BTreeMap::new(),
        lacks_balancers: false,
        peers: BTreeSet::new(),
        tunnels,
        routers: BTreeMap::new(),
        common: Routers { underlay, mtu, steps: config.steps.clone() },
        names,
        uplink: None,
        endpoints,
        next_bridge: 2,
        steps: config.steps.clone(),
    };
    worker.recall()?;
    install_table(&mut worker)?;
    match docker::let_through(&mut worker.netfilter, config.tag) {
        Ok(Foreign::Open | Foreign::LetThrough) => {}
        Ok(Foreign::Shut) => warn!("this host drops forwarded packets: tasks reach only the host"),
        // Whoever has an unusual filter has it on purpose.
        Err(error) => warn!(error = %Chain(&error), "filter of others not understood"),
    }
    Ok((worker, relay, listeners))
}

/// All services, and the listeners of those that are served by this process.
fn listen(
    config: &NetworkConfig,
    host: Ipv4Addr,
) -> Result<(Vec<LocalService>, Vec<TcpListener>), NetworkError> {
    let failed = |source| NetworkError::io("listen for endpoints", source);
    let (mut services, mut listeners) = (config.services.clone(), Vec::new());
    for (address, port) in &config.served_here {
        let listener = TcpListener::bind((host, 0)).map_err(failed)?;
        let listens_on = listener.local_addr().map_err(failed)?.port();
        services.push(LocalService { address: *address, port: *port, listens_on });
        listeners.push(listener);
    }
    Ok((services, listeners))
}

/// A kernel that does not know whose packets are (before 5.13, or built without it) has the rest of the table.
fn install_table(worker: &mut Worker) -> Result<(), NetworkError> {
    const UNJUDGED: &str = "tasks in the network mode host reach this machine's metadata service and \
                            its credentials: this kernel cannot tell their packets from others'";
    let is_open = worker.table.plan().is_link_local_open;
    match worker.replace_table() {
        Ok(()) if worker.table.plan().tasks.is_some() || is_open => {}
        Ok(()) => warn!("{UNJUDGED}, since control groups of version 2 are not mounted"),
        Err(error) if worker.table.without_tasks() => {
            worker.replace_table()?;
            warn!(error = %Chain(&error), "{UNJUDGED}");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn adopt_ports(
    config: &NetworkConfig,
    endpoints: &BTreeMap<EndpointId, endpoint::Endpoint>,
) -> HostPorts {
    let dynamic = config.dynamic_ports.clone().unwrap_or_else(ephemeral_ports);
    let mut ports = HostPorts::new(dynamic);
    for endpoint in endpoints.values() {
        for binding in endpoint.bindings() {
            if let Err(error) = ports.adopt(binding) {
                warn!(endpoint = %endpoint.id, error = %Chain(&error), "published port not held");
            }
        }
    }
    ports
}

/// As ECS does: the host's ephemeral range, or the one registered for dynamic ports.
pub fn ephemeral_ports() -> RangeInclusive<u16> {
    const REGISTERED: RangeInclusive<u16> = 49_153..=65_535;
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = text.split_whitespace().map(str::parse);
    match (bounds.next(), bounds.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first < last => first..=last,
        _ => REGISTERED,
    }
}
