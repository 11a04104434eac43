"""What configurations of hosts look for before they make any: Amazon's images for ECS and instance types, by Terraform and
boto3. There are no machines here, and the answers say so."""

import json

from services import refused
from terraforming import Terraform, head

LINUX = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended"
LOOKS = head("ec2", "ssm", "sts") + """
data "aws_ssm_parameter" "recommended" {
  name = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended"
}

data "aws_ssm_parameter" "fluent_bit" {
  name = "/aws/service/aws-for-fluent-bit/stable"
}

data "aws_ssm_parameters_by_path" "linux" {
  path = "/aws/service/ami-amazon-linux-latest"
}

data "aws_ami" "older" {
  most_recent = true
  owners      = ["amazon"]
  filter {
    name   = "name"
    values = ["amzn2-ami-ecs-hvm-*-x86_64-ebs"]
  }
  filter {
    name   = "virtualization-type"
    values = ["hvm"]
  }
}

data "aws_ami" "linux" {
  most_recent = true
  owners      = ["amazon"]
  filter {
    name   = "name"
    values = ["al2023-ami-ecs-hvm-*"]
  }
  filter {
    name   = "architecture"
    values = ["x86_64"]
  }
  filter {
    name   = "root-device-type"
    values = ["ebs"]
  }
}

data "aws_ec2_instance_type" "arm" {
  instance_type = "m7g.large"
}

data "aws_ec2_instance_type" "gpu" {
  instance_type = "g4dn.xlarge"
}

data "aws_ec2_instance_type_offerings" "zones" {
  location_type = "availability-zone"
  filter {
    name   = "instance-type"
    values = ["t3.medium"]
  }
}

output "found" {
  value = {
    recommended = jsondecode(nonsensitive(data.aws_ssm_parameter.recommended.value)).image_id
    linux       = data.aws_ami.linux.id
    older       = data.aws_ami.older.description
    fluent_bit  = nonsensitive(data.aws_ssm_parameter.fluent_bit.value)
    count       = length(data.aws_ssm_parameters_by_path.linux.names)
    arm         = [data.aws_ec2_instance_type.arm.default_vcpus, data.aws_ec2_instance_type.arm.memory_size]
    gpus        = one(data.aws_ec2_instance_type.gpu.gpus).count
    zones       = length(data.aws_ec2_instance_type_offerings.zones.locations)
  }
}
"""


def test_terraform_finds_images_and_types(region, tmp_path):
    terraform = Terraform(tmp_path, region, {}, text=LOOKS)
    terraform.run("apply", "-auto-approve")
    found = json.loads(terraform.run("output", "-json", "found"))
    assert found["recommended"] == found["linux"] and found["linux"].startswith("ami-0"), found
    assert found["older"].startswith("There is no machine image here"), found
    assert found["fluent_bit"] == "public.ecr.aws/aws-observability/aws-for-fluent-bit:stable"
    assert (found["count"], found["arm"], found["gpus"], found["zones"]) == (16, [2, 8192], 1, 3), found


def test_nothing_is_made_of_them(region):
    ec2, ssm = region.client("ec2"), region.client("ssm")
    image = json.loads(ssm.get_parameter(Name=LINUX)["Parameter"]["Value"])["image_id"]
    name = ec2.describe_images(ImageIds=[image])["Images"][0]["Name"]
    assert "longshore-no-image" in name
    refused(ec2.run_instances, "UnsupportedOperation", ImageId=image, MinCount=1, MaxCount=1)
    refused(ssm.put_parameter, "AccessDeniedException", Name=LINUX, Value="x", Type="String")
    refused(ec2.describe_images, "InvalidAMIID.NotFound", ImageIds=["ami-0123456789abcdef0"])
    pages = ec2.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 20})
    names = [each["InstanceType"] for page in pages for each in page["InstanceTypes"]]
    assert len(names) == len(set(names)) == 108 and "t3.micro" in names
