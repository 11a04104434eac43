"""What the operations of services refuse: ECS's codes, and its sentences where they are documented."""

import random

import pytest

from conftest import unique
from services import only, refused

WEB = {"name": "web", "image": "web:1", "memory": 64}
GROUP = "arn:aws:autoscaling:eu-north-1:000000000000:autoScalingGroup:5f6f8f4e-0000-4000-8000-000000000000:autoScalingGroupName/g"


class Account:
    """An account of its own, with a cluster and definitions of each kind; nothing of it ever runs."""

    def __init__(self, region):
        self.id = str(random.randrange(10**11, 10**12))
        self.ecs, ec2 = (region.client(service, account=self.id) for service in ("ecs", "ec2"))
        subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        self.network = {"awsvpcConfiguration": {"subnets": [subnet]}}
        self.ecs.create_cluster(clusterName="c")
        register = self.ecs.register_task_definition
        register(family="ec2", containerDefinitions=[WEB])
        register(family="fargate", containerDefinitions=[WEB], networkMode="awsvpc", cpu="256", memory="512",
                 requiresCompatibilities=["FARGATE"])
        register(family="off", containerDefinitions=[WEB])
        self.ecs.deregister_task_definition(taskDefinition="off:1")
        make = self.ecs.create_service
        make(cluster="c", serviceName="ec2", taskDefinition="ec2", desiredCount=0, launchType="EC2")
        make(cluster="c", serviceName="fargate", taskDefinition="fargate", desiredCount=0, launchType="FARGATE",
             networkConfiguration=self.network)
        make(cluster="c", serviceName="daemon", taskDefinition="ec2", schedulingStrategy="DAEMON", launchType="EC2")
        make(cluster="c", serviceName="external", desiredCount=1, deploymentController={"type": "EXTERNAL"})


@pytest.fixture(scope="module")
def account(region):
    return Account(region)


INVALID, CLIENT = "InvalidParameterException", "ClientException"
# Stands for the account's own subnet.
NETWORK = object()
EC2 = {"taskDefinition": "ec2", "launchType": "EC2", "desiredCount": 1}
FARGATE = {"taskDefinition": "fargate", "launchType": "FARGATE", "desiredCount": 1, "networkConfiguration": NETWORK}
MANY = [{"type": "memberOf", "expression": f"attribute:a == {n}"} for n in range(11)]


def filled(account, arguments):
    return {key: account.network if value is NETWORK else value for key, value in arguments.items() if value is not None}


@pytest.mark.parametrize("base, change, code, part", [
    (EC2, {"cluster": "never-was"}, "ClusterNotFoundException", "Cluster not found."),
    (EC2, {"serviceName": "no spaces"}, INVALID, ""),
    (EC2, {"serviceName": "x" * 256}, INVALID, ""),
    (EC2, {"taskDefinition": None}, INVALID, "TaskDefinition can not be blank."),
    (EC2, {"taskDefinition": "never-was"}, CLIENT, "TaskDefinition not found."),
    (EC2, {"taskDefinition": "off:1"}, CLIENT, "TaskDefinition is inactive"),
    (EC2, {"desiredCount": -1}, INVALID, ""),
    (EC2, {"desiredCount": None}, INVALID, ""),
    (EC2, {"launchType": "MOON"}, INVALID, ""),
    (EC2, {"schedulingStrategy": "SOMETIMES"}, INVALID, ""),
    (EC2, {"schedulingStrategy": "DAEMON"}, INVALID, "The daemon scheduling strategy does not support a desired count for services. Remove the desired count value and try again"),
    (EC2, {"schedulingStrategy": "DAEMON", "desiredCount": None, "placementStrategy": [{"type": "random"}]}, INVALID,
     "The daemon scheduling strategy does not support placement strategies. Remove the placement strategy and try again"),
    (EC2, {"schedulingStrategy": "DAEMON", "desiredCount": None, "deploymentConfiguration": {"maximumPercent": 150}}, INVALID, ""),
    (FARGATE, {"schedulingStrategy": "DAEMON", "desiredCount": None}, INVALID, ""),
    (EC2, {"platformVersion": "1.4.0"}, INVALID, "The platform version must be null when specifying an EC2 launch type."),
    (FARGATE, {"platformVersion": "9.9.9"}, "PlatformUnknownException", ""),
    (EC2, {"launchType": "FARGATE"}, INVALID, ""),
    (FARGATE, {"networkConfiguration": None}, INVALID, "Network Configuration must be provided when networkMode 'awsvpc' is specified."),
    (FARGATE, {"networkConfiguration": {"awsvpcConfiguration": {"subnets": []}}}, INVALID, "subnets can not be empty."),
    (FARGATE, {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-00000000"]}}}, INVALID,
     "The subnet ID 'subnet-00000000' does not exist"),
    (EC2, {"networkConfiguration": NETWORK}, INVALID, "Network Configuration is not valid for the given networkMode of this task definition."),
    (FARGATE, {"placementStrategy": [{"type": "random"}]}, INVALID, "Placement strategies are not supported with FARGATE launch type."),
    (FARGATE, {"placementConstraints": [{"type": "distinctInstance"}]}, INVALID, "Placement constraints are not supported with FARGATE launch type."),
    (EC2, {"placementStrategy": [{"type": "tidy"}]}, INVALID, ""),
    (EC2, {"placementStrategy": [{"type": "binpack", "field": "beauty"}]}, INVALID, ""),
    (EC2, {"placementStrategy": [{"type": "spread", "field": "instanceId"}] * 6}, INVALID, ""),
    (EC2, {"placementConstraints": [{"type": "memberOf", "expression": "attribute:a =="}]}, INVALID, ""),
    (EC2, {"placementConstraints": [{"type": "memberOf"}]}, INVALID, ""),
    (EC2, {"placementConstraints": MANY}, INVALID, ""),
    (EC2, {"deploymentConfiguration": {"minimumHealthyPercent": 100, "maximumPercent": 100}}, INVALID, ""),
    (EC2, {"deploymentConfiguration": {"minimumHealthyPercent": -1}}, INVALID, ""),
    (EC2, {"deploymentConfiguration": {"maximumPercent": 99, "minimumHealthyPercent": 0}}, INVALID, ""),
    (EC2, {"launchType": "EC2", "capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]}, INVALID, ""),
    (EC2, {"launchType": None, "capacityProviderStrategy": [{"capacityProvider": "never-was"}]}, INVALID, ""),
    (FARGATE, {"launchType": None, "capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]}, INVALID,
     "The specified capacity provider strategy cannot contain a capacity provider that is not associated with the cluster."),
    (EC2, {"healthCheckGracePeriodSeconds": -1}, INVALID, ""),
    (EC2, {"tags": [{"key": "aws:mine", "value": "x"}]}, INVALID, ""),
    (EC2, {"propagateTags": "EVERYWHERE"}, INVALID, ""),
    (EC2, {"deploymentController": {"type": "MAGIC"}}, INVALID, ""),
    (EC2, {"deploymentController": {"type": "EXTERNAL"}}, INVALID, ""),
    (EC2, {"loadBalancers": [{"targetGroupArn": "arn:aws:elasticloadbalancing:x", "containerName": "web", "containerPort": 80}]}, INVALID, "target group does not exist"),
    # What is not there yet is refused by name.
    (EC2, {"loadBalancers": [{"loadBalancerName": "x", "containerName": "web", "containerPort": 80}]}, None, "loadBalancer"),
    (EC2, {"serviceRegistries": [{"registryArn": "arn:aws:servicediscovery:x"}]}, INVALID, "does not exist"),
    (EC2, {"serviceConnectConfiguration": {"enabled": True, "namespace": "x"}}, None, "serviceConnectConfiguration"),
    (EC2, {"volumeConfigurations": [{"name": "v", "managedEBSVolume": {"roleArn": "arn:aws:iam::000000000000:role/x", "sizeInGiB": 1}}]}, None, "volumeConfigurations"),
    (EC2, {"vpcLatticeConfigurations": [{"roleArn": "a", "targetGroupArn": "b", "portName": "c"}]}, None, "vpcLatticeConfigurations"),
    (EC2, {"deploymentController": {"type": "CODE_DEPLOY"}}, None, "CODE_DEPLOY"),
    (EC2, {"deploymentConfiguration": {"strategy": "BLUE_GREEN", "lifecycleHooks": [
        {"hookTargetArn": "arn:aws:lambda:us-east-1:000000000000:function:f", "lifecycleStages": ["POST_SCALE_UP"]}]}},
     None, "no Lambda functions"),
    (EC2, {"deploymentConfiguration": {"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 0.01}}},
     INVALID, "canaryPercent must be a multiple of 0.1 between 0.1 and 100.0."),
    (EC2, {"deploymentConfiguration": {"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 2.9}}},
     INVALID, "stepPercent must be a multiple of 0.1 between 3.0 and 100.0."),
    (EC2, {"deploymentConfiguration": {"alarms": {"alarmNames": ["a"], "enable": True, "rollback": True}}}, None, "alarms"),
])
def test_create_service_refuses(account, base, change, code, part):
    name = unique("refused")
    arguments = filled(account, {"cluster": "c", "serviceName": name, **base, **change})
    if code is None:
        refused_by_name(account.ecs.create_service, part, **arguments)
    else:
        refused(account.ecs.create_service, code, part, **arguments)
    left = account.ecs.describe_services(cluster="c", services=[name])
    assert only(left["failures"])["reason"] == "MISSING", "what is refused leaves nothing"


def refused_by_name(call, part, **arguments):
    """Refused with any client's error whose sentence names what it is about."""
    with pytest.raises(call.__self__.exceptions.ClientError) as error:
        call(**arguments)
    answer = error.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400, answer
    assert part.lower().replace("_", "") in answer["Error"]["Message"].lower().replace("_", "").replace("/", ""), answer["Error"]


@pytest.mark.parametrize("service, change, code, part", [
    ("ec2", {"cluster": "never-was"}, "ClusterNotFoundException", "Cluster not found."),
    ("never-was", {"desiredCount": 1}, "ServiceNotFoundException", "Service not found."),
    ("ec2", {"taskDefinition": "never-was"}, CLIENT, "TaskDefinition not found."),
    ("ec2", {"taskDefinition": "off:1"}, CLIENT, "TaskDefinition is inactive"),
    ("ec2", {"desiredCount": -1}, INVALID, ""),
    ("ec2", {"platformVersion": "1.4.0"}, INVALID, ""),
    ("ec2", {"networkConfiguration": NETWORK}, INVALID, "Network Configuration is not valid for the given networkMode of this task definition."),
    ("ec2", {"placementStrategy": [{"type": "spread", "field": "instanceId"}] * 6}, INVALID, ""),
    ("ec2", {"deploymentConfiguration": {"minimumHealthyPercent": 100, "maximumPercent": 100}}, INVALID, ""),
    ("ec2", {"capacityProviderStrategy": [{"capacityProvider": "never-was"}], "forceNewDeployment": True}, INVALID, ""),
    ("fargate", {"taskDefinition": "ec2"}, INVALID, ""),
    ("fargate", {"platformVersion": "9.9.9"}, "PlatformUnknownException", ""),
    ("fargate", {"placementStrategy": [{"type": "random"}]}, INVALID, "Placement strategies are not supported with FARGATE launch type."),
    ("fargate", {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-00000000"]}}}, INVALID,
     "The subnet ID 'subnet-00000000' does not exist"),
    ("daemon", {"desiredCount": 2}, INVALID, "The daemon scheduling strategy does not support a desired count for services. Remove the desired count value and try again"),
    ("daemon", {"placementStrategy": [{"type": "random"}]}, INVALID,
     "The daemon scheduling strategy does not support placement strategies. Remove the placement strategy and try again"),
    ("external", {"taskDefinition": "ec2"}, INVALID, ""),
    ("external", {"forceNewDeployment": True}, INVALID, ""),
    ("daemon", {"deploymentConfiguration": {"strategy": "BLUE_GREEN"}}, INVALID,
     "The daemon scheduling strategy does not support the BLUE_GREEN deployment strategy."),
    ("external", {"deploymentConfiguration": {"strategy": "BLUE_GREEN"}}, INVALID, ""),
])
def test_update_service_refuses(account, service, change, code, part):
    arguments = filled(account, {"cluster": "c", "service": service, **change})
    before = account.ecs.describe_services(cluster="c", services=["ec2", "fargate", "daemon", "external"])["services"]
    if code is None:
        refused_by_name(account.ecs.update_service, part, **arguments)
    else:
        refused(account.ecs.update_service, code, part, **arguments)
    after = account.ecs.describe_services(cluster="c", services=["ec2", "fargate", "daemon", "external"])["services"]
    for then, now in zip(before, after):
        assert [d["id"] for d in then["deployments"]] == [d["id"] for d in now["deployments"]], "nothing has begun"


UNKNOWN = "arn:aws:ecs:eu-north-1:{account}:service-deployment/c/ec2/NCWGC2ZR-taawPAYrIaU5"
REVISION = "arn:aws:ecs:eu-north-1:{account}:service-revision/c/ec2/4980306466373577095"


@pytest.mark.parametrize("operation, arguments, code, part", [
    ("describe_services", {"cluster": "never-was", "services": ["x"]}, "ClusterNotFoundException", "Cluster not found."),
    ("describe_services", {"cluster": "c", "services": []}, INVALID, "Services cannot be empty."),
    ("describe_services", {"cluster": "c", "services": [f"s{n}" for n in range(11)]}, INVALID, ""),
    ("describe_services", {"cluster": "c", "services": ["x"], "include": ["SECRETS"]}, INVALID, ""),
    ("list_services", {"cluster": "never-was"}, "ClusterNotFoundException", "Cluster not found."),
    ("list_services", {"cluster": "c", "maxResults": 101}, INVALID, ""),
    ("list_services", {"cluster": "c", "launchType": "MOON"}, INVALID, ""),
    ("delete_service", {"cluster": "never-was", "service": "ec2"}, "ClusterNotFoundException", "Cluster not found."),
    ("delete_service", {"cluster": "c", "service": "never-was"}, "ServiceNotFoundException", "Service not found."),
    ("list_service_deployments", {"cluster": "c", "service": "never-was"}, "ServiceNotFoundException", "Service not found."),
    ("list_service_deployments", {"cluster": "never-was", "service": "ec2"}, "ClusterNotFoundException", "Cluster not found."),
    ("list_service_deployments", {"cluster": "c", "service": "ec2", "status": ["DREAMING"]}, INVALID, ""),
    ("describe_service_deployments", {"serviceDeploymentArns": []}, INVALID, ""),
    ("describe_service_deployments", {"serviceDeploymentArns": ["no-arn"]}, INVALID, ""),
    ("stop_service_deployment", {"serviceDeploymentArn": UNKNOWN}, "ServiceDeploymentNotFoundException", ""),
    ("stop_service_deployment", {"serviceDeploymentArn": "no-arn"}, INVALID, ""),
    ("describe_service_revisions", {"serviceRevisionArns": []}, INVALID, ""),
    ("describe_service_revisions", {"serviceRevisionArns": ["no-arn"]}, INVALID, ""),
    ("create_task_set", {"cluster": "never-was", "service": "external", "taskDefinition": "ec2"}, "ClusterNotFoundException", "Cluster not found."),
    ("create_task_set", {"cluster": "c", "service": "never-was", "taskDefinition": "ec2"}, "ServiceNotFoundException", "Service not found."),
    ("create_task_set", {"cluster": "c", "service": "ec2", "taskDefinition": "ec2"}, INVALID, ""),
    ("create_task_set", {"cluster": "c", "service": "external", "taskDefinition": "never-was"}, CLIENT, "TaskDefinition not found."),
    ("create_task_set", {"cluster": "c", "service": "external", "taskDefinition": "ec2", "scale": {"value": 101, "unit": "PERCENT"}}, INVALID, ""),
    ("create_task_set", {"cluster": "c", "service": "external", "taskDefinition": "fargate", "launchType": "FARGATE"}, INVALID,
     "Network Configuration must be provided when networkMode 'awsvpc' is specified."),
    ("update_task_set", {"cluster": "c", "service": "external", "taskSet": "ecs-svc/1", "scale": {"value": 1, "unit": "PERCENT"}}, "TaskSetNotFoundException", ""),
    ("update_task_set", {"cluster": "c", "service": "never-was", "taskSet": "ecs-svc/1", "scale": {"value": 1, "unit": "PERCENT"}}, "ServiceNotFoundException", "Service not found."),
    ("delete_task_set", {"cluster": "c", "service": "external", "taskSet": "ecs-svc/1"}, "TaskSetNotFoundException", "The specified task set does not exist."),
    ("update_service_primary_task_set", {"cluster": "c", "service": "external", "primaryTaskSet": "ecs-svc/1"}, "TaskSetNotFoundException", ""),
    ("describe_task_sets", {"cluster": "c", "service": "never-was"}, "ServiceNotFoundException", "Service not found."),
    ("describe_task_sets", {"cluster": "c", "service": "ec2"}, INVALID, ""),
    ("get_task_protection", {"cluster": "never-was"}, "ClusterNotFoundException", "Cluster not found."),
    ("update_task_protection", {"cluster": "never-was", "tasks": ["0" * 32], "protectionEnabled": True}, "ClusterNotFoundException", "Cluster not found."),
    ("update_task_protection", {"cluster": "c", "tasks": ["0" * 32] * 11, "protectionEnabled": True}, INVALID, ""),
    ("create_capacity_provider", {"name": "no spaces", "autoScalingGroupProvider": {"autoScalingGroupArn": GROUP}}, CLIENT, "The specified capacity provider name is invalid."),
    ("create_capacity_provider", {"name": "aws-mine", "autoScalingGroupProvider": {"autoScalingGroupArn": GROUP}}, CLIENT, "The specified capacity provider name is invalid."),
    ("create_capacity_provider", {"name": "ecs-mine", "autoScalingGroupProvider": {"autoScalingGroupArn": GROUP}}, CLIENT, "The specified capacity provider name is invalid."),
    ("create_capacity_provider", {"name": "p", "autoScalingGroupProvider": {"autoScalingGroupArn": GROUP, "managedScaling": {"targetCapacity": 101}}}, INVALID, ""),
    ("create_capacity_provider", {"name": "p", "autoScalingGroupProvider": {"autoScalingGroupArn": GROUP, "managedTerminationProtection": "ENABLED", "managedScaling": {"status": "DISABLED"}}}, INVALID, ""),
    ("create_capacity_provider", {"name": "p"}, INVALID, ""),
    ("update_capacity_provider", {"name": "never-was", "autoScalingGroupProvider": {"managedScaling": {"status": "ENABLED"}}}, CLIENT, "The specified capacity provider does not exist."),
    ("update_capacity_provider", {"name": "FARGATE", "autoScalingGroupProvider": {"managedScaling": {"status": "ENABLED"}}}, CLIENT, "reserved"),
    ("delete_capacity_provider", {"capacityProvider": "never-was"}, CLIENT, "The specified capacity provider does not exist."),
    ("delete_capacity_provider", {"capacityProvider": "FARGATE_SPOT"}, CLIENT, "reserved"),
    ("put_cluster_capacity_providers", {"cluster": "never-was", "capacityProviders": [], "defaultCapacityProviderStrategy": []}, "ClusterNotFoundException", "Cluster not found."),
    ("put_cluster_capacity_providers", {"cluster": "c", "capacityProviders": ["never-was"], "defaultCapacityProviderStrategy": []}, INVALID, ""),
    ("put_cluster_capacity_providers", {"cluster": "c", "capacityProviders": ["FARGATE"], "defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT"}]}, INVALID,
     "The specified capacity provider strategy cannot contain a capacity provider that is not associated with the cluster."),
    ("put_cluster_capacity_providers", {"cluster": "c", "capacityProviders": ["FARGATE", "FARGATE_SPOT"], "defaultCapacityProviderStrategy": [
        {"capacityProvider": "FARGATE", "base": 1}, {"capacityProvider": "FARGATE_SPOT", "base": 1}]}, INVALID, ""),
    ("put_cluster_capacity_providers", {"cluster": "c", "capacityProviders": ["FARGATE"], "defaultCapacityProviderStrategy": [
        {"capacityProvider": "FARGATE", "weight": 1001}]}, INVALID, ""),
])
def test_the_operations_of_services_refuse(account, operation, arguments, code, part):
    arguments = {key: value.format(account=account.id) if value is UNKNOWN else value for key, value in arguments.items()}
    refused(getattr(account.ecs, operation), code, part, **arguments)


def test_unknown_deployments_and_revisions_are_failures(account):
    answer = account.ecs.describe_service_deployments(serviceDeploymentArns=[UNKNOWN.format(account=account.id)])
    assert answer["serviceDeployments"] == [] and only(answer["failures"])["reason"] == "MISSING"
    answer = account.ecs.describe_service_revisions(serviceRevisionArns=[REVISION.format(account=account.id)])
    assert answer["serviceRevisions"] == [] and only(answer["failures"])["reason"] == "MISSING"


def test_namespaces_are_refused_until_they_act(account):
    with pytest.raises(account.ecs.exceptions.ClientError) as error:
        account.ecs.list_services_by_namespace(namespace="x")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 501)
