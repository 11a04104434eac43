//! The account's password policy, and what it says of a password.

use std::fmt;

use aws_wire::{ApiError, Caller};
use control::Permission;
use iam_api as api;
use model::{IamAccount, PasswordPolicy, TheAccount};

use crate::Iam;
use crate::errors::Refusal;

/// As long as a password may be, whatever a policy says.
const LENGTH_MAX: usize = 128;
/// As short as a password may be where a policy does not say.
const LENGTH_DEFAULT: i32 = 6;
/// As short as one may be without a policy, and of how many kinds its characters are at least.
const LENGTH_WITHOUT_POLICY: usize = 8;
const KINDS_WITHOUT_POLICY: usize = 3;
/// The characters that IAM has for symbols.
const SYMBOLS: &str = "!@#$%^&*()_+-=[]{}|'";

/// What is wrong with a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Lacks(Vec<String>),
    /// Without a policy: so many more of these.
    LacksSome(usize, Vec<String>),
    /// It is one of so many that are remembered.
    Used(usize),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacks(wants) => f.write_str(&wants.join(", ")),
            Self::LacksSome(more, wants) => write!(
                f,
                "Password should meet {more} more of the following requirements: {}",
                wants.join(", ")
            ),
            Self::Used(remembered) => write!(
                f,
                "Password was used before: it may be none of the last {remembered} of this user."
            ),
        }
    }
}

/// Whether a password is as the account's policy wants it, or as IAM does where there is none.
pub(crate) fn check(policy: Option<&PasswordPolicy>, password: &str) -> Result<(), ApiError> {
    match refused(policy, password) {
        Some(refused) => Err(Refusal::Password(refused.to_string()).wire()),
        None => Ok(()),
    }
}

fn refused(policy: Option<&PasswordPolicy>, password: &str) -> Option<Refused> {
    // As IAM's operations take them: a sign-in is none of those, and what it sets must be of use in them.
    let is_taken = |it: char| matches!(it, '\t' | '\n' | '\r' | ' '..='\u{FF}');
    if LENGTH_MAX < password.chars().count() || !password.chars().all(is_taken) {
        let want = format!("Password should have at most {LENGTH_MAX} characters, all of Latin-1");
        return Some(Refused::Lacks(vec![want]));
    }
    let length_min = policy
        .map_or(LENGTH_WITHOUT_POLICY, |policy| usize::try_from(policy.length_min).unwrap_or(0));
    let kinds = [
        ("uppercase letter", password.contains(|it: char| it.is_ascii_uppercase())),
        ("lowercase letter", password.contains(|it: char| it.is_ascii_lowercase())),
        ("number", password.contains(|it: char| it.is_ascii_digit())),
        ("symbol", password.contains(|it| SYMBOLS.contains(it))),
    ];
    let sentence = |kind: &str| format!("Password should have at least one {kind}");
    let is_short = password.chars().count() < length_min;
    let short = is_short.then(|| format!("Password should have a minimum length of {length_min}"));
    let lacks = |needed: [bool; 4]| {
        let missing = kinds.iter().zip(needed).filter(|((_, has), needed)| *needed && !has);
        missing.map(|((kind, _), _)| sentence(kind)).collect::<Vec<_>>()
    };
    if let Some(policy) = policy {
        let needed = [
            policy.needs_uppercase,
            policy.needs_lowercase,
            policy.needs_numbers,
            policy.needs_symbols,
        ];
        let wants: Vec<_> = short.into_iter().chain(lacks(needed)).collect();
        return (!wants.is_empty()).then_some(Refused::Lacks(wants));
    }
    if let Some(short) = short {
        return Some(Refused::Lacks(vec![short]));
    }
    let has = kinds.iter().filter(|(_, has)| *has).count();
    let more = KINDS_WITHOUT_POLICY.saturating_sub(has);
    (0 < more).then(|| Refused::LacksSome(more, lacks([true; 4])))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_policy_a_password_has_eight_characters_of_three_kinds() {
        let said = |password: &str| refused(None, password).map(|refused| refused.to_string());
        assert_eq!(said("Passw0rd"), None);
        assert_eq!(said("password!1"), None);
        let short = said("Ab1!");
        assert_eq!(short.as_deref(), Some("Password should have a minimum length of 8"));
        let one = said("passw0rd").unwrap();
        assert_eq!(
            one,
            "Password should meet 1 more of the following requirements: Password should have at least one \
             uppercase letter, Password should have at least one symbol"
        );
        assert!(said("password").unwrap().starts_with("Password should meet 2 more of"));
        let long = "Passw0rd".repeat(16);
        assert_eq!(said(&long), None);
        for none in [format!("{long}!"), "Passw0rd €".to_owned()] {
            assert!(said(&none).unwrap().contains("at most 128 characters"), "{none}");
        }
    }

    #[test]
    fn a_policy_says_all_that_a_password_lacks_and_nothing_else_is_asked() {
        let policy = PasswordPolicy {
            length_min: 6,
            needs_symbols: false,
            needs_numbers: false,
            needs_uppercase: false,
            needs_lowercase: false,
            users_may_change: false,
            age_days_max: None,
            reuse_prevention: None,
            hard_expiry: None,
        };
        assert_eq!(refused(Some(&policy), "aaaaaa"), None);
        let strict = PasswordPolicy {
            length_min: 14,
            needs_symbols: true,
            needs_numbers: true,
            needs_uppercase: true,
            ..policy
        };
        let said = refused(Some(&strict), "aaaaaa").unwrap().to_string();
        assert_eq!(
            said,
            "Password should have a minimum length of 14, Password should have at least one uppercase letter, \
             Password should have at least one number, Password should have at least one symbol"
        );
        assert_eq!(refused(Some(&strict), "Aaaaaaaaaaaa1'"), None);
        // What is no symbol at IAM is none here.
        assert!(refused(Some(&strict), "Aaaaaaaaaaaa1.").is_some());
        // Characters are counted, not bytes.
        assert_eq!(refused(Some(&policy), "ääääää"), None);
        assert!(refused(Some(&policy), "äääää").is_some());
    }
}
