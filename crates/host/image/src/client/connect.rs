//! Connections that keep to [`Egress`]: what a name resolves to is judged, and the very address that was
//! judged is connected to.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_ok;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::egress::{Egress, Refused};

/// How much later the next of several addresses is tried.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the address has no host")]
    NoHost,
    #[error("dns error: {0}")]
    Lookup(io::Error),
    #[error(transparent)]
    Refused(Refused),
    #[error("tcp connect error: {0}")]
    Io(#[from] io::Error),
}

/// Connects by TCP. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    egress: Arc<Egress>,
    limit: Duration,
}

impl Connector {
    pub(super) fn new(egress: Egress, limit: Duration) -> Self {
        Self { egress: Arc::new(egress), limit }
    }

    async fn connect(self, uri: Uri) -> Result<TcpStream, ConnectError> {
        let host = uri.host().ok_or(ConnectError::NoHost)?;
        let port =
            uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let addresses = resolve(host, port).await?;
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            match self.egress.refuse(host, port, address.ip()) {
                Some(why) => refused = Some(why),
                None => allowed.push(address),
            }
        }
        match (allowed.is_empty(), refused) {
            (true, Some(why)) => return Err(ConnectError::Refused(why)),
            (true, None) => return Err(ConnectError::Lookup(io::ErrorKind::NotFound.into())),
            (false, _) => {}
        }
        let tries = allowed.into_iter().enumerate().map(|(index, address)| {
            async move {
                let turns = u32::try_from(index).unwrap_or(u32::MAX);
                tokio::time::sleep(NEXT_ADDRESS.saturating_mul(turns)).await;
                TcpStream::connect(address).await
            }
            .boxed()
        });
        let connected = tokio::time::timeout(self.limit, select_ok(tries)).await;
        let (stream, _) = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = tokio::net::lookup_host((bare, port)).await.map_err(ConnectError::Lookup)?;
    Ok(found.collect())
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(uri).await.map(TokioIo::new) })
    }
}
