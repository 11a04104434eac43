//! GetParameter, GetParameters and GetParametersByPath.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::parameters::{ParameterRead, ParameterRefusal};
use model::{Parameter, ParameterVersion, View};
use ssm_api as api;

use crate::describe::{Filter, filters};
use crate::limits::PATH_PAGE_MAX;
use crate::pages::page;
use crate::{Ssm, names, render};

pub(crate) async fn get_parameter(
    it: &Ssm,
    caller: &Caller,
    input: api::GetParameterRequest,
) -> Result<api::GetParameterResult, ApiError> {
    let (view, name) = (it.control.view(), input.name.unwrap_or_default());
    let is_decrypted = input.with_decryption.unwrap_or(false);
    let read = it.control.parameter(&view, caller, "ssm:GetParameter", &name, is_decrypted);
    let read = read.map_err(ParameterRefusal::into_api)?;
    Ok(api::GetParameterResult { parameter: Some(render::read(&it.control, &read)) })
}

pub(crate) async fn get_parameters(
    it: &Ssm,
    caller: &Caller,
    input: api::GetParametersRequest,
) -> Result<api::GetParametersResult, ApiError> {
    let view = it.control.view();
    let is_decrypted = input.with_decryption.unwrap_or(false);
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for name in input.names.unwrap_or_default() {
        let read = it.control.parameter(&view, caller, "ssm:GetParameters", &name, is_decrypted);
        match read {
            Ok(read) => found.push(render::read(&it.control, &read)),
            Err(ParameterRefusal::NoParameter | ParameterRefusal::NoVersion { .. }) => {
                unknown.push(name);
            }
            Err(
                refusal @ (ParameterRefusal::Key(_)
                | ParameterRefusal::Denied(_)
                | ParameterRefusal::Fault(_)),
            ) => return Err(refusal.into_api()),
        }
    }
    Ok(api::GetParametersResult { parameters: Some(found), invalid_parameters: Some(unknown) })
}

/// The parameters below a path: directly, or at any depth.
pub(crate) fn below<'a>(
    view: &'a View,
    caller: &Caller,
    path: &'a str,
    is_recursive: bool,
) -> impl Iterator<Item = &'a Arc<Parameter>> {
    // `/` is where every parameter is: those without a hierarchy too.
    let prefix = if path.ends_with('/') { path.to_owned() } else { format!("{path}/") };
    let first = if prefix == "/" { "" } else { prefix.as_str() };
    let rest = view.parameters.from(caller.account, first.into());
    let is_root = prefix == "/";
    let own = prefix.clone();
    let below = rest.take_while(move |row| is_root || row.name.starts_with(&own));
    below.filter(move |row| {
        let tail = row.name.strip_prefix(prefix.as_str()).unwrap_or(&row.name);
        is_recursive || !tail.contains('/')
    })
}

pub(crate) async fn get_parameters_by_path(
    it: &Ssm,
    caller: &Caller,
    input: api::GetParametersByPathRequest,
) -> Result<api::GetParametersByPathResult, ApiError> {
    let path = input.path.unwrap_or_default();
    let is_recursive = input.recursive.unwrap_or(false);
    let permission = it
        .permission(caller.account, "ssm:GetParametersByPath", path.trim_end_matches('/'))
        .with("ssm:Recursive", is_recursive);
    let view = it.control.read(caller, &permission)?;
    names::check_path(&path)?;
    let filters = filters(input.parameter_filters, &["Type", "KeyId", "Label"])?;
    let found = below(&view, caller, &path, is_recursive);
    let found = found.filter_map(|row| {
        let version = shown_version(&view, row, &filters)?;
        let passes = filters.iter().all(|filter| filter.passes(row, version));
        passes.then(|| (row.name.to_string(), (row, version)))
    });
    let page = page(input.next_token, input.max_results, PATH_PAGE_MAX, found)?;
    let is_decrypted = input.with_decryption.unwrap_or(false);
    let mut shown = Vec::new();
    for (row, version) in page.items {
        let value = it.control.parameter_value(&view, caller, row, version, is_decrypted);
        let value = value.map_err(ParameterRefusal::into_api)?;
        let (parameter, version) = (Arc::clone(row), Arc::clone(version));
        let read = ParameterRead { parameter, version, value, selector: None };
        shown.push(render::read(&it.control, &read));
    }
    Ok(api::GetParametersByPathResult { parameters: Some(shown), next_token: page.next_token })
}

/// The version that has the label that is asked for, else the latest.
fn shown_version<'a>(
    view: &'a View,
    row: &Parameter,
    filters: &[Filter],
) -> Option<&'a Arc<ParameterVersion>> {
    let labels = filters.iter().find_map(Filter::labels);
    let version = match labels {
        Some(labels) => labels.iter().find_map(|label| row.labels.get(label)).copied()?,
        None => row.latest,
    };
    view.parameter_versions.get(row.account, &row.version_id(version))
}
