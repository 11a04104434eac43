"""The region is killed in the midst of rollouts, a hundred times: each ends right.

Right means: what was asked for last is there, as often as was asked, and nothing else of the service is left,
neither in the region's answers nor among the machine's processes; and on the way there were never fewer
tasks than the healthy floor.
"""

import json
import os
import random
import signal
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import images
from conftest import wait_for
from services import Beside, ServiceCluster, processes_with

KILLS = int(os.environ.get("LONGSHORE_ROLLOUT_KILLS", "100"))
SEED = int(os.environ.get("LONGSHORE_SEED", "0")) or random.randrange(10**9)
TASKS = 3


@pytest.fixture
def own(start_region, tmp_path):
    region = start_region(name="rollouts")
    region.run("image", "load", str(images.docker_save(tmp_path / "box.tar", "box:1")))
    yield ServiceCluster(region, f"127.0.0.1:{region.port}/box:1")
    region.down()


class Floor(Beside):
    """Counts, all the while, how many of the service's containers are there: the kernel's view, not the region's."""

    def __init__(self, marker):
        super().__init__(self.watch, 0.03)
        self.marker, self.fewest = marker, 99

    def watch(self):
        self.fewest = min(self.fewest, processes_with(self.marker))


def pid_of(region):
    return json.loads((region.data_dir / "region.json").read_text())["pid"]


def kill(region):
    """Ends the region process, wherever it is in its work, and waits until its successor answers."""
    before = pid_of(region)
    os.kill(before, signal.SIGKILL)
    wait_for("another region", lambda: pid_of(region) != before and region.is_healthy(), 30, 0.01)


def insist(call):
    """What a client does whose request was cut off: it asks again until it is answered."""
    def ask():
        try:
            return call()
        except (BotoCoreError, OSError):
            return None
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                raise
            return None
    return wait_for("an answer", ask, 30, 0.02)


def test_a_hundred_kills_in_the_midst_of_rollouts_change_nothing_of_their_ends(own):
    print(f"seed {SEED}, LONGSHORE_SEED={SEED} sees it again")
    chance = random.Random(SEED)
    region = own.region
    marker = f"rollout-{SEED}"
    good = [own.define(own.idle(f"{marker} {n}")) for n in range(2)]
    bad = own.define(own.container("no-such-command", marker))
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    name = own.create(good[0], TASKS, deploymentConfiguration=breaker)
    own.steady(name, TASKS)
    at, kills, rounds, began = 0, 0, 0, time.monotonic()
    with Floor(marker) as floor:
        while kills < KILLS:
            rounds += 1
            kind = chance.choices(["roll", "fail", "stop", "twice"], [6, 1, 2, 1])[0]
            target = bad if kind == "fail" else good[1 - at]
            insist(lambda: own.update(name, taskDefinition=target))
            if kind in ("roll", "twice"):
                at = 1 - at
            for _ in range(min(KILLS - kills, chance.randint(2, 7))):
                time.sleep(chance.choice([0, chance.uniform(0, 0.05), chance.uniform(0, 0.5)]))
                kill(region)
                kills += 1
            if kind == "twice":
                at = 1 - at
                insist(lambda: own.update(name, taskDefinition=good[at]))
            if kind == "stop":
                at = stop(own, name, at, good)
            end_is_right(own, name, good[at], marker, f"seed {SEED}, round {rounds} ({kind}), {kills} kills")
    print(f"{kills} kills in {rounds} rollouts, {time.monotonic() - began:.0f} s; never fewer than {floor.fewest} tasks")
    assert floor.fewest >= TASKS, "never fewer than the healthy floor"


def stop(own, name, at, good):
    """Asks for the rollout to be undone, if it is still under way; which of the two is in charge then."""
    rollout = insist(lambda: own.rollouts(name))[0]
    try:
        insist(lambda: own.ecs.stop_service_deployment(serviceDeploymentArn=rollout["serviceDeploymentArn"]))
    except ClientError as error:
        assert error.response["Error"]["Code"] == "ConflictException", error
    final = wait_for("its end", lambda: (latest := insist(lambda: own.rollouts(name))[0]) and latest["status"] in (
        "SUCCESSFUL", "ROLLBACK_SUCCESSFUL") and latest, 60)
    return 1 - at if final["status"] == "SUCCESSFUL" else at


def end_is_right(own, name, definition, marker, when):
    def right():
        service = own.service(name)
        deployment, *others = service["deployments"]
        return (not others and deployment["rolloutState"] == "COMPLETED" and service["runningCount"] == TASKS
                and service["pendingCount"] == 0 and deployment["taskDefinition"] == definition)
    try:
        wait_for("the right end", lambda: insist(lambda: [right()])[0], 90)
    except pytest.fail.Exception:
        ends = [(task["taskArn"], task.get("stoppedReason"), [each.get("reason") for each in task["containers"]])
                for task in own.tasks(name, "STOPPED")][-8:]
        last = json.dumps([own.service(name), own.rollouts(name)[:2], ends], default=str, indent=1)
        pytest.fail(f"{when}: {last}\n{own.region.tail()}")
    tasks = own.tasks(name)
    assert [task["taskDefinitionArn"] for task in tasks] == [definition] * TASKS, when
    assert len({own.address(task) for task in tasks}) == TASKS, when
    wait_for(f"no container too many ({when})", lambda: processes_with(marker) == TASKS, 20)
