//! What containers ask their agent at 169.254.170.2: the credentials of their task's role.
//!
//! **Invariant:** credentials are given to the containers of their own task alone: who knows the path must also
//! ask from an address of the task, which the host's network does not let anybody else claim.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener as PlainListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acs::RoleCredentials;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use longshore_types::Cidr;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::engine::state::TaskState;
use crate::engine::{Engine, TaskView};
use crate::limits::{
    ENDPOINT_CONNECTIONS_MAX, ENDPOINT_CONNECTIONS_OF_HOST_MAX, ENDPOINT_CONNECTIONS_OF_TASK_MAX,
    ENDPOINT_PATIENCE_MS,
};
use crate::spec::{NetworkMode, TaskSpec};

/// Where containers reach it.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
pub const PORT: u16 = 80;

/// What Amazon's SDKs look for in the environment, and the path in it up to the credentials' id.
pub(crate) const CREDENTIALS_VARIABLE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
pub(crate) const CREDENTIALS_PATH: &str = "/v2/credentials/";
const CREDENTIALS_PATH_1: &str = "/v1/credentials";

/// How long to wait after the kernel refused a connection, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the host's network leads what containers ask at [`ADDRESS`].
#[derive(Debug)]
pub struct TaskEndpoint {
    pub listener: PlainListener,
    /// The host's address towards tasks, which lies in one of their ranges.
    pub host: Ipv4Addr,
    /// Where tasks with addresses of their own have them.
    pub ranges: Vec<Cidr>,
}

impl TaskEndpoint {
    /// Whether a process in the host's own network may have this address.
    fn is_of_host(&self, address: Ipv4Addr) -> bool {
        address == self.host || !self.ranges.iter().any(|range| range.contains(address))
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
struct Places(Mutex<BTreeMap<IpAddr, usize>>);

impl Places {
    /// `None` if the address has as many as it may have.
    fn take(self: &Arc<Self>, from: IpAddr, max: usize) -> Option<Place> {
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
struct Place {
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
    let (mut connections, places) = (JoinSet::new(), Arc::new(Places::default()));
    loop {
        while connections.len() >= ENDPOINT_CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, from)) => {
                let Some(place) = places.take(from.ip(), endpoint.connections_max(from.ip()))
                else {
                    debug!(from = %from.ip(), "a container has too many connections");
                    continue;
                };
                let (engine, endpoint) = (engine.clone(), Arc::clone(&endpoint));
                connections.spawn(async move {
                    let _place = place;
                    connection(&engine, &endpoint, stream, from.ip()).await;
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

async fn connection(engine: &Engine, endpoint: &TaskEndpoint, stream: TcpStream, from: IpAddr) {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(answer(engine, endpoint, from, request.method(), request.uri()))
    });
    let patience = Duration::from_millis(ENDPOINT_PATIENCE_MS);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience);
    let served = http.serve_connection(TokioIo::new(stream), service);
    // A client asks once, or again on a connection that it keeps for a moment.
    if tokio::time::timeout(patience, served).await.is_err() {
        debug!(%from, "a container's connection was closed");
    }
}

fn answer(
    engine: &Engine,
    endpoint: &TaskEndpoint,
    from: IpAddr,
    method: &Method,
    uri: &Uri,
) -> Response<Full<Bytes>> {
    let Some(asked) = Asked::read(uri).filter(|_| *method == Method::GET) else {
        return respond(StatusCode::NOT_FOUND, &json!("404 page not found"));
    };
    let found = engine.named(asked.id).filter(|(view, _)| is_asked_by(view, endpoint, from));
    match found {
        _ if asked.id.is_empty() => asked.refuse("NoIdInRequest", "No Credential ID in the request"),
        None => asked.refuse("InvalidIdInRequest", "Credentials not found"),
        Some((view, role)) => match role {
            Some(role) if !role.access_key_id.is_empty() => {
                debug!(task = %view.spec.arn, role = role.role_arn, "credentials given");
                respond(StatusCode::OK, &shown(&role))
            }
            Some(role) => asked.refuse(
                "CredentialsUninitialized",
                &format!(
                    "Credentials uninitialized for ID: ECS was unable to assume the role '{}' that was \
                     provided for this task: there is no such role",
                    role.role_arn
                ),
            ),
            None => asked.refuse("CredentialsUninitialized", "Credentials uninitialized for ID"),
        },
    }
}

fn shown(role: &RoleCredentials) -> Value {
    json!({
        "RoleArn": role.role_arn,
        "AccessKeyId": role.access_key_id,
        "SecretAccessKey": role.secret_access_key.reveal(),
        "Token": role.session_token.reveal(),
        "Expiration": role.expiration,
    })
}

/// A request for credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked<'a> {
    id: &'a str,
    version: u8,
}

impl<'a> Asked<'a> {
    fn read(uri: &'a Uri) -> Option<Self> {
        let path = uri.path();
        if path == CREDENTIALS_PATH_1 {
            let query = uri.query().unwrap_or_default();
            let id = query.split('&').find_map(|pair| pair.strip_prefix("id="));
            return Some(Self { id: id.unwrap_or_default(), version: 1 });
        }
        let id = path
            .strip_prefix(CREDENTIALS_PATH)
            .or_else(|| (path == CREDENTIALS_PATH.trim_end_matches('/')).then_some(""))?;
        Some(Self { id, version: 2 })
    }

    /// As Amazon's agent words it.
    fn refuse(self, code: &str, message: &str) -> Response<Full<Bytes>> {
        let status = match code {
            "CredentialsUninitialized" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        let body = json!({
            "code": code,
            "message": format!("CredentialsV{}Request: {message}", self.version),
            "HTTPErrorCode": status.as_u16(),
        });
        respond(status, &body)
    }
}

fn respond(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Whether a container of the task asks, and not another's.
fn is_asked_by(view: &TaskView, endpoint: &TaskEndpoint, from: IpAddr) -> bool {
    match from {
        IpAddr::V4(from) => is_at(&view.spec, &view.state, endpoint, from),
        IpAddr::V6(_) => false,
    }
}

fn is_at(spec: &TaskSpec, state: &TaskState, endpoint: &TaskEndpoint, from: Ipv4Addr) -> bool {
    // The addresses of what has stopped may be another's by now.
    if state.is_all_stopped() {
        return false;
    }
    if let Some(eni) = &spec.eni {
        return eni.address == from;
    }
    spec.containers.iter().zip(&state.containers).any(|(container, state)| {
        match container.network {
            NetworkMode::Bridge => state.address == Some(from),
            NetworkMode::Host => endpoint.is_of_host(from),
            NetworkMode::Awsvpc | NetworkMode::None => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 9);

    fn endpoint() -> TaskEndpoint {
        TaskEndpoint {
            listener: PlainListener::bind("127.0.0.1:0").unwrap(),
            host: "172.30.0.1".parse().unwrap(),
            ranges: vec!["172.31.0.0/16".parse().unwrap(), "172.30.0.0/16".parse().unwrap()],
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

    #[test]
    fn ids_are_read_from_either_path() {
        let read = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            Asked::read(&uri).map(|asked| (asked.id.to_owned(), asked.version))
        };
        assert_eq!(read("/v2/credentials/a-1"), Some(("a-1".to_owned(), 2)));
        assert_eq!(read("/v1/credentials?id=a-1"), Some(("a-1".to_owned(), 1)));
        for nothing in ["/v2/credentials/", "/v2/credentials"] {
            assert_eq!(read(nothing), Some((String::new(), 2)), "{nothing}");
        }
        assert_eq!(read("/v2/metadata"), None);
    }
}
