"""Secrets that are rotated by tasks and by HTTP hooks, as AWS's functions do it; and services that roll when one is."""

import http.server
import json
import sys
import threading

import boto3
import pytest

from conftest import unique, wait_for
from services import IDLE, refused
from test_task_roles import make_role

ACTIONS = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue",
           "secretsmanager:UpdateSecretVersionStage"]

# What AWS's templates of rotation functions do, with nothing but the database left out.
FUNCTION = """
import json, os
import boto3

def rotate(client, event):
    secret, token, step = event["SecretId"], event["ClientRequestToken"], event["Step"]
    stages = client.describe_secret(SecretId=secret)["VersionIdsToStages"]
    assert "AWSPENDING" in stages[token], stages
    current = lambda: client.get_secret_value(SecretId=secret, VersionStage="AWSCURRENT")
    if step == "createSecret":
        now = current()["SecretString"]
        try:
            client.get_secret_value(SecretId=secret, VersionId=token, VersionStage="AWSPENDING")
        except client.exceptions.ResourceNotFoundException:
            client.put_secret_value(SecretId=secret, ClientRequestToken=token, SecretString=now + "+",
                                    VersionStages=["AWSPENDING"])
    elif step == "testSecret":
        assert client.get_secret_value(SecretId=secret, VersionId=token)["SecretString"].endswith("+")
    elif step == "finishSecret":
        client.update_secret_version_stage(SecretId=secret, VersionStage="AWSCURRENT", MoveToVersionId=token,
                                           RemoveFromVersionId=current()["VersionId"])
"""


def function_task(region, cluster, script):
    """A task definition of Python and boto3 as they are here."""
    mounts = {"/lib": "/usr/lib", "/lib64": "/usr/lib64", "/usr": "/usr"}
    mounts |= {path: path for path in {sys.prefix, sys.base_prefix} - {"/usr"}}
    container = cluster.container(
        f"{sys.prefix}/bin/python", "-c", script, memory=256,
        environment=[{"name": "AWS_ENDPOINT_URL", "value": region.endpoint},
                     {"name": "AWS_DEFAULT_REGION", "value": "eu-north-1"}],
        mountPoints=[{"sourceVolume": f"v{number}", "containerPath": path, "readOnly": True}
                     for number, path in enumerate(mounts)])
    return cluster.define(
        container, fargate=False, taskRoleArn=make_role(region, *ACTIONS), networkMode="host",
        volumes=[{"name": f"v{number}", "host": {"sourcePath": source}}
                 for number, source in enumerate(mounts.values())])


def test_a_task_for_each_step_makes_a_new_version_the_current_one(region, cluster):
    client = region.client("secretsmanager")
    arn = client.create_secret(Name=unique("rotated"), SecretString="one")["ARN"]
    script = FUNCTION + 'rotate(boto3.client("secretsmanager"), json.loads(os.environ["ROTATION_EVENT"]))'
    definition = function_task(region, cluster, script)
    begun = client.rotate_secret(SecretId=arn, RotationLambdaARN=definition,
                                 RotationRules={"ScheduleExpression": "rate(10 days)", "Duration": "2h"})
    refused(client.rotate_secret, "InvalidRequestException", "A previous rotation isn't complete", SecretId=arn)

    def rotated():
        described = client.describe_secret(SecretId=arn)
        return described if "LastRotatedDate" in described else None
    described = wait_for("the rotation", rotated, 90)
    assert client.get_secret_value(SecretId=arn)["SecretString"] == "one+"
    assert described["VersionIdsToStages"][begun["VersionId"]] == ["AWSCURRENT"]
    assert client.get_secret_value(SecretId=arn, VersionStage="AWSPREVIOUS")["SecretString"] == "one"
    assert described["RotationEnabled"] and described["RotationLambdaARN"] == definition
    assert described["RotationRules"] == {"ScheduleExpression": "rate(10 days)", "Duration": "2h",
                                          "AutomaticallyAfterDays": 10}
    left = described["NextRotationDate"] - described["LastRotatedDate"]
    assert 9 <= left.total_seconds() / 86_400 <= 10.1 and described["NextRotationDate"].hour % 24 == 2 % 24, described

    steps = cluster.ecs.list_tasks(cluster="default", startedBy="secretsmanager-rotation", desiredStatus="STOPPED")
    steps = cluster.ecs.describe_tasks(cluster="default", tasks=steps["taskArns"])["tasks"]
    steps = [step for step in steps if step["taskDefinitionArn"] == definition]
    assert len(steps) == 4
    assert "one" not in str([step["overrides"] for step in steps])

    client.cancel_rotate_secret(SecretId=arn)
    described = client.describe_secret(SecretId=arn)
    assert not described["RotationEnabled"] and "NextRotationDate" not in described
    refused(client.rotate_secret, "InvalidParameterException", "no Lambda functions", SecretId=arn,
            RotationLambdaARN="arn:aws:lambda:eu-north-1:000000000000:function:rotate")


@pytest.fixture
def hook():
    """An HTTP server that does what `serve.answer` says; the events it was sent."""
    events, state = [], {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            events.append((event, dict(self.headers)))
            try:
                state["do"](event)
                self.send_response(204)
            except Exception as error:
                state["error"] = error
                self.send_response(500)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, events, state
    server.shutdown()


def test_a_hook_is_asked_where_the_operator_allows_it(start_region, hook):
    port, events, state = hook
    region = start_region("--allow-rotation-hook", f"127.0.0.1:{port}", name="hooked")
    client = region.client("secretsmanager")
    arn = client.create_secret(Name="hooked", SecretString="one")["ARN"]
    refused(client.rotate_secret, "InvalidParameterException", "--allow-hook 127.0.0.1:1", SecretId=arn,
            RotationLambdaARN="http://127.0.0.1:1/")
    scope = {"boto3": boto3}
    exec(FUNCTION, scope)
    state["do"] = lambda event: scope["rotate"](region.client("secretsmanager"), event)
    begun = client.rotate_secret(SecretId=arn, RotationLambdaARN=f"http://127.0.0.1:{port}/db?x=1")
    wait_for("the rotation", lambda: "LastRotatedDate" in client.describe_secret(SecretId=arn))
    assert client.get_secret_value(SecretId=arn)["SecretString"] == "one+", state
    assert [event["Step"] for event, _ in events] == ["createSecret", "setSecret", "testSecret", "finishSecret"]
    assert {event["ClientRequestToken"] for event, _ in events} == {begun["VersionId"]}
    assert all("Authorization" not in headers and "one" not in str(event) for event, headers in events)

    # One that fails is asked again by whoever calls RotateSecret, and in a minute.
    def broken(event):
        raise ValueError("no database")
    state["do"] = broken
    pending = client.rotate_secret(SecretId=arn)["VersionId"]
    wait_for("its failure", lambda: "rotation failed" in region.tail())
    assert client.describe_secret(SecretId=arn)["VersionIdsToStages"][pending] == ["AWSPENDING"]
    state["do"] = lambda event: scope["rotate"](region.client("secretsmanager"), event)
    refused(client.rotate_secret, "InvalidRequestException", "will be reattempted", SecretId=arn)
    wait_for("the rotation", lambda: client.get_secret_value(SecretId=arn)["SecretString"] == "one++")
    region.down()


@pytest.mark.parametrize("kind", ["secret", "parameter"])
def test_a_service_that_asks_for_it_is_rolled_to_the_new_value(region, services, kind):
    secrets, parameters = region.client("secretsmanager"), region.client("ssm")
    name = unique("word")
    if kind == "secret":
        source = secrets.create_secret(Name=name, SecretString="old")["ARN"]
        change = lambda: secrets.put_secret_value(SecretId=source, SecretString="new")
    else:
        source = name
        parameters.put_parameter(Name=name, Value="old", Type="SecureString")
        change = lambda: parameters.put_parameter(Name=name, Value="new", Overwrite=True)
    role = make_role(region, "ecr:*", "logs:*", "secretsmanager:GetSecretValue", "ssm:GetParameters")
    container = services.container("sh", "-c", f"echo $WORD; {IDLE}", stopTimeout=2,
                                   secrets=[{"name": "WORD", "valueFrom": source}])
    definition = services.define(container, executionRoleArn=role)
    service = services.create(definition, tags=[{"key": "longshore.roll-on-new-secret", "value": "true"}])
    other = services.create(definition)

    def saying(service, word):
        tasks = services.ecs.list_tasks(cluster=services.name, serviceName=service)["taskArns"]
        return len(tasks) == 1 and services.lines(tasks[0]) == [word]

    def steady(service):
        return len(services.service(service)["deployments"]) == 1 and services.service(service)["runningCount"] == 1
    for each in [service, other]:
        wait_for("a task with the value of before", lambda: steady(each) and saying(each, "old"), 60)
    change()
    wait_for("a task with the new value", lambda: steady(service) and saying(service, "new"), 90)
    assert saying(other, "old"), "only who asks for it is rolled"
    records = services.ecs.list_service_deployments(cluster=services.name, service=service)["serviceDeployments"]
    assert len(records) == 2, "once for one value"
