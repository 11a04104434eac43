//! A socket that is open: one's own or another process's, and how it is closed or left to the next.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use socket2::{Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::sockets::NamespaceId;

const BACKLOG: i32 = 4096;

/// An open socket. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) enum Bound {
    Stream(Arc<TcpListener>),
    Datagram(Arc<UdpSocket>),
}

impl Bound {
    pub(super) fn listening(socket: Socket) -> io::Result<Self> {
        socket.listen(BACKLOG)?;
        Self::stream(socket)
    }

    fn stream(socket: Socket) -> io::Result<Self> {
        Ok(Self::Stream(Arc::new(TcpListener::from_std(socket.into())?)))
    }

    pub(super) fn datagram(socket: Socket) -> io::Result<Self> {
        Ok(Self::Datagram(Arc::new(UdpSocket::from_std(socket.into())?)))
    }

    /// One that another process has opened.
    pub(super) fn of(socket: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(socket);
        socket.set_nonblocking(true)?;
        match socket.r#type()? {
            Type::DGRAM => Self::datagram(socket),
            _ => Self::stream(socket),
        }
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Stream(socket) => socket.local_addr(),
            Self::Datagram(socket) => socket.local_addr(),
        }
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(socket) => socket.as_fd(),
            Self::Datagram(socket) => socket.as_fd(),
        }
    }
}

/// Why a socket is served no longer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// Another process takes what comes to it.
    HandedOver,
}

/// Clones are held by what is open at a socket: one by the socket's own work, one here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Users(Arc<()>);

impl Users {
    /// Whether somebody has come and not gone yet.
    fn are_there(&self) -> bool {
        Arc::strong_count(&self.0) > 2
    }
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) address: SocketAddr,
    /// Where it was opened; none: in the machine's own network.
    pub(super) namespace: Option<NamespaceId>,
    pub(super) socket: Bound,
    /// Held by whoever has come to it.
    pub(super) users: Users,
    /// Dropped to have it closed.
    pub(super) stop: oneshot::Sender<Stop>,
    pub(super) work: JoinHandle<()>,
}

impl Open {
    /// Whether somebody has come to it and not gone yet.
    pub(super) fn is_used(&self) -> bool {
        self.users.are_there()
    }

    /// Closes it, once the connections that wait in it are taken.
    pub(super) async fn close(self) {
        drop(self.stop);
        // It panicked, or has ended.
        let _ = self.work.await;
    }

    /// Leaves it to another process, with the connections that wait in it; answers with what ends once none of
    /// them is taken any more. Flows of datagrams go on where they are.
    pub(super) fn let_go(self) -> Option<JoinHandle<()>> {
        // It panicked.
        let _ = self.stop.send(Stop::HandedOver);
        matches!(self.socket, Bound::Stream(_)).then_some(self.work)
    }
}

/// A socket of the process before this one, at a place that it served.
#[derive(Debug)]
pub(crate) struct GivenSocket {
    pub(crate) namespace: Option<NamespaceId>,
    pub(crate) socket: OwnedFd,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_let_go_of_takes_nothing_once_its_work_has_ended() {
        let socket = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.set_nonblocking(true).unwrap();
        socket.bind(&address.into()).unwrap();
        let socket = Bound::listening(socket).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (taken, mut last) = oneshot::channel();
        let work = tokio::spawn(async move {
            assert!(matches!(stopped.await, Ok(Stop::HandedOver)));
            // It is just taking one.
            tokio::task::yield_now().await;
            let _ = taken.send(());
        });
        let open = Open { address, namespace: None, socket, users: Users::default(), stop, work };
        open.let_go().expect("streams are taken from").await.unwrap();
        assert_eq!(last.try_recv(), Ok(()));
    }
}
