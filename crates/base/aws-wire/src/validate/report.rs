//! The sentences that services say of violations.

use super::{Constraint, Violation, Wording};
use crate::error::ApiError;

/// The error for violations that were found; there is at least one.
pub(super) fn error(found: &[Violation], wording: Wording) -> ApiError {
    let Some(first) = found.first() else {
        return ApiError::client("ValidationException", "");
    };
    match wording {
        Wording::Standard { code } => ApiError::client(code, standard(found)),
        Wording::Ecr => ApiError::client("InvalidParameterException", ecr(first)),
        Wording::Ecs => ecs(first, found),
        Wording::Ec2 => ec2(first),
    }
}

/// "2 validation errors detected: Value … at …; Value … at …"
fn standard(found: &[Violation]) -> String {
    let each: Vec<String> = found.iter().map(sentence).collect();
    let s = if found.len() == 1 { "" } else { "s" };
    format!("{} validation error{s} detected: {}", found.len(), each.join("; "))
}

fn sentence(violation: &Violation) -> String {
    let value = match &violation.value {
        Some(value) => format!("Value '{value}'"),
        None => "Value null".to_owned(),
    };
    let (path, constraint) = (violation.path.join("."), violation.constraint);
    format!("{value} at '{path}' failed to satisfy constraint: {}", requirement(constraint))
}

fn requirement(constraint: Constraint) -> String {
    match constraint {
        Constraint::Present => "Member must not be null".to_owned(),
        Constraint::LengthMin(min) => {
            format!("Member must have length greater than or equal to {min}")
        }
        Constraint::LengthMax(max) => {
            format!("Member must have length less than or equal to {max}")
        }
        Constraint::Pattern(text) => {
            format!("Member must satisfy regular expression pattern: {text}")
        }
        Constraint::OneOf(values) => {
            format!("Member must satisfy enum value set: [{}]", values.join(", "))
        }
        Constraint::ValueMin(min) => {
            format!("Member must have value greater than or equal to {min}")
        }
        Constraint::ValueMax(max) => format!("Member must have value less than or equal to {max}"),
        Constraint::KeyLengthMin(min) => {
            of_keys(&format!("Member must have length greater than or equal to {min}"))
        }
        Constraint::KeyLengthMax(max) => {
            of_keys(&format!("Member must have length less than or equal to {max}"))
        }
        Constraint::KeyPattern(text) => {
            of_keys(&format!("Member must satisfy regular expression pattern: {text}"))
        }
    }
}

fn of_keys(requirement: &str) -> String {
    format!("Map keys must satisfy constraint: [{requirement}]")
}

fn ecr(violation: &Violation) -> String {
    let path = violation.path.join(".");
    let requirement = match violation.constraint {
        Constraint::Pattern(text) => format!("must satisfy regular expression '{text}'"),
        Constraint::Present => "must not be null".to_owned(),
        Constraint::OneOf(values) => {
            format!("Member must satisfy enum value set: [{}]", in_java_order(values).join(", "))
        }
        other => requirement(other),
    };
    format!("Invalid parameter at '{path}' failed to satisfy constraint: '{requirement}'")
}

/// The order in which a small Java `HashSet` gives out its texts: that is what ECR prints.
fn in_java_order(values: &'static [&'static str]) -> Vec<&'static str> {
    let bucket = |text: &str| {
        let hash = text
            .encode_utf16()
            .fold(0_u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
        (hash ^ (hash >> 16)) % 16
    };
    let mut ordered = values.to_vec();
    ordered.sort_by_key(|text| bucket(text));
    ordered
}

/// "TaskDefinition can not be blank.", "Secret.valueFrom should not be null or empty.", or the standard text.
fn ecs(first: &Violation, found: &[Violation]) -> ApiError {
    let member = first.path.last().map_or("", String::as_str);
    match first.constraint {
        Constraint::Present if first.is_top => ApiError::client(
            "InvalidParameterException",
            format!("{} can not be blank.", capitalised(member)),
        ),
        Constraint::Present => {
            let owner =
                if first.owner == "ContainerDefinition" { "Container" } else { first.owner };
            let message = format!("{owner}.{member} should not be null or empty.");
            ApiError::client("ClientException", message)
        }
        _ => ApiError::client("InvalidParameterException", standard(found)),
    }
}

fn ec2(first: &Violation) -> ApiError {
    let member = first.path.first().map_or("", String::as_str);
    let value = first.value.as_deref().unwrap_or_default();
    let name = first.path.join(".");
    let expecting = match first.constraint {
        Constraint::Present => {
            return ApiError::client(
                "MissingParameter",
                format!("The request must contain the parameter {}", capitalised(member)),
            );
        }
        Constraint::ValueMin(min) => format!(". Expecting a value greater than or equal to {min}."),
        Constraint::ValueMax(max) => format!(". Expecting a value less than or equal to {max}."),
        Constraint::OneOf(_) | Constraint::Pattern(_) | Constraint::KeyPattern(_) => String::new(),
        Constraint::LengthMin(_)
        | Constraint::LengthMax(_)
        | Constraint::KeyLengthMin(_)
        | Constraint::KeyLengthMax(_) => format!(". {}.", requirement(first.constraint)),
    };
    let message = format!("Value ({value}) for parameter {name} is invalid{expecting}");
    ApiError::client("InvalidParameterValue", message)
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}
