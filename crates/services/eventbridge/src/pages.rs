//! Pages of lists, by name.

use aws_wire::ApiError;
use control::paging::{Page, PageRequest, page};

use crate::errors::invalid;

/// Cuts a page out of what comes in the order of its names.
pub(crate) fn cut<T>(
    token: &Option<String>,
    limit: Option<i32>,
    items: impl Iterator<Item = (String, T)>,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let cut = page(PageRequest::new(token, limit), items);
    let Page { items, next_token } = cut.map_err(|why| invalid(why.message))?;
    Ok((items, next_token))
}
