//! Whether a connection between two addresses is let through, and by which rule of which group: what the
//! hosts' filters do with its first packet, said from rows.
//!
//! The judgement itself is [`traffic::judge`], from the same groups that the filters are compiled from.

use std::net::Ipv4Addr;

use longshore_types::{AccountId, SecurityGroupId, SecurityGroupRuleId};
use model::vpc::{Interface, InterfaceId, region_account};
use model::{View, WholeGroup};
use traffic::{Direction, Packet, judge};

/// One place on the way where the packet is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub interface: Interface,
    pub direction: Direction,
    pub outcome: Outcome,
}

/// What an interface's groups make of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This rule of this group lets it pass.
    Passes { group: SecurityGroupId, rule: SecurityGroupRuleId },
    /// None of these groups has a rule for it.
    Dropped { groups: Vec<SecurityGroupId> },
}

impl Step {
    pub fn passes(&self) -> bool {
        match self.outcome {
            Outcome::Passes { .. } => true,
            Outcome::Dropped { .. } => false,
        }
    }
}

/// Where the packet is judged, in the order of its way: by the groups of its sender's interface and of its
/// receiver's, as far as these are interfaces of the account. The rest of the world has no groups.
pub fn explain(view: &View, account: AccountId, packet: &Packet) -> Vec<Step> {
    let ends = [(packet.source, Direction::Out), (packet.destination, Direction::In)];
    ends.into_iter()
        .filter_map(|(address, direction)| {
            let interface = interface_at(view, account, address)?;
            Some(step(view, account, interface, direction, packet))
        })
        .collect()
}

/// The account's interface at an address.
pub fn interface_at(view: &View, account: AccountId, address: Ipv4Addr) -> Option<&Interface> {
    let row = view.interfaces.get(region_account(), &InterfaceId::shared(address))?;
    (row.owner.account == account).then_some(row)
}

fn step(
    view: &View,
    account: AccountId,
    interface: &Interface,
    direction: Direction,
    packet: &Packet,
) -> Step {
    let wholes: Vec<WholeGroup> = interface
        .security_groups
        .iter()
        .filter_map(|group| view.security_group(account, group))
        .collect();
    let compiled: Vec<traffic::SecurityGroup> = wholes.iter().map(WholeGroup::compile).collect();
    let is_member = |group: &SecurityGroupId, address: Ipv4Addr| {
        interface_at(view, account, address).is_some_and(|it| it.security_groups.contains(group))
    };
    let admitted = judge(&compiled, direction, packet, &is_member);
    let outcome = admitted.and_then(|admitted| {
        let whole = wholes.iter().find(|whole| whole.group.id == admitted.group.id)?;
        let rule = whole.compiled_rule(direction == Direction::Out, admitted.rule)?;
        Some(Outcome::Passes { group: whole.group.id.clone(), rule: rule.id.clone() })
    });
    let dropped = || Outcome::Dropped { groups: interface.security_groups.clone() };
    Step { interface: interface.clone(), direction, outcome: outcome.unwrap_or_else(dropped) }
}

#[cfg(test)]
mod tests {
    use longshore_types::{Timestamp, Uuid};
    use model::vpc::{AddressPlan, InterfaceUser};
    use model::{Row, RuleMatch, RulePeer, SecurityGroup, SecurityGroupRule, Seq};
    use traffic::Content;

    use super::*;

    struct World {
        view: View,
        account: AccountId,
        seq: u64,
    }

    impl World {
        fn put(&mut self, row: impl Into<Row>) {
            self.seq += 1;
            self.view.put(Seq(self.seq), &row.into());
        }

        fn interface(&mut self, last: u8, groups: &[&SecurityGroupId]) -> Ipv4Addr {
            let address = Ipv4Addr::new(172, 31, 0, last);
            self.put(Interface {
                address,
                eni: format!("eni-000000{last:02x}").parse().unwrap(),
                owner: longshore_types::Scope {
                    region: "us-east-1".parse().unwrap(),
                    account: self.account,
                },
                user: InterfaceUser::Task {
                    cluster: "demo".parse().unwrap(),
                    task: format!("{last:032x}").parse().unwrap(),
                    attachment: Uuid::from_random([last; 16]),
                },
                vpc: "vpc-12345678".parse().unwrap(),
                subnet: "subnet-12345678".parse().unwrap(),
                security_groups: groups.iter().map(|group| (*group).clone()).collect(),
                zone: "us-east-1a".to_owned(),
                mac: String::new(),
                assign_public_ip: false,
                created_at: Timestamp(0),
                is_apart: false,
                public: None,
            });
            address
        }
    }

    #[test]
    fn a_connection_is_judged_at_both_ends_and_the_rule_that_lets_it_pass_is_named() {
        let account: AccountId = "000000000000".parse().unwrap();
        let mut world = World { view: View::default(), account, seq: 0 };
        let block = "172.31.0.0/16".parse().unwrap();
        let plan = AddressPlan { block, bridge: None, seed: 7 };
        let default = plan.default_group(account).group;
        world.put(plan);
        let web: SecurityGroupId = "sg-00000001".parse().unwrap();
        world.put(SecurityGroup { id: web.clone(), name: "web".to_owned(), ..default.clone() });
        let admits: SecurityGroupRuleId = "sgr-00000002".parse().unwrap();
        let six = RulePeer::Ipv6("::/0".to_owned());
        let peers = [("sgr-00000001", six), ("sgr-00000002", RulePeer::Group(default.id.clone()))];
        for (id, peer) in peers {
            world.put(SecurityGroupRule {
                account,
                id: id.parse().unwrap(),
                group: web.clone(),
                is_egress: false,
                matches: RuleMatch { protocol: Some(6), ports: Some((80, 80)), peer },
                description: None,
            });
        }
        let client = world.interface(10, &[&default.id]);
        let server = world.interface(11, &[&web]);
        let packet =
            |source, destination, port| Packet { source, destination, content: Content::Tcp(port) };
        let there = explain(&world.view, account, &packet(client, server, 80));
        assert_eq!(there.len(), 2);
        assert!(there.iter().all(Step::passes));
        assert_eq!(there[1].outcome, Outcome::Passes { group: web.clone(), rule: admits });
        let other = explain(&world.view, account, &packet(client, server, 81));
        assert_eq!(other[1].outcome, Outcome::Dropped { groups: vec![web.clone()] });
        let back = explain(&world.view, account, &packet(server, client, 80));
        assert_eq!(back[0].outcome, Outcome::Dropped { groups: vec![web] }, "no rule lets it out");
        let outside = explain(&world.view, account, &packet(client, Ipv4Addr::new(1, 1, 1, 1), 80));
        assert_eq!(outside.len(), 1, "the outside has no groups");
        let others =
            explain(&world.view, "111111111111".parse().unwrap(), &packet(client, server, 80));
        assert_eq!(others, [], "nobody else's interfaces are told of");
    }
}
