"""A container that takes all there is of something: it ends, or is bounded, and its neighbours notice nothing."""

import shutil
import subprocess
import threading

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
        self.path, self.is_closed = path, False
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

    def close(self):
        self.is_closed = True
        self.thread.join()
        self.path.unlink()


def test_what_runs_can_be_stopped_while_somebody_takes_every_byte_of_the_disk(small):
    cluster, disk = small
    tasks = [cluster.run(cluster.define(cluster.container("probe", "hold", str(code))))[0] for code in (3, 7)]
    for task in tasks:
        cluster.until(task, "RUNNING")
    filler = Filler(disk / "filler")
    try:
        wait_for("the disk to be full", lambda: shutil.disk_usage(disk).free < 4096, 60)
        for task, code in zip(tasks, (3, 7)):
            cluster.ecs.stop_task(cluster=cluster.name, task=task)
            stopped = cluster.until(task, "STOPPED", 60)
            assert stopped["containers"][0]["exitCode"] == code, stopped
        with pytest.raises(ClientError) as refused:
            cluster.define(cluster.container("true"))
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert shutil.disk_usage(disk).free < 1 << 20, "all the while"
    finally:
        filler.close()
    again, = cluster.run(cluster.define(cluster.container("true")))
    assert cluster.until(again, "STOPPED")["containers"][0]["exitCode"] == 0
