//! Pages of lists: a token says how many items were shown before.

use aws_wire::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::errors::invalid;
use crate::limits::PAGE_MAX;

/// Cuts a page out of all items.
pub(crate) fn page<T>(
    token: Option<&str>,
    size: Option<i32>,
    items: Vec<T>,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let skipped: usize = match token {
        None => 0,
        Some(text) => {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok();
            let number =
                bytes.and_then(|it| String::from_utf8(it).ok()).and_then(|it| it.parse().ok());
            number.ok_or_else(|| invalid("InvalidToken", "The token is none that was given."))?
        }
    };
    let size = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(PAGE_MAX);
    let end = skipped.saturating_add(size.clamp(1, PAGE_MAX));
    let next = (end < items.len()).then(|| URL_SAFE_NO_PAD.encode(end.to_string()));
    Ok((items.into_iter().skip(skipped).take(end - skipped).collect(), next))
}
