"""One real region for the whole run, reached by unmodified clients on a real port.

Every test makes its own cluster, families and log groups, so that tests do not see each other.
A test that must break the region (crash, restart) starts its own with `start_region`.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path

import boto3
import botocore.config
import pytest

import images

REPO = Path(__file__).resolve().parents[2]

# The longest tests, alone in their files, begin before the others when files are shared among workers.
FIRST = ["test_service_kills.py", "test_terraform_vpc.py", "test_upgrade.py", "test_production_hosts.py", "test_terraform_elb.py",
         "test_flow_logs.py", "test_terraform_https.py", "test_scaling.py", "test_terraform_endpoints.py", "test_terraform_identity.py"]


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


def binary():
    named = os.environ.get("LONGSHORE_BIN")
    if named:
        return named
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))
    for profile in ["release", "debug"]:
        if (target / profile / "longshore").exists():
            return str(target / profile / "longshore")
    return shutil.which("longshore") or pytest.exit("no longshore binary: build it first", 2)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition, seconds=30, step=0.05):
    """Returns the first true value of `condition()`; fails with `what` when time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(step)
    pytest.fail(f"waited {seconds} s for {what}")


class Region:
    """A running `longshore up` and ready-made clients for it."""

    def __init__(self, data_dir, port, *extra):
        self.data_dir, self.port, self.extra = Path(data_dir), port, extra
        self.endpoint = f"http://127.0.0.1:{port}"
        self.process = None

    def up(self):
        self.log = open(self.data_dir.with_suffix(".up.log"), "ab")
        # One after the other: a region takes a range of addresses that nobody on the machine uses yet.
        with open(Path(tempfile.gettempdir()) / "longshore-tests.lock", "w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            self.process = subprocess.Popen(
                [binary(), "up", "--data-dir", str(self.data_dir), "--listen", f"127.0.0.1:{self.port}",
                 "--region", "eu-north-1", "--account-keys", "swordfish",
                 # The tests' machine is a small one, and their tasks sleep.
                 "--instance-attribute", "longshore.fargate-cpu-percent=2000", *self.extra],
                stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
            wait_for("the region's health", self.is_healthy, 30)
            wait_for("the agent, or its end", lambda: any(
                words in self.tail() for words in ("agent ready", "going on without it")), 30)
        self.variables = self.env()
        return self

    def is_healthy(self):
        assert self.process.poll() is None, self.tail()
        try:
            with urllib.request.urlopen(self.endpoint + "/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def tail(self):
        return self.data_dir.with_suffix(".up.log").read_text(errors="replace")[-4000:]

    def children(self):
        """Pids of the supervisor's direct children by subcommand."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except (OSError, IndexError):
                continue
            if parent == self.process.pid and len(words) > 1:
                found[words[1].decode()] = int(entry.name)
        return found

    def run(self, *words, check=True, **more):
        return subprocess.run([binary(), *words, "--data-dir", str(self.data_dir)], check=check,
                              capture_output=True, text=True, timeout=120, **more)

    def env(self):
        lines = self.run("env").stdout.splitlines()
        pairs = [line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export ")]
        return {name: value.strip("'\"") for name, value in pairs}

    def shell(self):
        return {**os.environ, **self.variables, "AWS_PAGER": "", "PATH": str(Path(sys.executable).parent) + ":" + os.environ["PATH"]}

    def aws(self, *words, check=True, **more):
        """The AWS CLI; its parsed answer, or the finished process when `check` is off."""
        done = subprocess.run(["aws", *words, "--output", "json"], capture_output=True, text=True,
                              env=self.shell(), timeout=300, **more)
        if not check:
            return done
        assert done.returncode == 0, f"aws {' '.join(words)}: {done.stderr}\n{self.tail()}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def client(self, service, account=None):
        keys = {"aws_access_key_id": self.variables["AWS_ACCESS_KEY_ID"],
                "aws_secret_access_key": self.variables["AWS_SECRET_ACCESS_KEY"]}
        if account:
            keys = {"aws_access_key_id": account, "aws_secret_access_key": "swordfish"}
        # Some operations of Cloud Map go to a host of another name, which an address has none of.
        config = botocore.config.Config(retries={"max_attempts": 0}, parameter_validation=True, inject_host_prefix=False)
        return boto3.client(service, endpoint_url=self.endpoint, region_name="eu-north-1", config=config, **keys)

    def down(self):
        if self.process and self.process.poll() is None:
            self.run("down", check=False)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGKILL)
                self.process.wait()


@pytest.fixture(scope="session")
def start_region(tmp_path_factory):
    started = []

    def start(*extra, name=None, port=None, image=None):
        """A region of its own; `image` is what busybox is called in its registry."""
        folder = tmp_path_factory.mktemp(name or "region")
        region = Region(folder / "data", port or free_port(), *extra).up()
        started.append(region)
        if image:
            region.run("image", "load", str(images.docker_save(folder / "box.tar", image)))
        return region

    yield start
    for region in started:
        region.down()


@pytest.fixture(scope="session")
def region(start_region):
    return start_region(image="box:1")


@pytest.fixture
def ecs(region):
    return region.client("ecs")


@pytest.fixture
def logs(region):
    return region.client("logs")


@pytest.fixture
def ecr(region):
    return region.client("ecr")


@pytest.fixture
def box(region):
    """A reference to the busybox image in the region's registry."""
    return f"127.0.0.1:{region.port}/box:1"


def unique(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


class Cluster:
    """A cluster of one test's own, with the words that most tests need."""

    def __init__(self, region, box):
        self.region, self.box = region, box
        self.ecs, self.logs = region.client("ecs"), region.client("logs")
        self.name = unique("c")
        self.group = "/tests/" + self.name
        self.ecs.create_cluster(clusterName=self.name)
        self.logs.create_log_group(logGroupName=self.group)
        ec2 = region.client("ec2")
        default = [{"Name": "default-for-az", "Values": ["true"]}]
        self.subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets(Filters=default)["Subnets"]]

    def container(self, *command, name="main", **more):
        return {"name": name, "image": self.box, "essential": True, "command": list(command),
                "logConfiguration": {"logDriver": "awslogs", "options": {
                    "awslogs-group": self.group, "awslogs-region": "eu-north-1", "awslogs-stream-prefix": "t"}},
                **more}

    def define(self, *containers, fargate=True, **more):
        kind = {"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512",
                "executionRoleArn": "ecsTaskExecutionRole"}
        if not fargate:
            kind = {"requiresCompatibilities": ["EC2"]}
            containers = [{"memory": 64, **container} for container in containers]
        answer = self.ecs.register_task_definition(
            family=unique("f"), containerDefinitions=list(containers), **{**kind, **more})
        return answer["taskDefinition"]["taskDefinitionArn"]

    def run(self, definition, fargate=True, cluster=None, **more):
        """Runs it; answers the started tasks' ARNs."""
        if fargate:
            more.setdefault("launchType", "FARGATE")
            more.setdefault("networkConfiguration", {"awsvpcConfiguration": {
                "subnets": self.subnets[:1], "assignPublicIp": "ENABLED"}})
        else:
            more.setdefault("launchType", "EC2")
        answer = self.ecs.run_task(cluster=cluster or self.name, taskDefinition=definition, **more)
        assert not answer["failures"], answer["failures"]
        return [task["taskArn"] for task in answer["tasks"]]

    def describe(self, arn, cluster=None):
        answer = self.ecs.describe_tasks(cluster=cluster or self.name, tasks=[arn], include=["TAGS"])
        assert not answer["failures"], answer["failures"]
        return answer["tasks"][0]

    def until(self, arn, status, seconds=60, cluster=None):
        """The task once its lastStatus is `status`; a task that stops before fails the test."""
        def there():
            task = self.describe(arn, cluster)
            if task["lastStatus"] == "STOPPED" and status != "STOPPED":
                pytest.fail(f"stopped: {task.get('stoppedReason')} {task['containers']}")
            return task if task["lastStatus"] == status else None
        try:
            return wait_for(f"{arn} {status}", there, seconds)
        except pytest.fail.Exception:
            pytest.fail(f"{json.dumps(self.describe(arn, cluster), default=str)}\n{self.region.tail()}")

    def address(self, task):
        details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
        return details["privateIPv4Address"]

    def lines(self, arn, container="main"):
        stream = f"t/{container}/{arn.rsplit('/', 1)[1]}"
        events = self.logs.get_log_events(logGroupName=self.group, logStreamName=stream, startFromHead=True)
        return [event["message"] for event in events["events"]]

    def output(self, *command, seconds=60, **more):
        """Runs one container to its end on Fargate; its lines and the stopped task."""
        arn, = self.run(self.define(self.container(*command, **more)))
        task = self.until(arn, "STOPPED", seconds)
        return self.lines(arn), task


@pytest.fixture
def cluster(region, box):
    return Cluster(region, box)


@pytest.fixture
def services(region, box):
    """A cluster whose services are gone after the test."""
    from services import ServiceCluster
    cluster = ServiceCluster(region, box)
    yield cluster
    cluster.clean_up()


@pytest.fixture
def amazon(region, box):
    """A cluster for hosts of Amazon's agent, all of which end with the test."""
    from amazon_cluster import AmazonCluster
    cluster = AmazonCluster(region, box)
    yield cluster
    cluster.clean_up()
