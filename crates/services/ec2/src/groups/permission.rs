//! What a request says of rules, read into what rules are about: one permission with three ranges is three
//! rules.

use std::net::{Ipv4Addr, Ipv6Addr};

use ec2_api as api;
use longshore_types::Cidr;
use model::network::PeerGroup;
use model::{RuleMatch, RulePeer, SecurityGroup, SecurityGroupRule, View, WholeGroup};

use super::{GroupRefusal, by_name, group_by_id};
use crate::errors::{Kind, Refusal};
use crate::prefix_lists;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP_6: u8 = 58;
const DESCRIPTION_CHARS_MAX: usize = 255;

/// One rule that a request speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) matches: RuleMatch,
    pub(super) description: Option<String>,
}

/// The members by which old requests name one rule.
#[derive(Clone, Debug, Default)]
pub(super) struct OldForm {
    pub(super) protocol: Option<String>,
    pub(super) from: Option<i32>,
    pub(super) to: Option<i32>,
    pub(super) cidr: Option<String>,
    pub(super) group_name: Option<String>,
    pub(super) group_owner: Option<String>,
}

impl OldForm {
    fn is_given(&self) -> bool {
        self.protocol.is_some() || self.cidr.is_some() || self.group_name.is_some()
    }

    /// The same as a permission. A group alone means all traffic.
    fn permission(self) -> api::IpPermission {
        let pair = |name| api::UserIdGroupPair {
            group_name: Some(name),
            user_id: self.group_owner.clone(),
            ..api::UserIdGroupPair::default()
        };
        let has_group = self.group_name.is_some();
        api::IpPermission {
            ip_protocol: self.protocol.or_else(|| has_group.then(|| "-1".to_owned())),
            from_port: self.from,
            to_port: self.to,
            user_id_group_pairs: self.group_name.map(|name| vec![pair(name)]),
            ip_ranges: self
                .cidr
                .map(|cidr| vec![api::IpRange { cidr_ip: Some(cidr), description: None }]),
            ..api::IpPermission::default()
        }
    }
}

/// The permissions of a request in either of its forms.
pub(super) fn permissions(
    given: Option<Vec<api::IpPermission>>,
    old: OldForm,
) -> Result<Vec<api::IpPermission>, Refusal> {
    let given = given.unwrap_or_default();
    match (given.is_empty(), old.is_given()) {
        (true, false) => Err(Refusal::Parameter("ipPermissions")),
        (false, true) => Err(Refusal::Combination(
            "The parameter ipPermissions may not be used with ipProtocol, cidrIp or \
             sourceSecurityGroupName"
                .to_owned(),
        )),
        (true, true) => Ok(vec![old.permission()]),
        (false, false) => Ok(given),
    }
}

/// All rules that permissions of `whole` speak of, each once.
pub(super) fn read_all(
    view: &View,
    whole: &WholeGroup,
    permissions: &[api::IpPermission],
) -> Result<Vec<Asked>, Refusal> {
    let mut all = Vec::new();
    for permission in permissions {
        all.extend(read(view, whole, permission)?);
    }
    Ok(all)
}

/// The rules that one permission speaks of.
pub(super) fn read(
    view: &View,
    whole: &WholeGroup,
    permission: &api::IpPermission,
) -> Result<Vec<Asked>, Refusal> {
    let protocol = protocol(permission.ip_protocol.as_deref())?;
    let ports = ports(protocol, permission.from_port, permission.to_port)?;
    let asked = |peer, description: &Option<String>| {
        let description = checked_description(description.as_deref())?;
        Ok::<_, Refusal>(Asked { matches: RuleMatch { protocol, ports, peer }, description })
    };
    let mut rules = Vec::new();
    for range in permission.ip_ranges.iter().flatten() {
        let peer = RulePeer::Ipv4(range_4(range.cidr_ip.as_deref().unwrap_or_default())?);
        rules.push(asked(peer, &range.description)?);
    }
    for range in permission.ipv6_ranges.iter().flatten() {
        let peer = RulePeer::Ipv6(range_6(range.cidr_ipv6.as_deref().unwrap_or_default())?);
        rules.push(asked(peer, &range.description)?);
    }
    for pair in permission.user_id_group_pairs.iter().flatten() {
        rules.push(asked(group_peer(view, whole, pair)?, &pair.description)?);
    }
    for list in permission.prefix_list_ids.iter().flatten() {
        let id = list.prefix_list_id.as_deref().unwrap_or_default();
        let peer = RulePeer::List(prefix_lists::named(view, whole.group.account, id)?);
        rules.push(asked(peer, &list.description)?);
    }
    if rules.is_empty() {
        return Err(GroupRefusal::NoSource.into());
    }
    Ok(rules)
}

/// What a rule is to be about, of which all is said at once.
pub(super) fn read_one(
    view: &View,
    whole: &WholeGroup,
    rule: &api::SecurityGroupRuleRequest,
) -> Result<Asked, Refusal> {
    let description = rule.description.clone();
    let permission = api::IpPermission {
        ip_protocol: rule.ip_protocol.clone(),
        from_port: rule.from_port,
        to_port: rule.to_port,
        ip_ranges: rule.cidr_ipv4.clone().map(|cidr| {
            vec![api::IpRange { cidr_ip: Some(cidr), description: description.clone() }]
        }),
        ipv6_ranges: rule.cidr_ipv6.clone().map(|cidr| {
            vec![api::Ipv6Range { cidr_ipv6: Some(cidr), description: description.clone() }]
        }),
        prefix_list_ids: rule.prefix_list_id.clone().map(|id| {
            vec![api::PrefixListId { prefix_list_id: Some(id), description: description.clone() }]
        }),
        user_id_group_pairs: rule.referenced_group_id.as_deref().map(|id| {
            // A peer's group may be named with its owner.
            let (owner, id) =
                id.split_once('/').map_or((None, id), |(owner, id)| (Some(owner), id));
            let (group_id, user_id) = (Some(id.to_owned()), owner.map(str::to_owned));
            let description = description.clone();
            vec![api::UserIdGroupPair { group_id, user_id, description, ..Default::default() }]
        }),
    };
    let mut rules = read(view, whole, &permission)?;
    match (rules.pop(), rules.pop()) {
        (Some(only), None) => Ok(only),
        _ => Err(Refusal::Combination(
            "A rule has exactly one of CidrIpv4, CidrIpv6, PrefixListId and ReferencedGroupId"
                .to_owned(),
        )),
    }
}

fn protocol(given: Option<&str>) -> Result<Option<u8>, Refusal> {
    let given = given.filter(|given| !given.is_empty()).ok_or(Refusal::Parameter("ipProtocol"))?;
    match given.to_ascii_lowercase().as_str() {
        "-1" | "all" => Ok(None),
        "tcp" => Ok(Some(TCP)),
        "udp" => Ok(Some(UDP)),
        "icmp" => Ok(Some(ICMP)),
        "icmpv6" => Ok(Some(ICMP_6)),
        number => number.parse().map(Some).map_err(|_| {
            Refusal::Value(format!(
                "Invalid value '{given}' for IP protocol. Unknown protocol: it is tcp, udp, icmp, \
                 icmpv6, a number from 0 to 255, or -1 for all."
            ))
        }),
    }
}

fn ports(
    protocol: Option<u8>,
    from: Option<i32>,
    to: Option<i32>,
) -> Result<Option<(i32, i32)>, Refusal> {
    match protocol {
        Some(TCP | UDP) => {
            let (Some(from), Some(to)) = (from, to) else {
                return Err(Refusal::Value(
                    "Invalid value 'Must specify both from and to ports with TCP/UDP.' for \
                     portRange."
                        .to_owned(),
                ));
            };
            let is_port = |port: &i32| (0..=i32::from(u16::MAX)).contains(port);
            if !is_port(&from) || !is_port(&to) || from > to {
                let name = super::wire::protocol_word(protocol).to_uppercase();
                return Err(Refusal::Value(format!(
                    "Invalid {name} port range ({from}-{to}): ports are from 0 to 65535, the first \
                     not after the last."
                )));
            }
            Ok(Some((from, to)))
        }
        Some(ICMP | ICMP_6) => {
            let (kind, code) = (from.unwrap_or(-1), to.unwrap_or(-1));
            let is_byte = |number: &i32| (-1..=255).contains(number);
            if !is_byte(&kind) || !is_byte(&code) || kind == -1 && code != -1 {
                return Err(Refusal::Value(format!(
                    "ICMP type ({kind}) and code ({code}) are from 0 to 255, or -1 for all; all types \
                     have all codes."
                )));
            }
            Ok(Some((kind, code)))
        }
        // All ports, whatever was sent.
        None | Some(_) => Ok(None),
    }
}

/// Bits below the prefix are cleared, as EC2 does.
pub(crate) fn range_4(text: &str) -> Result<Cidr, Refusal> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        Cidr::new(address.parse::<Ipv4Addr>().ok()?, prefix.parse().ok()?)
    });
    parsed.ok_or_else(|| Refusal::Group(GroupRefusal::Cidr(text.to_owned())))
}

/// In its shortest form, without the bits below the prefix.
pub(crate) fn range_6(text: &str) -> Result<String, Refusal> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let (address, prefix): (Ipv6Addr, u32) = (address.parse().ok()?, prefix.parse().ok()?);
        let mask = u128::MAX.checked_shl(128_u32.checked_sub(prefix)?).unwrap_or(0);
        Some(format!("{}/{prefix}", Ipv6Addr::from_bits(address.to_bits() & mask)))
    });
    parsed.ok_or_else(|| Refusal::Group(GroupRefusal::Cidr(text.to_owned())))
}

fn group_peer(
    view: &View,
    whole: &WholeGroup,
    pair: &api::UserIdGroupPair,
) -> Result<RulePeer, Refusal> {
    let (account, vpc) = (whole.group.account, &whole.group.vpc);
    let named = pair.group_id.as_deref().or(pair.group_name.as_deref()).unwrap_or_default();
    // A rule stays that names a group which is gone, or of a VPC that is connected no more.
    let is_named = |rule: &&SecurityGroupRule| {
        let RulePeer::PeerGroup(peer) = &rule.matches.peer else { return false };
        peer.group.as_str() == named
    };
    if let Some(rule) = whole.rules.iter().find(is_named) {
        return Ok(rule.matches.peer.clone());
    }
    let owner = pair.user_id.as_deref().filter(|owner| !owner.is_empty());
    if let Some(owner) = owner.filter(|owner| *owner != account.as_str()) {
        let missing = || Refusal::Missing(Kind::SecurityGroup, named.to_owned());
        let owner = owner.parse().map_err(|_| missing())?;
        let group = group_by_id(view, owner, named).map_err(|_| missing())?.group;
        return peer_group(view, whole, group).ok_or_else(missing);
    }
    let peer = match (&pair.group_id, &pair.group_name) {
        (Some(id), _) => group_by_id(view, account, id)?.group,
        (None, Some(name)) => by_name(view, account, vpc, name).ok_or_else(|| {
            GroupRefusal::NameMissing { name: name.clone(), vpc: vpc.to_string() }
        })?,
        (None, None) => return Err(GroupRefusal::NoSource.into()),
    };
    if peer.vpc != *vpc {
        return peer_group(view, whole, peer).ok_or(Refusal::DifferentNetworks);
    }
    Ok(RulePeer::Group(peer.id))
}

/// A group of another VPC, if an active connection leads there.
fn peer_group(view: &View, whole: &WholeGroup, peer: SecurityGroup) -> Option<RulePeer> {
    let (account, vpc) = (whole.group.account, &whole.group.vpc);
    let named = PeerGroup { account: peer.account, vpc: peer.vpc, group: peer.id };
    (!view.is_stale(account, vpc, &named)).then_some(RulePeer::PeerGroup(named))
}

pub(super) fn checked_description(given: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(None) };
    let is_allowed =
        |letter: char| letter.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(letter);
    if given.chars().count() > DESCRIPTION_CHARS_MAX || !given.chars().all(is_allowed) {
        return Err(Refusal::Value(
            "Invalid rule description. Valid descriptions are strings less than 256 characters \
             from the following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*"
                .to_owned(),
        ));
    }
    Ok(Some(given.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lose_the_bits_below_their_prefix() {
        assert_eq!(range_4("100.68.0.18/18").unwrap().to_string(), "100.68.0.0/18");
        assert_eq!(range_6("2001:DB8:0:0::1/32").unwrap(), "2001:db8::/32");
        assert_eq!(range_6("::/0").unwrap(), "::/0");
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/0"] {
            assert_eq!(range_4(text), Err(GroupRefusal::Cidr(text.to_owned()).into()), "{text}");
        }
        for text in ["::", "::/129", "10.0.0.0/8"] {
            assert!(range_6(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports_are_read_as_their_protocol_has_them() {
        for (protocol, from, to, expected) in [
            (None, Some(0), Some(0), Some(None)),
            (Some(50), Some(7), None, Some(None)),
            (Some(TCP), Some(0), Some(65_535), Some(Some((0, 65_535)))),
            (Some(TCP), Some(443), None, None),
            (Some(UDP), Some(2), Some(1), None),
            (Some(TCP), Some(-1), Some(-1), None),
            (Some(UDP), Some(0), Some(65_536), None),
            (Some(ICMP), Some(-1), Some(-1), Some(Some((-1, -1)))),
            (Some(ICMP), Some(8), Some(-1), Some(Some((8, -1)))),
            (Some(ICMP), Some(-1), Some(0), None),
            (Some(ICMP_6), None, None, Some(Some((-1, -1)))),
        ] {
            let read = ports(protocol, from, to).ok();
            assert_eq!(read, expected, "{protocol:?} {from:?} {to:?}");
        }
        assert_eq!(super::protocol(Some("6")).unwrap(), Some(TCP));
        assert_eq!(super::protocol(Some("-1")).unwrap(), None);
        assert!(super::protocol(Some("256")).is_err() && super::protocol(None).is_err());
    }
}
