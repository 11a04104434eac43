//! CreateActivation, DescribeActivations, DeleteActivation: what hosts become managed instances by.
//!
//! **Invariant:** a code is shown once, and its hash alone is kept.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::managed_instances;
use longshore_types::{AccountId, Timestamp, Token, Uuid};
use model::{Activation, Key, View};
use ssm_api as api;
use store::Batch;

use crate::errors::{invalid, named};
use crate::limits::{ACTIVATION_DAYS_MAX, ACTIVATIONS_MAX, PAGE_MAX};
use crate::pages::page;
use crate::{Ssm, tags};

const DAY_MS: u64 = 24 * 60 * 60_000;
/// Amazon's codes have 20.
const CODE_CHARS: usize = 24;

pub(crate) async fn create_activation(
    it: &Ssm,
    caller: &Caller,
    input: api::CreateActivationRequest,
) -> Result<api::CreateActivationResult, ApiError> {
    let account = caller.account;
    let role = input.iam_role.unwrap_or_default();
    let tags = tags::read(input.tags)?;
    let permission = Permission::to("ssm:CreateActivation").on("*").tagging(&tags);
    let permission = passing(it, permission, account, &role);
    let ids = it.control.ids.as_ref();
    let (id, code) = (Uuid::mint(ids).to_string(), Token::mint(ids, CODE_CHARS));
    let limit = u32::try_from(input.registration_limit.unwrap_or(1)).unwrap_or(1);
    let is_reserved = input.registration_metadata.is_some_and(|given| !given.is_empty());
    it.control
        .change(caller, &permission, |view, now| {
            if is_reserved {
                return Err(invalid("RegistrationMetadata is reserved for internal use."));
            }
            check_role(it, view, account, &role, now)?;
            let mut batch = Batch::on(view);
            make_room(view, account, now, &mut batch)?;
            batch.put(Activation {
                account,
                id: id.as_str().into(),
                hash: managed_instances::code_hash(&code),
                description: input.description.clone(),
                instance_name: input.default_instance_name.clone().filter(|it| !it.is_empty()),
                role: role.clone(),
                limit,
                count: 0,
                created_at: now,
                expires_at: expiry(input.expiration_date, now)?,
                tags: tags.clone(),
            });
            Ok((batch, ()))
        })
        .await?;
    let code = code.reveal().to_owned();
    Ok(api::CreateActivationResult { activation_id: Some(id), activation_code: Some(code) })
}

/// Whoever gives instances a role must be allowed to pass it.
pub(crate) fn passing(
    it: &Ssm,
    permission: Permission,
    account: AccountId,
    given: &str,
) -> Permission {
    let view = it.control.view();
    let arn = managed_instances::role(&view, account, given).map(|row| row.arn());
    let arn = arn.unwrap_or_else(|| format!("arn:aws:iam::{account}:role/{given}"));
    permission.passing([arn.as_str()], managed_instances::SERVICE)
}

/// Refuses a role that is not there, or that Systems Manager may not assume.
pub(crate) fn check_role(
    it: &Ssm,
    view: &View,
    account: AccountId,
    given: &str,
    now: Timestamp,
) -> Result<(), ApiError> {
    it.control.check_instance_role(view, account, given, now).map_err(|_| {
        invalid(format!(
            "Nonexistent role or missing ssm service principal in trust policy: \
             arn:aws:iam::{account}:role/{given}"
        ))
    })
}

fn expiry(given: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, ApiError> {
    let Some(at) = given else { return Ok(now.plus_ms(DAY_MS)) };
    if at <= now || now.plus_ms(ACTIVATION_DAYS_MAX * DAY_MS) < at {
        return Err(named(
            "InvalidParameters",
            format!(
                "The expiration date must be in the future, and within {ACTIVATION_DAYS_MAX} days."
            ),
        ));
    }
    Ok(at)
}

/// Of as many as there may be, the oldest that registers nobody any more makes room.
fn make_room(
    view: &View,
    account: AccountId,
    now: Timestamp,
    batch: &mut Batch,
) -> Result<(), ApiError> {
    let rows: Vec<_> = view.activations.of(account).collect();
    if rows.len() < ACTIVATIONS_MAX {
        return Ok(());
    }
    let is_over = |row: &&&Arc<Activation>| row.expires_at <= now || row.limit <= row.count;
    let Some(oldest) = rows.iter().filter(is_over).min_by_key(|row| row.created_at) else {
        let message = format!("There are {ACTIVATIONS_MAX} activations: delete some.");
        return Err(named("LimitExceededException", message));
    };
    batch.delete(Key::Activation(account, Arc::clone(&oldest.id)));
    Ok(())
}

pub(crate) async fn describe_activations(
    it: &Ssm,
    caller: &Caller,
    input: api::DescribeActivationsRequest,
) -> Result<api::DescribeActivationsResult, ApiError> {
    let view = it.control.read(caller, &Permission::to("ssm:DescribeActivations").on("*"))?;
    let filters = input.filters.unwrap_or_default();
    let is_known = |filter: &api::DescribeActivationsFilter| {
        use api::DescribeActivationsFilterKeys::{ActivationIds, DefaultInstanceName, IamRole};
        matches!(filter.filter_key, Some(ActivationIds | DefaultInstanceName | IamRole))
    };
    if !filters.iter().all(is_known) {
        return Err(named("InvalidFilter", "The filter name is not valid."));
    }
    let passes = |row: &Activation| {
        filters.iter().all(|filter| {
            let values = filter.filter_values.as_deref().unwrap_or_default();
            let is = |text: &str| values.iter().any(|value| value == text);
            match &filter.filter_key {
                Some(api::DescribeActivationsFilterKeys::ActivationIds) => is(&row.id),
                Some(api::DescribeActivationsFilterKeys::DefaultInstanceName) => {
                    row.instance_name.as_deref().is_some_and(is)
                }
                Some(api::DescribeActivationsFilterKeys::IamRole) => is(&row.role),
                _ => false,
            }
        })
    };
    let rows = view.activations.of(caller.account).filter(|row| passes(row));
    let found = rows.map(|row| (row.id.to_string(), shown(row, caller.now)));
    let page = page(input.next_token, input.max_results, PAGE_MAX, found)?;
    Ok(api::DescribeActivationsResult {
        activation_list: Some(page.items),
        next_token: page.next_token,
    })
}

fn shown(row: &Activation, now: Timestamp) -> api::Activation {
    let number = |count: u32| i32::try_from(count).ok();
    api::Activation {
        activation_id: Some(row.id.to_string()),
        description: row.description.clone(),
        default_instance_name: row.instance_name.clone(),
        iam_role: Some(row.role.clone()),
        registration_limit: number(row.limit),
        registrations_count: number(row.count),
        expiration_date: Some(row.expires_at),
        expired: Some(row.expires_at <= now),
        created_date: Some(row.created_at),
        tags: (!row.tags.is_empty()).then(|| tags::shown(&row.tags)),
    }
}

/// Nobody joins by it any more; instances that came by it stay.
pub(crate) async fn delete_activation(
    it: &Ssm,
    caller: &Caller,
    input: api::DeleteActivationRequest,
) -> Result<api::DeleteActivationResult, ApiError> {
    let id = input.activation_id.unwrap_or_default();
    let permission = Permission::to("ssm:DeleteActivation").on("*");
    it.control
        .change(caller, &permission, |view, _| {
            let row = view.activations.get(caller.account, &id.as_str().into()).ok_or_else(|| {
                named(
                    "InvalidActivation",
                    "The activation is not valid. The activation might have been deleted, or the ActivationId \
                     and the ActivationCode do not match.",
                )
            })?;
            let mut batch = Batch::on(view);
            batch.delete(Key::Activation(row.account, Arc::clone(&row.id)));
            Ok((batch, ()))
        })
        .await?;
    Ok(api::DeleteActivationResult {})
}
