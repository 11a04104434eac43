//! Listeners that stand in front of another in the network of their interface, and take a connection only while that one
//! takes some too: whoever is refused was not heard, and asks somebody else.

use std::net::SocketAddr;

use routing::ProtocolVersion;

use crate::live::{LiveListener, Snapshot};
use crate::pool;
use crate::shared::Shared;
use crate::tcp;

/// Whether the one behind a listener takes connections at this moment; true if there is none. What is opened to learn that is
/// kept for the requests that follow.
pub(crate) async fn is_there(
    shared: &Shared,
    (snapshot, live): (&Snapshot, &LiveListener),
    (peer, local): (SocketAddr, SocketAddr),
) -> bool {
    if live.listener.attributes.front.is_none() {
        return true;
    }
    let Some((group, part)) = tcp::group_for(snapshot, live, peer, local) else { return false };
    let now = shared.clock.now();
    let zones = group.zones(&live.balancer, None);
    let Some(lease) = group.choose(zones, part, &[], shared.seed(), now) else { return false };
    let kept = &lease.target.pool;
    if group.group.version != ProtocolVersion::Http1 {
        if kept.shared().is_some() {
            return true;
        }
        let opened = pool::http2(&lease, None).await;
        return opened.map(|sender| kept.share(sender)).is_ok();
    }
    if let Some(mut sender) = kept.take()
        && sender.ready().await.is_ok()
    {
        kept.put(sender);
        return true;
    }
    pool::http1(&lease, None).await.map(|sender| kept.put(sender)).is_ok()
}
