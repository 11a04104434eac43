"""A full disk, and no root: clear errors, nothing half done, and all is well once the cause is gone."""

import os
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

import images
from conftest import Region, binary, free_port, wait_for

TASK = [{"name": "a", "image": "x", "memory": 4}]


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", disk], check=True)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk):
    with open(disk / "filler", "wb") as filler:
        try:
            while True:
                filler.write(b"x" * 65536)
                filler.flush()
        except OSError:
            pass


def test_a_full_disk_refuses_writes_and_loses_nothing(small_disk, tmp_path):
    region = Region(small_disk / "data", free_port()).up()
    try:
        ecs, logs = region.client("ecs"), region.client("logs")
        logs.create_log_group(logGroupName="g")
        logs.create_log_stream(logGroupName="g", logStreamName="s")
        kept = [ecs.register_task_definition(family=f"before-{n}", containerDefinitions=TASK) for n in range(5)]
        fill(small_disk)
        refused = set()
        for n in range(2000):
            try:
                kept.append(ecs.register_task_definition(family=f"full-{n}", containerDefinitions=TASK))
            except ClientError as error:
                refused.add(f"full-{n}")
                assert error.response["Error"]["Code"] == "ServerException", error
                assert "disk" not in error.response["Error"]["Message"].lower()
                if len(refused) > 5:
                    break
        assert refused, "the disk was full"
        events = [{"timestamp": int(time.time() * 1000), "message": "x" * 200_000}]
        with pytest.raises(ClientError):
            for _ in range(50):
                logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=events)
        loaded = region.run("image", "load", str(images.docker_save(tmp_path / "box.tar", "box:1")), check=False)
        assert loaded.returncode != 0 and loaded.stderr
        assert region.is_healthy()
        names = {each["taskDefinition"]["family"] for each in kept}

        def families():
            pages = ecs.get_paginator("list_task_definition_families").paginate()
            return {family for page in pages for family in page["families"]}
        assert families() == names

        os.remove(small_disk / "filler")
        wait_for("writes again", lambda: writes(ecs), 20, 0.5)
        region.run("image", "load", str(tmp_path / "box.tar"))
        assert names <= families() and not refused & families()
    finally:
        region.down()


def run_to_the_end(region, image):
    ecs, subnet = region.client("ecs"), region.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    ecs.register_task_definition(
        family="f", requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256", memory="512",
        containerDefinitions=[{"name": "main", "image": image, "command": ["true"]}])
    task, = ecs.run_task(taskDefinition="f", launchType="FARGATE", networkConfiguration={
        "awsvpcConfiguration": {"subnets": [subnet]}})["tasks"]

    def stopped():
        found, = ecs.describe_tasks(tasks=[task["taskArn"]])["tasks"]
        return found if found["lastStatus"] == "STOPPED" else None
    return wait_for("the task's end", stopped, 60)


def test_an_image_that_does_not_fit_on_the_disk_fails_its_task_and_leaves_nothing(tmp_path):
    data = tmp_path / "data"
    store = data / "agent" / "images"
    store.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", store], check=True)
    region = None
    try:
        region = Region(data, free_port()).up()
        big = images.busybox_layer({"big": b"x" * (40 << 20)})
        region.run("image", "load", str(images.oci_layout(tmp_path / "big.tar", "big:1", [big])))
        region.run("image", "load", str(images.docker_save(tmp_path / "box.tar", "box:1")))
        task = run_to_the_end(region, f"127.0.0.1:{region.port}/big:1")
        reason = task["containers"][0]["reason"]
        assert task["stopCode"] == "TaskFailedToStart", task
        assert reason.startswith("CannotPullContainerError: ") and "no space left on device" in reason, reason
        assert task["stoppedReason"] == reason
        # Its manifest may stay for the next try; of the layer nothing does.
        held = lambda: sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
        wait_for("nothing half left", lambda: held() < 65536 and not list((store / "layers").iterdir()), 10)
        # What fits is not kept from running.
        task = run_to_the_end(region, f"127.0.0.1:{region.port}/box:1")
        assert task["containers"][0].get("exitCode") == 0, task
    finally:
        if region:
            region.down()
        subprocess.run(["umount", "-l", store], check=True)


def writes(ecs):
    try:
        return ecs.register_task_definition(family="after", containerDefinitions=TASK)
    except ClientError:
        return None


def test_without_root_the_region_serves_and_the_agent_says_what_it_needs(tmp_path):
    os.chmod(tmp_path, 0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
            os.chmod(parent, 0o755)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    shown = tmp_path / "longshore"
    shown.write_bytes(open(binary(), "rb").read())
    shown.chmod(0o755)
    port = free_port()
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [str(shown), "up", "--data-dir", str(home / "data"), "--listen", f"127.0.0.1:{port}"],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=65534, group=65534, extra_groups=[], cwd="/")
    try:
        region = Region(home / "data", port)
        region.process = process
        region.data_dir.with_suffix(".up.log").touch()
        wait_for("health", region.is_healthy, 20)
        wait_for("a word about root", lambda: "root" in (tmp_path / "log").read_text(), 20)
    finally:
        process.terminate()
        process.wait(60)
