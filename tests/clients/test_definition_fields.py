"""What a task definition says of the instances that it is for."""

import json

from conftest import Cluster


def failures(own, definition):
    answer = own.ecs.run_task(cluster="default", taskDefinition=definition, launchType="EC2")
    return [each["reason"] for each in answer["failures"]]


def test_a_definitions_constraints_hold_beside_those_of_the_request(cluster):
    definition = cluster.define(cluster.container("true"), fargate=False, placementConstraints=[
        {"type": "memberOf", "expression": "attribute:ecs.os-type == windows"}])
    assert failures(cluster, definition) == ["MemberOf placement constraint unsatisfied."]


def test_a_task_for_other_processors_runs_where_an_attribute_opens_it(cluster, start_region):
    shown = cluster.ecs.list_container_instances(cluster="default")["containerInstanceArns"]
    instance, = cluster.ecs.describe_container_instances(cluster="default", containerInstances=shown)["containerInstances"]
    own = {each["name"]: each.get("value") for each in instance["attributes"]}["ecs.cpu-architecture"]
    other = "ARM64" if own == "x86_64" else "X86_64"
    platform = {"cpuArchitecture": other, "operatingSystemFamily": "LINUX"}
    definition = cluster.define(cluster.container("true"), fargate=False, runtimePlatform=platform)
    shown = cluster.ecs.describe_task_definition(taskDefinition=definition)["taskDefinition"]
    assert "ecs.cpu-architecture" not in json.dumps(shown["requiresAttributes"])
    reason, = failures(cluster, definition)
    assert reason == "ATTRIBUTE" or "ecs.cpu-architecture" in reason, reason

    region = start_region("--instance-attribute", f"longshore.emulates={other.lower()}", "--introspection", "off",
                          name="emulates", image="box:1")
    there = Cluster(region, f"127.0.0.1:{region.port}/box:1")
    definition = there.define(there.container("true"), fargate=False, runtimePlatform=platform)
    arn, = there.run(definition, fargate=False, cluster="default")
    assert there.until(arn, "STOPPED", cluster="default")["containers"][0]["exitCode"] == 0
