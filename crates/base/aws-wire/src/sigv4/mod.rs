//! AWS Signature Version 4, both ways: what a server checks and what a client adds.
//!
//! Source: "AWS Signature Version 4 for API requests" in the IAM user guide. Nothing here reads a
//! clock: the time of a request comes in. **Invariant:** a request is [`Verified`] only if its
//! method, path, query, signed headers and body are those that were signed with the key's secret.

mod canonical;
mod keys;
mod refusal;
mod sign;
mod verify;

pub use canonical::{decoded_key, encoded_key};
pub use keys::{Credentials, SigningKeys};
pub use refusal::SignatureError;
pub use sign::{presign, sign};
pub use verify::{Head, KeyMaterial, Received, Verified, verify, verify_hashed, verify_head};

/// The SHA-256 of nothing, as S3 is told that a request has no body.
pub const EMPTY_HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// The only algorithm there is.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The last part of every credential scope.
const TERMINATOR: &str = "aws4_request";
/// How far a request's time may be from ours, either way.
const SKEW_MS_MAX: u64 = 15 * 60 * 1000;
/// The longest validity of a presigned query, in seconds.
const EXPIRES_S_MAX: u64 = 7 * 24 * 3600;

#[cfg(test)]
mod tests;
