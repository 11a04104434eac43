"""Service Connect with TLS between tasks, and ports of the proxy's own."""

import http.client
import json
import socket
import ssl

import pytest

from services import only, refused
from conftest import unique, wait_for
from test_service_connect import LOAD, discovery, heard, mesh  # noqa: F401

AUTHORITY = "arn:aws:acm-pca:eu-north-1:000000000000:certificate-authority/longshore"
TLS = {"issuerCertificateAuthority": {"awsPcaAuthorityArn": AUTHORITY}}
ROLE = {"Version": "2012-10-17", "Statement": {
    "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ecs.amazonaws.com"}}}


def certificate(region, address, port=80, authority=None):
    """What is shown at an address to somebody who trusts the region's authority, and how it was agreed."""
    context = ssl.create_default_context(cafile=str(authority or region.data_dir / "tls/ca.pem"))
    context.check_hostname = False
    with socket.create_connection((address, port), timeout=10) as plain, context.wrap_socket(plain) as secure:
        return secure.getpeercert(), secure.version()


def names(shown):
    return [name for kind, name in shown["subjectAltName"] if kind == "DNS"]


def answers_in_the_clear(services, task):
    try:
        return services.fetch(task, 3)
    except (OSError, http.client.HTTPException):
        return None


def test_what_can_not_be_is_refused(mesh, services, region):
    create = services.ecs.create_service
    asked = {"cluster": services.name, "serviceName": unique("s"), "taskDefinition": mesh.web("refused"), "desiredCount": 0,
             "launchType": "FARGATE", "networkConfiguration": services.network()}

    def refuse(part, **more):
        configuration = mesh.configuration(mesh.offer(**more))
        found = refused(create, "InvalidParameterException", part, **asked, serviceConnectConfiguration=configuration)
        return found["Message"]

    other = AUTHORITY.replace("longshore", "12345678-1234-1234-1234-123456789012")
    said = refuse("does not exist", tls={"issuerCertificateAuthority": {"awsPcaAuthorityArn": other}})
    assert said.endswith(AUTHORITY), said
    refuse("is required", tls={"issuerCertificateAuthority": {}})
    refuse("kmsKey can't be used", tls={**TLS, "kmsKey": "alias/not-there"})
    refuse("has to let ecs.amazonaws.com", tls={**TLS, "roleArn": "arn:aws:iam::000000000000:role/not-there"})
    refuse("is taken", ingressPortOverride=80)
    refuse("less than or equal to 65535", ingressPortOverride=70_000)


def test_tasks_meet_each_other_with_tls_and_others_are_not_served_in_the_clear(mesh, services, region):
    iam, kms = region.client("iam"), region.client("kms")
    role = iam.create_role(RoleName=unique("tls"), AssumeRolePolicyDocument=json.dumps(ROLE))["Role"]
    key = kms.create_key()["KeyMetadata"]["Arn"]
    allow = {"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": ["acm-pca:*", "kms:*"], "Resource": "*"}}
    iam.put_role_policy(RoleName=role["RoleName"], PolicyName="all", PolicyDocument=json.dumps(allow))
    offer = mesh.offer(discoveryName="shop", tls={**TLS, "kmsKey": key, "roleArn": role["Arn"]})
    server = mesh.serve("from the backend", offer, count=2)
    described = services.steady(server, 2)
    assert described["deployments"][0]["serviceConnectConfiguration"]["services"] == [offer]
    revision = described["currentServiceRevisions"][0]["arn"]
    shown = only(services.ecs.describe_service_revisions(serviceRevisionArns=[revision])["serviceRevisions"])
    assert shown["serviceConnectConfiguration"]["services"][0]["tls"] == offer["tls"]
    client = mesh.client("until get backend 80; do sleep 0.1; done")
    services.steady(client, 1)
    wait_for("what the client heard", lambda: mesh.lines(client)[:1] == ["from the backend"], 60)
    task, other = services.tasks(server)
    shown, version = certificate(region, services.address(task))
    identity, name = names(shown)
    assert version == "TLSv1.3" and name == f"shop.{mesh.namespace}", shown
    assert identity.endswith(".service-connect.longshore.internal"), shown
    assert names(certificate(region, services.address(other))[0]) == [identity, name]
    assert answers_in_the_clear(services, task) is None
    found = only(region.client("servicediscovery").discover_instances(
        NamespaceName=mesh.namespace, ServiceName="shop", MaxResults=1)["Instances"])
    assert found["Attributes"]["AWS_INSTANCE_PORT"] == "80"


def test_without_its_key_a_task_is_met_by_nobody_until_the_key_is_enabled_again(mesh, services, region):
    kms = region.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    server = mesh.serve("closed", mesh.offer(tls={**TLS, "kmsKey": key}))
    services.steady(server, 1)
    first = only(services.tasks(server))
    kms.disable_key(KeyId=key)
    services.ecs.stop_task(cluster=services.name, task=first["taskArn"])

    def another():
        running = [task for task in services.tasks(server) if task["lastStatus"] == "RUNNING"]
        return next((task for task in running if task["taskArn"] != first["taskArn"]), None)
    task = wait_for("another task", another, 60)
    assert answers_in_the_clear(services, task) is None

    def shown():
        try:
            return certificate(region, services.address(task))
        except OSError:
            return None
    assert not shown()
    kms.enable_key(KeyId=key)
    assert wait_for("its certificate", shown, 60)[1] == "TLSv1.3"
    assert answers_in_the_clear(services, task) is None


def test_flows_and_http2_are_carried_too(mesh, services, region):
    mesh.serve("bytes", mesh.offer("db", 5432, "db", tls=TLS), protocol=None, name="db")
    client = mesh.client("until get db 5432; do sleep 0.1; done")
    services.steady(client, 1)
    wait_for("what the client heard", lambda: mesh.lines(client)[:1] == ["bytes"], 60)


def test_tls_is_turned_on_and_off_without_a_lost_request(mesh, services, region):
    server = mesh.serve("first", count=2)
    services.steady(server, 2)
    client = mesh.client(LOAD)
    services.steady(client, 1)
    before = wait_for("requests", lambda: heard(mesh, client), 60)
    for text, tls in (("second", {"tls": TLS}), ("third", {"tls": TLS}), ("fourth", {})):
        services.update(server, taskDefinition=mesh.web(text), serviceConnectConfiguration=mesh.configuration(mesh.offer(**tls)))
        services.steady(server, 2, 90)
        before = wait_for("requests after it", lambda: heard(mesh, client, before), 60)
        wait_for("its answers", lambda: [line for line in mesh.lines(client) if f"heard {text} " in line])
        plain = [answers_in_the_clear(services, task) for task in services.tasks(server)]
        assert plain == ([None, None] if tls else [text, text])


@pytest.mark.parametrize("tls", [None, TLS])
def test_a_port_of_the_proxy_leaves_that_of_the_container_to_others(mesh, services, region, tls):
    offer = mesh.offer(ingressPortOverride=9443, **({"tls": tls} if tls else {}))
    server = mesh.serve("behind", offer)
    services.steady(server, 1)
    client = mesh.client("until get backend 80; do sleep 0.1; done")
    services.steady(client, 1)
    wait_for("what the client heard", lambda: mesh.lines(client)[:1] == ["behind"], 60)
    task = only(services.tasks(server))
    assert services.fetch(task) == "behind"
    if tls:
        assert certificate(region, services.address(task), 9443)[1] == "TLSv1.3"


def test_requests_are_counted_by_who_asked_and_how_they_were_answered(mesh, services, region):
    server = mesh.serve("counted", mesh.offer(discoveryName="shop", tls=TLS))
    services.steady(server, 1)
    client = mesh.client(LOAD)
    services.steady(client, 1)
    wait_for("requests", lambda: heard(mesh, client), 60)

    def row():
        shown = json.loads(region.run("connect", "--json").stdout)["endpoints"]
        rows = [each for each in shown if each["namespace"] == mesh.namespace and each["client"]]
        # What serves is in the namespace too, and never asks.
        return rows and only(rows)["counted"]["requests"] >= 50 and rows[0]
    found = wait_for("figures", row, 60)
    assert (found["discoveryName"], found["service"]) == ("shop", f"{services.name}/{server}")
    assert found["client"] == f"{services.name}/{client}"
    counted = found["counted"]
    assert counted["answers"][0] == sum(counted["answers"]) and counted["connections"] >= 50
    assert mesh.namespace in region.run("connect").stdout
