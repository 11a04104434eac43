//! Lifecycle policies and repository policies: none can be set yet, so that there never is one.

use aws_wire::{ApiError, Caller};
use ecr_api::{
    DeleteLifecyclePolicyRequest, DeleteLifecyclePolicyResponse, DeleteRepositoryPolicyRequest,
    DeleteRepositoryPolicyResponse, GetLifecyclePolicyRequest, GetLifecyclePolicyResponse,
    GetRepositoryPolicyRequest, GetRepositoryPolicyResponse, PutLifecyclePolicyRequest,
    PutLifecyclePolicyResponse, SetRepositoryPolicyRequest, SetRepositoryPolicyResponse,
};
use registry::Repository;

use super::errors::{Refusal, of_catalog};
use super::request::repository;
use crate::Ecr;
use crate::catalog::need;

/// The repository, which is there.
fn existing(
    ecr: &Ecr,
    caller: &Caller,
    registry_id: Option<&String>,
    name: Option<&String>,
) -> Result<Repository, ApiError> {
    let repository = repository(caller, registry_id, name)?;
    need(&ecr.control.view(), &repository).map_err(of_catalog)?;
    Ok(repository)
}

pub(super) async fn get_lifecycle_policy(
    ecr: &Ecr,
    caller: &Caller,
    input: GetLifecyclePolicyRequest,
) -> Result<GetLifecyclePolicyResponse, ApiError> {
    let permission = ecr.on(caller, "ecr:GetLifecyclePolicy", &input.repository_name);
    ecr.control.read(caller, &permission)?;
    let (registry, name) = (input.registry_id.as_ref(), input.repository_name.as_ref());
    Err(Refusal::NoLifecyclePolicy(existing(ecr, caller, registry, name)?).into())
}

pub(super) async fn delete_lifecycle_policy(
    ecr: &Ecr,
    caller: &Caller,
    input: DeleteLifecyclePolicyRequest,
) -> Result<DeleteLifecyclePolicyResponse, ApiError> {
    let permission = ecr.on(caller, "ecr:DeleteLifecyclePolicy", &input.repository_name);
    ecr.control.read(caller, &permission)?;
    let (registry, name) = (input.registry_id.as_ref(), input.repository_name.as_ref());
    Err(Refusal::NoLifecyclePolicy(existing(ecr, caller, registry, name)?).into())
}

pub(super) async fn put_lifecycle_policy(
    ecr: &Ecr,
    caller: &Caller,
    input: PutLifecyclePolicyRequest,
) -> Result<PutLifecyclePolicyResponse, ApiError> {
    let permission = ecr.on(caller, "ecr:PutLifecyclePolicy", &input.repository_name);
    ecr.control.read(caller, &permission)?;
    existing(ecr, caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let why = "This registry does not act on lifecycle policies yet: no image would expire.";
    Err(Refusal::Unsupported(why).into())
}

pub(super) async fn get_repository_policy(
    ecr: &Ecr,
    caller: &Caller,
    input: GetRepositoryPolicyRequest,
) -> Result<GetRepositoryPolicyResponse, ApiError> {
    let permission = ecr.on(caller, "ecr:GetRepositoryPolicy", &input.repository_name);
    ecr.control.read(caller, &permission)?;
    let (registry, name) = (input.registry_id.as_ref(), input.repository_name.as_ref());
    Err(Refusal::NoRepositoryPolicy(existing(ecr, caller, registry, name)?).into())
}

pub(super) async fn delete_repository_policy(
    ecr: &Ecr,
    caller: &Caller,
    input: DeleteRepositoryPolicyRequest,
) -> Result<DeleteRepositoryPolicyResponse, ApiError> {
    let permission = ecr.on(caller, "ecr:DeleteRepositoryPolicy", &input.repository_name);
    ecr.control.read(caller, &permission)?;
    let (registry, name) = (input.registry_id.as_ref(), input.repository_name.as_ref());
    Err(Refusal::NoRepositoryPolicy(existing(ecr, caller, registry, name)?).into())
}

pub(super) async fn set_repository_policy(
    ecr: &Ecr,
    caller: &Caller,
    input: SetRepositoryPolicyRequest,
) -> Result<SetRepositoryPolicyResponse, ApiError> {
    let permission = ecr.on(caller, "ecr:SetRepositoryPolicy", &input.repository_name);
    ecr.control.read(caller, &permission)?;
    existing(ecr, caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let why = "This registry does not act on repository policies yet: an account's repositories \
               are its own.";
    Err(Refusal::Unsupported(why).into())
}
