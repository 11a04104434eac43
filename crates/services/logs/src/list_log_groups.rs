//! ListLogGroups: names only, found by words rather than by a prefix.

use ::logs::Logs;
use aws_wire::{ApiError, Caller};
use logs_api::{ListLogGroupsRequest, ListLogGroupsResponse, LogGroupSummary};

use super::common::{class_of, class_to_wire, group_arn, limit, means_caller};
use super::describe_log_groups::{next_page, token};
use super::errors::Refusal;

const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 1000;

pub(super) fn list_log_groups(
    logs: &Logs,
    caller: &Caller,
    input: &ListLogGroupsRequest,
) -> Result<ListLogGroupsResponse, ApiError> {
    let unsupported = [
        ("dataSources", input.data_sources.is_some()),
        ("fieldIndexNames", input.field_index_names.is_some()),
        ("logGroupTags", input.log_group_tags.is_some()),
    ];
    if let Some((member, _)) = unsupported.iter().find(|(_, is_given)| *is_given) {
        return Err(Refusal::Unavailable(member).into());
    }
    let pattern = input.log_group_name_pattern.as_deref();
    let class = class_of(input.log_group_class.as_ref())?;
    let after = input.next_token.as_deref().map(token).transpose()?;
    let page = limit(input.limit, PAGE_DEFAULT, PAGE_MAX);
    let mut groups = Vec::new();
    if means_caller(caller, input.account_identifiers.as_deref()) {
        groups = logs.groups(caller.account, after.as_ref(), page + 1, |name, its_class| {
            pattern.is_none_or(|pattern| is_named(name.as_str(), pattern))
                && class.is_none_or(|class| class == its_class)
        });
    }
    let next_token = next_page(&mut groups, page);
    let summary = |group: &::logs::GroupInfo| LogGroupSummary {
        log_group_name: Some(group.name.to_string()),
        log_group_arn: Some(group_arn(caller, &group.name)),
        log_group_class: Some(class_to_wire(group.class)),
    };
    Ok(ListLogGroupsResponse { log_groups: Some(groups.iter().map(summary).collect()), next_token })
}

/// Whether the name contains one of the pattern's words, or begins with it after a `^`.
fn is_named(name: &str, pattern: &str) -> bool {
    pattern.split('|').any(|word| match word.strip_prefix('^') {
        Some(start) => name.starts_with(start),
        None => name.contains(word),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_pattern_is_words_some_of_them_anchored() {
        assert!(is_named("/ecs/web", "web"));
        assert!(is_named("/ecs/web", "^/ecs"));
        assert!(!is_named("/ecs/web", "^web"));
        assert!(is_named("/ecs/web", "^web|ecs"));
    }
}
