//! Tasks for capacity providers of one's own: each provider's share goes to its group's instances.
//!
//! With managed scaling a task without capacity waits for instances to come, as PROVISIONING; without it
//! the task fails at once, as it does for launch type EC2.

use aws_wire::ApiError;
use ecs_api as api;
use longshore_types::InstanceId;
use model::StrategyItem;
use model::task::Waiting;
use plan::capacity::share;
use plan::{Ask, Pool};
use store::Batch;

use super::{Asked, Found, at, failures};
use crate::capacity::own_provider;
use crate::errors::Refusal;
use crate::task_template::{Place, rules};
use crate::waiting::{NO_INSTANCES, waiting_in};

/// The reason of a provider that has no instances, and will get none by itself.
const EMPTY: &str = "EMPTY CAPACITY PROVIDER";

/// Where each of `count` tasks goes, which wait, and why others fail.
pub(super) fn places(
    asked: &Asked<'_>,
    strategy: &[StrategyItem],
    count: usize,
    batch: &mut Batch,
) -> Result<(Vec<Found>, Vec<api::Failure>), ApiError> {
    let shares = share(strategy, |_| 0, count);
    let (mut found, mut failed) = (Vec::with_capacity(count), Vec::new());
    for item in strategy {
        let wanted = shares.iter().filter(|share| **share == item).count();
        if wanted > 0 {
            of_provider(asked, &item.capacity_provider, wanted, batch, &mut found, &mut failed)?;
        }
    }
    check_waiting(asked, &found)?;
    Ok((found, failed))
}

fn of_provider(
    asked: &Asked<'_>,
    name: &str,
    wanted: usize,
    batch: &mut Batch,
    found: &mut Vec<Found>,
    failed: &mut Vec<api::Failure>,
) -> Result<(), ApiError> {
    let Asked { ecs, view, cluster, template, .. } = asked;
    // A cluster's providers cannot be deleted, so it is there.
    let provider =
        own_provider(view, cluster.account, name).ok_or(Refusal::ProviderNotAssociated)?;
    let constraints = rules::constraints(template.definition, &asked.rules)?;
    let strategies = rules::strategies(&asked.strategies);
    let zones = template.zones();
    let ask = Ask {
        need: &template.need,
        group: &template.group,
        pool: Pool::Group(provider.group_name()),
        requires: &template.definition.requires_attributes,
        zones: &zones,
        constraints: &constraints,
        strategies: &strategies,
    };
    let mut fleet = ecs.fleet(view, cluster.account, &cluster.name);
    let count = u32::try_from(wanted).unwrap_or(u32::MAX);
    let made = fleet.place_in(batch, &ask, count, asked.seed);
    let find = |id: &InstanceId| Found { place: at(&fleet, *id, Some(name)), waiting: None };
    found.extend(made.placements.iter().map(find));
    let missing = wanted - made.placements.len();
    if missing == 0 {
        return Ok(());
    }
    let refusals = made.refusals.filter(|refusals| !refusals.is_empty());
    if provider.scaling.is_enabled {
        let tally = refusals.map_or_else(|| NO_INSTANCES.to_owned(), |why| why.to_string());
        let waits = || Found {
            place: Place { capacity_provider: Some(name.to_owned()), ..Place::default() },
            waiting: Some(Waiting {
                constraints: asked.rules.clone(),
                strategies: asked.strategies.clone(),
                zones: zones.clone(),
                tally: tally.clone(),
            }),
        };
        found.extend(std::iter::repeat_with(waits).take(missing));
        return Ok(());
    }
    match refusals {
        Some(refusals) => failed.extend(failures(&fleet, &refusals)),
        None => failed.push(api::Failure {
            arn: Some(provider.arn().to_string()),
            reason: Some(EMPTY.to_owned()),
            detail: Some(NO_INSTANCES.to_owned()),
        }),
    }
    Ok(())
}

/// So many tasks of a cluster wait, and no more.
fn check_waiting(asked: &Asked<'_>, found: &[Found]) -> Result<(), ApiError> {
    let more = found.iter().filter(|each| each.waiting.is_some()).count();
    if more == 0 {
        return Ok(());
    }
    let max = asked.ecs.control.config.limits.waiting_tasks_per_cluster_max;
    let cluster = asked.cluster;
    if max < waiting_in(asked.view, cluster.account, &cluster.name).count() + more {
        return Err(Refusal::client("Tasks provisioning capacity limit exceeded.").into());
    }
    Ok(())
}
