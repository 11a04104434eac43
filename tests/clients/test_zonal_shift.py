"""Zonal shift: traffic of a load balancer led away from a zone for a time, through boto3."""

import datetime

import pytest

from services import only, refused
from test_load_balancers import balancers  # noqa: F401


def test_a_shift_is_started_changed_and_cancelled(region, balancers):  # noqa: F811
    shifts = region.client("arc-zonal-shift")
    made = balancers.balancer()
    arn, group = made["LoadBalancerArn"], balancers.group()
    balancers.listener(arn, group)
    ids = {each["ZoneName"]: each["ZoneId"] for each in region.client("ec2").describe_availability_zones()["AvailabilityZones"]}
    first, second = sorted(zone["ZoneName"] for zone in made["AvailabilityZones"])
    ask = {"resourceIdentifier": arn, "awayFrom": ids[second], "expiresIn": "2h", "comment": "a bad deployment"}
    refused(shifts.start_zonal_shift, "ResourceNotFoundException", "zonal_shift.config.enabled", **ask)
    set_to = lambda value: balancers.elb.modify_load_balancer_attributes(
        LoadBalancerArn=arn, Attributes=[{"Key": "zonal_shift.config.enabled", "Value": value}])
    set_to("true")
    assert arn in [each["arn"] for each in shifts.list_managed_resources()["items"]]
    with pytest.raises(shifts.exceptions.ValidationException) as bad:
        shifts.start_zonal_shift(**{**ask, "expiresIn": "73h"})
    assert bad.value.response["reason"] == "InvalidExpiresIn"

    began = shifts.start_zonal_shift(**ask)
    assert (began["status"], began["awayFrom"], began["resourceIdentifier"]) == ("ACTIVE", ids[second], arn)
    assert began["expiryTime"] - began["startTime"] == datetime.timedelta(hours=2)
    shown = shifts.get_managed_resource(resourceIdentifier=arn)
    assert shown["appliedWeights"] == {ids[first]: 1.0, ids[second]: 0.0}
    assert only(shown["zonalShifts"])["zonalShiftId"] == began["zonalShiftId"]
    with pytest.raises(shifts.exceptions.ConflictException) as twice:
        shifts.start_zonal_shift(**ask)
    assert twice.value.response["reason"] == "ZonalShiftAlreadyExists"
    subnets = region.client("ec2").describe_subnets(Filters=[{"Name": "vpc-id", "Values": [balancers.vpc]}])["Subnets"]
    there = {subnet["AvailabilityZone"]: subnet["CidrBlock"].rsplit(".", 1)[0] + ".99" for subnet in subnets}
    balancers.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": there[first]}, {"Id": there[second]}])
    health = balancers.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    states = {each["Target"]["Id"]: each["AdministrativeOverride"]["State"] for each in health}
    assert states == {there[first]: "no_override", there[second]: "zonal_shift_active"}

    changed = shifts.update_zonal_shift(zonalShiftId=began["zonalShiftId"], expiresIn="30m", comment="it is looked into")
    assert changed["comment"] == "it is looked into" and changed["expiryTime"] < began["expiryTime"]
    assert shifts.cancel_zonal_shift(zonalShiftId=began["zonalShiftId"])["status"] == "CANCELED"
    listed = shifts.list_zonal_shifts(resourceIdentifier=arn)["items"]
    assert [(each["status"], each["shiftType"]) for each in listed] == [("CANCELED", "ZONAL_SHIFT")]
    assert shifts.list_zonal_shifts(status="ACTIVE", resourceIdentifier=arn)["items"] == []
    # With the attribute goes what is active.
    again = shifts.start_zonal_shift(**ask)["zonalShiftId"]
    set_to("false")
    refused(shifts.cancel_zonal_shift, "ConflictException", "CANCELED", zonalShiftId=again)
