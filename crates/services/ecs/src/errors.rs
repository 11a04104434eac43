//! What ECS refuses, as data; its code and sentence are chosen here and nowhere else.
//!
//! People and tools match on these texts: most are Amazon's own, see `docs/limits.md` for the rest.

use aws_wire::ApiError;

/// The caller's mistake, or a state of the world they may ask about: safe to show in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    ClusterNotFound,
    ClusterHasTasks,
    ClusterHasInstances,
    ClusterHasServices,
    ClusterLimit {
        max: usize,
    },
    /// A cluster's identifier names another account or region.
    ForeignIdentifier {
        what: &'static str,
        theirs: String,
        ours: String,
    },
    BadIdentifier {
        given: String,
    },
    NoSuchTaskDefinition,
    NamespaceNotFound,
    ServiceNotFound,
    ServiceNotActive,
    ServiceDeploymentNotFound,
    RevisionLimit {
        max: u32,
    },
    TargetNotFound {
        target: String,
    },
    AttributeLimit,
    ResourceNotFound {
        arn: String,
    },
    ProviderNotAssociated,
    ProviderInUse,
    /// A parameter that breaks a rule; the sentence says which.
    InvalidParameter(String),
    /// A request that makes no sense as a whole; the sentence says why.
    Client(String),
    /// Something that Amazon has and this region does not; the sentence names it.
    Unsupported(String),
    /// What is there now does not allow it; the sentence says why.
    Conflict(String),
}

impl Refusal {
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidParameter(message.into())
    }

    pub fn client(message: impl Into<String>) -> Self {
        Self::Client(message.into())
    }

    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::Unsupported(message.into())
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict(message.into())
    }
}

impl From<Refusal> for ApiError {
    /// The one place where a refusal becomes a code. No wildcard: a new variant must choose.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::ClusterNotFound => {
                Self::client("ClusterNotFoundException", "Cluster not found.")
            }
            Refusal::ClusterHasTasks => Self::client(
                "ClusterContainsTasksException",
                "The Cluster cannot be deleted while Tasks are active.",
            ),
            Refusal::ClusterHasInstances => Self::client(
                "ClusterContainsContainerInstancesException",
                "The Cluster cannot be deleted while Container Instances are active or draining.",
            ),
            Refusal::ClusterHasServices => Self::client(
                "ClusterContainsServicesException",
                "The Cluster cannot be deleted while Services are active.",
            ),
            Refusal::ClusterLimit { max } => Self::client(
                "LimitExceededException",
                format!("The limit of {max} clusters for this account has been reached."),
            ),
            Refusal::ForeignIdentifier { what, theirs, ours } => Self::client(
                "InvalidParameterException",
                format!(
                    "Invalid identifier: Identifier is for {what} {theirs}. Your {what} is {ours}"
                ),
            ),
            Refusal::BadIdentifier { given } => {
                Self::client("InvalidParameterException", format!("Invalid identifier: {given}"))
            }
            Refusal::NoSuchTaskDefinition => {
                Self::client("ClientException", "Unable to describe task definition.")
            }
            Refusal::NamespaceNotFound => {
                Self::client("NamespaceNotFoundException", "The specified namespace wasn't found.")
            }
            Refusal::ServiceNotFound => {
                Self::client("ServiceNotFoundException", "Service not found.")
            }
            Refusal::ServiceNotActive => {
                Self::client("ServiceNotActiveException", "Service was not ACTIVE.")
            }
            Refusal::ServiceDeploymentNotFound => {
                Self::client("ServiceDeploymentNotFoundException", "Service deployment not found.")
            }
            Refusal::RevisionLimit { max } => Self::client(
                "LimitExceededException",
                format!(
                    "The limit of {max} revisions for this task definition family has been reached."
                ),
            ),
            Refusal::TargetNotFound { target } => Self::client(
                "TargetNotFoundException",
                format!("The specified target was not found: {target}"),
            ),
            Refusal::AttributeLimit => Self::client(
                "AttributeLimitExceededException",
                "A resource can have at most 10 custom attributes.",
            ),
            Refusal::ResourceNotFound { arn } => Self::client(
                "ResourceNotFoundException",
                format!("The specified resource was not found: {arn}"),
            ),
            Refusal::ProviderNotAssociated => Self::client(
                "InvalidParameterException",
                "The specified capacity provider strategy cannot contain a capacity provider \
                 that is not associated with the cluster. Associate the capacity provider with the \
                 cluster or specify a valid capacity provider and try again.",
            ),
            Refusal::ProviderInUse => Self::client(
                "ResourceInUseException",
                "The specified capacity provider is in use and cannot be removed.",
            ),
            Refusal::InvalidParameter(message) => {
                Self::client("InvalidParameterException", message)
            }
            Refusal::Client(message) => Self::client("ClientException", message),
            Refusal::Unsupported(message) => Self::client("UnsupportedFeatureException", message),
            Refusal::Conflict(message) => Self::client("ConflictException", message),
        }
    }
}
