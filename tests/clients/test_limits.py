"""One task that takes all it can get is held to its limits and says which; its neighbours notice nothing.

The disks that are filled here are sparse images: room is reserved on them and never written.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import images
from conftest import Cluster, Region, free_port, wait_for

DISK_GIB = 60
PIDS = 200


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A file system of its own, large and of nothing."""
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists() or not shutil.which("mkfs.ext4"):
        pytest.skip("a disk of one's own needs root, loop devices and mkfs.ext4")
    folder = tmp_path_factory.mktemp("disk")
    image, mount = folder / "image", folder / "mount"
    mount.mkdir()
    with open(image, "wb") as file:
        file.truncate(DISK_GIB << 30)
    lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=16", "-E", lazy, image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    yield mount
    wait_for("the disk to be free", lambda: subprocess.run(["umount", mount], capture_output=True).returncode == 0)
    image.unlink()


@pytest.fixture(scope="module")
def place(disk, tmp_path_factory):
    region = Region(disk / "data", free_port(), "--task-pids-max", str(PIDS))
    # What it says is to be read also when the disk is full.
    region.data_dir.with_suffix(".up.log").symlink_to(tmp_path_factory.mktemp("log") / "up.log")
    region.up()
    try:
        archive = images.docker_save(tmp_path_factory.mktemp("images") / "box.tar", "box:1")
        region.run("image", "load", str(archive))
        yield Cluster(region, f"127.0.0.1:{region.port}/box:1")
    finally:
        region.down()


@pytest.fixture
def neighbour(place):
    """A task beside the others that forks and writes all the time, and must go on doing so."""
    script = "n=0; while :; do n=$((n+1)); echo $n >/beat || exit 7; echo beat $n; sleep 0.2 || exit 8; done"
    arn, = place.run(place.define(place.container("sh", "-c", script, stopTimeout=2)))
    place.until(arn, "RUNNING")
    yield arn
    beats = len(place.lines(arn))
    wait_for("another beat", lambda: beats < len(place.lines(arn)))
    assert place.describe(arn)["lastStatus"] == "RUNNING"
    place.ecs.stop_task(cluster=place.name, task=arn)
    task = place.until(arn, "STOPPED")
    assert task["containers"][0]["exitCode"] in (137, 143), task


def room(disk):
    left = os.statvfs(disk)
    return left.f_bavail * left.f_frsize


def test_a_fork_bomb_is_refused_more_processes_and_its_end_says_so(place, neighbour):
    script = "bomb() { sleep 600 & bomb; }; bomb"
    arn, = place.run(place.define(place.container("sh", "-c", script, stopTimeout=2)))
    task = place.until(arn, "STOPPED")
    container, = task["containers"]
    assert container["exitCode"] not in (0, 137), task
    assert container["reason"].startswith("PidsLimitError"), task
    told = {each["name"]: each["value"] for each in task["attributes"]}["longshore.stopped-because"]
    assert f"beyond its limit of {PIDS}" in told, told


@pytest.mark.parametrize("where", ["/big", "/data/big", "hidden"])
def test_a_task_over_its_ephemeral_storage_is_stopped_and_its_reason_says_the_limit(place, disk, neighbour, where):
    before = room(disk)
    if where == "hidden":
        # Removed, and held open.
        script = "exec 9>/big; rm /big; busybox fallocate -l 21G /proc/self/fd/9 && sleep 600"
    else:
        script = f"busybox fallocate -l 21G {where} && sleep 600"
    container = place.container("sh", "-c", script, mountPoints=[{"sourceVolume": "data", "containerPath": "/data"}])
    arn, = place.run(place.define(container, volumes=[{"name": "data"}]))
    task = place.until(arn, "STOPPED")
    assert task["stoppedReason"] == (
        "EphemeralStorageLimitError: the task used 21 GiB of ephemeral storage, and its limit is 20 GiB"), task
    assert task["containers"][0]["exitCode"] == 137, task
    wait_for("its room again", lambda: before - room(disk) < 1 << 30)


def test_a_task_may_use_the_ephemeral_storage_that_it_asks_for(place, neighbour):
    script = "busybox fallocate -l 21G /big && echo there; sleep 600"
    arn, = place.run(place.define(place.container("sh", "-c", script, stopTimeout=2), ephemeralStorage={"sizeInGiB": 25}))
    wait_for("the file", lambda: place.describe(arn)["lastStatus"] == "RUNNING" and place.lines(arn) == ["there"])
    script = "busybox fallocate -l 26G /big && sleep 600"
    other, = place.run(place.define(place.container("sh", "-c", script, stopTimeout=2), ephemeralStorage={"sizeInGiB": 25}))
    task = place.until(other, "STOPPED")
    assert task["stoppedReason"].endswith("its limit is 25 GiB"), task
    # That one was stopped after everything had been counted; this one was counted too.
    assert place.describe(arn)["lastStatus"] == "RUNNING"
    place.ecs.stop_task(cluster=place.name, task=arn)
    place.until(arn, "STOPPED")


def test_a_task_that_fills_the_hosts_disk_goes_and_others_can_be_stopped_meanwhile(place, disk, neighbour):
    """On an instance of one's own a task has no limit but the disk; some of that is not for tasks."""
    before = room(disk)
    region = place.region
    definition = place.define(place.container(
        "sh", "-c", f"busybox fallocate -l {before - (64 << 20)} /big; "
        "while :; do busybox fallocate -l 8M /more.$n || sleep 0.1; n=$((n+1)); done"), fargate=False)
    arn, = place.run(definition, fargate=False, cluster="default")
    task = place.until(arn, "STOPPED", cluster="default")
    assert task["stoppedReason"].startswith("HostStorageError: the disk of the task's host had only "), task
    wait_for("its room again", lambda: before - room(disk) < 1 << 30)
    assert region.is_healthy()
