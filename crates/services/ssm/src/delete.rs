//! DeleteParameter and DeleteParameters.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use model::{Key, Parameter, View};
use ssm_api as api;
use store::Batch;

use crate::errors::not_found;
use crate::{Ssm, names};

pub(crate) async fn delete_parameter(
    it: &Ssm,
    caller: &Caller,
    input: api::DeleteParameterRequest,
) -> Result<api::DeleteParameterResult, ApiError> {
    let name = input.name.unwrap_or_default();
    let deleted = delete(it, caller, "ssm:DeleteParameter", &[name]).await?;
    match deleted.is_empty() {
        false => Ok(api::DeleteParameterResult {}),
        true => Err(not_found()),
    }
}

pub(crate) async fn delete_parameters(
    it: &Ssm,
    caller: &Caller,
    input: api::DeleteParametersRequest,
) -> Result<api::DeleteParametersResult, ApiError> {
    let names = input.names.unwrap_or_default();
    let mut deleted = Vec::new();
    // One after the other: a parameter may have a hundred versions, and a batch has a bound.
    for name in &names {
        let name = std::slice::from_ref(name);
        deleted.extend(delete(it, caller, "ssm:DeleteParameters", name).await?);
    }
    let invalid = names.into_iter().filter(|name| !deleted.contains(name)).collect();
    Ok(api::DeleteParametersResult {
        deleted_parameters: Some(deleted),
        invalid_parameters: Some(invalid),
    })
}

/// Deletes those that are there, and says which they were.
async fn delete(
    it: &Ssm,
    caller: &Caller,
    action: &'static str,
    given: &[String],
) -> Result<Vec<String>, ApiError> {
    it.control
        .decide(|view, _| {
            let (mut batch, mut deleted) = (Batch::on(view), Vec::new());
            for name in given {
                let named = names::of_request(it, caller.account, name);
                let plain = named.as_ref().map_or(name.as_str(), |named| named.name.as_str());
                let permission = it.permission(caller.account, action, plain);
                it.control.authorize(view, caller, &permission)?;
                let row = view.parameters.get(caller.account, &plain.into());
                if let Some(row) = row.filter(|_| named.is_some_and(|it| it.selector.is_none())) {
                    remove(view, &mut batch, row);
                    deleted.push(name.clone());
                }
            }
            Ok((batch, deleted))
        })
        .await
}

/// Removes a parameter with all its versions.
pub(crate) fn remove(view: &View, batch: &mut Batch, row: &Parameter) {
    batch.delete(Key::Parameter(row.account, Arc::clone(&row.name)));
    for version in row.oldest..=row.latest {
        let id = row.version_id(version);
        if view.parameter_versions.get(row.account, &id).is_some() {
            batch.delete(Key::ParameterVersion(row.account, id));
        }
    }
}
