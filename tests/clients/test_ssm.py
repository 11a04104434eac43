"""Parameter Store with boto3 and the command line."""

import json

import pytest

from conftest import unique
from services import refused


@pytest.fixture
def ssm(region):
    return region.client("ssm")


def test_a_parameter_has_versions_and_labels(ssm):
    name = f"/{unique('p')}/db"
    assert ssm.put_parameter(Name=name, Value="one", Type="String")["Version"] == 1
    refused(ssm.put_parameter, "ParameterAlreadyExists", Name=name, Value="two", Type="String")
    assert ssm.put_parameter(Name=name, Value="two", Overwrite=True)["Version"] == 2
    ssm.label_parameter_version(Name=name, ParameterVersion=1, Labels=["live"])
    got = ssm.get_parameter(Name=name)["Parameter"]
    assert (got["Value"], got["Version"], got["Type"]) == ("two", 2, "String")
    assert ssm.get_parameter(Name=got["ARN"])["Parameter"]["Value"] == "two"
    for selector in ["1", "live"]:
        got = ssm.get_parameter(Name=f"{name}:{selector}")["Parameter"]
        assert (got["Value"], got["Selector"]) == ("one", f":{selector}")
    history = ssm.get_parameter_history(Name=name)["Parameters"]
    assert [(each["Value"], each["Labels"]) for each in history] == [("one", ["live"]), ("two", [])]
    many = ssm.get_parameters(Names=[name, "none"])
    assert many["InvalidParameters"] == ["none"]
    ssm.delete_parameter(Name=name)
    refused(ssm.get_parameter, "ParameterNotFound", Name=name)


def test_a_secure_string_is_shown_only_decrypted(ssm, region):
    name = unique("p")
    key = region.client("kms").create_key()["KeyMetadata"]["KeyId"]
    for key_id in ["alias/aws/ssm", key]:
        ssm.put_parameter(Name=name, Value="swordfish", Type="SecureString", KeyId=key_id, Overwrite=True)
        assert "swordfish" not in ssm.get_parameter(Name=name)["Parameter"]["Value"]
        assert ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"] == "swordfish"
        described = ssm.describe_parameters(ParameterFilters=[{"Key": "Name", "Values": [name]}])["Parameters"]
        assert [each["KeyId"] for each in described] == [key_id]
    region.client("kms").disable_key(KeyId=key)
    refused(ssm.get_parameter, "InvalidKeyId", "is disabled", Name=name, WithDecryption=True)
    assert ssm.get_parameter(Name=f"{name}:1", WithDecryption=True)["Parameter"]["Value"] == "swordfish"


def test_a_hierarchy_is_read_in_pages(ssm):
    path = "/" + unique("p")
    for number in range(12):
        ssm.put_parameter(Name=f"{path}/{number:02}", Value=str(number), Type="String")
    ssm.put_parameter(Name=f"{path}/deep/er", Value="x", Type="StringList")
    pages = ssm.get_paginator("get_parameters_by_path")
    direct = [each["Name"] for page in pages.paginate(Path=path) for each in page["Parameters"]]
    assert len(direct) == 12
    everything = [each["Name"] for page in pages.paginate(Path=path, Recursive=True) for each in page["Parameters"]]
    assert len(everything) == 13
    deleted = ssm.delete_parameters(Names=everything[:10])
    assert sorted(deleted["DeletedParameters"]) == sorted(everything[:10])


def test_tags_and_the_command_line(ssm, region):
    name = unique("p")
    region.aws("ssm", "put-parameter", "--name", name, "--value", "x", "--type", "String", "--tags", "Key=a,Value=b")
    assert ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"] == [{"Key": "a", "Value": "b"}]
    arn = ssm.get_parameter(Name=name)["Parameter"]["ARN"]
    tagged = region.client("resourcegroupstaggingapi").get_resources(ResourceTypeFilters=["ssm:parameter"])
    assert arn in [each["ResourceARN"] for each in tagged["ResourceTagMappingList"]]
    refused(ssm.put_parameter, "ValidationException", "maximum parameter value of 4096", Name=name, Value="x" * 4097,
            Type="String", Overwrite=True)
    refused(ssm.put_parameter, "AccessDeniedException", "reserved parameter name", Name="/aws/x", Value="x", Type="String")


def test_service_settings_are_their_defaults(ssm):
    setting = "/ssm/parameter-store/default-parameter-tier"
    shown = ssm.get_service_setting(SettingId=setting)["ServiceSetting"]
    assert (shown["SettingValue"], shown["Status"]) == ("Standard", "Default")
    ssm.update_service_setting(SettingId=shown["ARN"], SettingValue="Standard")
    refused(ssm.update_service_setting, "ValidationException", SettingId=setting, SettingValue="Advanced")
    assert ssm.reset_service_setting(SettingId=setting)["ServiceSetting"]["SettingValue"] == "Standard"


def test_policies_hold_until_others_are_put(ssm):
    name = unique("p")
    policies = [
        {"Type": "Expiration", "Version": "1.0", "Attributes": {"Timestamp": "2099-12-02T21:34:33.000Z"}},
        {"Type": "ExpirationNotification", "Version": "1.0", "Attributes": {"Before": "15", "Unit": "Days"}},
        {"Type": "NoChangeNotification", "Version": "1.0", "Attributes": {"After": "20", "Unit": "Days"}},
    ]

    def shown():
        only = [{"Key": "Name", "Values": [name]}]
        found, = ssm.describe_parameters(ParameterFilters=only)["Parameters"]
        return [(each["PolicyType"], each["PolicyStatus"]) for each in found["Policies"]]

    put = {"Name": name, "Type": "String", "Tier": "Advanced", "Overwrite": True}
    ssm.put_parameter(**put, Value="one", Policies=json.dumps(policies))
    expected = [(each["Type"], "Pending") for each in policies]
    assert shown() == expected
    ssm.put_parameter(**put, Value="two")
    assert shown() == expected
    refused(ssm.put_parameter, "IncompatiblePolicyException", **put, Value="x", Policies=json.dumps(policies[1:]))
    ssm.put_parameter(**put, Value="three", Policies="[{}]")
    assert shown() == []
