//! What a principal may by policies of its own, kept for the next time that it asks.
//!
//! It is put together from the rows of the user or role, its groups and policies, with every name that answers and logs
//! need. Requests come far more often than those rows are written, so it is kept.
//!
//! **Invariant:** what is kept was made from the very tables that a view has; a write to any of them lets go of it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use longshore_types::AccountId;
use model::{Grants, IamAccount, IamGroup, IamPolicy, IamRole, IamUser, Table, TheAccount, View};
use policy::{KeyMask, Policy, PolicyKind, PolicySet};

use super::policy_of;
use crate::access::NODE_POLICY;

/// Principals whose standing is kept; beyond it they are gathered anew.
const KEPT_MAX: usize = 1_024;

/// As the password policy calls what all users of an account may do then.
const OWN_PASSWORD_NAME: &str = "AllowUsersToChangePassword";

/// ChangePassword is about whoever calls it, and nobody else.
static OWN_PASSWORD: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    const TEXT: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
        "Action":["iam:ChangePassword","iam:GetAccountPasswordPolicy"],"Resource":"*"}]}"#;
    let read = Policy::parse(TEXT, PolicyKind::Identity);
    Arc::new(read.expect("the policy is one"))
});

/// What a policy is called in answers and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyName {
    Managed(Arc<str>),
    /// Of the user, group or role that it is in.
    Inline {
        owner: String,
        name: String,
    },
}

/// The policies of a principal, and what they are called.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    set: PolicySet,
    names: Vec<PolicyName>,
    boundary: Option<Arc<str>>,
    key_mask: KeyMask,
}

impl Standing {
    pub(super) fn new(
        policies: Vec<(PolicyName, Arc<Policy>)>,
        boundary: Option<(Arc<str>, Arc<Policy>)>,
    ) -> Self {
        let (names, identity) = policies.into_iter().unzip();
        let (boundary, limit) = boundary.unzip();
        let set = PolicySet::new(identity, limit);
        Self { key_mask: set.key_mask(), set, names, boundary }
    }

    /// Of a user by a key of its own.
    pub(super) fn of_user(view: &View, row: &IamUser) -> Self {
        let mut policies = of_user(view, row);
        policies.extend(of_account(view, row.account));
        Self::new(policies, limit(view, row.boundary.as_ref()))
    }

    /// Of somebody to whom a user lends what it may.
    pub(super) fn lent_by(view: &View, row: &IamUser) -> Self {
        Self::new(of_user(view, row), limit(view, row.boundary.as_ref()))
    }

    pub(super) fn of_role(view: &View, row: &IamRole) -> Self {
        let policies = of_grants(view, &row.arn(), &row.grants).collect();
        Self::new(policies, limit(view, row.boundary.as_ref()))
    }

    /// Of whoever has a managed policy and nothing else.
    pub(super) fn by_managed(view: &View, arn: &str) -> Self {
        Self::new(managed(view, &arn.into()).into_iter().collect(), None)
    }

    pub fn set(&self) -> &PolicySet {
        &self.set
    }

    pub fn identity(&self) -> &[Arc<Policy>] {
        self.set.identity()
    }

    /// Of the identity policies, in their order.
    pub fn names(&self) -> &[PolicyName] {
        &self.names
    }

    /// What the boundary is called.
    pub fn boundary(&self) -> Option<&Arc<str>> {
        self.boundary.as_ref()
    }

    pub(super) fn key_mask(&self) -> KeyMask {
        self.key_mask
    }

    /// With another identity policy.
    #[must_use]
    pub fn with(&self, name: PolicyName, policy: Arc<Policy>) -> Self {
        let known = self.names.iter().cloned().zip(self.identity().iter().cloned());
        let boundary = self.boundary.clone().zip(self.set.boundary().cloned());
        Self::new(known.chain([(name, policy)]).collect(), boundary)
    }

    /// With a boundary in place of what it has.
    #[must_use]
    pub fn limited(&self, name: Arc<str>, boundary: Arc<Policy>) -> Self {
        let known = self.names.iter().cloned().zip(self.identity().iter().cloned());
        Self::new(known.collect(), Some((name, boundary)))
    }
}

fn of_user(view: &View, row: &IamUser) -> Vec<(PolicyName, Arc<Policy>)> {
    let mut policies: Vec<_> = of_grants(view, &row.arn(), &row.grants).collect();
    for group in &row.groups {
        if let Some(group) = view.iam_groups.get(row.account, group) {
            policies.extend(of_grants(view, &group.arn(), &group.grants));
        }
    }
    policies
}

/// What an account's password policy may allow all its users.
fn of_account(view: &View, account: AccountId) -> Option<(PolicyName, Arc<Policy>)> {
    let policy = view.iam_accounts.get(account, &TheAccount).and_then(|row| row.password_policy);
    policy.filter(|policy| policy.users_may_change)?;
    let owner = format!("arn:aws:iam::{account}:root");
    let name = PolicyName::Inline { owner, name: OWN_PASSWORD_NAME.to_owned() };
    Some((name, Arc::clone(&OWN_PASSWORD)))
}

fn of_grants(
    view: &View,
    owner: &str,
    grants: &Grants,
) -> impl Iterator<Item = (PolicyName, Arc<Policy>)> {
    let attached = grants.attached.iter().filter_map(|arn| managed(view, arn));
    let inline = grants.inline.iter().map(|(name, text)| {
        let name = PolicyName::Inline { owner: owner.to_owned(), name: name.clone() };
        (name, Arc::clone(text.policy()))
    });
    attached.chain(inline)
}

fn managed(view: &View, arn: &Arc<str>) -> Option<(PolicyName, Arc<Policy>)> {
    policy_of(view, arn).map(|policy| (PolicyName::Managed(Arc::clone(arn)), policy))
}

fn limit(view: &View, boundary: Option<&Arc<str>>) -> Option<(Arc<str>, Arc<Policy>)> {
    let arn = boundary?;
    // A boundary that is gone still limits: to nothing.
    Some((Arc::clone(arn), policy_of(view, arn).unwrap_or_else(nothing)))
}

/// In place of a policy that should limit and is not there.
pub(super) fn nothing() -> Arc<Policy> {
    const NOTHING: &str =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;
    let read = Policy::parse(NOTHING, PolicyKind::Identity);
    Arc::new(read.expect("the policy that denies all is one"))
}

/// Of hosts' agents, which no row tells of.
pub(super) fn of_nodes() -> Arc<Standing> {
    static OF_NODES: LazyLock<Arc<Standing>> =
        LazyLock::new(|| Arc::new(Standing::by_managed(&View::default(), NODE_POLICY)));
    Arc::clone(&OF_NODES)
}

/// The standings of those who asked lately.
#[derive(Debug, Default)]
pub(crate) struct Standings(RwLock<Kept>);

#[derive(Debug, Default)]
struct Kept {
    made_from: Option<Tables>,
    /// By unique id.
    known: BTreeMap<Arc<str>, Arc<Standing>>,
}

/// All that standings are made from.
#[derive(Debug)]
struct Tables {
    users: Table<IamUser>,
    groups: Table<IamGroup>,
    roles: Table<IamRole>,
    policies: Table<IamPolicy>,
    accounts: Table<IamAccount>,
}

impl Tables {
    fn of(view: &View) -> Self {
        Self {
            users: view.iam_users.clone(),
            groups: view.iam_groups.clone(),
            roles: view.iam_roles.clone(),
            policies: view.iam_policies.clone(),
            accounts: view.iam_accounts.clone(),
        }
    }

    fn are_of(&self, view: &View) -> bool {
        self.users.is_of(&view.iam_users)
            && self.groups.is_of(&view.iam_groups)
            && self.roles.is_of(&view.iam_roles)
            && self.policies.is_of(&view.iam_policies)
            && self.accounts.is_of(&view.iam_accounts)
    }
}

impl Standings {
    /// That of the principal with a unique id, made if it is not known.
    pub(super) fn find(
        &self,
        view: &View,
        unique_id: &Arc<str>,
        make: impl FnOnce() -> Standing,
    ) -> Arc<Standing> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if kept.made_from.as_ref().is_some_and(|tables| tables.are_of(view))
            && let Some(known) = kept.known.get(unique_id)
        {
            return Arc::clone(known);
        }
        drop(kept);
        let made = Arc::new(make());
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !kept.made_from.as_ref().is_some_and(|tables| tables.are_of(view)) {
            *kept = Kept { made_from: Some(Tables::of(view)), known: BTreeMap::new() };
        }
        if KEPT_MAX <= kept.known.len() {
            kept.known.clear();
        }
        kept.known.insert(Arc::clone(unique_id), Arc::clone(&made));
        made
    }
}
