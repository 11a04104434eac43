"""Security groups: made and changed through clients, and obeyed by packets of running tasks."""

import subprocess
import time
from pathlib import Path

import botocore.exceptions
import pytest

from conftest import unique, wait_for
from services import refused

SERVE = ["sh", "-c", "httpd -f -p 80 -h /www"]
IDLE = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"]


class Groups:
    def __init__(self, region, cluster):
        self.ec2, self.cluster, self.region = region.client("ec2"), cluster, region
        self.made, self.tasks = [], []

    def make(self, name):
        made = self.ec2.create_security_group(GroupName=unique(name), Description=name)["GroupId"]
        self.made.append(made)
        return made

    def run(self, *groups, command=SERVE):
        arn, = self.cluster.run(
            self.cluster.define(self.cluster.container(*command, stopTimeout=2)),
            networkConfiguration={"awsvpcConfiguration": {
                "subnets": self.cluster.subnets[:1], "securityGroups": list(groups), "assignPublicIp": "ENABLED"}})
        self.tasks.append(arn)
        return self.cluster.address(self.cluster.until(arn, "RUNNING"))

    def clean_up(self):
        for arn in self.tasks:
            self.cluster.ecs.stop_task(cluster=self.cluster.name, task=arn)
        for arn in self.tasks:
            self.cluster.until(arn, "STOPPED")
        for group in reversed(self.made):
            self.ec2.delete_security_group(GroupId=group)


@pytest.fixture
def groups(region, cluster):
    made = Groups(region, cluster)
    yield made
    made.clean_up()


def namespace_of(address):
    """The network namespace of the task that has the address."""
    for file in Path("/run/longshore").glob("*/netns/*"):
        shown = subprocess.run(["nsenter", f"--net={file}", "ip", "-o", "addr"], capture_output=True, text=True)
        if f" {address}/" in shown.stdout:
            return file
    pytest.fail(f"no namespace has {address}")


def reaches(namespace, address, port=80):
    """Whether a connection from the namespace is answered within a third of a second."""
    done = subprocess.run(["nsenter", f"--net={namespace}", "curl", "-s", "-o", "/dev/null", "--connect-timeout", "0.3",
                           "-m", "2", f"http://{address}:{port}/"])
    return done.returncode == 0


def tcp(port, **peer):
    return [{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **peer}]


def until_in_force(condition):
    """Waits until a change shows, and answers how long that took."""
    began = time.monotonic()
    wait_for("the change to be in force", condition, 10, step=0.01)
    return time.monotonic() - began


def test_a_change_of_rules_is_in_force_for_running_tasks_within_a_second(groups):
    web, client = groups.make("web"), groups.make("client")
    server, asker = groups.run(web), groups.run(client, command=IDLE)
    inside = namespace_of(asker)
    assert not reaches(inside, server), "a new group lets nothing in"
    assert subprocess.run(["curl", "-s", "-m", "2", "-o", "/dev/null", f"http://{server}/"]).returncode == 0, \
        "the host reaches every task of the default VPC"
    groups.ec2.authorize_security_group_ingress(
        GroupId=web, IpPermissions=tcp(80, UserIdGroupPairs=[{"GroupId": client}]))
    took = {"authorized by group": until_in_force(lambda: reaches(inside, server))}
    said = groups.region.run("net", "explain", "--from", groups.tasks[1], "--to", f"{groups.tasks[0]}:80").stdout
    assert said.endswith("it is let through\n") and web in said and client in said, said
    said = groups.region.run("net", "explain", "--from", asker, "--to", f"{server}:81").stdout
    assert f"no ingress rule of {web}" in said and said.endswith("it is not let through\n"), said
    groups.ec2.revoke_security_group_ingress(
        GroupId=web, IpPermissions=tcp(80, UserIdGroupPairs=[{"GroupId": client}]))
    took["revoked"] = until_in_force(lambda: not reaches(inside, server))
    groups.ec2.authorize_security_group_ingress(GroupId=web, IpPermissions=tcp(80, IpRanges=[{"CidrIp": f"{asker}/32"}]))
    took["authorized by range"] = until_in_force(lambda: reaches(inside, server))
    groups.ec2.revoke_security_group_egress(
        GroupId=client, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    took["egress revoked"] = until_in_force(lambda: not reaches(inside, server))
    groups.ec2.authorize_security_group_egress(
        GroupId=client, IpPermissions=tcp(80, UserIdGroupPairs=[{"GroupId": web}]))
    took["egress by group"] = until_in_force(lambda: reaches(inside, server))
    print(took)
    assert max(took.values()) < 1.0, took


def test_the_default_group_can_be_emptied_and_then_lets_nothing_pass(start_region, tmp_path):
    import images
    from conftest import Cluster
    region = start_region(name="emptied")
    region.run("image", "load", str(images.docker_save(tmp_path / "box.tar", "box:1")))
    cluster = Cluster(region, f"127.0.0.1:{region.port}/box:1")
    groups = Groups(region, cluster)
    server, asker = groups.run(), groups.run(command=IDLE)
    inside = namespace_of(asker)
    assert reaches(inside, server), "members of the default group reach each other"
    default, = groups.ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
    rules = groups.ec2.describe_security_group_rules(
        Filters=[{"Name": "group-id", "Values": [default["GroupId"]]}])["SecurityGroupRules"]
    by_way = {egress: [r["SecurityGroupRuleId"] for r in rules if r["IsEgress"] == egress] for egress in (True, False)}
    groups.ec2.revoke_security_group_ingress(GroupId=default["GroupId"], SecurityGroupRuleIds=by_way[False])
    assert until_in_force(lambda: not reaches(inside, server)) < 1.0
    groups.ec2.revoke_security_group_egress(GroupId=default["GroupId"], SecurityGroupRuleIds=by_way[True])
    groups.ec2.authorize_security_group_ingress(
        GroupId=default["GroupId"],
        IpPermissions=[{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": default["GroupId"]}]}])
    time.sleep(0.3)
    assert not reaches(inside, server), "nothing may leave"
    region.process.terminate()
    region.process.wait()
    assert not reaches(inside, server), "rules stay in force while nobody is there"
    region.up()
    assert not reaches(inside, server), "and when somebody is again"
    groups.ec2 = region.client("ec2")
    groups.ec2.authorize_security_group_egress(
        GroupId=default["GroupId"], IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    assert until_in_force(lambda: reaches(inside, server)) < 5.0, "once the agent is connected"


def test_a_group_in_use_is_not_deleted_and_the_refusal_names_what_uses_it(groups, region):
    used, other = groups.make("used"), groups.make("other")
    groups.ec2.authorize_security_group_ingress(
        GroupId=other, IpPermissions=tcp(80, UserIdGroupPairs=[{"GroupId": used}]))
    groups.run(used, command=IDLE)
    with pytest.raises(botocore.exceptions.ClientError) as refusal:
        groups.ec2.delete_security_group(GroupId=used)
    error = refusal.value.response["Error"]
    assert error["Code"] == "DependencyViolation"
    assert error["Message"].startswith(f"resource {used} has a dependent object (eni-"), error
    assert f"of {other}" in error["Message"], error
    eni, = groups.ec2.describe_network_interfaces(
        Filters=[{"Name": "group-id", "Values": [used]}])["NetworkInterfaces"]
    assert eni["NetworkInterfaceId"] in error["Message"]
    assert [g["GroupId"] for g in eni["Groups"]] == [used]
    refused(groups.ec2.delete_security_group, "CannotDelete", GroupName="default")


def test_tasks_are_refused_groups_that_are_not_there_and_more_than_five(groups, cluster):
    definition = cluster.define(cluster.container(*IDLE))

    def run(*ids):
        return cluster.ecs.run_task(
            cluster=cluster.name, taskDefinition=definition, launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {
                "subnets": cluster.subnets[:1], "securityGroups": list(ids)}})
    for ids in (["sg-12345678"], [groups.make(f"g{n}") for n in range(6)]):
        with pytest.raises(botocore.exceptions.ClientError) as refusal:
            run(*ids)
        assert refusal.value.response["Error"]["Code"] == "InvalidParameterException", refusal.value


def test_the_cli_makes_changes_and_reads_groups(region):
    made = region.aws("ec2", "create-security-group", "--group-name", unique("cli"), "--description", "by the CLI",
                      "--tag-specifications", "ResourceType=security-group,Tags=[{Key=Name,Value=cli}]")
    group = made["GroupId"]
    assert made["Tags"] == [{"Key": "Name", "Value": "cli"}]
    assert made["SecurityGroupArn"].endswith(f":security-group/{group}")
    added = region.aws("ec2", "authorize-security-group-ingress", "--group-id", group, "--protocol", "tcp",
                       "--port", "8000-8010", "--cidr", "10.1.2.3/8")
    rule, = added["SecurityGroupRules"]
    assert (rule["CidrIpv4"], rule["FromPort"], rule["ToPort"]) == ("10.0.0.0/8", 8000, 8010)
    twice = region.aws("ec2", "authorize-security-group-ingress", "--group-id", group, "--protocol", "tcp",
                       "--port", "8000-8010", "--cidr", "10.0.0.0/8", check=False)
    assert "InvalidPermission.Duplicate" in twice.stderr, twice.stderr
    dry = region.aws("ec2", "authorize-security-group-ingress", "--group-id", group, "--protocol", "icmp",
                     "--port", "8", "--cidr", "0.0.0.0/0", "--dry-run", check=False)
    assert "DryRunOperation" in dry.stderr, dry.stderr
    region.aws("ec2", "create-tags", "--resources", group, rule["SecurityGroupRuleId"], "--tags", "Key=stage,Value=test")
    tags = region.aws("ec2", "describe-tags", "--filters", "Name=key,Values=stage")["Tags"]
    assert {tag["ResourceType"] for tag in tags} == {"security-group", "security-group-rule"}
    found = region.aws("ec2", "describe-security-groups", "--filters", "Name=tag:Name,Values=c?i",
                       "Name=ip-permission.to-port,Values=8010")["SecurityGroups"]
    assert [each["GroupId"] for each in found] == [group]
    region.aws("ec2", "revoke-security-group-ingress", "--group-id", group,
               "--security-group-rule-ids", rule["SecurityGroupRuleId"])
    region.aws("ec2", "delete-security-group", "--group-id", group)
    gone = region.aws("ec2", "describe-security-groups", "--group-ids", group, check=False)
    assert f"The security group '{group}' does not exist" in gone.stderr


def test_rules_are_paged_without_loss(region):
    ec2 = region.client("ec2")
    group = ec2.create_security_group(GroupName=unique("many"), Description="many rules")["GroupId"]
    for part in range(3):
        ranges = [{"CidrIp": f"10.{part}.{number}.0/24"} for number in range(40)]
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=tcp(443, IpRanges=ranges))
    pages = ec2.get_paginator("describe_security_group_rules").paginate(
        Filters=[{"Name": "group-id", "Values": [group]}], PaginationConfig={"PageSize": 50})
    rules = [rule["SecurityGroupRuleId"] for page in pages for rule in page["SecurityGroupRules"]]
    assert len(rules) == len(set(rules)) == 121
    ec2.delete_security_group(GroupId=group)
