//! Temporary credentials of STS. Nothing is kept of them: the session token says, sealed, whose they are and
//! what was passed, and the secret is derived from it.
//!
//! **Invariant:** who doesn't know the region's secret makes no token that [`Sessions::open`] opens, and
//! learns no secret from one.

use std::collections::{BTreeMap, BTreeSet};

use aws_wire::{Principal, Session};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_types::{AccountId, IdSource, Timestamp, Token};
use serde::{Deserialize, Serialize};

use super::access_keys::{self, TEMPORARY};
use crate::seal::{Seal, derive};

/// Tokens of this form begin so; those of tasks' own keys are shorter.
const PREFIX: &str = "LSs1";

/// Whose a session is. Users and roles are named by their unique ids: one who is made anew under an old
/// name does not come into its sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Holder {
    Root,
    User { id: String },
    Role { id: String, session: String },
    Federated { name: String, user: Option<String> },
}

impl Holder {
    /// Whose session a principal is; `None` of those that have none.
    pub fn of(principal: &Principal) -> Option<Self> {
        match principal {
            Principal::Root => Some(Self::Root),
            Principal::User { id, .. } => Some(Self::User { id: id.to_string() }),
            Principal::Role { id, session, .. } => {
                Some(Self::Role { id: id.to_string(), session: session.to_string() })
            }
            Principal::Federated { name, user } => Some(Self::Federated {
                name: name.to_string(),
                user: user.as_ref().map(|(_, id)| id.to_string()),
            }),
            Principal::Node { .. } | Principal::Anonymous => None,
        }
    }
}

/// What a token has inside.
#[derive(Serialize, Deserialize)]
struct Inside {
    holder: Holder,
    issued_at: Timestamp,
    expires: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    policy_arns: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    transitive_tags: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_identity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    by_password: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mfa_at: Option<Timestamp>,
}

/// What a client signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret: Token,
    pub session_token: Token,
    pub expires: Timestamp,
}

/// Makes and opens sessions.
#[derive(Clone, Debug)]
pub struct Sessions {
    seal: Seal,
    secret: Token,
}

impl Sessions {
    pub fn new(secret: &Token) -> Self {
        Self { seal: Seal::new(secret, "sessions"), secret: secret.clone() }
    }

    pub fn issue(
        &self,
        ids: &dyn IdSource,
        account: AccountId,
        holder: Holder,
        session: Session,
    ) -> Credentials {
        let access_key_id = access_keys::mint(TEMPORARY, account, ids);
        let expires = session.expires;
        let token = self.token(ids, &access_key_id, holder, session);
        let secret = self.secret_of(&access_key_id, &token);
        let session_token = Token::from_text(token);
        Credentials { access_key_id, secret, session_token, expires }
    }

    /// A token that goes with a key and says whose session it is.
    pub fn token(
        &self,
        ids: &dyn IdSource,
        access_key_id: &str,
        holder: Holder,
        session: Session,
    ) -> String {
        let inside = Inside {
            holder,
            issued_at: session.issued_at,
            expires: session.expires,
            policy: session.policy,
            policy_arns: session.policy_arns,
            tags: session.tags,
            transitive_tags: session.transitive_tags,
            source_identity: session.source_identity,
            provider: session.provider,
            by_password: session.by_password,
            mfa_at: session.mfa_at,
        };
        let inside = serde_json::to_vec(&inside).unwrap_or_default();
        format!("{PREFIX}{}", self.seal.seal(ids, access_key_id, &inside))
    }

    /// Whether a token is of this form, whatever is in it.
    pub fn is_token(token: &str) -> bool {
        token.starts_with(PREFIX)
    }

    /// Whose session a key and a token are, and the secret that goes with them.
    pub fn open(&self, access_key_id: &str, token: &str) -> Option<(Holder, Session, Token)> {
        let sealed = token.strip_prefix(PREFIX)?;
        let inside: Inside =
            serde_json::from_slice(&self.seal.open(access_key_id, sealed)?).ok()?;
        let session = Session {
            issued_at: inside.issued_at,
            expires: inside.expires,
            policy: inside.policy,
            policy_arns: inside.policy_arns,
            tags: inside.tags,
            transitive_tags: inside.transitive_tags,
            source_identity: inside.source_identity,
            provider: inside.provider,
            by_password: inside.by_password,
            mfa_at: inside.mfa_at,
        };
        Some((inside.holder, session, self.secret_of(access_key_id, token)))
    }

    fn secret_of(&self, access_key_id: &str, token: &str) -> Token {
        let of = format!("{access_key_id}|{token}");
        let digest = derive(&self.secret, "session secret", &of);
        Token::from_text(URL_SAFE_NO_PAD.encode(&digest[..30]))
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    #[test]
    fn a_session_is_opened_by_the_region_that_issued_it_alone() {
        let env = SeededEnv::from_seed(1);
        let sessions = Sessions::new(&Token::from_text("a".to_owned()));
        let account = "111122223333".parse().unwrap();
        let holder = Holder::Role { id: "AROA1".to_owned(), session: "ci".to_owned() };
        let session = Session {
            issued_at: Timestamp(1),
            expires: Timestamp(2),
            tags: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
            ..Session::default()
        };
        let issued = sessions.issue(&env, account, holder.clone(), session.clone());
        let token = issued.session_token.reveal();
        let opened = sessions.open(&issued.access_key_id, token).unwrap();
        assert_eq!(opened, (holder, session, issued.secret.clone()));
        assert!(!token.contains(issued.secret.reveal()));
        let elsewhere = Sessions::new(&Token::from_text("b".to_owned()));
        assert_eq!(elsewhere.open(&issued.access_key_id, token), None);
        assert_eq!(sessions.open("ASIAOTHER", token), None);
        assert_eq!(sessions.open(&issued.access_key_id, &token[1..]), None);
    }
}
