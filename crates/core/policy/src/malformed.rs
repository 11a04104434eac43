//! Why a document was refused: IAM's sentence for the caller, and ours that says where and what.

/// A document that is no policy of the wanted kind. It shows as IAM's sentence, whose code is
/// `MalformedPolicyDocument`; [`Malformed::explain`] says more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct Malformed {
    pub fault: Fault,
    /// Counted from 0; `None` if it is the document as a whole.
    pub statement: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("Syntax errors in policy.")]
    Syntax(Syntax),
    #[error("Policy document must be version 2012-10-17 or greater.")]
    Version(String),
    #[error("Policy statement must contain actions.")]
    NoActions,
    #[error("Policy statement must contain resources.")]
    NoResources,
    #[error("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")]
    NoVendor(String),
    #[error("Actions/Condition can contain only one colon.")]
    TwoColons(String),
    #[error("Resource {0} must be in ARN format or \"*\".")]
    NotAnArn(String),
    #[error("Partition \"{partition}\" is not valid for resource \"{resource}\".")]
    Partition { partition: String, resource: String },
    #[error("Resource vendor must be fully qualified and cannot contain regexes.")]
    ResourceVendor(String),
    #[error("The policy failed legacy parsing")]
    Legacy(String),
    #[error("Has prohibited field {0}")]
    Prohibited(&'static str),
    #[error("Missing required field {0}")]
    Missing(&'static str),
    #[error("Policy document should not specify a principal.")]
    PrincipalGiven,
    #[error("Invalid principal in policy: \"{kind}\":\"{value}\"")]
    InvalidPrincipal { kind: String, value: String },
    #[error(
        "A trust policy of the provider {0} must have a condition on {0}:sub with other values than wildcards: \
         otherwise whoever has an account there could assume the role."
    )]
    AnySubject(&'static str),
    #[error("AssumeRole policy may only specify STS AssumeRole actions.")]
    NotAssumeRole(String),
    #[error(
        "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"
    )]
    Sid(String),
    #[error("Statement IDs (SID) in a single policy must be unique.")]
    SidTwice(String),
}

/// What IAM calls a syntax error, told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Syntax {
    #[error("not JSON as a policy needs it: {0}")]
    Json(String),
    #[error("longer than {} bytes", crate::limits::DOCUMENT_BYTES_MAX)]
    TooLong,
    #[error("U+{0:04X} is not a character of policies")]
    Character(u32),
    #[error("there is no element `{0}`")]
    UnknownElement(String),
    #[error("`{0}` and `{1}` exclude each other")]
    Both(&'static str, &'static str),
    #[error("`{0}` is missing or empty")]
    Missing(&'static str),
    #[error("`{element}` must be {wanted}")]
    WrongType { element: &'static str, wanted: &'static str },
    #[error("`Effect` is `Allow` or `Deny`, not `{0}`")]
    Effect(String),
    #[error("there is no condition operator `{0}`")]
    Operator(String),
    #[error("`{operator}` cannot be asked of the value `{value}`")]
    Value { operator: String, value: String },
    #[error("`{0}` is no variable: `${{key}}` or `${{key, 'default'}}`")]
    Variable(String),
}

impl Malformed {
    /// What is wrong, in which statement, for somebody who has to mend it.
    pub fn explain(&self) -> String {
        let what = match &self.fault {
            Fault::Syntax(syntax) => syntax.to_string(),
            Fault::Version(value) => {
                format!("`Version` is 2012-10-17 or 2008-10-17, not `{value}`")
            }
            Fault::NoVendor(value) => format!("`{value}` lacks its service, as in `ecs:RunTask`"),
            Fault::TwoColons(value) => format!("`{value}` has more than one colon"),
            Fault::ResourceVendor(value) => {
                format!("the service in `{value}` must be written out")
            }
            Fault::Legacy(value) => format!("`{value}` is not a well formed ARN or version"),
            Fault::NotAssumeRole(value) => {
                format!("`{value}` is no action of assuming a role, such as `sts:AssumeRole`")
            }
            Fault::Sid(value) => format!("`{value}` has other characters than letters and digits"),
            Fault::SidTwice(value) => format!("`{value}` is the Sid of two statements"),
            fault @ (Fault::NoActions
            | Fault::NoResources
            | Fault::NotAnArn(_)
            | Fault::Partition { .. }
            | Fault::Prohibited(_)
            | Fault::Missing(_)
            | Fault::PrincipalGiven
            | Fault::AnySubject(_)
            | Fault::InvalidPrincipal { .. }) => fault.to_string(),
        };
        match self.statement {
            Some(index) => format!("statement {}: {what}", index + 1),
            None => what,
        }
    }
}

impl From<Syntax> for Fault {
    fn from(syntax: Syntax) -> Self {
        Self::Syntax(syntax)
    }
}
