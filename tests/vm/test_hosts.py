"""Hosts of their own networks on a kernel that has ESP: what their tasks send to each other is encrypted.

The kernels of the other stages may be without it.
"""

import ssl
import time
import urllib.request

import boto3
import pytest
import urllib3
from botocore.config import Config

from conftest import Cluster, FarRegion, unique, wait_for

SUBNET = "10.99.8"
URL = "https://10.0.2.15:4566"


class TlsRegion(FarRegion):
    """One that other hosts may join."""

    DATA = "/work/region"

    def up(self):
        self.endpoint = f"https://127.0.0.1:{self.port}"
        self.machine.run(f"/work/longshore up --detach --data-dir {self.DATA} --listen 0.0.0.0:4566 --advertise {URL} "
                         "--region eu-north-1 --account-keys swordfish", 120)
        wait_for("the region in the machine", self.is_healthy, 60)
        return self

    def is_healthy(self):
        try:
            with urllib.request.urlopen(self.endpoint + "/health", timeout=5, context=ssl._create_unverified_context()) as answer:
                return answer.status == 200
        except OSError:
            return False

    def run(self, *words, check=True, **_):
        return self.machine.run(f"/work/longshore {' '.join(words)} --data-dir {self.DATA}", 120, check)

    def client(self, service, account="000000000000"):
        # What is forwarded has another address than the certificate.
        return boto3.client(service, endpoint_url=self.endpoint, region_name="eu-north-1", verify=False,
                            aws_access_key_id=account, aws_secret_access_key="swordfish",
                            config=Config(retries={"max_attempts": 0}))


@pytest.fixture
def cluster(machine):
    urllib3.disable_warnings()
    region = TlsRegion(machine).up()
    region.run("image", "load", "/work/probe.tar")
    yield Cluster(region, None)
    region.run("down")


class Host:
    """A network and a mount namespace in the machine, with a link to its own network, and an agent."""

    def __init__(self, machine, number):
        self.machine, self.name, self.data = machine, f"far{number}", f"/work/far{number}"
        machine.run(f"setsid unshare -n -m --propagation private sh -c 'echo $$ >{self.data}.pid; exec sleep infinity' >/dev/null 2>&1 & sleep 1")
        self.pid = machine.run(f"cat {self.data}.pid").strip()
        machine.run(f"ip link add far{number} type veth peer name eth0 netns {self.pid}; ip link set far{number} master far up")
        self.run(f"ip link set lo up; ip addr add {SUBNET}.{10 + number}/24 dev eth0; ip link set eth0 up; ip route add default via {SUBNET}.1")

    def run(self, script, seconds=60, check=True):
        return self.machine.run(f"nsenter -t {self.pid} -n -m sh -c '{script}'", seconds, check)

    def agent(self, *words):
        self.run(f"setsid /work/longshore agent --data-dir {self.data} {' '.join(words)} >>{self.data}.log 2>&1 & echo $! >{self.data}.agent")

    def kill(self):
        self.run(f"kill -9 $(cat {self.data}.agent)")

    def inside(self, arn, script, check=True):
        """In the network of a task's own."""
        found = self.run(f"ls -d /run/longshore/*/netns/*{arn.rsplit('/', 1)[1]}*").split()
        assert len(found) == 1, found
        return self.run(f"nsenter --net={found[0]} {script}", 60, check)

    def counts(self):
        """How many packets the kernel has encrypted and decrypted."""
        lines = self.run("ip -s xfrm state").splitlines()
        return sum(int(line.split()[1].rstrip("(packets),")) for line in lines if "(packets)" in line and "lifetime" not in line and "limit" not in line)


def start(cluster, host, image):
    definition = cluster.ecs.register_task_definition(
        family=unique("far"), networkMode="awsvpc", requiresCompatibilities=["EC2"],
        containerDefinitions=[{"name": "main", "image": image, "memory": 16, "command": ["probe", "hold", "3"]}])
    run = cluster.ecs.run_task(
        cluster="far", taskDefinition=definition["taskDefinition"]["taskDefinitionArn"], launchType="EC2",
        placementConstraints=[{"type": "memberOf", "expression": f"attribute:longshore.host-name == {host.name}"}],
        networkConfiguration={"awsvpcConfiguration": {"subnets": cluster.subnets[:1]}})
    assert not run["failures"], run["failures"]
    arn = run["tasks"][0]["taskArn"]
    return arn, cluster.address(cluster.until(arn, "RUNNING", 180, "far"))


def connected(cluster):
    arns = cluster.ecs.list_container_instances(cluster="far")["containerInstanceArns"]
    found = cluster.ecs.describe_container_instances(cluster="far", containerInstances=arns)["containerInstances"] if arns else []
    return sum(each["agentConnected"] for each in found)


def test_what_tasks_on_two_hosts_send_to_each_other_is_encrypted(machine, cluster):
    region = cluster.region
    machine.run(f"ip link add far type bridge; ip addr add {SUBNET}.1/24 dev far; ip link set far up")
    # Busybox's own client does not get along with this processor.
    machine.run("cat >/work/get <<'END'\n#!/bin/bash\nexec 3<>/dev/tcp/$1/80 && echo -e 'GET / HTTP/1.0\\r\\n\\r' >&3 && tail -n 1 <&3\nEND\nchmod +x /work/get")
    hosts = one, two = [Host(machine, number) for number in (1, 2)]
    token = region.run("node", "token", "create", "--quiet", "--cluster", "far", "--uses", "2").strip().splitlines()[-1]
    for host in hosts:
        host.agent("--join", URL, "--token", token, "--host-name", host.name)
    try:
        wait_for("the hosts", lambda: connected(cluster) == 2, 180, 1)
        asks, _ = start(cluster, one, "10.0.2.15:4566/probe:1")
        answers, address = start(cluster, two, "10.0.2.15:4566/probe:1")
        two.inside(answers, "sh -c \"mkdir -p /tmp/www; echo works >/tmp/www/index.html; busybox httpd -p 80 -h /tmp/www\"")

        def is_answered():
            return one.inside(asks, f"timeout 4 /work/get {address}", check=False).strip() == "works"

        wait_for("an answer of the other host", is_answered, 30, 0.5)
        wait_for("the region to know", lambda: "encrypted, with 1 now" in region.run("node", "show", one.name), 30, 1)
        before = one.counts()
        assert is_answered() and one.counts() > before > 0
        assert "dir in" in one.run("ip xfrm policy") and "mtu 1416" in one.inside(asks, "ip link show eth0")

        # An agent that was killed finds all of it again, and nobody notices.
        two.kill()
        wait_for("the agent to be missed", lambda: connected(cluster) == 1, 120, 1)
        assert is_answered()
        two.agent()
        wait_for("the agent once more", lambda: connected(cluster) == 2, 120, 1)
        time.sleep(2)
        assert is_answered()

        # A host whose kernel has lost its keys has others, and the other one too.
        two.kill()
        two.run("ip xfrm state flush")
        assert not is_answered()
        two.agent()
        wait_for("an answer once more", is_answered, 120, 1)
    finally:
        print(machine.run(f"tail -n 30 /work/far1.log /work/far2.log; nsenter -t {one.pid} -n ip -s xfrm state | head -60", check=False))
        for host in hosts:
            host.run(f"kill $(cat {host.data}.agent)", check=False)
            host.run(f"/work/longshore down --data-dir {host.data}", 120, check=False)
    assert one.run("ip xfrm state; ip xfrm policy").strip() == ""
    machine.run(f"kill {one.pid} {two.pid}; ip link del far", check=False)
