"""One stack of all that identity is made of, with a task that uses it: roles, policies, users, a group, an instance profile, an
OIDC provider, a key, a secret, parameters, a log group with its policies, a service."""

import json

import pytest

from conftest import unique, wait_for
from services import refused
from terraforming import Terraform, head

MAIN = head("ecs", "iam", "kms", "logs", "secretsmanager", "ssm", "sts", tagged=True, asks_account=True) + """
variable "name" { type = string }
variable "image" { type = string }
variable "subnet" { type = string }
variable "value" { type = string }

data "aws_caller_identity" "me" {}

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.me.account_id]
    }
  }
}

resource "aws_kms_key" "own" {
  deletion_window_in_days = 7
}

resource "aws_secretsmanager_secret" "db" {
  name                    = "${var.name}/db"
  kms_key_id              = aws_kms_key.own.arn
  recovery_window_in_days = 0
}

resource "aws_secretsmanager_secret_version" "db" {
  secret_id     = aws_secretsmanager_secret.db.id
  secret_string = jsonencode({ user = "web", password = var.value })
}

resource "aws_ssm_parameter" "level" {
  name  = "/${var.name}/level"
  type  = "SecureString"
  value = "of ${var.name}"
}

resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy_attachment" "execution" {
  role       = aws_iam_role.execution.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role_policy" "reads" {
  name = "reads"
  role = aws_iam_role.execution.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "secretsmanager:GetSecretValue", Resource = aws_secretsmanager_secret.db.arn },
      { Effect = "Allow", Action = "ssm:GetParameters", Resource = aws_ssm_parameter.level.arn },
    ]
  })
}

resource "aws_kms_grant" "reads" {
  name              = "reads"
  key_id            = aws_kms_key.own.key_id
  grantee_principal = aws_iam_role.execution.arn
  operations        = ["Decrypt", "DescribeKey"]
  constraints {
    encryption_context_subset = { SecretARN = aws_secretsmanager_secret.db.arn }
  }
}

resource "aws_iam_policy" "lists" {
  name = "${var.name}-lists"
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = ["ecs:ListClusters"], Resource = "*" }]
  })
}

resource "aws_iam_role" "task" {
  name                 = "${var.name}-task"
  assume_role_policy   = data.aws_iam_policy_document.tasks.json
  permissions_boundary = aws_iam_policy.lists.arn
}

resource "aws_iam_role_policy_attachment" "task" {
  role       = aws_iam_role.task.name
  policy_arn = aws_iam_policy.lists.arn
}

resource "aws_iam_user" "ci" {
  name          = "${var.name}-ci"
  force_destroy = true
}

resource "aws_iam_group" "ops" {
  name = "${var.name}-ops"
}

resource "aws_iam_group_policy_attachment" "ops" {
  group      = aws_iam_group.ops.name
  policy_arn = aws_iam_policy.lists.arn
}

resource "aws_iam_user_group_membership" "ci" {
  user   = aws_iam_user.ci.name
  groups = [aws_iam_group.ops.name]
}

resource "aws_iam_instance_profile" "host" {
  name = "${var.name}-host"
  role = aws_iam_role.task.name
}

resource "aws_iam_openid_connect_provider" "ci" {
  url            = "https://${var.name}.example.com"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "deploys" {
  name = "${var.name}-deploys"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = aws_iam_openid_connect_provider.ci.arn }
      Condition = { StringEquals = { "${var.name}.example.com:aud" = "sts.amazonaws.com" } }
    }]
  })
}

resource "aws_cloudwatch_log_group" "web" {
  name              = "/${var.name}"
  retention_in_days = 7
}

resource "aws_cloudwatch_log_resource_policy" "web" {
  policy_name = var.name
  policy_document = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = ["delivery.logs.amazonaws.com", "events.amazonaws.com"] }
      Action    = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource  = "${aws_cloudwatch_log_group.web.arn}:*"
    }]
  })
}

resource "aws_ecs_cluster" "web" {
  name = var.name
}

resource "aws_ecs_task_definition" "web" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  container_definitions = jsonencode([{
    name      = "web"
    image     = var.image
    essential = true
    command   = ["sh", "-c", "echo \\"$PASSWORD, $LEVEL\\"; exec sleep 600"]
    secrets = [
      { name = "PASSWORD", valueFrom = "${aws_secretsmanager_secret.db.arn}:password::" },
      { name = "LEVEL", valueFrom = aws_ssm_parameter.level.arn },
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.web.name
        awslogs-region        = "eu-north-1"
        awslogs-stream-prefix = "web"
      }
    }
  }])
  depends_on = [
    aws_iam_role_policy.reads, aws_kms_grant.reads, aws_iam_role_policy_attachment.execution, aws_iam_role_policy_attachment.task,
    aws_secretsmanager_secret_version.db,
  ]
}

resource "aws_ecs_service" "web" {
  name                  = "web"
  cluster               = aws_ecs_cluster.web.id
  task_definition       = aws_ecs_task_definition.web.arn
  desired_count         = 1
  launch_type           = "FARGATE"
  wait_for_steady_state = true
  network_configuration {
    subnets          = [var.subnet]
    assign_public_ip = true
  }
}
"""


@pytest.fixture
def stack(start_region, tmp_path):
    region = start_region(name="terraform-identity", image="box:1")
    subnet = region.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    variables = {"name": unique("tf"), "image": f"127.0.0.1:{region.port}/box:1", "subnet": subnet, "value": "battery-staple"}
    return Terraform(tmp_path, region, variables, MAIN), region


def test_a_stack_of_identity_applies_is_used_by_its_task_and_goes(stack):
    made, region = stack
    name, iam, ecs = made.environment["TF_VAR_name"], region.client("iam"), region.client("ecs")
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")  # 0: no difference
    logs = region.client("logs")

    def line():
        found = logs.filter_log_events(logGroupName=f"/{name}")["events"]
        return found and found[0]["message"]

    assert wait_for("the task's line", line, 60) == f"battery-staple, of {name}"
    task, = ecs.list_tasks(cluster=name)["taskArns"]
    assert ecs.describe_tasks(cluster=name, tasks=[task])["tasks"][0]["lastStatus"] == "RUNNING"

    made.run("apply", "-auto-approve", value="another")
    made.run("plan", "-detailed-exitcode", value="another")
    secret = region.client("secretsmanager").get_secret_value(SecretId=f"{name}/db")
    assert json.loads(secret["SecretString"])["password"] == "another"

    made.run("destroy", "-auto-approve", value="another")
    assert logs.describe_resource_policies()["resourcePolicies"] == []
    for role in ["execution", "task", "deploys"]:
        refused(iam.get_role, "NoSuchEntity", RoleName=f"{name}-{role}")
    refused(iam.get_user, "NoSuchEntity", UserName=f"{name}-ci")
    assert iam.list_open_id_connect_providers()["OpenIDConnectProviderList"] == []
