//! A service as answers show it. Every count is made here, from the tasks that there are.

use std::sync::Arc;

use aws_api::ecs as api;
use aws_wire::ApiError;
use longshore_types::{ClusterArn, Scope, TaskDefinitionArn, TaskDefinitionId, Timestamp};
use model::service::{
    Controller, Propagate, Rank, RevisionCapacity, Rollout, Scheduling, ServiceStatus,
};
use model::task::{Desired, Phase, Task};
use model::{Deployment, Service, ServiceRevision, View};

use super::capacity::show_strategy;
use super::service_spec::{
    resolved_platform, show_constraints, show_network, show_settings, show_strategies,
};
use crate::tags;

/// A service's rows, gathered once for everything that is shown of it.
#[derive(Debug)]
pub(super) struct Shown<'v> {
    pub(super) view: &'v View,
    pub(super) service: &'v Service,
    /// Those that are shown with the service: the primary one first, then the latest.
    deployments: Vec<&'v Arc<Deployment>>,
    tasks: Vec<&'v Arc<Task>>,
}

/// Tasks of a service, or of one deployment or task set of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) desired: u32,
    pub(super) pending: u32,
    pub(super) running: u32,
}

impl Counts {
    fn of<'a>(tasks: impl Iterator<Item = &'a Arc<Task>>) -> Self {
        let mut counts = Self::default();
        for task in tasks.filter(|task| task.phase < Phase::Stopped) {
            match task.phase {
                Phase::Running => counts.running += 1,
                Phase::Provisioning | Phase::Pending | Phase::Activating => {
                    counts.pending += u32::from(task.desired == Desired::Running);
                }
                Phase::Deactivating | Phase::Stopping | Phase::Deprovisioning | Phase::Stopped => {}
            }
            counts.desired += u32::from(task.desired == Desired::Running);
        }
        counts
    }
}

pub(super) fn amount(count: u32) -> Option<i32> {
    Some(i32::try_from(count).unwrap_or(i32::MAX))
}

impl<'v> Shown<'v> {
    pub(super) fn of(view: &'v View, service: &'v Service) -> Self {
        let (account, id) = (service.scope.account, service.key());
        let mut deployments: Vec<_> =
            view.deployments_of(account, &id).filter(|row| row.rank < Rank::Gone).collect();
        deployments.sort_by_key(|row| (row.rank, std::cmp::Reverse((row.created_at, row.id))));
        let tasks = view.tasks_of_service(account, &id).collect();
        Self { view, service, deployments, tasks }
    }

    /// What there is of one deployment or task set.
    pub(super) fn counts(&self, deployment: &Deployment) -> Counts {
        let is_its = |task: &&&Arc<Task>| {
            task.service.as_ref().is_some_and(|service| service.deployment == deployment.id)
        };
        let mut counts = Counts::of(self.tasks.iter().filter(is_its).copied());
        let is_whole = deployment.rank == Rank::Primary && deployment.rollout != Rollout::Failed;
        if is_whole && self.service.scheduling == Scheduling::Replica {
            counts.desired = self.service.desired_count;
        }
        counts
    }

    pub(super) fn revision(&self, deployment: &Deployment) -> Option<&'v Arc<ServiceRevision>> {
        self.view.revision_of(
            deployment.scope.account,
            &deployment.service_id(),
            deployment.revision,
        )
    }

    fn current_revision(&self) -> Option<&'v Arc<ServiceRevision>> {
        let id = self.service.revision?;
        self.view.revision_of(self.service.scope.account, &self.service.key(), id)
    }

    pub(super) fn show(&self, with_tags: bool) -> Result<api::Service, ApiError> {
        let service = self.service;
        let counts = Counts::of(self.tasks.iter().copied());
        let desired = match service.scheduling {
            Scheduling::Replica => service.desired_count,
            Scheduling::Daemon => counts.desired,
        };
        let is_on = |flag: bool| match flag {
            true => api::AvailabilityZoneRebalancing::Enabled,
            false => api::AvailabilityZoneRebalancing::Disabled,
        };
        let mut shown = api::Service {
            service_arn: Some(service.arn().to_string()),
            service_name: Some(service.name.to_string()),
            cluster_arn: Some(cluster_arn(service)),
            load_balancers: Some(vec![]),
            service_registries: Some(vec![]),
            status: Some(service.status.as_str().to_owned()),
            desired_count: amount(desired),
            running_count: amount(counts.running),
            pending_count: amount(counts.pending),
            deployment_configuration: Some(show_settings(&service.deployment, service.controller)),
            task_sets: (service.controller == Controller::External).then(Vec::new),
            deployments: Some(self.deployments()?),
            role_arn: service.role.clone(),
            events: Some(self.events()),
            created_at: Some(service.created_at),
            current_service_deployment: self.current_deployment(),
            current_service_revisions: Some(self.current_revisions()),
            placement_constraints: Some(show_constraints(&service.constraints)),
            placement_strategy: Some(show_strategies(&service.strategies)),
            health_check_grace_period_seconds: service.health_check_grace_s.and_then(amount),
            scheduling_strategy: Some(service.scheduling.as_str().into()),
            deployment_controller: Some(api::DeploymentController {
                r#type: Some(service.controller.as_str().into()),
            }),
            tags: with_tags.then(|| tags::show(&service.tags)),
            created_by: Some(service.created_by.clone()),
            enable_ecs_managed_tags: Some(service.enable_managed_tags),
            propagate_tags: Some(match service.propagate {
                Propagate::None => api::PropagateTags::None_,
                Propagate::TaskDefinition => api::PropagateTags::TaskDefinition,
                Propagate::Service => api::PropagateTags::Service,
            }),
            enable_execute_command: Some(service.enable_execute_command),
            availability_zone_rebalancing: Some(is_on(service.is_zone_rebalanced)),
            resource_management_type: Some(api::ResourceManagementType::Customer),
            ..api::Service::default()
        };
        if let Some(revision) = self.current_revision() {
            let capacity = ShownCapacity::of(&revision.capacity);
            shown.launch_type = capacity.launch_type;
            shown.capacity_provider_strategy = capacity.strategy;
            shown.platform_version = revision.platform_version.clone();
            shown.platform_family = revision.platform_family.clone();
            shown.task_definition = Some(definition_arn(&service.scope, &revision.definition));
            shown.network_configuration = show_network(revision.network.as_ref())?;
        }
        Ok(shown)
    }

    fn deployments(&self) -> Result<Vec<api::Deployment>, ApiError> {
        if self.service.status == ServiceStatus::Inactive {
            return Ok(vec![]);
        }
        self.deployments.iter().map(|row| self.deployment(row)).collect()
    }

    fn deployment(&self, row: &Deployment) -> Result<api::Deployment, ApiError> {
        let counts = self.counts(row);
        let mut shown = api::Deployment {
            id: Some(row.id.to_string()),
            status: Some(row.rank.as_str().to_owned()),
            desired_count: amount(counts.desired),
            pending_count: amount(counts.pending),
            running_count: amount(counts.running),
            failed_tasks: amount(row.failures),
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
            rollout_state: Some(row.rollout.as_str().into()),
            rollout_state_reason: Some(self.rollout_reason(row)),
            ..api::Deployment::default()
        };
        if let Some(revision) = self.revision(row) {
            let capacity = ShownCapacity::of(&revision.capacity);
            shown.launch_type = capacity.launch_type;
            shown.capacity_provider_strategy = capacity.strategy;
            shown.platform_version = resolved_platform(revision.platform_version.as_deref());
            shown.platform_family = revision.platform_family.clone();
            shown.task_definition = Some(definition_arn(&row.scope, &revision.definition));
            shown.network_configuration = show_network(revision.network.as_ref())?;
        }
        Ok(shown)
    }

    fn rollout_reason(&self, row: &Deployment) -> String {
        match (&row.rollout_reason, row.rollout) {
            (Some(reason), _) => reason.clone(),
            (None, Rollout::InProgress) => format!("ECS deployment {} in progress.", row.id),
            (None, Rollout::Completed) => format!("ECS deployment {} completed.", row.id),
            (None, Rollout::Failed) => format!("ECS deployment {} failed.", row.id),
        }
    }

    /// Newest first.
    fn events(&self) -> Vec<api::ServiceEvent> {
        let service = self.service;
        let row = self.view.service_events.get(service.scope.account, &service.key());
        let events = row.into_iter().flat_map(|row| row.events.iter().rev());
        events
            .map(|event| api::ServiceEvent {
                id: Some(event.id.to_string()),
                created_at: Some(event.at),
                message: Some(event.what.message(&service.name)),
            })
            .collect()
    }

    /// The record of the primary deployment, or of the one that it undoes.
    fn current_deployment(&self) -> Option<String> {
        let primary = self.deployments.iter().find(|row| row.rank == Rank::Primary)?;
        let undone = || {
            let (account, id) = (self.service.scope.account, self.service.key());
            let undone = primary.undoes?;
            self.view.deployments_of(account, &id).find(|row| row.id == undone)?.arn()
        };
        primary.arn().or_else(undone).map(|arn| arn.to_string())
    }

    fn current_revisions(&self) -> Vec<api::ServiceCurrentRevisionSummary> {
        let summary = |row: &&Arc<Deployment>| {
            let counts = self.counts(row);
            Some(api::ServiceCurrentRevisionSummary {
                arn: Some(self.revision(row)?.arn().to_string()),
                requested_task_count: amount(counts.desired),
                running_task_count: amount(counts.running),
                pending_task_count: amount(counts.pending),
            })
        };
        self.deployments.iter().filter_map(summary).collect()
    }
}

/// A capacity in the two members that show it, one of which is always absent.
#[derive(Clone, Debug, Default)]
pub(super) struct ShownCapacity {
    pub(super) launch_type: Option<api::LaunchType>,
    pub(super) strategy: Option<Vec<api::CapacityProviderStrategyItem>>,
}

impl ShownCapacity {
    pub(super) fn of(capacity: &RevisionCapacity) -> Self {
        match capacity {
            RevisionCapacity::Launch(launch) => {
                Self { launch_type: Some(launch.as_str().into()), strategy: None }
            }
            RevisionCapacity::Strategy(items) => {
                Self { launch_type: None, strategy: Some(show_strategy(items)) }
            }
        }
    }
}

pub(super) fn cluster_arn(service: &Service) -> String {
    ClusterArn { scope: service.scope.clone(), name: service.cluster.clone() }.to_string()
}

pub(super) fn definition_arn(scope: &Scope, id: &TaskDefinitionId) -> String {
    TaskDefinitionArn { scope: scope.clone(), id: id.clone() }.to_string()
}

/// Whether a service that was deleted is still shown.
pub(super) fn is_visible(service: &Service, kept_ms: u64, now: Timestamp) -> bool {
    let is_over = |deleted_at: Timestamp| kept_ms <= now.since_ms(deleted_at);
    service.status < ServiceStatus::Inactive || !service.deleted_at.is_some_and(is_over)
}
