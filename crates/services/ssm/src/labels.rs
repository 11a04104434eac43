//! LabelParameterVersion and UnlabelParameterVersion.

use aws_wire::{ApiError, Caller};
use control::parameters::ParameterRefusal;
use model::Parameter;
use ssm_api as api;

use crate::errors::{named, not_found};
use crate::limits::LABELS_OF_VERSION_MAX;
use crate::{Ssm, names, render};

/// Whether a version may be called so: not by a number, and by no name of Amazon's.
fn is_label(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && !lower.starts_with("aws")
        && !lower.starts_with("ssm")
}

fn version_of(row: &Parameter, given: Option<i64>) -> Result<u64, ApiError> {
    let Some(given) = given else { return Ok(row.latest) };
    let version = u64::try_from(given).ok();
    let version = version.filter(|version| (row.oldest..=row.latest).contains(version));
    version.ok_or_else(|| {
        let (name, version) = (row.name.to_string(), given.to_string());
        ParameterRefusal::NoVersion { name, version }.into_api()
    })
}

pub(crate) async fn label_parameter_version(
    it: &Ssm,
    caller: &Caller,
    input: api::LabelParameterVersionRequest,
) -> Result<api::LabelParameterVersionResult, ApiError> {
    let given = input.name.unwrap_or_default();
    let permission = permission(it, caller, "ssm:LabelParameterVersion", &given);
    let parsed = names::of_request(it, caller.account, &given).ok_or_else(not_found)?;
    let labels = input.labels.unwrap_or_default();
    let (labels, invalid): (Vec<String>, Vec<String>) =
        labels.into_iter().partition(|label| is_label(label));
    let version = it.change(caller, &parsed, &permission, not_found, |_, _, row| {
        let version = version_of(row, input.parameter_version)?;
        for label in &labels {
            row.labels.insert(label.clone(), version);
        }
        match row.labels_of(version).count() <= LABELS_OF_VERSION_MAX {
            true => Ok(version),
            false => Err(named(
                "ParameterVersionLabelLimitExceeded",
                format!(
                    "A parameter version can have a maximum of {LABELS_OF_VERSION_MAX} labels."
                ),
            )),
        }
    });
    let version = version.await?;
    Ok(api::LabelParameterVersionResult {
        invalid_labels: Some(invalid),
        parameter_version: Some(render::number(version)),
    })
}

pub(crate) async fn unlabel_parameter_version(
    it: &Ssm,
    caller: &Caller,
    input: api::UnlabelParameterVersionRequest,
) -> Result<api::UnlabelParameterVersionResult, ApiError> {
    let given = input.name.unwrap_or_default();
    let permission = permission(it, caller, "ssm:UnlabelParameterVersion", &given);
    let parsed = names::of_request(it, caller.account, &given).ok_or_else(not_found)?;
    let labels = input.labels.unwrap_or_default();
    let done = it.change(caller, &parsed, &permission, not_found, |_, _, row| {
        let version = version_of(row, input.parameter_version)?;
        let is_there = |label: &&String| row.labels.get(*label) == Some(&version);
        let (removed, unknown): (Vec<&String>, Vec<&String>) = labels.iter().partition(is_there);
        row.labels.retain(|label, _| !removed.contains(&label));
        let owned = |list: Vec<&String>| list.into_iter().cloned().collect::<Vec<String>>();
        Ok((owned(removed), owned(unknown)))
    });
    let (removed, unknown) = done.await?;
    Ok(api::UnlabelParameterVersionResult {
        removed_labels: Some(removed),
        invalid_labels: Some(unknown),
    })
}

fn permission(it: &Ssm, caller: &Caller, action: &'static str, given: &str) -> control::Permission {
    let named = names::of_request(it, caller.account, given);
    let name = named.map_or_else(|| given.to_owned(), |named| named.name);
    it.permission(caller.account, action, &name)
}
