//! What the tests stand on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use longshore_types::{Clock as _, OsIds, SystemClock, Timestamp};
use routing::*;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{Config, Doors, Feed, FeedError, Interfaces, Predecessor, Tenure};

/// How long anything may take before a test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// In the directory: the lock of the role.
pub(super) const LOCK: &str = "lock";

/// A region that knows a table and remembers what it was told.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) table: watch::Sender<Table>,
    pub(super) report: watch::Sender<Option<Report>>,
    pub(super) is_away: AtomicBool,
    /// How often it was asked, and how often it was told something.
    pub(super) reads: watch::Sender<u32>,
    pub(super) reports: AtomicU32,
    given: Mutex<Vec<Table>>,
}

impl Feed for Region {
    fn read(&self, version: u64, wait: Duration) -> BoxFuture<'_, Result<Update, FeedError>> {
        Box::pin(async move {
            self.reads.send_modify(|reads| *reads += 1);
            self.check()?;
            let mut tables = self.table.subscribe();
            let changed = tables.wait_for(|table| table.version != version);
            let Ok(Ok(table)) =
                timeout(wait, changed).await.map(|found| found.map(|it| it.clone()))
            else {
                return Ok(Update::Unchanged);
            };
            self.check()?;
            let mut given = self.given.lock().unwrap();
            let known = given.iter().find(|known| known.version == version);
            let update = match known {
                Some(known) => Update::Change(Change::between(known, &table)),
                None => Update::Whole(table.clone()),
            };
            given.push(table);
            Ok(update)
        })
    }

    fn report(&self, report: Report) -> BoxFuture<'_, Result<(), FeedError>> {
        Box::pin(async move {
            self.check()?;
            self.reports.fetch_add(1, SeqCst);
            self.report.send_replace(Some(report));
            Ok(())
        })
    }
}

impl Region {
    fn check(&self) -> Result<(), FeedError> {
        match self.is_away.load(SeqCst) {
            true => Err(FeedError { doing: "reach the region", source: "away".into() }),
            false => Ok(()),
        }
    }
}

/// Where machines are reached.
pub(super) const LOOPBACK: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

/// A balancer's process with its region.
pub(super) struct World {
    pub(super) region: Arc<Region>,
    pub(super) dir: Arc<tempfile::TempDir>,
    end: Option<oneshot::Sender<()>>,
    running: JoinHandle<std::io::Result<()>>,
}

impl World {
    pub(super) async fn new(table: Table) -> Self {
        Self::on(table, Arc::new(super::Nowhere)).await
    }

    /// On a machine with interfaces.
    pub(super) async fn on(table: Table, interfaces: Arc<dyn Interfaces>) -> Self {
        Self::beside(table, interfaces, Arc::new(super::Nowhere)).await
    }

    /// The same, with a region to which what comes to endpoints goes on.
    pub(super) async fn beside(
        table: Table,
        interfaces: Arc<dyn Interfaces>,
        doors: Arc<dyn Doors>,
    ) -> Self {
        let region = Region {
            table: watch::Sender::new(table),
            report: watch::Sender::new(None),
            is_away: AtomicBool::new(false),
            reads: watch::Sender::new(0),
            reports: AtomicU32::new(0),
            given: Mutex::default(),
        };
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let tenure = first(&dir);
        Self::start(Arc::new(region), dir, tenure, LOOPBACK, (interfaces, doors)).await
    }

    pub(super) async fn with(region: Arc<Region>, dir: Arc<tempfile::TempDir>) -> Self {
        let nowhere = Arc::new(super::Nowhere);
        let tenure = first(&dir);
        let nowhere = (Arc::<super::Nowhere>::clone(&nowhere) as Arc<_>, nowhere as Arc<_>);
        Self::start(region, dir, tenure, LOOPBACK, nowhere).await
    }

    /// Another process, which takes over from this one.
    pub(super) async fn next(&self) -> Self {
        let before = self.asked().await;
        Self::after(before, Arc::clone(&self.region), Arc::clone(&self.dir)).await
    }

    /// What it gives, to whoever serves in its place.
    pub(super) async fn asked(&self) -> Predecessor {
        let state = self.dir.path().join("state");
        let ask = move || Predecessor::ask(&state);
        tokio::task::spawn_blocking(ask).await.unwrap().unwrap().unwrap()
    }

    /// The process that serves by what was given.
    pub(super) async fn after(
        before: Predecessor,
        region: Arc<Region>,
        dir: Arc<tempfile::TempDir>,
    ) -> Self {
        Self::after_at(before, region, dir, LOOPBACK).await
    }

    /// The same, on a machine that is reached at `local`.
    pub(super) async fn after_at(
        before: Predecessor,
        region: Arc<Region>,
        dir: Arc<tempfile::TempDir>,
        local: Option<IpAddr>,
    ) -> Self {
        let nowhere = Arc::new(super::Nowhere);
        let nowhere = (Arc::<super::Nowhere>::clone(&nowhere) as Arc<_>, nowhere as Arc<_>);
        Self::start(region, dir, Tenure::After(before), local, nowhere).await
    }

    /// Waits for its end, which nobody asks for.
    pub(super) async fn ended(mut self) {
        timeout(PATIENCE, &mut self.running).await.unwrap().unwrap().unwrap();
    }

    async fn start(
        region: Arc<Region>,
        dir: Arc<tempfile::TempDir>,
        tenure: Tenure,
        local: Option<IpAddr>,
        (interfaces, doors): (Arc<dyn Interfaces>, Arc<dyn Doors>),
    ) -> Self {
        let config = Config {
            state_dir: dir.path().join("state"),
            logs_dir: dir.path().join("logs"),
            region: "eu-north-1".to_owned(),
            node: "test".to_owned(),
            local,
            interfaces,
            doors,
            missing_wait: Duration::from_millis(20),
        };
        let (end, ended) = oneshot::channel::<()>();
        let feed = Arc::clone(&region) as Arc<dyn Feed>;
        let running = tokio::spawn(crate::run(
            config,
            tenure,
            feed,
            (Arc::new(SystemClock), Arc::new(OsIds)),
            async move { drop(ended.await) },
        ));
        Self { region, dir, end: Some(end), running }
    }

    /// Where the only local listener is reached, once the newest table is served.
    pub(super) async fn address(&self) -> SocketAddr {
        let version = self.region.table.borrow().version;
        let wanted = |report: &Report| report.version == version && !report.local.is_empty();
        self.reported("an address", wanted).await.local[0].1
    }

    /// Waits for a report.
    pub(super) async fn reported(&self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let mut reports = self.region.report.subscribe();
        let found = reports.wait_for(|report| report.as_ref().is_some_and(&wanted));
        let found = timeout(PATIENCE, found).await;
        match found {
            Ok(report) => report.unwrap().clone().unwrap(),
            Err(_) => panic!("never reported: {what}; {:?}", self.region.report.borrow()),
        }
    }

    /// Changes the table and waits until it is served.
    pub(super) async fn change(&self, change: impl FnOnce(&mut Table)) {
        self.region.table.send_modify(|table| {
            table.version += 1;
            change(table);
        });
        let version = self.region.table.borrow().version;
        self.reported("the new version", |report| report.version == version).await;
    }

    /// Tells the process to end.
    pub(super) fn tell_to_end(&mut self) {
        drop(self.end.take());
    }

    /// Ends the process as SIGTERM does.
    pub(super) async fn end(mut self) {
        self.tell_to_end();
        timeout(PATIENCE, &mut self.running).await.unwrap().unwrap().unwrap();
    }

    /// Ends its tasks at once. Connections go with the runtime of a real process; here they are left to their peers.
    pub(super) async fn kill(self) -> (Arc<Region>, Arc<tempfile::TempDir>) {
        self.running.abort();
        let _ = self.running.await;
        (self.region, self.dir)
    }
}

fn first(dir: &tempfile::TempDir) -> Tenure {
    let lock = std::fs::File::create(dir.path().join(LOCK)).unwrap();
    lock.lock().unwrap();
    Tenure::First(lock)
}

pub(super) fn now() -> Timestamp {
    SystemClock.now()
}

pub(super) fn group_id() -> GroupId {
    GroupId("group".to_owned())
}

pub(super) fn target(address: SocketAddr) -> Target {
    Target {
        key: TargetKey { id: address.ip().to_string(), port: address.port() },
        address: address.ip(),
        by: None,
        zone: None,
        part: 0,
        shows_identity: false,
        registered_at: Timestamp(1),
        state: TargetState::Healthy,
    }
}

pub(super) fn group(targets: &[SocketAddr]) -> TargetGroup {
    TargetGroup {
        id: group_id(),
        protocol: TargetProtocol::Http,
        version: ProtocolVersion::Http1,
        health: HealthCheck {
            protocol: CheckProtocol::Tcp,
            port: CheckPort::Traffic,
            path: "/".to_owned(),
            interval_s: 300,
            timeout_s: 2,
            healthy_count: 2,
            unhealthy_count: 2,
            matcher: "200".parse().unwrap(),
        },
        algorithm: Algorithm::RoundRobin,
        stickiness: Stickiness::Off,
        slow_start_s: 0,
        deregistration_delay_s: 300,
        cut_at_deregistration: false,
        cut_when_unhealthy: true,
        unhealthy_draining_s: 0,
        preserve_client_ip: false,
        proxy_protocol_v2: false,
        healthy_count_min: 1,
        healthy_percent_min: None,
        cross_zone: None,
        avoids_outliers: false,
        identity: None,
        targets: targets.iter().map(|address| target(*address)).collect(),
    }
}

pub(super) fn rule(id: &str, priority: Option<u32>, action: Action) -> Rule {
    Rule {
        id: RuleId(id.to_owned()),
        priority,
        conditions: Vec::new(),
        transforms: Transforms::default(),
        action,
    }
}

pub(super) fn forward() -> Action {
    Action::Forward {
        groups: vec![WeightedGroup { group: group_id(), weight: 1, part: None }],
        sticky_s: None,
    }
}

/// One balancer with one HTTP listener that forwards to one group.
pub(super) fn table(targets: &[SocketAddr]) -> Table {
    let listener = Listener {
        id: ListenerId("listener".to_owned()),
        // One that machines keep for themselves: another is chosen, and stays.
        port: 22,
        protocol: ListenerProtocol::Http,
        tls: None,
        rules: vec![rule("default", None, forward())],
        attributes: ListenerAttributes::default(),
    };
    let balancer = Balancer {
        id: BalancerId("balancer".to_owned()),
        name: "app/web/0123456789abcdef".to_owned(),
        account: "000000000000".to_owned(),
        kind: Kind::Application,
        scheme: Scheme::InternetFacing,
        interfaces: Vec::new(),
        clients: None,
        introducers: None,
        attributes: BalancerAttributes { idle_timeout_s: 2, ..BalancerAttributes::default() },
        cookie_key: None,
        listeners: vec![listener],
    };
    Table {
        version: 1,
        balancers: [(balancer.id.clone(), balancer)].into(),
        groups: [(group_id(), group(targets))].into(),
        certificates: std::collections::BTreeMap::new(),
        endpoints: std::collections::BTreeMap::new(),
        egress: std::collections::BTreeSet::new(),
        published: std::collections::BTreeSet::new(),
    }
}

pub(super) fn balancer(table: &mut Table) -> &mut Balancer {
    table.balancers.values_mut().next().unwrap()
}

pub(super) fn group_of(table: &mut Table) -> &mut TargetGroup {
    table.groups.values_mut().next().unwrap()
}

/// What a target does with a request once it has read its head and body.
#[derive(Clone)]
pub(super) enum Does {
    /// Answers 200 with a text, and goes on.
    Answers(&'static str),
    /// Writes these bytes and closes.
    Writes(&'static [u8]),
    /// Answers with what it was sent.
    Echoes,
    /// Answers once the gate is open.
    Waits(watch::Receiver<bool>),
    /// Says nothing.
    Hangs,
    /// Closes with a reset.
    Resets,
    /// Answers, and closes without saying so.
    AnswersAndCloses,
}

/// A target.
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    pub(super) requests: Arc<AtomicU32>,
    accepting: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Backend {
    pub(super) fn count(&self) -> u32 {
        self.requests.load(SeqCst)
    }
}

pub(super) async fn backend(does: Does) -> Backend {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests: Arc<AtomicU32> = Arc::default();
    let count = Arc::clone(&requests);
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, does.clone(), Arc::clone(&count)));
        }
    });
    Backend { address, requests, accepting }
}

async fn serve(mut stream: TcpStream, does: Does, count: Arc<AtomicU32>) {
    let mut rest = Vec::new();
    while let Some((head, body)) = read_message(&mut stream, &mut rest).await {
        count.fetch_add(1, SeqCst);
        let text = match &does {
            Does::Answers(text) => (*text).to_owned(),
            Does::Echoes => format!("{head}{}", String::from_utf8_lossy(&body)),
            Does::Waits(gate) => {
                let _ = gate.clone().wait_for(|open| *open).await;
                "late".to_owned()
            }
            Does::Writes(bytes) => {
                let _ = stream.write_all(bytes).await;
                return;
            }
            Does::Hangs => {
                std::future::pending::<()>().await;
                return;
            }
            Does::Resets => {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                return;
            }
            Does::AnswersAndCloses => {
                let _ = stream.write_all(&answer("closing")).await;
                return;
            }
        };
        if stream.write_all(&answer(&text)).await.is_err() {
            return;
        }
    }
}

fn answer(text: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes()
}

/// Reads one message: its head, and its body by its length or its chunks. `None` at the end.
pub(super) async fn read_message<S: AsyncRead + Unpin>(
    stream: &mut S,
    rest: &mut Vec<u8>,
) -> Option<(String, Vec<u8>)> {
    let end = read_until(stream, rest, b"\r\n\r\n").await?;
    let head = String::from_utf8_lossy(&rest[..end]).into_owned();
    rest.drain(..end);
    let lower = head.to_ascii_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        let mut body = Vec::new();
        loop {
            let end = read_until(stream, rest, b"\r\n").await?;
            let size = String::from_utf8_lossy(&rest[..end]).trim().to_owned();
            rest.drain(..end);
            let size = usize::from_str_radix(&size, 16).ok()?;
            fill(stream, rest, size + 2).await?;
            body.extend_from_slice(&rest[..size]);
            rest.drain(..size + 2);
            if size == 0 {
                return Some((head, body));
            }
        }
    }
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(0, |length| length.trim().parse().unwrap_or(0));
    fill(stream, rest, length).await?;
    let body = rest.drain(..length).collect();
    Some((head, body))
}

async fn read_until<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    wanted: &[u8],
) -> Option<usize> {
    loop {
        if let Some(at) = buffer.windows(wanted.len()).position(|window| window == wanted) {
            return Some(at + wanted.len());
        }
        fill(stream, buffer, buffer.len() + 1).await?;
    }
}

async fn fill<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    size: usize,
) -> Option<()> {
    while buffer.len() < size {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some(())
}

/// A client's connection.
pub(super) struct Caller<S> {
    pub(super) stream: S,
    rest: Vec<u8>,
}

impl Caller<TcpStream> {
    pub(super) async fn new(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Caller<S> {
    pub(super) fn over(stream: S) -> Self {
        Self { stream, rest: Vec::new() }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next answer; `None` if the connection ends before it is whole.
    pub(super) async fn answer(&mut self) -> Option<Answered> {
        let read = read_message(&mut self.stream, &mut self.rest);
        let (head, body) = timeout(PATIENCE, read).await.expect("an answer in time")?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Answered { status, head, body: String::from_utf8_lossy(&body).into_owned() })
    }

    pub(super) async fn ask(&mut self, bytes: &[u8]) -> Option<Answered> {
        self.write(bytes).await;
        self.answer().await
    }

    /// Whether the other side has ended the connection.
    pub(super) async fn is_ended(&mut self) -> bool {
        let mut byte = [0];
        let read = timeout(PATIENCE, self.stream.read(&mut byte)).await;
        matches!(read, Ok(Ok(0) | Err(_)))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answered {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub(super) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// One request on a connection of its own.
pub(super) async fn get(address: SocketAddr) -> Option<Answered> {
    Caller::new(address).await.ask(GET).await
}

/// The names of log files below a directory, and what they say.
pub(super) fn logged(dir: &std::path::Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let mut log = String::new();
            let file = std::fs::File::open(&path).unwrap();
            let mut text = flate2::read::GzDecoder::new(file);
            std::io::Read::read_to_string(&mut text, &mut log).unwrap();
            files.push((path.to_string_lossy().into_owned(), log));
        }
    }
    files
}

/// The fields of a line, without quotes.
pub(super) fn fields(line: &str) -> Vec<&str> {
    let (mut fields, mut rest) = (Vec::new(), line);
    while !rest.is_empty() {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap(),
            None => rest.split_once(' ').map_or((rest, ""), |(field, after)| (field, after)),
        };
        fields.push(field);
        rest = after.trim_start_matches(' ');
    }
    fields
}
