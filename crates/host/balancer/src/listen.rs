//! Sockets: one for each address and port that a table names, kept over tables as long as they are named.

mod open;
mod places;
mod ports;
mod served;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use files::whole::{self, Durability};
use longshore_types::Chain;
use routing::{InterfaceRef, ListenerId, ListenerProtocol, PublishedPort, Table};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::retries::Retries;
use crate::shared::Shared;
use crate::sockets::{NamespaceId, Transport};
pub(crate) use open::{GivenSocket, Stop, Users};
pub(crate) use places::Place;
pub(crate) use served::Door;

use open::{Bound, Open};
use places::{interfaces, places};
use ports::{KeptPorts, candidates};
use served::work;

const PORTS_FILE: &str = "ports.json";
const LISTENING_FILE: &str = "listening.json";
/// Where it is remembered which port datagrams come to: a listener of both kinds may have two.
const DATAGRAMS: &str = " datagrams";
/// How long it is waited for the process before to let go of a port at an address that has this one in it.
const LET_GO_MAX: Duration = Duration::from_secs(10);
/// So many ports of the kernel's choice are tried.
const CHOICES_MAX: usize = 16;

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

/// The name by which the port of a listener is remembered.
fn remembered_as(listener: &ListenerId, transport: Transport) -> ListenerId {
    match transport {
        Transport::Stream => listener.clone(),
        Transport::Datagram => ListenerId(format!("{}{DATAGRAMS}", listener.0)),
    }
}

/// What reports say of sockets: where listeners are, in which networks egress is, which interfaces are served.
pub(crate) type Said = (Vec<(ListenerId, SocketAddr)>, Vec<InterfaceRef>, Vec<InterfaceRef>);

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
    /// Those in whose networks the egress socket is, and all else that is listened at there.
    egress: Mutex<Vec<InterfaceRef>>,
    /// Places that could not be listened at.
    refused: Retries<Place>,
    /// What the files say.
    saved: Mutex<BTreeMap<&'static str, Vec<u8>>>,
    /// Sockets of the process before, until all places are looked after that it served.
    given: Mutex<BTreeMap<Place, GivenSocket>>,
    /// Places whose ports the process before has in its way for a moment, and until when no others are taken.
    awaited: Mutex<BTreeMap<Place, Instant>>,
    /// Whether another process has them all: nothing is opened here any more.
    is_handed_over: AtomicBool,
}

impl Listeners {
    /// `given` are the sockets of the process before, if there was one.
    pub(crate) fn new(
        shared: Arc<Shared>,
        local: Option<IpAddr>,
        state_dir: PathBuf,
        given: BTreeMap<Place, GivenSocket>,
    ) -> Self {
        Self {
            shared,
            local,
            state_dir,
            open: Mutex::default(),
            serving: Mutex::default(),
            egress: Mutex::default(),
            refused: Retries::default(),
            saved: Mutex::default(),
            given: Mutex::new(given),
            awaited: Mutex::default(),
            is_handed_over: AtomicBool::new(false),
        }
    }

    /// The sockets that are open, for another process.
    pub(crate) fn sockets(&self) -> Vec<(Place, Option<NamespaceId>, impl AsFd + Send + use<>)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all = open.iter().map(|(place, it)| (place.clone(), it.namespace, it.socket.clone()));
        all.collect()
    }

    /// Another process serves them from now on. Completes once this one takes no connection any more: whoever asks then
    /// what is open hears of all that was taken.
    pub(crate) async fn let_go(&self) {
        self.is_handed_over.store(true, SeqCst);
        let all = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *open)
        };
        let work: Vec<_> = all.into_values().filter_map(Open::let_go).collect();
        for work in work {
            // It panicked, or has ended.
            let _ = work.await;
        }
        self.serving.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.egress.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn is_handed_over(&self) -> bool {
        self.is_handed_over.load(SeqCst)
    }

    /// What the process before listened at and the table does not name is closed.
    pub(crate) fn drop_given(&self) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The socket of the process before at a place, unless its namespace is gone.
    fn take_given(&self, place: &Place) -> Option<Bound> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let GivenSocket { namespace, socket } = given.remove(place)?;
        let made = (namespace == self.namespace_of(place)).then(|| Bound::of(socket))?;
        let made = made
            .inspect_err(|error| debug!(place = ?place, %error, "a socket cannot be taken over"))
            .ok()?;
        let (Place::Local(..), Some(local), Ok(address)) = (place, self.local, made.address())
        else {
            return Some(made);
        };
        // The machine is told to be reached at another address from now on.
        if address.ip() == local {
            return Some(made);
        }
        if address.ip().is_unspecified() || local.is_unspecified() {
            let until = Instant::now() + LET_GO_MAX;
            let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
            awaited.insert(place.clone(), until);
        }
        None
    }

    /// Whether a place is to be listened at by the port that it had, and by no other.
    fn is_awaited(&self, place: &Place) -> bool {
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.get(place).is_some_and(|until| Instant::now() < *until)
    }

    /// Opens what a table names and closes what it names no more. Connections go on.
    pub(crate) async fn follow(self: &Listeners, table: &Table) {
        if self.is_handed_over() {
            return;
        }
        let wanted = self.places(table);
        let (missing, gone) = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let is_gone = |place: &Place, open: &Open| {
                !wanted.contains(place)
                    || self.is_elsewhere(place, open)
                    || place.is_in_the_way(open.address, &table.published)
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
            let opened = match self.take_given(&place) {
                Some(socket) => Ok(socket),
                None => self.open(&place, (&remembered, &table.published)).await,
            };
            match opened.and_then(|socket| Ok((socket.address()?, socket))) {
                Ok((address, socket)) => {
                    info!(place = place.name(), %address, "listening");
                    if let Place::Local(listener, transport, _) = &place {
                        remembered.insert(remembered_as(listener, *transport), address.port());
                    }
                    self.refused.done(&place);
                    self.serve(place, address, namespace, socket);
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
        self.come_back(table, &mut remembered).await;
        let named: BTreeSet<_> =
            table.balancers.values().flat_map(|it| &it.listeners).map(|it| &it.id).collect();
        let of = |name: &ListenerId| {
            let bare = name.0.strip_suffix(DATAGRAMS).unwrap_or(&name.0);
            named.contains(&ListenerId(bare.to_owned()))
        };
        remembered.retain(|name, _| of(name));
        self.save(PORTS_FILE, &remembered).await;
        self.save(LISTENING_FILE, &self.listening(table)).await;
        let (serving, egress) = self.serving_in(table);
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = serving;
        *self.egress.lock().unwrap_or_else(PoisonError::into_inner) = egress;
    }

    /// Serves at a place by a socket from now on.
    fn serve(
        &self,
        place: Place,
        address: SocketAddr,
        namespace: Option<NamespaceId>,
        socket: Bound,
    ) {
        let shared = Arc::clone(&self.shared);
        let (stop, stopped) = oneshot::channel();
        let users = Users::default();
        let work = work(shared, place.served(&users), socket.clone(), stopped);
        #[expect(clippy::disallowed_methods, reason = "ends when `stop` is dropped")]
        let work = tokio::spawn(work);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(place, Open { address, namespace, socket, users, stop, work });
    }

    /// Places of the machine at which another port was chosen, and nobody is.
    fn strayed(&self) -> Vec<Place> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_strayed = |place: &Place, open: &Open| {
            place.own_port().is_some_and(|own| own != open.address.port()) && !open.is_used()
        };
        let strayed = open.iter().filter(|(place, open)| is_strayed(place, open));
        strayed.map(|(place, _)| place.clone()).collect()
    }

    /// Has listeners come back to their own ports that were somebody else's for a while.
    async fn come_back(&self, table: &Table, remembered: &mut BTreeMap<ListenerId, u16>) {
        let Some(local) = self.local else { return };
        for place in self.strayed() {
            let Place::Local(listener, transport, own) = &place else { continue };
            let is_kept = KeptPorts::now(&table.published, *transport).has(*own);
            if is_kept || self.is_awaited(&place) {
                continue;
            }
            let Ok(socket) = self.bind(*transport, None, SocketAddr::new(local, *own)).await else {
                continue;
            };
            let Ok(address) = socket.address() else { continue };
            info!(place = place.name(), %address, "listening at its own port again");
            remembered.insert(remembered_as(listener, *transport), address.port());
            let before = {
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                open.remove(&place)
            };
            self.serve(place, address, None, socket);
            if let Some(before) = before {
                before.close().await;
            }
        }
    }

    /// The interfaces of a table's balancers that are here and listened at, and those with an egress socket of which the
    /// same is true.
    fn serving_in(&self, table: &Table) -> (Vec<InterfaceRef>, Vec<InterfaceRef>) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: BTreeSet<InterfaceRef> = self
            .places(table)
            .into_iter()
            .filter(|place| open.get(place).is_none_or(|open| self.is_elsewhere(place, open)))
            .filter_map(|place| match place {
                Place::Interface(_, _, interface, _)
                | Place::Ingress(_, interface, _)
                | Place::Egress(interface) => Some(interface),
                Place::Endpoint(..) | Place::Local(..) => None,
            })
            .collect();
        let interfaces = interfaces(table);
        let is_served = |it: &InterfaceRef| {
            self.shared.sockets.namespace(it).is_some() && !missing.contains(it)
        };
        let egress = table.egress.iter().filter(|it| !missing.contains(it)).cloned();
        (interfaces.filter(is_served).collect(), egress.collect())
    }

    /// Interfaces of balancers that are on this machine, where whoever comes is served.
    pub(crate) fn serving(&self) -> Vec<InterfaceRef> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What reports say of sockets.
    pub(crate) fn said(&self) -> Said {
        (self.local(), self.egress(), self.serving())
    }

    fn places(&self, table: &Table) -> BTreeSet<Place> {
        places(table, self.local.is_some())
    }

    /// Whether some place of a table is not listened at, or no longer: an interface that was made anew has another
    /// namespace. Or some interface is not said to be served, which one at which nothing is listened is once it is here.
    pub(crate) fn is_missing_some(&self, table: &Table) -> bool {
        if self.is_handed_over() {
            return false;
        }
        let said: BTreeSet<InterfaceRef> = self.serving().into_iter().collect();
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_missing =
            |place: &Place| open.get(place).is_none_or(|open| self.is_elsewhere(place, open));
        let is_away =
            |it: InterfaceRef| !said.contains(&it) || self.shared.sockets.namespace(&it).is_none();
        self.places(table).iter().any(is_missing) || interfaces(table).any(is_away)
    }

    /// Whether it is worth looking again though nothing has changed.
    pub(crate) fn may_change(&self, table: &Table) -> bool {
        !self.is_handed_over() && (self.is_missing_some(table) || !self.strayed().is_empty())
    }

    fn is_elsewhere(&self, place: &Place, open: &Open) -> bool {
        open.namespace != self.namespace_of(place)
    }

    fn namespace_of(&self, place: &Place) -> Option<NamespaceId> {
        match place {
            Place::Interface(_, _, interface, _)
            | Place::Endpoint(_, interface, _)
            | Place::Ingress(_, interface, _)
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
                Place::Interface(..)
                | Place::Endpoint(..)
                | Place::Egress(_)
                | Place::Ingress(..) => None,
            })
            .collect()
    }

    /// Interfaces in whose networks the egress socket is there, and all else that is listened at there.
    pub(crate) fn egress(&self) -> Vec<InterfaceRef> {
        self.egress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn open(
        &self,
        place: &Place,
        (remembered, published): (&BTreeMap<ListenerId, u16>, &BTreeSet<PublishedPort>),
    ) -> io::Result<Bound> {
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
            Place::Ingress(_, interface, address) => {
                Bound::listening(self.shared.sockets.open_ingress(interface, *address).await?)
            }
            Place::Local(listener, transport, port) => {
                let local = self.local.ok_or(io::ErrorKind::AddrNotAvailable)?;
                let kept = KeptPorts::now(published, *transport);
                // Without one of its own, that of streams.
                let known = remembered.get(&remembered_as(listener, *transport));
                let before = known.or_else(|| remembered.get(listener)).copied();
                let mut last = io::Error::from(io::ErrorKind::AddrInUse);
                let mut ports = candidates(before, *port, &kept);
                if self.is_awaited(place) {
                    ports.truncate(1);
                }
                for port in ports {
                    match self.bind_free(*transport, SocketAddr::new(local, port), &kept).await {
                        Ok(bound) => return Ok(bound),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    /// A port that the kernel chooses may be kept for somebody who is not there at the moment.
    async fn bind_free(
        &self,
        transport: Transport,
        address: SocketAddr,
        kept: &KeptPorts,
    ) -> io::Result<Bound> {
        // Held, so that another one is chosen.
        let mut others = Vec::new();
        while others.len() < CHOICES_MAX {
            let bound = self.bind(transport, None, address).await?;
            if !kept.has(bound.address()?.port()) {
                return Ok(bound);
            }
            others.push(bound);
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    async fn bind(
        &self,
        transport: Transport,
        by: Option<&InterfaceRef>,
        address: SocketAddr,
    ) -> io::Result<Bound> {
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
                Bound::datagram(socket)
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
