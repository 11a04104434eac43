//! Names, tokens, tags and values as requests give them.

use aws_wire::ApiError;
use bytes::Bytes;
use control::secrets::SecretContent;
use longshore_types::{IdSource, Uuid};
use model::Tags;
use model::tags::TAGS_MAX;
use secretsmanager_api as api;

use crate::errors::{invalid, limit};
use crate::limits::VALUE_BYTES_MAX;

pub(crate) fn name(given: Option<String>) -> Result<String, ApiError> {
    let name = given.unwrap_or_default();
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-!".contains(c);
    if !name.is_empty() && name.chars().all(is_allowed) {
        return Ok(name);
    }
    let message = "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: \
                   -/_+=.@!";
    Err(ApiError::client("ValidationException", message))
}

/// The id of the version that a request makes.
pub(crate) fn version_id(given: Option<String>, ids: &dyn IdSource) -> String {
    given.unwrap_or_else(|| Uuid::mint(ids).to_string())
}

/// The value that a request has, if it has one.
pub(crate) fn content(
    text: Option<String>,
    binary: Option<Bytes>,
) -> Result<Option<SecretContent>, ApiError> {
    let content = match (text, binary) {
        (Some(_), Some(_)) => {
            return Err(invalid(
                "You can't specify both a binary secret value and a string secret value in the same secret.",
            ));
        }
        (Some(text), None) => SecretContent::Text(text.into()),
        (None, Some(bytes)) => SecretContent::Binary(bytes.to_vec().into()),
        (None, None) => return Ok(None),
    };
    match bytes_of(&content).len() <= VALUE_BYTES_MAX {
        true => Ok(Some(content)),
        false => Err(invalid(format!("The secret value is larger than {VALUE_BYTES_MAX} bytes."))),
    }
}

pub(crate) fn bytes_of(content: &SecretContent) -> &[u8] {
    match content {
        SecretContent::Text(text) => text.as_bytes(),
        SecretContent::Binary(bytes) => bytes,
    }
}

pub(crate) fn tags(given: Option<Vec<api::Tag>>) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for tag in given.unwrap_or_default() {
        let key = tag.key.unwrap_or_default();
        if key.is_empty() || key.to_ascii_lowercase().starts_with("aws:") {
            return Err(invalid(format!("{key} is not a key that a tag may have.")));
        }
        if tags.insert(key.clone(), tag.value.unwrap_or_default()).is_some() {
            return Err(invalid(format!("The tag key {key} is given twice.")));
        }
    }
    check_tags(&tags)?;
    Ok(tags)
}

pub(crate) fn check_tags(tags: &Tags) -> Result<(), ApiError> {
    match tags.len() <= TAGS_MAX {
        true => Ok(()),
        false => Err(limit(format!("A secret can have up to {TAGS_MAX} tags."))),
    }
}
