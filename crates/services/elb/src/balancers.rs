//! CreateLoadBalancer, DescribeLoadBalancers and DeleteLoadBalancer.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::linked;
use elb_api as api;
use longshore_types::{AccountId, Timestamp};
use model::elb::{self, Attributes, BalancerKind};
use model::{ElbBalancer, Index, Key, Tags, View};
use store::Batch;

use crate::errors::{Refusal, invalid};
use crate::limits::{APPLICATION_BALANCERS_MAX, NAME_CHARS_MAX, NAMED_MAX, NETWORK_BALANCERS_MAX};
use crate::pages::page;
use crate::place::{self, Asked};
use crate::{Elb, albs, tags};

/// The Route 53 zones in which Amazon keeps the names of balancers: region, application, network.
const HOSTED_ZONES: &[(&str, &str, &str)] = &[
    ("us-east-1", "Z35SXDOTRQ7X7K", "Z26RNL4JYFTOTI"),
    ("us-east-2", "Z3AADJGX6KTTL2", "ZLMOA37VPKANP"),
    ("us-west-1", "Z368ELLRRE2KJ0", "Z24FKFUX50B4VW"),
    ("us-west-2", "Z1H1FL5HABSF5", "Z18D5FSROUN65G"),
    ("eu-west-1", "Z32O12XQLNTSW2", "Z2IFOLAFXWLO4F"),
    ("eu-central-1", "Z215JYRZR1TBD5", "Z3F0SRJ5LGBH90"),
];

/// The rules for names of balancers and groups; `what` such as `Target group`.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return invalid(format!("A {} name must be specified", what.to_ascii_lowercase()));
    }
    if name.len() > NAME_CHARS_MAX {
        return invalid(format!(
            "{what} name '{name}' cannot be longer than '{NAME_CHARS_MAX}' characters"
        ));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return invalid(format!(
            "{what} name '{name}' can only contain characters that are alphanumeric characters or hyphens(-)"
        ));
    }
    if name.starts_with('-') || name.ends_with('-') {
        return invalid(format!("{what} name '{name}' cannot begin or end with a hyphen(-)"));
    }
    Ok(())
}

/// `IpAddressType`: this region's addresses are IPv4.
pub(crate) fn check_address_type(given: Option<&api::IpAddressType>) -> Result<(), ApiError> {
    match given {
        None | Some(api::IpAddressType::Ipv4) => Ok(()),
        Some(api::IpAddressType::Dualstack | api::IpAddressType::DualstackWithoutPublicIpv4) => {
            Err(Refusal::Unsupported(
                "The IP address type must be 'ipv4': the subnets of this region have no IPv6 addresses"
                    .to_owned(),
            )
            .into())
        }
        Some(other) => invalid(format!(
            "1 validation error detected: Value '{other}' at 'ipAddressType' failed to satisfy constraint: \
             Member must satisfy enum value set: [ipv4, dualstack]"
        )),
    }
}

pub(crate) async fn create_load_balancer(
    it: &Elb,
    caller: &Caller,
    input: api::CreateLoadBalancerInput,
) -> Result<api::CreateLoadBalancerOutput, ApiError> {
    let tags = tags::read(input.tags.as_deref())?;
    let name = input.name.clone().unwrap_or_default();
    let (digits, dns_number) = (it.digits(), dns_number(it));
    let scope = it.control.scope(caller);
    let short = read_kind(input.r#type.as_ref()).map_or("app", BalancerKind::short);
    let arn = elb::arn(&scope, "loadbalancer", &format!("{short}/{name}/*"));
    let scheme =
        input.scheme.as_ref().map_or("internet-facing", |scheme| scheme.as_str()).to_owned();
    let permission = Permission::to("elasticloadbalancing:CreateLoadBalancer")
        .on(arn.clone())
        .with("elasticloadbalancing:Scheme", scheme)
        .with_list("elasticloadbalancing:Subnet", place::named_subnets(&input))
        .with_list(
            "elasticloadbalancing:SecurityGroup",
            input.security_groups.clone().unwrap_or_default(),
        )
        .tagging_new(caller, "elasticloadbalancing:AddTags", arn, &tags);
    let decided = it.control.change(caller, &permission, |view, now| {
        check_name("Load balancer", &name)?;
        if name.starts_with("internal-") {
            return invalid(format!("Load balancer name '{name}' cannot begin with 'internal-'"));
        }
        let kind = read_kind(input.r#type.as_ref())?;
        let fresh = Fresh { digits: &digits, dns_number };
        decide(it, caller, view, &input, &name, kind, &fresh, &tags, now)
    });
    let row = decided.await?;
    Ok(api::CreateLoadBalancerOutput { load_balancers: Some(vec![render(&row)]) })
}

/// What is drawn for a new balancer.
struct Fresh<'f> {
    digits: &'f str,
    dns_number: u32,
}

#[expect(clippy::too_many_arguments, reason = "each is a fact of the request, used once")]
fn decide(
    it: &Elb,
    caller: &Caller,
    view: &View,
    input: &api::CreateLoadBalancerInput,
    name: &str,
    kind: BalancerKind,
    fresh: &Fresh<'_>,
    tags: &Tags,
    now: Timestamp,
) -> Result<(Batch, Arc<ElbBalancer>), ApiError> {
    let is_internal = read_scheme(input.scheme.as_ref())?;
    check_address_type(input.ip_address_type.as_ref())?;
    check_absent(input)?;
    let asked = Asked {
        subnets: input.subnets.as_deref(),
        mappings: input.subnet_mappings.as_deref(),
        groups: input.security_groups.as_deref(),
    };
    let places = place::read(it, view, caller, kind, &asked)?;
    let account = caller.account;
    let mut batch = Batch::on(view);
    if let Some(known) = view.elb_balancers.of(account).find(|row| row.name == name) {
        let mut subnets: Vec<_> = places.subnets.iter().map(|subnet| &subnet.id).collect();
        subnets.sort();
        let is_same = known.kind == kind
            && known.is_internal == is_internal
            && known.tags == *tags
            && known.security_groups == places.groups
            && known.zones.iter().map(|zone| &zone.subnet).eq(subnets);
        return match is_same {
            true => Ok((batch, Arc::clone(known))),
            false => Err(Refusal::BalancerDiffers(name.to_owned()).into()),
        };
    }
    let max = match kind {
        BalancerKind::Application => APPLICATION_BALANCERS_MAX,
        BalancerKind::Network => NETWORK_BALANCERS_MAX,
    };
    if max <= view.elb_balancers.of(account).filter(|row| row.kind == kind).count() {
        return Err(Refusal::TooMany("LoadBalancers", max).into());
    }
    it.control.make_linked(view, caller, linked::BALANCERS, now, &mut batch);
    if !is_internal {
        place::check_internet_facing(it, view, caller, &mut batch, &places.vpc)?;
    }
    let mut row = ElbBalancer {
        scope: it.control.scope(caller),
        kind,
        name: name.to_owned(),
        digits: fresh.digits.to_owned(),
        dns_number: fresh.dns_number,
        is_internal,
        vpc: places.vpc.clone(),
        zones: Vec::new(),
        leaving: Vec::new(),
        security_groups: places.groups.clone(),
        exempts_private_links: false,
        attributes: Attributes::new(),
        tags: tags.clone(),
        created_at: now,
        shifts: Vec::new(),
    };
    place::set_zones(it, view, &mut batch, &mut row, &places.subnets, now)?;
    let row = Arc::new(row);
    batch.put(Arc::clone(&row));
    Ok((batch, row))
}

fn dns_number(it: &Elb) -> u32 {
    let id = it.control.ids.id16();
    let number = id.iter().take(4).fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
    number.max(1_000_000_000)
}

fn read_kind(given: Option<&api::LoadBalancerTypeEnum>) -> Result<BalancerKind, ApiError> {
    match given {
        None | Some(api::LoadBalancerTypeEnum::Application) => Ok(BalancerKind::Application),
        Some(api::LoadBalancerTypeEnum::Network) => Ok(BalancerKind::Network),
        Some(api::LoadBalancerTypeEnum::Gateway) => Err(Refusal::Unsupported(
            "Load balancers of type 'gateway' are not available in this region; choose 'application' or 'network'"
                .to_owned(),
        )
        .into()),
        Some(other) => invalid(format!(
            "1 validation error detected: Value '{other}' at 'type' failed to satisfy constraint: Member must \
             satisfy enum value set: [application, network, gateway]"
        )),
    }
}

/// Whether it is internal.
fn read_scheme(given: Option<&api::LoadBalancerSchemeEnum>) -> Result<bool, ApiError> {
    match given {
        None | Some(api::LoadBalancerSchemeEnum::InternetFacing) => Ok(false),
        Some(api::LoadBalancerSchemeEnum::Internal) => Ok(true),
        Some(other) => invalid(format!(
            "1 validation error detected: Value '{other}' at 'scheme' failed to satisfy constraint: Member must \
             satisfy enum value set: [internet-facing, internal]"
        )),
    }
}

/// What this region has nothing for.
fn check_absent(input: &api::CreateLoadBalancerInput) -> Result<(), ApiError> {
    let is_prefix_on =
        input.enable_prefix_for_ipv6_source_nat == Some(api::EnablePrefixForIpv6SourceNatEnum::On);
    for (is_given, what) in [
        (input.customer_owned_ipv4_pool.is_some(), "CustomerOwnedIpv4Pool"),
        (input.ipam_pools.is_some(), "IpamPools"),
        (is_prefix_on, "EnablePrefixForIpv6SourceNat"),
    ] {
        if is_given {
            let message = format!("{what} is not available in this region");
            return Err(Refusal::Unsupported(message).into());
        }
    }
    Ok(())
}

pub(crate) fn render(row: &ElbBalancer) -> api::LoadBalancer {
    let region = row.scope.region.as_str();
    let hosted = HOSTED_ZONES.iter().find(|(of, _, _)| *of == region);
    let hosted = hosted.map(|(_, application, network)| match row.kind {
        BalancerKind::Application => (*application).to_owned(),
        BalancerKind::Network => (*network).to_owned(),
    });
    let has_groups = row.kind == BalancerKind::Application || !row.security_groups.is_empty();
    let groups = row.security_groups.iter().map(ToString::to_string).collect();
    api::LoadBalancer {
        load_balancer_arn: Some(row.arn()),
        dns_name: Some(row.dns_name()),
        canonical_hosted_zone_id: hosted,
        created_time: Some(row.created_at),
        load_balancer_name: Some(row.name.clone()),
        scheme: Some(match row.is_internal {
            true => api::LoadBalancerSchemeEnum::Internal,
            false => api::LoadBalancerSchemeEnum::InternetFacing,
        }),
        vpc_id: Some(row.vpc.to_string()),
        state: Some(api::LoadBalancerState {
            code: Some(api::LoadBalancerStateEnum::Active),
            reason: None,
        }),
        r#type: Some(row.kind.as_str().into()),
        availability_zones: Some(place::render(row)),
        security_groups: has_groups.then_some(groups),
        ip_address_type: Some(api::IpAddressType::Ipv4),
        enforce_security_group_inbound_rules_on_private_link_traffic: place::judges_links(row)
            .map(|judges| judges.as_str().to_owned()),
        ..api::LoadBalancer::default()
    }
}

pub(crate) async fn describe_load_balancers(
    it: &Elb,
    caller: &Caller,
    input: api::DescribeLoadBalancersInput,
) -> Result<api::DescribeLoadBalancersOutput, ApiError> {
    let view = it.read(caller, "elasticloadbalancing:DescribeLoadBalancers")?;
    let (arns, names) =
        (input.load_balancer_arns.unwrap_or_default(), input.names.unwrap_or_default());
    if !arns.is_empty() && !names.is_empty() {
        return invalid("Load balancer ARNs and names cannot be specified at the same time");
    }
    if arns.len().max(names.len()) > NAMED_MAX {
        return invalid(format!("Up to {NAMED_MAX} load balancers can be described at once"));
    }
    let mut rows: Vec<&Arc<ElbBalancer>> = Vec::new();
    for arn in &arns {
        let found = it.balancer(&view, caller, arn);
        rows.push(found.map_err(|_| Refusal::NoBalancer(arn.clone()))?);
    }
    for name in &names {
        let found = view.elb_balancers.of(caller.account).find(|row| row.name == *name);
        rows.push(found.ok_or(Refusal::NoBalancers)?);
    }
    if arns.is_empty() && names.is_empty() {
        rows.extend(view.elb_balancers.of(caller.account));
    }
    rows.sort_by_key(|row| row.path());
    rows.dedup_by_key(|row| row.path());
    let rows = rows.into_iter().map(|row| (row.path(), render(row)));
    let page = page(input.marker, input.page_size, rows)?;
    Ok(api::DescribeLoadBalancersOutput {
        load_balancers: Some(page.items),
        next_marker: page.marker,
    })
}

pub(crate) async fn delete_load_balancer(
    it: &Elb,
    caller: &Caller,
    input: api::DeleteLoadBalancerInput,
) -> Result<api::DeleteLoadBalancerOutput, ApiError> {
    let arn = input.load_balancer_arn.unwrap_or_default();
    let permission = Permission::to("elasticloadbalancing:DeleteLoadBalancer").on(arn.clone());
    let account = caller.account;
    let decided = it.control.change(caller, &permission, |view, _| {
        let mut batch = Batch::on(view);
        // One that is not there counts as deleted.
        let Ok(row) = it.balancer(view, caller, &arn) else { return Ok((batch, ())) };
        let protection = row.attributes.get("deletion_protection.enabled");
        if protection.is_some_and(|value| value == "true") {
            return Err(Refusal::Protected(arn.clone()).into());
        }
        albs::check_deleted(view, &mut batch, row)?;
        let listeners = Index::ElbListeners(account, row.path());
        let listeners: Vec<Key> = view.members(&listeners).cloned().collect();
        for key in listeners {
            let Key::ElbListener(_, path) = &key else { continue };
            delete_rules(view, &mut batch, account, path);
            batch.delete(key);
        }
        for zone in row.interfaces() {
            place::leave(view, &mut batch, row, zone);
        }
        batch.delete(Key::ElbBalancer(account, row.path()));
        Ok((batch, ()))
    });
    decided.await?;
    Ok(api::DeleteLoadBalancerOutput {})
}

/// Deletes the rules of a listener.
pub(crate) fn delete_rules(
    view: &View,
    batch: &mut Batch,
    account: AccountId,
    listener: &elb::ElbPath,
) {
    let index = Index::ElbRules(account, Arc::clone(listener));
    for key in view.members(&index) {
        batch.delete(key.clone());
    }
    batch.rely(index);
}
