//! Why a signature is not accepted, and how each family of services words it.
//!
//! Source of codes and sentences: the "Common errors" pages of the services' API references and
//! the IAM user guide's page on signature troubleshooting.

use longshore_types::Timestamp;

use crate::error::ApiError;
use crate::service::Protocol;

/// Why a request's signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("Missing Authentication Token")]
    Missing,
    #[error("Authorization header requires the algorithm AWS4-HMAC-SHA256.")]
    NotOurScheme,
    #[error("Authorization requires '{part}' parameter.")]
    Incomplete { part: &'static str },
    #[error(
        "Credential must have exactly 5 slash-delimited elements, as in \
         key/20261120/us-east-1/ecs/aws4_request."
    )]
    Credential,
    #[error("Date must be in ISO-8601 'basic format'. Got '{text}'.")]
    Date { text: String },
    #[error(
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
         HTTP: '{scope}' != '{request}'."
    )]
    ScopeDate { scope: String, request: String },
    #[error("Credential should be scoped to a valid region, not '{named}'.")]
    WrongRegion { named: String },
    #[error("X-Amz-Expires must be a number of seconds, at most 604800.")]
    Expires,
    #[error("'{name}' must be a 'SignedHeader' in the AWS Authorization.")]
    HeaderNotSigned { name: String },
    #[error("The value of 'x-amz-content-sha256' is not the SHA-256 of the body.")]
    BodyHash,
    #[error(
        "Signature expired: {} is now earlier than {} ({} - 15 min.)",
        signed_at.amz_date(), minutes_before(*now).amz_date(), now.amz_date()
    )]
    Expired { signed_at: Timestamp, now: Timestamp },
    #[error(
        "Signature not yet current: {} is still later than {} ({} + 15 min.)",
        signed_at.amz_date(), now.plus_ms(super::SKEW_MS_MAX).amz_date(), now.amz_date()
    )]
    NotYetCurrent { signed_at: Timestamp, now: Timestamp },
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    #[error("The security token included in the request is invalid.")]
    SessionToken,
    #[error("The security token included in the request is expired")]
    SessionExpired,
    #[error(
        "The request signature we calculated does not match the signature you provided. Check \
         your AWS Secret Access Key and signing method. Consult the service documentation for \
         details."
    )]
    Mismatch,
}

/// The kinds of refusal that services give different codes.
enum Class {
    Missing,
    Incomplete,
    Expired,
    UnknownKey,
    SessionExpired,
    Invalid,
}

impl SignatureError {
    /// The error as a service of `protocol` answers it.
    pub fn to_api_error(&self, protocol: Protocol) -> ApiError {
        let message = self.to_string();
        match protocol {
            Protocol::Ec2Query => self.of_ec2(message),
            Protocol::Query => self.of_query(message),
            Protocol::AwsJson10 | Protocol::AwsJson11 => self.of_json(message),
            Protocol::RestJson1 | Protocol::RpcV2Cbor => self.of_json(message).with_status(403),
        }
    }

    fn of_json(&self, message: String) -> ApiError {
        let code = match self.class() {
            Class::Missing => "MissingAuthenticationTokenException",
            Class::Incomplete => "IncompleteSignatureException",
            Class::UnknownKey => "UnrecognizedClientException",
            Class::SessionExpired => "ExpiredTokenException",
            Class::Expired | Class::Invalid => "InvalidSignatureException",
        };
        ApiError::client(code, message)
    }

    fn of_query(&self, message: String) -> ApiError {
        let code = match self.class() {
            Class::Missing => "MissingAuthenticationToken",
            Class::Incomplete => "IncompleteSignature",
            Class::UnknownKey => "InvalidClientTokenId",
            Class::SessionExpired => "ExpiredToken",
            Class::Expired | Class::Invalid => "SignatureDoesNotMatch",
        };
        ApiError::client(code, message).with_status(403)
    }

    fn of_ec2(&self, message: String) -> ApiError {
        const NOT_VALID: &str = "AWS was not able to validate the provided access credentials";
        match self.class() {
            Class::Missing => ApiError::client(
                "MissingParameter",
                "The request must contain the parameter AWSAccessKeyId",
            ),
            Class::Incomplete => ApiError::client("IncompleteSignature", message),
            Class::Expired => ApiError::client("RequestExpired", "Request has expired."),
            Class::UnknownKey | Class::SessionExpired | Class::Invalid => {
                ApiError::client("AuthFailure", NOT_VALID).with_status(401)
            }
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Missing => Class::Missing,
            Self::NotOurScheme
            | Self::Incomplete { .. }
            | Self::Credential
            | Self::Date { .. }
            | Self::Expires => Class::Incomplete,
            Self::Expired { .. } | Self::NotYetCurrent { .. } => Class::Expired,
            Self::UnknownKey | Self::SessionToken => Class::UnknownKey,
            Self::SessionExpired => Class::SessionExpired,
            Self::ScopeDate { .. }
            | Self::WrongRegion { .. }
            | Self::HeaderNotSigned { .. }
            | Self::BodyHash
            | Self::Mismatch => Class::Invalid,
        }
    }
}

fn minutes_before(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(super::SKEW_MS_MAX))
}
