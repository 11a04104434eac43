//! A container instance: a host whose agent registered, with what it offers and how it is.
//!
//! What is left of its resources is not here: it is derived from the tasks that occupy it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use longshore_types::{
    AccountId, ClusterName, InstanceArn, InstanceId, Resources, Scope, Timestamp,
};
use serde::{Deserialize, Serialize};
use traffic::tunnels::sender_number;

use crate::table::Record;
use crate::tags::Tags;
use crate::task::{HostPort, Need, Protocol};
use crate::view::Index;

/// The attribute of instances that take Fargate tasks.
pub const FARGATE_ATTRIBUTE: &str = "longshore.fargate";
/// The attribute of instances that say by how much more CPU than they have Fargate tasks may ask of them together, in
/// percent of what they have.
pub const FARGATE_CPU_ATTRIBUTE: &str = "longshore.fargate-cpu-percent";
/// What that may be.
const FARGATE_CPU_PERCENT: RangeInclusive<u64> = 1..=10_000;
/// The attribute of instances whose agent makes a task's interface itself.
pub const ENI_ATTRIBUTE: &str = "longshore.eni";
/// The attribute that says by which address other hosts reach this one.
pub const UNDERLAY_ATTRIBUTE: &str = "longshore.underlay-address";
/// The attribute that says whether the host can encrypt what it sends to other hosts.
pub const ENCRYPTION_ATTRIBUTE: &str = "longshore.encryption";
/// What that begins with on a host that can; its generation follows.
const ENCRYPTS: &str = "aes-gcm/";
/// The attribute of instances whose host serves load balancers.
pub const BALANCERS_ATTRIBUTE: &str = "longshore.balancers";
/// The attribute of instances whose host judges packets in default VPCs that were changed.
pub const JUDGES_ATTRIBUTE: &str = "longshore.judges-default-vpcs";
/// The attribute that says what a host that joined is called by itself.
pub const HOST_ATTRIBUTE: &str = "longshore.host-name";

/// Where an instance stands, in life order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum InstanceStatus {
    Active,
    Draining,
    Inactive,
}

impl InstanceStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Draining => "DRAINING",
            Self::Inactive => "INACTIVE",
        }
    }
}

/// What GPUs are called among an instance's resources.
pub const GPU_RESOURCE: &str = "GPU";

/// One of `totalResources` besides CPU, memory and ports, kept as it was sent. Placement looks at GPUs alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherResource {
    pub name: String,
    pub kind: String,
    pub integer: Option<i32>,
    pub strings: Vec<String>,
}

/// The agent's side of an instance. Written by the session shell only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentState {
    pub connected: bool,
    pub version: Option<String>,
    pub hash: Option<String>,
    pub docker_version: Option<String>,
    /// Grows with every session: the high half of the sequence numbers sent in it.
    pub session: u32,
    pub changed_at: Timestamp,
    /// When something last came from it, of one that went away; a region's start begins the wait anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Timestamp>,
    /// The longest limit that it may go by: its fenced tasks run on for so long without a word from the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Where its last session came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
}

impl AgentState {
    /// Since when nothing is heard of it, unless it is connected.
    pub fn silent_since(&self) -> Option<Timestamp> {
        (!self.connected).then(|| self.heard_at.unwrap_or(self.changed_at))
    }
}

/// What a part of the instance said of its health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceHealth {
    /// Such as `CONTAINER_RUNTIME`.
    pub kind: String,
    pub status: String,
    pub updated_at: Timestamp,
    pub changed_at: Timestamp,
}

/// A container instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    pub id: InstanceId,
    pub scope: Scope,
    pub cluster: ClusterName,
    pub status: InstanceStatus,
    pub total: Resources,
    /// Ports that its agent keeps for the host.
    pub reserved_ports: BTreeSet<HostPort>,
    pub other_resources: Vec<OtherResource>,
    pub attributes: BTreeMap<String, Option<String>>,
    pub tags: Tags,
    pub ec2_instance_id: Option<String>,
    pub capacity_provider: Option<String>,
    pub is_external: bool,
    /// The access key it registered with, or what all keys of a host that joined have in common; only such a key may
    /// speak for it.
    pub access_key: Option<String>,
    pub registered_at: Timestamp,
    pub agent: AgentState,
    pub health: Vec<InstanceHealth>,
    /// Grows by one with every change.
    pub version: u64,
}

impl Instance {
    pub fn arn(&self) -> InstanceArn {
        InstanceArn { scope: self.scope.clone(), cluster: self.cluster.clone(), id: self.id }
    }

    pub fn has(&self, attribute: &str) -> bool {
        self.attributes.contains_key(attribute)
    }

    fn is_true(&self, attribute: &str) -> bool {
        self.attributes.get(attribute).and_then(Option::as_deref) == Some("true")
    }

    pub fn takes_fargate(&self) -> bool {
        self.is_true(FARGATE_ATTRIBUTE)
    }

    /// The CPU that all tasks here may need together if Fargate tasks are among them.
    pub fn fargate_cpu_units(&self) -> u64 {
        let said = self.attributes.get(FARGATE_CPU_ATTRIBUTE).and_then(Option::as_deref);
        let percent = said.and_then(|text| text.parse().ok());
        let percent = percent.filter(|it| FARGATE_CPU_PERCENT.contains(it)).unwrap_or(100);
        u64::from(self.total.cpu.0) * percent / 100
    }

    /// Whether its host exchanges packets with other hosts.
    pub fn meets_hosts(&self) -> bool {
        self.has(UNDERLAY_ATTRIBUTE)
    }

    /// Its host's address among the hosts, where its agent said one.
    pub fn underlay(&self) -> Option<Ipv4Addr> {
        self.attributes.get(UNDERLAY_ATTRIBUTE)?.as_deref()?.parse().ok()
    }

    /// The generation of its host's keys, if it can encrypt what it sends to other hosts.
    pub fn tunnel_generation(&self) -> Option<&str> {
        self.attributes.get(ENCRYPTION_ATTRIBUTE)?.as_deref()?.strip_prefix(ENCRYPTS)
    }

    /// Why it cannot, if its agent said so.
    pub fn encrypts_not_for(&self) -> Option<&str> {
        let said = self.attributes.get(ENCRYPTION_ATTRIBUTE)?.as_deref()?;
        (!said.starts_with(ENCRYPTS)).then_some(said)
    }

    /// Whether its agent makes interfaces itself, so that nothing needs to be attached first.
    pub fn makes_interfaces(&self) -> bool {
        self.is_true(ENI_ATTRIBUTE)
    }

    /// Whether its host judges packets in default VPCs that were changed. Earlier releases let all of them pass.
    pub fn judges_default_vpcs(&self) -> bool {
        self.is_true(JUDGES_ATTRIBUTE)
    }

    /// Whether interfaces of load balancers may be put on its host.
    pub fn serves_balancers(&self) -> bool {
        self.is_true(BALANCERS_ATTRIBUTE)
            && self.makes_interfaces()
            && self.has(UNDERLAY_ATTRIBUTE)
            && !self.is_external
    }

    pub fn zone(&self) -> Option<&str> {
        self.attributes.get("ecs.availability-zone").and_then(Option::as_deref)
    }

    /// The ids of its GPUs.
    pub fn gpus(&self) -> &[String] {
        let gpus = self.other_resources.iter().find(|it| it.name == GPU_RESOURCE);
        gpus.map(|gpus| gpus.strings.as_slice()).unwrap_or_default()
    }

    /// How many GPUs it has.
    pub fn gpu_count(&self) -> u32 {
        u32::try_from(self.gpus().len()).unwrap_or(u32::MAX)
    }

    /// What remains after `taken`, never less than nothing.
    pub fn remaining<'a>(&self, taken: impl IntoIterator<Item = &'a Need>) -> Remaining {
        let mut remaining = Remaining {
            resources: self.total,
            taken_ports: self.reserved_ports.clone(),
            gpus: self.gpu_count(),
        };
        for need in taken {
            let Resources { cpu, memory } = &mut remaining.resources;
            cpu.0 = cpu.0.saturating_sub(need.resources.cpu.0);
            memory.0 = memory.0.saturating_sub(need.resources.memory.0);
            remaining.taken_ports.extend(need.ports.iter().copied());
            remaining.gpus = remaining.gpus.saturating_sub(need.gpus);
        }
        remaining
    }

    /// `OK` if every part is, the worst word otherwise; nothing if none has spoken.
    pub fn overall_health(&self) -> &'static str {
        let is = |status: &str| self.health.iter().any(|each| each.status == status);
        if self.health.is_empty() || is("INSUFFICIENT_DATA") {
            "INSUFFICIENT_DATA"
        } else if is("IMPAIRED") {
            "IMPAIRED"
        } else if is("INITIALIZING") {
            "INITIALIZING"
        } else {
            "OK"
        }
    }
}

impl Record for Instance {
    type Id = InstanceId;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> InstanceId {
        self.id
    }

    fn indexes(&self) -> Vec<Index> {
        let mut indexes = vec![
            Index::ClusterInstances(self.scope.account, self.cluster.clone()),
            Index::Instance(self.id),
        ];
        if self.takes_fargate() && self.status == InstanceStatus::Active {
            indexes.push(Index::FargateInstances);
        }
        if let Some(address) = self.underlay().filter(|_| self.status < InstanceStatus::Inactive) {
            indexes.push(Index::HostNumber(sender_number(address)));
        }
        indexes
    }
}

/// What is left of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    pub resources: Resources,
    pub taken_ports: BTreeSet<HostPort>,
    pub gpus: u32,
}

impl Remaining {
    pub fn ports(&self, protocol: Protocol) -> impl Iterator<Item = u16> + '_ {
        let of = move |port: &&HostPort| port.protocol == protocol;
        self.taken_ports.iter().filter(of).map(|port| port.port)
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::{CpuUnits, MemoryMib};

    use super::*;

    #[test]
    fn what_is_left_is_the_total_less_what_tasks_take() {
        let instance = sample();
        let port = HostPort { protocol: Protocol::Udp, port: 53 };
        let need = Need {
            resources: Resources { cpu: CpuUnits(256), memory: MemoryMib(3000) },
            ports: vec![port],
            gpus: 0,
        };
        let left = instance.remaining([&need]);
        assert_eq!(left.resources, Resources { cpu: CpuUnits(768), memory: MemoryMib(0) });
        assert_eq!(left.ports(Protocol::Udp).collect::<Vec<_>>(), [53]);
        assert_eq!(left.ports(Protocol::Tcp).collect::<Vec<_>>(), [22]);
    }

    #[test]
    fn an_instance_is_as_healthy_as_its_worst_part() {
        let mut instance = sample();
        assert_eq!(instance.overall_health(), "INSUFFICIENT_DATA");
        let part = |status: &str| InstanceHealth {
            kind: "CONTAINER_RUNTIME".to_owned(),
            status: status.to_owned(),
            updated_at: Timestamp(1),
            changed_at: Timestamp(1),
        };
        instance.health = vec![part("OK"), part("IMPAIRED")];
        assert_eq!(instance.overall_health(), "IMPAIRED");
        instance.health.truncate(1);
        assert_eq!(instance.overall_health(), "OK");
    }

    fn sample() -> Instance {
        Instance {
            id: InstanceId::from_bytes([1; 16]),
            scope: Scope {
                region: "eu-north-1".parse().unwrap(),
                account: "000000000000".parse().unwrap(),
            },
            cluster: ClusterName::default_cluster(),
            status: InstanceStatus::Active,
            total: Resources { cpu: CpuUnits(1024), memory: MemoryMib(2048) },
            reserved_ports: [HostPort { protocol: Protocol::Tcp, port: 22 }].into(),
            other_resources: Vec::new(),
            attributes: [(FARGATE_ATTRIBUTE.to_owned(), Some("true".to_owned()))].into(),
            tags: Tags::default(),
            ec2_instance_id: None,
            capacity_provider: None,
            is_external: false,
            access_key: None,
            registered_at: Timestamp(0),
            agent: AgentState::default(),
            health: Vec::new(),
            version: 0,
        }
    }
}
