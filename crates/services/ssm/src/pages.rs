//! Pages of lists: a token names the last item that was shown.

use aws_wire::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::errors::token;

pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next_token: Option<String>,
}

/// Cuts a page out of `items`, which come in the order of their keys. `max` is also what a request gets that says
/// nothing.
pub(crate) fn page<T>(
    given: Option<String>,
    max_results: Option<i32>,
    max: usize,
    items: impl Iterator<Item = (String, T)>,
) -> Result<Page<T>, ApiError> {
    let after = given.filter(|text| !text.is_empty()).map(|text| read(&text)).transpose()?;
    let size = max_results.and_then(|size| usize::try_from(size).ok()).unwrap_or(max).clamp(1, max);
    let mut rest = items.skip_while(|(key, _)| after.as_ref().is_some_and(|after| key <= after));
    let mut last = None;
    let items: Vec<T> = rest
        .by_ref()
        .take(size)
        .map(|(key, item)| {
            last = Some(key);
            item
        })
        .collect();
    let next_token = last.filter(|_| rest.next().is_some()).map(|key| URL_SAFE_NO_PAD.encode(key));
    Ok(Page { items, next_token })
}

fn read(text: &str) -> Result<String, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| token())?;
    String::from_utf8(bytes).map_err(|_| token())
}
