//! ListGrants and ListRetirableGrants. Who may use a key is said by policies; CreateGrant is refused, so no key has grants.

use aws_wire::{ApiError, Caller};
use control::Permission;
use kms_api as api;

use crate::Kms;
use crate::pages::page;

pub(crate) async fn list_grants(
    it: &Kms,
    caller: &Caller,
    input: api::ListGrantsRequest,
) -> Result<api::ListGrantsResponse, ApiError> {
    it.read(caller, "kms:ListGrants", input.key_id)?;
    none(input.marker, input.limit)
}

pub(crate) async fn list_retirable_grants(
    it: &Kms,
    caller: &Caller,
    input: api::ListRetirableGrantsRequest,
) -> Result<api::ListGrantsResponse, ApiError> {
    it.control.read(caller, &Permission::to("kms:ListRetirableGrants").on("*"))?;
    none(input.marker, input.limit)
}

fn none(marker: Option<String>, limit: Option<i32>) -> Result<api::ListGrantsResponse, ApiError> {
    let page = page(marker, limit, std::iter::empty())?;
    Ok(api::ListGrantsResponse {
        grants: Some(page.items),
        truncated: Some(false),
        next_marker: page.marker,
    })
}
