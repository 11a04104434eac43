"""Bad input gets AWS's error code and a sentence; nothing gets a 5xx."""

import datetime
import hashlib
import json
import random
import urllib.error
import urllib.request

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from botocore.exceptions import ClientError

from conftest import unique

TARGET = "AmazonEC2ContainerServiceV20141113."


def post(region, body, operation="ListClusters", headers=None, sign=True, secret=None, key=None, service="ecs", alter=None):
    """One signed request made by hand; its status and decoded body."""
    request = botocore.awsrequest.AWSRequest("POST", region.endpoint + "/", data=body, headers={
        "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": TARGET + operation, **(headers or {})})
    if sign:
        credentials = botocore.credentials.Credentials(
            key or region.variables["AWS_ACCESS_KEY_ID"], secret or region.variables["AWS_SECRET_ACCESS_KEY"])
        botocore.auth.SigV4Auth(credentials, service, "eu-north-1").add_auth(request)
    if alter:
        alter(request)
    prepared = request.prepare()
    wire = urllib.request.Request(prepared.url, data=prepared.body, method="POST", headers=dict(prepared.headers))
    try:
        with urllib.request.urlopen(wire, timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        text = error.read()
        try:
            return error.code, json.loads(text)
        except ValueError:
            return error.code, {"__type": text.decode(errors="replace")}


def code(answer):
    return answer.get("__type", "").rsplit("#")[-1]


def test_signatures_are_verified(region):
    assert post(region, b"{}")[0] == 200
    status, answer = post(region, b"{}", sign=False)
    assert (status, code(answer)) == (400, "MissingAuthenticationTokenException") or status == 403, answer
    status, answer = post(region, b"{}", secret="wrong")
    assert (status, code(answer)) in [(400, "InvalidSignatureException"), (403, "InvalidSignatureException")], answer
    status, answer = post(region, b"{}", key="AKIDUNKNOWN")
    assert code(answer) == "UnrecognizedClientException", answer

    def replace_body(request):
        request.data = b'{"maxResults":1}'
    status, answer = post(region, b"{}", alter=replace_body)
    assert code(answer) == "InvalidSignatureException", answer

    def retarget(request):
        request.headers.replace_header("X-Amz-Target", TARGET + "DeleteCluster")
    status, answer = post(region, b"{}", alter=retarget)
    assert code(answer) == "InvalidSignatureException", answer


def test_an_old_signature_is_refused(region, monkeypatch):
    import botocore.compat
    old = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=16)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: old.replace(tzinfo=None), raising=False)
    status, answer = post(region, b"{}")
    assert code(answer) in ("InvalidSignatureException", "RequestExpired"), answer
    assert "expired" in json.dumps(answer).lower() or "now earlier" in json.dumps(answer)


@pytest.mark.parametrize("body", [
    b"{", b"[]", b"null", b"nul", b"{}x", b'{"maxResults":"ten"}', b'{"maxResults":1e999}', b'{"maxResults":99999999999}',
    b'{"nextToken":7}', b'{"nextToken":"\xff\xfe"}', b"\xff", b'{"nextToken":' + b"[" * 5000, b'"x"', b"7", b'{"a":1,"a":2',
])
def test_malformed_json_is_the_callers_fault(region, body):
    status, answer = post(region, body)
    assert 400 <= status < 500, (status, answer)
    assert code(answer), answer


def test_unknown_members_are_ignored_and_unknown_operations_named(region):
    assert post(region, b'{"noSuchMember":{"a":[1]}}')[0] == 200
    status, answer = post(region, b"{}", operation="FlyToTheMoon")
    assert status == 400 and code(answer) == "UnknownOperationException", answer
    status, answer = post(region, b"{}", operation="CreateExpressGatewayService")
    assert 400 <= status < 502 and code(answer), answer
    assert "CreateExpressGatewayService" in json.dumps(answer)


def test_over_long_fields_and_absurd_numbers(ecs):
    with pytest.raises(ClientError) as error:
        ecs.create_cluster(clusterName="x" * 256)
    assert error.value.response["Error"]["Code"] == "InvalidParameterException"
    with pytest.raises(ClientError) as error:
        ecs.create_cluster(clusterName="naïve")
    assert error.value.response["Error"]["Code"] == "InvalidParameterException"
    for count in (0, -1, 11, 2**31 - 1):
        with pytest.raises(ClientError) as error:
            ecs.run_task(taskDefinition="x", count=count, cluster="default")
        assert error.value.response["Error"]["Code"] in ("InvalidParameterException", "ClientException")
    with pytest.raises(ClientError) as error:
        ecs.register_task_definition(family="f", containerDefinitions=[
            {"name": "a", "image": "b", "memory": 4, "environment": [{"name": "X", "value": "y" * 70_000}]}])
    assert error.value.response["Error"]["Code"] == "ClientException"


def test_mutated_requests_never_crash_the_region(region):
    """Bounded fuzzing over the wire: flips, cuts and doubled parts of a valid request."""
    seed = json.dumps({"family": "fuzz", "containerDefinitions": [
        {"name": "a", "image": "b", "memory": 4, "portMappings": [{"containerPort": 80}],
         "healthCheck": {"command": ["CMD", "x"]}, "dependsOn": [{"containerName": "b", "condition": "START"}]}]}).encode()
    draw = random.Random(7)
    for _ in range(400):
        body = bytearray(seed)
        for _ in range(draw.randint(1, 6)):
            at = draw.randrange(len(body))
            kind = draw.random()
            if kind < 0.4:
                body[at] = draw.randrange(256)
            elif kind < 0.7:
                del body[at:at + draw.randint(1, 10)]
            else:
                body[at:at] = body[at:at + draw.randint(1, 20)]
            if not body:
                body = bytearray(b"{")
        status, answer = post(region, bytes(body), operation=draw.choice(["RegisterTaskDefinition", "RunTask", "ListTasks"]))
        assert status < 500, (bytes(body), status, answer)


def test_a_second_region_on_the_same_data_directory_is_refused(region):
    from conftest import binary, free_port
    import subprocess
    done = subprocess.run([binary(), "up", "--data-dir", str(region.data_dir), "--listen", f"127.0.0.1:{free_port()}"],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert str(region.data_dir) in done.stderr, done.stderr
    assert region.is_healthy()


def test_a_port_in_use_is_named(region, tmp_path):
    from conftest import binary
    import subprocess
    done = subprocess.run([binary(), "up", "--data-dir", str(tmp_path / "d"), "--listen", f"127.0.0.1:{region.port}"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert str(region.port) in done.stderr, done.stderr
