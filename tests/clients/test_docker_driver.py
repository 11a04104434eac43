"""Containers of tasks run by a Docker Engine: `longshore up --driver docker`."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import images
from conftest import Cluster, binary, wait_for
from docker_engine import DockerEngine
from services import IDLE, ServiceCluster
from test_task_roles import make_role


@pytest.fixture(scope="module")
def engine():
    engine = DockerEngine("--add-runtime", "other=/usr/sbin/runc")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def host(start_region, engine):
    region = start_region("--driver", "docker", "--docker-host", f"unix://{engine.socket}", name="docker", image="box:1")
    yield region
    region.down()
    assert engine.left() == []


@pytest.fixture
def own(host):
    """A cluster's words for tasks in `default`, where the host is."""
    return InDefault(host, f"127.0.0.1:{host.port}/box:1")


@pytest.fixture
def services(host):
    cluster = ServiceCluster(host, f"127.0.0.1:{host.port}/box:1")
    yield cluster
    cluster.clean_up()


class InDefault(Cluster):
    def define(self, *containers, **more):
        return super().define(*containers, fargate=False, **more)

    def run(self, definition, **more):
        return super().run(definition, fargate=False, cluster="default", **more)

    def until(self, arn, status, seconds=60, cluster=None):
        return super().until(arn, status, seconds, cluster="default")

    def start(self, *command, task=None, **more):
        """Runs one container; the task once it runs."""
        arn, = self.run(self.define(self.container(*command, **more), **task or {}))
        return self.until(arn, "RUNNING")

    def to_end(self, *command, task=None, **more):
        """Its lines, and the stopped task."""
        arn, = self.run(self.define(self.container(*command, **more), **task or {}))
        stopped = self.until(arn, "STOPPED")
        return self.lines(arn), stopped

    def stop(self, task):
        self.ecs.stop_task(cluster="default", task=task["taskArn"])
        return self.until(task["taskArn"], "STOPPED")


def get(url, seconds=5):
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return answer.read().decode().strip()


def test_a_task_runs_to_its_end_with_its_lines_and_its_code(own, engine):
    script = "echo one; echo two >&2; echo $WORD; pwd; id -u; printf last; exit 7"
    lines, task = own.to_end("sh", "-c", script, environment=[{"name": "WORD", "value": "three"}],
                             workingDirectory="/tmp", user="app")
    assert sorted(lines) == sorted(["one", "two", "three", "/tmp", "1000", "last"])
    container, = task["containers"]
    assert (container["exitCode"], task["stopCode"]) == (7, "EssentialContainerExited")
    assert container["imageDigest"].startswith("sha256:")
    wait_for("its container to go", lambda: engine.containers(task["taskArn"]) == [])


def test_a_long_line_is_one_event_and_many_lines_keep_their_order(own):
    script = "head -c 100000 /dev/zero | tr '\\0' x; echo; seq 1 3000"
    lines, _ = own.to_end("sh", "-c", script)
    assert lines[0] == "x" * 100_000
    assert lines[1:] == [str(number) for number in range(1, 3001)]


def test_a_service_answers_at_a_port_of_the_host_and_leaves_it(services):
    container = services.container(
        "sh", "-c", "echo hello > /www/index.html; httpd -f -p 80 -h /www", stopTimeout=2,
        portMappings=[{"containerPort": 80, "name": "web"}])
    definition = services.define(container, fargate=False, networkMode="bridge")
    name = services.create(definition, count=2, fargate=False, cluster="default")
    arns = wait_for("both tasks", lambda: (
        lambda found: found if len(found) == 2 and all(
            services.describe(arn, "default")["lastStatus"] == "RUNNING" for arn in found) else None)(
        services.ecs.list_tasks(cluster="default", serviceName=name)["taskArns"]), 60)
    ports = set()
    for arn in arns:
        binding, = services.describe(arn, "default")["containers"][0]["networkBindings"]
        assert (binding["containerPort"], binding["protocol"], binding["bindIP"]) == (80, "tcp", "0.0.0.0")
        assert get(f"http://127.0.0.1:{binding['hostPort']}/") == "hello"
        ports.add(binding["hostPort"])
    assert len(ports) == 2
    services.ecs.delete_service(cluster="default", service=name, force=True)
    for arn in arns:
        services.until(arn, "STOPPED", cluster="default")
    for port in ports:
        with pytest.raises(urllib.error.URLError):
            get(f"http://127.0.0.1:{port}/")


def test_a_fixed_port_that_is_taken_is_named(own):
    task = own.start("sh", "-c", "httpd -f -p 80 -h /www", portMappings=[{"containerPort": 80}], stopTimeout=2)
    port = task["containers"][0]["networkBindings"][0]["hostPort"]
    # Placement does not know of it: the port is dynamic to the region only.
    arn, = own.run(own.define(own.container("sleep", "60", portMappings=[{"containerPort": 80, "hostPort": port}])))
    stopped = own.until(arn, "STOPPED")
    assert f"host port {port}/tcp is already in use" in stopped["containers"][0]["reason"]
    own.stop(task)


def test_a_stop_is_asked_for_and_then_enforced(own):
    task = own.start("sh", "-c", "trap 'echo asked; exit 42' TERM; echo ready; while :; do sleep 0.1; done", stopTimeout=20)
    wait_for("it to be ready", lambda: "ready" in own.lines(task["taskArn"]))
    stopped = own.stop(task)
    assert stopped["containers"][0]["exitCode"] == 42
    assert own.lines(task["taskArn"]) == ["ready", "asked"]
    task = own.start("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done", stopTimeout=2)
    wait_for("it to be deaf", lambda: own.lines(task["taskArn"]))
    assert own.stop(task)["containers"][0]["exitCode"] == 137


def test_a_container_goes_on_without_its_agent_and_no_code_is_lost(own, host, engine):
    go_on = own.start("sh", "-c", f"echo begun; {IDLE}", stopTimeout=2)
    ends = own.start("sh", "-c", "trap 'echo ended; exit 9' USR1; echo begun; while :; do sleep 0.1; done")
    wait_for("both to begin", lambda: all(own.lines(task["taskArn"]) for task in (go_on, ends)))
    before, = engine.containers(go_on["taskArn"])
    # The supervisor does not start another one meanwhile.
    os.kill(host.process.pid, signal.SIGSTOP)
    try:
        os.kill(host.children()["agent"], signal.SIGKILL)
        name = engine.containers(ends["taskArn"])[0]["Id"]
        engine.ask("POST", f"/containers/{name}/kill?signal=USR1", parse=False)
        wait_for("its end", lambda: engine.containers(ends["taskArn"])[0]["State"]["Status"] == "exited")
    finally:
        os.kill(host.process.pid, signal.SIGCONT)
    stopped = own.until(ends["taskArn"], "STOPPED")
    assert stopped["containers"][0]["exitCode"] == 9
    assert own.lines(ends["taskArn"]) == ["begun", "ended"]
    after, = engine.containers(go_on["taskArn"])
    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])
    assert own.describe(go_on["taskArn"], "default")["lastStatus"] == "RUNNING"
    assert own.stop(go_on)["containers"][0]["exitCode"] == 0
    assert own.lines(go_on["taskArn"]) == ["begun"]


def test_what_cannot_be_pulled_or_started_is_said(own, host):
    missing = {**own.container("true"), "image": f"127.0.0.1:{host.port}/nothing:1"}
    arn, = own.run(own.define(missing))
    stopped = own.until(arn, "STOPPED")
    assert stopped["stopCode"] == "TaskFailedToStart"
    reason = stopped["containers"][0]["reason"]
    assert reason.startswith("CannotPullContainerError: failed to resolve ref") and "nothing:1" in reason, reason
    assert "CannotPullContainerError" in stopped["stoppedReason"]
    _, stopped = own.to_end("/nowhere/program")
    reason = stopped["containers"][0]["reason"]
    assert reason.startswith("CannotStartContainerError: Error response from daemon: "), reason
    assert "/nowhere/program" in reason
    _, stopped = own.to_end("true", user="nobody-knows")
    assert "nobody-knows" in stopped["containers"][0]["reason"]


def test_an_image_is_pulled_as_the_tasks_account(own, host):
    """The region's registry has nothing for those who show nothing; the name is the cloud's."""
    image = "000000000000.dkr.ecr.eu-north-1.amazonaws.com/box:1"
    arn, = own.run(own.define({**own.container("echo", "here"), "image": image}))
    stopped = own.until(arn, "STOPPED")
    assert stopped["containers"][0].get("exitCode") == 0, stopped
    assert own.lines(arn) == ["here"]


def test_containers_of_a_task_share_volumes_and_find_each_other(own, host, tmp_path):
    """A volume is filled from the image, links are names, and the order is that of the definition."""
    layers = [images.busybox_layer({"data/seed": b"seeded\n"})]
    host.run("image", "load", str(images.docker_save(tmp_path / "seed.tar", "seed:1", layers, Volumes={"/data": {}})))
    seed = {**own.container("sh", "-c", "cat /data/seed; echo more > /shared/word; exit 0", name="first"),
            "image": f"127.0.0.1:{host.port}/seed:1", "essential": False,
            "mountPoints": [{"sourceVolume": "shared", "containerPath": "/shared"},
                            {"sourceVolume": "filled", "containerPath": "/data"}]}
    web = own.container("sh", "-c", "httpd -f -p 80 -h /www", name="web", portMappings=[{"containerPort": 80}], stopTimeout=2)
    reader = own.container(
        "sh", "-c", "cat /shared/word /filled/seed /own; wget -qO- http://site/; echo $SITE_PORT_80_TCP_PORT", name="reader",
        links=["web:site"], dependsOn=[{"containerName": "first", "condition": "SUCCESS"},
                                       {"containerName": "web", "condition": "START"}],
        mountPoints=[{"sourceVolume": "shared", "containerPath": "/shared", "readOnly": True},
                     {"sourceVolume": "filled", "containerPath": "/filled"},
                     {"sourceVolume": "host", "containerPath": "/own"}])
    (tmp_path / "file").write_text("of the host\n")
    volumes = [{"name": "shared"}, {"name": "filled", "dockerVolumeConfiguration": {"scope": "task"}},
               {"name": "host", "host": {"sourcePath": str(tmp_path / "file")}}]
    arn, = own.run(own.define(seed, web, reader, volumes=volumes, networkMode="bridge"))
    stopped = own.until(arn, "STOPPED")
    assert own.lines(arn, "first") == ["seeded"], [stopped["stoppedReason"], stopped["containers"]]
    assert own.lines(arn, "reader") == ["more", "seeded", "of the host", "it works", "80"]


def test_a_container_asks_its_agent_for_metadata_and_credentials(own, host):
    role = make_role(host)
    script = ("U=$ECS_CONTAINER_METADATA_URI_V4; wget -qO- $U; echo; wget -qO- $U/task; echo; "
              # Until the agent has seen that the container runs, there are none.
              "until S=$(wget -qO- $U/stats) && test \"$S\" != null; do sleep 0.2; done; echo \"$S\"; "
              "wget -qO- http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI; echo; "
              "wget -T 3 -qO- http://169.254.169.254/ 2>&1 || echo closed")
    lines, task = own.to_end("sh", "-c", script, task={"taskRoleArn": role, "networkMode": "bridge"},
                             portMappings=[{"containerPort": 80}])
    assert lines[-1] == "closed" and task["containers"][0]["exitCode"] == 0, lines
    container, whole, stats, credentials = (json.loads(line) for line in lines[:4])
    assert container["DockerId"] == task["containers"][0]["runtimeId"]
    assert container["Networks"][0]["NetworkMode"] == "bridge" and container["Networks"][0]["IPv4Addresses"]
    assert whole["TaskARN"] == task["taskArn"]
    assert stats["memory_stats"]["usage"] > 0 and stats["networks"]
    assert credentials["RoleArn"] == role and credentials["Token"]
    # Of the host's own network too.
    lines, task = own.to_end("sh", "-c", "wget -qO- $ECS_CONTAINER_METADATA_URI_V4/task", task={"networkMode": "host"})
    assert json.loads(lines[0])["TaskARN"] == task["taskArn"]


def answered(*before, port):
    """Whether the agent's address says anything at this port, to who connects there by `before`."""
    script = (f"import socket; s = socket.create_connection(('169.254.170.2', {port}), 5); s.settimeout(5); "
              "s.sendall(b'GET /v4/none HTTP/1.1\\r\\nHost: agent\\r\\nConnection: close\\r\\n\\r\\n'); print(len(s.recv(999)))")
    asked = subprocess.run([*before, sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    # It is there, and ends the connection.
    assert asked.returncode == 0 or "ConnectionResetError" in asked.stderr, asked.stderr
    return asked.returncode == 0 and int(asked.stdout) > 0


@pytest.mark.parametrize("port", [80, 4566])
def test_a_neighbour_of_the_host_is_not_heard_at_the_agents_address(host, port):
    name = f"lsnext{port}"
    inside = ["ip", "netns", "exec", name]
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for command in (["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name],
                        ["ip", "address", "add", "198.18.77.1/30", "dev", name], ["ip", "link", "set", name, "up"],
                        [*inside, "ip", "address", "add", "198.18.77.2/30", "dev", "eth0"],
                        [*inside, "ip", "link", "set", "eth0", "up"],
                        [*inside, "ip", "route", "add", "169.254.170.2", "via", "198.18.77.1"]):
            subprocess.run(command, check=True)
        assert answered(port=port), "the host itself"
        assert not answered(*inside, port=port)
    finally:
        subprocess.run(["ip", "link", "delete", name], check=False)
        subprocess.run(["ip", "netns", "delete", name], check=True)


def test_a_network_that_somebody_removed_is_made_anew(own, engine):
    """As by `docker network prune`, while no container is in it."""
    name = next(each["Name"] for each in engine.ask("GET", "/networks") if each["Name"].startswith("longshore-"))
    wait_for("it to be in no use", lambda: engine.ask("DELETE", f"/networks/{name}", parse=False) == b"")
    script = "wget -qO- $ECS_CONTAINER_METADATA_URI_V4/task"
    lines, task = own.to_end("sh", "-c", script, task={"networkMode": "bridge"})
    assert json.loads(lines[0])["TaskARN"] == task["taskArn"]
    # And by who is first of several that start at once.
    wait_for("it to be in no use", lambda: engine.ask("DELETE", f"/networks/{name}", parse=False) == b"")
    definition = own.define(own.container("sh", "-c", "sleep 600"), networkMode="bridge")
    arns = own.run(definition, count=4)
    for arn in arns:
        own.stop(own.until(arn, "RUNNING"))
    assert [each["Name"] for each in engine.ask("GET", "/networks")].count(name) == 1


def test_no_network_is_none(own):
    lines, _ = own.to_end("sh", "-c", "ip -o link | grep -c . ; ip -o addr | grep -c lo", task={"networkMode": "none"})
    assert lines[0] == "1"


def test_health_is_asked(own):
    check = {"command": ["CMD-SHELL", "test -e /tmp/well"], "interval": 5, "retries": 1, "timeout": 2}
    task = own.start("sh", "-c", f"touch /tmp/well; {IDLE}", healthCheck=check, stopTimeout=2)
    wait_for("its health", lambda: own.describe(task["taskArn"], "default")["healthStatus"] == "HEALTHY", 30)
    own.stop(task)


def test_a_task_is_held_to_its_size_as_a_whole(own, engine):
    task = own.start("sh", "-c", IDLE, task={"cpu": "256", "memory": "64"}, stopTimeout=2)
    container, = engine.containers(task["taskArn"])
    group = container["HostConfig"]["CgroupParent"]
    assert group.startswith("/longshore/") and group.endswith(task["taskArn"].rsplit("/", 1)[1])
    assert group in Path(f"/proc/{container['State']['Pid']}/cgroup").read_text()
    limits = [f"/sys/fs/cgroup/memory{group}/memory.limit_in_bytes", f"/sys/fs/cgroup{group}/memory.max"]
    limit, = (path.read_text() for path in map(Path, limits) if path.exists())
    assert int(limit) == 64 << 20
    own.stop(task)
    wait_for("its group to go", lambda: not any(Path(path).exists() for path in limits))


def test_what_docker_has_not_is_not_announced_and_placement_says_so(own, host):
    instance, = own.ecs.list_container_instances(cluster="default")["containerInstanceArns"]
    described, = own.ecs.describe_container_instances(cluster="default", containerInstances=[instance])["containerInstances"]
    names = {attribute["name"] for attribute in described["attributes"]}
    for absent in ["ecs.capability.task-eni", "longshore.fargate", "ecs.capability.pid-ipc-namespace-sharing",
                   "ecs.capability.container-restart-policy", "longshore.fence"]:
        assert absent not in names
    assert {"com.amazonaws.ecs.capability.task-iam-role", "ecs.capability.task-cpu-mem-limit"} <= names
    assert "longshore" not in described["versionInfo"]["dockerVersion"], described["versionInfo"]
    network = {"awsvpcConfiguration": {"subnets": own.subnets[:1]}}
    definition = own.define(own.container("true"), networkMode="awsvpc")
    answer = own.ecs.run_task(cluster="default", taskDefinition=definition, launchType="EC2", networkConfiguration=network)
    assert [failure["reason"] for failure in answer["failures"]] == ["ATTRIBUTE"]


def test_a_named_runtime_runs_the_containers(start_region, engine):
    extra = ("--driver", "docker", "--docker-host", f"unix://{engine.socket}")
    region = start_region(*extra, "--runtime", "other", name="runtime", image="box:1")
    own = InDefault(region, f"127.0.0.1:{region.port}/box:1")
    task = own.start("sh", "-c", IDLE, stopTimeout=2)
    container, = engine.containers(task["taskArn"])
    assert container["HostConfig"]["Runtime"] == "other"
    region.down()
    refused = subprocess.run(
        [binary(), "agent", "--data-dir", str(region.data_dir), *extra, "--docker-host", "unix:///nowhere/docker.sock"],
        capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0
