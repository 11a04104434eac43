//! Of which zones a group's targets are used.

use crate::balancer::{Balancer, InterfaceRef};
use crate::group::TargetGroup;

/// The zones whose targets are used for somebody who came to a balancer.
#[derive(Clone, Copy, Debug)]
pub enum Zones<'b> {
    All,
    /// All but one that traffic is led away from.
    AllBut(&'b str),
    /// That of the interface to which somebody came; none: the balancer has that no more.
    One(Option<&'b str>),
}

impl<'b> Zones<'b> {
    /// What a group says of itself counts before what its balancer does (`load_balancing.cross_zone.enabled`). The machine's own
    /// address (`came_to` none) stands for all of the balancer.
    pub fn of(balancer: &'b Balancer, group: &TargetGroup, came_to: Option<&InterfaceRef>) -> Self {
        match (group.cross_zone.unwrap_or(balancer.attributes.cross_zone), came_to) {
            (true, _) | (false, None) => {
                let away = balancer.attributes.away_from.as_deref();
                away.map_or(Self::All, Self::AllBut)
            }
            (false, Some(came_to)) => {
                let interface = balancer.interfaces.iter().find(|it| it.eni == came_to.eni);
                Self::One(interface.map(|it| it.zone.as_str()))
            }
        }
    }

    /// Whether a target of a zone is used. One outside the VPC (none) is of every zone.
    pub fn has(&self, zone: Option<&str>) -> bool {
        match (self, zone) {
            (Self::All, _) | (Self::One(_) | Self::AllBut(_), None) => true,
            (Self::One(own), Some(zone)) => *own == Some(zone),
            (Self::AllBut(away), Some(zone)) => *away != zone,
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

    #[test]
    fn targets_of_a_zone_that_traffic_is_led_away_from_are_used_by_those_alone_who_came_there() {
        let mut balancer = some_balancer();
        balancer.attributes.away_from = Some("b".to_owned());
        balancer.interfaces = vec![interface("eni-1", "a"), interface("eni-2", "b")];
        let group = some_group();
        let there = balancer.interfaces[1].reference();
        for (crosses, came_to, zones) in [
            (true, Some(&there), [true, false, true]),
            (true, None, [true, false, true]),
            (false, Some(&there), [false, true, false]),
        ] {
            balancer.attributes.cross_zone = crosses;
            let has = Zones::of(&balancer, &group, came_to);
            assert_eq!(["a", "b", "c"].map(|zone| has.has(Some(zone))), zones, "{crosses}");
            assert!(has.has(None), "one outside the VPC is of every zone");
        }
    }
}
