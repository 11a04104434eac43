//! Pages of lists: a marker names the last item that was shown.

use aws_wire::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::errors::Refusal;
use crate::limits::PAGE_DEFAULT;

pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) is_truncated: bool,
    pub(crate) marker: Option<String>,
}

/// Cuts a page out of `items`, which come in the order of their keys.
pub(crate) fn page<T>(
    marker: Option<String>,
    max_items: Option<i32>,
    items: impl IntoIterator<Item = (String, T)>,
) -> Result<Page<T>, ApiError> {
    let size = max_items.and_then(|max| usize::try_from(max).ok()).unwrap_or(PAGE_DEFAULT);
    let after = match marker {
        Some(marker) => {
            let read = URL_SAFE_NO_PAD.decode(&marker).ok();
            let read = read.and_then(|bytes| String::from_utf8(bytes).ok());
            Some(read.ok_or_else(|| Refusal::Marker(marker).wire())?)
        }
        None => None,
    };
    let mut rest =
        items.into_iter().skip_while(|(key, _)| after.as_ref().is_some_and(|after| key <= after));
    let mut last = None;
    let shown = rest.by_ref().take(size.max(1)).map(|(key, item)| {
        last = Some(key);
        item
    });
    let items: Vec<T> = shown.collect();
    let is_truncated = rest.next().is_some();
    let marker = last.filter(|_| is_truncated).map(|key| URL_SAFE_NO_PAD.encode(key));
    Ok(Page { items, is_truncated, marker })
}

/// An answer with a page.
macro_rules! paged {
    ($response:ident, $member:ident, $page:expr) => {{
        let page = $page;
        iam_api::$response {
            $member: Some(page.items),
            is_truncated: Some(page.is_truncated),
            marker: page.marker,
        }
    }};
}
pub(crate) use paged;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_whatever_comes_in_between() {
        let keys = ["a", "b", "c", "d"].map(str::to_owned);
        let items = || keys.iter().map(|key| (key.clone(), key.clone()));
        let first = page(None, Some(2), items()).unwrap();
        assert_eq!((first.items, first.is_truncated), (vec!["a".to_owned(), "b".to_owned()], true));
        let more = items().chain([("bb".to_owned(), "bb".to_owned())]);
        let mut more: Vec<_> = more.collect();
        more.sort();
        let second = page(first.marker, Some(9), more).unwrap();
        assert_eq!((second.items.len(), second.is_truncated, second.marker), (3, false, None));
        assert!(page(Some("%".to_owned()), None, items()).is_err());
    }
}
