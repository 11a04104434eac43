//! RegisterContainerInstance: an agent says what its host offers.
//!
//! Every attribute of the request is in the answer, or Amazon's agent exits for good. A registration
//! with an ARN is one of an instance that is known: it keeps its id, its tasks and its custom attributes. So is one
//! that is sent again, by its token.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_wire::{ApiError, Caller, Principal};
use control::BetweenHosts;
use control::access::may_speak_for;
use control::iam::node_keys::{caller_node, holder, is_host, node_of_holder};
use control::tasks::{ROWS_OF_TASK_MAX, put_task};
use ecs_api as api;
use longshore_types::{CpuUnits, InstanceArn, InstanceId, MemoryMib, Resources, Timestamp};
use model::instance::{
    AgentState, BALANCERS_ATTRIBUTE, ENCRYPTION_ATTRIBUTE, ENI_ATTRIBUTE, FARGATE_ATTRIBUTE,
    GPU_RESOURCE, Instance, InstanceStatus, JUDGES_ATTRIBUTE, OtherResource, UNDERLAY_ATTRIBUTE,
};
use model::task::{HostPort, Input, Protocol, Task, step};
use model::task_definition::{ARCHITECTURE_ATTRIBUTE, FENCE, OS_ATTRIBUTE};
use model::{ClientToken, Cluster, Index, Key, Node, Tags, View};
use store::{BATCH_ROWS_MAX, Batch};

use super::client_token;
use super::pool;
use super::render_instance::{Include, attributes, render};
use crate::Ecs;
use crate::errors::Refusal;

/// Rows of a registration besides those of tasks.
const ROWS_LEFT: usize = 8;
const ATTRIBUTES_MAX: usize = 500;
const PORTS_MAX: usize = 1_000;
const OTHERS_MAX: usize = 20;
const GPUS_MAX: usize = 256;
const TEXT_CHARS_MAX: usize = 1_024;
const TOKEN_CHARS_MAX: usize = 64;
/// What only agents of the region's own may say of themselves: other accounts' tasks rely on it.
const OWN_ATTRIBUTES: [&str; 8] = [
    FARGATE_ATTRIBUTE,
    BALANCERS_ATTRIBUTE,
    ENI_ATTRIBUTE,
    JUDGES_ATTRIBUTE,
    UNDERLAY_ATTRIBUTE,
    ENCRYPTION_ATTRIBUTE,
    FENCE,
    RUNTIME_ATTRIBUTE,
];

/// By which runtime the host's containers are run, where that is another than usual.
const RUNTIME_ATTRIBUTE: &str = "longshore.runtime";

const ZONE_ATTRIBUTE: &str = "ecs.availability-zone";
const TYPE_ATTRIBUTE: &str = "ecs.instance-type";

/// What agents of external instances say.
const EXTERNAL_ATTRIBUTE: &str = "ecs.capability.external";

/// What the request says of the host.
struct Offer {
    total: Resources,
    reserved_ports: BTreeSet<HostPort>,
    others: Vec<OtherResource>,
    attributes: BTreeMap<String, Option<String>>,
    tags: Tags,
    ec2_instance_id: Option<String>,
}

pub(crate) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::RegisterContainerInstanceRequest,
) -> Result<api::RegisterContainerInstanceResponse, ApiError> {
    let permission =
        ecs.on_cluster(caller, "ecs:RegisterContainerInstance", input.cluster.as_deref());
    let mut offer = read(&input)?;
    let echoed = offer.attributes.clone();
    if !matches!(caller.principal, Principal::Node { .. }) {
        offer.attributes.retain(|name, _| !OWN_ATTRIBUTES.contains(&name.as_str()));
    }
    let name = input.cluster.as_deref().filter(|given| !given.is_empty()).unwrap_or("default");
    let name = name.rsplit('/').next().unwrap_or_default();
    let (region, account) = (&ecs.control.config.region, caller.account);
    let any = format!("arn:aws:ecs:{region}:{account}:container-instance/{name}/*");
    let permission = ecs.tagging(caller, permission, any, &offer.tags);
    let known = match input.container_instance_arn.as_deref().filter(|arn| !arn.is_empty()) {
        None => None,
        Some(given) => {
            let bad = |_| Refusal::BadIdentifier { given: given.to_owned() };
            let arn: InstanceArn = given.parse().map_err(bad)?;
            ecs.check_scope(caller, &arn.scope)?;
            Some(arn.id)
        }
    };
    let token = client_token::read(input.client_token.as_deref(), TOKEN_CHARS_MAX)?;
    let mut shown = ecs
        .control
        .change(caller, &permission, |view, now| {
            let cluster = ecs.cluster(view, caller, input.cluster.as_deref())?;
            let mut batch = Batch::on(view);
            batch.rely(Key::Cluster(caller.account, cluster.name.clone()));
            let node = caller_node(view, caller);
            let mut token = token.clone().filter(|_| known.is_none()).map(|token| {
                // Whose a token is, its key says: no host goes on with another's registration.
                let who = holder(&caller.access_key);
                let operation = format!("RegisterContainerInstance {} {who}", cluster.name);
                client_token::row(ecs, caller, operation, token, &input, now)
            });
            let sent_before = token.as_ref().and_then(|token| earlier_use(view, token, now));
            let mut row = match known.or(sent_before) {
                Some(id) => again(view, caller, cluster, id, &offer)?,
                None => {
                    check_plan(view, node.as_deref(), cluster)?;
                    replace_lost(view, caller, &mut batch, now);
                    first(ecs, view, caller, cluster, &offer, now)?
                }
            };
            check_encryption(ecs.control.config.between_hosts, &row)?;
            if let Some(node) = node {
                follow_plan(&mut row, &node);
            }
            ecs.control.check_address(view, caller, &row, now)?;
            row.capacity_provider = pool::provider_of(view, cluster, &row);
            let shown = render(view, &row, Include { tags: true, health: false });
            if let Some(mut token) = token.take_if(|_| sent_before.is_none()) {
                token.made = vec![row.id.to_string()];
                batch.put(token);
            }
            batch.put(row);
            Ok((batch, shown))
        })
        .await?;
    // Amazon's agent compares: what it sent, and whatever the instance has besides.
    let kept = shown.attributes.take().unwrap_or_default();
    let sent = attributes(&echoed);
    let is_other =
        |each: &api::Attribute| !each.name.as_ref().is_some_and(|name| echoed.contains_key(name));
    shown.attributes = Some(sent.into_iter().chain(kept.into_iter().filter(is_other)).collect());
    Ok(api::RegisterContainerInstanceResponse { container_instance: Some(shown) })
}

/// The instance that an earlier use of the token made, if it is one still. What is said of the host besides may have
/// changed meanwhile: Amazon's agent asks for its identity document anew before each try.
fn earlier_use(view: &View, token: &ClientToken, now: Timestamp) -> Option<InstanceId> {
    let id = client_token::earlier(view, token, now)?.made.first()?.parse().ok()?;
    let row = view.instances.get(token.account, &id)?;
    (row.status != InstanceStatus::Inactive).then_some(id)
}

/// A host that joined is an instance of the cluster that its token names, and once only: a second host with a copy of
/// its keys is none.
fn check_plan(view: &View, node: Option<&Node>, cluster: &Cluster) -> Result<(), ApiError> {
    let Some(node) = node else { return Ok(()) };
    let denied = |message| Err(ApiError::client("AccessDeniedException", message));
    if node.plan.cluster != cluster.name {
        let wanted = &node.plan.cluster;
        return denied(format!("This host has joined for the cluster {wanted}, and for no other."));
    }
    let is_it = |row: &&Arc<Instance>| {
        row.status != InstanceStatus::Inactive
            && row.agent.connected
            && row
                .access_key
                .as_deref()
                .and_then(|it| node_of_holder(view, it))
                .is_some_and(|it| it.id == node.id)
    };
    match view.instances.of(node.tenant()).find(is_it) {
        Some(row) => denied(format!(
            "This host is {} already, whose agent is connected: another host needs a token of its own.",
            row.arn()
        )),
        None => Ok(()),
    }
}

/// Where all that goes between hosts is to be encrypted, one that cannot has no business. That is said by a code of its
/// own: it says nothing of the instance, which the host is again once it can.
fn check_encryption(setting: BetweenHosts, row: &Instance) -> Result<(), ApiError> {
    let can = !row.meets_hosts() || row.tunnel_generation().is_some();
    if can || setting != BetweenHosts::Encrypted {
        return Ok(());
    }
    let why = row.encrypts_not_for().unwrap_or("its agent is of an older release");
    let message = format!(
        "This region encrypts all that goes between hosts (--encrypt-between-hosts on), and this host cannot: {why}."
    );
    Err(Refusal::Unsupported(message).into())
}

/// What an agent says that gives tasks interfaces of their own.
const INTERFACES_CAPABILITY: &str = "ecs.capability.task-eni";

/// What the token says of the host is so, whatever the host says; and a managed instance is an external one.
fn follow_plan(row: &mut Instance, node: &Node) {
    let plan = &node.plan;
    if let Some(managed) = &node.managed {
        row.is_external = true;
        row.ec2_instance_id = Some(managed.id.to_string());
        row.attributes.insert(EXTERNAL_ATTRIBUTE.to_owned(), None);
    }
    let attributes =
        plan.attributes.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
    row.attributes.extend(attributes);
    if let Some(zone) = &plan.zone {
        row.attributes.insert(ZONE_ATTRIBUTE.to_owned(), Some(zone.clone()));
    }
    // Fargate's tasks have interfaces of their own: a host that makes none can have no task of it, whatever its token says.
    if !row.has(INTERFACES_CAPABILITY) {
        row.attributes.remove(FARGATE_ATTRIBUTE);
    }
}

/// A node's key is one host's. If that host registers afresh, what it was before is lost, and so is
/// what ran there: otherwise those tasks would be shown as running for ever.
fn replace_lost(view: &View, caller: &Caller, batch: &mut Batch, now: Timestamp) {
    if !is_host(caller) {
        return;
    }
    let is_lost = |row: &&Arc<Instance>| {
        row.access_key.as_deref() == Some(holder(&caller.access_key))
            && row.status != InstanceStatus::Inactive
            && row.agent.session > 0
            && !row.agent.connected
    };
    for row in view.instances.of(caller.account).filter(is_lost) {
        let lost = Input::InstanceDeregistered { instance: row.arn() };
        let stopped: Vec<Task> =
            view.tasks_on_instance(row.id).filter_map(|task| step(task, &lost, now)).collect();
        if BATCH_ROWS_MAX < batch.len() + ROWS_OF_TASK_MAX * stopped.len() + ROWS_LEFT {
            // More than one decision can stop: they are lost when its time is over, as any host's.
            continue;
        }
        for task in stopped {
            put_task(view, batch, task);
        }
        let mut next = Instance::clone(row);
        next.status = InstanceStatus::Inactive;
        next.agent.changed_at = now;
        next.version += 1;
        batch.put(next);
    }
}

fn first(
    ecs: &Ecs,
    view: &View,
    caller: &Caller,
    cluster: &Cluster,
    offer: &Offer,
    now: Timestamp,
) -> Result<Instance, ApiError> {
    let index = Index::ClusterInstances(caller.account, cluster.name.clone());
    let max = ecs.control.config.limits.instances_per_cluster_max;
    if view.member_count(&index) >= max {
        let message =
            format!("The limit of {max} container instances for this cluster is reached.");
        return Err(ApiError::client("LimitExceededException", message));
    }
    let is_node = matches!(caller.principal, Principal::Node { .. });
    let mut attributes = offer.attributes.clone();
    let zone = || Some(format!("{}a", ecs.control.config.region));
    attributes.entry(ZONE_ATTRIBUTE.to_owned()).or_insert_with(zone);
    // Amazon's agent says these only where it has no identity document of the machine.
    let architecture = || Some(crate::render_task::ARCHITECTURE.to_owned());
    attributes.entry(ARCHITECTURE_ATTRIBUTE.to_owned()).or_insert_with(architecture);
    attributes.entry(OS_ATTRIBUTE.to_owned()).or_insert_with(|| Some("linux".to_owned()));
    let is_external = attributes.contains_key(EXTERNAL_ATTRIBUTE) && !is_node;
    Ok(Instance {
        id: InstanceId::mint(ecs.control.ids.as_ref()),
        scope: ecs.control.scope(caller),
        cluster: cluster.name.clone(),
        status: InstanceStatus::Active,
        total: offer.total,
        reserved_ports: offer.reserved_ports.clone(),
        other_resources: offer.others.clone(),
        attributes,
        tags: offer.tags.clone(),
        ec2_instance_id: offer.ec2_instance_id.clone(),
        capacity_provider: None,
        is_external,
        access_key: Some(holder(&caller.access_key).to_owned()),
        registered_at: now,
        agent: AgentState { changed_at: now, ..AgentState::default() },
        health: Vec::new(),
        version: 1,
    })
}

fn again(
    view: &View,
    caller: &Caller,
    cluster: &Cluster,
    id: InstanceId,
    offer: &Offer,
) -> Result<Instance, ApiError> {
    let row = view.instances.get(caller.account, &id);
    let row = row.filter(|row| row.status != InstanceStatus::Inactive);
    let Some(row) = row else {
        let message = "The referenced container instance was not found.";
        return Err(Refusal::client(message).into());
    };
    if row.cluster != cluster.name {
        let message = format!("The container instance is registered in cluster {}.", row.cluster);
        return Err(Refusal::client(message).into());
    }
    if !may_speak_for(caller, row) {
        let message = "This access key does not belong to the container instance.";
        return Err(ApiError::client("AccessDeniedException", message));
    }
    check_type(row, offer)?;
    let mut next = Instance::clone(row);
    next.total = offer.total;
    next.reserved_ports = offer.reserved_ports.clone();
    next.other_resources = offer.others.clone();
    // What the agent says now, and what was put on the instance by others. A capability that it no
    // longer has is not one of those.
    let is_capability =
        |name: &str| name.starts_with("ecs.capability.") || name.starts_with("com.amazonaws.ecs.");
    next.attributes
        .retain(|name, _| !is_capability(name) && !OWN_ATTRIBUTES.contains(&name.as_str()));
    next.attributes.extend(offer.attributes.clone());
    next.tags.extend(offer.tags.clone());
    next.version += 1;
    Ok(next)
}

/// An agent whose state went to a machine of another kind is to register afresh, and goes by this sentence.
fn check_type(row: &Instance, offer: &Offer) -> Result<(), ApiError> {
    let of =
        |attributes: &BTreeMap<String, Option<String>>| attributes.get(TYPE_ATTRIBUTE)?.clone();
    let (Some(expected), Some(given)) = (of(&row.attributes), of(&offer.attributes)) else {
        return Ok(());
    };
    if given == expected {
        return Ok(());
    }
    let message = format!(
        "Container instance type changes are not supported. Container instance {} was previously registered as {expected}.",
        row.id
    );
    Err(Refusal::client(message).into())
}

fn read(input: &api::RegisterContainerInstanceRequest) -> Result<Offer, ApiError> {
    let document = Document::read(input.instance_identity_document.as_deref());
    let mut attributes = read_attributes(input.attributes.as_deref().unwrap_or_default())?;
    for (name, value) in document.attributes() {
        attributes.entry(name.to_owned()).or_insert(Some(value));
    }
    let mut offer = Offer {
        total: Resources::default(),
        reserved_ports: BTreeSet::new(),
        others: Vec::new(),
        attributes,
        tags: crate::tags::read(input.tags.clone())?,
        ec2_instance_id: document.ec2_instance_id(),
    };
    // Agents name GPUs apart from the rest.
    let mut gpus: BTreeSet<String> = BTreeSet::new();
    let devices = input.platform_devices.iter().flatten();
    let devices = devices.filter(|it| it.r#type == Some(api::PlatformDeviceType::Gpu));
    gpus.extend(devices.filter_map(|device| device.id.clone()));
    for resource in input.total_resources.iter().flatten() {
        let name = resource.name.clone().unwrap_or_default();
        let amount = || {
            let amount = u32::try_from(resource.integer_value.unwrap_or(0));
            amount.map_err(|_| Refusal::invalid(format!("Resource {name} is below zero.")))
        };
        match name.as_str() {
            "CPU" => offer.total.cpu = CpuUnits(amount()?),
            "MEMORY" => offer.total.memory = MemoryMib(amount()?),
            GPU_RESOURCE => gpus.extend(resource.string_set_value.iter().flatten().cloned()),
            "PORTS" => offer.reserved_ports.extend(ports(resource, Protocol::Tcp)?),
            "PORTS_UDP" => offer.reserved_ports.extend(ports(resource, Protocol::Udp)?),
            _ if offer.others.len() < OTHERS_MAX => offer.others.push(OtherResource {
                kind: resource.r#type.clone().unwrap_or_else(|| "INTEGER".to_owned()),
                integer: resource.integer_value,
                strings: resource.string_set_value.clone().unwrap_or_default(),
                name,
            }),
            _ => return Err(Refusal::invalid("There are too many resources.").into()),
        }
    }
    if GPUS_MAX < gpus.len() || gpus.iter().any(|id| id.is_empty() || TEXT_CHARS_MAX < id.len()) {
        return Err(Refusal::invalid("There are too many GPUs, or their ids are malformed.").into());
    }
    if !gpus.is_empty() {
        offer.others.push(OtherResource {
            name: GPU_RESOURCE.to_owned(),
            kind: "STRINGSET".to_owned(),
            integer: None,
            strings: gpus.into_iter().collect(),
        });
    }
    Ok(offer)
}

fn ports(resource: &api::Resource, protocol: Protocol) -> Result<Vec<HostPort>, ApiError> {
    let texts = resource.string_set_value.as_deref().unwrap_or_default();
    if texts.len() > PORTS_MAX {
        return Err(Refusal::invalid("There are too many reserved ports.").into());
    }
    let read = |text: &String| match text.parse() {
        Ok(port) => Ok(HostPort { protocol, port }),
        Err(_) => Err(Refusal::invalid(format!("'{text}' is not a port.")).into()),
    };
    texts.iter().map(read).collect()
}

fn read_attributes(given: &[api::Attribute]) -> Result<BTreeMap<String, Option<String>>, ApiError> {
    if given.len() > ATTRIBUTES_MAX {
        return Err(Refusal::invalid("There are too many attributes.").into());
    }
    let mut attributes = BTreeMap::new();
    for each in given {
        let name = each.name.clone().unwrap_or_default();
        let longest = name.len().max(each.value.as_ref().map_or(0, String::len));
        if name.is_empty() || longest > TEXT_CHARS_MAX {
            return Err(Refusal::invalid("An attribute's name or value is malformed.").into());
        }
        attributes.insert(name, each.value.clone());
    }
    Ok(attributes)
}

/// What a machine of EC2 is, as its agent was told there; nothing where there is no such document. It is believed as
/// far as attributes are: who an instance is, its key says.
struct Document(serde_json::Value);

impl Document {
    fn read(given: Option<&str>) -> Self {
        Self(given.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
    }

    fn text(&self, member: &str) -> Option<&str> {
        let text = self.0.get(member)?.as_str()?;
        (!text.is_empty() && text.len() <= TEXT_CHARS_MAX).then_some(text)
    }

    fn ec2_instance_id(&self) -> Option<String> {
        let id = self.text("instanceId")?;
        id.starts_with("i-").then(|| id.chars().take(64).collect())
    }

    /// What ECS says of the machine where its agent does not.
    fn attributes(&self) -> impl Iterator<Item = (&'static str, String)> {
        let architecture = self.text("architecture").filter(|it| ["x86_64", "arm64"].contains(it));
        let said = [
            (ZONE_ATTRIBUTE, self.text("availabilityZone")),
            (TYPE_ATTRIBUTE, self.text("instanceType")),
            ("ecs.ami-id", self.text("imageId")),
            (ARCHITECTURE_ATTRIBUTE, architecture),
        ];
        said.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use control::testing::rows::instance;

    use super::*;

    #[test]
    fn a_host_that_cannot_encrypt_is_not_told_that_its_instance_is_unknown() {
        let mut row = instance(InstanceId::from_bytes([1; 16]));
        let said = [(UNDERLAY_ATTRIBUTE, "192.0.2.1"), (ENCRYPTION_ATTRIBUTE, "no ESP")];
        row.attributes.extend(said.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))));
        let refused = check_encryption(BetweenHosts::Encrypted, &row).unwrap_err();
        assert_eq!(refused.code, "UnsupportedFeatureException");
        check_encryption(BetweenHosts::Auto, &row).unwrap();
    }
}
