//! `longshore simulate` as its users start it: what it prints, what it leaves, how it is interrupted.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use aws_wire::sigv4::{self, Credentials, SigningKeys};
use http::{HeaderMap, Uri};
use longshore_types::{Clock as _, SystemClock, Token};
use serde_json::{Value, json};

/// A region, and what `longshore env` says of it.
struct World {
    dir: tempfile::TempDir,
    region: Child,
    env: Vec<(String, String)>,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.region.kill();
        let _ = self.region.wait();
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    command.args(words).stdin(Stdio::null());
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"] {
        command.env_remove(name);
    }
    command
}

fn start(data: &Path) -> Child {
    let mut start = command(&["region", "--listen", "127.0.0.1:0", "--data-dir"]);
    start.arg(data).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data: PathBuf = dir.path().join("data");
        let region = start(&data);
        let mut world = Self { dir, region, env: Vec::new() };
        wait_for("a region", || {
            let env = command(&["env", "--data-dir"]).arg(&data).output().unwrap();
            let text = String::from_utf8(env.stdout).unwrap();
            let pairs =
                text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
            world.env = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            !world.env.is_empty() && TcpStream::connect(world.address()).is_ok()
        });
        world
    }

    /// Kills the region, and starts it again: it takes its old address.
    fn kill_and_start_again(&mut self) {
        self.region.kill().unwrap();
        self.region.wait().unwrap();
        self.region = start(&self.dir.path().join("data"));
    }

    fn var(&self, name: &str) -> &str {
        self.env.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str()).unwrap()
    }

    fn address(&self) -> SocketAddr {
        self.var("AWS_ENDPOINT_URL").strip_prefix("http://").unwrap().parse().unwrap()
    }

    fn simulate(&self, words: &[&str]) -> Command {
        let mut simulate = command(&["simulate", "--endpoint", self.var("AWS_ENDPOINT_URL")]);
        simulate.args(words).envs(self.env.iter().cloned());
        simulate.stdout(Stdio::piped()).stderr(Stdio::piped());
        simulate
    }

    /// Tasks that run in the first cluster, if there is one.
    fn running(&self) -> u64 {
        let clusters = self.ecs("ListClusters", &json!({}))["clusterArns"].clone();
        let answer = self.ecs("DescribeClusters", &json!({ "clusters": clusters }));
        answer["clusters"][0]["runningTasksCount"].as_u64().unwrap_or(0)
    }

    /// A signed call, on a connection of its own.
    fn ecs(&self, operation: &str, input: &Value) -> Value {
        let (body, mut headers) = (input.to_string(), HeaderMap::new());
        let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
        headers.insert("content-type", "application/x-amz-json-1.1".parse().unwrap());
        headers.insert("x-amz-target", target.parse().unwrap());
        headers.insert("host", self.address().to_string().parse().unwrap());
        let credentials = Credentials {
            access_key: self.var("AWS_ACCESS_KEY_ID").to_owned(),
            secret: Token::from_text(self.var("AWS_SECRET_ACCESS_KEY").to_owned()),
            session_token: None,
        };
        let region = self.var("AWS_REGION").parse().unwrap();
        let (uri, now, keys) = (Uri::from_static("/"), SystemClock.now(), SigningKeys::default());
        let bytes = body.as_bytes();
        sigv4::sign("POST", &uri, &mut headers, bytes, &credentials, &region, "ecs", now, &keys);
        let mut request =
            format!("POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in &headers {
            request += &format!("{name}: {}\r\n", value.to_str().unwrap());
        }
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.write_all(format!("{request}\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    fn count(&self, operation: &str, member: &str, input: &Value) -> usize {
        self.ecs(operation, input)[member].as_array().unwrap().len()
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no {what} within 30 s");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_rate(done: &Output) {
    assert!(done.status.success(), "{}", text(&done.stderr));
    let said = text(&done.stdout);
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("20 tasks RUNNING") && last.ends_with(" tasks/s"), "{said}");
}

#[test]
fn without_a_region_one_is_started_and_goes_again() {
    let temporary = tempfile::tempdir().unwrap();
    let mut simulate = command(&["simulate", "--agents", "4", "--tasks", "20"]);
    let done = simulate.env("TMPDIR", temporary.path()).output().unwrap();
    assert_rate(&done);
    let said = text(&done.stdout);
    assert!(said.contains("region ") && said.contains(" resident"), "{said}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn in_a_region_of_others_nothing_is_left() {
    let world = World::new();
    let done = world.simulate(&["--agents", "4", "--tasks", "20"]).output().unwrap();
    assert_rate(&done);
    assert_eq!(world.count("ListClusters", "clusterArns", &json!({})), 0);
    assert_eq!(world.count("ListTaskDefinitions", "taskDefinitionArns", &json!({})), 0);
}

#[test]
fn a_service_brings_up_the_tasks_as_well_and_goes_again() {
    let world = World::new();
    let words = ["--agents", "4", "--tasks", "20", "--service", "--hold", "1"];
    let done = world.simulate(&words).args(["--strategy", "binpack=memory"]).output().unwrap();
    assert_rate(&done);
    let said = text(&done.stdout);
    assert!(said.contains("as one service"), "{said}");
    assert_eq!(world.count("ListClusters", "clusterArns", &json!({})), 0);
}

#[test]
fn in_a_cluster_of_others_tasks_keep_to_the_pretended_hosts_and_the_cluster_stays() {
    let world = World::new();
    world.ecs("CreateCluster", &json!({ "clusterName": "shop" }));
    let words = ["--cluster", "shop", "--agents", "4", "--tasks", "20", "--start-ms", "10"];
    assert_rate(&world.simulate(&words).output().unwrap());
    assert_eq!(world.count("ListClusters", "clusterArns", &json!({})), 1);
    let shop = json!({ "cluster": "shop" });
    assert_eq!(world.count("ListTasks", "taskArns", &shop), 0);
    assert_eq!(world.count("ListContainerInstances", "containerInstanceArns", &shop), 0);
}

#[test]
fn an_interrupt_removes_what_was_made() {
    let world = World::new();
    let words = ["--agents", "4", "--tasks", "20", "--hold", "600"];
    let mut simulate = world.simulate(&words).spawn().unwrap();
    wait_for("running tasks", || world.running() == 20);
    let pid = simulate.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let mut said = String::new();
    simulate.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(simulate.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert_eq!(world.count("ListClusters", "clusterArns", &json!({})), 0);
    assert_eq!(world.count("ListTaskDefinitions", "taskDefinitionArns", &json!({})), 0);
}

#[test]
fn a_region_that_is_killed_on_the_way_is_waited_for() {
    let mut world = World::new();
    let words = ["--agents", "4", "--tasks", "20", "--start-ms", "300", "--count-per-call", "1"];
    let simulate = world.simulate(&words).args(["--connections", "2", "--pull"]).spawn().unwrap();
    wait_for("a task that runs", || world.running() > 0);
    world.kill_and_start_again();
    assert_rate(&simulate.wait_with_output().unwrap());
    assert_eq!(world.count("ListClusters", "clusterArns", &json!({})), 0);
}

#[test]
fn wrong_keys_are_said_to_be_wrong() {
    let world = World::new();
    let mut simulate = world.simulate(&["--agents", "1", "--tasks", "1"]);
    let refused = simulate.env("AWS_SECRET_ACCESS_KEY", "wrong").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains("create a cluster") && said.contains("signature"), "{said}");
}
