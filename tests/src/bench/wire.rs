//! Figures of the API alone: how many answers a second, and how late the late ones are.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::Connection;
use crate::report::{Report, percentile};
use crate::world::World;

/// How long each rate is measured.
const WINDOW: Duration = Duration::from_secs(5);

/// DescribeTasks of a hundred tasks, at one client and at eight.
pub(crate) async fn describe_tasks(world: &World, report: &mut Report) -> io::Result<()> {
    let definition = world.define("bench-stopped", &["/bin/true"]).await?;
    let mut connection = Connection::open(&world.target).await?;
    let mut arns = Vec::new();
    for _ in 0..10 {
        let answer = connection.ecs("RunTask", &world.run_request(&definition, 10)).await?;
        let tasks = answer["tasks"].as_array().cloned().unwrap_or_default();
        arns.extend(tasks.iter().filter_map(|task| task["taskArn"].as_str().map(str::to_owned)));
    }
    crate::tasks::wait_all(world, &arns, "STOPPED", Duration::from_secs(120)).await?;
    let request = json!({"cluster": "bench", "tasks": arns}).to_string();
    for clients in [1_usize, 8] {
        let (rate, mut late) = load(world, "ecs", &ecs("DescribeTasks"), clients, {
            let request = request.clone();
            move |_, _| request.clone()
        })
        .await?;
        let p99 = percentile(&mut late, 0.99) * 1e3;
        let target = if clients == 8 { "≥ 3,000/s, p99 ≤ 10 ms" } else { "–" };
        let what = format!("DescribeTasks of 100, {clients} client(s)");
        report.add(what, target, format!("{rate:.0}/s, p99 {p99:.1} ms"), "–".into());
    }
    Ok(())
}

/// RegisterTaskDefinition, signed and durable, over 32 connections.
pub(crate) async fn register_task_definition(world: &World, report: &mut Report) -> io::Result<()> {
    let body = |client: usize, serial: usize| {
        json!({"family": format!("load-{client}-{}", serial % 50), "containerDefinitions": [
            {"name": "web", "image": "web:1", "memory": 64, "portMappings": [{"containerPort": 80}],
             "environment": [{"name": "COLOUR", "value": "blue"}]}]})
        .to_string()
    };
    let (rate, mut late) = load(world, "ecs", &ecs("RegisterTaskDefinition"), 32, body).await?;
    let p99 = percentile(&mut late, 0.99) * 1e3;
    let what = "RegisterTaskDefinition, signed, durable, 32 connections";
    report.add(what, "≥ 10,000/s", format!("{rate:.0}/s, p99 {p99:.1} ms"), "–".into());
    Ok(())
}

fn ecs(operation: &str) -> String {
    format!("AmazonEC2ContainerServiceV20141113.{operation}")
}

/// Calls what `target` names from `clients` connections for the window; answers a second, and seconds each took.
pub(crate) async fn load<F>(
    world: &World,
    service: &'static str,
    target: &str,
    clients: usize,
    body: F,
) -> io::Result<(f64, Vec<f64>)>
where
    F: Fn(usize, usize) -> String + Clone + Send + 'static,
{
    let begun = Instant::now();
    let mut running = Vec::new();
    for client in 0..clients {
        let mut connection = Connection::open(&world.target).await?;
        let (target, body) = (target.to_owned(), body.clone());
        running.push(tokio::spawn(async move {
            let mut seconds = Vec::new();
            let begun = Instant::now();
            while begun.elapsed() < WINDOW {
                let text = body(client, seconds.len());
                let asked = Instant::now();
                connection.call(service, &target, text.as_bytes()).await?;
                seconds.push(asked.elapsed().as_secs_f64());
            }
            Ok::<_, io::Error>(seconds)
        }));
    }
    let mut all = Vec::new();
    for each in running {
        all.extend(each.await.map_err(io::Error::other)??);
    }
    let elapsed = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a count of answers")]
    let rate = all.len() as f64 / elapsed;
    Ok((rate, all))
}

/// The ARNs of the tasks in a RunTask answer; its failures as an error.
pub(crate) fn started(answer: &Value) -> io::Result<Vec<String>> {
    let failures = answer["failures"].as_array().cloned().unwrap_or_default();
    if !failures.is_empty() {
        return Err(io::Error::other(format!("RunTask: {failures:?}")));
    }
    let tasks = answer["tasks"].as_array().cloned().unwrap_or_default();
    Ok(tasks.iter().filter_map(|task| task["taskArn"].as_str().map(str::to_owned)).collect())
}
