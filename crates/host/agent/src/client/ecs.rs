//! The operations of ECS that an agent calls.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Api, CallError, ECS};
use crate::engine::state::{Binding, TaskEvent};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
}

impl Attribute {
    pub fn flag(name: impl Into<String>) -> Self {
        Self { name: name.into(), value: None }
    }

    pub fn with(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    pub name: &'static str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integer_value: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub string_set_value: Option<Vec<String>>,
}

impl Resource {
    pub fn integer(name: &'static str, value: u64) -> Self {
        let integer_value = Some(i32::try_from(value).unwrap_or(i32::MAX));
        Self { name, kind: "INTEGER", integer_value, string_set_value: None }
    }

    pub fn strings(name: &'static str, values: Vec<String>) -> Self {
        Self { name, kind: "STRINGSET", integer_value: None, string_set_value: Some(values) }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Register {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_instance_arn: Option<String>,
    pub client_token: String,
    pub instance_identity_document: &'static str,
    pub instance_identity_document_signature: &'static str,
    pub total_resources: Vec<Resource>,
    pub attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platform_devices: Vec<PlatformDevice>,
}

/// A device that tasks are given whole.
#[derive(Clone, Debug, Serialize)]
pub struct PlatformDevice {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

impl PlatformDevice {
    pub fn gpu(id: &str) -> Self {
        Self { id: id.to_owned(), kind: "GPU" }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerInstance {
    pub container_instance_arn: String,
    pub attributes: Vec<Attribute>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct PollEndpoints {
    pub endpoint: Option<String>,
    pub telemetry_endpoint: Option<String>,
}

#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SubmitAttachment {
    pub attachment_arn: String,
    pub status: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubmitTask<'a> {
    cluster: &'a str,
    task: &'a str,
    status: &'static str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<SubmitContainer<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    managed_agents: Vec<SubmitManagedAgent<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pull_started_at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pull_stopped_at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_stopped_at: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubmitContainer<'a> {
    container_name: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    network_bindings: Vec<SubmitBinding>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubmitBinding {
    #[serde(rename = "bindIP")]
    bind_ip: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_port: Option<u16>,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_port_range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_port_range: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubmitManagedAgent<'a> {
    container_name: &'a str,
    managed_agent_name: &'a str,
    status: &'static str,
    reason: &'a str,
}

impl Api {
    /// Any operation of ECS, with the members that the caller cares about.
    pub async fn ecs<I: Serialize, O: DeserializeOwned>(
        &self,
        operation: &'static str,
        input: &I,
    ) -> Result<O, CallError> {
        self.call(ECS, operation, input).await
    }

    pub async fn register_container_instance(
        &self,
        input: &Register,
    ) -> Result<ContainerInstance, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            container_instance: ContainerInstance,
        }
        let answer: Answer = self.call(ECS, "RegisterContainerInstance", input).await?;
        Ok(answer.container_instance)
    }

    pub async fn create_cluster(&self, name: &str) -> Result<(), CallError> {
        let input = serde_json::json!({ "clusterName": name });
        self.call::<_, serde_json::Value>(ECS, "CreateCluster", &input).await.map(drop)
    }

    pub async fn discover_poll_endpoint(
        &self,
        cluster: &str,
        instance: &str,
    ) -> Result<PollEndpoints, CallError> {
        let input = serde_json::json!({
            "cluster": cluster, "containerInstance": instance, "zoneId": "",
        });
        self.call(ECS, "DiscoverPollEndpoint", &input).await
    }

    pub async fn submit_task_state_change(
        &self,
        cluster: &str,
        task: &str,
        event: &TaskEvent,
    ) -> Result<(), CallError> {
        let input = submit_task(cluster, task, event);
        self.call::<_, serde_json::Value>(ECS, "SubmitTaskStateChange", &input).await.map(drop)
    }

    pub async fn submit_task_attachments(
        &self,
        cluster: &str,
        task: &str,
        attachments: &[SubmitAttachment],
    ) -> Result<(), CallError> {
        let input =
            serde_json::json!({ "cluster": cluster, "task": task, "attachments": attachments });
        self.call::<_, serde_json::Value>(ECS, "SubmitTaskStateChange", &input).await.map(drop)
    }

    pub async fn submit_attachment_state_changes(
        &self,
        cluster: &str,
        attachments: &[SubmitAttachment],
    ) -> Result<(), CallError> {
        let input = serde_json::json!({ "cluster": cluster, "attachments": attachments });
        let operation = "SubmitAttachmentStateChanges";
        self.call::<_, serde_json::Value>(ECS, operation, &input).await.map(drop)
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this age fit a double exactly")]
fn seconds(at: longshore_types::Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}

/// What was asked for as one range is told as one, but for pieces that do not lie side by side: agents of before gave each of
/// its ports a place of its own.
fn submit_bindings(bindings: &[Binding]) -> Vec<SubmitBinding> {
    let follows = |a: u16, b: u16| a.checked_add(1) == Some(b);
    let is_one = |a: &Binding, b: &Binding| {
        a.range.is_some()
            && (a.range, a.protocol) == (b.range, b.protocol)
            && follows(a.container_port, b.container_port)
            && follows(a.host_port, b.host_port)
    };
    let told = |ports: &[Binding]| {
        let (first, last) = (ports.first()?, ports.last()?);
        let is_range = first.range.is_some();
        let range = |first: u16, last: u16| is_range.then(|| format!("{first}-{last}"));
        Some(SubmitBinding {
            bind_ip: "0.0.0.0",
            container_port: (!is_range).then_some(first.container_port),
            host_port: (!is_range).then_some(first.host_port),
            protocol: first.protocol.as_str(),
            container_port_range: range(first.container_port, last.container_port),
            host_port_range: range(first.host_port, last.host_port),
        })
    };
    bindings.chunk_by(is_one).filter_map(told).collect()
}

fn submit_task<'a>(cluster: &'a str, task: &'a str, event: &'a TaskEvent) -> SubmitTask<'a> {
    SubmitTask {
        cluster,
        task,
        status: event.status.as_str(),
        reason: &event.reason,
        containers: event
            .containers
            .iter()
            .map(|change| SubmitContainer {
                container_name: &change.name,
                status: change.status.as_str(),
                runtime_id: change.runtime_id.as_deref(),
                image_digest: change.image_digest.as_deref(),
                exit_code: change.exit_code,
                reason: change.reason.as_deref(),
                network_bindings: submit_bindings(&change.bindings),
            })
            .collect(),
        managed_agents: event
            .managed_agents
            .iter()
            .map(|change| SubmitManagedAgent {
                container_name: &change.container,
                managed_agent_name: &change.agent,
                status: "STOPPED",
                reason: &change.reason,
            })
            .collect(),
        pull_started_at: event.pull_started_at.map(seconds),
        pull_stopped_at: event.pull_stopped_at.map(seconds),
        execution_stopped_at: event.execution_stopped_at.map(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Protocol;

    #[test]
    fn a_range_of_ports_is_told_as_one_binding() {
        let bind = |container_port, host_port, protocol, range| Binding {
            container_port,
            host_port,
            protocol,
            range,
        };
        let bindings = [
            bind(80, 8080, Protocol::Tcp, None),
            bind(81, 8081, Protocol::Tcp, None),
            bind(90, 32_769, Protocol::Udp, Some(90)),
            bind(91, 32_770, Protocol::Udp, Some(90)),
            bind(92, 32_771, Protocol::Udp, Some(92)),
            bind(93, 32_772, Protocol::Udp, Some(92)),
            bind(94, 40_000, Protocol::Udp, Some(92)),
            bind(95, 39_999, Protocol::Udp, Some(92)),
        ];
        let told = serde_json::to_value(submit_bindings(&bindings)).unwrap();
        let range = |container: &str, host: &str| {
            serde_json::json!({
                "bindIP": "0.0.0.0", "protocol": "udp",
                "containerPortRange": container, "hostPortRange": host,
            })
        };
        let port = |container: u16, host: u16| {
            serde_json::json!({
                "bindIP": "0.0.0.0", "protocol": "tcp", "containerPort": container, "hostPort": host,
            })
        };
        let expected = [
            port(80, 8080),
            port(81, 8081),
            range("90-91", "32769-32770"),
            range("92-93", "32771-32772"),
            range("94-94", "40000-40000"),
            range("95-95", "39999-39999"),
        ];
        assert_eq!(told, serde_json::json!(expected));
    }
}
