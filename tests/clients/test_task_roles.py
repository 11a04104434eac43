"""Tasks act in their role: credentials at 169.254.170.2, for the task's own containers alone."""

import codecs
import json
import re
import sys

import boto3
import pytest

from conftest import unique, wait_for
from services import IDLE

TASKS = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
# What is said is not what is kept: nothing may be found by whoever looks for the secrets themselves.
ASK = ("wget -qO- http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI | tr A-Za-z N-ZA-Mn-za-m; echo; "
       "echo $AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")


def make_role(region, *allowed, trust=TASKS, **conditions):
    iam, name = region.client("iam"), unique("role")
    statement = {**trust, **({"Condition": conditions} if conditions else {})}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(document))["Role"]["Arn"]
    if allowed:
        policy = {"Version": "2012-10-17",
                  "Statement": [{"Effect": "Allow", "Action": list(allowed), "Resource": "*"}]}
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
    return arn


def as_role(region, service, given):
    return boto3.client(service, endpoint_url=region.endpoint, region_name="eu-north-1",
                        aws_access_key_id=given["AccessKeyId"], aws_secret_access_key=given["SecretAccessKey"],
                        aws_session_token=given["Token"])


def why(task):
    said = [each["value"] for each in task["attributes"] if each["name"] == "longshore.stopped-because"]
    return "".join(said) or task["stoppedReason"]


def asking(cluster, role, script=ASK):
    container = cluster.container("sh", "-c", f"{script}; {IDLE}", stopTimeout=2)
    arn, = cluster.run(cluster.define(container, taskRoleArn=role))
    cluster.until(arn, "RUNNING")
    lines = wait_for("what it was told", lambda: [line for line in cluster.lines(arn) if line] or None)
    return arn, lines


def test_containers_are_given_credentials_of_their_tasks_role_and_nobody_else_is(region, cluster):
    account = region.client("sts").get_caller_identity()["Account"]
    role = make_role(region, "ecs:ListClusters", StringEquals={"aws:SourceAccount": account},
                     ArnLike={"aws:SourceArn": f"arn:aws:ecs:eu-north-1:{account}:*"})
    arn, _ = asking(cluster, role)
    said, path = wait_for("both lines", lambda: cluster.lines(arn) if len(cluster.lines(arn)) == 2 else None)
    given = json.loads(codecs.decode(said, "rot13"))
    assert given.keys() == {"RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
    assert given["RoleArn"] == role
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", given["Expiration"]), given["Expiration"]

    task_id, name = arn.rsplit("/", 1)[1], role.rsplit("/", 1)[1]
    caller = as_role(region, "sts", given).get_caller_identity()
    assert caller["Arn"] == f"arn:aws:sts::{account}:assumed-role/{name}/{task_id}"
    assert cluster.name in str(as_role(region, "ecs", given).list_clusters()["clusterArns"])
    with pytest.raises(Exception, match=f"assumed-role/{name}/{task_id} is not authorized to perform: iam:ListRoles"):
        as_role(region, "iam", given).list_roles()

    # Another task that knows the path.
    refusal = "wget -qO- -S http://169.254.170.2%s 2>&1 | grep HTTP"
    for path, status in [(path, 400), ("/v2/credentials/", 400), ("/v2/nothing", 404)]:
        lines, _ = cluster.output("sh", "-c", refusal % path)
        assert f" {status} " in lines[0], (path, lines)
    lines, _ = cluster.output("sh", "-c", "env | grep -c AWS_CONTAINER; true")
    assert lines == ["0"]

    kept = [path for path in region.data_dir.rglob("*") if path.is_file()]
    secrets = [given["SecretAccessKey"].encode(), given["Token"].encode()]
    # The registry's blobs are images.
    found = [str(path) for path in kept if "registry" not in path.parts and "images" not in path.parts
             if any(secret in path.read_bytes() for secret in secrets)]
    assert kept and found == []
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)


@pytest.mark.parametrize("change", [
    {"trust": {**TASKS, "Principal": {"Service": "ec2.amazonaws.com"}}},
    {"StringEquals": {"aws:SourceAccount": "111122223333"}},
])
def test_a_task_whose_role_does_not_trust_ecs_is_not_started(region, cluster, change):
    role = make_role(region, **change)
    arn, = cluster.run(cluster.define(cluster.container("true"), taskRoleArn=role))
    task = cluster.until(arn, "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert (f"ECS was unable to assume the role '{role}' that was provided for this task. Please verify that the role "
            "being passed has the proper trust relationship and permissions and that your IAM user has permissions "
            "to pass this role.") in why(task), why(task)
    assert "its trust policy does not allow it" in why(task), why(task)


def test_a_role_that_is_not_there_yet_is_told_and_waited_for(region, cluster):
    account = region.client("sts").get_caller_identity()["Account"]
    name = unique("later")
    role = f"arn:aws:iam::{account}:role/{name}"
    arn, lines = asking(cluster, role, "wget -qO- -S http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI "
                        "2>&1 | grep HTTP; while ! wget -qO- "
                        "http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI 2>/dev/null >/tmp/got; "
                        "do sleep 0.2; done; grep -c SecretAccessKey /tmp/got")
    assert " 503 " in lines[0], lines
    document = {"Version": "2012-10-17", "Statement": [TASKS]}
    region.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(document))
    wait_for("the credentials", lambda: cluster.lines(arn)[-1] == "1", 45)
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)


SCRIPT = """
import boto3, botocore
print(boto3.client("sts").get_caller_identity()["Arn"])
print(len(boto3.client("ecs").list_clusters()["clusterArns"]) > 0)
try:
    boto3.client("iam").list_users()
except botocore.exceptions.ClientError as error:
    print(error.response["Error"]["Code"])
"""


def test_boto3_in_a_container_does_what_its_role_allows_and_is_denied_the_rest(region, cluster):
    role = make_role(region, "ecs:ListClusters")
    mounts = {"/lib": "/usr/lib", "/lib64": "/usr/lib64", "/usr": "/usr"}
    mounts |= {path: path for path in {sys.prefix, sys.base_prefix} - {"/usr"}}
    container = cluster.container(
        f"{sys.prefix}/bin/python", "-c", SCRIPT, memory=256,
        environment=[{"name": "AWS_ENDPOINT_URL", "value": region.endpoint}],
        mountPoints=[{"sourceVolume": f"v{number}", "containerPath": path, "readOnly": True}
                     for number, path in enumerate(mounts)])
    definition = cluster.define(
        container, fargate=False, taskRoleArn=role, networkMode="host",
        volumes=[{"name": f"v{number}", "host": {"sourcePath": source}}
                 for number, source in enumerate(mounts.values())])
    arn, = cluster.run(definition, fargate=False, cluster="default")
    task = cluster.until(arn, "STOPPED", cluster="default")
    lines = cluster.lines(arn)
    name, task_id = role.rsplit("/", 1)[1], arn.rsplit("/", 1)[1]
    assert lines[0].endswith(f":assumed-role/{name}/{task_id}"), (lines, task)
    assert lines[1:] == ["True", "AccessDenied"], lines
