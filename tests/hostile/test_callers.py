"""Two accounts that try each other, and callers without any: nothing is read, nothing is changed."""

import base64
import collections
import http.client
import json
import socket
import urllib.error
import urllib.request

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from conftest import unique
from tenants import ATTACKER, VICTIM, Victim, call, calls, implemented
from test_accounts import Tenant

CLIENTS = sorted({service for service, _ in implemented()})


@pytest.fixture(scope="module")
def victim(region):
    return Victim(region)


def clients(region, **more):
    settings = {"endpoint_url": region.endpoint, "region_name": "eu-north-1",
                "config": Config(retries={"max_attempts": 0}, inject_host_prefix=False), **more}
    return {name: boto3.client(name, **settings) for name in CLIENTS}


def text(answer, error):
    return json.dumps(answer if error is None else error.get("Error"), default=str)


def test_no_operation_reads_or_changes_what_is_anothers(region, victim):
    attacker = {name: region.client(name, account=ATTACKER) for name in CLIENTS}
    before, seen, mistakes = victim.snapshot(), collections.Counter(), []
    for module, operation, value in calls(region, victim):
        answer, error = call(attacker[module], operation, value)
        said, asked = text(answer, error), json.dumps(value, default=str)
        seen[operation] += 1
        leaked = [word for word in victim.kept() if word in said and word not in asked]
        assert leaked == [], f"{operation} {value}: {said}"
        if error is not None:
            code = error["ResponseMetadata"]["HTTPStatusCode"]
            if error["Error"]["Code"] == "OurMistake":
                mistakes.append((operation, error["Error"]["Message"]))
            assert code < 500, f"{operation} {value}: {said}"
        after = victim.snapshot()
        assert after == before, f"{operation} {value} changed what is another's: {said}"
    assert mistakes == []
    assert set(seen) == {operation for _, operation in implemented()}


def test_the_same_calls_reach_what_is_ones_own(region, victim):
    """Which shows that the inputs above name what they should: their owner is answered with it."""
    owner = {name: region.client(name, account=VICTIM) for name in CLIENTS}
    reads, told = ("Describe", "List", "Get", "Batch", "Filter"), set()
    for module, operation, value in calls(region, victim):
        if operation.startswith(reads) and operation != "BatchDeleteImage":
            answer, error = call(owner[module], operation, value)
            said = text(answer, error)
            if error is None and any(word in said for word in victim.kept() | {victim.digest, victim.name}):
                told.add(operation)
    assert len(told) >= 25, sorted(told)


@pytest.mark.parametrize("kind", ["unsigned", "wrong secret", "unknown key", "forged token"])
def test_callers_without_a_key_are_refused_whatever_they_ask(region, victim, kind):
    keys = {
        "unsigned": {"config": Config(signature_version=UNSIGNED, retries={"max_attempts": 0}, inject_host_prefix=False)},
        "wrong secret": {"aws_access_key_id": VICTIM, "aws_secret_access_key": "guessed"},
        "unknown key": {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "swordfish"},
        "forged token": {"aws_access_key_id": VICTIM, "aws_secret_access_key": "guessed", "aws_session_token": "x" * 40},
    }[kind]
    stranger, before, asked = clients(region, **keys), victim.snapshot(), set()
    for module, operation, value in calls(region, victim):
        if operation in asked:
            continue
        asked.add(operation)
        answer, error = call(stranger[module], operation, value)
        assert error is not None, f"{operation} answered {answer}"
        assert error["ResponseMetadata"]["HTTPStatusCode"] in (400, 401, 403), f"{operation}: {error}"
        assert not any(word in text(answer, error) for word in victim.kept() - {victim.upload}), error
    assert victim.snapshot() == before


def send(region, method, path, token=None, body=None, **headers):
    if token:
        headers["Authorization"] = "Basic " + token
    request = urllib.request.Request(region.endpoint + path, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def registry_calls(victim):
    name, tag, config, layer = victim.repository, "v1", victim.layers[0], victim.layers[-1]
    return [
        ("GET", f"/v2/{name}/tags/list"), ("GET", f"/v2/{name}/manifests/{tag}"), ("HEAD", f"/v2/{name}/manifests/{tag}"),
        ("GET", f"/v2/{name}/manifests/{victim.digest}"), ("GET", f"/v2/{name}/blobs/{layer}"),
        ("HEAD", f"/v2/{name}/blobs/{config}"), ("DELETE", f"/v2/{name}/manifests/{victim.digest}"),
        ("DELETE", f"/v2/{name}/blobs/{layer}"), ("PUT", f"/v2/{name}/manifests/{tag}"), ("POST", f"/v2/{name}/blobs/uploads/"),
        ("PATCH", f"/v2/{name}/blobs/uploads/{victim.upload}"), ("GET", f"/v2/{name}/blobs/uploads/{victim.upload}"),
        ("DELETE", f"/v2/{name}/blobs/uploads/{victim.upload}"), ("PUT", f"/v2/{name}/blobs/uploads/{victim.upload}?digest={layer}"),
        ("GET", f"/v2/{VICTIM}/{name}/manifests/{tag}"), ("GET", f"/v2/../{VICTIM}/{name}/manifests/{tag}"),
        ("GET", "/v2/_catalog"), ("GET", f"/v2/{name}/referrers/{victim.digest}"),
        ("GET", f"/v2/{name}/blobs/../../../../region.sqlite"), ("GET", f"/v2/..%2f..%2f{VICTIM}/manifests/{tag}"),
    ]


@pytest.mark.parametrize("who", ["nobody", "the other", "a forged token"])
def test_the_registry_shows_and_changes_nothing_of_anothers(region, victim, who):
    token = {
        "nobody": None, "a forged token": base64.b64encode(f"AWS:{VICTIM}".encode()).decode(),
        "the other": region.client("ecr", account=ATTACKER).get_authorization_token()["authorizationData"][0]["authorizationToken"],
    }[who]
    before = victim.snapshot()
    for method, path in registry_calls(victim):
        status, body, headers = send(region, method, path, token, b"{}" if method in ("PUT", "PATCH", "POST") else None)
        if who == "the other" and path == "/v2/_catalog":
            assert victim.repository.encode() not in body, body
        else:
            assert status in (400, 401, 403, 404, 405), (method, path, status, body)
        assert victim.mark.encode() not in body and b"SQLite" not in body, (method, path)
    if who == "the other":
        own = unique("own")
        region.client("ecr", account=ATTACKER).create_repository(repositoryName=own)
        for layer in victim.layers:
            for path in [f"/v2/{own}/blobs/uploads/?mount={layer}&from={victim.repository}",
                         f"/v2/{own}/blobs/uploads/?mount={layer}&from={VICTIM}/{victim.repository}"]:
                status, _, _ = send(region, "POST", path, token, b"")
                assert status == 202, "an upload begins, nothing is mounted"
            status, _, _ = send(region, "GET", f"/v2/{own}/blobs/{layer}", token)
            assert status == 404
        manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                               "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": victim.layers[0], "size": 1},
                               "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": victim.layers[1], "size": 1}]})
        status, body, _ = send(region, "PUT", f"/v2/{own}/manifests/stolen", token, manifest.encode(),
                               **{"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
        assert status in (400, 404), "an image of layers that one has not pushed is not taken"
    assert victim.snapshot() == before


def upgrade(region, path, key=None, secret=None):
    """The status of a WebSocket's opening, signed or not."""
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": base64.b64encode(b"0" * 16).decode()}
    if key:
        request = botocore.awsrequest.AWSRequest("GET", region.endpoint + path)
        credentials = botocore.credentials.Credentials(key, secret)
        botocore.auth.SigV4Auth(credentials, "ecs", "eu-north-1").add_auth(request)
        headers.update(dict(request.headers))
    connection = http.client.HTTPConnection("127.0.0.1", region.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_agents_sockets_open_for_their_own_account_alone(region, victim):
    asked = f"clusterArn={victim.cluster}&containerInstanceArn={victim.instance}&agentHash=x&agentVersion=1.80.0&seqNum=1&protocolVersion=2"
    for path in [f"/acs/ws?{asked}", f"/tcs/ws?{asked}"]:
        assert upgrade(region, path) in (400, 401, 403)
        assert upgrade(region, path, VICTIM, "guessed") in (400, 401, 403)
        assert upgrade(region, path, ATTACKER, "swordfish") in (400, 403, 404)


@pytest.mark.parametrize("promise", [32 << 20, 4 << 20])
def test_silent_sockets_of_strangers_hold_up_nobody(region, victim, promise):
    """They promise a body and send none; what others ask for is answered meanwhile."""
    head = (f"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonEC2ContainerServiceV20141113.ListClusters\r\n"
            f"Content-Type: application/x-amz-json-1.1\r\nContent-Length: {promise}\r\n\r\n").encode()
    sockets, ecs = [], clients(region, aws_access_key_id=VICTIM, aws_secret_access_key="swordfish", config=Config(
        retries={"max_attempts": 0}, read_timeout=20))["ecs"]
    try:
        for _ in range(300):
            sock = socket.create_connection(("127.0.0.1", region.port), 5)
            sock.sendall(head + b"{")
            sockets.append(sock)
        for _ in range(30):
            assert ecs.list_clusters()["clusterArns"]
        ecs.register_task_definition(family=unique("big"), containerDefinitions=[
            {"name": "a", "image": "x", "memory": 4, "command": ["x" * 40_000]}])
    finally:
        for sock in sockets:
            sock.close()


def why_not(region, image, *command):
    """Runs `image` as the attacker; how its task ended."""
    tenant = Tenant(region, ATTACKER)
    return tenant.until(tenant.run(image, *command), "STOPPED")


def test_a_cached_image_is_run_by_its_digest_only_where_it_may_be_pulled(region, victim):
    """The victim's image is on the host; neither its digest nor a name that leads to it lets others run it."""
    own = unique("own")
    region.client("ecr", account=ATTACKER).create_repository(repositoryName=own)
    uri = f"127.0.0.1:{region.port}"
    for name in [f"{uri}/{own}@{victim.digest}", f"{uri}/{victim.repository}@{victim.digest}", f"{uri}/{victim.repository}:v1",
                 f"{VICTIM}.dkr.ecr.eu-north-1.amazonaws.com/{victim.repository}@{victim.digest}",
                 f"{ATTACKER}.dkr.ecr.eu-north-1.amazonaws.com/{own}@{victim.digest}", f"{own}@{victim.digest}"]:
        task = why_not(region, name, "true")
        assert task["stopCode"] == "TaskFailedToStart", (name, task)
        assert "CannotPull" in task["containers"][0].get("reason", "") + task["stoppedReason"], (name, task)


def test_anothers_open_uploads_do_not_keep_a_push_out(region, victim):
    own = unique("full")
    ecr = region.client("ecr", account=ATTACKER)
    ecr.create_repository(repositoryName=own)
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    connection, refused = http.client.HTTPConnection("127.0.0.1", region.port, timeout=10), None
    for _ in range(12_000):
        connection.request("POST", f"/v2/{own}/blobs/uploads/", headers={"Authorization": "Basic " + token, "Content-Length": "0"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 202:
            refused = (answer.status, body)
            break
    assert refused and refused[0] == 429, refused
    assert victim.ecr.initiate_layer_upload(repositoryName=victim.repository)["uploadId"]
    token = victim.ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    assert send(region, "POST", f"/v2/{victim.repository}/blobs/uploads/", token, b"")[0] == 202
