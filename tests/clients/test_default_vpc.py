"""The default VPC as an account changes its own: subnets, ways out, network ACLs, and the whole of it away and back."""

import ipaddress
import json

import pytest

from conftest import unique, wait_for
from services import only, refused
from test_flow_logs import allow, records
from test_vpcs import Inhabitants, Site, answer_at, explained


@pytest.fixture(scope="module")
def region(start_region):
    """One of its own: what is changed here others rely on."""
    return start_region(name="default-vpc", image="box:1")


class Default:
    """The default VPC of the region's own account."""

    def __init__(self, region):
        self.region, self.ec2 = region, region.client("ec2")
        vpc = only(self.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"])
        self.vpc, self.block = vpc["VpcId"], ipaddress.ip_network(vpc["CidrBlock"])
        self.name = unique("d")
        self.subnets = [subnet["SubnetId"] for subnet in self.described() if subnet["DefaultForAz"]]
        table = only(self.ec2.describe_route_tables(Filters=self.mine(("association.main", "true")))["RouteTables"])
        self.main = table["RouteTableId"]
        self.gateway = next(route["GatewayId"] for route in table["Routes"] if route["DestinationCidrBlock"] == "0.0.0.0/0")

    def mine(self, *more):
        return [{"Name": "vpc-id", "Values": [self.vpc]}, *({"Name": name, "Values": [value]} for name, value in more)]

    def described(self):
        found = self.ec2.describe_subnets(Filters=self.mine())["Subnets"]
        return sorted(found, key=lambda subnet: ipaddress.ip_network(subnet["CidrBlock"]))

    def part(self, number):
        """The part of the VPC of a number, 16 times larger than a /24."""
        return str(list(self.block.subnets(new_prefix=20))[number])

    def main_routes(self):
        table = only(self.ec2.describe_route_tables(RouteTableIds=[self.main])["RouteTables"])
        return {route["DestinationCidrBlock"]: route["State"] for route in table["Routes"]}


@pytest.fixture
def default(region):
    return Default(region)


@pytest.fixture
def inhabitants(cluster):
    made = Inhabitants(cluster)
    yield made
    made.clean_up()


@pytest.fixture
def world(region, inhabitants):
    """A VPC beside it with a task that is reached by a public address: it stands for what is outside."""
    made = Site(region)
    ec2 = made.ec2
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=made.vpc)
    out = made.table()
    ec2.create_route(RouteTableId=out, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    ec2.associate_route_table(RouteTableId=out, SubnetId=made.subnets[0])
    web = ec2.create_security_group(GroupName=made.name, Description="web", VpcId=made.vpc)["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=web, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    arn = inhabitants.run(made, 0, "sh", "-c", "mkdir -p /tmp/w; echo world > /tmp/w/index.html; httpd -f -v -p 80 -h /tmp/w",
                          assignPublicIp="ENABLED", securityGroups=[web])
    task = inhabitants.until_web(arn)
    details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
    found = ec2.describe_network_interfaces(NetworkInterfaceIds=[details["networkInterfaceId"]])["NetworkInterfaces"]
    made.task, made.address = arn, only(found)["Association"]["PublicIp"]
    wait_for("the world", lambda: answer_at(made.address) == "world")
    yield made
    inhabitants.clean_up()
    made.clean_up()


def fetch(address):
    return f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80 2>/dev/null | tail -1 | grep . || echo nothing"


def test_the_main_table_of_the_default_vpc_says_whether_and_as_whom_its_tasks_get_out(default, world, inhabitants):
    ec2, cluster = default.ec2, inhabitants.cluster
    arn = inhabitants.start_web(default, 0, "inside", assignPublicIp="ENABLED")
    address = cluster.address(inhabitants.until_web(arn))
    ask = fetch(world.address)
    assert inhabitants.says(default, 0, ask) == ["world"]
    refused(ec2.detach_internet_gateway, "DependencyViolation", address, InternetGatewayId=default.gateway, VpcId=default.vpc)
    ec2.delete_route(RouteTableId=default.main, DestinationCidrBlock="0.0.0.0/0")
    try:
        assert inhabitants.says(default, 0, ask) == ["nothing"]
        assert answer_at(address) == "inside", "the host reaches its tasks"
        said, passes = explained(default, arn, f"{world.address}:80")
        assert not passes and "has no route for it" in said, said
        kept = ec2.allocate_address(Domain="vpc")
        nat = ec2.create_nat_gateway(SubnetId=default.subnets[1], AllocationId=kept["AllocationId"])["NatGateway"]["NatGatewayId"]
        ec2.create_route(RouteTableId=default.main, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
        assert inhabitants.says(default, 0, ask) == ["nothing"], "the gateway's own subnet leads nowhere but to itself"
        out = ec2.create_route_table(VpcId=default.vpc)["RouteTable"]["RouteTableId"]
        ec2.create_route(RouteTableId=out, DestinationCidrBlock="0.0.0.0/0", GatewayId=default.gateway)
        association = ec2.associate_route_table(RouteTableId=out, SubnetId=default.subnets[1])["AssociationId"]
        wait_for("the way by the gateway", lambda: inhabitants.says(default, 0, ask) == ["world"])
        wait_for("its address", lambda: any(kept["PublicIp"] in line for line in cluster.lines(world.task)))
        said, passes = explained(default, arn, f"{world.address}:80")
        assert passes and f"leads to {nat}, as {kept['PublicIp']}" in said, said
        ec2.disassociate_route_table(AssociationId=association)
        ec2.delete_nat_gateway(NatGatewayId=nat)
        assert default.main_routes()["0.0.0.0/0"] == "blackhole"
        ec2.delete_route_table(RouteTableId=out)
        ec2.release_address(AllocationId=kept["AllocationId"])
        ec2.delete_route(RouteTableId=default.main, DestinationCidrBlock="0.0.0.0/0")
    finally:
        ec2.create_route(RouteTableId=default.main, DestinationCidrBlock="0.0.0.0/0", GatewayId=default.gateway)
    wait_for("the way out again", lambda: inhabitants.says(default, 0, ask) == ["world"])


def test_a_network_acl_of_the_default_vpc_stops_other_tasks_and_not_the_host(default, inhabitants):
    ec2, cluster = default.ec2, inhabitants.cluster
    address = cluster.address(inhabitants.until_web(inhabitants.start_web(default, 0, "guarded")))
    asks = inhabitants.run(default, 1, "sleep", "600")
    cluster.until(asks, "RUNNING")
    wait_for("the web server", lambda: answer_at(address) == "guarded")
    assert inhabitants.says(default, 1, fetch(address)) == ["guarded"]
    before = only(ec2.describe_network_acls(
        Filters=default.mine(("association.subnet-id", default.subnets[0])))["NetworkAcls"])
    association = next(each["NetworkAclAssociationId"] for each in before["Associations"]
                       if each["SubnetId"] == default.subnets[0])
    acl = ec2.create_network_acl(VpcId=default.vpc)["NetworkAcl"]["NetworkAclId"]
    everything = {"NetworkAclId": acl, "Protocol": "-1", "CidrBlock": "0.0.0.0/0", "RuleAction": "allow", "RuleNumber": 100}
    for egress in (True, False):
        ec2.create_network_acl_entry(Egress=egress, **everything)
    ec2.create_network_acl_entry(NetworkAclId=acl, Egress=False, RuleNumber=50, RuleAction="deny", Protocol="6",
                                 PortRange={"From": 80, "To": 80}, CidrBlock=str(default.block))
    new = ec2.replace_network_acl_association(AssociationId=association, NetworkAclId=acl)["NewAssociationId"]
    try:
        wait_for("the entry", lambda: inhabitants.says(default, 1, fetch(address)) == ["nothing"])
        assert answer_at(address) == "guarded", "the host reaches it whatever entries say"
        said, passes = explained(default, asks, f"{address}:80")
        assert not passes and f"ingress entry 50 of {acl}" in said, said
        ec2.delete_network_acl_entry(NetworkAclId=acl, Egress=False, RuleNumber=50)
        wait_for("its end", lambda: inhabitants.says(default, 1, fetch(address)) == ["guarded"])
    finally:
        ec2.replace_network_acl_association(AssociationId=new, NetworkAclId=before["NetworkAclId"])
        ec2.delete_network_acl(NetworkAclId=acl)


def test_subnets_of_the_default_vpc_come_and_go_and_tasks_are_in_those_that_are_there(default, inhabitants):
    ec2, cluster = default.ec2, inhabitants.cluster
    refused(ec2.create_subnet, "InvalidSubnet.Conflict", VpcId=default.vpc, CidrBlock=default.part(0))
    own = ec2.create_subnet(VpcId=default.vpc, CidrBlock=default.part(5))["Subnet"]
    default.subnets.append(own["SubnetId"])
    address = cluster.address(inhabitants.until_web(inhabitants.start_web(default, 3, "new")))
    assert ipaddress.ip_address(address) in ipaddress.ip_network(default.part(5))
    wait_for("the web server", lambda: answer_at(address) == "new")
    assert inhabitants.says(default, 0, fetch(address)) == ["new"]
    refused(ec2.delete_subnet, "DependencyViolation", own["SubnetId"], SubnetId=own["SubnetId"])
    inhabitants.clean_up()
    wait_for("the interface's end", lambda: not ec2.describe_network_interfaces(
        Filters=[{"Name": "subnet-id", "Values": [own["SubnetId"]]}])["NetworkInterfaces"])
    ec2.delete_subnet(SubnetId=own["SubnetId"])
    gone = default.subnets[2]
    zone = only(ec2.describe_subnets(SubnetIds=[gone])["Subnets"])["AvailabilityZone"]
    ec2.delete_subnet(SubnetId=gone)
    refused(ec2.describe_subnets, "InvalidSubnetID.NotFound", gone, SubnetIds=[gone])
    definition = cluster.define(cluster.container("sleep", "1"))
    refused(cluster.ecs.run_task, "InvalidParameterException", gone, cluster=cluster.name, taskDefinition=definition,
            launchType="FARGATE", networkConfiguration={"awsvpcConfiguration": {"subnets": [gone]}})
    again = ec2.create_default_subnet(AvailabilityZone=zone)["Subnet"]
    assert (again["CidrBlock"], again["DefaultForAz"], again["MapPublicIpOnLaunch"]) == (default.part(2), True, True)
    refused(ec2.create_default_subnet, "DefaultSubnetAlreadyExistsInAvailabilityZone", AvailabilityZone=zone)


def test_attributes_and_dhcp_options_of_the_default_vpc_hold_for_its_tasks(default, inhabitants):
    ec2 = default.ec2
    own = "nslookup ip-$(hostname -i | tr . -).eu-north-1.compute.internal 2>&1 | grep -q 'Address.*'$(hostname -i) && echo named || echo nameless"
    assert inhabitants.says(default, 0, own) == ["named"]
    ec2.modify_vpc_attribute(VpcId=default.vpc, EnableDnsHostnames={"Value": False})
    assert inhabitants.says(default, 0, own) == ["nameless"]
    ec2.modify_vpc_attribute(VpcId=default.vpc, EnableDnsHostnames={"Value": True})
    assert inhabitants.says(default, 0, own) == ["named"]
    before = only(ec2.describe_vpcs(VpcIds=[default.vpc])["Vpcs"])["DhcpOptionsId"]
    options = ec2.create_dhcp_options(DhcpConfigurations=[
        {"Key": "domain-name", "Values": ["example.internal"]},
        {"Key": "domain-name-servers", "Values": ["AmazonProvidedDNS"]}])["DhcpOptions"]["DhcpOptionsId"]
    ec2.associate_dhcp_options(DhcpOptionsId=options, VpcId=default.vpc)
    assert "example.internal" in inhabitants.says(default, 0, "grep search /etc/resolv.conf")[0]
    refused(ec2.delete_dhcp_options, "DependencyViolation", DhcpOptionsId=options)
    ec2.associate_dhcp_options(DhcpOptionsId=before, VpcId=default.vpc)
    ec2.delete_dhcp_options(DhcpOptionsId=options)


def test_flow_logs_of_the_default_vpc_have_its_tasks_up_to_their_last_seconds(region, default, inhabitants):
    ec2, cluster, iam, group = default.ec2, inhabitants.cluster, region.client("iam"), f"/flows/{default.name}"
    role = iam.create_role(RoleName=default.name, AssumeRolePolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "vpc-flow-logs.amazonaws.com"}, "Action": "sts:AssumeRole"}]}))
    allow(iam, default.name, ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"])
    made = ec2.create_flow_logs(ResourceType="VPC", ResourceIds=[default.vpc], TrafficType="ALL", LogGroupName=group,
                                DeliverLogsPermissionArn=role["Role"]["Arn"])
    assert not made["Unsuccessful"]
    server = inhabitants.until_web(inhabitants.start_web(default, 0, "counted"))
    address = cluster.address(server)
    ended = inhabitants.run(default, 1, "sh", "-c", fetch(address))
    task = cluster.until(ended, "STOPPED")
    assert cluster.lines(ended) == ["counted"]
    details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
    said = wait_for("records of a task that is over", lambda: records(region, group, details["networkInterfaceId"]), 60)
    assert [details["privateIPv4Address"], address, "80", "6", "ACCEPT"] in [
        [each[3], each[4], each[6], each[7], each[12]] for each in said], said
    ec2.delete_flow_logs(FlowLogIds=made["FlowLogIds"])
    iam.delete_role_policy(RoleName=default.name, PolicyName="deliver")
    iam.delete_role(RoleName=default.name)


def test_the_default_vpc_is_deleted_and_made_again(default, cluster):
    ec2 = default.ec2
    refused(ec2.create_default_vpc, "DefaultVpcAlreadyExists")
    refused(ec2.delete_vpc, "DependencyViolation", VpcId=default.vpc)
    wait_for("no interface", lambda: not ec2.describe_network_interfaces(Filters=default.mine())["NetworkInterfaces"])
    for subnet in default.described():
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.detach_internet_gateway(InternetGatewayId=default.gateway, VpcId=default.vpc)
    ec2.delete_internet_gateway(InternetGatewayId=default.gateway)
    ec2.delete_vpc(VpcId=default.vpc)
    refused(ec2.describe_vpcs, "InvalidVpcID.NotFound", default.vpc, VpcIds=[default.vpc])
    refused(ec2.create_default_subnet, "DefaultVpcDoesNotExist", AvailabilityZone="eu-north-1a")
    refused(ec2.create_security_group, "VPCIdNotSpecified", GroupName="web", Description="web")
    made = ec2.create_default_vpc()["Vpc"]
    assert made["IsDefault"] and made["CidrBlock"] == str(default.block) and made["VpcId"] != default.vpc
    again = Default(default.region)
    assert len(again.subnets) == 3 and again.main_routes()["0.0.0.0/0"] == "active"
    cluster.subnets = again.subnets
    lines, _ = cluster.output("sh", "-c", "echo here")
    assert lines == ["here"]
