"""GPUs: what a host offers, which task has which, and that only its container opens the device files.

The device files are of a device that every machine has and containers do not: what a container may open says its rules."""

import os
import stat
from pathlib import Path

import botocore.exceptions
import pytest

from conftest import Cluster, unique, wait_for
from services import IDLE

MISC = {line.split()[1]: int(line.split()[0]) for line in Path("/proc/misc").read_text().splitlines()}


@pytest.fixture(scope="module")
def nodes():
    """Two device files of two kinds that are harmless to open, under names of our own."""
    found = []
    for name in ["loop-control", "fuse", "tun", "hw_random"]:
        if name in MISC and len(found) < 2:
            path = Path("/dev") / unique("longshore-gpu")
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(10, MISC[name]))
            os.chmod(path, 0o666)
            found.append(path)
    if len(found) < 2:
        pytest.skip("this kernel has too few devices that can be opened")
    yield found
    for path in found:
        path.unlink()


@pytest.fixture(scope="module")
def host(start_region, nodes):
    return start_region("--gpu", f"gpu-a={nodes[0]}", "--gpu", f"gpu-b={nodes[1]}", name="gpus", image="box:1")


@pytest.fixture
def own(host):
    return Cluster(host, f"127.0.0.1:{host.port}/box:1")


def wanting(count):
    return [{"type": "GPU", "value": str(count)}]


def gpus(own):
    """Registered and remaining."""
    arns = own.ecs.list_container_instances(cluster="default")["containerInstanceArns"]
    instance, = own.ecs.describe_container_instances(cluster="default", containerInstances=arns)["containerInstances"]
    return [next(each["stringSetValue"] for each in instance[kind] if each["name"] == "GPU" and each["type"] == "STRINGSET")
            for kind in ["registeredResources", "remainingResources"]]


def run(own, definition, **more):
    return own.ecs.run_task(cluster="default", taskDefinition=definition, launchType="EC2", **more)


def stop(own, *arns):
    for arn in arns:
        own.ecs.stop_task(cluster="default", task=arn)
    for arn in arns:
        own.until(arn, "STOPPED", cluster="default")


def test_each_task_has_its_own_gpu_and_the_next_one_is_refused_by_name(own):
    assert gpus(own) == [["gpu-a", "gpu-b"], ["gpu-a", "gpu-b"]]
    definition = own.define(own.container("sh", "-c", IDLE, stopTimeout=2, resourceRequirements=wanting(1)), fargate=False)
    answer = run(own, definition, count=3)
    assert [each["reason"] for each in answer["failures"]] == ["RESOURCE:GPU"]
    assert "too few GPUs (1 needed, 0 free at most)" in answer["failures"][0]["detail"]
    given = [task["containers"][0]["gpuIds"] for task in answer["tasks"]]
    assert sorted(given) == [["gpu-a"], ["gpu-b"]]
    assert gpus(own) == [["gpu-a", "gpu-b"], []]
    first, second = [task["taskArn"] for task in answer["tasks"]]
    own.until(first, "RUNNING", cluster="default")
    stop(own, first)
    assert gpus(own)[1] == given[0]
    # StartTask goes by the same.
    instance, = own.ecs.list_container_instances(cluster="default")["containerInstanceArns"]
    start = lambda: own.ecs.start_task(cluster="default", taskDefinition=definition, containerInstances=[instance])
    started, = start()["tasks"]
    assert started["containers"][0]["gpuIds"] == given[0]
    assert start()["failures"][0]["reason"] == "RESOURCE:GPU"
    stop(own, second, started["taskArn"])
    assert gpus(own)[1] == ["gpu-a", "gpu-b"]


def test_a_container_opens_its_gpus_and_no_other_ones(own, nodes):
    look = "; ".join(f"(: < {path}) 2>/dev/null && echo {name} || echo no" for name, path in zip("ab", nodes))
    # A node that it makes itself opens nothing either.
    made = f"mknod /tmp/x c 10 {os.minor(os.stat(nodes[1]).st_rdev)}; (: < /tmp/x) 2>/dev/null && echo made || echo no"
    asked = "wget -qO- $ECS_CONTAINER_METADATA_URI_V4/associations/gpu; echo"
    containers = [own.container("sh", "-c", f"{look}; {asked}", name=name, resourceRequirements=wanting(1) if name == "one" else [])
                  for name in ["one", "none"]]
    containers[1]["command"][2] = f"{look}; {made}; {asked}"
    containers[1]["essential"] = False
    containers[1]["dependsOn"] = []
    containers[0]["dependsOn"] = [{"containerName": "none", "condition": "COMPLETE"}]
    task, = run(own, own.define(*containers, fargate=False))["tasks"]
    own.until(task["taskArn"], "STOPPED", cluster="default")
    given, = [each["gpuIds"] for each in task["containers"] if "gpuIds" in each]
    shown = {name: own.lines(task["taskArn"], name) for name in ["one", "none"]}
    expected = [letter if given == [f"gpu-{letter}"] else "no" for letter in "ab"]
    assert shown["one"][:2] == expected and given[0] in shown["one"][2], shown
    assert shown["none"][:3] == ["no", "no", "no"] and '"Associations":[]' in shown["none"][3].replace(" ", ""), shown


def test_a_launch_may_ask_for_more_and_gets_them_all(own):
    definition = own.define(own.container("true", resourceRequirements=wanting(1)), fargate=False)
    override = lambda requirements: {"containerOverrides": [{"name": "main", "resourceRequirements": requirements}]}
    task, = run(own, definition, overrides=override(wanting(2)))["tasks"]
    assert sorted(task["containers"][0]["gpuIds"]) == ["gpu-a", "gpu-b"]
    assert task["overrides"]["containerOverrides"][0]["resourceRequirements"] == wanting(2)
    own.until(task["taskArn"], "STOPPED", cluster="default")
    for bad in [wanting("x"), wanting(0), [{"type": "InferenceAccelerator", "value": "1"}]]:
        with pytest.raises(botocore.exceptions.ClientError, match="resourceRequirements"):
            run(own, definition, overrides=override(bad))
    assert run(own, definition, overrides=override(wanting(3)))["failures"][0]["reason"] == "RESOURCE:GPU"


def test_fargate_has_none(own):
    with pytest.raises(botocore.exceptions.ClientError, match="GPU"):
        own.define(own.container("true", resourceRequirements=wanting(1)))
    definition = own.define(own.container("true"))
    with pytest.raises(botocore.exceptions.ClientError, match="Fargate"):
        own.run(definition, overrides={"containerOverrides": [{"name": "main", "resourceRequirements": wanting(1)}]})


def test_a_service_keeps_as_many_as_there_are_gpus_and_the_agents_end_changes_none(own, host):
    definition = own.define(own.container("sh", "-c", IDLE, stopTimeout=1, resourceRequirements=wanting(1)), fargate=False)
    name = unique("s")
    own.ecs.create_service(cluster="default", serviceName=name, taskDefinition=definition, desiredCount=3, launchType="EC2")
    described = lambda: own.ecs.describe_services(cluster="default", services=[name])["services"][0]
    wait_for("two tasks", lambda: described()["runningCount"] == 2)
    said = wait_for("why no third", lambda: [each["message"] for each in described()["events"] if "GPU" in each["message"]])
    assert "has insufficient GPU resource available" in said[0], said

    def held():
        arns = own.ecs.list_tasks(cluster="default", serviceName=name)["taskArns"]
        tasks = own.ecs.describe_tasks(cluster="default", tasks=arns)["tasks"] if arns else []
        return sorted(task["containers"][0]["gpuIds"][0] for task in tasks)

    assert held() == ["gpu-a", "gpu-b"]
    os.kill(host.children()["agent"], 9)
    arn = own.ecs.list_tasks(cluster="default", serviceName=name)["taskArns"][0]
    own.ecs.stop_task(cluster="default", task=arn)
    wait_for("it is replaced on the GPU that is free", lambda: described()["runningCount"] == 2 and held() == ["gpu-a", "gpu-b"]
             and arn not in own.ecs.list_tasks(cluster="default", serviceName=name)["taskArns"], 60)
    own.ecs.delete_service(cluster="default", service=name, force=True)
    wait_for("all is free", lambda: gpus(own)[1] == ["gpu-a", "gpu-b"], 60)
