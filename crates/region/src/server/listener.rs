//! The socket: connections in, bounded in number and patience, ended gracefully.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, error, warn};

use super::answer::{Body, plain};
use super::{Server, Site, limits};

/// How long to wait after the kernel refused a connection, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `site` on `listener` until `shutdown` is done; then lets open requests finish for a while.
pub async fn serve<S: Site>(
    site: Arc<S>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) {
    let server = Arc::new(Server::new(site));
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let (ending, ended) = watch::channel(false);
    let accepting = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (server, ended) = (Arc::clone(&server), ended.clone());
                    tokio::spawn(async move {
                        connection(server, stream, ended).await;
                        drop(place);
                    });
                }
                Err(source) => {
                    warn!(error = %source, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown => {}
    }
    drop(listener);
    server.site.closing();
    // The channel's receivers are the connections; a send can only fail without any.
    let _ = ending.send(true);
    let all = u32::try_from(limits::CONNECTIONS_MAX).unwrap_or(u32::MAX);
    if tokio::time::timeout(limits::GRACE_MAX, places.acquire_many(all)).await.is_err() {
        warn!("connections were cut off at the end of the grace period");
    }
}

async fn connection<S: Site>(
    server: Arc<Server<S>>,
    stream: TcpStream,
    mut ended: watch::Receiver<bool>,
) {
    if let Err(source) = stream.set_nodelay(true) {
        debug!(error = %source, "failed to set TCP_NODELAY");
    }
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(handle(server, request).await) }
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

async fn handle<S: Site>(server: Arc<Server<S>>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    let answering = match path {
        "/health" => return health(request.method()),
        "/acs/ws" | "/tcs/ws" => {
            let opening = AssertUnwindSafe(|| server.session(request));
            return std::panic::catch_unwind(opening).unwrap_or_else(|_| broken());
        }
        "/v2" => Arc::clone(&server.site).registry(request),
        _ if path.starts_with("/v2/") => Arc::clone(&server.site).registry(request),
        _ => Box::pin(async move { server.api(request).await }),
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
