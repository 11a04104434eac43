"""Managed prefix lists through boto3: versions and bounds, and what rules and routes that name one do as it changes."""

import pytest

from conftest import unique, wait_for
from services import only, refused
from test_vpcs import answer_at, inhabitants, interface_of, site, twin  # noqa: F401 (fixtures)


@pytest.fixture
def lists(region):
    """Makes lists, and takes them down."""
    ec2, made = region.client("ec2"), []

    def make(size=5, entries=(), family="IPv4", **more):
        found = ec2.create_managed_prefix_list(
            PrefixListName=unique("list"), MaxEntries=size, AddressFamily=family,
            Entries=[{"Cidr": cidr, "Description": f"for {cidr}"} for cidr in entries], **more)["PrefixList"]
        made.append(found["PrefixListId"])
        return found["PrefixListId"]

    yield make
    for name in made:
        try:
            ec2.delete_managed_prefix_list(PrefixListId=name)
        except ec2.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "InvalidPrefixListID.NotFound", error


def set_to(ec2, name, *entries):
    there = [{"Cidr": each["Cidr"]} for each in ec2.get_managed_prefix_list_entries(PrefixListId=name)["Entries"]]
    version = only(ec2.describe_managed_prefix_lists(PrefixListIds=[name])["PrefixLists"])["Version"]
    ec2.modify_managed_prefix_list(PrefixListId=name, CurrentVersion=version, RemoveEntries=there,
                                   AddEntries=[{"Cidr": cidr} for cidr in entries])


def test_a_list_has_versions_and_bounds(region, lists):
    ec2 = region.client("ec2")
    name = lists(3, ["10.1.2.3/16", "192.0.2.0/24"], TagSpecifications=[
        {"ResourceType": "prefix-list", "Tags": [{"Key": "for", "Value": "offices"}]}])
    shown = only(ec2.describe_managed_prefix_lists(PrefixListIds=[name])["PrefixLists"])
    assert (shown["State"], shown["Version"], shown["MaxEntries"], shown["AddressFamily"]) == ("create-complete", 1, 3, "IPv4")
    assert shown["Tags"] == [{"Key": "for", "Value": "offices"}] and shown["PrefixListArn"].endswith(f":prefix-list/{name}")
    entries = ec2.get_managed_prefix_list_entries(PrefixListId=name)["Entries"]
    assert entries == [{"Cidr": "10.1.0.0/16", "Description": "for 10.1.2.3/16"},
                       {"Cidr": "192.0.2.0/24", "Description": "for 192.0.2.0/24"}]
    first = ec2.get_managed_prefix_list_entries(PrefixListId=name, MaxResults=1)
    rest = ec2.get_managed_prefix_list_entries(PrefixListId=name, MaxResults=1, NextToken=first["NextToken"])
    assert first["Entries"] + rest["Entries"] == entries and "NextToken" not in rest

    change = ec2.modify_managed_prefix_list
    refused(change, "PrefixListVersionMismatch", PrefixListId=name, CurrentVersion=2, AddEntries=[{"Cidr": "10.9.0.0/16"}])
    refused(change, "InvalidParameterCombination", PrefixListId=name, CurrentVersion=1, MaxEntries=9,
            AddEntries=[{"Cidr": "10.9.0.0/16"}])
    refused(change, "InvalidPrefixListModification", "does not exist", PrefixListId=name, CurrentVersion=1,
            RemoveEntries=[{"Cidr": "10.9.0.0/16"}])
    refused(change, "PrefixListMaxEntriesExceeded", PrefixListId=name, CurrentVersion=1,
            AddEntries=[{"Cidr": "10.8.0.0/16"}, {"Cidr": "10.9.0.0/16"}])
    changed = change(PrefixListId=name, CurrentVersion=1, AddEntries=[{"Cidr": "10.8.0.0/16"}])["PrefixList"]
    assert (changed["Version"], changed["State"]) == (2, "modify-complete")
    assert change(PrefixListId=name, PrefixListName="homes", MaxEntries=3)["PrefixList"]["Version"] == 2
    refused(ec2.get_managed_prefix_list_entries, "InvalidParameterValue", "is not available", PrefixListId=name,
            TargetVersion=9)
    found = ec2.describe_managed_prefix_lists(Filters=[{"Name": "tag:for", "Values": ["off*"]}])["PrefixLists"]
    assert only(found)["PrefixListName"] == "homes"
    refused(ec2.create_managed_prefix_list, "InvalidParameterValue", PrefixListName="x", MaxEntries=1_001, AddressFamily="IPv4")
    ec2.delete_managed_prefix_list(PrefixListId=name)
    refused(ec2.describe_managed_prefix_lists, "InvalidPrefixListID.NotFound", name, PrefixListIds=[name])


def test_lists_of_aws_are_known_by_name_and_empty(region):
    ec2 = region.client("ec2")
    named = [{"Name": "prefix-list-name", "Values": ["com.amazonaws.eu-north-1.s3"]}]
    listed = only(ec2.describe_managed_prefix_lists(Filters=named)["PrefixLists"])
    assert listed["OwnerId"] == "AWS"
    assert ec2.get_managed_prefix_list_entries(PrefixListId=listed["PrefixListId"])["Entries"] == []
    assert only(ec2.describe_prefix_lists(Filters=named)["PrefixLists"])["PrefixListId"] == listed["PrefixListId"]
    refused(ec2.delete_managed_prefix_list, "InvalidParameterValue", "AWS's", PrefixListId=listed["PrefixListId"])


def test_what_names_a_list_counts_for_as_many_as_it_may_have_and_keeps_it(site, lists):  # noqa: F811
    ec2 = site.ec2
    name, large, six = lists(400), lists(601), lists(5, family="IPv6")
    group = ec2.create_security_group(GroupName=site.name, Description="lists", VpcId=site.vpc)["GroupId"]

    def rule(of, protocol="tcp", port=80):
        return {"IpProtocol": protocol, "FromPort": port, "ToPort": port, "PrefixListIds": [{"PrefixListId": of, "Description": "it"}]}

    made = only(ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule(name)])["SecurityGroupRules"])
    assert made["PrefixListId"] == name
    refused(ec2.authorize_security_group_ingress, "InvalidPermission.Duplicate", name, GroupId=group, IpPermissions=[rule(name)])
    refused(ec2.authorize_security_group_ingress, "RulesPerSecurityGroupLimitExceeded", GroupId=group, IpPermissions=[rule(large)])
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule(name, "udp"), rule(six)])
    refused(ec2.modify_managed_prefix_list, "RulesPerSecurityGroupLimitExceeded", PrefixListId=name, MaxEntries=501)
    shown = only(ec2.describe_security_groups(Filters=[
        {"Name": "ip-permission.prefix-list-id", "Values": [name]}])["SecurityGroups"])
    assert shown["GroupId"] == group

    table, gateway = site.table(), ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=site.vpc)
    leads = {"RouteTableId": table, "GatewayId": gateway}
    ec2.create_route(DestinationPrefixListId=name, **leads)
    refused(ec2.create_route, "RouteAlreadyExists", name, DestinationPrefixListId=name, **leads)
    refused(ec2.create_route, "RouteLimitExceeded", DestinationPrefixListId=large, **leads)
    refused(ec2.create_route, "UnsupportedOperation", six, DestinationPrefixListId=six, **leads)
    ec2.replace_route(DestinationPrefixListId=name, **leads)
    routes = only(ec2.describe_route_tables(Filters=[
        {"Name": "route.destination-prefix-list-id", "Values": [name]}])["RouteTables"])["Routes"]
    assert [(each.get("DestinationPrefixListId"), each.get("GatewayId"), each["State"]) for each in routes] == [
        (None, "local", "active"), (name, gateway, "active")]
    held = ec2.get_managed_prefix_list_associations(PrefixListId=name)["PrefixListAssociations"]
    assert [each["ResourceId"] for each in held] == [table, group]
    refused(ec2.delete_managed_prefix_list, "DependencyViolation", table, PrefixListId=name)

    ec2.delete_route(RouteTableId=table, DestinationPrefixListId=name)
    rules = only(ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"])["IpPermissions"]
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rules)
    ec2.delete_managed_prefix_list(PrefixListId=name)


def test_tasks_are_reached_as_lists_say_now(site, inhabitants, lists):  # noqa: F811
    ec2 = site.ec2
    friends, ways = lists(), lists()
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=site.vpc)
    out = site.table()
    ec2.create_route(RouteTableId=out, DestinationPrefixListId=ways, GatewayId=gateway)
    ec2.associate_route_table(RouteTableId=out, SubnetId=site.subnets[0])
    group = ec2.create_security_group(GroupName=site.name, Description="web", VpcId=site.vpc)["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "PrefixListIds": [{"PrefixListId": friends}]}])
    task = inhabitants.until_web(inhabitants.start_web(site, 0, "open", assignPublicIp="ENABLED", securityGroups=[group]))
    private = inhabitants.cluster.address(task)
    public = interface_of(site, task)["Association"]["PublicIp"]
    # One asks again and again, from another subnet.
    asks = f"while :; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {private} 80 | tail -1 | grep . || echo nothing; sleep 0.2; done"
    asking = inhabitants.run(site, 1, "sh", "-c", asks)
    inhabitants.cluster.until(asking, "RUNNING")
    last = lambda: (inhabitants.cluster.lines(asking) or [None])[-1]  # noqa: E731
    wait_for("nobody is let in by an empty list", lambda: last() == "nothing")
    assert answer_at(public) is None
    set_to(ec2, friends, "10.20.1.0/24")
    wait_for("the friends' network", lambda: last() == "open")
    assert answer_at(public) is None, "the host is none of them"
    set_to(ec2, friends, "0.0.0.0/0")
    assert answer_at(public) is None, "and no way leads to it"
    set_to(ec2, ways, "0.0.0.0/1", "128.0.0.0/1")
    wait_for("the ways that the list says", lambda: answer_at(public) == "open")
    set_to(ec2, ways)
    wait_for("no way", lambda: answer_at(public) is None)
    set_to(ec2, friends)
    wait_for("no friends", lambda: last() == "nothing")
    inhabitants.clean_up()
    # A list goes after what names it.
    ec2.delete_route(RouteTableId=out, DestinationPrefixListId=ways)
    ec2.delete_security_group(GroupId=group)


def test_a_list_goes_back_to_a_version_of_before(region):
    ec2 = region.client("ec2")
    made = ec2.create_managed_prefix_list(PrefixListName=unique("list"), MaxEntries=5, AddressFamily="IPv4",
                                          Entries=[{"Cidr": "10.1.0.0/16"}])["PrefixList"]
    name = made["PrefixListId"]
    ec2.modify_managed_prefix_list(PrefixListId=name, CurrentVersion=1, AddEntries=[{"Cidr": "10.2.0.0/16"}],
                                   RemoveEntries=[{"Cidr": "10.1.0.0/16"}])
    was = ec2.get_managed_prefix_list_entries(PrefixListId=name, TargetVersion=1)["Entries"]
    assert [entry["Cidr"] for entry in was] == ["10.1.0.0/16"]
    back = ec2.restore_managed_prefix_list_version(PrefixListId=name, PreviousVersion=1, CurrentVersion=2)["PrefixList"]
    assert (back["Version"], back["State"]) == (3, "restore-complete")
    now = ec2.get_managed_prefix_list_entries(PrefixListId=name)["Entries"]
    assert [entry["Cidr"] for entry in now] == ["10.1.0.0/16"]
    ec2.delete_managed_prefix_list(PrefixListId=name)
