//! VPC endpoints: what comes to one of their interfaces goes on to the region, as it is.
//!
//! Nothing is read here: TLS ends at the region, and who asks is found out there. The region is told by which endpoint
//! a connection came, and from where.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use routing::EndpointId;
use routing::introduction::{Introduction, IntroductionToken};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use crate::http::tunnel;
use crate::limits::{CONNECT_WAIT_MAX, ENDPOINT_IDLE};
use crate::shared::{Phase, Shared};

/// At which port of its interfaces an endpoint is reached.
pub(crate) const PORT: u16 = 443;

/// Where the region is reached from this machine, and what tells it that a connection is introduced by this process.
#[derive(Clone)]
pub struct RegionDoor {
    pub address: SocketAddr,
    pub token: IntroductionToken,
}

impl std::fmt::Debug for RegionDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegionDoor({})", self.address)
    }
}

/// The region's door, wherever it is now.
pub trait Doors: Send + Sync + std::fmt::Debug {
    /// None while there is no region.
    fn region(&self) -> Option<RegionDoor>;
}

/// Takes a connection to an endpoint's interface; one too many is closed.
pub(crate) fn take(
    shared: &Arc<Shared>,
    endpoint: &EndpointId,
    stream: TcpStream,
    client: SocketAddr,
) {
    let snapshot = Arc::clone(&shared.snapshot.borrow());
    let Some(account) = snapshot.endpoints.get(endpoint).map(|it| &it.account) else { return };
    let of_client = format!("{endpoint}/{}", client.ip());
    let Some(counted) = shared.endpoint_clients.take(&of_client) else { return };
    let Some(connection) = shared.connections.take(account) else { return };
    let (shared, endpoint) = (Arc::clone(shared), endpoint.clone());
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with the client, or with the grace of the process"
    )]
    tokio::spawn(async move {
        let _held = (counted, connection);
        tokio::select! {
            () = pass(&shared, endpoint, stream, client) => {}
            () = shared.until(Phase::Over) => {}
        }
    });
}

async fn pass(shared: &Shared, endpoint: EndpointId, stream: TcpStream, client: SocketAddr) {
    let Ok(SocketAddr::V4(interface)) = stream.local_addr() else { return };
    let SocketAddr::V4(client) = client else { return };
    // It delays small writes only.
    let _ = stream.set_nodelay(true);
    let Some(door) = shared.doors.region() else { return };
    match timeout(CONNECT_WAIT_MAX, open(&door, endpoint, client, interface)).await {
        Ok(Ok(region)) => {
            let copied = tunnel::Copied::default();
            drop(tunnel::relay(stream, region, ENDPOINT_IDLE, &copied).await);
        }
        Ok(Err(error)) => debug!(%error, "region not reached for an endpoint"),
        Err(_) => debug!("region not reached in time for an endpoint"),
    }
}

async fn open(
    door: &RegionDoor,
    endpoint: EndpointId,
    client: SocketAddrV4,
    interface: SocketAddrV4,
) -> std::io::Result<TcpStream> {
    let mut region = TcpStream::connect(door.address).await?;
    region.set_nodelay(true)?;
    let introduction = Introduction { endpoint, client, interface };
    region.write_all(&introduction.encode(&door.token)).await?;
    Ok(region)
}
