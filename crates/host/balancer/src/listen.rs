//! Sockets: one for each address and port that a table names, kept over tables as long as they are named.

mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use files::whole::{self, Durability};
use futures_util::FutureExt as _;
use longshore_types::Chain;
use routing::{EndpointId, InterfaceRef, ListenerId, ListenerProtocol, Table, egress_listener};
use serde::{Deserialize, Serialize};
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use crate::http::connection::{Client, Times, serve};
use crate::limits::{EGRESS_WAIT_MAX, EGRESS_WAITING_MAX, HANDSHAKE_WAIT_MAX};
use crate::live::{LiveListener, Snapshot};
use crate::relay;
use crate::retries::Retries;
use crate::shared::Shared;
use crate::sockets::{NamespaceId, Transport};
use crate::tcp;
use crate::tls::TlsFacts;
use crate::udp;
use places::{Place, interfaces, places};

const BACKLOG: i32 = 4096;
/// How long after an error of `accept` the next is tried: it is most often the limit of open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What somebody comes to.
#[derive(Clone, Debug)]
enum Served {
    Listener(Door),
    Endpoint(EndpointId),
}

/// A listener, and at which of its sockets somebody comes.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) listener: ListenerId,
    /// At the machine's own address, where nobody but the balancer itself judges by its groups.
    is_local: bool,
    /// Which listener is meant says where the connection was going.
    egress: Option<Egress>,
}

/// The way out of the network of an interface.
#[derive(Clone, Debug)]
struct Egress {
    interface: InterfaceRef,
    /// For connections of which nobody knows yet where they go, and so whose they are.
    waiting: Arc<Semaphore>,
}

impl Egress {
    fn new(interface: &InterfaceRef) -> Self {
        let waiting = Arc::new(Semaphore::new(EGRESS_WAITING_MAX));
        Self { interface: interface.clone(), waiting }
    }

    /// None: as many wait as may.
    fn wait(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.waiting).try_acquire_owned().ok()
    }
}

impl Door {
    /// Whether a client may come in. Whoever is on the machine itself may: it reaches everything there.
    pub(crate) fn lets_in(
        &self,
        live: &LiveListener,
        (client, local): (SocketAddr, SocketAddr),
        is_datagram: bool,
    ) -> bool {
        let client = client.ip().to_canonical();
        !self.is_local
            || client.is_loopback()
            || client == local.ip().to_canonical()
            || live.balancer.lets_in(client, live.listener.port, is_datagram)
    }
}

/// An open socket that is not yet served.
enum Bound {
    Stream(TcpListener),
    Datagram(UdpSocket),
}

impl Bound {
    fn listening(socket: Socket) -> io::Result<(SocketAddr, Self)> {
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        Ok((listener.local_addr()?, Self::Stream(listener)))
    }
}

const PORTS_FILE: &str = "ports.json";
const LISTENING_FILE: &str = "listening.json";

/// A listener of an internet-facing balancer, and where it is reached on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// `app/web/0123456789abcdef`
    pub balancer: String,
    pub listener: ListenerId,
    pub protocol: ListenerProtocol,
    /// The listener's own.
    pub port: u16,
    pub address: SocketAddr,
}

/// What the process that keeps its state in `state_dir` listens at, or did last.
pub fn listening(state_dir: &Path) -> Vec<Listening> {
    let found = whole::read_json(&state_dir.join(LISTENING_FILE)).and_then(whole::Found::value);
    found.ok().flatten().unwrap_or_default()
}

/// The sockets that are open.
#[derive(Debug)]
pub(crate) struct Listeners {
    shared: Arc<Shared>,
    /// The machine's own address, where internet-facing balancers are reached, if they are.
    local: Option<IpAddr>,
    /// Where it is remembered which port was chosen for which listener, and said what is reached where.
    state_dir: PathBuf,
    open: Mutex<BTreeMap<Place, Open>>,
    /// Interfaces of balancers at which all is listened at that is to be.
    serving: Mutex<Vec<InterfaceRef>>,
    /// Places that could not be listened at.
    refused: Retries<Place>,
    /// What the files say.
    saved: Mutex<BTreeMap<&'static str, Vec<u8>>>,
}

#[derive(Debug)]
struct Open {
    address: SocketAddr,
    /// Where it was opened; none: in the machine's own network.
    namespace: Option<NamespaceId>,
    /// Dropped to have it closed.
    stop: oneshot::Sender<()>,
    work: JoinHandle<()>,
}

impl Open {
    /// Closes it, once the connections that wait in it are taken.
    async fn close(self) {
        drop(self.stop);
        // It panicked, or has ended.
        let _ = self.work.await;
    }
}

impl Listeners {
    pub(crate) fn new(shared: Arc<Shared>, local: Option<IpAddr>, state_dir: PathBuf) -> Self {
        Self {
            shared,
            local,
            state_dir,
            open: Mutex::default(),
            serving: Mutex::default(),
            refused: Retries::default(),
            saved: Mutex::default(),
        }
    }

    /// Opens what a table names and closes what it names no more. Connections go on.
    pub(crate) async fn follow(self: &Listeners, table: &Table) {
        let wanted = self.places(table);
        let (missing, gone) = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let is_gone = |place: &Place, open: &Open| {
                !wanted.contains(place) || self.is_elsewhere(place, open)
            };
            let gone = open.iter().filter(|(place, open)| is_gone(place, open));
            let gone: Vec<Place> = gone.map(|(place, _)| place.clone()).collect();
            let gone: Vec<Open> = gone.iter().filter_map(|place| open.remove(place)).collect();
            let missing: Vec<Place> =
                wanted.into_iter().filter(|place| !open.contains_key(place)).collect();
            (missing, gone)
        };
        // First, since what is missing may be at the same address and port.
        for open in gone {
            open.close().await;
        }
        let mut remembered = self.remembered();
        for place in self.refused.due(missing) {
            // Before it is opened: one that is made anew meanwhile is noticed.
            let namespace = self.namespace_of(&place);
            match self.open(&place, &remembered).await {
                Ok((address, socket)) => {
                    info!(place = place.name(), %address, "listening");
                    if let Place::Local(listener, ..) = &place {
                        remembered.insert(listener.clone(), address.port());
                    }
                    let shared = Arc::clone(&self.shared);
                    let (stop, stopped) = oneshot::channel();
                    let work = work(shared, place.served(), socket, stopped);
                    #[expect(clippy::disallowed_methods, reason = "ends when `stop` is dropped")]
                    let work = tokio::spawn(work);
                    self.refused.done(&place);
                    let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                    open.insert(place, Open { address, namespace, stop, work });
                }
                // The interface is not on this machine, at least not yet.
                Err(error)
                    if !matches!(place, Place::Local(..))
                        && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if self.refused.failed(&place) => {
                    warn!(place = ?place, error = %Chain(&error), "cannot listen; tried again after a pause");
                }
                Err(error) => debug!(place = ?place, error = %Chain(&error), "still cannot listen"),
            }
        }
        let named: BTreeSet<_> =
            table.balancers.values().flat_map(|it| &it.listeners).map(|it| &it.id).collect();
        remembered.retain(|listener, _| named.contains(listener));
        self.save(PORTS_FILE, &remembered).await;
        self.save(LISTENING_FILE, &self.listening(table)).await;
        let serving = self.serving_in(table);
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = serving;
    }

    /// The interfaces of a table's balancers that are here and listened at.
    fn serving_in(&self, table: &Table) -> Vec<InterfaceRef> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: BTreeSet<InterfaceRef> = self
            .places(table)
            .into_iter()
            .filter(|place| open.get(place).is_none_or(|open| self.is_elsewhere(place, open)))
            .filter_map(|place| match place {
                Place::Interface(_, _, interface, _) => Some(interface),
                Place::Endpoint(..) | Place::Local(..) | Place::Egress(_) => None,
            })
            .collect();
        let interfaces = interfaces(table);
        let is_served = |it: &InterfaceRef| {
            self.shared.sockets.namespace(it).is_some() && !missing.contains(it)
        };
        interfaces.filter(is_served).collect()
    }

    /// Interfaces of balancers that are on this machine, where whoever comes is served.
    pub(crate) fn serving(&self) -> Vec<InterfaceRef> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn places(&self, table: &Table) -> BTreeSet<Place> {
        places(table, self.local.is_some())
    }

    /// Whether some place of a table is not listened at, or no longer: an interface that was made anew has another
    /// namespace.
    pub(crate) fn is_missing_some(&self, table: &Table) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_missing =
            |place: &Place| open.get(place).is_none_or(|open| self.is_elsewhere(place, open));
        let is_away = |it: InterfaceRef| self.shared.sockets.namespace(&it).is_none();
        self.places(table).iter().any(is_missing) || interfaces(table).any(is_away)
    }

    fn is_elsewhere(&self, place: &Place, open: &Open) -> bool {
        open.namespace != self.namespace_of(place)
    }

    fn namespace_of(&self, place: &Place) -> Option<NamespaceId> {
        match place {
            Place::Interface(_, _, interface, _)
            | Place::Endpoint(_, interface, _)
            | Place::Egress(interface) => self.shared.sockets.namespace(interface),
            Place::Local(..) => None,
        }
    }

    /// Closes all sockets; connections go on.
    pub(crate) async fn close(&self) {
        let all = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *open)
        };
        for open in all.into_values() {
            open.close().await;
        }
    }

    /// Where listeners are reached from this machine.
    pub(crate) fn local(&self) -> Vec<(ListenerId, SocketAddr)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter()
            .filter_map(|(place, open)| match place {
                Place::Local(listener, ..) => Some((listener.clone(), open.address)),
                Place::Interface(..) | Place::Endpoint(..) | Place::Egress(_) => None,
            })
            .collect()
    }

    /// Interfaces in whose networks the egress socket is there.
    pub(crate) fn egress(&self) -> Vec<InterfaceRef> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let egress = open.keys().filter_map(|place| match place {
            Place::Egress(interface) => Some(interface.clone()),
            Place::Interface(..) | Place::Endpoint(..) | Place::Local(..) => None,
        });
        egress.collect()
    }

    async fn open(
        &self,
        place: &Place,
        remembered: &BTreeMap<ListenerId, u16>,
    ) -> io::Result<(SocketAddr, Bound)> {
        match place {
            Place::Interface(_, transport, interface, address) => {
                self.bind(*transport, Some(interface), *address).await
            }
            Place::Endpoint(_, interface, address) => {
                self.bind(Transport::Stream, Some(interface), *address).await
            }
            Place::Egress(interface) => {
                Bound::listening(self.shared.sockets.open_egress(interface).await?)
            }
            Place::Local(listener, transport, port) => {
                let local = self.local.ok_or(io::ErrorKind::AddrNotAvailable)?;
                let kept = remembered.get(listener).copied();
                // The port that it had; its own; any that is free.
                let ports = kept.into_iter().chain([*port, 0]);
                let mut last = io::Error::from(io::ErrorKind::AddrInUse);
                for port in ports {
                    match self.bind(*transport, None, SocketAddr::new(local, port)).await {
                        Ok(bound) => return Ok(bound),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    async fn bind(
        &self,
        transport: Transport,
        by: Option<&InterfaceRef>,
        address: SocketAddr,
    ) -> io::Result<(SocketAddr, Bound)> {
        let socket = self.shared.sockets.open(by, transport, address).await?;
        match transport {
            Transport::Stream => {
                // Connections of a process before this one may still be ending.
                socket.set_reuse_address(true)?;
                socket.bind(&address.into())?;
                Bound::listening(socket)
            }
            Transport::Datagram => {
                socket.bind(&address.into())?;
                let socket = UdpSocket::from_std(socket.into())?;
                Ok((socket.local_addr()?, Bound::Datagram(socket)))
            }
        }
    }

    fn remembered(&self) -> BTreeMap<ListenerId, u16> {
        let path = self.state_dir.join(PORTS_FILE);
        let found = whole::read_json(&path).and_then(whole::Found::value);
        found.ok().flatten().unwrap_or_default()
    }

    /// What is reached where on this machine.
    fn listening(&self, table: &Table) -> Vec<Listening> {
        let local: BTreeMap<_, _> = self.local().into_iter().collect();
        let listeners = table.balancers.values().flat_map(|balancer| {
            balancer.listeners.iter().map(move |listener| (balancer, listener))
        });
        listeners
            .filter_map(|(balancer, listener)| {
                Some(Listening {
                    balancer: balancer.name.clone(),
                    listener: listener.id.clone(),
                    protocol: listener.protocol,
                    port: listener.port,
                    address: *local.get(&listener.id)?,
                })
            })
            .collect()
    }

    async fn save(&self, name: &'static str, what: &impl serde::Serialize) {
        let Ok(text) = serde_json::to_vec(what) else { return };
        let before = {
            let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
            saved.insert(name, text.clone())
        };
        if before.as_ref() == Some(&text) {
            return;
        }
        let path = self.state_dir.join(name);
        let write = move || whole::write(&path, &text, Durability::DiesWithTheMachine);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
            warn!(error = %Chain(&error), "what is listened at could not be saved");
            self.saved.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        }
    }
}

impl Place {
    fn served(&self) -> Served {
        let door = |listener: &ListenerId, is_local| {
            Served::Listener(Door { listener: listener.clone(), is_local, egress: None })
        };
        match self {
            Self::Interface(listener, ..) => door(listener, false),
            Self::Local(listener, ..) => door(listener, true),
            Self::Endpoint(endpoint, ..) => Served::Endpoint(endpoint.clone()),
            Self::Egress(interface) => Served::Listener(Door {
                listener: ListenerId(interface.eni.clone()),
                is_local: false,
                egress: Some(Egress::new(interface)),
            }),
        }
    }
}

async fn work(
    shared: Arc<Shared>,
    served: Served,
    socket: Bound,
    mut stopped: oneshot::Receiver<()>,
) {
    match socket {
        Bound::Stream(socket) => {
            tokio::select! {
                () = accept(&shared, &served, &socket) => {}
                _ = &mut stopped => {}
            }
            // Connections that the kernel has made already are served too.
            while let Some(Ok((stream, peer))) = socket.accept().now_or_never() {
                served.take(&shared, stream, peer);
            }
        }
        Bound::Datagram(socket) => {
            // Endpoints have none.
            let Served::Listener(door) = served else { return };
            tokio::select! {
                () = udp::serve(shared, door, socket) => {}
                _ = &mut stopped => {}
            }
        }
    }
}

impl Served {
    fn take(&self, shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
        match self {
            Self::Listener(door) => take(shared, door, stream, peer),
            Self::Endpoint(endpoint) => relay::take(shared, endpoint, stream, peer),
        }
    }
}

async fn accept(shared: &Arc<Shared>, served: &Served, socket: &TcpListener) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => served.take(shared, stream, peer),
            Err(error) => {
                debug!(?served, %error, "connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn take(shared: &Arc<Shared>, door: &Door, stream: TcpStream, peer: SocketAddr) {
    let mut door = door.clone();
    let Some(egress) = &door.egress else { return serve_at(shared, door, stream, peer) };
    // Whoever comes without having been led here means nobody.
    let meant = SockRef::from(&stream).original_dst_v4().ok().and_then(|it| it.as_socket());
    let Some(meant) = meant else { return };
    door.listener = egress_listener(&egress.interface, meant);
    if shared.snapshot.borrow().listeners.contains_key(&door.listener) {
        return serve_at(shared, door, stream, peer);
    }
    let Some(place) = egress.wait() else { return };
    let shared = Arc::clone(shared);
    #[expect(clippy::disallowed_methods, reason = "ends with the wait")]
    tokio::spawn(async move {
        let _place = place;
        // Who was told what the name means may be a moment ahead of us.
        let mut snapshots = shared.snapshot.subscribe();
        let is_there = |snapshot: &Arc<Snapshot>| snapshot.listeners.contains_key(&door.listener);
        let found = timeout(EGRESS_WAIT_MAX, snapshots.wait_for(is_there)).await.is_ok();
        if found {
            serve_at(&shared, door, stream, peer);
        }
    });
}

fn serve_at(shared: &Arc<Shared>, door: Door, stream: TcpStream, peer: SocketAddr) {
    let snapshot = Arc::clone(&shared.snapshot.borrow());
    let Some(live) = snapshot.listeners.get(&door.listener) else { return };
    let Some(connection) = shared.connections.take(&live.balancer.account) else { return };
    let shared = Arc::clone(shared);
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with the client, or with the grace of the process"
    )]
    tokio::spawn(async move {
        let _connection = connection;
        connected(shared, door, stream, peer).await;
    });
}

async fn connected(shared: Arc<Shared>, door: Door, stream: TcpStream, peer: SocketAddr) {
    let Ok(local) = stream.local_addr() else { return };
    // It delays small writes only.
    let _ = stream.set_nodelay(true);
    let snapshot = Arc::clone(&shared.snapshot.borrow());
    let id = door.listener.clone();
    let Some(live) = snapshot.listeners.get(&id).cloned() else { return };
    let ends = (peer, local);
    if !door.lets_in(&live, ends, false) {
        return;
    }
    let times = times(&live);
    // What serves is large, and made once the client says something; a table that is replaced is not kept for it.
    match live.listener.protocol {
        ListenerProtocol::Http => {
            let is_h2 = live.listener.attributes.h2_prior_knowledge;
            drop((snapshot, live));
            if !speaks(&shared, &stream, times.idle).await {
                return;
            }
            let mut client = Client::new(shared, id, ends, None, times);
            client.is_h2 = is_h2;
            Box::pin(serve(client, stream)).await;
        }
        ListenerProtocol::Https => {
            let shaken = Box::pin(shaken(&live, stream)).await;
            drop((snapshot, live));
            let Some(stream) = shaken else { return };
            let facts = TlsFacts::of(stream.get_ref().1);
            Box::pin(serve(Client::new(shared, id, ends, Some(facts), times), stream)).await;
        }
        ListenerProtocol::Tcp | ListenerProtocol::TcpUdp => {
            Box::pin(tcp::pass(&shared, (snapshot, live), stream, ends)).await;
        }
        ListenerProtocol::Tls => {
            let Some(stream) = Box::pin(shaken(&live, stream)).await else { return };
            Box::pin(tcp::pass(&shared, (snapshot, live), stream, ends)).await;
        }
        // Nothing accepts for it.
        ListenerProtocol::Udp => {}
    }
}

/// Waits until the client sends something, or the process is to end; false: it was silent for too long.
async fn speaks(shared: &Shared, stream: &TcpStream, patience: Duration) -> bool {
    let mut closing = shared.closing.subscribe();
    let something = async {
        tokio::select! {
            () = first_byte(stream) => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    };
    timeout(patience, something).await.is_ok()
}

/// Waits for the first byte, or for the end of what the client sends. That a socket is readable says nothing before it was
/// tried: one that was just taken counts as readable.
async fn first_byte(stream: &TcpStream) {
    let _ = stream.peek(&mut [0]).await;
}

async fn shaken(
    live: &LiveListener,
    stream: TcpStream,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let config = live.tls.clone()?;
    let shaken = TlsAcceptor::from(config).accept(stream);
    timeout(HANDSHAKE_WAIT_MAX, shaken).await.ok()?.ok()
}

fn times(live: &LiveListener) -> Times {
    let attributes = &live.balancer.attributes;
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds.max(1)));
    Times {
        keep_alive: seconds(attributes.client_keep_alive_s),
        idle: seconds(attributes.idle_timeout_s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_connection_is_not_served_until_its_first_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (taken, _) = listener.accept().await.unwrap();
        let silence = timeout(Duration::from_millis(100), first_byte(&taken)).await;
        assert!(silence.is_err(), "nothing was said");
        client.try_write(b"G").unwrap();
        first_byte(&taken).await;
    }

    #[test]
    fn a_network_has_so_many_connections_wait_and_no_more_whatever_others_have() {
        let interface = |eni: &str| InterfaceRef { eni: eni.to_owned(), own_vpc: None };
        let (greedy, other) = (Egress::new(&interface("1")), Egress::new(&interface("2")));
        let held: Vec<_> = (0..EGRESS_WAITING_MAX).map(|_| greedy.wait().unwrap()).collect();
        assert!(greedy.clone().wait().is_none(), "each connection has a door of its own");
        assert!(other.wait().is_some());
        drop(held);
        assert!(greedy.wait().is_some());
    }
}
