"""Service Connect over hosts that joined: each has a proxy of its own, in the default VPC and in others."""

import os

import pytest

from hosts import PORT, SUBNET, eventually, fleet, join_all
from services import IDLE
from test_node_balancers import default_subnets, own_subnets
from test_service_connect import GET, LOAD

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("connected"), 2) as (region, hosts):
        join_all(region, hosts)
        yield region, hosts


class Mesh:
    """Services of one namespace, on the hosts that are asked for."""

    def __init__(self, region, name, subnets):
        self.region, self.name, self.subnets = region, name, subnets
        self.ecs, self.logs, self.map = (region.client(each) for each in ("ecs", "logs", "servicediscovery"))
        self.map.create_http_namespace(Name=name)
        self.logs.create_log_group(logGroupName=name)
        self.made = []

    def define(self, family, script, **mapping):
        options = {"awslogs-group": self.name, "awslogs-region": "eu-north-1", "awslogs-stream-prefix": family}
        self.ecs.register_task_definition(
            family=f"{self.name}-{family}", networkMode="awsvpc", requiresCompatibilities=["EC2"], containerDefinitions=[{
                "name": "main", "image": f"{SUBNET}.1:{PORT}/box:1", "memory": 16, "stopTimeout": 2,
                "portMappings": [{"containerPort": 80, **mapping}] if mapping else [], "command": ["sh", "-c", script],
                "logConfiguration": {"logDriver": "awslogs", "options": options}}])
        return f"{self.name}-{family}"

    def serve(self, text):
        script = f"mkdir -p /tmp/w; echo {text} > /tmp/w/index.html; trap 'exit 0' TERM; httpd -f -p 80 -h /tmp/w & wait"
        return self.define("server", script, name="web", appProtocol="http")

    def create(self, name, definition, count, *offers):
        self.ecs.create_service(
            cluster="web", serviceName=f"{self.name}-{name}", taskDefinition=definition, desiredCount=count, launchType="EC2",
            placementStrategy=[{"type": "spread", "field": "instanceId"}],
            networkConfiguration={"awsvpcConfiguration": {"subnets": self.subnets}},
            serviceConnectConfiguration={"enabled": True, "namespace": self.name, "services": list(offers)})
        self.made.append(f"{self.name}-{name}")

    def steady(self, name):
        def complete():
            service = self.ecs.describe_services(cluster="web", services=[f"{self.name}-{name}"])["services"][0]
            deployment, *others = service["deployments"]
            return not others and deployment["rolloutState"] == "COMPLETED" and service["runningCount"] == service["desiredCount"]
        return eventually(f"{name} in a steady state", complete, 90)

    def lines(self, family):
        """What each task of a family said."""
        streams = self.logs.describe_log_streams(logGroupName=self.name, logStreamNamePrefix=family)["logStreams"]
        return [[event["message"] for event in self.logs.get_log_events(
            logGroupName=self.name, logStreamName=stream["logStreamName"], startFromHead=True)["events"]] for stream in streams]

    def counts(self):
        """How many requests each client made; fails if one was lost."""
        all_lines = self.lines("client")
        lost = [line for lines in all_lines for line in lines if "LOST" in line]
        assert not lost, lost[:5]
        return [max([int(line.split()[1]) for line in lines if line.startswith("count ")], default=0) for lines in all_lines]

    def go_on(self, since):
        return eventually("requests of both clients", lambda: len(self.counts()) == 2 and all(
            now > before for now, before in zip(self.counts(), since)) and self.counts(), 60)[0]

    def end(self):
        for name in self.made:
            self.ecs.delete_service(cluster="web", service=name, force=True)
        eventually("the end of all tasks", lambda: not any(
            self.ecs.list_tasks(cluster="web", serviceName=name)["taskArns"] for name in self.made), 60)


@pytest.mark.parametrize("subnets_of, name", [(default_subnets, "shared"), (own_subnets, "apart")])
def test_tasks_of_two_hosts_reach_each_other_whatever_becomes_of_region_and_agents(world, subnets_of, name):
    region, hosts = world
    mesh = Mesh(region, name, subnets_of(region.client("ec2"))[1])
    offer = {"portName": "web", "clientAliases": [{"port": 80, "dnsName": "backend"}]}
    try:
        mesh.create("server", mesh.serve("first"), 2, offer)
        mesh.steady("server")
        mesh.create("client", mesh.define("client", f"{GET} {LOAD}\n{IDLE}"), 2)
        mesh.steady("client")
        counts = mesh.go_on([0, 0])
        mesh.ecs.update_service(cluster="web", service=f"{name}-server", taskDefinition=mesh.serve("second"))
        mesh.steady("server")
        counts = mesh.go_on(counts)
        assert all(any("heard second" in line for line in lines) for lines in mesh.lines("client"))
        # Its client's lines come once it is back, which is before its tasks are given up.
        hosts[0].kill()
        eventually("requests of the other host's", lambda: any(now > before for now, before in zip(mesh.counts(), counts)))
        hosts[0].again()
        counts = mesh.go_on(counts)
        region.process.kill()
        region.process.wait()
        region.up()
        counts = mesh.go_on(counts)
    except BaseException:
        for host in hosts:
            print(host.log("agent.log")[-2000:], host.log("data/proxy.log")[-2000:])
        print(mesh.lines("client"))
        raise
    finally:
        mesh.end()
