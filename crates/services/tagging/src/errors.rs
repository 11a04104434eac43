//! What the Tagging API refuses, as data; its code and sentence are chosen here and nowhere else.

use aws_wire::ApiError;

use crate::{RESOURCES_PER_PAGE_MAX, VALUES_PER_FILTER_MAX};

/// The caller's mistake. All of them are InvalidParameterException.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// An ARN of nothing that has tags here.
    NoResource(String),
    /// A list of ARNs stands alone; this was given beside it.
    Beside(&'static str),
    NoKey,
    TooManyValues,
    PageSize,
    TagsPerPage,
    Token,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = match refusal {
            Refusal::NoResource(arn) => {
                format!("{arn} is not the ARN of a resource that has tags here.")
            }
            Refusal::Beside(what) => {
                format!("ResourceARNList can't be given together with {what}.")
            }
            Refusal::NoKey => "A tag filter must have a Key.".to_owned(),
            Refusal::TooManyValues => {
                format!("A tag filter has at most {VALUES_PER_FILTER_MAX} Values.")
            }
            Refusal::PageSize => {
                format!("ResourcesPerPage must be between 1 and {RESOURCES_PER_PAGE_MAX}.")
            }
            Refusal::TagsPerPage => "TagsPerPage must be 100, 200, 300, 400 or 500.".to_owned(),
            Refusal::Token => "The specified PaginationToken is invalid.".to_owned(),
        };
        Self::client("InvalidParameterException", message)
    }
}
