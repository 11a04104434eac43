//! What EC2 refuses, as data; its code and sentence are chosen here and nowhere else.

use aws_wire::ApiError;

use crate::filter::{PAGE_MAX, PAGE_MIN};

/// The caller's mistake. Codes are those of the EC2 API reference's list of client errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no thing of this kind with this id in the caller's account.
    Missing(Kind, String),
    UnknownFilter(String),
    /// A number of results per page, beside a list of ids.
    PagesOfIds,
    PageSize(i32),
    NextToken,
    /// An attribute of a VPC that there is not.
    Attribute(String),
}

/// What an id or a name is looked up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Vpc,
    Subnet,
    SecurityGroup,
    NetworkInterface,
    RouteTable,
    InternetGateway,
    VpnGateway,
    AvailabilityZone,
    Region,
}

impl Kind {
    /// Its error code, and what comes before the id in the sentence; the id is in quotes or brackets.
    fn missing(self, id: &str) -> (&'static str, String) {
        let not_there = |what: &str| format!("The {what} '{id}' does not exist");
        match self {
            Self::Vpc => ("InvalidVpcID.NotFound", not_there("vpc ID")),
            Self::Subnet => ("InvalidSubnetID.NotFound", not_there("subnet ID")),
            Self::SecurityGroup => ("InvalidGroup.NotFound", not_there("security group")),
            Self::NetworkInterface => {
                ("InvalidNetworkInterfaceID.NotFound", not_there("networkInterface ID"))
            }
            Self::RouteTable => ("InvalidRouteTableID.NotFound", not_there("routeTable ID")),
            Self::InternetGateway => {
                ("InvalidInternetGatewayID.NotFound", not_there("internetGateway ID"))
            }
            Self::VpnGateway => ("InvalidVpnGatewayID.NotFound", not_there("vpnGateway ID")),
            Self::AvailabilityZone => {
                ("InvalidParameterValue", format!("Invalid availability zone: [{id}]"))
            }
            Self::Region => ("InvalidParameterValue", format!("Invalid region: [{id}]")),
        }
    }

    /// The refusal of an id that no thing of this kind has.
    pub(crate) fn refused(self) -> impl Fn(&str) -> Refusal + Copy {
        move |id| Refusal::Missing(self, id.to_owned())
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (code, message) = match &refusal {
            Refusal::Missing(kind, id) => kind.missing(id),
            Refusal::UnknownFilter(name) => {
                ("InvalidParameterValue", format!("The filter '{name}' is invalid"))
            }
            Refusal::PagesOfIds => (
                "InvalidParameterCombination",
                "The parameter MaxResults cannot be used with a list of ids".to_owned(),
            ),
            Refusal::PageSize(given) => (
                "InvalidParameterValue",
                format!(
                    "Value ( {given} ) for parameter maxResults is invalid. \
                     Expecting a value between {PAGE_MIN} and {PAGE_MAX}."
                ),
            ),
            Refusal::NextToken => ("InvalidNextToken", "The token is not valid".to_owned()),
            Refusal::Attribute(given) => (
                "InvalidParameterValue",
                format!("Value ({given}) for parameter attribute is invalid."),
            ),
        };
        Self::client(code, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_in_its_own_words() {
        for (kind, code, sentence) in [
            (Kind::Vpc, "InvalidVpcID.NotFound", "The vpc ID 'x' does not exist"),
            (Kind::SecurityGroup, "InvalidGroup.NotFound", "The security group 'x' does not exist"),
            (Kind::Region, "InvalidParameterValue", "Invalid region: [x]"),
        ] {
            let error = ApiError::from(kind.refused()("x"));
            assert_eq!((error.code.as_ref(), error.message.as_ref()), (code, sentence));
        }
    }
}
