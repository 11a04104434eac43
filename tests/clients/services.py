"""Words that the tests of services share."""

import json
import re
import threading
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from conftest import Cluster, unique, wait_for

# A process that ends at once when it is asked to: process 1 of a container sees to that itself.
IDLE = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"


def refused(call, code, part="", **arguments):
    with pytest.raises(ClientError) as error:
        call(**arguments)
    found = error.value.response["Error"]
    assert found["Code"] == code, found
    assert part in found["Message"], found
    return found


class Beside:
    """Does one step again and again, all the while, in a thread of its own."""

    def __init__(self, step, pause, begin=lambda: None):
        self.step, self.pause, self.begin = step, pause, begin
        self.over, self.thread = threading.Event(), threading.Thread(target=self.go_on, daemon=True)

    def go_on(self):
        self.begin()
        while not self.over.wait(self.pause):
            self.step()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def files_with(region, *words):
    """What a region keeps of the words: the files that have one of them."""
    folders = [region.data_dir, Path("/run/longshore")]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return with_one_of(words, [*paths, region.data_dir.with_suffix(".up.log")])


def environments_with(word):
    """The processes of this machine whose environment has the word."""
    return with_one_of([word], Path("/proc").glob("[0-9]*/environ"))


def with_one_of(words, paths):
    found = []
    for path in paths:
        try:
            found += [str(path)] if any(word in path.read_bytes() for word in words) else []
        except OSError:
            continue  # namespaces, and what is gone by now
    return found


def only(items):
    assert len(items) == 1, items
    return next(iter(items))


def brief(message):
    """A service event without its ids and names: what it says."""
    message = re.sub(r"\(task [0-9a-f]{32}\)", "(task)", message)
    message = re.sub(r"\(deployment ecs-svc/\d+\)", "(deployment)", message)
    return re.sub(r"^\(service [^),]+\) ", "", message)


class ServiceCluster(Cluster):
    """A cluster of one test's own, and the services that the test made in it or in `default`."""

    def __init__(self, region, box):
        super().__init__(region, box)
        self.made = []

    def network(self):
        return {"awsvpcConfiguration": {"subnets": self.subnets[:1], "assignPublicIp": "ENABLED"}}

    def idle(self, text="", **more):
        return self.container("sh", "-c", f"{IDLE} # {text}", stopTimeout=2, **more)

    def web(self, text, **more):
        """Answers `text` on port 80."""
        script = f"mkdir -p /tmp/w; echo {text} > /tmp/w/index.html; trap 'exit 0' TERM; httpd -f -p 80 -h /tmp/w & wait"
        return self.container("sh", "-c", script, stopTimeout=2, **more)

    def create(self, definition=None, count=1, fargate=True, cluster=None, **more):
        """Creates a service; its name."""
        name = more.pop("serviceName", None) or unique("s")
        if definition:
            more["taskDefinition"] = definition
            if fargate:
                more.setdefault("networkConfiguration", self.network())
            if "capacityProviderStrategy" not in more:
                more.setdefault("launchType", "FARGATE" if fargate else "EC2")
        if count is not None:
            more["desiredCount"] = count
        where = cluster or self.name
        made = self.ecs.create_service(cluster=where, serviceName=name, **more)["service"]
        self.made.append((where, name))
        assert (made["serviceName"], made["status"], made["runningCount"]) == (name, "ACTIVE", 0)
        return name

    def update(self, name, cluster=None, **more):
        return self.ecs.update_service(cluster=cluster or self.name, service=name, **more)["service"]

    def service(self, name, cluster=None, **more):
        answer = self.ecs.describe_services(cluster=cluster or self.name, services=[name], **more)
        assert not answer["failures"], answer["failures"]
        return only(answer["services"])

    def until_service(self, what, name, condition, seconds=60, cluster=None):
        """The service once `condition(service)` is true; what it said last if that never comes."""
        def there():
            service = self.service(name, cluster)
            return service if condition(service) else None
        try:
            return wait_for(what, there, seconds)
        except pytest.fail.Exception:
            last = json.dumps(self.service(name, cluster), default=str, indent=1)
            stopped = json.dumps(self.tasks(name, "STOPPED", cluster)[:2], default=str)
            pytest.fail(f"waited {seconds} s for {what}\n{last}\n{stopped}\n{self.region.tail()}")

    def steady(self, name, count=None, seconds=60, cluster=None):
        """The service once its one deployment is complete with all its tasks."""
        def complete(service):
            deployment, *others = service["deployments"]
            return (not others and deployment["rolloutState"] == "COMPLETED"
                    and service["runningCount"] == service["desiredCount"] and service["pendingCount"] == 0
                    and (count is None or service["runningCount"] == count))
        return self.until_service("a steady state", name, complete, seconds, cluster)

    def tasks(self, name, status="RUNNING", cluster=None):
        """The service's tasks whose desired status is `status`, oldest first."""
        arns = [arn for page in self.ecs.get_paginator("list_tasks").paginate(
                    cluster=cluster or self.name, serviceName=name, desiredStatus=status) for arn in page["taskArns"]]
        found = []
        for start in range(0, len(arns), 100):
            found += self.ecs.describe_tasks(cluster=cluster or self.name, tasks=arns[start:start + 100],
                                             include=["TAGS"])["tasks"]
        return sorted(found, key=lambda task: task["createdAt"])

    def arns(self, name, status="RUNNING", cluster=None):
        return {task["taskArn"] for task in self.tasks(name, status, cluster)}

    def messages(self, name, cluster=None):
        """What the events say, oldest first."""
        return [event["message"] for event in reversed(self.service(name, cluster)["events"])]

    def saw(self, name, part, seconds=30, cluster=None):
        return wait_for(f"an event with {part!r}",
                        lambda: next((m for m in self.messages(name, cluster) if part in m), None), seconds)

    def rollouts(self, name, **more):
        """The service's deployments as records, latest first."""
        listed = self.ecs.list_service_deployments(cluster=self.name, service=name, **more)["serviceDeployments"]
        arns = [each["serviceDeploymentArn"] for each in listed]
        if not arns:
            return []
        answer = self.ecs.describe_service_deployments(serviceDeploymentArns=arns[:20])
        assert answer["failures"] == [], answer
        by_arn = {each["serviceDeploymentArn"]: each for each in answer["serviceDeployments"]}
        return [by_arn[arn] for arn in arns[:20]]

    def until_rollout(self, name, status, seconds=60):
        """The latest rollout once its status is `status`."""
        def there():
            latest = self.rollouts(name)[0]
            return latest if latest["status"] == status else None
        try:
            return wait_for(f"a rollout that is {status}", there, seconds)
        except pytest.fail.Exception:
            last = json.dumps([self.rollouts(name)[0], self.service(name)], default=str, indent=1)
            pytest.fail(f"waited {seconds} s for a rollout that is {status}\n{last}\n{self.region.tail()}")

    def fetch(self, task, seconds=5):
        with urllib.request.urlopen(f"http://{self.address(task)}/", timeout=seconds) as answer:
            return answer.read().decode().strip()

    def clean_up(self):
        """Nothing of the test stays: the shared instance has its room again."""
        for cluster, name in self.made:
            try:
                self.ecs.delete_service(cluster=cluster, service=name, force=True)
            except ClientError as error:
                assert error.response["Error"]["Code"] in ("ServiceNotFoundException", "ClusterNotFoundException"), error
        for cluster, name in self.made:
            try:
                left = self.arns(name, "RUNNING", cluster)
            except ClientError:
                continue
            protected = [arn for arn in left if self.is_protected(cluster, arn)]
            if protected:
                self.ecs.update_task_protection(cluster=cluster, tasks=protected, protectionEnabled=False)
            for arn in left:
                self.until(arn, "STOPPED", 30, cluster)

    def is_protected(self, cluster, arn):
        found = self.ecs.get_task_protection(cluster=cluster, tasks=[arn])["protectedTasks"]
        return bool(found) and found[0]["protectionEnabled"]


def process_of(arn):
    """The pid, here, of process 1 of a task of one container."""
    task = arn.rsplit("/", 1)[1]

    def look():
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if task not in (entry / "cgroup").read_text():
                    continue
                ids = re.search(r"^NSpid:\s+(.*)$", (entry / "status").read_text(), re.M).group(1).split()
            except (OSError, AttributeError):
                continue
            if len(ids) > 1 and ids[-1] == "1":
                return int(entry.name)
        return None
    return wait_for(f"the process of {task}", look, 10)


def processes_with(marker):
    """How many containers' first processes have `marker` in their command."""
    count = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if marker.encode() not in (entry / "cmdline").read_bytes():
                continue
            ids = re.search(r"^NSpid:\s+(.*)$", (entry / "status").read_text(), re.M).group(1).split()
        except (OSError, AttributeError):
            continue
        count += len(ids) > 1 and ids[-1] == "1"
    return count
