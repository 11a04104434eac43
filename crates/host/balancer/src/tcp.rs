//! Connections of network balancers, passed through: TCP, and TLS that ends here.
//!
//! A flow goes to a target by a hash of its ends (or of the client's address alone where that is sticky), and stays
//! there. A target that refuses the connection is left for another: not a byte has reached it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use routing::{Action, Stickiness, TargetProtocol, Zones, choose};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use tracing::debug;

use crate::http::tunnel;
use crate::introduced::SIGNATURE;
use crate::limits::{CONNECT_WAIT_MAX, PATIENCE_PAUSE, TRIES_MAX};
use crate::listen::Door;
use crate::live::{LiveGroup, LiveListener, Snapshot};
use crate::log::FlowEntry;
use crate::pool::{self, ConnectError};
use crate::shared::{Phase, Shared};
use crate::target::{Lease, LiveTarget, until_cut};
use crate::tls::Meeting;

/// Passes a client's connection through to a target of the listener's default action. It may go on for as long as it likes:
/// a table that is replaced is not kept for it.
pub(crate) async fn pass<S>(
    shared: &Arc<Shared>,
    (snapshot, live): (Arc<Snapshot>, Arc<LiveListener>),
    door: &Door,
    opened: impl Future<Output = Option<S>>,
    (peer, local): (SocketAddr, SocketAddr),
    entry: Option<FlowEntry>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let idle = Duration::from_secs(u64::from(live.listener.attributes.tcp_idle_timeout_s));
    let reached = reach(shared, &snapshot, (&live, door), peer, local).await;
    drop((snapshot, live));
    let Some((group, lease, to_target)) = reached else { return };
    let (protocol, has_header) = (group.group.protocol, group.group.proxy_protocol_v2);
    drop(group);
    let copied = entry.as_ref().map(|entry| Arc::clone(&entry.copied)).unwrap_or_default();
    let Some(stream) = opened.await else { return };
    let cut = lease.cut();
    let mut to_target = match to_target {
        ToTarget::Plain(stream) => stream,
        ToTarget::Verified(to_target) => {
            tokio::select! {
                _ = tunnel::relay(stream, *to_target, idle, &copied) => {}
                () = until_cut(cut) => {}
                () = shared.until(Phase::Over) => {}
            }
            return;
        }
    };
    if has_header {
        let header = proxy_v2(peer, local);
        if !matches!(timeout(CONNECT_WAIT_MAX, to_target.write_all(&header)).await, Ok(Ok(()))) {
            return;
        }
    }
    // Whose certificate it shows does not matter.
    let anybody = Meeting { config: &shared.to_targets.h1, name: None };
    let joined = async {
        match protocol {
            TargetProtocol::Tls => match pool::tls(to_target, anybody).await {
                Ok(to_target) => drop(tunnel::relay(stream, to_target, idle, &copied).await),
                Err(error) => debug!(target = %lease.target.address, %error, "flow ended"),
            },
            TargetProtocol::Tcp
            | TargetProtocol::TcpUdp
            | TargetProtocol::Udp
            | TargetProtocol::Http
            | TargetProtocol::Https => drop(tunnel::relay(stream, to_target, idle, &copied).await),
        }
    };
    tokio::select! {
        () = joined => {}
        () = until_cut(cut) => {}
        () = shared.until(Phase::Over) => {}
    }
    drop(entry);
}

/// The group that the listener's default action leads a flow to.
pub(crate) fn group_for<'s>(
    snapshot: &'s Snapshot,
    live: &LiveListener,
    peer: SocketAddr,
    local: SocketAddr,
) -> Option<(&'s Arc<LiveGroup>, Option<u8>)> {
    let rule = live.rules.default_rule()?;
    match &rule.rule.action {
        Action::Forward { groups, sticky_s } => {
            // With stickiness all flows of a client go to the same group.
            let seed = if sticky_s.is_some() { hash(&peer.ip()) } else { hash(&(peer, local)) };
            let chosen = choose::group(groups, seed)?;
            Some((snapshot.groups.get(&chosen.group)?, chosen.part))
        }
        // The API takes neither for a network balancer.
        Action::Redirect { .. } | Action::FixedResponse { .. } => None,
    }
}

/// A connection to a target of the group that a flow is led to. Where that has none, the newest snapshot is asked: its targets
/// may have gone out of routing since the group was chosen.
async fn reach(
    shared: &Shared,
    snapshot: &Snapshot,
    (live, door): (&LiveListener, &Door),
    peer: SocketAddr,
    local: SocketAddr,
) -> Option<(Arc<LiveGroup>, Lease, ToTarget)> {
    let (group, part) = group_for(snapshot, live, peer, local)?;
    let zones = group.zones(&live.balancer, door.interface.as_ref());
    let among = (live, group.as_ref(), part);
    if let Some((lease, stream)) = connect(shared, among, zones, peer, local).await {
        return Some((Arc::clone(group), lease, stream));
    }
    let patience = Duration::from_millis(u64::from(live.balancer.attributes.patience_ms));
    let (begun, mut version) = (Instant::now(), snapshot.version);
    loop {
        let mut newer = Arc::clone(&shared.snapshot.borrow());
        if newer.version == version {
            if patience <= begun.elapsed() {
                return None;
            }
            tokio::time::sleep(PATIENCE_PAUSE).await;
            newer = Arc::clone(&shared.snapshot.borrow());
        }
        version = newer.version;
        let live = newer.listeners.get(&live.listener.id)?;
        let (group, part) = group_for(&newer, live, peer, local)?;
        let zones = group.zones(&live.balancer, door.interface.as_ref());
        let among = (live.as_ref(), group.as_ref(), part);
        if let Some((lease, stream)) = connect(shared, among, zones, peer, local).await {
            return Some((Arc::clone(group), lease, stream));
        }
    }
}

/// A connection to a target of a group, and the hold on it.
async fn connect(
    shared: &Shared,
    (live, group, part): (&LiveListener, &LiveGroup, Option<u8>),
    zones: Zones<'_>,
    peer: SocketAddr,
    local: SocketAddr,
) -> Option<(Lease, ToTarget)> {
    let flow = flow_hash(group, peer, local);
    let now = shared.clock.now();
    let mut tried: Vec<Arc<LiveTarget>> = Vec::new();
    for _ in 0..TRIES_MAX {
        let lease = group.choose_by_hash(zones, part, &tried, flow, now)?;
        match open(group, &lease.target).await {
            Ok(stream) => return Some((lease, stream)),
            Err(error) => {
                debug!(target = %lease.target.address, %error, "target was left for another");
                if let (true, Some(figures)) = (error.is_of_tls(), live.tallies.named()) {
                    figures.target_tls_failed();
                }
                lease.target.suspect(now);
                tried.push(Arc::clone(&lease.target));
            }
        }
    }
    None
}

/// A connection to a target.
enum ToTarget {
    Plain(TcpStream),
    /// It has shown who it is.
    Verified(Box<TlsStream<TcpStream>>),
}

async fn open(group: &LiveGroup, target: &LiveTarget) -> Result<ToTarget, ConnectError> {
    let stream = pool::tcp(target).await?;
    if !target.shows_identity {
        return Ok(ToTarget::Plain(stream));
    }
    let unknown = || ConnectError::Tls(io::ErrorKind::InvalidInput.into());
    let verifying = group.verifying.as_ref().ok_or_else(unknown)?;
    let shaken = pool::tls(stream, verifying.for_flows()).await?;
    Ok(ToTarget::Verified(Box::new(shaken)))
}

/// What a flow is told by: both its ends, or the client's address alone.
pub(crate) fn flow_hash(group: &LiveGroup, peer: SocketAddr, local: SocketAddr) -> u64 {
    match &group.group.stickiness {
        Stickiness::SourceIp => hash(&peer.ip()),
        Stickiness::Off | Stickiness::LbCookie { .. } | Stickiness::AppCookie { .. } => {
            hash(&(peer, local))
        }
    }
}

fn hash(of: &impl Hash) -> u64 {
    // Without a key: the same flow hashes alike on every host and after every restart.
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// The header of PROXY protocol version 2.
pub(crate) fn proxy_v2(peer: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(0x21);
    let canonical =
        |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    match (canonical(peer), canonical(local)) {
        (SocketAddr::V4(peer), SocketAddr::V4(local)) => {
            header.extend([0x11, 0, 12]);
            header.extend(peer.ip().octets());
            header.extend(local.ip().octets());
        }
        (peer, local) => {
            let v6 = |address: SocketAddr| match address {
                SocketAddr::V4(address) => address.ip().to_ipv6_mapped(),
                SocketAddr::V6(address) => *address.ip(),
            };
            header.extend([0x21, 0, 36]);
            header.extend(v6(peer).octets());
            header.extend(v6(local).octets());
        }
    }
    header.extend(peer.port().to_be_bytes());
    header.extend(local.port().to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_header_names_both_ends() {
        let header = proxy_v2("192.0.2.1:258".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
        assert_eq!(header[..12], *b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(header[12..16], [0x21, 0x11, 0, 12]);
        assert_eq!(header[16..], [192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 0, 80]);
        let mixed = proxy_v2("[2001:db8::1]:1".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
        assert_eq!((mixed[13], mixed.len()), (0x21, 16 + 36));
    }
}
