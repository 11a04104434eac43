"""Secrets Manager with boto3, the root key of a region, and Terraform's resources of secrets, parameters and keys."""

import base64
import json
import stat

import boto3
import pytest

from conftest import unique
from services import refused
from terraforming import Terraform

SECRET = "correct-horse-battery-staple-7319"

MAIN = """
terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

variable "endpoint" { type = string }
variable "name" { type = string }
variable "value" { type = string }

provider "aws" {
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
  endpoints {
    iam            = var.endpoint
    kms            = var.endpoint
    logs           = var.endpoint
    secretsmanager = var.endpoint
    ssm            = var.endpoint
    sts            = var.endpoint
  }
  default_tags {
    tags = { managed-by = "terraform" }
  }
}

resource "aws_kms_key" "own" {
  description             = var.name
  deletion_window_in_days = 7
  enable_key_rotation     = true
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Principal = { AWS = "arn:aws:iam::000000000000:root" }, Action = "kms:*", Resource = "*" },
      {
        Effect    = "Allow"
        Principal = { Service = "logs.eu-north-1.amazonaws.com" }
        Action    = ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"]
        Resource  = "*"
        Condition = {
          ArnEquals = { "kms:EncryptionContext:aws:logs:arn" = "arn:aws:logs:eu-north-1:000000000000:log-group:/${var.name}" }
        }
      },
    ]
  })
}

resource "aws_cloudwatch_log_group" "sealed" {
  name       = "/${var.name}"
  kms_key_id = aws_kms_key.own.arn
}

resource "aws_kms_alias" "own" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.own.key_id
}

data "aws_secretsmanager_random_password" "drawn" {
  password_length     = 24
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "db" {
  name                    = "${var.name}/db"
  description             = "of the database"
  kms_key_id              = aws_kms_key.own.arn
  recovery_window_in_days = 0
}

resource "aws_secretsmanager_secret_version" "db" {
  secret_id     = aws_secretsmanager_secret.db.id
  secret_string = jsonencode({ user = "web", password = var.value })
}

resource "aws_secretsmanager_secret_policy" "db" {
  secret_arn = aws_secretsmanager_secret.db.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = "secretsmanager:DeleteResourcePolicy"
      Resource  = "*"
      Condition = { StringEquals = { "aws:username" = "nobody" } }
    }]
  })
}

resource "aws_ssm_parameter" "plain" {
  name  = "/${var.name}/plain"
  type  = "String"
  value = var.value
}

resource "aws_ssm_parameter" "secure" {
  name   = "/${var.name}/secure"
  type   = "SecureString"
  key_id = aws_kms_alias.own.name
  value  = var.value
}

data "aws_secretsmanager_secret_version" "db" {
  secret_id  = aws_secretsmanager_secret.db.id
  depends_on = [aws_secretsmanager_secret_version.db]
}
"""


@pytest.fixture
def secrets(region):
    return region.client("secretsmanager")


def test_a_secret_has_versions_and_stages(secrets):
    name = unique("s") + "/db"
    made = secrets.create_secret(Name=name, SecretString="one", Description="d", Tags=[{"Key": "a", "Value": "b"}])
    assert made["ARN"].rsplit(":", 1)[1].startswith(name + "-")
    secrets.put_secret_value(SecretId=name, SecretString="two")
    got = secrets.get_secret_value(SecretId=made["ARN"])
    assert (got["SecretString"], got["VersionStages"]) == ("two", ["AWSCURRENT"])
    old = secrets.get_secret_value(SecretId=name, VersionStage="AWSPREVIOUS")
    assert (old["SecretString"], old["VersionId"]) == ("one", made["VersionId"])
    secrets.update_secret_version_stage(SecretId=name, VersionStage="AWSCURRENT", MoveToVersionId=made["VersionId"],
                                        RemoveFromVersionId=got["VersionId"])
    assert secrets.get_secret_value(SecretId=name)["SecretString"] == "one"
    secrets.update_secret(SecretId=name, SecretBinary=b"\0\1", Description="e")
    assert secrets.get_secret_value(SecretId=name)["SecretBinary"] == b"\0\1"
    described = secrets.describe_secret(SecretId=name)
    assert (described["Description"], described["Tags"]) == ("e", [{"Key": "a", "Value": "b"}])
    assert "KmsKeyId" not in described and described["LastAccessedDate"]
    assert len(secrets.list_secret_version_ids(SecretId=name, IncludeDeprecated=True)["Versions"]) == 3
    listed = secrets.list_secrets(Filters=[{"Key": "name", "Values": [name]}])["SecretList"]
    assert [each["Name"] for each in listed] == [name]


def test_a_deleted_secret_comes_back_or_goes(secrets):
    name = unique("s")
    secrets.create_secret(Name=name, SecretString="one")
    secrets.delete_secret(SecretId=name, RecoveryWindowInDays=7)
    refused(secrets.get_secret_value, "InvalidRequestException", "marked for deletion", SecretId=name)
    refused(secrets.create_secret, "InvalidRequestException", "already scheduled for deletion", Name=name)
    secrets.restore_secret(SecretId=name)
    assert secrets.get_secret_value(SecretId=name)["SecretString"] == "one"
    secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    refused(secrets.get_secret_value, "ResourceNotFoundException", "can't find the specified secret.", SecretId=name)


def test_many_are_read_at_once_and_passwords_are_drawn(secrets):
    names = [unique("s") for _ in range(2)]
    for name in names:
        secrets.create_secret(Name=name, SecretString=name)
    batch = secrets.batch_get_secret_value(SecretIdList=[*names, "none"])
    assert sorted(each["SecretString"] for each in batch["SecretValues"]) == sorted(names)
    assert [each["ErrorCode"] for each in batch["Errors"]] == ["ResourceNotFoundException"]
    password = secrets.get_random_password(PasswordLength=20, ExcludePunctuation=True)["RandomPassword"]
    assert len(password) == 20 and password.isalnum()
    refused(secrets.replicate_secret_to_regions, "UnknownOperationException", "is not available", SecretId=names[0],
            AddReplicaRegions=[{"Region": "eu-west-1"}])


def test_a_customers_key_is_asked_too(secrets, region):
    iam, kms = region.client("iam"), region.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    name, user = unique("s"), unique("u")
    arn = secrets.create_secret(Name=name, SecretString="one", KmsKeyId=key)["ARN"]
    iam.create_user(UserName=user)
    pair = iam.create_access_key(UserName=user)["AccessKey"]

    def allow(*actions):
        iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps({
            "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": [arn, key]}]}))

    theirs = boto3.client("secretsmanager", endpoint_url=region.endpoint, region_name="eu-north-1",
                          aws_access_key_id=pair["AccessKeyId"], aws_secret_access_key=pair["SecretAccessKey"])
    allow("secretsmanager:GetSecretValue")
    refused(theirs.get_secret_value, "AccessDeniedException", "Access to KMS is not allowed", SecretId=name)
    allow("secretsmanager:GetSecretValue", "kms:Decrypt")
    assert theirs.get_secret_value(SecretId=name)["SecretString"] == "one"
    refused(theirs.put_secret_value, "AccessDeniedException", f"on resource: {name}", SecretId=name, SecretString="x")


def dump(folder):
    """Every byte in a data directory."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def test_a_dump_without_the_root_key_holds_no_secret_and_the_root_key_can_be_changed(start_region):
    region = start_region(name="root-key")
    secrets, ssm = region.client("secretsmanager"), region.client("ssm")
    secrets.create_secret(Name="db", SecretString=SECRET)
    ssm.put_parameter(Name="db", Value=SECRET, Type="SecureString")
    file = region.data_dir / "root.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    forms = [SECRET.encode(), base64.b64encode(SECRET.encode())[:40], SECRET.encode().hex().encode()]
    region.down()
    for path, text in dump(region.data_dir).items():
        assert not any(form in text for form in forms), path
    before = file.read_bytes()

    changed = region.run("secrets", "rotate-root")
    assert "2 keys are wrapped by the new root key" in changed.stderr + changed.stdout
    assert file.read_bytes() != before
    region.up()
    assert region.client("secretsmanager").get_secret_value(SecretId="db")["SecretString"] == SECRET

    # The same while the region runs, under the eyes of who reads and writes.
    iam = region.client("iam")
    iam.create_user(UserName="ann")
    pair = iam.create_access_key(UserName="ann")["AccessKey"]
    theirs = boto3.client("sts", endpoint_url=region.endpoint, region_name="eu-north-1",
                          aws_access_key_id=pair["AccessKeyId"], aws_secret_access_key=pair["SecretAccessKey"])
    before = file.read_bytes()
    changed = region.run("secrets", "rotate-root")
    assert "3 keys are wrapped by the new root key" in changed.stderr + changed.stdout
    assert file.read_bytes() != before and not file.with_suffix(".key.next").exists()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for _ in range(2):
        assert region.client("secretsmanager").get_secret_value(SecretId="db")["SecretString"] == SECRET
        assert theirs.get_caller_identity()["Arn"].endswith(":user/ann")
        region.down()
        region.up()
    region.down()

    kept = file.read_bytes()
    file.unlink()
    told = region.run("region", "--listen", "127.0.0.1:0", check=False)
    assert told.returncode == 78 and "root.key is missing, and 3 keys" in told.stderr, told.stderr
    assert not file.exists()
    file.write_bytes(before)
    file.chmod(0o600)
    told = region.run("region", "--listen", "127.0.0.1:0", check=False)
    assert told.returncode == 78 and "are wrapped by" in told.stderr, told.stderr
    file.unlink()

    elsewhere = region.data_dir.parent / "elsewhere.key"
    elsewhere.write_bytes(kept)
    elsewhere.chmod(0o600)
    region.extra = ("--root-key-command", f"cat {elsewhere}")
    region.up()
    ssm = region.client("ssm")
    assert ssm.get_parameter(Name="db", WithDecryption=True)["Parameter"]["Value"] == SECRET
    assert not file.exists()
    region.down()


@pytest.fixture
def terraform(start_region, tmp_path):
    region = start_region(name="terraform-secrets")
    made = Terraform(tmp_path, region, {"name": unique("tf"), "value": "one"}, MAIN)
    return made, region


def test_terraform_makes_changes_and_unmakes_secrets_parameters_and_keys(terraform):
    made, region = terraform
    name = made.environment["TF_VAR_name"]
    secrets, ssm, kms = (region.client(service) for service in ("secretsmanager", "ssm", "kms"))
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")  # 0: no difference
    described = secrets.describe_secret(SecretId=f"{name}/db")
    assert described["Tags"] == [{"Key": "managed-by", "Value": "terraform"}]
    key = kms.describe_key(KeyId=f"alias/{name}")["KeyMetadata"]
    assert described["KmsKeyId"] == key["Arn"]
    group, = region.client("logs").describe_log_groups(logGroupNamePrefix=f"/{name}")["logGroups"]
    assert group["kmsKeyId"] == key["Arn"]
    assert ssm.get_parameter(Name=f"/{name}/secure", WithDecryption=True)["Parameter"]["Value"] == "one"

    made.run("apply", "-auto-approve", value="two")
    made.run("plan", "-detailed-exitcode", value="two")
    assert json.loads(secrets.get_secret_value(SecretId=f"{name}/db")["SecretString"])["password"] == "two"
    assert ssm.get_parameter(Name=f"/{name}/plain")["Parameter"]["Version"] == 2

    made.run("destroy", "-auto-approve", value="two")
    refused(secrets.describe_secret, "ResourceNotFoundException", SecretId=f"{name}/db")
    refused(ssm.get_parameter, "ParameterNotFound", Name=f"/{name}/plain")
    assert kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] == "PendingDeletion"
