//! The region's one listener: who asks, for what, and the answer's form.
//!
//! Requests are told apart by path, target header, credential scope and query. Everything but
//! `/health` is signed, the registry's tokens aside. **Invariant:** no request, however broken, ends
//! the process or a neighbour's connection; a handler that panics answers 500. What callers hold
//! before they have proven who they are is bounded, and never the share of those who have.

mod answer;
mod api;
mod balancers;
mod body;
mod budget;
mod doors;
mod foreign;
mod listener;
mod peers;
mod region_api;
mod route;
#[cfg(test)]
mod tests;
mod watched;

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::sigv4::SigningKeys;
use aws_wire::{ApiError, ByEndpoint, Caller, Origin, Trail};
use control::AccessKey;
pub use control::ports::BoxFuture;
use http::{HeaderMap, Request, Response, Uri};
use hyper::body::Incoming;
use longshore_types::{AccountId, RegionName, Timestamp, Uuid};
use model::network::EndpointService;
use routing::introduction::IntroductionToken;
use routing::{EndpointId, wire};

use crate::audit::Outcome;
use crate::objects::{Asked, not_implemented};
pub use answer::Body;
pub use body::{Paced, PacedError, RequestBody};
pub use doors::{Doors, Plain};
pub use listener::serve;
pub use region_api::{NotReady, serve_region};

/// Bounds of the listener.
pub mod limits {
    use std::time::Duration;

    /// Connections that are open at once, agents' sockets aside; fewer where a process may have fewer
    /// files. Thousands of agents keep one open each.
    pub const CONNECTIONS_MAX: usize = 16_384;
    /// Of these, connections by which no good signature has come yet.
    pub const UNVERIFIED_MAX: usize = 4096;
    /// The same, from one address.
    pub const UNVERIFIED_OF_ADDRESS_MAX: usize = 2048;
    /// Connections that are closed at once when the process has no more files.
    pub const CONNECTIONS_CUT: usize = 64;
    /// All of a request's headers together.
    pub const HEADERS_BYTES_MAX: usize = 64 << 10;
    /// How many headers a request may have.
    pub const HEADERS_MAX: usize = 100;
    /// How long a connection may be idle, or take to send its headers.
    pub const HEADERS_WAIT_MAX: Duration = Duration::from_secs(75);
    /// The same, for a connection by which no good signature has come yet.
    pub const STRANGER_WAIT_MAX: Duration = Duration::from_secs(10);
    /// How often it is looked whose time is over.
    pub const SWEEP_PERIOD: Duration = Duration::from_secs(1);
    /// How long a request's body may take.
    pub const BODY_WAIT_MAX: Duration = Duration::from_secs(60);
    /// How long a body may fall behind its least rate, in all.
    pub const BODY_GRACE: Duration = Duration::from_secs(5);
    /// The least rate of a body, in bytes a second.
    pub const BODY_RATE_MIN: u64 = 4 << 10;
    /// How long a body may stand still.
    pub const BODY_IDLE_MAX: Duration = Duration::from_secs(10);
    /// The body of a request whose head names no key that there is.
    pub const STRANGER_BODY_BYTES_MAX: usize = 64 << 10;
    /// The body of most requests.
    pub const BODY_BYTES_MAX: usize = 4 << 20;
    /// A body that was compressed, as it was before: of metrics, of which one request has up to 1 MB.
    pub const INFLATED_BYTES_MAX: usize = 2 << 20;
    /// The body of a request that carries part of an image's layer, 20 MiB in base64.
    pub const LAYER_BODY_BYTES_MAX: usize = 32 << 20;
    /// All bodies together whose heads name no key.
    pub const STRANGERS_BYTES_MAX: usize = 64 << 20;
    /// The same, from one address.
    pub const STRANGERS_BYTES_OF_ADDRESS_MAX: usize = 32 << 20;
    /// All bodies together whose heads name a key, and whose signature is still to be checked.
    pub const CLAIMED_BYTES_MAX: usize = 160 << 20;
    /// The same, from one address.
    pub const CLAIMED_BYTES_OF_ADDRESS_MAX: usize = 128 << 20;
    /// All bodies together of callers whose signature was good.
    pub const VERIFIED_BYTES_MAX: usize = 320 << 20;
    /// The same, of one account.
    pub const VERIFIED_BYTES_OF_ACCOUNT_MAX: usize = 128 << 20;
    /// How long an operation may take, as when a disk does not answer. Clients wait for a minute.
    pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(50);
    /// The same, for what reads whole layers.
    pub const LAYER_ANSWER_WAIT_MAX: Duration = Duration::from_secs(600);
    /// How long a balancer's process may wait for news; it asks again then.
    pub const BALANCER_WAIT_MAX: Duration = Duration::from_secs(40);
    /// How long connections may go on after the region was told to end.
    pub const GRACE_MAX: Duration = Duration::from_secs(10);
}

/// What the `x-amz-target` of an operation begins with that is of no service of Amazon's.
pub const OWN_TARGET: &str = "Longshore.";
/// The same as the name of a service.
const OWN_SERVICE: &str = "longshore";
/// What `longshore status` asks for.
const DESCRIBE_STATUS: &str = "DescribeStatus";
/// What `longshore secrets rotate-root` asks for.
const ROTATE_ROOT_KEY: &str = "RotateRootKey";
/// A user's password for keys: it is what proves who asks.
const SIGN_IN: &str = "SignIn";
/// What `longshore net explain` asks.
const EXPLAIN_REACH: &str = "ExplainReach";
/// What `longshore top` asks.
const LIST_TASK_FIGURES: &str = "ListTaskFigures";
/// What `longshore connect` asks.
const LIST_CONNECT_FIGURES: &str = "ListConnectFigures";
/// How packets go between hosts, as `longshore node` shows it.
const LIST_BETWEEN_HOSTS: &str = "ListBetweenHosts";
/// Where load balancers are reached at hosts' own addresses: [`crate::nodes::Listed`] of [`crate::nodes::ListeningOn`].
const LIST_LISTENING: &str = "ListListening";

/// What stands behind the listener.
pub trait RegionApi: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    fn request_id(&self) -> Uuid;
    fn region_name(&self) -> &RegionName;
    /// The services that answer here.
    fn services(&self) -> &[&'static Service];
    /// The key with an id; of temporary keys, with the session token that came with it.
    fn key(&self, access_key_id: &str, session_token: Option<&str>) -> Option<AccessKey>;
    /// What shows that a connection is introduced by the process that serves VPC endpoints; none: nobody is believed.
    fn introduction_token(&self) -> Option<IntroductionToken> {
        None
    }
    /// The endpoint that is introduced, and what answers there; none of one that is not there.
    fn endpoint(&self, _id: &EndpointId) -> Option<(ByEndpoint, &'static EndpointService)> {
        None
    }
    /// Whether an operation may be asked for by who signs nothing.
    fn is_open(&self, _service: &str, _operation: &str) -> bool {
        false
    }
    fn authorize(
        &self,
        caller: &Caller,
        service: &'static str,
        operation: &str,
    ) -> Result<(), ApiError>;
    /// Has a call's operation done.
    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>>;
    /// Where a request leaves its trail.
    fn trail(&self) -> Trail {
        Trail::default()
    }
    /// A request was answered.
    fn answered(&self, _outcome: Outcome, _trail: &Trail) {}
    /// Has an operation done that is of no service of Amazon's; `None` if there is none of that name for the caller.
    fn own<'a>(
        &'a self,
        _caller: &'a Caller,
        _operation: &str,
        _body: &'a [u8],
    ) -> Option<BoxFuture<'a, Result<serde_json::Value, ApiError>>> {
        None
    }
    /// Whether objects of S3 can be read here.
    fn has_objects(&self) -> bool {
        false
    }
    /// Has an object read.
    fn object<'a>(
        &'a self,
        _caller: &'a Caller,
        _asked: &'a Asked,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(async { Err(not_implemented()) })
    }
    /// A call of a balancer's process; `None` where there are no balancers, or not for this caller: the processes
    /// of a region call as whom it belongs to.
    fn balancers<'a>(
        &'a self,
        _caller: &'a Caller,
        _call: wire::Call,
    ) -> Option<BoxFuture<'a, Result<wire::Answer, ApiError>>> {
        None
    }
    /// Opens an agent's socket; the request is verified.
    fn session(self: Arc<Self>, caller: &Caller, request: Request<Incoming>) -> Response<String>;
    /// The region ends: open sockets are to be closed.
    fn closing(&self) {}
    /// The account whose token a request below `/v2/` carries.
    fn registry_account(&self, uri: &Uri, headers: &HeaderMap) -> Option<AccountId>;
    /// Anything below `/v2/`, which has a token of its own.
    fn registry(
        self: Arc<Self>,
        request: Request<RequestBody>,
        origin: Origin,
    ) -> BoxFuture<'static, Response<Body>>;
}

/// A site with what the listener remembers between requests.
pub struct Server<S> {
    region: Arc<S>,
    signing_keys: SigningKeys,
    bodies: Arc<budget::Budget>,
}

impl<S: RegionApi> Server<S> {
    pub fn new(region: Arc<S>) -> Self {
        Self { region, signing_keys: SigningKeys::default(), bodies: Arc::default() }
    }
}

impl<S> std::fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}
