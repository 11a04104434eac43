"""The stack of examples/production, as Terraform applies it anywhere: it serves, rolls without losing a request, and goes."""

import http.client
import shutil
import ssl
from pathlib import Path

import pytest

import images
from conftest import free_port, unique, wait_for
from services import Beside
from terraforming import Terraform

STACK = Path(__file__).resolve().parents[2] / "examples" / "production"
# Answers what it is on port 8080, below every path.
SERVE = """
mkdir -p /tmp/w/orders; trap 'exit 0' TERM
for each in /tmp/w /tmp/w/orders; do echo "$SERVICE $RELEASE $DATABASE_USER" > $each/index.html; done
httpd -f -p 8080 -h /tmp/w & wait
"""


@pytest.fixture(scope="module")
def stack(start_region, tmp_path_factory):
    folder = tmp_path_factory.mktemp("production")
    region = start_region(name="production")
    region.run("image", "load", str(images.docker_save(folder / "shop.tar", "shop:1", Cmd=["sh", "-c", SERVE])))
    for file in STACK.glob("*.tf"):
        shutil.copy(file, folder)
    name, ports = unique("shop")[:20], (free_port(), free_port())
    made = Terraform(folder, region, {"name": name, "image": f"127.0.0.1:{region.port}/shop:1", "desired": 2,
                                      "http_port": ports[0], "https_port": ports[1]})
    yield made, region, name, ports
    region.down()


def fetch(port, path="/", tls=True, address="127.0.0.1"):
    """A request on a new connection: its status and what it said, or None where there was no answer."""
    unverified = ssl._create_unverified_context()
    connection = (http.client.HTTPSConnection(address, port, timeout=10, context=unverified) if tls
                  else http.client.HTTPConnection(address, port, timeout=10))
    try:
        connection.request("GET", path, headers={"host": "shop.example.com"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip(), answer.getheader("location")
    except (OSError, http.client.HTTPException) as error:  # an answer that was cut off is none
        return None, repr(error), None
    finally:
        connection.close()


class Load(Beside):
    """Asks all the while, and keeps what was not answered as it should. `enter` moves the thread to another network."""

    def __init__(self, port, address="127.0.0.1", enter=lambda: None, paths=("/", "/orders/"), **how):
        super().__init__(self.ask, 0.01, enter)
        self.port, self.paths, self.how = port, paths, {"address": address, **how}
        self.asked, self.lost = 0, []

    def ask(self):
        for path in self.paths:
            answer = fetch(self.port, path, **self.how)
            self.asked += 1
            if answer[0] != 200:
                self.lost.append(answer)


def test_an_ordinary_stack_applies_serves_rolls_without_losing_a_request_and_goes(stack):
    made, region, name, (http_port, https_port) = stack
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")  # 0: no difference
    moved = fetch(http_port, "/orders/?a=b", tls=False)
    assert (moved[0], moved[2]) == (301, f"https://shop.example.com:{https_port}/orders/?a=b")
    wait_for("the shop", lambda: fetch(https_port)[:2] == (200, f"web 1 {name}"))
    wait_for("its orders", lambda: fetch(https_port, "/orders/")[:2] == (200, f"orders 1 {name}"))

    with Load(https_port) as load:
        made.run("apply", "-auto-approve", release="2")
    assert load.lost == [] and load.asked > 20, (load.asked, load.lost[:5])
    wait_for("the new release alone", lambda: {fetch(https_port)[1] for _ in range(6)} == {f"web 2 {name}"})
    made.run("plan", "-detailed-exitcode", release="2")

    made.run("destroy", "-auto-approve", release="2")
    assert region.client("elbv2").describe_load_balancers()["LoadBalancers"] == []
    assert not any(name in arn for arn in region.client("ecs").list_clusters()["clusterArns"])
