"""VPCs and what they are made of, through boto3: made, filtered, paged, retried, refused and unmade."""

import urllib.request

import pytest

from conftest import unique, wait_for
from services import only, refused
from test_task_roles import make_role


class Site:
    """A VPC with a public and a private subnet, and what is taken down again after a test."""

    def __init__(self, region):
        self.region, self.ec2 = region, region.client("ec2")
        self.name = unique("site")
        self.vpc = self.ec2.create_vpc(CidrBlock="10.20.0.0/16", TagSpecifications=self.tags("vpc"))["Vpc"]["VpcId"]
        self.subnets = [
            self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.20.{number}.0/24",
                                   TagSpecifications=self.tags("subnet"))["Subnet"]["SubnetId"]
            for number in range(7)]

    def tags(self, kind):
        return [{"ResourceType": kind, "Tags": [{"Key": "Name", "Value": self.name}]}]

    def mine(self, *more):
        return [{"Name": "vpc-id", "Values": [self.vpc]},
                *({"Name": name, "Values": [value]} for name, value in more)]

    def table(self):
        made = self.ec2.create_route_table(VpcId=self.vpc, TagSpecifications=self.tags("route-table"))
        return made["RouteTable"]["RouteTableId"]

    def clean_up(self):
        ec2 = self.ec2
        if endpoints := ec2.describe_vpc_endpoints(Filters=self.mine())["VpcEndpoints"]:
            ec2.delete_vpc_endpoints(VpcEndpointIds=[each["VpcEndpointId"] for each in endpoints])
        for nat in ec2.describe_nat_gateways(Filter=self.mine(("state", "available")))["NatGateways"]:
            ec2.delete_nat_gateway(NatGatewayId=nat["NatGatewayId"])
        # Those of tasks and gateways go with them.
        managed = self.mine(("requester-managed", "true"))
        wait_for("the interfaces' end", lambda: not ec2.describe_network_interfaces(Filters=managed)["NetworkInterfaces"])
        for interface in ec2.describe_network_interfaces(Filters=self.mine())["NetworkInterfaces"]:
            ec2.delete_network_interface(NetworkInterfaceId=interface["NetworkInterfaceId"])
        for address in ec2.describe_addresses(Filters=[{"Name": "tag:Name", "Values": [self.name]}])["Addresses"]:
            ec2.release_address(AllocationId=address["AllocationId"])
        for subnet in ec2.describe_subnets(Filters=self.mine())["Subnets"]:
            ec2.delete_subnet(SubnetId=subnet["SubnetId"])
        for table in ec2.describe_route_tables(Filters=self.mine())["RouteTables"]:
            if not any(each["Main"] for each in table["Associations"]):
                ec2.delete_route_table(RouteTableId=table["RouteTableId"])
        attached = [{"Name": "attachment.vpc-id", "Values": [self.vpc]}]
        for gateway in ec2.describe_internet_gateways(Filters=attached)["InternetGateways"]:
            ec2.detach_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"], VpcId=self.vpc)
            ec2.delete_internet_gateway(InternetGatewayId=gateway["InternetGatewayId"])
        for group in ec2.describe_security_groups(Filters=self.mine())["SecurityGroups"]:
            if group["GroupName"] != "default":
                ec2.delete_security_group(GroupId=group["GroupId"])
        ec2.delete_vpc(VpcId=self.vpc)


@pytest.fixture
def site(region):
    made = Site(region)
    yield made
    made.clean_up()


def test_a_vpc_of_ones_own_is_made_beside_the_default_one(site):
    ec2 = site.ec2
    ec2.get_waiter("vpc_available").wait(VpcIds=[site.vpc])
    ec2.get_waiter("subnet_available").wait(SubnetIds=site.subnets)
    vpc = only(ec2.describe_vpcs(Filters=[{"Name": "tag:Name", "Values": [site.name]}])["Vpcs"])
    assert (vpc["VpcId"], vpc["IsDefault"], vpc["CidrBlock"]) == (site.vpc, False, "10.20.0.0/16")
    default = only(ec2.describe_vpcs(Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"])
    assert vpc["DhcpOptionsId"] == default["DhcpOptionsId"]
    for name, expected in [("enableDnsSupport", True), ("enableDnsHostnames", False)]:
        found = ec2.describe_vpc_attribute(VpcId=site.vpc, Attribute=name)
        assert found[name[0].upper() + name[1:]]["Value"] is expected
    ec2.modify_vpc_attribute(VpcId=site.vpc, EnableDnsHostnames={"Value": True})
    found = ec2.describe_vpc_attribute(VpcId=site.vpc, Attribute="enableDnsHostnames")
    assert found["EnableDnsHostnames"]["Value"] is True
    zones = {subnet["AvailabilityZone"] for subnet in ec2.describe_subnets(SubnetIds=site.subnets)["Subnets"]}
    assert len(zones) == 3
    group = only(ec2.describe_security_groups(Filters=site.mine())["SecurityGroups"])
    assert group["GroupName"] == "default"
    # A rule that is not there is an error outside the default VPC, and nothing is revoked.
    refused(ec2.revoke_security_group_ingress, "InvalidPermission.NotFound", GroupId=group["GroupId"], IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}])
    twin = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    ec2.create_subnet(VpcId=twin, CidrBlock="10.20.0.0/24")
    only(ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [twin]}])["Subnets"])
    refused(ec2.delete_vpc, "DependencyViolation", "subnet-", VpcId=twin)
    ec2.delete_subnet(SubnetId=only(ec2.describe_subnets(
        Filters=[{"Name": "vpc-id", "Values": [twin]}])["Subnets"])["SubnetId"])
    ec2.delete_vpc(VpcId=twin)
    refused(ec2.describe_vpcs, "InvalidVpcID.NotFound", twin, VpcIds=[twin])


def test_subnets_come_in_pages_and_by_wildcards(site):
    ec2 = site.ec2
    pages = list(ec2.get_paginator("describe_subnets").paginate(
        Filters=site.mine(), PaginationConfig={"PageSize": 5}))
    assert [len(page["Subnets"]) for page in pages] == [5, 2]
    seen = [subnet["SubnetId"] for page in pages for subnet in page["Subnets"]]
    assert sorted(seen) == sorted(site.subnets)
    found = ec2.describe_subnets(Filters=site.mine(("cidr-block", "10.20.?.0/24"), ("tag:Name", site.name[:-2] + "*")))
    assert len(found["Subnets"]) == 7
    found = ec2.describe_subnets(Filters=site.mine(("cidrBlock", "10.20.1.0/24"), ("defaultForAz", "false")))
    assert len(found["Subnets"]) == 1
    refused(ec2.describe_subnets, "InvalidParameterValue", "colour", Filters=site.mine(("colour", "red")))
    refused(ec2.create_subnet, "DryRunOperation", VpcId=site.vpc, CidrBlock="10.20.100.0/24", DryRun=True)
    refused(ec2.create_subnet, "InvalidSubnet.Conflict", VpcId=site.vpc, CidrBlock="10.20.1.0/25")
    assert len(ec2.describe_subnets(Filters=site.mine())["Subnets"]) == 7


def test_a_way_out_by_a_gateway_and_by_nat(site):
    ec2, (public, private, *_) = site.ec2, site.subnets
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    out, inside = site.table(), site.table()
    refused(ec2.create_route, "InvalidParameterValue", "belong to different networks",
            RouteTableId=out, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=site.vpc)
    ec2.create_route(RouteTableId=out, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    ec2.associate_route_table(RouteTableId=out, SubnetId=public)
    ec2.associate_route_table(RouteTableId=inside, SubnetId=private)
    address = ec2.allocate_address(Domain="vpc", TagSpecifications=site.tags("elastic-ip"))
    nat = ec2.create_nat_gateway(SubnetId=public, AllocationId=address["AllocationId"], ClientToken=site.name)
    again = ec2.create_nat_gateway(SubnetId=public, AllocationId=address["AllocationId"], ClientToken=site.name)
    nat = nat["NatGateway"]["NatGatewayId"]
    assert again["NatGateway"]["NatGatewayId"] == nat
    refused(ec2.create_nat_gateway, "IdempotentParameterMismatch", SubnetId=private,
            AllocationId=address["AllocationId"], ClientToken=site.name)
    ec2.get_waiter("nat_gateway_available").wait(NatGatewayIds=[nat])
    ec2.create_route(RouteTableId=inside, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    table = only(ec2.describe_route_tables(
        Filters=[{"Name": "association.subnet-id", "Values": [private]}])["RouteTables"])
    assert [(route.get("NatGatewayId"), route["State"]) for route in table["Routes"]] == [
        (None, "active"), (nat, "active")]
    held = only(ec2.describe_addresses(AllocationIds=[address["AllocationId"]])["Addresses"])
    interface = only(ec2.describe_network_interfaces(Filters=site.mine())["NetworkInterfaces"])
    assert held["NetworkInterfaceId"] == interface["NetworkInterfaceId"]
    assert interface["Description"] == f"Interface for NAT Gateway {nat}"
    refused(ec2.detach_internet_gateway, "DependencyViolation", address["PublicIp"],
            InternetGatewayId=gateway, VpcId=site.vpc)
    ec2.delete_nat_gateway(NatGatewayId=nat)
    ec2.get_waiter("nat_gateway_deleted").wait(NatGatewayIds=[nat])
    table = only(ec2.describe_route_tables(RouteTableIds=[inside])["RouteTables"])
    assert table["Routes"][1]["State"] == "blackhole"


@pytest.fixture
def twin(region):
    made = Site(region)
    yield made
    made.clean_up()


class Inhabitants:
    """Tasks in sites, stopped before these are unmade."""

    def __init__(self, cluster):
        self.cluster, self.arns = cluster, []

    def run(self, site, subnet, *command, role=None, **more):
        definition = self.cluster.define(self.cluster.container(*command, stopTimeout=2), **({"taskRoleArn": role} if role else {}))
        arn, = self.cluster.run(definition, networkConfiguration={"awsvpcConfiguration": {
            "subnets": [site.subnets[subnet]], **more}})
        self.arns.append(arn)
        return arn

    def web(self, site, subnet, text, **more):
        """Answers `text`; its address."""
        return self.cluster.address(self.until_web(self.start_web(site, subnet, text, **more)))

    def start_web(self, site, subnet, text, **more):
        return self.run(site, subnet, "sh", "-c",
                        f"mkdir -p /tmp/w; echo {text} > /tmp/w/index.html; httpd -f -p 80 -h /tmp/w", **more)

    def until_web(self, arn):
        return self.cluster.until(arn, "RUNNING")

    def says(self, site, subnet, script):
        arn = self.run(site, subnet, "sh", "-c", script)
        self.cluster.until(arn, "STOPPED")
        return self.cluster.lines(arn)

    def clean_up(self):
        for arn in self.arns:
            self.cluster.ecs.stop_task(cluster=self.cluster.name, task=arn)
        for arn in self.arns:
            self.cluster.until(arn, "STOPPED")


@pytest.fixture
def inhabitants(site, twin, cluster):
    made = Inhabitants(cluster)
    yield made
    made.clean_up()


def explained(site, one, other):
    """What `longshore net explain` says of a connection, and whether it is let through."""
    said = site.region.run("net", "explain", "--from", one, "--to", other).stdout
    return said, said.endswith("it is let through\n")


def test_tasks_of_a_vpc_reach_each_other_and_those_of_another_with_the_same_addresses_do_not(site, twin, inhabitants):
    server = inhabitants.until_web(inhabitants.start_web(site, 0, "ours"))
    address = inhabitants.cluster.address(server)
    fetch = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80 | tail -1 | grep . || echo nothing"
    assert inhabitants.says(site, 1, fetch) == ["ours"]
    assert inhabitants.says(twin, 1, fetch)[-1] == "nothing"
    # What explains it is asked the same, with an address that both VPCs have.
    near, far = inhabitants.run(site, 1, "sleep", "600"), inhabitants.run(twin, 1, "sleep", "600")
    for arn in (near, far):
        inhabitants.cluster.until(arn, "RUNNING")
    said, passes = explained(site, near, f"{address}:80")
    assert passes and "the local route leads to eni-" in said and "entry 100 of acl-" in said, said
    said, passes = explained(site, far, f"{address}:80")
    assert not passes and "no interface has the address" in said, said
    said, passes = explained(site, far, f"{server['taskArn']}:80")
    assert not passes and "it has no public address" in said, said
    said, passes = explained(site, near, "192.0.2.1:443")
    assert not passes and "has no route for it" in said, said
    # In use by a task, nothing of it goes.
    refused(site.ec2.delete_subnet, "DependencyViolation", site.subnets[0], SubnetId=site.subnets[0])
    # A rule that is taken away holds at once, for tasks that run too.
    group, = [each["GroupId"] for each in site.ec2.describe_security_groups(Filters=site.mine())["SecurityGroups"]]
    rules = site.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    site.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rules)
    wait_for("the rule's end", lambda: inhabitants.says(site, 1, fetch)[-1] == "nothing")
    said, passes = explained(site, near, f"{address}:80")
    assert not passes and f"no ingress rule of {group}" in said, said


def test_tasks_read_their_own_metadata_there_and_nobody_reads_it_from_another_vpc(site, twin, inhabitants):
    ask = """printf "GET $path HTTP/1.0\\r\\n\\r\\n" | nc -w 3 169.254.170.2 80 | tail -1 | cut -c1-60; echo"""
    own = "path=${ECS_CONTAINER_METADATA_URI_V4#http://169.254.170.2}/task; echo $path; " + ask
    arn = inhabitants.run(site, 0, "sh", "-c", own + "; sleep 600")
    inhabitants.cluster.until(arn, "RUNNING")
    path, said, *_ = wait_for("its metadata", lambda: (lines := inhabitants.cluster.lines(arn)) and len(lines) > 1 and lines)
    assert said.startswith('{"AvailabilityZone"') or '"Cluster"' in said, said
    # Who knows the path is told nothing, neither in another VPC nor in the same one.
    for place in (twin, site):
        assert "unable to get" in inhabitants.says(place, 0, f"path={path}; {ask}")[0]
    # Version 2 tells them by their addresses, which the other VPC has too.
    name = """wget -qO- http://169.254.170.2/v2/metadata | tr , '\\n' | grep TaskARN | cut -d'"' -f4; sleep 600"""
    role = make_role(site.region)
    credentials = "wget -qO- http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI | grep -o '\"RoleArn\":\"[^\"]*\"'; "
    for place in (site, site, twin):
        other = inhabitants.run(place, 0, "sh", "-c", credentials + name, role=role)
        inhabitants.cluster.until(other, "RUNNING")
        said = wait_for("who it is", lambda: (lines := inhabitants.cluster.lines(other)) and len(lines) > 1 and lines)
        assert said == [f'"RoleArn":"{role}"', other]


def test_a_task_without_any_way_out_reaches_the_region_itself_and_no_endpoint_is_needed(site, inhabitants):
    ec2 = site.ec2
    closed = ec2.create_security_group(GroupName=site.name, Description="closed", VpcId=site.vpc)["GroupId"]
    rules = only(ec2.describe_security_groups(GroupIds=[closed])["SecurityGroups"])["IpPermissionsEgress"]
    ec2.revoke_security_group_egress(GroupId=closed, IpPermissions=rules)
    # A client that has nothing more to say still waits for the answer.
    ask = ('host=${AWS_ENDPOINT_URL#http://}; (printf "GET / HTTP/1.0\\r\\n\\r\\n"; sleep 1) | nc -w 3 ${host%:*} ${host#*:} '
           '| head -1 | grep HTTP || echo nothing; nc -w 1 192.0.2.1 80 < /dev/null 2>/dev/null || echo no way')
    arn = inhabitants.run(site, 0, "sh", "-c", ask, securityGroups=[closed])
    inhabitants.cluster.until(arn, "STOPPED")
    region, world = inhabitants.cluster.lines(arn)
    assert region.startswith("HTTP/1") and world == "no way"


def answer_at(address):
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=2) as answer:
            return answer.read().decode().strip()
    except OSError:
        return None


def interface_of(site, task):
    """As scripts find a task's public address: its attachment says the interface, and EC2 the rest."""
    details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
    found = site.ec2.describe_network_interfaces(NetworkInterfaceIds=[details["networkInterfaceId"]])
    return only(found["NetworkInterfaces"])


def test_interfaces_have_names_where_their_vpc_says_so(site, inhabitants, cluster):
    ec2 = site.ec2
    kept = ec2.allocate_address(Domain="vpc", TagSpecifications=site.tags("elastic-ip"))
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=site.vpc)
    arn = inhabitants.run(site, 0, "sleep", "600")
    address = inhabitants.cluster.address(task := inhabitants.until_web(arn))
    ec2.associate_address(AllocationId=kept["AllocationId"], NetworkInterfaceId=interface_of(site, task)["NetworkInterfaceId"])
    private = f"ip-{address.replace('.', '-')}.eu-north-1.compute.internal"
    public = f"ec2-{kept['PublicIp'].replace('.', '-')}.eu-north-1.compute.amazonaws.com"
    ask = f"for name in {private} {public} {address}; do nslookup $name 2>&1 | sed 1,2d | grep -E '^Address|name =' || echo nobody; done"

    def answers():
        return [line.split()[-1] for line in inhabitants.says(site, 1, ask)]

    assert answers() == ["nobody"] * 3, "a VPC that is made has no names"
    ec2.modify_vpc_attribute(VpcId=site.vpc, EnableDnsHostnames={"Value": True})
    wait_for("names", lambda: answers() == [address, address, private])
    shown = interface_of(site, task)
    assert (shown["PrivateDnsName"], shown["Association"]["PublicDnsName"]) == (private, public)
    # In the default VPC they have names from the first.
    own = "echo $(hostname -i) $(nslookup ip-$(hostname -i | tr . -).eu-north-1.compute.internal 2>&1 | sed 1,2d | grep ^Address)"
    arn, = cluster.run(cluster.define(cluster.container("sh", "-c", own)))
    cluster.until(arn, "STOPPED")
    first, *_, last = cluster.lines(arn)[0].split()
    assert first == last


def test_a_task_with_a_public_address_is_reached_where_route_and_group_say_so(site, inhabitants):
    ec2, (public, _, *_) = site.ec2, site.subnets
    ec2.modify_vpc_attribute(VpcId=site.vpc, EnableDnsHostnames={"Value": True})
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=site.vpc)
    out = site.table()
    ec2.create_route(RouteTableId=out, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    ec2.associate_route_table(RouteTableId=out, SubnetId=public)
    web = ec2.create_security_group(GroupName=site.name, Description="web", VpcId=site.vpc)["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=web, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    seen = {"assignPublicIp": "ENABLED", "securityGroups": [web]}
    started = [inhabitants.start_web(site, 0, "open", **seen), inhabitants.start_web(site, 1, "routeless", **seen),
               inhabitants.start_web(site, 0, "guarded", assignPublicIp="ENABLED"),
               inhabitants.start_web(site, 0, "hidden", securityGroups=[web])]
    tasks = [inhabitants.until_web(arn) for arn in started]
    interfaces = [interface_of(site, task) for task in tasks]
    addresses = [each["Association"]["PublicIp"] for each in interfaces[:3]]
    assert len(set(addresses)) == 3 and all(address.startswith("198.18.") for address in addresses)
    assert "Association" not in interfaces[3]
    first = interfaces[0]["Association"]
    assert first["IpOwnerId"] == "amazon" and "AllocationId" not in first
    assert first["PublicDnsName"] == f"ec2-{addresses[0].replace('.', '-')}.eu-north-1.compute.amazonaws.com"
    found = ec2.describe_network_interfaces(Filters=[{"Name": "association.public-ip", "Values": addresses[:1]}])
    assert only(found["NetworkInterfaces"])["NetworkInterfaceId"] == interfaces[0]["NetworkInterfaceId"]
    wait_for("the open one", lambda: answer_at(addresses[0]) == "open")
    assert answer_at(addresses[1]) is None, "its subnet has no route"
    assert answer_at(addresses[2]) is None, "its group lets nobody in"
    for target, why in [(addresses[0], f"leads to the internet gateway, as {addresses[0]}"), (addresses[1], "has no route for it"),
                        (addresses[2], "no ingress rule of"), (interfaces[3]["NetworkInterfaceId"], "it has no public address")]:
        said, passes = explained(site, "192.0.2.7", f"{target}:80")
        assert why in said and passes == (target == addresses[0]), said
    refused(ec2.detach_internet_gateway, "DependencyViolation", addresses[0], InternetGatewayId=gateway, VpcId=site.vpc)

    # An address that is kept takes the place of one that is not, for as long as it is there.
    kept = ec2.allocate_address(Domain="vpc", TagSpecifications=site.tags("elastic-ip"))
    on = interfaces[0]["NetworkInterfaceId"]
    association = ec2.associate_address(AllocationId=kept["AllocationId"], NetworkInterfaceId=on)["AssociationId"]
    wait_for("the kept address", lambda: answer_at(kept["PublicIp"]) == "open")
    shown = interface_of(site, tasks[0])["Association"]
    assert (shown["PublicIp"], shown["AllocationId"], shown["IpOwnerId"]) == (
        kept["PublicIp"], kept["AllocationId"], interfaces[0]["OwnerId"])
    assert answer_at(addresses[0]) is None
    ec2.disassociate_address(AssociationId=association)
    wait_for("its own address again", lambda: answer_at(addresses[0]) == "open")
    assert answer_at(kept["PublicIp"]) is None
    # Nor does a task without an address of its own need one.
    bare = interfaces[3]["NetworkInterfaceId"]
    ec2.associate_address(AllocationId=kept["AllocationId"], NetworkInterfaceId=bare)
    wait_for("the hidden one", lambda: answer_at(kept["PublicIp"]) == "hidden")

    inhabitants.clean_up()
    held = only(ec2.describe_addresses(AllocationIds=[kept["AllocationId"]])["Addresses"])
    assert "AssociationId" not in held and "NetworkInterfaceId" not in held
    # All that was public is given back.
    ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=site.vpc)
    ec2.delete_internet_gateway(InternetGatewayId=gateway)
