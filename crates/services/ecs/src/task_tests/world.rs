//! A region with a cluster, task definitions, a port for agents, and agents.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_wire::{Caller, Principal};
use bytes::Bytes;
use control::testing::rows::execution_role;
use ecs_api as api;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use longshore_types::{ContainerName, CpuUnits, MemoryMib, Timestamp};
use model::task::Protocol;
use model::{
    Compatibility, ContainerNeeds, Document, NetworkMode, PortNeed, TaskDefinition,
    TaskDefinitionStatus,
};
use serde_json::{Value, json};
use sessions::Sessions;
use store::Batch;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::Ecs;
use crate::testing::TestEcs;
use crate::{
    create_cluster, describe_container_instances, describe_tasks, register_container_instance,
    run_task, stop_task, submit_state_change,
};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct World {
    pub(crate) test: TestEcs,
    address: SocketAddr,
}

/// What of a definition matters to placement.
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    pub(crate) mode: NetworkMode,
    pub(crate) cpu: u32,
    pub(crate) memory: u32,
    pub(crate) port: Option<(u16, u16)>,
}

pub(crate) const FARGATE: Definition =
    Definition { name: "web:1", mode: NetworkMode::Awsvpc, cpu: 256, memory: 512, port: None };
pub(crate) const BRIDGE: Definition =
    Definition { name: "bridge:1", mode: NetworkMode::Bridge, cpu: 256, memory: 512, port: None };

impl World {
    pub(crate) async fn new() -> Self {
        let test = TestEcs::new();
        crate::testing::prepare(&test.ecs).await.unwrap();
        tokio::spawn(test.driver().run());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let callers = [test.node(), test.root()];
        tokio::spawn(serve(Arc::clone(&test.sessions), callers, listener));
        let world = Self { test, address };
        let role = execution_role(world.root().account);
        let begun = world.ecs().control.decide(|view, _| {
            let mut batch = Batch::on(view);
            batch.put(role.clone());
            Ok((batch, ()))
        });
        begun.await.unwrap();
        let input = api::CreateClusterRequest {
            cluster_name: Some("default".to_owned()),
            ..api::CreateClusterRequest::default()
        };
        create_cluster::handle(world.ecs(), &world.root(), input).await.unwrap();
        world.define(&FARGATE).await;
        world.define(&BRIDGE).await;
        world
    }

    pub(crate) fn ecs(&self) -> &Arc<Ecs> {
        &self.test.ecs
    }

    pub(crate) fn root(&self) -> Caller {
        self.test.root()
    }

    pub(crate) async fn define(&self, definition: &Definition) {
        let row = row(definition);
        self.ecs()
            .control
            .decide(|view, _| {
                let mut batch = Batch::on(view);
                batch.put(row.clone());
                Ok((batch, ()))
            })
            .await
            .unwrap();
    }

    /// Registers an instance as the region's own agent does, or as somebody else's.
    pub(crate) async fn register(&self, caller: &Caller, cpu: i32, memory: i32) -> String {
        self.register_in("us-east-1a", caller, cpu, memory).await
    }

    /// The same in a zone.
    pub(crate) async fn register_in(
        &self,
        zone: &str,
        caller: &Caller,
        cpu: i32,
        memory: i32,
    ) -> String {
        let attribute = |name: &str, value: &str| api::Attribute {
            name: Some(name.to_owned()),
            value: Some(value.to_owned()),
            ..api::Attribute::default()
        };
        let flag = |name: &str| attribute(name, "true");
        let zone = attribute("ecs.availability-zone", zone);
        let amount = |name: &str, amount| api::Resource {
            name: Some(name.to_owned()),
            r#type: Some("INTEGER".to_owned()),
            integer_value: Some(amount),
            ..api::Resource::default()
        };
        let input = api::RegisterContainerInstanceRequest {
            attributes: Some(vec![flag("longshore.fargate"), flag("longshore.eni"), zone]),
            total_resources: Some(vec![amount("CPU", cpu), amount("MEMORY", memory)]),
            ..api::RegisterContainerInstanceRequest::default()
        };
        let answer = register_container_instance::handle(self.ecs(), caller, input).await;
        answer.unwrap().container_instance.unwrap().container_instance_arn.unwrap()
    }

    pub(crate) fn url(&self, socket: &str, instance: &str) -> String {
        let address = self.address;
        let query = format!("containerInstanceArn={instance}&containerInstance={instance}");
        format!("ws://{address}/{socket}/ws?{query}&agentVersion=1.0&protocolVersion=2")
    }

    pub(crate) async fn connect(&self, instance: &str) -> FakeAgent {
        self.connect_to(self.url("acs", instance), instance).await
    }

    /// With the account's own key.
    pub(crate) async fn connect_as_root(&self, instance: &str) -> FakeAgent {
        self.connect_to(format!("{}&as=root", self.url("acs", instance)), instance).await
    }

    async fn connect_to(&self, url: String, instance: &str) -> FakeAgent {
        let (socket, _) = connect_async(url).await.unwrap();
        FakeAgent { socket, instance: instance.to_owned() }
    }

    /// A connected agent of the region's own, with its manifest read.
    pub(crate) async fn agent(&self) -> FakeAgent {
        let arn = self.register(&self.test.node(), 4096, 8192).await;
        let mut agent = self.connect(&arn).await;
        agent.expect("TaskManifestMessage").await;
        agent
    }

    pub(crate) async fn run(
        &self,
        change: impl FnOnce(&mut api::RunTaskRequest),
    ) -> api::RunTaskResponse {
        self.try_run(change).await.unwrap()
    }

    pub(crate) async fn try_run(
        &self,
        change: impl FnOnce(&mut api::RunTaskRequest),
    ) -> Result<api::RunTaskResponse, aws_wire::ApiError> {
        let mut input = api::RunTaskRequest {
            task_definition: Some("web".to_owned()),
            launch_type: Some(api::LaunchType::Fargate),
            network_configuration: Some(self.network()),
            ..api::RunTaskRequest::default()
        };
        change(&mut input);
        run_task::handle(self.ecs(), &self.root(), input).await
    }

    pub(crate) fn network(&self) -> api::NetworkConfiguration {
        let account = self.root().account;
        let vpc = self.ecs().control.vpc(&self.ecs().control.view(), account).unwrap();
        api::NetworkConfiguration {
            awsvpc_configuration: Some(api::AwsVpcConfiguration {
                subnets: Some(vec![vpc.subnets[0].id.to_string()]),
                ..api::AwsVpcConfiguration::default()
            }),
        }
    }

    pub(crate) fn describe(&self, task: &str) -> api::Task {
        let input = api::DescribeTasksRequest {
            tasks: Some(vec![task.to_owned()]),
            ..api::DescribeTasksRequest::default()
        };
        let answer = describe_tasks::handle(self.ecs(), &self.root(), input).unwrap();
        answer.tasks.unwrap().remove(0)
    }

    pub(crate) fn describe_instance(&self, instance: &str) -> api::ContainerInstance {
        let input = api::DescribeContainerInstancesRequest {
            container_instances: Some(vec![instance.to_owned()]),
            include: Some(vec![api::ContainerInstanceField::ContainerInstanceHealth]),
            ..api::DescribeContainerInstancesRequest::default()
        };
        let answer = describe_container_instances::handle(self.ecs(), &self.root(), input);
        answer.unwrap().container_instances.unwrap().remove(0)
    }

    pub(crate) async fn stop(&self, task: &str, reason: &str) -> api::Task {
        let input = api::StopTaskRequest {
            task: Some(task.to_owned()),
            reason: Some(reason.to_owned()),
            ..api::StopTaskRequest::default()
        };
        stop_task::handle(self.ecs(), &self.root(), input).await.unwrap().task.unwrap()
    }

    /// What an agent submits of its task and of the container `web`.
    pub(crate) async fn submit(
        &self,
        task: &str,
        status: &str,
        exit_code: Option<i32>,
        reason: &str,
    ) {
        let container = api::ContainerStateChange {
            container_name: Some("web".to_owned()),
            status: Some(status.to_owned()),
            runtime_id: Some("abc".to_owned()),
            exit_code,
            reason: Some(reason.to_owned()),
            ..api::ContainerStateChange::default()
        };
        let input = api::SubmitTaskStateChangeRequest {
            task: Some(task.to_owned()),
            status: Some(status.to_owned()),
            reason: Some(String::new()),
            containers: Some(vec![container]),
            ..api::SubmitTaskStateChangeRequest::default()
        };
        submit_state_change::task(self.ecs(), &self.test.node(), input).await.unwrap();
    }

    pub(crate) async fn wait_disconnected(&self, instance: &str) {
        let mut watch = self.ecs().control.store.subscribe();
        let gone = async {
            while self.describe_instance(instance).agent_connected == Some(true) {
                watch.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
    }

    /// Waits until a task is in a status; fails with what it is instead.
    pub(crate) async fn wait(&self, task: &str, status: &str) -> api::Task {
        let mut watch = self.ecs().control.store.subscribe();
        let waiting = async {
            loop {
                let task = self.describe(task);
                if task.last_status.as_deref() == Some(status) {
                    return task;
                }
                watch.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(task) => task,
            Err(_) => panic!("{status} never came: {:?}", self.describe(task)),
        }
    }
}

impl TestEcs {
    /// The agent on the region's own machine.
    pub(crate) fn node(&self) -> Caller {
        let access_key = self.ecs.control.access.keys.node.access_key_id.clone();
        Caller { principal: Principal::Node { instance: None }, access_key, ..self.root() }
    }
}

/// Whose signature a request carries, its query says: all but the handshake is left out here.
async fn serve(sessions: Arc<Sessions>, callers: [Caller; 2], listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let (sessions, [node, root]) = (Arc::clone(&sessions), callers.clone());
        tokio::spawn(async move {
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                let query = request.uri().query().unwrap_or_default();
                let caller = match query.split_once("&as=") {
                    Some((_, "root")) => root.clone(),
                    Some((_, key)) => Caller { access_key: key.to_owned(), ..node.clone() },
                    None => node.clone(),
                };
                let response = sessions::accept(&sessions, &caller, request);
                let response = response.map(|body| Full::new(Bytes::from(body)));
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            let _ = connection.with_upgrades().await;
        });
    }
}

fn row(definition: &Definition) -> TaskDefinition {
    let Definition { name, mode, cpu, memory, port } = *definition;
    let mapping =
        port.map(|(container, host)| json!({"containerPort": container, "hostPort": host}));
    let document = json!({
        "family": name.split(':').next().unwrap(),
        "networkMode": mode.as_str(),
        "containerDefinitions": [{
            "name": "web", "image": "127.0.0.1:4566/hello:1", "essential": true,
            "healthCheck": {"command": ["CMD-SHELL", "true"]},
            "environment": [{"name": "A", "value": "1"}],
            "portMappings": mapping.into_iter().collect::<Vec<_>>(),
        }],
    });
    let needs = ContainerNeeds {
        name: "web".parse::<ContainerName>().unwrap(),
        image: "127.0.0.1:4566/hello:1".to_owned(),
        essential: true,
        cpu: CpuUnits(0),
        memory: None,
        memory_reservation: None,
        ports: port
            .map(|(container_port, host_port)| PortNeed {
                container_port,
                host_port,
                protocol: Protocol::Tcp,
            })
            .into_iter()
            .collect(),
        gpus: 0,
    };
    TaskDefinition {
        account: "000000000000".parse().unwrap(),
        id: name.parse().unwrap(),
        status: TaskDefinitionStatus::Active,
        document: Document::from_text(document.to_string()).unwrap(),
        tags: model::Tags::new(),
        registered_at: Timestamp(0),
        registered_by: String::new(),
        deregistered_at: None,
        delete_requested_at: None,
        network_mode: mode,
        network_mode_given: true,
        requires_compatibilities: vec![],
        compatibilities: vec![Compatibility::Ec2, Compatibility::Fargate],
        cpu: Some(CpuUnits(cpu)),
        memory: Some(MemoryMib(memory)),
        containers: vec![needs],
        requires_attributes: vec![],
        placement_expressions: vec![],
        cpu_architecture: None,
        operating_system_family: None,
        task_role: None,
        execution_role: None,
        ephemeral_storage_gib: None,
        cannot_run: vec![],
    }
}

/// The other end of a work socket.
pub(crate) struct FakeAgent {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) instance: String,
}

impl FakeAgent {
    /// The next message of a type; others are passed over.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let waiting = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        let frame: Value = serde_json::from_str(text.as_str()).unwrap();
                        if frame["type"] == kind {
                            return frame["message"].clone();
                        }
                    }
                    Some(Ok(Message::Ping(_))) => {}
                    other => panic!("{kind} never came: {other:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("no {kind} in time"))
    }

    /// The next order, unacknowledged.
    pub(crate) async fn order(&mut self) -> Value {
        let message = self.expect("PayloadMessage").await;
        assert_eq!(message["tasks"].as_array().unwrap().len(), 1);
        message
    }

    pub(crate) async fn ack(&mut self, message: &Value) {
        self.say("AckRequest", json!({"messageId": message["messageId"]})).await;
    }

    pub(crate) async fn say(&mut self, kind: &str, message: Value) {
        let frame = json!({"type": kind, "message": message}).to_string();
        self.socket.send(Message::text(frame)).await.unwrap();
    }

    /// Sends what no client would.
    pub(crate) async fn say_raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.unwrap();
    }

    /// How the region ended the socket.
    pub(crate) async fn close_code(&mut self) -> u16 {
        self.close_frame().await.0
    }

    /// The same, with what it says.
    pub(crate) async fn close_frame(&mut self) -> (u16, String) {
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next()).await.unwrap() {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("no close frame: {other:?}"),
            }
        }
    }
}
