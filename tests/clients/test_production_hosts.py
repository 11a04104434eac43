"""The stack of examples/production on three hosts: spread, found by name, rolled and broken under load."""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

import images
from conftest import wait_for
from hosts import PORT, SUBNET, Host, Machine, eventually
from terraforming import Terraform
from test_production import SERVE, STACK, Load, fetch

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
ADDRESS = f"{SUBNET}.1"


# The tests' machine is a small one, and their tasks sleep.
ROOM = ["--instance-attribute", "longshore.fargate-cpu-percent=400"]


class Own(Machine):
    """With tasks on it too."""

    READY = "agent ready"

    def words(self):
        return [*super().words(), "--balancer-address", ADDRESS, "--zone", "a", *ROOM]

    def shell(self):
        return {**os.environ, **self.env()}

    def tail(self):
        return self.log("region.log")[-4000:]

    def child(self, name):
        """The process of one of the supervisor's children."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
                parent = int((path.parent / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            if parent == self.supervisor() and len(words) > 1 and words[1].decode() == name:
                return int(path.parent.name)
        return None

    def supervisor(self):
        # nsenter becomes what it starts.
        return self.process.pid


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("production-hosts")
    region = Own(folder / "region")
    hosts = []
    try:
        archive = images.docker_save(folder / "shop.tar", "shop:1", Cmd=["sh", "-c", SERVE])
        region.longshore("image", "load", str(archive))
        for number, zone in ((1, "b"), (2, "c")):
            token = region.token("--cluster", "default", "--fargate", "--zone", zone)
            hosts.append(Host(folder / f"host{number}", region, number).join(token, *ROOM))
        ecs = region.client("ecs")
        connected = lambda: len(ecs.list_container_instances(cluster="default")["containerInstanceArns"]) == 3
        eventually("three hosts", connected)
        stack = folder / "stack"
        stack.mkdir()
        for file in STACK.glob("*.tf"):
            shutil.copy(file, stack)
        made = Terraform(stack, region, {"name": "shop", "image": f"{ADDRESS}:{PORT}/shop:1", "desired": 3,
                                         "http_port": 8080, "https_port": 8443}, inside=region.command)
        yield region, hosts, made
    finally:
        for host in hosts:
            host.close()
        region.close()


def tasks_on(machine):
    """The namespaces of tasks in VPCs of their own on a host."""
    # The link that holds the host's own address is called after the region's tag there.
    tag = re.search(r" lh([0-9a-f]{8})", machine.run("ip", "-o", "link").stdout).group(1)
    mounts = {line.split()[4] for line in machine.run("cat", "/proc/self/mountinfo").stdout.splitlines()}
    return sorted(path for path in mounts if f"/{tag}/vpcs/" in path and "/netns/" in path and "/balancer." not in path)


def ask(region, path="/"):
    return region.pool.submit(fetch, 8443, path, address=ADDRESS).result()


def loaded(region):
    return Load(8443, address=ADDRESS, enter=region.enter)


def test_the_stack_stands_on_three_hosts_and_loses_no_request(world):
    region, hosts, made = world
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")
    spread = {machine.name: len(tasks_on(machine)) for machine in (region, *hosts)}
    assert sum(spread.values()) == 6 and all(spread.values()), spread
    wait_for("the shop", lambda: ask(region)[:2] == (200, "web 1 shop"))
    assert ask(region, "/orders/")[:2] == (200, "orders 1 shop")

    # A task of one host finds those of the others by name, and reaches them by their group's rule.
    inside = hosts[0].command("nsenter", f"--net={tasks_on(hosts[0])[0]}")
    resolver = "10.20.0.2"
    names = hosts[0].run(*inside[len(hosts[0].command()):], "busybox", "nslookup", "-type=a", "orders.shop.internal", resolver)
    found = {line.split()[-1] for line in names.stdout.splitlines() if line.startswith("Address") and "10.20.1" in line}
    assert len(found) == 3, names.stdout
    for address in found:
        told = hosts[0].run(*inside[len(hosts[0].command()):], "curl", "-s", "-m", "5", "--noproxy", "*",
                            f"http://{address}:8080/orders/")
        assert told.stdout.strip() == "orders 1 shop"

    with loaded(region) as load:
        made.run("apply", "-auto-approve", release="2")
    assert load.lost == [] and load.asked > 20, (load.asked, load.lost[:5])
    wait_for("the new release alone", lambda: {ask(region)[1] for _ in range(6)} == {"web 2 shop"})

    # From another machine whoever the balancer's group lets in is answered, and nobody else.
    ec2, elb = region.client("ec2"), region.client("elbv2")
    group = elb.describe_load_balancers(Names=["shop"])["LoadBalancers"][0]["SecurityGroups"][0]
    stranger = lambda: hosts[0].run("curl", "-sk", "-m", "2", "--noproxy", "*", f"https://{ADDRESS}:8443/", check=False).stdout
    rule = [{"IpProtocol": "tcp", "FromPort": 8443, "ToPort": 8443, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    assert stranger().strip() == "web 2 shop"
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rule)
    eventually("the door to be shut", lambda: stranger() == "")
    assert ask(region)[0] == 200
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rule)
    eventually("the door to be open", lambda: stranger().strip() == "web 2 shop")

    # Each process of the region's machine, at the worst moment: what it serves goes on, or comes back.
    for name in ("region", "agent"):
        with loaded(region) as load:
            os.kill(region.child(name), signal.SIGKILL)
            time.sleep(4)
        assert load.lost == [] and load.asked > 20, (name, load.asked, load.lost[:5])
    os.kill(region.child("balancer"), signal.SIGKILL)
    wait_for("the balancer", lambda: ask(region)[0] == 200)

    # A host: its tasks run elsewhere, and whoever asks is led there.
    hosts[1].cut_off()
    ecs = region.client("ecs")

    def steady():
        shown = ecs.describe_services(cluster="shop", services=["web", "orders"])["services"]
        return all(each["runningCount"] == 3 and len(each["deployments"]) == 1 for each in shown)
    left = lambda: len(tasks_on(region)) + len(tasks_on(hosts[0])) == 6
    eventually("all tasks on two hosts", lambda: left() and steady(), 90)
    with loaded(region) as load:
        time.sleep(3)
    assert load.lost == [] and load.asked > 20, (load.asked, load.lost[:5])
    hosts[1].heal()
    eventually("no task is left on the host that was away", lambda: tasks_on(hosts[1]) == [], 60)

    made.run("destroy", "-auto-approve", release="2")
    eventually("nothing is left", lambda: all(tasks_on(machine) == [] for machine in (region, *hosts)), 60)
