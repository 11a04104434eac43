//! The handshake of both sockets: who asks, for which instance, and the switch of protocols.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::access::may_speak_for;
use control::iam::node_keys::is_host;
use control::{Control, Permission, release};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use longshore_types::{Chain, InstanceArn};
use model::Instance;
use model::instance::InstanceStatus;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tracing::{debug, warn};

use super::{telemetry, work};
use crate::Sessions;
use crate::presence::Agent;

/// The path of the work socket.
pub const WORK_PATH: &str = "/acs/ws";
/// The path of the telemetry socket.
pub const TELEMETRY_PATH: &str = "/tcs/ws";
/// The largest frame that an agent may send; Amazon's agent keeps to 1 MiB.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// Read at a time, and held by every socket for as long as it is open.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Gathered before it is written, and held by every socket that ever had so much to say: an agent that comes
/// back hears of all its tasks.
const WRITE_BUFFER_BYTES: usize = 8 << 10;

/// Answers a verified request to open a socket, and serves it once the answer is out.
///
/// The answer is `101` with an empty body, or a refusal whose body names the exception.
pub fn accept<B>(
    sessions: &Arc<Sessions>,
    caller: &Caller,
    mut request: Request<B>,
) -> Response<String> {
    let (instance, query, accept_key) = match admit(sessions, caller, &request) {
        Ok(admitted) => admitted,
        Err(error) => return refuse(&error),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let serving = Arc::clone(sessions);
    if request.uri().path() == TELEMETRY_PATH {
        #[expect(clippy::disallowed_methods, reason = "it ends with the socket")]
        tokio::spawn(async move {
            if let Some(socket) = upgraded(upgrade).await {
                telemetry::serve(&serving, &instance, socket).await;
            }
        });
    } else {
        let agent = Agent::from_query(&query).of(caller);
        #[expect(clippy::disallowed_methods, reason = "it ends with the socket")]
        tokio::spawn(async move {
            if let Some(socket) = upgraded(upgrade).await {
                work::serve(&serving, &instance, &agent, socket).await;
            }
        });
    }
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept_key);
    response
}

type Query = BTreeMap<String, String>;

fn admit<B>(
    sessions: &Sessions,
    caller: &Caller,
    request: &Request<B>,
) -> Result<(Arc<Instance>, Query, HeaderValue), ApiError> {
    let bad = |message: &str| ApiError::client("BadRequestException", message);
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let is_upgrade = header(header::UPGRADE).is_some_and(|v| v.eq_ignore_ascii_case("websocket"));
    let is_version = header(header::SEC_WEBSOCKET_VERSION) == Some("13");
    if !is_upgrade || !is_version {
        return Err(bad("This address serves websockets of version 13."));
    }
    let key = header(header::SEC_WEBSOCKET_KEY).ok_or_else(|| bad("The key is missing."))?;
    let accept_key = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| bad("The key is malformed."))?;
    let query = parse_query(request.uri().query().unwrap_or_default());
    let arn = query.get("containerInstanceArn").or_else(|| query.get("containerInstance"));
    let arn: InstanceArn = arn
        .and_then(|arn| arn.parse().ok())
        .ok_or_else(|| ApiError::client("InvalidInstanceException", "Not an instance's ARN."))?;
    let action = match request.uri().path() {
        TELEMETRY_PATH => "ecs:StartTelemetrySession",
        _ => "ecs:Poll",
    };
    let instance = instance_of(sessions, caller, action, &arn)?;
    // Amazon's agent is of no release of ours.
    let said = query.get("agentVersion").filter(|_| is_host(caller));
    if let Some(why) = said.and_then(|said| release::too_far(said, release::RELEASE)) {
        return Err(ApiError::client("ClientException", why));
    }
    Ok((instance, query, accept_key))
}

/// The instance that the caller may speak for.
fn instance_of(
    sessions: &Sessions,
    caller: &Caller,
    action: &'static str,
    arn: &InstanceArn,
) -> Result<Arc<Instance>, ApiError> {
    let view = sessions.control.view();
    let found = view.instances.get(arn.scope.account, &arn.id);
    let inactive = || {
        let message = format!("InactiveInstanceException: {arn} is not registered.");
        ApiError::client("InactiveInstanceException", message)
    };
    // What is asked for is what is answered: its cluster and region are not taken on trust.
    let instance = found.filter(|row| row.arn() == *arn).ok_or_else(inactive)?;
    if !may_speak_for(caller, instance) {
        let message = "This access key does not belong to the instance.";
        return Err(ApiError::client("AccessDeniedException", message));
    }
    let (scope, cluster) = (&arn.scope, &instance.cluster);
    let cluster = format!("arn:aws:ecs:{}:{}:cluster/{cluster}", scope.region, scope.account);
    let permission = Permission::to(action).on(arn.to_string()).with("ecs:cluster", cluster);
    sessions.control.authorize(&view, caller, &permission)?;
    if instance.status == InstanceStatus::Inactive {
        return Err(inactive());
    }
    sessions.control.check_address_again(&view, instance, Control::comes_from(caller))?;
    Ok(Arc::clone(instance))
}

fn refuse(error: &ApiError) -> Response<String> {
    let body = serde_json::json!({ (error.code.as_ref()): error.message });
    let mut response = Response::new(body.to_string());
    *response.status_mut() =
        StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

async fn upgraded(upgrade: OnUpgrade) -> Option<Socket> {
    match upgrade.await {
        Ok(upgraded) => {
            let config = WebSocketConfig::default()
                .read_buffer_size(READ_BUFFER_BYTES)
                .write_buffer_size(WRITE_BUFFER_BYTES)
                .max_message_size(Some(FRAME_BYTES_MAX))
                .max_frame_size(Some(FRAME_BYTES_MAX));
            let io = TokioIo::new(upgraded);
            Some(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
        }
        Err(error) => {
            if error.is_canceled() {
                debug!("the peer left during the handshake");
            } else {
                warn!(error = %Chain(&error), "websocket upgrade failed");
            }
            None
        }
    }
}

/// `a=1&b=x%20y`; what is no UTF-8 once decoded is left out.
fn parse_query(query: &str) -> Query {
    query
        .split('&')
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent_decode(name)?, percent_decode(value)?))
        })
        .collect()
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &tail[2..];
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_decoded() {
        let query = parse_query("containerInstanceArn=arn%3Aaws%3Aecs&dockerVersion=D+1&x&%zz=1");
        assert_eq!(query["containerInstanceArn"], "arn:aws:ecs");
        assert_eq!(query["dockerVersion"], "D 1");
        assert_eq!(query["x"], "");
        assert_eq!(query.len(), 3);
    }
}
