"""Terraform's resources of a network: apply, no difference afterwards, a change, and nothing left."""

import json

import pytest

from conftest import unique
from services import refused
from terraforming import Terraform, head

VARIABLES = """
variable "name" { type = string }
variable "port" { type = number }

"""

HEAD = head("ec2", "elbv2", "iam", "sts", tagged=True, asks_account=True) + VARIABLES

GROUPS = HEAD + """
data "aws_vpc" "default" {
  default = true
}

resource "aws_security_group" "balancer" {
  name_prefix = "${var.name}-lb-"
  description = "the balancer"
  vpc_id      = data.aws_vpc.default.id
  ingress {
    description = "the world"
    protocol    = "tcp"
    from_port   = var.port
    to_port     = var.port
    cidr_blocks = ["0.0.0.0/0", "198.51.100.0/24"]
    ipv6_cidr_blocks = ["::/0"]
  }
  ingress {
    protocol  = "icmp"
    from_port = 8
    to_port   = -1
    self      = true
  }
  egress {
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "tasks" {
  name        = "${var.name}-tasks"
  description = "the tasks"
  vpc_id      = data.aws_vpc.default.id
  tags        = { Name = "${var.name}-tasks" }
}

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  security_group_id            = aws_security_group.tasks.id
  referenced_security_group_id = aws_security_group.balancer.id
  ip_protocol                  = "tcp"
  from_port                    = var.port
  to_port                      = var.port
  description                  = "from the balancer"
}

resource "aws_vpc_security_group_egress_rule" "all" {
  security_group_id = aws_security_group.tasks.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_security_group_rule" "peers" {
  type              = "ingress"
  security_group_id = aws_security_group.tasks.id
  protocol          = "udp"
  from_port         = 7946
  to_port           = var.port + 7000
  self              = true
}

resource "aws_default_security_group" "default" {
  vpc_id = data.aws_vpc.default.id
}

data "aws_security_groups" "ours" {
  filter {
    name   = "group-name"
    values = ["${var.name}-t*"]
  }
  depends_on = [aws_security_group.tasks]
}

output "found" {
  value = data.aws_security_groups.ours.ids
}
"""


@pytest.fixture
def terraform(start_region, tmp_path):
    region = start_region(name="terraform-network")

    def begin(text):
        made = Terraform(tmp_path, region, {"name": unique("tf"), "port": 8080}, text)
        return made
    return begin, region


def test_terraform_makes_changes_and_unmakes_security_groups(terraform):
    begin, region = terraform
    made = begin(GROUPS)
    name, ec2 = made.environment["TF_VAR_name"], region.client("ec2")
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")  # 0: no difference
    groups = {g["GroupName"]: g for g in ec2.describe_security_groups()["SecurityGroups"]}
    tasks, default = groups[f"{name}-tasks"], groups["default"]
    assert {tag["Key"] for tag in tasks["Tags"]} == {"Name", "managed-by"}
    assert (default["IpPermissions"], default["IpPermissionsEgress"]) == ([], []), "Terraform empties it"
    assert {(p["IpProtocol"], p.get("FromPort")) for p in tasks["IpPermissions"]} == {("tcp", 8080), ("udp", 7946)}

    made.run("apply", "-auto-approve", port=9090)
    made.run("plan", "-detailed-exitcode", port=9090)
    state = json.loads((made.folder / "terraform.tfstate").read_text())
    assert state["outputs"]["found"]["value"] == [tasks["GroupId"]]
    rules = ec2.describe_security_group_rules(
        Filters=[{"Name": "group-id", "Values": [tasks["GroupId"]]}])["SecurityGroupRules"]
    assert {rule["FromPort"] for rule in rules} == {9090, 7946, -1}

    made.run("destroy", "-auto-approve", port=9090)
    refused(ec2.describe_security_groups, "InvalidGroup.NotFound", GroupIds=[tasks["GroupId"]])
    assert len(ec2.describe_security_groups()["SecurityGroups"]) == 1
