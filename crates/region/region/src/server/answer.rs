//! Answers as hyper sends them.

use std::io;

use aws_wire::service::Answer;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use longshore_types::Uuid;

/// The body of any answer; the registry's are streams.
pub type Body = BoxBody<Bytes, io::Error>;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// An API's answer with the request's id.
pub(super) fn respond(answer: Answer, request_id: Uuid) -> Response<Body> {
    let mut response = Response::new(full(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if !answer.content_type.is_empty()
        && let Ok(value) = HeaderValue::from_str(&answer.content_type)
    {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.extend(answer.headers);
    if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
        headers.insert(REQUEST_ID, value);
    }
    response
}

/// A short answer of plain text.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
