//! DescribeSecret, ListSecrets and ListSecretVersionIds.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use longshore_types::AccountId;
use model::{Secret, View};
use secretsmanager_api as api;

use crate::errors::invalid;
use crate::pages::{Place, page};
use crate::{SecretsManager, render};

pub(crate) async fn describe_secret(
    it: &SecretsManager,
    caller: &Caller,
    input: api::DescribeSecretRequest,
) -> Result<api::DescribeSecretResponse, ApiError> {
    let given = input.secret_id.unwrap_or_default();
    let (_, row) = it.read(caller, "secretsmanager:DescribeSecret", &given)?;
    let shown = render::secret(&it.control, &row);
    Ok(api::DescribeSecretResponse {
        arn: shown.arn,
        name: shown.name,
        description: shown.description,
        kms_key_id: shown.kms_key_id,
        last_changed_date: shown.last_changed_date,
        last_accessed_date: shown.last_accessed_date,
        deleted_date: row.deletion.map(|deletion| deletion.asked_at),
        tags: shown.tags,
        version_ids_to_stages: shown.secret_versions_to_stages,
        created_date: shown.created_date,
        rotation_enabled: shown.rotation_enabled,
        rotation_lambda_arn: shown.rotation_lambda_arn,
        rotation_rules: shown.rotation_rules,
        last_rotated_date: shown.last_rotated_date,
        next_rotation_date: shown.next_rotation_date,
        ..api::DescribeSecretResponse::default()
    })
}

/// What a list is narrowed to: all of them must hold.
pub(crate) struct Filter {
    key: api::FilterNameStringType,
    /// One of them must match; those with `!` must not.
    values: Vec<String>,
}

pub(crate) fn filters(given: Option<Vec<api::Filter>>) -> Result<Vec<Filter>, ApiError> {
    let read = |filter: api::Filter| {
        let key = filter.key.filter(api::FilterNameStringType::is_known);
        let key = key.ok_or_else(|| invalid("The filter's key is not known."))?;
        Ok(Filter { key, values: filter.values.unwrap_or_default() })
    };
    given.unwrap_or_default().into_iter().map(read).collect()
}

impl Filter {
    fn passes(&self, row: &Secret) -> bool {
        let (without, with): (Vec<&String>, Vec<&String>) =
            self.values.iter().partition(|value| value.starts_with('!'));
        let is_excluded = without.iter().any(|value| self.matches(row, &value[1..]));
        !is_excluded && (with.is_empty() || with.iter().any(|value| self.matches(row, value)))
    }

    fn matches(&self, row: &Secret, value: &str) -> bool {
        use api::FilterNameStringType as By;
        let begins = |text: &str| text.to_lowercase().starts_with(&value.to_lowercase());
        match &self.key {
            By::Name => row.name.starts_with(value),
            By::Description => row.description.as_deref().is_some_and(begins),
            By::TagKey => row.tags.keys().any(|key| key.starts_with(value)),
            By::TagValue => row.tags.values().any(|it| it.starts_with(value)),
            By::All => value.split_whitespace().all(|word| has_word(row, &word.to_lowercase())),
            // No secret is replicated, or another service's.
            _ => false,
        }
    }
}

fn has_word(row: &Secret, word: &str) -> bool {
    let tags = row.tags.iter().flat_map(|(key, value)| [key.as_str(), value]);
    let mut texts = tags.chain([&*row.name]).chain(row.description.as_deref());
    texts.any(|text| text.to_lowercase().contains(word))
}

/// An account's secrets that pass all filters.
pub(crate) fn filtered<'a>(
    view: &'a View,
    account: AccountId,
    filters: &'a [Filter],
    with_deleted: bool,
) -> impl Iterator<Item = &'a Arc<Secret>> {
    let there = view.secrets.of(account);
    let there = there.filter(move |row| with_deleted || row.deletion.is_none());
    there.filter(|row| filters.iter().all(|filter| filter.passes(row)))
}

pub(crate) async fn list_secrets(
    it: &SecretsManager,
    caller: &Caller,
    input: api::ListSecretsRequest,
) -> Result<api::ListSecretsResponse, ApiError> {
    use api::SortByType as By;
    let view = it.control.read(caller, &Permission::to("secretsmanager:ListSecrets").on("*"))?;
    let filters = filters(input.filters)?;
    let by = input.sort_by.unwrap_or(By::CreatedDate);
    let number = |row: &Secret| match by {
        By::LastAccessedDate => row.accessed_on.map_or(0, |at| at.0),
        By::LastChangedDate => row.changed_at.0,
        By::Name => 0,
        _ => row.created_at.0,
    };
    let with_deleted = input.include_planned_deletion.unwrap_or(false);
    let found = filtered(&view, caller.account, &filters, with_deleted);
    let found = found.map(|row| (Place::of(number(row), &row.name), Arc::clone(row)));
    let is_falling = input.sort_order == Some(api::SortOrderType::Desc);
    let page = page(input.next_token, input.max_results, found.collect(), is_falling)?;
    let shown = page.items.iter().map(|row| render::secret(&it.control, row));
    Ok(api::ListSecretsResponse { secret_list: Some(shown.collect()), next_token: page.next_token })
}

pub(crate) async fn list_secret_version_ids(
    it: &SecretsManager,
    caller: &Caller,
    input: api::ListSecretVersionIdsRequest,
) -> Result<api::ListSecretVersionIdsResponse, ApiError> {
    let given = input.secret_id.unwrap_or_default();
    let (_, row) = it.read(caller, "secretsmanager:ListSecretVersionIds", &given)?;
    let with_deprecated = input.include_deprecated.unwrap_or(false);
    let found = row.versions.iter().filter(|(_, info)| with_deprecated || !info.stages.is_empty());
    let found = found.map(|(id, info)| (Place::of(info.created_at.0, id), (id, info)));
    let page = page(input.next_token, input.max_results, found.collect(), false)?;
    let shown = page.items.into_iter().map(|(id, info)| api::SecretVersionsListEntry {
        version_id: Some(id.clone()),
        version_stages: Some(info.stages.iter().cloned().collect::<Vec<_>>())
            .filter(|stages| !stages.is_empty()),
        last_accessed_date: info.accessed_on,
        created_date: render::time(info.created_at),
        kms_key_ids: info.key.map(|key| match &row.kms_key {
            Some(_) => vec![key.to_string()],
            None => vec!["DefaultEncryptionKey".to_owned()],
        }),
    });
    Ok(api::ListSecretVersionIdsResponse {
        versions: Some(shown.collect()),
        next_token: page.next_token,
        arn: Some(it.control.secret_arn(&row)),
        name: Some(row.name.to_string()),
    })
}
