"""Deployments that ask at their stages whether they go on: a task that is run for it, and an HTTP hook."""

import http.server
import json
import threading

import pytest

from conftest import unique, wait_for
from services import ServiceCluster, only, refused
from test_service_kills import kill
from test_task_roles import make_role

ECS = {"Effect": "Allow", "Principal": {"Service": "ecs.amazonaws.com"}, "Action": "sts:AssumeRole"}


def shifting(*hooks):
    return {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0, "lifecycleHooks": list(hooks)}


def status_of(rollout):
    return [(each["targetArn"], each["status"]) for each in rollout.get("lifecycleHookDetails", [])]


@pytest.fixture
def asked():
    """An HTTP server that answers the events it is sent with what `say` gives, one after the other."""
    events, say = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, answer = say.pop(0) if len(say) > 1 else say[0]
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", events, say
    server.shutdown()


@pytest.fixture
def hooked(start_region, asked):
    region = start_region("--allow-hook", asked[0].removeprefix("http://"), name="hooked", image="box:1")
    cluster = ServiceCluster(region, f"127.0.0.1:{region.port}/box:1")
    yield cluster
    region.down()


def test_a_task_says_by_its_end_whether_a_deployment_goes_on(services, region):
    role = make_role(region, "ecs:RunTask", "iam:PassRole", trust=ECS)
    # Two words of the event, and an end that the details ask for.
    script = 'echo "$LIFECYCLE_HOOK_STAGE"; echo "$LIFECYCLE_HOOK_EVENT"; case $LIFECYCLE_HOOK_EVENT in *bad*) exit 3; esac'
    check = services.define(services.container("sh", "-c", script))
    hook = {"hookTargetArn": check, "roleArn": role, "lifecycleStages": ["POST_SCALE_UP", "PRODUCTION_TRAFFIC_SHIFT"]}
    one, two = (services.define(services.idle(text)) for text in ["one", "two"])
    name = services.create(one, 1, deploymentConfiguration=shifting())
    services.steady(name, 1)
    services.update(name, taskDefinition=two, deploymentConfiguration=shifting({**hook, "hookDetails": {"word": "good"}}))
    done = services.until_rollout(name, "SUCCESSFUL", 90)
    assert status_of(done) == [(check, "SUCCEEDED"), (check, "SUCCEEDED")]
    shown = only(services.service(name)["deploymentConfiguration"]["lifecycleHooks"])
    assert (shown["hookTargetArn"], shown["roleArn"], shown["targetType"], shown["hookDetails"]) == (
        check, role, "AWS_LAMBDA", {"word": "good"})
    tasks = services.ecs.list_tasks(cluster=services.name, startedBy="ecs-lifecycle-hook", desiredStatus="STOPPED")
    assert len(tasks["taskArns"]) == 2, "one for each stage"
    said = [services.lines(task) for task in tasks["taskArns"]]
    assert {stage for stage, _ in said} == set(hook["lifecycleStages"])
    event = json.loads(next(text for stage, text in said if stage == "POST_SCALE_UP"))
    assert event["resourceArn"] == done["serviceDeploymentArn"]
    assert event["hookDetails"] == {"word": "good"}
    assert event["executionDetails"]["targetServiceRevisionArn"] == done["targetServiceRevision"]["arn"]

    services.update(name, taskDefinition=one, deploymentConfiguration=shifting({**hook, "hookDetails": {"word": "bad"}}))
    done = services.until_rollout(name, "ROLLBACK_SUCCESSFUL", 90)
    assert "POST_SCALE_UP lifecycle hook(s) failed. the task" in done["statusReason"]
    assert "exited with 3" in done["statusReason"], done["statusReason"]
    services.steady(name, 1)
    assert services.service(name)["taskDefinition"] == two

    # A role that may not run tasks is one that says no.
    powerless = make_role(region, "ecs:ListClusters", trust=ECS)
    services.update(name, taskDefinition=one, deploymentConfiguration=shifting({**hook, "roleArn": powerless}))
    wait_for("the refusal", lambda: "unable to invoke hook target" in services.rollouts(name)[0].get("statusReason", ""), 60)

    create = lambda part, code="InvalidParameterException", **more: refused(
        services.ecs.create_service, code, part, cluster=services.name, serviceName=unique("s"), taskDefinition=one,
        launchType="FARGATE", networkConfiguration=services.network(), desiredCount=1,
        deploymentConfiguration=shifting({**hook, **more}))
    create("no Lambda functions", "UnsupportedFeatureException",
           hookTargetArn="arn:aws:lambda:eu-north-1:000000000000:function:f")
    create("roleArn can not be empty", roleArn="")
    create("can't be run: TaskDefinition not found", hookTargetArn=check.rpartition("/")[0] + "/none:7")
    create("hookDetails must be a JSON object", hookDetails=[1])
    create("--allow-hook 127.0.0.1:1", hookTargetArn="http://127.0.0.1:1/", roleArn="")


def test_a_server_is_asked_until_it_has_decided_across_a_restart_too(hooked, asked):
    (url, events, say), services = asked, hooked
    hook = {"hookTargetArn": f"{url}/web", "lifecycleStages": ["POST_SCALE_UP"], "hookDetails": {"word": "good"}}
    one, two = (services.define(services.idle(text)) for text in ["one", "two"])
    name = services.create(one, 1, deploymentConfiguration=shifting())
    services.steady(name, 1)
    # It is down for a moment, then at it for a while, and only then decides.
    busy = {"hookStatus": "IN_PROGRESS", "callBackDelay": 1, "hookDetails": {"seen": 1}}
    say[:] = [(503, None), (200, busy)]
    services.update(name, taskDefinition=two, deploymentConfiguration=shifting(hook))
    wait_for("questions", lambda: len(events) > 2, 60)
    rollout = services.rollouts(name)[0]
    assert (rollout["lifecycleStage"], status_of(rollout)) == ("POST_SCALE_UP", [(f"{url}/web", "IN_PROGRESS")])
    refused(services.ecs.continue_service_deployment, "InvalidParameterException", "completed, unavailable",
            serviceDeploymentArn=rollout["serviceDeploymentArn"],
            hookId=only(rollout["lifecycleHookDetails"])["hookId"])
    assert len({event["executionId"] for event in events}) == 1
    assert events[0]["hookDetails"] == {"word": "good"} and events[2]["hookDetails"] == {"word": "good", "seen": 1}
    kill(services.region)
    asked_before = len(events)
    wait_for("another question", lambda: len(events) > asked_before, 30)
    say[:] = [(200, {"hookStatus": "SUCCEEDED"})]
    services.until_rollout(name, "SUCCESSFUL", 90)

    for answer, why in [({"hookStatus": "FAILED"}, f"Lifecycle hook target {url}/web returned FAILED status."),
                        ({}, f"unable to parse the response from {url}/web due to HookStatus must not be null.")]:
        say[:] = [(200, answer)]
        services.update(name, taskDefinition=one, deploymentConfiguration=shifting(hook))
        done = services.until_rollout(name, "ROLLBACK_SUCCESSFUL", 90)
        assert done["statusReason"].startswith(
            "Service deployment rolled back because POST_SCALE_UP lifecycle hook(s) failed. "), done["statusReason"]
        assert why in done["statusReason"], done["statusReason"]
        services.steady(name, 1)
