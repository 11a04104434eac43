"""What holds here holds on a host as people have them: limits, isolation, a power cut, a full disk, a reboot.

The tests go on from one another: one machine, booted three times.
"""

import re

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from conftest import kernel_tests, unique, wait_for

# What is run of the kernel stage's programs, by how the cases' names begin.
CASES = ("limits::", "isolation::", "reach::", "walls::", "encryption::")
# Cases that measure time against the wall clock, which an emulated processor does not keep, or that need more
# programs than the machine has (Python).
OMITTED = ["cpu_time_follows_the_groups_quota_and_the_containers_shares", "crafted_packets_do_not_get_around_it",
           "a_task_in_the_hosts_network_is_kept_from_link_local_addresses_and_nobody_else_is"]

PROGRAMS = [path for path in kernel_tests() if path.name != "longshore-shim"]


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_the_kernel_stages_cases_hold_on_this_kernel(machine, program):
    listed = machine.run(f"/work/tests/{program.name} --list", 60)
    names = re.findall(r"^(\S+): test$", listed, re.M)
    wanted = [name for name in names if name.startswith(CASES) and not any(omitted in name for omitted in OMITTED)]
    if not wanted:
        pytest.skip("none of its cases is of limits, isolation or reach")
    # A program looks for its shim where it was built.
    for shim in kernel_tests():
        if shim.name == "longshore-shim":
            machine.run(f"mkdir -p {shim.parent} && cp /work/tests/{shim.name} {shim}")
    exact = " ".join(wanted)
    text = machine.run(f"cd /tmp && /work/tests/{program.name} --exact {exact} --test-threads 2 --color never", 400, check=False)
    result = re.search(r"test result: (\w+)\. (\d+) passed; (\d+) failed", text)
    assert result, text[-4000:]
    assert (result[1], int(result[2])) == ("ok", len(wanted)), text[-6000:]


def test_control_groups_of_version_2_hold_a_tasks_limits(machine, cluster):
    arn, = cluster.run(cluster.define(cluster.container("probe", "hold", "3")))
    cluster.until(arn, "RUNNING", 120)
    task = arn.rsplit("/", 1)[1]
    found = machine.run(f"find /sys/fs/cgroup -type d -name '*{task}*' | head -1").strip()
    assert found, machine.run("find /sys/fs/cgroup -type d | head -50")
    assert machine.run(f"cat {found}/memory.max").strip() == str(512 << 20)
    assert machine.run(f"cat {found}/cpu.max").split()[0] != "max"
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)
    assert cluster.until(arn, "STOPPED", 120)["containers"][0]["exitCode"] == 3


def test_a_task_in_the_hosts_network_is_kept_from_link_local_addresses_here_too(machine, cluster):
    metadata, port = "169.254.169.254", 4566
    # The region listens on every address of the host's, and so on this one.
    machine.run(f"ip addr add {metadata}/32 dev lo")
    try:
        targets = [word for address in [metadata, "127.0.0.1"] for word in ("tcp", address, str(port))]
        definition = cluster.define(cluster.container("probe", "reach", *targets), fargate=False, networkMode="host")
        arn, = cluster.run(definition, fargate=False, cluster="default")
        cluster.until(arn, "STOPPED", 120, "default")
    finally:
        machine.run(f"ip addr del {metadata}/32 dev lo")
    said = cluster.lines(arn)
    # Both are tried at once, and either may be the first to say what it met.
    met = {line.partition(": ")[0]: line.partition(": ")[2].startswith("connected") for line in said}
    assert met == {f"tcp {metadata} {port}": False, f"tcp 127.0.0.1 {port}": True}, said


def test_what_only_the_hosts_root_may_do_is_refused_here_too(cluster):
    lines, _ = cluster.output("probe", "kernel", seconds=120)
    assert len(lines) >= 80, lines
    assert [line for line in lines if line.endswith(": did")] == []


def test_nobody_else_is_seen_or_touched_here_either(cluster):
    lines, _ = cluster.output("probe", "see", seconds=120)
    assert "pids: 1" in lines and "Seccomp: 2" in lines, lines
    lines, _ = cluster.output("probe", "memory", "1024", seconds=180)
    assert "memory: 1024 no end" not in lines, lines


def runs_to_its_end(cluster, code=5):
    try:
        arn, = cluster.run(cluster.define(cluster.container("sh", "-c", f"exit {code}")))
        task = cluster.until(arn, "STOPPED", 120)
    except (ClientError, BotoCoreError) as error:
        print(f"no task: {error}")
        return False
    if task["containers"][0].get("exitCode") == code:
        return True
    print(f"ended otherwise: {task}")
    return False


def test_after_a_power_cut_all_that_was_acknowledged_is_there(machine, region, cluster):
    ecs, logs = cluster.ecs, cluster.logs
    held, = cluster.run(cluster.define(cluster.container("probe", "hold", "3")))
    ended, = cluster.run(cluster.define(cluster.container("sh", "-c", "echo before; exit 4")))
    cluster.until(held, "RUNNING", 120)
    cluster.until(ended, "STOPPED", 120)
    definitions = [ecs.register_task_definition(family=unique("kept"), containerDefinitions=[
        {"name": "a", "image": "x", "memory": 4, "command": ["x" * 1000]}])["taskDefinition"]["taskDefinitionArn"] for _ in range(40)]
    for number in range(20):
        logs.create_log_stream(logGroupName=cluster.group, logStreamName=f"s{number}")
    machine.cut_power()
    machine.boot()
    region.up()
    for arn in definitions:
        assert ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]["containerDefinitions"][0]["command"]
    names = [each["logStreamName"] for each in logs.describe_log_streams(logGroupName=cluster.group)["logStreams"]]
    assert {f"s{number}" for number in range(20)} <= set(names)
    assert cluster.describe(ended)["containers"][0]["exitCode"] == 4
    assert cluster.lines(ended) == ["before"]
    task = cluster.until(held, "STOPPED", 120)
    assert task["stoppedReason"], task
    assert runs_to_its_end(cluster), "the image is there, and whole"


def test_a_full_disk_is_survived_here_too(machine, region, cluster):
    held, = cluster.run(cluster.define(cluster.container("probe", "hold", "6")))
    cluster.until(held, "RUNNING", 120)
    machine.run("dd if=/dev/zero of=/work/filler bs=1M 2>/dev/null; df /work | tail -1", 240, check=False)
    codes = []
    for _ in range(30):
        try:
            cluster.ecs.register_task_definition(family=unique("full"), containerDefinitions=[
                {"name": "a", "image": "x", "memory": 4, "command": ["x" * 30_000]}])
            codes.append(200)
        except ClientError as error:
            codes.append(error.response["ResponseMetadata"]["HTTPStatusCode"])
    assert 500 in codes, codes
    machine.run("rm /work/filler; sync")
    wait_for("tasks once there is room", lambda: runs_to_its_end(cluster), 180, 1)
    assert cluster.describe(held)["lastStatus"] == "RUNNING"
    cluster.ecs.stop_task(cluster=cluster.name, task=held)
    assert cluster.until(held, "STOPPED", 120)["containers"][0]["exitCode"] == 6


def test_a_reboot_is_said_to_be_why_a_task_ended(machine, region, cluster):
    held, = cluster.run(cluster.define(cluster.container("probe", "hold", "3")))
    cluster.until(held, "RUNNING", 120)
    machine.restart()
    region.up()
    task = cluster.until(held, "STOPPED", 120)
    assert task["stoppedReason"], task
    assert runs_to_its_end(cluster)
    region.run("down")
    left = machine.run("ip -o link | grep -v -E ': (lo|eth0|ens3|enp0s3)' ; ls /sys/fs/cgroup/longshore 2>/dev/null; pgrep -l longshore", check=False)
    assert left.strip() == "", left
