//! Managed prefix lists: made, changed, described, deleted; and those of AWS, which are known here by their names
//! and have no entries: none of what they are about is in this region.
//!
//! **Invariant:** whoever names a list has room for as many rules or routes as it may have entries.

mod change;
mod describe;
mod users;

use std::sync::Arc;

use aws_wire::Caller;
use ec2_api as api;
use longshore_types::{AccountId, PrefixListId, RegionName};
use model::network::{AclNetwork, AddressFamily, GATEWAY_SERVICES, PrefixEntry, PrefixList};
use model::{Key, Tags, View};

use crate::change::{Change, arn, id_of};
use crate::errors::{Kind, Refusal};
use crate::groups::{range_4, range_6};
use crate::refusal::NetworkRefusal;
use crate::tags;

pub(crate) use change::{
    create_managed_prefix_list, delete_managed_prefix_list, modify_managed_prefix_list,
    restore_managed_prefix_list_version,
};
pub(crate) use describe::{
    describe_managed_prefix_lists, describe_prefix_lists, get_managed_prefix_list_associations,
    get_managed_prefix_list_entries,
};
pub(crate) use users::{check_room_for_user, routes_weight, rule_weight};

/// A list of AWS's: rules may name it.
pub(crate) struct OfAws {
    pub(crate) id: &'static str,
    service: &'static str,
}

const DYNAMODB: (&str, &str) = GATEWAY_SERVICES[0];
const S3: (&str, &str) = GATEWAY_SERVICES[1];
const OF_AWS: [OfAws; 3] = [
    OfAws { id: DYNAMODB.1, service: DYNAMODB.0 },
    OfAws { id: "pl-3b927c52", service: "cloudfront.origin-facing" },
    OfAws { id: S3.1, service: S3.0 },
];

impl OfAws {
    fn name(&self, region: &RegionName) -> String {
        let region = match self.service {
            "cloudfront.origin-facing" => "global",
            _ => region.as_str(),
        };
        format!("com.amazonaws.{region}.{}", self.service)
    }
}

/// The list of AWS's with an id.
pub(crate) fn of_aws(id: &str) -> Option<&'static OfAws> {
    OF_AWS.iter().find(|list| list.id == id)
}

/// A list's id that a rule names: one of the account's, or of AWS's.
pub(crate) fn named(view: &View, account: AccountId, given: &str) -> Result<PrefixListId, Refusal> {
    let id: PrefixListId = id_of(Kind::PrefixList, "prefixListId", Some(given))?;
    let is_there = view.prefix_lists.get(account, &id).is_some() || of_aws(given).is_some();
    if is_there { Ok(id) } else { Err(Refusal::Missing(Kind::PrefixList, given.to_owned())) }
}

/// A list of the account's that a request is about.
pub(crate) fn find(it: &mut Change<'_>, given: Option<&str>) -> Result<Arc<PrefixList>, Refusal> {
    if let Some(list) = given.and_then(of_aws) {
        return Err(NetworkRefusal::ListOfAws(list.id.to_owned()).into());
    }
    let id: PrefixListId = id_of(Kind::PrefixList, "prefixListId", given)?;
    let row = it.network.view().prefix_lists.get(it.account, &id);
    let row = row.ok_or_else(|| Kind::PrefixList.refused()(id.as_str()))?.clone();
    it.batch.rely(Key::PrefixList(it.account, id));
    Ok(row)
}

/// A block of a list's family.
fn block(family: AddressFamily, given: Option<&str>) -> Result<AclNetwork, Refusal> {
    let given = given.filter(|given| !given.is_empty()).ok_or(Refusal::Parameter("cidr"))?;
    match family {
        AddressFamily::Ipv4 => range_4(given).map(AclNetwork::Ipv4),
        AddressFamily::Ipv6 => range_6(given).map(AclNetwork::Ipv6),
    }
}

fn text_of(network: &AclNetwork) -> String {
    match network {
        AclNetwork::Ipv4(block) => block.to_string(),
        AclNetwork::Ipv6(block) => block.clone(),
    }
}

fn entry_to_wire(entry: &PrefixEntry) -> api::PrefixListEntry {
    api::PrefixListEntry {
        cidr: Some(text_of(&entry.network)),
        description: entry.description.clone(),
    }
}

fn to_wire(
    caller: &Caller,
    row: &PrefixList,
    state: api::PrefixListState,
    tags: Option<&Tags>,
) -> api::ManagedPrefixList {
    api::ManagedPrefixList {
        prefix_list_id: Some(row.id.to_string()),
        address_family: Some(row.family.to_string()),
        state: Some(state),
        prefix_list_arn: Some(arn(caller, "prefix-list", row.id.as_str())),
        prefix_list_name: Some(row.name.clone()),
        max_entries: i32::try_from(row.max_entries).ok(),
        version: i64::try_from(row.version).ok(),
        tags: Some(tags::to_wire(tags)),
        owner_id: Some(row.account.to_string()),
        ..api::ManagedPrefixList::default()
    }
}

/// As a list is shown that nobody changes now.
fn state_of(row: &PrefixList) -> api::PrefixListState {
    match (row.is_restored, row.is_modified) {
        (true, _) => api::PrefixListState::RestoreComplete,
        (false, true) => api::PrefixListState::ModifyComplete,
        (false, false) => api::PrefixListState::CreateComplete,
    }
}

/// The entries of a list in one of its versions, of now or of before.
fn entries_of(row: &PrefixList, version: i64) -> Result<&[PrefixEntry], Refusal> {
    let given = u64::try_from(version).ok();
    if given == Some(row.version) {
        return Ok(&row.entries);
    }
    let earlier = row.earlier.iter().find(|earlier| given == Some(earlier.version));
    earlier.map(|earlier| earlier.entries.as_slice()).ok_or_else(|| {
        let kept: Vec<String> = row.earlier.iter().map(|it| it.version.to_string()).collect();
        Refusal::Value(format!(
            "Version {version} of the prefix list {} is not available: it is at version {}, and of those before it has [{}].",
            row.id, row.version, kept.join(", ")
        ))
    })
}
