//! What EC2 refuses of VPCs and what is in them: codes and sentences.

use crate::errors::Refusal;

/// The caller's mistake, or what this region does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NetworkRefusal {
    /// By name: something that hosts of this region do not carry out.
    Unsupported(String),
    /// Something names it that would be without it.
    InUse {
        what: &'static str,
        id: String,
        by: Vec<String>,
    },
    /// A VPC's block that cannot be one.
    VpcBlock(String),
    /// A further block of a VPC that is of another kind of range than its first.
    VpcBlockRestricted(String),
    /// A subnet's block that is no block, or not of the VPC.
    SubnetBlock(String),
    SubnetOverlaps(String),
    /// A block of a VPC that stays: why.
    BlockStays(String),
    BlockInUse {
        association: String,
        by: Vec<String>,
    },
    Zone {
        given: String,
        there: Vec<String>,
    },
    RouteThere(String),
    NoRoute {
        destination: String,
        table: String,
    },
    LocalStays {
        destination: String,
        table: String,
    },
    OtherNetwork {
        table: String,
        gateway: String,
    },
    NoRouteTarget(String),
    NoNatTarget(String),
    TableThere(String),
    MainStays(String),
    GatewayAttached {
        gateway: String,
        vpc: String,
    },
    VpcHasGateway(String),
    NotAttached {
        gateway: String,
        vpc: String,
    },
    PublicAddresses {
        vpc: String,
        by: Vec<String>,
    },
    NoInternetGateway(String),
    AddressInUse(String),
    AddressOfAService,
    AddressAssociated(String),
    NoPublicAddress(String),
    PrivateAddressTaken(String),
    SubnetFull {
        subnet: String,
        held: usize,
    },
    InterfaceInUse(String),
    NotTheirs,
    EntryThere(i32),
    NoEntry(i32),
    DefaultAclStays(String),
    DefaultThere,
    /// The account has deleted its own.
    NoDefaultVpc,
    DefaultSubnetThere(String),
    TokenOfAnother,
    /// Of AWS's prefix lists none is changed or led to.
    ListOfAws(String),
    ListVersion,
    /// A change of a prefix list's entries that cannot be.
    ListChange(String),
    ListFull {
        id: String,
        there: usize,
        most: u32,
    },
    /// A policy's document that cannot be read: why.
    PolicyDocument(String),
    NoEndpointService(String),
    EndpointType {
        asked: &'static str,
        there: &'static str,
    },
    /// A VPC whose resolver has no names to lead elsewhere.
    EndpointNames(String),
    EndpointNamesTaken {
        name: String,
        vpc: String,
    },
    SubnetsInOneZone(String),
    /// Two VPCs are connected already, or one has asked for it.
    PeeringThere(String),
    PeeringState {
        id: String,
        from: &'static str,
        to: &'static str,
    },
    PeeringNames,
    /// What only another may do, or not now: a sentence.
    NotPermitted(String),
    TooMany {
        code: &'static str,
        what: &'static str,
    },
}

impl From<NetworkRefusal> for Refusal {
    fn from(refusal: NetworkRefusal) -> Self {
        Self::Network(Box::new(refusal))
    }
}

/// Something that hosts of this region do not carry out: which, and why.
pub(crate) fn unsupported(why: impl Into<String>) -> Refusal {
    NetworkRefusal::Unsupported(why.into()).into()
}

impl NetworkRefusal {
    /// EC2's code and sentence. Where the sentence of Amazon says nothing of which, that is said after it.
    pub(crate) fn worded(&self) -> (&'static str, String) {
        const VALUE: &str = "InvalidParameterValue";
        const DEPENDS: &str = "DependencyViolation";
        match self {
            Self::Unsupported(why) => ("UnsupportedOperation", why.clone()),
            Self::InUse { what, id, by } => (
                DEPENDS,
                format!("The {what} '{id}' has dependencies and cannot be deleted.{}", named(by)),
            ),
            Self::VpcBlock(block) => {
                ("InvalidVpc.Range", format!("The CIDR '{block}' is invalid."))
            }
            Self::VpcBlockRestricted(block) => (
                "InvalidVpc.Range",
                format!(
                    "The CIDR '{block}' is restricted. Use a CIDR from the same private address range as the current VPC \
                     CIDR, or use a publicly-routable CIDR."
                ),
            ),
            Self::SubnetBlock(block) => {
                ("InvalidSubnet.Range", format!("The CIDR '{block}' is invalid."))
            }
            Self::SubnetOverlaps(block) => (
                "InvalidSubnet.Conflict",
                format!("The CIDR '{block}' conflicts with another subnet"),
            ),
            Self::BlockStays(association) => (
                "OperationNotPermitted",
                format!(
                    "The vpc CIDR block with association ID {association} may not be disassociated. It \
                     is the primary IPv4 CIDR block of the VPC"
                ),
            ),
            Self::BlockInUse { association, by } => (
                "InvalidCidrBlock.InUse",
                format!(
                    "The vpc CIDR block with association ID {association} may not be disassociated.{}",
                    named(by)
                ),
            ),
            Self::Zone { given, there } => (
                VALUE,
                format!(
                    "Value ({given}) for parameter availabilityZone is invalid. Subnets can currently \
                     only be created in the following availability zones: {}.",
                    there.join(", ")
                ),
            ),
            Self::RouteThere(destination) => (
                "RouteAlreadyExists",
                format!("The route identified by {destination} already exists."),
            ),
            Self::PeeringThere(id) => (
                "VpcPeeringConnectionAlreadyExists",
                format!("A VPC peering connection between the VPCs already exists: {id}"),
            ),
            Self::PeeringState { id, from, to } => (
                "InvalidStateTransition",
                format!(
                    "Invalid state transition for {id}, attempted to transition from {from} to {to}"
                ),
            ),
            Self::PeeringNames => (
                "InvalidVpcPeeringConnectionState.DnsHostnamesDisabled",
                "To enable DNS hostname resolution for the VPC peering connection, DNS hostname support must be \
                 enabled for the VPCs"
                    .to_owned(),
            ),
            Self::NotPermitted(why) => ("OperationNotPermitted", why.clone()),
            Self::NoRoute { destination, table } => (
                "InvalidRoute.NotFound",
                format!(
                    "no route with destination-cidr-block {destination} in route table {table}"
                ),
            ),
            Self::LocalStays { destination, table } => {
                (VALUE, format!("cannot remove local route {destination} in route table {table}"))
            }
            Self::OtherNetwork { table, gateway } => (
                VALUE,
                format!(
                    "route table {table} and network gateway {gateway} belong to different networks"
                ),
            ),
            Self::NoRouteTarget(id) => {
                ("InvalidGatewayID.NotFound", format!("The gateway ID '{id}' does not exist"))
            }
            Self::NoNatTarget(id) => {
                ("InvalidNatGatewayID.NotFound", format!("The natGateway ID '{id}' does not exist"))
            }
            Self::TableThere(table) => (
                "Resource.AlreadyAssociated",
                format!(
                    "the specified association for route table {table} conflicts with an existing \
                     association"
                ),
            ),
            Self::MainStays(association) => (
                VALUE,
                format!("cannot disassociate the main route table association {association}"),
            ),
            Self::GatewayAttached { gateway, vpc } => (
                "Resource.AlreadyAssociated",
                format!("resource {gateway} is already attached to network {vpc}"),
            ),
            Self::VpcHasGateway(vpc) => {
                (VALUE, format!("Network {vpc} already has an internet gateway attached"))
            }
            Self::NotAttached { gateway, vpc } => (
                "Gateway.NotAttached",
                format!("resource {gateway} is not attached to network {vpc}"),
            ),
            Self::PublicAddresses { vpc, by } => (
                DEPENDS,
                format!(
                    "Network {vpc} has some mapped public address(es). Please unmap those public \
                     address(es) before detaching the gateway.{}",
                    named(by)
                ),
            ),
            Self::NoInternetGateway(vpc) => (
                "Gateway.NotAttached",
                format!("Network {vpc} is not attached to any internet gateway"),
            ),
            Self::AddressInUse(address) => (
                "InvalidIPAddress.InUse",
                format!("Address {address} is in use: disassociate it first."),
            ),
            Self::AddressOfAService | Self::NotTheirs => (
                "AuthFailure",
                "You do not have permission to access the specified resource.".to_owned(),
            ),
            Self::AddressAssociated(id) => (
                "Resource.AlreadyAssociated",
                format!("resource {id} is already associated with associate-id"),
            ),
            Self::NoPublicAddress(address) => {
                ("InvalidAddress.NotFound", format!("Address '{address}' not found."))
            }
            Self::PrivateAddressTaken(address) => {
                ("InvalidIPAddress.InUse", format!("Address {address} is in use."))
            }
            Self::SubnetFull { subnet, held } => (
                "InsufficientFreeAddressesInSubnet",
                format!(
                    "The specified subnet does not have enough free addresses to satisfy the request. \
                     ({subnet}: {held} are in use)"
                ),
            ),
            Self::InterfaceInUse(id) => {
                (VALUE, format!("Network interface '{id}' is currently in use."))
            }
            Self::EntryThere(number) => (
                "NetworkAclEntryAlreadyExists",
                format!("The network acl entry identified by {number} already exists."),
            ),
            Self::NoEntry(number) => (
                "InvalidNetworkAclEntry.NotFound",
                format!("The network acl entry identified by {number} does not exist."),
            ),
            Self::DefaultAclStays(id) => (VALUE, format!("cannot delete default network ACL {id}")),
            Self::DefaultThere => (
                "DefaultVpcAlreadyExists",
                "A Default VPC already exists for this account in this region.".to_owned(),
            ),
            Self::NoDefaultVpc => (
                "DefaultVpcDoesNotExist",
                "There is no default VPC in this account: CreateDefaultVpc makes one.".to_owned(),
            ),
            Self::DefaultSubnetThere(zone) => (
                "DefaultSubnetAlreadyExistsInAvailabilityZone",
                format!("A default subnet already exists in availability zone {zone}."),
            ),
            Self::TokenOfAnother => (
                "IdempotentParameterMismatch",
                "The client token was used with other parameters.".to_owned(),
            ),
            Self::ListOfAws(id) => (
                "InvalidParameterValue",
                format!("The prefix list '{id}' is AWS's: only rules of security groups name it."),
            ),
            Self::ListVersion => (
                "PrefixListVersionMismatch",
                "The prefix list has the incorrect version number.".to_owned(),
            ),
            Self::ListChange(why) => (
                "InvalidPrefixListModification",
                format!("The entries of the prefix list cannot be changed so: {why}"),
            ),
            Self::ListFull { id, there, most } => (
                "PrefixListMaxEntriesExceeded",
                format!(
                    "You've reached the maximum number of entries for the prefix list. ({id} would have {there} of \
                     {most})"
                ),
            ),
            Self::PolicyDocument(why) => {
                ("InvalidPolicyDocument", format!("The policy document cannot be read: {why}"))
            }
            Self::NoEndpointService(name) => {
                ("InvalidServiceName", format!("The Vpc Endpoint Service '{name}' does not exist"))
            }
            Self::EndpointType { asked, there } => (
                "InvalidParameter",
                format!(
                    "Endpoint type ({asked}) does not match available service types ([{there}])."
                ),
            ),
            Self::EndpointNames(vpc) => (
                "InvalidParameter",
                format!(
                    "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC \
                     attributes set to true for {vpc}"
                ),
            ),
            Self::EndpointNamesTaken { name, vpc } => (
                "InvalidParameter",
                format!(
                    "private-dns-enabled cannot be set because there is already a conflicting DNS domain \
                     for {name} in the VPC {vpc}"
                ),
            ),
            Self::SubnetsInOneZone(subnet) => (
                "DuplicateSubnetsInSameZone",
                format!(
                    "Found another VPC endpoint subnet in the availability zone of {subnet}. VPC \
                     endpoint subnets should be in different availability zones supported by the VPC \
                     endpoint service."
                ),
            ),
            Self::TooMany { code, what } => {
                (code, format!("The maximum number of {what} has been reached."))
            }
        }
    }
}

/// At most ten, in brackets after a sentence.
fn named(by: &[String]) -> String {
    const NAMED_MAX: usize = 10;
    let more = if by.len() > NAMED_MAX { ", …" } else { "" };
    let by: Vec<&str> = by.iter().take(NAMED_MAX).map(String::as_str).collect();
    format!(" ({}{more})", by.join(", "))
}
