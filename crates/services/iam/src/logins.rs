//! Login profiles: users' passwords. What they are good for is `longshore login` (`sign_in`).
//!
//! A hash is made before the decision, with the salt that the view of then tells; the decision is refused if the
//! profile has another one by now.

use std::num::NonZeroU32;

use aws_wire::{ApiError, Caller, Principal};
use control::Config;
use control::iam::guesses::{Guess, Secret};
use iam_api as api;
use longshore_types::{AccountId, Timestamp, Token};
use model::{IamUser, LoginProfile, PasswordPolicy, TheAccount, View};
use store::Batch;
use vault::PasswordHash;

use crate::Iam;
use crate::errors::Refusal;
use crate::hashing::For;
use crate::holder::Holder;
use crate::limits::PASSWORDS_MAX;
use crate::passwords::{Refused, check};
use crate::{read, render};

const DAY_MS: u64 = 24 * 60 * 60_000;

/// A new password with its hash.
pub(crate) struct Fresh {
    pub(crate) salt: Token,
    pub(crate) rounds: NonZeroU32,
    pub(crate) hash: PasswordHash,
}

/// The rounds that a row says, which are never none.
pub(crate) fn rounds_of(login: &LoginProfile) -> NonZeroU32 {
    NonZeroU32::new(login.rounds).unwrap_or(NonZeroU32::MIN)
}

impl Iam {
    /// A guess at a user's password, of whom it was not wrong too often of late.
    pub(crate) fn guess(
        &self,
        account: AccountId,
        user: &str,
        now: Timestamp,
    ) -> Result<Guess<'_>, ApiError> {
        let guess = self.control.access.guesses.guess(account, Secret::Password, user, now);
        guess.ok_or_else(|| Refusal::TooManyGuesses.wire())
    }

    /// The same in an account that is not there, so that nobody learns by the count which are.
    pub(crate) fn guess_at_nobody(
        &self,
        account: &str,
        user: &str,
        now: Timestamp,
    ) -> Result<Guess<'_>, ApiError> {
        // No user's name has a slash.
        self.guess(Config::root_account(), &format!("{account}/{user}"), now)
    }

    /// What becomes of a password by the salt of the profile that there is, or by one of its own.
    pub(crate) async fn fresh(
        &self,
        login: Option<&LoginProfile>,
        password: Token,
        whom: For,
    ) -> Result<Fresh, ApiError> {
        let (salt, rounds) = match login {
            Some(login) => (login.salt.clone(), rounds_of(login)),
            None => (PasswordHash::salt(self.ids()), self.hashing.rounds),
        };
        let hash = self.hashing.hash(password, salt.clone(), rounds, whom).await?;
        Ok(Fresh { salt, rounds, hash })
    }
}

/// The rules that an account's passwords are under, if it has its own.
pub(crate) fn rules(view: &View, user: &IamUser) -> Option<PasswordPolicy> {
    view.iam_accounts.get(user.account, &TheAccount)?.password_policy
}

/// From when on a password must be another one, if the account's rules say so.
pub(crate) fn due(login: &LoginProfile, rules: Option<&PasswordPolicy>) -> Option<Timestamp> {
    let days = u64::try_from(rules?.age_days_max?).ok()?;
    Some(login.set_at.plus_ms(days.saturating_mul(DAY_MS)))
}

/// Gives a user the password, which must be unlike those before it if the account's policy says so.
pub(crate) fn set(
    view: &View,
    row: &IamUser,
    fresh: &Fresh,
    must_change: bool,
    now: Timestamp,
) -> Result<IamUser, ApiError> {
    let known = row.login.as_ref();
    if known.is_some_and(|known| known.salt != fresh.salt) {
        return Err(Refusal::Meanwhile(row.name.to_string()).wire());
    }
    let before =
        known.into_iter().flat_map(|known| std::iter::once(&known.hash).chain(&known.former));
    let remembered = rules(view, row).and_then(|rules| rules.reuse_prevention).unwrap_or(0);
    let remembered = usize::try_from(remembered).unwrap_or(0);
    if before.clone().take(remembered).any(|former| fresh.hash.is(former)) {
        return Err(Refusal::Password(Refused::Used(remembered).to_string()).wire());
    }
    let login = LoginProfile {
        created_at: known.map_or(now, |known| known.created_at),
        set_at: now,
        must_change,
        salt: fresh.salt.clone(),
        rounds: fresh.rounds.get(),
        hash: fresh.hash.text(),
        former: before.take(PASSWORDS_MAX - 1).cloned().collect(),
    };
    Ok(IamUser { login: Some(login), ..row.clone() })
}

fn need_login(row: &IamUser) -> Result<&LoginProfile, ApiError> {
    let missing = || Refusal::MissingLoginProfile(row.name.to_string()).wire();
    row.login.as_ref().ok_or_else(missing)
}

fn shown(row: &IamUser, login: &LoginProfile) -> api::LoginProfile {
    api::LoginProfile {
        user_name: Some(row.name.to_string()),
        create_date: render::time(login.created_at),
        password_reset_required: Some(login.must_change),
    }
}

pub(crate) async fn create_login_profile(
    iam: &Iam,
    caller: &Caller,
    input: api::CreateLoginProfileRequest,
) -> Result<api::CreateLoginProfileResponse, ApiError> {
    let (account, name) = (caller.account, read::user_name(caller, input.user_name)?);
    let permission =
        |view: &View| IamUser::permission(view, caller, "iam:CreateLoginProfile", &name);
    let must_change = input.password_reset_required.unwrap_or(false);
    let exists = || Refusal::LoginProfileExists(name.clone()).wire();
    let view = iam.read(caller, permission)?;
    let password = Token::from_text(input.password.ok_or_else(|| Refusal::NoPassword.wire())?);
    let row = IamUser::need(&view, account, &name)?;
    if row.login.is_some() {
        return Err(exists());
    }
    check(rules(&view, row).as_ref(), password.reveal())?;
    let fresh = iam.fresh(None, password, For::Known).await?;
    let made = iam.change(caller, permission, |view, now, batch| {
        let row = IamUser::need(view, account, &name)?;
        if row.login.is_some() {
            return Err(exists());
        }
        let next = set(view, row, &fresh, must_change, now)?;
        let shown = shown(&next, need_login(&next)?);
        batch.put(next);
        Ok(shown)
    });
    Ok(api::CreateLoginProfileResponse { login_profile: Some(made.await?) })
}

pub(crate) async fn get_login_profile(
    iam: &Iam,
    caller: &Caller,
    input: api::GetLoginProfileRequest,
) -> Result<api::GetLoginProfileResponse, ApiError> {
    if read::is_of_root(caller, input.user_name.as_ref()) {
        // The root user has no password here.
        return Err(Refusal::MissingLoginProfile("root".to_owned()).wire());
    }
    let name = read::user_name(caller, input.user_name)?;
    let view =
        iam.read(caller, |view| IamUser::permission(view, caller, "iam:GetLoginProfile", &name))?;
    let row = IamUser::need(&view, caller.account, &name)?;
    Ok(api::GetLoginProfileResponse { login_profile: Some(shown(row, need_login(row)?)) })
}

/// What is left out stays as it is; a new password must be changed at the next sign-in only if that is said again.
pub(crate) async fn update_login_profile(
    iam: &Iam,
    caller: &Caller,
    input: api::UpdateLoginProfileRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, input.user_name.unwrap_or_default());
    let permission =
        |view: &View| IamUser::permission(view, caller, "iam:UpdateLoginProfile", &name);
    let view = iam.read(caller, permission)?;
    let row = IamUser::need(&view, account, &name)?;
    let login = need_login(row)?;
    let fresh = match input.password {
        Some(password) => {
            check(rules(&view, row).as_ref(), &password)?;
            Some(iam.fresh(Some(login), Token::from_text(password), For::Known).await?)
        }
        None => None,
    };
    let must_change = input.password_reset_required;
    iam.change(caller, permission, |view, now, batch: &mut Batch| {
        let row = IamUser::need(view, account, &name)?;
        let login = need_login(row)?;
        batch.put(match &fresh {
            Some(fresh) => set(view, row, fresh, must_change.unwrap_or(false), now)?,
            None => {
                let must_change = must_change.unwrap_or(login.must_change);
                let login = Some(LoginProfile { must_change, ..login.clone() });
                IamUser { login, ..IamUser::clone(row) }
            }
        });
        Ok(())
    })
    .await
}

/// Whoever signed in by the password is out with it.
pub(crate) async fn delete_login_profile(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteLoginProfileRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, read::user_name(caller, input.user_name)?);
    let permission =
        |view: &View| IamUser::permission(view, caller, "iam:DeleteLoginProfile", &name);
    iam.change(caller, permission, |view, _, batch| {
        let row = IamUser::need(view, account, &name)?;
        need_login(row)?;
        batch.put(IamUser { login: None, ..IamUser::clone(row) });
        Ok(())
    })
    .await
}

/// A user's own password, for who knows the old one.
pub(crate) async fn change_password(
    iam: &Iam,
    caller: &Caller,
    input: api::ChangePasswordRequest,
) -> Result<(), ApiError> {
    let name = match &caller.principal {
        Principal::User { name, .. } => name.to_string(),
        Principal::Root
        | Principal::Role { .. }
        | Principal::Federated { .. }
        | Principal::Node { .. }
        | Principal::Anonymous => "*".to_owned(),
    };
    let permission = |view: &View| IamUser::permission(view, caller, "iam:ChangePassword", &name);
    let view = iam.read(caller, permission)?;
    if name == "*" {
        return Err(Refusal::NotAUser.wire());
    }
    let account = caller.account;
    let row = IamUser::need(&view, account, &name)?;
    let login = need_login(row)?;
    let guess = iam.guess(account, &name, caller.now)?;
    let old = Token::from_text(input.old_password.unwrap_or_default());
    let old = iam.hashing.hash(old, login.salt.clone(), rounds_of(login), For::Known).await?;
    if !old.is(&login.hash) {
        guess.was_wrong();
        return Err(Refusal::OldPassword.wire());
    }
    guess.was_right();
    let new = Token::from_text(input.new_password.unwrap_or_default());
    check(rules(&view, row).as_ref(), new.reveal())?;
    let fresh = iam.fresh(Some(login), new, For::Known).await?;
    iam.change(caller, permission, |view, now, batch| {
        let row = IamUser::need(view, account, &name)?;
        // The old one may be another by now.
        if !old.is(&need_login(row)?.hash) {
            return Err(Refusal::Meanwhile(name.clone()).wire());
        }
        batch.put(set(view, row, &fresh, false, now)?);
        Ok(())
    })
    .await
}
