//! The balancer's process: it serves by the table that it saved while its region is away, and what is lost when it is
//! killed or ended.

#![allow(clippy::disallowed_methods, reason = "tests write files as they like")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use longshore_types::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use routing::*;

const PATIENCE: Duration = Duration::from_secs(30);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }
}

struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// A data directory in which a region has been, and a balancer that knew a table.
    fn new(target: SocketAddr) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        let region = world.start(&["region", "--listen", "127.0.0.1:0"]);
        wait_for("a region", || world.dir.path().join("region.json").exists());
        drop(region);
        let state = world.dir.path().join("balancer");
        std::fs::create_dir(&state).unwrap();
        let table = serde_json::to_vec(&table(target)).unwrap();
        std::fs::write(state.join("table.json"), table).unwrap();
        world
    }

    fn start(&self, words: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        command.args(words).arg("--data-dir").arg(self.dir.path());
        command.env_remove("LONGSHORE_DATA_DIR").env_remove("LONGSHORE_ACCOUNT_KEYS");
        Running(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Where the balancer listens, once it answers.
    fn address(&self) -> SocketAddr {
        let state = self.dir.path().join("balancer");
        let mut found = None;
        wait_for("an answer", || {
            found = balancer::listening(&state).first().map(|one| one.address);
            found.is_some_and(|address| get(address).is_some())
        });
        found.unwrap()
    }
}

fn wait_for(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn table(target: SocketAddr) -> Table {
    let group = TargetGroup {
        id: GroupId("group".to_owned()),
        protocol: TargetProtocol::Http,
        version: ProtocolVersion::Http1,
        health: HealthCheck {
            protocol: CheckProtocol::Tcp,
            port: CheckPort::Traffic,
            path: "/".to_owned(),
            interval_s: 5,
            timeout_s: 2,
            healthy_count: 2,
            unhealthy_count: 2,
            matcher: Matcher::default(),
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
        targets: vec![Target {
            key: TargetKey { id: target.ip().to_string(), port: target.port() },
            address: target.ip(),
            by: None,
            zone: None,
            part: 0,
            shows_identity: false,
            registered_at: Timestamp(1),
            state: TargetState::Healthy,
        }],
    };
    let action = Action::Forward {
        groups: vec![WeightedGroup { group: group.id.clone(), weight: 1, part: None }],
        sticky_s: None,
    };
    let rule = Rule {
        id: RuleId("default".to_owned()),
        priority: None,
        conditions: Vec::new(),
        transforms: Transforms::default(),
        action,
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
        attributes: BalancerAttributes::default(),
        cookie_key: None,
        listeners: vec![Listener {
            id: ListenerId("listener".to_owned()),
            port: 0,
            protocol: ListenerProtocol::Http,
            tls: None,
            rules: vec![rule],
            attributes: ListenerAttributes::default(),
        }],
    };
    Table {
        version: 1,
        balancers: [(balancer.id.clone(), balancer)].into(),
        groups: [(group.id.clone(), group)].into(),
        certificates: BTreeMap::new(),
        endpoints: BTreeMap::new(),
        egress: std::collections::BTreeSet::new(),
        published: std::collections::BTreeSet::new(),
    }
}

/// A target that answers every request, on connections that it keeps.
fn target() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                while read_head(&mut reader).is_some() {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn read_head(reader: &mut impl std::io::BufRead) -> Option<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if head[before..] == *"\r\n" {
            return Some(head);
        }
    }
}

struct Caller {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Caller {
    fn new(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let reader = BufReader::new(stream.try_clone().ok()?);
        Some(Self { stream, reader })
    }

    /// The head of the answer to one request, if a whole answer comes.
    fn ask(&mut self) -> Option<String> {
        self.stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").ok()?;
        let head = read_head(&mut self.reader)?;
        let mut body = [0; 2];
        self.reader.read_exact(&mut body).ok()?;
        Some(head)
    }
}

fn get(address: SocketAddr) -> Option<String> {
    Caller::new(address)?.ask()
}

/// Clients that ask on kept connections, and on new ones where those were closed.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU32>,
    /// Requests that were sent and not answered with 200.
    lost: Arc<AtomicU32>,
    /// Connections that nobody took.
    refused: Arc<AtomicU32>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn new(address: SocketAddr, clients: usize) -> Self {
        let (stop, [served, lost, refused]): (Arc<AtomicBool>, [Arc<AtomicU32>; 3]) =
            Default::default();
        let threads = (0..clients).map(|_| {
            let (stop, served, lost) = (Arc::clone(&stop), Arc::clone(&served), Arc::clone(&lost));
            let refused = Arc::clone(&refused);
            std::thread::spawn(move || {
                let mut kept: Option<Caller> = None;
                while !stop.load(SeqCst) {
                    let Some(mut caller) = kept.take().or_else(|| Caller::new(address)) else {
                        // Nobody listens at the moment: nothing was sent.
                        refused.fetch_add(1, SeqCst);
                        std::thread::sleep(Duration::from_millis(1));
                        continue;
                    };
                    match caller.ask() {
                        Some(head) if head.starts_with("HTTP/1.1 200 ") => {
                            served.fetch_add(1, SeqCst);
                            if !head.to_ascii_lowercase().contains("connection: close") {
                                kept = Some(caller);
                            }
                        }
                        Some(_) | None => {
                            lost.fetch_add(1, SeqCst);
                        }
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { stop, served, lost, refused, threads }
    }

    fn wait_for_more(&self, count: u32) {
        let before = self.served.load(SeqCst);
        wait_for("more answers", || self.served.load(SeqCst) >= before + count);
    }

    fn lost(&self) -> u32 {
        self.lost.load(SeqCst)
    }

    fn end(self) {
        self.stop.store(true, SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_balancer_that_is_killed_under_load_serves_again_at_its_port_without_its_region() {
    let world = World::new(target());
    let running = world.start(&["balancer"]);
    let address = world.address();
    let load = Load::new(address, 4);
    load.wait_for_more(200);
    assert_eq!(load.lost(), 0);
    running.signal(Signal::SIGKILL);
    drop(running);
    let killed = Instant::now();
    let running = world.start(&["balancer"]);
    load.wait_for_more(1);
    let away = killed.elapsed();
    // Lost is what was under way at the moment of the kill, and what was sent to a connection that the kernel had made and
    // the process never took: of each client one of either at most.
    let lost = load.lost();
    assert!(lost <= 8, "{lost} requests lost");
    load.wait_for_more(200);
    assert_eq!(load.lost(), lost);
    println!("away for {} ms, {lost} requests lost", away.as_millis());
    load.end();
    drop(running);
}

#[test]
fn a_balancer_that_is_ended_under_load_loses_no_request_that_it_took() {
    let world = World::new(target());
    let mut running = world.start(&["balancer"]);
    let load = Load::new(world.address(), 4);
    load.wait_for_more(200);
    running.signal(Signal::SIGTERM);
    let mut status = None;
    wait_for("its end", || {
        status = running.0.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success());
    let _again = world.start(&["balancer"]);
    load.wait_for_more(200);
    assert_eq!(load.lost(), 0);
    load.end();
}

#[test]
fn a_balancer_takes_over_from_another_under_load_and_every_connection_and_request_is_served() {
    let world = World::new(target());
    let mut running = world.start(&["balancer"]);
    let address = world.address();
    let load = Load::new(address, 4);
    load.wait_for_more(200);
    let lock = world.dir.path().join("balancer.lock");
    for _ in 0..3 {
        let next = world.start(&["balancer", "--take-over"]);
        let mut status = None;
        wait_for("the end of the one before", || {
            status = running.0.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success());
        load.wait_for_more(200);
        assert_eq!(std::fs::read_to_string(&lock).unwrap(), next.0.id().to_string());
        running = next;
    }
    assert_eq!((load.lost(), load.refused.load(SeqCst)), (0, 0));
    // Without being told to, none takes the place of another.
    let mut other = world.start(&["balancer"]);
    assert_eq!(other.0.wait().unwrap().code(), Some(78));
    load.wait_for_more(200);
    assert_eq!((load.lost(), load.refused.load(SeqCst)), (0, 0));
    assert_eq!(world.address(), address);
    load.end();
    running.signal(Signal::SIGTERM);
    assert!(running.0.wait().unwrap().success());
}
