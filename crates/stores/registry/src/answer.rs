//! Answers, and the few headers that most of them carry.

use std::io;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};

/// What [`crate::Registry::handle`] gives.
pub type Answer = Response<BoxBody<Bytes, io::Error>>;

pub(crate) fn full(bytes: impl Into<Bytes>) -> BoxBody<Bytes, io::Error> {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    answer
}

pub(crate) fn json(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let bytes = text.into();
    let mut answer = Response::new(full(bytes.clone()));
    *answer.status_mut() = status;
    set(&mut answer, CONTENT_TYPE, "application/json");
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    answer
}

/// Sets a header; a value that fits no header is left out.
pub(crate) fn set(answer: &mut Answer, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

pub(crate) fn set_digest(answer: &mut Answer, digest: &image::Digest) {
    set(answer, HeaderName::from_static("docker-content-digest"), &digest.to_string());
}

/// How far an upload is, as the protocol writes it.
pub(crate) fn upload_range(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

/// The answer to HEAD: the length stays, the body goes.
pub(crate) fn without_body(answer: Answer) -> Answer {
    answer.map(|_| Empty::new().map_err(|never| match never {}).boxed())
}
