//! Resource policies of CloudWatch Logs that are for an account's groups all together. One of a single group is kept with the
//! group.

use std::sync::Arc;

use longshore_types::{AccountId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::resource_policy::ResourceText;
use crate::table::Record;

/// Which services may write to an account's log groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogPolicy {
    pub account: AccountId,
    pub name: Arc<str>,
    pub policy: ResourceText,
    pub updated_at: Timestamp,
}

impl Record for LogPolicy {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}
