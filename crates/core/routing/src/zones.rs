//! Of which zones a group's targets are used.

use crate::balancer::{Balancer, Interface, InterfaceRef};
use crate::group::TargetGroup;

/// The zones whose targets are used for somebody who came to a balancer.
#[derive(Clone, Copy, Debug)]
pub enum Zones<'b> {
    All,
    Of {
        /// The balancer's on this machine.
        interfaces: &'b [Interface],
        /// None: the machine's own address, which stands for all of them.
        came_to: Option<&'b InterfaceRef>,
    },
}

impl<'b> Zones<'b> {
    /// What a group says of itself counts before what its balancer does (`load_balancing.cross_zone.enabled`).
    pub fn of(
        balancer: &'b Balancer,
        group: &TargetGroup,
        came_to: Option<&'b InterfaceRef>,
    ) -> Self {
        match group.cross_zone.unwrap_or(balancer.attributes.cross_zone) {
            true => Self::All,
            false => Self::Of { interfaces: &balancer.interfaces, came_to },
        }
    }

    /// Whether a target of a zone is used. One outside the VPC (none) is of every zone.
    pub fn has(&self, zone: Option<&str>) -> bool {
        match (self, zone) {
            (Self::All, _) | (Self::Of { .. }, None) => true,
            (Self::Of { interfaces, came_to }, Some(zone)) => interfaces
                .iter()
                .any(|it| it.zone == zone && came_to.is_none_or(|came_to| came_to.eni == it.eni)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let mut group = some_group();
            group.cross_zone = of_group;
            let zones = Zones::of(&balancer, &group, None);
            assert_eq!(zones.has(Some("a")), crosses, "{of_balancer} {of_group:?}");
        }
    }

    #[test]
    fn who_came_to_an_interface_gets_targets_of_its_zone_and_to_the_machine_of_all_that_are_there()
    {
        let mut balancer = some_balancer();
        balancer.attributes.cross_zone = false;
        balancer.interfaces = vec![interface("eni-1", "a"), interface("eni-2", "b")];
        let group = some_group();
        let first = balancer.interfaces[0].reference();
        let gone = InterfaceRef { eni: "eni-3".to_owned(), own_vpc: None };
        for (came_to, zones) in [
            (Some(&first), [true, false, false]),
            (None, [true, true, false]),
            (Some(&gone), [false; 3]),
        ] {
            let has = Zones::of(&balancer, &group, came_to);
            assert_eq!(["a", "b", "c"].map(|zone| has.has(Some(zone))), zones, "{came_to:?}");
            assert!(has.has(None), "one outside the VPC is of every zone");
        }
    }
}
