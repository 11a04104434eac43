//! Tags as ECS takes and shows them.

use aws_wire::ApiError;
use ecs_api as api;
use model::Tags;
use model::tags::{TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_MAX};

use crate::errors::Refusal;

/// Reads and checks the tags of a request.
pub(crate) fn read(tags: Option<Vec<api::Tag>>) -> Result<Tags, ApiError> {
    let mut read = Tags::new();
    for tag in tags.unwrap_or_default() {
        let key = tag.key.unwrap_or_default();
        let value = tag.value.unwrap_or_default();
        check_key(&key)?;
        check_value(&key, &value)?;
        if read.insert(key.clone(), value).is_some() {
            return Err(Refusal::invalid(format!("Duplicate tag key '{key}'.")).into());
        }
    }
    check_count(&read)?;
    Ok(read)
}

/// These tags with more added; where both have a key, the new value stands.
pub(crate) fn overlay(tags: &Tags, more: &Tags) -> Result<Tags, ApiError> {
    let mut tags = tags.clone();
    tags.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    check_count(&tags)?;
    Ok(tags)
}

/// Tags as an answer shows them, by key.
pub(crate) fn render(tags: &Tags) -> Vec<api::Tag> {
    let render = |(key, value): (&String, &String)| api::Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    tags.iter().map(render).collect()
}

fn check_count(tags: &Tags) -> Result<(), ApiError> {
    // Tags of AWS's own do not count.
    let count = tags.keys().filter(|key| !is_reserved(key)).count();
    if TAGS_MAX < count {
        let message = format!("The number of tags exceeds the limit of {TAGS_MAX} for a resource.");
        return Err(Refusal::invalid(message).into());
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), ApiError> {
    let chars = key.chars().count();
    if chars == 0 || TAG_KEY_CHARS_MAX < chars {
        let message = format!("A tag key must have between 1 and {TAG_KEY_CHARS_MAX} characters.");
        return Err(Refusal::invalid(message).into());
    }
    check_own(key)?;
    if !key.chars().all(is_allowed) {
        return Err(Refusal::invalid(format!("Tag key '{key}' has an invalid character.")).into());
    }
    Ok(())
}

/// Tags of AWS's own are neither given nor taken away by users.
pub(crate) fn check_own(key: &str) -> Result<(), ApiError> {
    if is_reserved(key) {
        let message = format!("Tag key '{key}' must not begin with 'aws:', which is reserved.");
        return Err(Refusal::invalid(message).into());
    }
    Ok(())
}

fn check_value(key: &str, value: &str) -> Result<(), ApiError> {
    if TAG_VALUE_CHARS_MAX < value.chars().count() {
        let message =
            format!("The value of tag '{key}' must have at most {TAG_VALUE_CHARS_MAX} characters.");
        return Err(Refusal::invalid(message).into());
    }
    if !value.chars().all(is_allowed) {
        let message = format!("The value of tag '{key}' has an invalid character.");
        return Err(Refusal::invalid(message).into());
    }
    Ok(())
}

fn is_reserved(key: &str) -> bool {
    key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:"))
}

/// `[\p{L}\p{Z}\p{N}_.:/=+\-@]`
fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_limits() {
        assert_eq!(read(None).unwrap(), Tags::new());
        assert!(read(Some(vec![tag("stage", "prod"), tag("ü", "")])).is_ok());
        for bad in [
            tag("", "x"),
            tag(&"k".repeat(129), "x"),
            tag("k", &"v".repeat(257)),
            tag("aws:x", "x"),
            tag("AWS:x", "x"),
            tag("a#b", "x"),
            tag("a", "\u{0}"),
        ] {
            assert_eq!(read(Some(vec![bad])).unwrap_err().code, "InvalidParameterException");
        }
        assert!(read(Some(vec![tag("a", "1"), tag("a", "2")])).is_err());
        let many = |n: usize| (0..n).map(|n| tag(&n.to_string(), "")).collect::<Vec<_>>();
        assert!(read(Some(many(50))).is_ok());
        assert!(read(Some(many(51))).is_err());
    }

    fn tag(key: &str, value: &str) -> api::Tag {
        api::Tag { key: Some(key.to_owned()), value: Some(value.to_owned()) }
    }
}
