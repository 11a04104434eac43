//! Managed instances of Systems Manager: hosts that joined by an activation, and the role whose permissions they have.
//!
//! Their rows are kept with those of all hosts, under the region's first account; whose they are, the row says.

use std::sync::Arc;

use longshore_types::{AccountId, RegionName, Timestamp, Token};
use model::{IamRole, Instance, Managed, NameKey, Node, View};
use sha2::{Digest as _, Sha256};

use super::assume::{Assumption, CannotAssume};
use super::node_keys;
use crate::{Config, Control};

/// Who assumes such a role.
pub const SERVICE: &str = "ssm.amazonaws.com";

/// How an account's managed instance is called in policies.
pub fn arn(region: &RegionName, account: AccountId, id: &str) -> String {
    format!("arn:aws:ssm:{region}:{account}:managed-instance/{id}")
}

/// The managed instances of an account.
pub fn of(view: &View, account: AccountId) -> impl Iterator<Item = (&Arc<Node>, &Managed)> {
    let all = view.nodes.of(Config::root_account());
    let managed = all.filter_map(|node| Some((node, node.managed.as_ref()?)));
    managed.filter(move |(_, managed)| managed.account == account)
}

/// The one with this id, of the account that asks.
pub fn find<'v>(
    view: &'v View,
    account: AccountId,
    id: &str,
) -> Option<(&'v Arc<Node>, &'v Managed)> {
    of(view, account).find(|(_, managed)| *managed.id == *id)
}

/// The role that is meant by a name, with a path before it or without.
pub fn role<'v>(view: &'v View, account: AccountId, given: &str) -> Option<&'v Arc<IamRole>> {
    let name = given.rsplit('/').next().unwrap_or(given);
    view.iam_roles.get(account, &NameKey::of(name))
}

/// What proves an activation, as its row has it.
pub fn code_hash(code: &Token) -> String {
    Sha256::digest(code.reveal()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Control {
    /// Whether an instance is of a host that joined and was taken out since, or may have its role no more: its keys are
    /// over, and so is what was begun with them.
    pub fn is_host_gone(&self, instance: &Instance) -> bool {
        let view = self.view();
        let Some(holder) = instance.access_key.as_deref().filter(|it| node_keys::is_holder(it))
        else {
            return false;
        };
        let Some(node) = node_keys::node_of_holder(&view, holder) else { return true };
        let now = self.clock.now();
        node.managed.as_ref().is_some_and(|managed| {
            self.check_instance_role(&view, managed.account, &managed.role, now).is_err()
        })
    }

    /// Why instances cannot have a role, if they cannot: Systems Manager assumes it for them.
    pub fn check_instance_role(
        &self,
        view: &View,
        account: AccountId,
        given: &str,
        now: Timestamp,
    ) -> Result<(), CannotAssume> {
        let row = role(view, account, given).ok_or(CannotAssume::Absent)?;
        let asked = Assumption {
            role: &row.arn(),
            service: SERVICE,
            source: &arn(&self.config.region, account, "*"),
            source_account: account,
            session_name: "instance",
            lasts_ms: 0,
        };
        self.assumable(view, &asked, now).map(drop)
    }
}
