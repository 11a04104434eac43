//! What IAM refuses, as data; its code, status and sentence are chosen here and nowhere else.

use aws_wire::ApiError;
use control::iam::guesses::{GUESSES_MAX, GUESSES_MS};
use longshore_types::AccountId;

use crate::limits::{THUMBPRINTS_MAX, VERSIONS_MAX};

/// The caller's mistake, or a state of the account they may ask about. Codes are those of the IAM API reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    // NoSuchEntity
    /// What is looked for by its name: a user, group, role, or an inline policy of one.
    Missing(String, String),
    MissingAlias(String),
    MissingCertificate(String),
    MissingDevice(String),
    /// A device that is not this user's.
    NotItsDevice(String, String),
    MissingKey(String),
    MissingLoginProfile(String),
    NoPasswordPolicy(AccountId),
    NoPasswordPolicyToDelete,
    MissingPolicy(String),
    MissingProfile(String),
    MissingProvider(String),
    MissingSamlProvider(String),
    /// Whose policies were to be tried out.
    MissingSource(String),
    MissingVersion(String, u32),
    NotAttachable(String),
    NotABoundary(String),
    RoleNotInProfile(String, String),
    // EntityAlreadyExists
    /// A group, user or role of this name.
    Exists(&'static str, String),
    AliasExists(String),
    LoginProfileExists(String),
    DeviceExists,
    DeviceTaken(String),
    PolicyExists(String),
    ProfileExists(String),
    ProviderExists(String),
    // DeleteConflict
    /// What has to be done before.
    MustFirst(&'static str),
    PolicyAttached,
    PolicyHasVersions,
    DefaultVersion,
    DeviceInUse,
    // LimitExceeded
    Quota(String, usize),
    /// All inline policies of a user, group or role together.
    InlineSize(usize, &'static str, String),
    Versions,
    // ValidationError
    Alias(String),
    Marker(String),
    Path,
    /// The caller has no name of its own that could be meant.
    NoUserName,
    RootKeys,
    PolicyUsage(String),
    ProviderUrl,
    ServiceRolePath,
    Thumbprint,
    VersionId(String),
    DeletionTask(String),
    // InvalidInput
    Arn(String),
    ProviderArn(String),
    ReservedTag,
    DuplicateTag,
    Thumbprints,
    CustomSuffix(String),
    NoServiceRole(String),
    ServiceRoleExists(&'static str),
    ExclusionList,
    ResourceOwner(String),
    ContextValue {
        key: String,
        kind: String,
        text: String,
    },
    Questions,
    Action(String),
    // others
    Malformed(String),
    ForeignPrincipal(String),
    ServiceRolePolicy(&'static str),
    AmazonsPolicy,
    AmazonsRole(String),
    /// Temporary keys of a user, which may not call IAM.
    TemporaryKeys,
    /// What a password lacks, or that it was used before.
    Password(String),
    /// Somebody has none to change.
    NotAUser,
    NoPassword,
    OldPassword,
    /// Codes that the device does not show.
    Codes,
    /// The user's password was changed by another request at the same time.
    Meanwhile(String),
    TooManyGuesses,
    /// More hashes are asked for than are made.
    TooManyPasswords,
}

impl Refusal {
    /// The error that the caller is answered with.
    pub(crate) fn wire(self) -> ApiError {
        let (code, status) = self.code();
        ApiError::client(code, self.sentence()).with_status(status)
    }

    fn code(&self) -> (&'static str, u16) {
        match self {
            Self::Missing(..)
            | Self::MissingAlias(_)
            | Self::MissingCertificate(_)
            | Self::MissingDevice(_)
            | Self::NotItsDevice(..)
            | Self::MissingKey(_)
            | Self::MissingLoginProfile(_)
            | Self::NoPasswordPolicy(_)
            | Self::NoPasswordPolicyToDelete
            | Self::MissingPolicy(_)
            | Self::MissingProfile(_)
            | Self::MissingProvider(_)
            | Self::MissingSamlProvider(_)
            | Self::MissingSource(_)
            | Self::MissingVersion(..)
            | Self::NotAttachable(_)
            | Self::NotABoundary(_)
            | Self::RoleNotInProfile(..) => ("NoSuchEntity", 404),
            Self::Exists(..)
            | Self::AliasExists(_)
            | Self::LoginProfileExists(_)
            | Self::DeviceExists
            | Self::DeviceTaken(_)
            | Self::PolicyExists(_)
            | Self::ProfileExists(_)
            | Self::ProviderExists(_) => ("EntityAlreadyExists", 409),
            Self::MustFirst(_)
            | Self::PolicyAttached
            | Self::PolicyHasVersions
            | Self::DefaultVersion
            | Self::DeviceInUse => ("DeleteConflict", 409),
            Self::Quota(..) | Self::InlineSize(..) | Self::Versions => ("LimitExceeded", 409),
            Self::Alias(_)
            | Self::Marker(_)
            | Self::Path
            | Self::NoUserName
            | Self::PolicyUsage(_)
            | Self::ProviderUrl
            | Self::ServiceRolePath
            | Self::Thumbprint
            | Self::VersionId(_)
            | Self::DeletionTask(_) => ("ValidationError", 400),
            Self::Arn(_)
            | Self::ProviderArn(_)
            | Self::ReservedTag
            | Self::DuplicateTag
            | Self::Thumbprints
            | Self::CustomSuffix(_)
            | Self::NoServiceRole(_)
            | Self::ServiceRoleExists(_)
            | Self::ExclusionList
            | Self::ResourceOwner(_)
            | Self::ContextValue { .. }
            | Self::Questions
            | Self::Action(_) => ("InvalidInput", 400),
            Self::Malformed(_) | Self::ForeignPrincipal(_) => ("MalformedPolicyDocument", 400),
            Self::ServiceRolePolicy(_) => ("PolicyNotAttachable", 400),
            Self::AmazonsPolicy => ("AccessDenied", 403),
            Self::AmazonsRole(_) | Self::RootKeys => ("UnmodifiableEntity", 400),
            Self::TemporaryKeys => ("InvalidClientTokenId", 403),
            Self::Password(_) => ("PasswordPolicyViolation", 400),
            Self::NotAUser => ("InvalidUserType", 400),
            Self::NoPassword => ("ValidationError", 400),
            Self::OldPassword => ("AccessDenied", 403),
            Self::Codes => ("InvalidAuthenticationCode", 403),
            Self::Meanwhile(_) => ("EntityTemporarilyUnmodifiable", 409),
            Self::TooManyGuesses | Self::TooManyPasswords => ("Throttling", 400),
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Missing(what, name) => format!("The {what} with name {name} cannot be found."),
            Self::MissingAlias(alias) => format!("The account alias {alias} cannot be found."),
            Self::MissingKey(id) => format!("The Access Key with id {id} cannot be found."),
            Self::MissingLoginProfile(user) => {
                format!("Login Profile for User {user} cannot be found.")
            }
            Self::NoPasswordPolicy(account) => {
                format!("The Password Policy with domain name {account} cannot be found.")
            }
            Self::NoPasswordPolicyToDelete => {
                "The account policy with name PasswordPolicy cannot be found.".to_owned()
            }
            Self::MissingPolicy(arn) => format!("Policy {arn} was not found."),
            Self::MissingProfile(name) => format!("Instance Profile {name} cannot be found."),
            Self::MissingProvider(arn) => {
                format!("OpenIDConnect Provider not found for arn {arn}")
            }
            Self::MissingCertificate(name) => {
                format!("The Server Certificate with name {name} cannot be found.")
            }
            Self::MissingSamlProvider(arn) => format!("Manifest not found for arn {arn}"),
            Self::MissingSource(arn) => format!("The policy source {arn} cannot be found."),
            Self::MissingVersion(arn, number) => {
                format!("Policy {arn} version v{number} does not exist or is not attachable.")
            }
            Self::NotAttachable(arn) => {
                format!("Policy {arn} does not exist or is not attachable.")
            }
            Self::NotABoundary(arn) => {
                format!("Scope ARN: {arn} does not exist or is not attachable.")
            }
            Self::RoleNotInProfile(role, profile) => {
                format!("Role {role} in Instance Profile {profile} cannot be found.")
            }
            Self::Exists(what, name) => format!("{what} with name {name} already exists."),
            Self::AliasExists(alias) => format!("The account alias {alias} already exists."),
            Self::LoginProfileExists(user) => {
                format!("Login Profile for user {user} already exists.")
            }
            Self::Password(why) => why.clone(),
            Self::NotAUser => "Only IAM Users can change their own password".to_owned(),
            Self::NoPassword => "A user's login profile needs a password.".to_owned(),
            Self::MissingDevice(serial) => {
                format!("VirtualMFADevice with serial number {serial} does not exist.")
            }
            Self::NotItsDevice(serial, user) => {
                format!("The MFA device {serial} is not one of the user {user}.")
            }
            Self::DeviceExists => {
                "MFADevice entity at the same path and name already exists.".to_owned()
            }
            Self::DeviceTaken(serial) => format!("MFA Device {serial} is already in use."),
            Self::DeviceInUse => "MFA VirtualDevice in use. Must deactivate first.".to_owned(),
            Self::Codes => "Authentication code for device is not valid.".to_owned(),
            Self::OldPassword => "The old password was incorrect.".to_owned(),
            Self::Meanwhile(user) => format!(
                "The login profile of the user {user} is being changed by another request. Try again."
            ),
            Self::TooManyGuesses => format!(
                "There were {GUESSES_MAX} wrong guesses for this user. Try again in {} minutes.",
                GUESSES_MS / 60_000
            ),
            Self::TooManyPasswords => "Too many passwords are being checked. Try again.".to_owned(),
            Self::PolicyExists(name) => {
                format!("A policy called {name} already exists. Duplicate names are not allowed.")
            }
            Self::ProfileExists(name) => format!("Instance Profile {name} already exists."),
            Self::ProviderExists(url) => format!("Provider with url {url} already exists."),
            Self::MustFirst(what) => format!("Cannot delete entity, must {what} first."),
            Self::PolicyAttached => "Cannot delete a policy attached to entities.".to_owned(),
            Self::PolicyHasVersions => {
                "This policy has more than one version. Before you delete a policy, you must delete the \
                 policy's versions. The default version is deleted with the policy."
                    .to_owned()
            }
            Self::DefaultVersion => "Cannot delete the default version of a policy.".to_owned(),
            Self::Quota(name, max) => format!("Cannot exceed quota for {name}: {max}"),
            Self::InlineSize(max, what, name) => {
                format!("Maximum policy size of {max} bytes exceeded for {what} {name}")
            }
            Self::Versions => format!(
                "A managed policy can have up to {VERSIONS_MAX} versions. Before you create a new version, \
                 you must delete an existing version."
            ),
            Self::Alias(given) => format!(
                "1 validation error detected: Value '{given}' at 'AccountAlias' failed to satisfy \
                 constraint: Member must satisfy regular expression pattern: \
                 ^[a-z0-9]([a-z0-9]|-(?!-)){{1,61}}[a-z0-9]$"
            ),
            Self::Marker(given) => format!("Invalid Marker: {given}"),
            Self::Path => "The specified value for path is invalid. It must begin and end with / and contain \
                           only alphanumeric characters and/or / characters."
                .to_owned(),
            Self::NoUserName => {
                "Must specify userName when calling with non-User credentials".to_owned()
            }
            Self::RootKeys => {
                "The root user's access key is the region's, in its keys.json: IAM makes, changes and deletes keys of users. \
                 Say whose with UserName."
                    .to_owned()
            }
            Self::PolicyUsage(given) => format!("{given} is no usage of policies"),
            Self::ProviderUrl => "Invalid Open ID Connect Provider URL".to_owned(),
            Self::ServiceRolePath => {
                "Roles with the path /aws-service-role/ are made by CreateServiceLinkedRole.".to_owned()
            }
            Self::Thumbprint => "A thumbprint has 40 hexadecimal digits.".to_owned(),
            Self::VersionId(given) => format!(
                "The policy version id {given} is not one: it is v and a number, such as v1."
            ),
            Self::DeletionTask(id) => {
                format!("{id} is no id of a deletion of a service-linked role.")
            }
            Self::Arn(arn) => format!("ARN {arn} is not valid."),
            Self::ProviderArn(arn) => format!("Invalid ARN: {arn}"),
            Self::ReservedTag => {
                "Tag keys that begin with aws: are reserved for system use.".to_owned()
            }
            Self::DuplicateTag => {
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.".to_owned()
            }
            Self::Thumbprints => {
                format!("Thumbprint list must contain at most {THUMBPRINTS_MAX} entries.")
            }
            Self::CustomSuffix(service) => format!("Custom suffix is not allowed for {service}"),
            Self::NoServiceRole(service) => {
                format!("{service} is no service of this region that has a role of its own.")
            }
            Self::ServiceRoleExists(role) => format!(
                "Service role name {role} has been taken in this account, please try a different suffix."
            ),
            Self::ExclusionList => {
                "PolicyExclusionList is not available in Longshore yet.".to_owned()
            }
            Self::ResourceOwner(given) => format!("ResourceOwner {given} is no account."),
            Self::ContextValue { key, kind, text } => {
                format!("Invalid Context: {key} is no {kind}: {text}")
            }
            Self::Questions => "There are too many actions and resources at once.".to_owned(),
            Self::Action(name) => format!("Invalid Action: {name}"),
            Self::Malformed(why) => why.clone(),
            Self::ForeignPrincipal(principal) => {
                format!("Invalid principal in policy: \"AWS\":\"{principal}\"")
            }
            Self::ServiceRolePolicy(what) => {
                format!("Cannot attach a Service Role Policy to a Customer {what}.")
            }
            Self::TemporaryKeys => {
                "The security token included in the request is invalid.".to_owned()
            }
            Self::AmazonsPolicy => "Cannot modify a policy of AWS's.".to_owned(),
            Self::AmazonsRole(role) => format!(
                "Cannot perform the operation on the protected role '{role}' - this role is only modifiable \
                 by AWS"
            ),
        }
    }
}

pub(crate) fn quota(name: impl Into<String>, max: usize) -> ApiError {
    Refusal::Quota(name.into(), max).wire()
}

pub(crate) fn malformed(why: &policy::Malformed) -> ApiError {
    Refusal::Malformed(why.to_string()).wire()
}
