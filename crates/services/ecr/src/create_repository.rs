//! CreateRepository.

use aws_wire::{ApiError, Caller};
use ecr_api::{CreateRepositoryRequest, CreateRepositoryResponse, EncryptionType};
use model::{EcrRepository, Key};
use registry::Repository;
use store::Batch;

use super::errors::Refusal;
use super::request::{bad_registry, read_mutability, read_name, repository_arn};
use super::scanning;
use super::tag_resource::read_tags;
use crate::Ecr;

/// ECR's default quota.
pub(super) const REPOSITORIES_MAX: usize = 100_000;

pub(super) async fn create_repository(
    ecr: &Ecr,
    caller: &Caller,
    input: CreateRepositoryRequest,
) -> Result<CreateRepositoryResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:CreateRepository", &input.registry_id, &input.repository_name);
    let name = read_name(input.repository_name.as_deref().unwrap_or_default())?;
    if input.registry_id.is_some_and(|id| id != caller.account.as_str()) {
        return Err(bad_registry());
    }
    let (tag_mutability, mutability_exclusions) =
        read_mutability(input.image_tag_mutability, input.image_tag_mutability_exclusion_filters)?;
    let scan_on_push = scanning::read(input.image_scanning_configuration.as_ref());
    if let Some(asked) = &input.encryption_configuration {
        check_encryption(asked.encryption_type.as_ref(), asked.kms_key.as_ref())?;
    }
    let tags = read_tags(input.tags)?;
    let account = caller.account;
    let arn = repository_arn(&ecr.control.config.region, account, name.as_str());
    let permission = permission.tagging_new(caller, "ecr:TagResource", arn, &tags);
    let row = ecr
        .control
        .change(caller, &permission, |view, now| {
            if view.ecr_repositories.get(account, &name).is_some() {
                let repository = Repository { account, name: name.clone() };
                return Err(Refusal::RepositoryExists(repository).into());
            }
            if view.ecr_repositories.of(account).count() >= REPOSITORIES_MAX {
                return Err(Refusal::RepositoryLimit { max: REPOSITORIES_MAX }.into());
            }
            let row = EcrRepository {
                account,
                name: name.clone(),
                created_at: now,
                tag_mutability,
                mutability_exclusions: mutability_exclusions.clone(),
                scan_on_push,
                tags: tags.clone(),
                policy: None,
                lifecycle: None,
                preview: None,
            };
            let mut batch = Batch::on(view);
            batch.rely(Key::EcrRepository(account, name.clone())).put(row.clone());
            Ok((batch, row))
        })
        .await?;
    Ok(CreateRepositoryResponse { repository: Some(ecr.render_repository(&row)) })
}

/// Blobs lie on the disk as they are; who wants them encrypted encrypts the disk.
pub(super) fn check_encryption(
    kind: Option<&EncryptionType>,
    key: Option<&String>,
) -> Result<(), ApiError> {
    match kind {
        None | Some(EncryptionType::Aes256) if key.is_none() => Ok(()),
        None | Some(EncryptionType::Aes256) => {
            let rule = "kmsKey can only be given with encryption type KMS";
            Err(Refusal::parameter("encryptionConfiguration", rule).into())
        }
        Some(_) => {
            let why = "encryptionType must be AES256: layers are shared by repositories and are not sealed \
                       under keys of KMS.";
            Err(Refusal::Unsupported(why).into())
        }
    }
}
