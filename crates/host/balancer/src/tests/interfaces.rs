//! Listeners and targets in the namespace of an interface. Needs root.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use routing::introduction::{HEAD_LEN, Introduction, rest_len};
use routing::{Endpoint, EndpointId, Interface, InterfaceRef, Scheme, Table};

use super::world::*;
use crate::live::Snapshot;
use crate::{Doors, Interfaces, RegionDoor};

/// The one network that all interfaces are in.
#[derive(Debug)]
pub(super) struct One(pub(super) PathBuf);

impl Interfaces for One {
    fn lead_egress(&self) -> std::io::Result<std::net::SocketAddr> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn lead_ingress(
        &self,
        _: std::net::SocketAddr,
        _: std::net::SocketAddr,
    ) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn namespace(&self, _: &InterfaceRef) -> PathBuf {
        self.0.clone()
    }
}

pub(super) fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> T {
    let there = || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(there).join().unwrap())
}

/// A fresh namespace at the interface's place, with a target in it that answers `body`.
pub(super) fn appear(place: &PathBuf, body: &'static str) -> File {
    let fresh = thread::scope(|scope| {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.unwrap().success());
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        scope.spawn(make).join().unwrap()
    });
    File::create(place).unwrap();
    let source = format!("/proc/{}/fd/{}", std::process::id(), fresh.as_raw_fd());
    mount(Some(source.as_str()), place, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    inside(&fresh, || {
        let listener = TcpListener::bind("127.0.0.1:8081").unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                drop(stream.read(&mut [0; 1024]));
                let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: ";
                drop(write!(stream, "{head}{}\r\n\r\n{body}", body.len()));
            }
        });
    });
    fresh
}

/// What the balancer answers in the namespace, once it listens there.
fn ask(namespace: &File) -> String {
    inside(namespace, || {
        for _ in 0..400 {
            if let Ok(mut stream) = TcpStream::connect("127.0.0.1:8080") {
                stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    .unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                return answer;
            }
            thread::sleep(Duration::from_millis(25));
        }
        panic!("nobody listens there");
    })
}

/// A connection to an interface's port 8080 from within its network, once it is listened at.
pub(super) async fn come_to(namespace: &File, address: &str) -> tokio::net::TcpStream {
    let stream = inside(namespace, || {
        for _ in 0..400 {
            if let Ok(stream) = TcpStream::connect((address, 8080)) {
                return stream;
            }
            thread::sleep(Duration::from_millis(25));
        }
        panic!("nobody listens there");
    });
    stream.set_nonblocking(true).unwrap();
    tokio::net::TcpStream::from_std(stream).unwrap()
}

pub(super) fn interface(number: u8, zone: &str) -> Interface {
    Interface {
        eni: format!("eni-0000000{number}"),
        own_vpc: None,
        address: [127, 0, 0, number].into(),
        subnet: format!("subnet-0000000{number}"),
        zone: zone.to_owned(),
        is_leaving: false,
    }
}

/// A table whose balancer is reached at interfaces alone.
pub(super) fn at_interfaces(table: &mut Table, interfaces: Vec<Interface>) {
    let balancer = balancer(table);
    balancer.scheme = Scheme::Internal;
    balancer.interfaces = interfaces;
    balancer.listeners[0].port = 8080;
}

fn behind_an_interface() -> Table {
    let mut table = table(&["127.0.0.1:8081".parse().unwrap()]);
    let interface = interface(1, "eu-north-1a");
    group_of(&mut table).targets[0].by = Some(interface.reference());
    at_interfaces(&mut table, vec![interface]);
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_is_listened_at_where_it_is_and_again_where_it_was_made_anew() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root to make network namespaces");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("interface");
    let world = World::on(behind_an_interface(), Arc::new(One(place.clone()))).await;
    let first = appear(&place, "first");
    assert!(ask(&first).ends_with("first"));
    umount2(&place, MntFlags::MNT_DETACH).unwrap();
    let second = appear(&place, "second");
    world.change(|_| {}).await;
    assert!(ask(&second).ends_with("second"));
    world.end().await;
    umount2(&place, MntFlags::MNT_DETACH).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_came_to_an_interface_that_is_about_to_go_is_told_so_and_it_is_said_who_is_there() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root to make network namespaces");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("interface");
    let world = World::on(behind_an_interface(), Arc::new(One(place.clone()))).await;
    let there = appear(&place, "body");
    ask(&there);
    let mut kept = inside(&there, || TcpStream::connect("127.0.0.1:8080").unwrap());
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    kept.write_all(request).unwrap();
    let mut answer = [0; 1024];
    let size = kept.read(&mut answer).unwrap();
    let head = String::from_utf8_lossy(&answer[..size]).to_ascii_lowercase();
    assert!(!head.contains("connection: close"), "{head}");
    world.change(|table| balancer(table).interfaces[0].is_leaving = true).await;
    world.reported("somebody is there", |report| report.busy.len() == 1).await;
    kept.write_all(request).unwrap();
    let mut answer = String::new();
    kept.read_to_string(&mut answer).unwrap();
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    assert!(ask(&there).ends_with("body"), "who knows it from before is served");
    world.change(|_| {}).await;
    world.reported("nobody is there", |report| report.busy.is_empty()).await;
    world.end().await;
    umount2(&place, MntFlags::MNT_DETACH).unwrap();
}

#[tokio::test]
async fn whoever_is_told_of_targets_is_told_who_is_at_interfaces_that_leave() {
    let shared = super::shared();
    let mut table = behind_an_interface();
    balancer(&mut table).interfaces.push(interface(2, "eu-north-1b"));
    balancer(&mut table).interfaces[0].is_leaving = true;
    let before = Snapshot::default();
    let snapshot = Snapshot::new(&table, &before, &shared);
    let busy = || snapshot.report("", &shared.at_interfaces).busy;
    let stays = shared.at_interfaces.go_on("eni-00000002");
    assert_eq!(busy(), []);
    let leaves = shared.at_interfaces.go_on("eni-00000001");
    assert_eq!(busy(), [balancer(&mut table).interfaces[0].reference()]);
    drop((stays, leaves));
    assert_eq!(busy(), []);
}

#[tokio::test]
async fn nothing_is_told_each_time_that_an_interface_is_looked_for_in_vain() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = Arc::new(One(dir.path().join("interface")));
    let world = World::on(behind_an_interface(), nowhere).await;
    world.reported("the table", |it| it.serving.is_empty()).await;
    let mut reads = world.region.reads.subscribe();
    let asked = *reads.wait_for(|reads| 50 <= *reads).await.unwrap();
    let told = world.region.reports.load(SeqCst);
    assert!(told < asked / 2, "{told} reports in {asked} looks");
    world.end().await;
}

#[tokio::test]
async fn an_interface_at_which_nothing_is_listened_is_served_once_it_is_here() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("interface");
    let mut table = behind_an_interface();
    balancer(&mut table).listeners.clear();
    let version = table.version;
    let world = World::on(table, Arc::new(One(place.clone()))).await;
    world.reported("the table", |it| it.version == version && it.serving.is_empty()).await;
    std::fs::write(&place, "").unwrap();
    world.reported("the interface", |it| it.serving.len() == 1).await;
    world.end().await;
}

#[derive(Debug)]
struct Known(RegionDoor);

impl Doors for Known {
    fn region(&self) -> Option<RegionDoor> {
        Some(self.0.clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_to_an_endpoints_interface_goes_on_to_the_region_and_is_introduced() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root to make network namespaces");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("interface");
    let region = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = RegionDoor { address: region.local_addr().unwrap(), token: [7; 32] };
    let mut table = behind_an_interface();
    let interfaces = std::mem::take(&mut balancer(&mut table).interfaces);
    let id = EndpointId("vpce-0123456789abcdef0".to_owned());
    let endpoint = Endpoint { account: "000000000000".to_owned(), interfaces };
    table.endpoints.insert(id.clone(), endpoint);
    let (one, known) = (Arc::new(One(place.clone())), Arc::new(Known(door.clone())));
    let world = World::beside(table, one, known).await;
    let there = appear(&place, "nothing");
    let answering = thread::spawn(move || {
        let (mut stream, _) = region.accept().unwrap();
        let mut head = [0; HEAD_LEN];
        stream.read_exact(&mut head).unwrap();
        let mut rest = vec![0; rest_len(&head).unwrap()];
        stream.read_exact(&mut rest).unwrap();
        let mut asked = [0; 5];
        stream.read_exact(&mut asked).unwrap();
        stream.write_all(b"world").unwrap();
        (Introduction::decode(&rest, &door.token).unwrap(), asked)
    });
    let (client, answer) = inside(&there, || {
        for _ in 0..400 {
            if let Ok(mut stream) = TcpStream::connect("127.0.0.1:443") {
                stream.write_all(b"hello").unwrap();
                let mut answer = [0; 5];
                stream.read_exact(&mut answer).unwrap();
                return (stream.local_addr().unwrap(), answer);
            }
            thread::sleep(Duration::from_millis(25));
        }
        panic!("nobody listens there");
    });
    let (introduced, asked) = answering.join().unwrap();
    assert_eq!((&asked, &answer), (b"hello", b"world"));
    assert_eq!((introduced.endpoint, introduced.client.into()), (id, client));
    assert_eq!(introduced.interface, "127.0.0.1:443".parse().unwrap());
    world.end().await;
    umount2(&place, MntFlags::MNT_DETACH).unwrap();
}
