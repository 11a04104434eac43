//! Signing in: a user's name and password for temporary keys of the user, as AWS's console and `aws login` give them.
//!
//! It is an operation of Longshore's own, which needs no signature; `longshore login` calls it. **Invariants:** what
//! is wrong about a name or a password is not said; a password goes over TLS or stays on the machine; and a session
//! ends with the password that it was made by.

use std::net::IpAddr;
use std::sync::Arc;

use aws_wire::{ApiError, Caller, Principal, Question, Session};
use control::access::{principal_arn, traveller};
use control::iam::KeyUse;
use control::iam::mfa::CodeRefusal;
use control::iam::session::Holder;
use longshore_types::{AccountId, Timestamp, Token};
use model::{IamUser, Index, Key, LoginProfile, NameKey, PasswordPolicy, View};
use serde::{Deserialize, Serialize};
use store::Batch;
use vault::PasswordHash;

use crate::Iam;
use crate::hashing::For;
use crate::holder::Holder as _;
use crate::limits::{NAME_CHARS_MAX, SIGNED_IN_MS};
use crate::logins;
use crate::passwords::check;

/// As what a sign-in stands in the audit log.
const ACTION: &str = "longshore:SignIn";

/// Who wants in.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignIn {
    /// Its number or its alias.
    pub account: String,
    pub user: String,
    pub password: Token,
    /// What the user's second factor shows, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What the password is to be from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_password: Option<Token>,
}

/// Keys of the user, for a while.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedIn {
    pub region: String,
    pub account: String,
    pub arn: String,
    pub access_key_id: String,
    pub secret_access_key: Token,
    pub session_token: Token,
    pub expires_at: Timestamp,
}

/// What the error is called that asks for a new password.
pub const MUST_CHANGE: &str = "PasswordChangeRequiredException";

/// What the error is called that asks for a code of the user's second factor.
pub const NEEDS_CODE: &str = "MfaCodeRequiredException";

/// Why nobody comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    InTheClear,
    Wrong,
    NeedsCode,
    WrongCode,
    TooManyCodes,
    MustChange,
    Expired,
    ExpiredForGood,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (code, sentence) = match refusal {
            Refusal::InTheClear => (
                "InvalidRequestException",
                "A password is taken over TLS or from the region's own machine alone.",
            ),
            Refusal::Wrong => (
                "AccessDeniedException",
                "Your authentication information is incorrect. Please try again.",
            ),
            Refusal::NeedsCode => (NEEDS_CODE, "A code of your MFA device is needed."),
            Refusal::WrongCode => (
                "AccessDeniedException",
                "The code of your MFA device is not valid, or was used. Try the next one.",
            ),
            Refusal::TooManyCodes => (
                "AccessDeniedException",
                "There were too many wrong codes of your MFA devices. Try again later.",
            ),
            Refusal::MustChange => (MUST_CHANGE, "You must set a new password to sign in."),
            Refusal::Expired => {
                (MUST_CHANGE, "Your password has expired: set a new one to sign in.")
            }
            Refusal::ExpiredForGood => (
                "AccessDeniedException",
                "Your password has expired, and the account's password policy lets an administrator alone set a \
                 new one.",
            ),
        };
        Self::client(code, sentence).with_status(if code == "InvalidRequestException" {
            400
        } else {
            403
        })
    }
}

impl Iam {
    /// Lets a user in.
    pub async fn sign_in(&self, caller: &Caller, asked: SignIn) -> Result<SignedIn, ApiError> {
        let is_here = caller.origin.address.is_some_and(|from: IpAddr| from.is_loopback());
        if !caller.origin.is_secure && !is_here {
            return Err(Refusal::InTheClear.into());
        }
        let view = self.control.view();
        // What is there or not takes as long, and is counted alike.
        let account = account_of(&view, &asked.account);
        let row = account.and_then(|account| IamUser::find(&view, account, &asked.user));
        let user = row.map(|row| as_user(caller, row));
        if let Some(account) = account {
            let traced = user.clone().unwrap_or_else(|| Caller { account, ..caller.clone() });
            caller.origin.trail.is_of(traveller(&traced));
        }
        let note =
            || caller.origin.trail.denied(ACTION, "*", "the password, or what is asked of it");
        let denied = |refusal: Refusal| -> ApiError {
            note();
            refusal.into()
        };
        // Nobody is called so, and what is counted is kept.
        if [&asked.account, &asked.user].iter().any(|it| NAME_CHARS_MAX < it.chars().count()) {
            return Err(denied(Refusal::Wrong));
        }
        let guess = match account {
            Some(account) => self.guess(account, &asked.user, caller.now),
            None => self.guess_at_nobody(&asked.account, &asked.user, caller.now),
        };
        let guess = guess.inspect_err(|_| note())?;
        let known = row.and_then(|row| row.login.as_ref());
        let hash = self.fresh(known, asked.password, For::Stranger).await?.hash;
        let right = row.zip(known).zip(user).filter(|((_, login), _)| hash.is(&login.hash));
        let Some(((row, login), user)) = right else {
            guess.was_wrong();
            return Err(denied(Refusal::Wrong));
        };
        guess.was_right();
        let rules = logins::rules(&view, row);
        if let Some(refusal) = refusal_of(login, rules.as_ref(), caller.now)
            && (asked.new_password.is_none() || refusal == Refusal::ExpiredForGood)
        {
            return Err(denied(refusal));
        }
        // Before a code is taken, which is good once.
        if let Some(new) = &asked.new_password {
            check(rules.as_ref(), new.reveal())?;
        }
        let has_code = self.second_factor(row, asked.code.as_deref()).await?;
        let has_code = has_code.map_err(denied)?;
        let now = match asked.new_password {
            Some(new) => {
                // Policies see who it is that changes it as they will see who signed in.
                let session = Some(Arc::new(session(caller.now, has_code)));
                self.renew(&Caller { session, ..user.clone() }, row, &hash, new).await?
            }
            None => caller.now,
        };
        caller.origin.trail.asked(Question {
            action: ACTION.to_owned(),
            resources: vec![],
            is_allowed: true,
            decided_by: "the password".to_owned(),
        });
        let used = KeyUse {
            account: row.account,
            at: now,
            service: "signin",
            region: caller.region.to_string(),
        };
        self.control.access.uses.note(&row.unique_id, used);
        Ok(self.signed_in(&user, row, now, has_code))
    }

    /// Whether a code was shown, which must be if the user has a device.
    async fn second_factor(
        &self,
        row: &IamUser,
        code: Option<&str>,
    ) -> Result<Result<bool, Refusal>, ApiError> {
        if row.devices.is_empty() {
            return Ok(Ok(false));
        }
        let Some(code) = code else { return Ok(Err(Refusal::NeedsCode)) };
        let taken = self.control.take_code(row.account, &row.unique_id, None, code).await?;
        Ok(taken.map(|()| true).map_err(|why| match why {
            CodeRefusal::Unknown | CodeRefusal::Wrong => Refusal::WrongCode,
            CodeRefusal::TooMany => Refusal::TooManyCodes,
        }))
    }

    /// Sets another password in the name of the user, who must be allowed to; when it was set.
    async fn renew(
        &self,
        user: &Caller,
        row: &IamUser,
        old: &PasswordHash,
        new: Token,
    ) -> Result<Timestamp, ApiError> {
        let (account, name) = (row.account, &*row.name);
        let permission = |view: &View| IamUser::permission(view, user, "iam:ChangePassword", name);
        self.read(user, permission)?;
        let fresh = self.fresh(row.login.as_ref(), new, For::Known).await?;
        self.change(user, permission, |view, now, batch: &mut Batch| {
            let row = view.iam_users.get(account, &NameKey::of(name));
            let row = row.filter(|row| row.login.as_ref().is_some_and(|it| old.is(&it.hash)));
            let row = row.ok_or(Refusal::Wrong)?;
            batch.put(logins::set(view, row, &fresh, false, now)?);
            Ok(now)
        })
        .await
    }

    fn signed_in(&self, user: &Caller, row: &IamUser, now: Timestamp, has_code: bool) -> SignedIn {
        let session = session(now, has_code);
        let holder = Holder::User { id: row.unique_id.to_string() };
        let issued = self.control.access.sessions.issue(self.ids(), row.account, holder, session);
        SignedIn {
            region: self.control.config.region.to_string(),
            account: row.account.to_string(),
            arn: principal_arn(user),
            access_key_id: issued.access_key_id,
            secret_access_key: issued.secret,
            session_token: issued.session_token,
            expires_at: issued.expires,
        }
    }
}

fn session(now: Timestamp, has_code: bool) -> Session {
    Session {
        issued_at: now,
        expires: now.plus_ms(SIGNED_IN_MS),
        by_password: true,
        mfa_at: has_code.then_some(now),
        ..Session::default()
    }
}

fn account_of(view: &View, given: &str) -> Option<AccountId> {
    if let Ok(account) = given.parse() {
        return Some(account);
    }
    view.members(&Index::IamAlias(given.into())).next().map(Key::account)
}

fn as_user(caller: &Caller, row: &IamUser) -> Caller {
    let principal = Principal::User {
        name: row.name.clone(),
        path: row.path.clone(),
        id: row.unique_id.clone(),
    };
    let access_key = String::new();
    Caller { account: row.account, access_key, principal, session: None, ..caller.clone() }
}

/// Why a password that is right does not do.
fn refusal_of(
    login: &LoginProfile,
    rules: Option<&PasswordPolicy>,
    now: Timestamp,
) -> Option<Refusal> {
    let is_over = logins::due(login, rules).is_some_and(|due| due <= now);
    let is_for_good = rules.and_then(|rules| rules.hard_expiry) == Some(true);
    match (is_over, login.must_change) {
        (true, _) if is_for_good => Some(Refusal::ExpiredForGood),
        (true, _) => Some(Refusal::Expired),
        (false, true) => Some(Refusal::MustChange),
        (false, false) => None,
    }
}
