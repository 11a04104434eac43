"""Where a service's tasks go: providers, strategies, constraints, and waiting for room."""

from collections import Counter

import pytest

import images
from conftest import unique, wait_for
from services import ServiceCluster, only, refused

GROUP = "arn:aws:autoscaling:eu-north-1:000000000000:autoScalingGroup:5f6f8f4e-0000-4000-8000-000000000000:autoScalingGroupName/"


def test_a_strategy_spreads_by_base_and_weight(services):
    ecs = services.ecs
    put = ecs.put_cluster_capacity_providers(
        cluster=services.name, capacityProviders=["FARGATE", "FARGATE_SPOT"],
        defaultCapacityProviderStrategy=[{"capacityProvider": "FARGATE", "weight": 1, "base": 1},
                                         {"capacityProvider": "FARGATE_SPOT", "weight": 3}])["cluster"]
    assert put["capacityProviders"] == ["FARGATE", "FARGATE_SPOT"]
    definition = services.define(services.idle())

    def providers(name):
        return Counter(task["capacityProviderName"] for task in services.tasks(name))

    strategy = [{"capacityProvider": "FARGATE", "weight": 1, "base": 1}, {"capacityProvider": "FARGATE_SPOT", "weight": 3}]
    name = services.create(definition, 9, capacityProviderStrategy=strategy)
    service = services.steady(name, 9)
    assert "launchType" not in service
    assert [(s["capacityProvider"], s["weight"], s["base"]) for s in service["capacityProviderStrategy"]] == [
        ("FARGATE", 1, 1), ("FARGATE_SPOT", 3, 0)]
    assert providers(name) == {"FARGATE": 3, "FARGATE_SPOT": 6}
    # Neither launch type nor strategy: the cluster's own strategy.
    made = ecs.create_service(cluster=services.name, serviceName=unique("s"), taskDefinition=definition, desiredCount=5,
                              networkConfiguration=services.network())["service"]
    services.made.append((services.name, made["serviceName"]))
    services.steady(made["serviceName"], 5)
    assert providers(made["serviceName"]) == {"FARGATE": 2, "FARGATE_SPOT": 3}
    only_spot = [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]
    services.update(name, desiredCount=2, capacityProviderStrategy=only_spot, forceNewDeployment=True)
    services.steady(name, 2)
    assert providers(name) == {"FARGATE_SPOT": 2}


@pytest.fixture
def provider(services):
    """A provider of the test's own, known to the cluster `default`, with no instance yet."""
    ecs, name = services.ecs, unique("pool")
    made = ecs.create_capacity_provider(name=name, tags=[{"key": "a", "value": "b"}], autoScalingGroupProvider={
        "autoScalingGroupArn": GROUP + name, "managedScaling": {"status": "ENABLED", "targetCapacity": 100},
        "managedTerminationProtection": "DISABLED"})["capacityProvider"]
    assert made["status"] == "ACTIVE" and made["capacityProviderArn"].endswith(f":capacity-provider/{name}")
    before = only(ecs.describe_clusters(clusters=["default"])["clusters"])
    put = lambda names: ecs.put_cluster_capacity_providers(
        cluster="default", capacityProviders=names,
        defaultCapacityProviderStrategy=before["defaultCapacityProviderStrategy"])
    put([*before["capacityProviders"], name])
    yield name
    services.clean_up()
    put(before["capacityProviders"])
    ecs.delete_capacity_provider(capacityProvider=name)
    left = ecs.describe_capacity_providers(capacityProviders=[name])
    assert left["failures"] or left["capacityProviders"][0]["status"] == "INACTIVE"


def instance_of(services):
    return only(services.ecs.list_container_instances(cluster="default")["containerInstanceArns"])


def test_tasks_wait_for_a_provider_until_an_instance_of_its_group_can_take_them(start_region, tmp_path):
    region = start_region("--auto-scaling-group", "pool", name="pool")
    region.run("image", "load", str(images.docker_save(tmp_path / "box.tar", "box:1")))
    services = ServiceCluster(region, f"127.0.0.1:{region.port}/box:1")
    ecs, where = services.ecs, "default"
    instance = wait_for("the instance", lambda: ecs.list_container_instances(cluster=where)["containerInstanceArns"], 10)[0]
    turn = lambda status: ecs.update_container_instances_state(
        cluster=where, containerInstances=[instance], status=status)
    ecs.create_capacity_provider(name="mine", autoScalingGroupProvider={
        "autoScalingGroupArn": GROUP + "pool", "managedScaling": {"status": "ENABLED"}})
    ecs.put_cluster_capacity_providers(cluster=where, capacityProviders=["mine"], defaultCapacityProviderStrategy=[])
    turn("DRAINING")
    definition = services.define({**services.idle(), "memory": 32}, fargate=False)
    strategy = [{"capacityProvider": "mine", "weight": 1}]
    alone = ecs.run_task(cluster=where, taskDefinition=definition, capacityProviderStrategy=strategy)
    assert alone["failures"] == []
    task = only(alone["tasks"])
    assert (task["lastStatus"], task["capacityProviderName"]) == ("PROVISIONING", "mine")
    name = services.create(definition, 2, fargate=False, cluster=where, capacityProviderStrategy=strategy)
    services.until_service("waiting tasks", name, lambda s: s["pendingCount"] == 2, cluster=where)
    waiting = services.tasks(name, cluster=where)
    assert {each["lastStatus"] for each in waiting} == {"PROVISIONING"}
    services.until_service("what they wait for", name, lambda s: (
        "draining" in s["deployments"][0]["rolloutStateReason"].lower()), 10, cluster=where)
    turn("ACTIVE")
    services.steady(name, 2, cluster=where)
    assert services.arns(name, cluster=where) == {each["taskArn"] for each in waiting}, "they waited, none was made anew"
    for each in services.tasks(name, cluster=where):
        assert (each["capacityProviderName"], each["containerInstanceArn"]) == ("mine", instance)
    services.until(task["taskArn"], "RUNNING", cluster=where)
    described = only(ecs.describe_container_instances(cluster=where, containerInstances=[instance])["containerInstances"])
    assert described["capacityProviderName"] == "mine"
    region.down()


def test_a_provider_is_described_changed_and_kept_while_it_is_used(services, provider):
    ecs = services.ecs
    found = only(ecs.describe_capacity_providers(capacityProviders=[provider], include=["TAGS"])["capacityProviders"])
    assert found["tags"] == [{"key": "a", "value": "b"}]
    group = found["autoScalingGroupProvider"]
    assert group["autoScalingGroupArn"] == GROUP + provider
    assert group["managedScaling"] == {"status": "ENABLED", "targetCapacity": 100, "minimumScalingStepSize": 1,
                                       "maximumScalingStepSize": 10000, "instanceWarmupPeriod": 300}
    assert (group["managedTerminationProtection"], group["managedDraining"]) == ("DISABLED", "ENABLED")
    changed = ecs.update_capacity_provider(name=provider, autoScalingGroupProvider={
        "managedScaling": {"status": "ENABLED", "targetCapacity": 80}})["capacityProvider"]
    assert changed["autoScalingGroupProvider"]["managedScaling"]["targetCapacity"] == 80
    refused(ecs.create_capacity_provider, "ClientException", "already exists", name=provider,
            autoScalingGroupProvider={"autoScalingGroupArn": GROUP + "other"})
    refused(ecs.create_capacity_provider, "ClientException", name="fargate-mine",
            autoScalingGroupProvider={"autoScalingGroupArn": GROUP + "other"})
    refused(ecs.delete_capacity_provider, "ClientException", "reserved", capacityProvider="FARGATE")
    missing = ecs.describe_capacity_providers(capacityProviders=["never-was"])
    assert only(missing["failures"])["reason"] == "MISSING"
    definition = services.define(services.idle(), fargate=False)
    name = services.create(definition, 0, fargate=False, cluster="default",
                           capacityProviderStrategy=[{"capacityProvider": provider, "weight": 1}])
    refused(ecs.put_cluster_capacity_providers, "ResourceInUseException", cluster="default",
            capacityProviders=["FARGATE", "FARGATE_SPOT"], defaultCapacityProviderStrategy=[])
    ecs.delete_service(cluster="default", service=name, force=True)


def test_constraints_decide_where_and_say_why_not(services):
    definition = services.define({**services.idle(), "memory": 32}, fargate=False)
    instance = instance_of(services)
    distinct = services.create(definition, 2, fargate=False, cluster="default",
                               placementConstraints=[{"type": "distinctInstance"}])
    message = services.saw(distinct, "was unable to place a task", cluster="default")
    service = services.until_service("the one that fits", distinct, lambda s: s["runningCount"] == 1, cluster="default")
    assert service["placementConstraints"] == [{"type": "distinctInstance"}], message
    member = services.create(definition, 1, fargate=False, cluster="default", placementStrategy=[
        {"type": "spread", "field": "attribute:ecs.availability-zone"}, {"type": "binpack", "field": "memory"}],
        placementConstraints=[{"type": "memberOf", "expression": "attribute:stack == services-test"}])
    services.saw(member, "was unable to place a task", cluster="default")
    shown = services.service(member, "default")["placementStrategy"]
    assert [(each["type"], each["field"].lower()) for each in shown] == [
        ("spread", "attribute:ecs.availability-zone"), ("binpack", "memory")]
    attribute = {"name": "stack", "targetId": instance}
    services.ecs.put_attributes(cluster="default", attributes=[{**attribute, "value": "services-test"}])
    try:
        services.steady(member, 1, cluster="default")
    finally:
        services.ecs.delete_attributes(cluster="default", attributes=[attribute])
    assert services.service(member, "default")["runningCount"] == 1, "constraints are for placement only"


def test_a_fixed_host_port_is_handed_over_within_the_ceiling(services):
    """One instance, one port: the old task must stop before the new one fits."""
    ports = [{"containerPort": 80, "hostPort": 18123}]
    old, new = (services.define({**services.web(text, portMappings=ports), "memory": 48}, fargate=False)
                for text in ("old", "new"))
    settings = {"minimumHealthyPercent": 0, "maximumPercent": 100}
    name = services.create(old, 1, fargate=False, cluster="default", deploymentConfiguration=settings)
    services.steady(name, 1, cluster="default")
    services.update(name, cluster="default", taskDefinition=new)
    services.steady(name, 1, cluster="default")
    assert {task["taskDefinitionArn"] for task in services.tasks(name, cluster="default")} == {new}
    second = services.create(new, 1, fargate=False, cluster="default")
    assert "port" in services.saw(second, "was unable to place a task", cluster="default").lower()
    # Room of that kind comes: it is placed without being asked again.
    services.update(name, cluster="default", desiredCount=0)
    services.steady(second, 1, cluster="default")


def test_room_that_comes_wakes_what_waits(services):
    instance = only(services.ecs.describe_container_instances(
        cluster="default", containerInstances=[instance_of(services)])["containerInstances"])
    free = {each["name"]: each.get("integerValue") for each in instance["remainingResources"]}["MEMORY"]
    big = services.define({**services.idle(), "memory": free * 2 // 3}, fargate=False)
    first = services.create(big, 1, fargate=False, cluster="default")
    services.steady(first, 1, cluster="default")
    second = services.create(big, 1, fargate=False, cluster="default")
    services.saw(second, "was unable to place a task", cluster="default")
    services.update(first, cluster="default", desiredCount=0)
    services.steady(second, 1, cluster="default")


def test_an_empty_cluster_says_so_and_the_service_waits(services):
    definition = services.define(services.idle(), fargate=False)
    name = services.create(definition, 1, fargate=False)
    message = services.saw(name, "was unable to place a task")
    assert "No Container Instances were found in your cluster." in message, message
    wait_for("still nothing", lambda: services.service(name)["pendingCount"] == 0, 5)
