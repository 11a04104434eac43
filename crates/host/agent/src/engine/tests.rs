//! The engine on a host and a region that exist only in memory.

mod gpus;
mod objects;
mod secrets;

use std::sync::Arc;
use std::time::Duration;

use longshore_types::{SeededEnv, Steps, TaskArn};
use sandbox::{DiskRoom, StorageUse};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use super::state::{Health, Status, TaskEvent};
use super::{
    Accepted, Context, CredentialsBook, Engine, ObjectsBook, SecretsBook, TaskCredentials,
};
use crate::config::TaskLimits;
use crate::fakes::{FakeImages, FakeNetworks, FakeRegion, FakeRuntime, TestClock};
use crate::logdriver::LogShipping;
use crate::state_dir::StateDir;

const ARN: &str = "arn:aws:ecs:us-east-1:000000000000:task/demo/00112233445566778899aabbccddeeff";

struct Rig {
    dir: tempfile::TempDir,
    runtime: FakeRuntime,
    networks: FakeNetworks,
    region: FakeRegion,
    engine: Engine,
}

async fn engine(
    dir: &tempfile::TempDir,
    runtime: &FakeRuntime,
    networks: &FakeNetworks,
    region: &FakeRegion,
) -> Engine {
    Engine::open(Arc::new(context(dir, runtime, networks, region))).await
}

pub(super) fn context(
    dir: &tempfile::TempDir,
    runtime: &FakeRuntime,
    networks: &FakeNetworks,
    region: &FakeRegion,
) -> Context {
    context_heard_by(dir, runtime, networks, region, Steps::default())
}

pub(super) fn context_heard_by(
    dir: &tempfile::TempDir,
    runtime: &FakeRuntime,
    networks: &FakeNetworks,
    region: &FakeRegion,
    steps: Steps,
) -> Context {
    let dirs = StateDir::open(dir.path()).unwrap().heard_by(steps);
    let clock = Arc::new(TestClock);
    let logs = LogShipping::new(
        Arc::new(runtime.clone()),
        Arc::new(region.clone()),
        Arc::clone(&clock) as _,
        dirs.clone(),
    );
    Context {
        runtime: Arc::new(runtime.clone()),
        images: Arc::new(FakeImages::default()),
        networks: Arc::new(networks.clone()),
        region: Arc::new(region.clone()),
        logs: Arc::new(logs),
        clock,
        ids: Arc::new(SeededEnv::from_seed(1)),
        dirs,
        region_name: "us-east-1".parse().unwrap(),
        region_for_tasks: None,
        credentials: CredentialsBook::default(),
        secrets: SecretsBook::default(),
        objects: ObjectsBook::default(),
        task_limits: TaskLimits { pids_max: 100, storage_bytes: None },
        gpus: gpus::host_gpus(),
        answers_containers: true,
        instance: crate::engine::InstanceBook::default(),
        lease: crate::lease::HostLease::new(
            Some(dir.path().join("lease")),
            Arc::new(SeededEnv::from_seed(2)),
        ),
        owners: crate::engine::OwnersBook::default(),
        starts: Semaphore::new(4),
        changed: Notify::new(),
    }
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (runtime, networks, region) =
            (FakeRuntime::default(), FakeNetworks::default(), FakeRegion::default());
        let engine = engine(&dir, &runtime, &networks, &region).await;
        Self { dir, runtime, networks, region, engine }
    }

    /// The agent is killed and started again.
    async fn restart(&mut self) {
        self.kill().await;
        self.start().await;
    }

    async fn kill(&mut self) {
        // Dropping the engine closes the workers' inboxes, which ends them.
        let none = FakeRuntime::default();
        let elsewhere = tempfile::tempdir().unwrap();
        self.engine =
            engine(&elsewhere, &none, &FakeNetworks::default(), &FakeRegion::default()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    async fn start(&mut self) {
        self.engine = engine(&self.dir, &self.runtime, &self.networks, &self.region).await;
    }

    async fn accept(&self, containers: Value) -> Accepted {
        self.engine.accept(task(containers)).await
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never: {what}; reported {:#?}", self.region.reported());
    }

    async fn until_reported(&self, status: Status) -> TaskEvent {
        self.until(status.as_str(), |rig| rig.region.reported().iter().any(|e| e.status == status))
            .await;
        self.region.reported().into_iter().rfind(|event| event.status == status).unwrap()
    }
}

pub(super) fn task(containers: Value) -> Value {
    let mut containers = containers;
    for container in containers.as_array_mut().unwrap() {
        let name = container["name"].clone();
        let object = container.as_object_mut().unwrap();
        object.entry("image").or_insert(json!("hello"));
        object.entry("essential").or_insert(json!(true));
        object.entry("command").or_insert(json!([name]));
    }
    json!({ "arn": ARN, "family": "hello", "version": "1", "desiredStatus": "RUNNING",
            "containers": containers })
}

pub(super) fn stop() -> Value {
    json!({ "arn": ARN, "desiredStatus": "STOPPED" })
}

#[tokio::test]
async fn a_task_runs_ends_and_leaves_nothing_behind() {
    let rig = Rig::new().await;
    let Accepted::Taken(synced) = rig.accept(json!([{ "name": "web" }])).await else { panic!() };
    synced.await.unwrap();
    let running = rig.until_reported(Status::Running).await;
    assert!(running.containers[0].runtime_id.is_some());
    rig.runtime.end("web", 0, false);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert_eq!(stopped.containers[0].exit_code, Some(0));
    assert_eq!(stopped.reason, "Essential container in task exited");
    assert!(stopped.execution_stopped_at.is_some());
    let statuses: Vec<Status> = rig.region.reported().iter().map(|event| event.status).collect();
    assert_eq!(statuses, [Status::Pending, Status::Running, Status::Stopped]);
    assert!(rig.region.reported()[0].containers[0].image_digest.is_some());
    rig.until("forgotten", |rig| rig.engine.views().is_empty()).await;
    assert!(rig.runtime.is_clean());
    assert!(rig.networks.endpoints.lock().unwrap().is_empty());
    // A payload that comes again starts nothing.
    assert!(matches!(rig.accept(json!([{ "name": "web" }])).await, Accepted::Known));
}

#[tokio::test]
async fn a_stop_asks_first_and_kills_when_time_is_up() {
    let rig = Rig::new().await;
    rig.runtime.set_deaf(true);
    drop(rig.accept(json!([{ "name": "web", "stopTimeout": 1 }])).await);
    rig.until_reported(Status::Running).await;
    drop(rig.engine.accept(stop()).await);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert_eq!(stopped.containers[0].exit_code, Some(137));
    assert_eq!(stopped.reason, "", "the region knows why");
    assert_eq!(rig.runtime.history()[1..3], ["signal 15 web", "signal 9 web"]);
}

#[tokio::test]
async fn containers_start_in_order_and_stop_in_reverse() {
    let rig = Rig::new().await;
    drop(
        rig.accept(json!([
            { "name": "app", "dependsOn": [
                { "containerName": "init", "condition": "SUCCESS" },
                { "containerName": "db", "condition": "HEALTHY" }] },
            { "name": "init", "essential": false },
            { "name": "db", "healthCheckType": "docker", "dockerConfig": { "config":
                json!({ "Healthcheck": { "Test": ["CMD", "true"], "Interval": 20_000_000 } })
                    .to_string() } },
        ]))
        .await,
    );
    rig.until("init runs", |rig| rig.runtime.is_running("init")).await;
    assert!(!rig.runtime.is_running("app"));
    rig.runtime.end("init", 0, false);
    rig.until_reported(Status::Running).await;
    drop(rig.engine.accept(stop()).await);
    rig.until_reported(Status::Stopped).await;
    let history = rig.runtime.history();
    let at = |what: &str| history.iter().position(|entry| entry == what).unwrap();
    assert!(at("start init") < at("start app") && at("start db") < at("start app"));
    assert!(at("signal 15 app") < at("signal 15 db"), "{history:?}");
}

#[tokio::test]
async fn a_failed_dependency_keeps_the_dependent_from_starting_and_says_so() {
    let rig = Rig::new().await;
    drop(
        rig.accept(json!([
            { "name": "app", "dependsOn": [{ "containerName": "init", "condition": "SUCCESS" }] },
            { "name": "init", "essential": false },
        ]))
        .await,
    );
    rig.until("init runs", |rig| rig.runtime.is_running("init")).await;
    rig.runtime.end("init", 3, false);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert!(stopped.reason.starts_with("CannotStartContainerError: "), "{}", stopped.reason);
    assert!(stopped.reason.contains("\"init\" exited with code 3"), "{}", stopped.reason);
    assert!(!rig.runtime.history().contains(&"start app".to_owned()));
}

#[tokio::test]
async fn what_went_wrong_is_said_precisely() {
    let rig = Rig::new().await;
    drop(rig.accept(json!([{ "name": "web", "image": "missing" }])).await);
    let stopped = rig.until_reported(Status::Stopped).await;
    let reason = stopped.containers[0].reason.clone().unwrap();
    assert!(reason.starts_with("CannotPullContainerError: failed to resolve ref"), "{reason}");
    assert_eq!(stopped.reason, reason);
    assert_eq!((stopped.containers[0].exit_code, &stopped.containers[0].runtime_id), (None, &None));

    let rig = Rig::new().await;
    let error = sandbox::SandboxError::NoSuchCommand {
        command: "web".into(),
        looked_in: vec!["/bin".into()],
    };
    rig.runtime.fail_start("web", error);
    drop(rig.accept(json!([{ "name": "web" }])).await);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert!(stopped.reason.contains("exec: \"web\": executable file not found"), "{stopped:?}");

    let rig = Rig::new().await;
    drop(rig.accept(json!([{ "name": "web", "memory": 64 }])).await);
    rig.until_reported(Status::Running).await;
    rig.runtime.print("web", "allocating");
    rig.runtime.end("web", 137, true);
    let stopped = rig.until_reported(Status::Stopped).await;
    let reason = stopped.containers[0].reason.as_deref();
    assert_eq!(reason, Some("OutOfMemoryError: Container killed due to memory usage"));
    assert!(stopped.reason.starts_with("Essential container in task exited"), "{stopped:?}");
    assert!(stopped.reason.contains("limit of 64 MiB"), "{}", stopped.reason);
    assert!(stopped.reason.contains("its last line was: allocating"), "{}", stopped.reason);
}

#[tokio::test]
async fn an_exit_while_the_agent_is_down_is_told_afterwards() {
    let mut rig = Rig::new().await;
    drop(rig.accept(json!([{ "name": "web" }])).await);
    rig.until_reported(Status::Running).await;
    rig.region.set_away(true);
    rig.restart().await;
    assert!(rig.runtime.is_running("web"), "the container goes on");
    rig.runtime.end("web", 5, false);
    rig.restart().await;
    rig.region.set_away(false);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert_eq!(stopped.containers[0].exit_code, Some(5));
    rig.until("clean", |rig| rig.runtime.is_clean()).await;
}

#[tokio::test]
async fn tasks_of_before_a_restart_of_the_host_are_told_stopped_with_the_reason() {
    let mut rig = Rig::new().await;
    let ports = json!([{ "containerPort": 80, "hostPort": 8080, "protocol": "tcp" }]);
    drop(
        rig.accept(json!([
            { "name": "web", "portMappings": ports },
            { "name": "late", "dependsOn": [{ "containerName": "web", "condition": "COMPLETE" }] },
        ]))
        .await,
    );
    rig.until("web runs", |rig| rig.runtime.is_running("web")).await;
    rig.region.set_away(true);
    // A restart of the host ends the agent before it could see its containers end.
    rig.kill().await;
    rig.runtime.reboot();
    // The namespaces are gone; what the network remembers of them it finds out by itself.
    rig.start().await;
    rig.region.set_away(false);
    let stopped = rig.until_reported(Status::Stopped).await;
    let web = stopped.containers.iter().find(|container| container.name == "web").unwrap();
    assert_eq!(web.exit_code, Some(137));
    assert!(web.reason.as_deref().unwrap().contains("the host was restarted"), "{web:?}");
    assert!(!rig.runtime.history().contains(&"start late".to_owned()));
    rig.until("clean", |rig| rig.runtime.is_clean()).await;
    assert!(rig.networks.endpoints.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_belongs_to_nobody_is_removed() {
    let mut rig = Rig::new().await;
    rig.runtime.plant("stranger-1");
    rig.networks.endpoints.lock().unwrap().insert("stranger-1".into(), vec![]);
    rig.restart().await;
    assert!(rig.runtime.is_clean());
    assert!(rig.networks.endpoints.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_last_line_is_in_the_log_before_the_task_is_stopped() {
    let rig = Rig::new().await;
    rig.region.make_group("g");
    let log = json!({ "LogConfig": { "Type": "awslogs", "Config": {
        "awslogs-group": "g", "awslogs-stream-prefix": "ecs" } } });
    drop(
        rig.accept(json!([{ "name": "web", "dockerConfig": { "hostConfig": log.to_string() } }]))
            .await,
    );
    rig.until_reported(Status::Running).await;
    rig.runtime.print("web", "first");
    rig.until("first line", |rig| rig.region.lines() == ["first"]).await;
    rig.runtime.print("web", "last");
    rig.runtime.end("web", 1, false);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert_eq!(rig.region.lines(), ["first", "last"]);
    assert!(stopped.reason.ends_with("its last line was: last"), "{}", stopped.reason);
    let stream = rig.region.log_lines.lock().unwrap()[0].0.clone();
    assert_eq!(stream, "ecs/web/00112233445566778899aabbccddeeff");
}

fn execution_role(key: &str) -> Value {
    json!({ "credentialsId": "c", "roleArn": "arn:aws:iam::000000000000:role/r",
            "accessKeyId": key, "secretAccessKey": "s", "sessionToken": "t",
            "expiration": "2026-01-01T00:00:00Z" })
}

/// A task of one container, whose region is asked as its execution role.
fn asking_as_a_role(container: Value) -> Value {
    let mut task = task(json!([container]));
    task["executionRoleCredentials"] = execution_role("first");
    task
}

/// What the container `web` has by a name in its environment.
fn of_container(rig: &Rig, name: &str) -> Option<String> {
    let spec = rig.runtime.spec("web");
    spec.env.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
}

/// No file of the agent's has a word in it.
fn assert_none_is_kept(rig: &Rig, word: &str) {
    let mut looked_at = 0;
    let mut dirs = vec![rig.dir.path().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            assert!(!text.contains(word), "{}", path.display());
            looked_at += 1;
        }
    }
    assert!(0 < looked_at);
}

#[tokio::test]
async fn lines_wait_for_the_next_key_when_the_one_they_are_written_with_has_expired() {
    let rig = Rig::new().await;
    rig.region.make_group("g");
    let log = json!({ "LogConfig": { "Type": "awslogs", "Config": {
        "awslogs-group": "g", "awslogs-stream-prefix": "ecs" } } });
    let mut task = task(json!([{ "name": "web", "logsAuthStrategy": "ExecutionRole",
        "dockerConfig": { "hostConfig": log.to_string() } }]));
    task["executionRoleCredentials"] = execution_role("first");
    drop(rig.engine.accept(task).await);
    rig.until_reported(Status::Running).await;
    rig.runtime.print("web", "one");
    rig.until("first line", |rig| rig.region.lines() == ["one"]).await;
    rig.region.expire("first");
    rig.runtime.print("web", "two");
    let is_refused = |rig: &Rig| rig.region.puts.lock().unwrap().contains(&("first".into(), false));
    rig.until("refused", is_refused).await;
    let next: acs::RoleCredentials = serde_json::from_value(execution_role("second")).unwrap();
    let given = TaskCredentials { application: None, execution: Some(next) };
    assert!(rig.engine.put_credentials(&ARN.parse().unwrap(), given));
    rig.until("second line", |rig| rig.region.lines() == ["one", "two"]).await;
    assert_eq!(rig.region.puts.lock().unwrap().last(), Some(&("second".to_owned(), true)));
    // Also when the task is over by the time the key expires: no line is lost with it.
    rig.region.expire("second");
    rig.runtime.print("web", "three");
    rig.runtime.end("web", 0, false);
    let is_refused =
        |rig: &Rig| rig.region.puts.lock().unwrap().contains(&("second".into(), false));
    rig.until("refused again", is_refused).await;
    let next = serde_json::from_value(execution_role("third")).unwrap();
    let given = TaskCredentials { application: None, execution: Some(next) };
    assert!(rig.engine.put_credentials(&ARN.parse().unwrap(), given));
    rig.until_reported(Status::Stopped).await;
    assert_eq!(rig.region.lines(), ["one", "two", "three"]);
}

#[tokio::test]
async fn a_missing_log_group_fails_the_start_unless_it_may_be_made() {
    let container = |extra: Value| {
        let mut options = json!({ "awslogs-group": "g" });
        options.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let log = json!({ "LogConfig": { "Type": "awslogs", "Config": options } });
        json!([{ "name": "web", "dockerConfig": { "hostConfig": log.to_string() } }])
    };
    let rig = Rig::new().await;
    drop(rig.accept(container(json!({}))).await);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert!(stopped.reason.contains("ResourceNotFoundException"), "{}", stopped.reason);
    let rig = Rig::new().await;
    drop(rig.accept(container(json!({ "awslogs-create-group": "true" }))).await);
    rig.until_reported(Status::Running).await;
}

#[tokio::test]
async fn ports_of_the_host_are_bound_told_and_given_back() {
    let rig = Rig::new().await;
    let ports = json!([{ "containerPort": 80, "hostPort": 8080, "protocol": "tcp" }]);
    drop(rig.accept(json!([{ "name": "web", "portMappings": ports }])).await);
    let running = rig.until_reported(Status::Running).await;
    assert_eq!(running.containers[0].bindings[0].host_port, 8080);
    drop(rig.engine.accept(stop()).await);
    rig.until_reported(Status::Stopped).await;
    assert!(rig.networks.endpoints.lock().unwrap().is_empty(), "before STOPPED is told");
}

#[tokio::test]
async fn a_link_is_a_name_and_variables() {
    let rig = Rig::new().await;
    drop(
        rig.accept(json!([
            { "name": "app", "links": ["db:store"] },
            { "name": "db", "portMappings": [{ "containerPort": 5432 }] },
        ]))
        .await,
    );
    rig.until_reported(Status::Running).await;
    let spec = rig.runtime.spec("app");
    let value = |name: &str| spec.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    assert_eq!(value("STORE_PORT_5432_TCP_ADDR").as_deref(), Some("172.30.0.9"));
    let hosts = spec.files.iter().find(|file| file.destination.ends_with("hosts")).unwrap();
    let hosts = std::fs::read_to_string(&hosts.source).unwrap();
    assert!(hosts.contains("172.30.0.9\tstore db"), "{hosts}");
}

#[tokio::test]
async fn an_unknown_task_that_is_to_stop_is_reported_stopped_at_once() {
    let rig = Rig::new().await;
    assert!(matches!(rig.engine.accept(stop()).await, Accepted::Known));
    let stopped = rig.until_reported(Status::Stopped).await;
    assert_eq!(stopped.reason, "TaskStateError: Agent could not progress task's state to stopped");
}

#[tokio::test]
async fn a_task_that_cannot_be_read_is_refused_with_the_reason() {
    let rig = Rig::new().await;
    let bad = json!({ "arn": ARN, "containers": "none" });
    assert!(matches!(rig.engine.accept(bad).await, Accepted::Invalid));
    let stopped = rig.until_reported(Status::Stopped).await;
    assert!(stopped.reason.starts_with("UnrecogniedTaskError: Error loading task - "));
}

#[tokio::test]
async fn an_unhealthy_container_is_told_of_and_goes_on() {
    let rig = Rig::new().await;
    rig.runtime.set_exec_code(1);
    let config = json!({ "Healthcheck": {
        "Test": ["CMD-SHELL", "exit 1"], "Interval": 10_000_000, "Retries": 2 } });
    drop(
        rig.accept(json!([{ "name": "web", "healthCheckType": "docker",
            "dockerConfig": { "config": config.to_string() } }]))
            .await,
    );
    let is_unhealthy = |rig: &Rig| {
        rig.engine.views().iter().any(|view| view.state.containers[0].health == Health::Unhealthy)
    };
    rig.until("unhealthy", is_unhealthy).await;
    assert!(rig.runtime.is_running("web"));
}

#[tokio::test]
async fn a_restarted_container_finds_its_files_again_and_nobody_is_told() {
    let rig = Rig::new().await;
    let policy = json!({ "enabled": true, "restartAttemptPeriod": 0, "ignoredExitCodes": [7] });
    drop(rig.accept(json!([{ "name": "web", "restartPolicy": policy }])).await);
    rig.until_reported(Status::Running).await;
    let scratch = rig.runtime.spec("web").rootfs.scratch;
    std::fs::write(scratch.join("upper"), "mine").unwrap();
    rig.runtime.end("web", 1, false);
    let has_restarted = |rig: &Rig| {
        let views = rig.engine.views();
        views.iter().any(|view| view.state.containers[0].restarts == 1)
            && rig.runtime.is_running("web")
    };
    rig.until("restarted", has_restarted).await;
    let scratch = rig.runtime.spec("web").rootfs.scratch;
    assert_eq!(std::fs::read_to_string(scratch.join("upper")).unwrap(), "mine");
    assert_eq!(rig.region.reported().len(), 2, "{:?}", rig.region.reported());
    rig.runtime.end("web", 7, false);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert_eq!(stopped.containers[0].exit_code, Some(7));
    rig.until("clean", |rig| rig.runtime.is_clean()).await;
}

#[tokio::test]
async fn a_burst_of_tasks_starts_quickly() {
    let rig = Rig::new().await;
    for number in 0..200_u32 {
        let mut task = task(json!([{ "name": "web" }]));
        task["arn"] = json!(format!("arn:aws:ecs:us-east-1:000000000000:task/demo/{number:032x}"));
        drop(rig.engine.accept(task).await);
    }
    rig.until("all run", |rig| {
        rig.region.reported().iter().filter(|event| event.status == Status::Running).count() == 200
    })
    .await;
    let arns: Vec<TaskArn> = rig.engine.wanted();
    assert_eq!(arns.len(), 200);
    rig.engine.stop_all().await;
    assert!(rig.runtime.is_clean());
}

const GROUP: &str = "00112233445566778899aabbccddeeff";

/// Runs the task on Fargate or not, with somebody who watches its storage.
async fn watched(rig: &Rig, launch_type: &str) -> tokio::task::JoinHandle<()> {
    let mut task = task(json!([{ "name": "web" }, { "name": "side" }]));
    task["launchType"] = json!(launch_type);
    drop(rig.engine.accept(task).await);
    rig.until("both", |rig| rig.runtime.is_running("web") && rig.runtime.is_running("side")).await;
    // It hears nothing but SIGKILL.
    rig.runtime.set_deaf(true);
    let engine = rig.engine.clone();
    tokio::spawn(async move { match crate::storage::watch(&engine).await {} })
}

#[tokio::test]
async fn a_task_over_its_storage_is_killed_at_once_and_its_reason_names_the_limit() {
    let rig = Rig::new().await;
    let watching = watched(&rig, "FARGATE").await;
    rig.runtime.set_storage(GROUP, StorageUse { bytes: 21 << 30, files: 3 });
    let stopped = rig.until_reported(Status::Stopped).await;
    assert_eq!(
        stopped.reason,
        "EphemeralStorageLimitError: the task used 21 GiB of ephemeral storage, and its limit is \
         20 GiB"
    );
    assert!(stopped.containers.iter().all(|each| each.exit_code == Some(137)), "{stopped:?}");
    let history = rig.runtime.history();
    assert!(!history.iter().any(|said| said.starts_with("signal 15")), "{history:?}");
    watching.abort();
}

#[tokio::test]
async fn a_task_without_a_limit_goes_when_the_hosts_own_room_is_used_up() {
    let rig = Rig::new().await;
    let watching = watched(&rig, "EC2").await;
    rig.runtime.set_storage(GROUP, StorageUse { bytes: 300 << 30, files: 3 });
    let room = |bytes_free| DiskRoom { bytes_free, bytes: 1 << 39, files_free: 9, files: 0 };
    rig.runtime.set_room(room(3 << 30));
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(rig.runtime.is_running("web"), "there is room");
    rig.runtime.set_room(room(1 << 30));
    let stopped = rig.until_reported(Status::Stopped).await;
    assert!(stopped.reason.starts_with("HostStorageError: "), "{}", stopped.reason);
    assert!(stopped.reason.contains("only 1 GiB left"), "{}", stopped.reason);
    watching.abort();
}

#[tokio::test]
async fn a_task_has_a_limit_of_processes_and_whoever_met_it_is_told_so() {
    let rig = Rig::new().await;
    let host = |limit: u64| json!({ "hostConfig": json!({ "PidsLimit": limit }).to_string() });
    let containers = json!([
        { "name": "web" },
        { "name": "few", "dockerConfig": host(7), "essential": false },
        { "name": "many", "dockerConfig": host(9_999), "essential": false },
    ]);
    drop(rig.accept(containers).await);
    rig.until_reported(Status::Running).await;
    assert_eq!(rig.runtime.group_limits(GROUP).pids, Some(100));
    let limits = ["web", "few", "many"].map(|name| rig.runtime.spec(name).limits.pids);
    assert_eq!(limits, [Some(100), Some(7), Some(100)]);
    let ulimits = rig.runtime.spec("web").ulimits;
    let of = |name: &str| ulimits.iter().find(|each| each.name == name).map(|each| each.hard);
    assert_eq!((of("core"), of("nofile")), (Some(0), Some(65_535)));
    rig.runtime.end_at_limit("web", 2, 100);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert!(stopped.reason.contains("beyond its limit of 100"), "{}", stopped.reason);
    let web = rig.region.reported().into_iter().flat_map(|event| event.containers);
    let reason = web.filter(|each| each.name == "web").find_map(|each| each.reason).unwrap();
    assert!(reason.starts_with("PidsLimitError: "), "{reason}");
}

/// As where it is killed again and again on a machine that has no time for it.
#[tokio::test(start_paused = true)]
async fn a_region_that_is_away_for_minutes_fails_no_start() {
    let rig = Rig::new().await;
    rig.region.make_group("g");
    rig.region.set_away(true);
    let options = json!({ "awslogs-group": "g", "awslogs-stream-prefix": "s" });
    let log = json!({ "LogConfig": { "Type": "awslogs", "Config": options } });
    let container = json!({ "name": "web", "image": "region:4566/away:1",
        "dockerConfig": { "hostConfig": log.to_string() } });
    drop(rig.accept(json!([container])).await);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(rig.region.reported().is_empty());
    rig.region.set_away(false);
    rig.until_reported(Status::Running).await;
    assert!(rig.region.reported().iter().all(|event| event.status != Status::Stopped));
}

/// It is there, and says no: another try might go better, and then it is told.
#[tokio::test(start_paused = true)]
async fn a_limit_of_the_regions_fails_a_start_in_the_end() {
    let rig = Rig::new().await;
    rig.region.refuse_streams("LimitExceededException");
    let options = json!({ "awslogs-group": "g", "awslogs-stream-prefix": "s" });
    let log = json!({ "LogConfig": { "Type": "awslogs", "Config": options } });
    let container = json!({ "name": "web",
        "dockerConfig": { "hostConfig": log.to_string() } });
    drop(rig.accept(json!([container])).await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let stopped = rig.until_reported(Status::Stopped).await;
    assert!(stopped.reason.contains("LimitExceededException"), "{}", stopped.reason);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_the_registry_does_not_take_any_more_is_asked_for_anew_once() {
    let own = |image: &str| {
        json!([{ "name": "web", "image": format!("region:4566/{image}:1"),
            "registryAuthentication": { "type": "ecr", "ecrAuthData": { "region": "us-east-1" } } }])
    };
    let rig = Rig::new().await;
    drop(rig.accept(own("expired")).await);
    rig.until_reported(Status::Running).await;
    assert_eq!(rig.region.forgotten.load(std::sync::atomic::Ordering::SeqCst), 1);
    let rig = Rig::new().await;
    drop(rig.accept(own("unwelcome")).await);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert!(stopped.reason.contains("no basic auth credentials"), "{}", stopped.reason);
    assert_eq!(rig.region.forgotten.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn another_registry_that_is_away_fails_the_start() {
    let rig = Rig::new().await;
    drop(rig.accept(json!([{ "name": "web", "image": "elsewhere:5000/away:1" }])).await);
    let stopped = rig.until_reported(Status::Stopped).await;
    assert!(
        stopped.reason.contains("failed to reach registry elsewhere:5000"),
        "{}",
        stopped.reason
    );
}
