//! Host ports: which are ours, and keeping others from taking them.
//!
//! A published port is a translation in the kernel; no process of ours touches its traffic. The port is
//! held by a socket all the same, so that nothing else on the host can take it, and so that a port which
//! is in use is refused instead of silently shadowed.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

pub use longshore_types::TransportProtocol as Protocol;
use serde::{Deserialize, Serialize};

/// A request: this port of the container on that port of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMapping {
    pub container_port: u16,
    /// 0: any free port of the dynamic range.
    pub host_port: u16,
    pub protocol: Protocol,
    /// Any free port will not do, but the one after that of the request before this.
    pub follows: bool,
}

/// A request granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Binding {
    pub container_port: u16,
    pub host_port: u16,
    pub protocol: Protocol,
}

/// What `requests` were granted before, in their order: whoever asked may not have heard of it. `None` if
/// any of them was not.
pub fn granted_before(known: &[Binding], requests: &[PortMapping]) -> Option<Vec<Binding>> {
    let mut left = known.to_vec();
    let mut granted = Vec::with_capacity(requests.len());
    for request in requests {
        let is_it = |binding: &Binding| {
            (binding.container_port, binding.protocol) == (request.container_port, request.protocol)
                && (request.host_port == 0 || request.host_port == binding.host_port)
        };
        granted.push(left.remove(left.iter().position(is_it)?));
    }
    (!requests.is_empty()).then_some(granted)
}

/// Why a host port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The text names the port as ECS's agent does.
    #[error("host port {port}/{protocol} is already in use")]
    Taken { port: u16, protocol: Protocol },
    #[error("no free {protocol} port between {first} and {last}")]
    NoneFree { protocol: Protocol, first: u16, last: u16 },
    #[error("failed to reserve host port {port}/{protocol}")]
    Reserve { port: u16, protocol: Protocol, source: io::Error },
}

/// Holds a port until dropped.
#[derive(Debug)]
enum Hold {
    Tcp { _listener: TcpListener },
    Udp { _socket: UdpSocket },
}

/// The ports of this host that are published, each held by a socket.
#[derive(Debug)]
pub struct HostPorts {
    dynamic: RangeInclusive<u16>,
    next: u16,
    held: BTreeMap<(Protocol, u16), Option<Hold>>,
}

impl HostPorts {
    /// `dynamic` is where ports are taken from when any will do.
    pub fn new(dynamic: RangeInclusive<u16>) -> Self {
        Self { next: *dynamic.start(), dynamic, held: BTreeMap::new() }
    }

    /// Reserves all of `wishes`, or none of them.
    pub fn reserve(&mut self, requests: &[PortMapping]) -> Result<Vec<Binding>, PortError> {
        let mut granted = Vec::with_capacity(requests.len());
        for run in requests.chunk_by(|_, next| next.follows) {
            match self.reserve_run(run) {
                Ok(bindings) => granted.extend(bindings),
                Err(error) => {
                    granted.iter().for_each(|binding| self.release(binding));
                    return Err(error);
                }
            }
        }
        Ok(granted)
    }

    /// Takes a port that was published before a restart. Somebody else may have it by now; the
    /// translation goes first, so it stays ours all the same, and the answer says so.
    pub fn adopt(&mut self, binding: &Binding) -> Result<(), PortError> {
        let held = hold(binding.protocol, binding.host_port);
        let (hold, outcome) = match held {
            Ok(hold) => (Some(hold), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.held.insert((binding.protocol, binding.host_port), hold);
        outcome
    }

    /// A published port stays published, and who is to listen at it can: nobody else gets it from here.
    pub fn leave(&mut self, binding: &Binding) {
        if let Some(hold) = self.held.get_mut(&(binding.protocol, binding.host_port)) {
            *hold = None;
        }
    }

    pub fn release(&mut self, binding: &Binding) {
        self.held.remove(&(binding.protocol, binding.host_port));
    }

    /// Reserves ports that lie side by side, unless it is said where each is to be.
    fn reserve_run(&mut self, run: &[PortMapping]) -> Result<Vec<Binding>, PortError> {
        let Some(head) = run.first() else { return Ok(Vec::new()) };
        // Where some are known and some are not, they would not lie side by side: all are chosen then.
        if run.iter().all(|request| request.host_port != 0) {
            return self.take_all(run, run.iter().map(|request| request.host_port));
        }
        let (first, last) = (*self.dynamic.start(), *self.dynamic.end());
        let more = u16::try_from(run.len() - 1).unwrap_or(u16::MAX);
        for _ in self.dynamic.clone() {
            let port = self.next;
            let Some(end) = port.checked_add(more).filter(|end| *end <= last) else {
                self.next = first;
                continue;
            };
            match self.take_all(run, port..=end) {
                Ok(bindings) => {
                    self.next = if end >= last { first } else { end + 1 };
                    return Ok(bindings);
                }
                // None that begins before it can be free.
                Err(PortError::Taken { port: taken, .. }) => {
                    self.next = if taken >= last { first } else { taken + 1 };
                }
                Err(other) => return Err(other),
            }
        }
        Err(PortError::NoneFree { protocol: head.protocol, first, last })
    }

    /// Takes `ports` for the requests of `run`, or none of them.
    fn take_all(
        &mut self,
        run: &[PortMapping],
        ports: impl Iterator<Item = u16>,
    ) -> Result<Vec<Binding>, PortError> {
        let mut taken = Vec::with_capacity(run.len());
        for (request, host_port) in run.iter().zip(ports) {
            let PortMapping { container_port, protocol, .. } = *request;
            if let Err(error) = self.take(protocol, host_port) {
                taken.iter().for_each(|binding| self.release(binding));
                return Err(error);
            }
            taken.push(Binding { container_port, host_port, protocol });
        }
        Ok(taken)
    }

    fn take(&mut self, protocol: Protocol, port: u16) -> Result<(), PortError> {
        if self.held.contains_key(&(protocol, port)) {
            return Err(PortError::Taken { port, protocol });
        }
        self.held.insert((protocol, port), Some(hold(protocol, port)?));
        Ok(())
    }
}

fn hold(protocol: Protocol, port: u16) -> Result<Hold, PortError> {
    let everywhere = (Ipv4Addr::UNSPECIFIED, port);
    let held = match protocol {
        Protocol::Tcp => {
            TcpListener::bind(everywhere).map(|listener| Hold::Tcp { _listener: listener })
        }
        Protocol::Udp => UdpSocket::bind(everywhere).map(|socket| Hold::Udp { _socket: socket }),
    };
    held.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => PortError::Taken { port, protocol },
        _ => PortError::Reserve { port, protocol, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host_port: u16, protocol: Protocol) -> PortMapping {
        PortMapping { container_port: 80, host_port, protocol, follows: false }
    }

    /// A range in which nothing else of these tests binds.
    const RANGE: RangeInclusive<u16> = 21_700..=21_709;

    #[test]
    fn a_port_in_use_by_another_process_is_named() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = other.local_addr().unwrap().port();
        let mut ports = HostPorts::new(RANGE);
        let error = ports.reserve(&[request(port, Protocol::Tcp)]).unwrap_err();
        assert!(matches!(error, PortError::Taken { port: taken, .. } if taken == port), "{error}");
        assert_eq!(error.to_string(), format!("host port {port}/tcp is already in use"));
    }

    #[test]
    fn all_requests_are_granted_or_none() {
        let mut ports = HostPorts::new(RANGE);
        let requests = [
            request(0, Protocol::Tcp),
            request(21_720, Protocol::Tcp),
            request(21_720, Protocol::Tcp),
        ];
        assert!(ports.reserve(&requests).is_err());
        assert!(ports.held.is_empty());
        let both = [request(21_720, Protocol::Tcp), request(21_720, Protocol::Udp)];
        assert_eq!(ports.reserve(&both).unwrap().len(), 2, "tcp and udp do not collide");
    }

    #[test]
    fn what_was_granted_is_granted_to_the_same_requests_again() {
        let mut ports = HostPorts::new(21_740..=21_749);
        let requests =
            [request(0, Protocol::Tcp), request(21_741, Protocol::Udp), request(0, Protocol::Tcp)];
        assert_eq!(granted_before(&[], &requests), None);
        let granted = ports.reserve(&requests).unwrap();
        assert_eq!(granted_before(&granted, &requests).unwrap(), granted);
        assert_eq!(granted_before(&granted, &[request(21_742, Protocol::Udp)]), None);
        assert_eq!(granted_before(&granted, &[]), None);
    }

    #[test]
    fn dynamic_ports_go_around_and_end() {
        let mut ports = HostPorts::new(21_730..=21_732);
        let grant = |ports: &mut HostPorts| ports.reserve(&[request(0, Protocol::Udp)]);
        let first = grant(&mut ports).unwrap();
        let second = grant(&mut ports).unwrap();
        assert_eq!((first[0].host_port, second[0].host_port), (21_730, 21_731));
        ports.release(&first[0]);
        assert_eq!(grant(&mut ports).unwrap()[0].host_port, 21_732, "a freed port rests a while");
        assert_eq!(grant(&mut ports).unwrap()[0].host_port, 21_730);
        let error = grant(&mut ports).unwrap_err();
        assert_eq!(error.to_string(), "no free udp port between 21730 and 21732");
    }

    #[test]
    fn ports_that_follow_each_other_lie_side_by_side() {
        let mut ports = HostPorts::new(21_750..=21_757);
        let next = PortMapping { follows: true, ..request(0, Protocol::Udp) };
        let three = [request(0, Protocol::Udp), next, next];
        let taken = |ports: &mut HostPorts, requests: &[PortMapping]| -> Vec<u16> {
            ports.reserve(requests).unwrap().iter().map(|binding| binding.host_port).collect()
        };
        let other = ports.reserve(&[request(21_752, Protocol::Udp)]).unwrap();
        assert_eq!(taken(&mut ports, &three), [21_753, 21_754, 21_755], "not around what is taken");
        let left = ports.reserve(&three).unwrap_err().to_string();
        assert_eq!(left, "no free udp port between 21750 and 21757");
        ports.release(&other[0]);
        assert_eq!(taken(&mut ports, &three), [21_750, 21_751, 21_752]);
        let known = [request(21_757, Protocol::Udp), PortMapping { host_port: 21_756, ..next }];
        assert_eq!(taken(&mut ports, &known), [21_757, 21_756], "as they were before");
        for host_port in [21_756, 21_757] {
            ports.release(&Binding { container_port: 80, host_port, protocol: Protocol::Udp });
        }
        let half = [request(21_757, Protocol::Udp), next];
        assert_eq!(taken(&mut ports, &half), [21_756, 21_757], "all are known, or none is");
        assert_eq!(ports.held.len(), 8);
    }
}
