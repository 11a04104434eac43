//! Pages of a list: how many, from where, and the token for the next.
//!
//! A token names the last item that was shown, not a position: items that come and go between two
//! calls neither shift a page nor show one twice. It is not authenticated, because it opens nothing: it
//! only says where to go on among what the caller may see anyway.

use std::fmt::Display;
use std::str::FromStr;

use aws_wire::ApiError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The page size of most lists, and the largest one.
pub const PAGE_MAX: usize = 100;

/// What a request says about pages.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest<'a> {
    pub token: Option<&'a str>,
    pub max_results: Option<i32>,
    /// The page size of a request that names none.
    pub default: usize,
    /// The largest page that a request may name.
    pub max: usize,
}

impl<'a> PageRequest<'a> {
    pub fn new(token: &'a Option<String>, max_results: Option<i32>) -> Self {
        Self { token: token.as_deref(), max_results, default: PAGE_MAX, max: PAGE_MAX }
    }

    #[must_use]
    pub fn default_size(mut self, default: usize) -> Self {
        self.default = default;
        self
    }

    #[must_use]
    pub fn at_most(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    fn size(self) -> Result<usize, ApiError> {
        let Some(asked) = self.max_results else { return Ok(self.default) };
        match usize::try_from(asked) {
            Ok(size) if (1..=self.max).contains(&size) => Ok(size),
            _ => Err(invalid(format!("maxResults must be between 1 and {}.", self.max))),
        }
    }

    /// The key that the last page ended with.
    pub fn after<K: FromStr>(self) -> Result<Option<K>, ApiError> {
        let Some(token) = self.token.filter(|token| !token.is_empty()) else { return Ok(None) };
        let bad = || invalid("Invalid token.");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
        let text = String::from_utf8(bytes).map_err(|_| bad())?;
        Ok(Some(text.parse().map_err(|_| bad())?))
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidParameterException", message)
}

/// One page, and the token for the next if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next_token: Option<String>,
}

/// Cuts a page out of `items`, which come in the order of their keys.
pub fn page<K, T>(
    request: PageRequest<'_>,
    items: impl Iterator<Item = (K, T)>,
) -> Result<Page<T>, ApiError>
where
    K: Ord + Display + FromStr,
{
    page_by(request, items, |key, after| after < key)
}

/// The same for items that come in falling order of their keys.
pub fn page_descending<K, T>(
    request: PageRequest<'_>,
    items: impl Iterator<Item = (K, T)>,
) -> Result<Page<T>, ApiError>
where
    K: Ord + Display + FromStr,
{
    page_by(request, items, |key, after| key < after)
}

fn page_by<K, T>(
    request: PageRequest<'_>,
    items: impl Iterator<Item = (K, T)>,
    is_beyond: impl Fn(&K, &K) -> bool,
) -> Result<Page<T>, ApiError>
where
    K: Display + FromStr,
{
    let (size, after) = (request.size()?, request.after::<K>()?);
    let mut rest = items
        .skip_while(|(key, _)| after.as_ref().is_some_and(|after| !is_beyond(key, after)))
        .peekable();
    let mut page = Page { items: Vec::new(), next_token: None };
    for (key, item) in rest.by_ref().take(size) {
        page.items.push(item);
        if page.items.len() == size {
            page.next_token = Some(URL_SAFE_NO_PAD.encode(key.to_string()));
        }
    }
    if rest.peek().is_none() {
        page.next_token = None;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(token: Option<&str>, max_results: i32) -> PageRequest<'_> {
        PageRequest { token, max_results: Some(max_results), default: PAGE_MAX, max: PAGE_MAX }
    }

    #[test]
    fn every_item_is_on_one_page_even_if_others_go_meanwhile() {
        let all = (0..10u32).map(|n| (n, n));
        let first = page(request(None, 4), all.clone()).unwrap();
        assert_eq!(first.items, [0, 1, 2, 3]);
        let without_the_last_shown = all.clone().filter(|(n, _)| *n != 3);
        let token = first.next_token.as_deref();
        let second = page(request(token, 4), without_the_last_shown).unwrap();
        assert_eq!(second.items, [4, 5, 6, 7]);
        let third = page(request(second.next_token.as_deref(), 4), all).unwrap();
        assert_eq!(third, Page { items: vec![8, 9], next_token: None });
    }

    #[test]
    fn a_full_last_page_has_no_token() {
        let page = page(request(None, 3), (0..3u32).map(|n| (n, n))).unwrap();
        assert_eq!(page.next_token, None);
    }

    #[test]
    fn falling_lists_go_on_where_they_were() {
        let all = (0..5u32).rev().map(|n| (n, n));
        let first = page_descending(request(None, 2), all.clone()).unwrap();
        assert_eq!(first.items, [4, 3]);
        let second = page_descending(request(first.next_token.as_deref(), 2), all).unwrap();
        assert_eq!(second.items, [2, 1]);
    }

    #[test]
    fn a_token_that_somebody_made_up_is_refused_or_shows_what_could_be_seen_anyway() {
        let own: Vec<u32> = (10..20).collect();
        let env = longshore_types::SeededEnv::from_seed(1);
        let mut tokens: Vec<String> = ["", "0", "15", "4294967295", "4294967296", "-1", "a", "1 5"]
            .iter()
            .map(|text| URL_SAFE_NO_PAD.encode(text))
            .collect();
        for _ in 0..2_000 {
            let bytes = (0..env.below(12)).map(|_| u8::try_from(env.below(256)).unwrap());
            let bytes: Vec<u8> = bytes.collect();
            tokens.push(URL_SAFE_NO_PAD.encode(&bytes));
            tokens.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        let mut refused = 0;
        for token in tokens {
            match page(request(Some(&token), 4), own.iter().map(|n| (*n, *n))) {
                Err(_) => refused += 1,
                Ok(page) => {
                    let from = page.items.first().map_or(own.len(), |n| *n as usize - 10);
                    assert_eq!(page.items, own[from..own.len().min(from + 4)], "{token}");
                }
            }
        }
        assert!(refused > 2_000, "{refused}");
    }

    #[test]
    fn bad_tokens_and_sizes_are_refused() {
        for token in ["%", "AAAA", "_w"] {
            assert!(page(request(Some(token), 2), std::iter::empty::<(u32, ())>()).is_err());
        }
        for size in [0, -1, 101] {
            assert!(page(request(None, size), std::iter::empty::<(u32, ())>()).is_err());
        }
    }
}
