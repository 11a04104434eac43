"""VPC peering connections: asked for, accepted, described, and what packets and `longshore net explain` make of them."""

import pytest

from conftest import unique, wait_for
from services import only, refused
from test_vpcs import Inhabitants, Site, explained, interface_of


class Peer(Site):
    """A second VPC, of other addresses."""

    def __init__(self, region, number):
        self.region, self.ec2 = region, region.client("ec2")
        self.name = unique("peer")
        self.block = f"10.{number}.0.0/16"
        self.vpc = self.ec2.create_vpc(CidrBlock=self.block, TagSpecifications=self.tags("vpc"))["Vpc"]["VpcId"]
        self.subnets = [self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.{number}.{each}.0/24",
                                               TagSpecifications=self.tags("subnet"))["Subnet"]["SubnetId"] for each in range(2)]

    def main_table(self):
        found = self.ec2.describe_route_tables(Filters=self.mine(("association.main", "true")))["RouteTables"]
        return only(found)["RouteTableId"]

    def open_group(self, *permissions):
        made = self.ec2.create_security_group(GroupName=unique("g"), Description="web", VpcId=self.vpc)["GroupId"]
        if permissions:
            self.ec2.authorize_security_group_ingress(GroupId=made, IpPermissions=list(permissions))
        return made


def permission(port, **source):
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **source}


@pytest.fixture
def sites(region):
    made = [Peer(region, number) for number in (31, 32, 33)]
    yield made
    ec2 = made[0].ec2
    for each in ec2.describe_vpc_peering_connections()["VpcPeeringConnections"]:
        # It is described for a while, with its tags, to the tests that follow too.
        ec2.delete_tags(Resources=[each["VpcPeeringConnectionId"]])
        if each["Status"]["Code"] in ("active", "pending-acceptance"):
            ec2.delete_vpc_peering_connection(VpcPeeringConnectionId=each["VpcPeeringConnectionId"])
    for site in made:
        for group in ec2.describe_security_groups(Filters=site.mine())["SecurityGroups"]:
            if group["IpPermissions"] and group["GroupName"] != "default":
                ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=group["IpPermissions"])
    for site in made:
        site.clean_up()


@pytest.fixture
def inhabitants(sites, cluster):
    made = Inhabitants(cluster)
    yield made
    made.clean_up()


def connect(one, other, routed=True):
    ec2 = one.ec2
    made = ec2.create_vpc_peering_connection(VpcId=one.vpc, PeerVpcId=other.vpc,
                                             TagSpecifications=one.tags("vpc-peering-connection"))["VpcPeeringConnection"]
    assert made["Status"]["Code"] == "initiating-request" and made["Tags"] == [{"Key": "Name", "Value": one.name}]
    pcx = made["VpcPeeringConnectionId"]
    ec2.get_waiter("vpc_peering_connection_exists").wait(VpcPeeringConnectionIds=[pcx])
    ec2.accept_vpc_peering_connection(VpcPeeringConnectionId=pcx)
    if routed:
        for near, far in ((one, other), (other, one)):
            ec2.create_route(RouteTableId=near.main_table(), DestinationCidrBlock=far.block, VpcPeeringConnectionId=pcx)
    return pcx


def test_a_connection_is_described_tagged_filtered_and_refused(sites):
    one, other, third = sites
    ec2 = one.ec2
    refused(ec2.create_vpc_peering_connection, "DryRunOperation", VpcId=one.vpc, PeerVpcId=other.vpc, DryRun=True)
    refused(ec2.create_vpc_peering_connection, "UnsupportedOperation", "PeerRegion", VpcId=one.vpc, PeerVpcId=other.vpc,
            PeerRegion="us-west-2")
    pcx = connect(one, other)
    more = [connect(one, third, routed=False), connect(other, third, routed=False)]
    asked = [{"Name": "requester-vpc-info.vpc-id", "Values": [one.vpc]}, {"Name": "status-code", "Values": ["act*"]}]
    found = ec2.describe_vpc_peering_connections(Filters=asked)["VpcPeeringConnections"]
    assert {each["VpcPeeringConnectionId"] for each in found} == {pcx, more[0]}
    whole = only(ec2.describe_vpc_peering_connections(VpcPeeringConnectionIds=[pcx])["VpcPeeringConnections"])
    assert whole["Status"] == {"Code": "active", "Message": "Active"}
    assert whole["AccepterVpcInfo"]["CidrBlockSet"] == [{"CidrBlock": other.block}]
    assert whole["RequesterVpcInfo"]["Region"] == "eu-north-1"
    ec2.create_tags(Resources=[pcx], Tags=[{"Key": "stage", "Value": "test"}])
    found = ec2.describe_vpc_peering_connections(Filters=[{"Name": "tag:stage", "Values": ["test"]}])
    assert only(found["VpcPeeringConnections"])["VpcPeeringConnectionId"] == pcx
    kinds = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [pcx]}])["Tags"]
    assert {each["ResourceType"] for each in kinds} == {"vpc-peering-connection"}
    refused(ec2.describe_vpc_peering_connections, "InvalidParameterValue", "colour",
            Filters=[{"Name": "colour", "Values": ["red"]}])
    refused(ec2.describe_vpc_peering_connections, "InvalidVpcPeeringConnectionID.NotFound",
            VpcPeeringConnectionIds=["pcx-12345678"])
    refused(ec2.create_vpc_peering_connection, "VpcPeeringConnectionAlreadyExists", pcx, VpcId=other.vpc, PeerVpcId=one.vpc)
    refused(ec2.delete_vpc, "DependencyViolation", pcx, VpcId=one.vpc)
    route = only([route for route in only(ec2.describe_route_tables(RouteTableIds=[one.main_table()])["RouteTables"])["Routes"]
                  if "VpcPeeringConnectionId" in route])
    assert (route["State"], route["DestinationCidrBlock"]) == ("active", other.block)
    ec2.delete_vpc_peering_connection(VpcPeeringConnectionId=pcx)
    ec2.get_waiter("vpc_peering_connection_deleted").wait(VpcPeeringConnectionIds=[pcx])
    route = only([route for route in only(ec2.describe_route_tables(RouteTableIds=[one.main_table()])["RouteTables"])["Routes"]
                  if "VpcPeeringConnectionId" in route])
    assert route["State"] == "blackhole"


def test_tasks_of_connected_vpcs_reach_each_other_as_both_sides_say(sites, inhabitants):
    one, other, third = sites
    ec2, cluster = one.ec2, inhabitants.cluster
    pcx = connect(one, other)
    connect(other, third)
    clients = one.open_group()
    servers = other.open_group(permission(80, UserIdGroupPairs=[{"GroupId": clients}]))
    anybody = third.open_group(permission(80, IpRanges=[{"CidrIp": "10.0.0.0/8"}]))
    pair = only(only(only(ec2.describe_security_groups(GroupIds=[servers])["SecurityGroups"])["IpPermissions"])["UserIdGroupPairs"])
    assert (pair["VpcId"], pair["VpcPeeringConnectionId"], pair["PeeringStatus"]) == (one.vpc, pcx, "active")
    server = inhabitants.until_web(inhabitants.start_web(other, 0, "peer", securityGroups=[servers]))
    distant = inhabitants.until_web(inhabitants.start_web(third, 0, "distant", securityGroups=[anybody]))
    address, far = cluster.address(server), cluster.address(distant)

    def fetch(site, of, group):
        script = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {of} 80 | tail -1 | grep . || echo nothing"
        arn = inhabitants.run(site, 1, "sh", "-c", script, securityGroups=[group])
        cluster.until(arn, "STOPPED")
        return cluster.lines(arn)[-1]

    member = inhabitants.run(one, 1, "sleep", "600", securityGroups=[clients])
    stranger = inhabitants.run(one, 1, "sleep", "600")
    for arn in (member, stranger):
        cluster.until(arn, "RUNNING")
    wait_for("the peer's answer", lambda: fetch(one, address, clients) == "peer")
    said, passes = explained(one, member, f"{address}:80")
    assert passes and f"leads by {pcx} to eni-" in said and "its answers: route table" in said, said
    # Without the group nobody gets in, and from peer to peer nobody gets on.
    said, passes = explained(one, stranger, f"{address}:80")
    assert not passes and f"no ingress rule of {servers}" in said, said
    assert inhabitants.says(one, 1, f"nc -w 2 {address} 80 < /dev/null || echo nothing")[-1] == "nothing"
    assert fetch(one, far, clients) == "nothing"
    said, passes = explained(one, member, f"{distant['taskArn']}:80")
    assert not passes and "it has no public address" in said, said
    # Without a way back nobody is answered.
    ec2.delete_route(RouteTableId=other.main_table(), DestinationCidrBlock=one.block)
    wait_for("the answers' end", lambda: fetch(one, address, clients) == "nothing")
    said, passes = explained(one, member, f"{address}:80")
    assert not passes and "its answers: route table" in said and "has no route for it" in said, said
    ec2.create_route(RouteTableId=other.main_table(), DestinationCidrBlock=one.block, VpcPeeringConnectionId=pcx)
    wait_for("the way back", lambda: fetch(one, address, clients) == "peer")
    # The connection ends: its routes are blackholes, and what its rules say is stale.
    assert not ec2.describe_stale_security_groups(VpcId=other.vpc)["StaleSecurityGroupSet"]
    ec2.delete_vpc_peering_connection(VpcPeeringConnectionId=pcx)
    wait_for("the connection's end", lambda: fetch(one, address, clients) == "nothing")
    said, passes = explained(one, member, f"{server['taskArn']}:80")
    assert not passes and "a blackhole" in said, said
    stale = only(ec2.describe_stale_security_groups(VpcId=other.vpc)["StaleSecurityGroupSet"])
    assert stale["GroupId"] == servers
    assert only(only(stale["StaleIpPermissions"])["UserIdGroupPairs"])["PeeringStatus"] == "deleted"


def test_public_names_of_a_peer_lead_to_its_own_addresses_where_it_allows_it(sites, inhabitants):
    one, other, _ = sites
    ec2 = one.ec2
    for site in (one, other):
        ec2.modify_vpc_attribute(VpcId=site.vpc, EnableDnsHostnames={"Value": True})
    pcx = connect(one, other)
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=other.vpc)
    kept = ec2.allocate_address(Domain="vpc", TagSpecifications=other.tags("elastic-ip"))
    task = inhabitants.until_web(inhabitants.run(other, 0, "sleep", "600"))
    ec2.associate_address(AllocationId=kept["AllocationId"], NetworkInterfaceId=interface_of(other, task)["NetworkInterfaceId"])
    name = f"ec2-{kept['PublicIp'].replace('.', '-')}.eu-north-1.compute.amazonaws.com"
    ask = f"nslookup {name} 2>&1 | sed 1,2d | grep -E '^Address' || echo nobody"

    def answer():
        return inhabitants.says(one, 1, ask)[-1].split()[-1]

    assert answer() == kept["PublicIp"]
    ec2.modify_vpc_peering_connection_options(VpcPeeringConnectionId=pcx,
                                              AccepterPeeringConnectionOptions={"AllowDnsResolutionFromRemoteVpc": True})
    wait_for("the peer's name", lambda: answer() == inhabitants.cluster.address(task))
    refused(ec2.modify_vpc_peering_connection_options, "UnsupportedOperation", "ClassicLink", VpcPeeringConnectionId=pcx,
            RequesterPeeringConnectionOptions={"AllowEgressFromLocalClassicLinkToRemoteVpc": True})
