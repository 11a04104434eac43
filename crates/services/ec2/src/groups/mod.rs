//! Security groups: made, changed, described.
//!
//! A change is a decision over the group as a whole, its rules included; hosts learn of it by the rows.

mod authorize;
mod describe;
mod lifecycle;
mod modify;
mod permission;
mod refusal;
mod revoke;
mod wire;

pub(crate) use authorize::{authorize_security_group_egress, authorize_security_group_ingress};
pub(crate) use describe::{
    describe_security_group_rules, describe_security_groups, get_security_groups_for_vpc,
};
pub(crate) use lifecycle::{all_egress, create_security_group, delete_security_group};
pub(crate) use modify::{
    modify_security_group_rules, update_security_group_rule_descriptions_egress,
    update_security_group_rule_descriptions_ingress,
};
pub(crate) use permission::{range_4, range_6};
pub(crate) use refusal::GroupRefusal;
pub(crate) use revoke::{revoke_security_group_egress, revoke_security_group_ingress};
pub(crate) use wire::{in_words as rule_in_words, peer_pair, protocol_word};

use aws_wire::Caller;
use longshore_types::{AccountId, SecurityGroupId, VpcId};
use model::{Index, Key, SecurityGroup, View, WholeGroup};
use store::Batch;

use crate::Ec2;
use crate::errors::{Kind, Refusal};

/// How a request names a group: by its id, or in the default VPC by its name.
#[derive(Clone, Debug, Default)]
struct GroupRef {
    id: Option<String>,
    name: Option<String>,
}

impl GroupRef {
    fn new(id: Option<String>, name: Option<String>) -> Self {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self { id: given(id), name: given(name) }
    }

    /// What permissions are asked on. A group that is named by its name is known by its id only if it is there.
    fn arn(&self, ec2: &Ec2, caller: &Caller) -> String {
        let id = match (&self.id, &self.name) {
            (Some(id), _) => id.clone(),
            (None, Some(_)) => self
                .find(ec2, &ec2.control.view(), caller)
                .map_or_else(|_| "*".to_owned(), |whole| whole.group.id.to_string()),
            (None, None) => "*".to_owned(),
        };
        arn(caller, "security-group", &id)
    }

    fn find(&self, ec2: &Ec2, view: &View, caller: &Caller) -> Result<WholeGroup, Refusal> {
        let account = caller.account;
        match (&self.id, &self.name) {
            (Some(id), _) => group_by_id(view, account, id),
            (None, Some(name)) => {
                let vpc = default_vpc(ec2, view, caller)?;
                let missing = || {
                    Refusal::Group(GroupRefusal::NameMissing {
                        name: name.clone(),
                        vpc: vpc.to_string(),
                    })
                };
                let found = by_name(view, account, &vpc, name).ok_or_else(missing)?;
                view.security_group(account, &found.id).ok_or_else(missing)
            }
            (None, None) => Err(Refusal::OneOf("groupName", "groupId")),
        }
    }
}

pub(crate) fn group_by_id(
    view: &View,
    account: AccountId,
    id: &str,
) -> Result<WholeGroup, Refusal> {
    let parsed: SecurityGroupId =
        id.parse().map_err(|_| Refusal::Malformed(Kind::SecurityGroup, id.to_owned()))?;
    let found = view.security_group(account, &parsed);
    found.ok_or_else(|| Refusal::Missing(Kind::SecurityGroup, id.to_owned()))
}

fn default_vpc(ec2: &Ec2, view: &View, caller: &Caller) -> Result<VpcId, Refusal> {
    let default = ec2.control.network(view, caller.account).default_vpc();
    default.map(|vpc| vpc.id.clone()).ok_or(Refusal::NoDefaultVpc)
}

/// Names differ in more than the case of their letters.
fn by_name(view: &View, account: AccountId, vpc: &VpcId, name: &str) -> Option<SecurityGroup> {
    let groups = view.security_groups_of(account).into_iter();
    groups.into_iter().find(|it| it.vpc == *vpc && it.name.eq_ignore_ascii_case(name))
}

fn arn(caller: &Caller, kind: &str, id: &str) -> String {
    format!("arn:aws:ec2:{}:{}:{kind}/{id}", caller.region, caller.account)
}

/// Begins a change of a group's rules: relies on all that was read of it, says by its row that they change, and
/// puts a group that was only derived into rows, with its rules.
pub(crate) fn make_changeable(batch: &mut Batch, whole: &WholeGroup) {
    let (account, id) = (whole.group.account, &whole.group.id);
    batch.rely(Key::SecurityGroup(account, id.clone()));
    batch.rely(Index::GroupRules(account, id.clone()));
    let revision = whole.group.revision + 1;
    batch.put(SecurityGroup { revision, ..whole.group.clone() });
    if !whole.is_stored {
        for rule in &whole.rules {
            batch.put(rule.clone());
        }
    }
}

#[cfg(test)]
mod tests;
