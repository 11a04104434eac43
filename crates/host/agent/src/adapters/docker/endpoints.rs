//! Which container has which address of the agent's network, and which ports of the host: chosen before it is made, and found
//! again by what its containers are labelled with.
//!
//! A port is held by a socket until its container is started: then Docker listens there itself.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use longshore_types::Cidr;
use network::{Binding, HostPorts, NetworkError, PortMapping, granted_before};

/// The first of a range is the network's, the second the host's.
const FIRST: u32 = 2;

#[derive(Debug)]
struct Endpoint {
    address: Ipv4Addr,
    bindings: Vec<Binding>,
}

#[derive(Debug)]
pub(super) struct Endpoints {
    range: Cidr,
    known: BTreeMap<String, Endpoint>,
    /// Where a free address is looked for: one that was given up rests for a while.
    next: u32,
    ports: HostPorts,
}

impl Endpoints {
    pub(super) fn new(range: Cidr, dynamic: RangeInclusive<u16>) -> Self {
        Self { range, known: BTreeMap::new(), next: FIRST, ports: HostPorts::new(dynamic) }
    }

    /// Takes up what a container of an earlier agent has.
    pub(super) fn adopt(&mut self, known: docker::Known) {
        let binding = |port: &docker::Published| Binding {
            container_port: port.container_port,
            host_port: port.host_port,
            protocol: port.protocol,
        };
        let bindings: Vec<Binding> = known.ports.iter().map(binding).collect();
        for binding in &bindings {
            // Docker listens there already, or will.
            let _ = self.ports.adopt(binding);
            self.ports.leave(binding);
        }
        self.known.insert(known.endpoint, Endpoint { address: known.address, bindings });
    }

    /// The address of an endpoint: the one that it has, if it is there.
    pub(super) fn attach(&mut self, name: &str) -> Result<Ipv4Addr, NetworkError> {
        if let Some(known) = self.known.get(name) {
            return Ok(known.address);
        }
        let address =
            self.free_address().ok_or(NetworkError::NoFreeAddress { range: self.range })?;
        self.known.insert(name.to_owned(), Endpoint { address, bindings: Vec::new() });
        Ok(address)
    }

    fn free_address(&mut self) -> Option<Ipv4Addr> {
        // The last one is for all of them.
        let end = u32::try_from(self.range.size().saturating_sub(1)).unwrap_or(u32::MAX);
        let is_taken = |address: Ipv4Addr| self.known.values().any(|it| it.address == address);
        let offsets = (self.next..end).chain(FIRST..self.next.min(end));
        let free = offsets.filter_map(|offset| Some((offset, self.range.nth(offset)?)));
        let (offset, address) = { free }.find(|(_, address)| !is_taken(*address))?;
        self.next = offset + 1;
        Some(address)
    }

    /// Ports of the host for an endpoint: those that it has, if it asked for the same before.
    pub(super) fn publish(
        &mut self,
        name: &str,
        requests: &[PortMapping],
    ) -> Result<Vec<Binding>, NetworkError> {
        let Some(endpoint) = self.known.get_mut(name) else { return Ok(Vec::new()) };
        if let Some(granted) = granted_before(&endpoint.bindings, requests) {
            return Ok(granted);
        }
        endpoint.bindings.iter().for_each(|binding| self.ports.release(binding));
        endpoint.bindings = Vec::new();
        endpoint.bindings = self.ports.reserve(requests)?;
        Ok(endpoint.bindings.clone())
    }

    /// Docker is about to listen at an endpoint's ports.
    pub(super) fn leave_ports(&mut self, name: &str) {
        let known = self.known.get(name);
        known.iter().flat_map(|it| &it.bindings).for_each(|binding| self.ports.leave(binding));
    }

    pub(super) fn detach(&mut self, name: &str) {
        if let Some(endpoint) = self.known.remove(name) {
            endpoint.bindings.iter().for_each(|binding| self.ports.release(binding));
        }
    }

    /// Forgets every endpoint but these.
    pub(super) fn keep(&mut self, names: &[String]) {
        let gone: Vec<String> =
            self.known.keys().filter(|name| !names.contains(name)).cloned().collect();
        gone.iter().for_each(|name| self.detach(name));
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use network::Protocol;

    use super::*;

    fn endpoints(range: &str) -> Endpoints {
        Endpoints::new(range.parse().unwrap(), 21_800..=21_809)
    }

    fn request(host_port: u16) -> PortMapping {
        let (container_port, protocol) = (80, Protocol::Tcp);
        PortMapping { container_port, host_port, protocol, follows: false }
    }

    #[test]
    fn each_endpoint_has_an_address_of_its_own_until_there_are_none() {
        let mut endpoints = endpoints("172.30.0.0/29");
        let last = |endpoints: &mut Endpoints, name: &str| {
            endpoints.attach(name).map(|address| address.octets()[3])
        };
        let all: Vec<u8> =
            ["a", "b", "c", "d", "e"].map(|name| last(&mut endpoints, name).unwrap()).to_vec();
        assert_eq!(all, [2, 3, 4, 5, 6]);
        assert_eq!(last(&mut endpoints, "b").unwrap(), 3, "it is there");
        let error = last(&mut endpoints, "f").unwrap_err();
        assert_eq!(error.to_string(), "no free address in 172.30.0.0/29");
        endpoints.detach("c");
        assert_eq!(last(&mut endpoints, "f").unwrap(), 4);
    }

    #[test]
    fn ports_are_held_until_docker_is_to_listen_there() {
        let mut endpoints = endpoints("172.30.0.0/24");
        endpoints.attach("a").unwrap();
        let bound = endpoints.publish("a", &[request(0)]).unwrap();
        let port = bound[0].host_port;
        assert_eq!(endpoints.publish("a", &[request(0)]).unwrap(), bound, "asked again");
        let listen = || TcpListener::bind(("127.0.0.1", port));
        assert!(listen().is_err());
        endpoints.leave_ports("a");
        drop(listen().unwrap());
        endpoints.attach("b").unwrap();
        let error = endpoints.publish("b", &[request(port)]).unwrap_err();
        assert_eq!(error.to_string(), format!("host port {port}/tcp is already in use"));
        endpoints.detach("a");
        assert!(endpoints.publish("b", &[request(port)]).is_ok());
    }

    #[test]
    fn what_an_earlier_agents_container_has_nobody_else_gets() {
        let mut endpoints = endpoints("172.30.0.0/29");
        let (container_port, host_port, protocol) = (80, 21_805, Protocol::Tcp);
        endpoints.adopt(docker::Known {
            endpoint: "old".to_owned(),
            address: "172.30.0.2".parse().unwrap(),
            ports: vec![docker::Published { container_port, host_port, protocol }],
        });
        assert_eq!(endpoints.attach("new").unwrap().octets()[3], 3);
        assert!(endpoints.publish("new", &[request(21_805)]).is_err());
        endpoints.keep(&["new".to_owned()]);
        assert!(endpoints.publish("new", &[request(21_805)]).is_ok());
    }
}
