//! Who names a prefix list: rules of security groups, and routes. A list counts there for as many as it may have
//! entries.

use std::collections::BTreeSet;

use longshore_types::{AccountId, PrefixListId, SecurityGroupId};
use model::network::{AddressFamily, PrefixList, RouteDestination, RouteTable};
use model::{Index, Key, RuleMatch, RulePeer, View, WholeGroup};

use crate::change::Change;
use crate::errors::Refusal;
use crate::groups::{GroupRefusal, make_changeable};
use crate::limits::{LIST_USERS_MAX, ROUTES_PER_TABLE_MAX, RULES_PER_DIRECTION_MAX};
use crate::refusal::NetworkRefusal;

/// For how many rules of which family a rule counts: whether of IPv6, and the number.
pub(crate) fn rule_weight(view: &View, account: AccountId, rule: &RuleMatch) -> (bool, usize) {
    match &rule.peer {
        RulePeer::Ipv4(_) | RulePeer::Group(_) | RulePeer::PeerGroup(_) => (false, 1),
        RulePeer::Ipv6(_) => (true, 1),
        // Of AWS's nobody has a row: they have no entries.
        RulePeer::List(id) => match view.prefix_lists.get(account, id) {
            Some(list) => (list.family == AddressFamily::Ipv6, weight(list)),
            None => (false, 1),
        },
    }
}

fn weight(list: &PrefixList) -> usize {
    usize::try_from(list.max_entries).unwrap_or(usize::MAX)
}

/// For how many routes those of a table count.
pub(crate) fn routes_weight(view: &View, table: &RouteTable) -> usize {
    let weights = table.routes.iter().map(|route| match &route.destination {
        RouteDestination::Block(_) => 1,
        RouteDestination::List(id) => {
            view.prefix_lists.get(table.account, id).map_or(1, |list| weight(list))
        }
    });
    weights.sum()
}

/// Whether `more` rules or routes may come to name a list.
pub(crate) fn check_room_for_user(
    view: &View,
    account: AccountId,
    list: &PrefixListId,
    more: usize,
) -> Result<(), Refusal> {
    let users = view.member_count(&Index::Ec2Uses(account, list.as_str().into()));
    if users + more > LIST_USERS_MAX {
        let (code, what) = ("PrefixListReferenceLimitExceeded", "references to a prefix list");
        return Err(NetworkRefusal::TooMany { code, what }.into());
    }
    Ok(())
}

fn groups_of(it: &Change<'_>, list: &PrefixListId) -> BTreeSet<SecurityGroupId> {
    let view = it.network.view();
    let rules = it.network.users(list.as_str()).filter_map(|key| {
        let Key::SecurityGroupRule(account, id) = key else { return None };
        view.security_group_rules.get(*account, id)
    });
    rules.map(|rule| rule.group.clone()).collect()
}

/// Has hosts be told anew of the groups that name a list, which reads its entries. Routes follow from the list's
/// row by themselves.
pub(super) fn tell_groups(it: &mut Change<'_>, list: &PrefixListId) {
    for id in groups_of(it, list) {
        let whole = it.network.view().security_group(it.account, &id);
        if let Some(whole) = whole {
            make_changeable(&mut it.batch, &whole);
        }
    }
}

/// Whether all that name a list have room for one as large as it is to be.
pub(super) fn check_users_have_room(it: &Change<'_>, after: &PrefixList) -> Result<(), Refusal> {
    let view = it.network.view();
    let is_it = |id: &PrefixListId| *id == after.id;
    for id in groups_of(it, &after.id) {
        let Some(whole) = view.security_group(it.account, &id) else { continue };
        for is_egress in [false, true] {
            if rules_weight(view, &whole, is_egress, after) > RULES_PER_DIRECTION_MAX {
                return Err(GroupRefusal::TooManyRules.into());
            }
        }
    }
    let tables = it.network.users(after.id.as_str()).filter_map(|key| {
        let Key::RouteTable(account, id) = key else { return None };
        view.route_tables.get(*account, id)
    });
    for table in tables {
        let (its, others): (Vec<_>, Vec<_>) = table.routes.iter().cloned().partition(
            |route| matches!(&route.destination, RouteDestination::List(id) if is_it(id)),
        );
        let others = RouteTable { routes: others, ..RouteTable::clone(table) };
        if routes_weight(view, &others) + its.len() * weight(after) > ROUTES_PER_TABLE_MAX {
            let (code, what) = ("RouteLimitExceeded", "routes of a route table");
            return Err(NetworkRefusal::TooMany { code, what }.into());
        }
    }
    Ok(())
}

/// Of the rules of the family of a list, which is to be as large as `after`.
fn rules_weight(view: &View, whole: &WholeGroup, is_egress: bool, after: &PrefixList) -> usize {
    let rules = whole.rules.iter().filter(|rule| rule.is_egress == is_egress);
    let weights = rules.map(|rule| match &rule.matches.peer {
        RulePeer::List(id) if *id == after.id => weight(after),
        RulePeer::Ipv4(_)
        | RulePeer::Ipv6(_)
        | RulePeer::Group(_)
        | RulePeer::PeerGroup(_)
        | RulePeer::List(_) => {
            let (is_six, weight) = rule_weight(view, whole.group.account, &rule.matches);
            if is_six == (after.family == AddressFamily::Ipv6) { weight } else { 0 }
        }
    });
    weights.sum()
}
