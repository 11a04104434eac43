"""Terraform's certificates and HTTPS listeners: apply, no difference afterwards, a change, and nothing left."""


import pytest

from conftest import free_port, unique, wait_for
from test_certificates import is_shown, self_signed
from terraforming import Terraform, head

MAIN = head("acm", "ec2", "elbv2", "sts", tagged=True) + """
variable "name" { type = string }
variable "port" { type = number }
variable "plain" { type = number }
variable "certificate" { type = string }
variable "key" { type = string }
variable "policy" { type = string }

data "aws_vpc" "main" {
  default = true
}

data "aws_subnets" "all" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.main.id]
  }
}

resource "aws_acm_certificate" "web" {
  domain_name               = "tf.example.com"
  subject_alternative_names = ["*.tf.example.com"]
  validation_method         = "DNS"
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_acm_certificate_validation" "web" {
  certificate_arn = aws_acm_certificate.web.arn
}

resource "aws_acm_certificate" "brought" {
  certificate_body = var.certificate
  private_key      = var.key
}

data "aws_acm_certificate" "web" {
  domain   = aws_acm_certificate.web.domain_name
  statuses = ["ISSUED"]
}

resource "aws_lb" "web" {
  name               = var.name
  load_balancer_type = "application"
  subnets            = slice(sort(data.aws_subnets.all.ids), 0, 2)
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.web.arn
  port              = var.port
  protocol          = "HTTPS"
  ssl_policy        = var.policy
  certificate_arn   = aws_acm_certificate_validation.web.certificate_arn
  default_action {
    type = "fixed-response"
    fixed_response {
      content_type = "text/plain"
      message_body = "secret"
      status_code  = "200"
    }
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.web.arn
  port              = var.plain
  protocol          = "HTTP"
  default_action {
    type = "redirect"
    redirect {
      port        = var.port
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }
}

resource "aws_lb_listener_certificate" "brought" {
  listener_arn    = aws_lb_listener.https.arn
  certificate_arn = aws_acm_certificate.brought.arn
}

output "records" {
  value = [for option in aws_acm_certificate.web.domain_validation_options : option.resource_record_name]
}

output "found" {
  value = data.aws_acm_certificate.web.arn == aws_acm_certificate.web.arn
}
"""


@pytest.fixture
def terraform(start_region, tmp_path):
    region = start_region(name="terraform-https")
    brought = self_signed(tmp_path, "brought.example.com")
    variables = {"name": unique("tf"), "port": free_port(), "plain": free_port(),
                 "certificate": brought["Certificate"].decode(), "key": brought["PrivateKey"].decode(),
                 "policy": "ELBSecurityPolicy-TLS13-1-2-2021-06"}
    made = Terraform(tmp_path, region, variables, MAIN)
    return made, region, variables["port"]


def test_terraform_makes_changes_and_unmakes_https(terraform):
    made, region, port = terraform
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")  # 0: no difference
    wait_for("the listener", lambda: is_shown(region, port, "a.tf.example.com"))
    assert made.run("output", "found").strip() == "true"
    assert ".tf.example.com." in made.run("output", "records")
    newer = "ELBSecurityPolicy-TLS13-1-3-2021-06"
    made.run("apply", "-auto-approve", policy=newer)
    made.run("plan", "-detailed-exitcode", policy=newer)
    shown = region.client("elbv2").describe_listeners(
        LoadBalancerArn=region.client("elbv2").describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"])
    assert newer in {each.get("SslPolicy") for each in shown["Listeners"]}
    made.run("destroy", "-auto-approve", policy=newer)
    assert not region.client("acm").list_certificates()["CertificateSummaryList"]
