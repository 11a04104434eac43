//! ModifyVpcEndpoint, DeleteVpcEndpoints.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::{RouteTableId, SecurityGroupId};
use model::Key;
use model::network::{EndpointKind, EndpointService, EndpointZone, InterfaceEndpoint, VpcEndpoint};
use model::vpc::Interface;

use super::create::check_route_free;
use super::{
    add_zone, check_addresses, check_private_names, configured, find, policy_of, table_of,
};
use crate::Ec2;
use crate::change::{Change, arn, on};
use crate::errors::{Refusal, not_done, unless_dry};
use crate::interfaces;

pub(crate) async fn modify_vpc_endpoint(
    ec2: &Ec2,
    caller: &Caller,
    input: api::ModifyVpcEndpointRequest,
) -> Result<api::ModifyVpcEndpointResult, ApiError> {
    let named = |kind: &'static str, ids: &Option<Vec<String>>| -> Vec<String> {
        ids.iter().flatten().map(|id| arn(caller, kind, id)).collect()
    };
    let id = input.vpc_endpoint_id.as_ref();
    let permission = on(caller, "ec2:ModifyVpcEndpoint", "vpc-endpoint", id)
        .on_each(named("subnet", &input.add_subnet_ids))
        .on_each(named("security-group", &input.add_security_group_ids))
        .on_each(named("route-table", &input.add_route_table_ids));
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let row = find(it, input.vpc_endpoint_id.as_deref())?;
        check_addresses(input.ip_address_type.as_ref(), input.dns_options.as_ref())?;
        let mut after = VpcEndpoint::clone(&row);
        after.kind = match &row.kind {
            EndpointKind::Interface(before) => {
                EndpointKind::Interface(of_interface(it, &row, before, &input)?)
            }
            EndpointKind::Gateway { tables } => {
                EndpointKind::Gateway { tables: of_gateway(it, &row, tables, &input)? }
            }
        };
        if input.reset_policy == Some(true) {
            after.policy = None;
        } else if let Some(policy) = policy_of(input.policy_document.as_deref())? {
            after.policy = Some(policy);
        }
        if after != *row {
            it.put(after);
        }
        Ok(())
    });
    changed.await.map(|()| api::ModifyVpcEndpointResult { r#return: Some(true) })
}

/// The ids of a member that may be left out.
fn ids(given: Option<&Vec<String>>) -> impl Iterator<Item = &String> {
    given.into_iter().flatten()
}

fn of_gateway(
    it: &mut Change<'_>,
    row: &VpcEndpoint,
    before: &[RouteTableId],
    input: &api::ModifyVpcEndpointRequest,
) -> Result<Vec<RouteTableId>, Refusal> {
    let others = [
        ("AddSubnetIds", input.add_subnet_ids.is_some()),
        ("RemoveSubnetIds", input.remove_subnet_ids.is_some()),
        ("AddSecurityGroupIds", input.add_security_group_ids.is_some()),
        ("RemoveSecurityGroupIds", input.remove_security_group_ids.is_some()),
        ("SubnetConfigurations", input.subnet_configurations.is_some()),
        ("PrivateDnsEnabled", input.private_dns_enabled == Some(true)),
    ];
    if let Some((name, _)) = others.iter().find(|(_, is_given)| *is_given) {
        let why = format!("{name} is not for endpoints of the type Gateway");
        return Err(Refusal::Combination(why));
    }
    let mut tables = before.to_vec();
    for given in ids(input.remove_route_table_ids.as_ref()) {
        tables.retain(|table| table.as_str() != given);
    }
    for given in ids(input.add_route_table_ids.as_ref()) {
        let table = table_of(it, &row.vpc, given)?;
        if !tables.contains(&table) {
            if !before.contains(&table) {
                check_route_free(it, &table, &row.service)?;
            }
            tables.push(table);
        }
    }
    tables.sort();
    Ok(tables)
}

fn of_interface(
    it: &mut Change<'_>,
    row: &VpcEndpoint,
    before: &InterfaceEndpoint,
    input: &api::ModifyVpcEndpointRequest,
) -> Result<InterfaceEndpoint, Refusal> {
    let has_tables = input.add_route_table_ids.is_some() || input.remove_route_table_ids.is_some();
    if has_tables {
        let why = "Route tables are not for endpoints of the type Interface";
        return Err(Refusal::Combination(why.to_owned()));
    }
    let mut after = before.clone();
    after.groups = groups(it, row, before, input)?;
    for given in ids(input.remove_subnet_ids.as_ref()) {
        let (gone, kept): (Vec<EndpointZone>, _) =
            after.zones.into_iter().partition(|zone| zone.subnet.as_str() == given);
        after.zones = kept;
        for zone in gone {
            delete_interface(it, &zone);
        }
    }
    if after.groups != before.groups {
        for zone in &after.zones {
            let Some(interface) = interfaces::find(&it.network, &zone.eni) else { continue };
            let security_groups = after.groups.clone();
            it.put(Interface { security_groups, ..Interface::clone(&interface) });
        }
    }
    let added = input.add_subnet_ids.as_deref().unwrap_or_default();
    let addresses = configured(input.subnet_configurations.as_deref(), added)?;
    for given in added {
        let subnet = it.subnet(Some(given))?;
        if after.zones.iter().any(|zone| zone.subnet == subnet.id) {
            continue;
        }
        let address = addresses.iter().find(|(subnet, _)| subnet == given).map(|(_, it)| *it);
        let place = (&*subnet, address);
        let groups = after.groups.clone();
        add_zone(it, &mut after.zones, (&row.id, &row.vpc), place, &groups)?;
    }
    if let Some(wanted) = input.private_dns_enabled {
        let service = EndpointService::of(&row.service).filter(|_| wanted);
        if let Some(service) = service {
            let vpc = it.vpc(Some(row.vpc.as_str()))?;
            check_private_names(it, &vpc, service, Some(&row.id))?;
        }
        after.has_private_names = wanted;
    }
    Ok(after)
}

fn groups(
    it: &mut Change<'_>,
    row: &VpcEndpoint,
    before: &InterfaceEndpoint,
    input: &api::ModifyVpcEndpointRequest,
) -> Result<Vec<SecurityGroupId>, Refusal> {
    if input.add_security_group_ids.is_none() && input.remove_security_group_ids.is_none() {
        return Ok(before.groups.clone());
    }
    let mut named: Vec<String> = before.groups.iter().map(ToString::to_string).collect();
    for given in ids(input.add_security_group_ids.as_ref()) {
        if !named.contains(given) {
            named.push(given.clone());
        }
    }
    for given in ids(input.remove_security_group_ids.as_ref()) {
        named.retain(|id| id != given);
    }
    if named.is_empty() {
        let why = "A VPC endpoint has at least one security group.";
        return Err(Refusal::Value(why.to_owned()));
    }
    interfaces::groups(it, &row.vpc, &named)
}

fn delete_interface(it: &mut Change<'_>, zone: &EndpointZone) {
    if let Some(interface) = interfaces::find(&it.network, &zone.eni) {
        it.batch.rely(interfaces::key(&interface));
        interfaces::delete(it, &interface);
    }
}

/// Each by itself: one that is not there keeps no other from going.
pub(crate) async fn delete_vpc_endpoints(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteVpcEndpointsRequest,
) -> Result<api::DeleteVpcEndpointsResult, ApiError> {
    let ids = input.vpc_endpoint_ids.as_deref().unwrap_or_default();
    let arns = ids.iter().map(|id| arn(caller, "vpc-endpoint", id));
    let permission = Permission::to("ec2:DeleteVpcEndpoints").on_each(arns);
    let permission = if ids.is_empty() { permission.on("*") } else { permission };
    ec2.control.read(caller, &permission)?;
    if ids.is_empty() {
        return Err(Refusal::Parameter("VpcEndpointId").into());
    }
    unless_dry(input.dry_run)?;
    let mut unsuccessful = Vec::new();
    for id in ids {
        let permission = on(caller, "ec2:DeleteVpcEndpoints", "vpc-endpoint", Some(id));
        let deleted = ec2.change(caller, &permission, None, |it| {
            let row = find(it, Some(id))?;
            let zones = row.interface().map(|it| it.zones.clone()).unwrap_or_default();
            zones.iter().for_each(|zone| delete_interface(it, zone));
            it.delete(Key::VpcEndpoint(it.account, row.id.clone()));
            Ok(())
        });
        match deleted.await {
            Ok(()) => {}
            Err(error) if error.fault.is_some() => return Err(error),
            Err(error) => unsuccessful.push(failed(id, &error)),
        }
    }
    Ok(api::DeleteVpcEndpointsResult { unsuccessful: Some(unsuccessful) })
}

fn failed(id: &str, error: &ApiError) -> api::UnsuccessfulItem {
    // In this list the code is another than where it is an answer by itself.
    let code = match error.code.as_ref() {
        "InvalidVpcEndpointId.NotFound" => "InvalidVpcEndpoint.NotFound",
        code => code,
    };
    not_done(id, code, &error.message)
}
