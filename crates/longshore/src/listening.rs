//! Where load balancers are reached at hosts' own addresses.

use std::net::SocketAddr;

use region::nodes::{Done, Listed, ListeningOn};
use routing::ListenerProtocol;

use crate::client::{Client, ClientError};

/// What a region answers to a question that it does not know.
const UNKNOWN: &str = "UnknownOperationException";

/// On all hosts but the region's own machine; nothing of a region that is older than the question.
pub(crate) async fn elsewhere(client: &Client) -> Result<Vec<ListeningOn>, ClientError> {
    let listed: Result<Listed<ListeningOn>, ClientError> =
        client.own("ListListening", &Done {}).await;
    let all = match listed {
        Ok(listed) => listed.items,
        Err(error) if error.is(UNKNOWN) => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(all.into_iter().filter(|it| it.instance.is_some()).collect())
}

/// As AWS names it.
pub(crate) fn protocol_name(protocol: ListenerProtocol) -> &'static str {
    match protocol {
        ListenerProtocol::Http => "HTTP",
        ListenerProtocol::Https => "HTTPS",
        ListenerProtocol::Tcp => "TCP",
        ListenerProtocol::Tls => "TLS",
        ListenerProtocol::Udp => "UDP",
        ListenerProtocol::TcpUdp => "TCP_UDP",
    }
}

/// The balancer, the listener, and the address as clients write it.
pub(crate) fn row(balancer: &str, protocol: &str, port: u16, address: SocketAddr) -> Vec<String> {
    let scheme = match protocol {
        "HTTP" => "http://",
        "HTTPS" => "https://",
        _ => "",
    };
    vec![balancer.to_owned(), format!("{protocol} {port}"), format!("{scheme}{address}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_clients_write_it() {
        let shown = |protocol| {
            let name = protocol_name(protocol);
            row("app/web/1", name, 80, "192.0.2.7:40000".parse().unwrap())[1..].join(" ")
        };
        assert_eq!(shown(ListenerProtocol::Http), "HTTP 80 http://192.0.2.7:40000");
        assert_eq!(shown(ListenerProtocol::TcpUdp), "TCP_UDP 80 192.0.2.7:40000");
    }
}
