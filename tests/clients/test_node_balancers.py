"""Load balancers on the region's own machine reach tasks on other hosts, in the default VPC and in others."""

import os

import pytest

from hosts import PORT, SUBNET, Machine, eventually, fleet, join_all
from services import only

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


class Fetching(Machine):
    def fetch(self, address, port):
        done = self.run("curl", "-s", "-m", "3", "--noproxy", "*", f"http://{address}:{port}/", check=False)
        return done.stdout.strip()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("balanced"), 1, Fetching) as (region, hosts):
        join_all(region, hosts)
        yield region, hosts


def default_subnets(ec2):
    found = ec2.describe_subnets(Filters=[{"Name": "defaultForAz", "Values": ["true"]}])["Subnets"]
    # Of zones b and c: where hosts stand there, tasks do too.
    found.sort(key=lambda each: each["AvailabilityZone"])
    return found[0]["VpcId"], [each["SubnetId"] for each in found][1:]


def own_subnets(ec2):
    vpc = ec2.create_vpc(CidrBlock="10.40.0.0/16")["Vpc"]["VpcId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    return vpc, [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.40.{number}.0/24", AvailabilityZone=f"eu-north-1{zone}")[
        "Subnet"]["SubnetId"] for number, zone in enumerate("ab")]


@pytest.mark.parametrize("subnets_of, port", [(default_subnets, 8081), (own_subnets, 8082)])
def test_a_service_on_another_host_is_served_from_the_regions_machine(world, subnets_of, port):
    region, (host,) = world
    ecs, elb, ec2 = (region.client(name) for name in ("ecs", "elbv2", "ec2"))
    vpc, subnets = subnets_of(ec2)
    name = f"web-{port}"
    balancer = only(elb.create_load_balancer(Name=name, Subnets=subnets)["LoadBalancers"])["LoadBalancerArn"]
    group = only(elb.create_target_group(
        Name=name, Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip", HealthCheckIntervalSeconds=5,
        HealthCheckTimeoutSeconds=2)["TargetGroups"])["TargetGroupArn"]
    elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=[
        {"Key": "deregistration_delay.timeout_seconds", "Value": "0"}])
    elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=port, DefaultActions=[
        {"Type": "forward", "TargetGroupArn": group}])
    ecs.register_task_definition(
        family=name, networkMode="awsvpc", requiresCompatibilities=["EC2"], containerDefinitions=[{
            "name": "main", "image": f"{SUBNET}.1:{PORT}/box:1", "memory": 16, "stopTimeout": 2,
            "portMappings": [{"containerPort": 80}], "command": ["httpd", "-f", "-p", "80", "-h", "/www"]}])
    ecs.create_service(
        cluster="web", serviceName=name, taskDefinition=name, desiredCount=1, launchType="EC2",
        networkConfiguration={"awsvpcConfiguration": {"subnets": subnets}},
        loadBalancers=[{"targetGroupArn": group, "containerName": "main", "containerPort": 80}])

    def healthy():
        shown = elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        return [each["TargetHealth"]["State"] for each in shown] == ["healthy"]

    try:
        eventually("a healthy target", healthy, 60)
        eventually("an answer", lambda: region.fetch("127.0.0.1", port) == "it works", 10)
    except pytest.fail.Exception:
        print(region.log("region.log")[-6000:], host.log("agent.log")[-3000:])
        print(elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"])
        raise
    # Tasks there reach the balancer at its own addresses.
    task = only(ecs.list_tasks(cluster="web", serviceName=name)["taskArns"]).rsplit("/")[-1]
    nets = host.run("sh", "-c", f"find /run/longshore -path '*/netns/*{task}*'").stdout.split()
    path = balancer.split(":loadbalancer/")[1]
    for each in ec2.describe_network_interfaces(Filters=[{"Name": "description", "Values": [f"ELB {path}"]}])["NetworkInterfaces"]:
        asked = host.run("nsenter", f"--net={only(nets)}", "curl", "-s", "-m", "3", "--noproxy", "*",
                         f"http://{each['PrivateIpAddress']}:{port}/", check=False)
        assert asked.stdout.strip() == "it works", (each["PrivateIpAddress"], region.log("region.log")[-3000:])
    ecs.update_service(cluster="web", service=name, desiredCount=0)
    eventually("the task's end", lambda: not ecs.list_tasks(cluster="web", family=name)["taskArns"], 60)
    ecs.delete_service(cluster="web", service=name)
    elb.delete_load_balancer(LoadBalancerArn=balancer)
    elb.delete_target_group(TargetGroupArn=group)
