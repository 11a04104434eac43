"""Load balancers in VPCs of one's own, and services behind them whose tasks are there."""

import pytest

from conftest import wait_for
from services import only, refused
from test_load_balancers import Balancers, Load, fetch
from test_vpcs import Site


@pytest.fixture
def site(region):
    made = Site(region)
    yield made
    made.clean_up()


@pytest.fixture
def front(region, site):
    """Load balancers in the site, gone before it is."""
    made = Balancers(region, site.vpc)
    yield made
    made.clean_up()


@pytest.fixture
def public(site):
    """The site's way to the world, by which its first three subnets go."""
    gateway = site.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    site.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=site.vpc)
    out = site.table()
    site.ec2.create_route(RouteTableId=out, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    for subnet in site.subnets[:3]:
        site.ec2.associate_route_table(RouteTableId=out, SubnetId=subnet)
    return gateway


def zones_of(site, subnets):
    found = site.ec2.describe_subnets(SubnetIds=subnets)["Subnets"]
    return {each["SubnetId"]: each["AvailabilityZone"] for each in found}


def described(site, balancer):
    path = balancer["LoadBalancerArn"].split(":loadbalancer/")[1]
    named = [{"Name": "description", "Values": [f"ELB {path}"]}, {"Name": "vpc-id", "Values": [site.vpc]}]
    return site.ec2.describe_network_interfaces(Filters=named)["NetworkInterfaces"]


def test_a_balancer_stands_in_a_vpc_of_ones_own_and_holds_what_it_stands_on(site, front):
    refused(front.balancer, "InvalidSubnet", f"VPC {site.vpc} has no internet gateway")
    inside = front.balancer(Scheme="internal")
    assert not any("Association" in each for each in described(site, inside))
    gateway = site.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    site.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=site.vpc)
    group = site.ec2.create_security_group(GroupName=site.name, Description="web", VpcId=site.vpc)["GroupId"]
    balancer = front.balancer(SecurityGroups=[group])
    arn = balancer["LoadBalancerArn"]
    assert balancer["VpcId"] == site.vpc and balancer["SecurityGroups"] == [group]
    zones = {each["SubnetId"]: each["ZoneName"] for each in balancer["AvailabilityZones"]}
    assert zones == zones_of(site, site.subnets[:2])
    found = described(site, balancer)
    assert {each["SubnetId"] for each in found} == set(site.subnets[:2])
    assert all(each["PrivateIpAddress"].startswith("10.20.") and each["RequesterId"] == "amazon-elb" for each in found)
    assert len({each["Association"]["PublicIp"] for each in found}) == 2
    # Nothing of it goes while the balancer is there.
    refused(site.ec2.delete_subnet, "DependencyViolation", f"load balancer app/{balancer['LoadBalancerName']}",
            SubnetId=site.subnets[0])
    refused(site.ec2.delete_security_group, "DependencyViolation", GroupId=group)
    refused(site.ec2.detach_internet_gateway, "DependencyViolation", InternetGatewayId=gateway, VpcId=site.vpc)
    refused(site.ec2.delete_vpc, "DependencyViolation", VpcId=site.vpc)
    refused(site.ec2.delete_network_interface, "InvalidParameterValue",
            NetworkInterfaceId=found[0]["NetworkInterfaceId"])
    moved = front.elb.set_subnets(LoadBalancerArn=arn, Subnets=site.subnets[1:3])["AvailabilityZones"]
    assert {each["SubnetId"] for each in moved} == set(site.subnets[1:3])
    # What is taken away serves those who have come for a while.
    wait_for("the first subnet to be left", lambda: {
        each["SubnetId"] for each in described(site, balancer)} == set(site.subnets[1:3]), 60)
    front.elb.delete_load_balancer(LoadBalancerArn=arn)
    assert not described(site, balancer)
    site.ec2.delete_security_group(GroupId=group)
    site.ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=site.vpc)
    site.ec2.delete_internet_gateway(InternetGatewayId=gateway)


def test_balancers_groups_targets_and_tasks_are_of_one_vpc(site, front, services, public):
    default = Balancers(site.region)
    try:
        refused(front.balancer, "InvalidConfigurationRequest", "same VPC",
                Subnets=[site.subnets[0], default.subnets[1]])
        refused(front.balancer, "InvalidConfigurationRequest", "different networks", SecurityGroups=[
            only(site.ec2.describe_security_groups(Filters=[
                {"Name": "vpc-id", "Values": [default.vpc]}, {"Name": "group-name", "Values": ["default"]}])[
                    "SecurityGroups"])["GroupId"]])
        refused(front.group, "ValidationError", "is not found", VpcId="vpc-0123456789abcdef0")
        balancer, elsewhere = front.balancer()["LoadBalancerArn"], default.group()
        refused(front.listener, "InvalidConfigurationRequest", "is in a different VPC than load balancer",
                balancer=balancer, group=elsewhere)
        default.listener(default.balancer()["LoadBalancerArn"], elsewhere)
        definition = services.define(services.web("one", portMappings=[{"containerPort": 80}]))
        tied = {"containerName": "main", "containerPort": 80}
        network = {"awsvpcConfiguration": {"subnets": site.subnets[:2], "assignPublicIp": "ENABLED"}}
        refused(services.create, "InvalidParameterException", site.vpc, definition=definition,
                loadBalancers=[{"targetGroupArn": elsewhere, **tied}], networkConfiguration=network)
        group = front.group()
        front.listener(balancer, group)
        refused(services.create, "InvalidParameterException", site.vpc, definition=definition,
                loadBalancers=[{"targetGroupArn": group, **tied}])
        instances = front.group(TargetType="instance")
        refused(front.elb.register_targets, "InvalidTarget", TargetGroupArn=instances,
                Targets=[{"Id": "i-0123456789abcdef0"}])
        refused(front.elb.register_targets, "ValidationError", "outside the VPC", TargetGroupArn=group,
                Targets=[{"Id": "10.99.0.9"}])
        front.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": "10.20.0.200"}])
        health = only(front.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"])
        zone = zones_of(site, site.subnets[:1])[site.subnets[0]]
        assert health["Target"] == {"Id": "10.20.0.200", "Port": 80, "AvailabilityZone": zone}
    finally:
        default.clean_up()


class Asker:
    """Tasks that ask something in a subnet, and end."""

    def __init__(self, cluster):
        self.cluster = cluster

    def says(self, subnet, script):
        definition = self.cluster.define(self.cluster.container("sh", "-c", script))
        arn, = self.cluster.run(definition, networkConfiguration={"awsvpcConfiguration": {"subnets": [subnet]}})
        self.cluster.until(arn, "STOPPED")
        return self.cluster.lines(arn)

    def addresses(self, subnet, name):
        return self.says(subnet, f"nslookup -type=a {name} | grep '^Address: ' | cut -d' ' -f2 | sort")

    def until_named(self, subnet, name, addresses):
        """A name is answered with the addresses that serve, and a new balancer's come to that one after the other."""
        assert addresses, name
        wait_for(f"all addresses of {name}", lambda: self.addresses(subnet, name) == addresses, 60)


@pytest.fixture
def asker(cluster):
    return Asker(cluster)


def test_a_balancers_name_leads_to_it_from_where_it_is_asked_for(site, front, public, asker):
    default = Balancers(site.region)
    try:
        shared, inner, opened = default.balancer(), front.balancer(Scheme="internal"), front.balancer()
        addresses = {each["LoadBalancerName"]: described(site, each) for each in (inner, opened)}
        private = lambda balancer: sorted(
            each["PrivateIpAddress"] for each in addresses[balancer["LoadBalancerName"]])
        world = sorted(each["Association"]["PublicIp"] for each in addresses[opened["LoadBalancerName"]])
        path = shared["LoadBalancerArn"].split(":loadbalancer/")[1]
        found = site.ec2.describe_network_interfaces(Filters=[{"Name": "description", "Values": [f"ELB {path}"]}])
        own = sorted(each["PrivateIpAddress"] for each in found["NetworkInterfaces"])
        asker.until_named(site.subnets[0], inner["DNSName"], private(inner))
        asker.until_named(site.subnets[0], opened["DNSName"].upper(), private(opened))
        asker.until_named(default.subnets[0], opened["DNSName"], world)
        asker.until_named(default.subnets[0], shared["DNSName"], own)
        assert asker.addresses(site.subnets[0], shared["DNSName"]) == []
        assert asker.addresses(default.subnets[0], inner["DNSName"]) == []
    finally:
        default.clean_up()


def guarded(site, front):
    """A group that lets the world in at any port, and one that lets in at port 80 whoever has the first."""
    allow = site.ec2.authorize_security_group_ingress
    outer, inner = (site.ec2.create_security_group(GroupName=f"{site.name}-{name}", Description=name, VpcId=site.vpc)[
        "GroupId"] for name in ("outer", "inner"))
    allow(GroupId=outer, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    within = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{"GroupId": outer}]}]
    allow(GroupId=inner, IpPermissions=within)
    return outer, inner, lambda: site.ec2.revoke_security_group_ingress(GroupId=inner, IpPermissions=within)


def test_a_service_in_private_subnets_is_served_through_its_balancer_in_public_ones(site, front, public, services):
    outer, inner, forbid = guarded(site, front)
    made = front.balancer(SecurityGroups=[outer])
    balancer, group = made["LoadBalancerArn"], front.group(seconds=5)
    port = front.listener(balancer, group)["Port"]
    tied = [{"targetGroupArn": group, "containerName": "main", "containerPort": 80}]
    web = lambda text: services.define(services.web(text, portMappings=[{"containerPort": 80}]))
    network = {"awsvpcConfiguration": {"subnets": site.subnets[3:5], "securityGroups": [inner]}}
    name = services.create(web("one"), 2, loadBalancers=tied, networkConfiguration=network,
                           healthCheckGracePeriodSeconds=600)
    services.steady(name, 2)
    shown = front.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    addresses = {services.address(task) for task in services.tasks(name)}
    assert {each["Target"]["Id"] for each in shown} == addresses
    assert all(address.startswith("10.20.") for address in addresses)
    wait_for("the service", lambda: fetch(port) == (200, "one"))
    for each in described(site, made):
        address = each["Association"]["PublicIp"]
        wait_for(address, lambda: fetch(port, host=address) == (200, "one"))
    with Load(port) as load:
        wait_for("requests", lambda: load.count > 50)
        services.update(name, taskDefinition=web("two"))
        services.until_service("the deployment", name, lambda service: len(service["deployments"]) == 1
                               and service["deployments"][0]["rolloutState"] == "COMPLETED"
                               and service["runningCount"] == 2, 120)
        wait_for("the new text", lambda: fetch(port) == (200, "two"))
    assert not load.bad, (load.count, load.bad[:5])
    # It comes from its own interfaces, so that the tasks' group can tell it from others.
    forbid()
    wait_for("the end of what is let in", lambda: front.states(group) == ["unhealthy", "unhealthy"], 60)
    services.update(name, desiredCount=0)
    services.steady(name, 0)


def test_an_internal_balancer_is_asked_by_its_name_within_its_vpc(site, front, services, asker):
    default = Balancers(site.region)
    try:
        for balancers in (default, front):
            network = {"awsvpcConfiguration": {"subnets": balancers.subnets[:2]}}
            balancer, group = balancers.balancer(Scheme="internal"), balancers.group()
            port = balancers.listener(balancer["LoadBalancerArn"], group)["Port"]
            name = services.create(
                services.define(services.web("inside", portMappings=[{"containerPort": 80}])), 1,
                loadBalancers=[{"targetGroupArn": group, "containerName": "main", "containerPort": 80}],
                networkConfiguration=network)
            services.steady(name, 1)
            get = f"""
                address=$(nslookup -type=a {balancer['DNSName']} | grep '^Address: ' | tail -1); echo $address
                (printf 'GET / HTTP/1.0\\r\\n\\r\\n'; sleep 1) | nc -w 5 "${{address#Address: }}" {port} | tail -1"""
            assert asker.says(balancers.subnets[1], get)[1:] == ["inside"], balancers.vpc
            services.update(name, desiredCount=0)
            services.steady(name, 0)
    finally:
        default.clean_up()
