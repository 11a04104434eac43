//! Rows as answers show them.

use control::Control;
use control::parameters::ParameterRead;
use model::parameter::{ParameterTier, ParameterValue};
use model::{Parameter, ParameterVersion};
use ssm_api as api;

use crate::policies::type_of;

pub(crate) fn kind(value: &ParameterValue) -> api::ParameterType {
    match value {
        ParameterValue::Text(_) => api::ParameterType::String,
        ParameterValue::List(_) => api::ParameterType::StringList,
        ParameterValue::Secure { .. } => api::ParameterType::SecureString,
    }
}

pub(crate) fn tier(tier: ParameterTier) -> api::ParameterTier {
    match tier {
        ParameterTier::Standard => api::ParameterTier::Standard,
        ParameterTier::Advanced => api::ParameterTier::Advanced,
    }
}

/// The key of a SecureString, as it was named.
pub(crate) fn key_id(value: &ParameterValue) -> Option<String> {
    match value {
        ParameterValue::Text(_) | ParameterValue::List(_) => None,
        ParameterValue::Secure { key, .. } => Some(key.clone()),
    }
}

pub(crate) fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

pub(crate) fn read(control: &Control, read: &ParameterRead) -> api::Parameter {
    let (row, version) = (&read.parameter, &read.version);
    api::Parameter {
        name: Some(row.shown_name()),
        r#type: Some(kind(&version.value)),
        value: Some(read.value.0.to_string()),
        version: Some(number(version.id.version)),
        selector: read.selector.clone(),
        source_result: None,
        last_modified_date: Some(version.modified_at),
        arn: Some(control.parameter_arn(row.account, &row.name)),
        data_type: Some(version.data_type.clone()),
    }
}

pub(crate) fn policies(
    row: &Parameter,
    version: &ParameterVersion,
) -> Option<Vec<api::ParameterInlinePolicy>> {
    let is_latest = version.id.version == row.latest;
    let is_done = |policy: usize| {
        is_latest && row.notices.iter().any(|notice| notice.policy == policy && notice.is_told)
    };
    let policies = version.policies.iter().enumerate();
    let shown = policies.map(|(policy, text)| api::ParameterInlinePolicy {
        policy_text: Some(text.clone()),
        policy_type: type_of(text),
        policy_status: Some(if is_done(policy) { "Finished" } else { "Pending" }.to_owned()),
    });
    Some(shown.collect())
}

pub(crate) fn metadata(
    control: &Control,
    row: &Parameter,
    version: &ParameterVersion,
) -> api::ParameterMetadata {
    api::ParameterMetadata {
        name: Some(row.shown_name()),
        arn: Some(control.parameter_arn(row.account, &row.name)),
        r#type: Some(kind(&version.value)),
        key_id: key_id(&version.value),
        last_modified_date: Some(version.modified_at),
        last_modified_user: Some(version.modified_by.clone()),
        description: version.description.clone(),
        allowed_pattern: version.allowed_pattern.clone(),
        version: Some(number(version.id.version)),
        tier: Some(tier(version.tier)),
        policies: policies(row, version),
        data_type: Some(version.data_type.clone()),
    }
}
