//! Logs in AWS's format: one line a request, connection or check, compressed, in files of five minutes, in a directory in
//! place of a bucket. They are best effort, as at AWS: what is not yet written when the process is killed is lost.

mod checks;
mod connections;
mod flows;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use files::whole::{self, Durability};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Version};
use hyper::body::Incoming;
use longshore_types::{Chain, Clock, Timestamp};
use routing::{AccessLogs, Action, Balancer, GroupId, Rule};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

pub(crate) use checks::{CheckLogs, Checked, check_logs};
pub(crate) use connections::{Began, Came};
pub(crate) use flows::FlowEntry;

use crate::http::body::Exchange;
use crate::http::connection::Client;
use crate::limits::{
    LOG_BYTES_MAX, LOG_FILES_MAX, LOG_PERIOD, LOG_RECORDS_MAX, LOGGED_AGENT_BYTES_MAX,
};
use crate::live::LiveListener;
use crate::tls::TlsFacts;

/// Which file a line belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileKey {
    kind: Kind,
    bucket: String,
    prefix: String,
    account: String,
    /// `app/name/0123456789abcdef`.
    balancer: String,
    node: IpAddr,
}

/// What lines are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Requests,
    Connections,
    Checks,
    /// Connections of network balancers.
    Flows,
}

impl Kind {
    /// What names of files begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Requests | Self::Flows => "",
            Self::Connections => "conn_log_",
            Self::Checks => "health_check_log_",
        }
    }
}

impl FileKey {
    fn new(kind: Kind, logs: &AccessLogs, balancer: &Balancer, node: IpAddr) -> Self {
        Self {
            kind,
            bucket: logs.bucket.clone(),
            prefix: logs.prefix.clone(),
            account: balancer.account.clone(),
            balancer: balancer.name.clone(),
            node,
        }
    }
}

type Line = (FileKey, String);

/// Where lines are put; a full one drops them, and counts.
#[derive(Clone, Debug)]
pub(crate) struct LogSink {
    lines: mpsc::Sender<Line>,
    dropped: Arc<AtomicU64>,
}

impl LogSink {
    fn write(&self, file: FileKey, line: String) {
        if self.lines.try_send((file, line)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// What will be one line; it is written when this is dropped, whatever became of the request.
#[derive(Debug)]
pub(crate) struct Entry {
    sink: LogSink,
    clock: Arc<dyn Clock>,
    file: FileKey,
    created: Timestamp,
    begun: Instant,
    dispatched: Option<Instant>,
    answered: Option<Instant>,
    exchange: Arc<Exchange>,
    kind: &'static str,
    peer: SocketAddr,
    target: Option<SocketAddr>,
    /// 0 until there is an answer: a client that left before is logged as 460.
    pub(crate) status: u16,
    /// The request is decided anew, by another entry.
    pub(crate) is_moot: bool,
    target_status: Option<u16>,
    pub(crate) sent: u64,
    request: String,
    agent: String,
    tls: Option<TlsFacts>,
    pub(crate) group: Option<GroupId>,
    pub(crate) trace: String,
    certificate: String,
    priority: Option<u32>,
    action: &'static str,
    pub(crate) redirect: String,
    connection: String,
    host: Option<String>,
    uri: Option<String>,
}

impl Entry {
    pub(crate) fn begin(
        client: &Client,
        live: &LiveListener,
        logs: &AccessLogs,
        request: &Request<Incoming>,
        exchange: &Arc<Exchange>,
    ) -> Box<Self> {
        let is_tls = client.tls.is_some();
        let is_websocket = request.headers().contains_key(http::header::UPGRADE);
        let agent = request.headers().get(USER_AGENT).map_or(&b"-"[..], HeaderValue::as_bytes);
        let agent = &agent[..agent.len().min(LOGGED_AGENT_BYTES_MAX)];
        let kind = match (is_websocket, client.is_h2, is_tls) {
            (true, _, true) => "wss",
            (true, _, false) => "ws",
            (false, true, _) => "h2",
            (false, false, true) => "https",
            (false, false, false) => "http",
        };
        let line = request_line(request, is_tls, live.listener.port);
        let agent = String::from_utf8_lossy(agent).into_owned();
        Box::new(Self::new((client, live, logs), kind, exchange, (line, agent)))
    }

    /// Of what could not be read as a request, and how much it was answered with.
    pub(crate) fn unread(
        client: &Client,
        live: &LiveListener,
        logs: &AccessLogs,
        (status, sent): (u16, u64),
    ) -> Self {
        let scheme = if client.tls.is_some() { "https" } else { "http" };
        let line = format!("- {scheme}://{}:{}- -", client.local.ip(), live.listener.port);
        let exchange = Exchange::new(0);
        let mut entry = Self::new((client, live, logs), scheme, &exchange, (line, "-".to_owned()));
        (entry.status, entry.sent) = (status, sent);
        entry
    }

    fn new(
        (client, live, logs): (&Client, &LiveListener, &AccessLogs),
        kind: &'static str,
        exchange: &Arc<Exchange>,
        (request, agent): (String, String),
    ) -> Self {
        Self {
            sink: client.shared.logs.clone(),
            clock: Arc::clone(&client.shared.clock),
            file: FileKey::new(Kind::Requests, logs, &live.balancer, client.local.ip()),
            created: client.shared.clock.now(),
            begun: Instant::now(),
            dispatched: None,
            answered: None,
            exchange: Arc::clone(exchange),
            kind,
            peer: client.peer,
            target: None,
            status: 0,
            is_moot: false,
            target_status: None,
            sent: 0,
            request,
            agent,
            tls: client.tls.clone(),
            group: None,
            trace: "-".to_owned(),
            certificate: live.certificate_for(client.tls.as_ref()),
            priority: None,
            action: "-",
            redirect: "-".to_owned(),
            connection: client.trace.clone(),
            host: None,
            uri: None,
        }
    }

    pub(crate) fn matched(&mut self, rule: &Rule) {
        self.priority = Some(rule.priority.unwrap_or(0));
        self.action = match rule.action {
            Action::Forward { .. } => "forward",
            Action::Redirect { .. } => "redirect",
            Action::FixedResponse { .. } => "fixed-response",
        };
    }

    pub(crate) fn transformed(&mut self, host: Option<&str>, uri: Option<&str>) {
        (self.host, self.uri) = (host.map(str::to_owned), uri.map(str::to_owned));
    }

    pub(crate) fn dispatched(&mut self, target: SocketAddr) {
        (self.dispatched, self.target) = (Some(Instant::now()), Some(target));
    }

    pub(crate) fn answered(&mut self, status: u16) {
        (self.answered, self.target_status) = (Some(Instant::now()), Some(status));
    }

    pub(crate) fn tunnelled(&mut self, sent: u64, received: u64) {
        self.status = 101;
        self.sent = sent;
        self.exchange.received.store(received, Relaxed);
    }

    fn line(&self) -> String {
        let now = Instant::now();
        let seconds = |from: Option<Instant>, to: Option<Instant>| match (from, to) {
            (Some(from), Some(to)) => format!("{:.3}", to.duration_since(from).as_secs_f64()),
            _ => "-1".to_owned(),
        };
        let or_dash = |text: Option<&str>| quoted(text.unwrap_or("-"));
        let tls = self.tls.as_ref();
        let target = self.target.map_or_else(|| "-".to_owned(), |target| target.to_string());
        let target_status =
            self.target_status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let status = if self.status == 0 { 460 } else { self.status };
        let status = if self.kind == "ws" || self.kind == "wss" { status.max(101) } else { status };
        let action = match (self.action, self.host.is_some() || self.uri.is_some()) {
            ("forward", true) => "rewrite,forward",
            (action, _) => action,
        };
        let rewritten = if self.host.is_some() || self.uri.is_some() { "success" } else { "-" };
        let mut line = String::with_capacity(600);
        // Writing to a string cannot fail.
        let _ = write!(
            line,
            "{} {} {} {} {target} {} {} {} {status} {target_status} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} \"-\" \"-\" {} {} {} \"{rewritten}\" {}",
            self.kind,
            time(self.clock.now()),
            self.file.balancer,
            self.peer,
            seconds(Some(self.begun), self.dispatched),
            seconds(self.dispatched, self.answered),
            seconds(self.answered, Some(now)),
            self.exchange.received.load(Relaxed),
            self.sent,
            quoted(&self.request),
            quoted(&self.agent),
            tls.map_or("-", |tls| tls.cipher),
            tls.map_or("-", |tls| tls.version),
            self.group.as_ref().map_or("-", |group| group.0.as_str()),
            quoted(&self.trace),
            or_dash(tls.and_then(|tls| tls.name.as_deref())),
            quoted(&self.certificate),
            self.priority.map_or_else(|| "-".to_owned(), |priority| priority.to_string()),
            time(self.created),
            quoted(action),
            quoted(&self.redirect),
            quoted("-"),
            quoted(&target),
            quoted(&target_status),
            self.connection,
            or_dash(self.host.as_deref()),
            or_dash(self.uri.as_deref()),
            self.file.node,
        );
        line
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.is_moot {
            return;
        }
        self.sink.write(self.file.clone(), self.line());
    }
}

/// `GET http://host:80/path HTTP/1.1`
fn request_line(request: &Request<Incoming>, is_tls: bool, port: u16) -> String {
    let host = request.uri().host().map(str::to_owned).or_else(|| {
        let host = request.headers().get(http::header::HOST)?.to_str().ok()?;
        Some(routing::without_port(host).to_owned())
    });
    let host = host.unwrap_or_default();
    let scheme = if is_tls { "https" } else { "http" };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let version = match request.version() {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    };
    format!("{} {scheme}://{host}:{port}{path} {version}", request.method())
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\x22"),
            '\\' => out.push_str("\\x5C"),
            letter if letter.is_control() => {
                let _ = write!(out, "\\x{:02X}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

fn time(at: Timestamp) -> String {
    at.civil().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Writes lines to files.
#[derive(Debug)]
pub(crate) struct LogWriter {
    dir: PathBuf,
    region: String,
    clock: Arc<dyn Clock>,
    lines: mpsc::Receiver<Line>,
    dropped: Arc<AtomicU64>,
    open: BTreeMap<FileKey, GzEncoder<Vec<u8>>>,
    /// Of the lines in `open`, as they came.
    bytes: usize,
    count: u64,
}

pub(crate) fn channel(dir: PathBuf, region: String, clock: Arc<dyn Clock>) -> (LogSink, LogWriter) {
    let (send, lines) = mpsc::channel(LOG_RECORDS_MAX);
    let dropped: Arc<AtomicU64> = Arc::default();
    let sink = LogSink { lines: send, dropped: Arc::clone(&dropped) };
    let open = BTreeMap::new();
    (sink, LogWriter { dir, region, clock, lines, dropped, open, bytes: 0, count: 0 })
}

impl LogWriter {
    /// Writes until `ended`, and then what is left.
    pub(crate) async fn run(mut self, ended: impl Future<Output = ()>) {
        tokio::pin!(ended);
        let mut period = tokio::time::interval(LOG_PERIOD);
        period.tick().await;
        loop {
            tokio::select! {
                Some(line) = self.lines.recv() => self.take(line).await,
                _ = period.tick() => self.close_all().await,
                () = &mut ended => break,
            }
        }
        while let Ok(line) = self.lines.try_recv() {
            self.take(line).await;
        }
        self.close_all().await;
    }

    /// Clients choose what lines say, and how many there are; users choose which files there are.
    async fn take(&mut self, line: Line) {
        self.add(line);
        if self.bytes >= LOG_BYTES_MAX || self.open.len() >= LOG_FILES_MAX {
            self.close_all().await;
        }
    }

    fn add(&mut self, (file, line): Line) {
        self.bytes += line.len();
        let open = || GzEncoder::new(Vec::new(), Compression::fast());
        let encoder = self.open.entry(file).or_insert_with(open);
        // It writes to memory.
        let _ = encoder.write_all(line.as_bytes()).and_then(|()| encoder.write_all(b"\n"));
    }

    async fn close_all(&mut self) {
        let dropped = self.dropped.swap(0, Relaxed);
        if dropped > 0 {
            warn!(dropped, "lines of logs were dropped: they came faster than they are written");
        }
        let now = self.clock.now();
        self.bytes = 0;
        for (key, encoder) in std::mem::take(&mut self.open) {
            let Ok(bytes) = encoder.finish() else { continue };
            self.count += 1;
            let path = self.dir.join(self.name(&key, now));
            let written = tokio::task::spawn_blocking(move || write(&path, &bytes)).await;
            if let Ok(Err(error)) = written {
                warn!(balancer = key.balancer, error = %Chain(&error), "access log could not be written");
            }
        }
    }

    fn name(&self, key: &FileKey, end: Timestamp) -> PathBuf {
        let (account, region) = (&key.account, &self.region);
        let day = end.civil().strftime("%Y/%m/%d").to_string();
        let stamp = end.civil().strftime("%Y%m%dT%H%M").to_string();
        let balancer = key.balancer.replace('/', ".");
        let (count, kind) = (self.count, key.kind.prefix());
        // Amazon's network balancers do not say there at which address it was.
        let node = match key.kind {
            Kind::Flows => String::new(),
            Kind::Requests | Kind::Connections | Kind::Checks => format!("{}_", key.node),
        };
        let file = format!(
            "{kind}{account}_elasticloadbalancing_{region}_{balancer}_{stamp}Z_{node}{:x}{count:04x}.log.gz",
            end.0 % 0x1_0000
        );
        let mut path = PathBuf::new();
        // Names that users chose lead nowhere but below the directory.
        let parts = [key.bucket.as_str()].into_iter().chain(key.prefix.split('/'));
        path.extend(parts.filter(|part| !matches!(*part, "" | "." | "..") && !part.contains('/')));
        path.join("AWSLogs")
            .join(account)
            .join("elasticloadbalancing")
            .join(region)
            .join(day)
            .join(file)
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        files::private::make_dirs(dir)?;
    }
    whole::write(path, bytes, Durability::DiesWithTheMachine)
}

#[cfg(test)]
mod tests {
    use longshore_types::SystemClock;

    use super::*;

    fn writer() -> (tempfile::TempDir, LogWriter) {
        let dir = tempfile::tempdir().unwrap();
        let (root, region) = (dir.path().to_owned(), "eu-north-1".to_owned());
        let (_, writer) = channel(root, region, Arc::new(SystemClock));
        (dir, writer)
    }

    fn file(prefix: &str) -> FileKey {
        FileKey {
            kind: Kind::Requests,
            bucket: "logs".to_owned(),
            prefix: prefix.to_owned(),
            account: "000000000000".to_owned(),
            balancer: "app/web/0123456789abcdef".to_owned(),
            node: "127.0.0.1".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn lines_are_written_before_they_fill_the_memory() {
        let (dir, mut writer) = writer();
        let line = "x".repeat(1 << 20);
        for _ in 1..LOG_BYTES_MAX >> 20 {
            writer.take((file(""), line.clone())).await;
        }
        assert!(!dir.path().join("logs").exists(), "there is room");
        writer.take((file(""), line)).await;
        assert!(dir.path().join("logs").exists() && writer.open.is_empty());
    }

    #[tokio::test]
    async fn files_are_written_before_they_fill_the_memory() {
        let (dir, mut writer) = writer();
        for number in 1..LOG_FILES_MAX {
            writer.take((file(&number.to_string()), "x".to_owned())).await;
        }
        assert!(!dir.path().join("logs").exists(), "there is room");
        writer.take((file("0"), "x".to_owned())).await;
        assert!(writer.open.is_empty());
        let written = std::fs::read_dir(dir.path().join("logs")).unwrap();
        assert_eq!(written.count(), LOG_FILES_MAX);
    }
}
