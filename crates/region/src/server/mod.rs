//! The region's one listener: who asks, for what, and the answer's form.
//!
//! Requests are told apart by path, target header, credential scope and query. Everything but
//! `/health` is signed, the registry's tokens aside. **Invariant:** no request, however broken, ends
//! the process or a neighbour's connection; a handler that panics answers 500.

mod answer;
mod api;
mod body;
mod foreign;
mod listener;
mod region_site;
mod route;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::sigv4::SigningKeys;
use aws_wire::{ApiError, Caller};
use http::{Request, Response};
use hyper::body::Incoming;
use longshore_types::{RegionName, Timestamp, Uuid};

use crate::access::AccessKey;

pub use answer::Body;
pub use listener::serve;
pub use region_site::{NotReady, serve_region};

/// A future that is boxed because its kind depends on the request.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bounds of the listener.
pub mod limits {
    use std::time::Duration;

    /// Connections that are open at once, agents' sockets aside; more wait in the kernel's queue.
    /// Thousands of agents keep one open each.
    pub const CONNECTIONS_MAX: usize = 16_384;
    /// All of a request's headers together.
    pub const HEADERS_BYTES_MAX: usize = 64 << 10;
    /// How many headers a request may have.
    pub const HEADERS_MAX: usize = 100;
    /// How long a connection may be idle, or take to send its headers.
    pub const HEADERS_WAIT_MAX: Duration = Duration::from_secs(75);
    /// How long a request's body may take.
    pub const BODY_WAIT_MAX: Duration = Duration::from_secs(60);
    /// The body of most requests.
    pub const BODY_BYTES_MAX: usize = 4 << 20;
    /// The body of a request that carries part of an image's layer, 20 MiB in base64.
    pub const LAYER_BODY_BYTES_MAX: usize = 32 << 20;
    /// All bodies that are being held at once.
    pub const BODIES_BYTES_MAX: usize = 512 << 20;
    /// How long connections may go on after the region was told to end.
    pub const GRACE_MAX: Duration = Duration::from_secs(10);
}

/// What stands behind the listener.
pub trait Site: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    fn request_id(&self) -> Uuid;
    fn region_name(&self) -> &RegionName;
    /// The services that answer here.
    fn services(&self) -> &'static [&'static Service];
    fn key(&self, access_key_id: &str) -> Option<AccessKey>;
    fn authorize(&self, caller: &Caller, service: &str, operation: &str) -> Result<(), ApiError>;
    /// Has a call's operation done.
    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>>;
    /// Opens an agent's socket; the request is verified.
    fn session(self: Arc<Self>, caller: &Caller, request: Request<Incoming>) -> Response<String>;
    /// The region ends: open sockets are to be closed.
    fn closing(&self) {}
    /// Anything below `/v2/`, which has a token of its own.
    fn registry(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>>;
}

/// A site with what the listener remembers between requests.
pub struct Server<S> {
    site: Arc<S>,
    signing_keys: SigningKeys,
    bodies: body::Budget,
}

impl<S: Site> Server<S> {
    pub fn new(site: Arc<S>) -> Self {
        Self { site, signing_keys: SigningKeys::default(), bodies: body::Budget::default() }
    }
}

impl<S> std::fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}
