//! The credentials of a task's role, for its own containers.

use acs::RoleCredentials;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tracing::debug;

use super::{Server, respond};

/// Answers a question for the credentials of `id`.
pub(super) async fn answer(server: &Server<'_>, id: &str, version: u8) -> Response<Full<Bytes>> {
    let refuse = |code, message: &str| refuse(version, code, message);
    let found = match server.engine.named(id) {
        Some(named) if server.is_asked_by(&named.0).await => Some(named),
        Some(_) | None => None,
    };
    match found {
        _ if id.is_empty() => refuse("NoIdInRequest", "No Credential ID in the request"),
        None => refuse("InvalidIdInRequest", "Credentials not found"),
        Some((view, role)) => match role {
            Some(role) if !role.access_key_id.is_empty() => {
                debug!(task = %view.spec.arn, role = role.role_arn, "credentials given");
                respond(StatusCode::OK, &shown(&role))
            }
            Some(role) => refuse(
                "CredentialsUninitialized",
                &format!(
                    "Credentials uninitialized for ID: ECS was unable to assume the role '{}' that was \
                     provided for this task: there is no such role",
                    role.role_arn
                ),
            ),
            None => refuse("CredentialsUninitialized", "Credentials uninitialized for ID"),
        },
    }
}

fn shown(role: &RoleCredentials) -> Value {
    json!({
        "RoleArn": role.role_arn,
        "AccessKeyId": role.access_key_id,
        "SecretAccessKey": role.secret_access_key.reveal(),
        "Token": role.session_token.reveal(),
        "Expiration": role.expiration,
    })
}

/// As Amazon's agent words it.
fn refuse(version: u8, code: &str, message: &str) -> Response<Full<Bytes>> {
    let status = match code {
        "CredentialsUninitialized" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    let body = json!({
        "code": code,
        "message": format!("CredentialsV{version}Request: {message}"),
        "HTTPErrorCode": status.as_u16(),
    });
    respond(status, &body)
}
