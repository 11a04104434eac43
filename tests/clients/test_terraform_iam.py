"""Terraform's resources of IAM: apply, no difference afterwards, a change, and nothing left."""

import json

import pytest

from conftest import unique
from services import refused
from terraforming import Terraform, head

MAIN = head("iam", "sts", tagged=True) + """
variable "name" { type = string }
variable "action" { type = string }

data "aws_caller_identity" "me" {}

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

data "aws_iam_policy" "execution" {
  name = "AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role" "task" {
  name                 = "${var.name}-task"
  path                 = "/app/"
  description          = "for tasks that ${var.action}"
  max_session_duration = 7200
  assume_role_policy   = data.aws_iam_policy_document.tasks.json
  permissions_boundary = aws_iam_policy.logs.arn
}

resource "aws_iam_role_policy" "task" {
  name = "own"
  role = aws_iam_role.task.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = [var.action, "logs:PutLogEvents"], Resource = "*" }]
  })
}

resource "aws_iam_role_policy_attachment" "task" {
  role       = aws_iam_role.task.name
  policy_arn = data.aws_iam_policy.execution.arn
}

resource "aws_iam_policy" "logs" {
  name        = "${var.name}-logs"
  description = "writes logs"
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Sid = "Logs", Effect = "Allow", Action = [var.action], Resource = "*" }]
  })
}

resource "aws_iam_user" "ci" {
  name          = "${var.name}-ci"
  path          = "/ci/"
  force_destroy = true
}

resource "aws_iam_access_key" "ci" {
  user = aws_iam_user.ci.name
}

resource "aws_iam_account_password_policy" "all" {
  minimum_password_length        = 16
  require_symbols                = true
  allow_users_to_change_password = true
  max_password_age               = 90
  password_reuse_prevention      = 5
}

resource "aws_iam_user_login_profile" "ci" {
  user                    = aws_iam_user.ci.name
  password_length         = 24
  password_reset_required = true
  depends_on              = [aws_iam_account_password_policy.all]
}

resource "aws_iam_user_policy_attachment" "ci" {
  user       = aws_iam_user.ci.name
  policy_arn = aws_iam_policy.logs.arn
}

resource "aws_iam_group" "ops" {
  name = "${var.name}-ops"
}

resource "aws_iam_group_policy" "ops" {
  name   = "own"
  group  = aws_iam_group.ops.name
  policy = aws_iam_policy.logs.policy
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
  url             = "https://${var.name}.example.com"
  client_id_list  = ["sts.amazonaws.com"]
  thumbprint_list = ["6938fd4d98bab03faadb97b34396831e3780aea1"]
}

resource "aws_iam_service_linked_role" "ecs" {
  aws_service_name = "ecs.amazonaws.com"
}
"""


@pytest.fixture
def terraform(start_region, tmp_path):
    region = start_region(name="terraform-iam")
    made = Terraform(tmp_path, region, {"name": unique("tf"), "action": "logs:*"}, MAIN)
    return made, region


def test_terraform_makes_changes_and_unmakes_roles_users_and_policies(terraform):
    made, region = terraform
    name, iam = made.environment["TF_VAR_name"], region.client("iam")
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")  # 0: no difference
    role = iam.get_role(RoleName=f"{name}-task")["Role"]
    assert (role["Path"], role["MaxSessionDuration"]) == ("/app/", 7200)
    assert role["Tags"] == [{"Key": "managed-by", "Value": "terraform"}]
    state = json.loads((made.folder / "terraform.tfstate").read_text())["resources"]
    key = next(each for each in state if each["type"] == "aws_iam_access_key")["instances"][0]["attributes"]
    assert iam.list_access_keys(UserName=f"{name}-ci")["AccessKeyMetadata"][0]["AccessKeyId"] == key["id"]

    assert iam.get_login_profile(UserName=f"{name}-ci")["LoginProfile"]["PasswordResetRequired"] is True
    assert iam.get_account_password_policy()["PasswordPolicy"]["PasswordReusePrevention"] == 5

    made.run("apply", "-auto-approve", action="logs:Get*")
    made.run("plan", "-detailed-exitcode", action="logs:Get*")
    arn = f"arn:aws:iam::000000000000:policy/{name}-logs"
    assert iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v2"

    made.run("destroy", "-auto-approve", action="logs:Get*")
    refused(iam.get_role, "NoSuchEntity", RoleName=f"{name}-task")
    refused(iam.get_user, "NoSuchEntity", UserName=f"{name}-ci")
    refused(iam.get_account_password_policy, "NoSuchEntity")
    left = [each["RoleName"] for each in iam.list_roles()["Roles"]]
    assert left == ["ecsTaskExecutionRole"]
