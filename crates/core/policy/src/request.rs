//! A request as policies see it: who asks, for what, on what, and under which circumstances.

use std::str::FromStr;

use longshore_types::AccountId;

use crate::context::Contexts;

/// An operation of a service, such as `ecs:RunTask`. Policies name it in whatever case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    text: Box<str>,
    /// In lower case, both.
    service: Box<str>,
    name: Box<str>,
    mask: ServiceMask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an action is a service, a colon and a name, such as ecs:RunTask")]
pub struct NotAnAction;

impl FromStr for Action {
    type Err = NotAnAction;

    fn from_str(text: &str) -> Result<Self, NotAnAction> {
        let (service, name) = text.split_once(':').ok_or(NotAnAction)?;
        if service.is_empty() || name.is_empty() || name.contains([':', '*', '?']) {
            return Err(NotAnAction);
        }
        let service = service.to_ascii_lowercase();
        Ok(Self {
            text: text.into(),
            mask: ServiceMask::of(&service),
            service: service.into(),
            name: name.to_ascii_lowercase().into(),
        })
    }
}

impl Action {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn mask(&self) -> ServiceMask {
        self.mask
    }
}

/// Which services something concerns, as bits of their names: what shares none is passed over at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceMask(u64);

impl ServiceMask {
    pub(crate) const ALL: Self = Self(u64::MAX);

    /// Of a name in lower case.
    pub(crate) fn of(service: &str) -> Self {
        let hash = service.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The last letters of short names reach the upper bits by this only.
        let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(1 << (mixed >> 58))
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The account itself.
    Root(AccountId),
    /// A user, by key or by a session of GetSessionToken.
    User {
        account: AccountId,
        arn: Box<str>,
        id: Box<str>,
    },
    /// A session of a role: `arn` is the session's.
    RoleSession {
        account: AccountId,
        arn: Box<str>,
        role_arn: Box<str>,
        role_id: Box<str>,
    },
    /// A session of GetFederationToken: `arn` is the session's, the user is who called it.
    FederatedUser {
        account: AccountId,
        arn: Box<str>,
        user_arn: Box<str>,
        user_id: Box<str>,
    },
    /// A service by itself, such as `ecs-tasks.amazonaws.com`.
    Service(Box<str>),
    /// Somebody whom an identity provider vouches for, by the provider's ARN.
    WebIdentity {
        provider: Box<str>,
    },
    Anonymous,
}

impl Caller {
    /// The account whose policies speak for the caller; services and strangers have none.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Self::Root(account)
            | Self::User { account, .. }
            | Self::RoleSession { account, .. }
            | Self::FederatedUser { account, .. } => Some(*account),
            Self::Service(_) | Self::WebIdentity { .. } | Self::Anonymous => None,
        }
    }
}

/// One action on one resource. An operation that concerns several is one request for each, and allowed
/// if all are: [`crate::strictest`].
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub caller: &'a Caller,
    pub action: &'a Action,
    /// The resource's ARN, or `*` for an operation that has none.
    pub resource: &'a str,
    /// Who owns the resource; `None` is the caller's own account.
    pub resource_account: Option<AccountId>,
    pub context: Contexts<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_that_people_use_most_are_told_apart() {
        let names = ["ecs", "ecr", "ec2", "iam", "sts", "kms", "ssm", "sqs", "sns", "s3", "logs"];
        let told: std::collections::BTreeSet<u64> =
            names.iter().map(|name| ServiceMask::of(name).0).collect();
        assert!(told.len() + 1 >= names.len(), "{} of {}", told.len(), names.len());
        assert_eq!(ServiceMask::of("ecs").0 & ServiceMask::of("ecr").0, 0);
    }
}
