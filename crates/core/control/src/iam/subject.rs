//! A caller as policies see it: who it is, the policies that concern it, and the condition keys that every
//! request of it has.

use std::sync::{Arc, LazyLock};

use aws_wire::{Caller, Principal, Session};
use longshore_types::{AccountId, Timestamp};
use model::{Grants, IamRole, IamUser, TheAccount, View};
use policy::{Context, Policies, Policy, PolicyKind, ResourceKind};

use super::{Entity, entity_of, policy_of};
use crate::access::{NODE_POLICY, principal_arn};

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

/// Who asks, with all that is asked of policies about it.
#[derive(Clone, Debug)]
pub struct Subject {
    pub caller: policy::Caller,
    /// Of a user: its name, for the messages about what it may not do.
    pub user_name: Option<Arc<str>>,
    /// As in `aws:userid`.
    pub user_id: String,
    pub identity: Vec<Arc<Policy>>,
    /// Of the identity policies, in their order.
    pub names: Vec<PolicyName>,
    pub boundary: Option<(Arc<str>, Arc<Policy>)>,
    pub session: Option<Vec<Arc<Policy>>>,
    /// The condition keys that say who asks.
    pub context: Context,
}

impl Subject {
    /// `None` for callers that no policies speak of.
    pub fn of(view: &View, caller: &Caller) -> Option<Self> {
        let mut subject = match &caller.principal {
            Principal::Root => Self::root(caller.account),
            Principal::User { id, .. } => match entity_of(view, id)? {
                Entity::User(row) => Self::user(view, row),
                Entity::Role(_) => return None,
            },
            Principal::Role { id, session, .. } => match entity_of(view, id)? {
                Entity::Role(row) => Self::session(view, row, session),
                Entity::User(_) => return None,
            },
            Principal::Federated { name, user } => {
                let user = match user {
                    Some((_, id)) => match entity_of(view, id)? {
                        Entity::User(row) => Some(row),
                        Entity::Role(_) => return None,
                    },
                    None => None,
                };
                Self::federated(view, caller.account, name, user.map(|row| &**row))
            }
            Principal::Node { .. } => Self::node(view, caller),
            Principal::Anonymous => return None,
        };
        if let Some(session) = &caller.session {
            subject.pass(view, session, caller.now);
        }
        subject.circumstances(caller);
        Some(subject)
    }

    /// A host's agent, which no row tells of.
    fn node(view: &View, caller: &Caller) -> Self {
        let (account, arn) = (caller.account, principal_arn(caller));
        let id: Box<str> = caller.access_key.as_str().into();
        let known = policy::Caller::User { account, arn: arn.as_str().into(), id };
        let mut subject = Self::named(known, caller.access_key.clone());
        subject.set("aws:PrincipalType", "User");
        subject.set("aws:PrincipalArn", arn);
        subject.set("aws:PrincipalAccount", account.to_string());
        subject.take_managed(view, &NODE_POLICY.into());
        subject
    }

    fn root(account: AccountId) -> Self {
        let mut subject = Self::named(policy::Caller::Root(account), account.to_string());
        subject.set("aws:PrincipalType", "Account");
        subject.set("aws:PrincipalArn", format!("arn:aws:iam::{account}:root"));
        subject.set("aws:PrincipalAccount", account.to_string());
        subject
    }

    /// A user by a key of its own.
    pub fn user(view: &View, row: &IamUser) -> Self {
        let (account, arn) = (row.account, row.arn());
        let id: Box<str> = (&*row.unique_id).into();
        let caller = policy::Caller::User { account, arn: arn.as_str().into(), id };
        let mut subject = Self::named(caller, row.unique_id.to_string());
        subject.user_name = Some(Arc::clone(&row.name));
        subject.set("aws:username", row.name.to_string());
        subject.set("aws:PrincipalType", "User");
        subject.set("aws:PrincipalArn", arn.clone());
        subject.set("aws:PrincipalAccount", account.to_string());
        subject.take_user(view, row);
        subject.take_account(view, account);
        subject
    }

    /// A session of a role.
    pub fn session(view: &View, row: &IamRole, session: &str) -> Self {
        let (account, role_arn) = (row.account, row.arn());
        let arn = format!("arn:aws:sts::{account}:assumed-role/{}/{session}", row.name);
        let caller = policy::Caller::RoleSession {
            account,
            arn: arn.into(),
            role_arn: role_arn.as_str().into(),
            role_id: (&*row.unique_id).into(),
        };
        let mut subject = Self::named(caller, format!("{}:{session}", row.unique_id));
        subject.set("aws:PrincipalType", "AssumedRole");
        subject.set("aws:PrincipalArn", role_arn.clone());
        subject.set("aws:PrincipalAccount", account.to_string());
        subject.take(view, &role_arn, &row.grants);
        subject.limit(view, row.boundary.as_ref());
        for (key, value) in &row.tags {
            subject.set_tag(key, value);
        }
        subject
    }

    fn federated(view: &View, account: AccountId, name: &str, user: Option<&IamUser>) -> Self {
        let arn = format!("arn:aws:sts::{account}:federated-user/{name}");
        let (user_arn, user_id) = match user {
            Some(row) => (row.arn(), row.unique_id.to_string()),
            None => (format!("arn:aws:iam::{account}:root"), account.to_string()),
        };
        let caller = policy::Caller::FederatedUser {
            account,
            arn: arn.as_str().into(),
            user_arn: user_arn.into(),
            user_id: user_id.into(),
        };
        let mut subject = Self::named(caller, format!("{account}:{name}"));
        subject.set("aws:PrincipalType", "FederatedUser");
        subject.set("aws:PrincipalArn", arn);
        subject.set("aws:PrincipalAccount", account.to_string());
        match user {
            Some(row) => subject.take_user(view, row),
            // The root user's own permissions know no limit.
            None => {
                let all = "arn:aws:iam::aws:policy/AdministratorAccess";
                subject.take_managed(view, &all.into());
            }
        }
        subject
    }

    /// Somebody whom an identity provider vouches for, and who has no key yet.
    pub fn vouched(caller: &Caller, provider: &str) -> Self {
        let known = policy::Caller::WebIdentity { provider: provider.into() };
        let mut subject = Self::named(known, String::new());
        subject.set("aws:FederatedProvider", provider.to_owned());
        subject.circumstances(caller);
        subject
    }

    fn named(caller: policy::Caller, user_id: String) -> Self {
        let mut context = Context::with_capacity(20);
        context.set("aws:userid", user_id.clone());
        Self {
            caller,
            user_name: None,
            user_id,
            identity: Vec::new(),
            names: Vec::new(),
            boundary: None,
            session: None,
            context,
        }
    }

    fn take_user(&mut self, view: &View, row: &IamUser) {
        self.take(view, &row.arn(), &row.grants);
        for group in &row.groups {
            if let Some(group) = view.iam_groups.get(row.account, group) {
                self.take(view, &group.arn(), &group.grants);
            }
        }
        self.limit(view, row.boundary.as_ref());
        for (key, value) in &row.tags {
            self.set_tag(key, value);
        }
    }

    /// What an account's password policy may allow all its users.
    fn take_account(&mut self, view: &View, account: AccountId) {
        let policy =
            view.iam_accounts.get(account, &TheAccount).and_then(|row| row.password_policy);
        if policy.is_some_and(|policy| policy.users_may_change) {
            self.identity.push(Arc::clone(&OWN_PASSWORD));
            let owner = format!("arn:aws:iam::{account}:root");
            self.names.push(PolicyName::Inline { owner, name: OWN_PASSWORD_NAME.to_owned() });
        }
    }

    fn take(&mut self, view: &View, owner: &str, grants: &Grants) {
        for arn in &grants.attached {
            self.take_managed(view, arn);
        }
        for (name, text) in &grants.inline {
            self.identity.push(Arc::clone(text.policy()));
            self.names.push(PolicyName::Inline { owner: owner.to_owned(), name: name.clone() });
        }
    }

    fn take_managed(&mut self, view: &View, arn: &Arc<str>) {
        if let Some(policy) = policy_of(view, arn) {
            self.identity.push(policy);
            self.names.push(PolicyName::Managed(Arc::clone(arn)));
        }
    }

    fn limit(&mut self, view: &View, boundary: Option<&Arc<str>>) {
        let Some(arn) = boundary else { return };
        // A boundary that is gone still limits: to nothing.
        let policy = policy_of(view, arn).unwrap_or_else(nothing);
        self.boundary = Some((Arc::clone(arn), policy));
    }

    /// What was passed when the session was made.
    fn pass(&mut self, view: &View, session: &Session, now: Timestamp) {
        if session.policy.is_some() || !session.policy_arns.is_empty() {
            let inline = session.policy.as_ref();
            let inline = inline.map(|text| match Policy::parse(text, PolicyKind::Session) {
                Ok(policy) => Arc::new(policy),
                Err(_) => nothing(),
            });
            let managed = session.policy_arns.iter();
            let managed = managed.map(|arn| policy_of(view, arn).unwrap_or_else(nothing));
            self.session = Some(inline.into_iter().chain(managed).collect());
        }
        for (key, value) in &session.tags {
            self.set_tag(key, value);
        }
        self.set("aws:TokenIssueTime", session.issued_at);
        self.set("aws:MultiFactorAuthPresent", session.mfa_at.is_some());
        if let Some(at) = session.mfa_at {
            let age_s = now.since_ms(at) / 1000;
            self.set("aws:MultiFactorAuthAge", i64::try_from(age_s).unwrap_or(i64::MAX));
        }
        if let Some(identity) = &session.source_identity {
            self.set("aws:SourceIdentity", identity.clone());
        }
        if let Some(provider) = &session.provider {
            self.set("aws:FederatedProvider", provider.clone());
        }
    }

    /// Where and when it asks.
    fn circumstances(&mut self, caller: &Caller) {
        let seconds = i64::try_from(caller.now.seconds()).unwrap_or(i64::MAX);
        self.set("aws:CurrentTime", caller.now);
        self.set("aws:EpochTime", seconds);
        self.set("aws:RequestedRegion", caller.region.to_string());
        self.set("aws:SecureTransport", caller.origin.is_secure);
        self.set("aws:PrincipalIsAWSService", false);
        self.set("aws:ViaAWSService", false);
        match (&caller.origin.endpoint, caller.origin.address) {
            (Some(by), address) => {
                self.set("aws:SourceVpce", by.endpoint.to_string());
                self.set("aws:SourceVpc", by.vpc.to_string());
                if let Some(address) = address {
                    self.set("aws:VpcSourceIp", address);
                }
            }
            (None, Some(address)) => self.set("aws:SourceIp", address),
            (None, None) => {}
        }
        if let Some(agent) = &caller.origin.user_agent {
            self.set("aws:UserAgent", agent.to_string());
        }
    }

    fn set(&mut self, key: &'static str, value: impl Into<policy::Value>) {
        self.context.set(key, value);
    }

    fn set_tag(&mut self, key: &str, value: &str) {
        self.context.set(format!("aws:PrincipalTag/{key}"), value.to_owned());
    }

    /// Its policies, beside those of a resource.
    pub fn policies<'a>(
        &'a self,
        resource: &'a [Arc<Policy>],
        resource_kind: ResourceKind,
    ) -> Policies<'a> {
        Policies {
            identity: &self.identity,
            boundary: self.boundary.as_ref().map(|(_, policy)| policy),
            session: self.session.as_deref(),
            resource,
            resource_kind,
        }
    }
}

/// In place of a policy that should limit and is not there.
fn nothing() -> Arc<Policy> {
    const NOTHING: &str =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;
    let read = Policy::parse(NOTHING, PolicyKind::Identity);
    Arc::new(read.expect("the policy that denies all is one"))
}
