//! The configuration of all balancers of a region as one value with a version, and how one follows another.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::balancer::{Balancer, Interface, InterfaceRef};
use crate::group::TargetGroup;
use crate::ids::{BalancerId, CertificateId, EndpointId, GroupId};

/// All that balancers of a region must know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Raised by the region whenever anything else in here changes, and never lowered, not even by a restart.
    pub version: u64,
    #[serde(default)]
    pub balancers: BTreeMap<BalancerId, Balancer>,
    /// Groups that a listener uses, or that have targets which drain.
    #[serde(default)]
    pub groups: BTreeMap<GroupId, TargetGroup>,
    #[serde(default)]
    pub certificates: BTreeMap<CertificateId, Certificate>,
    /// VPC endpoints by interfaces.
    #[serde(default)]
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
    /// Interfaces, those of tasks, in whose networks whatever goes to certain addresses is led to one socket and taken for
    /// where it was going: see [`crate::egress_listener`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub egress: BTreeSet<InterfaceRef>,
    /// Ports of the machine that tasks on it publish: nothing is listened at there at the machine's own address.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub published: BTreeSet<PublishedPort>,
}

/// A port of a machine's own addresses that is a task's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    pub is_datagram: bool,
    pub port: u16,
}

/// A VPC endpoint: what comes to its interfaces is passed on to the region, which is told by which endpoint it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub account: String,
    pub interfaces: Vec<Interface>,
}

/// A certificate with its key. It never leaves the machine but over the authenticated read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The certificate and those that lead to its root, in PEM.
    pub chain_pem: String,
    /// Its private key in PEM (PKCS #8, PKCS #1 or SEC1).
    pub key_pem: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate(…)")
    }
}

/// What the region answers to a balancer that says which version it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Update {
    /// Nothing changed within the time that the balancer was willing to wait.
    Unchanged,
    /// What changed since the version that the balancer has.
    Change(Change),
    /// Everything: to a balancer that has nothing, or whose version the region no longer remembers.
    Whole(Table),
}

/// How a later table differs from an earlier one: whole values by key, and keys that are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub from: u64,
    pub to: u64,
    #[serde(default)]
    pub balancers: BTreeMap<BalancerId, Option<Balancer>>,
    #[serde(default)]
    pub groups: BTreeMap<GroupId, Option<TargetGroup>>,
    #[serde(default)]
    pub certificates: BTreeMap<CertificateId, Option<Certificate>>,
    #[serde(default)]
    pub endpoints: BTreeMap<EndpointId, Option<Endpoint>>,
    /// All there are.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub egress: BTreeSet<InterfaceRef>,
    /// All there are.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub published: BTreeSet<PublishedPort>,
}

impl Change {
    /// What makes `later` of `earlier`.
    pub fn between(earlier: &Table, later: &Table) -> Self {
        Self {
            from: earlier.version,
            to: later.version,
            balancers: differences(&earlier.balancers, &later.balancers),
            groups: differences(&earlier.groups, &later.groups),
            certificates: differences(&earlier.certificates, &later.certificates),
            endpoints: differences(&earlier.endpoints, &later.endpoints),
            egress: later.egress.clone(),
            published: later.published.clone(),
        }
    }
}

impl Table {
    /// The table after an update; `None` if the update is a change of another version than this one: ask for the whole.
    pub fn updated(&self, update: Update) -> Option<Self> {
        match update {
            Update::Unchanged => Some(self.clone()),
            Update::Whole(table) => Some(table),
            Update::Change(change) if change.from != self.version => None,
            Update::Change(change) => {
                let mut next = self.clone();
                next.version = change.to;
                put(&mut next.balancers, change.balancers);
                put(&mut next.groups, change.groups);
                put(&mut next.certificates, change.certificates);
                put(&mut next.endpoints, change.endpoints);
                next.egress = change.egress;
                next.published = change.published;
                Some(next)
            }
        }
    }
}

fn differences<K: Ord + Clone, V: PartialEq + Clone>(
    earlier: &BTreeMap<K, V>,
    later: &BTreeMap<K, V>,
) -> BTreeMap<K, Option<V>> {
    let gone = earlier.keys().filter(|key| !later.contains_key(key)).map(|key| (key.clone(), None));
    let changed = later.iter().filter(|(key, value)| earlier.get(key) != Some(value));
    gone.chain(changed.map(|(key, value)| (key.clone(), Some(value.clone())))).collect()
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, changes: BTreeMap<K, Option<V>>) {
    for (key, value) in changes {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}
