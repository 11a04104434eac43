//! What an agent is told of a task: its row and its definition in the agent's own vocabulary.
//!
//! Amazon's agent applies few overrides itself and reads container settings from two strings of
//! Docker's JSON, so everything is folded here: overrides into the container, settings into
//! `dockerConfig`. Our agent reads the same.
//!
//! **Invariant:** the same task, definition, view and roles give the same payload, byte for byte.

mod ahead;
mod container;
mod docker;
mod image;
mod role;
mod secret;

use std::net::Ipv4Addr;

use acs::task::{DockerVolume, HostVolume, Ipv4Address, NetworkInterface, Volume};
use ecs_api as api;
use longshore_types::DhcpOptionsId;
use model::View;
use model::instance::Instance;
use model::network::Network;
use model::task::{Desired, LaunchType, Phase, Task};
use model::vpc::Vpc;
use plan::network_feed;

pub(crate) use ahead::Ahead;
pub use role::{Acting, Given, Roles, Unassumable, is_due};

/// What a payload depends on besides the task and its definition.
#[derive(Clone, Copy, Debug)]
pub struct Environment<'a> {
    /// The address that the region's registry is reached at: `127.0.0.1:4566`.
    pub registry: &'a str,
    /// The same as the region's own machine calls it, which no other machine could follow.
    pub local_registry: &'a str,
    /// Whose images are here.
    pub view: &'a View,
    /// The endpoint of the region: `http://127.0.0.1:4566`.
    pub endpoint: &'a str,
    /// The VPC of the task's interface, or else what its account has for a default one, if it has that still.
    pub vpc: Option<&'a Vpc>,
    /// Whether the task's interface is in a default VPC that was changed.
    pub is_judged: bool,
    /// Whether the agent is ours, which needs no endpoints spelled out.
    pub agent_is_ours: bool,
    /// What its execution is done with, and what its containers act with.
    pub roles: &'a Roles,
}

/// Where images are that a definition names.
#[derive(Clone, Copy, Debug)]
struct Registries<'a> {
    registry: &'a str,
    local_registry: &'a str,
    view: &'a View,
    endpoint: &'a str,
    agent_is_ours: bool,
}

impl<'a> Environment<'a> {
    fn registries(&self) -> Registries<'a> {
        let Self { registry, local_registry, view, endpoint, agent_is_ours, .. } = *self;
        Registries { registry, local_registry, view, endpoint, agent_is_ours }
    }
}

/// The VPC of a task's interface is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VpcGone;

/// What is told of a task as its VPC. One without an interface needs none, and its account may have deleted its default one.
pub fn vpc_of(task: &Task, network: &Network<'_>) -> Result<Option<Vpc>, VpcGone> {
    let default = || network.default_vpc().and_then(|vpc| network.whole_vpc(&vpc.id));
    match &task.interface {
        Some(interface) => {
            let own = interface.own_vpc.as_ref();
            let vpc = own.map_or_else(default, |own| network.whole_vpc(own));
            vpc.map(Some).ok_or(VpcGone)
        }
        None => Ok(default()),
    }
}

/// Whether a task's interface is in a default VPC that was changed.
pub fn is_judged(task: &Task, network: &Network<'_>) -> bool {
    let is_in_default = task.interface.as_ref().is_some_and(|it| it.own_vpc.is_none());
    let default = || network.default_vpc();
    is_in_default && default().is_some_and(|vpc| network_feed::is_judged(network, &vpc.id))
}

/// Whether a task that is to be started must not be by an agent: agents of earlier releases let all packets pass in a
/// default VPC that was changed.
pub fn is_beyond(agent: &Instance, task: &Task, network: &Network<'_>) -> bool {
    let is_older = agent.makes_interfaces() && !agent.judges_default_vpcs();
    is_older && task.phase <= Phase::Pending && is_judged(task, network)
}

/// A task that is wanted to run, in full.
pub fn of_task(
    task: &Task,
    definition: &api::TaskDefinition,
    environment: &Environment<'_>,
) -> acs::Task {
    let containers = definition.container_definitions.as_deref().unwrap_or_default();
    let network_mode = network_mode(definition);
    acs::Task {
        arn: task.arn().to_string(),
        task_cluster_arn: Some(cluster_arn(task)),
        desired_status: Some(desired_word(task.desired_of_agent())),
        family: Some(task.definition.family.to_string()),
        version: Some(task.definition.revision.to_string()),
        containers: containers
            .iter()
            .map(|each| container::of_container(task, definition, each, environment))
            .collect(),
        volumes: definition.volumes.iter().flatten().map(volume).collect(),
        associations: gpus(task),
        cpu: task.cpu.map(|cpu| f64::from(cpu.0) / 1024.0),
        memory: task.memory.map(|memory| i64::from(memory.0)),
        elastic_network_interfaces: interfaces(task, environment).into_iter().collect(),
        network_mode: Some(network_mode),
        pid_mode: definition.pid_mode.as_ref().map(ToString::to_string),
        ipc_mode: definition.ipc_mode.as_ref().map(ToString::to_string),
        launch_type: Some(task.launch.as_str().to_owned()),
        ephemeral_storage_gib: task.ephemeral_storage_gib,
        service_name: task.group.strip_prefix("service:").map(str::to_owned),
        group: Some(task.group.clone()),
        zone: task.zone.as_deref().map(str::to_owned),
        is_fenced: is_fenced(task, environment.view),
        vpc_id: environment.vpc.filter(|_| environment.agent_is_ours).map(|vpc| vpc.id.to_string()),
        role_credentials: environment.roles.acting.credentials(environment.agent_is_ours).cloned(),
        execution_role_credentials: environment.roles.execution.clone(),
        ..acs::Task::default()
    }
}

/// The GPUs of each container, as both agents read them.
fn gpus(task: &Task) -> Vec<serde_json::Value> {
    let of = |container: &model::task::Container| {
        let name = container.name.to_string();
        let gpu = move |id: &String| {
            serde_json::json!({ "name": id, "type": "gpu", "containers": [name],
                "content": { "encoding": "identity", "value": id } })
        };
        container.gpus.iter().map(gpu).collect::<Vec<_>>()
    };
    task.containers.iter().flat_map(of).collect()
}

fn is_fenced(task: &Task, view: &View) -> bool {
    let definition = view.task_definitions.get(task.scope.account, &task.definition);
    definition.is_some_and(|definition| definition.is_fenced())
}

/// A task that is wanted to stop: its name is enough.
pub fn of_stop(task: &Task) -> acs::Task {
    acs::Task {
        arn: task.arn().to_string(),
        desired_status: Some(desired_word(Desired::Stopped)),
        ..acs::Task::default()
    }
}

fn desired_word(desired: Desired) -> String {
    match desired {
        Desired::Running => "RUNNING".to_owned(),
        Desired::Stopped => "STOPPED".to_owned(),
    }
}

fn cluster_arn(task: &Task) -> String {
    let arn = longshore_types::ClusterArn { scope: task.scope.clone(), name: task.cluster.clone() };
    arn.to_string()
}

/// The network mode's word; Linux tasks without one are on the bridge.
fn network_mode(definition: &api::TaskDefinition) -> String {
    definition.network_mode.as_ref().map_or_else(|| "bridge".to_owned(), ToString::to_string)
}

/// The interface that the agent gives the task, as both agents read it.
pub fn interfaces(task: &Task, environment: &Environment<'_>) -> Option<NetworkInterface> {
    let (interface, vpc) = (task.interface.as_ref()?, environment.vpc?);
    let subnet = vpc.subnet(&interface.subnet);
    let gateway = subnet.map(|subnet| format!("{}/{}", subnet.gateway(), subnet.block.prefix()));
    let (domains, servers) = dhcp(task, &interface.private_dns_name, vpc, environment.view);
    Some(NetworkInterface {
        attachment_arn: Some(task.attachment_arn(interface.attachment)),
        ec2_id: interface.eni.to_string(),
        index: Some(1),
        mac_address: interface.mac.clone(),
        interface_association_protocol: Some("default".to_owned()),
        ipv4_addresses: vec![Ipv4Address {
            private_address: interface.address.to_string(),
            primary: true,
        }],
        subnet_gateway_ipv4_address: gateway,
        domain_name: domains,
        domain_name_servers: servers,
        private_dns_name: Some(interface.private_dns_name.clone()),
        security_groups: interface.security_groups.iter().map(ToString::to_string).collect(),
        assign_public_ip: Some(interface.assign_public_ip),
        is_judged: environment.is_judged && environment.agent_is_ours,
        name: None,
    })
}

/// The domains and servers that names are looked for in: the VPC's DHCP options', as far as they say any.
fn dhcp(task: &Task, private_dns_name: &str, vpc: &Vpc, view: &View) -> (Vec<String>, Vec<String>) {
    const AMAZONS: &str = "AmazonProvidedDNS";
    let id: Option<DhcpOptionsId> = vpc.dhcp_options.parse().ok();
    let options = id.and_then(|id| view.dhcp_options.get(task.scope.account, &id));
    let values = |key| options.map(|options| options.values(key)).unwrap_or_default();
    let mut domains: Vec<String> = Vec::new();
    for domain in values("domain-name") {
        domains.extend(domain.split_whitespace().map(str::to_owned));
    }
    if domains.is_empty() {
        domains.extend(private_dns_name.split_once('.').map(|(_, domain)| domain.to_owned()));
    }
    let resolver = vpc.dns();
    let server = |value: &String| match value == AMAZONS {
        true => Some(resolver),
        // There is no way to one of IPv6.
        false => value.parse().ok(),
    };
    let mut servers: Vec<Ipv4Addr> =
        values("domain-name-servers").iter().filter_map(server).collect();
    if servers.is_empty() {
        servers.push(resolver);
    }
    (domains, servers.iter().map(ToString::to_string).collect())
}

fn volume(volume: &api::Volume) -> Volume {
    let name = volume.name.clone().unwrap_or_default();
    if let Some(docker) = &volume.docker_volume_configuration {
        return Volume {
            name,
            kind: Some("docker".to_owned()),
            host: None,
            docker_volume_configuration: Some(DockerVolume {
                scope: Some(
                    docker.scope.as_ref().map_or_else(|| "task".to_owned(), ToString::to_string),
                ),
                autoprovision: docker.autoprovision.unwrap_or(false),
                driver: Some(docker.driver.clone().unwrap_or_else(|| "local".to_owned())),
                driver_opts: docker.driver_opts.clone().unwrap_or_default(),
                labels: docker.labels.clone().unwrap_or_default(),
            }),
        };
    }
    let source_path = volume.host.as_ref().and_then(|host| host.source_path.clone());
    Volume {
        name,
        kind: Some("host".to_owned()),
        host: Some(HostVolume { source_path }),
        docker_volume_configuration: None,
    }
}

/// Whether a task runs where nobody but us decides: settings that hosts have, Fargate gives itself.
fn is_fargate(task: &Task) -> bool {
    task.launch == LaunchType::Fargate
}

#[cfg(test)]
mod tests;
