"""Containers that share processes or memory: none of them holds what they share, the task does."""

import pytest

from conftest import wait_for

KINDS = [True, False]
PLACES = ["Fargate", "EC2"]


def by_name(task):
    return {container["name"]: container for container in task["containers"]}


def ended(cluster, *containers, fargate=True, **more):
    """Runs a task to its end; it and its ARN."""
    where = None if fargate else "default"
    arn, = cluster.run(cluster.define(*containers, fargate=fargate, **more), fargate, where)
    return cluster.until(arn, "STOPPED", cluster=where), arn


def patient(cluster, name, **more):
    """Goes on until it is told to stop, and says that it was."""
    script = "trap 'echo told; exit 0' TERM; echo ready; i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done"
    return cluster.container("sh", "-c", script, name=name, stopTimeout=10, **more)


@pytest.mark.parametrize("fargate", KINDS, ids=PLACES)
@pytest.mark.parametrize("mode", ["pidMode", "ipcMode"])
def test_a_container_may_end_before_the_next_one_starts(cluster, fargate, mode):
    if fargate and mode == "ipcMode":
        pytest.skip("ECS takes no ipcMode on Fargate")
    task, _ = ended(
        cluster, cluster.container("true", name="first", essential=False),
        cluster.container("sh", "-c", "sleep 0.2; exit 4",
                          dependsOn=[{"containerName": "first", "condition": "SUCCESS"}]),
        fargate=fargate, **{mode: "task"})
    codes = {name: container.get("exitCode") for name, container in by_name(task).items()}
    assert codes == {"first": 0, "main": 4}, task
    assert task["stopCode"] == "EssentialContainerExited", task


@pytest.mark.parametrize("fargate", KINDS, ids=PLACES)
def test_the_end_of_a_container_that_is_not_essential_ends_no_other(cluster, fargate):
    task, arn = ended(
        cluster, cluster.container("sh", "-c", "sleep 0.5", name="first", essential=False),
        cluster.container("sh", "-c", "echo a; sleep 2; echo b; exit 5",
                          dependsOn=[{"containerName": "first", "condition": "START"}]),
        fargate=fargate, pidMode="task")
    codes = {name: container.get("exitCode") for name, container in by_name(task).items()}
    assert codes == {"first": 0, "main": 5}, task
    assert cluster.lines(arn) == ["a", "b"]


def test_when_the_first_container_ends_the_others_are_told_before_they_are_killed(cluster):
    task, arn = ended(cluster, cluster.container("sh", "-c", "sleep 2; exit 3", name="first"),
                      patient(cluster, "second", essential=False), pidMode="task")
    codes = {name: container.get("exitCode") for name, container in by_name(task).items()}
    assert codes == {"first": 3, "second": 0}, task
    assert cluster.lines(arn, "second") == ["ready", "told"]


def test_a_stopped_task_tells_all_containers(cluster):
    arn, = cluster.run(cluster.define(patient(cluster, "first"), patient(cluster, "second"), pidMode="task"))
    cluster.until(arn, "RUNNING")
    for name in ["first", "second"]:
        wait_for("the trap is set", lambda: "ready" in cluster.lines(arn, name), 15)
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)
    task = cluster.until(arn, "STOPPED")
    assert [container["exitCode"] for container in task["containers"]] == [0, 0], task
    for name in ["first", "second"]:
        assert cluster.lines(arn, name) == ["ready", "told"]


def test_a_container_that_is_restarted_ends_no_other_and_comes_back_to_them(cluster):
    """The period is what ECS allows at least; the container runs a little longer than that."""
    arn, = cluster.run(cluster.define(
        cluster.container("sh", "-c", "ps | grep -c '[s]leep 33333' | sed 's/^/sees /'; sleep 61; exit 3", name="first",
                          restartPolicy={"enabled": True, "restartAttemptPeriod": 60}),
        cluster.container("sleep", "33333", stopTimeout=2), pidMode="task"))
    cluster.until(arn, "RUNNING")
    wait_for("its second run", lambda: len(cluster.lines(arn, "first")) == 2, 90, 0.5)
    assert cluster.lines(arn, "first")[1] == "sees 1"
    task = cluster.describe(arn)
    assert task["lastStatus"] == "RUNNING", task
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)
    cluster.until(arn, "STOPPED")


def test_the_first_process_that_containers_see_is_the_tasks_own_and_nobody_can_end_it(cluster):
    script = ("cat /proc/1/comm; kill -TERM 1; kill -9 1; (sh -c 'sleep 0.1 & exec sleep 0.3' &); sleep 1; "
              "cat /proc/[0-9]*/status | grep -c 'State:.*Z'; ls /proc/1/root/; ps | grep -c '[s]leep 33333'")
    task, arn = ended(cluster, cluster.container("sleep", "33333", name="first", stopTimeout=1, essential=False),
                      cluster.container("sh", "-c", script), pidMode="task")
    lines = cluster.lines(arn)
    assert lines[:2] == ["pause", "0"] and lines[-1] == "1", (lines, task)


def test_memory_is_shared_by_who_starts_after_the_others_end(cluster):
    task, arn = ended(
        cluster, cluster.container("sh", "-c", "echo kept > /dev/shm/note", name="first", essential=False),
        cluster.container("cat", "/dev/shm/note", dependsOn=[{"containerName": "first", "condition": "SUCCESS"},
                                                             {"containerName": "third", "condition": "SUCCESS"}],
                          systemControls=[{"namespace": "kernel.shmmax", "value": "1048576"}]),
        cluster.container("cat", "/proc/sys/kernel/shmmax", name="third", essential=False),
        fargate=False, ipcMode="task")
    assert cluster.lines(arn) == ["kept"], task
    assert cluster.lines(arn, "third") == ["1048576"]
