//! A balancer and its listeners.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::ids::{BalancerId, CertificateId, ListenerId};
use crate::rule::Rule;
use crate::source::Source;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balancer {
    pub id: BalancerId,
    /// `app/my-balancer/50dc6c495c0c9188`, as logs name it.
    pub name: String,
    pub account: String,
    pub kind: Kind,
    pub scheme: Scheme,
    /// Its interfaces, one a subnet: each address is listened on at every listener's port.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Whom its security groups let in by the machine's own address; none: it has no groups, and everybody is let in. At
    /// its interfaces the host judges.
    #[serde(default)]
    pub clients: Option<Vec<ClientRule>>,
    /// Network balancers that may have it for a target, whether or not they do; none: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introducers: Option<Introducers>,
    #[serde(default)]
    pub attributes: BalancerAttributes,
    /// What stickiness cookies are sealed with, so that whoever has one by one of its interfaces is known at the others;
    /// none: each process has a key of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie_key: Option<SecretKey>,
    #[serde(default)]
    pub listeners: Vec<Listener>,
}

/// A key of 32 bytes, which no log shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretKey(pub [u8; 32]);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// The listener that takes what was going to an address in the network of an interface, where that leads to one socket
/// ([`crate::Table::egress`]).
pub fn egress_listener(interface: &InterfaceRef, going_to: SocketAddr) -> ListenerId {
    ListenerId(format!("{}/{going_to}", interface.eni))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Application,
    Network,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheme {
    Internal,
    /// Reachable from outside its VPC as well: the balancer listens on the machine's own address too.
    InternetFacing,
}

impl Balancer {
    /// Whether the interface to which somebody came is about to go.
    pub fn is_leaving(&self, came_to: Option<&InterfaceRef>) -> bool {
        let its = |it: &&Interface| came_to.is_some_and(|came_to| came_to.eni == it.eni);
        self.interfaces.iter().find(its).is_some_and(|it| it.is_leaving)
    }

    /// Whether whoever comes from an address may introduce another as its client.
    pub fn has_introducer(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.introducers.as_ref().is_some_and(|it| it.addresses.contains(&address))
    }

    /// Whether a client that was introduced is let in to a port. `came_to`: at which address the network balancer was
    /// reached. An address of the VPC's ranges is one of the VPC only where that was an interface: the networks that machines
    /// are in may have the same numbers.
    pub fn lets_introduced_in(&self, client: IpAddr, came_to: IpAddr, port: u16) -> bool {
        let (client, came_to) = (client.to_canonical(), came_to.to_canonical());
        let is_inside = || {
            let inside = self.introducers.iter().flat_map(|it| &it.inside);
            self.has_introducer(came_to) && inside.into_iter().any(|range| range.contains(client))
        };
        // Whoever is on the network balancer's machine itself reaches everything there.
        client.is_loopback()
            || client == came_to
            || is_inside()
            || self.lets_in(client, port, false)
    }

    /// Whether its groups let a client in to a port.
    pub fn lets_in(&self, client: IpAddr, port: u16, is_datagram: bool) -> bool {
        let Some(rules) = &self.clients else { return true };
        rules.iter().any(|rule| {
            rule.is_datagram.is_none_or(|it| it == is_datagram)
                && rule.ports.contains(&port)
                && rule.from.contains(client)
        })
    }
}

/// Who may say which client it is whose connection it passes on: by the header of PROXY protocol version 2, before anything
/// else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introducers {
    /// The interfaces of network balancers.
    pub addresses: BTreeSet<IpAddr>,
    /// The ranges of the VPC. Clients in it were judged by the network balancer's groups alone.
    #[serde(default)]
    pub inside: Vec<Source>,
}

/// Clients that a security group lets in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRule {
    /// By UDP or by TCP; none: by either.
    #[serde(default)]
    pub is_datagram: Option<bool>,
    pub ports: RangeInclusive<u16>,
    pub from: Source,
}

/// An interface of the balancer in a subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// `eni-…`.
    pub eni: String,
    /// The VPC, if that has addresses of its own: `vpc-…`. None: the default VPC.
    #[serde(default)]
    pub own_vpc: Option<String>,
    pub address: IpAddr,
    pub subnet: String,
    pub zone: String,
    /// Whether it is about to go: clients are to come by others from now on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_leaving: bool,
}

impl Interface {
    pub fn reference(&self) -> InterfaceRef {
        InterfaceRef { eni: self.eni.clone(), own_vpc: self.own_vpc.clone() }
    }
}

/// Which interface of a balancer it is: what finds its namespace on a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InterfaceRef {
    /// `eni-…`.
    pub eni: String,
    /// As of [`Interface`].
    #[serde(default)]
    pub own_vpc: Option<String>,
}

/// Attributes that are acted on. The defaults are those of an application balancer; a network balancer differs in
/// `cross_zone`, which its maker sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BalancerAttributes {
    /// `idle_timeout.timeout_seconds`.
    pub idle_timeout_s: u32,
    /// `client_keep_alive.seconds`: how old a client's connection may become.
    pub client_keep_alive_s: u32,
    /// `routing.http2.enabled`.
    pub http2: bool,
    pub drop_invalid_header_fields: bool,
    pub preserve_host_header: bool,
    /// `routing.http.xff_header_processing.mode`.
    pub forwarded_for: ForwardedFor,
    /// Whether targets are told who asks and how, by the headers that Amazon's application balancers add.
    pub describes_client: bool,
    /// `routing.http.xff_client_port.enabled`.
    pub forwarded_for_port: bool,
    /// `routing.http.x_amzn_tls_version_and_cipher_suite.enabled`.
    pub tls_headers: bool,
    pub desync: DesyncMode,
    /// `load_balancing.cross_zone.enabled`.
    pub cross_zone: bool,
    /// The zone that traffic is led away from: where targets of all zones are used, those of this one are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away_from: Option<String>,
    pub access_logs: Option<AccessLogs>,
    pub connection_logs: Option<AccessLogs>,
    pub health_check_logs: Option<AccessLogs>,
    /// How long a request or a connection waits for a target that takes connections; 0: not at all.
    pub patience_ms: u32,
    /// How long a request may take until the last byte of its answer; 0: as long as it takes.
    pub request_timeout_s: u32,
    /// The name under which its requests and connections are counted; none: they are not. Several may have the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<String>,
    /// Whether what comes to it is counted by zone and target group, under names of its own: see [`crate::CountedFor`].
    pub is_metered: bool,
}

impl Default for BalancerAttributes {
    fn default() -> Self {
        Self {
            idle_timeout_s: 60,
            client_keep_alive_s: 3600,
            http2: true,
            drop_invalid_header_fields: false,
            preserve_host_header: false,
            forwarded_for: ForwardedFor::Append,
            describes_client: true,
            forwarded_for_port: false,
            tls_headers: false,
            desync: DesyncMode::Defensive,
            cross_zone: true,
            away_from: None,
            access_logs: None,
            connection_logs: None,
            health_check_logs: None,
            patience_ms: 0,
            request_timeout_s: 0,
            figures: None,
            is_metered: false,
        }
    }
}

/// Where logs go: a bucket's name is a directory below the balancer's own log directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLogs {
    pub bucket: String,
    #[serde(default)]
    pub prefix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardedFor {
    Append,
    Preserve,
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DesyncMode {
    Monitor,
    Defensive,
    Strictest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub id: ListenerId,
    pub port: u16,
    pub protocol: ListenerProtocol,
    /// For HTTPS and TLS.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
    /// In any order; the one without priority is the default. A network balancer's listener has only that one.
    pub rules: Vec<Rule>,
    #[serde(default)]
    pub attributes: ListenerAttributes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerProtocol {
    Http,
    Https,
    Tcp,
    Tls,
    Udp,
    TcpUdp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsSettings {
    /// `ELBSecurityPolicy-…`.
    pub policy: String,
    /// Shown to clients that name no host, or one that no certificate is for.
    pub default_certificate: CertificateId,
    /// Found by the host that a client names (SNI).
    #[serde(default)]
    pub certificates: Vec<CertificateId>,
    /// Of a TLS listener of a network balancer; an application balancer always offers h2 and http/1.1.
    #[serde(default)]
    pub alpn: Alpn,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Alpn {
    #[default]
    None,
    Http1Only,
    Http2Only,
    Http2Optional,
    Http2Preferred,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerAttributes {
    /// `routing.http.response.server.enabled`: whether answers keep their `Server` header.
    pub server_header: bool,
    /// Headers set on every answer, in the place of a target's own (`routing.http.response.….header_value`): name and value.
    pub response_headers: Vec<(String, String)>,
    /// `routing.http.request.x_amzn_tls_version.header_name`: what targets are told the version by, if not by the usual name.
    pub tls_version_name: Option<String>,
    /// The same of `x_amzn_tls_cipher_suite`.
    pub tls_cipher_name: Option<String>,
    /// `tcp.idle_timeout.seconds` of a network balancer.
    pub tcp_idle_timeout_s: u32,
    /// Clients speak HTTP/2 from the first byte, without TLS.
    pub h2_prior_knowledge: bool,
    /// It stands in front of one that listens in the network of its interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front: Option<Front>,
}

/// How a listener stands in front of another. A connection is taken only while that one takes connections too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Front {
    /// At a port of its own.
    Beside,
    /// At the other's very port: what comes there from elsewhere is led to a socket that has another.
    InPlace,
}

impl Default for ListenerAttributes {
    fn default() -> Self {
        Self {
            server_header: true,
            response_headers: Vec::new(),
            tls_version_name: None,
            tls_cipher_name: None,
            tcp_idle_timeout_s: 350,
            h2_prior_knowledge: false,
            front: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_vpc_is_who_came_to_an_interface_of_it() {
        let mut balancer = crate::tests::some_balancer();
        balancer.clients = Some(vec![]);
        balancer.introducers = Some(Introducers {
            addresses: [[10, 0, 0, 9].into()].into(),
            inside: vec!["10.0.0.0/16".parse().unwrap()],
        });
        let [client, interface, machine] =
            ["10.0.0.7", "10.0.0.9", "10.0.0.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let mapped = "::ffff:10.0.0.9".parse().unwrap();
        for (client, came_to, is_let_in) in [
            (client, interface, true),
            (client, mapped, true),
            (client, machine, false),
            (machine, machine, true),
            ([127, 0, 0, 1].into(), machine, true),
            ([203, 0, 113, 7].into(), interface, false),
        ] {
            let found = balancer.lets_introduced_in(client, came_to, 80);
            assert_eq!(found, is_let_in, "{client} came to {came_to}");
        }
    }

    #[test]
    fn groups_let_in_whom_a_rule_names_at_its_ports() {
        let rule = |is_datagram, ports, from: &str| ClientRule {
            is_datagram,
            ports,
            from: from.parse().unwrap(),
        };
        let mut balancer = crate::tests::some_balancer();
        let [near, far] = ["192.0.2.7", "203.0.113.7"].map(|text| text.parse().unwrap());
        assert!(balancer.lets_in(far, 80, false), "it has no groups");
        balancer.clients = Some(vec![
            rule(Some(false), 80..=81, "192.0.2.0/24"),
            rule(None, 53..=53, "0.0.0.0/0"),
        ]);
        assert!(balancer.lets_in(near, 81, false));
        assert!(!balancer.lets_in(near, 82, false) && !balancer.lets_in(near, 80, true));
        assert!(!balancer.lets_in(far, 80, false));
        assert!(balancer.lets_in(far, 53, true) && balancer.lets_in(far, 53, false));
        balancer.clients = Some(vec![]);
        assert!(!balancer.lets_in(near, 80, false));
    }
}
