//! Who a caller is to policies, and which policies concern it.
//!
//! Everything is read from the view that is decided on: what was written is in force with the next request.

pub mod access_keys;
pub mod assume;
mod by_service;
pub mod guesses;
pub mod linked;
pub mod managed;
pub mod managed_instances;
pub mod mfa;
pub mod node_keys;
mod resource_policies;
pub mod session;
mod standing;
mod subject;
mod tagged;

pub use access_keys::{KeyUse, KeyUses};
pub use assume::{Assumption, CannotAssume};
pub use by_service::ByService;
pub(crate) use resource_policies::may_have_policies;
pub use resource_policies::resource_policies_of;
pub use session::Credentials;
pub(crate) use standing::Standings;
pub use standing::{PolicyName, Standing};
pub use subject::Subject;
pub use tagged::tags_of;

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_types::AccountId;
use model::{IamPolicy, IamRole, IamUser, Index, Key, NameKey, View};
use policy::{Policy, Principal};

/// The managed policy of an ARN, Amazon's or an account's own.
pub fn policy_of(view: &View, arn: &str) -> Option<Arc<Policy>> {
    if let Some(known) = managed::find(arn) {
        return Some(Arc::clone(known.policy()));
    }
    own_policy(view, arn)?.applied().map(|text| Arc::clone(text.policy()))
}

/// The row of a customer managed policy.
pub fn own_policy<'a>(view: &'a View, arn: &str) -> Option<&'a Arc<IamPolicy>> {
    let (account, name) = account_and_name(arn, "policy")?;
    view.iam_policies.get(account, &NameKey::of(name)).filter(|row| row.arn() == arn)
}

/// The role of an ARN, whose path must be right too.
pub fn role_of<'a>(view: &'a View, arn: &str) -> Option<&'a Arc<IamRole>> {
    let (account, name) = account_and_name(arn, "role")?;
    view.iam_roles.get(account, &NameKey::of(name)).filter(|row| row.arn() == arn)
}

/// The user of an ARN, whose path must be right too.
pub fn user_of<'a>(view: &'a View, arn: &str) -> Option<&'a Arc<IamUser>> {
    let (account, name) = account_and_name(arn, "user")?;
    view.iam_users.get(account, &NameKey::of(name)).filter(|row| row.arn() == arn)
}

/// A user or role, by what is never used twice.
#[derive(Clone, Copy, Debug)]
pub enum Entity<'a> {
    User(&'a Arc<IamUser>),
    Role(&'a Arc<IamRole>),
}

impl Entity<'_> {
    pub fn arn(&self) -> String {
        match self {
            Self::User(row) => row.arn(),
            Self::Role(row) => row.arn(),
        }
    }
}

/// Who has a unique id.
pub fn entity_of<'a>(view: &'a View, unique_id: &str) -> Option<Entity<'a>> {
    view.members(&Index::IamUniqueId(unique_id.into())).find_map(|key| match key {
        Key::IamUser(account, id) => view.iam_users.get(*account, id).map(Entity::User),
        Key::IamRole(account, id) => view.iam_roles.get(*account, id).map(Entity::Role),
        _ => None,
    })
}

/// The unique ids of the users and roles that a policy names by ARN: it will mean those. The first of them that is not
/// there is the error.
pub fn principals_of(view: &View, policy: &Policy) -> Result<BTreeMap<String, String>, String> {
    let mut principals = BTreeMap::new();
    for named in policy.statements().iter().flat_map(|statement| statement.principals()) {
        match named {
            Principal::Arn(arn) if arn.starts_with("arn:aws:iam:") => {
                let id = role_of(view, arn).map(|row| &row.unique_id);
                let id = id.or_else(|| user_of(view, arn).map(|row| &row.unique_id));
                let id = id.ok_or_else(|| arn.to_string())?;
                principals.insert(arn.to_string(), id.to_string());
            }
            Principal::UniqueId(id) if entity_of(view, id).is_none() => {
                return Err(id.to_string());
            }
            Principal::Arn(_)
            | Principal::UniqueId(_)
            | Principal::Everyone
            | Principal::Account(_)
            | Principal::CanonicalUser(_)
            | Principal::Federated(_)
            | Principal::Service(_) => {}
        }
    }
    Ok(principals)
}

/// `arn:aws:iam::111122223333:role/path/name`
fn account_and_name<'a>(arn: &'a str, kind: &str) -> Option<(AccountId, &'a str)> {
    let (account, rest) = arn.strip_prefix("arn:aws:iam::")?.split_once(':')?;
    let name = rest.strip_prefix(kind)?.strip_prefix('/')?;
    Some((account.parse().ok()?, name.rsplit('/').next().unwrap_or(name)))
}
