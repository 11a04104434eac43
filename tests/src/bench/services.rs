//! Figures of services: scaled out, rolled to a new revision, and mended, beside Docker Swarm's.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::Connection;
use crate::report::{Report, spread};
use crate::swarm::Swarm;
use crate::world::World;

/// Tasks of the service that is scaled and rolled.
pub(crate) const TASKS: usize = 50;
/// Tasks of the service whose containers are killed, each once, one after the other.
pub(crate) const CREW: usize = 20;
/// How old they are by then: what ends soon after its start has failed to start, and is tried again later.
pub(crate) const AGE: Duration = Duration::from_secs(45);
/// After so long all tasks of a service are known to last: none of them goes before its successor has
/// lasted as long as the scheduler asks.
pub(crate) const PROVEN: Duration = Duration::from_secs(5);
/// How long a figure may take before it counts as broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// 0 → 50 tasks, then all of them to a new revision.
pub(crate) async fn scale_and_roll(world: &World, report: &mut Report) -> io::Result<()> {
    let ours = Service::create(world, "scale").await?;
    let result = ours.scale_and_roll().await;
    ours.delete().await?;
    let (up, roll) = result?;
    let peer = match Swarm::start(world).await {
        Ok(mut swarm) => {
            let measured = swarm.scale_and_roll().await;
            swarm.stop().await;
            measured
        }
        Err(why) => Err(why),
    };
    let (peer_up, peer_roll) = match peer {
        Ok((up, roll)) => (format!("Docker Swarm {up:.2} s"), format!("Docker Swarm {roll:.2} s")),
        Err(why) => (format!("Docker Swarm: {why}"), format!("Docker Swarm: {why}")),
    };
    report.add(
        format!("service scaled 0 → {TASKS} tasks, all RUNNING (own addresses, hello)"),
        "–",
        format!("{up:.2} s"),
        peer_up,
    );
    report.add(
        format!("service of {TASKS} rolled: all of the new revision, none of the old left (at most twice as many at once, none fewer)"),
        "–",
        format!("{roll:.2} s"),
        peer_roll,
    );
    Ok(())
}

/// SIGKILL of a container's process → its replacement RUNNING.
pub(crate) async fn replace(world: &World, report: &mut Report) -> io::Result<()> {
    let ours = Service::create(world, "replace").await?;
    let result = ours.replacements().await;
    ours.delete().await?;
    let mut seconds = result?;
    let peer = match Swarm::start(world).await {
        Ok(mut swarm) => {
            let measured = swarm.replacements().await;
            swarm.stop().await;
            measured
        }
        Err(why) => Err(why),
    };
    let peer = match peer {
        Ok(mut seconds) => format!("Docker Swarm, restart delay 0: {}", spread(&mut seconds)),
        Err(why) => format!("Docker Swarm: {why}"),
    };
    report.add(
        format!("container of a service of {CREW} killed → its replacement RUNNING"),
        "–",
        spread(&mut seconds),
        peer,
    );
    Ok(())
}

/// A Fargate service of ours.
struct Service<'w> {
    world: &'w World,
    name: String,
}

impl<'w> Service<'w> {
    async fn create(world: &'w World, name: &str) -> io::Result<Self> {
        let definition = world.define_hello(&format!("bench-{name}"), "1").await?;
        let mut connection = Connection::open(&world.target).await?;
        connection
            .ecs("CreateService", &json!({
                "cluster": "bench", "serviceName": name, "taskDefinition": definition, "desiredCount": 0,
                "launchType": "EC2",
                "networkConfiguration": {"awsvpcConfiguration": {"subnets": [world.subnet]}}}))
            .await?;
        Ok(Self { world, name: name.to_owned() })
    }

    async fn update(&self, change: Value) -> io::Result<()> {
        let mut request = json!({"cluster": "bench", "service": self.name});
        if let (Some(request), Value::Object(change)) = (request.as_object_mut(), change) {
            request.extend(change);
        }
        let mut connection = Connection::open(&self.world.target).await?;
        connection.ecs("UpdateService", &request).await.map(drop)
    }

    /// Seconds until there are so many, and until all are of the next revision.
    async fn scale_and_roll(&self) -> io::Result<(f64, f64)> {
        // The first task pulls the image; Swarm has it beforehand too.
        self.update(json!({"desiredCount": 1})).await?;
        self.wait_steady(1).await?;
        self.update(json!({"desiredCount": 0})).await?;
        self.wait_steady(0).await?;
        sleep(Duration::from_secs(2)).await;
        let begun = Instant::now();
        self.update(json!({"desiredCount": TASKS})).await?;
        self.wait_steady(TASKS).await?;
        let up = begun.elapsed().as_secs_f64();
        let definition = self.world.define_hello("bench-scale", "2").await?;
        sleep(PROVEN).await;
        let begun = Instant::now();
        self.update(json!({"taskDefinition": definition})).await?;
        self.wait_steady(TASKS).await?;
        Ok((up, begun.elapsed().as_secs_f64()))
    }

    /// Until the one deployment that is left has all its tasks running.
    async fn wait_steady(&self, count: usize) -> io::Result<()> {
        let mut connection = Connection::open(&self.world.target).await?;
        let end = Instant::now() + PATIENCE;
        let request = json!({"cluster": "bench", "services": [self.name]});
        let mut last = Value::Null;
        while Instant::now() < end {
            let mut answer = connection.ecs("DescribeServices", &request).await?;
            last = answer["services"][0].take();
            let deployments = last["deployments"].as_array().map_or(0, Vec::len);
            if deployments == 1 && last["runningCount"] == count && last["desiredCount"] == count {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::other(format!("the service is not steady in time: {last}")))
    }

    async fn replacements(&self) -> io::Result<Vec<f64>> {
        self.update(json!({"desiredCount": CREW})).await?;
        self.wait_steady(CREW).await?;
        sleep(AGE).await;
        let mut connection = Connection::open(&self.world.target).await?;
        let mut before = self.running(&mut connection).await?;
        let mut seconds = Vec::new();
        for victim in before.clone() {
            let process = process_of(&victim)?;
            let begun = Instant::now();
            kill(process)?;
            let end = begun + PATIENCE;
            let fresh = loop {
                let now = self.running(&mut connection).await?;
                if let Some(fresh) = now.into_iter().find(|arn| !before.contains(arn)) {
                    break fresh;
                }
                if end < Instant::now() {
                    return Err(io::Error::other("no replacement in time"));
                }
                sleep(Duration::from_millis(1)).await;
            };
            seconds.push(begun.elapsed().as_secs_f64());
            before.push(fresh);
            sleep(Duration::from_millis(500)).await;
        }
        Ok(seconds)
    }

    /// The ARNs of the tasks that run.
    async fn running(&self, connection: &mut Connection) -> io::Result<Vec<String>> {
        let request = json!({"cluster": "bench", "serviceName": self.name});
        let listed = connection.ecs("ListTasks", &request).await?;
        let request = json!({"cluster": "bench", "tasks": listed["taskArns"]});
        let described = connection.ecs("DescribeTasks", &request).await?;
        let tasks = described["tasks"].as_array().into_iter().flatten();
        let running = tasks.filter(|task| task["lastStatus"] == "RUNNING");
        Ok(running.filter_map(|task| task["taskArn"].as_str().map(str::to_owned)).collect())
    }

    async fn delete(&self) -> io::Result<()> {
        let request = json!({"cluster": "bench", "service": self.name, "force": true});
        let mut connection = Connection::open(&self.world.target).await?;
        connection.ecs("DeleteService", &request).await?;
        let request = json!({"cluster": "bench", "services": [self.name]});
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let answer = connection.ecs("DescribeServices", &request).await?;
            if answer["services"][0]["status"] == "INACTIVE" {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(io::Error::other("the service was not deleted in time"))
    }
}

/// The process that is first in a task's container, by its control group.
fn process_of(task: &str) -> io::Result<u32> {
    let id = task.rsplit('/').next().unwrap_or(task);
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let read =
            |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if !read("cgroup").contains(id) {
            continue;
        }
        let status = read("status");
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if ids.len() > 1 && ids.last() == Some(&"1") {
            return Ok(pid);
        }
    }
    Err(io::Error::other(format!("no process of task {id}")))
}

/// SIGKILL, as an operator's `kill -9`.
pub(crate) fn kill(pid: u32) -> io::Result<()> {
    crate::peers::run(std::process::Command::new("kill").args(["-9", &pid.to_string()]))
}
