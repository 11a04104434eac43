//! PutResourcePolicy, DescribeResourcePolicies and DeleteResourcePolicy: which services may write by themselves, to all groups of
//! an account or to one.
//!
//! As at Amazon they speak of services alone, and of what those do in their own name ([`CloudWatchLogs::lets_write`]). Users
//! and roles, of whichever account, are judged by their own policies; what a resource policy says of them has no effect.

use std::sync::Arc;

use ::logs::{GroupName, GroupPolicy};
use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::ByService;
use control::paging::{Page, PageRequest, page};
use logs_api as api;
use longshore_types::{AccountId, Timestamp, Uuid};
use model::{Key, LogPolicy, ResourceText};
use policy::{Policy, PolicyKind};
use store::Batch;

use crate::CloudWatchLogs;
use crate::common::{arn_of_group, group_arn, group_of_arn, long, to_api};
use crate::errors::Refusal;

/// Policies of an account that are for all of its groups.
const POLICIES_MAX: usize = 10;
const NAME_LEN_MAX: usize = 512;
const PAGE_MAX: usize = 50;

/// What a service of the region is about to write, and for whose sake.
#[derive(Clone, Copy, Debug)]
pub struct Writing<'a> {
    /// `delivery.logs.amazonaws.com`
    pub service: &'a str,
    /// The ARN of what it writes about, and whose that is.
    pub source: (&'a str, AccountId),
    /// Whose group it is.
    pub account: AccountId,
    pub group: &'a GroupName,
    pub stream: &'a str,
}

impl CloudWatchLogs {
    /// Whether the resource policies of an account, and of its group, let a service do `action` (`logs:PutLogEvents`,
    /// `logs:CreateLogStream`) in its own name.
    pub fn lets_write(&self, action: &'static str, writing: &Writing<'_>) -> bool {
        let Writing { service, source, account, group, stream } = *writing;
        let Ok(known) = self.logs.group(account, group) else { return false };
        let view = self.control.view();
        let own = known.settings.policy.as_ref();
        let own = own.map(|it| ResourceText::new(&it.document, Default::default()));
        let of_account = view.log_policies.of(account).map(|row| &row.policy);
        let policies: Vec<Arc<Policy>> =
            of_account.chain(&own).map(|text| Arc::clone(text.policy())).collect();
        let group = arn_of_group(&self.control.config.region, account, group.as_str());
        let resource = format!("{group}:log-stream:{stream}");
        let asked = ByService {
            service,
            action,
            resource: &resource,
            owner: account,
            tags: &known.settings.tags,
            source,
        };
        self.control.service_is_let(&policies, &asked)
    }

    /// The group that a policy is to be of.
    fn group_of_policy(&self, caller: &Caller, arn: &str) -> Result<::logs::GroupInfo, ApiError> {
        let name = group_of_arn(caller, arn)?;
        self.logs.group(caller.account, &name).map_err(to_api)
    }
}

/// To ask about policies: of all groups, or of one.
fn permission(caller: &Caller, action: &'static str, group: Option<&str>) -> Permission {
    match group {
        None => Permission::to(action).on("*"),
        Some(arn) if arn.starts_with("arn:") => {
            Permission::to(action).on(arn.strip_suffix(":*").unwrap_or(arn))
        }
        Some(name) => Permission::to(action).on(arn_of_group(&caller.region, caller.account, name)),
    }
}

pub(crate) async fn put_resource_policy(
    it: &CloudWatchLogs,
    caller: &Caller,
    input: api::PutResourcePolicyRequest,
) -> Result<api::PutResourcePolicyResponse, ApiError> {
    let permission = permission(caller, "logs:PutResourcePolicy", input.resource_arn.as_deref());
    it.allow(caller, &permission)?;
    let document = input.policy_document.ok_or(Refusal::Missing("policyDocument"))?;
    Policy::parse(&document, PolicyKind::Resource)
        .map_err(|why| Refusal::Document(why.to_string()))?;
    let name = input.policy_name.filter(|name| !name.is_empty());
    if name.as_ref().is_some_and(|name| NAME_LEN_MAX < name.chars().count()) {
        let rule = format!("at most {NAME_LEN_MAX} characters long");
        return Err(Refusal::Wrong { member: "policyName", rule }.into());
    }
    let Some(arn) = input.resource_arn else {
        if input.expected_revision_id.is_some() {
            return Err(Refusal::RevisionOfAccount.into());
        }
        let name = name.ok_or(Refusal::Missing("policyName"))?;
        return put_for_account(it, caller, &permission, &name, &document).await;
    };
    let group = it.group_of_policy(caller, &arn)?;
    if group.settings.policy.is_some() && input.expected_revision_id.is_none() {
        return Err(Refusal::Missing("expectedRevisionId").into());
    }
    let policy = GroupPolicy {
        name,
        document,
        revision: Uuid::mint(it.control.ids.as_ref()).to_string(),
        updated_ms: it.control.clock.now().0,
    };
    let (shown, revision) = (of_group(caller, &group.name, &policy), policy.revision.clone());
    let put =
        it.logs.set_policy(caller.account, group.name, input.expected_revision_id, Some(policy));
    put.await.map_err(to_api)?;
    Ok(api::PutResourcePolicyResponse { resource_policy: Some(shown), revision_id: Some(revision) })
}

async fn put_for_account(
    it: &CloudWatchLogs,
    caller: &Caller,
    permission: &Permission,
    name: &str,
    document: &str,
) -> Result<api::PutResourcePolicyResponse, ApiError> {
    let name: Arc<str> = name.into();
    let decided = it.control.change(caller, permission, |view, now| {
        let known = view.log_policies.get(caller.account, &name);
        if known.is_none() && POLICIES_MAX <= view.log_policies.of(caller.account).count() {
            return Err(ApiError::client("LimitExceededException", "Resource limit exceeded."));
        }
        let row = LogPolicy {
            account: caller.account,
            name: Arc::clone(&name),
            policy: ResourceText::new(document, Default::default()),
            updated_at: now,
        };
        let shown = of_account(&row);
        let mut batch = Batch::on(view);
        batch.put(row);
        Ok((batch, shown))
    });
    Ok(api::PutResourcePolicyResponse { resource_policy: Some(decided.await?), revision_id: None })
}

pub(crate) fn describe_resource_policies(
    it: &CloudWatchLogs,
    caller: &Caller,
    input: &api::DescribeResourcePoliciesRequest,
) -> Result<api::DescribeResourcePoliciesResponse, ApiError> {
    let group = input.resource_arn.as_deref();
    let permission = permission(caller, "logs:DescribeResourcePolicies", group);
    let view = it.control.read(caller, &permission)?;
    let is_of_groups = match &input.policy_scope {
        None => group.is_some(),
        Some(api::PolicyScope::Account) if group.is_some() => {
            return Err(Refusal::AccountOfGroup.into());
        }
        Some(api::PolicyScope::Account) => false,
        Some(api::PolicyScope::Resource) => true,
        Some(other) => return Err(Refusal::NotAScope(other.to_string()).into()),
    };
    let found: Vec<(String, api::ResourcePolicy)> = match (is_of_groups, group) {
        (false, _) => {
            let rows = view.log_policies.of(caller.account);
            rows.map(|row| (row.name.to_string(), of_account(row))).collect()
        }
        (true, Some(arn)) => {
            shown_of(caller, &it.group_of_policy(caller, arn)?).into_iter().collect()
        }
        (true, None) => {
            let all = it.logs.groups(caller.account, None, usize::MAX, |_, _| true);
            all.iter().filter_map(|group| shown_of(caller, group)).collect()
        }
    };
    let pages = PageRequest::new(&input.next_token, input.limit).default_size(PAGE_MAX);
    let Page { items, next_token } = page(pages, found.into_iter())?;
    Ok(api::DescribeResourcePoliciesResponse { resource_policies: Some(items), next_token })
}

pub(crate) async fn delete_resource_policy(
    it: &CloudWatchLogs,
    caller: &Caller,
    input: api::DeleteResourcePolicyRequest,
) -> Result<(), ApiError> {
    let permission = permission(caller, "logs:DeleteResourcePolicy", input.resource_arn.as_deref());
    it.allow(caller, &permission)?;
    if let Some(arn) = &input.resource_arn {
        let group = it.group_of_policy(caller, arn)?;
        if group.settings.policy.is_none() {
            return Err(missing(format!("The log group {} has no resource policy.", group.name)));
        }
        let expected = input.expected_revision_id.ok_or(Refusal::Missing("expectedRevisionId"))?;
        let deleted = it.logs.set_policy(caller.account, group.name, Some(expected), None);
        return deleted.await.map_err(to_api);
    }
    let name: Arc<str> = input.policy_name.ok_or(Refusal::Missing("policyName"))?.into();
    let decided = it.control.change(caller, &permission, |view, _| {
        if view.log_policies.get(caller.account, &name).is_none() {
            return Err(missing(format!("Policy with name [{name}] does not exist.")));
        }
        let mut batch = Batch::on(view);
        batch.delete(Key::LogPolicy(caller.account, Arc::clone(&name)));
        Ok((batch, ()))
    });
    decided.await
}

fn missing(message: String) -> ApiError {
    ApiError::client("ResourceNotFoundException", message)
}

fn of_account(row: &LogPolicy) -> api::ResourcePolicy {
    api::ResourcePolicy {
        policy_name: Some(row.name.to_string()),
        policy_document: Some(row.policy.shown(|_| true)),
        last_updated_time: Some(ms(row.updated_at)),
        policy_scope: Some(api::PolicyScope::Account),
        resource_arn: None,
        revision_id: None,
    }
}

fn shown_of(caller: &Caller, group: &::logs::GroupInfo) -> Option<(String, api::ResourcePolicy)> {
    let policy = group.settings.policy.as_ref()?;
    Some((group.name.to_string(), of_group(caller, &group.name, policy)))
}

fn of_group(caller: &Caller, group: &GroupName, policy: &GroupPolicy) -> api::ResourcePolicy {
    api::ResourcePolicy {
        policy_name: policy.name.clone(),
        policy_document: Some(policy.document.clone()),
        last_updated_time: Some(long(policy.updated_ms)),
        policy_scope: Some(api::PolicyScope::Resource),
        resource_arn: Some(group_arn(caller, group)),
        revision_id: Some(policy.revision.clone()),
    }
}

fn ms(at: Timestamp) -> i64 {
    long(at.0)
}

#[cfg(test)]
mod tests;
