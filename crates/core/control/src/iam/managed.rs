//! The managed policies that Amazon offers and users of ECS attach: their names, versions and documents.
//!
//! `managed.jsonl` has one a line. Of those that read everything, `ReadOnlyAccess`, `ViewOnlyAccess` and
//! `SecurityAudit`, it has the actions of services that may be here.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};

use policy::{Policy, PolicyKind};
use serde::Deserialize;
use serde_json::value::RawValue;

const LIST: &str = include_str!("managed.jsonl");

/// A managed policy of Amazon's.
#[derive(Debug, Deserialize)]
pub struct ManagedPolicy {
    pub name: String,
    pub path: String,
    pub version: u32,
    /// `2017-11-16T18:48:22Z`, both.
    pub created: String,
    pub updated: String,
    document: Box<RawValue>,
    #[serde(skip)]
    compiled: OnceLock<Arc<Policy>>,
}

impl ManagedPolicy {
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::aws:policy{}{}", self.path, self.name)
    }

    pub fn document(&self) -> &str {
        self.document.get()
    }

    pub fn policy(&self) -> &Arc<Policy> {
        self.compiled.get_or_init(|| {
            let read = Policy::parse(self.document(), PolicyKind::Identity);
            Arc::new(read.expect("a test reads every document of the list"))
        })
    }
}

/// Read when somebody first asks: most regions never do.
static POLICIES: LazyLock<BTreeMap<String, ManagedPolicy>> = LazyLock::new(|| {
    let read = |line: &str| -> ManagedPolicy {
        serde_json::from_str(line).expect("a test reads every line of the list")
    };
    LIST.lines().map(read).map(|each| (each.arn(), each)).collect()
});

/// The one with this ARN.
pub fn find(arn: &str) -> Option<&'static ManagedPolicy> {
    arn.starts_with("arn:aws:iam::aws:policy/").then(|| POLICIES.get(arn)).flatten()
}

/// All, by ARN.
pub fn all() -> impl Iterator<Item = &'static ManagedPolicy> {
    POLICIES.values()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_managed_policy_is_one_and_begins_in_the_past() {
        for each in all() {
            let statements = each.policy().statements().len();
            assert!(0 < statements, "{}", each.name);
            assert_eq!(each.created.len(), "2017-11-16T18:48:22Z".len(), "{}", each.name);
        }
        let execution = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy";
        assert!(find(execution).is_some_and(|it| it.document().contains("ecr:BatchGetImage")));
        assert!(find("arn:aws:iam::aws:policy/AmazonECSTaskExecutionRolePolicy").is_none());
        for name in [
            "AWSCertificateManagerFullAccess",
            "AmazonDynamoDBFullAccess",
            "AmazonEC2FullAccess",
            "AmazonEC2ReadOnlyAccess",
            "AmazonVPCFullAccess",
            "AutoScalingFullAccess",
            "CloudWatchEventsFullAccess",
            "CloudWatchFullAccess",
            "IAMUserChangePassword",
            "ReadOnlyAccess",
            "SecurityAudit",
            "service-role/AWSLambdaBasicExecutionRole",
        ] {
            assert!(find(&format!("arn:aws:iam::aws:policy/{name}")).is_some(), "{name}");
        }
    }
}
