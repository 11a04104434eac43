"""Terraform's resources of scaling and alarms with a service of ECS: apply, no difference afterwards, and nothing left."""

import pytest

from conftest import free_port, unique, wait_for
from terraforming import Terraform, head

MAIN = head("applicationautoscaling", "cloudwatch", "ec2", "ecs", "elbv2", "sts", tagged=True) + """
variable "name" { type = string }
variable "image" { type = string }
variable "target" { type = number }
variable "port" { type = number }

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

resource "aws_lb" "web" {
  name    = var.name
  subnets = slice(sort(data.aws_subnets.all.ids), 0, 2)
}

resource "aws_lb_target_group" "web" {
  name                 = var.name
  port                 = 80
  protocol             = "HTTP"
  target_type          = "ip"
  vpc_id               = data.aws_vpc.main.id
  deregistration_delay = 0
}

resource "aws_lb_listener" "web" {
  load_balancer_arn = aws_lb.web.arn
  port              = var.port
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.web.arn
  }
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
  lifecycle {
    ignore_changes = [desired_count]
  }
}

resource "aws_appautoscaling_target" "web" {
  min_capacity       = 2
  max_capacity       = 4
  resource_id        = "service/${aws_ecs_cluster.main.name}/${aws_ecs_service.web.name}"
  scalable_dimension = "ecs:service:DesiredCount"
  service_namespace  = "ecs"
}

resource "aws_appautoscaling_policy" "tracking" {
  for_each           = toset(["ECSServiceAverageCPUUtilization", "ECSServiceAverageMemoryUtilization"])
  name               = each.key
  policy_type        = "TargetTrackingScaling"
  resource_id        = aws_appautoscaling_target.web.resource_id
  scalable_dimension = aws_appautoscaling_target.web.scalable_dimension
  service_namespace  = aws_appautoscaling_target.web.service_namespace
  target_tracking_scaling_policy_configuration {
    predefined_metric_specification {
      predefined_metric_type = each.key
    }
    target_value       = var.target
    scale_in_cooldown  = 300
    scale_out_cooldown = 60
  }
}

resource "aws_appautoscaling_policy" "requests" {
  name               = "requests"
  policy_type        = "TargetTrackingScaling"
  resource_id        = aws_appautoscaling_target.web.resource_id
  scalable_dimension = aws_appautoscaling_target.web.scalable_dimension
  service_namespace  = aws_appautoscaling_target.web.service_namespace
  target_tracking_scaling_policy_configuration {
    predefined_metric_specification {
      predefined_metric_type = "ALBRequestCountPerTarget"
      resource_label         = "${aws_lb.web.arn_suffix}/${aws_lb_target_group.web.arn_suffix}"
    }
    target_value = 1000
  }
  depends_on = [aws_lb_listener.web]
}

resource "aws_appautoscaling_policy" "steps" {
  name               = "steps"
  policy_type        = "StepScaling"
  resource_id        = aws_appautoscaling_target.web.resource_id
  scalable_dimension = aws_appautoscaling_target.web.scalable_dimension
  service_namespace  = aws_appautoscaling_target.web.service_namespace
  step_scaling_policy_configuration {
    adjustment_type         = "ChangeInCapacity"
    cooldown                = 60
    metric_aggregation_type = "Maximum"
    step_adjustment {
      metric_interval_lower_bound = 0
      metric_interval_upper_bound = 10
      scaling_adjustment          = 1
    }
    step_adjustment {
      metric_interval_lower_bound = 10
      scaling_adjustment          = 2
    }
  }
}

resource "aws_appautoscaling_scheduled_action" "night" {
  name               = "night"
  service_namespace  = aws_appautoscaling_target.web.service_namespace
  resource_id        = aws_appautoscaling_target.web.resource_id
  scalable_dimension = aws_appautoscaling_target.web.scalable_dimension
  schedule           = "cron(0 22 ? * MON-FRI *)"
  timezone           = "Europe/Stockholm"
  scalable_target_action {
    min_capacity = 1
    max_capacity = 2
  }
}

resource "aws_cloudwatch_metric_alarm" "queue" {
  alarm_name          = "${var.name}-queue"
  alarm_description   = "too much waits"
  comparison_operator = "GreaterThanThreshold"
  evaluation_periods  = 2
  metric_name         = "Waiting"
  namespace           = "App"
  period              = 60
  statistic           = "Average"
  threshold           = 5
  dimensions          = { Stage = "test" }
  alarm_actions       = [aws_appautoscaling_policy.steps.arn]
}

resource "aws_cloudwatch_metric_alarm" "rate" {
  alarm_name          = "${var.name}-rate"
  comparison_operator = "GreaterThanOrEqualToThreshold"
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  threshold           = 1
  treat_missing_data  = "notBreaching"
  metric_query {
    id          = "rate"
    expression  = "100 * errors / FILL(requests, 1)"
    label       = "errors in percent"
    return_data = true
  }
  dynamic "metric_query" {
    for_each = { errors = "Errors", requests = "Requests" }
    content {
      id = metric_query.key
      metric {
        metric_name = metric_query.value
        namespace   = "App"
        period      = 60
        stat        = "Sum"
      }
    }
  }
}
"""


@pytest.fixture
def terraform(region, box, tmp_path):
    variables = {"name": unique("tf"), "image": box, "target": 70, "port": free_port()}
    made = Terraform(tmp_path, region, variables, MAIN)
    return made, region, variables["name"]


def test_terraform_makes_changes_and_unmakes_scaling(terraform):
    made, region, name = terraform
    scaling, cloudwatch = region.client("application-autoscaling"), region.client("cloudwatch")
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")  # 0: no difference
    ecs = region.client("ecs")
    count = lambda: ecs.describe_services(cluster=name, services=["web"])["services"][0]["runningCount"]
    wait_for("the least of tasks", lambda: count() == 2)
    alarms = lambda: cloudwatch.describe_alarms(AlarmNamePrefix=f"TargetTracking-service/{name}/web-")["MetricAlarms"]
    assert sorted(alarm["Threshold"] for alarm in alarms()) == [63, 63, 70, 70, 900, 1000]
    made.run("apply", "-auto-approve", target=50)
    made.run("plan", "-detailed-exitcode", target=50)
    assert sorted(alarm["Threshold"] for alarm in alarms()) == [45, 45, 50, 50, 900, 1000]
    made.run("destroy", "-auto-approve", target=50)
    assert alarms() == [] and cloudwatch.describe_alarms(AlarmNamePrefix=name)["MetricAlarms"] == []
    place = [f"service/{name}/web"]
    assert scaling.describe_scalable_targets(ServiceNamespace="ecs", ResourceIds=place)["ScalableTargets"] == []
