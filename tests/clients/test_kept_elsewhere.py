"""What a log driver and a private registry are told is kept in secrets: `secretOptions` and `repositoryCredentials`."""

from conftest import Cluster, unique
from test_execution_roles import LEAD, LOG, PULL, failed
from test_other_registry import registry
from test_task_roles import make_role

READ = ["secretsmanager:GetSecretValue", "ssm:GetParameters"]


def test_a_log_driver_has_options_that_are_kept_elsewhere(region, cluster):
    parameters, name = region.client("ssm"), unique("kept")
    parameters.put_parameter(Name=name, Value="^BEGIN", Type="SecureString")
    log = {"logDriver": "awslogs", "options": {
        "awslogs-group": cluster.group, "awslogs-region": "eu-north-1", "awslogs-stream-prefix": "t"},
        "secretOptions": [{"name": "awslogs-multiline-pattern", "valueFrom": name}]}
    script = "echo BEGIN one; echo more; echo BEGIN two"
    container = cluster.container("sh", "-c", script, logConfiguration=log)
    definition = cluster.define(container, executionRoleArn=make_role(region, *PULL, *LOG, *READ))
    task, = cluster.run(definition)
    stopped = cluster.until(task, "STOPPED")
    assert stopped["stopCode"] == "EssentialContainerExited", stopped
    assert [line.split() for line in cluster.lines(task)] == [["BEGIN", "one", "more"], ["BEGIN", "two"]]
    assert "^BEGIN" not in str(cluster.ecs.describe_task_definition(taskDefinition=definition))

    gone = {**log, "secretOptions": [{"name": "awslogs-multiline-pattern", "valueFrom": "/no/such"}]}
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
