"""A Docker Engine of the tests' own: its directories, its socket, and none of the machine's rules touched."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

from conftest import wait_for


def dockerd():
    return shutil.which("dockerd", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")


class DockerEngine:
    def __init__(self, *extra):
        program = dockerd() or pytest.skip("there is no dockerd (Debian: docker.io)")
        # A socket's path is short.
        self.dir = Path(tempfile.mkdtemp(prefix="lsdocker"))
        self.socket, self.log = self.dir / "socket", self.dir / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [program, "--data-root", self.dir / "data", "--exec-root", self.dir / "exec", "--pidfile", self.dir / "pid",
                 "--host", f"unix://{self.socket}", "--bridge=none", "--iptables=false", "--ip6tables=false",
                 "--ip-forward=false", "--ip-masq=false", *extra],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("dockerd", self.is_there, 60)

    def is_there(self):
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            return self.ask("GET", "/_ping", parse=False) == b"OK"
        except OSError:
            return False

    def ask(self, method, path, parse=True):
        connection = http.client.HTTPConnection("docker", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.socket))
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return (json.loads(body) if body else None) if parse else body

    def containers(self, task=None):
        """All of the tests' agents, or a task's, as Docker shows them."""
        label = f"com.amazonaws.ecs.task-arn={task}" if task else "longshore.agent"
        found = self.ask("GET", "/containers/json?all=1&filters=" + quote(json.dumps({"label": [label]})))
        return [self.ask("GET", f"/containers/{each['Id']}/json") for each in found]

    def left(self):
        """What there is of agents'."""
        names = [each["Name"] for each in self.containers()]
        names += [each["Name"] for each in self.ask("GET", "/volumes")["Volumes"] or []]
        names += [each["Name"] for each in self.ask("GET", "/networks")]
        return [name for name in names if "longshore" in name]

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            path = line.split(" ")[1]
            if path.startswith(str(self.dir)):
                subprocess.run(["umount", "-l", path], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)
