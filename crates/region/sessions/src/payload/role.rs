//! The role that a task's execution is done in: its images fetched, its logs written.

use acs::RoleCredentials;
use control::access::TASK_EXECUTION_ROLE;
use control::temporary::{self, TemporaryKey};
use ecs_api as api;
use longshore_types::{Timestamp, Token, Uuid};
use model::task::Task;

use super::Environment;

/// The key of one task's execution, and what its agent knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    id: Uuid,
    key: TemporaryKey,
}

impl Execution {
    pub fn of(task: &Task, seed: &Token, now: Timestamp) -> Self {
        let arn = task.arn();
        Self { id: temporary::credentials_id(seed, &arn), key: temporary::of_task(seed, &arn, now) }
    }

    pub fn credentials(
        &self,
        task: &Task,
        definition: Option<&api::TaskDefinition>,
    ) -> RoleCredentials {
        let account = task.scope.account;
        let named = named_role(task, definition).map(str::to_owned);
        RoleCredentials {
            credentials_id: self.id.to_string(),
            role_arn: named
                .unwrap_or_else(|| format!("arn:aws:iam::{account}:role/{TASK_EXECUTION_ROLE}")),
            access_key_id: self.key.access_key_id.clone(),
            secret_access_key: self.key.secret.clone(),
            session_token: self.key.session_token.clone(),
            expiration: self.key.expires.iso8601(),
        }
    }
}

fn named_role<'a>(task: &'a Task, definition: Option<&'a api::TaskDefinition>) -> Option<&'a str> {
    let defined = definition.and_then(|definition| definition.execution_role_arn.as_deref());
    task.overrides.execution_role_arn.as_deref().or(defined).filter(|arn| !arn.is_empty())
}

/// Whether the agent acts as the role. Amazon's does if the task names one and acts as its host
/// otherwise, which is of the task's account; ours serves every account and always does.
pub(super) fn is_used(
    task: &Task,
    definition: &api::TaskDefinition,
    environment: &Environment<'_>,
) -> bool {
    environment.agent_is_ours || named_role(task, Some(definition)).is_some()
}
