"""Addresses, ports, names and walls."""

import subprocess
import urllib.request

import pytest

from conftest import unique, wait_for

SERVE = ["sh", "-c", "httpd -f -p 80 -h /www"]


def get(url, seconds=5):
    done = subprocess.run(["curl", "-sS", "-m", str(seconds), "--retry", "10", "--retry-delay", "1",
                           "--retry-connrefused", url], capture_output=True, text=True)
    return done.stdout or done.stderr


def test_each_awsvpc_task_has_an_address_that_the_host_and_other_tasks_reach(cluster):
    definition = cluster.define(cluster.container(*SERVE, stopTimeout=2))
    first, second = cluster.run(definition, count=2)
    tasks = [cluster.until(arn, "RUNNING") for arn in (first, second)]
    addresses = [cluster.address(task) for task in tasks]
    assert len(set(addresses)) == 2
    for address in addresses:
        assert get(f"http://{address}/") == "it works\n"
    lines, _ = cluster.output("wget", "-q", "-O", "-", f"http://{addresses[0]}/")
    assert lines == ["it works"]
    details = {d["name"]: d["value"] for d in tasks[0]["attachments"][0]["details"]}
    assert details["subnetId"] == cluster.subnets[0]
    assert tasks[0]["containers"][0]["networkInterfaces"][0]["privateIpv4Address"] == addresses[0]
    found = cluster.region.client("ec2").describe_network_interfaces(
        NetworkInterfaceIds=[details["networkInterfaceId"]])["NetworkInterfaces"][0]
    assert found["PrivateIpAddress"] == addresses[0] and found["MacAddress"] == details["macAddress"]
    for arn in (first, second):
        cluster.ecs.stop_task(cluster=cluster.name, task=arn)
        cluster.until(arn, "STOPPED")
    left = cluster.region.client("ec2").describe_network_interfaces()["NetworkInterfaces"]
    assert details["networkInterfaceId"] not in [eni["NetworkInterfaceId"] for eni in left]


def test_the_interface_inside_is_the_one_described(cluster):
    lines, task = cluster.output("sh", "-c", "ip -o addr show eth0; ip route; cat /etc/hosts /etc/resolv.conf")
    address = cluster.address(task)
    details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
    text = "\n".join(lines)
    assert address in text and "default via" in text, text
    assert "nameserver" in text and "localhost" in text, text


def test_a_bridge_task_publishes_dynamic_and_fixed_ports(cluster):
    definition = cluster.define(
        cluster.container(*SERVE, stopTimeout=2, portMappings=[{"containerPort": 80, "hostPort": 0}]), fargate=False)
    arn, = cluster.run(definition, fargate=False, cluster="default")
    task = cluster.until(arn, "RUNNING", cluster="default")
    binding, = [b for b in task["containers"][0]["networkBindings"] if b["containerPort"] == 80][:1]
    assert binding["hostPort"] > 1024
    assert get(f"http://127.0.0.1:{binding['hostPort']}/") == "it works\n"
    cluster.ecs.stop_task(cluster="default", task=arn)
    cluster.until(arn, "STOPPED", cluster="default")


def test_a_range_of_ports_is_one_binding_to_ports_that_lie_side_by_side(cluster):
    serve = "for port in 8080 8081 8082; do httpd -p $port -h /www; done; sleep 600"
    definition = cluster.define(cluster.container("sh", "-c", serve, stopTimeout=1, portMappings=[
        {"containerPortRange": "8080-8082"}, {"containerPort": 90, "hostPort": 0}]), fargate=False)
    arn, = cluster.run(definition, fargate=False, cluster="default")
    task = cluster.until(arn, "RUNNING", cluster="default")
    ranged, single = task["containers"][0]["networkBindings"]
    first, last = map(int, ranged["hostPortRange"].split("-"))
    assert ranged == {"bindIP": "0.0.0.0", "containerPortRange": "8080-8082", "protocol": "tcp",
                      "hostPortRange": f"{first}-{first + 2}"}
    assert single["containerPort"] == 90 and single["hostPort"] not in range(first, last + 1)
    for port in range(first, last + 1):
        assert get(f"http://127.0.0.1:{port}/") == "it works\n"
    cluster.ecs.stop_task(cluster="default", task=arn)
    cluster.until(arn, "STOPPED", cluster="default")


def test_host_mode_uses_the_hosts_network(cluster):
    definition = cluster.define(cluster.container("ip", "-o", "link"), fargate=False, networkMode="host")
    arn, = cluster.run(definition, fargate=False, cluster="default")
    cluster.until(arn, "STOPPED", cluster="default")
    names = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout
    assert any("lo:" in line for line in cluster.lines(arn))
    assert "eth0" in names and any("eth0" in line for line in cluster.lines(arn))


def test_none_mode_has_no_network(cluster):
    definition = cluster.define(cluster.container("ip", "-o", "link"), fargate=False, networkMode="none")
    arn, = cluster.run(definition, fargate=False, cluster="default")
    cluster.until(arn, "STOPPED", cluster="default")
    assert all("lo" in line for line in cluster.lines(arn)), cluster.lines(arn)


def test_a_taken_host_port_is_a_placement_failure_that_names_it(cluster):
    definition = cluster.define(
        cluster.container(*SERVE, stopTimeout=2, portMappings=[{"containerPort": 80, "hostPort": 18099}]), fargate=False)
    first, = cluster.run(definition, fargate=False, cluster="default")
    cluster.until(first, "RUNNING", cluster="default")
    answer = cluster.ecs.run_task(cluster="default", taskDefinition=definition, launchType="EC2")
    assert answer["tasks"] == [] and answer["failures"][0]["reason"] == "RESOURCE:PORTS"
    cluster.ecs.stop_task(cluster="default", task=first)
    cluster.until(first, "STOPPED", cluster="default")


def test_the_vpc_is_described(region):
    ec2 = region.client("ec2")
    vpc, = ec2.describe_vpcs()["Vpcs"]
    assert vpc["IsDefault"] and vpc["State"] == "available"
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["Subnets"]
    assert len({subnet["AvailabilityZone"] for subnet in subnets}) == 3
    groups = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
    assert groups[0]["VpcId"] == vpc["VpcId"]
    zones = ec2.describe_availability_zones()["AvailabilityZones"]
    assert [zone["State"] for zone in zones] == ["available"] * 3


def test_two_regions_run_side_by_side(region, start_region, tmp_path):
    import images
    other = start_region(name="second")
    other.run("image", "load", str(images.docker_save(tmp_path / "box.tar", "box:1")))
    from conftest import Cluster
    here = Cluster(region, f"127.0.0.1:{region.port}/box:1")
    there = Cluster(other, f"127.0.0.1:{other.port}/box:1")
    running = []
    for each in (here, there):
        arn, = each.run(each.define(each.container(*SERVE, stopTimeout=2)))
        running.append((each, arn, each.address(each.until(arn, "RUNNING"))))
    for _, _, address in running:
        assert get(f"http://{address}/") == "it works\n"
    vpcs = {each.client("ec2").describe_vpcs()["Vpcs"][0]["CidrBlock"] for each in (region, other)}
    assert len(vpcs) == 2, vpcs
    other.down()
    assert get(f"http://{running[0][2]}/") == "it works\n"
    here.ecs.stop_task(cluster=here.name, task=running[0][1])
