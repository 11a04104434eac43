"""Output goes where a log driver sends it: syslog, fluentd, gelf, splunk, and a task's own router (FireLens)."""

import gzip
import http.server
import json
import os
import socket
import struct
import threading
import zlib
from pathlib import Path

import pytest

from conftest import Cluster, free_port, unique, wait_for
from services import IDLE

FEW = "echo out; echo err >&2; sleep 1000 & wait"


@pytest.fixture(scope="module")
def host(start_region):
    return start_region("--allow-log-endpoint", "127.0.0.1", "--introspection", "off", name="drivers", image="box:1")


@pytest.fixture
def own(host):
    return Cluster(host, f"127.0.0.1:{host.port}/box:1")


def unpack(data, at=0):
    """One value of MessagePack, as far as fluentd's protocol needs it, and where the next begins."""
    kind, at = data[at], at + 1
    if kind >> 4 == 9 or kind >> 4 == 8:
        count, values = kind & 15, []
        for _ in range(count * (2 if kind >> 4 == 8 else 1)):
            value, at = unpack(data, at)
            values.append(value)
        return (dict(zip(values[::2], values[1::2])) if kind >> 4 == 8 else values), at
    if kind >> 5 == 5:
        size = kind & 31
    elif kind in (0xd9, 0xda, 0xdb):
        width = {0xd9: 1, 0xda: 2, 0xdb: 4}[kind]
        size, at = int.from_bytes(data[at:at + width], "big"), at + width
    elif kind == 0xcf:
        return int.from_bytes(data[at:at + 8], "big"), at + 8
    elif kind == 0xd7:
        seconds, nanoseconds = struct.unpack(">II", data[at + 1:at + 9])
        return seconds + nanoseconds / 1e9, at + 9
    else:
        raise ValueError(hex(kind))
    if len(data) < at + size:
        raise IndexError
    return data[at:at + size].decode(), at + size


def messages(data):
    found, at = [], 0
    while at < len(data):
        try:
            value, at = unpack(data, at)
        except IndexError:
            break
        found.append(value)
    return found


class Listener:
    """A stream or datagram server on this machine that keeps what it is sent."""

    def __init__(self, sock):
        self.sock, self.data, self.packets = sock, b"", []
        threading.Thread(target=self.serve, daemon=True).start()

    @property
    def port(self):
        return self.sock.getsockname()[1]

    def serve(self):
        if self.sock.type == socket.SOCK_DGRAM:
            while True:
                try:
                    self.packets.append(self.sock.recv(65_536))
                except OSError:
                    return
        while True:
            try:
                client, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.read, args=[client], daemon=True).start()

    def read(self, client):
        while piece := client.recv(65_536):
            self.data += piece


def listen(kind=socket.SOCK_STREAM):
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return Listener(sock)


def start(own, driver, options, script=FEW, **more):
    log = {"logConfiguration": {"logDriver": driver, "options": options}}
    container = {**own.container("sh", "-c", script, stopTimeout=2), **log, **more}
    arn, = own.run(own.define(container, fargate=False), fargate=False, cluster="default")
    return arn


def stop(own, arn):
    own.ecs.stop_task(cluster="default", task=arn)
    return own.until(arn, "STOPPED", cluster="default")


def test_syslog_says_facility_severity_and_tag(own):
    server = listen(socket.SOCK_DGRAM)
    arn = start(own, "syslog", {"syslog-address": f"udp://127.0.0.1:{server.port}", "tag": "web/{{.Name}}",
                                "syslog-facility": "local0", "syslog-format": "rfc5424"})
    lines = wait_for("two lines", lambda: len(server.packets) == 2 and sorted(server.packets))
    error, information = [line.decode() for line in lines]
    assert information.startswith("<134>1 ") and information.endswith(" - out"), information
    assert error.startswith("<131>1 ") and error.endswith(" - err"), error
    assert " web/ecs-" in information
    stop(own, arn)


def test_fluentd_is_sent_records_and_acknowledges_them(own):
    server = listen()
    arn = start(own, "fluentd", {"fluentd-address": f"127.0.0.1:{server.port}", "tag": "app.{{.ID}}",
                                 "fluentd-sub-second-precision": "true", "labels": "team", "env": "TIER"},
                dockerLabels={"team": "x"}, environment=[{"name": "TIER", "value": "y"}])
    found = wait_for("two records", lambda: len(messages(server.data)) == 2 and messages(server.data))
    task = own.until(arn, "RUNNING", cluster="default")
    runtime_id = task["containers"][0]["runtimeId"]
    for (tag, at, record), (source, line) in zip(sorted(found, key=lambda it: it[2]["source"]),
                                                 [("stderr", "err"), ("stdout", "out")]):
        assert tag == f"app.{runtime_id[:12]}" and at > 1e9
        assert record == {"container_id": runtime_id, "container_name": record["container_name"], "source": source,
                          "log": line, "team": "x", "TIER": "y"}
    stop(own, arn)


def test_a_container_is_not_started_while_nobody_listens_unless_it_may_be(own):
    port = free_port()
    options = {"fluentd-address": f"127.0.0.1:{port}"}
    arn = start(own, "fluentd", options)
    task = own.until(arn, "STOPPED", cluster="default")
    reason = task["containers"][0]["reason"]
    assert reason.startswith("CannotStartContainerError: failed to initialize logging driver: failed to reach"), reason

    arn = start(own, "fluentd", {**options, "fluentd-async": "true"})
    own.until(arn, "RUNNING", cluster="default")
    late = socket.socket()
    late.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    late.bind(("127.0.0.1", port))
    late.listen()
    server = Listener(late)
    wait_for("what waited", lambda: len(messages(server.data)) == 2)
    stop(own, arn)


def test_gelf_is_sent_packed_and_in_chunks(own):
    server = listen(socket.SOCK_DGRAM)
    # Noise, which no packing makes small.
    script = "head -c 9000 /dev/urandom | tr -dc 'a-zA-Z0-9' | head -c 5000; echo; echo short; sleep 1000 & wait"
    arn = start(own, "gelf", {"gelf-address": f"udp://127.0.0.1:{server.port}", "gelf-compression-type": "zlib",
                              "tag": "t"}, script)

    def read():
        whole, parts = [], {}
        for packet in server.packets:
            if packet[:2] != b"\x1e\x0f":
                whole.append(packet)
                continue
            chunks = parts.setdefault(packet[2:10], {})
            chunks[packet[10]] = packet[12:]
            if len(chunks) == packet[11]:
                whole.append(b"".join(chunks[number] for number in sorted(chunks)))
        return [json.loads(zlib.decompress(each)) for each in whole]

    found = wait_for("two messages", lambda: len(read()) == 2 and read())
    long, short = sorted(found, key=lambda it: -len(it["short_message"]))
    assert len(server.packets) > 2 and len(long["short_message"]) > 1000
    assert (short["version"], short["level"], short["_tag"], short["short_message"]) == ("1.1", 6, "t", "short")
    assert short["_container_name"].startswith("ecs-") and short["host"] and short["timestamp"] > 1e9
    stop(own, arn)


class Collector(http.server.BaseHTTPRequestHandler):
    """Splunk's HTTP event collector, which is away for the first event."""

    def do_OPTIONS(self):
        self.send_response(200 if self.headers["Authorization"] == "Splunk token" else 403)
        self.end_headers()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.posts += 1
        if self.server.posts == 1:
            self.send_response(503)
        else:
            decoder, text, at = json.JSONDecoder(), body.decode(), 0
            while at < len(text):
                value, at = decoder.raw_decode(text, at)
                self.server.events.append(value)
            self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass


def test_splunk_is_sent_events_again_until_it_takes_them_and_the_token_is_kept_elsewhere(own, host):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.events, server.posts = [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    name = unique("/token/")
    host.client("ssm").put_parameter(Name=name, Value="token", Type="SecureString")
    log = {"logDriver": "splunk", "secretOptions": [{"name": "splunk-token", "valueFrom": name}],
           "options": {"splunk-url": f"http://127.0.0.1:{server.server_port}", "splunk-gzip": "true",
                       "splunk-format": "json", "splunk-index": "main"}}
    account = host.client("sts").get_caller_identity()["Account"]
    host.client("iam").put_role_policy(
        RoleName="ecsTaskExecutionRole", PolicyName="token", PolicyDocument=json.dumps({
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": ["ssm:GetParameters", "kms:Decrypt"], "Resource": "*"}]}))
    container = {**own.container("sh", "-c", "echo '{\"a\": 1}'; " + IDLE, stopTimeout=2), "logConfiguration": log}
    role = f"arn:aws:iam::{account}:role/ecsTaskExecutionRole"
    definition = own.define(container, fargate=False, executionRoleArn=role)
    arn, = own.run(definition, fargate=False, cluster="default")
    event, = wait_for("an event", lambda: server.events)
    assert event["event"]["line"] == {"a": 1} and event["event"]["source"] == "stdout" and event["index"] == "main"
    assert server.posts == 2
    stop(own, arn)
    server.shutdown()


def test_no_driver_reaches_this_machine_unless_its_operator_says_so(own):
    for driver, options in [("syslog", {"syslog-address": "udp://169.254.169.254:514"}),
                            ("fluentd", {"fluentd-address": "unix:///run/nothing.sock"}),
                            ("gelf", {"gelf-address": "tcp://[::1]:1"})]:
        arn = start(own, driver, options)
        reason = own.until(arn, "STOPPED", cluster="default")["containers"][0]["reason"]
        assert "--allow-log-endpoint" in reason, reason
    arn = start(own, "gelf", {"gelf-nothing": "x"})
    reason = own.until(arn, "STOPPED", cluster="default")["containers"][0]["reason"]
    assert "unknown log opt 'gelf-nothing' for gelf log driver" in reason, reason


@pytest.mark.parametrize("fargate", [True, False])
def test_firelens_configures_the_router_and_leads_output_to_its_socket(own, host, fargate, monkeypatch):
    show = "cat /fluent-bit/etc/fluent-bit.conf; ls -d /var/run; " + IDLE
    router = {**own.container("sh", "-c", show, name="router", stopTimeout=2),
              "firelensConfiguration": {"type": "fluentbit", "options": {
                  "config-file-type": "file", "config-file-value": "/extra.conf"}}}
    app = {**own.container("sh", "-c", "echo $FLUENT_PORT; " + FEW, name="app", stopTimeout=2),
           "logConfiguration": {"logDriver": "awsfirelens", "options": {
               "Name": "http", "Host": "logs.lan", "exclude-pattern": "^never"}}}
    where = None if fargate else "default"
    arn, = own.run(own.define(app, router, fargate=fargate), fargate=fargate, cluster=where)
    own.until(arn, "RUNNING", cluster=where)
    shown = wait_for("its configuration", lambda: "/var/run" in own.lines(arn, "router") and own.lines(arn, "router"))
    text = "\n".join(line.strip() for line in shown)
    assert "Name forward\nunix_path /var/run/fluent.sock" in text
    assert ("Listen 127.0.0.1\nPort 24224" if fargate else "Listen 0.0.0.0\nPort 24224") in text
    assert f"Record ecs_task_arn {arn}" in text and "@INCLUDE /extra.conf" in text
    assert "Name grep\nMatch app-firelens*\nExclude log ^never" in text
    assert "Name http\nMatch app-firelens*\nHost logs.lan" in text

    # This test is the router's process: paths of sockets are short, so it goes where the socket is.
    task_id = arn.rsplit("/", 1)[1]
    monkeypatch.chdir(Path(host.data_dir) / "agent/volumes" / task_id / ".firelens")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("fluent.sock")
    os.chmod("fluent.sock", 0o777)
    sock.listen()
    server = Listener(sock)
    found = wait_for("three records", lambda: len(messages(server.data)) == 3 and messages(server.data))
    assert {tag for tag, _, _ in found} == {f"app-firelens-{task_id}"}
    assert {record["log"] for _, _, record in found} == {"24224", "out", "err"}
    own.ecs.stop_task(cluster=where or own.name, task=arn)
    own.until(arn, "STOPPED", cluster=where)
    assert not (Path(host.data_dir) / "agent/volumes" / task_id).exists()


def test_nobody_waits_for_a_router_that_has_ended(own, host):
    """No process of the router's ever listens: what the container printed last is for nobody."""
    router = {**own.container("sh", "-c", "sleep 2; exit 3", name="router"),
              "firelensConfiguration": {"type": "fluentbit"}}
    app = {**own.container("sh", "-c", "trap 'exit 0' TERM; echo hi; sleep 1000 & wait", name="app"),
           "logConfiguration": {"logDriver": "awsfirelens", "options": {"Name": "stdout"}}}
    arn, = own.run(own.define(app, router))
    task = own.until(arn, "STOPPED", seconds=20)
    assert {each["name"]: each["exitCode"] for each in task["containers"]} == {"app": 0, "router": 3}, task
    said = host.tail()
    assert "log lines given up: the task's router has ended" in said and "log lines dropped" in said
