//! Names of what a table holds. Each is the ARN of the thing as the region's API shows it; to a balancer it is a
//! name and nothing more, so it is taken as it comes.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A balancer's ARN.
    BalancerId
);
name!(
    /// A listener's ARN.
    ListenerId
);
name!(
    /// A rule's ARN; the default rule of a listener has one too.
    RuleId
);
name!(
    /// A target group's ARN.
    GroupId
);
name!(
    /// A certificate's ARN.
    CertificateId
);

name!(
    /// A VPC endpoint's id: `vpce-…`.
    EndpointId
);

/// A target within its group: the same address on two ports is two targets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetKey {
    /// What it was registered as: an address, or the id of an instance.
    pub id: String,
    pub port: u16,
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.port)
    }
}
