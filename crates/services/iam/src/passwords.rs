//! The account's password policy. It is shown as it was put; there are no passwords that it would be about.

use aws_wire::{ApiError, Caller};
use control::Permission;
use iam_api as api;
use model::{IamAccount, PasswordPolicy, TheAccount};

use crate::Iam;
use crate::errors::Refusal;

/// As short as a password may be where nothing is said.
const LENGTH_DEFAULT: i32 = 6;

/// What is left out is as if there had been no policy before.
pub(crate) async fn update_account_password_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::UpdateAccountPasswordPolicyRequest,
) -> Result<(), ApiError> {
    let policy = PasswordPolicy {
        length_min: input.minimum_password_length.unwrap_or(LENGTH_DEFAULT),
        needs_symbols: input.require_symbols.unwrap_or(false),
        needs_numbers: input.require_numbers.unwrap_or(false),
        needs_uppercase: input.require_uppercase_characters.unwrap_or(false),
        needs_lowercase: input.require_lowercase_characters.unwrap_or(false),
        users_may_change: input.allow_users_to_change_password.unwrap_or(false),
        age_days_max: input.max_password_age,
        reuse_prevention: input.password_reuse_prevention,
        hard_expiry: input.hard_expiry,
    };
    let permission = Permission::to("iam:UpdateAccountPasswordPolicy").on("*");
    let account = caller.account;
    iam.change(
        caller,
        |_| permission.clone(),
        |view, now, batch| {
            let known = view.iam_accounts.get(account, &TheAccount);
            let bare =
                || IamAccount { account, created_at: now, alias: None, password_policy: None };
            let row = known.map_or_else(bare, |row| IamAccount::clone(row));
            batch.put(IamAccount { password_policy: Some(policy), ..row });
            Ok(())
        },
    )
    .await
}

pub(crate) async fn get_account_password_policy(
    iam: &Iam,
    caller: &Caller,
) -> Result<api::GetAccountPasswordPolicyResponse, ApiError> {
    let view = iam.read(caller, |_| Permission::to("iam:GetAccountPasswordPolicy").on("*"))?;
    let known = view.iam_accounts.get(caller.account, &TheAccount);
    let policy = known.and_then(|row| row.password_policy);
    let policy = policy.ok_or_else(|| Refusal::NoPasswordPolicy(caller.account).wire())?;
    Ok(api::GetAccountPasswordPolicyResponse {
        password_policy: Some(api::PasswordPolicy {
            minimum_password_length: Some(policy.length_min),
            require_symbols: Some(policy.needs_symbols),
            require_numbers: Some(policy.needs_numbers),
            require_uppercase_characters: Some(policy.needs_uppercase),
            require_lowercase_characters: Some(policy.needs_lowercase),
            allow_users_to_change_password: Some(policy.users_may_change),
            expire_passwords: Some(policy.age_days_max.is_some()),
            max_password_age: policy.age_days_max,
            password_reuse_prevention: policy.reuse_prevention,
            hard_expiry: policy.hard_expiry,
        }),
    })
}

pub(crate) async fn delete_account_password_policy(
    iam: &Iam,
    caller: &Caller,
) -> Result<(), ApiError> {
    let permission = Permission::to("iam:DeleteAccountPasswordPolicy").on("*");
    let account = caller.account;
    iam.change(
        caller,
        |_| permission.clone(),
        |view, _, batch| {
            let known = view.iam_accounts.get(account, &TheAccount);
            let row = known.filter(|row| row.password_policy.is_some());
            let row = row.ok_or_else(|| Refusal::NoPasswordPolicyToDelete.wire())?;
            batch.put(IamAccount { password_policy: None, ..IamAccount::clone(row) });
            Ok(())
        },
    )
    .await
}
