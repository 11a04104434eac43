//! What there is none of in this region, and is asked for nevertheless: machines and what goes with them, and gateways to
//! other networks. An answer is empty; ids that are asked for are not there, and filters that EC2 does not have are none here.

use std::convert::Infallible;

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;

use crate::Ec2;
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Tagged, apply, check_page_size};

/// A request for things that there are none of.
#[derive(Default)]
struct Asked<'a> {
    /// Ids and names that are asked for, with what they would be of.
    named: &'a [(Kind, &'a Option<Vec<String>>)],
    filters: Option<&'a [api::Filter]>,
    /// Those that EC2 has.
    known: &'a [&'a str],
    token: Option<&'a str>,
    max: Option<i32>,
}

impl Tagged for Infallible {
    fn tags(&self) -> &[api::Tag] {
        match *self {}
    }
}

impl Asked<'_> {
    /// The answer is empty, if it is none of the mistakes that a request can be.
    fn check(&self) -> Result<(), Refusal> {
        for (kind, ids) in self.named {
            if let Some(id) = ids.iter().flatten().next() {
                return Err(kind.absent(id));
            }
        }
        apply(Vec::<Infallible>::new(), self.filters, self.known, &|it, _| match *it {})?;
        check_page_size(self.max)?;
        // No answer has a page after it.
        match self.token {
            Some(token) if !token.is_empty() => Err(Refusal::NextToken),
            Some(_) | None => Ok(()),
        }
    }
}

/// Operations that describe what there is none of: the members of the request that name some, and of the answer that has none.
macro_rules! none {
    ($($operation:ident: $request:ident => $result:ident . $member:ident, $action:literal, by [$($ids:ident: $kind:ident),*], $filters:expr $(, pages $token:ident)? $(, sizes $max:ident)?;)*) => {
        $(
            #[allow(clippy::needless_update, reason = "most have members besides")]
            pub(crate) async fn $operation(
                ec2: &Ec2,
                caller: &Caller,
                input: api::$request,
            ) -> Result<api::$result, ApiError> {
                ec2.control.read(caller, &Permission::to($action).on("*"))?;
                unless_dry(input.dry_run)?;
                let named = [$((Kind::$kind, &input.$ids)),*];
                let asked = Asked {
                    named: &named,
                    filters: input.filters.as_deref(),
                    known: $filters,
                    $(token: input.$token.as_deref(),)?
                    $(max: input.$max,)?
                    ..Asked::default()
                };
                asked.check()?;
                Ok(api::$result { $member: Some(vec![]), ..api::$result::default() })
            }
        )*
    };
}

none! {
    describe_carrier_gateways: DescribeCarrierGatewaysRequest => DescribeCarrierGatewaysResult.carrier_gateways,
        "ec2:DescribeCarrierGateways", by [carrier_gateway_ids: CarrierGateway],
        &["carrier-gateway-id", "owner-id", "state", "vpc-id"], pages next_token, sizes max_results;
    describe_customer_gateways: DescribeCustomerGatewaysRequest => DescribeCustomerGatewaysResult.customer_gateways,
        "ec2:DescribeCustomerGateways", by [customer_gateway_ids: CustomerGateway],
        &["bgp-asn", "customer-gateway-id", "ip-address", "state", "type"];
    describe_egress_only_internet_gateways: DescribeEgressOnlyInternetGatewaysRequest =>
        DescribeEgressOnlyInternetGatewaysResult.egress_only_internet_gateways,
        "ec2:DescribeEgressOnlyInternetGateways", by [egress_only_internet_gateway_ids: EgressOnlyInternetGateway],
        &[], pages next_token, sizes max_results;
    describe_instance_status: DescribeInstanceStatusRequest => DescribeInstanceStatusResult.instance_statuses,
        "ec2:DescribeInstanceStatus", by [instance_ids: Instance], INSTANCE_STATUS_FILTERS, pages next_token, sizes max_results;
    describe_instances: DescribeInstancesRequest => DescribeInstancesResult.reservations,
        "ec2:DescribeInstances", by [instance_ids: Instance], INSTANCE_FILTERS, pages next_token, sizes max_results;
    describe_launch_templates: DescribeLaunchTemplatesRequest => DescribeLaunchTemplatesResult.launch_templates,
        "ec2:DescribeLaunchTemplates", by [launch_template_ids: LaunchTemplate, launch_template_names: LaunchTemplateName],
        &["create-time", "launch-template-name"], pages next_token;
    describe_placement_groups: DescribePlacementGroupsRequest => DescribePlacementGroupsResult.placement_groups,
        "ec2:DescribePlacementGroups", by [group_ids: PlacementGroup, group_names: PlacementGroupName],
        &["group-arn", "group-name", "spread-level", "state", "strategy"];
    describe_reserved_instances: DescribeReservedInstancesRequest => DescribeReservedInstancesResult.reserved_instances,
        "ec2:DescribeReservedInstances", by [reserved_instances_ids: ReservedInstances],
        &[
            "availability-zone", "availability-zone-id", "duration", "end", "fixed-price", "instance-type",
            "product-description", "reserved-instances-id", "scope", "start", "state", "usage-price",
        ];
    describe_snapshots: DescribeSnapshotsRequest => DescribeSnapshotsResult.snapshots,
        "ec2:DescribeSnapshots", by [snapshot_ids: Snapshot],
        &[
            "description", "encrypted", "owner-alias", "owner-id", "progress", "snapshot-id", "start-time", "status",
            "storage-tier", "transfer-type", "volume-id", "volume-size",
        ], pages next_token, sizes max_results;
    describe_transit_gateway_attachments: DescribeTransitGatewayAttachmentsRequest =>
        DescribeTransitGatewayAttachmentsResult.transit_gateway_attachments,
        "ec2:DescribeTransitGatewayAttachments", by [transit_gateway_attachment_ids: TransitGatewayAttachment],
        &[
            "association.state", "association.transit-gateway-route-table-id", "resource-id", "resource-owner-id",
            "resource-type", "state", "transit-gateway-attachment-id", "transit-gateway-id", "transit-gateway-owner-id",
        ], pages next_token, sizes max_results;
    describe_transit_gateway_vpc_attachments: DescribeTransitGatewayVpcAttachmentsRequest =>
        DescribeTransitGatewayVpcAttachmentsResult.transit_gateway_vpc_attachments,
        "ec2:DescribeTransitGatewayVpcAttachments", by [transit_gateway_attachment_ids: TransitGatewayAttachment],
        &["state", "transit-gateway-attachment-id", "transit-gateway-id", "vpc-id"], pages next_token, sizes max_results;
    describe_transit_gateways: DescribeTransitGatewaysRequest => DescribeTransitGatewaysResult.transit_gateways,
        "ec2:DescribeTransitGateways", by [transit_gateway_ids: TransitGateway],
        &[
            "options.amazon-side-asn", "options.association-default-route-table-id",
            "options.auto-accept-shared-attachments", "options.default-route-table-association",
            "options.default-route-table-propagation", "options.dns-support",
            "options.propagation-default-route-table-id", "options.vpn-ecmp-support", "owner-id", "state",
            "transit-gateway-id",
        ], pages next_token, sizes max_results;
    describe_volumes: DescribeVolumesRequest => DescribeVolumesResult.volumes,
        "ec2:DescribeVolumes", by [volume_ids: Volume],
        &[
            "attachment.attach-time", "attachment.delete-on-termination", "attachment.device",
            "attachment.instance-id", "attachment.status", "availability-zone", "availability-zone-id", "create-time",
            "encrypted", "fast-restored", "multi-attach-enabled", "operator.managed", "operator.principal", "size",
            "snapshot-id", "status", "volume-id", "volume-type",
        ], pages next_token, sizes max_results;
    describe_vpn_connections: DescribeVpnConnectionsRequest => DescribeVpnConnectionsResult.vpn_connections,
        "ec2:DescribeVpnConnections", by [vpn_connection_ids: VpnConnection],
        &[
            "bgp-asn", "customer-gateway-configuration", "customer-gateway-id", "option.static-routes-only",
            "route.destination-cidr-block", "state", "transit-gateway-id", "type", "vpn-connection-id", "vpn-gateway-id",
        ];
    describe_vpn_gateways: DescribeVpnGatewaysRequest => DescribeVpnGatewaysResult.vpn_gateways,
        "ec2:DescribeVpnGateways", by [vpn_gateway_ids: VpnGateway],
        &[
            "amazon-side-asn", "attachment.state", "attachment.vpc-id", "availability-zone", "state", "type",
            "vpn-gateway-id",
        ];
}

#[rustfmt::skip]
const INSTANCE_FILTERS: &[&str] = &[
    "affinity", "architecture", "availability-zone", "availability-zone-id", "block-device-mapping.attach-time",
    "block-device-mapping.delete-on-termination", "block-device-mapping.device-name", "block-device-mapping.status",
    "block-device-mapping.volume-id", "boot-mode", "capacity-reservation-id",
    "capacity-reservation-specification.capacity-reservation-preference",
    "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id",
    "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn",
    "client-token", "current-instance-boot-mode", "dns-name", "ebs-optimized", "ena-support",
    "enclave-options.enabled", "hibernation-options.configured", "host-id", "hypervisor", "iam-instance-profile.arn",
    "iam-instance-profile.id", "image-id", "instance-id", "instance-lifecycle", "instance-state-code",
    "instance-state-name", "instance-type", "instance.group-id", "instance.group-name", "ip-address", "ipv6-address",
    "kernel-id", "key-name", "launch-index", "launch-time", "maintenance-options.auto-recovery",
    "metadata-options.http-endpoint", "metadata-options.http-protocol-ipv4", "metadata-options.http-protocol-ipv6",
    "metadata-options.http-put-response-hop-limit", "metadata-options.http-tokens",
    "metadata-options.instance-metadata-tags", "metadata-options.state", "monitoring-state",
    "network-interface.addresses.association.allocation-id", "network-interface.addresses.association.association-id",
    "network-interface.addresses.association.carrier-ip", "network-interface.addresses.association.customer-owned-ip",
    "network-interface.addresses.association.ip-owner-id", "network-interface.addresses.association.public-dns-name",
    "network-interface.addresses.association.public-ip", "network-interface.addresses.primary",
    "network-interface.addresses.private-dns-name", "network-interface.addresses.private-ip-address",
    "network-interface.association.allocation-id", "network-interface.association.association-id",
    "network-interface.association.carrier-ip", "network-interface.association.customer-owned-ip",
    "network-interface.association.ip-owner-id", "network-interface.association.public-dns-name",
    "network-interface.association.public-ip", "network-interface.attachment.attach-time",
    "network-interface.attachment.attachment-id", "network-interface.attachment.delete-on-termination",
    "network-interface.attachment.device-index", "network-interface.attachment.instance-id",
    "network-interface.attachment.instance-owner-id", "network-interface.attachment.network-card-index",
    "network-interface.attachment.status", "network-interface.availability-zone",
    "network-interface.deny-all-igw-traffic", "network-interface.description", "network-interface.group-id",
    "network-interface.group-name", "network-interface.ipv4-prefixes.ipv4-prefix", "network-interface.ipv6-address",
    "network-interface.ipv6-addresses.ipv6-address", "network-interface.ipv6-addresses.is-primary-ipv6",
    "network-interface.ipv6-native", "network-interface.ipv6-prefixes.ipv6-prefix", "network-interface.mac-address",
    "network-interface.network-interface-id", "network-interface.operator.managed",
    "network-interface.operator.principal", "network-interface.outpost-arn", "network-interface.owner-id",
    "network-interface.private-dns-name", "network-interface.private-ip-address", "network-interface.public-dns-name",
    "network-interface.requester-id", "network-interface.requester-managed", "network-interface.source-dest-check",
    "network-interface.status", "network-interface.subnet-id", "network-interface.tag-key",
    "network-interface.tag-value", "network-interface.vpc-id", "network-performance-options.bandwidth-weighting",
    "operator.managed", "operator.principal", "outpost-arn", "owner-id", "placement-group-name",
    "placement-partition-number", "platform", "platform-details", "private-dns-name",
    "private-dns-name-options.enable-resource-name-dns-a-record",
    "private-dns-name-options.enable-resource-name-dns-aaaa-record", "private-dns-name-options.hostname-type",
    "private-ip-address", "product-code", "product-code.type", "ramdisk-id", "reason", "requester-id",
    "reservation-id", "root-device-name", "root-device-type", "source-dest-check", "spot-instance-request-id",
    "state-reason-code", "state-reason-message", "subnet-id", "tenancy", "tpm-support", "usage-operation",
    "usage-operation-update-time", "virtualization-type", "vpc-id",
];

#[rustfmt::skip]
const INSTANCE_STATUS_FILTERS: &[&str] = &[
    "application-status.status", "attached-ebs-status.status", "availability-zone", "availability-zone-id",
    "event.code", "event.description", "event.instance-event-id", "event.not-after", "event.not-before",
    "event.not-before-deadline", "instance-state-code", "instance-state-name", "instance-status.reachability",
    "instance-status.status", "operator.managed", "operator.principal", "system-status.reachability",
    "system-status.status",
];
