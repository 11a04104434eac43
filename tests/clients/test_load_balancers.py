"""Load balancers: the API as boto3 sees it, and services behind them whose tasks come and go under load."""

import http.client
import threading
import time
import urllib.error
import urllib.request

import pytest

from conftest import free_port, unique, wait_for
from services import only, refused


class Balancers:
    """Load balancers of one test's own, in the default VPC or another."""

    def __init__(self, region, vpc=None):
        self.region, self.elb, self.ec2 = region, region.client("elbv2"), region.client("ec2")
        default = [{"Name": "isDefault", "Values": ["true"]}]
        self.vpc = vpc or only(self.ec2.describe_vpcs(Filters=default)["Vpcs"])["VpcId"]
        found = self.ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [self.vpc]}])["Subnets"]
        self.subnets = [subnet["SubnetId"] for subnet in sorted(found, key=lambda each: each["CidrBlock"])]
        self.made, self.groups = [], []

    def balancer(self, **more):
        made = self.elb.create_load_balancer(
            **{"Name": unique("lb")[:32], "Subnets": self.subnets[:2], **more})
        balancer = only(made["LoadBalancers"])
        self.made.append(balancer["LoadBalancerArn"])
        return balancer

    def group(self, port=80, seconds=0, **more):
        asked = {"Name": unique("tg")[:32], "Protocol": "HTTP", "Port": port, "VpcId": self.vpc, "TargetType": "ip",
                 "HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 2, **more}
        group = only(self.elb.create_target_group(**asked)["TargetGroups"])
        arn = group["TargetGroupArn"]
        self.groups.append(arn)
        if asked["TargetType"] != "alb":  # whose attributes have their defaults
            self.elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[
                {"Key": "deregistration_delay.timeout_seconds", "Value": str(seconds)}])
        return arn

    def listener(self, balancer, group, port=None):
        port = port or free_port()
        made = self.elb.create_listener(
            LoadBalancerArn=balancer, Protocol="HTTP", Port=port,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": group}])
        return only(made["Listeners"])

    def states(self, group):
        shown = self.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        return sorted(each["TargetHealth"]["State"] for each in shown)

    def clean_up(self):
        for arn in self.made:
            self.elb.delete_load_balancer(LoadBalancerArn=arn)
        for arn in self.groups:
            self.elb.delete_target_group(TargetGroupArn=arn)


@pytest.fixture
def balancers(region):
    made = Balancers(region)
    yield made
    made.clean_up()


class Load:
    """Clients that ask without a pause, half of them on kept connections; what went wrong is kept."""

    def __init__(self, port, threads=4):
        self.port, self.count, self.bad, self.bodies = port, 0, [], set()
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.ask, args=(number % 2 == 0,)) for number in range(threads)]

    def ask(self, keeps):
        connection = None
        while not self.ended.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("GET", "/")
                answer = connection.getresponse()
                status, body = answer.status, answer.read().decode()
            except (OSError, http.client.HTTPException) as error:
                status, body = repr(error), ""
            with self.lock:
                self.count += 1
                if status != 200:
                    self.bad.append((time.time(), status, body[:100]))
                else:
                    self.bodies.add(body.strip())
            if not keeps or status != 200:
                connection.close()
                connection = None

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def fetch(port, path="/", host="127.0.0.1", **headers):
    request = urllib.request.Request(f"http://{host}:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def test_a_balancer_has_an_interface_in_each_subnet_until_it_is_deleted(balancers):
    balancer = balancers.balancer()
    path = balancer["LoadBalancerArn"].split(":loadbalancer/")[1]
    named = [{"Name": "description", "Values": [f"ELB {path}"]}]
    found = balancers.ec2.describe_network_interfaces(Filters=named)["NetworkInterfaces"]
    assert {each["SubnetId"] for each in found} == set(balancers.subnets[:2])
    assert {each["RequesterId"] for each in found} == {"amazon-elb"}
    balancers.elb.get_waiter("load_balancer_available").wait(LoadBalancerArns=[balancer["LoadBalancerArn"]])
    balancers.elb.delete_load_balancer(LoadBalancerArn=balancer["LoadBalancerArn"])
    assert not balancers.ec2.describe_network_interfaces(Filters=named)["NetworkInterfaces"]
    refused(balancers.elb.describe_load_balancers, "LoadBalancerNotFound",
            LoadBalancerArns=[balancer["LoadBalancerArn"]])


def test_rules_answer_redirect_and_forward_by_priority(balancers):
    balancer = balancers.balancer()["LoadBalancerArn"]
    group, port = balancers.group(), free_port()
    listener = balancers.listener(balancer, group, port)["ListenerArn"]
    fixed = {"Type": "fixed-response", "FixedResponseConfig": {
        "StatusCode": "404", "ContentType": "text/plain", "MessageBody": "nothing here"}}
    balancers.elb.create_rule(ListenerArn=listener, Priority=20, Actions=[fixed], Conditions=[
        {"Field": "path-pattern", "Values": ["/fixed*"]}])
    redirect = {"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_302", "Host": "example.com"}}
    balancers.elb.create_rule(ListenerArn=listener, Priority=10, Actions=[redirect], Conditions=[
        {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "x-move", "Values": ["yes"]}}])

    def moved():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/fixed?a=b", headers={"x-move": "yes"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("location")

    wait_for("the rule", lambda: fetch(port, "/fixed") == (404, "nothing here"))
    wait_for("the rule before it", lambda: moved() == (302, f"http://example.com:{port}/fixed?a=b"))
    assert fetch(port, "/else")[0] == 503, "the group is empty"
    rules = balancers.elb.describe_rules(ListenerArn=listener)["Rules"]
    assert [rule["Priority"] for rule in rules] == ["10", "20", "default"]
    balancers.elb.set_rule_priorities(RulePriorities=[
        {"RuleArn": rules[0]["RuleArn"], "Priority": 20}, {"RuleArn": rules[1]["RuleArn"], "Priority": 10}])
    rules = balancers.elb.describe_rules(ListenerArn=listener)["Rules"]
    assert [rule["Actions"][0]["Type"] for rule in rules] == ["fixed-response", "redirect", "forward"]


def test_a_network_balancer_leads_to_an_application_balancer_which_knows_whose_connection_it_is(balancers):
    elb = balancers.elb
    default = only(balancers.ec2.describe_security_groups(Filters=[
        {"Name": "vpc-id", "Values": [balancers.vpc]}, {"Name": "group-name", "Values": ["default"]}])["SecurityGroups"])
    web = balancers.balancer()["LoadBalancerArn"]
    inner, outer = free_port(), free_port()
    says = lambda code, text: [{"Type": "fixed-response", "FixedResponseConfig": {
        "StatusCode": code, "ContentType": "text/plain", "MessageBody": text}}]
    listener = only(elb.create_listener(LoadBalancerArn=web, Protocol="HTTP", Port=inner,
                                        DefaultActions=says("404", "a stranger"))["Listeners"])["ListenerArn"]
    elb.create_rule(ListenerArn=listener, Priority=1, Actions=says("200", "known"), Conditions=[
        {"Field": "source-ip", "SourceIpConfig": {"Values": ["127.0.0.1/32"]}}])
    flows = balancers.balancer(Type="network", SecurityGroups=[default["GroupId"]])["LoadBalancerArn"]
    kept = dict(HealthCheckProtocol="HTTP", Matcher={"HttpCode": "404"})
    group = balancers.group(port=inner, Protocol="TCP", TargetType="alb", **kept)
    refused(elb.register_targets, "ValidationError", "is not the ARN of an application load balancer",
            TargetGroupArn=group, Targets=[{"Id": flows}])
    elb.create_listener(LoadBalancerArn=flows, Protocol="TCP", Port=outer,
                        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}])
    elb.register_targets(TargetGroupArn=group, Targets=[{"Id": web}])
    wait_for("the application balancer to be healthy", lambda: balancers.states(group) == ["healthy"], 60)
    assert fetch(outer) == (200, "known")
    refused(elb.delete_load_balancer, "ResourceInUse", "currently associated with another service", LoadBalancerArn=web)
    refused(elb.delete_listener, "ResourceInUse", f"Listener port '{inner}' is in use", ListenerArn=listener)
    elb.deregister_targets(TargetGroupArn=group, Targets=[{"Id": web}])
    wait_for("it to be no target", lambda: balancers.states(group) == [], 30)
    elb.delete_listener(ListenerArn=listener)


def test_logs_of_each_kind_are_asked_for_with_a_bucket(balancers):
    elb = balancers.elb
    application = balancers.balancer()["LoadBalancerArn"]
    network = balancers.balancer(Type="network")["LoadBalancerArn"]
    kinds = [(application, kind) for kind in ("access_logs", "connection_logs", "health_check_logs")]
    for arn, kind in [*kinds, (network, "access_logs")]:
        enabled = {"Key": f"{kind}.s3.enabled", "Value": "true"}
        refused(elb.modify_load_balancer_attributes, "ValidationError", f"'{kind}.s3.bucket' must be specified",
                LoadBalancerArn=arn, Attributes=[enabled])
        set_ = [enabled, {"Key": f"{kind}.s3.bucket", "Value": "logs"}, {"Key": f"{kind}.s3.prefix", "Value": "a/b"}]
        elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=set_)
        shown = elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
        assert all(each in shown for each in set_), shown
    refused(elb.modify_load_balancer_attributes, "InvalidConfigurationRequest", "not supported on load balancers",
            LoadBalancerArn=network, Attributes=[{"Key": "connection_logs.s3.enabled", "Value": "true"}])


def test_tags_are_found_by_the_tagging_api(balancers, region):
    tag = unique("tag")
    balancer = balancers.balancer(Tags=[{"Key": tag, "Value": "a"}])["LoadBalancerArn"]
    group = balancers.group(Tags=[{"Key": tag, "Value": "b"}])
    tagging = region.client("resourcegroupstaggingapi")
    found = tagging.get_resources(TagFilters=[{"Key": tag}])["ResourceTagMappingList"]
    assert {each["ResourceARN"] for each in found} == {balancer, group}
    balancers.elb.remove_tags(ResourceArns=[group], TagKeys=[tag])
    shown = balancers.elb.describe_tags(ResourceArns=[balancer, group])["TagDescriptions"]
    assert [each["Tags"] for each in shown] == [[{"Key": tag, "Value": "a"}], []]


def test_a_service_is_served_through_its_balancer_and_says_so(services, balancers):
    balancer, group = balancers.balancer()["LoadBalancerArn"], balancers.group(seconds=5)
    definition = services.define(services.web("one", portMappings=[{"containerPort": 80}]))
    tied = [{"targetGroupArn": group, "containerName": "main", "containerPort": 80}]
    refused(services.create, "InvalidParameterException", "does not have an associated load balancer",
            definition=definition, loadBalancers=tied)
    port = balancers.listener(balancer, group)["Port"]
    name = services.create(definition, 2, loadBalancers=tied)
    service = services.steady(name, 2)
    assert service["loadBalancers"] == tied
    assert balancers.states(group) == ["healthy", "healthy"]
    wait_for("the service", lambda: fetch(port) == (200, "one"))
    # One event with both or one for each: so far nothing else was said of targets.
    services.saw(name, f" targets in (target-group {group})")
    services.update(name, desiredCount=0)
    services.steady(name, 0)
    services.saw(name, f"deregistered ")
    wait_for("the targets' end", lambda: balancers.states(group) == [])


def test_what_a_balancer_does_is_metrics_by_which_services_are_scaled(services, balancers):
    balancer, group = balancers.balancer(), balancers.group()
    definition = services.define(services.web("one", portMappings=[{"containerPort": 80}]))
    port = balancers.listener(balancer["LoadBalancerArn"], group)["Port"]
    name = services.create(definition, 2, loadBalancers=[
        {"targetGroupArn": group, "containerName": "main", "containerPort": 80}])
    services.steady(name, 2)
    wait_for("the service", lambda: fetch(port) == (200, "one"))
    began = time.time() // 60 * 60
    for _ in range(20):
        assert fetch(port) == (200, "one")
    assert fetch(port, "/none")[0] == 404
    suffix, of_group = balancer["LoadBalancerArn"].split(":loadbalancer/")[1], group.split(":")[-1]
    dimensions = {"LoadBalancer": suffix, "TargetGroup": of_group}
    cloudwatch = services.region.client("cloudwatch")

    def told(metric, statistic, *names):
        shown = cloudwatch.get_metric_statistics(
            Namespace="AWS/ApplicationELB", MetricName=metric, Statistics=[statistic], Period=60, StartTime=began,
            EndTime=time.time() + 60, Dimensions=[{"Name": each, "Value": dimensions[each]} for each in names])
        return [each[statistic] for each in shown["Datapoints"]]

    wait_for("all requests", lambda: sum(told("RequestCount", "Sum", "LoadBalancer")) >= 21, 100, step=2)
    assert sum(told("HTTPCode_Target_2XX_Count", "Sum", "LoadBalancer", "TargetGroup")) >= 20
    assert sum(told("HTTPCode_Target_4XX_Count", "Sum", "LoadBalancer")) == 1
    assert max(told("HealthyHostCount", "Maximum", "LoadBalancer", "TargetGroup")) == 2
    assert sum(told("RequestCountPerTarget", "Sum", "LoadBalancer", "TargetGroup")) >= 10
    assert 0 < max(told("TargetResponseTime", "Average", "LoadBalancer")) < 5
    scaling = services.region.client("application-autoscaling")
    place = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount",
             "ResourceId": f"service/{services.name}/{name}"}
    scaling.register_scalable_target(**place, MinCapacity=1, MaxCapacity=4)
    made = scaling.put_scaling_policy(
        **place, PolicyName="requests", PolicyType="TargetTrackingScaling", TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 1, "DisableScaleIn": True, "PredefinedMetricSpecification": {
                "PredefinedMetricType": "ALBRequestCountPerTarget", "ResourceLabel": f"{suffix}/{of_group}"}})
    alarm, = cloudwatch.describe_alarms(AlarmNames=[made["Alarms"][0]["AlarmName"]])["MetricAlarms"]
    assert (alarm["MetricName"], alarm["Namespace"]) == ("RequestCountPerTarget", "AWS/ApplicationELB")
    assert {each["Name"]: each["Value"] for each in alarm["Dimensions"]} == dimensions


def test_a_task_that_its_balancer_finds_unhealthy_is_replaced(services, balancers):
    balancer = balancers.balancer()["LoadBalancerArn"]
    group = balancers.group(HealthCheckPath="/ready", UnhealthyThresholdCount=2)
    balancers.listener(balancer, group)
    definition = services.define(services.web("one", portMappings=[{"containerPort": 80}]))
    tied = [{"targetGroupArn": group, "containerName": "main", "containerPort": 80}]
    name = services.create(definition, 1, loadBalancers=tied)
    services.saw(name, "is unhealthy in (target-group", 60)
    services.saw(name, "due to (reason Health checks failed with these codes: [404])")
    stopped = wait_for("a stopped task", lambda: services.tasks(name, "STOPPED"))
    assert stopped[0]["stoppedReason"] == f"Task failed ELB health checks in (target-group {group})"


def test_a_rolling_deployment_under_load_loses_no_request(services, balancers):
    balancer, group = balancers.balancer()["LoadBalancerArn"], balancers.group(seconds=10)
    port = balancers.listener(balancer, group)["Port"]
    tied = [{"targetGroupArn": group, "containerName": "main", "containerPort": 80}]
    web = lambda text: services.define(services.web(text, portMappings=[{"containerPort": 80}]))
    name = services.create(web("one"), 2, loadBalancers=tied)
    services.steady(name, 2)
    wait_for("the service", lambda: fetch(port) == (200, "one"))
    with Load(port) as load:
        wait_for("requests", lambda: load.count > 50)
        services.update(name, taskDefinition=web("two"))
        services.until_service("the deployment", name, lambda service: len(service["deployments"]) == 1
                               and service["deployments"][0]["rolloutState"] == "COMPLETED"
                               and service["runningCount"] == 2, 120)
        wait_for("the new text", lambda: fetch(port) == (200, "two"))
        # Neither does one that somebody stops, nor fewer of them.
        services.ecs.stop_task(cluster=services.name, task=services.tasks(name)[0]["taskArn"])
        services.steady(name, 2, 120)
        services.update(name, desiredCount=1)
        services.steady(name, 1, 120)
    assert not load.bad, (load.count, load.bad[:5])
    assert load.bodies == {"one", "two"}, (load.count, load.bodies)
    services.saw(name, "has begun draining connections on")
