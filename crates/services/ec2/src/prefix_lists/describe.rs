//! DescribeManagedPrefixLists, DescribePrefixLists, GetManagedPrefixListEntries, GetManagedPrefixListAssociations.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::PrefixListId;
use model::network::PrefixList;
use model::{Index, Key, View};

use super::{OF_AWS, OfAws, entries_of, entry_to_wire, of_aws, state_of, to_wire};
use crate::Ec2;
use crate::change::{id_of, on};
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Asked, Filters, one, page, select};
use crate::tags;

fn aws_to_wire(caller: &Caller, list: &OfAws) -> api::ManagedPrefixList {
    let (id, region) = (list.id, &caller.region);
    api::ManagedPrefixList {
        prefix_list_id: Some(id.to_owned()),
        address_family: Some("IPv4".to_owned()),
        state: Some(api::PrefixListState::CreateComplete),
        prefix_list_arn: Some(format!("arn:aws:ec2:{region}:aws:prefix-list/{id}")),
        prefix_list_name: Some(list.name(region)),
        version: Some(1),
        tags: Some(tags::to_wire(None)),
        owner_id: Some("AWS".to_owned()),
        ..api::ManagedPrefixList::default()
    }
}

const MANAGED_FILTERS: Filters<api::ManagedPrefixList> = &[
    ("owner-id", |it| one(it.owner_id.as_ref())),
    ("prefix-list-id", |it| one(it.prefix_list_id.as_ref())),
    ("prefix-list-name", |it| one(it.prefix_list_name.as_ref())),
];

pub(crate) async fn describe_managed_prefix_lists(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeManagedPrefixListsRequest,
) -> Result<api::DescribeManagedPrefixListsResult, ApiError> {
    let permission = Permission::to("ec2:DescribeManagedPrefixLists").on("*");
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    let rows = view.prefix_lists.of(caller.account);
    let own = rows
        .map(|row| to_wire(caller, row, state_of(row), view.tags_on(row.account, row.id.as_str())));
    let mut all: Vec<_> = own.chain(OF_AWS.iter().map(|list| aws_to_wire(caller, list))).collect();
    all.sort_by(|a, b| a.prefix_list_id.cmp(&b.prefix_list_id));
    let asked = Asked {
        kind: Kind::PrefixList,
        ids: input.prefix_list_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (lists, next_token) =
        select(all, &asked, |it| it.prefix_list_id.as_deref(), MANAGED_FILTERS)?;
    Ok(api::DescribeManagedPrefixListsResult { next_token, prefix_lists: Some(lists) })
}

const FILTERS: Filters<api::PrefixList> = &[
    ("prefix-list-id", |it| one(it.prefix_list_id.as_ref())),
    ("prefix-list-name", |it| one(it.prefix_list_name.as_ref())),
];

/// AWS's alone.
pub(crate) async fn describe_prefix_lists(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribePrefixListsRequest,
) -> Result<api::DescribePrefixListsResult, ApiError> {
    ec2.control.read(caller, &Permission::to("ec2:DescribePrefixLists").on("*"))?;
    unless_dry(input.dry_run)?;
    let all = OF_AWS.iter().map(|list| api::PrefixList {
        cidrs: Some(vec![]),
        prefix_list_id: Some(list.id.to_owned()),
        prefix_list_name: Some(list.name(&caller.region)),
    });
    let asked = Asked {
        kind: Kind::PrefixList,
        ids: input.prefix_list_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (lists, next_token) =
        select(all.collect(), &asked, |it| it.prefix_list_id.as_deref(), FILTERS)?;
    Ok(api::DescribePrefixListsResult { next_token, prefix_lists: Some(lists) })
}

/// The list that a request asks about; none: it is AWS's.
fn asked_of<'v>(
    view: &'v View,
    caller: &Caller,
    given: Option<&str>,
) -> Result<Option<&'v PrefixList>, Refusal> {
    if given.is_some_and(|given| of_aws(given).is_some()) {
        return Ok(None);
    }
    let id: PrefixListId = id_of(Kind::PrefixList, "prefixListId", given)?;
    let row = view.prefix_lists.get(caller.account, &id);
    row.map(|row| Some(row.as_ref())).ok_or_else(|| Kind::PrefixList.refused()(id.as_str()))
}

const ENTRIES_PER_PAGE_MAX: i32 = 100;

pub(crate) async fn get_managed_prefix_list_entries(
    ec2: &Ec2,
    caller: &Caller,
    input: api::GetManagedPrefixListEntriesRequest,
) -> Result<api::GetManagedPrefixListEntriesResult, ApiError> {
    let id = input.prefix_list_id.as_ref();
    let permission = on(caller, "ec2:GetManagedPrefixListEntries", "prefix-list", id);
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    let list = asked_of(&view, caller, input.prefix_list_id.as_deref())?;
    let (entries, version) = match list {
        Some(list) => {
            let current = i64::try_from(list.version).unwrap_or(i64::MAX);
            let version = input.target_version.unwrap_or(current);
            (entries_of(list, version)?, version)
        }
        None if input.target_version.is_some_and(|given| given != 1) => {
            let sentence = "The prefix list is AWS's, and at version 1 in this region.";
            return Err(Refusal::Value(sentence.to_owned()).into());
        }
        None => (&[][..], 1),
    };
    let entries = entries.iter().map(entry_to_wire).collect();
    let (entries, next_token) =
        cut(entries, input.next_token.as_deref(), input.max_results, version)?;
    Ok(api::GetManagedPrefixListEntriesResult { entries: Some(entries), next_token })
}

/// A page of entries; its token says of which version, and where it ends.
fn cut(
    entries: Vec<api::PrefixListEntry>,
    token: Option<&str>,
    max: Option<i32>,
    version: i64,
) -> Result<(Vec<api::PrefixListEntry>, Option<String>), Refusal> {
    let start: usize = match token.filter(|token| !token.is_empty()) {
        None => 0,
        Some(token) => {
            let (of, start) = token.split_once('-').ok_or(Refusal::NextToken)?;
            let is_current = of.parse() == Ok(version);
            start.parse().ok().filter(|_| is_current).ok_or(Refusal::NextToken)?
        }
    };
    let size = match max {
        None => entries.len(),
        Some(max) if (1..=ENTRIES_PER_PAGE_MAX).contains(&max) => usize::try_from(max).unwrap_or(1),
        Some(other) => {
            return Err(Refusal::Value(format!(
                "Value ( {other} ) for parameter maxResults is invalid. Expecting a value between 1 and \
             {ENTRIES_PER_PAGE_MAX}."
            )));
        }
    };
    let end = start.saturating_add(size);
    let next = (end < entries.len()).then(|| format!("{version}-{end}"));
    Ok((entries.into_iter().skip(start).take(size).collect(), next))
}

pub(crate) async fn get_managed_prefix_list_associations(
    ec2: &Ec2,
    caller: &Caller,
    input: api::GetManagedPrefixListAssociationsRequest,
) -> Result<api::GetManagedPrefixListAssociationsResult, ApiError> {
    let id = input.prefix_list_id.as_ref();
    let permission = on(caller, "ec2:GetManagedPrefixListAssociations", "prefix-list", id);
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    asked_of(&view, caller, input.prefix_list_id.as_deref())?;
    let list = input.prefix_list_id.as_deref().unwrap_or_default();
    let users = view.members(&Index::Ec2Uses(caller.account, list.into())).filter_map(|key| {
        if let Key::RouteTable(_, id) = key {
            return Some(id.to_string());
        }
        let Key::SecurityGroupRule(account, id) = key else { return None };
        Some(view.security_group_rules.get(*account, id)?.group.to_string())
    });
    let mut users: Vec<String> = users.collect();
    users.sort();
    users.dedup();
    let users = users.into_iter().map(|id| api::PrefixListAssociation {
        resource_id: Some(id),
        resource_owner: Some(caller.account.to_string()),
    });
    let token = input.next_token.as_deref();
    let (users, next_token) =
        page(users.collect(), token, input.max_results, false, |it| it.resource_id.as_deref())?;
    Ok(api::GetManagedPrefixListAssociationsResult {
        prefix_list_associations: Some(users),
        next_token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_pages_of_one_version() {
        let entry = |number| api::PrefixListEntry {
            cidr: Some(format!("10.{number}.0.0/16")),
            description: None,
        };
        let all: Vec<_> = (0..5).map(entry).collect();
        let (first, token) = cut(all.clone(), None, Some(3), 7).unwrap();
        let (second, end) = cut(all.clone(), token.as_deref(), Some(3), 7).unwrap();
        assert_eq!([first, second].concat(), all);
        assert_eq!(end, None);
        assert!(cut(all.clone(), token.as_deref(), Some(3), 8).is_err(), "they changed meanwhile");
        assert!(cut(all.clone(), None, Some(101), 7).is_err());
        assert!(cut(all, Some("junk"), None, 7).is_err());
    }
}
