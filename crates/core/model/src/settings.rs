//! Account settings: what an account, or one principal of it, chose instead of a default.

use std::fmt;

use longshore_types::AccountId;
use serde::{Deserialize, Serialize};

use crate::table::Record;

/// Whom a setting is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SettingPrincipal {
    /// Everyone in the account who has no own value.
    Default,
    /// One principal, by ARN.
    Own(String),
}

/// A setting's name and whom it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SettingId {
    pub principal: SettingPrincipal,
    pub name: String,
}

impl fmt::Display for SettingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.principal {
            SettingPrincipal::Default => write!(f, "default/{}", self.name),
            SettingPrincipal::Own(arn) => write!(f, "{arn}/{}", self.name),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountSetting {
    pub account: AccountId,
    pub setting: SettingId,
    pub value: String,
}

impl Record for AccountSetting {
    type Id = SettingId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> SettingId {
        self.setting.clone()
    }
}
