//! Client tokens: what was answered to a request that may be sent again.

use std::fmt;

use longshore_types::{AccountId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::table::Record;
use crate::view::Index;

/// An operation and the token that a caller gave for one call of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientTokenId {
    /// `RunTask`, or with a scope: `RunTask demo`.
    pub operation: String,
    pub token: String,
}

impl fmt::Display for ClientTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.operation, self.token)
    }
}

/// The first use of a token, kept until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientToken {
    pub account: AccountId,
    pub call: ClientTokenId,
    /// SHA-256 of the request in hexadecimal: the same token with another request is a conflict.
    pub request_digest: String,
    /// ids of what the first call made, in the order of its answer.
    pub made: Vec<String>,
    pub expires_at: Timestamp,
}

impl Record for ClientToken {
    type Id = ClientTokenId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> ClientTokenId {
        self.call.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        vec![Index::ExpiringTokens(self.expires_at.seconds())]
    }
}
