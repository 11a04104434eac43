//! Where a balancer stands: its subnets, all of one VPC, with an interface in each, and its security groups. SetSubnets,
//! SetSecurityGroups and SetIpAddressType.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use elb_api::{self as api, EnforceSecurityGroupInboundRulesOnPrivateLinkTrafficEnum as Judges};
use longshore_types::{EniId, SecurityGroupId, Timestamp, VpcId};
use model::elb::{BalancerKind, BalancerZone, Stand, StandState};
use model::network::Network;
use model::vpc::{Interface, InterfaceId, InterfaceUser, Subnet, Vpc, mac_of, region_account};
use model::{ElbBalancer, Index, Key, Row, View};
use plan::balancers::LEAVE_MS;
use store::Batch;

use crate::Elb;
use crate::balancers::check_address_type;
use crate::errors::{Refusal, invalid};
use crate::limits::SECURITY_GROUPS_MAX;

/// What a request says of the place.
pub(crate) struct Asked<'a> {
    pub(crate) subnets: Option<&'a [String]>,
    pub(crate) mappings: Option<&'a [api::SubnetMapping]>,
    pub(crate) groups: Option<&'a [String]>,
}

/// The place, read.
pub(crate) struct Places {
    pub(crate) vpc: VpcId,
    pub(crate) subnets: Vec<Subnet>,
    pub(crate) groups: Vec<SecurityGroupId>,
}

/// The subnets that a request names, for policies.
pub(crate) fn named_subnets(input: &api::CreateLoadBalancerInput) -> Vec<String> {
    let mapped = input.subnet_mappings.iter().flatten().filter_map(|it| it.subnet_id.clone());
    input.subnets.iter().flatten().cloned().chain(mapped).collect()
}

pub(crate) fn read(
    it: &Elb,
    view: &View,
    caller: &Caller,
    kind: BalancerKind,
    asked: &Asked<'_>,
) -> Result<Places, ApiError> {
    let network = it.control.network(view, caller.account);
    let (vpc, subnets) = read_subnets(&network, kind, asked)?;
    let groups = match asked.groups {
        Some(given) if !given.is_empty() => read_groups(view, caller, &vpc.id, given)?,
        Some(_) | None => match kind {
            BalancerKind::Application => vec![vpc.security_group],
            BalancerKind::Network => vec![],
        },
    };
    Ok(Places { vpc: vpc.id, subnets, groups })
}

/// That clients from outside come to a VPC at all.
pub(crate) fn check_internet_facing(
    it: &Elb,
    view: &View,
    caller: &Caller,
    batch: &mut Batch,
    vpc: &VpcId,
) -> Result<(), ApiError> {
    let network = it.control.network(view, caller.account);
    let gateways = network.gateways();
    let Some(gateway) = gateways.iter().find(|gateway| gateway.vpc.as_ref() == Some(vpc)) else {
        let message = format!("VPC {vpc} has no internet gateway");
        return Err(ApiError::client("InvalidSubnet", message));
    };
    batch.rely(Key::InternetGateway(caller.account, gateway.id.clone()));
    Ok(())
}

/// The subnets that are asked for, and the VPC that all of them are in.
fn read_subnets(
    network: &Network<'_>,
    kind: BalancerKind,
    asked: &Asked<'_>,
) -> Result<(Vpc, Vec<Subnet>), ApiError> {
    let ids = named(asked)?;
    let mut vpc: Option<Vpc> = None;
    let mut subnets: Vec<Subnet> = Vec::new();
    let mut zones = BTreeSet::new();
    for id in ids {
        let row = id.parse().ok().and_then(|id| network.subnet(&id));
        let of = row.as_ref().and_then(|row| network.whole_vpc(&row.vpc));
        let (Some(row), Some(of)) = (row, of) else {
            return Err(Refusal::NoSubnet(id.to_owned()).into());
        };
        let first = vpc.get_or_insert(of);
        let Some(subnet) = first.subnet(&row.id) else {
            let message = format!(
                "All subnets must belong to the same VPC: '{}', of which '{id}' is none",
                first.id
            );
            return Err(Refusal::Configuration(message).into());
        };
        if !zones.insert(subnet.zone.clone()) {
            let message = format!(
                "A load balancer cannot be attached to multiple subnets in the same Availability Zone ({})",
                subnet.zone
            );
            return Err(Refusal::Configuration(message).into());
        }
        subnets.push(subnet.clone());
    }
    let Some(vpc) = vpc else { return invalid("At least one subnet must be specified") };
    if kind == BalancerKind::Application && zones.len() < 2 {
        return invalid(
            "At least two subnets in two different Availability Zones must be specified",
        );
    }
    Ok((vpc, subnets))
}

/// The ids of subnets in either of the two members.
fn named<'a>(asked: &Asked<'a>) -> Result<Vec<&'a str>, ApiError> {
    let mut ids: Vec<&str> = asked.subnets.unwrap_or_default().iter().map(String::as_str).collect();
    let mappings = asked.mappings.unwrap_or_default();
    if !ids.is_empty() && !mappings.is_empty() {
        return invalid("Either subnets or subnet mappings can be specified, not both");
    }
    for mapping in mappings {
        let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        for (given, what) in [
            (&mapping.allocation_id, "AllocationId"),
            (&mapping.private_ipv4_address, "PrivateIPv4Address"),
            (&mapping.ipv6_address, "IPv6Address"),
            (&mapping.source_nat_ipv6_prefix, "SourceNatIpv6Prefix"),
        ] {
            if is_given(given) {
                let message = format!(
                    "{what} of a subnet mapping is not available in this region: addresses are chosen by it"
                );
                return Err(Refusal::Unsupported(message).into());
            }
        }
        ids.extend(mapping.subnet_id.as_deref());
    }
    Ok(ids)
}

fn read_groups(
    view: &View,
    caller: &Caller,
    vpc: &VpcId,
    given: &[String],
) -> Result<Vec<SecurityGroupId>, ApiError> {
    if SECURITY_GROUPS_MAX < given.len() {
        let message = format!("The maximum number of security groups is {SECURITY_GROUPS_MAX}");
        return Err(Refusal::Configuration(message).into());
    }
    let mut groups = Vec::new();
    for id in given {
        let parsed: Option<SecurityGroupId> = id.parse().ok();
        let found = parsed.and_then(|id| view.security_group(caller.account, &id));
        let found = found.ok_or_else(|| Refusal::NoSecurityGroup(id.clone()))?.group;
        if found.vpc != *vpc {
            let message = format!(
                "Security group '{id}' and the load balancer belong to different networks ({} and {vpc})",
                found.vpc
            );
            return Err(Refusal::Configuration(message).into());
        }
        groups.push(found.id);
    }
    groups.sort();
    groups.dedup();
    Ok(groups)
}

/// What a balancer's interface in a zone is called, wherever the balancer is.
fn interface_id(view: &View, row: &ElbBalancer, zone: &BalancerZone) -> InterfaceId {
    InterfaceId { vpc: view.own_vpc(row.scope.account, &row.vpc), address: zone.address }
}

/// Takes a balancer's interface away, with its tags.
pub(crate) fn leave(view: &View, batch: &mut Batch, row: &ElbBalancer, zone: &BalancerZone) {
    batch.delete(Key::Interface(region_account(), interface_id(view, row, zone)));
    let account = row.scope.account;
    let resource: Arc<str> = zone.eni.as_str().into();
    if view.tags_on(account, &resource).is_some() {
        batch.delete(Key::Ec2Tags(account, resource));
    }
}

/// Gives a balancer an interface in each of the subnets, and has those in others leave.
pub(crate) fn set_zones(
    it: &Elb,
    view: &View,
    batch: &mut Batch,
    row: &mut ElbBalancer,
    subnets: &[Subnet],
    now: Timestamp,
) -> Result<(), ApiError> {
    let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut row.zones)
        .into_iter()
        .partition(|zone| subnets.iter().any(|subnet| subnet.id == zone.subnet));
    row.zones = kept;
    for mut zone in gone {
        let at = match zone.stand.state {
            // The process of a host whose agent is silent serves on.
            StandState::Serving | StandState::Away => now.plus_ms(LEAVE_MS),
            StandState::Leaving { at } => at,
            // Nobody can have come there.
            StandState::Coming { .. } => {
                leave(view, batch, row, &zone);
                continue;
            }
        };
        zone.stand.state = StandState::Leaving { at };
        row.leaving.push(zone);
    }
    // Those that are wanted again have not gone yet.
    let (back, leaving): (Vec<_>, Vec<_>) = std::mem::take(&mut row.leaving)
        .into_iter()
        .partition(|zone| subnets.iter().any(|subnet| subnet.id == zone.subnet));
    row.leaving = leaving;
    row.zones.extend(back.into_iter().map(|mut zone| {
        zone.stand.state = StandState::Serving;
        zone
    }));
    let id = it.control.ids.id16();
    let seed = id.iter().take(8).fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    for subnet in subnets {
        if row.zones.iter().any(|zone| zone.subnet == subnet.id) {
            continue;
        }
        let zone = enter(it, view, batch, row, subnet, seed, now)?;
        row.zones.push(zone);
    }
    row.zones.sort_by(|a, b| a.subnet.cmp(&b.subnet));
    Ok(())
}

/// Gives a balancer an interface in a subnet, at a free address.
fn enter(
    it: &Elb,
    view: &View,
    batch: &mut Batch,
    row: &ElbBalancer,
    subnet: &Subnet,
    seed: u64,
    now: Timestamp,
) -> Result<BalancerZone, ApiError> {
    let account = row.scope.account;
    let own = view.own_vpc(account, &row.vpc);
    let id = |address| InterfaceId { vpc: own.clone(), address };
    let is_taken =
        |address: Ipv4Addr| view.interfaces.get(region_account(), &id(address)).is_some();
    let Some(address) = subnet.free_address(seed, is_taken) else {
        let message = format!("Not enough IP space available in {}", subnet.id);
        return Err(ApiError::client("InvalidSubnet", message));
    };
    let public = match own.is_some() && !row.is_internal {
        true => Some(public_address(view, batch, seed)?),
        false => None,
    };
    let eni = EniId::mint(it.control.ids.as_ref());
    batch.rely(Key::Interface(region_account(), id(address)));
    // Neither the subnet nor a group that the interface is about to have must be deleted meanwhile.
    batch.rely(Key::Subnet(account, subnet.id.clone()));
    rely_on_groups(batch, row);
    batch.put(Interface {
        address,
        eni: eni.clone(),
        owner: row.scope.clone(),
        user: InterfaceUser::Balancer { balancer: row.path() },
        vpc: row.vpc.clone(),
        subnet: subnet.id.clone(),
        security_groups: row.security_groups.clone(),
        zone: subnet.zone.clone(),
        mac: mac_of(address),
        assign_public_ip: !row.is_internal,
        created_at: now,
        is_apart: own.is_some(),
        public,
    });
    Ok(BalancerZone {
        zone: subnet.zone.clone(),
        subnet: subnet.id.clone(),
        eni,
        address,
        // It goes on to another host at once, if there is one.
        stand: Stand::coming(None, now),
        passed_over: Vec::new(),
        is_unwell: false,
    })
}

/// An address by which the world knows an interface of a VPC with addresses of its own.
fn public_address(view: &View, batch: &mut Batch, seed: u64) -> Result<Ipv4Addr, ApiError> {
    let taken_now: Vec<Ipv4Addr> = batch
        .writes
        .iter()
        .filter_map(|row| match row {
            Row::Interface(interface) => interface.public,
            _ => None,
        })
        .collect();
    let free = view.free_public_address(seed, |address| taken_now.contains(&address));
    let Some(address) = free else {
        let message = "The region's pool of public addresses has none left".to_owned();
        return Err(Refusal::Configuration(message).into());
    };
    batch.rely(Index::PublicAddress(address));
    Ok(address)
}

fn rely_on_groups(batch: &mut Batch, row: &ElbBalancer) {
    for group in &row.security_groups {
        batch.rely(Key::SecurityGroup(row.scope.account, group.clone()));
    }
}

pub(crate) fn render(row: &ElbBalancer) -> Vec<api::AvailabilityZone> {
    let zones = row.zones.iter().map(|zone| api::AvailabilityZone {
        zone_name: Some(zone.zone.clone()),
        subnet_id: Some(zone.subnet.to_string()),
        load_balancer_addresses: Some(vec![]),
        ..api::AvailabilityZone::default()
    });
    zones.collect()
}

pub(crate) async fn set_subnets(
    it: &Elb,
    caller: &Caller,
    input: api::SetSubnetsInput,
) -> Result<api::SetSubnetsOutput, ApiError> {
    let arn = input.load_balancer_arn.clone().unwrap_or_default();
    let mapped = input.subnet_mappings.iter().flatten().filter_map(|it| it.subnet_id.clone());
    let named: Vec<String> = input.subnets.iter().flatten().cloned().chain(mapped).collect();
    let permission = Permission::to("elasticloadbalancing:SetSubnets")
        .on(arn.clone())
        .with_list("elasticloadbalancing:Subnet", named);
    let decided = it.control.change(caller, &permission, |view, now| {
        let known = it.balancer(view, caller, &arn)?;
        check_address_type(input.ip_address_type.as_ref())?;
        let network = it.control.network(view, caller.account);
        let asked = Asked {
            subnets: input.subnets.as_deref(),
            mappings: input.subnet_mappings.as_deref(),
            groups: None,
        };
        let (vpc, subnets) = read_subnets(&network, known.kind, &asked)?;
        if vpc.id != known.vpc {
            let message = format!("All subnets must belong to the same VPC: '{}'", known.vpc);
            return Err(Refusal::Configuration(message).into());
        }
        let mut batch = Batch::on(view);
        let mut row = ElbBalancer::clone(known);
        set_zones(it, view, &mut batch, &mut row, &subnets, now)?;
        let zones = render(&row);
        if row != **known {
            batch.put(row);
        }
        Ok((batch, zones))
    });
    Ok(api::SetSubnetsOutput {
        availability_zones: Some(decided.await?),
        ip_address_type: Some(api::IpAddressType::Ipv4),
        ..api::SetSubnetsOutput::default()
    })
}

pub(crate) async fn set_security_groups(
    it: &Elb,
    caller: &Caller,
    input: api::SetSecurityGroupsInput,
) -> Result<api::SetSecurityGroupsOutput, ApiError> {
    let arn = input.load_balancer_arn.unwrap_or_default();
    let given = input.security_groups.unwrap_or_default();
    let links = input.enforce_security_group_inbound_rules_on_private_link_traffic;
    let permission = Permission::to("elasticloadbalancing:SetSecurityGroups")
        .on(arn.clone())
        .with_list("elasticloadbalancing:SecurityGroup", given.clone());
    let decided = it.control.change(caller, &permission, |view, _| {
        let known = it.balancer(view, caller, &arn)?;
        if known.kind == BalancerKind::Network && known.security_groups.is_empty() {
            let message = format!(
                "You cannot set security groups for load balancer '{arn}': it was created without any"
            );
            return Err(Refusal::Configuration(message).into());
        }
        if given.is_empty() {
            return invalid("At least one security group must be specified");
        }
        let exempts_private_links = exempts_links(known, links.as_ref())?;
        let groups = read_groups(view, caller, &known.vpc, &given)?;
        let mut batch = Batch::on(view);
        let row = ElbBalancer {
            security_groups: groups.clone(),
            exempts_private_links,
            ..ElbBalancer::clone(known)
        };
        let judges = judges_links(&row);
        if row != **known {
            rely_on_groups(&mut batch, &row);
            for zone in row.interfaces() {
                let id = interface_id(view, &row, zone);
                let interface = view.interfaces.get(region_account(), &id);
                if let Some(interface) = interface {
                    let mut interface = Interface::clone(interface);
                    interface.security_groups.clone_from(&groups);
                    batch.put(interface);
                }
            }
            batch.put(row);
        }
        Ok((batch, (groups, judges)))
    });
    let (groups, judges) = decided.await?;
    Ok(api::SetSecurityGroupsOutput {
        security_group_ids: Some(groups.iter().map(ToString::to_string).collect()),
        enforce_security_group_inbound_rules_on_private_link_traffic: judges,
    })
}

/// Whether its groups are not to judge what comes by PrivateLink: where nothing is said of it, as before.
fn exempts_links(known: &ElbBalancer, asked: Option<&Judges>) -> Result<bool, ApiError> {
    const NAME: &str = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic";
    match asked {
        None => Ok(known.exempts_private_links),
        Some(_) if known.kind == BalancerKind::Application => {
            let message =
                format!("{NAME} is not supported on load balancers with type 'application'");
            Err(Refusal::Configuration(message).into())
        }
        Some(Judges::On) => Ok(false),
        Some(Judges::Off) => Ok(true),
        Some(_) => invalid(format!("{NAME} must be 'on' or 'off'")),
    }
}

/// Whether its groups judge what comes by PrivateLink, as is said of network balancers that have groups.
pub(crate) fn judges_links(row: &ElbBalancer) -> Option<Judges> {
    let has_any = row.kind == BalancerKind::Network && !row.security_groups.is_empty();
    has_any.then_some(if row.exempts_private_links { Judges::Off } else { Judges::On })
}

pub(crate) async fn set_ip_address_type(
    it: &Elb,
    caller: &Caller,
    input: api::SetIpAddressTypeInput,
) -> Result<api::SetIpAddressTypeOutput, ApiError> {
    let arn = input.load_balancer_arn.unwrap_or_default();
    let permission = Permission::to("elasticloadbalancing:SetIpAddressType").on(arn.clone());
    let view = it.control.read(caller, &permission)?;
    it.balancer(&view, caller, &arn)?;
    check_address_type(input.ip_address_type.as_ref())?;
    Ok(api::SetIpAddressTypeOutput { ip_address_type: Some(api::IpAddressType::Ipv4) })
}
