//! What containers ask their agent at 169.254.170.2: the credentials of their task's role, what they are and use
//! (metadata, versions 2 to 4), and protection from being stopped.
//!
//! **Invariant:** a question is answered to the containers of the task that it is about and to nobody else: who
//! knows the path must also ask from an address of the task, which the host's network does not let anybody else
//! claim.

mod asked;
mod credentials;
mod facts;
mod metadata;
mod protection;
mod rates;
mod stats;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener as PlainListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use longshore_types::{Chain, Cidr};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::engine::state::TaskState;
use crate::engine::{Engine, TaskView};
use crate::limits::{
    ENDPOINT_BODY_BYTES_MAX, ENDPOINT_CONNECTIONS_MAX, ENDPOINT_CONNECTIONS_OF_HOST_MAX,
    ENDPOINT_CONNECTIONS_OF_TASK_MAX, ENDPOINT_PATIENCE_MS, ENDPOINT_REQUESTS_OF_HOST_MAX,
    ENDPOINT_REQUESTS_OF_TASK_MAX,
};
use crate::spec::{NetworkMode, TaskSpec};

/// Where containers reach it.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
pub const PORT: u16 = 80;
/// Where containers reach the region, at the same address.
pub const REGION_PORT: u16 = 4566;

pub(crate) use asked::CREDENTIALS_PATH;
pub(crate) use metadata::docker_name;
pub use protection::{Protection, ProtectionState};

use self::asked::{Asked, Version, What};
use self::rates::Rates;

/// What Amazon's SDKs look for in the environment.
pub(crate) const CREDENTIALS_VARIABLE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";

/// What a container is told of where to ask about itself, by the id that it alone has.
pub(crate) fn variables(id: &str) -> [(&'static str, String); 3] {
    [
        ("ECS_CONTAINER_METADATA_URI", format!("http://{ADDRESS}/v3/{id}")),
        ("ECS_CONTAINER_METADATA_URI_V4", format!("http://{ADDRESS}/v4/{id}")),
        ("ECS_AGENT_URI", format!("http://{ADDRESS}/api/{id}")),
    ]
}

/// How long to wait after the kernel refused a connection, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the host's network leads what containers ask at [`ADDRESS`].
#[derive(Debug)]
pub struct TaskEndpoint {
    pub listener: PlainListener,
    /// Where what containers have for the region arrives; `None` if they are to reach it otherwise or not at all.
    pub relay: Option<PlainListener>,
    /// The host's address towards tasks, which lies in one of their ranges.
    pub host: Ipv4Addr,
    /// Where tasks with addresses of their own have them.
    pub ranges: Vec<Cidr>,
    /// Whether neighbours of the host can send here, since no table keeps them away.
    pub is_open: bool,
}

impl TaskEndpoint {
    /// Whether a process in the host's own network may have this address.
    fn is_of_host(&self, address: Ipv4Addr) -> bool {
        address == self.host || !self.ranges.iter().any(|range| range.contains(address))
    }

    /// Whether anybody who has this address is to be heard: where the way here is open to neighbours of the host, tasks
    /// with addresses of their own, and processes of the host, which come here by the very address that they ask. That
    /// one the kernel takes from nobody else.
    pub(crate) fn hears(&self, from: IpAddr) -> bool {
        match from {
            _ if !self.is_open => true,
            IpAddr::V4(from) => {
                from == ADDRESS || self.ranges.iter().any(|range| range.contains(from))
            }
            IpAddr::V6(_) => false,
        }
    }

    /// Whether a connection may be of a process in the host's own network.
    pub(crate) fn may_be_of_host(&self, from: IpAddr) -> bool {
        match from {
            IpAddr::V4(from) => self.is_of_host(from),
            IpAddr::V6(_) => true,
        }
    }

    /// How many questions an address may ask a second.
    fn requests_max(&self, from: IpAddr) -> u32 {
        match from {
            IpAddr::V4(from) if self.is_of_host(from) => ENDPOINT_REQUESTS_OF_HOST_MAX,
            IpAddr::V4(_) | IpAddr::V6(_) => ENDPOINT_REQUESTS_OF_TASK_MAX,
        }
    }

    /// How many connections an address may have at a time.
    fn connections_max(&self, from: IpAddr) -> usize {
        match from {
            IpAddr::V4(from) if self.is_of_host(from) => ENDPOINT_CONNECTIONS_OF_HOST_MAX,
            IpAddr::V4(_) | IpAddr::V6(_) => ENDPOINT_CONNECTIONS_OF_TASK_MAX,
        }
    }
}

/// How many connections each address has.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<BTreeMap<IpAddr, usize>>);

impl Places {
    /// `None` if the address has as many as it may have.
    pub(crate) fn take(self: &Arc<Self>, from: IpAddr, max: usize) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(from).or_default();
        if max <= *count {
            return None;
        }
        *count += 1;
        Some(Place { from, places: Arc::clone(self) })
    }
}

/// One connection's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    from: IpAddr,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = taken.entry(self.from) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Answers containers, and never ends.
pub(crate) async fn serve(engine: Engine, endpoint: Arc<TaskEndpoint>) {
    let listener = match listen(&endpoint) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, "tasks cannot ask for their credentials");
            return std::future::pending().await;
        }
    };
    let (mut connections, shared) = (JoinSet::new(), Arc::new(Shared::default()));
    loop {
        while connections.len() >= ENDPOINT_CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((_, from)) if !endpoint.hears(from.ip()) => {
                debug!(from = %from.ip(), "neither a container nor the host asks");
            }
            Ok((stream, from)) => {
                let max = endpoint.connections_max(from.ip());
                let Some(place) = shared.places.take(from.ip(), max) else {
                    debug!(from = %from.ip(), "a container has too many connections");
                    continue;
                };
                let (engine, endpoint) = (engine.clone(), Arc::clone(&endpoint));
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let _place = place;
                    connection(&engine, &endpoint, &shared, stream, from).await;
                });
            }
            Err(error) => {
                warn!(%error, "failed to accept a container's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn listen(endpoint: &TaskEndpoint) -> io::Result<TcpListener> {
    let listener = endpoint.listener.try_clone()?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn connection(
    engine: &Engine,
    endpoint: &TaskEndpoint,
    shared: &Shared,
    stream: TcpStream,
    from: SocketAddr,
) {
    let server = Server { engine, endpoint, shared, from: from.ip(), port: from.port() };
    let service = service_fn(|request: Request<Incoming>| {
        let answer = server.answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let patience = Duration::from_millis(ENDPOINT_PATIENCE_MS);
    let mut http = http1::Builder::new();
    // Who has said all may have closed its side already.
    http.timer(TokioTimer::new()).header_read_timeout(patience).half_close(true);
    let served = http.serve_connection(TokioIo::new(stream), service);
    // A client asks once, or again on a connection that it keeps for a moment.
    if tokio::time::timeout(patience, served).await.is_err() {
        debug!(%from, "a container's connection was closed");
    }
}

/// Everything that a question is answered from.
pub(super) struct Server<'a> {
    pub(super) engine: &'a Engine,
    endpoint: &'a TaskEndpoint,
    shared: &'a Shared,
    /// Who asks.
    from: IpAddr,
    port: u16,
}

/// A container as operators are shown it.
pub(crate) fn container_shown(view: &TaskView, index: usize) -> Value {
    metadata::container(view, index, &metadata::Around::default(), Version::V4)
}

/// What is remembered from question to question.
#[derive(Debug, Default)]
struct Shared {
    places: Arc<Places>,
    rates: Rates,
    samples: stats::Samples,
    storage: facts::Measured,
}

impl Server<'_> {
    /// Whether a container of the task asks, and not another's.
    async fn is_asked_by(&self, view: &TaskView) -> bool {
        if !self.may_be_asked_by(view) {
            return false;
        }
        match seen_as(&view.state) {
            Some(_) => self.behind().await.is_some_and(|address| has_address(view, address)),
            None => true,
        }
    }

    /// The same, as far as the address tells that it is seen by.
    fn may_be_asked_by(&self, view: &TaskView) -> bool {
        match self.from {
            IpAddr::V4(from) => is_at(&view.spec, &view.state, self.endpoint, from),
            IpAddr::V6(_) => false,
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let max = self.endpoint.requests_max(self.from);
        if !self.shared.rates.admit(self.from, max, self.engine.context().clock.now()) {
            return respond(StatusCode::TOO_MANY_REQUESTS, &json!("Too many requests"));
        }
        let Some(asked) = Asked::read(&parts.uri) else { return not_found() };
        let may_change = matches!(asked, Asked::Protection { .. }) && parts.method == Method::PUT;
        if parts.method != Method::GET && !may_change {
            return not_found();
        }
        match asked {
            Asked::Credentials { id, version } => credentials::answer(self, id, version).await,
            Asked::Own { version, id, what } => match self.owner(id).await {
                Some((view, index)) => self.describe(&view, Some(index), what, version).await,
                None => unknown(version, id),
            },
            Asked::ByAddress(what) => match self.task_at().await {
                Some(view) => self.describe(&view, None, what, Version::V2).await,
                None => {
                    respond(StatusCode::NOT_FOUND, &json!("Unable to get task for this address"))
                }
            },
            Asked::Protection { id } => {
                let Some((view, _)) = self.owner(id).await else { return unknown(Version::V4, id) };
                let Ok(body) = Limited::new(body, ENDPOINT_BODY_BYTES_MAX).collect().await else {
                    return respond(StatusCode::PAYLOAD_TOO_LARGE, &json!("Request too large"));
                };
                protection::answer(self, &view, &parts.method, &body.to_bytes()).await
            }
        }
    }

    /// The container that was told this id, if it is its task that asks.
    async fn owner(&self, id: &str) -> Option<(TaskView, usize)> {
        let (view, index) = self.engine.owner_of(id)?;
        self.is_asked_by(&view).await.then_some((view, index))
    }

    /// The task whose own interface the question comes from.
    async fn task_at(&self) -> Option<TaskView> {
        let mut views = self.engine.views();
        views.retain(|view| view.spec.eni.is_some() && self.may_be_asked_by(view));
        let is_shared = views.iter().any(|view| seen_as(&view.state).is_some());
        let behind = if is_shared { Some(self.behind().await?) } else { None };
        views.into_iter().find(|view| behind.is_none_or(|address| has_address(view, address)))
    }

    /// The address of who asks in its VPC, where tasks of one are seen by an address that they share: its router knows.
    async fn behind(&self) -> Option<Ipv4Addr> {
        let IpAddr::V4(from) = self.from else { return None };
        let (from, to) = (SocketAddrV4::new(from, self.port), SocketAddrV4::new(ADDRESS, PORT));
        let found = self.engine.context().networks.behind(from, to).await;
        found.unwrap_or_else(|error| {
            warn!(%from, error = %Chain(&error), "a VPC's router does not say who asks");
            None
        })
    }

    async fn describe(
        &self,
        view: &TaskView,
        own: Option<usize>,
        what: What<'_>,
        version: Version,
    ) -> Response<Full<Bytes>> {
        let context = self.engine.context();
        let samples = &self.shared.samples;
        let named = |id: Option<&str>| {
            let by_id = |id| view.state.containers.iter().position(|it| it.runtime_id == id);
            id.map_or(own, by_id)
        };
        let missing = |id: Option<&str>| {
            let text = format!("Unable to find container: {}", id.unwrap_or_default());
            respond(StatusCode::NOT_FOUND, &json!(text))
        };
        match what {
            What::Container(id) => match named(id) {
                Some(index) => {
                    let around = facts::of_containers(context, view);
                    respond(StatusCode::OK, &metadata::container(view, index, &around, version))
                }
                None => missing(id),
            },
            What::ContainerStats(id) => match named(id) {
                Some(index) => {
                    let stats = stats::of_container(context, samples, view, index).await;
                    respond(StatusCode::OK, &stats.unwrap_or(Value::Null))
                }
                None => missing(id),
            },
            What::Task { with_tags } => {
                let around = facts::of_task(context, &self.shared.storage, view, with_tags).await;
                respond(StatusCode::OK, &metadata::task(view, &around, version))
            }
            What::TaskStats => {
                respond(StatusCode::OK, &stats::of_task(context, samples, view).await)
            }
            What::Associations { kind, name } => {
                let gpus = match kind {
                    "gpu" => own.map_or(&[][..], |own| view.spec.containers[own].gpus.as_slice()),
                    _ => &[],
                };
                let Some(name) = name else {
                    return respond(StatusCode::OK, &json!({ "Associations": gpus }));
                };
                if gpus.iter().any(|id| id == name) {
                    return respond(StatusCode::OK, &json!(name));
                }
                let text = format!("Unable to find association {name} of type {kind}");
                respond(StatusCode::NOT_FOUND, &json!(text))
            }
        }
    }
}

fn not_found() -> Response<Full<Bytes>> {
    respond(StatusCode::NOT_FOUND, &json!("404 page not found"))
}

fn unknown(version: Version, id: &str) -> Response<Full<Bytes>> {
    let version = match version {
        Version::V2 => "V2",
        Version::V3 => "V3",
        Version::V4 => "V4",
    };
    let text = format!(
        "{version} metadata handler: unable to get container for {id}: no container of the task that asks has \
         this id"
    );
    respond(StatusCode::NOT_FOUND, &json!(text))
}

fn respond(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The address that a task shares with others of its VPC, by which the agent sees it.
fn seen_as(state: &TaskState) -> Option<Ipv4Addr> {
    state.prepared.as_ref()?.seen_as
}

fn is_at(spec: &TaskSpec, state: &TaskState, endpoint: &TaskEndpoint, from: Ipv4Addr) -> bool {
    // The addresses of what has stopped may be another's by now.
    if state.is_all_stopped() {
        return false;
    }
    if let Some(eni) = &spec.eni {
        // Of a VPC with addresses of its own, another VPC's tasks may have the same one.
        return seen_as(state).unwrap_or(eni.address) == from;
    }
    spec.containers.iter().zip(&state.containers).any(|(container, state)| {
        match container.network {
            NetworkMode::Bridge => state.address == Some(from),
            NetworkMode::Host => endpoint.is_of_host(from),
            NetworkMode::Awsvpc | NetworkMode::None => false,
        }
    })
}

/// Whether a task has this address in its VPC.
fn has_address(view: &TaskView, address: Ipv4Addr) -> bool {
    view.spec.eni.as_ref().is_some_and(|eni| eni.address == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 9);

    fn endpoint() -> TaskEndpoint {
        TaskEndpoint {
            listener: PlainListener::bind("127.0.0.1:0").unwrap(),
            relay: None,
            host: "172.30.0.1".parse().unwrap(),
            ranges: vec!["172.31.0.0/16".parse().unwrap(), "172.30.0.0/16".parse().unwrap()],
            is_open: false,
        }
    }

    fn task(mode: &str) -> (TaskSpec, TaskState) {
        let mut task = json!({
            "arn": "arn:aws:ecs:us-east-1:000000000000:task/demo/00112233445566778899aabbccddeeff",
            "networkMode": mode,
            "containers": [{ "name": "web", "image": "hello:1", "essential": true }],
        });
        if mode == "awsvpc" {
            task["elasticNetworkInterfaces"] = json!([{
                "ec2Id": "eni-0123456789abcdef0", "macAddress": "0a:00:00:00:00:01",
                "ipv4Addresses": [{ "privateAddress": OWN, "primary": true }],
                "subnetGatewayIpv4Address": "172.31.0.1/20",
            }]);
        }
        let spec = crate::spec::parse(&serde_json::from_value(task).unwrap()).unwrap();
        let state = TaskState::new(&spec, || 7);
        (spec, state)
    }

    #[test]
    fn credentials_are_for_who_asks_from_an_address_of_the_task() {
        let endpoint = endpoint();
        let other = Ipv4Addr::new(172, 31, 0, 10);
        let (spec, mut state) = task("awsvpc");
        assert!(is_at(&spec, &state, &endpoint, OWN));
        assert!(!is_at(&spec, &state, &endpoint, other));
        state.containers[0].phase = crate::engine::state::Phase::Stopped;
        assert!(!is_at(&spec, &state, &endpoint, OWN), "it may be another's by now");

        let (spec, mut state) = task("awsvpc");
        let router = Ipv4Addr::new(172, 30, 0, 77);
        let prepared =
            crate::engine::state::Prepared { seen_as: Some(router), ..Default::default() };
        state.prepared = Some(prepared);
        assert!(is_at(&spec, &state, &endpoint, router));
        assert!(!is_at(&spec, &state, &endpoint, OWN), "which may be a task's of another VPC");

        let (spec, mut state) = task("bridge");
        assert!(!is_at(&spec, &state, &endpoint, OWN), "it has no address yet");
        state.containers[0].address = Some(OWN);
        assert!(is_at(&spec, &state, &endpoint, OWN));

        let (spec, state) = task("host");
        assert!(!is_at(&spec, &state, &endpoint, OWN));
        for host in ["172.30.0.1", "192.168.7.7"] {
            assert!(is_at(&spec, &state, &endpoint, host.parse().unwrap()), "{host}");
        }
    }

    #[test]
    fn where_neighbours_can_send_they_are_not_heard() {
        let closed = endpoint();
        let open = TaskEndpoint { is_open: true, ..endpoint() };
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        for own in ["172.30.0.9", "172.31.0.9", "172.30.0.1", "169.254.170.2"] {
            assert!(open.hears(of(own)), "{own}");
        }
        // Of another bridge of the same engine, of the network around the host, and of the host by another of its addresses.
        for other in ["172.18.0.2", "192.168.7.7", "127.0.0.1", "169.254.170.3", "::1"] {
            assert!(!open.hears(of(other)), "{other}");
            assert!(closed.hears(of(other)), "{other}");
        }
    }

    #[test]
    fn one_address_has_a_few_connections_and_leaves_the_others_theirs() {
        let (endpoint, places) = (endpoint(), Arc::new(Places::default()));
        let [own, other] = [OWN.into(), IpAddr::from([172, 31, 0, 10])];
        let take = |from| places.take(from, endpoint.connections_max(from));
        let mut held: Vec<Place> = std::iter::from_fn(|| take(own)).collect();
        assert_eq!(held.len(), 16);
        assert!(take(other).is_some());
        held.pop();
        assert!(take(own).is_some());
        held.clear();
        assert!(places.0.lock().unwrap().is_empty());
        let host = IpAddr::V4(endpoint.host);
        assert_eq!(std::iter::from_fn(|| take(host)).collect::<Vec<_>>().len(), 512);
    }
}
