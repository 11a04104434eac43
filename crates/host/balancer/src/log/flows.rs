//! Access logs of network balancers: a line for each connection by TLS, once it has ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use longshore_types::{Clock, Timestamp};
use routing::Alpn;
use tokio::time::Instant;

use super::{FileKey, Kind, LogSink};
use crate::http::tunnel::Copied;
use crate::live::LiveListener;
use crate::tls::TlsFacts;

/// What will be one line; it is written when this is dropped, whatever became of the connection.
#[derive(Debug)]
pub(crate) struct FlowEntry {
    sink: LogSink,
    clock: Arc<dyn Clock>,
    file: FileKey,
    /// The end of the listener's ARN.
    listener: String,
    peer: SocketAddr,
    local: SocketAddr,
    created: Timestamp,
    begun: Instant,
    handshake: Duration,
    certificate: String,
    facts: TlsFacts,
    has_alpn: bool,
    pub(crate) copied: Arc<Copied>,
}

impl FlowEntry {
    /// For a connection that has just been agreed on, in so long; none: nothing is logged.
    pub(crate) fn new(
        (sink, clock): (&LogSink, &Arc<dyn Clock>),
        live: &LiveListener,
        (peer, local): (SocketAddr, SocketAddr),
        facts: TlsFacts,
        handshake: Duration,
    ) -> Option<Self> {
        let balancer = &live.balancer;
        let logs = balancer.attributes.access_logs.as_ref()?;
        let tls = live.listener.tls.as_ref()?;
        let now = clock.now();
        let before = u64::try_from(handshake.as_millis()).unwrap_or(0);
        Some(Self {
            sink: sink.clone(),
            clock: Arc::clone(clock),
            file: FileKey::new(Kind::Flows, logs, balancer, local.ip()),
            listener: live.listener.id.0.rsplit('/').next().unwrap_or_default().to_owned(),
            peer,
            local,
            created: Timestamp(now.0.saturating_sub(before)),
            begun: Instant::now(),
            handshake,
            certificate: live.certificate_for(Some(&facts)),
            facts,
            has_alpn: tls.alpn != Alpn::None,
            copied: Arc::default(),
        })
    }

    fn line(&self) -> String {
        let version = match self.facts.version {
            "TLSv1.3" => "tlsv13",
            _ => "tlsv12",
        };
        let connected = self.begun.elapsed() + self.handshake;
        let protocol = self.facts.protocol.as_deref().filter(|_| self.has_alpn).unwrap_or("-");
        format!(
            "tls 2.0 {} {} {} {} {} {} {} {} {} - {} - {} {version} - {} {protocol} - - {}",
            seconds(self.clock.now()),
            self.file.balancer,
            self.listener,
            self.peer,
            self.local,
            connected.as_millis(),
            self.handshake.as_millis(),
            self.copied.received.load(Relaxed),
            self.copied.sent.load(Relaxed),
            self.certificate,
            self.facts.cipher,
            self.facts.name.as_deref().unwrap_or("-"),
            seconds(self.created),
        )
    }
}

impl Drop for FlowEntry {
    fn drop(&mut self) {
        self.sink.write(self.file.clone(), self.line());
    }
}

fn seconds(at: Timestamp) -> String {
    at.civil().strftime("%Y-%m-%dT%H:%M:%S").to_string()
}
