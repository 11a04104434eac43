//! What a task's network costs: `cargo xtask bench network`, as root, or `cargo run --release --example network_figures -p network`.
//!
//! Works in network namespaces of its own, so the machine's network stays as it is, for less than a minute. Each figure of
//! ours stands beside the same of the kernel alone: a veth pair, and a VXLAN between two of them. Nothing is asserted.

#![allow(
    clippy::disallowed_methods,
    reason = "it looks at the clock, and waits, as measurements do"
)]

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use longshore_types::{Cidr, SecurityGroupId, VpcId};
use network::feed::{Change, Feed, Interface, Item, Place, Vni, Vpc};
use network::{
    Attached, EndpointId, EniSpec, GroupRule, MacAddr, Network, NetworkConfig, News, Peer,
    SecurityGroup, Traffic,
};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long bytes are sent, and how often a small message goes to and fro.
const STREAM: Duration = Duration::from_millis(1_500);
const ROUNDS: usize = 3_000;
/// Beyond this something that was changed has not come into force.
const PATIENCE: Duration = Duration::from_secs(5);
const OPEN: &str = "sg-00000000000000001";
const VPC: &str = "vpc-00000000000000042";
const UNDERLAYS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];

fn main() -> Outcome<()> {
    on_a_host(|runtime, host| {
        println!("| task to task | bytes a second | a message to and fro, p50 |\n|---|---|---|");
        beside_veth(runtime, host)?;
        beside_vxlan(runtime, host)
    })?;
    println!();
    on_a_host(|runtime, _| attaches(runtime))?;
    for interfaces in [10, 1_000] {
        on_a_host(|runtime, _| changes(runtime, interfaces))?;
    }
    for rules in [10, 1_000] {
        on_a_host(|runtime, _| rules_of(runtime, rules))?;
    }
    feed_bytes()
}

/// Does work on a thread whose network is a new host's.
fn on_a_host(work: impl FnOnce(&Runtime, &File) -> Outcome<()> + Send) -> Outcome<()> {
    let on_it = || {
        let host = new_namespace()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(thread_enters(&host)?)
            .build()?;
        work(&runtime, &host)
    };
    thread::scope(|scope| {
        scope.spawn(on_it).join().unwrap_or_else(|_| Err("a thread ended".into()))
    })
}

/// What a runtime's threads do first.
fn thread_enters(host: &File) -> Outcome<impl Fn() + Send + Sync + 'static> {
    let host = host.try_clone()?;
    Ok(move || setns(&host, CloneFlags::CLONE_NEWNET).expect("the namespace is held open"))
}

/// The calling thread is in it from now on.
fn new_namespace() -> Outcome<File> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    ip("link set lo up")?;
    Ok(File::open("/proc/thread-self/ns/net")?)
}

fn ip(words: &str) -> Outcome<()> {
    let status = Command::new("ip").args(words.split_whitespace()).status()?;
    if status.success() { Ok(()) } else { Err(format!("ip {words} failed").into()) }
}

/// Does work in another network.
fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    let there = || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    };
    thread::scope(|scope| {
        scope.spawn(there).join().unwrap_or_else(|_| Err("a thread ended".into()))
    })
}

fn path_of(namespace: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd())
}

/// Another namespace, and the calling thread back in its own.
fn another(own: &File) -> Outcome<File> {
    let made = new_namespace()?;
    setns(own, CloneFlags::CLONE_NEWNET)?;
    Ok(made)
}

fn open(
    runtime: &Runtime,
    run_dir: &std::path::Path,
    underlay: Option<Ipv4Addr>,
) -> Outcome<Network> {
    let mut config =
        NetworkConfig::new("0a0b0c0d".parse()?, run_dir.into(), "172.31.0.0/16".parse()?);
    config.underlay = underlay;
    Ok(runtime.block_on(Network::open(config))?)
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(172, 31, 0, 10).to_bits() + number)
}

fn spec(number: u32) -> EniSpec {
    EniSpec {
        id: Some(format!("eni-{number:08x}").parse().expect("eight digits are an id")),
        address: address(number),
        prefix: 20,
        gateway: Ipv4Addr::new(172, 31, 0, 1),
        mac: MacAddr::of_address(address(number)),
        security_groups: vec![OPEN.parse().expect("seventeen digits are an id")],
        assign_public_ip: false,
        is_judged: false,
    }
}

fn attach(runtime: &Runtime, network: &Network, count: u32) -> Outcome<Vec<Attached>> {
    runtime.block_on(async {
        let mut attaching = JoinSet::new();
        for number in 0..count {
            let (network, id): (_, EndpointId) =
                (network.clone(), format!("task-{number}").parse()?);
            attaching.spawn(async move { (number, network.attach_eni(&id, spec(number)).await) });
        }
        let mut attached = Vec::new();
        while let Some(done) = attaching.join_next().await {
            let (number, done) = done?;
            attached.push((number, done?));
        }
        attached.sort_by_key(|(number, _)| *number);
        Ok(attached.into_iter().map(|(_, attached)| attached).collect())
    })
}

fn anywhere() -> Cidr {
    Cidr::from_octets([0; 4], 0).expect("there are no bits below the prefix")
}

fn rule(traffic: Traffic) -> GroupRule {
    GroupRule { traffic, peer: Peer::Network(anywhere()) }
}

fn group(ingress: Vec<GroupRule>) -> SecurityGroup {
    let id: SecurityGroupId = OPEN.parse().expect("seventeen digits are an id");
    SecurityGroup { id, ingress, egress: vec![rule(Traffic::All)] }
}

/// Bytes a second by one stream, and how long half of the messages to and fro take at most.
fn figures([from, to]: [&File; 2], at: Ipv4Addr) -> Outcome<(f64, Duration)> {
    let (listener, echo) =
        inside(to, || Ok((TcpListener::bind((at, 0))?, UdpSocket::bind((at, 0))?)))?;
    let (stream_at, echo_at) = (listener.local_addr()?, echo.local_addr()?);
    echo.set_read_timeout(Some(PATIENCE))?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 64];
            while !is_over.load(Ordering::Relaxed) {
                if let Ok((length, peer)) = echo.recv_from(&mut buffer) {
                    drop(echo.send_to(&buffer[..length], peer));
                }
            }
        });
        let received = scope.spawn(move || -> std::io::Result<u64> {
            let (mut stream, _) = listener.accept()?;
            let (mut all, mut buffer) = (0, vec![0; 1 << 18]);
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(all),
                    length => all += u64::try_from(length).unwrap_or(0),
                }
            }
        });
        let measured = inside(from, || {
            let middle = to_and_fro(echo_at)?;
            let mut stream = TcpStream::connect_timeout(&stream_at, PATIENCE)?;
            let (begun, part) = (Instant::now(), vec![0; 1 << 18]);
            while begun.elapsed() < STREAM {
                stream.write_all(&part)?;
            }
            drop(stream);
            Ok((begun.elapsed(), middle))
        });
        is_over.store(true, Ordering::Relaxed);
        if measured.is_err() {
            // Whoever waits for the stream waits no longer.
            drop(inside(to, || Ok(TcpStream::connect_timeout(&stream_at, PATIENCE)?)));
        }
        let (took, middle) = measured?;
        let all = received.join().map_err(|_| "a thread ended")??;
        Ok((all as f64 / took.as_secs_f64(), middle))
    })
}

fn to_and_fro(peer: SocketAddr) -> Outcome<Duration> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(peer)?;
    let mut times = Vec::with_capacity(ROUNDS);
    let mut buffer = [0; 64];
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        socket.send(b"to and fro")?;
        socket.recv(&mut buffer)?;
        times.push(begun.elapsed());
    }
    times.sort();
    // A lost answer to nobody ends the echo's wait.
    socket.send(b"end")?;
    Ok(times[ROUNDS / 2])
}

fn line(what: &str, (bytes, middle): (f64, Duration)) {
    println!("| {what} | {:.2} GB | {middle:.1?} |", bytes / 1e9);
}

/// Two tasks of one host, and two namespaces with a veth pair between them.
fn beside_veth(runtime: &Runtime, host: &File) -> Outcome<()> {
    let (one, two) = (another(host)?, another(host)?);
    inside(&one, || {
        ip(&format!("link add veth type veth peer name veth netns {}", path_of(&two)))?;
        ip("addr add 10.0.0.1/24 dev veth")?;
        ip("link set veth up")
    })?;
    inside(&two, || {
        ip("addr add 10.0.0.2/24 dev veth")?;
        ip("link set veth up")
    })?;
    line("a veth pair alone", figures([&one, &two], [10, 0, 0, 2].into())?);
    let dir = tempfile::tempdir()?;
    let network = open(runtime, &dir.path().join("run"), None)?;
    runtime.block_on(network.change_security_groups(vec![group(vec![rule(Traffic::All)])]))?;
    let tasks = attach(runtime, &network, 2)?;
    let [from, to] = [&tasks[0], &tasks[1]].map(|task| File::open(&task.netns));
    line("two tasks of one host", figures([&from?, &to?], address(1))?);
    runtime.block_on(network.uninstall())?;
    Ok(())
}

/// Tasks of two hosts, and namespaces behind a VXLAN between two.
fn beside_vxlan(runtime: &Runtime, host: &File) -> Outcome<()> {
    let other = another(host)?;
    ip(&format!("link add lan type veth peer name lan netns {}", path_of(&other)))?;
    let up = |number: usize| {
        ip(&format!("addr add {}/24 dev lan", UNDERLAYS[number]))?;
        ip("link set lan up")?;
        let peer = UNDERLAYS[1 - number];
        ip(&format!(
            "link add vx type vxlan id 7 dstport 4799 local {} remote {peer}",
            UNDERLAYS[number]
        ))?;
        ip(&format!("addr add 10.9.0.{}/24 dev vx", number + 1))?;
        ip("link set vx up")
    };
    up(0)?;
    inside(&other, || up(1))?;
    line("a VXLAN alone", figures([host, &other], [10, 9, 0, 2].into())?);
    let dir = tempfile::tempdir()?;
    let runtime_there = inside(&other, || {
        let mut there = tokio::runtime::Builder::new_multi_thread();
        Ok(there.worker_threads(1).enable_all().on_thread_start(thread_enters(&other)?).build()?)
    })?;
    let here = open(runtime, &dir.path().join("one"), Some(UNDERLAYS[0]))?;
    let there =
        inside(&other, || open(&runtime_there, &dir.path().join("two"), Some(UNDERLAYS[1])))?;
    let tell = |runtime: &Runtime, network: &Network, number: u32, elsewhere| {
        let groups = vec![group(vec![rule(Traffic::All)])];
        let put = vpc_with(2, |it| if it == number { Place::Here } else { Place::At(elsewhere) });
        let network_change = Change { put: put.items().collect(), gone: vec![] };
        let news = News { groups, network: network_change, is_whole: true, ..News::default() };
        runtime.block_on(network.learn(news))
    };
    tell(runtime, &here, 0, UNDERLAYS[1])?;
    inside(&other, || Ok(tell(&runtime_there, &there, 1, UNDERLAYS[0])?))?;
    let one = runtime.block_on(here.attach_eni(&"one".parse()?, spec(0)))?;
    let two =
        inside(&other, || Ok(runtime_there.block_on(there.attach_eni(&"two".parse()?, spec(1)))?))?;
    line(
        "tasks of two hosts",
        figures([&File::open(&one.netns)?, &File::open(&two.netns)?], address(1))?,
    );
    runtime.block_on(here.uninstall())?;
    inside(&other, || Ok(runtime_there.block_on(there.uninstall())?))
}

/// The default VPC's range with so many interfaces.
fn vpc_with(count: u32, place: impl Fn(u32) -> Place) -> Feed {
    let id: VpcId = VPC.parse().expect("seventeen digits are an id");
    let mut feed = Feed::default();
    feed.put(Item::Vpc(Vpc {
        vni: Vni::of(&id),
        id: id.clone(),
        ranges: vec!["172.31.0.0/16".parse().expect("a block")],
        has_dns: true,
        has_dns_hostnames: true,
        is_default: true,
    }));
    for number in 0..count {
        let EniSpec { id: eni, address, security_groups: groups, .. } = spec(number);
        feed.put(Item::Interface(Interface {
            id: eni.expect("each has one"),
            vpc: id.clone(),
            subnet: "subnet-00000001".parse().expect("eight digits are an id"),
            address,
            groups,
            public: None,
            place: place(number),
            is_balancers: false,
            is_logged: false,
        }));
    }
    feed
}

fn attaches(runtime: &Runtime) -> Outcome<()> {
    const COUNT: u32 = 200;
    let dir = tempfile::tempdir()?;
    let network = open(runtime, &dir.path().join("run"), None)?;
    thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    attach(runtime, &network, COUNT)?;
    let took = begun.elapsed().as_secs_f64();
    println!("attaches a second, {COUNT} at once: {:.0}", f64::from(COUNT) / took);
    runtime.block_on(network.uninstall())?;
    Ok(())
}

/// From the moment in which a host is told of a rule to the first packet that is judged so.
fn changes(runtime: &Runtime, interfaces: u32) -> Outcome<()> {
    const TIMES: usize = 10;
    let dir = tempfile::tempdir()?;
    let network = open(runtime, &dir.path().join("run"), None)?;
    let closed = || vec![group(vec![])];
    runtime.block_on(network.change_security_groups(closed()))?;
    let tasks = attach(runtime, &network, interfaces)?;
    let [from, to] = [&tasks[0], &tasks[1]].map(|task| File::open(&task.netns));
    let (from, to) = (from?, to?);
    let heard = inside(&to, || Ok(UdpSocket::bind((address(1), 53_000))?))?;
    heard.set_nonblocking(true)?;
    // A flow of its own each: one that is open goes on when its rule goes, as in AWS. Says when it was sent.
    let passes = || -> Outcome<(bool, Instant)> {
        let mut buffer = [0; 16];
        while heard.recv(&mut buffer).is_ok() {}
        let sent = inside(&from, || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.send_to(b"?", (address(1), 53_000))?;
            Ok(Instant::now())
        })?;
        while sent.elapsed() < Duration::from_millis(2) {
            if heard.recv(&mut buffer).is_ok() {
                return Ok((true, sent));
            }
        }
        Ok((false, sent))
    };
    let await_that = |wanted: bool, begun: Instant| -> Outcome<Duration> {
        while begun.elapsed() < PATIENCE {
            let (has_passed, sent) = passes()?;
            if has_passed == wanted {
                return Ok(sent - begun);
            }
        }
        Err("a rule was not in force in time".into())
    };
    let (mut authorized, mut revoked) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let begun = Instant::now();
        let open = vec![group(vec![rule(Traffic::Udp(53_000..=53_000))])];
        runtime.block_on(network.change_security_groups(open))?;
        authorized.push(await_that(true, begun)?);
        let begun = Instant::now();
        runtime.block_on(network.change_security_groups(closed()))?;
        revoked.push(await_that(false, begun)?);
    }
    authorized.sort();
    revoked.sort();
    println!(
        "{interfaces} interfaces, told of a rule to the first packet judged so: authorized {:.1?}, revoked {:.1?} (p50 of {TIMES})",
        authorized[TIMES / 2],
        revoked[TIMES / 2],
    );
    runtime.block_on(network.uninstall())?;
    Ok(())
}

/// What the last of so many rules costs the first packet of a flow.
fn rules_of(runtime: &Runtime, rules: u16) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let network = open(runtime, &dir.path().join("run"), None)?;
    let others = (1..rules).map(|port| rule(Traffic::Tcp(port..=port)));
    let ingress = others.chain([rule(Traffic::Udp(0..=u16::MAX))]).collect();
    runtime.block_on(network.change_security_groups(vec![group(ingress)]))?;
    let tasks = attach(runtime, &network, 2)?;
    let [from, to] = [&tasks[0], &tasks[1]].map(|task| File::open(&task.netns));
    let (from, to) = (from?, to?);
    let heard = inside(&to, || Ok(UdpSocket::bind((address(1), 53_000))?))?;
    heard.set_read_timeout(Some(PATIENCE))?;
    let times = inside(&from, || {
        let mut times = Vec::new();
        let mut buffer = [0; 16];
        for _ in 0..1_000 {
            // A flow of its own each: its first packet alone goes by the rules.
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            let begun = Instant::now();
            socket.send_to(b"?", (address(1), 53_000))?;
            heard.recv(&mut buffer)?;
            times.push(begun.elapsed());
        }
        Ok(times)
    });
    let mut times = times?;
    times.sort();
    println!("{rules} rules, a flow's first packet: {:.1?} (p50)", times[times.len() / 2]);
    runtime.block_on(network.uninstall())?;
    Ok(())
}

/// What a host is told when one interface of a thousand comes, and what it is told at first.
fn feed_bytes() -> Outcome<()> {
    let here = |_| Place::At(UNDERLAYS[1]);
    let (before, after) = (vpc_with(1_000, here), vpc_with(1_001, here));
    let change = serde_json::to_vec(&before.change_to(&after))?;
    let whole = serde_json::to_vec(&Feed::default().change_to(&before))?;
    println!(
        "bytes of the feed: {} for an interface that comes, {} for 1,000 at first",
        change.len(),
        whole.len()
    );
    Ok(())
}
