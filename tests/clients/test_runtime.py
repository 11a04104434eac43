"""Containers of tasks made by an OCI runtime of the host: `longshore up --runtime runc`."""

import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import Cluster, binary, wait_for
from services import process_of

pytestmark = pytest.mark.skipif(shutil.which("runc") is None, reason="there is no runc (Debian: runc)")

HANDLER = "trap 'echo asked; exit 42' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.fixture(scope="module")
def host(start_region):
    return start_region("--runtime", "runc", name="runc", image="box:1")


@pytest.fixture
def own(host):
    return Cluster(host, f"127.0.0.1:{host.port}/box:1")


def attributes(region):
    ecs = region.client("ecs")
    arns = ecs.list_container_instances()["containerInstanceArns"]
    instance, = ecs.describe_container_instances(containerInstances=arns)["containerInstances"]
    return {each["name"]: each.get("value") for each in instance["attributes"]}


def made_by_runc(pid):
    """The directories that runc keeps of the container that the process is the first of."""
    states = Path("/run/longshore").glob("*/shims/*.d/oci/*/state.json")
    return [state for state in states if f'"init_process_pid":{pid},' in state.read_text()]


def test_a_task_runs_to_its_end_with_its_lines_and_its_code(own):
    script = "echo one; echo two >&2; echo $WORD; pwd; id -u; grep Seccomp: /proc/self/status | tr -d '\\t'; exit 7"
    lines, task = own.output("sh", "-c", script, environment=[{"name": "WORD", "value": "three"}],
                             workingDirectory="/tmp", user="app")
    assert sorted(lines) == sorted(["one", "two", "three", "/tmp", "1000", "Seccomp:2"])
    assert (task["containers"][0]["exitCode"], task["stopCode"]) == (7, "EssentialContainerExited")


def test_a_healthy_task_answers_at_its_own_address_and_stops_when_it_is_asked(own):
    serve = "touch /tmp/well; echo hello > /www/index.html; httpd -p 80 -h /www; " + HANDLER
    arn, = own.run(own.define(own.container("sh", "-c", serve, stopTimeout=20,
                                            healthCheck={"command": ["CMD-SHELL", "test -f /tmp/well"], "interval": 5})))
    task = own.until(arn, "RUNNING")
    assert made_by_runc(process_of(arn)), "runc knows of it"
    answer = subprocess.run(["curl", "-s", "--max-time", "5", f"http://{own.address(task)}/"], capture_output=True, text=True)
    assert answer.stdout.strip() == "hello", answer
    wait_for("its health", lambda: own.describe(arn)["healthStatus"] == "HEALTHY")
    own.ecs.stop_task(cluster=own.name, task=arn)
    task = own.until(arn, "STOPPED")
    assert (task["containers"][0]["exitCode"], task["stopCode"]) == (42, "UserInitiated")
    assert own.lines(arn) == ["ready", "asked"]


def test_memory_over_the_limit_and_a_command_that_is_not_there_are_told_as_ever(own):
    _, task = own.output("sh", "-c", "x=$(head -c 200000000 /dev/zero | tr '\\0' 'x'); echo $x | wc -c", memory=32)
    container, = task["containers"]
    assert container["exitCode"] == 137, task
    assert container["reason"].startswith("OutOfMemoryError: Container killed due to memory usage")
    arn, = own.run(own.define(own.container("no-such-command", "-x")))
    task = own.until(arn, "STOPPED")
    container, = task["containers"]
    assert task["stopCode"] == "TaskFailedToStart", task
    assert container["reason"].startswith("CannotStartContainerError") and "no-such-command" in container["reason"], task


def test_containers_of_a_task_share_what_it_says_they_do(own):
    first = own.container("sh", "-c", "echo shared > /dev/shm/note; " + HANDLER, name="first", stopTimeout=2)
    second = own.container("sh", "-c", "until cat /dev/shm/note 2>/dev/null; do sleep 0.05; done; cat /proc/1/comm")
    definition = own.define(first, second, fargate=False, ipcMode="task", pidMode="task", networkMode="awsvpc")
    network = {"awsvpcConfiguration": {"subnets": own.subnets[:1]}}
    constraint = {"type": "memberOf", "expression": "attribute:longshore.runtime == runc"}
    arn, = own.run(definition, fargate=False, cluster="default", networkConfiguration=network, placementConstraints=[constraint])
    task = own.until(arn, "STOPPED", cluster="default")
    assert {each["name"]: each.get("exitCode") for each in task["containers"]}["main"] == 0, task
    assert own.lines(arn) == ["shared", "pause"]


def test_a_later_agent_without_the_runtime_looks_after_what_it_made(start_region):
    region = start_region("--runtime", "runc", name="runc-before", image="box:1")
    own = Cluster(region, f"127.0.0.1:{region.port}/box:1")
    assert attributes(region)["longshore.runtime"] == "runc"
    arn, = own.run(own.define(own.container("sh", "-c", HANDLER, stopTimeout=20)))
    own.until(arn, "RUNNING")
    wait_for("it to be ready", lambda: own.lines(arn) == ["ready"])
    before = process_of(arn)
    states = made_by_runc(before)
    region.run("down", "--keep-tasks")
    region.process.wait(30)
    region.extra = ()
    region.up()
    wait_for("the new agent to say what it is", lambda: "longshore.runtime" not in attributes(region))
    assert process_of(arn) == before, "it ran on"
    own.ecs.stop_task(cluster=own.name, task=arn)
    assert own.until(arn, "STOPPED")["containers"][0]["exitCode"] == 42
    wait_for("nothing to be left of it", lambda: not any(state.exists() for state in states))
    arn, = own.run(own.define(own.container("sh", "-c", HANDLER, stopTimeout=2)))
    own.until(arn, "RUNNING")
    assert made_by_runc(process_of(arn)) == [], "what comes after is made natively"


@pytest.mark.parametrize("runtime, words", [
    ("nothing-here", "there is no program nothing-here in"), ("runc=/nowhere/runc", "cannot be run"), ("x=/bin/false", "is no OCI runtime")])
def test_a_runtime_that_is_not_there_is_refused_before_anything_else(tmp_path, runtime, words):
    done = subprocess.run([binary(), "agent", "--data-dir", str(tmp_path / "data"), "--runtime", runtime],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode != 0 and words in done.stderr and f"--runtime {runtime}" in done.stderr, done
    assert not (tmp_path / "data").exists()
