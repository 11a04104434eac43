"""KMS with boto3: keys, aliases, grants, what they encrypt and for whom."""

import json

import pytest

from conftest import unique
from services import refused


@pytest.fixture
def kms(region):
    return region.client("kms")


def test_a_key_encrypts_for_its_context_and_by_its_alias(kms):
    key = kms.create_key(Description="web", Tags=[{"TagKey": "team", "TagValue": "a"}])["KeyMetadata"]
    assert key["KeyState"] == "Enabled" and key["KeyManager"] == "CUSTOMER"
    alias = "alias/" + unique("k")
    kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
    blob = kms.encrypt(KeyId=alias, Plaintext=b"swordfish", EncryptionContext={"a": "b"})["CiphertextBlob"]
    assert b"swordfish" not in blob
    opened = kms.decrypt(CiphertextBlob=blob, EncryptionContext={"a": "b"})
    assert (opened["Plaintext"], opened["KeyId"]) == (b"swordfish", key["Arn"])
    refused(kms.decrypt, "InvalidCiphertextException", CiphertextBlob=blob, EncryptionContext={"a": "c"})
    data = kms.generate_data_key(KeyId=alias, KeySpec="AES_256")
    assert kms.decrypt(CiphertextBlob=data["CiphertextBlob"])["Plaintext"] == data["Plaintext"]
    assert kms.list_resource_tags(KeyId=key["KeyId"])["Tags"] == [{"TagKey": "team", "TagValue": "a"}]
    assert alias in [each["AliasName"] for page in kms.get_paginator("list_aliases").paginate() for each in page["Aliases"]]


def test_states_are_enforced(kms):
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=key)
    refused(kms.encrypt, "DisabledException", KeyId=key, Plaintext=b"x")
    kms.enable_key(KeyId=key)
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    refused(kms.encrypt, "KMSInvalidStateException", "is pending deletion", KeyId=key, Plaintext=b"x")
    kms.cancel_key_deletion(KeyId=key)
    kms.enable_key(KeyId=key)
    kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=90)
    assert kms.get_key_rotation_status(KeyId=key)["RotationPeriodInDays"] == 90
    kms.rotate_key_on_demand(KeyId=key)
    assert kms.list_key_rotations(KeyId=key)["Rotations"][0]["RotationType"] == "ON_DEMAND"


def test_a_policy_that_locks_its_writer_out_is_refused(kms):
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    policy = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    assert policy["Statement"][0]["Action"] == "kms:*"
    policy["Statement"][0]["Action"] = "kms:Encrypt"
    refused(kms.put_key_policy, "MalformedPolicyDocumentException", "update the key policy in the future", KeyId=key,
            PolicyName="default", Policy=json.dumps(policy))


def test_the_command_line_describes_amazons_own_key(region):
    described = region.aws("kms", "describe-key", "--key-id", "alias/aws/secretsmanager")["KeyMetadata"]
    assert described["KeyManager"] == "AWS"
    refused(region.client("kms").create_key, "UnsupportedOperationException", KeySpec="RSA_2048")


def test_a_grant_lets_a_session_of_its_role_use_a_key_until_it_is_retired(region, kms):
    key, name = kms.create_key()["KeyMetadata"]["KeyId"], unique("r")
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
    role = region.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    given = {"KeyId": key, "GranteePrincipal": role, "Operations": ["Encrypt", "Decrypt"], "Name": "one",
             "Constraints": {"EncryptionContextSubset": {"team": "a"}}, "RetiringPrincipal": "arn:aws:iam::000000000000:root"}
    made = kms.create_grant(**given)
    assert kms.create_grant(**given)["GrantId"] == made["GrantId"]
    shown, = kms.list_grants(KeyId=key)["Grants"]
    assert (shown["GranteePrincipal"], shown["Name"], shown["Operations"]) == (role, "one", ["Decrypt", "Encrypt"])
    assert shown["Constraints"] == {"EncryptionContextSubset": {"team": "a"}}
    found = kms.list_retirable_grants(RetiringPrincipal="arn:aws:iam::000000000000:root")["Grants"]
    assert made["GrantId"] in [each["GrantId"] for each in found]
    refused(kms.create_grant, "InvalidArnException", "valid principal", KeyId=key, Operations=["Decrypt"],
            GranteePrincipal=role + "-gone")
    kms.retire_grant(GrantToken=made["GrantToken"])
    refused(kms.revoke_grant, "NotFoundException", "not found", KeyId=key, GrantId=made["GrantId"])
    assert kms.list_grants(KeyId=key)["Grants"] == []
