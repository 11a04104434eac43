"""Containers ask their agent what they are and use, and for protection; operators ask it for its tasks."""

import json
import urllib.error
import urllib.request

import pytest

from conftest import Cluster, free_port, unique, wait_for
from services import IDLE
from test_task_roles import make_role

# One line an answer, so that none is mixed with another's.
SAY = "say() { wget -qO- $1 2>/dev/null || echo '\"refused\"'; echo; }; "


@pytest.fixture(scope="module")
def host(start_region):
    port = free_port()
    region = start_region("--introspection", f"127.0.0.1:{port}", name="metadata", image="box:1")
    region.introspection = f"http://127.0.0.1:{port}"
    return region


@pytest.fixture
def own(host):
    return Cluster(host, f"127.0.0.1:{host.port}/box:1")


def told(cluster, script, count, fargate=True, role=None, **more):
    """Runs a container that says `count` lines and goes on; the task, and the lines read as JSON."""
    kind = {"networkMode": more.pop("mode")} if "mode" in more else {}
    roles = {"taskRoleArn": role} if role else {}
    container = cluster.container("sh", "-c", f"{SAY}{script}; {IDLE}", stopTimeout=2, **more)
    where = None if fargate else "default"
    arn, = cluster.run(cluster.define(container, fargate=fargate, **kind, **roles), fargate=fargate, cluster=where,
                       tags=[{"key": "team", "value": "x"}])
    task = cluster.until(arn, "RUNNING", cluster=where)
    lines = wait_for("what it was told", lambda: len(cluster.lines(arn)) >= count and cluster.lines(arn))
    try:
        return task, [json.loads(line) for line in lines]
    except ValueError:
        pytest.fail(f"{lines}\n{cluster.region.tail()}")


def test_a_fargate_task_finds_all_of_the_metadata(own):
    script = ("U=$ECS_CONTAINER_METADATA_URI_V4; for p in '' /task /taskWithTags /stats /task/stats; do say $U$p; done; "
              "say $ECS_CONTAINER_METADATA_URI/task; say http://169.254.170.2/v2/metadata; "
              "say http://169.254.170.2/v2/stats; echo \\\"$AWS_EXECUTION_ENV $AWS_REGION $AWS_DEFAULT_REGION\\\"")
    task, lines = told(own, script, 9, portMappings=[{"containerPort": 80}])
    assert "refused" not in lines, lines
    container, whole, tagged, stats, all_stats, third, second, second_stats, variables = lines
    described = task["containers"][0]
    assert container["DockerId"] == described["runtimeId"] and container["Name"] == "main"
    assert container["ContainerARN"] == described["containerArn"]
    assert container["ImageID"] == described["imageDigest"]
    assert container["LogOptions"]["awslogs-group"] == own.group and container["LogDriver"] == "awslogs"
    network, = container["Networks"]
    assert network["IPv4Addresses"] == [own.address(task)] and network["NetworkMode"] == "awsvpc"
    assert {"MACAddress", "IPv4SubnetCIDRBlock", "SubnetGatewayIpv4Address", "DomainNameServers",
            "PrivateDNSName", "AttachmentIndex"} <= network.keys()
    assert whole["TaskARN"] == task["taskArn"] and whole["Cluster"] == task["clusterArn"]
    assert whole["LaunchType"] == "FARGATE" and whole["Limits"] == {"CPU": 0.25, "Memory": 512}
    assert whole["AvailabilityZone"] == task["availabilityZone"]
    assert whole["ClockDrift"]["ClockSynchronizationStatus"] in ("SYNCHRONIZED", "NOT_SYNCHRONIZED")
    assert whole["EphemeralStorageMetrics"]["Reserved"] == 20480
    assert "VPCID" not in whole and whole["Containers"][0]["KnownStatus"] == "RUNNING"
    assert tagged.get("Errors") is None, tagged["Errors"][0]["ErrorMessage"]
    assert tagged["TaskTags"] == {"team": "x"}
    assert stats["id"] == container["DockerId"] and stats["pids_stats"]["current"] >= 1
    for moment in ("cpu_stats", "precpu_stats"):
        assert stats[moment]["cpu_usage"]["total_usage"] > 0 and stats[moment]["system_cpu_usage"] > 0
    assert stats["memory_stats"]["usage"] > 0 and stats["memory_stats"]["stats"]
    assert stats["memory_stats"]["limit"] > 0
    assert stats["networks"]["eth1"]["tx_packets"] > 0
    assert {"rx_bytes_per_sec", "tx_bytes_per_sec"} == stats["network_rate_stats"].keys()
    assert list(all_stats) == [container["DockerId"]] == list(second_stats)
    assert third["TaskARN"] == second["TaskARN"] == task["taskArn"] and "LaunchType" not in third
    assert variables == "AWS_ECS_FARGATE eu-north-1 eu-north-1"
    own.ecs.stop_task(cluster=task["clusterArn"], task=task["taskArn"])


@pytest.mark.parametrize("mode", ["bridge", "host"])
def test_a_task_of_an_instance_finds_the_same_in_every_mode(own, mode):
    script = "say $ECS_CONTAINER_METADATA_URI_V4/taskWithTags; say $ECS_CONTAINER_METADATA_URI_V4/stats"
    task, (whole, stats) = told(own, script, 2, fargate=False, mode=mode)
    assert whole["TaskARN"] == task["taskArn"] and whole["LaunchType"] == "EC2"
    assert whole["VPCID"].startswith("vpc-") and whole["Cluster"] == "default"
    assert whole.get("Errors") is None and whole["TaskTags"] == {"team": "x"}
    container, = whole["Containers"]
    assert container["Networks"][0]["NetworkMode"] == mode
    assert stats["memory_stats"]["limit"] == 64 << 20
    assert ("networks" in stats) == (mode == "bridge")
    own.ecs.stop_task(cluster=task["clusterArn"], task=task["taskArn"])


def test_a_container_reads_only_its_own(own):
    script = "echo \\\"$ECS_CONTAINER_METADATA_URI_V4\\\"; echo \\\"$ECS_AGENT_URI\\\"; say $ECS_CONTAINER_METADATA_URI_V4"
    for mode in ("awsvpc", "bridge"):
        fargate = mode == "awsvpc"
        task, (uri, agent, mine) = told(own, script, 3, fargate=fargate, **({} if fargate else {"mode": mode}))
        assert mine["DockerId"] == task["containers"][0]["runtimeId"]
        others = [uri, f"{uri}/task", f"{uri}/stats", f"{uri}/task/stats", f"{agent}/task-protection/v1/state",
                  uri.replace("/v4/", "/v3/")]
        other = "".join(f"wget -qO- -S {each} 2>&1 | grep HTTP/ | head -1; " for each in others)
        for other_fargate in (True, False):
            container = own.container("sh", "-c", other)
            where = None if other_fargate else "default"
            arn, = own.run(own.define(container, fargate=other_fargate), fargate=other_fargate, cluster=where)
            own.until(arn, "STOPPED", cluster=where)
            said = own.lines(arn)
            assert [line.split()[1] for line in said] == ["404"] * len(others), (mode, said)
        own.ecs.stop_task(cluster=task["clusterArn"], task=task["taskArn"])


def test_a_container_protects_its_task_in_its_tasks_role(own, host):
    services = host.client("ecs")
    role = make_role(host, "ecs:GetTaskProtection", "ecs:UpdateTaskProtection")
    state = "$ECS_AGENT_URI/task-protection/v1/state"
    put = ("put() { B=$1; printf 'PUT %s HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n%s' "
           "${ECS_AGENT_URI#http://169.254.170.2}/task-protection/v1/state ${#B} \"$B\" | nc 169.254.170.2 80 | tail -n 1; echo; }; ")
    script = (put + f"say {state}; put '{{\"ProtectionEnabled\":true,\"ExpiresInMinutes\":5}}'; say {state}; "
              "put '{\"Nothing\":1}'; put '{\"ProtectionEnabled\":false}'")
    container = own.container("sh", "-c", f"{SAY}{script}; {IDLE}", stopTimeout=2)
    name = unique("s")
    services.create_service(
        cluster=own.name, serviceName=name, desiredCount=1, launchType="FARGATE",
        taskDefinition=own.define(container, taskRoleArn=role),
        networkConfiguration={"awsvpcConfiguration": {"subnets": own.subnets[:1]}})
    arn = wait_for("its task", lambda: services.list_tasks(cluster=own.name, serviceName=name)["taskArns"])[0]
    own.until(arn, "RUNNING")
    lines = wait_for("five answers", lambda: len(own.lines(arn)) >= 5 and own.lines(arn))
    before, protected, shown, wrong, freed = [json.loads(line) for line in lines]
    assert before == {"protection": {"TaskArn": arn, "ProtectionEnabled": False}}
    assert protected["protection"]["ProtectionEnabled"] is True and protected["protection"]["ExpirationDate"]
    assert shown == protected
    assert wrong["error"]["Code"] == "InvalidParameterException", wrong
    assert freed["protection"]["ProtectionEnabled"] is False
    services.update_service(cluster=own.name, service=name, desiredCount=0)
    services.delete_service(cluster=own.name, service=name, force=True)

    # Without a role there is nobody to ask as.
    codes = f"wget -qO- -S {state} 2>&1 | grep HTTP/ | head -1"
    lines, _ = own.output("sh", "-c", codes)
    assert " 403 " in lines[0], lines


def test_sdks_in_containers_find_the_region_unless_that_is_turned_off(own, start_region):
    lines, _ = own.output("sh", "-c", "echo $AWS_ENDPOINT_URL; wget -qO- $AWS_ENDPOINT_URL/health >/dev/null && echo reached")
    assert lines == ["http://169.254.170.2:4566", "reached"], lines
    own_words = [{"name": "AWS_ENDPOINT_URL", "value": "http://mine"}]
    lines, _ = own.output("sh", "-c", "echo $AWS_ENDPOINT_URL", environment=own_words)
    assert lines == ["http://mine"]

    off = start_region("--task-endpoint", "off", "--introspection", "off", name="off", image="box:1")
    there = Cluster(off, f"127.0.0.1:{off.port}/box:1")
    ask = "echo -$AWS_ENDPOINT_URL-; wget -qO- http://169.254.170.2:4566/health >/dev/null 2>&1 || echo closed"
    lines, _ = there.output("sh", "-c", ask)
    assert lines == ["--", "closed"], lines


def test_operators_are_answered_as_at_amazons_agent(own, host):
    def get(path):
        with urllib.request.urlopen(host.introspection + path, timeout=5) as answer:
            return json.load(answer)

    assert get("/")["AvailableCommands"][:2] == ["/v1/metadata", "/v1/tasks"]
    about = get("/v1/metadata")
    assert about["ContainerInstanceArn"].startswith("arn:aws:ecs:") and about["Cluster"] == "default"
    task, (uri,) = told(own, "echo \\\"$ECS_CONTAINER_METADATA_URI_V4\\\"", 1)
    arn, runtime_id = task["taskArn"], task["containers"][0]["runtimeId"]
    everything = get("/v1/tasks")
    assert arn in [each["Arn"] for each in everything["Tasks"]]
    assert uri.rsplit("/", 1)[1] not in json.dumps(everything)
    for query in (f"taskarn={arn}", f"dockerid={runtime_id[:20]}"):
        found = get(f"/v1/tasks?{query}")
        assert found["Arn"] == arn and found["KnownStatus"] == "RUNNING"
        assert found["Containers"][0]["DockerId"] == runtime_id
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get("/v1/tasks?taskarn=arn:aws:ecs:none")
    own.ecs.stop_task(cluster=own.name, task=arn)
