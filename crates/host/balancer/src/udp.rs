//! Datagrams of network balancers: each client's address and port is a flow, and stays with one target until it has been
//! silent for a while, the target is cut, or the listener is gone.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use crate::figures::Metered;
use crate::limits::{DATAGRAM_BYTES_MAX, FLOW_DATAGRAMS_MAX, FLOW_IDLE, FLOWS_MAX};
use crate::listen::{Door, Stop};
use crate::shared::{Counted, Phase, Shared};
use crate::target::{Lease, until_cut};
use crate::tcp;

/// Serves one socket until it is stopped. Its flows end with it: but where another process takes what comes, answers that
/// are still to come are passed on.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    door: Door,
    socket: Arc<UdpSocket>,
    mut stopped: oneshot::Receiver<Stop>,
) {
    let mut flows: BTreeMap<SocketAddr, mpsc::Sender<Bytes>> = BTreeMap::new();
    let mut tasks: JoinSet<SocketAddr> = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let (size, peer) = tokio::select! {
            Some(ended) = tasks.join_next() => {
                if let Ok(peer) = ended {
                    flows.remove(&peer);
                }
                continue;
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // An earlier answer could not be delivered; the socket is as it was.
                Err(_) => continue,
            },
            stop = &mut stopped => match stop {
                Ok(Stop::HandedOver) => break,
                Err(_) => return,
            },
        };
        let datagram = Bytes::copy_from_slice(&buffer[..size]);
        let rest = match flows.get(&peer) {
            None => datagram,
            Some(flow) => match flow.try_send(datagram) {
                // Datagrams may be lost, and of one that comes too fast they are.
                Ok(()) | Err(TrySendError::Full(_)) => continue,
                Err(TrySendError::Closed(datagram)) => datagram,
            },
        };
        if flows.len() >= FLOWS_MAX {
            debug!(listener = %door.listener, "flow refused: there are too many");
            continue;
        }
        let Some((lease, counted, meter)) = lease(&shared, &door, &socket, peer) else { continue };
        let (send, datagrams) = mpsc::channel(FLOW_DATAGRAMS_MAX);
        // The channel is new, so there is room.
        let _ = send.try_send(rest);
        flows.insert(peer, send);
        let socket = Arc::clone(&socket);
        let open = door.interface.as_ref().map(|it| shared.at_interfaces.go_on(&it.eni));
        let users = door.users.clone();
        tasks.spawn(async move {
            let _held = (counted, open, users);
            if let Err(error) = flow(&socket, peer, lease, (datagrams, meter)).await {
                debug!(%peer, %error, "flow ended");
            }
            peer
        });
    }
    tokio::select! {
        () = async { while tasks.join_next().await.is_some() {} } => {}
        () = shared.until(Phase::Ending) => {}
    }
}

fn lease(
    shared: &Arc<Shared>,
    door: &Door,
    socket: &UdpSocket,
    peer: SocketAddr,
) -> Option<(Lease, Counted, Metered<()>)> {
    let snapshot = Arc::clone(&shared.snapshot.borrow());
    let live = snapshot.listeners.get(&door.listener)?;
    let local = socket.local_addr().ok()?;
    if !door.lets_in(live, (peer, local), true) {
        return None;
    }
    let (group, part) = tcp::group_for(&snapshot, live, peer, local)?;
    let flow = tcp::flow_hash(group, peer, local);
    let zones = group.zones(&live.balancer, door.interface.as_ref());
    let lease = group.choose_by_hash(zones, part, &[], flow, shared.clock.now())?;
    let counted = shared.flows.take(&live.balancer.account)?;
    let figures = live.figures(door.interface.as_ref()).cloned();
    Some((lease, counted, Metered::new((), figures)))
}

async fn flow(
    socket: &UdpSocket,
    peer: SocketAddr,
    lease: Lease,
    (mut datagrams, meter): (mpsc::Receiver<Bytes>, Metered<()>),
) -> io::Result<()> {
    let address = lease.target.address;
    let to_target = lease.target.connect_datagrams(address).await?;
    let cut = lease.cut();
    let copying = async {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let next = async {
                tokio::select! {
                    datagram = datagrams.recv() => match datagram {
                        Some(datagram) => {
                            meter.passed(datagram.len(), true);
                            to_target.send(&datagram).await.map(|_| ())
                        }
                        None => Err(io::ErrorKind::ConnectionAborted.into()),
                    },
                    received = to_target.recv(&mut buffer) => match received {
                        Ok(size) => {
                            meter.passed(size, false);
                            socket.send_to(&buffer[..size], peer).await.map(|_| ())
                        }
                        Err(error) => Err(error),
                    },
                }
            };
            match timeout(FLOW_IDLE, next).await {
                Ok(done) => done?,
                Err(_) => return Ok(()),
            }
        }
    };
    tokio::select! {
        ended = copying => ended,
        () = until_cut(cut) => Ok(()),
    }
}
