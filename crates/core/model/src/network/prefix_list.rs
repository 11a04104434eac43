//! Prefix lists: blocks of addresses under one id, which rules of security groups and routes name.

use std::fmt;

use longshore_types::{AccountId, Cidr, PrefixListId};
use serde::{Deserialize, Serialize};

use super::AclNetwork;
use crate::table::Record;

/// Blocks of addresses that an account keeps together. Whoever names the list has all that it says now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixList {
    pub account: AccountId,
    pub id: PrefixListId,
    pub name: String,
    /// Of which all entries are.
    pub family: AddressFamily,
    /// As many rules and routes a list counts for where it is named, however few entries it has.
    pub max_entries: u32,
    /// One more with every change of the entries.
    pub version: u64,
    /// Whether it was changed in any way since it was made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_modified: bool,
    /// In the order in which they came.
    pub entries: Vec<PrefixEntry>,
    /// Whether the entries of now were those of an earlier version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_restored: bool,
    /// Versions of before, the oldest first: as many as are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierEntries>,
}

/// What a list had in a version of before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EarlierEntries {
    pub version: u64,
    pub entries: Vec<PrefixEntry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AddressFamily {
    Ipv4,
    Ipv6,
}

impl fmt::Display for AddressFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// One block of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixEntry {
    pub network: AclNetwork,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl PrefixList {
    /// The blocks that packets can have addresses of.
    pub fn blocks(&self) -> impl Iterator<Item = Cidr> {
        self.entries.iter().filter_map(|entry| match entry.network {
            AclNetwork::Ipv4(block) => Some(block),
            AclNetwork::Ipv6(_) => None,
        })
    }
}

impl Record for PrefixList {
    type Id = PrefixListId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> PrefixListId {
        self.id.clone()
    }
}
