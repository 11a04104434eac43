"""STS with boto3: sessions of roles, of users and of whom an identity provider vouches for."""

import json

import boto3
import botocore.config
import pytest

from conftest import unique
from services import refused
from test_iam import READ_ONLY, Home, policy


@pytest.fixture(scope="module")
def home(start_region):
    return Home(start_region(name="sts"))


def trust(principal, action="sts:AssumeRole", **condition):
    return json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": principal, "Action": action, **({"Condition": condition} if condition else {})}]})


def test_a_role_is_assumed_and_its_session_may_what_the_role_may(home):
    name, key = home.user(policy({"Action": "sts:AssumeRole"}))
    role = unique("r")
    arn = home.iam.create_role(
        RoleName=role, Path="/ops/", AssumeRolePolicyDocument=trust(
            {"AWS": "000000000000"}, StringEquals={"sts:ExternalId": "seven"}))["Role"]["Arn"]
    home.iam.attach_role_policy(RoleName=role, PolicyArn=READ_ONLY)
    sts = home.client("sts", key)
    refused(sts.assume_role, "AccessDenied", f"not authorized to perform: sts:AssumeRole on resource: {arn} because no role trust policy",
            RoleArn=arn, RoleSessionName="ci")
    refused(home.region.client("sts").assume_role, "AccessDenied", "Roles may not be assumed by root accounts.",
            RoleArn=arn, RoleSessionName="ci")
    assumed = sts.assume_role(RoleArn=arn, RoleSessionName="ci", ExternalId="seven", DurationSeconds=900)
    session = assumed["Credentials"]
    me = f"arn:aws:sts::000000000000:assumed-role/{role}/ci"
    assert assumed["AssumedRoleUser"]["Arn"] == me
    assert home.client("sts", session).get_caller_identity()["Arn"] == me
    ecs = home.client("ecs", session)
    ecs.list_clusters()
    refused(ecs.create_cluster, "AccessDeniedException", f"User: {me} is not authorized", clusterName="c")
    bare = {**session, "SessionToken": None}
    refused(home.client("ecs", bare).list_clusters, "UnrecognizedClientException")
    refused(sts.assume_role, "ValidationError", "exceeds the MaxSessionDuration set for this role.",
            RoleArn=arn, RoleSessionName="ci", ExternalId="seven", DurationSeconds=7200)
    small = sts.assume_role(RoleArn=arn, RoleSessionName="ci", ExternalId="seven",
                            Policy=policy({"Action": "ecs:ListClusters"}))["Credentials"]
    home.client("ecs", small).list_clusters()
    refused(home.client("ecs", small).list_task_definitions, "AccessDeniedException", "because no session policy allows")
    # What changes is in force at once; what is gone ends its sessions.
    home.iam.detach_role_policy(RoleName=role, PolicyArn=READ_ONLY)
    refused(ecs.list_clusters, "AccessDeniedException")
    home.iam.delete_role(RoleName=role)
    refused(ecs.list_clusters, "UnrecognizedClientException")


def test_sessions_outlive_a_restart(start_region):
    home = Home(start_region(name="sts-restart"))
    _, key = home.user(attached=[READ_ONLY])
    session = home.client("sts", key).get_session_token(DurationSeconds=900)["Credentials"]
    home.region.process.send_signal(15)
    home.region.process.wait(30)
    home.region.up()
    assert home.client("ecs", session).describe_clusters(clusters=["none"])["clusters"] == []


def test_a_users_own_session_and_that_of_a_guest_open_less(home):
    name, key = home.user(policy({"Action": ["ecs:*", "iam:*", "sts:*"]}))
    sts = home.client("sts", key)
    session = sts.get_session_token()["Credentials"]
    assert home.client("sts", session).get_caller_identity()["Arn"].endswith(":user/" + name)
    home.client("ecs", session).list_clusters()
    refused(home.client("iam", session).list_users, "InvalidClientTokenId")
    refused(home.client("sts", session).get_session_token, "AccessDenied", "Cannot call GetSessionToken with session credentials")
    guest = sts.get_federation_token(Name="guest", Policy=policy({"Action": "ecs:ListClusters"}))
    assert guest["FederatedUser"]["Arn"] == "arn:aws:sts::000000000000:federated-user/guest"
    ecs = home.client("ecs", guest["Credentials"])
    ecs.list_clusters()
    refused(ecs.list_task_definitions, "AccessDeniedException", "because no session policy allows")
    account = sts.get_access_key_info(AccessKeyId=key["AccessKeyId"])["Account"]
    assert account == "000000000000"


def test_a_token_that_no_provider_signed_opens_nothing(home):
    url = f"https://{unique('issuer')}.example.com"
    arn = home.iam.create_open_id_connect_provider(Url=url, ClientIDList=["sts.amazonaws.com"])["OpenIDConnectProviderArn"]
    role = home.iam.create_role(RoleName=unique("web"), AssumeRolePolicyDocument=trust(
        {"Federated": arn}, "sts:AssumeRoleWithWebIdentity"))["Role"]["Arn"]
    config = botocore.config.Config(retries={"max_attempts": 0}, signature_version=botocore.UNSIGNED)
    stranger = boto3.client("sts", endpoint_url=home.region.endpoint, region_name="eu-north-1", config=config)
    refused(stranger.assume_role_with_web_identity, "InvalidIdentityToken", "not a valid JWT",
            RoleArn=role, RoleSessionName="ci", WebIdentityToken="not a token")
    # There are no providers of SAML's, so none vouches for anybody.
    refused(stranger.assume_role_with_saml, "InvalidIdentityToken", "Specified provider doesn't exist",
            RoleArn=role, PrincipalArn="arn:aws:iam::000000000000:saml-provider/corp", SAMLAssertion="PHNhbWw+")
    refused(stranger.get_caller_identity, "MissingAuthenticationToken")
