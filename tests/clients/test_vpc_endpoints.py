"""VPC endpoints: tasks of subnets without any way out reach the region's services by them, by the services' own names."""

import json
import subprocess
import sys
import textwrap

import pytest

from conftest import wait_for
from services import only, process_of, refused
from test_vpcs import Inhabitants, Site

NAME = "logs.eu-north-1.amazonaws.com"


@pytest.fixture
def site(region):
    made = Site(region)
    made.ec2.modify_vpc_attribute(VpcId=made.vpc, EnableDnsHostnames={"Value": True})
    yield made
    made.clean_up()


@pytest.fixture
def inhabitants(site, cluster):
    made = Inhabitants(cluster)
    yield made
    made.clean_up()


def endpoint(site, service="logs", subnets=(0,), **more):
    more.setdefault("PrivateDnsEnabled", True)
    made = site.ec2.create_vpc_endpoint(
        VpcId=site.vpc, VpcEndpointType="Interface", ServiceName=f"com.amazonaws.eu-north-1.{service}",
        SubnetIds=[site.subnets[at] for at in subnets], **more)["VpcEndpoint"]
    assert made["State"] == "available"
    return made


def described(site, made):
    found = site.ec2.describe_network_interfaces(NetworkInterfaceIds=made["NetworkInterfaceIds"])
    return found["NetworkInterfaces"]


class Inside:
    """What an SDK does in a task's network, with the task's resolver: it has no endpoint set but Amazon's own names."""

    def __init__(self, region, arn):
        self.region, self.pid = region, process_of(arn)
        self.ca = json.loads((region.data_dir / "region.json").read_text())["authority"]

    def addresses(self, name):
        look = ["nsenter", "-t", str(self.pid), "-n", "-m", "nslookup", "-type=a", name]
        said = subprocess.run(look, capture_output=True, text=True, timeout=20).stdout
        return sorted(line.split(": ")[1] for line in said.splitlines() if line.startswith("Address: "))

    def call(self, service, expression, name):
        """What a call answers, or what it is refused with."""
        address = (self.addresses(name) or ["192.0.2.1"])[0]
        script = textwrap.dedent(f"""
            import boto3, botocore.config, botocore.exceptions, json, socket
            socket.getaddrinfo = lambda host, port, *more: [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ({address!r}, port))]
            config = botocore.config.Config(retries={{"max_attempts": 0}}, connect_timeout=3, inject_host_prefix=False)
            client = boto3.client({service!r}, region_name="eu-north-1", config=config, verify={self.ca!r},
                                  endpoint_url="https://{name}")
            try:
                print(json.dumps({expression}, default=str))
            except botocore.exceptions.BotoCoreError as error:
                print(json.dumps(type(error).__name__))
            except botocore.exceptions.ClientError as error:
                print(json.dumps([error.response["Error"]["Code"], error.response["Error"]["Message"]]))
            """)
        keys = {name: self.region.variables[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        done = subprocess.run(["nsenter", "-t", str(self.pid), "-n", sys.executable, "-c", script],
                              capture_output=True, text=True, timeout=60, env={**keys, "HOME": "/nonexistent"})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


GROUPS = ("sorted(each['logGroupName'] for page in client.get_paginator('describe_log_groups').paginate() "
          "for each in page['logGroups'])")


def test_a_task_without_any_way_out_reaches_a_service_by_its_own_name(region, site, inhabitants, cluster):
    group = site.ec2.create_security_group(GroupName=site.name, Description="endpoints", VpcId=site.vpc)["GroupId"]
    arn = inhabitants.run(site, 1, "sleep", "600")
    inhabitants.cluster.until(arn, "RUNNING")
    inside = Inside(region, arn)
    before = inside.addresses(NAME)
    made = endpoint(site, subnets=(0, 1), SecurityGroupIds=[group])
    interfaces = described(site, made)
    assert {each["InterfaceType"] for each in interfaces} == {"vpc_endpoint"}
    ours = sorted(each["PrivateIpAddress"] for each in interfaces)
    assert before != ours
    wait_for("the name", lambda: inside.addresses(NAME) == ours)
    assert inside.addresses(made["DnsEntries"][0]["DnsName"]) == ours
    # Its group lets nobody in yet.
    assert inside.call("logs", GROUPS, NAME) in ("ConnectTimeoutError", "EndpointConnectionError")
    site.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "10.20.0.0/16"}]}])
    wait_for("what is let in", lambda: isinstance(inside.call("logs", GROUPS, NAME), list))
    assert cluster.group in inside.call("logs", GROUPS, NAME)
    # It is of one service.
    code, why = inside.call("secretsmanager", "client.list_secrets()", NAME)
    assert code == "UnknownOperationException" and made["VpcEndpointId"] in why
    # What its policy does not allow is refused there, and nowhere else.
    policy = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "logs:Describe*", "Resource": "*"}]}
    site.ec2.modify_vpc_endpoint(VpcEndpointId=made["VpcEndpointId"], PolicyDocument=json.dumps(policy))
    assert cluster.group in inside.call("logs", GROUPS, NAME)
    create = f"client.create_log_group(logGroupName='{cluster.group}/more')"
    code, why = inside.call("logs", create, NAME)
    assert code == "AccessDeniedException" and "no VPC endpoint policy allows the logs:CreateLogGroup" in why
    cluster.logs.create_log_group(logGroupName=cluster.group + "/more")
    # Once it is gone its name is nobody's, and nobody answers.
    refused(site.ec2.delete_subnet, "DependencyViolation", SubnetId=site.subnets[0])
    assert not site.ec2.delete_vpc_endpoints(VpcEndpointIds=[made["VpcEndpointId"]])["Unsuccessful"]
    wait_for("the name's end", lambda: inside.addresses(NAME) != ours)


def test_endpoints_are_filtered_paged_tagged_and_changed(site):
    ec2 = site.ec2
    tags = [{"ResourceType": "vpc-endpoint", "Tags": [{"Key": "Name", "Value": site.name}]}]
    made = [endpoint(site, name, TagSpecifications=tags) for name in (
        "ecr.api", "ecr.dkr", "ecs", "ecs-agent", "ecs-telemetry", "kms", "secretsmanager", "ssm", "sts")]
    pages = list(ec2.get_paginator("describe_vpc_endpoints").paginate(
        Filters=site.mine(("tag:Name", site.name)), PaginationConfig={"PageSize": 5}))
    assert [len(page["VpcEndpoints"]) for page in pages] == [5, 4]
    assert {each["VpcEndpointId"] for page in pages for each in page["VpcEndpoints"]} == {
        each["VpcEndpointId"] for each in made}
    images = only(ec2.describe_vpc_endpoints(Filters=site.mine(("service-name", "*.ecr.dkr")))["VpcEndpoints"])
    assert images["DnsEntries"][-1]["DnsName"] == "*.dkr.ecr.eu-north-1.amazonaws.com"
    ec2.create_tags(Resources=[images["VpcEndpointId"]], Tags=[{"Key": "team", "Value": "images"}])
    assert only(ec2.describe_vpc_endpoints(Filters=site.mine(("tag:team", "images")))["VpcEndpoints"])
    ec2.modify_vpc_endpoint(VpcEndpointId=images["VpcEndpointId"], AddSubnetIds=[site.subnets[1]],
                            RemoveSubnetIds=[site.subnets[0]])
    moved = only(ec2.describe_vpc_endpoints(VpcEndpointIds=[images["VpcEndpointId"]])["VpcEndpoints"])
    assert moved["SubnetIds"] == [site.subnets[1]]
    refused(ec2.describe_vpc_endpoints, "InvalidVpcEndpointId.NotFound", VpcEndpointIds=["vpce-0123456789abcdef0"])
    refused(endpoint, "InvalidServiceName", "kinesis", site=site, service="kinesis")
    failed = only(ec2.delete_vpc_endpoints(VpcEndpointIds=["vpce-0123456789abcdef0"])["Unsuccessful"])
    assert failed["Error"]["Code"] == "InvalidVpcEndpoint.NotFound"
    named = ec2.describe_vpc_endpoint_services(ServiceNames=["com.amazonaws.eu-north-1.s3"])
    assert only(named["ServiceDetails"])["ServiceType"] == [{"ServiceType": "Gateway"}]
    table = site.table()
    gateway = ec2.create_vpc_endpoint(VpcId=site.vpc, ServiceName="com.amazonaws.eu-north-1.s3",
                                      RouteTableIds=[table])["VpcEndpoint"]
    listed = only(ec2.describe_prefix_lists(
        Filters=[{"Name": "prefix-list-name", "Values": ["com.amazonaws.eu-north-1.s3"]}])["PrefixLists"])
    routes = only(ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"])["Routes"]
    assert (listed["PrefixListId"], gateway["VpcEndpointId"]) in [
        (route.get("DestinationPrefixListId"), route.get("GatewayId")) for route in routes]
