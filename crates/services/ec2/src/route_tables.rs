//! CreateRouteTable, DescribeRouteTables, DeleteRouteTable, and which subnets a table is of.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::{RouteAssociationId, RouteTableId};
use model::network::{
    Network, RouteDestination, RouteTable, RouteTarget, ShownRoute, ShownTarget, SubnetRow,
    SubnetTable, VpcRow,
};
use model::{Index, Key, Tags};

use crate::Ec2;
use crate::associations::on_association;
use crate::change::{Change, Make, Once, arn, id_of, on};
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Asked, Filters, one, select};
use crate::limits::ROUTE_TABLES_PER_VPC_MAX;
use crate::refusal::NetworkRefusal;
use crate::tags;

pub(crate) async fn create_route_table(
    ec2: &Ec2,
    caller: &Caller,
    mut input: api::CreateRouteTableRequest,
) -> Result<api::CreateRouteTableResult, ApiError> {
    let client_token = input.client_token.take();
    let once = Once::new(ec2, caller, "CreateRouteTable", client_token.as_ref(), &input);
    let tags = input.tag_specifications.as_deref();
    let make = Make::new(caller, "ec2:CreateRouteTable", "route-table", tags);
    let vpc = arn(caller, "vpc", input.vpc_id.as_deref().unwrap_or_default());
    let permission = make.permission(caller).on(vpc);
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        if let Some(id) = it.made_before(&once)? {
            let earlier = it.table(Some(&id))?;
            let tags = it.network.view().tags_on(it.account, &id);
            return Ok(to_wire(&it.network, &earlier, tags));
        }
        let tags = make.tags()?;
        let vpc = it.vpc(input.vpc_id.as_deref())?;
        let tables = it.network.tables();
        if tables.iter().filter(|table| table.vpc == vpc.id).count() >= ROUTE_TABLES_PER_VPC_MAX {
            let (code, what) = ("RouteTableLimitExceeded", "route tables of a VPC");
            return Err(NetworkRefusal::TooMany { code, what }.into());
        }
        it.change_vpc(&vpc.id);
        let id = RouteTableId::mint(it.ids);
        let row = RouteTable { account: it.account, id, vpc: vpc.id.clone(), routes: vec![] };
        it.tag(row.id.as_str(), &tags);
        it.remember(&once, row.id.as_str());
        let wire = to_wire(&it.network, &row, Some(&tags));
        it.put(row);
        Ok(wire)
    });
    Ok(api::CreateRouteTableResult { route_table: Some(made.await?), client_token })
}

fn associated() -> Option<api::RouteTableAssociationState> {
    let state = Some(api::RouteTableAssociationStateCode::Associated);
    Some(api::RouteTableAssociationState { state, status_message: None })
}

fn to_wire(network: &Network<'_>, row: &RouteTable, tags: Option<&Tags>) -> api::RouteTable {
    let association = |main: bool, id: &RouteAssociationId, subnet: Option<&SubnetRow>| {
        api::RouteTableAssociation {
            main: Some(main),
            route_table_association_id: Some(id.to_string()),
            route_table_id: Some(row.id.to_string()),
            subnet_id: subnet.map(|subnet| subnet.id.to_string()),
            association_state: associated(),
            ..api::RouteTableAssociation::default()
        }
    };
    let vpc = network.vpc(&row.vpc);
    let main = vpc.iter().filter(|vpc| vpc.main_table == row.id);
    let main = main.map(|vpc| association(true, &vpc.main_association, None));
    let subnets = network.users(row.id.as_str()).filter_map(|key| {
        let Key::Subnet(account, id) = key else { return None };
        let subnet = network.view().subnets.get(*account, id)?;
        Some(association(false, &subnet.table.as_ref()?.association, Some(subnet)))
    });
    api::RouteTable {
        associations: Some(main.chain(subnets).collect()),
        propagating_vgws: Some(vec![]),
        route_table_id: Some(row.id.to_string()),
        routes: Some(row.shown(network).iter().map(route_to_wire).collect()),
        tags: Some(tags::to_wire(tags)),
        vpc_id: Some(row.vpc.to_string()),
        owner_id: Some(row.account.to_string()),
    }
}

fn route_to_wire(route: &ShownRoute) -> api::Route {
    let mut wire = api::Route {
        origin: Some(api::RouteOrigin::CreateRoute),
        state: Some(match route.is_active {
            true => api::RouteState::Active,
            false => api::RouteState::Blackhole,
        }),
        ..api::Route::default()
    };
    match &route.destination {
        RouteDestination::Block(block) => wire.destination_cidr_block = Some(block.to_string()),
        RouteDestination::List(list) => wire.destination_prefix_list_id = Some(list.to_string()),
    }
    match &route.target {
        ShownTarget::Local => {
            wire.gateway_id = Some("local".to_owned());
            wire.origin = Some(api::RouteOrigin::CreateRouteTable);
        }
        ShownTarget::Out(RouteTarget::InternetGateway(id)) => {
            wire.gateway_id = Some(id.to_string())
        }
        ShownTarget::Out(RouteTarget::NatGateway(id)) => wire.nat_gateway_id = Some(id.to_string()),
        ShownTarget::Out(RouteTarget::VpcPeering(id)) => {
            wire.vpc_peering_connection_id = Some(id.to_string());
        }
        ShownTarget::Endpoint(id) => wire.gateway_id = Some(id.to_string()),
    }
    wire
}

/// A member of each of a table's associations, or of its routes.
fn each<P>(parts: Option<&Vec<P>>, member: impl Fn(&P) -> Option<String>) -> Vec<String> {
    parts.into_iter().flatten().filter_map(member).collect()
}

const FILTERS: Filters<api::RouteTable> = &[
    ("association.gateway-id", |_| vec![]),
    ("association.main", |it| {
        each(it.associations.as_ref(), |each| each.main.map(|main| main.to_string()))
    }),
    ("association.route-table-association-id", |it| {
        each(it.associations.as_ref(), |each| each.route_table_association_id.clone())
    }),
    ("association.route-table-id", |it| {
        each(it.associations.as_ref(), |each| each.route_table_id.clone())
    }),
    ("association.subnet-id", |it| each(it.associations.as_ref(), |each| each.subnet_id.clone())),
    ("owner-id", |it| one(it.owner_id.as_ref())),
    ("route-table-id", |it| one(it.route_table_id.as_ref())),
    ("route.destination-cidr-block", |it| {
        each(it.routes.as_ref(), |each| each.destination_cidr_block.clone())
    }),
    ("route.destination-ipv6-cidr-block", |_| vec![]),
    ("route.destination-prefix-list-id", |it| {
        each(it.routes.as_ref(), |each| each.destination_prefix_list_id.clone())
    }),
    ("route.egress-only-internet-gateway-id", |_| vec![]),
    ("route.gateway-id", |it| each(it.routes.as_ref(), |each| each.gateway_id.clone())),
    ("route.instance-id", |_| vec![]),
    ("route.nat-gateway-id", |it| each(it.routes.as_ref(), |each| each.nat_gateway_id.clone())),
    ("route.origin", |it| {
        each(it.routes.as_ref(), |each| each.origin.as_ref().map(ToString::to_string))
    }),
    ("route.state", |it| {
        each(it.routes.as_ref(), |each| each.state.as_ref().map(ToString::to_string))
    }),
    ("route.transit-gateway-id", |_| vec![]),
    ("route.vpc-peering-connection-id", |it| {
        each(it.routes.as_ref(), |each| each.vpc_peering_connection_id.clone())
    }),
    ("vpc-id", |it| one(it.vpc_id.as_ref())),
];

pub(crate) async fn describe_route_tables(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeRouteTablesRequest,
) -> Result<api::DescribeRouteTablesResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeRouteTables").on("*"))?;
    unless_dry(input.dry_run)?;
    let network = ec2.control.network(&view, caller.account);
    let all = network.tables();
    let wire = all.iter().map(|row| {
        let tags = view.tags_on(row.account, row.id.as_str());
        to_wire(&network, row, tags)
    });
    let asked = Asked {
        kind: Kind::RouteTable,
        ids: input.route_table_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (tables, next_token) =
        select(wire.collect(), &asked, |it| it.route_table_id.as_deref(), FILTERS)?;
    Ok(api::DescribeRouteTablesResult { route_tables: Some(tables), next_token })
}

pub(crate) async fn delete_route_table(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteRouteTableRequest,
) -> Result<(), ApiError> {
    let id = input.route_table_id.as_ref();
    let permission = on(caller, "ec2:DeleteRouteTable", "route-table", id);
    let deleted = ec2.change(caller, &permission, input.dry_run, |it| {
        let table = it.table(input.route_table_id.as_deref())?;
        let vpc = it.vpc(Some(table.vpc.as_str()))?;
        if vpc.main_table == table.id {
            let (id, by) = (table.id.to_string(), vec![vpc.main_association.to_string()]);
            return Err(NetworkRefusal::InUse { what: "routeTable", id, by }.into());
        }
        it.check_unused("routeTable", table.id.as_str(), &[])?;
        it.delete(Key::RouteTable(it.account, table.id.clone()));
        Ok(())
    });
    deleted.await
}

pub(crate) async fn associate_route_table(
    ec2: &Ec2,
    caller: &Caller,
    input: api::AssociateRouteTableRequest,
) -> Result<api::AssociateRouteTableResult, ApiError> {
    let id = input.route_table_id.as_ref();
    let permission = on(caller, "ec2:AssociateRouteTable", "route-table", id).on(arn(
        caller,
        "subnet",
        input.subnet_id.as_deref().unwrap_or_default(),
    ));
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        if input.gateway_id.is_some() || input.public_ipv4_pool.is_some() {
            let why = "Route tables of gateways are not available in this region.";
            return Err(NetworkRefusal::Unsupported(why.to_owned()).into());
        }
        let table = it.table(input.route_table_id.as_deref())?;
        let subnet = it.subnet(input.subnet_id.as_deref())?;
        it.change_vpc(&subnet.vpc);
        check_one_vpc(&table, &subnet)?;
        if let Some(before) = &subnet.table {
            return match before.table == table.id {
                true => Ok(before.association.clone()),
                false => Err(NetworkRefusal::TableThere(table.id.to_string()).into()),
            };
        }
        Ok(associate(it, &subnet, &table))
    });
    Ok(api::AssociateRouteTableResult {
        association_id: Some(made.await?.to_string()),
        association_state: associated(),
    })
}

fn check_one_vpc(table: &RouteTable, subnet: &SubnetRow) -> Result<(), Refusal> {
    if table.vpc == subnet.vpc {
        return Ok(());
    }
    let (table, subnet) = (&table.id, &subnet.id);
    Err(Refusal::Value(format!(
        "route table {table} and subnet {subnet} belong to different networks"
    )))
}

/// Gives a subnet a table of its own.
fn associate(it: &mut Change<'_>, subnet: &SubnetRow, table: &RouteTable) -> RouteAssociationId {
    let association = RouteAssociationId::mint(it.ids);
    let own = SubnetTable { association: association.clone(), table: table.id.clone() };
    it.put(SubnetRow { table: Some(own), ..subnet.clone() });
    association
}

/// What an association's id is of.
enum Associated {
    Subnet(Arc<SubnetRow>),
    Main(Arc<VpcRow>),
}

fn find(it: &mut Change<'_>, given: Option<&str>) -> Result<Associated, Refusal> {
    let id: RouteAssociationId = id_of(Kind::Association, "associationId", given)?;
    let is_its = |own: &SubnetTable| own.association == id;
    let mut subnets = it.network.subnets().into_iter();
    if let Some(subnet) = subnets.find(|subnet| subnet.table.as_ref().is_some_and(is_its)) {
        it.batch.rely(Key::Subnet(it.account, subnet.id.clone()));
        return Ok(Associated::Subnet(subnet));
    }
    let mut vpcs = it.network.vpcs().into_iter();
    let vpc = vpcs.find(|vpc| vpc.main_association == id);
    let vpc = vpc.ok_or_else(|| Kind::Association.refused()(id.as_str()))?;
    it.batch.rely(Key::Vpc(it.account, vpc.id.clone()));
    Ok(Associated::Main(vpc))
}

pub(crate) async fn disassociate_route_table(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DisassociateRouteTableRequest,
) -> Result<(), ApiError> {
    let permission = Permission::to("ec2:DisassociateRouteTable");
    let id = input.association_id.as_ref();
    let permission = on_association(ec2, caller, permission, "route-table", id);
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        match find(it, input.association_id.as_deref())? {
            Associated::Subnet(subnet) => {
                it.put(SubnetRow { table: None, ..SubnetRow::clone(&subnet) });
                Ok(())
            }
            Associated::Main(vpc) => {
                Err(NetworkRefusal::MainStays(vpc.main_association.to_string()).into())
            }
        }
    });
    changed.await
}

pub(crate) async fn replace_route_table_association(
    ec2: &Ec2,
    caller: &Caller,
    input: api::ReplaceRouteTableAssociationRequest,
) -> Result<api::ReplaceRouteTableAssociationResult, ApiError> {
    let id = input.route_table_id.as_ref();
    let permission = on(caller, "ec2:ReplaceRouteTableAssociation", "route-table", id);
    let id = input.association_id.as_ref();
    let permission = on_association(ec2, caller, permission, "route-table", id);
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let table = it.table(input.route_table_id.as_deref())?;
        match find(it, input.association_id.as_deref())? {
            Associated::Subnet(subnet) => {
                check_one_vpc(&table, &subnet)?;
                Ok(associate(it, &subnet, &table))
            }
            Associated::Main(vpc) => {
                it.change_vpc(&vpc.id);
                if table.vpc != vpc.id {
                    let (table, vpc) = (&table.id, &vpc.id);
                    return Err(Refusal::Value(format!(
                        "route table {table} and network {vpc} belong to different networks"
                    )));
                }
                // Nobody else may delete the table while it becomes the main one.
                it.batch.rely(Index::Ec2Uses(it.account, vpc.id.as_str().into()));
                let main_association = RouteAssociationId::mint(it.ids);
                let main_table = table.id.clone();
                let row = VpcRow { main_table, main_association, ..VpcRow::clone(&vpc) };
                let made = row.main_association.clone();
                it.put(row);
                Ok(made)
            }
        }
    });
    Ok(api::ReplaceRouteTableAssociationResult {
        new_association_id: Some(changed.await?.to_string()),
        association_state: associated(),
    })
}
