"""What the hostile suite adds to the clients' fixtures: a network of its own, and the probe.

Each worker leaves the machine's network for a namespace of its own before anything is started, so that
pretended metadata services, floods and kills meet nobody else. A second namespace plays the outside.
"""

import ctypes
import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
sys.path.insert(0, str(CLIENTS))
_spec = importlib.util.spec_from_file_location("clients_conftest", CLIENTS / "conftest.py")
_clients = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_clients)
globals().update({name: value for name, value in vars(_clients).items() if not name.startswith("_")})

import images  # noqa: E402

CLONE_NEWNET = 0x40000000
# The host's side and the outside's of the way out, and what a cloud's host answers for its metadata.
HOST, OUTSIDE, METADATA = "203.0.113.1", "203.0.113.2", "169.254.169.254"


def ip(words):
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


def leave_the_machines_network():
    if os.geteuid() != 0:
        pytest.exit("the hostile suite needs root", 2)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        pytest.exit(f"no network namespace: {os.strerror(ctypes.get_errno())}", 2)
    ip("link set lo up")


leave_the_machines_network()


def probe_path():
    named = os.environ.get("LONGSHORE_PROBE")
    if named:
        return Path(named)
    found = sorted(Path(_clients.binary()).parents[1].glob("static/*/release/probe"))
    return found[0] if found else pytest.exit("no probe: build it as ./test does", 2)


PROBE = probe_path()


def answers(address, port):
    try:
        with socket.create_connection((address, port), 1):
            return True
    except OSError:
        return False


@pytest.fixture(scope="session")
def outside():
    """A neighbour of the host with a pretended metadata service; answers `here` on its ports."""
    holder = subprocess.Popen(["unshare", "-n", "sh", "-c", f"read go; exec {PROBE} serve 80"],
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    _clients.wait_for("the outside's namespace", lambda: os.readlink(f"/proc/{holder.pid}/ns/net")
                      != os.readlink("/proc/self/ns/net"), 10)
    ip(f"link add wan type veth peer name wan netns {holder.pid}")
    ip(f"addr add {HOST}/24 dev wan")
    ip("link set wan up")
    inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "ip"]
    for words in ["link set lo up", f"addr add {OUTSIDE}/24 dev wan", f"addr add {METADATA}/32 dev lo",
                  "addr add 169.254.7.7/32 dev lo", "link set wan up", f"route add default via {HOST}"]:
        subprocess.run([*inside, *words.split()], check=True)
    ip(f"route add default via {OUTSIDE}")
    holder.stdin.write(b"go\n")
    holder.stdin.close()
    _clients.wait_for("the outside's service", lambda: answers(METADATA, 80), 10)
    yield OUTSIDE
    holder.kill()
    holder.wait()


def probe_image(path, tag="probe:1", layers=(), **config):
    """Writes an image of busybox and the probe, below `layers`."""
    base = images.busybox_layer({"bin/probe": PROBE.read_bytes()})
    return images.docker_save(path, tag, [base, *layers], **config)


@pytest.fixture(scope="session")
def region(start_region, outside, tmp_path_factory):
    region = start_region()
    region.run("image", "load", str(probe_image(tmp_path_factory.mktemp("images") / "probe.tar")))
    return region


@pytest.fixture
def box(region):
    """A reference to the image with busybox and the probe."""
    return f"127.0.0.1:{region.port}/probe:1"


class Seen(list):
    """What a probe said: `(name, outcome)` in order."""

    def __init__(self, lines):
        pairs = (line.partition(": ") for line in lines)
        super().__init__((name, outcome) for name, _, outcome in pairs)

    def all(self, name):
        return [outcome for each, outcome in self if each == name]

    def one(self, name):
        found = self.all(name)
        assert len(found) == 1, f"{name}: {found}; {list(self)}"
        return found[0]

    def did(self):
        return {name for name, outcome in self if outcome == "did"}


@pytest.fixture
def probe(cluster):
    """Runs the probe in a container to its end; what it said."""

    def run(*words, fargate=True, seconds=60, task=None, **container):
        definition = cluster.define(cluster.container("probe", *map(str, words), **container),
                                    fargate=fargate, **(task or {}))
        # The machine itself is an instance of the cluster `default`.
        where = None if fargate else "default"
        arn, = cluster.run(definition, fargate=fargate, cluster=where)
        stopped = cluster.until(arn, "STOPPED", seconds, where)
        seen = Seen(cluster.lines(arn))
        seen.task = stopped
        return seen

    return run


def host_addresses():
    """Every IPv4 address of the host's own interfaces."""
    text = subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"inet (\d+\.\d+\.\d+\.\d+)", text)
