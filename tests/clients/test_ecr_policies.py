"""Policies of repositories and registries, and lifecycle policies, with boto3 and over the registry's port."""

import json

import pytest

from conftest import unique, wait_for
from services import refused
from test_registry_rights import Registry

OWNER, GUEST = "111122223333", "444455556666"


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class Guest(Registry):
    """A login at another account's registry."""

    def __init__(self, region, client, registry):
        self.region = region
        answer = client.get_authorization_token(registryIds=[registry])
        self.token = answer["authorizationData"][0]["authorizationToken"]


@pytest.fixture
def owner(region):
    return region.client("ecr", account=OWNER)


@pytest.fixture
def name(region, owner):
    name = unique("web")
    owner.create_repository(repositoryName=name)
    Registry(region, owner).push(name, "1")
    return name


def test_a_repositorys_policy_lets_another_account_pull_and_not_push(region, owner, name):
    guest = region.client("ecr", account=GUEST)
    login = Guest(region, guest, OWNER)
    pull = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
    path = f"/v2/{name}/manifests/1"
    status, text = login.ask("GET", path)
    assert status == 403 and b"because no resource-based policy allows the ecr:BatchGetImage action" in text
    refused(guest.describe_images, "AccessDeniedException", "ecr:DescribeImages", registryId=OWNER, repositoryName=name)
    policy = document({"Sid": "pull", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{GUEST}:root"},
                       "Action": [*pull, "ecr:DescribeImages"]})
    owner.set_repository_policy(repositoryName=name, policyText=policy)
    assert owner.get_repository_policy(repositoryName=name)["policyText"] == policy
    assert login.ask("GET", path)[0] == 200
    assert len(guest.describe_images(registryId=OWNER, repositoryName=name)["imageDetails"]) == 1
    status, text = login.ask("POST", f"/v2/{name}/blobs/uploads/", b"")
    assert status == 403 and b"ecr:InitiateLayerUpload" in text
    owner.delete_repository_policy(repositoryName=name)
    assert login.ask("GET", path)[0] == 403
    refused(owner.get_repository_policy, "RepositoryPolicyNotFoundException", repositoryName=name)


def test_a_policy_that_would_lock_its_author_out_must_be_forced(owner, name):
    lock = document({"Effect": "Deny", "Principal": "*", "Action": "ecr:SetRepositoryPolicy"})
    refused(owner.set_repository_policy, "InvalidParameterException", "force", repositoryName=name, policyText=lock)
    owner.set_repository_policy(repositoryName=name, policyText=lock, force=True)
    refused(owner.set_repository_policy, "AccessDeniedException", "explicit deny in a resource-based policy",
            repositoryName=name, policyText=lock)
    owner.delete_repository_policy(repositoryName=name)
    refused(owner.set_repository_policy, "InvalidParameterException", "Invalid repository policy provided",
            repositoryName=name, policyText="{}")


def test_a_registrys_policy_is_for_all_of_its_repositories(region, owner, name):
    refused(owner.get_registry_policy, "RegistryPolicyNotFoundException")
    login = Guest(region, region.client("ecr", account=GUEST), OWNER)
    owner.put_registry_policy(policyText=document({
        "Sid": "all", "Effect": "Allow", "Principal": {"AWS": GUEST}, "Action": "ecr:BatchGetImage",
        "Resource": f"arn:aws:ecr:eu-north-1:{OWNER}:repository/*"}))
    assert "all" in owner.get_registry_policy()["policyText"]
    assert login.ask("GET", f"/v2/{name}/manifests/1")[0] == 200
    owner.delete_registry_policy()
    assert login.ask("GET", f"/v2/{name}/manifests/1")[0] == 403


def test_lifecycle_policies_are_kept_checked_and_previewed(region, owner, name):
    refused(owner.get_lifecycle_policy, "LifecyclePolicyNotFoundException", repositoryName=name)
    refused(owner.put_lifecycle_policy, "InvalidParameterException", "Lifecycle policy validation failure",
            repositoryName=name, lifecyclePolicyText=json.dumps({"rules": [{"rulePriority": 1, "description": "x" * 80}]}))
    policy = json.dumps({"rules": [{
        "rulePriority": 1, "description": "keep one", "action": {"type": "expire"},
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1}}]})
    Registry(region, owner).push(name, "2")
    owner.start_lifecycle_policy_preview(repositoryName=name, lifecyclePolicyText=policy)
    preview = owner.get_lifecycle_policy_preview(repositoryName=name)
    assert preview["status"] == "COMPLETE" and preview["summary"]["expiringImageTotalCount"] == 1
    result, = preview["previewResults"]
    assert (result["imageTags"], result["action"], result["appliedRulePriority"]) == (["1"], {"type": "EXPIRE"}, 1)
    owner.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=policy)
    shown = wait_for("the policy's first evaluation", lambda: [
        it for it in [owner.get_lifecycle_policy(repositoryName=name)] if "lastEvaluatedAt" in it])[0]
    assert shown["lifecyclePolicyText"] == policy
    # What is so young stays: its index may be on the way.
    assert len(owner.list_images(repositoryName=name)["imageIds"]) == 2
    assert owner.delete_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"] == policy


def test_a_scan_that_is_asked_for_says_that_nobody_scans(owner, name):
    status = owner.start_image_scan(repositoryName=name, imageId={"imageTag": "1"})["imageScanStatus"]
    assert status["status"] == "FAILED" and "does not scan" in status["description"]


def test_a_registry_replicates_nothing_and_says_what_its_settings_are(owner):
    nothing = {"rules": []}
    assert owner.put_replication_configuration(replicationConfiguration=nothing)["replicationConfiguration"] == nothing
    assert owner.describe_registry()["replicationConfiguration"] == nothing
    there = {"rules": [{"destinations": [{"region": "eu-west-1", "registryId": "000000000000"}]}]}
    refused(owner.put_replication_configuration, "InvalidParameterException", "replicationConfiguration.rules",
            replicationConfiguration=there)
    assert owner.get_account_setting(name="REGISTRY_POLICY_SCOPE")["value"] == "V2"
    owner.put_account_setting(name="BASIC_SCAN_TYPE_VERSION", value="AWS_NATIVE")
    refused(owner.put_account_setting, "InvalidParameterException", name="REGISTRY_POLICY_SCOPE", value="V1")
