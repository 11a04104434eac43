//! Flow logs: that what goes by some interfaces is written down, and where.

use std::fmt;
use std::sync::Arc;

use longshore_types::{AccountId, EniId, FlowLogId, SubnetId, Timestamp, VpcId};
use serde::{Deserialize, Serialize};

use crate::rows::{Key, View};
use crate::table::Record;
use crate::view::Index;
use crate::vpc::Interface;

/// A flow log to CloudWatch Logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowLog {
    pub account: AccountId,
    pub id: FlowLogId,
    pub of: FlowLogOf,
    pub traffic: LoggedTraffic,
    /// The log group, by name.
    pub group: String,
    /// The role that records are written in, by its ARN.
    pub role: String,
    /// As it was asked for; records come sooner.
    pub interval_s: u32,
    /// None: AWS's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    pub created_at: Timestamp,
    /// Why the last records could not be written. Whoever writes them says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Whose interfaces are logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FlowLogOf {
    Vpc(VpcId),
    Subnet(SubnetId),
    Interface(EniId),
}

impl fmt::Display for FlowLogOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vpc(id) => id.fmt(f),
            Self::Subnet(id) => id.fmt(f),
            Self::Interface(id) => id.fmt(f),
        }
    }
}

/// Which packets are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LoggedTraffic {
    Accept,
    Reject,
    All,
}

impl LoggedTraffic {
    /// As names of streams end: `eni-0123456789abcdef0-all`.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::All => "all",
        }
    }
}

/// The format of AWS, of version 2.
pub const DEFAULT_FLOW_FORMAT: &str = "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} \
     ${dstport} ${protocol} ${packets} ${bytes} ${start} ${end} ${action} ${log-status}";

/// The fields that are known, each with the version of AWS's that has it first.
const FIELDS: &[(&str, u8)] = &[
    ("version", 2),
    ("account-id", 2),
    ("interface-id", 2),
    ("srcaddr", 2),
    ("dstaddr", 2),
    ("srcport", 2),
    ("dstport", 2),
    ("protocol", 2),
    ("packets", 2),
    ("bytes", 2),
    ("start", 2),
    ("end", 2),
    ("action", 2),
    ("log-status", 2),
    ("vpc-id", 3),
    ("subnet-id", 3),
    ("instance-id", 3),
    ("type", 3),
    ("region", 4),
    ("az-id", 4),
    ("flow-direction", 5),
    ("ecs-cluster-name", 7),
    ("ecs-cluster-arn", 7),
    ("ecs-task-id", 7),
    ("ecs-task-arn", 7),
];

/// A format holds something else than fields that are known: it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField(pub String);

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no field of flow logs in this region", self.0)
    }
}

impl std::error::Error for UnknownField {}

/// The fields of a format, in order.
pub fn flow_fields(format: &str) -> Result<Vec<&'static str>, UnknownField> {
    let words = format.split_whitespace().map(|word| {
        let name = word.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let found = FIELDS.iter().find(|(known, _)| Some(*known) == name);
        found.map(|(known, _)| *known).ok_or_else(|| UnknownField(word.to_owned()))
    });
    words.collect()
}

/// The version that records with these fields are of.
pub fn flow_version(fields: &[&str]) -> u8 {
    let known = FIELDS.iter().filter(|(name, _)| fields.contains(name));
    known.map(|(_, version)| *version).max().unwrap_or(2)
}

impl FlowLog {
    pub fn format(&self) -> &str {
        self.format.as_deref().unwrap_or(DEFAULT_FLOW_FORMAT)
    }
}

impl Record for FlowLog {
    type Id = FlowLogId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> FlowLogId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        vec![Index::FlowLogs(self.account, self.of.to_string().into())]
    }
}

impl View {
    /// The flow logs of a VPC, a subnet or an interface by its id.
    pub fn flow_logs_of(
        &self,
        account: AccountId,
        id: &str,
    ) -> impl Iterator<Item = &Arc<FlowLog>> {
        let members = self.members(&Index::FlowLogs(account, id.into()));
        members.filter_map(|key| {
            let Key::FlowLog(account, id) = key else { return None };
            self.flow_logs.get(*account, id)
        })
    }

    /// All flow logs that an interface is in.
    pub fn flow_logs_on<'v>(
        &'v self,
        row: &Interface,
    ) -> impl Iterator<Item = &'v Arc<FlowLog>> + use<'v> {
        let account = row.owner.account;
        // Most accounts have none.
        let is_any = self.flow_logs.of(account).next().is_some();
        let ids = || [row.vpc.to_string(), row.subnet.to_string(), row.eni.to_string()];
        let ids = is_any.then(ids);
        ids.into_iter()
            .flatten()
            .flat_map(move |id| self.flow_logs_of(account, &id).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_of_fields_that_are_known() {
        let fields = flow_fields(DEFAULT_FLOW_FORMAT).unwrap();
        assert_eq!((fields.len(), flow_version(&fields)), (14, 2));
        let more = flow_fields("${srcaddr}  ${flow-direction} ${vpc-id}").unwrap();
        assert_eq!(
            (more.as_slice(), flow_version(&more)),
            (&["srcaddr", "flow-direction", "vpc-id"][..], 5)
        );
        for broken in ["${traffic-path}", "srcaddr", "${srcaddr", "${srcaddr},${dstaddr}"] {
            assert!(flow_fields(broken).is_err(), "{broken}");
        }
    }
}
