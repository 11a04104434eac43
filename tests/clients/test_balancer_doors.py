"""Internet-facing load balancers are reached at the own addresses of the hosts that have an interface of them."""

import os
import signal
import struct
import sys

import pytest

from conftest import wait_for
from hosts import PORT, SUBNET, Host, Machine, eventually, fleet, join_zones
from services import only

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

DNS = 5300
ASK = """
import socket, sys
name, server, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
question = bytes([7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]) + b"".join(
    bytes([len(part)]) + part.encode() for part in name.split(".")) + bytes([0, 0, 1, 0, 1])
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.settimeout(3)
asked.sendto(question, (server, port))
print(asked.recv(2048).hex())
"""
ECHO = """
import socket, sys
checked = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=100)
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.bind(("0.0.0.0", int(sys.argv[1])))
while True:
    text, who = asked.recvfrom(100)
    asked.sendto(text, who)
"""
SEND = """
import socket, sys
sent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sent.settimeout(1)
sent.sendto(b"hello", (sys.argv[1], int(sys.argv[2])))
print(sent.recv(100).decode())
"""


class Own(Machine):
    def words(self):
        return [*super().words(), "--zone", "a", "--dns-listen", f"{SUBNET}.1:{DNS}"]


class Outsider(Host):
    """A machine that is in no cluster, and on the network of those that are."""

    def fetch(self, address, port, scheme="http"):
        done = self.run("curl", "-sk", "-m", "3", "--noproxy", "*", f"{scheme}://{address}:{port}/", check=False)
        return done.stdout.strip()

    def named(self, name):
        """The addresses that the region's nameserver has, or its code."""
        done = self.run(sys.executable, "-c", ASK, name, f"{SUBNET}.1", DNS, check=False)
        if done.returncode:
            return done.stderr[-200:]
        answer = bytes.fromhex(done.stdout.strip())
        count, = struct.unpack(">H", answer[6:8])
        if answer[3] & 15:
            return answer[3] & 15
        records = answer[12 + len(name) + 2 + 4:]
        return sorted(".".join(map(str, records[16 * at + 12:16 * at + 16])) for at in range(count))

    def echoed(self, address, port):
        return self.run(sys.executable, "-c", SEND, address, port, check=False).stdout.strip()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doors")
    with fleet(folder, 2, Own) as (region, hosts):
        join_zones(region, hosts, "bc")
        outsider = Outsider(folder / "outside", region, 9)
        try:
            yield region, hosts, outsider
        finally:
            outsider.end()
            outsider.holder.kill()
            outsider.holder.wait()


class Door:
    """An internet-facing balancer with an interface on each machine."""

    def __init__(self, region, name, kind="application"):
        self.region = region
        self.elb, self.ec2 = region.client("elbv2"), region.client("ec2")
        found = self.ec2.describe_subnets(Filters=[{"Name": "defaultForAz", "Values": ["true"]}])["Subnets"]
        by_zone = {each["AvailabilityZone"][-1]: each for each in found}
        self.vpc = by_zone["a"]["VpcId"]
        self.subnets = [by_zone[zone]["SubnetId"] for zone in "abc"]
        made = only(self.elb.create_load_balancer(Name=name, Type=kind, Subnets=self.subnets)["LoadBalancers"])
        self.arn, self.name = made["LoadBalancerArn"], made["DNSName"]
        self.path = self.arn.split(":loadbalancer/")[1]

    def listen(self, port, **more):
        action = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200", "MessageBody": f"door {port}"}}
        return only(self.elb.create_listener(**{
            "LoadBalancerArn": self.arn, "Protocol": "HTTP", "Port": port, "DefaultActions": [action], **more})["Listeners"])["ListenerArn"]

    def group(self, name, *ranges):
        made = self.ec2.create_security_group(GroupName=name, Description=name, VpcId=self.vpc)["GroupId"]
        self.ec2.authorize_security_group_ingress(GroupId=made, IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 65535, "IpRanges": [{"CidrIp": each} for each in ranges]}])
        return made

    def shown(self, host):
        """What `ps` says of a host: its address by the listener's port."""
        lines = [line.split() for line in self.region.longshore("ps").stdout.splitlines()]
        own = [line for line in lines if line[:1] == [self.path] and line[3:4] == [host.name]]
        return {int(line[2]): line[4].split("://")[-1] for line in own}

    def at(self, host, port):
        """The port at which a listener is on a host, once it is shown."""
        shown, _ = eventually(f"{port} on {host.name}", lambda: self.shown(host).get(port), 40)
        address, _, found = shown.rpartition(":")
        assert address == address_of(host)
        return int(found)


def address_of(host):
    return f"{SUBNET}.{10 + host.number}"


def balancer_pid(host):
    return int((host.folder / "data/balancer.lock").read_text().split()[0])


def listened(host):
    return {line.split()[3] for line in host.run("ss", "-Hltn").stdout.splitlines()}


def test_every_host_that_has_an_interface_is_a_door(world):
    region, (one, two), outsider = world
    # A server of the host's own, and a port that its operator has set aside.
    two.start("own.log", sys.executable, "-m", "http.server", "8086", "--bind", "0.0.0.0", "--directory", "/proc/self/fdinfo")
    one.run("sh", "-c", "echo 8087 > /proc/sys/net/ipv4/ip_local_reserved_ports")
    door = Door(region, "door")
    group = door.group("all", "0.0.0.0/0")
    door.elb.set_security_groups(LoadBalancerArn=door.arn, SecurityGroups=[group])
    listeners = {port: door.listen(port) for port in (8085, 8086, 8087)}
    both = sorted(map(address_of, (one, two)))
    try:
        for host in (one, two):
            eventually(f"an answer of {host.name}", lambda: outsider.fetch(address_of(host), 8085) == "door 8085", 60)
        assert (door.at(one, 8085), door.at(two, 8085), door.at(one, 8086), door.at(two, 8087)) == (8085, 8085, 8086, 8087)
        chosen = {one: (8087, door.at(one, 8087)), two: (8086, door.at(two, 8086))}
        for host, (own, other) in chosen.items():
            assert other != own and outsider.fetch(address_of(host), other) == f"door {own}"
        assert "door" not in outsider.fetch(address_of(two), 8086), "it is the host's own server's"
        shown = region.longshore("node", "show", "host1").stdout
        assert f"{door.path} HTTP 8085 http://{address_of(one)}:8085" in shown, shown
        eventually("both in the name", lambda: outsider.named(door.name) == both, 20)
        assert outsider.named("nobody.elb.amazonaws.com") == 5

        # Groups hold for whoever comes so, and not for the host itself.
        outside = address_of(outsider)
        elsewhere = door.group("elsewhere", "198.51.100.0/24")
        door.elb.set_security_groups(LoadBalancerArn=door.arn, SecurityGroups=[elsewhere])
        eventually("nobody let in", lambda: outsider.fetch(address_of(one), 8085) == "" == outsider.fetch(address_of(two), 8085), 20)
        mine = one.run("curl", "-s", "-m", "3", "--noproxy", "*", f"http://{address_of(one)}:8085/", check=False)
        assert mine.stdout == "door 8085"
        door.elb.set_security_groups(LoadBalancerArn=door.arn, SecurityGroups=[door.group("outsider", f"{outside}/32")])
        eventually("the outsider let in", lambda: outsider.fetch(address_of(one), 8085) == "door 8085", 20)

        # Killed, the next one has the ports that it had.
        before = balancer_pid(one)
        os.kill(before, signal.SIGKILL)
        eventually("another process", lambda: balancer_pid(one) != before, 30)
        eventually("its port again", lambda: outsider.fetch(address_of(one), 8085) == "door 8085", 30)
        eventually("the chosen port again", lambda: outsider.fetch(address_of(one), chosen[one][1]) == "door 8087", 30)
        assert door.at(one, 8087) == chosen[one][1]

        # A port that a task is to have is left to it.
        ecs = region.client("ecs")
        ecs.register_task_definition(family="own", requiresCompatibilities=["EC2"], networkMode="bridge", containerDefinitions=[{
            "name": "main", "image": f"{SUBNET}.1:{PORT}/box:1", "memory": 16, "stopTimeout": 2,
            "portMappings": [{"containerPort": 80, "hostPort": 8085}], "command": ["httpd", "-f", "-p", "80", "-h", "/www"]}])
        ecs.create_service(cluster="web", serviceName="own", taskDefinition="own", desiredCount=1, launchType="EC2",
                           placementConstraints=[{"type": "memberOf", "expression": "attribute:longshore.host-name == host1"}])
        eventually("the task at its port", lambda: outsider.fetch(address_of(one), 8085) == "it works", 90)
        other, _ = eventually("the listener at another", lambda: door.at(one, 8085) != 8085 and door.at(one, 8085), 40)
        assert outsider.fetch(address_of(one), other) == "door 8085"
        ecs.update_service(cluster="web", service="own", desiredCount=0)
        ecs.delete_service(cluster="web", service="own", force=True)
        eventually("the name by the most ports", lambda: outsider.named(door.name) == [address_of(two)], 40)

        # One that is cut off is not named; one whose operator says so is no door.
        two.cut_off()
        eventually("the lost one left out", lambda: outsider.named(door.name) == [address_of(one)], 60)
        two.heal()
        # By then the first one listens at its own ports again.
        eventually("it is back", lambda: address_of(two) in outsider.named(door.name), 90)
        two.agent.terminate()
        two.agent.wait()
        two.agent = two.start("agent.log", *two_off(two))
        eventually("no door", lambda: outsider.fetch(address_of(two), 8085) == "", 60)
        eventually("nor a name", lambda: outsider.named(door.name) == [address_of(one)], 60)
        assert not any(":8085" in each for each in listened(two) if each.startswith(address_of(two)))
        two.agent.terminate()
        two.agent.wait()
        two.again()
        eventually("a door again", lambda: outsider.fetch(address_of(two), 8085) == "door 8085", 60)

        # Ports are given back with the listener, and with the balancer.
        door.elb.delete_listener(ListenerArn=listeners[8087])
        eventually("the port free", lambda: f"{address_of(two)}:8087" not in listened(two), 20)
        assert f"{address_of(two)}:8085" in listened(two)
        region.longshore("node", "drain", "host2")
        eventually("one that is drained left out", lambda: outsider.named(door.name) == [address_of(one)], 30)
        region.longshore("node", "drain", "host2", "--undo")
        ports = {host: [at.rpartition(":")[2] for at in door.shown(host).values()] for host in (one, two)}
        assert all(ports.values()), ports
        door.elb.delete_load_balancer(LoadBalancerArn=door.arn)
        for host in (one, two):
            kept = {f"{address_of(host)}:{port}" for port in ports[host]}
            eventually("nothing kept", lambda: not kept & listened(host), 30)
        assert outsider.named(door.name) == 5
    except (AssertionError, pytest.fail.Exception):
        explain(region, (one, two))
        raise


def two_off(host):
    from conftest import binary
    return [binary(), "agent", "--balancer-address", "off"]


def explain(region, hosts):
    print(region.longshore("ps", check=False).stdout)
    for host in hosts:
        print(host.name, host.log("agent.log")[-2500:], host.log("data/balancer.log")[-3500:], listened(host))
    print(region.log("region.log")[-4000:])


def test_network_balancers_are_reached_so_too_in_the_zones_that_have_healthy_targets(world, tmp_path):
    region, (one, two), outsider = world
    ecs, acm = region.client("ecs"), region.client("acm")
    door = Door(region, "flows", "network")
    door.elb.modify_load_balancer_attributes(LoadBalancerArn=door.arn, Attributes=[
        {"Key": "load_balancing.cross_zone.enabled", "Value": "true"}])
    certificate = acm.request_certificate(DomainName="flows.example.com")["CertificateArn"]

    def group(name, protocol, port):
        return only(door.elb.create_target_group(
            Name=name, Protocol=protocol, Port=port, VpcId=door.vpc, TargetType="ip", HealthCheckProtocol="TCP",
            HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2)["TargetGroups"])["TargetGroupArn"]

    groups = {"tcp": group("flows-tcp", "TCP", 80), "udp": group("flows-udp", "UDP", 9900)}
    forward = {name: [{"Type": "forward", "TargetGroupArn": arn}] for name, arn in groups.items()}
    door.listen(8185, Protocol="TCP", DefaultActions=forward["tcp"])
    door.listen(8186, Protocol="TLS", DefaultActions=forward["tcp"], Certificates=[{"CertificateArn": certificate}],
                SslPolicy="ELBSecurityPolicy-TLS13-1-2-2021-06")
    door.listen(8187, Protocol="UDP", DefaultActions=forward["udp"])
    ecs.register_task_definition(family="flows", networkMode="awsvpc", requiresCompatibilities=["EC2"], containerDefinitions=[{
        "name": "main", "image": f"{SUBNET}.1:{PORT}/box:1", "memory": 16, "stopTimeout": 2,
        "portMappings": [{"containerPort": 80}], "command": ["httpd", "-f", "-p", "80", "-h", "/www"]}])
    ecs.create_service(
        cluster="web", serviceName="flows", taskDefinition="flows", desiredCount=1, launchType="EC2",
        networkConfiguration={"awsvpcConfiguration": {"subnets": [door.subnets[1]], "securityGroups": [door.group("open", "0.0.0.0/0")]}},
        loadBalancers=[{"targetGroupArn": groups["tcp"], "containerName": "main", "containerPort": 80}])
    outsider.start("echo.log", sys.executable, "-c", ECHO, "9900")
    door.elb.register_targets(TargetGroupArn=groups["udp"], Targets=[
        {"Id": address_of(outsider), "Port": 9900, "AvailabilityZone": "all"}])
    try:
        for host in (one, two):
            at = address_of(host)
            eventually(f"TCP by {host.name}", lambda: outsider.fetch(at, 8185) == "it works", 90)
            eventually(f"TLS by {host.name}", lambda: outsider.fetch(at, 8186, "https") == "it works", 20)
            eventually(f"UDP by {host.name}", lambda: outsider.echoed(at, 8187) == "hello", 40)
            assert (door.at(host, 8185), door.at(host, 8186), door.at(host, 8187)) == (8185, 8186, 8187)
        both = sorted(map(address_of, (one, two)))
        eventually("all in the name", lambda: outsider.named(door.name) == both, 20)
        # Where each zone is served by its own targets, only the one that has some is named.
        cross_zone = lambda word: door.elb.modify_load_balancer_attributes(LoadBalancerArn=door.arn, Attributes=[
            {"Key": "load_balancing.cross_zone.enabled", "Value": word}])
        cross_zone("false")
        eventually("the zone with the target", lambda: outsider.named(door.name) == [address_of(one)], 30)
        # Whoever knows a machine's own address is served there all the same: it is of no zone.
        assert outsider.fetch(address_of(one), 8185) == "it works"
        assert outsider.fetch(address_of(two), 8185) == "it works"
        assert outsider.fetch(address_of(two), 8186, "https") == "it works"
        assert outsider.echoed(address_of(two), 8187) == "hello", "a target outside the VPC is of every zone"
        for arn in groups.values():
            door.elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[
                {"Key": "target_group_health.dns_failover.minimum_healthy_targets.count", "Value": "2"}])
        eventually("all where none is better", lambda: outsider.named(door.name) == both, 30)
        for arn in groups.values():
            door.elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[
                {"Key": "target_group_health.dns_failover.minimum_healthy_targets.count", "Value": "off"}])
        eventually("all where nothing is asked", lambda: outsider.named(door.name) == both, 30)
    except (AssertionError, pytest.fail.Exception):
        explain(region, (one, two))
        raise
    ecs.delete_service(cluster="web", service="flows", force=True)
    door.elb.delete_load_balancer(LoadBalancerArn=door.arn)
