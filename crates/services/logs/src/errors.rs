//! What CloudWatch Logs refuses before its store is asked, as data; its code and sentence are chosen here and nowhere
//! else. What the store refuses is said by `common::to_api`.

use aws_wire::ApiError;

/// A parameter that breaks a rule. All of them are InvalidParameterException.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Missing(&'static str),
    /// What a member must be.
    Wrong {
        member: &'static str,
        rule: String,
    },
    BothNames,
    NoName,
    NotAGroup(String),
    NotAClass(String),
    Negative(&'static str),
    /// A member that nothing here would act on.
    Unavailable(&'static str),
    /// A key is named by its ARN alone.
    NotAKey(String),
    /// What its key keeps a group from having.
    Key(String),
    PrefixAndPattern,
    Token,
    NotAnOrder(String),
    OrderedByTimeWithPrefix,
    StreamsAndPrefix,
    LatestFirst,
    /// A tag's key that begins as Amazon's own do.
    ReservedTag(String),
    /// A resource policy that is none; the sentence says why.
    Document(String),
    /// Policies of an account have no revisions.
    RevisionOfAccount,
    /// The policies of an account were asked for, and those of a group.
    AccountOfGroup,
    NotAScope(String),
    /// A filter pattern that is none; the sentence says why.
    Pattern(String),
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = match refusal {
            Refusal::Missing(member) => format!("{member} is required."),
            Refusal::Wrong { member, rule } => format!("The value of {member} must be {rule}."),
            Refusal::BothNames => {
                "You must include either logGroupIdentifier or logGroupName, but not both."
                    .to_owned()
            }
            Refusal::NoName => {
                "You must include either logGroupIdentifier or logGroupName.".to_owned()
            }
            Refusal::NotAGroup(text) => format!("'{text}' is not the ARN of a log group."),
            Refusal::NotAClass(text) => format!("'{text}' is not a log group class."),
            Refusal::Negative(member) => format!("{member} must not be negative."),
            Refusal::Unavailable(what) => format!("{what} is not available in Longshore."),
            Refusal::NotAKey(text) => format!("'{text}' is not the ARN of a KMS key."),
            Refusal::Key(why) => why,
            Refusal::PrefixAndPattern => {
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."
                    .to_owned()
            }
            Refusal::Token => "The specified nextToken is invalid.".to_owned(),
            Refusal::NotAnOrder(text) => format!("'{text}' is not a value of orderBy."),
            Refusal::OrderedByTimeWithPrefix => {
                "Cannot order by LastEventTime with a logStreamNamePrefix.".to_owned()
            }
            Refusal::StreamsAndPrefix => {
                "LogStreamNames and LogStreamNamePrefix are mutually exclusive parameters."
                    .to_owned()
            }
            Refusal::LatestFirst => "startFromHead can be false only with a startTime on or after \
                                     January 1, 2024 00:00:00 UTC."
                .to_owned(),
            Refusal::ReservedTag(key) => {
                format!("The tag key '{key}' is reserved: keys may not begin with 'aws:'.")
            }
            Refusal::Document(why) => format!("The policy document is not valid: {why}"),
            Refusal::RevisionOfAccount => {
                "expectedRevisionId is for policies of a log group: give its resourceArn too, or leave it out."
                    .to_owned()
            }
            Refusal::AccountOfGroup => {
                "A log group's own policy has the policyScope RESOURCE: leave out resourceArn, or policyScope."
                    .to_owned()
            }
            Refusal::NotAScope(text) => format!("'{text}' is not a value of policyScope."),
            Refusal::Pattern(why) => why,
        };
        Self::client("InvalidParameterException", message)
    }
}
