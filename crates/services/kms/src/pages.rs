//! Pages of lists: a marker names the last item that was shown.

use aws_wire::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::errors::named;
use crate::limits::PAGE_DEFAULT;

pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) marker: Option<String>,
}

/// Cuts a page out of `items`, which come in the order of their keys.
pub(crate) fn page<T>(
    marker: Option<String>,
    limit: Option<i32>,
    items: impl Iterator<Item = (String, T)>,
) -> Result<Page<T>, ApiError> {
    let after = marker.map(|text| read(&text)).transpose()?;
    let size = limit.and_then(|size| usize::try_from(size).ok()).unwrap_or(PAGE_DEFAULT).max(1);
    let mut rest = items.skip_while(|(key, _)| after.as_ref().is_some_and(|after| key <= after));
    let mut last = None;
    let shown = rest.by_ref().take(size).map(|(key, item)| {
        last = Some(key);
        item
    });
    let items: Vec<T> = shown.collect();
    let marker = last.filter(|_| rest.next().is_some()).map(|key| URL_SAFE_NO_PAD.encode(key));
    Ok(Page { items, marker })
}

fn read(text: &str) -> Result<String, ApiError> {
    let bad = || named("InvalidMarkerException", "The marker is not valid.");
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
    String::from_utf8(bytes).map_err(|_| bad())
}
