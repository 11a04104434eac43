//! Task protection, which a container asks for itself: what it says goes to the region with its task's own role.

use std::time::Duration;

use http::{Method, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use longshore_types::Chain;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use super::{Server, respond};
use crate::client::CallError;
use crate::engine::TaskView;
use crate::limits::PROTECTION_MS_MAX;

/// What a container wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Protection {
    pub protection_enabled: Option<bool>,
    pub expires_in_minutes: Option<i64>,
}

/// What the region said of the task.
#[derive(Clone, Debug, PartialEq)]
pub enum ProtectionState {
    Protected(Value),
    Failed(Value),
}

/// Answers `GET` with what is, and `PUT` after it was made so.
pub(super) async fn answer(
    server: &Server<'_>,
    view: &TaskView,
    method: &Method,
    body: &[u8],
) -> Response<Full<Bytes>> {
    let arn = view.spec.arn.to_string();
    let refuse = |status: StatusCode, code: &str, message: &str| {
        let error = json!({ "Arn": arn, "Code": code, "Message": message });
        respond(status, &json!({ "error": error }))
    };
    let change = if *method == Method::PUT {
        match read(body) {
            Ok(change) => Some(change),
            Err(why) => return refuse(StatusCode::BAD_REQUEST, "InvalidParameterException", &why),
        }
    } else {
        None
    };
    let role = view.spec.credentials_id.as_deref().and_then(|id| server.engine.named(id));
    let role = role.and_then(|(_, role)| role).filter(|role| !role.access_key_id.is_empty());
    let Some(role) = role else {
        const MESSAGE: &str = "Invalid Request: no task IAM role credentials available for task";
        return refuse(StatusCode::FORBIDDEN, "AccessDeniedException", MESSAGE);
    };
    let region = &server.engine.context().region;
    let asked = region.protection(view.spec.arn.clone(), change, role);
    match tokio::time::timeout(Duration::from_millis(PROTECTION_MS_MAX), asked).await {
        Ok(Ok(ProtectionState::Protected(state))) => {
            respond(StatusCode::OK, &json!({ "protection": state }))
        }
        Ok(Ok(ProtectionState::Failed(failure))) => {
            respond(StatusCode::OK, &json!({ "failure": failure }))
        }
        Ok(Err(error)) => {
            warn!(task = arn, error = %Chain(&error), "task protection not answered");
            let (status, code) = status_of(&error);
            let message = match &error {
                CallError::Refused { message, .. } => message.clone(),
                _ => "Failed to reach ECS".to_owned(),
            };
            refuse(status, &code, &message)
        }
        Err(_) => refuse(StatusCode::GATEWAY_TIMEOUT, "RequestCanceled", "Timed out calling ECS"),
    }
}

fn read(body: &[u8]) -> Result<Protection, String> {
    let members = serde_json::from_slice::<serde_json::Map<String, Value>>(body);
    let change: Protection = members
        .and_then(|members| serde_json::from_value(Value::Object(members)))
        .map_err(|why| format!("UpdateTaskProtection: failed to decode request: {why}"))?;
    match change.protection_enabled {
        Some(_) => Ok(change),
        None => Err("Invalid request: does not contain 'ProtectionEnabled' field".to_owned()),
    }
}

fn status_of(error: &CallError) -> (StatusCode, String) {
    match error {
        CallError::Refused { status, code, .. } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, code.clone())
        }
        CallError::TimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, "RequestCanceled".to_owned()),
        CallError::Unreachable { .. }
        | CallError::Unreadable { .. }
        | CallError::NoCredentials
        | CallError::BadEndpoint(_)
        | CallError::ForeignEndpoint(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "ServerException".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_must_say_whether_and_may_say_how_long() {
        let both = read(br#"{"ProtectionEnabled": true, "ExpiresInMinutes": 60}"#).unwrap();
        let expected = Protection { protection_enabled: Some(true), expires_in_minutes: Some(60) };
        assert_eq!(both, expected);
        assert!(read(br#"{"ProtectionEnabled": false}"#).is_ok());
        let missing = read(b"{}").unwrap_err();
        assert_eq!(missing, "Invalid request: does not contain 'ProtectionEnabled' field");
        for wrong in
            ["", "[]", r#"{"ProtectionEnabled": "yes"}"#, r#"{"ProtectionEnabled": true, "X": 1}"#]
        {
            assert!(read(wrong.as_bytes()).unwrap_err().contains("failed to decode"), "{wrong}");
        }
    }
}
