//! What the keys follow from by which hosts encrypt what they send to each other.

use std::fmt;

use longshore_types::AccountId;
use serde::{Deserialize, Serialize};

use crate::table::Record;
use crate::vpc::region_account;

/// The secret that no host knows and every pair of hosts has keys from. One row, written at the first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelSecret {
    /// A data key that the root key wraps.
    pub wrapped: String,
}

/// The name of the only [`TunnelSecret`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TunnelSecretId;

impl fmt::Display for TunnelSecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("default")
    }
}

impl Record for TunnelSecret {
    type Id = TunnelSecretId;

    fn account(&self) -> AccountId {
        region_account()
    }

    fn id(&self) -> TunnelSecretId {
        TunnelSecretId
    }
}
