//! Repository creation templates: what repositories are like that are made by themselves ([`crate::making`]).

use std::collections::BTreeSet;

use aws_wire::{ApiError, Caller};
use control::Permission;
use ecr_api::{
    CreateRepositoryCreationTemplateRequest, CreateRepositoryCreationTemplateResponse,
    DeleteRepositoryCreationTemplateRequest, DeleteRepositoryCreationTemplateResponse,
    DescribeRepositoryCreationTemplatesRequest, DescribeRepositoryCreationTemplatesResponse,
    EncryptionConfigurationForRepositoryCreationTemplate, EncryptionType, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, RCTAppliedFor, RepositoryCreationTemplate, Tag,
    UpdateRepositoryCreationTemplateRequest, UpdateRepositoryCreationTemplateResponse,
};
use longshore_types::{AccountId, Arn};
use model::{EcrTemplate, Key, MadeFor, NamePrefix, ResourcePolicyText, TagMutability, Tags, View};
use store::Batch;

use super::errors::Refusal;
use super::making::ROLE_SERVICE;
use super::pages::page;
use super::request::{read_mutability, render_exclusions, render_mutability, repository_arn};
use super::tag_resource::read_tags;
use super::{lifecycle, policies};
use crate::Ecr;

/// ECR's quota.
const TEMPLATES_MAX: usize = 50;

fn find<'v>(view: &'v View, account: AccountId, prefix: &str) -> Result<&'v EcrTemplate, ApiError> {
    let row = view.ecr_templates.get(account, &NamePrefix::new(prefix));
    row.map(AsRef::as_ref).ok_or_else(|| Refusal::NoTemplate(account, prefix.to_owned()).into())
}

/// What a request says of a template; what it leaves out stays as it is.
#[derive(Clone)]
struct Said {
    description: Option<String>,
    made_for: Option<BTreeSet<MadeFor>>,
    mutability: Option<(TagMutability, Vec<String>)>,
    tags: Option<Tags>,
    /// An empty text takes a policy away.
    policy: Option<Option<ResourcePolicyText>>,
    lifecycle: Option<Option<String>>,
    role: Option<String>,
}

impl Said {
    fn apply(self, row: EcrTemplate) -> EcrTemplate {
        let kept = (row.tag_mutability, row.mutability_exclusions);
        let (tag_mutability, mutability_exclusions) = self.mutability.unwrap_or(kept);
        EcrTemplate {
            description: self.description.or(row.description),
            made_for: self.made_for.unwrap_or(row.made_for),
            tag_mutability,
            mutability_exclusions,
            tags: self.tags.unwrap_or(row.tags),
            policy: self.policy.unwrap_or(row.policy),
            lifecycle: self.lifecycle.unwrap_or(row.lifecycle),
            role: self.role.or(row.role),
            ..row
        }
    }

    /// What whoever writes it must be allowed besides.
    fn permission(
        &self,
        ecr: &Ecr,
        caller: &Caller,
        action: &'static str,
        prefix: &str,
    ) -> Permission {
        let prefix = NamePrefix::new(prefix).join("*");
        let (region, account) = (&ecr.control.config.region, caller.account);
        let arn = repository_arn(region, account, &prefix);
        let mut permission = Permission::to(action).on("*");
        if matches!(self.policy, Some(Some(_))) {
            permission = permission.and(Permission::to("ecr:SetRepositoryPolicy").on(arn.clone()));
        }
        if matches!(self.lifecycle, Some(Some(_))) {
            permission = permission.and(Permission::to("ecr:PutLifecyclePolicy").on(arn));
        }
        permission.passing(self.role.as_deref(), ROLE_SERVICE)
    }
}

fn read_made_for(asked: Vec<RCTAppliedFor>) -> Result<BTreeSet<MadeFor>, ApiError> {
    let each = asked.into_iter().map(|one| match one {
        RCTAppliedFor::PullThroughCache => Ok(MadeFor::PullThroughCache),
        RCTAppliedFor::CreateOnPush => Ok(MadeFor::CreateOnPush),
        RCTAppliedFor::Replication => {
            let why = "appliedFor: REPLICATION is not possible, as this registry replicates nothing: \
                       name PULL_THROUGH_CACHE, CREATE_ON_PUSH or both.";
            Err(Refusal::Unsupported(why).into())
        }
        _ => {
            let set = "Member must satisfy enum value set: [PULL_THROUGH_CACHE, CREATE_ON_PUSH]";
            Err(Refusal::parameter("appliedFor", set).into())
        }
    });
    let read: BTreeSet<MadeFor> = each.collect::<Result<_, ApiError>>()?;
    match read.is_empty() {
        true => Err(Refusal::parameter("appliedFor", "must not be empty").into()),
        false => Ok(read),
    }
}

fn check_encryption(
    asked: Option<EncryptionConfigurationForRepositoryCreationTemplate>,
) -> Result<(), ApiError> {
    let Some(asked) = asked else { return Ok(()) };
    super::create_repository::check_disk_encryption(
        asked.encryption_type.as_ref(),
        asked.kms_key.as_ref(),
    )
}

fn read_role(caller: &Caller, role: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(role) = role else { return Ok(None) };
    let is_own_role = Arn::parse(&role).is_ok_and(|arn| {
        arn.service == "iam"
            && arn.account == caller.account.as_str()
            && arn.resource.starts_with("role/")
    });
    match is_own_role {
        true => Ok(Some(role)),
        false => {
            let rule = "must be the ARN of a role of this account";
            Err(Refusal::parameter("customRoleArn", rule).into())
        }
    }
}

fn read_mutability_if_said(
    mutability: Option<ImageTagMutability>,
    filters: Option<Vec<ImageTagMutabilityExclusionFilter>>,
) -> Result<Option<(TagMutability, Vec<String>)>, ApiError> {
    match (&mutability, &filters) {
        (None, None) => Ok(None),
        (Some(_), _) | (_, Some(_)) => read_mutability(mutability, filters).map(Some),
    }
}

fn read_policy(
    view: &View,
    text: Option<String>,
) -> Result<Option<Option<ResourcePolicyText>>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    match text.is_empty() {
        true => Ok(Some(None)),
        false => policies::read_repository_policy(view, Some(&text)).map(|read| Some(Some(read))),
    }
}

fn read_lifecycle(text: Option<String>) -> Result<Option<Option<String>>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    match text.is_empty() {
        true => Ok(Some(None)),
        false => lifecycle::check(Some(&text)).map(|read| Some(Some(read))),
    }
}

pub(super) async fn create_repository_creation_template(
    ecr: &Ecr,
    caller: &Caller,
    input: CreateRepositoryCreationTemplateRequest,
) -> Result<CreateRepositoryCreationTemplateResponse, ApiError> {
    let action = "ecr:CreateRepositoryCreationTemplate";
    let view = ecr.control.read(caller, &Permission::to(action).on("*"))?;
    let (account, prefix) = (caller.account, input.prefix.unwrap_or_default());
    check_encryption(input.encryption_configuration)?;
    let said = Said {
        description: input.description,
        made_for: Some(read_made_for(input.applied_for.unwrap_or_default())?),
        mutability: read_mutability_if_said(
            input.image_tag_mutability,
            input.image_tag_mutability_exclusion_filters,
        )?,
        tags: Some(read_tags(input.resource_tags)?),
        policy: read_policy(&view, input.repository_policy)?,
        lifecycle: read_lifecycle(input.lifecycle_policy)?,
        role: read_role(caller, input.custom_role_arn)?,
    };
    let permission = said.permission(ecr, caller, action, &prefix);
    let bare = EcrTemplate {
        account,
        prefix: prefix.clone(),
        description: None,
        made_for: BTreeSet::new(),
        tag_mutability: TagMutability::Mutable,
        mutability_exclusions: Vec::new(),
        tags: Tags::new(),
        policy: None,
        lifecycle: None,
        role: None,
        created_at: caller.now,
        updated_at: caller.now,
    };
    let row = said.apply(bare);
    let row = ecr
        .control
        .change(caller, &permission, |view, now| {
            let id = NamePrefix::new(&prefix);
            if view.ecr_templates.get(account, &id).is_some() {
                return Err(Refusal::TemplateExists(account, prefix.clone()).into());
            }
            if TEMPLATES_MAX <= view.ecr_templates.of(account).count() {
                let limit = format!(
                    "The limit of {TEMPLATES_MAX} repository creation templates is reached."
                );
                return Err(Refusal::Limit(limit).into());
            }
            let row = EcrTemplate { created_at: now, updated_at: now, ..row.clone() };
            let mut batch = Batch::on(view);
            batch.rely(Key::EcrTemplate(account, id)).put(row.clone());
            Ok((batch, row))
        })
        .await?;
    Ok(CreateRepositoryCreationTemplateResponse {
        registry_id: Some(account.to_string()),
        repository_creation_template: Some(render(&ecr.control.view(), &row)),
    })
}

fn render(view: &View, row: &EcrTemplate) -> RepositoryCreationTemplate {
    let tag = |(key, value): (&String, &String)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    let made_for = |made_for: &MadeFor| match made_for {
        MadeFor::PullThroughCache => RCTAppliedFor::PullThroughCache,
        MadeFor::CreateOnPush => RCTAppliedFor::CreateOnPush,
    };
    RepositoryCreationTemplate {
        prefix: Some(row.prefix.clone()),
        description: row.description.clone(),
        encryption_configuration: Some(EncryptionConfigurationForRepositoryCreationTemplate {
            encryption_type: Some(EncryptionType::Aes256),
            kms_key: None,
        }),
        resource_tags: (!row.tags.is_empty()).then(|| row.tags.iter().map(tag).collect()),
        image_tag_mutability: Some(render_mutability(row.tag_mutability)),
        image_tag_mutability_exclusion_filters: render_exclusions(&row.mutability_exclusions),
        repository_policy: row.policy.as_ref().map(|policy| policies::render(view, policy)),
        lifecycle_policy: row.lifecycle.clone(),
        applied_for: Some(row.made_for.iter().map(made_for).collect()),
        custom_role_arn: row.role.clone(),
        created_at: Some(row.created_at),
        updated_at: Some(row.updated_at),
    }
}

/// Prefixes without a template are left out.
pub(super) async fn describe_repository_creation_templates(
    ecr: &Ecr,
    caller: &Caller,
    input: DescribeRepositoryCreationTemplatesRequest,
) -> Result<DescribeRepositoryCreationTemplatesResponse, ApiError> {
    let permission = Permission::to("ecr:DescribeRepositoryCreationTemplates").on("*");
    let view = ecr.control.read(caller, &permission)?;
    let account = caller.account;
    let asked: Option<BTreeSet<NamePrefix>> =
        input.prefixes.map(|asked| asked.iter().map(|one| NamePrefix::new(one)).collect());
    let rows = view.ecr_templates.of(account).filter_map(|row| {
        let id = NamePrefix::new(&row.prefix);
        let is_asked = asked.as_ref().is_none_or(|asked| asked.contains(&id));
        is_asked.then(|| (id.to_string(), render(&view, row)))
    });
    let (shown, next_token) = page(input.next_token.as_deref(), input.max_results, rows)?;
    Ok(DescribeRepositoryCreationTemplatesResponse {
        registry_id: Some(account.to_string()),
        repository_creation_templates: Some(shown),
        next_token,
    })
}

pub(super) async fn update_repository_creation_template(
    ecr: &Ecr,
    caller: &Caller,
    input: UpdateRepositoryCreationTemplateRequest,
) -> Result<UpdateRepositoryCreationTemplateResponse, ApiError> {
    let action = "ecr:UpdateRepositoryCreationTemplate";
    let view = ecr.control.read(caller, &Permission::to(action).on("*"))?;
    let (account, prefix) = (caller.account, input.prefix.unwrap_or_default());
    check_encryption(input.encryption_configuration)?;
    let said = Said {
        description: input.description,
        made_for: input.applied_for.map(read_made_for).transpose()?,
        mutability: read_mutability_if_said(
            input.image_tag_mutability,
            input.image_tag_mutability_exclusion_filters,
        )?,
        tags: input.resource_tags.map(|tags| read_tags(Some(tags))).transpose()?,
        policy: read_policy(&view, input.repository_policy)?,
        lifecycle: read_lifecycle(input.lifecycle_policy)?,
        role: read_role(caller, input.custom_role_arn)?,
    };
    let permission = said.permission(ecr, caller, action, &prefix);
    let row = ecr
        .control
        .change(caller, &permission, |view, now| {
            let row = find(view, account, &prefix)?.clone();
            let row = EcrTemplate { updated_at: now, ..said.clone().apply(row) };
            let mut batch = Batch::on(view);
            batch.put(row.clone());
            Ok((batch, row))
        })
        .await?;
    Ok(UpdateRepositoryCreationTemplateResponse {
        registry_id: Some(account.to_string()),
        repository_creation_template: Some(render(&ecr.control.view(), &row)),
    })
}

/// What was made by the template stays as it is.
pub(super) async fn delete_repository_creation_template(
    ecr: &Ecr,
    caller: &Caller,
    input: DeleteRepositoryCreationTemplateRequest,
) -> Result<DeleteRepositoryCreationTemplateResponse, ApiError> {
    let permission = Permission::to("ecr:DeleteRepositoryCreationTemplate").on("*");
    let (account, prefix) = (caller.account, input.prefix.unwrap_or_default());
    let row = ecr
        .control
        .change(caller, &permission, |view, _| {
            let row = find(view, account, &prefix)?.clone();
            let mut batch = Batch::on(view);
            batch.delete(Key::EcrTemplate(account, NamePrefix::new(&prefix)));
            Ok((batch, row))
        })
        .await?;
    Ok(DeleteRepositoryCreationTemplateResponse {
        registry_id: Some(account.to_string()),
        repository_creation_template: Some(render(&ecr.control.view(), &row)),
    })
}
