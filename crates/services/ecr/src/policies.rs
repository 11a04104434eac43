//! Policies of repositories, and of a whole registry: who else may do what, and who may not.
//!
//! They are asked with each request, of the API and of the registry, where it is decided (`control::authorize`).

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::{entity_of, principals_of};
use ecr_api::{
    DeleteRegistryPolicyRequest, DeleteRegistryPolicyResponse, DeleteRepositoryPolicyRequest,
    DeleteRepositoryPolicyResponse, GetRegistryPolicyRequest, GetRegistryPolicyResponse,
    GetRepositoryPolicyRequest, GetRepositoryPolicyResponse, PutRegistryPolicyRequest,
    PutRegistryPolicyResponse, SetRepositoryPolicyRequest, SetRepositoryPolicyResponse,
};
use model::{EcrRegistry, EcrRepository, Key, ResourcePolicyText, TheAccount, View};
use policy::{Policy, PolicyKind};
use store::Batch;

use super::errors::{Refusal, of_catalog};
use super::request::repository;
use crate::Ecr;
use crate::catalog::need;

/// As long as ECR takes them.
const TEXT_CHARS_MAX: usize = 10_240;

/// A text that must be a policy of this kind. It means those users and roles that `view` has under the ARNs in it.
fn read(
    view: &View,
    text: Option<&String>,
    kind: PolicyKind,
    what: &str,
) -> Result<ResourcePolicyText, ApiError> {
    let text = text.map(String::as_str).unwrap_or_default();
    let invalid = |why: &str| {
        let constraint = format!("Invalid {what} policy provided{why}");
        ApiError::from(Refusal::parameter("PolicyText", constraint))
    };
    if TEXT_CHARS_MAX < text.chars().count() {
        return Err(invalid(": it has more than 10240 characters"));
    }
    let policy = Policy::parse(text, kind).map_err(|_| invalid(""))?;
    match principals_of(view, &policy) {
        Ok(principals) => Ok(ResourcePolicyText::new(text, principals)),
        Err(who) => Err(invalid(&format!(": there is no principal {who}"))),
    }
}

/// A policy as it is shown: who is gone shows by unique id.
pub(super) fn render(view: &View, policy: &ResourcePolicyText) -> String {
    policy.shown(|id| entity_of(view, id).is_some())
}

/// The text of a repository's policy.
pub(super) fn read_repository_policy(
    view: &View,
    text: Option<&String>,
) -> Result<ResourcePolicyText, ApiError> {
    read(view, text, PolicyKind::Repository, "repository")
}

pub(super) async fn set_repository_policy(
    ecr: &Ecr,
    caller: &Caller,
    input: SetRepositoryPolicyRequest,
) -> Result<SetRepositoryPolicyResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:SetRepositoryPolicy", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let is_forced = input.force.unwrap_or(false);
    ecr.control
        .change(caller, &permission, |view, _| {
            let policy = read_repository_policy(view, input.policy_text.as_ref())?;
            let row = EcrRepository::clone(need(view, &repository).map_err(of_catalog)?);
            let row = EcrRepository { policy: Some(policy), ..row };
            let mut next = view.clone();
            next.put(view.seq, &row.clone().into());
            if !is_forced && ecr.control.authorize(&next, caller, &permission).is_err() {
                let why = "The policy would keep you from setting another one; with force it is \
                           set nevertheless";
                return Err(Refusal::parameter("PolicyText", why).into());
            }
            let mut batch = Batch::on(view);
            batch.put(row);
            Ok((batch, ()))
        })
        .await?;
    Ok(SetRepositoryPolicyResponse {
        registry_id: Some(repository.account.to_string()),
        repository_name: Some(repository.name.to_string()),
        policy_text: input.policy_text,
    })
}

pub(super) async fn get_repository_policy(
    ecr: &Ecr,
    caller: &Caller,
    input: GetRepositoryPolicyRequest,
) -> Result<GetRepositoryPolicyResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:GetRepositoryPolicy", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let view = ecr.control.read(caller, &permission)?;
    let row = need(&view, &repository).map_err(of_catalog)?;
    let policy = row.policy.as_ref().map(|policy| render(&view, policy));
    let policy = policy.ok_or(Refusal::NoRepositoryPolicy(repository))?;
    Ok(GetRepositoryPolicyResponse {
        registry_id: Some(row.account.to_string()),
        repository_name: Some(row.name.to_string()),
        policy_text: Some(policy),
    })
}

pub(super) async fn delete_repository_policy(
    ecr: &Ecr,
    caller: &Caller,
    input: DeleteRepositoryPolicyRequest,
) -> Result<DeleteRepositoryPolicyResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:DeleteRepositoryPolicy", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let was = ecr
        .control
        .change(caller, &permission, |view, _| {
            let row = EcrRepository::clone(need(view, &repository).map_err(of_catalog)?);
            let Some(was) = row.policy.clone() else {
                return Err(Refusal::NoRepositoryPolicy(repository.clone()).into());
            };
            let mut batch = Batch::on(view);
            batch.put(EcrRepository { policy: None, ..row });
            Ok((batch, render(view, &was)))
        })
        .await?;
    Ok(DeleteRepositoryPolicyResponse {
        registry_id: Some(repository.account.to_string()),
        repository_name: Some(repository.name.to_string()),
        policy_text: Some(was),
    })
}

pub(super) async fn put_registry_policy(
    ecr: &Ecr,
    caller: &Caller,
    input: PutRegistryPolicyRequest,
) -> Result<PutRegistryPolicyResponse, ApiError> {
    let permission = Permission::to("ecr:PutRegistryPolicy").on("*");
    let account = caller.account;
    ecr.control
        .change(caller, &permission, |view, _| {
            let policy = read(view, input.policy_text.as_ref(), PolicyKind::Resource, "registry")?;
            let mut batch = Batch::on(view);
            batch.put(EcrRegistry { account, policy });
            Ok((batch, ()))
        })
        .await?;
    Ok(PutRegistryPolicyResponse {
        registry_id: Some(account.to_string()),
        policy_text: input.policy_text,
    })
}

pub(super) async fn get_registry_policy(
    ecr: &Ecr,
    caller: &Caller,
    _input: GetRegistryPolicyRequest,
) -> Result<GetRegistryPolicyResponse, ApiError> {
    let permission = Permission::to("ecr:GetRegistryPolicy").on("*");
    let view = ecr.control.read(caller, &permission)?;
    let row = view.ecr_registries.get(caller.account, &TheAccount);
    let row = row.ok_or(Refusal::NoRegistryPolicy(caller.account))?;
    Ok(GetRegistryPolicyResponse {
        registry_id: Some(row.account.to_string()),
        policy_text: Some(render(&view, &row.policy)),
    })
}

pub(super) async fn delete_registry_policy(
    ecr: &Ecr,
    caller: &Caller,
    _input: DeleteRegistryPolicyRequest,
) -> Result<DeleteRegistryPolicyResponse, ApiError> {
    let permission = Permission::to("ecr:DeleteRegistryPolicy").on("*");
    let account = caller.account;
    let was = ecr
        .control
        .change(caller, &permission, |view, _| {
            let row = view.ecr_registries.get(account, &TheAccount);
            let row = row.ok_or(Refusal::NoRegistryPolicy(account))?;
            let mut batch = Batch::on(view);
            batch.delete(Key::EcrRegistry(account, TheAccount));
            Ok((batch, render(view, &row.policy)))
        })
        .await?;
    Ok(DeleteRegistryPolicyResponse {
        registry_id: Some(account.to_string()),
        policy_text: Some(was),
    })
}
