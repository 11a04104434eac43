"""Bad days of identity: clocks that differ, a key that ends during a push, a thousand users."""

import datetime
import hashlib
import urllib.error
import urllib.request

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from conftest import unique
from test_iam import Home, policy
from test_registry_rights import LOGIN, Registry

USERS = 1_000


@pytest.fixture(scope="module")
def home(start_region):
    return Home(start_region(name="identity-days"))


def ask_at(region, when, monkeypatch):
    """GetCallerIdentity signed by a clock that shows `when`; the status, and what was answered."""
    body = "Action=GetCallerIdentity&Version=2011-06-15"
    request = botocore.awsrequest.AWSRequest("POST", region.endpoint + "/", data=body, headers={
        "Content-Type": "application/x-www-form-urlencoded"})
    keys = botocore.credentials.Credentials(region.variables["AWS_ACCESS_KEY_ID"],
                                            region.variables["AWS_SECRET_ACCESS_KEY"])
    with monkeypatch.context() as patch:
        for name in ["get_current_datetime"]:
            if hasattr(botocore.auth, name):
                patch.setattr(botocore.auth, name, lambda **_: when)
        botocore.auth.SigV4Auth(keys, "sts", "eu-north-1").add_auth(request)
    sent = request.prepare()
    assert when.strftime("%Y%m%d") in sent.headers["Authorization"]
    plain = urllib.request.Request(sent.url, data=body.encode(), headers=dict(sent.headers), method="POST")
    try:
        with urllib.request.urlopen(plain, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.skipif(not hasattr(botocore.auth, "get_current_datetime"), reason="this botocore's clock is elsewhere")
@pytest.mark.parametrize("minutes, word", [(-14, None), (14, None), (-16, "Signature expired"), (16, "not yet current"),
                                           (-60 * 24 * 365, "Signature expired")])
def test_a_clock_may_differ_by_a_quarter_of_an_hour(home, monkeypatch, minutes, word):
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
    status, text = ask_at(home.region, when.replace(tzinfo=None), monkeypatch)
    if word is None:
        assert status == 200 and "GetCallerIdentityResult" in text, text
    else:
        assert status in (400, 403) and word in text, text


def test_a_key_that_ends_during_a_push_ends_the_push_and_leaves_nothing_half(home):
    ecr, name = home.region.client("ecr"), unique("long")
    ecr.create_repository(repositoryName=name)
    push = policy(LOGIN, {"Action": "ecr:*", "Resource": f"arn:aws:ecr:eu-north-1:000000000000:repository/{name}"})
    user, key = home.user(push)
    registry = Registry(home.region, home.client("ecr", key))

    def send(method, place, data=None):
        path = place.removeprefix(home.region.endpoint)
        request = urllib.request.Request(home.region.endpoint + path, data=data, method=method, headers={
            "Authorization": "Basic " + registry.token, "Content-Type": "application/octet-stream"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers.get("Location")
        except urllib.error.HTTPError as error:
            return error.code, None

    parts = [b"a" * 100_000, b"b" * 100_000, b"c" * 100_000]
    digest = "sha256:" + hashlib.sha256(b"".join(parts)).hexdigest()
    status, place = send("POST", f"/v2/{name}/blobs/uploads/")
    assert status == 202
    status, place = send("PATCH", place, parts[0])
    assert status == 202
    home.iam.update_access_key(UserName=user, AccessKeyId=key["AccessKeyId"], Status="Inactive")
    assert send("PATCH", place, parts[1])[0] == 401
    joined = place + ("&" if "?" in place else "?") + f"digest={digest}"
    assert send("PUT", joined, b"")[0] == 401
    layers = ecr.batch_check_layer_availability(repositoryName=name, layerDigests=[digest])
    assert not [layer for layer in layers["layers"] if layer["layerAvailability"] == "AVAILABLE"], layers
    # With the key again, the push goes on where it was.
    home.iam.update_access_key(UserName=user, AccessKeyId=key["AccessKeyId"], Status="Active")
    for part in parts[1:]:
        status, place = send("PATCH", place, part)
        assert status == 202
    status, _ = send("PUT", place + ("&" if "?" in place else "?") + f"digest={digest}", b"")
    assert status == 201
    layer, = ecr.batch_check_layer_availability(repositoryName=name, layerDigests=[digest])["layers"]
    assert layer["layerAvailability"] == "AVAILABLE"


def test_a_thousand_users_are_listed_in_pages_and_each_has_what_it_is_given(home):
    iam, path = home.iam, f"/{unique('many')}/"
    group = unique("g")
    iam.create_group(GroupName=group)
    iam.put_group_policy(GroupName=group, PolicyName="p", PolicyDocument=policy({"Action": "ecs:ListClusters"}))
    names = [f"many-{number:04}" for number in range(USERS)]
    for name in names:
        iam.create_user(UserName=name, Path=path)
        iam.add_user_to_group(GroupName=group, UserName=name)
    pages = iam.get_paginator("list_users").paginate(PathPrefix=path, PaginationConfig={"PageSize": 300})
    found = [[user["UserName"] for user in page["Users"]] for page in pages]
    assert [len(page) for page in found] == [300, 300, 300, 100] and sum(found, []) == names
    members = iam.get_paginator("get_group").paginate(GroupName=group)
    assert sorted(user["UserName"] for page in members for user in page["Users"]) == names
    for name in [names[0], names[-1]]:
        key = iam.create_access_key(UserName=name)["AccessKey"]
        home.client("ecs", key).list_clusters()
        assert home.client("sts", key).get_caller_identity()["Arn"].endswith(f":user{path}{name}")
    # A thousand are no reason to wait: the last one is decided on as the first.
    assert iam.get_account_summary()["SummaryMap"]["Users"] >= USERS
