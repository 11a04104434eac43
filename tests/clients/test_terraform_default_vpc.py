"""The default VPC taken over by Terraform: apply, no difference afterwards, a change, and forgotten by destroy."""

from services import only
from test_terraform_network import HEAD, terraform  # noqa: F401 (a fixture)

DEFAULT = HEAD + """
variable "allowed" { type = string }
variable "public" { type = bool }

data "aws_availability_zones" "there" {
  state = "available"
}

resource "aws_default_vpc" "this" {
  enable_dns_hostnames = var.public
  tags                 = { Name = var.name }
}

resource "aws_default_subnet" "these" {
  count                   = 3
  availability_zone       = data.aws_availability_zones.there.names[count.index]
  map_public_ip_on_launch = var.public
  tags                    = { Name = "${var.name}-${count.index}" }
  depends_on              = [aws_default_vpc.this]
}

data "aws_internet_gateway" "this" {
  filter {
    name   = "attachment.vpc-id"
    values = [aws_default_vpc.this.id]
  }
}

resource "aws_default_route_table" "this" {
  default_route_table_id = aws_default_vpc.this.default_route_table_id
  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = data.aws_internet_gateway.this.id
  }
  tags = { Name = var.name }
}

resource "aws_default_network_acl" "this" {
  default_network_acl_id = aws_default_vpc.this.default_network_acl_id
  subnet_ids             = concat(aws_default_subnet.these[*].id, [aws_subnet.private.id])
  ingress {
    rule_no    = 90
    action     = "deny"
    protocol   = "tcp"
    from_port  = 23
    to_port    = 23
    cidr_block = var.allowed
  }
  ingress {
    rule_no    = 100
    action     = "allow"
    protocol   = "-1"
    from_port  = 0
    to_port    = 0
    cidr_block = "0.0.0.0/0"
  }
  egress {
    rule_no    = 100
    action     = "allow"
    protocol   = "-1"
    from_port  = 0
    to_port    = 0
    cidr_block = "0.0.0.0/0"
  }
}

resource "aws_default_security_group" "this" {
  vpc_id = aws_default_vpc.this.id
  ingress {
    protocol  = "-1"
    from_port = 0
    to_port   = 0
    self      = true
  }
  egress {
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_vpc_dhcp_options" "this" {
  domain_name         = "example.internal"
  domain_name_servers = ["AmazonProvidedDNS"]
}

resource "aws_subnet" "private" {
  vpc_id     = aws_default_vpc.this.id
  cidr_block = cidrsubnet(aws_default_vpc.this.cidr_block, 8, 200)
}

resource "aws_eip" "nat" {
  domain = "vpc"
}

resource "aws_nat_gateway" "this" {
  allocation_id = aws_eip.nat.id
  subnet_id     = aws_default_subnet.these[0].id
}

resource "aws_route_table" "private" {
  vpc_id = aws_default_vpc.this.id
  route {
    cidr_block     = "0.0.0.0/0"
    nat_gateway_id = aws_nat_gateway.this.id
  }
}

resource "aws_route_table_association" "private" {
  subnet_id      = aws_subnet.private.id
  route_table_id = aws_route_table.private.id
}
"""


def test_terraform_takes_the_default_vpc_over_and_forgets_it(terraform):  # noqa: F811
    begin, region = terraform
    made, ec2 = begin(DEFAULT), region.client("ec2")
    before = ec2.describe_subnets()["Subnets"]
    first = {"allowed": "192.0.2.0/24", "public": "true"}
    made.run("apply", "-auto-approve", **first)
    made.run("plan", "-detailed-exitcode", **first)  # 0: no difference
    vpc = only(ec2.describe_vpcs()["Vpcs"])
    assert vpc["IsDefault"] and {tag["Key"] for tag in vpc["Tags"]} == {"Name", "managed-by"}
    assert len(ec2.describe_subnets()["Subnets"]) == 4

    then = {"allowed": "192.0.2.0/25", "public": "false"}
    made.run("apply", "-auto-approve", **then)
    made.run("plan", "-detailed-exitcode", **then)
    acl = only(ec2.describe_network_acls()["NetworkAcls"])
    assert "192.0.2.0/25" in {entry.get("CidrBlock") for entry in acl["Entries"]}
    assert {subnet["MapPublicIpOnLaunch"] for subnet in ec2.describe_subnets()["Subnets"]} == {False}
    hostnames = ec2.describe_vpc_attribute(VpcId=vpc["VpcId"], Attribute="enableDnsHostnames")
    assert hostnames["EnableDnsHostnames"]["Value"] is False

    made.run("destroy", "-auto-approve", **then)
    # What came with the account is forgotten and stays; what was made goes.
    after = ec2.describe_subnets()["Subnets"]
    assert {subnet["SubnetId"] for subnet in after} == {subnet["SubnetId"] for subnet in before}
    assert only(ec2.describe_vpcs()["Vpcs"])["VpcId"] == vpc["VpcId"]
    assert ec2.describe_addresses()["Addresses"] == []
    assert len(ec2.describe_route_tables()["RouteTables"]) == 1
