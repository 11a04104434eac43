//! DescribeLogGroups.

use ::logs::{GroupInfo, GroupName, Logs, LogsError};
use aws_wire::{ApiError, Caller};
use logs_api::{DescribeLogGroupsRequest, DescribeLogGroupsResponse, LogGroup};

use super::common::{
    class_of, class_to_wire, group_arn, group_of_identifier, limit, long, means_caller, to_api,
};
use super::errors::Refusal;

const PAGE_MAX: usize = 50;

pub(super) fn describe_log_groups(
    logs: &Logs,
    caller: &Caller,
    input: &DescribeLogGroupsRequest,
) -> Result<DescribeLogGroupsResponse, ApiError> {
    let prefix = input.log_group_name_prefix.as_deref().unwrap_or("");
    let pattern = input.log_group_name_pattern.as_deref().unwrap_or("");
    if !prefix.is_empty() && !pattern.is_empty() {
        return Err(Refusal::PrefixAndPattern.into());
    }
    if let Some(identifiers) = &input.log_group_identifiers {
        return by_identifier(logs, caller, identifiers);
    }
    let wanted_class = class_of(input.log_group_class.as_ref())?;
    let after = input.next_token.as_deref().map(token).transpose()?;
    let page = limit(input.limit, PAGE_MAX, PAGE_MAX);
    let mut groups = Vec::new();
    if means_caller(caller, input.account_identifiers.as_deref()) {
        groups = logs.groups(caller.account, after.as_ref(), page + 1, |name, class| {
            name.as_str().starts_with(prefix)
                && name.as_str().contains(pattern)
                && wanted_class.is_none_or(|wanted| wanted == class)
        });
    }
    let next_token = next_page(&mut groups, page);
    let log_groups = groups.iter().map(|group| to_wire(caller, group)).collect();
    Ok(DescribeLogGroupsResponse { log_groups: Some(log_groups), next_token })
}

fn by_identifier(
    logs: &Logs,
    caller: &Caller,
    identifiers: &[String],
) -> Result<DescribeLogGroupsResponse, ApiError> {
    let mut log_groups = Vec::new();
    for identifier in identifiers {
        let name = group_of_identifier(caller, identifier)?;
        match logs.group(caller.account, &name) {
            Ok(group) => log_groups.push(to_wire(caller, &group)),
            Err(LogsError::GroupNotFound) => {} // a list of what is there, as everywhere here
            Err(error) => return Err(to_api(error)),
        }
    }
    Ok(DescribeLogGroupsResponse { log_groups: Some(log_groups), next_token: None })
}

/// The last name of a page continues it.
pub(super) fn token(text: &str) -> Result<GroupName, ApiError> {
    text.parse().map_err(|_| Refusal::Token.into())
}

/// Cuts the groups to a page; a token if there were more.
pub(super) fn next_page(groups: &mut Vec<GroupInfo>, page: usize) -> Option<String> {
    let is_more = groups.len() > page;
    groups.truncate(page);
    if is_more { groups.last().map(|group| group.name.to_string()) } else { None }
}

fn to_wire(caller: &Caller, group: &GroupInfo) -> LogGroup {
    let arn = group_arn(caller, &group.name);
    LogGroup {
        log_group_name: Some(group.name.to_string()),
        creation_time: Some(long(group.created_ms)),
        retention_in_days: group.settings.retention_days.and_then(|days| days.try_into().ok()),
        metric_filter_count: Some(0),
        arn: Some(format!("{arn}:*")),
        stored_bytes: Some(long(group.stored_bytes)),
        log_group_class: Some(class_to_wire(group.class)),
        log_group_arn: Some(arn),
        kms_key_id: group.settings.key.clone(),
        deletion_protection_enabled: Some(group.settings.deletion_protected),
        ..LogGroup::default()
    }
}
