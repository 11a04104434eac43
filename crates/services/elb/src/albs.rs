//! Application load balancers as targets of network load balancers (target type `alb`).
//!
//! Such a group has one target at most: a balancer of the same account and VPC, which has a listener at the group's port.
//! What the network balancer passes on to it is introduced by its client's address, which the application balancer then
//! takes for its own client's.
//!
//! **Invariant:** while it is a target, neither it nor its last listener at that port can be deleted.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use longshore_types::AccountId;
use model::elb::{BalancerKind, BalancerZone, ElbPath, TargetId};
use model::vpc::{AddressPlanId, region_account};
use model::{ElbBalancer, ElbGroup, ElbTarget, Index, Key, View};
use routing::{Introducers, Source};
use store::Batch;

use crate::Elb;
use crate::errors::{Refusal, invalid};
use crate::listeners::of_balancer;
use crate::targets::of_group;

/// Groups that one balancer may be a target of.
const GROUPS_MAX: usize = 2;

/// The balancer that a target names, if it is there.
pub(crate) fn of_target<'v>(view: &'v View, target: &ElbTarget) -> Option<&'v Arc<ElbBalancer>> {
    let path = target.id.target.split_once(":loadbalancer/")?.1;
    let row = view.elb_balancers.get(target.scope.account, &path.into())?;
    (row.kind == BalancerKind::Application && row.arn() == *target.id.target).then_some(row)
}

/// That a balancer may be a group's target.
pub(crate) fn check(
    it: &Elb,
    view: &View,
    caller: &Caller,
    batch: &mut Batch,
    (group, id): (&ElbGroup, &TargetId),
) -> Result<(), ApiError> {
    let arn = &*id.target;
    let row = it.balancer(view, caller, arn).ok();
    let Some(row) = row.filter(|row| row.kind == BalancerKind::Application) else {
        return invalid(format!("'{arn}' is not the ARN of an application load balancer"));
    };
    let refused = |why: String| -> Result<(), ApiError> { Err(Refusal::Target(why).into()) };
    if row.vpc != group.vpc {
        let vpc = &group.vpc;
        return refused(format!(
            "The following targets are not in the target group VPC '{vpc}': '{arn}'"
        ));
    }
    if id.port != group.port {
        let (port, own) = (id.port, group.port);
        return refused(format!(
            "The port of a target that is a load balancer must be that of the target group, '{own}'; '{port}' is not"
        ));
    }
    let account = caller.account;
    if !of_balancer(view, account, &row.path()).any(|listener| listener.port == group.port) {
        let port = group.port;
        return refused(format!(
            "The load balancer '{arn}' must have a listener at the port of the target group, '{port}'"
        ));
    }
    let mut others = of_group(view, account, &group.path());
    if others.any(|other| !other.is_draining() && other.id != *id) {
        return Err(Refusal::TooMany("Targets", 1).into());
    }
    let in_groups = of(view, account, arn).filter(|target| target.id.group != id.group);
    if GROUPS_MAX <= in_groups.count() {
        return Err(Refusal::TooMany("RegistrationsForTargetId", GROUPS_MAX).into());
    }
    batch.rely(Key::ElbBalancer(account, row.path()));
    batch.rely(Index::ElbListeners(account, row.path()));
    batch.rely(Index::ElbTargets(account, group.path()));
    batch.rely(Index::ElbTargetsOf(account, arn.into()));
    Ok(())
}

/// What a balancer is registered as.
fn of<'v>(
    view: &'v View,
    account: AccountId,
    arn: &str,
) -> impl Iterator<Item = &'v Arc<ElbTarget>> + use<'v> {
    view.members(&Index::ElbTargetsOf(account, arn.into())).filter_map(|key| match key {
        Key::ElbTarget(account, id) => view.elb_targets.get(*account, id),
        _ => None,
    })
}

/// That a balancer that is about to be deleted is nobody's target.
pub(crate) fn check_deleted(
    view: &View,
    batch: &mut Batch,
    row: &ElbBalancer,
) -> Result<(), ApiError> {
    let (account, arn) = (row.scope.account, row.arn());
    if of(view, account, &arn).next().is_some() {
        return Err(Refusal::BalancerInUse(arn).into());
    }
    batch.rely(Index::ElbTargetsOf(account, arn.into()));
    Ok(())
}

/// That nobody comes to a balancer by a port at which it is about to have no listener any more.
pub(crate) fn check_left(
    view: &View,
    batch: &mut Batch,
    (account, balancer): (AccountId, &ElbPath),
    port: u16,
) -> Result<(), ApiError> {
    let Some(row) = view.elb_balancers.get(account, balancer) else { return Ok(()) };
    let arn = row.arn();
    if of(view, account, &arn).any(|target| target.id.port == port) {
        return Err(Refusal::PortInUse(port, arn).into());
    }
    batch.rely(Index::ElbTargetsOf(account, arn.into()));
    Ok(())
}

/// Where a balancer is reached by an interface in a zone: at its own there, or at another of those that serve.
pub(crate) fn address_from(row: &ElbBalancer, zone: &str) -> Option<Ipv4Addr> {
    let rank = |it: &&BalancerZone| (!it.stand.is_named(), it.zone != *zone, it.subnet.clone());
    row.zones.iter().min_by_key(rank).map(|zone| zone.address)
}

/// Who may introduce clients to an application balancer: the network balancers of its account and VPC, whatever they forward to
/// at the moment. Processes take up at different times who forwards where; and by nothing but such a group do their interfaces
/// reach a balancer's.
pub(crate) fn introducers(view: &View, row: &ElbBalancer) -> Option<Introducers> {
    if row.kind == BalancerKind::Network {
        return None;
    }
    let rows = view.elb_balancers.of(row.scope.account);
    let rows = rows.filter(|it| it.kind == BalancerKind::Network && it.vpc == row.vpc);
    let addresses: BTreeSet<IpAddr> =
        rows.flat_map(|row| row.interfaces()).map(|zone| IpAddr::V4(zone.address)).collect();
    (!addresses.is_empty()).then(|| Introducers { addresses, inside: blocks(view, row) })
}

/// The ranges of a balancer's VPC.
fn blocks(view: &View, row: &ElbBalancer) -> Vec<Source> {
    let blocks = match view.own_vpc(row.scope.account, &row.vpc) {
        Some(vpc) => {
            let vpc = view.vpcs.get(row.scope.account, &vpc);
            let blocks =
                vpc.iter().flat_map(|vpc| std::iter::once(&vpc.first).chain(&vpc.secondary));
            blocks.map(|block| block.block).collect::<Vec<_>>()
        }
        None => {
            let plan = view.address_plans.get(region_account(), &AddressPlanId);
            plan.map(|plan| plan.block).into_iter().collect()
        }
    };
    blocks.iter().filter_map(|block| block.to_string().parse().ok()).collect()
}
