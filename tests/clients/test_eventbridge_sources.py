"""What the region itself tells EventBridge: tasks that change, and alarms, as unmodified clients hear of them."""

import json

import pytest

from conftest import unique, wait_for


@pytest.fixture
def heard(region):
    """What a rule with a pattern writes to a log group, which both are gone after the test."""
    events, logs, made = region.client("events"), region.client("logs"), []

    def hear(pattern):
        name = unique("heard")
        group = f"/aws/events/{name}"
        logs.create_log_group(logGroupName=group)
        arn = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["logGroupArn"]
        statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"},
                     "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": f"{arn}:*"}
        logs.put_resource_policy(policyName=name, policyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": statement}))
        events.put_rule(Name=name, EventPattern=json.dumps(pattern))
        assert events.put_targets(Rule=name, Targets=[{"Id": "log", "Arn": arn}])["FailedEntryCount"] == 0
        made.append((name, group))

        def lines():
            found = logs.filter_log_events(logGroupName=group)["events"]
            return [json.loads(line["message"]) for line in found]

        return lines

    yield hear
    for name, group in made:
        events.remove_targets(Rule=name, Ids=["log"])
        events.delete_rule(Name=name)
        logs.delete_resource_policy(policyName=name)
        logs.delete_log_group(logGroupName=group)


def test_a_tasks_states_come_to_a_log_group(region, cluster, heard):
    arn = region.client("ecs").describe_clusters(clusters=[cluster.name])["clusters"][0]["clusterArn"]
    lines = heard({"source": ["aws.ecs"], "detail-type": ["ECS Task State Change"], "detail": {
        "clusterArn": [arn], "lastStatus": ["RUNNING", "STOPPED"]}})
    task, = cluster.run(cluster.define(cluster.container("sh", "-c", "sleep 1; exit 3")))
    stopped = cluster.until(task, "STOPPED")

    def ended():
        found = lines()
        return found if any(it["detail"]["lastStatus"] == "STOPPED" for it in found) else None

    found = sorted(wait_for("the task's end", ended), key=lambda it: it["detail"]["version"])
    assert {it["detail-type"] for it in found} == {"ECS Task State Change"}
    assert all(it["resources"] == [task] and it["detail"]["taskArn"] == task for it in found)
    assert [found[0]["detail"]["lastStatus"], found[-1]["detail"]["lastStatus"]] == ["RUNNING", "STOPPED"]
    versions = [it["detail"]["version"] for it in found]
    assert len(set(versions)) == len(versions), "each change is told once"
    end = found[-1]["detail"]
    assert end["containers"][0]["exitCode"] == 3
    assert (end["stopCode"], end["stoppedReason"]) == (stopped["stopCode"], stopped["stoppedReason"])
    assert end["stoppedAt"].endswith("Z") and end["createdAt"].endswith("Z")
    assert "tags" not in end


def test_an_alarms_change_of_state_comes_to_a_log_group(region, heard):
    figures, name = region.client("cloudwatch"), unique("alarm")
    lines = heard({"source": ["aws.cloudwatch"], "detail": {"alarmName": [name], "state": {"value": ["ALARM"]}}})
    figures.put_metric_alarm(
        AlarmName=name, Namespace="App", MetricName="load", Statistic="Average", Period=60, EvaluationPeriods=1,
        Threshold=1.0, ComparisonOperator="GreaterThanThreshold", ActionsEnabled=False)
    figures.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a drill")
    event, = wait_for("the alarm's event", lines)
    figures.delete_alarms(AlarmNames=[name])
    assert event["detail-type"] == "CloudWatch Alarm State Change"
    assert event["detail"]["state"]["reason"] == "a drill"
    assert event["detail"]["previousState"]["value"] == "INSUFFICIENT_DATA"


def test_a_parameter_tells_of_its_changes(region, heard):
    ssm, name = region.client("ssm"), "/" + unique("p")
    lines = heard({"source": ["aws.ssm"], "detail-type": ["Parameter Store Change"], "detail": {"name": [name]}})
    ssm.put_parameter(Name=name, Value="swordfish", Type="String")
    ssm.put_parameter(Name=name, Value="halibut", Overwrite=True)
    arn = ssm.get_parameter(Name=name)["Parameter"]["ARN"]
    ssm.delete_parameter(Name=name)
    found = wait_for("three events", lambda: lines() if len(lines()) == 3 else None)
    told = sorted(it["detail"]["operation"] for it in found)
    assert told == ["Create", "Delete", "Update"]
    assert all(it["resources"] == [arn] and it["detail"]["type"] == "String" for it in found)
    assert "swordfish" not in json.dumps(found)
