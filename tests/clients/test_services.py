"""A service is a promise of so many tasks: made, changed, kept and taken back."""

import os
import signal

import pytest

from conftest import unique, wait_for
from services import brief, only, process_of, refused


def test_a_fargate_service_reaches_its_steady_state_and_is_described_as_ecs_does(services):
    definition = services.define(services.web("one"))
    name = unique("web")
    made = services.ecs.create_service(
        cluster=services.name, serviceName=name, taskDefinition=definition, desiredCount=2, launchType="FARGATE",
        networkConfiguration=services.network(), tags=[{"key": "team", "value": "a"}])["service"]
    services.made.append((services.name, name))
    assert made["serviceArn"].endswith(f":service/{services.name}/{name}")
    assert made["clusterArn"].endswith(f":cluster/{services.name}")
    assert (made["status"], made["desiredCount"], made["runningCount"], made["pendingCount"]) == ("ACTIVE", 2, 0, 0)
    assert (made["launchType"], made["schedulingStrategy"]) == ("FARGATE", "REPLICA")
    assert (made["platformVersion"], made["platformFamily"]) == ("LATEST", "Linux")
    assert made["events"] == [] and made["loadBalancers"] == [] and made["serviceRegistries"] == []
    assert made["deploymentController"] == {"type": "ECS"}
    assert made["enableECSManagedTags"] is False and made["enableExecuteCommand"] is False
    assert made["propagateTags"] == "NONE"
    settings = made["deploymentConfiguration"]
    assert (settings["maximumPercent"], settings["minimumHealthyPercent"]) == (200, 100)
    assert settings["deploymentCircuitBreaker"]["enable"] is False
    assert made["networkConfiguration"]["awsvpcConfiguration"]["subnets"] == services.subnets[:1]
    first = only(made["deployments"])
    assert (first["status"], first["rolloutState"], first["failedTasks"]) == ("PRIMARY", "IN_PROGRESS", 0)
    assert first["id"].startswith("ecs-svc/") and first["taskDefinition"] == definition
    assert first["rolloutStateReason"].startswith(f"ECS deployment {first['id']} in progress."), first

    # The waiter asks at once, then every 15 seconds: it is steady before the first question.
    services.steady(name, 2)
    services.ecs.get_waiter("services_stable").wait(
        cluster=services.name, services=[name], WaiterConfig={"MaxAttempts": 1})
    service = services.service(name, include=["TAGS"])
    assert service["tags"] == [{"key": "team", "value": "a"}]
    deployment = only(service["deployments"])
    assert deployment["id"] == first["id"]
    assert (deployment["desiredCount"], deployment["runningCount"], deployment["pendingCount"]) == (2, 2, 0)
    assert (deployment["rolloutState"], deployment["rolloutStateReason"]) == (
        "COMPLETED", f"ECS deployment {first['id']} completed.")
    services.saw(name, "has reached a steady state.")
    events = [brief(message) for message in services.messages(name)]
    started = sum(int(event.split()[2]) for event in events if event.startswith("has started"))
    assert started == 2, events
    assert {"deployment completed.", "has reached a steady state."} <= {e.replace("(deployment) ", "") for e in events}, events
    stamps = [event["createdAt"] for event in service["events"]]
    assert stamps == sorted(stamps, reverse=True), "the latest event comes first"

    tasks = services.tasks(name)
    for task in tasks:
        assert (task["group"], task["startedBy"]) == (f"service:{name}", first["id"])
        assert task["launchType"] == "FARGATE" and task["lastStatus"] == "RUNNING"
        assert services.fetch(task) == "one"
    by_starter = services.ecs.list_tasks(cluster=services.name, startedBy=first["id"])["taskArns"]
    assert set(by_starter) == {task["taskArn"] for task in tasks}
    cluster = only(services.ecs.describe_clusters(clusters=[services.name], include=["STATISTICS"])["clusters"])
    assert cluster["activeServicesCount"] == 1 and cluster["runningTasksCount"] == 2
    statistics = {each["name"]: each["value"] for each in cluster["statistics"]}
    assert statistics.get("activeFargateServiceCount") == "1", statistics


def test_a_service_on_a_container_instance(services):
    container = {**services.idle(), "cpu": 64, "memory": 48}
    name = services.create(services.define(container, fargate=False), 2, fargate=False, cluster="default")
    service = services.steady(name, 2, cluster="default")
    assert service["launchType"] == "EC2" and "platformVersion" not in service
    assert "networkConfiguration" not in service
    assert service["placementStrategy"] == [] and service["placementConstraints"] == []
    instance = only(services.ecs.list_container_instances(cluster="default")["containerInstanceArns"])
    tasks = services.tasks(name, cluster="default")
    assert {task["containerInstanceArn"] for task in tasks} == {instance}
    services.update(name, cluster="default", desiredCount=0)
    services.steady(name, 0, cluster="default")
    stopped = services.describe(tasks[0]["taskArn"], "default")
    assert stopped["stopCode"] == "ServiceSchedulerInitiated", stopped
    assert stopped["stoppedReason"].startswith("Scaling activity initiated by"), stopped["stoppedReason"]


def test_scaling_up_and_down_stops_only_what_is_too_much(services):
    name = services.create(services.define(services.idle()), 1)
    services.steady(name, 1)
    first = services.arns(name)
    deployment = services.service(name)["deployments"][0]["id"]
    assert services.update(name, desiredCount=4)["desiredCount"] == 4
    services.steady(name, 4)
    four = services.arns(name)
    assert first < four
    services.update(name, desiredCount=2)
    services.steady(name, 2)
    two = wait_for("two tasks", lambda: len(services.arns(name)) == 2 and services.arns(name), 10)
    assert two < four
    assert services.service(name)["deployments"][0]["id"] == deployment, "scaling is no deployment"
    for arn in four - two:
        task = services.until(arn, "STOPPED")
        assert task["stopCode"] == "ServiceSchedulerInitiated"
        assert task["stoppedReason"] == f"Scaling activity initiated by (deployment {deployment})"
    stopped = [m for m in services.messages(name) if "has stopped" in m]
    assert sum(int(message.split("has stopped ")[1].split()[0]) for message in stopped) == 2, stopped


def test_a_service_of_none_is_steady_at_once(services):
    name = services.create(services.define(services.idle()), 0)
    service = services.steady(name, 0)
    assert service["runningCount"] == 0 and services.arns(name) == set()


def test_a_killed_container_is_replaced(services):
    name = services.create(services.define(services.web("again")), 2)
    services.steady(name, 2)
    before = services.arns(name)
    victim = sorted(before)[0]
    os.kill(process_of(victim), signal.SIGKILL)
    stopped = services.until(victim, "STOPPED")
    assert stopped["stopCode"] == "EssentialContainerExited" and stopped["containers"][0]["exitCode"] == 137
    services.until_service("two tasks again", name, lambda service: service["runningCount"] == 2 and
                           len(services.arns(name) - {victim}) == 2)
    after = services.arns(name)
    assert after & before == before - {victim} and len(after) == 2
    fresh = only(after - before)
    assert services.fetch(services.until(fresh, "RUNNING")) == "again"
    services.steady(name, 2)


def test_a_task_that_was_stopped_by_hand_is_replaced(services):
    name = services.create(services.define(services.idle()), 1)
    services.steady(name, 1)
    arn = only(services.arns(name))
    services.ecs.stop_task(cluster=services.name, task=arn, reason="because")
    assert services.until(arn, "STOPPED")["stoppedReason"] == "because"
    services.until_service("the replacement", name, lambda s: s["runningCount"] == 1 and arn not in services.arns(name))


def test_an_unhealthy_task_is_replaced(services):
    check = {"command": ["CMD-SHELL", "test ! -f /tmp/sick"], "interval": 5, "timeout": 2, "retries": 1}
    name = services.create(services.define(services.idle(healthCheck=check)), 1)
    services.steady(name, 1, 90)
    arn = only(services.arns(name))
    assert services.describe(arn)["healthStatus"] == "HEALTHY", "only a healthy task makes it complete"
    open(f"/proc/{process_of(arn)}/root/tmp/sick", "w").close()
    stopped = services.until(arn, "STOPPED", 60)
    assert stopped["stopCode"] == "ServiceSchedulerInitiated"
    assert "failed container health checks" in stopped["stoppedReason"], stopped["stoppedReason"]
    services.saw(name, f"(task {arn.rsplit('/', 1)[1]}) failed container health checks.")
    services.steady(name, 1, 90)
    assert arn not in services.arns(name)


def test_an_unhealthy_task_stays_while_its_grace_period_lasts(services):
    check = {"command": ["CMD-SHELL", "false"], "interval": 5, "timeout": 2, "retries": 1}
    name = services.create(services.define(services.idle(healthCheck=check)), 1, healthCheckGracePeriodSeconds=3600)
    arn = only(wait_for("its task", lambda: services.arns(name), 20))
    wait_for("an unhealthy task", lambda: services.describe(arn)["healthStatus"] == "UNHEALTHY", 60, 0.2)
    # A change makes the scheduler look at the service again: the sick task is still left alone.
    services.update(name, desiredCount=2)
    services.until_service("a second task", name, lambda service: service["runningCount"] == 2)
    assert arn in services.arns(name)
    assert services.service(name)["healthCheckGracePeriodSeconds"] == 3600


def test_a_daemon_service_has_one_task_on_each_instance_and_none_on_a_draining_one(services):
    instance = only(services.ecs.list_container_instances(cluster="default")["containerInstanceArns"])

    def turn(status):
        services.ecs.update_container_instances_state(cluster="default", containerInstances=[instance], status=status)

    definition = services.define(services.idle(), fargate=False)
    name = services.create(definition, None, fargate=False, cluster="default", schedulingStrategy="DAEMON")
    service = services.steady(name, 1, cluster="default")
    assert (service["schedulingStrategy"], service["desiredCount"]) == ("DAEMON", 1)
    first = only(services.arns(name, cluster="default"))
    os.kill(process_of(first), signal.SIGKILL)
    services.until(first, "STOPPED", cluster="default")
    services.until_service("a new daemon", name, lambda s: s["runningCount"] == 1
                           and first not in services.arns(name, cluster="default"), cluster="default")
    try:
        turn("DRAINING")
        services.until_service("no daemon while it drains", name, lambda s: (
            s["runningCount"], s["desiredCount"], s["pendingCount"]) == (0, 0, 0), cluster="default")
    finally:
        turn("ACTIVE")
    services.steady(name, 1, cluster="default")
    refused(services.update, "InvalidParameterException",
            "The daemon scheduling strategy does not support a desired count for services.",
            name=name, cluster="default", desiredCount=3)


def test_a_drained_instance_loses_its_tasks_and_gets_them_back(services):
    """All instances gone and back: the service says what it waits for, and is kept in the end."""
    instance = only(services.ecs.list_container_instances(cluster="default")["containerInstanceArns"])

    def turn(status):
        services.ecs.update_container_instances_state(cluster="default", containerInstances=[instance], status=status)

    definition = services.define(services.idle(), fargate=False)
    settings = {"minimumHealthyPercent": 0, "maximumPercent": 100}
    name = services.create(definition, 2, fargate=False, cluster="default", deploymentConfiguration=settings)
    services.steady(name, 2, cluster="default")
    before = services.arns(name, cluster="default")
    try:
        turn("DRAINING")
        service = services.until_service("no tasks", name, lambda s: s["runningCount"] == 0, cluster="default")
        for arn in before:
            stopped = services.until(arn, "STOPPED", cluster="default")
            assert stopped["stopCode"] == "ServiceSchedulerInitiated", stopped
        services.saw(name, "was unable to place a task because no container instance met all of its requirements",
                     cluster="default")
        service = services.service(name, cluster="default")
        assert service["desiredCount"] == 2 and service["deployments"][0]["runningCount"] == 0
        unable = [m for m in services.messages(name, "default") if "was unable to place" in m]
        assert len(unable) <= 2, "said when it changes, not with every try"
    finally:
        turn("ACTIVE")
    services.steady(name, 2, cluster="default")
    assert not before & services.arns(name, cluster="default")


def test_a_healthy_floor_keeps_tasks_on_a_draining_instance_until_there_is_room_elsewhere(services):
    instance = only(services.ecs.list_container_instances(cluster="default")["containerInstanceArns"])

    def turn(status):
        services.ecs.update_container_instances_state(cluster="default", containerInstances=[instance], status=status)

    name = services.create(services.define(services.idle(), fargate=False), 1, fargate=False, cluster="default")
    services.steady(name, 1, cluster="default")
    before = services.arns(name, cluster="default")
    try:
        turn("DRAINING")
        services.saw(name, "was unable to place a task", cluster="default")
        assert services.arns(name, cluster="default") >= before
        assert services.service(name, "default")["runningCount"] == 1
    finally:
        turn("ACTIVE")
    services.steady(name, 1, cluster="default")


def test_what_does_not_fit_is_said_once_and_waits(services):
    container = {**services.idle(), "memory": 9_000_000}
    name = services.create(services.define(container, fargate=False), 1, fargate=False, cluster="default")
    message = services.saw(name, "was unable to place a task", cluster="default")
    assert "memory" in message.lower(), message
    service = services.service(name, "default")
    assert (service["runningCount"], service["desiredCount"]) == (0, 1)
    reason = only(service["deployments"])["rolloutStateReason"]
    assert "memory" in reason.lower(), "a deployment names the gate that it waits for: " + reason
    small = services.define({**services.idle(), "memory": 32}, fargate=False)
    services.update(name, cluster="default", taskDefinition=small)
    services.steady(name, 1, cluster="default")


def test_tags_go_where_they_are_sent(services):
    definition = services.define(services.idle(), tags=[{"key": "from", "value": "definition"}])
    by_service = services.create(definition, 1, tags=[{"key": "from", "value": "service"}], propagateTags="SERVICE",
                                 enableECSManagedTags=True)
    by_definition = services.create(definition, 1, tags=[{"key": "of", "value": "service"}],
                                    propagateTags="TASK_DEFINITION")
    by_none = services.create(definition, 1, tags=[{"key": "of", "value": "service"}])
    seen = {}
    for name in (by_service, by_definition, by_none):
        services.steady(name, 1)
        seen[name] = {tag["key"]: tag["value"] for tag in only(services.tasks(name)).get("tags", [])}
    assert seen[by_service] == {"from": "service", "aws:ecs:clusterName": services.name, "aws:ecs:serviceName": by_service}
    assert seen[by_definition] == {"from": "definition"} and seen[by_none] == {}
    arn = services.service(by_service)["serviceArn"]
    services.ecs.tag_resource(resourceArn=arn, tags=[{"key": "new", "value": "1"}])
    services.ecs.untag_resource(resourceArn=arn, tagKeys=["from"])
    assert services.ecs.list_tags_for_resource(resourceArn=arn)["tags"] == [{"key": "new", "value": "1"}]
    assert services.service(by_service, include=["TAGS"])["tags"] == [{"key": "new", "value": "1"}]
    assert "tags" not in services.service(by_service) or services.service(by_service)["tags"] == []
    assert services.update(by_none, propagateTags="SERVICE", enableECSManagedTags=True)["propagateTags"] == "SERVICE"


def test_services_are_listed_by_pages_and_kinds(services):
    definition = services.define(services.idle())
    names = [services.create(definition, 0) for _ in range(12)]
    daemon_definition = services.define(services.idle(), fargate=False)
    daemon = services.create(daemon_definition, None, fargate=False, schedulingStrategy="DAEMON")

    def listed(**how):
        pages = services.ecs.get_paginator("list_services").paginate(cluster=services.name, **how)
        pages = [[arn.rsplit("/", 1)[1] for arn in page["serviceArns"]] for page in pages]
        return [len(page) for page in pages], {name for page in pages for name in page}

    assert listed() == ([10, 3], {*names, daemon}), "ten to a page unless told otherwise"
    assert listed(PaginationConfig={"PageSize": 5}) == ([5, 5, 3], {*names, daemon})
    assert listed(launchType="FARGATE", PaginationConfig={"PageSize": 100}) == ([12], set(names))
    assert listed(launchType="EC2") == ([1], {daemon})
    assert listed(schedulingStrategy="DAEMON") == ([1], {daemon})
    assert listed(schedulingStrategy="REPLICA", PaginationConfig={"PageSize": 100}) == ([12], set(names))
    refused(services.ecs.list_services, "InvalidParameterException", cluster=services.name, nextToken="made-up")
    described = services.ecs.describe_services(cluster=services.name, services=[*names[:9], "missing"])
    assert [each["serviceName"] for each in described["services"]] == names[:9]
    missing = only(described["failures"])
    assert missing["reason"] == "MISSING" and missing["arn"].endswith("/missing")


def test_a_service_is_deleted_at_zero_or_by_force_and_its_name_is_free_again(services):
    definition = services.define(services.idle())
    name = services.create(definition, 2)
    services.steady(name, 2)
    tasks = services.arns(name)
    delete = lambda **more: services.ecs.delete_service(cluster=services.name, service=name, **more)["service"]
    refused(services.ecs.delete_service, "InvalidParameterException",
            "The service cannot be stopped while it is scaled above 0.", cluster=services.name, service=name)
    refused(services.ecs.delete_cluster, "ClusterContainsServicesException",
            "The Cluster cannot be deleted while Services are active.", cluster=services.name)
    gone = delete(force=True)
    assert gone["status"] == "DRAINING" and gone["desiredCount"] == 0
    refused(services.update, "ServiceNotActiveException", "Service was not ACTIVE.", name=name, desiredCount=1)
    for arn in tasks:
        services.until(arn, "STOPPED")
    services.ecs.get_waiter("services_inactive").wait(
        cluster=services.name, services=[name], WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    service = services.service(name)
    assert (service["status"], service["runningCount"]) == ("INACTIVE", 0)
    assert services.ecs.list_services(cluster=services.name)["serviceArns"] == []
    refused(services.update, "ServiceNotActiveException", "Service was not ACTIVE.", name=name, desiredCount=1)
    refused(services.update, "ServiceNotFoundException", "Service not found.", name="never-was", desiredCount=1)
    refused(services.ecs.delete_service, "ServiceNotFoundException", "Service not found.",
            cluster=services.name, service="never-was")
    assert services.create(definition, 0, serviceName=name) == name, "the name is free"
    assert services.steady(name)["status"] == "ACTIVE"
    services.update(name, desiredCount=0)
    assert delete()["status"] in ("DRAINING", "INACTIVE")
    # The default waiter asks at once, and then every 15 seconds.
    services.until_service("its end", name, lambda s: s["status"] == "INACTIVE", 20)
    services.ecs.get_waiter("services_inactive").wait(cluster=services.name, services=[name])


def test_creating_it_twice_is_the_same_only_with_the_same_token(services):
    definition = services.define(services.idle())
    token = unique("token")
    create = lambda **more: services.ecs.create_service(**{
        "cluster": services.name, "serviceName": "twice", "taskDefinition": definition, "desiredCount": 0,
        "launchType": "FARGATE", "networkConfiguration": services.network(), **more})["service"]
    services.made.append((services.name, "twice"))
    first = create(clientToken=token)
    assert create(clientToken=token)["serviceArn"] == first["serviceArn"]
    refused(create, "InvalidParameterException", "Creation of service was not idempotent.", desiredCount=3)


def test_a_deregistered_task_definition_keeps_its_service_alive(services):
    definition = services.define(services.idle())
    name = services.create(definition, 1)
    services.steady(name, 1)
    services.ecs.deregister_task_definition(taskDefinition=definition)
    victim = only(services.arns(name))
    os.kill(process_of(victim), signal.SIGKILL)
    services.until(victim, "STOPPED")
    services.until_service("a replacement", name, lambda s: s["runningCount"] == 1 and victim not in services.arns(name))
    services.update(name, desiredCount=2)
    services.steady(name, 2)
    assert {task["taskDefinitionArn"] for task in services.tasks(name)} == {definition}
    refused(services.create, "ClientException", "TaskDefinition is inactive", definition=definition)
    refused(services.update, "ClientException", "TaskDefinition is inactive", name=services.create(
        services.define(services.idle()), 0), taskDefinition=definition)


def test_a_protected_task_outlives_scale_in_until_its_protection_ends(services):
    name = services.create(services.define(services.idle()), 3)
    services.steady(name, 3)
    # The newest: without protection it would go first or last, but never all three.
    arns = [task["taskArn"] for task in services.tasks(name)]
    protect = lambda tasks, on, **more: services.ecs.update_task_protection(
        cluster=services.name, tasks=tasks, protectionEnabled=on, **more)
    for arn in arns:
        answer = protect([arn], True, expiresInMinutes=30)
        assert answer["failures"] == [] and only(answer["protectedTasks"])["protectionEnabled"] is True
    protect([arns[1]], False)
    found = services.ecs.get_task_protection(cluster=services.name, tasks=arns)
    assert {task["taskArn"]: task["protectionEnabled"] for task in found["protectedTasks"]} == {
        arns[0]: True, arns[1]: False, arns[2]: True}
    assert all(("expirationDate" in task) == task["protectionEnabled"] for task in found["protectedTasks"])
    services.update(name, desiredCount=1)
    services.until(arns[1], "STOPPED")
    assert services.arns(name) == {arns[0], arns[2]}, "the two that are protected stay"
    service = services.service(name)
    assert (service["desiredCount"], service["runningCount"]) == (1, 2)
    protect([arns[0]], False)
    services.until(arns[0], "STOPPED")
    services.steady(name, 1)
    assert services.arns(name) == {arns[2]}
    assert services.ecs.stop_task(cluster=services.name, task=arns[2])["task"]["desiredStatus"] == "STOPPED", \
        "a person may stop it all the same"
    services.until(arns[2], "STOPPED")


def test_only_tasks_of_services_are_protected(services):
    arn, = services.run(services.define(services.idle()))
    services.until(arn, "RUNNING")
    update = services.ecs.update_task_protection
    answer = update(cluster=services.name, tasks=[arn], protectionEnabled=True)
    assert answer["protectedTasks"] == [] and only(answer["failures"])["reason"] == "TASK_NOT_VALID"
    missing = update(cluster=services.name, tasks=["0" * 32], protectionEnabled=True)
    assert only(missing["failures"])["reason"] == "MISSING"
    refused(update, "InvalidParameterException", cluster=services.name, tasks=[], protectionEnabled=True)
    for minutes in (0, 2881):
        refused(update, "InvalidParameterException", cluster=services.name, tasks=[arn], protectionEnabled=True,
                expiresInMinutes=minutes)
    services.ecs.stop_task(cluster=services.name, task=arn)


def test_the_command_line_waits_for_services(services):
    name = services.create(services.define(services.idle()), 1)
    services.steady(name, 1)
    services.region.aws("ecs", "wait", "services-stable", "--cluster", services.name, "--services", name)
    services.region.aws("ecs", "update-service", "--cluster", services.name, "--service", name, "--desired-count", "0")
    services.steady(name, 0)
    services.region.aws("ecs", "delete-service", "--cluster", services.name, "--service", name)
    services.until_service("its end", name, lambda s: s["status"] == "INACTIVE", 20)
    services.region.aws("ecs", "wait", "services-inactive", "--cluster", services.name, "--services", name)


@pytest.mark.parametrize("count", [30])
def test_many_tasks_come_and_go(services, count):
    name = services.create(services.define(services.idle(), cpu="256", memory="512"), count)
    services.steady(name, count, 90)
    assert len(services.arns(name)) == count
    addresses = {services.address(task) for task in services.tasks(name)}
    assert len(addresses) == count
    services.update(name, desiredCount=0)
    services.steady(name, 0, 90)
