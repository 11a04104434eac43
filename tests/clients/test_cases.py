"""Cases from what users of Amazon ECS have published: definitions as data, flows as tests."""

import json
import re
from pathlib import Path

import pytest

import images
from conftest import unique, wait_for
from services import IDLE, only, refused
from test_ecr import digest, http, lower  # noqa: F401

CASES = sorted((Path(__file__).parent / "cases").glob("*.json"))
# What ECS adds to a definition that says nothing of the request.
BOOKKEEPING = {"taskDefinitionArn", "family", "revision", "status", "requiresAttributes", "compatibilities",
               "registeredAt", "registeredBy"}


def differences(real, ours, at=""):
    """Where `ours` is not what Amazon answered. It began to answer an empty `systemControls` late."""
    if isinstance(real, dict) and isinstance(ours, dict):
        ours = {key: value for key, value in ours.items() if key in real or (key, value) != ("systemControls", [])}
        odd = [f"{at}/{key} {'missing' if key in real else 'added'}" for key in sorted(real.keys() ^ ours.keys())]
        return odd + [line for key in real.keys() & ours.keys()
                      for line in differences(real[key], ours[key], f"{at}/{key}")]
    if isinstance(real, list) and isinstance(ours, list) and len(real) == len(ours):
        return [line for number, pair in enumerate(zip(real, ours)) for line in differences(*pair, f"{at}/{number}")]
    return [] if real == ours else [f"{at}: {ours!r} instead of {real!r}"]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_definition_is_answered_as_amazon_answers_it(ecs, path):
    case = json.loads(path.read_text())
    if "refused" in case:
        refused(ecs.register_task_definition, case["refused"], family=unique("f"), **case["request"])
        return
    made = ecs.register_task_definition(family=unique("f"), **case["request"])["taskDefinition"]
    shown = ecs.describe_task_definition(taskDefinition=made["taskDefinitionArn"])["taskDefinition"]
    if "requiresAttributes" in case:
        assert {each["name"] for each in shown["requiresAttributes"]} == set(case["requiresAttributes"])
    if "compatibilities" in case:
        newer = set(case["newer"])
        assert set(shown["compatibilities"]) - newer == set(case["compatibilities"]) - newer
    if "described" in case:
        real = {"volumes": [], "placementConstraints": [], **case["described"]}
        assert differences(real, {key: value for key, value in shown.items() if key not in BOOKKEEPING}) == []


def define(services, *containers, **more):
    containers = [{"memory": 32, **container} for container in containers]
    answer = services.ecs.register_task_definition(family=unique("f"), containerDefinitions=list(containers), **more)
    return answer["taskDefinition"]


def shell(services, script, name="main", **more):
    return {"name": name, "image": services.box, "command": ["sh", "-c", script], "stopTimeout": 2, **more}


def run(services, *containers, **more):
    """Starts a task on one of the default cluster's instances; its ARN."""
    arn = define(services, *containers, **more)["taskDefinitionArn"]
    return only(services.run(arn, fargate=False, cluster="default"))


def containers_of(services, arn):
    return {each["name"]: each for each in services.describe(arn, "default")["containers"]}


def test_a_service_says_which_instance_was_nearest_and_what_it_lacks(services):
    large = define(services, shell(services, IDLE, memory=900_000))["taskDefinitionArn"]
    mapping = {"containerPort": 80, "hostPort": 9923}
    port = define(services, shell(services, IDLE, portMappings=[mapping]))["taskDefinitionArn"]
    for definition, count, lack in [(large, 1, "has insufficient memory available."),
                                    (port, 2, "is already using a port required by your task.")]:
        name = services.create(definition, count=count, fargate=False, cluster="default")
        message = services.saw(name, lack, cluster="default")
        head = (f"(service {name}) was unable to place a task because no container instance met all of its "
                "requirements. The closest matching (container-instance ")
        assert message.startswith(head), message
        assert message.endswith("see the Troubleshooting section of the Amazon ECS Developer Guide."), message


def test_containers_wait_for_those_that_they_depend_on(services):
    on = lambda name, condition: [{"containerName": name, "condition": condition}]
    arn = run(services,
              shell(services, "while [ ! -e /go/on ]; do sleep 0.1; done", "first", essential=False,
                    mountPoints=[{"sourceVolume": "v", "containerPath": "/go"}]),
              shell(services, IDLE, "second", dependsOn=on("first", "COMPLETE"),
                    healthCheck={"command": ["CMD-SHELL", "true"], "interval": 5}),
              shell(services, IDLE, "third", dependsOn=on("second", "HEALTHY")),
              shell(services, "sleep 1; touch /go/on", "signal", essential=False,
                    mountPoints=[{"sourceVolume": "v", "containerPath": "/go"}]),
              volumes=[{"name": "v", "host": {}}])
    wait_for("the first container", lambda: containers_of(services, arn)["first"]["lastStatus"] == "RUNNING")
    task = services.until(arn, "RUNNING", cluster="default")
    seen = {each["name"]: each for each in task["containers"]}
    assert (seen["first"]["exitCode"], seen["second"]["healthStatus"]) == (0, "HEALTHY"), seen
    services.ecs.stop_task(cluster="default", task=arn)


def test_a_container_never_starts_beside_one_that_is_unhealthy(services):
    arn = run(services,
              shell(services, IDLE, "sick", healthCheck={
                  "command": ["CMD-SHELL", "false"], "interval": 5, "retries": 1, "timeout": 2}),
              shell(services, IDLE, "waits", dependsOn=[{"containerName": "sick", "condition": "HEALTHY"}]))
    wait_for("the verdict", lambda: services.describe(arn, "default")["healthStatus"] == "UNHEALTHY")
    seen = {name: each["lastStatus"] for name, each in containers_of(services, arn).items()}
    assert seen == {"sick": "RUNNING", "waits": "PENDING"}
    assert services.describe(arn, "default")["lastStatus"] == "PENDING"
    services.ecs.stop_task(cluster="default", task=arn)


def test_only_a_killed_main_process_ends_its_container(services):
    hungry = "dd if=/dev/zero of=/dev/null bs=64M count=1"
    main = run(services, shell(services, f"exec {hungry}", memory=16))
    child = run(services, shell(services, f"{hungry}; exit 3", memory=16))
    container = only(services.until(main, "STOPPED", cluster="default")["containers"])
    assert (container["exitCode"], container["reason"]) == (137, "OutOfMemoryError: Container killed due to memory usage")
    assert only(services.until(child, "STOPPED", cluster="default")["containers"])["exitCode"] == 3


@pytest.mark.parametrize("mode", ["bridge", "host"])
def test_a_task_with_a_role_runs_on_an_instance(services, mode):
    arn = run(services, shell(services, IDLE), networkMode=mode, taskRoleArn="arn:aws:iam::000000000000:role/task")
    services.until(arn, "RUNNING", cluster="default")
    services.ecs.stop_task(cluster="default", task=arn)


def test_a_health_check_without_a_first_word_is_run(services):
    arn = run(services, shell(services, IDLE, "program", healthCheck={"command": ["/bin/true"], "interval": 5}),
              shell(services, IDLE, "line", healthCheck={"command": ["echo test"], "interval": 5}))
    healthy = lambda: {each["healthStatus"] for each in containers_of(services, arn).values()} == {"HEALTHY"}
    wait_for("both to be healthy", healthy)
    services.ecs.stop_task(cluster="default", task=arn)


def test_group_starter_and_tags_come_back(services):
    definition = define(services, shell(services, IDLE), tags=[{"key": "a", "value": "definition"}])
    starter = unique("me")
    arn = only(services.run(definition["taskDefinitionArn"], fargate=False, cluster="default", group="mine",
                            startedBy=starter, propagateTags="TASK_DEFINITION", tags=[{"key": "b", "value": "run"}]))
    task = services.describe(arn, "default")
    assert (task["group"], task["startedBy"]) == ("mine", starter)
    assert {tag["key"]: tag["value"] for tag in task["tags"]} == {"a": "definition", "b": "run"}
    assert services.ecs.list_tasks(cluster="default", startedBy=starter)["taskArns"] == [arn]
    listed = services.ecs.list_tags_for_resource(resourceArn=arn)["tags"]
    assert {tag["key"] for tag in listed} == {"a", "b"}
    services.ecs.stop_task(cluster="default", task=arn)


def test_commands_are_executed_only_with_a_task_role(services):
    definition = define(services, shell(services, IDLE))["taskDefinitionArn"]
    name = services.create(definition, count=0, fargate=False)
    why = "because a valid taskRoleArn is not being used."
    refused(services.ecs.update_service, "InvalidParameterException", f"The service couldn't be updated {why}",
            cluster=services.name, service=name, enableExecuteCommand=True)
    refused(services.ecs.create_service, "InvalidParameterException", f"The service couldn't be created {why}",
            cluster=services.name, serviceName=unique("s"), taskDefinition=definition, desiredCount=0,
            enableExecuteCommand=True)
    refused(services.ecs.run_task, "InvalidParameterException", why, cluster="default", taskDefinition=definition,
            enableExecuteCommand=True)


def test_an_index_with_an_attestation_runs_and_keeps_its_digest(services, ecr, http):  # noqa: F811
    name = unique("index")
    ecr.create_repository(repositoryName=name)
    oci = "application/vnd.oci.image."

    def blob(data):
        _, headers, _ = http("POST", f"/v2/{name}/blobs/uploads/", b"")
        place = lower(headers)["location"]
        joint = "&" if "?" in place else "?"
        kind = {"Content-Type": "application/octet-stream"}
        status, _, body = http("PUT", f"{place}{joint}digest={digest(data)}", data, headers=kind)
        assert status == 201, body
        return {"digest": digest(data), "size": len(data)}

    def manifest(reference, body):
        data = json.dumps(body).encode()
        status, _, answer = http("PUT", f"/v2/{name}/manifests/{reference or digest(data)}", data,
                                 headers={"Content-Type": body["mediaType"]})
        assert status == 201, answer
        return {"mediaType": body["mediaType"], "digest": digest(data), "size": len(data)}

    layer = images.busybox_layer()
    image = manifest(None, {
        "schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
        "config": {"mediaType": oci + "config.v1+json", **blob(images.image_config([layer]))},
        "layers": [{"mediaType": oci + "layer.v1.tar", **blob(layer)}]})
    statement = manifest(None, {
        "schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
        "config": {"mediaType": oci + "config.v1+json", **blob(b'{"architecture":"unknown","os":"unknown"}')},
        "layers": [{"mediaType": "application/vnd.in-toto+json", **blob(b"{}")}]})
    index = manifest("v1", {"schemaVersion": 2, "mediaType": oci + "index.v1+json", "manifests": [
        {**image, "platform": {"architecture": "amd64", "os": "linux"}},
        {**statement, "platform": {"architecture": "unknown", "os": "unknown"}, "annotations": {
            "vnd.docker.reference.digest": image["digest"], "vnd.docker.reference.type": "attestation-manifest"}}]})
    tags = {each["imageDigest"]: each.get("imageTags") for each in ecr.describe_images(repositoryName=name)["imageDetails"]}
    assert tags == {image["digest"]: None, statement["digest"]: None, index["digest"]: ["v1"]}
    arn = run(services, {**shell(services, IDLE), "image": f"127.0.0.1:{services.region.port}/{name}:v1"})
    task = services.until(arn, "RUNNING", cluster="default")
    assert only(task["containers"])["imageDigest"] == index["digest"]
    services.ecs.stop_task(cluster="default", task=arn)
    got = only(ecr.batch_get_image(repositoryName=name, imageIds=[{"imageTag": "v1"}])["images"])["imageManifest"]
    again = {"repositoryName": name, "imageTag": "v2", "imageManifest": got}
    assert ecr.put_image(**again)["image"]["imageId"]["imageDigest"] == index["digest"]
    refused(ecr.put_image, "ImageAlreadyExistsException",
            f"Image with digest '{index['digest']}' and tag 'v2' already exists in the repository with name '{name}'", **again)


def test_a_task_that_could_not_pull_says_so(services):
    arn = run(services, {**shell(services, IDLE), "image": services.box + "-none"})
    task = wait_for("the end", lambda: (
        lambda task: task if task["lastStatus"] == "STOPPED" else None)(services.describe(arn, "default")))
    container = only(task["containers"])
    assert task["stopCode"] == "TaskFailedToStart", task
    assert task["stoppedReason"].startswith("CannotPullContainerError"), task["stoppedReason"]
    assert container["reason"].startswith("CannotPullContainerError") and "exitCode" not in container, container


def test_a_service_that_cannot_pull_says_so_in_an_event(services):
    definition = define(services, {**shell(services, IDLE), "image": services.box + "-none"})
    name = services.create(definition["taskDefinitionArn"], fargate=False, cluster="default")
    services.saw(name, f"(service {name}) was unable to place a task. Reason: CannotPullContainerError", cluster="default")


def test_errors_that_people_quote(services):
    ecs = services.ecs
    definition = define(services, shell(services, IDLE))["taskDefinitionArn"]
    off = define(services, shell(services, IDLE))["taskDefinitionArn"]
    ecs.deregister_task_definition(taskDefinition=off)
    name = services.create(definition, count=0, fargate=False)
    update = {"cluster": services.name, "service": name}
    for call, code, message, arguments in [
        (ecs.describe_task_definition, "ClientException", "Unable to describe task definition.",
         {"taskDefinition": unique("none")}),
        (ecs.update_service, "ClientException", "TaskDefinition is inactive", {**update, "taskDefinition": off}),
        (ecs.update_service, "ClientException", "TaskDefinition not found.",
         {**update, "taskDefinition": unique("none") + ":1"}),
        (ecs.create_service, "InvalidParameterException", "Creation of service was not idempotent.",
         {"cluster": services.name, "serviceName": name, "taskDefinition": definition, "desiredCount": 1}),
        (ecs.run_task, "InvalidParameterException", "No Container Instances were found in your cluster.",
         {"cluster": services.name, "taskDefinition": definition}),
        (ecs.register_task_definition, "ClientException", "Invalid setting for container 'c'. At least one of 'memory' "
         "or 'memoryReservation' must be specified.",
         {"family": unique("f"), "containerDefinitions": [{"name": "c", "image": "app:1"}]}),
    ]:
        assert refused(call, code, **arguments)["Message"] == message


def test_a_log_stream_is_named_after_prefix_container_and_task(services):
    group = "/" + unique("made")
    arn = run(services, shell(services, "echo hello", "web", logConfiguration={"logDriver": "awslogs", "options": {
        "awslogs-group": group, "awslogs-region": "eu-north-1", "awslogs-stream-prefix": "pre",
        "awslogs-create-group": "True"}}))
    task = services.until(arn, "STOPPED", cluster="default")
    assert task["stopCode"] == "EssentialContainerExited", task
    stream = "pre/web/" + arn.rsplit("/", 1)[1]
    events = services.logs.get_log_events(logGroupName=group, logStreamName=stream)["events"]
    assert [event["message"] for event in events] == ["hello"]


def test_the_interface_of_a_task_is_known_to_ec2(services):
    arn = only(services.run(services.define(services.container("sh", "-c", IDLE, stopTimeout=2))))
    task = services.until(arn, "RUNNING")
    attachment = only(task["attachments"])
    assert (attachment["type"], attachment["status"]) == ("ElasticNetworkInterface", "ATTACHED")
    detail = {each["name"]: each["value"] for each in attachment["details"]}
    assert list(detail) == ["subnetId", "networkInterfaceId", "macAddress", "privateDnsName", "privateIPv4Address"]
    ec2 = services.region.client("ec2")
    shown = only(ec2.describe_network_interfaces(NetworkInterfaceIds=[detail["networkInterfaceId"]])["NetworkInterfaces"])
    assert (shown["PrivateIpAddress"], shown["SubnetId"], shown["MacAddress"]) == (
        detail["privateIPv4Address"], detail["subnetId"], detail["macAddress"])
    assert only(only(task["containers"])["networkInterfaces"])["privateIpv4Address"] == detail["privateIPv4Address"]
    services.ecs.stop_task(cluster=services.name, task=arn)
    assert only(services.until(arn, "STOPPED")["attachments"])["status"] == "DELETED"


def test_services_are_stable_only_without_old_tasks(services):
    name = services.create(services.define(services.idle()), count=3)
    services.steady(name, 3)
    old = services.arns(name)
    services.update(name, forceNewDeployment=True)
    services.ecs.get_waiter("services_stable").wait(
        cluster=services.name, services=[name], WaiterConfig={"Delay": 1, "MaxAttempts": 90})
    new = services.arns(name)
    assert len(old) == len(new) == 3 and not old & new


def test_the_events_of_a_first_deployment(services):
    name = services.create(services.define(services.idle()), count=2)
    deployment = only(services.steady(name, 2)["deployments"])
    assert deployment["rolloutStateReason"] == f"ECS deployment {deployment['id']} completed."
    said = services.messages(name)
    wanted = [rf"\(service {name}\) has started 2 tasks: \(task [0-9a-f]{{32}}\) \(task [0-9a-f]{{32}}\)\.",
              rf"\(service {name}\) \(deployment {deployment['id']}\) deployment completed\.",
              rf"\(service {name}\) has reached a steady state\."]
    assert len(said) == 3 and all(re.fullmatch(*pair) for pair in zip(wanted, said)), said


def test_the_members_of_a_stopped_task(services):
    arn = run(services, shell(services, "true", cpu=16), networkMode="bridge")
    task = services.until(arn, "STOPPED", cluster="default")
    wanted = """attachments attributes availabilityZone clusterArn connectivity connectivityAt containerInstanceArn
        containers cpu createdAt desiredStatus enableExecuteCommand executionStoppedAt group healthStatus lastStatus
        launchType memory overrides pullStartedAt pullStoppedAt startedAt stopCode stoppedAt stoppedReason stoppingAt
        tags taskArn taskDefinitionArn version"""
    assert not set(wanted.split()) - task.keys()
    container = only(task["containers"])
    wanted = """containerArn taskArn name image imageDigest runtimeId lastStatus exitCode networkBindings
        networkInterfaces healthStatus cpu memory"""
    assert not set(wanted.split()) - container.keys()
    assert isinstance(container["cpu"], str) and isinstance(task["cpu"], str)
    assert (task["stopCode"], task["stoppedReason"]) == ("EssentialContainerExited", "Essential container in task exited")
    assert task["overrides"] == {"containerOverrides": [{"name": "main"}], "inferenceAcceleratorOverrides": []}


def test_a_role_by_its_name_is_that_of_the_account(services):
    made = define(services, shell(services, IDLE), taskRoleArn="mine", executionRoleArn="service-role/its")
    assert made["taskRoleArn"] == "arn:aws:iam::000000000000:role/mine"
    assert made["executionRoleArn"] == "arn:aws:iam::000000000000:role/service-role/its"
