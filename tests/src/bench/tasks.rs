//! Figures of whole tasks: accepted to RUNNING, and how many start a second.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::Connection;
use crate::engine::Engine;
use crate::peers;
use crate::report::{Report, spread};
use crate::wire::started;
use crate::world::World;

/// Starts measured one after the other.
const SINGLE_RUNS: usize = 60;
/// Tasks of the burst.
const BURST: usize = 200;

/// RunTask accepted → RUNNING reported, beside `docker run -d` and `runc run -d`.
pub(crate) async fn run_to_running(world: &World, report: &mut Report) -> io::Result<()> {
    let definition = world.define("bench-single", &["/bin/sleep", "300"]).await?;
    let mut seconds = singles(world, &world.run_request(&definition, 1)).await?;
    let peers = format!(
        "`docker run -d` {}; `runc run -d` {}",
        peers::docker_run(world).await.unwrap_or_else(|why| why.to_string()),
        peers::runc_run(world, 30).unwrap_or_else(|why| why.to_string()),
    );
    report.add(
        "RunTask accepted → RUNNING reported, image present, own address",
        "p50 ≤ 30 ms, p99 ≤ 100 ms",
        spread(&mut seconds),
        peers,
    );
    Ok(())
}

/// How long each of several tasks takes from accepted to RUNNING, one after the other.
async fn singles(world: &World, request: &Value) -> io::Result<Vec<f64>> {
    let mut connection = Connection::open(&world.target).await?;
    let mut seconds = Vec::new();
    let mut all = Vec::new();
    for serial in 0..=SINGLE_RUNS {
        let answer = connection.ecs("RunTask", request).await?;
        let accepted = Instant::now();
        let arns = started(&answer)?;
        wait_all(world, &arns, "RUNNING", Duration::from_secs(30)).await?;
        if serial > 0 {
            // The first one pulls the image.
            seconds.push(accepted.elapsed().as_secs_f64());
        }
        all.extend(arns);
        sleep(Duration::from_millis(100)).await;
    }
    stop_all(world, &all).await?;
    Ok(seconds)
}

/// The same tasks, without a network, with each driver: ours, a runtime of the host's and a Docker Engine.
pub(crate) async fn by_drivers(world: &World, report: &mut Report) -> io::Result<()> {
    let own = apart(world).await?;
    let by_runc = beside(world, &["--runtime", "runc"]).await;
    let by_docker = match Engine::start_here(world.folder.path().join("driver")).await {
        Ok(mut engine) => {
            let socket = format!("unix://{}", engine.socket().display());
            let words = ["--driver", "docker", "--docker-host", &socket];
            let outcome = beside(world, &words).await;
            engine.stop().await;
            outcome
        }
        Err(why) => Err(why),
    };
    let said = |outcome: io::Result<String>| outcome.unwrap_or_else(|why| why.to_string());
    let others =
        format!("`--runtime runc` {}; `--driver docker` {}", said(by_runc), said(by_docker));
    report.add("RunTask accepted → RUNNING reported, no network, each driver", "–", own, others);
    Ok(())
}

async fn apart(world: &World) -> io::Result<String> {
    let definition = world.define_apart("bench-apart", &["/bin/sleep", "300"]).await?;
    let request = json!({"cluster": "bench", "taskDefinition": definition, "launchType": "EC2"});
    Ok(spread(&mut singles(world, &request).await?))
}

/// In a region of its own.
async fn beside(world: &World, words: &[&str]) -> io::Result<String> {
    let mut other = World::start_with(&world.binary, &world.hello, words).await?;
    let outcome = apart(&other).await;
    other.stop().await;
    outcome
}

/// Container starts a second for a burst of two hundred tasks, each with namespaces and address.
pub(crate) async fn burst(world: &World, report: &mut Report) -> io::Result<()> {
    let definition = world.define("bench-burst", &["/bin/sleep", "300"]).await?;
    let mut connection = Connection::open(&world.target).await?;
    sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    let mut arns = Vec::new();
    for _ in 0..BURST / 10 {
        let answer = connection.ecs("RunTask", &world.run_request(&definition, 10)).await?;
        arns.extend(started(&answer)?);
    }
    wait_all(world, &arns, "RUNNING", Duration::from_secs(120)).await?;
    let took = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "two hundred")]
    let rate = arns.len() as f64 / took;
    let begun = Instant::now();
    stop_all(world, &arns).await?;
    let stopped = begun.elapsed().as_secs_f64();
    let peers = peers::runc_rate(world, BURST).unwrap_or_else(|why| why.to_string());
    let text = format!("{rate:.0}/s ({took:.2} s; stopped in {stopped:.1} s)");
    report.add("container starts a second, burst of 200 tasks", "≥ 60/s", text, peers);
    Ok(())
}

/// Waits until every task has `status`; an earlier end is an error with the task's reason.
pub(crate) async fn wait_all(
    world: &World,
    arns: &[String],
    status: &str,
    limit: Duration,
) -> io::Result<()> {
    let mut connection = Connection::open(&world.target).await?;
    let end = Instant::now() + limit;
    let mut left: Vec<String> = arns.to_vec();
    while !left.is_empty() {
        if end < Instant::now() {
            return Err(io::Error::other(format!("{} tasks are not {status} in time", left.len())));
        }
        let some: Vec<&String> = left.iter().take(100).collect();
        let answer =
            connection.ecs("DescribeTasks", &json!({"cluster": "bench", "tasks": some})).await?;
        for task in answer["tasks"].as_array().into_iter().flatten() {
            let last = task["lastStatus"].as_str().unwrap_or_default();
            if last == "STOPPED" && status != "STOPPED" {
                return Err(io::Error::other(format!("a task stopped: {task}")));
            }
            if last == status {
                left.retain(|arn| Some(arn.as_str()) != task["taskArn"].as_str());
            }
        }
        sleep(Duration::from_millis(if left.len() > 1 { 10 } else { 1 })).await;
    }
    Ok(())
}

pub(crate) async fn stop_all(world: &World, arns: &[String]) -> io::Result<()> {
    let mut connection = Connection::open(&world.target).await?;
    for arn in arns {
        connection.ecs("StopTask", &json!({"cluster": "bench", "task": arn})).await?;
    }
    wait_all(world, arns, "STOPPED", Duration::from_secs(180)).await
}
