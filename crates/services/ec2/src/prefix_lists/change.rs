//! CreateManagedPrefixList, ModifyManagedPrefixList, RestoreManagedPrefixListVersion, DeleteManagedPrefixList.

use aws_wire::{ApiError, Caller};
use ec2_api as api;
use longshore_types::PrefixListId;
use model::network::{AddressFamily, EarlierEntries, PrefixEntry, PrefixList};
use model::{Index, Key};

use super::users::{check_users_have_room, tell_groups};
use super::{block, entries_of, find, state_of, text_of, to_wire};
use crate::Ec2;
use crate::change::{Make, Once, on};
use crate::errors::Refusal;
use crate::limits::{
    EARLIER_LIST_ENTRIES_MAX, EARLIER_LIST_VERSIONS_MAX, LIST_ENTRIES_MAX,
    LIST_ENTRIES_PER_CALL_MAX, PREFIX_LISTS_MAX,
};
use crate::refusal::NetworkRefusal;

const NAME_CHARS_MAX: usize = 255;
const DESCRIPTION_CHARS_MAX: usize = 255;

pub(crate) async fn create_managed_prefix_list(
    ec2: &Ec2,
    caller: &Caller,
    mut input: api::CreateManagedPrefixListRequest,
) -> Result<api::CreateManagedPrefixListResult, ApiError> {
    let client_token = input.client_token.take();
    let once = Once::new(ec2, caller, "CreateManagedPrefixList", client_token.as_ref(), &input);
    let tags = input.tag_specifications.as_deref();
    let make = Make::new(caller, "ec2:CreateManagedPrefixList", "prefix-list", tags);
    let permission = make.permission(caller);
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        if let Some(id) = it.made_before(&once)? {
            let row = find(it, Some(&id))?;
            let tags = it.network.view().tags_on(it.account, &id);
            return Ok(to_wire(caller, &row, state_of(&row), tags));
        }
        let tags = make.tags()?;
        if it.network.view().prefix_lists.of(it.account).count() >= PREFIX_LISTS_MAX {
            let (code, what) = ("PrefixListLimitExceeded", "prefix lists");
            return Err(NetworkRefusal::TooMany { code, what }.into());
        }
        let family = match input.address_family.as_deref() {
            None | Some("") => return Err(Refusal::Parameter("addressFamily")),
            Some("IPv4") => AddressFamily::Ipv4,
            Some("IPv6") => AddressFamily::Ipv6,
            Some(other) => {
                return Err(Refusal::Value(format!(
                    "Value ({other}) for parameter addressFamily is invalid. It is IPv4 or IPv6."
                )));
            }
        };
        let mut row = PrefixList {
            account: it.account,
            id: PrefixListId::mint(it.ids),
            name: name(input.prefix_list_name.as_deref())?,
            family,
            max_entries: size(input.max_entries)?,
            version: 1,
            is_modified: false,
            is_restored: false,
            earlier: vec![],
            entries: vec![],
        };
        add(&mut row, input.entries.as_deref().unwrap_or_default())?;
        it.tag(row.id.as_str(), &tags);
        it.remember(&once, row.id.as_str());
        let wire = to_wire(caller, &row, state_of(&row), Some(&tags));
        it.put(row);
        Ok(wire)
    });
    Ok(api::CreateManagedPrefixListResult { prefix_list: Some(made.await?) })
}

fn name(given: Option<&str>) -> Result<String, Refusal> {
    let given = given.filter(|given| !given.is_empty());
    let given = given.ok_or(Refusal::Parameter("prefixListName"))?;
    if given.starts_with("com.amazonaws") || given.chars().count() > NAME_CHARS_MAX {
        return Err(Refusal::Value(format!(
            "Value ({given}) for parameter prefixListName is invalid. A name has at most {NAME_CHARS_MAX} characters \
             and does not start with com.amazonaws."
        )));
    }
    Ok(given.to_owned())
}

fn size(given: Option<i32>) -> Result<u32, Refusal> {
    let given = given.ok_or(Refusal::Parameter("maxEntries"))?;
    let size = u32::try_from(given).ok().filter(|size| (1..=LIST_ENTRIES_MAX).contains(size));
    size.ok_or_else(|| {
        Refusal::Value(format!(
            "Value ({given}) for parameter maxEntries is invalid. It is from 1 to {LIST_ENTRIES_MAX}."
        ))
    })
}

fn few(entries: usize) -> Result<(), Refusal> {
    if entries > LIST_ENTRIES_PER_CALL_MAX {
        return Err(Refusal::Value(format!(
            "The number of entries per request cannot exceeds limit ({LIST_ENTRIES_PER_CALL_MAX})."
        )));
    }
    Ok(())
}

fn add(row: &mut PrefixList, entries: &[api::AddPrefixListEntry]) -> Result<(), Refusal> {
    few(entries.len())?;
    for entry in entries {
        let network = block(row.family, entry.cidr.as_deref())?;
        if row.entries.iter().any(|there| there.network == network) {
            let cidr = text_of(&network);
            return Err(NetworkRefusal::ListChange(format!("{cidr} already exists.")).into());
        }
        let description = entry.description.clone().filter(|given| !given.is_empty());
        let length = description.as_ref().map_or(0, |given| given.chars().count());
        if length > DESCRIPTION_CHARS_MAX {
            return Err(Refusal::Value(format!(
                "The description of an entry has at most {DESCRIPTION_CHARS_MAX} characters."
            )));
        }
        row.entries.push(PrefixEntry { network, description });
    }
    check_size(row)
}

fn remove(row: &mut PrefixList, entries: &[api::RemovePrefixListEntry]) -> Result<(), Refusal> {
    few(entries.len())?;
    for entry in entries {
        let network = block(row.family, entry.cidr.as_deref())?;
        let place = row.entries.iter().position(|there| there.network == network);
        let missing =
            || NetworkRefusal::ListChange(format!("{} does not exist.", text_of(&network)));
        row.entries.remove(place.ok_or_else(missing)?);
    }
    Ok(())
}

fn check_size(row: &PrefixList) -> Result<(), Refusal> {
    let (there, most) = (row.entries.len(), row.max_entries);
    if usize::try_from(most).is_ok_and(|most| there > most) {
        return Err(NetworkRefusal::ListFull { id: row.id.to_string(), there, most }.into());
    }
    Ok(())
}

pub(crate) async fn modify_managed_prefix_list(
    ec2: &Ec2,
    caller: &Caller,
    input: api::ModifyManagedPrefixListRequest,
) -> Result<api::ModifyManagedPrefixListResult, ApiError> {
    let id = input.prefix_list_id.as_ref();
    let permission = on(caller, "ec2:ModifyManagedPrefixList", "prefix-list", id);
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let before = find(it, input.prefix_list_id.as_deref())?;
        if input.ipam_prefix_list_resolver_sync_enabled == Some(true) {
            let why = "IpamPrefixListResolverSyncEnabled is not available in this region.";
            return Err(NetworkRefusal::Unsupported(why.to_owned()).into());
        }
        let version = i64::try_from(before.version).ok();
        if input.current_version.is_some() && input.current_version != version {
            return Err(NetworkRefusal::ListVersion.into());
        }
        let mut row = changed(&before, &input)?;
        it.batch.rely(Index::Ec2Uses(it.account, row.id.as_str().into()));
        if row.max_entries > before.max_entries {
            check_users_have_room(it, &row)?;
        }
        if row.version != before.version {
            tell_groups(it, &row.id);
        }
        row.is_modified = true;
        row.is_restored = false;
        let tags = it.network.view().tags_on(it.account, row.id.as_str());
        let wire = to_wire(caller, &row, state_of(&row), tags);
        it.put(row);
        Ok(wire)
    });
    Ok(api::ModifyManagedPrefixListResult { prefix_list: Some(changed.await?) })
}

/// A list as a request wants it.
fn changed(
    before: &PrefixList,
    input: &api::ModifyManagedPrefixListRequest,
) -> Result<PrefixList, Refusal> {
    let mut row = before.clone();
    if let Some(given) = input.prefix_list_name.as_deref().filter(|given| !given.is_empty()) {
        row.name = name(Some(given))?;
    }
    let added = input.add_entries.as_deref().unwrap_or_default();
    let removed = input.remove_entries.as_deref().unwrap_or_default();
    let has_entries = !added.is_empty() || !removed.is_empty();
    if input.max_entries.is_some() && has_entries {
        return Err(Refusal::Combination(
            "You cannot modify the entries and the maximum entries for the prefix list in the same request."
                .to_owned(),
        ));
    }
    if input.max_entries.is_some() {
        row.max_entries = size(input.max_entries)?;
        check_size(&row)?;
    }
    if has_entries {
        let both = removed.iter().find(|gone| added.iter().any(|new| new.cidr == gone.cidr));
        if let Some(both) = both {
            let cidr = both.cidr.as_deref().unwrap_or_default();
            let why = format!("{cidr} is both added and removed.");
            return Err(NetworkRefusal::ListChange(why).into());
        }
        remove(&mut row, removed)?;
        add(&mut row, added)?;
        next_version(&mut row, before);
    }
    Ok(row)
}

/// Its entries are others than before, which are kept: as many versions, and of all of them as many entries, as there is
/// room for.
fn next_version(row: &mut PrefixList, before: &PrefixList) {
    row.version += 1;
    let (version, entries) = (before.version, before.entries.clone());
    row.earlier.push(EarlierEntries { version, entries });
    while row.earlier.len() > EARLIER_LIST_VERSIONS_MAX
        || row.earlier.iter().map(|it| it.entries.len()).sum::<usize>() > EARLIER_LIST_ENTRIES_MAX
    {
        row.earlier.remove(0);
    }
}

pub(crate) async fn restore_managed_prefix_list_version(
    ec2: &Ec2,
    caller: &Caller,
    input: api::RestoreManagedPrefixListVersionRequest,
) -> Result<api::RestoreManagedPrefixListVersionResult, ApiError> {
    let id = input.prefix_list_id.as_ref();
    let permission = on(caller, "ec2:RestoreManagedPrefixListVersion", "prefix-list", id);
    let restored = ec2.change(caller, &permission, input.dry_run, |it| {
        let before = find(it, input.prefix_list_id.as_deref())?;
        let previous = input.previous_version.ok_or(Refusal::Parameter("previousVersion"))?;
        let current = input.current_version.ok_or(Refusal::Parameter("currentVersion"))?;
        let row = restored(&before, previous, current)?;
        it.batch.rely(Index::Ec2Uses(it.account, row.id.as_str().into()));
        tell_groups(it, &row.id);
        let tags = it.network.view().tags_on(it.account, row.id.as_str());
        let wire = to_wire(caller, &row, state_of(&row), tags);
        it.put(row);
        Ok(wire)
    });
    Ok(api::RestoreManagedPrefixListVersionResult { prefix_list: Some(restored.await?) })
}

/// A list with the entries of an earlier version, in a new one.
fn restored(before: &PrefixList, previous: i64, current: i64) -> Result<PrefixList, Refusal> {
    if i64::try_from(before.version) != Ok(current) {
        return Err(NetworkRefusal::ListVersion.into());
    }
    let entries = entries_of(before, previous)?.to_vec();
    let mut row = PrefixList { entries, is_restored: true, ..before.clone() };
    check_size(&row)?;
    next_version(&mut row, before);
    Ok(row)
}

pub(crate) async fn delete_managed_prefix_list(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteManagedPrefixListRequest,
) -> Result<api::DeleteManagedPrefixListResult, ApiError> {
    let id = input.prefix_list_id.as_ref();
    let permission = on(caller, "ec2:DeleteManagedPrefixList", "prefix-list", id);
    let deleted = ec2.change(caller, &permission, input.dry_run, |it| {
        let row = find(it, input.prefix_list_id.as_deref())?;
        it.check_unused("prefixList", row.id.as_str(), &[])?;
        let tags = it.network.view().tags_on(it.account, row.id.as_str());
        let wire = to_wire(caller, &row, api::PrefixListState::DeleteComplete, tags);
        it.delete(Key::PrefixList(it.account, row.id.clone()));
        Ok(wire)
    });
    Ok(api::DeleteManagedPrefixListResult { prefix_list: Some(deleted.await?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> PrefixList {
        PrefixList {
            account: "111111111111".parse().unwrap(),
            id: "pl-00000001".parse().unwrap(),
            name: "offices".to_owned(),
            family: AddressFamily::Ipv4,
            max_entries: 2,
            version: 7,
            is_modified: false,
            is_restored: false,
            earlier: vec![],
            entries: vec![],
        }
    }

    fn change(added: &[&str], removed: &[&str]) -> api::ModifyManagedPrefixListRequest {
        let cidr = |text: &&str| Some((*text).to_owned());
        let added =
            added.iter().map(|it| api::AddPrefixListEntry { cidr: cidr(it), description: None });
        let removed = removed.iter().map(|it| api::RemovePrefixListEntry { cidr: cidr(it) });
        api::ModifyManagedPrefixListRequest {
            add_entries: Some(added.collect()),
            remove_entries: Some(removed.collect()),
            ..api::ModifyManagedPrefixListRequest::default()
        }
    }

    #[test]
    fn a_version_of_before_comes_back_as_a_new_one() {
        let first = changed(&list(), &change(&["10.1.0.0/16"], &[])).unwrap();
        let second = changed(&first, &change(&["10.2.0.0/16"], &["10.1.0.0/16"])).unwrap();
        let back = restored(&second, 8, 9).unwrap();
        assert_eq!((back.version, &back.entries, back.is_restored), (10, &first.entries, true));
        assert_eq!(entries_of(&back, 9).unwrap(), &second.entries, "and what it replaced is kept");
        assert!(restored(&second, 7, 9).unwrap().entries.is_empty());
        let smaller = PrefixList { max_entries: 0, ..second.clone() };
        for (row, previous, current, code) in [
            (&second, 8, 8, "PrefixListVersionMismatch"),
            (&second, 6, 9, "InvalidParameterValue"),
            (&second, 10, 9, "InvalidParameterValue"),
            (&second, -1, 9, "InvalidParameterValue"),
            (&smaller, 8, 9, "PrefixListMaxEntriesExceeded"),
        ] {
            let refusal = restored(row, previous, current).unwrap_err();
            assert_eq!(refusal.worded().0, code, "{previous} {current}");
        }
    }

    #[test]
    fn versions_and_their_entries_are_kept_as_far_as_there_is_room() {
        let mut row = PrefixList { max_entries: 1_000, ..list() };
        for number in 0..15 {
            row = changed(&row, &change(&[&format!("10.{number}.0.0/16")], &[])).unwrap();
        }
        let kept: Vec<u64> = row.earlier.iter().map(|it| it.version).collect();
        assert_eq!(kept, (12..22).collect::<Vec<u64>>());
        let entry = row.entries[0].clone();
        row.entries = vec![entry; 900];
        for number in 0..3 {
            row = changed(&row, &change(&[&format!("10.2{number}.0.0/16")], &[])).unwrap();
        }
        assert_eq!(row.earlier.len(), 2, "of nine hundred entries each");
    }

    #[test]
    fn a_version_is_one_state_of_the_entries() {
        let first = changed(&list(), &change(&["10.1.2.3/16", "10.2.0.0/16"], &[])).unwrap();
        let texts: Vec<String> = first.entries.iter().map(|it| text_of(&it.network)).collect();
        assert_eq!((first.version, texts), (8, vec!["10.1.0.0/16".into(), "10.2.0.0/16".into()]));
        let next = changed(&first, &change(&["10.3.0.0/16"], &["10.1.0.0/16"])).unwrap();
        assert_eq!((next.version, next.entries.len()), (9, 2));
        let renamed = api::ModifyManagedPrefixListRequest {
            prefix_list_name: Some("homes".to_owned()),
            max_entries: Some(3),
            ..api::ModifyManagedPrefixListRequest::default()
        };
        let renamed = changed(&next, &renamed).unwrap();
        assert_eq!((renamed.version, renamed.name.as_str(), renamed.max_entries), (9, "homes", 3));
        for (refused, code) in [
            (change(&["10.2.0.0/16"], &[]), "InvalidPrefixListModification"),
            (change(&[], &["10.9.0.0/16"]), "InvalidPrefixListModification"),
            (change(&["10.2.0.0/16"], &["10.2.0.0/16"]), "InvalidPrefixListModification"),
            (change(&["10.9.0.0/16"], &[]), "PrefixListMaxEntriesExceeded"),
            (change(&["::/0"], &[]), "InvalidParameterValue"),
            (change(&["10.0.0.0/8"; 101], &[]), "InvalidParameterValue"),
        ] {
            assert_eq!(changed(&first, &refused).unwrap_err().worded().0, code, "{refused:?}");
        }
        let small = api::ModifyManagedPrefixListRequest {
            max_entries: Some(1),
            ..api::ModifyManagedPrefixListRequest::default()
        };
        assert!(changed(&first, &small).is_err());
    }
}
