//! DescribeAvailabilityZones, DescribeRegions, DescribeAccountAttributes.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;

use super::filter::{apply, by_id};
use crate::Ec2;
use crate::errors::{Kind, unless_dry};

pub(crate) async fn describe_availability_zones(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeAvailabilityZonesRequest,
) -> Result<api::DescribeAvailabilityZonesResult, ApiError> {
    let view =
        ec2.control.read(caller, &Permission::to("ec2:DescribeAvailabilityZones").on("*"))?;
    unless_dry(input.dry_run)?;
    let vpc = ec2.control.own_vpc(&view, caller)?;
    let name = ec2.control.config.region.to_string();
    let zones = vpc.subnets.iter().map(|subnet| api::AvailabilityZone {
        opt_in_status: Some(api::AvailabilityZoneOptInStatus::OptInNotRequired),
        messages: Some(vec![]),
        region_name: Some(name.clone()),
        zone_name: Some(subnet.zone.clone()),
        zone_id: Some(subnet.zone_id.clone()),
        group_name: Some(format!("{name}-zg-1")),
        network_border_group: Some(name.clone()),
        zone_type: Some("availability-zone".to_owned()),
        state: Some(api::AvailabilityZoneState::Available),
        ..api::AvailabilityZone::default()
    });
    let missing = Kind::AvailabilityZone.refused();
    let names = input.zone_names.as_deref();
    let zones = by_id(zones.collect(), names, |zone| zone.zone_name.as_deref(), missing)?;
    let zones = by_id(zones, input.zone_ids.as_deref(), |zone| zone.zone_id.as_deref(), missing)?;
    let known = [
        "group-name",
        "opt-in-status",
        "region-name",
        "state",
        "zone-id",
        "zone-name",
        "zone-type",
    ];
    let filters = input.filters.as_deref();
    let zones = apply(zones, filters, &known, &|zone: &api::AvailabilityZone, name| {
        let value = match name {
            "group-name" => zone.group_name.clone(),
            "region-name" => zone.region_name.clone(),
            "opt-in-status" => zone.opt_in_status.as_ref().map(ToString::to_string),
            "state" => zone.state.as_ref().map(ToString::to_string),
            "zone-id" => zone.zone_id.clone(),
            "zone-name" => zone.zone_name.clone(),
            "zone-type" => zone.zone_type.clone(),
            _ => return None,
        };
        Some(value.into_iter().collect())
    })?;
    Ok(api::DescribeAvailabilityZonesResult { availability_zones: Some(zones) })
}

pub(crate) async fn describe_regions(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeRegionsRequest,
) -> Result<api::DescribeRegionsResult, ApiError> {
    ec2.control.read(caller, &Permission::to("ec2:DescribeRegions").on("*"))?;
    unless_dry(input.dry_run)?;
    let only = api::Region {
        opt_in_status: Some("opt-in-not-required".to_owned()),
        region_name: Some(ec2.control.config.region.to_string()),
        endpoint: Some(ec2.control.registry_host()),
        ..api::Region::default()
    };
    let missing = Kind::Region.refused();
    let names = input.region_names.as_deref();
    let regions = by_id(vec![only], names, |each| each.region_name.as_deref(), missing)?;
    let known = ["endpoint", "opt-in-status", "region-name"];
    let regions = apply(regions, input.filters.as_deref(), &known, &|each: &api::Region, name| {
        let value = match name {
            "endpoint" => each.endpoint.clone(),
            "opt-in-status" => each.opt_in_status.clone(),
            "region-name" => each.region_name.clone(),
            _ => return None,
        };
        Some(value.into_iter().collect())
    })?;
    Ok(api::DescribeRegionsResult { regions: Some(regions) })
}

pub(crate) async fn describe_account_attributes(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeAccountAttributesRequest,
) -> Result<api::DescribeAccountAttributesResult, ApiError> {
    let view =
        ec2.control.read(caller, &Permission::to("ec2:DescribeAccountAttributes").on("*"))?;
    unless_dry(input.dry_run)?;
    let default = ec2.control.network(&view, caller.account).default_vpc();
    // Amazon's word where there is none.
    let default = default.map_or("none".to_owned(), |vpc| vpc.id.to_string());
    let attribute = |name: &str, value: String| api::AccountAttribute {
        attribute_name: Some(name.to_owned()),
        attribute_values: Some(vec![api::AccountAttributeValue { attribute_value: Some(value) }]),
    };
    let all =
        [attribute("supported-platforms", "VPC".to_owned()), attribute("default-vpc", default)];
    let asked = input.attribute_names.as_deref().unwrap_or_default();
    let is_asked = |each: &api::AccountAttribute| {
        asked.is_empty()
            || asked.iter().any(|name| Some(name.as_str()) == each.attribute_name.as_deref())
    };
    let account_attributes = all.into_iter().filter(is_asked).collect();
    Ok(api::DescribeAccountAttributesResult { account_attributes: Some(account_attributes) })
}
