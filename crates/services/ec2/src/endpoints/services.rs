//! DescribeVpcEndpointServices: what of Amazon's is here, and S3 and DynamoDB, whose gateways lead by a prefix list.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use model::network::{EndpointService, GATEWAY_SERVICES, Network};

use super::full_name;
use crate::Ec2;
use crate::errors::{Refusal, unless_dry};
use crate::filter::{Filters, apply, one, page, shown};
use crate::refusal::NetworkRefusal;

const FILTERS: Filters<api::ServiceDetail> = &[
    ("owner", |it| one(it.owner.as_ref())),
    ("service-name", |it| one(it.service_name.as_ref())),
    ("service-region", |it| one(it.service_region.as_ref())),
    ("service-type", |it| {
        let types = it.service_type.iter().flatten();
        types.flat_map(|each| shown(each.service_type.as_ref())).collect()
    }),
    ("supported-ip-address-types", |_| vec!["ipv4".to_owned()]),
];

pub(crate) async fn describe_vpc_endpoint_services(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeVpcEndpointServicesRequest,
) -> Result<api::DescribeVpcEndpointServicesResult, ApiError> {
    let permission = Permission::to("ec2:DescribeVpcEndpointServices").on("*");
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    let all = all(caller, &ec2.control.network(&view, caller.account));
    let asked = input.service_names.as_deref().unwrap_or_default();
    for name in asked {
        if !all.iter().any(|it| it.service_name.as_ref() == Some(name)) {
            return Err(Refusal::from(NetworkRefusal::NoEndpointService(name.clone())).into());
        }
    }
    let is_own = |region: &String| region.as_str() == caller.region.as_str();
    let is_here = input.service_regions.as_ref().is_none_or(|regions| regions.iter().any(is_own));
    let is_asked = |it: &api::ServiceDetail| {
        asked.is_empty() || it.service_name.as_ref().is_some_and(|name| asked.contains(name))
    };
    let found = all.into_iter().filter(|it| is_here && is_asked(it)).collect();
    let names: Vec<&str> = FILTERS.iter().map(|(name, _)| *name).collect();
    let found = apply(found, input.filters.as_deref(), &names, &|it, name| {
        let filter = FILTERS.iter().find(|(known, _)| *known == name);
        filter.map(|(_, values_of)| values_of(it))
    })?;
    let (details, next_token) =
        page(found, input.next_token.as_deref(), input.max_results, false, |it| {
            it.service_name.as_deref()
        })?;
    let names = details.iter().filter_map(|it| it.service_name.clone()).collect();
    Ok(api::DescribeVpcEndpointServicesResult {
        service_names: Some(names),
        service_details: Some(details),
        next_token,
    })
}

/// All of them, by name.
fn all(caller: &Caller, network: &Network<'_>) -> Vec<api::ServiceDetail> {
    let subnets = network.default().map(|it| it.subnets.as_slice()).unwrap_or_default();
    let mut zones: Vec<(String, String)> =
        subnets.iter().map(|subnet| (subnet.zone.clone(), subnet.zone_id.clone())).collect();
    zones.sort();
    let region = &caller.region;
    let detail = |name: &str, kind: api::ServiceType| api::ServiceDetail {
        service_name: Some(full_name(name, region)),
        service_id: Some(id_of(name)),
        service_type: Some(vec![api::ServiceTypeDetail { service_type: Some(kind) }]),
        service_region: Some(region.to_string()),
        availability_zone_ids: Some(zones.iter().map(|(_, id)| id.clone()).collect()),
        availability_zones: Some(zones.iter().map(|(name, _)| name.clone()).collect()),
        owner: Some("amazon".to_owned()),
        vpc_endpoint_policy_supported: Some(true),
        acceptance_required: Some(false),
        manages_vpc_endpoints: Some(false),
        tags: Some(vec![]),
        supported_ip_address_types: Some(vec![api::ServiceConnectivityType::Ipv4]),
        ..api::ServiceDetail::default()
    };
    let by_interface = EndpointService::all().iter().map(|service| {
        let private = service.private_pattern(region);
        api::ServiceDetail {
            base_endpoint_dns_names: Some(vec![service.own_domain(region)]),
            private_dns_name: Some(private.clone()),
            private_dns_names: Some(vec![api::PrivateDnsDetails {
                private_dns_name: Some(private),
            }]),
            private_dns_name_verification_state: Some(api::DnsNameState::Verified),
            ..detail(service.name, api::ServiceType::Interface)
        }
    });
    let by_gateway = GATEWAY_SERVICES.iter().map(|(name, _)| api::ServiceDetail {
        base_endpoint_dns_names: Some(vec![format!("{name}.{region}.amazonaws.com")]),
        vpc_endpoint_policy_supported: Some(false),
        ..detail(name, api::ServiceType::Gateway)
    });
    let mut all: Vec<_> = by_interface.chain(by_gateway).collect();
    all.sort_by(|a, b| a.service_name.cmp(&b.service_name));
    all
}

/// An id that follows from the name, so that it stays: `vpce-svc-…`.
fn id_of(name: &str) -> String {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("vpce-svc-{seed:016x}0")
}
