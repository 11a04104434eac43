"""IAM with boto3 and the command line: users and what they may, in every service's own words."""

import json
from urllib.parse import quote

import boto3
import botocore.config
import pytest

from conftest import unique
from services import only, refused

READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
TRUST = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}]})


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Resource": "*", **each} for each in statements]})


class Home:
    """A region of these tests' own, and people in it."""

    def __init__(self, region):
        self.region = region
        self.iam = region.client("iam")

    def client(self, service, key, token=None, region_name="eu-north-1"):
        config = botocore.config.Config(retries={"max_attempts": 0})
        return boto3.client(service, endpoint_url=self.region.endpoint, region_name=region_name, config=config,
                            aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"],
                            aws_session_token=token or key.get("SessionToken"))

    def user(self, *documents, attached=()):
        """A new user with these policies, and a key of it."""
        name = unique("u")
        self.iam.create_user(UserName=name)
        for place, document in enumerate(documents):
            self.iam.put_user_policy(UserName=name, PolicyName=f"p{place}", PolicyDocument=document)
        for arn in attached:
            self.iam.attach_user_policy(UserName=name, PolicyArn=arn)
        return name, self.iam.create_access_key(UserName=name)["AccessKey"]


@pytest.fixture(scope="module")
def home(start_region):
    return Home(start_region(name="iam"))


def test_a_user_with_a_read_only_policy_reads_and_changes_nothing(home):
    name, key = home.user(attached=[READ_ONLY])
    me = f"arn:aws:iam::000000000000:user/{name}"
    assert home.client("sts", key).get_caller_identity()["Arn"] == me
    ecs, ecr, ec2, logs, iam, tags = [home.client(service, key) for service in (
        "ecs", "ecr", "ec2", "logs", "iam", "resourcegroupstaggingapi")]
    assert ecs.list_clusters()["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert ecs.describe_clusters(clusters=["none"])["clusters"] == []
    assert ecr.describe_repositories()["repositories"] == []
    assert len(ec2.describe_vpcs()["Vpcs"]) == 1
    assert logs.describe_log_groups()["logGroups"] == []
    assert tags.get_resources()["ResourceTagMappingList"] == []
    assert iam.get_user()["User"]["UserName"] == name
    why = f"User: {me} is not authorized to perform: "
    refused(ecs.create_cluster, "AccessDeniedException", why + "ecs:CreateCluster on resource: ", clusterName="c")
    refused(ecs.run_task, "AccessDeniedException", why + "ecs:RunTask on resource: ", taskDefinition="a")
    refused(ecr.create_repository, "AccessDeniedException", why + "ecr:CreateRepository", repositoryName="web")
    refused(logs.create_log_group, "AccessDeniedException", why + "logs:CreateLogGroup", logGroupName="g")
    found = refused(iam.create_user, "AccessDenied", why + "iam:CreateUser on resource: arn:aws:iam::", UserName="eve")
    assert found["Message"].endswith("because no identity-based policy allows the iam:CreateUser action")
    refused(iam.delete_user, "AccessDenied", f"on resource: user {name} because", UserName=name)


def test_ec2_says_it_in_a_form_of_its_own_which_is_decoded_for_who_may(home):
    _, key = home.user(policy({"Action": "sts:DecodeAuthorizationMessage"}))
    message = refused(home.client("ec2", key).describe_vpcs, "UnauthorizedOperation")["Message"]
    assert message.startswith("You are not authorized to perform this operation. User: ")
    encoded = message.rsplit("Encoded authorization failure message: ", 1)[1]
    decoded = json.loads(home.client("sts", key).decode_authorization_message(EncodedMessage=encoded)["DecodedMessage"])
    assert (decoded["allowed"], decoded["context"]["action"]) == (False, "ec2:DescribeVpcs")


def test_no_cluster_named_is_the_default_one_for_policies_too(home):
    arn = home.region.client("ecs").create_cluster(clusterName="default")["cluster"]["clusterArn"]
    barred = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "ecs:*", "Resource": "*"}, {"Effect": "Deny", "Action": "ecs:*", "Resource": arn}]})
    _, key = home.user(barred)
    for named in ({}, {"clusters": []}, {"clusters": ["default"]}):
        refused(home.client("ecs", key).describe_clusters, "AccessDeniedException", "explicit deny", **named)
    _, key = home.user(policy({"Action": "ecs:DescribeClusters", "Resource": arn}))
    assert [it["clusterArn"] for it in home.client("ecs", key).describe_clusters()["clusters"]] == [arn]


def test_boundaries_have_their_documented_type_and_a_role_that_is_not_passed_its_arn(home):
    name = unique("b")
    home.iam.create_user(UserName=name, PermissionsBoundary=READ_ONLY)
    boundary = home.iam.get_user(UserName=name)["User"]["PermissionsBoundary"]
    assert boundary == {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": READ_ONLY}
    role, profile = unique("r"), unique("i")
    arn = home.iam.create_role(RoleName=role, Path="/svc/", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    home.iam.create_instance_profile(InstanceProfileName=profile)
    _, key = home.user(policy({"Action": "iam:AddRoleToInstanceProfile"}))
    refused(home.client("iam", key).add_role_to_instance_profile, "AccessDenied", f"iam:PassRole on resource: {arn} because",
            InstanceProfileName=profile, RoleName=role)


def test_a_key_opens_as_long_as_it_is_active_and_tells_when_it_was_used(home):
    name, key = home.user(attached=[READ_ONLY])
    id = key["AccessKeyId"]
    assert home.iam.get_access_key_last_used(AccessKeyId=id)["AccessKeyLastUsed"]["ServiceName"] == "N/A"
    ecs, sts = home.client("ecs", key), home.client("sts", key)
    ecs.list_clusters()
    used = home.iam.get_access_key_last_used(AccessKeyId=id)
    assert (used["UserName"], used["AccessKeyLastUsed"]["ServiceName"]) == (name, "ecs")
    home.iam.update_access_key(UserName=name, AccessKeyId=id, Status="Inactive")
    refused(ecs.list_clusters, "UnrecognizedClientException", "The security token included in the request is invalid")
    refused(sts.get_caller_identity, "InvalidClientTokenId")
    refused(home.client("ec2", key).describe_vpcs, "AuthFailure")
    home.iam.update_access_key(UserName=name, AccessKeyId=id, Status="Active")
    ecs.list_clusters()
    wrong = {**key, "SecretAccessKey": "x" * 40}
    refused(home.client("sts", wrong).get_caller_identity, "SignatureDoesNotMatch")
    home.iam.delete_access_key(UserName=name, AccessKeyId=id)
    refused(sts.get_caller_identity, "InvalidClientTokenId")


def test_no_secret_of_a_user_lies_in_the_store(home):
    _, key = home.user()
    secret = key["SecretAccessKey"].encode()
    for file in home.region.data_dir.rglob("*"):
        if file.is_file() and file.name != "keys.json":
            assert secret not in file.read_bytes(), file


def test_lists_come_in_pages_and_by_path(home):
    path = f"/{unique('p')}/"
    names = [unique("page") for _ in range(5)]
    for name in names:
        home.iam.create_user(UserName=name, Path=path)
        home.iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=TRUST)
    for operation, member, what in [("list_users", "Users", "UserName"), ("list_roles", "Roles", "RoleName")]:
        pages = home.iam.get_paginator(operation).paginate(PathPrefix=path, PaginationConfig={"PageSize": 2})
        pages = [[each[what] for each in page[member]] for page in pages]
        assert [len(page) for page in pages] == [2, 2, 1]
        assert sum(pages, []) == sorted(names)
    assert home.iam.list_users(PathPrefix=path + "none/")["Users"] == []
    policies = home.iam.get_paginator("list_policies").paginate(Scope="AWS", PaginationConfig={"PageSize": 10})
    arns = [each["Arn"] for page in policies for each in page["Policies"]]
    assert READ_ONLY in arns and len(arns) == len(set(arns))


def test_a_document_comes_back_as_it_was_written(home):
    document = '{\n  "Version": "2012-10-17",\n  "Statement": [{"Sid": "A1", "Effect": "Allow", "Action": ["ecs:*"], "Resource": "*"}]\n}'
    name = unique("p")
    arn = home.iam.create_policy(PolicyName=name, PolicyDocument=document, Tags=[{"Key": "a", "Value": "b"}])["Policy"]["Arn"]
    shown = home.iam.get_policy(PolicyArn=arn)["Policy"]
    assert (shown["DefaultVersionId"], shown["AttachmentCount"], shown["Tags"]) == ("v1", 0, [{"Key": "a", "Value": "b"}])
    version = home.iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]
    assert version["Document"] == json.loads(document)
    client = home.iam
    raw = {}
    client.meta.events.register("before-parse.iam.GetPolicyVersion", lambda response_dict, **_: raw.update(response_dict))
    client.get_policy_version(PolicyArn=arn, VersionId="v1")
    assert quote(document, safe="-_.~").encode() in raw["body"]


def test_what_is_asked_of_everyday_tools_is_answered(home):
    summary = home.iam.get_account_summary()["SummaryMap"]
    assert summary["AccessKeysPerUserQuota"] == 2
    roles = [role["RoleName"] for role in home.iam.list_roles()["Roles"]]
    assert "ecsTaskExecutionRole" in roles
    other = home.region.client("iam", account="123456789012")
    role = other.get_role(RoleName="ecsTaskExecutionRole")["Role"]
    assert role["Arn"] == "arn:aws:iam::123456789012:role/ecsTaskExecutionRole"
    statement = only(role["AssumeRolePolicyDocument"]["Statement"])
    assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
    name, _ = home.user(policy({"Action": "ecs:Describe*"}))
    for call in (home.iam.list_mfa_devices, home.iam.list_ssh_public_keys, home.iam.list_signing_certificates,
                 home.iam.list_service_specific_credentials):
        assert call(UserName=name)["ResponseMetadata"]["HTTPStatusCode"] == 200
    refused(home.iam.get_login_profile, "NoSuchEntity", UserName=name)
    refused(home.iam.get_login_profile, "NoSuchEntity", "Login Profile for User root cannot be found.")
    # What there is none of.
    assert home.iam.list_server_certificates()["ServerCertificateMetadataList"] == []
    assert home.iam.list_saml_providers()["SAMLProviderList"] == []
    refused(home.iam.get_server_certificate, "NoSuchEntity", ServerCertificateName="web")
    refused(home.iam.delete_saml_provider, "NoSuchEntity", "Manifest not found for arn",
            SAMLProviderArn="arn:aws:iam::000000000000:saml-provider/corp")
    for managed in ("IAMUserChangePassword", "SecurityAudit", "service-role/AWSLambdaBasicExecutionRole"):
        shown = home.iam.get_policy(PolicyArn=f"arn:aws:iam::aws:policy/{managed}")["Policy"]
        version = home.iam.get_policy_version(PolicyArn=shown["Arn"], VersionId=shown["DefaultVersionId"])
        assert version["PolicyVersion"]["Document"]["Statement"], managed
    simulated = home.iam.simulate_principal_policy(
        PolicySourceArn=f"arn:aws:iam::000000000000:user/{name}", ActionNames=["ecs:DescribeTasks", "ecs:RunTask"])
    assert [each["EvalDecision"] for each in simulated["EvaluationResults"]] == ["allowed", "implicitDeny"]
    custom = home.iam.simulate_custom_policy(
        PolicyInputList=[policy({"Action": "ecs:*", "Condition": {"StringEquals": {"aws:username": "ann"}}})],
        ActionNames=["ecs:RunTask"],
        ContextEntries=[{"ContextKeyName": "aws:username", "ContextKeyType": "string", "ContextKeyValues": ["ann"]}])
    assert only(custom["EvaluationResults"])["EvalDecision"] == "allowed"
    keys = home.iam.get_context_keys_for_custom_policy(
        PolicyInputList=[policy({"Action": "ecs:*", "Condition": {"Bool": {"aws:SecureTransport": "true"}}})])
    assert keys["ContextKeyNames"] == ["aws:SecureTransport"]
    details = home.iam.get_account_authorization_details(Filter=["Role"])
    assert details["UserDetailList"] == [] and details["RoleDetailList"]


def test_the_role_of_a_service_is_made_with_its_first_use(home):
    name, account = "AWSServiceRoleForECS", "210987654321"
    iam, ecs = (home.region.client(service, account=account) for service in ("iam", "ecs"))
    refused(iam.get_role, "NoSuchEntity", RoleName=name)
    ecs.create_cluster(clusterName="first")
    role = iam.get_role(RoleName=name)["Role"]
    assert role["Path"] == "/aws-service-role/ecs.amazonaws.com/"
    task = iam.delete_service_linked_role(RoleName=name)["DeletionTaskId"]
    assert iam.get_service_linked_role_deletion_status(DeletionTaskId=task)["Status"] == "SUCCEEDED"
    ecs.create_cluster(clusterName="second")
    assert iam.get_role(RoleName=name)["Role"]["RoleId"] != role["RoleId"]
    assert iam.get_service_linked_role_deletion_status(DeletionTaskId=task)["Status"] == "SUCCEEDED"


def test_iam_is_called_for_its_home_region_and_for_the_regions_own(home):
    _, key = home.user(attached=[READ_ONLY])
    for name in ("us-east-1", "eu-north-1"):
        config = botocore.config.Config(signature_version="v4")
        for service in ("iam", "sts"):
            session = boto3.Session(aws_access_key_id=key["AccessKeyId"], region_name=name,
                                    aws_secret_access_key=key["SecretAccessKey"])
            client = session.client(service, endpoint_url=home.region.endpoint, config=config)
            assert (client.get_user if service == "iam" else client.get_caller_identity)()
    refused(home.client("ecs", key, region_name="us-east-1").list_clusters, "InvalidSignatureException")


def test_users_roles_and_keys_outlive_a_restart(start_region):
    home = Home(start_region(name="iam-restart"))
    name, key = home.user(attached=[READ_ONLY])
    home.region.process.send_signal(15)
    home.region.process.wait(30)
    home.region.up()
    again = Home(home.region)
    assert again.iam.get_user(UserName=name)["User"]["UserName"] == name
    assert again.client("ecs", key).describe_clusters(clusters=["none"])["clusters"] == []
