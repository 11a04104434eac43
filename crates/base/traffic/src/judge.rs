//! The judgement of one packet that opens a connection, rule by rule, as the packet filter makes it.

use std::net::Ipv4Addr;

use longshore_types::SecurityGroupId;

use crate::groups::{GroupRule, Peer, SecurityGroup, Traffic};

/// A packet that belongs to no connection yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub content: Content,
}

/// What a packet carries, as far as rules ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// By destination port.
    Tcp(u16),
    Udp(u16),
    Icmp {
        kind: u8,
        code: u8,
    },
    /// Another protocol, by its number.
    Other(u8),
}

/// Which way a packet goes, seen from the interface whose groups are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

/// The rule that lets a packet pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission<'g> {
    pub group: &'g SecurityGroup,
    /// Its place among the group's rules of the direction.
    pub rule: usize,
}

impl SecurityGroup {
    /// The rules of one direction.
    pub fn rules(&self, direction: Direction) -> &[GroupRule] {
        match direction {
            Direction::In => &self.ingress,
            Direction::Out => &self.egress,
        }
    }
}

impl GroupRule {
    fn admits(
        &self,
        direction: Direction,
        packet: &Packet,
        is_member: &dyn Fn(&SecurityGroupId, Ipv4Addr) -> bool,
    ) -> bool {
        let other = match direction {
            Direction::In => packet.source,
            Direction::Out => packet.destination,
        };
        let is_peer = match &self.peer {
            Peer::Network(range) => range.contains(other),
            Peer::Group(group) => is_member(group, other),
        };
        is_peer && self.traffic.covers(packet.content)
    }
}

impl Traffic {
    pub fn covers(&self, content: Content) -> bool {
        match (self, content) {
            (Self::All, _) => true,
            (Self::Tcp(ports), Content::Tcp(port)) | (Self::Udp(ports), Content::Udp(port)) => {
                ports.contains(&port)
            }
            (Self::Icmp(None), Content::Icmp { .. }) => true,
            (Self::Icmp(Some((wanted, any))), Content::Icmp { kind, code }) => {
                *wanted == kind && any.is_none_or(|wanted| wanted == code)
            }
            (Self::Protocol(wanted), content) => *wanted == content.protocol(),
            (Self::Tcp(_) | Self::Udp(_) | Self::Icmp(_), _) => false,
        }
    }
}

impl Content {
    /// The number in a packet's header.
    pub fn protocol(self) -> u8 {
        match self {
            Self::Icmp { .. } => 1,
            Self::Tcp(_) => 6,
            Self::Udp(_) => 17,
            Self::Other(number) => number,
        }
    }
}

impl Packet {
    /// What answers it, to the port from which it comes.
    #[must_use]
    pub fn answer(&self, port: u16) -> Self {
        let content = match self.content {
            Content::Tcp(_) => Content::Tcp(port),
            Content::Udp(_) => Content::Udp(port),
            Content::Icmp { kind: 8, code } => Content::Icmp { kind: 0, code },
            Content::Icmp { .. } | Content::Other(_) => self.content,
        };
        Self { source: self.destination, destination: self.source, content }
    }
}

/// The first rule of an interface's groups that lets the packet pass; `None`: it is dropped. Groups named by
/// rules are known by their members' private addresses.
pub fn judge<'g>(
    groups: impl IntoIterator<Item = &'g SecurityGroup>,
    direction: Direction,
    packet: &Packet,
    is_member: &dyn Fn(&SecurityGroupId, Ipv4Addr) -> bool,
) -> Option<Admission<'g>> {
    groups.into_iter().find_map(|group| {
        let mut rules = group.rules(direction).iter();
        let rule = rules.position(|rule| rule.admits(direction, packet, is_member))?;
        Some(Admission { group, rule })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SecurityGroupId {
        text.parse().unwrap()
    }

    fn packet(content: Content) -> Packet {
        let [source, destination] = [10, 20].map(|last| Ipv4Addr::new(10, 0, 0, last));
        Packet { source, destination, content }
    }

    #[test]
    fn traffic_covers_what_it_names_and_nothing_else() {
        let ping = Content::Icmp { kind: 8, code: 0 };
        for (traffic, content, expected) in [
            (Traffic::All, Content::Other(50), true),
            (Traffic::Tcp(80..=443), Content::Tcp(80), true),
            (Traffic::Tcp(80..=443), Content::Tcp(444), false),
            (Traffic::Tcp(80..=443), Content::Udp(80), false),
            (Traffic::Udp(53..=53), Content::Udp(53), true),
            (Traffic::Icmp(None), ping, true),
            (Traffic::Icmp(Some((8, None))), ping, true),
            (Traffic::Icmp(Some((8, Some(1)))), ping, false),
            (Traffic::Icmp(Some((3, None))), ping, false),
            (Traffic::Protocol(50), Content::Other(50), true),
            (Traffic::Protocol(50), Content::Other(51), false),
        ] {
            assert_eq!(traffic.covers(content), expected, "{traffic:?} {content:?}");
        }
    }

    #[test]
    fn groups_add_up_and_the_rule_that_lets_pass_is_named() {
        let (web, base) = (id("sg-00000001"), id("sg-00000002"));
        let shut = SecurityGroup::closed(base.clone());
        let open = SecurityGroup {
            id: web.clone(),
            ingress: vec![
                GroupRule { traffic: Traffic::Udp(0..=9), peer: Peer::Group(base.clone()) },
                GroupRule { traffic: Traffic::Tcp(80..=80), peer: Peer::Group(base.clone()) },
            ],
            egress: vec![],
        };
        let packet = packet(Content::Tcp(80));
        let is_member =
            |group: &SecurityGroupId, address| *group == base && address == packet.source;
        let both = [&shut, &open];
        let admitted = judge(both, Direction::In, &packet, &is_member).unwrap();
        assert_eq!((&admitted.group.id, admitted.rule), (&web, 1));
        assert_eq!(judge(both, Direction::Out, &packet, &is_member), None);
        assert_eq!(judge(both, Direction::In, &packet, &|_, _| false), None, "no member any more");
        assert_eq!(judge([&shut], Direction::In, &packet, &is_member), None);
    }

    #[test]
    fn a_default_group_admits_itself_and_lets_everything_out() {
        let group = SecurityGroup::default_rules(id("sg-00000001"));
        let packet = packet(Content::Udp(7));
        assert!(judge([&group], Direction::Out, &packet, &|_, _| false).is_some());
        assert!(judge([&group], Direction::In, &packet, &|_, _| false).is_none());
        assert!(judge([&group], Direction::In, &packet, &|_, _| true).is_some());
        let text = serde_json::to_string(&group).unwrap();
        assert_eq!(serde_json::from_str::<SecurityGroup>(&text).unwrap(), group);
    }
}
