//! What Amazon's agent tells operators of its host on port 51678: who it is, and which tasks it has.
//!
//! **Invariant:** nothing here lets anybody act as a task: the ids that containers ask the agent by are not shown.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::endpoint::container_shown;
use crate::engine::state::{Desired, Status};
use crate::engine::{Engine, TaskView};
use crate::limits::{ENDPOINT_PATIENCE_MS, INTROSPECTION_CONNECTIONS_MAX};

/// Where Amazon's agent is asked.
pub const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 51678);

/// Answers operators, for ever. Where another agent of this machine answers already, it is left to it.
pub(crate) async fn serve(engine: &Engine, address: SocketAddr) -> Infallible {
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            info!(%address, %error, "introspection not served");
            return std::future::pending().await;
        }
    };
    let mut connections = JoinSet::new();
    loop {
        while INTROSPECTION_CONNECTIONS_MAX <= connections.len() {
            connections.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let engine = engine.clone();
                connections.spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        let answer = answer(&engine, &request);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let patience = Duration::from_millis(ENDPOINT_PATIENCE_MS);
                    let mut http = http1::Builder::new();
                    http.timer(TokioTimer::new()).header_read_timeout(patience);
                    let served = http.serve_connection(TokioIo::new(stream), service);
                    // Who keeps a connection asks anew.
                    let _ = tokio::time::timeout(patience, served).await;
                });
            }
            Err(error) => {
                warn!(%error, "failed to accept a connection for introspection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn answer(engine: &Engine, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/metadata") => (StatusCode::OK, about(engine)),
        (&Method::GET, "/v1/tasks") => {
            tasks(&engine.views(), request.uri().query().unwrap_or_default())
        }
        (&Method::GET, _) => {
            (StatusCode::OK, json!({ "AvailableCommands": ["/v1/metadata", "/v1/tasks"] }))
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, json!("only GET is understood")),
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn about(engine: &Engine) -> Value {
    let instance = engine.context().instance.get();
    json!({
        "Cluster": instance.as_ref().map(|instance| instance.cluster.clone()).unwrap_or_default(),
        "ContainerInstanceArn": instance.map(|instance| instance.arn),
        "Version": format!("Longshore Agent - v{}", crate::AGENT_VERSION),
    })
}

/// All tasks, or the one that is named by its ARN, or by a container's id or the beginning of it.
fn tasks(views: &[TaskView], query: &str) -> (StatusCode, Value) {
    let given = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.filter(|(key, _)| *key == name).map(|(_, value)| decoded(value)).next();
        found.filter(|value| !value.is_empty())
    };
    let found = match (given("taskarn"), given("dockerid")) {
        (None, None) => {
            let all: Vec<Value> = views.iter().map(task).collect();
            return (StatusCode::OK, json!({ "Tasks": all }));
        }
        (Some(_), Some(_)) => {
            let why = "Request contains both dockerid and taskarn but expect at most one of these";
            return (StatusCode::BAD_REQUEST, json!(why));
        }
        (Some(arn), None) => views.iter().find(|view| view.spec.arn.to_string() == arn),
        (None, Some(id)) => {
            let mut having = views.iter().filter(|view| {
                view.state.containers.iter().any(|each| each.runtime_id.starts_with(&id))
            });
            // One that fits several names none.
            having.next().filter(|_| having.next().is_none())
        }
    };
    match found {
        Some(view) => (StatusCode::OK, task(view)),
        None => {
            let nothing = json!({ "Arn": "", "DesiredStatus": "", "KnownStatus": "", "Family": "",
                "Version": "", "Containers": null });
            (StatusCode::NOT_FOUND, nothing)
        }
    }
}

/// ARNs come with their colons and slashes escaped, or not.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        let escaped = (*first == b'%').then(|| more.get(..2)).flatten();
        let escaped = escaped.and_then(|two| std::str::from_utf8(two).ok());
        match escaped.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn task(view: &TaskView) -> Value {
    let known = view.state.reported.map_or("PENDING", Status::as_str);
    let desired = match view.state.desired {
        Desired::Running => "RUNNING",
        Desired::Stopped => "STOPPED",
    };
    let containers = (0..view.spec.containers.len()).map(|index| container(view, index));
    json!({
        "Arn": view.spec.arn.to_string(),
        "DesiredStatus": desired,
        "KnownStatus": known,
        "Family": view.spec.family,
        "Version": view.spec.version,
        "Containers": containers.collect::<Vec<Value>>(),
    })
}

/// What Amazon's agent shows of a container here. Its labels, what its health check says and its log options, which
/// may have a token in them, are its own task's alone: tasks in `host` mode ask here too.
fn container(view: &TaskView, index: usize) -> Value {
    const SHOWN: [&str; 10] = [
        "DockerId",
        "Name",
        "DockerName",
        "Image",
        "ImageID",
        "CreatedAt",
        "StartedAt",
        "Ports",
        "Networks",
        "Volumes",
    ];
    let mut all = container_shown(view, index);
    if let Some(members) = all.as_object_mut() {
        members.retain(|name, _| SHOWN.contains(&&**name));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::state::TaskState;

    fn view(id: char) -> TaskView {
        let id: String = std::iter::repeat_n(id, 32).collect();
        let task = json!({
            "arn": format!("arn:aws:ecs:us-east-1:000000000000:task/demo/{id}"),
            "family": "web", "version": "3",
            "containers": [{ "name": "web", "image": "hello:1", "essential": true,
                "dockerConfig": {
                    "config": json!({ "Labels": { "a": "label-text" } }).to_string(),
                    "hostConfig": json!({ "LogConfig": { "Type": "splunk",
                        "Config": { "splunk-token": "token-text" } } }).to_string(),
                } }],
        });
        let spec = crate::spec::parse(&serde_json::from_value(task).unwrap()).unwrap();
        let state = TaskState::new(&spec, || 7);
        TaskView { spec: Arc::new(spec), state: Arc::new(state) }
    }

    #[test]
    fn a_task_is_found_by_its_arn_and_by_the_beginning_of_a_containers_id() {
        let views = [view('a'), view('b')];
        let (status, all) = tasks(&views, "");
        assert_eq!((status, all["Tasks"].as_array().unwrap().len()), (StatusCode::OK, 2));
        let arn = views[1].spec.arn.to_string();
        for query in [format!("taskarn={arn}"), arn.replace(':', "%3A"), "dockerid=bb".to_owned()] {
            let query = if query.contains("%3A") { format!("taskarn={query}") } else { query };
            let (status, found) = tasks(&views, &query);
            assert_eq!((status, found["Arn"].as_str()), (StatusCode::OK, Some(&*arn)), "{query}");
        }
        for query in ["taskarn=arn:x", "dockerid=c"] {
            assert_eq!(tasks(&views, query).0, StatusCode::NOT_FOUND, "{query}");
        }
        let both = tasks(&views, "taskarn=a&dockerid=b");
        assert_eq!(both.0, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn what_containers_ask_by_is_not_shown_nor_what_may_be_secret() {
        let view = view('a');
        let own = view.state.containers[0].endpoint_id.clone();
        assert_eq!(own.len(), 32);
        let (_, shown) = tasks(&[view], "");
        assert!(!shown.to_string().contains(&own), "{shown}");
        assert_eq!(shown["Tasks"][0]["Containers"][0]["Name"], "web");
        for hidden in ["label-text", "token-text"] {
            assert!(!shown.to_string().contains(hidden), "{shown}");
        }
    }
}
