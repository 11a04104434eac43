//! Whoever comes to a socket, from the first byte to what serves it.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use routing::{EndpointId, InterfaceRef, ListenerId, ListenerProtocol, egress_listener};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::open::{Bound, Stop, Users};
use super::places::Place;
use crate::figures::{Figures, Metered};
use crate::front;
use crate::http::answers::Failure;
use crate::http::connection::{Client, Times, serve};
use crate::http::refusal::refuse;
use crate::introduced::{Introduced, introduced};
use crate::limits::{EGRESS_WAIT_MAX, HANDSHAKE_WAIT_MAX};
use crate::live::{LiveListener, Snapshot};
use crate::log::{Began, Came, FlowEntry};
use crate::relay;
use crate::shared::{Counted, Phase, Shared};
use crate::tcp;
use crate::tls::TlsFacts;
use crate::udp;

/// How long after an error of `accept` the next is tried: it is most often the limit of open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What somebody comes to.
#[derive(Clone, Debug)]
pub(super) enum Served {
    Listener(Door),
    Endpoint(EndpointId),
}

/// A listener, and at which of its sockets somebody comes.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) listener: ListenerId,
    /// The balancer's interface, where it is at one.
    pub(crate) interface: Option<InterfaceRef>,
    /// Held while something is open that came so.
    pub(crate) users: Users,
    /// At the machine's own address, where nobody but the balancer itself judges by its groups.
    is_local: bool,
    /// Which listener is meant says where the connection was going.
    egress: Option<Egress>,
}

/// The way out of the network of an interface.
#[derive(Clone, Debug)]
struct Egress {
    interface: InterfaceRef,
}

impl Egress {
    /// For a connection of which nobody knows yet where it goes, and so whose it is. None: as many wait as may.
    fn wait(&self, shared: &Shared) -> Option<Counted> {
        shared.waiting.take(&self.interface.eni)
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

impl Place {
    pub(super) fn served(&self, users: &Users) -> Served {
        let door = |listener: &ListenerId, interface: Option<&InterfaceRef>| {
            let (listener, interface) = (listener.clone(), interface.cloned());
            let is_local = interface.is_none();
            let users = users.clone();
            Served::Listener(Door { listener, interface, users, is_local, egress: None })
        };
        match self {
            Self::Interface(listener, _, interface, _) => door(listener, Some(interface)),
            Self::Local(listener, ..) => door(listener, None),
            Self::Ingress(listener, ..) => Served::Listener(Door {
                listener: listener.clone(),
                interface: None,
                users: users.clone(),
                is_local: false,
                egress: None,
            }),
            Self::Endpoint(endpoint, ..) => Served::Endpoint(endpoint.clone()),
            Self::Egress(interface) => Served::Listener(Door {
                listener: ListenerId(interface.eni.clone()),
                interface: None,
                users: users.clone(),
                is_local: false,
                egress: Some(Egress { interface: interface.clone() }),
            }),
        }
    }
}

pub(super) async fn work(
    shared: Arc<Shared>,
    served: Served,
    socket: Bound,
    mut stopped: oneshot::Receiver<Stop>,
) {
    match socket {
        Bound::Stream(socket) => {
            let stop = tokio::select! {
                () = accept(&shared, &served, &socket) => return,
                stop = &mut stopped => stop,
            };
            if let Ok(Stop::HandedOver) = stop {
                return;
            }
            // Connections that the kernel has made already are served too.
            while let Some(Ok((stream, peer))) = socket.accept().now_or_never() {
                served.take(&shared, stream, peer);
            }
        }
        Bound::Datagram(socket) => {
            // Endpoints have none.
            let Served::Listener(door) = served else { return };
            udp::serve(shared, door, socket, stopped).await;
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
    let Some(place) = egress.wait(shared) else { return };
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
        let _open = door.interface.as_ref().map(|it| shared.at_interfaces.go_on(&it.eni));
        connected(shared, door, stream, peer).await;
    });
}

async fn connected(shared: Arc<Shared>, door: Door, mut stream: TcpStream, peer: SocketAddr) {
    let Ok(local) = stream.local_addr() else { return };
    // It delays small writes only.
    let _ = stream.set_nodelay(true);
    let snapshot = Arc::clone(&shared.snapshot.borrow());
    let Some(live) = snapshot.listeners.get(&door.listener).cloned() else { return };
    let mut ends = (peer, local);
    if !door.lets_in(&live, ends, false) {
        return;
    }
    // At the machine's own address whoever has an introducer's number is somebody else.
    if door.interface.is_some() && live.balancer.has_introducer(peer.ip()) {
        match introduced(&mut stream).await {
            Ok(None) => {}
            Ok(Some(Introduced { client, came_to })) => {
                let port = live.listener.port;
                if !live.balancer.lets_introduced_in(client.ip(), came_to.ip(), port) {
                    return;
                }
                ends.0 = client;
            }
            Err(error) => return debug!(%peer, %error, "nobody was introduced"),
        }
    }
    let times = times(&live);
    let figures = live.figures(door.interface.as_ref()).cloned();
    // What serves is large, and made once the client says something; a table that is replaced is not kept for it.
    match live.listener.protocol {
        ListenerProtocol::Http => {
            let is_h2 = live.listener.attributes.h2_prior_knowledge;
            let came = Came::new(&live.balancer, live.listener.port, ends);
            if !front::is_there(&shared, (&snapshot, &live), ends).await {
                return;
            }
            drop((snapshot, live));
            let trace = came.map(|came| {
                let trace = shared.trace();
                came.log(&shared, Began::Plain, &trace);
                trace
            });
            if !speaks(&shared, &stream, times.idle).await {
                return;
            }
            let mut client = Client::new(shared, door, ends, None, times);
            client.trace = trace.unwrap_or(client.trace);
            client.is_h2 = is_h2;
            Box::pin(serve(client, Metered::new(stream, figures))).await;
        }
        ListenerProtocol::Https => {
            let came = Came::new(&live.balancer, live.listener.port, ends);
            let begun = Instant::now();
            if !front::is_there(&shared, (&snapshot, &live), ends).await {
                return;
            }
            // TLS begins with a number, HTTP with a letter. What stands in front of another says nothing to who speaks otherwise:
            // it would look as if that one had answered.
            let is_front = live.listener.attributes.front.is_some();
            let first = match is_front {
                true => Ok(None),
                false => timeout(HANDSHAKE_WAIT_MAX, first_byte(&stream)).await,
            };
            if matches!(first, Ok(Some(byte)) if byte.is_ascii_alphabetic()) {
                let client = Client::new(Arc::clone(&shared), door, ends, None, times);
                if let Some(came) = came {
                    came.log(&shared, Began::Failed, &client.trace);
                }
                if let Some(figures) = &figures {
                    figures.client_tls_failed();
                }
                drop((snapshot, live));
                let stream = (Metered::new(stream, figures), true);
                return Box::pin(refuse(&client, stream, Failure::Plain)).await;
            }
            let shaken = match first {
                Ok(_) => Box::pin(shaken(&live, stream, figures.as_ref())).await,
                Err(_) => {
                    if let Some(figures) = &figures {
                        figures.client_tls_failed();
                    }
                    None
                }
            };
            drop((snapshot, live));
            let trace = shared.trace();
            let Some(stream) = shaken else {
                if let Some(came) = came {
                    came.log(&shared, Began::Failed, &trace);
                }
                return;
            };
            let facts = TlsFacts::of(stream.get_ref().1);
            if let Some(came) = came {
                came.log(&shared, Began::Tls(&facts, begun.elapsed()), &trace);
            }
            let mut client = Client::new(shared, door, ends, Some(facts), times);
            client.trace = trace;
            Box::pin(serve(client, Metered::new(stream, figures))).await;
        }
        ListenerProtocol::Tcp | ListenerProtocol::TcpUdp => {
            // One that nobody takes is none.
            let opened = async move { Some(Metered::new(stream, figures)) };
            Box::pin(tcp::pass(&shared, (snapshot, live), &door, opened, ends, None)).await;
        }
        // Whoever is refused by the one behind it is refused before anything was agreed.
        ListenerProtocol::Tls if live.listener.attributes.front.is_some() => {
            let by = Arc::clone(&live);
            let opened = async move {
                let stream = shaken(&by, stream, figures.as_ref()).await?;
                Some(Metered::new(stream, figures))
            };
            Box::pin(tcp::pass(&shared, (snapshot, live), &door, opened, ends, None)).await;
        }
        ListenerProtocol::Tls => {
            let begun = Instant::now();
            let shaken = Box::pin(shaken(&live, stream, figures.as_ref())).await;
            let Some(stream) = shaken else { return };
            let facts = TlsFacts::of(stream.get_ref().1);
            let by = (&shared.logs, &shared.clock);
            let entry = FlowEntry::new(by, &live, ends, facts, begun.elapsed());
            let opened = ready(Some(Metered::new(stream, figures)));
            Box::pin(tcp::pass(&shared, (snapshot, live), &door, opened, ends, entry)).await;
        }
        // Nothing accepts for it.
        ListenerProtocol::Udp => {}
    }
}

/// Waits until the client sends something, or the process is to end; false: it was silent for too long.
async fn speaks(shared: &Shared, stream: &TcpStream, patience: Duration) -> bool {
    let something = async {
        tokio::select! {
            _ = first_byte(stream) => {}
            () = shared.until(Phase::HandedOver) => {}
        }
    };
    timeout(patience, something).await.is_ok()
}

/// The first byte, which is left where it is; none: the client sends nothing any more. That a socket is readable says
/// nothing before it was tried: one that was just taken counts as readable.
async fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut byte = [0];
    stream.peek(&mut byte).await.ok().filter(|read| *read > 0).map(|_| byte[0])
}

async fn shaken(
    live: &LiveListener,
    stream: TcpStream,
    figures: Option<&Arc<Figures>>,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let config = live.tls.clone()?;
    let shaken = TlsAcceptor::from(config).accept(stream);
    let shaken = timeout(HANDSHAKE_WAIT_MAX, shaken).await.ok().and_then(Result::ok);
    if let (None, Some(figures)) = (&shaken, figures) {
        figures.client_tls_failed();
    }
    shaken
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
    use crate::limits::EGRESS_WAITING_MAX;
    use crate::tests::shared;

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
        let shared = shared();
        let interface = |eni: &str| InterfaceRef { eni: eni.to_owned(), own_vpc: None };
        let [greedy, other] = ["1", "2"].map(|eni| Egress { interface: interface(eni) });
        let wait = |egress: &Egress| egress.wait(&shared);
        let held: Vec<_> = (0..EGRESS_WAITING_MAX).map(|_| wait(&greedy).unwrap()).collect();
        assert!(wait(&greedy.clone()).is_none(), "each connection has a door of its own");
        assert!(wait(&other).is_some());
        drop(held);
        assert!(wait(&greedy).is_some());
    }

    #[test]
    fn a_process_is_not_empty_while_a_connection_waits_to_be_known() {
        let shared = shared();
        let egress = Egress { interface: InterfaceRef { eni: "1".to_owned(), own_vpc: None } };
        let waits = egress.wait(&shared).unwrap();
        assert!(shared.has_connections() && !shared.is_empty());
        drop(waits);
        assert!(!shared.has_connections() && shared.is_empty());
    }
}
