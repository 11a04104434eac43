//! What the handlers share: names and ARNs, times, and the store's refusals as Amazon words them.

use std::fmt::Display;
use std::str::FromStr;

use ::logs::{GroupClass, GroupName, LogsError, StreamName};
use aws_wire::{ApiError, Caller};
use logs_api::LogGroupClass;
use longshore_types::{AccountId, Arn, RegionName};

use crate::errors::Refusal;

/// Amazon's code and sentence for what the store refused.
pub(super) fn to_api(error: LogsError) -> ApiError {
    let code = match &error {
        LogsError::GroupExists | LogsError::StreamExists => "ResourceAlreadyExistsException",
        LogsError::GroupNotFound | LogsError::StreamNotFound => "ResourceNotFoundException",
        LogsError::Invalid(_) => "InvalidParameterException",
        LogsError::Protected => "ValidationException",
        LogsError::TooManyGroups => "LimitExceededException",
        LogsError::OtherRevision => "OperationAbortedException",
        LogsError::Key(_) => "AccessDeniedException",
        LogsError::TooManyTags => "TooManyTagsException",
        LogsError::Fault { .. }
        | LogsError::Format(_)
        | LogsError::Damaged { .. }
        | LogsError::Poisoned
        | LogsError::InUse(_) => return ApiError::fault("failed to use the log store", error),
    };
    ApiError::client(code, error.to_string())
}

/// A required member as its type.
pub(super) fn required<T>(member: &'static str, text: Option<String>) -> Result<T, ApiError>
where
    T: FromStr,
    T::Err: Display,
{
    let text = text.ok_or(Refusal::Missing(member))?;
    text.parse().map_err(|why: T::Err| Refusal::Wrong { member, rule: why.to_string() }.into())
}

/// A group that may be given by its name or by an identifier, which is a name or an ARN.
pub(super) fn group_of(
    caller: &Caller,
    name: Option<String>,
    identifier: Option<String>,
) -> Result<GroupName, ApiError> {
    match (name, identifier) {
        (Some(_), Some(_)) => Err(Refusal::BothNames.into()),
        (Some(name), None) => required("logGroupName", Some(name)),
        (None, Some(identifier)) => group_of_identifier(caller, &identifier),
        (None, None) => Err(Refusal::NoName.into()),
    }
}

pub(super) fn group_of_identifier(
    caller: &Caller,
    identifier: &str,
) -> Result<GroupName, ApiError> {
    if identifier.starts_with("arn:") {
        group_of_arn(caller, identifier)
    } else {
        required("logGroupIdentifier", Some(identifier.to_owned()))
    }
}

/// The group that an ARN names, with or without `:*` at its end.
pub(super) fn group_of_arn(caller: &Caller, text: &str) -> Result<GroupName, ApiError> {
    let wrong = || ApiError::from(Refusal::NotAGroup(text.to_owned()));
    let arn = Arn::parse(text).map_err(|_| wrong())?;
    let name = arn.resource.strip_prefix("log-group:").ok_or_else(wrong)?;
    if arn.service != "logs" {
        return Err(wrong());
    }
    if arn.region != caller.region.as_str() || arn.account != caller.account.as_str() {
        return Err(to_api(LogsError::GroupNotFound));
    }
    name.strip_suffix(":*").unwrap_or(name).parse().map_err(|_| wrong())
}

/// The group's ARN as IAM and the tagging operations have it: without `:*`.
pub(super) fn group_arn(caller: &Caller, name: &GroupName) -> String {
    arn_of_group(&caller.region, caller.account, name.as_str())
}

/// The same where nobody calls.
pub(super) fn arn_of_group(region: &RegionName, account: AccountId, name: &str) -> String {
    format!("arn:aws:logs:{region}:{account}:log-group:{name}")
}

pub(super) fn stream_arn(caller: &Caller, group: &GroupName, stream: &StreamName) -> String {
    format!("{}:log-stream:{stream}", group_arn(caller, group))
}

pub(super) fn class_of(wire: Option<&LogGroupClass>) -> Result<Option<GroupClass>, ApiError> {
    match wire {
        None => Ok(None),
        Some(LogGroupClass::Standard) => Ok(Some(GroupClass::Standard)),
        Some(LogGroupClass::InfrequentAccess) => Ok(Some(GroupClass::InfrequentAccess)),
        Some(LogGroupClass::Delivery) => Ok(Some(GroupClass::Delivery)),
        Some(other) => Err(Refusal::NotAClass(other.to_string()).into()),
    }
}

pub(super) fn class_to_wire(class: GroupClass) -> LogGroupClass {
    match class {
        GroupClass::Standard => LogGroupClass::Standard,
        GroupClass::InfrequentAccess => LogGroupClass::InfrequentAccess,
        GroupClass::Delivery => LogGroupClass::Delivery,
    }
}

/// A moment of a request, in milliseconds.
pub(super) fn ms(member: &'static str, wire: i64) -> Result<u64, ApiError> {
    u64::try_from(wire).map_err(|_| Refusal::Negative(member).into())
}

pub(super) fn optional_ms(
    member: &'static str,
    wire: Option<i64>,
) -> Result<Option<u64>, ApiError> {
    wire.map(|wire| ms(member, wire)).transpose()
}

/// A count or a moment of an answer.
pub(super) fn long(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// How many results a page may have.
pub(super) fn limit(wire: Option<i32>, default: usize, max: usize) -> usize {
    wire.and_then(|wire| usize::try_from(wire).ok()).unwrap_or(default).clamp(1, max)
}

/// Whether a request that may name accounts means the caller's own: there are no linked ones.
pub(super) fn means_caller(caller: &Caller, accounts: Option<&[String]>) -> bool {
    accounts.is_none_or(|accounts| {
        accounts.is_empty() || accounts.iter().any(|account| account == caller.account.as_str())
    })
}

#[cfg(test)]
mod tests {
    use aws_wire::Principal;
    use longshore_types::{Timestamp, Uuid};

    use super::*;

    fn caller() -> Caller {
        Caller {
            account: "000000000000".parse().unwrap(),
            region: "eu-north-1".parse().unwrap(),
            access_key: "AKIA".to_owned(),
            principal: Principal::Root,
            session: None,
            origin: aws_wire::Origin::default(),
            request_id: "00000000-0000-4000-8000-000000000000".parse::<Uuid>().unwrap(),
            now: Timestamp(0),
        }
    }

    #[test]
    fn a_group_is_found_by_name_and_by_both_forms_of_its_arn() {
        let arn = "arn:aws:logs:eu-north-1:000000000000:log-group:/ecs/web";
        for text in ["/ecs/web", arn, &format!("{arn}:*")] {
            let group = group_of(&caller(), None, Some(text.to_owned())).unwrap();
            assert_eq!(group.as_str(), "/ecs/web");
        }
        assert_eq!(group_arn(&caller(), &"/ecs/web".parse().unwrap()), arn);
        let foreign = "arn:aws:logs:eu-north-1:111122223333:log-group:/ecs/web";
        let refused = group_of_arn(&caller(), foreign).unwrap_err();
        assert_eq!(refused.code, "ResourceNotFoundException");
        for text in ["arn:aws:ecs:eu-north-1:000000000000:cluster/x", "arn:", "a b"] {
            let refused = group_of_identifier(&caller(), text).unwrap_err();
            assert_eq!(refused.code, "InvalidParameterException", "{text}");
        }
        let both = group_of(&caller(), Some("a".into()), Some("b".into())).unwrap_err();
        assert!(both.message.contains("not both"));
    }

    #[test]
    fn what_the_store_refuses_has_amazons_code_and_a_fault_says_nothing() {
        let exists = to_api(LogsError::GroupExists);
        assert_eq!(exists.code, "ResourceAlreadyExistsException");
        assert_eq!(exists.message, "The specified log group already exists");
        let missing = to_api(LogsError::StreamNotFound);
        assert_eq!(missing.code, "ResourceNotFoundException");
        assert_eq!(missing.message, "The specified log stream does not exist.");
        assert!(to_api(LogsError::Poisoned).is_fault());
    }
}
