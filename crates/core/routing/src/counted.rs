//! Under which name a balancer's requests and connections are counted.

use crate::ids::{BalancerId, GroupId};

/// What is counted apart: what came to one zone of a balancer, and of that what went to one target group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CountedFor {
    pub balancer: BalancerId,
    /// None: it came by the machine's own address.
    pub zone: Option<String>,
    /// None: connections, and answers that are no target's.
    pub group: Option<GroupId>,
}

/// What stands for none.
const NONE: &str = "-";

impl CountedFor {
    /// The name: its parts have no space.
    pub fn name(&self) -> String {
        let zone = self.zone.as_deref().unwrap_or(NONE);
        let group = self.group.as_ref().map_or(NONE, |group| &group.0);
        format!("{} {zone} {group}", self.balancer)
    }

    /// What a name says; none of one that is not of these.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split(' ');
        let (Some(balancer), Some(zone), Some(group), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let some = |part: &str| (part != NONE).then(|| part.to_owned());
        let (zone, group) = (some(zone), some(group).map(GroupId));
        Some(Self { balancer: BalancerId(balancer.to_owned()), zone, group })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_was_made_of() {
        for zone in [None, Some("eu-a".to_owned())] {
            for group in [None, Some(GroupId("arn:g".to_owned()))] {
                let counted = CountedFor {
                    balancer: BalancerId("arn:b".to_owned()),
                    zone: zone.clone(),
                    group,
                };
                assert_eq!(CountedFor::parse(&counted.name()), Some(counted));
            }
        }
        for other in ["web", "", "a b", "a b c d"] {
            assert_eq!(CountedFor::parse(other), None, "{other}");
        }
    }
}
