//! GetParameterHistory.

use aws_wire::{ApiError, Caller};
use control::parameters::ParameterRefusal;
use ssm_api as api;

use crate::errors::not_found;
use crate::limits::PAGE_MAX;
use crate::pages::page;
use crate::{Ssm, names, render};

pub(crate) async fn get_parameter_history(
    it: &Ssm,
    caller: &Caller,
    input: api::GetParameterHistoryRequest,
) -> Result<api::GetParameterHistoryResult, ApiError> {
    let given = input.name.unwrap_or_default();
    let named = names::of_request(it, caller.account, &given);
    let name = named.map_or(given, |named| named.name);
    let permission = it.permission(caller.account, "ssm:GetParameterHistory", &name);
    let view = it.control.read(caller, &permission)?;
    let row = view.parameters.get(caller.account, &name.as_str().into());
    let row = row.ok_or_else(not_found)?;
    let versions = (row.oldest..=row.latest).filter_map(|version| {
        let found = view.parameter_versions.get(row.account, &row.version_id(version))?;
        // Numbers in the order of texts.
        Some((format!("{version:020}"), found))
    });
    let page = page(input.next_token, input.max_results, PAGE_MAX, versions)?;
    let is_decrypted = input.with_decryption.unwrap_or(false);
    let mut shown = Vec::new();
    for version in page.items {
        let value = it.control.parameter_value(&view, caller, row, version, is_decrypted);
        let value = value.map_err(ParameterRefusal::into_api)?;
        let number = version.id.version;
        shown.push(api::ParameterHistory {
            name: Some(row.shown_name()),
            r#type: Some(render::kind(&version.value)),
            key_id: render::key_id(&version.value),
            last_modified_date: Some(version.modified_at),
            last_modified_user: Some(version.modified_by.clone()),
            description: version.description.clone(),
            value: Some(value.0.to_string()),
            allowed_pattern: version.allowed_pattern.clone(),
            version: Some(render::number(number)),
            labels: Some(row.labels_of(number).cloned().collect()),
            tier: Some(render::tier(version.tier)),
            policies: render::policies(row, version),
            data_type: Some(version.data_type.clone()),
        });
    }
    Ok(api::GetParameterHistoryResult { parameters: Some(shown), next_token: page.next_token })
}
