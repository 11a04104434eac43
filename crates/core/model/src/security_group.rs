//! Security groups and their rules, and the tags of what EC2 has.
//!
//! A VPC's default group follows from the region's plan of addresses, as the default VPC does, until somebody
//! changes it: then it and its rules are rows like others, under the same ids. It cannot be deleted, so a
//! default group without a row is one that nobody changed.
//!
//! **Invariant:** no two rules of a group are alike: they differ in direction, protocol, ports or peer.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_types::{AccountId, Cidr, PrefixListId, SecurityGroupId, SecurityGroupRuleId, VpcId};
use serde::{Deserialize, Serialize};
use traffic::{GroupRule, Peer, Traffic};

use crate::network::{DefaultVpcGoneId, PeerGroup, PrefixList};
use crate::rows::{Key, View};
use crate::table::Record;
use crate::tags::Tags;
use crate::view::Index;
use crate::vpc::{AddressPlan, AddressPlanId, region_account};

/// The name of the group that every VPC has.
pub const DEFAULT_GROUP: &str = "default";
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A security group; its rules are rows of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroup {
    pub account: AccountId,
    pub id: SecurityGroupId,
    pub vpc: VpcId,
    pub name: String,
    pub description: String,
    /// One more with every change of its rules, so that whoever must know of those looks at this row alone.
    #[serde(default)]
    pub revision: u64,
}

impl SecurityGroup {
    pub fn is_default(&self) -> bool {
        self.name == DEFAULT_GROUP
    }
}

impl Record for SecurityGroup {
    type Id = SecurityGroupId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> SecurityGroupId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        vec![Index::Ec2Uses(self.account, self.vpc.as_str().into())]
    }
}

/// Allows some traffic in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityGroupRule {
    pub account: AccountId,
    pub id: SecurityGroupRuleId,
    pub group: SecurityGroupId,
    pub is_egress: bool,
    #[serde(flatten)]
    pub matches: RuleMatch,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What a rule is about: two rules of a group with the same of this are the same rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleMatch {
    /// The number in packets' headers; none: every protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// Of TCP and UDP the first and last port, of ICMP type and code, where -1 is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<(i32, i32)>,
    pub peer: RulePeer,
}

/// Who is on the other side of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RulePeer {
    Ipv4(Cidr),
    /// In its shortest form. No interface has an address that such a rule could be about.
    Ipv6(String),
    Group(SecurityGroupId),
    /// A group of a VPC with which the rule's own is connected, or was.
    PeerGroup(PeerGroup),
    /// Whoever has an address of one of the list's blocks.
    List(PrefixListId),
}

impl RuleMatch {
    /// As hosts judge by it, with what the lists say that rules name; nothing if no packet of theirs can match.
    pub fn compile(&self, lists: &Lists) -> Vec<GroupRule> {
        let peers = match &self.peer {
            RulePeer::Ipv4(range) => vec![Peer::Network(*range)],
            RulePeer::Group(group) | RulePeer::PeerGroup(PeerGroup { group, .. }) => {
                vec![Peer::Group(group.clone())]
            }
            RulePeer::Ipv6(_) => vec![],
            RulePeer::List(id) => {
                let blocks = lists.get(id).into_iter().flat_map(|list| list.blocks());
                blocks.map(Peer::Network).collect()
            }
        };
        let traffic = self.traffic();
        let rules = peers.into_iter().map(|peer| GroupRule { traffic: traffic.clone(), peer });
        rules.collect()
    }

    /// What packets carry that it is about.
    fn traffic(&self) -> Traffic {
        let port = |number: i32| u16::try_from(number).unwrap_or(0);
        let code = |number: i32| u8::try_from(number).ok();
        match (self.protocol, self.ports) {
            (None, _) => Traffic::All,
            (Some(TCP), Some((first, last))) => Traffic::Tcp(port(first)..=port(last)),
            (Some(UDP), Some((first, last))) => Traffic::Udp(port(first)..=port(last)),
            (Some(ICMP), Some((kind, of_kind))) => {
                Traffic::Icmp(code(kind).map(|kind| (kind, code(of_kind))))
            }
            (Some(ICMP), None) => Traffic::Icmp(None),
            (Some(number), _) => Traffic::Protocol(number),
        }
    }
}

impl Record for SecurityGroupRule {
    type Id = SecurityGroupRuleId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> SecurityGroupRuleId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        let mut indexes = vec![Index::GroupRules(self.account, self.group.clone())];
        match &self.matches.peer {
            RulePeer::Group(peer) => {
                indexes.push(Index::GroupReferences(self.account, peer.clone()));
            }
            // The group's owner may delete it all the same.
            RulePeer::PeerGroup(PeerGroup { account, group, .. }) => {
                indexes.push(Index::Ec2Uses(*account, group.as_str().into()));
            }
            RulePeer::List(list) => {
                indexes.push(Index::Ec2Uses(self.account, list.as_str().into()));
            }
            RulePeer::Ipv4(_) | RulePeer::Ipv6(_) => {}
        }
        indexes
    }
}

/// The tags of something of EC2's, under its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ec2Tags {
    pub account: AccountId,
    pub resource: Arc<str>,
    pub tags: Tags,
}

impl Record for Ec2Tags {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.resource)
    }
}

/// A group with its rules, whether or not they are rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeGroup {
    pub group: SecurityGroup,
    /// By id.
    pub rules: Vec<SecurityGroupRule>,
    /// Whether there are rows of them.
    pub is_stored: bool,
    pub lists: Lists,
}

/// The prefix lists that rules of a group name.
pub type Lists = BTreeMap<PrefixListId, Arc<PrefixList>>;

impl WholeGroup {
    /// As hosts judge by it.
    pub fn compile(&self) -> traffic::SecurityGroup {
        let rules = |is_egress| self.compiled(is_egress).map(|(_, rule)| rule).collect();
        traffic::SecurityGroup {
            id: self.group.id.clone(),
            ingress: rules(false),
            egress: rules(true),
        }
    }

    /// What each rule of a direction becomes.
    fn compiled(&self, is_egress: bool) -> impl Iterator<Item = (&SecurityGroupRule, GroupRule)> {
        let rules = self.rules.iter().filter(move |rule| rule.is_egress == is_egress);
        rules.flat_map(|rule| {
            rule.matches.compile(&self.lists).into_iter().map(move |compiled| (rule, compiled))
        })
    }

    /// The rule that a place among the compiled ones of a direction is of.
    pub fn compiled_rule(&self, is_egress: bool, place: usize) -> Option<&SecurityGroupRule> {
        self.compiled(is_egress).nth(place).map(|(rule, _)| rule)
    }
}

impl View {
    /// A security group of an account.
    pub fn security_group(&self, account: AccountId, id: &SecurityGroupId) -> Option<WholeGroup> {
        match self.security_groups.get(account, id) {
            Some(group) => {
                let rules: Vec<_> = self.rules_of_group(account, id).cloned().collect();
                let lists = rules.iter().filter_map(|rule| match &rule.matches.peer {
                    RulePeer::List(id) => {
                        Some((id.clone(), self.prefix_lists.get(account, id)?.clone()))
                    }
                    RulePeer::Ipv4(_)
                    | RulePeer::Ipv6(_)
                    | RulePeer::Group(_)
                    | RulePeer::PeerGroup(_) => None,
                });
                let lists = lists.collect();
                let group = SecurityGroup::clone(group);
                Some(WholeGroup { group, rules, is_stored: true, lists })
            }
            None => self.unchanged_default(account).filter(|whole| whole.group.id == *id),
        }
    }

    /// All security groups of an account, without their rules, by id.
    pub fn security_groups_of(&self, account: AccountId) -> Vec<SecurityGroup> {
        let stored = self.security_groups.of(account).map(|group| SecurityGroup::clone(group));
        let default = self.unchanged_default(account).map(|whole| whole.group);
        let mut all: Vec<SecurityGroup> = stored.chain(default).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// A rule of an account.
    pub fn security_group_rule(
        &self,
        account: AccountId,
        id: &SecurityGroupRuleId,
    ) -> Option<SecurityGroupRule> {
        match self.security_group_rules.get(account, id) {
            Some(rule) => Some(SecurityGroupRule::clone(rule)),
            None => {
                let rules = self.unchanged_default(account)?.rules;
                rules.into_iter().find(|rule| rule.id == *id)
            }
        }
    }

    /// The default VPC's default group while there is no row of it.
    fn unchanged_default(&self, account: AccountId) -> Option<WholeGroup> {
        let plan = self.address_plans.get(region_account(), &AddressPlanId)?;
        if self.default_vpcs_gone.get(account, &DefaultVpcGoneId).is_some() {
            return None;
        }
        let whole = plan.default_group(account);
        self.security_groups.get(account, &whole.group.id).is_none().then_some(whole)
    }

    fn rules_of_group(
        &self,
        account: AccountId,
        id: &SecurityGroupId,
    ) -> impl Iterator<Item = &SecurityGroupRule> {
        self.members(&Index::GroupRules(account, id.clone())).filter_map(|key| {
            let Key::SecurityGroupRule(account, id) = key else { return None };
            self.security_group_rules.get(*account, id).map(AsRef::as_ref)
        })
    }

    /// Rules of other groups that name this one.
    pub fn references_to_group(
        &self,
        account: AccountId,
        id: &SecurityGroupId,
    ) -> impl Iterator<Item = &SecurityGroupRule> {
        self.members(&Index::GroupReferences(account, id.clone())).filter_map(move |key| {
            let Key::SecurityGroupRule(account, rule) = key else { return None };
            let rule = self.security_group_rules.get(*account, rule)?;
            (rule.group != *id).then_some(rule.as_ref())
        })
    }

    /// The tags of something of EC2's; `None` if it has none.
    pub fn tags_on(&self, account: AccountId, resource: &str) -> Option<&Tags> {
        self.ec2_tags.get(account, &Arc::from(resource)).map(|row| &row.tags)
    }
}

impl AddressPlan {
    /// An account's default group as it is until somebody changes it: members reach each other, and all
    /// may go out.
    pub fn default_group(&self, account: AccountId) -> WholeGroup {
        let id = |kind: &str, number| self.id_digits(account, kind, number);
        let parse = "a prefix and seventeen hexadecimal digits are an id";
        let group: SecurityGroupId = format!("sg-{}", id("sg", 0)).parse().expect(parse);
        let rule = |number, peer| SecurityGroupRule {
            account,
            id: format!("sgr-{}", id("sgr", number)).parse().expect(parse),
            group: group.clone(),
            is_egress: number > 0,
            matches: RuleMatch { protocol: None, ports: None, peer },
            description: None,
        };
        let anywhere = Cidr::from_octets([0; 4], 0).expect("zero bits are a prefix");
        let mut rules =
            vec![rule(0, RulePeer::Group(group.clone())), rule(1, RulePeer::Ipv4(anywhere))];
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        let group = SecurityGroup {
            account,
            id: group,
            vpc: format!("vpc-{}", id("vpc", 0)).parse().expect(parse),
            name: DEFAULT_GROUP.to_owned(),
            description: "default VPC security group".to_owned(),
            revision: 0,
        };
        WholeGroup { group, rules, is_stored: false, lists: Lists::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{AclNetwork, AddressFamily, PrefixEntry};
    use crate::rows::Row;
    use crate::view::Seq;

    fn view() -> (View, AccountId) {
        let mut view = View::default();
        let block = "172.31.0.0/16".parse().unwrap();
        view.put(Seq(1), &Row::from(AddressPlan { block, bridge: None, seed: 7 }));
        (view, "111111111111".parse().unwrap())
    }

    #[test]
    fn a_default_group_is_there_before_it_has_a_row_and_keeps_its_ids_with_one() {
        let (mut view, account) = view();
        let before = view.security_groups_of(account).remove(0);
        let whole = view.security_group(account, &before.id).unwrap();
        assert!(!whole.is_stored && whole.group.is_default());
        assert_eq!(whole.compile(), traffic::SecurityGroup::default_rules(before.id.clone()));
        let rule = whole.rules[0].clone();
        assert_eq!(view.security_group_rule(account, &rule.id), Some(rule.clone()));
        view.put(Seq(2), &Row::from(whole.group.clone()));
        assert_eq!(view.security_group_rule(account, &rule.id), None, "its rules are rows now");
        for rule in &whole.rules {
            view.put(Seq(3), &Row::from(rule.clone()));
        }
        let after = view.security_group(account, &before.id).unwrap();
        assert_eq!((&after.group, &after.rules), (&whole.group, &whole.rules));
        assert_eq!(view.security_groups_of(account).len(), 1);
        assert_eq!(view.references_to_group(account, &before.id).count(), 0, "its own is none");
    }

    #[test]
    fn rules_become_what_hosts_judge_by() {
        let range = RulePeer::Ipv4("10.0.0.0/8".parse().unwrap());
        let of = |protocol, ports| RuleMatch { protocol, ports, peer: range.clone() };
        for (rule, expected) in [
            (of(None, None), Traffic::All),
            (of(Some(6), Some((0, 65_535))), Traffic::Tcp(0..=65_535)),
            (of(Some(17), Some((53, 53))), Traffic::Udp(53..=53)),
            (of(Some(1), Some((-1, -1))), Traffic::Icmp(None)),
            (of(Some(1), Some((8, -1))), Traffic::Icmp(Some((8, None)))),
            (of(Some(1), Some((3, 4))), Traffic::Icmp(Some((3, Some(4))))),
            (of(Some(50), None), Traffic::Protocol(50)),
        ] {
            assert_eq!(rule.compile(&Lists::new())[0].traffic, expected);
        }
        let six = RuleMatch { peer: RulePeer::Ipv6("::/0".to_owned()), ..of(None, None) };
        assert_eq!(six.compile(&Lists::new()), []);
        let list = PrefixList {
            account: "111111111111".parse().unwrap(),
            id: "pl-00000001".parse().unwrap(),
            name: "offices".to_owned(),
            family: AddressFamily::Ipv4,
            max_entries: 5,
            version: 1,
            is_modified: false,
            is_restored: false,
            earlier: vec![],
            entries: ["10.0.0.0/8", "192.0.2.0/24"]
                .map(|block| PrefixEntry {
                    network: AclNetwork::Ipv4(block.parse().unwrap()),
                    description: None,
                })
                .into(),
        };
        let listed = RuleMatch { peer: RulePeer::List(list.id.clone()), ..of(Some(50), None) };
        assert_eq!(listed.compile(&Lists::new()), [], "of a list that is not there nobody is");
        let peers: Vec<Peer> = listed
            .compile(&Lists::from([(list.id.clone(), Arc::new(list.clone()))]))
            .into_iter()
            .map(|rule| rule.peer)
            .collect();
        assert_eq!(peers, list.blocks().map(Peer::Network).collect::<Vec<_>>());
        let row = serde_json::to_string(&of(Some(6), Some((80, 80)))).unwrap();
        assert_eq!(row, r#"{"protocol":6,"ports":[80,80],"peer":{"ipv4":"10.0.0.0/8"}}"#);
    }
}
