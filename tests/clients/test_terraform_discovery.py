"""Terraform's resources of Cloud Map with a service of ECS: apply, no difference afterwards, and nothing left."""


import pytest

from conftest import unique, wait_for
from terraforming import Terraform, head

MAIN = head("ec2", "ecs", "servicediscovery", "sts") + """
variable "name" { type = string }
variable "image" { type = string }
variable "ttl" { type = number }

data "aws_vpc" "main" {
  default = true
}

data "aws_subnets" "all" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.main.id]
  }
}

resource "aws_service_discovery_private_dns_namespace" "main" {
  name        = "${var.name}.local"
  description = "names of ${var.name}"
  vpc         = data.aws_vpc.main.id
  tags        = { a = "b" }
}

resource "aws_service_discovery_http_namespace" "calls" {
  name = var.name
}

resource "aws_service_discovery_service" "web" {
  name = "web"
  dns_config {
    namespace_id   = aws_service_discovery_private_dns_namespace.main.id
    routing_policy = "MULTIVALUE"
    dns_records {
      ttl  = var.ttl
      type = "A"
    }
  }
}

resource "aws_service_discovery_instance" "other" {
  instance_id = "other"
  service_id  = aws_service_discovery_service.web.id
  attributes = {
    AWS_INSTANCE_IPV4 = cidrhost(data.aws_vpc.main.cidr_block, 77)
  }
}

resource "aws_ecs_cluster" "main" {
  name = var.name
}

resource "aws_ecs_task_definition" "web" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  container_definitions = jsonencode([{
    name    = "web"
    image   = var.image
    command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"]
  }])
}

resource "aws_ecs_service" "web" {
  name                  = "web"
  cluster               = aws_ecs_cluster.main.id
  task_definition       = aws_ecs_task_definition.web.arn
  desired_count         = 1
  launch_type           = "FARGATE"
  wait_for_steady_state = true
  network_configuration {
    subnets = slice(sort(data.aws_subnets.all.ids), 0, 1)
  }
  service_registries {
    registry_arn = aws_service_discovery_service.web.arn
  }
}
"""


@pytest.fixture
def terraform(region, box, tmp_path):
    variables = {"name": unique("tf"), "image": box, "ttl": 5}
    made = Terraform(tmp_path, region, variables, MAIN)
    return made, region, variables["name"]


def test_terraform_makes_changes_and_unmakes_discovery(terraform):
    made, region, name = terraform
    client = region.client("servicediscovery")
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")  # 0: no difference
    found = lambda: client.discover_instances(NamespaceName=f"{name}.local", ServiceName="web")["Instances"]
    wait_for("the task", lambda: len(found()) == 2)
    made.run("apply", "-auto-approve", ttl=9)
    made.run("plan", "-detailed-exitcode", ttl=9)
    made.run("destroy", "-auto-approve", ttl=9)
    names = {each["Name"] for each in client.list_namespaces()["Namespaces"]}
    assert not names & {name, f"{name}.local"}
