//! Whose an address in the hosts' own network is.
//!
//! What is for a host's tasks is sent to the address that its agent says. One that said another host's would take its
//! packets, or shut it out. Who comes to the region from the very address has it, and those who only say so give way.
//!
//! **Invariant:** of two hosts whose agents are connected none has the other's address, nor one that encryption between
//! hosts takes for it.

use std::net::{IpAddr, Ipv4Addr};

use aws_wire::{ApiError, Caller};
use longshore_types::Timestamp;
use model::{Instance, View};
use tracing::warn;

use crate::{BetweenHosts, Control};

/// What a host is refused with whose address is another's. It says nothing of the instance that the host is.
const CODE: &str = "ConflictException";

impl Control {
    /// Whether a host that registers may have the address that it says. Another's is its own while that one is connected,
    /// and for as long after as its tasks count as running; but whoever comes from the very address has it before one that
    /// is away, or is connected from elsewhere.
    pub fn check_address(
        &self,
        view: &View,
        caller: &Caller,
        row: &Instance,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let Some(address) = row.underlay() else { return Ok(()) };
        let comes_from_it = self.is_at_address(row, Self::comes_from(caller));
        for other in self.others_at(view, row, address) {
            let limit_ms = self.heartbeat_timeout_ms(view, other);
            let ends = other.agent.silent_since().map(|since| since.plus_ms(limit_ms));
            let is_there = match ends {
                None => !(comes_from_it && self.gives_way(other, address)),
                Some(ends) => now < ends && !(comes_from_it && other.underlay() == Some(address)),
            };
            if is_there {
                let refused = taken(address, other, ends.map(|ends| ends.since_ms(now)));
                warn!(instance = %row.id, %address, of = %other.arn(), why = %refused.message, "registration refused");
                return Err(refused);
            }
        }
        Ok(())
    }

    /// The same of a host that connects: its address may have become another's while it was away. Those that are connected
    /// and must give way to it.
    pub fn check_address_again(
        &self,
        view: &View,
        row: &Instance,
        from: Option<IpAddr>,
    ) -> Result<Vec<Instance>, ApiError> {
        let Some(address) = row.underlay() else { return Ok(Vec::new()) };
        let comes_from_it = self.is_at_address(row, from);
        let others = self.others_at(view, row, address).filter(|other| other.agent.connected);
        let given_way = |other: &Instance| match comes_from_it && self.gives_way(other, address) {
            true => Ok(other.clone()),
            false => Err(taken(address, other, None)),
        };
        others.map(given_way).collect()
    }

    /// Where a caller comes from among the hosts.
    pub fn comes_from(caller: &Caller) -> Option<IpAddr> {
        caller.origin.address.filter(|_| caller.origin.endpoint.is_none())
    }

    /// Whether a host that is connected only says that it is at an address.
    fn gives_way(&self, other: &Instance, address: Ipv4Addr) -> bool {
        other.underlay() == Some(address) && !self.is_at_address(other, other.agent.from)
    }

    /// Whether who comes from there is at the address that a host says. The region's own machine is, which comes from
    /// itself and by a key that no other has.
    fn is_at_address(&self, row: &Instance, from: Option<IpAddr>) -> bool {
        let address = row.underlay().map(IpAddr::V4);
        let comes_from_it = from.map(|it| it.to_canonical()) == address;
        address.is_some() && (comes_from_it || self.access.is_of_own_machine(row))
    }

    /// Other hosts that have an address, or one that encryption takes for it. What the same host was before is not another.
    fn others_at<'v>(
        &self,
        view: &'v View,
        row: &Instance,
        address: Ipv4Addr,
    ) -> impl Iterator<Item = &'v Instance> {
        let encrypts = self.config.between_hosts != BetweenHosts::Clear;
        let is_confused = move |other: &Instance| {
            encrypts && row.tunnel_generation().is_some() && other.tunnel_generation().is_some()
        };
        view.instances_like(address).map(AsRef::as_ref).filter(move |other| {
            let is_same = other.id == row.id
                || (row.access_key.is_some() && other.access_key == row.access_key);
            !is_same && (other.underlay() == Some(address) || is_confused(other))
        })
    }
}

/// `left_ms`: of the time for which it is the other's although that one's agent is away.
fn taken(address: Ipv4Addr, other: &Instance, left_ms: Option<u64>) -> ApiError {
    let whose = match other.underlay().filter(|its| *its != address) {
        Some(its) => format!(
            "another host of this region has the address {its}, and encryption between hosts does not tell apart addresses \
             that differ in the first four bits alone"
        ),
        None => "another host of this region has it".to_owned(),
    };
    let until = match left_ms {
        Some(left_ms) => format!(
            "Its agent is away; for {} s more, or until that host is removed, no other host is taken at it from elsewhere",
            left_ms.div_ceil(1_000).max(1)
        ),
        None => "Its agent is connected".to_owned(),
    };
    let message = format!(
        "This host says that others reach it at {address} (--underlay-address), but {whose}. {until}."
    );
    ApiError::client(CODE, message)
}
