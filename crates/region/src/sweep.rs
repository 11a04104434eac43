//! Takes away what is over: deleted clusters and capacity providers, expired client tokens, deleted
//! task definitions.
//!
//! Called now and then by whoever keeps the region's time; calling it twice changes nothing.

use aws_wire::ApiError;
use longshore_types::Timestamp;
use model::{Key, TaskDefinitionStatus, View};
use store::{BATCH_ROWS_MAX, Batch};

use crate::region::Region;

impl Region {
    /// Removes what nobody can see or use any more; says how many rows went.
    pub async fn sweep(&self) -> Result<usize, ApiError> {
        self.decide(|view, now| {
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
        let kept_ms = self.config.retention.inactive_clusters_ms;
        let clusters = view
            .clusters
            .iter()
            .filter(|row| row.deleted_at.is_some_and(|at| kept_ms <= now.since_ms(at)))
            .map(|row| Key::Cluster(row.account, row.name.clone()));
        let tokens = view
            .client_tokens
            .iter()
            .filter(|row| row.expires_at <= now)
            .map(|row| Key::ClientToken(row.account, row.call.clone()));
        let definitions = view
            .task_definitions
            .iter()
            .filter(|row| row.status == TaskDefinitionStatus::DeleteInProgress)
            .filter(|row| {
                let is_its = |task: &model::Task| {
                    task.scope.account == row.account && task.definition == row.id
                };
                !view.tasks.of(row.account).any(|task| is_its(task))
            })
            .map(|row| Key::TaskDefinition(row.account, row.id.clone()));
        let providers_kept_ms = self.config.retention.inactive_capacity_providers_ms;
        let providers = view
            .capacity_providers
            .iter()
            .filter(|row| row.deleted_at.is_some_and(|at| providers_kept_ms <= now.since_ms(at)))
            .map(|row| Key::CapacityProvider(row.scope.account, row.name.clone()));
        clusters.chain(tokens).chain(definitions).chain(providers).collect()
    }
}
