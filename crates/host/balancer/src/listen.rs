//! Sockets: one for each address and port that a table names, kept over tables as long as they are named.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use files::whole::{self, Durability};
use longshore_types::Chain;
use routing::{ListenerId, ListenerProtocol, Scheme, Table};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use crate::http::connection::{Client, Times, serve};
use crate::limits::{CONNECTIONS_MAX, HANDSHAKE_WAIT_MAX};
use crate::live::LiveListener;
use crate::shared::Shared;
use crate::tcp;
use crate::tls::TlsFacts;

const BACKLOG: i32 = 4096;
/// How long after an error of `accept` the next is tried: it is most often the limit of open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Where a listener is to be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// At an interface of the balancer.
    Interface(ListenerId, IpAddr, u16),
    /// At this machine's own address, at the listener's port if it is free.
    Local(ListenerId, u16),
}

/// The sockets that are open.
#[derive(Debug)]
pub(crate) struct Listeners {
    shared: Arc<Shared>,
    /// The machine's own address, where internet-facing balancers are reached.
    local: IpAddr,
    /// Remembers which port was chosen for which listener.
    ports_file: PathBuf,
    open: Mutex<BTreeMap<Place, Open>>,
}

#[derive(Debug)]
struct Open {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listeners {
    pub(crate) fn new(shared: Arc<Shared>, local: IpAddr, ports_file: PathBuf) -> Self {
        Self { shared, local, ports_file, open: Mutex::default() }
    }

    /// Opens what a table names and closes what it names no more. Connections go on.
    pub(crate) async fn follow(self: &Listeners, table: &Table) {
        let wanted = places(table);
        let mut missing = Vec::new();
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|place, _| wanted.contains(place));
            missing.extend(wanted.into_iter().filter(|place| !open.contains_key(place)));
        }
        let mut remembered = self.remembered();
        for place in missing {
            match self.open(&place, &remembered) {
                Ok((address, socket)) => {
                    info!(listener = %place.listener(), %address, "listening");
                    if let Place::Local(listener, _) = &place {
                        remembered.insert(listener.clone(), address.port());
                    }
                    let shared = Arc::clone(&self.shared);
                    let accepting = accept(shared, place.listener().clone(), socket);
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "aborted when its place is dropped"
                    )]
                    let accepting = tokio::spawn(accepting).abort_handle();
                    let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                    open.insert(place, Open { address, accepting });
                }
                Err(error) => {
                    warn!(place = ?place, error = %Chain(&error), "cannot listen; tried again with the next look");
                }
            }
        }
        self.remember(&remembered).await;
    }

    /// Whether some place of a table is not listened at yet.
    pub(crate) fn is_missing_some(&self, table: &Table) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        places(table).iter().any(|place| !open.contains_key(place))
    }

    /// Closes all sockets; connections go on.
    pub(crate) fn close(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Where listeners are reached from this machine.
    pub(crate) fn local(&self) -> Vec<(ListenerId, SocketAddr)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter()
            .filter_map(|(place, open)| match place {
                Place::Local(listener, _) => Some((listener.clone(), open.address)),
                Place::Interface(..) => None,
            })
            .collect()
    }

    fn open(
        &self,
        place: &Place,
        remembered: &BTreeMap<ListenerId, u16>,
    ) -> io::Result<(SocketAddr, TcpListener)> {
        match place {
            Place::Interface(_, address, port) => bind(SocketAddr::new(*address, *port)),
            Place::Local(listener, port) => {
                let kept = remembered.get(listener).copied();
                // The port that it had; its own; any that is free.
                let ports = kept.into_iter().chain([*port, 0]);
                let mut last = io::Error::from(io::ErrorKind::AddrInUse);
                for port in ports {
                    match bind(SocketAddr::new(self.local, port)) {
                        Ok(bound) => return Ok(bound),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    fn remembered(&self) -> BTreeMap<ListenerId, u16> {
        let found = whole::read_json(&self.ports_file).and_then(whole::Found::value);
        found.ok().flatten().unwrap_or_default()
    }

    async fn remember(&self, ports: &BTreeMap<ListenerId, u16>) {
        let Ok(text) = serde_json::to_vec(ports) else { return };
        let path = self.ports_file.clone();
        let write = move || whole::write(&path, &text, Durability::DiesWithTheMachine);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
            warn!(error = %Chain(&error), "the chosen ports could not be saved");
        }
    }
}

impl Place {
    fn listener(&self) -> &ListenerId {
        match self {
            Self::Interface(listener, ..) | Self::Local(listener, _) => listener,
        }
    }
}

fn places(table: &Table) -> Vec<Place> {
    let mut places = Vec::new();
    for balancer in table.balancers.values() {
        for listener in balancer.listeners.iter().filter(|listener| has_tcp(listener.protocol)) {
            let (id, port) = (&listener.id, listener.port);
            let at = |address| Place::Interface(id.clone(), address, port);
            places.extend(balancer.interfaces.iter().map(|interface| at(interface.address)));
            if balancer.scheme == Scheme::InternetFacing {
                places.push(Place::Local(id.clone(), port));
            }
        }
    }
    places
}

fn has_tcp(protocol: ListenerProtocol) -> bool {
    match protocol {
        ListenerProtocol::Http
        | ListenerProtocol::Https
        | ListenerProtocol::Tcp
        | ListenerProtocol::Tls
        | ListenerProtocol::TcpUdp => true,
        ListenerProtocol::Udp => false,
    }
}

fn bind(address: SocketAddr) -> io::Result<(SocketAddr, TcpListener)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a process before this one may still be ending.
    socket.set_reuse_address(true)?;
    // An interface's address may come to this machine a moment later.
    if address.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) && address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket.into())?;
    Ok((listener.local_addr()?, listener))
}

async fn accept(shared: Arc<Shared>, id: ListenerId, socket: TcpListener) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                if shared.connections.load(Relaxed) >= CONNECTIONS_MAX {
                    drop(stream);
                    continue;
                }
                let connection = Counted::new(&shared);
                let (shared, id) = (Arc::clone(&shared), id.clone());
                #[expect(
                    clippy::disallowed_methods,
                    reason = "ends with the client, or with the grace of the process"
                )]
                tokio::spawn(async move {
                    let _connection = connection;
                    connected(shared, id, stream, peer).await;
                });
            }
            Err(error) => {
                debug!(listener = %id, %error, "connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Counts a connection while it lives.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

async fn connected(shared: Arc<Shared>, id: ListenerId, stream: TcpStream, peer: SocketAddr) {
    let Ok(local) = stream.local_addr() else { return };
    // It delays small writes only.
    let _ = stream.set_nodelay(true);
    let snapshot = Arc::clone(&shared.snapshot.borrow());
    let Some(live) = snapshot.listeners.get(&id).cloned() else { return };
    let ends = (peer, local);
    match live.listener.protocol {
        ListenerProtocol::Http => {
            serve(Client::new(shared, id, ends, None, times(&live)), stream).await;
        }
        ListenerProtocol::Https => {
            let Some(stream) = shaken(&live, stream).await else { return };
            let facts = TlsFacts::of(stream.get_ref().1);
            serve(Client::new(shared, id, ends, Some(facts), times(&live)), stream).await;
        }
        ListenerProtocol::Tcp | ListenerProtocol::TcpUdp => {
            tcp::pass(&shared, &snapshot, &live, stream, ends).await;
        }
        ListenerProtocol::Tls => {
            let Some(stream) = shaken(&live, stream).await else { return };
            tcp::pass(&shared, &snapshot, &live, stream, ends).await;
        }
        // Nothing accepts for it.
        ListenerProtocol::Udp => {}
    }
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
