"""Terraform with Amazon's own provider: apply, no difference afterwards, an update, and nothing left.

Skipped, with the reason, where Terraform or the provider can not be had.
"""

import json

import pytest

from conftest import unique
from terraforming import Terraform, head

MAIN = head("ec2", "ecr", "ecs", "logs", "sts", tagged=True) + """
variable "image" { type = string }
variable "name" { type = string }
variable "subnet" { type = string }
variable "text" { type = string }
variable "desired" { type = number }

resource "aws_ecs_cluster" "main" {
  name = var.name
  setting {
    name  = "containerInsights"
    value = "disabled"
  }
}

resource "aws_ecs_capacity_provider" "pool" {
  name = "${var.name}-pool"
  auto_scaling_group_provider {
    auto_scaling_group_arn         = "arn:aws:autoscaling:eu-north-1:000000000000:autoScalingGroup:5f6f8f4e-0000-4000-8000-000000000000:autoScalingGroupName/${var.name}"
    managed_termination_protection = "DISABLED"
    managed_scaling {
      status                    = "ENABLED"
      target_capacity           = var.text == "one" ? 100 : 80
      minimum_scaling_step_size = 1
      maximum_scaling_step_size = 10
    }
  }
}

resource "aws_ecs_cluster_capacity_providers" "main" {
  cluster_name       = aws_ecs_cluster.main.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT", aws_ecs_capacity_provider.pool.name]
  default_capacity_provider_strategy {
    capacity_provider = "FARGATE"
    weight            = 1
    base              = 1
  }
}

resource "aws_ecs_task_definition" "web" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  container_definitions = jsonencode([{
    name        = "main"
    image       = var.image
    essential   = true
    stopTimeout = 2
    command     = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done # ${var.text}"]
  }])
}

resource "aws_ecs_service" "web" {
  name                  = "${var.name}-web"
  cluster               = aws_ecs_cluster.main.id
  task_definition       = aws_ecs_task_definition.web.arn
  desired_count         = var.desired
  launch_type           = "FARGATE"
  wait_for_steady_state = true
  propagate_tags        = "SERVICE"
  network_configuration {
    subnets          = [var.subnet]
    assign_public_ip = true
  }
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
}

resource "aws_ecs_service" "strategy" {
  name            = "${var.name}-strategy"
  cluster         = aws_ecs_cluster.main.id
  task_definition = aws_ecs_task_definition.web.arn
  desired_count   = 1
  capacity_provider_strategy {
    capacity_provider = "FARGATE_SPOT"
    weight            = 1
  }
  network_configuration {
    subnets = [var.subnet]
  }
  depends_on = [aws_ecs_cluster_capacity_providers.main]
}

resource "aws_ecs_service" "outside" {
  name          = "${var.name}-outside"
  cluster       = aws_ecs_cluster.main.id
  desired_count = 2
  deployment_controller {
    type = "EXTERNAL"
  }
}

resource "aws_ecs_task_set" "blue" {
  service                   = aws_ecs_service.outside.id
  cluster                   = aws_ecs_cluster.main.id
  task_definition           = aws_ecs_task_definition.web.arn
  launch_type               = "FARGATE"
  external_id               = "blue"
  wait_until_stable         = true
  wait_until_stable_timeout = "2m"
  force_delete              = true
  network_configuration {
    subnets = [var.subnet]
  }
  scale {
    unit  = "PERCENT"
    value = 50
  }
}

output "service" { value = aws_ecs_service.web.id }
"""


@pytest.fixture
def terraform(region, box, tmp_path):
    subnet = region.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    made = Terraform(tmp_path, region, {"image": box, "name": unique("tf"),
                                        "subnet": subnet, "text": "one", "desired": 2}, MAIN)
    return made


def test_terraform_applies_finds_no_difference_updates_and_destroys(terraform, region):
    name = terraform.environment["TF_VAR_name"]
    ecs = region.client("ecs")
    terraform.run("apply", "-auto-approve")
    terraform.run("plan", "-detailed-exitcode")  # 0: no difference
    resources = json.loads((terraform.folder / "terraform.tfstate").read_text())["resources"]
    state = {f"{each['type']}.{each['name']}": each["instances"][0]["attributes"] for each in resources}
    web = ecs.describe_services(cluster=name, services=[f"{name}-web"])["services"][0]
    assert (web["runningCount"], len(web["deployments"])) == (2, 1), web
    assert web["deployments"][0]["rolloutState"] == "COMPLETED"
    assert state["aws_ecs_service.web"]["id"] == web["serviceArn"]
    assert state["aws_ecs_task_set.blue"]["stability_status"] == "STEADY_STATE"

    terraform.run("apply", "-auto-approve", text="two", desired=3)
    terraform.run("plan", "-detailed-exitcode", text="two", desired=3)
    web = ecs.describe_services(cluster=name, services=[f"{name}-web"])["services"][0]
    assert (web["runningCount"], len(web["deployments"])) == (3, 1), web
    assert web["taskDefinition"].endswith(f"/{name}:2"), web["taskDefinition"]
    provider = ecs.describe_capacity_providers(capacityProviders=[f"{name}-pool"])["capacityProviders"][0]
    assert provider["autoScalingGroupProvider"]["managedScaling"]["targetCapacity"] == 80

    terraform.run("destroy", "-auto-approve", text="two", desired=3)
    assert ecs.describe_clusters(clusters=[name])["clusters"][0]["status"] == "INACTIVE"
    left = ecs.describe_capacity_providers(capacityProviders=[f"{name}-pool"])
    assert left["failures"] or left["capacityProviders"][0]["status"] == "INACTIVE"
