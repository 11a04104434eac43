//! What a server checks: in the `Authorization` header or in a presigned query.

use http::HeaderMap;
use jiff::civil::DateTime;
use subtle::ConstantTimeEq;

use longshore_types::{Timestamp, Token};

use super::canonical::{self, Parts};
use super::keys::{SigningKeys, hmac};
use super::{ALGORITHM, EXPIRES_S_MAX, SKEW_MS_MAX, SignatureError, TERMINATOR};

/// The home region of services that are one for all regions, and those services.
const HOME_REGION: &str = "us-east-1";
const SERVICES_AT_HOME: &[&str] = &["iam", "sts"];
/// Where a caller may state the hash of the body.
const BODY_HASH: &str = "x-amz-content-sha256";

/// A request as it came, its body read.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// Without the question mark.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// What the server knows of an access key.
#[derive(Clone, Debug)]
pub struct KeyMaterial {
    pub secret: Token,
    /// Of temporary credentials only: must come with each request.
    pub session_token: Option<Token>,
    /// When temporary credentials end.
    pub expires: Option<Timestamp>,
}

/// What a good signature proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub access_key: String,
    pub region: String,
    /// The service of the credential scope, as in `ecs`.
    pub service: String,
    pub is_presigned: bool,
}

/// What a request's head proves before its body is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// It names a key that exists, lately and for this region; whether it was signed with it can
    /// only be said once the body is there.
    Claimed(Verified),
    /// The hash of the body is in the head, and all of it is signed.
    Signed(Verified),
}

/// Checks the signature of `request` at `now`, for this `region`, against the key that `lookup` finds for an
/// access key id and the session token that came with it.
pub fn verify(
    request: &Received<'_>,
    region: &str,
    now: Timestamp,
    keys: &SigningKeys,
    lookup: impl FnOnce(&str, Option<&str>) -> Option<KeyMaterial>,
) -> Result<Verified, SignatureError> {
    verify_hashed(request, &canonical::sha256_hex(request.body), region, now, keys, lookup)
}

/// As [`verify`], for who has hashed the body while it arrived: `body_hash` is hexadecimal.
pub fn verify_hashed(
    request: &Received<'_>,
    body_hash: &str,
    region: &str,
    now: Timestamp,
    keys: &SigningKeys,
    lookup: impl FnOnce(&str, Option<&str>) -> Option<KeyMaterial>,
) -> Result<Verified, SignatureError> {
    let stated = request.headers.get(BODY_HASH);
    if stated.is_some_and(|stated| stated.as_bytes() != body_hash.as_bytes()) {
        // Who else is wrong about their signature hears of that first.
        check(request, None, region, now, keys, lookup)?;
        return Err(SignatureError::BodyHash);
    }
    check(request, Some(body_hash), region, now, keys, lookup)
}

/// Checks all of a request that can be checked before its body is there; `request.body` is not looked at.
pub fn verify_head(
    request: &Received<'_>,
    region: &str,
    now: Timestamp,
    keys: &SigningKeys,
    lookup: impl FnOnce(&str, Option<&str>) -> Option<KeyMaterial>,
) -> Result<Head, SignatureError> {
    let stated = request.headers.get(BODY_HASH).and_then(|stated| stated.to_str().ok());
    let checked = check(request, stated, region, now, keys, lookup)?;
    Ok(if stated.is_some() { Head::Signed(checked) } else { Head::Claimed(checked) })
}

/// Without a `body_hash` the signature itself is left unchecked.
fn check(
    request: &Received<'_>,
    body_hash: Option<&str>,
    region: &str,
    now: Timestamp,
    keys: &SigningKeys,
    lookup: impl FnOnce(&str, Option<&str>) -> Option<KeyMaterial>,
) -> Result<Verified, SignatureError> {
    let claim = Claim::of(request)?;
    let scope = claim.scope()?;
    claim.check_time(now)?;
    if scope.region != region && !is_signed_at_home(&scope) {
        return Err(SignatureError::WrongRegion { named: scope.region.to_owned() });
    }
    let session_token = claim.session_token.as_deref();
    let key = lookup(scope.access_key, session_token).ok_or(SignatureError::UnknownKey)?;
    check_session(&claim, &key, now)?;
    check_signed_headers(request.headers, &claim)?;
    let verified = Verified {
        access_key: scope.access_key.to_owned(),
        region: scope.region.to_owned(),
        service: scope.service.to_owned(),
        is_presigned: claim.expires_s.is_some(),
    };
    let Some(body_hash) = body_hash else { return Ok(verified) };
    let canonical = canonical::request(&Parts {
        method: request.method,
        path: request.path,
        query: request.query,
        headers: request.headers,
        signed: &claim.signed,
        body_hash,
        service: scope.service,
    });
    let named_scope = format!("{}/{}/{}/{TERMINATOR}", scope.date, scope.region, scope.service);
    let to_sign = canonical::string_to_sign(&claim.amz_date, &named_scope, &canonical);
    let signing_key = keys.get(&key.secret, scope.date, scope.region, scope.service);
    let expected = hex::encode(hmac(&signing_key, to_sign.as_bytes()));
    if !bool::from(expected.as_bytes().ct_eq(claim.signature.as_bytes())) {
        return Err(SignatureError::Mismatch);
    }
    Ok(verified)
}

/// Clients sign what they send to a service that is one for all regions for its home region.
fn is_signed_at_home(scope: &Scope<'_>) -> bool {
    scope.region == HOME_REGION && SERVICES_AT_HOME.contains(&scope.service)
}

fn check_session(
    claim: &Claim<'_>,
    key: &KeyMaterial,
    now: Timestamp,
) -> Result<(), SignatureError> {
    let is_same = match (&claim.session_token, &key.session_token) {
        (None, None) => true,
        (Some(given), Some(wanted)) => {
            bool::from(given.as_bytes().ct_eq(wanted.reveal().as_bytes()))
        }
        (Some(_), None) | (None, Some(_)) => false,
    };
    if !is_same {
        return Err(SignatureError::SessionToken);
    }
    if key.expires.is_some_and(|end| end <= now) {
        return Err(SignatureError::SessionExpired);
    }
    Ok(())
}

/// `host` and every `x-amz-` header must be covered, or they could be altered on the way.
fn check_signed_headers(headers: &HeaderMap, claim: &Claim<'_>) -> Result<(), SignatureError> {
    if !claim.signed.contains(&"host") {
        return Err(SignatureError::HeaderNotSigned { name: "Host".to_owned() });
    }
    for name in headers.keys().map(http::HeaderName::as_str) {
        // A session token is compared by itself; agents leave it out of the signature.
        let must_be_signed = name.starts_with("x-amz-") && name != "x-amz-security-token";
        if must_be_signed && !claim.signed.contains(&name) {
            return Err(SignatureError::HeaderNotSigned { name: name.to_owned() });
        }
    }
    Ok(())
}

/// What a request says of its own signature.
struct Claim<'a> {
    credential: String,
    signed: Vec<&'a str>,
    signature: String,
    amz_date: String,
    session_token: Option<String>,
    /// Of a presigned query.
    expires_s: Option<u64>,
}

struct Scope<'a> {
    access_key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
}

impl<'a> Claim<'a> {
    fn of(request: &Received<'a>) -> Result<Self, SignatureError> {
        match request.headers.get(http::header::AUTHORIZATION) {
            Some(value) => {
                let text = value.to_str().map_err(|_| SignatureError::NotOurScheme)?;
                Self::from_header(text, request.headers)
            }
            None if request.query.contains("X-Amz-Signature=") => Self::from_query(request.query),
            None => Err(SignatureError::Missing),
        }
    }

    fn from_header(text: &'a str, headers: &HeaderMap) -> Result<Self, SignatureError> {
        let rest = text.strip_prefix(ALGORITHM).ok_or(SignatureError::NotOurScheme)?;
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=').unwrap_or((part, ""));
            match name {
                "Credential" => credential = Some(value),
                "SignedHeaders" => signed = Some(value),
                "Signature" => signature = Some(value),
                _ => {}
            }
        }
        let need = |part: Option<&'a str>, name| {
            part.filter(|text| !text.is_empty()).ok_or(SignatureError::Incomplete { part: name })
        };
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Self {
            credential: need(credential, "Credential")?.to_owned(),
            signature: need(signature, "Signature")?.to_owned(),
            signed: sorted(need(signed, "SignedHeaders")?)?,
            amz_date: header("x-amz-date")
                .or_else(|| header("date"))
                .ok_or(SignatureError::Incomplete { part: "X-Amz-Date" })?,
            session_token: header("x-amz-security-token"),
            expires_s: None,
        })
    }

    fn from_query(query: &'a str) -> Result<Self, SignatureError> {
        let raw = |wanted: &str| {
            query.split('&').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                (name == wanted).then_some(value)
            })
        };
        let text = |name| {
            raw(name).map(|value| String::from_utf8_lossy(&canonical::decode(value)).into_owned())
        };
        let need = |name| text(name).ok_or(SignatureError::Incomplete { part: name });
        if need("X-Amz-Algorithm")? != ALGORITHM {
            return Err(SignatureError::NotOurScheme);
        }
        let expires_s =
            need("X-Amz-Expires")?.parse().ok().filter(|seconds| *seconds <= EXPIRES_S_MAX);
        // The list has no character that needs an escape but the semicolon.
        let signed = raw("X-Amz-SignedHeaders")
            .ok_or(SignatureError::Incomplete { part: "X-Amz-SignedHeaders" })?;
        let signed = signed.split("%3B").flat_map(|part| part.split("%3b"));
        let mut signed: Vec<&str> = signed.flat_map(|part| part.split(';')).collect();
        signed.sort_unstable();
        Ok(Self {
            credential: need("X-Amz-Credential")?,
            signature: need("X-Amz-Signature")?,
            signed,
            amz_date: need("X-Amz-Date")?,
            session_token: text("X-Amz-Security-Token"),
            expires_s: Some(expires_s.ok_or(SignatureError::Expires)?),
        })
    }

    fn scope(&self) -> Result<Scope<'_>, SignatureError> {
        // An access key may itself contain a slash; the four parts behind it may not.
        let mut parts = self.credential.rsplitn(5, '/');
        let mut next = || parts.next().ok_or(SignatureError::Credential);
        let (terminator, service, region, date) = (next()?, next()?, next()?, next()?);
        let access_key = next()?;
        if terminator != TERMINATOR || access_key.is_empty() {
            return Err(SignatureError::Credential);
        }
        if !self.amz_date.starts_with(date) || date.len() != 8 {
            return Err(SignatureError::ScopeDate {
                scope: date.to_owned(),
                request: self.amz_date.clone(),
            });
        }
        Ok(Scope { access_key, date, region, service })
    }

    fn check_time(&self, now: Timestamp) -> Result<(), SignatureError> {
        let signed_at = parse_amz_date(&self.amz_date).ok_or_else(|| SignatureError::Date {
            text: self.amz_date.chars().take(64).collect(),
        })?;
        if signed_at.since_ms(now) > SKEW_MS_MAX {
            return Err(SignatureError::NotYetCurrent { signed_at, now });
        }
        let valid_ms = self.expires_s.map_or(SKEW_MS_MAX, |seconds| seconds * 1000);
        if now.since_ms(signed_at) > valid_ms {
            return Err(SignatureError::Expired { signed_at, now });
        }
        Ok(())
    }
}

/// The names of signed headers, which must be lowercase and in order.
fn sorted(list: &str) -> Result<Vec<&str>, SignatureError> {
    let names: Vec<&str> = list.split(';').collect();
    if names.is_sorted() && !names.iter().any(|name| name.is_empty()) {
        Ok(names)
    } else {
        Err(SignatureError::Incomplete { part: "SignedHeaders" })
    }
}

/// Reads `20261120T211000Z`.
fn parse_amz_date(text: &str) -> Option<Timestamp> {
    let is_digit = |(at, byte): (usize, u8)| at == 8 || at == 15 || byte.is_ascii_digit();
    if text.len() != 16 || !text.bytes().enumerate().all(is_digit) {
        return None;
    }
    Timestamp::from_datetime(DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?)
}
