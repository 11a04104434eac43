//! Zones that a balancer's name leaves out, since too few targets are healthy there
//! (`target_group_health.dns_failover.*`).
//!
//! Where a balancer uses the targets of all zones, they count together: then no zone is better than another, and all are
//! named.

use std::collections::BTreeSet;

use longshore_types::SubnetId;
use model::elb::{BalancerZone, TargetHealth};
use model::{ElbBalancer, ElbGroup, View};

use crate::attributes::value_of_group;
use crate::targets::of_group;
use crate::zonal;

const COUNT: &str = "target_group_health.dns_failover.minimum_healthy_targets.count";
const PERCENTAGE: &str = "target_group_health.dns_failover.minimum_healthy_targets.percentage";

/// What a group asks of its targets for a zone to be named. None: nothing of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Least {
    count: Option<u64>,
    percent: Option<u64>,
}

impl Least {
    fn of(group: &ElbGroup) -> Self {
        let number = |key: &str| value_of_group(group, key).parse().ok();
        Self { count: number(COUNT), percent: number(PERCENTAGE) }
    }

    /// Whether so many healthy ones of all are enough.
    fn is_met(self, healthy: u64, all: u64) -> bool {
        let is_enough = self.count.is_none_or(|count| count <= healthy);
        is_enough && self.percent.is_none_or(|percent| percent * all <= healthy * 100)
    }
}

/// The subnets of a balancer in whose zones some group that it forwards to has too few healthy targets.
pub(crate) fn unwell_subnets(view: &View, row: &ElbBalancer) -> BTreeSet<SubnetId> {
    if row.zones.len() < 2 {
        return BTreeSet::new();
    }
    let groups = zonal::groups_of(view, row);
    let checked: Vec<(&ElbGroup, Least)> =
        groups.iter().map(|it| (&***it, Least::of(it))).collect();
    let is_unwell = |zone: &&BalancerZone| {
        checked.iter().any(|(group, least)| {
            let (healthy, all) = targets_in(view, group, &zone.zone);
            !least.is_met(healthy, all)
        })
    };
    row.zones.iter().filter(is_unwell).map(|zone| zone.subnet.clone()).collect()
}

/// How many targets of a zone are healthy, and how many there are. One outside the VPC is of every zone.
fn targets_in(view: &View, group: &ElbGroup, zone: &str) -> (u64, u64) {
    let is_there = |of: Option<&str>| of.is_none_or(|of| of == zone);
    let targets = of_group(view, group.scope.account, &group.path());
    let targets = targets.filter(|it| !it.is_draining() && is_there(it.zone.as_deref()));
    targets.fold((0, 0), |(healthy, all), target| {
        (healthy + u64::from(target.health == TargetHealth::Healthy), all + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_threshold_that_is_missed_makes_a_zone_unwell() {
        let least = |count, percent| Least { count, percent };
        assert!(least(Some(1), None).is_met(1, 9) && !least(Some(1), None).is_met(0, 9));
        assert!(least(None, Some(50)).is_met(2, 4) && !least(None, Some(50)).is_met(1, 4));
        assert!(!least(Some(2), Some(10)).is_met(1, 4) && !least(Some(1), Some(50)).is_met(1, 4));
        assert!(least(None, None).is_met(0, 4), "both are off");
        assert!(least(None, Some(50)).is_met(0, 0), "of none a half is none");
    }
}
