"""Bad moments: processes killed while they work, disks that fill or die. What was promised is kept."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from conftest import Cluster, Region, free_port, probe_image, unique, wait_for


@pytest.fixture
def own(start_region, tmp_path):
    region = start_region(name="moments")
    region.run("image", "load", str(probe_image(tmp_path / "probe.tar")))
    yield Cluster(region, f"127.0.0.1:{region.port}/probe:1")
    region.down()


def kill(region, name):
    pid = region.children().get(name)
    if pid:
        os.kill(pid, signal.SIGKILL)
        wait_for(f"a new {name}", lambda: region.children().get(name) not in (None, pid), 20)


def processes(region, word):
    """Pids of the region's processes with `word` as their subcommand, wherever they hang."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if len(words) > 1 and words[1] == word.encode() and (
                    str(region.data_dir).encode() in b"\0".join(words) + environment):
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("who", ["agent", "region"])
def test_tasks_that_were_acknowledged_run_once_and_wholly_whoever_is_killed(own, who):
    """A burst of tasks with exit codes of their own, and kills in the midst of their starting."""
    definitions = {code: own.define(own.container("sh", "-c", f"echo ran; exit {code}")) for code in range(1, 6)}
    started, seed = [], random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(4):
        for code, definition in definitions.items():
            for _ in range(2):
                try:
                    started.append((own.run(definition)[0], code))
                except (ClientError, BotoCoreError):
                    pass  # not acknowledged
        time.sleep(chance.uniform(0, 0.15))
        kill(own.region, who)
        wait_for("health", own.region.is_healthy, 30)
    assert len(started) >= 10
    wrong = []
    for arn, code in started:
        task = own.until(arn, "STOPPED", 90)
        container = task["containers"][0]
        if container.get("exitCode") != code or own.lines(arn) != ["ran"]:
            wrong.append((arn, code, container.get("exitCode"), task.get("stoppedReason"), container.get("reason"), own.lines(arn)))
    assert wrong == []


def test_dead_spares_fail_no_task(own):
    for _ in range(3):
        kill_spares(own.region)
        arns = [own.run(own.define(own.container("sh", "-c", "exit 4")))[0] for _ in range(3)]
        for arn in arns:
            task = own.until(arn, "STOPPED")
            assert task["containers"][0].get("exitCode") == 4, task


def kill_spares(region):
    """Every shim that has no container yet."""
    spares = set()
    for path in Path("/sys/fs/cgroup").glob("**/.shims/cgroup.procs"):
        spares |= set(path.read_text().split())
    mine = {str(pid) for pid in descendants(region.process.pid)} | {str(pid) for pid in processes(region, "shim")}
    assert spares & mine, "there are spares, and they are found"
    for pid in spares & mine:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass


def descendants(pid):
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            found.append(child)
            todo.append(child)
    return found


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0"], ids=["empty", "torn"])
def test_a_torn_state_file_is_no_reboot(own, content):
    arn, = own.run(own.define(own.container("probe", "hold", "9")))
    own.until(arn, "RUNNING")
    files = [path for path in own.region.data_dir.rglob("boot-id")]
    assert files, "the file is where the test looks for it"
    agent = own.region.children()["agent"]
    os.kill(agent, signal.SIGSTOP)
    for path in files:
        path.write_bytes(content)
    os.kill(agent, signal.SIGKILL)
    wait_for("a new agent", lambda: own.region.children().get("agent") not in (None, agent), 20)
    other, = own.run(own.define(own.container("sh", "-c", "exit 2")))
    assert own.until(other, "STOPPED")["containers"][0]["exitCode"] == 2
    assert own.describe(arn)["lastStatus"] == "RUNNING"
    own.ecs.stop_task(cluster=own.name, task=arn)
    assert own.until(arn, "STOPPED")["containers"][0]["exitCode"] == 9


def take_all_room(path):
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 65536)
        except OSError:
            pass


class Disk:
    """A disk of its own on a loop device. What lies under it may be smaller than it says, so that it can die."""

    def __init__(self, place, mib, under_mib=None):
        self.place = place
        self.under, self.disk = place / "under", place / "disk"
        self.under.mkdir()
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={under_mib or mib + 16}m", "none", self.under], check=True)
        image = self.under / "image"
        subprocess.run(["truncate", "-s", f"{mib}M", image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,nodiscard", image], check=True)
        subprocess.run(["mount", "-o", "loop,errors=continue", image, self.disk], check=True)

    def fill(self):
        take_all_room(self.disk / "filler")

    def drain(self):
        (self.disk / "filler").unlink(missing_ok=True)

    def die(self):
        """The device has no more room below: each write to a new block is an error, as of a disk that dies."""
        take_all_room(self.under / "eater")

    def close(self):
        for path in [self.disk, self.under]:
            subprocess.run(["umount", "-l", path], check=False)


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path, 160)
    yield disk
    disk.close()


@pytest.fixture
def mortal_disk(tmp_path):
    disk = Disk(tmp_path, 160, 80)
    yield disk
    disk.close()


def answers(region):
    """Every request is answered, with whatever; the answers' codes."""
    seen = []
    ecs, logs = region.client("ecs"), region.client("logs")
    for _ in range(60):
        for ask in [lambda: ecs.list_clusters(), lambda: ecs.create_cluster(clusterName=unique("c")),
                    lambda: ecs.register_task_definition(family=unique("f"), containerDefinitions=[{"name": "a", "image": "x", "memory": 4}]),
                    lambda: logs.create_log_group(logGroupName=unique("g"))]:
            try:
                ask()
                seen.append(200)
            except ClientError as error:
                seen.append(error.response["ResponseMetadata"]["HTTPStatusCode"])
    return seen


def test_a_full_disk_is_answered_survived_and_forgotten(disk, tmp_path):
    region = Region(disk.disk / "data", free_port()).up()
    try:
        region.run("image", "load", str(probe_image(tmp_path / "probe.tar")))
        cluster = Cluster(region, f"127.0.0.1:{region.port}/probe:1")
        held, = cluster.run(cluster.define(cluster.container("probe", "hold", "6")))
        cluster.until(held, "RUNNING")
        disk.fill()
        seen = answers(region)
        assert len(seen) == 240 and 500 in seen, set(seen)
        for name in ["agent", "region"]:
            pid = region.children().get(name)
            if pid:
                os.kill(pid, signal.SIGKILL)
        wait_for("processes again, or a word why not", lambda: region.process.poll() is None, 5)
        disk.drain()
        wait_for("health once there is room", healthy(region), 60)

        def ends():
            try:
                arn, = cluster.run(cluster.define(cluster.container("sh", "-c", "exit 5")))
                return cluster.until(arn, "STOPPED", 60)["containers"][0].get("exitCode") == 5
            except (ClientError, BotoCoreError):
                return False
        wait_for("tasks once there is room", ends, 60, 0.5)
        assert cluster.describe(held)["lastStatus"] == "RUNNING"
        cluster.ecs.stop_task(cluster=cluster.name, task=held)
        assert cluster.until(held, "STOPPED")["containers"][0]["exitCode"] == 6
    finally:
        region.down()
    assert processes(region, "shim") == [] and processes(region, "agent") == []


def healthy(region):
    def ask():
        try:
            return region.is_healthy()
        except AssertionError:
            return False
    return ask


def test_a_dead_disk_is_answered_and_down_works_without_it(mortal_disk, tmp_path):
    disk = mortal_disk
    region = Region(disk.disk / "data", free_port()).up()
    try:
        region.run("image", "load", str(probe_image(tmp_path / "probe.tar")))
        cluster = Cluster(region, f"127.0.0.1:{region.port}/probe:1")
        held, = cluster.run(cluster.define(cluster.container("probe", "hold", "6")))
        cluster.until(held, "RUNNING")
        disk.die()
        seen = answers(region)
        assert len(seen) == 240, set(seen)
    finally:
        done = region.run("down", check=False)
        if region.process.poll() is None:
            try:
                region.process.wait(30)
            except subprocess.TimeoutExpired:
                region.process.kill()
    left = {word: processes(region, word) for word in ("up", "region", "agent", "shim")}
    assert not any(left.values()), (left, done.stdout, done.stderr)
    groups = [root for root, _, _ in os.walk("/sys/fs/cgroup") if held.rsplit("/", 1)[1] in root]
    assert groups == []
