//! CreateRepository.

use std::collections::BTreeMap;

use aws_wire::{ApiError, Caller};
use control::Control;
use control::kms::{KeyRefusal, KeyUse};
use ecr_api::{
    CreateRepositoryRequest, CreateRepositoryResponse, EncryptionConfiguration, EncryptionType,
};
use longshore_types::Timestamp;
use model::ecr::RepositoryKey;
use model::{EcrRepository, Key, View};
use registry::Repository;
use store::Batch;

use super::errors::Refusal;
use super::request::{not_own_registry, read_mutability, read_name, repository_arn};
use super::scanning;
use super::tag_resource::read_tags;
use crate::Ecr;

/// As KMS knows it.
const SERVICE: &str = "ecr";
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
        return Err(not_own_registry(caller));
    }
    let (tag_mutability, mutability_exclusions) =
        read_mutability(input.image_tag_mutability, input.image_tag_mutability_exclusion_filters)?;
    let scan_on_push = scanning::read(input.image_scanning_configuration.as_ref());
    let encryption = Encryption::read(input.encryption_configuration)?;
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
            let mut batch = Batch::on(view);
            let key = encryption.key(ecr, caller, view, &mut batch, now)?;
            let row = EcrRepository {
                account,
                name: name.clone(),
                created_at: now,
                tag_mutability,
                mutability_exclusions: mutability_exclusions.clone(),
                scan_on_push,
                key,
                tags: tags.clone(),
                policy: None,
                lifecycle: None,
                preview: None,
            };
            batch.rely(Key::EcrRepository(account, name.clone())).put(row.clone());
            Ok((batch, row))
        })
        .await?;
    Ok(CreateRepositoryResponse { repository: Some(ecr.render_repository(&row)) })
}

/// What a repository's images are to be encrypted by.
enum Encryption {
    /// Whoever looks after the disk encrypts it.
    Disk,
    /// A key of KMS as it was named; none: Amazon's own.
    Key(Option<String>),
}

impl Encryption {
    fn read(asked: Option<EncryptionConfiguration>) -> Result<Self, ApiError> {
        let Some(asked) = asked else { return Ok(Self::Disk) };
        match asked.encryption_type {
            Some(EncryptionType::Kms) => Ok(Self::Key(asked.kms_key)),
            kind => {
                let kind = kind.as_ref();
                check_disk_encryption(kind, asked.kms_key.as_ref()).map(|()| Self::Disk)
            }
        }
    }

    /// The key, which is enabled, and of which the caller may give a service the use.
    fn key(
        &self,
        ecr: &Ecr,
        caller: &Caller,
        view: &View,
        batch: &mut Batch,
        now: Timestamp,
    ) -> Result<Option<RepositoryKey>, ApiError> {
        let Self::Key(given) = self else { return Ok(None) };
        let control = &ecr.control;
        let named = match given.as_deref() {
            None => control.managed_key(view, batch, caller.account, SERVICE, now),
            Some(given) => control.find_key(view, caller.account, given).map_err(of_key)?,
        };
        let context = BTreeMap::new();
        let asked = KeyUse { action: "kms:CreateGrant", via: Some(SERVICE), context: &context };
        if given.is_some() {
            let permission = control.key_permission(caller, view, &named, &asked);
            control.authorize(view, caller, &permission)?;
        }
        control.check_key(&named.key).map_err(of_key)?;
        batch.rely(Key::KmsKey(named.key.account, named.key.id));
        Ok(Some(RepositoryKey { account: named.key.account, id: named.key.id }))
    }
}

/// ECR's answer where a key is in the way.
pub(crate) fn of_key(refusal: KeyRefusal) -> ApiError {
    let reason = refusal.to_api();
    let message = format!(
        "The operation failed due to a KMS exception. (Service: AWSKMS; Status Code: 400; Error Code: {}) {}",
        reason.code, reason.message
    );
    ApiError::client("KmsException", message)
}

/// That a repository's key, if it has one, is ready.
pub(crate) fn check_key(
    control: &Control,
    view: &View,
    row: &EcrRepository,
) -> Result<(), KeyRefusal> {
    let Some(RepositoryKey { account, id }) = row.key else { return Ok(()) };
    let missing = || KeyRefusal::NoKey(control.kms_arn(account, &format!("key/{id}")));
    control.check_key(view.kms_keys.get(account, &id).ok_or_else(missing)?)
}

/// Blobs lie on the disk as they are; who wants them encrypted encrypts the disk.
pub(super) fn check_disk_encryption(
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
            let why = "encryptionType must be AES256 or KMS, and AES256 in a template.";
            Err(Refusal::Unsupported(why).into())
        }
    }
}
