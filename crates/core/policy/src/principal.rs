//! Whom a resource or trust policy speaks of, and how far its word carries.

use longshore_types::AccountId;

use crate::malformed::Fault;
use crate::request::Caller;

/// Somebody whom a policy names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Principal {
    /// `*`: whoever it is, strangers too.
    Everyone,
    /// An account, which passes the permission on to its own policies.
    Account(AccountId),
    /// A user, a role or a session of one, by ARN.
    Arn(Box<str>),
    /// A user or role by unique id: what IAM keeps of ARNs in trust policies.
    UniqueId(Box<str>),
    CanonicalUser(Box<str>),
    Federated(Box<str>),
    Service(Box<str>),
}

/// What it is worth to be named, within one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grant {
    /// The account is named: its identity policies must allow it too.
    Delegated,
    /// The role of a session is named: no identity policy is needed, boundary and session policy limit.
    Limited,
    /// The caller itself is named, or everyone: nothing else is needed.
    Full,
}

impl Principal {
    /// Reads `value` under `kind`, one of the keys of a `Principal` element.
    pub(crate) fn parse(kind: &str, value: &str) -> Result<Self, Fault> {
        let refuse = || Fault::InvalidPrincipal {
            kind: if kind == "AWS" { kind.to_owned() } else { kind.to_uppercase() },
            value: value.to_owned(),
        };
        let is_odd = value.is_empty() || value.contains(['*', '?', '"', ' ']);
        match kind {
            "AWS" if value == "*" => Ok(Self::Everyone),
            "AWS" => aws(value).ok_or_else(refuse),
            "Service" if !is_odd && value.contains('.') => Ok(Self::Service(value.into())),
            "Federated" if !is_odd => Ok(Self::Federated(value.into())),
            "CanonicalUser" if !is_odd => Ok(Self::CanonicalUser(value.into())),
            _ => Err(refuse()),
        }
    }

    /// The key that it stands under, and its text.
    pub fn wire(&self) -> (&'static str, String) {
        match self {
            Self::Everyone => ("AWS", "*".to_owned()),
            Self::Account(account) => ("AWS", format!("arn:aws:iam::{account}:root")),
            Self::Arn(text) | Self::UniqueId(text) => ("AWS", text.to_string()),
            Self::CanonicalUser(text) => ("CanonicalUser", text.to_string()),
            Self::Federated(text) => ("Federated", text.to_string()),
            Self::Service(text) => ("Service", text.to_string()),
        }
    }

    pub(crate) fn grants(&self, caller: &Caller) -> Option<Grant> {
        let when = |is_so: bool, grant| is_so.then_some(grant);
        match self {
            Self::Everyone => Some(Grant::Full),
            Self::Account(account) => when(caller.account() == Some(*account), Grant::Delegated),
            Self::Arn(named) => match caller {
                Caller::User { arn, .. } => when(arn == named, Grant::Full),
                Caller::RoleSession { arn, role_arn: of, .. }
                | Caller::FederatedUser { arn, user_arn: of, .. } => {
                    when(arn == named, Grant::Full).or(when(of == named, Grant::Limited))
                }
                Caller::Root(_)
                | Caller::Service(_)
                | Caller::WebIdentity { .. }
                | Caller::Anonymous => None,
            },
            Self::UniqueId(named) => match caller {
                Caller::User { id, .. } => when(id == named, Grant::Full),
                Caller::RoleSession { role_id: id, .. }
                | Caller::FederatedUser { user_id: id, .. } => when(id == named, Grant::Limited),
                Caller::Root(_)
                | Caller::Service(_)
                | Caller::WebIdentity { .. }
                | Caller::Anonymous => None,
            },
            Self::Service(named) => match caller {
                Caller::Service(name) => when(name == named, Grant::Full),
                Caller::Root(_)
                | Caller::User { .. }
                | Caller::RoleSession { .. }
                | Caller::FederatedUser { .. }
                | Caller::WebIdentity { .. }
                | Caller::Anonymous => None,
            },
            Self::Federated(named) => match caller {
                Caller::WebIdentity { provider } => when(provider == named, Grant::Full),
                Caller::Root(_)
                | Caller::User { .. }
                | Caller::RoleSession { .. }
                | Caller::FederatedUser { .. }
                | Caller::Service(_)
                | Caller::Anonymous => None,
            },
            Self::CanonicalUser(_) => None,
        }
    }
}

fn aws(value: &str) -> Option<Principal> {
    if let Ok(account) = value.parse() {
        return Some(Principal::Account(account));
    }
    let is_id = |text: &str| {
        (16..=128).contains(&text.len())
            && text.starts_with('A')
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    if is_id(value) {
        return Some(Principal::UniqueId(value.into()));
    }
    let fields: Vec<&str> = value.splitn(6, ':').collect();
    let ["arn", "aws", service, "", account, resource] = fields.as_slice() else { return None };
    let account: AccountId = account.parse().ok()?;
    let is_odd = |c: char| c.is_whitespace() || matches!(c, '*' | '?' | '"' | ':');
    if resource.contains(is_odd) {
        return None;
    }
    let is_named = |kind: &str| {
        let name = resource.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/'));
        name.is_some_and(|name| !name.is_empty() && !name.ends_with('/'))
    };
    match *service {
        "iam" if *resource == "root" => Some(Principal::Account(account)),
        "iam" if is_named("user") || is_named("role") => Some(Principal::Arn(value.into())),
        "sts" if is_named("assumed-role") || is_named("federated-user") => {
            Some(Principal::Arn(value.into()))
        }
        _ => None,
    }
}

/// A statement's `Principal` or `NotPrincipal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principals {
    Named(Vec<Principal>),
    NotNamed(Vec<Principal>),
}

impl Principals {
    /// For an Allow: what the caller is granted.
    pub(crate) fn allows(&self, caller: &Caller) -> Option<Grant> {
        match self {
            Self::Named(names) => names.iter().filter_map(|name| name.grants(caller)).max(),
            // Whoever is named in any way is left out.
            Self::NotNamed(names) => {
                let is_named = names.iter().any(|name| name.grants(caller).is_some());
                (!is_named).then_some(Grant::Full)
            }
        }
    }

    /// For a Deny: whether it concerns the caller.
    pub(crate) fn denies(&self, caller: &Caller) -> bool {
        match self {
            Self::Named(names) => names.iter().any(|name| name.grants(caller).is_some()),
            Self::NotNamed(names) => !spares(names, caller),
        }
    }

    pub(crate) fn names(&self) -> &[Principal] {
        match self {
            Self::Named(names) | Self::NotNamed(names) => names,
        }
    }
}

/// To be spared by a Deny with `NotPrincipal`, all that a caller is must be listed: session, role and account.
fn spares(names: &[Principal], caller: &Caller) -> bool {
    if names.contains(&Principal::Everyone) {
        return true;
    }
    let has = |grant: Grant| names.iter().any(|name| name.grants(caller) == Some(grant));
    match caller {
        Caller::Root(_) => has(Grant::Delegated),
        Caller::User { .. } | Caller::FederatedUser { .. } => {
            has(Grant::Full) && has(Grant::Delegated)
        }
        Caller::RoleSession { .. } => {
            has(Grant::Full) && has(Grant::Limited) && has(Grant::Delegated)
        }
        Caller::Service(_) | Caller::WebIdentity { .. } => has(Grant::Full),
        Caller::Anonymous => false,
    }
}
