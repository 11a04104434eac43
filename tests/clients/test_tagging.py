"""The Resource Groups Tagging API, and the look-ups that tools make before they do anything."""

import pytest
from botocore.exceptions import ClientError

from conftest import unique
from services import only, refused


def test_what_is_tagged_anywhere_is_found_by_its_tags(region, ecs, ecr, logs):
    tagging = region.client("resourcegroupstaggingapi")
    name, key = unique("t"), unique("key")
    cluster = ecs.create_cluster(clusterName=name, tags=[{"key": key, "value": "cluster"}])["cluster"]["clusterArn"]
    repository = ecr.create_repository(repositoryName=name)["repository"]["repositoryArn"]
    logs.create_log_group(logGroupName="/" + name)
    group = only(logs.describe_log_groups(logGroupNamePrefix="/" + name)["logGroups"])["logGroupArn"]
    nothing = repository + "-none"
    answer = tagging.tag_resources(ResourceARNList=[repository, group, nothing], Tags={key: "other"})
    assert answer["FailedResourcesMap"][nothing]["ErrorCode"] == "RepositoryNotFoundException"
    assert list(answer["FailedResourcesMap"]) == [nothing]
    pages = tagging.get_paginator("get_resources").paginate(
        TagFilters=[{"Key": key}], PaginationConfig={"PageSize": 2})
    found = [each["ResourceARN"] for page in pages for each in page["ResourceTagMappingList"]]
    assert found == sorted([cluster, repository, group])
    some = tagging.get_resources(TagFilters=[{"Key": key, "Values": ["other"]}], ResourceTypeFilters=["logs:log-group"])
    assert only(some["ResourceTagMappingList"]) == {
        "ResourceARN": group, "Tags": [{"Key": key, "Value": "other"}]}
    assert key in tagging.get_tag_keys()["TagKeys"]
    assert tagging.get_tag_values(Key=key)["TagValues"] == ["cluster", "other"]
    assert ecr.list_tags_for_resource(resourceArn=repository)["tags"] == [{"Key": key, "Value": "other"}]
    answer = tagging.untag_resources(ResourceARNList=[cluster, repository, group], TagKeys=[key])
    assert answer["FailedResourcesMap"] == {}
    assert tagging.get_resources(TagFilters=[{"Key": key}])["ResourceTagMappingList"] == []


def test_networks_are_found_by_their_tags_too(region):
    tagging, ec2, key = region.client("resourcegroupstaggingapi"), region.client("ec2"), unique("key")
    specified = [{"ResourceType": "vpc", "Tags": [{"Key": key, "Value": "net"}]}]
    made = ec2.create_vpc(CidrBlock="10.77.0.0/16", TagSpecifications=specified)["Vpc"]
    subnet = ec2.create_subnet(VpcId=made["VpcId"], CidrBlock="10.77.1.0/24")["Subnet"]["SubnetArn"]
    vpc = subnet.split(":subnet/")[0] + ":vpc/" + made["VpcId"]
    other = vpc.replace(made["OwnerId"], "999999999999")
    failed = tagging.tag_resources(ResourceARNList=[subnet, other], Tags={key: "sub"})["FailedResourcesMap"]
    assert {arn: why["ErrorCode"] for arn, why in failed.items()} == {other: "InvalidID"}

    def found(**asked):
        answer = tagging.get_resources(TagFilters=[{"Key": key}], **asked)["ResourceTagMappingList"]
        return {each["ResourceARN"]: each["Tags"][0]["Value"] for each in answer}
    assert found() == {vpc: "net", subnet: "sub"}
    assert found(ResourceTypeFilters=["ec2:subnet"]) == {subnet: "sub"}
    assert found(ResourceTypeFilters=["ec2"]) == found()
    assert tagging.untag_resources(ResourceARNList=[vpc], TagKeys=[key])["FailedResourcesMap"] == {}
    assert ec2.describe_vpcs(VpcIds=[made["VpcId"]])["Vpcs"][0].get("Tags", []) == []
    ec2.delete_subnet(SubnetId=subnet.split("/")[-1])
    ec2.delete_vpc(VpcId=made["VpcId"])
    assert found() == {}


def test_the_vpc_is_looked_up_as_terraform_and_the_cdk_do(region):
    ec2 = region.client("ec2")
    vpc = only(ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"])["VpcId"]
    for name, member in [("enableDnsSupport", "EnableDnsSupport"), ("enableDnsHostnames", "EnableDnsHostnames"),
                         ("enableNetworkAddressUsageMetrics", "EnableNetworkAddressUsageMetrics")]:
        assert member in ec2.describe_vpc_attribute(VpcId=vpc, Attribute=name)
    of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
    main = only(ec2.describe_route_tables(Filters=of_vpc + [
        {"Name": "association.main", "Values": ["true"]}])["RouteTables"])
    assert [route["GatewayId"].split("-")[0] for route in main["Routes"]] == ["local", "igw"]
    assert ec2.describe_vpn_gateways(Filters=[{"Name": "attachment.vpc-id", "Values": [vpc]}])["VpnGateways"] == []


def test_a_task_with_a_public_address_is_reached_under_it(services):
    import urllib.request
    arn = only(services.run(services.define(services.web("public"))))
    task = services.until(arn, "RUNNING")
    detail = {each["name"]: each["value"] for each in task["attachments"][0]["details"]}
    ec2 = services.region.client("ec2")
    shown = ec2.describe_network_interfaces(NetworkInterfaceIds=[detail["networkInterfaceId"]])
    address = only(shown["NetworkInterfaces"])["Association"]["PublicIp"]
    from conftest import wait_for

    def answered():
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=2) as answer:
                return answer.read().decode().strip()
        except OSError:
            return None
    assert wait_for("an answer", answered) == "public"
    services.ecs.stop_task(cluster=services.name, task=arn)


def test_a_service_that_is_not_here_is_refused_in_its_own_words(region):
    sqs = region.client("sqs")
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as error:
        sqs.get_queue_url(QueueName="x")
    assert error.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
    refused(sqs.create_queue, "UnsupportedOperation", "not available in Longshore yet", QueueName="x")
    refused(region.client("s3").list_buckets, "NotImplemented", "not available in Longshore yet")
    for service, call, arguments in [("route53", "list_hosted_zones", {}), ("sns", "list_topics", {}),
                                     ("dynamodb", "list_tables", {}), ("lambda", "list_functions", {})]:
        with pytest.raises(ClientError, match="not available in Longshore|no service that is available"):
            getattr(region.client(service), call)(**arguments)


def test_scanning_and_policies_are_answered(ecr):
    name = unique("repo")
    made = ecr.create_repository(repositoryName=name, imageScanningConfiguration={"scanOnPush": True})["repository"]
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}
    for call, code in [(ecr.get_lifecycle_policy, "LifecyclePolicyNotFoundException"),
                       (ecr.delete_lifecycle_policy, "LifecyclePolicyNotFoundException"),
                       (ecr.get_repository_policy, "RepositoryPolicyNotFoundException"),
                       (ecr.delete_repository_policy, "RepositoryPolicyNotFoundException")]:
        refused(call, code, f"the repository with name '{name}'", repositoryName=name)
    policy = '{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":1},"action":{"type":"expire"}}]}'
    ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=policy)
    assert ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"] == policy
