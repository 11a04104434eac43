//! New material for keys, by itself or when it is asked for. Older material opens what it sealed.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::kms::{current_version, material_id};
use kms_api as api;
use longshore_types::Timestamp;
use model::KmsKey;
use model::kms::{KeyRotation, MaterialCause};

use crate::Kms;
use crate::errors::{invalid, limit};
use crate::limits::{DAY_MS, ROTATION_DAYS, ROTATION_DAYS_DEFAULT, ROTATIONS_ON_DEMAND_MAX};
use crate::pages::page;

/// When a period that begins now is over.
pub(crate) fn next_at(period_days: u32, now: Timestamp) -> Timestamp {
    now.plus_ms(u64::from(period_days) * DAY_MS)
}

pub(crate) async fn enable_key_rotation(
    it: &Kms,
    caller: &Caller,
    input: api::EnableKeyRotationRequest,
) -> Result<(), ApiError> {
    let days = input.rotation_period_in_days.unwrap_or(ROTATION_DAYS_DEFAULT);
    let about = |it: Permission| it.with("kms:RotationPeriodInDays", i64::from(days));
    let given = input.key_id.unwrap_or_default();
    it.change(caller, "kms:EnableKeyRotation", &given, about, |_, now, row| {
        if !ROTATION_DAYS.contains(&days) {
            return Err(invalid("RotationPeriodInDays must be between 90 and 2560 days."));
        }
        it.control.check_key(row).map_err(|refusal| refusal.to_api())?;
        let period_days = u32::try_from(days).unwrap_or_default();
        if row.rotation.is_none_or(|rotation| rotation.period_days != period_days) {
            row.rotation = Some(KeyRotation { period_days, next_at: next_at(period_days, now) });
        }
        Ok(())
    })
    .await
}

pub(crate) async fn disable_key_rotation(
    it: &Kms,
    caller: &Caller,
    input: api::DisableKeyRotationRequest,
) -> Result<(), ApiError> {
    let given = input.key_id.unwrap_or_default();
    it.change(
        caller,
        "kms:DisableKeyRotation",
        &given,
        |it| it,
        |_, _, row| {
            it.control.check_key(row).map_err(|refusal| refusal.to_api())?;
            row.rotation = None;
            Ok(())
        },
    )
    .await
}

pub(crate) async fn get_key_rotation_status(
    it: &Kms,
    caller: &Caller,
    input: api::GetKeyRotationStatusRequest,
) -> Result<api::GetKeyRotationStatusResponse, ApiError> {
    let (_, row) = it.read(caller, "kms:GetKeyRotationStatus", input.key_id)?;
    let days = row.rotation.map(|rotation| i32::try_from(rotation.period_days).unwrap_or(i32::MAX));
    Ok(api::GetKeyRotationStatusResponse {
        key_rotation_enabled: Some(row.rotation.is_some()),
        key_id: Some(it.control.key_arn(&row)),
        rotation_period_in_days: days,
        next_rotation_date: row.rotation.map(|rotation| rotation.next_at),
        on_demand_rotation_start_date: None,
    })
}

impl Kms {
    /// Gives a key material that seals from now on.
    pub(crate) fn rotate(
        control: &control::Control,
        row: &mut KmsKey,
        cause: MaterialCause,
        now: Timestamp,
    ) {
        let version = row.materials.len();
        row.materials.push(control.mint_material(row.account, row.id, version, cause, now));
    }
}

pub(crate) async fn rotate_key_on_demand(
    it: &Kms,
    caller: &Caller,
    input: api::RotateKeyOnDemandRequest,
) -> Result<api::RotateKeyOnDemandResponse, ApiError> {
    let given = input.key_id.unwrap_or_default();
    let done = it.change(
        caller,
        "kms:RotateKeyOnDemand",
        &given,
        |it| it,
        |_, now, row| {
            it.control.check_key(row).map_err(|refusal| refusal.to_api())?;
            let on_demand = row.materials.iter().filter(|it| it.cause == MaterialCause::OnDemand);
            if ROTATIONS_ON_DEMAND_MAX <= on_demand.count() {
                return Err(limit(format!(
                    "A key can be rotated on demand up to {ROTATIONS_ON_DEMAND_MAX} times."
                )));
            }
            Kms::rotate(&it.control, row, MaterialCause::OnDemand, now);
            Ok(row.id.to_string())
        },
    );
    Ok(api::RotateKeyOnDemandResponse { key_id: Some(done.await?) })
}

pub(crate) async fn list_key_rotations(
    it: &Kms,
    caller: &Caller,
    input: api::ListKeyRotationsRequest,
) -> Result<api::ListKeyRotationsResponse, ApiError> {
    let (_, row) = it.read(caller, "kms:ListKeyRotations", input.key_id)?;
    let with_first = input.include_key_material == Some(api::IncludeKeyMaterial::AllKeyMaterial);
    let current = current_version(&row);
    let rotations = row.materials.iter().enumerate().filter_map(|(version, material)| {
        let kind = match material.cause {
            MaterialCause::Creation if with_first => None,
            MaterialCause::Creation => return None,
            MaterialCause::Automatic => Some(api::RotationType::Automatic),
            MaterialCause::OnDemand => Some(api::RotationType::OnDemand),
        };
        let state = match version == current {
            true => api::KeyMaterialState::Current,
            false => api::KeyMaterialState::NonCurrent,
        };
        let shown = api::RotationsListEntry {
            key_id: Some(row.id.to_string()),
            key_material_id: Some(material_id(&row, version)),
            key_material_state: Some(state),
            rotation_date: kind.is_some().then_some(material.made_at),
            rotation_type: kind,
            ..api::RotationsListEntry::default()
        };
        Some((format!("{version:010}"), shown))
    });
    let page = page(input.marker, input.limit, rotations)?;
    Ok(api::ListKeyRotationsResponse {
        rotations: Some(page.items),
        truncated: Some(page.marker.is_some()),
        next_marker: page.marker,
    })
}
