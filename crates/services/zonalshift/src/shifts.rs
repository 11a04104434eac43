//! StartZonalShift, UpdateZonalShift, CancelZonalShift and ListZonalShifts.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use longshore_types::{Timestamp, Uuid};
use model::elb::{ShiftState, ZonalShift};
use model::vpc::zone_id_of;
use model::{ElbBalancer, View};
use store::Batch;
use zonalshift_api as api;

use crate::ZonalShifts;
use crate::errors::{conflict, invalid, not_found};
use crate::limits::{MINUTE_MS, MINUTES_MAX, SHIFTS_OF_BALANCER_MAX};
use crate::pages::page;
use crate::resources::managed;

/// How long `20m` or `3h` are, in milliseconds.
pub(crate) fn length_ms(given: &str) -> Result<u64, ApiError> {
    let minutes = match (given.strip_suffix('m'), given.strip_suffix('h')) {
        (Some(number), _) => number.parse::<u64>().ok(),
        (None, Some(number)) => number.parse::<u64>().ok().and_then(|it| it.checked_mul(60)),
        (None, None) => None,
    };
    let minutes = minutes.filter(|minutes| (1..=MINUTES_MAX).contains(minutes));
    minutes.map(|minutes| minutes * MINUTE_MS).ok_or_else(|| {
        invalid(
            "InvalidExpiresIn",
            format!("expiresIn is {given}: it is from 1m to 72h, in minutes (20m) or hours (3h)."),
        )
    })
}

fn status(state: ShiftState) -> api::ZonalShiftStatus {
    match state {
        ShiftState::Active => api::ZonalShiftStatus::Active,
        ShiftState::Expired => api::ZonalShiftStatus::Expired,
        ShiftState::Canceled => api::ZonalShiftStatus::Canceled,
    }
}

fn to_wire(caller: &Caller, row: &ElbBalancer, shift: &ZonalShift) -> api::ZonalShift {
    api::ZonalShift {
        zonal_shift_id: Some(shift.id.to_string()),
        resource_identifier: Some(row.arn()),
        away_from: Some(zone_id_of(&caller.region, &shift.away_from)),
        expiry_time: Some(shift.expires_at),
        start_time: Some(shift.started_at),
        status: Some(status(shift.state)),
        comment: Some(shift.comment.clone()),
    }
}

pub(crate) async fn start_zonal_shift(
    it: &ZonalShifts,
    caller: &Caller,
    input: api::StartZonalShiftRequest,
) -> Result<api::ZonalShift, ApiError> {
    let arn = input.resource_identifier.unwrap_or_default();
    let permission = Permission::to("arc-zonal-shift:StartZonalShift").on(arn.clone());
    let given = input.away_from.unwrap_or_default();
    let (length, comment) =
        (input.expires_in.unwrap_or_default(), input.comment.unwrap_or_default());
    let id = Uuid::mint(it.control.ids.as_ref());
    let decided = it.control.change(caller, &permission, |view, now| {
        let row = managed(it, view, caller, &arn)?;
        let expires_at = now.plus_ms(length_ms(&length)?);
        let zone = row.zones.iter().find(|zone| zone_id_of(&caller.region, &zone.zone) == given);
        let Some(zone) = zone else {
            let all = row.zones.iter().map(|zone| zone_id_of(&caller.region, &zone.zone));
            let all: Vec<String> = all.collect();
            let why = format!(
                "{arn} is in the Availability Zones {}, and not in {given}.",
                all.join(", ")
            );
            return Err(invalid("InvalidAz", why));
        };
        if row.zones.len() < 2 {
            let why =
                format!("{arn} is in no other Availability Zone to which its traffic could go.");
            return Err(invalid("UnsupportedAz", why));
        }
        if let Some(active) = row.active_shift() {
            let why = format!("{arn} has an active zonal shift already, {}.", active.id);
            return Err(conflict("ZonalShiftAlreadyExists", active.id, why));
        }
        let shift = ZonalShift {
            id,
            away_from: zone.zone.clone(),
            started_at: now,
            expires_at,
            state: ShiftState::Active,
            comment: comment.clone(),
        };
        let mut next = ElbBalancer::clone(row);
        next.shifts.push(shift.clone());
        let spare = next.shifts.len().saturating_sub(SHIFTS_OF_BALANCER_MAX);
        next.shifts.drain(..spare);
        let answer = to_wire(caller, &next, &shift);
        let mut batch = Batch::on(view);
        batch.put(next);
        Ok((batch, answer))
    });
    decided.await
}

/// The balancer of a shift, and which of its shifts it is.
fn find<'v>(view: &'v View, caller: &Caller, id: &str) -> Option<(&'v Arc<ElbBalancer>, usize)> {
    let id: Uuid = id.parse().ok()?;
    view.elb_balancers.of(caller.account).find_map(|row| {
        row.shifts.iter().position(|shift| shift.id == id).map(|place| (row, place))
    })
}

/// Changes an active shift for a caller that may do so.
async fn change(
    it: &ZonalShifts,
    caller: &Caller,
    action: &'static str,
    id: &str,
    change: impl Fn(Timestamp, &mut ZonalShift) -> Result<(), ApiError> + Send + Sync,
) -> Result<api::ZonalShift, ApiError> {
    let decided = it.control.decide(|view, now| {
        let found = find(view, caller, id);
        let on = found.map_or_else(|| "*".to_owned(), |(row, _)| row.arn());
        it.control.authorize(view, caller, &Permission::to(action).on(on))?;
        let missing = || not_found(format!("There is no zonal shift {id}."));
        let (row, place) = found.ok_or_else(missing)?;
        let mut next = ElbBalancer::clone(row);
        let shift = next.shifts.get_mut(place).ok_or_else(missing)?;
        if shift.state != ShiftState::Active {
            let why = format!("The zonal shift {id} is {}.", status(shift.state).as_str());
            return Err(conflict("ZonalShiftStatusNotActive", shift.id, why));
        }
        change(now, shift)?;
        let answer = to_wire(caller, row, shift);
        let mut batch = Batch::on(view);
        if next != **row {
            batch.put(next);
        }
        Ok((batch, answer))
    });
    decided.await
}

pub(crate) async fn update_zonal_shift(
    it: &ZonalShifts,
    caller: &Caller,
    input: api::UpdateZonalShiftRequest,
) -> Result<api::ZonalShift, ApiError> {
    let id = input.zonal_shift_id.unwrap_or_default();
    let (length, comment) = (input.expires_in, input.comment);
    change(it, caller, "arc-zonal-shift:UpdateZonalShift", &id, |now, shift| {
        if length.is_none() && comment.is_none() {
            return Err(invalid("MissingValue", "expiresIn or comment is to be given."));
        }
        if let Some(length) = &length {
            shift.expires_at = now.plus_ms(length_ms(length)?);
        }
        if let Some(comment) = &comment {
            shift.comment.clone_from(comment);
        }
        Ok(())
    })
    .await
}

pub(crate) async fn cancel_zonal_shift(
    it: &ZonalShifts,
    caller: &Caller,
    input: api::CancelZonalShiftRequest,
) -> Result<api::ZonalShift, ApiError> {
    let id = input.zonal_shift_id.unwrap_or_default();
    change(it, caller, "arc-zonal-shift:CancelZonalShift", &id, |_, shift| {
        shift.state = ShiftState::Canceled;
        Ok(())
    })
    .await
}

pub(crate) async fn list_zonal_shifts(
    it: &ZonalShifts,
    caller: &Caller,
    input: api::ListZonalShiftsRequest,
) -> Result<api::ListZonalShiftsResponse, ApiError> {
    let permission = Permission::to("arc-zonal-shift:ListZonalShifts").on("*");
    let view = it.control.read(caller, &permission)?;
    let arn = input.resource_identifier;
    let rows = view.elb_balancers.of(caller.account);
    let rows = rows.filter(|row| arn.as_ref().is_none_or(|arn| *arn == row.arn()));
    let all = rows.flat_map(|row| row.shifts.iter().map(move |shift| (row, shift)));
    let asked =
        |shift: &ZonalShift| input.status.as_ref().is_none_or(|it| *it == status(shift.state));
    let mut all: Vec<_> = all.filter(|(_, shift)| asked(shift)).collect();
    all.sort_by_key(|(_, shift)| (std::cmp::Reverse(shift.started_at), shift.id));
    let shown = all.into_iter().map(|(row, shift)| {
        let shown = to_wire(caller, row, shift);
        api::ZonalShiftSummary {
            zonal_shift_id: shown.zonal_shift_id,
            resource_identifier: shown.resource_identifier,
            away_from: shown.away_from,
            expiry_time: shown.expiry_time,
            start_time: shown.start_time,
            status: shown.status,
            comment: shown.comment,
            shift_type: Some(api::ShiftType::ZonalShift),
            practice_run_outcome: None,
        }
    });
    let (items, next_token) =
        page(input.next_token.as_deref(), input.max_results, shown.collect())?;
    Ok(api::ListZonalShiftsResponse { items: Some(items), next_token })
}
