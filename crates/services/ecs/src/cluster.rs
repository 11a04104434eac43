//! What the operations on clusters share: reading settings, showing a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, json};
use ecs_api as api;
use ecs_api::ClusterField;
use longshore_types::{AccountId, ClusterName, Scope, Timestamp};
use model::discovery::{MapId, NAMESPACES_MAX, NamespaceKind, new_id};
use model::instance::InstanceStatus;
use model::service::{ServiceStatus, TaskSetStatus};
use model::task::LaunchType;
use model::{Cluster, Document, Index, Key, MapNamespace, Service, Tally, View};
use store::Batch;

use super::capacity::render_strategy;
use super::service_spec::connect::find_namespace;
use crate::Ecs;
use crate::errors::Refusal;
use crate::tags;

/// The one setting that clusters have.
pub(super) const INSIGHTS: &str = "containerInsights";
const INSIGHTS_VALUES: [&str; 3] = ["enabled", "disabled", "enhanced"];

/// Reads and checks settings; what is not named keeps its value.
pub(super) fn read_settings(
    settings: Option<Vec<api::ClusterSetting>>,
) -> Result<BTreeMap<String, String>, ApiError> {
    let mut read = BTreeMap::new();
    for setting in settings.unwrap_or_default() {
        let name = setting.name.map(|name| name.to_string()).unwrap_or_default();
        if name != INSIGHTS {
            let message = format!("{name} should be one of [{INSIGHTS}]");
            return Err(Refusal::invalid(message).into());
        }
        let value = setting.value.unwrap_or_default();
        if !INSIGHTS_VALUES.contains(&value.as_str()) {
            let message = format!("Invalid value '{value}' for cluster setting {INSIGHTS}.");
            return Err(Refusal::invalid(message).into());
        }
        read.insert(name, value);
    }
    Ok(read)
}

/// Keeps a configuration as it was sent.
pub(super) fn read_configuration(
    configuration: Option<api::ClusterConfiguration>,
) -> Result<Option<Document>, ApiError> {
    let Some(configuration) = configuration else { return Ok(None) };
    if let Some(given) = &configuration.execute_command_configuration {
        check_exec(given)?;
    }
    let text = String::from_utf8_lossy(&json::to_vec(&configuration)).into_owned();
    let document = Document::from_text(text)
        .map_err(|error| ApiError::fault("failed to keep a cluster's configuration", error))?;
    Ok(Some(document))
}

fn check_exec(given: &api::ExecuteCommandConfiguration) -> Result<(), ApiError> {
    if let Some(unknown) = given.logging.as_ref().filter(|logging| !logging.is_known()) {
        let known = api::ExecuteCommandLogging::VALUES.join(",");
        let message = format!("{} should be one of [{known}]", unknown.as_str());
        return Err(Refusal::invalid(message).into());
    }
    let is_override = given.logging == Some(api::ExecuteCommandLogging::Override);
    if is_override && given.log_configuration.is_none() {
        let message = "A logConfiguration is required when logging is OVERRIDE.";
        return Err(Refusal::invalid(message).into());
    }
    Ok(())
}

/// `serviceConnectDefaults` as a request has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConnectDefaults {
    /// There are to be none.
    Clear,
    /// The namespace of a name or an ARN; one that is not there is made.
    Namespace(String),
}

const NAMESPACE_CHARS_MAX: usize = 1_024;

impl ConnectDefaults {
    pub(super) fn read(
        given: Option<api::ClusterServiceConnectDefaultsRequest>,
    ) -> Result<Option<Self>, ApiError> {
        let Some(given) = given else { return Ok(None) };
        let namespace = given.namespace.unwrap_or_default();
        if namespace.is_empty() {
            return Ok(Some(Self::Clear));
        }
        let is_arn = namespace.starts_with("arn:");
        let is_odd = |letter: char| matches!(letter, '<' | '>' | '"' | '/');
        if !is_arn && (NAMESPACE_CHARS_MAX < namespace.len() || namespace.contains(is_odd)) {
            let message = format!(
                "The namespace name {namespace} must have up to {NAMESPACE_CHARS_MAX} characters, and can't include <, \
                 >, \" or /."
            );
            return Err(Refusal::invalid(message).into());
        }
        Ok(Some(Self::Namespace(namespace)))
    }

    /// The namespace that is meant, which is made in the batch if it is not there.
    pub(super) fn resolve(
        &self,
        ecs: &Ecs,
        view: &View,
        scope: &Scope,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Option<MapId>, ApiError> {
        let Self::Namespace(given) = self else { return Ok(None) };
        if let Some(row) = find_namespace(view, scope, given) {
            batch.rely(Key::MapNamespace(scope.account, Arc::clone(&row.id)));
            return Ok(Some(Arc::clone(&row.id)));
        }
        if given.starts_with("arn:") {
            return Err(Refusal::NamespaceNotFound.into());
        }
        if NAMESPACES_MAX <= view.map_namespaces.of(scope.account).count() {
            let message = format!(
                "The namespace {given} is not there and can't be made: an account can have up to {NAMESPACES_MAX} \
                 namespaces."
            );
            return Err(Refusal::invalid(message).into());
        }
        let id = new_id("ns-", ecs.control.ids.as_ref());
        batch.rely(Index::MapNamespaces(scope.account));
        batch.put(MapNamespace {
            scope: scope.clone(),
            id: Arc::clone(&id),
            name: given.clone(),
            kind: NamespaceKind::Http,
            description: None,
            created_at: now,
            request: id.to_string(),
            tags: model::Tags::new(),
        });
        Ok(Some(id))
    }
}

/// How a cluster is shown where everything is.
pub(super) const EVERYTHING: &[ClusterField] =
    &[ClusterField::Configurations, ClusterField::Settings, ClusterField::Tags];

impl Ecs {
    /// A cluster as an answer shows it; counts are made here.
    pub(super) fn render_cluster(
        &self,
        view: &View,
        cluster: &Cluster,
        include: &[ClusterField],
    ) -> Result<api::Cluster, ApiError> {
        let has = |field| include.contains(&field);
        let counts = Counts::of(view, cluster);
        let setting = |(name, value): (&String, &String)| api::ClusterSetting {
            name: Some(name.as_str().into()),
            value: Some(value.clone()),
        };
        let mut shown = api::Cluster {
            cluster_arn: Some(cluster.arn(&self.control.config.region).to_string()),
            cluster_name: Some(cluster.name.to_string()),
            status: Some(if cluster.is_active() { "ACTIVE" } else { "INACTIVE" }.to_owned()),
            registered_container_instances_count: Some(counts.instances),
            running_tasks_count: Some(counts.running.values().sum()),
            pending_tasks_count: Some(counts.pending.values().sum()),
            active_services_count: Some(counts.services),
            statistics: Some(Vec::new()),
            tags: Some(Vec::new()),
            settings: Some(Vec::new()),
            capacity_providers: Some(cluster.capacity_providers.clone()),
            default_capacity_provider_strategy: Some(render_strategy(&cluster.default_strategy)),
            ..Default::default()
        };
        let namespace = cluster.connect_namespace.as_ref();
        let namespace = namespace.and_then(|id| view.map_namespaces.get(cluster.account, id));
        shown.service_connect_defaults =
            namespace.map(|row| api::ClusterServiceConnectDefaults { namespace: Some(row.arn()) });
        if has(ClusterField::Tags) {
            shown.tags = Some(tags::render(&cluster.tags));
        }
        if has(ClusterField::Settings) {
            shown.settings = Some(cluster.settings.iter().map(setting).collect());
        }
        if has(ClusterField::Statistics) {
            shown.statistics = Some(counts.statistics());
        }
        if has(ClusterField::Attachments) {
            shown.attachments = Some(Vec::new());
        }
        if has(ClusterField::Configurations) {
            shown.configuration = render_configuration(cluster)?;
        }
        Ok(shown)
    }
}

fn render_configuration(cluster: &Cluster) -> Result<Option<api::ClusterConfiguration>, ApiError> {
    let Some(document) = &cluster.configuration else { return Ok(None) };
    json::from_slice(document.as_str().as_bytes())
        .map(Some)
        .map_err(|error| ApiError::fault("failed to read a cluster's configuration", error))
}

/// What is counted of a cluster, by launch type where it matters.
#[derive(Debug, Default)]
struct Counts {
    instances: i32,
    running: BTreeMap<LaunchType, i32>,
    pending: BTreeMap<LaunchType, i32>,
    /// Active ones; those whose task sets have no primary yet run on nothing.
    services: i32,
    active_services: BTreeMap<LaunchType, i32>,
    draining_services: BTreeMap<LaunchType, i32>,
}

impl Counts {
    fn of(view: &View, cluster: &Cluster) -> Self {
        let mut counts = Self::default();
        // What a deleted cluster left behind belongs to its successor, if anyone.
        if !cluster.is_active() {
            return counts;
        }
        for instance in view.instances_of_cluster(cluster.account, &cluster.name) {
            if instance.status != InstanceStatus::Inactive {
                counts.instances += 1;
            }
        }
        for launch in [LaunchType::Ec2, LaunchType::Fargate, LaunchType::External] {
            let of = |tally: fn(AccountId, ClusterName, LaunchType) -> Tally| {
                let tasks = view.tally(&tally(cluster.account, cluster.name.clone(), launch));
                i32::try_from(tasks).unwrap_or(i32::MAX)
            };
            counts.running.insert(launch, of(Tally::RunningTasks));
            counts.pending.insert(launch, of(Tally::PendingTasks));
        }
        for service in view.services_of_cluster(cluster.account, &cluster.name) {
            let by_launch = match service.status {
                ServiceStatus::Active => {
                    counts.services += 1;
                    &mut counts.active_services
                }
                ServiceStatus::Draining => &mut counts.draining_services,
                ServiceStatus::Inactive => continue,
            };
            if let Some(launch) = launch_of(view, service) {
                *by_launch.entry(launch).or_default() += 1;
            }
        }
        counts
    }

    fn statistics(&self) -> Vec<api::KeyValuePair> {
        let of =
            |counts: &BTreeMap<LaunchType, i32>, launch| counts.get(&launch).copied().unwrap_or(0);
        [
            ("runningEC2TasksCount", of(&self.running, LaunchType::Ec2)),
            ("runningFargateTasksCount", of(&self.running, LaunchType::Fargate)),
            ("pendingEC2TasksCount", of(&self.pending, LaunchType::Ec2)),
            ("pendingFargateTasksCount", of(&self.pending, LaunchType::Fargate)),
            ("runningExternalTasksCount", of(&self.running, LaunchType::External)),
            ("pendingExternalTasksCount", of(&self.pending, LaunchType::External)),
            ("activeEC2ServiceCount", of(&self.active_services, LaunchType::Ec2)),
            ("activeFargateServiceCount", of(&self.active_services, LaunchType::Fargate)),
            ("drainingEC2ServiceCount", of(&self.draining_services, LaunchType::Ec2)),
            ("drainingFargateServiceCount", of(&self.draining_services, LaunchType::Fargate)),
            ("activeExternalServiceCount", of(&self.active_services, LaunchType::External)),
            ("drainingExternalServiceCount", of(&self.draining_services, LaunchType::External)),
        ]
        .map(|(name, count)| api::KeyValuePair {
            name: Some(name.to_owned()),
            value: Some(count.to_string()),
        })
        .to_vec()
    }
}

/// On what a service's tasks run: as its revision says, or its primary task set.
fn launch_of(view: &View, service: &Service) -> Option<LaunchType> {
    let (account, id) = (service.scope.account, service.key());
    if let Some(revision) = service.revision {
        return Some(view.revision_of(account, &id, revision)?.capacity.launch());
    }
    let primary = view.task_sets_of(account, &id).find(|set| set.status == TaskSetStatus::Primary);
    primary.map(|set| set.capacity.launch())
}
