//! GetManagedResource, ListManagedResources and ListAutoshifts: the balancers whose traffic may be shifted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use longshore_types::RegionName;
use model::elb::path_of;
use model::vpc::zone_id_of;
use model::{ElbBalancer, View};
use zonalshift_api as api;

use crate::ZonalShifts;
use crate::errors::not_found;
use crate::pages::page;

/// The zones that a balancer has interfaces in, by their ids; 1 where its traffic comes.
fn weights(row: &ElbBalancer, region: &RegionName) -> BTreeMap<String, f32> {
    let away = row.active_shift().map(|shift| shift.away_from.as_str());
    let zones = row.zones.iter();
    zones
        .map(|zone| {
            let weight = if away == Some(zone.zone.as_str()) { 0.0 } else { 1.0 };
            (zone_id_of(region, &zone.zone), weight)
        })
        .collect()
}

fn active(row: &ElbBalancer, region: &RegionName) -> Vec<api::ZonalShiftInResource> {
    let shown = row.active_shift().map(|shift| api::ZonalShiftInResource {
        applied_status: Some(api::AppliedStatus::Applied),
        zonal_shift_id: Some(shift.id.to_string()),
        resource_identifier: Some(row.arn()),
        away_from: Some(zone_id_of(region, &shift.away_from)),
        expiry_time: Some(shift.expires_at),
        start_time: Some(shift.started_at),
        comment: Some(shift.comment.clone()),
        shift_type: Some(api::ShiftType::ZonalShift),
        practice_run_outcome: None,
    });
    shown.into_iter().collect()
}

/// The balancer that an ARN names, if its traffic may be shifted.
pub(crate) fn managed<'v>(
    it: &ZonalShifts,
    view: &'v View,
    caller: &Caller,
    arn: &str,
) -> Result<&'v Arc<ElbBalancer>, ApiError> {
    let scope = it.control.scope(caller);
    let path = path_of(&scope, arn).filter(|(kind, _)| *kind == "loadbalancer");
    let row = path.and_then(|(_, path)| view.elb_balancers.get(caller.account, &path.into()));
    row.filter(|row| row.allows_shifts()).ok_or_else(|| {
        not_found(format!(
            "{arn} is no managed resource: that is a load balancer of this account whose attribute zonal_shift.config.enabled is true."
        ))
    })
}

pub(crate) async fn get_managed_resource(
    it: &ZonalShifts,
    caller: &Caller,
    input: api::GetManagedResourceRequest,
) -> Result<api::GetManagedResourceResponse, ApiError> {
    let arn = input.resource_identifier.unwrap_or_default();
    let permission = Permission::to("arc-zonal-shift:GetManagedResource").on(arn.clone());
    let view = it.control.read(caller, &permission)?;
    let row = managed(it, &view, caller, &arn)?;
    Ok(api::GetManagedResourceResponse {
        arn: Some(arn),
        name: Some(row.name.clone()),
        applied_weights: Some(weights(row, &caller.region)),
        zonal_shifts: Some(active(row, &caller.region)),
        autoshifts: Some(Vec::new()),
        practice_run_configuration: None,
        zonal_autoshift_status: Some(api::ZonalAutoshiftStatus::Disabled),
    })
}

pub(crate) async fn list_managed_resources(
    it: &ZonalShifts,
    caller: &Caller,
    input: api::ListManagedResourcesRequest,
) -> Result<api::ListManagedResourcesResponse, ApiError> {
    let permission = Permission::to("arc-zonal-shift:ListManagedResources").on("*");
    let view = it.control.read(caller, &permission)?;
    let rows = view.elb_balancers.of(caller.account).filter(|row| row.allows_shifts());
    let shown = rows.map(|row| {
        let weights = weights(row, &caller.region);
        api::ManagedResourceSummary {
            arn: Some(row.arn()),
            name: Some(row.name.clone()),
            availability_zones: Some(
                weights.keys().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
            ),
            applied_weights: Some(weights),
            zonal_shifts: Some(active(row, &caller.region)),
            autoshifts: Some(Vec::new()),
            zonal_autoshift_status: Some(api::ZonalAutoshiftStatus::Disabled),
            practice_run_status: Some(api::ZonalAutoshiftStatus::Disabled),
        }
    });
    let (items, next_token) =
        page(input.next_token.as_deref(), input.max_results, shown.collect())?;
    Ok(api::ListManagedResourcesResponse { items: Some(items), next_token })
}

/// Nobody shifts traffic by itself here.
pub(crate) async fn list_autoshifts(
    it: &ZonalShifts,
    caller: &Caller,
    input: api::ListAutoshiftsRequest,
) -> Result<api::ListAutoshiftsResponse, ApiError> {
    it.control.read(caller, &Permission::to("arc-zonal-shift:ListAutoshifts").on("*"))?;
    let (items, next_token) = page(input.next_token.as_deref(), input.max_results, Vec::new())?;
    Ok(api::ListAutoshiftsResponse { items: Some(items), next_token })
}
