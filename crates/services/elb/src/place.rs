//! Where a balancer stands: its subnets, with an interface in each, and its security groups. SetSubnets,
//! SetSecurityGroups and SetIpAddressType.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use aws_wire::{ApiError, Caller};
use control::Permission;
use elb_api as api;
use longshore_types::{EniId, SecurityGroupId, Timestamp, VpcId};
use model::elb::{BalancerKind, BalancerZone};
use model::vpc::{Interface, InterfaceId, InterfaceUser, Subnet, Vpc, mac_of, region_account};
use model::{ElbBalancer, Key, View};
use store::Batch;

use crate::Elb;
use crate::balancers::check_address_type;
use crate::errors::{Refusal, invalid};

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
    let vpc = it.control.own_vpc(view, caller)?;
    let subnets = read_subnets(view, caller, &vpc, kind, asked)?;
    let groups = match asked.groups {
        Some(given) if !given.is_empty() => read_groups(view, caller, &vpc.id, given)?,
        Some(_) | None => match kind {
            BalancerKind::Application => vec![vpc.security_group.clone()],
            BalancerKind::Network => vec![],
        },
    };
    Ok(Places { vpc: vpc.id, subnets, groups })
}

fn read_subnets(
    view: &View,
    caller: &Caller,
    vpc: &Vpc,
    kind: BalancerKind,
    asked: &Asked<'_>,
) -> Result<Vec<Subnet>, ApiError> {
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
    if ids.is_empty() {
        return invalid("At least one subnet must be specified");
    }
    let mut subnets: Vec<Subnet> = Vec::new();
    let mut zones = BTreeSet::new();
    for id in ids {
        let missing = || Refusal::NoSubnet(id.to_owned());
        let parsed = id.parse().map_err(|_| missing())?;
        let of_another = || match view.subnets.get(caller.account, &parsed) {
            Some(other) => Refusal::Unsupported(format!(
                "Load balancers in subnet {id} of {} are not available in this region: they are in the \
                 default VPC",
                other.vpc
            )),
            None => missing(),
        };
        let subnet = vpc.subnet(&parsed).ok_or_else(of_another)?;
        if !zones.insert(subnet.zone.clone()) {
            let message = format!(
                "A load balancer cannot be attached to multiple subnets in the same Availability Zone ({})",
                subnet.zone
            );
            return Err(Refusal::Configuration(message).into());
        }
        subnets.push(subnet.clone());
    }
    if kind == BalancerKind::Application && zones.len() < 2 {
        return invalid(
            "At least two subnets in two different Availability Zones must be specified",
        );
    }
    Ok(subnets)
}

fn read_groups(
    view: &View,
    caller: &Caller,
    vpc: &VpcId,
    given: &[String],
) -> Result<Vec<SecurityGroupId>, ApiError> {
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

/// Gives a balancer an interface in each of the subnets, and takes those in others away.
pub(crate) fn set_zones(
    it: &Elb,
    view: &View,
    batch: &mut Batch,
    row: &mut ElbBalancer,
    subnets: &[Subnet],
    now: Timestamp,
) -> Result<(), ApiError> {
    let path = row.path();
    let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut row.zones)
        .into_iter()
        .partition(|zone| subnets.iter().any(|subnet| subnet.id == zone.subnet));
    for zone in gone {
        batch.delete(Key::Interface(region_account(), InterfaceId::shared(zone.address)));
    }
    row.zones = kept;
    let id = it.control.ids.id16();
    let seed = id.iter().take(8).fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    for subnet in subnets {
        if row.zones.iter().any(|zone| zone.subnet == subnet.id) {
            continue;
        }
        let is_taken = |address: Ipv4Addr| {
            view.interfaces.get(region_account(), &InterfaceId::shared(address)).is_some()
        };
        let Some(address) = subnet.free_address(seed, is_taken) else {
            let message = format!("Not enough IP space available in {}", subnet.id);
            return Err(ApiError::client("InvalidSubnet", message));
        };
        let eni = EniId::mint(it.control.ids.as_ref());
        batch.rely(Key::Interface(region_account(), InterfaceId::shared(address)));
        batch.put(Interface {
            address,
            eni: eni.clone(),
            owner: row.scope.clone(),
            user: InterfaceUser::Balancer { balancer: path.clone() },
            vpc: row.vpc.clone(),
            subnet: subnet.id.clone(),
            security_groups: row.security_groups.clone(),
            zone: subnet.zone.clone(),
            mac: mac_of(address),
            assign_public_ip: !row.is_internal,
            created_at: now,
            is_apart: false,
            public: None,
        });
        let (zone, subnet) = (subnet.zone.clone(), subnet.id.clone());
        row.zones.push(BalancerZone { zone, subnet, eni, address });
    }
    row.zones.sort_by(|a, b| a.subnet.cmp(&b.subnet));
    Ok(())
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
        let vpc = it.control.own_vpc(view, caller)?;
        let asked = Asked {
            subnets: input.subnets.as_deref(),
            mappings: input.subnet_mappings.as_deref(),
            groups: None,
        };
        let subnets = read_subnets(view, caller, &vpc, known.kind, &asked)?;
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
        let groups = read_groups(view, caller, &known.vpc, &given)?;
        let mut batch = Batch::on(view);
        let row = ElbBalancer { security_groups: groups.clone(), ..ElbBalancer::clone(known) };
        if row != **known {
            for zone in &row.zones {
                let id = InterfaceId::shared(zone.address);
                let interface = view.interfaces.get(region_account(), &id);
                if let Some(interface) = interface {
                    let mut interface = Interface::clone(interface);
                    interface.security_groups.clone_from(&groups);
                    batch.put(interface);
                }
            }
            batch.put(row);
        }
        Ok((batch, groups))
    });
    let groups = decided.await?;
    Ok(api::SetSecurityGroupsOutput {
        security_group_ids: Some(groups.iter().map(ToString::to_string).collect()),
        ..api::SetSecurityGroupsOutput::default()
    })
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
