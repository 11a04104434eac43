//! Whether a caller may do what it asks for: a question that is part of the decision.
//!
//! A handler names action, resources and context as a [`Permission`], and gets the view to answer from
//! ([`Control::read`]) or has its decision made ([`Control::change`]) only with it. Both ask
//! [`Control::authorize`] on the very view that is decided on, so that what is allowed and what is done are of
//! one moment.
//!
//! What came by a VPC endpoint is first asked of that endpoint's policy ([`endpoint`]).
//!
//! An account's root user may do all that its account may. Of everybody else policies decide, which `iam` finds and
//! `policy` evaluates; of hosts' agents it is one that everybody can read (`access::NODE_POLICY`).

mod endpoint;
mod resources;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use aws_wire::{ApiError, Caller, Principal, Question};
use longshore_types::{AccountId, Timestamp};
use model::View;
use policy::{Action, Contexts, Inquiry, KeyMask, Request};
pub use policy::{Context, Policy, ResourceKind, Value};
use store::Batch;

use self::resources::{AboutResource, Group};
use crate::Control;
use crate::access::principal_arn;
use crate::denied::{self, Decided};
use crate::errors::not_authorized;
use crate::iam::{Subject, may_have_policies, resource_policies_of, tags_of};

/// Resources that one line of the audit log names.
const NAMED_MAX: usize = 20;

/// What a caller asks to do, and to what.
///
/// The tags of resources that are rows (`aws:ResourceTag/…`) need not be given, nor the policies of repositories: they
/// are looked up in the view.
#[derive(Clone, Debug)]
pub struct Permission {
    /// As in IAM: `ecs:RunTask`.
    pub action: &'static str,
    /// ARNs, or `*` for actions that are on no resource.
    pub resources: Vec<String>,
    /// What a policy may ask about besides, by condition key such as `ecs:cluster`.
    pub context: Context,
    /// The resources' own policies, and what those must do.
    pub resource_policies: Vec<Arc<Policy>>,
    pub resource_kind: ResourceKind,
    /// What must be allowed as well.
    pub besides: Vec<Permission>,
    /// What a refusal calls the resource, where that is not its ARN.
    pub shown_as: Option<String>,
    /// Resources that need no permission and are named in the audit log.
    pub named: Vec<String>,
}

impl Permission {
    /// For an action, on everything until [`Permission::on`] says otherwise.
    pub fn to(action: &'static str) -> Self {
        Self {
            action,
            resources: vec![],
            context: Context::new(),
            resource_policies: vec![],
            resource_kind: ResourceKind::Plain,
            besides: vec![],
            shown_as: None,
            named: vec![],
        }
    }

    #[must_use]
    pub fn on(mut self, arn: impl Into<String>) -> Self {
        self.resources.push(arn.into());
        self
    }

    #[must_use]
    pub fn on_each(mut self, arns: impl IntoIterator<Item = String>) -> Self {
        self.resources.extend(arns);
        self
    }

    /// Gives a condition key its value: a text, a number, a truth value, a time, an address.
    #[must_use]
    pub fn with(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.context.set(key, value);
        self
    }

    /// Gives a condition key that may have several values those that it has.
    #[must_use]
    pub fn with_list<V: Into<Value>>(
        mut self,
        key: impl Into<Cow<'static, str>>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        self.context.set_list(key, values);
        self
    }

    /// The request carries these tags: `aws:RequestTag/…` and `aws:TagKeys`. Nothing if there are none.
    #[must_use]
    pub fn tagging(mut self, tags: &BTreeMap<String, String>) -> Self {
        for (key, value) in tags {
            self.context.set(format!("aws:RequestTag/{key}"), value.clone());
        }
        self.about_tags(tags.keys())
    }

    /// What is made gets these tags: the request carries them, and whoever makes it must be allowed to tag it
    /// by `action` too, which learns what it is done by. Nothing if there are no tags, and for keys that no policies
    /// speak of.
    #[must_use]
    pub fn tagging_new(
        self,
        caller: &Caller,
        action: &'static str,
        arn: impl Into<String>,
        tags: &BTreeMap<String, String>,
    ) -> Self {
        match &caller.principal {
            Principal::User { .. } | Principal::Role { .. } | Principal::Federated { .. } => {}
            Principal::Root | Principal::Node { .. } | Principal::Anonymous => return self,
        }
        if tags.is_empty() {
            return self;
        }
        let (service, made_by) = self.action.split_once(':').unwrap_or_default();
        let key = format!("{service}:CreateAction");
        let tag = Self::to(action).on(arn).with(key, made_by).tagging(tags);
        self.tagging(tags).and(tag)
    }

    /// The request is about tags with these keys: `aws:TagKeys`.
    #[must_use]
    pub fn about_tags<'k>(mut self, keys: impl IntoIterator<Item = &'k String>) -> Self {
        let keys: Vec<String> = keys.into_iter().cloned().collect();
        if !keys.is_empty() {
            self.context.set_list("aws:TagKeys", keys);
        }
        self
    }

    /// Gives the tags of resources that are no rows.
    #[must_use]
    pub fn tagged(mut self, tags: &BTreeMap<String, String>) -> Self {
        set_resource_tags(&mut self.context, self.action, tags);
        self
    }

    /// The resources have policies of their own.
    #[must_use]
    pub fn under(
        mut self,
        policies: impl IntoIterator<Item = Arc<Policy>>,
        kind: ResourceKind,
    ) -> Self {
        self.resource_policies.extend(policies);
        self.resource_kind = kind;
        self
    }

    /// Another permission that the request needs as well, with all that this one needs.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        let besides = std::mem::take(&mut other.besides);
        self.besides.push(other);
        self.besides.extend(besides);
        self
    }

    /// That roles may be passed to a service, such as `ecs-tasks.amazonaws.com`.
    #[must_use]
    pub fn passing<'r>(
        self,
        roles: impl IntoIterator<Item = &'r str>,
        service: &'static str,
    ) -> Self {
        roles.into_iter().fold(self, |all, role| {
            let pass = Self::to("iam:PassRole").on(role).with("iam:PassedToService", service);
            all.and(pass)
        })
    }

    /// What a refusal calls the resource.
    #[must_use]
    pub fn shown_as(mut self, name: impl Into<String>) -> Self {
        self.shown_as = Some(name.into());
        self
    }

    /// Whether nothing but an account's own things without policies of their own are concerned, with which its
    /// root may do anything.
    fn is_of_root(&self, view: &View, account: AccountId) -> bool {
        let mut group = Group::default();
        let is_plain = |arn: &'_ String| resource_policies_of(view, arn).is_empty();
        self.resource_policies.is_empty()
            && self.resources.iter().all(|arn| {
                let is_known = group.take(arn);
                let is_own = is_known || group.owner.is_none_or(|owner| owner == account);
                is_own && (!group.may_have_policies || is_plain(arn))
            })
    }

    /// The condition keys that policies of resources may ask for, as far as they can be told beforehand.
    fn asked_by_resources(&self) -> KeyMask {
        let mut mask = KeyMask::NONE;
        for each in self.each() {
            if each.resources.iter().any(|arn| may_have_policies(arn)) {
                return KeyMask::ALL;
            }
            mask = each.resource_policies.iter().fold(mask, |all, it| all.or(it.key_mask()));
        }
        mask
    }

    /// Names resources for the audit log where nothing is asked about them: long lists are cut short.
    #[must_use]
    pub fn naming(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.named.extend(names.into_iter().take(NAMED_MAX));
        self
    }

    /// Leaves in the caller's trail what was asked and what decided.
    fn note(&self, caller: &Caller, is_allowed: bool, decided_by: &str) {
        if !caller.origin.trail.is_on() {
            return;
        }
        let resources = self.resources.iter().chain(&self.named).take(NAMED_MAX);
        caller.origin.trail.asked(Question {
            action: self.action.to_owned(),
            resources: resources.filter(|name| *name != "*").cloned().collect(),
            is_allowed,
            decided_by: decided_by.to_owned(),
        });
    }

    /// The resources that policies are asked about: everything, where none is named.
    fn asked_about(&self) -> &[String] {
        static EVERYTHING: LazyLock<[String; 1]> = LazyLock::new(|| ["*".to_owned()]);
        if self.resources.is_empty() { EVERYTHING.as_slice() } else { &self.resources }
    }

    /// This one and all that must be allowed as well.
    fn each(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.besides)
    }
}

/// Whether nothing that is asked of the caller's permissions could be refused: an account's root user is
/// subject to no policy but that of a VPC endpoint that it came by. Long lists of resources need not be spelled out
/// for it.
pub fn is_root(caller: &Caller) -> bool {
    caller.principal == Principal::Root && caller.origin.endpoint.is_none()
}

impl Control {
    /// What an answer is made from, for a caller that may have it.
    pub fn read(&self, caller: &Caller, permission: &Permission) -> Result<Arc<View>, ApiError> {
        let view = self.view();
        self.authorize(&view, caller, permission)?;
        Ok(view)
    }

    /// As [`Control::decide`], for a caller that may have it done.
    pub async fn change<T, F>(
        &self,
        caller: &Caller,
        permission: &Permission,
        mut decide: F,
    ) -> Result<T, ApiError>
    where
        F: FnMut(&View, Timestamp) -> Result<(Batch, T), ApiError> + Send,
        T: Send,
    {
        self.decide(|view, now| {
            self.authorize(view, caller, permission)?;
            decide(view, now)
        })
        .await
    }

    /// Whether the caller may, by what `view` says: for decisions that learn only on the way what they are on.
    pub fn authorize(
        &self,
        view: &View,
        caller: &Caller,
        permission: &Permission,
    ) -> Result<(), ApiError> {
        if let Some(by) = &caller.origin.endpoint {
            self.check_endpoint(view, caller, by, permission, || Subject::of(view, caller))?;
        }
        match &caller.principal {
            Principal::Root
                if permission.each().all(|each| each.is_of_root(view, caller.account)) =>
            {
                permission.note(caller, true, denied::ROOT);
                Ok(())
            }
            Principal::Root
            | Principal::User { .. }
            | Principal::Role { .. }
            | Principal::Federated { .. }
            | Principal::Node { .. } => self.by_policies(view, caller, permission),
            Principal::Anonymous => Err(not_authorized(&principal_arn(caller), permission.action)),
        }
    }

    /// As [`Control::authorize`], for what needs no permission: the VPC endpoint that it came by, if it did, is asked alone.
    pub fn let_through(&self, caller: &Caller, permission: &Permission) -> Result<(), ApiError> {
        let Some(by) = &caller.origin.endpoint else { return Ok(()) };
        let view = self.view();
        self.check_endpoint(&view, caller, by, permission, || Subject::of(&view, caller))
    }

    /// As [`Control::let_through`], for somebody whom an identity provider vouches for.
    pub fn let_vouched_through(
        &self,
        caller: &Caller,
        provider: &str,
        permission: &Permission,
    ) -> Result<(), ApiError> {
        let Some(by) = &caller.origin.endpoint else { return Ok(()) };
        let who = || Some(Subject::vouched(caller, provider));
        self.check_endpoint(&self.view(), caller, by, permission, who)
    }

    fn by_policies(
        &self,
        view: &View,
        caller: &Caller,
        permission: &Permission,
    ) -> Result<(), ApiError> {
        let asked_for = permission.asked_by_resources();
        let Some(subject) = Subject::known(view, caller, &self.standings, asked_for) else {
            return Err(not_authorized(&principal_arn(caller), permission.action));
        };
        permission.each().try_for_each(|each| self.check(view, caller, &subject, each))
    }

    fn check(
        &self,
        view: &View,
        caller: &Caller,
        subject: &Subject,
        permission: &Permission,
    ) -> Result<(), ApiError> {
        let of_subject = Contexts::from(&subject.context);
        let known = Contexts::over(&permission.context, &of_subject);
        let of_all = inquire(subject, permission, known, &permission.resource_policies)?;
        let resources = permission.asked_about();
        let is_same = 1 < resources.len() && of_all.is_same_for_all();
        let about_all = AboutResource::asked_by(&of_all, permission.action);
        let (mut allowed_by, mut group) = (None, Group::default());
        // A host serves the tasks of every account: no repository's policy speaks of it.
        let is_of_node = matches!(caller.principal, Principal::Node { .. });
        for resource in resources {
            let is_of_group = group.take(resource);
            let has_policies = group.may_have_policies && !is_of_node;
            if is_of_group && is_same && !has_policies {
                // What was decided for the one before it, which is allowed.
                continue;
            }
            let owner = group.owner.filter(|_| !is_of_node);
            let mut policies = match has_policies {
                true => resource_policies_of(view, resource),
                false => Vec::new(),
            };
            let (of_it, about_it);
            let (inquiry, about) = match policies.is_empty() {
                true => (&of_all, &about_all),
                false => {
                    policies.extend(permission.resource_policies.iter().map(Arc::clone));
                    of_it = inquire(subject, permission, known, &policies)?;
                    about_it = AboutResource::asked_by(&of_it, permission.action);
                    (&of_it, &about_it)
                }
            };
            let own = about.of(view, resource, owner);
            let decision = inquiry.decide(resource, owner, Contexts::over(&own, &known));
            let decided = Decided { subject, policies: inquiry.policies(), decision };
            if !decision.is_allowed() {
                let about = (resource.as_str(), owner);
                return Err(self.refuse(view, caller, permission, about, decided));
            }
            if allowed_by.is_none() && caller.origin.trail.is_on() {
                allowed_by = Some(decided.by());
            }
        }
        if let Some(by) = allowed_by {
            permission.note(caller, true, &by);
        }
        Ok(())
    }

    /// Notes and tells what policies refuse, with all that is known of the request: for a decision, only that was found
    /// out which they ask for.
    fn refuse(
        &self,
        view: &View,
        caller: &Caller,
        permission: &Permission,
        (resource, owner): (&str, Option<AccountId>),
        decided: Decided<'_>,
    ) -> ApiError {
        let subject = Subject::of(view, caller).unwrap_or_else(|| decided.subject.clone());
        let (action, context) = match asked(&subject, permission) {
            Ok(asked) => asked,
            Err(error) => return error,
        };
        let policies = decided.policies;
        let asks = policies.ask_about_resource();
        let own = match asks {
            true => about_resource(view, &context, permission.action, (resource, owner)),
            false => None,
        };
        let known = own.as_ref().unwrap_or(&context);
        let request = Request {
            caller: &subject.caller,
            action: &action,
            resource,
            resource_account: owner,
            context: known.into(),
        };
        let (by, decision) = (decided.by(), decided.decision);
        caller.origin.trail.asked(Question::denied(permission.action, resource, by));
        let shown = permission.shown_as.as_deref().unwrap_or(resource);
        let subject = &subject;
        self.denied(&denied::Said { caller, subject, request, known, policies, decision, shown })
    }
}

/// One permission, as the policies of a subject are asked about it, and those of resources.
fn inquire<'a>(
    subject: &'a Subject,
    permission: &Permission,
    known: Contexts<'a>,
    resource: &'a [Arc<Policy>],
) -> Result<Inquiry<'a>, ApiError> {
    let beside = subject.beside(resource, permission.resource_kind);
    let set = subject.standing.set();
    Inquiry::new(&subject.caller, permission.action, known, set, beside)
        .map_err(|error| ApiError::fault("failed to read an action's name", error))
}

/// The account that an ARN names.
fn owner_of(arn: &str) -> Option<AccountId> {
    arn.split(':').nth(4)?.parse().ok()
}

/// What is asked for, and what is known of the request whichever resource it is about.
fn asked(subject: &Subject, permission: &Permission) -> Result<(Action, Context), ApiError> {
    let unreadable = |error| ApiError::fault("failed to read an action's name", error);
    let action: Action = permission.action.parse().map_err(unreadable)?;
    let mut context = subject.context.clone();
    context.take(&permission.context);
    Ok((action, context))
}

/// What is known of a request and of a resource that is a row, or is an account's; none if that is no more.
fn about_resource(
    view: &View,
    context: &Context,
    action: &str,
    (resource, owner): (&str, Option<AccountId>),
) -> Option<Context> {
    let tags = tags_of(view, resource).filter(|tags| !tags.is_empty());
    if tags.is_none() && owner.is_none() {
        return None;
    }
    let mut own = context.clone();
    if let Some(tags) = tags {
        set_resource_tags(&mut own, action, tags);
    }
    if let Some(owner) = owner {
        own.set("aws:ResourceAccount", owner.to_string());
    }
    Some(own)
}

fn set_resource_tags(context: &mut Context, action: &str, tags: &BTreeMap<String, String>) {
    let service = action.split(':').next().unwrap_or_default();
    for (key, value) in tags {
        context.set(format!("aws:ResourceTag/{key}"), value.clone());
        context.set(format!("{service}:ResourceTag/{key}"), value.clone());
    }
}

#[cfg(test)]
mod tests;
