"""A hostile container against the network: it reaches what ECS promises, and nothing of the host's."""

import socket
import threading

import pytest

from conftest import METADATA, OUTSIDE, Seen, host_addresses

PORT = 7070
LINK_LOCAL = [(METADATA, 80), (METADATA, 1338), ("169.254.7.7", 80), ("169.254.0.1", 80), ("169.254.169.123", 123)]


class Ears:
    """A service of the host's on all its addresses: notes who came, answers `here`."""

    def __init__(self):
        self.heard = []
        self.tcp = socket.create_server(("0.0.0.0", PORT), reuse_port=True)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("0.0.0.0", PORT))
        for work in [self.accept, self.receive]:
            threading.Thread(target=work, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, peer = self.tcp.accept()
                connection.sendall(b"here")
                connection.close()
            except OSError:
                return
            self.heard.append(("tcp", peer[0]))

    def receive(self):
        while True:
            try:
                data, peer = self.udp.recvfrom(100)
                if data:
                    self.heard.append(("udp", peer[0]))
                    self.udp.sendto(b"here", peer)
            except OSError:
                return


@pytest.fixture(scope="module")
def ears():
    return Ears()


def reached(seen):
    return sorted(name for name, outcome in seen if outcome.startswith(("connected", "heard")))


def words(*targets):
    return [str(word) for kind, address, port in targets for word in (kind, address, port)]


MODES = {
    "fargate": dict(fargate=True),
    "bridge": dict(fargate=False),
    "awsvpc": dict(fargate=False, networkMode="awsvpc"),
    "host": dict(fargate=False, networkMode="host"),
}


@pytest.fixture
def run(cluster):
    def run(mode, *command, until="STOPPED"):
        kind = dict(MODES[mode])
        fargate = kind.pop("fargate")
        definition = cluster.define(cluster.container(*command), fargate=fargate, **kind)
        more = {}
        if kind.get("networkMode") == "awsvpc":
            more["networkConfiguration"] = {"awsvpcConfiguration": {"subnets": cluster.subnets[:1]}}
        where = None if fargate else "default"
        arn, = cluster.run(definition, fargate=fargate, cluster=where, **more)
        task = cluster.until(arn, until, 60, where)
        return arn, task
    return run


def test_the_pretended_metadata_service_is_there_for_the_host(outside):
    """Which shows that the tests below could reach it."""
    with socket.create_connection((METADATA, 80), 5) as stream:
        assert stream.recv(10) == b"here"


@pytest.mark.parametrize("mode", MODES)
def test_link_local_addresses_do_not_leave_by_the_host(cluster, run, outside, ears, mode):
    targets = [(kind, address, port) for address, port in LINK_LOCAL for kind in ("tcp", "udp", "raw")]
    arn, task = run(mode, "probe", "reach", *words(*targets))
    seen = Seen(cluster.lines(arn))
    assert len(seen) == len(targets), (seen, task)
    assert reached(seen) == [], seen


def test_packets_past_the_hosts_table_are_not_for_containers_in_its_network(cluster, run, outside):
    """In a network of its own a container may make any packet; in the host's only those that are judged."""
    kinds = [("packet", METADATA, 80), ("xdp", METADATA, 80), ("old-packet", METADATA, 80)]
    for mode, may in [("bridge", True), ("host", False)]:
        arn, task = run(mode, "probe", "reach", *words(*kinds))
        seen = Seen(cluster.lines(arn))
        assert len(seen) == len(kinds), (seen, task)
        opened = {name.split()[0] for name, outcome in seen if outcome == "opened"}
        assert ("packet" in opened) == may and (may or not opened), (mode, seen)


@pytest.mark.parametrize("mode", MODES)
def test_the_outside_is_reached(cluster, run, outside, mode):
    if mode == "awsvpc":
        pytest.skip("an interface without a public address has no way out, as in the cloud")
    arn, _ = run(mode, "probe", "reach", *words(("tcp", OUTSIDE, 80)))
    assert reached(Seen(cluster.lines(arn))) == [f"tcp {OUTSIDE} 80"]


# In the mode `host` a container has the host's own loopback and addresses, as with ECS.
@pytest.mark.parametrize("mode", ["fargate", "bridge", "awsvpc"])
def test_the_hosts_own_services_are_not_reached(cluster, run, outside, ears, mode):
    """Loopback, the bridge's and the interfaces' addresses, and the region itself; by spoofed packets too."""
    ears.heard.clear()
    addresses = host_addresses()
    assert "127.0.0.1" in addresses and len(addresses) > 1
    # The container's own loopback is its own; there nobody answers.
    targets = [(kind, address, PORT) for address in addresses for kind in ("tcp", "udp", "raw")]
    targets += [("tcp", address, cluster.region.port) for address in addresses]
    arn, task = run(mode, "probe", "reach", *words(*targets))
    seen = Seen(cluster.lines(arn))
    assert len(seen) == len(targets), (seen, task)
    assert reached(seen) == [], seen
    assert ears.heard == [], seen


def test_tasks_reach_each_other_only_where_their_groups_say_so(cluster, run, outside):
    """An interface lets its own group in, and a bridged container is of no group."""
    arn, task = run("fargate", "probe", "serve", "8080", until="RUNNING")
    address = cluster.address(task)
    seen_by = run("fargate", "probe", "reach", *words(("tcp", address, 8080)))[0]
    assert reached(Seen(cluster.lines(seen_by))) == [f"tcp {address} 8080"], "the default group lets its own in"
    seen_by = run("bridge", "probe", "reach", *words(("tcp", address, 8080), ("udp", address, 8080)))[0]
    assert reached(Seen(cluster.lines(seen_by))) == []
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)
