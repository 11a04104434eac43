//! VPC endpoints: made, changed, described, deleted, and the services that they lead to.
//!
//! One by interfaces is an interface in each of its subnets, which the process that serves load balancers listens at; what
//! comes there goes on to the region. One by a gateway is a route in each of its tables.
//!
//! **Invariant:** an endpoint has one interface a zone at most, and within a VPC a service's own names lead to one
//! endpoint at most.

mod change;
mod create;
mod describe;
mod services;

use std::sync::Arc;

use aws_wire::Caller;
use ec2_api as api;
use longshore_types::{RegionName, RouteTableId, SecurityGroupId, VpcEndpointId, VpcId};
use model::network::{
    EndpointKind, EndpointPolicy, EndpointService, EndpointZone, GATEWAY_SERVICES, SubnetRow,
    VpcEndpoint, VpcRow,
};
use model::vpc::InterfaceUser;
use model::{Index, Key, Tags, View};
use policy::{Policy, PolicyKind};

use crate::change::{Change, id_of};
use crate::errors::{Kind, Refusal};
use crate::interfaces::{self, Wanted};
use crate::limits::ENDPOINT_POLICY_CHARS_MAX;
use crate::refusal::{NetworkRefusal, unsupported};
use crate::tags;

pub(crate) use change::{delete_vpc_endpoints, modify_vpc_endpoint};
pub(crate) use create::create_vpc_endpoint;
pub(crate) use describe::describe_vpc_endpoints;
pub(crate) use services::describe_vpc_endpoint_services;

/// As AWS shows a policy that was not given.
const ALL_BY_INTERFACE: &str = r#"{
  "Statement": [
    {
      "Action": "*", 
      "Effect": "Allow", 
      "Principal": "*", 
      "Resource": "*"
    }
  ]
}"#;
const ALL_BY_GATEWAY: &str = r#"{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}"#;

/// `com.amazonaws.us-east-1.s3`
fn full_name(service: &str, region: &RegionName) -> String {
    format!("com.amazonaws.{region}.{service}")
}

/// An endpoint that a request is about.
fn find(it: &mut Change<'_>, given: Option<&str>) -> Result<Arc<VpcEndpoint>, Refusal> {
    let id: VpcEndpointId = id_of(Kind::VpcEndpoint, "vpcEndpointId", given)?;
    let row = it.network.view().vpc_endpoints.get(it.account, &id);
    let row = row.ok_or_else(|| Kind::VpcEndpoint.refused()(id.as_str()))?.clone();
    it.batch.rely(Key::VpcEndpoint(it.account, id));
    Ok(row)
}

/// The endpoints of a VPC, or those that a route table leads to.
pub(crate) fn used_by<'v>(
    view: &'v View,
    account: longshore_types::AccountId,
    id: &str,
) -> impl Iterator<Item = &'v Arc<VpcEndpoint>> + use<'v> {
    view.members(&Index::Ec2Uses(account, id.into())).filter_map(|key| {
        let Key::VpcEndpoint(account, id) = key else { return None };
        view.vpc_endpoints.get(*account, id)
    })
}

/// Whether a service is reached by a gateway.
fn is_by_gateway(service: &str) -> bool {
    GATEWAY_SERVICES.iter().any(|(name, _)| *name == service)
}

/// The document of a policy, if one was given; an empty one is none.
fn policy_of(given: Option<&str>) -> Result<Option<EndpointPolicy>, Refusal> {
    let Some(text) = given.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    if text.chars().count() > ENDPOINT_POLICY_CHARS_MAX {
        let why = format!("it has more than {ENDPOINT_POLICY_CHARS_MAX} characters");
        return Err(NetworkRefusal::PolicyDocument(why).into());
    }
    let read = Policy::parse(text, PolicyKind::Resource);
    let read = read.map_err(|why| NetworkRefusal::PolicyDocument(why.to_string()))?;
    Ok(Some(EndpointPolicy::new(read)))
}

/// What of the names of an endpoint can be asked for otherwise, and is not there.
fn check_addresses(
    kind: Option<&api::IpAddressType>,
    dns: Option<&api::DnsOptionsSpecification>,
) -> Result<(), Refusal> {
    if kind.is_some_and(|kind| *kind != api::IpAddressType::Ipv4) {
        return Err(unsupported(
            "IpAddressType is ipv4 in this region: interfaces have one address.",
        ));
    }
    let Some(dns) = dns else { return Ok(()) };
    let record = dns.dns_record_ip_type.as_ref();
    let is_plain = |it: &api::DnsRecordIpType| {
        matches!(it, api::DnsRecordIpType::Ipv4 | api::DnsRecordIpType::ServiceDefined)
    };
    if record.is_some_and(|record| !is_plain(record)) {
        return Err(unsupported("DnsOptions.DnsRecordIpType is ipv4 in this region."));
    }
    if dns.private_dns_only_for_inbound_resolver_endpoint == Some(true) {
        return Err(unsupported(
            "DnsOptions.PrivateDnsOnlyForInboundResolverEndpoint is not available in this region.",
        ));
    }
    let is_named =
        dns.private_dns_preference.is_some() || dns.private_dns_specified_domains.is_some();
    if is_named {
        return Err(unsupported(
            "DnsOptions.PrivateDnsPreference and PrivateDnsSpecifiedDomains are not available in this region.",
        ));
    }
    Ok(())
}

/// Whether the service's names may come to lead to an endpoint in a VPC.
fn check_private_names(
    it: &mut Change<'_>,
    vpc: &VpcRow,
    service: &EndpointService,
    but: Option<&VpcEndpointId>,
) -> Result<(), Refusal> {
    if !(vpc.dns_support && vpc.dns_hostnames) {
        return Err(NetworkRefusal::EndpointNames(vpc.id.to_string()).into());
    }
    it.batch.rely(Index::Ec2Uses(it.account, vpc.id.as_str().into()));
    let name = service.private_name(it.region);
    let mut others = used_by(it.network.view(), it.account, vpc.id.as_str());
    let is_taken = others.any(|row| {
        let names = row.private_names(it.region);
        Some(&row.id) != but && names.iter().any(|other| other.name == name)
    });
    if is_taken {
        let vpc = vpc.id.to_string();
        return Err(NetworkRefusal::EndpointNamesTaken { name, vpc }.into());
    }
    Ok(())
}

/// A new interface of an endpoint in a subnet of its VPC, in whose zone it has none yet.
fn add_zone(
    it: &mut Change<'_>,
    zones: &mut Vec<EndpointZone>,
    (endpoint, vpc): (&VpcEndpointId, &VpcId),
    (subnet, address): (&SubnetRow, Option<&str>),
    groups: &[SecurityGroupId],
) -> Result<(), Refusal> {
    if subnet.vpc != *vpc {
        let subnet = &subnet.id;
        return Err(Refusal::Value(format!("The subnet {subnet} is not in the network {vpc}")));
    }
    if zones.iter().any(|zone| zone.zone == subnet.zone) {
        return Err(NetworkRefusal::SubnetsInOneZone(subnet.id.to_string()).into());
    }
    let user = InterfaceUser::VpcEndpoint { vpc_endpoint: endpoint.clone() };
    let row = interfaces::begin(it, subnet, Wanted { address, groups: groups.to_vec(), user })?;
    zones.push(EndpointZone {
        zone: subnet.zone.clone(),
        subnet: subnet.id.clone(),
        eni: row.eni.clone(),
        address: row.address,
    });
    zones.sort_by(|a, b| a.zone.cmp(&b.zone));
    it.put(row);
    Ok(())
}

/// Which address each subnet's interface is to have, if it was said.
fn configured<'a>(
    given: Option<&'a [api::SubnetConfiguration]>,
    subnets: &[String],
) -> Result<Vec<(&'a str, &'a str)>, Refusal> {
    let mut found = Vec::new();
    for each in given.unwrap_or_default() {
        if each.ipv6.is_some() {
            return Err(unsupported("SubnetConfigurations.Ipv6 is not available in this region."));
        }
        let subnet = each.subnet_id.as_deref().unwrap_or_default();
        if !subnets.iter().any(|known| known == subnet) {
            let why =
                "The subnets of SubnetConfigurations must be among the endpoint's new subnets";
            return Err(Refusal::Combination(format!("{why}: {subnet}")));
        }
        found.extend(each.ipv4.as_deref().map(|address| (subnet, address)));
    }
    Ok(found)
}

/// A table of the endpoint's VPC that a gateway's route comes into.
fn table_of(it: &mut Change<'_>, vpc: &VpcId, given: &str) -> Result<RouteTableId, Refusal> {
    let table = it.table(Some(given))?;
    if table.vpc != *vpc {
        return Err(Refusal::Value(format!(
            "route table {given} and network {vpc} belong to different networks"
        )));
    }
    Ok(table.id.clone())
}

fn to_wire(
    view: &View,
    caller: &Caller,
    row: &VpcEndpoint,
    tags: Option<&Tags>,
) -> api::VpcEndpoint {
    let groups = row.interface().into_iter().flat_map(|it| &it.groups);
    let groups = groups.map(|id| api::SecurityGroupIdentifier {
        group_id: Some(id.to_string()),
        group_name: view.security_group(row.account, id).map(|whole| whole.group.name),
    });
    let zones = || row.interface().into_iter().flat_map(|it| &it.zones);
    let names = row.own_names(&caller.region).into_iter();
    let names = names.chain(row.private_names(&caller.region)).map(|name| {
        let below = if name.has_all_below { "*." } else { "" };
        api::DnsEntry { dns_name: Some(format!("{below}{}", name.name)), hosted_zone_id: None }
    });
    let (kind, default) = match &row.kind {
        EndpointKind::Interface(_) => (api::VpcEndpointType::Interface, ALL_BY_INTERFACE),
        EndpointKind::Gateway { .. } => (api::VpcEndpointType::Gateway, ALL_BY_GATEWAY),
    };
    let dns = row.interface().map(|_| api::DnsOptions {
        dns_record_ip_type: Some(api::DnsRecordIpType::Ipv4),
        ..api::DnsOptions::default()
    });
    api::VpcEndpoint {
        vpc_endpoint_id: Some(row.id.to_string()),
        vpc_endpoint_type: Some(kind),
        vpc_id: Some(row.vpc.to_string()),
        service_name: Some(full_name(&row.service, &caller.region)),
        // The service's word for it, though its model has it with a capital.
        state: Some("available".into()),
        policy_document: Some(row.policy.as_ref().map_or(default, |it| it.text()).to_owned()),
        route_table_ids: Some(row.tables().iter().map(ToString::to_string).collect()),
        subnet_ids: Some(zones().map(|zone| zone.subnet.to_string()).collect()),
        groups: Some(groups.collect()),
        ip_address_type: Some(api::IpAddressType::Ipv4),
        dns_options: dns,
        private_dns_enabled: Some(row.interface().is_some_and(|it| it.has_private_names)),
        requester_managed: Some(false),
        network_interface_ids: Some(zones().map(|zone| zone.eni.to_string()).collect()),
        dns_entries: Some(names.collect()),
        creation_timestamp: Some(row.created_at),
        tags: Some(tags::to_wire(tags)),
        owner_id: Some(row.account.to_string()),
        service_region: Some(caller.region.to_string()),
        ..api::VpcEndpoint::default()
    }
}
