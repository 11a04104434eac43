"""Amazon's agent as a host's: what it registers, runs and reports is shown as ECS shows it, and it understands all that it is told."""

import datetime
import json
import time
import uuid

import boto3
import pytest

from amazon_agent import DIGEST, DOCKER, HASH, VERSION, Failed
from amazon_cluster import allow, trust
from conftest import unique, wait_for
from services import only, refused

# As a machine of EC2 has it from its metadata service.
DOCUMENT = json.dumps({"accountId": "000000000000", "architecture": "x86_64", "availabilityZone": "eu-north-1b", "imageId": "ami-0a1b2c3d",
                       "instanceId": "i-0a1b2c3d4e5f60718", "instanceType": "m5.large", "region": "eu-north-1"})


def by_name(task):
    return {container["name"]: container for container in task["containers"]}


def named(attributes):
    return {each["name"]: each.get("value") for each in attributes}


def test_an_instance_is_shown_as_its_agent_registered_it(amazon):
    agent = amazon.agent(attributes={"stack": "proof"}, tags=[{"key": "team", "value": "x"}], document=DOCUMENT)
    token = str(uuid.uuid4())
    made = agent.register(token)
    assert agent.zone == "eu-north-1b"
    assert agent.register_in(amazon.name, token)["containerInstance"]["containerInstanceArn"] == made["containerInstanceArn"]
    shown = amazon.instance(agent)
    assert not shown["agentConnected"] and "agentVersion" not in shown["versionInfo"]
    update = {"cluster": amazon.name, "containerInstance": agent.state.arn}
    with pytest.raises(amazon.ecs.exceptions.MissingVersionException):
        amazon.ecs.update_container_agent(**update)
    assert shown["ec2InstanceId"] == "i-0a1b2c3d4e5f60718" and {"key": "team", "value": "x"} in shown["tags"]
    attributes = named(shown["attributes"])
    assert (attributes["stack"], attributes["ecs.instance-type"], attributes["ecs.ami-id"]) == ("proof", "m5.large", "ami-0a1b2c3d")
    remaining = {each["name"]: each for each in shown["remainingResources"]}
    assert (remaining["CPU"]["integerValue"], remaining["MEMORY"]["integerValue"]) == (2048, 4096)
    assert set(remaining["PORTS"]["stringSetValue"]) == {"22", "2375", "2376", "51678", "51679"}

    agent.start()
    shown = amazon.instance(agent)
    assert shown["agentConnected"]
    assert shown["versionInfo"] == {"agentVersion": VERSION, "agentHash": HASH, "dockerVersion": f"DockerVersion: {DOCKER}"}
    with pytest.raises(amazon.ecs.exceptions.NoUpdateAvailableException):
        amazon.ecs.update_container_agent(**update)
    # What an operator put on it stays when the agent registers again, which does not say it any more.
    again = amazon.again(agent, attributes={"stack": "proof"}, document=DOCUMENT)
    assert named(amazon.instance(again)["attributes"])["stack"] == "proof"
    assert again.state.arn == made["containerInstanceArn"]
    assert amazon.ecs.list_container_instances(cluster=amazon.name)["containerInstanceArns"] == [again.state.arn]


def test_an_agent_without_a_cluster_makes_the_default_one(amazon, region):
    account = f"{uuid.uuid4().int % 10**12:012}"
    agent = amazon.agent(cluster="")
    agent.keys = type(agent.keys)(account, "swordfish")
    agent.register()
    ecs = region.client("ecs", account=account)
    assert ecs.list_container_instances(cluster="default")["containerInstanceArns"] == [agent.state.arn]
    # With a name of one that is not there it ends, and makes none.
    lost = amazon.agent(cluster="absent")
    with pytest.raises(Failed, match="ClusterNotFoundException"):
        lost.register()


@pytest.mark.parametrize("name", ["bare", "ARN"])
def test_a_task_runs_and_ends_as_its_agent_reports_it(amazon, name):
    cluster = amazon.ecs.describe_clusters(clusters=[amazon.name])["clusters"][0]["clusterArn"] if name == "ARN" else amazon.name
    agent = amazon.join(cluster=cluster)
    before = datetime.datetime.now(datetime.timezone.utc)
    arn, = amazon.on_host({"name": "main", "command": ["serve"], "environment": [{"name": "A", "value": "b"}],
                           "portMappings": [{"containerPort": 80}, {"containerPort": 53, "protocol": "udp"}]},
                          {"name": "side", "essential": False})
    given = agent.task(arn)
    main = {container["name"]: container for container in given["containers"]}["main"]
    assert main["command"] == ["serve"] and main["environment"] == {"A": "b", "AWS_EXECUTION_ENV": "AWS_ECS_EC2"}
    assert [(each["containerPort"], each["hostPort"], each["protocol"]) for each in main["portMappings"]] == [(80, 0, "tcp"), (53, 0, "udp")]
    assert (given["networkMode"], given["launchType"], main["essential"]) == ("bridge", "EC2", True)
    running = amazon.until(arn, "RUNNING")
    main, side = by_name(running)["main"], by_name(running)["side"]
    assert running["containerInstanceArn"] == agent.state.arn and running["connectivity"] == "CONNECTED"
    assert before - datetime.timedelta(seconds=1) < running["pullStartedAt"] < running["pullStoppedAt"] <= running["startedAt"]
    assert main["imageDigest"] == DIGEST and main["runtimeId"] == agent.state.tasks[arn].runtime_ids["main"] != side["runtimeId"]
    assert [(each["bindIP"], each["containerPort"], each["hostPort"], each["protocol"]) for each in main["networkBindings"]] == [
        ("0.0.0.0", 80, 32768, "tcp"), ("0.0.0.0", 53, 32769, "udp")]

    # What is not essential ends alone: the report says RUNNING, and has that one container.
    agent.report(arn, "RUNNING", [agent.ended(arn, "side", 3)])
    agent.told()
    running = amazon.describe(arn)
    assert running["lastStatus"] == "RUNNING" == by_name(running)["main"]["lastStatus"]
    assert (by_name(running)["side"]["lastStatus"], by_name(running)["side"]["exitCode"]) == ("STOPPED", 3)

    agent.end(arn, {"main": 7})
    stopped = amazon.until(arn, "STOPPED")
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("EssentialContainerExited", "Essential container in task exited")
    assert (by_name(stopped)["main"]["exitCode"], by_name(stopped)["side"]["exitCode"]) == (7, 3)
    assert stopped["startedAt"] <= stopped["executionStoppedAt"] <= stopped["stoppedAt"]
    # Its room is free again, and the agent is not told to stop what it has stopped itself.
    assert {each["name"]: each.get("integerValue") for each in amazon.instance(agent)["remainingResources"]}["MEMORY"] == 4096
    agent.again()
    assert not agent.payloads_of(arn, "STOPPED")


def test_a_task_that_is_stopped_is_named_and_no_more(amazon):
    agent = amazon.join(runs=False)
    arn, = amazon.on_host(pidMode="task")
    agent.task(arn)
    agent.run(arn)
    amazon.until(arn, "RUNNING")
    amazon.ecs.stop_task(cluster=amazon.name, task=arn, reason="enough")
    # What was on its way already says the contrary, and comes too late.
    agent.report(arn, "RUNNING", [{"containerName": "main", "status": "RUNNING"}])
    agent.told()
    assert amazon.describe(arn)["desiredStatus"] == "STOPPED" and amazon.describe(arn)["stopCode"] == "UserInitiated"
    assert agent.task(arn, "STOPPED") == {"arn": arn, "desiredStatus": "STOPPED"}
    # With a pause container of the agent's own the containers end with one report, and the task with another that names none.
    agent.report(arn, "RUNNING", [agent.ended(arn, "main", 143)])
    agent.report(arn, "STOPPED")
    stopped = amazon.until(arn, "STOPPED")
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("UserInitiated", "enough")
    assert (only(stopped["containers"])["lastStatus"], only(stopped["containers"])["exitCode"]) == ("STOPPED", 143)


def test_why_a_container_did_not_start_is_shown(amazon):
    agent = amazon.join(runs=False)
    arn, = amazon.on_host({"name": "main"}, {"name": "side"})
    agent.task(arn)
    reason = "CannotPullContainerError: pull image manifest has been retried 5 time(s): not found"
    agent.report(arn, "STOPPED", [{"containerName": "main", "status": "STOPPED", "reason": reason},
                                  {"containerName": "side", "status": "STOPPED"}], executionStoppedAt=round(time.time(), 3))
    stopped = amazon.until(arn, "STOPPED")
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("TaskFailedToStart", reason)
    main = by_name(stopped)["main"]
    assert main["reason"] == reason and "exitCode" not in main and "startedAt" not in stopped
    assert "reason" not in by_name(stopped)["side"]


def test_a_report_of_managed_agents_is_taken(amazon):
    agent = amazon.join()
    arn, = amazon.on_host()
    amazon.until(arn, "RUNNING")
    taken = agent.call("SubmitTaskStateChange", cluster=amazon.name, task=arn, status="RUNNING", reason="", managedAgents=[
        {"containerName": "main", "managedAgentName": "ExecuteCommandAgent", "status": "STOPPED", "reason": "no files"}])
    assert taken["acknowledgment"] and amazon.describe(arn)["lastStatus"] == "RUNNING"


def test_an_agent_of_before_reports_each_container(amazon):
    agent = amazon.join(runs=False)
    arn, = amazon.on_host({"name": "main", "portMappings": [{"containerPort": 80}]})
    agent.task(arn)
    bindings = [{"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 40000, "protocol": "tcp"}]
    for more in [{"status": "RUNNING", "runtimeId": "ab" * 32, "networkBindings": bindings}, {"status": "STOPPED", "exitCode": 4}]:
        assert agent.call("SubmitContainerStateChange", cluster=amazon.name, task=arn, containerName="main", **more)["acknowledgment"]
    main = only(amazon.describe(arn)["containers"])
    assert (main["lastStatus"], main["exitCode"], main["runtimeId"]) == ("STOPPED", 4, "ab" * 32)
    assert only(main["networkBindings"])["hostPort"] == 40000
    agent.report(arn, "STOPPED")
    assert amazon.until(arn, "STOPPED")["stopCode"] in ("EssentialContainerExited", "TaskFailedToStart")


def test_ports_and_room_of_a_host_are_counted(amazon):
    agent = amazon.join()
    amazon.on_host({"name": "main", "portMappings": [{"containerPort": 80, "hostPort": 8080}], "memory": 4000})
    definition = {"image": "box:1", "name": "main", "memory": 64}
    for container, reason in [({**definition, "portMappings": [{"containerPort": 80, "hostPort": 8080}]}, "RESOURCE:PORTS"),
                              ({**definition, "portMappings": [{"containerPort": 80, "hostPort": 51678}]}, "RESOURCE:PORTS"),
                              ({**definition, "memory": 512}, "RESOURCE:MEMORY"),
                              ({**definition, "logConfiguration": {"logDriver": "journald"}}, "ATTRIBUTE")]:
        family = amazon.ecs.register_task_definition(family=unique("f"), containerDefinitions=[container])["taskDefinition"]["family"]
        failure = only(amazon.ecs.run_task(cluster=amazon.name, taskDefinition=family)["failures"])
        assert failure["reason"] == reason and failure["arn"] == agent.state.arn, failure


def test_every_member_of_a_definition_comes_in_a_form_that_the_agent_takes(amazon):
    """What it would drop or misread is a fault, by which the fixture fails the test."""
    agent = amazon.join()
    check = {"command": ["CMD-SHELL", "true"], "interval": 5, "startPeriod": 3}
    linux = {"capabilities": {"add": ["NET_ADMIN"], "drop": ["CHOWN"]}, "initProcessEnabled": True, "sharedMemorySize": 64,
             "tmpfs": [{"containerPath": "/t", "size": 8}], "devices": [{"hostPath": "/dev/null", "containerPath": "/dev/x"}]}
    arn, = amazon.on_host(
        {"name": "main", "cpu": 128, "memoryReservation": 32, "entryPoint": ["sh", "-c"], "command": ["true"], "user": "1000",
         "workingDirectory": "/", "dockerLabels": {"a": "b"}, "healthCheck": check, "linuxParameters": linux, "links": ["side:friend"],
         "mountPoints": [{"sourceVolume": "scratch", "containerPath": "/s"}, {"sourceVolume": "shared", "containerPath": "/h"}],
         "ulimits": [{"name": "nofile", "softLimit": 100, "hardLimit": 200}], "extraHosts": [{"hostname": "h", "ipAddress": "10.0.0.1"}],
         "dependsOn": [{"containerName": "side", "condition": "START"}], "startTimeout": 30, "stopTimeout": 9,
         "restartPolicy": {"enabled": True, "ignoredExitCodes": [3], "restartAttemptPeriod": 60},
         "systemControls": [{"namespace": "net.core.somaxconn", "value": "99"}], "readonlyRootFilesystem": True, "privileged": True,
         "logConfiguration": {"logDriver": "json-file", "options": {"max-size": "1m"}}, "pseudoTerminal": True, "interactive": True,
         "dnsServers": ["10.0.0.2"], "hostname": "web", "volumesFrom": [{"sourceContainer": "side", "readOnly": True}]},
        {"name": "side", "essential": False, "portMappings": [{"containerPortRange": "8000-8010"}]},
        cpu="512", memory="256", volumes=[{"name": "scratch"}, {"name": "shared", "host": {"sourcePath": "/srv"}}, {
            "name": "kept", "dockerVolumeConfiguration": {"scope": "shared", "autoprovision": True, "driver": "local"}}])
    given = agent.task(arn)
    assert (given["cpu"], given["memory"]) == (0.5, 256)
    main = given["containers"][0]
    host, config = json.loads(main["dockerConfig"]["hostConfig"]), json.loads(main["dockerConfig"]["config"])
    assert host["Privileged"] and host["CapAdd"] == ["NET_ADMIN"] and host["MemoryReservation"] == 32 << 20
    assert config["Healthcheck"]["Interval"] == 5_000_000_000 and config["User"] == "1000" and config["Labels"]["a"] == "b"
    assert main["healthCheckType"] == "docker" and main["stopTimeout"] == 9 and main["links"] == ["side:friend"]
    assert [volume["name"] for volume in given["volumes"]] == ["scratch", "shared", "kept"]
    amazon.until(arn, "RUNNING")


def test_commands_and_variables_of_a_request_are_in_the_container_itself(amazon):
    """The agent applies no overrides but a command's."""
    agent = amazon.join()
    made = amazon.ecs.register_task_definition(family=unique("f"), containerDefinitions=[
        {"name": "main", "image": "box:1", "memory": 64, "command": ["a"], "environment": [{"name": "A", "value": "a"}]}])
    arn, = amazon.run(made["taskDefinition"]["taskDefinitionArn"], fargate=False, overrides={"containerOverrides": [
        {"name": "main", "command": ["b"], "environment": [{"name": "A", "value": "b"}], "memory": 128}]})
    main = only(agent.task(arn)["containers"])
    assert (main["command"], main["environment"]["A"], main["memory"], main["overrides"]) == (["b"], "b", 128, "{}")


def test_images_and_secrets_are_named_as_the_agent_fetches_them(amazon, region):
    agent = amazon.join()
    account, name = "000000000000", unique("execution")
    role = region.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust(Service="ecs-tasks.amazonaws.com"))["Role"]["Arn"]
    secret = f"arn:aws:secretsmanager:eu-north-1:{account}:secret:s-abcdef"
    arn, = amazon.on_host(
        {"name": "cloud", "image": f"{account}.dkr.ecr.eu-north-1.amazonaws.com/box:1"},
        {"name": "ours", "image": f"127.0.0.1:{region.port}/box:1", "secrets": [
            {"name": "A", "valueFrom": "plain"}, {"name": "B", "valueFrom": f"arn:aws:ssm:eu-west-1:{account}:parameter/p"}]},
        {"name": "public", "image": "registry.example/box:1", "repositoryCredentials": {"credentialsParameter": secret},
         "secrets": [{"name": "C", "valueFrom": secret}]}, executionRoleArn=role)
    cloud, ours, public = agent.task(arn)["containers"]
    registry = f"127.0.0.1:{region.port}"
    for container in (cloud, ours):
        login = container["registryAuthentication"]
        assert container["image"] == f"{registry}/box:1" and login["type"] == "ecr"
        assert login["ecrAuthData"] == {"registryId": account, "region": "eu-north-1", "endpointOverride": region.endpoint, "useExecutionRole": True}
    assert [(each["provider"], each["region"], each["valueFrom"]) for each in ours["secrets"]] == [
        ("ssm", "eu-north-1", "plain"), ("ssm", "eu-west-1", f"arn:aws:ssm:eu-west-1:{account}:parameter/p")]
    assert public["image"] == "registry.example/box:1" and public["secrets"][0]["provider"] == "asm"
    assert public["registryAuthentication"] == {"type": "asm", "asmAuthData": {"credentialsParameter": secret, "region": "eu-north-1"}}


def test_gpus_are_told_by_their_names_and_architectures_are_kept_apart(amazon):
    agent = amazon.join(gpus=["GPU-a", "GPU-b"])
    wanted = [{"type": "GPU", "value": "1"}]
    arn, = amazon.on_host({"name": "main", "resourceRequirements": wanted}, {"name": "side", "resourceRequirements": wanted})
    given = {association["name"]: association for association in agent.task(arn)["associations"]}
    assert set(given) == {"GPU-a", "GPU-b"} and all(each["content"]["value"] == name for name, each in given.items())
    assert sorted(name for each in given.values() for name in each["containers"]) == ["main", "side"]
    container = {"name": "main", "image": "box:1", "memory": 64}
    for container, more, reason in [({**container, "resourceRequirements": wanted}, {}, "RESOURCE:GPU"),
                                    (container, {"runtimePlatform": {"cpuArchitecture": "ARM64"}}, "ATTRIBUTE")]:
        made = amazon.ecs.register_task_definition(family=unique("f"), containerDefinitions=[container], **more)["taskDefinition"]
        assert only(amazon.ecs.run_task(cluster=amazon.name, taskDefinition=made["taskDefinitionArn"])["failures"])["reason"] == reason


def test_a_task_as_large_as_it_may_be_comes_whole(amazon):
    agent = amazon.join()
    variables = [{"name": f"V{number}", "value": "é" * 5000} for number in range(5)]
    arn, = amazon.on_host({"name": "main", "environment": variables})
    given = only(agent.task(arn)["containers"])["environment"]
    assert {name: given[name] for name in given if name.startswith("V")} == {each["name"]: each["value"] for each in variables}
    amazon.until(arn, "RUNNING")


def test_a_task_has_an_interface_once_its_host_has_seen_it(amazon):
    agent = amazon.join()
    arn = amazon.ecs.run_task(
        cluster=amazon.name, launchType="EC2", networkConfiguration={"awsvpcConfiguration": {"subnets": amazon.subnets[:1]}},
        taskDefinition=amazon.ecs.register_task_definition(
            family=unique("f"), networkMode="awsvpc", containerDefinitions=[{"name": "main", "image": "box:1", "memory": 64}],
        )["taskDefinition"]["taskDefinitionArn"])["tasks"][0]["taskArn"]
    attach = agent.expect("AttachTaskNetworkInterfacesMessage", lambda message: message["taskArn"] == arn)
    interface = only(attach["elasticNetworkInterfaces"])
    assert not agent.payloads_of(arn), "first the interface, then the task"
    assert amazon.describe(arn)["lastStatus"] == "PROVISIONING"
    agent.attached(arn, interface["attachmentArn"])
    given = only(agent.task(arn)["elasticNetworkInterfaces"])
    assert (given["ec2Id"], given["macAddress"]) == (interface["ec2Id"], interface["macAddress"])
    task = amazon.until(arn, "RUNNING")
    assert amazon.address(task) == given["ipv4Addresses"][0]["privateAddress"]
    assert only(task["attachments"])["status"] == "ATTACHED"
    assert interface["attachmentArn"].endswith(task["attachments"][0]["id"])
    # One of an instance is acknowledged, though no instance has any here.
    attachment = {"attachmentArn": interface["attachmentArn"], "status": "ATTACHED"}
    assert agent.call("SubmitAttachmentStateChanges", cluster=amazon.name, attachments=[attachment])["acknowledgment"]


def as_role(region, service, given):
    return boto3.client(service, endpoint_url=region.endpoint, region_name="eu-north-1", aws_access_key_id=given["accessKeyId"],
                        aws_secret_access_key=given["secretAccessKey"], aws_session_token=given["sessionToken"])


def test_a_task_comes_with_its_roles_and_they_come_again_to_who_has_forgotten_them(amazon, region):
    iam, roles = region.client("iam"), {}
    for kind in ("TaskApplication", "TaskExecution"):
        name = unique(kind)
        roles[kind] = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust(Service="ecs-tasks.amazonaws.com"))["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=allow(["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"]))
    agent = amazon.join()
    made = amazon.ecs.register_task_definition(
        family=unique("f"), taskRoleArn=roles["TaskApplication"], executionRoleArn=roles["TaskExecution"],
        containerDefinitions=[{"name": "main", "image": "box:1", "memory": 64, "logConfiguration": {
            "logDriver": "awslogs", "options": {"awslogs-group": amazon.group, "awslogs-region": "eu-north-1"}}}])
    service = amazon.create(made["taskDefinition"]["taskDefinitionArn"], fargate=False)
    arn = wait_for("the service's task", lambda: only(amazon.arns(service)) if amazon.arns(service) else None)
    amazon.until(arn, "RUNNING")
    given = agent.task(arn)
    assert only(given["containers"])["logsAuthStrategy"] == "ExecutionRole"
    first = dict(agent.credentials)
    for kind, role in roles.items():
        assert first[arn, kind]["roleArn"] == role
        who = as_role(region, "sts", first[arn, kind]).get_caller_identity()["Arn"]
        assert who.split("/")[1:] == [role.rsplit("/", 1)[1], arn.rsplit("/", 1)[1]]
    # What a container asks for of its agent is asked with the role's keys.
    ecs = as_role(region, "ecs", first[arn, "TaskApplication"])
    protected = ecs.update_task_protection(cluster=amazon.name, tasks=[arn], protectionEnabled=True)["protectedTasks"]
    assert only(protected)["protectionEnabled"]
    ecs.update_task_protection(cluster=amazon.name, tasks=[arn], protectionEnabled=False)

    again = amazon.again(agent)
    for kind in roles:
        message = again.expect("IAMRoleCredentialsMessage", lambda message: message["roleType"] == kind)
        given = message["roleCredentials"]
        assert message["taskArn"] == arn and given["roleArn"] == roles[kind]
        assert given["credentialsId"] == first[arn, kind]["credentialsId"], "a container keeps its address of them"
        assert given["accessKeyId"] != first[arn, kind]["accessKeyId"]
        as_role(region, "sts", given).get_caller_identity()
    assert amazon.arns(service) == {arn}


def test_tags_are_told_to_the_agent_that_asks_for_a_container(amazon):
    agent = amazon.join(tags=[{"key": "rack", "value": "7"}])
    arn, = amazon.on_host()
    amazon.ecs.tag_resource(resourceArn=arn, tags=[{"key": "team", "value": "a"}])
    assert agent.call("ListTagsForResource", resourceArn=agent.state.arn)["tags"] == [{"key": "rack", "value": "7"}]
    assert agent.call("ListTagsForResource", resourceArn=arn)["tags"] == [{"key": "team", "value": "a"}]


def test_an_external_instance_runs_external_tasks_alone(amazon):
    agent = amazon.join(kind="external")
    family = amazon.ecs.register_task_definition(family=unique("f"), containerDefinitions=[
        {"name": "main", "image": "box:1", "memory": 64}], requiresCompatibilities=["EXTERNAL"])["taskDefinition"]["family"]
    task = only(amazon.ecs.run_task(cluster=amazon.name, taskDefinition=family, launchType="EXTERNAL")["tasks"])
    assert agent.task(task["taskArn"])["launchType"] == "EXTERNAL"
    amazon.until(task["taskArn"], "RUNNING")
    family = amazon.ecs.register_task_definition(family=unique("f"), containerDefinitions=[
        {"name": "main", "image": "box:1", "memory": 64}])["taskDefinition"]["family"]
    refused(amazon.ecs.run_task, "InvalidParameterException", "No Container Instances were found in your cluster.",
            cluster=amazon.name, taskDefinition=family, launchType="EC2")


def test_health_and_figures_come_by_telemetry(amazon, region):
    agent = amazon.join()
    arn, = amazon.on_host({"name": "main", "healthCheck": {"command": ["CMD", "true"]}}, {"name": "side"})
    assert amazon.until(arn, "RUNNING")["healthStatus"] == "UNKNOWN"
    telemetry = agent.telemetry()
    for verdict in ("HEALTHY", "UNHEALTHY", "HEALTHY"):
        telemetry.health(arn, main=verdict)
        shown = amazon.describe(arn)
        assert (shown["healthStatus"], by_name(shown)["main"]["healthStatus"]) == (verdict, verdict)
    moment = round(time.time(), 3)
    for status in ("IMPAIRED", "OK"):
        telemetry.publish("PublishInstanceStatusRequest", metadata={
            "cluster": amazon.name, "containerInstance": agent.state.arn, "requestId": str(uuid.uuid4())}, statuses=[
                {"type": "ContainerRuntime", "status": status, "lastUpdated": moment, "lastStatusChange": moment}])
        health = amazon.instance(agent)["healthStatus"]
        assert (health["overallStatus"], only(health["details"])["type"]) == (status, "CONTAINER_RUNTIME")

    telemetry.publish("PublishMetricsRequest", metadata=telemetry.metadata(idle=True, fin=True))
    longs = {"min": 1, "max": 3, "sampleCount": 2, "sum": 4, "overflowMin": 0, "overflowMax": 0, "overflowSum": 0}
    names = ["rxBytes", "rxDropped", "rxErrors", "rxPackets", "txBytes", "txDropped", "txErrors", "txPackets"]

    def figures(name, cpu):
        doubles = {"min": cpu, "max": cpu, "sampleCount": 20, "sum": 20 * cpu}
        return {"containerName": name, "cpuStatsSet": doubles, "memoryStatsSet": {**doubles, "sum": 400.0},
                "networkStatsSet": {**dict.fromkeys(names, longs), "rxBytesPerSecond": doubles, "txBytesPerSecond": doubles},
                "storageStatsSet": {"readSizeBytes": longs, "writeSizeBytes": longs}}

    task = {"taskArn": arn, "taskDefinitionFamily": "f", "taskDefinitionVersion": "1",
            "containerMetrics": [figures("main", 12.5), figures("side", 2.5)]}
    # Of ten tasks, so that it leaves in several frames; nine are not there any more.
    others = [{**task, "taskArn": arn.rsplit("/", 1)[0] + f"/{uuid.uuid4().hex}"} for _ in range(9)]
    telemetry.publish("PublishMetricsRequest", metadata=telemetry.metadata(idle=False, fin=True), taskMetrics=[*others, task])
    shown = {each["task"]: each for each in json.loads(region.run("top", "--once", "--json", "--cluster", amazon.name).stdout)["tasks"]}
    assert set(shown) == {arn}
    assert sum(container["cpuPercent"] for container in shown[arn]["containers"]) == pytest.approx(15.0)
    telemetry.socket.close()


def test_a_service_is_kept_on_amazons_hosts(amazon):
    agents = [amazon.join() for _ in range(2)]
    made = amazon.ecs.register_task_definition(family=unique("f"), containerDefinitions=[
        {"name": "main", "image": "box:1", "memory": 64, "healthCheck": {"command": ["CMD", "true"], "retries": 1}}])
    service = amazon.create(made["taskDefinition"]["taskDefinitionArn"], count=4, fargate=False,
                            placementStrategy=[{"type": "spread", "field": "instanceId"}])
    on = {agent.state.arn: (agent, agent.telemetry()) for agent in agents}

    def say(arn, verdict):
        on[amazon.describe(arn)["containerInstanceArn"]][1].health(arn, main=verdict)

    def is_kept():
        tasks = [task for task in amazon.tasks(service) if task["lastStatus"] == "RUNNING"]
        for task in tasks:
            if task["healthStatus"] == "UNKNOWN":
                say(task["taskArn"], "HEALTHY")
        return len(tasks) == 4 and all(task["healthStatus"] == "HEALTHY" for task in tasks)

    wait_for("the service", is_kept)
    first = {task["taskArn"]: task["containerInstanceArn"] for task in amazon.tasks(service)}
    assert set(first.values()) == set(on), "spread over both"
    dead, sick, *well = first
    on[first[dead]][0].end(dead, {"main": 137})
    say(sick, "UNHEALTHY")
    wait_for("both to be replaced", lambda: is_kept() and not {dead, sick} & amazon.arns(service))
    assert set(well) < amazon.arns(service)
    assert amazon.describe(dead)["stopCode"] == "EssentialContainerExited"
    assert "health checks" in amazon.until(sick, "STOPPED")["stoppedReason"]
