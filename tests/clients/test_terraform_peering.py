"""VPC peering by Terraform: connections, options, routes and rules by them: apply, no difference afterwards, changes, and
nothing left."""

from services import only
from terraforming import head
from test_terraform_network import VARIABLES, terraform  # noqa: F401 (a fixture)

STACK = head("ec2", "iam", "sts", tagged=True, asks_account=True) + VARIABLES + """
variable "names" { type = bool }

resource "aws_vpc" "side" {
  count                = 3
  cidr_block           = "10.${60 + count.index}.0.0/16"
  enable_dns_hostnames = true
  tags                 = { Name = "${var.name}-${count.index}" }
}

resource "aws_vpc_peering_connection" "near" {
  vpc_id      = aws_vpc.side[0].id
  peer_vpc_id = aws_vpc.side[1].id
  auto_accept = true
  accepter {
    allow_remote_vpc_dns_resolution = var.names
  }
  tags = { Name = var.name }
}

resource "aws_vpc_peering_connection" "asked" {
  vpc_id      = aws_vpc.side[0].id
  peer_vpc_id = aws_vpc.side[2].id
}

resource "aws_vpc_peering_connection_accepter" "asked" {
  vpc_peering_connection_id = aws_vpc_peering_connection.asked.id
  auto_accept               = true
}

resource "aws_vpc_peering_connection_options" "asked" {
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.asked.id
  requester {
    allow_remote_vpc_dns_resolution = var.names
  }
}

resource "aws_route_table" "near" {
  vpc_id = aws_vpc.side[0].id
  route {
    cidr_block                = aws_vpc.side[1].cidr_block
    vpc_peering_connection_id = aws_vpc_peering_connection.near.id
  }
}

resource "aws_route" "back" {
  route_table_id            = aws_vpc.side[1].main_route_table_id
  destination_cidr_block    = aws_vpc.side[0].cidr_block
  vpc_peering_connection_id = aws_vpc_peering_connection.near.id
}

resource "aws_security_group" "side" {
  count  = 2
  name   = "${var.name}-${count.index}"
  vpc_id = aws_vpc.side[count.index].id
}

resource "aws_vpc_security_group_ingress_rule" "by_group" {
  security_group_id            = aws_security_group.side[1].id
  referenced_security_group_id = aws_security_group.side[0].id
  ip_protocol                  = "tcp"
  from_port                    = var.port
  to_port                      = var.port
  depends_on                   = [aws_vpc_peering_connection.near]
}

data "aws_vpc_peering_connection" "found" {
  vpc_id      = aws_vpc.side[0].id
  peer_vpc_id = aws_vpc.side[1].id
  status      = "active"
  depends_on  = [aws_vpc_peering_connection.near]
}
"""


def test_terraform_connects_vpcs_changes_that_and_leaves_nothing(terraform):  # noqa: F811
    begin, region = terraform
    made = begin(STACK)
    name, ec2 = made.environment["TF_VAR_name"], region.client("ec2")
    made.run("apply", "-auto-approve", names="false")
    made.run("plan", "-detailed-exitcode", names="false")  # 0: no difference
    found = ec2.describe_vpc_peering_connections(Filters=[{"Name": "status-code", "Values": ["active"]}])
    assert len(found["VpcPeeringConnections"]) == 2
    near = only(ec2.describe_vpc_peering_connections(Filters=[{"Name": "tag:Name", "Values": [name]}])["VpcPeeringConnections"])
    routes = [route for table in ec2.describe_route_tables()["RouteTables"] for route in table["Routes"]
              if route.get("VpcPeeringConnectionId") == near["VpcPeeringConnectionId"]]
    assert [route["State"] for route in routes] == ["active"] * 2

    made.run("apply", "-auto-approve", names="true", port=9090)
    made.run("plan", "-detailed-exitcode", names="true", port=9090)
    found = ec2.describe_vpc_peering_connections(Filters=[{"Name": "status-code", "Values": ["active"]}])
    allows = [side["PeeringOptions"]["AllowDnsResolutionFromRemoteVpc"] for each in found["VpcPeeringConnections"]
              for side in (each["RequesterVpcInfo"], each["AccepterVpcInfo"])]
    assert sorted(allows) == [False, False, True, True]

    made.run("destroy", "-auto-approve", names="true", port=9090)
    left = ec2.describe_vpc_peering_connections()["VpcPeeringConnections"]
    assert {each["Status"]["Code"] for each in left} == {"deleted"}
    assert len(ec2.describe_vpcs()["Vpcs"]) == 1
