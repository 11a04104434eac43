//! Client tokens: what makes a request that may be sent again one request.

use aws_wire::{ApiError, Caller};
use longshore_types::Timestamp;
use model::{ClientToken, ClientTokenId, View};
use sha2::{Digest, Sha256};

use crate::Ecs;
use crate::errors::Refusal;

/// The token that a request carries, checked; an empty one is none.
pub(super) fn read(given: Option<&str>, chars_max: usize) -> Result<Option<String>, ApiError> {
    let Some(token) = given.filter(|token| !token.is_empty()) else { return Ok(None) };
    let is_ascii = token.bytes().all(|byte| (33..=126).contains(&byte));
    if !is_ascii || token.len() > chars_max {
        let message =
            format!("clientToken must have at most {chars_max} ASCII characters from 33 to 126.");
        return Err(Refusal::invalid(message).into());
    }
    Ok(Some(token.to_owned()))
}

/// The row for a first use, which has made nothing yet. `request` is all of the request but the token,
/// `operation` its name with what it is said to, such as `CreateService demo`.
pub(super) fn row<R: aws_wire::codec::Record>(
    ecs: &Ecs,
    caller: &Caller,
    operation: String,
    token: String,
    request: &R,
    now: Timestamp,
) -> ClientToken {
    ClientToken {
        account: caller.account,
        call: ClientTokenId { operation, token },
        request_digest: hex::encode(Sha256::digest(aws_wire::json::to_vec(request))),
        made: vec![],
        expires_at: now.plus_ms(ecs.control.config.retention.client_tokens_ms),
    }
}

/// The earlier use of the token, if it has not expired.
pub(super) fn earlier<'v>(
    view: &'v View,
    token: &ClientToken,
    now: Timestamp,
) -> Option<&'v ClientToken> {
    let earlier = view.client_tokens.get(token.account, &token.call)?;
    (now < earlier.expires_at).then_some(earlier.as_ref())
}

/// The earlier use of the token by the same request; another request is refused.
pub(super) fn earlier_same<'v>(
    view: &'v View,
    token: &ClientToken,
    now: Timestamp,
) -> Result<Option<&'v ClientToken>, ApiError> {
    let earlier = earlier(view, token, now);
    if earlier.is_some_and(|earlier| earlier.request_digest != token.request_digest) {
        let message = "Arguments on this idempotent request are inconsistent with arguments used \
                       in previous request(s).";
        return Err(Refusal::invalid(message).into());
    }
    Ok(earlier)
}
