//! How what is reached by Service Connect is parted between the tasks of deployments, while one of them shifts traffic.
//!
//! As with load balancers' rules it follows from the deployments alone: nothing else is kept of it.

use longshore_types::DeploymentId;
use model::service::{Deployment, Rank, Share, Shift, Stage};

/// Of all tasks that serve, those of green have their share, those of deployments that are off have nothing, and all others
/// have the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub green: Option<Green>,
    pub off: Vec<DeploymentId>,
}

/// The deployment that comes beside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Green {
    pub deployment: DeploymentId,
    /// Of production's traffic.
    pub production: Share,
    /// Whether requests that are tests go to it.
    pub is_tested: bool,
}

/// How a service's traffic is parted, by its deployments that are not gone; none: it is not.
pub fn split(rows: &[&Deployment]) -> Option<Split> {
    let is_there = |id: DeploymentId| rows.iter().any(|row| row.id == id);
    let beside: Vec<(&Deployment, &Shift)> = rows
        .iter()
        // What they have is what they came to be for.
        .filter(|row| !row.stage.was_done())
        .filter_map(|row| Some((*row, row.shift.as_ref()?)))
        // With nobody else to serve, green has all there is.
        .filter(|(_, shift)| shift.from.is_some_and(is_there))
        .collect();
    let has_traffic = |shift: &Shift| Share::NONE < shift.production || Share::NONE < shift.test;
    let is_going = |(row, _): &&(&Deployment, &Shift)| {
        row.rank == Rank::Primary && row.stage == Stage::InProgress
    };
    let green = beside.iter().find(is_going);
    // One that was stopped on its way keeps what it has until the next deployment begins.
    let green = green.or_else(|| beside.iter().rev().find(|(_, shift)| has_traffic(shift)));
    let green = green.map(|(row, shift)| Green {
        deployment: row.id,
        production: shift.production,
        is_tested: Share::NONE < shift.test,
    });
    let is_green = |id: DeploymentId| green.is_some_and(|green| green.deployment == id);
    let off = beside.iter().map(|(row, _)| row.id).filter(|id| !is_green(*id)).collect();
    let split = Split { green, off };
    (split != Split::default()).then_some(split)
}
