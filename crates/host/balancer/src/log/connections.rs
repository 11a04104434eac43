//! Connection logs of application balancers: a line for each connection that came about, or did not.

use std::net::SocketAddr;
use std::time::Duration;

use routing::{AccessLogs, Balancer};

use super::{FileKey, Kind, quoted, time};
use crate::shared::Shared;
use crate::tls::TlsFacts;

/// What is known of a connection before it is served.
#[derive(Debug)]
pub(crate) struct Came {
    file: FileKey,
    peer: SocketAddr,
    port: u16,
}

/// How a connection came about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Began<'a> {
    Plain,
    /// With what was agreed, and how long that took.
    Tls(&'a TlsFacts, Duration),
    /// The handshake failed.
    Failed,
}

impl Came {
    /// None: nothing is logged.
    pub(crate) fn new(
        balancer: &Balancer,
        port: u16,
        (peer, local): (SocketAddr, SocketAddr),
    ) -> Option<Self> {
        let logs: &AccessLogs = balancer.attributes.connection_logs.as_ref()?;
        let file = FileKey::new(Kind::Connections, logs, balancer, local.ip());
        Some(Self { file, peer, port })
    }

    /// `trace` names the connection in access logs too.
    pub(crate) fn log(self, shared: &Shared, began: Began<'_>, trace: &str) {
        let (version, cipher, took, status) = match began {
            Began::Plain => ("-", "-", "-".to_owned(), "-"),
            Began::Tls(facts, took) => {
                (facts.version, facts.cipher, format!("{:.3}", took.as_secs_f64()), "Success")
            }
            Began::Failed => ("-", "-", "-".to_owned(), "Failed:UnmappedConnectionError"),
        };
        // No client is asked for a certificate: of that nothing is told.
        let certificate = format!("{} - -", quoted("-"));
        let line = format!(
            "{} {} {} {} {version} {cipher} {took} {certificate} {status} {trace}",
            time(shared.clock.now()),
            self.peer.ip(),
            self.peer.port(),
            self.port,
        );
        shared.logs.write(self.file, line);
    }
}
