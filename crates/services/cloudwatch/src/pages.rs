//! Pages of lists: a token names the last item that was shown.

use aws_wire::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::errors::token as bad;

pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) token: Option<String>,
}

/// Cuts a page out of `items`, which come in the order of their keys.
pub(crate) fn page<T>(
    token: Option<&str>,
    size: usize,
    items: impl Iterator<Item = (String, T)>,
) -> Result<Page<T>, ApiError> {
    let after = token.map(read).transpose()?;
    let mut rest = items.skip_while(|(key, _)| after.as_ref().is_some_and(|after| key <= after));
    let mut last = None;
    let shown = rest.by_ref().take(size.max(1)).map(|(key, item)| {
        last = Some(key);
        item
    });
    let items: Vec<T> = shown.collect();
    let token = last.filter(|_| rest.next().is_some()).map(|key| write(&key));
    Ok(Page { items, token })
}

pub(crate) fn write(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

pub(crate) fn read(text: &str) -> Result<String, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
    String::from_utf8(bytes).map_err(|_| bad())
}
