"""A fleet takes the region's program, host after host: containers run on, and the first that fails ends it."""

import os
import shutil
import time

import botocore.exceptions
import pytest

from conftest import binary
from hosts import PORT, SUBNET, Region, eventually, fleet, join_all, processes_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


class NewerRegion(Region):
    """A region of another build than the hosts' agents are."""

    def words(self):
        self.program = self.folder / "longshore-newer"
        shutil.copy(binary(), self.program)
        # What follows the program in its file is nothing to the kernel: another build, the same release.
        with open(self.program, "ab") as file:
            file.write(b"newer")
        _, *words = super().words()
        return [self.program, *words]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("fleet"), 3, NewerRegion) as (region, hosts):
        join_all(region, hosts, "--keys-expire", "60s")
        ecs = region.client("ecs")
        ecs.register_task_definition(family="web", networkMode="bridge", requiresCompatibilities=["EC2"],
                                     containerDefinitions=[{"name": "main", "image": f"{SUBNET}.1:{PORT}/box:1",
                                                            "command": ["sleep", "infinity"], "memory": 16, "stopTimeout": 2}])
        ecs.create_service(cluster="web", serviceName="web", taskDefinition="web", desiredCount=3, launchType="EC2",
                           placementStrategy=[{"type": "spread", "field": "instanceId"}])
        eventually("the service", lambda: len(running(ecs)) == 3, 60)
        yield region, hosts


def connected(ecs):
    arns = ecs.list_container_instances(cluster="web")["containerInstanceArns"]
    found = ecs.describe_container_instances(cluster="web", containerInstances=arns) if arns else {}
    return {it["containerInstanceArn"]: it for it in found.get("containerInstances", []) if it["agentConnected"]}


def running(ecs):
    arns = ecs.list_tasks(cluster="web", serviceName="web")["taskArns"]
    tasks = ecs.describe_tasks(cluster="web", tasks=arns)["tasks"] if arns else []
    return {task["taskArn"]: task["containerInstanceArn"] for task in tasks if task["lastStatus"] == "RUNNING"}


def program(host):
    return os.readlink(f"/proc/{agent(host)}/exe")


def agent(host):
    """The agent's process: what was started in the namespace, by way of nsenter, which becomes it."""
    return host.agent.pid


def test_a_host_that_cannot_take_it_ends_the_run_and_keeps_what_it_has(world):
    region, (one, _, _) = world
    ecs = region.client("ecs")
    other_build = lambda: region.longshore("node", "ls").stdout.count("(other build)") == 3
    eventually("all hosts to have said what they run", other_build, 60)
    before = running(ecs)
    # No room for it on the first host's disk.
    folder = one.folder / "data" / "release"
    folder.mkdir()
    one.run("mount", "-t", "tmpfs", "-o", "size=1m", "none", folder)
    done = region.longshore("node", "upgrade", "host1", check=False)
    assert done.returncode == 1 and "host1 did not take it: it could not be kept" in done.stderr, done
    assert program(one) == os.path.realpath(binary())
    assert "upgrade failed" in region.longshore("node", "ls").stdout
    arn = next(arn for arn, it in connected(ecs).items() if it.get("agentUpdateStatus") == "FAILED")
    assert arn in before.values()
    assert running(ecs) == before
    one.run("umount", folder)


def test_a_fleet_takes_the_regions_program_with_its_containers_left_running(world):
    region, hosts = world
    ecs = region.client("ecs")
    before, arns = running(ecs), set(connected(ecs))
    processes = {task: processes_of(task) for task in before}
    pids = [agent(host) for host in hosts]
    began = time.monotonic()
    said = region.longshore("node", "upgrade").stdout
    print(f"three hosts in {time.monotonic() - began:.1f} s:\n{said}")
    assert said.startswith("3 hosts are to run")
    lines = said.splitlines()[1:]
    # One after the other: each has it before the next takes it.
    assert [line.split(":")[0] for line in lines[::2]] == [line.split(":")[0] for line in lines[1::2]]
    assert all("takes it" in line for line in lines[::2]) and all("runs" in line for line in lines[1::2])
    for host, pid in zip(hosts, pids):
        assert agent(host) == pid and host.agent.poll() is None
        assert program(host).startswith(str(host.folder / "data" / "release"))
        zombies = [line for line in host.run("ps", "--ppid", str(pid), "-o", "stat=").stdout.split() if line.startswith("Z")]
        assert not zombies
    assert running(ecs) == before and set(connected(ecs)) == arns
    assert {task: processes_of(task) for task in before} == processes
    shown = region.longshore("node", "ls").stdout
    assert "other build" not in shown and "upgrade" not in shown
    assert "nothing to do: 3 of 3 hosts" in region.longshore("node", "upgrade").stdout
    for arn in arns:
        with pytest.raises(botocore.exceptions.ClientError, match="NoUpdateAvailable"):
            ecs.update_container_agent(cluster="web", containerInstance=arn)


def test_a_host_that_starts_again_runs_what_it_took_and_its_containers_are_found(world):
    region, (_, two, _) = world
    ecs = region.client("ecs")
    before = running(ecs)
    two.kill()
    two.again()
    eventually("the agent", lambda: two.log("agent.log").count("agent ready") == 3)
    assert program(two).startswith(str(two.folder / "data" / "release"))
    eventually("all hosts", lambda: len(connected(ecs)) == 3, 60)
    assert running(ecs) == before
    # A task that runs there from now on is run by the new program's shims, and stops as ever.
    task = next(task for task, instance in before.items())
    ecs.stop_task(cluster="web", task=task)
    eventually("another in its place", lambda: len(running(ecs)) == 3 and task not in running(ecs), 60)
    eventually("its processes to end", lambda: not processes_of(task))


def test_a_container_agent_is_updated_as_ecs_does_it(world):
    region, (one, _, _) = world
    ecs = region.client("ecs")
    # Back to what the host starts: whoever installs another program has that one run.
    one.kill()
    (one.folder / "data" / "release.json").unlink()
    one.again()
    eventually("the agent", lambda: len(connected(ecs)) == 3 and program(one) == os.path.realpath(binary()), 60)

    def update():
        for arn in connected(ecs):
            try:
                return ecs.update_container_agent(cluster="web", containerInstance=arn)["containerInstance"]
            except botocore.exceptions.ClientError as error:
                assert error.response["Error"]["Code"] in ("NoUpdateAvailableException", "MissingVersionException"), error
        return None

    updated, _ = eventually("the host to have said what it runs", update, 60)
    assert updated["agentUpdateStatus"] == "PENDING"
    eventually("the region's program", lambda: program(one).startswith(str(one.folder / "data" / "release")), 60)
    eventually("all hosts", lambda: len(connected(ecs)) == 3 and not any(
        "agentUpdateStatus" in it for it in connected(ecs).values()), 60)
