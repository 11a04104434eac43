"""Resource policies of CloudWatch Logs: kept, shown in pages, changed by their revision, and made by Terraform."""

import json

import pytest

from conftest import unique
from services import refused
from terraforming import Terraform, head


def policy(effect="Allow", **statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [{
        "Effect": effect, "Principal": {"Service": "delivery.logs.amazonaws.com"},
        "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": "*", **statement}]})


@pytest.fixture(scope="module")
def home(start_region):
    return start_region(name="log-policies")


@pytest.fixture
def logs(home):
    return home.client("logs")


def test_policies_of_an_account_are_ten_and_come_in_pages(home):
    logs = home.client("logs", account="111122223333")
    for n in range(10):
        put = logs.put_resource_policy(policyName=f"p{n}", policyDocument=policy())["resourcePolicy"]
        assert (put["policyName"], put["policyScope"], put["policyDocument"]) == (f"p{n}", "ACCOUNT", policy())
    refused(logs.put_resource_policy, "LimitExceededException", "Resource limit exceeded.", policyName="p10",
            policyDocument=policy())
    pages = logs.get_paginator("describe_resource_policies").paginate(PaginationConfig={"PageSize": 3})
    pages = [[each["policyName"] for each in page["resourcePolicies"]] for page in pages]
    assert [len(page) for page in pages] == [3, 3, 3, 1] and sorted(sum(pages, [])) == [f"p{n}" for n in range(10)]
    before = logs.describe_resource_policies()["resourcePolicies"][0]["lastUpdatedTime"]
    changed = logs.put_resource_policy(policyName="p0", policyDocument=policy("Deny"))["resourcePolicy"]
    assert changed["policyDocument"] == policy("Deny") and changed["lastUpdatedTime"] >= before
    logs.delete_resource_policy(policyName="p0")
    refused(logs.delete_resource_policy, "ResourceNotFoundException", "p0", policyName="p0")
    assert len(logs.describe_resource_policies()["resourcePolicies"]) == 9
    # They are one account's.
    assert home.client("logs", account="444455556666").describe_resource_policies()["resourcePolicies"] == []


def test_a_groups_policy_is_changed_by_its_revision_and_goes_with_the_group(logs, home):
    group = unique("/g")
    logs.create_log_group(logGroupName=group)
    arn = f"arn:aws:logs:eu-north-1:000000000000:log-group:{group}"
    first = logs.put_resource_policy(policyName="own", resourceArn=arn, policyDocument=policy())
    assert (first["resourcePolicy"]["policyScope"], first["resourcePolicy"]["resourceArn"]) == ("RESOURCE", arn)
    refused(logs.put_resource_policy, "InvalidParameterException", "expectedRevisionId", resourceArn=arn,
            policyDocument=policy("Deny"))
    refused(logs.put_resource_policy, "OperationAbortedException", "revision", resourceArn=arn, policyDocument=policy(),
            expectedRevisionId="none")
    second = logs.put_resource_policy(resourceArn=arn, policyDocument=policy("Deny"), expectedRevisionId=first["revisionId"])
    assert second["revisionId"] != first["revisionId"]
    shown, = logs.describe_resource_policies(resourceArn=arn)["resourcePolicies"]
    assert (shown["policyDocument"], shown["revisionId"]) == (policy("Deny"), second["revisionId"])
    assert [each["resourceArn"] for each in logs.describe_resource_policies(policyScope="RESOURCE")["resourcePolicies"]] == [arn]
    assert logs.describe_resource_policies()["resourcePolicies"] == []
    home.process.kill()
    home.process.wait()
    home.up()
    logs = home.client("logs")
    assert logs.describe_resource_policies(resourceArn=arn)["resourcePolicies"] == [shown]
    logs.delete_log_group(logGroupName=group)
    logs.create_log_group(logGroupName=group)
    assert logs.describe_resource_policies(resourceArn=arn)["resourcePolicies"] == []
    refused(logs.put_resource_policy, "ResourceNotFoundException", "log group", resourceArn=arn + "-none",
            policyDocument=policy())


@pytest.mark.parametrize("document, why", [
    ("{", "Syntax errors"), ('{"Version": "2012-10-17"}', ""), (policy(Principal="nobody"), ""), (policy(Effect="Maybe"), ""),
    (policy(Resource=["x" * 51_200]), "51200"),
])
def test_what_is_no_policy_is_refused(logs, document, why):
    refused(logs.put_resource_policy, "InvalidParameterException", why, policyName="p", policyDocument=document)


MAIN = head("iam", "logs", "sts", asks_account=True) + """
variable "name" { type = string }
variable "service" { type = string }

data "aws_iam_policy_document" "writes" {
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.dns.arn}:*"]
    principals {
      type        = "Service"
      identifiers = [var.service]
    }
  }
}

resource "aws_cloudwatch_log_group" "dns" {
  name = "/dns/${var.name}"
}

resource "aws_cloudwatch_log_resource_policy" "dns" {
  policy_name     = var.name
  policy_document = data.aws_iam_policy_document.writes.json
}
"""


def test_terraform_makes_changes_and_unmakes_a_policy(start_region, tmp_path):
    region, name = start_region(name="terraform-logs"), unique("tf")
    made = Terraform(tmp_path, region, {"name": name, "service": "route53.amazonaws.com"}, MAIN)
    made.run("apply", "-auto-approve")
    made.run("plan", "-detailed-exitcode")  # 0: no difference
    logs = region.client("logs")
    shown, = logs.describe_resource_policies()["resourcePolicies"]
    assert shown["policyName"] == name and "route53.amazonaws.com" in shown["policyDocument"]
    made.run("apply", "-auto-approve", service="es.amazonaws.com")
    made.run("plan", "-detailed-exitcode", service="es.amazonaws.com")
    shown, = logs.describe_resource_policies()["resourcePolicies"]
    assert "es.amazonaws.com" in shown["policyDocument"]
    made.run("destroy", "-auto-approve")
    assert logs.describe_resource_policies()["resourcePolicies"] == []
