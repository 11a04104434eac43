//! Figures of secrets: values read a second, and what three of them cost a task on its way to RUNNING.

use std::io;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::client::Connection;
use crate::report::{Report, percentile, spread};
use crate::tasks::{stop_all, wait_all};
use crate::wire::{load, started};
use crate::world::World;

/// Connections that read.
const CLIENTS: usize = 8;
/// Starts measured of each kind, one after the other and in turns.
const STARTS: usize = 40;
const PARAMETERS: usize = 10;

/// GetSecretValue, and GetParameters of ten, over eight connections.
pub(crate) async fn reads(world: &World, report: &mut Report) -> io::Result<()> {
    let mut connection = Connection::open(&world.target).await?;
    make(&mut connection).await?;
    let secret = json!({"SecretId": "bench"}).to_string();
    let names: Vec<String> = (0..PARAMETERS).map(|n| format!("/bench/{n}")).collect();
    let parameters = json!({"Names": names, "WithDecryption": true}).to_string();
    for (service, operation, body, what) in [
        ("secretsmanager", "secretsmanager.GetSecretValue", secret, "GetSecretValue"),
        ("ssm", "AmazonSSM.GetParameters", parameters, "GetParameters of 10 SecureStrings"),
    ] {
        let (rate, mut late) =
            load(world, service, operation, CLIENTS, move |_, _| body.clone()).await?;
        let p99 = percentile(&mut late, 0.99) * 1e3;
        let what = format!("{what}, {CLIENTS} clients");
        report.add(what, "–", format!("{rate:.0}/s, p99 {p99:.1} ms"), "–".into());
    }
    Ok(())
}

/// A secret, and parameters, that hold a word each.
async fn make(connection: &mut Connection) -> io::Result<()> {
    let secret = json!({"Name": "bench", "SecretString": r#"{"word":"a","other":"b"}"#});
    let target = "secretsmanager.CreateSecret";
    // It is there already if both figures are measured.
    let _ = connection.call("secretsmanager", target, secret.to_string().as_bytes()).await;
    for n in 0..PARAMETERS {
        let put = json!({"Name": format!("/bench/{n}"), "Value": "a word", "Type": "SecureString",
                         "Overwrite": true});
        connection.call("ssm", "AmazonSSM.PutParameter", put.to_string().as_bytes()).await?;
    }
    Ok(())
}

/// RunTask accepted → RUNNING reported with three secrets, beside the same task without.
pub(crate) async fn to_running(world: &World, report: &mut Report) -> io::Result<()> {
    let mut connection = Connection::open(&world.target).await?;
    make(&mut connection).await?;
    let described = json!({"SecretId": "bench"}).to_string();
    let described =
        connection.call("secretsmanager", "secretsmanager.DescribeSecret", described.as_bytes());
    let described: serde_json::Value = serde_json::from_slice(&described.await?)?;
    let arn = described["ARN"].as_str().unwrap_or_default().to_owned();
    allow(&mut connection).await?;
    let with = define(world, &mut connection, &arn).await?;
    let without = world.define("bench-without", &["/bin/sleep", "300"]).await?;
    let mut seconds = [Vec::new(), Vec::new()];
    let mut all = Vec::new();
    for serial in 0..=STARTS {
        for (definition, seconds) in [&without, &with].into_iter().zip(&mut seconds) {
            let answer = connection.ecs("RunTask", &world.run_request(definition, 1)).await?;
            let accepted = Instant::now();
            let arns = started(&answer)?;
            wait_all(world, &arns, "RUNNING", Duration::from_secs(30)).await?;
            if serial > 0 {
                seconds.push(accepted.elapsed().as_secs_f64());
            }
            all.extend(arns);
            sleep(Duration::from_millis(100)).await;
        }
    }
    stop_all(world, &all).await?;
    let [mut without, mut with] = seconds;
    let more = (percentile(&mut with, 0.5) - percentile(&mut without, 0.5)) * 1e3;
    report.add(
        "RunTask accepted → RUNNING reported with three secrets",
        "≤ 5 ms more",
        format!("{}: {more:+.1} ms", spread(&mut with)),
        format!("without: {}", spread(&mut without)),
    );
    Ok(())
}

/// Lets the role that executes tasks read what it is to read.
async fn allow(connection: &mut Connection) -> io::Result<()> {
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*",
        "Action": ["secretsmanager:GetSecretValue", "ssm:GetParameters"]}]});
    let policy: String = policy.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    let body = format!(
        "Action=PutRolePolicy&Version=2010-05-08&RoleName=ecsTaskExecutionRole&PolicyName=bench&PolicyDocument={policy}"
    );
    connection.form("iam", body.as_bytes()).await.map(drop)
}

async fn define(world: &World, connection: &mut Connection, arn: &str) -> io::Result<String> {
    let answer = connection
        .ecs("RegisterTaskDefinition", &json!({
            "family": "bench-secrets", "networkMode": "awsvpc", "executionRoleArn": "ecsTaskExecutionRole",
            "containerDefinitions": [{
                "name": "main", "image": world.image, "command": ["/bin/sleep", "300"], "stopTimeout": 2,
                "memory": crate::world::MEMORY_MIB,
                "secrets": [{"name": "A", "valueFrom": format!("{arn}:word::")},
                            {"name": "B", "valueFrom": "/bench/0"}, {"name": "C", "valueFrom": "/bench/1"}]}]}))
        .await?;
    Ok(answer["taskDefinition"]["taskDefinitionArn"].as_str().unwrap_or_default().to_owned())
}
