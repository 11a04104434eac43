//! Attributes of services.

use aws_wire::{ApiError, Caller};
use model::MapService;
use servicediscovery_api as api;
use store::Batch;

use crate::CloudMap;
use crate::errors::named;
use crate::limits::ATTRIBUTES_MAX;

async fn change(
    it: &CloudMap,
    caller: &Caller,
    action: &'static str,
    given: &str,
    change: impl Fn(&mut MapService) -> Result<(), ApiError> + Send + Sync,
) -> Result<(), ApiError> {
    let permission = it.permission(caller, action, "service", given);
    let decided = it.control.change(caller, &permission, |view, _| {
        let mut row = MapService::clone(it.service_row(view, caller, given)?);
        change(&mut row)?;
        let mut batch = Batch::on(view);
        batch.put(row);
        Ok((batch, ()))
    });
    decided.await
}

pub(crate) async fn update_service_attributes(
    it: &CloudMap,
    caller: &Caller,
    input: api::UpdateServiceAttributesRequest,
) -> Result<api::UpdateServiceAttributesResponse, ApiError> {
    let given = input.service_id.unwrap_or_default();
    let more = input.attributes.unwrap_or_default();
    let action = "servicediscovery:UpdateServiceAttributes";
    let set = |row: &mut MapService| {
        row.attributes.extend(more.clone());
        match row.attributes.len() <= ATTRIBUTES_MAX {
            true => Ok(()),
            false => Err(named(
                "ServiceAttributesLimitExceededException",
                format!("A service can have up to {ATTRIBUTES_MAX} attributes."),
            )),
        }
    };
    change(it, caller, action, &given, set).await?;
    Ok(api::UpdateServiceAttributesResponse {})
}

pub(crate) async fn delete_service_attributes(
    it: &CloudMap,
    caller: &Caller,
    input: api::DeleteServiceAttributesRequest,
) -> Result<api::DeleteServiceAttributesResponse, ApiError> {
    let given = input.service_id.unwrap_or_default();
    let keys = input.attributes.unwrap_or_default();
    let action = "servicediscovery:DeleteServiceAttributes";
    let remove = |row: &mut MapService| {
        row.attributes.retain(|key, _| !keys.contains(key));
        Ok(())
    };
    change(it, caller, action, &given, remove).await?;
    Ok(api::DeleteServiceAttributesResponse {})
}

pub(crate) async fn get_service_attributes(
    it: &CloudMap,
    caller: &Caller,
    input: api::GetServiceAttributesRequest,
) -> Result<api::GetServiceAttributesResponse, ApiError> {
    let given = input.service_id.unwrap_or_default();
    let action = "servicediscovery:GetServiceAttributes";
    let view = it.control.read(caller, &it.permission(caller, action, "service", &given))?;
    let row = it.service_row(&view, caller, &given)?;
    let attributes = api::ServiceAttributes {
        service_arn: Some(row.arn()),
        attributes: Some(row.attributes.clone()),
        ..api::ServiceAttributes::default()
    };
    Ok(api::GetServiceAttributesResponse { service_attributes: Some(attributes) })
}
