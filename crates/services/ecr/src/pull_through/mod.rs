//! Pull-through cache rules: images of other registries, fetched when they are asked for and kept.
//!
//! [`rules`] says which repository comes from where, [`fetch`] brings an image as a whole before anything of it is
//! served, [`supply`] says when that is done: an image that is not here, and a tag that was not looked for upstream
//! for a day.

mod credentials;
mod fetch;
mod rules;
mod supply;
#[cfg(test)]
mod tests;

pub(crate) use supply::PullThrough;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::linked;
use ecr_api::{
    CreatePullThroughCacheRuleRequest, CreatePullThroughCacheRuleResponse,
    DeletePullThroughCacheRuleRequest, DeletePullThroughCacheRuleResponse,
    DescribePullThroughCacheRulesRequest, DescribePullThroughCacheRulesResponse,
    PullThroughCacheRule, UpdatePullThroughCacheRuleRequest, UpdatePullThroughCacheRuleResponse,
    UpstreamRegistry, ValidatePullThroughCacheRuleRequest, ValidatePullThroughCacheRuleResponse,
};
use longshore_types::{AccountId, Timestamp};
use model::{EcrPullThroughRule, Key, NamePrefix, View};
use store::Batch;

use super::errors::Refusal;
use super::pages::page;
use super::request::not_own_registry;
use crate::Ecr;
use credentials::NoCredentials;

/// ECR's quota.
const RULES_MAX: usize = 50;

/// Rules of one's own registry alone are spoken of.
fn own_registry(caller: &Caller, registry_id: Option<&String>) -> Result<AccountId, ApiError> {
    match registry_id.is_none_or(|id| id.as_str() == caller.account.as_str()) {
        true => Ok(caller.account),
        false => Err(not_own_registry(caller)),
    }
}

fn find<'v>(
    view: &'v View,
    account: AccountId,
    prefix: &str,
) -> Result<&'v EcrPullThroughRule, ApiError> {
    let row = view.ecr_pull_through_rules.get(account, &NamePrefix::new(prefix));
    row.map(AsRef::as_ref).ok_or_else(|| Refusal::NoRule(account, prefix.to_owned()).into())
}

/// Upstreams are shown credentials of a secret; roles of registries are Amazon's alone.
fn refuse_role(role: Option<&String>) -> Result<(), ApiError> {
    match role {
        None => Ok(()),
        Some(_) => {
            let why = "customRoleArn is for upstreams that are private registries of Amazon ECR, which \
                       this registry does not pull from: name a secret by credentialArn.";
            Err(Refusal::Unsupported(why).into())
        }
    }
}

impl Ecr {
    /// With the right to read the secret that is shown to a registry which is none of Amazon's list: who names it may be
    /// who is there, and would be told by it.
    fn showing(
        &self,
        caller: &Caller,
        permission: Permission,
        upstream: Option<&String>,
        secret: Option<&String>,
    ) -> Permission {
        match (upstream, secret) {
            (None, Some(arn)) => {
                let (view, action) = (self.control.view(), "secretsmanager:GetSecretValue");
                permission.and(self.control.secret_permission(&view, caller, action, arn))
            }
            (Some(_), _) | (None, None) => permission,
        }
    }

    /// That the secret is there, may be read and says whom to log in as.
    fn check_secret(
        &self,
        view: &View,
        account: AccountId,
        arn: Option<&String>,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let Some(arn) = arn else { return Ok(()) };
        if !credentials::is_fitting(&self.control, account, arn) {
            let rule = "must be the ARN of a secret of this account and region whose name begins with \
                        ecr-pullthroughcache/";
            return Err(Refusal::parameter("credentialArn", rule).into());
        }
        let read = credentials::read(&self.control, view, account, arn, now);
        let refusal = match read {
            Ok(_) => return Ok(()),
            Err(NoCredentials::NoSecret(arn)) => Refusal::NoSecret(arn),
            Err(why @ NoCredentials::Undecryptable(_)) => {
                Refusal::SecretUnreadable(why.to_string())
            }
            Err(why @ (NoCredentials::NoRole(_) | NoCredentials::Denied(_))) => {
                Refusal::SecretUnreachable(why.to_string())
            }
            Err(why @ NoCredentials::Malformed(_)) => {
                Refusal::parameter("credentialArn", why.to_string())
            }
        };
        Err(refusal.into())
    }
}

pub(super) async fn create_pull_through_cache_rule(
    ecr: &Ecr,
    caller: &Caller,
    input: CreatePullThroughCacheRuleRequest,
) -> Result<CreatePullThroughCacheRuleResponse, ApiError> {
    let mut permission = Permission::to("ecr:CreatePullThroughCacheRule").on("*");
    ecr.control.read(caller, &permission)?;
    let account = own_registry(caller, input.registry_id.as_ref())?;
    refuse_role(input.custom_role_arn.as_ref())?;
    let prefix = input.ecr_repository_prefix.unwrap_or_default();
    let url = input.upstream_registry_url.unwrap_or_default();
    let said = input.upstream_registry.as_ref().map(UpstreamRegistry::as_str);
    let host = rules::host_of(&url).ok_or_else(|| unsupported(&url, rules::Unsupported::NoHost))?;
    let upstream = rules::name_of(&host, said).map_err(|why| unsupported(&url, why))?;
    let upstream_prefix = input.upstream_repository_prefix.as_deref();
    let upstream_prefix = upstream_prefix.map(NamePrefix::new);
    let role = linked::find(linked::PULL_THROUGH).expect("it is one of the list");
    let needs_role = |view: &View| input.credential_arn.is_some() && !role.is_there(view, account);
    if needs_role(&ecr.control.view()) {
        permission = permission.and(linked::permission(account, role.service, role.role));
    }
    permission = ecr.showing(caller, permission, upstream.as_ref(), input.credential_arn.as_ref());
    let row = ecr
        .control
        .change(caller, &permission, |view, now| {
            let id = NamePrefix::new(&prefix);
            if view.ecr_pull_through_rules.get(account, &id).is_some() {
                return Err(Refusal::RuleExists(account, prefix.clone()).into());
            }
            if RULES_MAX <= view.ecr_pull_through_rules.of(account).count() {
                let limit =
                    format!("The limit of {RULES_MAX} pull through cache rules is reached.");
                return Err(Refusal::Limit(limit).into());
            }
            let mut batch = Batch::on(view);
            let mut next = view.clone();
            if needs_role(view) {
                let made = role.role_of(account, ecr.control.ids.as_ref(), now);
                next.put(view.seq, &made.clone().into());
                batch.rely(Key::IamRole(account, model::NameKey::of(role.role))).put(made);
            }
            ecr.check_secret(&next, account, input.credential_arn.as_ref(), now)?;
            let row = EcrPullThroughRule {
                account,
                prefix: prefix.clone(),
                upstream_url: url.clone(),
                upstream: upstream.clone(),
                upstream_prefix: upstream_prefix.clone(),
                credential: input.credential_arn.clone(),
                created_at: now,
                updated_at: now,
            };
            batch.rely(Key::EcrPullThroughRule(account, id)).put(row.clone());
            Ok((batch, row))
        })
        .await?;
    let shown = render(&row);
    Ok(CreatePullThroughCacheRuleResponse {
        ecr_repository_prefix: shown.ecr_repository_prefix,
        upstream_registry_url: shown.upstream_registry_url,
        created_at: shown.created_at,
        registry_id: shown.registry_id,
        upstream_registry: shown.upstream_registry,
        credential_arn: shown.credential_arn,
        custom_role_arn: None,
        upstream_repository_prefix: shown.upstream_repository_prefix,
    })
}

fn unsupported(url: &str, why: rules::Unsupported) -> ApiError {
    let sentence = match why {
        rules::Unsupported::NoHost => format!(
            "The upstream registry URL '{url}' is no host of a registry: it must be one that speaks \
             HTTPS, such as quay.io or mirror.example.com:5000."
        ),
        rules::Unsupported::PrivateEcr => format!(
            "The upstream registry '{url}' is a private registry of Amazon ECR, which this registry does \
             not pull from."
        ),
        rules::Unsupported::OtherName => format!(
            "upstreamRegistry does not name the registry at '{url}'; it can be left out, as any registry \
             can be the upstream."
        ),
    };
    Refusal::UnsupportedUpstream(sentence).into()
}

fn render(row: &EcrPullThroughRule) -> PullThroughCacheRule {
    PullThroughCacheRule {
        ecr_repository_prefix: Some(row.prefix.clone()),
        upstream_registry_url: Some(row.upstream_url.clone()),
        created_at: Some(row.created_at),
        registry_id: Some(row.account.to_string()),
        credential_arn: row.credential.clone(),
        custom_role_arn: None,
        upstream_repository_prefix: row.upstream_prefix.as_ref().map(ToString::to_string),
        upstream_registry: row.upstream.as_deref().map(UpstreamRegistry::from),
        updated_at: Some(row.updated_at),
    }
}

pub(super) async fn describe_pull_through_cache_rules(
    ecr: &Ecr,
    caller: &Caller,
    input: DescribePullThroughCacheRulesRequest,
) -> Result<DescribePullThroughCacheRulesResponse, ApiError> {
    let permission = Permission::to("ecr:DescribePullThroughCacheRules").on("*");
    let view = ecr.control.read(caller, &permission)?;
    let account = own_registry(caller, input.registry_id.as_ref())?;
    if let Some(prefixes) = input.ecr_repository_prefixes {
        let rules = prefixes.iter().map(|prefix| find(&view, account, prefix).map(render));
        return Ok(DescribePullThroughCacheRulesResponse {
            pull_through_cache_rules: Some(rules.collect::<Result<_, _>>()?),
            next_token: None,
        });
    }
    let rules = view.ecr_pull_through_rules.of(account);
    let rules = rules.map(|row| (NamePrefix::new(&row.prefix).to_string(), render(row)));
    let (shown, next_token) = page(input.next_token.as_deref(), input.max_results, rules)?;
    Ok(DescribePullThroughCacheRulesResponse { pull_through_cache_rules: Some(shown), next_token })
}

pub(super) async fn update_pull_through_cache_rule(
    ecr: &Ecr,
    caller: &Caller,
    input: UpdatePullThroughCacheRuleRequest,
) -> Result<UpdatePullThroughCacheRuleResponse, ApiError> {
    let permission = Permission::to("ecr:UpdatePullThroughCacheRule").on("*");
    let view = ecr.control.read(caller, &permission)?;
    let account = own_registry(caller, input.registry_id.as_ref())?;
    refuse_role(input.custom_role_arn.as_ref())?;
    let prefix = input.ecr_repository_prefix.unwrap_or_default();
    if input.credential_arn.is_none() {
        let rule = "can't be null: it is what can be changed of a rule";
        return Err(Refusal::parameter("credentialArn", rule).into());
    }
    // A rule's upstream stays what it is.
    let upstream = find(&view, account, &prefix)?.upstream.as_ref();
    let permission = ecr.showing(caller, permission, upstream, input.credential_arn.as_ref());
    let row = ecr
        .control
        .change(caller, &permission, |view, now| {
            let row = find(view, account, &prefix)?.clone();
            ecr.check_secret(view, account, input.credential_arn.as_ref(), now)?;
            let credential = input.credential_arn.clone();
            let row = EcrPullThroughRule { credential, updated_at: now, ..row };
            let mut batch = Batch::on(view);
            batch.put(row.clone());
            Ok((batch, row))
        })
        .await?;
    let shown = render(&row);
    Ok(UpdatePullThroughCacheRuleResponse {
        ecr_repository_prefix: shown.ecr_repository_prefix,
        registry_id: shown.registry_id,
        updated_at: shown.updated_at,
        credential_arn: shown.credential_arn,
        custom_role_arn: None,
        upstream_repository_prefix: shown.upstream_repository_prefix,
    })
}

/// The repositories that came by the rule stay, with what is in them.
pub(super) async fn delete_pull_through_cache_rule(
    ecr: &Ecr,
    caller: &Caller,
    input: DeletePullThroughCacheRuleRequest,
) -> Result<DeletePullThroughCacheRuleResponse, ApiError> {
    let permission = Permission::to("ecr:DeletePullThroughCacheRule").on("*");
    ecr.control.read(caller, &permission)?;
    let account = own_registry(caller, input.registry_id.as_ref())?;
    let prefix = input.ecr_repository_prefix.unwrap_or_default();
    let row = ecr
        .control
        .change(caller, &permission, |view, _| {
            let row = find(view, account, &prefix)?.clone();
            let mut batch = Batch::on(view);
            batch.delete(Key::EcrPullThroughRule(account, NamePrefix::new(&prefix)));
            Ok((batch, row))
        })
        .await?;
    let shown = render(&row);
    Ok(DeletePullThroughCacheRuleResponse {
        ecr_repository_prefix: shown.ecr_repository_prefix,
        upstream_registry_url: shown.upstream_registry_url,
        created_at: shown.created_at,
        registry_id: shown.registry_id,
        credential_arn: shown.credential_arn,
        custom_role_arn: None,
        upstream_repository_prefix: shown.upstream_repository_prefix,
    })
}

/// Asks the upstream itself, with what the rule would show it.
pub(super) async fn validate_pull_through_cache_rule(
    ecr: &Ecr,
    caller: &Caller,
    input: ValidatePullThroughCacheRuleRequest,
) -> Result<ValidatePullThroughCacheRuleResponse, ApiError> {
    let permission = Permission::to("ecr:ValidatePullThroughCacheRule").on("*");
    let view = ecr.control.read(caller, &permission)?;
    let account = own_registry(caller, input.registry_id.as_ref())?;
    let row = find(&view, account, &input.ecr_repository_prefix.unwrap_or_default())?;
    let failure = ecr.pull_through.check(&view, row).await.err();
    let shown = render(row);
    Ok(ValidatePullThroughCacheRuleResponse {
        ecr_repository_prefix: shown.ecr_repository_prefix,
        registry_id: shown.registry_id,
        upstream_registry_url: shown.upstream_registry_url,
        credential_arn: shown.credential_arn,
        custom_role_arn: None,
        upstream_repository_prefix: shown.upstream_repository_prefix,
        is_valid: Some(failure.is_none()),
        failure,
    })
}
