//! Elastic IP addresses: allocated, associated with interfaces, described, released.

use std::net::Ipv4Addr;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::{AddressAssociationId, AllocationId, RegionName};
use model::network::{AddressAssociation, ElasticAddress, PUBLIC_POOL};
use model::vpc::{Interface, InterfaceUser};
use model::{Index, Key, Tags};

use crate::Ec2;
use crate::associations::{allocation_of, on_association};
use crate::change::{Change, Make, arn, id_of, on};
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Asked, Filters, apply, by_id, one, select, shown};
use crate::limits::ADDRESSES_MAX;
use crate::refusal::NetworkRefusal;
use crate::tags;

pub(crate) async fn allocate_address(
    ec2: &Ec2,
    caller: &Caller,
    input: api::AllocateAddressRequest,
) -> Result<api::AllocateAddressResult, ApiError> {
    let tags = input.tag_specifications.as_deref();
    let make = Make::new(caller, "ec2:AllocateAddress", "elastic-ip", tags);
    let permission = make.permission(caller);
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        let tags = make.tags()?;
        check_pool(it.region, &input)?;
        if it.network.view().elastic_addresses.of(it.account).count() >= ADDRESSES_MAX {
            let (code, what) = ("AddressLimitExceeded", "addresses");
            return Err(NetworkRefusal::TooMany { code, what }.into());
        }
        let address = free_public(it)?;
        let id = AllocationId::mint(it.ids);
        let row = ElasticAddress { account: it.account, id, address, association: None };
        it.tag(row.id.as_str(), &tags);
        it.put(row.clone());
        Ok(row)
    });
    let row = made.await?;
    Ok(api::AllocateAddressResult {
        allocation_id: Some(row.id.to_string()),
        public_ipv4_pool: Some("amazon".to_owned()),
        network_border_group: Some(caller.region.to_string()),
        domain: Some(api::DomainType::Vpc),
        public_ip: Some(row.address.to_string()),
        ..api::AllocateAddressResult::default()
    })
}

fn check_pool(region: &RegionName, input: &api::AllocateAddressRequest) -> Result<(), Refusal> {
    let others = [
        ("Address", input.address.is_some()),
        ("CustomerOwnedIpv4Pool", input.customer_owned_ipv4_pool.is_some()),
        ("IpamPoolId", input.ipam_pool_id.is_some()),
        ("PublicIpv4Pool", input.public_ipv4_pool.as_ref().is_some_and(|pool| pool != "amazon")),
        (
            "NetworkBorderGroup",
            input.network_border_group.as_ref().is_some_and(|group| group != region.as_str()),
        ),
        ("Domain", input.domain.as_ref().is_some_and(|domain| *domain != api::DomainType::Vpc)),
    ];
    match others.iter().find(|(_, is_asked)| *is_asked) {
        None => Ok(()),
        Some((name, _)) => Err(NetworkRefusal::Unsupported(format!(
            "{name} is not available in this region: addresses are of its own pool, {PUBLIC_POOL}."
        ))
        .into()),
    }
}

/// An address of the pool that nobody has.
fn free_public(it: &mut Change<'_>) -> Result<Ipv4Addr, Refusal> {
    let seed = u64::from_be_bytes(it.ids.id16()[..8].try_into().expect("eight of sixteen bytes"));
    let Some(address) = it.network.view().free_public_address(seed, |_| false) else {
        let (code, what) = ("InsufficientAddressCapacity", "addresses of the region's pool");
        return Err(NetworkRefusal::TooMany { code, what }.into());
    };
    it.batch.rely(Index::PublicAddress(address));
    Ok(address)
}

/// An address by its allocation, or by itself.
fn find(
    it: &mut Change<'_>,
    allocation: Option<&String>,
    public: Option<&String>,
) -> Result<Arc<ElasticAddress>, Refusal> {
    let given = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
    let row = match (given(allocation), given(public)) {
        (Some(id), _) => {
            let parsed: AllocationId = id_of(Kind::Address, "allocationId", Some(&id))?;
            let row = it.network.view().elastic_addresses.get(it.account, &parsed);
            row.ok_or_else(|| Kind::Address.refused()(&id))?.clone()
        }
        (None, Some(public)) => {
            let mut rows = it.network.view().elastic_addresses.of(it.account);
            let row = rows.find(|row| row.address.to_string() == public);
            row.ok_or(NetworkRefusal::NoPublicAddress(public))?.clone()
        }
        (None, None) => return Err(Refusal::OneOf("allocationId", "publicIp")),
    };
    it.batch.rely(Key::ElasticAddress(it.account, row.id.clone()));
    Ok(row)
}

pub(crate) async fn release_address(
    ec2: &Ec2,
    caller: &Caller,
    input: api::ReleaseAddressRequest,
) -> Result<(), ApiError> {
    let (id, address) = (input.allocation_id.as_ref(), input.public_ip.as_ref());
    let id = allocation_of(ec2, caller, id, address);
    let permission = on(caller, "ec2:ReleaseAddress", "elastic-ip", id.as_ref());
    let released = ec2.change(caller, &permission, input.dry_run, |it| {
        let row = find(it, input.allocation_id.as_ref(), input.public_ip.as_ref())?;
        if row.association.is_some() {
            return Err(NetworkRefusal::AddressInUse(row.address.to_string()).into());
        }
        it.delete(Key::ElasticAddress(it.account, row.id.clone()));
        Ok(())
    });
    released.await
}

pub(crate) async fn associate_address(
    ec2: &Ec2,
    caller: &Caller,
    input: api::AssociateAddressRequest,
) -> Result<api::AssociateAddressResult, ApiError> {
    let (id, address) = (input.allocation_id.as_ref(), input.public_ip.as_ref());
    let id = allocation_of(ec2, caller, id, address);
    let interface = input.network_interface_id.as_deref().unwrap_or_default();
    let permission = on(caller, "ec2:AssociateAddress", "elastic-ip", id.as_ref()).on(arn(
        caller,
        "network-interface",
        interface,
    ));
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        let row = find(it, input.allocation_id.as_ref(), input.public_ip.as_ref())?;
        if input.instance_id.is_some() {
            let why = "InstanceId is not available in this region: there are no instances.";
            return Err(NetworkRefusal::Unsupported(why.to_owned()).into());
        }
        let interface = with_public(it, input.network_interface_id.as_deref())?;
        let interface = at_address(it, interface, input.private_ip_address.as_deref())?;
        if let Some(before) = &row.association {
            if before.eni == interface.eni && before.private == interface.address {
                return Ok(before.id.clone());
            }
            if before.nat_gateway.is_some() {
                return Err(NetworkRefusal::AddressOfAService.into());
            }
            if input.allow_reassociation == Some(false) {
                return Err(NetworkRefusal::AddressAssociated(row.id.to_string()).into());
            }
        }
        check_gateway(it, &interface.vpc)?;
        it.batch.rely(Index::Ec2Uses(it.account, interface.eni.as_str().into()));
        if it.network.view().elastic_address_of(&interface).is_some() {
            let (address, eni) = (interface.address, &interface.eni);
            let message = format!("{address} of {eni} has an Elastic IP address already");
            return Err(Refusal::Value(message));
        }
        Ok(associate(it, &row, &interface))
    });
    Ok(api::AssociateAddressResult { association_id: Some(made.await?.to_string()) })
}

/// An interface at one of its private addresses: at its own without.
fn at_address(
    it: &mut Change<'_>,
    interface: Arc<Interface>,
    given: Option<&str>,
) -> Result<Arc<Interface>, Refusal> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(interface) };
    let others = crate::private_addresses::of(&it.network, &interface);
    let mut all = std::iter::once(&interface).chain(&others);
    let Some(row) = all.find(|row| row.address.to_string() == given).cloned() else {
        let eni = &interface.eni;
        return Err(Refusal::Value(format!("{given} is no private address of {eni}")));
    };
    it.batch.rely(crate::interfaces::key(&row));
    Ok(row)
}

/// A VPC has public addresses only by way of an internet gateway, which stays while it has some.
pub(crate) fn check_gateway(
    it: &mut Change<'_>,
    vpc: &longshore_types::VpcId,
) -> Result<(), Refusal> {
    let gateways = it.network.gateways();
    let gateway = gateways.iter().find(|gateway| gateway.vpc.as_ref() == Some(vpc));
    let gateway = gateway.ok_or_else(|| NetworkRefusal::NoInternetGateway(vpc.to_string()))?;
    it.batch.rely(Key::InternetGateway(it.account, gateway.id.clone()));
    Ok(())
}

/// Gives an address to an interface.
pub(crate) fn associate(
    it: &mut Change<'_>,
    row: &ElasticAddress,
    interface: &Interface,
) -> AddressAssociationId {
    let association = AddressAssociation {
        id: AddressAssociationId::mint(it.ids),
        eni: interface.eni.clone(),
        private: interface.address,
        vpc: interface.vpc.clone(),
        nat_gateway: match &interface.user {
            InterfaceUser::NatGateway { nat_gateway } => Some(nat_gateway.clone()),
            InterfaceUser::Task { .. }
            | InterfaceUser::Balancer { .. }
            | InterfaceUser::VpcEndpoint { .. }
            | InterfaceUser::Person { .. }
            | InterfaceUser::Secondary { .. } => None,
        },
    };
    let id = association.id.clone();
    it.put(ElasticAddress { association: Some(association), ..row.clone() });
    id
}

fn interface(it: &mut Change<'_>, given: Option<&str>) -> Result<Arc<Interface>, Refusal> {
    let id = id_of(Kind::NetworkInterface, "networkInterfaceId", given)?;
    let row = crate::interfaces::find(&it.network, &id);
    let row = row.ok_or_else(|| Kind::NetworkInterface.refused()(id.as_str()))?;
    it.batch.rely(crate::interfaces::key(&row));
    Ok(row)
}

/// An interface that may have an Elastic IP address: one that somebody made, or a task's.
fn with_public(it: &mut Change<'_>, given: Option<&str>) -> Result<Arc<Interface>, Refusal> {
    let row = interface(it, given)?;
    match row.user {
        InterfaceUser::Task { .. } if !row.is_apart => {
            let why = "Tasks of the default VPC have no Elastic IP addresses in this region: they are reached at the \
                       address that they have.";
            Err(NetworkRefusal::Unsupported(why.to_owned()).into())
        }
        InterfaceUser::Person { .. } | InterfaceUser::Task { .. } => Ok(row),
        InterfaceUser::Balancer { .. }
        | InterfaceUser::VpcEndpoint { .. }
        | InterfaceUser::NatGateway { .. }
        | InterfaceUser::Secondary { .. } => Err(NetworkRefusal::NotTheirs.into()),
    }
}

/// An interface that somebody made: those of services are theirs.
pub(crate) fn own_interface(
    it: &mut Change<'_>,
    given: Option<&str>,
) -> Result<Arc<Interface>, Refusal> {
    let row = interface(it, given)?;
    match row.user {
        InterfaceUser::Person { .. } => Ok(row),
        InterfaceUser::Task { .. }
        | InterfaceUser::Balancer { .. }
        | InterfaceUser::VpcEndpoint { .. }
        | InterfaceUser::NatGateway { .. }
        | InterfaceUser::Secondary { .. } => Err(NetworkRefusal::NotTheirs.into()),
    }
}

pub(crate) async fn disassociate_address(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DisassociateAddressRequest,
) -> Result<(), ApiError> {
    let permission = match input.association_id.as_ref().filter(|id| !id.is_empty()) {
        Some(id) => {
            let permission = Permission::to("ec2:DisassociateAddress");
            on_association(ec2, caller, permission, "elastic-ip", Some(id))
        }
        None => {
            let id = allocation_of(ec2, caller, None, input.public_ip.as_ref());
            on(caller, "ec2:DisassociateAddress", "elastic-ip", id.as_ref())
        }
    };
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let row = match input.association_id.as_deref().filter(|id| !id.is_empty()) {
            Some(given) => {
                let id: AddressAssociationId =
                    id_of(Kind::Association, "associationId", Some(given))?;
                let mut rows = it.network.view().elastic_addresses.of(it.account);
                let is_its =
                    |row: &ElasticAddress| row.association.as_ref().is_some_and(|it| it.id == id);
                let row = rows.find(|row| is_its(row));
                row.ok_or_else(|| Kind::Association.refused()(given))?.clone()
            }
            None => find(it, None, input.public_ip.as_ref())?,
        };
        match &row.association {
            // By its address, which has none: nothing is to be done.
            None => Ok(()),
            Some(association) if association.nat_gateway.is_some() => {
                Err(NetworkRefusal::AddressOfAService.into())
            }
            Some(_) => {
                it.put(ElasticAddress { association: None, ..ElasticAddress::clone(&row) });
                Ok(())
            }
        }
    });
    changed.await
}

fn to_wire(region: &RegionName, row: &ElasticAddress, tags: Option<&Tags>) -> api::Address {
    let association = row.association.as_ref();
    api::Address {
        allocation_id: Some(row.id.to_string()),
        association_id: association.map(|it| it.id.to_string()),
        domain: Some(api::DomainType::Vpc),
        network_interface_id: association.map(|it| it.eni.to_string()),
        network_interface_owner_id: association.map(|_| row.account.to_string()),
        private_ip_address: association.map(|it| it.private.to_string()),
        tags: Some(tags::to_wire(tags)),
        public_ipv4_pool: Some("amazon".to_owned()),
        network_border_group: Some(region.to_string()),
        public_ip: Some(row.address.to_string()),
        ..api::Address::default()
    }
}

const FILTERS: Filters<api::Address> = &[
    ("allocation-id", |it| one(it.allocation_id.as_ref())),
    ("association-id", |it| one(it.association_id.as_ref())),
    ("domain", |it| shown(it.domain.as_ref())),
    ("instance-id", |_| vec![]),
    ("network-border-group", |it| one(it.network_border_group.as_ref())),
    ("network-interface-id", |it| one(it.network_interface_id.as_ref())),
    ("network-interface-owner-id", |it| one(it.network_interface_owner_id.as_ref())),
    ("private-ip-address", |it| one(it.private_ip_address.as_ref())),
    ("public-ip", |it| one(it.public_ip.as_ref())),
];

pub(crate) async fn describe_addresses(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeAddressesRequest,
) -> Result<api::DescribeAddressesResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeAddresses").on("*"))?;
    unless_dry(input.dry_run)?;
    let rows = view.elastic_addresses.of(caller.account);
    let wire = rows.map(|row| {
        let tags = view.tags_on(row.account, row.id.as_str());
        to_wire(&caller.region, row, tags)
    });
    let missing = |given: &str| NetworkRefusal::NoPublicAddress(given.to_owned()).into();
    let public = input.public_ips.as_deref();
    let wire = by_id(wire.collect(), public, |it: &api::Address| it.public_ip.as_deref(), missing)?;
    let ids = input.allocation_ids.as_deref();
    let wire = by_id(wire, ids, |it| it.allocation_id.as_deref(), Kind::Address.refused())?;
    // There are no pages of addresses.
    let names: Vec<&str> = FILTERS.iter().map(|(name, _)| *name).collect();
    let addresses = apply(wire, input.filters.as_deref(), &names, &|it, name| {
        let found = FILTERS.iter().find(|(known, _)| *known == name);
        found.map(|(_, values_of)| values_of(it))
    })?;
    Ok(api::DescribeAddressesResult { addresses: Some(addresses) })
}

/// What can be asked of addresses besides is their domain name, which none has.
pub(crate) async fn describe_addresses_attribute(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeAddressesAttributeRequest,
) -> Result<api::DescribeAddressesAttributeResult, ApiError> {
    let permission = Permission::to("ec2:DescribeAddressesAttribute").on("*");
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    let rows = view.elastic_addresses.of(caller.account);
    let wire = rows.map(|row| api::AddressAttribute {
        public_ip: Some(row.address.to_string()),
        allocation_id: Some(row.id.to_string()),
        ..api::AddressAttribute::default()
    });
    let asked = Asked {
        kind: Kind::Address,
        ids: input.allocation_ids.as_deref(),
        filters: None,
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (addresses, next_token) =
        select(wire.collect(), &asked, |it| it.allocation_id.as_deref(), &[])?;
    Ok(api::DescribeAddressesAttributeResult { addresses: Some(addresses), next_token })
}
