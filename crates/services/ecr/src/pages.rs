//! Pages of ECR's lists, which are up to a thousand long. A token names the last item shown.

use aws_wire::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::errors::Refusal;

/// The page size of a request that names none.
pub(super) const PAGE_DEFAULT: usize = 100;
/// The largest page.
pub(super) const PAGE_MAX: usize = 1000;

/// Cuts a page out of `items`, which come in the order of their keys, and makes the next's token.
pub(super) fn page<T>(
    token: Option<&str>,
    max_results: Option<i32>,
    items: impl Iterator<Item = (String, T)>,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let size = match max_results.map(usize::try_from) {
        None => PAGE_DEFAULT,
        Some(Ok(size)) if (1..=PAGE_MAX).contains(&size) => size,
        Some(_) => {
            let rule = format!("must be between 1 and {PAGE_MAX}");
            return Err(Refusal::parameter("maxResults", rule).into());
        }
    };
    let bad = || ApiError::from(Refusal::parameter("nextToken", "Invalid token"));
    let after = match token {
        None => None,
        Some(token) => {
            let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
            Some(String::from_utf8(bytes).map_err(|_| bad())?)
        }
    };
    let mut rest = items.filter(|(key, _)| after.as_ref().is_none_or(|after| key > after));
    let (mut shown, mut last) = (Vec::new(), None);
    for (key, item) in rest.by_ref().take(size) {
        shown.push(item);
        last = Some(key);
    }
    let next = rest.next().and(last).map(|last| URL_SAFE_NO_PAD.encode(last));
    Ok((shown, next))
}
