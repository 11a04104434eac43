"""ECS's API as its clients know it: answers, failures, paging, tags."""

import pytest
from botocore.exceptions import ClientError

from conftest import unique, wait_for

WEB = {"name": "web", "image": "web:1", "memory": 64}


def refused(call, code, part="", **arguments):
    with pytest.raises(ClientError) as error:
        call(**arguments)
    found = error.value.response["Error"]
    assert found["Code"] == code, found
    assert part in found["Message"], found
    return found


@pytest.fixture
def account(region):
    """A client of an account of this test's own: it starts empty."""
    import random
    return region.client("ecs", account=str(random.randrange(10**11, 10**12)))


def test_clusters_live_and_die(account):
    made = account.create_cluster(clusterName="one", tags=[{"key": "a", "value": "b"}])["cluster"]
    assert (made["status"], made["registeredContainerInstancesCount"], made["tags"]) == ("ACTIVE", 0, [{"key": "a", "value": "b"}])
    assert account.create_cluster(clusterName="one")["cluster"]["clusterArn"] == made["clusterArn"]
    assert account.create_cluster()["cluster"]["clusterName"] == "default"
    described = account.describe_clusters(clusters=["one", "two"], include=["SETTINGS", "STATISTICS", "TAGS", "CONFIGURATIONS", "ATTACHMENTS"])
    assert described["clusters"][0]["settings"] == [{"name": "containerInsights", "value": "disabled"}]
    assert described["failures"] == [{"arn": made["clusterArn"].replace("/one", "/two"), "reason": "MISSING"}]
    assert account.delete_cluster(cluster="one")["cluster"]["status"] == "INACTIVE"
    refused(account.delete_cluster, "ClusterNotFoundException", "Cluster not found.", cluster="never")
    assert made["clusterArn"] not in account.list_clusters()["clusterArns"]


def test_listing_goes_by_pages(account):
    for n in range(7):
        account.create_cluster(clusterName=f"c{n}")
    pages = list(account.get_paginator("list_clusters").paginate(PaginationConfig={"PageSize": 3}))
    assert [len(page["clusterArns"]) for page in pages] == [3, 3, 1]
    refused(account.list_clusters, "InvalidParameterException", nextToken="made-up")


def test_revisions_count_up_and_are_never_reused(account):
    for expected in (1, 2, 3):
        made = account.register_task_definition(family="web", containerDefinitions=[WEB])["taskDefinition"]
        assert made["revision"] == expected
    account.deregister_task_definition(taskDefinition="web:3")
    assert account.describe_task_definition(taskDefinition="web")["taskDefinition"]["revision"] == 2
    assert account.describe_task_definition(taskDefinition="web:3")["taskDefinition"]["status"] == "INACTIVE"
    deleted = account.delete_task_definitions(taskDefinitions=["web:3", "web:2", "web:9", "web"])
    assert [t["status"] for t in deleted["taskDefinitions"]] == ["DELETE_IN_PROGRESS"]
    reasons = [failure["reason"] for failure in deleted["failures"]]
    assert reasons[0] == "The specified task definition is still in ACTIVE status. Please deregister the target and try again."
    assert account.register_task_definition(family="web", containerDefinitions=[WEB])["taskDefinition"]["revision"] == 4
    assert account.list_task_definition_families()["families"] == ["web"]
    arns = account.list_task_definitions(familyPrefix="web", sort="DESC")["taskDefinitionArns"]
    assert [arn.rsplit(":", 1)[1] for arn in arns] == ["4", "2", "1"]


def test_defaults_are_filled_into_the_answer_and_the_rest_comes_back_as_sent(account):
    sent = {"name": "web", "image": "web:1", "memory": 64, "portMappings": [{"containerPort": 80}],
            "environment": [{"name": "A", "value": "b"}], "dockerLabels": {"x": "y"},
            "healthCheck": {"command": ["CMD-SHELL", "true"]}, "stopTimeout": 300}
    made = account.register_task_definition(family="web", containerDefinitions=[sent])["taskDefinition"]
    got = made["containerDefinitions"][0]
    assert got["essential"] is True and got["cpu"] == 0 and got["mountPoints"] == [] and got["volumesFrom"] == []
    assert got["portMappings"] == [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}]
    assert got["healthCheck"]["command"] == ["CMD-SHELL", "true"] and got["healthCheck"]["interval"] == 30
    assert got["dockerLabels"] == {"x": "y"}
    assert {"EC2"} <= set(made["compatibilities"])
    names = {attribute["name"] for attribute in made["requiresAttributes"]}
    assert "com.amazonaws.ecs.capability.docker-remote-api.1.18" in names or names


@pytest.mark.parametrize("change, code, part", [
    ({"containerDefinitions": []}, "ClientException", ""),
    ({"containerDefinitions": [{"image": "x", "memory": 4}]}, "ClientException", "Container.name should not be null or empty."),
    ({"containerDefinitions": [{"name": "x", "memory": 4}]}, "ClientException", "Container.image should not be null or empty."),
    ({"containerDefinitions": [{"name": "x", "image": "y"}]}, "ClientException", "At least one of 'memory' or 'memoryReservation' must be specified."),
    ({"containerDefinitions": [WEB, WEB]}, "ClientException", ""),
    ({"containerDefinitions": [{**WEB, "name": f"c{n}"} for n in range(11)]}, "ClientException", ""),
    ({"containerDefinitions": [{**WEB, "essential": False}]}, "ClientException", "essential"),
    ({"requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512"}, "ClientException", "Fargate only supports network mode"),
    ({"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "8192"}, "ClientException", "No Fargate configuration exists for given values"),
    ({"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512", "pidMode": "host"}, "ClientException", "pidMode 'host'"),
    ({"requiresCompatibilities": ["MOON"]}, "ClientException", ""),
    ({"networkMode": "token-ring"}, "ClientException", ""),
    ({"family": "no spaces"}, "ClientException", ""),
    ({"containerDefinitions": [{**WEB, "dependsOn": [{"containerName": "web", "condition": "START"}]}]}, "ClientException", ""),
    ({"containerDefinitions": [{**WEB, "dependsOn": [{"containerName": "b", "condition": "START"}]},
                                {**WEB, "name": "b", "dependsOn": [{"containerName": "web", "condition": "START"}]}]}, "ClientException", ""),
    ({"containerDefinitions": [{**WEB, "mountPoints": [{"sourceVolume": "nope", "containerPath": "/x"}]}]}, "ClientException", "nope"),
    ({"containerDefinitions": [{**WEB, "healthCheck": {"command": ["CMD", "x"], "interval": 1}}]}, "ClientException", ""),
    ({"containerDefinitions": [{**WEB, "portMappings": [{"containerPort": 70000}]}]}, "ClientException", ""),
    ({"containerDefinitions": [{**WEB, "memory": 2}]}, "ClientException", ""),
])
def test_a_task_definition_is_checked(account, change, code, part):
    refused(account.register_task_definition, code, part, **{"family": "f", "containerDefinitions": [WEB], **change})


def test_unknown_things_are_named(account):
    refused(account.describe_tasks, "ClusterNotFoundException", "Cluster not found.", tasks=["x"])
    refused(account.run_task, "ClusterNotFoundException", "Cluster not found.", taskDefinition="x")
    refused(account.describe_task_definition, "ClientException", "Unable to describe task definition.", taskDefinition="x")
    account.create_cluster()
    refused(account.describe_tasks, "InvalidParameterException", "Tasks cannot be empty.", tasks=[])
    missing = account.describe_tasks(tasks=["0" * 32])["failures"][0]
    assert missing["reason"] == "MISSING"
    refused(account.stop_task, "InvalidParameterException", "task", task="0" * 32)


def test_awsvpc_needs_a_network(account):
    account.create_cluster()
    account.register_task_definition(family="f", networkMode="awsvpc", requiresCompatibilities=["FARGATE"],
                                     cpu="256", memory="512", containerDefinitions=[WEB])
    refused(account.run_task, "InvalidParameterException",
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
            taskDefinition="f", launchType="FARGATE")
    refused(account.run_task, "InvalidParameterException", "The subnet ID 'subnet-00000000' does not exist",
            taskDefinition="f", launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-00000000"]}})


def test_container_instances_register_as_any_agent_does(account):
    account.create_cluster()
    made = account.register_container_instance(
        totalResources=[{"name": "CPU", "type": "INTEGER", "integerValue": 2048},
                        {"name": "MEMORY", "type": "INTEGER", "integerValue": 1024},
                        {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22"]},
                        {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []}],
        attributes=[{"name": "stack", "value": "proof"}, {"name": "ecs.capability.container-ordering"}],
        tags=[{"key": "a", "value": "b"}])["containerInstance"]
    assert {"name": "stack", "value": "proof"} in made["attributes"]
    arn = made["containerInstanceArn"]
    listed = account.list_container_instances(filter="attribute:stack == proof")["containerInstanceArns"]
    assert listed == [arn]
    assert account.list_container_instances(filter="attribute:stack == other")["containerInstanceArns"] == []
    drained = account.update_container_instances_state(containerInstances=[arn], status="DRAINING")
    assert drained["containerInstances"][0]["status"] == "DRAINING"
    account.put_attributes(attributes=[{"name": "disk", "value": "fast", "targetId": arn}])
    found = account.list_attributes(targetType="container-instance", attributeName="disk")["attributes"]
    assert found[0]["value"] == "fast"
    assert account.deregister_container_instance(containerInstance=arn)["containerInstance"]["status"] == "INACTIVE"
    gone = account.describe_container_instances(containerInstances=[arn])
    assert gone["containerInstances"][0]["status"] == "INACTIVE"
    assert account.list_container_instances()["containerInstanceArns"] == []


def test_tags_propagate_and_lists_filter(cluster):
    definition = cluster.define(cluster.container("sleep", "100", stopTimeout=1), tags=[{"key": "from", "value": "td"}])
    arn, = cluster.run(definition, startedBy="me", group="crew", propagateTags="TASK_DEFINITION",
                       tags=[{"key": "own", "value": "1"}], enableECSManagedTags=True)
    task = cluster.until(arn, "RUNNING")
    tags = {tag["key"]: tag["value"] for tag in task["tags"]}
    assert tags["from"] == "td" and tags["own"] == "1" and tags["aws:ecs:clusterName"] == cluster.name
    assert (task["group"], task["startedBy"], task["launchType"]) == ("crew", "me", "FARGATE")
    family = definition.rsplit("/", 1)[1].split(":")[0]
    listed = lambda **how: cluster.ecs.list_tasks(cluster=cluster.name, **how)["taskArns"]
    assert listed(startedBy="me") == [arn] == listed(family=family) == listed(launchType="FARGATE") == listed()
    assert listed(startedBy="you") == [] == listed(launchType="EC2")
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)
    cluster.until(arn, "STOPPED")
    assert listed() == [] and listed(desiredStatus="STOPPED") == [arn]


def test_a_client_token_runs_a_task_once(cluster):
    definition = cluster.define(cluster.container("sleep", "100", stopTimeout=1))
    token = unique("token")
    first = cluster.run(definition, clientToken=token)
    assert cluster.run(definition, clientToken=token) == first
    cluster.ecs.stop_task(cluster=cluster.name, task=first[0])


def test_a_task_on_a_container_instance_takes_its_resources_and_gives_them_back(cluster):
    def remaining():
        arn, = cluster.ecs.list_container_instances(cluster="default")["containerInstanceArns"][:1]
        instance = cluster.ecs.describe_container_instances(cluster="default", containerInstances=[arn])["containerInstances"][0]
        return instance, {r["name"]: r.get("integerValue") for r in instance["remainingResources"]}

    instance, before = remaining()
    assert instance["agentConnected"] and instance["versionInfo"].get("agentVersion")
    definition = cluster.define({**cluster.container("sleep", "100", stopTimeout=1), "cpu": 128, "memory": 96}, fargate=False)
    arn, = cluster.run(definition, fargate=False, cluster="default")
    task = cluster.until(arn, "RUNNING", cluster="default")
    assert task["containerInstanceArn"] == instance["containerInstanceArn"]
    _, during = remaining()
    assert (before["CPU"] - during["CPU"], before["MEMORY"] - during["MEMORY"]) == (128, 96)
    started = cluster.ecs.start_task(cluster="default", taskDefinition=definition,
                                     containerInstances=[instance["containerInstanceArn"]])
    assert started["failures"] == []
    for each in [arn, started["tasks"][0]["taskArn"]]:
        cluster.ecs.stop_task(cluster="default", task=each)
        cluster.until(each, "STOPPED", cluster="default")
    assert remaining()[1] == before


def test_account_settings_have_defaults_and_values(account):
    effective = {s["name"]: s["value"] for s in account.list_account_settings(effectiveSettings=True)["settings"]}
    assert effective["containerInsights"] == "disabled"
    account.put_account_setting_default(name="containerInsights", value="enabled")
    effective = {s["name"]: s["value"] for s in account.list_account_settings(effectiveSettings=True)["settings"]}
    assert effective["containerInsights"] == "enabled"
    refused(account.list_account_settings, "InvalidParameterException", "should be one of", name="unknown")


def test_fargate_providers_are_described(account):
    found = account.describe_capacity_providers()["capacityProviders"]
    assert {provider["name"] for provider in found} == {"FARGATE", "FARGATE_SPOT"}
    assert account.describe_capacity_providers(capacityProviders=["x"])["failures"][0]["reason"] == "MISSING"
