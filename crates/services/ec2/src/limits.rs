//! Every limit of this crate.

/// Rules of a security group in one direction and of one family of addresses. Amazon's default is 60, and this
/// the most that it can be raised to.
pub(crate) const RULES_PER_DIRECTION_MAX: usize = 1_000;
/// Rules that one call adds, or changes: with their tags they are rows of one commit.
pub(crate) const RULES_PER_CALL_MAX: usize = 240;
/// Security groups of an account in one region.
pub(crate) const GROUPS_MAX: usize = 2_500;
/// Rows that one step of a deletion takes with it.
pub(crate) const DELETED_ROWS_MAX: usize = 400;
/// Resources that one call tags.
pub(crate) const TAGGED_RESOURCES_MAX: usize = 400;
pub(crate) const FILTERS_MAX: usize = 50;
pub(crate) const FILTER_VALUES_MAX: usize = 200;
/// VPCs of an account that it made.
pub(crate) const VPCS_MAX: usize = 100;
/// Blocks of addresses of a VPC, the first included.
pub(crate) const VPC_BLOCKS_MAX: usize = 5;
pub(crate) const SUBNETS_PER_VPC_MAX: usize = 200;
pub(crate) const ROUTE_TABLES_PER_VPC_MAX: usize = 200;
pub(crate) const ROUTES_PER_TABLE_MAX: usize = 500;
pub(crate) const INTERNET_GATEWAYS_MAX: usize = 100;
pub(crate) const NAT_GATEWAYS_MAX: usize = 300;
pub(crate) const ADDRESSES_MAX: usize = 500;
pub(crate) const ACLS_PER_VPC_MAX: usize = 200;
/// Entries of a network ACL in one direction, to which Amazon's 20 can be raised.
pub(crate) const ACL_ENTRIES_PER_DIRECTION_MAX: usize = 40;
/// Flow logs of an account, and what one request names.
pub(crate) const FLOW_LOGS_MAX: usize = 500;
pub(crate) const FLOW_LOG_RESOURCES_MAX: usize = 25;
/// Flow logs of one VPC, subnet or interface.
pub(crate) const FLOW_LOGS_OF_RESOURCE_MAX: usize = 10;
/// What a flow log's format, its log group's name and its role's ARN have at most.
pub(crate) const FLOW_LOG_FORMAT_CHARS_MAX: usize = 1_024;
pub(crate) const LOG_GROUP_CHARS_MAX: usize = 512;
pub(crate) const ROLE_ARN_CHARS_MAX: usize = 2_048;
/// VPC endpoints of a VPC, of both types.
pub(crate) const ENDPOINTS_PER_VPC_MAX: usize = 100;
/// Those of an account: each interface of one is a namespace on the region's own machine.
pub(crate) const ENDPOINTS_MAX: usize = 200;
/// Of an endpoint's policy, as AWS's.
pub(crate) const ENDPOINT_POLICY_CHARS_MAX: usize = 20_480;
/// Active connections of a VPC with others, to which Amazon's 50 can be raised.
pub(crate) const PEERINGS_PER_VPC_MAX: usize = 125;
/// Requests of an account for connections that wait for an answer.
pub(crate) const PEERING_REQUESTS_MAX: usize = 25;
/// Requests and connections of an account that came to an end: what is more of them is shown to nobody any more, the oldest
/// first.
pub(crate) const PEERINGS_ENDED_MAX: usize = 100;
/// How long a connection that came to an end is shown to who ended it, and to the other side.
pub(crate) const PEERING_SHOWN_MS: u64 = 2 * 3_600_000;
pub(crate) const PEERING_SHOWN_LONG_MS: u64 = 48 * 3_600_000;
pub(crate) const DHCP_OPTIONS_MAX: usize = 100;
/// Interfaces of a subnet that were made by hand.
pub(crate) const INTERFACES_MAX: usize = 5_000;
/// Of those in an account's default VPC: all accounts have its addresses from one range.
pub(crate) const SHARED_INTERFACES_MAX: usize = 200;
/// Addresses of one interface besides its own.
pub(crate) const SECONDARY_ADDRESSES_MAX: usize = 49;
/// How long what came to an end with a NAT gateway is shown.
pub(crate) const NAT_GATEWAY_SHOWN_MS: u64 = 3_600_000;
/// Prefix lists of an account.
pub(crate) const PREFIX_LISTS_MAX: usize = 100;
pub(crate) const LIST_ENTRIES_MAX: u32 = 1_000;
pub(crate) const LIST_ENTRIES_PER_CALL_MAX: usize = 100;
/// Versions of a prefix list that are kept besides its current one, and entries of all of them.
pub(crate) const EARLIER_LIST_VERSIONS_MAX: usize = 10;
pub(crate) const EARLIER_LIST_ENTRIES_MAX: usize = 2_000;
/// Rules and routes that name one prefix list: a change of it writes the groups of such rules in one commit.
pub(crate) const LIST_USERS_MAX: usize = 300;
