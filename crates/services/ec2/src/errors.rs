//! What EC2 refuses, as data; its code and sentence are chosen here and nowhere else.

use aws_wire::ApiError;
use ec2_api::{UnsuccessfulItem, UnsuccessfulItemError};

use crate::filter::{PAGE_MAX, PAGE_MIN};
use crate::groups::GroupRefusal;
use crate::limits::{FILTER_VALUES_MAX, FILTERS_MAX};
use crate::refusal::NetworkRefusal;

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
    /// Nothing of this kind has such an id.
    Malformed(Kind, String),
    /// Nothing that could have tags has such an id.
    UnknownResource(String),
    /// A parameter is not there.
    Parameter(&'static str),
    /// One of two parameters must be there.
    OneOf(&'static str, &'static str),
    /// A value, in a sentence of its own.
    Value(String),
    /// Parameters that do not go together.
    Combination(String),
    TooManyFilters,
    TooManyTags,
    NoDefaultVpc,
    /// Two resources of different VPCs.
    DifferentNetworks,
    /// Something of security groups.
    Group(GroupRefusal),
    /// Something of VPCs and what is in them.
    Network(Box<NetworkRefusal>),
    /// It would have been done.
    DryRun,
}

/// The end of a decision that was only to be tried.
pub(crate) fn unless_dry(dry_run: Option<bool>) -> Result<(), Refusal> {
    if dry_run == Some(true) { Err(Refusal::DryRun) } else { Ok(()) }
}

/// One of several things that a request named, which was not done though others were.
pub(crate) fn not_done(id: &str, code: &str, message: &str) -> UnsuccessfulItem {
    let error =
        UnsuccessfulItemError { code: Some(code.to_owned()), message: Some(message.to_owned()) };
    UnsuccessfulItem { error: Some(error), resource_id: Some(id.to_owned()) }
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
    Rule,
    PrefixList,
    NatGateway,
    Address,
    NetworkAcl,
    DhcpOptions,
    /// Of a route table, a network ACL or an address with what it is of.
    Association,
    /// Of a VPC with a block of addresses.
    BlockAssociation,
    VpcEndpoint,
    FlowLog,
    Image,
    InstanceType,
    /// By its name.
    KeyPair,
    /// By its id.
    KeyPairId,
    VpcPeering,
    /// Of an interface with a machine.
    Attachment,
    CarrierGateway,
    CustomerGateway,
    EgressOnlyInternetGateway,
    Instance,
    LaunchTemplate,
    LaunchTemplateName,
    PlacementGroup,
    PlacementGroupName,
    ReservedInstances,
    Snapshot,
    TransitGateway,
    TransitGatewayAttachment,
    Volume,
    VpnConnection,
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
            Self::Rule => {
                ("InvalidSecurityGroupRuleId.NotFound", not_there("security group rule ID"))
            }
            Self::PrefixList => ("InvalidPrefixListID.NotFound", not_there("prefix list ID")),
            Self::NatGateway => ("NatGatewayNotFound", format!("NatGateway {id} was not found")),
            Self::Address => ("InvalidAllocationID.NotFound", not_there("allocation ID")),
            Self::NetworkAcl => ("InvalidNetworkAclID.NotFound", not_there("networkAcl ID")),
            Self::DhcpOptions => ("InvalidDhcpOptionID.NotFound", not_there("dhcpOption ID")),
            Self::Association => ("InvalidAssociationID.NotFound", not_there("association ID")),
            Self::BlockAssociation => (
                "InvalidVpcCidrBlockAssociationID.NotFound",
                not_there("vpc CIDR block association ID"),
            ),
            Self::VpcPeering => {
                ("InvalidVpcPeeringConnectionID.NotFound", not_there("vpcPeeringConnection ID"))
            }
            Self::FlowLog => ("InvalidFlowLogId.NotFound", not_there("flow log ID")),
            Self::Image => {
                ("InvalidAMIID.NotFound", format!("The image id '[{id}]' does not exist"))
            }
            Self::InstanceType => (
                "InvalidInstanceType",
                format!("The following supplied instance types do not exist: [{id}]"),
            ),
            Self::KeyPair => ("InvalidKeyPair.NotFound", not_there("key pair")),
            Self::KeyPairId => ("InvalidKeyPair.NotFound", not_there("key pair ID")),
            Self::VpcEndpoint => ("InvalidVpcEndpointId.NotFound", not_there("Vpc Endpoint Id")),
            Self::Attachment => {
                ("InvalidAttachmentID.NotFound", not_there("interface attachment ID"))
            }
            Self::CarrierGateway => {
                ("InvalidCarrierGatewayID.NotFound", not_there("carrierGateway ID"))
            }
            Self::CustomerGateway => {
                ("InvalidCustomerGatewayID.NotFound", not_there("customerGateway ID"))
            }
            Self::EgressOnlyInternetGateway => (
                "InvalidEgressOnlyInternetGatewayId.NotFound",
                not_there("egressOnlyInternetGateway ID"),
            ),
            Self::Instance => ("InvalidInstanceID.NotFound", not_there("instance ID")),
            Self::LaunchTemplate => (
                "InvalidLaunchTemplateId.NotFound",
                format!("The specified launch template, with template ID {id}, does not exist."),
            ),
            Self::LaunchTemplateName => (
                "InvalidLaunchTemplateName.NotFoundException",
                format!("The specified launch template, with template name {id}, does not exist."),
            ),
            Self::PlacementGroup | Self::PlacementGroupName => {
                ("InvalidPlacementGroup.Unknown", format!("The Placement Group '{id}' is unknown."))
            }
            Self::ReservedInstances => {
                ("InvalidReservedInstancesId", not_there("reserved instances ID"))
            }
            Self::Snapshot => {
                ("InvalidSnapshot.NotFound", format!("The snapshot '{id}' does not exist."))
            }
            Self::TransitGateway => (
                "InvalidTransitGatewayID.NotFound",
                format!("Transit Gateway {id} was deleted or does not exist."),
            ),
            Self::TransitGatewayAttachment => (
                "InvalidTransitGatewayAttachmentID.NotFound",
                format!("Transit Gateway Attachment {id} was deleted or does not exist."),
            ),
            Self::Volume => {
                ("InvalidVolume.NotFound", format!("The volume '{id}' does not exist."))
            }
            Self::VpnConnection => {
                ("InvalidVpnConnectionID.NotFound", not_there("vpnConnection ID"))
            }
        }
    }

    /// Its error code where an id is none of this kind, and what such an id looks like.
    fn malformed(self) -> (&'static str, &'static str) {
        match self {
            Self::Vpc => ("InvalidVpcID.Malformed", "vpc-..."),
            Self::Subnet => ("InvalidSubnetID.Malformed", "subnet-..."),
            Self::SecurityGroup => ("InvalidGroupId.Malformed", "sg-..."),
            Self::NetworkInterface => ("InvalidNetworkInterfaceId.Malformed", "eni-..."),
            Self::RouteTable => ("InvalidRouteTableId.Malformed", "rtb-..."),
            Self::InternetGateway => ("InvalidInternetGatewayId.Malformed", "igw-..."),
            Self::VpnGateway => ("InvalidVpnGatewayID.Malformed", "vgw-..."),
            Self::Rule => ("InvalidSecurityGroupRuleId.Malformed", "sgr-..."),
            Self::PrefixList => ("InvalidPrefixListId.Malformed", "pl-..."),
            Self::NatGateway => ("NatGatewayMalformed", "nat-..."),
            Self::Address => ("InvalidAllocationID.Malformed", "eipalloc-..."),
            Self::NetworkAcl => ("InvalidNetworkAclId.Malformed", "acl-..."),
            Self::DhcpOptions => ("InvalidDhcpOptionsId.Malformed", "dopt-..."),
            Self::Association => ("InvalidAssociationID.Malformed", "an association's id"),
            Self::BlockAssociation => {
                ("InvalidVpcCidrBlockAssociationID.Malformed", "vpc-cidr-assoc-...")
            }
            Self::VpcPeering => ("InvalidVpcPeeringConnectionId.Malformed", "pcx-..."),
            Self::FlowLog => ("InvalidFlowLogId.Malformed", "fl-..."),
            Self::VpcEndpoint => ("InvalidVpcEndpointId.Malformed", "vpce-..."),
            Self::Image => ("InvalidAMIID.Malformed", "ami-..."),
            Self::KeyPairId => ("InvalidKeyPairId.Malformed", "key-..."),
            Self::Attachment => {
                ("InvalidNetworkInterfaceAttachmentId.Malformed", "an attachment's id")
            }
            Self::CarrierGateway => ("InvalidCarrierGatewayID.Malformed", "cagw-..."),
            Self::CustomerGateway => ("InvalidCustomerGatewayId.Malformed", "cgw-..."),
            Self::EgressOnlyInternetGateway => {
                ("InvalidEgressOnlyInternetGatewayId.Malformed", "eigw-...")
            }
            Self::Instance => ("InvalidInstanceID.Malformed", "i-..."),
            Self::LaunchTemplate => ("InvalidLaunchTemplateId.Malformed", "lt-..."),
            Self::PlacementGroup => ("InvalidPlacementGroupId.Malformed", "pg-..."),
            Self::ReservedInstances => ("InvalidReservedInstancesId", "a reservation's id"),
            Self::Snapshot => ("InvalidSnapshotID.Malformed", "snap-..."),
            Self::TransitGateway => ("InvalidTransitGatewayID.Malformed", "tgw-..."),
            Self::TransitGatewayAttachment => {
                ("InvalidTransitGatewayAttachmentID.Malformed", "tgw-attach-...")
            }
            Self::Volume => ("InvalidVolumeID.Malformed", "vol-..."),
            Self::VpnConnection => ("InvalidVpnConnectionID.Malformed", "vpn-..."),
            Self::AvailabilityZone
            | Self::Region
            | Self::InstanceType
            | Self::KeyPair
            | Self::LaunchTemplateName
            | Self::PlacementGroupName => ("InvalidParameterValue", "a name"),
        }
    }

    /// The refusal of an id that a list names and no thing of this kind has: one that is none is told from one that might be.
    pub(crate) fn absent(self, id: &str) -> Refusal {
        let (_, like) = self.malformed();
        let digits = |prefix: &str| {
            let digits = id.strip_prefix(prefix).unwrap_or_default();
            let is_hex = digits.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
            is_hex && matches!(digits.len(), 8 | 17)
        };
        match like.strip_suffix("...") {
            Some(prefix) if !digits(prefix) => Refusal::Malformed(self, id.to_owned()),
            Some(_) | None => Refusal::Missing(self, id.to_owned()),
        }
    }

    /// The refusal of an id that no thing of this kind has.
    pub(crate) fn refused(self) -> impl Fn(&str) -> Refusal + Copy {
        move |id| Refusal::Missing(self, id.to_owned())
    }
}

impl Refusal {
    /// EC2's code and sentence.
    pub(crate) fn worded(&self) -> (&'static str, String) {
        const INVALID: &str = "InvalidParameterValue";
        match self {
            Self::Missing(kind, id) => kind.missing(id),
            Self::Malformed(kind, id) => {
                let (code, like) = kind.malformed();
                (code, format!("Invalid id: \"{id}\" (expecting \"{like}\")"))
            }
            Self::UnknownResource(id) => ("InvalidID", format!("The ID '{id}' is not valid")),
            Self::UnknownFilter(name) => (INVALID, format!("The filter '{name}' is invalid")),
            Self::TooManyFilters => (
                "FilterLimitExceeded",
                format!(
                    "A request has at most {FILTERS_MAX} filters with {FILTER_VALUES_MAX} values in all"
                ),
            ),
            Self::PagesOfIds => (
                "InvalidParameterCombination",
                "The parameter MaxResults cannot be used with a list of ids".to_owned(),
            ),
            Self::PageSize(given) => (
                INVALID,
                format!(
                    "Value ( {given} ) for parameter maxResults is invalid. \
                     Expecting a value between {PAGE_MIN} and {PAGE_MAX}."
                ),
            ),
            Self::NextToken => ("InvalidNextToken", "The token is not valid".to_owned()),
            Self::Attribute(given) => {
                (INVALID, format!("Value ({given}) for parameter attribute is invalid."))
            }
            Self::Parameter(name) => {
                ("MissingParameter", format!("The request must contain the parameter {name}"))
            }
            Self::OneOf(one, other) => (
                "MissingParameter",
                format!("The request must contain the parameter {one} or {other}"),
            ),
            Self::Value(sentence) => (INVALID, sentence.clone()),
            Self::Combination(sentence) => ("InvalidParameterCombination", sentence.clone()),
            Self::TooManyTags => (
                "TagLimitExceeded",
                "The maximum number of Tags for a resource has been reached.".to_owned(),
            ),
            Self::NoDefaultVpc => ("VPCIdNotSpecified", "No default VPC for this user".to_owned()),
            Self::DifferentNetworks => (
                "InvalidGroup.NotFound",
                "You have specified two resources that belong to different networks.".to_owned(),
            ),
            Self::DryRun => (
                "DryRunOperation",
                "Request would have succeeded, but DryRun flag is set.".to_owned(),
            ),
            Self::Group(refusal) => refusal.worded(),
            Self::Network(refusal) => refusal.worded(),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        const PRECONDITION_FAILED: u16 = 412;
        let (code, message) = refusal.worded();
        let error = Self::client(code, message);
        if refusal == Refusal::DryRun { error.with_status(PRECONDITION_FAILED) } else { error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_none_is_told_from_one_that_nothing_has() {
        for (kind, id, code) in [
            (Kind::Vpc, "vpc-0123456789abcdef0", "InvalidVpcID.NotFound"),
            (Kind::Vpc, "vpc-1a2b3c4d", "InvalidVpcID.NotFound"),
            (Kind::Vpc, "vpc-nonsense", "InvalidVpcID.Malformed"),
            (Kind::Vpc, "subnet-1a2b3c4d", "InvalidVpcID.Malformed"),
            (Kind::Subnet, "", "InvalidSubnetID.Malformed"),
            (Kind::RouteTable, "rtb-1A2B3C4D", "InvalidRouteTableId.Malformed"),
            (Kind::NatGateway, "nat-1", "NatGatewayMalformed"),
            (Kind::InstanceType, "t9.huge", "InvalidInstanceType"),
        ] {
            let error = ApiError::from(kind.absent(id));
            assert_eq!(error.code, code, "{id}");
        }
    }

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
