"""What a log driver and a private registry are told is kept in secrets: `secretOptions` and `repositoryCredentials`."""

import json

from conftest import Cluster, unique
from test_execution_roles import LEAD, LOG, PULL, failed
from test_other_registry import registry
from test_task_roles import make_role

READ = ["secretsmanager:GetSecretValue", "ssm:GetParameters"]


def test_a_log_driver_has_options_from_secrets_and_parameters(region, cluster):
    parameters, secrets = region.client("ssm"), region.client("secretsmanager")
    group, prefix = unique("/tests/group"), unique("kept")
    region.client("logs").create_log_group(logGroupName=group)
    parameters.put_parameter(Name=prefix, Value=group, Type="SecureString")
    arn = secrets.create_secret(Name=unique("s"), SecretString=json.dumps({"prefix": prefix}))["ARN"]
    log = {"logDriver": "awslogs", "options": {"awslogs-region": "eu-north-1"}, "secretOptions": [
        {"name": "awslogs-group", "valueFrom": prefix},
        {"name": "awslogs-stream-prefix", "valueFrom": f"{arn}:prefix::"}]}
    container = cluster.container("echo", "to the group of the parameter", logConfiguration=log)
    definition = cluster.define(container, executionRoleArn=make_role(region, *PULL, *LOG, *READ))
    task, = cluster.run(definition)
    stopped = cluster.until(task, "STOPPED")
    assert stopped["stopCode"] == "EssentialContainerExited", stopped
    stream = f"{prefix}/main/{task.rsplit('/', 1)[1]}"
    found = cluster.logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
    assert [event["message"] for event in found] == ["to the group of the parameter"]
    described = cluster.ecs.describe_task_definition(taskDefinition=definition)
    assert group not in str(described)

    gone = {**log, "secretOptions": [{"name": "awslogs-group", "valueFrom": "/no/such"}]}
    reason, _ = failed(cluster, make_role(region, *PULL, *LOG, *READ), cluster.container("true", logConfiguration=gone))
    assert reason == LEAD + ("secrets from ssm: service call has been retried 1 time(s): invalid ssm parameters: "
                             "/no/such"), reason


def test_a_private_registrys_login_is_read_from_its_secret(registry, start_region, monkeypatch):
    host, authority, asked = registry
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    region = start_region("--allow-registry", host, name="private")
    cluster = Cluster(region, f"{host}/team/box:1")
    secrets = region.client("secretsmanager")
    arn = secrets.create_secret(Name="login", SecretString='{"username": "me", "password": "wrong"}')["ARN"]
    role = make_role(region, *LOG, *READ)
    define = lambda role: cluster.define(
        cluster.container("echo", "from a private registry", repositoryCredentials={"credentialsParameter": arn}),
        executionRoleArn=role)
    task, = cluster.run(define(role))
    stopped = cluster.until(task, "STOPPED")
    assert stopped["stopCode"] == "TaskFailedToStart", stopped
    assert stopped["containers"][0]["reason"].startswith("CannotPullContainerError"), stopped

    secrets.put_secret_value(SecretId=arn, SecretString='{"username": "me", "password": "secret"}')
    task, = cluster.run(define(role))
    stopped = cluster.until(task, "STOPPED")
    assert cluster.lines(task) == ["from a private registry"], (stopped, asked)

    # Who may not read the login does not pull, although the image is here by now.
    task, = cluster.run(define(make_role(region, *LOG)))
    stopped = cluster.until(task, "STOPPED")
    assert stopped["stopCode"] == "TaskFailedToStart", stopped
    assert "secretsmanager:GetSecretValue" in str(stopped), stopped

    # What is no login says so.
    secrets.put_secret_value(SecretId=arn, SecretString="me:secret")
    task, = cluster.run(define(role))
    stopped = cluster.until(task, "STOPPED")
    assert "unable to unmarshal secret value, invalid schema" in str(stopped), stopped
    assert "me:secret" not in str(stopped)
    region.down()
