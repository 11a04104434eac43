//! Sockets in the machine's own network, or in that of a balancer's interface.
//!
//! A socket belongs to the namespace of the thread that makes it. So one thread makes all that are for interfaces: it goes
//! where the interface is, and hands the socket back. What is connected or accepted by it stays in that namespace.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sched::{CloneFlags, setns};
use routing::InterfaceRef;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::oneshot;

/// Where a host keeps the interfaces of balancers.
pub trait Interfaces: Send + Sync + fmt::Debug {
    /// Has all that goes to egress addresses in the network of the calling thread come to a socket there.
    ///
    /// # Errors
    /// The network does not take it.
    fn lead_egress(&self) -> io::Result<SocketAddr>;

    /// Has all that comes from elsewhere to an address in the network of the calling thread go to a socket there instead.
    ///
    /// # Errors
    /// The network does not take it.
    fn lead_ingress(&self, from: SocketAddr, to: SocketAddr) -> io::Result<()>;

    /// The file at which the namespace of an interface is mounted once it is there.
    fn namespace(&self, interface: &InterfaceRef) -> PathBuf;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Transport {
    Stream,
    Datagram,
}

/// Makes sockets. Clones share the thread, which ends with the last.
#[derive(Clone, Debug)]
pub(crate) struct Sockets {
    interfaces: Arc<dyn Interfaces>,
    asks: Sender<Ask>,
}

/// Tells namespaces apart that had the same name one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamespaceId(u64, u64);

struct Ask {
    namespace: PathBuf,
    what: What,
    reply: oneshot::Sender<io::Result<Socket>>,
}

/// What is made in a namespace.
#[derive(Clone, Debug)]
enum What {
    Socket(Domain, Transport),
    /// The bound socket that egress addresses lead to.
    Egress(Arc<dyn Interfaces>),
    /// A bound socket that what comes to an address is led to.
    Ingress(Arc<dyn Interfaces>, SocketAddr),
}

impl Sockets {
    pub(crate) fn start(interfaces: Arc<dyn Interfaces>) -> io::Result<Self> {
        let (asks, inbox) = channel();
        thread::Builder::new().name("sockets".to_owned()).spawn(move || work(&inbox))?;
        Ok(Self { interfaces, asks })
    }

    /// Which namespace an interface has now; none while it is not on this machine.
    pub(crate) fn namespace(&self, interface: &InterfaceRef) -> Option<NamespaceId> {
        let file = fs::metadata(self.interfaces.namespace(interface)).ok()?;
        Some(NamespaceId(file.dev(), file.ino()))
    }

    /// An unconnected socket for addresses like `address`. It does not block.
    ///
    /// # Errors
    /// `NotFound` while the interface is not on this machine.
    pub(crate) async fn open(
        &self,
        by: Option<&InterfaceRef>,
        transport: Transport,
        address: SocketAddr,
    ) -> io::Result<Socket> {
        let domain = Domain::for_address(address);
        let socket = match by {
            None => make(domain, transport)?,
            Some(interface) => self.ask(interface, What::Socket(domain, transport)).await?,
        };
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    async fn ask(&self, interface: &InterfaceRef, what: What) -> io::Result<Socket> {
        let (reply, made) = oneshot::channel();
        let namespace = self.interfaces.namespace(interface);
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.asks.send(Ask { namespace, what, reply }).map_err(|_| gone())?;
        made.await.map_err(|_| gone())?
    }

    /// The socket that egress addresses in the network of an interface lead to; it is bound.
    ///
    /// # Errors
    /// `NotFound` while the interface is not on this machine.
    pub(crate) async fn open_egress(&self, interface: &InterfaceRef) -> io::Result<Socket> {
        let socket = self.ask(interface, What::Egress(Arc::clone(&self.interfaces))).await?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// A socket that what comes to an address of an interface is led to, whoever listens there; it is bound.
    ///
    /// # Errors
    /// `NotFound` while the interface is not on this machine.
    pub(crate) async fn open_ingress(
        &self,
        interface: &InterfaceRef,
        address: SocketAddr,
    ) -> io::Result<Socket> {
        let what = What::Ingress(Arc::clone(&self.interfaces), address);
        let socket = self.ask(interface, what).await?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Connects to a target. What listens on this machine's own addresses is no target, but for what instances publish,
    /// which is reached by loopback.
    pub(crate) async fn connect(
        &self,
        by: Option<&InterfaceRef>,
        address: SocketAddr,
    ) -> io::Result<TcpStream> {
        let socket = self.open(by, Transport::Stream, address).await?;
        let stream = TcpSocket::from_std_stream(socket.into()).connect(address).await?;
        // Both ends have one address on one machine only.
        if is_own(address, stream.local_addr()?) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(stream)
    }

    /// The same for datagrams.
    pub(crate) async fn connect_datagrams(
        &self,
        by: Option<&InterfaceRef>,
        address: SocketAddr,
    ) -> io::Result<UdpSocket> {
        let socket = self.open(by, Transport::Datagram, address).await?;
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        socket.bind(&SocketAddr::new(any, 0).into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        socket.connect(address).await?;
        if is_own(address, socket.local_addr()?) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(socket)
    }
}

/// Whether a target is this machine itself.
fn is_own(target: SocketAddr, local: SocketAddr) -> bool {
    let (target, local) = (target.ip().to_canonical(), local.ip().to_canonical());
    target == local && !target.is_loopback()
}

fn make(domain: Domain, transport: Transport) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Stream => (Type::STREAM, Protocol::TCP),
        Transport::Datagram => (Type::DGRAM, Protocol::UDP),
    };
    Socket::new(domain, kind, Some(protocol))
}

fn make_egress(interfaces: &dyn Interfaces) -> io::Result<Socket> {
    let address = interfaces.lead_egress()?;
    let socket = make(Domain::for_address(address), Transport::Stream)?;
    // Connections of a process before this one may still be ending.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// At a port that nobody there has, which the kernel chooses.
fn bound_anywhere(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = make(Domain::for_address(address), Transport::Stream)?;
    socket.bind(&SocketAddr::new(address.ip(), 0).into())?;
    let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    Ok((socket, bound))
}

fn make_ingress(interfaces: &dyn Interfaces, address: SocketAddr) -> io::Result<Socket> {
    let (mut socket, mut bound) = bound_anywhere(address)?;
    if bound.port() == address.port() {
        // The container is about to listen there. While this one has it, another gets another.
        (socket, bound) = bound_anywhere(address)?;
    }
    interfaces.lead_ingress(address, bound)?;
    Ok(socket)
}

fn work(inbox: &Receiver<Ask>) {
    for Ask { namespace, what, reply } in inbox {
        // The file is opened each time: of an interface that was made anew the namespace is another.
        let made = File::open(&namespace).and_then(|namespace| {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            match what {
                What::Socket(domain, transport) => make(domain, transport),
                What::Egress(interfaces) => make_egress(interfaces.as_ref()),
                What::Ingress(interfaces, address) => make_ingress(interfaces.as_ref(), address),
            }
        });
        // Whoever asked may have given up.
        drop(reply.send(made));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_a_target_by_loopback_only() {
        let is_own = |target: &str, local: &str| {
            super::is_own(target.parse().unwrap(), local.parse().unwrap())
        };
        assert!(is_own("10.0.0.7:4566", "10.0.0.7:40000"));
        assert!(!is_own("10.0.0.8:80", "10.0.0.7:40000"));
        assert!(!is_own("127.0.0.1:80", "127.0.0.1:40000"));
    }

    #[tokio::test]
    async fn an_interface_that_is_not_there_has_no_sockets() {
        let sockets = Sockets::start(Arc::new(crate::tests::Nowhere)).unwrap();
        let interface = InterfaceRef { eni: "eni-00000001".to_owned(), own_vpc: None };
        let address = "127.0.0.1:1".parse().unwrap();
        let refused = sockets.connect(Some(&interface), address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }
}
