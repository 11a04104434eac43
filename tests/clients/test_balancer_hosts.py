"""Load balancers whose interfaces are on hosts that joined: spread over zones, moved when a host is lost."""

import os
import stat
import subprocess

import pytest

from conftest import wait_for
from hosts import CLONE_NEWNET, LIBC, PORT, SUBNET, Machine, eventually, fleet, join_zones
from services import only
from test_production import Load, fetch

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


class Own(Machine):
    def words(self):
        return [*super().words(), "--zone", "a"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("stands"), 3, Own) as (region, hosts):
        join_zones(region, hosts, "bcc")
        yield region, hosts


def mounts(machine):
    """The namespaces that are mounted on a host, by their files' names."""
    lines = machine.run("cat", "/proc/self/mountinfo").stdout.splitlines()
    return {path.rsplit("/", 1)[-1]: path for path in (line.split()[4] for line in lines) if "/netns/" in path}


def standing(machine):
    return {name.removeprefix("balancer.") for name in mounts(machine) if name.startswith("balancer.")}


class Stack:
    """A VPC with a subnet in each zone, a balancer in two of them, and a group behind it."""

    def __init__(self, region, zones="bc", scheme="internal"):
        self.region = region
        self.ecs, self.elb, self.ec2 = (region.client(name) for name in ("ecs", "elbv2", "ec2"))
        self.vpc = self.ec2.create_vpc(CidrBlock="10.40.0.0/16")["Vpc"]["VpcId"]
        self.ec2.modify_vpc_attribute(VpcId=self.vpc, EnableDnsHostnames={"Value": True})
        self.subnets = [self.ec2.create_subnet(
            VpcId=self.vpc, CidrBlock=f"10.40.{number}.0/24", AvailabilityZone=f"eu-north-1{zone}")["Subnet"]["SubnetId"]
            for number, zone in enumerate(zones)]
        self.balancer = only(self.elb.create_load_balancer(
            Name="inner", Scheme=scheme, Subnets=self.subnets)["LoadBalancers"])
        self.arn = self.balancer["LoadBalancerArn"]
        self.group = only(self.elb.create_target_group(
            Name="inner", Protocol="HTTP", Port=80, VpcId=self.vpc, TargetType="ip", HealthCheckIntervalSeconds=5,
            HealthCheckTimeoutSeconds=2)["TargetGroups"])["TargetGroupArn"]

    def interfaces(self):
        """Id and address by zone."""
        path = self.arn.split(":loadbalancer/")[1]
        found = self.ec2.describe_network_interfaces(Filters=[{"Name": "description", "Values": [f"ELB {path}"]}])
        return {each["AvailabilityZone"][-1]: (each["NetworkInterfaceId"], each["PrivateIpAddress"])
                for each in found["NetworkInterfaces"]}

    def define(self, name, command):
        return self.ecs.register_task_definition(
            family=name, networkMode="awsvpc", requiresCompatibilities=["EC2"], containerDefinitions=[{
                "name": "main", "image": f"{SUBNET}.1:{PORT}/box:1", "memory": 16, "stopTimeout": 2,
                "portMappings": [{"containerPort": 80}], "command": ["sh", "-c", command]}])["taskDefinition"]["taskDefinitionArn"]

    def web(self, text):
        return self.define("web", f"mkdir -p /tmp/www; echo {text} > /tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www")

    def network(self):
        return {"awsvpcConfiguration": {"subnets": self.subnets}}

    def serve(self, text, count, *hosts):
        names = ", ".join(host.name for host in hosts)
        self.ecs.create_service(
            cluster="web", serviceName="web", taskDefinition=self.web(text), desiredCount=count, launchType="EC2",
            networkConfiguration=self.network(),
            placementConstraints=[{"type": "memberOf", "expression": f"attribute:longshore.host-name in [{names}]"}],
            loadBalancers=[{"targetGroupArn": self.group, "containerName": "main", "containerPort": 80}])

    def healthy(self):
        shown = self.elb.describe_target_health(TargetGroupArn=self.group)["TargetHealthDescriptions"]
        return [each["TargetHealth"]["State"] for each in shown]

    def is_steady(self):
        service = only(self.ecs.describe_services(cluster="web", services=["web"])["services"])
        return len(service["deployments"]) == 1 and service["deployments"][0]["rolloutState"] == "COMPLETED"


class Client:
    """A task on a host, whose network whoever asks goes into."""

    def __init__(self, stack, host):
        self.host = host
        task = only(stack.ecs.run_task(
            cluster="web", taskDefinition=stack.define("client", "exec sleep 3600"), launchType="EC2",
            networkConfiguration=stack.network(),
            placementConstraints=[{"type": "memberOf", "expression": f"attribute:longshore.host-name == {host.name}"}])["tasks"])
        self.arn, id = task["taskArn"], task["taskArn"].rsplit("/", 1)[-1]
        wait_for("the client", lambda: id in mounts(host), 60)
        self.net = mounts(host)[id]

    def enter(self):
        with open(f"/proc/{self.host.holder.pid}/root{self.net}") as net:
            assert LIBC.setns(net.fileno(), CLONE_NEWNET) == 0

    def run(self, *words):
        return self.host.run("nsenter", f"--net={self.net}", *words, check=False).stdout

    def named(self, name):
        told = self.run("busybox", "nslookup", "-type=a", name, "10.40.0.2")
        return sorted(line.split()[-1] for line in told.splitlines() if line.startswith("Address: "))


def test_a_lost_hosts_interface_comes_back_elsewhere_while_the_other_address_goes_on(world):
    region, hosts = world
    stack = Stack(region)
    own = {zone: eni for zone, (eni, _) in stack.interfaces().items()}
    addresses = {zone: address for zone, (_, address) in stack.interfaces().items()}
    where = lambda zone: [host.name for host in (region, *hosts) if own[zone] in standing(host)]
    try:
        wait_for("both interfaces", lambda: where("b") == ["host1"] and where("c") in (["host2"], ["host3"]), 30)
        lost, kept = sorted(hosts[1:], key=lambda host: host.name != where("c")[0])
        client = Client(stack, hosts[0])
        stack.elb.create_listener(LoadBalancerArn=stack.arn, Protocol="HTTP", Port=80, DefaultActions=[
            {"Type": "forward", "TargetGroupArn": stack.group}])
        stack.serve("one", 2, hosts[0], kept)
        wait_for("two healthy targets", lambda: stack.healthy() == ["healthy"] * 2 and stack.is_steady(), 90)
        name = stack.balancer["DNSName"]
        wait_for("both addresses", lambda: client.named(name) == sorted(addresses.values()), 20)
        ask = lambda zone: client.run("curl", "-s", "-m", "3", "--noproxy", "*", f"http://{addresses[zone]}/").strip()
        assert (ask("b"), ask("c")) == ("one", "one")

        with Load(80, addresses["b"], client.enter, ("/",), tls=False) as load:
            wait_for("requests", lambda: load.asked > 20)
            lost.cut_off()
            # Where nothing waits for a process that is lost: the delay is 300 seconds.
            stack.ecs.update_service(cluster="web", service="web", taskDefinition=stack.web("two"))
            wait_for("the name without the lost address", lambda: client.named(name) == [addresses["b"]], 60)
            wait_for("the interface elsewhere", lambda: own["c"] in standing(kept), 60)
            wait_for("both addresses again", lambda: client.named(name) == sorted(addresses.values()), 60)
            eventually("the address itself", lambda: ask("c") != "", 20)
            wait_for("the deployment", stack.is_steady, 120)
        assert load.lost == [] and load.asked > 100, (load.asked, load.lost[:5])
        assert (ask("b"), ask("c")) == ("two", "two")

        lost.heal()
        wait_for("nothing on the host that was away", lambda: own["c"] not in standing(lost), 60)
        assert (ask("b"), ask("c")) == ("two", "two") and where("c") == [kept.name]

        # One that is drained is left once its address is forgotten.
        with Load(80, addresses["b"], client.enter, ("/",), tls=False) as load:
            region.longshore("node", "drain", kept.name)
            wait_for("the name without the address", lambda: client.named(name) == [addresses["b"]], 20)
            assert ask("c") == "two"
            wait_for("the interface on the third host", lambda: where("c") == [lost.name], 90)
            wait_for("both addresses once more", lambda: client.named(name) == sorted(addresses.values()), 60)
            wait_for("the service", lambda: stack.is_steady() and stack.healthy() == ["healthy"] * 2, 120)
        assert load.lost == [] and ask("c") == "two", (load.asked, load.lost[:5])
        region.longshore("node", "drain", kept.name, "--undo")
    except (AssertionError, pytest.fail.Exception):
        for host in hosts:
            print(host.name, standing(host), host.log("agent.log")[-2500:], host.log("data/balancer.log")[-2500:])
        print(region.log("region.log")[-5000:], stack.elb.describe_target_health(TargetGroupArn=stack.group))
        raise


def test_a_host_has_the_keys_of_what_is_shown_there_and_of_nothing_else(world, tmp_path):
    region, hosts = world
    elb, ec2, acm = (region.client(name) for name in ("elbv2", "ec2", "acm"))

    def imported(name):
        key, cert = tmp_path / f"{name}.key", tmp_path / f"{name}.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "7", "-keyout", str(key), "-out",
                        str(cert), "-subj", f"/CN={name}.example.com"], check=True, capture_output=True)
        arn = acm.import_certificate(Certificate=cert.read_bytes(), PrivateKey=key.read_bytes())["CertificateArn"]
        return arn, key.read_text().splitlines()[5]

    found = ec2.describe_subnets(Filters=[{"Name": "defaultForAz", "Values": ["true"]}])["Subnets"]
    by_zone = {each["AvailabilityZone"][-1]: each["SubnetId"] for each in found}
    made, lines = {}, {}
    for name, scheme, zones in (("there", "internal", "bc"), ("door", "internet-facing", "ab")):
        arn, lines[name] = imported(name)
        made[name] = only(elb.create_load_balancer(
            Name=name, Scheme=scheme, Subnets=[by_zone[zone] for zone in zones])["LoadBalancers"])["LoadBalancerArn"]
        elb.create_listener(
            LoadBalancerArn=made[name], Protocol="HTTPS", Port=8443, Certificates=[{"CertificateArn": arn}],
            DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200", "MessageBody": name}}])
    table = lambda host: host.folder / "data/balancer/table.json"
    has = lambda host, name: table(host).exists() and lines[name] in table(host).read_text()
    wait_for("what is shown where", lambda: [has(host, "there") for host in hosts].count(True) == 2 and has(hosts[0], "door"), 60)
    assert not any(has(host, "door") for host in hosts[1:]), "its other interface is on the region's own machine"
    wait_for("the region's own machine to have its own", lambda: has(region, "door"), 30)
    assert not has(region, "there")
    assert all(stat.S_IMODE(os.stat(table(host)).st_mode) == 0o600 for host in hosts if table(host).exists())
    # It is reached at the region's own address as before.
    wait_for("the door", lambda: region.pool.submit(fetch, 8443, "/", address="127.0.0.1").result()[:2] == (200, "door"), 20)
    for arn in made.values():
        elb.delete_load_balancer(LoadBalancerArn=arn)
    wait_for("nothing kept", lambda: not any(has(host, name) for host in (region, *hosts) for name in made), 30)
