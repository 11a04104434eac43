//! What stands around an answer's members, and how an error is dressed.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use longshore_types::Uuid;
use serde_json::json;

use super::{Answer, Call, Protocol, SMITHY_PROTOCOL, Service};
use crate::codec::{Document, Encoder};
use crate::error::{ApiError, Denial};
use crate::query::escape;
use crate::{cbor, json};

/// The XML document around an output's members.
pub(super) fn wrapped(call: &Call<'_>, members: &str) -> String {
    let (name, namespace) = (call.operation.name, call.service.namespace);
    let id = call.request_id;
    match call.protocol {
        // EC2 says even of what has no members that it was done.
        Protocol::Ec2Query if call.operation.output.is_none() => format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{name}Response xmlns=\"{namespace}/\">\
             <requestId>{id}</requestId><return>true</return></{name}Response>"
        ),
        Protocol::Ec2Query => format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{name}Response xmlns=\"{namespace}/\">\
             <requestId>{id}</requestId>{members}</{name}Response>"
        ),
        _ => {
            let (open, close) = match call.operation.result_wrapper {
                Some(wrapper) => (format!("<{wrapper}>"), format!("</{wrapper}>")),
                None => (String::new(), String::new()),
            };
            format!(
                "<{name}Response xmlns=\"{namespace}\">{open}{members}{close}<ResponseMetadata>\
                 <RequestId>{id}</RequestId></ResponseMetadata></{name}Response>"
            )
        }
    }
}

/// An error as a service of `protocol` answers it. `service` may be unknown.
pub fn error_answer(
    error: &ApiError,
    protocol: Protocol,
    service: Option<&Service>,
    request_id: Uuid,
) -> Answer {
    let denied = error.denial.as_deref().map(|denial| denied(error, denial, protocol));
    let error = denied.as_ref().unwrap_or(error);
    let mut headers = vec![];
    let query_code = service.and_then(|service| service.query_code(&error.code));
    let is_query = matches!(protocol, Protocol::Query | Protocol::Ec2Query);
    if let Some(code) = query_code.filter(|_| !is_query) {
        let side = if error.is_fault() { "Receiver" } else { "Sender" };
        if let Ok(value) = HeaderValue::from_str(&format!("{code};{side}")) {
            headers.push((HeaderName::from_static("x-amzn-query-error"), value));
        }
    }
    let body = match protocol {
        Protocol::AwsJson10 | Protocol::AwsJson11 => json_body(error, true),
        Protocol::RestJson1 => {
            if let Ok(code) = HeaderValue::from_str(&error.code) {
                headers.push((HeaderName::from_static("x-amzn-errortype"), code));
            }
            json_body(error, false)
        }
        Protocol::RpcV2Cbor => {
            headers.push(SMITHY_PROTOCOL);
            cbor_body(error)
        }
        Protocol::Query => query_body(error, service, request_id),
        Protocol::Ec2Query => ec2_body(error, request_id),
    };
    Answer {
        status: error.status,
        content_type: Cow::Borrowed(protocol.content_type()),
        headers,
        body: Bytes::from(body),
    }
}

/// What policies refused, with the code that services of a protocol have for it.
fn denied(error: &ApiError, denial: &Denial, protocol: Protocol) -> ApiError {
    let message = error.message.clone();
    match protocol {
        Protocol::AwsJson10 | Protocol::AwsJson11 => {
            ApiError::client("AccessDeniedException", message)
        }
        Protocol::RestJson1 | Protocol::RpcV2Cbor => {
            ApiError::client("AccessDeniedException", message).with_status(403)
        }
        Protocol::Query => ApiError::client("AccessDenied", message).with_status(403),
        Protocol::Ec2Query => {
            let encoded = &denial.encoded;
            let message = format!(
                "You are not authorized to perform this operation. {message}. Encoded authorization \
                 failure message: {encoded}"
            );
            ApiError::client("UnauthorizedOperation", message).with_status(403)
        }
    }
}

/// `{"__type":"ClusterNotFoundException","message":"Cluster not found."}`
fn json_body(error: &ApiError, with_type: bool) -> Vec<u8> {
    let mut members = error.extra.clone().unwrap_or_default();
    if with_type {
        members.insert("__type".to_owned(), json!(error.code));
    }
    if !error.message.is_empty() {
        members.insert("message".to_owned(), json!(error.message));
    }
    let mut body = vec![];
    json::Writer::new(&mut body, crate::shape::TimestampFormat::Seconds)
        .document(&Document(serde_json::Value::Object(members)).0);
    body
}

fn cbor_body(error: &ApiError) -> Vec<u8> {
    let mut body = vec![0xbf];
    let mut writer = cbor::Writer::new(&mut body);
    for (name, value) in [("__type", error.code.as_ref()), ("message", &error.message)] {
        writer.text(name);
        writer.text(value);
    }
    body.push(0xff);
    body
}

fn query_body(error: &ApiError, service: Option<&Service>, request_id: Uuid) -> Vec<u8> {
    let namespace = service.map_or("", |service| service.namespace);
    let side = if error.is_fault() { "Receiver" } else { "Sender" };
    let code = service.and_then(|service| service.query_code(&error.code));
    let (code, message) = (escaped(code.unwrap_or(&error.code)), escaped(&error.message));
    format!(
        "<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{side}</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    .into_bytes()
}

fn ec2_body(error: &ApiError, request_id: Uuid) -> Vec<u8> {
    let (code, message) = (escaped(&error.code), escaped(&error.message));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
         <Message>{message}</Message></Error></Errors><RequestID>{request_id}</RequestID></Response>"
    )
    .into_bytes()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape(&mut out, text);
    out
}
