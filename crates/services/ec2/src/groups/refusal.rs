//! What is refused of security groups and their rules.

use crate::errors::Refusal;

/// The caller's mistake about a group or a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupRefusal {
    NameMissing {
        name: String,
        vpc: String,
    },
    NameTaken {
        name: String,
        vpc: String,
    },
    ReservedName(String),
    TooMany,
    DefaultStays(String),
    /// A group stays while these are there.
    InUse {
        id: String,
        by: Vec<String>,
    },
    /// A rule without anybody on its other side.
    NoSource,
    Cidr(String),
    /// A rule, in words, that is there already.
    RuleThere(String),
    RuleMissing,
    TooManyRules,
}

impl From<GroupRefusal> for Refusal {
    fn from(refusal: GroupRefusal) -> Self {
        Self::Group(refusal)
    }
}

impl From<GroupRefusal> for aws_wire::ApiError {
    fn from(refusal: GroupRefusal) -> Self {
        Refusal::Group(refusal).into()
    }
}

impl GroupRefusal {
    /// EC2's code and sentence.
    pub(crate) fn worded(&self) -> (&'static str, String) {
        match self {
            Self::NameMissing { name, vpc } => (
                "InvalidGroup.NotFound",
                format!("The security group '{name}' does not exist in VPC '{vpc}'"),
            ),
            Self::NameTaken { name, vpc } => (
                "InvalidGroup.Duplicate",
                format!("The security group '{name}' already exists for VPC '{vpc}'"),
            ),
            Self::ReservedName(name) => (
                "InvalidGroup.Reserved",
                format!("The security group '{name}' is reserved: every VPC has it"),
            ),
            Self::TooMany => (
                "SecurityGroupLimitExceeded",
                "The maximum number of security groups has been reached.".to_owned(),
            ),
            Self::DefaultStays(id) => (
                "CannotDelete",
                format!(
                    "the specified group: \"{id}\" name: \"default\" cannot be deleted by a user"
                ),
            ),
            Self::InUse { id, by } => {
                const NAMED_MAX: usize = 10;
                let more = by.len().saturating_sub(NAMED_MAX);
                let more = if more > 0 { format!(", and {more} more") } else { String::new() };
                let by = by[..by.len().min(NAMED_MAX)].join(", ");
                (
                    "DependencyViolation",
                    format!("resource {id} has a dependent object ({by}{more})"),
                )
            }
            Self::NoSource => (
                "MissingParameter",
                "Missing source specification: include source security group or CIDR information"
                    .to_owned(),
            ),
            Self::Cidr(text) => {
                ("InvalidParameterValue", format!("CIDR block {text} is malformed"))
            }
            Self::RuleThere(rule) => (
                "InvalidPermission.Duplicate",
                format!("the specified rule \"{rule}\" already exists"),
            ),
            Self::RuleMissing => (
                "InvalidPermission.NotFound",
                "The specified rule does not exist in this security group.".to_owned(),
            ),
            Self::TooManyRules => (
                "RulesPerSecurityGroupLimitExceeded",
                "The maximum number of rules per security group has been reached.".to_owned(),
            ),
        }
    }
}
