//! Any bytes as a request's authorization: no panic, and never accepted.

#![no_main]

use aws_wire::sigv4::{KeyMaterial, Received, SigningKeys, verify};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use longshore_types::{Timestamp, Token};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (query, header) = text.split_once('\n').unwrap_or((&text, ""));
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(header) {
        headers.insert("authorization", value);
    }
    headers.insert("x-amz-date", HeaderValue::from_static("20231114T221320Z"));
    let request = Received { method: "POST", path: "/", query, headers: &headers, body: b"{}" };
    let key = |_: &str, _: Option<&str>| {
        let secret = Token::from_text("a secret that the fuzzer does not know".to_owned());
        Some(KeyMaterial { secret, session_token: None, expires: None })
    };
    let now = Timestamp(1_700_000_000_000);
    assert!(verify(&request, "us-east-1", now, &SigningKeys::default(), key).is_err());
});
