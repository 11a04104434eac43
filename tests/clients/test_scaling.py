"""CloudWatch's metrics and alarms, and services that are scaled by them, as unmodified clients know them."""

import datetime
import json
import os
import signal

import boto3
import botocore.config
import pytest

from conftest import unique, wait_for
from services import refused

# One core's worth of work, until it is asked to end.
BURN = "trap 'exit 0' TERM; while :; do :; done"
DIMENSION = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount"}


def ago(seconds):
    return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=seconds)


class Scaled:
    """A service, its target, and what tells of both."""

    def __init__(self, services, definition, count):
        self.services = services
        self.cloudwatch = services.region.client("cloudwatch")
        self.scaling = services.region.client("application-autoscaling")
        self.name = services.create(definition, count=count)
        self.place = {**DIMENSION, "ResourceId": f"service/{services.name}/{self.name}"}
        self.space = unique("app")

    def register(self, **bounds):
        return self.scaling.register_scalable_target(**self.place, **bounds)["ScalableTargetARN"]

    def policy(self, kind, **configuration):
        member = {"StepScaling": "StepScalingPolicyConfiguration",
                  "TargetTrackingScaling": "TargetTrackingScalingPolicyConfiguration"}[kind]
        return self.scaling.put_scaling_policy(
            **self.place, PolicyName="p", PolicyType=kind, **{member: configuration})

    def put(self, value, *seconds, count=1, **more):
        """Samples of so many seconds ago."""
        sets = {"SampleCount": count, "Sum": value * count, "Minimum": value, "Maximum": value}
        self.cloudwatch.put_metric_data(Namespace=self.space, MetricData=[
            {"MetricName": "load", "Timestamp": ago(each), "StatisticValues": sets, **more} for each in seconds])

    def activities(self):
        answer = self.scaling.describe_scaling_activities(
            ServiceNamespace="ecs", ResourceId=self.place["ResourceId"])
        return answer["ScalingActivities"]

    def until_count(self, count, seconds):
        return self.services.until_service(
            f"{count} tasks", self.name, lambda it: it["desiredCount"] == it["runningCount"] == count, seconds)

    def alarm(self, name):
        return self.cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]

    def clean_up(self):
        try:
            self.scaling.deregister_scalable_target(**self.place)
        except self.scaling.exceptions.ObjectNotFoundException:
            pass


@pytest.fixture
def scaled(services):
    made = []

    def make(definition, count=1):
        made.append(Scaled(services, definition, count))
        return made[-1]

    yield make
    for each in made:
        each.clean_up()


def test_metrics_are_put_and_read_in_all_three_protocols_of_their_clients(region):
    space = unique("app")
    cloudwatch = region.client("cloudwatch")
    data = [{"MetricName": "load", "Dimensions": [{"Name": "Stage", "Value": str(number)}], "Value": number,
             "Unit": "Count"} for number in range(200)]
    # More than ten KiB: botocore compresses it.
    cloudwatch.put_metric_data(Namespace=space, MetricData=data)
    pages = cloudwatch.get_paginator("list_metrics").paginate(Namespace=space)
    assert len([metric for page in pages for metric in page["Metrics"]]) == 200
    start, end = ago(120), ago(-60)
    stage = [{"Name": "Stage", "Value": "7"}]
    points = cloudwatch.get_metric_statistics(
        Namespace=space, MetricName="load", Dimensions=stage, StartTime=start, EndTime=end, Period=60,
        Statistics=["Sum", "SampleCount"])["Datapoints"]
    assert [(point["Sum"], point["Unit"]) for point in points] == [(7.0, "Count")]
    metric = {"Metric": {"Namespace": space, "MetricName": "load", "Dimensions": stage}, "Period": 60, "Stat": "Sum"}
    found = cloudwatch.get_metric_data(
        StartTime=start, EndTime=end, MetricDataQueries=[
            {"Id": "m", "MetricStat": metric, "ReturnData": False}, {"Id": "e", "Expression": "m * 2", "Label": "twice"}])
    assert [(each["Label"], each["Values"]) for each in found["MetricDataResults"]] == [("twice", [14.0])]
    for protocol in ("query", "json", "smithy-rpc-v2-cbor"):
        client = protocol_client(region, protocol)
        names = {alarm["AlarmName"] for alarm in client.describe_alarms()["MetricAlarms"]}
        name = unique("alarm")
        assert name not in names
        client.put_metric_alarm(
            AlarmName=name, Namespace=space, MetricName="load", Dimensions=stage, Statistic="Sum", Period=60,
            EvaluationPeriods=1, Threshold=5.5, ComparisonOperator="GreaterThanThreshold", Tags=[{"Key": "a", "Value": "b"}])
        shown = client.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]
        assert (shown["Threshold"], shown["StateValue"], shown["Dimensions"]) == (5.5, "INSUFFICIENT_DATA", stage)
        assert shown["StateUpdatedTimestamp"] > ago(60)
        tags = client.list_tags_for_resource(ResourceARN=shown["AlarmArn"])["Tags"]
        assert tags == [{"Key": "a", "Value": "b"}]
        refused(client.set_alarm_state, "ResourceNotFound", AlarmName="nobody", StateValue="OK", StateReason="x")
        refused(client.put_metric_data, "InvalidParameterValue", Namespace="AWS/ECS",
                MetricData=[{"MetricName": "a", "Value": 1}])
        client.delete_alarms(AlarmNames=[name])


def protocol_client(region, protocol):
    """A client that speaks one of the protocols that the model names."""
    keys = region.variables
    session = boto3.session.Session(
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"], aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region_name="eu-north-1")
    loader = session._session.get_component("data_loader")
    known = loader.load_service_model

    def load(service, kind, api_version=None):
        model = known(service, kind, api_version)
        if service == "cloudwatch" and kind == "service-2":
            model = {**model, "metadata": {**model["metadata"], "protocol": protocol, "protocols": [protocol]}}
        return model

    loader.load_service_model = load
    config = botocore.config.Config(retries={"max_attempts": 0})
    return session.client("cloudwatch", endpoint_url=region.endpoint, config=config)


def test_alarms_outlive_a_killed_region_with_their_metrics(start_region):
    region = start_region(name="metrics")
    cloudwatch = region.client("cloudwatch")
    cloudwatch.put_metric_data(Namespace="app", MetricData=[{"MetricName": "load", "Value": 3}])
    cloudwatch.put_metric_alarm(
        AlarmName="high", Namespace="app", MetricName="load", Statistic="Sum", Period=60, EvaluationPeriods=1,
        Threshold=1, ComparisonOperator="GreaterThanThreshold", TreatMissingData="ignore")
    os.kill(region.children()["region"], signal.SIGKILL)
    wait_for("the region again", lambda: answers(cloudwatch), 30)
    points = cloudwatch.get_metric_statistics(
        Namespace="app", MetricName="load", StartTime=ago(300), EndTime=ago(-60), Period=60, Statistics=["Sum"])
    assert [point["Sum"] for point in points["Datapoints"]] == [3.0]
    wait_for("the alarm", lambda: cloudwatch.describe_alarms(StateValue="ALARM")["MetricAlarms"], 80)
    items = cloudwatch.describe_alarm_history(AlarmName="high", HistoryItemType="StateUpdate")["AlarmHistoryItems"]
    assert items[0]["HistorySummary"] == "Alarm updated from INSUFFICIENT_DATA to ALARM"
    assert json.loads(items[0]["HistoryData"])["newState"]["stateReasonData"]["threshold"] == 1.0


def answers(cloudwatch):
    try:
        return cloudwatch.describe_alarms()["ResponseMetadata"]
    except Exception:  # whatever a client says while nobody is there
        return None


def test_a_service_under_load_is_scaled_out_by_steps_on_its_own_processors_use(services, scaled):
    definition = services.define(services.container("sh", "-c", BURN, stopTimeout=2))
    it = scaled(definition)
    it.until_count(1, 60)
    it.register(MinCapacity=1, MaxCapacity=2)
    made = it.policy("StepScaling", AdjustmentType="ChangeInCapacity", Cooldown=60, StepAdjustments=[
        {"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}])
    dimensions = [{"Name": "ClusterName", "Value": services.name}, {"Name": "ServiceName", "Value": it.name}]
    name = unique("busy")
    it.cloudwatch.put_metric_alarm(
        AlarmName=name, Namespace="AWS/ECS", MetricName="CPUUtilization", Dimensions=dimensions, Statistic="Average",
        Period=60, EvaluationPeriods=1, Threshold=20, ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[made["PolicyARN"]])
    it.until_count(2, 200)
    # A second alarm of the service's memory has a value as well.
    used = it.cloudwatch.get_metric_statistics(
        Namespace="AWS/ECS", MetricName="MemoryUtilization", Dimensions=dimensions, StartTime=ago(300), EndTime=ago(-60),
        Period=300, Statistics=["Maximum"])["Datapoints"]
    assert used and 0 < used[0]["Maximum"] < 100
    latest = it.activities()[0]
    assert latest["Description"] == "Setting desired count to 2."
    assert latest["Cause"] == f"monitor alarm {name} in state ALARM triggered policy p"
    wait_for("its end", lambda: it.activities()[0]["StatusCode"] == "Successful", 30)
    assert it.activities()[0]["StatusMessage"] == \
        "Successfully set desired count to 2. Change successfully fulfilled by ecs."
    it.cloudwatch.delete_alarms(AlarmNames=[name])


def test_a_tracking_policy_scales_a_service_in_and_out_and_its_alarms_go_with_it(services, scaled):
    it = scaled(services.define(services.idle()), count=3)
    it.until_count(3, 60)
    arn = it.register(MinCapacity=1, MaxCapacity=4)
    assert it.register(MaxCapacity=5) == arn
    custom = {"MetricName": "load", "Namespace": it.space, "Statistic": "Average"}
    # What was little in the last quarter of an hour: its alarm looks at so much.
    it.put(10, *range(30, 20 * 60, 60))

    def put_policy():
        return it.policy("TargetTrackingScaling", TargetValue=50, CustomizedMetricSpecification=custom)

    made = put_policy()
    # What is put again is looked at at once, and not at the next full minute alone.
    assert put_policy()["Alarms"] == made["Alarms"]
    high, low = (alarm["AlarmName"] for alarm in made["Alarms"])
    assert high.startswith(f"TargetTracking-{it.place['ResourceId']}-AlarmHigh-")
    shown = it.alarm(low)
    assert (shown["Threshold"], shown["EvaluationPeriods"], shown["ComparisonOperator"]) == (45, 15, "LessThanThreshold")
    it.until_count(1, 100)
    assert f"monitor alarm {low} in state ALARM triggered policy p" in [each["Cause"] for each in it.activities()]
    # And by now it is much.
    it.put(175, *range(0, 5 * 60, 30), count=1000)
    put_policy()
    it.until_count(4, 100)
    assert it.activities()[0]["Cause"] == f"monitor alarm {high} in state ALARM triggered policy p"
    history = it.cloudwatch.describe_alarm_history(AlarmName=high, HistoryItemType="Action")["AlarmHistoryItems"]
    assert history[0]["HistorySummary"].startswith("Successfully executed action arn:aws:autoscaling:")
    it.scaling.delete_scaling_policy(**it.place, PolicyName="p")
    assert it.cloudwatch.describe_alarms(AlarmNames=[high, low])["MetricAlarms"] == []


def test_steps_follow_an_alarm_of_ten_seconds(services, scaled):
    it = scaled(services.define(services.idle()))
    it.until_count(1, 60)
    it.register(MinCapacity=1, MaxCapacity=3)
    made = it.policy("StepScaling", AdjustmentType="ExactCapacity", Cooldown=0, StepAdjustments=[
        {"MetricIntervalUpperBound": 0, "ScalingAdjustment": 1},
        {"MetricIntervalLowerBound": 0, "ScalingAdjustment": 3}])
    name = unique("high")
    it.cloudwatch.put_metric_alarm(
        AlarmName=name, Namespace=it.space, MetricName="load", Statistic="Maximum", Period=10, EvaluationPeriods=1,
        Threshold=10, ComparisonOperator="GreaterThanOrEqualToThreshold", TreatMissingData="ignore",
        AlarmActions=[made["PolicyARN"]], OKActions=[made["PolicyARN"]])

    def put_until_count(value, count):
        def there():
            it.put(value, 0, StorageResolution=1)
            return services.service(it.name)["desiredCount"] == count
        wait_for(f"a count of {count}", there, 60, step=2)

    put_until_count(50, 3)
    put_until_count(1, 1)
    policies = it.scaling.describe_scaling_policies(**it.place, PolicyNames=["p"])["ScalingPolicies"]
    assert policies[0]["Alarms"] == [{"AlarmName": name, "AlarmARN": it.alarm(name)["AlarmArn"]}]
    it.cloudwatch.delete_alarms(AlarmNames=[name])


def test_a_scheduled_action_sets_the_bounds(services, scaled):
    it = scaled(services.define(services.idle()))
    it.register(MinCapacity=1, MaxCapacity=2)
    at = ago(-90).strftime("%Y-%m-%dT%H:%M:00")
    it.scaling.put_scheduled_action(
        **it.place, ScheduledActionName="up", Schedule=f"at({at})", ScalableTargetAction={"MinCapacity": 2, "MaxCapacity": 3})
    it.until_count(2, 150)
    told = [(each["Description"], each["Cause"]) for each in it.activities()]
    assert ("Setting min capacity to 2 and max capacity to 3", "scheduled action name up was triggered") in told
    assert ("Setting desired count to 2.", "minimum capacity was set to 2") in told
    target = it.scaling.describe_scalable_targets(ServiceNamespace="ecs", ResourceIds=[it.place["ResourceId"]])
    shown = target["ScalableTargets"][0]
    assert (shown["MinCapacity"], shown["MaxCapacity"]) == (2, 3)
    assert shown["RoleARN"].endswith("/AWSServiceRoleForApplicationAutoScaling_ECSService")


def test_what_is_not_there_is_refused_by_name(services, scaled):
    it = scaled(services.define(services.idle()), count=0)
    sns = ["arn:aws:sns:eu-north-1:000000000000:ops"]
    refused(it.cloudwatch.put_metric_alarm, "ValidationError", "nothing would act on it", AlarmName="a",
            Namespace="a", MetricName="a", Statistic="Sum", Period=60, EvaluationPeriods=1, Threshold=1,
            ComparisonOperator="GreaterThanThreshold", AlarmActions=sns)
    refused(it.scaling.register_scalable_target, "ValidationException", "ECS service doesn't exist: service/a/b",
            **DIMENSION, ResourceId="service/a/b", MinCapacity=1, MaxCapacity=2)
    refused(it.policy, "ObjectNotFoundException", "No scalable target registered", kind="StepScaling",
            AdjustmentType="ChangeInCapacity", StepAdjustments=[{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}])
