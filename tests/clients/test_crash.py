"""Killing any process stops no container and loses no acknowledged write."""

import fcntl
import os
import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import images
from conftest import Cluster, binary, unique, wait_for


AGENT_KILLS = int(os.environ.get("LONGSHORE_AGENT_KILLS", "8"))


@pytest.fixture
def own(start_region, tmp_path):
    region = start_region(name="crash")
    region.run("image", "load", str(images.docker_save(tmp_path / "box.tar", "box:1")))
    yield Cluster(region, f"127.0.0.1:{region.port}/box:1")
    region.down()


def kill(region, name):
    before = region.children()[name]
    os.kill(before, signal.SIGKILL)
    wait_for(f"a new {name}", lambda: region.children().get(name) not in (None, before), 15)


def test_containers_survive_the_agent_and_no_exit_code_is_lost(own):
    region = own.region
    long, = own.run(own.define(own.container("sh", "-c", "n=0; while :; do echo $n; n=$((n+1)); sleep 0.1; done", stopTimeout=2)))
    short, = own.run(own.define(own.container("sh", "-c", "echo begun; sleep 2; echo ended; exit 42")))
    own.until(long, "RUNNING")
    own.until(short, "RUNNING")
    agent = region.children()["agent"]
    os.kill(agent, signal.SIGSTOP)
    os.kill(agent, signal.SIGKILL)
    task = own.until(short, "STOPPED", 60)
    assert task["containers"][0]["exitCode"] == 42
    assert own.lines(short) == ["begun", "ended"]
    assert own.describe(long)["lastStatus"] == "RUNNING"
    count = len(own.lines(long))
    wait_for("more lines from the survivor", lambda: len(own.lines(long)) > count + 5, 20)
    numbers = [int(line) for line in own.lines(long)]
    assert numbers == list(range(len(numbers))), "no line is lost and none comes twice"
    own.ecs.stop_task(cluster=own.name, task=long)
    assert own.until(long, "STOPPED")["containers"][0]["exitCode"] in (0, 137, 143)


def test_what_an_agent_was_starting_when_it_was_killed_runs_once_and_wholly(own):
    seed = int(os.environ.get("LONGSHORE_SEED", "0")) or random.randrange(10**9)
    print(f"seed {seed}, LONGSHORE_SEED={seed} sees it again")
    chance = random.Random(seed)
    definition = own.define(own.container("sh", "-c", "echo begun; sleep 0.3; echo ended; exit 7"))
    arns = []
    for _ in range(AGENT_KILLS):
        arns += own.run(definition, count=3)
        time.sleep(chance.uniform(0, 0.12))
        kill(own.region, "agent")
    for arn in arns:
        task = own.until(arn, "STOPPED", 120)
        container = task["containers"][0]
        assert (container.get("exitCode"), container.get("reason")) == (7, None), f"seed {seed}: {task}"
        assert own.lines(arn) == ["begun", "ended"], f"seed {seed}: {arn}"


def test_containers_survive_the_region(own):
    region = own.region
    arn, = own.run(own.define(own.container("sh", "-c", "sleep 3; exit 9")))
    other, = own.run(own.define(own.container("sleep", "1000", stopTimeout=2)))
    own.until(arn, "RUNNING")
    own.until(other, "RUNNING")
    kill(region, "region")
    wait_for("health", region.is_healthy, 20)
    assert own.until(arn, "STOPPED")["containers"][0]["exitCode"] == 9
    assert own.describe(other)["lastStatus"] == "RUNNING"
    own.ecs.stop_task(cluster=own.name, task=other)
    own.until(other, "STOPPED")


def test_nothing_is_left_behind(own):
    region = own.region

    def kernel():
        tag = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout
        mounts = Path("/proc/mounts").read_text()
        return len([l for l in tag.splitlines() if "veth" in l or "ls" in l]), mounts.count("overlay")

    arns = []
    for _ in range(3):
        arns += own.run(own.define(own.container("sleep", "1000", stopTimeout=1)))
    for arn in arns:
        own.until(arn, "RUNNING")
    kill(region, "agent")
    for arn in arns:
        own.ecs.stop_task(cluster=own.name, task=arn)
    for arn in arns:
        own.until(arn, "STOPPED")
    region.down()
    left = subprocess.run(["pgrep", "-f", str(region.data_dir)], capture_output=True, text=True).stdout.split()
    assert left == [], left
    for root, _, _ in os.walk("/sys/fs/cgroup"):
        assert not any(arn.rsplit("/", 1)[1] in root for arn in arns), root


ROUNDS = int(os.environ.get("LONGSHORE_KILL_ROUNDS", "50"))


def test_fifty_kills_lose_no_acknowledged_write(start_region):
    """SIGKILL at random moments under load: what was answered is there, what is there is whole."""
    region = start_region(name="kill")
    random.seed(20)
    acknowledged = {}
    for round_number in range(ROUNDS):
        stop_at = time.monotonic() + random.uniform(0.05, 0.6)

        def load(worker):
            ecs = region.client("ecs")
            done = {}
            serial = 0
            while time.monotonic() < stop_at + 1:
                name = f"k{round_number}-{worker}-{serial}"
                serial += 1
                try:
                    answer = ecs.register_task_definition(
                        family=name, containerDefinitions=[{"name": "a", "image": "x", "memory": 4,
                                                            "command": ["x" * 500]}],
                        tags=[{"key": "round", "value": str(round_number)}])
                    done[name] = answer["taskDefinition"]["taskDefinitionArn"]
                except Exception:
                    if time.monotonic() > stop_at:
                        break
            return done

        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(load, worker) for worker in range(4)]
            time.sleep(max(0, stop_at - time.monotonic()))
            try:
                os.kill(region.children()["region"], signal.SIGKILL)
            except (KeyError, ProcessLookupError):
                pass
            for future in futures:
                acknowledged.update(future.result())
        wait_for("health", region.is_healthy, 30)
    ecs = region.client("ecs")
    assert len(acknowledged) > ROUNDS, "the load was real"
    found = set()
    for page in ecs.get_paginator("list_task_definitions").paginate():
        found.update(page["taskDefinitionArns"])
    missing = [arn for arn in acknowledged.values() if arn not in found]
    assert missing == []
    for arn in random.sample(sorted(found), min(200, len(found))):
        answer = ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
        assert answer["taskDefinition"]["containerDefinitions"][0]["command"] == ["x" * 500]
        assert answer["tags"][0]["key"] == "round"


def test_an_up_that_does_not_become_ready_leaves_nothing_running(tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    with open(data / "agent.lock", "w") as lock:
        # Somebody else is this directory's agent, so that none joins.
        fcntl.flock(lock, fcntl.LOCK_EX)
        up = subprocess.Popen(
            [binary(), "up", "--detach", "--data-dir", str(data), "--listen", "127.0.0.1:0", "--region", "eu-north-1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        wait_for("the region", (data / "region.json").exists)
        up.send_signal(signal.SIGINT)
        said = up.communicate(timeout=60)[1]
    assert up.returncode not in (0, -signal.SIGINT), said
    assert "did not become ready" in said
    left = subprocess.run(["pgrep", "-f", str(data)], capture_output=True, text=True).stdout.split()
    assert left == [], left
