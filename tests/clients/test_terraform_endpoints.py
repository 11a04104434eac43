"""A VPC of three zones with endpoints and a flow log by Terraform, as its popular modules make them: apply, no difference
afterwards, a change, and nothing left."""

import json

from services import refused
from terraforming import head
from test_terraform_network import VARIABLES, terraform  # noqa: F401 (a fixture)

STACK = head("ec2", "elbv2", "iam", "logs", "sts", tagged=True, asks_account=True) + VARIABLES + """
variable "services" { type = string }
variable "zones" { type = number }
variable "action" { type = string }

locals {
  zones = slice(data.aws_availability_zones.there.names, 0, 3)
}

data "aws_availability_zones" "there" {
  state = "available"
}

data "aws_region" "current" {}

resource "aws_vpc" "this" {
  cidr_block           = "10.40.0.0/16"
  enable_dns_hostnames = true
  enable_dns_support   = true
  tags                 = { Name = var.name }
}

resource "aws_subnet" "isolated" {
  count             = 3
  vpc_id            = aws_vpc.this.id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(aws_vpc.this.cidr_block, 8, count.index)
}

resource "aws_route_table" "isolated" {
  count  = 3
  vpc_id = aws_vpc.this.id
}

resource "aws_route_table_association" "isolated" {
  count          = 3
  subnet_id      = aws_subnet.isolated[count.index].id
  route_table_id = aws_route_table.isolated[count.index].id
}

resource "aws_security_group" "endpoints" {
  name_prefix = "${var.name}-endpoints-"
  description = "the endpoints"
  vpc_id      = aws_vpc.this.id
  ingress {
    description = "HTTPS from the VPC"
    protocol    = "tcp"
    from_port   = 443
    to_port     = 443
    cidr_blocks = [aws_vpc.this.cidr_block]
  }
}

data "aws_vpc_endpoint_service" "by_interface" {
  for_each     = toset(split(",", var.services))
  service      = each.value
  service_type = "Interface"
}

data "aws_vpc_endpoint_service" "s3" {
  service      = "s3"
  service_type = "Gateway"
}

resource "aws_vpc_endpoint" "by_interface" {
  for_each            = data.aws_vpc_endpoint_service.by_interface
  vpc_id              = aws_vpc.this.id
  service_name        = each.value.service_name
  vpc_endpoint_type   = "Interface"
  subnet_ids          = slice(aws_subnet.isolated[*].id, 0, var.zones)
  security_group_ids  = [aws_security_group.endpoints.id]
  private_dns_enabled = true
  tags                = { Name = "${var.name}-${each.key}" }
}

resource "aws_vpc_endpoint_policy" "logs" {
  vpc_endpoint_id = aws_vpc_endpoint.by_interface["logs"].id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = "*", Action = var.action, Resource = "*" }]
  })
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = data.aws_vpc_endpoint_service.s3.service_name
  vpc_endpoint_type = "Gateway"
  route_table_ids   = slice(aws_route_table.isolated[*].id, 0, var.zones)
  tags              = { Name = "${var.name}-s3" }
}

resource "aws_vpc_endpoint" "dynamodb" {
  vpc_id       = aws_vpc.this.id
  service_name = "com.amazonaws.${data.aws_region.current.name}.dynamodb"
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = "*", Action = "dynamodb:GetItem", Resource = "*" }]
  })
}

resource "aws_vpc_endpoint_route_table_association" "dynamodb" {
  count           = var.zones
  vpc_endpoint_id = aws_vpc_endpoint.dynamodb.id
  route_table_id  = aws_route_table.isolated[count.index].id
}

resource "aws_cloudwatch_log_group" "flows" {
  name              = "/aws/vpc-flow-log/${var.name}"
  retention_in_days = 7
}

resource "aws_iam_role" "flows" {
  name_prefix        = "vpc-flow-log-"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["vpc-flow-logs.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "flows" {
  role = aws_iam_role.flows.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogGroups", "logs:DescribeLogStreams"]
      Resource = "*"
    }]
  })
}

resource "aws_flow_log" "this" {
  log_destination_type     = "cloud-watch-logs"
  log_destination          = aws_cloudwatch_log_group.flows.arn
  iam_role_arn             = aws_iam_role.flows.arn
  traffic_type             = "ALL"
  vpc_id                   = aws_vpc.this.id
  max_aggregation_interval = 60
  tags                     = { Name = var.name }
}

output "vpc" { value = aws_vpc.this.id }
output "names" { value = { for name, it in aws_vpc_endpoint.by_interface : name => it.dns_entry[*].dns_name } }
"""

SERVICES = ["ecr.api", "ecr.dkr", "ecs", "ecs-agent", "ecs-telemetry", "logs", "secretsmanager", "ssm", "sts"]


def test_terraform_makes_changes_and_unmakes_endpoints_and_a_flow_log(terraform):  # noqa: F811
    begin, region = terraform
    made, ec2 = begin(STACK), region.client("ec2")
    first = {"services": ",".join(SERVICES), "zones": 2, "action": "*"}
    made.run("apply", "-auto-approve", **first)
    made.run("plan", "-detailed-exitcode", **first)  # 0: no difference
    state = json.loads((made.folder / "terraform.tfstate").read_text())["outputs"]
    mine = [{"Name": "vpc-id", "Values": [state["vpc"]["value"]]}]
    endpoints = ec2.describe_vpc_endpoints(Filters=mine)["VpcEndpoints"]
    assert len(endpoints) == len(SERVICES) + 2
    assert state["names"]["value"]["logs"][-1] == "logs.eu-north-1.amazonaws.com"
    log, = ec2.describe_flow_logs(Filters=[{"Name": "resource-id", "Values": [state["vpc"]["value"]]}])["FlowLogs"]
    assert (log["FlowLogStatus"], log["TrafficType"], log["MaxAggregationInterval"]) == ("ACTIVE", "ALL", 60)

    then = {"services": ",".join([*SERVICES[1:], "kms"]), "zones": 3, "action": "logs:PutLogEvents"}
    made.run("apply", "-auto-approve", **then)
    made.run("plan", "-detailed-exitcode", **then)
    endpoints = ec2.describe_vpc_endpoints(Filters=mine)["VpcEndpoints"]
    by_interface = {each["ServiceName"].removeprefix("com.amazonaws.eu-north-1."): each for each in endpoints
                    if each["VpcEndpointType"] == "Interface"}
    assert set(by_interface) == {*SERVICES[1:], "kms"}
    assert all(len(each["SubnetIds"]) == 3 for each in by_interface.values())
    assert "logs:PutLogEvents" in by_interface["logs"]["PolicyDocument"]
    tables = ec2.describe_route_tables(Filters=[*mine, {"Name": "route.gateway-id", "Values": ["vpce-*"]}])["RouteTables"]
    assert len(tables) == 3

    made.run("destroy", "-auto-approve", **then)
    refused(ec2.describe_vpcs, "InvalidVpcID.NotFound", VpcIds=[state["vpc"]["value"]])
    assert ec2.describe_vpc_endpoints()["VpcEndpoints"] == [] and ec2.describe_flow_logs()["FlowLogs"] == []
    assert not ec2.describe_network_interfaces(Filters=mine)["NetworkInterfaces"]
