//! The places that a table names to be listened at.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use routing::{
    EndpointId, Front, InterfaceRef, ListenerId, ListenerProtocol, PublishedPort, Scheme, Table,
};
use serde::{Deserialize, Serialize};

use crate::relay;
use crate::sockets::Transport;

/// Where a listener is to be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Place {
    /// At an interface of the balancer.
    Interface(ListenerId, Transport, InterfaceRef, SocketAddr),
    /// A VPC endpoint, at one of its interfaces.
    Endpoint(EndpointId, InterfaceRef, SocketAddr),
    /// At this machine's own address, at the listener's port if it is free.
    Local(ListenerId, Transport, u16),
    /// Where all egress addresses in the network of an interface lead to.
    Egress(InterfaceRef),
    /// Where an address of an interface leads to at which somebody else listens.
    Ingress(ListenerId, InterfaceRef, SocketAddr),
}

impl Place {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Interface(listener, ..)
            | Self::Local(listener, ..)
            | Self::Ingress(listener, ..) => &listener.0,
            Self::Endpoint(endpoint, ..) => &endpoint.0,
            Self::Egress(interface) => &interface.eni,
        }
    }
}

impl Place {
    /// The port of the machine at which it would be, were that free.
    pub(super) fn own_port(&self) -> Option<u16> {
        match self {
            // Any port is as good where none is its own.
            Self::Local(_, _, port) => (*port != 0).then_some(*port),
            Self::Interface(..) | Self::Ingress(..) | Self::Endpoint(..) | Self::Egress(_) => None,
        }
    }

    /// Whether what is listened at there takes a port of the machine that is a task's.
    pub(super) fn is_in_the_way(
        &self,
        address: SocketAddr,
        published: &BTreeSet<PublishedPort>,
    ) -> bool {
        let Self::Local(_, transport, _) = self else { return false };
        let is_datagram = *transport == Transport::Datagram;
        published.contains(&PublishedPort { is_datagram, port: address.port() })
    }
}

/// The interfaces of balancers, whether or not they have listeners.
pub(super) fn interfaces(table: &Table) -> impl Iterator<Item = InterfaceRef> {
    table.balancers.values().flat_map(|it| &it.interfaces).map(routing::Interface::reference)
}

pub(super) fn places(table: &Table, is_local: bool) -> BTreeSet<Place> {
    let mut places: BTreeSet<Place> = table.egress.iter().cloned().map(Place::Egress).collect();
    for balancer in table.balancers.values() {
        for listener in &balancer.listeners {
            let (id, port) = (&listener.id, listener.port);
            for transport in transports(listener.protocol) {
                places.extend(balancer.interfaces.iter().map(|interface| {
                    let address = SocketAddr::new(interface.address, port);
                    match listener.attributes.front {
                        Some(Front::InPlace) => {
                            Place::Ingress(id.clone(), interface.reference(), address)
                        }
                        Some(Front::Beside) | None => {
                            Place::Interface(id.clone(), *transport, interface.reference(), address)
                        }
                    }
                }));
                if is_local && balancer.scheme == Scheme::InternetFacing {
                    places.insert(Place::Local(id.clone(), *transport, port));
                }
            }
        }
    }
    for (id, endpoint) in &table.endpoints {
        places.extend(endpoint.interfaces.iter().map(|interface| {
            let address = SocketAddr::new(interface.address, relay::PORT);
            Place::Endpoint(id.clone(), interface.reference(), address)
        }));
    }
    places
}

fn transports(protocol: ListenerProtocol) -> &'static [Transport] {
    match protocol {
        ListenerProtocol::Http
        | ListenerProtocol::Https
        | ListenerProtocol::Tcp
        | ListenerProtocol::Tls => &[Transport::Stream],
        ListenerProtocol::Udp => &[Transport::Datagram],
        ListenerProtocol::TcpUdp => &[Transport::Stream, Transport::Datagram],
    }
}
