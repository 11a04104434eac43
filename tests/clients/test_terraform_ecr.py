"""Terraform's resources of ECR's policies, pull-through cache rules and creation templates: apply, no difference afterwards, a change, and nothing left."""

import json

import pytest

from conftest import unique
from services import refused
from terraforming import Terraform, head

MAIN = head("ecr", "iam", "kms", "sts", asks_account=True) + """
variable "name" { type = string }
variable "kept" { type = number }

resource "aws_ecr_repository" "web" {
  name                 = var.name
  image_tag_mutability = "IMMUTABLE"
  force_delete         = true
}

resource "aws_ecr_repository_policy" "web" {
  repository = aws_ecr_repository.web.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "pull"
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::111122223333:root" }
      Action    = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    }]
  })
}

resource "aws_ecr_pull_through_cache_rule" "quay" {
  ecr_repository_prefix = "quay"
  upstream_registry_url = "quay.io"
}

resource "aws_ecr_repository_creation_template" "quay" {
  prefix               = aws_ecr_pull_through_cache_rule.quay.ecr_repository_prefix
  description          = "keeps ${var.kept}"
  image_tag_mutability = "IMMUTABLE"
  applied_for          = ["PULL_THROUGH_CACHE"]
  resource_tags        = { from = "quay" }

  encryption_configuration {
    encryption_type = "AES256"
  }
}

resource "aws_kms_key" "images" {
  description             = "images"
  deletion_window_in_days = 7
}

resource "aws_ecr_repository" "sealed" {
  name = "${var.name}-sealed"

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = aws_kms_key.images.arn
  }
}

resource "aws_ecr_lifecycle_policy" "web" {
  repository = aws_ecr_repository.web.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "keep the last"
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = var.kept }
      action       = { type = "expire" }
    }]
  })
}

resource "aws_ecr_registry_scanning_configuration" "all" {
  scan_type = "BASIC"
  rule {
    scan_frequency = "SCAN_ON_PUSH"
    repository_filter {
      filter      = "${var.name}*"
      filter_type = "WILDCARD"
    }
  }
}

resource "aws_ecr_registry_policy" "all" {
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "see"
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::111122223333:root" }
      Action    = ["ecr:DescribeImages"]
      Resource  = ["arn:aws:ecr:eu-north-1:000000000000:repository/*"]
    }]
  })
}
"""


@pytest.fixture
def terraform(start_region, tmp_path):
    region = start_region(name="terraform-ecr")
    made = Terraform(tmp_path, region, {"name": unique("tf"), "kept": 5}, MAIN)
    return made, region


def test_terraform_makes_changes_and_unmakes_policies_of_repositories(terraform):
    made, region = terraform
    name, ecr = made.environment["TF_VAR_name"], region.client("ecr")
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")  # 0: no difference
    assert "pull" in ecr.get_repository_policy(repositoryName=name)["policyText"]
    scanning, = ecr.batch_get_repository_scanning_configuration(repositoryNames=[name])["scanningConfigurations"]
    assert (scanning["scanOnPush"], scanning["scanFrequency"]) == (True, "SCAN_ON_PUSH")
    made.run("apply", "-auto-approve", kept=7)
    made.run("plan", "-detailed-exitcode", kept=7)
    rules = json.loads(ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"])["rules"]
    assert rules[0]["selection"]["countNumber"] == 7
    template, = ecr.describe_repository_creation_templates(prefixes=["quay"])["repositoryCreationTemplates"]
    assert template["description"] == "keeps 7"
    made.run("destroy", "-auto-approve", kept=7)
    assert ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"] == []
    assert ecr.describe_repository_creation_templates()["repositoryCreationTemplates"] == []
    assert ecr.get_registry_scanning_configuration()["scanningConfiguration"]["rules"] == []
    refused(ecr.get_registry_policy, "RegistryPolicyNotFoundException")
    refused(ecr.get_lifecycle_policy, "RepositoryNotFoundException", repositoryName=name)
