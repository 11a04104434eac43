"""Images that a region fetches from another registry, a second region's: docker, tasks, roles, and bad days."""

import base64
import json
import shutil

import pytest

import images
from conftest import Cluster, free_port, unique
from services import refused
from test_registry_rights import docker  # noqa: F401
from test_task_roles import make_role, why

PULL = ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "logs:*"]
FETCH = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"]


@pytest.fixture(scope="module")
def there(start_region):
    """The registry that images come from, with one of them."""
    return start_region(name="upstream", image="team/box:1")


@pytest.fixture(scope="module")
def here(start_region, there):
    region = start_region("--allow-registry", f"127.0.0.1:{there.port}", name="cache")
    token = there.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, password = base64.b64decode(token).decode().split(":", 1)
    secret = region.client("secretsmanager").create_secret(
        Name="ecr-pullthroughcache/there", SecretString=json.dumps({"username": user, "accessToken": password}))
    region.client("ecr").create_pull_through_cache_rule(
        ecrRepositoryPrefix="there", upstreamRegistryUrl=f"127.0.0.1:{there.port}", credentialArn=secret["ARN"])
    return region


def test_a_rule_says_whether_its_upstream_takes_its_credentials(here, there):
    ecr, secrets = here.client("ecr"), here.client("secretsmanager")
    rule, = ecr.describe_pull_through_cache_rules(ecrRepositoryPrefixes=["there"])["pullThroughCacheRules"]
    assert rule["upstreamRegistryUrl"] == f"127.0.0.1:{there.port}" and "upstreamRepositoryPrefix" not in rule
    assert ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix="there")["isValid"] is True
    wrong = secrets.create_secret(Name="ecr-pullthroughcache/wrong",
                                  SecretString='{"username":"AWS","accessToken":"no"}')["ARN"]
    ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="wrong", upstreamRegistryUrl=f"127.0.0.1:{there.port}",
                                       credentialArn=wrong)
    answer = ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix="wrong")
    assert answer["isValid"] is False and "denied access" in answer["failure"], answer
    role = here.client("iam").get_role(RoleName="AWSServiceRoleForECRPullThroughCache")["Role"]
    assert role["Path"] == "/aws-service-role/pullthroughcache.ecr.amazonaws.com/"
    other = secrets.create_secret(Name="other", SecretString="{}")["ARN"]
    for arn, code in [(other, "InvalidParameterException"), (wrong[:-6] + "xxxxxx", "SecretNotFoundException")]:
        refused(ecr.update_pull_through_cache_rule, code, ecrRepositoryPrefix="wrong", credentialArn=arn)
    ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix="wrong")
    refused(ecr.describe_pull_through_cache_rules, "PullThroughCacheRuleNotFoundException",
            ecrRepositoryPrefixes=["wrong"])


def test_a_task_runs_an_image_that_its_execution_role_may_import(here):
    image = f"127.0.0.1:{here.port}/there/team/box:1"
    cluster = Cluster(here, image)
    denied = cluster.define(cluster.container("true"), executionRoleArn=make_role(here, *PULL))
    task = cluster.until(cluster.run(denied)[0], "STOPPED")
    assert "is not authorized to perform: ecr:BatchImportUpstreamImage" in why(task), why(task)
    definition = cluster.define(cluster.container("echo", "fetched"), executionRoleArn=make_role(here, *PULL, *FETCH))
    arn, = cluster.run(definition)
    task = cluster.until(arn, "STOPPED")
    assert cluster.lines(arn) == ["fetched"], why(task)
    ecr = here.client("ecr")
    assert ecr.list_images(repositoryName="there/team/box")["imageIds"][0]["imageTag"] == "1"
    # From then on it is an image like any other.
    arn, = cluster.run(denied)
    assert cluster.until(arn, "STOPPED")["stopCode"] == "EssentialContainerExited"


def test_what_upstream_does_not_have_fails_the_task_and_says_so(here):
    cluster = Cluster(here, f"127.0.0.1:{here.port}/there/none:1")
    task = cluster.until(cluster.run(cluster.define(cluster.container("true")))[0], "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart" and "CannotPullContainerError" in why(task), why(task)
    refused(here.client("ecr").list_images, "RepositoryNotFoundException", repositoryName="there/none")


@pytest.mark.skipif(not shutil.which("dockerd"), reason="dockerd is not installed")
def test_docker_pulls_through_and_still_does_when_upstream_is_gone(here, docker, start_region, tmp_path):  # noqa: F811
    gone = start_region(name="gone", port=free_port())
    gone.run("image", "load", str(images.docker_save(tmp_path / "box.tar", "deep/x:1")))
    token = gone.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, password = base64.b64decode(token).decode().split(":", 1)
    region = start_region("--allow-registry", f"127.0.0.1:{gone.port}", name="cache-docker")
    secret = region.client("secretsmanager").create_secret(
        Name="ecr-pullthroughcache/gone", SecretString=json.dumps({"username": user, "accessToken": password}))["ARN"]
    ecr = region.client("ecr")
    ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="hub", upstreamRegistryUrl=f"127.0.0.1:{gone.port}",
                                       credentialArn=secret)
    ecr.create_repository_creation_template(prefix="hub", appliedFor=["PULL_THROUGH_CACHE"],
                                            resourceTags=[{"Key": "from", "Value": "hub"}])
    host = f"127.0.0.1:{region.port}"
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    docker("login", "-u", "AWS", "--password-stdin", host, input=base64.b64decode(token).decode().removeprefix("AWS:"))
    docker("pull", f"{host}/hub/deep/x:1")
    made, = ecr.describe_repositories(repositoryNames=["hub/deep/x"])["repositories"]
    assert ecr.list_tags_for_resource(resourceArn=made["repositoryArn"])["tags"] == [{"Key": "from", "Value": "hub"}]
    docker("rmi", f"{host}/hub/deep/x:1")
    gone.down()
    docker("pull", f"{host}/hub/deep/x:1")
    done = docker("pull", f"{host}/hub/deep/y:1", check=False)
    assert done.returncode != 0
    assert "from upstream" in done.stderr, done.stderr


def test_nobody_leads_the_region_to_its_own_host_unless_its_owner_says_so(region, there):
    ecr = region.client("ecr")
    prefix = unique("in")
    for number, url in enumerate([f"127.0.0.1:{there.port}", f"localhost:{there.port}", "169.254.169.254:80"]):
        rule = f"{prefix}{number}"
        ecr.create_pull_through_cache_rule(ecrRepositoryPrefix=rule, upstreamRegistryUrl=url)
        answer = ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix=rule)
        assert answer["isValid"] is False and "--allow-registry" in answer["failure"], answer
        got, = ecr.batch_get_image(repositoryName=f"{rule}/team/box", imageIds=[{"imageTag": "1"}])["failures"]
        assert got["failureCode"] == "UpstreamAccessDenied" and "is not asked" in got["failureReason"], got
        ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=rule)


@pytest.mark.skipif(not shutil.which("dockerd"), reason="dockerd is not installed")
def test_docker_pushes_to_a_repository_that_a_template_makes(here, docker, tmp_path):  # noqa: F811
    ecr, host = here.client("ecr"), f"127.0.0.1:{here.port}"
    name = unique("made")
    ecr.create_repository_creation_template(prefix=name, appliedFor=["CREATE_ON_PUSH"], imageTagMutability="IMMUTABLE")
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    docker("login", "-u", "AWS", "--password-stdin", host, input=base64.b64decode(token).decode().removeprefix("AWS:"))
    docker("load", "-i", str(images.docker_save(tmp_path / "hello.tar", "hello:1")))
    docker("tag", "hello:1", f"{host}/{name}/web:1")
    docker("push", f"{host}/{name}/web:1")
    made, = ecr.describe_repositories(repositoryNames=[f"{name}/web"])["repositories"]
    assert made["imageTagMutability"] == "IMMUTABLE"
    docker("tag", "hello:1", f"{host}/none/web:1")
    assert docker("push", f"{host}/none/web:1", check=False).returncode != 0
    refused(ecr.create_repository_creation_template, "InvalidParameterException", "REPLICATION", prefix="x1",
            appliedFor=["REPLICATION"])
