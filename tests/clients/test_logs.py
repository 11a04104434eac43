"""CloudWatch Logs as its clients know it."""

import json
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

from conftest import unique
from services import refused


@pytest.fixture
def stream(logs):
    group = unique("/g")
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    return {"logGroupName": group, "logStreamName": "s"}


def now():
    return int(time.time() * 1000)


def put(logs, stream, messages, start=None):
    start = start or now()
    return logs.put_log_events(**stream, logEvents=[
        {"timestamp": start + n, "message": message} for n, message in enumerate(messages)])


def test_what_is_put_is_got_page_by_page_in_both_directions(logs, stream):
    put(logs, stream, [f"line {n}" for n in range(25)])
    got, token = [], None
    while True:
        page = logs.get_log_events(**stream, startFromHead=True, limit=10, **({"nextToken": token} if token else {}))
        got += [event["message"] for event in page["events"]]
        if page["nextForwardToken"] == token:
            break
        token = page["nextForwardToken"]
    assert got == [f"line {n}" for n in range(25)]
    last = logs.get_log_events(**stream, limit=5)
    assert [event["message"] for event in last["events"]] == [f"line {n}" for n in range(20, 25)]
    before = logs.get_log_events(**stream, limit=5, nextToken=last["nextBackwardToken"])
    assert [event["message"] for event in before["events"]] == [f"line {n}" for n in range(15, 20)]
    put(logs, stream, ["later"], now() + 1000)
    after = logs.get_log_events(**stream, nextToken=token)
    assert [event["message"] for event in after["events"]] == ["later"]


@pytest.mark.parametrize("pattern, found", [
    ("", 5), ("ERROR", 2), ("ERROR disk", 1), ("?ERROR ?WARN", 3), ("-ERROR", 3), ('"disk full"', 1),
    ("%[0-9]{3}%", 2), ('{ $.code = 500 }', 1), ('{ $.user.name = "al*" }', 1), ("nothing like it", 0),
])
def test_patterns_select(logs, stream, pattern, found):
    put(logs, stream, ["ERROR disk full", "ERROR net 404", "WARN slow", "INFO fine",
                       '{"code": 500, "user": {"name": "alice"}}'])
    got = logs.filter_log_events(logGroupName=stream["logGroupName"], filterPattern=pattern)["events"]
    assert len(got) == found, [event["message"] for event in got]


def test_a_search_pages_in_both_directions(logs, stream):
    group, start = stream["logGroupName"], now()
    for n in range(7):
        put(logs, stream, [f"line {n}"], start + n)

    def found(**more):
        token, lines = {}, []
        while token is not None:
            page = logs.filter_log_events(logGroupName=group, limit=3, startTime=start, **{**more, **token})
            assert len(page["events"]) <= 3 and page["searchedLogStreams"] == []
            lines += [event["message"] for event in page["events"]]
            token = {"nextToken": page["nextToken"]} if "nextToken" in page else None
            more.pop("startFromHead", None)  # the token has the direction
        return lines
    lines = [f"line {n}" for n in range(7)]
    assert found() == lines
    assert found(startFromHead=False) == lines[::-1]
    assert found(startFromHead=False, filterPattern='"line 3"') == ["line 3"]
    with pytest.raises(logs.exceptions.InvalidParameterException):
        logs.filter_log_events(logGroupName=group, startFromHead=False)


def test_bad_requests_are_named(logs, stream):
    with pytest.raises(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=stream["logGroupName"])
    with pytest.raises(logs.exceptions.ResourceNotFoundException, match="The specified log group does not exist"):
        logs.get_log_events(logGroupName="/none", logStreamName="s")
    with pytest.raises(logs.exceptions.ResourceNotFoundException, match="The specified log stream does not exist"):
        logs.get_log_events(logGroupName=stream["logGroupName"], logStreamName="t")
    with pytest.raises(logs.exceptions.InvalidParameterException):
        logs.put_log_events(**stream, logEvents=[{"timestamp": now(), "message": "b"}, {"timestamp": now() - 1000, "message": "a"}])
    with pytest.raises(logs.exceptions.InvalidParameterException):
        logs.put_retention_policy(logGroupName=stream["logGroupName"], retentionInDays=2)
    answer = logs.put_log_events(**stream, logEvents=[{"timestamp": now() - 15 * 86_400_000, "message": "old"}])
    assert answer["rejectedLogEventsInfo"]["tooOldLogEventEndIndex"] == 1


def test_groups_have_retention_tags_and_pages(logs):
    prefix = unique("/many")
    for n in range(5):
        logs.create_log_group(logGroupName=f"{prefix}/{n}", tags={"n": str(n)})
    pages = list(logs.get_paginator("describe_log_groups").paginate(
        logGroupNamePrefix=prefix, PaginationConfig={"PageSize": 2}))
    assert [len(page["logGroups"]) for page in pages] == [2, 2, 1]
    logs.put_retention_policy(logGroupName=f"{prefix}/0", retentionInDays=7)
    group = logs.describe_log_groups(logGroupNamePrefix=f"{prefix}/0")["logGroups"][0]
    assert group["retentionInDays"] == 7
    assert logs.list_tags_for_resource(resourceArn=group["arn"].removesuffix(":*"))["tags"] == {"n": "0"}
    logs.delete_log_group(logGroupName=f"{prefix}/0")
    assert logs.describe_log_groups(logGroupNamePrefix=f"{prefix}/0")["logGroups"] == []


def test_a_group_with_a_key_has_its_events_sealed_and_read_while_the_key_allows_it(region, logs):
    kms, group, secret = region.client("kms"), unique("/sealed"), unique("unheard-of-")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    create = {"logGroupName": group, "kmsKeyId": key}
    refused(logs.create_log_group, "AccessDeniedException", "is not allowed to be used with LogGroup", **create)
    policy = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    policy["Statement"].append({
        "Effect": "Allow", "Principal": {"Service": "logs.eu-north-1.amazonaws.com"}, "Resource": "*",
        "Action": ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
        "Condition": {"ArnLike": {"kms:EncryptionContext:aws:logs:arn":
                                  "arn:aws:logs:eu-north-1:000000000000:log-group:/sealed*"}}})
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(policy))
    logs.create_log_group(**create)
    described, = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert described["kmsKeyId"] == key
    stream = {"logGroupName": group, "logStreamName": "s"}
    logs.create_log_stream(**stream)
    put(logs, stream, [secret, "another"])
    assert [event["message"] for event in logs.get_log_events(**stream)["events"]] == [secret, "another"]
    found = logs.filter_log_events(logGroupName=group, filterPattern=f'"{secret}"')["events"]
    assert [event["message"] for event in found] == [secret]
    on_disk = subprocess.run(["grep", "-rlaF", secret, str(region.data_dir)], capture_output=True, text=True, timeout=60)
    assert on_disk.stdout == ""

    kms.disable_key(KeyId=key)
    refused(logs.get_log_events, "AccessDeniedException", "is disabled", **stream)
    refused(logs.put_log_events, "AccessDeniedException", "is disabled", **stream,
            logEvents=[{"timestamp": now(), "message": "x"}])
    kms.enable_key(KeyId=key)
    logs.disassociate_kms_key(logGroupName=group)
    put(logs, stream, ["in the clear"])
    assert len(logs.get_log_events(**stream)["events"]) == 3
    described, = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert "kmsKeyId" not in described
    logs.associate_kms_key(resourceIdentifier=described["arn"], kmsKeyId=key)
    refused(logs.associate_kms_key, "InvalidParameterException", "ARN", logGroupName=group, kmsKeyId="alias/none")


def test_events_survive_a_restart(start_region):
    import os
    import signal
    from conftest import wait_for
    region = start_region(name="logs-restart")
    logs = region.client("logs")
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    put(logs, {"logGroupName": "g", "logStreamName": "s"}, ["kept"])
    pid = region.children()["region"]
    os.kill(pid, signal.SIGKILL)
    wait_for("a new region", lambda: region.children().get("region") not in (None, pid), 15)
    wait_for("health", region.is_healthy, 20)
    got = logs.get_log_events(logGroupName="g", logStreamName="s")["events"]
    assert [event["message"] for event in got] == ["kept"]
