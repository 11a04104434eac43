//! What the death of a host costs: from the moment in which nothing comes from it any more until all that it ran of a service runs elsewhere.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::{Connection, Target};
use crate::fleet::{self, Fleet};
use crate::report::Report;
use crate::world::World;

const HOSTS: usize = 3;
/// Of the service: so many on each host.
const TASKS_OF_HOST: usize = 10;
const PATIENCE: Duration = Duration::from_secs(60);
const CLUSTER: &str = "death";

/// Cuts the link of one of three hosts.
pub(crate) async fn of_a_host(world: &World, report: &mut Report) -> io::Result<()> {
    let fleet = Fleet::start(world, &[CLUSTER; HOSTS].map(str::to_owned), &[]).await?;
    fleet.load("bench", &[world.folder.path().join("rootfs")])?;
    let target = fleet.target()?;
    // A thread of its own enters the region's network, and leaves this one where it is.
    let took = std::thread::scope(|scope| {
        let measuring = scope.spawn(|| {
            fleet.enter()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(measure(&fleet, &target))
        });
        measuring.join().unwrap_or_else(|_| Err(io::Error::other("the measurement ended early")))
    })?;
    report.add(
        format!(
            "a host of {HOSTS} dies → its {TASKS_OF_HOST} tasks of a service RUNNING elsewhere"
        ),
        "–",
        format!("{:.2} s, with the limit at its least, {} s", took.as_secs_f64(), fleet::LOST_S),
        "–".to_owned(),
    );
    Ok(())
}

async fn measure(fleet: &Fleet, target: &Target) -> io::Result<Duration> {
    let mut connection = Connection::open(target).await?;
    connection.ecs("RegisterTaskDefinition", &fleet::definition("bench")).await?;
    let request = json!({"cluster": CLUSTER, "serviceName": "kept", "taskDefinition": "bench", "launchType": "EC2",
        "desiredCount": HOSTS * TASKS_OF_HOST, "placementStrategy": [{"type": "spread", "field": "instanceId"}]});
    connection.ecs("CreateService", &request).await?;
    let nobody = BTreeSet::new();
    let before = until(&mut connection, &nobody, HOSTS * TASKS_OF_HOST).await?;
    let begun = Instant::now();
    fleet.cut_off(0)?;
    until(&mut connection, &before, TASKS_OF_HOST).await?;
    Ok(begun.elapsed())
}

/// The tasks that run besides those `before`, once there are so many.
async fn until(
    connection: &mut Connection,
    before: &BTreeSet<String>,
    count: usize,
) -> io::Result<BTreeSet<String>> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let fresh: BTreeSet<String> =
            running(connection).await?.difference(before).cloned().collect();
        if fresh.len() >= count {
            return Ok(fresh);
        }
        sleep(Duration::from_millis(10)).await;
    }
    Err(io::Error::other(format!("no {count} tasks within {} s", PATIENCE.as_secs())))
}

async fn running(connection: &mut Connection) -> io::Result<BTreeSet<String>> {
    let listed = connection.ecs("ListTasks", &json!({"cluster": CLUSTER})).await?;
    if listed["taskArns"].as_array().is_none_or(Vec::is_empty) {
        return Ok(BTreeSet::new());
    }
    let request = json!({"cluster": CLUSTER, "tasks": listed["taskArns"]});
    let described: Value = connection.ecs("DescribeTasks", &request).await?;
    let tasks = described["tasks"].as_array().into_iter().flatten();
    let running = tasks.filter(|task| task["lastStatus"] == "RUNNING");
    Ok(running.filter_map(|task| task["taskArn"].as_str().map(str::to_owned)).collect())
}
