"""A host becomes a managed instance by an activation, and runs what is of launch type EXTERNAL, and that alone."""

import json
import os

import botocore.exceptions
import pytest

from conftest import binary
from hosts import PORT, SUBNET, eventually, fleet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

TRUST = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "ssm.amazonaws.com"}, "Action": "sts:AssumeRole"}]})
POLICIES = ["arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
            "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("anywhere"), 2) as (region, hosts):
        iam = region.client("iam")
        iam.create_role(RoleName="anywhere", AssumeRolePolicyDocument=TRUST)
        for arn in POLICIES:
            iam.attach_role_policy(RoleName="anywhere", PolicyArn=arn)
        region.client("ecs").create_cluster(clusterName="edge")
        yield region, hosts


def activate(host, region, made, *words):
    return host.start("agent.log", *command(host, region, made, *words))


def command(host, region, made, *words):
    return [binary(), "agent", "--join", region.url, "--activation-id", made["ActivationId"], "--activation-code",
            made["ActivationCode"], "--ca-file", region.env()["AWS_CA_BUNDLE"], "--cluster", "edge", "--host-name",
            host.name, *words]


def connected(ecs, cluster="edge"):
    arns = ecs.list_container_instances(cluster=cluster)["containerInstanceArns"]
    found = ecs.describe_container_instances(cluster=cluster, containerInstances=arns) if arns else {}
    return [it for it in found.get("containerInstances", []) if it["agentConnected"]]


def test_an_activation_makes_an_external_instance_that_runs_external_tasks_alone(world):
    region, (one, two) = world
    ssm, ecs = region.client("ssm"), region.client("ecs")
    made = ssm.create_activation(IamRole="anywhere", DefaultInstanceName="edge", Tags=[{"Key": "site", "Value": "7"}])
    # A code that is not the activation's is refused, and told nothing else.
    wrong = {**made, "ActivationCode": made["ActivationCode"][:-1] + "_"}
    process = two.start("refused.log", *command(two, region, wrong))
    assert process.wait(30) == 78 and "isn't valid" in two.log("refused.log")

    one.agent = activate(one, region, made)
    (instance,), _ = eventually("the instance", lambda: connected(ecs), 60)
    (shown,) = ssm.describe_instance_information()["InstanceInformationList"]
    assert shown["InstanceId"] == instance["ec2InstanceId"] and shown["InstanceId"].startswith("mi-")
    assert (shown["PingStatus"], shown["IamRole"], shown["Name"]) == ("Online", "anywhere", "edge")
    assert shown["ActivationId"] == made["ActivationId"] and shown["ComputerName"] == "host1"
    # It was for one.
    process = two.start("refused.log", *command(two, region, made))
    assert process.wait(30) == 78 and "as many instances as it may" in two.log("refused.log")
    (listed,) = ssm.describe_activations(Filters=[{"FilterKey": "ActivationIds", "FilterValues": [made["ActivationId"]]}])[
        "ActivationList"]
    assert (listed["RegistrationsCount"], listed["RegistrationLimit"], listed["Expired"]) == (1, 1, False)
    for path in (region.folder / "data").glob("region.sqlite*"):
        assert made["ActivationCode"].encode() not in path.read_bytes()

    ecs.register_task_definition(family="edge", networkMode="bridge", requiresCompatibilities=["EC2", "EXTERNAL"],
                                 containerDefinitions=[{"name": "main", "image": f"{SUBNET}.1:{PORT}/box:1",
                                                        "command": ["sleep", "infinity"], "memory": 16, "stopTimeout": 2}])
    run = ecs.run_task(cluster="edge", taskDefinition="edge", launchType="EXTERNAL")
    assert not run["failures"], run
    assert run["tasks"][0]["launchType"] == "EXTERNAL"
    arn = run["tasks"][0]["taskArn"]

    def running():
        task = ecs.describe_tasks(cluster="edge", tasks=[arn])["tasks"][0]
        assert task["lastStatus"] != "STOPPED", task
        return task["lastStatus"] == "RUNNING" and task

    task, _ = eventually("the task", running, 60)
    assert task["containerInstanceArn"] == instance["containerInstanceArn"]
    # EC2's tasks have no place there.
    with pytest.raises(botocore.exceptions.ClientError, match="No Container Instances were found"):
        ecs.run_task(cluster="edge", taskDefinition="edge", launchType="EC2")

    ecs.create_service(cluster="edge", serviceName="edge", taskDefinition="edge", desiredCount=2, launchType="EXTERNAL")
    eventually("the service", lambda: ecs.describe_services(cluster="edge", services=["edge"])["services"][0][
        "runningCount"] == 2, 60)

    # A host of a token beside it takes none of them, and an EC2 task.
    two.join(region.token("--cluster", "edge"))
    eventually("two hosts", lambda: len(connected(ecs)) == 2, 60)
    run = ecs.run_task(cluster="edge", taskDefinition="edge", launchType="EC2")
    assert run["tasks"][0]["containerInstanceArn"] != instance["containerInstanceArn"]
    run = ecs.run_task(cluster="edge", taskDefinition="edge", launchType="EXTERNAL", count=3)
    assert {task["containerInstanceArn"] for task in run["tasks"]} == {instance["containerInstanceArn"]}
    with pytest.raises(botocore.exceptions.ClientError, match="awsvpc|compatib"):
        ecs.register_task_definition(family="vpc", networkMode="awsvpc", requiresCompatibilities=["EXTERNAL"],
                                     containerDefinitions=[{"name": "main", "image": "box:1", "memory": 16}])
        ecs.run_task(cluster="edge", taskDefinition="vpc", launchType="EXTERNAL")

    # An agent that starts again needs no code, and is the same instance.
    one.kill()
    one.again()
    eventually("the agent once more", lambda: one.log("agent.log").count("agent ready") == 2, 60)
    eventually("the instance once more", lambda: len(connected(ecs)) == 2, 60)
    assert len(ssm.describe_instance_information()["InstanceInformationList"]) == 1

    # Deregistered: its keys are over, and it is an instance no more.
    ssm.deregister_managed_instance(InstanceId=shown["InstanceId"])
    assert ssm.describe_instance_information()["InstanceInformationList"] == []
    arn = instance["containerInstanceArn"]
    eventually("the connection to end", lambda: arn not in {it["containerInstanceArn"] for it in connected(ecs)})
    one.kill()
    one.again()
    eventually("the refusal", lambda: "does not take this host's keys" in one.log("agent.log"), 60)
    assert instance["containerInstanceArn"] not in {it["containerInstanceArn"] for it in connected(ecs)}
    ecs.update_service(cluster="edge", service="edge", desiredCount=0)
    ecs.deregister_container_instance(cluster="edge", containerInstance=instance["containerInstanceArn"], force=True)


def test_whose_role_may_not_be_assumed_makes_no_activation(world):
    region, _ = world
    iam, ssm = region.client("iam"), region.client("ssm")
    iam.create_role(RoleName="ec2", AssumeRolePolicyDocument=TRUST.replace("ssm.", "ec2."))
    for role in ("ec2", "nobody"):
        with pytest.raises(botocore.exceptions.ClientError, match="Nonexistent role or missing ssm service principal"):
            ssm.create_activation(IamRole=role)
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidActivation"):
        ssm.delete_activation(ActivationId="00000000-0000-0000-0000-000000000000")
    made = ssm.create_activation(IamRole="anywhere", RegistrationLimit=3)
    ssm.delete_activation(ActivationId=made["ActivationId"])
    assert made["ActivationId"] not in {it["ActivationId"] for it in ssm.describe_activations()["ActivationList"]}
