"""The audit log: who asked for what, and which statement decided."""

import json
import subprocess
import urllib.error

import pytest

from conftest import binary, unique, wait_for
from test_iam import Home, policy
from test_registry_rights import Registry


@pytest.fixture(scope="module")
def home(start_region):
    return Home(start_region(name="audit"))


def lines(home, *words):
    done = home.region.run("audit", "--json", *words)
    return [json.loads(line) for line in done.stdout.splitlines()]


def line_of(home, request_id):
    return wait_for("the line", lambda: [line for line in lines(home) if line.get("requestId") == request_id])[0]


def test_each_request_leaves_a_line_that_says_what_decided(home):
    name, key = home.user(policy({"Sid": "Clusters", "Action": "ecs:*Clusters"}))
    ecs = home.client("ecs", key)
    cluster = unique("c")
    allowed = line_of(home, ecs.describe_clusters(clusters=[cluster])["ResponseMetadata"]["RequestId"])
    arn = f"arn:aws:iam::000000000000:user/{name}"
    assert (allowed["principal"], allowed["accessKeyId"]) == (arn, key["AccessKeyId"])
    assert (allowed["action"], allowed["decision"], allowed["status"]) == ("ecs:DescribeClusters", "allowed", 200)
    assert allowed["resources"] == [f"arn:aws:ecs:eu-north-1:000000000000:cluster/{cluster}"]
    assert allowed["decidedBy"] == f"statement 1 (Clusters) of p0 of {arn}"
    assert allowed["sourceIp"] == "127.0.0.1" and "Boto3" in allowed["userAgent"]
    with pytest.raises(ecs.exceptions.ClientError) as error:
        ecs.create_cluster(clusterName=cluster)
    request_id = error.value.response["ResponseMetadata"]["RequestId"]
    denied = line_of(home, request_id)
    assert (denied["decision"], denied["errorCode"]) == ("denied", "AccessDeniedException")
    assert denied["decidedBy"] == "no identity-based policy allows it"
    why = home.region.run("why-denied", request_id).stdout
    assert f"{arn} was denied ecs:CreateCluster on arn:aws:ecs:" in why and "no identity-based policy" in why
    assert lines(home, "--denied", "--principal", name) == [denied]
    assert lines(home, "--action", "ecs:CreateCluster", "--principal", name) == [denied]
    assert home.region.run("why-denied", "none", check=False).returncode != 0


def test_the_root_user_and_the_registry_are_in_it_and_secrets_are_not(home):
    ecr, iam = home.region.client("ecr"), home.iam
    name = unique("web")
    made = line_of(home, ecr.create_repository(repositoryName=name)["ResponseMetadata"]["RequestId"])
    assert made["decidedBy"] == "the account's root user"
    assert made["resources"] == [f"arn:aws:ecr:eu-north-1:000000000000:repository/{name}"]
    Registry(home.region, ecr).push(name, "1")
    wait_for("the push", lambda: lines(home, "--action", "ecr:PutImage"))
    user, key = home.user()
    line_of(home, iam.list_access_keys(UserName=user)["ResponseMetadata"]["RequestId"])
    files = list((home.region.data_dir / "audit").iterdir())
    assert files and all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    text = "".join(file.read_text() for file in files)
    assert key["SecretAccessKey"] not in text and key["AccessKeyId"] not in text


def test_who_follows_it_sees_what_is_asked_meanwhile(home):
    name, key = home.user(policy({"Action": "ecs:ListClusters"}))
    following = subprocess.Popen([binary(), "audit", "--follow", "--principal", name, "--data-dir",
                                  str(home.region.data_dir)], stdout=subprocess.PIPE, text=True)
    try:
        home.client("ecs", key).list_clusters()
        assert f"{name} was allowed ecs:ListClusters" in following.stdout.readline()
    finally:
        following.terminate()
        following.wait(30)
