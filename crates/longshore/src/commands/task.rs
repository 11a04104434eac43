//! `longshore task run|stop`: from a task definition file to a running task, for machines that have
//! no AWS CLI. Every step is a call of the public API.

use std::path::Path;
use std::time::Duration;

use aws_wire::json;
use ecs_api as ecs;
use tokio::time::Instant;

use crate::cli::{TaskRun, TaskStop};
use crate::client::{Client, texts};
use crate::commands::connect;
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::tasks;

const POLL: Duration = Duration::from_millis(20);

pub(crate) async fn run(data: &DataDir, args: &TaskRun) -> Result<(), Error> {
    let client = connect(data)?;
    let definition = read_definition(&args.file)?;
    let cluster = args.cluster.as_str();
    create_cluster(&client, cluster).await?;
    let family = definition.family.clone().unwrap_or_default();
    let mut arns = Vec::new();
    if args.once {
        arns = tasks::list(&client, cluster, false, Some(&family)).await?;
    }
    if arns.is_empty() {
        arns = start(&client, cluster, args.count, &definition).await?;
    }
    let limit = Duration::from_secs(args.wait);
    let running = wait_until_running(&client, cluster, &arns, limit).await?;
    for task in &running {
        let address = tasks::address(task).unwrap_or_else(|| "-".to_owned());
        println!("{} {} {address}", tasks::id(task), tasks::status(task));
    }
    Ok(())
}

fn read_definition(path: &Path) -> Result<ecs::RegisterTaskDefinitionRequest, Error> {
    let text =
        std::fs::read(path).map_err(|source| Error::DataDir { path: path.to_owned(), source })?;
    json::from_slice(&text).map_err(|why| {
        Error::message(format!("{} is not a task definition: {why}", path.display()))
    })
}

async fn create_cluster(client: &Client, name: &str) -> Result<(), Error> {
    let input = ecs::CreateClusterRequest {
        cluster_name: Some(name.to_owned()),
        ..ecs::CreateClusterRequest::default()
    };
    // One that exists is answered as it is.
    let _: ecs::CreateClusterResponse = client.ecs("CreateCluster", &input).await?;
    Ok(())
}

async fn start(
    client: &Client,
    cluster: &str,
    count: i32,
    definition: &ecs::RegisterTaskDefinitionRequest,
) -> Result<Vec<String>, Error> {
    let registered: ecs::RegisterTaskDefinitionResponse =
        client.ecs("RegisterTaskDefinition", definition).await?;
    let registered = registered.task_definition.unwrap_or_default();
    let is_awsvpc = definition.network_mode.as_ref().is_some_and(|mode| mode.as_str() == "awsvpc");
    let kinds = definition.requires_compatibilities.as_deref().unwrap_or_default();
    let is_fargate = kinds.iter().any(|kind| kind.as_str() == "FARGATE");
    let launch_type = if is_fargate { "FARGATE" } else { "EC2" };
    let input = ecs::RunTaskRequest {
        cluster: Some(cluster.to_owned()),
        count: Some(count),
        launch_type: Some(launch_type.into()),
        network_configuration: if is_awsvpc { Some(network(client).await?) } else { None },
        started_by: Some("longshore-task-run".to_owned()),
        task_definition: registered.task_definition_arn,
        ..ecs::RunTaskRequest::default()
    };
    let answer: ecs::RunTaskResponse = client.ecs("RunTask", &input).await?;
    if let Some(failure) = answer.failures.unwrap_or_default().into_iter().next() {
        let reason = failure.reason.unwrap_or_default();
        let detail = failure.detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
        return Err(Error::message(format!("the task was not placed: {reason}{detail}")));
    }
    Ok(answer.tasks.unwrap_or_default().into_iter().filter_map(|task| task.task_arn).collect())
}

/// The default VPC's subnets, one in each zone.
async fn network(client: &Client) -> Result<ecs::NetworkConfiguration, Error> {
    let of_each_zone = "&Filter.1.Name=default-for-az&Filter.1.Value.1=true";
    let subnets = texts(&client.ec2("DescribeSubnets", of_each_zone).await?, "subnetId");
    if subnets.is_empty() {
        return Err(Error::message("the account has no default VPC with a subnet"));
    }
    Ok(ecs::NetworkConfiguration {
        awsvpc_configuration: Some(ecs::AwsVpcConfiguration {
            subnets: Some(subnets),
            assign_public_ip: Some("ENABLED".into()),
            ..ecs::AwsVpcConfiguration::default()
        }),
    })
}

async fn wait_until_running(
    client: &Client,
    cluster: &str,
    arns: &[String],
    limit: Duration,
) -> Result<Vec<ecs::Task>, Error> {
    let end = Instant::now() + limit;
    loop {
        let found = tasks::describe(client, cluster, arns).await?;
        if let Some(stopped) = found.iter().find(|task| tasks::status(task) == "STOPPED") {
            return Err(Error::message(format!(
                "task {} stopped: {}",
                tasks::id(stopped),
                tasks::why_stopped(stopped)
            )));
        }
        if found.iter().all(|task| tasks::status(task) == "RUNNING") {
            return Ok(found);
        }
        if Instant::now() >= end {
            let states: Vec<&str> = found.iter().map(tasks::status).collect();
            return Err(Error::message(format!(
                "not running after {} s: {}",
                limit.as_secs(),
                states.join(", ")
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

pub(crate) async fn stop(data: &DataDir, args: &TaskStop) -> Result<(), Error> {
    let client = connect(data)?;
    let task = tasks::find(&client, &args.task).await?;
    let input = ecs::StopTaskRequest {
        cluster: task.cluster_arn.clone(),
        task: task.task_arn.clone(),
        reason: Some(args.reason.clone()),
    };
    let _: ecs::StopTaskResponse = client.ecs("StopTask", &input).await?;
    println!("{} is stopping", tasks::id(&task));
    Ok(())
}
