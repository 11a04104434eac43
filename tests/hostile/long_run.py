"""`cargo xtask break`: a long run of bad moments, drawn at random from a seed that is printed.

Tasks with exit codes of their own and a service come and go, while processes are killed, probes attack and the disk
fills. After each round: every acknowledged task ended with its own code, the service has its tasks, another account's
things are as they were, and at the end nothing is left behind.
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from conftest import Cluster, Region, free_port, probe_image, unique, wait_for
from test_moments import Disk, descendants, healthy, processes

MINUTES = float(os.environ.get("LONGSHORE_BREAK_MINUTES", "30"))
SEED = int(os.environ.get("LONGSHORE_BREAK_SEED") or random.SystemRandom().randrange(1 << 31))
ATTACKS = [("kernel",), ("others",), ("forks", "3000", "1"), ("memory", "900"), ("lines", "20000", "500"), ("disk", "/x", "100")]


class Run:
    def __init__(self, disk, chance):
        self.disk, self.chance = disk, chance
        self.region = Region(disk.disk / "data", free_port()).up()
        self.region.run("image", "load", str(probe_image(disk.place / "probe.tar")))
        image = f"127.0.0.1:{self.region.port}/probe:1"
        self.cluster = Cluster(self.region, image)
        self.definitions = {code: self.cluster.define(self.cluster.container(
            "sh", "-c", f"sleep 0.{code}; exit {code}")) for code in range(1, 8)}
        self.other = self.region.client("ecs", account="444455556666")
        self.other.create_cluster(clusterName="untouched", tags=[{"key": "kept", "value": "yes"}])
        self.kept = self.others_view()
        self.expected, self.counts = {}, {"tasks": 0, "kills": 0, "attacks": 0, "full": 0}
        network = {"awsvpcConfiguration": {"subnets": self.cluster.subnets[:1], "assignPublicIp": "ENABLED"}}
        self.service = unique("s")
        hold = self.cluster.define(self.cluster.container("probe", "hold", "0", stopTimeout=2))
        self.cluster.ecs.create_service(cluster=self.cluster.name, serviceName=self.service, taskDefinition=hold,
                                        desiredCount=2, launchType="FARGATE", networkConfiguration=network)

    def others_view(self):
        answer = self.other.describe_clusters(clusters=["untouched"], include=["TAGS"])["clusters"]
        return answer, self.other.list_clusters()["clusterArns"], self.other.list_task_definitions()["taskDefinitionArns"]

    def start_tasks(self):
        for _ in range(self.chance.randrange(1, 6)):
            code = self.chance.choice(sorted(self.definitions))
            try:
                for arn in self.cluster.run(self.definitions[code]):
                    self.expected[arn] = code
                    self.counts["tasks"] += 1
            except (ClientError, BotoCoreError, AssertionError):
                pass  # not acknowledged: the region was away

    def attack(self):
        words = self.chance.choice(ATTACKS)
        try:
            self.cluster.run(self.cluster.define(self.cluster.container("probe", *words)))
            self.counts["attacks"] += 1
        except (ClientError, BotoCoreError, AssertionError):
            pass

    def kill(self):
        children = self.region.children()
        who = self.chance.choice(["region", "agent", "both", "spares"])
        pids = [children[name] for name in ("region", "agent") if who in (name, "both") and name in children]
        if who == "spares":
            spares = {pid for path in Path("/sys/fs/cgroup").glob("**/.shims/cgroup.procs") for pid in path.read_text().split()}
            pids = [pid for pid in descendants(self.region.process.pid) if str(pid) in spares]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                self.counts["kills"] += 1
            except ProcessLookupError:
                pass

    def fill(self):
        """While nothing begins: without room a task may rightly fail to start."""
        self.check()
        self.disk.fill()
        time.sleep(self.chance.uniform(0.5, 3))
        self.disk.drain()
        self.counts["full"] += 1

    def scale(self):
        try:
            self.cluster.ecs.update_service(cluster=self.cluster.name, service=self.service,
                                            desiredCount=self.chance.randrange(0, 5), forceNewDeployment=self.chance.random() < 0.3)
        except (ClientError, BotoCoreError):
            pass

    def check(self):
        wait_for("health", healthy(self.region), 90)
        wrong = []
        for arn, code in self.expected.items():
            task = wait_for(f"the end of {arn}", lambda: self.ended(arn), 180, 0.2)
            if task["containers"][0].get("exitCode") != code:
                wrong.append((arn, code, task["containers"][0], task.get("stoppedReason")))
        assert wrong == [], f"seed {SEED}: {wrong}"
        self.expected.clear()
        wait_for(f"seed {SEED}: the service to be what it should", self.is_steady, 180, 0.5)
        assert self.others_view() == self.kept, f"seed {SEED}: another account's things changed"

    def ended(self, arn):
        try:
            task = self.cluster.describe(arn)
        except (ClientError, BotoCoreError):
            return None
        return task if task["lastStatus"] == "STOPPED" else None

    def is_steady(self):
        try:
            found, = self.cluster.ecs.describe_services(cluster=self.cluster.name, services=[self.service])["services"]
        except (ClientError, BotoCoreError):
            return False
        return found["runningCount"] == found["desiredCount"] and found["pendingCount"] == 0

    def end(self):
        try:
            self.cluster.ecs.delete_service(cluster=self.cluster.name, service=self.service, force=True)
        except (ClientError, BotoCoreError):
            pass
        self.region.down()


def test_nothing_breaks(tmp_path):
    print(f"\nseed {SEED}, {MINUTES:g} minutes")
    chance, end, rounds = random.Random(SEED), time.monotonic() + MINUTES * 60, 0
    disk = Disk(tmp_path, 2000)
    run = Run(disk, chance)
    try:
        while time.monotonic() < end:
            for _ in range(chance.randrange(4, 12)):
                step = chance.choices([run.start_tasks, run.kill, run.attack, run.scale, run.fill], [6, 3, 1, 2, 0.3])[0]
                step()
                time.sleep(chance.uniform(0, 0.4))
            run.check()
            rounds += 1
            print(f"round {rounds}: {run.counts}", flush=True)
    finally:
        run.end()
        disk.close()
    left = {word: processes(run.region, word) for word in ("up", "region", "agent", "shim")}
    assert not any(left.values()), left
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout.splitlines()
    assert [line for line in links if ": lo" not in line] == [], links
