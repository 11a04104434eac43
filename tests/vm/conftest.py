"""A machine of its own: Debian's stock kernel and control groups of version 2, emulated in software by qemu.

The region in it is reached by unmodified clients through a forwarded port. The machine's power can be cut: what its
kernel had not yet written to the disk is lost then, as on real hardware.
"""

import importlib.util
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CLIENTS = HERE.parent / "clients"
sys.path.insert(0, str(CLIENTS))
_spec = importlib.util.spec_from_file_location("clients_conftest", CLIENTS / "conftest.py")
_clients = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_clients)
globals().update({name: value for name, value in vars(_clients).items() if not name.startswith("_")})

import images  # noqa: E402

DISK_MIB = int(os.environ.get("LONGSHORE_VM_DISK_MIB", "1200"))
MEMORY_MIB = 1536
MODEL = "qemu-system-x86_64"


class Machine:
    """`disk` survives its boots. Commands go over the serial line, one at a time."""

    def __init__(self, cache, place, files):
        self.cache, self.place, self.port = Path(cache), place, _clients.free_port()
        self.root, self.disk = place / "root.img", place / "work.img"
        subprocess.run(["cp", "--sparse=always", self.cache / "base.img", self.root], check=True)
        subprocess.run(["truncate", "-s", f"{DISK_MIB}M", self.disk], check=True)
        mkfs = shutil.which("mkfs.ext4") or "/usr/sbin/mkfs.ext4"
        subprocess.run([mkfs, "-q", "-F", "-d", files, self.disk], check=True)
        self.process, self.said = None, []

    def boot(self):
        drives = []
        for image in [self.root, self.disk]:
            drives += ["-drive", f"file={image},format=raw,if=virtio,cache=writeback"]
        self.process = subprocess.Popen(
            # Without the processor's random numbers a machine that does nothing may wait for its first one for minutes.
            [MODEL, "-machine", "accel=tcg", "-cpu", "qemu64,+rdrand,+rdseed", "-m", str(MEMORY_MIB), "-smp", "2", "-nographic", "-no-reboot", "-nodefaults",
             "-serial", "stdio", "-kernel", self.cache / "vmlinuz", "-initrd", self.cache / "first.gz",
             "-append", "console=ttyS0 quiet loglevel=1 panic=-1 no_timer_check edd=off", *drives,
             "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-10.0.2.15:4566",
             "-device", "virtio-net-pci,netdev=net,romfile="],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines = queue.Queue()
        threading.Thread(target=self.listen, args=(self.process, self.lines), daemon=True).start()
        self.until("@@ ready", 180)
        # No prompts between the answers.
        self.process.stdin.write(b"PS1= PS2=\n")
        self.run("true")
        return self

    def listen(self, process, lines):
        for line in process.stdout:
            text = line.decode(errors="replace").rstrip("\r\n")
            self.said.append(text)
            lines.put(text)
        lines.put(None)

    def until(self, mark, seconds):
        """The lines before the one that begins with `mark`, and that one."""
        end, seen = time.monotonic() + seconds, []
        while True:
            try:
                line = self.lines.get(timeout=max(0.1, end - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                pytest.fail(f"waited {seconds} s for {mark!r} of the machine:\n" + "\n".join(self.said[-40:]))
            at = line.find(mark)
            if at >= 0:
                if at:
                    seen.append(line[:at])
                return seen, line[at:]
            seen.append(line)

    def run(self, script, seconds=60, check=True):
        """Its output, as one text."""
        mark = "@@ " + uuid.uuid4().hex[:12]
        self.process.stdin.write(f"( {script} ) </dev/null 2>&1; echo \"{mark[:5]}\"\"{mark[5:]} $?\"\n".encode())
        self.process.stdin.flush()
        seen, last = self.until(mark, seconds)
        text, code = "\n".join(seen), int(last.split()[-1])
        assert not check or code == 0, f"{script}: ended with {code}:\n{text}"
        return text

    def cut_power(self):
        self.process.kill()
        self.process.wait()

    def restart(self):
        """As a person does it: what is written is on the disk, and nothing is told to end."""
        self.run("sync")
        self.process.stdin.write(b"echo b >/proc/sysrq-trigger\n")
        self.process.stdin.flush()
        self.process.wait(60)
        return self.boot()


class FarRegion(_clients.Region):
    """The region in the machine."""

    def __init__(self, machine):
        super().__init__(machine.place / "data", machine.port)
        self.machine = machine

    def up(self):
        self.machine.run("/work/longshore up --detach --data-dir /work/data --listen 0.0.0.0:4566 "
                         "--insecure-listen --region eu-north-1 --account-keys swordfish", 120)
        _clients.wait_for("the region in the machine", self.is_healthy, 60)
        self.variables = {"AWS_ACCESS_KEY_ID": "000000000000", "AWS_SECRET_ACCESS_KEY": "swordfish"}
        return self

    def is_healthy(self):
        import urllib.request
        try:
            with urllib.request.urlopen(self.endpoint + "/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def tail(self):
        return self.machine.run("tail -c 3000 /work/data/*.log /work/data/*/*.log 2>/dev/null", check=False)

    def run(self, *words, check=True, **_):
        return self.machine.run(f"/work/longshore {' '.join(words)} --data-dir /work/data", 120, check)


def kernel_tests():
    """The kernel stage's test programs: `(package, path, other files they need)`."""
    named = os.environ.get("LONGSHORE_KERNEL_TESTS", "")
    return [Path(path) for path in named.split(":") if path]


# What is asked of the machine, over its serial line, when a test in it failed. What says most comes last, where a long
# report is not cut.
TROUBLE = """tail -c 6000 /work/data/*.log /work/data/*/*.log; nft list ruleset | head -c 4000; dmesg | tail -15; df /work
for pid in $(pgrep longshore); do cat /proc/$pid/cmdline | tr '\\0' ' ' | cut -c1-70; grep -E 'State|VmRSS|Threads' /proc/$pid/status | tr '\\n' ' '
  cat /proc/$pid/task/*/wchan 2>/dev/null; echo; done
head -2 /proc/pressure/io /proc/pressure/cpu; grep -E 'MemAvail|Dirty|Writeback:' /proc/meminfo; ip -br addr | head -4; ss -tn | head -8
for at in 127.0.0.1 10.0.2.15; do echo "health at $at: $(timeout 5 bash -c 'exec 3<>/dev/tcp/'$at'/4566; printf "GET /health HTTP/1.0\\r\\n\\r\\n" >&3; head -1 <&3')"; done
dmesg | grep crng; uptime"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    machine = getattr(item, "funcargs", {}).get("machine")
    if report.failed and machine is not None and machine.process.poll() is None and hasattr(report.longrepr, "addsection"):
        try:
            said = machine.run(TROUBLE, 90, check=False)
        except pytest.fail.Exception as silence:
            said = str(silence)
        report.longrepr.addsection("the machine", said)
    return report


@pytest.fixture(scope="session")
def machine(tmp_path_factory):
    prepared = subprocess.run([HERE / "prepare"], capture_output=True, text=True)
    if prepared.returncode == 3:
        pytest.skip(prepared.stderr.strip())
    assert prepared.returncode == 0, prepared.stderr
    place = tmp_path_factory.mktemp("machine")
    files = place / "files"
    (files / "tests").mkdir(parents=True)
    shutil.copy(_clients.binary(), files / "longshore")
    probe = Path(os.environ["LONGSHORE_PROBE"])
    layer = images.busybox_layer({"bin/probe": probe.read_bytes()})
    images.docker_save(files / "probe.tar", "probe:1", [layer])
    for path in kernel_tests():
        shutil.copy(path, files / "tests" / path.name)
    subprocess.run(["strip", "--strip-debug", files / "longshore", *(files / "tests").iterdir()], check=False, capture_output=True)
    machine = Machine(prepared.stdout.strip().splitlines()[-1], place, files)
    shutil.rmtree(files)
    machine.boot()
    yield machine
    machine.cut_power()
    for image in [machine.root, machine.disk]:
        image.unlink()


@pytest.fixture(scope="session")
def region(machine):
    region = FarRegion(machine).up()
    region.run("image", "load", "/work/probe.tar")
    return region


@pytest.fixture
def box(region):
    return "127.0.0.1:4566/probe:1"
