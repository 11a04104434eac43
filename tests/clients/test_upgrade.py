"""A region and its hosts become a newer program, and whoever comes meanwhile is served: by load balancers and by Service Connect."""

import os
import shutil
import subprocess

import pytest

from conftest import binary, wait_for
from hosts import Machine, eventually, fleet, join_zones
from services import IDLE, only
from test_balancer_hosts import Client, Stack, standing
from test_node_balancers import default_subnets
from test_node_connect import Mesh
from test_production import Load
from test_service_connect import GET, LOAD

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


class Renewed(Machine):
    """A region whose program is a file of its own, in whose place others are put."""

    def words(self):
        self.program = self.folder / "longshore"
        if not self.program.exists():
            shutil.copy(binary(), self.program)
        _, *words = super().words()
        return [self.program, *words, "--zone", "a"]

    def renew(self, text):
        fresh = self.folder / "fresh"
        # Symbols are most of what hosts would fetch of it.
        subprocess.run(["strip", "-o", fresh, binary()], check=True)
        # What follows the program in its file is nothing to the kernel: another build, the same release.
        with open(fresh, "ab") as file:
            file.write(text.encode())
        fresh.rename(self.program)

    def upgrade(self, check=True):
        return self.run(self.program, "upgrade", "--data-dir", self.folder / "data", check=check)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("renewed"), 2, Renewed) as (region, hosts):
        join_zones(region, hosts, "bc")
        yield region, hosts


def process(machine, role):
    """The process that has a role on a machine."""
    return int((machine.folder / "data" / f"{role}.lock").read_text())


def program(machine, role):
    return os.readlink(f"/proc/{process(machine, role)}/exe")


def zombies(pid):
    found = []
    for stat in (f"/proc/{each}/stat" for each in os.listdir("/proc") if each.isdigit()):
        try:
            with open(stat) as file:
                state, parent = file.read().rsplit(")", 1)[1].split()[:2]
        except OSError:  # it has ended
            continue
        if int(parent) == pid and state == "Z":
            found.append(stat)
    return found


def test_a_region_becomes_a_newer_program_and_its_load_balancers_serve_all_the_while(world):
    region, _ = world
    ecs, elb, ec2 = (region.client(name) for name in ("ecs", "elbv2", "ec2"))
    vpc, subnets = default_subnets(ec2)
    balancer = only(elb.create_load_balancer(Name="outer", Subnets=subnets)["LoadBalancers"])["LoadBalancerArn"]
    group = only(elb.create_target_group(Name="outer", Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip")["TargetGroups"])["TargetGroupArn"]
    elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=8081, DefaultActions=[
        {"Type": "forward", "TargetGroupArn": group}])
    stack = Stack.__new__(Stack)
    stack.ecs = ecs
    ecs.create_service(
        cluster="web", serviceName="outer", taskDefinition=stack.web("outer"), desiredCount=1, launchType="EC2",
        networkConfiguration={"awsvpcConfiguration": {"subnets": subnets}},
        loadBalancers=[{"targetGroupArn": group, "containerName": "main", "containerPort": 80}])

    def healthy():
        shown = elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        return [each["TargetHealth"]["State"] for each in shown] == ["healthy"]

    eventually("a healthy target", healthy, 60)
    task = only(ecs.list_tasks(cluster="web", serviceName="outer")["taskArns"])
    # Whatever hosts there are, nobody counts as silent because the region does not listen.
    supervisor, roles = process(region, "up"), ["region", "agent", "balancer"]
    for text in ("newer", "newest"):
        before = {role: process(region, role) for role in roles}
        with Load(8081, "127.0.0.1", region.enter, ("/",), tls=False) as load:
            wait_for("requests", lambda: load.asked > 20)
            region.renew(text)
            assert region.upgrade().stdout == "the region runs this program\n"
            assert process(region, "up") == supervisor
            assert all(process(region, role) != before[role] for role in roles)
            assert {program(region, role) for role in ["up", *roles]} == {str(region.program)}
            asked = load.asked
            wait_for("more requests", lambda: load.asked > asked + 20)
        assert load.lost == [], (load.asked, load.lost[:5])
        wait_for("nothing left of the one before", lambda: not zombies(supervisor), 90)
        assert only(ecs.list_tasks(cluster="web", serviceName="outer")["taskArns"]) == task
    assert "nothing to do" in region.upgrade().stdout
    # What does not start is not taken.
    region.program.rename(region.folder / "kept")
    region.program.write_text("#!/bin/false\n")
    region.program.chmod(0o700)
    done = region.run(region.folder / "kept", "upgrade", "--data-dir", region.folder / "data", check=False)
    assert done.returncode == 0 and "nothing to do" in done.stdout
    os.kill(supervisor, 12)  # SIGUSR2
    wait_for("why it goes on", lambda: "going on as before" in region.log("region.log"), 30)
    (region.folder / "kept").rename(region.program)
    assert {program(region, role) for role in ["up", *roles]} == {str(region.program)}
    ecs.delete_service(cluster="web", service="outer", force=True)
    elb.delete_load_balancer(LoadBalancerArn=balancer)
    eventually("the task's end", lambda: not ecs.list_tasks(cluster="web", family="web")["taskArns"], 60)


def test_hosts_take_a_newer_program_and_what_they_serve_is_served_all_the_while(world):
    region, hosts = world
    stack, mesh = Stack(region), Mesh(region, "mesh", default_subnets(region.client("ec2"))[1])
    zone = {host.name: letter for host, letter in zip(hosts, "bc")}
    places = {letter: (eni, address) for letter, (eni, address) in stack.interfaces().items()}
    offer = {"portName": "web", "clientAliases": [{"port": 80, "dnsName": "backend"}]}
    try:
        wait_for("an interface on each", lambda: all(places[zone[host.name]][0] in standing(host) for host in hosts), 30)
        stack.elb.create_listener(LoadBalancerArn=stack.arn, Protocol="HTTP", Port=80, DefaultActions=[
            {"Type": "forward", "TargetGroupArn": stack.group}])
        stack.serve("inner", 2, *hosts)
        wait_for("two healthy targets", lambda: stack.healthy() == ["healthy"] * 2 and stack.is_steady(), 90)
        clients = [Client(stack, host) for host in hosts]
        mesh.create("server", mesh.serve("first"), 2, offer)
        mesh.steady("server")
        mesh.create("client", mesh.define("client", f"{GET} {LOAD}\n{IDLE}"), 2)
        mesh.steady("client")
        counts = mesh.go_on([0, 0])
        roles = ["balancer", "proxy"]
        before = {(host.name, role): process(host, role) for host in hosts for role in roles}
        region.renew("for hosts")
        region.upgrade()
        other_build = lambda: region.longshore("node", "ls").stdout.count("(other build)") == 2
        eventually("all hosts to have said what they run", other_build, 60)
        loads = [Load(80, places[zone[host.name]][1], client.enter, ("/",), tls=False) for host, client in zip(hosts, clients)]
        with loads[0], loads[1]:
            wait_for("requests", lambda: all(load.asked > 20 for load in loads))
            region.longshore("node", "upgrade", timeout=400)
            for host in hosts:
                for role in roles:
                    taken = str(host.folder / "data" / "release")
                    wait_for(f"the {role}'s new program", lambda: program(host, role).startswith(taken), 240)
                    assert process(host, role) != before[host.name, role]
            asked = [load.asked for load in loads]
            wait_for("more requests", lambda: all(load.asked > last + 20 for load, last in zip(loads, asked)))
        for load in loads:
            assert load.lost == [], (load.asked, load.lost[:5])
        counts = mesh.go_on(counts)
        # And what changes from now on is served by those of the new program.
        mesh.ecs.update_service(cluster="web", service="mesh-server", taskDefinition=mesh.serve("second"))
        mesh.steady("server")
        mesh.go_on(counts)
        assert all(any("heard second" in line for line in lines) for lines in mesh.lines("client"))
        wait_for("nothing left of those before", lambda: not any(zombies(host.agent.pid) for host in hosts), 90)
    except BaseException:
        for host in hosts:
            print(host.log("agent.log")[-2000:], host.log("data/proxy.log")[-2000:], host.log("data/balancer.log")[-2000:])
        raise
    finally:
        mesh.end()
