//! A host and an outside for each test, and ways to knock on doors.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use network::{Attached, EndpointId, EniSpec, MacAddr, NetTag, Network, NetworkConfig};
use nix::sched::{CloneFlags, setns, unshare};

pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub(crate) const HOST_OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// How long a packet that should arrive may take, and how long a dropped one is waited for.
const PATIENCE: Duration = Duration::from_millis(1200);

/// One test's machine.
pub(crate) struct World {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) outside: File,
}

impl World {
    pub(crate) fn config(&self, tag: &str, vpc: &str) -> NetworkConfig {
        let tag: NetTag = tag.parse().unwrap();
        let run_dir = self.dir.path().join(tag.as_str());
        let mut config = NetworkConfig::new(tag, run_dir, vpc.parse().unwrap());
        config.pool_size = 2;
        config.resolv_conf = self.dir.path().join("resolv.conf");
        config
    }

    pub(crate) fn open(&self) -> Network {
        self.runtime.block_on(Network::open(self.config("0a0b0c0d", "172.31.0.0/16"))).unwrap()
    }
}

/// Runs `test` on a thread whose namespace is a fresh host. Skipped, with a printed reason, without root.
pub(crate) fn on_a_host(test: impl FnOnce(&World) + Send) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root to make network namespaces");
        return;
    }
    let outcome = thread::scope(|scope| {
        scope
            .spawn(|| {
                let world = make_world();
                test(&world);
                tear_down(&world);
            })
            .join()
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn make_world() -> World {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let host = File::open("/proc/thread-self/ns/net").unwrap();
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let outside = File::open("/proc/thread-self/ns/net").unwrap();
    run("ip link set lo up");
    setns(&host, CloneFlags::CLONE_NEWNET).unwrap();
    run("ip link set lo up");
    let path = format!("/proc/{}/fd/{}", std::process::id(), outside.as_raw_fd());
    run(&format!("ip link add wan type veth peer name wan netns {path}"));
    run(&format!("ip addr add {HOST_OUTSIDE}/24 dev wan"));
    run("ip link set wan up");
    inside(&outside, || {
        run(&format!("ip addr add {OUTSIDE}/24 dev wan"));
        run("ip link set wan up");
        // Knows a way to our ranges, so that only our table can keep it out.
        for range in ["172.31.0.0/16", "172.30.0.0/16", "198.18.0.0/15"] {
            run(&format!("ip route add {range} via {HOST_OUTSIDE}"));
        }
    });
    run(&format!("ip route add default via {OUTSIDE}"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("resolv.conf"), "nameserver 203.0.113.2\n").unwrap();
    World { runtime, dir, outside }
}

/// Unmounts what a test leaves, so that its directory can be removed.
fn tear_down(world: &World) {
    for region in std::fs::read_dir(world.dir.path()).unwrap() {
        let mounted = region.unwrap().path().join("netns");
        for file in std::fs::read_dir(mounted).into_iter().flatten() {
            let path = file.unwrap().path();
            nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH).unwrap();
        }
    }
}

pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Does `work` in another namespace, on a thread that ends there.
pub(crate) fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            })
            .join()
            .unwrap()
    })
}

pub(crate) fn at<T: Send>(attached: &Attached, work: impl FnOnce() -> T + Send) -> T {
    inside(&File::open(&attached.netns).unwrap(), work)
}

/// A server that tells each caller by which address it is seen; it ends with the test process.
pub(crate) fn serve(namespace: &File, port: u16) {
    inside(namespace, || {
        let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip().to_string();
                drop(stream.write_all(peer.as_bytes()));
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                drop(udp.send_to(peer.ip().to_string().as_bytes(), peer));
            }
        });
    });
}

pub(crate) fn serve_at(attached: &Attached, port: u16) {
    serve(&File::open(&attached.netns).unwrap(), port);
}

/// The address by which a server saw us over TCP; `None` if nobody answered.
pub(crate) fn knock(to: Ipv4Addr, port: u16) -> Option<Ipv4Addr> {
    let to = SocketAddr::V4(SocketAddrV4::new(to, port));
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.parse().ok()
}

/// The same over UDP.
pub(crate) fn knock_udp(to: Ipv4Addr, port: u16) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    socket.connect((IpAddr::V4(to), port)).ok()?;
    socket.send(b"who am I").ok()?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()?.parse().ok()
}

pub(crate) fn id(name: &str) -> EndpointId {
    name.parse().unwrap()
}

/// An interface at 172.31.0.`last` with the given groups.
pub(crate) fn eni(last: u8, groups: &[&str]) -> EniSpec {
    let address = Ipv4Addr::new(172, 31, 0, last);
    EniSpec {
        id: None,
        address,
        prefix: 20,
        gateway: Ipv4Addr::new(172, 31, 0, 1),
        mac: MacAddr::new([2, 0, 0, 0, 1, last]),
        security_groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        assign_public_ip: false,
        is_judged: false,
    }
}

/// Waits until `holds`, which the kernel brings about in its own time.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(25));
    }
    panic!("still not so after five seconds: {what}");
}

pub(crate) fn exists(path: &Path) -> bool {
    path.try_exists().unwrap()
}
