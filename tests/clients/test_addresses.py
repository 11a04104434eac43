"""Regions on machines whose own addresses are in the way, each in a network namespace that plays the machine."""

import json
import re
import subprocess

import pytest

import images
from conftest import binary, unique, wait_for


class Machine:
    """A network of its own; files and processes are shared with the tests."""

    def __init__(self, folder, address, gateway):
        self.name, self.folder = unique("m"), folder
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        for line in ["link set lo up", "link add eth0 type veth peer name wire", "link set wire up",
                     "link set eth0 up", f"addr add {address} dev eth0", f"route add default via {gateway}"]:
            subprocess.run(["ip", "-n", self.name, *line.split()], check=True)

    def start(self, *words, **more):
        # Only the network is another: `ip netns exec` would hide mounts from the next command too.
        return subprocess.Popen(["nsenter", f"--net=/run/netns/{self.name}", *words], text=True,
                                stdin=subprocess.DEVNULL, **more)

    def run(self, *words, check=True):
        with self.start(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
            output, _ = running.communicate(timeout=180)
        assert not check or running.returncode == 0, output
        return output

    def longshore(self, region, *words, **more):
        return self.run(binary(), *words, "--data-dir", str(self.folder / region), **more)

    def up(self, region, port=4566):
        return self.longshore(region, "up", "--detach", "--listen", f"127.0.0.1:{port}")

    def ranges(self, region):
        said = json.loads((self.folder / region / "region.json").read_text())
        return said["vpc"], said["bridge"]

    def traces(self):
        """What of a region can be seen in the machine's network."""
        seen = self.run("ip", "-4", "route", "show", "table", "all") + self.run("ip", "-o", "link")
        seen += self.run("ip", "rule") + self.run("ip", "-o", "addr") + self.run("nft", "list", "tables")
        return [line for line in seen.splitlines()
                if re.search(r"longshore|unreachable|: l[sh][0-9a-f]{8}|dev l[sh][0-9a-f]{8}", line)]

    def fargate_task(self, region, port=4566):
        """Brings a task up that serves, and asks it."""
        archive = images.docker_save(self.folder / f"{unique('box')}.tar", "box:1")
        self.longshore(region, "image", "load", str(archive))
        path = self.folder / f"{unique('web')}.json"
        path.write_text(json.dumps({
            "family": unique("web"), "requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc",
            "cpu": "256", "memory": "512", "containerDefinitions": [
                {"name": "web", "image": f"127.0.0.1:{port}/box:1", "stopTimeout": 2,
                 "command": ["httpd", "-f", "-p", "80", "-h", "/www"]}]}))
        self.longshore(region, "task", "run", str(path))
        address, = re.findall(r"^(\S+) dev ls", self.run("ip", "route"), re.MULTILINE)
        wait_for("the task's answer", lambda: self.run(
            "curl", "-sS", "-m", "5", f"http://{address}/", check=False) == "it works\n")
        return address


@pytest.fixture
def machine(tmp_path):
    made = []

    def make(address="192.0.2.5/24", gateway="192.0.2.1"):
        made.append(Machine(tmp_path, address, gateway))
        return made[-1]

    yield make
    for each in made:
        for region in tmp_path.iterdir():
            if (region / "region.json").exists():
                each.longshore(region.name, "down", check=False)
        subprocess.run(["ip", "netns", "del", each.name], check=False)


def test_a_region_starts_on_a_machine_in_a_clouds_default_vpc(machine):
    here = machine("172.31.5.4/20", "172.31.0.1")
    here.up("data")
    vpc, bridge = here.ranges("data")
    assert not vpc.startswith("172.31.") and not bridge.startswith("172.31.")
    assert vpc.rsplit(".", 2)[0] != bridge.rsplit(".", 2)[0], (vpc, bridge)
    here.fargate_task("data")
    assert "eth0" in here.run("ip", "route", "get", "172.31.200.1"), "the cloud's other subnets stay within reach"
    here.longshore("data", "down")
    assert here.traces() == []
    assert "172.31.5.4/20" in here.run("ip", "addr") and "default via 172.31.0.1" in here.run("ip", "route")


def test_addresses_move_when_the_machine_changes_and_nothing_of_the_old_is_left(machine):
    here = machine()
    here.up("data")
    before = here.ranges("data")
    assert before == ("172.31.0.0/16", "172.30.0.0/20")
    here.longshore("data", "down", "--keep-tasks")
    here.run("ip", "route", "add", "172.31.8.0/22", "via", "192.0.2.1", "table", "77")
    here.run("ip", "route", "add", "172.30.0.0/24", "via", "192.0.2.1")
    here.up("data")
    after = here.ranges("data")
    assert not after[0].startswith("172.31.") and not after[1].startswith("172.30.0.")
    assert "addresses for tasks moved" in (here.folder / "data/region.log").read_text()
    assert f"unreachable {before[0]}" not in here.run("ip", "route")
    here.fargate_task("data")
    # With a task there is nothing to be done but to say so.
    here.longshore("data", "down", "--keep-tasks")
    here.run("ip", "route", "add", after[0].replace(".0.0/16", ".9.0/24"), "via", "192.0.2.1")
    here.up("data")
    assert here.ranges("data") == after
    said = (here.folder / "data/region.log").read_text()
    assert "are used by something else on this machine too" in said and "stop all tasks" in said, said
    here.longshore("data", "down")
    assert here.traces() == []


def test_two_regions_that_start_at_once_have_addresses_of_their_own(machine):
    here = machine()
    regions = {"one": 4566, "two": 4567, "three": 4568}
    starting = [here.start(binary(), "up", "--detach", "--listen", f"127.0.0.1:{port}", "--data-dir",
                           str(here.folder / name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                for name, port in regions.items()]
    for each in starting:
        output, _ = each.communicate(timeout=120)
        assert each.returncode == 0, output
    ranges = [here.ranges(name) for name in regions]
    assert len({vpc for vpc, _ in ranges}) == len({bridge for _, bridge in ranges}) == 3, ranges
    claimed = [line for line in here.run("ip", "route").splitlines() if line.startswith("unreachable")]
    assert len(claimed) == 6, claimed
    for name in regions:
        here.longshore(name, "down")
    assert here.traces() == []


def test_down_removes_what_a_directory_that_is_gone_had(machine):
    here = machine()
    here.up("data")
    here.longshore("data", "down", "--keep-tasks")
    assert here.traces()
    subprocess.run(["rm", "-rf", str(here.folder / "data")], check=True)
    here.longshore("data", "down")
    assert here.traces() == []
