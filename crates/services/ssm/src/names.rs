//! What a parameter may be called.

use aws_wire::ApiError;
use longshore_types::AccountId;

use control::parameters::ParameterName;

use crate::Ssm;
use crate::errors::{invalid, named};
use crate::limits::{LEVELS_MAX, NAME_CHARS_MAX};

/// Beginnings of names that are Amazon's: the first level of a hierarchy, or of a plain name.
const RESERVED: &[&str] = &["aws", "ssm"];

/// The name that a request names a parameter by, which is to be there already. One that belongs to another account is
/// as if it was not there.
pub(crate) fn of_request(it: &Ssm, account: AccountId, given: &str) -> Option<ParameterName> {
    let region = it.control.config.region.as_str();
    ParameterName::parse(region, account, given).filter(|named| named.account == account)
}

/// The name of a parameter that is to be made or changed.
pub(crate) fn to_put(
    given: &str,
    parsed: Option<ParameterName>,
    arn: &str,
) -> Result<String, ApiError> {
    let parsed =
        parsed.ok_or_else(|| invalid(format!("{given} is not the name of a parameter.")))?;
    let name = parsed.name;
    let plain = name.strip_prefix('/').unwrap_or(&name);
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    let levels: Vec<&str> = plain.split('/').collect();
    if parsed.selector.is_some() || !name.chars().all(is_allowed) || levels.contains(&"") {
        return Err(invalid(
            "Parameter name: can't be prefixed with \"ssm\" (case-insensitive). If formed as a path, it can consist \
             of sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the \
             following 3 symbols .-_",
        ));
    }
    if plain.contains('/') && !name.starts_with('/') {
        return Err(invalid(format!(
            "Parameter name must be a fully qualified name: {name} is a path and must begin with a slash."
        )));
    }
    let first = levels[0].to_ascii_lowercase();
    if let Some(reserved) = RESERVED.iter().find(|reserved| first.starts_with(**reserved)) {
        if *reserved == "aws" {
            return Err(named(
                "AccessDeniedException",
                format!("No access to reserved parameter name: {plain}."),
            ));
        }
        return Err(invalid(
            "Parameter name: can't be prefixed with \"ssm\" (case-insensitive). If formed as a path, it can consist \
             of sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the \
             following 3 symbols .-_",
        ));
    }
    if LEVELS_MAX < levels.len() {
        return Err(named(
            "HierarchyLevelLimitExceededException",
            format!("A parameter name can have up to {LEVELS_MAX} levels."),
        ));
    }
    match arn.len() <= NAME_CHARS_MAX {
        true => Ok(name),
        false => Err(invalid(format!(
            "A parameter name can have up to {NAME_CHARS_MAX} characters, those of its ARN among them."
        ))),
    }
}

/// That a path is one below which parameters can be. A slash at its end is nothing.
pub(crate) fn check_path(path: &str) -> Result<(), ApiError> {
    let Some(plain) = path.strip_prefix('/') else {
        return Err(invalid(
            "The parameter doesn't meet the parameter name requirements. The parameter name must begin with a forward \
             slash \"/\".",
        ));
    };
    if plain.is_empty() {
        return Ok(());
    }
    let levels: Vec<&str> = plain.strip_suffix('/').unwrap_or(plain).split('/').collect();
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !levels.iter().all(|level| !level.is_empty() && level.chars().all(is_allowed)) {
        return Err(invalid(
            "The parameter doesn't meet the parameter name requirements. A path can consist of sub-paths divided by \
             slash symbol; each sub-path can be formed as a mix of letters, numbers and the following 3 symbols .-_",
        ));
    }
    match levels.len() <= LEVELS_MAX {
        true => Ok(()),
        false => Err(named(
            "HierarchyLevelLimitExceededException",
            format!("A hierarchy can have up to {LEVELS_MAX} levels."),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_where_they_are_made() {
        let account: AccountId = "111122223333".parse().unwrap();
        let put = |name: &str| {
            let parsed = ParameterName::parse("us-east-1", account, name);
            to_put(name, parsed, name).map_err(|error| error.code.to_string())
        };
        assert_eq!(put("/db"), Ok("db".to_owned()));
        assert_eq!(put("/prod/db.url-1_x"), Ok("/prod/db.url-1_x".to_owned()));
        for name in ["prod/db", "a b", "/a//b", "/a/", "db:1", "ssmdb", "/SSM/x", ""] {
            assert_eq!(put(name), Err("ValidationException".to_owned()), "{name}");
        }
        for name in ["aws-x", "/AWS/x", "awssec"] {
            assert_eq!(put(name), Err("AccessDeniedException".to_owned()), "{name}");
        }
        let deep = "/a".repeat(16);
        assert_eq!(put(&deep), Err("HierarchyLevelLimitExceededException".to_owned()));
        assert!(put(&deep[2..]).is_ok());
        assert_eq!(put(&"a".repeat(1_012)), Err("ValidationException".to_owned()));
    }
}
