//! A service as answers show it. Every count is made here, from the tasks that there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_wire::ApiError;
use ecs_api as api;
use longshore_types::{
    ClusterArn, DeploymentId, Scope, TaskDefinitionArn, TaskDefinitionId, Timestamp,
};
use model::service::{
    Controller, Propagate, Rank, RevisionCapacity, ServiceStatus, Stage, TaskSet, TaskSetStatus,
    WaitReason,
};
use model::{Deployment, Document, Service, ServiceRevision, View};
use plan::service::{self as promise, BreakerView, Counts, Snapshot};
use store::Batch;

use super::capacity::render_strategy;
use super::service_spec::{
    connect, render_balancers, render_constraints, render_network, render_registries,
    render_settings, render_strategies, resolved_platform,
};
use crate::Ecs;
use crate::services::{load_balance, load_capacity};
use crate::tags;

/// A service's rows, gathered once for everything that is shown of it.
pub(super) struct ServiceRenderer<'v> {
    pub(super) view: &'v View,
    pub(super) service: &'v Service,
    snapshot: Snapshot<'v>,
    /// What deployments that are under way wait for.
    wait_reasons: BTreeMap<DeploymentId, Vec<WaitReason>>,
}

/// The view that a batch will have made of the one that it was decided on: what an answer shows,
/// however quick the reconciler was.
pub(super) fn as_written(view: &View, batch: &Batch) -> View {
    let (mut view, seq) = (view.clone(), view.seq.next());
    for key in &batch.deletes {
        view.remove(seq, key);
    }
    for row in &batch.writes {
        view.put(seq, row);
    }
    view
}

/// What tasks look like.
struct Work<'a> {
    definition: &'a TaskDefinitionId,
    capacity: &'a RevisionCapacity,
    platform_version: Option<&'a String>,
    platform_family: Option<&'a String>,
    network: Option<&'a Document>,
}

pub(super) fn amount(count: u32) -> Option<i32> {
    Some(i32::try_from(count).unwrap_or(i32::MAX))
}

impl<'v> ServiceRenderer<'v> {
    pub(super) fn of(ecs: &Ecs, view: &'v View, service: &'v Service) -> Self {
        let mut snapshot = load_snapshot(ecs, view, service);
        // The primary one first, then the latest.
        snapshot.deployments.sort_by_key(|row| (row.rank, Reverse((row.created_at, row.id))));
        let is_under_way = snapshot.deployments.iter().any(|row| row.stage.is_rolling());
        let wait_reasons =
            if is_under_way { promise::wait_reasons(&snapshot) } else { BTreeMap::new() };
        Self { view, service, snapshot, wait_reasons }
    }

    pub(super) fn counts(&self, deployment: &Deployment) -> Counts {
        promise::counts(&self.snapshot, deployment)
    }

    pub(super) fn breaker(&self, deployment: &Deployment) -> BreakerView {
        promise::breaker(self.service, deployment, promise::desired_count(&self.snapshot))
    }

    /// What a deployment's record says of its status: what it waits for, while it is under way.
    pub(super) fn status_reason(&self, deployment: &Deployment) -> Option<String> {
        let wait_reasons = |id| self.wait_reasons.get(&id).map_or(&[][..], Vec::as_slice);
        match deployment.stage {
            Stage::Pending
            | Stage::InProgress
            | Stage::StopRequested
            | Stage::RollbackRequested => {
                Some(promise::rollout_reason(deployment, wait_reasons(deployment.id)))
            }
            Stage::RollingBack => {
                let by = deployment.rollback.as_ref().map(|rollback| rollback.by);
                let waits = by.map_or(&[][..], wait_reasons).iter().map(WaitReason::to_string);
                let waits: Vec<String> = waits.collect();
                let reason = deployment.status_reason.clone().unwrap_or_default();
                Some(match waits.is_empty() {
                    true => reason,
                    false => format!("{reason} Waiting for {}.", waits.join("; ")),
                })
            }
            Stage::Superseded
            | Stage::Stopped
            | Stage::RolledBack
            | Stage::RollbackFailed
            | Stage::Completed
            | Stage::Restoring
            | Stage::RestoreFailed => deployment.status_reason.clone(),
        }
    }

    pub(super) fn revision(&self, deployment: &Deployment) -> Option<&'v Arc<ServiceRevision>> {
        self.view.revision_of(
            deployment.scope.account,
            &deployment.service_id(),
            deployment.revision,
        )
    }

    /// What the service's tasks look like: as its revision says, or its primary task set.
    fn work(&self) -> Option<Work<'_>> {
        if let Some(id) = self.service.revision {
            let service = self.service;
            let row = self.view.revision_of(service.scope.account, &service.key(), id)?;
            return Some(Work {
                definition: &row.definition,
                capacity: &row.capacity,
                platform_version: row.platform_version.as_ref(),
                platform_family: row.platform_family.as_ref(),
                network: row.network.as_ref(),
            });
        }
        let mut sets = self.snapshot.task_sets.iter();
        let row = sets.find(|set| set.status == TaskSetStatus::Primary)?;
        Some(Work {
            definition: &row.definition,
            capacity: &row.capacity,
            platform_version: row.platform_version.as_ref(),
            platform_family: row.platform_family.as_ref(),
            network: row.network.as_ref(),
        })
    }

    fn load_balancers(&self) -> Vec<api::LoadBalancer> {
        let (account, id) = (self.service.scope.account, self.service.key());
        let revision = self.service.revision.and_then(|it| self.view.revision_of(account, &id, it));
        let all = revision.map_or(&[][..], |revision| &revision.load_balancers);
        render_balancers(&self.service.scope, all)
    }

    fn registries(&self) -> Vec<api::ServiceRegistry> {
        let (account, id) = (self.service.scope.account, self.service.key());
        let revision = self.service.revision.and_then(|it| self.view.revision_of(account, &id, it));
        let all = revision.map_or(&[][..], |revision| &revision.registries);
        render_registries(&self.service.scope, all)
    }

    pub(super) fn render(&self, with_tags: bool) -> Result<api::Service, ApiError> {
        let service = self.service;
        let counts = promise::service_counts(&self.snapshot);
        let is_on = |flag: bool| match flag {
            true => api::AvailabilityZoneRebalancing::Enabled,
            false => api::AvailabilityZoneRebalancing::Disabled,
        };
        let mut shown = api::Service {
            service_arn: Some(service.arn().to_string()),
            service_name: Some(service.name.to_string()),
            cluster_arn: Some(cluster_arn(service)),
            load_balancers: Some(self.load_balancers()),
            service_registries: Some(self.registries()),
            status: Some(service.status.as_str().to_owned()),
            desired_count: amount(counts.desired),
            running_count: amount(counts.running),
            pending_count: amount(counts.pending),
            deployment_configuration: Some(render_settings(
                &service.deployment,
                service.controller,
            )),
            task_sets: match service.controller {
                Controller::Ecs => None,
                Controller::External => Some(self.task_sets()?),
            },
            deployments: Some(self.deployments()?),
            role_arn: service.role.clone(),
            events: Some(self.events()),
            created_at: Some(service.created_at),
            current_service_deployment: self.current_deployment(),
            current_service_revisions: Some(self.current_revisions()),
            placement_constraints: Some(render_constraints(&service.constraints)),
            placement_strategy: Some(render_strategies(&service.strategies)),
            health_check_grace_period_seconds: service.health_check_grace_s.and_then(amount),
            scheduling_strategy: Some(service.scheduling.as_str().into()),
            deployment_controller: Some(api::DeploymentController {
                r#type: Some(service.controller.as_str().into()),
            }),
            tags: with_tags.then(|| tags::render(&service.tags)),
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
        if let Some(work) = self.work() {
            let capacity = RenderedCapacity::of(work.capacity);
            shown.launch_type = capacity.launch_type;
            shown.capacity_provider_strategy = capacity.strategy;
            shown.platform_version = work.platform_version.cloned();
            shown.platform_family = work.platform_family.cloned();
            shown.task_definition = Some(definition_arn(&service.scope, work.definition));
            shown.network_configuration = render_network(work.network)?;
        }
        Ok(shown)
    }

    fn deployments(&self) -> Result<Vec<api::Deployment>, ApiError> {
        if self.service.status == ServiceStatus::Inactive {
            return Ok(vec![]);
        }
        self.snapshot.deployments.iter().map(|row| self.deployment(row)).collect()
    }

    fn task_sets(&self) -> Result<Vec<api::TaskSet>, ApiError> {
        let sets = self.snapshot.task_sets.iter().copied();
        let counts = |set: &TaskSet| promise::task_set_counts(&self.snapshot, set);
        super::task_sets::render_all(self.service, sets, counts)
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
            rollout_state: Some(row.stage.rollout_state().into()),
            rollout_state_reason: Some(self.rollout_reason(row)),
            ..api::Deployment::default()
        };
        if let Some(revision) = self.revision(row) {
            let capacity = RenderedCapacity::of(&revision.capacity);
            shown.launch_type = capacity.launch_type;
            shown.capacity_provider_strategy = capacity.strategy;
            shown.platform_version = resolved_platform(revision.platform_version.as_deref());
            shown.platform_family = revision.platform_family.clone();
            shown.task_definition = Some(definition_arn(&row.scope, &revision.definition));
            shown.network_configuration = render_network(revision.network.as_ref())?;
            if let Some(connect) = &revision.connect {
                shown.service_connect_configuration = connect::render(Some(connect))?;
                shown.service_connect_resources =
                    Some(connect::render_resources(&row.scope, connect));
            }
        }
        Ok(shown)
    }

    fn rollout_reason(&self, row: &Deployment) -> String {
        promise::rollout_reason(row, self.wait_reasons.get(&row.id).map_or(&[], Vec::as_slice))
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
        let deployments = &self.snapshot.deployments;
        let primary = deployments.iter().find(|row| row.rank == Rank::Primary)?;
        let undone = || {
            let (account, id) = (self.service.scope.account, self.service.key());
            let undone = primary.undoes?;
            self.view.deployments_of(account, &id).find(|row| row.id == undone)?.arn()
        };
        primary.arn().or_else(undone).map(|arn| arn.to_string())
    }

    fn current_revisions(&self) -> Vec<api::ServiceCurrentRevisionSummary> {
        let summary = |row: &&Deployment| {
            let counts = self.counts(row);
            Some(api::ServiceCurrentRevisionSummary {
                arn: Some(self.revision(row)?.arn().to_string()),
                requested_task_count: amount(counts.desired),
                running_task_count: amount(counts.running),
                pending_task_count: amount(counts.pending),
            })
        };
        self.snapshot.deployments.iter().filter_map(summary).collect()
    }
}

/// A capacity in the two members that show it, one of which is always absent.
#[derive(Clone, Debug, Default)]
pub(super) struct RenderedCapacity {
    pub(super) launch_type: Option<api::LaunchType>,
    pub(super) strategy: Option<Vec<api::CapacityProviderStrategyItem>>,
}

impl RenderedCapacity {
    pub(super) fn of(capacity: &RevisionCapacity) -> Self {
        match capacity {
            RevisionCapacity::Launch(launch) => {
                Self { launch_type: Some(launch.as_str().into()), strategy: None }
            }
            RevisionCapacity::Strategy(items) => {
                Self { launch_type: None, strategy: Some(render_strategy(items)) }
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
pub(crate) fn is_visible(service: &Service, kept_ms: u64, now: Timestamp) -> bool {
    let is_over = |deleted_at: Timestamp| kept_ms <= now.since_ms(deleted_at);
    service.status < ServiceStatus::Inactive || !service.deleted_at.is_some_and(is_over)
}

fn load_snapshot<'v>(ecs: &Ecs, view: &'v View, service: &'v Service) -> Snapshot<'v> {
    let (account, id) = (service.scope.account, service.key());
    let deployments = view.deployments_of(account, &id).map(AsRef::as_ref);
    let mut snapshot = Snapshot {
        service,
        deployments: deployments.filter(|row| row.rank < Rank::Gone).collect(),
        task_sets: view.task_sets_of(account, &id).map(AsRef::as_ref).collect(),
        tasks: view.tasks_of_service(account, &id).map(AsRef::as_ref).collect(),
        hosts: vec![],
        balance: BTreeMap::new(),
        balancers: BTreeMap::new(),
        forwards: BTreeMap::new(),
        powerless_roles: BTreeSet::new(),
        offered: BTreeSet::new(),
        zones: vec![],
        notes: view
            .service_events
            .get(account, &id)
            .map(|row| row.notes.clone())
            .unwrap_or_default(),
        rollback_id: DeploymentId(0),
        now: ecs.control.clock.now(),
    };
    load_capacity(ecs, view, &mut snapshot);
    load_balance(ecs, view, &mut snapshot);
    snapshot
}
