"""Deployments that shift what is reached by Service Connect: tests first, then production, and back at each stage."""

import pytest

from conftest import unique, wait_for
from services import refused
from test_blue_green import blue_green, go_on, paused
from test_service_connect import LOAD, discovery, heard, mesh  # noqa: F401

RULES = {"header": {"name": "X-Stage", "value": {"exact": "Green"}}}

# Asks as a test does, again and again; says which answer comes from now on.
TESTS = r"""
    until find backend; do sleep 0.1; done
    last=
    while :; do
        printf "GET / HTTP/1.1\r\nHost: backend\r\n%s\r\nConnection: close\r\n\r\n" "$1" >&3
        now=$(nc -w 20 "$address" 80 <&3 | tail -1)
        [ "$now" = "$last" ] || echo "test $now"
        last=$now
        sleep 0.05
    done & wait
"""


def asking_with(header):
    return f'set -- "{header}"\n{TESTS}'


def offer(mesh, **more):
    made = mesh.offer(**more)
    made["clientAliases"][0]["testTrafficRules"] = RULES
    return made


def latest(mesh, name, word):
    said = [line for line in mesh.lines(name) if line.startswith(word)]
    return said[-1].split()[1] if said else None


def begin(mesh, services, **more):
    server = services.create(mesh.web("one"), 2, deploymentConfiguration=blue_green(),
                             serviceConnectConfiguration=mesh.configuration(offer(mesh, **more)))
    services.steady(server, 2, 90)
    client = mesh.client(LOAD)
    services.steady(client, 1)
    wait_for("requests", lambda: heard(mesh, client), 60)
    assert latest(mesh, client, "heard") == "one"
    return server, client


def test_green_is_met_by_tests_before_production_and_no_request_is_lost(mesh, services):
    server, client = begin(mesh, services)
    tester, other = mesh.client(asking_with("X-Stage: Green")), mesh.client(asking_with("X-Stage: green"))
    for each in (tester, other):
        services.steady(each, 1)
    wait_for("tests", lambda: latest(mesh, tester, "test") == "one")
    services.update(server, taskDefinition=mesh.web("two"), deploymentConfiguration=blue_green(
        "POST_SCALE_UP", "POST_TEST_TRAFFIC_SHIFT"))
    rollout, hook = paused(services, server, "POST_SCALE_UP")
    assert latest(mesh, tester, "test") == "one"
    go_on(services, rollout, hook)
    rollout, hook = paused(services, server, "POST_TEST_TRAFFIC_SHIFT")
    wait_for("green for tests", lambda: latest(mesh, tester, "test") == "two")
    seen = heard(mesh, client)
    wait_for("more requests", lambda: heard(mesh, client, seen + 100), 60)
    assert {line.split()[1] for line in mesh.lines(client) if line.startswith("heard")} == {"one"}
    go_on(services, rollout, hook)
    services.until_rollout(server, "SUCCESSFUL", 90)
    services.steady(server, 2, 90)
    wait_for("the new answer", lambda: latest(mesh, client, "heard") == "two")
    wait_for("its tests", lambda: latest(mesh, other, "test") == "two")
    said = [line for line in mesh.lines(client) if line.startswith("heard")]
    assert [line.split()[1] for line in said] == ["one", "two"], said
    heard(mesh, client)


@pytest.mark.parametrize("stage", ["POST_TEST_TRAFFIC_SHIFT", "PRE_PRODUCTION_TRAFFIC_SHIFT", "POST_PRODUCTION_TRAFFIC_SHIFT"])
def test_whoever_goes_back_has_blue_again_at_each_stage(mesh, services, stage):
    server, client = begin(mesh, services)
    services.update(server, taskDefinition=mesh.web("two"), deploymentConfiguration=blue_green(stage))
    shown = stage.replace("PRE_PRODUCTION", "PRODUCTION")
    rollout, hook = paused(services, server, shown)
    if stage == "POST_PRODUCTION_TRAFFIC_SHIFT":
        wait_for("the new answer", lambda: latest(mesh, client, "heard") == "two")
    go_on(services, rollout, hook, action="ROLLBACK")
    services.until_rollout(server, "ROLLBACK_SUCCESSFUL", 90)
    services.steady(server, 2, 90)
    wait_for("the old answer", lambda: latest(mesh, client, "heard") == "one")
    seen = heard(mesh, client)
    wait_for("requests after it", lambda: heard(mesh, client, seen + 50), 60)


def test_a_canary_has_its_share(mesh, services):
    server, client = begin(mesh, services)
    services.update(server, taskDefinition=mesh.web("two"), deploymentConfiguration={
        **blue_green("POST_PRODUCTION_TRAFFIC_SHIFT"), "strategy": "CANARY",
        "canaryConfiguration": {"canaryPercent": 20.0, "canaryBakeTimeInMinutes": 0}})
    rollout, hook = paused(services, server, "POST_PRODUCTION_TRAFFIC_SHIFT")
    changes = len(mesh.lines(client))
    wait_for("both answers", lambda: {line.split()[1] for line in mesh.lines(client)[changes:] if line.startswith("heard")}
             == {"one", "two"}, 60)
    go_on(services, rollout, hook)
    rollout, hook = paused(services, server, "POST_PRODUCTION_TRAFFIC_SHIFT")
    wait_for("the new answer", lambda: latest(mesh, client, "heard") == "two")
    go_on(services, rollout, hook)
    services.until_rollout(server, "SUCCESSFUL", 90)
    heard(mesh, client)


def test_what_cannot_tell_tests_is_refused(mesh, services):
    create = services.ecs.create_service
    asked = {"cluster": services.name, "serviceName": unique("s"), "desiredCount": 0, "launchType": "FARGATE",
             "networkConfiguration": services.network(), "deploymentConfiguration": blue_green()}

    def refuse(part, rules, **more):
        made = mesh.offer()
        made["clientAliases"][0]["testTrafficRules"] = rules
        refused(create, "InvalidParameterException", part, **asked, taskDefinition=mesh.web("refused", **more),
                serviceConnectConfiguration=mesh.configuration(made))

    refuse("http, http2 or grpc", RULES, protocol=None)
    refuse("is not the name of an HTTP header", {"header": {"name": "no header"}})
    refuse("exact must have", {"header": {"name": "x-test", "value": {"exact": ""}}})
