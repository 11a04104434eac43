"""Hosts that take an image's layers from each other: what the registry gives, what they give, and what becomes of a pull
whose host is cut off or killed in the middle."""

import os
import random
import re
import signal

import pytest

import images
from conftest import wait_for
from hosts import PORT, SUBNET, all_connected, eventually, fleet
from services import only

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
MIB = 1 << 20
LAYER_PORT = 14790


def noise(mib, seed):
    return random.Random(seed).randbytes(mib * MIB)


def address(number):
    return f"{SUBNET}.{10 + number}"


class Counted:
    """What the registry and the other hosts send to each host, as the kernel counts it."""

    def __init__(self, region, hosts):
        self.region, self.hosts = region, hosts
        lines = "".join(f"ip daddr {address(host.number)} counter name to{host.number}\n" for host in hosts)
        named = "".join(f"counter to{host.number} {{ }}\n" for host in hosts)
        region.run("nft", "-f", "-", input=f"table inet told {{\n{named}chain out {{ type filter hook output priority 0;\n"
                                           f"{lines} }}\n}}\n")
        for host in hosts:
            host.run("nft", "-f", "-", input="table inet told {\ncounter hosts { }\nchain in { type filter hook input priority 0;\n"
                                             f"tcp sport {LAYER_PORT} counter name hosts\n }}\n}}\n")

    def read(self, machine, name):
        shown = machine.run("nft", "list", "counter", "inet", "told", name).stdout
        return int(re.search(r"bytes (\d+)", shown).group(1))

    def from_region(self, host):
        return self.read(self.region, f"to{host.number}")

    def from_hosts(self, host):
        return self.read(host, "hosts")


class World:
    def __init__(self, region, hosts):
        self.region, self.hosts = region, hosts
        self.counted = Counted(region, hosts)
        self.ecs = region.client("ecs")

    def load(self, name, *mibs):
        layers = [images.busybox_layer()]
        for place, mib in enumerate(mibs):
            layers.append(images.busybox_layer({f"data{place}": noise(mib, f"{name} {place}")}))
        file = images.docker_save(self.region.folder / f"{name}.tar", f"{name}:1", layers)
        self.region.longshore("image", "load", str(file))
        file.unlink()
        self.ecs.register_task_definition(family=name, networkMode="host", containerDefinitions=[{
            "name": "main", "image": f"{SUBNET}.1:{PORT}/{name}:1", "memory": 16, "command": ["sleep", "600"]}])

    def begin(self, name, host):
        return only(self.ecs.run_task(cluster="web", taskDefinition=name, launchType="EC2", placementConstraints=[
            {"type": "memberOf", "expression": f"attribute:longshore.host-name == {host.name}"}])["tasks"])["taskArn"]

    def runs(self, task, seconds=60):
        def is_running():
            shown = only(self.ecs.describe_tasks(cluster="web", tasks=[task])["tasks"])
            assert shown["lastStatus"] != "STOPPED", shown
            return shown["lastStatus"] == "RUNNING"
        wait_for("the task", is_running, seconds)

    def pull(self, name, host):
        """Runs a task of an image; how many bytes came from the region and from hosts for it."""
        before = self.counted.from_region(host), self.counted.from_hosts(host)
        self.runs(self.begin(name, host))
        return self.counted.from_region(host) - before[0], self.counted.from_hosts(host) - before[1]

    def says(self, host):
        shown = self.region.longshore("node", "show", host.name).stdout
        return re.search(r"^layers given +(.*)$", shown, re.M).group(1)

    def count(self, host):
        """The layers that a host gives."""
        said = self.says(host).split()[0]
        return 0 if said == "-" else int(said)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("layers"), 4) as (region, hosts):
        token = region.token("--cluster", "web", "--uses", "4")
        for host in hosts[:3]:
            host.join(token, "--layer-rate-mib", "16")
        hosts[3].join(token, "--share-layers", "no")
        all_connected(region, hosts)
        yield World(region, hosts)


def test_other_hosts_take_layers_from_the_first(world):
    region, (first, second, third, apart) = world.region, world.hosts
    world.load("big", 24, 16)
    all_of_it = 40 * MIB
    told, given = world.pull("big", first)
    assert told > all_of_it and given == 0, (told, given)
    eventually("what it gives", lambda: world.count(first) >= 2)
    assert f" at {address(1)}:{LAYER_PORT}; gave 0 MiB" in world.says(first)

    told, given = world.pull("big", second)
    assert told < 4 * MIB and given > all_of_it, (told, given)
    eventually("the figures", lambda: re.search(r"gave 4\d MiB", world.says(first)) and re.search(r"took 4\d MiB", world.says(second)))

    # The region forgets with its process who has what, and is told again.
    region.process.send_signal(signal.SIGKILL)
    region.process.wait()
    region.up()
    eventually("what both give", lambda: all(world.count(host) >= 2 for host in (first, second)))
    all_connected(region, world.hosts)
    told, given = world.pull("big", third)
    assert told < 4 * MIB and given > all_of_it, (told, given)

    # Who does not take part in it has all from the registry, and is asked for nothing.
    told, given = world.pull("big", apart)
    assert told > all_of_it and given == 0, (told, given)
    assert world.says(apart) == "-"
    assert f":{LAYER_PORT}" in first.run("ss", "-ltn").stdout
    assert f":{LAYER_PORT}" not in apart.run("ss", "-ltn").stdout


@pytest.mark.parametrize("name, end, mend", [
    ("cut", lambda host: host.cut_off(), lambda host: host.heal()),
    ("killed", lambda host: host.kill(), lambda host: host.again()),
])
def test_a_pull_goes_on_whose_host_is_gone_in_the_middle(world, name, end, mend):
    first, second = world.hosts[:2]
    size = 64
    world.load(name, size)
    known = world.count(first)
    world.pull(name, first)
    eventually("one more that it gives", lambda: world.count(first) > known)
    before = world.counted.from_region(second), world.counted.from_hosts(second)
    given = lambda: world.counted.from_hosts(second) - before[1]
    task = world.begin(name, second)
    try:
        # 16 MiB a second are given.
        wait_for("some of the layer", lambda: given() > 8 * MIB, 30, 0.02)
        end(first)
        world.runs(task)
        told = world.counted.from_region(second) - before[0]
        assert 8 * MIB < given() < (size - 8) * MIB, given() // MIB
        # No more than the rest.
        assert 4 * MIB < told < (size - 4) * MIB, told // MIB
    finally:
        mend(first)
    assert "another host gives no more of a layer" in second.log("agent.log")
    all_connected(world.region, world.hosts)


def fetched_ahead(host, name):
    return any("image fetched ahead" in line and f"/{name}:1" in line for line in host.log("agent.log").splitlines())


def test_a_services_images_are_on_hosts_before_its_tasks(world):
    ecs, apart = world.ecs, world.hosts[3]
    for name in "ahead", "later", "plain":
        world.load(name, 12)
    ask = {"cluster": "web", "launchType": "EC2", "desiredCount": 0}
    ecs.create_service(**ask, serviceName="plain", taskDefinition="plain")
    ecs.create_service(**ask, serviceName="ahead", taskDefinition="ahead", tags=[{"key": "longshore.pre-pull", "value": "true"}])
    for host in world.hosts:
        eventually("the service's image", lambda: fetched_ahead(host, "ahead"))
    told, given = world.pull("ahead", apart)
    assert told < MIB and given == 0, (told, given)

    ecs.update_service(cluster="web", service="ahead", taskDefinition="later")
    for host in world.hosts:
        eventually("the next image", lambda: fetched_ahead(host, "later"))
    assert not any(fetched_ahead(host, "plain") for host in world.hosts)

    # A host that comes back is told again, and fetches nothing twice.
    before = world.counted.from_region(apart)
    said = apart.log("agent.log").count("image fetched ahead")
    apart.kill()
    apart.again()
    eventually("the same again", lambda: apart.log("agent.log").count("image fetched ahead") > said)
    assert world.counted.from_region(apart) - before < 4 * MIB


def test_a_task_definitions_images_are_on_the_hosts_of_the_cluster_that_it_names(world):
    world.load("named", 12)
    definition = world.ecs.describe_task_definition(taskDefinition="named")["taskDefinition"]
    containers = definition["containerDefinitions"] + [
        {"name": "none", "image": definition["containerDefinitions"][0]["image"].replace("/named:", "/absent:"), "memory": 16}]
    world.ecs.register_task_definition(family="named", networkMode="host", containerDefinitions=containers,
                                       tags=[{"key": "longshore.pre-pull", "value": "web"}])
    for host in world.hosts:
        eventually("the definition's image", lambda: fetched_ahead(host, "named"))
        # What cannot be had holds up nothing, and is said once.
        eventually("a word of the other", lambda: "image not fetched ahead" in host.log("agent.log"), 60)
    told, given = world.pull("named:1", world.hosts[3])
    assert told < MIB and given == 0, (told, given)
