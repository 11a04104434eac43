//! What ELB refuses, as data; its code and sentence are chosen here and nowhere else.

use aws_wire::ApiError;

/// The caller's mistake, or a state of the account they may ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not modelled, and the commonest of all: `ValidationError`.
    Invalid(String),
    /// `InvalidConfigurationRequest`: well formed, but not to be had with what is there.
    Configuration(String),
    /// Something that this region does not do: said by its name.
    Unsupported(String),
    NoBalancer(String),
    NoBalancers,
    NoListener(String),
    NoListeners,
    NoRule,
    NoRules,
    NoGroup(String),
    NoGroups,
    NoCertificate(String),
    NoSslPolicy(String),
    NoAlpnPolicy(String),
    NoSubnet(String),
    NoSecurityGroup(String),
    BalancerDiffers(String),
    GroupDiffers(String),
    ListenerExists(String),
    PriorityInUse,
    GroupInUse(String),
    /// As a target.
    BalancerInUse(String),
    /// A listener's, by a target that is its balancer.
    PortInUse(u16, String),
    /// By another balancer.
    GroupTaken(String),
    Protected(String),
    DefaultRule,
    DefaultCertificate,
    Target(String),
    Action(String),
    DuplicateTag(String),
    /// Kind such as `Targets`, and how many there may be.
    TooMany(&'static str, usize),
}

pub(crate) fn invalid<T>(message: impl Into<String>) -> Result<T, ApiError> {
    Err(Refusal::Invalid(message.into()).into())
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        ApiError::client(refusal.code(), refusal.sentence())
    }
}

impl Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "ValidationError",
            Self::Configuration(_) | Self::Unsupported(_) => "InvalidConfigurationRequest",
            Self::NoBalancer(_) | Self::NoBalancers => "LoadBalancerNotFound",
            Self::NoListener(_) | Self::NoListeners => "ListenerNotFound",
            Self::NoRule | Self::NoRules => "RuleNotFound",
            Self::NoGroup(_) | Self::NoGroups => "TargetGroupNotFound",
            Self::NoCertificate(_) => "CertificateNotFound",
            Self::NoSslPolicy(_) => "SSLPolicyNotFound",
            Self::NoAlpnPolicy(_) => "ALPNPolicyNotFound",
            Self::NoSubnet(_) => "SubnetNotFound",
            Self::NoSecurityGroup(_) => "InvalidSecurityGroup",
            Self::BalancerDiffers(_) => "DuplicateLoadBalancerName",
            Self::GroupDiffers(_) => "DuplicateTargetGroupName",
            Self::ListenerExists(_) => "DuplicateListener",
            Self::PriorityInUse => "PriorityInUse",
            Self::GroupInUse(_) | Self::BalancerInUse(_) | Self::PortInUse(..) => "ResourceInUse",
            Self::GroupTaken(_) => "TargetGroupAssociationLimit",
            Self::Protected(_) | Self::DefaultRule | Self::DefaultCertificate => {
                "OperationNotPermitted"
            }
            Self::Target(_) => "InvalidTarget",
            Self::Action(_) => "InvalidLoadBalancerAction",
            Self::DuplicateTag(_) => "DuplicateTagKeys",
            Self::TooMany(what, _) => match *what {
                "Certificates" => "TooManyCertificates",
                "Actions" => "TooManyActions",
                "Listeners" => "TooManyListeners",
                "LoadBalancers" => "TooManyLoadBalancers",
                "Rules" => "TooManyRules",
                "Tags" => "TooManyTags",
                "TargetGroups" => "TooManyTargetGroups",
                "RegistrationsForTargetId" => "TooManyRegistrationsForTargetId",
                _ => "TooManyTargets",
            },
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Invalid(message)
            | Self::Configuration(message)
            | Self::Unsupported(message)
            | Self::Target(message)
            | Self::Action(message) => message.clone(),
            Self::NoBalancer(arn) => format!("Load balancer '{arn}' not found"),
            Self::NoBalancers => "One or more load balancers not found".to_owned(),
            Self::NoListener(arn) => format!("Listener '{arn}' not found"),
            Self::NoListeners => "One or more listeners not found".to_owned(),
            Self::NoRule => "The specified rule does not exist.".to_owned(),
            Self::NoRules => "One or more rules not found".to_owned(),
            Self::NoGroup(arn) => format!("Target group '{arn}' not found"),
            Self::NoGroups => "One or more target groups not found".to_owned(),
            Self::NoCertificate(arn) => format!("Certificate '{arn}' not found"),
            Self::NoAlpnPolicy(name) => format!("ALPN policy '{name}' not found"),
            Self::NoSslPolicy(name) => format!("SSL policy '{name}' not found"),
            Self::NoSubnet(id) => format!("The subnet ID '{id}' does not exist"),
            Self::NoSecurityGroup(id) => format!("The security group ID '{id}' does not exist"),
            Self::BalancerDiffers(name) => format!(
                "A load balancer with the same name '{name}' exists, but with different settings"
            ),
            Self::GroupDiffers(name) => format!(
                "A target group with the same name '{name}' exists, but with different settings"
            ),
            Self::ListenerExists(arn) => {
                format!("A listener already exists on this port for this load balancer '{arn}'")
            }
            Self::PriorityInUse => "The specified priority is in use.".to_owned(),
            Self::GroupInUse(arn) => {
                format!("Target group '{arn}' is currently in use by a listener or a rule")
            }
            Self::BalancerInUse(arn) => format!(
                "Load balancer '{arn}' cannot be deleted because it is currently associated with another service"
            ),
            Self::PortInUse(port, arn) => format!(
                "Listener port '{port}' is in use by registered target '{arn}' and cannot be removed"
            ),
            Self::GroupTaken(arn) => format!(
                "The following target groups cannot be associated with more than one load balancer: {arn}"
            ),
            Self::Protected(arn) => format!(
                "Load balancer '{arn}' cannot be deleted because deletion protection is enabled"
            ),
            Self::DefaultCertificate => {
                "The default certificate of a listener cannot be removed".to_owned()
            }
            Self::DefaultRule => "Default rules cannot be deleted".to_owned(),
            Self::DuplicateTag(key) => format!("Tag keys must be unique: '{key}' is given twice"),
            Self::TooMany(what, max) => format!("The maximum number of {what} is {max}"),
        }
    }
}
