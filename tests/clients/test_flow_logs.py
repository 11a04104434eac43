"""Flow logs: records of what tasks send and are sent, from the hosts' kernels, in log groups."""

import json

import pytest

from conftest import wait_for
from services import only, refused
from test_vpcs import Inhabitants, Site, interface_of


@pytest.fixture
def site(region):
    made = Site(region)
    yield made
    made.clean_up()


@pytest.fixture
def inhabitants(site, cluster):
    made = Inhabitants(cluster)
    yield made
    made.clean_up()


@pytest.fixture
def role(region, site):
    """A role that flow logs are delivered in; its trust and its permissions."""
    iam = region.client("iam")
    made = iam.create_role(RoleName=site.name, AssumeRolePolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "vpc-flow-logs.amazonaws.com"}, "Action": "sts:AssumeRole"}]}))
    allow(iam, site.name, ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"])
    yield made["Role"]["Arn"]
    iam.delete_role_policy(RoleName=site.name, PolicyName="deliver")
    iam.delete_role(RoleName=site.name)


def allow(iam, name, actions):
    iam.put_role_policy(RoleName=name, PolicyName="deliver", PolicyDocument=json.dumps({
        "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}))


def create(site, role, kind="VPC", ids=None, **more):
    more.setdefault("LogGroupName", f"/flows/{site.name}")
    answer = site.ec2.create_flow_logs(ResourceType=kind, ResourceIds=ids or [site.vpc], TrafficType="ALL",
                                       DeliverLogsPermissionArn=role, **more)
    assert not answer["Unsuccessful"]
    return answer["FlowLogIds"]


def described(site, flow_log):
    return only(site.ec2.describe_flow_logs(FlowLogIds=[flow_log])["FlowLogs"])


def records(region, group, eni, suffix="all"):
    logs = region.client("logs")
    try:
        found = logs.get_log_events(logGroupName=group, logStreamName=f"{eni}-{suffix}", startFromHead=True)
    except logs.exceptions.ResourceNotFoundException:
        return []
    return [event["message"].split(" ") for event in found["events"]]


def test_what_tasks_send_is_written_down_with_what_became_of_it(region, site, inhabitants, role):
    ec2, group = site.ec2, f"/flows/{site.name}"
    flow_log, = create(site, role)
    rejects, = create(site, role, "Subnet", [site.subnets[0]], LogGroupName=group + "/rejects", MaxAggregationInterval=60,
                      LogFormat="${version} ${srcaddr} ${dstport} ${action} ${flow-direction} ${ecs-task-id} ${subnet-id}")
    ec2.delete_flow_logs(FlowLogIds=[rejects])
    answer = ec2.create_flow_logs(ResourceType="Subnet", ResourceIds=[site.subnets[0]], TrafficType="REJECT",
                                  DeliverLogsPermissionArn=role, LogGroupName=group + "/rejects", LogFormat=
                                  "${version} ${srcaddr} ${dstport} ${action} ${flow-direction} ${ecs-task-id} ${subnet-id}")
    assert not answer["Unsuccessful"]
    web = inhabitants.until_web(inhabitants.start_web(site, 0, "ours"))
    address = inhabitants.cluster.address(web)
    eni = interface_of(site, web)["NetworkInterfaceId"]
    closed = ec2.create_security_group(GroupName=site.name, Description="stranger", VpcId=site.vpc)["GroupId"]
    ask = f"while true; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {address} 80; sleep 1; done"
    friend = inhabitants.until_web(inhabitants.run(site, 1, "sh", "-c", ask))
    stranger = inhabitants.until_web(inhabitants.run(site, 1, "sh", "-c", ask, securityGroups=[closed]))
    friends, strangers = inhabitants.cluster.address(friend), inhabitants.cluster.address(stranger)

    def seen(source, action):
        found = [each for each in records(region, group, eni) if each[3] == source and each[12] == action]
        return found and found[0]

    accepted = wait_for("a record of what was let in", lambda: seen(friends, "ACCEPT"), 90)
    assert accepted[:3] == ["2", interface_of(site, web)["OwnerId"], eni]
    assert (accepted[4], accepted[6], accepted[7], accepted[13]) == (address, "80", "6", "OK")
    assert int(accepted[8]) >= 3 and int(accepted[9]) > 120 and int(accepted[10]) < int(accepted[11])
    rejected = wait_for("a record of what was not", lambda: seen(strangers, "REJECT"), 60)
    assert rejected[6] == "80" and not seen(friends, "REJECT") and not seen(strangers, "ACCEPT")
    # The sender's own interface let it go.
    theirs = interface_of(site, stranger)["NetworkInterfaceId"]
    left = [each for each in records(region, group, theirs) if each[3] == strangers and each[4] == address]
    assert left and {each[12] for each in left} == {"ACCEPT"}
    # What was asked for by fields, and of rejected packets alone.
    named = wait_for("records of a format", lambda: records(region, group + "/rejects", eni, "reject"), 60)
    task = web["taskArn"].rsplit("/", 1)[1]
    assert ["7", strangers, "80", "REJECT", "ingress", task, site.subnets[0]] in named
    assert {each[3] for each in named} == {"REJECT"}
    assert described(site, flow_log)["DeliverLogsStatus"] == "SUCCESS"


def test_a_delivery_that_fails_is_said(region, site, inhabitants, role):
    iam = region.client("iam")
    flow_log, = create(site, role)
    allow(iam, site.name, ["logs:DescribeLogGroups"])
    inhabitants.until_web(inhabitants.run(site, 0, "sh", "-c", "while true; do ping -c 1 -W 1 10.20.0.9; sleep 1; done"))
    wait_for("the failure", lambda: described(site, flow_log)["DeliverLogsStatus"] == "FAILED", 90)
    assert "logs:PutLogEvents" in described(site, flow_log)["DeliverLogsErrorMessage"]
    allow(iam, site.name, ["logs:*"])
    wait_for("the delivery", lambda: described(site, flow_log)["DeliverLogsStatus"] == "SUCCESS", 90)


def test_flow_logs_are_filtered_tagged_retried_and_refused(site, role):
    ec2, group = site.ec2, f"/flows/{site.name}"
    tags = [{"ResourceType": "vpc-flow-log", "Tags": [{"Key": "Name", "Value": site.name}]}]
    made, = create(site, role, ClientToken=site.name, TagSpecifications=tags)
    assert create(site, role, ClientToken=site.name, TagSpecifications=tags) == [made]
    again = ec2.create_flow_logs(ResourceType="VPC", ResourceIds=[site.vpc], TrafficType="ALL",
                                 DeliverLogsPermissionArn=role, LogGroupName=group)
    assert only(again["Unsuccessful"])["Error"]["Code"] == "FlowLogAlreadyExists"
    arn = f"arn:aws:logs:eu-north-1:{role.split(':')[4]}:log-group:{group}-more:*"
    create(site, role, LogGroupName="", LogDestination=arn)
    found = only(ec2.describe_flow_logs(Filters=[{"Name": "tag:Name", "Values": [site.name]}])["FlowLogs"])
    assert (found["FlowLogId"], found["ResourceId"], found["FlowLogStatus"]) == (made, site.vpc, "ACTIVE")
    assert (found["MaxAggregationInterval"], found["LogGroupName"]) == (600, group)
    for code, part, more in [
            ("InvalidParameterValue", "traffic-path", {"LogFormat": "${traffic-path}"}),
            ("InvalidParameterValue", "60 or 600", {"MaxAggregationInterval": 90}),
            ("UnsupportedOperation", "S3", {"LogDestinationType": "s3"}),
            ("DryRunOperation", "", {"DryRun": True, "LogGroupName": "other"})]:
        refused(create, code, part, site=site, role=role, **more)
    refused(ec2.describe_flow_logs, "InvalidFlowLogId.NotFound", FlowLogIds=["fl-0123456789abcdef0"])
    gone = ec2.delete_flow_logs(FlowLogIds=["fl-0123456789abcdef0"])
    assert only(gone["Unsuccessful"])["Error"]["Code"] == "InvalidFlowLogId.NotFound"
