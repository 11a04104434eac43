//! The messages of the work socket, member for member as Amazon's agent reads and writes them.
//!
//! Nothing here decides: a payload's task becomes a [`crate::spec::TaskSpec`] before anything looks
//! at it. What we do not read is not modelled; an unknown member is ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One text frame: a type and its body, or an error object that has neither.
#[derive(Debug, Deserialize)]
pub struct Envelope<'a> {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    #[serde(borrow)]
    pub message: Option<&'a RawValue>,
}

/// What we send, before it is wrapped.
#[derive(Debug, Serialize)]
pub struct Outgoing<'a, T> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub message: &'a T,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Heartbeat {
    pub message_id: Option<String>,
    pub healthy: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatAck {
    pub message_id: String,
}

#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Ack {
    pub cluster: String,
    pub container_instance: String,
    pub message_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsAck {
    pub message_id: String,
    pub credentials_id: String,
    pub expiration: String,
}

/// What every message that wants an acknowledgement carries.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Header {
    pub message_id: Option<String>,
    pub cluster_arn: Option<String>,
    pub container_instance_arn: Option<String>,
}

impl Header {
    /// The acknowledgement of a complete header; `None` if a required member is missing.
    pub fn ack(&self, reason: Option<&str>) -> Option<Ack> {
        let present = |member: &Option<String>| member.clone().filter(|text| !text.is_empty());
        Some(Ack {
            cluster: present(&self.cluster_arn)?,
            container_instance: present(&self.container_instance_arn)?,
            message_id: present(&self.message_id)?,
            reason: reason.map(str::to_owned),
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Payload {
    #[serde(flatten)]
    pub header: Header,
    /// Read one by one, so that one bad task does not lose the others.
    pub tasks: Vec<serde_json::Value>,
    pub seq_num: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Task {
    pub arn: String,
    pub task_cluster_arn: Option<String>,
    pub family: Option<String>,
    pub version: Option<String>,
    pub desired_status: Option<String>,
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    pub cpu: Option<f64>,
    pub memory: Option<i64>,
    #[serde(skip_serializing)]
    pub role_credentials: Option<RoleCredentials>,
    #[serde(skip_serializing)]
    pub execution_role_credentials: Option<RoleCredentials>,
    /// Ours, for the disk: the credentials themselves are not written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_credentials_id: Option<String>,
    pub elastic_network_interfaces: Vec<NetworkInterface>,
    pub network_mode: Option<String>,
    pub pid_mode: Option<String>,
    pub ipc_mode: Option<String>,
    pub associations: Vec<serde_json::Value>,
    pub proxy_configuration: Option<serde_json::Value>,
    pub attachments: Vec<Attachment>,
    pub launch_type: Option<String>,
    /// Ours: Amazon's own hosts are told otherwise how large a task's disk is.
    pub ephemeral_storage_gib: Option<u32>,
    pub service_name: Option<String>,
    pub group: Option<String>,
}

/// Held in memory only, and never shown.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoleCredentials {
    pub credentials_id: String,
    pub role_arn: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: String,
    pub expiration: String,
}

impl std::fmt::Debug for RoleCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoleCredentials")
            .field("credentials_id", &self.credentials_id)
            .field("role_arn", &self.role_arn)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attachment {
    pub attachment_arn: Option<String>,
    pub attachment_type: Option<String>,
    pub attachment_properties: Vec<serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub container_arn: Option<String>,
    pub command: Option<Vec<String>>,
    pub entry_point: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    pub environment_files: Vec<serde_json::Value>,
    pub essential: bool,
    pub cpu: Option<i64>,
    pub memory: Option<i64>,
    pub links: Vec<String>,
    pub volumes_from: Vec<VolumesFrom>,
    pub mount_points: Vec<MountPoint>,
    pub port_mappings: Vec<PortMapping>,
    pub depends_on: Vec<DependsOn>,
    pub start_timeout: Option<i64>,
    pub stop_timeout: Option<i64>,
    pub restart_policy: Option<RestartPolicy>,
    pub health_check_type: Option<String>,
    pub registry_authentication: Option<RegistryAuthentication>,
    pub secrets: Vec<Secret>,
    pub logs_auth_strategy: Option<String>,
    pub firelens_configuration: Option<serde_json::Value>,
    pub managed_agents: Vec<serde_json::Value>,
    pub credential_specs: Vec<serde_json::Value>,
    /// A string of JSON.
    pub overrides: Option<String>,
    pub docker_config: Option<DockerConfig>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumesFrom {
    pub source_container: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MountPoint {
    pub source_volume: Option<String>,
    pub container_path: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortMapping {
    pub container_port: Option<u32>,
    pub container_port_range: Option<String>,
    pub host_port: Option<u32>,
    pub protocol: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DependsOn {
    pub container_name: String,
    pub condition: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestartPolicy {
    pub enabled: bool,
    pub ignored_exit_codes: Vec<i32>,
    pub restart_attempt_period: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistryAuthentication {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub ecr_auth_data: Option<EcrAuthData>,
    pub asm_auth_data: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EcrAuthData {
    pub registry_id: Option<String>,
    pub region: Option<String>,
    pub endpoint_override: Option<String>,
    pub use_execution_role: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Secret {
    pub name: String,
}

/// Docker's own configuration objects, as strings that contain JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DockerConfig {
    pub version: Option<String>,
    pub config: Option<String>,
    pub host_config: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub host: Option<HostVolume>,
    pub docker_volume_configuration: Option<DockerVolume>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostVolume {
    pub source_path: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DockerVolume {
    pub scope: Option<String>,
    pub autoprovision: bool,
    pub driver: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkInterface {
    pub name: Option<String>,
    pub mac_address: String,
    pub attachment_arn: Option<String>,
    pub ec2_id: String,
    pub index: Option<i64>,
    pub ipv4_addresses: Vec<Ipv4Address>,
    pub subnet_gateway_ipv4_address: Option<String>,
    pub domain_name: Vec<String>,
    pub domain_name_servers: Vec<String>,
    pub private_dns_name: Option<String>,
    /// Ours: which groups the interface is in. Amazon's hypervisor knows; our hosts must be told.
    pub security_groups: Vec<String>,
    /// Ours: whether the subnet and the request give it a way out to the internet.
    pub assign_public_ip: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ipv4Address {
    pub private_address: String,
    pub primary: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoleCredentialsMessage {
    pub message_id: Option<String>,
    pub task_arn: Option<String>,
    pub role_type: Option<String>,
    pub role_credentials: Option<RoleCredentials>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachInterfaces {
    #[serde(flatten)]
    pub header: Header,
    pub task_arn: Option<String>,
    pub wait_timeout_ms: Option<i64>,
    pub elastic_network_interfaces: Vec<NetworkInterface>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfirmAttachment {
    #[serde(flatten)]
    pub header: Header,
    pub task_arn: Option<String>,
    pub attachment: Option<Attachment>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifest {
    #[serde(flatten)]
    pub header: Header,
    pub timeline: Option<i64>,
    pub tasks: Vec<ManifestTask>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManifestTask {
    pub task_arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_cluster_arn: Option<String>,
    pub desired_status: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StopVerification {
    pub message_id: String,
    pub stop_candidates: Vec<ManifestTask>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StopVerificationAck {
    pub message_id: Option<String>,
    pub stop_tasks: Vec<ManifestTask>,
}
