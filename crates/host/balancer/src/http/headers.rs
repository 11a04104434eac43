//! Headers of requests and answers on their way through.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, SERVER, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use hyper::body::Incoming;
use routing::{BalancerAttributes, DesyncMode, ListenerAttributes, forwarded};

use super::answers::Failure;
use crate::limits::{HEAD_BYTES_MAX, HEADER_BYTES_MAX, URI_BYTES_MAX};

pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Refuses what must not be passed on: what two parsers could read in two ways, and what is beyond a limit.
pub(crate) fn check(request: &Request<Incoming>, desync: DesyncMode) -> Result<(), Failure> {
    let uri_bytes = request.uri().path_and_query().map_or(0, |uri| uri.as_str().len());
    if uri_bytes > URI_BYTES_MAX {
        return Err(Failure::UriTooLong);
    }
    if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
        return Err(Failure::MethodNotAllowed);
    }
    let headers = request.headers();
    let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    let mut all_bytes = 0;
    for bytes in headers.iter().map(bytes) {
        all_bytes += bytes;
        if bytes > HEADER_BYTES_MAX || all_bytes > HEAD_BYTES_MAX {
            return Err(Failure::BadRequest);
        }
    }
    check_encoding(headers)?;
    check_host(request)?;
    if desync == DesyncMode::Strictest {
        let is_plain = |name: &HeaderName| {
            name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let is_odd = headers.iter().any(|(name, value)| !is_plain(name) || value.is_empty());
        let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
        if is_odd || (is_get && headers.contains_key(CONTENT_LENGTH)) {
            return Err(Failure::BadRequest);
        }
    }
    let came = joined(headers, &FORWARDED_FOR);
    if came.as_deref().is_some_and(forwarded::has_too_many_addresses) {
        return Err(Failure::TooManyForwarded);
    }
    Ok(())
}

/// One `Transfer-Encoding: chunked`, or none. Beside it no length is passed on: the parser has dropped it.
fn check_encoding(headers: &HeaderMap) -> Result<(), Failure> {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(first) = encodings.next() else { return Ok(()) };
    if encodings.next().is_some() {
        return Err(Failure::BadRequest);
    }
    let first = first.to_str().map_err(|_| Failure::BadRequest)?;
    let mut codings = first.split(',').map(str::trim);
    match (codings.next(), codings.next()) {
        (Some(one), None) if one.eq_ignore_ascii_case("chunked") => Ok(()),
        _ if first.to_ascii_lowercase().matches("chunked").count() > 1 => Err(Failure::BadRequest),
        _ => Err(Failure::NotImplemented),
    }
}

/// One host, of letters that hosts have. HTTP/1.0 may do without.
fn check_host(request: &Request<Incoming>) -> Result<(), Failure> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let is_named = request.uri().authority().is_some();
    let is_text = |host: &HeaderValue| {
        host.as_bytes()
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]~%".contains(byte))
    };
    match (first, second) {
        (_, Some(_)) => Err(Failure::BadRequest),
        (Some(host), None) if !is_text(host) => Err(Failure::BadRequest),
        (None, None) if !is_named && request.version() == Version::HTTP_11 => {
            Err(Failure::BadRequest)
        }
        (Some(_) | None, None) => Ok(()),
    }
}

/// The host that a request names, with its port.
pub(crate) fn host(request: &Request<Incoming>) -> &str {
    let named = request.uri().authority().map(http::uri::Authority::as_str);
    let header = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    named.or_else(header).unwrap_or_default()
}

/// All values of a header as one.
pub(crate) fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let first = values.next()?.to_owned();
    Some(values.fold(first, |all, next| all + ", " + next))
}

/// Whether a client asks for a websocket.
pub(crate) fn is_websocket(request: &Request<Incoming>) -> bool {
    let has = |name: &HeaderName, wanted: &str| {
        joined(request.headers(), name).is_some_and(|text| {
            text.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted))
        })
    };
    request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && has(&CONNECTION, "upgrade")
        && has(&UPGRADE, "websocket")
}

/// Takes out what is said between two neighbours only, and what `Connection` names besides.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(named) = joined(headers, &CONNECTION) {
        for name in named.split(',').map(str::trim) {
            // Headers that frame the message or say who is asked are not the client's to hide.
            let is_needed = [
                "host",
                "content-length",
                "close",
                "keep-alive",
                "upgrade",
                "authorization",
                "cookie",
            ]
            .iter()
            .any(|needed| name.eq_ignore_ascii_case(needed))
                || name.to_ascii_lowercase().starts_with("x-forwarded-");
            if !is_needed {
                headers.remove(name);
            }
        }
    }
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// What a target is not to see of a request as it came.
pub(crate) fn clean_request(headers: &mut HeaderMap, attributes: &BalancerAttributes, is_h2: bool) {
    remove_hop_by_hop(headers);
    // The client was told to go on by the balancer itself.
    headers.remove(EXPECT);
    if attributes.drop_invalid_header_fields {
        let is_valid = |name: &HeaderName| {
            name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let invalid: Vec<HeaderName> =
            headers.keys().filter(|name| !is_valid(name)).cloned().collect();
        for name in invalid {
            headers.remove(name);
        }
    }
    // HTTP/2 may send a cookie in crumbs; before it, it is one header.
    if is_h2 && headers.get_all(COOKIE).iter().nth(1).is_some() {
        let crumbs: Vec<&[u8]> =
            headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(b"; ".as_slice())) {
            headers.insert(COOKIE, whole);
        }
    }
}

/// What a listener changes of every answer, a target's or the balancer's own: what it sets is in the place of what the
/// target said.
pub(crate) fn finish_answer(headers: &mut HeaderMap, attributes: &ListenerAttributes) {
    if !attributes.server_header {
        headers.remove(SERVER);
    }
    for (name, value) in &attributes.response_headers {
        let (name, value) = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encodings(values: &[&str]) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRANSFER_ENCODING, value.parse().unwrap());
        }
        check_encoding(&headers)
    }

    #[test]
    fn only_one_plain_chunked_encoding_is_taken() {
        assert_eq!(encodings(&[]), Ok(()));
        assert_eq!(encodings(&["Chunked"]), Ok(()));
        assert_eq!(encodings(&["gzip, chunked"]), Err(Failure::NotImplemented));
        assert_eq!(encodings(&["chunked, chunked"]), Err(Failure::BadRequest));
        assert_eq!(encodings(&["chunked", "chunked"]), Err(Failure::BadRequest));
        assert_eq!(encodings(&["xchunked"]), Err(Failure::NotImplemented));
        assert_eq!(encodings(&["\tchunked"]), Ok(()));
    }

    #[test]
    fn what_connection_names_is_removed_but_not_what_frames_the_message() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop, Content-Length, X-Forwarded-For"),
            ("x-hop", "1"),
            ("content-length", "5"),
            ("x-forwarded-for", "1.2.3.4"),
            ("te", "trailers"),
            ("keep-alive", "5"),
            ("x-stays", "1"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "x-forwarded-for", "x-stays"]);
    }
}
