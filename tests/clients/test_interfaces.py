"""Network interfaces that somebody makes, and what EC2 describes of which there is none here, through boto3."""

import pytest

from services import refused
from test_vpcs import site  # noqa: F401


@pytest.fixture
def interface(site):  # noqa: F811
    return lambda **more: site.ec2.create_network_interface(SubnetId=site.subnets[0], **more)["NetworkInterface"]


def addresses(ec2, made):
    shown, = ec2.describe_network_interfaces(NetworkInterfaceIds=[made["NetworkInterfaceId"]])["NetworkInterfaces"]
    return [(each["PrivateIpAddress"], each["Primary"]) for each in shown["PrivateIpAddresses"]]


def test_an_interface_has_more_addresses_which_move_and_go(site, interface):  # noqa: F811
    ec2 = site.ec2
    listed = [{"PrivateIpAddress": "10.20.0.10", "Primary": True}, {"PrivateIpAddress": "10.20.0.11", "Primary": False}]
    one, two = interface(PrivateIpAddresses=listed), interface(SecondaryPrivateIpAddressCount=2)
    assert addresses(ec2, one) == [("10.20.0.10", True), ("10.20.0.11", False)]
    assert [primary for _, primary in addresses(ec2, two)] == [True, False, False]
    name, other = one["NetworkInterfaceId"], two["NetworkInterfaceId"]
    made = ec2.assign_private_ip_addresses(NetworkInterfaceId=name, PrivateIpAddresses=["10.20.0.20"])
    assert made["AssignedPrivateIpAddresses"] == [{"PrivateIpAddress": "10.20.0.20"}]
    refused(ec2.assign_private_ip_addresses, "InvalidParameterValue", "move is not allowed", NetworkInterfaceId=other,
            PrivateIpAddresses=["10.20.0.20"])
    refused(ec2.assign_private_ip_addresses, "InvalidParameterValue", "subnet's address range", NetworkInterfaceId=name,
            PrivateIpAddresses=["10.20.1.20"])
    refused(ec2.assign_private_ip_addresses, "PrivateIpAddressLimitExceeded", "", NetworkInterfaceId=name,
            SecondaryPrivateIpAddressCount=48)
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=site.vpc)
    elastic = ec2.allocate_address(TagSpecifications=site.tags("elastic-ip"))
    ec2.associate_address(AllocationId=elastic["AllocationId"], NetworkInterfaceId=name, PrivateIpAddress="10.20.0.20")
    refused(ec2.associate_address, "InvalidParameterValue", "no private address", AllocationId=elastic["AllocationId"],
            NetworkInterfaceId=name, PrivateIpAddress="10.20.0.99")
    ec2.assign_private_ip_addresses(NetworkInterfaceId=other, PrivateIpAddresses=["10.20.0.20"], AllowReassignment=True)
    assert "10.20.0.20" in dict(addresses(ec2, two)) and "10.20.0.20" not in dict(addresses(ec2, one))
    shown, = ec2.describe_addresses(AllocationIds=[elastic["AllocationId"]])["Addresses"]
    assert (shown["NetworkInterfaceId"], shown["PrivateIpAddress"]) == (other, "10.20.0.20"), "it moved along"
    found = ec2.describe_network_interfaces(Filters=[{"Name": "addresses.private-ip-address", "Values": ["10.20.0.20"]},
                                                     *site.mine()])["NetworkInterfaces"]
    assert [each["NetworkInterfaceId"] for each in found] == [other]
    ec2.unassign_private_ip_addresses(NetworkInterfaceId=other, PrivateIpAddresses=["10.20.0.20"])
    shown, = ec2.describe_addresses(AllocationIds=[elastic["AllocationId"]])["Addresses"]
    assert "NetworkInterfaceId" not in shown, "it is its account's again"
    refused(ec2.unassign_private_ip_addresses, "InvalidParameterValue", "primary", NetworkInterfaceId=name,
            PrivateIpAddresses=["10.20.0.10"])


def test_attributes_of_an_interface_are_shown_and_changed_one_at_a_time(site, interface):  # noqa: F811
    ec2 = site.ec2
    name = interface(Description="mine")["NetworkInterfaceId"]
    shown = ec2.describe_network_interface_attribute(NetworkInterfaceId=name, Attribute="description")
    assert shown["Description"] == {"Value": "mine"}
    ec2.modify_network_interface_attribute(NetworkInterfaceId=name, SourceDestCheck={"Value": False})
    shown = ec2.describe_network_interface_attribute(NetworkInterfaceId=name, Attribute="sourceDestCheck")
    assert shown["SourceDestCheck"] == {"Value": False}
    ec2.reset_network_interface_attribute(NetworkInterfaceId=name, SourceDestCheck="true")
    shown = ec2.describe_network_interface_attribute(NetworkInterfaceId=name, Attribute="sourceDestCheck")
    assert shown["SourceDestCheck"] == {"Value": True}
    shown = ec2.describe_network_interface_attribute(NetworkInterfaceId=name, Attribute="groupSet")
    assert [group["GroupName"] for group in shown["Groups"]] == ["default"]
    refused(ec2.attach_network_interface, "InvalidInstanceID.NotFound", "does not exist", NetworkInterfaceId=name,
            InstanceId="i-0123456789abcdef0", DeviceIndex=1)


# What is described, the member of the answer that has it, how one is asked for and the refusal of one that is not there.
NONE = [
    ("describe_instances", "Reservations", {"InstanceIds": ["i-0123456789abcdef0"]}, "InvalidInstanceID.NotFound"),
    ("describe_instance_status", "InstanceStatuses", {"InstanceIds": ["i-0123456789abcdef0"]}, "InvalidInstanceID.NotFound"),
    ("describe_volumes", "Volumes", {"VolumeIds": ["vol-0123456789abcdef0"]}, "InvalidVolume.NotFound"),
    ("describe_snapshots", "Snapshots", {"SnapshotIds": ["snap-0123456789abcdef0"]}, "InvalidSnapshot.NotFound"),
    ("describe_launch_templates", "LaunchTemplates", {"LaunchTemplateNames": ["mine"]},
     "InvalidLaunchTemplateName.NotFoundException"),
    ("describe_transit_gateways", "TransitGateways", {"TransitGatewayIds": ["tgw-0123456789abcdef0"]},
     "InvalidTransitGatewayID.NotFound"),
    ("describe_egress_only_internet_gateways", "EgressOnlyInternetGateways",
     {"EgressOnlyInternetGatewayIds": ["eigw-0123456789abcdef0"]}, "InvalidEgressOnlyInternetGatewayId.NotFound"),
    ("describe_vpn_connections", "VpnConnections", {"VpnConnectionIds": ["vpn-0123456789abcdef0"]},
     "InvalidVpnConnectionID.NotFound"),
    ("describe_customer_gateways", "CustomerGateways", {"CustomerGatewayIds": ["cgw-0123456789abcdef0"]},
     "InvalidCustomerGatewayID.NotFound"),
    ("describe_placement_groups", "PlacementGroups", {"GroupNames": ["mine"]}, "InvalidPlacementGroup.Unknown"),
]


@pytest.mark.parametrize(("operation", "member", "one", "code"), NONE)
def test_what_there_is_none_of_is_described_as_nothing(region, operation, member, one, code):
    ask = getattr(region.client("ec2"), operation)
    assert ask()[member] == []
    refused(ask, code, "", **one)
    refused(ask, "InvalidParameterValue", "", Filters=[{"Name": "no-such-filter", "Values": ["x"]}])


def test_groups_of_a_vpc_are_those_that_its_interfaces_may_have(site):  # noqa: F811
    group = site.ec2.create_security_group(GroupName="web", Description="web", VpcId=site.vpc)["GroupId"]
    found = site.ec2.get_security_groups_for_vpc(VpcId=site.vpc)["SecurityGroupForVpcs"]
    assert {each["GroupName"] for each in found} == {"default", "web"}
    assert {each["PrimaryVpcId"] for each in found} == {site.vpc} and group in {each["GroupId"] for each in found}
