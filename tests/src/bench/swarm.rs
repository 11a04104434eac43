//! Docker Swarm on an engine of the bench's own: the same image, the same number of tasks.
//!
//! `--endpoint-mode dnsrr`: kernels without IPVS have no other. Settings are those under which Swarm is
//! quickest at the same promise: no restart delay, all tasks updated at once, new ones started first.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::engine::Engine;
use crate::services::{AGE, CREW, PATIENCE, TASKS, kill};
use crate::world::World;

/// `/tasks?filters={"service":["x"]}`
const OUR_TASKS: &str = "/tasks?filters=%7B%22service%22%3A%5B%22x%22%5D%7D";

/// A swarm of one node and its service `x`.
#[derive(Debug)]
pub(crate) struct Swarm {
    engine: Engine,
}

impl Swarm {
    pub(crate) async fn start(world: &World) -> io::Result<Self> {
        let engine = Engine::start(world.folder.path().join("swarm")).await?;
        let mut swarm = Self { engine };
        match swarm.create(world) {
            Ok(()) => Ok(swarm),
            Err(why) => {
                swarm.stop().await;
                Err(why)
            }
        }
    }

    fn create(&self, world: &World) -> io::Result<()> {
        self.engine.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"])?;
        let archive = world.folder.path().join("hello.tar");
        self.engine.docker(&["load", "-i", &archive.to_string_lossy()])?;
        self.engine.docker(&[
            "service",
            "create",
            "--detach",
            "--no-resolve-image",
            "--name",
            "x",
            "--replicas",
            "0",
            "--endpoint-mode",
            "dnsrr",
            "--restart-delay",
            "0s",
            "--update-parallelism",
            "0",
            "--update-order",
            "start-first",
            "--limit-memory",
            "512m",
            "hello:1",
            "serve",
        ])
    }

    pub(crate) async fn stop(&mut self) {
        let _ = self.engine.docker(&["swarm", "leave", "--force"]);
        self.engine.stop().await;
    }

    /// As [`crate::services`] measures ours.
    pub(crate) async fn scale_and_roll(&mut self) -> io::Result<(f64, f64)> {
        self.scale(1).await?;
        self.scale(0).await?;
        sleep(Duration::from_secs(2)).await;
        let begun = Instant::now();
        self.scale(TASKS).await?;
        let up = begun.elapsed().as_secs_f64();
        let before = self.running().await?;
        sleep(Duration::from_secs(2)).await;
        let begun = Instant::now();
        self.engine.docker(&["service", "update", "--detach", "--env-add", "REVISION=2", "x"])?;
        self.wait("all tasks of the new revision", |now| {
            now.len() == TASKS && now.is_disjoint(&before)
        })
        .await?;
        Ok((up, begun.elapsed().as_secs_f64()))
    }

    pub(crate) async fn replacements(&mut self) -> io::Result<Vec<f64>> {
        self.scale(CREW).await?;
        sleep(AGE).await;
        let containers = self.engine.docker_says(&["ps", "-q"])?;
        let mut seconds = Vec::new();
        for container in containers.lines() {
            let before = self.running().await?;
            let pid = self.engine.docker_says(&["inspect", "-f", "{{.State.Pid}}", container])?;
            let pid = pid.trim().parse().map_err(io::Error::other)?;
            let begun = Instant::now();
            kill(pid)?;
            self.wait("a replacement", |now| !now.is_subset(&before)).await?;
            seconds.push(begun.elapsed().as_secs_f64());
            self.wait("the crew", |now| now.len() == CREW).await?;
            sleep(Duration::from_millis(500)).await;
        }
        Ok(seconds)
    }

    async fn scale(&self, count: usize) -> io::Result<()> {
        self.engine.docker(&["service", "scale", "--detach", &format!("x={count}")])?;
        self.wait("as many tasks as were asked for", |now| now.len() == count).await
    }

    async fn wait(&self, what: &str, there: impl Fn(&BTreeSet<String>) -> bool) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if there(&self.running().await?) {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::other(format!("there was not {what} in time")))
    }

    /// The ids of the tasks that run.
    async fn running(&self) -> io::Result<BTreeSet<String>> {
        let tasks = self.engine.get(OUR_TASKS).await?;
        let tasks = tasks.as_array().map(Vec::as_slice).unwrap_or_default();
        let running = tasks.iter().filter(|task| task["Status"]["State"] == "running");
        Ok(running.filter_map(|task: &Value| task["ID"].as_str().map(str::to_owned)).collect())
    }
}
