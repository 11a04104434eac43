//! Finding tasks through the API, as any client would.

use ecs_api as ecs;

use crate::client::{Client, ClientError};
use crate::error::Error;

/// Tasks of one DescribeTasks call.
const DESCRIBE_MAX: usize = 100;

/// All clusters' ARNs.
pub(crate) async fn clusters(client: &Client) -> Result<Vec<String>, ClientError> {
    let mut input = ecs::ListClustersRequest::default();
    let mut found = Vec::new();
    loop {
        let page: ecs::ListClustersResponse = client.ecs("ListClusters", &input).await?;
        found.extend(page.cluster_arns.unwrap_or_default());
        input.next_token = page.next_token;
        if input.next_token.is_none() {
            return Ok(found);
        }
    }
}

/// The ARNs of a cluster's tasks that are wanted to run, or of those that are not.
pub(crate) async fn list(
    client: &Client,
    cluster: &str,
    is_stopped: bool,
    family: Option<&str>,
) -> Result<Vec<String>, ClientError> {
    let status = if is_stopped { "STOPPED" } else { "RUNNING" };
    let mut input = ecs::ListTasksRequest {
        cluster: Some(cluster.to_owned()),
        desired_status: Some(status.into()),
        family: family.map(str::to_owned),
        ..ecs::ListTasksRequest::default()
    };
    let mut found = Vec::new();
    loop {
        let page: ecs::ListTasksResponse = client.ecs("ListTasks", &input).await?;
        found.extend(page.task_arns.unwrap_or_default());
        input.next_token = page.next_token;
        if input.next_token.is_none() {
            return Ok(found);
        }
    }
}

pub(crate) async fn describe(
    client: &Client,
    cluster: &str,
    tasks: &[String],
) -> Result<Vec<ecs::Task>, ClientError> {
    let mut found = Vec::new();
    for some in tasks.chunks(DESCRIBE_MAX) {
        let input = ecs::DescribeTasksRequest {
            cluster: Some(cluster.to_owned()),
            tasks: Some(some.to_vec()),
            ..ecs::DescribeTasksRequest::default()
        };
        let page: ecs::DescribeTasksResponse = client.ecs("DescribeTasks", &input).await?;
        found.extend(page.tasks.unwrap_or_default());
    }
    Ok(found)
}

/// Every cluster's tasks.
pub(crate) async fn all(
    client: &Client,
    with_stopped: bool,
) -> Result<Vec<ecs::Task>, ClientError> {
    let mut found = Vec::new();
    for cluster in clusters(client).await? {
        for is_stopped in [false, true] {
            if with_stopped || !is_stopped {
                let arns = list(client, &cluster, is_stopped, None).await?;
                found.extend(describe(client, &cluster, &arns).await?);
            }
        }
    }
    // A task that is about to stop is in both lists for a moment.
    found.sort_by(|a, b| a.task_arn.cmp(&b.task_arn));
    found.dedup_by(|a, b| a.task_arn == b.task_arn);
    Ok(found)
}

/// The one task that `text` means: an ARN, an id, or the beginning of one.
pub(crate) async fn find(client: &Client, text: &str) -> Result<ecs::Task, Error> {
    let wanted = text.rsplit('/').next().unwrap_or(text);
    let mut matching = Vec::new();
    for cluster in clusters(client).await? {
        for is_stopped in [false, true] {
            let arns = list(client, &cluster, is_stopped, None).await?;
            let hits = arns.into_iter().filter(|arn| id_of(arn).starts_with(wanted));
            matching.extend(hits.map(|arn| (arn, cluster.clone())));
        }
    }
    matching.sort();
    matching.dedup();
    match matching.as_slice() {
        [] => Err(Error::message(format!("there is no task {text}; `longshore ps -a` shows all"))),
        [(arn, cluster)] => {
            let found = describe(client, cluster, std::slice::from_ref(arn)).await?;
            found
                .into_iter()
                .next()
                .ok_or_else(|| Error::message(format!("there is no task {text}")))
        }
        several => {
            let ids: Vec<&str> = several.iter().map(|(arn, _)| id_of(arn)).collect();
            Err(Error::message(format!("{text} may mean {}", ids.join(" or "))))
        }
    }
}

/// What follows the last slash of an ARN.
pub(crate) fn id_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

pub(crate) fn id(task: &ecs::Task) -> &str {
    id_of(task.task_arn.as_deref().unwrap_or_default())
}

/// The id of a task's own interface.
pub(crate) fn interface(task: &ecs::Task) -> Option<String> {
    detail(task, "networkInterfaceId")
}

fn detail(task: &ecs::Task, name: &str) -> Option<String> {
    let attachments = task.attachments.iter().flatten();
    let mut details = attachments.flat_map(|attachment| attachment.details.iter().flatten());
    details.find(|detail| detail.name.as_deref() == Some(name))?.value.clone()
}

/// The address of a task's own interface, or the ports that it has on the host.
pub(crate) fn address(task: &ecs::Task) -> Option<String> {
    if let Some(own) = detail(task, "privateIPv4Address") {
        return Some(own);
    }
    let containers = task.containers.iter().flatten();
    let bindings = containers.flat_map(|container| container.network_bindings.iter().flatten());
    let ports: Vec<String> =
        bindings.filter_map(|b| Some(format!("127.0.0.1:{}", b.host_port?))).collect();
    if ports.is_empty() { None } else { Some(ports.join(",")) }
}

/// `web:3` of a task definition's ARN.
pub(crate) fn definition(task: &ecs::Task) -> &str {
    id_of(task.task_definition_arn.as_deref().unwrap_or_default())
}

pub(crate) fn status(task: &ecs::Task) -> &str {
    task.last_status.as_deref().unwrap_or("UNKNOWN")
}

/// Why a task has no place yet, as the region tells in one of its attributes.
pub(crate) fn waits_for(task: &ecs::Task) -> Option<&str> {
    attribute(task, "longshore.waits-for")
}

fn attribute<'t>(task: &'t ecs::Task, name: &str) -> Option<&'t str> {
    let mut attributes = task.attributes.iter().flatten();
    attributes.find(|each| each.name.as_deref() == Some(name))?.value.as_deref()
}

/// Why a stopped task stopped, with what its containers say.
pub(crate) fn why_stopped(task: &ecs::Task) -> String {
    let mut text = task.stopped_reason.clone().unwrap_or_default();
    if let Some(detail) = attribute(task, "longshore.stopped-because") {
        return format!("{text}: {detail}");
    }
    for container in task.containers.iter().flatten() {
        let name = container.name.as_deref().unwrap_or_default();
        if let Some(reason) = &container.reason {
            text.push_str(&format!("; {name}: {reason}"));
        } else if let Some(code) = container.exit_code.filter(|code| *code != 0) {
            text.push_str(&format!("; {name}: exit code {code}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tasks_address_is_its_own_or_the_hosts() {
        let detail = ecs::KeyValuePair {
            name: Some("privateIPv4Address".to_owned()),
            value: Some("172.31.0.9".to_owned()),
        };
        let attachment = ecs::Attachment { details: Some(vec![detail]), ..Default::default() };
        let task = ecs::Task { attachments: Some(vec![attachment]), ..Default::default() };
        assert_eq!(address(&task).as_deref(), Some("172.31.0.9"));
        let binding = ecs::NetworkBinding { host_port: Some(32768), ..Default::default() };
        let container =
            ecs::Container { network_bindings: Some(vec![binding]), ..Default::default() };
        let task = ecs::Task { containers: Some(vec![container]), ..Default::default() };
        assert_eq!(address(&task).as_deref(), Some("127.0.0.1:32768"));
        assert_eq!(address(&ecs::Task::default()), None);
    }

    #[test]
    fn ids_are_what_follows_the_last_slash() {
        assert_eq!(id_of("arn:aws:ecs:r:0:task/web/0011"), "0011");
        assert_eq!(id_of("0011"), "0011");
    }
}
