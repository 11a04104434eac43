"""Service Connect: tasks that reach each other by names of their namespace, through their host's proxy."""

import os
import signal

import pytest

import images
from conftest import unique, wait_for
from services import IDLE, ServiceCluster, only, process_of, refused
from test_discovery import Discovery

# By the resolver that is in the container's resolv.conf; what is static has no other.
# The pipe stays open: a client that has nothing more to say must not say so before it was answered.
GET = r"""
busybox mkfifo /tmp/pipe; exec 3<>/tmp/pipe
ask() {
    printf "GET / HTTP/1.1\r\nHost: backend\r\nConnection: close\r\n\r\n" >&3
    nc -w 20 "$1" "$2" <&3 | tail -1 | grep .
}
find() { found=$(nslookup -type=a "$1" | grep '^Address: ' | tail -1); address=${found#Address: }; [ -n "$address" ]; }
get() { find "$1" && ask "$address" "$2"; }
"""


class Connect:
    """A namespace of one test's own, and services in it."""

    def __init__(self, services, discovery):
        self.services, self.discovery, self.namespace = services, discovery, unique("mesh")
        self.id = discovery.http(self.namespace)

    def configuration(self, *offers):
        given = {"enabled": True, "namespace": self.namespace}
        return {**given, "services": list(offers)} if offers else given

    def offer(self, dns="backend", port=80, name="web", **more):
        return {"portName": name, "clientAliases": [{"port": port, "dnsName": dns}], **more}

    def web(self, text, protocol="http", name="web"):
        mapping = {"containerPort": 80, "name": name}
        return self.services.define(self.services.web(
            text, portMappings=[{**mapping, "appProtocol": protocol} if protocol else mapping]))

    def serve(self, text, *offers, count=1, **more):
        """A service that answers `text`; its name."""
        offers = offers or (self.offer(),)
        return self.services.create(self.web(text, **more), count, serviceConnectConfiguration=self.configuration(*offers))

    def client(self, script, **more):
        """A service whose one task runs a script in the namespace; its name."""
        made = self.services.container("sh", "-c", f"{GET} {script}\n{IDLE}", stopTimeout=2, **more)
        return self.services.create(self.services.define(made), 1, serviceConnectConfiguration=self.configuration())

    def task(self, name):
        return wait_for(f"a task of {name}", lambda: next(iter(self.services.arns(name)), None))

    def lines(self, name):
        return self.services.lines(self.task(name))


@pytest.fixture
def discovery(region):
    made = Discovery(region)
    yield made
    made.clean_up()


@pytest.fixture
def mesh(discovery, services):
    made = Connect(services, discovery)
    yield made
    for _, name in services.made:
        services.ecs.delete_service(cluster=services.name, service=name, force=True)
    of_it = [{"Name": "NAMESPACE_ID", "Values": [made.id]}]
    wait_for("the end of what ECS made in Cloud Map",
             lambda: not discovery.map.list_services(Filters=of_it)["Services"], 60)


def test_a_service_is_shown_as_it_is_connected(mesh, services, discovery):
    offer = mesh.offer(discoveryName="shop", timeout={"idleTimeoutSeconds": 60, "perRequestTimeoutSeconds": 5})
    name = mesh.serve("shown", offer, count=2)
    deployment = only(services.steady(name, 2)["deployments"])
    assert deployment["serviceConnectConfiguration"] == mesh.configuration(offer)
    resource = only(deployment["serviceConnectResources"])
    made = only(discovery.map.list_services(Filters=[{"Name": "NAMESPACE_ID", "Values": [mesh.id]}])["Services"])
    assert resource == {"discoveryName": "shop", "discoveryArn": made["Arn"]}
    assert made["Name"] == "shop"
    found = wait_for("its instances", lambda: len(discovery.found(mesh.namespace, "shop")) == 2
                     and discovery.found(mesh.namespace, "shop"))
    assert {each["InstanceId"] for each in found} == {arn.rsplit("/", 1)[1] for arn in services.arns(name)}
    assert found[0]["Attributes"]["AWS_INSTANCE_PORT"] == "80"
    revision = services.service(name)["currentServiceRevisions"][0]["arn"]
    shown = services.ecs.describe_service_revisions(serviceRevisionArns=[revision])["serviceRevisions"]
    assert only(shown)["serviceConnectConfiguration"] == mesh.configuration(offer)
    services.update(name, serviceConnectConfiguration={"enabled": False})
    assert "serviceConnectConfiguration" not in services.steady(name, 2)["deployments"][0]
    wait_for("the end of its part", lambda: not discovery.map.list_services(
        Filters=[{"Name": "NAMESPACE_ID", "Values": [mesh.id]}])["Services"])


def test_what_can_not_be_is_refused(mesh, services):
    definition = mesh.web("refused")
    create = services.ecs.create_service
    asked = {"cluster": services.name, "serviceName": unique("s"), "taskDefinition": definition, "desiredCount": 0,
             "launchType": "FARGATE", "networkConfiguration": services.network()}

    def refuse(code, part, offer=None, **more):
        configuration = {**mesh.configuration(*([offer] if offer else [])), **more}
        refused(create, code, part, **asked, serviceConnectConfiguration=configuration)

    refuse("NamespaceNotFoundException", "wasn't found", namespace="not-there")
    refuse("InvalidParameterException", "portName", mesh.offer(name="other"))
    refuse("InvalidParameterException", "discoveryName", mesh.offer(discoveryName="Not-A-Name"))
    refuse("InvalidParameterException", "at most 1", {"portName": "web", "clientAliases": [{"port": 1}, {"port": 2}]})
    refuse("UnsupportedFeatureException", "logConfiguration", logConfiguration={"logDriver": "awslogs"})
    mesh.serve("first")
    refuse("InvalidParameterException", "SC service is already used by", mesh.offer("another"))
    refuse("InvalidParameterException", "backend:80 is already used", mesh.offer(discoveryName="second"))


def test_clusters_have_a_default_namespace(region, services, discovery):
    name, namespace = unique("c"), unique("default")
    ecs = services.ecs
    made = ecs.create_cluster(clusterName=name, serviceConnectDefaults={"namespace": namespace})["cluster"]
    found = only([each for each in discovery.map.list_namespaces()["Namespaces"] if each["Name"] == namespace])
    discovery.made.append(found["Id"])
    assert (found["Type"], made["serviceConnectDefaults"]) == ("HTTP", {"namespace": found["Arn"]})
    other = discovery.http(unique("other"))
    arn = discovery.map.get_namespace(Id=other)["Namespace"]["Arn"]
    updated = ecs.update_cluster(cluster=name, serviceConnectDefaults={"namespace": arn})["cluster"]
    assert updated["serviceConnectDefaults"] == {"namespace": arn}
    ecs.create_cluster(clusterName=name, serviceConnectDefaults={"namespace": arn})
    ecs.delete_cluster(cluster=name)


def test_a_running_client_reaches_endpoints_that_come_later_at_ports_that_it_has_itself(mesh, services):
    script = f"""
        mkdir -p /tmp/w; echo itself > /tmp/w/index.html; httpd -p 80 -h /tmp/w
        until get backend 80; do sleep 0.1; done
        until get plain.db 5432; do sleep 0.1; done
        get web.{mesh.namespace} 81 || echo no other port
        nslookup -type=a backend | grep '^Address: ' | tail -1"""
    client = mesh.client(script)
    services.steady(client, 1)
    mesh.serve("from the backend")
    mesh.serve("from the database", mesh.offer("plain.db", 5432, "db"), protocol=None, name="db")
    wait_for("what it heard", lambda: len(mesh.lines(client)) >= 4, 60)
    lines = mesh.lines(client)
    assert lines[:3] == ["from the backend", "from the database", "no other port"], lines
    assert lines[3].startswith("Address: 127.255."), lines


# Asks again and again; says which answer comes from now on, what was lost, and now and then how many there were.
LOAD = r"""
    until find backend; do sleep 0.1; done
    last= count=0
    while :; do
        now=$(ask "$address" 80)
        count=$((count + 1))
        [ "$now" = "$last" ] || echo "heard $now after $count"
        [ -n "$now" ] || echo "LOST $count"
        last=$now
        [ $((count % 50)) = 0 ] && echo "count $count"
    done & wait
"""


def heard(mesh, client, since=0):
    """How many requests the client has made, of which none was lost."""
    lines = mesh.lines(client)
    assert not [line for line in lines if "LOST" in line], lines
    counts = [int(line.split()[1]) for line in lines if line.startswith("count ")]
    return max(counts, default=0) if max(counts, default=0) > since else None


def test_a_rolling_deployment_of_a_server_loses_no_request(mesh, services):
    server = mesh.serve("first", count=2)
    services.steady(server, 2)
    client = mesh.client(LOAD)
    services.steady(client, 1)
    before = wait_for("requests", lambda: heard(mesh, client), 60)
    for text in ("second", "third"):
        services.update(server, taskDefinition=mesh.web(text))
        services.steady(server, 2, 90)
        before = wait_for("requests after it", lambda: heard(mesh, client, before), 60)
        wait_for("its answers", lambda: [line for line in mesh.lines(client) if f"heard {text} " in line])
    services.update(server, desiredCount=1)
    services.steady(server, 1)
    wait_for("requests to the last one", lambda: heard(mesh, client, before + 100), 60)


def test_requests_go_on_whichever_process_is_killed(start_region, tmp_path):
    region = start_region(name="connect")
    region.run("image", "load", str(images.docker_save(tmp_path / "box.tar", "box:1")))
    services, discovery = ServiceCluster(region, f"127.0.0.1:{region.port}/box:1"), Discovery(region)
    mesh = Connect(services, discovery)
    server = mesh.serve("served", count=2)
    services.steady(server, 2)
    client = mesh.client(LOAD)
    services.steady(client, 1)
    seen = wait_for("requests", lambda: heard(mesh, client), 60)
    for name in ("agent", "region"):
        os.kill(region.children()[name], signal.SIGKILL)
        wait_for(f"the {name}'s return", lambda: region.is_healthy() and name in region.children())
        seen = wait_for(f"requests without the {name}", lambda: heard(mesh, client, seen), 60)
    gone = next(iter(services.arns(server)))
    os.kill(process_of(gone), signal.SIGKILL)
    services.until(gone, "STOPPED", 60)
    services.steady(server, 2, 90)
    seen = wait_for("requests after a server was killed", lambda: heard(mesh, client, seen + 50), 60)
    proxy = int((region.data_dir / "proxy.lock").read_text())
    os.kill(proxy, signal.SIGKILL)
    wait_for("another proxy", lambda: int((region.data_dir / "proxy.lock").read_text() or 0) not in (0, proxy))
    wait_for("requests by the next proxy", lambda: [
        line for line in mesh.lines(client)[-40:] if line.startswith("count ") and int(line.split()[1]) > seen + 50], 60)
