"""Terraform's resources of load balancing: apply, no difference afterwards, a change, and nothing left."""

import json

import pytest

from conftest import free_port, unique
from services import refused
from terraforming import Terraform, head

MAIN = head("ec2", "elbv2", "sts", tagged=True) + """
variable "name" { type = string }
variable "port" { type = number }
variable "weight" { type = number }

data "aws_vpc" "main" {
  default = true
}

data "aws_subnets" "all" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.main.id]
  }
}

resource "aws_lb" "web" {
  name                       = var.name
  load_balancer_type         = "application"
  subnets                    = slice(sort(data.aws_subnets.all.ids), 0, 2)
  idle_timeout               = 30
  drop_invalid_header_fields = true
}

resource "aws_lb_target_group" "blue" {
  name                 = "${var.name}-blue"
  port                 = 80
  protocol             = "HTTP"
  target_type          = "ip"
  vpc_id               = data.aws_vpc.main.id
  deregistration_delay = 5
  health_check {
    path    = "/health"
    matcher = "200-299"
  }
  stickiness {
    type            = "lb_cookie"
    cookie_duration = 60
  }
}

resource "aws_lb_target_group" "green" {
  name        = "${var.name}-green"
  port        = 8080
  protocol    = "HTTP"
  target_type = "ip"
  vpc_id      = data.aws_vpc.main.id
}

resource "aws_lb_listener" "web" {
  load_balancer_arn = aws_lb.web.arn
  port              = var.port
  protocol          = "HTTP"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.blue.arn
  }
}

resource "aws_lb_listener_rule" "api" {
  listener_arn = aws_lb_listener.web.arn
  priority     = 10
  action {
    type = "forward"
    forward {
      target_group {
        arn    = aws_lb_target_group.blue.arn
        weight = 100
      }
      target_group {
        arn    = aws_lb_target_group.green.arn
        weight = var.weight
      }
    }
  }
  condition {
    path_pattern { values = ["/api/*"] }
  }
  condition {
    http_request_method { values = ["GET", "HEAD"] }
  }
}

resource "aws_lb_listener_rule" "old" {
  listener_arn = aws_lb_listener.web.arn
  priority     = 20
  action {
    type = "redirect"
    redirect {
      host        = "example.com"
      status_code = "HTTP_301"
    }
  }
  condition {
    host_header { values = ["old.example.com"] }
  }
}

resource "aws_lb_target_group_attachment" "one" {
  target_group_arn = aws_lb_target_group.green.arn
  target_id        = cidrhost(data.aws_vpc.main.cidr_block, 77)
  port             = 8080
}
"""


@pytest.fixture
def terraform(start_region, tmp_path):
    region = start_region(name="terraform-elb")
    made = Terraform(tmp_path, region, {"name": unique("tf"), "port": free_port(),
                                        "weight": 0}, MAIN)
    return made, region


def test_terraform_makes_changes_and_unmakes_a_load_balancer(terraform):
    made, region = terraform
    elb = region.client("elbv2")
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")  # 0: no difference
    resources = json.loads((made.folder / "terraform.tfstate").read_text())["resources"]
    arns = {f"{each['type']}.{each['name']}": each["instances"][0]["attributes"].get("arn") for each in resources}
    rule = elb.describe_rules(RuleArns=[arns["aws_lb_listener_rule.api"]])["Rules"][0]
    weights = [group["Weight"] for group in rule["Actions"][0]["ForwardConfig"]["TargetGroups"]]
    assert sorted(weights) == [0, 100]
    made.run("apply", "-auto-approve", weight=50)
    made.run("plan", "-detailed-exitcode", weight=50)
    made.run("destroy", "-auto-approve", weight=50)
    refused(elb.describe_load_balancers, "LoadBalancerNotFound", LoadBalancerArns=[arns["aws_lb.web"]])
    assert not elb.describe_target_groups()["TargetGroups"]
