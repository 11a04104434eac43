"""What a region does by itself can be seen, by whom it belongs to."""

import urllib.error
import urllib.request

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from conftest import wait_for


def asked_by(region, key, secret):
    request = botocore.awsrequest.AWSRequest("POST", f"{region.endpoint}/", data=b"{}", headers={
        "x-amz-target": "Longshore.DescribeStatus", "content-type": "application/x-amz-json-1.1"})
    credentials = botocore.credentials.Credentials(key, secret)
    botocore.auth.SigV4Auth(credentials, "longshore", "eu-north-1").add_auth(request)
    sent = urllib.request.Request(request.url, data=b"{}", headers=dict(request.headers.items()), method="POST")
    with urllib.request.urlopen(sent, timeout=20) as answer:
        return answer.read()


def test_every_reconciler_is_shown_and_has_looked(region):
    def rows():
        lines = region.run("status").stdout.splitlines()
        assert lines[0].split()[:2] == ["RECONCILER", "KEYS"], lines
        return {line.split()[0]: line for line in lines[1:] if line and "failed" not in line}

    wait_for("passes", lambda: 0 < sum(int(row.split()[4]) for row in rows().values()), 30)
    print(region.run("status").stdout)
    assert 5 <= len(rows()), rows()


def test_another_account_and_a_wrong_secret_learn_nothing(region):
    own = region.variables["AWS_ACCESS_KEY_ID"], region.variables["AWS_SECRET_ACCESS_KEY"]
    assert b"reconcilers" in asked_by(region, *own)
    for key, secret in [("123456789012", "swordfish"), (own[0], "wrong")]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            asked_by(region, key, secret)
        body = refused.value.read()
        assert refused.value.code in (400, 403) and b"reconcilers" not in body, body
