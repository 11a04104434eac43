//! Pages of lists: a marker names the last item that was shown.

use aws_wire::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::errors::invalid;
use crate::limits::PAGE_MAX;

pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) marker: Option<String>,
}

/// Cuts a page out of `items`, which come in the order of their keys.
pub(crate) fn page<K: AsRef<str>, T>(
    marker: Option<String>,
    size: Option<i32>,
    items: impl IntoIterator<Item = (K, T)>,
) -> Result<Page<T>, ApiError> {
    let after = marker.map(|text| read(&text)).transpose()?;
    let size = match size.map(usize::try_from) {
        None => PAGE_MAX,
        Some(Ok(size)) if (1..=PAGE_MAX).contains(&size) => size,
        Some(_) => return invalid(format!("The page size must be between 1 and {PAGE_MAX}")),
    };
    let is_shown = |key: &K| after.as_ref().is_some_and(|after| key.as_ref() <= after.as_str());
    let mut rest = items.into_iter().skip_while(|(key, _)| is_shown(key));
    let mut last = None;
    let shown = rest.by_ref().take(size).map(|(key, item)| {
        last = Some(key);
        item
    });
    let items: Vec<T> = shown.collect();
    let next = last.filter(|_| rest.next().is_some());
    Ok(Page { items, marker: next.map(|key| URL_SAFE_NO_PAD.encode(key.as_ref())) })
}

fn read(text: &str) -> Result<String, ApiError> {
    let read = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match read {
        Some(key) => Ok(key),
        None => invalid(format!("The marker '{text}' is not valid")),
    }
}
