//! What the agent asks of ECS because a container asked it.

use longshore_types::{TaskArn, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Api, CallError, ECS};
use crate::endpoint::{Protection, ProtectionState};
use acs::RoleCredentials;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangeProtection<'a> {
    cluster: &'a str,
    tasks: [&'a str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    protection_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_minutes: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Protections {
    protected_tasks: Vec<ProtectedTask>,
    failures: Vec<Failure>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProtectedTask {
    task_arn: String,
    protection_enabled: bool,
    /// Seconds since 1970.
    expiration_date: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Failure {
    arn: Option<String>,
    reason: Option<String>,
    detail: Option<String>,
}

impl Api {
    /// The tags of a resource of ECS.
    pub(crate) async fn list_tags(
        &self,
        resource: &str,
    ) -> Result<Vec<(String, String)>, CallError> {
        #[derive(Deserialize)]
        struct Tag {
            key: String,
            #[serde(default)]
            value: String,
        }
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            tags: Vec<Tag>,
        }
        let input = json!({ "resourceArn": resource });
        let answer: Answer = self.call(ECS, "ListTagsForResource", &input).await?;
        Ok(answer.tags.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }

    /// Whether a task is protected, after `change` was made.
    pub(crate) async fn task_protection(
        &self,
        task: &TaskArn,
        change: Option<Protection>,
        role: &RoleCredentials,
    ) -> Result<ProtectionState, CallError> {
        let arn = task.to_string();
        let input = ChangeProtection {
            cluster: task.cluster.as_str(),
            tasks: [&arn],
            protection_enabled: change.and_then(|change| change.protection_enabled),
            expires_in_minutes: change.and_then(|change| change.expires_in_minutes),
        };
        let operation = if change.is_some() { "UpdateTaskProtection" } else { "GetTaskProtection" };
        let answer: Protections = self.call_as(ECS, operation, &input, Some(role), None).await?;
        if let Some(failure) = answer.failures.into_iter().next() {
            let Failure { arn: of, reason, detail } = failure;
            let failure = json!({
                "Arn": of.unwrap_or(arn),
                "Reason": reason.unwrap_or_default(),
                "Detail": detail,
            });
            return Ok(ProtectionState::Failed(without_nulls(failure)));
        }
        let Some(state) = answer.protected_tasks.into_iter().next() else {
            let why = "no task is in it".to_owned();
            return Err(CallError::Unreadable { operation, why });
        };
        let expires = state.expiration_date.map(|at| from_seconds(at).iso8601());
        Ok(ProtectionState::Protected(without_nulls(json!({
            "TaskArn": state.task_arn,
            "ProtectionEnabled": state.protection_enabled,
            "ExpirationDate": expires,
        }))))
    }
}

fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value {
        members.retain(|_, member| !member.is_null());
    }
    value
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what a clock shows"
)]
fn from_seconds(seconds: f64) -> Timestamp {
    Timestamp((seconds.clamp(0.0, 1e11) * 1000.0).round() as u64)
}
