//! The second factor of a request: a code of one of the caller's MFA devices.

use aws_wire::{ApiError, Caller, Principal};
use control::iam::mfa::CodeRefusal;

use crate::Identity;
use crate::errors::Refusal;

/// Whether a code was shown, which is taken then: it is good once.
pub(crate) async fn taken(
    identity: &Identity,
    caller: &Caller,
    serial: Option<&str>,
    code: Option<&str>,
) -> Result<bool, ApiError> {
    let (serial, code) = match (serial, code) {
        (None, None) => return Ok(false),
        (Some(serial), Some(code)) => (serial, code),
        (Some(_), None) | (None, Some(_)) => return Err(Refusal::HalfAFactor.wire()),
    };
    // Only a user's own key goes with its devices.
    let user = match &caller.principal {
        Principal::User { id, .. } if caller.session.is_none() => id,
        Principal::User { .. }
        | Principal::Root
        | Principal::Role { .. }
        | Principal::Federated { .. }
        | Principal::Node { .. }
        | Principal::Anonymous => return Err(Refusal::NoFactor.wire()),
    };
    let taken = identity.control.take_code(caller.account, user, Some(serial), code).await?;
    taken.map(|()| true).map_err(|why| match why {
        CodeRefusal::Unknown => Refusal::NoFactor.wire(),
        CodeRefusal::Wrong | CodeRefusal::TooMany => Refusal::SecondFactor.wire(),
    })
}
