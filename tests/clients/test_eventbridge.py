"""EventBridge's rules as unmodified clients know them: what they tell log groups, and the tasks that they run."""

import json

import pytest

from conftest import unique, wait_for
from services import refused

TRUST = {"Version": "2012-10-17", "Statement": {
    "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sts:AssumeRole"}}
POLICY = "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceEventsRole"


@pytest.fixture
def events(region):
    """A client, whose rules are gone after the test."""
    client = region.client("events")
    yield client
    for rule in client.list_rules()["Rules"]:
        targets = client.list_targets_by_rule(Rule=rule["Name"])["Targets"]
        if targets:
            client.remove_targets(Rule=rule["Name"], Ids=[target["Id"] for target in targets])
        client.delete_rule(Name=rule["Name"])


@pytest.fixture
def role(region):
    iam, name = region.client("iam"), unique("rules")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn=POLICY)
    return arn


def group_arn(region, name):
    groups = region.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return groups[0]["logGroupArn"]


def put(events, source, detail, **more):
    entry = {"Source": source, "DetailType": "done", "Detail": json.dumps(detail), **more}
    answer = events.put_events(Entries=[entry])
    assert answer["FailedEntryCount"] == 0, answer
    return answer["Entries"][0]["EventId"]


def test_rules_and_targets_go_round(region, events, cluster, role):
    name = unique("rule")
    arn = events.put_rule(Name=name, ScheduleExpression="rate(5 minutes)", Description="now and then",
                          Tags=[{"Key": "stage", "Value": "test"}])["RuleArn"]
    rule = events.describe_rule(Name=name)
    assert (rule["Arn"], rule["State"], rule["EventBusName"]) == (arn, "ENABLED", "default")
    assert events.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "stage", "Value": "test"}]
    found = region.client("resourcegroupstaggingapi").get_resources(
        ResourceTypeFilters=["events:rule"], TagFilters=[{"Key": "stage", "Values": ["test"]}])
    assert [it["ResourceARN"] for it in found["ResourceTagMappingList"]] == [arn]
    ecs_cluster = region.client("ecs").describe_clusters(clusters=[cluster.name])["clusters"][0]["clusterArn"]
    target = {"Id": "run", "Arn": ecs_cluster, "RoleArn": role, "EcsParameters": {
        "TaskDefinitionArn": cluster.define(cluster.container("true")), "TaskCount": 1, "LaunchType": "FARGATE",
        "NetworkConfiguration": {"awsvpcConfiguration": {
            "Subnets": cluster.subnets[:1], "AssignPublicIp": "ENABLED"}},
        "EnableECSManagedTags": False, "EnableExecuteCommand": False},
        "RetryPolicy": {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 60}}
    assert events.put_targets(Rule=name, Targets=[target])["FailedEntryCount"] == 0
    assert events.list_targets_by_rule(Rule=name)["Targets"] == [target]
    assert events.list_rule_names_by_target(TargetArn=ecs_cluster)["RuleNames"] == [name]
    refused(events.delete_rule, "ValidationException", "since it has targets", Name=name)
    refused(events.put_targets, "ValidationException", "ECS clusters", Rule=name, Targets=[
        {"Id": "f", "Arn": f"arn:aws:lambda:eu-north-1:{ecs_cluster.split(':')[4]}:function:f"}])
    refused(events.describe_rule, "ResourceNotFoundException", "does not exist on EventBus default", Name="none")
    refused(events.put_rule, "ValidationException", "ScheduleExpression", Name=name, ScheduleExpression="rate(1 minutes)x")
    refused(events.put_rule, "InvalidEventPatternException", "Event pattern is not valid", Name=name, EventPattern="{")
    refused(events.create_event_bus, "UnknownOperationException", "not available", Name="mine")
    assert [bus["Name"] for bus in events.list_event_buses()["EventBuses"]] == ["default"]
    event = {"id": "1", "account": "0", "source": "app", "time": "2026-01-01T00:00:00Z", "region": "eu-north-1",
             "resources": [], "detail-type": "x", "detail": {"n": 7}}
    for pattern, expected in [({"detail": {"n": [7]}}, True), ({"detail": {"n": [8]}}, False)]:
        tested = events.test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(event))
        assert tested["Result"] is expected


def test_events_come_to_a_log_group_that_lets_them_in(region, events):
    logs, name = region.client("logs"), unique("rule")
    group, source = f"/aws/events/{name}", unique("app")
    logs.create_log_group(logGroupName=group)
    arn = group_arn(region, group)
    rule = events.put_rule(Name=name, EventPattern=json.dumps({"source": [source]}))["RuleArn"]
    events.put_targets(Rule=name, Targets=[{"Id": "log", "Arn": arn}])
    figures = region.client("cloudwatch")

    def failures():
        listed = figures.list_metrics(Namespace="AWS/Events", MetricName="FailedInvocations",
                                      Dimensions=[{"Name": "RuleName", "Value": name}])
        return listed["Metrics"]

    put(events, source, {"n": 1})
    wait_for("a failed invocation", failures)
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"},
                 "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": f"{arn}:*",
                 "Condition": {"ArnEquals": {"aws:SourceArn": rule}}}
    logs.put_resource_policy(policyName=name, policyDocument=json.dumps({"Version": "2012-10-17", "Statement": statement}))
    put(events, unique("other"), {"n": 2})
    event = put(events, source, {"n": 3}, Resources=["thing"])

    def lines():
        found = logs.filter_log_events(logGroupName=group)["events"]
        return [json.loads(line["message"]) for line in found]

    line, = wait_for("the event's line", lines)
    assert (line["id"], line["detail"], line["resources"], line["source"]) == (event, {"n": 3}, ["thing"], source)
    logs.delete_resource_policy(policyName=name)


def test_an_event_runs_a_task_with_overrides_of_it(region, events, cluster, role):
    name, source = unique("rule"), unique("app")
    ecs_cluster = region.client("ecs").describe_clusters(clusters=[cluster.name])["clusters"][0]["clusterArn"]
    definition = cluster.define(cluster.container("sh", "-c", 'echo "key is $KEY"'))
    events.put_rule(Name=name, EventPattern=json.dumps({"source": [source], "detail-type": ["done"]}))
    parameters = {"TaskDefinitionArn": definition, "LaunchType": "FARGATE", "NetworkConfiguration": {
        "awsvpcConfiguration": {"Subnets": cluster.subnets[:1], "AssignPublicIp": "ENABLED"}},
        "Tags": [{"Key": "by", "Value": "rule"}]}
    template = '{"containerOverrides":[{"name":"main","environment":[{"name":"KEY","value":<key>}]}]}'
    events.put_targets(Rule=name, Targets=[{
        "Id": "run", "Arn": ecs_cluster, "RoleArn": role, "EcsParameters": parameters,
        "InputTransformer": {"InputPathsMap": {"key": "$.detail.key"}, "InputTemplate": template}}])
    put(events, source, {"key": "in/1.csv"})
    ecs = region.client("ecs")

    def tasks():
        found = [*ecs.list_tasks(cluster=cluster.name)["taskArns"],
                 *ecs.list_tasks(cluster=cluster.name, desiredStatus="STOPPED")["taskArns"]]
        return sorted(set(found))

    task, = wait_for("a task", tasks)
    stopped = cluster.until(task, "STOPPED")
    assert cluster.lines(task) == ["key is in/1.csv"]
    assert stopped["startedBy"] == f"events-rule/{name}"[:36]
    assert stopped["tags"] == [{"key": "by", "value": "rule"}]
    assert tasks() == [task]
