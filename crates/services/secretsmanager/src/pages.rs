//! Pages of lists: a token names the place of the last item that was shown.

use std::str::FromStr;

use aws_wire::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::errors::token;
use crate::limits::PAGE_DEFAULT;

/// Where an item stands in a list: by a number, then by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    number: u64,
    name: String,
}

impl Place {
    pub(crate) fn of(number: u64, name: &str) -> Self {
        Self { number, name: name.to_owned() }
    }

    fn token(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}|{}", self.number, self.name))
    }
}

impl FromStr for Place {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| token())?;
        let text = String::from_utf8(bytes).map_err(|_| token())?;
        let (number, name) = text.split_once('|').ok_or_else(token)?;
        Ok(Self::of(number.parse().map_err(|_| token())?, name))
    }
}

pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next_token: Option<String>,
}

/// Sorts items by their places and cuts a page out of them.
pub(crate) fn page<T>(
    given: Option<String>,
    max_results: Option<i32>,
    mut items: Vec<(Place, T)>,
    is_falling: bool,
) -> Result<Page<T>, ApiError> {
    items.sort_by(|(a, _), (b, _)| if is_falling { b.cmp(a) } else { a.cmp(b) });
    let after: Option<Place> = given.as_deref().map(str::parse).transpose()?;
    let is_shown = |place: &Place| match &after {
        Some(after) if is_falling => place >= after,
        Some(after) => place <= after,
        None => false,
    };
    let size = max_results.and_then(|max| usize::try_from(max).ok()).unwrap_or(PAGE_DEFAULT);
    let mut rest = items.into_iter().skip_while(|(place, _)| is_shown(place));
    let mut last = None;
    let items = rest.by_ref().take(size.max(1)).map(|(place, item)| {
        last = Some(place);
        item
    });
    let items: Vec<T> = items.collect();
    let next_token = last.filter(|_| rest.next().is_some()).map(|place| place.token());
    Ok(Page { items, next_token })
}
