"""A start that fails says precisely what happened."""

import pytest

from conftest import unique
from test_fetching import why_not


def failed(cluster, container, **more):
    arn, = cluster.run(cluster.define(container, **more))
    task = cluster.until(arn, "STOPPED")
    return task["stoppedReason"], task["containers"][0].get("reason", ""), task


def test_an_image_that_is_not_there(cluster, region):
    container = cluster.container("x")
    container["image"] = f"127.0.0.1:{region.port}/nothing-here:9"
    reason, detail, task = failed(cluster, container)
    assert task["stopCode"] == "TaskFailedToStart"
    assert "CannotPullContainerError" in detail and "nothing-here" in detail and "not found" in detail.lower(), detail


def test_a_command_that_is_not_there(cluster):
    reason, detail, task = failed(cluster, cluster.container("no-such-command", "-x"))
    assert "no-such-command" in detail and "CannotStartContainerError" in detail.replace("Create", "Start"), detail
    assert task["stopCode"] == "TaskFailedToStart"


def test_a_user_that_is_not_there(cluster):
    _, detail, _ = failed(cluster, cluster.container("id", user="nobody-here"))
    assert "nobody-here" in detail, detail


def test_a_log_group_that_is_not_there(cluster):
    container = cluster.container("echo", "x")
    container["logConfiguration"]["options"]["awslogs-group"] = "/not/there"
    reason, detail, _ = failed(cluster, container)
    assert "/not/there" in reason + detail or "log group" in (reason + detail).lower(), (reason, detail)


def test_no_room_says_what_is_missing(cluster):
    definition = cluster.define({**cluster.container("sleep", "9"), "memory": 9_000_000}, fargate=False)
    answer = cluster.ecs.run_task(cluster="default", taskDefinition=definition, launchType="EC2")
    assert answer["tasks"] == []
    assert answer["failures"][0]["reason"] == "RESOURCE:MEMORY"
    assert answer["failures"][0]["arn"].startswith("arn:aws:ecs:")


def test_an_empty_cluster_has_no_instances(cluster):
    definition = cluster.define(cluster.container("true"), fargate=False)
    with pytest.raises(cluster.ecs.exceptions.InvalidParameterException, match="No Container Instances were found in your cluster"):
        cluster.ecs.run_task(cluster=cluster.name, taskDefinition=definition, launchType="EC2")


def test_a_secret_that_may_not_be_read_is_told_clearly(cluster):
    container = cluster.container("true", secrets=[
        {"name": "S", "valueFrom": "arn:aws:secretsmanager:eu-north-1:000000000000:secret:x"}])
    arn, = cluster.run(cluster.define(container))
    task = cluster.until(arn, "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart", task
    assert "unable to retrieve secret from asm" in why_not(task), why_not(task)


def test_an_image_with_no_entry_point(region, cluster, tmp_path):
    import images
    archive = images.docker_save(tmp_path / "empty.tar", "empty:1", Cmd=None)
    region.run("image", "load", str(archive))
    container = cluster.container()
    del container["command"]
    container["image"] = f"127.0.0.1:{region.port}/empty:1"
    _, detail, _ = failed(cluster, container)
    assert "command" in detail.lower() or "entrypoint" in detail.lower(), detail


def test_an_exit_is_told_with_its_code_and_last_line(cluster):
    arn, = cluster.run(cluster.define(cluster.container("sh", "-c", "echo no luck; exit 3")))
    task = cluster.until(arn, "STOPPED")
    assert task["stoppedReason"] == "Essential container in task exited"
    told = {each["name"]: each["value"] for each in task["attributes"]}["longshore.stopped-because"]
    assert "exited with code 3" in told and told.endswith("its last line was: no luck"), told
