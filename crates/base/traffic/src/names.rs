//! Names that a host answers to the tasks on it, of private namespaces and of load balancers: by account, and in VPCs with
//! addresses of their own by VPC.

use std::net::{Ipv4Addr, Ipv6Addr};

use longshore_types::{AccountId, VpcId};
use serde::{Deserialize, Serialize};

/// Whose names the one sees that asks from an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asker {
    pub address: Ipv4Addr,
    pub account: AccountId,
}

/// A namespace, with one of its services or, said once, with none. A load balancer's name, or an endpoint's, is a namespace with
/// one service that has no name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameEntry {
    pub account: AccountId,
    /// In which VPC with addresses of its own it is asked for; none: in the default VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc: Option<VpcId>,
    /// `prod.internal`
    pub zone: String,
    /// How long it may be remembered that a name is not there.
    pub negative_ttl_s: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<NamedService>,
}

/// A service, whose name stands before the namespace's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedService {
    pub name: String,
    /// One instance is answered at a time rather than up to eight.
    #[serde(default)]
    pub is_weighted: bool,
    /// Whether all names below its own are its too, but for those that others have.
    #[serde(default)]
    pub has_all_below: bool,
    /// Times to live in seconds of the kinds of records that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a_ttl_s: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aaaa_ttl_s: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srv_ttl_s: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cname_ttl_s: Option<u32>,
    pub instances: Vec<NamedInstance>,
}

/// An instance of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedInstance {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The name that its service's name leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cname: Option<String>,
    pub is_healthy: bool,
}

/// What a host is told of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostNames {
    /// The account of whoever asks and is no task with an address of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_account: Option<AccountId>,
    /// Accounts whose entries are all of theirs, in place of those that they had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountId>,
    /// The same of VPCs with addresses of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vpcs: Vec<VpcId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<NameEntry>,
    /// Besides those that were told before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub askers: Vec<Asker>,
}

impl HostNames {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Goes on with what a later message says, which is part of the same.
    pub fn extend(&mut self, next: Self) {
        self.own_account = next.own_account.or(self.own_account);
        self.accounts.extend(next.accounts);
        self.vpcs.extend(next.vpcs);
        self.entries.extend(next.entries);
        self.askers.extend(next.askers);
    }
}
