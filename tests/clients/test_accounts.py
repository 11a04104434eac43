"""Accounts share a host and nothing else: each has its own images and its own logs."""

import json
import os
import signal
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

import images
from conftest import unique, wait_for

ACCOUNT, OTHER = "111122223333", "444455556666"


def send(region, token, method, path, data, kind="application/octet-stream"):
    request = urllib.request.Request(region.endpoint + path, data=data, method=method,
                                     headers={"Authorization": "Basic " + token, "Content-Type": kind})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201, answer.status


def push(region, account, repository):
    """Pushes a busybox image as `docker push` does; answers its reference."""
    ecr = region.client("ecr", account=account)
    uri = ecr.create_repository(repositoryName=repository)["repository"]["repositoryUri"]
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    layer = images.busybox_layer()
    config = images.image_config([layer])
    for blob in [layer, config]:
        send(region, token, "POST", f"/v2/{repository}/blobs/uploads/?digest={images.digest(blob)}", blob)
    kind = "application/vnd.oci.image.manifest.v1+json"
    described = [{"mediaType": f"application/vnd.oci.image.{what}", "digest": images.digest(blob), "size": len(blob)}
                 for what, blob in [("config.v1+json", config), ("layer.v1.tar", layer)]]
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": described[0], "layers": described[1:]}
    send(region, token, "PUT", f"/v2/{repository}/manifests/v1", json.dumps(manifest).encode(), kind)
    return f"{uri}:v1"


class Tenant:
    """One account that runs Fargate tasks with logs of its own."""

    def __init__(self, region, account):
        self.ecs, self.logs = region.client("ecs", account=account), region.client("logs", account=account)
        self.cluster, self.group = unique("c"), "/accounts/" + unique("g")
        self.ecs.create_cluster(clusterName=self.cluster)
        subnets = region.client("ec2", account=account).describe_subnets()["Subnets"]
        self.subnet = subnets[0]["SubnetId"]

    def run(self, image, *command):
        options = {"awslogs-group": self.group, "awslogs-region": "eu-north-1",
                   "awslogs-stream-prefix": "t", "awslogs-create-group": "true"}
        family = unique("f")
        self.ecs.register_task_definition(
            family=family, requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256", memory="512",
            executionRoleArn="ecsTaskExecutionRole",
            containerDefinitions=[{"name": "main", "image": image, "essential": True, "command": list(command),
                                   "logConfiguration": {"logDriver": "awslogs", "options": options}}])
        answer = self.ecs.run_task(
            cluster=self.cluster, taskDefinition=family, launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": [self.subnet], "assignPublicIp": "ENABLED"}})
        assert not answer["failures"], answer["failures"]
        return answer["tasks"][0]["taskArn"]

    def until(self, arn, status):
        def there():
            task, = self.ecs.describe_tasks(cluster=self.cluster, tasks=[arn])["tasks"]
            if task["lastStatus"] == "STOPPED" and status != "STOPPED":
                pytest.fail(f"stopped: {task.get('stoppedReason')} {task['containers']}")
            return task if task["lastStatus"] == status else None
        return wait_for(f"{arn} {status}", there, 60)

    def lines(self, arn):
        stream = f"t/main/{arn.rsplit('/', 1)[1]}"
        events = self.logs.get_log_events(logGroupName=self.group, logStreamName=stream, startFromHead=True)
        return [event["message"] for event in events["events"]]


def groups(region, account, prefix):
    found = region.client("logs", account=account).describe_log_groups(logGroupNamePrefix=prefix)
    return [group["logGroupName"] for group in found["logGroups"]]


def test_a_tasks_image_and_lines_are_its_own_accounts(region):
    tenant = Tenant(region, ACCOUNT)
    arn = tenant.run(push(region, ACCOUNT, unique("app")), "echo", "from an account")
    task = tenant.until(arn, "STOPPED")
    assert task["containers"][0].get("exitCode") == 0, task
    assert tenant.lines(arn) == ["from an account"]
    assert groups(region, ACCOUNT, tenant.group) == [tenant.group]
    for stranger in [None, OTHER]:
        assert groups(region, stranger, tenant.group) == []


def test_another_accounts_image_is_not_there(region):
    image = push(region, OTHER, unique("theirs"))
    tenant = Tenant(region, ACCOUNT)
    task = tenant.until(tenant.run(image, "true"), "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart", task
    assert "CannotPullContainerError" in task["containers"][0].get("reason", "") + task["stoppedReason"], task
    # A password for another's registry is no more than a name: what is in there says who may have it.
    entered = region.client("ecr", account=ACCOUNT).get_authorization_token(registryIds=[OTHER])
    token = entered["authorizationData"][0]["authorizationToken"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        send(region, token, "GET", f"/v2/{image.split('/')[1].split(':')[0]}/manifests/v1", None)
    assert refused.value.code == 403
    assert "no resource-based policy allows the ecr:BatchGetImage action" in refused.value.read().decode()


def why_not(task):
    assert task["stopCode"] == "TaskFailedToStart", task
    return task["containers"][0].get("reason", "") + " | " + task["stoppedReason"]


def test_a_cloud_name_of_another_accounts_image_is_denied(region):
    repository = unique("theirs")
    push(region, OTHER, repository)
    tenant = Tenant(region, ACCOUNT)
    image = f"{OTHER}.dkr.ecr.eu-north-1.amazonaws.com/{repository}:v1"
    reason = why_not(tenant.until(tenant.run(image, "true"), "STOPPED"))
    assert reason.startswith("CannotPullContainerError: ") and "is not authorized to perform: ecr:" in reason, reason
    assert "because no resource-based policy allows the ecr:BatchGetImage action" in reason, reason


def test_a_cloud_name_of_ones_own_or_of_nobody_here_means_ones_own_image(region):
    repository = unique("mine")
    push(region, ACCOUNT, repository)
    tenant = Tenant(region, ACCOUNT)
    for number in [ACCOUNT, "999988887777"]:
        image = f"{number}.dkr.ecr.eu-north-1.amazonaws.com/{repository}:v1"
        task = tenant.until(tenant.run(image, "echo", number), "STOPPED")
        assert task["containers"][0].get("exitCode") == 0, task
        assert tenant.lines(task["taskArn"]) == [number]


def test_an_image_that_another_account_has_run_here_is_still_not_ones_own(region):
    repository = unique("secret")
    theirs = Tenant(region, OTHER)
    image = push(region, OTHER, repository)
    task = theirs.until(theirs.run(image, "true"), "STOPPED")
    assert task["containers"][0].get("exitCode") == 0, task
    tenant = Tenant(region, ACCOUNT)
    # The first two names led to it before; the last is of the account that the region itself belongs to.
    names = [image, f"{OTHER}.dkr.ecr.eu-north-1.amazonaws.com/{repository}:v1"]
    own = unique("root")
    push(region, None, own)
    names.append(f"{own}:v1")
    for name in names:
        assert "CannotPull" in why_not(tenant.until(tenant.run(name, "true"), "STOPPED")), name


def test_a_cached_image_runs_by_its_digest_only_where_its_account_has_it_now(region):
    repository = unique("secret")
    theirs, tenant = Tenant(region, OTHER), Tenant(region, ACCOUNT)
    image = push(region, OTHER, repository)
    task = theirs.until(theirs.run(image, "true"), "STOPPED")
    digest = task["containers"][0]["imageDigest"]
    host = image.split("/")[0]
    own = unique("own")
    for name in [own, repository]:
        region.client("ecr", account=ACCOUNT).create_repository(repositoryName=name)
    names = [f"{host}/{repository}@{digest}", f"{host}/{own}@{digest}", f"{host}/{unique('none')}@{digest}",
             f"{host}/{own}:v1@{digest}", f"{repository}@{digest}",
             *(f"{number}.dkr.ecr.eu-north-1.amazonaws.com/{repository}@{digest}" for number in [ACCOUNT, OTHER])]
    for name in names:
        assert "CannotPull" in why_not(tenant.until(tenant.run(name, "true"), "STOPPED")), name
    pinned = f"{host}/{repository}@{digest}"
    task = theirs.until(theirs.run(pinned, "true"), "STOPPED")
    assert task["containers"][0].get("exitCode") == 0, task
    region.client("ecr", account=OTHER).delete_repository(repositoryName=repository, force=True)
    for name in [pinned, image]:
        assert "CannotPull" in why_not(theirs.until(theirs.run(name, "true"), "STOPPED")), name


def test_lines_go_on_in_their_account_after_the_agent_came_back(region):
    tenant = Tenant(region, ACCOUNT)
    image = push(region, ACCOUNT, unique("app"))
    arn = tenant.run(image, "sh", "-c", "trap 'exit 0' TERM; i=0; while true; do echo $i; i=$((i+1)); sleep 0.2; done")
    tenant.until(arn, "RUNNING")
    wait_for("a line", lambda: tenant.lines(arn), 20)
    os.kill(region.children()["agent"], signal.SIGKILL)
    seen = len(tenant.lines(arn))
    wait_for("more lines", lambda: len(tenant.lines(arn)) > seen + 10, 60)
    lines = tenant.lines(arn)
    assert lines == [str(number) for number in range(len(lines))]
    assert groups(region, None, tenant.group) == []
    tenant.ecs.stop_task(cluster=tenant.cluster, task=arn)
    tenant.until(arn, "STOPPED")
