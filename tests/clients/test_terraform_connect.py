"""Terraform's service of ECS with Service Connect: apply, no difference afterwards, and nothing left."""

import pytest

from conftest import unique, wait_for
from terraforming import Terraform, head

MAIN = head("ec2", "ecs", "servicediscovery", "sts") + """
variable "name" { type = string }
variable "image" { type = string }
variable "dns" { type = string }

data "aws_vpc" "main" {
  default = true
}

data "aws_subnets" "all" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.main.id]
  }
}

resource "aws_service_discovery_http_namespace" "mesh" {
  name = var.name
}

resource "aws_ecs_cluster" "main" {
  name = var.name
  service_connect_defaults {
    namespace = aws_service_discovery_http_namespace.mesh.arn
  }
}

resource "aws_ecs_task_definition" "web" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  container_definitions = jsonencode([{
    name         = "web"
    image        = var.image
    command      = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"]
    portMappings = [{ name = "http", containerPort = 80, appProtocol = "http" }]
  }])
}

locals {
  services = { server = [{ port = 80, dns = var.dns }], client = [] }
}

resource "aws_ecs_service" "each" {
  for_each              = local.services
  name                  = each.key
  cluster               = aws_ecs_cluster.main.id
  task_definition       = aws_ecs_task_definition.web.arn
  desired_count         = 1
  launch_type           = "FARGATE"
  wait_for_steady_state = true
  network_configuration {
    subnets = slice(sort(data.aws_subnets.all.ids), 0, 1)
  }
  service_connect_configuration {
    enabled   = true
    namespace = aws_service_discovery_http_namespace.mesh.arn
    dynamic "service" {
      for_each = each.value
      content {
        port_name      = "http"
        discovery_name = "shop"
        client_alias {
          port     = service.value.port
          dns_name = service.value.dns
        }
        timeout {
          idle_timeout_seconds        = 120
          per_request_timeout_seconds = 5
        }
      }
    }
  }
}
"""


@pytest.fixture
def terraform(region, box, tmp_path):
    variables = {"name": unique("tf"), "image": box, "dns": "backend"}
    made = Terraform(tmp_path, region, variables, MAIN)
    return made, region, variables["name"]


def test_terraform_makes_changes_and_unmakes_services_with_service_connect(terraform):
    made, region, name = terraform
    ecs, discovery = region.client("ecs"), region.client("servicediscovery")
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")  # 0: no difference
    found = lambda: discovery.discover_instances(NamespaceName=name, ServiceName="shop")["Instances"]
    wait_for("the task", lambda: len(found()) == 1)

    def alias():
        service = ecs.describe_services(cluster=name, services=["server"])["services"][0]
        offer = service["deployments"][0]["serviceConnectConfiguration"]["services"][0]
        assert offer["timeout"] == {"idleTimeoutSeconds": 120, "perRequestTimeoutSeconds": 5}
        return offer["clientAliases"][0]["dnsName"]

    assert alias() == "backend"
    made.run("apply", "-auto-approve", dns="shop")
    made.run("plan", "-detailed-exitcode", dns="shop")
    assert alias() == "shop"
    # As at Amazon, what ECS made in the namespace goes with the services, and the namespace right after them.
    made.run("destroy", "-auto-approve", dns="shop")
    assert name not in {each["Name"] for each in discovery.list_namespaces()["Namespaces"]}
