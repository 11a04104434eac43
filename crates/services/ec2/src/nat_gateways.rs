//! CreateNatGateway, DescribeNatGateways, DeleteNatGateway.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::{AllocationId, NatGatewayId, Timestamp};
use model::network::{ElasticAddress, NatGateway, NatState, SubnetRow};
use model::vpc::InterfaceUser;
use model::{Key, Tags};

use crate::Ec2;
use crate::addresses::associate;
use crate::change::{Change, Make, Once, arn, id_of, on};
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Asked, Filters, one, select, shown};
use crate::interfaces::{self, Wanted};
use crate::limits::{NAT_GATEWAY_SHOWN_MS, NAT_GATEWAYS_MAX};
use crate::refusal::NetworkRefusal;
use crate::tags;

pub(crate) async fn create_nat_gateway(
    ec2: &Ec2,
    caller: &Caller,
    mut input: api::CreateNatGatewayRequest,
) -> Result<api::CreateNatGatewayResult, ApiError> {
    let client_token = input.client_token.take();
    let once = Once::new(ec2, caller, "CreateNatGateway", client_token.as_ref(), &input);
    let tags = input.tag_specifications.as_deref();
    let make = Make::new(caller, "ec2:CreateNatGateway", "natgateway", tags);
    let subnet = arn(caller, "subnet", input.subnet_id.as_deref().unwrap_or_default());
    let mut permission = make.permission(caller).on(subnet);
    if let Some(id) = &input.allocation_id {
        permission = permission.on(arn(caller, "elastic-ip", id));
    }
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        if let Some(id) = it.made_before(&once)? {
            let row = find(it, Some(&id))?;
            return Ok(to_wire(&row, it.network.view().tags_on(it.account, &id)));
        }
        let tags = make.tags()?;
        check_supported(&input)?;
        let subnet = it.subnet(input.subnet_id.as_deref())?;
        it.change_vpc(&subnet.vpc);
        forget_ended(it);
        if it.network.view().nat_gateways.of(it.account).count() >= NAT_GATEWAYS_MAX {
            let (code, what) = ("NatGatewayLimitExceeded", "NAT gateways");
            return Err(NetworkRefusal::TooMany { code, what }.into());
        }
        let address = address(it, &input)?;
        let row = begin(it, &subnet, address.as_deref(), &input)?;
        it.tag(row.id.as_str(), &tags);
        it.remember(&once, row.id.as_str());
        let wire = to_wire(&row, Some(&tags));
        it.put(row);
        Ok(wire)
    });
    Ok(api::CreateNatGatewayResult { nat_gateway: Some(made.await?), client_token })
}

fn check_supported(input: &api::CreateNatGatewayRequest) -> Result<(), Refusal> {
    let regional = input.availability_mode.as_ref();
    let others = [
        ("AvailabilityMode", regional.is_some_and(|mode| *mode != api::AvailabilityMode::Zonal)),
        ("VpcId", input.vpc_id.is_some()),
        ("AvailabilityZoneAddresses", input.availability_zone_addresses.is_some()),
        ("SecondaryAllocationIds", input.secondary_allocation_ids.is_some()),
        ("SecondaryPrivateIpAddresses", input.secondary_private_ip_addresses.is_some()),
        ("SecondaryPrivateIpAddressCount", input.secondary_private_ip_address_count.is_some()),
    ];
    match others.iter().find(|(_, is_asked)| *is_asked) {
        None => Ok(()),
        Some((name, _)) => Err(NetworkRefusal::Unsupported(format!(
            "{name} is not available in this region: a NAT gateway is in one subnet, with one address."
        ))
        .into()),
    }
}

/// The Elastic IP address of a public gateway.
fn address(
    it: &mut Change<'_>,
    input: &api::CreateNatGatewayRequest,
) -> Result<Option<Arc<ElasticAddress>>, Refusal> {
    let is_private = input.connectivity_type == Some(api::ConnectivityType::Private);
    match (&input.allocation_id, is_private) {
        (None, true) => Ok(None),
        (Some(_), true) => {
            Err(Refusal::Combination("A private NAT gateway has no Elastic IP address".to_owned()))
        }
        (given, false) => {
            let id: AllocationId = id_of(Kind::Address, "allocationId", given.as_deref())?;
            let row = it.network.view().elastic_addresses.get(it.account, &id);
            let row = row.ok_or_else(|| Kind::Address.refused()(id.as_str()))?.clone();
            it.batch.rely(Key::ElasticAddress(it.account, id));
            Ok(Some(row))
        }
    }
}

/// A new gateway: it works at once, or says why it has failed.
fn begin(
    it: &mut Change<'_>,
    subnet: &SubnetRow,
    address: Option<&ElasticAddress>,
    input: &api::CreateNatGatewayRequest,
) -> Result<NatGateway, Refusal> {
    let id = NatGatewayId::mint(it.ids);
    let mut row = NatGateway {
        account: it.account,
        id: id.clone(),
        vpc: subnet.vpc.clone(),
        subnet: subnet.id.clone(),
        state: NatState::Available,
        allocation: address.map(|address| address.id.clone()),
        public: None,
        interface: None,
        created_at: it.now,
    };
    let at = it.now;
    let failed =
        |code: &str, message: String| NatState::Failed { at, code: code.to_owned(), message };
    if let Some(address) = address {
        let gateways = it.network.gateways();
        let gateway = gateways.iter().find(|gateway| gateway.vpc.as_ref() == Some(&subnet.vpc));
        let Some(gateway) = gateway else {
            let message = format!("Network {} has no Internet gateway attached", subnet.vpc);
            row.state = failed("Gateway.NotAttached", message);
            return Ok(row);
        };
        if address.association.is_some() {
            let message = format!("Elastic IP address {} is already associated", address.id);
            row.state = failed("Resource.AlreadyAssociated", message);
            return Ok(row);
        }
        it.batch.rely(Key::InternetGateway(it.account, gateway.id.clone()));
    }
    let wanted = Wanted {
        address: input.private_ip_address.as_deref(),
        groups: vec![],
        user: InterfaceUser::NatGateway { nat_gateway: id },
    };
    let interface = match interfaces::begin(it, subnet, wanted) {
        Ok(interface) => interface,
        Err(refusal) if input.private_ip_address.is_none() => {
            let (code, message) = refusal.worded();
            row.state = failed(code, message);
            return Ok(row);
        }
        Err(refusal) => return Err(refusal),
    };
    row.public = address.map(|address| (address.address, associate(it, address, &interface)));
    row.interface = Some((interface.eni.clone(), interface.address));
    it.put(interface);
    Ok(row)
}

/// Takes away what came to an end so long ago that it is not shown any more.
fn forget_ended(it: &mut Change<'_>) {
    let rows = it.network.view().nat_gateways.of(it.account);
    let ended: Vec<_> = rows.filter(|row| !is_shown(row, it.now)).take(100).cloned().collect();
    for row in ended {
        it.delete(Key::NatGateway(it.account, row.id.clone()));
    }
}

fn is_shown(row: &NatGateway, now: Timestamp) -> bool {
    row.ended_at().is_none_or(|ended| now < ended.plus_ms(NAT_GATEWAY_SHOWN_MS))
}

fn find(it: &mut Change<'_>, given: Option<&str>) -> Result<Arc<NatGateway>, Refusal> {
    let id: NatGatewayId = id_of(Kind::NatGateway, "natGatewayId", given)?;
    let row = it.network.view().nat_gateways.get(it.account, &id);
    let row = row.filter(|row| is_shown(row, it.now));
    let row = row.ok_or_else(|| Kind::NatGateway.refused()(id.as_str()))?.clone();
    it.batch.rely(Key::NatGateway(it.account, id));
    Ok(row)
}

fn to_wire(row: &NatGateway, tags: Option<&Tags>) -> api::NatGateway {
    let (state, failure) = match &row.state {
        NatState::Available => (api::NatGatewayState::Available, None),
        NatState::Failed { code, message, .. } => {
            (api::NatGatewayState::Failed, Some((code.clone(), message.clone())))
        }
        NatState::Deleted { .. } => (api::NatGatewayState::Deleted, None),
    };
    let is_public = row.allocation.is_some();
    let interface = row.interface.as_ref();
    let address = api::NatGatewayAddress {
        allocation_id: row.allocation.as_ref().map(ToString::to_string),
        network_interface_id: interface.map(|(eni, _)| eni.to_string()),
        private_ip: interface.map(|(_, address)| address.to_string()),
        public_ip: row.public.as_ref().map(|(address, _)| address.to_string()),
        association_id: row.public.as_ref().map(|(_, association)| association.to_string()),
        is_primary: Some(true),
        status: Some(match failure {
            None => api::NatGatewayAddressStatus::Succeeded,
            Some(_) => api::NatGatewayAddressStatus::Failed,
        }),
        ..api::NatGatewayAddress::default()
    };
    let (failure_code, failure_message) = failure.unzip();
    api::NatGateway {
        create_time: Some(row.created_at),
        delete_time: row.ended_at(),
        failure_code,
        failure_message,
        nat_gateway_addresses: Some(vec![address]),
        nat_gateway_id: Some(row.id.to_string()),
        state: Some(state),
        subnet_id: Some(row.subnet.to_string()),
        vpc_id: Some(row.vpc.to_string()),
        tags: Some(tags::to_wire(tags)),
        connectivity_type: Some(match is_public {
            true => api::ConnectivityType::Public,
            false => api::ConnectivityType::Private,
        }),
        availability_mode: Some(api::AvailabilityMode::Zonal),
        ..api::NatGateway::default()
    }
}

const FILTERS: Filters<api::NatGateway> = &[
    ("nat-gateway-id", |it| one(it.nat_gateway_id.as_ref())),
    ("state", |it| shown(it.state.as_ref())),
    ("subnet-id", |it| one(it.subnet_id.as_ref())),
    ("vpc-id", |it| one(it.vpc_id.as_ref())),
];

pub(crate) async fn describe_nat_gateways(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeNatGatewaysRequest,
) -> Result<api::DescribeNatGatewaysResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeNatGateways").on("*"))?;
    unless_dry(input.dry_run)?;
    let rows = view.nat_gateways.of(caller.account).filter(|row| is_shown(row, caller.now));
    let wire = rows.map(|row| to_wire(row, view.tags_on(row.account, row.id.as_str())));
    let asked = Asked {
        kind: Kind::NatGateway,
        ids: input.nat_gateway_ids.as_deref(),
        filters: input.filter.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (gateways, next_token) =
        select(wire.collect(), &asked, |it| it.nat_gateway_id.as_deref(), FILTERS)?;
    Ok(api::DescribeNatGatewaysResult { nat_gateways: Some(gateways), next_token })
}

/// Its address stays the account's, and routes to it stay where they are.
pub(crate) async fn delete_nat_gateway(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteNatGatewayRequest,
) -> Result<api::DeleteNatGatewayResult, ApiError> {
    let id = input.nat_gateway_id.as_ref();
    let permission = on(caller, "ec2:DeleteNatGateway", "natgateway", id);
    let deleted = ec2.change(caller, &permission, input.dry_run, |it| {
        let row = find(it, input.nat_gateway_id.as_deref())?;
        if row.state != NatState::Available {
            return Ok(row.id.to_string());
        }
        let address = row.allocation.as_ref();
        let address =
            address.and_then(|id| it.network.view().elastic_addresses.get(it.account, id));
        if let Some(address) = address.cloned() {
            it.put(ElasticAddress { association: None, ..ElasticAddress::clone(&address) });
        }
        if let Some((eni, _)) = &row.interface
            && let Some(interface) = interfaces::find(&it.network, eni)
        {
            interfaces::delete(it, &interface);
        }
        let state = NatState::Deleted { at: it.now };
        it.put(NatGateway { state, ..NatGateway::clone(&row) });
        Ok(row.id.to_string())
    });
    Ok(api::DeleteNatGatewayResult { nat_gateway_id: Some(deleted.await?) })
}
