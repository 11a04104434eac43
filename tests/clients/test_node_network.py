"""Tasks on different hosts reach each other at their addresses, as far as their security groups say."""

import os
import re

import pytest

from hosts import PORT, SUBNET, eventually, fleet, join_all

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("hosts"), 2) as (region, hosts):
        join_all(region, hosts)
        yield region, hosts


class Task:
    """A web server on one host, with an address of its own."""

    def __init__(self, region, host, group):
        self.ecs, self.host = region.client("ecs"), host
        subnets = region.client("ec2").describe_subnets()["Subnets"]
        self.ecs.register_task_definition(
            family="web", networkMode="awsvpc", requiresCompatibilities=["EC2"], containerDefinitions=[{
                "name": "main", "image": f"{SUBNET}.1:{PORT}/box:1", "memory": 16, "stopTimeout": 2,
                "command": ["httpd", "-f", "-p", "80", "-h", "/www"]}])
        run = self.ecs.run_task(
            cluster="web", taskDefinition="web", launchType="EC2",
            placementConstraints=[{"type": "memberOf", "expression": f"attribute:longshore.host-name == {host.name}"}],
            networkConfiguration={"awsvpcConfiguration": {"subnets": [subnets[0]["SubnetId"]], "securityGroups": [group]}})
        assert not run["failures"], run["failures"]
        self.arn = run["tasks"][0]["taskArn"]
        details, _ = eventually("the task to run", self.running, 60)
        self.address = details["privateIPv4Address"]

    def running(self):
        task = self.ecs.describe_tasks(cluster="web", tasks=[self.arn])["tasks"][0]
        assert task["lastStatus"] != "STOPPED", task.get("stoppedReason")
        details = {each["name"]: each["value"] for each in task["attachments"][0]["details"]}
        return details if task["lastStatus"] == "RUNNING" else None

    def gets(self, other):
        """What another task answers, asked from within this one's network."""
        found = self.host.run("sh", "-c", f"ls -d /run/longshore/*/netns/*{self.arn.rsplit('/')[-1]}*").stdout.split()
        assert len(found) == 1, found
        asked = self.host.run("nsenter", f"--net={found[0]}", "curl", "-s", "-m", "2", "--noproxy", "*",
                              f"http://{other.address}/", check=False)
        return asked.stdout.strip()

    def stop(self):
        self.ecs.stop_task(cluster="web", task=self.arn)
        eventually("the task to stop", lambda: self.ecs.describe_tasks(
            cluster="web", tasks=[self.arn])["tasks"][0]["lastStatus"] == "STOPPED", 60)


def rule(group):
    return [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{"GroupId": group}]}]


def test_tasks_on_two_hosts_reach_each_other_by_a_rule_that_names_a_group_and_not_without(world):
    region, (one, two) = world
    ec2 = region.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    client, server = (ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
                      for name in ("client", "server"))
    ec2.authorize_security_group_ingress(GroupId=server, IpPermissions=rule(client))
    asks, answers, beside = Task(region, one, client), Task(region, two, server), Task(region, two, client)
    eventually("an answer of the other host", lambda: asks.gets(answers) == "it works")
    assert answers.gets(asks) == "", "its group admits nobody"
    assert beside.gets(answers) == "it works"

    ec2.revoke_security_group_ingress(GroupId=server, IpPermissions=rule(client))
    eventually("the door to be shut", lambda: asks.gets(answers) == "", 10)
    ec2.authorize_security_group_ingress(GroupId=server, IpPermissions=rule(client))
    _, seconds = eventually("the door to be open", lambda: asks.gets(answers) == "it works", 10)
    print(f"open on the other host {seconds:.2f} s after the rule was made")

    # An agent that is away: the packets go on, and it learns what it missed.
    two.kill()
    assert asks.gets(answers) == "it works"
    late = Task(region, one, client)
    two.again()
    eventually("the one that came meanwhile", lambda: late.gets(answers) == "it works", 60)

    # Whoever comes to the address of a task that has ended is not let in by that one's group.
    routes = two.run("ip", "route").stdout
    assert f"{late.address} via {SUBNET}.11" in routes, routes
    late.stop()
    eventually("the route to end", lambda: late.address not in two.run("ip", "route").stdout, 20)

    # A host that is cut off from the other hosts is cut off from their tasks, and finds them again.
    two.cut_off()
    assert asks.gets(answers) == ""
    two.heal()
    eventually("the other host once more", lambda: asks.gets(answers) == "it works", 60)
    for task in (asks, answers, beside):
        task.stop()


def test_nothing_of_the_other_hosts_is_left_behind(world):
    _, hosts = world
    for host in hosts:
        host.end()
        host.longshore("down")
        left = host.run("ip", "-o", "link").stdout
        assert not re.search(r"\bl[hsx][0-9a-f]{8}", left), left
        assert host.run("nft", "list", "tables").stdout.strip() == ""
