"""A hostile container against the kernel: none of what only a host's root may do is done."""

import os
import subprocess

import pytest

from conftest import wait_for

# What Docker gives to a container, as ECS does: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID,
# SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
CAPABILITIES = 0xA80425FB
# Under control groups of version 1 this is a directory of the container's own, of 64 KiB.
MAY = set() if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else {"make /sys/fs/cgroup/probe"}


@pytest.mark.parametrize("fargate", [True, False], ids=["fargate", "ec2"])
def test_what_only_the_hosts_root_may_do_is_refused(probe, fargate):
    seen = probe("kernel", fargate=fargate)
    assert len(seen) >= 80, seen
    assert seen.did() - MAY == set(), seen


def test_the_probe_does_what_it_may(probe):
    """A privileged container is let through by design, which shows that the refusals are no mistake of the probe."""
    seen = probe("kernel", fargate=False, privileged=True)
    assert {"mount tmpfs", "unshare net", "device mem", "set the clock", "keyctl"} & seen.did(), seen


@pytest.mark.parametrize("fargate", [True, False], ids=["fargate", "ec2"])
def test_a_container_sees_itself_alone(probe, fargate, region):
    seen = probe("see", fargate=fargate)
    assert int(seen.one("CapEff"), 16) & ~CAPABILITIES == 0, seen
    assert int(seen.one("CapBnd"), 16) & ~CAPABILITIES == 0, seen
    assert int(seen.one("CapAmb"), 16) == 0, seen
    assert seen.one("Seccomp") == "2", seen
    assert seen.one("pids") == "1", seen
    for what in ["queues", "segments", "semaphores"]:
        assert seen.one(what) == "0", seen
    assert set(seen.all("dev")) <= {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm",
                                    "mqueue", "fd", "stdin", "stdout", "stderr", "core"}, seen
    opened = [line.split(" ", 1) for line in seen.all("descriptor")]
    for number, target in opened:
        assert int(number) <= 2 or target.startswith("/proc/"), seen
    for line in seen.all("mount"):
        device, where, kind, options = line.split()[:4]
        assert str(region.data_dir) not in line.split()[1], line
        if where in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname"):
            continue
        if kind in ("proc", "sysfs", "cgroup", "cgroup2") and where.startswith(("/sys", "/proc/")):
            assert options.split(",")[0] == "ro", line


def test_nobody_else_can_be_signalled_traced_or_read(cluster, probe):
    neighbour, = cluster.run(cluster.define(cluster.container("probe", "hold", "7")))
    cluster.until(neighbour, "RUNNING")
    seen = probe("others", seconds=90)
    assert seen.one("others") == "0", seen
    assert seen.one("signal all") in ("ESRCH", "EPERM"), seen
    assert cluster.describe(neighbour)["lastStatus"] == "RUNNING"
    cluster.ecs.stop_task(cluster=cluster.name, task=neighbour)
    assert cluster.until(neighbour, "STOPPED")["containers"][0]["exitCode"] == 7


def test_what_a_container_makes_is_gone_with_it(cluster, region):
    """Sockets, links, devices and mounts of a container leave nothing on the host."""
    before = subprocess.run(["findmnt", "-rn", "-o", "TARGET"], capture_output=True, text=True).stdout.split()
    lines, task = cluster.output(
        "sh", "-c", "mkdir -p /a/b && ln -s / /a/root && mknod /a/dev c 1 3; mkdir /tmp/x; echo $?")
    assert task["containers"][0]["exitCode"] == 0, lines
    end = lambda: [m for m in subprocess.run(["findmnt", "-rn", "-o", "TARGET"], capture_output=True, text=True)
                   .stdout.split() if m not in before and task["taskArn"].rsplit("/", 1)[1] in m]
    wait_for("the task's mounts to be gone", lambda: not end(), 20)
    assert not os.path.exists(region.data_dir / "agent" / "tasks" / task["taskArn"].rsplit("/", 1)[1] / "a")
