//! The socket: connections in, bounded in number and patience, ended gracefully.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use longshore_types::Chain;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{debug, error, warn};

use super::answer::{Body, plain};
use super::api::origin;
use super::body::Paced;
use super::doors::{Doors, Entry};
use super::peers::{CameTo, Guest, Peers, Places};
use super::{BoxFuture, RegionApi, Server, limits};

/// How long to wait after the kernel refused a connection, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `region` at `doors` until `shutdown` is done; then lets open requests finish for a while.
pub async fn serve<S: RegionApi>(
    region: Arc<S>,
    doors: impl Into<Doors>,
    shutdown: impl Future<Output = ()>,
) {
    let Doors { listener, tls, plain } = doors.into();
    let entry = Entry { tls, plain, token: region.introduction_token() };
    let server = Arc::new(Server::new(region));
    let peers = Arc::new(Peers::new(places()));
    let (ending, ended) = watch::channel(false);
    tokio::select! {
        () = accept(&server, &listener, &entry, &peers, &ended) => {}
        () = sweep(&peers) => {}
        () = shutdown => {}
    }
    drop((listener, ended));
    server.region.closing();
    // The channel's receivers are the connections; a send can only fail without any.
    let _ = ending.send(true);
    if tokio::time::timeout(limits::GRACE_MAX, ending.closed()).await.is_err() {
        warn!("connections were cut off at the end of the grace period");
    }
}

/// How many connections there may be: each is a file, and the region has others to open.
fn places() -> Places {
    let files = std::fs::read_to_string("/proc/self/limits").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_whitespace().next()?.parse::<usize>().ok()
    });
    let all = files.map_or(limits::CONNECTIONS_MAX, |files| files / 4 * 3);
    let all = all.clamp(1, limits::CONNECTIONS_MAX);
    Places {
        all,
        unverified: limits::UNVERIFIED_MAX.min(all / 2),
        of_address: limits::UNVERIFIED_OF_ADDRESS_MAX.min(all / 2),
    }
}

async fn accept<S: RegionApi>(
    server: &Arc<Server<S>>,
    listener: &TcpListener,
    entry: &Entry,
    peers: &Arc<Peers>,
    ended: &watch::Receiver<bool>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let guest = Arc::new(peers.admit(address.ip()));
                let (server, entry, ended) = (Arc::clone(server), entry.clone(), ended.clone());
                #[expect(
                    clippy::disallowed_methods,
                    reason = "bounded by `peers`; it ends with the connection or with `ended`"
                )]
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        () = guest.cut() => debug!("a connection made place for another"),
                        () = connection(server, &entry, stream, &guest, ended) => {}
                    }
                });
            }
            Err(source) => {
                warn!(error = %source, "failed to accept a connection");
                peers.make_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Never ends.
async fn sweep(peers: &Peers) {
    loop {
        tokio::time::sleep(limits::SWEEP_PERIOD).await;
        peers.sweep(limits::STRANGER_WAIT_MAX);
    }
}

async fn connection<S: RegionApi>(
    server: Arc<Server<S>>,
    entry: &Entry,
    stream: TcpStream,
    guest: &Arc<Guest>,
    mut ended: watch::Receiver<bool>,
) {
    if let Err(source) = stream.set_nodelay(true) {
        debug!(error = %source, "failed to set TCP_NODELAY");
    }
    let let_in = tokio::select! {
        let_in = entry.admit(stream) => let_in,
        () = told(&mut ended) => return,
    };
    let (stream, introduced) = match let_in {
        Ok(let_in) => let_in,
        Err(why) => {
            debug!(error = %Chain(&why), "connection not let in");
            return;
        }
    };
    guest.came_by(stream.is_secure());
    if let Some(introduced) = introduced {
        let Some((by, service)) = server.region.endpoint(&introduced.endpoint) else {
            debug!(endpoint = %introduced.endpoint, "connection to an endpoint that is not there");
            return;
        };
        let client = IpAddr::V4(*introduced.client.ip());
        guest.came_to(CameTo { by: Arc::new(by), service, client });
    }
    let asking = Arc::clone(guest);
    let service = service_fn(move |request| {
        let (server, guest) = (Arc::clone(&server), Arc::clone(&asking));
        async move {
            guest.asks();
            let response = handle(server, &guest, request).await;
            guest.answered();
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADERS_WAIT_MAX)
        .max_buf_size(limits::HEADERS_BYTES_MAX)
        .max_headers(limits::HEADERS_MAX);
    let serving = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(serving);
    let over = tokio::select! {
        over = serving.as_mut() => over,
        () = told(&mut ended) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(source) = over {
        debug!(error = %source, "connection broke off");
    }
}

async fn told(ended: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which says the same.
    drop(ended.wait_for(|ended| *ended).await.map(|_| ()));
}

async fn handle<S: RegionApi>(
    server: Arc<Server<S>>,
    guest: &Guest,
    request: Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path();
    let answering: BoxFuture<'_, Response<Body>> = match path {
        "/health" => return health(request.method()),
        _ if guest.endpoint().is_some_and(|it| !it.answers_at(path)) => {
            return plain(StatusCode::FORBIDDEN, "this VPC endpoint is of another service\n");
        }
        "/acs/ws" | "/tcs/ws" => {
            let opening = AssertUnwindSafe(|| server.session(guest, request));
            return std::panic::catch_unwind(opening).unwrap_or_else(|_| broken());
        }
        _ if path == "/v2" || path.starts_with("/v2/") => {
            if let Some(account) = server.region.registry_account(request.uri(), request.headers())
            {
                guest.verified(account);
            }
            let origin = origin(guest, request.headers(), server.region.trail());
            Arc::clone(&server.region).registry(request.map(Paced::new), origin)
        }
        _ => Box::pin(async move { server.api(guest, request.map(Paced::new)).await }),
    };
    AssertUnwindSafe(answering).catch_unwind().await.unwrap_or_else(|_| broken())
}

fn health(method: &Method) -> Response<Body> {
    match *method {
        Method::GET | Method::HEAD => plain(StatusCode::OK, "ok\n"),
        _ => plain(StatusCode::METHOD_NOT_ALLOWED, ""),
    }
}

/// In place of an answer that panicked; the panic hook has said where.
fn broken() -> Response<Body> {
    error!("a request's answer panicked");
    plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
}
