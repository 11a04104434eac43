"""Terraform's resources of a scheduled task and of events in a log group: apply, no difference afterwards, and nothing left."""

import json

import pytest

from conftest import unique
from terraforming import Terraform, head

MAIN = head("ec2", "ecs", "events", "iam", "logs", "sts", tagged=True) + """
variable "name" { type = string }
variable "image" { type = string }
variable "schedule" { type = string }

data "aws_vpc" "main" {
  default = true
}

data "aws_subnets" "all" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.main.id]
  }
}

resource "aws_ecs_cluster" "main" {
  name = var.name
}

resource "aws_ecs_task_definition" "job" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  container_definitions    = jsonencode([{ name = "job", image = var.image, command = ["true"] }])
}

resource "aws_iam_role" "rules" {
  name = var.name
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "events.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy_attachment" "rules" {
  role       = aws_iam_role.rules.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceEventsRole"
}

resource "aws_cloudwatch_event_rule" "night" {
  name                = "${var.name}-night"
  description         = "every night"
  schedule_expression = var.schedule
}

resource "aws_cloudwatch_event_target" "job" {
  rule     = aws_cloudwatch_event_rule.night.name
  arn      = aws_ecs_cluster.main.arn
  role_arn = aws_iam_role.rules.arn
  input    = jsonencode({ containerOverrides = [{ name = "job", command = ["sh", "-c", "echo night"] }] })
  ecs_target {
    task_definition_arn = aws_ecs_task_definition.job.arn
    launch_type         = "FARGATE"
    propagate_tags      = "TASK_DEFINITION"
    network_configuration {
      subnets          = slice(sort(data.aws_subnets.all.ids), 0, 1)
      assign_public_ip = true
    }
  }
  retry_policy {
    maximum_retry_attempts       = 3
    maximum_event_age_in_seconds = 600
  }
}

resource "aws_cloudwatch_log_group" "events" {
  name = "/aws/events/${var.name}"
}

resource "aws_cloudwatch_event_rule" "stopped" {
  name = "${var.name}-stopped"
  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Task State Change"]
    detail      = { clusterArn = [aws_ecs_cluster.main.arn], lastStatus = ["STOPPED"] }
  })
}

resource "aws_cloudwatch_event_target" "events" {
  rule = aws_cloudwatch_event_rule.stopped.name
  arn  = aws_cloudwatch_log_group.events.arn
  input_transformer {
    input_paths    = { task = "$.detail.taskArn", why = "$.detail.stoppedReason" }
    input_template = "{\\"timestamp\\": <aws.events.event.ingestion-time>, \\"message\\": \\"<task>: <why>\\"}"
  }
}

resource "aws_cloudwatch_log_resource_policy" "events" {
  policy_name = var.name
  policy_document = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource  = "${aws_cloudwatch_log_group.events.arn}:*"
      Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.stopped.arn } }
    }]
  })
}
"""


@pytest.fixture
def terraform(region, box, tmp_path):
    variables = {"name": unique("tf"), "image": box, "schedule": "cron(0 2 * * ? *)"}
    made = Terraform(tmp_path, region, variables, MAIN)
    return made, region, variables["name"]


def test_terraform_makes_changes_and_unmakes_a_scheduled_task(terraform):
    made, region, name = terraform
    events = region.client("events")
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")  # 0: no difference
    target, = events.list_targets_by_rule(Rule=f"{name}-night")["Targets"]
    assert target["EcsParameters"]["NetworkConfiguration"]["awsvpcConfiguration"]["AssignPublicIp"] == "ENABLED"
    assert json.loads(target["Input"])["containerOverrides"][0]["command"] == ["sh", "-c", "echo night"]
    later = {"schedule": "rate(12 hours)"}
    made.run("apply", "-auto-approve", **later)
    made.run("plan", "-detailed-exitcode", **later)
    assert events.describe_rule(Name=f"{name}-night")["ScheduleExpression"] == "rate(12 hours)"
    assert len(events.list_targets_by_rule(Rule=f"{name}-night")["Targets"]) == 1, "a rule's change leaves its targets"
    made.run("destroy", "-auto-approve", **later)
    assert events.list_rules(NamePrefix=name)["Rules"] == []
