//! What of the host, and of what only the host may reach, endpoints must not reach.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use network::{Attached, ControlGroup, Network, PortMapping, Protocol};

use crate::world::{
    OUTSIDE, World, at, eni, eventually, id, inside, knock, knock_udp, on_a_host, run, serve,
};

const WEB: &str = "sg-00000000000000001";
/// Where clouds tell a machine its credentials.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const AMAZON_DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
/// Of this port of the outside everybody may hear: what arrives here was sent after all before it.
const FENCE_PORT: u16 = 81;

/// Hears what must not arrive.
struct Trap(UdpSocket);

impl Trap {
    fn at(namespace: &File, address: impl Into<IpAddr> + Send, port: u16) -> Self {
        let address = address.into();
        let socket = inside(namespace, || UdpSocket::bind((address, port)).unwrap());
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    fn heard(&self) -> bool {
        self.0.recv_from(&mut [0; 8192]).is_ok()
    }
}

fn this_host() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

/// A metadata service beyond the host, and one on another of the host's own addresses.
fn make_metadata(world: &World) {
    inside(&world.outside, || {
        run(&format!("ip addr add {METADATA}/32 dev lo"));
        run(&format!("ip addr add {AMAZON_DNS}/32 dev lo"));
    });
    serve(&world.outside, 80);
    run("ip addr add 169.254.7.7/32 dev lo");
    serve(&this_host(), 80);
}

fn both(world: &World, network: &Network) -> [Attached; 2] {
    let task = world.runtime.block_on(network.attach_eni(&id("task"), eni(10, &[WEB]))).unwrap();
    let bridged = world.runtime.block_on(network.attach_bridge(&id("bridged"))).unwrap();
    [task, bridged]
}

/// How a connection is refused.
fn refusal(address: Ipv4Addr) -> ErrorKind {
    let to = SocketAddr::from((address, 80));
    TcpStream::connect_timeout(&to, Duration::from_secs(3)).unwrap_err().kind()
}

/// What root can do inside its namespace: all of the link-local range by the gateway.
fn route_all(endpoint: &Attached) {
    at(endpoint, || {
        drop(Command::new("ip").args(["route", "flush", "169.254.0.0/16"]).output().unwrap());
        run(&format!("ip route replace 169.254.0.0/16 via {} dev eth0", endpoint.gateway));
    });
}

#[test]
fn link_local_addresses_do_not_lead_out_by_the_host() {
    on_a_host(|world| {
        let network = world.open();
        make_metadata(world);
        assert!(knock(METADATA, 80).is_some(), "the host itself reaches it");
        let endpoints = both(world, &network);
        for is_rerouted in [false, true] {
            for endpoint in &endpoints {
                if is_rerouted {
                    route_all(endpoint);
                }
                for address in [METADATA, AMAZON_DNS, Ipv4Addr::new(169, 254, 7, 7)] {
                    let reached = at(endpoint, || knock(address, 80).or(knock_udp(address, 80)));
                    assert_eq!(reached, None, "{address} from {}", endpoint.address);
                }
                let refused = at(endpoint, || refusal(METADATA));
                assert_ne!(
                    refused,
                    ErrorKind::TimedOut,
                    "programs hear at once that it is not there"
                );
                assert!(
                    at(endpoint, || knock(OUTSIDE, 80)).is_some(),
                    "the rest of the world is there"
                );
            }
        }
    });
}

/// Crafts packets as a container with its usual capabilities can, then knocks at the fence.
const CRAFT: &str = r#"
import socket, struct, sys
me, friend, gateway, metadata, outside, fence = sys.argv[1:6] + [int(sys.argv[6])]
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
def packet(source, target, options=b"", fragment=0, more=False):
    body = struct.pack("!HHHH", 4000, 80, 8 + 8, 0) + b"gotcha!!"
    length = 20 + len(options) + len(body)
    head = lambda total: struct.pack("!BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, length, 7, (0x2000 if more else 0) | fragment,
                                     64, 17, total, socket.inet_aton(source), socket.inet_aton(target)) + options
    return head(checksum(head(0))) + body
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def send(data, to):
    try:
        raw.sendto(data, (to, 0))
    except OSError as error:
        print("not sent:", error)
send(packet(me, metadata), metadata)
send(packet(friend, metadata), metadata)
send(packet("203.0.113.1", metadata), metadata)
send(packet("127.0.0.1", metadata), metadata)
send(packet(me, metadata, more=True), metadata)
send(packet(me, metadata, fragment=2), metadata)
# A loose source route: to the host first, and from there to the metadata service.
route = b"\x83\x07\x04" + socket.inet_aton(metadata) + b"\x00"
send(packet(me, gateway, options=route), gateway)
send(packet(me, "203.0.113.1", options=route), "203.0.113.1")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    udp.sendto(b"x" * 4000, (metadata, 80))
except OSError as error:
    print("not sent:", error)
udp.sendto(b"fence", (outside, fence))
"#;

#[test]
fn crafted_packets_do_not_get_around_it() {
    on_a_host(|world| {
        let network = world.open();
        inside(&world.outside, || run(&format!("ip addr add {METADATA}/32 dev lo")));
        // Some machines forward by the packet's own route.
        for link in ["all", "default", "wan"] {
            let setting = format!("/proc/sys/net/ipv4/conf/{link}/accept_source_route");
            std::fs::write(setting, "1").unwrap();
        }
        let script = world.dir.path().join("craft.py");
        std::fs::write(&script, CRAFT).unwrap();
        let trap = Trap::at(&world.outside, METADATA, 80);
        let fence = Trap::at(&world.outside, OUTSIDE, FENCE_PORT);
        for endpoint in &both(world, &network) {
            let link = run(&format!("ip route get {}", endpoint.address));
            let link = link.split_whitespace().nth(2).unwrap();
            let setting = format!("/proc/sys/net/ipv4/conf/{link}/accept_source_route");
            std::fs::write(setting, "1").unwrap();
            route_all(endpoint);
            let (me, gateway) = (endpoint.address, endpoint.gateway);
            let line = format!(
                "python3 {} {me} 172.31.0.99 {gateway} {METADATA} {OUTSIDE} {FENCE_PORT}",
                script.display()
            );
            at(endpoint, || run(&line));
            eventually("the fence is reached", || fence.heard());
            assert!(!trap.heard(), "from {me}");
        }
    });
}

#[test]
fn the_metadata_service_of_version_six_is_out_of_reach() {
    if !std::fs::exists("/proc/sys/net/ipv6").unwrap() {
        println!("skipped: this kernel has no IPv6");
        return;
    }
    on_a_host(|world| {
        let network = world.open();
        let metadata: std::net::Ipv6Addr = "fd00:ec2::254".parse().unwrap();
        run("ip addr add fd00:ec2::254/128 dev lo nodad");
        let trap = Trap::at(&this_host(), metadata, 80);
        let fence = Trap::at(&world.outside, OUTSIDE, FENCE_PORT);
        for endpoint in &both(world, &network) {
            let link = run(&format!("ip route get {}", endpoint.address));
            let link = link.split_whitespace().nth(2).unwrap();
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "0").unwrap();
            at(endpoint, || {
                let sent =
                    UdpSocket::bind("[::]:0").and_then(|it| it.send_to(b"x", (metadata, 80)));
                assert!(sent.is_err(), "there is no way by itself");
                std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0").unwrap();
                run("ip addr add fd00:77::5/64 dev eth0 nodad");
                run("ip route add fd00:ec2::/64 dev eth0");
                run("ip neigh add fd00:ec2::254 lladdr 02:4c:53:00:00:01 dev eth0");
                UdpSocket::bind("[fd00:77::5]:0").unwrap().send_to(b"x", (metadata, 80)).unwrap();
                let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                udp.send_to(b"fence", (OUTSIDE, FENCE_PORT)).unwrap();
            });
            eventually("the fence is reached", || fence.heard());
            assert!(!trap.heard(), "from {}", endpoint.address);
        }
    });
}

/// Sends what is for a loopback address to the host instead.
fn send_loopback_out(endpoint: &Attached) {
    run(&format!("ip route add 127.0.0.0/8 via {} dev eth0 table 7", endpoint.gateway));
    run("ip rule add pref 5 to 127.0.0.0/8 lookup 7");
    run("ip rule add pref 10 lookup local");
    run("ip rule del pref 0 lookup local");
}

#[test]
fn neither_the_hosts_loopback_nor_a_neighbours_is_reached() {
    on_a_host(|world| {
        let network = world.open();
        let endpoints = both(world, &network);
        // A published port lets loopback addresses in on the link, for the host's own connections.
        let request = PortMapping {
            container_port: 80,
            host_port: 8080,
            protocol: Protocol::Udp,
            follows: false,
        };
        world.runtime.block_on(network.publish(&id("bridged"), &[request])).unwrap();
        let of_host = Trap::at(&this_host(), Ipv4Addr::LOCALHOST, 5555);
        let published =
            Trap::at(&File::open(&endpoints[1].netns).unwrap(), Ipv4Addr::UNSPECIFIED, 80);
        let of_others = endpoints
            .iter()
            .map(|other| Trap::at(&File::open(&other.netns).unwrap(), Ipv4Addr::LOCALHOST, 5555));
        let of_others: Vec<_> = of_others.collect();
        let fence = Trap::at(&world.outside, OUTSIDE, FENCE_PORT);
        for endpoint in &endpoints {
            at(endpoint, || {
                send_loopback_out(endpoint);
                let udp = UdpSocket::bind((endpoint.address, 0)).unwrap();
                for port in [5555, 8080] {
                    udp.send_to(b"x", (Ipv4Addr::LOCALHOST, port)).unwrap();
                }
                udp.send_to(b"fence", (OUTSIDE, FENCE_PORT)).unwrap();
            });
            eventually("the fence is reached", || fence.heard());
            assert!(!of_host.heard() && !published.heard(), "from {}", endpoint.address);
            assert!(of_others.iter().all(|trap| !trap.heard()), "from {}", endpoint.address);
        }
    });
}

#[test]
fn what_listens_on_the_host_is_not_for_endpoints() {
    on_a_host(|world| {
        let network = world.open();
        serve(&this_host(), 4566);
        let addresses = [network.host_address(), crate::world::HOST_OUTSIDE, Ipv4Addr::LOCALHOST];
        for endpoint in &both(world, &network) {
            for address in addresses {
                let reached = at(endpoint, || knock(address, 4566).or(knock_udp(address, 4566)));
                assert_eq!(reached, None, "{address} from {}", endpoint.address);
            }
        }
    });
}

#[test]
fn what_is_shut_can_be_opened_by_name() {
    on_a_host(|world| {
        let open = |change: fn(&mut network::NetworkConfig)| {
            let mut config = world.config("0a0b0c0d", "172.31.0.0/16");
            change(&mut config);
            world.runtime.block_on(Network::open(config)).unwrap()
        };
        make_metadata(world);
        serve(&this_host(), 4566);
        let network = open(|config| config.is_link_local_open = true);
        let endpoints = both(world, &network);
        for endpoint in &endpoints {
            for address in [METADATA, Ipv4Addr::new(169, 254, 7, 7)] {
                assert!(at(endpoint, || knock(address, 80)).is_some(), "{address}");
            }
            assert_eq!(at(endpoint, || knock(network.host_address(), 4566)), None);
        }
        drop(network);
        // What was attached before is judged by what is said now.
        let network = open(|config| config.is_host_open = true);
        let [task, bridged] = &endpoints;
        for endpoint in &endpoints {
            assert_eq!(at(endpoint, || knock(METADATA, 80)), None);
        }
        for address in [network.host_address(), crate::world::HOST_OUTSIDE] {
            assert_eq!(at(task, || knock(address, 4566)), None, "it has an address of its own");
            assert!(at(bridged, || knock(address, 4566)).is_some());
        }
        assert_eq!(at(bridged, || knock(Ipv4Addr::LOCALHOST, 4566)), None);
    });
}

/// A control group of version 2 and one below it, which goes with the test.
struct Group(PathBuf);

impl Group {
    /// `None` where version 2 is not mounted.
    fn make() -> Option<Self> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table.lines().find(|line| line.contains(" - cgroup2 "))?;
        let name = format!("longshore-test-{}", std::process::id());
        let dir = Path::new(line.split(' ').nth(4)?).join(name);
        std::fs::create_dir_all(dir.join("task")).unwrap();
        Some(Self(dir))
    }

    fn number(&self) -> ControlGroup {
        ControlGroup { level: 1, id: std::fs::metadata(&self.0).unwrap().ino() }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in [self.0.join("task"), self.0.clone()] {
            eventually("the control group is empty", || {
                std::fs::remove_dir(&dir).is_ok() || !dir.exists()
            });
        }
    }
}

/// Joins the control group that is named first, if any, and says whom it reaches.
const KNOCK: &str = r#"
import socket, struct, sys
group, has_v6 = sys.argv[1], sys.argv[2] == "6"
if group:
    open(group + "/cgroup.procs", "w").write("0")
def attempt(name, work):
    try:
        print(name, work())
    except OSError:
        print(name, "no")
def tcp(address, port=80):
    with socket.create_connection((address, port), 1.2) as stream:
        return "yes" if stream.recv(1) else "no"
def udp(address, port=80, say=b"x", family=socket.AF_INET, patience=1.2):
    with socket.socket(family, socket.SOCK_DGRAM) as it:
        it.settimeout(patience)
        it.connect((address, port))
        it.send(say)
        return "yes" if it.recv(512) else "no"
def raw(address):
    data = b"\x45\0" + struct.pack("!H", 28 + 4) + b"\0\1\0\0\x40\x11\0\0" + socket.inet_aton("203.0.113.1")
    data += socket.inet_aton(address) + struct.pack("!HHHH", 4000, 81, 8 + 4, 0) + b"raw!"
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as it:
        it.sendto(data, (address, 0))
    return "sent"
def by_a_way(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
        it.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x83\x07\x04" + socket.inet_aton(address) + b"\0")
        it.sendto(b"way!", ("203.0.113.2", 82))
    return "sent"
metadata = "169.254.169.254"
attempt("tcp", lambda: tcp(metadata))
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"udp!", (metadata, 84)))
attempt("own", lambda: tcp("169.254.7.7"))
attempt("outside", lambda: tcp("203.0.113.2"))
attempt("loopback", lambda: tcp("127.0.0.1"))
attempt("raw", lambda: raw(metadata))
attempt("way", lambda: by_a_way(metadata))
query = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\5local\4test\0" + struct.pack("!HH", 1, 1)
attempt("dns", lambda: udp(metadata, 53, query, patience=20))
if has_v6:
    attempt("six", lambda: udp("fd00:ec2::254", 80, b"x", socket.AF_INET6))
udp_out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp_out.sendto(b"fence", ("203.0.113.2", 83))
"#;

/// Whom the script reached, from the control group or as anybody.
fn reached(world: &World, group: Option<&Group>, has_v6: bool) -> Vec<String> {
    let script = world.dir.path().join("knock.py");
    std::fs::write(&script, KNOCK).unwrap();
    let group = group.map(|group| group.0.join("task").display().to_string()).unwrap_or_default();
    let output = Command::new("python3")
        .arg(&script)
        .args([group.as_str(), if has_v6 { "6" } else { "" }])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let answered = said.lines().filter_map(|line| line.strip_suffix(" yes"));
    answered.map(str::to_owned).collect()
}

#[test]
fn a_task_in_the_hosts_network_is_kept_from_link_local_addresses_and_nobody_else_is() {
    on_a_host(|world| {
        let Some(group) = Group::make() else {
            println!("skipped: control groups of version 2 are not mounted");
            return;
        };
        let has_v6 = std::fs::exists("/proc/sys/net/ipv6").unwrap();
        if has_v6 {
            run("ip addr add fd00:ec2::254/128 dev lo nodad");
            let there: std::net::Ipv6Addr = "fd00:ec2::254".parse().unwrap();
            let socket = UdpSocket::bind((there, 80)).unwrap();
            std::thread::spawn(move || {
                while let Ok((_, from)) = socket.recv_from(&mut [0; 16]) {
                    drop(socket.send_to(b"here", from));
                }
            });
        }
        make_metadata(world);
        // Ours answers every question that it cannot pass on, too.
        std::fs::write(world.dir.path().join("resolv.conf"), "").unwrap();
        let udp = Trap::at(&world.outside, METADATA, 84);
        let raw = Trap::at(&world.outside, METADATA, 81);
        let way = Trap::at(&world.outside, OUTSIDE, 82);
        let fence = Trap::at(&world.outside, OUTSIDE, 83);
        let open = |is_link_local_open| {
            let mut config = world.config("0a0b0c0d", "172.31.0.0/16");
            config.tasks = Some(group.number());
            config.is_link_local_open = is_link_local_open;
            world.runtime.block_on(Network::open(config)).unwrap()
        };
        let six = has_v6.then_some("six");
        let all = || ["tcp", "own", "outside", "loopback"].into_iter().chain(six);

        let network = open(false);
        assert_eq!(reached(world, Some(&group), has_v6), ["outside", "loopback", "dns"]);
        eventually("the fence is reached", || fence.heard());
        assert!(!udp.heard(), "by datagrams");
        assert!(!raw.heard() && !way.heard(), "by packets of its own making");
        assert_eq!(reached(world, None, has_v6), Vec::from_iter(all()), "the host's own processes");
        eventually("the fence is reached", || fence.heard());
        assert!(udp.heard() && raw.heard(), "so that they could be seen above");
        drop(network);

        let network = open(true);
        assert_eq!(reached(world, Some(&group), has_v6), Vec::from_iter(all()), "opened by name");
        drop(network);
    });
}
