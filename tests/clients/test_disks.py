"""A disk that is full, and one that is dead: every request is answered, and all returns or ends by itself."""

import fcntl
import os
import struct
import subprocess
import time
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import images
from conftest import Region, binary, free_port, wait_for

TASK = [{"name": "a", "image": "x", "memory": 4}]
# EXT4_IOC_SHUTDOWN: from now on the file system answers EIO, as one whose disk is gone.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2


@pytest.fixture
def loop_disk(tmp_path):
    """An ext4 of its own, 256 MiB."""
    file, disk = tmp_path / "disk.img", tmp_path / "disk"
    disk.mkdir()
    with open(file, "wb") as image:
        image.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(file)], check=True)
    subprocess.run(["mount", "-o", "loop", str(file), str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk):
    with open(disk / "filler", "wb") as filler:
        for size in [1 << 20, 4096, 1]:
            try:
                while True:
                    os.write(filler.fileno(), b"x" * size)
            except OSError:
                pass


def kill_disk(disk):
    place = os.open(disk, os.O_RDONLY)
    fcntl.ioctl(place, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    os.close(place)


def status_of(call, **input):
    """The status of the answer; None if there was none."""
    try:
        return call(**input)["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("ServerException", "InternalFailure", "ServiceUnavailableException"), error
        return error.response["ResponseMetadata"]["HTTPStatusCode"]
    except BotoCoreError:
        return None


def processes(data):
    """Of a data directory: pids by what they are."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if str(data).encode() in words:
            found[int(entry.name)] = words[1].decode()
    return found


def test_all_returns_by_itself_once_a_full_disk_has_room(loop_disk):
    data = loop_disk / "data"
    log = loop_disk.parent / "detached.log"
    port = free_port()
    with open(log, "wb") as out:
        subprocess.run([binary(), "up", "--detach", "--data-dir", str(data), "--listen", f"127.0.0.1:{port}",
                        "--region", "eu-north-1", "--account-keys", "swordfish"], check=True, stdout=out, stderr=out)
    region = Region(data, port)
    supervisor = next(pid for pid, role in processes(data).items() if role == "up")
    try:
        region.variables = region.env()
        ecs = region.client("ecs")
        fill(loop_disk)
        statuses = [status_of(ecs.register_task_definition, family=f"full-{n}", containerDefinitions=TASK)
                    for n in range(300)]
        assert None not in statuses, "every request is answered"
        assert 500 in statuses
        assert status_of(ecs.list_clusters) == 200

        def rows():
            lines = region.run("ps", check=False).stdout.splitlines()
            return {words[0]: words for words in map(str.split, lines) if words and words[0] in ("up", "region", "agent")}
        before = rows()
        assert before["up"][1] == str(supervisor) and before["region"][-1] == "running", before
        # Children that die while nothing can be written are always started again.
        for _ in range(5):
            for pid, role in processes(data).items():
                if role in ("region", "agent"):
                    os.kill(pid, 9)
            time.sleep(0.3)
        assert rows()["up"][1:] == before["up"][1:2] + rows()["up"][2:], "ps knows that the supervisor is there"
        os.remove(loop_disk / "filler")

        def writes():
            return status_of(ecs.register_task_definition, family="after", containerDefinitions=TASK) == 200
        wait_for("writes again", writes, 60, 0.2)
        assert next(pid for pid, role in processes(data).items() if role == "up") == supervisor

        def joined():
            arns = ecs.list_container_instances()["containerInstanceArns"]
            found = arns and ecs.describe_container_instances(containerInstances=arns)["containerInstances"]
            return found and found[0]["agentConnected"]
        wait_for("the agent again", joined, 60, 0.2)
        assert {row[-1] for row in rows().values()} == {"running"}
    finally:
        region.run("down", check=False)
    assert not processes(data)


def leftovers(tag, disk):
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout
    mounts = Path("/proc/self/mountinfo").read_text()
    groups = [str(path) for root in ["/sys/fs/cgroup", *map(str, Path("/sys/fs/cgroup").iterdir())]
              for path in [Path(root) / "longshore" / tag] if path.exists()]
    return {"links": [line for line in links.splitlines() if f"ls{tag}" in line],
            "mounts": [line for line in mounts.splitlines() if f" {disk}/" in line],
            "groups": groups, "run": [str(path) for path in [Path("/run/longshore") / tag] if path.exists()]}


def test_down_works_without_a_disk_and_leaves_nothing(loop_disk, tmp_path):
    import hashlib
    data = loop_disk / "data"
    region = Region(data, free_port()).up()
    tag = hashlib.sha256(str(data).encode()).hexdigest()[:8]
    try:
        region.run("image", "load", str(images.docker_save(tmp_path / "box.tar", "box:1")))
        ecs, subnet = region.client("ecs"), region.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
        ecs.register_task_definition(
            family="f", requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256", memory="512",
            containerDefinitions=[{"name": "main", "image": f"127.0.0.1:{region.port}/box:1", "command": ["sleep", "1000"]}])
        task, = ecs.run_task(taskDefinition="f", launchType="FARGATE", networkConfiguration={
            "awsvpcConfiguration": {"subnets": [subnet]}})["tasks"]
        wait_for("the task", lambda: ecs.describe_tasks(tasks=[task["taskArn"]])["tasks"][0]["lastStatus"] == "RUNNING", 60)
        assert leftovers(tag, loop_disk)["groups"], "there is something to remove"
        kill_disk(loop_disk)
        statuses = [status_of(ecs.register_task_definition, family=f"dead-{n}", containerDefinitions=TASK) for n in range(50)]
        assert None not in statuses, "every request is answered"
        assert statuses[-1] == 500, statuses
    finally:
        done = region.run("down", check=False)
        region.process.wait(20)
    assert not processes(data), done
    assert leftovers(tag, loop_disk) == {"links": [], "mounts": [], "groups": [], "run": []}, done
