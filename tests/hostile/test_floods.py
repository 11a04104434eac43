"""A container that takes all there is of something: it ends, or is bounded, and its neighbours notice nothing."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from conftest import Cluster, Region, free_port, probe_image, wait_for


@pytest.fixture
def neighbour(cluster):
    """A task that answers to itself meanwhile; ends with 7 when it is asked to, undisturbed till then."""
    arn, = cluster.run(cluster.define(cluster.container("probe", "hold", "7")))
    cluster.until(arn, "RUNNING")
    yield arn
    assert cluster.describe(arn)["lastStatus"] == "RUNNING"
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)
    assert cluster.until(arn, "STOPPED")["containers"][0]["exitCode"] == 7


@pytest.mark.parametrize("fargate", [True, False], ids=["fargate", "ec2"])
def test_forks_end_at_the_tasks_limit(probe, neighbour, fargate):
    seen = probe("forks", 9000, 1, fargate=fargate, seconds=120)
    made, why = seen.one("forks").split(" ", 1) if seen.all("forks") else (0, "killed")
    assert int(made) < 9000 and why in ("EAGAIN", "killed"), seen


def test_memory_ends_at_the_tasks_limit(probe, neighbour):
    seen = probe("memory", 2048, seconds=120)
    assert "2048 no end" not in seen.all("memory"), seen
    container = seen.task["containers"][0]
    assert container["exitCode"] == 137 and "OutOfMemory" in container.get("reason", ""), seen.task


@pytest.mark.parametrize("where", ["/dev/shm/x", "/run/x"])
def test_memory_behind_files_is_the_tasks_own(probe, neighbour, where):
    more = {} if where.startswith("/dev/shm") else {"linuxParameters": {"tmpfs": [{"containerPath": "/run", "size": 4096}]}}
    seen = probe("disk", where, 3000, fargate=False, memory=128, seconds=120, **more)
    assert "3000 no end" not in seen.all("disk"), (seen, seen.task)


def test_output_without_end_is_bounded_and_the_task_goes_on(region, cluster, neighbour):
    spool = region.data_dir / "agent"
    used = lambda: int(subprocess.run(["du", "-sm", spool], capture_output=True, text=True).stdout.split()[0])
    before = used()
    arn, = cluster.run(cluster.define(cluster.container("probe", "lines", "400000", "1000", name="main")))
    cluster.until(arn, "STOPPED", 180)
    assert used() - before < 200, "400 MB of output do not lie on the host"


@pytest.fixture
def small(start_region, tmp_path_factory):
    """A region whose data directory is a disk of 700 MB."""
    place = tmp_path_factory.mktemp("small")
    image, disk = place / "disk.img", place / "disk"
    subprocess.run(["truncate", "-s", "700M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    region = Region(disk / "data", free_port()).up()
    region.run("image", "load", str(probe_image(place / "probe.tar")))
    yield Cluster(region, f"127.0.0.1:{region.port}/probe:1"), disk
    region.down()
    subprocess.run(["umount", "-l", disk], check=True)
    image.unlink()


@pytest.mark.parametrize("what", ["writable layer", "volume"])
def test_a_disk_that_a_task_fills_leaves_room_for_stopping_and_for_others(small, what):
    cluster, disk = small
    neighbour, = cluster.run(cluster.define(cluster.container("probe", "hold", "7")))
    cluster.until(neighbour, "RUNNING")
    more = {"mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}]} if what == "volume" else {}
    task = {"volumes": [{"name": "v"}]} if what == "volume" else {}
    container = cluster.container("sh", "-c", "probe disk $0 4000; exec probe hold 3", "/v/x" if what == "volume" else "/x", **more)
    filler, = cluster.run(cluster.define(container, **task))

    def has_filled():
        if cluster.describe(filler)["lastStatus"] == "STOPPED":
            return True
        try:
            return any(line.startswith("disk:") for line in cluster.lines(filler))
        except ClientError:
            return False  # no line yet, or none can be stored
    wait_for("the filler to have filled, or to be stopped", has_filled, 120)
    # At this very moment, at which there may be no room at all.
    cluster.ecs.stop_task(cluster=cluster.name, task=filler)
    task = cluster.until(filler, "STOPPED", 60)
    assert task["stoppedReason"], task
    # Others begin and end, and definitions are registered, as soon as the filler has gone.
    wait_for("room", lambda: shutil.disk_usage(disk).free > 8 << 20, 30)
    assert cluster.run(cluster.define(cluster.container("true")))
    cluster.ecs.stop_task(cluster=cluster.name, task=neighbour)
    assert cluster.until(neighbour, "STOPPED")["containers"][0]["exitCode"] == 7
    again, = cluster.run(cluster.define(cluster.container("true")))
    assert cluster.until(again, "STOPPED")["containers"][0]["exitCode"] == 0


class Filler:
    """Takes every byte of a disk at once, whenever one is free, until it is closed."""

    def __init__(self, path):
        self.path, self.is_closed, self.full = path, False, threading.Event()
        self.thread = threading.Thread(target=self.fill, daemon=True)
        self.thread.start()

    def fill(self):
        with open(self.path, "wb", buffering=0) as file:
            while not self.is_closed:
                for size in [1 << 20, 4096, 512]:
                    try:
                        while not self.is_closed:
                            file.write(b"x" * size)
                    except OSError:
                        pass
                self.full.set()

    def close(self):
        self.is_closed = True
        self.thread.join()
        self.path.unlink()


def test_what_runs_can_be_stopped_while_somebody_takes_every_byte_of_the_disk(small):
    cluster, disk = small
    codes = range(3, 11)
    tasks = {code: cluster.run(cluster.define(cluster.container("probe", "hold", str(code))))[0] for code in codes}
    for task in tasks.values():
        cluster.until(task, "RUNNING")
    filler = Filler(disk / "filler")
    try:
        wait_for("the disk to be full", filler.full.is_set, 60)
        filler.full.clear()
        for task in tasks.values():
            cluster.ecs.stop_task(cluster=cluster.name, task=task)
        for code, task in tasks.items():
            stopped = cluster.until(task, "STOPPED", 60)
            assert stopped["containers"][0]["exitCode"] == code, stopped
        with pytest.raises(ClientError) as refused:
            cluster.define(cluster.container("true"))
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert filler.full.wait(20), "all the while"
    finally:
        filler.close()
    again, = cluster.run(cluster.define(cluster.container("true")))
    assert cluster.until(again, "STOPPED")["containers"][0]["exitCode"] == 0


LOUD_TASKS = int(os.environ.get("LONGSHORE_LOUD_TASKS", "200"))


def test_memory_that_loud_tasks_took_of_the_agent_is_given_back(start_region, outside, tmp_path):
    """Some kernels give a process's memory back late: it is waited for, and bounded with room to spare."""
    region = start_region(name="loud")
    region.run("image", "load", str(probe_image(tmp_path / "probe.tar")))
    cluster = Cluster(region, f"127.0.0.1:{region.port}/probe:1")
    agent = region.children()["agent"]

    def resident():
        lines = Path(f"/proc/{agent}/status").read_text().splitlines()
        return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("RssAnon:"))

    quiet = cluster.define(cluster.container("true"))
    cluster.until(cluster.run(quiet)[0], "STOPPED")
    before = peak = resident()
    # The machine itself is an instance of the cluster `default`, and takes as many as have room in its memory.
    here = {"fargate": False, "cluster": "default"}
    definition = cluster.define(cluster.container("probe", "lines", "2000", "1000", memory=16), fargate=False)
    arns = []
    for _ in range(0, LOUD_TASKS, 10):
        arns += cluster.run(definition, count=min(10, LOUD_TASKS - len(arns)), **here)
        peak = max(peak, resident())

    def have_ended():
        nonlocal peak
        peak = max(peak, resident())
        tasks = [task for n in range(0, len(arns), 100)
                 for task in cluster.ecs.describe_tasks(cluster="default", tasks=arns[n:n + 100])["tasks"]]
        return all(task["lastStatus"] == "STOPPED" for task in tasks)
    wait_for("the loud tasks to end", have_ended, 600, 0.2)
    assert region.children()["agent"] == agent
    print(f"agent: {before} MiB before, {peak} MiB at most")
    try:
        wait_for("the agent to be small again", lambda: resident() <= before + 32, 60, 0.5)
    finally:
        print(f"agent: {resident()} MiB after")
    assert peak - before <= 150, peak
