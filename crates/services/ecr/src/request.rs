//! What most requests have in common: which registry, which repository, and how they are shown.

use std::sync::Arc;

use aws_wire::{ApiError, Caller, Principal};
use control::Permission;
use ecr_api as api;
use longshore_types::{AccountId, RegionName, RepositoryName};
use model::ecr::RepositoryKey;
use model::{EcrRepository, TagMutability, View};
use registry::Repository;

use super::create_repository::{check_key, of_key};
use super::errors::{Refusal, of_catalog};
use super::scanning;
use crate::Ecr;
use crate::catalog::need;

/// The repository that a request names. One of another account is its policy's to open, which is asked; to keys
/// that no policies speak of it is as good as none.
pub(super) fn repository(
    caller: &Caller,
    registry_id: Option<&String>,
    name: Option<&String>,
) -> Result<Repository, ApiError> {
    let given = name.map(String::as_str).unwrap_or_default();
    let name = read_name(given)?;
    let theirs = registry_id.filter(|id| id.as_str() != caller.account.as_str());
    match theirs.map(|id| id.parse()) {
        None => Ok(Repository { account: caller.account, name }),
        Some(Ok(account)) => match caller.principal {
            Principal::Root
            | Principal::User { .. }
            | Principal::Role { .. }
            | Principal::Federated { .. } => Ok(Repository { account, name }),
            Principal::Node { .. } | Principal::Anonymous => {
                Err(Refusal::NoRepository(Repository { account, name }).into())
            }
        },
        Some(Err(_)) => Err(bad_registry()),
    }
}

pub(super) fn bad_registry() -> ApiError {
    let constraint = "must satisfy regular expression '[0-9]{12}'";
    Refusal::parameter("registryId", constraint).into()
}

/// For what is asked about, or made in, the caller's own registry alone.
pub(super) fn not_own_registry(caller: &Caller) -> ApiError {
    let constraint = format!("must be the caller's own registry, {}", caller.account);
    Refusal::parameter("registryId", constraint).into()
}

/// ECR's rule is narrower than the protocol's: one separator between two words, two characters.
pub(super) fn read_name(name: &str) -> Result<RepositoryName, ApiError> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_ecr = name.len() >= 2
        && name.split(is_word).all(|separator| matches!(separator, "" | "." | "_" | "-" | "/"));
    match name.parse() {
        Ok(name) if is_ecr => Ok(name),
        Ok(_) | Err(_) => Err(Refusal::parameter(
            "repositoryName",
            "must satisfy regular expression \
             '(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*'",
        )
        .into()),
    }
}

pub(crate) fn repository_arn(region: &RegionName, account: AccountId, name: &str) -> String {
    format!("arn:aws:ecr:{region}:{account}:repository/{name}")
}

impl Ecr {
    /// The repository, if there is one of the name, for what needs its key: pushes and pulls.
    pub(super) fn usable<'a>(
        &self,
        view: &'a View,
        repository: &Repository,
    ) -> Result<&'a Arc<EcrRepository>, ApiError> {
        let row = need(view, repository).map_err(of_catalog)?;
        check_key(&self.control, view, row).map_err(of_key)?;
        Ok(row)
    }

    /// An action on the repositories that a request names, by name or by ARN.
    pub(super) fn on<'n>(
        &self,
        caller: &Caller,
        action: &'static str,
        registry_id: &Option<String>,
        names: impl IntoIterator<Item = &'n String>,
    ) -> Permission {
        let region = &self.control.config.region;
        let owner = registry_id.as_deref().and_then(|id| id.parse().ok());
        let owner = owner.unwrap_or(caller.account);
        let arn = |name: &String| match name.starts_with("arn:") {
            true => name.clone(),
            false => repository_arn(region, owner, name),
        };
        Permission::to(action).on_each(names.into_iter().map(arn))
    }

    pub(crate) fn repository_arn(&self, row: &EcrRepository) -> String {
        repository_arn(&self.control.config.region, row.account, row.name.as_str())
    }

    /// A repository as answers show it.
    pub(super) fn render_repository(&self, row: &EcrRepository) -> api::Repository {
        api::Repository {
            repository_arn: Some(self.repository_arn(row)),
            registry_id: Some(row.account.to_string()),
            repository_name: Some(row.name.to_string()),
            repository_uri: Some(format!("{}/{}", self.control.registry_host(), row.name)),
            created_at: Some(row.created_at),
            image_tag_mutability: Some(render_mutability(row.tag_mutability)),
            image_tag_mutability_exclusion_filters: render_exclusions(&row.mutability_exclusions),
            image_scanning_configuration: Some(scanning::render(row)),
            encryption_configuration: Some(match row.key {
                None => api::EncryptionConfiguration {
                    encryption_type: Some(api::EncryptionType::Aes256),
                    kms_key: None,
                },
                Some(RepositoryKey { account, id }) => api::EncryptionConfiguration {
                    encryption_type: Some(api::EncryptionType::Kms),
                    kms_key: Some(self.control.kms_arn(account, &format!("key/{id}"))),
                },
            }),
        }
    }
}

pub(super) fn render_mutability(mutability: TagMutability) -> api::ImageTagMutability {
    match mutability {
        TagMutability::Mutable => api::ImageTagMutability::Mutable,
        TagMutability::Immutable => api::ImageTagMutability::Immutable,
        TagMutability::MutableWithExclusion => api::ImageTagMutability::MutableWithExclusion,
        TagMutability::ImmutableWithExclusion => api::ImageTagMutability::ImmutableWithExclusion,
    }
}

pub(super) fn render_exclusions(
    patterns: &[String],
) -> Option<Vec<api::ImageTagMutabilityExclusionFilter>> {
    let render = |pattern: &String| api::ImageTagMutabilityExclusionFilter {
        filter_type: Some(api::ImageTagMutabilityExclusionFilterType::Wildcard),
        filter: Some(pattern.clone()),
    };
    (!patterns.is_empty()).then(|| patterns.iter().map(render).collect())
}

/// Mutability and its exclusions, which must fit each other.
pub(super) fn read_mutability(
    mutability: Option<api::ImageTagMutability>,
    filters: Option<Vec<api::ImageTagMutabilityExclusionFilter>>,
) -> Result<(TagMutability, Vec<String>), ApiError> {
    const FILTERS: &str = "imageTagMutabilityExclusionFilters";
    let mutability = match mutability.unwrap_or(api::ImageTagMutability::Mutable) {
        api::ImageTagMutability::Mutable => TagMutability::Mutable,
        api::ImageTagMutability::Immutable => TagMutability::Immutable,
        api::ImageTagMutability::MutableWithExclusion => TagMutability::MutableWithExclusion,
        api::ImageTagMutability::ImmutableWithExclusion => TagMutability::ImmutableWithExclusion,
        _ => {
            let set = "Member must satisfy enum value set: [IMMUTABLE, MUTABLE, \
                       MUTABLE_WITH_EXCLUSION, IMMUTABLE_WITH_EXCLUSION]";
            return Err(Refusal::parameter("imageTagMutability", set).into());
        }
    };
    let wants_filters = matches!(
        mutability,
        TagMutability::MutableWithExclusion | TagMutability::ImmutableWithExclusion
    );
    let filters = filters.unwrap_or_default();
    let shown = render_mutability(mutability);
    if filters.is_empty() == wants_filters {
        let verb = if wants_filters { "can't be null" } else { "must be null" };
        let constraint = format!(
            "ImageTagMutabilityExclusionFilters {verb} when imageTagMutability is set as {shown}"
        );
        return Err(Refusal::parameter(FILTERS, constraint).into());
    }
    let mut patterns = Vec::new();
    for filter in filters {
        match filter.filter_type {
            Some(api::ImageTagMutabilityExclusionFilterType::Wildcard) => {}
            Some(_) | None => {
                let set = "Member must satisfy enum value set: [WILDCARD]";
                return Err(Refusal::parameter(FILTERS, set).into());
            }
        }
        let pattern = filter.filter.unwrap_or_default();
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._*-".contains(&b);
        let stars = pattern.bytes().filter(|b| *b == b'*').count();
        if pattern.is_empty()
            || pattern.len() > 128
            || stars > 2
            || !pattern.bytes().all(is_allowed)
        {
            let rule = "must be up to 128 letters, digits, '.', '_', '-' and at most two '*'";
            return Err(Refusal::parameter(FILTERS, rule).into());
        }
        patterns.push(pattern);
    }
    Ok((mutability, patterns))
}
