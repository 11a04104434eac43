//! GetParameter, GetParameters and GetParametersByPath.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Control;
use control::parameters::{ParameterRead, ParameterRefusal};
use control::public_parameters::{self, is_public};
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

/// A parameter, and the version of it that is shown.
type Found = (Arc<Parameter>, Arc<ParameterVersion>);

/// An account's own parameters below a path, each by the version that the filters ask for.
fn own_below(
    view: &View,
    caller: &Caller,
    path: &str,
    is_recursive: bool,
    filters: &[Filter],
) -> Vec<Found> {
    let found = below(view, caller, path, is_recursive).filter_map(|row| {
        let version = shown_version(view, row, filters)?;
        Some((Arc::clone(row), Arc::clone(version)))
    });
    found.collect()
}

/// Amazon's parameters below a path of its own. They have no labels.
fn public_below(control: &Control, caller: &Caller, path: &str, is_recursive: bool) -> Vec<Found> {
    let prefix = format!("{}/", path.trim_end_matches('/'));
    let mut all = public_parameters::all(control.config.region.as_str());
    all.retain(|it| {
        let tail = it.name.strip_prefix(prefix.as_str());
        tail.is_some_and(|tail| is_recursive || !tail.contains('/'))
    });
    let rows = all.iter().map(|it| it.row(caller.account));
    rows.map(|(row, version)| (Arc::new(row), Arc::new(version))).collect()
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
    let found = match is_public(&path) {
        true => public_below(&it.control, caller, &path, is_recursive),
        false => own_below(&view, caller, &path, is_recursive, &filters),
    };
    let passing = |(row, version): &Found| filters.iter().all(|filter| filter.passes(row, version));
    let found = found.into_iter().filter(passing).map(|it| (it.0.name.to_string(), it));
    let page = page(input.next_token, input.max_results, PATH_PAGE_MAX, found)?;
    let is_decrypted = input.with_decryption.unwrap_or(false);
    let mut shown = Vec::new();
    for (parameter, version) in page.items {
        let value = it.control.parameter_value(&view, caller, &parameter, &version, is_decrypted);
        let value = value.map_err(ParameterRefusal::into_api)?;
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
