//! The work socket against a region that exists only in this test.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use longshore_types::{SeededEnv, Token};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use trust::Trust;

use super::Acs;
use crate::client::{Api, ApiConfig, FixedCredentials, RegionLink};
use crate::engine::state::Status;
use crate::engine::{Context, CredentialsBook, Engine};
use crate::fakes::{FakeImages, FakeNetworks, FakeRegion, FakeRuntime, TestClock};
use crate::logdriver::LogShipping;
use crate::poll::PollEndpoint;
use crate::register::Registered;
use crate::sequence::Sequence;
use crate::state_dir::{InstanceRecord, StateDir};

const INSTANCE: &str =
    "arn:aws:ecs:us-east-1:000000000000:container-instance/demo/00112233445566778899aabbccddeeff";

type Server = WebSocketStream<TcpStream>;

struct Rig {
    _dir: tempfile::TempDir,
    dirs: StateDir,
    listener: TcpListener,
    region: FakeRegion,
    networks: FakeNetworks,
    engine: Engine,
    acs: tokio::task::JoinHandle<()>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.acs.abort();
    }
}

fn task_arn(number: u32) -> String {
    format!("arn:aws:ecs:us-east-1:000000000000:task/demo/{number:032x}")
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let dirs = StateDir::open(dir.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let clock: Arc<dyn longshore_types::Clock> = Arc::new(TestClock);
        let ids: Arc<dyn longshore_types::IdSource> = Arc::new(SeededEnv::from_seed(1));
        let credentials = aws_wire::sigv4::Credentials {
            access_key: "AKID".into(),
            secret: Token::from_text("secret".into()),
            session_token: None,
        };
        let config = ApiConfig {
            endpoint: endpoint.parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            trust: Trust::system(),
            log_endpoints: Vec::new(),
            runtime: crate::OWN_RUNTIME.to_owned(),
        };
        let credentials = Arc::new(FixedCredentials(credentials));
        let api = Api::new(config, credentials, Arc::clone(&clock));
        let (runtime, region) = (FakeRuntime::default(), FakeRegion::default());
        let networks = FakeNetworks::default();
        let logs = LogShipping::new(
            Arc::new(runtime.clone()),
            Arc::new(region.clone()),
            Arc::clone(&clock),
            dirs.clone(),
        );
        let context = Context {
            runtime: Arc::new(runtime),
            images: Arc::new(FakeImages::default()),
            networks: Arc::new(networks.clone()),
            region: Arc::new(region.clone()),
            logs: Arc::new(logs),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            dirs: dirs.clone(),
            region_name: "us-east-1".parse().unwrap(),
            region_for_tasks: None,
            credentials: CredentialsBook::default(),
            secrets: crate::engine::SecretsBook::default(),
            objects: crate::engine::ObjectsBook::default(),
            task_limits: crate::TaskLimits::default(),
            gpus: crate::Gpus::default(),
            answers_containers: true,
            instance: crate::engine::InstanceBook::default(),
            lease: crate::lease::HostLease::new(Some(dir.path().join("lease")), Arc::clone(&ids)),
            owners: crate::engine::OwnersBook::default(),
            starts: Semaphore::new(4),
            changed: Notify::new(),
        };
        let engine = Engine::open(Arc::new(context)).await;
        let instance = Registered { arn: INSTANCE.to_owned(), cluster: "demo".to_owned() };
        let poll = PollEndpoint::new(api.clone(), instance.clone(), Arc::clone(&clock));
        poll.learn(&endpoint);
        let acs = Acs {
            sharing: None,
            link: Arc::new(RegionLink::new(api.clone(), "demo".into(), Arc::clone(&ids))),
            api,
            engine: engine.clone(),
            instance,
            poll: Arc::new(poll),
            sequence: Arc::new(Sequence::new(dirs.clone(), InstanceRecord::default())),
            clock,
            ids,
            heartbeat: Arc::new(Notify::new()),
            is_inactive: Arc::new(AtomicBool::new(false)),
        };
        let acs = tokio::spawn(super::run(acs));
        Self { _dir: dir, dirs, listener, region, networks, engine, acs }
    }

    /// The agent's next socket, and the query it came with.
    #[expect(clippy::result_large_err, reason = "the handshake's own type")]
    async fn socket(&self) -> (Server, String) {
        let mut stream = within(self.listener.accept()).await.unwrap().0;
        let mut first = [0; 4];
        while within(stream.peek(&mut first)).await.unwrap() == 4 && first == *b"POST" {
            // It asks where the sockets are; without an answer it stays with what it knew.
            let refusal = b"HTTP/1.1 400 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(refusal).await.unwrap();
            stream = within(self.listener.accept()).await.unwrap().0;
        }
        let mut query = String::new();
        let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            query = request.uri().query().unwrap_or_default().to_owned();
            assert_eq!(request.uri().path(), "/ws");
            let signature = request.headers().get("authorization").unwrap().to_str().unwrap();
            assert!(signature.contains("SignedHeaders=host;x-amz-date"), "{signature}");
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(stream, look).await.unwrap();
        (socket, query)
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("nothing for ten seconds")
}

async fn send(socket: &mut Server, kind: &str, message: Value) {
    let text = json!({ "type": kind, "message": message }).to_string();
    socket.send(Message::text(text)).await.unwrap();
}

async fn frame(socket: &mut Server) -> Message {
    within(socket.next()).await.unwrap().unwrap()
}

/// The next message; pings may come at any time.
async fn hear(socket: &mut Server) -> (String, Value) {
    let next = loop {
        let next = frame(socket).await;
        if !next.is_ping() {
            break next;
        }
    };
    let value: Value = serde_json::from_str(next.to_text().unwrap()).unwrap();
    (value["type"].as_str().unwrap().to_owned(), value["message"].clone())
}

/// Nothing is said until the answer to a heartbeat.
async fn is_silent(socket: &mut Server) -> bool {
    send(socket, "HeartbeatMessage", json!({ "messageId": "probe", "healthy": true })).await;
    hear(socket).await.0 == "HeartbeatAckRequest"
}

fn message(id: &str, rest: Value) -> Value {
    let mut message = json!({
        "messageId": id, "clusterArn": "demo", "containerInstanceArn": INSTANCE });
    message.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    message
}

fn payload(id: &str, number: u32, sequence: i64) -> Value {
    let container =
        json!({ "name": "web", "image": "hello", "command": ["web"], "essential": true });
    let task = json!({ "arn": task_arn(number), "family": "hello", "version": "1",
        "desiredStatus": "RUNNING", "containers": [container],
        "roleCredentials": { "credentialsId": "c1", "expiration": "2030-01-01T00:00:00Z" } });
    message(id, json!({ "tasks": [task], "seqNum": sequence }))
}

async fn run_one(socket: &mut Server, number: u32, sequence: i64) {
    send(socket, "PayloadMessage", payload("p", number, sequence)).await;
    assert_eq!(hear(socket).await.0, "AckRequest");
    assert_eq!(hear(socket).await.0, "IAMRoleCredentialsAckRequest");
}

#[tokio::test]
async fn a_heartbeat_is_answered_and_the_query_says_who_we_are() {
    let rig = Rig::new().await;
    let (mut socket, query) = rig.socket().await;
    assert!(
        query.contains("sendCredentials=true") && query.contains("protocolVersion=2"),
        "{query}"
    );
    send(&mut socket, "HeartbeatMessage", json!({ "messageId": "h1", "healthy": true })).await;
    let (kind, ack) = hear(&mut socket).await;
    assert_eq!((kind.as_str(), &ack["messageId"]), ("HeartbeatAckRequest", &json!("h1")));
    drop(socket);
    let (_, query) = rig.socket().await;
    assert!(query.contains("sendCredentials=false"), "{query}");
}

#[tokio::test]
async fn security_groups_are_in_force_when_they_are_acknowledged_and_not_before_all_is_said() {
    let rig = Rig::new().await;
    let (mut socket, _) = rig.socket().await;
    let known = || rig.networks.groups.lock().unwrap().keys().cloned().collect::<Vec<_>>();
    let group = |id: &str| {
        json!({ "id": id, "ingress": [], "egress": [
        { "traffic": { "Tcp": { "start": 80, "end": 81 } }, "peer": { "Group": id } }] })
    };
    let news = |id: &str, group: Value, is_whole: bool, is_more: bool| {
        let body = json!({ "version": 7, "isWhole": is_whole, "isMore": is_more,
            "securityGroups": [group] });
        message(id, body)
    };
    let kind = "LongshoreHostNetworkMessage";
    send(&mut socket, kind, news("n1", group("sg-00000001"), true, true)).await;
    assert_eq!(hear(&mut socket).await.0, "AckRequest");
    assert_eq!(known(), Vec::<String>::new(), "there is more to come");
    send(&mut socket, kind, news("n2", group("sg-00000002"), true, false)).await;
    let (answer, ack) = hear(&mut socket).await;
    assert_eq!((answer.as_str(), &ack["messageId"]), ("AckRequest", &json!("n2")));
    assert_eq!(known(), ["sg-00000001", "sg-00000002"]);
    send(&mut socket, kind, news("n3", group("sg-00000003"), false, false)).await;
    assert_eq!(hear(&mut socket).await.0, "AckRequest");
    assert_eq!(known().len(), 3, "a change leaves the others");
    send(&mut socket, kind, news("n4", json!({ "id": "no id" }), false, false)).await;
    let (answer, refusal) = hear(&mut socket).await;
    assert_eq!((answer.as_str(), &refusal["messageId"]), ("NackRequest", &json!("n4")));
}

#[tokio::test]
async fn a_payload_runs_and_is_acknowledged_once_it_is_on_disk_and_again_when_it_is_resent() {
    let rig = Rig::new().await;
    let (mut socket, _) = rig.socket().await;
    for _ in 0..2 {
        send(&mut socket, "PayloadMessage", payload("p1", 1, 9)).await;
        let (kind, ack) = hear(&mut socket).await;
        assert_eq!(kind, "AckRequest");
        assert_eq!(
            ack,
            json!({ "cluster": "demo", "containerInstance": INSTANCE, "messageId": "p1" })
        );
        let (kind, ack) = hear(&mut socket).await;
        assert_eq!(
            (kind.as_str(), &ack["credentialsId"]),
            ("IAMRoleCredentialsAckRequest", &json!("c1"))
        );
        assert_eq!(rig.dirs.load_tasks().unwrap().0.len(), 1);
        assert_eq!(rig.dirs.load_instance().unwrap().sequence, 9);
    }
    assert_eq!(rig.engine.views().len(), 1);
}

#[tokio::test]
async fn a_message_with_an_unreadable_task_is_not_acknowledged_though_its_others_run() {
    let rig = Rig::new().await;
    let (mut socket, _) = rig.socket().await;
    let mut message = payload("p1", 1, 1);
    message["tasks"][0].as_object_mut().unwrap().remove("roleCredentials");
    let bad = json!({ "arn": task_arn(2), "containers": 7 });
    message["tasks"].as_array_mut().unwrap().push(bad);
    send(&mut socket, "PayloadMessage", message).await;
    assert!(is_silent(&mut socket).await);
    assert_eq!(rig.engine.wanted().len(), 1);
    let stopped = rig.region.reported().into_iter().find(|event| event.status == Status::Stopped);
    assert!(stopped.is_none_or(|event| event.reason.starts_with("UnrecogniedTaskError")));
}

#[tokio::test]
async fn what_a_manifest_does_not_list_is_offered_and_stopped_once_confirmed() {
    let rig = Rig::new().await;
    let (mut socket, _) = rig.socket().await;
    run_one(&mut socket, 1, 3).await;
    run_one(&mut socket, 2, 4).await;
    let listed = json!([{ "taskArn": task_arn(1), "desiredStatus": "RUNNING" }]);
    // Not above what was seen: ignored without an acknowledgement.
    send(
        &mut socket,
        "TaskManifestMessage",
        message("m0", json!({ "timeline": 4, "tasks": listed })),
    )
    .await;
    assert!(is_silent(&mut socket).await);
    send(
        &mut socket,
        "TaskManifestMessage",
        message("m1", json!({ "timeline": 5, "tasks": listed })),
    )
    .await;
    assert_eq!(hear(&mut socket).await.0, "AckRequest");
    let (kind, offer) = hear(&mut socket).await;
    assert_eq!(kind, "TaskStopVerificationMessage");
    assert_eq!(offer["stopCandidates"][0]["taskArn"], json!(task_arn(2)));
    let all = json!([{ "taskArn": task_arn(2) }, { "taskArn": task_arn(1) }]);
    send(&mut socket, "TaskStopVerificationAck", json!({ "messageId": "m0", "stopTasks": all }))
        .await;
    assert!(is_silent(&mut socket).await);
    assert_eq!(rig.engine.wanted().len(), 2, "another manifest's confirmation");
    send(&mut socket, "TaskStopVerificationAck", json!({ "messageId": "m1", "stopTasks": all }))
        .await;
    for _ in 0..1_000 {
        if rig.engine.wanted().len() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Only what was offered is stopped.
    assert_eq!(rig.engine.wanted()[0].to_string(), task_arn(1));
}

#[tokio::test]
async fn updates_are_refused_attachments_acknowledged_and_nonsense_survived() {
    let rig = Rig::new().await;
    let (mut socket, _) = rig.socket().await;
    send(&mut socket, "StageUpdateMessage", message("u1", json!({}))).await;
    let (kind, nack) = hear(&mut socket).await;
    assert_eq!((kind.as_str(), &nack["reason"]), ("NackRequest", &json!("Updates are disabled")));
    let attach = json!({ "taskArn": task_arn(1), "waitTimeoutMs": 1000,
        "elasticNetworkInterfaces": [{ "ec2Id": "eni-1", "macAddress": "0a:00:00:00:00:01" }] });
    send(&mut socket, "AttachTaskNetworkInterfacesMessage", message("a1", attach)).await;
    assert_eq!(hear(&mut socket).await.1["messageId"], json!("a1"));
    for text in
        ["", "[]", "{", "{\"type\":7}", "{\"type\":\"Nonsense\",\"message\":{}}", "{\"X\":\"y\"}"]
    {
        socket.send(Message::text(text)).await.unwrap();
    }
    send(&mut socket, "PayloadMessage", json!({ "tasks": [] })).await;
    send(&mut socket, "PayloadMessage", json!("nonsense")).await;
    assert!(is_silent(&mut socket).await);
}

#[tokio::test]
async fn a_refused_handshake_is_tried_again() {
    let rig = Rig::new().await;
    let (stream, _) = within(rig.listener.accept()).await.unwrap();
    #[expect(clippy::result_large_err, reason = "the handshake's own type")]
    let refuse = |_: &Request, _: Response| -> Result<Response, ErrorResponse> {
        let mut refusal = ErrorResponse::new(Some("{\"ServerException\":\"later\"}".to_owned()));
        *refusal.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        Err(refusal)
    };
    assert!(tokio_tungstenite::accept_hdr_async(stream, refuse).await.is_err());
    let (mut socket, query) = rig.socket().await;
    assert!(query.contains("sendCredentials=true"), "no session yet: {query}");
    assert!(is_silent(&mut socket).await);
}

#[tokio::test]
async fn an_agent_that_was_told_how_pings_the_region_and_connects_anew_when_no_pong_comes() {
    let rig = Rig::new().await;
    let (mut socket, _) = rig.socket().await;
    let told = json!({ "pingMs": 20, "silenceMsMax": 300, "lostAfterMs": 600 });
    send(&mut socket, "LongshoreLivenessMessage", message("l1", told)).await;
    let (kind, ack) = hear(&mut socket).await;
    assert_eq!((kind.as_str(), &ack["messageId"]), ("AckRequest", &json!("l1")));
    let frame = within(socket.next()).await.unwrap().unwrap();
    assert!(matches!(frame, Message::Ping(_)), "{frame:?}");
    // From now on the region reads nothing, and so answers nothing: the link may as well be cut.
    let (_again, query) = rig.socket().await;
    assert!(query.contains("sendCredentials=false"), "{query}");
}

#[tokio::test]
async fn an_agent_that_is_told_of_a_shorter_limit_does_not_wait_for_the_ping_of_the_longer_one() {
    let rig = Rig::new().await;
    let (mut socket, _) = rig.socket().await;
    let patient =
        json!({ "pingMs": 3_600_000, "silenceMsMax": 7_200_000, "lostAfterMs": 86_400_000 });
    send(&mut socket, "LongshoreLivenessMessage", message("l1", patient)).await;
    let both = [frame(&mut socket).await, frame(&mut socket).await];
    assert!(both.iter().any(Message::is_ping), "{both:?}");
    let quick = json!({ "pingMs": 20, "silenceMsMax": 60_000, "lostAfterMs": 120_000 });
    send(&mut socket, "LongshoreLivenessMessage", message("l2", quick)).await;
    while !frame(&mut socket).await.is_ping() {}
}
