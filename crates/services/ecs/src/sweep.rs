//! Takes away what is over: deleted clusters, services and capacity providers, expired client tokens,
//! deleted task definitions.
//!
//! Called now and then by whoever keeps the region's time; calling it twice changes nothing.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use aws_wire::ApiError;
use longshore_types::{AccountId, RevisionId, TaskDefinitionId, Timestamp};
use model::service::{Rank, ServiceStatus};
use model::{Deployment, Key, Record as _, Service, Tally, TaskDefinition, View};
use store::{BATCH_ROWS_MAX, Batch};

use crate::Ecs;
use crate::render_service::is_visible;

/// Past deployments of one service that are kept.
const PAST_DEPLOYMENTS_MAX: usize = 100;

impl Ecs {
    /// Removes what nobody can see or use any more; says how many rows went.
    pub async fn sweep(&self) -> Result<usize, ApiError> {
        // Nobody can decide while a decision looks around: most of the time there is nothing to be found.
        if self.over(&self.control.store.latest(), self.control.clock.now()).is_empty() {
            return Ok(0);
        }
        self.control
            .decide(|view, now| {
                let mut batch = Batch::on(view);
                for key in self.over(view, now).into_iter().take(BATCH_ROWS_MAX) {
                    batch.delete(key);
                }
                let count = batch.len();
                Ok((batch, count))
            })
            .await
    }

    fn over(&self, view: &View, now: Timestamp) -> Vec<Key> {
        let kept_ms = self.control.config.retention.inactive_clusters_ms;
        let clusters = view
            .clusters
            .iter()
            .filter(|row| row.deleted_at.is_some_and(|at| kept_ms <= now.since_ms(at)))
            .map(|row| Key::Cluster(row.account, row.name.clone()));
        let tokens = view.tokens_expired_by(now).take(BATCH_ROWS_MAX);
        let tokens = tokens.map(|row| Key::ClientToken(row.account, row.call.clone()));
        let is_free = |row: &&Arc<TaskDefinition>| {
            view.tally(&Tally::DefinitionTasks(row.account, row.id.clone())) == 0
        };
        let mut ending = view.ending_definitions().filter(is_free).peekable();
        let promised = ending.peek().map(|_| promised_definitions(view)).unwrap_or_default();
        let definitions = ending
            .filter(|row| !promised.contains(&(row.account, &row.id)))
            .map(|row| Key::TaskDefinition(row.account, row.id.clone()));
        let providers_kept_ms = self.control.config.retention.inactive_capacity_providers_ms;
        let providers = view
            .capacity_providers
            .iter()
            .filter(|row| row.deleted_at.is_some_and(|at| providers_kept_ms <= now.since_ms(at)))
            .map(|row| Key::CapacityProvider(row.scope.account, row.name.clone()));
        let mut keys: Vec<Key> =
            clusters.chain(tokens).chain(definitions).chain(providers).collect();
        for service in view.services.iter() {
            self.over_of_service(view, service, now, &mut keys);
        }
        keys
    }

    /// What is over of one service: all of it, or deployments of long ago.
    fn over_of_service(&self, view: &View, service: &Service, now: Timestamp, keys: &mut Vec<Key>) {
        let (account, id) = (service.scope.account, service.key());
        let retention = &self.control.config.retention;
        let deployments: Vec<_> = view.deployments_of(account, &id).collect();
        if !is_visible(service, retention.inactive_services_ms, now) {
            let sets = view.task_sets_of(account, &id).map(|row| Key::TaskSet(account, row.id()));
            keys.extend(sets);
            keys.extend(deployments.iter().map(|row| Key::Deployment(account, row.id())));
            let revisions = view.revisions_of(account, &id);
            keys.extend(revisions.map(|row| Key::ServiceRevision(account, row.id())));
            keys.push(Key::ServiceEvents(account, id.clone()));
            // The last: what is cut off is found again by it.
            keys.push(Key::Service(account, id));
            return;
        }
        let is_over = |row: &Deployment| {
            let ended_at = row.finished_at.or(row.stopped_at).unwrap_or(row.updated_at);
            let is_of_another = row.created_at < service.created_at;
            is_of_another || retention.past_deployments_ms <= now.since_ms(ended_at)
        };
        let mut past: Vec<_> =
            deployments.iter().filter(|row| row.rank == Rank::Gone).copied().collect();
        past.sort_by_key(|row| Reverse((row.created_at, row.id)));
        let many = past.split_off(past.len().min(PAST_DEPLOYMENTS_MAX));
        let over: Vec<_> = past.into_iter().filter(|row| is_over(row)).chain(many).collect();
        if over.is_empty() {
            return;
        }
        let left = deployments.iter().filter(|row| !over.iter().any(|gone| gone.id == row.id));
        let mut named: BTreeSet<RevisionId> = left
            .flat_map(|row| {
                let sources = row.sources.iter().map(|source| source.revision);
                let target = row.rollback.as_ref().map(|rollback| rollback.revision);
                sources.chain(target).chain([row.revision])
            })
            .collect();
        named.extend(service.revision);
        named.extend(completed(view, service));
        let revisions = view.revisions_of(account, &id).filter(|row| !named.contains(&row.id));
        keys.extend(revisions.map(|row| Key::ServiceRevision(account, row.id())));
        // The last: revisions that are cut off are found again by them.
        keys.extend(over.iter().map(|row| Key::Deployment(account, row.id())));
    }
}

/// The revision that a rollback would go back to.
fn completed(view: &View, service: &Service) -> Option<RevisionId> {
    view.completed_revision(service.scope.account, &service.key())
}

/// The definitions that services may still make tasks of.
fn promised_definitions(view: &View) -> BTreeSet<(AccountId, &TaskDefinitionId)> {
    let is_live = |service: &&Arc<Service>| service.status < ServiceStatus::Inactive;
    let promised = view.services.iter().filter(is_live).flat_map(|service| {
        let (account, id) = (service.scope.account, service.key());
        let deployments = view.deployments_of(account, &id);
        let revisions: BTreeSet<RevisionId> = deployments
            .filter(|row| row.rank < Rank::Gone)
            .map(|row| row.revision)
            .chain(service.revision)
            .chain(completed(view, service))
            .collect();
        let definitions = revisions
            .into_iter()
            .filter_map(|revision| view.revision_of(account, &id, revision))
            .map(|revision| &revision.definition);
        let sets = view.task_sets_of(account, &id).map(|set| &set.definition);
        definitions.chain(sets).map(|definition| (account, definition)).collect::<Vec<_>>()
    });
    promised.collect()
}
