"""What a task definition names is fetched only from where the host's owner would have it."""

import http.server
import threading

import pytest
from botocore.exceptions import ClientError

from conftest import Cluster, unique


@pytest.fixture
def inside():
    """A service on the host's loopback that nobody is to be led to; what it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            asked.append((self.command, self.path, self.headers.get("Authorization")))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(b"{}")

        do_GET = do_HEAD = do_POST = answer

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, asked
    server.shutdown()


def why_not(task):
    return task["containers"][0].get("reason", "") + " | " + task["stoppedReason"]


def test_an_image_name_leads_nobody_to_the_hosts_loopback_or_link(cluster, inside):
    port, asked = inside
    for host in [f"127.0.0.1:{port}", f"localhost:{port}", f"[::ffff:127.0.0.1]:{port}", "169.254.169.254"]:
        container = {**cluster.container("true"), "image": f"{host}/latest:1"}
        task = cluster.until(cluster.run(cluster.define(container))[0], "STOPPED")
        assert task["stopCode"] == "TaskFailedToStart", task
        assert "CannotPullContainerError" in why_not(task), (host, why_not(task))
        if not host.startswith("["):
            assert "is not asked" in why_not(task) and "--allow-registry" in why_not(task), (host, why_not(task))
    assert asked == []


def to(container, endpoint):
    container["logConfiguration"]["options"]["awslogs-endpoint"] = endpoint
    return container


def test_fargate_sends_lines_to_the_region_only(cluster, inside):
    port, asked = inside
    with pytest.raises(ClientError, match="awslogs-endpoint with another endpoint than this region's"):
        cluster.define(to(cluster.container("true"), f"http://127.0.0.1:{port}"))
    own = cluster.define(to(cluster.container("echo", "hello"), cluster.region.endpoint))
    arn, = cluster.run(own)
    cluster.until(arn, "STOPPED")
    assert cluster.lines(arn) == ["hello"]
    assert asked == []


@pytest.mark.parametrize("options", [{}, {"awslogs-create-stream": "false", "awslogs-create-group": "true"}])
def test_no_task_of_a_host_sends_its_accounts_credentials_elsewhere(cluster, inside, options):
    port, asked = inside
    container = to(cluster.container("echo", "hello"), f"http://127.0.0.1:{port}")
    container["logConfiguration"]["options"].update(options)
    role = {"executionRoleArn": "ecsTaskExecutionRole"}
    definition = cluster.define(container, fargate=False, **role)
    arn, = cluster.run(definition, fargate=False, cluster="default")
    task = cluster.until(arn, "STOPPED", cluster="default")
    assert task["stopCode"] == "TaskFailedToStart", task
    assert "is not this region's endpoint" in why_not(task), why_not(task)
    assert asked == []
