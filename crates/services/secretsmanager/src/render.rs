//! Rows as answers show them.

use std::collections::BTreeMap;

use control::Control;
use longshore_types::Timestamp;
use model::{Secret, Tags};
use secretsmanager_api as api;

use crate::rotation::rules;

pub(crate) fn time(at: Timestamp) -> Option<Timestamp> {
    Some(at)
}

pub(crate) fn tags(tags: &Tags) -> Vec<api::Tag> {
    let tags = tags.iter();
    tags.map(|(key, value)| api::Tag { key: Some(key.clone()), value: Some(value.clone()) })
        .collect()
}

/// The stages of each version that has some.
pub(crate) fn stages(row: &Secret) -> Option<BTreeMap<String, Vec<String>>> {
    let staged = row.versions.iter().filter(|(_, info)| !info.stages.is_empty());
    let staged: BTreeMap<String, Vec<String>> =
        staged.map(|(id, info)| (id.clone(), info.stages.iter().cloned().collect())).collect();
    Some(staged).filter(|staged| !staged.is_empty())
}

pub(crate) fn secret(control: &Control, row: &Secret) -> api::SecretListEntry {
    let rotation = row.rotation.as_deref();
    api::SecretListEntry {
        arn: Some(control.secret_arn(row)),
        name: Some(row.name.to_string()),
        description: row.description.clone(),
        kms_key_id: row.kms_key.clone(),
        last_changed_date: time(row.changed_at),
        last_accessed_date: row.accessed_on,
        deleted_date: row.deletion.map(|deletion| deletion.due_at),
        tags: Some(tags(&row.tags)).filter(|tags| !tags.is_empty()),
        secret_versions_to_stages: stages(row),
        created_date: time(row.created_at),
        rotation_enabled: rotation.map(|rotation| rotation.is_enabled),
        rotation_lambda_arn: rotation.map(|rotation| rotation.target.clone()),
        rotation_rules: rotation.map(|rotation| rules::render(&rotation.rules)),
        last_rotated_date: rotation.and_then(|rotation| rotation.rotated_at),
        next_rotation_date: rules::next_window(row).map(|window| window.closes),
        ..api::SecretListEntry::default()
    }
}
