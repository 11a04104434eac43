//! CreateVpcEndpoint.

use aws_wire::{ApiError, Caller};
use ec2_api as api;
use longshore_types::VpcEndpointId;
use model::Index;
use model::network::{EndpointKind, EndpointService, InterfaceEndpoint, VpcEndpoint, VpcRow};

use super::{
    add_zone, check_addresses, check_private_names, configured, find, full_name, is_by_gateway,
    policy_of, table_of, to_wire, unsupported, used_by,
};
use crate::Ec2;
use crate::change::{Change, Make, Once, arn};
use crate::errors::Refusal;
use crate::interfaces;
use crate::limits::{ENDPOINTS_MAX, ENDPOINTS_PER_VPC_MAX};
use crate::refusal::NetworkRefusal;

pub(crate) async fn create_vpc_endpoint(
    ec2: &Ec2,
    caller: &Caller,
    mut input: api::CreateVpcEndpointRequest,
) -> Result<api::CreateVpcEndpointResult, ApiError> {
    let client_token = input.client_token.take();
    let once = Once::new(ec2, caller, "CreateVpcEndpoint", client_token.as_ref(), &input);
    let tags = input.tag_specifications.as_deref();
    let make = Make::new(caller, "ec2:CreateVpcEndpoint", "vpc-endpoint", tags);
    let named = |kind: &'static str, ids: &Option<Vec<String>>| -> Vec<String> {
        ids.iter().flatten().map(|id| arn(caller, kind, id)).collect()
    };
    let permission = make
        .permission(caller)
        .on(arn(caller, "vpc", input.vpc_id.as_deref().unwrap_or_default()))
        .on_each(named("subnet", &input.subnet_ids))
        .on_each(named("security-group", &input.security_group_ids))
        .on_each(named("route-table", &input.route_table_ids));
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        if let Some(id) = it.made_before(&once)? {
            let row = find(it, Some(&id))?;
            let view = it.network.view();
            return Ok(to_wire(view, caller, &row, view.tags_on(it.account, &id)));
        }
        let tags = make.tags()?;
        let row = begin(it, &input)?;
        it.tag(row.id.as_str(), &tags);
        it.remember(&once, row.id.as_str());
        let wire = to_wire(it.network.view(), caller, &row, Some(&tags));
        it.put(row);
        Ok(wire)
    });
    Ok(api::CreateVpcEndpointResult { vpc_endpoint: Some(made.await?), client_token })
}

fn begin(
    it: &mut Change<'_>,
    input: &api::CreateVpcEndpointRequest,
) -> Result<VpcEndpoint, Refusal> {
    let vpc = it.vpc(input.vpc_id.as_deref())?;
    check_addresses(input.ip_address_type.as_ref(), input.dns_options.as_ref())?;
    if input.service_region.as_deref().is_some_and(|region| region != it.region.as_str()) {
        return Err(unsupported("ServiceRegion is this region's own: others are not reached."));
    }
    if input.service_network_arn.is_some() || input.resource_configuration_arn.is_some() {
        return Err(unsupported(
            "ServiceNetworkArn and ResourceConfigurationArn are not available in this region.",
        ));
    }
    it.batch.rely(Index::Ec2Uses(it.account, vpc.id.as_str().into()));
    if used_by(it.network.view(), it.account, vpc.id.as_str()).count() >= ENDPOINTS_PER_VPC_MAX {
        let (code, what) = ("VpcEndpointLimitExceeded", "VPC endpoints of a VPC");
        return Err(NetworkRefusal::TooMany { code, what }.into());
    }
    if it.network.view().vpc_endpoints.of(it.account).count() >= ENDPOINTS_MAX {
        let (code, what) = ("VpcEndpointLimitExceeded", "VPC endpoints of an account");
        return Err(NetworkRefusal::TooMany { code, what }.into());
    }
    let id = VpcEndpointId::mint(it.ids);
    let (service, kind) = match &input.vpc_endpoint_type {
        None | Some(api::VpcEndpointType::Gateway) => by_gateway(it, &vpc, input)?,
        Some(api::VpcEndpointType::Interface) => by_interface(it, &vpc, &id, input)?,
        Some(other) => {
            return Err(unsupported(format!(
                "VPC endpoints of the type {} are not available in this region.",
                other.as_str()
            )));
        }
    };
    let policy = policy_of(input.policy_document.as_deref())?;
    let (account, created_at) = (it.account, it.now);
    Ok(VpcEndpoint { account, id, vpc: vpc.id.clone(), service, kind, policy, created_at })
}

/// The short name of the service that a request names, which is reached in the way that it asks for.
fn service(
    it: &Change<'_>,
    input: &api::CreateVpcEndpointRequest,
    is_gateway: bool,
) -> Result<String, Refusal> {
    let given = input.service_name.as_deref().filter(|given| !given.is_empty());
    let given = given.ok_or(Refusal::Parameter("ServiceName"))?;
    let short = given.strip_prefix(&full_name("", it.region)).unwrap_or_default();
    let (by_gateway, by_interface) = (is_by_gateway(short), EndpointService::of(short).is_some());
    match (by_gateway, by_interface, is_gateway) {
        (true, _, true) | (_, true, false) => Ok(short.to_owned()),
        (false, false, _) => Err(NetworkRefusal::NoEndpointService(given.to_owned()).into()),
        _ => {
            let (asked, there) =
                if is_gateway { ("Gateway", "Interface") } else { ("Interface", "Gateway") };
            Err(NetworkRefusal::EndpointType { asked, there }.into())
        }
    }
}

fn by_gateway(
    it: &mut Change<'_>,
    vpc: &VpcRow,
    input: &api::CreateVpcEndpointRequest,
) -> Result<(String, EndpointKind), Refusal> {
    let service = service(it, input, true)?;
    let others = [
        ("SubnetIds", input.subnet_ids.is_some()),
        ("SecurityGroupIds", input.security_group_ids.is_some()),
        ("SubnetConfigurations", input.subnet_configurations.is_some()),
        ("PrivateDnsEnabled", input.private_dns_enabled == Some(true)),
    ];
    if let Some((name, _)) = others.iter().find(|(_, is_given)| *is_given) {
        return Err(Refusal::Combination(format!(
            "{name} is not for endpoints of the type Gateway"
        )));
    }
    let mut tables = Vec::new();
    for given in input.route_table_ids.iter().flatten() {
        let table = table_of(it, &vpc.id, given)?;
        if !tables.contains(&table) {
            check_route_free(it, &table, &service)?;
            tables.push(table);
        }
    }
    tables.sort();
    Ok((service, EndpointKind::Gateway { tables }))
}

/// No other endpoint of the service has a route in the table.
pub(super) fn check_route_free(
    it: &mut Change<'_>,
    table: &longshore_types::RouteTableId,
    service: &str,
) -> Result<(), Refusal> {
    it.batch.rely(Index::Ec2Uses(it.account, table.as_str().into()));
    let mut others = used_by(it.network.view(), it.account, table.as_str());
    match others.any(|row| row.service == service) {
        false => Ok(()),
        true => {
            let destination = full_name(service, it.region);
            Err(NetworkRefusal::RouteThere(destination).into())
        }
    }
}

fn by_interface(
    it: &mut Change<'_>,
    vpc: &VpcRow,
    id: &VpcEndpointId,
    input: &api::CreateVpcEndpointRequest,
) -> Result<(String, EndpointKind), Refusal> {
    let name = service(it, input, false)?;
    let service =
        EndpointService::of(&name).ok_or(NetworkRefusal::NoEndpointService(name.clone()))?;
    if input.route_table_ids.as_ref().is_some_and(|ids| !ids.is_empty()) {
        let why = "RouteTableIds is not for endpoints of the type Interface";
        return Err(Refusal::Combination(why.to_owned()));
    }
    let has_private_names = input.private_dns_enabled.unwrap_or(true);
    if has_private_names {
        check_private_names(it, vpc, service, None)?;
    }
    let given = input.security_group_ids.as_deref().unwrap_or_default();
    let groups = interfaces::groups(it, &vpc.id, given)?;
    let subnets = input.subnet_ids.as_deref().unwrap_or_default();
    let addresses = configured(input.subnet_configurations.as_deref(), subnets)?;
    let mut zones = Vec::new();
    for given in subnets {
        let subnet = it.subnet(Some(given))?;
        let address = addresses.iter().find(|(subnet, _)| subnet == given).map(|(_, it)| *it);
        add_zone(it, &mut zones, (id, &vpc.id), (&subnet, address), &groups)?;
    }
    let endpoint = InterfaceEndpoint { zones, groups, has_private_names };
    Ok((name, EndpointKind::Interface(endpoint)))
}
