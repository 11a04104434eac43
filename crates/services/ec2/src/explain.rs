//! What `longshore net explain` asks: whether a connection is let through, and by which rule.

use std::net::Ipv4Addr;

use aws_wire::{ApiError, Caller};
use control::{Control, Permission};
use model::View;
use plan::reach::{self, Outcome, Step};
use serde_json::{Value, json};
use traffic::{Content, Direction, Packet};

use crate::errors::Refusal;
use crate::groups::rule_in_words;

/// Answers `{"from": IP, "to": IP, "protocol": "tcp", "port": 80}` for who may describe security groups.
pub fn explain(control: &Control, caller: &Caller, body: &[u8]) -> Result<Value, ApiError> {
    let permission = Permission::to("ec2:DescribeSecurityGroupRules").on("*");
    let permission = permission.and(Permission::to("ec2:DescribeNetworkInterfaces").on("*"));
    let view = control.read(caller, &permission)?;
    let asked: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::Value(format!("The question is no JSON: {error}")))?;
    let packet = packet(&asked)?;
    let account = caller.account;
    let steps = reach::explain(&view, account, &packet);
    if steps.is_empty() {
        return Err(Refusal::Value(format!(
            "Neither {} nor {} is the address of an interface of this account.",
            packet.source, packet.destination
        ))
        .into());
    }
    let passes = steps.iter().all(Step::passes);
    let said: Vec<Value> = steps.iter().map(|step| in_words(&view, caller, step)).collect();
    Ok(json!({ "passes": passes, "steps": said, "notes": notes(&view, caller, &packet) }))
}

fn packet(asked: &Value) -> Result<Packet, Refusal> {
    let address = |member: &str| {
        let text = asked[member].as_str().unwrap_or_default();
        let parsed = text.parse::<Ipv4Addr>();
        parsed.map_err(|_| Refusal::Value(format!("'{text}' is no IPv4 address.")))
    };
    let port = || {
        let port = asked["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        port.ok_or_else(|| Refusal::Value("A port from 0 to 65535 is needed.".to_owned()))
    };
    let protocol = asked["protocol"].as_str().unwrap_or("tcp");
    let content = match protocol {
        "tcp" => Content::Tcp(port()?),
        "udp" => Content::Udp(port()?),
        // What ping sends.
        "icmp" => Content::Icmp { kind: 8, code: 0 },
        number => Content::Other(number.parse().map_err(|_| {
            Refusal::Value(format!("'{number}' is no protocol: it is tcp, udp, icmp or a number."))
        })?),
    };
    Ok(Packet { source: address("from")?, destination: address("to")?, content })
}

fn in_words(view: &View, caller: &Caller, step: &Step) -> Value {
    let (way, what) = match step.direction {
        Direction::Out => ("out", "egress"),
        Direction::In => ("in", "ingress"),
    };
    let named = |id| match view.security_group(caller.account, id) {
        Some(whole) => format!("{id} ({})", whole.group.name),
        None => format!("{id} (which is not there)"),
    };
    let because = match &step.outcome {
        Outcome::Passes { group, rule } => {
            let row = view.security_group_rule(caller.account, rule);
            let words = row.map(|row| rule_in_words(&row.matches)).unwrap_or_default();
            format!("{what} rule {rule} of {}: {words}", named(group))
        }
        Outcome::Dropped { groups } => {
            let groups: Vec<String> = groups.iter().map(named).collect();
            format!("no {what} rule of {} lets it pass", groups.join(" or "))
        }
    };
    json!({
        "interface": step.interface.eni.to_string(),
        "address": step.interface.address.to_string(),
        "task": step.interface.task().map(|task| task.to_string()),
        "way": way,
        "passes": step.passes(),
        "because": because,
    })
}

/// What is true besides the groups.
fn notes(view: &View, caller: &Caller, packet: &Packet) -> Vec<String> {
    let is_ours = |address: Ipv4Addr| reach::interface_at(view, caller.account, address).is_some();
    let mut notes = Vec::new();
    if !is_ours(packet.source) {
        notes.push(format!(
            "{} is no interface of this account: no group is asked where it leaves. The host itself \
             reaches every task.",
            packet.source
        ));
    }
    if !is_ours(packet.destination) {
        notes.push(format!(
            "{} is no interface of this account: it is reached by way of the host, behind its address.",
            packet.destination
        ));
    }
    notes
}
