//! RegisterTargets, DeregisterTargets and DescribeTargetHealth.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::targets::{INSTANCE_ADDRESS, instance_name};
use elb_api as api;
use longshore_types::{AccountId, Timestamp, VpcId};
use model::elb::{
    BalancerKind, CheckFailure, ElbPath, ElbProtocol, GroupTargets, TargetHealth, TargetId,
};
use model::instance::InstanceStatus;
use model::vpc::{AddressPlanId, InterfaceId, region_account};
use model::{ElbGroup, ElbTarget, Index, Instance, Key, View};
use store::Batch;

use crate::Elb;
use crate::albs;
use crate::attributes::{outside_zones, unhealthy_draining_s};
use crate::compile::IsOwn;
use crate::errors::{Refusal, invalid};
use crate::limits::TARGETS_OF_GROUP_MAX;
use crate::zonal::{self, Unused, Usage};

/// The targets of a group, by name.
pub(crate) fn of_group<'v>(
    view: &'v View,
    account: AccountId,
    path: &ElbPath,
) -> impl Iterator<Item = &'v Arc<ElbTarget>> + use<'v> {
    view.members(&Index::ElbTargets(account, Arc::clone(path))).filter_map(|key| match key {
        Key::ElbTarget(account, id) => view.elb_targets.get(*account, id),
        _ => None,
    })
}

/// Whether what a target names may be somebody else's by now, or a balancer's, which would ask itself without end. The
/// default VPCs of all accounts draw on one range of addresses, and balancers reach every task whatever its security groups
/// say; a port of the machine that no task of the account publishes any more is that of whoever listens there next, and no
/// other VPC has the machine in it.
///
/// `own_vpc` is the group's VPC, if that has addresses of its own.
pub(crate) fn is_anothers(
    view: &View,
    group: &ElbGroup,
    own_vpc: Option<&VpcId>,
    row: &ElbTarget,
    published: &BTreeSet<u16>,
) -> bool {
    match group.targets {
        GroupTargets::Ip => {
            let id = InterfaceId { vpc: own_vpc.cloned(), address: row.address };
            let interface = view.interfaces.get(region_account(), &id);
            interface.is_some_and(|it| it.owner.account != row.scope.account || it.is_balancers())
        }
        GroupTargets::Instance => own_vpc.is_some() || !published.contains(&row.id.port),
        GroupTargets::Alb => albs::of_target(view, row).is_none_or(|it| it.vpc != group.vpc),
    }
}

/// Whether a group's health checks would go to a port of the machine that no task of the account publishes there, and say
/// of what listens there how it answers.
pub(crate) fn is_checked_elsewhere(group: &ElbGroup, published: &BTreeSet<u16>) -> bool {
    let port = group.check.port.filter(|_| group.targets == GroupTargets::Instance);
    port.is_some_and(|port| !published.contains(&port))
}

/// Whether a listener or a rule forwards to the group.
pub(crate) fn is_used(view: &View, group: &ElbGroup) -> bool {
    let users = Index::ElbUsers(group.scope.account, group.path());
    view.members(&users).next().is_some()
}

/// What names a target, and the port that counts without one: the group's.
fn read_id(group: &ElbGroup, given: &api::TargetDescription) -> Result<TargetId, ApiError> {
    let id = given.id.clone().unwrap_or_default();
    if id.is_empty() {
        return invalid("A target ID must be specified");
    }
    let port = match given.port.map(u16::try_from) {
        None => group.port,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return invalid("A target port must be between 1 and 65535"),
    };
    Ok(TargetId { group: group.path(), target: id.into(), port })
}

/// Where a target is reached, and its zone.
fn place(
    it: &Elb,
    view: &View,
    caller: &Caller,
    batch: &mut Batch,
    (group, target): (&ElbGroup, &TargetId),
    given: &api::TargetDescription,
) -> Result<(Ipv4Addr, Option<String>), ApiError> {
    let id = given.id.as_deref().unwrap_or_default();
    match group.targets {
        GroupTargets::Alb => {
            if given.availability_zone.is_some() {
                return invalid(
                    "An Availability Zone cannot be specified for a target that is a load balancer",
                );
            }
            albs::check(it, view, caller, batch, (group, target))?;
            // Where it is reached depends on who goes there, and when.
            Ok((Ipv4Addr::UNSPECIFIED, None))
        }
        GroupTargets::Ip => {
            let Ok(address) = id.parse::<Ipv4Addr>() else {
                return invalid(format!("The IP address '{id}' is not a valid IPv4 address"));
            };
            let zone = given.availability_zone.as_deref();
            place_address(it, view, caller, group, address, zone)
        }
        GroupTargets::Instance => {
            let row = instance(it, view, caller, id)?;
            if view.own_vpc(caller.account, &group.vpc).is_some() {
                let message = format!(
                    "The following targets are not in the target group VPC '{}': '{id}'",
                    group.vpc
                );
                return Err(Refusal::Target(message).into());
            }
            let port = target.port;
            if !published_on(view, caller.account, row).contains(&port) {
                let message =
                    format!("The port {port} of '{id}' is published by no task of this account");
                return Err(Refusal::Target(message).into());
            }
            Ok((INSTANCE_ADDRESS, row.zone().map(str::to_owned)))
        }
    }
}

/// That an address is one to which balancers of the group's VPC may go, and its zone: that of its subnet or, outside the VPC,
/// the one that is `given`; none: it is of all.
fn place_address(
    it: &Elb,
    view: &View,
    caller: &Caller,
    group: &ElbGroup,
    address: Ipv4Addr,
    given: Option<&str>,
) -> Result<(Ipv4Addr, Option<String>), ApiError> {
    let refused = |why: &str| -> Result<_, ApiError> {
        Err(Refusal::Target(format!("The IP address '{address}' {why}")).into())
    };
    let subnets = it.control.network(view, caller.account).subnets_of(&group.vpc);
    let subnet = subnets.iter().find(|subnet| subnet.block.contains(address));
    let interface = view.interface_at(caller.account, &group.vpc, address);
    if interface.is_some_and(|row| row.owner.account != caller.account) {
        return refused("is not one of this account's");
    }
    if interface.is_some_and(|row| row.is_balancers()) {
        return refused("cannot be used as a target, as it is in use by a load balancer");
    }
    if let Some(subnet) = subnet {
        return Ok((address, Some(subnet.zone.clone())));
    }
    let plan = view.address_plans.get(region_account(), &AddressPlanId);
    if plan.and_then(|plan| plan.bridge).is_some_and(|range| range.contains(address)) {
        return refused(
            "is one of bridged containers, which are reached by the ports that they publish",
        );
    }
    let is_own = view.own_vpc(caller.account, &group.vpc).is_some();
    if is_own && plan.is_some_and(|plan| plan.block.contains(address)) {
        return refused("is one of the default VPC, which no other VPC reaches");
    }
    let is_zone = |zone: &str| subnets.iter().any(|subnet| subnet.zone == zone);
    match (address.is_private(), given) {
        (true, Some("all")) => Ok((address, None)),
        (true, Some(zone)) if is_zone(zone) => Ok((address, Some(zone.to_owned()))),
        (true, Some(_) | None) => invalid(format!(
            "The Availability Zone of the IP address '{address}', which is outside the VPC, must be 'all' or one of the VPC"
        )),
        (false, _) => invalid(format!(
            "The IP address '{address}' is not within a valid range of the VPC, nor of private addresses"
        )),
    }
}

/// An instance on whose ports balancers are let: what else listens on the machine is not the account's, and whoever
/// registers an instance says by itself what it is called and which ports it has.
fn instance<'v>(
    it: &Elb,
    view: &'v View,
    caller: &Caller,
    id: &str,
) -> Result<&'v Arc<Instance>, ApiError> {
    let is_named =
        |row: &&Arc<Instance>| row.status != InstanceStatus::Inactive && instance_name(row) == id;
    let mut named = view.instances.of(caller.account).filter(is_named).peekable();
    if named.peek().is_none() {
        let message = format!(
            "The following targets are not in a running state and cannot be registered: '{id}'"
        );
        return Err(Refusal::Target(message).into());
    }
    named.find(|row| it.control.access.is_of_own_machine(row)).ok_or_else(|| {
        let message = format!(
            "The instance '{id}' is not the machine that load balancers are on; use a target group of the type 'ip'"
        );
        Refusal::Target(message).into()
    })
}

/// The ports that tasks of an account publish on the region's own machine, where balancers reach them.
pub(crate) fn published(view: &View, account: AccountId, is_own: IsOwn<'_>) -> BTreeSet<u16> {
    let own = view.instances.of(account).filter(|row| is_own(row));
    own.flat_map(|row| published_on(view, account, row)).collect()
}

fn published_on(view: &View, account: AccountId, instance: &Instance) -> BTreeSet<u16> {
    let tasks = view.tasks_on_instance(instance.id);
    let own = tasks.filter(|task| task.scope.account == account && task.occupies());
    let containers = own.flat_map(|task| &task.containers);
    let bindings = containers.flat_map(|each| &each.seen.bindings);
    bindings.filter_map(|binding| binding.host_port).collect()
}

pub(crate) async fn register_targets(
    it: &Elb,
    caller: &Caller,
    input: api::RegisterTargetsInput,
) -> Result<api::RegisterTargetsOutput, ApiError> {
    let arn = input.target_group_arn.unwrap_or_default();
    let given = input.targets.unwrap_or_default();
    let permission = Permission::to("elasticloadbalancing:RegisterTargets").on(arn.clone());
    let account = caller.account;
    let decided = it.control.change(caller, &permission, |view, now| {
        let group = it.group(view, caller, &arn)?;
        if given.is_empty() {
            return invalid("At least one target must be specified");
        }
        let mut batch = Batch::on(view);
        batch.rely(Key::ElbGroup(account, group.path()));
        let mut count = of_group(view, account, &group.path()).count();
        for each in &given {
            let id = read_id(group, each)?;
            let (address, zone) = place(it, view, caller, &mut batch, (group, &id), each)?;
            let is_application = group.protocol.kind() == BalancerKind::Application;
            if zone.is_none() && is_application && zonal::says_so(group) {
                return Err(outside_zones(&id.target).into());
            }
            let known = view.elb_targets.get(account, &id);
            if known.is_some_and(|row| !row.is_draining()) {
                continue;
            }
            // A task that goes on to stop is not to be served again under its name.
            if known.is_some_and(|row| row.task.is_some()) {
                let message =
                    format!("The target '{}' is being deregistered by its service", id.target);
                return Err(Refusal::Target(message).into());
            }
            count += usize::from(known.is_none());
            batch.put(ElbTarget {
                scope: group.scope.clone(),
                id,
                address,
                zone,
                // One that drains goes on: registered as another, what it has in flight would be cut.
                registered_at: known.map_or(now, |row| row.registered_at),
                health: TargetHealth::Initial,
                unhealthy_since: None,
                task: None,
            });
        }
        if TARGETS_OF_GROUP_MAX < count {
            return Err(Refusal::TooMany("Targets", TARGETS_OF_GROUP_MAX).into());
        }
        Ok((batch, ()))
    });
    decided.await?;
    Ok(api::RegisterTargetsOutput {})
}

/// A target that gets no new request from now on.
pub(crate) fn drained(group: &ElbGroup, row: &ElbTarget, now: Timestamp) -> ElbTarget {
    let until = now.plus_ms(group.deregistration_delay_ms());
    row.with_health(TargetHealth::Draining { until }, now)
}

pub(crate) async fn deregister_targets(
    it: &Elb,
    caller: &Caller,
    input: api::DeregisterTargetsInput,
) -> Result<api::DeregisterTargetsOutput, ApiError> {
    let arn = input.target_group_arn.unwrap_or_default();
    let given = input.targets.unwrap_or_default();
    let permission = Permission::to("elasticloadbalancing:DeregisterTargets").on(arn.clone());
    let account = caller.account;
    let decided = it.control.change(caller, &permission, |view, now| {
        let group = it.group(view, caller, &arn)?;
        let mut batch = Batch::on(view);
        for each in &given {
            let id = read_id(group, each)?;
            // Without a port all of its ports are meant.
            let named = of_group(view, account, &group.path()).filter(|row| {
                row.id.target == id.target && (each.port.is_none() || row.id.port == id.port)
            });
            for row in named.filter(|row| !row.is_draining()) {
                batch.put(drained(group, row, now));
            }
        }
        Ok((batch, ()))
    });
    decided.await?;
    Ok(api::DeregisterTargetsOutput {})
}

/// A state, its reason and what that means.
type Shown = (&'static str, Option<(&'static str, String)>);

fn shown(it: &Elb, group: &ElbGroup, unused: Option<Unused>, row: &ElbTarget) -> Shown {
    let because = |reason, text: &str| Some((reason, text.to_owned()));
    if let Some(unused) = unused.filter(|_| !row.is_draining()) {
        let why = match unused {
            Unused::Group => {
                "Target group is not configured to receive traffic from the load balancer"
            }
            Unused::Zone => {
                "Target is in an Availability Zone that is not enabled for the load balancer"
            }
        };
        return ("unused", because("Target.NotInUse", why));
    }
    match row.health {
        TargetHealth::Draining { .. } => (
            "draining",
            because("Target.DeregistrationInProgress", "Target deregistration is in progress"),
        ),
        TargetHealth::Initial if it.feed.is_checked(row) => {
            ("initial", because("Elb.InitialHealthChecking", "Initial health checks in progress"))
        }
        TargetHealth::Initial => {
            ("initial", because("Elb.RegistrationInProgress", "Target registration is in progress"))
        }
        TargetHealth::Healthy => ("healthy", None),
        TargetHealth::Unhealthy(_) if is_keeping_flows(group, row, it.control.clock.now()) => {
            ("unhealthy.draining", because("Target.FailedHealthChecks", "Health checks failed"))
        }
        TargetHealth::Unhealthy(failure) => {
            let reason = match failure {
                CheckFailure::Code(_) => "Target.ResponseCodeMismatch",
                CheckFailure::Timeout => "Target.Timeout",
                CheckFailure::Failed => "Target.FailedHealthChecks",
            };
            ("unhealthy", Some((reason, failure.to_string())))
        }
    }
}

/// Whether flows to an unhealthy target still go on for a while.
fn is_keeping_flows(group: &ElbGroup, row: &ElbTarget, now: Timestamp) -> bool {
    let interval_ms = u64::from(unhealthy_draining_s(group)) * 1_000;
    row.unhealthy_since.is_some_and(|since| now.since_ms(since) < interval_ms)
}

fn render(
    it: &Elb,
    group: &ElbGroup,
    usage: &Usage,
    row: &ElbTarget,
) -> api::TargetHealthDescription {
    let (state, reason) = shown(it, group, usage.unused(row), row);
    // Also while nobody asks there: clients read where checks go before a target has been asked.
    let port = group.check.port.unwrap_or(row.id.port);
    let is_ip = group.targets == GroupTargets::Ip;
    let zone = row.zone.clone().unwrap_or_else(|| "all".to_owned());
    let shown = describe(&row.id, Some(zone).filter(|_| is_ip), Some(port), state, reason);
    let overridden = if usage.is_shifted_away(row) { shifted_away() } else { no_override() };
    api::TargetHealthDescription { administrative_override: Some(overridden), ..shown }
}

/// Whether a target fails more than others of its group, as the processes see that ask it; none of a group without requests.
fn anomaly(it: &Elb, group: &ElbGroup, row: &ElbTarget) -> Option<api::AnomalyDetection> {
    let is_http = matches!(group.protocol, ElbProtocol::Http | ElbProtocol::Https);
    let anomaly = it.feed.anomaly_of(row);
    is_http.then(|| api::AnomalyDetection {
        result: Some(if anomaly.is_seen { "anomalous" } else { "normal" }.into()),
        mitigation_in_effect: Some(if anomaly.is_mitigated { "yes" } else { "no" }.into()),
    })
}

/// By a zonal shift alone a target's health is overridden.
fn shifted_away() -> api::AdministrativeOverride {
    api::AdministrativeOverride {
        state: Some("zonal_shift_active".into()),
        reason: Some("AdministrativeOverride.ZonalShiftActive".into()),
        description: Some("Zonal shift is active on target".to_owned()),
    }
}

fn no_override() -> api::AdministrativeOverride {
    api::AdministrativeOverride {
        state: Some("no_override".into()),
        reason: Some("AdministrativeOverride.NoOverride".into()),
        description: Some("No override is currently active on target".to_owned()),
    }
}

fn describe(
    id: &TargetId,
    zone: Option<String>,
    check_port: Option<u16>,
    state: &str,
    reason: Option<(&'static str, String)>,
) -> api::TargetHealthDescription {
    let (reason, description) = reason.unzip();
    api::TargetHealthDescription {
        target: Some(api::TargetDescription {
            id: Some(id.target.to_string()),
            port: Some(i32::from(id.port)),
            availability_zone: zone,
            quic_server_id: None,
        }),
        health_check_port: check_port.map(|port| port.to_string()),
        target_health: Some(api::TargetHealth {
            state: Some(state.into()),
            reason: reason.map(Into::into),
            description,
        }),
        ..api::TargetHealthDescription::default()
    }
}

pub(crate) async fn describe_target_health(
    it: &Elb,
    caller: &Caller,
    input: api::DescribeTargetHealthInput,
) -> Result<api::DescribeTargetHealthOutput, ApiError> {
    let view = it.read(caller, "elasticloadbalancing:DescribeTargetHealth")?;
    let group = it.group(&view, caller, &input.target_group_arn.unwrap_or_default())?;
    let (usage, account) = (Usage::of(&view, group), caller.account);
    let given = input.targets.unwrap_or_default();
    let is_asked = |it: &api::DescribeTargetHealthInputIncludeEnum| {
        matches!(it.as_str(), "AnomalyDetection" | "All")
    };
    let is_asked = input.include.unwrap_or_default().iter().any(is_asked);
    let render = |row: &ElbTarget| {
        let anomaly_detection = is_asked.then(|| anomaly(it, group, row)).flatten();
        api::TargetHealthDescription { anomaly_detection, ..render(it, group, &usage, row) }
    };
    let mut shown = Vec::new();
    for each in &given {
        let id = read_id(group, each)?;
        shown.push(match view.elb_targets.get(account, &id) {
            Some(row) => render(row),
            None => {
                let text = "Target is not registered to the target group".to_owned();
                describe(&id, None, None, "unused", Some(("Target.NotRegistered", text)))
            }
        });
    }
    if given.is_empty() {
        let rows = of_group(&view, account, &group.path());
        shown.extend(rows.map(|row| render(row)));
    }
    Ok(api::DescribeTargetHealthOutput { target_health_descriptions: Some(shown) })
}
