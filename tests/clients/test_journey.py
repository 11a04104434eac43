"""The README's journey, word for word: AWS CLI, docker, curl."""

import json
import os
import shutil
import subprocess
import time

import pytest

import images
from conftest import unique, wait_for


@pytest.fixture(scope="module")
def docker(tmp_path_factory):
    """A Docker Engine of this module's own, which touches neither bridges nor rules of the host."""
    if not shutil.which("dockerd"):
        pytest.skip("dockerd is not installed")
    folder = tmp_path_factory.mktemp("docker")
    socket = f"unix://{folder}/sock"
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen(
            ["dockerd", "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
             "--pidfile", str(folder / "pid"), "-H", socket, "--iptables=false", "--ip6tables=false",
             "--bridge=none"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def run(*words, check=True, **more):
        done = subprocess.run(["docker", "-H", socket, *words], capture_output=True, text=True, timeout=120,
                              env={**os.environ, "DOCKER_CONFIG": str(folder)}, **more)
        assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
        return done

    wait_for("dockerd", lambda: run("version", check=False).returncode == 0, 60, 0.5)
    yield run
    daemon.terminate()
    daemon.wait(30)


def test_the_journey_from_docker_push_to_an_exit_code(region, docker, tmp_path):
    host = f"127.0.0.1:{region.port}"
    repository = unique("hello")
    region.aws("ecr", "create-repository", "--repository-name", repository)
    password = subprocess.run(["aws", "ecr", "get-login-password"], env=region.shell(), check=True,
                              capture_output=True, text=True).stdout
    docker("login", "-u", "AWS", "--password-stdin", host, input=password)
    docker("load", "-i", str(images.docker_save(tmp_path / "hello.tar", "hello:1")))
    docker("tag", "hello:1", f"{host}/{repository}:1")
    docker("push", f"{host}/{repository}:1")

    cluster, group = unique("demo"), unique("/demo")
    region.aws("logs", "create-log-group", "--log-group-name", group)
    created = region.aws("ecs", "create-cluster", "--cluster-name", cluster)
    assert created["cluster"]["status"] == "ACTIVE"
    logging = {"logDriver": "awslogs", "options": {
        "awslogs-group": group, "awslogs-region": "eu-north-1", "awslogs-stream-prefix": "app"}}
    definition = {
        "family": unique("hello"), "requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc",
        "cpu": "256", "memory": "512", "executionRoleArn": "ecsTaskExecutionRole",
        "containerDefinitions": [
            {"name": "web", "image": f"{host}/{repository}:1", "essential": True, "stopTimeout": 2,
             "command": ["httpd", "-f", "-p", "80", "-h", "/www"],
             "portMappings": [{"containerPort": 80}], "logConfiguration": logging},
            {"name": "tick", "image": f"{host}/{repository}:1", "essential": False, "stopTimeout": 2,
             "command": ["sh", "-c", "trap 'echo bye; exit 3' TERM; n=0; while :; do echo tick $n; n=$((n+1)); sleep 0.2; done"],
             "logConfiguration": logging},
        ]}
    path = tmp_path / "hello.json"
    path.write_text(json.dumps(definition))
    registered = region.aws("ecs", "register-task-definition", "--cli-input-json", f"file://{path}")
    assert registered["taskDefinition"]["revision"] == 1

    subnets = region.aws("ec2", "describe-subnets", "--query", "Subnets[].SubnetId")
    assert len(subnets) == 3
    ran = region.aws(
        "ecs", "run-task", "--cluster", cluster, "--task-definition", definition["family"],
        "--launch-type", "FARGATE", "--count", "2", "--network-configuration",
        f"awsvpcConfiguration={{subnets=[{subnets[0]},{subnets[1]}],assignPublicIp=ENABLED}}")
    assert ran["failures"] == []
    arns = [task["taskArn"] for task in ran["tasks"]]
    region.aws("ecs", "wait", "tasks-running", "--cluster", cluster, "--tasks", *arns)

    tasks = region.aws("ecs", "describe-tasks", "--cluster", cluster, "--tasks", *arns)["tasks"]
    addresses = [detail["value"] for task in tasks for detail in task["attachments"][0]["details"]
                 if detail["name"] == "privateIPv4Address"]
    assert len(set(addresses)) == 2
    for address in addresses:
        answer = subprocess.run(["curl", "-sS", "-m", "5", "--retry", "5", "--retry-connrefused",
                                 f"http://{address}/"], capture_output=True, text=True)
        assert answer.stdout == "it works\n", answer.stderr

    stream = f"app/tick/{arns[0].rsplit('/', 1)[1]}"

    def ticks():
        got = region.aws("logs", "get-log-events", "--log-group-name", group, "--log-stream-name", stream,
                         "--start-from-head")
        return [event["message"] for event in got["events"]]
    wait_for("ticks in the log", lambda: "tick 0" in ticks(), 15, 0.5)
    found = region.aws("logs", "filter-log-events", "--log-group-name", group, "--filter-pattern", "tick")
    assert {event["logStreamName"] for event in found["events"]} >= {stream}

    started = time.monotonic()
    following = subprocess.run(
        ["timeout", "3", region_binary(), "logs", "--follow", arns[0], "--data-dir", str(region.data_dir)],
        capture_output=True, text=True)
    assert "tick 0" in following.stdout, following.stderr
    assert time.monotonic() - started < 10

    for arn in arns:
        region.aws("ecs", "stop-task", "--cluster", cluster, "--task", arn, "--reason", "seen enough")
    region.aws("ecs", "wait", "tasks-stopped", "--cluster", cluster, "--tasks", *arns)
    stopped = region.aws("ecs", "describe-tasks", "--cluster", cluster, "--tasks", *arns)["tasks"]
    for task in stopped:
        assert task["stopCode"] == "UserInitiated"
        assert task["stoppedReason"] == "seen enough"
        codes = {container["name"]: container["exitCode"] for container in task["containers"]}
        assert codes["tick"] == 3, codes
    assert "bye" in ticks()


def region_binary():
    from conftest import binary
    return binary()
