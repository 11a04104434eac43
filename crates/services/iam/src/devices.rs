//! Virtual MFA devices: a user's second factor, of which `longshore login`, GetSessionToken and AssumeRole take codes.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use bytes::Bytes;
use control::Permission;
use control::iam::linked::unique_id;
use control::iam::mfa::device_of;
use control::iam::{Entity, entity_of};
use iam_api as api;
use longshore_types::AccountId;
use model::{IamMfaDevice, IamUser, Key, MfaAssignment, NameKey, View};
use vault::totp;

use crate::Iam;
use crate::errors::{Refusal, quota};
use crate::holder::Holder as _;
use crate::limits::{DEVICES_MAX, DEVICES_OF_USER_MAX, OFF_ENABLED_MAX, OFF_RESYNCED_MAX};
use crate::pages::{page, paged};
use crate::{read, render};

fn need<'a>(
    view: &'a View,
    account: AccountId,
    serial: &str,
) -> Result<&'a IamMfaDevice, ApiError> {
    let missing = || Refusal::MissingDevice(serial.to_owned()).wire();
    device_of(view, account, serial).ok_or_else(missing)
}

/// A device of the user, and how it is assigned.
fn need_its<'a>(
    view: &'a View,
    user: &IamUser,
    serial: &str,
) -> Result<(&'a IamMfaDevice, &'a MfaAssignment), ApiError> {
    let found = device_of(view, user.account, serial);
    let its = found.and_then(|device| {
        let assigned = device.assigned.as_ref()?;
        (assigned.user == user.unique_id).then_some((device, assigned))
    });
    let other = || Refusal::NotItsDevice(serial.to_owned(), user.name.to_string()).wire();
    its.ok_or_else(other)
}

fn on(action: &'static str, serial: &str) -> Permission {
    Permission::to(action).on(serial.to_owned())
}

/// The seed is told here and nowhere else.
pub(crate) async fn create_virtual_mfa_device(
    iam: &Iam,
    caller: &Caller,
    input: api::CreateVirtualMFADeviceRequest,
) -> Result<api::CreateVirtualMFADeviceResponse, ApiError> {
    let (account, path) = (caller.account, read::path(input.path)?);
    let name = input.virtual_mfa_device_name.unwrap_or_default();
    let tags = read::tags(input.tags)?;
    let arn = format!("arn:aws:iam::{account}:mfa{path}{name}");
    let permission =
        iam.creating("iam:CreateVirtualMFADevice", "iam:TagMFADevice", arn, &tags, None);
    let row = iam.change(
        caller,
        |_| permission.clone(),
        |view, now, batch| {
            let id = NameKey::of(&format!("{path}{name}"));
            if view.iam_mfa_devices.get(account, &id).is_some() {
                return Err(Refusal::DeviceExists.wire());
            }
            if DEVICES_MAX <= view.iam_mfa_devices.of(account).count() {
                return Err(quota("MFADevices", DEVICES_MAX));
            }
            let row = IamMfaDevice {
                account,
                name: name.as_str().into(),
                path: path.as_str().into(),
                unique_id: unique_id("AMFA", iam.ids()).into(),
                created_at: now,
                tags: tags.clone(),
                assigned: None,
            };
            batch.rely(Key::IamMfaDevice(account, id)).put(row.clone());
            Ok(row)
        },
    );
    let row = row.await?;
    let seed = totp::base32(&iam.control.mfa_seed(&row));
    Ok(api::CreateVirtualMFADeviceResponse {
        virtual_mfa_device: Some(api::VirtualMFADevice {
            serial_number: Some(row.arn()),
            base32_string_seed: Some(Bytes::from(seed)),
            tags: render::some_tags(&row.tags),
            ..api::VirtualMFADevice::default()
        }),
    })
}

pub(crate) async fn delete_virtual_mfa_device(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteVirtualMFADeviceRequest,
) -> Result<(), ApiError> {
    let (account, serial) = (caller.account, input.serial_number.unwrap_or_default());
    let permission = on("iam:DeleteVirtualMFADevice", &serial);
    iam.change(
        caller,
        |_| permission.clone(),
        |view, _, batch| {
            let row = need(view, account, &serial)?;
            if row.assigned.is_some() {
                return Err(Refusal::DeviceInUse.wire());
            }
            batch.delete(Key::IamMfaDevice(account, model::Record::id(row)));
            Ok(())
        },
    )
    .await
}

/// Two codes in a row show that the user has the device.
pub(crate) async fn enable_mfa_device(
    iam: &Iam,
    caller: &Caller,
    input: api::EnableMFADeviceRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, input.user_name.unwrap_or_default());
    let serial = input.serial_number.unwrap_or_default();
    let first = input.authentication_code1.unwrap_or_default();
    let second = input.authentication_code2.unwrap_or_default();
    let permission = |view: &View| IamUser::permission(view, caller, "iam:EnableMFADevice", &name);
    iam.change(caller, permission, |view, now, batch| {
        let user = IamUser::need(view, account, &name)?;
        let device = need(view, account, &serial)?;
        if device.assigned.is_some() {
            return Err(Refusal::DeviceTaken(serial.clone()).wire());
        }
        if DEVICES_OF_USER_MAX <= user.devices.len() {
            return Err(quota("MFADevicesPerUser", DEVICES_OF_USER_MAX));
        }
        let shown = iam.control.two_codes(device, (&first, &second), OFF_ENABLED_MAX, now);
        let (drift, last_step) = shown.ok_or_else(|| Refusal::Codes.wire())?;
        let user_id = user.unique_id.clone();
        let assigned = MfaAssignment { user: user_id, at: now, drift, last_step };
        let mut next = IamUser::clone(user);
        next.devices.insert(model::Record::id(device));
        batch.put(next).put(IamMfaDevice { assigned: Some(assigned), ..device.clone() });
        Ok(())
    })
    .await
}

pub(crate) async fn resync_mfa_device(
    iam: &Iam,
    caller: &Caller,
    input: api::ResyncMFADeviceRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, input.user_name.unwrap_or_default());
    let serial = input.serial_number.unwrap_or_default();
    let first = input.authentication_code1.unwrap_or_default();
    let second = input.authentication_code2.unwrap_or_default();
    let permission = |view: &View| IamUser::permission(view, caller, "iam:ResyncMFADevice", &name);
    // Thousands of codes are made for this, so not while everybody's decisions wait.
    let (device_id, shown) = {
        let view = iam.read(caller, permission)?;
        let user = IamUser::need(&view, account, &name)?;
        let (device, _) = need_its(&view, user, &serial)?;
        let (codes, now) = ((first.as_str(), second.as_str()), iam.control.clock.now());
        let shown = iam.control.two_codes(device, codes, OFF_RESYNCED_MAX, now);
        (Arc::clone(&device.unique_id), shown)
    };
    let (drift, last_step) = shown.ok_or_else(|| Refusal::Codes.wire())?;
    iam.change(caller, permission, |view, _, batch| {
        let user = IamUser::need(view, account, &name)?;
        let (device, assigned) = need_its(view, user, &serial)?;
        // Another device may be called so by now, or the codes were used.
        if device.unique_id != device_id || last_step <= assigned.last_step {
            return Err(Refusal::Codes.wire());
        }
        let next = MfaAssignment { drift, last_step, ..assigned.clone() };
        batch.put(IamMfaDevice { assigned: Some(next), ..device.clone() });
        Ok(())
    })
    .await
}

pub(crate) async fn deactivate_mfa_device(
    iam: &Iam,
    caller: &Caller,
    input: api::DeactivateMFADeviceRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, read::user_name(caller, input.user_name)?);
    let serial = input.serial_number.unwrap_or_default();
    let permission =
        |view: &View| IamUser::permission(view, caller, "iam:DeactivateMFADevice", &name);
    iam.change(caller, permission, |view, _, batch| {
        let user = IamUser::need(view, account, &name)?;
        let (device, _) = need_its(view, user, &serial)?;
        let mut next = IamUser::clone(user);
        next.devices.remove(&model::Record::id(device));
        batch.put(next).put(IamMfaDevice { assigned: None, ..device.clone() });
        Ok(())
    })
    .await
}

pub(crate) async fn get_mfa_device(
    iam: &Iam,
    caller: &Caller,
    input: api::GetMFADeviceRequest,
) -> Result<api::GetMFADeviceResponse, ApiError> {
    let (account, name) = (caller.account, read::user_name(caller, input.user_name)?);
    let serial = input.serial_number.unwrap_or_default();
    let view =
        iam.read(caller, |view| IamUser::permission(view, caller, "iam:GetMFADevice", &name))?;
    let user = IamUser::need(&view, account, &name)?;
    let (_, assigned) = need_its(&view, user, &serial)?;
    Ok(api::GetMFADeviceResponse {
        user_name: Some(name),
        enable_date: render::time(assigned.at),
        serial_number: Some(serial),
        certifications: None,
    })
}

pub(crate) async fn list_mfa_devices(
    iam: &Iam,
    caller: &Caller,
    input: api::ListMFADevicesRequest,
) -> Result<api::ListMFADevicesResponse, ApiError> {
    if read::is_of_root(caller, input.user_name.as_ref()) {
        return Ok(api::ListMFADevicesResponse {
            mfa_devices: Some(Vec::new()),
            is_truncated: Some(false),
            ..api::ListMFADevicesResponse::default()
        });
    }
    let name = read::user_name(caller, input.user_name)?;
    let view =
        iam.read(caller, |view| IamUser::permission(view, caller, "iam:ListMFADevices", &name))?;
    let user = IamUser::need(&view, caller.account, &name)?;
    let rows = user.devices.iter().filter_map(|id| {
        let device = view.iam_mfa_devices.get(user.account, id)?;
        let shown = api::MFADevice {
            user_name: Some(user.name.to_string()),
            serial_number: Some(device.arn()),
            enable_date: render::time(device.assigned.as_ref()?.at),
        };
        Some((id.to_string(), shown))
    });
    Ok(paged!(ListMFADevicesResponse, mfa_devices, page(input.marker, input.max_items, rows)?))
}

/// Seeds are not told again.
pub(crate) async fn list_virtual_mfa_devices(
    iam: &Iam,
    caller: &Caller,
    input: api::ListVirtualMFADevicesRequest,
) -> Result<api::ListVirtualMFADevicesResponse, ApiError> {
    let view = iam.read(caller, |_| Permission::to("iam:ListVirtualMFADevices").on("*"))?;
    let wanted = input.assignment_status;
    let is_wanted = |device: &IamMfaDevice| match wanted {
        Some(api::AssignmentStatusType::Assigned) => device.assigned.is_some(),
        Some(api::AssignmentStatusType::Unassigned) => device.assigned.is_none(),
        Some(_) | None => true,
    };
    let rows = view.iam_mfa_devices.of(caller.account).filter(|device| is_wanted(device));
    let rows = rows.map(|device| {
        let user = device.assigned.as_ref().and_then(|it| match entity_of(&view, &it.user)? {
            Entity::User(row) => Some(render::user_in_list(row)),
            Entity::Role(_) => None,
        });
        let shown = api::VirtualMFADevice {
            serial_number: Some(device.arn()),
            enable_date: device.assigned.as_ref().and_then(|it| render::time(it.at)),
            user,
            ..api::VirtualMFADevice::default()
        };
        (model::Record::id(&**device).to_string(), shown)
    });
    let page = page(input.marker, input.max_items, rows)?;
    Ok(paged!(ListVirtualMFADevicesResponse, virtual_mfa_devices, page))
}

pub(crate) async fn tag_mfa_device(
    iam: &Iam,
    caller: &Caller,
    input: api::TagMFADeviceRequest,
) -> Result<(), ApiError> {
    let (account, serial) = (caller.account, input.serial_number.unwrap_or_default());
    let more = read::tags(input.tags)?;
    let permission = on("iam:TagMFADevice", &serial).tagging(&more);
    iam.change(
        caller,
        |_| permission.clone(),
        |view, _, batch| {
            let mut next = need(view, account, &serial)?.clone();
            read::add_tags(&mut next.tags, &more)?;
            batch.put(next);
            Ok(())
        },
    )
    .await
}

pub(crate) async fn untag_mfa_device(
    iam: &Iam,
    caller: &Caller,
    input: api::UntagMFADeviceRequest,
) -> Result<(), ApiError> {
    let (account, serial) = (caller.account, input.serial_number.unwrap_or_default());
    let keys = input.tag_keys.unwrap_or_default();
    let permission = on("iam:UntagMFADevice", &serial).about_tags(&keys);
    iam.change(
        caller,
        |_| permission.clone(),
        |view, _, batch| {
            let mut next = need(view, account, &serial)?.clone();
            next.tags.retain(|key, _| !keys.contains(key));
            batch.put(next);
            Ok(())
        },
    )
    .await
}

pub(crate) async fn list_mfa_device_tags(
    iam: &Iam,
    caller: &Caller,
    input: api::ListMFADeviceTagsRequest,
) -> Result<api::ListMFADeviceTagsResponse, ApiError> {
    let serial = input.serial_number.unwrap_or_default();
    let view = iam.read(caller, |_| on("iam:ListMFADeviceTags", &serial))?;
    let row = need(&view, caller.account, &serial)?;
    let tags = render::tags(&row.tags).into_iter();
    let tags = tags.map(|tag| (tag.key.clone().unwrap_or_default(), tag));
    Ok(paged!(ListMFADeviceTagsResponse, tags, page(input.marker, input.max_items, tags)?))
}
