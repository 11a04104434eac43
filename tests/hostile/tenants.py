"""Two accounts in one region, and calls of every operation with the other's names.

The inputs are made from botocore's model: a member whose name stands for a resource gets the victim's ARN, id or
name, whatever else is required gets the least that is valid. So an operation that is added is tried without a word here.
"""

import json
import time
import tomllib
import uuid
from pathlib import Path

from botocore import xform_name
from botocore.exceptions import ClientError, ParamValidationError

from conftest import wait_for
from test_accounts import push

VICTIM, ATTACKER = "111122223333", "444455556666"
SERVICES = Path(__file__).resolve().parents[2] / "xtask" / "services.toml"
VARIANTS = 4

# What an operation should also be asked for, so that it would do harm if it could.
HARM = {
    "UpdateService": {"desiredCount": 0, "forceNewDeployment": True},
    "DeleteService": {"force": True},
    "DeleteRepository": {"force": True},
    "DeregisterContainerInstance": {"force": True},
    "DeleteTaskSet": {"force": True},
    "SubmitTaskStateChange": {"status": "STOPPED", "reason": "because"},
    "SubmitContainerStateChange": {"status": "STOPPED", "exitCode": 1, "containerName": "main"},
    "UpdateContainerInstancesState": {"status": "DRAINING"},
    "PutClusterCapacityProviders": {"capacityProviders": [], "defaultCapacityProviderStrategy": []},
    "UpdateCluster": {"settings": [{"name": "containerInsights", "value": "enabled"}]},
    "UpdateClusterSettings": {"settings": [{"name": "containerInsights", "value": "enabled"}]},
    "RunTask": {"launchType": "FARGATE"},
    "UpdateTaskSet": {"scale": {"value": 0.0, "unit": "PERCENT"}},
    "PutImageTagMutability": {"imageTagMutability": "IMMUTABLE"},
    "PutRetentionPolicy": {"retentionInDays": 1},
    "UpdateTaskProtection": {"protectionEnabled": True},
    "StopServiceDeployment": {"stopType": "ABORT"},
    "PutLogEvents": {"logEvents": [{"timestamp": 0, "message": "forged"}]},
    "TagResource": {"tags": [{"key": "forged", "value": "x"}]},
    "UntagResource": {"tagKeys": ["kept"]},
    "TagResources": {"Tags": {"forged": "x"}},
    "UntagResources": {"TagKeys": ["kept"]},
}


def implemented():
    table = tomllib.loads(SERVICES.read_text())
    return [(each["model"].split("/")[0], operation) for each in table["service"] for operation in each["operations"]]


class Victim:
    """An account with one of everything, each marked with a word that nobody else may ever read."""

    def __init__(self, region):
        self.region, self.mark = region, "sekret-" + uuid.uuid4().hex
        self.ecs, self.ecr, self.logs = (region.client(name, account=VICTIM) for name in ("ecs", "ecr", "logs"))
        self.ec2 = region.client("ec2", account=VICTIM)
        tag = [{"key": "kept", "value": self.mark}]
        name = "v" + uuid.uuid4().hex[:8]
        self.repository, self.group = name, "/victim/" + name
        self.image = push(region, VICTIM, name)
        found, = self.ecr.describe_repositories(repositoryNames=[name])["repositories"]
        self.ecr.tag_resource(resourceArn=found["repositoryArn"], tags=[{"Key": "kept", "Value": self.mark}])
        self.digest = self.ecr.describe_images(repositoryName=name)["imageDetails"][0]["imageDigest"]
        manifest = json.loads(self.ecr.batch_get_image(repositoryName=name, imageIds=[{"imageTag": "v1"}])["images"][0]["imageManifest"])
        self.layers = [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
        self.upload = self.ecr.initiate_layer_upload(repositoryName=name)["uploadId"]
        self.logs.create_log_group(logGroupName=self.group, tags={"kept": self.mark})
        self.logs.create_log_stream(logGroupName=self.group, logStreamName="stream")
        self.put_line()
        self.cluster = self.ecs.create_cluster(clusterName=name, tags=tag)["cluster"]["clusterArn"]
        self.definition = self.define(name, tag)
        subnet = self.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        self.network = {"awsvpcConfiguration": {"subnets": [subnet], "assignPublicIp": "ENABLED"}}
        self.service = self.ecs.create_service(
            cluster=name, serviceName=name, taskDefinition=self.definition, desiredCount=1, launchType="FARGATE",
            networkConfiguration=self.network, tags=tag)["service"]["serviceArn"]
        self.task = self.ecs.run_task(cluster=name, taskDefinition=self.definition, launchType="FARGATE",
                                      networkConfiguration=self.network, tags=tag)["tasks"][0]["taskArn"]
        self.external = self.ecs.create_service(
            cluster=name, serviceName=name + "-sets", deploymentController={"type": "EXTERNAL"}, desiredCount=0,
            tags=tag)["service"]["serviceArn"]
        self.set = self.ecs.create_task_set(
            cluster=name, service=self.external, taskDefinition=self.definition, launchType="FARGATE",
            networkConfiguration=self.network, scale={"value": 100.0, "unit": "PERCENT"}, tags=tag)["taskSet"]["taskSetArn"]
        self.provider = self.ecs.create_capacity_provider(
            name=name, tags=tag, autoScalingGroupProvider={"autoScalingGroupArn": f"{name}-group"})["capacityProvider"]
        self.instance = self.ecs.register_container_instance(
            cluster=name, tags=tag, totalResources=[
                {"name": "CPU", "type": "INTEGER", "integerValue": 1024},
                {"name": "MEMORY", "type": "INTEGER", "integerValue": 1024},
                {"name": "PORTS", "type": "STRINGSET", "stringSetValue": []},
                {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []}],
            attributes=[{"name": "kept", "value": self.mark}])["containerInstance"]["containerInstanceArn"]
        self.name = name
        wait_for("the victim's tasks", self.is_steady, 60)
        self.deployment = self.ecs.list_service_deployments(cluster=name, service=name)["serviceDeployments"][0]["serviceDeploymentArn"]
        deployed, = self.ecs.describe_service_deployments(serviceDeploymentArns=[self.deployment])["serviceDeployments"]
        self.revision = deployed["targetServiceRevision"]["arn"]
        described, = self.ecs.describe_tasks(cluster=name, tasks=[self.task])["tasks"]
        details = {each["name"]: each["value"] for each in described["attachments"][0]["details"]}
        self.interface, self.address = details["networkInterfaceId"], details["privateIPv4Address"]
        self.runtime = described["containers"][0]["runtimeId"]

    def define(self, family, tag):
        options = {"awslogs-group": self.group, "awslogs-region": "eu-north-1", "awslogs-stream-prefix": "t"}
        idle = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"
        return self.ecs.register_task_definition(
            family=family, requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256", memory="512", tags=tag,
            executionRoleArn="ecsTaskExecutionRole",
            containerDefinitions=[{
                "name": "main", "image": self.image, "essential": True, "command": ["sh", "-c", idle], "stopTimeout": 2,
                "environment": [{"name": "KEPT", "value": self.mark}],
                "logConfiguration": {"logDriver": "awslogs", "options": options}}])["taskDefinition"]["taskDefinitionArn"]

    def put_line(self):
        self.logs.put_log_events(logGroupName=self.group, logStreamName="stream", logEvents=[
            {"timestamp": int(time.time() * 1000), "message": self.mark}])

    def is_steady(self):
        tasks = self.ecs.describe_tasks(cluster=self.name, tasks=[self.task])["tasks"]
        services = self.ecs.describe_services(cluster=self.name, services=[self.name])["services"]
        return (tasks[0]["lastStatus"] == "RUNNING" and services[0]["runningCount"] == 1
                and services[0]["deployments"][0]["rolloutState"] == "COMPLETED")

    def names(self):
        """Members of inputs by their names, in small letters and without a plural's `s`; values in turn."""
        short = lambda arn: arn.rsplit("/", 1)[1]
        group_arn = self.logs.describe_log_groups(logGroupNamePrefix=self.group)["logGroups"][0]["arn"]
        repository_arn = f"arn:aws:ecr:eu-north-1:{VICTIM}:repository/{self.repository}"
        arns = [self.cluster, self.service, self.definition, self.task, self.instance, self.set,
                self.provider["capacityProviderArn"], repository_arn, group_arn, group_arn.removesuffix(":*"), self.external]
        service = [self.service, self.external, short(self.service), self.service]
        return {
            "resourcearn": arns, "resourcearnlist": arns, "cluster": [self.cluster, self.cluster, short(self.cluster), self.cluster],
            "clusterarn": [self.cluster], "service": service, "servicename": service, "servicearn": [self.service],
            "taskdefinition": [self.definition, short(self.definition)], "taskdefinitionarn": [self.definition],
            "task": [self.task, self.task, short(self.task), self.task], "taskarn": [self.task], "taskset": [self.set, short(self.set)],
            "primarytaskset": [self.set], "containerinstance": [self.instance, self.instance, short(self.instance)],
            "containerinstancearn": [self.instance], "capacityprovider": [self.provider["capacityProviderArn"], self.name],
            "servicedeploymentarn": [self.deployment], "servicerevisionarn": [self.revision],
            "targetid": [self.instance], "targettype": ["container-instance"], "family": [self.name], "familyprefix": [self.name],
            "repositoryname": [self.repository], "registryid": [VICTIM], "layerdigest": self.layers, "uploadid": [self.upload],
            "imageid": [{"imageTag": "v1"}, {"imageDigest": self.digest}], "imagedigest": [self.digest],
            "loggroupname": [self.group, group_arn], "loggroupidentifier": [group_arn, group_arn.removesuffix(":*"), self.group],
            "logstreamname": ["stream"], "loggroupnameprefix": [self.group, "/victim"], "accountidentifier": [VICTIM],
            "networkinterfaceid": [self.interface], "runtimeid": [self.runtime], "includelinkedaccount": [True],
            "networkconfiguration": [self.network], "attachmentarn": [f"arn:aws:ecs:eu-north-1:{VICTIM}:attachment/{self.runtime}"],
            "principalarn": [f"arn:aws:iam::{VICTIM}:root"],
        }

    def kept(self):
        """What nobody else may read, whatever they ask."""
        short = lambda arn: arn.rsplit("/", 1)[1]
        return {self.mark, short(self.task), short(self.instance), short(self.set), self.upload, self.runtime, self.interface,
                short(self.revision), short(self.deployment)}

    def snapshot(self):
        """All that the victim sees of its own."""
        ecs, cluster = self.ecs, self.name
        services = ecs.describe_services(cluster=cluster, services=[self.service, self.external], include=["TAGS"])["services"]
        for service in services:
            service.pop("events")
        seen = [
            ecs.describe_clusters(clusters=[cluster], include=["TAGS", "SETTINGS", "ATTACHMENTS", "CONFIGURATIONS"])["clusters"],
            services, ecs.describe_tasks(cluster=cluster, tasks=[self.task], include=["TAGS"])["tasks"],
            sorted(ecs.list_tasks(cluster=cluster)["taskArns"]),
            ecs.describe_task_definition(taskDefinition=self.definition, include=["TAGS"]),
            ecs.describe_task_sets(cluster=cluster, service=self.external, include=["TAGS"])["taskSets"],
            ecs.describe_container_instances(cluster=cluster, containerInstances=[self.instance], include=["TAGS"])["containerInstances"],
            ecs.describe_capacity_providers(capacityProviders=[self.name], include=["TAGS"])["capacityProviders"],
            ecs.list_account_settings(effectiveSettings=True)["settings"], sorted(ecs.list_clusters()["clusterArns"]),
            ecs.list_task_definitions()["taskDefinitionArns"], ecs.get_task_protection(cluster=cluster, tasks=[self.task])["protectedTasks"],
            ecs.describe_service_deployments(serviceDeploymentArns=[self.deployment])["serviceDeployments"],
            self.ecr.describe_repositories()["repositories"], self.ecr.list_images(repositoryName=self.repository)["imageIds"],
            self.ecr.list_tags_for_resource(resourceArn=f"arn:aws:ecr:eu-north-1:{VICTIM}:repository/{self.repository}")["tags"],
            self.logs.describe_log_groups()["logGroups"], self.logs.list_tags_log_group(logGroupName=self.group)["tags"],
            self.logs.get_log_events(logGroupName=self.group, logStreamName="stream", startFromHead=True)["events"],
        ]
        for each in seen:
            if isinstance(each, dict):
                each.pop("ResponseMetadata", None)
        # How much a stream stores is told late, and an instance that is silent is one moment connected and then not.
        return json.loads(json.dumps(seen, default=str), object_hook=lambda row: {
            key: value for key, value in row.items() if key not in ("storedBytes", "agentConnected", "updatedAt", "version")})


def build(shape, name, names, variant, depth=0):
    """The least valid value of a shape, with the victim's names where it asks for names."""
    key = name.lower()
    for each in (key, key.removesuffix("s"), key.removesuffix("es")):
        if each in names:
            values = names[each]
            value = values[variant % len(values)]
            if shape.type_name == "structure" and not isinstance(value, dict):
                break
            # A name may be that of another service's things: images of EC2 are named by a text.
            inner = shape.member if shape.type_name == "list" else shape
            if isinstance(value, dict) and inner.type_name == "string":
                break
            return [value] if shape.type_name == "list" else value
    kind = shape.type_name
    if kind == "structure":
        value = {}
        for member, inner in shape.members.items():
            plain = member.lower()
            is_named = any(each in names for each in (plain, plain.removesuffix("s")))
            if member in shape.required_members or (is_named and depth < 2):
                value[member] = build(inner, member, names, variant, depth + 1)
        return value
    if kind == "list":
        return [build(shape.member, name.removesuffix("s"), names, variant, depth + 1)]
    if kind == "map":
        return {}
    if kind in ("integer", "long"):
        return max(1, shape.metadata.get("min", 1))
    if kind in ("float", "double"):
        return 1.0
    if kind == "boolean":
        return True
    if kind == "timestamp":
        return 0
    if kind == "blob":
        return b"x"
    return shape.enum[0] if getattr(shape, "enum", None) else "x" * max(1, shape.metadata.get("min", 1))


def calls(region, victim):
    """`(service, operation, input)` of everything implemented, in several variants; equal ones once."""
    names, done = victim.names(), set()
    clients = {}
    for module, operation in implemented():
        client = clients.setdefault(module, region.client(module, account=ATTACKER))
        model = client.meta.service_model.operation_model(operation)
        count = max(VARIANTS, len(names["resourcearn"]) if operation.endswith(("tagResource", "TagResource", "TagsForResource", "tagResources", "TagResources")) else 0)
        for variant in range(count):
            shape = model.input_shape
            value = build(shape, "", names, variant) if shape else {}
            for key, wanted in HARM.get(operation, {}).items():
                if shape and key in shape.members:
                    value[key] = wanted
            if "include" in (shape.members if shape else {}):
                value["include"] = [shape.members["include"].member.enum[0]] if shape.members["include"].member.enum else ["TAGS"]
            if operation.startswith("Tag") and module in ("ecr", "logs"):
                value["tags"] = {"forged": "x"} if module == "logs" else [{"Key": "forged", "Value": "x"}]
            mark = (operation, json.dumps(value, default=str, sort_keys=True))
            if mark not in done:
                done.add(mark)
                yield module, operation, value


def call(client, operation, value):
    """`(answer or None, error or None)`, each as text."""
    try:
        answer = getattr(client, xform_name(operation))(**value)
    except ClientError as error:
        return None, error.response
    except ParamValidationError as error:
        return None, {"Error": {"Code": "OurMistake", "Message": str(error)}, "ResponseMetadata": {"HTTPStatusCode": 0}}
    return answer, None
