//! CloudWatch Logs, as far as the awslogs driver needs it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use longshore_types::PutToken;
use serde::{Deserialize, Serialize};

use super::{Api, CallError, LOGS};
use crate::logdriver::{LogEvent, LogService, LogServiceError, LogTarget};
use acs::RoleCredentials;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Put<'a> {
    log_group_name: &'a str,
    log_stream_name: &'a str,
    sequence_token: String,
    log_events: Vec<PutEvent<'a>>,
}

#[derive(Serialize)]
struct PutEvent<'a> {
    timestamp: u64,
    message: &'a str,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PutAnswer {
    rejected_log_events_info: Option<Rejected>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rejected {
    too_new_log_event_start_index: Option<u64>,
    too_old_log_event_end_index: Option<u64>,
    expired_log_event_end_index: Option<u64>,
}

fn failed(error: &CallError) -> LogServiceError {
    match error {
        CallError::Refused { code, message, .. } => LogServiceError {
            code: code.clone(),
            message: message.clone(),
            is_transient: error.is_transient(),
            is_away: error.is_away(),
        },
        CallError::Unreachable { .. }
        | CallError::TimedOut { .. }
        | CallError::Unreadable { .. }
        | CallError::NoCredentials
        | CallError::BadEndpoint(_)
        | CallError::ForeignEndpoint(_) => LogServiceError {
            code: "RequestError".to_owned(),
            message: error.to_string(),
            is_transient: error.is_transient(),
            is_away: error.is_away(),
        },
    }
}

/// That it exists is what was wanted.
fn exists_or(result: Result<serde_json::Value, CallError>) -> Result<(), LogServiceError> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.code() == "ResourceAlreadyExistsException" => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

impl LogService for Api {
    fn check(&self, target: &LogTarget) -> Result<(), LogServiceError> {
        self.admit(target.endpoint.as_deref()).map(drop).map_err(|error| failed(&error))
    }

    fn create_group(
        &self,
        target: LogTarget,
        role: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<(), LogServiceError>> {
        Box::pin(async move {
            let input = serde_json::json!({ "logGroupName": target.group });
            let endpoint = target.endpoint.as_deref();
            exists_or(self.call_as(LOGS, "CreateLogGroup", &input, role.as_ref(), endpoint).await)
        })
    }

    fn create_stream(
        &self,
        target: LogTarget,
        role: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<(), LogServiceError>> {
        Box::pin(async move {
            let input =
                serde_json::json!({ "logGroupName": target.group, "logStreamName": target.stream });
            let endpoint = target.endpoint.as_deref();
            exists_or(self.call_as(LOGS, "CreateLogStream", &input, role.as_ref(), endpoint).await)
        })
    }

    fn put(
        &self,
        target: LogTarget,
        role: Option<RoleCredentials>,
        token: PutToken,
        events: Arc<Vec<LogEvent>>,
    ) -> BoxFuture<'_, Result<u64, LogServiceError>> {
        Box::pin(async move {
            let log_events = events
                .iter()
                .map(|event| PutEvent { timestamp: event.at.0, message: &event.text })
                .collect();
            let input = Put {
                log_group_name: &target.group,
                log_stream_name: &target.stream,
                sequence_token: token.to_string(),
                log_events,
            };
            let endpoint = target.endpoint.as_deref();
            let answer: Result<PutAnswer, CallError> =
                self.call_as(LOGS, "PutLogEvents", &input, role.as_ref(), endpoint).await;
            let rejected = answer.map_err(|error| failed(&error))?.rejected_log_events_info;
            Ok(rejected.map_or(0, |rejected| count(&rejected, events.len())))
        })
    }
}

fn count(rejected: &Rejected, total: usize) -> u64 {
    let total = u64::try_from(total).unwrap_or(u64::MAX);
    let old = rejected.too_old_log_event_end_index.max(rejected.expired_log_event_end_index);
    let new = rejected.too_new_log_event_start_index.map(|start| total.saturating_sub(start));
    old.unwrap_or(0).saturating_add(new.unwrap_or(0)).min(total)
}
