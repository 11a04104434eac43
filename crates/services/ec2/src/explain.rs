//! What `longshore net explain` asks: whether a connection is let through, and what decides that.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::{Control, Permission};
use longshore_types::{EniId, NetworkAclId, RouteTableId};
use model::View;
use model::network::Network;
use model::vpc::Interface;
use plan::reach::{self, End, Outcome, Step};
use serde_json::{Value, json};
use traffic::path::{AnswersPart, EPHEMERAL_PORTS, Way};
use traffic::{Content, Direction};

use crate::errors::Refusal;
use crate::groups::rule_in_words;
use crate::interfaces;

/// Answers `{"from": WHO, "to": WHO, "protocol": "tcp", "port": 80}` for who may describe security groups. Who: an
/// interface's id, or an IPv4 address, which is looked for in the VPC of the other end first.
pub fn explain(control: &Control, caller: &Caller, body: &[u8]) -> Result<Value, ApiError> {
    let permission = Permission::to("ec2:DescribeSecurityGroupRules").on("*");
    let permission = permission.and(Permission::to("ec2:DescribeNetworkInterfaces").on("*"));
    let view = control.read(caller, &permission)?;
    let asked: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::Value(format!("The question is no JSON: {error}")))?;
    let content = content(&asked)?;
    let region = &control.config.region;
    let network = Network::new(&view, caller.account, region);
    let [from, to] = ends(&network, &asked)?;
    let steps = reach::explain(&view, region, caller.account, [&from, &to], content);
    let passes = steps.iter().all(Step::passes);
    let said: Vec<Value> = steps.iter().map(|step| in_words(&view, caller, step)).collect();
    Ok(json!({ "passes": passes, "steps": said, "notes": notes(&steps, [&from, &to]) }))
}

/// The two ends that a question names.
fn ends(network: &Network<'_>, asked: &Value) -> Result<[End; 2], Refusal> {
    let [from, to] = ["from", "to"].map(|member| asked[member].as_str().unwrap_or_default());
    let [mut a, mut b] = [candidates(network, from)?, candidates(network, to)?];
    // An address that several VPCs have is that of the VPC in which the other end is.
    let narrow = |these: &mut Vec<Arc<Interface>>, others: &[Arc<Interface>]| {
        let is_beside = |it: &Arc<Interface>| others.iter().any(|other| other.vpc == it.vpc);
        if these.len() > 1 && these.iter().any(is_beside) {
            these.retain(is_beside);
        }
    };
    narrow(&mut a, &b);
    narrow(&mut b, &a);
    // An address in a VPC means that VPC's to who is in it, also where another's interface has the same.
    if let ([from], [to_]) = (a.as_slice(), b.as_slice())
        && from.is_apart
        && from.vpc != to_.vpc
        && let Ok(address) = to.parse::<Ipv4Addr>()
        && network.vpc(&from.vpc).is_some_and(|vpc| vpc.blocks().any(|it| it.contains(address)))
    {
        b.clear();
    }
    if a.is_empty() && b.is_empty() {
        return Err(Refusal::Value(format!(
            "Neither {from} nor {to} is the address of an interface of this account."
        )));
    }
    Ok([end(from, a)?, end(to, b)?])
}

fn candidates(network: &Network<'_>, text: &str) -> Result<Vec<Arc<Interface>>, Refusal> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(reach::interfaces_at(network.view(), network.account(), address));
    }
    let id: Option<EniId> = text.parse().ok();
    let found = id.and_then(|id| interfaces::find(network, &id));
    let unknown = || Refusal::Value(format!("'{text}' is no IPv4 address and no interface's id."));
    found.map(|row| vec![row]).ok_or_else(unknown)
}

fn end(text: &str, found: Vec<Arc<Interface>>) -> Result<End, Refusal> {
    match (found.as_slice(), text.parse()) {
        ([one], _) => Ok(End::Interface(one.clone())),
        ([], Ok(address)) => Ok(End::Address(address)),
        (several, _) => {
            let ids: Vec<String> =
                several.iter().map(|it| format!("{} of {}", it.eni, it.vpc)).collect();
            Err(Refusal::Value(format!(
                "{text} may be {}: name the interface by its id.",
                ids.join(" or ")
            )))
        }
    }
}

fn content(asked: &Value) -> Result<Content, Refusal> {
    let port = || {
        let port = asked["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        port.ok_or_else(|| Refusal::Value("A port from 0 to 65535 is needed.".to_owned()))
    };
    let protocol = asked["protocol"].as_str().unwrap_or("tcp");
    Ok(match protocol {
        "tcp" => Content::Tcp(port()?),
        "udp" => Content::Udp(port()?),
        // What ping sends.
        "icmp" => Content::Icmp { kind: 8, code: 0 },
        number => Content::Other(number.parse().map_err(|_| {
            Refusal::Value(format!("'{number}' is no protocol: it is tcp, udp, icmp or a number."))
        })?),
    })
}

fn in_words(view: &View, caller: &Caller, step: &Step) -> Value {
    let (interface, way, because) = match step {
        Step::Groups { interface, direction, outcome } => {
            (interface, Some(*direction), by_groups(view, caller, *direction, outcome))
        }
        Step::Acl { interface, acl, direction, entry, .. } => {
            let what = rules_of(*direction);
            let acl = acl.as_ref().map_or("the subnet's ACL".to_owned(), ToString::to_string);
            let because = match entry {
                Some(number) => format!("{what} entry {number} of {acl}"),
                None => format!("no {what} entry of {acl} is about it"),
            };
            (interface, Some(*direction), because)
        }
        Step::Route { from, table, way } => {
            (from, Some(Direction::Out), format!("{}{}", by_table(table.as_ref()), led(way)))
        }
        Step::Back { from, table, way } => {
            let table = by_table(table.as_ref());
            (from, Some(Direction::Out), format!("its answers: {table}{}", led(way)))
        }
        Step::Answers { interface, acl, direction, parts } => {
            let because = by_answers(rules_of(*direction), acl, parts);
            (interface, Some(*direction), format!("its answers: {because}"))
        }
        Step::NoPublicAddress(interface) => (
            interface,
            Some(Direction::In),
            "outside its VPC nobody knows it: it has no public address".to_owned(),
        ),
    };
    let way = way.map(|way| if way == Direction::Out { "out" } else { "in" });
    json!({
        "interface": interface.eni.to_string(),
        "address": interface.address.to_string(),
        "task": interface.task().map(|task| task.to_string()),
        "way": way,
        "passes": step.passes(),
        "because": because,
    })
}

fn rules_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "egress",
        Direction::In => "ingress",
    }
}

fn by_groups(view: &View, caller: &Caller, direction: Direction, outcome: &Outcome) -> String {
    let what = rules_of(direction);
    let named = |id| match view.security_group(caller.account, id) {
        Some(whole) => format!("{id} ({})", whole.group.name),
        None => format!("{id} (which is not there)"),
    };
    match outcome {
        Outcome::Passes { group, rule } => {
            let row = view.security_group_rule(caller.account, rule);
            let words = row.map(|row| rule_in_words(&row.matches)).unwrap_or_default();
            format!("{what} rule {rule} of {}: {words}", named(group))
        }
        Outcome::Dropped { groups } => {
            let groups: Vec<String> = groups.iter().map(named).collect();
            format!("no {what} rule of {} lets it pass", groups.join(" or "))
        }
    }
}

/// What of an ACL decides about answers, and about which if it is not all.
fn by_answers(what: &str, acl: &NetworkAclId, parts: &[AnswersPart]) -> String {
    let mut entries: Vec<u16> = parts.iter().filter_map(|part| part.entry).collect();
    entries.sort_unstable();
    entries.dedup();
    let passing: Vec<&AnswersPart> = parts.iter().filter(|part| part.passes).collect();
    let named = match entries.as_slice() {
        [] => format!("no {what} entry of {acl} is about them"),
        [one] => format!("{what} entry {one} of {acl}"),
        several => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            format!("{what} entries {} of {acl}", several.join(", "))
        }
    };
    let of = |ports: &RangeInclusive<u16>| match ports.start() == ports.end() {
        true => ports.start().to_string(),
        false => format!("{}-{}", ports.start(), ports.end()),
    };
    let all = of(&EPHEMERAL_PORTS);
    match (passing.len(), parts.len()) {
        (passing, parts) if passing == parts => named,
        (0, 1) => named,
        (0, _) => format!("{named} let none of ports {all} have them"),
        _ => {
            let mut ports: Vec<RangeInclusive<u16>> = Vec::new();
            for next in passing.into_iter().filter_map(|part| part.ports.clone()) {
                match ports.last_mut() {
                    Some(last) if last.end().checked_add(1) == Some(*next.start()) => {
                        *last = *last.start()..=*next.end();
                    }
                    Some(_) | None => ports.push(next),
                }
            }
            let ports: Vec<String> = ports.iter().map(of).collect();
            format!("{named}: of ports {all} only {} have them", ports.join(", "))
        }
    }
}

fn by_table(table: Option<&RouteTableId>) -> String {
    table.map_or("the local route".to_owned(), |table| format!("route table {table}"))
}

/// Completes what led the packet.
fn led(way: &Way) -> String {
    match way {
        Way::Interface(to) => format!(" leads to {} ({})", to.id, to.address),
        Way::Nobody => " leads nowhere: no interface has the address".to_owned(),
        Way::Internet { public } => format!(" leads to the internet gateway, as {public}"),
        Way::NoPublicAddress => {
            " leads to the internet gateway, but the interface has no public address".to_owned()
        }
        Way::Nat { gateway, public } => format!(" leads to {gateway}, as {public}"),
        Way::NatWithoutWay { gateway } => {
            format!(" leads to {gateway}, which has itself no way to the internet")
        }
        Way::Peer { peering, to } => {
            format!(" leads by {peering} to {} ({}) of {}", to.id, to.address, to.vpc)
        }
        Way::PeerNobody { peering } => {
            format!(" leads to {peering}, by which no interface with the address is reached")
        }
        Way::BesidePeer { peering } => format!(
            " leads elsewhere, but the address is that of an interface to which {peering} leads from this VPC"
        ),
        Way::Blackhole => " leads to something that is no more (a blackhole)".to_owned(),
        Way::NoRoute => " has no route for it".to_owned(),
    }
}

/// What is true besides.
fn notes(steps: &[Step], [from, to]: [&End; 2]) -> Vec<String> {
    let mut notes = Vec::new();
    if let End::Address(address) = from {
        let of_default = to.interface().is_some_and(|to| !to.is_apart);
        let host = if of_default { " The host itself reaches every task." } else { "" };
        notes.push(format!(
            "{address} is no interface of this account: no group is asked where it leaves.{host}"
        ));
    }
    let by_peering = steps.iter().find_map(|step| {
        let Step::Route { way: Way::Peer { peering, .. }, .. } = step else { return None };
        Some(peering)
    });
    if let End::Address(address) = to
        && let Some(peering) = by_peering
    {
        notes.push(format!(
            "{address} is another account's, by {peering}: its routes, network ACL and groups are not looked at."
        ));
    }
    if let End::Address(address) = to
        && from.interface().is_some_and(|from| !from.is_apart)
    {
        notes.push(format!(
            "{address} is no interface of this account: it is reached by way of the host, behind its address."
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_answers_it_is_said_which_entry_decides_and_to_which_ports_they_come() {
        let acl: NetworkAclId = "acl-00000001".parse().unwrap();
        let part = |first: u16, last: u16, entry: Option<u16>, passes| AnswersPart {
            ports: Some(first..=last),
            entry,
            passes,
        };
        let said = |parts: &[AnswersPart]| by_answers("ingress", &acl, parts);
        let one = "ingress entry 100 of acl-00000001";
        assert_eq!(said(&[part(1_024, 65_535, Some(100), true)]), one);
        assert_eq!(said(&[part(1_024, 65_535, Some(100), false)]), one);
        let none = "no ingress entry of acl-00000001 is about them";
        assert_eq!(said(&[part(1_024, 65_535, None, false)]), none);
        assert_eq!(
            said(&[
                part(1_024, 32_767, None, false),
                part(32_768, 39_999, Some(100), true),
                part(40_000, 60_999, Some(110), true),
                part(61_000, 65_534, None, false),
                part(65_535, 65_535, Some(110), true),
            ]),
            "ingress entries 100, 110 of acl-00000001: of ports 1024-65535 only 32768-60999, 65535 have them"
        );
        assert_eq!(
            said(&[part(1_024, 32_767, None, false), part(32_768, 65_535, Some(90), false)]),
            "ingress entry 90 of acl-00000001 let none of ports 1024-65535 have them"
        );
    }
}
