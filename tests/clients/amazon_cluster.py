"""A cluster of one test's own whose hosts have Amazon's agent, which acts in its host's role as on a machine of EC2."""

import json

import boto3

from amazon_agent import Agent, Keys
from conftest import unique, wait_for
from services import ServiceCluster

HOSTS_POLICY = "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"


def allow(action, resource="*"):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]})


def trust(**principal):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]})


def keys_of_a_host(region):
    """What a machine's instance profile would give: a session of a role that has the policy for hosts, and no more."""
    iam, person, role = region.client("iam"), unique("machine"), unique("ecsInstanceRole")
    iam.create_user(UserName=person)
    iam.put_user_policy(UserName=person, PolicyName="p", PolicyDocument=allow("sts:AssumeRole"))
    key = iam.create_access_key(UserName=person)["AccessKey"]
    account = region.client("sts").get_caller_identity()["Account"]
    made = iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust(AWS=account))["Role"]
    iam.attach_role_policy(RoleName=role, PolicyArn=HOSTS_POLICY)
    sts = boto3.client("sts", endpoint_url=region.endpoint, region_name="eu-north-1", aws_access_key_id=key["AccessKeyId"],
                       aws_secret_access_key=key["SecretAccessKey"])
    given = sts.assume_role(RoleArn=made["Arn"], RoleSessionName="i-0123456789abcdef0")["Credentials"]
    return Keys(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])


class AmazonCluster(ServiceCluster):
    def __init__(self, region, box):
        super().__init__(region, box)
        self.keys, self.agents = keys_of_a_host(region), []

    def agent(self, **more):
        """An agent that has done nothing yet."""
        self.agents.append(Agent(self.region.endpoint, self.keys, more.pop("cluster", self.name), **more))
        return self.agents[-1]

    def join(self, **more):
        """One that is registered and connected."""
        agent = self.agent(**more)
        agent.register()
        agent.start()
        agent.expect("TaskManifestMessage")
        return agent

    def again(self, agent, **more):
        """The same host's agent, started anew with what its disk has."""
        fresh = self.agent(state=agent.stop(), **more)
        fresh.register()
        fresh.start()
        fresh.expect("TaskManifestMessage")
        return fresh

    def instance(self, agent):
        answer = self.ecs.describe_container_instances(cluster=agent.cluster, containerInstances=[agent.state.arn],
                                                       include=["CONTAINER_INSTANCE_HEALTH", "TAGS"])
        return answer["containerInstances"][0]

    def until_instance(self, what, agent, condition):
        def there():
            found = self.instance(agent)
            return found if condition(found) else None
        return wait_for(what, there, 20)

    def on_host(self, *containers, count=1, **more):
        """Tasks of launch type EC2, of containers of which `{"name": …}` is enough."""
        containers = [{"image": "box:1", "memory": 64, "essential": True, **container} for container in containers or [{"name": "main"}]]
        made = self.ecs.register_task_definition(family=unique("f"), containerDefinitions=containers, **more)["taskDefinition"]
        return self.run(made["taskDefinitionArn"], fargate=False, count=count)

    def deregister(self, agent):
        return self.ecs.deregister_container_instance(cluster=agent.cluster, containerInstance=agent.state.arn, force=True)

    def clean_up(self):
        super().clean_up()
        for agent in self.agents:
            agent.stop()
        for arn in self.ecs.list_container_instances(cluster=self.name)["containerInstanceArns"]:
            self.ecs.deregister_container_instance(cluster=self.name, containerInstance=arn, force=True)
        assert not [fault for agent in self.agents for fault in agent.faults]
