"""A whole VPC by Terraform, as its popular module makes one: apply, no difference afterwards, a change, and nothing left."""

import json

from services import refused
from test_terraform_network import HEAD, terraform  # noqa: F401 (a fixture)

VPC = HEAD + """
variable "nats" { type = number }
variable "allowed" { type = string }

locals {
  zones = slice(data.aws_availability_zones.there.names, 0, 3)
}

data "aws_availability_zones" "there" {
  state = "available"
}

resource "aws_vpc" "this" {
  cidr_block           = "10.30.0.0/16"
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

resource "aws_vpc_ipv4_cidr_block_association" "more" {
  vpc_id     = aws_vpc.this.id
  cidr_block = "10.31.0.0/20"
}

resource "aws_vpc_dhcp_options" "this" {
  domain_name         = "example.internal"
  domain_name_servers = ["AmazonProvidedDNS"]
}

resource "aws_vpc_dhcp_options_association" "this" {
  vpc_id          = aws_vpc.this.id
  dhcp_options_id = aws_vpc_dhcp_options.this.id
}

resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_default_route_table" "this" {
  default_route_table_id = aws_vpc.this.default_route_table_id
  route                  = []
}

resource "aws_default_network_acl" "this" {
  default_network_acl_id = aws_vpc.this.default_network_acl_id
  subnet_ids             = null
  dynamic "ingress" {
    for_each = { 100 = ["0.0.0.0/0", null], 101 = [null, "::/0"] }
    content {
      rule_no         = ingress.key
      action          = "allow"
      protocol        = "-1"
      from_port       = 0
      to_port         = 0
      cidr_block      = ingress.value[0]
      ipv6_cidr_block = ingress.value[1]
    }
  }
  dynamic "egress" {
    for_each = { 100 = ["0.0.0.0/0", null], 101 = [null, "::/0"] }
    content {
      rule_no         = egress.key
      action          = "allow"
      protocol        = "-1"
      from_port       = 0
      to_port         = 0
      cidr_block      = egress.value[0]
      ipv6_cidr_block = egress.value[1]
    }
  }
  lifecycle {
    ignore_changes = [subnet_ids]
  }
}

resource "aws_subnet" "public" {
  count             = 3
  vpc_id            = aws_vpc.this.id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(aws_vpc.this.cidr_block, 8, count.index)
  tags              = { Name = "${var.name}-public-${count.index}", Tier = "public" }
}

resource "aws_subnet" "private" {
  count             = 3
  vpc_id            = aws_vpc.this.id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(aws_vpc.this.cidr_block, 8, 10 + count.index)
  tags              = { Tier = "private" }
}

resource "aws_subnet" "isolated" {
  count             = 3
  vpc_id            = aws_vpc_ipv4_cidr_block_association.more.vpc_id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet("10.31.0.0/20", 4, count.index)
  tags              = { Tier = "isolated" }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id
}

resource "aws_route" "public" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  count          = 3
  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public.id
}

resource "aws_eip" "nat" {
  count      = var.nats
  domain     = "vpc"
  depends_on = [aws_internet_gateway.this]
}

resource "aws_nat_gateway" "this" {
  count         = var.nats
  allocation_id = aws_eip.nat[count.index].id
  subnet_id     = aws_subnet.public[count.index].id
  depends_on    = [aws_internet_gateway.this]
}

resource "aws_route_table" "private" {
  count  = 3
  vpc_id = aws_vpc.this.id
}

resource "aws_route" "private" {
  count                  = 3
  route_table_id         = aws_route_table.private[count.index].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[count.index % var.nats].id
}

resource "aws_route_table_association" "private" {
  count          = 3
  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private[count.index].id
}

resource "aws_network_acl" "isolated" {
  vpc_id     = aws_vpc.this.id
  subnet_ids = aws_subnet.isolated[*].id
  ingress {
    rule_no    = 100
    action     = "allow"
    protocol   = "tcp"
    from_port  = 5432
    to_port    = 5432
    cidr_block = var.allowed
  }
  ingress {
    rule_no    = 110
    action     = "deny"
    protocol   = "icmp"
    from_port  = 0
    to_port    = 0
    icmp_type  = 8
    icmp_code  = -1
    cidr_block = "0.0.0.0/0"
  }
  egress {
    rule_no    = 100
    action     = "allow"
    protocol   = "-1"
    from_port  = 0
    to_port    = 0
    cidr_block = "10.30.0.0/16"
  }
}

resource "aws_network_interface" "spare" {
  subnet_id       = aws_subnet.private[0].id
  private_ips     = ["10.30.10.77"]
  description     = "kept"
  security_groups = [aws_security_group.tasks.id]
}

resource "aws_security_group" "tasks" {
  name_prefix = "${var.name}-"
  description = "the tasks"
  vpc_id      = aws_vpc.this.id
  egress {
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_ec2_managed_prefix_list" "offices" {
  name           = "${var.name}-offices"
  address_family = "IPv4"
  max_entries    = 5
  entry {
    cidr        = var.allowed
    description = "allowed"
  }
  entry {
    cidr = "192.0.2.0/24"
  }
}

data "aws_ec2_managed_prefix_list" "cloudfront" {
  name = "com.amazonaws.global.cloudfront.origin-facing"
}

resource "aws_vpc_security_group_ingress_rule" "listed" {
  for_each = {
    offices    = aws_ec2_managed_prefix_list.offices.id
    cloudfront = data.aws_ec2_managed_prefix_list.cloudfront.id
  }
  security_group_id = aws_security_group.tasks.id
  prefix_list_id    = each.value
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
}

resource "aws_route" "offices" {
  route_table_id             = aws_route_table.private[0].id
  destination_prefix_list_id = aws_ec2_managed_prefix_list.offices.id
  gateway_id                 = aws_internet_gateway.this.id
}

resource "aws_security_group" "balancer" {
  name_prefix = "${var.name}-"
  description = "the balancer"
  vpc_id      = aws_vpc.this.id
  ingress {
    protocol    = "tcp"
    from_port   = var.port
    to_port     = var.port
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_lb" "web" {
  name               = var.name
  load_balancer_type = "application"
  subnets            = aws_subnet.public[*].id
  security_groups    = [aws_security_group.balancer.id]
  depends_on         = [aws_internet_gateway.this]
}

resource "aws_lb_target_group" "web" {
  name        = var.name
  port        = 80
  protocol    = "HTTP"
  target_type = "ip"
  vpc_id      = aws_vpc.this.id
}

resource "aws_lb_listener" "web" {
  load_balancer_arn = aws_lb.web.arn
  port              = var.port
  protocol          = "HTTP"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.web.arn
  }
}

resource "aws_lb_target_group_attachment" "web" {
  target_group_arn = aws_lb_target_group.web.arn
  target_id        = aws_network_interface.spare.private_ip
  port             = 80
}

data "aws_subnets" "private" {
  filter {
    name   = "vpc-id"
    values = [aws_vpc.this.id]
  }
  tags       = { Tier = "private" }
  depends_on = [aws_subnet.private]
}

data "aws_vpc" "default" {
  default = true
}

output "vpc" { value = aws_vpc.this.id }
output "balancer" { value = aws_lb.web.arn }
output "private" { value = data.aws_subnets.private.ids }
output "addresses" { value = aws_eip.nat[*].public_ip }
"""


def test_terraform_makes_changes_and_unmakes_a_vpc(terraform):  # noqa: F811
    begin, region = terraform
    made, ec2 = begin(VPC), region.client("ec2")
    first = {"nats": 1, "allowed": "10.30.0.0/16"}
    made.run("apply", "-auto-approve", **first)
    made.run("plan", "-detailed-exitcode", **first)  # 0: no difference
    state = json.loads((made.folder / "terraform.tfstate").read_text())["outputs"]
    vpc = state["vpc"]["value"]
    mine = [{"Name": "vpc-id", "Values": [vpc]}]
    assert len(state["private"]["value"]) == 3
    groups = {g["GroupName"]: g for g in ec2.describe_security_groups(Filters=mine)["SecurityGroups"]}
    assert (groups["default"]["IpPermissions"], groups["default"]["IpPermissionsEgress"]) == ([], [])
    balancer, = region.client("elbv2").describe_load_balancers(LoadBalancerArns=[state["balancer"]["value"]])["LoadBalancers"]
    assert balancer["VpcId"] == vpc and len(balancer["AvailabilityZones"]) == 3
    nat, = ec2.describe_nat_gateways(Filter=mine)["NatGateways"]
    assert nat["NatGatewayAddresses"][0]["PublicIp"] == state["addresses"]["value"][0]

    then = {"nats": 3, "allowed": "10.30.10.0/23"}
    made.run("apply", "-auto-approve", **then)
    made.run("plan", "-detailed-exitcode", **then)
    tables = ec2.describe_route_tables(Filters=[*mine, {"Name": "route.nat-gateway-id", "Values": ["nat-*"]}])
    out = {route["NatGatewayId"] for table in tables["RouteTables"] for route in table["Routes"]
           if "NatGatewayId" in route}
    assert len(out) == 3, "one a zone"
    acls = ec2.describe_network_acls(Filters=[*mine, {"Name": "default", "Values": ["false"]}])["NetworkAcls"]
    offices, = ec2.describe_managed_prefix_lists(
        Filters=[{"Name": "prefix-list-name", "Values": ["*-offices"]}])["PrefixLists"]
    entries = ec2.get_managed_prefix_list_entries(PrefixListId=offices["PrefixListId"])["Entries"]
    assert {entry["Cidr"] for entry in entries} == {"10.30.10.0/23", "192.0.2.0/24"} and offices["Version"] == 2
    assert {entry["CidrBlock"] for entry in acls[0]["Entries"] if entry["RuleNumber"] == 100} == {
        "10.30.10.0/23", "10.30.0.0/16"}

    made.run("destroy", "-auto-approve", **then)
    refused(ec2.describe_vpcs, "InvalidVpcID.NotFound", vpc, VpcIds=[vpc])
    assert ec2.describe_addresses()["Addresses"] == []
    assert {each["OwnerId"] for each in ec2.describe_managed_prefix_lists()["PrefixLists"]} == {"AWS"}
    assert len(ec2.describe_vpcs()["Vpcs"]) == 1
