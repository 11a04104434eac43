"""Hosts made of namespaces: each has its own network and mounts, and a link to the region's own namespace.

Nothing is made in the machine's own network. A namespace is held by a process that sleeps, and ends with it.
"""

import concurrent.futures
import contextlib
import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

import boto3
import botocore.config

import images
from conftest import binary, wait_for

SUBNET = "10.99.7"
PORT = 4566
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def patience():
    """As little as a region has for hosts that are away."""
    return ["--heartbeat-timeout-seconds", "10"]


def can_encrypt():
    """Whether this machine's kernel has ESP with AES-GCM, by which hosts encrypt what they send to each other."""
    words = ["unshare", "-n", "ip", "xfrm", "state", "add", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "0x1001",
             "mode", "transport", "aead", "rfc4106(gcm(aes))", "0x" + "01" * 20, "128"]
    return subprocess.run(words, capture_output=True).returncode == 0


class Namespace:
    """A network and a mount namespace, and what runs in them."""

    def __init__(self, folder, name):
        self.folder, self.name = Path(folder), name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.holder = subprocess.Popen(["unshare", "-n", "-m", "--propagation", "private", "sleep", "infinity"])
        wait_for("the namespace", lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"), 5)
        self.processes = []
        self.run("ip", "link", "set", "lo", "up")

    def command(self, *words):
        return ["nsenter", "-t", str(self.holder.pid), "-n", "-m", *map(str, words)]

    def run(self, *words, check=True, **more):
        done = subprocess.run(self.command(*words), capture_output=True, text=True, **{"timeout": 120, **more})
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def start(self, log, *words):
        with open(self.folder / log, "ab") as output:
            process = subprocess.Popen(self.command(*words), stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                                       env={**os.environ, "LONGSHORE_DATA_DIR": str(self.folder / "data")})
        self.processes.append(process)
        return process

    def longshore(self, *words, check=True, **more):
        return self.run(binary(), *words, "--data-dir", self.folder / "data", check=check, **more)

    def log(self, name):
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self):
        self.end()
        self.holder.kill()
        self.holder.wait()


class Region(Namespace):
    """The region, its address on a bridge that the hosts' links end in, and clients in its namespace."""

    def __init__(self, folder, *extra):
        super().__init__(folder, "region")
        self.run("ip", "link", "add", "br0", "type", "bridge")
        self.run("ip", "addr", "add", f"{SUBNET}.1/24", "dev", "br0")
        self.run("ip", "link", "set", "br0", "up")
        self.extra = [*extra, *patience()]
        self.url = f"https://{SUBNET}.1:{PORT}"
        self.pool = concurrent.futures.ThreadPoolExecutor(1, initializer=self.enter)
        self.up()

    def enter(self):
        """Moves the one thread of the pool into this network."""
        with open(f"/proc/{self.holder.pid}/ns/net") as net:
            assert LIBC.setns(net.fileno(), CLONE_NEWNET) == 0, ctypes.get_errno()

    def words(self):
        """What starts it."""
        return [binary(), "region", "--listen", f"{SUBNET}.1:{PORT}", "--region", "eu-north-1"]

    # What its log says last when it starts.
    READY = "region ready"

    def up(self):
        def starts():
            return self.log("region.log").count(self.READY)

        before = starts()
        self.process = self.start("region.log", *self.words(), *self.extra)
        wait_for("the region", lambda: starts() > before and self.env(), 30)

    def close(self):
        self.pool.shutdown()
        super().close()

    def env(self):
        done = self.longshore("env", check=False)
        pairs = [line.removeprefix("export ").split("=", 1) for line in done.stdout.splitlines()]
        return {name: value.strip("'\"") for name, value in pairs} if done.returncode == 0 else None

    def client(self, service):
        """A client whose calls are made in the region's network."""
        env = self.env()
        config = botocore.config.Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=30)
        made = boto3.client(service, endpoint_url=env["AWS_ENDPOINT_URL"], region_name="eu-north-1",
                            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
                            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"], verify=env["AWS_CA_BUNDLE"],
                            config=config)
        return Calls(made, self.pool)

    def token(self, *words):
        return self.longshore("node", "token", "create", "--quiet", *words).stdout.strip()


class Machine(Region):
    """The region's own machine with all that `up` starts: load balancers too."""

    def words(self):
        return [binary(), "up", "--listen", f"{SUBNET}.1:{PORT}", "--region", "eu-north-1"]

    def close(self):
        self.longshore("down", check=False)
        super().close()


class Calls:
    def __init__(self, client, pool):
        self.client, self.pool = client, pool

    def __getattr__(self, operation):
        method = getattr(self.client, operation)
        return lambda **input: self.pool.submit(method, **input).result(60)


class Host(Namespace):
    """A host with a link to the region."""

    def __init__(self, folder, region, number):
        super().__init__(folder, f"host{number}")
        self.region, self.number = region, number
        link = f"p{number}"
        region.run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(self.holder.pid))
        region.run("ip", "link", "set", link, "master", "br0", "up")
        self.run("ip", "addr", "add", f"{SUBNET}.{10 + number}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "default", "via", f"{SUBNET}.1")

    def join(self, token, *words, url=None):
        self.agent = self.start("agent.log", binary(), "agent", "--join", url or self.region.url, "--token", token,
                                "--host-name", self.name, *words)
        return self

    def refused(self, token, *words, url=None):
        """What a join that the region does not take says."""
        process = self.start("refused.log", binary(), "agent", "--join", url or self.region.url, "--token", token,
                             "--host-name", self.name, *words)
        assert process.wait(30) == 78, self.log("refused.log")
        return self.log("refused.log")

    def again(self):
        """The agent once more, as a service manager starts it: without a token."""
        self.agent = self.start("agent.log", binary(), "agent")

    def kill(self):
        self.agent.send_signal(signal.SIGKILL)
        self.agent.wait()

    def cut_off(self, *ways):
        """Loses what the host sends (`out`), what it is sent (`in`), or both."""
        chains = {"in": "chain in { type filter hook input priority -300; policy drop; iif lo accept; }",
                  "out": "chain out { type filter hook output priority -300; policy drop; oif lo accept; }"}
        chosen = "\n".join(chains[way] for way in ways or chains)
        self.run("nft", "-f", "-", input=f"table inet cut {{\n{chosen}\n}}\n")

    def heal(self):
        self.run("nft", "delete", "table", "inet", "cut")

    def close(self):
        self.end()
        self.longshore("down", check=False)
        super().close()


@contextlib.contextmanager
def fleet(folder, count, region=Region):
    """A region with the image `box:1`, and hosts that have not joined yet. All of it goes with the context."""
    region, hosts = region(folder / "region"), []
    try:
        region.longshore("image", "load", str(images.docker_save(folder / "box.tar", "box:1")))
        for number in range(1, count + 1):
            hosts.append(Host(folder / f"host{number}", region, number))
        yield region, hosts
    finally:
        for host in hosts:
            host.close()
        region.close()


def join_all(region, hosts, *words):
    """Has hosts join the cluster `web`, by one token."""
    token = region.token("--cluster", "web", "--uses", str(len(hosts)), *words)
    for host in hosts:
        host.join(token)
    all_connected(region, hosts)


def join_zones(region, hosts, zones):
    """The same, each in a zone of its own choice."""
    for host, zone in zip(hosts, zones):
        host.join(region.token("--cluster", "web", "--zone", zone))
    all_connected(region, hosts)


def all_connected(region, hosts):
    """Waits until the hosts that have joined the cluster `web` are connected."""
    ecs = region.client("ecs")

    def are_connected():
        arns = ecs.list_container_instances(cluster="web")["containerInstanceArns"]
        found = ecs.describe_container_instances(cluster="web", containerInstances=arns)["containerInstances"] if arns else []
        return sum(each["agentConnected"] for each in found) == len(hosts)

    eventually("the hosts", are_connected, 60)


def processes_of(task_arn):
    """The processes of a task's containers on this machine, whichever host they are on."""
    task = task_arn.rsplit("/", 1)[-1]
    found = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if task in path.read_text():
                found.append(int(path.parent.name))
        except OSError:
            pass  # it has just ended
    return found


def eventually(what, condition, seconds=30):
    began = time.monotonic()
    found = wait_for(what, condition, seconds, 0.1)
    return found, time.monotonic() - began
