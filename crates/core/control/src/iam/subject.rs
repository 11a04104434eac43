//! A caller as policies see it: who it is, the policies that concern it, and the condition keys that every
//! request of it has.

use std::sync::Arc;

use aws_wire::{Caller, Principal, Session};
use longshore_types::{AccountId, Timestamp};
use model::{IamRole, IamUser, View};
use policy::{
    Beside, Context, KeyMask, KeyName, Policies, Policy, PolicyKind, ResourceKind, Value,
};

use super::standing::{Standings, nothing, of_nodes};
use super::{Entity, Standing, entity_of, policy_of};
use crate::access::principal_arn;

/// A condition key's name, hashed when the program is made.
macro_rules! key {
    ($text:literal) => {
        const { KeyName::new($text) }
    };
}

/// Who asks, with all that is asked of policies about it.
#[derive(Clone, Debug)]
pub struct Subject {
    pub caller: policy::Caller,
    /// Of a user: its name, for the messages about what it may not do.
    pub user_name: Option<Arc<str>>,
    /// As in `aws:userid`.
    pub user_id: String,
    pub standing: Arc<Standing>,
    pub session: Option<Vec<Arc<Policy>>>,
    /// The condition keys that say who asks: all, or those that policies may ask for.
    pub context: Context,
    asked_for: KeyMask,
}

/// What of a subject does not come from its own row.
struct Given {
    session: Option<Vec<Arc<Policy>>>,
    /// What others than its own policies ask for.
    asked_for: KeyMask,
}

impl Subject {
    /// With all that is known of it. `None` for callers that no policies speak of.
    pub fn of(view: &View, caller: &Caller) -> Option<Self> {
        Self::known(view, caller, &Standings::default(), KeyMask::ALL)
    }

    /// With those condition keys only that its own policies may ask for, and others that do, such as the policies of what
    /// is asked about.
    pub(crate) fn known(
        view: &View,
        caller: &Caller,
        standings: &Standings,
        asked_for: KeyMask,
    ) -> Option<Self> {
        let session = caller.session.as_ref().and_then(|session| passed(view, session));
        let given = Given { session, asked_for };
        let mut subject = match &caller.principal {
            Principal::Root => Self::root(caller.account, given),
            Principal::User { id, .. } => match entity_of(view, id)? {
                Entity::User(row) => {
                    let make = || Standing::of_user(view, row);
                    let standing = standings.find(view, &row.unique_id, make);
                    Self::of_user(row, standing, given)
                }
                Entity::Role(_) => return None,
            },
            Principal::Role { id, session, .. } => match entity_of(view, id)? {
                Entity::Role(row) => {
                    let make = || Standing::of_role(view, row);
                    let standing = standings.find(view, &row.unique_id, make);
                    Self::of_session(row, session, standing, given)
                }
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
                Self::federated(view, caller.account, name, user.map(|row| &**row), given)
            }
            Principal::Node { .. } => Self::node(caller, given),
            Principal::Anonymous => return None,
        };
        if let Some(session) = &caller.session {
            subject.pass(session, caller.now);
        }
        subject.circumstances(caller);
        Some(subject)
    }

    /// A host's agent, which no row tells of.
    fn node(caller: &Caller, given: Given) -> Self {
        let (account, arn) = (caller.account, principal_arn(caller));
        let id: Box<str> = caller.access_key.as_str().into();
        let known = policy::Caller::User { account, arn: arn.as_str().into(), id };
        let mut subject = Self::named(known, caller.access_key.clone(), of_nodes(), given);
        subject.set(key!("aws:PrincipalType"), || "User");
        subject.set(key!("aws:PrincipalArn"), || arn);
        subject.set(key!("aws:PrincipalAccount"), || account.to_string());
        subject
    }

    fn root(account: AccountId, given: Given) -> Self {
        let known = policy::Caller::Root(account);
        let mut subject = Self::named(known, account.to_string(), Arc::default(), given);
        subject.set(key!("aws:PrincipalType"), || "Account");
        subject.set(key!("aws:PrincipalArn"), || format!("arn:aws:iam::{account}:root"));
        subject.set(key!("aws:PrincipalAccount"), || account.to_string());
        subject
    }

    /// A user by a key of its own, with all that is known of it.
    pub fn user(view: &View, row: &IamUser) -> Self {
        let standing = Arc::new(Standing::of_user(view, row));
        Self::of_user(row, standing, Given::all())
    }

    fn of_user(row: &IamUser, standing: Arc<Standing>, given: Given) -> Self {
        let (account, arn) = (row.account, row.arn());
        let id: Box<str> = (&*row.unique_id).into();
        let caller = policy::Caller::User { account, arn: arn.as_str().into(), id };
        let mut subject = Self::named(caller, row.unique_id.to_string(), standing, given);
        subject.user_name = Some(Arc::clone(&row.name));
        subject.set(key!("aws:username"), || row.name.to_string());
        subject.set(key!("aws:PrincipalType"), || "User");
        subject.set(key!("aws:PrincipalArn"), || arn);
        subject.set(key!("aws:PrincipalAccount"), || account.to_string());
        for (key, value) in &row.tags {
            subject.set_tag(key, value);
        }
        subject
    }

    /// A session of a role, with all that is known of it.
    pub fn session(view: &View, row: &IamRole, session: &str) -> Self {
        let standing = Arc::new(Standing::of_role(view, row));
        Self::of_session(row, session, standing, Given::all())
    }

    fn of_session(row: &IamRole, session: &str, standing: Arc<Standing>, given: Given) -> Self {
        let (account, role_arn) = (row.account, row.arn());
        let arn = format!("arn:aws:sts::{account}:assumed-role/{}/{session}", row.name);
        let caller = policy::Caller::RoleSession {
            account,
            arn: arn.into(),
            role_arn: role_arn.as_str().into(),
            role_id: (&*row.unique_id).into(),
        };
        let user_id = format!("{}:{session}", row.unique_id);
        let mut subject = Self::named(caller, user_id, standing, given);
        subject.set(key!("aws:PrincipalType"), || "AssumedRole");
        subject.set(key!("aws:PrincipalArn"), || role_arn);
        subject.set(key!("aws:PrincipalAccount"), || account.to_string());
        for (key, value) in &row.tags {
            subject.set_tag(key, value);
        }
        subject
    }

    fn federated(
        view: &View,
        account: AccountId,
        name: &str,
        user: Option<&IamUser>,
        given: Given,
    ) -> Self {
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
        let standing = match user {
            Some(row) => Standing::lent_by(view, row),
            // The root user's own permissions know no limit.
            None => Standing::by_managed(view, "arn:aws:iam::aws:policy/AdministratorAccess"),
        };
        let user_id = format!("{account}:{name}");
        let mut subject = Self::named(caller, user_id, Arc::new(standing), given);
        subject.set(key!("aws:PrincipalType"), || "FederatedUser");
        subject.set(key!("aws:PrincipalArn"), || arn);
        subject.set(key!("aws:PrincipalAccount"), || account.to_string());
        for (key, value) in user.iter().flat_map(|row| &row.tags) {
            subject.set_tag(key, value);
        }
        subject
    }

    /// Somebody whom an identity provider vouches for, and who has no key yet.
    pub fn vouched(caller: &Caller, provider: &str) -> Self {
        let known = policy::Caller::WebIdentity { provider: provider.into() };
        let mut subject = Self::named(known, String::new(), Arc::default(), Given::all());
        subject.set(key!("aws:FederatedProvider"), || provider.to_owned());
        subject.circumstances(caller);
        subject
    }

    fn named(
        caller: policy::Caller,
        user_id: String,
        standing: Arc<Standing>,
        given: Given,
    ) -> Self {
        let session = given.session.iter().flatten();
        let by_session = session.fold(KeyMask::NONE, |mask, policy| mask.or(policy.key_mask()));
        let asked_for = given.asked_for.or(standing.key_mask()).or(by_session);
        let mut subject = Self {
            caller,
            user_name: None,
            user_id,
            standing,
            session: given.session,
            context: Context::new(),
            asked_for,
        };
        if asked_for.may_have(key!("aws:userid")) {
            subject.context.set("aws:userid", subject.user_id.clone());
        }
        subject
    }

    /// What is known of a session beside the policies that were passed.
    fn pass(&mut self, session: &Session, now: Timestamp) {
        for (key, value) in &session.tags {
            self.set_tag(key, value);
        }
        self.set(key!("aws:TokenIssueTime"), || session.issued_at);
        self.set(key!("aws:MultiFactorAuthPresent"), || session.mfa_at.is_some());
        if let Some(at) = session.mfa_at {
            let age_s = now.since_ms(at) / 1000;
            self.set(key!("aws:MultiFactorAuthAge"), || i64::try_from(age_s).unwrap_or(i64::MAX));
        }
        if let Some(identity) = &session.source_identity {
            self.set(key!("aws:SourceIdentity"), || identity.clone());
        }
        if let Some(provider) = &session.provider {
            self.set(key!("aws:FederatedProvider"), || provider.clone());
        }
    }

    /// Where and when it asks.
    fn circumstances(&mut self, caller: &Caller) {
        let seconds = || i64::try_from(caller.now.seconds()).unwrap_or(i64::MAX);
        self.set(key!("aws:CurrentTime"), || caller.now);
        self.set(key!("aws:EpochTime"), seconds);
        self.set(key!("aws:RequestedRegion"), || caller.region.to_string());
        self.set(key!("aws:SecureTransport"), || caller.origin.is_secure);
        self.set(key!("aws:PrincipalIsAWSService"), || false);
        self.set(key!("aws:ViaAWSService"), || false);
        match (&caller.origin.endpoint, caller.origin.address) {
            (Some(by), address) => {
                self.set(key!("aws:SourceVpce"), || by.endpoint.to_string());
                self.set(key!("aws:SourceVpc"), || by.vpc.to_string());
                if let Some(address) = address {
                    self.set(key!("aws:VpcSourceIp"), || address);
                }
            }
            (None, Some(address)) => self.set(key!("aws:SourceIp"), || address),
            (None, None) => {}
        }
        if let Some(agent) = &caller.origin.user_agent {
            self.set(key!("aws:UserAgent"), || agent.to_string());
        }
    }

    fn set<V: Into<Value>>(&mut self, key: KeyName, value: impl FnOnce() -> V) {
        if self.asked_for.may_have(key) {
            self.context.set_known(key, value());
        }
    }

    fn set_tag(&mut self, key: &str, value: &str) {
        if self.asked_for.may_have_under(key!("aws:PrincipalTag/"), key) {
            self.context.set(format!("aws:PrincipalTag/{key}"), value.to_owned());
        }
    }

    /// With another policy of its own.
    pub fn add(&mut self, name: super::PolicyName, policy: Arc<Policy>) {
        self.standing = Arc::new(self.standing.with(name, policy));
    }

    /// With a boundary in place of what it has.
    pub fn limit(&mut self, name: Arc<str>, boundary: Arc<Policy>) {
        self.standing = Arc::new(self.standing.limited(name, boundary));
    }

    /// What concerns a request beside its own policies: those of its session, and of a resource.
    pub(crate) fn beside<'a>(
        &'a self,
        resource: &'a [Arc<Policy>],
        resource_kind: ResourceKind,
    ) -> Beside<'a> {
        Beside { session: self.session.as_deref(), resource, resource_kind }
    }

    /// Its policies, beside those of a resource.
    pub fn policies<'a>(
        &'a self,
        resource: &'a [Arc<Policy>],
        resource_kind: ResourceKind,
    ) -> Policies<'a> {
        Policies {
            identity: self.standing.identity(),
            boundary: self.standing.set().boundary(),
            session: self.session.as_deref(),
            resource,
            resource_kind,
        }
    }
}

impl Given {
    fn all() -> Self {
        Self { session: None, asked_for: KeyMask::ALL }
    }
}

/// The policies that were passed when a session was made.
fn passed(view: &View, session: &Session) -> Option<Vec<Arc<Policy>>> {
    if session.policy.is_none() && session.policy_arns.is_empty() {
        return None;
    }
    let inline = session.policy.as_ref();
    let inline = inline.map(|text| match Policy::parse(text, PolicyKind::Session) {
        Ok(policy) => Arc::new(policy),
        Err(_) => nothing(),
    });
    let managed = session.policy_arns.iter();
    let managed = managed.map(|arn| policy_of(view, arn).unwrap_or_else(nothing));
    Some(inline.into_iter().chain(managed).collect())
}
