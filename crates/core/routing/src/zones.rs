//! Of which zones a group's targets are used.

use crate::balancer::{Balancer, InterfaceRef};
use crate::group::TargetGroup;

/// The zones whose targets are used for somebody who came to a balancer.
#[derive(Clone, Copy, Debug)]
pub enum Zones<'b> {
    All,
    /// That of the interface to which somebody came; none: the balancer has that no more.
    One(Option<&'b str>),
}

impl<'b> Zones<'b> {
    /// What a group says of itself counts before what its balancer does (`load_balancing.cross_zone.enabled`). The machine's own
    /// address (`came_to` none) stands for all of the balancer.
    pub fn of(balancer: &'b Balancer, group: &TargetGroup, came_to: Option<&InterfaceRef>) -> Self {
        match (group.cross_zone.unwrap_or(balancer.attributes.cross_zone), came_to) {
            (true, _) | (false, None) => Self::All,
            (false, Some(came_to)) => {
                let interface = balancer.interfaces.iter().find(|it| it.eni == came_to.eni);
                Self::One(interface.map(|it| it.zone.as_str()))
            }
        }
    }

    /// Whether a target of a zone is used. One outside the VPC (none) is of every zone.
    pub fn has(&self, zone: Option<&str>) -> bool {
        match (self, zone) {
            (Self::All, _) | (Self::One(_), None) => true,
            (Self::One(own), Some(zone)) => *own == Some(zone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::Interface;
    use crate::tests::{some_balancer, some_group};

    fn interface(eni: &str, zone: &str) -> Interface {
        Interface {
            eni: eni.to_owned(),
            own_vpc: None,
            address: [10, 0, 0, 1].into(),
            subnet: "subnet-1".to_owned(),
            zone: zone.to_owned(),
            is_leaving: false,
        }
    }

    #[test]
    fn a_group_says_for_itself_whether_zones_are_crossed_and_else_its_balancer_does() {
        for (of_balancer, of_group, crosses) in [
            (true, None, true),
            (false, None, false),
            (true, Some(false), false),
            (false, Some(true), true),
        ] {
            let mut balancer = some_balancer();
            balancer.attributes.cross_zone = of_balancer;
            balancer.interfaces = vec![interface("eni-1", "b")];
            let came_to = balancer.interfaces[0].reference();
            let mut group = some_group();
            group.cross_zone = of_group;
            let zones = Zones::of(&balancer, &group, Some(&came_to));
            assert_eq!(zones.has(Some("a")), crosses, "{of_balancer} {of_group:?}");
        }
    }

    #[test]
    fn who_came_to_an_interface_gets_targets_of_its_zone_and_to_the_machine_of_all() {
        let mut balancer = some_balancer();
        balancer.attributes.cross_zone = false;
        balancer.interfaces = vec![interface("eni-1", "a"), interface("eni-2", "b")];
        let group = some_group();
        let first = balancer.interfaces[0].reference();
        let gone = InterfaceRef { eni: "eni-3".to_owned(), own_vpc: None };
        for (came_to, zones) in [
            (Some(&first), [true, false, false]),
            (None, [true, true, true]),
            (Some(&gone), [false; 3]),
        ] {
            let has = Zones::of(&balancer, &group, came_to);
            assert_eq!(["a", "b", "c"].map(|zone| has.has(Some(zone))), zones, "{came_to:?}");
            assert!(has.has(None), "one outside the VPC is of every zone");
        }
    }
}
