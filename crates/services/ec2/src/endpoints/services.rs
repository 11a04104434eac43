//! DescribeVpcEndpointServices: what of Amazon's is here, and S3 and DynamoDB, whose gateways lead by a prefix list.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use model::network::{EndpointService, GATEWAY_SERVICES, Network};

use super::full_name;
use crate::Ec2;
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Asked, Filters, by_id, one, select, shown};
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
    let unknown = |name: &str| Refusal::from(NetworkRefusal::NoEndpointService(name.to_owned()));
    let all = by_id(all, input.service_names.as_deref(), name_of, unknown)?;
    let is_own = |region: &String| region.as_str() == caller.region.as_str();
    let is_here = input.service_regions.as_ref().is_none_or(|regions| regions.iter().any(is_own));
    let asked = Asked {
        kind: Kind::VpcEndpoint,
        // Names are no ids: pages of them may be asked for.
        ids: None,
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let here = if is_here { all } else { vec![] };
    let (details, next_token) = select(here, &asked, name_of, FILTERS)?;
    let names = details.iter().filter_map(|it| it.service_name.clone()).collect();
    Ok(api::DescribeVpcEndpointServicesResult {
        service_names: Some(names),
        service_details: Some(details),
        next_token,
    })
}

fn name_of(it: &api::ServiceDetail) -> Option<&str> {
    it.service_name.as_deref()
}

/// All of them, by name.
fn all(caller: &Caller, network: &Network<'_>) -> Vec<api::ServiceDetail> {
    let zones = network.zones().map(|(name, id)| (name.to_owned(), id.to_owned()));
    let mut zones: Vec<(String, String)> = zones.collect();
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
