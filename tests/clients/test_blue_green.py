"""Deployments that shift traffic between two target groups, under load, back, and while the region is killed."""

import json

import pytest

from conftest import free_port, unique, wait_for
from services import only, refused
from test_load_balancers import Balancers, Load, fetch
from test_service_kills import insist, kill

TRUST = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "ecs.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
POLICY = "arn:aws:iam::aws:policy/AmazonECSInfrastructureRolePolicyForLoadBalancers"


class Pair:
    """A balancer with two groups, a rule for production and one for tests, on a listener each."""

    def __init__(self, balancers, region, **group):
        self.elb, self.region, self.iam = balancers.elb, region, region.client("iam")
        balancer = balancers.balancer()["LoadBalancerArn"]
        # A group's rules come and go with the balancer, so each is deleted after it.
        self.blue, self.green = (balancers.group(seconds=5, **group) for _ in range(2))
        self.port, self.test_port = free_port(), free_port()
        self.production = self.rule(balancer, self.port, self.blue)
        self.test = self.rule(balancer, self.test_port, self.green)
        self.role_name = unique("shifts")
        self.role = self.iam.create_role(
            RoleName=self.role_name, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
        self.iam.attach_role_policy(RoleName=self.role_name, PolicyArn=POLICY)

    def rule(self, balancer, port, group):
        listener = only(self.elb.create_listener(
            LoadBalancerArn=balancer, Protocol="HTTP", Port=port, DefaultActions=[
                {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}])["Listeners"])
        return only(self.elb.create_rule(
            ListenerArn=listener["ListenerArn"], Priority=1,
            Conditions=[{"Field": "path-pattern", "Values": ["/*"]}],
            Actions=[{"Type": "forward", "TargetGroupArn": group}])["Rules"])["RuleArn"]

    def tied(self, **more):
        advanced = {"alternateTargetGroupArn": self.green, "productionListenerRule": self.production,
                    "testListenerRule": self.test, "roleArn": self.role, **more}
        return [{"targetGroupArn": self.blue, "containerName": "main", "containerPort": 80,
                 "advancedConfiguration": advanced}]

    def weights(self, rule=None):
        """What the first group and the second have of a rule's traffic."""
        action = only(only(self.elb.describe_rules(RuleArns=[rule or self.production])["Rules"])["Actions"])
        groups = {each["TargetGroupArn"]: each["Weight"] for each in action["ForwardConfig"]["TargetGroups"]}
        return groups.get(self.blue), groups.get(self.green)

    def clean_up(self):
        if self.iam.list_attached_role_policies(RoleName=self.role_name)["AttachedPolicies"]:
            self.iam.detach_role_policy(RoleName=self.role_name, PolicyArn=POLICY)
        self.iam.delete_role(RoleName=self.role_name)


@pytest.fixture
def balancers(region):
    made = Balancers(region)
    yield made
    made.clean_up()


@pytest.fixture
def pair(balancers, region):
    made = Pair(balancers, region)
    yield made
    made.clean_up()


def blue_green(*stages, **more):
    hooks = [{"targetType": "PAUSE", "lifecycleStages": [stage]} for stage in stages]
    return {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0, "lifecycleHooks": hooks, **more}


def web(services, text):
    return services.define(services.web(text, portMappings=[{"containerPort": 80}]))


def paused(services, name, stage):
    """The rollout once it waits for a word at a stage, and the pause's id."""
    def there():
        rollout = services.rollouts(name)[0]
        details = rollout.get("lifecycleHookDetails", [])
        waiting = [each["hookId"] for each in details if each["status"] == "AWAITING_ACTION"]
        return (rollout, waiting[0]) if rollout.get("lifecycleStage") == stage and waiting else None
    return wait_for(f"a pause at {stage}", there, 60)


def go_on(services, rollout, hook, **more):
    services.ecs.continue_service_deployment(
        serviceDeploymentArn=rollout["serviceDeploymentArn"], hookId=hook, **more)


def test_blue_and_green_take_turns_under_load_and_no_request_is_lost(services, pair):
    name = services.create(web(services, "one"), 2, loadBalancers=pair.tied(), deploymentConfiguration=blue_green())
    service = services.steady(name, 2)
    assert service["loadBalancers"] == pair.tied()
    assert service["deploymentConfiguration"]["strategy"] == "BLUE_GREEN"
    assert (pair.weights(), pair.weights(pair.test)) == ((100, 0), (100, 0))
    wait_for("the service", lambda: fetch(pair.port) == (200, "one"))
    with Load(pair.port) as load:
        wait_for("requests", lambda: load.count > 50)
        services.update(name, taskDefinition=web(services, "two"),
                        deploymentConfiguration=blue_green("POST_TEST_TRAFFIC_SHIFT"))
        rollout, hook = paused(services, name, "POST_TEST_TRAFFIC_SHIFT")
        assert (pair.weights(), pair.weights(pair.test)) == ((100, 0), (0, 100))
        wait_for("green for tests", lambda: fetch(pair.test_port) == (200, "two"))
        wait_for("more requests", lambda count=load.count: load.count > count + 100)
        assert load.bodies == {"one"}, "production sees nothing of green"
        source, target = only(rollout["sourceServiceRevisions"]), rollout["targetServiceRevision"]
        assert (source["requestedProductionTrafficWeight"], source["requestedTestTrafficWeight"]) == (100.0, 0.0)
        assert (target["requestedProductionTrafficWeight"], target["requestedTestTrafficWeight"]) == (0.0, 100.0)
        assert (target["requestedTaskCount"], target["runningTaskCount"]) == (2, 2)
        resolved = only(services.ecs.describe_service_revisions(
            serviceRevisionArns=[target["arn"]])["serviceRevisions"])["resolvedConfiguration"]
        assert resolved["loadBalancers"] == [
            {"targetGroupArn": pair.green, "productionListenerRule": pair.production}]
        refused(services.ecs.continue_service_deployment, "InvalidParameterException", "hookId must follow",
                serviceDeploymentArn=rollout["serviceDeploymentArn"], hookId="nothing")
        go_on(services, rollout, hook)
        services.until_rollout(name, "SUCCESSFUL", 90)
        services.steady(name, 2)
        assert pair.weights() == (0, 100)
        wait_for("the new text", lambda: fetch(pair.port) == (200, "two"))
        # And the other way.
        services.update(name, taskDefinition=web(services, "three"), deploymentConfiguration=blue_green())
        services.until_rollout(name, "SUCCESSFUL", 90)
        services.steady(name, 2)
        assert (pair.weights(), pair.weights(pair.test)) == ((100, 0), (100, 0))
        wait_for("the newest text", lambda: fetch(pair.port) == (200, "three"))
    assert not load.bad, (load.count, load.bad[:5])
    assert load.bodies == {"one", "two", "three"}, (load.count, load.bodies)
    last = services.rollouts(name)[0]
    assert last["targetServiceRevision"]["requestedProductionTrafficWeight"] == 100.0
    print(f"{load.count} requests, none lost")


def test_a_green_that_is_not_healthy_never_has_production_and_goes_away(services, balancers, region):
    pair = Pair(balancers, region, HealthCheckPath="/ready.html", UnhealthyThresholdCount=2)
    script = lambda text, file: services.container(
        "sh", "-c", f"mkdir -p /tmp/w; echo {text} | tee /tmp/w/index.html > /tmp/w/{file}; trap 'exit 0' TERM; "
        "httpd -f -p 80 -h /tmp/w & wait", stopTimeout=2, portMappings=[{"containerPort": 80}])
    good, bad = services.define(script("one", "ready.html")), services.define(script("two", "else.html"))
    breaker = {"enable": True, "rollback": True, "thresholdConfiguration": {"type": "COUNT", "value": 1}}
    asked = blue_green(deploymentCircuitBreaker=breaker)
    name = services.create(good, 2, loadBalancers=pair.tied(), deploymentConfiguration=asked)
    services.steady(name, 2)
    wait_for("the service", lambda: fetch(pair.port) == (200, "one"))
    with Load(pair.port) as load:
        services.update(name, taskDefinition=bad)
        rollout = services.until_rollout(name, "ROLLBACK_SUCCESSFUL", 120)
        services.until_service("blue alone", name, lambda service: service["runningCount"] == 2, 60)
        wait_for("more requests", lambda count=load.count: load.count > count + 50)
    assert not load.bad, (load.count, load.bad[:5])
    assert load.bodies == {"one"}
    assert pair.weights() == (100, 0)
    assert "circuit breaker" in rollout["rollback"]["reason"]
    assert rollout["targetServiceRevision"]["requestedProductionTrafficWeight"] == 0.0
    pair.clean_up()


def test_somebody_who_goes_back_after_the_shift_has_the_old_tasks_at_once(services, pair):
    name = services.create(web(services, "one"), 1, loadBalancers=pair.tied(), deploymentConfiguration=blue_green())
    services.steady(name, 1)
    before = services.arns(name)
    services.update(name, taskDefinition=web(services, "two"),
                    deploymentConfiguration=blue_green("POST_PRODUCTION_TRAFFIC_SHIFT"))
    with Load(pair.port) as load:
        rollout, hook = paused(services, name, "POST_PRODUCTION_TRAFFIC_SHIFT")
        wait_for("green", lambda: fetch(pair.port) == (200, "two"))
        # By another deployment green would be undone: blue's group serves then.
        plain = {key: value for key, value in pair.tied()[0].items() if key != "advancedConfiguration"}
        refused(services.update, "InvalidParameterException", "Name the one that serves", name=name,
                deploymentConfiguration={"strategy": "ROLLING"}, loadBalancers=[{**plain, "targetGroupArn": pair.green}])
        services.ecs.stop_service_deployment(
            serviceDeploymentArn=rollout["serviceDeploymentArn"], stopType="ROLLBACK")
        wait_for("blue again", lambda: fetch(pair.port) == (200, "one"))
        services.until_rollout(name, "ROLLBACK_SUCCESSFUL")
        wait_for("blue alone", lambda: services.arns(name) == before)
    assert not load.bad, (load.count, load.bad[:5])
    assert pair.weights() == (100, 0)
    refused(services.ecs.continue_service_deployment, "InvalidParameterException", "terminal states",
            serviceDeploymentArn=rollout["serviceDeploymentArn"], hookId=hook)


def test_what_cannot_be_shifted_is_refused_in_ecs_words(services, balancers, pair):
    web_one = web(services, "one")
    create = lambda part, tied, code="InvalidParameterException", **more: refused(
        services.create, code, part, definition=web_one, loadBalancers=tied,
        deploymentConfiguration={**blue_green(), **more})
    plain = [{key: value for key, value in pair.tied()[0].items() if key != "advancedConfiguration"}]
    create("advancedConfiguration field is required for all loadBalancers", plain)
    create("productionListenerRule has an invalid ARN format", pair.tied(productionListenerRule=pair.blue))
    create("cannot be used as both production and test", pair.tied(testListenerRule=pair.production))
    create("testListenerRule is required", pair.tied(testListenerRule=""))
    create("Duplicate targetGroupArn found", pair.tied(alternateTargetGroupArn=pair.blue))
    create("roleArn can not be blank", pair.tied(roleArn=""))
    other = balancers.group(Protocol="HTTPS")
    create("must have the same protocol", pair.tied(alternateTargetGroupArn=other))
    create("no Lambda functions", pair.tied(), "UnsupportedFeatureException", lifecycleHooks=[
        {"hookTargetArn": "arn:aws:lambda:us-east-1:000000000000:function:f", "roleArn": pair.role,
         "lifecycleStages": ["POST_SCALE_UP"]}])
    create("Invalid lifecycle stage provided for Pause Hook", pair.tied(), lifecycleHooks=[
        {"targetType": "PAUSE", "lifecycleStages": ["TEST_TRAFFIC_SHIFT"]}])
    create("only valid with the LINEAR", pair.tied(), linearConfiguration={"stepPercent": 10})
    # Without the right to change rules nothing is begun, and that is said.
    pair.iam.detach_role_policy(RoleName=pair.role_name, PolicyArn=POLICY)
    name = services.create(web_one, 1, loadBalancers=pair.tied(), deploymentConfiguration=blue_green())
    services.saw(name, f"missing permissions on ECS Infrastructure Role '{pair.role}'")
    assert services.tasks(name) == [], (services.messages(name), services.rollouts(name))


@pytest.mark.parametrize("strategy", [
    {"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 50.0, "stepBakeTimeInMinutes": 0}},
    {"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 20.0, "canaryBakeTimeInMinutes": 0}},
])
def test_traffic_goes_over_by_steps(services, pair, strategy):
    name = services.create(web(services, "one"), 1, loadBalancers=pair.tied(), deploymentConfiguration=blue_green())
    services.steady(name, 1)
    wait_for("the service", lambda: fetch(pair.port) == (200, "one"))
    with Load(pair.port) as load:
        services.update(name, taskDefinition=web(services, "two"), deploymentConfiguration={
            **blue_green("POST_PRODUCTION_TRAFFIC_SHIFT"), **strategy})
        rollout, hook = paused(services, name, "POST_PRODUCTION_TRAFFIC_SHIFT")
        first = 50 if strategy["strategy"] == "LINEAR" else 20
        assert pair.weights() == (100 - first, first)
        wait_for("both", lambda: load.bodies == {"one", "two"})
        assert rollout["targetServiceRevision"]["requestedProductionTrafficWeight"] == float(first)
        go_on(services, rollout, hook)
        wait_for("all", lambda: pair.weights() == (0, 100))
        rollout, hook = paused(services, name, "POST_PRODUCTION_TRAFFIC_SHIFT")
        go_on(services, rollout, hook)
        services.until_rollout(name, "SUCCESSFUL", 90)
    assert not load.bad, (load.count, load.bad[:5])
    shown = services.service(name)["deploymentConfiguration"]
    assert shown["strategy"] == strategy["strategy"]


def test_a_deployment_goes_on_wherever_the_region_is_killed(services, pair):
    name = services.create(web(services, "text-0"), 2, loadBalancers=pair.tied(), deploymentConfiguration=blue_green())
    services.steady(name, 2)
    wait_for("the service", lambda: fetch(pair.port) == (200, "text-0"))
    with Load(pair.port) as load:
        for number, stage in enumerate(["PRE_SCALE_UP", "SCALE_UP", "POST_SCALE_UP", "TEST_TRAFFIC_SHIFT", "CLEAN_UP"], 1):
            definition = web(services, f"text-{number}")
            insist(lambda: services.update(name, taskDefinition=definition))
            # Killed once it is there or past it: which of the two is chance, and all the same to it.
            wait_for(stage, lambda: services.rollouts(name)[0].get("lifecycleStage") in (stage, None), 30, 0.005)
            kill(services.region)
            wait_for("the deployment", lambda: insist(lambda: services.rollouts(name)[0]["status"]) == "SUCCESSFUL", 90)
            assert pair.weights() == ((0, 100) if number % 2 else (100, 0))
            wait_for("the new text", lambda: fetch(pair.port) == (200, f"text-{number}"))
    services.steady(name, 2)
    assert not load.bad, (load.count, load.bad[:5])
