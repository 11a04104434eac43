"""Deployments: rolled, forced, broken and gone back, stopped, superseded."""

import http.client
import threading

import pytest

import images
from conftest import unique, wait_for
from services import only, process_of, refused

# Never healthy: a rollout to it stays in progress for as long as a test needs.
NEVER = {"command": ["CMD-SHELL", "false"], "interval": 5, "timeout": 2, "retries": 10, "startPeriod": 300}


class Visitors:
    """Clients that look the tasks up and ask one after the other for its page, until they are told to stop."""

    def __init__(self, services, name):
        self.services, self.name = services, name
        self.pages, self.lost, self.fewest = [], [], 99
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.visit) for _ in range(2)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def visit(self):
        while not self.over.is_set():
            tasks = [task for task in self.services.tasks(self.name) if task["lastStatus"] == "RUNNING"]
            self.fewest = min(self.fewest, len(tasks))
            for task in tasks:
                try:
                    self.pages.append(self.services.fetch(task))
                except (OSError, http.client.HTTPException) as why:
                    # It may have been asked to stop since it was looked up; then nothing is lost.
                    if self.services.describe(task["taskArn"])["desiredStatus"] != "STOPPED":
                        self.lost.append((task["taskArn"], str(why)))


def test_a_rolling_update_is_seen_by_clients_as_pages_that_change(services):
    old, new = (services.define(services.web(text)) for text in ("old", "new"))
    name = services.create(old, 4)
    services.steady(name, 4)
    # The page is served a moment after its process runs.
    for task in services.tasks(name):
        wait_for("its page", lambda: page_of(services, task) == "old", 10)
    before = services.arns(name)
    with Visitors(services, name) as visitors:
        wait_for("first visits", lambda: len(visitors.pages) > 8, 10)
        updated = services.update(name, taskDefinition=new)
        assert [d["status"] for d in updated["deployments"]] == ["PRIMARY", "ACTIVE"]
        assert updated["taskDefinition"] == new
        primary, active = updated["deployments"]
        assert (primary["taskDefinition"], active["taskDefinition"]) == (new, old)
        services.steady(name, 4)
        wait_for("a visit to each new task", lambda: visitors.pages[-8:].count("new") == 8, 20)
    assert visitors.fewest >= 4, "never fewer than the healthy floor"
    # A process that has just started may not listen yet; one that served is never lost.
    lost = [arn for arn, why in visitors.lost if "refused" not in why]
    assert lost == []
    assert set(visitors.pages) == {"old", "new"}
    assert not before & services.arns(name)
    assert {task["taskDefinitionArn"] for task in services.tasks(name)} == {new}
    for arn in before:
        assert services.until(arn, "STOPPED")["stoppedReason"].startswith("Scaling activity initiated by (deployment ")
    latest, first = services.rollouts(name)
    assert (latest["status"], first["status"]) == ("SUCCESSFUL", "SUCCESSFUL")
    assert latest["targetServiceRevision"]["requestedTaskCount"] == 4
    assert latest["targetServiceRevision"]["runningTaskCount"] == 4
    source = only(latest["sourceServiceRevisions"])
    assert source["arn"] == first["targetServiceRevision"]["arn"]
    moments = [latest[key] for key in ("createdAt", "startedAt", "finishedAt")]
    assert moments == sorted(moments)
    revisions = services.ecs.describe_service_revisions(
        serviceRevisionArns=[latest["targetServiceRevision"]["arn"], source["arn"]])["serviceRevisions"]
    assert [revision["taskDefinition"] for revision in revisions] == [new, old]
    current = only(services.service(name)["currentServiceRevisions"])
    assert current["arn"] == latest["targetServiceRevision"]["arn"] and current["runningTaskCount"] == 4


def page_of(services, task):
    try:
        return services.fetch(task)
    except OSError:
        return None


def test_a_rollout_within_its_ceiling_makes_room_first(services):
    old, new = (services.define(services.idle(text)) for text in ("old", "new"))
    name = services.create(old, 4, deploymentConfiguration={"minimumHealthyPercent": 50, "maximumPercent": 100})
    services.steady(name, 4)
    services.update(name, taskDefinition=new)
    most, fewest = 0, 4
    while True:
        service = services.service(name)
        tasks = services.tasks(name)
        most = max(most, len(tasks))
        fewest = min(fewest, service["runningCount"])
        if len(service["deployments"]) == 1 and service["deployments"][0]["rolloutState"] == "COMPLETED":
            break
        assert len(service["deployments"]) <= 2
    assert most <= 4 and fewest >= 2, (most, fewest)
    assert {task["taskDefinitionArn"] for task in services.tasks(name)} == {new}


def test_a_moved_tag_is_looked_up_once_for_each_revision(services, tmp_path):
    image = unique("moving")

    def push(text):
        layer = images.busybox_layer({"www/index.html": text.encode() + b"\n"})
        archive = images.docker_save(tmp_path / f"{text}.tar", f"{image}:latest", [layer])
        services.region.run("image", "load", str(archive))

    def container(**more):
        serve = "trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait"
        made = services.container("sh", "-c", serve, stopTimeout=2, **more)
        return {**made, "image": f"127.0.0.1:{services.region.port}/{image}:latest"}

    def pages(name):
        return sorted(wait_for("a page", lambda: page_of(services, task), 10) for task in services.tasks(name))

    push("first")
    pinned = services.create(services.define(container()), 1)
    loose = services.create(services.define(container(versionConsistency="disabled")), 1)
    for name in (pinned, loose):
        services.steady(name, 1)
        assert pages(name) == ["first"]
    push("second")
    for name in (pinned, loose):
        services.update(name, desiredCount=2)
        services.steady(name, 2)
    assert pages(pinned) == ["first", "first"], "one revision, one digest"
    assert pages(loose) == ["first", "second"], "as its task definition asks"
    updated = services.update(pinned, forceNewDeployment=True)
    assert len(updated["deployments"]) == 2
    services.steady(pinned, 2)
    assert pages(pinned) == ["second", "second"]
    arns = [rollout["targetServiceRevision"]["arn"] for rollout in services.rollouts(pinned)]
    new, old = (only(revision["containerImages"]) for revision in
                services.ecs.describe_service_revisions(serviceRevisionArns=arns)["serviceRevisions"])
    assert new["containerName"] == old["containerName"] == "main" and new["image"] == old["image"]
    assert new["imageDigest"].startswith("sha256:") and new["imageDigest"] != old["imageDigest"]
    digests = {task["containers"][0]["imageDigest"] for task in services.tasks(pinned)}
    assert digests == {new["imageDigest"]}


BREAKER = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}


@pytest.mark.parametrize("command", [["false"], ["no-such-command"]])
def test_the_circuit_breaker_rolls_back_a_revision_whose_tasks_fail(services, command):
    good = services.define(services.idle())
    bad = services.define(services.container(*command))
    name = services.create(good, 2, deploymentConfiguration=BREAKER)
    services.steady(name, 2)
    before = services.arns(name)
    services.update(name, taskDefinition=bad)
    rollout = services.until_rollout(name, "ROLLBACK_SUCCESSFUL", 120)
    breaker = rollout["deploymentCircuitBreaker"]
    assert (breaker["status"], breaker["threshold"]) == ("TRIGGERED", 3), "half of two, and three at least"
    assert breaker["failureCount"] >= 3
    first = services.rollouts(name)[-1]
    assert rollout["rollback"]["serviceRevisionArn"] == first["targetServiceRevision"]["arn"]
    assert rollout["rollback"]["reason"] and rollout["statusReason"]
    service = services.steady(name, 2)
    assert service["taskDefinition"] == good
    assert services.arns(name) == before, "the good tasks never went"
    messages = services.messages(name)
    assert any("deployment failed: tasks failed to start." in message for message in messages), messages
    assert any("rolling back to deployment ecs-svc/" in message for message in messages), messages


def test_the_circuit_breaker_without_rollback_leaves_a_failed_deployment(services):
    bad = services.define(services.container("no-such-command"))
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": False}}
    name = services.create(bad, 1, deploymentConfiguration=breaker)
    service = services.until_service("a failed deployment", name, lambda s: (
        s["deployments"][0]["rolloutState"] == "FAILED"), 120)
    deployment = only(service["deployments"])
    assert deployment["rolloutStateReason"] == "ECS deployment circuit breaker: tasks failed to start."
    assert deployment["failedTasks"] >= 3 and deployment["runningCount"] == 0
    assert services.rollouts(name)[0]["status"] == "STOPPED"
    good = services.define(services.idle())
    services.update(name, taskDefinition=good)
    services.steady(name, 1)


def test_a_revision_that_can_never_start_leaves_the_old_one_in_charge_and_says_why(services):
    good = services.define(services.idle())
    missing = {**services.idle(), "image": f"127.0.0.1:{services.region.port}/nothing-here:9"}
    name = services.create(good, 2)
    services.steady(name, 2)
    before = services.arns(name)
    services.update(name, taskDefinition=services.define(missing))
    service = services.until_service("failed tasks", name, lambda s: s["deployments"][0]["failedTasks"] >= 2)
    primary, active = service["deployments"]
    assert (primary["rolloutState"], primary["runningCount"]) == ("IN_PROGRESS", 0)
    assert active["runningCount"] == 2 and services.arns(name) >= before
    services.saw(name, "is unable to consistently start tasks successfully.", 90)
    # The way out is another revision.
    services.update(name, taskDefinition=services.define(services.idle("better")))
    services.steady(name, 2, 90)
    assert not before & services.arns(name)


def test_a_deployment_that_is_stopped_is_rolled_back(services):
    good = services.define(services.idle())
    slow = services.define(services.idle(healthCheck=NEVER))
    name = services.create(good, 2)
    services.steady(name, 2)
    before = services.arns(name)
    services.update(name, taskDefinition=slow)
    services.until_service("new tasks", name, lambda s: s["deployments"][0]["runningCount"]
                           + s["deployments"][0]["pendingCount"] == 2)
    rollout = services.until_rollout(name, "IN_PROGRESS")
    answer = services.ecs.stop_service_deployment(serviceDeploymentArn=rollout["serviceDeploymentArn"])
    assert answer["serviceDeploymentArn"] == rollout["serviceDeploymentArn"]
    stopped = services.until_rollout(name, "ROLLBACK_SUCCESSFUL")
    assert stopped["rollback"]["reason"]
    service = services.steady(name, 2)
    assert service["taskDefinition"] == good and services.arns(name) == before
    refused(services.ecs.stop_service_deployment, "ConflictException",
            serviceDeploymentArn=rollout["serviceDeploymentArn"])


def test_a_deployment_that_is_aborted_goes_no_further(services):
    good = services.define(services.idle())
    slow = services.define(services.idle(healthCheck=NEVER))
    name = services.create(good, 1)
    services.steady(name, 1)
    services.update(name, taskDefinition=slow)
    rollout = services.until_rollout(name, "IN_PROGRESS")
    services.ecs.stop_service_deployment(serviceDeploymentArn=rollout["serviceDeploymentArn"], stopType="ABORT")
    stopped = services.until_rollout(name, "STOPPED")
    assert stopped["stoppedAt"] and "rollback" not in stopped
    services.update(name, taskDefinition=good)
    services.steady(name, 1)


def test_a_deployment_is_superseded_by_the_next(services):
    first, third = (services.define(services.idle(text)) for text in ("first", "third"))
    second = services.define(services.idle("second", healthCheck=NEVER))
    name = services.create(first, 2)
    services.steady(name, 2)
    services.update(name, taskDefinition=second)
    services.until_service("tasks of the second", name, lambda s: s["deployments"][0]["pendingCount"]
                           + s["deployments"][0]["runningCount"] == 2)
    updated = services.update(name, taskDefinition=third)
    assert [d["status"] for d in updated["deployments"]] == ["PRIMARY", "ACTIVE", "ACTIVE"]
    services.steady(name, 2)
    assert {task["taskDefinitionArn"] for task in services.tasks(name)} == {third}
    latest, superseded, oldest = services.rollouts(name)
    assert (latest["status"], superseded["status"], oldest["status"]) == ("SUCCESSFUL", "STOPPED", "SUCCESSFUL")
    stopped = services.rollouts(name, status=["STOPPED"])
    assert [each["serviceDeploymentArn"] for each in stopped] == [superseded["serviceDeploymentArn"]]
    after = services.rollouts(name, createdAt={"after": latest["createdAt"]})
    assert len(after) <= 1


def test_a_service_changes_its_mind_many_times_in_a_row(services):
    """Racing updates: the last one wins, and nothing of the others is left."""
    definitions = [services.define(services.idle(str(n))) for n in range(6)]
    name = services.create(definitions[0], 3)
    for definition in definitions[1:]:
        services.update(name, taskDefinition=definition)
    services.update(name, desiredCount=2)
    services.steady(name, 2)
    assert {task["taskDefinitionArn"] for task in services.tasks(name)} == {definitions[-1]}
    assert len(services.tasks(name)) == 2


def test_what_needs_no_new_tasks_is_no_deployment(services):
    definition = services.define(services.idle())
    name = services.create(definition, 1)
    deployment = services.steady(name, 1)["deployments"][0]["id"]
    before = services.arns(name)
    services.update(name, healthCheckGracePeriodSeconds=7)
    services.update(name, deploymentConfiguration={"maximumPercent": 150, "minimumHealthyPercent": 50})
    service = services.update(name, desiredCount=1)
    assert [d["id"] for d in service["deployments"]] == [deployment]
    assert service["healthCheckGracePeriodSeconds"] == 7
    assert service["deploymentConfiguration"]["maximumPercent"] == 150
    services.steady(name, 1)
    assert services.arns(name) == before
    assert len(services.rollouts(name)) == 1


def test_a_protected_task_holds_up_the_end_of_a_rollout(services):
    old, new = (services.define(services.idle(text)) for text in ("old", "new"))
    name = services.create(old, 2)
    services.steady(name, 2)
    held = sorted(services.arns(name))[0]
    services.ecs.update_task_protection(cluster=services.name, tasks=[held], protectionEnabled=True)
    services.update(name, taskDefinition=new)
    services.until_service("all but the protected", name, lambda s: len(s["deployments"]) == 2 and (
        s["deployments"][0]["runningCount"] == 2 and s["deployments"][1]["runningCount"] == 1))
    assert held in services.arns(name)
    services.until_service("the gate by its name", name, lambda s: (
        "protect" in s["deployments"][0]["rolloutStateReason"].lower()))
    services.ecs.update_task_protection(cluster=services.name, tasks=[held], protectionEnabled=False)
    services.steady(name, 2)
    assert held not in services.arns(name)


def test_task_sets_are_driven_from_outside(services):
    definition = services.define(services.idle())
    name = services.create(None, 4, deploymentController={"type": "EXTERNAL"})
    made = services.service(name)
    assert made["deploymentController"] == {"type": "EXTERNAL"}
    assert made["taskSets"] == [] and made["deployments"] == []
    common = {"cluster": services.name, "service": name}

    def create(**more):
        return services.ecs.create_task_set(
            **common, taskDefinition=definition, launchType="FARGATE", networkConfiguration=services.network(),
            **more)["taskSet"]

    def until(task_set, what):
        def there():
            found = only(services.ecs.describe_task_sets(**common, taskSets=[task_set])["taskSets"])
            return found if what(found) else None
        return wait_for(f"{task_set}", there, 40)

    stable = lambda running: lambda each: (each["runningCount"] == running and each["pendingCount"] == 0
                                           and each["stabilityStatus"] == "STEADY_STATE")
    blue = create(scale={"value": 100, "unit": "PERCENT"}, externalId="blue", tags=[{"key": "a", "value": "b"}])
    assert blue["id"].startswith("ecs-svc/") and blue["taskSetArn"].endswith(f"/{services.name}/{name}/{blue['id']}")
    assert (blue["status"], blue["externalId"], blue["stabilityStatus"]) == ("ACTIVE", "blue", "STABILIZING")
    assert blue["scale"] == {"value": 100.0, "unit": "PERCENT"} and blue["computedDesiredCount"] == 4
    until(blue["id"], stable(4))
    assert only(services.ecs.update_service_primary_task_set(
        **common, primaryTaskSet=blue["id"])["taskSet"]["status"].split()) == "PRIMARY"
    green = create()
    assert (green["computedDesiredCount"], green["scale"]) == (0, {"value": 0.0, "unit": "PERCENT"})
    scaled = services.ecs.update_task_set(**common, taskSet=green["taskSetArn"], scale={"value": 50, "unit": "PERCENT"})
    assert scaled["taskSet"]["computedDesiredCount"] == 2
    until(green["id"], stable(2))
    service = services.service(name)
    assert (service["runningCount"], len(service["taskSets"])) == (6, 2)
    green_tasks = services.ecs.list_tasks(cluster=services.name, startedBy=green["id"])["taskArns"]
    assert len(green_tasks) == 2
    services.saw(name, f"taskSet {green['id']}")
    services.ecs.update_service_primary_task_set(**common, primaryTaskSet=green["id"])
    found = services.ecs.describe_task_sets(**common, include=["TAGS"])["taskSets"]
    assert {each["id"]: each["status"] for each in found} == {blue["id"]: "ACTIVE", green["id"]: "PRIMARY"}
    assert {each["id"]: each.get("tags", []) for each in found}[blue["id"]] == [{"key": "a", "value": "b"}]
    refused(services.ecs.delete_task_set, "InvalidParameterException", **common, taskSet=green["id"])
    gone = services.ecs.delete_task_set(**common, taskSet=blue["id"], force=True)["taskSet"]
    assert gone["status"] == "DRAINING"
    services.until_service("only green", name, lambda s: [t["id"] for t in s["taskSets"]] == [green["id"]]
                           and s["runningCount"] == 2)
    services.update(name, desiredCount=2)
    until(green["id"], stable(1))
    refused(services.ecs.delete_task_set, "TaskSetNotFoundException", **common, taskSet=blue["id"])
    missing = services.ecs.describe_task_sets(**common, taskSets=["ecs-svc/1"])
    assert only(missing["failures"])["reason"] == "MISSING"


def test_a_killed_container_in_the_midst_of_a_rollout_changes_nothing_of_its_end(services):
    import os
    import signal
    old, new = (services.define(services.idle(text)) for text in ("old", "new"))
    name = services.create(old, 3)
    services.steady(name, 3)
    victim = sorted(services.arns(name))[0]
    pid = process_of(victim)
    services.update(name, taskDefinition=new)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    services.steady(name, 3, 120)
    assert {task["taskDefinitionArn"] for task in services.tasks(name)} == {new}
    assert services.rollouts(name)[0]["status"] == "SUCCESSFUL"
