//! What a client adds to a request: used by the agent, the command line and the tests.

use http::{HeaderMap, HeaderValue, Uri};

use longshore_types::{RegionName, Timestamp};

use super::canonical::{self, Parts};
use super::keys::{Credentials, SigningKeys, hmac};
use super::{ALGORITHM, TERMINATOR};

/// Signs a request in its headers: adds `host` if it is missing, `x-amz-date`,
/// `x-amz-security-token` for temporary credentials, and `authorization`.
///
/// Signed are `host`, `content-type` and all `x-amz-` headers but the session token's. Use it for a
/// websocket's GET as well, with an empty body.
#[expect(clippy::too_many_arguments, reason = "a request has these parts")]
pub fn sign(
    method: &str,
    uri: &Uri,
    headers: &mut HeaderMap,
    body: &[u8],
    credentials: &Credentials,
    region: &RegionName,
    service: &str,
    now: Timestamp,
    keys: &SigningKeys,
) {
    let amz_date = now.amz_date();
    if !headers.contains_key(http::header::HOST)
        && let Some(authority) = uri.authority()
    {
        set(headers, "host", authority.as_str());
    }
    set(headers, "x-amz-date", &amz_date);
    if let Some(token) = &credentials.session_token {
        set(headers, "x-amz-security-token", token.reveal());
    }
    let mut signed: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
    signed.retain(|name| {
        let is_amz = name.starts_with("x-amz-") && *name != "x-amz-security-token";
        is_amz || matches!(*name, "host" | "content-type")
    });
    signed.sort_unstable();
    let canonical = canonical::request(&Parts {
        method,
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        headers,
        signed: &signed,
        body_hash: &canonical::sha256_hex(body),
        service,
    });
    let date = &amz_date[..8];
    let scope = format!("{date}/{region}/{service}/{TERMINATOR}");
    let key = keys.get(&credentials.secret, date, region.as_str(), service);
    let to_sign = canonical::string_to_sign(&amz_date, &scope, &canonical);
    let signature = hex::encode(hmac(&key, to_sign.as_bytes()));
    let value = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
        credentials.access_key,
        signed.join(";"),
    );
    set(headers, "authorization", &value);
}

/// The query that makes `GET uri` valid for `expires_s` seconds to whoever holds it. `uri` must name
/// its host.
pub fn presign(
    uri: &Uri,
    credentials: &Credentials,
    region: &RegionName,
    service: &str,
    now: Timestamp,
    expires_s: u32,
) -> String {
    let amz_date = now.amz_date();
    let date = &amz_date[..8];
    let scope = format!("{date}/{region}/{service}/{TERMINATOR}");
    let mut query = uri.query().unwrap_or_default().to_owned();
    let mut add = |name: &str, value: &str| {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(name);
        query.push('=');
        canonical::encode(&mut query, value.as_bytes());
    };
    add("X-Amz-Algorithm", ALGORITHM);
    add("X-Amz-Credential", &format!("{}/{scope}", credentials.access_key));
    add("X-Amz-Date", &amz_date);
    add("X-Amz-Expires", &expires_s.to_string());
    add("X-Amz-SignedHeaders", "host");
    if let Some(token) = &credentials.session_token {
        add("X-Amz-Security-Token", token.reveal());
    }
    let mut headers = HeaderMap::new();
    if let Some(authority) = uri.authority() {
        set(&mut headers, "host", authority.as_str());
    }
    let canonical = canonical::request(&Parts {
        method: "GET",
        path: uri.path(),
        query: &query,
        headers: &headers,
        signed: &["host"],
        body_hash: &canonical::sha256_hex(b""),
        service,
    });
    let key = SigningKeys::default().get(&credentials.secret, date, region.as_str(), service);
    let to_sign = canonical::string_to_sign(&amz_date, &scope, &canonical);
    format!("{query}&X-Amz-Signature={}", hex::encode(hmac(&key, to_sign.as_bytes())))
}

/// Sets a header; text that no header can carry is left out, and the signature then says so.
fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
