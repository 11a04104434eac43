//! What STS refuses, as data; its code, status and sentence are chosen here and nowhere else.

use aws_wire::{ApiError, Caller, Principal};

use crate::passed::TAGS_MAX;

/// A refusal that is not about the caller's permissions. Codes are those of the STS API reference.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    // AccessDenied
    RootAssumes,
    FederatedAssumes,
    /// The role that is to be assumed is not there; who is not trusted is not told so.
    NoRole(String),
    /// A code that is wrong, was used, or comes after too many wrong ones.
    SecondFactor,
    /// A device that is not the caller's.
    NoFactor,
    /// A device without a code, or the other way round.
    HalfAFactor,
    SessionKeys,
    /// An operation that temporary keys may not call.
    SessionKeysFor(String),
    SourceIdentity,
    WebIdentity,
    // ValidationError
    RoleArn(String),
    ChainedDuration,
    RoleDuration,
    /// An inline policy, and how many characters it may have.
    PolicyLength(String, usize),
    SessionPolicies(usize),
    SessionPolicy(String),
    SessionTags,
    AccessKey(String),
    // InvalidParameterValue
    TransitiveTag,
    DuplicateTag,
    // InvalidIdentityToken
    /// No account has a provider of SAML's.
    SamlProvider,
    NoToken,
    Issuer(String),
    Audience,
    NotYet,
    NoKey,
    Signature,
    // others
    /// Seconds since the epoch: now, and when the token expired.
    Expired(f64, f64),
    Malformed(String),
    /// Per cent of what may be passed.
    TooLarge(usize),
    Message,
}

impl Refusal {
    /// The error that the caller is answered with.
    pub(crate) fn wire(self) -> ApiError {
        let (code, status) = self.code();
        ApiError::client(code, self.sentence()).with_status(status)
    }

    fn code(&self) -> (&'static str, u16) {
        match self {
            Self::RootAssumes
            | Self::FederatedAssumes
            | Self::NoRole(_)
            | Self::SecondFactor
            | Self::NoFactor
            | Self::HalfAFactor
            | Self::SessionKeys
            | Self::SessionKeysFor(_)
            | Self::SourceIdentity
            | Self::WebIdentity => ("AccessDenied", 403),
            Self::RoleArn(_)
            | Self::ChainedDuration
            | Self::RoleDuration
            | Self::PolicyLength(..)
            | Self::SessionPolicies(_)
            | Self::SessionPolicy(_)
            | Self::SessionTags
            | Self::AccessKey(_) => ("ValidationError", 400),
            Self::TransitiveTag | Self::DuplicateTag => ("InvalidParameterValue", 400),
            Self::SamlProvider
            | Self::NoToken
            | Self::Issuer(_)
            | Self::Audience
            | Self::NotYet
            | Self::NoKey
            | Self::Signature => ("InvalidIdentityToken", 400),
            Self::Expired(..) => ("ExpiredTokenException", 400),
            Self::Malformed(_) => ("MalformedPolicyDocument", 400),
            Self::TooLarge(_) => ("PackedPolicyTooLarge", 400),
            Self::Message => ("InvalidAuthorizationMessageException", 400),
        }
    }

    fn sentence(&self) -> String {
        let fixed = match self {
            Self::RootAssumes => "Roles may not be assumed by root accounts.",
            Self::FederatedAssumes => "Cannot call AssumeRole with federated user credentials",
            Self::SecondFactor => {
                "MultiFactorAuthentication failed with invalid MFA one time pass code. "
            }
            Self::NoFactor => {
                "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is \
                 valid and associated with this user."
            }
            Self::HalfAFactor => {
                "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."
            }
            Self::SessionKeys => "Cannot call this operation with session credentials",
            Self::SourceIdentity => "The source identity of a session cannot be changed.",
            Self::WebIdentity => "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            Self::ChainedDuration => {
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role \
                 chaining."
            }
            Self::RoleDuration => {
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            }
            Self::TransitiveTag => {
                "One of the specified transitive tag keys can't be set because it conflicts with a \
                 transitive tag key from the calling session."
            }
            Self::DuplicateTag => {
                "Duplicate tag keys found. Please note that Tag keys are case insensitive."
            }
            Self::SamlProvider => "Specified provider doesn't exist",
            Self::NoToken => {
                "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access \
                 Token)"
            }
            Self::Audience => "Incorrect token audience",
            Self::NotYet => "The token is not valid yet",
            Self::NoKey => {
                "Couldn't retrieve verification key from your identity provider,  please reference \
                 AssumeRoleWithWebIdentity documentation for requirements"
            }
            Self::Signature => "The token's signature is not that of its issuer",
            Self::Message => "The message is not one that this region encoded.",
            Self::NoRole(arn) => return format!("{arn} cannot be assumed."),
            Self::SessionKeysFor(operation) => {
                return format!("Cannot call {operation} with session credentials");
            }
            Self::RoleArn(arn) => return format!("{arn} is invalid"),
            Self::PolicyLength(text, max) => {
                return format!(
                    "1 validation error detected: Value '{text}' at 'policy' failed to satisfy constraint: Member must have \
                     length less than or equal to {max}"
                );
            }
            Self::SessionPolicies(max) => {
                return format!("At most {max} managed policies can be passed.");
            }
            Self::SessionPolicy(arn) => {
                return format!("Policy {arn} does not exist or is not attachable.");
            }
            Self::SessionTags => return format!("A session can have at most {TAGS_MAX} tags."),
            Self::AccessKey(id) => return format!("Access key {id} does not exist."),
            Self::Issuer(issuer) => {
                return format!("No OpenIDConnect provider found in your account for {issuer}");
            }
            Self::Expired(now, end) => {
                return format!(
                    "Token expired: current date/time {now} must be before the expiration date/time {end}"
                );
            }
            Self::Malformed(why) => return why.clone(),
            Self::TooLarge(percent) => {
                return format!(
                    "Packed size of session tags, or session policies, consumes {percent}% of allotted space."
                );
            }
        };
        fixed.to_owned()
    }
}

/// Sessions of GetSessionToken may assume roles and ask who they are, those of GetFederationToken only the
/// latter.
pub(crate) fn refuse_sessions_of_users(caller: &Caller) -> Result<(), ApiError> {
    let is_refused = match &caller.principal {
        Principal::User { .. } => caller.session.is_some(),
        Principal::Federated { .. } => true,
        Principal::Root
        | Principal::Role { .. }
        | Principal::Node { .. }
        | Principal::Anonymous => false,
    };
    match is_refused {
        true => Err(Refusal::SessionKeys.wire()),
        false => Ok(()),
    }
}
